//! Runs the examples of every builtin, and checks that what is said of it is complete.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ampoule_eval::{Builtin, Expect, GLOBALS, Settings, TABLES, run};

mod support;

fn all() -> impl Iterator<Item = &'static Builtin> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// Evaluates and prints; the message of an error is the `Err`.
fn evaluate(text: &str, nursery_bytes: usize) -> Result<String, String> {
    let settings = Settings {
        nursery_bytes,
        min_deferred_bytes: nursery_bytes.min(48),
        stack_bytes: 64 << 20,
        ..Settings::default()
    };
    let result = run(settings, Arc::new(support::Plain::default()), |ev| {
        let value = ev.eval_text("«string»", Path::new("/"), text.as_bytes());
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print(value));
        printed.map_err(|error| error.message().to_owned())
    });
    result.expect("the system gives a thread")
}

#[test]
fn examples_give_what_they_say() {
    let mut wrong = Vec::new();
    for builtin in all() {
        for (text, expected) in builtin.examples {
            let found = evaluate(text, 8 << 20);
            let is_right = match (expected, &found) {
                (Expect::Shows(shown), Ok(found)) => found == shown,
                (Expect::Fails(part), Err(message)) => message.contains(part),
                _ => false,
            };
            if !is_right {
                wrong.push(format!("{text}\n  should be {expected:?}\n  but is {found:?}"));
            }
            // With a collection at every turn, a value that the collector cannot see shows up.
            let stressed = evaluate(text, 0);
            if stressed != found {
                wrong.push(format!(
                    "{text}\n  when memory is collected often: {stressed:?}\n  else: {found:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} examples are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_builtin_is_described() {
    let mut names = BTreeSet::new();
    for builtin in all() {
        let name = builtin.name;
        assert!(names.insert(name), "{name} is there twice");
        assert!(builtin.doc.ends_with('.'), "{name}: the text is sentences");
        assert!(!builtin.examples.is_empty(), "{name} has no example");
    }
}

/// Writes the page of all builtins.
fn page() -> String {
    use std::fmt::Write;
    let mut page = String::from(PAGE_HEAD);
    let mut builtins: Vec<&Builtin> = all().collect();
    builtins.sort_by_key(|builtin| builtin.name);
    for builtin in builtins {
        let params: String = builtin.params.iter().map(|param| format!(" *{param}*")).collect();
        let global = if GLOBALS.contains(&builtin.name) { " (also without `builtins.`)" } else { "" };
        write!(page, "\n## `{}`{params}{global}\n\n{}\n\n```nix\n", builtin.name, builtin.doc)
            .expect("a string");
        for (text, expected) in builtin.examples {
            let result = match expected {
                Expect::Shows(shown) => format!("# => {shown}"),
                Expect::Fails(part) => format!("# error: … {part} …"),
            };
            writeln!(page, "{text}\n{result}").expect("a string");
        }
        page.push_str("```\n");
    }
    page
}

const PAGE_HEAD: &str = "# Builtins\n\n\
    This page is written from the table of builtins by `AMPOULE_ACCEPT=1 cargo test -p ampoule-eval --test builtins`; \
    every example is run as a test. The functions are those of Nix 2.34 that exist without experimental features, \
    and their results are Nix's; where we differ, the text says so and why. Arguments are evaluated only when the \
    function needs them; what the text does not say to be forced is not. Costs are in the size of what is named, \
    O(n) where none is given.\n\n\
    Constants beside them: `builtins.true`, `builtins.false`, `builtins.null`, and `builtins.builtins`, the set itself.\n";

#[test]
fn the_page_says_what_the_table_says() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("docs/builtins.md");
    let wanted = page();
    if std::env::var_os("AMPOULE_ACCEPT").is_some() {
        std::fs::write(&file, &wanted).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "docs/builtins.md is out of date: run with AMPOULE_ACCEPT=1 and read the diff");
}
