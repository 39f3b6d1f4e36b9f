//! String contexts: what a string depends on.
//!
//! A context is a set of elements. Sets are interned: a string carries a number
//! of 3 bytes, and the union of two sets is computed once and remembered.
//!
//! ```text
//! "${a}/bin:${b}/bin"      {a} ∪ {b} = #3, however often the string is cut and joined
//! ```

use std::hash::BuildHasher as _;
use std::sync::Arc;

use ampoule_lang::Symbol;
use ampoule_store::{PathList, PathRef, StorePath};
use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap as HashMap};

/// One thing that a string depends on. Ordered as Nix prints them: by path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ContextElem {
    /// A store object that is there or will be, as such.
    Opaque(StorePath),
    /// One output of a derivation.
    Built {
        /// The derivation.
        drv: StorePath,
        /// The output's name.
        output: Arc<str>,
    },
    /// A derivation with all that it needs and all outputs (`addDrvOutputDependencies`, `drvPath`).
    DrvDeep(StorePath),
}

/// An interned set of [`ContextElem`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ContextId(u32);

impl ContextId {
    /// The context of most strings.
    pub const EMPTY: Self = Self(0);

    /// Returns whether the string depends on nothing.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn from_number(number: u32) -> Self {
        Self(number)
    }

    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

/// All contexts of an evaluation.
///
/// A large one has hundreds of thousands of elements, so that paths and names of outputs are kept once, and an
/// element is a number: that of its path and what is meant by it. So is the set that it is alone in.
#[derive(Debug)]
pub struct Contexts {
    paths: PathList,
    /// Numbers of paths, found by what they are.
    path_ids: HashTable<u32>,
    outputs: Vec<Output>,
    output_ids: HashMap<Arc<str>, u32>,
    /// Elements whose numbers do not say what they are: see [`Elem::usual`].
    elems: Vec<Elem>,
    /// Places of these, found by what they are.
    elem_ids: HashTable<u32>,
    /// Sets of several elements.
    sets: Vec<Set>,
    /// What sets have of their own, one after another.
    owned: Vec<u32>,
    /// Numbers of sets in one piece, found by what is in them.
    set_ids: HashTable<u32>,
    unions: HashMap<(u32, u32), u32>,
}

/// A name of outputs.
#[derive(Debug)]
struct Output {
    text: Arc<str>,
    symbol: Symbol,
}

/// The name `out`.
pub(crate) const OUT: u32 = 0;

/// An element: the numbers of a path and of what is meant by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Elem {
    path: u32,
    what: u32,
}

const OPAQUE: u32 = 0;
const DRV_DEEP: u32 = 1;
/// From here on, the output of that number.
const BUILT: u32 = 2;

/// What is meant by a path nearly always: itself, all of it, its output `out`.
const USUAL: u32 = BUILT + OUT + 1;
/// Paths that are numbered so that elements need no table.
const USUAL_PATHS: u32 = 1 << 21;
/// Numbers of other elements begin here.
const OTHERS: u32 = USUAL_PATHS * USUAL;

impl Elem {
    /// The number of an element that needs no table.
    fn usual(self) -> Option<u32> {
        (self.path < USUAL_PATHS && self.what < USUAL).then_some(self.path * USUAL + self.what)
    }
}

/// A look at an element.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ElemView<'a> {
    /// [`ContextElem::Opaque`].
    Opaque(PathRef<'a>),
    /// [`ContextElem::Built`].
    Built { drv: PathRef<'a>, output: &'a str },
    /// [`ContextElem::DrvDeep`].
    DrvDeep(PathRef<'a>),
}

/// A set of elements: some of its own, and those of another that it is laid over.
///
/// A large set that grows by little shares what it had, so that a string built of *n* parts, each
/// with a context of its own, costs *n* log *n* and not *n*². Layers at least double downwards.
#[derive(Clone, Copy, Debug)]
struct Set {
    /// Where its own elements are: sorted numbers (by number, not by what they are).
    start: u32,
    /// How many of its own.
    count: u32,
    /// The set below, which has none of its own; 0 for none.
    base: u32,
    /// How many elements there are in all.
    len: u32,
}

/// From here on, contexts of one element: that of this number above it.
const SINGLE: u32 = 1 << 23;

/// Sets up to this size are always in one piece, so that equal ones have equal numbers.
const MAX_FLAT: usize = 32;

impl Default for Contexts {
    fn default() -> Self {
        let mut contexts = Self {
            paths: PathList::default(),
            path_ids: HashTable::new(),
            outputs: Vec::new(),
            output_ids: HashMap::default(),
            elems: Vec::new(),
            elem_ids: HashTable::new(),
            sets: vec![Set { start: 0, count: 0, base: 0, len: 0 }],
            owned: Vec::new(),
            set_ids: HashTable::new(),
            unions: HashMap::default(),
        };
        assert_eq!(contexts.output_id("out"), OUT);
        contexts
    }
}

impl Contexts {
    /// Returns the context with this one element.
    pub fn single(&mut self, elem: ContextElem) -> ContextId {
        let id = self.elem_id(&elem);
        self.single_of(id)
    }

    /// Returns the context with the one element of this number.
    pub(crate) fn single_of(&self, id: u32) -> ContextId {
        ContextId(SINGLE + id)
    }

    /// Returns the context with these elements.
    pub fn from_elems(&mut self, elems: impl IntoIterator<Item = ContextElem>) -> ContextId {
        let ids: Vec<u32> = elems.into_iter().map(|elem| self.elem_id(&elem)).collect();
        self.of_ids(ids)
    }

    /// Returns the elements, in their order.
    pub fn elems(&self, context: ContextId) -> Vec<ContextElem> {
        let mut elems: Vec<ContextElem> = Vec::with_capacity(self.len(context));
        self.layers(context, |own| elems.extend(own.iter().map(|&id| self.to_elem(id))));
        elems.sort_unstable();
        elems
    }

    fn elem_at(&self, id: u32) -> Elem {
        match id.checked_sub(OTHERS) {
            Some(at) => self.elems[at as usize],
            None => Elem { path: id / USUAL, what: id % USUAL },
        }
    }

    fn to_elem(&self, id: u32) -> ContextElem {
        let Elem { path, what } = self.elem_at(id);
        let path = self.paths.get(path);
        match what {
            OPAQUE => ContextElem::Opaque(path),
            DRV_DEEP => ContextElem::DrvDeep(path),
            built => ContextElem::Built { drv: path, output: Arc::clone(self.output_name(built - BUILT)) },
        }
    }

    /// Returns the number of elements.
    pub fn len(&self, context: ContextId) -> usize {
        if context.0 >= SINGLE { 1 } else { self.sets[context.0 as usize].len as usize }
    }

    /// Returns an element by its number.
    pub(crate) fn elem(&self, id: u32) -> ElemView<'_> {
        let Elem { path, what } = self.elem_at(id);
        let path = self.path(path);
        match what {
            OPAQUE => ElemView::Opaque(path),
            DRV_DEEP => ElemView::DrvDeep(path),
            built => ElemView::Built { drv: path, output: self.output_name(built - BUILT) },
        }
    }

    /// Returns the element that is alone in a context.
    pub(crate) fn only_elem(&self, context: ContextId) -> Option<u32> {
        context.0.checked_sub(SINGLE)
    }

    /// Returns the number of the path that an element names.
    pub(crate) fn path_of(&self, elem: u32) -> u32 {
        self.elem_at(elem).path
    }

    /// Returns a path by its number.
    pub(crate) fn path(&self, id: u32) -> PathRef<'_> {
        self.paths.at(id)
    }

    /// Returns the number of a path.
    pub(crate) fn path_id(&mut self, path: &StorePath) -> u32 {
        let hash = PathList::hash_of(path.as_str());
        if let Some(&id) = self.path_ids.find(hash, |&id| self.paths.text(id) == path.as_str()) {
            return id;
        }
        let id = self.paths.push(path);
        let paths = &self.paths;
        self.path_ids.insert_unique(hash, id, |&id| PathList::hash_of(paths.text(id)));
        id
    }

    /// Returns the name of an output by its number.
    pub(crate) fn output_name(&self, id: u32) -> &Arc<str> {
        &self.outputs[id as usize].text
    }

    /// Returns the name of an output by its number.
    pub(crate) fn output_symbol(&self, id: u32) -> Symbol {
        self.outputs[id as usize].symbol
    }

    /// Returns the number of a name of outputs.
    pub(crate) fn output_id(&mut self, name: &str) -> u32 {
        if name == "out" && !self.outputs.is_empty() {
            return OUT;
        }
        if let Some(&known) = self.output_ids.get(name) {
            return known;
        }
        let id = self.outputs.len() as u32;
        let text: Arc<str> = name.into();
        self.outputs.push(Output { text: Arc::clone(&text), symbol: Symbol::intern(name) });
        self.output_ids.insert(text, id);
        id
    }

    /// Appends the numbers of a context's elements.
    pub(crate) fn ids_into(&self, context: ContextId, ids: &mut Vec<u32>) {
        self.layers(context, |own| ids.extend_from_slice(own));
    }

    /// Returns the union.
    #[inline]
    pub fn union(&mut self, a: ContextId, b: ContextId) -> ContextId {
        if a == b || b.is_empty() {
            return a;
        }
        if a.is_empty() {
            return b;
        }
        self.union_of_two(a.min(b), a.max(b))
    }

    fn union_of_two(&mut self, a: ContextId, b: ContextId) -> ContextId {
        if let Some(&known) = self.unions.get(&(a.0, b.0)) {
            return ContextId(known);
        }
        let (small, large) = if self.len(a) < self.len(b) { (a, b) } else { (b, a) };
        let union = self.lay_over(large, small);
        self.unions.insert((a.0, b.0), union.0);
        union
    }

    fn lay_over(&mut self, base: ContextId, over: ContextId) -> ContextId {
        let mut all = Vec::with_capacity(self.len(over));
        if self.len(base) <= MAX_FLAT || self.len(over) * 2 > self.len(base) {
            self.ids_into(base, &mut all);
            self.ids_into(over, &mut all);
            return self.of_ids(all);
        }
        self.ids_into(over, &mut all);
        all.retain(|&id| !self.has(base, id));
        if all.is_empty() {
            return base;
        }
        let len = (self.len(base) + all.len()) as u32;
        let mut below = base.0;
        loop {
            let set = self.sets[below as usize];
            if set.count as usize > 2 * all.len() {
                break;
            }
            all.extend_from_slice(self.own(set));
            below = set.base;
            if below == 0 {
                return self.of_ids(all);
            }
        }
        all.sort_unstable();
        self.push_set(&all, below, len)
    }

    fn has(&self, context: ContextId, id: u32) -> bool {
        let mut found = false;
        self.layers(context, |own| found |= own.binary_search(&id).is_ok());
        found
    }

    fn own(&self, set: Set) -> &[u32] {
        &self.owned[set.start as usize..][..set.count as usize]
    }

    fn layers(&self, context: ContextId, mut each: impl FnMut(&[u32])) {
        let mut at = context.0;
        if let Some(elem) = at.checked_sub(SINGLE) {
            return each(&[elem]);
        }
        while at != 0 {
            let set = self.sets[at as usize];
            each(self.own(set));
            at = set.base;
        }
    }

    /// Returns the number of an element.
    pub(crate) fn elem_id(&mut self, elem: &ContextElem) -> u32 {
        match elem {
            ContextElem::Opaque(path) => {
                let path = self.path_id(path);
                self.id_of(Elem { path, what: OPAQUE })
            }
            ContextElem::DrvDeep(drv) => {
                let drv = self.path_id(drv);
                self.deep_id(drv)
            }
            ContextElem::Built { drv, output } => {
                let (drv, output) = (self.path_id(drv), self.output_id(output));
                self.built_id(drv, output)
            }
        }
    }

    /// Returns the number of the element that is a derivation with all that it needs.
    pub(crate) fn deep_id(&mut self, drv: u32) -> u32 {
        self.id_of(Elem { path: drv, what: DRV_DEEP })
    }

    /// Returns the number of the element that is an output of a derivation.
    pub(crate) fn built_id(&mut self, drv: u32, output: u32) -> u32 {
        self.id_of(Elem { path: drv, what: BUILT + output })
    }

    fn id_of(&mut self, elem: Elem) -> u32 {
        if let Some(id) = elem.usual() {
            return id;
        }
        let hash = FxBuildHasher.hash_one(elem);
        if let Some(&at) = self.elem_ids.find(hash, |&at| self.elems[at as usize] == elem) {
            return OTHERS + at;
        }
        let at = self.elems.len() as u32;
        assert!(OTHERS + at < SINGLE, "fewer than 2^21 outputs with names of their own");
        self.elems.push(elem);
        let elems = &self.elems;
        self.elem_ids.insert_unique(hash, at, |&at| FxBuildHasher.hash_one(elems[at as usize]));
        OTHERS + at
    }

    /// Returns the context with the elements of these numbers, in any order.
    fn of_ids(&mut self, mut ids: Vec<u32>) -> ContextId {
        ids.sort_unstable();
        ids.dedup();
        match ids.as_slice() {
            [] => ContextId::EMPTY,
            &[id] => self.single_of(id),
            ids => self.flat(ids),
        }
    }

    /// Returns the set in one piece with these elements, sorted and more than one.
    fn flat(&mut self, ids: &[u32]) -> ContextId {
        let hash = FxBuildHasher.hash_one(ids);
        if let Some(&known) = self.set_ids.find(hash, |&id| self.own(self.sets[id as usize]) == ids) {
            return ContextId(known);
        }
        let set = self.push_set(ids, 0, ids.len() as u32);
        let (sets, owned) = (&self.sets, &self.owned);
        let ids_of = |set: Set| &owned[set.start as usize..][..set.count as usize];
        self.set_ids.insert_unique(hash, set.0, |&id| FxBuildHasher.hash_one(ids_of(sets[id as usize])));
        set
    }

    fn push_set(&mut self, own: &[u32], base: u32, len: u32) -> ContextId {
        let id = self.sets.len() as u32;
        assert!(id < SINGLE, "fewer than 2^23 different string contexts of several");
        let start = u32::try_from(self.owned.len()).expect("fewer than 2^32 elements in all sets");
        self.owned.extend_from_slice(own);
        self.sets.push(Set { start, count: own.len() as u32, base, len });
        ContextId(id)
    }
}

/// Gathers the contexts of many strings, to make one of them at the end.
#[derive(Debug, Default)]
pub(crate) struct Gathering(Vec<ContextId>);

impl Gathering {
    /// Adds a string's context.
    #[inline]
    pub(crate) fn add(&mut self, context: ContextId) {
        if !context.is_empty() && self.0.last() != Some(&context) {
            self.0.push(context);
        }
    }

    /// Returns the union of all.
    pub(crate) fn finish(&mut self, contexts: &mut Contexts) -> ContextId {
        match self.0.as_slice() {
            [] => ContextId::EMPTY,
            &[one] => one,
            &[a, b] => contexts.union(a, b),
            _ => contexts.of_ids(self.ids(contexts)),
        }
    }

    /// Returns the numbers of the elements of all, each once.
    pub(crate) fn ids(&mut self, contexts: &Contexts) -> Vec<u32> {
        let mut ids = Vec::new();
        self.ids_to(contexts, &mut ids);
        ids
    }

    /// Writes these numbers to where there is nothing yet.
    pub(crate) fn ids_to(&mut self, contexts: &Contexts, ids: &mut Vec<u32>) {
        self.0.sort_unstable();
        self.0.dedup();
        ids.reserve(self.0.iter().map(|&set| contexts.len(set)).sum());
        self.0.iter().for_each(|&set| contexts.ids_into(set, ids));
        ids.sort_unstable();
        ids.dedup();
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elem(number: usize) -> ContextElem {
        let path = format!("{number:032}-x").replace('e', "f");
        ContextElem::Opaque(StorePath::parse(&path).expect("digits are digits"))
    }

    #[test]
    fn equal_sets_have_equal_numbers() {
        let mut contexts = Contexts::default();
        let a = contexts.single(elem(1));
        let b = contexts.single(elem(2));
        let c = contexts.from_elems([elem(3), elem(1)]);
        let ab = contexts.union(a, b);
        assert_eq!(contexts.union(ab, c), contexts.from_elems([elem(3), elem(2), elem(1), elem(2)]));
        assert_eq!(contexts.union(ab, b), ab);
        assert_eq!(contexts.from_elems([elem(2)]), b);
        assert_eq!(contexts.from_elems([]), ContextId::EMPTY);
    }

    #[test]
    fn growing_sets_share_what_they_had() {
        let mut contexts = Contexts::default();
        let mut all = ContextId::EMPTY;
        for number in 0..3000 {
            // Every second one is known already.
            let one = contexts.single(elem(number / 2 * 7 % 1500));
            let before = all;
            all = contexts.union(all, one);
            assert_eq!(contexts.union(before, one), all);
        }
        let mut expected: Vec<ContextElem> = (0..1500).map(elem).collect();
        expected.sort_unstable();
        assert_eq!(contexts.elems(all), expected);
        assert_eq!(contexts.len(all), 1500);
        let kept = contexts.owned.len();
        assert!(kept < 1500 * 20, "{kept} numbers for 1500 elements");
        let half = contexts.from_elems((0..750).map(elem));
        assert_eq!(contexts.union(half, all), all);
        let other = contexts.from_elems((1000..3000).map(elem));
        let both = contexts.union(all, other);
        assert_eq!(contexts.len(both), 3000);
    }

    #[test]
    fn gathering_is_union() {
        let mut contexts = Contexts::default();
        let sets: Vec<ContextId> = (0..40).map(|n| contexts.from_elems([elem(n), elem(n * n % 7)])).collect();
        let mut gathering = Gathering::default();
        let mut union = ContextId::EMPTY;
        for set in sets {
            gathering.add(set);
            union = contexts.union(union, set);
        }
        let gathered = gathering.finish(&mut contexts);
        assert_eq!(contexts.elems(gathered), contexts.elems(union));
    }
}
