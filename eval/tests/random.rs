//! Programs that nobody wrote (`support/programs.rs`), evaluated in every way that we have, and by the Nix that is installed.
//!
//! `AMPOULE_RANDOM=N` asks for N programs, `AMPOULE_RANDOM_SEED` for others than those of every day. A message
//! names the seed of each program that differs. Nix is asked about some of them if it is there: `AMPOULE_ORACLE`
//! names another command than `nix-instantiate`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ampoule_eval::{Settings, run};

mod support;

use support::programs::program;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The seeds of a test, told so that it can be run again.
fn seeds(every_day: u64) -> std::ops::Range<u64> {
    let (first, count) =
        (number("AMPOULE_RANDOM_SEED").unwrap_or(1), number("AMPOULE_RANDOM").unwrap_or(every_day));
    println!("AMPOULE_RANDOM_SEED={first} AMPOULE_RANDOM={count}");
    first..first + count
}

fn evaluate(text: &str, settings: Settings) -> Result<String, String> {
    let settings = Settings { stack_bytes: 64 << 20, ..settings };
    let result = run(settings, Arc::new(support::Plain::default()), |ev| {
        let value = ev.eval_text("«string»", Path::new("/"), text.as_bytes());
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print_bytes(value));
        let printed = printed.map_err(|error| error.message().to_owned())?;
        // Which lists are the same one depends on what was computed early; the command computes such a value again.
        let text = String::from_utf8_lossy(&printed.text).into_owned();
        if printed.repeats_list { Err(REPEATS.to_owned()) } else { Ok(text) }
    });
    result.expect("the system gives a thread")
}

/// Stands for a value that is printed with a list twice.
const REPEATS: &str = "a list is repeated";

/// A message without the value that it shows: what was computed early is shown as what it is.
fn without_value(answer: &Result<String, String>) -> Result<&str, &str> {
    match answer {
        Ok(text) => Ok(text),
        Err(message) => Err(message.split(['{', '[', '«']).next().unwrap_or_default()),
    }
}

#[test]
fn whenever_collected_and_whatever_put_off() {
    let mut wrong = Vec::new();
    for seed in seeds(300) {
        let text = program(seed);
        let plain = evaluate(&text, Settings::default());
        let others = [
            (
                "a collection at every turn",
                Settings { nursery_bytes: 0, min_deferred_bytes: 0, ..Settings::default() },
            ),
            (
                "a collection for every value",
                Settings { collect_every_bytes: Some(1), ..Settings::default() },
            ),
            ("everything as late as in Nix", Settings { shows_unforced: true, ..Settings::default() }),
        ];
        for (what, settings) in others {
            let other = evaluate(&text, settings);
            let is_late = what.ends_with("Nix");
            let is_same = match is_late {
                false => plain == other,
                true if plain == Err(REPEATS.to_owned()) || other == Err(REPEATS.to_owned()) => true,
                true => without_value(&plain) == without_value(&other),
            };
            if !is_same {
                wrong.push(format!("seed {seed}, {what}: {other:?}\n   else {plain:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn oracle() -> Option<Vec<String>> {
    let command = std::env::var("AMPOULE_ORACLE").unwrap_or_else(|_| "nix-instantiate".to_owned());
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let works = Command::new(&command[0]).args(&command[1..]).arg("--version").output();
    works.is_ok_and(|output| output.status.success()).then_some(command)
}

fn nix(command: &[String], text: &str) -> Result<String, String> {
    let output = Command::new(&command[0])
        .args(&command[1..])
        .args(["--eval", "--strict", "--store", "dummy://", "-E", text])
        .output()
        .expect("it ran before");
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_same_as_in_nix() {
    let Some(command) = oracle() else {
        println!("skipped: no nix-instantiate");
        return;
    };
    let mut wrong = Vec::new();
    let mut compared = 0;
    for seed in seeds(40) {
        let text = program(seed);
        let ours = evaluate(&text, Settings::default());
        if ours == Err(REPEATS.to_owned()) {
            continue;
        }
        compared += 1;
        let theirs = nix(&command, &text);
        let is_same = match (&ours, &theirs) {
            (Ok(a), Ok(b)) => a == b,
            // Versions differ in words; that it fails is the same.
            (Err(_), Err(_)) => true,
            _ => false,
        };
        if !is_same {
            wrong.push(format!("seed {seed}\n  ours {ours:?}\n  nix  {theirs:?}"));
        }
    }
    println!("{compared} compared");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
