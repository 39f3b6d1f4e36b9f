//! Landlock, as a second wall: whatever the mounts let through, a build touches only what lies
//! beneath its own root, and no process or abstract socket outside.
//!
//! It is also what keeps our own executable safe: `/proc/self/exe`, reached by a script's `#!` line
//! at the moment of `execve`, lies outside that root, and can be neither run nor written.

use std::os::fd::AsRawFd;

use super::sys::{self, LandlockAttr, SysResult};

/// All file system rights that version `abi` of the interface knows.
fn fs_rights(abi: u32) -> u64 {
    match abi {
        // Version 1 cannot allow renames between directories, which builds need.
        0 | 1 => 0,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1 << 16) - 1,
    }
}

/// Rights to look and to run, not to change.
const READ_RIGHTS: u64 = 0b1101;
/// Rights that make sense for a file that is not a directory: execute, write, read, truncate, ioctl.
const FILE_RIGHTS: u64 = 0b111 | 1 << 14 | 1 << 15;

fn ruleset(abi: u32, with_network: bool) -> SysResult<std::os::fd::OwnedFd> {
    let attr = LandlockAttr {
        handled_fs: fs_rights(abi),
        // Bind and connect by TCP; from version 4.
        handled_net: if with_network && abi >= 4 { 0b11 } else { 0 },
        // Abstract sockets and signals; from version 6.
        scoped: if abi >= 6 { 0b11 } else { 0 },
    };
    let size = match abi {
        0..=3 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    sys::landlock_ruleset(&attr, size)
}

/// Confines this process to what lies beneath its current root. Does nothing where the kernel has
/// no Landlock that serves.
pub(crate) fn confine_to_root(abi: u32) -> SysResult<()> {
    if abi < 2 {
        return Ok(());
    }
    let ruleset = ruleset(abi, false)?;
    let root = sys::openat(sys::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    sys::landlock_allow(ruleset.as_raw_fd(), root.as_raw_fd(), fs_rights(abi))?;
    sys::landlock_restrict(ruleset.as_raw_fd())
}

/// One path that a build without namespaces may touch.
pub(crate) struct Allowed<'a> {
    /// Where `path` begins, unless it is absolute.
    pub(crate) dir: std::os::fd::RawFd,
    pub(crate) path: &'a std::ffi::CStr,
    pub(crate) writable: bool,
    pub(crate) directory: bool,
}

/// Confines this process to `paths`, and refuses TCP. Paths that do not exist are left out.
pub(crate) fn confine_to<'a>(abi: u32, paths: impl Iterator<Item = Allowed<'a>>) -> SysResult<()> {
    if abi < 2 {
        return Err(sys::Errno(libc::EOPNOTSUPP));
    }
    let ruleset = ruleset(abi, true)?;
    let all = fs_rights(abi);
    for allowed in paths {
        let Ok(fd) = sys::openat(allowed.dir, allowed.path, libc::O_PATH, 0) else { continue };
        let mut rights = if allowed.writable { all } else { READ_RIGHTS };
        if !allowed.directory {
            rights &= FILE_RIGHTS & all;
        }
        sys::landlock_allow(ruleset.as_raw_fd(), fd.as_raw_fd(), rights)?;
    }
    sys::landlock_restrict(ruleset.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_knows_more() {
        let counts: Vec<u32> = (0..8).map(|abi| fs_rights(abi).count_ones()).collect();
        assert_eq!(counts, [0, 0, 14, 15, 15, 16, 16, 16]);
        assert_eq!(READ_RIGHTS & 0b10, 0, "writing is not reading");
    }
}
