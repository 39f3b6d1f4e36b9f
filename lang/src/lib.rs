//! The language: text to resolved expressions.

pub mod near;
