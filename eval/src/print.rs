//! Values as text: for people who evaluate, and inside of error messages.

use std::collections::HashSet;
use std::fmt::Write;

use ampoule_lang::Symbol;

use crate::call::lambda_name;
use crate::error::EvalResult;
use crate::evaluator::Evaluator;
use crate::heap::{Attrs, Closure, List, Value, View};

/// How much of a value is shown in a message.
const SHORT_ITEMS: usize = 10;
const SHORT_DEPTH: usize = 10;
const SHORT_STRING_BYTES: usize = 1024;

/// A value as `nix-instantiate --eval` prints it.
#[derive(Debug, Default)]
pub struct Printed {
    /// The text.
    pub text: Vec<u8>,
    /// Whether a list is `«repeated»`. Whether two lists are the same depends on what was computed early:
    /// [`Settings::shows_unforced`](crate::Settings::shows_unforced) makes that what it is in Nix.
    pub repeats_list: bool,
    /// Whether `builtins.trace` prints.
    is_traced: bool,
}

/// What was shown so far of a value that is shown short: the limits hold for all of it.
#[derive(Default)]
struct Shown {
    items: usize,
    attrs: usize,
    seen: HashSet<u64>,
}

impl Evaluator {
    /// Returns the type as `builtins.typeOf` names it.
    ///
    /// # Panics
    /// If the value was not forced.
    pub fn type_name(&self, value: Value) -> &'static str {
        match value.view() {
            View::Null => "null",
            View::Bool(_) => "bool",
            View::Int(_) => "int",
            View::Float(_) => "float",
            View::Str(_) => "string",
            View::Path(_) => "path",
            View::List(_) => "list",
            View::Attrs(_) => "set",
            View::Closure(_) | View::Builtin(_) | View::Partial(_) => "lambda",
            View::Thunk(_) => panic!("the type of a value is known when it is forced"),
        }
    }

    /// Returns the type as error messages name it.
    pub fn type_with_article(&self, value: Value) -> std::borrow::Cow<'static, str> {
        let name_of = |id| self.builtin(id).name;
        let article = match value.view() {
            View::Null => "null",
            View::Bool(_) => "a Boolean",
            View::Int(_) => "an integer",
            View::Float(_) => "a float",
            View::Str(text) if !text.context().is_empty() => "a string with context",
            View::Str(_) => "a string",
            View::Path(_) => "a path",
            View::List(_) => "a list",
            View::Attrs(_) => "a set",
            View::Closure(_) => "a function",
            View::Builtin(id) => return format!("the built-in function '{}'", name_of(id)).into(),
            View::Partial(partial) => match partial.function().view() {
                View::Builtin(id) => {
                    return format!("the partially applied built-in function '{}'", name_of(id)).into();
                }
                _ => "a function",
            },
            View::Thunk(_) => "a thunk",
        };
        article.into()
    }

    /// Returns a value for an error message: nothing is forced, what is long is cut.
    pub fn show_short(&mut self, value: Value) -> String {
        let mut out = String::new();
        self.write_short(&mut out, value, 0, &mut Shown::default());
        out
    }

    fn write_short(&mut self, out: &mut String, value: Value, depth: usize, shown: &mut Shown) {
        match value.view() {
            View::List(list) => {
                if !list.is_empty() && !shown.seen.insert(value.identity()) {
                    return out.push_str("«repeated»");
                }
                self.write_short_list(out, list, depth, shown);
            }
            View::Attrs(attrs) => {
                let whole = self.heap.flat(attrs).attrs().value();
                if !attrs.is_empty() && !shown.seen.insert(whole.identity()) {
                    return out.push_str("«repeated»");
                }
                self.write_short_attrs(out, attrs, depth, shown);
            }
            View::Str(text) => {
                let bytes = text.as_bytes();
                let kept = bytes.len().min(SHORT_STRING_BYTES);
                write_string(out, &bytes[..kept]);
                if kept < bytes.len() {
                    let _ = write!(out, " «{} bytes elided»", bytes.len() - kept);
                }
            }
            View::Closure(closure) => self.write_lambda(out, closure, 0),
            View::Builtin(id) => {
                let _ = write!(out, "«primop {}»", self.builtin(id).name);
            }
            View::Partial(partial) => match partial.function().view() {
                View::Builtin(id) => {
                    let _ = write!(out, "«partially applied primop {}»", self.builtin(id).name);
                }
                View::Closure(closure) => self.write_lambda(out, closure, partial.len()),
                _ => out.push_str("«function»"),
            },
            View::Thunk(_) => out.push_str("«thunk»"),
            _ => self.write_scalar(out, value),
        }
    }

    /// A function that was given some of its arguments is the function that takes the next one.
    fn write_lambda(&mut self, out: &mut String, closure: Closure, given: usize) {
        let lambda = closure.lambda();
        out.push_str("«lambda");
        if lambda.name.get().is_some() {
            out.push(' ');
            out.push_str(&lambda_name(lambda));
        }
        out.push_str(" @ ");
        out.push_str(&self.show_position(lambda.places.get(given).unwrap_or(&lambda.place).start));
        out.push('»');
    }

    fn write_short_list(&mut self, out: &mut String, list: List, depth: usize, shown: &mut Shown) {
        if depth >= SHORT_DEPTH {
            out.push_str("[ ... ]");
            return;
        }
        out.push_str("[ ");
        for (index, element) in list.iter().enumerate() {
            if shown.items >= SHORT_ITEMS {
                let rest = list.len() - index;
                let _ = write!(out, "«{rest} item{} elided» ", if rest == 1 { "" } else { "s" });
                break;
            }
            self.write_short(out, element, depth + 1, shown);
            shown.items += 1;
            out.push(' ');
        }
        out.push(']');
    }

    fn write_short_attrs(&mut self, out: &mut String, attrs: Attrs, depth: usize, shown: &mut Shown) {
        if depth >= SHORT_DEPTH {
            out.push_str("{ ... }");
            return;
        }
        let sorted = self.heap.sorted(attrs);
        out.push_str("{ ");
        // What says most comes first.
        let is_important = |name: &Symbol| matches!(name.as_bytes(), b"_type" | b"type");
        let important = sorted.iter().filter(|(name, _)| is_important(name));
        let others = sorted.iter().filter(|(name, _)| !is_important(name));
        for (index, (name, value)) in important.chain(others).enumerate() {
            if shown.attrs >= SHORT_ITEMS {
                let rest = sorted.len() - index;
                let _ = write!(out, "«{rest} attribute{} elided» ", if rest == 1 { "" } else { "s" });
                break;
            }
            write_name(out, name);
            out.push_str(" = ");
            self.write_short(out, value, depth + 1, shown);
            shown.attrs += 1;
            out.push_str("; ");
        }
        out.push('}');
    }

    fn write_scalar(&mut self, out: &mut String, value: Value) {
        match value.view() {
            View::Null => out.push_str("null"),
            View::Bool(b) => out.push_str(if b { "true" } else { "false" }),
            View::Int(n) => {
                let _ = write!(out, "{n}");
            }
            View::Float(x) => out.push_str(&format_float(x)),
            View::Str(text) => write_string(out, text.as_bytes()),
            View::Path(path) => out.push_str(&String::from_utf8_lossy(path.as_bytes())),
            _ => unreachable!("a scalar"),
        }
    }

    /// Prints a value as `nix-instantiate --eval` does. What was not forced is `<CODE>`.
    ///
    /// A set or list that was printed before is `«repeated»`. Sets are the same if they are the same object;
    /// lists if they were reached by the same thunk, because in Nix a list has the identity of the
    /// place where it was computed (`let x = [ x ]; in x` is `[ [ «repeated» ] ]`).
    ///
    /// # Errors
    /// If it is nested too deep.
    pub fn print(&mut self, value: Value) -> EvalResult<String> {
        let printed = self.print_bytes(value)?.text;
        Ok(String::from_utf8(printed).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// Does what [`Evaluator::print`] does; the bytes of strings and paths, which need not be UTF-8, stay as they are.
    ///
    /// # Errors
    /// If it is nested too deep.
    pub fn print_bytes(&mut self, value: Value) -> EvalResult<Printed> {
        let mut printed = Printed::default();
        let mut seen = HashSet::new();
        self.print_into(&mut printed, value, &mut seen)?;
        Ok(printed)
    }

    /// Prints a value for `builtins.trace`: all of it, functions and what waits as errors show them.
    ///
    /// # Errors
    /// If it is nested too deep.
    pub(crate) fn print_traced(&mut self, value: Value) -> EvalResult<String> {
        let mut printed = Printed { is_traced: true, ..Printed::default() };
        self.print_into(&mut printed, value, &mut HashSet::new())?;
        Ok(String::from_utf8_lossy(&printed.text).into_owned())
    }

    fn print_into(&mut self, printed: &mut Printed, value: Value, seen: &mut HashSet<u64>) -> EvalResult<()> {
        let out = &mut printed.text;
        match value.view() {
            View::Closure(_) | View::Builtin(_) | View::Partial(_) | View::Thunk(_) if printed.is_traced => {
                out.extend(self.show_short(value).bytes());
            }
            View::Closure(_) => out.extend(b"<LAMBDA>"),
            View::Builtin(_) => out.extend(b"<PRIMOP>"),
            View::Partial(partial) => {
                let is_builtin = matches!(partial.function().view(), View::Builtin(_));
                out.extend(if is_builtin { &b"<PRIMOP-APP>"[..] } else { b"<LAMBDA>" });
            }
            View::Thunk(thunk) => {
                let running = matches!(thunk.state(), crate::heap::ThunkState::Blackhole(_));
                out.extend(if running { "«potential infinite recursion»" } else { "<CODE>" }.bytes());
            }
            View::List(list) => {
                self.check_depth()?;
                if !list.is_empty() && !seen.insert(value.identity()) {
                    printed.repeats_list = true;
                    out.extend("«repeated»".bytes());
                    return Ok(());
                }
                out.extend(b"[ ");
                for element in list.iter() {
                    self.print_into(printed, element, seen)?;
                    printed.text.push(b' ');
                }
                printed.text.push(b']');
            }
            View::Attrs(attrs) => {
                self.check_depth()?;
                let sorted = self.heap.sorted(attrs);
                let whole = sorted.flat().attrs().value();
                if !attrs.is_empty() && !seen.insert(whole.identity()) {
                    out.extend("«repeated»".bytes());
                    return Ok(());
                }
                out.extend(b"{ ");
                for (name, value) in sorted.iter() {
                    push_name(&mut printed.text, name);
                    printed.text.extend(b" = ");
                    self.print_into(printed, value, seen)?;
                    printed.text.extend(b"; ");
                }
                printed.text.push(b'}');
            }
            View::Str(text) => push_string(out, text.as_bytes()),
            View::Path(path) => out.extend(path.as_bytes()),
            _ => {
                let mut text = String::new();
                self.write_scalar(&mut text, value);
                out.extend(text.bytes());
            }
        }
        Ok(())
    }
}

/// Writes a string literal; what is not UTF-8 is replaced.
pub fn write_string(out: &mut String, bytes: &[u8]) {
    let mut literal = Vec::with_capacity(bytes.len() + 2);
    push_string(&mut literal, bytes);
    out.push_str(&String::from_utf8_lossy(&literal));
}

fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => out.extend(b"\\\""),
            b'\\' => out.extend(b"\\\\"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            b'$' if bytes.get(index + 1) == Some(&b'{') => out.extend(b"\\$"),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

fn push_name(out: &mut Vec<u8>, name: Symbol) {
    let bytes = name.as_bytes();
    if is_identifier(bytes) { out.extend(bytes) } else { push_string(out, bytes) }
}

/// Writes an attribute's name, quoted if it has to be.
pub fn write_name(out: &mut String, name: Symbol) {
    let bytes = name.as_bytes();
    if is_identifier(bytes) {
        out.push_str(&name.as_str());
    } else {
        write_string(out, bytes);
    }
}

/// Returns whether a name can be written without quotes.
pub fn is_identifier(bytes: &[u8]) -> bool {
    const KEYWORDS: [&[u8]; 9] =
        [b"if", b"then", b"else", b"assert", b"with", b"let", b"in", b"rec", b"inherit"];
    let starts = bytes.first().is_some_and(|&byte| byte.is_ascii_alphabetic() || byte == b'_');
    let goes_on = |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'\'' | b'-');
    starts && bytes.iter().all(goes_on) && !KEYWORDS.contains(&bytes)
}

/// Formats a float as C++ streams do: six significant digits.
pub fn format_float(x: f64) -> String {
    if x.is_nan() {
        return if x.is_sign_negative() { "-nan".to_owned() } else { "nan".to_owned() };
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    if x == 0.0 {
        return if x.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    let scientific = format!("{x:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("scientific notation has an e");
    let exponent: i32 = exponent.parse().expect("a number");
    if (-4..6).contains(&exponent) {
        let digits = usize::try_from(5 - exponent).expect("not negative");
        return trim_zeros(&format!("{x:.digits$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.abs())
}

fn trim_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}
