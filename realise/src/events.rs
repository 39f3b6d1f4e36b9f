//! What is told while realising.
//!
//! One stream of [`Event`]s serves three readers: a line each in a pipe, JSON with `--json`, a live
//! tree on a terminal. Whoever shows them implements [`EventSink`]; nothing here prints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ampoule_store::StorePath;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::error::{Failure, FailureKind};
use crate::graph::{Graph, Way};

/// What is done to a derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Its builder runs, in a sandbox or in our process.
    Build,
    /// Bytes come from the network, or from a mirror on disk.
    Fetch,
    /// Its outputs come from a binary cache.
    Substitute,
    /// It is built again, to compare.
    Check,
}

/// One derivation in a [`Event::Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The derivation; of what comes from a binary cache, the object. So in all events.
    pub drv: StorePath,
    /// What it will make, as far as that is known.
    pub outputs: Box<[StorePath]>,
    /// How many bytes will come, as far as that is known.
    pub size_bytes: Option<u64>,
    /// From where, without secrets.
    pub url: Option<Box<str>>,
}

impl Planned {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.drv.derivation_name().unwrap_or(self.drv.name())
    }
}

impl Serialize for Planned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Planned", 5)?;
        fields.serialize_field("drv", &self.drv)?;
        fields.serialize_field("name", self.name())?;
        fields.serialize_field("outputs", &self.outputs)?;
        fields.serialize_field("size_bytes", &self.size_bytes)?;
        fields.serialize_field("url", &self.url)?;
        fields.end()
    }
}

/// Derivations of a plan. There may be hundreds of thousands: each is made when it is looked at.
#[derive(Clone)]
pub struct PlannedList(Listed);

#[derive(Clone)]
enum Listed {
    Made(Arc<[Planned]>),
    /// Nodes of a graph.
    Nodes(Arc<Graph>, Arc<[u32]>),
}

impl PlannedList {
    /// The nodes of a graph that get their outputs in this way.
    pub(crate) fn of(graph: &Arc<Graph>, way: Way) -> Self {
        let nodes = (0..graph.nodes.len() as u32).filter(|node| graph.way(*node) == way);
        Self(Listed::Nodes(Arc::clone(graph), nodes.collect()))
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Listed::Made(made) => made.len(),
            Listed::Nodes(_, nodes) => nodes.len(),
        }
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the one at `index`.
    fn get(&self, index: usize) -> Planned {
        let (graph, node) = match &self.0 {
            Listed::Made(made) => return made[index].clone(),
            Listed::Nodes(graph, nodes) => (graph, nodes[index]),
        };
        let fetch = graph.fetch(node);
        Planned {
            drv: graph.drv(node),
            outputs: graph.outputs(node).iter().filter_map(|output| graph.path(output)).collect(),
            size_bytes: fetch.and_then(|wanted| wanted.size_bytes),
            url: fetch.map(|wanted| wanted.url.as_str().into()),
        }
    }

    /// Returns all, in the order in which they were found to be needed: users before inputs.
    pub fn iter(&self) -> impl Iterator<Item = Planned> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl FromIterator<Planned> for PlannedList {
    fn from_iter<I: IntoIterator<Item = Planned>>(planned: I) -> Self {
        Self(Listed::Made(planned.into_iter().collect()))
    }
}

impl std::fmt::Debug for PlannedList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for PlannedList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// What happened. `at_ms` counts from the start of the command, by the monotonic clock.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// What will be done. Always the first; told again if a cache did not bring what it offered.
    Plan {
        /// The store's logical directory, which goes before every path told.
        store_dir: String,
        /// Will be built.
        build: PlannedList,
        /// Will be fetched.
        fetch: PlannedList,
        /// Will come from a binary cache.
        substitute: PlannedList,
        /// How many derivations were looked at and are there already.
        valid: usize,
    },
    /// Work on a derivation begins.
    Started {
        /// The derivation.
        drv: StorePath,
        /// Its name.
        name: String,
        /// What is done.
        activity: Activity,
        /// When.
        at_ms: u64,
    },
    /// Another process works on it; we wait for that.
    Waiting {
        /// The derivation.
        drv: StorePath,
        /// Its name.
        name: String,
        /// When.
        at_ms: u64,
    },
    /// Nothing is to be done for it after all: another process did it meanwhile, or what it makes of its inputs, now
    /// that they are known, is there already.
    AlreadyThere {
        /// The derivation.
        drv: StorePath,
        /// Its name.
        name: String,
        /// When.
        at_ms: u64,
    },
    /// A line of a build's log, safe for a terminal.
    Log {
        /// The derivation.
        drv: StorePath,
        /// The line.
        line: String,
    },
    /// How far a fetch is.
    Progress {
        /// The derivation.
        drv: StorePath,
        /// Bytes so far.
        done_bytes: u64,
        /// Of how many, if that is known.
        total_bytes: Option<u64>,
    },
    /// A derivation's outputs are there.
    Finished {
        /// The derivation.
        drv: StorePath,
        /// Its name.
        name: String,
        /// What was done.
        activity: Activity,
        /// Where the outputs are.
        outputs: BTreeMap<String, StorePath>,
        /// How long it took.
        took_ms: u64,
        /// When.
        at_ms: u64,
    },
    /// A derivation failed.
    Failed {
        /// What was done.
        activity: Activity,
        /// How long it took.
        took_ms: u64,
        /// When.
        at_ms: u64,
        /// Why.
        failure: Failure,
    },
    /// Something that a person should know.
    Note {
        /// The derivation that it is about.
        drv: Option<StorePath>,
        /// One sentence.
        message: String,
    },
    /// A second build gave other bytes.
    Difference {
        /// The derivation.
        drv: StorePath,
        /// The output.
        output: StorePath,
        /// File by file, what differs.
        files: Vec<FileDifference>,
        /// Where the second one is, if it was kept.
        kept: Option<PathBuf>,
    },
    /// The last: how much was done.
    Summary {
        /// Built.
        built: usize,
        /// Fetched.
        fetched: usize,
        /// From binary caches.
        substituted: usize,
        /// Failed of themselves.
        failed: usize,
        /// Not tried, because of those.
        not_tried: usize,
        /// How the command ends.
        result: Option<FailureKind>,
        /// How long it all took.
        took_ms: u64,
    },
}

/// One file that two builds made differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileDifference {
    /// Its path in the output; empty for the output itself.
    pub path: String,
    /// What differs, in words.
    pub what: String,
}

/// Hears events, from several threads.
pub trait EventSink: Sync {
    /// Takes one event. Must not block for long: builds wait for it.
    fn event(&self, event: Event);

    /// Whether log lines and progress are wanted; if not, they are not even made.
    fn wants_details(&self) -> bool {
        true
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl EventSink for Silent {
    fn event(&self, _event: Event) {}

    fn wants_details(&self) -> bool {
        false
    }
}

/// Makes one line of a log safe to show: no control characters, no broken UTF-8, not endless. Of a line that was
/// written over, as programs do that count, the last state.
#[must_use]
pub fn safe_line(line: &[u8]) -> String {
    const LONGEST: usize = 4096;
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
    let line = &line[line[..end].iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at + 1)..end];
    let cut = &line[..line.len().min(LONGEST)];
    let mut out = String::with_capacity(cut.len());
    let text = String::from_utf8_lossy(cut);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => out.push('\t'),
            '\u{1b}' => skip_escape(&mut chars),
            c if c.is_control() || is_invisible(c) => {}
            c => out.push(c),
        }
    }
    if line.len() > LONGEST {
        out.push('…');
    }
    out
}

/// Characters that turn the direction of text, and so what a reader sees.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Drops the rest of an escape sequence: `ESC [ … letter`, `ESC ] … BEL`, or `ESC x`.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars>) {
    match chars.next() {
        Some('[') => {
            for c in chars.by_ref() {
                if ('\u{40}'..='\u{7e}').contains(&c) {
                    break;
                }
            }
        }
        Some(']' | 'P' | '_' | '^') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &[u8], expected: &str) {
        assert_eq!(safe_line(line), expected);
    }

    /// Case 63: nothing that a builder prints can move the cursor, clear the screen or ring.
    #[test]
    fn log_lines_are_safe_for_a_terminal() {
        check(b"plain\ttext", "plain\ttext");
        check(b"\x1b[2J\x1b[1;31mred\x1b[0m\r", "red");
        check(b"\x1b]0;title\x07after", "after");
        check(b"10 %\r50 %\r100 %, done\r\r", "100 %, done");
        check(b"\r", "");
        check(b"\x1b]0;title\x1b\\after", "after");
        check(b"a\0b\x07c\x08d\x7fe", "abcde");
        check(b"bad \xff utf-8", "bad \u{fffd} utf-8");
        check("\u{202e}abc".as_bytes(), "abc");
        check(b"\x1b", "");
        assert!(safe_line(&[b'x'; 50_000]).len() < 5_000);
    }
}
