//! The `ampoule` command.

fn main() {}
