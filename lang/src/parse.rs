//! Text to tree: runs the lexer and the grammar, and turns what they refuse into diagnostics.

use std::cell::RefCell;

use lalrpop_util::lalrpop_mod;

use crate::ast::Ast;
use crate::builder::Builder;
use crate::diagnostic::Diagnostic;
use crate::errors;
use crate::lexer::Lexer;
use crate::names;
use crate::source::{MAX_SOURCE_BYTES, Source};
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
    let (parsed, errors) = parse_any(source, options);
    match parsed {
        Some(parsed) if errors.is_empty() => Ok(parsed),
        _ => Err(errors),
    }
}

/// Parses a program and looks for names that are bound nowhere, also if something else is wrong with it.
///
/// # Errors
/// All that is wrong with the text, in its order.
pub fn parse_and_check(source: &Source, options: ParseOptions) -> Result<Parsed, Vec<Diagnostic>> {
    let (parsed, mut errors) = parse_any(source, options);
    let Some(parsed) = parsed else { return Err(errors) };
    errors.extend(names::undefined(&parsed.ast, source));
    if errors.is_empty() {
        return Ok(parsed);
    }
    sort(&mut errors);
    Err(errors)
}

/// Returns the tree, if there is one, and the errors. With errors it is not the program's, but good enough to look for more.
fn parse_any(source: &Source, options: ParseOptions) -> (Option<Parsed>, Vec<Diagnostic>) {
    if source.bytes().len() > MAX_SOURCE_BYTES {
        return (None, vec![errors::too_large(source)]);
    }
    let docs = RefCell::new(Vec::new());
    let mut builder = Builder::new(source, options, &docs);
    let lexer = Lexer::new(source.bytes(), &docs);
    match grammar::ProgramParser::new().parse(&mut builder, lexer) {
        Ok(root) => builder.ast.root = Some(root),
        Err(error) => builder.errors.push(syntax_error::of(source, error)),
    }
    builder.finish_open_sets();
    let Builder { ast, mut errors, warnings, .. } = builder;
    sort(&mut errors);
    (ast.root.is_some().then_some(Parsed { ast, warnings }), errors)
}

fn sort(errors: &mut [Diagnostic]) {
    errors.sort_by_key(|error| error.primary.as_ref().map(|label| label.at.span));
}
