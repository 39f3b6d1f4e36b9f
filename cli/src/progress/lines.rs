//! One plain line for each event: for pipes, files and CI.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use ampoule_realise::{Activity, Event, EventSink, PlannedList};
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
    /// What other processes work on.
    awaited: Mutex<BTreeSet<StorePath>>,
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
        let (logs, names, awaited, failed) = Default::default();
        Self { ui, ci, logs, names, awaited, failed }
    }

    /// Returns the folded log of a build, if there is a service that folds and a log.
    fn fold(&self, drv: &StorePath, name: &str) -> Option<String> {
        let ci = self.ci?;
        let lines = self.logs.lock().expect("no holder of this lock panics").remove(drv)?;
        Some(ci.fold(&format!("log of {name}"), &lines))
    }

    /// Returns what an event prints. Each is one write: other builds' lines must not get into a fold.
    fn told(&self, event: Event) -> Vec<String> {
        match event {
            Event::Plan { build, fetch, substitute, .. } => plan(&build, &fetch, &substitute),
            Event::Started { drv, name, activity, .. } => {
                let line = format!("{} {name}", verb(activity));
                self.names.lock().expect("no holder of this lock panics").insert(drv, name);
                vec![line]
            }
            Event::Waiting { drv, name, .. } => {
                self.awaited.lock().expect("no holder of this lock panics").insert(drv);
                vec![format!("wait {name}: another process works on it")]
            }
            // Told only where something was told of it before: else nothing happened.
            Event::AlreadyThere { drv, name, .. } => {
                let was_awaited = self.awaited.lock().expect("no holder of this lock panics").remove(&drv);
                was_awaited.then(|| format!("done {name}: another process did it")).into_iter().collect()
            }
            Event::Log { drv, line } => {
                if self.ui.verbosity() > 1 {
                    let names = self.names.lock().expect("no holder of this lock panics");
                    let name = names.get(&drv).map_or(drv.name(), String::as_str);
                    return vec![format!("{name}> {line}")];
                }
                if self.ci.is_some() {
                    let mut logs = self.logs.lock().expect("no holder of this lock panics");
                    let lines = logs.entry(drv).or_default();
                    if lines.len() < FOLDED_LINES {
                        lines.push(line);
                    }
                }
                Vec::new()
            }
            // Dozens of them, each in no time: one line for each is enough.
            Event::Finished { activity: Activity::Fetch, .. } if self.ui.verbosity() < 2 => Vec::new(),
            Event::Finished { drv, name, activity, took_ms, .. } => {
                let line = format!("done {}: {} took {}", name, verb(activity), duration(took_ms));
                std::iter::once(line).chain(self.fold(&drv, &name)).collect()
            }
            Event::Failed { failure, .. } => {
                let log = failure.drv.as_ref().and_then(|drv| self.fold(drv, &failure.name));
                let mark = self.ci.and_then(|ci| ci.annotate(&failure.to_string(), None));
                let lines = failure_lines(self.ui, &failure).join("\n");
                log.into_iter().chain(mark).chain([lines]).collect()
            }
            Event::Note { message, .. } => vec![format!("note: {message}")],
            Event::Summary { failed, not_tried, result, .. } => {
                super::summary_line(failed, not_tried, result).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn remember(&self, failure: Option<String>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_buried = failure.is_none();
        failed.names.extend(failure);
    }

    /// Returns the names of failures that other lines buried.
    fn last_line(&self) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.names.is_empty() || !failed.is_buried {
            return None;
        }
        let more = match failed.names.len().saturating_sub(NAMED_FAILURES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = &failed.names[..failed.names.len().min(NAMED_FAILURES)];
        let error = self.ui.paint("error:", "1;31");
        Some(format!("{error} failed, as told above: {}{more}", named.join(", ")))
    }
}

/// Returns how much there is to do, if there is anything.
fn plan(build: &PlannedList, fetch: &PlannedList, substitute: &PlannedList) -> Vec<String> {
    if build.len() + fetch.len() + substitute.len() == 0 {
        return Vec::new();
    }
    let counted = |what: &str, planned: &PlannedList| {
        let known: u64 = planned.iter().filter_map(|one| one.size_bytes).sum();
        let size = if known > 0 { format!(" ({})", human_size(known)) } else { String::new() };
        format!("{} to {what}{size}", planned.len())
    };
    let copies = match substitute.len() {
        0 => String::new(),
        _ => format!(", {}", counted("copy", substitute)),
    };
    vec![format!("plan: {} to build, {}{copies}", build.len(), counted("fetch", fetch))]
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
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
        let failure = match &event {
            Event::Failed { failure, .. } => Some(failure.name.clone()),
            _ => None,
        };
        let lines = self.told(event);
        lines.iter().for_each(|line| say(line));
        if !lines.is_empty() {
            self.remember(failure);
        }
    }

    fn wants_details(&self) -> bool {
        self.ui.verbosity() > 1 || self.ci.is_some()
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.last_line() {
            say(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use ampoule_realise::{Failure, FailureKind, Planned};

    use super::*;
    use crate::ui::ColorChoice;

    fn drv(name: &str) -> StorePath {
        StorePath::parse(&format!("{}-{name}.drv", "0".repeat(32))).expect("a store path")
    }

    fn started(name: &str, activity: Activity) -> Event {
        Event::Started { drv: drv(name), name: name.to_owned(), activity, at_ms: 0 }
    }

    fn finished(name: &str, activity: Activity) -> Event {
        let outputs = BTreeMap::new();
        Event::Finished { drv: drv(name), name: name.to_owned(), activity, outputs, took_ms: 1400, at_ms: 0 }
    }

    fn log(name: &str, line: &str) -> Event {
        Event::Log { drv: drv(name), line: line.to_owned() }
    }

    fn failed(name: &str) -> Event {
        let mut failure = Failure::new(FailureKind::Build, "builder failed with exit code 3");
        failure.name = name.to_owned();
        failure.drv = Some(drv(name));
        Event::Failed { activity: Activity::Build, took_ms: 1, at_ms: 0, failure }
    }

    fn planned(name: &str, size_bytes: Option<u64>) -> Planned {
        Planned { drv: drv(name), outputs: Box::default(), size_bytes, url: None }
    }

    fn check(verbosity: u8, event: Event, expected: &[&str]) {
        let ui = Ui::new(ColorChoice::Never, verbosity, false);
        let lines = Lines::new(&ui, None);
        assert_eq!(lines.told(event), expected);
    }

    #[test]
    fn an_event_is_a_line() {
        let plan = |fetch: Vec<Planned>, substitute: Vec<Planned>, build: Vec<Planned>| Event::Plan {
            store_dir: "/nix/store".to_owned(),
            build: PlannedList::from_iter(build),
            fetch: PlannedList::from_iter(fetch),
            substitute: PlannedList::from_iter(substitute),
            valid: 1,
        };
        check(1, plan(Vec::new(), Vec::new(), Vec::new()), &[]);
        let both = vec![planned("a", Some(1024)), planned("b", None)];
        check(
            1,
            plan(both, Vec::new(), vec![planned("c", None)]),
            &["plan: 1 to build, 2 to fetch (1.0 kB)"],
        );
        check(
            1,
            plan(Vec::new(), vec![planned("a", None)], Vec::new()),
            &["plan: 0 to build, 0 to fetch, 1 to copy"],
        );
        check(1, started("hello", Activity::Build), &["build hello"]);
        check(1, started("x.tgz", Activity::Fetch), &["fetch x.tgz"]);
        check(1, finished("hello", Activity::Build), &["done hello: build took 1.4 s"]);
        check(1, finished("x.tgz", Activity::Fetch), &[]);
        check(2, finished("x.tgz", Activity::Fetch), &["done x.tgz: fetch took 1.4 s"]);
        check(1, log("hello", "cc -o hello"), &[]);
        check(2, log("hello", "cc -o hello"), &["hello.drv> cc -o hello"]);
        let waiting = Event::Waiting { drv: drv("hello"), name: "hello".to_owned(), at_ms: 0 };
        check(1, waiting, &["wait hello: another process works on it"]);
        let there = |name: &str| Event::AlreadyThere { drv: drv(name), name: name.to_owned(), at_ms: 0 };
        check(1, there("hello"), &[]);
        let ui = Ui::new(ColorChoice::Never, 1, false);
        let lines = Lines::new(&ui, None);
        lines.told(Event::Waiting { drv: drv("hello"), name: "hello".to_owned(), at_ms: 0 });
        assert_eq!(lines.told(there("hello")), ["done hello: another process did it"]);
        check(1, Event::Note { drv: None, message: "so it is".to_owned() }, &["note: so it is"]);
        check(1, Event::Progress { drv: drv("x"), done_bytes: 1, total_bytes: None }, &[]);
    }

    #[test]
    fn a_buried_failure_is_named_again() {
        let ui = Ui::new(ColorChoice::Never, 1, false);
        let lines = Lines::new(&ui, None);
        assert_eq!(lines.last_line(), None);
        lines.event(failed("a"));
        assert_eq!(lines.last_line(), None);
        lines.event(log("b", "prints nothing and buries nothing"));
        assert_eq!(lines.last_line(), None);
        lines.event(finished("b", Activity::Build));
        assert_eq!(lines.last_line().expect("buried"), "error: failed, as told above: a");
        for name in ["c", "d", "e", "f", "g"] {
            lines.event(failed(name));
        }
        lines.event(finished("h", Activity::Build));
        assert_eq!(
            lines.last_line().expect("buried"),
            "error: failed, as told above: a, c, d, e, f and 1 more"
        );
    }

    #[test]
    fn a_service_gets_the_log_of_what_ended_in_one_piece() {
        let ui = Ui::new(ColorChoice::Never, 1, false);
        let lines = Lines::new(&ui, Some(Ci::GitHub));
        assert!(lines.told(log("hello", "cc -o hello")).is_empty());
        let told = lines.told(finished("hello", Activity::Build));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[1].starts_with("::group::log of hello\n") && told[1].contains("cc -o hello"),
            "{told:?}"
        );
        assert_eq!(lines.told(finished("hello", Activity::Build)).len(), 1);
    }
}
