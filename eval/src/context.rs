//! String contexts: what a string depends on.
//!
//! A context is a set of elements. Sets are interned: a string carries a number
//! of 3 bytes, equal sets have equal numbers, and the union of two sets is
//! computed once and remembered.
//!
//! ```text
//! "${a}/bin:${b}/bin"      {a} ∪ {b} = #3, however often the string is cut and joined
//! ```

use std::sync::Arc;

use ampoule_store::StorePath;
use rustc_hash::FxHashMap as HashMap;

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
#[derive(Debug)]
pub struct Contexts {
    elems: Vec<ContextElem>,
    elem_ids: HashMap<ContextElem, u32>,
    /// Sorted numbers of elements (by number, not by what they are).
    sets: Vec<Arc<[u32]>>,
    set_ids: HashMap<Arc<[u32]>, u32>,
    unions: HashMap<(u32, u32), u32>,
}

impl Default for Contexts {
    fn default() -> Self {
        let empty: Arc<[u32]> = Arc::new([]);
        Self {
            elems: Vec::new(),
            elem_ids: HashMap::default(),
            sets: vec![Arc::clone(&empty)],
            set_ids: HashMap::from_iter([(empty, 0)]),
            unions: HashMap::default(),
        }
    }
}

impl Contexts {
    /// Returns the context with this one element.
    pub fn single(&mut self, elem: ContextElem) -> ContextId {
        let id = self.elem_id(elem);
        self.intern(Arc::new([id]))
    }

    /// Returns the context with these elements.
    pub fn from_elems(&mut self, elems: impl IntoIterator<Item = ContextElem>) -> ContextId {
        let mut ids: Vec<u32> = elems.into_iter().map(|elem| self.elem_id(elem)).collect();
        ids.sort_unstable();
        ids.dedup();
        self.intern(ids.into())
    }

    /// Returns the elements, in their order.
    pub fn elems(&self, context: ContextId) -> Vec<&ContextElem> {
        let mut elems: Vec<&ContextElem> =
            self.sets[context.0 as usize].iter().map(|&id| &self.elems[id as usize]).collect();
        elems.sort_unstable();
        elems
    }

    /// Returns the number of elements.
    pub fn len(&self, context: ContextId) -> usize {
        self.sets[context.0 as usize].len()
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
        let mut all: Vec<u32> = [&*self.sets[a.0 as usize], &*self.sets[b.0 as usize]].concat();
        all.sort_unstable();
        all.dedup();
        let union = self.intern(all.into());
        self.unions.insert((a.0, b.0), union.0);
        union
    }

    fn elem_id(&mut self, elem: ContextElem) -> u32 {
        if let Some(&id) = self.elem_ids.get(&elem) {
            return id;
        }
        let id = u32::try_from(self.elems.len()).expect("fewer than 2^32 dependencies");
        self.elems.push(elem.clone());
        self.elem_ids.insert(elem, id);
        id
    }

    fn intern(&mut self, set: Arc<[u32]>) -> ContextId {
        if let Some(&id) = self.set_ids.get(&set) {
            return ContextId(id);
        }
        let id = self.sets.len() as u32;
        assert!(id < 1 << 24, "fewer than 2^24 different string contexts");
        self.sets.push(Arc::clone(&set));
        self.set_ids.insert(set, id);
        ContextId(id)
    }
}
