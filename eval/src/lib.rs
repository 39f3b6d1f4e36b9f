//! The evaluator: resolved expressions to values and derivations.

pub mod json;
pub mod number;
pub mod regex;
