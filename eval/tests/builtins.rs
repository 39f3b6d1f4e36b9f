//! Runs the examples of every builtin, and checks that what is said of it is complete.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ampoule_eval::{Builtin, Expect, Settings, TABLES, run};

mod support;

fn all() -> impl Iterator<Item = &'static Builtin> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// Evaluates and prints; the message of an error is the `Err`.
fn evaluate(text: &str, nursery_bytes: usize) -> Result<String, String> {
    let settings = Settings { nursery_bytes, stack_bytes: 64 << 20, ..Settings::default() };
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
