//! JSON, read and written as Nix does.
//!
//! Reading gives events to a [`Visitor`], so that the evaluator makes its values directly. It needs
//! no native stack: a text may be nested as deep as it is long. What is accepted, and the words for
//! what is not, are those of the library that Nix uses:
//!
//! ```text
//! [1,]      [json.exception.parse_error.101] parse error at line 1, column 4: syntax error while
//!           parsing value - unexpected ']'; expected '[', '{', or a literal
//! ```

use crate::number;

/// What reading tells. An error ends the reading.
pub trait Visitor {
    /// What the visitor can fail with.
    type Error: From<JsonError>;
    /// `null`.
    fn null(&mut self) -> Result<(), Self::Error>;
    /// `true` and `false`.
    fn bool(&mut self, value: bool) -> Result<(), Self::Error>;
    /// A number without point and exponent that fits.
    fn int(&mut self, value: i64) -> Result<(), Self::Error>;
    /// A larger one.
    fn too_large(&mut self, value: u64) -> Result<(), Self::Error> {
        Err(too_large(value).into())
    }
    /// Another number; finite.
    fn float(&mut self, value: f64) -> Result<(), Self::Error>;
    /// A string; valid UTF-8, may hold NUL.
    fn string(&mut self, value: &[u8]) -> Result<(), Self::Error>;
    /// `[`.
    fn begin_list(&mut self) -> Result<(), Self::Error>;
    /// `]`.
    fn end_list(&mut self) -> Result<(), Self::Error>;
    /// `{`.
    fn begin_object(&mut self) -> Result<(), Self::Error>;
    /// The name of an attribute; its value comes next.
    fn key(&mut self, name: &[u8]) -> Result<(), Self::Error>;
    /// `}`.
    fn end_object(&mut self) -> Result<(), Self::Error>;
}

/// Text that is not JSON, in Nix's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError(pub String);

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for JsonError {}

/// A number without point and exponent that is larger than Nix's.
pub(crate) fn too_large(value: u64) -> JsonError {
    JsonError(format!("unsigned json number {value} outside of Nix integer range"))
}

/// Reads one value and nothing after it.
///
/// # Errors
/// [`JsonError`] if `text` is not JSON, and what the visitor fails with.
pub fn read<V: Visitor>(text: &[u8], visitor: &mut V) -> Result<(), V::Error> {
    Reader {
        text,
        at: 0,
        token_start: 0,
        kept_from: 0,
        is_utf8: std::str::from_utf8(text).is_ok(),
        token: Token::Nothing,
        fault: "",
        scratch: Vec::new(),
    }
    .read(visitor)
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Token {
    Nothing,
    True,
    False,
    Null,
    /// Its bytes are `scratch`, or this range of the text if it has no escapes.
    String(Option<(usize, usize)>),
    Int(i64),
    TooLarge(u64),
    Float(f64),
    BeginList,
    BeginObject,
    EndList,
    EndObject,
    Colon,
    Comma,
    End,
    Fault,
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Token::Nothing => "<uninitialized>",
            Token::True => "true literal",
            Token::False => "false literal",
            Token::Null => "null literal",
            Token::String(_) => "string literal",
            Token::Int(_) | Token::TooLarge(_) | Token::Float(_) => "number literal",
            Token::BeginList => "'['",
            Token::BeginObject => "'{'",
            Token::EndList => "']'",
            Token::EndObject => "'}'",
            Token::Colon => "':'",
            Token::Comma => "','",
            Token::End => "end of input",
            Token::Fault => "<parse error>",
        }
    }
}

const ANY_VALUE: &str = "'[', '{', or a literal";

struct Reader<'a> {
    text: &'a [u8],
    /// Bytes read; one more than there are when the end was met.
    at: usize,
    token_start: usize,
    /// Where the last number or string began: what messages say was read last goes back to there.
    kept_from: usize,
    is_utf8: bool,
    token: Token,
    fault: &'static str,
    scratch: Vec<u8>,
}

impl Reader<'_> {
    fn read<V: Visitor>(mut self, visitor: &mut V) -> Result<(), V::Error> {
        if self.text.first() == Some(&0xef) {
            if !self.text.starts_with(b"\xef\xbb\xbf") {
                self.at = self.text.iter().zip(b"\xef\xbb\xbf").take_while(|(a, b)| a == b).count() + 1;
                self.token = Token::Fault;
                self.fault = "invalid BOM; must be 0xEF 0xBB 0xBF if given";
                return Err(self.unexpected("value", None).into());
            }
            self.at = 3;
        }
        // Whether each open container is a list.
        let mut open: Vec<bool> = Vec::new();
        self.next();
        loop {
            match self.token {
                Token::BeginObject => {
                    visitor.begin_object()?;
                    self.next();
                    if self.token != Token::EndObject {
                        self.key(visitor)?;
                        open.push(false);
                        continue;
                    }
                    visitor.end_object()?;
                }
                Token::BeginList => {
                    visitor.begin_list()?;
                    self.next();
                    if self.token != Token::EndList {
                        open.push(true);
                        continue;
                    }
                    visitor.end_list()?;
                }
                _ => self.scalar(visitor)?,
            }
            if !self.close_finished(&mut open, visitor)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here, and stands at the next value if there is one.
    fn close_finished<V: Visitor>(
        &mut self,
        open: &mut Vec<bool>,
        visitor: &mut V,
    ) -> Result<bool, V::Error> {
        loop {
            let Some(&in_list) = open.last() else {
                self.next();
                return if self.token == Token::End {
                    Ok(false)
                } else {
                    Err(self.unexpected("value", Some(Token::End.name())).into())
                };
            };
            self.next();
            match (self.token, in_list) {
                (Token::Comma, true) => {
                    self.next();
                    return Ok(true);
                }
                (Token::Comma, false) => {
                    self.next();
                    self.key(visitor)?;
                    return Ok(true);
                }
                (Token::EndList, true) => visitor.end_list()?,
                (Token::EndObject, false) => visitor.end_object()?,
                (_, true) => return Err(self.unexpected("array", Some(Token::EndList.name())).into()),
                (_, false) => return Err(self.unexpected("object", Some(Token::EndObject.name())).into()),
            }
            open.pop();
        }
    }

    // "name": — and the token of the value
    fn key<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
        let Token::String(range) = self.token else {
            return Err(self.unexpected("object key", Some("string literal")).into());
        };
        visitor.key(self.string_bytes(range))?;
        self.next();
        if self.token != Token::Colon {
            return Err(self.unexpected("object separator", Some("':'")).into());
        }
        self.next();
        Ok(())
    }

    fn scalar<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
        match self.token {
            Token::Null => visitor.null(),
            Token::True => visitor.bool(true),
            Token::False => visitor.bool(false),
            Token::Int(value) => visitor.int(value),
            Token::TooLarge(value) => visitor.too_large(value),
            Token::Float(value) if value.is_finite() => visitor.float(value),
            Token::Float(_) => {
                let text = String::from_utf8_lossy(&self.text[self.token_start..self.at]);
                Err(JsonError(format!("[json.exception.out_of_range.406] number overflow parsing '{text}'")).into())
            }
            Token::String(range) => visitor.string(self.string_bytes(range)),
            Token::Fault => Err(self.unexpected("value", None).into()),
            Token::End if self.at == 1 => Err(self
                .error("attempting to parse an empty input; check that your input string or stream contains the expected JSON")
                .into()),
            _ => Err(self.unexpected("value", Some(ANY_VALUE)).into()),
        }
    }

    fn string_bytes(&self, range: Option<(usize, usize)>) -> &[u8] {
        range.map_or(&self.scratch, |(start, end)| &self.text[start..end])
    }

    #[cold]
    fn unexpected(&self, context: &str, expected: Option<&str>) -> JsonError {
        let mut message = format!("syntax error while parsing {context} - ");
        if self.token == Token::Fault {
            message += self.fault;
            message += "; last read: '";
            let end = self.at.min(self.text.len());
            for c in String::from_utf8_lossy(&self.text[self.kept_from.min(end)..end]).chars() {
                if u32::from(c) <= 0x1f {
                    message += &format!("<U+{:04X}>", u32::from(c));
                } else {
                    message.push(c);
                }
            }
            message.push('\'');
        } else {
            message += "unexpected ";
            message += self.token.name();
        }
        if let Some(expected) = expected {
            message += "; expected ";
            message += expected;
        }
        self.error(&message)
    }

    fn error(&self, message: &str) -> JsonError {
        let read = &self.text[..self.at.min(self.text.len())];
        let line = read.iter().filter(|byte| **byte == b'\n').count();
        let column = self.at - read.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        JsonError(format!(
            "[json.exception.parse_error.101] parse error at line {}, column {column}: {message}",
            line + 1
        ))
    }

    /// Reads one byte; `None` at the end, which counts as read.
    fn get(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn next(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.token_start = self.at;
        self.token = match self.get() {
            None => Token::End,
            Some(b'[') => Token::BeginList,
            Some(b']') => Token::EndList,
            Some(b'{') => Token::BeginObject,
            Some(b'}') => Token::EndObject,
            Some(b':') => Token::Colon,
            Some(b',') => Token::Comma,
            Some(b't') => self.literal(b"rue", Token::True),
            Some(b'f') => self.literal(b"alse", Token::False),
            Some(b'n') => self.literal(b"ull", Token::Null),
            Some(byte @ (b'"' | b'-' | b'0'..=b'9')) => {
                self.kept_from = self.token_start;
                if byte == b'"' { self.string() } else { self.number() }
            }
            Some(_) => self.fault("invalid literal"),
        };
    }

    #[cold]
    fn fault(&mut self, fault: &'static str) -> Token {
        self.fault = fault;
        Token::Fault
    }

    fn literal(&mut self, rest: &[u8], token: Token) -> Token {
        for &expected in rest {
            if self.get() != Some(expected) {
                return self.fault("invalid literal");
            }
        }
        token
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    // the first character, `-` or a digit, is read
    fn number(&mut self) -> Token {
        let mut first = self.text[self.token_start];
        let negative = first == b'-';
        if negative {
            match self.get() {
                Some(digit @ b'0'..=b'9') => first = digit,
                _ => return self.fault("invalid number; expected digit after '-'"),
            }
        }
        if first != b'0' {
            self.digits();
        }
        let mut is_int = true;
        if self.text.get(self.at) == Some(&b'.') {
            is_int = false;
            self.at += 1;
            if !self.get().is_some_and(|byte| byte.is_ascii_digit()) {
                return self.fault("invalid number; expected digit after '.'");
            }
            self.digits();
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            is_int = false;
            self.at += 1;
            match self.get() {
                Some(b'0'..=b'9') => {}
                Some(b'+' | b'-') => {
                    if !self.get().is_some_and(|byte| byte.is_ascii_digit()) {
                        return self.fault("invalid number; expected digit after exponent sign");
                    }
                }
                _ => return self.fault("invalid number; expected '+', '-', or digit after exponent"),
            }
            self.digits();
        }
        let text = std::str::from_utf8(&self.text[self.token_start..self.at]).expect("a number is ASCII");
        if is_int {
            if let Ok(value) = text.parse() {
                return Token::Int(value);
            }
            if let Ok(value) = text.parse() {
                return Token::TooLarge(value);
            }
        }
        Token::Float(text.parse().expect("the grammar of numbers was checked"))
    }

    // the opening quote is read
    fn string(&mut self) -> Token {
        let start = self.at;
        let plain = self.plain_len();
        self.at += plain;
        if self.text.get(self.at) == Some(&b'"') && self.check_utf8(start) {
            self.at += 1;
            return Token::String(Some((start, self.at - 1)));
        }
        self.at = start;
        self.scratch.clear();
        loop {
            let start = self.at;
            self.at += self.plain_len();
            let end = self.at;
            if !self.check_utf8(start) {
                return self.fault("invalid string: ill-formed UTF-8 byte");
            }
            self.scratch.extend_from_slice(&self.text[start..end]);
            match self.get() {
                None => return self.fault("invalid string: missing closing quote"),
                Some(b'"') => return Token::String(None),
                Some(b'\\') => {
                    if let Err(fault) = self.escape() {
                        return self.fault(fault);
                    }
                }
                Some(control) => return self.fault(CONTROL_FAULTS[usize::from(control)]),
            }
        }
    }

    /// Returns how many bytes from here on stand for themselves.
    fn plain_len(&self) -> usize {
        let rest = &self.text[self.at..];
        rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\').unwrap_or(rest.len())
    }

    /// Checks the text from `start` up to here; if it is malformed, stands after the wrong byte.
    fn check_utf8(&mut self, start: usize) -> bool {
        if self.is_utf8 {
            return true;
        }
        match std::str::from_utf8(&self.text[start..self.at]) {
            Ok(_) => true,
            Err(error) => {
                self.at =
                    (start + error.valid_up_to() + error.error_len().unwrap_or(1) + 1).min(self.text.len());
                false
            }
        }
    }

    // the backslash is read
    fn escape(&mut self) -> Result<(), &'static str> {
        let byte = match self.get() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let c = self.unicode_escape()?;
                self.scratch.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err("invalid string: forbidden character after backslash"),
        };
        self.scratch.push(byte);
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<char, &'static str> {
        const LONE: &str = "invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF";
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if self.get() != Some(b'\\') || self.get() != Some(b'u') {
                    return Err(LONE);
                }
                match self.hex4()? {
                    second @ 0xdc00..=0xdfff => 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(LONE),
                }
            }
            0xdc00..=0xdfff => {
                return Err("invalid string: surrogate U+DC00..U+DFFF must follow U+D800..U+DBFF");
            }
            code => code,
        };
        Ok(char::from_u32(code).expect("surrogates were dealt with"))
    }

    fn hex4(&mut self) -> Result<u32, &'static str> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.get().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or("invalid string: '\\u' must be followed by 4 hex digits")?;
        }
        Ok(code)
    }
}

macro_rules! control_fault {
    ($code:literal, $name:literal, $escape:literal) => {
        concat!("invalid string: control character U+", $code, " (", $name, ") must be escaped to ", $escape)
    };
}

const CONTROL_FAULTS: [&str; 32] = [
    control_fault!("0000", "NUL", "\\u0000"),
    control_fault!("0001", "SOH", "\\u0001"),
    control_fault!("0002", "STX", "\\u0002"),
    control_fault!("0003", "ETX", "\\u0003"),
    control_fault!("0004", "EOT", "\\u0004"),
    control_fault!("0005", "ENQ", "\\u0005"),
    control_fault!("0006", "ACK", "\\u0006"),
    control_fault!("0007", "BEL", "\\u0007"),
    control_fault!("0008", "BS", "\\u0008 or \\b"),
    control_fault!("0009", "HT", "\\u0009 or \\t"),
    control_fault!("000A", "LF", "\\u000A or \\n"),
    control_fault!("000B", "VT", "\\u000B"),
    control_fault!("000C", "FF", "\\u000C or \\f"),
    control_fault!("000D", "CR", "\\u000D or \\r"),
    control_fault!("000E", "SO", "\\u000E"),
    control_fault!("000F", "SI", "\\u000F"),
    control_fault!("0010", "DLE", "\\u0010"),
    control_fault!("0011", "DC1", "\\u0011"),
    control_fault!("0012", "DC2", "\\u0012"),
    control_fault!("0013", "DC3", "\\u0013"),
    control_fault!("0014", "DC4", "\\u0014"),
    control_fault!("0015", "NAK", "\\u0015"),
    control_fault!("0016", "SYN", "\\u0016"),
    control_fault!("0017", "ETB", "\\u0017"),
    control_fault!("0018", "CAN", "\\u0018"),
    control_fault!("0019", "EM", "\\u0019"),
    control_fault!("001A", "SUB", "\\u001A"),
    control_fault!("001B", "ESC", "\\u001B"),
    control_fault!("001C", "FS", "\\u001C"),
    control_fault!("001D", "GS", "\\u001D"),
    control_fault!("001E", "RS", "\\u001E"),
    control_fault!("001F", "US", "\\u001F"),
];

/// Appends a string in quotes.
///
/// # Errors
/// [`JsonError`] if it is not UTF-8.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(not_utf8(text, &error));
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        push_escaped(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
    Ok(())
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cold]
fn not_utf8(text: &[u8], error: &std::str::Utf8Error) -> JsonError {
    let start = error.valid_up_to();
    match error.error_len() {
        // The library reports the first byte that cannot go on.
        Some(len) => {
            let at = if len == 1 && !could_start(text, start) { start } else { start + len };
            let byte = text.get(at).copied().unwrap_or_default();
            JsonError(format!(
                "[json.exception.type_error.316] invalid UTF-8 byte at index {at}: 0x{byte:02X}"
            ))
        }
        None => {
            let byte = text.last().copied().unwrap_or_default();
            JsonError(format!(
                "[json.exception.type_error.316] incomplete UTF-8 string; last byte: 0x{byte:02X}"
            ))
        }
    }
}

/// Tells whether a sequence may start with the byte at `at`, so that the next one is to blame.
fn could_start(text: &[u8], at: usize) -> bool {
    matches!(text[at], 0xc2..=0xf4)
}

/// Appends an integer.
pub fn write_int(value: i64, out: &mut Vec<u8>) {
    number::push_int(value, out);
}

/// Appends a float.
pub fn write_float(value: f64, out: &mut Vec<u8>) {
    number::json_float(value, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes what it is told, so that reading and writing are checked against each other.
    #[derive(Default)]
    struct Echo(Vec<u8>);

    impl Echo {
        fn separate(&mut self) {
            if !matches!(self.0.last(), None | Some(b'[' | b'{' | b':')) {
                self.0.push(b',');
            }
        }
    }

    impl Visitor for Echo {
        type Error = JsonError;
        fn null(&mut self) -> Result<(), JsonError> {
            self.separate();
            self.0.extend_from_slice(b"null");
            Ok(())
        }
        fn bool(&mut self, value: bool) -> Result<(), JsonError> {
            self.separate();
            self.0.extend_from_slice(if value { b"true" } else { b"false" });
            Ok(())
        }
        fn int(&mut self, value: i64) -> Result<(), JsonError> {
            self.separate();
            write_int(value, &mut self.0);
            Ok(())
        }
        fn float(&mut self, value: f64) -> Result<(), JsonError> {
            self.separate();
            write_float(value, &mut self.0);
            Ok(())
        }
        fn string(&mut self, value: &[u8]) -> Result<(), JsonError> {
            self.separate();
            write_string(value, &mut self.0)
        }
        fn begin_list(&mut self) -> Result<(), JsonError> {
            self.separate();
            self.0.push(b'[');
            Ok(())
        }
        fn end_list(&mut self) -> Result<(), JsonError> {
            self.0.push(b']');
            Ok(())
        }
        fn begin_object(&mut self) -> Result<(), JsonError> {
            self.separate();
            self.0.push(b'{');
            Ok(())
        }
        fn key(&mut self, name: &[u8]) -> Result<(), JsonError> {
            self.separate();
            write_string(name, &mut self.0)?;
            self.0.push(b':');
            Ok(())
        }
        fn end_object(&mut self) -> Result<(), JsonError> {
            self.0.push(b'}');
            Ok(())
        }
    }

    fn echo(text: &[u8]) -> String {
        let mut echo = Echo::default();
        match read(text, &mut echo) {
            Ok(()) => String::from_utf8(echo.0).unwrap(),
            Err(error) => error.0,
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(echo(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn values_come_back() {
        check(r#" { "a" : [ 1 , -0 , 1.5 , 1e3 ] , "b" : { } } "#, r#"{"a":[1,0,1.5,1000.0],"b":{}}"#);
        check(r#"["\u0041\ud83d\ude00\/\n\u0001"]"#, r#"["A😀/\n\u0001"]"#);
        check("18446744073709551616", "1.8446744073709552e+19");
        check("-9223372036854775809", "-9.223372036854776e+18");
        check("\u{feff}[]", "[]");
    }

    #[test]
    fn depth_needs_no_stack() {
        let text = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(echo(text.as_bytes()), text);
    }

    #[test]
    fn faults_have_their_words() {
        let syntax = |text: &str, at: &str, expected: &str| {
            check(text, &format!("[json.exception.parse_error.101] parse error at {at}: {expected}"));
        };
        syntax(
            "[1,]",
            "line 1, column 4",
            "syntax error while parsing value - unexpected ']'; expected '[', '{', or a literal",
        );
        syntax(
            "\"\\ud800\"",
            "line 1, column 8",
            "syntax error while parsing value - invalid string: surrogate U+D800..U+DBFF must be followed by \
             U+DC00..U+DFFF; last read: '\"\\ud800\"'",
        );
        syntax(
            "",
            "line 1, column 1",
            "attempting to parse an empty input; check that your input string or stream contains the expected JSON",
        );
        syntax(
            "1\n 2",
            "line 2, column 2",
            "syntax error while parsing value - unexpected number literal; expected end of input",
        );
        syntax(
            "tru",
            "line 1, column 4",
            "syntax error while parsing value - invalid literal; last read: 'tru'",
        );
        check("9223372036854775808", "unsigned json number 9223372036854775808 outside of Nix integer range");
        check("1e400", "[json.exception.out_of_range.406] number overflow parsing '1e400'");
        assert!(echo(b"\"\xff\"").contains("ill-formed UTF-8 byte"));
    }

    #[test]
    fn only_utf8_is_written() {
        assert_eq!(
            write_string(b"a\xff", &mut Vec::new()).unwrap_err().0,
            "[json.exception.type_error.316] invalid UTF-8 byte at index 1: 0xFF"
        );
    }
}
