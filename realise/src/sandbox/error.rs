//! Why a sandbox could not be made, and what to do about it.

use std::fmt;
use std::path::Path;

use super::child::{self, Failure};
use super::spec::SandboxSpec;
use super::step::Step;

/// A sandbox that could not be made, or a builder that could not be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxError {
    /// What was being done.
    pub step: Step,
    /// The kernel's error number; 0 when it is not the kernel that refused.
    pub errno: i32,
    /// What it was done to, when there are several of the kind.
    pub subject: String,
    /// Whether the builder's file was there; only for [`Step::Execute`].
    pub builder_exists: bool,
    /// What to do about it; empty when nothing general can be said.
    pub remedies: Vec<String>,
}

impl std::error::Error for SandboxError {}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.step.describe())?;
        if !self.subject.is_empty() {
            write!(f, " `{}`", self.subject)?;
        }
        if self.errno != 0 {
            write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl SandboxError {
    /// True when no sandbox can be made here, whatever the derivation is.
    #[must_use]
    pub fn is_of_the_machine(&self) -> bool {
        !matches!(self.step, Step::Execute | Step::MountInput | Step::OpenInput)
    }

    pub(crate) fn at_step(step: Step, errno: i32, subject: String) -> Self {
        Self {
            step,
            errno,
            subject,
            builder_exists: false,
            remedies: remedies(step, errno, &Machine::look()),
        }
    }

    pub(crate) fn starting(program: &Path, error: &std::io::Error) -> Self {
        Self::at_step(Step::StartSpawner, error.raw_os_error().unwrap_or(0), program.display().to_string())
    }

    pub(crate) fn lost(errno: i32) -> Self {
        let mut lost = Self::at_step(Step::ReadRequest, errno, String::new());
        lost.remedies =
            vec!["the process that makes sandboxes has died; was it killed for memory?".to_owned()];
        lost
    }

    /// Turns a failed step into an error with names, for the build of `spec`.
    pub(crate) fn explain(failure: Failure, spec: &SandboxSpec) -> Self {
        let index = failure.index as usize;
        let subject = match failure.step {
            Step::MountInput => spec.binds.get(index).map(|bind| child::bind_name(&bind.source)),
            Step::OpenDevice | Step::Devices => Some(child::device_name(failure.index).to_owned()),
            Step::EtcFiles => spec.files.get(index).map(|(path, _)| path.display().to_string()),
            Step::RootDirectory => spec.directories().get(index).map(|path| path.display().to_string()),
            Step::Execute => Some(String::from_utf8_lossy(&spec.builder).into_owned()),
            Step::OpenDirectories => Some(spec.top_dir.display().to_string()),
            _ => None,
        };
        let mut error = Self::at_step(failure.step, failure.errno.0, subject.unwrap_or_default());
        error.builder_exists = failure.step == Step::Execute && failure.index == 1;
        error
    }
}

/// What the machine says of itself that tells why namespaces are refused.
#[derive(Debug, Default)]
struct Machine {
    max_user_namespaces: Option<u64>,
    unprivileged_userns_clone: Option<u64>,
    apparmor_restricts: Option<u64>,
    filtered: bool,
    container: bool,
}

impl Machine {
    fn look() -> Self {
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            filtered: status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2')),
            container: ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists()),
        }
    }
}

/// Steps that the kernel or its administrator may forbid to an ordinary user.
fn needs_namespaces(step: Step) -> bool {
    (Step::UserNamespace as u8..=Step::PrivateMounts as u8).contains(&(step as u8))
        || (Step::Root as u8..=Step::ReadOnlyRoot as u8).contains(&(step as u8))
}

const BY_NAME: &str = "or choose a weaker wall by name: `--sandbox=landlock` (no namespaces), `--no-sandbox` (no wall, recorded \
     with the result)";

fn remedies(step: Step, errno: i32, machine: &Machine) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let refused = matches!(
        errno,
        libc::EPERM | libc::EACCES | libc::ENOSPC | libc::ENOSYS | libc::EINVAL | libc::EUSERS
    );
    if !needs_namespaces(step) || !refused {
        return specific_remedies(step, errno);
    }
    // No rule but a number forbids it: that of the machine, or of a user namespace around us.
    if matches!(errno, libc::ENOSPC | libc::EUSERS) {
        let limits = match step {
            Step::UserNamespace => "user.max_user_namespaces",
            Step::NetworkNamespace => "user.max_net_namespaces",
            _ => "user.max_*_namespaces",
        };
        let is_none = machine.max_user_namespaces == Some(0);
        let so = if is_none { "none are allowed" } else { "as many as are allowed are there already" };
        let host = if machine.container { ", on the machine that runs the container" } else { "" };
        let text = format!("raise the limit of namespaces ({so}): `sysctl {limits}=10000` (as root{host})");
        return vec![text, BY_NAME.to_owned()];
    }
    if machine.max_user_namespaces == Some(0) {
        out.push("allow user namespaces: `sysctl user.max_user_namespaces=10000` (as root)".to_owned());
    }
    if machine.unprivileged_userns_clone == Some(0) {
        out.push(
            "allow user namespaces to users: `sysctl kernel.unprivileged_userns_clone=1` (as root)"
                .to_owned(),
        );
    }
    if machine.apparmor_restricts.is_some_and(|on| on != 0) {
        out.push(
            "AppArmor takes the rights of user namespaces away: \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (as root), or give this program a \
             profile with `userns,`"
                .to_owned(),
        );
    }
    if machine.container || machine.filtered {
        out.push(
            "a container's rules forbid it: run the container with `--security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined --security-opt systempaths=unconfined`, or `--privileged`"
                .to_owned(),
        );
    }
    if errno == libc::ENOSYS || errno == libc::EINVAL {
        out.push(
            "the kernel lacks it, or a filter pretends so: Linux 5.12 or newer with CONFIG_USER_NS is needed \
             (gVisor does not have it)"
                .to_owned(),
        );
    }
    if step == Step::Proc {
        out.push(
            "the outer /proc is covered in part: run the container with `systempaths=unconfined`".to_owned(),
        );
    }
    if out.is_empty() {
        out.push("ask the administrator to allow unprivileged user namespaces to this user".to_owned());
    }
    out.push(BY_NAME.to_owned());
    out
}

fn specific_remedies(step: Step, errno: i32) -> Vec<String> {
    let text = match (step, errno) {
        (Step::IdMap, libc::ENOENT) => "mount /proc: `mount -t proc proc /proc`",
        (Step::OpenDevice, _) => "the host's /dev lacks it, and a build needs it",
        (Step::Landlock, libc::ENOSYS | libc::EOPNOTSUPP) => {
            "the kernel has no Landlock; Linux 5.19 or newer with `landlock` in `lsm=` is needed"
        }
        (_, libc::EMFILE | libc::ENFILE) => {
            "too many open files: raise `ulimit -n`, or run fewer builds at once (`-j`)"
        }
        (_, libc::EAGAIN) => "too many processes: raise `ulimit -u`, or run fewer builds at once (`-j`)",
        _ => return Vec::new(),
    };
    vec![text.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(step: Step, errno: i32, machine: &Machine, expected: &str) {
        let found = remedies(step, errno, machine).join("\n");
        assert!(found.contains(expected), "{found}");
    }

    /// Case 156: each mechanism is told apart and has its own way out.
    #[test]
    fn each_mechanism_has_its_remedy() {
        let none = Machine::default;
        let zero = Machine { max_user_namespaces: Some(0), ..none() };
        check(Step::UserNamespace, libc::ENOSPC, &zero, "user.max_user_namespaces");
        let debian = Machine { unprivileged_userns_clone: Some(0), ..none() };
        check(Step::UserNamespace, libc::EPERM, &debian, "kernel.unprivileged_userns_clone=1");
        let ubuntu = Machine { apparmor_restricts: Some(1), ..none() };
        check(Step::IdMap, libc::EACCES, &ubuntu, "apparmor_restrict_unprivileged_userns=0");
        check(Step::MountNamespace, libc::EPERM, &ubuntu, "apparmor_restrict_unprivileged_userns=0");
        let docker = Machine { filtered: true, container: true, ..none() };
        check(Step::UserNamespace, libc::EPERM, &docker, "seccomp=unconfined");
        check(Step::Proc, libc::EPERM, &docker, "systempaths=unconfined");
        check(Step::UserNamespace, libc::ENOSYS, &none(), "gVisor");
        // A number that is used up is no rule of a container, in a container either.
        let found = remedies(Step::UserNamespace, libc::ENOSPC, &docker).join("\n");
        assert!(found.contains("user.max_user_namespaces=10000") && !found.contains("seccomp"), "{found}");
        assert!(found.contains("already") && found.contains("on the machine that runs"), "{found}");
        for errno in [libc::EPERM, libc::ENOSPC, libc::ENOSYS, libc::EACCES] {
            check(Step::UserNamespace, errno, &none(), "--sandbox=landlock");
        }
    }
}
