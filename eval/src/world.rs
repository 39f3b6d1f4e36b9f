//! The evaluator's only door to the outside.
//!
//! Everything that evaluation reads or writes goes through a [`World`]: files,
//! the search path, the environment, the store. The program implements it;
//! what is allowed (the project's root, the store, the standard library) is decided there, and
//! refusing is an [`io::Error`] whose text is shown as it is.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_lang::{Diagnostic, SourceMap};
use ampoule_store::{ContentAddress, Hash, Method, PathRef, StoreDir, StorePath};

use crate::context::ContextElem;

/// What a path is, links not followed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileType {
    /// `"regular"`.
    Regular,
    /// `"directory"`.
    Directory,
    /// `"symlink"`.
    Symlink,
    /// `"unknown"`: sockets, devices and the like.
    Unknown,
}

impl FileType {
    /// Returns Nix's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Unknown => "unknown",
        }
    }
}

/// Decides about one path of a tree that is added to the store; an error stops.
pub type Filter<'a> = &'a mut dyn FnMut(&Path, FileType) -> Result<bool, FilterStopped>;

/// The filter failed; whoever gave it knows why.
#[derive(Clone, Copy, Debug)]
pub struct FilterStopped;

/// Why [`World::add_path`] did not add.
#[derive(Debug)]
pub enum AddError {
    /// The filter stopped it.
    Stopped,
    /// Reading or writing failed.
    Io(io::Error),
    /// The content has another hash than was promised.
    HashMismatch {
        /// What was promised.
        wanted: Box<Hash>,
        /// What it is.
        got: Box<Hash>,
    },
}

impl From<io::Error> for AddError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A fetch of `builtins.fetchurl` or `fetchTarball`.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Where from.
    pub url: String,
    /// Name in the store.
    pub name: String,
    /// What the result must be. `None` only when impure.
    pub hash: Option<Hash>,
    /// Whether an archive is to be unpacked (and the hash is of the tree).
    pub unpack: bool,
}

/// What evaluation can see and do outside.
pub trait World: Send + Sync {
    /// Returns the logical store directory.
    fn store_dir(&self) -> &StoreDir;

    /// Reads a file; links are followed.
    ///
    /// # Errors
    /// If it is not there, cannot be read, or must not be.
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Reads a file that is to be a program: one that is larger than a program may be need not be read for that.
    ///
    /// # Errors
    /// As [`World::read_file`], or because it is too large.
    fn read_program(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_file(path)
    }

    /// Lists a directory in any order.
    ///
    /// # Errors
    /// If it is not there, cannot be read, or must not be.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>>;

    /// Returns what `path` is, its last component not followed; `None` if nothing is there.
    ///
    /// # Errors
    /// If that cannot or must not be known.
    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>>;

    /// Returns the target of a link as it is written.
    ///
    /// # Errors
    /// If it is no link, or must not be read.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;

    /// Resolves every link in `path`; what is missing is kept as it is.
    ///
    /// # Errors
    /// If there are too many links, or they lead where one must not look.
    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf>;

    /// Does what [`World::resolve_links`] does, and says what is there then.
    ///
    /// # Errors
    /// As both.
    fn resolve_to_file(&self, path: &Path) -> io::Result<(PathBuf, Option<FileType>)> {
        let resolved = self.resolve_links(path)?;
        let kind = self.file_type(&resolved)?;
        Ok((resolved, kind))
    }

    /// Finds `<name>` in the search path that the program was called with; `None` if it is not there.
    ///
    /// # Errors
    /// If an entry of the search path cannot be read or fetched.
    fn find_file(&self, name: &str) -> io::Result<Option<PathBuf>>;

    /// The search path as `builtins.nixPath` shows it: (prefix, path).
    fn search_path(&self) -> Vec<(String, String)>;

    /// Finds `name` below an entry of a search path that a program made itself
    /// (`builtins.findFile`): `path` may be a URL.
    ///
    /// # Errors
    /// If it cannot be read or fetched.
    fn search_entry(&self, path: &str) -> io::Result<Option<PathBuf>>;

    /// Returns an environment variable, when impure.
    fn env(&self, name: &str) -> Option<String>;

    /// Returns seconds since 1970, when impure.
    fn current_time(&self) -> Option<i64>;

    /// Adds a text (a derivation, a `toFile`) to the store under the path that was computed for it.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn add_text(&self, path: &StorePath, text: &[u8], references: &[PathRef<'_>]) -> io::Result<()>;

    /// Adds a file or tree to the store, and returns its path.
    ///
    /// # Errors
    /// See [`AddError`].
    fn add_path(
        &self,
        name: &str,
        source: &Path,
        method: Method,
        filter: Option<Filter<'_>>,
        expected: Option<&ContentAddress>,
    ) -> Result<StorePath, AddError>;

    /// Returns the hash (`Method::Flat`: of the file, `Method::Nar`: of the tree) of something outside.
    ///
    /// # Errors
    /// If it cannot be read.
    fn is_valid(&self, path: &StorePath) -> io::Result<bool>;

    /// Fetches, and returns the store path.
    ///
    /// # Errors
    /// If it cannot be fetched or has another hash.
    fn fetch(&self, fetch: &Fetch) -> io::Result<StorePath>;

    /// Builds or fetches what a string depends on, so that it can be read (import from derivation).
    ///
    /// # Errors
    /// If that is not allowed or fails.
    fn realise(&self, needed: &[ContextElem]) -> io::Result<()>;

    /// Writes a line of `builtins.trace` or a warning to the user.
    fn message(&self, text: &str);

    /// Tells what a file that can run does not mean, probably: as people read it, if nothing else is known.
    fn warnings(&self, warnings: &[Diagnostic], sources: &SourceMap) {
        self.message(ampoule_lang::render::render(warnings, sources, false).trim_end());
    }
}
