//! The value stack: frames of running code, one after the other.
//!
//! It is a reserved range that never moves, so that a frame is an address.

use super::Value;
use super::space::reserve;

/// Bytes reserved for the value stack.
const STACK_BYTES: usize = 8 << 30;
/// Slots kept free at the end, for frames that are larger than what `push` checks.
const MARGIN_SLOTS: usize = 1 << 16;

/// The slots of one running body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame(*mut u64);

impl Frame {
    /// Returns what is in `slot`.
    #[inline(always)]
    pub(crate) fn get(self, slot: u32) -> Value {
        // SAFETY: the resolver gives slots below the frame's size only, and every frame is
        // pushed with that size; a slot is written before it is read (EMPTY by `push`).
        Value::from_word(unsafe { *self.0.add(slot as usize) })
    }

    /// Returns the slots from `count` on.
    pub(crate) fn after(self, count: usize) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Sets `slot`.
    #[inline(always)]
    pub(crate) fn set(self, slot: u32, value: Value) {
        // SAFETY: as above.
        unsafe { *self.0.add(slot as usize) = value.word() };
    }
}

/// All frames.
pub(super) struct Stack {
    base: *mut u64,
    top: *mut u64,
    end: *mut u64,
    mapping: (usize, usize),
}

impl Stack {
    pub(super) fn new() -> Self {
        let (start, bytes) = reserve(STACK_BYTES);
        let base = start as *mut u64;
        let slots = bytes / 8 - MARGIN_SLOTS;
        Self { base, top: base, end: base.wrapping_add(slots), mapping: (start, bytes) }
    }

    /// Returns the current top, to be given to [`Stack::pop_to`].
    #[inline(always)]
    pub(super) fn mark(&self) -> Frame {
        Frame(self.top)
    }

    /// Makes a frame of `slots` empty slots, or returns `None` when the stack is full.
    #[inline(always)]
    pub(super) fn push(&mut self, slots: usize) -> Option<Frame> {
        let frame = self.top;
        let top = frame.wrapping_add(slots);
        if top > self.end || slots > MARGIN_SLOTS && slots > (self.end as usize - frame as usize) / 8 {
            return None;
        }
        for index in 0..slots {
            // SAFETY: below `end`, inside our mapping.
            unsafe { *frame.add(index) = Value::EMPTY.word() };
        }
        self.top = top;
        Some(Frame(frame))
    }

    /// Moves `count` slots from `from` down to `to` and makes a frame of `slots` slots there.
    #[inline(always)]
    pub(super) fn slide(&mut self, from: Frame, to: Frame, count: usize, slots: usize) -> Option<()> {
        let top = to.0.wrapping_add(slots.max(count));
        if top > self.end {
            return None;
        }
        // SAFETY: both ranges are on the stack: `from` was pushed with `count` slots, and `to`
        // is a frame below it.
        unsafe { std::ptr::copy(from.0, to.0, count) };
        for index in count..slots {
            // SAFETY: below `end`.
            unsafe { *to.0.add(index) = Value::EMPTY.word() };
        }
        self.top = top;
        Some(())
    }

    /// Removes everything above `mark`.
    #[inline(always)]
    pub(super) fn pop_to(&mut self, mark: Frame) {
        debug_assert!(mark.0 >= self.base && mark.0 <= self.top);
        self.top = mark.0;
    }

    pub(super) fn slots(&self) -> (*mut u64, usize) {
        (self.base, (self.top as usize - self.base as usize) / 8)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the range that `reserve` mapped; frames do not outlive their evaluator.
        unsafe { libc::munmap(self.mapping.0 as *mut libc::c_void, self.mapping.1) };
    }
}
