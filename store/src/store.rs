//! The store: valid objects, and what is asked about them.
//!
//! An object is valid if and only if its info file exists (and, since people delete things behind
//! our back, the object itself does too). The info file is written after the object has been renamed
//! into place; until then the object is rubbish that anybody who holds its lock may replace. There
//! is no other index: several processes share a store without a server, and there is nothing to
//! corrupt.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::AtFlags;

use crate::error::{StoreError, StoreResult, is_absent};
use crate::info::{self, Epoch, ObjectInfo};
use crate::layout::{Layout, StoreRoot, boot_id, read_small, write_over};
use crate::lock::{GcLock, OutputLock, Session};
use crate::tree::list_names;
use crate::{Derivation, ModuloHash, ModuloHashes, StoreDir, StorePath};

/// When what was registered is forced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Not by us. After a power cut, objects that may have suffered are hashed before they are used.
    #[default]
    Lazy,
    /// After each registration. Slow.
    Each,
}

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct StoreSettings {
    /// The logical directory; a store that exists keeps its own, and refuses another.
    pub store_dir: Option<StoreDir>,
    /// When things are forced to the disk.
    pub sync: SyncMode,
}

/// A store, opened. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: StoreRoot,
    dir: StoreDir,
    layout: Layout,
    settings: StoreSettings,
    session: Mutex<Option<Arc<Session>>>,
    /// Objects written up to this epoch are on the disk.
    synced: OnceLock<u64>,
    modulo: ModuloHashes,
    stop: Stop,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(session) = self.session.get_mut().ok().and_then(Option::take) {
            session.end(&self.layout, *self.stop.has_left.get_mut());
        }
    }
}

/// Whether whoever works with a store is to stop, and quickly.
#[derive(Default)]
struct Stop {
    when: Mutex<Option<Arc<StopWhen>>>,
    /// Half-made things were left, for whoever comes next to delete.
    has_left: AtomicBool,
}

type StopWhen = dyn Fn() -> bool + Send + Sync;

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stop").field("has_left", &self.has_left).finish_non_exhaustive()
    }
}

/// As long as it lives, work on outputs ends when it is asked to: see [`Store::stops_when`].
#[derive(Debug)]
pub struct Stopping(Store);

impl Drop for Stopping {
    fn drop(&mut self) {
        *self.0.0.stop.when.lock().expect("nothing panics while it holds this lock") = None;
    }
}

/// One output of a derivation whose path is not known before it is built.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DrvOutput {
    /// The derivation's modulo hash.
    pub hash: crate::Hash,
    /// The output's name.
    pub output: String,
}

impl Store {
    /// Opens the store at `root`, and makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made or read, belongs to somebody else, can be written by others, is of a
    /// newer version, or is for another logical directory.
    pub fn open(root: &StoreRoot, settings: StoreSettings) -> StoreResult<Self> {
        let (layout, root, dir) = Layout::open(root, settings.store_dir.as_ref())?;
        let lost_info = layout.lost_info;
        let inner = Inner {
            root,
            dir,
            layout,
            settings,
            session: Mutex::default(),
            synced: OnceLock::new(),
            modulo: ModuloHashes::default(),
            stop: Stop::default(),
        };
        let store = Self(Arc::new(inner));
        if lost_info {
            store.adopt_orphans()?;
        }
        Ok(store)
    }

    /// Opens the user's own store: [`StoreRoot::default_for_user`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_default() -> StoreResult<Self> {
        Self::open(&StoreRoot::default_for_user()?, StoreSettings::default())
    }

    /// Returns the logical directory.
    #[must_use]
    pub fn dir(&self) -> &StoreDir {
        &self.0.dir
    }

    /// Returns where it lies.
    #[must_use]
    pub fn root(&self) -> &StoreRoot {
        &self.0.root
    }

    /// Returns where an object really lies. It need not be there.
    #[must_use]
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.0.root.object(path)
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    pub(crate) fn settings(&self) -> &StoreSettings {
        &self.0.settings
    }

    /// Returns the descriptor of the directory of all objects.
    #[must_use]
    pub fn objects_fd(&self) -> &OwnedFd {
        &self.0.layout.store
    }

    /// Returns what this process holds; begins it at the first call, and cleans up after processes
    /// that died.
    pub(crate) fn session(&self) -> StoreResult<Arc<Session>> {
        let mut slot = self.0.session.lock().expect("nothing panics while it holds this lock");
        if let Some(session) = &*slot {
            return Ok(Arc::clone(session));
        }
        self.clean_up_after_the_dead()?;
        let session = Arc::new(Session::begin(&self.0.layout)?);
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    /// From now on until the guard is dropped, staging an object fails once `asked` says so, and what is half made is
    /// not deleted but left, which takes no time: it goes to `trash/`, and the next process that works deletes it.
    #[must_use]
    pub fn stops_when(&self, asked: impl Fn() -> bool + Send + Sync + 'static) -> Stopping {
        *self.0.stop.when.lock().expect("nothing panics while it holds this lock") = Some(Arc::new(asked));
        Stopping(self.clone())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        let when = self.0.stop.when.lock().expect("nothing panics while it holds this lock").clone();
        when.is_some_and(|asked| asked())
    }

    /// Returns whether a staging directory is to be left as it is, and remembers it.
    pub(crate) fn leaves_staging(&self) -> bool {
        let leaves = self.is_stopping();
        self.0.stop.has_left.fetch_or(leaves, Ordering::Relaxed);
        leaves
    }

    // ---- queries -------------------------------------------------------------------------------

    /// Returns whether an object is valid, and there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn is_valid(&self, path: &StorePath) -> StoreResult<bool> {
        Ok(self.info(path)?.is_some())
    }

    /// Returns whether each of these is valid: one call for a whole plan.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn valid_of<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) -> StoreResult<Vec<bool>> {
        use rayon::prelude::*;
        let paths: Vec<_> = paths.into_iter().collect();
        paths.par_iter().with_min_len(128).map(|path| self.is_valid(path)).collect()
    }

    /// Returns what is known about an object, if it is valid.
    ///
    /// An object that was written before the last start of the machine, and perhaps not to the disk,
    /// is hashed first; a damaged one is not valid any more.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn info(&self, path: &StorePath) -> StoreResult<Option<ObjectInfo>> {
        let Some((info, epoch)) = self.read_info(path)? else { return Ok(None) };
        if !self.has_object(path)? {
            return Ok(None);
        }
        if self.is_trusted(&epoch)? || self.check_after_power_cut(&info)? {
            return Ok(Some(info));
        }
        Ok(None)
    }

    /// Returns what is known about an object.
    ///
    /// # Errors
    /// [`StoreError::NotValid`], and those of the file system.
    pub fn expect_info(&self, path: &StorePath) -> StoreResult<ObjectInfo> {
        self.info(path)?.ok_or_else(|| StoreError::NotValid(path.clone()))
    }

    /// Reads the info file. One that is damaged counts as none: the object can be made again, and
    /// `verify` tells about it.
    pub(crate) fn read_info(&self, path: &StorePath) -> StoreResult<Option<(ObjectInfo, Epoch)>> {
        let name = CString::new(path.as_str()).expect("a store path has no zero byte");
        let text = read_small(&self.0.layout.info, &name)
            .map_err(|e| StoreError::io("read info of", path.as_str(), e))?;
        Ok(text.and_then(|text| info::parse(&text).ok()).filter(|(info, _)| info.path == *path))
    }

    pub(crate) fn has_object(&self, path: &StorePath) -> StoreResult<bool> {
        match rustix::fs::statat(&self.0.layout.store, path.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(e) if is_absent(e) => Ok(false),
            Err(e) => Err(StoreError::io("look at", path.as_str(), e)),
        }
    }

    /// Returns all valid paths, sorted.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn all_valid(&self) -> StoreResult<Vec<StorePath>> {
        let names = list_names(&self.0.layout.info).map_err(|e| StoreError::io("list", b"info", e))?;
        Ok(names.iter().filter_map(|(name, _)| StorePath::from_file_name(name.as_bytes()).ok()).collect())
    }

    /// Returns what is known about every valid object, in the order of their paths. Reads on all
    /// cores.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn all_infos(&self) -> StoreResult<Vec<ObjectInfo>> {
        use rayon::prelude::*;
        let infos: StoreResult<Vec<_>> =
            self.all_valid()?.par_iter().with_min_len(64).map(|path| self.read_info(path)).collect();
        Ok(infos?.into_iter().flatten().map(|(info, _)| info).collect())
    }

    /// Returns everything that these refer to, directly or not, themselves included, with what is
    /// known about it. Reads on all cores, level by level.
    ///
    /// # Errors
    /// [`StoreError::NotValid`] if one of them, or of what they refer to, is not.
    pub fn closure_infos(
        &self,
        paths: impl IntoIterator<Item = StorePath>,
    ) -> StoreResult<BTreeMap<StorePath, ObjectInfo>> {
        use rayon::prelude::*;
        let mut seen: HashSet<StorePath> = HashSet::new();
        let mut level: Vec<StorePath> = paths.into_iter().filter(|p| seen.insert(p.clone())).collect();
        let mut infos = Vec::new();
        while !level.is_empty() {
            // Below that, handing work to other threads costs more than it brings.
            let found: StoreResult<Vec<_>> = if level.len() < 64 {
                level.iter().map(|path| self.expect_info(path)).collect()
            } else {
                level.par_iter().with_min_len(32).map(|path| self.expect_info(path)).collect()
            };
            let from = infos.len();
            infos.extend(found?);
            level = infos[from..]
                .iter()
                .flat_map(|info| &info.references)
                .filter(|p| !seen.contains(*p))
                .cloned()
                .collect();
            level.retain(|p| seen.insert(p.clone()));
        }
        Ok(infos.into_iter().map(|info| (info.path.clone(), info)).collect())
    }

    /// Returns everything that these refer to, directly or not, themselves included.
    ///
    /// # Errors
    /// As [`Self::closure_infos`].
    pub fn closure_of(&self, paths: impl IntoIterator<Item = StorePath>) -> StoreResult<BTreeSet<StorePath>> {
        use rayon::prelude::*;
        let mut seen: BTreeSet<StorePath> = BTreeSet::new();
        let mut level: Vec<StorePath> = paths.into_iter().filter(|path| seen.insert(path.clone())).collect();
        while !level.is_empty() {
            let mut next = Vec::new();
            // A level may be all of the closure, and what is known of an object is much more than its path.
            for part in level.chunks(4096) {
                let infos: StoreResult<Vec<_>> = if part.len() < 64 {
                    part.iter().map(|path| self.expect_info(path)).collect()
                } else {
                    part.par_iter().with_min_len(32).map(|path| self.expect_info(path)).collect()
                };
                let references = infos?.into_iter().flat_map(|info| info.references);
                next.extend(references.filter(|path| seen.insert(path.clone())));
            }
            level = next;
        }
        Ok(seen)
    }

    /// Returns the valid objects that refer to this one, by one scan over all.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn referrers(&self, path: &StorePath) -> StoreResult<BTreeSet<StorePath>> {
        let infos = self.all_infos()?;
        Ok(infos
            .into_iter()
            .filter(|i| i.path != *path && i.references.contains(path))
            .map(|i| i.path)
            .collect())
    }

    /// Returns the valid path whose hash part is `digits`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn find_by_hash_part(&self, digits: &str) -> StoreResult<Option<StorePath>> {
        Ok(self.all_valid()?.into_iter().find(|path| path.hash_part() == digits))
    }

    /// Parses what people write for an object: its logical path, its physical path, or its base
    /// name; each may go on inside the object.
    ///
    /// # Errors
    /// [`crate::PathError`].
    pub fn parse_any(&self, text: &str) -> StoreResult<StorePath> {
        if self.dir().contains(text) {
            return Ok(self.dir().split(text)?.0);
        }
        if let Some(path) = self.root().object_of(std::path::Path::new(text)) {
            return Ok(path);
        }
        if !text.contains('/')
            && let Ok(path) = StorePath::parse(text)
        {
            return Ok(path);
        }
        // A link such as `result`.
        if let Ok(real) = std::fs::canonicalize(text)
            && let Some(path) = self.root().object_of(&real)
        {
            return Ok(path);
        }
        // A link whose target exists only inside of a sandbox.
        if let Ok(target) = std::fs::read_link(text)
            && let Some(target) = target.to_str()
            && self.dir().contains(target)
        {
            return Ok(self.dir().split(target)?.0);
        }
        Ok(self.dir().split(text)?.0)
    }

    // ---- leases and locks ----------------------------------------------------------------------

    /// Makes these paths needed by this process until it ends (or the last clone of this store is
    /// dropped): no garbage collector takes them. Ask [`Self::is_valid`] *after* this.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn lease<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) -> StoreResult<()> {
        self.session()?.lease(&self.0.layout, paths)
    }

    /// Waits for the right to make an object.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn lock_output(&self, path: &StorePath) -> StoreResult<OutputLock> {
        Ok(OutputLock::take(&self.0.layout, path, true)?.expect("waiting ends with the lock"))
    }

    /// Takes the right to make an object, unless another process (or thread) has it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn try_lock_output(&self, path: &StorePath) -> StoreResult<Option<OutputLock>> {
        OutputLock::take(&self.0.layout, path, false)
    }

    // ---- derivations ---------------------------------------------------------------------------

    /// Reads the derivation at `path`.
    ///
    /// # Errors
    /// [`StoreError::NotValid`], and [`crate::DerivationError`] if its text is bad.
    pub fn read_derivation(&self, path: &StorePath) -> StoreResult<Derivation> {
        if !self.is_valid(path)? {
            return Err(StoreError::NotValid(path.clone()));
        }
        let name = path.derivation_name()?;
        let text =
            std::fs::read(self.real_path(path)).map_err(|e| StoreError::io("read", path.as_str(), e))?;
        Ok(Derivation::parse(self.dir(), name, &text)?)
    }

    /// Writes a derivation's `.drv` file, unless it is there. All that it refers to must be valid.
    ///
    /// # Errors
    /// [`StoreError::MissingReference`], and those of the file system.
    pub fn write_derivation(&self, derivation: &Derivation) -> StoreResult<StorePath> {
        let (path, text) = derivation.to_text_object(self.dir())?;
        let references = derivation.references().cloned().collect();
        self.add_text_at(&path, &text, references)?;
        Ok(path)
    }

    /// Returns the modulo hash of the derivation at `path`, reading what it needs, each once.
    ///
    /// # Errors
    /// As [`Self::read_derivation`], for any of the derivations below.
    pub fn modulo_hash(&self, path: &StorePath) -> StoreResult<ModuloHash> {
        // Depth first, with a stack of our own: chains can be long.
        let mut stack: Vec<(StorePath, Option<Derivation>)> = vec![(path.clone(), None)];
        while let Some((path, derivation)) = stack.pop() {
            if self.0.modulo.get(&path).is_some() {
                continue;
            }
            let derivation = match derivation {
                Some(derivation) => derivation,
                None => self.read_derivation(&path)?,
            };
            let missing: Vec<_> = if derivation.fixed_output().is_some() {
                Vec::new()
            } else {
                let inputs = derivation.input_derivations.keys();
                inputs.filter(|p| self.0.modulo.get(p).is_none()).cloned().collect()
            };
            if missing.is_empty() {
                derivation.remember(&path, self.dir(), &self.0.modulo)?;
            } else {
                stack.push((path, Some(derivation)));
                stack.extend(missing.into_iter().map(|p| (p, None)));
            }
        }
        self.0.modulo.get(path).ok_or_else(|| StoreError::NotValid(path.clone()))
    }

    /// Returns the modulo hashes that are known.
    #[must_use]
    pub fn modulo_hashes(&self) -> &ModuloHashes {
        &self.0.modulo
    }

    // ---- realisations --------------------------------------------------------------------------

    /// Returns which path an output got whose path was not known before it was built, if that path
    /// is still valid.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn realisation(&self, id: &DrvOutput) -> StoreResult<Option<StorePath>> {
        let text = read_small(&self.0.layout.realisations, &realisation_name(id))
            .map_err(|e| StoreError::io("read", b"realisation", e))?;
        let Some(path) = text.and_then(|t| StorePath::parse(t.trim_end()).ok()) else { return Ok(None) };
        Ok(self.is_valid(&path)?.then_some(path))
    }

    /// Returns everything that is known of the kind.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn realisations(&self) -> StoreResult<Vec<(DrvOutput, StorePath)>> {
        let failed = |e| StoreError::io("list", b"realisations", e);
        let names = list_names(&self.0.layout.realisations).map_err(failed)?;
        let ids = names.iter().filter_map(|(name, _)| crate::cache::parse_id(name.to_str().ok()?));
        let known = ids.map(|id| Ok(self.realisation(&id)?.map(|path| (id, path))));
        known.filter_map(Result::transpose).collect()
    }

    /// Records which path an output got.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add_realisation(&self, id: &DrvOutput, path: &StorePath) -> StoreResult<()> {
        write_over(&self.0.layout.realisations, &realisation_name(id), format!("{path}\n").as_bytes())
            .map_err(|e| StoreError::io("write", b"realisation", e))
    }

    // ---- logs ----------------------------------------------------------------------------------

    /// Returns where the log of a derivation's build belongs; the caller compresses (`.zst`).
    ///
    /// # Errors
    /// Those of the file system.
    pub fn log_path(&self, drv: &StorePath) -> StoreResult<PathBuf> {
        let (shard, rest) = drv.as_str().split_at(2);
        let dir = self.root().path().join("log").join(shard);
        std::fs::create_dir_all(&dir).map_err(|e| StoreError::io("create", b"log", e))?;
        Ok(dir.join(format!("{rest}.zst")))
    }

    // ---- durability ----------------------------------------------------------------------------

    /// Whether an object that was registered under this epoch is whole for sure: it was written
    /// since this machine started, or has been forced to the disk.
    fn is_trusted(&self, epoch: &Epoch) -> StoreResult<bool> {
        if epoch.boot == boot_id() {
            return Ok(true);
        }
        let synced = match self.0.synced.get() {
            Some(synced) => *synced,
            None => {
                let read = self.read_number(c"synced")?;
                *self.0.synced.get_or_init(|| read)
            }
        };
        Ok(epoch.number <= synced)
    }

    fn read_number(&self, name: &CStr) -> StoreResult<u64> {
        let text = read_small(&self.0.layout.root, name).map_err(|e| StoreError::io("read", b"epoch", e))?;
        Ok(text.and_then(|t| t.split_whitespace().next().and_then(|n| n.parse().ok())).unwrap_or(0))
    }

    /// Returns the epoch that is written into info files now. `gc.lock` must be held.
    pub(crate) fn epoch(&self) -> StoreResult<Epoch> {
        let boot = boot_id().to_owned();
        let failed = |e| StoreError::io("read", b"epoch", e);
        let text = read_small(&self.0.layout.root, c"epoch").map_err(failed)?.unwrap_or_default();
        let mut words = text.split_whitespace();
        let number: u64 = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        if words.next() == Some(&*boot) {
            return Ok(Epoch { number, boot });
        }
        // The first one since the machine started. What was written last before a power cut may be
        // lost, so the number that we read may be a little old: go far beyond it.
        let number = number.max(self.read_number(c"synced")?) + 1000;
        write_over(&self.0.layout.root, c"epoch", format!("{number} {boot}\n").as_bytes())
            .map_err(|e| StoreError::io("write", b"epoch", e))?;
        Ok(Epoch { number, boot })
    }

    /// Forces everything that is registered to the disk, and notes that.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sync(&self) -> StoreResult<()> {
        let layout = &self.0.layout;
        let failed = |e| StoreError::io("synchronise", b"store", e);
        let done = {
            // Nobody is between reading the epoch and writing an info file.
            let _alone = GcLock::alone(layout)?;
            let now = self.epoch()?;
            let next = format!("{} {}\n", now.number + 1, now.boot);
            write_over(&layout.root, c"epoch", next.as_bytes()).map_err(failed)?;
            now.number
        };
        rustix::fs::syncfs(&layout.root).map_err(failed)?;
        // Nobody who cleans up takes the temporary file for a dead process's, and the number only grows.
        let _alone = GcLock::alone(layout)?;
        if self.read_number(c"synced")? < done {
            write_over(&layout.root, c"synced", format!("{done}\n").as_bytes()).map_err(failed)?;
            rustix::fs::fsync(&layout.root).map_err(failed)?;
        }
        Ok(())
    }

    /// Hashes an object that a power cut may have damaged. A whole one is trusted from now on, a
    /// damaged one loses its info file.
    fn check_after_power_cut(&self, info: &ObjectInfo) -> StoreResult<bool> {
        let _lock = self.lock_output(&info.path)?;
        let (hash, size) = self.hash_object(&info.path)?;
        let _shared = GcLock::shared(&self.0.layout)?;
        if (hash, size) == (info.nar_hash, info.nar_size_bytes) {
            self.write_info(info)?;
            return Ok(true);
        }
        rustix::fs::unlinkat(&self.0.layout.info, info.path.as_str(), AtFlags::empty()).ok();
        Ok(false)
    }

    /// Writes an info file: from here on the object is valid. `gc.lock` must be held.
    pub(crate) fn write_info(&self, info: &ObjectInfo) -> StoreResult<()> {
        let text = info::print(info, &self.epoch()?);
        let name = CString::new(info.path.as_str()).expect("a store path has no zero byte");
        write_over(&self.0.layout.info, &name, text.as_bytes())
            .map_err(|e| StoreError::io("write info of", info.path.as_str(), e))
    }

    /// Adds signatures to a valid object.
    ///
    /// # Errors
    /// [`StoreError::NotValid`], and those of the file system.
    pub fn add_signatures(
        &self,
        path: &StorePath,
        signatures: impl IntoIterator<Item = String>,
    ) -> StoreResult<()> {
        let _lock = self.lock_output(path)?;
        let mut info = self.expect_info(path)?;
        info.signatures.extend(signatures);
        let _shared = GcLock::shared(&self.0.layout)?;
        self.write_info(&info)
    }

    /// Notes that an object was used today, for the quota.
    pub fn touch(&self, path: &StorePath) {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
        let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let times = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
        rustix::fs::utimensat(&self.0.layout.info, path.as_str(), &times, AtFlags::SYMLINK_NOFOLLOW).ok();
    }
}

fn realisation_name(id: &DrvOutput) -> CString {
    CString::new(format!("{}!{}", id.hash.to_base16(), id.output)).expect("an output's name has no zero byte")
}
