//! The graph of what must be done: which derivations, in which order.
//!
//! Found from the top down, level by level, and no deeper than needed: what is valid is not looked
//! into. A node keeps the derivation's name, its outputs and its edges, not the derivation: a graph of
//! 100,000 nodes fits into a few tens of megabytes, and whoever builds a node reads its derivation
//! again. A level may be all of the graph, so it is looked at in batches, too.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use ampoule_store::{Derivation, DrvOutput, OutputNames, Store, StoreError, StorePath};

use crate::builders::Builders;
use crate::builtin::{Attributes, Wanted as WantedFetch};
use crate::error::{Failure, FailureKind};
use crate::options::Options;
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

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) name: Arc<str>,
    /// Known beforehand, unless contents decide; then set if it is there already, or offered.
    pub(crate) path: Option<StorePath>,
    /// Whether contents decide.
    pub(crate) is_late: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// The derivation; or the object, if it comes from a cache.
    pub(crate) drv: StorePath,
    pub(crate) way: Way,
    pub(crate) outputs: Box<[Output]>,
    /// Outputs that somebody wants.
    pub(crate) wanted: Mask,
    /// Nodes whose outputs must be there before.
    pub(crate) inputs: Box<[u32]>,
    /// What it asks the network for.
    pub(crate) fetches: Option<Box<WantedFetch>>,
    /// What a cache has of it.
    pub(crate) offer: Option<Arc<Offer>>,
}

impl Node {
    fn new(drv: &StorePath) -> Self {
        Self {
            drv: drv.clone(),
            way: Way::Unseen,
            outputs: Box::default(),
            wanted: 0,
            inputs: Box::default(),
            fetches: None,
            offer: None,
        }
    }

    /// All of its outputs.
    pub(crate) fn all(&self) -> Mask {
        (0..self.outputs.len()).fold(0, |mask, at| mask | bit(at))
    }

    /// The paths of these outputs, as far as they are known.
    fn paths_in(&self, mask: Mask) -> impl Iterator<Item = &StorePath> {
        let outputs = self.outputs.iter().enumerate().filter(move |(at, _)| mask & bit(*at) != 0);
        outputs.filter_map(|(_, output)| output.path.as_ref())
    }

    /// The paths of wanted outputs, as far as they are known.
    pub(crate) fn known_paths(&self) -> impl Iterator<Item = &StorePath> {
        self.paths_in(self.wanted)
    }

    /// Those of them, by index, of which nothing is known.
    fn late_in(&self, mask: Mask) -> impl Iterator<Item = usize> {
        let outputs = self.outputs.iter().enumerate().filter(move |(at, _)| mask & bit(*at) != 0);
        outputs.filter(|(_, output)| output.path.is_none()).map(|(at, _)| at)
    }

    fn mask_of(&self, names: &BTreeSet<String>) -> Result<Mask, Failure> {
        let mut mask = 0;
        for name in names {
            let at = self.outputs.iter().position(|output| *output.name == **name).ok_or_else(|| {
                let text = format!("has no output `{name}`");
                Failure::new(FailureKind::Build, text).of(&self.drv)
            })?;
            mask |= bit(at);
        }
        Ok(mask)
    }
}

/// Outputs beyond the 63rd share a bit: they are wanted together.
pub(crate) fn bit(index: usize) -> Mask {
    1 << index.min(63)
}

/// What must be done.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    by_drv: HashMap<StorePath, u32>,
    /// Objects that come from caches.
    by_object: HashMap<StorePath, u32>,
    /// Names of outputs, each once: there are few.
    names: BTreeSet<Arc<str>>,
}

/// Nodes to look at, and which of their outputs are wanted.
type Level = Vec<(u32, OutputNames)>;

/// How many derivations are in memory at once while planning.
const BATCH: usize = 256;
/// The same where binary caches are asked: what they offer is looked through after each batch.
const ASKED_BATCH: usize = 4096;

/// What the search needs.
pub(crate) struct Planner<'a> {
    pub(crate) store: &'a Store,
    pub(crate) source: &'a dyn DerivationSource,
    pub(crate) builders: &'a Builders,
    pub(crate) options: &'a Options,
}

impl Graph {
    pub(crate) fn index_of(&self, drv: &StorePath) -> Option<u32> {
        self.by_drv.get(drv).copied()
    }

    /// Finds what must be done for `wanted`.
    ///
    /// # Errors
    /// All that can be said to be wrong before anything is built.
    pub(crate) fn plan(
        planner: &Planner,
        offers: &mut Offers,
        wanted: &[Wanted],
    ) -> Result<Self, Vec<Failure>> {
        let mut graph = Self::default();
        let mut failures = Vec::new();
        let mut level: Level =
            wanted.iter().map(|w| (graph.intern(&w.drv), w.outputs.clone().into())).collect();
        let mut is_top = true;
        while !level.is_empty() {
            let mut next = Level::new();
            for batch in level.chunks(if offers.is_empty() { BATCH } else { ASKED_BATCH }) {
                graph.plan_batch(planner, offers, batch, is_top, &mut next, &mut failures);
                if failures.iter().any(|failure| failure.kind == FailureKind::Store) {
                    return Err(failures);
                }
            }
            level = next;
            is_top = false;
        }
        graph.nodes.shrink_to_fit();
        if failures.is_empty() { Ok(graph) } else { Err(failures) }
    }

    /// Looks at these, and adds what they need to `next`.
    fn plan_batch(
        &mut self,
        planner: &Planner,
        offers: &mut Offers,
        batch: &[(u32, OutputNames)],
        is_top: bool,
        next: &mut Level,
        failures: &mut Vec<Failure>,
    ) {
        // Which nodes have outputs that are wanted for the first time, and their derivations.
        let mut fresh: HashMap<u32, (Arc<Derivation>, Mask)> = HashMap::new();
        let mut order = Vec::new();
        for (index, names) in batch {
            match self.want(planner, *index, names) {
                Ok(Some((derivation, mask))) => {
                    let known = fresh.entry(*index).or_insert_with(|| {
                        order.push(*index);
                        (derivation, 0)
                    });
                    known.1 |= mask;
                }
                Ok(None) => {}
                Err(failure) => failures.push(failure),
            }
        }
        if let Err(error) = self.lease(planner.store, &order) {
            failures.push(error.into());
            return;
        }
        let force = is_top && planner.options.check;
        if !offers.is_empty()
            && !force
            && let Err(failure) = self.ask(planner, offers, &order, &fresh)
        {
            failures.push(failure);
            return;
        }
        for index in order {
            let (derivation, mask) = &fresh[&index];
            match self.decide(planner, offers, index, derivation, *mask, force) {
                Ok(true) => {
                    let inputs = derivation.input_derivations.iter();
                    let inputs: Vec<u32> = inputs
                        .map(|(drv, names)| {
                            let input = self.intern(drv);
                            if self.may_want(input, names) {
                                next.push((input, names.clone()));
                            }
                            input
                        })
                        .collect();
                    self.nodes[index as usize].inputs = inputs.into();
                }
                Ok(false) => {}
                Err(failure) => failures.push(failure.of(&self.nodes[index as usize].drv)),
            }
        }
    }

    /// Whether something about a node might be found out by wanting these outputs of it.
    fn may_want(&self, index: u32, names: &BTreeSet<String>) -> bool {
        let node = &self.nodes[index as usize];
        let is_known = node.way != Way::Unseen && !names.is_empty();
        !(is_known && node.mask_of(names).is_ok_and(|mask| mask & !node.wanted == 0))
    }

    /// Notes that outputs are wanted; returns the derivation if some were not wanted before and it is
    /// not known yet that the node must be built.
    fn want(
        &mut self,
        planner: &Planner,
        index: u32,
        names: &BTreeSet<String>,
    ) -> Result<Option<(Arc<Derivation>, Mask)>, Failure> {
        let node = &mut self.nodes[index as usize];
        let drv = node.drv.clone();
        let load = || planner.source.derivation(&drv).map_err(|error| Failure::from(error).of(&drv));
        let mut loaded = None;
        if node.way == Way::Unseen {
            let derivation = loaded.insert(load()?);
            node.way = Way::Valid;
            let outputs = derivation.outputs.iter();
            let interned = &mut self.names;
            node.outputs = outputs
                .map(|(name, output)| Output {
                    name: intern_name(interned, name),
                    path: output.path().cloned(),
                    is_late: output.path().is_none(),
                })
                .collect();
        }
        let mask = if names.is_empty() { node.all() } else { node.mask_of(names)? };
        let fresh = mask & !node.wanted;
        node.wanted |= mask;
        if loaded.is_none() && (fresh == 0 || !matches!(node.way, Way::Valid | Way::Gather)) {
            return Ok(None);
        }
        let derivation = match loaded {
            Some(derivation) => derivation,
            None => load()?,
        };
        Ok(Some((derivation, fresh)))
    }

    fn intern(&mut self, drv: &StorePath) -> u32 {
        if let Some(index) = self.by_drv.get(drv) {
            return *index;
        }
        let index = u32::try_from(self.nodes.len()).expect("fewer than four milliards of derivations");
        self.nodes.push(Node::new(drv));
        self.by_drv.insert(drv.clone(), index);
        index
    }

    /// Asks the caches for wanted outputs that are not there.
    fn ask(
        &mut self,
        planner: &Planner,
        offers: &mut Offers,
        order: &[u32],
        fresh: &HashMap<u32, (Arc<Derivation>, Mask)>,
    ) -> Result<(), Failure> {
        let mut missing = Vec::new();
        // Outputs of which only a cache says what they are.
        let mut told = Vec::new();
        for index in order {
            let (derivation, mask) = &fresh[index];
            if !may_substitute(derivation) {
                continue;
            }
            let node = &self.nodes[*index as usize];
            for path in node.paths_in(*mask) {
                if !planner.store.is_valid(path)? {
                    missing.push(path.clone());
                }
            }
            for at in node.late_in(*mask) {
                let Some(id) = late_id(planner.store, &node.drv, &node.outputs[at]) else { continue };
                if planner.store.realisation(&id)?.is_some() {
                    continue;
                }
                if let Some(path) = offers.realisation(&id) {
                    missing.push(path.clone());
                    told.push((*index, at, path));
                }
            }
        }
        offers.ask(missing)?;
        for (index, at, path) in told {
            if offers.has(&path) {
                self.nodes[index as usize].outputs[at].path = Some(path);
            }
        }
        Ok(())
    }

    /// Makes nodes for what the caches have of a node's outputs; false if they have not got all.
    fn gather(&mut self, offers: &Offers, index: u32, derivation: &Derivation, mask: Mask) -> bool {
        let node = &self.nodes[index as usize];
        let is_late = node.outputs.iter().enumerate().any(|(at, o)| mask & bit(at) != 0 && o.path.is_none());
        if offers.is_empty() || is_late || !may_substitute(derivation) {
            return false;
        }
        let wanted: Vec<StorePath> = node.paths_in(mask).cloned().collect();
        if !wanted.iter().all(|path| offers.has(path)) {
            return false;
        }
        let mut inputs = node.inputs.to_vec();
        let mut to_do: Vec<Arc<Offer>> = Vec::new();
        for path in &wanted {
            inputs.extend(self.intern_object(offers, path, &mut to_do));
        }
        while let Some(offer) = to_do.pop() {
            let object = self.by_object[&offer.narinfo.info.path];
            let references: Vec<u32> =
                offer.references().filter_map(|path| self.intern_object(offers, path, &mut to_do)).collect();
            self.nodes[object as usize].inputs = references.into();
        }
        let node = &mut self.nodes[index as usize];
        node.way = Way::Gather;
        node.inputs = inputs.into();
        true
    }

    /// The node of an object that comes from a cache; none if it is there. A new one goes to `to_do`.
    fn intern_object(
        &mut self,
        offers: &Offers,
        path: &StorePath,
        to_do: &mut Vec<Arc<Offer>>,
    ) -> Option<u32> {
        if let Some(index) = self.by_object.get(path) {
            return Some(*index);
        }
        let offer = offers.get(path)?;
        let index = u32::try_from(self.nodes.len()).expect("fewer than four milliards of objects");
        self.nodes.push(Node { way: Way::Substitute, offer: Some(Arc::clone(offer)), ..Node::new(path) });
        self.by_object.insert(path.clone(), index);
        to_do.push(Arc::clone(offer));
        Some(index)
    }

    fn lease(&self, store: &Store, nodes: &[u32]) -> Result<(), StoreError> {
        let outputs = nodes.iter().flat_map(|index| self.nodes[*index as usize].outputs.iter());
        let mut paths = outputs.filter_map(|output| output.path.as_ref()).peekable();
        if paths.peek().is_none() { Ok(()) } else { store.lease(paths) }
    }

    /// Decides how a node gets its outputs; true if its inputs are needed.
    fn decide(
        &mut self,
        planner: &Planner,
        offers: &Offers,
        index: u32,
        derivation: &Derivation,
        mask: Mask,
        force: bool,
    ) -> Result<bool, Failure> {
        let node = &mut self.nodes[index as usize];
        if !force && (is_valid(planner.store, node, mask)? || self.gather(offers, index, derivation, mask)) {
            return Ok(false);
        }
        let node = &mut self.nodes[index as usize];
        (node.way, node.fetches) = way_of(planner, derivation)?;
        Ok(true)
    }
}

/// Under which name it is known what an output became that contents decide.
pub(crate) fn late_id(store: &Store, drv: &StorePath, output: &Output) -> Option<DrvOutput> {
    // The modulo hash needs the derivation in the store; one that was never built may not be.
    let hash = store.modulo_hash(drv).ok()?.hash;
    Some(DrvOutput { hash, output: output.name.to_string() })
}

fn intern_name(names: &mut BTreeSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = name.into();
    names.insert(Arc::clone(&name));
    name
}

/// Whether the outputs in `mask` are there. Fills in those whose paths only contents decide.
fn is_valid(store: &Store, node: &mut Node, mask: Mask) -> Result<bool, Failure> {
    for (_, output) in node.outputs.iter_mut().enumerate().filter(|(at, _)| mask & bit(*at) != 0) {
        if let Some(path) = &output.path {
            if !store.is_valid(path)? {
                return Ok(false);
            }
            continue;
        }
        let Some(id) = late_id(store, &node.drv, output) else { return Ok(false) };
        let Some(path) = store.realisation(&id)? else { return Ok(false) };
        store.lease([&path])?;
        if !store.is_valid(&path)? {
            return Ok(false);
        }
        output.path = Some(path);
    }
    Ok(true)
}

/// Whether a derivation lets its outputs come from a cache (`allowSubstitutes`).
pub(crate) fn may_substitute(derivation: &Derivation) -> bool {
    let variables = derivation.environment.iter();
    let variables = variables.map(|(name, value)| (name.as_slice(), value.as_slice()));
    // What is wrong with its attributes is told when it is built.
    Attributes::from_environment(variables)
        .and_then(|attrs| attrs.flag("allowSubstitutes", true))
        .unwrap_or(true)
}

/// How a derivation is built, if it can be built here at all.
fn way_of(planner: &Planner, drv: &Derivation) -> Result<(Way, Option<Box<WantedFetch>>), Failure> {
    let variables = drv.environment.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let attrs = Attributes::from_environment(variables)
        .map_err(|error| Failure::new(FailureKind::Build, error.to_string()))?;
    let builder = String::from_utf8_lossy(&drv.builder);
    if let Some(name) = builder.strip_prefix("builtin:") {
        let found = planner.builders.get(name).ok_or_else(|| {
            let known: Vec<String> =
                planner.builders.names().map(|name| format!("`builtin:{name}`")).collect();
            Failure::new(FailureKind::Build, format!("unknown builtin builder `{builder}`"))
                .hint(format!("use one of {}", known.join(", ")))
        })?;
        if !found.is_fetch() {
            return Ok((Way::Build, None));
        }
        // A fetch that wants nothing of the network has a local file.
        let wants = found.wants(&attrs).into_iter().next();
        if let Some(wants) = wants.as_ref().filter(|wants| !wants.url.starts_with("file:"))
            && planner.options.offline
        {
            let text = format!("must be fetched, and `--offline` forbids it: {}", wants.url);
            return Err(Failure::new(FailureKind::Fetch, text));
        }
        return Ok((Way::Fetch, wants.map(Box::new)));
    }
    check_runs_here(planner.options, drv, &attrs)?;
    Ok((Way::Build, None))
}

fn check_runs_here(options: &Options, drv: &Derivation, attrs: &Attributes) -> Result<(), Failure> {
    let bad = |error: crate::builtin::AttributeError| Failure::new(FailureKind::Build, error.to_string());
    let system = String::from_utf8_lossy(&drv.system);
    if !options.runs(&system) {
        let text = format!("a `{system}` is required to build it, but this is a `{}`", options.system);
        return Err(Failure::new(FailureKind::Build, text)
            .hint("build it on such a machine, or name another with `--system`"));
    }
    if attrs.flag("__noChroot", false).map_err(bad)? {
        return Err(Failure::new(
            FailureKind::Policy,
            "has `__noChroot` set: it asks to be built without a sandbox, which is refused",
        ));
    }
    let paths = attrs.texts("__impureHostDeps").map_err(bad)?;
    let is_shown = |path: &&String| options.host_paths.iter().any(|bind| bind.target == Path::new(path));
    if let Some(path) = paths.iter().find(|path| !is_shown(path)) {
        let text =
            format!("requested impure path '{path}' (`__impureHostDeps`), which no build is shown unasked");
        return Err(Failure::new(FailureKind::Policy, text)
            .hint(format!("show it to every build, read-only, with `--sandbox-path {path}`")));
    }
    let required = attrs.texts("requiredSystemFeatures").map_err(bad)?;
    let missing: Vec<&String> =
        required.iter().filter(|feature| !options.features.contains(feature.as_str())).collect();
    if let Some(first) = missing.first() {
        let names: Vec<String> = missing.iter().map(|feature| format!("`{feature}`")).collect();
        let text =
            format!("needs the system feature {}, which this machine is not said to have", names.join(", "));
        return Err(Failure::new(FailureKind::Build, text)
            .hint(format!("add `{first}` to the setting `build.system-features`, if it has it")));
    }
    if drv.builder.is_empty() {
        return Err(Failure::new(FailureKind::Build, "has no builder"));
    }
    Ok(())
}
