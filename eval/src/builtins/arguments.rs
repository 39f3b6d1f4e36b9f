//! The arguments of a builtin, forced to what it expects; and what a trace says of them, in Nix's words.
//!
//! `args.list(ev, 1)` is argument 1, forced to a list. If it is none, the trace of the error has "while evaluating the
//! second argument passed to builtins.map". As in Nix, a list, a set or a text that fails by itself is told without
//! that line, and a number, a string or a function with it.

use std::path::PathBuf;

use ampoule_lang::Symbol;
use ampoule_lang::resolve::Place;

use crate::coerce::Coercion;
use crate::context::ContextId;
use crate::error::{EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{Attrs, List, Sorted, Str, Value};

/// Says which part of a computation failed.
pub(super) trait Part<T> {
    /// Adds `words` to the trace of a failure.
    fn part(self, words: &str) -> EvalResult<T>;
}

impl<T> Part<T> for EvalResult<T> {
    #[inline]
    fn part(self, words: &str) -> EvalResult<T> {
        self.map_err(|error| error.in_part(words, Place::NONE))
    }
}

impl Args {
    /// Returns an argument that has to be a list.
    #[inline]
    pub(super) fn list(&self, ev: &mut Evaluator, index: usize) -> EvalResult<List> {
        let value = ev.force(self.at(index))?;
        ev.force_list(value).map_err(|error| self.in_argument(error, index))
    }

    /// Returns an argument that has to be a set.
    #[inline]
    pub(super) fn attrs(&self, ev: &mut Evaluator, index: usize) -> EvalResult<Attrs> {
        let value = ev.force(self.at(index))?;
        ev.force_attrs(value).map_err(|error| self.in_argument(error, index))
    }

    /// Returns an argument that has to be a set, to be read in the order of names.
    pub(super) fn sorted(&self, ev: &mut Evaluator, index: usize) -> EvalResult<Sorted> {
        let attrs = self.attrs(ev, index)?;
        Ok(ev.heap().sorted(attrs))
    }

    /// Returns an argument that has to be a function, or a set with `__functor`.
    #[inline]
    pub(super) fn function(&self, ev: &mut Evaluator, index: usize) -> EvalResult<Value> {
        ev.force_function(self.at(index)).map_err(|error| self.in_argument(error, index))
    }

    /// Returns an argument that has to be a string.
    #[inline]
    pub(super) fn string(&self, ev: &mut Evaluator, index: usize) -> EvalResult<Str> {
        ev.force_string(self.at(index)).map_err(|error| self.in_argument(error, index))
    }

    /// Returns an argument that has to be a string which depends on nothing.
    #[inline]
    pub(super) fn string_no_context(&self, ev: &mut Evaluator, index: usize) -> EvalResult<Str> {
        ev.force_string_no_context(self.at(index)).map_err(|error| self.in_argument(error, index))
    }

    /// Returns an argument that has to be the name of an attribute.
    #[inline]
    pub(super) fn name(&self, ev: &mut Evaluator, index: usize) -> EvalResult<Symbol> {
        Ok(Symbol::intern(self.string_no_context(ev, index)?.as_bytes()))
    }

    /// Returns an argument that has to be an integer.
    #[inline]
    pub(super) fn int(&self, ev: &mut Evaluator, index: usize) -> EvalResult<i64> {
        ev.force_int(self.at(index)).map_err(|error| self.in_argument(error, index))
    }

    /// Returns an argument that has to be a number.
    pub(super) fn float(&self, ev: &mut Evaluator, index: usize) -> EvalResult<f64> {
        ev.force_float(self.at(index)).map_err(|error| self.in_argument(error, index))
    }

    /// Returns an argument as a string.
    pub(super) fn coerced(&self, ev: &mut Evaluator, index: usize, how: Coercion) -> EvalResult<Value> {
        let value = ev.force(self.at(index))?;
        ev.coerce_to_string(value, how).map_err(|error| self.wanted_for(error, index))
    }

    /// Returns an argument as interpolation does: a string, and its context.
    pub(super) fn text(&self, ev: &mut Evaluator, index: usize) -> EvalResult<(Value, ContextId)> {
        let value = self.coerced(ev, index, Coercion::INTERPOLATION)?;
        Ok((value, value.as_str().expect("coerced").context()))
    }

    /// Returns an argument that has to be a path which can be read.
    pub(super) fn readable_path(&self, ev: &mut Evaluator, index: usize) -> EvalResult<PathBuf> {
        ev.readable_path(self.at(index)).map_err(|error| self.wanted_for(error, index))
    }

    /// Adds to the trace of an error which argument it was.
    #[cold]
    #[inline(never)]
    pub(super) fn in_argument(&self, error: EvalError, index: usize) -> EvalError {
        error.in_part(words(self.builtin.name, index), Place::NONE)
    }

    /// Adds to the trace which argument it was that cannot be a text or path.
    #[cold]
    #[inline(never)]
    pub(super) fn wanted_for(&self, error: EvalError, index: usize) -> EvalError {
        error.wanted_for(&words(self.builtin.name, index), Place::NONE)
    }
}

/// What a trace says of argument `index` of a builtin.
fn words(builtin: &str, index: usize) -> String {
    let ordinal = ["first", "second", "third"].get(index).copied().unwrap_or("next");
    let what = match (builtin, index) {
        ("abort", _) => "the error message passed to builtins.abort",
        // Without an s, in Nix too.
        ("throw", _) => "the error message passed to builtin.throw",
        ("addErrorContext", 0) => "the error message passed to builtins.addErrorContext",
        ("concatStringsSep", 0) => {
            "the first argument (the separator string) passed to builtins.concatStringsSep"
        }
        ("concatStringsSep", 1) => {
            "the second argument (the list of strings to concat) passed to builtins.concatStringsSep"
        }
        ("filterSource", 1) => "the second argument (the path to filter) passed to 'builtins.filterSource'",
        ("substring", 0) => "the first argument (the start offset) passed to builtins.substring",
        ("substring", 1) => "the second argument (the substring length) passed to builtins.substring",
        ("substring", 2) => "the third argument (the string) passed to builtins.substring",
        ("warn", 0) => "the first argument; the message passed to builtins.warn",
        ("hashFile", 1)
        | ("scopedImport", 1)
        | ("import" | "pathExists" | "readDir" | "readFile" | "readFileType", 0) => {
            return "while realising the context of a path".to_owned();
        }
        (
            "addDrvOutputDependencies"
            | "attrNames"
            | "attrValues"
            | "derivationStrict"
            | "fromTOML"
            | "getContext"
            | "hasContext"
            | "listToAttrs"
            | "stringLength"
            | "unsafeDiscardOutputDependency"
            | "unsafeDiscardStringContext",
            _,
        ) => return format!("while evaluating the argument passed to builtins.{builtin}"),
        ("path", _) => "the argument passed to 'builtins.path'",
        ("dirOf" | "elemAt" | "head" | "storePath" | "tail", _) => {
            return format!("while evaluating the {ordinal} argument passed to 'builtins.{builtin}'");
        }
        ("foldl'", _) => {
            return format!("while evaluating the {ordinal} argument passed to builtins.foldlStrict");
        }
        _ => return format!("while evaluating the {ordinal} argument passed to builtins.{builtin}"),
    };
    format!("while evaluating {what}")
}
