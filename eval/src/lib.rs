//! The evaluator: resolved expressions to values and derivations.

pub mod json;
pub mod number;
pub mod regex;
pub mod strings;
pub mod toml;
pub mod versions;
pub mod xml;
