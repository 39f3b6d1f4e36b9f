//! The evaluator: resolved expressions to values and derivations.
//!
//! ```text
//! text ─compile→ code ─eval→ value ─force_deep→ printed, or instantiated
//! ```
//!
//! [`run`] starts an evaluation on a thread of its own and hands an [`Evaluator`] to a closure;
//! everything that reaches the outside goes through the [`World`] that it was given.

pub mod json;
pub mod number;
pub mod regex;
pub mod strings;
pub mod toml;
pub mod versions;
pub mod xml;

mod assertion;
mod builtins;
mod call;
mod coerce;
mod context;
mod deep;
mod derivations;
mod error;
mod evaluator;
mod heap;
mod ops;
pub mod path;
mod print;
mod program;
mod runtime;
mod select;
mod source;
mod walk;
mod world;

pub use builtins::{Builtin, Expect, GLOBALS, TABLES};
pub use coerce::Coercion;
pub use context::{ContextElem, ContextId, Contexts};
pub use error::{ErrorKind, EvalError, EvalResult, Frame};
pub use evaluator::{Args, Evaluator, Interrupt, Resume, RunError, Settings, Stats, run};
pub use heap::{
    Attrs, AttrsBuilder, AttrsLike, Flat, Keys, List, Partial, Path, Pos, Root, Sorted, Str, Value, Values,
    View,
};
pub use print::{format_float, is_identifier, write_name, write_string};
pub use program::{FoundDerivation, NamedArguments, formals_of};
pub use world::{AddError, Fetch, FileType, Filter, FilterStopped, World};
