//! Attribute sets.

use ampoule_lang::resolve::{Formals, Place};
use ampoule_lang::{Symbol, sym};
use rustc_hash::FxHashSet;

use super::Builtin;
use super::Expect::{Fails, Shows};
use super::arguments::Part;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{Attrs, AttrsBuilder, Life, Value, Values, View};
use crate::runtime::Words;

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "attrNames",
        params: &["set"],
        doc: "Returns the names, sorted, forcing no value. O(n log n) once a set, then O(n).",
        examples: &[
            ("builtins.attrNames { b = throw \"no\"; a = 1; }", Shows("[ \"a\" \"b\" ]")),
            ("builtins.attrNames [ ]", Fails("expected a set but found a list: [ ]")),
        ],
        run: attr_names,
    },
    Builtin {
        name: "attrValues",
        params: &["set"],
        doc: "Returns the values in the order of their names, not forced. O(n log n) once a set, then O(n).",
        examples: &[
            ("builtins.attrValues { b = 1; a = 2; }", Shows("[ 2 1 ]")),
            ("builtins.length (builtins.attrValues { a = throw \"no\"; })", Shows("1")),
        ],
        run: attr_values,
    },
    Builtin {
        name: "catAttrs",
        params: &["name", "sets"],
        doc: "Returns the values of attribute `name` of those sets that have it. The sets are forced, the values are \
              not. O(n).",
        examples: &[
            ("builtins.catAttrs \"a\" [ { a = 1; } { b = 0; } { a = 2; } ]", Shows("[ 1 2 ]")),
            ("builtins.length (builtins.catAttrs \"a\" [ { a = throw \"no\"; } ])", Shows("1")),
        ],
        run: cat_attrs,
    },
    Builtin {
        name: "functionArgs",
        params: &["f"],
        doc: "Returns a set with the name of each argument that `f` takes by name, and whether it has a default. Empty \
              for functions that take their argument whole, and for built-in ones. O(n).",
        examples: &[
            ("builtins.functionArgs ({ a, b ? 1 }: a)", Shows("{ a = false; b = true; }")),
            ("builtins.functionArgs (x: x)", Shows("{ }")),
            ("builtins.functionArgs (x: { a }: x)", Shows("{ }")),
            ("builtins.functionArgs ((x: { a }: x) 1)", Shows("{ a = false; }")),
            ("builtins.functionArgs 1", Fails("'functionArgs' requires a function")),
        ],
        run: function_args,
    },
    Builtin {
        name: "getAttr",
        params: &["name", "set"],
        doc: "Returns attribute `name`; `set.${name}` is the same. O(log n).",
        examples: &[
            ("builtins.getAttr \"a\" { a = 1; b = throw \"no\"; }", Shows("1")),
            ("builtins.getAttr \"c\" { a = 1; }", Fails("attribute 'c' missing")),
        ],
        run: get_attr,
    },
    Builtin {
        name: "hasAttr",
        params: &["name", "set"],
        doc: "Returns whether there is an attribute `name`, without forcing it; `set ? ${name}` is the same. O(log n).",
        examples: &[
            ("builtins.hasAttr \"a\" { a = throw \"no\"; }", Shows("true")),
            ("builtins.hasAttr \"c\" { a = 1; }", Shows("false")),
        ],
        run: has_attr,
    },
    Builtin {
        name: "intersectAttrs",
        params: &["names", "set"],
        doc: "Returns the attributes of `set` whose names `names` has too, not forced. O(m log n), where m is the \
              smaller number of attributes and n the larger.",
        examples: &[
            ("builtins.intersectAttrs { a = 1; b = 2; } { b = 3; c = 4; }", Shows("{ b = 3; }")),
            (
                "builtins.attrNames (builtins.intersectAttrs { a = 1; } { a = throw \"no\"; })",
                Shows("[ \"a\" ]"),
            ),
        ],
        run: intersect_attrs,
    },
    Builtin {
        name: "listToAttrs",
        params: &["list"],
        doc: "Returns the set of `{ name = …; value = …; }` that the list holds. Of several with one name the first \
              counts. Names are forced, values are not. O(n log n).",
        examples: &[
            (
                "builtins.listToAttrs [ { name = \"a\"; value = 1; } { name = \"a\"; value = throw \"no\"; } ]",
                Shows("{ a = 1; }"),
            ),
            ("builtins.listToAttrs [ { name = \"a\"; } ]", Fails("attribute 'value' missing")),
        ],
        run: list_to_attrs,
    },
    Builtin {
        name: "mapAttrs",
        params: &["f", "set"],
        doc: "Returns a set with the same names and the values `f name value`, none evaluated before it is asked for. \
              O(n).",
        examples: &[
            (
                "builtins.mapAttrs (n: v: n + toString v) { a = 1; b = 2; }",
                Shows("{ a = \"a1\"; b = \"b2\"; }"),
            ),
            ("builtins.attrNames (builtins.mapAttrs (throw \"no\") { a = 1; })", Shows("[ \"a\" ]")),
        ],
        run: map_attrs,
    },
    Builtin {
        name: "removeAttrs",
        params: &["set", "names"],
        doc: "Returns `set` without the attributes that `names` lists; names that it does not have are fine. Values \
              are not forced. O(n).",
        examples: &[
            ("removeAttrs { a = 1; b = throw \"no\"; } [ \"b\" \"c\" ]", Shows("{ a = 1; }")),
            ("removeAttrs { } [ 1 ]", Fails("expected a string but found an integer: 1")),
        ],
        run: remove_attrs,
    },
    Builtin {
        name: "unsafeGetAttrPos",
        params: &["name", "set"],
        doc: "Returns `{ file, line, column }` where the attribute is written, or null if there is none or it was not \
              written. The result depends on where the program lies; it is for messages only. O(log n).",
        examples: &[
            ("builtins.unsafeGetAttrPos \"a\" (builtins.listToAttrs [ ])", Shows("null")),
            ("builtins.unsafeGetAttrPos \"b\" { a = 1; }", Shows("null")),
        ],
        run: unsafe_get_attr_pos,
    },
    Builtin {
        name: "zipAttrsWith",
        params: &["f", "sets"],
        doc: "Returns a set with all names of the sets and the values `f name values`, where `values` lists what those \
              sets have under that name, in their order. No `f name values` is evaluated before it is asked for. \
              O(n log n) in all attributes.",
        examples: &[
            (
                "builtins.zipAttrsWith (n: vs: { inherit n vs; }) [ { a = 1; } { a = 2; b = 3; } ]",
                Shows("{ a = { n = \"a\"; vs = [ 1 2 ]; }; b = { n = \"b\"; vs = [ 3 ]; }; }"),
            ),
            (
                "builtins.attrNames (builtins.zipAttrsWith (n: throw \"no\") [ { a = 1; } ])",
                Shows("[ \"a\" ]"),
            ),
        ],
        run: zip_attrs_with,
    },
];

impl Evaluator {
    /// Returns an attribute that has to be there, as it is; `missing` is for the trace if it is not.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn required_attr(&self, attrs: Attrs, name: &str, missing: &str) -> EvalResult<Value> {
        let name = Symbol::intern(name);
        attrs.get(name).ok_or_else(|| EvalError::missing_attribute(name)).part(missing)
    }
}

fn attr_names(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let set = args.sorted(ev, 0)?;
    let names = ev.heap().list(set.len());
    let slots = names.as_list().expect("a list");
    for (index, (name, _)) in set.iter().enumerate() {
        let name = ev.symbol_string(name);
        slots.settle(index, name);
    }
    Ok(names)
}

fn attr_values(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let set = args.sorted(ev, 0)?;
    let values = ev.heap().list(set.len());
    let slots = values.as_list().expect("a list");
    for (index, (_, value)) in set.iter().enumerate() {
        slots.settle(index, value);
    }
    Ok(values)
}

fn cat_attrs(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let name = args.name(ev, 0)?;
    let list = args.list(ev, 1)?;
    let mut found = Values::new();
    for index in 0..list.len() {
        let set = ev.force_element(list, index)?;
        let set = ev
            .force_attrs(set)
            .part("while evaluating an element in the list passed as second argument to builtins.catAttrs")?;
        if let Some(value) = set.get(name) {
            found.push(ev.heap(), value);
        }
    }
    Ok(found.into_list(ev.heap()))
}

/// Forces the name of an attribute.
fn force_name(ev: &mut Evaluator, value: Value) -> EvalResult<Symbol> {
    let name = ev.force_string_no_context(value)?;
    Ok(Symbol::intern(name.as_bytes()))
}

/// The argument that a function of the language takes next.
pub(crate) struct NextArgument {
    /// Its name, if it has one as a whole.
    pub(crate) name: Option<Symbol>,
    /// What it takes by name.
    pub(crate) formals: Option<&'static Formals<'static, Words>>,
    /// Where the function that takes it stands.
    pub(crate) pos: u32,
}

impl NextArgument {
    /// Returns it; nothing if the function is written in Rust.
    pub(crate) fn of(function: Value) -> Option<Self> {
        let (closure, given) = match function.view() {
            View::Closure(closure) => (closure, 0),
            View::Partial(partial) => (partial.function().as_closure()?, partial.len()),
            _ => return None,
        };
        // `a: b: { c }: …` is one lambda with three arguments, of which the last has the formals.
        let lambda = closure.lambda();
        let is_last = given + 1 == lambda.arity as usize;
        Some(Self {
            name: lambda.parameters.get(given).copied().flatten(),
            formals: lambda.formals.filter(|_| is_last),
            pos: lambda.places.get(given).unwrap_or(&lambda.place).start,
        })
    }
}

fn function_args(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let function = ev.force(args.at(0))?;
    if !matches!(function.view(), View::Closure(_) | View::Builtin(_) | View::Partial(_)) {
        return Err(EvalError::new(ErrorKind::Type, "'functionArgs' requires a function"));
    }
    let formals = NextArgument::of(function).and_then(|argument| argument.formals);
    let Some(formals) = formals.filter(|formals| !formals.list.is_empty()) else {
        return Ok(ev.heap().empty_attrs);
    };
    let keys = formals.keys.get().unwrap_or_else(|| {
        let names: Vec<_> = formals.list.iter().map(|formal| (formal.name, formal.place.start)).collect();
        let keys = ev.heap().keys(Life::Permanent, &names);
        formals.keys.set(Some(keys));
        keys
    });
    let mut set = ev.heap().attrs_like(keys);
    for (index, formal) in formals.list.iter().enumerate() {
        set.set(index, Value::bool(formal.default.is_some()));
    }
    Ok(set.finish())
}

fn get_attr(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let name = args.name(ev, 0)?;
    let set = args.attrs(ev, 1)?;
    let value = ev.force_attr(set, name)?;
    let value = value.ok_or_else(|| EvalError::missing_attribute(name));
    value.part("in the attribute set under consideration")
}

fn has_attr(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let name = args.name(ev, 0)?;
    let set = args.attrs(ev, 1)?;
    Ok(Value::bool(set.has(name)))
}

/// A set with this many times fewer names than another is looked up in it name by name; else both are walked.
const FEW_IN_MANY: usize = 6;

fn intersect_attrs(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let names = args.attrs(ev, 0)?;
    let set = args.attrs(ev, 1)?;
    if names.len() < set.len() / FEW_IN_MANY {
        return Ok(those_of_few(ev, names, set));
    }
    let set = ev.heap().flat(set);
    let mut both = ev.heap().take_names();
    let keys = set.keys();
    let mut found = |index: usize| both.push((keys.name(index), keys.pos(index), index as u32));
    if set.len() < names.len() / FEW_IN_MANY {
        (0..set.len()).filter(|&index| names.has(keys.name(index))).for_each(&mut found);
    } else {
        let wanted = ev.heap().flat(names).keys();
        let (mut i, mut j) = (0, 0);
        while i < wanted.len() && j < keys.len() {
            let order = wanted.name(i).cmp(&keys.name(j));
            if order.is_eq() {
                found(j);
            }
            i += usize::from(order.is_le());
            j += usize::from(order.is_ge());
        }
    }
    Ok(ev.heap().part_of(set, both))
}

/// The attributes of a large set that have one of few names. It may be one of many that were laid over the same
/// (`pkgs // { … }` for each package): that is not put into one piece for it.
fn those_of_few(ev: &mut Evaluator, names: Attrs, set: Attrs) -> Value {
    let wanted = ev.heap().flat(names).keys();
    let mut both = AttrsBuilder::with_capacity(ev.heap(), wanted.len());
    for name in (0..wanted.len()).map(|index| wanted.name(index)) {
        if let Some((slot, pos)) = set.find(name) {
            both.push_at(ev.heap(), name, slot.get(), pos);
        }
    }
    both.finish(ev.heap())
}

fn list_to_attrs(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let list = args.list(ev, 0)?;
    let mut set = AttrsBuilder::with_capacity(ev.heap(), list.len());
    // Names so far, once it matters: the first of a name needs a value, others do not.
    let mut seen: Option<FxHashSet<Symbol>> = None;
    for index in 0..list.len() {
        let pair = ev.force_element(list, index)?;
        let pair = ev
            .force_attrs(pair)
            .part("while evaluating an element of the list passed to builtins.listToAttrs")?;
        let Some((slot, pos)) = pair.find(sym::NAME) else { return Err(not_a_pair("name")) };
        let name = force_name(ev, slot.get()).map_err(|error| {
            let words = "while evaluating the `name` attribute of an element of the list passed to builtins.listToAttrs";
            error.at(Place { start: pos, end: pos }).in_part(words, Place::NONE)
        })?;
        if let Some(seen) = &mut seen
            && !seen.insert(name)
        {
            continue;
        }
        match pair.find(sym::VALUE) {
            Some((slot, pos)) => set.push_at(ev.heap(), name, slot.get(), pos),
            None if seen.is_none() && set.pos_of(name).is_some() => seen = Some(set.names().collect()),
            None => return Err(not_a_pair("value")),
        }
    }
    Ok(set.finish(ev.heap()))
}

#[cold]
fn not_a_pair(missing: &str) -> EvalError {
    EvalError::missing_attribute(Symbol::intern(missing))
        .in_part("in a {name=...; value=...;} pair", Place::NONE)
}

fn map_attrs(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let set = args.attrs(ev, 1)?;
    let set = ev.heap().flat(set);
    let keys = set.keys();
    let unplaced = ev.heap().unplaced_keys(keys);
    let mut mapped = ev.heap().attrs_like(unplaced);
    for index in 0..set.len() {
        let name = ev.symbol_string(keys.name(index));
        let value = ev.lazy_call(args.at(0), &[name, set.get(index)]);
        mapped.set(index, value);
    }
    Ok(mapped.finish())
}

fn remove_attrs(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let set = args.attrs(ev, 0)?;
    let list = args.list(ev, 1)?;
    let mut names = Vec::with_capacity(list.len());
    for index in 0..list.len() {
        let name = ev.force_element(list, index).and_then(|name| force_name(ev, name));
        names.push(
            name.part("while evaluating the values of the second argument passed to builtins.removeAttrs")?,
        );
    }
    names.retain(|name| set.has(*name));
    // Printed, it is another set.
    if names.is_empty() && !ev.settings().shows_sameness {
        return Ok(set.value());
    }
    names.sort_unstable();
    let set = ev.heap().flat(set);
    let keys = set.keys();
    let mut kept = ev.heap().take_names();
    let mut names = names.into_iter().peekable();
    for index in 0..set.len() {
        let name = keys.name(index);
        while names.next_if(|removed| *removed < name).is_some() {}
        if names.peek() != Some(&name) {
            kept.push((name, keys.pos(index), index as u32));
        }
    }
    Ok(ev.heap().part_of(set, kept))
}

fn unsafe_get_attr_pos(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let name = args.name(ev, 0)?;
    let set = args.attrs(ev, 1)?;
    Ok(set.find(name).map_or(Value::NULL, |(_, pos)| ev.position_set(pos)))
}

fn zip_attrs_with(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let function = args.function(ev, 0)?;
    let list = args.list(ev, 1)?;
    // Name, and where its value is in `values`.
    let mut names: Vec<(Symbol, u32)> = Vec::new();
    let mut values = Values::new();
    for index in 0..list.len() {
        let set = ev.force_element(list, index)?;
        let set = ev.force_attrs(set);
        let set = set.part(
            "while evaluating a value of the list passed as second argument to builtins.zipAttrsWith",
        )?;
        let set = ev.heap().flat(set);
        for at in 0..set.len() {
            names.push((set.keys().name(at), values.len() as u32));
            values.push(ev.heap(), set.get(at));
        }
    }
    // Each set's names are in order already, and this sort makes use of it.
    names.sort_by_key(|&(name, _)| name);
    let mut zipped = AttrsBuilder::new();
    for group in names.chunk_by(|a, b| a.0 == b.0) {
        let members = ev.heap().list(group.len());
        let slots = members.as_list().expect("a list");
        for (at, (_, index)) in group.iter().enumerate() {
            slots.settle(at, values.get(*index as usize));
        }
        let name = ev.symbol_string(group[0].0);
        let value = ev.lazy_call(function, &[name, members]);
        zipped.push(ev.heap(), group[0].0, value);
    }
    Ok(zipped.finish(ev.heap()))
}
