//! System calls, one per function, raw: nothing here allocates, takes a lock or asks libc for more
//! than the call itself.
//!
//! Having these lets the child of the spawner be written in safe code that is still sound between
//! `clone` and `execve`. Every function returns the kernel's error number and nothing else; the
//! caller says which step of the set-up it was ([`super::step::Step`]).

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A kernel error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

/// What a system call returned.
pub(crate) type SysResult<T> = Result<T, Errno>;

fn last_errno() -> Errno {
    // SAFETY: returns the address of this thread's errno, which is always valid to read.
    Errno(unsafe { *libc::__errno_location() })
}

/// Goes on whatever came of it: for what is tried, and not required.
pub(crate) fn ignore<T>(_: SysResult<T>) {}

fn check(status: c_long) -> SysResult<c_long> {
    if status < 0 { Err(last_errno()) } else { Ok(status) }
}

/// A raw system call whose pointer arguments the caller vouches for.
macro_rules! sys {
    ($number:expr $(, $arg:expr)* $(,)?) => {
        // SAFETY: every pointer given is either null or derived from a reference or a `CStr` that
        // outlives the call; sizes are those of the things pointed to.
        check(unsafe { libc::syscall($number $(, $arg)*) })
    };
}

fn own(fd: c_long) -> OwnedFd {
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// The current directory in a directory argument.
pub(crate) const CWD: RawFd = libc::AT_FDCWD;

const NULL: *const c_void = std::ptr::null();

// ---- mounts -----------------------------------------------------------------------------------

pub(crate) const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 0x4;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 0x8;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const OPEN_TREE_CLONE: c_uint = 1;
const AT_RECURSIVE: c_uint = 0x8000;

/// Clones the mount at `path` as a detached mount. A symlink at the end is not followed.
pub(crate) fn open_tree(dir: RawFd, path: &CStr) -> SysResult<OwnedFd> {
    let flags = OPEN_TREE_CLONE
        | AT_RECURSIVE
        | libc::O_CLOEXEC as c_uint
        | libc::AT_SYMLINK_NOFOLLOW as c_uint
        | libc::AT_NO_AUTOMOUNT as c_uint;
    sys!(libc::SYS_open_tree, dir, path.as_ptr(), flags).map(own)
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes of the mount `tree`, and of all below it if `recursive`.
pub(crate) fn mount_setattr(tree: RawFd, set: u64, recursive: bool) -> SysResult<()> {
    let attr = MountAttr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH as c_uint | if recursive { AT_RECURSIVE } else { 0 };
    sys!(libc::SYS_mount_setattr, tree, c"".as_ptr(), flags, &raw const attr, size_of::<MountAttr>())
        .map(drop)
}

/// Shows the owners in `tree` as the user namespace `userns` maps them, besides setting attributes.
pub(crate) fn mount_setattr_mapped(tree: RawFd, set: u64, userns: RawFd) -> SysResult<()> {
    let attr =
        MountAttr { attr_set: set | MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd: userns as u64 };
    let flags = libc::AT_EMPTY_PATH as c_uint | AT_RECURSIVE;
    sys!(libc::SYS_mount_setattr, tree, c"".as_ptr(), flags, &raw const attr, size_of::<MountAttr>())
        .map(drop)
}

/// Attaches the detached mount `tree` at `path` below `dir`; an empty path means `dir` itself.
pub(crate) fn move_mount(tree: RawFd, dir: RawFd, path: &CStr) -> SysResult<()> {
    const F_EMPTY_PATH: c_uint = 0x4;
    const T_EMPTY_PATH: c_uint = 0x40;
    sys!(
        libc::SYS_move_mount,
        tree,
        c"".as_ptr(),
        dir,
        path.as_ptr(),
        F_EMPTY_PATH | if path.is_empty() { T_EMPTY_PATH } else { 0 }
    )
    .map(drop)
}

/// Makes a new, detached file system of type `kind` with `options` (pairs; an empty value is a flag).
pub(crate) fn new_file_system(kind: &CStr, options: &[(&CStr, &CStr)], attr: u64) -> SysResult<OwnedFd> {
    const FSCONFIG_SET_FLAG: c_uint = 0;
    const FSCONFIG_SET_STRING: c_uint = 1;
    const FSCONFIG_CMD_CREATE: c_uint = 6;
    let context = sys!(libc::SYS_fsopen, kind.as_ptr(), 1 as c_uint).map(own)?;
    let fd = context.as_raw_fd();
    for (key, value) in options {
        if value.is_empty() {
            sys!(libc::SYS_fsconfig, fd, FSCONFIG_SET_FLAG, key.as_ptr(), NULL, 0)?;
        } else {
            sys!(libc::SYS_fsconfig, fd, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0)?;
        }
    }
    sys!(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0)?;
    sys!(libc::SYS_fsmount, fd, 1 as c_uint, attr as c_uint).map(own)
}

/// Makes the file system that `mount` shows read-only, wherever it is mounted.
pub(crate) fn make_file_system_read_only(mount: RawFd) -> SysResult<()> {
    const FSPICK_CLOEXEC: c_uint = 1;
    const FSPICK_EMPTY_PATH: c_uint = 8;
    const FSCONFIG_SET_FLAG: c_uint = 0;
    const FSCONFIG_CMD_RECONFIGURE: c_uint = 7;
    let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
    let context = sys!(libc::SYS_fspick, mount, c"".as_ptr(), flags).map(own)?;
    let fd = context.as_raw_fd();
    sys!(libc::SYS_fsconfig, fd, FSCONFIG_SET_FLAG, c"ro".as_ptr(), NULL, 0)?;
    sys!(libc::SYS_fsconfig, fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0).map(drop)
}

/// Makes every mount of this namespace private.
pub(crate) fn make_mounts_private() -> SysResult<()> {
    sys!(libc::SYS_mount, NULL, c"/".as_ptr(), NULL, libc::MS_REC | libc::MS_PRIVATE, NULL).map(drop)
}

/// Makes every mount of this namespace follow what happens outside, and show nothing of itself there.
pub(crate) fn make_mounts_followers() -> SysResult<()> {
    sys!(libc::SYS_mount, NULL, c"/".as_ptr(), NULL, libc::MS_REC | libc::MS_SLAVE, NULL).map(drop)
}

/// Makes the current directory `/`, and forgets what was `/` before.
pub(crate) fn pivot_root_here() -> SysResult<()> {
    sys!(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr())?;
    umount_detach(c".")
}

/// Detaches the mount at `path`.
pub(crate) fn umount_detach(path: &CStr) -> SysResult<()> {
    sys!(libc::SYS_umount2, path.as_ptr(), libc::MNT_DETACH).map(drop)
}

// ---- files ------------------------------------------------------------------------------------

/// Opens `path` below `dir`.
pub(crate) fn openat(dir: RawFd, path: &CStr, flags: c_int, mode: c_uint) -> SysResult<OwnedFd> {
    sys!(libc::SYS_openat, dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode).map(own)
}

/// Opens `path` without ever following a magic link (`/proc/self/exe` and the like).
pub(crate) fn open_without_magic_links(path: &CStr) -> SysResult<OwnedFd> {
    #[repr(C)]
    struct OpenHow {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    let how =
        OpenHow { flags: (libc::O_PATH | libc::O_CLOEXEC) as u64, mode: 0, resolve: RESOLVE_NO_MAGICLINKS };
    sys!(libc::SYS_openat2, CWD, path.as_ptr(), &raw const how, size_of::<OpenHow>()).map(own)
}

/// Makes a directory; one that exists is fine.
pub(crate) fn mkdir(path: &CStr, mode: c_uint) -> SysResult<()> {
    match sys!(libc::SYS_mkdirat, CWD, path.as_ptr(), mode) {
        Err(Errno(libc::EEXIST)) => Ok(()),
        other => other.map(drop),
    }
}

/// Makes an empty file to mount on.
pub(crate) fn make_file(path: &CStr) -> SysResult<()> {
    match sys!(libc::SYS_mknodat, CWD, path.as_ptr(), libc::S_IFREG | 0o444, 0) {
        Err(Errno(libc::EEXIST)) => Ok(()),
        other => other.map(drop),
    }
}

/// Makes the symlink `path` → `target`.
pub(crate) fn symlink(target: &CStr, path: &CStr) -> SysResult<()> {
    sys!(libc::SYS_symlinkat, target.as_ptr(), CWD, path.as_ptr()).map(drop)
}

/// Writes `bytes` to `fd` in one call.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> SysResult<usize> {
    sys!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()).map(|n| n as usize)
}

/// Writes `contents` to the file at `path`, made if asked for.
pub(crate) fn write_file(path: &CStr, contents: &[u8], flags: c_int) -> SysResult<()> {
    let fd = openat(CWD, path, libc::O_WRONLY | flags, 0o644)?;
    let mut rest = contents;
    while !rest.is_empty() {
        rest = &rest[write(fd.as_raw_fd(), rest)?..];
    }
    Ok(())
}

/// Reads up to `buffer.len()` bytes.
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> SysResult<usize> {
    sys!(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()).map(|n| n as usize)
}

/// Reads up to `buffer.len()` bytes from `offset` on.
pub(crate) fn pread(fd: RawFd, buffer: &mut [u8], offset: u64) -> SysResult<usize> {
    sys!(libc::SYS_pread64, fd, buffer.as_mut_ptr(), buffer.len(), offset).map(|n| n as usize)
}

/// Changes the current directory.
pub(crate) fn chdir(path: &CStr) -> SysResult<()> {
    sys!(libc::SYS_chdir, path.as_ptr()).map(drop)
}

/// Changes the current directory to an open one.
pub(crate) fn fchdir(fd: RawFd) -> SysResult<()> {
    sys!(libc::SYS_fchdir, fd).map(drop)
}

/// Makes the current directory this process's root.
pub(crate) fn chroot_here() -> SysResult<()> {
    sys!(libc::SYS_chroot, c".".as_ptr()).map(drop)
}

/// Makes `new` another name of `old`, inherited over exec (unless `cloexec`).
pub(crate) fn dup_to(old: RawFd, new: RawFd, cloexec: bool) -> SysResult<()> {
    if old == new {
        let flag = if cloexec { libc::FD_CLOEXEC } else { 0 };
        return sys!(libc::SYS_fcntl, old, libc::F_SETFD, flag).map(drop);
    }
    sys!(libc::SYS_dup3, old, new, if cloexec { libc::O_CLOEXEC } else { 0 }).map(drop)
}

/// A copy of `fd` with a number of at least `lowest`.
pub(crate) fn dup_above(fd: RawFd, lowest: RawFd) -> SysResult<RawFd> {
    sys!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, lowest).map(|n| n as RawFd)
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: RawFd) -> SysResult<()> {
    sys!(libc::SYS_close_range, first as c_uint, c_uint::MAX, 0).map(drop)
}

/// Closes one descriptor that no `OwnedFd` stands for.
pub(crate) fn close(fd: RawFd) {
    ignore(sys!(libc::SYS_close, fd));
}

/// A pipe: read end, write end.
pub(crate) fn pipe() -> SysResult<(OwnedFd, OwnedFd)> {
    let mut ends = [0 as c_int; 2];
    sys!(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC)?;
    Ok((own(ends[0].into()), own(ends[1].into())))
}

/// A file in memory.
pub(crate) fn memfd(name: &CStr) -> SysResult<OwnedFd> {
    sys!(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC).map(own)
}

// ---- processes --------------------------------------------------------------------------------

/// Leaves the namespaces in `flags` for new ones.
pub(crate) fn unshare(flags: c_int) -> SysResult<()> {
    sys!(libc::SYS_unshare, flags).map(drop)
}

/// Goes into the namespace of this kind that `namespace` stands for.
pub(crate) fn set_namespace(namespace: RawFd, kind: c_int) -> SysResult<()> {
    sys!(libc::SYS_setns, namespace, kind).map(drop)
}

fn prctl(option: c_int, a: c_ulong, b: c_ulong) -> SysResult<()> {
    sys!(libc::SYS_prctl, option, a, b, 0 as c_ulong, 0 as c_ulong).map(drop)
}

/// Asks for SIGKILL when the parent dies.
pub(crate) fn die_with_parent() -> SysResult<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0)
}

/// The same, asked by a program that is about to be started.
pub(crate) fn die_with_starter(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec it makes one system call, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(|| die_with_parent().map_err(Into::into)) };
}

/// Makes the children of children ours when their parent dies.
pub(crate) fn become_subreaper() -> SysResult<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)
}

/// Hides this process's memory, links and environment in `/proc` from its own user.
pub(crate) fn set_undumpable() -> SysResult<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0)
}

/// No exec gives new privileges from here on.
pub(crate) fn no_new_privileges() -> SysResult<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// Gives up every capability, now and for whatever is executed later.
pub(crate) fn drop_capabilities() -> SysResult<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            // The kernel knows no capability of this number: those before were all.
            Err(Errno(libc::EINVAL)) => break,
            // A tier without namespaces has no right to touch the bounding set, and no need to:
            // `no_new_privs` makes it moot.
            Err(Errno(libc::EPERM)) => break,
            other => other?,
        }
    }
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    struct Data {
        sets: [u32; 6],
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let data = Data { sets: [0; 6] };
    sys!(libc::SYS_capset, &raw const header, &raw const data).map(drop)
}

/// Sets the three user ids.
pub(crate) fn set_uid(uid: u32) -> SysResult<()> {
    sys!(libc::SYS_setresuid, uid, uid, uid).map(drop)
}

/// Sets the three group ids.
pub(crate) fn set_gid(gid: u32) -> SysResult<()> {
    sys!(libc::SYS_setresgid, gid, gid, gid).map(drop)
}

/// Sets the user and group by which files are opened and made; returns those before.
pub(crate) fn set_file_ids(uid: u32, gid: u32) -> (u32, u32) {
    // They never fail, and answer with what was.
    let gid = sys!(libc::SYS_setfsgid, gid).unwrap_or(0);
    let uid = sys!(libc::SYS_setfsuid, uid).unwrap_or(0);
    (uid as u32, gid as u32)
}

/// Leaves all supplementary groups.
pub(crate) fn clear_groups() -> SysResult<()> {
    sys!(libc::SYS_setgroups, 0, NULL).map(drop)
}

/// Starts a session of our own, without a terminal.
pub(crate) fn setsid() -> SysResult<()> {
    sys!(libc::SYS_setsid).map(drop)
}

/// Makes the terminal at `fd` the controlling one of this session, if it is a terminal.
pub(crate) fn take_terminal(fd: RawFd) {
    ignore(sys!(libc::SYS_ioctl, fd, libc::TIOCSCTTY, 0));
}

/// Joins a new anonymous session keyring.
pub(crate) fn new_session_keyring() -> SysResult<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    sys!(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL).map(drop)
}

/// Sets the file mode mask.
pub(crate) fn umask(mask: c_uint) {
    ignore(sys!(libc::SYS_umask, mask));
}

/// Sets the execution domain and its flags.
pub(crate) fn personality(persona: c_ulong) -> SysResult<()> {
    sys!(libc::SYS_personality, persona).map(drop)
}

/// Sets the host name.
pub(crate) fn sethostname(name: &CStr) -> SysResult<()> {
    sys!(libc::SYS_sethostname, name.as_ptr(), name.count_bytes()).map(drop)
}

/// Sets the NIS domain name.
pub(crate) fn setdomainname(name: &CStr) -> SysResult<()> {
    sys!(libc::SYS_setdomainname, name.as_ptr(), name.count_bytes()).map(drop)
}

/// The limit of `resource`: soft, hard.
pub(crate) fn get_limit(resource: u32) -> SysResult<(u64, u64)> {
    let mut limit = [0u64; 2];
    sys!(libc::SYS_prlimit64, 0, resource, NULL, limit.as_mut_ptr())?;
    Ok((limit[0], limit[1]))
}

/// Sets the limit of `resource`.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> SysResult<()> {
    let limit = [soft, hard];
    sys!(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), NULL).map(drop)
}

/// Sets the niceness of this process.
pub(crate) fn set_nice(nice: c_int) -> SysResult<()> {
    sys!(libc::SYS_setpriority, 0, 0, nice).map(drop)
}

/// Lets this process run on every processor that its cpuset has.
pub(crate) fn use_all_processors() -> SysResult<()> {
    let mask = [u64::MAX; 128];
    sys!(libc::SYS_sched_setaffinity, 0, size_of_val(&mask), mask.as_ptr()).map(drop)
}

/// Keeps this process on the processor that it is running on.
pub(crate) fn stay_on_this_processor() -> SysResult<()> {
    let mut number: c_uint = 0;
    sys!(libc::SYS_getcpu, &raw mut number, NULL, NULL)?;
    let mut mask = [0u64; 128];
    let Some(word) = mask.get_mut(number as usize / 64) else { return Ok(()) };
    *word = 1 << (number % 64);
    sys!(libc::SYS_sched_setaffinity, 0, size_of_val(&mask), mask.as_ptr()).map(drop)
}

/// The ordinary scheduling policy.
pub(crate) fn schedule_normally() -> SysResult<()> {
    let priority: c_int = 0;
    sys!(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const priority).map(drop)
}

/// Default action for every signal, and none blocked.
pub(crate) fn reset_signals() {
    // The kernel's `struct sigaction`: handler, flags, restorer, mask; zero is SIG_DFL.
    let default = [0u64; 4];
    for signal in 1..=64 {
        ignore(sys!(libc::SYS_rt_sigaction, signal, default.as_ptr(), NULL, 8));
    }
    let none = 0u64;
    ignore(sys!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, NULL, 8));
}

/// Brings `lo` up in this network namespace.
pub(crate) fn loopback_up() -> SysResult<()> {
    let socket = sys!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).map(own)?;
    // The kernel's `struct ifreq`: 16 bytes of name, then a union of 24 bytes that starts with flags.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    sys!(libc::SYS_ioctl, socket.as_raw_fd(), libc::SIOCSIFFLAGS, request.as_ptr()).map(drop)
}

/// Ends this process at once.
pub(crate) fn exit(status: c_int) -> ! {
    // SAFETY: ends the process; nothing of ours runs afterwards.
    unsafe { libc::_exit(status) }
}

/// Does nothing for less than a second.
pub(crate) fn sleep_ms(time_ms: u16) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: c_long::from(time_ms) * 1_000_000 };
    ignore(sys!(libc::SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const time, NULL));
}

/// Kills every process of this pid namespace, if we are its first; else nothing.
///
/// The kernel goes through all of them while none can be added: whoever is about to clone sees the signal
/// and does not.
pub(crate) fn kill_all_others() {
    if sys!(libc::SYS_getpid) == Ok(1) {
        ignore(sys!(libc::SYS_kill, -1, libc::SIGKILL));
    }
}

/// Waits for any child: its pid and status.
pub(crate) fn wait_any() -> SysResult<(i32, i32)> {
    let mut status: c_int = 0;
    let pid = sys!(libc::SYS_wait4, -1, &raw mut status, libc::__WALL, NULL)?;
    Ok((pid as i32, status))
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) max_rss_kib: u64,
}

/// Reaps the child `pid`: its status and what it and its own children used.
pub(crate) fn reap(pid: i32) -> SysResult<(i32, Usage)> {
    let mut status: c_int = 0;
    // SAFETY: `rusage` is plain old data, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    sys!(libc::SYS_wait4, pid, &raw mut status, libc::__WALL, &raw mut usage)?;
    let us = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
    let usage = Usage {
        user_us: us(usage.ru_utime),
        system_us: us(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss as u64,
    };
    Ok((status, usage))
}

/// Sends `signal` to the process behind `pidfd`.
pub(crate) fn pidfd_kill(pidfd: RawFd, signal: c_int) -> SysResult<()> {
    sys!(libc::SYS_pidfd_send_signal, pidfd, signal, NULL, 0).map(drop)
}

/// Sends `signal` to a child of ours that nobody else waits for.
pub(crate) fn kill(pid: i32, signal: c_int) {
    ignore(sys!(libc::SYS_kill, pid, signal));
}

/// Memory for the stack of a cloned child, with a guard page below.
#[derive(Debug)]
pub(crate) struct Stack {
    base: *mut c_void,
}

// SAFETY: the mapping is owned by this value alone; moving it between threads moves only the address.
unsafe impl Send for Stack {}

impl Stack {
    const SIZE: usize = 256 * 1024;
    const GUARD: usize = 64 * 1024;

    pub(crate) fn new() -> SysResult<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping, placed by the kernel.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), Self::SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(last_errno());
        }
        // SAFETY: the lowest pages of the mapping made above, used by nobody yet.
        if unsafe { libc::mprotect(base, Self::GUARD, libc::PROT_NONE) } != 0 {
            return Err(last_errno());
        }
        Ok(Self { base })
    }

    fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(Self::SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; children that ran on it have their own copy or are gone.
        unsafe { libc::munmap(self.base, Self::SIZE) };
    }
}

extern "C" fn enter<T: Fn()>(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the `&T` given to `clone` below, alive in both processes.
    let run = unsafe { &*argument.cast::<T>() };
    run();
    0
}

/// Clones this process with a copy of its memory; the child calls `run` and ends.
///
/// Returns pid and pidfd. Not libc's `fork`: no handlers run in the child.
pub(crate) fn clone_copy<T: Fn()>(stack: &Stack, flags: c_int, run: &T) -> SysResult<(i32, OwnedFd)> {
    let mut pidfd: c_int = -1;
    let argument = std::ptr::from_ref(run).cast_mut().cast::<c_void>();
    // SAFETY: the stack is mapped and large enough; without CLONE_VM the child works on copies. The
    // closure neither allocates nor takes locks, and ends by `_exit` or `execve`.
    let pid = unsafe {
        libc::clone(
            enter::<T>,
            stack.top(),
            flags | libc::CLONE_PIDFD | libc::SIGCHLD,
            argument,
            &raw mut pidfd,
        )
    };
    check(pid.into())?;
    Ok((pid, own(pidfd.into())))
}

/// Clones a child that shares our memory and lets us go on when it has called `execve` or ended.
pub(crate) fn clone_vfork<T: Fn()>(stack: &Stack, run: &T) -> SysResult<i32> {
    let argument = std::ptr::from_ref(run).cast_mut().cast::<c_void>();
    // SAFETY: as above; CLONE_VFORK suspends us until the child no longer uses our memory.
    let pid = unsafe {
        libc::clone(enter::<T>, stack.top(), libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, argument)
    };
    check(pid.into()).map(|pid| pid as i32)
}

/// A null-terminated array of C strings for `execve`, made before `clone`.
#[derive(Debug)]
pub(crate) struct StringArray {
    // Keeps what `pointers` point to; a CString's bytes do not move with it.
    _strings: Vec<std::ffi::CString>,
    pointers: Vec<*const c_char>,
}

impl StringArray {
    pub(crate) fn new(strings: Vec<std::ffi::CString>) -> Self {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { _strings: strings, pointers }
    }
}

/// Becomes another program. Returns only on failure.
pub(crate) fn execve(path: &CStr, args: &StringArray, env: &StringArray) -> Errno {
    match sys!(libc::SYS_execve, path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) {
        Err(errno) => errno,
        Ok(_) => Errno(0),
    }
}

// ---- walls ------------------------------------------------------------------------------------

/// Installs a seccomp filter for this process and its children.
pub(crate) fn install_filter(filter: &[libc::sock_filter]) -> SysResult<()> {
    const SECCOMP_SET_MODE_FILTER: c_uint = 1;
    const SECCOMP_FILTER_FLAG_SPEC_ALLOW: c_uint = 4;
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    sys!(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &raw const program)
        .map(drop)
}

#[repr(C)]
pub(crate) struct LandlockAttr {
    pub(crate) handled_fs: u64,
    pub(crate) handled_net: u64,
    pub(crate) scoped: u64,
}

/// The newest Landlock interface that the kernel has, 0 for none.
pub(crate) fn landlock_abi() -> u32 {
    sys!(libc::SYS_landlock_create_ruleset, NULL, 0, 1 as c_uint).map_or(0, |abi| abi as u32)
}

/// Makes a ruleset; `size` says how much of `attr` this kernel knows.
pub(crate) fn landlock_ruleset(attr: &LandlockAttr, size: usize) -> SysResult<OwnedFd> {
    sys!(libc::SYS_landlock_create_ruleset, std::ptr::from_ref(attr), size, 0 as c_uint).map(own)
}

/// Allows `access` beneath the open directory (or to the open file) `path`.
pub(crate) fn landlock_allow(ruleset: RawFd, path: RawFd, access: u64) -> SysResult<()> {
    // `struct landlock_path_beneath_attr` is packed: 8 bytes of access, 4 of descriptor.
    let mut attr = [0u8; 12];
    attr[..8].copy_from_slice(&access.to_ne_bytes());
    attr[8..].copy_from_slice(&path.to_ne_bytes());
    sys!(libc::SYS_landlock_add_rule, ruleset, 1 as c_uint, attr.as_ptr(), 0 as c_uint).map(drop)
}

/// Puts this process under `ruleset`.
pub(crate) fn landlock_restrict(ruleset: RawFd) -> SysResult<()> {
    sys!(libc::SYS_landlock_restrict_self, ruleset, 0 as c_uint).map(drop)
}

// ---- messages ---------------------------------------------------------------------------------

/// A connected pair of packet sockets.
pub(crate) fn packet_pair() -> SysResult<(OwnedFd, OwnedFd)> {
    let mut ends = [0 as c_int; 2];
    sys!(
        libc::SYS_socketpair,
        libc::AF_UNIX,
        libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
        0,
        ends.as_mut_ptr()
    )?;
    Ok((own(ends[0].into()), own(ends[1].into())))
}

const MAX_FDS: usize = 4;

#[repr(C, align(8))]
struct Control {
    header: libc::cmsghdr,
    fds: [RawFd; MAX_FDS],
}

fn retry<T>(mut call: impl FnMut() -> SysResult<T>) -> SysResult<T> {
    loop {
        match call() {
            Err(Errno(libc::EINTR)) => {}
            other => return other,
        }
    }
}

/// Sends one packet with descriptors.
pub(crate) fn send(socket: RawFd, bytes: &[u8], fds: &[BorrowedFd]) -> SysResult<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: plain old data, for which zero is a value.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let length = size_of::<libc::cmsghdr>() + size_of_val(fds);
        control.header.cmsg_len = length as _;
        control.header.cmsg_level = libc::SOL_SOCKET;
        control.header.cmsg_type = libc::SCM_RIGHTS;
        for (slot, fd) in control.fds.iter_mut().zip(fds) {
            *slot = fd.as_raw_fd();
        }
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = length.next_multiple_of(8) as _;
    }
    retry(|| sys!(libc::SYS_sendmsg, socket, &raw const message, libc::MSG_NOSIGNAL)).map(drop)
}

/// Receives one packet: its length (0 at the end) and its descriptors, in order.
pub(crate) fn receive(socket: RawFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> SysResult<usize> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: plain old data, for which zero is a value.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let length = retry(|| sys!(libc::SYS_recvmsg, socket, &raw mut message, libc::MSG_CMSG_CLOEXEC))?;
    let filled = message.msg_controllen;
    if filled >= size_of::<libc::cmsghdr>() && control.header.cmsg_type == libc::SCM_RIGHTS {
        let count = (control.header.cmsg_len - size_of::<libc::cmsghdr>()) / size_of::<RawFd>();
        fds.extend(control.fds.iter().take(count).map(|fd| own((*fd).into())));
    }
    Ok(length as usize)
}

/// Lets the other end of a socket see its end, whoever else has this one.
pub(crate) fn shut_down(socket: RawFd) {
    ignore(sys!(libc::SYS_shutdown, socket, libc::SHUT_RDWR));
}

/// What is waited for on one descriptor, and what came of it.
pub(crate) type PollFd = libc::pollfd;

/// An entry for [`poll`]: wakes when `fd` can be read, or its other end is gone.
pub(crate) fn readable(fd: RawFd) -> PollFd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Waits until one of `fds` is ready or the time is over (`None`: for ever). A signal ends the wait early.
pub(crate) fn poll(fds: &mut [PollFd], timeout_ms: Option<u64>) -> SysResult<usize> {
    // The kernel writes the time that is left back into it.
    let mut time = timeout_ms.map(|ms| libc::timespec {
        tv_sec: (ms / 1000) as libc::time_t,
        tv_nsec: (ms % 1000 * 1_000_000) as _,
    });
    let time_pointer = time.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    match sys!(libc::SYS_ppoll, fds.as_mut_ptr(), fds.len(), time_pointer, NULL, 0) {
        Err(Errno(libc::EINTR)) => Ok(0),
        other => other.map(|n| n as usize),
    }
}
