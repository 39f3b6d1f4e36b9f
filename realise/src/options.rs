//! How to realise: what the command line and the configuration say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ampoule_store::Tier;

use crate::build::GroupLimits;
use crate::sandbox::{Bind, Spawner};

/// How to realise. [`Options::default`] is what a person gets who says nothing.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many builds run at once.
    pub jobs: usize,
    /// What builders are told of processors (`NIX_BUILD_CORES`); 0 for all.
    pub cores: usize,
    /// How many fetches run at once.
    pub fetches: usize,
    /// Goes on with what does not depend on what failed.
    pub keep_going: bool,
    /// Keeps the directory of a failed build.
    pub keep_failed: bool,
    /// Builds what is there already once more, and compares.
    pub check: bool,
    /// Fetches nothing; of the caches those are given that need no network.
    pub offline: bool,
    /// Asks binary caches.
    pub substitute: bool,
    /// Only says what would be done.
    pub dry_run: bool,
    /// The wall that builds get.
    pub tier: Tier,
    /// Lets a fixed-output derivation with a builder of its own use the network.
    pub allow_network_builders: bool,
    /// How long a build may run.
    pub timeout: Option<Duration>,
    /// How long a build may print nothing.
    pub max_silent: Option<Duration>,
    /// How much a build may print.
    pub max_log_bytes: Option<u64>,
    /// What a build may have as a whole; needs a cgroup v2 that is ours.
    pub group_limits: GroupLimits,
    /// Paths of the host that every build sees, read-only.
    pub host_paths: Vec<Bind>,
    /// The kind of machine this is (`x86_64-linux`).
    pub system: String,
    /// Other kinds that it can run.
    pub extra_systems: BTreeSet<String>,
    /// What `requiredSystemFeatures` may ask for.
    pub features: BTreeSet<String>,
    /// What `impureEnvVars` of a fixed-output derivation may see: names and values.
    pub impure_env: BTreeMap<String, String>,
    /// The program that makes sandboxes: one that calls [`crate::sandbox::serve_if_asked`].
    pub spawner: PathBuf,
    /// How many last lines of a failed build's log are told.
    pub log_lines: usize,
}

impl Default for Options {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            jobs: processors,
            cores: 0,
            fetches: 16,
            keep_going: false,
            keep_failed: false,
            check: false,
            offline: false,
            substitute: true,
            dry_run: false,
            tier: Tier::Namespaces,
            allow_network_builders: false,
            timeout: None,
            max_silent: None,
            max_log_bytes: None,
            group_limits: GroupLimits::default(),
            host_paths: Vec::new(),
            system: format!("{}-linux", std::env::consts::ARCH),
            extra_systems: BTreeSet::new(),
            features: BTreeSet::new(),
            impure_env: BTreeMap::new(),
            spawner: Spawner::own_program(),
            log_lines: 10,
        }
    }
}

impl Options {
    /// What `NIX_BUILD_CORES` says.
    #[must_use]
    pub fn build_cores(&self) -> usize {
        match self.cores {
            0 => online_processors(),
            cores => cores,
        }
    }

    /// Whether programs for `system` run here. (`builtin` is for builders that are no programs.)
    #[must_use]
    pub fn runs(&self, system: &str) -> bool {
        system == self.system || self.extra_systems.contains(system)
    }
}

/// How many processors the machine has, whatever part of them the caller may use: a build is told the
/// same wherever it is started, and gets all of them.
fn online_processors() -> usize {
    // Asked for by each build, and as dear as all else that its environment needs.
    static COUNT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *COUNT.get_or_init(|| {
        let listed = std::fs::read_to_string("/sys/devices/system/cpu/online").ok();
        let counted = listed.as_deref().and_then(count_listed);
        counted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    })
}

/// Counts `0-3,8,10-11`.
fn count_listed(list: &str) -> Option<usize> {
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    });
    ranges.sum::<Option<usize>>().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        assert_eq!(count_listed("0-3,8,10-11\n"), Some(7));
        assert_eq!(count_listed("0\n"), Some(1));
        assert_eq!(count_listed(""), None);
    }
}
