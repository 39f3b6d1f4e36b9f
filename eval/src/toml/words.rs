//! What is wrong with a TOML text, in the words of the reader that Nix uses: people search for them.
//!
//! The crate `toml` finds the faults and says it its own way. Its words, and the line where it found them, tell
//! which of the other's words they are; where they do not, they stand as they are.

use std::ops::Range;

/// Returns the message about a fault that the crate found at `span`.
pub(super) fn in_nix(message: &str, text: &str, span: &Range<usize>) -> String {
    let place = Fault::new(text, span);
    let words = place.words(message).unwrap_or(message);
    format!("[error] {words}\n --> line {}: {message}", place.line_number)
}

/// Where the fault is.
struct Fault<'t> {
    line_number: usize,
    /// The line without what stands before its first character that is no blank.
    line: &'t str,
    /// What comes before the fault, in the whole text.
    before: &'t str,
    /// What is at fault and what follows.
    rest: &'t str,
}

impl<'t> Fault<'t> {
    fn new(text: &'t str, span: &Range<usize>) -> Self {
        let start = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let (before, rest) = text.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].split('\n').next().unwrap_or_default().trim_start();
        Self { line_number: before.matches('\n').count() + 1, line, before, rest }
    }

    /// `[a.b]`, `[[a.b]]`.
    fn in_header(&self) -> bool {
        self.line.starts_with('[')
    }

    /// The value's own words, if the fault is in one: what follows `=`.
    fn value(&self) -> &'t str {
        self.line.split_once('=').map_or("", |(_, value)| value.trim_start())
    }

    fn words(&self, message: &str) -> Option<&'static str> {
        let starts = |start: &str| message.starts_with(start);
        Some(match message {
            "duplicate key" if self.line.starts_with("[[") => {
                "toml::insert_value: failed to insert an array of tables, value already exists"
            }
            "duplicate key" if self.in_header() => {
                "toml::insert_value: failed to insert a table, table already defined"
            }
            "duplicate key" => "toml::insert_value: failed to insert a value, value already exists",
            _ if starts("cannot extend value of type inline table") => {
                "toml::insert_value: failed to insert a value: inline table is immutable"
            }
            _ if starts("cannot extend value of type array") => {
                "toml::insert_value:inline array of tables are immutable"
            }
            _ if starts("cannot extend value") => {
                "toml::insert_value: failed to insert a value, value already exists"
            }
            _ if starts("unexpected key or value") && self.in_header() => {
                "toml::parse_file: newline (or EOF) expected"
            }
            _ if starts("unexpected key or value") || starts("carriage return") => {
                "toml::parse_table: newline (LF / CRLF) or EOF is expected"
            }
            _ if starts("unclosed table") => "toml::parse_file: invalid table key",
            _ if starts("unclosed array table") => "toml::parse_file: invalid array-table key",
            _ if starts("unclosed array") => "toml::parse_array: missing closing bracket `]`",
            _ if starts("unclosed inline table") || starts("extra assignment between") => {
                "toml::parse_inline_table: expected value-separator `,` or closing `}`"
            }
            _ if starts("unquoted keys") || starts("invalid unquoted key") => {
                if self.in_header() {
                    "toml::parse_file: invalid table key"
                } else {
                    super::BAD_KEY
                }
            }
            _ if starts("key with no value") => self.key_words(),
            _ if starts("invalid basic string")
                || starts("invalid multi-line basic string")
                || starts("missing escaped value")
                || starts("too few unicode")
                || starts("invalid literal string")
                || starts("invalid multi-line literal string") =>
            {
                self.string_words()
            }
            _ if starts("invalid value, expected unicode") => {
                if self.rest.trim_start_matches(['\\', 'u', 'U']).starts_with(['d', 'D']) {
                    "toml::parse_utf8_codepoint: [0xD800, 0xDFFF] is not a valid UTF-8"
                } else {
                    "toml::parse_utf8_codepoint: input codepoint is too large."
                }
            }
            _ => self.number_words(message)?,
        })
    }

    fn key_words(&self) -> &'static str {
        match self.line.as_bytes().first() {
            Some(quote @ (b'"' | b'\'')) if !self.line[1..].contains(char::from(*quote)) => match quote {
                b'"' => "toml::parse_basic_string: invalid string format",
                _ => "toml::parse_literal_string: invalid string format",
            },
            _ => "toml::parse_key_value_pair: invalid key value separator `=`",
        }
    }

    fn string_words(&self) -> &'static str {
        let is_open = |quotes: &str| {
            let upto_line = self.before.matches(quotes).count();
            upto_line % 2 == 1 || upto_line == 0 && self.rest.starts_with(quotes)
        };
        if is_open("\"\"\"") {
            "toml::parse_ml_basic_string: invalid string format"
        } else if is_open("'''") {
            "toml::parse_ml_literal_string: invalid string format"
        } else if self.value().starts_with('\'') {
            "toml::parse_literal_string: invalid string format"
        } else {
            "toml::parse_basic_string: invalid string format"
        }
    }

    fn number_words(&self, message: &str) -> Option<&'static str> {
        let starts = |start: &str| message.starts_with(start);
        let value = self.value();
        let unsigned = value.trim_start_matches(['+', '-']);
        Some(match () {
            () if starts("unexpected leading zero") => "bad integer: invalid digit after an integer",
            () if starts("`_` may only go") && value.starts_with('_') => {
                "bad number: `_` must be surrounded by digits"
            }
            () if starts("`_` may only go") && value.contains(['e', 'E']) => "bad float: invalid format",
            () if starts("`_` may only go") => "bad integer: `_` must be surrounded by digits",
            () if starts("invalid mantissa") => "bad float: integer part is required before decimal point",
            () if starts("invalid fraction") || starts("invalid exponent") => "bad float: invalid format",
            () if starts("invalid binary")
                || starts("integers with a radix") && unsigned.starts_with("0b") =>
            {
                "toml::parse_bin_integer: invalid integer: bin_int must be like: 0b0101, 0b1111_0000"
            }
            () if starts("invalid octal")
                || starts("integers with a radix") && unsigned.starts_with("0o") =>
            {
                "toml::parse_oct_integer: invalid integer: oct_int must be like: 0o775, 0o04_44"
            }
            () if starts("invalid hexadecimal") || starts("integers with a radix") => {
                "toml::parse_hex_integer: invalid integer: hex_int must be like: 0xC0FFEE, 0xdead_beef"
            }
            () if starts("invalid date, expected a ") => "bad datetime: invalid format",
            () if starts("invalid date") => "toml::parse_local_date: invalid date.",
            () if starts("invalid time") => "toml::parse_local_time: invalid time.",
            () if starts("string values must be quoted") || starts("extra comma") => {
                "bad format: unknown value appeared"
            }
            () if starts("invalid boolean") && value.starts_with(['T', 'F']) => {
                "toml::parse_value: `true` must be in lowercase. A string must be surrounded by quotes."
            }
            () if starts("invalid boolean") => {
                "toml::parse_boolean: invalid boolean: boolean must be `true` or `false`, in lowercase. string must \
                 be surrounded by `\"`"
            }
            () => return None,
        })
    }
}
