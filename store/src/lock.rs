//! Locks and leases: how several processes share a store.
//!
//! * An [`OutputLock`] is held by whoever makes an object, so that nothing is made twice at once. It is
//!   one byte of `outputs.lock`, at a place that the object's hash says: no file is made or deleted for
//!   it. (A file for each lock was a quarter of the time of small builds: ext4 looks at every inode
//!   that was freed within the last minute, one by one, before it takes a new one.)
//! * A lease is a file that its process keeps locked as long as it runs; what is written in it, and
//!   what lies below its name in `tmp/` and `build/`, is that process's. When the process dies, the
//!   kernel frees the lock, and the next one cleans up.
//! * `gc.lock` is held shared for the instants in which a lease grows or an object becomes valid,
//!   and alone while garbage is found and renamed away. So a path is leased before the collector
//!   looks, or gone before the leasing process looks; never in between.
//!
//! All belong to an open file: they end with the process, whatever ends it.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHashSet;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::StorePath;
use crate::base32::ALPHABET;
use crate::error::{StoreError, StoreResult};
use crate::layout::Layout;

/// The right to make an object. Held until dropped, or until the process dies.
#[derive(Debug)]
pub struct OutputLock(#[expect(dead_code, reason = "held for its lock, which ends with it")] OwnedFd);

impl OutputLock {
    /// Waits for the lock, or returns nothing if `wait` is false and somebody has it.
    pub(crate) fn take(layout: &Layout, path: &StorePath, wait: bool) -> StoreResult<Option<Self>> {
        let failed = |e: std::io::Error| StoreError::io("lock", path.as_str(), e);
        let fd = open_lock(&layout.root, c"outputs.lock").map_err(|e| failed(e.into()))?;
        Ok(lock_byte(&fd, place_of(path), wait).map_err(failed)?.then_some(Self(fd)))
    }
}

/// Which byte is an object's: the first 60 bits of its hash.
fn place_of(path: &StorePath) -> i64 {
    let value = |digit| ALPHABET.iter().position(|known| *known == digit).unwrap_or(0) as i64;
    path.hash_part().bytes().take(12).fold(0, |place, digit| place << 5 | value(digit))
}

/// Takes a byte of an open file for whoever has this file open; false if `wait` is false and
/// somebody has it.
fn lock_byte(fd: &OwnedFd, place: i64, wait: bool) -> std::io::Result<bool> {
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    let range = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place,
        l_len: 1,
        l_pid: 0,
    };
    loop {
        let operation = if wait { FcntlArg::F_OFD_SETLKW(&range) } else { FcntlArg::F_OFD_SETLK(&range) };
        match fcntl(fd, operation) {
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::EACCES) if !wait => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn open_lock(dir: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))
}

/// Takes a lock; false if `wait` is false and somebody has it.
fn flock(fd: impl AsFd, alone: bool, wait: bool) -> rustix::io::Result<bool> {
    let operation = match (alone, wait) {
        (true, true) => FlockOperation::LockExclusive,
        (true, false) => FlockOperation::NonBlockingLockExclusive,
        (false, true) => FlockOperation::LockShared,
        (false, false) => FlockOperation::NonBlockingLockShared,
    };
    loop {
        match rustix::fs::flock(fd.as_fd(), operation) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}

/// `gc.lock`, held.
pub(crate) struct GcLock(#[expect(dead_code, reason = "held for its lock, which ends with it")] OwnedFd);

impl GcLock {
    /// Waits for the lock, or returns nothing if `wait` is false and somebody has it.
    pub fn take(layout: &Layout, alone: bool, wait: bool) -> StoreResult<Option<Self>> {
        let failed = |e: Errno| StoreError::io("lock", b"gc.lock", e);
        let fd = open_lock(&layout.root, c"gc.lock").map_err(failed)?;
        Ok(flock(&fd, alone, wait).map_err(failed)?.then_some(Self(fd)))
    }

    /// Waits for it, shared with others.
    pub fn shared(layout: &Layout) -> StoreResult<Self> {
        Ok(Self::take(layout, false, true)?.expect("waiting ends with the lock"))
    }

    /// Waits for it, alone.
    pub fn alone(layout: &Layout) -> StoreResult<Self> {
        Ok(Self::take(layout, true, true)?.expect("waiting ends with the lock"))
    }
}

/// What was leased: hashes of 128 bits with a key of this process, instead of hundreds of thousands of paths.
#[derive(Debug, Default)]
struct Leased {
    hashes: FxHashSet<u128>,
    keys: [RandomState; 2],
}

impl Leased {
    fn hash_of(&self, path: &StorePath) -> u128 {
        let [high, low] = self.keys.each_ref().map(|key| key.hash_one(path.as_str()));
        u128::from(high) << 64 | u128::from(low)
    }
}

/// What this process holds: its lease, and directories of its own.
#[derive(Debug)]
pub(crate) struct Session {
    fd: OwnedFd,
    pub id: CString,
    leased: Mutex<Leased>,
    /// Below `tmp/`.
    pub tmp: OwnedFd,
    serial: AtomicU64,
}

impl Session {
    /// Begins: makes the lease and the directory for half-made things.
    pub fn begin(layout: &Layout) -> StoreResult<Self> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        // Whoever cleans up after the dead holds this lock alone, and so never meets a lease that
        // is made and not locked yet.
        let _shared = GcLock::shared(layout)?;
        loop {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let id =
                CString::new(format!("{}-{serial}-{:x}", std::process::id(), noise())).expect("no zero byte");
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND | OFlags::CLOEXEC;
            let fd = match rustix::fs::openat(&layout.leases, &id, flags, Mode::from_raw_mode(0o600)) {
                Err(Errno::EXIST) => continue,
                other => other.map_err(|e| StoreError::io("create", b"lease", e))?,
            };
            flock(&fd, true, true).map_err(|e| StoreError::io("lock", b"lease", e))?;
            let private = Mode::from_raw_mode(0o700);
            rustix::fs::mkdirat(&layout.tmp, &id, private)
                .map_err(|e| StoreError::io("create", b"tmp", e))?;
            let tmp =
                crate::tree::open_subdir(&layout.tmp, &id).map_err(|e| StoreError::io("open", b"tmp", e))?;
            return Ok(Self { fd, id, leased: Mutex::default(), tmp, serial: AtomicU64::new(0) });
        }
    }

    /// Makes these paths needed by this process until it ends.
    pub fn lease<'a>(
        &self,
        layout: &Layout,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> StoreResult<()> {
        let mut leased = self.leased.lock().expect("nothing panics while it holds this lock");
        // Ends what a full disk may have cut.
        let mut text = String::from("\n");
        let mut fresh = Vec::new();
        for path in paths {
            let hash = leased.hash_of(path);
            if !leased.hashes.contains(&hash) {
                fresh.push(hash);
                text.push_str(path.as_str());
                text.push('\n');
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let _shared = GcLock::shared(layout)?;
        let mut left = text.as_bytes();
        while !left.is_empty() {
            match rustix::io::write(&self.fd, left) {
                Ok(written) => left = &left[written..],
                Err(Errno::INTR) => {}
                Err(e) => return Err(StoreError::io("write", b"lease", e)),
            }
        }
        leased.hashes.extend(fresh);
        Ok(())
    }

    /// Returns a name that nothing in this session's directories has.
    pub fn fresh_name(&self) -> CString {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        CString::new(format!("{serial}")).expect("no zero byte")
    }

    /// Ends: nothing is needed any more. What is left of half-made things goes, to the trash if that `is_much`.
    pub fn end(&self, layout: &Layout, is_much: bool) {
        for (dir, kind) in [(&layout.tmp, "tmp"), (&layout.build, "build")] {
            let trashed = [self.id.to_bytes(), b"-", kind.as_bytes()].concat();
            let trashed = CString::new(trashed).expect("no zero byte");
            if !is_much || rustix::fs::renameat(dir, &self.id, &layout.trash, &trashed).is_err() {
                crate::tree::remove(dir, &self.id).ok();
            }
        }
        rustix::fs::unlinkat(&layout.leases, &self.id, AtFlags::empty()).ok();
    }
}

/// Something that two processes with the same number on two machines or in two containers do not
/// share. Names leases and temporary files; nothing that is hashed.
pub(crate) fn noise() -> u64 {
    RandomState::new().hash_one(())
}

/// What the leases of running processes say.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Needed by somebody.
    pub needed: BTreeSet<StorePath>,
    /// Sessions that live.
    pub living: BTreeSet<Vec<u8>>,
}

/// Reads the leases of the living, and deletes those of the dead. `gc.lock` must be held alone.
pub(crate) fn read_leases(layout: &Layout) -> StoreResult<Leases> {
    let mut leases = Leases::default();
    let failed = |what, e: Errno| StoreError::io(what, b"leases", e);
    for (name, _) in crate::tree::list_names(&layout.leases).map_err(|e| failed("list", e))? {
        let fd = match open_lock_only(&layout.leases, &name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(failed("open", e)),
        };
        if flock(&fd, true, false).map_err(|e| failed("lock", e))? {
            rustix::fs::unlinkat(&layout.leases, &name, AtFlags::empty()).ok();
            continue;
        }
        let text = crate::layout::read_small(&layout.leases, &name).map_err(|e| failed("read", e))?;
        // A line without an end is being written by one who waits for our lock next; he looks
        // whether the path is still there.
        leases.needed.extend(text.unwrap_or_default().lines().filter_map(|l| StorePath::parse(l).ok()));
        leases.living.insert(name.into_bytes());
    }
    Ok(leases)
}

fn open_lock_only(dir: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
