//! Limits for a whole build, by a control group of its own (cgroup v2).
//!
//! A limit of one process says little of a build of many, so that memory and processes are limited by a
//! group, where the kernel has one to give: in a part of the tree that was delegated to us, which is ours
//! to write to, and whose controllers are on. We look in our own group and then in those above it:
//!
//! ```text
//! /sys/fs/cgroup/user.slice/…/app.slice/run-17.scope     our own: full of processes, groups below get no controllers
//! /sys/fs/cgroup/user.slice/…/app.slice                  the one above: ours, controllers are on
//! /sys/fs/cgroup/user.slice/…/app.slice/ampoule-4711-0   the build's
//! ```
//!
//! Nobody gets a group who asked for no limit; who asks for one and cannot have it is told why, and
//! nothing is built.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Failure, FailureKind};

/// What a build may have, as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// Memory of all its processes, files in `/dev/shm` and the kernel's share included.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at one time.
    pub processes: Option<u64>,
}

impl GroupLimits {
    fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Which controllers, the file that shows that each is on, and what is written to it.
    fn files(self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let all = [("memory", "memory.max", self.memory_bytes), ("pids", "pids.max", self.processes)];
        all.into_iter().filter_map(|(controller, file, limit)| Some((controller, file, limit?)))
    }
}

/// Where groups for builds can be made.
#[derive(Debug)]
pub(crate) struct Groups {
    parent: PathBuf,
    limits: GroupLimits,
    serial: AtomicU64,
}

impl Groups {
    /// Finds a place for `limits`; nothing if there is nothing to limit.
    pub(crate) fn find(limits: GroupLimits) -> Result<Option<Self>, Failure> {
        if limits.is_none() {
            return Ok(None);
        }
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self::find_in(limits, &read("/proc/self/mountinfo"), &read("/proc/self/cgroup")).map(Some)
    }

    fn find_in(limits: GroupLimits, mounts: &str, own: &str) -> Result<Self, Failure> {
        let Some(places) = places(mounts, own) else {
            return Err(refused("this machine shows no cgroup v2".to_owned()));
        };
        let mut reasons = Vec::new();
        for parent in places {
            let groups = Self { parent, limits, serial: AtomicU64::new(0) };
            match groups.prepare() {
                Ok(()) => return Ok(groups),
                Err(reason) => reasons.push(format!("`{}` {reason}", groups.parent.display())),
            }
        }
        Err(refused(reasons.join("; ")))
    }

    /// Tries the place out, and turns on what is off.
    fn prepare(&self) -> Result<(), String> {
        let failed = |error: io::Error| format!("cannot be used: {error}");
        std::fs::File::options().write(true).open(self.parent.join("cgroup.procs")).map_err(failed)?;
        let probe = self.new_group().map_err(failed)?;
        for (controller, file, _) in self.limits.files() {
            if probe.0.join(file).exists() {
                continue;
            }
            let turned_on = write(&self.parent.join("cgroup.subtree_control"), &format!("+{controller}"));
            match turned_on {
                Ok(()) if probe.0.join(file).exists() => {}
                Ok(()) => return Err(format!("has no controller `{controller}`")),
                Err(error) => return Err(format!("gives no controller `{controller}`: {error}")),
            }
        }
        Ok(())
    }

    fn new_group(&self) -> io::Result<Group> {
        loop {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let path = self.parent.join(format!("ampoule-{}-{serial}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Group(path)),
                // Left by one who was killed, and had our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a group with the limits in it.
    pub(crate) fn make(&self) -> Result<Group, Failure> {
        let failed = |error: io::Error| {
            let text = format!("cannot make a control group in `{}`: {error}", self.parent.display());
            Failure::new(FailureKind::Sandbox, text)
        };
        let group = self.new_group().map_err(failed)?;
        for (_, file, limit) in self.limits.files() {
            write(&group.0.join(file), &limit.to_string()).map_err(failed)?;
        }
        if self.limits.memory_bytes.is_some() {
            // Where there is no swap there is no such file; and all of a build dies, not what it
            // needs most.
            for (file, value) in [("memory.swap.max", "0"), ("memory.oom.group", "1")] {
                drop(write(&group.0.join(file), value));
            }
        }
        Ok(group)
    }
}

/// Where groups may be made, the nearest first: our own, and those above it.
fn places(mounts: &str, own: &str) -> Option<Vec<PathBuf>> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, mount) = mounts.lines().find_map(|line| {
        let (of_mount, of_file_system) = line.split_once(" - ")?;
        if of_file_system.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = of_mount.split(' ').skip(3);
        Some((fields.next()?, Path::new(fields.next()?)))
    })?;
    let below = Path::new(own).strip_prefix(root).ok()?;
    let nearest: PathBuf = mount.join(below).components().collect();
    let found = nearest.ancestors().take_while(|path| path.starts_with(mount));
    Some(found.map(Path::to_path_buf).collect())
}

fn refused(why: String) -> Failure {
    Failure::new(FailureKind::Sandbox, format!("builds cannot be limited by cgroup v2 here: {why}"))
        .hint("have a part of the tree delegated: `systemd-run --user --scope -p Delegate=yes ampoule …`")
        .hint("or build without the limits: the settings `build.max-memory` and `build.max-processes`")
}

/// Writes to a file of the kernel's, which is there.
fn write(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    std::fs::File::options().write(true).open(path)?.write_all(value.as_bytes())
}

/// One build's group. It is empty, and goes, when this is dropped.
#[derive(Debug)]
pub(crate) struct Group(PathBuf);

impl Group {
    /// The file to which a process's number is written for it to enter.
    pub(crate) fn entrance(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// Which limit a build met that ended with `status`.
    pub(crate) fn limit_met(&self, limits: GroupLimits, status: i32) -> Option<String> {
        let count = |file: &str, event: &str| {
            let text = std::fs::read_to_string(self.0.join(file)).unwrap_or_default();
            text.lines().find_map(|line| line.strip_prefix(event)?.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        if let Some(bytes) = limits.memory_bytes
            && (count("memory.events", "oom_kill ") > 0 || count("memory.events", "oom_group_kill ") > 0)
        {
            return Some(format!(
                "ran out of memory: a build may have {} (`build.max-memory`)",
                ampoule_store::human_size(bytes)
            ));
        }
        let processes = limits.processes?;
        (status != 0 && status & 0x7f == 0 && count("pids.events", "max ") > 0)
            .then(|| format!("was refused a process: a build may have {processes} (`build.max-processes`)"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Before Linux 5.14 there is no such file; the pid namespace has killed all by now.
        drop(write(&self.0.join("cgroup.kill"), "1"));
        const TRIES: usize = 2000;
        for _ in 0..TRIES {
            match std::fs::remove_dir(&self.0) {
                // The dead leave it a moment later.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "24 1 0:21 / /proc rw - proc proc rw\n\
                          29 1 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

    fn check(mounts: &str, own: &str, expected: &[&str]) {
        let found = places(mounts, own).unwrap_or_default();
        assert_eq!(found, expected.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn our_own_group_comes_first_and_then_those_above() {
        let all = ["/sys/fs/cgroup/a.slice/b.scope", "/sys/fs/cgroup/a.slice", "/sys/fs/cgroup"];
        check(MOUNTS, "1:cpu:/x\n0::/a.slice/b.scope\n", &all);
        check(MOUNTS, "0::/\n", &["/sys/fs/cgroup"]);
        check("", "0::/\n", &[]);
        check(MOUNTS, "1:cpu:/x\n", &[]);
        // In a container the top that is seen is not the top that there is.
        let inner = "29 1 0:25 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        check(inner, "0::/box/b\n", &["/sys/fs/cgroup/b", "/sys/fs/cgroup"]);
        check(inner, "0::/other\n", &[]);
    }

    #[test]
    fn who_asks_for_no_limit_gets_no_group() {
        assert!(Groups::find(GroupLimits::default()).expect("nothing to refuse").is_none());
    }

    #[test]
    fn a_limit_that_cannot_be_had_is_told_with_the_reason_of_each_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = dir.path().join("a");
        std::fs::create_dir(&own).expect("made");
        std::fs::write(own.join("cgroup.procs"), "").expect("written");
        // Nothing can be turned on here; above it there is not even a list of processes.
        let mounts = format!("29 1 0:25 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
        let limits = GroupLimits { memory_bytes: Some(1 << 20), processes: None };
        let failure = Groups::find_in(limits, &mounts, "0::/a\n").expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Sandbox);
        for words in ["gives no controller `memory`", "cannot be used", "cgroup v2"] {
            assert!(failure.message.contains(words), "{failure}");
        }
        assert_eq!(std::fs::read_dir(&own).expect("read").count(), 1, "the trial is gone");
    }

    #[test]
    fn what_one_who_was_killed_has_left_is_passed_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let name = |serial: u32| dir.path().join(format!("ampoule-{}-{serial}", std::process::id()));
        std::fs::create_dir(name(0)).expect("made");
        let parent = dir.path().to_path_buf();
        let groups = Groups { parent, limits: GroupLimits::default(), serial: AtomicU64::new(0) };
        assert_eq!(groups.make().expect("made").0, name(1));
        assert!(name(0).exists() && !name(1).exists(), "ours alone goes");
    }

    /// Files as the kernel has them, in a directory that only looks like a group.
    #[test]
    fn which_limit_was_met() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = std::mem::ManuallyDrop::new(Group(dir.path().to_path_buf()));
        let limits = GroupLimits { memory_bytes: Some(64 << 20), processes: Some(8) };
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).expect("written");
        let failed = 1 << 8;
        assert_eq!(group.limit_met(limits, failed), None);
        write("pids.events", "max 3\n");
        assert!(group.limit_met(limits, failed).is_some_and(|text| text.contains("may have 8")));
        assert_eq!(group.limit_met(limits, 0), None, "it got on without");
        write("memory.events", "low 0\nhigh 0\nmax 17\noom 1\noom_kill 1\noom_group_kill 1\n");
        assert!(group.limit_met(limits, failed).is_some_and(|text| text.contains("out of memory")));
    }

    /// A real group, where this machine lets us make one: who is in it dies with it.
    #[test]
    fn what_is_in_a_group_dies_with_it() {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let places = places(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup")).unwrap_or_default();
        let made = places.into_iter().find_map(|parent| {
            let groups = Groups { parent, limits: GroupLimits::default(), serial: AtomicU64::new(0) };
            let group = groups.make().ok()?;
            std::fs::File::options().write(true).open(group.entrance()).ok()?;
            group.0.join("cgroup.kill").exists().then_some(group)
        });
        let Some(group) = made else {
            eprintln!("skipped: no cgroup v2 that is ours to write to");
            return;
        };
        let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().expect("started");
        if write(&group.entrance(), &sleeper.id().to_string()).is_err() {
            eprintln!("skipped: processes cannot be moved to `{}`", group.0.display());
            sleeper.kill().expect("ours");
        }
        let path = group.0.clone();
        // It lives in the group until it is waited for.
        let waiter = std::thread::spawn(move || sleeper.wait().expect("ours"));
        drop(group);
        assert!(!path.exists(), "the group is gone");
        assert!(!waiter.join().expect("no panic").success());
    }
}
