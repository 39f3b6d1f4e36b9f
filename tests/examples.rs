//! The examples evaluate as they stand, stay short, and say what they make.
//!
//! Building them needs the network and minutes: `AMPOULE_EXAMPLES=hello,zlib cargo test --test examples` realises those
//! (by file name without extension; `all` for every one), twice, and compares. `examples/serve.sh NAME` runs an image.

use std::path::{Path, PathBuf};

use support::{ampoule, succeeds};

mod support;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn examples_in(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).expect("a folder of examples");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            examples_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "img") {
            found.push(path);
        }
    }
}

fn examples() -> Vec<PathBuf> {
    let mut found = Vec::new();
    examples_in(&folder(), &mut found);
    found.sort();
    assert!(found.len() > 10, "{found:?}");
    found
}

#[test]
fn examples_are_short_and_say_what_they_make() {
    for path in examples() {
        let text = std::fs::read_to_string(&path).expect("readable");
        let shown = path.display();
        assert!(text.lines().count() < 40, "{shown} has forty lines or more");
        assert!(text.starts_with("# "), "{shown} does not begin with what it makes");
        let file = path.strip_prefix(folder().parent().expect("the workspace")).expect("below it");
        let command = format!("#   ampoule realise {}", file.display());
        assert!(text.lines().any(|line| line == command), "{shown} does not show `{command}`");
    }
}

#[test]
fn examples_are_laid_out_by_the_formatter() {
    let home = tempfile::tempdir().expect("a directory");
    let output = ampoule(&["fmt", "--check", "."], home.path(), &folder());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn examples_evaluate_to_derivations() {
    let home = tempfile::tempdir().expect("a directory");
    for path in examples() {
        let args = ["eval", "--raw", "-A", "drvPath", &path.to_string_lossy()];
        let text = succeeds(&ampoule(&args, home.path(), &folder()));
        assert!(
            text.starts_with("/nix/store/") && text.trim_end().ends_with(".drv"),
            "{}: {text}",
            path.display()
        );
    }
}

#[test]
fn chosen_examples_build_and_repeat() {
    let chosen = std::env::var("AMPOULE_EXAMPLES").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split(',').filter(|name| !name.is_empty()).collect();
    if chosen.is_empty() {
        println!("skipped: AMPOULE_EXAMPLES names no example");
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let examples = examples();
    let name = |path: &Path| path.file_stem().expect("a file's name").to_string_lossy().into_owned();
    for wanted in chosen.iter().filter(|wanted| **wanted != "all") {
        assert!(examples.iter().any(|path| name(path) == *wanted), "no example is called `{wanted}`");
    }
    for path in examples {
        if chosen != ["all"] && !chosen.contains(&name(&path).as_str()) {
            continue;
        }
        for args in [&["realise", "--no-out-link"][..], &["realise", "--no-out-link", "--check"]] {
            let file = path.to_string_lossy();
            let args: Vec<&str> = args.iter().copied().chain([file.as_ref()]).collect();
            succeeds(&ampoule(&args, home.path(), &folder()));
        }
    }
}
