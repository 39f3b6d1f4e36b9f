//! Errors of the evaluation, as people and programs read them.

use std::collections::BTreeSet;
use std::io::Write;

use ampoule_eval::{EvalError, Evaluator};
use ampoule_lang::diagnostic::Label;
use ampoule_lang::resolve::Place;
use ampoule_lang::{Diagnostic, FileId, SourceMap};

use crate::ci::Ci;
use crate::ui::Ui;

/// Frames of a trace that are shown without `--show-trace`.
const SHORT_TRACE: usize = 4;
/// Frames that are shown though they were shown before.
const FEW_AGAIN: usize = 5;

/// Shows what is wrong, where, and how the evaluation got there, on stderr.
pub fn eval_error(ev: &mut Evaluator, error: &EvalError, sources: &SourceMap, show_trace: bool, ui: &Ui) {
    let mut diagnostics = ev.diagnostics(error);
    for diagnostic in &mut diagnostics {
        blame_user(ev, error, diagnostic, show_trace);
        if diagnostic.message.contains("is forbidden in pure evaluation mode") {
            diagnostic.hints.push(
                "files are read below the directory of the file that is evaluated; `--root DIR` names a larger one"
                    .to_owned(),
            );
        }
    }
    show(&diagnostics, sources, ui);
    if ui.json() {
        return;
    }
    let lines = if show_trace { whole_trace(ev, error, sources) } else { short_trace(ev, error, sources) };
    if !lines.is_empty() {
        let _ = writeln!(std::io::stderr().lock(), "{}", lines.join("\n"));
    }
}

/// The steps in files of the user's, from the outermost inwards. Rounds of a recursion are told once.
fn short_trace(ev: &Evaluator, error: &EvalError, sources: &SourceMap) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut told = 0;
    let users: Vec<_> = error.frames().filter(|frame| !frame.is_detail && is_users(ev, frame)).collect();
    for same in users.chunk_by(|a, b| a == b).rev().take(SHORT_TRACE) {
        lines.push(line(ev, sources, &same[0].text, same[0].place));
        if same.len() > 1 {
            lines.push(format!("  ({} duplicate frames omitted)", same.len() - 1));
        }
        told += same.len();
    }
    // Which part of an expression it was is not worth asking for alone.
    let hidden = error.frames().filter(|frame| !frame.is_detail).count().saturating_sub(told);
    if hidden > 0 {
        lines.push(format!("  … {hidden} more; --show-trace shows them"));
    }
    lines
}

/// Every step. Where many come again, as in a recursion, they are counted.
fn whole_trace(ev: &Evaluator, error: &EvalError, sources: &SourceMap) -> Vec<String> {
    let steps = error.frames().rev().flat_map(|frame| match frame.callee.is_some() {
        true => vec![("from call site", frame.place), (frame.text.as_str(), frame.callee)],
        false => vec![(frame.text.as_str(), frame.place)],
    });
    let (mut lines, mut seen, mut again) = (Vec::new(), BTreeSet::new(), Vec::new());
    let tell_again = |lines: &mut Vec<String>, seen: &mut BTreeSet<_>, again: &mut Vec<_>| {
        if again.len() > FEW_AGAIN {
            lines.push(format!("  ({} duplicate frames omitted)", again.len()));
            seen.clear();
            again.clear();
        }
        lines.extend(again.drain(..).map(|(text, place)| line(ev, sources, text, place)));
    };
    for step in steps {
        if !seen.insert(step) {
            again.push(step);
            continue;
        }
        tell_again(&mut lines, &mut seen, &mut again);
        lines.push(line(ev, sources, step.0, step.1));
    }
    tell_again(&mut lines, &mut seen, &mut again);
    lines
}

fn line(ev: &Evaluator, sources: &SourceMap, text: &str, place: Place) -> String {
    let at = match ev.file_span(place) {
        Some(span) => {
            let source = sources.get(span.file);
            let position = source.position(span.span.start);
            format!(" at {}:{}:{}", source.name(), position.line_number, position.column_number)
        }
        None => String::new(),
    };
    format!("  {text}{at}")
}

/// Whether a frame is in a file of the user's, not in the library.
fn is_users(ev: &Evaluator, frame: &ampoule_eval::Frame) -> bool {
    ev.file_span(frame.place).is_some_and(|span| !is_library(ev, span.file))
}

/// Whether a text is ours: the library, and what the program itself calls.
fn is_library(ev: &Evaluator, file: FileId) -> bool {
    let source = ev.settings().sources.get(file);
    let name = source.name();
    name.starts_with(crate::world::STD_DIR)
        || name.starts_with("«ampoule»")
        || name == "/derivation-internal.nix"
}

/// An error inside the library is shown where the user's file led there: what stands in the library
/// is not theirs to mend. With the whole trace both places are shown.
fn blame_user(ev: &Evaluator, error: &EvalError, diagnostic: &mut Diagnostic, show_trace: bool) {
    let Some(inside) = diagnostic.primary.take_if(|label| is_library(ev, label.at.file)) else { return };
    // The innermost frame of the user's: if all that failed is the library's, the file that it came from.
    let call = error.frames().find(|frame| is_users(ev, frame));
    let Some(at) = call.and_then(|frame| ev.file_span(frame.place)) else {
        diagnostic.primary = Some(inside);
        return;
    };
    diagnostic.primary = Some(Label { at, message: "led to this, inside the library".to_owned() });
    if show_trace {
        let message = if inside.message.is_empty() { "raised here".to_owned() } else { inside.message };
        diagnostic.secondary.insert(0, Label { at: inside.at, message });
    }
}

/// Shows diagnostics on stderr: rendered, or a JSON object each.
pub fn show(diagnostics: &[Diagnostic], sources: &SourceMap, ui: &Ui) {
    if ui.json() {
        return write_json(diagnostics, sources);
    }
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(ampoule_lang::render::render(diagnostics, sources, ui.color()).as_bytes());
    let Some(ci) = Ci::detect() else { return };
    for diagnostic in diagnostics {
        let at = diagnostic.primary.as_ref().map(|label| {
            let source = sources.get(label.at.file);
            let position = source.position(label.at.span.start);
            (source.name().to_owned(), position)
        });
        // A mark can point at files of the checkout alone, and names them from its top.
        let top = std::env::var("GITHUB_WORKSPACE").or_else(|_| std::env::var("PWD")).unwrap_or_default();
        let at = at.filter(|(name, _)| name.starts_with('/')).map(|(name, at)| {
            let below = std::path::Path::new(&name).strip_prefix(&top).ok().and_then(|below| below.to_str());
            (below.map_or(name.clone(), str::to_owned), at)
        });
        let at = at.as_ref().map(|(name, at)| (name.as_str(), at.line_number, at.column_number));
        if let Some(mark) = ci.annotate(&diagnostic.message, at) {
            let _ = writeln!(err, "{mark}");
        }
    }
}

/// Writes a JSON object for each diagnostic to stderr.
pub fn write_json(diagnostics: &[Diagnostic], sources: &SourceMap) {
    let mut err = std::io::stderr().lock();
    for diagnostic in diagnostics {
        let value = ampoule_lang::render::to_json(diagnostic, sources);
        let _ = writeln!(err, "{}", serde_json::to_string(&value).expect("strings and numbers are JSON"));
    }
}
