//! Errors of the command line and the exit codes they end with.
//!
//! The code says whose fault it was, so that a CI job can tell a wrong file from a broken
//! network: see [`ExitStatus`].

use std::fmt;

/// The exit codes of `ampoule`, stable across versions.
///
/// 100, 101, 102 and 104 are those of Nix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitStatus {
    /// All went well.
    Success = 0,
    /// The expression is wrong, or something that has no code of its own.
    Evaluation = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Something could not be fetched, or is missing and `--offline` forbids to fetch it.
    Fetch = 3,
    /// The lock file does not fit what the project asks for.
    LockOutOfDate = 4,
    /// A policy refuses the result.
    Policy = 5,
    /// A builder failed.
    BuildFailed = 100,
    /// A builder ran longer than it may.
    TimedOut = 101,
    /// A fetched or built output does not have the promised hash.
    HashMismatch = 102,
    /// A second build gave other bytes.
    NotDeterministic = 104,
    /// Interrupted by ^C; another signal that ends it gives 128 and its number.
    Interrupted = 130,
}

/// What a command failed with: already worded for a person.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub status: ExitStatus,
    /// What was wrong, without "error: " in front; empty if it was told already.
    pub message: String,
    /// What to do about it, each a sentence that starts with a verb.
    pub hints: Vec<String>,
}

impl CliError {
    /// An error with an exit code of its own.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), hints: Vec::new() }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, message)
    }

    /// The same error, which a name on the command line caused.
    #[must_use]
    pub fn of_usage(self) -> Self {
        Self { status: ExitStatus::Usage, ..self }
    }

    /// Everything that has no code of its own.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Evaluation, message)
    }

    /// The error was printed already; only the exit code is left to say.
    pub fn told(status: ExitStatus) -> Self {
        Self::new(status, "")
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// Names the file that an operating system error is about.
pub trait IoContext<T> {
    /// Puts `doing` ("cannot read `x`") in front of the system's words.
    ///
    /// # Errors
    /// The same error, worded.
    fn while_doing(self, doing: impl FnOnce() -> String) -> Result<T, CliError>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn while_doing(self, doing: impl FnOnce() -> String) -> Result<T, CliError> {
        self.map_err(|e| CliError::failed(format!("{}: {}", doing(), ampoule_store::system_words(&e))))
    }
}
