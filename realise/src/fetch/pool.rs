//! How many transfers run, and which bytes are here already.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ampoule_net::Cancel;
use ampoule_store::Hash;

/// How many finished fetches are kept open for others that ask for the same bytes: at most, and one for
/// so many files that this process may have open.
const MAX_KEPT: usize = 64;
const DESCRIPTORS_PER_KEPT: u64 = 32;
/// How large they may be in all: they have no name, and take room until we end.
const MAX_KEPT_BYTES: u64 = 512 << 20;

/// What somebody wants: two who want the same wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// Bytes with this hash, wherever they are.
    Promised(Hash),
    /// What is at these places, and at this date.
    At(Vec<String>, Option<String>),
}

/// Bytes that were fetched in this run.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) wanted: Wanted,
    pub(super) file: Arc<File>,
    pub(super) hash: Hash,
    pub(super) size_bytes: u64,
    pub(super) url: String,
}

pub(super) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    free: usize,
    running: HashSet<Wanted>,
    kept: VecDeque<Kept>,
    max_kept: usize,
}

/// The right to be the only one that fetches something.
pub(super) struct Turn<'p> {
    pool: &'p Pool,
    wanted: Wanted,
}

/// The right to one transfer.
pub(super) struct Permit<'p>(&'p Pool);

impl Pool {
    pub(super) fn new(max_transfers: usize) -> Self {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let room = descriptors.map_or(MAX_KEPT as u64, |limit| limit / DESCRIPTORS_PER_KEPT);
        let max_kept = usize::try_from(room).unwrap_or(MAX_KEPT).min(MAX_KEPT);
        let state =
            State { free: max_transfers.max(1), running: HashSet::new(), kept: VecDeque::new(), max_kept };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else fetches the same.
    pub(super) fn turn(&self, wanted: &Wanted) -> Turn<'_> {
        let mut state = self.state();
        while !state.running.insert(wanted.clone()) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { pool: self, wanted: wanted.clone() }
    }

    /// Waits until a transfer may begin, or until we are to stop.
    pub(super) fn permit(&self, cancel: &Cancel) -> Permit<'_> {
        let mut state = self.state();
        while state.free == 0 && !cancel.is_asked() {
            let tick = Duration::from_millis(100);
            state = self.changed.wait_timeout(state, tick).unwrap_or_else(PoisonError::into_inner).0;
        }
        // A cancelled transfer ends at its first look at the flag; its permit may be one too many.
        state.free = state.free.saturating_sub(1);
        Permit(self)
    }

    pub(super) fn kept(&self, wanted: &Wanted) -> Option<Kept> {
        self.state().kept.iter().find(|kept| kept.wanted == *wanted).cloned()
    }

    pub(super) fn keep(&self, kept: Kept) {
        let mut state = self.state();
        if kept.size_bytes > MAX_KEPT_BYTES || state.kept.iter().any(|k| k.wanted == kept.wanted) {
            return;
        }
        state.kept.push_back(kept);
        let total = |kept: &VecDeque<Kept>| kept.iter().map(|k| k.size_bytes).sum::<u64>();
        while state.kept.len() > state.max_kept || total(&state.kept) > MAX_KEPT_BYTES {
            state.kept.pop_front();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.pool.state().running.remove(&self.wanted);
        self.pool.changed.notify_all();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state().free += 1;
        self.0.changed.notify_all();
    }
}
