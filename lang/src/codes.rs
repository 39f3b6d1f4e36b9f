//! The numbers of errors and their pages.
//!
//! Each kind of error has a number that never changes and a page in `docs/errors/`, which
//! `ampoule explain E0007` shows. A new kind is a new page with the next free number
//! and a constant where it is used:
//!
//! | numbers | what went wrong |
//! |---|---|
//! | E0001–E0099 | the text of a program |
//! | E0100–E0199 | its evaluation |
//! | E0200–E0299 | a build |
//! | E0300–E0399 | an image or a registry |
//! | E0400–E0499 | packages and lock files |
//! | E0900–E0999 | the machine, or ampoule itself |

use crate::diagnostic::Code;

/// A page: the number, the title (first line), and the whole text in Markdown.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The number.
    pub code: Code,
    /// The first line without its `#` and the number.
    pub title: &'static str,
    /// The text.
    pub text: &'static str,
}

const PAGES: &[(Code, &str)] = include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

/// Returns all pages, by number.
pub fn pages() -> impl Iterator<Item = Page> {
    PAGES.iter().map(|&(code, text)| {
        let first = text.lines().next().unwrap_or_default();
        let title = first.trim_start_matches('#').trim();
        let title = title.split_once(": ").map_or(title, |(_, title)| title);
        Page { code, title, text }
    })
}

/// Returns the page of an error. `code` may be `E0007`, `e7`, or `7`.
pub fn page(code: &str) -> Option<Page> {
    let digits = code.strip_prefix(['E', 'e']).unwrap_or(code);
    let number: u16 = digits.parse().ok()?;
    pages().find(|page| page.code == Code(number))
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($number);)*

        #[cfg(test)]
        const ALL: &[Code] = &[$($name,)*];
    };
}

codes! {
    /// Something stands where it cannot stand.
    SYNTAX = 1;
    /// A name that nothing binds.
    UNDEFINED_VARIABLE = 2;
    /// The text ends inside of something.
    UNCLOSED = 3;
    /// The text is too long.
    TOO_LARGE = 4;
    /// An attribute is defined twice.
    DUPLICATE_ATTRIBUTE = 5;
    /// An argument is named twice.
    DUPLICATE_FORMAL = 6;
    /// A path ends in a slash.
    TRAILING_SLASH = 7;
    /// A computed name in `let`.
    DYNAMIC_IN_LET = 8;
    /// A computed name in `inherit`.
    DYNAMIC_IN_INHERIT = 9;
    /// An integer does not fit 64 bits.
    INVALID_INTEGER = 10;
    /// A float does not fit 64 bits.
    INVALID_FLOAT = 11;
    /// `|>` without its feature.
    PIPE_DISABLED = 12;
    /// A zero byte in a string.
    NULL_BYTE = 13;
    /// Two operators that cannot stand beside each other.
    NOT_ASSOCIATIVE = 14;
    /// A program that the formatter leaves alone.
    FORMAT = 15;
    /// `f x or` without parentheses.
    OR_AS_NAME = 16;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_a_page_that_names_it() {
        for code in ALL {
            let page = page(&code.to_string()).unwrap_or_else(|| panic!("docs/errors/{code}.md is missing"));
            assert!(
                page.text.starts_with(&format!("# {code}: ")),
                "{code}: the first line is `# {code}: title`"
            );
        }
        for page in pages() {
            let start = format!("# {}: ", page.code);
            assert!(page.text.starts_with(&start), "docs/errors/{}.md starts with `{start}`", page.code);
        }
        assert!(page("e7").is_some() && page("0007").is_some() && page("E9999").is_none());
    }
}
