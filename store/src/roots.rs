//! Roots: what must be kept.
//!
//! * Explicit: `roots/NAME`, a link to an object.
//! * Indirect: a link anywhere (`-o result`), and `roots/auto/DIGITS`, a link to that link. Delete
//!   the outer link, and the object is kept no longer.
//! * Running: what leases name, and what running processes have open, mapped or as their directory.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::error::{StoreError, StoreResult, is_absent};
use crate::lock::GcLock;
use crate::tree::list_names;
use crate::{Hash, Store, StorePath};

/// Why something is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootKind {
    /// `roots/NAME`.
    Explicit(String),
    /// A link outside of the store, such as `result`.
    Link(PathBuf),
    /// A running process of ampoule.
    Lease,
    /// A running process that uses it.
    Process(u32),
}

impl std::fmt::Display for RootKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Explicit(name) => write!(f, "the root `{name}`"),
            Self::Link(link) => write!(f, "the link `{}`", link.display()),
            Self::Lease => f.write_str("a running ampoule"),
            Self::Process(pid) => write!(f, "the running process {pid}"),
        }
    }
}

/// One reason to keep an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// What is kept.
    pub path: StorePath,
    /// Why.
    pub kind: RootKind,
}

/// All reasons to keep objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// Sorted.
    pub roots: Vec<Root>,
    /// Roots that lead nowhere: what they are, and why they count for nothing.
    pub stale: Vec<(PathBuf, String)>,
}

impl Store {
    /// Keeps `path` under a name of its own.
    ///
    /// # Errors
    /// [`StoreError::NotValid`], a bad name, and those of the file system.
    pub fn add_root(&self, name: &str, path: &StorePath) -> StoreResult<()> {
        crate::check_name(name).map_err(|e| StoreError::Other(format!("root: {e}")))?;
        self.lease([path])?;
        self.expect_info(path)?;
        let name = CString::new(name).expect("a checked name has no zero byte");
        let _shared = GcLock::shared(self.layout())?;
        self.replace_link(&self.layout().roots, &name, self.dir().print(path).as_bytes())
    }

    /// Keeps `path` no longer under this name. Says whether it was.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_root(&self, name: &str) -> StoreResult<bool> {
        crate::check_name(name).map_err(|e| StoreError::Other(format!("root: {e}")))?;
        match rustix::fs::unlinkat(&self.layout().roots, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(e) if is_absent(e) => Ok(false),
            Err(e) => Err(StoreError::io("remove root", name, e)),
        }
    }

    /// Makes `link` point to where `path` really lies, and keeps it as long as the link does.
    ///
    /// What is there already is replaced only if [`Self::may_replace_link`] says so.
    ///
    /// # Errors
    /// [`StoreError::NotValid`], [`StoreError::Exists`], and those of the file system.
    pub fn add_link_root(&self, link: &Path, path: &StorePath) -> StoreResult<()> {
        self.lease([path])?;
        self.expect_info(path)?;
        let absolute =
            std::path::absolute(link).map_err(|e| StoreError::io("use", link.as_os_str().as_bytes(), e))?;
        // The link's own directory may be reached through links; then its real name is the root.
        let absolute = match (absolute.parent().and_then(|p| p.canonicalize().ok()), absolute.file_name()) {
            (Some(parent), Some(name)) => parent.join(name),
            _ => absolute,
        };
        let bytes = absolute.as_os_str().as_bytes();
        if !self.may_replace_link(&absolute) {
            return Err(StoreError::Exists(crate::error::shown(bytes)));
        }
        let _shared = GcLock::shared(self.layout())?;
        let (dir, name) = crate::tree::open_parent(&absolute)?;
        self.replace_link(&dir, &name, self.real_path(path).as_os_str().as_bytes())?;
        let auto = CString::new(Hash::sha256(bytes).to_nix32()).expect("digits have no zero byte");
        self.replace_link(&self.layout().auto_roots, &auto, bytes)
    }

    /// Returns whether nothing is at `link`, or a link of ours: to an object, or to something else
    /// that lies beside the objects, such as an image's layout.
    #[must_use]
    pub fn may_replace_link(&self, link: &Path) -> bool {
        if std::fs::symlink_metadata(link).is_err() {
            return true;
        }
        // Not a link: not ours.
        let Ok(target) = std::fs::read_link(link) else { return false };
        self.object_at(&target).is_some() || target.starts_with(self.root().path())
    }

    fn replace_link(
        &self,
        dir: &std::os::fd::OwnedFd,
        name: &std::ffi::CStr,
        target: &[u8],
    ) -> StoreResult<()> {
        let temporary =
            CString::new(format!("{}{:x}", crate::layout::TEMPORARY_PREFIX, crate::lock::noise()))
                .expect("no zero byte");
        let failed = |e: Errno| StoreError::io("create link", name.to_bytes(), e);
        rustix::fs::symlinkat(target, dir, &temporary).map_err(failed)?;
        rustix::fs::renameat(dir, &temporary, dir, name).map_err(|e| {
            rustix::fs::unlinkat(dir, &temporary, AtFlags::empty()).ok();
            failed(e)
        })
    }

    /// Returns the object that a path, logical or physical, lies in.
    fn object_at(&self, path: &Path) -> Option<StorePath> {
        let logical = path.to_str().filter(|p| self.dir().contains(p)).and_then(|p| self.dir().split(p).ok());
        logical.map(|(path, _)| path).or_else(|| self.root().object_of(path))
    }

    /// Returns everything that keeps something: links, leases, running processes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn roots(&self) -> StoreResult<Roots> {
        let mut roots = self.link_roots()?;
        let _alone = GcLock::alone(self.layout())?;
        let leases = crate::lock::read_leases(self.layout())?;
        roots.roots.extend(leases.needed.into_iter().map(|path| Root { path, kind: RootKind::Lease }));
        // A process may use an object of another store.
        for root in self.process_roots() {
            if self.read_info(&root.path)?.is_some() {
                roots.roots.push(root);
            }
        }
        roots.roots.sort();
        Ok(roots)
    }

    /// Reads the links in `roots/`.
    pub(crate) fn link_roots(&self) -> StoreResult<Roots> {
        let mut roots = Roots::default();
        let failed = |e: Errno| StoreError::io("list", b"roots", e);
        let at = self.root().path().join("roots");
        for (name, kind) in list_names(&self.layout().roots).map_err(failed)? {
            if kind == rustix::fs::FileType::Directory {
                continue;
            }
            let Ok(target) = read_link(&self.layout().roots, &name) else { continue };
            let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
            match self.object_at(&target) {
                Some(path) => roots.roots.push(Root { path, kind: RootKind::Explicit(name) }),
                None => roots.stale.push((at.join(name), "does not lead into the store".to_owned())),
            }
        }
        for (name, _) in list_names(&self.layout().auto_roots).map_err(failed)? {
            let Ok(link) = read_link(&self.layout().auto_roots, &name) else { continue };
            match std::fs::read_link(&link) {
                Ok(target) => match self.object_at(&target) {
                    Some(path) => roots.roots.push(Root { path, kind: RootKind::Link(link) }),
                    None => roots.stale.push((link, "does not lead into the store any more".to_owned())),
                },
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidInput
                    ) =>
                {
                    rustix::fs::unlinkat(&self.layout().auto_roots, &name, AtFlags::empty()).ok();
                    roots.stale.push((link, "is gone".to_owned()));
                }
                // A disk that is not mounted now: the link may come back, but what it led to is not
                // known. Say so.
                Err(e) => roots.stale.push((link, e.to_string())),
            }
        }
        Ok(roots)
    }

    /// Looks at running processes, as far as we may: program, directory, open files, mapped files.
    pub(crate) fn process_roots(&self) -> Vec<Root> {
        let Ok(proc) = std::fs::read_dir("/proc") else { return Vec::new() };
        let mut roots = Vec::new();
        for entry in proc.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
            let dir = entry.path();
            let mut found = BTreeSet::new();
            for name in ["exe", "cwd", "root"] {
                found.extend(std::fs::read_link(dir.join(name)).ok().and_then(|t| self.object_at(&t)));
            }
            for fd in std::fs::read_dir(dir.join("fd")).into_iter().flatten().flatten() {
                found.extend(std::fs::read_link(fd.path()).ok().and_then(|t| self.object_at(&t)));
            }
            if let Ok(maps) = std::fs::read(dir.join("maps")) {
                found.extend(maps.split(|b| *b == b'\n').filter_map(|line| self.object_in_map(line)));
            }
            roots.extend(found.into_iter().map(|path| Root { path, kind: RootKind::Process(pid) }));
        }
        roots
    }

    fn object_in_map(&self, line: &[u8]) -> Option<StorePath> {
        let from = line.iter().position(|b| *b == b'/')?;
        self.object_at(Path::new(std::ffi::OsStr::from_bytes(&line[from..])))
    }
}

fn read_link(dir: &std::os::fd::OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
}
