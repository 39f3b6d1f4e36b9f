//! Hashes: an algorithm and its digest, in all the forms in which people write them.
//!
//! ```
//! use ampoule_store::{Hash, HashAlgo, HashFormat};
//!
//! let hash = Hash::of(HashAlgo::Sha256, b"");
//! assert_eq!(hash.to_sri(), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
//! for format in [HashFormat::Base16, HashFormat::Nix32, HashFormat::Base64, HashFormat::Sri] {
//!     assert_eq!(Hash::parse_any(&hash.format(format, true), None).unwrap(), hash);
//! }
//! ```

use std::fmt;
use std::io;

use sha1::Digest as _;

use crate::base32;

/// A hash algorithm that Nix knows without an experimental feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgo {
    /// 16 bytes. Broken; for old fixed outputs only.
    Md5,
    /// 20 bytes. Broken; for old fixed outputs only.
    Sha1,
    /// 32 bytes, what the store itself uses.
    Sha256,
    /// 64 bytes.
    Sha512,
}

/// Text that is not a hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The algorithm's name is not known.
    #[error("unknown hash algorithm '{0}', expect 'blake3', 'md5', 'sha1', 'sha256', or 'sha512'")]
    UnknownAlgo(String),
    /// Nix has it behind an experimental feature, and we not at all.
    #[error("experimental Nix feature 'blake3-hashes' is disabled; use 'sha256' or 'sha512'")]
    Blake3,
    /// There is no prefix, and the caller does not know the algorithm either.
    #[error("hash '{0}' does not include a type, nor is the type otherwise known from context")]
    NoType(String),
    /// The prefix names another algorithm than the caller asked for.
    #[error("hash '{hash}' should have type '{expected}'")]
    OtherType {
        /// The text as given.
        hash: String,
        /// What was asked for.
        expected: HashAlgo,
    },
    /// The number of digits fits none of the forms.
    #[error("hash '{hash}' has wrong length for hash algorithm '{algo}'")]
    WrongLength {
        /// The digits, without a prefix.
        hash: String,
        /// The algorithm that says how many there must be.
        algo: HashAlgo,
    },
    /// The digits do not stand for as many bytes as the algorithm has, or for none at all.
    #[error("invalid {base} hash '{hash}', length {found} != expected length {expected}")]
    InvalidDigits {
        /// What the digits were taken for.
        base: &'static str,
        /// The digits, without a prefix.
        hash: String,
        /// How many bytes they gave, 0 if a character is not a digit.
        found: usize,
        /// How many bytes the algorithm has.
        expected: usize,
    },
    /// A character outside of Nix's alphabet, or bits too many.
    #[error("invalid base-32 hash '{0}'")]
    InvalidBase32(String),
    /// A character outside of `0-9a-fA-F`.
    #[error("invalid base-16 hash '{0}'")]
    InvalidBase16(String),
    /// Not base 64.
    #[error("invalid base64 text '{0}'")]
    InvalidBase64(String),
    /// An SRI form was asked for, and this has no `ALGO-` in front.
    #[error("hash '{0}' is not SRI")]
    NotSri(String),
}

impl HashAlgo {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512];

    /// Returns the name as Nix writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Returns how many bytes a digest has.
    #[must_use]
    pub const fn len_bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Returns the algorithm called `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(name: &str) -> Result<Self, HashError> {
        if name == "blake3" {
            return Err(HashError::Blake3);
        }
        Self::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| HashError::UnknownAlgo(name.to_owned()))
    }
}

impl fmt::Display for HashAlgo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for HashAlgo {
    type Err = HashError;
    fn from_str(s: &str) -> Result<Self, HashError> {
        Self::parse(s)
    }
}

/// How to write a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFormat {
    /// Hexadecimal, lower case.
    Base16,
    /// Nix's base 32.
    Nix32,
    /// Standard alphabet, padded.
    Base64,
    /// `ALGO-BASE64`, always with the algorithm.
    Sri,
}

/// A digest and the algorithm that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    algo: HashAlgo,
    /// Only the first `algo.len_bytes()` count, the rest is zero.
    bytes: [u8; 64],
}

impl Hash {
    /// Returns the hash with this digest, or nothing if its length is wrong.
    #[must_use]
    pub fn from_bytes(algo: HashAlgo, digest: &[u8]) -> Option<Self> {
        if digest.len() != algo.len_bytes() {
            return None;
        }
        let mut bytes = [0; 64];
        bytes[..digest.len()].copy_from_slice(digest);
        Some(Self { algo, bytes })
    }

    /// Hashes `data`.
    #[must_use]
    pub fn of(algo: HashAlgo, data: &[u8]) -> Self {
        fn filled(algo: HashAlgo, digest: &[u8]) -> Hash {
            Hash::from_bytes(algo, digest).expect("a digest has its algorithm's length")
        }
        match algo {
            HashAlgo::Md5 => filled(algo, &md5::Md5::digest(data)),
            HashAlgo::Sha1 => filled(algo, &sha1::Sha1::digest(data)),
            HashAlgo::Sha256 => filled(algo, &sha2::Sha256::digest(data)),
            HashAlgo::Sha512 => filled(algo, &sha2::Sha512::digest(data)),
        }
    }

    /// Hashes `data` with SHA-256.
    #[must_use]
    pub fn sha256(data: &[u8]) -> Self {
        Self::of(HashAlgo::Sha256, data)
    }

    /// Returns the algorithm.
    #[must_use]
    pub const fn algo(&self) -> HashAlgo {
        self.algo
    }

    /// Returns the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algo.len_bytes()]
    }

    /// Returns the digest in hexadecimal, lower case, without the algorithm.
    #[must_use]
    pub fn to_base16(&self) -> String {
        let mut out = String::with_capacity(self.algo.len_bytes() * 2);
        self.base16_into(&mut out);
        out
    }

    pub(crate) fn base16_into(&self, out: &mut String) {
        let (digits, len) = self.base16_digits();
        out.push_str(std::str::from_utf8(&digits[..len]).expect("digits are ASCII"));
    }

    pub(crate) fn base16_bytes(&self, out: &mut Vec<u8>) {
        let (digits, len) = self.base16_digits();
        out.extend_from_slice(&digits[..len]);
    }

    /// Returns the digits in hexadecimal, and how many they are: no memory is asked for.
    #[must_use]
    pub fn base16_digits(&self) -> ([u8; 128], usize) {
        let mut digits = [0; 128];
        base16_digits_of(self.as_bytes(), &mut digits);
        (digits, self.algo.len_bytes() * 2)
    }

    /// Returns the digest in Nix's base 32, without the algorithm.
    #[must_use]
    pub fn to_nix32(&self) -> String {
        base32::encode(self.as_bytes())
    }

    /// Returns the digest in base 64, without the algorithm.
    #[must_use]
    pub fn to_base64(&self) -> String {
        base64_encode(self.as_bytes())
    }

    /// Returns `ALGO-BASE64`.
    #[must_use]
    pub fn to_sri(&self) -> String {
        format!("{}-{}", self.algo, self.to_base64())
    }

    /// Returns the hash in `format`, with the algorithm in front if asked for; SRI always has it.
    #[must_use]
    pub fn format(&self, format: HashFormat, with_algo: bool) -> String {
        let digits = match format {
            HashFormat::Sri => return self.to_sri(),
            HashFormat::Base16 => self.to_base16(),
            HashFormat::Nix32 => self.to_nix32(),
            HashFormat::Base64 => self.to_base64(),
        };
        if with_algo { format!("{}:{digits}", self.algo) } else { digits }
    }

    /// Parses any form: with `ALGO:` or `ALGO-` (SRI) in front, or bare digits if `algo` is given.
    /// The number of digits says which base they are in.
    ///
    /// # Errors
    /// [`HashError`], in Nix's words.
    pub fn parse_any(text: &str, algo: Option<HashAlgo>) -> Result<Self, HashError> {
        let (prefix, rest, is_sri) = split_prefix(text);
        let found = prefix.map(HashAlgo::parse).transpose()?;
        let algo = match (found, algo) {
            (Some(found), Some(expected)) if found != expected => {
                return Err(HashError::OtherType { hash: text.to_owned(), expected });
            }
            (Some(algo), _) | (None, Some(algo)) => algo,
            (None, None) => return Err(HashError::NoType(text.to_owned())),
        };
        Self::parse_digits(rest, algo, is_sri)
    }

    /// Parses `ALGO:DIGITS` or SRI: the algorithm must be there.
    ///
    /// # Errors
    /// [`HashError`], in Nix's words.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        Self::parse_any(text, None)
    }

    /// Parses `ALGO-BASE64` and nothing else.
    ///
    /// # Errors
    /// [`HashError`], in Nix's words.
    pub fn parse_sri(text: &str) -> Result<Self, HashError> {
        let (algo, rest) = text.split_once('-').ok_or_else(|| HashError::NotSri(text.to_owned()))?;
        Self::parse_digits(rest, HashAlgo::parse(algo)?, true)
    }

    /// Parses digits without a prefix, in the base that their number says.
    ///
    /// # Errors
    /// [`HashError`], in Nix's words.
    pub fn parse_bare(digits: &str, algo: HashAlgo) -> Result<Self, HashError> {
        Self::parse_digits(digits, algo, false)
    }

    fn parse_digits(digits: &str, algo: HashAlgo, is_sri: bool) -> Result<Self, HashError> {
        let len = algo.len_bytes();
        // As in Nix, the last character may have bits beyond the hash: people change it to see a mismatch.
        let whole_bytes = |digits| base64_bits(digits).map(|(bytes, _)| bytes);
        let (base, bytes) = if is_sri {
            ("SRI", whole_bytes(digits.trim_end_matches('=')))
        } else if digits.len() == len * 2 {
            ("base16", base16_decode(digits))
        } else if digits.len() == base32::encoded_len(len) {
            ("nix32", base32::decode(digits))
        } else if digits.len() == len.div_ceil(3) * 4 {
            ("base64", whole_bytes(digits))
        } else {
            return Err(HashError::WrongLength { hash: digits.to_owned(), algo });
        };
        let bytes = bytes.unwrap_or_default();
        Self::from_bytes(algo, &bytes).ok_or_else(|| HashError::InvalidDigits {
            base,
            hash: digits.to_owned(),
            found: bytes.len(),
            expected: len,
        })
    }
}

impl fmt::Display for Hash {
    /// Writes `ALGO:NIX32`, the form of narinfo and content addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algo, self.to_nix32())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A hash being computed. Also an [`io::Write`], so that things can be streamed into it.
#[derive(Clone)]
pub struct Hasher(Inner);

#[derive(Clone)]
enum Inner {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Begins.
    #[must_use]
    pub fn new(algo: HashAlgo) -> Self {
        Self(match algo {
            HashAlgo::Md5 => Inner::Md5(md5::Md5::new()),
            HashAlgo::Sha1 => Inner::Sha1(sha1::Sha1::new()),
            HashAlgo::Sha256 => Inner::Sha256(sha2::Sha256::new()),
            HashAlgo::Sha512 => Inner::Sha512(sha2::Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.0 {
            Inner::Md5(h) => h.update(data),
            Inner::Sha1(h) => h.update(data),
            Inner::Sha256(h) => h.update(data),
            Inner::Sha512(h) => h.update(data),
        }
    }

    /// Ends.
    #[must_use]
    pub fn finish(self) -> Hash {
        fn filled(algo: HashAlgo, digest: &[u8]) -> Hash {
            Hash::from_bytes(algo, digest).expect("a digest has its algorithm's length")
        }
        match self.0 {
            Inner::Md5(h) => filled(HashAlgo::Md5, &h.finalize()),
            Inner::Sha1(h) => filled(HashAlgo::Sha1, &h.finalize()),
            Inner::Sha256(h) => filled(HashAlgo::Sha256, &h.finalize()),
            Inner::Sha512(h) => filled(HashAlgo::Sha512, &h.finalize()),
        }
    }
}

impl io::Write for Hasher {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Splits `sha256:…` and `sha256-…`. A colon wins over a dash, as in Nix.
fn split_prefix(text: &str) -> (Option<&str>, &str, bool) {
    if let Some((prefix, rest)) = text.split_once(':') {
        return (Some(prefix), rest, false);
    }
    match text.split_once('-') {
        Some((prefix, rest)) => (Some(prefix), rest, true),
        None => (None, text, false),
    }
}

/// The digit for a number below 16: computed and not looked up, so that many are at once.
const fn base16_digit(number: u8) -> u8 {
    number + b'0' + (number > 9) as u8 * (b'a' - b'0' - 10)
}

/// Writes bytes in hexadecimal, as far as there is room.
pub(crate) fn base16_digits_of(bytes: &[u8], digits: &mut [u8]) {
    let (pairs, _) = digits.as_chunks_mut::<2>();
    for (pair, &byte) in pairs.iter_mut().zip(bytes) {
        *pair = [base16_digit(byte >> 4), base16_digit(byte & 15)];
    }
}

fn base16_decode(text: &str) -> Result<Vec<u8>, HashError> {
    let nibble = |c: u8| char::from(c).to_digit(16).ok_or_else(|| HashError::InvalidBase16(text.to_owned()));
    text.as_bytes().chunks(2).map(|pair| Ok((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8)).collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns `bytes` in base 64, standard alphabet, padded.
#[must_use]
pub fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = if i <= chunk.len() { BASE64[(word >> (18 - 6 * i) & 63) as usize] } else { b'=' };
            out.push(char::from(digit));
        }
    }
    out
}

/// Returns the bytes of base 64, padded or not at all.
///
/// # Errors
/// If a character is not in the alphabet, padding is wrong, or unused bits are set.
pub fn base64_decode(text: &str) -> Result<Vec<u8>, HashError> {
    match base64_bits(text)? {
        (bytes, 0) => Ok(bytes),
        _ => Err(HashError::InvalidBase64(text.to_owned())),
    }
}

/// Returns the bytes of base 64, and the bits of the last character that make no byte.
fn base64_bits(text: &str) -> Result<(Vec<u8>, u32), HashError> {
    let invalid = || HashError::InvalidBase64(text.to_owned());
    let digits = text.trim_end_matches('=');
    if text.len() != digits.len() && (!text.len().is_multiple_of(4) || text.len() - digits.len() > 2)
        || digits.len() % 4 == 1
    {
        return Err(invalid());
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut word, mut bits) = (0u32, 0u32);
    for byte in digits.bytes() {
        let value = BASE64.iter().position(|d| *d == byte).ok_or_else(invalid)? as u32;
        word = (word << 6 | value) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Ok((out, word & ((1 << bits) - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let check = |algo, hex: &str| assert_eq!(Hash::of(algo, b"abc").to_base16(), hex);
        check(HashAlgo::Md5, "900150983cd24fb0d6963f7d28e17f72");
        check(HashAlgo::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d");
        check(HashAlgo::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Hash::sha256(b"abc").to_nix32(), "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s");
    }

    #[test]
    fn every_form_parses_back() {
        for algo in HashAlgo::ALL {
            let hash = Hash::of(algo, b"x");
            for format in [HashFormat::Base16, HashFormat::Nix32, HashFormat::Base64] {
                assert_eq!(Hash::parse(&hash.format(format, true)).unwrap(), hash);
                assert_eq!(Hash::parse_bare(&hash.format(format, false), algo).unwrap(), hash);
            }
            assert_eq!(Hash::parse_sri(&hash.to_sri()).unwrap(), hash);
        }
    }

    #[test]
    fn errors_have_nix_words() {
        let check = |text, algo, expected: &str| {
            assert_eq!(Hash::parse_any(text, algo).unwrap_err().to_string(), expected);
        };
        check(
            "abc",
            None,
            "hash 'abc' does not include a type, nor is the type otherwise known from context",
        );
        check("sha256:abc", None, "hash 'abc' has wrong length for hash algorithm 'sha256'");
        let sha1 = Hash::of(HashAlgo::Sha1, b"").format(HashFormat::Base16, true);
        check(&sha1, Some(HashAlgo::Sha256), &format!("hash '{sha1}' should have type 'sha256'"));
    }

    #[test]
    fn bits_beyond_a_hash_do_not_matter() {
        let hash = Hash::parse_sri(&format!("sha256-{}0=", "0".repeat(42))).unwrap();
        for last in ["1=", "2=", "3="] {
            let digits = format!("{}{last}", "0".repeat(42));
            assert_eq!(Hash::parse_sri(&format!("sha256-{digits}")).unwrap(), hash);
            assert_eq!(Hash::parse_bare(&digits, HashAlgo::Sha256).unwrap(), hash);
        }
    }

    #[test]
    fn base64_is_strict() {
        for bad in ["A", "AB==", "A===", "AAA*", "AAB=", "AA="] {
            assert!(base64_decode(bad).is_err(), "{bad}");
        }
        for len in 0..20u8 {
            let bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(77)).collect();
            assert_eq!(base64_decode(&base64_encode(&bytes)).unwrap(), bytes);
        }
    }
}
