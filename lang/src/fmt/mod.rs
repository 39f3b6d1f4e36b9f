//! The formatter: the standard Nix format (RFC 166, and nixfmt's `standard.md`) as far as it is documented.
//!
//! ```text
//! text ─lexer→ tokens with their comments (trivia.rs) ─→ a tree that has everything (tree.rs) ─→ text (layout.rs)
//! ```
//!
//! The rule behind all others: what fits into one line (100 characters without the
//! indentation) and is simple enough goes into one line; everything else is spread out, one thing a
//! line. An opening bracket may stay on the line that leads to it (it is *absorbed*):
//! `f a {` … `}`. Comments stay with the token they stand at, and single empty lines stay.
//!
//! The result is parsed again and must be the same program, or it is not returned.

mod layout;
mod tree;
mod trivia;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::parse::{ParseOptions, parse_with};
use crate::print;
use crate::source::Source;
use crate::span::{FileSpan, Span};

/// Deeper nesting is refused: nobody can read it, formatted or not.
const DEEPEST: usize = 1000;
/// Enough for `DEEPEST` levels, in a debug build too. Only what is used is ever mapped.
const STACK_BYTES: usize = 256 << 20;

/// Formats a program.
///
/// # Errors
/// What is wrong with the text; or E0015 if it is nested too deeply or cannot be formatted
/// without changing what it means, which would be a fault of this formatter.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    format_source(&Source::new("", "/", text), ParseOptions { pipe_operators: true })
}

/// Formats a program that has a name for messages.
///
/// # Errors
/// As [`format`].
pub fn format_source(source: &Source, options: ParseOptions) -> Result<String, Vec<Diagnostic>> {
    let Ok(text) = std::str::from_utf8(source.bytes()) else {
        return Err(vec![refuse(source, "a file with bytes that are no UTF-8 cannot be formatted")]);
    };
    let meaning = meaning(source, options)?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let formatting = thread.spawn_scoped(scope, || format_parsed(source, text, options, &meaning));
        let formatting =
            formatting.map_err(|_| vec![refuse(source, "this machine gives no thread to format in")])?;
        formatting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn format_parsed(
    source: &Source,
    text: &str,
    options: ParseOptions,
    meaning: &[u8],
) -> Result<String, Vec<Diagnostic>> {
    // What a first pass moves (a comment, a bracket) may let the next one do better: until nothing moves.
    const PASSES: usize = 6;
    let mut best = None;
    for reindent in [true, false] {
        let mut formatted = text.to_owned();
        for _ in 0..PASSES {
            let next = pass(&formatted, reindent)
                .ok_or_else(|| vec![refuse(source, "this program is nested too deeply to be formatted")])?;
            if next == formatted {
                break;
            }
            formatted = next;
        }
        let again = Source::new(source.name(), source.base_dir(), formatted.as_str());
        if self::meaning(&again, options).is_ok_and(|now| now == meaning) {
            best = Some(formatted);
            break;
        }
    }
    best.ok_or_else(|| {
        vec![refuse(source, "this program cannot be formatted without changing what it means")]
    })
}

fn pass(text: &str, reindent: bool) -> Option<String> {
    let tokens = trivia::tokens(text);
    let tree = tree::parse(&tokens, DEEPEST)?;
    Some(layout::layout(text, &tokens, &tree, reindent))
}

fn meaning(source: &Source, options: ParseOptions) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let parsed = parse_with(source, options)?;
    Ok(print::to_nix(&parsed.ast, source))
}

fn refuse(source: &Source, message: &str) -> Diagnostic {
    Diagnostic::error(codes::FORMAT, message, FileSpan { file: source.id(), span: Span::at(0) })
}
