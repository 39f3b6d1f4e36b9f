//! What a line that is being typed has in scope at its end: the names of its `let`s and functions, and the sets that
//! its `with`s open.
//!
//! ```text
//! let a = { b = 1; }; in with a; f: [ f a.
//! └──────────────────────┘└─────┘ │
//!       scopes, as text           └ a name without a value
//! ```
//!
//! The line is unfinished, so this reads tokens and no grammar: an open bracket begins a frame, its end forgets what
//! was bound in it. What is guessed wrong is a name too many in a list of completions.

/// What is in scope at the end of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// `let … in` and `with …;`, outermost first: with an expression behind them they are a program.
    pub openings: Vec<Opening>,
    /// Names of bindings and of functions' arguments.
    pub names: Vec<String>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// `let … in`.
    Let(String),
    /// What stands between `with` and `;`.
    With(String),
}

impl Opening {
    /// As it stands before an expression.
    pub fn text(&self) -> String {
        match self {
            Self::Let(text) => text.clone(),
            Self::With(set) => format!("with {set};"),
        }
    }
}

/// What is bound between one bracket and the next.
#[derive(Default)]
struct Frame {
    openings: Vec<Draft>,
    names: Vec<String>,
    /// First words of `a.b = …` and of `a ? 1,`.
    items: Vec<String>,
    /// Whether the next word begins a binding or an item.
    at_item: bool,
    /// Whether words are names that `inherit` brings.
    inherits: bool,
}

struct Draft {
    is_let: bool,
    /// Where its own text begins: at `let`, or behind `with`.
    start: usize,
    /// Behind `in`, or at `;`.
    end: Option<usize>,
    /// Behind the last whole binding.
    bound: Option<usize>,
}

/// Reads a text up to its end.
pub fn at_end(text: &str) -> Scope {
    let mut frames = vec![Frame { at_item: true, ..Frame::default() }];
    // Of a set that was just closed: maybe a function's arguments.
    let mut closed: Vec<String> = Vec::new();
    let mut last_word = "";
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let frame = frames.last_mut().expect("the outermost frame is never closed");
        let mut len = c.len_utf8();
        match c {
            '#' => len = rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => len = rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' | '\'' if c == '"' || rest.starts_with("''") => match string_end(rest) {
                Ok(end) => len = end,
                // The cursor is in a string: if it is in an interpolation of it, that is where to go on.
                Err(Some(inside)) => {
                    frames.push(Frame::default());
                    len = inside;
                }
                Err(None) => return Scope::default(),
            },
            '{' | '[' | '(' => frames.push(Frame { at_item: c == '{', ..Frame::default() }),
            '}' | ']' | ')' => {
                if frames.len() > 1 {
                    closed = frames.pop().expect("more than one").items;
                }
                at += len;
                last_word = "";
                continue;
            }
            ';' => frame.end_statement(at),
            ',' => frame.at_item = true,
            ':' if !rest[1..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/') => {
                frame.names.append(&mut closed);
                frame.names.extend((!last_word.is_empty()).then(|| last_word.to_owned()));
            }
            _ if c.is_ascii_alphabetic() || c == '_' => {
                let is_end = |c: char| !(c.is_ascii_alphanumeric() || "_'-".contains(c));
                len = rest.find(is_end).unwrap_or(rest.len());
                last_word = &rest[..len];
                frame.word(last_word, at);
            }
            _ => {}
        }
        if !(c.is_whitespace() || c.is_ascii_alphabetic() || c == '_') {
            last_word = "";
            if !":@".contains(c) {
                closed.clear();
            }
        }
        at += len;
    }
    Scope::of(text, frames)
}

impl Frame {
    fn word(&mut self, word: &str, at: usize) {
        let is_first = std::mem::take(&mut self.at_item);
        match word {
            "let" => {
                self.openings.push(Draft { is_let: true, start: at, end: None, bound: None });
                self.at_item = true;
            }
            "with" => {
                let start = at + word.len();
                self.openings.push(Draft { is_let: false, start, end: None, bound: None });
            }
            "in" => {
                let open = self.openings.iter_mut().rev().find(|one| one.is_let && one.end.is_none());
                if let Some(open) = open {
                    open.end = Some(at + word.len());
                }
            }
            "inherit" => self.inherits = true,
            _ if self.inherits || is_first => {
                self.items.push(word.to_owned());
                if self.openings.iter().any(|one| one.is_let && one.end.is_none()) {
                    self.names.push(word.to_owned());
                }
            }
            _ => {}
        }
    }

    fn end_statement(&mut self, at: usize) {
        self.inherits = false;
        if let Some(with) = self.openings.last_mut()
            && !with.is_let
            && with.end.is_none()
        {
            with.end = Some(at);
            return;
        }
        // The end of a binding: what was opened in it is over.
        while self.openings.last().is_some_and(|one| one.end.is_some()) {
            self.openings.pop();
        }
        if let Some(open) = self.openings.last_mut() {
            open.bound = Some(at + 1);
        }
        self.at_item = true;
    }
}

impl Scope {
    fn of(text: &str, frames: Vec<Frame>) -> Self {
        let mut scope = Self::default();
        for frame in frames {
            scope.names.extend(frame.names);
            for one in frame.openings {
                match (one.is_let, one.end, one.bound) {
                    (true, Some(end), _) => {
                        scope.openings.push(Opening::Let(text[one.start..end].to_owned()));
                    }
                    // Its bindings see each other.
                    (true, None, Some(end)) => {
                        scope.openings.push(Opening::Let(format!("{} in", &text[one.start..end])));
                    }
                    (false, Some(end), _) => {
                        scope.openings.push(Opening::With(text[one.start..end].trim().to_owned()));
                    }
                    _ => {}
                }
            }
        }
        scope
    }
}

/// Where the string ends that a text begins with; if it does not, where its last interpolation begins that does not
/// end either.
fn string_end(text: &str) -> Result<usize, Option<usize>> {
    let quote = if text.starts_with('"') { "\"" } else { "''" };
    let mut at = quote.len();
    let mut open = Vec::new();
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        at += match c {
            '\\' if quote == "\"" => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '\'' if quote == "''" && (rest.starts_with("'''") || rest.starts_with("''$")) => 3,
            '$' if rest.starts_with("${") => {
                open.push(at + 2);
                2
            }
            '}' if !open.is_empty() => {
                open.pop();
                1
            }
            _ if open.is_empty() && rest.starts_with(quote) => return Ok(at + quote.len()),
            _ => c.len_utf8(),
        };
    }
    Err(open.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, openings: &[&str], names: &[&str]) {
        let scope = at_end(text);
        let found: Vec<String> = scope.openings.iter().map(Opening::text).collect();
        assert_eq!(
            (found, scope.names),
            (openings.iter().map(|s| (*s).to_owned()).collect(), to_text(names)),
            "{text}"
        );
    }

    fn to_text(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn lets_and_withs_open_scopes() {
        check("let a = 1; b.c = 2; in ", &["let a = 1; b.c = 2; in"], &["a", "b"]);
        check("let a = { b = 1; }; c = a.", &["let a = { b = 1; }; in"], &["a", "c"]);
        check("with lib; with a.b; x", &["with lib;", "with a.b;"], &[]);
        check("let inherit (x) a b; in [ (", &["let inherit (x) a b; in"], &["a", "b"]);
        check("(let a = 1; in a) + ", &[], &[]);
        check("{ a = with b; 1; c = ", &[], &[]);
        check("let a = with b; c; d = ", &["let a = with b; c; in"], &["a", "d"]);
    }

    #[test]
    fn functions_name_their_arguments() {
        check("x: y: x", &[], &["x", "y"]);
        check("{ a, b ? 1, ... }@all: a", &[], &["a", "b", "all"]);
        check("(x: x) y", &[], &[]);
        check("http://x", &[], &[]);
    }

    #[test]
    fn strings_and_comments_bind_nothing_but_their_interpolations_may() {
        check("\"let a = 1; in\" + ", &[], &[]);
        check("# let a\n 1 + ", &[], &[]);
        check("/* with a; */ ", &[], &[]);
        check("\"text ${x: x", &[], &["x"]);
        check("''a ${b} ''${c} '' + ", &[], &[]);
        check("\"not closed", &[], &[]);
    }
}
