//! Control files ("deb822"): stanzas of `Field: value` lines, parted by empty lines.
//!
//! Borrowing only: a stanza is a slice of the text, a field a slice of the stanza.
//! A field's value keeps its continuation lines, which begin with a blank.

use memchr::{memchr, memmem};

/// Iterates over the stanzas of `text`.
pub fn stanzas(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('\n');
        if rest.is_empty() {
            return None;
        }
        let (stanza, tail) = split_at_blank_line(rest);
        rest = tail;
        Some(stanza)
    })
}

fn split_at_blank_line(text: &str) -> (&str, &str) {
    match memmem::find(text.as_bytes(), b"\n\n") {
        Some(at) => (&text[..=at], &text[at + 2..]),
        None => (text, ""),
    }
}

/// Cuts `text` into at most `count` pieces of about the same size, each whole stanzas.
pub fn split_into_pieces(text: &str, count: usize) -> Vec<&str> {
    let wanted_bytes = text.len() / count.max(1) + 1;
    let mut pieces = Vec::with_capacity(count);
    let mut rest = text;
    while rest.len() > wanted_bytes {
        let Some(at) = memmem::find(&rest.as_bytes()[wanted_bytes..], b"\n\n") else { break };
        let (piece, tail) = rest.split_at(wanted_bytes + at + 2);
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    pieces
}

/// Iterates over the fields of one stanza as (name, value).
pub fn fields(stanza: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = stanza;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let field_bytes = field_length(rest.as_bytes());
            let (field, tail) = rest.split_at(field_bytes);
            rest = tail;
            if let Some(colon) = memchr(b':', field.as_bytes())
                && !field.starts_with(['#', ' ', '\t'])
            {
                return Some((&field[..colon], field[colon + 1..].trim()));
            }
        }
    })
}

/// Length of the first field with its continuation lines and last newline.
fn field_length(text: &[u8]) -> usize {
    let mut end = 0;
    loop {
        match memchr(b'\n', &text[end..]) {
            None => return text.len(),
            Some(at) => end += at + 1,
        }
        if !matches!(text.get(end), Some(b' ' | b'\t')) {
            return end;
        }
    }
}

/// Returns the value of `name`, whatever its case.
pub fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    fields(stanza).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "Package: a\nDepends: b,\n c (>= 1:2)\nDescription: one\n .\n two\n\n\nPackage: b\nMD5Sum:\n x 1 y\n";

    #[test]
    fn a_stanza_ends_at_a_blank_line_and_a_field_at_a_line_without_indent() {
        let found: Vec<Vec<(&str, &str)>> = stanzas(TEXT).map(|stanza| fields(stanza).collect()).collect();
        assert_eq!(
            found,
            [
                vec![("Package", "a"), ("Depends", "b,\n c (>= 1:2)"), ("Description", "one\n .\n two")],
                vec![("Package", "b"), ("MD5Sum", "x 1 y")],
            ]
        );
    }

    #[test]
    fn pieces_hold_every_stanza_once() {
        let text: String = (0..100).map(|i| format!("Package: p{i}\nVersion: {i}\n\n")).collect();
        for count in [1, 2, 3, 7, 200] {
            let names: Vec<&str> = split_into_pieces(&text, count)
                .into_iter()
                .flat_map(stanzas)
                .filter_map(|stanza| field(stanza, "package"))
                .collect();
            assert_eq!(names.len(), 100, "{count} pieces");
        }
    }
}
