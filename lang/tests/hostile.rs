//! Texts that nobody writes: any bytes, and nesting without end. Nothing may panic, overflow
//! the stack, or take time that grows faster than the text.
//!
//! `AMPOULE_FUZZ_ROUNDS` asks for more rounds than the default, which takes about a second.

mod common;

use std::fs;

use ampoule_lang::source::MAX_SOURCE_BYTES;
use ampoule_lang::{
    Diagnostic, ParseOptions, Source, SourceMap, names, parse_and_check, parse_with, print, render,
};
use common::generate::{Random, program};

/// Parses, prints or renders, and checks that all places lie in the text.
fn survives(bytes: Vec<u8>) -> Result<usize, Vec<Diagnostic>> {
    let sources = SourceMap::new();
    let source = sources.add("hostile.img", "/base", bytes);
    // What goes on behind an error, and what is said of names there.
    if let Err(errors) = parse_and_check(&source, ParseOptions::default()) {
        sound(&errors, &source);
    }
    match parse_with(&source, ParseOptions { pipe_operators: true }) {
        Ok(parsed) => {
            names::undefined(&parsed.ast, &source);
            Ok(print::to_nix(&parsed.ast, &source).len())
        }
        Err(errors) => {
            sound(&errors, &source);
            for error in &errors {
                render::to_json(error, &sources);
            }
            assert!(!render::render(&errors, &sources, true).is_empty());
            Err(errors)
        }
    }
}

/// Checks that there is an error, and that all places lie in the text.
fn sound(errors: &[Diagnostic], source: &Source) {
    assert!(!errors.is_empty(), "a failure has a reason");
    for error in errors {
        let labels = error.primary.iter().chain(&error.secondary);
        for span in labels.map(|label| label.at.span) {
            assert!(span.start <= span.end && span.end as usize <= source.bytes().len(), "{error:?}");
        }
    }
}

#[test]
fn any_bytes() {
    let rounds = std::env::var("AMPOULE_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3000);
    let mut seeds: Vec<Vec<u8>> = common::programs()
        .iter()
        .map(|program| fs::read(program).expect("a listed file can be read"))
        .collect();
    let mut random = Random::new(7);
    for _ in 0..50 {
        seeds.push(program(&mut random, 40).into_bytes());
    }
    const PIECES: &[&[u8]] = &[
        b"''",
        b"${",
        b"}",
        b"{",
        b"\"",
        b"(",
        b")",
        b"[",
        b"]",
        b";",
        b"=",
        b".",
        b"/",
        b"*/",
        b"/*",
        b"#",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\\",
        b"$",
        b"'",
        b"inherit",
        b"let",
        b"in",
        b"or",
        b"rec",
        b"@",
        b"?",
        b":",
        b"<",
        b">",
        b"~/",
        b"1.",
        b"99999999999999999999",
        b"|>",
        b"<|",
        b"\xc3",
        b"-",
        b"!",
        b"a",
        b" ",
    ];
    for _ in 0..rounds {
        let mut text = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(6) {
            let at = random.below(text.len() + 1);
            match random.below(4) {
                0 => {
                    let end = (at + random.below(12)).min(text.len());
                    text.drain(at..end);
                }
                1 => {
                    let other = &seeds[random.below(seeds.len())];
                    let start = random.below(other.len() + 1);
                    let end = (start + random.below(60)).min(other.len());
                    text.splice(at..at, other[start..end].iter().copied());
                }
                2 => text.truncate(at),
                _ => {
                    let piece = PIECES[random.below(PIECES.len())];
                    text.splice(at..at, piece.iter().copied());
                }
            }
        }
        let _ = survives(text);
    }
}

#[test]
fn nesting_without_end() {
    let deep = 200_000;
    let closed = |open: &str, middle: &str, close: &str| {
        let text = [open.repeat(deep), middle.to_owned(), close.repeat(deep)].concat();
        assert!(survives(text.into_bytes()).is_ok(), "{open}{middle}{close}");
    };
    closed("(", "1", ")");
    closed("[", "", "]");
    closed("{ a = ", "1", "; }");
    closed("x: ", "1", "");
    closed("\"${", "1", "}\"");
    closed("''${", "1", "}''");
    closed("!", "true", "");
    closed("-", "1", "");
    closed("1 + ", "1", "");
    closed("1 // ", "1", "");
    closed("1 -> ", "1", "");
    closed("(f ", "1", ")");
    closed("(", "f", " 1)");
    closed("", "1", " |> f");
    closed("if 1 then 2 else ", "3", "");
    closed("let a = 1; in ", "a", "");
    closed("let a = ", "1", "; in a");
    closed("with 1; ", "2", "");
    closed("{ a ? ", "1", " }: a");
    closed("x.a or ", "1", "");
    closed("{ ${", "\"a\"", "} = 1; }");
    closed("./a/${", "1", "}");
}

#[test]
fn wide_without_end() {
    let wide = 200_000;
    let good = |start: &str, piece: &str, end: &str| {
        let text = [start, &piece.repeat(wide), end].concat();
        assert!(survives(text.into_bytes()).is_ok(), "{start}{piece}{end}");
    };
    good("{ a", ".a", " = 1; }");
    good("a", ".a", "");
    good("a", "+a", "");
    good("a", " ? a", "");
    good("1", ".1", "");
    good("[ ", "a ", "]");
    good("\"", "\\n", "\"");
    good("''", "\n  ''$", "''");
    good("a/", "a/", "a");
    good("", "#\n", "1");
    good("", "/** a */", "x: 1");
    let numbered = |start: &str, piece: &dyn Fn(usize) -> String, end: &str| {
        let pieces: String = (0..wide).map(piece).collect();
        let text = [start, &pieces, end].concat();
        assert!(survives(text.into_bytes()).is_ok(), "{start}…{end}");
    };
    numbered("{", &|i| format!("a{i} = 1;"), "}");
    numbered("{", &|i| format!("a.b.c{i} = 1;"), "}");
    numbered("{", &|i| format!("a = {{ b{i} = 1; }};"), "}");
    numbered("{ a, ", &|i| format!("a{i}, "), "}: a");
}

#[test]
fn what_never_ends() {
    let many = 2_000_000;
    let bad = |piece: &str| {
        assert!(survives(piece.repeat(many / piece.len()).into_bytes()).is_err(), "{piece}");
    };
    for piece in
        ["[", "{", "(", "{a=", "\"${", "''${", "if ", "let a = ", "/*", "a.", "a/", "<a/", "~", "''", "'"]
    {
        bad(piece);
    }
    bad("{ a = 1; a = 2; } ");
}

#[test]
fn many_errors_are_counted() {
    let text = ["{ ", &"a = 1; ".repeat(50_000), "}"].concat();
    let errors = survives(text.into_bytes()).expect_err("`a` is defined many times");
    assert_eq!(errors.len(), 49_999);
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    // Zeros that nobody reads take no memory.
    let source = Source::new("long.img", "/base", vec![0; MAX_SOURCE_BYTES + 1]);
    let errors = parse_with(&source, ParseOptions::default()).expect_err("it is too long");
    assert_eq!(errors[0].code, ampoule_lang::codes::TOO_LARGE);
}
