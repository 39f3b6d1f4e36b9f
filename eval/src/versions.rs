//! Versions and names of derivations.

use std::cmp::Ordering;
use std::ops::Range;

/// The components of a version: runs of digits, and runs of what is neither digit, dot nor dash.
///
/// ```text
/// 1.2-a3b_c      1  2  a  3  b_c
/// ```
pub fn components(version: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let is_separator = |byte: u8| byte == b'.' || byte == b'-';
    let mut at = 0;
    std::iter::from_fn(move || {
        at += version[at..].iter().take_while(|byte| is_separator(**byte)).count();
        let rest = &version[at..];
        let first = *rest.first()?;
        let len = if first.is_ascii_digit() {
            rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
        } else {
            rest.iter().take_while(|byte| !byte.is_ascii_digit() && !is_separator(**byte)).count()
        };
        at += len;
        Some(at - len..at)
    })
}

/// Compares two versions component by component.
///
/// `pre` comes before everything, also before the end; then the end, letters, numbers. Numbers are
/// compared as such if they have 31 bits, else as text: so does Nix.
#[must_use]
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (mut rest_a, mut rest_b) = (components(a), components(b));
    loop {
        let (next_a, next_b) = (rest_a.next(), rest_b.next());
        if next_a.is_none() && next_b.is_none() {
            return Ordering::Equal;
        }
        let (part_a, part_b) = (&a[next_a.unwrap_or(0..0)], &b[next_b.unwrap_or(0..0)]);
        if is_less(part_a, part_b) {
            return Ordering::Less;
        }
        if is_less(part_b, part_a) {
            return Ordering::Greater;
        }
    }
}

fn is_less(a: &[u8], b: &[u8]) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a < b,
        (_, Some(_)) if a.is_empty() => true,
        _ if a == b"pre" => b != b"pre",
        _ if b == b"pre" => false,
        (_, Some(_)) => true,
        (Some(_), _) => false,
        _ => a < b,
    }
}

fn number(component: &[u8]) -> Option<i32> {
    std::str::from_utf8(component).ok()?.parse().ok()
}

/// Splits a derivation's name at the first dash that no letter follows: its length up to there, and
/// where the version starts.
///
/// ```text
/// foo-bar-1.2      foo-bar, 1.2
/// ```
#[must_use]
pub fn split_name(name: &[u8]) -> (usize, usize) {
    let is_border = |pair: &[u8]| pair[0] == b'-' && !pair[1].is_ascii_alphabetic();
    name.windows(2).position(is_border).map_or((name.len(), name.len()), |at| (at, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_cut() {
        let check = |version: &str, expected: &[&str]| {
            let found: Vec<&str> = components(version.as_bytes()).map(|range| &version[range]).collect();
            assert_eq!(found, expected, "{version}");
        };
        check("1.2-a3b_c", &["1", "2", "a", "3", "b_c"]);
        check("..a", &["a"]);
        check("", &[]);
    }

    #[test]
    fn versions_are_ordered() {
        let check = |a: &str, expected: Ordering, b: &str| {
            assert_eq!(compare(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
            assert_eq!(compare(b.as_bytes(), a.as_bytes()), expected.reverse(), "{b} {a}");
        };
        check("1.0", Ordering::Less, "2.3");
        check("2.3", Ordering::Greater, "2.1");
        check("2.3", Ordering::Equal, "2-3");
        check("2.5", Ordering::Greater, "2.3.1");
        check("1.0pre", Ordering::Less, "1.0");
        check("1.a", Ordering::Less, "1.1");
        check("1.0a", Ordering::Greater, "1.0");
        check("4294967296", Ordering::Less, "3");
        check("1.", Ordering::Equal, "1");
    }

    #[test]
    fn names_are_split() {
        let check = |name: &str, expected: (&str, &str)| {
            let (len, version) = split_name(name.as_bytes());
            assert_eq!((&name[..len], &name[version..]), expected);
        };
        check("foo-1.2-x", ("foo", "1.2-x"));
        check("foo-bar", ("foo-bar", ""));
        check("-1", ("", "1"));
        check("a-", ("a-", ""));
    }
}
