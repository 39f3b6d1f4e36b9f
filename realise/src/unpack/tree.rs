//! Writing a tree by directory handles, so that no link is ever followed.
//!
//! Each entry's directory is opened below the tree's root in a way that refuses
//! every symbolic link on the way (`openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`; where the kernel has none, one component after the other
//! with `O_NOFOLLOW`). The entry itself is made in there with `O_EXCL`. What an archive
//! did before can therefore not send a later entry elsewhere.
//!
//! **Duplicates, the one rule**: a directory may be named again; a file named again
//! replaces the file before (that is what appending to a tar file means); the same
//! link named again is the same link; anything else that is there already is refused.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::UnpackError;
use super::path::RelPath;
use crate::builtin::Place;

/// A tree that is being written. Threads may write different parts at once, each
/// with its own [`Tree::handle`].
#[derive(Debug)]
pub struct Tree {
    root: Arc<OwnedFd>,
    /// The directory used last: entries of an archive come by directory.
    recent: Option<(RelPath, Arc<OwnedFd>)>,
    /// What was made or taken away since [`Tree::record`].
    touched: Option<BTreeSet<RelPath>>,
}

/// What is at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// Something else.
    Other,
}

impl Found {
    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Directory => "a directory",
            Self::File => "a file",
            Self::Symlink => "a symbolic link",
            Self::Other => "a special file",
        }
    }
}

/// Set when the kernel, or a filter, has no `openat2`.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

impl Tree {
    /// Makes an empty directory at `place` and begins a tree in it.
    ///
    /// # Errors
    /// When it cannot be made, or something is there.
    pub fn create(place: &Place) -> io::Result<Self> {
        rustix::fs::mkdirat(&place.dir, place.name.as_str(), Mode::from_raw_mode(0o755))?;
        let root = open_directory(place.dir.as_fd(), place.name.as_bytes())?;
        Ok(Self { root: Arc::new(root), recent: None, touched: None })
    }

    /// Returns a tree of what lies beside `place`: for outputs that are no directory.
    pub(crate) fn around(place: &Place) -> Result<Self, UnpackError> {
        let root = place.dir.try_clone()?;
        Ok(Self { root: Arc::new(root), recent: None, touched: None })
    }

    /// Returns another handle on the same tree, for another thread.
    pub fn handle(&self) -> Self {
        Self { root: Arc::clone(&self.root), recent: None, touched: None }
    }

    /// Begins to note which paths this handle makes or takes away.
    pub(crate) fn record(&mut self) {
        self.touched = Some(BTreeSet::new());
    }

    /// Returns the paths noted since [`Tree::record`].
    pub(crate) fn touched(&self) -> impl Iterator<Item = &RelPath> {
        self.touched.iter().flatten()
    }

    fn note(&mut self, path: &RelPath) {
        if let Some(touched) = &mut self.touched {
            touched.insert(path.clone());
        }
    }

    /// Returns the root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Makes a directory, and those above it.
    ///
    /// # Errors
    /// When something that is no directory stands there or on the way.
    pub fn directory(&mut self, path: &RelPath) -> Result<(), UnpackError> {
        if !path.is_root() {
            self.dir(path)?;
        }
        Ok(())
    }

    /// Makes a file of everything that `data` gives, and returns its size.
    ///
    /// # Errors
    /// See the rule for duplicates; and those of reading and writing.
    pub fn file(
        &mut self,
        path: &RelPath,
        executable: bool,
        data: &mut dyn Read,
    ) -> Result<u64, UnpackError> {
        self.write_file(path, executable, data, false)
    }

    /// The same; pieces of zeros take no room on the disk.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn sparse_file(
        &mut self,
        path: &RelPath,
        executable: bool,
        data: &mut dyn Read,
    ) -> Result<u64, UnpackError> {
        self.write_file(path, executable, data, true)
    }

    fn write_file(
        &mut self,
        path: &RelPath,
        executable: bool,
        data: &mut dyn Read,
        keeps_holes: bool,
    ) -> Result<u64, UnpackError> {
        self.note(path);
        let mut file = self.create_file(path)?;
        let size = copy(data, &mut file, path, keeps_holes)?;
        let mode = if executable { 0o555 } else { 0o444 };
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
            .map_err(|e| UnpackError::place(path.as_bytes(), "set its mode", e.into()))?;
        Ok(size)
    }

    /// Makes an empty file, writable.
    fn create_file(&mut self, path: &RelPath) -> Result<File, UnpackError> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o600)).map(File::from);
        match open() {
            Err(Errno::EXIST) => {
                let found = look(dir.as_fd(), name);
                if found != Found::File {
                    return Err(taken(path, "a file", found));
                }
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())
                    .and_then(|()| open())
                    .map_err(|e| UnpackError::place(path.as_bytes(), "replace the file", e.into()))
            }
            result => result.map_err(|e| UnpackError::place(path.as_bytes(), "make the file", e.into())),
        }
    }

    /// Makes a symbolic link. Its target is data: it is never followed here.
    ///
    /// # Errors
    /// See the rule for duplicates; a target that is empty, too long, or holds a NUL.
    pub fn symlink(&mut self, path: &RelPath, target: &[u8]) -> Result<(), UnpackError> {
        if target.is_empty() || target.len() > 4095 || target.contains(&0) {
            return Err(UnpackError::entry(
                path.as_bytes(),
                "a link whose target is empty, too long, or holds a NUL",
            ));
        }
        self.note(path);
        let (dir, name) = self.parent(path)?;
        match rustix::fs::symlinkat(OsStr::from_bytes(target), &dir, name) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let found = look(dir.as_fd(), name);
                let same = found == Found::Symlink
                    && rustix::fs::readlinkat(&dir, name, Vec::new()).is_ok_and(|t| t.as_bytes() == target);
                if same { Ok(()) } else { Err(taken(path, "a symbolic link", found)) }
            }
            Err(error) => Err(UnpackError::place(path.as_bytes(), "make the symbolic link", error.into())),
        }
    }

    /// Makes `path` another name of the file at `target`, which must be in this tree. Another name of a
    /// symbolic link is the same link, if it stays below the root.
    ///
    /// # Errors
    /// When there is no such file, it is of another kind, or a link is on the way to it.
    pub fn hard_link(&mut self, path: &RelPath, target: &RelPath) -> Result<(), UnpackError> {
        let refuse = |reason: String| Err(UnpackError::entry(path.as_bytes(), reason));
        if path == target {
            return refuse("a hard link to itself".to_owned());
        }
        let Some((above, target_name)) = target.split_last() else {
            return refuse("a hard link to the root".to_owned());
        };
        let target_dir = match self.open_dir(&above) {
            Ok(dir) => dir,
            Err(error) => {
                return refuse(format!("a hard link to `{target}`, which is not in the archive: {error}"));
            }
        };
        let target_name = OsStr::from_bytes(target_name).to_owned();
        match look(target_dir.as_fd(), &target_name) {
            Found::File => {}
            Found::Symlink => {
                let link = rustix::fs::readlinkat(&target_dir, &target_name, Vec::new());
                let link = link.map(|link| link.into_bytes()).unwrap_or_default();
                if !path.reaches_below(&link) {
                    return refuse(format!(
                        "a hard link to `{target}`, which is a symbolic link here that leads out"
                    ));
                }
                return self.symlink(path, &link);
            }
            found => return refuse(format!("a hard link to `{target}`, which is {} here", found.word())),
        }
        self.note(path);
        let (dir, name) = self.parent(path)?;
        let link = || rustix::fs::linkat(&target_dir, &target_name, &dir, name, AtFlags::empty());
        match link() {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let found = look(dir.as_fd(), name);
                if found != Found::File {
                    return Err(taken(path, "a file", found));
                }
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())
                    .and_then(|()| link())
                    .map_err(|e| UnpackError::place(path.as_bytes(), "replace the file", e.into()))
            }
            Err(error) => Err(UnpackError::place(path.as_bytes(), "make the hard link", error.into())),
        }
    }

    /// Removes the file or link at `path`, if there is one.
    ///
    /// # Errors
    /// When it is a directory, or cannot be removed.
    pub fn remove_file(&mut self, path: &RelPath) -> Result<(), UnpackError> {
        self.note(path);
        let Some((above, name)) = path.split_last() else { return Ok(()) };
        let Ok(dir) = self.open_dir(&above) else { return Ok(()) };
        match rustix::fs::unlinkat(&dir, OsStr::from_bytes(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(UnpackError::place(path.as_bytes(), "remove the file", error.into())),
        }
    }

    /// Removes the directory at `path` if it is there and empty; returns whether it was.
    pub fn remove_empty(&mut self, path: &RelPath) -> bool {
        let Some((above, name)) = path.split_last() else { return false };
        // A handle on it would outlive it.
        self.recent = None;
        let Ok(dir) = self.open_dir(&above) else { return false };
        rustix::fs::unlinkat(&dir, OsStr::from_bytes(name), AtFlags::REMOVEDIR).is_ok()
    }

    /// Returns what is at `path`; links on the way count as nothing.
    pub fn look(&mut self, path: &RelPath) -> Found {
        let Some((above, name)) = path.split_last() else { return Found::Directory };
        match self.open_dir(&above) {
            Ok(dir) => look(dir.as_fd(), OsStr::from_bytes(name)),
            Err(_) => Found::Nothing,
        }
    }

    /// Opens the regular file at `path` for reading.
    ///
    /// # Errors
    /// When it is not there, not a file, or behind a link.
    pub fn open(&mut self, path: &RelPath) -> io::Result<File> {
        let (above, name) = path.split_last().ok_or(io::ErrorKind::IsADirectory)?;
        let dir = self.open_dir(&above)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::openat(&dir, OsStr::from_bytes(name), flags, Mode::empty())?))
    }

    /// Returns the target of the symbolic link at `path`, if it is one.
    pub fn read_link(&mut self, path: &RelPath) -> Option<Vec<u8>> {
        let (above, name) = path.split_last()?;
        let dir = self.open_dir(&above).ok()?;
        rustix::fs::readlinkat(&dir, OsStr::from_bytes(name), Vec::new()).ok().map(|t| t.into_bytes())
    }

    /// Returns the names in the directory at `path`, sorted; none if there is no such directory.
    pub fn names(&mut self, path: &RelPath) -> Vec<Vec<u8>> {
        let Ok(dir) = self.open_dir(path) else { return Vec::new() };
        let Ok(listing) = rustix::fs::Dir::read_from(&dir) else { return Vec::new() };
        let names = listing.filter_map(Result::ok).map(|entry| entry.file_name().to_bytes().to_vec());
        let mut names: Vec<_> = names.filter(|name| name != b"." && name != b"..").collect();
        names.sort();
        names
    }

    /// Returns the directory of `path` (made if it is not there) and the name in it.
    fn parent<'p>(&mut self, path: &'p RelPath) -> Result<(Arc<OwnedFd>, &'p OsStr), UnpackError> {
        let Some((above, _)) = path.split_last() else {
            return Err(UnpackError::archive("the top entry is not a directory"));
        };
        let name = path.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
        Ok((self.dir(&above)?, OsStr::from_bytes(name)))
    }

    /// Opens the directory at `path`, making what is missing of it.
    fn dir(&mut self, path: &RelPath) -> Result<Arc<OwnedFd>, UnpackError> {
        match self.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(blocked(path, &error)),
            Ok(dir) => return Ok(dir),
        }
        let mut dir = Arc::clone(&self.root);
        for part in path.parts() {
            match rustix::fs::mkdirat(&dir, OsStr::from_bytes(part), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => {
                    return Err(UnpackError::place(path.as_bytes(), "make the directory", error.into()));
                }
            }
            dir = Arc::new(open_directory(dir.as_fd(), part).map_err(|error| blocked(path, &error))?);
        }
        self.recent = Some((path.clone(), Arc::clone(&dir)));
        Ok(dir)
    }

    /// Opens the directory at `path` without following any link.
    fn open_dir(&mut self, path: &RelPath) -> io::Result<Arc<OwnedFd>> {
        if path.is_root() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some((_, dir)) = self.recent.as_ref().filter(|(recent, _)| recent == path) {
            return Ok(Arc::clone(dir));
        }
        let dir = Arc::new(open_beneath(self.root.as_fd(), path)?);
        self.recent = Some((path.clone(), Arc::clone(&dir)));
        Ok(dir)
    }
}

fn open_beneath(root: BorrowedFd<'_>, path: &RelPath) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let name = OsStr::from_bytes(path.as_bytes());
        match rustix::fs::openat2(root, name, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
            result => return result.map_err(Into::into),
        }
    }
    let mut parts = path.parts();
    let first = parts.next().ok_or(io::ErrorKind::NotFound)?;
    parts.try_fold(open_directory(root, first)?, |dir, part| open_directory(dir.as_fd(), part))
}

fn open_directory(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())?)
}

fn look(dir: BorrowedFd<'_>, name: &OsStr) -> Found {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(_) => Found::Nothing,
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Directory,
            FileType::RegularFile => Found::File,
            FileType::Symlink => Found::Symlink,
            _ => Found::Other,
        },
    }
}

/// Something else stands where `wanted` is to be.
fn taken(path: &RelPath, wanted: &str, found: Found) -> UnpackError {
    UnpackError::entry(path.as_bytes(), format!("is {wanted} where {} came before", found.word()))
}

/// The way to a directory is barred: by a link, or by a file that is to be a parent.
fn blocked(path: &RelPath, error: &io::Error) -> UnpackError {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::XDEV) => UnpackError::entry(
            path.as_bytes(),
            "is, or lies behind, a symbolic link of the archive, which is not followed",
        ),
        Some(Errno::NOTDIR) => UnpackError::entry(
            path.as_bytes(),
            "is a directory where a file or a symbolic link came before, which is not followed",
        ),
        _ => UnpackError {
            io: Some(error.kind()),
            ..UnpackError::entry(path.as_bytes(), format!("cannot open the directory: {error}"))
        },
    }
}

fn copy(from: &mut dyn Read, to: &mut File, path: &RelPath, keeps_holes: bool) -> Result<u64, UnpackError> {
    let failed = |e| UnpackError::place(path.as_bytes(), "write the file", e);
    let mut buf = [0; 64 * 1024];
    let (mut size, mut written) = (0, 0);
    loop {
        let len = match from.read(&mut buf) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        size += len as u64;
        if keeps_holes && buf[..len].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(len as i64)).map_err(failed)?;
        } else {
            to.write_all(&buf[..len]).map_err(failed)?;
            written = size;
        }
    }
    if written < size {
        to.set_len(size).map_err(failed)?;
    }
    Ok(size)
}
