//! What goes to the terminal: data on stdout, talk on stderr.
//!
//! Colour never carries meaning alone, and nothing but whole lines goes into a pipe.

use std::io::{self, IsTerminal, Write};

use crate::error::CliError;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal that can show them, unless the environment says no.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The person or program that reads what we print.
#[derive(Debug)]
pub struct Ui {
    color: bool,
    /// 0 says only errors and results; 1 is the default; 2 and more tell what is done.
    verbosity: u8,
    json: bool,
}

impl Ui {
    /// `choice` comes from the flags or the configuration; the environment is asked for `auto`:
    /// `NO_COLOR` (any non-empty value) before `FORCE_COLOR`, then `TERM=dumb`, then the terminal.
    pub fn new(choice: ColorChoice, verbosity: u8, json: bool) -> Self {
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => auto_color(|name| std::env::var(name).ok(), io::stderr().is_terminal()),
        };
        Self { color, verbosity, json }
    }

    /// Whether messages are coloured.
    pub fn color(&self) -> bool {
        self.color
    }

    /// Whether errors and answers are JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// 0 with `-q`, 1 by default, one more for each `-v`.
    pub fn verbosity(&self) -> u8 {
        self.verbosity
    }

    /// Whether stderr is a terminal that a live display may draw on.
    pub fn live(&self) -> bool {
        self.verbosity > 0
            && io::stderr().is_terminal()
            && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
    }

    /// Prints data: one line to stdout.
    ///
    /// # Errors
    /// If stdout cannot be written to. A closed pipe is not an error: the reader has enough, and
    /// the process ends.
    pub fn print(&self, line: impl AsRef<[u8]>) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        let written =
            out.write_all(line.as_ref()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
        check_stdout(written)
    }

    /// Prints data without a newline behind it.
    ///
    /// # Errors
    /// As [`Ui::print`].
    pub fn print_raw(&self, data: &[u8]) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        check_stdout(out.write_all(data).and_then(|()| out.flush()))
    }

    /// Prints `value` as one line of JSON.
    ///
    /// # Errors
    /// As [`Ui::print`].
    pub fn print_json(&self, value: &impl serde::Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(|e| CliError::failed(e.to_string()))?;
        self.print(text)
    }

    /// Tells something to the person, unless `-q` was given.
    pub fn note(&self, text: &str) {
        if self.verbosity > 0 {
            self.tell("note", text, text);
        }
    }

    /// Tells figures, unless `-q` was given: JSON for everybody; for a program under their name.
    pub fn figures(&self, name: &str, value: &serde_json::Value) {
        if self.verbosity > 0 {
            let mut err = io::stderr().lock();
            let _ = if self.json {
                writeln!(err, "{}", serde_json::json!({ name: value }))
            } else {
                writeln!(err, "{value}")
            };
        }
    }

    /// Tells what is done, with `-v`.
    pub fn detail(&self, text: &str) {
        if self.verbosity > 1 {
            self.tell("note", text, text);
        }
    }

    /// Tells of something that is probably not meant, whatever the verbosity.
    pub fn warn(&self, text: &str) {
        self.tell("warning", text, &format!("{} {text}", self.paint("warning:", "1;33")));
    }

    /// One line of talk: for a program an object whose one key says what kind it is.
    fn tell(&self, kind: &str, text: &str, line: &str) {
        let mut err = io::stderr().lock();
        let _ = if self.json { writeln!(err, "{}", talk_json(kind, text)) } else { writeln!(err, "{line}") };
    }

    /// Prints an error and its hints; nothing if it was told already.
    pub fn error(&self, error: &CliError) {
        if error.message.is_empty() {
            return;
        }
        let mut err = io::stderr().lock();
        if self.json {
            let value = serde_json::json!({
                "error": error.message, "hints": error.hints, "exitCode": crate::signals::exit_code(error.status),
            });
            let _ = writeln!(err, "{value}");
            return;
        }
        let _ = writeln!(err, "{} {}", self.paint("error:", "1;31"), error.message);
        for hint in &error.hints {
            let _ = writeln!(err, "  {} {hint}", self.paint("help:", "1;36"));
        }
    }

    /// `text` in the colour of an SGR code, or as it is.
    pub fn paint(&self, text: &str, sgr: &str) -> String {
        if self.color { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Standard output for data that is no line: a reader that went away ends the program, as it does for lines.
pub struct DataOut(io::StdoutLock<'static>);

impl DataOut {
    /// Nobody else may write there meanwhile.
    pub fn lock() -> Self {
        Self(io::stdout().lock())
    }
}

impl Write for DataOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(gone_away)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(gone_away)
    }
}

fn gone_away(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    error
}

fn check_stdout(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Ok(()) => Ok(()),
        Err(e) => Err(CliError::failed(format!(
            "cannot write to standard output: {}",
            ampoule_store::system_words(&gone_away(e))
        ))),
    }
}

/// Talk for programs: `{"warning":"…"}`.
fn talk_json(kind: &str, text: &str) -> serde_json::Value {
    serde_json::json!({ kind: text })
}

/// What the evaluation says (`builtins.trace`, `builtins.warn`) for programs, by the words that it begins with.
pub fn message_json(text: &str) -> serde_json::Value {
    let kinds = [("evaluation warning: ", "warning"), ("warning: ", "warning"), ("trace: ", "trace")];
    let found = kinds.iter().find_map(|(start, kind)| Some((*kind, text.strip_prefix(start)?)));
    let (kind, text) = found.unwrap_or(("note", text));
    // On a terminal the lines of a warning stand below each other.
    talk_json(kind, &text.replace("\n                    ", "\n"))
}

/// The rule for `--color auto`, apart from the process so that it can be tested.
fn auto_color(var: impl Fn(&str) -> Option<String>, terminal: bool) -> bool {
    let set = |name| var(name).is_some_and(|value| !value.is_empty());
    if set("NO_COLOR") {
        return false;
    }
    if var("FORCE_COLOR").is_some_and(|value| !value.is_empty() && value != "0") {
        return true;
    }
    terminal && var("TERM").is_some_and(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_evaluation_says_is_named_by_its_kind() {
        let check = |text: &str, expected: &str| assert_eq!(message_json(text).to_string(), expected);
        check("trace: { a = 1; }", r#"{"trace":"{ a = 1; }"}"#);
        check("evaluation warning: one\n                    two", r#"{"warning":"one\ntwo"}"#);
        check("anything else", r#"{"note":"anything else"}"#);
    }

    #[test]
    fn no_color_wins_over_force_color_and_the_terminal() {
        let check = |vars: &[(&str, &str)], terminal, expected| {
            let var = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            assert_eq!(auto_color(var, terminal), expected, "{vars:?}, terminal: {terminal}");
        };
        check(&[("TERM", "xterm")], true, true);
        check(&[("TERM", "xterm")], false, false);
        check(&[("TERM", "dumb")], true, false);
        check(&[], true, false);
        check(&[("NO_COLOR", "1"), ("FORCE_COLOR", "1"), ("TERM", "xterm")], true, false);
        check(&[("NO_COLOR", ""), ("TERM", "xterm")], true, true);
        check(&[("FORCE_COLOR", "1")], false, true);
        check(&[("FORCE_COLOR", "0"), ("TERM", "xterm")], false, false);
    }
}
