//! The steps of the set-up, by name, so that a failure says which one it was and what to do.

/// One step of setting up a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each step's name, from `describe`, is its documentation")]
pub enum Step {
    StartSpawner,
    ReadRequest,
    UserNamespace,
    ControlGroup,
    IdMap,
    MountNamespace,
    NetworkNamespace,
    Loopback,
    Uplink,
    HostName,
    PrivateMounts,
    OpenDirectories,
    OpenInput,
    OpenDevice,
    OutOfMemoryScore,
    Identity,
    Root,
    RootDirectory,
    MountOutputs,
    MountInput,
    EtcFiles,
    Devices,
    Terminals,
    SharedMemory,
    Proc,
    PivotRoot,
    ReadOnlyRoot,
    StandardStreams,
    Limits,
    Capabilities,
    NoNewPrivileges,
    Landlock,
    Filter,
    StartBuilder,
    Execute,
}

impl Step {
    const ALL: [Self; 35] = [
        Self::StartSpawner,
        Self::ReadRequest,
        Self::UserNamespace,
        Self::ControlGroup,
        Self::IdMap,
        Self::MountNamespace,
        Self::NetworkNamespace,
        Self::Loopback,
        Self::Uplink,
        Self::HostName,
        Self::PrivateMounts,
        Self::OpenDirectories,
        Self::OpenInput,
        Self::OpenDevice,
        Self::OutOfMemoryScore,
        Self::Identity,
        Self::Root,
        Self::RootDirectory,
        Self::MountOutputs,
        Self::MountInput,
        Self::EtcFiles,
        Self::Devices,
        Self::Terminals,
        Self::SharedMemory,
        Self::Proc,
        Self::PivotRoot,
        Self::ReadOnlyRoot,
        Self::StandardStreams,
        Self::Limits,
        Self::Capabilities,
        Self::NoNewPrivileges,
        Self::Landlock,
        Self::Filter,
        Self::StartBuilder,
        Self::Execute,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// Says what was being done, and with which system call.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::StartSpawner => "start the process that makes sandboxes",
            Self::ReadRequest => "hand the request to the process that makes sandboxes",
            Self::UserNamespace => "make a user namespace and a pid namespace (clone)",
            Self::ControlGroup => "put the build into its control group (cgroup.procs)",
            Self::IdMap => "map the build's user and group (/proc/PID/uid_map, gid_map)",
            Self::MountNamespace => "make mount, ipc, uts and cgroup namespaces (unshare)",
            Self::NetworkNamespace => "make a network namespace (unshare)",
            Self::Loopback => "bring the loopback interface up",
            Self::Uplink => "connect the build's network to the world (pasta)",
            Self::HostName => "set the host name",
            Self::PrivateMounts => "make all mounts private",
            Self::OpenDirectories => "open the build's directories and the store (open_tree)",
            Self::OpenInput => "open an input (open_tree)",
            Self::OpenDevice => "open a device below /dev (open_tree)",
            Self::OutOfMemoryScore => "write /proc/self/oom_score_adj",
            Self::Identity => "become the build's user and group",
            Self::Root => "mount a tmpfs as the new root (fsopen, fsmount, move_mount)",
            Self::RootDirectory => "make a directory in the new root",
            Self::MountOutputs => "mount the build's own directories (move_mount)",
            Self::MountInput => "mount an input read-only (open_tree, move_mount)",
            Self::EtcFiles => "write a file in the new root",
            Self::Devices => "mount a device (move_mount)",
            Self::Terminals => "mount a private devpts",
            Self::SharedMemory => "mount /dev/shm",
            Self::Proc => "mount a private /proc",
            Self::PivotRoot => "change the root (pivot_root)",
            Self::ReadOnlyRoot => "make the new root read-only (mount_setattr)",
            Self::StandardStreams => "set up standard input, output and error",
            Self::Limits => "set the resource limits",
            Self::Capabilities => "drop all capabilities",
            Self::NoNewPrivileges => "set no_new_privs",
            Self::Landlock => "enter a Landlock domain",
            Self::Filter => "install the system call filter (seccomp)",
            Self::StartBuilder => "start the builder's process (clone)",
            Self::Execute => "execute the builder (execve)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Step;

    #[test]
    fn a_step_survives_its_byte() {
        for (index, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, index);
            assert_eq!(Step::from_byte(index as u8), Some(step));
        }
        assert_eq!(Step::from_byte(Step::ALL.len() as u8), None);
    }
}
