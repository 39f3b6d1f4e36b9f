//! Small expressions and what Nix 2.34 says of them, recorded.
//!
//! `tests/oracle/X.img` has an expression on each line; `X.exp` has, on the same line, what Nix prints, or
//! `error:` and the first line of its message. A line that starts with `#` is a comment, one that starts with `!`
//! an expression that must fail in both, in words of our own. `tests/oracle/traces` is the same, with what the trace
//! says before the error, from the outside inwards.
//!
//! `AMPOULE_ORACLE=nix-instantiate AMPOULE_ACCEPT=1` records anew, with a Nix of that version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ampoule_eval::{Settings, run};

mod support;

fn folder(traced: bool) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("tests/oracle");
    if traced { folder.join("traces") } else { folder }
}

/// Returns what we say of an expression.
fn ours(text: &str, traced: bool) -> String {
    let settings = Settings { stack_bytes: 64 << 20, ..Settings::default() };
    let result = run(settings, Arc::new(support::Plain::default()), |ev| {
        let value = ev.eval_text("«string»", Path::new("/"), text.as_bytes());
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print(value));
        printed.map_err(|error| {
            let frames = error.frames().rev().filter(|frame| traced && frame.text != "from call site");
            let frames = frames.map(|frame| format!("{} … ", frame.text)).collect::<String>();
            format!("{frames}error: {}", error.message().lines().next().unwrap_or_default())
        })
    });
    match result.expect("the system gives a thread") {
        Ok(printed) => printed,
        Err(told) => told,
    }
}

/// Returns what Nix says.
fn theirs(command: &str, text: &str, traced: bool) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a command"))
        .args(words)
        .args(["--eval", "--strict", "--read-write-mode", "-I", "", "-E", text])
        .args(traced.then_some("--show-trace"))
        .env_remove("NIX_PATH")
        .output()
        .expect("Nix runs");
    if output.status.success() {
        return String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    }
    let told = String::from_utf8_lossy(&output.stderr);
    // With a trace, the message comes last.
    let message = told.lines().map(str::trim_start).rfind(|line| line.starts_with("error: "));
    let message = message.unwrap_or("error: ");
    if !traced {
        return message.to_owned();
    }
    // Where a call stands is the place of the next frame with us.
    let frames = told.lines().filter_map(|line| line.trim_start().strip_prefix("… "));
    let frames = frames.filter(|frame| *frame != "from call site");
    frames.map(|frame| format!("{frame} … ")).collect::<String>() + message
}

fn expressions(file: &Path) -> Vec<String> {
    fs::read_to_string(file).expect("a corpus can be read").lines().map(str::to_owned).collect()
}

fn record(command: &str, lines: &[String], traced: bool) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let found = std::sync::Mutex::new(vec![String::new(); lines.len()]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(line) = lines.get(index) else { break };
                    if !line.is_empty() && !line.starts_with('#') {
                        let said = theirs(command, line.trim_start_matches('!'), traced);
                        found.lock().expect("no panic")[index] = said;
                    }
                }
            });
        }
    });
    found.into_inner().expect("no panic")
}

/// Tells whether two errors differ only in the values that they show: what we computed at once is a thunk
/// in Nix, and shown as such.
fn shows_more(wanted: &str, got: &str) -> bool {
    let Some(at) = wanted.find("«thunk»") else { return false };
    let opening = |text: &str| text.find(['{', '[']).unwrap_or(text.len());
    wanted.contains("error: ") && opening(wanted) < at && wanted[..opening(wanted)] == got[..opening(got)]
}

#[test]
fn expressions_give_what_nix_gave() {
    compare(false);
}

#[test]
fn errors_have_the_trace_that_nix_gave() {
    compare(true);
}

fn compare(traced: bool) {
    let oracle = std::env::var("AMPOULE_ORACLE").ok();
    let accept = std::env::var_os("AMPOULE_ACCEPT").is_some();
    let only = std::env::var("AMPOULE_ONLY").unwrap_or_default();
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut files: Vec<PathBuf> = fs::read_dir(folder(traced))
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "img"))
        .filter(|path| path.to_string_lossy().contains(&only))
        .collect();
    files.sort();
    for file in files {
        let lines = expressions(&file);
        let recorded = file.with_extension("exp");
        if let (Some(command), true) = (&oracle, accept) {
            fs::write(&recorded, record(command, &lines, traced).join("\n") + "\n")
                .expect("records can be written");
        }
        let expected = expressions(&recorded);
        assert_eq!(lines.len(), expected.len(), "{}: a record for each line", file.display());
        for (line, wanted) in lines.iter().zip(&expected) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            count += 1;
            let got = ours(line.trim_start_matches('!'), traced);
            let words_differ = line.starts_with('!') && wanted.contains("error: ") && got.contains("error: ");
            if got != *wanted && !words_differ && !shows_more(wanted, &got) {
                wrong.push(format!("{line}\n   nix  {wanted}\n   ours {got}"));
            }
        }
    }
    assert!(count > 0 || !only.is_empty(), "there is no expression");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}
