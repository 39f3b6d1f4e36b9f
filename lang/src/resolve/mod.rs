//! Names to places: turns the tree of a file into code for the evaluator.
//!
//! Every name is looked up once, here: it becomes a slot of a frame, a captured value, a
//! constant, or a question to the surrounding `with`s. What is bound nowhere is an
//! error, and all of them are found in one go.
//!
//! The pass also decides what must wait. In a lazy place (an argument, an
//! element, the value of an attribute) constants, variables and functions stand
//! as they are, small arithmetic and selections are tried at once, and everything else becomes a
//! [`Suspension`] with a list of what it captures:
//!
//! ```text
//! f (n - 1) (g n) n     Eager(Local n - 1, else Thunk)   Thunk [Local n]   Local n
//! ```
//!
//! The body of a function inside of a file is only looked through for names, to know what it captures and that
//! they are bound; it is parsed again and becomes code when it is called for the first time ([`Deferred`]).
//!
//! Bindings that see each other are written in order. One that captures a later one is patched
//! when all are there ([`Patch`]).

mod ir;
mod resolver;
mod shown;

pub use ir::{
    Assert, Attrs, Binary, Body, Call, Constants, Deferred, DynamicAttrs, Eager, Field, Formal, Formals, Has,
    Hint, If, Interpolate, Lambda, Let, List, Node, Overrides, Patch, Place, Runtime, Scope, Select, Start,
    Step, Suspension, Unary, Var, With, WithName,
};

use bumpalo::Bump;

use crate::ast::Ast;
use crate::diagnostic::Diagnostic;
use crate::source::Source;
use crate::symbol::Symbol;

/// How a file is resolved.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// How deep expressions may be nested: each level takes up to 4 KiB of native stack.
    pub max_depth: u32,
    /// Whether the parts of sets and lists wait wherever Nix lets them wait, because values are going to be printed
    /// as they are.
    pub waits_as_nix: bool,
    /// Whether a literal in a function is another list or set in each call, as in Nix, though it has nothing but
    /// constants in it: printed values show whether two are the same.
    pub fresh_literals: bool,
    /// Bodies of functions are put off from this length on.
    pub min_deferred_bytes: usize,
}

/// Resolves the names of a file.
///
/// `base` is added to all offsets (see [`Place`]); at least 1. `scope` names what the caller binds:
/// slots 0, 1, … of the returned body's frame.
///
/// # Errors
/// All names that are bound nowhere, in the order of the text.
pub fn resolve<'a, R: Runtime>(
    ast: &Ast,
    source: &Source,
    base: u32,
    arena: &'a Bump,
    constants: &mut dyn Constants<'a, R>,
    scope: &[Symbol],
    how: How,
) -> Result<&'a Body<'a, R>, Vec<Diagnostic>> {
    resolver::Resolver::new(ast, source, base, arena, constants, how).file(scope)
}

/// Resolves a body that was put off. `ast` is that of the body, `source` that of the file.
///
/// # Errors
/// If it is nested too deep for the stack that is left.
pub fn resolve_deferred<'a, R: Runtime>(
    deferred: &Deferred<'a, R>,
    ast: &Ast,
    source: &Source,
    arena: &'a Bump,
    constants: &mut dyn Constants<'a, R>,
    how: How,
) -> Result<&'a Body<'a, R>, Vec<Diagnostic>> {
    resolver::Resolver::new(ast, source, deferred.base, arena, constants, how).deferred(deferred)
}
