//! What is wrong with an archive.

use std::fmt;
use std::io;

use super::path::{NameProblem, shown};

/// An archive that is refused, and the entry because of which.
#[derive(Debug)]
pub struct UnpackError {
    /// The entry's name, printable.
    pub entry: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// The system's error, where it is one.
    pub io: Option<io::ErrorKind>,
}

impl UnpackError {
    /// Something is wrong with the archive as a whole.
    pub fn archive(reason: impl Into<String>) -> Self {
        Self { entry: None, reason: reason.into(), io: None }
    }

    /// Something is wrong with one entry.
    pub fn entry(name: &[u8], reason: impl Into<String>) -> Self {
        Self { entry: Some(shown(name)), reason: reason.into(), io: None }
    }

    /// A name that must not be.
    pub fn name(name: &[u8], problem: NameProblem) -> Self {
        Self::entry(name, problem.to_string())
    }

    /// Says in which entry it happened, where that is not known yet.
    #[must_use]
    pub fn within(self, name: &[u8]) -> Self {
        Self { entry: self.entry.or_else(|| Some(shown(name))), ..self }
    }

    /// Says which entry was the last that could be read, where no entry is to blame.
    #[must_use]
    pub(super) fn after(mut self, name: &[u8]) -> Self {
        if self.entry.is_none() && !name.is_empty() {
            self.reason.push_str(&format!(" (after entry `{}`)", shown(name)));
        }
        self
    }

    /// The system refused a step while the entry was placed.
    pub fn place(name: &[u8], what: &str, error: io::Error) -> Self {
        Self { io: Some(error.kind()), ..Self::entry(name, format!("cannot {what}: {error}")) }
    }
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "entry `{entry}`: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for UnpackError {}

/// Errors of reading: those of our own decoders come back out of [`io::Error`] whole.
impl From<io::Error> for UnpackError {
    fn from(error: io::Error) -> Self {
        let kind = error.kind();
        match error.downcast::<UnpackError>() {
            Ok(own) => own,
            Err(error) if kind == io::ErrorKind::UnexpectedEof => {
                Self { io: Some(kind), ..Self::archive(format!("the archive is cut short: {error}")) }
            }
            Err(error) => {
                Self { io: Some(kind), ..Self::archive(format!("the archive cannot be read: {error}")) }
            }
        }
    }
}

impl From<UnpackError> for io::Error {
    fn from(error: UnpackError) -> Self {
        Self::other(error)
    }
}
