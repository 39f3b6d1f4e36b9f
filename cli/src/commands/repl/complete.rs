//! What may come next: commands, names, attributes, files.
//!
//! Completing looks, and changes nothing. Attributes of a set are listed without computing their values. Where the way to a
//! set must be computed, that happens within a few milliseconds or not at all: nothing is built, fetched, copied or printed
//! meanwhile, and what takes longer is interrupted and left as it was.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use ampoule_eval::{EvalResult, Interrupt, Resume, Value, View};
use ampoule_lang::Symbol;
use rustyline::completion::{Completer, Pair};

use super::line::{KEYWORDS, LineHelper};
use super::scope::{self, Opening, Scope};
use super::state::State;
use crate::patience::Watch;
use crate::world::ProjectWorld;

/// How long computing the way to a set may take.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(4);

/// Stops an evaluation that a person did not ask for.
pub struct Budget<'a> {
    /// The world that must not act meanwhile.
    pub world: &'a ProjectWorld,
    /// Stops the evaluation.
    pub interrupt: Interrupt,
    /// Lets it go on.
    pub resume: Resume,
}

impl Budget<'_> {
    /// Runs `work`, and interrupts its evaluation when time is up.
    fn spend<T>(&self, work: impl FnOnce() -> T) -> T {
        let asleep = self.world.sleep();
        let (done, waiting) = mpsc::channel::<()>();
        let watch = Watch::this_thread(PATIENCE);
        let result = std::thread::scope(|scope| {
            let interrupt = &self.interrupt;
            scope.spawn(move || {
                while waiting.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                    if watch.is_over() {
                        return interrupt.interrupt();
                    }
                }
            });
            let result = work();
            drop(done);
            result
        });
        // The watch has ended: nothing interrupts any more.
        self.resume.resume();
        drop(asleep);
        result
    }
}

impl Completer for LineHelper<'_, '_> {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = complete(self.state, &self.budget, &line[..pos]);
        Ok((start, found.into_iter().map(|text| Pair { display: text.clone(), replacement: text }).collect()))
    }
}

/// What may stand at the end of a text, and where it starts.
fn complete(state: &RefCell<State<'_>>, budget: &Budget<'_>, before: &str) -> (usize, Vec<String>) {
    if before.starts_with(':') && !before.contains(' ') {
        let found = super::commands::names().filter(|name| name.starts_with(before));
        return (0, found.map(str::to_owned).collect());
    }
    let word_start = before
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || "_'-./~".contains(c)))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let word = &before[word_start..];
    let takes_file = before.starts_with(":l ") || before.starts_with(":load ");
    if takes_file || word.starts_with(['.', '/', '~']) {
        return files(&state.borrow().dir, word, word_start);
    }
    // Behind a command's own word an expression begins.
    let typed = before[..word_start]
        .strip_prefix(':')
        .map_or(&before[..word_start], |command| command.split_once(' ').map_or("", |(_, text)| text));
    let scope = scope::at_end(typed);
    let mut state = state.borrow_mut();
    match word.rsplit_once('.') {
        Some((path, partial)) => {
            (before.len() - partial.len(), attributes(&mut state, budget, &scope, path, partial))
        }
        None => (word_start, names(&mut state, budget, &scope, word)),
    }
}

fn names(state: &mut State<'_>, budget: &Budget<'_>, scope: &Scope, partial: &str) -> Vec<String> {
    let known = state.names().map(|name| name.to_string());
    let globals = ampoule_eval::GLOBALS.iter().chain(KEYWORDS).map(|word| (*word).to_owned());
    let own = scope.names.iter().cloned();
    let mut found: Vec<String> =
        known.chain(globals).chain(own).filter(|name| name.starts_with(partial)).collect();
    for (index, opening) in scope.openings.iter().enumerate() {
        if let Opening::With(set) = opening {
            let text = within(&scope.openings[..index], set);
            let value = budget.spend(|| evaluate(state, &text));
            found.extend(value.map(|set| attribute_names(state, set, partial)).unwrap_or_default());
        }
    }
    found.sort();
    found.dedup();
    found
}

/// An expression with what is open around it.
fn within(openings: &[Opening], expression: &str) -> String {
    let mut text: String = openings.iter().map(|one| one.text() + " ").collect();
    text.push_str(expression);
    text
}

/// The value of a text that a line has come to.
fn evaluate(state: &mut State<'_>, text: &str) -> EvalResult<Value> {
    let value = state.eval("«completion»", text)?;
    state.ev.guarded(|ev| ev.force(value))
}

/// Attributes of what `path` leads to, if that is a set and is reached in time.
fn attributes(
    state: &mut State<'_>,
    budget: &Budget<'_>,
    scope: &Scope,
    path: &str,
    partial: &str,
) -> Vec<String> {
    let first = path.split('.').next().unwrap_or_default();
    let is_own = scope.names.iter().any(|name| name == first);
    let mut found = Ok(None);
    if !is_own {
        found = budget.spend(|| reach(state, path));
    }
    if matches!(found, Ok(None)) && !scope.openings.is_empty() {
        let text = within(&scope.openings, path);
        found = budget.spend(|| evaluate(state, &text)).map(Some);
    }
    let Ok(Some(value)) = found else { return Vec::new() };
    attribute_names(state, value, partial)
}

fn attribute_names(state: &mut State<'_>, value: Value, partial: &str) -> Vec<String> {
    let View::Attrs(attrs) = value.view() else { return Vec::new() };
    let sorted = state.ev.heap().sorted(attrs);
    let mut found = Vec::new();
    for (name, _) in sorted.iter() {
        let mut text = String::new();
        ampoule_eval::write_name(&mut text, name);
        if text.starts_with(partial) {
            found.push(text);
        }
    }
    found
}

/// Goes from a name along attributes; only what lies on the way is computed.
fn reach(state: &mut State<'_>, path: &str) -> EvalResult<Option<Value>> {
    let mut parts = path.split('.');
    let first = parts.next().unwrap_or_default();
    let mut value = match state.value(first) {
        Some(value) => value,
        None if first == "builtins" => state.eval("«completion»", first)?,
        None => return Ok(None),
    };
    for part in parts {
        let value_here = state.ev.force(value)?;
        let View::Attrs(attrs) = value_here.view() else { return Ok(None) };
        match attrs.get(Symbol::intern(part)) {
            Some(next) => value = next,
            None => return Ok(None),
        }
    }
    state.ev.guarded(|ev| ev.force(value)).map(Some)
}

/// Names in the directory that a word has come to; a directory's with `/` behind.
fn files(base: &std::path::Path, word: &str, start: usize) -> (usize, Vec<String>) {
    let (dir, partial) = word.rsplit_once('/').map_or(("", word), |(dir, partial)| (dir, partial));
    let at = match dir.strip_prefix('~') {
        Some(rest) => std::env::var_os("HOME")
            .map_or(base.to_owned(), |home| PathBuf::from(home).join(rest.trim_start_matches('/'))),
        None if word.starts_with('/') => PathBuf::from(format!("{dir}/")),
        None => base.join(dir),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        let Ok(mut name) = entry.file_name().into_string() else { continue };
        if !name.starts_with(partial) || (partial.is_empty() && name.starts_with('.')) {
            continue;
        }
        if entry.path().is_dir() {
            name.push('/');
        }
        found.push(name);
    }
    found.sort();
    (start + word.len() - partial.len(), found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use ampoule_eval::Settings;
    use ampoule_store::{StoreDir, StoreRoot};

    use super::*;
    use crate::world::{Keeps, WorldOptions};

    /// Runs `check` with a state in which `text` is called `it`, and all of its attributes are in scope.
    fn with_scope(text: &str, check: impl FnOnce(&RefCell<State<'_>>, &Budget<'_>) + Send) {
        let dir = tempfile::tempdir().expect("a directory");
        let options = WorldOptions {
            roots: vec![dir.path().to_owned()],
            impure: false,
            restricted: false,
            search_path: Vec::new(),
            store_root: Some(StoreRoot::new(dir.path().join("store"))),
            store_dir: StoreDir::new("/nix/store").expect("the usual one"),
            keeps: Keeps::Values,
        };
        let world = Arc::new(ProjectWorld::new(options, None));
        let settings = Settings::default();
        let interrupt = settings.interrupt.clone();
        ampoule_eval::run(settings, world.clone(), |ev| {
            let budget = Budget { world: &world, resume: interrupt.pause(), interrupt };
            let mut state = State::new(ev, dir.path().to_owned());
            let value = state.eval("«test»", text).unwrap_or_else(|e| panic!("{}", e.message()));
            state.bind(Symbol::intern("it"), value);
            state.bind_all(value).unwrap_or_else(|e| panic!("{}", e.message()));
            check(&RefCell::new(state), &budget);
        })
        .expect("a thread");
    }

    #[test]
    fn names_attributes_and_commands_are_completed() {
        with_scope("{ alpha = { beta = 1; \"a b\" = 2; }; alphabet = 1; }", |state, budget| {
            let check = |before: &str, expected: &[&str]| {
                assert_eq!(complete(state, budget, before).1, expected, "{before}");
            };
            check("alph", &["alpha", "alphabet"]);
            check("1 + alpha.", &["\"a b\"", "beta"]);
            check("it.alpha.b", &["beta"]);
            check("builtins.elemA", &["elemAt"]);
            check("let x = { one = 1; }; in [ x.", &["one"]);
            check("let x = { one = 1; }; y = x.o", &["one"]);
            check("let alphabetic = 1; in alphabe", &["alphabet", "alphabetic"]);
            check("with alpha; bet", &["beta"]);
            check("let x = it; in with x.alpha; bet", &["beta"]);
            check("with { alpha = { gamma = 1; }; }; alpha.b", &["beta"]);
            check("with { delta = { gamma = 1; }; }; delta.", &["gamma"]);
            check("{ betamax, alpha }: bet", &["betamax"]);
            check("{ betamax, alpha }: alpha.", &[]);
            check(":p let x = { one = 1; }; in x.", &["one"]);
            check("\"text ${it.alpha.be", &["beta"]);
            check("alphabet.", &[]);
            check("nothing.", &[]);
            check(":re", &[":reload"]);
        });
    }

    /// What would diverge, throw, build, copy or print is left alone, and still works as before afterwards.
    #[test]
    fn completing_changes_nothing() {
        let text = "let forever = n: forever (n + 1); in {
            diverges = forever 0; deep = let f = n: 1 + f (n + 1); in f 0;
            throws = throw \"no\"; says = builtins.trace \"spoken\" { a = 1; };
            file = builtins.seq \"${./.}\" { a = 1; }; self = { a = 1; };
        }";
        with_scope(text, |state, budget| {
            let began = Instant::now();
            for name in ["diverges", "deep", "throws", "file"] {
                let found = complete(state, budget, &format!("{name}.")).1;
                assert!(found.is_empty(), "{name}: {found:?}");
            }
            // Two of them run out of patience; how long that is on a busy machine is not for a test to say.
            assert!(began.elapsed() < Duration::from_secs(20));
            assert_eq!(complete(state, budget, "says.").1, ["a"]);
            assert_eq!(complete(state, budget, "self.").1, ["a"]);
            let mut state = state.borrow_mut();
            let value = state.eval("«test»", "file.a + self.a").expect("it can still be computed");
            assert_eq!(state.ev.print(value).expect("a number"), "2");
        });
    }

    #[test]
    fn an_evaluation_that_is_stopped_says_so_and_nothing_else() {
        with_scope("{ }", |state, budget| {
            let mut state = state.borrow_mut();
            let text = "let f = { a = [ 1 ]; }; in builtins.length f.a";
            budget.interrupt.interrupt();
            let error = state.eval("«test»", text).expect_err("it was stopped");
            assert_eq!(error.kind(), ampoule_eval::ErrorKind::Interrupted, "{}", error.message());
            budget.resume.resume();
            assert!(state.eval("«test»", text).is_ok());
        });
    }

    /// A set of thousands: listing its names computes none of its values.
    #[test]
    fn a_large_set_is_listed_without_computing_it() {
        let text = "{ pkgs = builtins.listToAttrs (builtins.genList (n: {
            name = \"package-${toString n}\"; value = throw \"computed ${toString n}\";
        }) 20000); }";
        with_scope(text, |state, budget| {
            // The set itself may take longer than a completion waits for: a person's line computes it once.
            state
                .borrow_mut()
                .eval("«test»", "builtins.length (builtins.attrNames pkgs)")
                .expect("names only");
            let calls = state.borrow().ev.stats().calls;
            let began = Instant::now();
            let found = complete(state, budget, "pkgs.package-1999").1;
            println!("11 of 20000 names in {:?}", began.elapsed());
            assert_eq!(found.len(), 11, "{found:?}");
            assert_eq!(state.borrow().ev.stats().calls, calls);
        });
    }
}
