//! Evaluates a file or `-E TEXT` strictly, with files read as they are: a harness for measuring.
#![allow(missing_docs, reason = "a program")]

use std::sync::Arc;

use ampoule_eval::Settings;

#[path = "../tests/support/mod.rs"]
mod support;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let dir = std::env::current_dir().expect("there is a current directory");
    let world = Arc::new(support::Plain::default());
    let stats = std::env::var_os("AMPOULE_STATS").is_some();
    let mut settings = Settings::default();
    if let Some(bytes) = std::env::var("AMPOULE_NURSERY").ok().and_then(|text| text.parse().ok()) {
        settings.nursery_bytes = bytes;
    }
    let result = ampoule_eval::run(settings, world, move |ev| {
        let value = if arguments[0] == "-E" {
            ev.eval_text("«string»", &dir, arguments[1].as_bytes())
        } else {
            ev.eval_file(&dir.join(&arguments[0]))
        };
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print(value));
        if stats {
            eprintln!("{:?} {}", ev.stats(), ev.memory());
        }
        printed.map_err(|error| {
            let mut text = format!("error: {error}\n       at {}\n", ev.show_position(error.place().start));
            for frame in error.frames() {
                text += &format!("       … {} at {}\n", frame.text, ev.show_position(frame.place.start));
            }
            for (place, label) in error.labels() {
                text += &format!("       {label}: {}\n", ev.show_position(place.start));
            }
            for hint in error.hints() {
                text += &format!("       hint: {hint}\n");
            }
            text + &error.diagnostics().iter().map(|d| format!("{d:?}\n")).collect::<String>()
        })
    });
    match result.expect("the system gives a thread") {
        Ok(text) => println!("{text}"),
        Err(text) => {
            eprint!("{text}");
            std::process::exit(1);
        }
    }
}
