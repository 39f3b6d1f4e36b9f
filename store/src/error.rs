//! What can go wrong in the store.

use std::io;

use rustix::io::Errno;

use crate::nar::NarError;
use crate::{AddressError, ContentAddress, DerivationError, Hash, HashError, PathError, StorePath};

/// What can go wrong in the store: what was asked, what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {what} '{path}': {}", system_words(.error))]
    Io {
        /// The verb: `open`, `rename`.
        what: &'static str,
        /// On what, shown escaped.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The caller's filter stopped adding a tree; it knows why.
    #[error("the filter of a tree stopped it")]
    FilterStopped,
    /// Text that is not a store path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Text that is not a hash.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// Text that is not a content address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A derivation that cannot be.
    #[error(transparent)]
    Derivation(#[from] DerivationError),
    /// A stream that is not a NAR.
    #[error(transparent)]
    Nar(#[from] NarError),
    /// Only files, directories and symlinks can lie in the store.
    #[error("file '{path}' is a {kind}: only regular files, directories and symlinks can lie in the store")]
    OddType {
        /// Where, shown escaped.
        path: String,
        /// In words.
        kind: &'static str,
    },
    /// Flat hashing and texts are for one plain file.
    #[error("'{path}' is {found}: flat hashing takes one regular file that is not executable")]
    NotFlat {
        /// Where, shown escaped.
        path: String,
        /// In words.
        found: &'static str,
    },
    /// The top of an output could be written by others while it was built.
    #[error("suspicious permission {mode:04o} on '{path}': group or others may write; rejecting this output")]
    WritableByOthers {
        /// Where, shown escaped.
        path: String,
        /// The mode found.
        mode: u32,
    },
    /// A file is not the same any more.
    #[error("file '{path}' changed while it was read")]
    Changed {
        /// Where, shown escaped.
        path: String,
    },
    /// More directories in one another than we take.
    #[error("'{path}': more than {limit} directories in one another")]
    TooDeep {
        /// Where, shown escaped and cut.
        path: String,
        /// How many we take.
        limit: usize,
    },
    /// No valid object has this path.
    #[error("path '{0}' is not valid")]
    NotValid(StorePath),
    /// A reference of a new object is not valid.
    #[error("cannot register '{path}': its reference '{reference}' is not valid")]
    MissingReference {
        /// The new object.
        path: StorePath,
        /// What it refers to.
        reference: StorePath,
    },
    /// The contents are others than promised.
    #[error("hash mismatch in '{path}':\n  expected: {}\n       got: {}", .expected.to_sri(), .found.to_sri())]
    HashMismatch {
        /// The object.
        path: StorePath,
        /// What was promised.
        expected: Box<Hash>,
        /// What is there.
        found: Box<Hash>,
    },
    /// The NAR is longer or shorter than promised.
    #[error("size mismatch in '{path}': expected a NAR of {expected} bytes, found {found}")]
    SizeMismatch {
        /// The object.
        path: StorePath,
        /// What was promised.
        expected: u64,
        /// What is there; when it is longer, where reading stopped.
        found: u64,
    },
    /// The path does not follow from the content address.
    #[error("path '{path}' does not follow from its content address '{address}': expected '{expected}'")]
    AddressMismatch {
        /// The object.
        path: StorePath,
        /// What it claims.
        address: Box<ContentAddress>,
        /// What follows.
        expected: StorePath,
    },
    /// Something stands where an object is to be unpacked.
    #[error("'{0}' exists already")]
    Exists(String),
    /// An info file, lease or header that cannot be read.
    #[error("'{path}' is damaged: {problem}")]
    Damaged {
        /// Which file.
        path: String,
        /// In words.
        problem: String,
    },
    /// The store was made by a newer version of the program.
    #[error("store '{path}' has version {found}, this program knows up to {known}: use a newer ampoule")]
    TooNew {
        /// Where.
        path: String,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The store was made for another logical directory.
    #[error("store '{path}' is made for '{found}', not for '{wanted}'")]
    OtherStoreDir {
        /// Where.
        path: String,
        /// Its logical directory.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The store cannot be where it should, or somebody else could change it there.
    #[error("store '{path}' {problem}")]
    Unsafe {
        /// Where.
        path: String,
        /// In words.
        problem: String,
    },
    /// The object is kept by something.
    #[error("cannot delete '{path}': {reason}")]
    StillAlive {
        /// The object.
        path: StorePath,
        /// By what.
        reason: String,
    },
    /// A signature, or the lack of one.
    #[error("{0}")]
    Signature(String),
    /// A narinfo, a key file, a cache's description.
    #[error("'{what}': {problem}")]
    Format {
        /// Which.
        what: String,
        /// In words.
        problem: String,
    },
    /// What a transport says.
    #[error("{url}: {problem}")]
    Transport {
        /// What was asked for.
        url: String,
        /// In words.
        problem: String,
    },
    /// The caller's own reason to stop (a filter, a progress display).
    #[error("{0}")]
    Other(String),
}

/// What the store's functions return.
pub type StoreResult<T> = Result<T, StoreError>;

impl StoreError {
    /// A failed system call on something whose name is shown escaped.
    #[cold]
    pub(crate) fn io(what: &'static str, path: impl AsRef<[u8]>, error: impl Into<io::Error>) -> Self {
        Self::Io { what, path: shown(path), error: error.into() }
    }

    /// Whether the disk, or its inodes, or the user's quota of it, is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        match self {
            Self::Io { error, .. } | Self::Nar(NarError::Io(error)) => full.contains(&error.kind()),
            _ => false,
        }
    }
}

/// Returns the system's words without Rust's "(os error 2)", in small letters.
pub fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

/// Returns a file name as text: bytes that are not printable are escaped, and what is very long is
/// cut in the middle.
pub(crate) fn shown(path: impl AsRef<[u8]>) -> String {
    const MOST: usize = 1024;
    let path = path.as_ref();
    let escape = |bytes: &[u8]| {
        let mut out = String::new();
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
            }
            for byte in chunk.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        out
    };
    if path.len() <= MOST {
        return escape(path);
    }
    format!("{}…{}", escape(&path[..MOST / 2]), escape(&path[path.len() - MOST / 2..]))
}

/// Whether a call failed since the thing is not there.
pub(crate) fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR)
}
