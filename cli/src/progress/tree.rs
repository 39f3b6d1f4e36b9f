//! The live tree: what runs, since when, how many bytes, and the last line of its log.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use ampoule_realise::{Activity, Event, EventSink};
use ampoule_store::{StorePath, human_size};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use super::failure_lines;
use super::lines::verb;
use crate::ui::Ui;

/// Draws on stderr while something runs, and leaves nothing behind but failures.
pub struct Tree<'a> {
    ui: &'a Ui,
    bars: MultiProgress,
    state: Mutex<State>,
    _keys: Option<HiddenKeys>,
}

/// A terminal that does not show control keys: `^C` would stand in the tree, and push it a line up.
struct HiddenKeys(Termios);

impl HiddenKeys {
    fn new() -> Option<Self> {
        let before = termios::tcgetattr(std::io::stderr()).ok()?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHOCTL);
        Self::set(&hidden);
        Some(Self(before))
    }

    /// Sets the terminal's mode if it is ours now: whoever asks from the background is stopped.
    fn set(mode: &Termios) {
        let is_ours = termios::tcgetpgrp(std::io::stderr()) == Ok(rustix::process::getpgrp());
        if is_ours {
            termios::tcsetattr(std::io::stderr(), OptionalActions::Now, mode).ok();
        }
    }
}

impl Drop for HiddenKeys {
    fn drop(&mut self) {
        Self::set(&self.0);
    }
}

#[derive(Default)]
struct State {
    total: usize,
    done: usize,
    running: BTreeMap<StorePath, Running>,
    head: Option<ProgressBar>,
}

struct Running {
    bar: ProgressBar,
    /// What it is: `build hello`.
    title: String,
    /// Whether a binary cache is to bring it, which may fail without being a failure.
    is_copy: bool,
}

impl Running {
    /// Shows what it does now. Title and words are one message: only a message is cut where the
    /// terminal ends, and a line that goes on below would be left behind.
    fn tell(&self, doing: &str) {
        self.bar.set_message(format!("{}  {doing}", self.title));
    }
}

/// Whether the locale has more than ASCII.
fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os).find(|v| !v.is_empty());
    let name = set.map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    name.contains("utf-8") || name.contains("utf8")
}

const TICK: Duration = Duration::from_millis(120);

impl<'a> Tree<'a> {
    /// A tree on stderr.
    pub fn new(ui: &'a Ui) -> Self {
        Self {
            ui,
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12)),
            state: Mutex::default(),
            _keys: HiddenKeys::new(),
        }
    }

    fn style(&self, template: &str) -> ProgressStyle {
        let style = ProgressStyle::with_template(template).expect("the templates of this file are right");
        if is_utf8() {
            style.tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "])
        } else {
            style.tick_strings(&["|", "/", "-", "\\", " "])
        }
    }

    /// Shows one thing more; or another of the same derivation.
    fn start(&self, state: &mut State, drv: StorePath, title: String, is_copy: bool, doing: &str) {
        self.remove(state, &drv);
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(self.style("  {spinner} {elapsed:>4} {wide_msg}"));
        bar.enable_steady_tick(TICK);
        let running = Running { bar, title, is_copy };
        running.tell(doing);
        state.running.insert(drv, running);
    }

    fn remove(&self, state: &mut State, drv: &StorePath) {
        if let Some(Running { bar, .. }) = state.running.remove(drv) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn finish(&self, state: &mut State, drv: &StorePath) {
        self.remove(state, drv);
        state.done += 1;
        if let Some(head) = &state.head {
            head.set_message(format!("{} of {} done", state.done, state.total));
        }
    }

    fn say(&self, text: &str) {
        // Nobody may be there any more to read it.
        self.bars.suspend(|| drop(writeln!(std::io::stderr().lock(), "{text}")));
    }
}

impl EventSink for Tree<'_> {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        match event {
            Event::Plan { build, fetch, substitute, .. } => {
                state.total = state.done + build.len() + fetch.len() + substitute.len();
                if let Some(old) = state.head.take() {
                    old.finish_and_clear();
                    self.bars.remove(&old);
                }
                if state.total > 0 {
                    let head = self.bars.add(ProgressBar::new_spinner());
                    head.set_style(self.style("{spinner} {wide_msg}"));
                    let known: u64 =
                        fetch.iter().chain(substitute.iter()).filter_map(|one| one.size_bytes).sum();
                    let size = if known > 0 { format!(" ({})", human_size(known)) } else { String::new() };
                    let fetches = fetch.len() + substitute.len();
                    head.set_message(format!("{} to build, {fetches} to fetch{size}", build.len()));
                    head.enable_steady_tick(TICK);
                    state.head = Some(head);
                }
            }
            Event::Started { drv, name, activity, .. } => {
                let title = format!("{} {name}", verb(activity));
                self.start(&mut state, drv, title, activity == Activity::Substitute, "");
            }
            Event::Waiting { drv, name, .. } => {
                self.start(&mut state, drv, format!("wait {name}"), false, "another process works on it");
            }
            Event::Log { drv, line } => {
                if let Some(running) = state.running.get(&drv) {
                    running.tell(&line);
                }
            }
            Event::Progress { drv, done_bytes, total_bytes } => {
                if let Some(running) = state.running.get(&drv) {
                    running.tell(&match total_bytes {
                        Some(total) => format!("{} of {}", human_size(done_bytes), human_size(total)),
                        None => human_size(done_bytes),
                    });
                }
            }
            Event::Finished { drv, .. } | Event::AlreadyThere { drv, .. } => self.finish(&mut state, &drv),
            Event::Note { drv: Some(drv), message } => {
                // A cache has not got what it offered.
                if state.running.get(&drv).is_some_and(|running| running.is_copy) {
                    self.finish(&mut state, &drv);
                }
                self.say(&format!("note: {message}"));
            }
            Event::Failed { failure, .. } => {
                if let Some(drv) = &failure.drv {
                    self.finish(&mut state, drv);
                }
                self.say(&failure_lines(self.ui, &failure).join("\n"));
            }
            Event::Note { message, .. } => self.say(&format!("note: {message}")),
            Event::Summary { failed, not_tried, result, .. } => {
                if let Some(line) = super::summary_line(failed, not_tried, result) {
                    self.say(&line);
                }
                for bar in state.running.values().map(|running| &running.bar).chain(&state.head) {
                    bar.finish_and_clear();
                }
                state.running.clear();
                state.head = None;
                let _ = self.bars.clear();
            }
            _ => {}
        }
    }
}
