//! Ways into the store: texts, trees, NARs, and the outputs of builds.
//!
//! Each ends in [`Store::register`]: the object lies complete and canonical in this process's own
//! directory, is renamed to its final name, and gets its info file. A crash before that leaves
//! something that the next process deletes; a crash between rename and info file leaves rubbish
//! that is replaced when the path is made again.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{StoreError, StoreResult, is_absent, shown};
use crate::lock::{GcLock, OutputLock};
use crate::scan::ReferenceScanner;
use crate::store::SyncMode;
use crate::tree::{self, FileKind, Filter, PackMode, open_parent, pack};
use crate::{ContentAddress, Hash, HashAlgo, Hasher, Method, ObjectInfo, References, Store, StorePath, nar};

/// A directory of this process, private to it, on the store's file system; gone when dropped.
#[derive(Debug)]
pub struct Staging {
    store: Store,
    fd: OwnedFd,
    name: CString,
    parent: OwnedFd,
    path: PathBuf,
}

impl Staging {
    /// Returns the directory's descriptor.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Returns where the directory lies, for programs that need a name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the store that it belongs to.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.store.leaves_staging() {
            tree::remove(&self.parent, &self.name).ok();
        }
    }
}

/// An object that lies complete and canonical in a staging directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Its name in the staging directory.
    pub name: CString,
    /// SHA-256 of its NAR.
    pub nar_hash: Hash,
    /// Size of its NAR.
    pub nar_size_bytes: u64,
    /// Which of the candidates it refers to.
    pub references: BTreeSet<StorePath>,
}

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is new.
    New(ObjectInfo),
    /// It was valid already; what was staged is gone. The contents may differ, since not every
    /// build repeats: compare the hashes.
    WasValid(ObjectInfo),
}

impl Registered {
    /// Returns what is known about the object that is valid now.
    #[must_use]
    pub fn info(&self) -> &ObjectInfo {
        match self {
            Self::New(info) | Self::WasValid(info) => info,
        }
    }
}

/// How a tree from outside becomes an object.
#[derive(Clone, Debug)]
pub struct AddOptions {
    /// The object's name.
    pub name: String,
    /// How it is hashed.
    pub method: Method,
    /// With what.
    pub algo: HashAlgo,
    /// What it refers to; not found by looking, since a source refers to nothing by itself.
    pub references: BTreeSet<StorePath>,
}

impl AddOptions {
    /// As `builtins.path` does it: the whole tree, SHA-256, no references.
    #[must_use]
    pub fn source(name: impl Into<String>) -> Self {
        Self { name: name.into(), method: Method::Nar, algo: HashAlgo::Sha256, references: BTreeSet::new() }
    }
}

/// What hashing a tree gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedTree {
    /// The path that it has or would have in the store.
    pub path: StorePath,
    /// Its content address.
    pub address: ContentAddress,
    /// SHA-256 and size of its NAR; only if it was hashed as one with SHA-256.
    pub nar: Option<(Hash, u64)>,
}

/// Takes anything until the store is asked to stop.
struct StopSink<'a>(&'a Store);

impl Write for StopSink<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if self.0.is_stopping() { Err(std::io::Error::other("stopped")) } else { Ok(buf.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes to several.
pub(crate) struct Multi<'a>(pub Vec<&'a mut (dyn Write + Send)>);

impl Write for Multi<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        for to in &mut self.0 {
            to.write_all(buf)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hashes the file or tree `name` in `dir` by `method`, without a store.
///
/// # Errors
/// [`StoreError::NotFlat`], [`StoreError::OddType`], and those of the file system.
pub fn hash_at(
    dir: &OwnedFd,
    name: &CStr,
    method: Method,
    algo: HashAlgo,
    filter: Option<&mut Filter<'_>>,
) -> StoreResult<(Hash, u64)> {
    match method {
        Method::Nar => {
            let mut hasher = Hasher::new(algo);
            let packed = pack(dir, name, PackMode::Read, filter, &mut hasher)?;
            Ok((hasher.finish(), packed.nar_size_bytes))
        }
        Method::Flat | Method::Text => hash_flat(dir, name, algo),
    }
}

/// Hashes the file or tree at `path` by `method`, without a store. The path's last name is not
/// followed if it is a link.
///
/// # Errors
/// As [`hash_at`].
pub fn hash_path(path: &Path, method: Method, algo: HashAlgo) -> StoreResult<(Hash, u64)> {
    let (dir, name) = open_parent(path)?;
    hash_at(&dir, &name, method, algo, None)
}

/// Writes the NAR of the tree at `path` to `to`. The path's last name is not followed if it is a
/// link.
///
/// # Errors
/// [`StoreError::OddType`], and those of the file system and of `to`.
pub fn dump_path(path: &Path, to: &mut (impl Write + Send)) -> StoreResult<u64> {
    let (dir, name) = open_parent(path)?;
    Ok(pack(&dir, &name, PackMode::Read, None, to)?.nar_size_bytes)
}

/// Writes the NAR of the file or tree `name` in `dir` to `to`.
///
/// # Errors
/// As [`dump_path`].
pub fn dump_at(dir: &OwnedFd, name: &CStr, to: &mut (impl Write + Send)) -> StoreResult<u64> {
    Ok(pack(dir, name, PackMode::Read, None, to)?.nar_size_bytes)
}

/// Unpacks a NAR to `path`, where nothing may be. Bytes after it stay unread.
///
/// # Errors
/// [`StoreError::Exists`], [`nar::NarError`], and those of the file system.
pub fn restore_path(path: &Path, from: impl Read) -> StoreResult<()> {
    use std::os::unix::ffi::OsStrExt;
    // `x/.` and `x/..` name what is there already.
    let bytes = path.as_os_str().as_bytes();
    if bytes.ends_with(b"/.")
        || bytes.ends_with(b"/")
        || matches!(bytes, b"." | b"..")
        || bytes.ends_with(b"/..")
    {
        return Err(StoreError::Exists(shown(bytes)));
    }
    let (dir, name) = open_parent(path)?;
    tree::unpack(from, &dir, &name)?;
    seal_top(&dir, &name).map_err(|e| StoreError::io("finish", bytes, e))
}

fn hash_flat(dir: &OwnedFd, name: &CStr, algo: HashAlgo) -> StoreResult<(Hash, u64)> {
    let failed = |what, e: Errno| StoreError::io(what, name.to_bytes(), e);
    let not_flat = |found| StoreError::NotFlat { path: shown(name.to_bytes()), found };
    let fd = match tree::open_file(dir, name) {
        Err(Errno::LOOP) => return Err(not_flat("a symbolic link")),
        other => other.map_err(|e| failed("open", e))?,
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| failed("look at", e))?;
    match tree::file_type(&stat) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(not_flat("a directory")),
        kind => return Err(not_flat(tree::odd_kind(kind))),
    }
    let mut hasher = Hasher::new(algo);
    let mut file = std::fs::File::from(fd);
    let mut buf = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buf) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(got) => {
                hasher.update(&buf[..got]);
                size += got as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(StoreError::io("read", name.to_bytes(), e)),
        }
    }
}

/// Gives the top of a tree its final mode and time.
pub(crate) fn seal_top(dir: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
    let stat = tree::stat_nofollow(dir, name)?;
    if tree::file_type(&stat) == FileType::Directory {
        let fd = tree::open_subdir(dir, name)?;
        rustix::fs::fchmod(&fd, tree::MODE_EXEC)?;
        rustix::fs::futimens(&fd, &tree::CANONICAL_TIMES)?;
    }
    Ok(())
}

impl Store {
    /// Makes a private directory on the store's file system.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn staging(&self) -> StoreResult<Staging> {
        let session = self.session()?;
        let name = session.fresh_name();
        let failed = |what, e: std::io::Error| StoreError::io(what, b"staging directory", e);
        rustix::fs::mkdirat(&session.tmp, &name, Mode::from_raw_mode(0o700))
            .map_err(|e| failed("create", e.into()))?;
        let fd = tree::open_subdir(&session.tmp, &name).map_err(|e| failed("open", e.into()))?;
        let parent = session.tmp.try_clone().map_err(|e| failed("open", e))?;
        let text = |s: &CStr| s.to_str().expect("our own names are ASCII").to_owned();
        let path = self.root().path().join("tmp").join(text(&session.id)).join(text(&name));
        Ok(Staging { store: self.clone(), fd, name, parent, path })
    }

    /// Hashes a valid object's NAR as it lies there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn hash_object(&self, path: &StorePath) -> StoreResult<(Hash, u64)> {
        let name = CString::new(path.as_str()).expect("a store path has no zero byte");
        hash_at(&self.layout().store, &name, Method::Nar, HashAlgo::Sha256, None)
    }

    /// Writes the NAR of a valid object to `to`.
    ///
    /// # Errors
    /// [`StoreError::NotValid`], and those of the file system and of `to`.
    pub fn dump(&self, path: &StorePath, to: &mut (impl Write + Send)) -> StoreResult<u64> {
        if !self.is_valid(path)? {
            return Err(StoreError::NotValid(path.clone()));
        }
        let name = CString::new(path.as_str()).expect("a store path has no zero byte");
        Ok(pack(&self.layout().store, &name, PackMode::Read, None, to)?.nar_size_bytes)
    }

    /// Adds a text with references (`builtins.toFile`), unless it is there.
    ///
    /// # Errors
    /// [`StoreError::MissingReference`], and those of the file system.
    pub fn add_text(
        &self,
        name: &str,
        contents: &[u8],
        references: BTreeSet<StorePath>,
    ) -> StoreResult<StorePath> {
        let path = self.dir().text_path(name, contents, &references)?;
        self.add_text_at(&path, contents, references)?;
        Ok(path)
    }

    /// Adds a text whose path is computed already.
    pub(crate) fn add_text_at(
        &self,
        path: &StorePath,
        contents: &[u8],
        references: BTreeSet<StorePath>,
    ) -> StoreResult<()> {
        self.lease([path])?;
        if self.is_valid(path)? {
            return Ok(());
        }
        self.lease(&references)?;
        let staging = self.session()?;
        let name = staging.fresh_name();
        let failed = |what, e: Errno| StoreError::io(what, path.as_str(), e);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&staging.tmp, &name, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| failed("create", e))?;
        let written =
            std::fs::File::from(fd.try_clone().map_err(|e| StoreError::io("open", path.as_str(), e))?)
                .write_all(contents)
                .map_err(|e| StoreError::io("write", path.as_str(), e))
                .and_then(|()| {
                    rustix::fs::fchmod(&fd, tree::MODE_PLAIN).map_err(|e| failed("finish", e))?;
                    rustix::fs::futimens(&fd, &tree::CANONICAL_TIMES).map_err(|e| failed("finish", e))
                });
        if let Err(error) = written {
            rustix::fs::unlinkat(&staging.tmp, &name, AtFlags::empty()).ok();
            return Err(error);
        }
        let mut hasher = nar::Writer::new(Sized { hasher: Hasher::new(HashAlgo::Sha256), size: 0 })
            .expect("a hasher takes everything");
        hasher.file(false, contents).expect("a hasher takes everything");
        let Sized { hasher, size } = hasher.finish().expect("the file is the whole NAR");
        let mut info = ObjectInfo::new(path.clone(), hasher.finish(), size);
        info.references = references;
        info.address = Some(ContentAddress { method: Method::Text, hash: Hash::sha256(contents) });
        self.place(&staging.tmp, &name, info, None)?;
        Ok(())
    }

    /// Computes the path that a tree has or would have, reading it and writing nothing.
    ///
    /// # Errors
    /// As [`hash_at`], and [`crate::PathError`].
    pub fn hash_tree(
        &self,
        source: &Path,
        options: &AddOptions,
        filter: Option<&mut Filter<'_>>,
    ) -> StoreResult<HashedTree> {
        let (dir, name) = open_parent(source)?;
        let (hash, size) = hash_at(&dir, &name, options.method, options.algo, filter)?;
        self.hashed(options, hash, size)
    }

    fn hashed(&self, options: &AddOptions, hash: Hash, size: u64) -> StoreResult<HashedTree> {
        let address = ContentAddress { method: options.method, hash };
        let references = References::new(&options.references, false);
        let path = self.dir().fixed_path_with(&options.name, &address, &references)?;
        let is_nar = options.method == Method::Nar && options.algo == HashAlgo::Sha256;
        Ok(HashedTree { path, address, nar: is_nar.then_some((hash, size)) })
    }

    /// Adds a file or tree from outside. One that is there already is only read.
    ///
    /// The last name of `source` is not followed if it is a link. The filter is called once for each
    /// file, in the order of the NAR.
    ///
    /// # Errors
    /// As [`hash_at`], [`StoreError::MissingReference`], and those of the file system.
    pub fn add_path(
        &self,
        source: &Path,
        options: &AddOptions,
        filter: Option<&mut Filter<'_>>,
    ) -> StoreResult<ObjectInfo> {
        let (dir, name) = open_parent(source)?;
        let is_nar = options.method == Method::Nar && options.algo == HashAlgo::Sha256;
        let mark = self.source_mark(source, options);
        if is_nar && !self.has_mark(&mark) {
            // Never seen: read, hash and copy it in one pass. If it turns out to be known, the copy
            // was for nothing, once.
            let info = self.copy_in(&dir, &name, options, filter)?;
            self.set_mark(&mark);
            return Ok(info);
        }
        // What the filter said is kept: it may be slow, or count its calls.
        let mut rejected: BTreeSet<PathBuf> = BTreeSet::new();
        let has_filter = filter.is_some();
        let hashed = match filter {
            Some(filter) => {
                let mut note = |path: &Path, kind: FileKind| {
                    let taken = filter(path, kind)?;
                    if !taken {
                        rejected.insert(path.to_owned());
                    }
                    Ok(taken)
                };
                hash_at(&dir, &name, options.method, options.algo, Some(&mut note))?
            }
            None => hash_at(&dir, &name, options.method, options.algo, None)?,
        };
        let hashed = self.hashed(options, hashed.0, hashed.1)?;
        self.lease([&hashed.path])?;
        if let Some(info) = self.info(&hashed.path)? {
            self.touch(&hashed.path);
            return Ok(info);
        }
        let mut again = |path: &Path, _: FileKind| Ok(!rejected.contains(path));
        let filter: Option<&mut Filter<'_>> = if has_filter { Some(&mut again) } else { None };
        self.copy_in(&dir, &name, options, filter)
    }

    /// Copies a tree and registers the copy. The path follows from the bytes that were stored,
    /// whatever an earlier reading found.
    fn copy_in(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        options: &AddOptions,
        filter: Option<&mut Filter<'_>>,
    ) -> StoreResult<ObjectInfo> {
        self.lease(&options.references)?;
        let staging = self.staging()?;
        let staged = self.stage(dir, name, &staging, BTreeSet::new(), filter)?;
        let (hash, size) = match (options.method, options.algo) {
            (Method::Nar, HashAlgo::Sha256) => (staged.nar_hash, staged.nar_size_bytes),
            (method, algo) => hash_at(staging.fd(), &staged.name, method, algo, None)?,
        };
        let hashed = self.hashed(options, hash, size)?;
        self.lease([&hashed.path])?;
        let mut info = ObjectInfo::new(hashed.path, staged.nar_hash, staged.nar_size_bytes);
        info.references.clone_from(&options.references);
        info.address = Some(hashed.address);
        let registered = self.place(staging.fd(), &staged.name, info, None)?;
        if let Registered::WasValid(info) = &registered {
            self.touch(&info.path);
        }
        Ok(registered.info().clone())
    }

    /// Returns the name under which the store remembers that it has seen a source. A guess about
    /// what is cheaper, and nothing that a result depends on.
    fn source_mark(&self, source: &Path, options: &AddOptions) -> String {
        use std::os::unix::ffi::OsStrExt;
        let absolute = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
        let text = [options.name.as_bytes(), b"\0", absolute.as_os_str().as_bytes()].concat();
        format!("sources/{}", Hash::sha256(&text).to_nix32())
    }

    fn has_mark(&self, mark: &str) -> bool {
        rustix::fs::accessat(&self.layout().cache, mark, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    fn set_mark(&self, mark: &str) {
        let cache = &self.layout().cache;
        rustix::fs::mkdirat(cache, "sources", Mode::from_raw_mode(0o755)).ok();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        rustix::fs::openat(cache, mark, flags, Mode::from_raw_mode(0o644)).ok();
    }

    /// Copies a tree into a staging directory, canonically, and finds which of the candidates it
    /// refers to. Every inode is new: whoever still has the old ones open changes nothing here.
    ///
    /// # Errors
    /// [`StoreError::OddType`], and those of the file system.
    pub fn stage(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        staging: &Staging,
        candidates: BTreeSet<StorePath>,
        filter: Option<&mut Filter<'_>>,
    ) -> StoreResult<Staged> {
        let fresh = self.session()?.fresh_name();
        let mode = PackMode::Copy { dir: staging.fd(), name: &fresh };
        let mut hasher = Hasher::new(HashAlgo::Sha256);
        let mut scanner = ReferenceScanner::new(candidates);
        let mut stop = StopSink(self);
        let mut all = Multi(vec![&mut stop, &mut hasher, &mut scanner]);
        let nar_size_bytes = pack(dir, name, mode, filter, &mut all)?.nar_size_bytes;
        Ok(Staged { name: fresh, nar_hash: hasher.finish(), nar_size_bytes, references: scanner.finish() })
    }

    /// Makes a tree canonical where it lies, which must be a staging directory, and finds which of
    /// the candidates it refers to. No process may have it open any more.
    ///
    /// Modes become 0444 or 0555, times second 1; extended attributes go; files with several names
    /// get inodes of their own.
    ///
    /// # Errors
    /// [`StoreError::OddType`], [`StoreError::WritableByOthers`] for the top, and those of the file
    /// system.
    pub fn stage_in_place(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        candidates: BTreeSet<StorePath>,
    ) -> StoreResult<Staged> {
        let mut hasher = Hasher::new(HashAlgo::Sha256);
        let mut scanner = ReferenceScanner::new(candidates);
        let mut stop = StopSink(self);
        let mut all = Multi(vec![&mut stop, &mut hasher, &mut scanner]);
        let nar_size_bytes = pack(dir, name, PackMode::Canonicalise, None, &mut all)?.nar_size_bytes;
        let (nar_hash, references) = (hasher.finish(), scanner.finish());
        Ok(Staged { name: name.to_owned(), nar_hash, nar_size_bytes, references })
    }

    /// Makes a staged object valid under `info.path`, unless that is valid already.
    ///
    /// All references must be valid (or the object itself). Give the lock if you hold it.
    ///
    /// # Errors
    /// [`StoreError::MissingReference`], and those of the file system.
    pub fn register(
        &self,
        dir: &OwnedFd,
        staged: &Staged,
        info: ObjectInfo,
        lock: Option<&OutputLock>,
    ) -> StoreResult<Registered> {
        self.place(dir, &staged.name, info, lock)
    }

    pub(crate) fn place(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        info: ObjectInfo,
        lock: Option<&OutputLock>,
    ) -> StoreResult<Registered> {
        let own_lock = if lock.is_none() { Some(self.lock_output(&info.path)?) } else { None };
        if let Some(valid) = self.info(&info.path)? {
            tree::remove(dir, name)?;
            return Ok(Registered::WasValid(valid));
        }
        self.remove_rubbish(&info.path)?;
        let layout = self.layout();
        let failed = |what, e: Errno| StoreError::io(what, info.path.as_str(), e);
        if self.settings().sync == SyncMode::Each {
            rustix::fs::syncfs(&layout.root).map_err(|e| failed("synchronise", e))?;
        }
        {
            let _shared = GcLock::shared(layout)?;
            self.check_references(&info)?;
            let to = CString::new(info.path.as_str()).expect("a store path has no zero byte");
            rustix::fs::renameat(dir, name, &layout.store, &to).map_err(|e| failed("move into place", e))?;
            let sealed = seal_top(&layout.store, &to).map_err(|e| failed("finish", e));
            if let Err(error) = sealed.and_then(|()| self.write_info(&info)) {
                // A full disk, mostly. What is not registered need not lie there.
                self.remove_rubbish(&info.path).ok();
                return Err(error);
            }
        }
        if self.settings().sync == SyncMode::Each {
            self.sync()?;
        }
        drop(own_lock);
        Ok(Registered::New(info))
    }

    fn check_references(&self, info: &ObjectInfo) -> StoreResult<()> {
        for reference in info.references.iter().filter(|r| **r != info.path) {
            if self.read_info(reference)?.is_none() {
                return Err(StoreError::MissingReference {
                    path: info.path.clone(),
                    reference: reference.clone(),
                });
            }
        }
        Ok(())
    }

    /// Moves away what lies at the place of an object that is not valid. Its lock must be held.
    fn remove_rubbish(&self, path: &StorePath) -> StoreResult<()> {
        let name = CString::new(path.as_str()).expect("a store path has no zero byte");
        if self.has_object(path)? {
            let trashed = self.move_to_trash(&self.layout().store, &name)?;
            tree::remove(&self.layout().trash, &trashed)?;
        }
        Ok(())
    }

    /// Renames a tree into `trash/`. Says under which name.
    pub(crate) fn move_to_trash(&self, dir: &OwnedFd, name: &CStr) -> StoreResult<CString> {
        let session = self.session()?;
        let fresh = [session.id.to_bytes(), b"-", session.fresh_name().to_bytes()].concat();
        let fresh = CString::new(fresh).expect("no zero byte");
        let trash = &self.layout().trash;
        let failed = |e: Errno| StoreError::io("delete", name.to_bytes(), e);
        match rustix::fs::renameat(dir, name, trash, &fresh) {
            // A directory moves only if one may write into it.
            Err(Errno::ACCESS) => {
                tree::chmod_unopened(dir, name, tree::MODE_OPEN_DIR).map_err(failed)?;
                rustix::fs::renameat(dir, name, trash, &fresh).map_err(failed)?;
            }
            Err(e) if is_absent(e) => {}
            other => other.map_err(failed)?,
        }
        Ok(fresh)
    }

    /// Adds an object from a NAR that must be just what `info` says. Reads not a byte more than
    /// promised. Nothing lies at the final name before everything is checked.
    ///
    /// # Errors
    /// [`StoreError::HashMismatch`], [`StoreError::SizeMismatch`], [`nar::NarError`],
    /// [`StoreError::MissingReference`], and those of the file system.
    pub fn add_nar(&self, from: impl Read, info: ObjectInfo) -> StoreResult<Registered> {
        self.add_nar_locked(from, info, None)
    }

    /// The same, for somebody who holds the object's lock already.
    ///
    /// # Errors
    /// As [`Self::add_nar`].
    pub fn add_nar_locked(
        &self,
        from: impl Read,
        info: ObjectInfo,
        lock: Option<&OutputLock>,
    ) -> StoreResult<Registered> {
        self.lease([&info.path])?;
        if let Some(valid) = self.info(&info.path)? {
            return Ok(Registered::WasValid(valid));
        }
        self.lease(&info.references)?;
        let staging = self.staging()?;
        let name = c"nar".to_owned();
        // One byte more than promised tells that there is more.
        let mut measured = Measured {
            from: std::io::BufReader::with_capacity(
                256 << 10,
                from.take(info.nar_size_bytes.saturating_add(1)),
            ),
            hasher: Hasher::new(HashAlgo::Sha256),
            size: 0,
        };
        let unpacked = tree::unpack(&mut measured, staging.fd(), &name);
        let size_mismatch = |found| StoreError::SizeMismatch {
            path: info.path.clone(),
            expected: info.nar_size_bytes,
            found,
        };
        match unpacked {
            Err(StoreError::Nar(_)) if measured.size > info.nar_size_bytes => {
                return Err(size_mismatch(measured.size));
            }
            other => other?,
        }
        if measured.size != info.nar_size_bytes {
            return Err(size_mismatch(measured.size));
        }
        let found = measured.hasher.finish();
        if found != info.nar_hash {
            return Err(StoreError::HashMismatch {
                path: info.path.clone(),
                expected: info.nar_hash.into(),
                found: found.into(),
            });
        }
        self.check_address(&info, &staging, &name)?;
        self.place(staging.fd(), &name, info, lock)
    }

    /// Checks that the path follows from the content address, and the address from the contents.
    fn check_address(&self, info: &ObjectInfo, staging: &Staging, name: &CStr) -> StoreResult<()> {
        let Some(address) = &info.address else { return Ok(()) };
        let others = info.references.iter().filter(|r| **r != info.path);
        let references = References::new(others, info.references.contains(&info.path));
        let expected = self.dir().fixed_path_with(info.path.name(), address, &references)?;
        if expected != info.path {
            return Err(StoreError::AddressMismatch {
                path: info.path.clone(),
                address: Box::new(*address),
                expected,
            });
        }
        // With a reference to itself, the hash is of other bytes than those in the store.
        if info.references.contains(&info.path) {
            return Ok(());
        }
        let (found, _) = hash_at(staging.fd(), name, address.method, address.hash.algo(), None)?;
        if found != address.hash {
            return Err(StoreError::HashMismatch {
                path: info.path.clone(),
                expected: address.hash.into(),
                found: found.into(),
            });
        }
        Ok(())
    }
}

struct Sized {
    hasher: Hasher,
    size: u64,
}

impl Write for Sized {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.hasher.update(buf);
        self.size += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hashes and counts what is read through it.
struct Measured<R> {
    from: R,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let got = self.from.read(buf)?;
        self.hasher.update(&buf[..got]);
        self.size += got as u64;
        Ok(got)
    }
}
