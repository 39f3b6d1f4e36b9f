//! Sets of bytes, and the names that POSIX gives to some of them.

/// A set of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ByteSet(pub(super) [u64; 4]);

impl ByteSet {
    pub(super) const fn empty() -> Self {
        ByteSet([0; 4])
    }

    pub(super) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(super) fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    pub(super) fn complement(&self) -> Self {
        ByteSet(self.0.map(|word| !word))
    }

    pub(super) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub(super) fn union(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }

    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let word = rest.iter().position(|word| *word != 0)?;
            let bit = rest[word].trailing_zeros();
            rest[word] &= rest[word] - 1;
            Some((word as u8) << 6 | bit as u8)
        })
    }
}

/// Returns the class `[:name:]`; names may be in capitals, as the C++ library has it.
pub(super) fn class_named(name: &[u8]) -> Option<ByteSet> {
    let is_member: fn(&u8) -> bool = match name.to_ascii_lowercase().as_slice() {
        b"d" | b"digit" => u8::is_ascii_digit,
        b"w" => |byte| byte.is_ascii_alphanumeric() || *byte == b'_',
        b"s" | b"space" => |byte| byte.is_ascii_whitespace() || *byte == 0x0b,
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    };
    let mut set = ByteSet::empty();
    (0..=255_u8).filter(is_member).for_each(|byte| set.insert(byte));
    Some(set)
}

/// The names that POSIX gives to characters of ASCII that are not letters.
const COLLATING_NAMES: [&str; 128] = [
    "NUL",
    "SOH",
    "STX",
    "ETX",
    "EOT",
    "ENQ",
    "ACK",
    "alert",
    "backspace",
    "tab",
    "newline",
    "vertical-tab",
    "form-feed",
    "carriage-return",
    "SO",
    "SI",
    "DLE",
    "DC1",
    "DC2",
    "DC3",
    "DC4",
    "NAK",
    "SYN",
    "ETB",
    "CAN",
    "EM",
    "SUB",
    "ESC",
    "IS4",
    "IS3",
    "IS2",
    "IS1",
    "space",
    "exclamation-mark",
    "quotation-mark",
    "number-sign",
    "dollar-sign",
    "percent-sign",
    "ampersand",
    "apostrophe",
    "left-parenthesis",
    "right-parenthesis",
    "asterisk",
    "plus-sign",
    "comma",
    "hyphen",
    "period",
    "slash",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "colon",
    "semicolon",
    "less-than-sign",
    "equals-sign",
    "greater-than-sign",
    "question-mark",
    "commercial-at",
    "A",
    "B",
    "C",
    "D",
    "E",
    "F",
    "G",
    "H",
    "I",
    "J",
    "K",
    "L",
    "M",
    "N",
    "O",
    "P",
    "Q",
    "R",
    "S",
    "T",
    "U",
    "V",
    "W",
    "X",
    "Y",
    "Z",
    "left-square-bracket",
    "backslash",
    "right-square-bracket",
    "circumflex",
    "underscore",
    "grave-accent",
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
    "m",
    "n",
    "o",
    "p",
    "q",
    "r",
    "s",
    "t",
    "u",
    "v",
    "w",
    "x",
    "y",
    "z",
    "left-curly-bracket",
    "vertical-line",
    "right-curly-bracket",
    "tilde",
    "DEL",
];

/// Returns the character `[.name.]`.
pub(super) fn collating_element(name: &[u8]) -> Option<u8> {
    let index = COLLATING_NAMES.iter().position(|known| known.as_bytes() == name)?;
    u8::try_from(index).ok()
}
