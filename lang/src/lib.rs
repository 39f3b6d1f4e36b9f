//! The language: text to resolved expressions.
