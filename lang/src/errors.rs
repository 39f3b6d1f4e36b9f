//! The errors of the parser that are not about syntax: one constructor for each kind, so that it has one wording.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::source::{MAX_SOURCE_BYTES, Source};
use crate::span::{FileSpan, Span};
use crate::symbol::Symbol;

pub(crate) fn invalid_integer(at: FileSpan, digits: &[u8]) -> Diagnostic {
    Diagnostic::error(
        codes::INVALID_INTEGER,
        format!("invalid integer '{}'", String::from_utf8_lossy(digits)),
        at,
    )
    .saying("does not fit 64 bits")
    .hint("write a number up to 9223372036854775807, or a float: `1.0e19`")
}

pub(crate) fn invalid_float(at: FileSpan, digits: &[u8]) -> Diagnostic {
    Diagnostic::error(
        codes::INVALID_FLOAT,
        format!("invalid float '{}'", String::from_utf8_lossy(digits)),
        at,
    )
    .saying("is too large or too small for 64 bits")
}

pub(crate) fn already_defined(source: &Source, path: &[Symbol], second: Span, first: Span) -> Diagnostic {
    let file = source.id();
    let position = source.position(first.start);
    let names: Vec<String> = path.iter().map(|name| crate::print::attr_name(name.as_bytes())).collect();
    let message = format!(
        "attribute '{}' already defined at {}:{}:{}",
        names.join("."),
        source.name(),
        position.line_number,
        position.column_number
    );
    Diagnostic::error(codes::DUPLICATE_ATTRIBUTE, message, FileSpan { file, span: second })
        .saying("defined again")
        .label(FileSpan { file, span: first }, "first defined here")
}

pub(crate) fn duplicate_formal(name: Symbol, second: FileSpan, first: FileSpan) -> Diagnostic {
    Diagnostic::error(codes::DUPLICATE_FORMAL, format!("duplicate formal function argument '{name}'"), second)
        .saying("named again")
        .label(first, "first named here")
}

pub(crate) fn dynamic_in_let(at: FileSpan) -> Diagnostic {
    Diagnostic::error(codes::DYNAMIC_IN_LET, "dynamic attributes not allowed in let", at)
        .saying("this name is known only when it is evaluated")
        .hint("bind an attribute set, `let set = { ${name} = …; }; in …`, and select from it")
}

pub(crate) fn dynamic_in_inherit(at: FileSpan) -> Diagnostic {
    Diagnostic::error(codes::DYNAMIC_IN_INHERIT, "dynamic attributes not allowed in inherit", at)
        .saying("this name is known only when it is evaluated")
        .hint("write `${name} = set.${name};`")
}

pub(crate) fn not_associative(first: (&str, FileSpan), second: (&str, FileSpan)) -> Diagnostic {
    let ((first, first_at), (second, second_at)) = (first, second);
    Diagnostic::error(codes::NOT_ASSOCIATIVE, format!("syntax error, unexpected '{second}'"), second_at)
        .saying(format!("cannot follow `{first}` without parentheses"))
        .label(first_at, "after this operator")
        .hint(format!("put parentheses around one side: `(a {first} b) {second} c`"))
}

pub(crate) fn pipe_disabled(op: &str, at: FileSpan) -> Diagnostic {
    let words = "experimental Nix feature 'pipe-operators' is disabled; add '--extra-experimental-features pipe-operators' to enable it";
    Diagnostic::error(codes::PIPE_DISABLED, words, at)
        .saying(format!("`{op}` is not an operator unless that feature is on"))
        .hint("write a call, `f x`")
}

pub(crate) fn too_large(source: &Source) -> Diagnostic {
    let message = format!(
        "this file has {} MB, and a program may have {} MB",
        source.bytes().len() >> 20,
        MAX_SOURCE_BYTES >> 20
    );
    Diagnostic::error(codes::TOO_LARGE, message, FileSpan { file: source.id(), span: Span::at(0) })
}

pub(crate) fn or_beside_others(source: &Source, span: Span) -> Diagnostic {
    let text = String::from_utf8_lossy(source.slice(span)).into_owned();
    let message =
        "This expression uses `or` as an identifier in a way that will change in a future Nix release";
    Diagnostic::warning(codes::OR_AS_NAME, message, FileSpan { file: source.id(), span })
        .hint(format!("wrap it in parentheses to keep its meaning: `({text})`"))
}
