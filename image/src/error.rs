//! What can go wrong with an image, as data.

use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, ImageError>;

/// What went wrong, and with what.
#[derive(Debug)]
pub enum ImageError {
    /// A system call failed on a path.
    Io {
        /// What was being done, as a verb: `read`, `write`, `rename`.
        doing: &'static str,
        /// The path it was done to.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What the image is asked to be cannot be.
    Invalid(String),
    /// A file of the format is not what the format says.
    Malformed {
        /// What was read, as people call it.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Bytes are not those that their digest promises.
    DigestMismatch {
        /// What was read, as people call it.
        what: String,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Bytes are more or fewer than promised.
    SizeMismatch {
        /// What was read, as people call it.
        what: String,
        /// The size that was promised.
        expected: u64,
        /// The size of what came (or the point at which we stopped).
        found: u64,
    },
    /// The image lint found what must not be shipped.
    Lint {
        /// Each as a line: kind, place, and what is wrong there.
        found: Vec<String>,
        /// What to do about them.
        hints: Vec<String>,
    },
    /// A registry, or the way to it, refused.
    Registry {
        /// What was being done: `push layer sha256:…`.
        doing: String,
        /// What came of it.
        why: String,
    },
    /// An outside program that was asked for is missing or failed.
    Program {
        /// Its name.
        name: String,
        /// What came of it.
        why: String,
    },
}

impl ImageError {
    /// A system call failed on `path`.
    #[cold]
    pub fn io(doing: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { doing, path: path.as_ref().to_owned(), source: without_place(source) }
    }

    /// What was asked for cannot be.
    #[cold]
    pub fn invalid(why: impl Into<String>) -> Self {
        Self::Invalid(why.into())
    }

    /// `what` breaks its format.
    #[cold]
    pub fn malformed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), why: why.into() }
    }
}

impl std::fmt::Display for ImageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io { doing, path, source } => {
                write!(f, "cannot {doing} `{}`: {source}", path.display())
            }
            Self::Invalid(why) => f.write_str(why),
            Self::Malformed { what, why } => write!(f, "{what} is malformed: {why}"),
            Self::DigestMismatch { what, expected, found } => {
                write!(f, "digest mismatch in {what}: expected `{expected}`, got `{found}`")
            }
            Self::SizeMismatch { what, expected, found } => {
                write!(f, "size mismatch in {what}: expected {expected} bytes, got {found}")
            }
            Self::Lint { found, hints } => {
                write!(f, "the image does not pass its lint")?;
                found.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
                hints.iter().try_for_each(|hint| write!(f, "\n  help: {hint}"))
            }
            Self::Registry { doing, why } => write!(f, "cannot {doing}: {why}"),
            Self::Program { name, why } => write!(f, "`{name}` failed: {why}"),
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Returns an error without the temporary name that `tempfile` adds: nobody knows it.
///
/// Its error shows the name after the system's words, and gives neither of them out.
pub fn without_place(error: std::io::Error) -> std::io::Error {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((words, _)) if error.get_ref().is_some() => std::io::Error::new(error.kind(), words),
        _ => error,
    }
}
