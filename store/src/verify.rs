//! Verification: is everything that is valid there, whole, and complete?

use std::collections::BTreeSet;
use std::ffi::CString;

use crate::error::{StoreError, StoreResult};
use crate::lock::{GcLock, OutputLock};
use crate::tree::{FileKind, list_names};
use crate::{
    ContentAddress, Hash, HashAlgo, Hasher, Method, ObjectInfo, ReferenceScanner, References, Store,
    StorePath,
};

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It has an info file and is not there.
    Missing,
    /// Its contents are others than when it was registered.
    Contents {
        /// What was registered.
        expected: Hash,
        /// What is there.
        found: Hash,
    },
    /// It cannot be read.
    Unreadable(String),
    /// What it refers to is not valid.
    MissingReference(StorePath),
    /// It has no info file.
    Orphan,
    /// Its info file cannot be read.
    Info(String),
}

/// A damaged object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its path, or the name of a file that should not be there.
    pub path: String,
    /// What is wrong.
    pub damage: Damage,
    /// Whether it was mended.
    pub repaired: bool,
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many objects were looked at.
    pub checked: usize,
    /// How many bytes of NAR were hashed.
    pub hashed_bytes: u64,
    /// What is wrong, sorted by path.
    pub problems: Vec<Problem>,
}

/// Makes a damaged object again: builds or fetches it, into the place where nothing lies any more.
/// Says whether it is valid now.
pub type Repair<'a> = dyn FnMut(&Store, &ObjectInfo) -> StoreResult<bool> + 'a;

impl Store {
    /// Looks at everything, and, if asked for, hashes it.
    ///
    /// With `repair`, damaged objects are moved away and made again by it; objects without info
    /// files are adopted.
    ///
    /// # Errors
    /// Those of the file system, and of `repair`.
    pub fn verify(
        &self,
        check_contents: bool,
        mut repair: Option<&mut Repair<'_>>,
    ) -> StoreResult<VerifyReport> {
        let infos = self.all_infos()?;
        let valid: BTreeSet<_> = infos.iter().map(|info| info.path.clone()).collect();
        let mut report = VerifyReport { checked: infos.len(), ..VerifyReport::default() };
        for (info, damage) in self.damages(&infos, &valid, check_contents, &mut report.hashed_bytes) {
            let repaired = match repair.as_mut() {
                Some(repair) => self.repair(info, repair)?,
                None => false,
            };
            report.problems.push(Problem { path: info.path.to_string(), damage, repaired });
        }
        self.damaged_infos(&valid, &mut report)?;
        let orphans = self.orphans()?;
        let repaired = repair.is_some();
        if repaired {
            self.adopt(&orphans)?;
        }
        for path in orphans {
            report.problems.push(Problem { path: path.to_string(), damage: Damage::Orphan, repaired });
        }
        report.problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(report)
    }

    fn damages<'i>(
        &self,
        infos: &'i [ObjectInfo],
        valid: &BTreeSet<StorePath>,
        check_contents: bool,
        hashed_bytes: &mut u64,
    ) -> Vec<(&'i ObjectInfo, Damage)> {
        use rayon::prelude::*;
        let of = |info: &'i ObjectInfo| -> Option<(&'i ObjectInfo, Damage)> {
            let damage = match self.has_object(&info.path) {
                Ok(true) if check_contents => self.contents_damage(info),
                Ok(true) => None,
                Ok(false) => Some(Damage::Missing),
                Err(e) => Some(Damage::Unreadable(e.to_string())),
            };
            let missing = || {
                let missing = info.references.iter().find(|r| !valid.contains(*r));
                missing.map(|r| Damage::MissingReference(r.clone()))
            };
            Some((info, damage.or_else(missing)?))
        };
        if check_contents {
            *hashed_bytes = infos.iter().map(|info| info.nar_size_bytes).sum();
        }
        infos.par_iter().filter_map(of).collect()
    }

    fn contents_damage(&self, info: &ObjectInfo) -> Option<Damage> {
        match self.hash_object(&info.path) {
            Ok((found, _)) if found == info.nar_hash => None,
            Ok((found, _)) => Some(Damage::Contents { expected: info.nar_hash, found }),
            Err(e) => Some(Damage::Unreadable(e.to_string())),
        }
    }

    fn damaged_infos(&self, valid: &BTreeSet<StorePath>, report: &mut VerifyReport) -> StoreResult<()> {
        for path in self.all_valid()?.into_iter().filter(|path| !valid.contains(path)) {
            let name = CString::new(path.as_str()).expect("a store path has no zero byte");
            let text = crate::layout::read_small(&self.layout().info, &name)
                .map_err(|e| StoreError::io("read info of", path.as_str(), e))?;
            let problem = match text.as_deref().map(crate::info::parse) {
                Some(Err(problem)) => problem,
                Some(Ok(_)) => "it is about another path".to_owned(),
                None => continue,
            };
            report.problems.push(Problem {
                path: path.to_string(),
                damage: Damage::Info(problem),
                repaired: false,
            });
        }
        Ok(())
    }

    /// Moves a damaged object away and has it made again.
    fn repair(&self, info: &ObjectInfo, repair: &mut Repair<'_>) -> StoreResult<bool> {
        {
            let _lock = self.lock_output(&info.path)?;
            let name = CString::new(info.path.as_str()).expect("a store path has no zero byte");
            if self.has_object(&info.path)? {
                self.move_to_trash(&self.layout().store, &name)?;
            }
        }
        let repaired = repair(self, info)? && self.is_valid(&info.path)?;
        self.empty_trash()?;
        Ok(repaired)
    }

    /// Returns the objects that have no info file and are not just being made.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn orphans(&self) -> StoreResult<Vec<StorePath>> {
        let mut orphans = Vec::new();
        for path in self.objects_with_or_without_info()? {
            if self.read_info(&path)?.is_none() && OutputLock::take(self.layout(), &path, false)?.is_some() {
                orphans.push(path);
            }
        }
        Ok(orphans)
    }

    /// Makes all objects valid that have no info file, as they are: hashes them, and looks for what
    /// they refer to. Says how many. This is how a store gets over the loss of all its info files.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn adopt_orphans(&self) -> StoreResult<usize> {
        let orphans = self.orphans()?;
        self.adopt(&orphans)?;
        Ok(orphans.len())
    }

    fn adopt(&self, orphans: &[StorePath]) -> StoreResult<()> {
        use rayon::prelude::*;
        if orphans.is_empty() {
            return Ok(());
        }
        let objects = self.objects_with_or_without_info()?;
        orphans.par_iter().try_for_each(|path| self.adopt_one(path, &objects))
    }

    /// Returns all that has an object's name, sorted by it.
    fn objects_with_or_without_info(&self) -> StoreResult<Vec<StorePath>> {
        let names = list_names(&self.layout().store).map_err(|e| StoreError::io("list", b"store", e))?;
        Ok(names.iter().filter_map(|(name, _)| StorePath::from_file_name(name.as_bytes()).ok()).collect())
    }

    /// Registers an object that has no info file; any of `candidates` that it names is a reference.
    fn adopt_one(&self, path: &StorePath, candidates: &[StorePath]) -> StoreResult<()> {
        let mut scanner = ReferenceScanner::new(candidates.iter().cloned());
        let mut hasher = Hasher::new(HashAlgo::Sha256);
        let name = CString::new(path.as_str()).expect("a store path has no zero byte");
        let mut both = crate::add::Multi(vec![&mut hasher, &mut scanner]);
        let packed =
            crate::tree::pack(&self.layout().store, &name, crate::tree::PackMode::Read, None, &mut both)?;
        let mut info = ObjectInfo::new(path.clone(), hasher.finish(), packed.nar_size_bytes);
        info.references = scanner.finish();
        info.address = self.guess_address(&info)?;
        let _lock = self.lock_output(path)?;
        let _shared = GcLock::shared(self.layout())?;
        self.write_info(&info)?;
        Ok(())
    }

    /// Returns the content address that the path follows from, if it is one of the usual.
    fn guess_address(&self, info: &ObjectInfo) -> StoreResult<Option<ContentAddress>> {
        let others = info.references.iter().filter(|r| **r != info.path);
        let references = References::new(others, info.references.contains(&info.path));
        let matches = |address: &ContentAddress| {
            self.dir().fixed_path_with(info.path.name(), address, &references).is_ok_and(|p| p == info.path)
        };
        let nar = ContentAddress { method: Method::Nar, hash: info.nar_hash };
        if matches(&nar) {
            return Ok(Some(nar));
        }
        let name = CString::new(info.path.as_str()).expect("a store path has no zero byte");
        let stat = crate::tree::stat_nofollow(&self.layout().store, &name)
            .map_err(|e| StoreError::io("look at", info.path.as_str(), e))?;
        if FileKind::of(crate::tree::file_type(&stat)) != FileKind::Regular {
            return Ok(None);
        }
        for (method, algo) in [
            (Method::Text, HashAlgo::Sha256),
            (Method::Flat, HashAlgo::Sha256),
            (Method::Flat, HashAlgo::Sha512),
            (Method::Flat, HashAlgo::Sha1),
        ] {
            let (hash, _) = crate::hash_at(&self.layout().store, &name, method, algo, None)?;
            let address = ContentAddress { method, hash };
            if matches(&address) {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }
}
