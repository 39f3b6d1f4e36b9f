//! `ampoule repl`: explore values and packages line by line.
//!
//! The evaluator lives on one thread and so does the loop: a line is read, evaluated, and its value printed
//! as far as it is known. ^C stops the evaluation and not the REPL.

mod commands;
mod complete;
mod line;
mod scope;
mod show;
mod state;

use std::cell::RefCell;
use std::path::PathBuf;

use ampoule_eval::{ErrorKind, EvalError, Evaluator};
use ampoule_lang::Symbol;
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
use complete::Budget;
use line::LineHelper;
use state::State;

/// Explore expressions and packages line by line
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule repl                        `std` is the library; TAB completes names and attributes
  ampoule repl packages.img           the attributes of a file in scope
  echo '1 + 1' | ampoule repl         a line at a time from a pipe

`:?` lists the commands. The history is kept in $XDG_STATE_HOME/ampoule/history; a line that starts with a space is not.")]
pub struct Args {
    #[command(flatten)]
    expression: ExpressionArgs,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let options = BuildArgs::default().options(&config)?;
    let files = args.expression.files.clone();
    // An entry that is never evaluated: relative paths start here, whatever files are named.
    let expression = ExpressionArgs { expressions: vec!["null".to_owned()], ..args.expression.clone() };
    let mut session = Session::new(&expression, &config, Keeps::Sources, options)?;
    session.settings.shows_sameness = true;
    let stop = Stop::watch_softly(&session.settings.interrupt)?;
    let done = ampoule_eval::run(session.settings.clone(), session.world.clone(), |ev| {
        let repl = Repl {
            session: &session,
            config: &config,
            ui,
            resume: session.settings.interrupt.pause(),
            stop: &stop,
        };
        repl.run(ev, &files)
    });
    done.map_err(|error| CliError::failed(error.to_string()))?
}

struct Repl<'a> {
    session: &'a Session,
    config: &'a Config,
    ui: &'a Ui,
    stop: &'a Stop,
    resume: ampoule_eval::Resume,
}

impl Repl<'_> {
    fn run(&self, ev: &mut Evaluator, files: &[String]) -> Result<ExitStatus, CliError> {
        let dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let mut state = State::new(ev, dir);
        if let Ok(library) = state.eval("«repl»", "import <std>") {
            state.bind(Symbol::intern("std"), library);
        }
        for file in files {
            self.does(&mut state, &format!(":l {file}"))?;
        }
        let state = RefCell::new(state);
        let interactive = std::io::IsTerminal::is_terminal(&std::io::stdin());
        let settings = LineConfig::builder()
            .completion_type(CompletionType::List)
            .auto_add_history(true)
            .history_ignore_space(true)
            .build();
        let mut editor: Editor<LineHelper<'_, '_>, DefaultHistory> =
            Editor::with_config(settings).map_err(|e| CliError::failed(e.to_string()))?;
        let interrupt = self.session.settings.interrupt.clone();
        let budget = Budget { world: &self.session.world, interrupt, resume: self.resume.clone() };
        editor.set_helper(Some(LineHelper::new(&state, budget, self.ui.color())));
        let history = History::new(interactive);
        history.load(&mut editor);
        if interactive {
            self.ui.note(&format!(
                "ampoule {}; `std` is the library, :? lists commands",
                env!("CARGO_PKG_VERSION")
            ));
        }
        loop {
            match editor.readline(if interactive { "img> " } else { "" }) {
                Ok(line) => {
                    // After every line: a REPL that is killed has lost nothing.
                    history.save(&mut editor);
                    self.stop.begin_anew();
                    self.resume.resume();
                    let mut state = state.borrow_mut();
                    state.lines += 1;
                    if !self.does(&mut state, line.trim())? {
                        break;
                    }
                }
                // ^C on a line drops the line.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                // Bytes that are no text, typed or pasted: the line is lost and nothing else.
                Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    self.ui.error(&CliError::usage("this line is not UTF-8"));
                }
                Err(error) => return Err(CliError::failed(error.to_string())),
            }
        }
        Ok(ExitStatus::Success)
    }

    /// Does what a line says, and tells what is wrong with it; false ends the loop.
    fn does(&self, state: &mut State<'_>, line: &str) -> Result<bool, CliError> {
        if is_blank(line) {
            return Ok(true);
        }
        let outcome = if line.starts_with(':') {
            commands::run(self, state, line)
        } else {
            self.expression(state, line)
        };
        // A ^C that comes too late for the line must not stop what is said about it.
        self.resume.resume();
        match outcome {
            Ok(()) => {}
            Err(Wrong::Leave) => return Ok(false),
            Err(Wrong::Eval(error)) if error.kind() == ErrorKind::Interrupted => eprintln!("interrupted"),
            Err(Wrong::Eval(error)) => {
                self.session.show(state.ev, &error, self.ui);
                if let Some(name) = unknown_name(&error).filter(|name| state.library_has(name)) {
                    self.ui.note(&format!(
                        "  help: the library has `std.{name}`; `:a std` brings all of it into scope"
                    ));
                }
            }
            Err(Wrong::Cli(error)) => self.ui.error(&error),
        }
        Ok(true)
    }

    fn expression(&self, state: &mut State<'_>, line: &str) -> Result<(), Wrong> {
        let name = state.line_name();
        if is_binding(line) {
            // As in a set: nothing is computed before it is used. Errors show the line as it was typed; where the
            // line itself is wrong, without the set around it.
            let value = match state.eval(&name, &format!("{{\n{}\n;}}", line.trim_end_matches(';'))) {
                Err(error) if error.kind() == ErrorKind::Syntax => match line.split_once('=') {
                    Some((path, text)) => {
                        state.eval(&name, &format!("{}{text}", " ".repeat(path.len() + 1)))?;
                        return Err(error.into());
                    }
                    None => return Err(error.into()),
                },
                outcome => outcome?,
            };
            state.bind_all(value)?;
            return Ok(());
        }
        let value = state.eval(&name, line)?;
        state.bind(Symbol::intern("it"), value);
        let text = show::shallow(state.ev, value)?;
        Ok(self.ui.print(text)?)
    }
}

/// What went wrong with a line.
enum Wrong {
    Eval(EvalError),
    Cli(CliError),
    /// Nothing: it ends the loop.
    Leave,
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

/// Where lines are kept from one REPL to the next.
struct History(Option<PathBuf>);

impl History {
    /// Nowhere, if no person types.
    fn new(interactive: bool) -> Self {
        let dir = xdg_dir("XDG_STATE_HOME", ".local/state").filter(|_| interactive);
        Self(dir.map(|dir| dir.join("ampoule/history")))
    }

    fn load(&self, editor: &mut Editor<LineHelper<'_, '_>, DefaultHistory>) {
        let Some(file) = &self.0 else { return };
        if let Some(dir) = file.parent() {
            let _ = std::fs::create_dir_all(dir);
        }
        let _ = editor.load_history(file);
    }

    /// A REPL without a history is better than none: what cannot be written is not told.
    fn save(&self, editor: &mut Editor<LineHelper<'_, '_>, DefaultHistory>) {
        if let Some(file) = &self.0 {
            let _ = editor.append_history(file);
        }
    }
}

/// Whether there is nothing in a line but space and comments.
fn is_blank(line: &str) -> bool {
    line.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'))
}

/// The name that an error says nothing binds.
fn unknown_name(error: &EvalError) -> Option<String> {
    let name = error.message().strip_prefix("undefined variable '")?.strip_suffix('\'')?;
    Some(name.to_owned())
}

/// Whether a line is `name = expression` or `inherit …`, which are no expressions of the language.
fn is_binding(line: &str) -> bool {
    if line.starts_with("inherit ") || line.starts_with("inherit(") {
        return true;
    }
    let Some((path, text)) = line.split_once('=') else { return false };
    !text.starts_with('=') && path.trim().split('.').all(|name| ampoule_eval::is_identifier(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{is_binding, is_blank};

    #[test]
    fn comments_are_blank() {
        assert!(is_blank("") && is_blank("  # a") && is_blank("# a\n\n  # b"));
        assert!(!is_blank("# a\n1") && !is_blank("1 # a"));
    }

    #[test]
    fn a_binding_is_no_comparison_and_no_set() {
        let check = |line: &str, expected: bool| assert_eq!(is_binding(line), expected, "{line}");
        check("x = 1", true);
        check("x-y' = a == b", true);
        check("a.b.c = 1", true);
        check("inherit (x) y", true);
        check("x == 1", false);
        check("{ a = 1; }", false);
        check("let a = 1; in a", false);
        check("1 = 2", false);
    }
}
