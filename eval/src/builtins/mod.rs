//! The functions of the language that are written in Rust, as tables of records.
//!
//! A record has the name, the parameters, a doc text and examples that are run
//! as tests; its function is right below. Each group of builtins is a file with a table.
//!
//! A builtin gets its arguments unforced and forces what it needs. It reaches the outside through
//! `ev.world()` only. `run` of a builtin without parameters is a constant, computed when asked for.

mod arguments;
mod attrs;
mod contexts;
mod control;
mod derivation;
mod files;
mod lists;
mod numbers;
mod strings;
mod system;
mod text;

pub(crate) use attrs::NextArgument;
pub(crate) use derivation::{ASSEMBLE, DERIVATION_FILE};

use crate::error::EvalResult;
use crate::evaluator::{Args, Evaluator};
use crate::heap::{Root, Value};

/// A function written in Rust.
pub struct Builtin {
    /// The name in `builtins`.
    pub name: &'static str,
    /// Names of its parameters.
    pub params: &'static [&'static str],
    /// What it does, what it forces, what it costs.
    pub doc: &'static str,
    /// Programs and what they give.
    pub examples: &'static [(&'static str, Expect)],
    /// Computes it. The result may be an unforced thunk of any kind.
    pub run: fn(&mut Evaluator, &Args) -> EvalResult<Value>,
}

/// What an example gives.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// It prints this, forced all the way.
    Shows(&'static str),
    /// It fails, and the message contains this.
    Fails(&'static str),
}

/// What builtins keep from call to call.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// Compiled regular expressions.
    regexes: crate::regex::RegexCache,
    /// What the texts of `toFile` refer to.
    texts: std::collections::HashMap<ampoule_store::StorePath, Box<[ampoule_store::StorePath]>>,
    /// `derivation` as the language has it, once something asked for that.
    derivation: Option<Root>,
    /// What every derivation with these outputs has, besides its attributes.
    derivation_templates: rustc_hash::FxHashMap<Box<[ampoule_lang::Symbol]>, Root>,
}

/// Builtins without a name: other builtins make thunks of them.
pub(crate) const INTERNAL: &[Builtin] = &derivation::INTERNAL;

/// All tables.
pub const TABLES: &[&[Builtin]] = &[
    attrs::TABLE,
    contexts::TABLE,
    control::TABLE,
    derivation::TABLE,
    files::TABLE,
    lists::TABLE,
    numbers::TABLE,
    strings::TABLE,
    system::TABLE,
    text::TABLE,
];

/// Names that are in scope without `builtins.` or `__` before them, as in Nix.
pub const GLOBALS: &[&str] = &[
    "abort",
    "baseNameOf",
    "break",
    "derivation",
    "derivationStrict",
    "dirOf",
    "fetchGit",
    "fetchMercurial",
    "fetchTarball",
    "fetchTree",
    "fromTOML",
    "import",
    "isNull",
    "map",
    "placeholder",
    "removeAttrs",
    "scopedImport",
    "throw",
    "toString",
];
