//! The heap: objects of a word each and up, collected by mark and sweep.
//!
//! This folder is the only place of the crate with `unsafe`; each file says why its blocks hold.
//! What they build on:
//!
//! - **Nothing moves.** Addresses stay good while an object is alive.
//! - **Locals keep alive.** [`Heap::collect`] scans the native stack of the evaluator's thread,
//!   from where it stands up to where the evaluator began, and the saved registers, for words
//!   that lie inside an object; interior addresses count. So values, views and slots may be held in
//!   locals and passed around. They must not be put into Rust collections or boxes: those are
//!   not scanned. [`Values`] and [`Root`] are for that.
//! - **One thread.** Values are neither `Send` nor `Sync` in effect: an [`Evaluator`](crate::Evaluator)
//!   lives inside a call of [`crate::run`] on its own thread and what comes out is `Send` data.
//!   Constants that code refers to belong to that evaluator and are never collected.
//! - **Objects are whole.** Between taking a cell and writing its fields nothing is allocated;
//!   long objects are first filled with `EMPTY`.
#![expect(unsafe_code, reason = "an object heap with a collector; see the invariants above")]

mod collect;
mod layout;
mod space;
mod stack;
#[cfg(test)]
mod tests;
mod value;
mod values;

use ampoule_lang::resolve::{Lambda, Suspension};
use ampoule_lang::symbol::Symbol;

use crate::context::ContextId;
use crate::runtime::Words;
use layout::Kind;
use space::{Allocation, Space};
pub(crate) use space::{HeapFull, forget_stack, is_free};
pub(crate) use stack::Frame;
pub use value::{
    Attrs, BuiltinId, Closure, Flat, Keys, List, Partial, Path, Pos, Slot, Sorted, Str, Thunk, Value, View,
};
pub(crate) use value::{Captures, Depth, ThunkState};
pub use values::{AttrsBuilder, AttrsLike, Values};

/// Strings shorter than this are copied rather than sliced or shared.
const MIN_SHARED_BYTES: usize = 128;
/// Lists shorter than this are copied rather than sliced or shared.
const MIN_SHARED_ITEMS: usize = 16;
/// Sets smaller than this are merged at once.
const MIN_LAYERED_ATTRS: usize = 16;

/// A value that is kept alive until it is taken back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Root(usize);

/// All memory of an evaluator.
pub struct Heap {
    space: Space,
    stack: stack::Stack,
    roots: Vec<Value>,
    free_roots: Vec<usize>,
    permanent: Permanent,
    /// Strings of one byte.
    chars: Box<[Value; 256]>,
    /// The empty string, list and set.
    pub(crate) empty_string: Value,
    pub(crate) empty_list: Value,
    pub(crate) empty_attrs: Value,
    empty_keys: Keys,
    shapes: Shapes,
    /// Texts by the places of the program that made them last. Forgotten as shapes are.
    last_texts: Box<[(usize, Value); LAST_TEXTS]>,
    /// Memory of names for the next set that is built.
    spare_names: values::Names,
    /// Highest address of the native stack that may hold values.
    stack_base: usize,
    pub(crate) collections: u32,
}

/// Recent key arrays, so that sets made alike share them: by their names, and by the two that they
/// were merged from. Forgotten at every collection; nothing is kept alive by them.
struct Shapes {
    made: Box<[Value; SHAPES]>,
    merged: Box<[(Value, Value, Value); SHAPES]>,
}

/// Texts that are remembered.
const LAST_TEXTS: usize = 64;
/// Key arrays that are remembered.
const SHAPES: usize = 256;
/// Key arrays longer than this are not looked for.
const MAX_SHAPE: usize = 4096;

impl Shapes {
    fn new() -> Self {
        let nothing = Value::EMPTY;
        Self { made: Box::new([nothing; SHAPES]), merged: Box::new([(nothing, nothing, nothing); SHAPES]) }
    }

    fn clear(&mut self) {
        self.made.fill(Value::EMPTY);
        self.merged.fill((Value::EMPTY, Value::EMPTY, Value::EMPTY));
    }

    fn place_of_pair(a: Keys, b: Keys) -> usize {
        let mixed = a.0.identity().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ b.0.identity().rotate_left(32);
        (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize
    }

    /// Returns the keys that these two gave when they were merged.
    fn merged(&self, a: Keys, b: Keys) -> Option<Keys> {
        let (left, right, keys) = self.merged[Self::place_of_pair(a, b)];
        (left == a.0 && right == b.0).then_some(Keys(keys))
    }

    fn remember_merged(&mut self, a: Keys, b: Keys, keys: Keys) {
        self.merged[Self::place_of_pair(a, b)] = (a.0, b.0, keys.0);
    }
}

/// Memory that is never collected: what code refers to.
struct Permanent {
    chunk: Vec<Box<[u64]>>,
    used: usize,
}

impl Permanent {
    fn allocate(&mut self, words: usize) -> *mut u64 {
        const CHUNK_WORDS: usize = 4096;
        if self.chunk.last().is_none_or(|chunk| self.used + words > chunk.len()) {
            self.chunk.push(vec![0; CHUNK_WORDS.max(words)].into_boxed_slice());
            self.used = 0;
        }
        let chunk = self.chunk.last_mut().expect("just made");
        let at = &raw mut chunk[self.used];
        self.used += words;
        at
    }
}

/// Whether an object can be collected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Collected,
    Permanent,
}

impl Heap {
    /// Makes a heap that collects after `nursery_bytes` at the earliest, and whose values live in locals below `stack_base` on this thread's stack.
    pub(crate) fn new(stack_base: usize, nursery_bytes: usize) -> Self {
        let nothing = Value::EMPTY;
        let mut heap = Self {
            space: Space::new(nursery_bytes),
            stack: stack::Stack::new(),
            roots: Vec::new(),
            free_roots: Vec::new(),
            permanent: Permanent { chunk: Vec::new(), used: 0 },
            chars: Box::new([nothing; 256]),
            empty_string: nothing,
            empty_list: nothing,
            empty_attrs: nothing,
            empty_keys: Keys(nothing),
            shapes: Shapes::new(),
            last_texts: Box::new([(0, nothing); LAST_TEXTS]),
            spare_names: Vec::new(),
            stack_base,
            collections: 0,
        };
        heap.empty_string = heap.string_of(Life::Permanent, b"", ContextId::EMPTY);
        for byte in 0..=255u8 {
            heap.chars[byte as usize] = heap.string_of(Life::Permanent, &[byte], ContextId::EMPTY);
        }
        heap.empty_list = heap.list_of(Life::Permanent, 0);
        heap.empty_keys = heap.keys(Life::Permanent, &[]);
        heap.empty_attrs = heap.attrs_of(Life::Permanent, heap.empty_keys);
        heap
    }

    /// From now on a collection comes whenever so much was allocated, however much is alive.
    pub(crate) fn stress(&mut self, every_bytes: usize) {
        self.space.stress(every_bytes);
    }

    /// Takes a cell and writes its header. The caller writes the fields before it allocates again.
    #[inline(always)]
    fn object(&mut self, words: usize, header: u64) -> *mut u64 {
        let at = match self.space.allocate(words) {
            Allocation::At(at) => at,
            Allocation::CollectFirst => self.collect_and_allocate(words),
        };
        // SAFETY: a cell of at least two words that nothing else uses.
        unsafe { *at = header };
        at
    }

    #[cold]
    #[inline(never)]
    fn collect_and_allocate(&mut self, words: usize) -> *mut u64 {
        self.collect();
        match self.space.allocate(words) {
            Allocation::At(at) => at,
            Allocation::CollectFirst => unreachable!("nothing was allocated since the collection"),
        }
    }

    fn object_of(&mut self, life: Life, words: usize, header: u64) -> *mut u64 {
        if life == Life::Collected {
            return self.object(words, header);
        }
        let at = self.permanent.allocate(words.max(2));
        // SAFETY: fresh words of a chunk of ours.
        unsafe { *at = header };
        at
    }

    // ---- numbers

    /// Returns an integer.
    #[inline(always)]
    pub(crate) fn int(&mut self, n: i64) -> Value {
        match Value::small_int(n) {
            Some(value) => value,
            None => self.boxed(Life::Collected, Kind::BigInt, n as u64),
        }
    }

    /// Returns a floating point number.
    pub(crate) fn float(&mut self, x: f64) -> Value {
        self.boxed(Life::Collected, Kind::Float, x.to_bits())
    }

    fn boxed(&mut self, life: Life, kind: Kind, bits: u64) -> Value {
        let at = self.object_of(life, 2, layout::header(kind, 0, 0));
        // SAFETY: the object has two words.
        unsafe { *at.add(1) = bits };
        Value::object(at)
    }

    /// Returns a constant integer.
    pub(crate) fn constant_int(&mut self, n: i64) -> Value {
        Value::small_int(n).unwrap_or_else(|| self.boxed(Life::Permanent, Kind::BigInt, n as u64))
    }

    /// Returns a constant floating point number.
    pub(crate) fn constant_float(&mut self, x: f64) -> Value {
        self.boxed(Life::Permanent, Kind::Float, x.to_bits())
    }

    // ---- strings and paths

    fn raw_bytes(&mut self, life: Life, kind: Kind, small: u32, len: usize) -> *mut u64 {
        let length = u32::try_from(len).expect("strings are checked to be shorter than 4 GiB");
        self.object_of(life, (1 + len.div_ceil(8)).max(2), layout::header(kind, small, length))
    }

    fn string_of(&mut self, life: Life, bytes: &[u8], context: ContextId) -> Value {
        let at = self.raw_bytes(life, Kind::Str, context.number(), bytes.len());
        // SAFETY: the object has room for the bytes after its header. `bytes` may be inside
        // another object, not in this one.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at.add(1).cast(), bytes.len()) };
        Value::object(at)
    }

    /// Returns a string with a copy of `bytes`.
    #[inline]
    pub fn string(&mut self, bytes: &[u8], context: ContextId) -> Value {
        if context.is_empty() && bytes.len() <= 1 {
            return bytes.first().map_or(self.empty_string, |&byte| self.chars[byte as usize]);
        }
        self.string_of(Life::Collected, bytes, context)
    }

    /// Returns a string that is never collected.
    pub(crate) fn constant_string(&mut self, bytes: &[u8]) -> Value {
        self.string_of(Life::Permanent, bytes, ContextId::EMPTY)
    }

    /// Returns a string of `len` bytes that `fill` writes; `fill` gets zeroed bytes.
    pub fn string_with(&mut self, len: usize, context: ContextId, fill: impl FnOnce(&mut [u8])) -> Value {
        let at = self.raw_bytes(Life::Collected, Kind::Str, context.number(), len);
        // SAFETY: the object is new, has room for `len` bytes, and nobody else knows it.
        let bytes = unsafe {
            std::ptr::write_bytes(at.add(1).cast::<u8>(), 0, len);
            std::slice::from_raw_parts_mut(at.add(1).cast(), len)
        };
        fill(bytes);
        Value::object(at)
    }

    /// Returns the text that was made last at a place of the program, if it is remembered.
    pub(crate) fn last_text(&self, place: usize) -> Option<Value> {
        let (known, text) = self.last_texts[Self::slot_of_place(place)];
        (known == place).then_some(text)
    }

    /// Remembers a text. The place is not 0.
    pub(crate) fn set_last_text(&mut self, place: usize, text: Value) {
        self.last_texts[Self::slot_of_place(place)] = (place, text);
    }

    fn slot_of_place(place: usize) -> usize {
        (place >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58
    }

    fn forget_shared(&mut self) {
        self.shapes.clear();
        self.last_texts.fill((0, Value::EMPTY));
    }

    /// Returns `a` and `b` as one string. Repeated appending costs what is appended.
    pub(crate) fn append(&mut self, a: Value, b: &[u8], context: ContextId) -> Value {
        let left = Str::of(a);
        let total = left.len() + b.len();
        if total < MIN_SHARED_BYTES || left.len() < b.len() {
            return self.string_pair(left, b, context);
        }
        self.append_shared(a, b, context)
    }

    fn string_pair(&mut self, left: Str, b: &[u8], context: ContextId) -> Value {
        let at = self.raw_bytes(Life::Collected, Kind::Str, context.number(), left.len() + b.len());
        // SAFETY: the object has room for both; neither overlaps it. `left` and `b` are alive:
        // they are in locals here.
        unsafe {
            let to = at.add(1).cast::<u8>();
            std::ptr::copy_nonoverlapping(left.as_bytes().as_ptr(), to, left.len());
            std::ptr::copy_nonoverlapping(b.as_ptr(), to.add(left.len()), b.len());
        }
        Value::object(at)
    }

    /// The left operand's buffer is written on if its end is the end of the string, as a
    /// slice is appended to in Go; else a buffer with spare room is made.
    fn append_shared(&mut self, a: Value, b: &[u8], context: ContextId) -> Value {
        let left = Str::of(a);
        let total = left.len() + b.len();
        let mut owner = None;
        if a.kind() == Kind::StrSlice {
            let buffer = Value::from_word(a.field(0));
            if buffer.kind() == Kind::StrBuf {
                let start = buffer.at().wrapping_add(2) as usize;
                let used = layout::large(buffer.header()) as usize;
                let ends = left.as_bytes().as_ptr() as usize + left.len() == start + used;
                if ends && used + b.len() <= buffer.field(0) as usize {
                    // SAFETY: the bytes after `used` up to the capacity are inside the buffer, and no
                    // string reaches there: every string ends at or before `used`.
                    unsafe {
                        std::ptr::copy_nonoverlapping(b.as_ptr(), (start + used) as *mut u8, b.len());
                        *buffer.at() = layout::header(Kind::StrBuf, 0, (used + b.len()) as u32);
                    }
                    owner = Some((buffer, left.as_bytes().as_ptr()));
                }
            }
        }
        let (buffer, bytes) = owner.unwrap_or_else(|| {
            let capacity = (total + total / 2).next_multiple_of(8).min(u32::MAX as usize);
            let at = self.object(2 + capacity.div_ceil(8), layout::header(Kind::StrBuf, 0, total as u32));
            // SAFETY: the new buffer has room for `capacity` bytes after two words.
            unsafe {
                *at.add(1) = capacity as u64;
                let to = at.add(2).cast::<u8>();
                std::ptr::copy_nonoverlapping(left.as_bytes().as_ptr(), to, left.len());
                std::ptr::copy_nonoverlapping(b.as_ptr(), to.add(left.len()), b.len());
                (Value::object(at), to.cast_const())
            }
        });
        self.slice_object(Kind::StrSlice, context.number(), total, buffer, bytes as usize)
    }

    fn slice_object(&mut self, kind: Kind, small: u32, len: usize, owner: Value, at: usize) -> Value {
        let object = self.object(3, layout::header(kind, small, len as u32));
        // SAFETY: the object has three words. `owner` is alive: it is a parameter here.
        unsafe {
            *object.add(1) = owner.word();
            *object.add(2) = at as u64;
        }
        Value::object(object)
    }

    /// Returns the bytes `start..end` of a string, with another context.
    pub fn substring(&mut self, whole: Value, start: usize, end: usize, context: ContextId) -> Value {
        let text = Str::of(whole);
        if start == 0 && end == text.len() && context == text.context() {
            return whole;
        }
        if end - start < MIN_SHARED_BYTES {
            let bytes = &text.as_bytes()[start..end];
            return self.string(bytes, context);
        }
        let bytes = text.as_bytes()[start..end].as_ptr() as usize;
        let owner = if whole.kind() == Kind::StrSlice { Value::from_word(whole.field(0)) } else { whole };
        self.slice_object(Kind::StrSlice, context.number(), end - start, owner, bytes)
    }

    /// Returns the string with another context, sharing its bytes if they are many.
    pub fn with_context(&mut self, whole: Value, context: ContextId) -> Value {
        let text = Str::of(whole);
        if text.context() == context {
            return whole;
        }
        self.substring(whole, 0, text.len(), context)
    }

    /// Returns a path. `bytes` is absolute and canonical.
    pub(crate) fn path(&mut self, life: Life, bytes: &[u8]) -> Value {
        let at = self.raw_bytes(life, Kind::Path, 0, bytes.len());
        // SAFETY: the object has room for the bytes after its header.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at.add(1).cast(), bytes.len()) };
        Value::object(at)
    }

    // ---- lists

    /// Returns a list of `len` empty slots, to be set with [`List::settle`] before anyone reads it.
    #[inline(always)]
    pub(crate) fn list(&mut self, len: usize) -> Value {
        if len == 0 {
            return self.empty_list;
        }
        self.list_of(Life::Collected, len)
    }

    pub(crate) fn list_of(&mut self, life: Life, len: usize) -> Value {
        let length = u32::try_from(len).expect("lists have fewer than 2^32 elements");
        let at = self.object_of(life, (1 + len).max(2), layout::header(Kind::List, 0, length));
        for index in 0..len {
            // SAFETY: the object has `len` words after its header.
            unsafe { *at.add(1 + index) = Value::EMPTY.word() };
        }
        Value::object(at)
    }

    /// Returns the elements `start..end` of a list.
    pub fn sublist(&mut self, whole: Value, start: usize, end: usize) -> Value {
        let list = List::of(whole);
        assert!(start <= end && end <= list.len());
        let len = end - start;
        if len == list.len() {
            return whole;
        }
        let items = list.items().wrapping_add(start);
        if len < MIN_SHARED_ITEMS {
            let copy = self.list(len);
            let to = List::of(copy);
            // SAFETY: `len` elements from inside a live list to a new one.
            unsafe { std::ptr::copy_nonoverlapping(items, to.items(), len) };
            return copy;
        }
        let owner = if whole.kind() == Kind::ListSlice { Value::from_word(whole.field(0)) } else { whole };
        self.slice_object(Kind::ListSlice, 0, len, owner, items as usize)
    }

    /// Returns `a ++ b`. Repeated appending costs what is appended.
    pub fn concat(&mut self, a: Value, b: Value) -> Value {
        let (left, right) = (List::of(a), List::of(b));
        if right.is_empty() {
            return a;
        }
        if left.is_empty() {
            return b;
        }
        let total = left.len() + right.len();
        if total < MIN_SHARED_ITEMS || left.len() < right.len() {
            let both = self.list_raw(total);
            let to = List::of(both).items();
            // SAFETY: the new list has room for both.
            unsafe {
                std::ptr::copy_nonoverlapping(left.items(), to, left.len());
                std::ptr::copy_nonoverlapping(right.items(), to.add(left.len()), right.len());
            }
            return both;
        }
        self.concat_shared(a, b)
    }

    /// A list whose elements the caller writes before it allocates again.
    fn list_raw(&mut self, len: usize) -> Value {
        let length = u32::try_from(len).expect("lists have fewer than 2^32 elements");
        Value::object(self.object((1 + len).max(2), layout::header(Kind::List, 0, length)))
    }

    fn concat_shared(&mut self, a: Value, b: Value) -> Value {
        let (left, right) = (List::of(a), List::of(b));
        let total = left.len() + right.len();
        if a.kind() == Kind::ListSlice {
            let buffer = Value::from_word(a.field(0));
            if buffer.kind() == Kind::ListBuf {
                let start = buffer.at().wrapping_add(2);
                let used = layout::large(buffer.header()) as usize;
                let ends = left.items().wrapping_add(left.len()) == start.wrapping_add(used);
                if ends && used + right.len() <= buffer.field(0) as usize {
                    // SAFETY: as in `append_shared`: the slots after `used` belong to no list.
                    unsafe {
                        std::ptr::copy_nonoverlapping(right.items(), start.add(used), right.len());
                        *buffer.at() = layout::header(Kind::ListBuf, 0, (used + right.len()) as u32);
                    }
                    return self.slice_object(Kind::ListSlice, 0, total, buffer, left.items() as usize);
                }
            }
        }
        let capacity = total + total / 2;
        let at = self.object(2 + capacity, layout::header(Kind::ListBuf, 0, total as u32));
        // SAFETY: the new buffer has `capacity` slots after two words; the collector looks at
        // the used ones only.
        let items = unsafe {
            *at.add(1) = capacity as u64;
            let to = at.add(2);
            std::ptr::copy_nonoverlapping(left.items(), to, left.len());
            std::ptr::copy_nonoverlapping(right.items(), to.add(left.len()), right.len());
            to as usize
        };
        self.slice_object(Kind::ListSlice, 0, total, Value::object(at), items)
    }

    // ---- attribute sets

    /// Returns keys from names with positions, which are sorted by symbol and distinct.
    pub(crate) fn keys(&mut self, life: Life, names: &[(Symbol, Pos)]) -> Keys {
        debug_assert!(names.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let length = u32::try_from(names.len()).expect("sets have fewer than 2^32 attributes");
        let at = self.object_of(life, 2 + names.len(), layout::header(Kind::Keys, 0, length));
        // SAFETY: the object has a word for the order and one for each name.
        unsafe {
            *at.add(1) = Value::EMPTY.word();
            for (index, &(name, pos)) in names.iter().enumerate() {
                *at.add(2 + index) = u64::from(name.index()) | u64::from(pos) << 32;
            }
        }
        Keys(Value::object(at))
    }

    /// Returns a set with these keys and empty slots, to be set before anyone reads them.
    #[inline(always)]
    pub(crate) fn attrs(&mut self, keys: Keys) -> Flat {
        let len = keys.len();
        let at = self.object(2 + len, layout::header(Kind::Attrs, 0, len as u32));
        // SAFETY: the object has a word for the keys and one for each value.
        unsafe {
            *at.add(1) = keys.0.word();
            for index in 0..len {
                *at.add(2 + index) = Value::EMPTY.word();
            }
        }
        Flat(Value::object(at))
    }

    fn attrs_of(&mut self, life: Life, keys: Keys) -> Value {
        let len = keys.len();
        let at = self.object_of(life, 2 + len, layout::header(Kind::Attrs, 0, len as u32));
        // SAFETY: as in `attrs`.
        unsafe {
            *at.add(1) = keys.0.word();
            for index in 0..len {
                *at.add(2 + index) = Value::EMPTY.word();
            }
        }
        Value::object(at)
    }

    /// Returns a constant set; `values` in the order of the keys.
    pub(crate) fn constant_attrs(&mut self, keys: Keys, values: &[Value]) -> Value {
        assert_eq!(keys.len(), values.len());
        let set = self.attrs_of(Life::Permanent, keys);
        for (index, &value) in values.iter().enumerate() {
            Flat(set).slot(index).settle(value);
        }
        set
    }

    /// Returns the set in one piece.
    pub fn flat(&mut self, attrs: Attrs) -> Flat {
        match attrs.as_flat() {
            Some(flat) => flat,
            None => self.flatten(attrs),
        }
    }

    /// Puts a layered set into one piece, once.
    fn flatten(&mut self, attrs: Attrs) -> Flat {
        let mut layers = Vec::new();
        let mut set = attrs.0;
        let mut whole = loop {
            match Attrs(set).as_flat() {
                Some(flat) => break flat,
                None => {
                    layers.push(Flat(Value::from_word(set.field(1))));
                    set = Value::from_word(set.field(0));
                }
            }
        };
        // The layers are kept alive by `attrs`, which is in a local.
        while let Some(over) = layers.pop() {
            whole = self.merge(whole, over);
        }
        // SAFETY: the field for the flat form of a layered set.
        unsafe { *attrs.0.at().add(3) = whole.0.word() };
        whole
    }

    /// Returns the union of two flat sets; the right one wins.
    fn merge(&mut self, left: Flat, right: Flat) -> Flat {
        let (a, b) = (left.keys(), right.keys());
        let (n, m) = (left.len(), right.len());
        let common = count_common(a, b);
        if common == n {
            return right;
        }
        let total = n + m - common;
        let keys = self.merged_keys(a, b, total);
        let set = self.object(2 + total, layout::header(Kind::Attrs, 0, total as u32));
        // SAFETY: room for the keys and `total` values, written in the order of the keys.
        unsafe {
            *set.add(1) = keys.0.word();
            let (mut i, mut j, mut k) = (0, 0, 2);
            let (names_a, names_b) = (a.0.at().add(2), b.0.at().add(2));
            let (left, right) = (left.0.at().add(2), right.0.at().add(2));
            while i < n && j < m {
                let order = (*names_a.add(i) as u32).cmp(&(*names_b.add(j) as u32));
                *set.add(k) = if order.is_lt() { *left.add(i) } else { *right.add(j) };
                i += usize::from(order.is_le());
                j += usize::from(order.is_ge());
                k += 1;
            }
            std::ptr::copy_nonoverlapping(left.add(i), set.add(k), n - i);
            std::ptr::copy_nonoverlapping(right.add(j), set.add(k + n - i), m - j);
        }
        Flat(Value::object(set))
    }

    /// Returns the `total` names of both, with the positions of the right one's.
    fn merged_keys(&mut self, a: Keys, b: Keys, total: usize) -> Keys {
        if let Some(known) = self.shapes.merged(a, b) {
            return known;
        }
        let (n, m) = (a.len(), b.len());
        let at = self.object(2 + total, layout::header(Kind::Keys, 0, total as u32));
        // SAFETY: room for the order and `total` names; both key arrays are sorted, so exactly
        // `total` are written.
        unsafe {
            *at.add(1) = Value::EMPTY.word();
            let (mut i, mut j, mut k) = (0, 0, 2);
            let (left, right) = (a.0.at().add(2), b.0.at().add(2));
            while i < n && j < m {
                let (x, y) = (*left.add(i), *right.add(j));
                let order = (x as u32).cmp(&(y as u32));
                *at.add(k) = if order.is_lt() { x } else { y };
                i += usize::from(order.is_le());
                j += usize::from(order.is_ge());
                k += 1;
            }
            std::ptr::copy_nonoverlapping(left.add(i), at.add(k), n - i);
            std::ptr::copy_nonoverlapping(right.add(j), at.add(k + n - i), m - j);
        }
        let keys = Keys(Value::object(at));
        self.shapes.remember_merged(a, b, keys);
        keys
    }

    /// Returns the same names, standing nowhere: those of a set that a builtin made of another.
    pub fn unplaced_keys(&mut self, keys: Keys) -> Keys {
        if let Some(known) = self.shapes.merged(keys, keys) {
            return known;
        }
        let len = keys.len();
        let at = self.object(2 + len, layout::header(Kind::Keys, 0, len as u32));
        // SAFETY: room for the order and `len` names; `keys` is alive as a local.
        unsafe {
            *at.add(1) = keys.order_word();
            for index in 0..len {
                *at.add(2 + index) = u64::from(keys.name(index).index());
            }
        }
        let unplaced = Keys(Value::object(at));
        self.shapes.remember_merged(keys, keys, unplaced);
        unplaced
    }

    /// Returns collectable keys, those of a set made before if there is one alike.
    fn shared_keys(&mut self, names: &[(Symbol, Pos, u32)]) -> Keys {
        if names.len() > MAX_SHAPE {
            return self.fresh_keys(names);
        }
        let hash = names.iter().fold(0u64, |hash, &(name, pos, _)| {
            let entry = u64::from(name.index()) | u64::from(pos) << 32;
            (hash.rotate_left(5) ^ entry).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
        let place = (hash >> 56) as usize;
        let known = self.shapes.made[place];
        if known != Value::EMPTY {
            let known = Keys(known);
            let same = |(index, &(name, pos, _)): (usize, &(Symbol, Pos, u32))| {
                known.name(index) == name && known.pos(index) == pos
            };
            if known.len() == names.len() && names.iter().enumerate().all(same) {
                return known;
            }
        }
        let keys = self.fresh_keys(names);
        self.shapes.made[place] = keys.0;
        keys
    }

    fn fresh_keys(&mut self, names: &[(Symbol, Pos, u32)]) -> Keys {
        let len = names.len();
        let at = self.object(2 + len, layout::header(Kind::Keys, 0, len as u32));
        // SAFETY: room for the order and `len` names.
        unsafe {
            *at.add(1) = Value::EMPTY.word();
            for (index, &(name, pos, _)) in names.iter().enumerate() {
                *at.add(2 + index) = u64::from(name.index()) | u64::from(pos) << 32;
            }
        }
        Keys(Value::object(at))
    }

    /// Returns `a // b`.
    ///
    /// A small set laid over a large one makes a layer; layers at least double in size
    /// downwards, so that there are logarithmically many and a chain of `//` costs n log n.
    pub fn update(&mut self, a: Attrs, b: Attrs) -> Value {
        if b.is_empty() || a.0 == b.0 {
            return a.0;
        }
        if a.is_empty() {
            return b.0;
        }
        if a.len() < MIN_LAYERED_ATTRS || b.len() * 2 > a.len() {
            let (left, right) = (self.flat(a), self.flat(b));
            return self.merge(left, right).0;
        }
        let mut over = self.flat(b);
        let mut base = a;
        while base.as_flat().is_none() {
            let layer = Flat(Value::from_word(base.0.field(1)));
            if layer.len() > 2 * over.len() {
                break;
            }
            over = self.merge(layer, over);
            base = Attrs(Value::from_word(base.0.field(0)));
        }
        if over.len() * 2 > base.len() {
            let left = self.flat(base);
            return self.merge(left, over).0;
        }
        let fresh = over.keys_iter().filter(|&name| !base.has(name)).count();
        let depth = if base.as_flat().is_some() { 1 } else { layout::small(base.0.header()) + 1 };
        let len = (base.len() + fresh) as u32;
        let base = base.as_flat().map_or(base.0, |flat| flat.0);
        let at = self.object(4, layout::header(Kind::Layered, depth, len));
        // SAFETY: the object has four words; `base` and `over` are alive as locals.
        unsafe {
            *at.add(1) = base.word();
            *at.add(2) = over.0.word();
            *at.add(3) = Value::EMPTY.word();
        }
        Value::object(at)
    }

    /// Returns `a` with all of `b`, a set that was just made for this and that nothing else refers to: its memory is
    /// used again at once.
    pub(crate) fn update_with(&mut self, a: Attrs, b: Attrs) -> Value {
        let updated = self.update(a, b);
        let is_merged = updated.as_attrs().is_some_and(|set| set.as_flat().is_some()) && updated != b.0;
        if is_merged && let Some(flat) = b.as_flat() {
            self.space.take_back(b.0.at(), 2 + flat.len());
        }
        updated
    }

    /// Returns the set so that it can be read in the order of names.
    pub fn sorted(&mut self, attrs: Attrs) -> Sorted {
        let flat = self.flat(attrs);
        let keys = flat.keys();
        let mut order = keys.order_word();
        if order == Value::EMPTY.word() {
            order = self.order(keys);
        }
        Sorted { flat, order: Value::from_word(order).at().wrapping_add(1) as *const u32 }
    }

    /// Computes the order of names and keeps it with the keys.
    fn order(&mut self, keys: Keys) -> u64 {
        let len = keys.len();
        let order = order_of_names(keys);
        let life = if self.space.covers(keys.0.at() as usize) { Life::Collected } else { Life::Permanent };
        let words = (1 + len.div_ceil(2)).max(2);
        let at = self.object_of(life, words, layout::header(Kind::Order, 0, len as u32));
        // SAFETY: the object has room for `len` numbers of 4 bytes; the keys have a word for it.
        unsafe {
            std::ptr::copy_nonoverlapping(order.as_ptr(), at.add(1).cast(), len);
            *keys.0.at().add(1) = Value::object(at).word();
        }
        Value::object(at).word()
    }

    // ---- functions and thunks

    /// Returns a closure whose captures are empty until they are set.
    #[inline(always)]
    pub(crate) fn closure(&mut self, lambda: &'static Lambda<'static, Words>) -> Value {
        let count = lambda.captures.len();
        let header =
            layout::code_header(Kind::Closure, count, std::ptr::from_ref(lambda).expose_provenance());
        Value::object(self.code_object(count, header))
    }

    /// Returns a closure that captures nothing and is never collected.
    pub(crate) fn constant_closure(&mut self, lambda: &'static Lambda<'static, Words>) -> Value {
        assert!(lambda.captures.is_empty());
        let header = layout::code_header(Kind::Closure, 0, std::ptr::from_ref(lambda).expose_provenance());
        Value::object(self.object_of(Life::Permanent, 2, header))
    }

    /// Returns a thunk whose captures are empty until they are set.
    #[inline(always)]
    pub(crate) fn thunk(&mut self, code: &'static Suspension<'static, Words>) -> Value {
        let count = code.captures.len();
        let header = layout::code_header(Kind::Thunk, count, std::ptr::from_ref(code).expose_provenance());
        Value::thunk(self.code_object(count, header))
    }

    #[inline(always)]
    fn code_object(&mut self, count: usize, header: u64) -> *mut u64 {
        let at = self.object((1 + count).max(2), header);
        for index in 0..count.max(1) {
            // SAFETY: the object has that many words after its header.
            unsafe { *at.add(1 + index) = Value::EMPTY.word() };
        }
        at
    }

    /// Returns a thunk for a function applied to arguments.
    #[inline]
    pub fn apply(&mut self, function: Value, arguments: &[Value]) -> Value {
        let at = self.object(2 + arguments.len(), layout::header(Kind::Apply, 0, 1 + arguments.len() as u32));
        // SAFETY: the object has room for the function and its arguments.
        unsafe {
            *at.add(1) = function.word();
            for (index, argument) in arguments.iter().enumerate() {
                *at.add(2 + index) = argument.word();
            }
        }
        Value::thunk(at)
    }

    /// Returns a thunk for a builtin without parameters, which code may refer to. What it becomes is
    /// kept alive by a root that the caller makes.
    pub(crate) fn permanent_apply(&mut self, function: Value) -> Value {
        let at = self.object_of(Life::Permanent, 2, layout::header(Kind::Apply, 0, 1));
        // SAFETY: the object has two words.
        unsafe { *at.add(1) = function.word() };
        Value::thunk(at)
    }

    /// Returns a function that has got `count` arguments; they are set with [`Heap::set_argument`].
    pub(crate) fn partial(
        &mut self,
        function: Value,
        count: usize,
        argument: impl Fn(usize) -> Value,
    ) -> Value {
        let at = self.object(2 + count, layout::header(Kind::Partial, 0, count as u32));
        // SAFETY: the object has room for the function and its arguments.
        unsafe {
            *at.add(1) = function.word();
            for index in 0..count {
                *at.add(2 + index) = argument(index).word();
            }
        }
        Value::object(at)
    }

    // ---- stack and roots

    #[inline(always)]
    pub(crate) fn stack_mark(&self) -> Frame {
        self.stack.mark()
    }

    #[inline(always)]
    pub(crate) fn push_frame(&mut self, slots: usize) -> Option<Frame> {
        self.stack.push(slots)
    }

    #[inline(always)]
    pub(crate) fn slide_frame(&mut self, from: Frame, to: Frame, count: usize, slots: usize) -> Option<()> {
        self.stack.slide(from, to, count, slots)
    }

    #[inline(always)]
    pub(crate) fn pop_to(&mut self, mark: Frame) {
        self.stack.pop_to(mark);
    }

    /// Keeps a value alive until [`Heap::unroot`].
    pub fn root(&mut self, value: Value) -> Root {
        match self.free_roots.pop() {
            Some(index) => {
                self.roots[index] = value;
                Root(index)
            }
            None => {
                self.roots.push(value);
                Root(self.roots.len() - 1)
            }
        }
    }

    /// Returns a value that is kept alive.
    pub fn rooted(&self, root: Root) -> Value {
        self.roots[root.0]
    }

    /// Changes what is kept alive.
    pub fn set_root(&mut self, root: Root, value: Value) {
        self.roots[root.0] = value;
    }

    /// Lets go of a value.
    pub fn unroot(&mut self, root: Root) {
        self.roots[root.0] = Value::NULL;
        self.free_roots.push(root.0);
    }

    /// Returns the bytes that objects took since the beginning.
    pub fn allocated_bytes(&self) -> u64 {
        self.space.allocated_total()
    }

    /// Returns the bytes of memory that objects lie in.
    pub fn size_bytes(&self) -> usize {
        self.space.block_bytes()
    }
}

impl Flat {
    fn keys_iter(self) -> impl Iterator<Item = Symbol> {
        let keys = self.keys();
        (0..keys.len()).map(move |index| keys.name(index))
    }
}

/// Returns the numbers of the names in the order of their texts.
fn order_of_names(keys: Keys) -> Vec<u32> {
    let texts: Vec<&'static [u8]> = (0..keys.len()).map(|index| keys.name(index).as_bytes()).collect();
    // Names of large sets begin alike; the eight bytes after that decide most comparisons.
    let first = texts.first().copied().unwrap_or_default();
    let shared = texts.iter().fold(first.len(), |shared, text| {
        let pairs = first[..shared].iter().zip(*text);
        pairs.take_while(|(a, b)| a == b).count()
    });
    let mut order: Vec<(u64, u32)> =
        (0..).zip(&texts).map(|(index, text)| (word_at(text, shared), index)).collect();
    order.sort_unstable_by(|&(a, i), &(b, j)| {
        a.cmp(&b).then_with(|| texts[i as usize][shared..].cmp(&texts[j as usize][shared..]))
    });
    order.into_iter().map(|(_, index)| index).collect()
}

/// Returns eight bytes as a number that compares as they do; zeros stand for bytes that are not there.
fn word_at(text: &[u8], at: usize) -> u64 {
    let rest = &text[at..];
    let mut word = [0; 8];
    let len = rest.len().min(8);
    word[..len].copy_from_slice(&rest[..len]);
    u64::from_be_bytes(word)
}

/// Returns how many names two key arrays share.
fn count_common(a: Keys, b: Keys) -> usize {
    if a.0 == b.0 {
        return a.len();
    }
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let order = a.name(i).cmp(&b.name(j));
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
        common += usize::from(order.is_eq());
    }
    common
}
