//! Arithmetic, comparison and types.

use super::Builtin;
use super::Expect::{Fails, Shows};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::{Args, Evaluator};
use crate::heap::{Value, View};
use crate::number;

pub(super) const TABLE: &[Builtin] = &[
    Builtin {
        name: "add",
        params: &["a", "b"],
        doc: "Returns the sum of two numbers: an integer if both are, else a float. Unlike `+` it takes numbers only. \
              An integer that needs more than 64 bits is an error. O(1).",
        examples: &[
            ("builtins.add 1 2", Shows("3")),
            ("builtins.add 1 0.5", Shows("1.5")),
            (
                "builtins.add 9223372036854775807 1",
                Fails("integer overflow in adding 9223372036854775807 + 1"),
            ),
            ("builtins.add \"a\" 1", Fails("expected an integer but found a string: \"a\"")),
        ],
        run: |ev, args| arithmetic(ev, args, Evaluator::add_numbers),
    },
    Builtin {
        name: "bitAnd",
        params: &["a", "b"],
        doc: "Returns the bitwise `and` of two integers. O(1).",
        examples: &[
            ("builtins.bitAnd 12 10", Shows("8")),
            ("builtins.bitAnd 1.0 1", Fails("expected an integer but found a float: 1")),
        ],
        run: |ev, args| bitwise(ev, args, |a, b| a & b),
    },
    Builtin {
        name: "bitOr",
        params: &["a", "b"],
        doc: "Returns the bitwise `or` of two integers. O(1).",
        examples: &[("builtins.bitOr 12 10", Shows("14"))],
        run: |ev, args| bitwise(ev, args, |a, b| a | b),
    },
    Builtin {
        name: "bitXor",
        params: &["a", "b"],
        doc: "Returns the bitwise exclusive `or` of two integers. O(1).",
        examples: &[("builtins.bitXor 12 10", Shows("6")), ("builtins.bitXor 0 (-1)", Shows("-1"))],
        run: |ev, args| bitwise(ev, args, |a, b| a ^ b),
    },
    Builtin {
        name: "ceil",
        params: &["number"],
        doc: "Returns the smallest integer that is not less than the number. O(1).",
        examples: &[
            ("[ (builtins.ceil 1.1) (builtins.ceil (-1.9)) (builtins.ceil 2) ]", Shows("[ 2 -1 2 ]")),
            ("builtins.ceil 1.0e30", Fails("NixFloat argument 1e+30 is not in the range of NixInt")),
        ],
        run: |ev, args| round(ev, args, f64::ceil),
    },
    Builtin {
        name: "div",
        params: &["a", "b"],
        doc: "Returns the quotient of two numbers; of two integers it is rounded towards zero. O(1).",
        examples: &[
            ("[ (builtins.div 7 (-2)) (builtins.div 7 2.0) ]", Shows("[ -3 3.5 ]")),
            ("builtins.div 1 0", Fails("division by zero")),
            (
                "builtins.div (-9223372036854775807 - 1) (-1)",
                Fails("integer overflow in dividing -9223372036854775808 / -1"),
            ),
        ],
        run: |ev, args| arithmetic(ev, args, Evaluator::divide_values),
    },
    Builtin {
        name: "floor",
        params: &["number"],
        doc: "Returns the largest integer that is not greater than the number. O(1).",
        examples: &[("[ (builtins.floor 1.9) (builtins.floor (-1.1)) ]", Shows("[ 1 -2 ]"))],
        run: |ev, args| round(ev, args, f64::floor),
    },
    Builtin {
        name: "isAttrs",
        params: &["x"],
        doc: "Returns whether the value is a set. O(1).",
        examples: &[("map builtins.isAttrs [ { } [ ] ]", Shows("[ true false ]"))],
        run: |ev, args| is(ev, args, |view| matches!(view, View::Attrs(_))),
    },
    Builtin {
        name: "isBool",
        params: &["x"],
        doc: "Returns whether the value is a Boolean. O(1).",
        examples: &[("map builtins.isBool [ false null ]", Shows("[ true false ]"))],
        run: |ev, args| is(ev, args, |view| matches!(view, View::Bool(_))),
    },
    Builtin {
        name: "isFloat",
        params: &["x"],
        doc: "Returns whether the value is a float. O(1).",
        examples: &[("map builtins.isFloat [ 1.0 1 ]", Shows("[ true false ]"))],
        run: |ev, args| is(ev, args, |view| matches!(view, View::Float(_))),
    },
    Builtin {
        name: "isFunction",
        params: &["x"],
        doc: "Returns whether the value is a function. A set with `__functor` is none. O(1).",
        examples: &[(
            "map builtins.isFunction [ (x: x) map { __functor = self: x: x; } ]",
            Shows("[ true true false ]"),
        )],
        run: |ev, args| {
            is(ev, args, |view| matches!(view, View::Closure(_) | View::Builtin(_) | View::Partial(_)))
        },
    },
    Builtin {
        name: "isInt",
        params: &["x"],
        doc: "Returns whether the value is an integer. O(1).",
        examples: &[("map builtins.isInt [ 1 1.0 ]", Shows("[ true false ]"))],
        run: |ev, args| is(ev, args, |view| matches!(view, View::Int(_))),
    },
    Builtin {
        name: "isList",
        params: &["x"],
        doc: "Returns whether the value is a list. O(1).",
        examples: &[("map builtins.isList [ [ (throw \"no\") ] { } ]", Shows("[ true false ]"))],
        run: |ev, args| is(ev, args, |view| matches!(view, View::List(_))),
    },
    Builtin {
        name: "isNull",
        params: &["x"],
        doc: "Returns whether the value is null; `x == null` is the same. O(1).",
        examples: &[("map isNull [ null 0 ]", Shows("[ true false ]"))],
        run: |ev, args| is(ev, args, |view| matches!(view, View::Null)),
    },
    Builtin {
        name: "isPath",
        params: &["x"],
        doc: "Returns whether the value is a path. O(1).",
        examples: &[("map builtins.isPath [ /a \"/a\" ]", Shows("[ true false ]"))],
        run: |ev, args| is(ev, args, |view| matches!(view, View::Path(_))),
    },
    Builtin {
        name: "isString",
        params: &["x"],
        doc: "Returns whether the value is a string. O(1).",
        examples: &[("map builtins.isString [ \"\" /a ]", Shows("[ true false ]"))],
        run: |ev, args| is(ev, args, |view| matches!(view, View::Str(_))),
    },
    Builtin {
        name: "lessThan",
        params: &["a", "b"],
        doc: "Returns whether `a < b`: of numbers, strings (by bytes), paths, or lists of them (by the first element \
              that differs). O(1) for numbers.",
        examples: &[
            ("builtins.lessThan 1 1.5", Shows("true")),
            ("builtins.lessThan [ 1 2 ] [ 1 3 (throw \"no\") ]", Shows("true")),
            (
                "builtins.lessThan 1 \"a\"",
                Fails("cannot compare an integer with a string; values are 1 and \"a\""),
            ),
        ],
        run: less_than,
    },
    Builtin {
        name: "mul",
        params: &["a", "b"],
        doc: "Returns the product of two numbers. O(1).",
        examples: &[
            ("[ (builtins.mul 3 4) (builtins.mul 3 0.5) ]", Shows("[ 12 1.5 ]")),
            (
                "builtins.mul 4611686018427387904 2",
                Fails("integer overflow in multiplying 4611686018427387904 * 2"),
            ),
        ],
        run: |ev, args| arithmetic(ev, args, Evaluator::multiply_values),
    },
    Builtin {
        name: "sub",
        params: &["a", "b"],
        doc: "Returns the difference of two numbers. O(1).",
        examples: &[("[ (builtins.sub 3 4) (builtins.sub 3 0.5) ]", Shows("[ -1 2.5 ]"))],
        run: |ev, args| arithmetic(ev, args, Evaluator::subtract_values),
    },
    Builtin {
        name: "typeOf",
        params: &["x"],
        doc: "Returns the name of the value's type: `int`, `bool`, `string`, `path`, `null`, `set`, `list`, `lambda` or \
              `float`. O(1).",
        examples: &[(
            "map builtins.typeOf [ 1 true \"\" /a null { } [ ] (x: x) 1.0 map ]",
            Shows(
                "[ \"int\" \"bool\" \"string\" \"path\" \"null\" \"set\" \"list\" \"lambda\" \"float\" \"lambda\" ]",
            ),
        )],
        run: type_of,
    },
];

type Operation = fn(&mut Evaluator, Value, Value) -> EvalResult<Value>;

fn arithmetic(ev: &mut Evaluator, args: &Args, operation: Operation) -> EvalResult<Value> {
    let a = ev.force(args.at(0))?;
    let b = ev.force(args.at(1))?;
    operation(ev, a, b)
}

fn bitwise(ev: &mut Evaluator, args: &Args, operation: fn(i64, i64) -> i64) -> EvalResult<Value> {
    let a = args.int(ev, 0)?;
    let b = args.int(ev, 1)?;
    Ok(ev.int(operation(a, b)))
}

fn round(ev: &mut Evaluator, args: &Args, rounding: fn(f64) -> f64) -> EvalResult<Value> {
    let value = ev.force(args.at(0)).map_err(|error| args.in_argument(error, 0))?;
    if let Some(n) = value.as_int() {
        return if n as f64 as i128 == i128::from(n) { Ok(value) } else { Err(changed_by_float(n)) };
    }
    let exact = args.float(ev, 0)?;
    match number::int_of_whole_float(rounding(exact)) {
        Some(n) => Ok(ev.int(n)),
        None => Err(EvalError::new(
            ErrorKind::Overflow,
            format!("NixFloat argument {} is not in the range of NixInt", number::print_float(exact)),
        )),
    }
}

/// Nix went through a float for long, and refuses what that changed.
#[cold]
fn changed_by_float(n: i64) -> EvalError {
    let rounded = n as f64 as i128;
    let what = match i64::try_from(rounded) {
        Ok(rounded) => format!(
            "a loss of precision occurred in previous Nix versions because the NixInt argument {n} was rounded \
             to {rounded}"
        ),
        Err(_) => format!("the NixInt argument {n} caused undefined behavior in previous Nix versions"),
    };
    EvalError::new(
        ErrorKind::Overflow,
        format!(
            "Due to a bug (see https://github.com/NixOS/nix/issues/12899) {what}.\n\
             Future Nix versions might implement the correct behavior."
        ),
    )
}

fn is(ev: &mut Evaluator, args: &Args, test: fn(View) -> bool) -> EvalResult<Value> {
    let value = ev.force(args.at(0))?;
    Ok(Value::bool(test(value.view())))
}

fn less_than(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let a = ev.force(args.at(0))?;
    let b = ev.force(args.at(1))?;
    ev.less_than(a, b).map(Value::bool)
}

fn type_of(ev: &mut Evaluator, args: &Args) -> EvalResult<Value> {
    let value = ev.force(args.at(0))?;
    let name = ev.type_name(value);
    Ok(ev.string(name))
}
