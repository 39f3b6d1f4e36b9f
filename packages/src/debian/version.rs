//! Order of Debian versions, `[epoch:]upstream[-revision]`.
//!
//! Each part is read as alternating runs of non-digits and digits. Digits compare
//! as numbers of any length; in the rest `~` sorts before the end of the text,
//! letters before everything else.
//!
//! ```text
//! 1.0~rc1 < 1.0 < 1.0a < 1.0+b1 < 1.0-1 < 1:0.9
//! ```
//!
//! Source: Debian Policy, "5.6.12 Version"; compared with `dpkg --compare-versions`.

use std::cmp::Ordering;

/// Compares two versions the way dpkg does.
pub fn compare_versions(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (left_epoch, left_rest) = split_epoch(left);
    let (right_epoch, right_rest) = split_epoch(right);
    let (left_upstream, left_revision) = split_revision(left_rest);
    let (right_upstream, right_revision) = split_revision(right_rest);
    compare_digits(left_epoch.as_bytes(), right_epoch.as_bytes())
        .then_with(|| compare_part(left_upstream, right_upstream))
        .then_with(|| compare_part(left_revision, right_revision))
}

/// Returns the version without its epoch, as it stands in file names.
pub fn without_epoch(version: &str) -> &str {
    split_epoch(version).1
}

fn split_epoch(version: &str) -> (&str, &str) {
    version.split_once(':').unwrap_or(("", version))
}

fn split_revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, ""))
}

fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        let left_text = run(left, false);
        let right_text = run(right, false);
        let order = compare_text(left_text, right_text);
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (&left[left_text.len()..], &right[right_text.len()..]);
        let left_digits = run(left, true);
        let right_digits = run(right, true);
        let order = compare_digits(left_digits, right_digits);
        if order != Ordering::Equal || (left.is_empty() && right.is_empty()) {
            return order;
        }
        (left, right) = (&left[left_digits.len()..], &right[right_digits.len()..]);
    }
}

/// The longest head of `text` that is all digits, or all something else.
fn run(text: &[u8], digits: bool) -> &[u8] {
    let end = text.iter().position(|byte| byte.is_ascii_digit() != digits);
    &text[..end.unwrap_or(text.len())]
}

fn compare_text(left: &[u8], right: &[u8]) -> Ordering {
    let length = left.len().max(right.len());
    let weights = |text: &[u8]| -> Vec<i32> {
        (0..length).map(|i| text.get(i).map_or(0, |&byte| weight(byte))).collect()
    };
    if left == right {
        return Ordering::Equal;
    }
    weights(left).cmp(&weights(right))
}

/// 0 is the end of the text; `~` lies before it.
fn weight(byte: u8) -> i32 {
    match byte {
        b'~' => -1,
        b'a'..=b'z' | b'A'..=b'Z' => i32::from(byte),
        _ => i32::from(byte) + 256,
    }
}

fn compare_digits(left: &[u8], right: &[u8]) -> Ordering {
    let left = strip_zeros(left);
    let right = strip_zeros(right);
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

fn strip_zeros(digits: &[u8]) -> &[u8] {
    let start = digits.iter().position(|&digit| digit != b'0');
    &digits[start.unwrap_or(digits.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ascending = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0-0a",
            "0a",
            "0+",
            "0.9",
            "1.0~rc1-1",
            "1.0~rc1-1+b1",
            "1.0",
            "1.0-0.1",
            "1.0-1",
            "1.0-1+b1",
            "1.0a",
            "1.0+dfsg",
            "1.0.1",
            "1.2",
            "1.10",
            "9999999999999999999999",
            "1:0.1",
            "2:0",
        ];
        for (i, left) in ascending.iter().enumerate() {
            for (j, right) in ascending.iter().enumerate() {
                assert_eq!(compare_versions(left, right), i.cmp(&j), "{left} against {right}");
            }
        }
    }

    #[test]
    fn zeros_in_front_and_missing_parts_are_equal() {
        for (left, right) in [("1.0", "1.00"), ("0:1", "1"), ("1-0", "1"), ("1.", "1.0"), ("", "0")] {
            assert_eq!(compare_versions(left, right), Ordering::Equal, "{left} against {right}");
        }
    }
}
