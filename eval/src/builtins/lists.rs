//! Lists.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

use ampoule_lang::Symbol;
use ampoule_lang::resolve::Place;

use super::Builtin;
use super::Expect::{Fails, Shows};
use super::arguments::Part;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{AttrsBuilder, List, Value, Values, View};

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "all",
        params: &["pred", "list"],
        doc: "Returns whether `pred x` is true for every element `x`. Stops at the first that is not. O(n).",
        examples: &[
            ("builtins.all (x: x > 1) [ 2 3 ]", Shows("true")),
            ("builtins.all (x: x > 1) [ 1 (throw \"no\") ]", Shows("false")),
            ("builtins.all (x: x) [ 1 ]", Fails("expected a Boolean but found an integer: 1")),
            ("builtins.all 1 [ ]", Fails("expected a function but found an integer: 1")),
        ],
        run: all,
    },
    Builtin {
        name: "any",
        params: &["pred", "list"],
        doc: "Returns whether `pred x` is true for some element `x`. Stops at the first that is. O(n).",
        examples: &[
            ("builtins.any (x: x > 1) [ 0 2 ]", Shows("true")),
            ("builtins.any (x: x > 1) [ 2 (throw \"no\") ]", Shows("true")),
            ("builtins.any (x: true) [ ]", Shows("false")),
        ],
        run: any,
    },
    Builtin {
        name: "concatLists",
        params: &["lists"],
        doc: "Returns the elements of all lists in one. The lists are forced, their elements are not. O(n).",
        examples: &[
            ("builtins.concatLists [ [ 1 ] [ ] [ 2 3 ] ]", Shows("[ 1 2 3 ]")),
            ("builtins.length (builtins.concatLists [ [ (throw \"no\") ] ])", Shows("1")),
            ("builtins.concatLists [ 1 ]", Fails("expected a list but found an integer: 1")),
        ],
        run: concat_lists,
    },
    Builtin {
        name: "concatMap",
        params: &["f", "list"],
        doc: "Returns the elements of `f x` for all elements `x`, in one list. Every `f x` is forced to a list. O(n).",
        examples: &[
            ("builtins.concatMap (x: [ x x ]) [ 1 2 ]", Shows("[ 1 1 2 2 ]")),
            ("builtins.concatMap (x: x) [ 1 ]", Fails("expected a list but found an integer: 1")),
        ],
        run: concat_map,
    },
    Builtin {
        name: "elem",
        params: &["x", "list"],
        doc: "Returns whether some element equals `x`. Stops at the first that does; an empty list leaves `x` \
              unevaluated. O(n).",
        examples: &[
            ("builtins.elem 2 [ 1 2 (throw \"no\") ]", Shows("true")),
            ("builtins.elem (throw \"no\") [ ]", Shows("false")),
            ("builtins.elem [ 1 ] [ [ 1.0 ] ]", Shows("true")),
        ],
        run: elem,
    },
    Builtin {
        name: "elemAt",
        params: &["list", "n"],
        doc: "Returns element `n` of `list`, counted from 0. Other elements stay unevaluated. O(1).",
        examples: &[
            ("builtins.elemAt [ \"a\" \"b\" ] 1", Shows("\"b\"")),
            ("builtins.elemAt [ (throw \"no\") 2 ] 1", Shows("2")),
            ("builtins.elemAt [ ] 0", Fails("'builtins.elemAt' called with index 0 on a list of size 0")),
            (
                "builtins.elemAt [ 1 2 3 ] (-1)",
                Fails("'builtins.elemAt' called with index -1 on a list of size 3"),
            ),
        ],
        run: elem_at,
    },
    Builtin {
        name: "filter",
        params: &["pred", "list"],
        doc: "Returns the elements `x` for which `pred x` is true, in their order, not forced. O(n).",
        examples: &[
            ("builtins.filter (x: x > 1) [ 1 2 3 ]", Shows("[ 2 3 ]")),
            ("builtins.length (builtins.filter (x: true) [ (throw \"no\") ])", Shows("1")),
            ("builtins.filter 1 [ ]", Shows("[ ]")),
        ],
        run: filter,
    },
    Builtin {
        name: "foldl'",
        params: &["op", "start", "list"],
        doc: "Returns `op (op (op start x0) x1) x2`, from the left. Every intermediate result is forced; `start` is \
              only if `op` asks for it, or if the list is empty. O(n), in constant space.",
        examples: &[
            ("builtins.foldl' (a: b: a + b) 0 [ 1 2 3 ]", Shows("6")),
            ("builtins.foldl' (a: b: b) (throw \"no\") [ 1 ]", Shows("1")),
            ("builtins.foldl' (a: b: if b == 1 then throw \"forced\" else b) 0 [ 1 2 ]", Fails("forced")),
        ],
        run: foldl,
    },
    Builtin {
        name: "genericClosure",
        params: &["args"],
        doc: "Returns all sets that can be reached: the list `startSet`, what `operator` returns for each of them, for \
              each of those, and so on, breadth first. Sets are the same if their attribute `key` is; the first stays. \
              Keys are numbers, strings, paths, or lists of them; of more than one key, all have to be comparable. Unlike in Nix a key that is a list is forced whole, so that the time does not depend on the order of keys. \
              O(n log n).",
        examples: &[
            (
                "builtins.genericClosure { startSet = [ { key = 1; } ]; \
                 operator = x: if x.key < 4 then [ { key = x.key * 2; } ] else [ ]; }",
                Shows("[ { key = 1; } { key = 2; } { key = 4; } ]"),
            ),
            (
                "builtins.length (builtins.genericClosure { startSet = [ { key = \"a\"; v = 1; } { key = \"a\"; v = 2; } ]; \
                 operator = x: [ ]; })",
                Shows("1"),
            ),
            ("builtins.genericClosure { startSet = [ ]; }", Shows("[ ]")),
            (
                "builtins.genericClosure { startSet = [ { key = 1; } { key = \"a\"; } ]; operator = x: [ ]; }",
                Fails("cannot compare a string with an integer"),
            ),
        ],
        run: generic_closure,
    },
    Builtin {
        name: "genList",
        params: &["f", "n"],
        doc: "Returns `[ (f 0) (f 1) … ]`, `n` elements. None is evaluated before it is asked for. O(n).",
        examples: &[
            ("builtins.genList (i: i * i) 4", Shows("[ 0 1 4 9 ]")),
            ("builtins.length (builtins.genList (i: throw \"no\") 2)", Shows("2")),
            ("builtins.genList (i: i) (-1)", Fails("cannot create list of size -1")),
        ],
        run: gen_list,
    },
    Builtin {
        name: "groupBy",
        params: &["f", "list"],
        doc: "Returns a set: the elements `x` of the list by the name `f x`, in their order, not forced. O(n log n).",
        examples: &[
            (
                "builtins.groupBy (builtins.substring 0 1) [ \"ab\" \"b\" \"aa\" ]",
                Shows("{ a = [ \"ab\" \"aa\" ]; b = [ \"b\" ]; }"),
            ),
            ("builtins.groupBy (x: 1) [ 1 ]", Fails("expected a string but found an integer: 1")),
        ],
        run: group_by,
    },
    Builtin {
        name: "head",
        params: &["list"],
        doc: "Returns the first element. O(1).",
        examples: &[
            ("builtins.head [ 1 (throw \"no\") ]", Shows("1")),
            ("builtins.head [ ]", Fails("'builtins.head' called on an empty list")),
        ],
        run: head,
    },
    Builtin {
        name: "length",
        params: &["list"],
        doc: "Returns the number of elements, forcing none. O(1).",
        examples: &[
            ("builtins.length [ 1 (throw \"no\") ]", Shows("2")),
            ("builtins.length { a = 1; }", Fails("expected a list but found a set: { a = 1; }")),
        ],
        run: length,
    },
    Builtin {
        name: "map",
        params: &["f", "list"],
        doc: "Returns the list of `f x` for every element `x`. No `f x` is evaluated before it is asked for. O(n).",
        examples: &[
            ("map (x: x + 1) [ 1 2 ]", Shows("[ 2 3 ]")),
            ("builtins.length (map (x: throw \"no\") [ 1 2 ])", Shows("2")),
            ("map 1 [ ]", Shows("[ ]")),
            ("map 1 [ 2 ]", Fails("expected a function but found an integer: 1")),
        ],
        run: map,
    },
    Builtin {
        name: "partition",
        params: &["pred", "list"],
        doc: "Returns `{ right = …; wrong = …; }`: the elements for which `pred` is true, and the others, in their \
              order; each is forced. O(n).",
        examples: &[(
            "builtins.partition (x: x > 1) [ 1 2 3 0 ]",
            Shows("{ right = [ 2 3 ]; wrong = [ 1 0 ]; }"),
        )],
        run: partition,
    },
    Builtin {
        name: "sort",
        params: &["less", "list"],
        doc: "Returns the elements in order: `x` before `y` if `less x y`. Elements of which neither is less keep their \
              order. All are forced first. O(n log n) calls of `less`, O(n) if the list is sorted already.",
        examples: &[
            ("builtins.sort builtins.lessThan [ 3 1 2 ]", Shows("[ 1 2 3 ]")),
            ("builtins.sort (a: b: a > b) [ 3 1 2 ]", Shows("[ 3 2 1 ]")),
            (
                "map (x: x.v) (builtins.sort (a: b: a.k < b.k) [ { k = 1; v = 1; } { k = 0; v = 2; } { k = 1; v = 3; } ])",
                Shows("[ 2 1 3 ]"),
            ),
            ("builtins.sort (a: b: throw \"not asked\") [ 1 ]", Shows("[ 1 ]")),
            ("builtins.length (builtins.sort (a: b: throw \"no\") [ 1 (throw \"first\") ])", Fails("first")),
            ("builtins.sort builtins.lessThan [ 1 \"a\" ]", Fails("cannot compare a string with an integer")),
        ],
        run: sort,
    },
    Builtin {
        name: "tail",
        params: &["list"],
        doc: "Returns the list without its first element. Long lists share their elements: O(1).",
        examples: &[
            ("builtins.tail [ (throw \"no\") 2 3 ]", Shows("[ 2 3 ]")),
            ("builtins.tail [ ]", Fails("'builtins.tail' called on an empty list")),
        ],
        run: tail,
    },
];

fn test(ev: &mut Evaluator, args: &Args, pred: Value, element: Value) -> EvalResult<bool> {
    let holds = ev.call(pred, &[element])?;
    ev.force_bool(holds).map_err(|error| in_answer(error, args))
}

/// Adds to the trace that a function's answer was no Boolean.
#[cold]
fn in_answer(error: EvalError, args: &Args) -> EvalError {
    let builtin = args.name_of_builtin();
    let function = match builtin {
        "filter" => "filtering function",
        "partition" => "partition function",
        "sort" => "sorting function",
        _ => "function",
    };
    let words = format!("while evaluating the return value of the {function} passed to builtins.{builtin}");
    error.in_part(words, Place::NONE)
}

fn all(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    any_is(ev, args, false).map(|found| Value::bool(!found))
}

fn any(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    any_is(ev, args, true).map(Value::bool)
}

fn any_is(ev: &mut Evaluator, args: &Args, wanted: bool) -> EvalResult<bool> {
    let pred = args.function(ev, 0)?;
    let list = args.list(ev, 1)?;
    for element in list.iter() {
        if test(ev, args, pred, element)? == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

fn concat_lists(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let lists = args.list(ev, 0)?;
    let mut total = 0;
    for index in 0..lists.len() {
        let inner = ev.force_element(lists, index)?;
        let inner = ev.force_list(inner);
        total += inner.part("while evaluating a value of the list passed to builtins.concatLists")?.len();
    }
    let mut all = Values::with_capacity(ev.heap(), total);
    for index in 0..lists.len() {
        let inner = ev.force_element(lists, index)?;
        push_all(ev, &mut all, inner)?;
    }
    Ok(all.into_list(ev.heap()))
}

fn push_all(ev: &mut Evaluator, row: &mut Values, list: Value) -> EvalResult<()> {
    let list = ev.force_list(list)?;
    for element in list.iter() {
        row.push(ev.heap(), element);
    }
    Ok(())
}

fn concat_map(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let function = args.function(ev, 0)?;
    let list = args.list(ev, 1)?;
    let mut all = Values::with_capacity(ev.heap(), list.len());
    for element in list.iter() {
        let inner = ev.call(function, &[element])?;
        let pushed = push_all(ev, &mut all, inner);
        pushed.part("while evaluating the return value of the function passed to builtins.concatMap")?;
    }
    Ok(all.into_list(ev.heap()))
}

fn elem(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let list = args.list(ev, 1)?;
    for index in 0..list.len() {
        // The same value is equal to itself without a look inside, also if it is a function.
        if list.get(index) == Some(args.at(0)) {
            return Ok(Value::TRUE);
        }
        let element = ev.force_element(list, index)?;
        let wanted = ev.force(args.at(0))?;
        let is_it = match (wanted.as_small_int(), element.as_small_int()) {
            (Some(a), Some(b)) => a == b,
            _ => ev.equal_inside(wanted, element)?,
        };
        if is_it {
            return Ok(Value::TRUE);
        }
    }
    Ok(Value::FALSE)
}

fn elem_at(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let n = args.int(ev, 1)?;
    let list = args.list(ev, 0)?;
    match usize::try_from(n).ok().filter(|index| *index < list.len()) {
        Some(index) => ev.force_element(list, index),
        None => Err(EvalError::index_out_of_bounds("elemAt", n, list.len())),
    }
}

fn filter(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let value = ev.force(args.at(1))?;
    let list = args.list(ev, 1)?;
    if list.is_empty() {
        return Ok(value);
    }
    let pred = args.function(ev, 0)?;
    let mut kept = Values::new();
    for element in list.iter() {
        if test(ev, args, pred, element)? {
            kept.push(ev.heap(), element);
        }
    }
    if kept.len() == list.len() {
        return Ok(value);
    }
    Ok(kept.into_list(ev.heap()))
}

fn foldl(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let function = args.function(ev, 0)?;
    let list = args.list(ev, 2)?;
    let mut result = args.at(1);
    for element in list.iter() {
        result = ev.call(function, &[result, element])?;
    }
    ev.force(result)
}

fn gen_list(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let n = args.int(ev, 1)?;
    let too_long = || EvalError::invalid(format!("cannot create list of size {n}"));
    let len = usize::try_from(n).map_err(|_| too_long())?;
    let function = args.function(ev, 0)?;
    if len >= u32::MAX as usize / 8 {
        return Err(too_long());
    }
    let made = ev.heap().list(len);
    let slots = made.as_list().expect("a list");
    for index in 0..len {
        let number = ev.int(index as i64);
        let element = ev.lazy_call(function, &[number]);
        slots.settle(index, element);
    }
    Ok(made)
}

fn group_by(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let function = args.function(ev, 0)?;
    let list = args.list(ev, 1)?;
    // Names with the places of their elements; values themselves must not be in here.
    let mut groups: Vec<(Symbol, u32)> = Vec::with_capacity(list.len());
    for (index, element) in list.iter().enumerate() {
        let name = ev.call(function, &[element])?;
        let name = ev.force_string_no_context(name);
        let name = name
            .part("while evaluating the return value of the grouping function passed to builtins.groupBy")?;
        groups.push((Symbol::intern(name.as_bytes()), index as u32));
    }
    groups.sort_unstable();
    let mut set = AttrsBuilder::new();
    for group in groups.chunk_by(|a, b| a.0 == b.0) {
        let members = ev.heap().list(group.len());
        let slots = members.as_list().expect("a list");
        for (at, (_, index)) in group.iter().enumerate() {
            slots.settle(at, list.get(*index as usize).expect("in bounds"));
        }
        set.push(ev.heap(), group[0].0, members);
    }
    Ok(set.finish(ev.heap()))
}

fn head(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let list = args.list(ev, 0)?;
    if list.is_empty() {
        return Err(empty_list("head"));
    }
    ev.force_element(list, 0)
}

#[cold]
fn empty_list(builtin: &str) -> EvalError {
    EvalError::new(ErrorKind::IndexOutOfBounds, format!("'builtins.{builtin}' called on an empty list"))
}

fn length(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let list = args.list(ev, 0)?;
    Ok(ev.int(list.len() as i64))
}

fn map(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let value = ev.force(args.at(1))?;
    let list = args.list(ev, 1)?;
    if list.is_empty() {
        return Ok(value);
    }
    let function = args.function(ev, 0)?;
    let mapped = ev.heap().list(list.len());
    let slots = mapped.as_list().expect("a list");
    for index in 0..list.len() {
        let element = list.get(index).expect("in bounds");
        let value = ev.lazy_call(function, &[element]);
        slots.settle(index, value);
    }
    Ok(mapped)
}

fn partition(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let pred = args.function(ev, 0)?;
    let list = args.list(ev, 1)?;
    let (mut right, mut wrong) = (Values::new(), Values::new());
    for index in 0..list.len() {
        let element = ev.force_element(list, index)?;
        let side = if test(ev, args, pred, element)? { &mut right } else { &mut wrong };
        side.push(ev.heap(), element);
    }
    let right = right.into_list(ev.heap());
    let wrong = wrong.into_list(ev.heap());
    Ok(ev.heap().attrs_from(&[(Symbol::intern("right"), right), (Symbol::intern("wrong"), wrong)]))
}

fn tail(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let value = ev.force(args.at(0))?;
    let list = args.list(ev, 0)?;
    if list.is_empty() {
        return Err(empty_list("tail"));
    }
    Ok(ev.heap().sublist(value, 1, list.len()))
}

// ---- sort

fn sort(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let value = ev.force(args.at(1))?;
    let list = args.list(ev, 1)?;
    if list.is_empty() {
        return Ok(value);
    }
    let less = args.function(ev, 0)?;
    if is_less_than(ev, less)
        && let Some(sorted) = sort_natively(ev, list)?
    {
        return Ok(sorted);
    }
    merge_sort(ev, args, less, list)
}

/// Returns whether a function is `builtins.lessThan` itself.
fn is_less_than(ev: &Evaluator, function: Value) -> bool {
    matches!(function.view(), View::Builtin(id) if ev.builtin(id).name == "lessThan")
}

/// Sorts a list of nothing but integers or nothing but strings.
fn sort_natively(ev: &mut Evaluator, list: List) -> EvalResult<Option<Value>> {
    if list.len() == 1 {
        return Ok(None);
    }
    let first = ev.force_element(list, 0)?;
    if first.as_int().is_some() {
        let mut numbers = Vec::with_capacity(list.len());
        for index in 0..list.len() {
            match ev.force_element(list, index)?.as_int() {
                Some(n) => numbers.push(n),
                None => return Ok(None),
            }
        }
        numbers.sort_unstable();
        let sorted = ev.heap().list(list.len());
        let slots = sorted.as_list().expect("a list");
        for (index, n) in numbers.into_iter().enumerate() {
            let n = ev.int(n);
            slots.settle(index, n);
        }
        return Ok(Some(sorted));
    }
    if first.as_str().is_none() {
        return Ok(None);
    }
    for index in 0..list.len() {
        if ev.force_element(list, index)?.as_str().is_none() {
            return Ok(None);
        }
    }
    // The strings are alive through `list`; nothing is allocated in the heap while they are compared.
    let texts: Vec<_> = list.iter().map(|value| value.as_str().expect("just checked")).collect();
    let mut order: Vec<u32> = (0..list.len() as u32).collect();
    order.sort_by(|&a, &b| texts[a as usize].as_bytes().cmp(texts[b as usize].as_bytes()));
    let sorted = ev.heap().list(list.len());
    let slots = sorted.as_list().expect("a list");
    for (index, from) in order.into_iter().enumerate() {
        slots.settle(index, list.get(from as usize).expect("in bounds"));
    }
    Ok(Some(sorted))
}

/// Merges runs that are there already, and runs of [`SHORT_RUN`] that insertion makes.
fn merge_sort(ev: &mut Evaluator, args: &Args, less: Value, list: List) -> EvalResult<Value> {
    let len = list.len();
    let mut from = Values::with_capacity(ev.heap(), len);
    let mut to = Values::with_capacity(ev.heap(), len);
    for index in 0..len {
        let element = ev.force_element(list, index)?;
        from.push(ev.heap(), element);
        to.push(ev.heap(), element);
    }
    let mut runs = make_runs(ev, args, less, &mut from)?;
    while runs.len() > 2 {
        let mut merged = Vec::with_capacity(runs.len() / 2 + 2);
        merged.push(0);
        let mut at = 0;
        while at + 1 < runs.len() {
            let (start, middle) = (runs[at], runs[at + 1]);
            let end = runs.get(at + 2).copied().unwrap_or(middle);
            merge(ev, args, less, &from, &mut to, [start, middle, end])?;
            merged.push(end);
            at += 2;
        }
        runs = merged;
        std::mem::swap(&mut from, &mut to);
    }
    Ok(from.into_list(ev.heap()))
}

/// Runs shorter than this are made longer by insertion.
const SHORT_RUN: usize = 6;

/// Makes sorted runs in place and returns where they start, with the end of the last.
fn make_runs(ev: &mut Evaluator, args: &Args, less: Value, row: &mut Values) -> EvalResult<Vec<usize>> {
    let len = row.len();
    let mut borders = vec![0];
    let mut start = 0;
    while start < len {
        let mut end = start + 1;
        while end < len && !is_less(ev, args, less, row.get(end), row.get(end - 1))? {
            end += 1;
        }
        // The element at `end` is known to be smaller than the one before it.
        let wanted = (start + SHORT_RUN).min(len);
        while end < wanted {
            insert(ev, args, less, row, start, end)?;
            end += 1;
        }
        borders.push(end);
        start = end;
    }
    Ok(borders)
}

/// Puts element `at` into its place among the sorted ones from `start` on.
fn insert(
    ev: &mut Evaluator,
    args: &Args,
    less: Value,
    row: &mut Values,
    start: usize,
    at: usize,
) -> EvalResult<()> {
    let element = row.get(at);
    let (mut low, mut high) = (start, at);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_less(ev, args, less, element, row.get(middle))? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    for index in (low..at).rev() {
        row.set(index + 1, row.get(index));
    }
    row.set(low, element);
    Ok(())
}

fn merge(
    ev: &mut Evaluator,
    args: &Args,
    less: Value,
    from: &Values,
    to: &mut Values,
    [start, middle, end]: [usize; 3],
) -> EvalResult<()> {
    let (mut left, mut right) = (start, middle);
    // Runs that touch in order are one already.
    let touches = right == end || !is_less(ev, args, less, from.get(right), from.get(right - 1))?;
    for at in start..end {
        let take_right = if touches {
            left == middle
        } else if left == middle {
            true
        } else {
            right < end && is_less(ev, args, less, from.get(right), from.get(left))?
        };
        let taken = if take_right { &mut right } else { &mut left };
        to.set(at, from.get(*taken));
        *taken += 1;
    }
    Ok(())
}

fn is_less(ev: &mut Evaluator, args: &Args, less: Value, a: Value, b: Value) -> EvalResult<bool> {
    let answer = ev.call(less, &[a, b]).map_err(|error| match less.view() {
        View::Builtin(_) => {
            error.in_part("while evaluating the ordering function passed to builtins.sort", Place::NONE)
        }
        _ => error,
    })?;
    ev.force_bool(answer).map_err(|error| in_answer(error, args))
}

// ---- genericClosure

fn generic_closure(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let attrs = args.attrs(ev, 0)?;
    let start = of_argument(ev, attrs, "startSet")?;
    let start = ev.force(start)?;
    let list = ev.force_list(start);
    let list =
        list.part("while evaluating the 'startSet' attribute passed as argument to builtins.genericClosure")?;
    if list.is_empty() {
        return Ok(start);
    }
    let operator = of_argument(ev, attrs, "operator")?;
    let operator = ev.force_function(operator);
    let operator = operator
        .part("while evaluating the 'operator' attribute passed as argument to builtins.genericClosure")?;
    let key_name = Symbol::intern("key");
    let mut queue = Values::new();
    for element in list.iter() {
        queue.push(ev.heap(), element);
    }
    let mut done = Values::new();
    let mut keys = Seen::default();
    let mut next = 0;
    while next < queue.len() {
        let element = ev.force(queue.get(next))?;
        next += 1;
        let slot = ev.force_attrs(element).and_then(|set| match set.find(key_name) {
            Some((slot, _)) => Ok(slot),
            None => Err(EvalError::missing_attribute(key_name)),
        });
        let slot = slot.map_err(|error| {
            error.in_part(format!("in genericClosure element {}", ev.show_short(element)), Place::NONE)
        })?;
        let key = ev.force_slot(slot)?;
        if !keys.insert(ev, (element, key), &done, key_name)? {
            continue;
        }
        done.push(ev.heap(), element);
        let more = ev.call(operator, &[element]).and_then(|more| {
            let words =
                "while evaluating the return value of the `operator` passed to builtins.genericClosure";
            push_all(ev, &mut queue, more).part(words)
        });
        more.map_err(|error| {
            let shown = ev.show_short(element);
            error.in_part(format!("while calling operator on genericClosure element {shown}"), Place::NONE)
        })?;
    }
    Ok(done.into_list(ev.heap()))
}

/// What the argument of `genericClosure` has to have.
fn of_argument(ev: &mut Evaluator, attrs: crate::heap::Attrs, name: &str) -> EvalResult<Value> {
    ev.required_attr(attrs, name, "in the attrset passed as argument to builtins.genericClosure")
}

/// The keys that were seen.
#[derive(Default)]
struct Seen {
    first: Option<FirstKey>,
    ints: HashSet<i64>,
    texts: HashSet<Box<[u8]>>,
    others: BTreeSet<Key>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstKey {
    Int,
    Text,
    Other,
    /// A single key need not be comparable.
    Incomparable,
}

impl Seen {
    /// Notes a key; returns whether it is new.
    fn insert(
        &mut self,
        ev: &mut Evaluator,
        (element, value): (Value, Value),
        done: &Values,
        name: Symbol,
    ) -> EvalResult<bool> {
        match (value.view(), self.first) {
            (View::Int(n), None | Some(FirstKey::Int)) => {
                self.first = Some(FirstKey::Int);
                return Ok(self.ints.insert(n));
            }
            (View::Str(text), None | Some(FirstKey::Text)) => {
                self.first = Some(FirstKey::Text);
                return Ok(!self.texts.contains(text.as_bytes()) && self.texts.insert(text.as_bytes().into()));
            }
            (_, Some(FirstKey::Text | FirstKey::Incomparable)) => {
                return Err(incomparable(ev, element, value, done, name));
            }
            (_, Some(FirstKey::Int)) => {
                self.others = self.ints.drain().map(Key::Int).collect();
                self.first = Some(FirstKey::Other);
            }
            (_, Some(FirstKey::Other) | None) => {}
        }
        let Some(key) = Key::of(ev, value)? else {
            if self.first.is_some() {
                return Err(incomparable(ev, element, value, done, name));
            }
            self.first = Some(FirstKey::Incomparable);
            return Ok(true);
        };
        self.first = Some(FirstKey::Other);
        INCOMPARABLE.set(false);
        let is_new = self.others.insert(key);
        if INCOMPARABLE.get() { Err(incomparable(ev, element, value, done, name)) } else { Ok(is_new) }
    }
}

/// Finds the key that `value` cannot be compared with, for the words of the error.
#[cold]
fn incomparable(ev: &mut Evaluator, element: Value, value: Value, done: &Values, name: Symbol) -> EvalError {
    for index in 0..done.len() {
        let Some(set) = done.get(index).as_attrs() else { continue };
        let Ok(Some(key)) = ev.force_attr(set, name) else { continue };
        if let Err(error) = ev.less_than(value, key) {
            let (a, b) = (ev.show_short(element), ev.show_short(done.get(index)));
            return error
                .in_part(format!("with element {b}"), Place::NONE)
                .in_part(format!("while comparing element {a}"), Place::NONE);
        }
    }
    EvalError::new(ErrorKind::Type, "keys of 'builtins.genericClosure' cannot be compared")
}

thread_local! {
    /// Set when two keys turn out not to be comparable: [`Ord::cmp`] has no other way to say it.
    static INCOMPARABLE: Cell<bool> = const { Cell::new(false) };
}

/// A key that is neither an integer among integers nor a string among strings.
enum Key {
    Int(i64),
    Float(f64),
    Text(Box<[u8]>),
    Path(Box<[u8]>),
    List(Vec<Key>),
}

impl Key {
    /// Returns the key, or nothing if such a value is never comparable.
    fn of(ev: &mut Evaluator, value: Value) -> EvalResult<Option<Self>> {
        let value = ev.force(value)?;
        Ok(Some(match value.view() {
            View::Int(n) => Key::Int(n),
            View::Float(x) => Key::Float(x),
            View::Str(text) => Key::Text(text.as_bytes().into()),
            View::Path(path) => Key::Path(path.as_bytes().into()),
            View::List(list) => {
                ev.check_depth()?;
                let mut keys = Vec::with_capacity(list.len());
                for index in 0..list.len() {
                    let element = ev.force_element(list, index)?;
                    let Some(key) = Self::of(ev, element)? else { return Ok(None) };
                    keys.push(key);
                }
                Key::List(keys)
            }
            _ => return Ok(None),
        }))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let floats = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or(Ordering::Equal);
        match (self, other) {
            (Key::Int(a), Key::Int(b)) => a.cmp(b),
            (Key::Int(a), Key::Float(b)) => floats(*a as f64, *b),
            (Key::Float(a), Key::Int(b)) => floats(*a, *b as f64),
            (Key::Float(a), Key::Float(b)) => floats(*a, *b),
            (Key::Text(a), Key::Text(b)) | (Key::Path(a), Key::Path(b)) => a.cmp(b),
            (Key::List(a), Key::List(b)) => a.cmp(b),
            _ => {
                INCOMPARABLE.set(true);
                Ordering::Equal
            }
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}
