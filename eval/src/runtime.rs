//! What resolved code holds of ours: constants are values, and the names of a literal set are keys.

use ampoule_lang::resolve::Runtime;

use crate::heap::{Keys, Value};

/// The evaluator's side of resolved code.
#[derive(Clone, Copy, Debug)]
pub enum Words {}

impl Runtime for Words {
    type Value = Value;
    type Keys = Keys;
}
