//! File trees: from the disk into a NAR, and back.
//!
//! Everything here goes by directory descriptors and never follows a symbolic link, so that a tree
//! which somebody changes under our hands can make an operation fail, but never lead it outside.
//! Nothing recurses. [`pack`] reads a tree (and can copy it or make it canonical in the same pass),
//! [`unpack`] writes one, [`remove`] deletes one.

mod pack;
mod remove;
mod unpack;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

pub(crate) use pack::{PackMode, pack};
pub(crate) use remove::remove;
pub(crate) use unpack::unpack;

use crate::error::{StoreError, StoreResult};

/// Mode of directories and of executable files.
pub(crate) const MODE_EXEC: Mode = Mode::from_raw_mode(0o555);
/// Mode of other files.
pub(crate) const MODE_PLAIN: Mode = Mode::from_raw_mode(0o444);
/// Mode of a directory while it is being filled.
pub(crate) const MODE_OPEN_DIR: Mode = Mode::from_raw_mode(0o755);

/// Times of everything in the store: second 1, as in Nix.
pub(crate) const CANONICAL_TIMES: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 1, tv_nsec: 0 },
    last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
};

/// A kind of file, as filters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A plain file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Unknown,
}

impl FileKind {
    /// Returns the word that `builtins.filterSource` gives to its filter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::Regular,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            _ => Self::Unknown,
        }
    }
}

/// Says which files of a tree are taken. Called with the path below the top (`a/b`) and the kind,
/// in the order of the NAR, once for each file; not for the top itself.
pub type Filter<'a> = dyn FnMut(&Path, FileKind) -> StoreResult<bool> + 'a;

/// Returns the descriptor of the directory above `path` and the last name.
///
/// # Errors
/// If the path is empty, ends in `..`, or its parent cannot be opened.
pub(crate) fn open_parent(path: &Path) -> StoreResult<(OwnedFd, CString)> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    let bad = || StoreError::io("use", bytes, std::io::Error::from(std::io::ErrorKind::InvalidInput));
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => (parent, name),
        (Some(_), Some(name)) => (Path::new("."), name),
        _ => return Err(bad()),
    };
    let fd = open_dir_at(CWD, parent.as_os_str().as_bytes()).map_err(|e| StoreError::io("open", bytes, e))?;
    Ok((fd, CString::new(name.as_bytes()).map_err(|_| bad())?))
}

fn open_dir_at(dir: impl AsFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path, flags, Mode::empty())
}

/// Opens a directory without following a link at its end.
pub(crate) fn open_subdir(dir: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Opens a regular file, or whatever lies there, without following a link and without waiting.
pub(crate) fn open_file(dir: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Changes the mode of a file that we may not even open. The file is held by a descriptor, so that
/// it cannot become another one between looking and changing.
pub(crate) fn chmod_unopened(
    dir: impl AsFd,
    name: impl rustix::path::Arg,
    mode: Mode,
) -> rustix::io::Result<()> {
    let held =
        rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if file_type(&rustix::fs::fstat(&held)?) == FileType::Symlink {
        return Err(rustix::io::Errno::LOOP);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), mode)
}

/// Looks at a file without following it.
pub(crate) fn stat_nofollow(dir: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Says in words what a file is that cannot lie in the store.
pub(crate) fn odd_kind(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Symlink => "symbolic link",
        FileType::Directory => "directory",
        FileType::RegularFile => "regular file",
        FileType::Unknown => "file of unknown type",
    }
}

/// Returns the names in a directory, except `.` and `..`, with their kinds, sorted by bytes.
///
/// Reading moves the place in the directory that belongs to the descriptor, so two readers of one
/// descriptor would each get a part: this opens the directory anew. Where nobody else can read,
/// [`read_names`] saves that.
pub(crate) fn list_names(dir: &OwnedFd) -> rustix::io::Result<Vec<(CString, FileType)>> {
    read_names(&mut open_subdir(dir, c".")?)
}

/// Like [`list_names`], for a descriptor that is the caller's alone, from its beginning.
pub(crate) fn read_names(fd: &mut OwnedFd) -> rustix::io::Result<Vec<(CString, FileType)>> {
    rustix::fs::seek(&*fd, rustix::fs::SeekFrom::Start(0))?;
    let mut buf: Vec<u8> = Vec::with_capacity(32 << 10);
    let mut entries = rustix::fs::RawDir::new(&*fd, buf.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    Ok(names)
}
