//! The rules of the house that no compiler checks: the arrows between the crates, one door to the
//! outside, `unsafe` in two places, and pages that name what is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CRATES: &[&str] = &["lang", "net", "store", "packages", "eval", "realise", "image", "cli"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file that git tracks, or would, relative to the root.
fn rust_files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).expect("our file names are UTF-8");
    let files: Vec<PathBuf> = text.lines().map(PathBuf::from).filter(|f| root().join(f).exists()).collect();
    assert!(files.len() > 20, "only {} Rust files", files.len());
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Lines of the sources of `folders` that contain one of `words` outside comments.
fn lines_with(folders: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in rust_files() {
        if !folders.iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        for (index, line) in read(&file).lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {code}", file.display(), index + 1));
            }
        }
    }
    found
}

#[test]
fn arrows_between_crates_go_one_way() {
    let allowed = [
        ("lang", &[][..]),
        ("net", &[]),
        ("store", &[]),
        ("packages", &["store"]),
        ("eval", &["lang", "store"]),
        ("realise", &["net", "store"]),
        ("image", &["net", "store"]),
    ];
    for (krate, arrows) in allowed {
        let manifest: toml::Table =
            read(&PathBuf::from(krate).join("Cargo.toml")).parse().expect("a manifest is TOML");
        let Some(dependencies) = manifest.get("dependencies").and_then(|d| d.as_table()) else { continue };
        for name in dependencies.keys().filter_map(|name| name.strip_prefix("ampoule-")) {
            assert!(arrows.contains(&name), "`{krate}` must not depend on `{name}`");
        }
    }
}

#[test]
fn lang_and_eval_reach_the_outside_through_world_only() {
    let doors =
        ["std::fs", "std::env", "std::net", "std::process", "SystemTime", "Instant::now", "File::open"];
    let found = lines_with(&["lang/src", "eval/src"], &doors);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_lives_in_the_sandbox_and_the_heap() {
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"];
    let found: Vec<String> = lines_with(CRATES, &words)
        .into_iter()
        .filter(|line| !line.starts_with("realise/src/sandbox") && !line.starts_with("eval/src/heap"))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_is_left_open() {
    let found = lines_with(CRATES, &["todo!(", "unimplemented!(", "#[ignore", "FIXME", "XXX"]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Names in back-ticks that look like paths (`crate/src/…`).
fn named_paths(text: &str) -> Vec<&str> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains('/') && !name.contains([' ', '\n', ':', '<', '$', '*']))
        .filter(|name| !name.starts_with(['/', '.', '~', '@']))
        .collect()
}

#[test]
fn the_architecture_page_names_what_is_there() {
    let text = read(Path::new("ARCHITECTURE.md"));
    let paths = named_paths(&text);
    assert!(paths.len() > 5, "it names no paths");
    for path in paths {
        assert!(root().join(path).exists(), "`{path}` is not there");
    }
}

#[test]
fn the_top_level_is_complete() {
    for name in [
        "Cargo.toml",
        "Cargo.lock",
        "lang",
        "eval",
        "store",
        "realise",
        "image",
        "cli",
        "stdlib",
        "examples",
        "tests",
        "docs",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        ".ci/run",
    ] {
        assert!(root().join(name).exists(), "{name} is missing");
    }
}

/// Every case has a line, every test that a line names is there, and every test that is named after a case has its line.
#[test]
fn each_case_names_its_tests() {
    let page = read(Path::new("docs/cases.md"));
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .filter(|row| row.starts_with(|first: char| first.is_ascii_digit()))
        .map(|row| row.split(" | ").collect())
        .collect();
    let numbers: Vec<usize> = rows.iter().map(|row| row[0].parse().expect("a number")).collect();
    assert_eq!(numbers, (1..=161).collect::<Vec<_>>());
    let mut functions = std::collections::BTreeSet::new();
    for file in rust_files() {
        for line in read(&file).lines().filter_map(|line| line.trim_start().strip_prefix("fn ")) {
            functions.extend(line.split_once('(').map(|(name, _)| name.to_owned()));
        }
    }
    for row in &rows {
        let [number, _, tests] = row[..] else { panic!("a line of three columns: {row:?}") };
        // What follows the names is a note.
        let names = tests.split("; ").next().unwrap_or_default();
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        // A line without a test begins with a dash, and says why.
        if !tests.starts_with('—') {
            assert!(!names.is_empty(), "case {number} has no test");
            let absent = names.iter().find(|name| !functions.contains(**name));
            assert_eq!(absent, None, "case {number} names a test that is not there");
        }
    }
    let after_a_case = |name: &&String| {
        let rest = name.strip_prefix("cases_").or_else(|| name.strip_prefix("case_"));
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    for name in functions.iter().filter(after_a_case) {
        assert!(page.contains(&format!("`{name}`")), "docs/cases.md does not name `{name}`");
    }
}
