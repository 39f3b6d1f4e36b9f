//! String algorithms of the builtins, on bytes.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

/// A part of the result of `replaceStrings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes of the text.
    Text(Range<usize>),
    /// The replacement of the pattern with this index.
    With(usize),
}

/// Cuts `text` at the places where one of `patterns` occurs.
///
/// At every place the first pattern of the list that fits is taken. An empty pattern fits
/// everywhere: its replacement stands before the next byte, and at the end.
///
/// ```text
/// from [ "a" "" ], text "ab"      With(0) With(1) Text(b) With(1)
/// ```
///
/// Linear in the text and the patterns: few patterns are told apart by their first byte, many by an
/// automaton.
///
/// # Errors
/// What `each`, which gets the pieces one after another, fails with.
pub fn replace_pieces<E>(
    text: &[u8],
    patterns: &[&[u8]],
    mut each: impl FnMut(Piece) -> Result<(), E>,
) -> Result<(), E> {
    let empty = patterns.iter().position(|pattern| pattern.is_empty());
    // What comes after an empty pattern is never reached.
    let patterns = &patterns[..empty.unwrap_or(patterns.len())];
    let mut kept = 0;
    let mut replace = |range: Range<usize>, with: usize| {
        if kept < range.start {
            each(Piece::Text(kept..range.start))?;
        }
        kept = range.end;
        each(Piece::With(with))
    };
    let mut find = Finder::new(patterns, text.len());
    let mut at = 0;
    loop {
        let found = find.next(text, patterns, at);
        let end = found.as_ref().map_or(text.len(), |(start, _)| *start);
        if let Some(empty) = empty {
            // Before each byte that stays, and, if no pattern fits there, at the end.
            (at..end).try_for_each(|place| replace(place..place, empty))?;
        }
        let Some((start, index)) = found else {
            if let Some(empty) = empty {
                replace(end..end, empty)?;
            }
            break;
        };
        at = start + patterns[index].len();
        replace(start..at, index)?;
    }
    if kept < text.len() { each(Piece::Text(kept..text.len())) } else { Ok(()) }
}

enum Finder {
    /// Bytes that patterns start with, one bit each.
    Few([u64; 4]),
    Many(AhoCorasick),
}

impl Finder {
    fn new(patterns: &[&[u8]], text_len: usize) -> Self {
        if patterns.len() > 8
            && text_len > 256
            && let Ok(automaton) = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(patterns)
        {
            return Finder::Many(automaton);
        }
        let mut starts = [0; 4];
        patterns.iter().for_each(|pattern| starts[usize::from(pattern[0] / 64)] |= 1 << (pattern[0] % 64));
        Finder::Few(starts)
    }

    /// Returns the first place from `from` on where a pattern fits, and which.
    fn next(&mut self, text: &[u8], patterns: &[&[u8]], from: usize) -> Option<(usize, usize)> {
        match self {
            Finder::Many(automaton) => {
                let found = automaton.find(aho_corasick::Input::new(text).range(from..))?;
                Some((found.start(), found.pattern().as_usize()))
            }
            Finder::Few(starts) => {
                let is_start = |byte: u8| starts[usize::from(byte / 64)] >> (byte % 64) & 1 == 1;
                (from..text.len()).filter(|at| is_start(text[*at])).find_map(|at| {
                    let index = patterns.iter().position(|pattern| text[at..].starts_with(pattern))?;
                    Some((at, index))
                })
            }
        }
    }
}

/// Returns the part of a path after its last slash; one slash at the end is not looked at.
///
/// ```text
/// "/a/b/" → "b"      "a//" → ""
/// ```
#[must_use]
pub fn base_name(path: &[u8]) -> Range<usize> {
    let end = path.len() - usize::from(path.ends_with(b"/"));
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    start..end
}

/// Returns how much of a path is its directory, if it has a slash.
///
/// ```text
/// "/a/b/" → "/a/b"      "/a" → "/"      "a" → none: "."
/// ```
#[must_use]
pub fn dir_len(path: &[u8]) -> Option<usize> {
    path.iter().rposition(|byte| *byte == b'/').map(|at| at.max(1))
}

/// Cuts a string for `substring`: from `start`, at most `len` bytes, all the rest if that is
/// negative.
#[must_use]
pub fn substring(text_len: usize, start: u64, len: i64) -> Range<usize> {
    let start = usize::try_from(start).map_or(text_len, |start| start.min(text_len));
    let rest = text_len - start;
    let len = usize::try_from(len).map_or(rest, |len| len.min(rest));
    start..start + len
}

/// Makes an absolute path canonical without looking at files: no `.`, no `..`, single slashes.
///
/// ```text
/// "/a/./b/../c//" → "/a/c"      "/.." → "/"
/// ```
#[must_use]
pub fn canonical_path(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => out.truncate(out.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            part => {
                out.push(b'/');
                out.extend_from_slice(part);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(from: &[&str], to: &[&str], text: &str) -> String {
        let patterns: Vec<&[u8]> = from.iter().map(|pattern| pattern.as_bytes()).collect();
        let mut out = String::new();
        let done: Result<(), std::convert::Infallible> =
            replace_pieces(text.as_bytes(), &patterns, |piece| {
                out += match piece {
                    Piece::Text(range) => &text[range],
                    Piece::With(index) => to[index],
                };
                Ok(())
            });
        let Ok(()) = done;
        out
    }

    #[test]
    fn replacing() {
        let check = |from: &[&str], to: &[&str], text, expected: &str| {
            assert_eq!(replace(from, to, text), expected, "{from:?} {text}");
        };
        check(&["a", "b"], &["b", "a"], "abc", "bac");
        check(&["", "a"], &["X", "Y"], "abc", "XaXbXcX");
        check(&["a", ""], &["Y", "X"], "abca", "YXbXcYX");
        check(&["ab", "a"], &["1", "2"], "aab", "21");
        check(&["a", "ab"], &["2", "1"], "aab", "22b");
        check(&[""], &["-"], "", "-");
        check(&["a"], &[""], "aaa", "");
        check(&[], &[], "abc", "abc");
    }

    #[test]
    fn many_patterns_are_like_few() {
        let patterns: Vec<String> = (0..40).map(|i| format!("{}{}", i % 7, "x".repeat(i % 5))).collect();
        let from: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let to: Vec<String> = (0..40).map(|i| format!("<{i}>")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let text: String =
            (0..2000_u32).map(|i| ['1', 'x', '4', 'x', 'x', '9'][(i * i % 6) as usize]).collect();
        let short: String = text.chars().take(200).collect();
        assert!(replace(&from, &to, &text).starts_with(&replace(&from, &to, &short)[..150]));
    }

    #[test]
    fn parts_of_paths() {
        let check = |path: &str, base: &str, dir: Option<&str>| {
            assert_eq!(&path[base_name(path.as_bytes())], base, "{path}");
            assert_eq!(dir_len(path.as_bytes()).map(|len| &path[..len]), dir, "{path}");
        };
        check("/a/b/", "b", Some("/a/b"));
        check("a//", "", Some("a/"));
        check("a//b", "b", Some("a/"));
        check("/", "", Some("/"));
        check("/a", "a", Some("/"));
        check("a", "a", None);
        check("", "", None);
        check("//a", "a", Some("/"));
    }

    #[test]
    fn substrings_stay_inside() {
        assert_eq!(substring(3, 1, 1), 1..2);
        assert_eq!(substring(3, 1, -1), 1..3);
        assert_eq!(substring(3, u64::MAX, 1), 3..3);
        assert_eq!(substring(3, 1, i64::MAX), 1..3);
    }

    #[test]
    fn paths_become_canonical() {
        let check =
            |path: &str, expected: &str| assert_eq!(canonical_path(path.as_bytes()), expected.as_bytes());
        check("/a/./b/../c//", "/a/c");
        check("/..", "/");
        check("/../a/..", "/");
        check("/a/...", "/a/...");
    }
}
