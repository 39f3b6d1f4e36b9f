//! What can go wrong while realising, and whose fault it was.

use std::fmt;
use std::path::PathBuf;

use ampoule_store::StorePath;
use serde::Serialize;

/// Whose fault a failure is; each kind has its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The builder said so, or what it made cannot lie in the store.
    Build,
    /// It ran too long, was silent too long, or wrote too much.
    TimedOut,
    /// The bytes are not those promised.
    HashMismatch,
    /// A second build gave other bytes.
    NotDeterministic,
    /// Something could not be fetched, or may not be (`--offline`).
    Fetch,
    /// A rule refuses it.
    Policy,
    /// This machine cannot make the sandbox that is asked for.
    Sandbox,
    /// Somebody asked to stop.
    Interrupted,
    /// The store, the disk, or we.
    Store,
}

impl FailureKind {
    /// Returns the exit status of a command that failed so.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Build => 100,
            Self::TimedOut => 101,
            Self::HashMismatch => 102,
            Self::NotDeterministic => 104,
            Self::Fetch => 3,
            Self::Policy | Self::Sandbox => 5,
            Self::Interrupted => 130,
            Self::Store => 1,
        }
    }
}

/// Which of several failures says how the command ends. What one job finds first depends on the machine's mood; this
/// does not.
pub(crate) fn gravest(failures: &[Failure]) -> Option<FailureKind> {
    const ORDER: [FailureKind; 9] = [
        FailureKind::Interrupted,
        FailureKind::Store,
        FailureKind::Sandbox,
        FailureKind::Policy,
        FailureKind::HashMismatch,
        FailureKind::NotDeterministic,
        FailureKind::TimedOut,
        FailureKind::Fetch,
        FailureKind::Build,
    ];
    ORDER.into_iter().find(|kind| failures.iter().any(|failure| failure.kind == *kind))
}

/// One derivation that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The derivation, unless it is not about one.
    pub drv: Option<StorePath>,
    /// Its name; empty if it is not about one.
    pub name: String,
    /// Whose fault it is.
    pub kind: FailureKind,
    /// What was wrong: expected before found, without "error: ".
    pub message: String,
    /// The last lines of the log.
    pub log_tail: Vec<String>,
    /// Whether there is a log to read.
    pub has_log: bool,
    /// Whether it ran in a sandbox, which `debug` can make again.
    pub sandboxed: bool,
    /// Where the build's directory was kept.
    pub kept: Option<PathBuf>,
    /// What to do, each starting with a verb.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure that is about no derivation in particular.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            drv: None,
            name: String::new(),
            kind,
            message: message.into(),
            log_tail: Vec::new(),
            has_log: false,
            sandboxed: false,
            kept: None,
            hints: Vec::new(),
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says which derivation it is about, unless that is said already.
    #[must_use]
    pub fn of(mut self, drv: &StorePath) -> Self {
        if self.drv.is_none() {
            self.name = drv.derivation_name().unwrap_or(drv.name()).to_owned();
            self.drv = Some(drv.clone());
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "`{}`: {}", self.name, self.message)
    }
}

/// What [`crate::realise`] fails with.
#[derive(Clone, Debug, Serialize)]
pub struct RealiseError {
    /// What failed of itself, in the order of failing. One, unless `keep_going`.
    pub failures: Vec<Failure>,
    /// How many were not tried because they need what failed.
    pub not_tried: usize,
}

impl RealiseError {
    /// Returns the exit status: that of the gravest failure, whichever came first.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        gravest(&self.failures).map_or(1, FailureKind::exit_status)
    }
}

impl From<Failure> for RealiseError {
    fn from(failure: Failure) -> Self {
        Self { failures: vec![failure], not_tried: 0 }
    }
}

impl fmt::Display for RealiseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.failures.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{failure}")?;
        }
        if self.not_tried > 0 {
            write!(f, "\n{} that need what failed were not tried", self.not_tried)?;
        }
        Ok(())
    }
}

impl std::error::Error for RealiseError {}

impl From<ampoule_store::StoreError> for Failure {
    fn from(error: ampoule_store::StoreError) -> Self {
        Self::new(FailureKind::Store, error.to_string())
    }
}
