//! What happens between `clone` and `execve`: the child makes its own world and locks itself in.
//!
//! The child is pid 1 of its pid namespace. It sets everything up, starts the builder as pid 2 and
//! reaps whatever is orphaned. When the builder ends, it kills what is left, waits until nobody is, and
//! says so: then outputs can be read, while the kernel takes the namespaces down. Should it end in any
//! other way, the kernel kills the rest of the namespace before its end is seen.
//!
//! Nothing here allocates: all strings were made by the spawner ([`Prepared`]). The spawner has one
//! thread, so that would be sound; the rule also keeps the child quick.
//!
//! The order is not free. Mounts of the host are opened first, while we are still the user who may
//! open them; then we become the build's user, and only then make files, since a file system of our
//! user namespace knows that user alone. Capabilities go last but for what needs none: `no_new_privs`,
//! Landlock, the filter.

use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ampoule_store::Tier;

use super::spec::{BindSource, INNER_GID, INNER_UID, Prepared, PreparedBind, PreparedKind, lies_below};
use super::step::Step;
use super::sys::{
    self, CWD, Errno, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, Stack,
    StringArray, SysResult,
};
use super::{landlock, limits, wire};

/// What the child needs besides its spec.
pub(crate) struct Context<'a> {
    pub(crate) plan: &'a Prepared,
    pub(crate) args: &'a StringArray,
    pub(crate) env: &'a StringArray,
    pub(crate) filter: &'a [libc::sock_filter],
    pub(crate) landlock_abi: u32,
    /// Whether we were born into a network of our own.
    pub(crate) has_network: bool,
    /// What the root lacks that we were born into a copy of; nothing where we make all of it.
    pub(crate) trees: Option<&'a Trees>,
    /// Our end of the pipe on which the spawner says that the id maps are written, and by whose
    /// closing we know that it died.
    pub(crate) release: RawFd,
    /// The spawner's end of it, to be closed here.
    pub(crate) release_other: RawFd,
    pub(crate) report: RawFd,
    pub(crate) log: RawFd,
    pub(crate) stack: &'a Stack,
}

/// A step that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
    /// Which of several: of the inputs for `MountInput`; for `Execute`, 1 when the file is there.
    pub(crate) index: u32,
}

/// Names the step of a system call that fails.
fn at<T>(step: Step, result: SysResult<T>) -> Result<T, Failure> {
    result.map_err(|errno| Failure { step, errno, index: 0 })
}

fn at_index<T>(step: Step, index: usize, result: SysResult<T>) -> Result<T, Failure> {
    result.map_err(|errno| Failure { step, errno, index: index as u32 })
}

/// Where the report goes after the standard streams are in place.
const REPORT_FD: RawFd = 3;

/// The child's whole life. Never returns.
pub(crate) fn run(context: &Context) {
    let prepared = match context.plan.tier {
        Tier::Namespaces => enter_namespaces(context),
        Tier::Landlock | Tier::None => enter_without_namespaces(context),
    };
    let started = prepared.and_then(|()| {
        arrange_streams(context)?;
        lock_in(context)?;
        Ok(())
    });
    if let Err(failure) = started {
        // The streams may be in place already or not; one of the two is the report.
        wire::send_failure(REPORT_FD, failure);
        wire::send_failure(context.report, failure);
        sys::exit(1);
    }
    if context.plan.builder.is_empty() {
        wire::send_exited(REPORT_FD, 0);
        sys::exit(0);
    }
    start_and_reap(context)
}

fn die_with_spawner(context: &Context) -> SysResult<()> {
    sys::die_with_parent()?;
    // It may have died before we asked: then the pipe's other end is closed.
    let mut fds = [libc::pollfd { fd: context.release, events: 0, revents: 0 }];
    sys::poll(&mut fds, Some(0))?;
    if fds[0].revents & libc::POLLHUP != 0 { Err(Errno(libc::EPIPE)) } else { Ok(()) }
}

fn wait_for_release(context: &Context) -> SysResult<()> {
    sys::close(context.release_other);
    sys::die_with_parent()?;
    let mut byte = [0];
    loop {
        match sys::read(context.release, &mut byte) {
            Ok(1) => return Ok(()),
            Ok(_) => return Err(Errno(libc::EPIPE)),
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
        }
    }
}

// ---- tier: namespaces -------------------------------------------------------------------------

pub(crate) const READ_ONLY: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
const OWN: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

/// Device, where it is mounted.
const DEVICES: [(&CStr, &CStr); 6] = [
    (c"/dev/null", c"dev/null"),
    (c"/dev/zero", c"dev/zero"),
    (c"/dev/full", c"dev/full"),
    (c"/dev/random", c"dev/random"),
    (c"/dev/urandom", c"dev/urandom"),
    (c"/dev/tty", c"dev/tty"),
];

const DEV_LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];

fn enter_namespaces(context: &Context) -> Result<(), Failure> {
    let plan = context.plan;
    at(Step::IdMap, wait_for_release(context))?;
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    at(Step::MountNamespace, sys::unshare(namespaces))?;
    if !context.has_network {
        at(Step::NetworkNamespace, sys::unshare(libc::CLONE_NEWNET))?;
        at(Step::Loopback, sys::loopback_up())?;
    }
    if plan.has_uplink {
        at(Step::Uplink, wire::wait_for_uplink(context.report))?;
    }
    at(Step::HostName, sys::sethostname(c"localhost"))?;
    at(Step::HostName, sys::setdomainname(c"(none)"))?;
    at(Step::PrivateMounts, sys::make_mounts_private())?;
    if let Some(trees) = context.trees {
        become_builder(context)?;
        sys::umask(0);
        mount_own(plan, trees, &Inputs::Opened(&trees.inputs))?;
    } else {
        let top = open_top(plan)?;
        let store = at(
            Step::OpenDirectories,
            sys::openat(CWD, &plan.store_root, libc::O_PATH | libc::O_DIRECTORY, 0),
        )?;
        let trees = Trees::open_own(&top)?;
        let devices = Devices::open()?;
        become_builder(context)?;
        sys::umask(0);
        let root = make_root(plan, &top, &devices)?;
        mount_own(plan, &trees, &Inputs::Below(store.as_raw_fd()))?;
        settle_in(&root)?;
    }
    at(Step::PivotRoot, sys::chdir(c"/"))
}

/// What a build sees of the host, as detached mounts.
pub(crate) struct Trees {
    outputs: OwnedFd,
    build: OwnedFd,
    tmp: OwnedFd,
    /// One for each bind, but for symlinks.
    inputs: Vec<Option<OwnedFd>>,
}

impl Trees {
    /// Opens them all.
    pub(crate) fn open(plan: &Prepared) -> Result<Self, Failure> {
        let mut trees = Self::open_own(&open_top(plan)?)?;
        let store = sys::openat(CWD, &plan.store_root, libc::O_PATH | libc::O_DIRECTORY, 0);
        let store = at(Step::OpenDirectories, store)?;
        trees.inputs.reserve(plan.binds.len());
        for (index, bind) in plan.binds.iter().enumerate() {
            let tree = match bind.kind {
                PreparedKind::Symlink(_) => None,
                _ => Some(at_index(Step::MountInput, index, open_input(bind, store.as_raw_fd()))?),
            };
            trees.inputs.push(tree);
        }
        Ok(trees)
    }

    /// Opens the build's own directories.
    fn open_own(top: &OwnedFd) -> Result<Self, Failure> {
        let step = Step::OpenDirectories;
        let own = |name: &CStr| {
            let tree = at(step, sys::open_tree(top.as_raw_fd(), name))?;
            at(step, sys::mount_setattr(tree.as_raw_fd(), OWN, true))?;
            Ok(tree)
        };
        Ok(Self { outputs: own(c"store")?, build: own(c"build")?, tmp: own(c"tmp")?, inputs: Vec::new() })
    }
}

/// Where the trees of inputs come from.
enum Inputs<'a> {
    Opened(&'a [Option<OwnedFd>]),
    /// From below the store, which is open here.
    Below(RawFd),
}

/// The devices that a build sees, as detached mounts.
pub(crate) struct Devices([OwnedFd; DEVICES.len()]);

impl Devices {
    pub(crate) fn open() -> Result<Self, Failure> {
        let device = |index: usize| {
            let step = Step::OpenDevice;
            let tree = at_index(step, index, sys::open_tree(CWD, DEVICES[index].0))?;
            let attr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
            at_index(step, index, sys::mount_setattr(tree.as_raw_fd(), attr, false))?;
            Ok(tree)
        };
        Ok(Self([device(0)?, device(1)?, device(2)?, device(3)?, device(4)?, device(5)?]))
    }
}

/// Opens the directory on which a new root can be mounted.
pub(crate) fn open_top(plan: &Prepared) -> Result<OwnedFd, Failure> {
    at(Step::OpenDirectories, sys::openat(CWD, &plan.top_dir, libc::O_PATH | libc::O_DIRECTORY, 0))
}

fn become_builder(context: &Context) -> Result<(), Failure> {
    let step = Step::Identity;
    let identity = context.plan.identity;
    if identity.foreign {
        at(step, sys::clear_groups())?;
    }
    at(step, sys::set_gid(INNER_GID))?;
    at(step, sys::set_uid(INNER_UID))?;
    // A change of credentials clears what was asked for at the start.
    at(step, die_with_spawner(context))
}

/// Makes a root with everything in it that is the same for every build of its shape, and goes there.
///
/// It is mounted on `top`, in a mount namespace that is ours alone.
pub(crate) fn make_root(plan: &Prepared, top: &OwnedFd, devices: &Devices) -> Result<OwnedFd, Failure> {
    let root = at(Step::Root, sys::new_file_system(c"tmpfs", &[(c"mode", c"0755")], OWN))?;
    at(Step::Root, sys::move_mount(root.as_raw_fd(), top.as_raw_fd(), c""))?;
    at(Step::Root, sys::fchdir(root.as_raw_fd()))?;
    for path in [c"tmp", &plan.build_dir] {
        at(Step::MountOutputs, sys::mkdir(path, 0o755))?;
    }
    for (index, path) in plan.directories.iter().enumerate().filter(|(_, path)| !plan.is_own(path)) {
        at_index(Step::RootDirectory, index, sys::mkdir(path, 0o755))?;
    }
    for (index, bind) in plan.points() {
        at_index(Step::MountInput, index, make_point(bind))?;
    }
    for (index, (path, contents)) in plan.files.iter().enumerate() {
        let made = if plan.binds.iter().any(|bind| lies_below(path, &bind.target)) {
            // What is mounted there is no place of ours.
            Err(Errno(libc::EROFS))
        } else {
            sys::write_file(path, contents, libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW)
        };
        at_index(Step::EtcFiles, index, made)?;
    }
    for (index, (path, target)) in plan.symlinks.iter().enumerate() {
        at_index(Step::EtcFiles, index, sys::symlink(target, path))?;
    }
    for (index, (tree, (_, path))) in devices.0.iter().zip(DEVICES).enumerate() {
        at_index(Step::Devices, index, sys::make_file(path))?;
        at_index(Step::Devices, index, sys::move_mount(tree.as_raw_fd(), CWD, path))?;
    }
    for (target, path) in DEV_LINKS {
        at(Step::Devices, sys::symlink(target, path))?;
    }
    Ok(root)
}

/// Makes the root that we have gone to `/`, and the only thing that there is.
pub(crate) fn settle_in(root: &OwnedFd) -> Result<(), Failure> {
    at(Step::PivotRoot, sys::pivot_root_here())?;
    at(Step::ReadOnlyRoot, sys::mount_setattr(root.as_raw_fd(), MOUNT_ATTR_RDONLY, false))
}

/// Mounts what belongs to this build alone, below the current directory.
fn mount_own(plan: &Prepared, trees: &Trees, inputs: &Inputs) -> Result<(), Failure> {
    // First what a store's own place may lie below.
    for (tree, path) in [(&trees.tmp, c"tmp"), (&trees.build, plan.build_dir.as_c_str())] {
        at(Step::MountOutputs, sys::move_mount(tree.as_raw_fd(), CWD, path))?;
    }
    for (index, path) in plan.directories.iter().enumerate().filter(|(_, path)| plan.is_own(path)) {
        at_index(Step::RootDirectory, index, sys::mkdir(path, 0o755))?;
    }
    at(Step::MountOutputs, sys::move_mount(trees.outputs.as_raw_fd(), CWD, &plan.store_dir))?;
    for (index, bind) in plan.binds.iter().enumerate() {
        at_index(Step::MountInput, index, mount_input(plan, index, bind, inputs))?;
    }
    let quiet = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    let options = [(c"newinstance", c""), (c"ptmxmode", c"0666"), (c"mode", c"0620")];
    let terminals = at(Step::Terminals, sys::new_file_system(c"devpts", &options, quiet))?;
    at(Step::Terminals, sys::move_mount(terminals.as_raw_fd(), CWD, c"dev/pts"))?;
    let options = [(c"mode", c"1777"), (c"size", c"50%")];
    let shm = at(Step::SharedMemory, sys::new_file_system(c"tmpfs", &options, OWN))?;
    at(Step::SharedMemory, sys::move_mount(shm.as_raw_fd(), CWD, c"dev/shm"))?;
    mount_proc(plan)
}

/// Makes what a bind is mounted on, or the link that it is.
fn make_point(bind: &PreparedBind) -> SysResult<()> {
    match &bind.kind {
        PreparedKind::Symlink(target) => sys::symlink(target, &bind.target),
        PreparedKind::Directory => sys::mkdir(&bind.target, 0o755),
        PreparedKind::File => sys::make_file(&bind.target),
    }
}

fn open_input(bind: &PreparedBind, store: RawFd) -> SysResult<OwnedFd> {
    let tree = sys::open_tree(if bind.from_store { store } else { CWD }, &bind.source)?;
    sys::mount_setattr(tree.as_raw_fd(), READ_ONLY, true)?;
    Ok(tree)
}

fn mount_input(plan: &Prepared, index: usize, bind: &PreparedBind, inputs: &Inputs) -> SysResult<()> {
    if plan.is_own(&bind.target) {
        make_point(bind)?;
    }
    if let PreparedKind::Symlink(_) = bind.kind {
        return Ok(());
    }
    let opened;
    let tree = match inputs {
        Inputs::Opened(trees) => trees.get(index).and_then(Option::as_ref).ok_or(Errno(libc::EBADF))?,
        Inputs::Below(store) => {
            opened = open_input(bind, *store)?;
            &opened
        }
    };
    sys::move_mount(tree.as_raw_fd(), CWD, &bind.target)
}

/// Mounts all of `/proc`, of our own pid namespace.
pub(crate) fn mount_whole_proc() -> SysResult<()> {
    mount_proc_with(&[])
}

fn mount_proc_with(options: &[(&CStr, &CStr)]) -> SysResult<()> {
    let attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let tree = sys::new_file_system(c"proc", options, attr)?;
    sys::move_mount(tree.as_raw_fd(), CWD, c"proc")
}

/// Mounts `/proc` of our own pid namespace. Where the outer `/proc` is masked, as in containers, the
/// kernel allows only the part that shows processes.
fn mount_proc(plan: &Prepared) -> Result<(), Failure> {
    let mounted = match mount_whole_proc() {
        Err(Errno(libc::EPERM)) => mount_proc_with(&[(c"subset", c"pid")]),
        other => other,
    };
    at(Step::Proc, mounted)?;
    if plan.has_high_pids {
        // Where it is refused, numbers are as they always are: fewer builders are found out.
        sys::ignore(sys::write_file(c"proc/sys/kernel/ns_last_pid", b"20000", 0));
    }
    if plan.identity.uid == 0 {
        // A container's only user may own `/proc/sys`: cover what can be written.
        for path in [c"proc/sys", c"proc/sysrq-trigger", c"proc/irq", c"proc/bus"] {
            let Ok(cover) = sys::open_tree(CWD, path) else { continue };
            at(Step::Proc, sys::mount_setattr(cover.as_raw_fd(), READ_ONLY, true))?;
            at(Step::Proc, sys::move_mount(cover.as_raw_fd(), CWD, path))?;
        }
    }
    if !plan.identity.foreign {
        // Names of the caller's own keys would show: the build is that user.
        for path in [c"proc/keys", c"proc/key-users"] {
            let Ok(nothing) = sys::open_tree(CWD, c"dev/null") else { continue };
            match sys::move_mount(nothing.as_raw_fd(), CWD, path) {
                // A kernel without keys, or a masked `/proc`.
                Ok(()) | Err(Errno(libc::ENOENT)) => {}
                Err(errno) => return at(Step::Proc, Err(errno)),
            }
        }
    }
    Ok(())
}

// ---- tiers: landlock, none --------------------------------------------------------------------

fn enter_without_namespaces(context: &Context) -> Result<(), Failure> {
    at(Step::IdMap, wait_for_release(context))?;
    at(Step::StartBuilder, sys::setsid())?;
    at(Step::StartBuilder, sys::become_subreaper())?;
    sys::ignore(sys::write_file(c"/proc/self/oom_score_adj", b"1000", 0));
    let identity = context.plan.identity;
    if identity.foreign {
        let step = Step::Identity;
        at(step, sys::clear_groups())?;
        at(step, sys::set_gid(identity.gid))?;
        at(step, sys::set_uid(identity.uid))?;
        at(step, die_with_spawner(context))?;
    }
    Ok(())
}

/// What every program needs that is not in the store, when there is no root of our own.
const LANDLOCK_DEVICES: [&CStr; 6] =
    [c"/dev/null", c"/dev/zero", c"/dev/full", c"/dev/random", c"/dev/urandom", c"/dev/tty"];

fn confine_without_namespaces(context: &Context) -> SysResult<()> {
    let plan = context.plan;
    let store = sys::openat(CWD, &plan.store_root, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let allowed = |dir, path, writable, directory| landlock::Allowed { dir, path, writable, directory };
    let inputs =
        plan.binds.iter().filter(|bind| !matches!(bind.kind, PreparedKind::Symlink(_))).map(|bind| {
            let dir = if bind.from_store { store.as_raw_fd() } else { CWD };
            allowed(dir, bind.source.as_c_str(), false, matches!(bind.kind, PreparedKind::Directory))
        });
    let devices = LANDLOCK_DEVICES.into_iter().map(|path| allowed(CWD, path, true, false));
    let own = [allowed(CWD, plan.top_dir.as_c_str(), true, true)];
    landlock::confine_to(context.landlock_abi, inputs.chain(devices).chain(own))
}

// ---- both -------------------------------------------------------------------------------------

/// 0: nothing to read; 1 and 2: the log; 3: the report, closed by exec. Nothing else is open.
fn arrange_streams(context: &Context) -> Result<(), Failure> {
    let step = Step::StandardStreams;
    let report = at(step, sys::dup_above(context.report, 10))?;
    let log = at(step, sys::dup_above(context.log, 10))?;
    let release = at(step, sys::dup_above(context.release, 10))?;
    if context.plan.interactive {
        at(step, sys::dup_to(log, 0, false))?;
    } else {
        let null = at(step, sys::openat(CWD, c"/dev/null", libc::O_RDONLY, 0))?;
        let null = at(step, sys::dup_above(null.as_raw_fd(), 10))?;
        at(step, sys::dup_to(null, 0, false))?;
    }
    at(step, sys::dup_to(log, 1, false))?;
    at(step, sys::dup_to(log, 2, false))?;
    at(step, sys::dup_to(report, REPORT_FD, true))?;
    let _ = release;
    at(step, sys::close_from(REPORT_FD + 1))
}

/// Gives up everything that is left to give up. Pid 1 does it too, so that nothing is won by
/// breaking into it.
fn lock_in(context: &Context) -> Result<(), Failure> {
    let plan = context.plan;
    // Without a user namespace all processes of this user count, not only the build's.
    if plan.tier == Tier::Namespaces || plan.identity.foreign {
        at(Step::Limits, limits::set_processes())?;
    }
    sys::umask(0o022);
    // Address randomisation off, where the kernel lets us; a container may not.
    const ADDR_NO_RANDOMIZE: libc::c_ulong = 0x0004_0000;
    const PER_LINUX32: libc::c_ulong = 0x0008;
    let persona = ADDR_NO_RANDOMIZE | if plan.linux32 { PER_LINUX32 } else { 0 };
    sys::ignore(sys::personality(persona));
    // Refused when the user's quota of keys is used up; the filter keeps the keyring out of reach.
    sys::ignore(sys::new_session_keyring());
    if plan.tier == Tier::None {
        return at(Step::PivotRoot, sys::chdir(&plan.build_dir_absolute));
    }
    at(Step::Capabilities, sys::drop_capabilities())?;
    at(Step::Capabilities, sys::set_undumpable())?;
    at(Step::PivotRoot, sys::chdir(&plan.build_dir_absolute))?;
    at(Step::NoNewPrivileges, sys::no_new_privileges())?;
    refuse_magic_builder(plan)?;
    at(
        Step::Landlock,
        match plan.tier {
            Tier::Namespaces => landlock::confine_to_root(context.landlock_abi),
            _ => confine_without_namespaces(context),
        },
    )?;
    at(Step::Filter, sys::install_filter(context.filter))
}

/// A builder must be a file of the sandbox. `/proc/self/exe` would be our own.
fn refuse_magic_builder(plan: &Prepared) -> Result<(), Failure> {
    if plan.builder.is_empty() {
        return Ok(());
    }
    match sys::open_without_magic_links(&plan.builder) {
        // Before Linux 5.6; there is no Landlock either, and the spawner runs from a sealed copy.
        Ok(_) | Err(Errno(libc::ENOSYS)) => Ok(()),
        Err(errno) => Err(Failure { step: Step::Execute, errno, index: 0 }),
    }
}

/// Becomes the builder; returns why not. A builder that was written a moment ago, by this process or another, may still
/// be open in a child that somebody cloned meanwhile and that has not yet become another program: the kernel calls that
/// busy, and it passes.
fn execute_when_written(context: &Context) -> Errno {
    const TRIES: usize = 400;
    let mut errno = Errno(0);
    for _ in 0..TRIES {
        errno = sys::execve(&context.plan.builder, context.args, context.env);
        if errno != Errno(libc::ETXTBSY) {
            break;
        }
        sys::sleep_ms(5);
    }
    errno
}

/// Starts the builder and reaps until it ends.
fn start_and_reap(context: &Context) -> ! {
    let errno = Cell::new(Errno(0));
    let interactive = context.plan.interactive;
    let execute = || {
        sys::ignore(sys::die_with_parent());
        sys::ignore(sys::setsid());
        sys::ignore(sys::use_all_processors());
        if interactive {
            sys::take_terminal(0);
        }
        errno.set(execute_when_written(context));
        sys::exit(127);
    };
    let builder = match sys::clone_vfork(context.stack, &execute) {
        Ok(pid) => pid,
        Err(errno) => {
            wire::send_failure(REPORT_FD, Failure { step: Step::StartBuilder, errno, index: 0 });
            sys::exit(1);
        }
    };
    // The child shared our memory until now: its error is ours to report.
    if errno.get() != Errno(0) {
        wire::send_failure(REPORT_FD, Failure { step: Step::Execute, errno: errno.get(), index: 1 });
        sys::exit(1);
    }
    sys::close(0);
    sys::close(1);
    let is_sealed = context.plan.tier == Tier::Namespaces;
    let mut ended = None;
    loop {
        match sys::wait_any() {
            Ok((pid, status)) if pid == builder => {
                ended = Some(status);
                if !is_sealed {
                    break;
                }
                sys::kill_all_others();
            }
            Ok(_) | Err(Errno(libc::EINTR)) => {}
            // No child is left, and all others of the namespace were ours by now: we are alone.
            Err(_) => break,
        }
    }
    // Whoever reads the log sees its end now: when it has nothing more to wait for than the end itself.
    sys::close(2);
    match ended {
        Some(status) => {
            wire::send_exited(REPORT_FD, status);
            sys::exit(0);
        }
        None => sys::exit(1),
    }
}

/// Says which device a failure's index means.
pub(crate) fn device_name(index: u32) -> &'static str {
    DEVICES.get(index as usize).and_then(|(path, _)| path.to_str().ok()).unwrap_or("/dev")
}

/// Says which input a failure's index means.
pub(crate) fn bind_name(source: &BindSource) -> String {
    match source {
        BindSource::Store(path) | BindSource::Host(path) => path.display().to_string(),
    }
}
