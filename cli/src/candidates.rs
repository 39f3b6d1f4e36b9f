//! What the shell's TAB offers beside options: attributes, files, names of functions, packages, settings.
//!
//! The script that `ampoule completions` prints starts this program with `AMPOULE_COMPLETE` set; clap finds out which argument
//! is meant and asks one of the functions here. They look, and say nothing: an error means no candidates.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};

use crate::args::GlobalArgs;
use crate::patience::Watch;
use crate::realising::BuildArgs;
use crate::session::{ExpressionArgs, Session};
use crate::world::Keeps;

/// The variable that the shells' scripts set.
pub const VARIABLE: &str = "AMPOULE_COMPLETE";

/// How long finding out a file's attributes may take. A person waits.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Files of the language, and directories on the way to them.
pub fn sources() -> ArgValueCompleter {
    let is_source = |path: &Path| path.extension().is_some_and(|ending| ending == "img" || ending == "nix");
    ArgValueCompleter::new(PathCompleter::any().filter(move |path| path.is_dir() || is_source(path)))
}

/// Attribute paths of the files that stand on the line, or of `default.img`.
pub fn attributes() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let path = current.rsplit_once('.').map_or("", |(path, _)| path);
        let names = attribute_names(path).unwrap_or_default();
        let whole = |name: String| if path.is_empty() { name } else { format!("{path}.{name}") };
        matching(names.into_iter().map(whole), current)
    })
}

/// Builtins and functions of the library.
pub fn functions() -> ArgValueCompleter {
    of_names(|| crate::manual::entries().iter().map(|entry| entry.name.clone()).collect())
}

/// Codes of errors.
pub fn codes() -> ArgValueCompleter {
    of_names(|| ampoule_lang::codes::pages().map(|page| page.code.to_string()).collect())
}

/// Names of settings.
pub fn settings() -> ArgValueCompleter {
    of_names(|| crate::config::keys::KEYS.iter().map(|key| key.name.to_owned()).collect())
}

/// Packages of the lock file in this directory.
pub fn locked_packages() -> ArgValueCompleter {
    of_names(|| {
        let Ok(text) = std::fs::read_to_string("ampoule.lock") else { return Vec::new() };
        let Ok(lock) = serde_json::from_str::<serde_json::Value>(&text) else { return Vec::new() };
        let packages = lock["packages"].as_array().into_iter().flatten();
        packages.filter_map(|package| Some(package["name"].as_str()?.to_owned())).collect()
    })
}

fn of_names(names: impl Fn() -> Vec<String> + Send + Sync + 'static) -> ArgValueCompleter {
    struct Names<F>(F);
    impl<F: Fn() -> Vec<String> + Send + Sync + 'static> ValueCompleter for Names<F> {
        fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
            let Some(current) = current.to_str() else { return Vec::new() };
            matching((self.0)().into_iter(), current)
        }
    }
    ArgValueCompleter::new(Names(names))
}

fn matching(names: impl Iterator<Item = String>, current: &str) -> Vec<CompletionCandidate> {
    let mut found: Vec<String> = names.filter(|name| name.starts_with(current)).collect();
    found.sort();
    found.dedup();
    found.into_iter().map(CompletionCandidate::new).collect()
}

/// Names in the set that `path` leads to in the file that the line names.
fn attribute_names(path: &str) -> Option<Vec<String>> {
    // The words of the line stand behind `--`, the program's name first.
    let words: Vec<String> = std::env::args().skip_while(|word| word != "--").skip(3).collect();
    let is_file = |word: &&String| {
        let path = Path::new(word.as_str());
        path.is_dir() || path.extension().is_some_and(|ending| ending == "img" || ending == "nix")
    };
    let text_of = |flags: &[&str]| {
        let at = words.iter().position(|word| flags.contains(&word.as_str()))?;
        words.get(at + 1).cloned()
    };
    let expressions: Vec<String> = text_of(&["-E", "--expr"]).into_iter().collect();
    let files = if expressions.is_empty() {
        words.iter().filter(is_file).take(1).cloned().collect()
    } else {
        Vec::new()
    };
    let args =
        ExpressionArgs { files, expressions, system: text_of(&["--system"]), ..ExpressionArgs::default() };
    let config = GlobalArgs::default().config().ok()?;
    let options = BuildArgs::default().options(&config).ok()?;
    let session = Session::new(&args, &config, Keeps::Values, options).ok()?;
    let interrupt = session.settings.interrupt.clone();
    // The process ends when it has answered; nobody waits for this thread.
    let watch = Watch::process(PATIENCE);
    std::thread::spawn(move || {
        while !watch.is_over() {
            std::thread::sleep(LOOK);
        }
        interrupt.interrupt();
    });
    let _asleep = session.world.sleep();
    session.attribute_names(path)
}
