//! The recorded expressions with a collection before every value that is made: one that the collector cannot see, or that
//! it takes for another, shows up here.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ampoule_eval::{Settings, run};

mod support;

fn evaluate(text: &str, collect_every_bytes: Option<usize>) -> Result<String, String> {
    let settings = Settings { collect_every_bytes, stack_bytes: 64 << 20, ..Settings::default() };
    let result = run(settings, Arc::new(support::Plain::default()), |ev| {
        let value = ev.eval_text("«string»", Path::new("/"), text.as_bytes());
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print(value));
        printed.map_err(|error| error.message().to_owned())
    });
    result.expect("the system gives a thread")
}

#[test]
fn recorded_expressions_survive_the_collector() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("tests/oracle");
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "img"))
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("a corpus can be read");
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let line = line.trim_start_matches('!');
            let (plain, stressed) = (evaluate(line, None), evaluate(line, Some(1)));
            count += 1;
            if plain != stressed {
                wrong.push(format!("{line}\n   {plain:?}\n   {stressed:?}"));
            }
        }
    }
    assert!(count > 1000, "only {count} expressions");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}
