//! One plain line for each event: for pipes, files and CI.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use ampoule_realise::{Activity, Event, EventSink, Planned};
use ampoule_store::{StorePath, human_size};

use super::{duration, failure_lines};
use crate::ci::Ci;
use crate::ui::Ui;

/// Writes lines to stderr. With `-v`, log lines too, each behind the name of its build.
pub struct Lines<'a> {
    ui: &'a Ui,
    ci: Option<Ci>,
    /// Log lines of running builds, kept for a service that folds them.
    logs: Mutex<BTreeMap<StorePath, Vec<String>>>,
    names: Mutex<BTreeMap<StorePath, String>>,
    failed: Mutex<Failed>,
}

/// What failed so far, and whether other lines came since: then it is named once more at the end.
#[derive(Default)]
struct Failed {
    names: Vec<String>,
    is_buried: bool,
}

/// Names of failures that the last line has.
const NAMED_FAILURES: usize = 5;

/// Log lines that are kept of a build for its fold.
const FOLDED_LINES: usize = 2000;

impl<'a> Lines<'a> {
    /// Lines for `ci`, or for no service in particular.
    pub fn new(ui: &'a Ui, ci: Option<Ci>) -> Self {
        Self { ui, ci, logs: Mutex::default(), names: Mutex::default(), failed: Mutex::default() }
    }

    fn say(&self, line: &str) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_buried = true;
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    fn fold(&self, ci: Ci, drv: &StorePath, name: &str) {
        let lines = self.logs.lock().expect("no holder of this lock panics").remove(drv).unwrap_or_default();
        if lines.is_empty() {
            return;
        }
        // One write: other builds' lines must not get into the fold.
        self.say(&ci.fold(&format!("log of {name}"), &lines));
    }
}

/// The word of an activity, as a line begins with it.
pub fn verb(activity: Activity) -> &'static str {
    match activity {
        Activity::Build => "build",
        Activity::Fetch => "fetch",
        Activity::Substitute => "copy",
        Activity::Check => "check",
    }
}

impl EventSink for Lines<'_> {
    fn event(&self, event: Event) {
        match event {
            Event::Plan { build, fetch, substitute, .. } => {
                if build.len() + fetch.len() + substitute.len() == 0 {
                    return;
                }
                let counted = |what: &str, planned: &[Planned]| {
                    let known: u64 = planned.iter().filter_map(|one| one.size_bytes).sum();
                    let size = if known > 0 { format!(" ({})", human_size(known)) } else { String::new() };
                    format!("{} to {what}{size}", planned.len())
                };
                let copies = match substitute.as_slice() {
                    [] => String::new(),
                    some => format!(", {}", counted("copy", some)),
                };
                self.say(&format!("plan: {} to build, {}{copies}", build.len(), counted("fetch", &fetch)));
            }
            Event::Started { drv, name, activity, .. } => {
                self.say(&format!("{} {name}", verb(activity)));
                self.names.lock().expect("no holder of this lock panics").insert(drv, name);
            }
            Event::Waiting { name, .. } => self.say(&format!("wait {name}: another process works on it")),
            Event::Log { drv, line } => {
                if self.ui.verbosity() > 1 {
                    let names = self.names.lock().expect("no holder of this lock panics");
                    let name = names.get(&drv).map_or(drv.name(), String::as_str);
                    self.say(&format!("{name}> {line}"));
                } else if self.ci.is_some() {
                    let mut logs = self.logs.lock().expect("no holder of this lock panics");
                    let lines = logs.entry(drv).or_default();
                    if lines.len() < FOLDED_LINES {
                        lines.push(line);
                    }
                }
            }
            // Dozens of them, each in no time: one line for each is enough.
            Event::Finished { activity: Activity::Fetch, .. } if self.ui.verbosity() < 2 => {}
            Event::Finished { drv, name, activity, took_ms, .. } => {
                self.say(&format!("done {}: {} took {}", name, verb(activity), duration(took_ms)));
                if let Some(ci) = self.ci {
                    self.fold(ci, &drv, &name);
                }
            }
            Event::Failed { failure, .. } => {
                if let (Some(ci), Some(drv)) = (self.ci, &failure.drv) {
                    self.fold(ci, drv, &failure.name);
                }
                if let Some(mark) = self.ci.and_then(|ci| ci.annotate(&failure.to_string(), None)) {
                    self.say(&mark);
                }
                self.say(&failure_lines(self.ui, &failure).join("\n"));
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.names.push(failure.name);
                failed.is_buried = false;
            }
            Event::Note { message, .. } => self.say(&format!("note: {message}")),
            Event::Difference { output, files, kept, .. } => {
                self.say(&super::difference_lines(&output, &files, kept.as_deref()).join("\n"));
            }
            Event::Summary { failed, not_tried, result, .. } => {
                if let Some(line) = super::summary_line(failed, not_tried, result) {
                    self.say(&line);
                }
            }
            _ => {}
        }
    }

    fn wants_details(&self) -> bool {
        self.ui.verbosity() > 1 || self.ci.is_some()
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        let failed = self.failed.get_mut().unwrap_or_else(PoisonError::into_inner);
        if failed.names.is_empty() || !failed.is_buried {
            return;
        }
        let more = match failed.names.len().saturating_sub(NAMED_FAILURES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        failed.names.truncate(NAMED_FAILURES);
        let line = format!(
            "{} failed, as told above: {}{more}",
            self.ui.paint("error:", "1;31"),
            failed.names.join(", ")
        );
        self.say(&line);
    }
}
