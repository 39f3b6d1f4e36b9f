//! Diagnostics for people (with the lines they are about) and for programs (JSON).
//!
//! The only place that knows ariadne.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ariadne::{Color, Config, IndexType, Label, Report, ReportKind};
use serde::Serialize;

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{FileId, Source, SourceMap};
use crate::span::FileSpan;

/// More diagnostics than this are counted and not shown.
const MOST_SHOWN: usize = 20;
/// Lines longer than this are not drawn: a terminal cannot show them.
const LONGEST_LINE: usize = 1000;
/// Stands for the words of a label that has none: ariadne underlines nothing without. No source has it,
/// as control characters are drawn as spaces.
const WORDLESS: &str = "\u{1}";

/// Returns the text of diagnostics, each with the lines it is about and a final line end.
///
/// Of many only the first 20 are shown, and the others counted.
pub fn render(diagnostics: &[Diagnostic], sources: &SourceMap, color: bool) -> String {
    let mut out = Vec::new();
    for diagnostic in diagnostics.iter().take(MOST_SHOWN) {
        let mut one = Vec::new();
        render_one(diagnostic, sources, color, &mut one);
        out.extend(without_trailing_blanks(&String::from_utf8_lossy(&one)).bytes());
    }
    if diagnostics.len() > MOST_SHOWN {
        let more = diagnostics.len() - MOST_SHOWN;
        out.extend(format!("and {more} more like these\n").bytes());
    }
    String::from_utf8_lossy(&out).into_owned()
}

type Place = (FileId, Range<usize>);

fn render_one(diagnostic: &Diagnostic, sources: &SourceMap, color: bool, out: &mut Vec<u8>) {
    let (word, paint) = match diagnostic.severity {
        Severity::Error => ("error", Color::Red),
        Severity::Warning => ("warning", Color::Yellow),
    };
    let Some(primary) = &diagnostic.primary else {
        out.extend(format!("[{}] {word}: {}\n", diagnostic.code, diagnostic.message).bytes());
        for hint in &diagnostic.hints {
            out.extend(format!("  hint: {hint}\n").bytes());
        }
        return;
    };
    let labels: Vec<_> = std::iter::once(primary).chain(&diagnostic.secondary).collect();
    let mut excerpts = Excerpts::of(labels.iter().map(|label| label.at), sources);
    let Some(at) = excerpts.place(primary.at) else {
        return render_without_lines(diagnostic, word, sources, out);
    };
    let config = Config::new().with_index_type(IndexType::Byte).with_color(color).with_compact(false);
    let kind = ReportKind::Custom(word, paint);
    let mut report = Report::build(kind, at)
        .with_config(config)
        .with_code(diagnostic.code)
        .with_message(&diagnostic.message);
    // In the order of the lines, or ariadne begins anew at each.
    let mut ordered: Vec<_> = labels.iter().enumerate().collect();
    ordered.sort_by_key(|(_, label)| (label.at.file != primary.at.file, label.at));
    for (i, label) in ordered {
        let Some(place) = excerpts.place(label.at) else { continue };
        let message = if label.message.is_empty() { WORDLESS } else { &label.message };
        let color = if i == 0 { paint } else { Color::Cyan };
        report = report.with_label(Label::new(place).with_color(color).with_message(message));
    }
    for hint in &diagnostic.hints {
        report = report.with_help(hint);
    }
    let mut drawn = Vec::new();
    report.finish().write(&mut excerpts, &mut drawn).expect("a vector can be written to");
    let drawn = without_wordless(&String::from_utf8_lossy(&drawn)).into_bytes();
    if color { out.extend(drawn) } else { push_plain(out, &drawn) }
}

/// Returns text whose lines do not end in blanks, which ariadne fills them up with.
fn without_trailing_blanks(text: &str) -> String {
    text.split_inclusive('\n')
        .flat_map(|line| [line.trim_end(), if line.ends_with('\n') { "\n" } else { "" }])
        .collect()
}

/// Takes out the lines that lead to a label without words, and the start of their arrows.
fn without_wordless(drawn: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in drawn.lines() {
        if !line.contains(WORDLESS) {
            lines.push(line.to_owned());
        } else if let Some(underline) = lines.last_mut()
            && underline.matches('┬').count() == 1
        {
            *underline = underline.replace('┬', "─");
        }
    }
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// Appends text without its colours: ariadne paints the first line of a kind of our own in any case.
fn push_plain(out: &mut Vec<u8>, mut drawn: &[u8]) {
    while let Some(escape) = drawn.windows(2).position(|pair| pair == b"\x1b[") {
        out.extend(&drawn[..escape]);
        let end = drawn[escape..].iter().position(|&b| b == b'm').map_or(drawn.len(), |len| escape + len + 1);
        drawn = &drawn[end..];
    }
    out.extend(drawn);
}

/// For lines that cannot be drawn.
fn render_without_lines(diagnostic: &Diagnostic, word: &str, sources: &SourceMap, out: &mut Vec<u8>) {
    out.extend(format!("[{}] {word}: {}\n", diagnostic.code, diagnostic.message).bytes());
    for label in diagnostic.primary.iter().chain(&diagnostic.secondary) {
        let source = sources.get(label.at.file);
        let position = source.position(label.at.span.start);
        let (line, column) = (position.line_number, position.column_number);
        let text = &source.bytes()[label.at.span.start as usize..];
        let shown = String::from_utf8_lossy(&text[..text.len().min(60)]).replace(['\n', '\r'], " ");
        out.extend(format!("  at {}:{line}:{column}: {shown}", source.name()).bytes());
        if !label.message.is_empty() {
            out.extend(format!("  ← {}", label.message).bytes());
        }
        out.push(b'\n');
    }
    for hint in &diagnostic.hints {
        out.extend(format!("  hint: {hint}\n").bytes());
    }
}

/// The lines that the labels are on, of each file; what is between them is left empty, so that a
/// large file costs no more than a small one.
struct Excerpts {
    files: BTreeMap<FileId, Excerpt>,
}

struct Excerpt {
    source: Arc<Source>,
    text: ariadne::Source<String>,
    /// Start of each line that is kept: in the file, and in the excerpt.
    lines: BTreeMap<u32, KeptLine>,
    drawable: bool,
}

#[derive(Clone, Copy)]
struct KeptLine {
    start: usize,
    len: usize,
    start_in_excerpt: usize,
}

impl Excerpts {
    fn of(places: impl Iterator<Item = FileSpan>, sources: &SourceMap) -> Self {
        let mut wanted: BTreeMap<FileId, Vec<u32>> = BTreeMap::new();
        for place in places {
            let source = sources.get(place.file);
            let first = source.position(place.span.start).line_number;
            let last = source.position(place.span.end.max(place.span.start)).line_number;
            // A label over many lines shows its first and its last.
            wanted.entry(place.file).or_default().extend([first, last]);
        }
        let files = wanted.into_iter().map(|(file, lines)| (file, Excerpt::new(sources.get(file), lines)));
        Self { files: files.collect() }
    }

    fn place(&self, at: FileSpan) -> Option<Place> {
        let excerpt = self.files.get(&at.file).filter(|excerpt| excerpt.drawable)?;
        let text = excerpt.text.text();
        // Ariadne cuts the text here, so not in the middle of a letter.
        let mut start = excerpt.offset(at.span.start)?;
        let mut end = excerpt.offset(at.span.end)?.max(start);
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        while !text.is_char_boundary(end) {
            end += 1;
        }
        Some((at.file, start..end))
    }
}

impl Excerpt {
    fn new(source: Arc<Source>, mut wanted: Vec<u32>) -> Self {
        wanted.sort_unstable();
        wanted.dedup();
        let mut text = String::new();
        let mut lines = BTreeMap::new();
        let mut drawable = wanted.last().is_some_and(|&last| last < 10_000_000);
        let mut at_line = 1;
        for number in wanted {
            let Some(span) = source.line(number).filter(|span| span.len() <= LONGEST_LINE && drawable) else {
                drawable = false;
                break;
            };
            text.extend(std::iter::repeat_n('\n', (number - at_line) as usize));
            at_line = number;
            let kept = KeptLine { start: span.start as usize, len: span.len(), start_in_excerpt: text.len() };
            lines.insert(number, kept);
            push_same_length(&mut text, source.slice(span));
        }
        let text = ariadne::Source::from(text);
        Self { source, text, lines, drawable }
    }

    fn offset(&self, offset: u32) -> Option<usize> {
        let position = self.source.position(offset);
        let line = self.lines.get(&position.line_number)?;
        let column = (offset as usize - line.start).min(line.len);
        Some(line.start_in_excerpt + column)
    }
}

/// Appends bytes as text of the same length: what is no UTF-8 becomes `?`, a tab or control character a space.
fn push_same_length(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().map(|c| if c.is_control() && c.len_utf8() == 1 { ' ' } else { c }));
        text.extend(std::iter::repeat_n('?', chunk.invalid().len()));
    }
}

impl ariadne::Cache<FileId> for &mut Excerpts {
    type Storage = String;

    fn fetch(&mut self, id: &FileId) -> Result<&ariadne::Source<String>, impl std::fmt::Debug> {
        self.files.get(id).map(|excerpt| &excerpt.text).ok_or("every label's file has an excerpt")
    }

    fn display<'a>(&self, id: &'a FileId) -> Option<impl std::fmt::Display + 'a> {
        self.files.get(id).map(|excerpt| excerpt.source.name().to_owned())
    }
}

/// A diagnostic as programs read it. Fields are added over time, and never change their meaning.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct JsonDiagnostic {
    /// Like `E0007`.
    pub code: String,
    /// `error` or `warning`.
    pub severity: &'static str,
    /// One line.
    pub message: String,
    /// Where; `null` for what has no place in a text.
    pub primary: Option<JsonLabel>,
    /// Where the other half came from.
    pub secondary: Vec<JsonLabel>,
    /// What to do about it.
    pub hints: Vec<String>,
}

/// A place and what is to be said there. Lines and columns count from 1, columns and offsets are bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct JsonLabel {
    /// The file's name.
    pub file: String,
    /// Offset of the first byte, from 0.
    pub byte_start: u32,
    /// Offset after the last byte.
    pub byte_end: u32,
    /// Line of the first byte.
    pub line_start: u32,
    /// Its column.
    pub column_start: u32,
    /// Line of the end.
    pub line_end: u32,
    /// Its column.
    pub column_end: u32,
    /// A few words, or none.
    pub message: String,
}

/// Returns a diagnostic as programs read it.
pub fn to_json(diagnostic: &Diagnostic, sources: &SourceMap) -> JsonDiagnostic {
    let label = |label: &crate::diagnostic::Label| {
        let source = sources.get(label.at.file);
        let (start, end) = (source.position(label.at.span.start), source.position(label.at.span.end));
        JsonLabel {
            file: source.name().to_owned(),
            byte_start: label.at.span.start,
            byte_end: label.at.span.end,
            line_start: start.line_number,
            column_start: start.column_number,
            line_end: end.line_number,
            column_end: end.column_number,
            message: label.message.clone(),
        }
    };
    JsonDiagnostic {
        code: diagnostic.code.to_string(),
        severity: match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        message: diagnostic.message.clone(),
        primary: diagnostic.primary.as_ref().map(label),
        secondary: diagnostic.secondary.iter().map(label).collect(),
        hints: diagnostic.hints.clone(),
    }
}
