//! Forcing all the way: `deepSeq`, and whatever is printed strictly.
//!
//! A list or set that was forced all the way stays so; its header says it, and the next walk ends there.
//! While a walk is inside of one, the header has the walk's number, so that values that contain
//! themselves end:
//!
//! ```text
//! let a = { b = [ a ]; }; in deepSeq a a       a: walk 0 · b: walk 0 · a again: nothing to do
//! ```
//!
//! `b` is deep only if `a` turns out to be, so it is *open* and is said to be deep when the whole walk
//! has succeeded. A walk that begins inside of another (a part that calls `deepSeq` itself) has another number, for it
//! must not take for done what the other one has yet to do.

use ampoule_lang::resolve::Place;

use crate::error::{EvalResult, shown_name};
use crate::evaluator::Evaluator;
use crate::heap::{Attrs, Depth, List, Value, View};

/// Parts of a value before which the stack is overwritten. Few parts are large ones, and they come first.
const FIRST_PARTS: usize = 8;
/// Bytes that are worth overwriting the stack for.
const MUCH_BYTES: u64 = 32 << 10;

/// One walk.
struct Walk {
    number: u32,
    /// What is forced all the way if the whole is. All of it can be reached from the whole, which is rooted.
    open: Vec<Value>,
}

impl Evaluator {
    /// Forces a value and everything in it. Values that contain themselves are fine.
    ///
    /// # Errors
    /// What any part fails with.
    pub fn force_deep(&mut self, value: Value) -> EvalResult<Value> {
        let value = self.force(value)?;
        let mut walk = Walk { number: self.deepenings, open: Vec::new() };
        let root = self.heap.root(value);
        self.deepenings += 1;
        let result = self.deepen(value, &mut walk);
        self.deepenings -= 1;
        let depth = if result.is_ok() { Depth::Deep } else { Depth::Unknown };
        walk.open.iter().for_each(|value| value.set_depth(depth));
        self.heap.unroot(root);
        result.map(|_| value)
    }

    /// Returns whether the value contains one that the walk is inside of.
    fn deepen(&mut self, value: Value, walk: &mut Walk) -> EvalResult<bool> {
        let parts = match value.view() {
            View::List(list) if !list.is_empty() => Parts::Elements(list),
            View::Attrs(attrs) if !attrs.is_empty() => Parts::Attributes(attrs),
            _ => return Ok(false),
        };
        let whole = match parts {
            Parts::Elements(_) => value,
            Parts::Attributes(attrs) => self.heap.flat(attrs).attrs().value(),
        };
        match whole.depth() {
            Depth::Deep => return Ok(false),
            Depth::Within(number) if number == walk.number => return Ok(true),
            Depth::Within(_) | Depth::Unknown => {}
        }
        self.check_depth()?;
        whole.set_depth(Depth::Within(walk.number));
        let result = match parts {
            Parts::Elements(list) => self.deepen_elements(list, walk),
            Parts::Attributes(attrs) => self.deepen_attributes(attrs, walk),
        };
        match result {
            Ok(false) => whole.set_depth(Depth::Deep),
            Ok(true) => walk.open.push(whole),
            Err(_) => whole.set_depth(Depth::Unknown),
        }
        result
    }

    fn deepen_elements(&mut self, list: List, walk: &mut Walk) -> EvalResult<bool> {
        let mut is_open = false;
        for index in 0..list.len() {
            self.forget_stack_for(index);
            let deep = self.force_element(list, index).and_then(|element| self.deepen(element, walk));
            is_open |= deep.map_err(|error| {
                error.in_part(format!("while evaluating list element at index {index}"), Place::NONE)
            })?;
        }
        Ok(is_open)
    }

    fn deepen_attributes(&mut self, attrs: Attrs, walk: &mut Walk) -> EvalResult<bool> {
        // Not in the order of names: what is told first is what Nix tells first.
        let flat = self.heap.flat(attrs);
        let mut is_open = false;
        for index in 0..flat.len() {
            self.forget_stack_for(index);
            let deep = self.force_slot(flat.slot(index)).and_then(|value| self.deepen(value, walk));
            is_open |= deep.map_err(|error| {
                let (name, pos) = (flat.keys().name(index), flat.keys().pos(index));
                let place = Place { start: pos, end: pos };
                error.while_(format!("while evaluating the attribute '{}'", shown_name(name)), place)
            })?;
        }
        Ok(is_open)
    }

    /// Before part `index` of a value is computed: what computing the last one left on the stack must not keep
    /// that alive meanwhile, if it was large.
    fn forget_stack_for(&mut self, index: usize) {
        if index >= FIRST_PARTS {
            return;
        }
        let allocated_bytes = self.heap.allocated_bytes();
        if allocated_bytes - self.forgotten_at_bytes >= MUCH_BYTES {
            self.forgotten_at_bytes = allocated_bytes;
            crate::heap::forget_stack();
        }
    }
}

/// What has parts.
#[derive(Clone, Copy)]
enum Parts {
    Elements(List),
    Attributes(Attrs),
}
