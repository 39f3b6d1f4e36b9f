//! Source text to resolved expressions: the language of ampoule, which is Nix's.
//!
//! ```text
//! bytes ─lexer→ tokens ─grammar→ ast ─resolve→ resolved
//! ```
//!
//! Nothing here reads a file or prints: callers bring the bytes as a
//! [`source::Source`] and get a tree, or [`diagnostic::Diagnostic`]s.

pub mod ast;
pub mod codes;
pub mod diagnostic;
pub mod fmt;
pub mod names;
pub mod near;
pub mod source;
pub mod span;
pub mod symbol;

pub mod path;
pub mod print;
pub mod render;
pub mod resolve;

mod bindings;
mod builder;
mod errors;
mod indent;
mod lexer;
mod operators;
mod parse;
mod recover;
mod syntax_error;

pub use ast::Ast;
pub use diagnostic::Diagnostic;
pub use parse::{ParseOptions, Parsed, parse, parse_and_check, parse_part, parse_with};
pub use source::{FileId, MAX_SOURCE_BYTES, Position, Source, SourceMap};
pub use span::{FileSpan, Span, Spanned};
pub use symbol::{Symbol, sym};
