//! Rows of values that grow, and sets being built: what builtins use in place of `Vec<Value>`.

use ampoule_lang::symbol::Symbol;

use super::layout::{self, Kind};
use super::{Heap, Life, List, Pos, Value};

/// A growing row of values. It lives in the heap: keep it in a local, not in a box.
///
/// ```text
/// let mut kept = Values::new();
/// for value in list.iter() { if … { kept.push(ev.heap(), value); } }
/// kept.into_list(ev.heap())
/// ```
pub struct Values {
    /// A `ListBuf`, or `EMPTY`.
    buffer: Value,
    len: usize,
    capacity: usize,
}

impl Default for Values {
    fn default() -> Self {
        Self::new()
    }
}

impl Values {
    /// Returns an empty row.
    pub const fn new() -> Self {
        Self { buffer: Value::EMPTY, len: 0, capacity: 0 }
    }

    /// Returns an empty row with room for `capacity` values.
    pub fn with_capacity(heap: &mut Heap, capacity: usize) -> Self {
        let mut row = Self::new();
        if capacity > 0 {
            row.grow(heap, capacity);
        }
        row
    }

    /// Returns the number of values.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn items(&self) -> *mut u64 {
        self.buffer.at().wrapping_add(2)
    }

    /// Adds a value at the end.
    #[inline]
    pub fn push(&mut self, heap: &mut Heap, value: Value) {
        if self.len == self.capacity {
            self.grow(heap, (self.capacity * 2).max(8));
        }
        // SAFETY: below the capacity of a buffer of ours, which is alive: `self` is in a local.
        unsafe {
            *self.items().add(self.len) = value.word();
            self.len += 1;
            *self.buffer.at() = layout::header(Kind::ListBuf, 0, self.len as u32);
        }
    }

    fn grow(&mut self, heap: &mut Heap, capacity: usize) {
        assert!(capacity < u32::MAX as usize, "lists have fewer than 2^32 elements");
        let at = heap.object(2 + capacity, layout::header(Kind::ListBuf, 0, self.len as u32));
        // SAFETY: the new buffer has more room than the old one has values.
        unsafe {
            *at.add(1) = capacity as u64;
            if self.len > 0 {
                std::ptr::copy_nonoverlapping(self.items(), at.add(2), self.len);
            }
        }
        if self.capacity > 0 && heap.space.covers(self.buffer.at() as usize) {
            heap.space.free_large(self.buffer.at());
        }
        self.buffer = Value::object(at);
        self.capacity = capacity;
    }

    /// Returns value `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Value {
        assert!(index < self.len);
        // SAFETY: in bounds; alive as in `push`.
        Value::from_word(unsafe { *self.items().add(index) })
    }

    /// Replaces value `index`.
    #[inline]
    pub fn set(&mut self, index: usize, value: Value) {
        assert!(index < self.len);
        // SAFETY: in bounds; alive as in `push`.
        unsafe { *self.items().add(index) = value.word() };
    }

    /// Removes the last value and returns it.
    pub fn pop(&mut self) -> Option<Value> {
        let index = self.len.checked_sub(1)?;
        let value = self.get(index);
        self.len = index;
        // SAFETY: the header of our buffer.
        unsafe { *self.buffer.at() = layout::header(Kind::ListBuf, 0, index as u32) };
        Some(value)
    }

    /// Keeps the first `len` values.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            // SAFETY: the header of our buffer, which exists since there were values.
            unsafe { *self.buffer.at() = layout::header(Kind::ListBuf, 0, len as u32) };
        }
    }

    /// Returns the values as a list, without copying them if there are many.
    pub fn into_list(self, heap: &mut Heap) -> Value {
        if self.len == 0 {
            return heap.empty_list;
        }
        if self.len < super::MIN_SHARED_ITEMS || self.capacity > self.len * 2 {
            let list = heap.list_raw(self.len);
            // SAFETY: the new list has room for `len` values.
            unsafe { std::ptr::copy_nonoverlapping(self.items(), List::of(list).items(), self.len) };
            if heap.space.covers(self.buffer.at() as usize) {
                heap.space.free_large(self.buffer.at());
            }
            return list;
        }
        heap.slice_object(Kind::ListSlice, 0, self.len, self.buffer, self.items() as usize)
    }
}

/// Names with their positions, and where the value of each is.
pub(crate) type Names = Vec<(Symbol, Pos, u32)>;

/// Rows of names longer than this are not kept for the next set.
const MAX_SPARE_NAMES: usize = 1 << 16;

/// An attribute set being built from names in any order.
#[derive(Default)]
pub struct AttrsBuilder {
    names: Names,
    values: Values,
}

impl AttrsBuilder {
    /// Returns a builder without attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a builder with room for `capacity` attributes.
    pub fn with_capacity(heap: &mut Heap, capacity: usize) -> Self {
        let mut names = heap.take_names();
        names.reserve(capacity);
        Self { names, values: Values::with_capacity(heap, capacity) }
    }

    /// Returns how many attributes were pushed.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns whether none was pushed.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns where the name that was pushed stands, if it was. O(n).
    pub(crate) fn pos_of(&self, name: Symbol) -> Option<Pos> {
        self.names.iter().find(|(known, ..)| *known == name).map(|&(_, pos, _)| pos)
    }

    /// Returns the names that were pushed.
    pub(crate) fn names(&self) -> impl Iterator<Item = Symbol> {
        self.names.iter().map(|&(name, ..)| name)
    }

    /// Adds an attribute.
    pub fn push(&mut self, heap: &mut Heap, name: Symbol, value: Value) {
        self.push_at(heap, name, value, 0);
    }

    /// Adds an attribute whose name stands at `pos`.
    pub fn push_at(&mut self, heap: &mut Heap, name: Symbol, value: Value, pos: Pos) {
        if self.names.capacity() == 0 {
            self.names = heap.take_names();
        }
        self.names.push((name, pos, self.values.len() as u32));
        self.values.push(heap, value);
    }

    /// Returns the set. Of several attributes of one name, the first pushed stays (as `listToAttrs` has it).
    pub fn finish(mut self, heap: &mut Heap) -> Value {
        if self.names.is_empty() {
            return heap.empty_attrs;
        }
        if !self.names.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            self.names.sort_by_key(|&(name, ..)| name);
            self.names.dedup_by_key(|&mut (name, _, _)| name);
        }
        let keys = heap.shared_keys(&self.names);
        let set = heap.attrs(keys);
        for (index, &(_, _, value)) in self.names.iter().enumerate() {
            set.slot(index).settle(self.values.get(value as usize));
        }
        heap.give_back(self.names);
        set.0
    }
}

impl Heap {
    /// Returns a set of a few attributes in any order; names are distinct.
    pub fn attrs_from(&mut self, attributes: &[(Symbol, Value)]) -> Value {
        let mut builder = AttrsBuilder::new();
        for &(name, value) in attributes {
            builder.push(self, name, value);
        }
        builder.finish(self)
    }

    /// Returns a list of a few values.
    pub fn list_from(&mut self, values: &[Value]) -> Value {
        let list = self.list(values.len());
        let view = List::of(list);
        for (index, &value) in values.iter().enumerate() {
            view.settle(index, value);
        }
        list
    }

    /// Returns a set with the names of another, sharing them; slots are to be set at once.
    pub fn attrs_like(&mut self, keys: super::Keys) -> AttrsLike {
        AttrsLike { flat: self.attrs(keys) }
    }

    /// Returns a row for names, empty, with the memory of one that was given back.
    pub(crate) fn take_names(&mut self) -> Names {
        std::mem::take(&mut self.spare_names)
    }

    fn give_back(&mut self, mut names: Names) {
        if names.capacity() <= MAX_SPARE_NAMES {
            names.clear();
            self.spare_names = names;
        }
    }

    /// Returns a set of some attributes of another: their names in order, and their places there.
    pub(crate) fn part_of(&mut self, set: super::Flat, names: Names) -> Value {
        if names.is_empty() {
            return self.empty_attrs;
        }
        let keys = if names.len() == set.len() { set.keys() } else { self.shared_keys(&names) };
        let part = self.attrs(keys);
        for (index, &(_, _, place)) in names.iter().enumerate() {
            part.slot(index).settle(set.get(place as usize));
        }
        self.give_back(names);
        part.0
    }

    pub(crate) fn constant_list(&mut self, values: &[Value]) -> Value {
        let list = self.list_of(Life::Permanent, values.len());
        let view = List::of(list);
        for (index, &value) in values.iter().enumerate() {
            view.settle(index, value);
        }
        list
    }
}

/// A set with known names whose values are being set.
pub struct AttrsLike {
    flat: super::Flat,
}

impl AttrsLike {
    /// Sets the value of name `index` (in the order of the keys).
    pub fn set(&mut self, index: usize, value: Value) {
        self.flat.slot(index).settle(value);
    }

    /// Returns the set; every value must have been set.
    pub fn finish(self) -> Value {
        self.flat.0
    }
}
