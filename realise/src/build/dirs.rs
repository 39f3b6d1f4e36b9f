//! The directories that a build writes to: `/build`, `/tmp`, and the store's that holds its outputs.
//!
//! They lie on the store's disk, which has room. Making and deleting them is dear there (a deleted
//! directory gives its block back, and ext4 goes past every inode that was freed lately), so that the
//! next build gets those of one that left nothing in them, if nothing can tell them from new ones. The
//! places at which inputs were mounted stay for inputs of the next build: most are the same.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use ampoule_store::Staging;
use rustix::fs::{AtFlags, FileType, IFlags, Mode, OFlags, RawDir};

use super::job::{disk, give_away};
use crate::error::Failure;
use crate::sandbox::{BindKind, Identity, SandboxSpec};

/// Three empty directories in a staging directory.
#[derive(Debug)]
pub(crate) struct BuildDirs {
    pub(crate) staging: Staging,
    pub(crate) store: OwnedFd,
    pub(crate) build: OwnedFd,
    tmp: OwnedFd,
    fresh: [Look; 3],
    /// Names in `store` at which inputs were mounted, and whether on a directory.
    mount_points: BTreeMap<OsString, bool>,
    /// Names in `store` of inputs that are symlinks: they are copied.
    links: Vec<OsString>,
}

/// What can be seen of an empty directory.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    mode: u32,
    uid: u32,
    gid: u32,
    size: i64,
    flags: Option<u32>,
}

impl Look {
    fn at(dir: &OwnedFd) -> Option<Self> {
        let stat = rustix::fs::fstat(dir).ok()?;
        Some(Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size,
            // Not every file system has them.
            flags: rustix::fs::ioctl_getflags(dir).ok().as_ref().map(IFlags::bits),
        })
    }
}

impl BuildDirs {
    /// Makes them, for the build's user.
    pub(crate) fn make(staging: Staging, identity: Identity) -> Result<Self, Failure> {
        let tmp = make_own_dir(staging.fd(), "tmp", 0o1777, identity)?;
        let store = make_own_dir(staging.fd(), "store", 0o755, identity)?;
        let build = make_own_dir(staging.fd(), "build", 0o700, identity)?;
        let look = |dir: &OwnedFd| {
            Look::at(dir).ok_or_else(|| disk("look at a new directory", std::io::ErrorKind::Other))
        };
        let fresh = [look(&store)?, look(&build)?, look(&tmp)?];
        Ok(Self { staging, store, build, tmp, fresh, mount_points: BTreeMap::new(), links: Vec::new() })
    }

    /// Makes the places at which inputs were mounted those of the build of `spec`, as far as there are
    /// any; the others are made when it starts.
    pub(crate) fn fit(&mut self, spec: &SandboxSpec) {
        let mut wanted = BTreeMap::new();
        for bind in spec.binds.iter().filter(|bind| bind.target.parent() == Some(&spec.store_dir)) {
            let Some(name) = bind.target.file_name().map(ToOwned::to_owned) else { continue };
            match bind.kind {
                BindKind::Symlink(_) => self.links.push(name),
                BindKind::Directory => drop(wanted.insert(name, true)),
                BindKind::File => drop(wanted.insert(name, false)),
            }
        }
        let others =
            |of: &BTreeMap<OsString, bool>, kind: bool, than: &BTreeMap<OsString, bool>| -> Vec<OsString> {
                let names =
                    of.iter().filter(|(name, is_dir)| **is_dir == kind && than.get(*name) != Some(&kind));
                names.map(|(name, _)| name.clone()).collect()
            };
        for kind in [true, false] {
            let mut missing = others(&wanted, kind, &self.mount_points);
            for old in others(&self.mount_points, kind, &wanted) {
                // Another name for it costs no inode; what hangs there hides it anyway.
                let new = missing.pop();
                let renamed =
                    new.is_some_and(|new| rustix::fs::renameat(&self.store, &old, &self.store, &new).is_ok());
                if !renamed {
                    let flags = if kind { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                    rustix::fs::unlinkat(&self.store, &old, flags).ok();
                }
            }
        }
        self.mount_points = wanted;
    }

    /// Takes away what the sandbox copied into them.
    pub(crate) fn remove_links(&mut self) {
        for name in self.links.drain(..) {
            rustix::fs::unlinkat(&self.store, &name, AtFlags::empty()).ok();
        }
    }

    /// Whether nothing is in them but places for inputs, and nothing can be told from when they were
    /// made. No process of the build lives any more.
    pub(crate) fn are_as_new(&mut self) -> bool {
        let is_empty = |dir: &OwnedFd| for_each_name(dir, |_, _| false) == Some(true);
        let mut own = 0;
        let count = for_each_name(self.staging.fd(), |_, _| {
            own += 1;
            own <= 3
        });
        let places = &self.mount_points;
        let holds_places_only = for_each_name(&self.store, |name, kind| {
            let is_dir = kind == FileType::Directory;
            places.get(std::ffi::OsStr::from_bytes(name)) == Some(&is_dir)
        });
        count == Some(true)
            && own == 3
            && is_empty(&self.build)
            && is_empty(&self.tmp)
            && holds_places_only == Some(true)
            && Look::at(&self.build).is_some_and(|look| look == self.fresh[1])
            && Look::at(&self.tmp).is_some_and(|look| look == self.fresh[2])
            && self.store_looks_new()
    }

    fn store_looks_new(&mut self) -> bool {
        match Look::at(&self.store) {
            Some(look) if look == self.fresh[0] => true,
            Some(look) if !self.mount_points.is_empty() && look.size != self.fresh[0].size => {
                // On some file systems a directory is as large as what is in it: then without places.
                for (name, is_dir) in std::mem::take(&mut self.mount_points) {
                    let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                    rustix::fs::unlinkat(&self.store, &name, flags).ok();
                }
                Look::at(&self.store).is_some_and(|look| look == self.fresh[0])
            }
            _ => false,
        }
    }
}

/// Goes through the names in a directory that nobody else reads by this descriptor, until one is not fine;
/// says whether all were.
fn for_each_name(dir: &OwnedFd, mut is_fine: impl FnMut(&[u8], FileType) -> bool) -> Option<bool> {
    rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(0)).ok()?;
    let mut space = [std::mem::MaybeUninit::uninit(); 2048];
    let mut names = RawDir::new(dir, &mut space);
    while let Some(entry) = names.next() {
        let entry = entry.ok()?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && !is_fine(name, entry.file_type()) {
            return Some(false);
        }
    }
    Some(true)
}

/// Makes a directory for the build's user.
pub(crate) fn make_own_dir(
    parent: &OwnedFd,
    name: &str,
    mode: u32,
    identity: Identity,
) -> Result<OwnedFd, Failure> {
    let failed = |error: rustix::io::Errno| disk("make a build's directory", error);
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed)?;
    give_away(dir.as_fd(), identity)?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode)).map_err(failed)?;
    Ok(dir)
}
