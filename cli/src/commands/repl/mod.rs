//! `ampoule repl`: explore values and packages line by line.
//!
//! The evaluator lives on one thread and so does the loop: a line is read, evaluated, and its value printed
//! as far as it is known. ^C stops the evaluation and not the REPL.

mod line;
mod show;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ampoule_eval::{ErrorKind, EvalError, EvalResult, Evaluator, NamedArguments, Root, Value};
use ampoule_lang::Symbol;
use ampoule_realise::Wanted;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config as LineConfig, Editor};

use crate::args::GlobalArgs;
use crate::config::{Config, xdg_dir};
use crate::error::{CliError, ExitStatus};
use crate::realising::BuildArgs;
use crate::session::{ExpressionArgs, Session};
use crate::signals::Stop;
use crate::ui::Ui;
use crate::world::Keeps;
use line::LineHelper;

/// Explore expressions and packages line by line
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule repl                        `std` is the library; TAB completes names and attributes
  ampoule repl packages.img           the attributes of a file in scope")]
pub struct Args {
    #[command(flatten)]
    expression: ExpressionArgs,
}

const HELP: &str = "\
  EXPR               evaluate; the value is `it` from then on
  NAME = EXPR        give it a name
  :a EXPR            bring the attributes of a set into scope
  :b EXPR            build a derivation or an image
  :doc EXPR          what a function does
  :i EXPR            inspect a value: its type, a derivation's paths, a set's names
  :l FILE            bring the attributes of a file into scope
  :log EXPR          the log of a derivation's last build
  :p EXPR            print all of a value
  :q                 leave
  :r                 load the files again
  :t EXPR            the type of a value
  :?                 this list";

/// What the lines have made so far.
pub struct State<'e> {
    ev: &'e mut Evaluator,
    scope: BTreeMap<Symbol, Root>,
    dir: PathBuf,
    lines: usize,
    loaded: Vec<String>,
}

impl State<'_> {
    /// Evaluates a text with all names in scope.
    fn eval(&mut self, name: &str, text: &str) -> EvalResult<Value> {
        let names: Vec<Symbol> = self.scope.keys().copied().collect();
        // Roots keep the values; this is a view of them for the call.
        let scope: Vec<(Symbol, Value)> =
            names.iter().map(|name| (*name, self.ev.heap().rooted(self.scope[name]))).collect();
        self.ev.eval_text_in(name, &self.dir, text.as_bytes(), &scope)
    }

    fn bind(&mut self, name: Symbol, value: Value) {
        match self.scope.get(&name) {
            Some(&root) => self.ev.heap().set_root(root, value),
            None => {
                let root = self.ev.heap().root(value);
                self.scope.insert(name, root);
            }
        }
    }

    fn bind_all(&mut self, value: Value) -> EvalResult<usize> {
        let sorted = self.ev.force_sorted(value)?;
        for index in 0..sorted.len() {
            let (name, value) = sorted.get(index);
            self.bind(name, value);
        }
        Ok(sorted.len())
    }
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let options = BuildArgs::default().options(&config)?;
    let files = args.expression.files.clone();
    let expression = ExpressionArgs {
        files: Vec::new(),
        expressions: vec!["null".to_owned()],
        attributes: Vec::new(),
        ..args.expression.clone()
    };
    let mut session = Session::new(&expression, &config, Keeps::Sources, options)?;
    let stop = Stop::watch_softly()?;
    session.settings.interrupt = stop.interrupt.clone();
    let done = ampoule_eval::run(session.settings.clone(), session.world.clone(), |ev| {
        let repl = Repl { session: &session, config: &config, ui, resume: stop.interrupt.pause() };
        repl.run(ev, &files)
    });
    done.map_err(|error| CliError::failed(format!("cannot start a thread to evaluate on: {error}")))?
}

struct Repl<'a> {
    session: &'a Session,
    config: &'a Config,
    ui: &'a Ui,
    resume: ampoule_eval::Resume,
}

impl Repl<'_> {
    fn run(&self, ev: &mut Evaluator, files: &[String]) -> Result<ExitStatus, CliError> {
        let dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let mut state = State { ev, scope: BTreeMap::new(), dir, lines: 0, loaded: Vec::new() };
        if let Ok(library) = state.eval("«repl»", "import <std>") {
            state.bind(Symbol::intern("std"), library);
        }
        for file in files {
            self.load(&mut state, file);
        }
        let state = RefCell::new(state);
        let interactive = std::io::IsTerminal::is_terminal(&std::io::stdin());
        let settings =
            LineConfig::builder().completion_type(CompletionType::List).auto_add_history(true).build();
        let mut editor: Editor<LineHelper<'_, '_>, DefaultHistory> =
            Editor::with_config(settings).map_err(|e| CliError::failed(e.to_string()))?;
        editor.set_helper(Some(LineHelper::new(&state, self.ui.color())));
        let history = xdg_dir("XDG_STATE_HOME", ".local/state").map(|dir| dir.join("ampoule/history"));
        if let (Some(history), true) = (&history, interactive) {
            let _ = editor.load_history(history);
        }
        if interactive {
            self.ui.note(&format!(
                "ampoule {}; `std` is the library, :? lists commands",
                env!("CARGO_PKG_VERSION")
            ));
        }
        loop {
            match editor.readline(if interactive { "img> " } else { "" }) {
                Ok(line) => {
                    let mut state = state.borrow_mut();
                    state.lines += 1;
                    if !self.line(&mut state, line.trim())? {
                        break;
                    }
                    self.resume.resume();
                }
                // ^C on a line drops the line.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(CliError::failed(error.to_string())),
            }
        }
        if let (Some(history), true) = (&history, interactive) {
            let made = history.parent().map(std::fs::create_dir_all);
            if made.is_none_or(|made| made.is_ok()) {
                let _ = editor.save_history(history);
            }
        }
        Ok(ExitStatus::Success)
    }

    /// Does what a line says; false ends the loop.
    fn line(&self, state: &mut State<'_>, line: &str) -> Result<bool, CliError> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(true);
        }
        let outcome = match line.strip_prefix(':') {
            Some(rest) => {
                let (command, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                if matches!(command, "q" | "quit") {
                    return Ok(false);
                }
                self.command(state, command, text.trim())
            }
            None => self.expression(state, line),
        };
        match outcome {
            Ok(()) => {}
            Err(Wrong::Eval(error)) if error.kind() == ErrorKind::Interrupted => {
                self.resume.resume();
                eprintln!("interrupted");
            }
            Err(Wrong::Eval(error)) => {
                self.session.show(state.ev, &error, self.ui);
            }
            Err(Wrong::Cli(error)) => self.ui.error(&error),
        }
        Ok(true)
    }

    fn expression(&self, state: &mut State<'_>, line: &str) -> Result<(), Wrong> {
        let name = format!("repl:{}", state.lines);
        if let Some((target, text)) = binding(line) {
            let value = state.eval(&name, text)?;
            state.bind(Symbol::intern(target), value);
            return Ok(());
        }
        let value = state.eval(&name, line)?;
        state.bind(Symbol::intern("it"), value);
        let text = show::shallow(state.ev, value)?;
        Ok(self.ui.print(text)?)
    }

    fn command(&self, state: &mut State<'_>, command: &str, text: &str) -> Result<(), Wrong> {
        let name = format!("repl:{}", state.lines);
        match command {
            "?" | "h" | "help" => self.ui.print(HELP)?,
            "t" | "type" => {
                let value = state.eval(&name, text)?;
                self.ui.print(state.ev.type_with_article(value).as_bytes())?;
            }
            "p" | "print" => {
                let value = state.eval(&name, text)?;
                state.ev.force_deep(value)?;
                self.ui.print(state.ev.print(value)?)?;
            }
            "a" | "add" => {
                let value = state.eval(&name, text)?;
                let count = state.bind_all(value)?;
                self.ui.note(&format!("{count} names added"));
            }
            "l" | "load" => {
                self.load(state, text);
            }
            "r" | "reload" => {
                for file in std::mem::take(&mut state.loaded) {
                    self.load(state, &file);
                }
            }
            "i" | "inspect" => {
                let value = state.eval(&name, text)?;
                self.ui.print(show::inspect(state.ev, value)?)?;
            }
            "doc" => self.document(state, &name, text)?,
            "b" | "build" => self.build(state, &name, text)?,
            "log" => {
                let value = state.eval(&name, text)?;
                let drv = self.derivation(state, value)?;
                let store = self.session.world.store().map_err(CliError::from)?;
                let logs = ampoule_realise::LogDir::new(store.root().path().join("log"));
                let read = logs.read(&drv, &mut std::io::stdout());
                read.map_err(|_| {
                    CliError::failed(format!("there is no log of `{}` on this machine", drv.name()))
                })?;
            }
            other => {
                return Err(Wrong::Cli(
                    CliError::usage(format!("there is no command `:{other}`"))
                        .hint("type :? for all commands"),
                ));
            }
        }
        Ok(())
    }

    fn load(&self, state: &mut State<'_>, file: &str) {
        let outcome = (|| -> Result<usize, Wrong> {
            // The same text each time would be the same import: read anew.
            let path = state.dir.join(file);
            let text = if file.starts_with('<') { format!("import {file}") } else { import_text(&path) };
            let value = state.eval("«repl»", &text)?;
            let arguments = NamedArguments { set: Some(self.session.argument_set(state.ev)?) };
            let value = self.session.call_with_packages(state.ev, value, &arguments)?;
            let value = state.ev.auto_call(value, &arguments)?;
            Ok(state.bind_all(value)?)
        })();
        match outcome {
            Ok(count) => {
                state.loaded.push(file.to_owned());
                self.ui.note(&format!("{count} names added from {file}"));
            }
            Err(Wrong::Eval(error)) => {
                self.session.show(state.ev, &error, self.ui);
            }
            Err(Wrong::Cli(error)) => self.ui.error(&error),
        }
    }

    fn derivation(&self, state: &mut State<'_>, value: Value) -> Result<ampoule_store::StorePath, Wrong> {
        let found = state.ev.derivations(value, &NamedArguments::default())?;
        let store = self.session.world.store().map_err(CliError::from)?;
        let first = found.first().ok_or_else(|| CliError::failed("this is no derivation"))?;
        Ok(store.dir().parse(&first.drv_path).map_err(|e| CliError::failed(e.to_string()))?)
    }

    fn build(&self, state: &mut State<'_>, name: &str, text: &str) -> Result<(), Wrong> {
        let value = state.eval(name, text)?;
        let found = state.ev.derivations(value, &NamedArguments::default())?;
        let store = self.session.world.store().map_err(CliError::from)?;
        let mut wanted = Vec::new();
        for one in &found {
            let drv = store.dir().parse(&one.drv_path).map_err(|e| CliError::failed(e.to_string()))?;
            wanted.push(Wanted { drv, outputs: Default::default() });
        }
        let options = BuildArgs::default().options(self.config)?;
        let events = crate::progress::sink(self.ui, self.config);
        let world = &self.session.world;
        let stop = Stop::watch_softly()?;
        let realised = crate::realising::realise(world, self.config, &options, &events, stop.cancel, &wanted)
            .map_err(|error| if events.failed() { CliError::told(error.status) } else { error })?;
        for path in realised.outputs.values().flat_map(BTreeMap::values) {
            self.ui.print(store.real_path(path).to_string_lossy().as_bytes())?;
        }
        Ok(())
    }

    fn document(&self, state: &mut State<'_>, name: &str, text: &str) -> Result<(), Wrong> {
        // By its name first: the same words that `ampoule doc` prints.
        let is_own = state.scope.contains_key(&Symbol::intern(text));
        if let Some(entry) = crate::manual::find(text).filter(|_| !is_own) {
            return Ok(self.ui.print(entry.page())?);
        }
        let value = state.eval(name, text)?;
        match show::documentation(state.ev, text, value) {
            Some(entry) => self.ui.print(entry.page())?,
            None => self.ui.note("nothing is written about it"),
        }
        Ok(())
    }
}

/// What went wrong with a line.
enum Wrong {
    Eval(EvalError),
    Cli(CliError),
}

impl From<EvalError> for Wrong {
    fn from(error: EvalError) -> Self {
        Self::Eval(error)
    }
}

impl From<CliError> for Wrong {
    fn from(error: CliError) -> Self {
        Self::Cli(error)
    }
}

/// Splits `name = expression`, which is no expression of the language.
fn binding(line: &str) -> Option<(&str, &str)> {
    let (name, text) = line.split_once('=')?;
    let name = name.trim();
    let is_comparison = text.starts_with('=');
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let goes_on = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'\'' | b'-'));
    (starts && goes_on && !is_comparison).then_some((name, text))
}

fn import_text(path: &Path) -> String {
    let mut quoted = String::new();
    ampoule_eval::write_string(&mut quoted, path.to_string_lossy().as_bytes());
    format!("import (/. + {quoted})")
}

#[cfg(test)]
mod tests {
    use super::binding;

    #[test]
    fn a_binding_is_no_comparison_and_no_set() {
        let check =
            |line: &str, expected: Option<(&str, &str)>| assert_eq!(binding(line), expected, "{line}");
        check("x = 1", Some(("x", " 1")));
        check("x-y' = a == b", Some(("x-y'", " a == b")));
        check("x == 1", None);
        check("{ a = 1; }", None);
        check("let a = 1; in a", None);
        check("1 = 2", None);
    }
}
