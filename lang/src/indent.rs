//! Indented strings: takes away the indentation that all lines share.

use crate::ast::{Expr, ExprId, Slice, StrPart, StrPartKind};
use crate::builder::{Builder, Mark};
use crate::span::Span;

/// A part of an indented string, as the text has it.
#[derive(Clone, Copy)]
pub(crate) struct IndentPart {
    kind: IndentKind,
    span: Span,
}

#[derive(Clone, Copy)]
enum IndentKind {
    /// Text with its indentation.
    Text,
    /// An escape: no indentation, even if it is a space or a line end.
    Escape,
    Expr(ExprId),
}

impl Builder<'_> {
    pub fn open_indented(&mut self) -> Mark {
        self.indent_parts.len() as u32
    }

    pub fn push_indented_text(&mut self, mark: Mark, start: u32, end: u32) -> Mark {
        self.indent_parts.push(IndentPart { kind: IndentKind::Text, span: Span::new(start, end) });
        mark
    }

    pub fn push_indented_escape(&mut self, mark: Mark, start: u32, end: u32) -> Mark {
        self.indent_parts.push(IndentPart { kind: IndentKind::Escape, span: Span::new(start, end) });
        mark
    }

    pub fn push_indented_expr(&mut self, mark: Mark, id: ExprId) -> Mark {
        let span = self.ast.span(id);
        self.indent_parts.push(IndentPart { kind: IndentKind::Expr(id), span });
        mark
    }

    /// Makes a string of the parts above `mark`.
    pub fn indented(&mut self, start: u32, mark: Mark, end: u32) -> ExprId {
        let raw = self.indent_parts.split_off(mark as usize);
        let dropped = shared_indentation(self.bytes, &raw);
        let first = self.ast.parts.len();
        let mut at_line_start = true;
        let mut column = 0;
        for (i, part) in raw.iter().enumerate() {
            let last = i + 1 == raw.len();
            let text_start = self.ast.texts.len();
            let kind = match part.kind {
                IndentKind::Text => {
                    let bytes = &self.bytes[part.span.range()];
                    push_stripped(&mut self.ast.texts, bytes, dropped, &mut at_line_start, &mut column, last);
                    StrPartKind::Text(Slice::new(text_start, self.ast.texts.len()))
                }
                IndentKind::Escape => {
                    // An escape is no indentation when it is measured, but it is when it is taken away.
                    let bytes = &escaped(&self.bytes[part.span.range()]);
                    push_stripped(&mut self.ast.texts, bytes, dropped, &mut at_line_start, &mut column, last);
                    StrPartKind::Text(Slice::new(text_start, self.ast.texts.len()))
                }
                IndentKind::Expr(id) => {
                    (at_line_start, column) = (false, 0);
                    StrPartKind::Expr(id)
                }
            };
            if !matches!(kind, StrPartKind::Text(text) if text.is_empty()) {
                self.ast.parts.push(StrPart { kind, span: part.span });
            }
        }
        let parts = Slice::new(first, self.ast.parts.len());
        let expr = match self.ast.parts(parts) {
            [] => Expr::Str(Slice::EMPTY),
            [StrPart { kind: StrPartKind::Text(text), .. }] => {
                let expr = Expr::Str(*text);
                self.ast.parts.truncate(first);
                expr
            }
            // Nix looks only whether there is one part, and whether that is a string.
            [StrPart { kind: StrPartKind::Expr(id), .. }] if matches!(self.ast.expr(*id), Expr::Str(_)) => {
                self.ast.expr(*id)
            }
            _ => Expr::Interpolation(parts),
        };
        self.push_expr(expr, Span::new(start, end))
    }
}

/// Pushes a text without its indentation and, if nothing follows, without a blank last line.
fn push_stripped(
    texts: &mut Vec<u8>,
    bytes: &[u8],
    dropped: usize,
    at_line_start: &mut bool,
    column: &mut usize,
    last: bool,
) {
    let first = texts.len();
    let mut at = 0;
    while at < bytes.len() {
        if *at_line_start {
            match bytes[at] {
                b' ' => {
                    if *column >= dropped {
                        texts.push(b' ');
                    }
                    *column += 1;
                    at += 1;
                    continue;
                }
                b'\n' => *column = 0,
                _ => (*at_line_start, *column) = (false, 0),
            }
        }
        let line_end = bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |i| at + i + 1);
        texts.extend_from_slice(&bytes[at..line_end]);
        if bytes[line_end - 1] == b'\n' {
            *at_line_start = true;
        }
        at = line_end;
    }
    if last {
        let text = &texts[first..];
        if let Some(line_end) = text.iter().rposition(|&b| b == b'\n')
            && text[line_end + 1..].iter().all(|&b| b == b' ')
        {
            texts.truncate(first + line_end + 1);
        }
    }
}

/// Returns what an escape stands for.
fn escaped(escape: &[u8]) -> Vec<u8> {
    match escape {
        b"''$" | b"$" => b"$".to_vec(),
        b"'''" => b"''".to_vec(),
        b"'" => b"'".to_vec(),
        [.., b'n'] => b"\n".to_vec(),
        [.., b'r'] => b"\r".to_vec(),
        [.., b't'] => b"\t".to_vec(),
        [.., other] => vec![*other],
        [] => Vec::new(),
    }
}

/// Returns the smallest indentation of the lines that have more than spaces. A last line of spaces does not count.
fn shared_indentation(bytes: &[u8], parts: &[IndentPart]) -> usize {
    let mut smallest = usize::MAX;
    let mut at_line_start = true;
    let mut column = 0;
    for part in parts {
        if !matches!(part.kind, IndentKind::Text) {
            if at_line_start {
                at_line_start = false;
                smallest = smallest.min(column);
            }
            continue;
        }
        for &byte in &bytes[part.span.range()] {
            match byte {
                b'\n' => (at_line_start, column) = (true, 0),
                b' ' if at_line_start => column += 1,
                _ if at_line_start => {
                    at_line_start = false;
                    smallest = smallest.min(column);
                }
                _ => {}
            }
        }
    }
    smallest
}
