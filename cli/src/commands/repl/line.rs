//! The line being typed: is it complete, and its colours.

use std::borrow::Cow;
use std::cell::RefCell;

use ampoule_lang::{ParseOptions, SourceMap};
use rustyline::Helper;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};

use super::complete::Budget;
use super::state::State;

/// Names that are always in scope.
pub const KEYWORDS: &[&str] = &[
    "assert", "builtins", "else", "false", "if", "import", "in", "inherit", "let", "null", "or", "rec",
    "then", "true", "with",
];

/// Completes, validates and colours with the REPL's own state.
pub struct LineHelper<'s, 'e> {
    pub(super) state: &'s RefCell<State<'e>>,
    pub(super) budget: Budget<'s>,
    color: bool,
}

impl<'s, 'e> LineHelper<'s, 'e> {
    /// A helper over the state; nobody else borrows it while a line is typed.
    pub fn new(state: &'s RefCell<State<'e>>, budget: Budget<'s>, color: bool) -> Self {
        Self { state, budget, color }
    }
}

impl Helper for LineHelper<'_, '_> {}

impl Hinter for LineHelper<'_, '_> {
    type Hint = String;
}

impl Highlighter for LineHelper<'_, '_> {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if !self.color {
            return Cow::Borrowed(line);
        }
        Cow::Owned(colored(line))
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.color
    }
}

/// Colours keywords, numbers, strings and comments; a token at a time, without understanding more.
fn colored(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 32);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (len, color) = if first == '#' {
            (rest.len(), "2")
        } else if first == '"' {
            (string_len(rest), "32")
        } else if first.is_ascii_alphabetic() || first == '_' {
            let len =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_'-".contains(c))).unwrap_or(rest.len());
            (len, if KEYWORDS.contains(&&rest[..len]) { "35" } else { "" })
        } else if first.is_ascii_digit() {
            let len = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            (len, "36")
        } else {
            (first.len_utf8(), "")
        };
        let (token, after) = rest.split_at(len);
        if color.is_empty() {
            out.push_str(token);
        } else {
            out.push_str(&format!("\x1b[{color}m{token}\x1b[0m"));
        }
        rest = after;
    }
    out
}

/// How long the string is that the text starts with, quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

impl Validator for LineHelper<'_, '_> {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let line = context.input();
        Ok(if is_open(line) { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

/// Whether the text ends before what it began: an error at its very end.
fn is_open(line: &str) -> bool {
    if super::is_blank(line) {
        return false;
    }
    let text = match line.trim_start().strip_prefix(':') {
        Some(rest) => match rest.split_once(char::is_whitespace) {
            Some((_, text)) if !text.trim().is_empty() => text,
            _ => return false,
        },
        None if super::is_binding(line) => line.split_once('=').map_or("", |(_, text)| text),
        None => line,
    };
    let sources = SourceMap::new();
    let source = sources.add("repl", "/", text);
    let Err(diagnostics) = ampoule_lang::parse_with(&source, ParseOptions { pipe_operators: true }) else {
        return false;
    };
    let end = text.trim_end().len();
    diagnostics
        .first()
        .and_then(|first| first.primary.as_ref())
        .is_some_and(|label| label.at.span.start as usize >= end || first_is_unclosed(text))
}

/// Whether a bracket or an indented string is still open, counted roughly: only asked where parsing failed.
fn first_is_unclosed(text: &str) -> bool {
    let mut depth = 0i32;
    let mut quotes = 0;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '"' => quotes += 1,
            _ => {}
        }
    }
    depth > 0 || quotes % 2 == 1 || text.matches("''").count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::{colored, is_open};

    #[test]
    fn a_line_is_open_while_something_in_it_is() {
        let check = |line: &str, expected: bool| assert_eq!(is_open(line), expected, "{line}");
        check("1 + 2", false);
        check("{ a = 1;", true);
        check("[ 1 2", true);
        check("let a = 1; in", true);
        check("\"abc", true);
        check("1 + ", true);
        check("x = {", true);
        check("x =", true);
        check("# a comment", false);
        check("# a\n# b", false);
        check("# a\n1 +", true);
        check("1 2 )", false);
        check(":t {", true);
        check(":q", false);
    }

    #[test]
    fn colours_change_no_text() {
        for line in ["let a = \"b\\\"c\"; in a # x", "1.5 + é", "\"open"] {
            let plain: String = {
                let mut out = String::new();
                let mut rest = colored(line);
                while let Some(at) = rest.find('\x1b') {
                    out.push_str(&rest[..at]);
                    let end = rest[at..].find('m').expect("an escape ends") + at + 1;
                    rest = rest[end..].to_owned();
                }
                out + &rest
            };
            assert_eq!(plain, line);
        }
    }
}
