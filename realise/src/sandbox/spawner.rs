//! The spawner: a small process of one thread that makes the sandboxes.
//!
//! Cloning a process copies its page tables, and an evaluator may have gigabytes of them; cloning a
//! process of many threads leaves locks held for ever. So the realiser does neither: it starts this
//! program once more, as a process that stays small, and sends it what to make.
//!
//! ```text
//! realiser ───────request, report socket, log pipe──────▶ spawner ──clone──▶ pid 1 of the sandbox ──▶ builder
//!     ▲                                                     │                   │
//!     └──────────────── report socket ◀── started, reaped ──┴── failed, exited ─┘
//! ```
//!
//! If the realiser dies, its end of the control socket closes: the spawner kills what it started and
//! ends. If the spawner dies, each sandbox's pid 1 gets SIGKILL, and with it its whole pid namespace.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ampoule_store::Tier;

use super::child::{self, Context, Failure, Trees};
use super::error::SandboxError;
use super::network::{Network, Networks};
use super::roots::Roots;
use super::spec::{Identity, Prepared, SandboxSpec};
use super::step::Step;
use super::sys::{self, Errno, PollFd, Stack, StringArray};
use super::wire::{self, Report};
use super::{landlock_abi, limits, seccomp};

/// The argument by which a program is asked to be a spawner.
pub const SPAWNER_ARGUMENT: &str = "__sandbox";

// ---- the realiser's side ----------------------------------------------------------------------

/// A running spawner. Dropping it ends every build that it started.
#[derive(Debug)]
pub struct Spawner {
    control: Arc<OwnedFd>,
    next_id: AtomicU32,
    process: Child,
}

impl Spawner {
    /// Starts `program` as a spawner; it must call [`serve_if_asked`] first thing.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(program: &std::path::Path) -> Result<Self, SandboxError> {
        // Landlock is what keeps builds from running or changing this very program.
        if landlock_abi() < 2 { Self::start_copy(program) } else { Self::start_file(program) }
    }

    /// Starts a copy of `program` that lies in memory and that nobody can change, for kernels without
    /// Landlock.
    ///
    /// # Errors
    /// As [`Spawner::start`].
    pub fn start_copy(program: &std::path::Path) -> Result<Self, SandboxError> {
        let copy = sealed_copy(program).map_err(|error| SandboxError::starting(program, &error))?;
        Self::start_file(&PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())))
    }

    fn start_file(program: &std::path::Path) -> Result<Self, SandboxError> {
        let failed = |error: io::Error| SandboxError::starting(program, &error);
        let (ours, theirs) = sys::packet_pair().map_err(|errno| failed(errno.into()))?;
        // Opened here, so that a machine without it is told what it lacks.
        let null = File::options().write(true).open("/dev/null").map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            SandboxError::at_step(Step::OpenDevice, errno, "/dev/null".to_owned())
        })?;
        let process = Command::new(program)
            .arg0("ampoule-sandbox")
            .arg(SPAWNER_ARGUMENT)
            .env_clear()
            .current_dir("/")
            // Not the terminal's group: ^C is the realiser's business.
            .process_group(0)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(null))
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(failed)?;
        Ok(Self { control: Arc::new(ours), next_id: AtomicU32::new(0), process })
    }

    /// The program that is running now, which [`serve_if_asked`] can turn into a spawner.
    #[must_use]
    pub fn own_program() -> PathBuf {
        PathBuf::from("/proc/self/exe")
    }

    /// Starts one sandbox; what the build prints goes to `log`.
    ///
    /// # Errors
    /// If the request cannot be handed over. What goes wrong in the set-up comes as an event.
    pub fn spawn(&self, spec: &SandboxSpec, log: OwnedFd) -> Result<Sandbox, SandboxError> {
        let failed = |errno: Errno| SandboxError::at_step(Step::ReadRequest, errno.0, String::new());
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = spec.encode(&wire::order(wire::START, id));
        let (ours, theirs) = sys::packet_pair().map_err(failed)?;
        let control = self.control.as_raw_fd();
        if request.len() <= wire::LONGEST_ORDER {
            sys::send(control, &request, &[theirs.as_fd(), log.as_fd()]).map_err(failed)?;
        } else {
            let (head, rest) = request.split_at(wire::ORDER_SIZE);
            let mut file = File::from(sys::memfd(c"sandbox request").map_err(failed)?);
            file.write_all(rest).map_err(|error| failed(Errno(error.raw_os_error().unwrap_or(libc::EIO))))?;
            sys::send(control, head, &[theirs.as_fd(), log.as_fd(), file.as_fd()]).map_err(failed)?;
        }
        let control = Arc::clone(&self.control);
        Ok(Sandbox { control, id, report: ours, pid: None, spec: spec.clone() })
    }
}

impl Spawner {
    /// Ends it, and every build that it started, without waiting for that.
    pub fn end(&self) {
        sys::shut_down(self.control.as_raw_fd());
    }
}

fn sealed_copy(program: &std::path::Path) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(memfd_create("ampoule-sandbox", flags)?);
    io::copy(&mut File::open(program)?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy)
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.end();
        drop(self.process.wait());
    }
}

/// One sandbox, from its start to the moment when nothing of it lives.
#[derive(Debug)]
pub struct Sandbox {
    control: Arc<OwnedFd>,
    /// What the spawner knows it by.
    id: u32,
    report: OwnedFd,
    pid: Option<i32>,
    spec: SandboxSpec,
}

/// What is heard of a sandbox.
#[derive(Debug)]
pub enum SandboxEvent {
    /// Its pid 1 exists; the number is ours, not its own. Told only where a network is to be connected.
    Started(i32),
    /// Its network is made and leads nowhere; it waits for [`Sandbox::go_on`].
    WantsUplink,
    /// The set-up failed, or the builder could not be executed.
    Failed(SandboxError),
    /// The builder ended with this wait status. See [`Sandbox::ends_alone`] for whether others live yet.
    Exited(i32),
    /// Every process of the sandbox is dead.
    Gone(Usage),
}

/// What a build used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode.
    pub user_us: u64,
    /// Processor time in the kernel.
    pub system_us: u64,
    /// The largest process.
    pub max_rss_kib: u64,
}

impl Sandbox {
    /// The descriptor that becomes readable when there is an event.
    #[must_use]
    pub fn event_fd(&self) -> RawFd {
        self.report.as_raw_fd()
    }

    /// Waits for the next event. `Gone` is the last.
    ///
    /// # Errors
    /// If the spawner has died.
    pub fn next_event(&mut self) -> Result<SandboxEvent, SandboxError> {
        let report = wire::receive_report(&self.report)
            .map_err(|error| SandboxError::lost(error.raw_os_error().unwrap_or(libc::EIO)))?;
        match report {
            Report::Started { pid } => {
                self.pid = Some(pid);
                Ok(SandboxEvent::Started(pid))
            }
            Report::WantsUplink => Ok(SandboxEvent::WantsUplink),
            Report::Failed(failure) => Ok(SandboxEvent::Failed(SandboxError::explain(failure, &self.spec))),
            Report::Exited { status } => Ok(SandboxEvent::Exited(status)),
            Report::Reaped { usage } => Ok(SandboxEvent::Gone(Usage {
                user_us: usage.user_us,
                system_us: usage.system_us,
                max_rss_kib: usage.max_rss_kib,
            })),
            Report::Lost => Err(SandboxError::lost(0)),
        }
    }

    /// Its pid 1, as this machine counts; nothing until it is told.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Whether the builder's end is told when no process of the build lives any more, but for the one that
    /// tells it and has nothing left to do. `Gone` follows when that one has ended too.
    ///
    /// A control group has to wait for `Gone`: it can be removed only when it is empty.
    #[must_use]
    pub fn ends_alone(&self) -> bool {
        self.spec.tier == Tier::Namespaces && self.spec.group.is_none()
    }

    /// Lets a build that waits for its network go on.
    pub fn go_on(&self) {
        wire::send_uplink(&self.report);
    }

    /// Kills every process of the sandbox; the `Gone` event still comes.
    pub fn kill(&self) {
        // If the spawner is gone, so is the sandbox.
        sys::ignore(sys::send(self.control.as_raw_fd(), &wire::order(wire::KILL, self.id), &[]));
    }
}

/// Waits until one of two descriptors can be read, or its other end is closed; -1 is never ready.
#[must_use]
pub fn wait_readable(fds: [RawFd; 2], at_most: std::time::Duration) -> [bool; 2] {
    let mut polled = fds.map(sys::readable);
    sys::ignore(sys::poll(&mut polled, Some(u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX))));
    polled.map(|fd| fd.revents != 0)
}

// ---- the spawner's side -----------------------------------------------------------------------

/// Becomes a spawner if this process was started as one. Call it first in `main`.
///
/// Does nothing otherwise. Does not return when it serves.
pub fn serve_if_asked() {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|first| first == SPAWNER_ARGUMENT) && args.next().is_none() {
        let status = serve().map_or(1, |()| 0);
        sys::exit(status);
    }
}

struct Running {
    /// What the realiser calls it.
    id: u32,
    pid: i32,
    pidfd: OwnedFd,
    report: OwnedFd,
    /// Whether the end of its pid 1 is the end of all its processes.
    is_sealed: bool,
    /// Closed when this goes: the child can tell that we died.
    _release: OwnedFd,
    /// The network that it is in, if it is one of ours.
    network: Option<Network>,
}

const CONTROL: RawFd = 0;

struct Server {
    filter: Vec<libc::sock_filter>,
    /// For builds in the host's network namespace.
    strict_filter: Vec<libc::sock_filter>,
    landlock_abi: u32,
    stack: Stack,
    child_stack: Stack,
    running: Vec<Running>,
    /// How many were asked for.
    builds: u32,
    /// Whether we stay on one processor for now.
    is_placed: bool,
    /// Where orders are received.
    buffer: Vec<u8>,
    /// Stores that root has mounted for the builds' user, or has tried to.
    mapped_stores: Vec<CString>,
    networks: Networks,
    roots: Roots,
    /// Whether we have tried to have a user namespace of our own.
    has_tried_rights: bool,
}

fn serve() -> Result<(), Errno> {
    sys::reset_signals();
    limits::set_inherited();
    sys::become_subreaper()?;
    sys::dup_to(CONTROL, CONTROL, true)?;
    let mut server = Server {
        filter: seccomp::filter(seccomp::OWN_NETWORK),
        strict_filter: seccomp::filter(seccomp::NO_NETWORK),
        landlock_abi: landlock_abi(),
        stack: Stack::new()?,
        child_stack: Stack::new()?,
        running: Vec::new(),
        builds: 0,
        is_placed: false,
        buffer: vec![0; wire::LONGEST_ORDER],
        mapped_stores: Vec::new(),
        networks: Networks::default(),
        roots: Roots::default(),
        has_tried_rights: false,
    };
    loop {
        let mut fds: Vec<PollFd> = vec![sys::readable(CONTROL)];
        fds.extend(server.running.iter().map(|running| sys::readable(running.pidfd.as_raw_fd())));
        sys::poll(&mut fds, None)?;
        // From the end, so that removing one does not move those not yet looked at.
        for index in (1..fds.len()).rev() {
            if fds[index].revents != 0 {
                let done = server.running.swap_remove(index - 1);
                let (status, usage) = sys::reap(done.pid)?;
                if !done.is_sealed {
                    server.kill_orphans();
                }
                wire::send_reaped(&done.report, status, usage);
                // While the realiser looks at the outputs.
                if let Some(network) = done.network {
                    server.networks.give_back(network);
                }
            }
        }
        if fds[0].revents != 0 && !server.take_request()? {
            return Ok(());
        }
    }
}

impl Server {
    /// Kills what a build without namespaces left running: its orphans are our children by now.
    fn kill_orphans(&self) {
        loop {
            let listed = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
            let orphans: Vec<i32> = listed
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .filter(|pid| self.running.iter().all(|running| running.pid != *pid))
                .collect();
            if orphans.is_empty() {
                return;
            }
            for pid in orphans {
                sys::kill(pid, libc::SIGKILL);
                sys::ignore(sys::reap(pid));
            }
        }
    }

    /// Takes one request; false when the realiser is gone.
    fn take_request(&mut self) -> Result<bool, Errno> {
        let mut fds = Vec::new();
        let length = match sys::receive(CONTROL, &mut self.buffer, &mut fds) {
            Err(Errno(libc::ECONNRESET)) => 0,
            other => other?,
        };
        if length == 0 {
            for running in &self.running {
                sys::ignore(sys::pidfd_kill(running.pidfd.as_raw_fd(), libc::SIGKILL));
            }
            // Who waits for us has waited for them, and for what builds without namespaces left to us.
            for running in std::mem::take(&mut self.running) {
                sys::ignore(sys::reap(running.pid));
            }
            self.kill_orphans();
            return Ok(false);
        }
        let Some((kind, id)) = wire::read_order(&self.buffer[..length]) else { return Ok(true) };
        if kind == wire::KILL {
            // One that has ended meanwhile is not ours to kill: nobody has its number any more.
            for running in self.running.iter().filter(|running| running.id == id) {
                sys::ignore(sys::pidfd_kill(running.pidfd.as_raw_fd(), libc::SIGKILL));
            }
            return Ok(true);
        }
        let mut fds = fds.into_iter();
        let (Some(report), Some(log)) = (fds.next(), fds.next()) else { return Ok(true) };
        self.choose_processor();
        match self.start(id, length, fds.next(), &report, &log) {
            Ok(running) => self.running.push(running.of(report)),
            Err(failure) => {
                wire::send_failure(report.as_raw_fd(), failure);
                wire::send_reaped(&report, 0, sys::Usage::default());
            }
        }
        Ok(true)
    }

    /// Stays on one processor for a while, and what it clones too, until it is another program: what changes
    /// in our memory need not be told to the others. Whichever is free when an order comes is the one.
    fn choose_processor(&mut self) {
        const BUILDS: u32 = 32;
        if self.builds.is_multiple_of(BUILDS) {
            sys::ignore(sys::use_all_processors());
            self.is_placed = false;
        } else if !self.is_placed {
            self.is_placed = sys::stay_on_this_processor().is_ok();
        }
        self.builds = self.builds.wrapping_add(1);
    }

    /// Whether builds like `plan` are given what we made beforehand; false where each makes all of it.
    fn has_prepared(&mut self, plan: &Prepared) -> bool {
        // A container's only user may change the settings of what belongs to its root.
        if plan.tier != Tier::Namespaces || plan.has_uplink || plan.identity.uid == 0 {
            return false;
        }
        if !plan.identity.foreign && !std::mem::replace(&mut self.has_tried_rights, true) {
            // An ordinary user has rights over networks and mounts in a user namespace of his own only. What
            // goes wrong here goes wrong for the build too, which says what it was.
            sys::ignore(enter_user_namespace(plan.identity));
        }
        true
    }

    /// Mounts the store, where we see it and nobody else does, so that what root owns is the build's
    /// user's: then the same build sees the same owners, whoever started it.
    ///
    /// Not every file system can be mounted so; then its owners show as nobody.
    fn map_store(&mut self, plan: &Prepared) {
        if !plan.identity.foreign
            || plan.tier != Tier::Namespaces
            || self.mapped_stores.contains(&plan.store_root)
            || !self.roots.settle()
        {
            return;
        }
        self.mapped_stores.push(plan.store_root.clone());
        sys::ignore(map_owners(&self.stack, plan.identity, &plan.store_root));
    }

    /// A root for a build, and the trees that belong into it; nothing where the build makes its own.
    fn root_for(&mut self, plan: &Prepared) -> Result<Option<(usize, Trees)>, Failure> {
        if !self.roots.settle() {
            return Ok(None);
        }
        let lost = |errno| Failure { step: Step::MountNamespace, errno, index: 0 };
        let Some(root) = self.roots.find(&self.stack, plan).map_err(lost)? else { return Ok(None) };
        // What is opened after the trees, by us and by the child, needs room too.
        const SPARE: usize = 16;
        let spare: Result<Vec<_>, Errno> =
            (0..SPARE).map(|_| sys::openat(sys::CWD, c"/", libc::O_PATH, 0)).collect();
        let opened = match spare {
            Ok(_spare) => Trees::open(plan),
            Err(errno) => Err(Failure { step: Step::MountInput, errno, index: 0 }),
        };
        match opened {
            Ok(trees) => Ok(Some((root, trees))),
            // So many inputs that they cannot all be open at once: the build opens one after the other.
            Err(Failure { errno: Errno(libc::EMFILE), .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Starts what is asked for by the order in the buffer, of `length` bytes, or by the file `request`.
    fn start(
        &mut self,
        id: u32,
        length: usize,
        request: Option<OwnedFd>,
        report: &OwnedFd,
        log: &OwnedFd,
    ) -> Result<Started, Failure> {
        let fail = |step, errno| Failure { step, errno, index: 0 };
        let unreadable =
            |error: io::Error| fail(Step::ReadRequest, Errno(error.raw_os_error().unwrap_or(libc::EINVAL)));
        let plan = match request {
            None => Prepared::decode(&self.buffer[wire::ORDER_SIZE..length]),
            Some(file) => read_request(file),
        };
        let mut plan = plan.map_err(unreadable)?;
        let args = StringArray::new(std::mem::take(&mut plan.args));
        let env = StringArray::new(std::mem::take(&mut plan.env));
        let (release_read, release_write) = sys::pipe().map_err(|errno| fail(Step::ReadRequest, errno))?;
        let namespaces = plan.tier == Tier::Namespaces;
        let has_prepared = self.has_prepared(&plan);
        self.map_store(&plan);
        let network = if has_prepared { self.networks.enter_one() } else { None };
        let root = if has_prepared { self.root_for(&plan)? } else { None };
        let context = Context {
            plan: &plan,
            args: &args,
            env: &env,
            filter: if namespaces { &self.filter } else { &self.strict_filter },
            landlock_abi: self.landlock_abi,
            has_network: network.is_some(),
            trees: root.as_ref().map(|(_, trees)| trees),
            release: release_read.as_raw_fd(),
            release_other: release_write.as_raw_fd(),
            report: report.as_raw_fd(),
            log: log.as_raw_fd(),
            stack: &self.child_stack,
        };
        let flags = if namespaces { libc::CLONE_NEWUSER | libc::CLONE_NEWPID } else { 0 };
        let run = || child::run(&context);
        if let Some((root, _)) = &root {
            self.roots.enter(*root).map_err(|errno| fail(Step::MountNamespace, errno))?;
        }
        let cloned = sys::clone_copy(&self.stack, flags, &run);
        if root.is_some() {
            // It cannot fail where it has not failed before.
            self.roots.go_home().map_err(|errno| fail(Step::MountNamespace, errno))?;
        }
        let (pid, pidfd) = cloned.map_err(|errno| fail(Step::UserNamespace, errno))?;
        let released = prepare_child(pid, &plan).and_then(|()| {
            sys::write(release_write.as_raw_fd(), &[1]).map(drop).map_err(|errno| (Step::IdMap, errno))
        });
        if let Err((step, errno)) = released {
            sys::ignore(sys::pidfd_kill(pidfd.as_raw_fd(), libc::SIGKILL));
            sys::ignore(sys::reap(pid));
            return Err(fail(step, errno));
        }
        if plan.has_uplink {
            wire::send_started(report, pid);
        }
        Ok(Started { id, pid, pidfd, is_sealed: namespaces, release: release_write, network })
    }
}

/// A child that was cloned.
struct Started {
    id: u32,
    pid: i32,
    pidfd: OwnedFd,
    is_sealed: bool,
    release: OwnedFd,
    network: Option<Network>,
}

impl Started {
    fn of(self, report: OwnedFd) -> Running {
        let Self { id, pid, pidfd, is_sealed, release, network } = self;
        Running { id, pid, pidfd, report, is_sealed, _release: release, network }
    }
}

/// Goes into a user namespace in which we are who we are, and may do what root may.
///
/// Nobody in it is called 0: else whoever is may change the settings of its networks.
fn enter_user_namespace(identity: Identity) -> Result<(), Errno> {
    sys::unshare(libc::CLONE_NEWUSER)?;
    write_maps("self", (identity.uid, identity.uid), (identity.gid, identity.gid), true)
}

/// Mounts `store` over itself with its owners mapped.
fn map_owners(stack: &Stack, identity: Identity, store: &std::ffi::CStr) -> Result<(), Errno> {
    let map = make_owner_map(stack, identity)?;
    let tree = sys::open_tree(sys::CWD, store)?;
    sys::mount_setattr_mapped(tree.as_raw_fd(), child::READ_ONLY, map.as_raw_fd())?;
    sys::move_mount(tree.as_raw_fd(), sys::CWD, store)
}

/// Makes a user namespace in which user 0 is the build's user. Its one process ends at once; the
/// descriptor keeps it.
fn make_owner_map(stack: &Stack, identity: Identity) -> Result<OwnedFd, Errno> {
    let (wait, go) = sys::pipe()?;
    let (wait_fd, go_fd) = (wait.as_raw_fd(), go.as_raw_fd());
    let run = || {
        sys::close(go_fd);
        sys::ignore(sys::read(wait_fd, &mut [0]));
        sys::exit(0);
    };
    let (pid, _pidfd) = sys::clone_copy(stack, libc::CLONE_NEWUSER, &run)?;
    let path = CString::new(format!("/proc/{pid}/ns/user")).expect("no zero byte");
    let opened = write_maps(&pid.to_string(), (0, identity.uid), (0, identity.gid), false)
        .and_then(|()| sys::openat(sys::CWD, &path, libc::O_RDONLY, 0));
    drop(go);
    sys::ignore(sys::reap(pid));
    opened
}

fn read_request(request: OwnedFd) -> io::Result<Prepared> {
    let mut file = File::from(request);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Prepared::decode(&bytes)
}

/// What only one outside of it can do for a child, before it goes on.
fn prepare_child(pid: i32, plan: &Prepared) -> Result<(), (Step, Errno)> {
    if !plan.group.is_empty() {
        let entered = sys::write_file(&plan.group, pid.to_string().as_bytes(), 0);
        entered.map_err(|errno| (Step::ControlGroup, errno))?;
    }
    if plan.tier != Tier::Namespaces {
        return Ok(());
    }
    // The build goes first when memory is short; what root raised nobody else lowers.
    let path = CString::new(format!("/proc/{pid}/oom_score_adj")).expect("no zero byte");
    sys::write_file(&path, b"1000", 0).map_err(|errno| (Step::OutOfMemoryScore, errno))?;
    write_id_maps(pid, plan.identity).map_err(|errno| (Step::IdMap, errno))
}

/// Says which user and group of ours the build's one user and group are.
fn write_id_maps(pid: i32, identity: Identity) -> Result<(), Errno> {
    let (uids, gids) = ((super::spec::INNER_UID, identity.uid), (super::spec::INNER_GID, identity.gid));
    // Without rights of root, a map of groups may be written only by one who cannot leave groups.
    write_maps(&pid.to_string(), uids, gids, !identity.foreign)
}

/// Writes the maps of a process's user namespace: who inside is who outside.
fn write_maps(process: &str, uids: (u32, u32), gids: (u32, u32), deny_groups: bool) -> Result<(), Errno> {
    let write = |file: &str, text: &str| {
        let path = CString::new(format!("/proc/{process}/{file}")).expect("no zero byte");
        sys::write_file(&path, text.as_bytes(), 0)
    };
    if deny_groups {
        write("setgroups", "deny")?;
    }
    write("uid_map", &format!("{} {} 1\n", uids.0, uids.1))?;
    write("gid_map", &format!("{} {} 1\n", gids.0, gids.1))
}
