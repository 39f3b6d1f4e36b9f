//! The store: paths, formats and the objects themselves.
