//! How realising is shown: a live tree on a terminal, a line for each event in a pipe, JSON for
//! programs, folded logs in CI.
//!
//! Quiet on success: a log is shown when its build fails, and then only its end, with the command
//! that shows all of it.

mod lines;
mod tree;

use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use ampoule_realise::{Event, EventSink, Failure, FailureKind, PlannedList};
use ampoule_store::human_size;

use crate::ci::Ci;
use crate::config::Config;
use crate::ui::{DataOut, Ui};

pub use lines::Lines;
pub use tree::Tree;

/// Counts the failures that a display has told, so that none is told twice or never.
pub struct Told<'a> {
    display: Box<dyn EventSink + 'a>,
    shows: bool,
    failures: AtomicUsize,
}

impl Told<'_> {
    /// Whether a failure was shown.
    pub fn failed(&self) -> bool {
        self.shows && self.failures.load(Ordering::Relaxed) > 0
    }
}

impl EventSink for Told<'_> {
    fn event(&self, event: Event) {
        if matches!(event, Event::Failed { .. }) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.display.event(event);
    }

    fn wants_details(&self) -> bool {
        self.display.wants_details()
    }
}

/// Picks the display: `ui.progress`, then `--json`, `-q` and whether stderr is a terminal.
pub fn sink<'a>(ui: &'a Ui, config: &Config) -> Told<'a> {
    let mut shows = true;
    let mut quiet = || -> Box<dyn EventSink> {
        shows = false;
        Box::new(ampoule_realise::Silent)
    };
    let display: Box<dyn EventSink + 'a> = match config.text("ui.progress").unwrap_or("auto") {
        "json" => Box::new(Json),
        "quiet" => quiet(),
        "plain" => Box::new(Lines::new(ui, Ci::detect())),
        "tree" => Box::new(Tree::new(ui)),
        _ if ui.json() => Box::new(Json),
        _ if ui.verbosity() == 0 => quiet(),
        _ if ui.live() && ui.verbosity() == 1 => Box::new(Tree::new(ui)),
        _ => Box::new(Lines::new(ui, Ci::detect())),
    };
    Told { display, shows, failures: AtomicUsize::new(0) }
}

/// One JSON object for each event, on stderr: stdout is for the result.
struct Json;

impl EventSink for Json {
    fn event(&self, event: Event) {
        if let Ok(text) = serde_json::to_string(&event) {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }
}

/// Shows a plan on stdout, where it is what was asked for, and hands on all else.
pub struct DryRun<'a> {
    ui: &'a Ui,
    next: &'a Told<'a>,
}

impl<'a> DryRun<'a> {
    /// Tells the plan; what goes wrong goes to `next`.
    pub fn new(ui: &'a Ui, next: &'a Told<'a>) -> Self {
        Self { ui, next }
    }
}

impl EventSink for DryRun<'_> {
    fn event(&self, event: Event) {
        match event {
            Event::Plan { build, fetch, substitute, valid, .. } if !self.ui.json() => {
                let mut out = BufWriter::new(DataOut::lock());
                let told = [("build", &build), ("fetch", &fetch), ("copy", &substitute)]
                    .into_iter()
                    .try_for_each(|(verb, planned)| write_plan_part(&mut out, verb, planned))
                    .and_then(|()| writeln!(out, "{valid} already there"));
                drop(told.and_then(|()| out.flush()));
            }
            plan @ Event::Plan { .. } => drop(self.ui.print_json(&plan)),
            other => self.next.event(other),
        }
    }
}

/// What would be done in one way: each thing, from where, and how large it is.
fn write_plan_part(out: &mut impl Write, verb: &str, planned: &PlannedList) -> std::io::Result<()> {
    if planned.is_empty() {
        return Ok(());
    }
    let (mut known, mut sum) = (0, 0);
    for size in planned.iter().filter_map(|one| one.size_bytes) {
        (known, sum) = (known + 1, sum + size);
    }
    let size = match planned.len() - known {
        _ if known == 0 => String::new(),
        0 => format!(", {}", human_size(sum)),
        unknown => format!(", {} and {unknown} of unknown size", human_size(sum)),
    };
    writeln!(out, "{} to {verb}{size}:", planned.len())?;
    for one in planned.iter() {
        let from = one.url.as_ref().map_or(String::new(), |url| format!("  {url}"));
        let size = one.size_bytes.map_or(String::new(), |size| format!("  {}", human_size(size)));
        let name = if one.url.is_some() { one.name() } else { one.drv.as_str() };
        writeln!(out, "  {name}{from}{size}")?;
    }
    Ok(())
}

/// How much was left undone because something failed, where anything was; what failed was told when it did.
pub(super) fn summary_line(failed: usize, not_tried: usize, result: Option<FailureKind>) -> Option<String> {
    let is_failure = failed > 0 && result != Some(FailureKind::Interrupted);
    (is_failure && not_tried > 0).then(|| format!("{failed} failed, {not_tried} not tried"))
}

/// What a person is told of a failure, as lines.
pub fn failure_lines(ui: &Ui, failure: &Failure) -> Vec<String> {
    let mut lines = Vec::new();
    let name = if failure.name.is_empty() { String::new() } else { format!("`{}`: ", failure.name) };
    lines.push(format!("{} {name}{}", ui.paint("error:", "1;31"), failure.message));
    if !failure.log_tail.is_empty() {
        lines.push(match failure.log_tail.len() {
            1 => "  last line of the log:".to_owned(),
            count => format!("  last {count} lines of the log:"),
        });
        lines.extend(failure.log_tail.iter().map(|line| format!("  {} {line}", ui.paint(">", "2"))));
    }
    let mut hints = failure.hints.clone();
    if let Some(drv) = &failure.drv {
        if failure.has_log {
            hints.push(format!("run `ampoule log {drv}` to see all of the log"));
        }
        let is_said = hints.iter().any(|hint| hint.contains("`ampoule debug "));
        if failure.sandboxed && !is_said {
            hints.push(format!("run `ampoule debug {drv}` for a shell in the same sandbox"));
        }
    }
    if let Some(kept) = &failure.kept {
        hints.push(format!("look into `{}`, which was kept", kept.display()));
    }
    lines.extend(hints.iter().map(|hint| format!("  {} {hint}", ui.paint("help:", "1;36"))));
    lines
}

/// Time for people: `320 ms`, `1.4 s`, `2 min 05 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => format!("{} min {:02} s", ms / 60_000, ms / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let check = |found: String, expected: &str| assert_eq!(found, expected);
        check(duration(999), "999 ms");
        check(duration(1400), "1.4 s");
        check(duration(125_000), "2 min 05 s");
    }
}
