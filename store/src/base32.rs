//! Nix's base 32: the digits of store paths.
//!
//! The alphabet leaves out `e`, `o`, `u` and `t`, so that a hash never spells a word, and the
//! bytes are read as one little-endian number whose highest digit comes first:
//!
//! ```
//! assert_eq!(ampoule_store::base32::encode(&[1]), "01");
//! assert_eq!(ampoule_store::base32::decode("01").unwrap(), [1]);
//! ```

use crate::hash::HashError;

/// The digits, in order of value.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

const INVALID: u8 = 0xff;

const VALUES: [u8; 256] = {
    let mut table = [INVALID; 256];
    let mut i = 0;
    while i < 32 {
        table[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// Returns how many digits `len` bytes take.
#[must_use]
pub const fn encoded_len(len: usize) -> usize {
    (len * 8).div_ceil(5)
}

/// Returns the digits of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(encoded_len(bytes.len()));
    encode_into(bytes, &mut out);
    out
}

/// Appends the digits of `bytes` to `out`.
pub fn encode_into(bytes: &[u8], out: &mut String) {
    let len = encoded_len(bytes.len());
    // Room for any hash, without asking for memory.
    let (mut few, mut many) = ([0; 104], Vec::new());
    let digits = if len <= few.len() {
        &mut few[..len]
    } else {
        many.resize(len, 0);
        many.as_mut_slice()
    };
    digits_of(bytes, digits);
    out.push_str(std::str::from_utf8(digits).expect("digits are ASCII"));
}

/// Writes the digits of `bytes`; there is room for just as many.
pub(crate) fn digits_of(bytes: &[u8], digits: &mut [u8]) {
    // Five bytes are eight digits; the first bytes are the last digits.
    let mut end = digits.len();
    for chunk in bytes.chunks(5) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mut word = u64::from_le_bytes(word);
        let start = end - encoded_len(chunk.len());
        for digit in digits[start..end].iter_mut().rev() {
            *digit = ALPHABET[(word & 31) as usize];
            word >>= 5;
        }
        end = start;
    }
}

/// Returns whether `byte` is a digit.
#[must_use]
pub const fn is_digit(byte: u8) -> bool {
    VALUES[byte as usize] != INVALID
}

/// Returns the bytes that `text` stands for.
///
/// # Errors
/// If a character is not in the alphabet, or the unused high bits are not zero.
pub fn decode(text: &str) -> Result<Vec<u8>, HashError> {
    let mut out = vec![0u8; text.len() * 5 / 8];
    for (digit, byte) in text.bytes().rev().enumerate() {
        let value = VALUES[usize::from(byte)];
        if value == INVALID {
            return Err(HashError::InvalidBase32(text.to_owned()));
        }
        let (at, shift) = (digit * 5 / 8, digit * 5 % 8);
        let low = value << shift;
        let high = if shift == 0 { 0 } else { value >> (8 - shift) };
        match out.get_mut(at) {
            Some(slot) => *slot |= low,
            None if low != 0 => return Err(HashError::InvalidBase32(text.to_owned())),
            None => {}
        }
        match out.get_mut(at + 1) {
            Some(slot) => *slot |= high,
            None if high != 0 => return Err(HashError::InvalidBase32(text.to_owned())),
            None => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_inverts_encode() {
        for len in 0..70usize {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 37 + len * 11) as u8).collect();
            assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }
    }

    #[test]
    fn high_bits_must_be_zero() {
        assert!(decode("zz").is_err());
        assert!(decode("7z").is_ok());
        assert!(decode("e0").is_err());
    }
}
