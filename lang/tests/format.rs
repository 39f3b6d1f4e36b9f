//! The formatter: what it writes, that writing it again changes nothing, and that nothing is lost.
//!
//! Each `tests/format/NAME.img` is beside `NAME.exp`; `AMPOULE_ACCEPT=1 cargo test` writes them anew.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use ampoule_lang::fmt::format;
use common::generate::{Random, program};

fn programs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/format");
    let mut programs: Vec<_> = fs::read_dir(folder)
        .expect("tests/format is there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "img"))
        .collect();
    programs.sort();
    programs
}

/// Formats twice and checks what must hold for every program.
fn checked(text: &str, name: &str) -> String {
    let once = format(text).unwrap_or_else(|errors| panic!("{name}: {}\n{text}", errors[0].message));
    let twice = format(&once).unwrap_or_else(|errors| panic!("{name}, again: {}\n{once}", errors[0].message));
    assert_eq!(once, twice, "{name}: formatting it again changes it\n{text}");
    assert!(once.ends_with('\n') && !once.ends_with("\n\n"), "{name}: one line end at the end");
    once
}

#[test]
fn programs_are_formatted_as_expected() {
    let accept = std::env::var_os("AMPOULE_ACCEPT").is_some();
    let mut wrong = Vec::new();
    for file in programs() {
        let text = fs::read_to_string(&file).expect("a listed file can be read");
        let formatted = checked(&text, &file.display().to_string());
        let expectation = file.with_extension("exp");
        if accept {
            fs::write(&expectation, &formatted).expect("the expectation can be written");
        } else if fs::read_to_string(&expectation).ok().as_ref() != Some(&formatted) {
            wrong.push(format!("{} differs; now it is\n{formatted}", expectation.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_programs_of_the_parser_survive() {
    let mut formatted = 0;
    for file in common::programs() {
        let bytes = fs::read(&file).expect("a listed file can be read");
        let name = file.display().to_string();
        let Ok(text) = String::from_utf8(bytes) else { continue };
        if !name.ends_with("-fail.img") {
            checked(&text, &name);
            formatted += 1;
        }
    }
    assert!(formatted > 30);
}

#[test]
fn comments_survive_in_random_programs() {
    let rounds = std::env::var("AMPOULE_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let mut formatted = 0;
    for seed in 0..rounds {
        let text = program(&mut Random::new(seed), 5 + seed as usize % 60);
        // Some define an attribute twice; what cannot be understood is not formatted.
        if ampoule_lang::parse(&ampoule_lang::Source::new("random.img", "/", text.as_str())).is_err() {
            continue;
        }
        let after = checked(&text, &format!("program {seed}"));
        // No string of these programs has the words of their comments.
        for word in ["comment", "# one", "# two", "doc"] {
            assert_eq!(
                text.matches(word).count(),
                after.matches(word).count(),
                "program {seed}: a comment is lost\n{text}\n-----\n{after}"
            );
        }
        formatted += 1;
    }
    assert!(formatted > rounds / 2);
}

#[test]
fn what_is_no_program_is_not_formatted() {
    assert!(format("{ a = ").is_err());
    let deep = ["(".repeat(100_000), "1".to_owned(), ")".repeat(100_000)].concat();
    assert_eq!(format(&deep).expect_err("it is too deep")[0].code, ampoule_lang::codes::FORMAT);
    let deep = ["(".repeat(400), "1".to_owned(), ")".repeat(400)].concat();
    assert!(format(&deep).is_ok());
}
