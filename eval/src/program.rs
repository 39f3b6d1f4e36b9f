//! Whole programs: evaluating a file or a text, calling what it gives with named arguments,
//! selecting from it by an attribute path, and finding the derivations in it.

use std::collections::BTreeMap;
use std::path::Path;

use ampoule_lang::resolve::Formals;
use ampoule_lang::{Symbol, sym};

use crate::builtins::NextArgument;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::Evaluator;
use crate::heap::{AttrsBuilder, Value, View};
use crate::runtime::Words;

/// Arguments by name for functions that a program gives (`--arg`, `--argstr`, the package set).
#[derive(Default)]
pub struct NamedArguments {
    /// A set that is passed to functions with formals; kept alive by the caller's local.
    pub set: Option<Value>,
}

/// A derivation found by [`Evaluator::derivations`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDerivation {
    /// Its attribute path; empty for the value itself.
    pub attr_path: String,
    /// Its name.
    pub name: String,
    /// Path of the `.drv` file.
    pub drv_path: String,
    /// The output asked for; empty for the default.
    pub output_name: String,
}

impl Evaluator {
    /// Evaluates a file to weak head normal form.
    ///
    /// # Errors
    /// If it cannot be read, is no program, or fails.
    pub fn eval_file(&mut self, path: &Path) -> EvalResult<Value> {
        self.guarded(|ev| ev.import(path))
    }

    /// Evaluates a text to weak head normal form. `name` is what messages call it (`«string»`).
    ///
    /// # Errors
    /// If it is no program, or fails.
    pub fn eval_text(&mut self, name: &str, base_dir: &Path, text: &[u8]) -> EvalResult<Value> {
        self.guarded(|ev| {
            let body = ev.compile_text(name, base_dir, text.to_vec(), &[])?;
            ev.eval_body(body)
        })
    }

    /// Evaluates a text that may use more names (a REPL's).
    ///
    /// # Errors
    /// If it is no program, or fails.
    pub fn eval_text_in(
        &mut self,
        name: &str,
        base_dir: &Path,
        text: &[u8],
        scope: &[(Symbol, Value)],
    ) -> EvalResult<Value> {
        self.guarded(|ev| {
            let names: Vec<Symbol> = scope.iter().map(|&(name, _)| name).collect();
            let body = ev.compile_text(name, base_dir, text.to_vec(), &names)?;
            let Some(frame) = ev.heap.push_frame(body.slots as usize) else {
                return Err(EvalError::stack_overflow());
            };
            for (index, &(_, value)) in scope.iter().enumerate() {
                frame.set(index as u32, value);
            }
            ev.eval(&body.node, frame, crate::heap::Captures::NONE)
        })
    }

    /// Calls a function that has formals with the arguments that it names; other values stay as they are.
    ///
    /// # Errors
    /// If a formal without default is not among the arguments, or the call fails.
    pub fn auto_call(&mut self, value: Value, arguments: &NamedArguments) -> EvalResult<Value> {
        self.guarded(|ev| ev.auto_call_in(value, arguments))
    }

    fn auto_call_in(&mut self, value: Value, arguments: &NamedArguments) -> EvalResult<Value> {
        let value = self.force(value)?;
        if let Some(attrs) = value.as_attrs() {
            let Some(functor) = self.force_attr(attrs, sym::FUNCTOR)? else { return Ok(value) };
            let function = self.call(functor, &[value])?;
            return self.auto_call_in(function, arguments);
        }
        let Some(formals) = formals_of(value) else { return Ok(value) };
        let given = arguments.set.and_then(Value::as_attrs);
        let mut set = AttrsBuilder::new();
        if formals.ellipsis
            && let Some(given) = given
        {
            let given = self.heap.flat(given);
            for (name, value) in given.iter() {
                set.push(&mut self.heap, name, value);
            }
        } else {
            for formal in formals.list {
                match given.and_then(|given| given.get(formal.name)) {
                    Some(value) => set.push(&mut self.heap, formal.name, value),
                    None if formal.default.is_some() => {}
                    None => return Err(missing_auto_argument(formal.name).at(formal.place)),
                }
            }
        }
        let set = set.finish(&mut self.heap);
        self.call(value, &[set])
    }

    /// Selects by an attribute path as `-A` has it (`a.b."c d".0`), calling functions on the way.
    ///
    /// # Errors
    /// If a part of the path is not there.
    pub fn select_path(&mut self, value: Value, path: &str, arguments: &NamedArguments) -> EvalResult<Value> {
        self.guarded(|ev| {
            let mut value = value;
            for part in split_attr_path(path)? {
                value = ev.auto_call_in(value, arguments)?;
                value = ev.select_part(value, &part, path)?;
            }
            ev.force(value)
        })
    }

    fn select_part(&mut self, value: Value, part: &str, path: &str) -> EvalResult<Value> {
        let index = index_of(part);
        match value.view() {
            View::List(list) => {
                let Some(index) = index else {
                    return Err(EvalError::new(
                        ErrorKind::Type,
                        format!(
                            "the expression selected by the selection path '{path}' should be a set but is a list"
                        ),
                    ));
                };
                if index >= list.len() {
                    return Err(EvalError::new(
                        ErrorKind::MissingAttribute,
                        format!("list index {index} in selection path '{path}' is out of range"),
                    ));
                }
                self.force_element(list, index)
            }
            View::Attrs(attrs) if index.is_none() => {
                let name = Symbol::intern(part);
                if part.is_empty() {
                    return Err(EvalError::new(
                        ErrorKind::Other,
                        format!("empty attribute name in selection path '{path}'"),
                    ));
                }
                match self.force_attr(attrs, name)? {
                    Some(value) => Ok(value),
                    None => {
                        let missing = self.missing_attribute(attrs, name, ampoule_lang::resolve::Place::NONE);
                        let error = EvalError::new(
                            ErrorKind::MissingAttribute,
                            format!("attribute '{part}' in selection path '{path}' not found"),
                        );
                        Err(missing.hints().iter().fold(error, |error, hint| error.help(hint.clone())))
                    }
                }
            }
            _ => {
                let kind = self.type_with_article(value);
                let expected = if index.is_some() { "list" } else { "set" };
                Err(EvalError::new(
                    ErrorKind::Type,
                    format!(
                        "the expression selected by the selection path '{path}' should be a {expected} but is {kind}"
                    ),
                ))
            }
        }
    }

    /// Finds the derivations in a value, as `nix-instantiate` does: the value itself, elements of lists,
    /// attributes of sets (nested ones only if they have `recurseForDerivations = true`).
    ///
    /// # Errors
    /// If evaluating fails.
    pub fn derivations(
        &mut self,
        value: Value,
        arguments: &NamedArguments,
    ) -> EvalResult<Vec<FoundDerivation>> {
        self.guarded(|ev| {
            let mut found = Vec::new();
            let mut seen = BTreeMap::new();
            ev.find_derivations(value, String::new(), arguments, &mut found, &mut seen)?;
            Ok(found)
        })
    }

    fn find_derivations(
        &mut self,
        value: Value,
        path: String,
        arguments: &NamedArguments,
        found: &mut Vec<FoundDerivation>,
        seen: &mut BTreeMap<u64, ()>,
    ) -> EvalResult<()> {
        self.check_depth()?;
        let value = self.auto_call_in(value, arguments)?;
        match value.view() {
            View::Attrs(attrs) => {
                if self.is_derivation(attrs)? {
                    if seen.insert(value.identity(), ()).is_none() {
                        found.push(self.found_derivation(value, path)?);
                    }
                    return Ok(());
                }
                if seen.insert(value.identity(), ()).is_some() {
                    return Ok(());
                }
                let sorted = self.heap.sorted(attrs);
                for (name, value) in sorted.iter() {
                    let value = self.force(value)?;
                    if !self.leads_to_derivations(value)? {
                        continue;
                    }
                    let inner = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                    self.find_derivations(value, inner, arguments, found, seen)?;
                }
                Ok(())
            }
            View::List(list) => {
                for index in 0..list.len() {
                    let inner = if path.is_empty() { index.to_string() } else { format!("{path}.{index}") };
                    let element = self.force_element(list, index)?;
                    self.find_derivations(element, inner, arguments, found, seen)?;
                }
                Ok(())
            }
            _ => Err(EvalError::new(
                ErrorKind::Type,
                "expression does not evaluate to a derivation (or a set or list of those)",
            )),
        }
    }

    /// Whether an attribute counts: a derivation, or a set that asks to be looked into.
    fn leads_to_derivations(&mut self, value: Value) -> EvalResult<bool> {
        let View::Attrs(attrs) = value.view() else { return Ok(false) };
        if self.is_derivation(attrs)? {
            return Ok(true);
        }
        let recurse = self.force_attr(attrs, Symbol::intern("recurseForDerivations"))?;
        Ok(recurse == Some(Value::TRUE))
    }

    fn found_derivation(&mut self, value: Value, attr_path: String) -> EvalResult<FoundDerivation> {
        let attrs = value.as_attrs().expect("a derivation is a set");
        let text = |ev: &mut Self, name: &str| -> EvalResult<Option<String>> {
            match ev.force_attr(attrs, Symbol::intern(name))? {
                Some(value) => Ok(Some(ev.force_string(value)?.to_text().into_owned())),
                None => Ok(None),
            }
        };
        let drv_path = text(self, "drvPath")?.ok_or_else(|| {
            EvalError::new(ErrorKind::Type, "derivation does not have a 'drvPath' attribute")
        })?;
        let name =
            text(self, "name")?.ok_or_else(|| EvalError::new(ErrorKind::Type, "derivation name missing"))?;
        let output_name = text(self, "outputName")?.unwrap_or_default();
        Ok(FoundDerivation { attr_path, name, drv_path, output_name })
    }
}

/// Returns the arguments by name that a function asks for next; nothing if it takes its argument as a whole.
pub fn formals_of(function: Value) -> Option<&'static Formals<'static, Words>> {
    NextArgument::of(function)?.formals
}

#[cold]
fn missing_auto_argument(name: Symbol) -> EvalError {
    EvalError::new(
        ErrorKind::Arguments,
        format!(
            "cannot evaluate a function that has an argument without a value ('{name}')\n\
             Nix attempted to evaluate a function as a top level expression; in\n\
             this case it must have its arguments supplied either by default\n\
             values, or passed explicitly with '--arg' or '--argstr'. See\n\
             https://nix.dev/manual/nix/stable/language/syntax.html#functions."
        ),
    )
}

/// The number that a part of an attribute path is; Nix's has 32 bits.
fn index_of(part: &str) -> Option<usize> {
    let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { part.parse::<u32>().ok().map(|index| index as usize) } else { None }
}

/// Splits `a.b."c.d"` at its dots.
fn split_attr_path(path: &str) -> EvalResult<Vec<String>> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '.' => parts.push(std::mem::take(&mut part)),
            '"' => loop {
                match chars.next() {
                    Some('"') => break,
                    Some(c) => part.push(c),
                    None => {
                        return Err(EvalError::new(
                            ErrorKind::Other,
                            format!("missing closing quote in selection path '{path}'"),
                        ));
                    }
                }
            },
            c => part.push(c),
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    Ok(parts)
}
