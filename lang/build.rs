//! Makes the parser's tables from `src/grammar.lalrpop`, and the table of error pages from `docs/errors/`.

use std::fmt::Write;
use std::path::Path;

fn main() {
    lalrpop::Configuration::new()
        .emit_rerun_directives(true)
        .set_in_dir("src")
        .process()
        .expect("the grammar is sound");
    error_pages();
}

/// Writes `error_pages.rs`: number and text of each `docs/errors/E0000.md`, sorted.
fn error_pages() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("Cargo sets it");
    let folder = Path::new(&root).join("../docs/errors");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut pages: Vec<_> = std::fs::read_dir(&folder)
        .expect("the error pages are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    pages.sort();
    let mut table = String::from("&[\n");
    for page in pages {
        let page = page.canonicalize().expect("the page was listed a moment ago");
        let name = page.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let number: u16 = name
            .strip_prefix('E')
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("{}: the name should be like E0007.md", page.display()));
        println!("cargo:rerun-if-changed={}", page.display());
        writeln!(table, "    (Code({number}), include_str!({:?})),", page)
            .expect("strings can be written to");
    }
    table.push(']');
    let out = std::env::var("OUT_DIR").expect("Cargo sets it");
    std::fs::write(Path::new(&out).join("error_pages.rs"), table).expect("the table can be written");
}
