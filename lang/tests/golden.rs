//! Each `tests/parse/NAME.img` beside what it parses to: `NAME.exp` is the tree as Nix prints it,
//! `NAME-fail.err` the errors as a terminal shows them.
//!
//! `AMPOULE_ACCEPT=1 cargo test` writes the expectations anew.

mod common;

use std::fs;

use ampoule_lang::{SourceMap, parse_and_check, parse_with, print, render};

#[test]
fn programs_parse_as_expected() {
    let accept = std::env::var_os("AMPOULE_ACCEPT").is_some();
    let mut wrong = Vec::new();
    let programs = common::programs();
    assert!(programs.len() > 80, "only {} programs in tests/parse", programs.len());
    for program in programs {
        let name = program.file_name().and_then(|name| name.to_str()).expect("our file names are UTF-8");
        let bytes = fs::read(&program).expect("a listed file can be read");
        let sources = SourceMap::new();
        let source = sources.add(name, "/base", bytes);
        let options = common::options(source.bytes());
        // Most programs here are about syntax alone and use names that nothing binds.
        let parsed = if name.starts_with("names-") {
            parse_and_check(&source, options)
        } else {
            parse_with(&source, options)
        };
        let should_fail = name.ends_with("-fail.img");
        let (extension, actual) = match &parsed {
            Ok(parsed) => {
                let mut text = print::to_nix(&parsed.ast, &source);
                text.push(b'\n');
                ("exp", text)
            }
            Err(errors) => ("err", render::render(errors, &sources, false).into_bytes()),
        };
        if parsed.is_err() != should_fail {
            wrong.push(format!("{name} should {} and does not", if should_fail { "fail" } else { "parse" }));
        }
        let expectation = program.with_extension(extension);
        if accept {
            fs::write(&expectation, &actual).expect("the expectation can be written");
        } else if fs::read(&expectation).ok().as_deref() != Some(&actual[..]) {
            let text = String::from_utf8_lossy(&actual);
            wrong.push(format!("{} differs; now it is\n{text}", expectation.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
