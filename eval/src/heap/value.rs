//! Values, as code outside the heap sees them.
//!
//! A [`Value`] is one word and is copied freely. It is kept alive by being in a
//! local variable of the evaluator's thread, in another live object, on the value
//! stack, or under a [`Root`](super::Root). **It is not kept alive by a Rust
//! collection**: a `Vec<Value>` or a `HashMap<_, Value>` is invisible to the
//! collector. Use [`Values`](super::Values) for a growing row of values.
//!
//! [`Value::view`] says what a value is:
//!
//! ```text
//! match value.view() {
//!     View::Int(n) => …,
//!     View::Str(text) => text.as_bytes(),
//!     View::List(list) => list.iter(),
//!     View::Attrs(attrs) => attrs.get(sym::NAME),
//!     View::Thunk(_) => …               // not forced: see `Evaluator::force`
//! ```

use std::num::NonZeroU64;

use ampoule_lang::resolve::{Hint, Lambda, Suspension};
use ampoule_lang::symbol::Symbol;

use super::layout::{self, Kind, TAG_IMMEDIATE, TAG_MASK, TAG_OBJECT, TAG_THUNK};
use crate::context::ContextId;
use crate::runtime::Words;

/// A value, forced or not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value(NonZeroU64);

/// What a value is, with access to its parts.
#[derive(Clone, Copy)]
pub enum View {
    /// `null`.
    Null,
    /// `true` and `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// A string.
    Str(Str),
    /// A path.
    Path(Path),
    /// A list.
    List(List),
    /// An attribute set.
    Attrs(Attrs),
    /// A function written in the language.
    Closure(Closure),
    /// A function written in Rust, by its number in the table.
    Builtin(BuiltinId),
    /// A function that has got some of its arguments.
    Partial(Partial),
    /// Not forced yet.
    Thunk(Thunk),
}

/// Number of a builtin in the evaluator's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BuiltinId(pub(crate) u32);

/// Whether all that a list or set contains is forced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    Unknown,
    /// Forced all the way, for good.
    Deep,
    /// Being forced all the way by the walk of this number.
    Within(u32),
}

/// The smallest integer that needs no object.
const MIN_SMALL: i64 = i64::MIN >> 1;
/// The largest integer that needs no object.
const MAX_SMALL: i64 = i64::MAX >> 1;

impl Value {
    /// `null`.
    pub const NULL: Self = Self::immediate(0, 0);
    /// `false`.
    pub const FALSE: Self = Self::immediate(1, 0);
    /// `true`.
    pub const TRUE: Self = Self::immediate(1, 1);
    /// An empty slot; never a value of the language.
    pub(crate) const EMPTY: Self = Self::immediate(3, 0);

    const fn immediate(what: u64, payload: u32) -> Self {
        Self(NonZeroU64::new(TAG_IMMEDIATE | what << 3 | (payload as u64) << 8).expect("the tag is not zero"))
    }

    /// Returns `true` or `false`.
    pub const fn bool(b: bool) -> Self {
        if b { Self::TRUE } else { Self::FALSE }
    }

    /// Returns the builtin with this number, unapplied.
    pub(crate) const fn builtin(id: BuiltinId) -> Self {
        Self::immediate(2, id.0)
    }

    /// Returns `n` if it needs no object.
    #[inline(always)]
    pub(crate) fn small_int(n: i64) -> Option<Self> {
        if (MIN_SMALL..=MAX_SMALL).contains(&n) {
            Some(Self(NonZeroU64::new((n as u64) << 1 | 1).expect("odd")))
        } else {
            None
        }
    }

    /// Returns the integer if it is one that needs no object.
    #[inline(always)]
    pub(crate) fn as_small_int(self) -> Option<i64> {
        if self.0.get() & 1 == 1 { Some(self.0.get() as i64 >> 1) } else { None }
    }

    #[inline(always)]
    pub(super) fn object(at: *const u64) -> Self {
        Self(NonZeroU64::new(at as u64 | TAG_OBJECT).expect("objects are not at address 0"))
    }

    #[inline(always)]
    pub(super) fn thunk(at: *const u64) -> Self {
        Self(NonZeroU64::new(at as u64 | TAG_THUNK).expect("objects are not at address 0"))
    }

    #[inline(always)]
    pub(super) const fn word(self) -> u64 {
        self.0.get()
    }

    /// A word that [`Value::word`] gave.
    #[inline(always)]
    pub(super) fn from_word(word: u64) -> Self {
        debug_assert!(word != 0);
        // SAFETY: words of values are never zero, and fields that hold values are written
        // with values when their object is made (`EMPTY` where there is none yet).
        Self(unsafe { NonZeroU64::new_unchecked(word) })
    }

    /// Returns whether this is a thunk, be it forced or not.
    #[inline(always)]
    pub fn is_thunk(self) -> bool {
        self.0.get() & TAG_MASK == TAG_THUNK
    }

    #[inline(always)]
    pub(super) fn is_object(self) -> bool {
        self.0.get() & TAG_MASK == TAG_OBJECT
    }

    #[inline(always)]
    pub(super) fn at(self) -> *mut u64 {
        (self.0.get() & !TAG_MASK) as *mut u64
    }

    #[inline(always)]
    pub(super) fn header(self) -> u64 {
        debug_assert!(self.is_object() || self.is_thunk());
        // SAFETY: values with these tags point to live objects, which start with a header.
        unsafe { *self.at() }
    }

    #[inline(always)]
    pub(super) fn field(self, index: usize) -> u64 {
        // SAFETY: callers read fields that the object's kind has, see `layout`.
        unsafe { *self.at().add(1 + index) }
    }

    /// Returns the kind of an object, `Free` for what is none.
    #[inline(always)]
    pub(super) fn kind(self) -> Kind {
        if self.is_object() { layout::kind(self.header()) } else { Kind::Free }
    }

    /// Says what the value is. A forced thunk is seen as its value.
    #[inline]
    pub fn view(self) -> View {
        let word = self.0.get();
        if word & 1 == 1 {
            return View::Int(word as i64 >> 1);
        }
        match word & TAG_MASK {
            TAG_THUNK => match Thunk(self).peek() {
                Some(value) => value.view(),
                None => View::Thunk(Thunk(self)),
            },
            TAG_IMMEDIATE => match word >> 3 & 0x1f {
                0 => View::Null,
                1 => View::Bool(word >> 8 != 0),
                _ => View::Builtin(BuiltinId((word >> 8) as u32)),
            },
            _ => self.view_object(),
        }
    }

    fn view_object(self) -> View {
        match self.kind() {
            Kind::Str | Kind::StrSlice => View::Str(Str::of(self)),
            Kind::Path => View::Path(Path(self)),
            Kind::Float => View::Float(f64::from_bits(self.field(0))),
            Kind::BigInt => View::Int(self.field(0) as i64),
            Kind::List | Kind::ListSlice => View::List(List::of(self)),
            Kind::Attrs | Kind::Layered => View::Attrs(Attrs(self)),
            Kind::Closure => View::Closure(Closure(self)),
            Kind::Partial => View::Partial(Partial(self)),
            kind => unreachable!("no value is a {kind:?}"),
        }
    }

    /// Returns the attribute set, if it is a forced one.
    #[inline(always)]
    pub fn as_attrs(self) -> Option<Attrs> {
        matches!(self.kind(), Kind::Attrs | Kind::Layered).then_some(Attrs(self))
    }

    /// Returns the list, if it is a forced one.
    #[inline(always)]
    pub fn as_list(self) -> Option<List> {
        matches!(self.kind(), Kind::List | Kind::ListSlice).then(|| List::of(self))
    }

    /// Returns the string, if it is a forced one.
    #[inline(always)]
    pub fn as_str(self) -> Option<Str> {
        matches!(self.kind(), Kind::Str | Kind::StrSlice).then(|| Str::of(self))
    }

    /// Returns the path, if it is a forced one.
    pub fn as_path(self) -> Option<Path> {
        (self.kind() == Kind::Path).then_some(Path(self))
    }

    /// Returns the closure, if it is one.
    #[inline(always)]
    pub(crate) fn as_closure(self) -> Option<Closure> {
        (self.kind() == Kind::Closure).then_some(Closure(self))
    }

    /// Returns the integer, if it is one.
    #[inline(always)]
    pub fn as_int(self) -> Option<i64> {
        match self.as_small_int() {
            Some(n) => Some(n),
            None => (self.kind() == Kind::BigInt).then(|| self.field(0) as i64),
        }
    }

    /// Returns the thunk, forced or not, if it is one.
    #[inline(always)]
    pub(crate) fn as_thunk(self) -> Option<Thunk> {
        self.is_thunk().then_some(Thunk(self))
    }

    /// Returns how far this list or flat set was forced all the way.
    pub(crate) fn depth(self) -> Depth {
        match layout::small(self.header()) {
            0 => Depth::Unknown,
            1 => Depth::Deep,
            walk => Depth::Within(walk - 2),
        }
    }

    /// Says how far this list or flat set was forced all the way.
    pub(crate) fn set_depth(self, depth: Depth) {
        debug_assert!(matches!(self.kind(), Kind::List | Kind::ListSlice | Kind::Attrs));
        let small = match depth {
            Depth::Unknown => 0,
            Depth::Deep => 1,
            // Walks nest as deep as the native stack goes, which is far from 2^24.
            Depth::Within(walk) => (walk + 2) & 0xff_ffff,
        };
        let header = self.header();
        // SAFETY: the header of a live object, of a kind that keeps nothing else in these bits; constants are this
        // evaluator's own.
        unsafe { *self.at() = layout::header(layout::kind(header), small, layout::large(header)) };
    }

    /// Returns a number that two values share only if they are the same object.
    pub(crate) fn identity(self) -> u64 {
        self.0.get()
    }

    /// Returns whether two words are the same object or the same immediate.
    pub fn is_same(self, other: Self) -> bool {
        self == other
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.view() {
            View::Null => f.write_str("null"),
            View::Bool(b) => b.fmt(f),
            View::Int(n) => n.fmt(f),
            View::Float(x) => x.fmt(f),
            View::Str(s) => String::from_utf8_lossy(s.as_bytes()).fmt(f),
            View::Path(p) => f.write_str(&String::from_utf8_lossy(p.as_bytes())),
            View::List(l) => write!(f, "[…{}]", l.len()),
            View::Attrs(a) => write!(f, "{{…{}}}", a.len()),
            View::Closure(_) | View::Partial(_) | View::Builtin(_) => f.write_str("«function»"),
            View::Thunk(_) => f.write_str("…"),
        }
    }
}

/// A string: bytes, and what they depend on.
#[derive(Clone, Copy)]
pub struct Str {
    bytes: *const u8,
    len: u32,
    context: u32,
}

impl Str {
    #[inline(always)]
    pub(super) fn of(value: Value) -> Self {
        let header = value.header();
        let bytes = if layout::kind(header) == Kind::Str {
            value.at().wrapping_add(1) as *const u8
        } else {
            value.field(1) as *const u8
        };
        Self { bytes, len: layout::large(header), context: layout::small(header) }
    }

    /// Returns the bytes.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `bytes` and `len` come from a string object. It is alive: this view holds an
        // address inside it, and views are kept in locals, which the collector scans. Bytes of
        // a string are never written again.
        unsafe { std::slice::from_raw_parts(self.bytes, self.len as usize) }
    }

    /// Returns the number of bytes.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns whether there is no byte.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns what the string depends on.
    pub const fn context(&self) -> ContextId {
        ContextId::from_number(self.context)
    }

    /// Returns the text; bytes that are no UTF-8 become U+FFFD.
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }
}

/// An absolute path.
#[derive(Clone, Copy)]
pub struct Path(Value);

impl Path {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        let len = layout::large(self.0.header()) as usize;
        // SAFETY: a path object holds `len` bytes after its header; alive as in `Str::as_bytes`.
        unsafe { std::slice::from_raw_parts(self.0.at().add(1) as *const u8, len) }
    }

    /// Returns it as a path of the operating system.
    pub fn as_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(self.as_bytes()))
    }
}

/// A list.
#[derive(Clone, Copy)]
pub struct List {
    items: *mut u64,
    len: u32,
}

impl List {
    #[inline(always)]
    pub(super) fn of(value: Value) -> Self {
        let header = value.header();
        let items = if layout::kind(header) == Kind::List {
            value.at().wrapping_add(1)
        } else {
            value.field(1) as *mut u64
        };
        Self { items, len: layout::large(header) }
    }

    /// Returns the number of elements.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns whether there are no elements.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns element `index`, forced or not.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Option<Value> {
        // SAFETY: in bounds of a list that is alive, because this view is in a local.
        (index < self.len()).then(|| Value::from_word(unsafe { *self.items.add(index) }))
    }

    /// Replaces a forced thunk by its value, so that the next reader finds it at once.
    #[inline(always)]
    pub(crate) fn settle(&self, index: usize, value: Value) {
        if index < self.len() {
            // SAFETY: in bounds as above; constant lists hold no thunks, so memory that
            // several evaluators share is not written.
            unsafe { *self.items.add(index) = value.word() };
        }
    }

    /// Returns the elements, forced or not.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value> + DoubleEndedIterator + use<> {
        let list = *self;
        (0..list.len()).map(move |index| list.get(index).expect("below the length"))
    }

    pub(super) fn items(&self) -> *mut u64 {
        self.items
    }
}

/// A position of an attribute's name, as `Place::start`; 0 is nowhere.
pub type Pos = u32;

/// The names of an attribute set, sorted by symbol number, and where each stands.
#[derive(Clone, Copy)]
pub struct Keys(pub(super) Value);

impl Keys {
    /// Returns the number of names.
    #[inline(always)]
    pub fn len(self) -> usize {
        layout::large(self.0.header()) as usize
    }

    /// Returns whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline(always)]
    fn entry(self, index: usize) -> u64 {
        debug_assert!(index < self.len());
        self.0.field(1 + index)
    }

    /// Returns name `index` (in the order of symbols).
    #[inline(always)]
    pub fn name(self, index: usize) -> Symbol {
        assert!(index < self.len());
        Symbol::from_index(self.entry(index) as u32)
    }

    /// Returns where name `index` stands.
    #[inline(always)]
    pub fn pos(self, index: usize) -> Pos {
        assert!(index < self.len());
        (self.entry(index) >> 32) as u32
    }

    /// Returns the number of `name` in the order of symbols.
    #[inline(always)]
    pub(crate) fn find(self, name: Symbol) -> Option<usize> {
        let wanted = name.index();
        let len = self.len();
        // SAFETY: the entries of a keys object: `len` words after header and order.
        let entries = unsafe { std::slice::from_raw_parts(self.0.at().add(2), len) };
        if len <= 8 {
            return entries.iter().position(|&entry| entry as u32 == wanted);
        }
        let mut low = 0;
        let mut size = len;
        while size > 1 {
            let half = size / 2;
            let middle = low + half;
            // SAFETY: `low + size <= len` holds all along, and `half < size`.
            low = if unsafe { *entries.get_unchecked(middle) } as u32 <= wanted { middle } else { low };
            size -= half;
        }
        (entries[low] as u32 == wanted).then_some(low)
    }

    /// Returns the number of `name`, which may be where it was found last.
    #[inline(always)]
    fn find_near(self, name: Symbol, hint: &Hint) -> Option<usize> {
        let guess = hint.get();
        if guess < self.len() && self.entry(guess) as u32 == name.index() {
            return Some(guess);
        }
        let found = self.find(name)?;
        hint.set(found);
        Some(found)
    }

    pub(super) fn order_word(self) -> u64 {
        self.0.field(0)
    }
}

/// An attribute set.
///
/// Lookups work on every set. To walk over one, ask the evaluator for its flat or
/// sorted form: sets made by `//` may share what they were made of.
#[derive(Clone, Copy)]
pub struct Attrs(pub(super) Value);

impl Attrs {
    /// Returns the number of attributes.
    pub fn len(self) -> usize {
        layout::large(self.0.header()) as usize
    }

    /// Returns whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the attribute's value, forced or not.
    #[inline(always)]
    pub fn get(self, name: Symbol) -> Option<Value> {
        self.find(name).map(|(value, _)| value.get())
    }

    /// Returns whether there is such an attribute.
    pub fn has(self, name: Symbol) -> bool {
        self.find(name).is_some()
    }

    /// Returns where the attribute's name stands.
    pub fn pos(self, name: Symbol) -> Option<Pos> {
        self.find(name).map(|(_, pos)| pos)
    }

    /// Returns the attribute's slot, and where its name stands.
    #[inline(always)]
    pub(crate) fn find(self, name: Symbol) -> Option<(Slot, Pos)> {
        let mut set = self.0;
        loop {
            let header = set.header();
            if layout::kind(header) == Kind::Attrs {
                let flat = Flat(set);
                let index = flat.keys().find(name)?;
                return Some((flat.slot(index), flat.keys().pos(index)));
            }
            let whole = Value::from_word(set.field(2));
            if whole != Value::EMPTY {
                set = whole;
                continue;
            }
            let over = Flat(Value::from_word(set.field(1)));
            if let Some(index) = over.keys().find(name) {
                return Some((over.slot(index), over.keys().pos(index)));
            }
            set = Value::from_word(set.field(0));
        }
    }

    /// Returns the attribute's slot, looking first where it was found last.
    #[inline(always)]
    pub(crate) fn find_near(self, name: Symbol, hint: &Hint) -> Option<Slot> {
        let mut set = self.0;
        loop {
            if layout::kind(set.header()) == Kind::Attrs {
                let flat = Flat(set);
                return flat.keys().find_near(name, hint).map(|index| flat.slot(index));
            }
            let whole = Value::from_word(set.field(2));
            if whole != Value::EMPTY {
                set = whole;
                continue;
            }
            let over = Flat(Value::from_word(set.field(1)));
            if let Some(index) = over.keys().find_near(name, hint) {
                return Some(over.slot(index));
            }
            set = Value::from_word(set.field(0));
        }
    }

    /// Returns the set as a value.
    pub fn value(self) -> Value {
        self.0
    }

    /// Returns the set as a flat one, if it is.
    pub(super) fn as_flat(self) -> Option<Flat> {
        let header = self.0.header();
        if layout::kind(header) == Kind::Attrs {
            return Some(Flat(self.0));
        }
        let whole = Value::from_word(self.0.field(2));
        (whole != Value::EMPTY).then_some(Flat(whole))
    }
}

/// Where an attribute's value is kept.
#[derive(Clone, Copy)]
pub struct Slot(*mut u64);

impl Slot {
    /// Returns what is in it.
    #[inline(always)]
    pub fn get(self) -> Value {
        // SAFETY: a slot of an object that is alive: this word is an address inside it.
        Value::from_word(unsafe { *self.0 })
    }

    /// Replaces a forced thunk by its value. (Never called for a value that was no thunk.)
    #[inline(always)]
    pub(crate) fn settle(self, value: Value) {
        // SAFETY: as above; shared constant sets hold no thunks and are not written.
        unsafe { *self.0 = value.word() };
    }
}

/// An attribute set in one piece: attribute `i` has name `keys().name(i)` and value `get(i)`.
#[derive(Clone, Copy)]
pub struct Flat(pub(super) Value);

impl Flat {
    /// Returns the names.
    #[inline(always)]
    pub fn keys(self) -> Keys {
        Keys(Value::from_word(self.0.field(0)))
    }

    /// Returns the number of attributes.
    #[inline(always)]
    pub fn len(self) -> usize {
        layout::large(self.0.header()) as usize
    }

    /// Returns whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns value `index`, forced or not.
    pub fn get(self, index: usize) -> Value {
        self.slot(index).get()
    }

    #[inline(always)]
    pub(crate) fn slot(self, index: usize) -> Slot {
        assert!(index < self.len());
        Slot(self.0.at().wrapping_add(2 + index))
    }

    /// Returns the set.
    pub fn attrs(self) -> Attrs {
        Attrs(self.0)
    }

    /// Returns names and values in the order of symbols (not to be shown).
    pub fn iter(self) -> impl ExactSizeIterator<Item = (Symbol, Value)> {
        (0..self.len()).map(move |index| (self.keys().name(index), self.get(index)))
    }
}

/// An attribute set whose attributes are read in the order of their names.
#[derive(Clone, Copy)]
pub struct Sorted {
    pub(super) flat: Flat,
    pub(super) order: *const u32,
}

impl Sorted {
    /// Returns the number of attributes.
    pub fn len(&self) -> usize {
        self.flat.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the place, in the order of symbols, of attribute `index` in the order of names.
    pub fn place(&self, index: usize) -> usize {
        assert!(index < self.len());
        // SAFETY: the order has as many entries as the set has attributes; it is kept by the
        // keys, which the set keeps, which this view keeps.
        unsafe { *self.order.add(index) as usize }
    }

    /// Returns attribute `index` in the order of names.
    pub fn get(&self, index: usize) -> (Symbol, Value) {
        let place = self.place(index);
        (self.flat.keys().name(place), self.flat.get(place))
    }

    /// Returns where the name of attribute `index` stands.
    pub fn pos(&self, index: usize) -> Pos {
        self.flat.keys().pos(self.place(index))
    }

    pub(crate) fn slot(&self, index: usize) -> Slot {
        self.flat.slot(self.place(index))
    }

    /// Returns the set in the order of symbols.
    pub fn flat(&self) -> Flat {
        self.flat
    }

    /// Returns names and values in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Symbol, Value)> + use<> {
        let sorted = *self;
        (0..sorted.len()).map(move |index| sorted.get(index))
    }
}

/// A function of the language with what it captured.
#[derive(Clone, Copy)]
pub struct Closure(pub(super) Value);

impl Closure {
    /// Returns its code.
    #[inline(always)]
    pub fn lambda(self) -> &'static Lambda<'static, Words> {
        // SAFETY: closures are made by `Heap::closure` from such a reference.
        unsafe { &*(layout::code(self.0.header()) as *const Lambda<'static, Words>) }
    }

    /// Returns it as a value.
    pub fn value(self) -> Value {
        self.0
    }
}

/// A function with some of its arguments.
#[derive(Clone, Copy)]
pub struct Partial(pub(super) Value);

impl Partial {
    /// Returns the function: a closure or a builtin.
    pub fn function(self) -> Value {
        Value::from_word(self.0.field(0))
    }

    /// Returns how many arguments it has.
    pub fn len(self) -> usize {
        layout::large(self.0.header()) as usize
    }

    /// Returns whether it has none (it never has).
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns argument `index`.
    pub fn argument(self, index: usize) -> Value {
        assert!(index < self.len());
        Value::from_word(self.0.field(1 + index))
    }
}

/// A value that was not computed yet, or was.
#[derive(Clone, Copy)]
pub struct Thunk(pub(super) Value);

/// The states of a thunk.
pub(crate) enum ThunkState {
    Forced(Value),
    Suspended(&'static Suspension<'static, Words>),
    /// Function applied to arguments.
    Apply,
    /// Being forced: meeting it means that a value needs itself.
    Blackhole(Option<&'static Suspension<'static, Words>>),
}

impl Thunk {
    /// Returns the value if the thunk was forced.
    #[inline(always)]
    pub fn peek(self) -> Option<Value> {
        (layout::kind(self.0.header()) == Kind::Forced).then(|| Value::from_word(self.0.field(0)))
    }

    #[inline(always)]
    pub(crate) fn state(self) -> ThunkState {
        let header = self.0.header();
        let code = |header| {
            // SAFETY: thunks are made by `Heap::thunk` from such a reference.
            unsafe { &*(layout::code(header) as *const Suspension<'static, Words>) }
        };
        match layout::kind(header) {
            Kind::Forced => ThunkState::Forced(Value::from_word(self.0.field(0))),
            Kind::Thunk => ThunkState::Suspended(code(header)),
            Kind::Apply => ThunkState::Apply,
            Kind::Running => ThunkState::Blackhole(Some(code(header))),
            _ => ThunkState::Blackhole(None),
        }
    }

    fn set_kind(self, kind: Kind) {
        let header = self.0.header();
        // SAFETY: the header of a live thunk.
        unsafe { *self.0.at() = header & !0xff | kind as u64 };
    }

    /// Says that the thunk is being forced.
    #[inline(always)]
    pub(crate) fn blacken(self) {
        match layout::kind(self.0.header()) {
            Kind::Thunk => self.set_kind(Kind::Running),
            Kind::Apply => self.set_kind(Kind::ApplyRunning),
            kind => unreachable!("{kind:?} is not forced"),
        }
    }

    /// Takes [`Thunk::blacken`] back.
    pub(crate) fn whiten(self) {
        match layout::kind(self.0.header()) {
            Kind::Running => self.set_kind(Kind::Thunk),
            Kind::ApplyRunning => self.set_kind(Kind::Apply),
            _ => {}
        }
    }

    /// Ends forcing with a value.
    #[inline(always)]
    pub(crate) fn finish(self, value: Value) {
        debug_assert!(!value.is_thunk());
        let is_list = u32::from(value.as_list().is_some());
        // SAFETY: a live thunk has at least one word after its header.
        unsafe {
            *self.0.at().add(1) = value.word();
            *self.0.at() = layout::header(Kind::Forced, is_list, 0);
        }
    }

    /// Of an `Apply`: the function and its arguments.
    pub(crate) fn application(self) -> (Value, usize) {
        (Value::from_word(self.0.field(0)), layout::large(self.0.header()) as usize - 1)
    }

    /// Of an `Apply`: argument `index`.
    pub(crate) fn argument(self, index: usize) -> Value {
        assert!(index + 1 < layout::large(self.0.header()) as usize);
        Value::from_word(self.0.field(1 + index))
    }

    /// Returns it as a value.
    pub(crate) fn value(self) -> Value {
        self.0
    }
}

/// The values that running code captured: those of a closure or thunk.
#[derive(Clone, Copy)]
pub(crate) struct Captures(*mut u64);

impl Captures {
    /// Of code at top level, which captures nothing.
    pub(crate) const NONE: Self = Self(std::ptr::null_mut());

    #[inline(always)]
    pub(crate) fn of(holder: Value) -> Self {
        Self(holder.at())
    }

    /// Returns captured value `index`.
    #[inline(always)]
    pub(crate) fn get(self, index: u32) -> Value {
        // SAFETY: the resolver numbers captures as it lists them, and the holder was made with
        // all that its code lists (`Heap::closure`, `Heap::thunk`). It is alive: this address is
        // in a local of the evaluator.
        Value::from_word(unsafe { *self.0.add(1 + index as usize) })
    }

    /// Replaces what is captured (a forced thunk by its value; a late one of a `let`).
    #[inline(always)]
    pub(crate) fn set(self, index: u32, value: Value) {
        // SAFETY: as above.
        unsafe { *self.0.add(1 + index as usize) = value.word() };
    }
}
