//! The processes that make sandboxes: one, and more of them where many builds run side by side.
//!
//! A spawner does one thing after the other, and what it does for a build is a third of all that a small
//! build costs: four builds at once would wait for it. Another one costs as much as a few builds, so that
//! it is started when there have been some for each that is there.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::diagnose;
use crate::error::Failure;
use crate::sandbox::Spawner;

#[derive(Debug, Default)]
pub(crate) struct Spawners(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    all: Vec<Arc<Spawner>>,
    /// How many builds were begun.
    builds: usize,
}

/// After how many builds another one is worth its start.
const BUILDS_EACH: usize = 16;
/// Each makes thousands of sandboxes in a second.
const MOST: usize = 8;

impl Spawners {
    /// One that nobody uses, if there is; the first is started when it is needed, others when all are in use
    /// and `jobs` builds may run at once.
    ///
    /// # Errors
    /// If `program` cannot be started.
    pub(crate) fn take(&self, program: &Path, jobs: usize) -> Result<Arc<Spawner>, Failure> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.builds += 1;
        // Whoever uses one has it.
        let least_used = state.all.iter().min_by_key(|spawner| Arc::strong_count(spawner));
        if let Some(spawner) = least_used {
            let is_free = Arc::strong_count(spawner) == 1;
            if is_free || state.all.len() >= jobs.min(MOST).min(1 + state.builds / BUILDS_EACH) {
                return Ok(Arc::clone(spawner));
            }
        }
        let spawner = Arc::new(Spawner::start(program).map_err(|error| diagnose::machine(&error))?);
        state.all.push(Arc::clone(&spawner));
        Ok(spawner)
    }
}

impl Drop for Spawners {
    fn drop(&mut self) {
        // All are told before the first is waited for.
        let state = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.all.iter().for_each(|spawner| spawner.end());
    }
}
