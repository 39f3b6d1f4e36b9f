//! Builders that are part of the realiser: no program runs, so no sandbox is needed.
//!
//! A derivation whose builder is `builtin:NAME` is built by the [`BuiltinBuilder`] of
//! that name. A builder reads attributes ([`Attributes`]) and inputs (by their logical
//! paths), and writes each output into a [`Place`]: a directory handle and a name in
//! it where nothing is yet. What comes after is the realiser's, as for every other
//! build: canonical modes and times, checks, references, the hash, registration.
//!
//! | builder | makes |
//! |---|---|
//! | `builtin:fetchurl` | a file from the network, or, unpacked, a tree |
//! | `builtin:unpack` | a tree from an archive in the store |
//! | `builtin:debian-compose` | one tree from Debian packages |
//! | `builtin:merge` | one tree of links to, or copies of, several objects |
//! | `builtin:write-tree` | files whose text is in the derivation |
//!
//! Attributes of each: `docs/builtin-builders.md`.

mod attributes;
mod debian;
mod fetch_one_of;
mod fetchurl;
mod go_module;
mod merge;
mod unpack;
mod wheel_index;
mod write_tree;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use ampoule_net::Cancel;
use ampoule_store::{ContentAddress, Hash, ObjectInfo, StoreDir};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::unpack::UnpackError;

pub use attributes::{AttributeError, Attributes};
pub use debian::DebianCompose;
pub use fetch_one_of::FetchOneOf;
pub use fetchurl::FetchUrl;
pub use go_module::GoModule;
pub use merge::Merge;
pub use unpack::Unpack;
pub use write_tree::WriteTree;

/// A builder that runs in our own process.
pub trait BuiltinBuilder: Send + Sync {
    /// Returns the name: `fetchurl` for `builtin:fetchurl`.
    fn name(&self) -> &str;

    /// Returns whether it uses the network, so that it counts as a fetch: many at a
    /// time, and named at once when `--offline` is set.
    fn is_fetch(&self) -> bool {
        false
    }

    /// Returns what it would ask the network for, for a plan that names what is missing
    /// and how much will come. Empty for builders that need none.
    fn wants(&self, _attrs: &Attributes) -> Vec<Wanted> {
        Vec::new()
    }

    /// Makes all outputs of `cx`.
    ///
    /// # Errors
    /// [`BuiltinError`]; what was written to the places is thrown away by the caller.
    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError>;
}

/// Something that a fetch asks the network for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first URL, without secrets.
    pub url: String,
    /// How large it is, if the derivation says.
    pub size_bytes: Option<u64>,
}

/// What a builder works with.
pub struct BuiltinContext<'a> {
    /// The derivation's name.
    pub name: &'a str,
    /// The derivation's attributes.
    pub attrs: &'a Attributes,
    /// The store's logical directory.
    pub store_dir: &'a StoreDir,
    /// Where inputs lie.
    pub inputs: &'a dyn InputPaths,
    /// Where each output goes.
    pub outputs: &'a BTreeMap<String, Place>,
    /// What the output must hash to, for fixed outputs.
    pub expected: Option<ContentAddress>,
    /// Tells what happens.
    pub events: &'a dyn BuiltinEvents,
    /// Tells when to stop.
    pub cancel: Cancel,
    /// How many threads to use.
    pub cores: usize,
}

/// Where inputs lie.
pub trait InputPaths: Sync {
    /// Returns where `logical` (a store path, or a path below one) lies, if it is in
    /// the derivation's input closure.
    fn physical(&self, logical: &str) -> Option<PathBuf>;

    /// Returns what the store knows of the object `logical` (size, references), if it
    /// is in the derivation's input closure. An image's plan needs the graph.
    fn info(&self, _logical: &str) -> Option<ObjectInfo> {
        None
    }
}

/// Hears what a builder does.
pub trait BuiltinEvents: Sync {
    /// A line for the build's log.
    fn log(&self, line: &str);

    /// How many bytes are done, of how many (if that is known).
    fn progress(&self, _done_bytes: u64, _total_bytes: Option<u64>) {}
}

/// Where an output goes: a name that does not exist yet, in an open directory.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub dir: OwnedFd,
    /// The name in it.
    pub name: String,
}

/// A builtin build that failed.
#[derive(Debug)]
pub struct BuiltinError {
    /// Whose fault it is, for the exit status.
    pub kind: BuiltinErrorKind,
    /// What went wrong, without the derivation's name.
    pub message: String,
    /// Both hashes, where the bytes are not those promised.
    pub mismatch: Option<Box<Mismatch>>,
}

/// What was promised, and what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What the derivation says.
    pub specified: Hash,
    /// What the bytes hash to.
    pub got: Hash,
}

/// Whose fault a failure is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuiltinErrorKind {
    /// The build's: exit status 100.
    Build,
    /// The network's, or an input is missing offline: exit status 3.
    Fetch,
    /// The bytes are not those promised: exit status 102.
    HashMismatch,
    /// A rule refuses it: exit status 5.
    Policy,
    /// The store's or the disk's: exit status 1.
    Store,
    /// Somebody asked to stop: exit status 130.
    Cancelled,
}

impl BuiltinError {
    /// A failed build.
    pub fn build(message: impl Into<String>) -> Self {
        Self { kind: BuiltinErrorKind::Build, message: message.into(), mismatch: None }
    }

    /// Something that a rule refuses.
    pub fn policy(message: impl Into<String>) -> Self {
        Self { kind: BuiltinErrorKind::Policy, message: message.into(), mismatch: None }
    }
}

impl fmt::Display for BuiltinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BuiltinError {}

impl From<UnpackError> for BuiltinError {
    fn from(error: UnpackError) -> Self {
        Self::build(error.to_string())
    }
}

impl From<AttributeError> for BuiltinError {
    fn from(error: AttributeError) -> Self {
        Self::build(error.to_string())
    }
}

impl Place {
    /// Removes what a try left, so that another may begin. Nothing there is fine.
    pub(crate) fn clear(&self) -> Result<(), BuiltinError> {
        let failed =
            |error: std::io::Error| BuiltinError::build(format!("cannot remove a failed try: {error}"));
        match rustix::fs::unlinkat(&self.dir, self.name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // The standard library's own removal goes by directory handles below this one.
            Err(Errno::ISDIR | Errno::PERM) => {
                let path = format!("/proc/self/fd/{}/{}", self.dir.as_raw_fd(), self.name);
                std::fs::remove_dir_all(path).map_err(failed)
            }
            Err(error) => Err(failed(error.into())),
        }
    }
}

impl BuiltinContext<'_> {
    /// Returns where `logical` lies.
    ///
    /// # Errors
    /// When it is not an input of this derivation.
    pub fn input(&self, logical: &str) -> Result<PathBuf, BuiltinError> {
        self.inputs
            .physical(logical)
            .ok_or_else(|| BuiltinError::build(format!("`{logical}` is not an input of this derivation")))
    }

    /// Returns the place of output `name`.
    ///
    /// # Errors
    /// When the derivation has no such output.
    pub fn output(&self, name: &str) -> Result<&Place, BuiltinError> {
        self.outputs.get(name).ok_or_else(|| {
            BuiltinError::build(format!("this builder makes an output `{name}`, which the derivation lacks"))
        })
    }
}
