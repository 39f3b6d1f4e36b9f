//! Text to tree: runs the lexer and the grammar, and turns what they refuse into diagnostics.

use crate::ast::Ast;
use crate::diagnostic::Diagnostic;
use crate::source::Source;

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
    let _ = (source, options);
    Err(Vec::new())
}
