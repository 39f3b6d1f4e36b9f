//! TOML 1.0 to plain data, refusing what Nix refuses.
//!
//! The crate `toml` reads 1.1, in which an inline table may span lines and end with a comma and a
//! string may say `\e` and `\x41`; Nix reads 1.0. [`check_version`] finds the difference. Dates and
//! times have no value in the language.

mod words;

use toml::de::{DeTable, DeValue};

/// A TOML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Toml {
    /// A string.
    String(String),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// An array.
    List(Vec<Toml>),
    /// A table; names in any order, each once.
    Table(Vec<(String, Toml)>),
}

/// Reads a document.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<Toml, String> {
    let (table, faults) = DeTable::parse_recoverable(text);
    // The first in the text, of what the crate finds and what is only 1.1.
    let newer = check_version(text.as_bytes()).err();
    let line = |fault: &&toml::de::Error| {
        let start = fault.span().map_or(text.len(), |span| span.start.min(text.len()));
        text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count()
    };
    // Of several on one line the crate's first is the cause.
    let first = faults.iter().min_by_key(line);
    if let Some(fault) = first {
        let span = fault.span().unwrap_or(text.len()..text.len());
        if newer.as_ref().is_none_or(|(at, _)| span.start < *at) {
            return Err(words::in_nix(fault.message(), text, &span));
        }
    }
    match newer {
        Some((_, message)) => Err(message),
        None => convert_table(table.into_inner()),
    }
}

fn convert_table(table: DeTable<'_>) -> Result<Toml, String> {
    let convert_one =
        |(name, value): (toml::Spanned<_>, toml::Spanned<_>)| -> Result<(String, Toml), String> {
            let name: std::borrow::Cow<'_, str> = name.into_inner();
            let name = name.into_owned();
            Ok((without_nul(name)?, convert(value.into_inner())?))
        };
    table.into_iter().map(convert_one).collect::<Result<_, _>>().map(Toml::Table)
}

fn convert(value: DeValue<'_>) -> Result<Toml, String> {
    Ok(match value {
        DeValue::String(text) => Toml::String(without_nul(text.into_owned())?),
        DeValue::Integer(digits) => Toml::Int(
            i64::from_str_radix(digits.as_str(), digits.radix())
                .map_err(|_| too_large(digits.as_str(), digits.radix()))?,
        ),
        DeValue::Float(digits) => Toml::Float(convert_float(digits.as_str())?),
        DeValue::Boolean(value) => Toml::Bool(value),
        DeValue::Datetime(_) => return Err("Dates and times are not supported".to_owned()),
        DeValue::Array(items) => {
            Toml::List(items.into_iter().map(|item| convert(item.into_inner())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => convert_table(table)?,
    })
}

fn convert_float(digits: &str) -> Result<f64, String> {
    let value: f64 = digits.parse().map_err(|_| format!("'{digits}' is not a float"))?;
    // Only what is written `inf` is infinite.
    if value.is_infinite() && !digits.contains("inf") {
        return Err(format!(
            "[error] toml::parse_floating: failed to read floating point value from stream\n --> {digits}"
        ));
    }
    Ok(value)
}

fn too_large(digits: &str, radix: u32) -> String {
    let (name, limit) = match radix {
        2 => ("bin", "max value"),
        8 => ("oct", "max value"),
        16 => ("hex", "max value"),
        _ => ("dec", "max digits"),
    };
    format!("[error] toml::parse_{name}_integer: too large integer: current {limit} = 2^63\n --> {digits}")
}

fn without_nul(text: String) -> Result<String, String> {
    if text.contains('\0') {
        let shown = text.replace('\0', "␀");
        return Err(format!(
            "error: input string '{shown}' cannot be represented as Nix string because it contains null bytes"
        ));
    }
    Ok(text)
}

const BAD_KEY: &str =
    "toml::parse_simple_key: invalid key: key must be \"quoted\", 'quoted-literal', or bare key.";

/// Refuses what is TOML 1.1 and not 1.0; says where, too.
fn check_version(text: &[u8]) -> Result<(), (usize, String)> {
    // The brackets that are open, and whether the last thing seen was a comma.
    let mut open = Vec::new();
    let mut after_comma = false;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let in_table = open.last() == Some(&b'{');
        match byte {
            b'"' | b'\'' => {
                at = skip_string(text, at)?;
                after_comma = false;
                continue;
            }
            b'#' => {
                at += text[at..].iter().take_while(|byte| **byte != b'\n').count();
                continue;
            }
            b'\n' if in_table => {
                let words =
                    if after_comma { BAD_KEY } else { "toml::parse_inline_table: invalid inline table" };
                return Err((
                    at,
                    format!("[error] {words}\n --> an inline table ends on the line where it starts"),
                ));
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'{' | b'[' => {
                open.push(byte);
                after_comma = false;
            }
            b'}' if in_table && after_comma => {
                let words = "toml::parse_inline_table: trailing comma is not allowed in TOML-v1.0.0)";
                return Err((at, format!("[error] {words}")));
            }
            b'}' | b']' => {
                open.pop();
                after_comma = false;
            }
            byte => after_comma = byte == b',',
        }
        at += 1;
    }
    Ok(())
}

/// Returns where the string that starts at `at` ends. One that does not end is left to the parser.
fn skip_string(text: &[u8], at: usize) -> Result<usize, (usize, String)> {
    let quote = text[at];
    let is_long = text[at..].starts_with(&[quote; 3]);
    let mut at = at + if is_long { 3 } else { 1 };
    while let Some(&byte) = text.get(at) {
        if byte == quote && (!is_long || text[at..].starts_with(&[quote; 3])) {
            at += if is_long { 3 } else { 1 };
            // Up to two quotes more belong to a long string.
            return Ok(
                at + if is_long { text[at..].iter().take(2).take_while(|b| **b == quote).count() } else { 0 }
            );
        }
        if byte == b'\n' && !is_long {
            return Ok(at);
        }
        if byte == b'\\' && quote == b'"' {
            at += 1;
            if matches!(text.get(at), Some(b'e' | b'x')) {
                let kind = if is_long { "ml_basic" } else { "basic" };
                let message = format!(
                    "[error] toml::parse_{kind}_string: invalid string format\n --> '\\e' and '\\x' are not in \
                     TOML-v1.0.0"
                );
                return Err((at, message));
            }
        }
        at += 1;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match read(text) {
            Ok(Toml::Table(values)) => format!("{values:?}"),
            Ok(other) => format!("{other:?}"),
            Err(error) => error,
        };
        assert!(found.contains(expected), "{text}: {found}");
    }

    #[test]
    fn values() {
        check("a=1_000", "Int(1000)");
        check("a=0x7fffffffffffffff", "Int(9223372036854775807)");
        check("a=-9223372036854775808", "Int(-9223372036854775808)");
        check("a=1e5", "Float(100000.0)");
        check("a=-inf", "Float(-inf)");
        check("[[a]]\nb=1\n[[a]]\nb=2", "List([Table([(\"b\", Int(1))]), Table([(\"b\", Int(2))])])");
        check("a=\"\"\"\nx\\\n  y\"\"\"\"", "String(\"xy\\\"\")");
        check("a={b=[\n1,\n]}", "List([Int(1)])");
    }

    #[test]
    fn refusals() {
        check("a=07:32:00", "Dates and times are not supported");
        check("a=9223372036854775808", "toml::parse_dec_integer: too large integer");
        check("a=0xffffffffffffffff", "toml::parse_hex_integer: too large integer");
        check("a=1e400", "failed to read floating point value");
        check("a={b=1,}", "trailing comma");
        check("a={b=1,\nc=2}", "inline table");
        check("a=\"\\e\"", "invalid string format");
        check("a=\"\\u0000\"", "contains null bytes");
        check("a=1\na=2", "line 2: duplicate key");
    }
}
