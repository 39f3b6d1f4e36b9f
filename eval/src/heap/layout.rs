//! Words: how values and objects look in memory.
//!
//! A value is one word. Its low bits say what it is:
//!
//! ```text
//! …n1          integer of 63 bits
//! …p000        pointer to an object (what it is, its header says)
//! …p010        pointer to a thunk, forced or not
//! …100         null, true, false, a builtin, or an empty slot
//! ```
//!
//! An object starts with a header word: a kind in the low byte and either two
//! numbers (24 and 32 bits), or a count (8 bits) and the address of code (48 bits).
//!
//! | kind | numbers | words after the header |
//! |---|---|---|
//! | `Str` | context, length | bytes |
//! | `StrSlice` | context, length | owner, address of the bytes |
//! | `StrBuf` | –, bytes used | capacity in bytes, bytes |
//! | `Path` | –, length | bytes |
//! | `Float`, `BigInt` | | bits |
//! | `List` | depth, length | elements |
//! | `ListSlice` | depth, length | owner, address of the elements |
//! | `ListBuf` | –, elements used | capacity, elements |
//! | `Attrs` | depth, length | keys, values in the order of the keys |
//! | `Layered` | layers, length | base, what is laid over it, flat form or empty |
//! | `Keys` | –, length | order by name or empty, (symbol, position) each |
//! | `Order` | –, length | 4 bytes each |
//! | `Closure` | captures, code | captured values |
//! | `Partial` | –, arguments | function, arguments |
//! | `Thunk`, `Running` | captures, code | captured values |
//! | `Apply`, `ApplyRunning` | –, words | function, arguments |
//! | `Forced` | whether the value is a list, – | value |

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Free = 0,
    Str,
    StrSlice,
    StrBuf,
    Path,
    Float,
    BigInt,
    List,
    ListSlice,
    ListBuf,
    Attrs,
    Layered,
    Keys,
    Order,
    Closure,
    Partial,
    Thunk,
    Running,
    Apply,
    ApplyRunning,
    Forced,
}

const KINDS: [Kind; 32] = [
    Kind::Free,
    Kind::Str,
    Kind::StrSlice,
    Kind::StrBuf,
    Kind::Path,
    Kind::Float,
    Kind::BigInt,
    Kind::List,
    Kind::ListSlice,
    Kind::ListBuf,
    Kind::Attrs,
    Kind::Layered,
    Kind::Keys,
    Kind::Order,
    Kind::Closure,
    Kind::Partial,
    Kind::Thunk,
    Kind::Running,
    Kind::Apply,
    Kind::ApplyRunning,
    Kind::Forced,
    Kind::Free,
    Kind::Free,
    Kind::Free,
    Kind::Free,
    Kind::Free,
    Kind::Free,
    Kind::Free,
    Kind::Free,
    Kind::Free,
    Kind::Free,
    Kind::Free,
];

pub(super) const TAG_MASK: u64 = 7;
pub(super) const TAG_OBJECT: u64 = 0;
pub(super) const TAG_THUNK: u64 = 2;
pub(super) const TAG_IMMEDIATE: u64 = 4;

#[inline(always)]
pub(super) fn kind(header: u64) -> Kind {
    KINDS[(header & 0x1f) as usize]
}

#[inline(always)]
pub(super) const fn header(kind: Kind, small: u32, large: u32) -> u64 {
    kind as u64 | (small as u64) << 8 | (large as u64) << 32
}

#[inline(always)]
pub(super) fn code_header(kind: Kind, count: usize, code: usize) -> u64 {
    debug_assert!(code >> 48 == 0, "addresses of user space have 48 bits");
    kind as u64 | (count.min(255) as u64) << 8 | (code as u64) << 16
}

#[inline(always)]
pub(super) const fn small(header: u64) -> u32 {
    (header >> 8) as u32 & 0xff_ffff
}

#[inline(always)]
pub(super) const fn large(header: u64) -> u32 {
    (header >> 32) as u32
}

#[inline(always)]
pub(super) const fn count(header: u64) -> usize {
    (header >> 8 & 0xff) as usize
}

#[inline(always)]
pub(super) const fn code(header: u64) -> usize {
    (header >> 16) as usize
}
