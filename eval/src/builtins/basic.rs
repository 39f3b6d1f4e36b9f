//! Lists and forcing: a first group, and the pattern for the others.

use super::Builtin;
use super::Expect::{Fails, Shows};
use crate::error::{EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::Value;

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "elemAt",
        params: &["list", "n"],
        doc: "Returns element `n` of `list`, counted from 0. Other elements stay unevaluated. O(1).",
        examples: &[
            ("builtins.elemAt [ \"a\" \"b\" ] 1", Shows("\"b\"")),
            ("builtins.elemAt [ (throw \"no\") 2 ] 1", Shows("2")),
            ("builtins.elemAt [ ] 0", Fails("'builtins.elemAt' called with index 0 on a list of size 0")),
        ],
        run: elem_at,
    },
    Builtin {
        name: "map",
        params: &["f", "list"],
        doc: "Returns the list of `f x` for every element `x`. No `f x` is evaluated before it is asked for. O(n).",
        examples: &[
            ("map (x: x + 1) [ 1 2 ]", Shows("[ 2 3 ]")),
            ("builtins.length (map (x: throw \"no\") [ 1 2 ])", Shows("2")),
            ("map 1 [ ]", Shows("[ ]")),
        ],
        run: map,
    },
];

fn elem_at(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let list = ev.force_list(args.at(0))?;
    let n = ev.force_int(args.at(1))?;
    match usize::try_from(n).ok().and_then(|index| list.get(index).map(|_| index)) {
        Some(index) => ev.force_element(list, index),
        None => Err(EvalError::index_out_of_bounds("elemAt", n, list.len())),
    }
}

fn map(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let list = ev.force_list(args.at(1))?;
    let mapped = ev.heap().list(list.len());
    let slots = mapped.as_list().expect("a list");
    for index in 0..list.len() {
        let element = list.get(index).expect("in bounds");
        let value = ev.heap().apply(args.at(0), &[element]);
        slots.settle(index, value);
    }
    Ok(mapped)
}
