//! Contexts of strings: what a string depends on.

use std::sync::Arc;

use ampoule_lang::Symbol;
use ampoule_store::StorePath;

use super::Builtin;
use super::Expect::{Fails, Shows};
use super::arguments::Part;
use crate::context::{ContextElem, ContextId};
use crate::error::{EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{AttrsBuilder, Value, Values};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "addDrvOutputDependencies",
        params: &["string"],
        doc: "Makes a string that depends on a `.drv` file as such depend on all its outputs too, as `drvPath` does. \
              The context has to be that one file.",
        examples: &[(
            "builtins.addDrvOutputDependencies \"a\"",
            Fails("context of string 'a' must have exactly one element, but has 0"),
        )],
        run: add_drv_output_dependencies,
    },
    Builtin {
        name: "appendContext",
        params: &["string", "context"],
        doc: "Returns the string with more context, in the form that `getContext` gives.",
        examples: &[
            (
                "builtins.getContext (builtins.appendContext \"a\" \
                 { \"/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-x\" = { path = true; }; })",
                Shows("{ \"/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-x\" = { path = true; }; }"),
            ),
            ("builtins.appendContext \"a\" { b = { }; }", Fails("context key 'b' is not a store path")),
        ],
        run: append_context,
    },
    Builtin {
        name: "getContext",
        params: &["string"],
        doc: "Returns what a string depends on, by store path: `path` if on the object itself, `outputs` if on outputs \
              of the derivation, `allOutputs` if on the derivation with all of them.",
        examples: &[("builtins.getContext \"a\"", Shows("{ }"))],
        run: get_context,
    },
    Builtin {
        name: "hasContext",
        params: &["string"],
        doc: "Returns whether a string depends on anything. O(1).",
        examples: &[
            ("builtins.hasContext \"a\"", Shows("false")),
            ("builtins.hasContext 1", Fails("expected a string but found an integer: 1")),
        ],
        run: has_context,
    },
    Builtin {
        name: "unsafeDiscardOutputDependency",
        params: &["string"],
        doc: "Makes a string that depends on a derivation with all its outputs depend on the `.drv` file only.",
        examples: &[("builtins.unsafeDiscardOutputDependency \"a\"", Shows("\"a\""))],
        run: unsafe_discard_output_dependency,
    },
    Builtin {
        name: "unsafeDiscardStringContext",
        params: &["string"],
        doc: "Returns the string without its context: what it named may be missing when it is used. O(1).",
        examples: &[("builtins.unsafeDiscardStringContext \"a\"", Shows("\"a\""))],
        run: unsafe_discard_string_context,
    },
];

fn has_context(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let text = args.string(ev, 0)?;
    Ok(Value::bool(!text.context().is_empty()))
}

fn unsafe_discard_string_context(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let (text, _) = args.text(ev, 0)?;
    Ok(ev.heap().with_context(text, ContextId::EMPTY))
}

fn unsafe_discard_output_dependency(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let (text, context) = args.text(ev, 0)?;
    let elems = ev.contexts().elems(context);
    let weaker = elems.into_iter().map(|elem| match elem {
        ContextElem::DrvDeep(drv) => ContextElem::Opaque(drv),
        other => other,
    });
    let context = ev.contexts().from_elems(weaker);
    Ok(ev.heap().with_context(text, context))
}

fn add_drv_output_dependencies(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let (text, context) = args.text(ev, 0)?;
    let elems = ev.contexts().elems(context);
    let [elem] = elems.as_slice() else {
        let shown = text.as_str().expect("coerced").to_text().into_owned();
        return Err(EvalError::invalid(format!(
            "context of string '{shown}' must have exactly one element, but has {}",
            elems.len()
        )));
    };
    match elem {
        ContextElem::DrvDeep(_) => Ok(text),
        ContextElem::Opaque(path) if path.is_derivation() => {
            let context = ev.contexts().single(ContextElem::DrvDeep(path.clone()));
            Ok(ev.heap().with_context(text, context))
        }
        ContextElem::Opaque(path) => {
            let shown = ev.world().store_dir().print(path);
            Err(EvalError::invalid(format!("path '{shown}' is not a derivation")))
        }
        ContextElem::Built { output, .. } => Err(EvalError::invalid(format!(
            "`addDrvOutputDependencies` can only act on derivations, not on a derivation output such as '{output}'"
        ))),
    }
}

/// What `getContext` says of one store path.
#[derive(Default)]
struct Entry {
    path: bool,
    all_outputs: bool,
    outputs: Vec<Arc<str>>,
}

fn get_context(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let context = args.string(ev, 0)?.context();
    let elems = ev.contexts().elems(context);
    let mut entries = std::collections::BTreeMap::<StorePath, Entry>::new();
    for elem in elems {
        match elem {
            ContextElem::Opaque(path) => entries.entry(path).or_default().path = true,
            ContextElem::DrvDeep(drv) => entries.entry(drv).or_default().all_outputs = true,
            ContextElem::Built { drv, output } => entries.entry(drv).or_default().outputs.push(output),
        }
    }
    let dir = ev.world();
    let mut set = AttrsBuilder::new();
    for (path, entry) in entries {
        let value = show_entry(ev, &entry);
        let name = Symbol::intern(dir.store_dir().print(&path));
        set.push(ev.heap(), name, value);
    }
    Ok(set.finish(ev.heap()))
}

fn show_entry(ev: &mut Evaluator, entry: &Entry) -> Value {
    let mut set = AttrsBuilder::new();
    if entry.path {
        set.push(ev.heap(), Symbol::intern("path"), Value::TRUE);
    }
    if entry.all_outputs {
        set.push(ev.heap(), Symbol::intern("allOutputs"), Value::TRUE);
    }
    if !entry.outputs.is_empty() {
        let mut outputs = Values::new();
        for output in &entry.outputs {
            let output = ev.string(output.as_bytes());
            outputs.push(ev.heap(), output);
        }
        let outputs = outputs.into_list(ev.heap());
        set.push(ev.heap(), Symbol::intern("outputs"), outputs);
    }
    set.finish(ev.heap())
}

fn append_context(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let text = args.string(ev, 0)?;
    let value = ev.force(args.at(0))?;
    let entries = args.attrs(ev, 1)?;
    let mut elems = Vec::new();
    // Not in the order of names: what is told first is what Nix tells first.
    for (name, entry) in ev.heap().flat(entries).iter() {
        let Ok(path) = ev.world().store_dir().parse(&name.as_str()) else {
            let mut shown = String::new();
            crate::print::write_name(&mut shown, name);
            return Err(EvalError::invalid(format!("context key '{shown}' is not a store path")));
        };
        append_entry(ev, &path, entry, &mut elems)?;
    }
    let more = ev.contexts().from_elems(elems);
    let context = ev.contexts().union(text.context(), more);
    Ok(ev.heap().with_context(value, context))
}

fn append_entry(
    ev: &mut Evaluator,
    path: &StorePath,
    entry: Value,
    elems: &mut Vec<ContextElem>,
) -> EvalResult<()> {
    let entry = ev.force(entry)?;
    let entry = ev.force_attrs(entry).part("while evaluating the value of a string context")?;
    let part = |name: &str| format!("while evaluating the `{name}` attribute of a string context");
    let flag = |ev: &mut Evaluator, name: &str| match entry.get(Symbol::intern(name)) {
        Some(value) => ev.force_bool(value).part(&part(name)),
        None => Ok(false),
    };
    let not_derivation = |ev: &Evaluator, what: &str| {
        let shown = ev.world().store_dir().print(path);
        Err(EvalError::invalid(format!(
            "tried to add {what} context of \"{shown}\", which is not a derivation, to a string"
        )))
    };
    if flag(ev, "path")? {
        elems.push(ContextElem::Opaque(path.clone()));
    }
    if flag(ev, "allOutputs")? {
        if !path.is_derivation() {
            return not_derivation(ev, "all-outputs");
        }
        elems.push(ContextElem::DrvDeep(path.clone()));
    }
    let Some(outputs) = ev.force_attr(entry, Symbol::intern("outputs"))? else { return Ok(()) };
    let outputs = ev.force_list(outputs).part(&part("outputs"))?;
    if !outputs.is_empty() && !path.is_derivation() {
        return not_derivation(ev, "derivation output");
    }
    for index in 0..outputs.len() {
        let output = ev.force_element(outputs, index)?;
        let output = ev.force_string_no_context(output)?;
        elems.push(ContextElem::Built { drv: path.clone(), output: output.to_text().into() });
    }
    Ok(())
}
