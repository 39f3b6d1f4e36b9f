//! The evaluator: resolved expressions to values and derivations.
