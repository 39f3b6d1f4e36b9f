//! Values for people who explore: one level deep, never forcing what may be large.

use ampoule_eval::{Attrs, ErrorKind, EvalResult, Evaluator, Value, View, write_name};
use ampoule_lang::Symbol;

use crate::manual::Entry;

/// Attributes and elements that are shown of a set or list.
const MOST: usize = 40;
/// Sets with at most so many attributes are looked into.
const SMALL: usize = 24;
/// Bytes that are shown of a string, by itself and inside of something.
const TEXT_BYTES: usize = 4096;
const INNER_TEXT_BYTES: usize = 256;

/// Prints a value: the elements of a small set or list computed, what lies in them not.
pub fn shallow(ev: &mut Evaluator, value: Value) -> EvalResult<String> {
    match value.view() {
        View::Attrs(attrs) => attributes(ev, attrs),
        View::List(list) => {
            let mut out = String::from("[ ");
            for index in 0..list.len().min(MOST) {
                let shown = if list.len() <= SMALL {
                    let element = ev.force_element(list, index);
                    computed(ev, element)?
                } else {
                    inner(ev, list.get(index).expect("in bounds"))?
                };
                out.push_str(&shown);
                out.push(' ');
            }
            if list.len() > MOST {
                out.push_str(&format!("«{} more» ", list.len() - MOST));
            }
            out.push(']');
            Ok(out)
        }
        View::Closure(_) | View::Builtin(_) | View::Partial(_) => Ok(function(ev, value)),
        _ => printed(ev, value, TEXT_BYTES),
    }
}

/// A function by itself: which it is, as far as that is known.
fn function(ev: &Evaluator, value: Value) -> String {
    let named = |value| ev.builtin_record(value).map_or("", |record| record.name);
    match value.view() {
        View::Closure(closure) => match ev.file_span(closure.lambda().place) {
            Some(span) => {
                let source = ev.settings().sources.get(span.file);
                let at = source.position(span.span.start);
                format!("«lambda @ {}:{}:{}»", source.name(), at.line_number, at.column_number)
            }
            None => "«lambda»".to_owned(),
        },
        View::Partial(partial) => format!("«partially applied primop {}»", named(partial.function())),
        _ => format!("«primop {}»", named(value)),
    }
}

/// A value without parts; of a long string only the beginning.
fn printed(ev: &mut Evaluator, value: Value, most: usize) -> EvalResult<String> {
    let Some(text) = value.as_str().filter(|text| text.as_bytes().len() > most) else {
        return ev.print(value);
    };
    let bytes = text.as_bytes();
    // Not in the middle of a character.
    let end = (0..=most).rev().find(|&at| bytes[at] & 0xc0 != 0x80).unwrap_or(most);
    let mut out = String::new();
    ampoule_eval::write_string(&mut out, &bytes[..end]);
    out.push_str(&format!(" «{} more bytes»", bytes.len() - end));
    Ok(out)
}

/// A part of a value that was just computed; what went wrong stands in its place.
fn computed(ev: &mut Evaluator, outcome: EvalResult<Value>) -> EvalResult<String> {
    match outcome {
        Ok(value) => inner(ev, value),
        Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
        Err(error) => Ok(format!("«error: {}»", error.message())),
    }
}

fn attributes(ev: &mut Evaluator, attrs: Attrs) -> EvalResult<String> {
    if let Some(text) = derivation(ev, attrs)? {
        return Ok(text);
    }
    let sorted = ev.heap().sorted(attrs);
    let mut out = String::from("{ ");
    for index in 0..sorted.len().min(MOST) {
        let (name, value) = sorted.get(index);
        write_name(&mut out, name);
        out.push_str(" = ");
        let shown = if sorted.len() <= SMALL {
            let value = ev.force(value);
            computed(ev, value)?
        } else {
            inner(ev, value)?
        };
        out.push_str(&shown);
        out.push_str("; ");
    }
    if sorted.len() > MOST {
        out.push_str(&format!("«{} more» ", sorted.len() - MOST));
    }
    out.push('}');
    Ok(out)
}

/// A value inside of another.
fn inner(ev: &mut Evaluator, value: Value) -> EvalResult<String> {
    match value.view() {
        View::Thunk(thunk) => match thunk.peek() {
            Some(value) => inner(ev, value),
            None => Ok("…".to_owned()),
        },
        View::Attrs(attrs) => match derivation(ev, attrs)? {
            Some(text) => Ok(text),
            None if attrs.is_empty() => Ok("{ }".to_owned()),
            None => Ok("{ … }".to_owned()),
        },
        View::List(list) if list.is_empty() => Ok("[ ]".to_owned()),
        View::List(_) => Ok("[ … ]".to_owned()),
        View::Closure(_) | View::Builtin(_) | View::Partial(_) => Ok("«function»".to_owned()),
        _ => printed(ev, value, INNER_TEXT_BYTES),
    }
}

/// `«derivation …»`, if it is one whose type is known to be that.
fn derivation(ev: &mut Evaluator, attrs: Attrs) -> EvalResult<Option<String>> {
    let Some(kind) = attrs.get(Symbol::intern("type")) else { return Ok(None) };
    let kind = ev.force(kind)?;
    if kind.as_str().is_none_or(|text| text.as_bytes() != b"derivation") {
        return Ok(None);
    }
    let Some(path) = ev.force_attr(attrs, Symbol::intern("drvPath"))? else { return Ok(None) };
    let text = ev.force_string(path)?.to_text().into_owned();
    Ok(Some(format!("«derivation {text}»")))
}

/// What there is to say about a value.
pub fn inspect(ev: &mut Evaluator, value: Value) -> EvalResult<String> {
    let View::Attrs(attrs) = value.view() else {
        return Ok(format!("{}: {}", ev.type_with_article(value), shallow(ev, value)?));
    };
    if derivation(ev, attrs)?.is_none() {
        let names: Vec<String> = ev.heap().sorted(attrs).iter().map(|(name, _)| name.to_string()).collect();
        return Ok(format!("a set of {} attributes: {}", names.len(), names.join(" ")));
    }
    let mut lines = vec!["a derivation".to_owned()];
    for name in ["name", "system", "builder", "drvPath", "outPath", "outputs"] {
        if let Some(value) = ev.force_attr(attrs, Symbol::intern(name))? {
            ev.force_deep(value)?;
            lines.push(format!("  {name} = {}", ev.print(value)?));
        }
    }
    Ok(lines.join("\n"))
}

/// What is written about a function: a builtin's record, or the comment above a function of the language.
pub fn documentation(ev: &mut Evaluator, name: &str, value: Value) -> Option<Entry> {
    let value = match value.view() {
        View::Partial(partial) => partial.function(),
        _ => value,
    };
    match value.view() {
        View::Builtin(_) => ev.builtin_record(value).map(Entry::of_builtin),
        View::Closure(closure) => {
            let span = ev.file_span(closure.lambda().place)?;
            let source = ev.settings().sources.get(span.file);
            let above = &source.bytes()[..span.span.start as usize];
            let text = String::from_utf8_lossy(above);
            let comment = match doc_comment(&text) {
                Some(comment) => comment.lines().map(str::trim).collect(),
                None => comment_above(&text),
            };
            (!comment.is_empty()).then(|| Entry::of_comment(name, &comment))
        }
        _ => None,
    }
}

/// The comment `/** … */` that a text ends with, or that stands before the name which it ends with: `/** … */ f =`.
fn doc_comment(text: &str) -> Option<&str> {
    let directly = text.trim_end();
    let above = before_name(directly).unwrap_or(directly);
    [directly, above].into_iter().find_map(|text| {
        let inside = text.trim_end().strip_suffix("*/")?;
        Some(inside[inside.rfind("/*")?..].strip_prefix("/**")?.trim())
    })
}

/// The text before `name =` at its end; `None` if it does not end so.
fn before_name(text: &str) -> Option<&str> {
    let name = text.strip_suffix('=')?.trim_end();
    Some(name.trim_end_matches(is_name_part)).filter(|before| before.len() < name.len())
}

fn is_name_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_'-.\"".contains(c)
}

/// The block of `#` lines above the last line of a text: that of the function, or of the name before it.
fn comment_above(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    if !text.ends_with('\n')
        && let Some(last) = lines.pop()
    {
        // On a line with other things it is not what the comment is about.
        let (name, rest) = last.split_once('=').unwrap_or(("", last));
        if name.trim().contains(|c| !is_name_part(c)) || rest.contains([';', '=', '{']) {
            return Vec::new();
        }
    }
    // A function of several lines stands below its name: `foldr =`, then `f: nul: list:`.
    while lines
        .last()
        .is_some_and(|line| !line.trim_start().starts_with('#') && line.trim_end().ends_with('='))
    {
        lines.pop();
    }
    let mut comment: Vec<&str> = Vec::new();
    for line in lines.iter().rev() {
        match line.trim_start().strip_prefix('#') {
            Some(rest) => comment.push(rest.strip_prefix(' ').unwrap_or(rest)),
            None => break,
        }
    }
    comment.reverse();
    comment
}

#[cfg(test)]
mod tests {
    use super::{comment_above, doc_comment};

    #[test]
    fn a_comment_is_found_above_the_name() {
        let check = |text: &str, expected: &[&str]| assert_eq!(comment_above(text), expected, "{text}");
        check("  # A.\n  # B.\n  f = ", &["A.", "B."]);
        check("  # A.\n  f =\n    ", &["A."]);
        check("  # other\n  g = 1;\n  f = ", &[]);
        check("# the file\nrec { g = 1; f = ", &[]);
        check("# A.\n", &["A."]);
        check("  # A.\n  f = lib.wrap (", &["A."]);
    }

    #[test]
    fn a_doc_comment_stands_before_the_function_or_its_name() {
        let check = |text: &str, expected| assert_eq!(doc_comment(text), expected, "{text}");
        check("{ f = /** A. */ ", Some("A."));
        check("{ /** A.\n B. */\n f.g = ", Some("A.\n B."));
        check("{ /* no */ f = ", None);
        check("{ /** of g */ g = 1; f = ", None);
    }
}
