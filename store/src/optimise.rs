//! Optimisation: files with the same contents become names of one inode.
//!
//! `links/` holds one name for each file's contents, called after their hash and the executable
//! bit. A file is replaced by a link only if the bytes of the two are the same now, whatever the
//! hash says, so a file that somebody changed spreads nowhere.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::error::{StoreError, StoreResult};
use crate::lock::GcLock;
use crate::tree::{self, read_names};
use crate::{HashAlgo, Method, Store, StorePath};

/// What optimisation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptimiseReport {
    /// Files that became names of another.
    pub linked_files: u64,
    /// What that saved.
    pub saved_bytes: u64,
    /// Files that could not be linked: too many names, or not as they should be.
    pub skipped_files: u64,
}

#[derive(Default)]
struct Counts {
    linked: AtomicU64,
    saved: AtomicU64,
    skipped: AtomicU64,
}

impl Store {
    /// Links files with the same contents in all objects.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn optimise(&self) -> StoreResult<OptimiseReport> {
        use rayon::prelude::*;
        let counts = Counts::default();
        self.all_valid()?.par_iter().try_for_each(|path| self.optimise_object(path, &counts))?;
        Ok(OptimiseReport {
            linked_files: counts.linked.into_inner(),
            saved_bytes: counts.saved.into_inner(),
            skipped_files: counts.skipped.into_inner(),
        })
    }

    fn optimise_object(&self, path: &StorePath, counts: &Counts) -> StoreResult<()> {
        // Not while somebody makes, deletes or checks it.
        let Some(_lock) = self.try_lock_output(path)? else { return Ok(()) };
        let _shared = GcLock::shared(self.layout())?;
        if self.read_info(path)?.is_none() {
            return Ok(());
        }
        let name = CString::new(path.as_str()).expect("a store path has no zero byte");
        let failed = |e: Errno| StoreError::io("optimise", path.as_str(), e);
        // A file that is an object by itself lies in the directory of all objects, which stays as
        // it is.
        //
        // A directory is opened only when its turn comes, by way of its parent, so that few are open.
        let mut todo: Vec<(Rc<OwnedFd>, CString)> = Vec::new();
        let store = &self.layout().store;
        match tree::stat_nofollow(store, &name) {
            Ok(stat) if tree::file_type(&stat) == FileType::Directory => {
                let parent = store.try_clone().map_err(|e| StoreError::io("open", path.as_str(), e))?;
                todo.push((Rc::new(parent), name));
            }
            Ok(stat) if tree::file_type(&stat) == FileType::RegularFile => {
                self.link_file(store, &name, counts).map_err(failed)?;
            }
            _ => {}
        }
        while let Some((parent, name)) = todo.pop() {
            let mut dir = tree::open_subdir(&*parent, &name).map_err(failed)?;
            drop(parent);
            let names = read_names(&mut dir).map_err(failed)?;
            let dir = Rc::new(dir);
            let mut is_open = false;
            for (name, kind) in names {
                match kind {
                    FileType::Directory => todo.push((Rc::clone(&dir), name)),
                    FileType::RegularFile => {
                        if !is_open {
                            rustix::fs::fchmod(&*dir, tree::MODE_OPEN_DIR).map_err(failed)?;
                            is_open = true;
                        }
                        self.link_file(&dir, &name, counts).map_err(failed)?;
                    }
                    _ => {}
                }
            }
            if is_open {
                rustix::fs::fchmod(&*dir, tree::MODE_EXEC).map_err(failed)?;
                rustix::fs::futimens(&*dir, &tree::CANONICAL_TIMES).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn link_file(&self, dir: &OwnedFd, name: &CStr, counts: &Counts) -> rustix::io::Result<()> {
        let skip = || counts.skipped.fetch_add(1, Ordering::Relaxed);
        let stat = tree::stat_nofollow(dir, name)?;
        let mode = stat.st_mode & 0o7777;
        if stat.st_size == 0 || !matches!(mode, 0o444 | 0o555) || stat.st_mtime != 1 {
            if stat.st_size > 0 {
                skip();
            }
            return Ok(());
        }
        let Ok((hash, _)) = crate::hash_at(dir, name, Method::Flat, HashAlgo::Sha256, None) else {
            skip();
            return Ok(());
        };
        let link = CString::new(format!("{}{}", hash.to_nix32(), if mode == 0o555 { "x" } else { "" }))
            .expect("digits have no zero byte");
        let links = &self.layout().links;
        match rustix::fs::linkat(dir, name, links, &link, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(Errno::MLINK | Errno::PERM | Errno::XDEV) => {
                skip();
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        match self.link_to_known(dir, name, &stat, &link, counts) {
            // Another thread or process has just found that name worthless, and taken it away.
            Err(Errno::NOENT) => {
                skip();
                Ok(())
            }
            other => other,
        }
    }

    /// Replaces a file by a link to the one in `links/` of the same bytes, if it is that.
    fn link_to_known(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        stat: &rustix::fs::Stat,
        link: &CStr,
        counts: &Counts,
    ) -> rustix::io::Result<()> {
        let skip = || counts.skipped.fetch_add(1, Ordering::Relaxed);
        let links = &self.layout().links;
        let other = tree::stat_nofollow(links, link)?;
        if (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        if other.st_mode != stat.st_mode || other.st_mtime != 1 || !same_bytes(dir, name, links, link)? {
            // Somebody changed what `links/` holds: that name is worth nothing any more.
            rustix::fs::unlinkat(links, link, AtFlags::empty())?;
            rustix::fs::linkat(dir, name, links, link, AtFlags::empty()).ok();
            skip();
            return Ok(());
        }
        // Made outside of the object: a process that is killed here must leave nothing in it.
        let fresh = CString::new(format!("{}{:x}", crate::layout::TEMPORARY_PREFIX, crate::lock::noise()))
            .expect("no zero byte");
        match rustix::fs::linkat(links, link, links, &fresh, AtFlags::empty()) {
            Ok(()) => {}
            // 65,000 names of one inode is what ext4 allows.
            Err(Errno::MLINK | Errno::XDEV) => {
                skip();
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        if let Err(error) = rustix::fs::renameat(links, &fresh, dir, name) {
            rustix::fs::unlinkat(links, &fresh, AtFlags::empty()).ok();
            return Err(error);
        }
        counts.linked.fetch_add(1, Ordering::Relaxed);
        if stat.st_nlink == 1 {
            counts.saved.fetch_add(stat.st_blocks as u64 * 512, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn same_bytes(a_dir: impl AsFd, a: &CStr, b_dir: impl AsFd, b: &CStr) -> rustix::io::Result<bool> {
    use std::io::Read;
    let (mut a, mut b) =
        (std::fs::File::from(tree::open_file(a_dir, a)?), std::fs::File::from(tree::open_file(b_dir, b)?));
    let (mut left, mut right) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let got = a.read(&mut left).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        if got == 0 {
            let more = b.read(&mut right[..1]).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            return Ok(more == 0);
        }
        if b.read_exact(&mut right[..got]).is_err() || left[..got] != right[..got] {
            return Ok(false);
        }
    }
}
