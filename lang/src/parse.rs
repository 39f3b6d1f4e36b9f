//! Text to tree: runs the lexer and the grammar, and turns what they refuse into diagnostics.

use std::cell::RefCell;
use std::collections::HashSet;

use lalrpop_util::lalrpop_mod;

use crate::ast::Ast;
use crate::builder::Builder;
use crate::diagnostic::Diagnostic;
use crate::errors;
use crate::lexer::{DocComment, Lexer};
use crate::names;
use crate::recover::{Lexed, Refused, recover};
use crate::source::{MAX_SOURCE_BYTES, Source};
use crate::span::Span;
use crate::syntax_error;

lalrpop_mod!(
    #[allow(clippy::all, unused, missing_docs, reason = "made by a program")]
    grammar
);

/// Switches of the language.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParseOptions {
    /// Whether `|>` and `<|` are operators (Nix's experimental feature `pipe-operators`).
    pub pipe_operators: bool,
}

/// A program that could be understood.
#[derive(Debug)]
pub struct Parsed {
    /// Its tree.
    pub ast: Ast,
    /// Warnings, in the order of the text.
    pub warnings: Vec<Diagnostic>,
}

/// Parses a program with the default switches and drops warnings.
///
/// # Errors
/// All that is wrong with the text, in its order.
pub fn parse(source: &Source) -> Result<Ast, Vec<Diagnostic>> {
    parse_with(source, ParseOptions::default()).map(|parsed| parsed.ast)
}

/// Parses a program.
///
/// # Errors
/// All that is wrong with the text, in its order.
pub fn parse_with(source: &Source, options: ParseOptions) -> Result<Parsed, Vec<Diagnostic>> {
    let mut attempt = parse_any(source, options);
    if let Some(refused) = attempt.refused {
        let docs = RefCell::default();
        attempt.errors.push(syntax_error::of(source, refused, Lexer::new(source.bytes(), &docs)));
        sort(&mut attempt.errors);
    }
    match attempt.parsed {
        Some(parsed) if attempt.errors.is_empty() => Ok(parsed),
        _ => Err(attempt.errors),
    }
}

/// Parses a program and looks for names that are bound nowhere, also if something else is wrong with it.
///
/// # Errors
/// All that is wrong with the text, in its order; names that are bound nowhere come last, since Nix looks for them last.
pub fn parse_and_check(source: &Source, options: ParseOptions) -> Result<Parsed, Vec<Diagnostic>> {
    let mut whole = parse_any(source, options);
    let mut lost = HashSet::new();
    if let Some(refused) = whole.refused.take() {
        let try_tokens =
            |tokens: &[Lexed]| match parse_tokens(source, options, tokens.iter().copied()).refused {
                Some(refused) => Err(refused),
                None => Ok(()),
            };
        let recovered = recover(source, refused, try_tokens);
        match recovered.rest {
            Some(tokens) => whole = parse_tokens(source, options, tokens.into_iter()),
            None => whole.parsed = None,
        }
        whole.errors.extend(recovered.errors);
        lost = recovered.lost;
    }
    let mut errors = whole.errors;
    if let Some(parsed) = &whole.parsed {
        errors.extend(names::undefined_but(&lost, &parsed.ast, source));
    }
    sort(&mut errors);
    errors.sort_by_key(|error| error.code == crate::codes::UNDEFINED_VARIABLE);
    match whole.parsed {
        Some(parsed) if errors.is_empty() => Ok(parsed),
        _ => Err(errors),
    }
}

/// Parses an expression of a program that was parsed before: the one at `span`, where an [`Ast`] says that it stands.
/// `None` if there is none.
pub fn parse_part(source: &Source, span: Span, options: ParseOptions) -> Option<Ast> {
    let docs = RefCell::default();
    let bytes = &source.bytes()[..span.range().end];
    let lexer = Lexer::starting_at(span.range().start, bytes, &docs);
    parse_lexed(source, options, &docs, lexer, span.range().len()).parsed.map(|parsed| parsed.ast)
}

/// What became of a text.
struct Attempt {
    /// The tree, if there is one. With errors it is not the program's, but good enough to look for more.
    parsed: Option<Parsed>,
    /// What is wrong besides syntax, in the order of the text.
    errors: Vec<Diagnostic>,
    /// Where the grammar stopped.
    refused: Option<Refused>,
}

fn parse_any(source: &Source, options: ParseOptions) -> Attempt {
    if source.bytes().len() > MAX_SOURCE_BYTES {
        return Attempt { parsed: None, errors: vec![errors::too_large(source)], refused: None };
    }
    let docs = RefCell::new(Vec::new());
    parse_lexed(source, options, &docs, Lexer::new(source.bytes(), &docs), source.bytes().len())
}

/// Parses what is left of a text with errors.
fn parse_tokens(source: &Source, options: ParseOptions, tokens: impl Iterator<Item = Lexed>) -> Attempt {
    parse_lexed(source, options, &RefCell::default(), tokens, source.bytes().len())
}

fn parse_lexed(
    source: &Source,
    options: ParseOptions,
    docs: &RefCell<Vec<DocComment>>,
    tokens: impl Iterator<Item = Lexed>,
    bytes: usize,
) -> Attempt {
    let mut builder = Builder::new(source, options, docs, bytes);
    let refused = match grammar::ProgramParser::new().parse(&mut builder, tokens) {
        Ok(root) => {
            builder.ast.root = Some(root);
            None
        }
        Err(error) => Some(error),
    };
    let (ast, mut errors, warnings) = builder.finish();
    sort(&mut errors);
    Attempt { parsed: ast.root.is_some().then_some(Parsed { ast, warnings }), errors, refused }
}

fn sort(errors: &mut [Diagnostic]) {
    errors.sort_by_key(|error| error.primary.as_ref().map(|label| label.at.span));
}
