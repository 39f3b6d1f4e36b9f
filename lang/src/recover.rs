//! More than one syntax error in one run.
//!
//! The grammar stops at the first token that does not fit. A file with an error is gone through again
//! here: what the error makes meaningless (its binding, or what is between its brackets) is taken out of the
//! tokens, and the rest is parsed once more, until nothing is wrong or an error cannot be
//! confined. What is left is a program of which names and duplicates can be told.
//!
//! ```text
//! { a = 1 +; b = (2 *) 3; c = d; }     taken out: `a = 1 +;`, then `b`'s `(2 *)`; then: `d` is bound nowhere
//! ```
//!
//! No error is told that follows from another: an error must lie behind what was taken out, and names
//! that stand in what was taken out may be bound there.

use std::cell::RefCell;
use std::collections::HashSet;

use lalrpop_util::ParseError;

use crate::diagnostic::Diagnostic;
use crate::lexer::{LexError, Lexer, Token};
use crate::source::Source;
use crate::symbol::Symbol;
use crate::syntax_error;

/// How often a text is parsed again: a reader has enough to do then.
const MOST_ROUNDS: usize = 30;
/// No person wrote a file that has more bytes: its first error is enough.
const LARGE: usize = 4 << 20;

pub(crate) type Lexed = Result<(u32, Token, u32), LexError>;
/// What the parser refuses.
pub(crate) type Refused = ParseError<u32, Token, LexError>;

/// A text with errors, as far as it was gone through.
pub(crate) struct Recovered {
    /// The syntax errors, in the order of the text.
    pub errors: Vec<Diagnostic>,
    /// The tokens that are left, if they are a program.
    pub rest: Option<Vec<Lexed>>,
    /// Names in what was taken out: they may have been bound there.
    pub lost: HashSet<Symbol>,
}

/// Finds the syntax errors of `source` besides `first`. `parse` tries tokens.
pub(crate) fn recover(
    source: &Source,
    first: Refused,
    parse: impl Fn(&[Lexed]) -> Result<(), Refused>,
) -> Recovered {
    let docs = RefCell::default();
    let lexer = Lexer::new(source.bytes(), &docs);
    let mut found = Recovered { errors: Vec::new(), rest: None, lost: HashSet::new() };
    if source.bytes().len() > LARGE {
        found.errors.push(syntax_error::of(source, first, lexer));
        return found;
    }
    let mut tokens: Vec<Lexed> = lexer.collect();
    let mut refused = first;
    let mut sound_from = 0;
    for _ in 0..MOST_ROUNDS {
        let at = offset(&refused);
        // One that is met again, or lies before, follows from what was told.
        if at.is_none_or(|at| at >= sound_from) {
            found.errors.push(syntax_error::of(source, refused, tokens.iter().copied()));
        }
        let Some(index) = at.and_then(|at| tokens.iter().position(|token| start(token) == Some(at))) else {
            return found;
        };
        let Some(end) = take_out(&mut tokens, index, source, &mut found.lost) else { return found };
        sound_from = sound_from.max(end).max(at.map_or(0, |at| at + 1));
        match parse(&tokens) {
            Ok(()) => {
                found.rest = Some(tokens);
                return found;
            }
            Err(error) => refused = error,
        }
    }
    found
}

/// Where the token stands that does not fit; `None` for the end of the text and for what is no token.
fn offset(refused: &Refused) -> Option<u32> {
    match refused {
        ParseError::UnrecognizedToken { token: (start, ..), .. }
        | ParseError::ExtraToken { token: (start, ..) } => Some(*start),
        _ => None,
    }
}

fn start(token: &Lexed) -> Option<u32> {
    token.as_ref().ok().map(|&(start, ..)| start)
}

fn kind(token: &Lexed) -> Option<Token> {
    token.as_ref().ok().map(|&(_, token, _)| token)
}

/// Takes out what the wrong token at `index` spoils. Returns the offset from which the text is sound again.
fn take_out(
    tokens: &mut Vec<Lexed>,
    index: usize,
    source: &Source,
    lost: &mut HashSet<Symbol>,
) -> Option<u32> {
    let mut open = open_brackets(&tokens[..index]);
    let wrong = kind(&tokens[index])?;
    let is_stray = closes(wrong) && !open.iter().any(|open| pairs(kind(&tokens[open.at]), wrong));
    let (from, to, stands_in) = match open.pop().map(|open| (kind(&tokens[open.at]), open)) {
        _ if is_stray => (index, index + 1, false),
        None if wrong == Token::Semicolon => (index, index + 1, false),
        None => return None,
        Some((Some(bracket @ (Token::BraceOpen | Token::Let)), open)) => {
            let (end, ends_binding) = end_of(tokens, index, open.waiting);
            // What another bracket closes was no set of bindings, or has no end.
            let closed = tokens.get(end).and_then(kind).is_some_and(|token| pairs(Some(bracket), token));
            match (ends_binding, closed) {
                (true, _) => (open.binding, end + 1, false),
                (_, true) => (open.binding, end, false),
                (false, false) => (open.at, end, true),
            }
        }
        Some((bracket, Open { at, waiting, .. })) => {
            let (end, _) = end_of(tokens, index, waiting);
            let closed = tokens.get(end).and_then(kind).is_some_and(|token| pairs(bracket, token));
            match bracket {
                Some(Token::DollarBrace) => (at + 1, end_of_interpolation(tokens, index)?, true),
                _ => (at, if closed { end + 1 } else { end }, true),
            }
        }
    };
    let (first, last) = (start(tokens.get(from)?)?, tokens.get(to.checked_sub(1)?)?.as_ref().ok()?.2);
    // Nothing at all may have been there: `${ }`.
    let first = first.min(last);
    for token in &tokens[from..to] {
        if let Ok((start, Token::Ident, end)) = *token {
            lost.insert(Symbol::intern(&source.bytes()[start as usize..end as usize]));
        }
    }
    // A text can stand wherever an expression can.
    let instead = stands_in.then_some(Ok((first, Token::Uri, last)));
    tokens.splice(from..to, instead);
    Some(last)
}

fn opens(token: Token) -> bool {
    use Token::{BraceOpen, BracketOpen, DollarBrace, IndentOpen, Let, ParenOpen, PathOpen, StrOpen};
    matches!(token, BraceOpen | BracketOpen | DollarBrace | IndentOpen | Let | ParenOpen | PathOpen | StrOpen)
}

fn closes(token: Token) -> bool {
    use Token::{BraceClose, BracketClose, In, IndentClose, ParenClose, PathClose, StrClose};
    matches!(token, BraceClose | BracketClose | In | IndentClose | ParenClose | PathClose | StrClose)
}

/// Whether `close` is what ends `open`.
fn pairs(open: Option<Token>, close: Token) -> bool {
    match open {
        Some(Token::BraceOpen | Token::DollarBrace) => close == Token::BraceClose,
        Some(Token::BracketOpen) => close == Token::BracketClose,
        Some(Token::ParenOpen) => close == Token::ParenClose,
        Some(Token::Let) => close == Token::In,
        Some(Token::StrOpen) => close == Token::StrClose,
        Some(Token::IndentOpen) => close == Token::IndentClose,
        Some(Token::PathOpen) => close == Token::PathClose,
        _ => false,
    }
}

/// A bracket or `let` that is open.
struct Open {
    /// Which token it is.
    at: usize,
    /// Where the binding begins that is not ended.
    binding: usize,
    /// How many `with` and `assert` wait for their `;`.
    waiting: u32,
}

/// Returns the brackets and `let`s that are open at the end of `tokens`, outermost first.
fn open_brackets(tokens: &[Lexed]) -> Vec<Open> {
    let mut open: Vec<Open> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(token) = kind(token) else { break };
        if token == Token::BraceOpen && at > 0 && kind(&tokens[at - 1]) == Some(Token::Let) {
            // `let { … }`
            open.pop();
        }
        if opens(token) {
            open.push(Open { at, binding: at + 1, waiting: 0 });
        } else if closes(token) && open.last().is_some_and(|open| pairs(kind(&tokens[open.at]), token)) {
            open.pop();
        } else if let Some(open) = open.last_mut() {
            match token {
                Token::With | Token::Assert => open.waiting += 1,
                Token::Semicolon if open.waiting > 0 => open.waiting -= 1,
                Token::Semicolon => open.binding = at + 1,
                _ => {}
            }
        }
    }
    open
}

/// Returns where what encloses the token at `index` goes on: its closing bracket or, for bindings, the
/// next `;` that ends one, `waiting` of them being those of `with` and `assert`; and whether it is one.
fn end_of(tokens: &[Lexed], index: usize, mut waiting: u32) -> (usize, bool) {
    let mut depth = 0u32;
    for (at, token) in tokens.iter().enumerate().skip(index) {
        match kind(token) {
            None => return (at, false),
            Some(Token::With | Token::Assert) if depth == 0 => waiting += 1,
            Some(Token::Semicolon) if depth == 0 => match waiting.checked_sub(1) {
                Some(less) => waiting = less,
                None => return (at, true),
            },
            Some(token) if opens(token) => {
                let old_let =
                    token == Token::BraceOpen && at > 0 && kind(&tokens[at - 1]) == Some(Token::Let);
                depth += u32::from(!old_let || depth == 0);
            }
            Some(token) if closes(token) => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return (at, false),
            },
            _ => {}
        }
    }
    (tokens.len(), false)
}

/// Returns where the interpolation that the token at `index` is in ends; `None` if its string ends first.
fn end_of_interpolation(tokens: &[Lexed], index: usize) -> Option<usize> {
    let mut depth = 0u32;
    for (at, token) in tokens.iter().enumerate().skip(index) {
        match kind(token)? {
            Token::BraceClose if depth == 0 => return Some(at),
            Token::StrClose | Token::IndentClose | Token::PathClose if depth == 0 => return None,
            token if opens(token) && token != Token::Let => depth += 1,
            // Those that close nothing are not what is looked for.
            token if closes(token) && token != Token::In => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}
