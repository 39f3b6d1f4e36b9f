//! What the tests of the parser share: the programs of `tests/parse`, and a generator of others.

#![allow(dead_code, reason = "each test uses its part")]

pub mod generate;

use std::path::{Path, PathBuf};

use ampoule_lang::ParseOptions;

/// Returns the programs of `tests/parse`, sorted.
pub fn programs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parse");
    let mut programs: Vec<_> = std::fs::read_dir(folder)
        .expect("tests/parse is there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "img"))
        .collect();
    programs.sort();
    programs
}

/// Returns the switches that a program asks for in a comment.
pub fn options(program: &[u8]) -> ParseOptions {
    let asked = program.starts_with(b"# option: pipe-operators");
    ParseOptions { pipe_operators: asked }
}
