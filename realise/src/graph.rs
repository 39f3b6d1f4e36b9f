//! The graph of what must be done: which derivations, in which order.
//!
//! A node keeps the derivation's path, those of its outputs and its edges, not the derivation: whoever
//! builds a node reads its derivation again. There may be hundreds of thousands, so that nodes are
//! numbers, and what they have lies in a few lists of the graph. How it is found is `plan`'s business.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ampoule_store::{Derivation, PathList, Store, StoreError, StorePath};
use hashbrown::HashTable;

use crate::builtin::Wanted as WantedFetch;
use crate::error::{Failure, FailureKind};
use crate::substitute::{Offer, Offers};

/// Where derivations come from: the store, or the memory of whoever has just evaluated them.
pub trait DerivationSource: Sync {
    /// Returns the derivation at `path`.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    fn derivation(&self, path: &StorePath) -> Result<Arc<Derivation>, StoreError>;
}

impl DerivationSource for Store {
    fn derivation(&self, path: &StorePath) -> Result<Arc<Derivation>, StoreError> {
        self.read_derivation(path).map(Arc::new)
    }
}

/// A derivation of which some outputs are wanted; no names mean all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The derivation.
    pub drv: StorePath,
    /// Names of outputs.
    pub outputs: BTreeSet<String>,
}

/// How a node gets its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Not looked at yet.
    Unseen,
    /// They are there.
    Valid,
    /// It is no derivation but an object, and a binary cache has it.
    Substitute,
    /// Its outputs are objects that binary caches have: nodes of their own, its inputs.
    Gather,
    /// A builder of our own asks the network.
    Fetch,
    /// A builder of our own, or a program in a sandbox, makes them.
    Build,
}

/// Outputs of a node, a bit each, in the order of their names.
pub(crate) type Mask = u64;

/// An output of a node: numbers, since there is one at least for each node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Among the names.
    name: u32,
    /// Among the paths; [`UNKNOWN`] where contents decide and nobody knows yet.
    path: u32,
    /// Whether contents decide.
    pub(crate) is_late: bool,
}

const UNKNOWN: u32 = u32::MAX;

/// A derivation, or an object that comes from a cache. All but a few words lies in the graph's own lists.
#[derive(Debug)]
pub(crate) struct Node {
    /// Outputs that somebody wants.
    pub(crate) wanted: Mask,
    /// Its own path, among the paths.
    path: u32,
    /// Where its outputs are, and how many.
    outputs: Span,
    /// Where the nodes are whose outputs must be there before, and how many.
    inputs: Span,
    pub(crate) way: Way,
    /// Whether it is going to be looked at for its output `out` already.
    is_asked_for_out: bool,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// What was added to a list of which this was the length before.
    fn since(before: usize, now: usize) -> Self {
        let start = u32::try_from(before).expect("fewer than four milliards of edges and of outputs");
        Self { start, len: (now - before) as u32 }
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// The bits of `mask`, as indices of the first `len` outputs.
fn indices_of(mask: Mask, len: usize) -> impl Iterator<Item = usize> {
    (0..len).filter(move |at| mask & bit(*at) != 0)
}

/// Outputs beyond the 63rd share a bit: they are wanted together.
pub(crate) fn bit(index: usize) -> Mask {
    1 << index.min(63)
}

/// What must be done.
///
/// A node takes 29 bytes, an output 12, an edge 4, and a path 5 more than its text.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    paths: PathList,
    outputs: Vec<Output>,
    inputs: Vec<u32>,
    /// Names of outputs, each once: there are few.
    names: Vec<Arc<str>>,
    name_numbers: BTreeMap<Arc<str>, u32>,
    /// Nodes by the paths of their derivations.
    by_drv: HashTable<u32>,
    /// The same for objects that come from caches.
    by_object: HashTable<u32>,
    /// What nodes ask the network for.
    fetches: HashMap<u32, WantedFetch>,
    /// What caches have of them.
    offers: BTreeMap<u32, Arc<Offer>>,
}

impl Graph {
    pub(crate) fn index_of(&self, drv: &StorePath) -> Option<u32> {
        self.find(&self.by_drv, drv)
    }

    fn find(&self, table: &HashTable<u32>, path: &StorePath) -> Option<u32> {
        table.find(PathList::hash_of(path.as_str()), |&node| self.text_of(node) == path.as_str()).copied()
    }

    fn text_of(&self, node: u32) -> &str {
        self.paths.text(self.nodes[node as usize].path)
    }

    /// The derivation; or the object, if it comes from a cache.
    pub(crate) fn drv(&self, node: u32) -> StorePath {
        self.paths.get(self.nodes[node as usize].path)
    }

    /// The nodes whose outputs must be there before.
    pub(crate) fn inputs(&self, node: u32) -> &[u32] {
        &self.inputs[self.nodes[node as usize].inputs.range()]
    }

    pub(crate) fn outputs(&self, node: u32) -> &[Output] {
        &self.outputs[self.nodes[node as usize].outputs.range()]
    }

    /// The name of an output.
    pub(crate) fn name(&self, output: &Output) -> &Arc<str> {
        &self.names[output.name as usize]
    }

    /// The path of an output: known beforehand, unless contents decide; then if it is there already, or offered.
    pub(crate) fn path(&self, output: &Output) -> Option<StorePath> {
        (output.path != UNKNOWN).then(|| self.paths.get(output.path))
    }

    /// What caches have of a node.
    pub(crate) fn offer(&self, node: u32) -> Option<&Arc<Offer>> {
        self.offers.get(&node)
    }

    /// All that caches offer, in the order of the nodes.
    pub(crate) fn offers(&self) -> impl Iterator<Item = &Arc<Offer>> {
        self.offers.values()
    }

    /// What a node asks the network for.
    pub(crate) fn fetch(&self, node: u32) -> Option<&WantedFetch> {
        self.fetches.get(&node)
    }

    /// How a node gets its outputs.
    pub(crate) fn way(&self, node: u32) -> Way {
        self.nodes[node as usize].way
    }

    pub(crate) fn set_way(&mut self, node: u32, way: Way) {
        self.nodes[node as usize].way = way;
    }

    pub(crate) fn set_fetch(&mut self, node: u32, fetch: Option<WantedFetch>) {
        self.fetches.extend(fetch.map(|fetch| (node, fetch)));
    }

    /// Notes that outputs of a node are wanted; returns those that were not before.
    pub(crate) fn want(&mut self, node: u32, mask: Mask) -> Mask {
        let wanted = &mut self.nodes[node as usize].wanted;
        let fresh = mask & !*wanted;
        *wanted |= mask;
        fresh
    }

    /// Whether something about a node might be found out by wanting these outputs of it. Asked once for each
    /// time that they are needed, and remembered: there may be many more edges than nodes.
    pub(crate) fn is_worth_asking(&mut self, node: u32, names: &BTreeSet<String>) -> bool {
        let wanted = match self.way(node) {
            Way::Unseen => {
                let is_out = names.len() == 1 && names.contains("out");
                let known = &mut self.nodes[node as usize].is_asked_for_out;
                return !(is_out && std::mem::replace(known, true));
            }
            _ => self.nodes[node as usize].wanted,
        };
        !self.mask_of(node, names).is_ok_and(|mask| mask & !wanted == 0)
    }

    /// The paths of these outputs, as far as they are known.
    pub(crate) fn paths_in(&self, node: u32, mask: Mask) -> impl Iterator<Item = StorePath> {
        let outputs = self.outputs(node);
        indices_of(mask, outputs.len()).filter_map(|at| self.path(&outputs[at]))
    }

    /// The paths of wanted outputs, as far as they are known.
    pub(crate) fn known_paths(&self, node: u32) -> impl Iterator<Item = StorePath> {
        self.paths_in(node, self.nodes[node as usize].wanted)
    }

    /// Those of these outputs, by index, of which nothing is known.
    pub(crate) fn late_in(&self, node: u32, mask: Mask) -> impl Iterator<Item = usize> {
        let outputs = self.outputs(node);
        indices_of(mask, outputs.len()).filter(|at| outputs[*at].path == UNKNOWN)
    }

    /// The outputs that are called so; no names mean all.
    pub(crate) fn mask_of(&self, node: u32, names: &BTreeSet<String>) -> Result<Mask, Failure> {
        let outputs = self.outputs(node);
        if names.is_empty() {
            return Ok((0..outputs.len()).fold(0, |mask, at| mask | bit(at)));
        }
        let mut mask = 0;
        for name in names {
            let at = outputs.iter().position(|output| **self.name(output) == **name).ok_or_else(|| {
                let text = format!("has no output `{name}`");
                Failure::new(FailureKind::Build, text).of(&self.drv(node))
            })?;
            mask |= bit(at);
        }
        Ok(mask)
    }

    fn push_node(&mut self, path: &StorePath, way: Way) -> u32 {
        let index = u32::try_from(self.nodes.len()).expect("fewer than four milliards of derivations");
        self.nodes.push(Node {
            wanted: 0,
            path: self.paths.push(path),
            outputs: Span::default(),
            inputs: Span::default(),
            way,
            is_asked_for_out: false,
        });
        index
    }

    /// The node of a derivation.
    pub(crate) fn intern(&mut self, drv: &StorePath) -> u32 {
        if let Some(index) = self.index_of(drv) {
            return index;
        }
        let index = self.push_node(drv, Way::Unseen);
        let Self { nodes, paths, by_drv, .. } = self;
        let hash_of_node = |&node: &u32| PathList::hash_of(paths.text(nodes[node as usize].path));
        by_drv.insert_unique(PathList::hash_of(drv.as_str()), index, hash_of_node);
        index
    }

    fn intern_name(&mut self, name: &str) -> u32 {
        // Nearly always `out`, or what the first that had others had.
        if let Some(known) = self.names.iter().take(2).position(|known| **known == *name) {
            return known as u32;
        }
        if let Some(known) = self.name_numbers.get(name) {
            return *known;
        }
        let (number, name) = (self.names.len() as u32, Arc::<str>::from(name));
        self.names.push(Arc::clone(&name));
        self.name_numbers.insert(name, number);
        number
    }

    /// Notes what a derivation makes.
    pub(crate) fn set_outputs(&mut self, node: u32, derivation: &Derivation) {
        let before = self.outputs.len();
        for (name, output) in &derivation.outputs {
            let name = self.intern_name(name);
            let path = output.path().map_or(UNKNOWN, |path| self.paths.push(path));
            self.outputs.push(Output { name, path, is_late: path == UNKNOWN });
        }
        self.nodes[node as usize].outputs = Span::since(before, self.outputs.len());
    }

    /// Notes what a late output is.
    pub(crate) fn set_path(&mut self, node: u32, at: usize, path: &StorePath) {
        let number = self.paths.push(path);
        let outputs = self.nodes[node as usize].outputs.range();
        self.outputs[outputs][at].path = number;
    }

    pub(crate) fn set_inputs(&mut self, node: u32, inputs: impl IntoIterator<Item = u32>) {
        let before = self.inputs.len();
        self.inputs.extend(inputs);
        self.nodes[node as usize].inputs = Span::since(before, self.inputs.len());
    }

    /// Makes nodes for what the caches have of a node's outputs, and for all that these refer to; false if they
    /// have not got all.
    pub(crate) fn gather(&mut self, offers: &Offers, node: u32, mask: Mask) -> bool {
        let wanted: Vec<StorePath> = self.paths_in(node, mask).collect();
        if !wanted.iter().all(|path| offers.has(path)) {
            return false;
        }
        let mut inputs = self.inputs(node).to_vec();
        let mut to_do: Vec<u32> = Vec::new();
        for path in &wanted {
            inputs.extend(self.intern_object(offers, path, &mut to_do));
        }
        while let Some(object) = to_do.pop() {
            let offer = Arc::clone(&self.offers[&object]);
            let references: Vec<u32> =
                offer.references().filter_map(|path| self.intern_object(offers, path, &mut to_do)).collect();
            self.set_inputs(object, references);
        }
        self.set_inputs(node, inputs);
        self.nodes[node as usize].way = Way::Gather;
        true
    }

    /// The node of an object that comes from a cache; none if it is there. A new one goes to `to_do`.
    fn intern_object(&mut self, offers: &Offers, path: &StorePath, to_do: &mut Vec<u32>) -> Option<u32> {
        if let Some(known) = self.find(&self.by_object, path) {
            return Some(known);
        }
        let offer = Arc::clone(offers.get(path)?);
        let object = self.push_node(path, Way::Substitute);
        self.offers.insert(object, offer);
        let Self { nodes, paths, by_object, .. } = self;
        let hash_of_node = |&node: &u32| PathList::hash_of(paths.text(nodes[node as usize].path));
        by_object.insert_unique(PathList::hash_of(path.as_str()), object, hash_of_node);
        to_do.push(object);
        Some(object)
    }
}
