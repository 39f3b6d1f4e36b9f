//! Roots that are made once for many builds.
//!
//! What a build finds in `/` besides its inputs and its own directories is the same for all builds of a
//! command: `/etc`, `/dev`, places to mount on. The spawner makes it once, in a mount namespace that
//! holds nothing else. From there it clones a build, which takes a copy of the namespace for its own
//! and mounts what is its alone: nothing of the host is in it that would have to be taken away again.
//!
//! ```text
//! home: the host's mounts, as we see them ──open_tree──▶ store, /build, /tmp, inputs (descriptors)
//! root: a tmpfs, its devices              ──clone, unshare──▶ the build's own ◀──move_mount── those
//! ```
//!
//! A copy that goes to another user namespace is locked: none of its mounts can be taken away, none
//! made writable. The file system itself is read-only too, once it is made, for whoever may mount it.
//!
//! The kernel lets a user mount a `/proc` of his own only where he sees one already. The root has one
//! of a pid namespace whose only process has ended: it shows no process, and lies below the build's.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use super::child::{self, Devices, Failure};
use super::spec::{Identity, Prepared, PreparedKind};
use super::step::Step;
use super::sys::{self, CWD, Errno, Stack, SysResult};

/// The mount namespaces of a spawner.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    home: Option<Home>,
    made: Vec<Root>,
    /// They cannot be had here: each build makes its own root then, and says what is missing.
    is_refused: bool,
}

/// Where we are when no build is being cloned.
#[derive(Debug)]
struct Home {
    namespace: OwnedFd,
    /// Not always that of the namespace: somebody may have started us with another.
    root: OwnedFd,
}

/// One root, and what it was made from.
#[derive(Debug)]
struct Root {
    namespace: OwnedFd,
    shape: Shape,
}

#[derive(Debug, PartialEq)]
struct Shape {
    build_dir: CString,
    store_dir: CString,
    directories: Vec<CString>,
    files: Vec<(CString, Vec<u8>)>,
    symlinks: Vec<(CString, CString)>,
    points: Vec<(CString, PreparedKind)>,
}

impl Shape {
    fn of(plan: &Prepared) -> Self {
        Self {
            build_dir: plan.build_dir.clone(),
            store_dir: plan.store_dir.clone(),
            directories: plan.directories.clone(),
            files: plan.files.clone(),
            symlinks: plan.symlinks.clone(),
            points: plan.points().map(|(_, bind)| (bind.target.clone(), bind.kind.clone())).collect(),
        }
    }

    fn is_of(&self, plan: &Prepared) -> bool {
        self.build_dir == plan.build_dir
            && self.store_dir == plan.store_dir
            && self.directories == plan.directories
            && self.files == plan.files
            && self.symlinks == plan.symlinks
            && self
                .points
                .iter()
                .map(|(target, kind)| (target, kind))
                .eq(plan.points().map(|(_, bind)| (&bind.target, &bind.kind)))
    }
}

/// How many are kept: each takes as much memory as what is in it, a few pages.
const MOST: usize = 16;

impl Roots {
    /// Goes into a mount namespace of our own, where we can mount what no one else sees. False if we
    /// have no right to.
    pub(crate) fn settle(&mut self) -> bool {
        if self.home.is_none() && !self.is_refused {
            self.home = Home::make().ok();
            self.is_refused = self.home.is_none();
        }
        self.home.is_some()
    }

    /// Finds or makes the root for builds like `plan`, by its number; nothing where there cannot be one.
    ///
    /// # Errors
    /// If we cannot go back home: then nothing can be done any more.
    pub(crate) fn find(&mut self, stack: &Stack, plan: &Prepared) -> Result<Option<usize>, Errno> {
        if let Some(known) = self.made.iter().position(|root| root.shape.is_of(plan)) {
            return Ok(Some(known));
        }
        let (Some(home), false) = (&self.home, self.is_refused) else { return Ok(None) };
        let made = make(stack, plan);
        home.go()?;
        let Ok(namespace) = made else {
            self.is_refused = true;
            return Ok(None);
        };
        if self.made.len() == MOST {
            self.made.remove(0);
        }
        self.made.push(Root { namespace, shape: Shape::of(plan) });
        Ok(Some(self.made.len() - 1))
    }

    /// Goes into a root, to clone a build there.
    pub(crate) fn enter(&self, root: usize) -> SysResult<()> {
        sys::set_namespace(self.made[root].namespace.as_raw_fd(), libc::CLONE_NEWNS)
    }

    /// Goes back to where the host is.
    pub(crate) fn go_home(&self) -> SysResult<()> {
        self.home.as_ref().map_or(Ok(()), Home::go)
    }
}

impl Home {
    fn make() -> SysResult<Self> {
        sys::unshare(libc::CLONE_NEWNS)?;
        sys::make_mounts_followers()?;
        let root = sys::openat(CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        Ok(Self { namespace: open_namespace()?, root })
    }

    fn go(&self) -> SysResult<()> {
        sys::set_namespace(self.namespace.as_raw_fd(), libc::CLONE_NEWNS)?;
        sys::fchdir(self.root.as_raw_fd())?;
        sys::chroot_here()
    }
}

fn open_namespace() -> SysResult<OwnedFd> {
    sys::openat(CWD, c"/proc/thread-self/ns/mnt", libc::O_RDONLY, 0)
}

/// Makes a root in a mount namespace of its own, in which we are afterwards, whatever came of it.
fn make(stack: &Stack, plan: &Prepared) -> Result<OwnedFd, Failure> {
    let at = |step, result: SysResult<_>| result.map_err(|errno| Failure { step, errno, index: 0 });
    at(Step::MountNamespace, sys::unshare(libc::CLONE_NEWNS))?;
    let namespace =
        open_namespace().map_err(|errno| Failure { step: Step::MountNamespace, errno, index: 0 })?;
    at(Step::PrivateMounts, sys::make_mounts_private())?;
    let (top, devices) = (child::open_top(plan)?, Devices::open()?);
    sys::umask(0);
    let root = as_builder(plan.identity, || child::make_root(plan, &top, &devices))?;
    at(Step::Proc, mount_empty_proc(stack))?;
    child::settle_in(&root)?;
    at(Step::ReadOnlyRoot, sys::make_file_system_read_only(root.as_raw_fd()))?;
    Ok(namespace)
}

/// Does it as the build's user, as far as files are concerned: they are his, as if he had made them.
fn as_builder<T>(identity: Identity, run: impl FnOnce() -> T) -> T {
    if !identity.foreign {
        return run();
    }
    let before = sys::set_file_ids(identity.uid, identity.gid);
    let done = run();
    sys::set_file_ids(before.0, before.1);
    done
}

/// Mounts, below the current directory, a `/proc` of a pid namespace in which nobody lives.
fn mount_empty_proc(stack: &Stack) -> SysResult<()> {
    let run = || sys::exit(i32::from(child::mount_whole_proc().is_err()));
    let (pid, _pidfd) = sys::clone_copy(stack, libc::CLONE_NEWPID, &run)?;
    match sys::reap(pid)? {
        (0, _) => Ok(()),
        _ => Err(Errno(libc::EPERM)),
    }
}
