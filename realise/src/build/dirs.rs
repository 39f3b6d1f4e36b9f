//! The directories that a build writes to: `/build`, `/tmp`, and the store's that holds its outputs.
//!
//! They lie on the store's disk, which has room. Making and deleting them is dear there (a deleted
//! directory gives its block back, and ext4 goes past every inode that was freed lately), so that the
//! next build gets those of one that left nothing in them, if nothing can tell them from new ones.

use std::os::fd::{AsFd, OwnedFd};

use ampoule_store::Staging;
use rustix::fs::{AtFlags, IFlags, Mode, OFlags};

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
}

/// What can be seen of an empty directory.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    mode: u32,
    uid: u32,
    gid: u32,
    links: u128,
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
            links: u128::from(stat.st_nlink),
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
        Ok(Self { staging, store, build, tmp, fresh })
    }

    /// Takes away the places at which inputs were mounted: the mounts went with their namespace.
    pub(crate) fn remove_mount_points(&self, spec: &SandboxSpec) {
        for bind in spec.binds.iter().filter(|bind| bind.target.parent() == Some(&spec.store_dir)) {
            let Some(name) = bind.target.file_name() else { continue };
            let is_dir = matches!(bind.kind, BindKind::Directory);
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // What cannot be removed is seen by `are_as_new`.
            rustix::fs::unlinkat(&self.store, name, flags).ok();
        }
    }

    /// Whether nothing is in them, and nothing can be told from when they were made. No process of the
    /// build lives any more.
    pub(crate) fn are_as_new(&self) -> bool {
        let dirs = [&self.store, &self.build, &self.tmp];
        let only_these = names_in(self.staging.fd()).is_some_and(|names| names == 3);
        only_these
            && dirs.iter().zip(&self.fresh).all(|(dir, fresh)| {
                names_in(dir) == Some(0) && Look::at(dir).is_some_and(|look| look == *fresh)
            })
    }
}

/// How many names are in a directory.
fn names_in(dir: &OwnedFd) -> Option<usize> {
    let mut count = 0;
    for entry in rustix::fs::Dir::read_from(dir).ok()? {
        let name = entry.ok()?;
        count += usize::from(!matches!(name.file_name().to_bytes(), b"." | b".."));
        if count > 3 {
            break;
        }
    }
    Some(count)
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
