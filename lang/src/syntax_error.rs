//! Syntax errors: what stands there, what could stand there, and what was left open.
//!
//! The words are those of Nix ("unexpected ';', expecting 'in'"). On top of them,
//! the text up to the error is looked through once more for the bracket that is still open and for the
//! mistakes that people make most.

use lalrpop_util::ParseError;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::lexer::{LexError, LexErrorKind, Token};
use crate::recover::{Lexed, Refused};
use crate::source::Source;
use crate::span::{FileSpan, Span};

/// Turns what the grammar or the lexer refused into a diagnostic. `tokens` are those that it was given.
pub(crate) fn of(source: &Source, error: Refused, tokens: impl Iterator<Item = Lexed>) -> Diagnostic {
    match error {
        ParseError::User { error } => lexical(source, error),
        ParseError::UnrecognizedToken { token: (start, token, end), expected } => {
            unexpected(source, tokens, Some(token), Span::new(start, end), &expected)
        }
        ParseError::UnrecognizedEof { expected, .. } => {
            unexpected(source, tokens, None, end_of(source), &expected)
        }
        ParseError::ExtraToken { token: (start, token, end) } => {
            unexpected(source, tokens, Some(token), Span::new(start, end), &[])
        }
        ParseError::InvalidToken { location } => unexpected(source, tokens, None, Span::at(location), &[]),
    }
}

/// Returns the place after the last byte that is no blank: who sees a message looks there, not at the empty line below.
fn end_of(source: &Source) -> Span {
    let last = source.bytes().iter().rposition(|byte| !byte.is_ascii_whitespace());
    Span::at(last.map_or(0, |last| last as u32 + 1))
}

fn lexical(source: &Source, error: LexError) -> Diagnostic {
    let at = FileSpan { file: source.id(), span: error.span };
    match error.kind {
        LexErrorKind::UnclosedComment => {
            Diagnostic::error(codes::UNCLOSED, "syntax error, unexpected '/'", at)
                .saying("this comment has no end")
                .hint("close it with `*/`")
        }
        LexErrorKind::TrailingSlash => {
            Diagnostic::error(codes::TRAILING_SLASH, "path has a trailing slash", at)
                .saying("ends in a slash")
                .hint("remove the slash; a path names a directory without it")
        }
        LexErrorKind::NullByte => {
            let message = "input string cannot be represented as Nix string because it contains null bytes";
            Diagnostic::error(codes::NULL_BYTE, message, at).saying("a zero byte")
        }
    }
}

/// Says what is odd about a byte that begins no token.
fn invalid_token(error: Diagnostic, rest: &[u8]) -> Diagnostic {
    match rest {
        [b'&', ..] => error.saying("no operator").hint("write `&&` for the logical and"),
        [b'|', ..] => error.saying("no operator").hint("write `||` for the logical or"),
        [b'\'', ..] => error
            .saying("strings do not begin with a single quote")
            .hint("use double quotes, `\"…\"`, or two single quotes for a text of several lines, `''…''`"),
        [0xEF, 0xBB, 0xBF, ..] => error.saying("a byte order mark").hint("save the file as UTF-8 without it"),
        [0, ..] => error.saying("a zero byte").hint("check that this file is a text in UTF-8"),
        [b'\\', ..] => error.saying("functions are written `x: …`"),
        [byte, ..] if !byte.is_ascii() => error.saying("only strings and comments hold letters beyond ASCII"),
        _ => error.saying("nothing of the language begins like this"),
    }
}

fn unexpected(
    source: &Source,
    tokens: impl Iterator<Item = Lexed>,
    token: Option<Token>,
    span: Span,
    expected: &[String],
) -> Diagnostic {
    let at = |span| FileSpan { file: source.id(), span };
    let context = Context::before(tokens, span.start);
    let after_operand = expected.iter().any(|name| name == "\"+\"");
    let expected = likely(expected, after_operand, context.is_in_plain_set());
    let name = match token {
        None => "end of file",
        Some(Token::Path | Token::PathOpen) if source.slice(span).starts_with(b"~") => "'~/…' path",
        Some(token) => token_name(token),
    };
    let mut message = format!("syntax error, unexpected {name}");
    for (i, name) in expected.iter().enumerate() {
        message += if i == 0 { ", expecting " } else { " or " };
        message += name;
    }
    let code = if token.is_none() && !context.open.is_empty() { codes::UNCLOSED } else { codes::SYNTAX };
    let mut error = Diagnostic::error(code, message, at(span));
    if token.is_none() {
        error = error.saying("the text ends here");
    }
    if let Some(&(open, open_span)) = context.open.last()
        && context.is_unclosed_at(token, after_operand)
    {
        let missing = if open == Token::Let { "has no 'in'" } else { "is not closed" };
        error = error.label(at(open_span), format!("this {} {missing}", token_name(open)));
    }
    if token == Some(Token::Invalid) {
        return invalid_token(error, &source.bytes()[span.start as usize..]);
    }
    let only_semicolon = token.is_some() && expected.as_slice() == ["';'"];
    if only_semicolon && let Some(end) = context.end_of_binding(token) {
        error = error.label(at(Span::at(end)), "a `;` is missing here");
    }
    if token.is_some() && !error.secondary.is_empty() {
        error = error.saying("not expected here");
    }
    hints(error, token, &context, &expected, after_operand)
}

/// Adds what helps with the mistakes that are made most.
fn hints(
    error: Diagnostic,
    token: Option<Token>,
    context: &Context,
    expected: &[&str],
    after_operand: bool,
) -> Diagnostic {
    let inside = context.open.last().map(|&(open, _)| open);
    let previous = context.before.last().map(|&(token, _)| token);
    match (token, inside) {
        (Some(Token::Comma), Some(Token::BracketOpen)) => {
            error.hint("separate elements of a list by spaces: `[ a b ]`")
        }
        (Some(Token::Comma), Some(Token::ParenOpen)) => error.hint("write a call without commas: `f a b`"),
        (Some(Token::Comma), Some(Token::BraceOpen)) if expected.contains(&"';'") => {
            error.hint("end each binding with `;`")
        }
        (Some(Token::Colon), _) if after_operand && previous == Some(Token::Ident) => {
            error.hint("put a function that is an argument in parentheses: `f (x: …)`")
        }
        (Some(Token::Colon), Some(Token::BraceOpen)) => error.hint("bind with `=`: `{ name = value; }`"),
        (Some(Token::Assign), None | Some(Token::ParenOpen | Token::BracketOpen)) if after_operand => {
            error.hint("compare with `==`, or bind in a set or a `let`: `{ a = 1; }`")
        }
        (Some(Token::Equal), Some(Token::BraceOpen)) if expected.contains(&"'='") => {
            error.hint("bind with one `=`")
        }
        (Some(keyword), _) if is_keyword(keyword) && wants_name(expected) => {
            error.hint(format!("put the name in quotes: {} is a keyword", token_name(keyword)))
        }
        (Some(Token::Ident), Some(Token::Let)) if context.is_let_in_list() => {
            error.hint("put parentheses around it: elements of a list are simple expressions")
        }
        (Some(Token::Or), _) => error.hint("choose another name: `or` is a keyword"),
        (Some(Token::Plus | Token::Concat | Token::Update | Token::Minus), Some(Token::BracketOpen)) => {
            error.hint("put an operation in a list in parentheses: `[ (a + b) ]`")
        }
        (Some(Token::If | Token::Let | Token::With | Token::Assert), Some(Token::BracketOpen)) => {
            error.hint("put parentheses around it: elements of a list are simple expressions")
        }
        (Some(Token::If | Token::Let | Token::With | Token::Assert), _)
            if !after_operand && expected.is_empty() =>
        {
            error.hint("put parentheses around it: only the last operand could go without")
        }
        (None, None) if previous.is_none() => error.hint("write an expression: an empty file has no value"),
        _ => error,
    }
}

/// What was before an error.
struct Context {
    /// The brackets, quotes and `let` that are open, outermost first.
    open: Vec<(Token, Span)>,
    /// The last tokens before it.
    before: Vec<(Token, Span)>,
}

impl Context {
    fn before(tokens: impl Iterator<Item = Lexed>, offset: u32) -> Self {
        const KEPT: usize = 32;
        let mut context = Self { open: Vec::new(), before: Vec::new() };
        for token in tokens {
            let Ok((start, token, end)) = token else { break };
            if start >= offset {
                break;
            }
            let span = Span::new(start, end);
            context.bracket(token, span);
            if context.before.len() == 2 * KEPT {
                context.before.drain(..KEPT);
            }
            context.before.push((token, span));
        }
        context
    }

    fn bracket(&mut self, token: Token, span: Span) {
        let innermost = self.open.last().map(|&(open, _)| open);
        match token {
            Token::BraceOpen if self.before.last().is_some_and(|&(before, _)| before == Token::Let) => {
                // `let { … }`
                self.open.pop();
                self.open.push((token, span));
            }
            Token::Let
            | Token::BraceOpen
            | Token::BracketOpen
            | Token::ParenOpen
            | Token::DollarBrace
            | Token::StrOpen
            | Token::IndentOpen => self.open.push((token, span)),
            Token::In if innermost != Some(Token::Let) => {}
            Token::In
            | Token::BraceClose
            | Token::BracketClose
            | Token::ParenClose
            | Token::StrClose
            | Token::IndentClose => {
                self.open.pop();
            }
            _ => {}
        }
    }

    /// Returns where the binding before `token` ends. If `token` is the `=` of the next one, then before that one's name.
    fn end_of_binding(&self, token: Option<Token>) -> Option<u32> {
        let mut before = &self.before[..];
        if token == Some(Token::Assign) {
            while let [rest @ .., (Token::Ident | Token::Or | Token::Str, _)] = before {
                before = rest;
                let [rest @ .., (Token::Dot, _)] = before else { break };
                before = rest;
            }
        }
        before.last().or(self.before.last()).map(|(_, span)| span.end)
    }

    /// Whether a `let` was begun as an element of a list.
    fn is_let_in_list(&self) -> bool {
        let around = self.open.iter().rev().nth(1).map(|&(open, _)| open);
        around == Some(Token::BracketOpen)
            && self.before.last().is_some_and(|&(before, _)| before == Token::Let)
    }

    /// Whether the innermost bracket is that of a set without `rec`.
    fn is_in_plain_set(&self) -> bool {
        let Some(&(Token::BraceOpen, span)) = self.open.last() else { return false };
        let at = self.before.iter().position(|&(_, before)| before == span);
        let before = at.and_then(|at| at.checked_sub(1)).map(|at| self.before[at].0);
        !matches!(before, Some(Token::Rec | Token::Let))
    }

    /// Whether the innermost bracket should have been closed before `token`.
    fn is_unclosed_at(&self, token: Option<Token>, after_operand: bool) -> bool {
        let Some(&(open, _)) = self.open.last() else { return false };
        match token {
            None => true,
            Some(Token::BraceClose) => !matches!(open, Token::BraceOpen | Token::DollarBrace),
            Some(Token::BracketClose) => open != Token::BracketOpen,
            Some(Token::ParenClose) => open != Token::ParenOpen,
            Some(Token::Semicolon | Token::Assign) => matches!(open, Token::ParenOpen | Token::BracketOpen),
            Some(Token::In) => after_operand && open != Token::Let,
            Some(Token::Then | Token::Else) => after_operand,
            _ => false,
        }
    }
}

fn is_keyword(token: Token) -> bool {
    use Token::{Assert, Else, If, In, Inherit, Let, Rec, Then, With};
    matches!(token, Assert | Else | If | In | Inherit | Let | Rec | Then | With)
}

fn wants_name(expected: &[&str]) -> bool {
    expected.contains(&"identifier") || expected.contains(&"'inherit'")
}

/// Returns what to name of what could follow: nothing if nearly everything could.
fn likely(expected: &[String], after_operand: bool, in_plain_set: bool) -> Vec<&'static str> {
    const MOST: usize = 4;
    let mut names: Vec<&str> = expected
        .iter()
        .filter_map(|quoted| quoted.strip_prefix('"')?.strip_suffix('"'))
        .filter(|name| !after_operand || CLOSERS.contains(name))
        .collect();
    leave_out_the_unlikely(&mut names, in_plain_set);
    names.sort_by_key(|name| ORDER.iter().position(|other| other == name));
    let mut names: Vec<_> = names.into_iter().map(expected_name).collect();
    names.dedup();
    if names.is_empty() && (after_operand || expected.is_empty()) {
        names.push("end of file");
    }
    if names.len() > MOST {
        names.clear();
    }
    names
}

/// Where many things could follow, Nix names the few that end or bind something.
fn leave_out_the_unlikely(names: &mut Vec<&str>, in_plain_set: bool) {
    let keep: &[&str] = if names.contains(&"string close") {
        &["string close"]
    } else if names.contains(&"inherit") && in_plain_set {
        // Nix takes the end of such a set for granted.
        &["inherit"]
    } else if names.contains(&"inherit") {
        &["inherit", "in", "}"]
    } else if names.contains(&".") && names.contains(&"=") {
        &[".", "="]
    } else if names.contains(&"?") && names.contains(&",") {
        &["}", ","]
    } else {
        return;
    };
    names.retain(|name| keep.contains(name));
}

/// What ends an expression; the operators and arguments that could also follow are not worth naming.
const CLOSERS: [&str; 8] = [")", "}", ";", "]", "then", "else", "in", ","];

/// The order in which Nix names what it expects.
const ORDER: [&str; 16] = [
    "ident",
    "string text",
    "indent text",
    "in",
    "inherit",
    "or",
    "...",
    "${",
    "indent close",
    "}",
    ",",
    ".",
    "=",
    "string",
    "string open",
    "string close",
];

fn expected_name(name: &str) -> &'static str {
    let tokens = [
        ("ident", Token::Ident),
        ("string", Token::StrOpen),
        ("string open", Token::StrOpen),
        ("string text", Token::StrText),
        ("string close", Token::StrClose),
        ("indent text", Token::IndentText),
        ("indent escape", Token::IndentText),
        ("indent close", Token::IndentClose),
        ("path text", Token::StrText),
        ("path close", Token::PathClose),
        ("${", Token::DollarBrace),
        ("if", Token::If),
        ("then", Token::Then),
        ("else", Token::Else),
        ("let", Token::Let),
        ("in", Token::In),
        ("inherit", Token::Inherit),
        ("or", Token::Or),
        ("{", Token::BraceOpen),
        ("}", Token::BraceClose),
        ("]", Token::BracketClose),
        (")", Token::ParenClose),
        (";", Token::Semicolon),
        (":", Token::Colon),
        (",", Token::Comma),
        (".", Token::Dot),
        ("...", Token::Ellipsis),
        ("@", Token::At),
        ("=", Token::Assign),
        ("?", Token::Question),
    ];
    let found = tokens.iter().find(|(other, _)| *other == name);
    found.map_or("an expression", |&(_, token)| token_name(token))
}

/// Returns what Nix calls a token.
fn token_name(token: Token) -> &'static str {
    match token {
        Token::Ident => "identifier",
        Token::If => "'if'",
        Token::Then => "'then'",
        Token::Else => "'else'",
        Token::Assert => "'assert'",
        Token::With => "'with'",
        Token::Let => "'let'",
        Token::In => "'in'",
        Token::Rec => "'rec'",
        Token::Inherit => "'inherit'",
        Token::Or => "'or'",
        Token::Int => "integer",
        Token::Float => "floating-point literal",
        Token::SearchPath => "'<…>' path",
        Token::Uri => "URI",
        Token::Path | Token::PathOpen => "path",
        Token::PathClose => "end of path",
        Token::PathText | Token::StrText => "string",
        Token::Str | Token::StrOpen | Token::StrClose => "'\"'",
        Token::IndentOpen => "start of an indented string",
        Token::IndentText | Token::IndentEscape => "indented string",
        Token::IndentClose => "end of an indented string",
        Token::DollarBrace => "'${'",
        Token::BraceOpen => "'{'",
        Token::BraceClose => "'}'",
        Token::BracketOpen => "'['",
        Token::BracketClose => "']'",
        Token::ParenOpen => "'('",
        Token::ParenClose => "')'",
        Token::Semicolon => "';'",
        Token::Colon => "':'",
        Token::Comma => "','",
        Token::Dot => "'.'",
        Token::Ellipsis => "'...'",
        Token::At => "'@'",
        Token::Assign => "'='",
        Token::Question => "'?'",
        Token::Not => "'!'",
        Token::Implies => "'->'",
        Token::OrOr => "'||'",
        Token::AndAnd => "'&&'",
        Token::Equal => "'=='",
        Token::NotEqual => "'!='",
        Token::Less => "'<'",
        Token::LessEqual => "'<='",
        Token::Greater => "'>'",
        Token::GreaterEqual => "'>='",
        Token::Update => "'//'",
        Token::Plus => "'+'",
        Token::Minus => "'-'",
        Token::Star => "'*'",
        Token::Slash => "'/'",
        Token::Concat => "'++'",
        Token::PipeInto => "'|>'",
        Token::PipeFrom => "'<|'",
        Token::Invalid => "invalid token",
        Token::Comment | Token::CommentOpen => "comment",
    }
}
