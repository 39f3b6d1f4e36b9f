//! Text to tree: runs the lexer and the grammar, and turns what they refuse into diagnostics.

use std::cell::RefCell;

use lalrpop_util::{ParseError, lalrpop_mod};

use crate::ast::Ast;
use crate::builder::Builder;
use crate::diagnostic::Diagnostic;
use crate::errors;
use crate::lexer::Lexer;
use crate::source::{MAX_SOURCE_BYTES, Source};
use crate::span::Span;

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
    if source.bytes().len() > MAX_SOURCE_BYTES {
        return Err(vec![errors::too_large(source)]);
    }
    let docs = RefCell::new(Vec::new());
    let mut builder = Builder::new(source, options, &docs);
    let lexer = Lexer::new(source.bytes(), &docs);
    match grammar::ProgramParser::new().parse(&mut builder, lexer) {
        Ok(root) => builder.ast.root = Some(root),
        Err(error) => {
            let error = syntax_error(source, error);
            builder.errors.push(error);
        }
    }
    builder.finish_open_sets();
    let Builder { ast, mut errors, warnings, .. } = builder;
    if errors.is_empty() {
        return Ok(Parsed { ast, warnings });
    }
    errors.sort_by_key(|error| error.primary.as_ref().map(|label| label.at.span));
    Err(errors)
}

type GrammarError = ParseError<u32, crate::lexer::Token, crate::lexer::LexError>;

fn syntax_error(source: &Source, error: GrammarError) -> Diagnostic {
    match error {
        ParseError::User { error } => errors::lex(source, error),
        ParseError::UnrecognizedToken { token: (start, token, end), expected } => {
            errors::unexpected(source, Some(token), Span::new(start, end), &expected)
        }
        ParseError::ExtraToken { token: (start, token, end) } => {
            errors::unexpected(source, Some(token), Span::new(start, end), &[])
        }
        ParseError::UnrecognizedEof { expected, .. } => {
            let end = source.bytes().len() as u32;
            errors::unexpected(source, None, Span::at(end), &expected)
        }
        ParseError::InvalidToken { location } => errors::unexpected(source, None, Span::at(location), &[]),
    }
}
