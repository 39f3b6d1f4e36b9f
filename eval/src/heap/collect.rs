//! The collector: marks what can be reached, then frees the rest.
//!
//! Roots are exact where the evaluator keeps them (value stack, roots) and
//! guessed on the native stack: every aligned word from here up to the base of
//! the evaluator's thread, and the registers that a call must preserve. A word
//! that lies inside an object keeps that object.
//!
//! While marking, a reference to a forced thunk is replaced by its value, so that the thunk
//! itself goes: a list of a million forced elements ends as a million words. Thunks of lists stay: which
//! lists are the same one, as printing shows it, goes by the thunk (see `Evaluator::print`).

use std::arch::asm;

use ampoule_lang::resolve::{Lambda, Suspension};

use super::layout::{self, Kind, TAG_MASK, TAG_OBJECT, TAG_THUNK};
use super::{Heap, Value};
use crate::runtime::Words;

/// Slots that are looked at before the rest of a long object is put back.
const CHUNK: usize = 256;
/// Objects that are asked for before they are looked at.
const AHEAD: usize = 16;

impl Heap {
    /// Frees every object that nothing refers to.
    #[cold]
    #[inline(never)]
    pub(crate) fn collect(&mut self) {
        let mut registers = [0usize; 12];
        save_registers(&mut registers);
        self.forget_shared();
        self.space.begin_marking();
        let mut marker = Marker {
            pending: Vec::with_capacity(1024),
            announced: [std::ptr::null_mut(); AHEAD],
            first: 0,
            last: 0,
        };
        let from = std::ptr::from_ref(&registers) as usize;
        let native_bytes = self.stack_base.saturating_sub(from);
        marker.scan_native(self, from, native_bytes / 8);
        std::hint::black_box(&mut registers);
        let (slots, count) = self.stack.slots();
        marker.pending.push((slots, count));
        let roots = (self.roots.as_mut_ptr().cast::<u64>(), self.roots.len());
        marker.pending.push(roots);
        marker.drain(self);
        self.space.sweep(native_bytes + count * 8);
        self.collections += 1;
    }
}

/// Writes the registers that callees preserve, which may hold values of callers.
#[inline(always)]
fn save_registers(to: &mut [usize; 12]) {
    let at = to.as_mut_ptr();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: stores six registers into an array of twelve words.
    unsafe {
        asm!(
            "mov [{at}], rbx", "mov [{at} + 8], rbp", "mov [{at} + 16], r12",
            "mov [{at} + 24], r13", "mov [{at} + 32], r14", "mov [{at} + 40], r15",
            at = in(reg) at, options(nostack, preserves_flags)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: stores eleven registers into an array of twelve words.
    unsafe {
        asm!(
            "stp x19, x20, [{at}]", "stp x21, x22, [{at}, 16]", "stp x23, x24, [{at}, 32]",
            "stp x25, x26, [{at}, 48]", "stp x27, x28, [{at}, 64]", "str x29, [{at}, 80]",
            at = in(reg) at, options(nostack, preserves_flags)
        );
    }
}

struct Marker {
    /// Ranges of slots whose values are to be marked.
    pending: Vec<(*mut u64, usize)>,
    /// Slots whose objects are on their way from memory: numbers `first..last`, modulo the length.
    announced: [*mut u64; AHEAD],
    first: usize,
    last: usize,
}

/// Tells the processor that the memory at `address` is read soon.
#[inline(always)]
fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

impl Marker {
    /// Marks what `count` words of the native stack may refer to.
    fn scan_native(&mut self, heap: &mut Heap, from: usize, count: usize) {
        for index in 0..count {
            // SAFETY: between the current frame and the base of this thread's stack, aligned.
            // Read as volatile: these words belong to other frames.
            let word = unsafe { std::ptr::read_volatile((from as *const usize).add(index)) };
            if heap.space.covers(word)
                && let Some(object) = heap.space.find_object(word)
                && let Some(object) = heap.space.mark_exact(object as usize)
            {
                self.push_fields(object);
            }
        }
        self.drain(heap);
    }

    fn drain(&mut self, heap: &mut Heap) {
        loop {
            if let Some((slots, count)) = self.pending.pop() {
                let now = count.min(CHUNK);
                if count > now {
                    self.pending.push((slots.wrapping_add(now), count - now));
                }
                for index in 0..now {
                    self.announce(heap, slots.wrapping_add(index));
                }
            } else if self.first < self.last {
                let slot = self.announced[self.first % AHEAD];
                self.first += 1;
                if self.mark_slot(heap, slot) {
                    self.announce(heap, slot);
                }
            } else {
                return;
            }
        }
    }

    /// Asks for the memory that a slot refers to and comes back to it later, when it has arrived.
    #[inline(always)]
    fn announce(&mut self, heap: &mut Heap, mut slot: *mut u64) {
        loop {
            // SAFETY: a slot of an object, of the value stack or of the roots: holds a value.
            let word = unsafe { *slot };
            if word & TAG_MASK != TAG_OBJECT && word & TAG_MASK != TAG_THUNK {
                return;
            }
            prefetch((word & !TAG_MASK) as usize);
            let place = self.last % AHEAD;
            self.last += 1;
            if self.last - self.first <= AHEAD {
                self.announced[place] = slot;
                return;
            }
            // The ring is full: the oldest slot lies where this one goes.
            let oldest = std::mem::replace(&mut self.announced[place], slot);
            self.first += 1;
            if !self.mark_slot(heap, oldest) {
                return;
            }
            slot = oldest;
        }
    }

    /// Marks what a slot refers to. A forced thunk is replaced by its value instead: then it returns whether
    /// the slot is to be announced again, for the value's memory was not asked for yet.
    #[inline(always)]
    fn mark_slot(&mut self, heap: &mut Heap, slot: *mut u64) -> bool {
        // SAFETY: as in `announce`.
        let word = unsafe { *slot };
        match word & TAG_MASK {
            TAG_OBJECT => {}
            TAG_THUNK => {
                let at = (word & !TAG_MASK) as *const u64;
                // SAFETY: thunks in slots are live objects with a header and at least one field.
                unsafe {
                    if layout::kind(*at) == Kind::Forced && layout::small(*at) == 0 {
                        let value = *at.add(1);
                        *slot = value;
                        return value & TAG_MASK == TAG_OBJECT;
                    }
                }
            }
            _ => return false,
        }
        if let Some(object) = heap.space.mark_exact((word & !TAG_MASK) as usize) {
            self.push_fields(object);
        }
        false
    }

    /// Puts the slots of an object aside for marking.
    #[inline(always)]
    fn push_fields(&mut self, object: *mut u64) {
        // SAFETY: the header of an object that is alive.
        let header = unsafe { *object };
        let len = layout::large(header) as usize;
        let count = match layout::kind(header) {
            Kind::Free | Kind::Str | Kind::StrBuf | Kind::Path | Kind::Float | Kind::BigInt | Kind::Order => {
                return;
            }
            Kind::StrSlice | Kind::ListSlice | Kind::Keys | Kind::Forced => 1,
            Kind::List | Kind::Apply | Kind::ApplyRunning => len,
            Kind::ListBuf => {
                self.pending.push((object.wrapping_add(2), len));
                return;
            }
            Kind::Attrs | Kind::Partial => 1 + len,
            Kind::Layered => 3,
            kind @ (Kind::Closure | Kind::Thunk | Kind::Running) => count_captures(header, kind),
        };
        self.pending.push((object.wrapping_add(1), count));
    }
}

fn count_captures(header: u64, kind: Kind) -> usize {
    let count = layout::count(header);
    if count < 255 {
        return count;
    }
    // SAFETY: closures and thunks are made from such references (`Heap::closure`, `Heap::thunk`).
    unsafe {
        if kind == Kind::Closure {
            let code: &Lambda<'static, Words> = &*(layout::code(header) as *const _);
            code.captures.len()
        } else {
            let code: &Suspension<'static, Words> = &*(layout::code(header) as *const _);
            code.captures.len()
        }
    }
}

const _: () = assert!(size_of::<Value>() == 8);
