//! Deletes trees, whatever their modes and however deep, with a constant number of descriptors and
//! no recursion.
//!
//! Directories that lie deeper than a few levels are renamed up to the top and taken there, so the
//! depth of a tree costs nothing. Only names below the directory that was given are ever touched.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::{chmod_unopened, file_type, open_subdir, read_names, stat_nofollow};
use crate::error::{StoreError, StoreResult, is_absent};

const MODE_MINE: Mode = Mode::from_raw_mode(0o700);

/// Deletes `name` in `dir` and everything below it. Says how many bytes of disk that frees
/// (files that have another name elsewhere count nothing). Not an error if it is not there.
pub(crate) fn remove(dir: impl AsFd, name: &CStr) -> StoreResult<u64> {
    let dir = dir.as_fd();
    let mut freed = 0;
    let mut serial = 0u64;
    // Trees whose top lies in `dir`.
    let mut tops = VecDeque::from([name.to_owned()]);
    while let Some(top) = tops.pop_front() {
        remove_shallow(
            dir,
            &top,
            &mut |from, name| {
                let moved = fresh_name(dir, &mut serial);
                // A directory can be moved only by one who may write into it: `..` changes.
                chmod_unopened(from, name, MODE_MINE).ok();
                rustix::fs::renameat(from, name, dir, &moved)?;
                tops.push_back(moved);
                Ok(())
            },
            &mut freed,
        )
        .map_err(|e| StoreError::io("delete", top.as_bytes(), e))?;
    }
    Ok(freed)
}

fn fresh_name(dir: impl AsFd, serial: &mut u64) -> CString {
    loop {
        *serial += 1;
        let name = CString::new(format!(".deep-{}-{serial}", std::process::id())).expect("no zero byte");
        if stat_nofollow(dir.as_fd(), &name).is_err() {
            return name;
        }
    }
}

type MoveUp<'a> = dyn FnMut(&OwnedFd, &CStr) -> rustix::io::Result<()> + 'a;

struct Frame {
    fd: OwnedFd,
    name: CString,
    left: Vec<(CString, FileType)>,
}

/// How many directories are held open; deeper ones are moved up.
const MAX_OPEN: usize = 24;

fn remove_shallow(
    dir: impl AsFd,
    top: &CStr,
    move_up: &mut MoveUp<'_>,
    freed: &mut u64,
) -> rustix::io::Result<()> {
    let dir = dir.as_fd();
    let mut stack: Vec<Frame> = Vec::new();
    if let Some(frame) = take(dir, top, FileType::Unknown, freed)? {
        stack.push(frame);
    }
    while let Some(frame) = stack.last_mut() {
        let Some((name, kind)) = frame.left.pop() else {
            let mut done = stack.pop().expect("it was just looked at");
            let parent = stack.last().map_or(dir, |f| f.fd.as_fd());
            match rustix::fs::unlinkat(parent, &done.name, AtFlags::REMOVEDIR) {
                // Somebody put something into it meanwhile: once more.
                Err(Errno::NOTEMPTY | Errno::EXIST) => match read_names(&mut done.fd) {
                    Ok(left) => stack.push(Frame { left, ..done }),
                    Err(e) if is_absent(e) => {}
                    Err(e) => return Err(e),
                },
                Err(e) if !is_absent(e) => return Err(e),
                _ => {}
            }
            continue;
        };
        let depth = stack.len();
        let frame = stack.last().expect("it was just looked at");
        let kind = if kind == FileType::Unknown { kind_of(&frame.fd, &name)? } else { kind };
        if kind == FileType::Directory && depth >= MAX_OPEN {
            match move_up(&frame.fd, &name) {
                Err(e) if !is_absent(e) => return Err(e),
                _ => continue,
            }
        }
        if let Some(frame) = take(frame.fd.as_fd(), &name, kind, freed)? {
            stack.push(frame);
        }
    }
    Ok(())
}

fn kind_of(dir: impl AsFd, name: &CStr) -> rustix::io::Result<FileType> {
    match stat_nofollow(dir, name) {
        Ok(stat) => Ok(file_type(&stat)),
        Err(e) if is_absent(e) => Ok(FileType::Unknown),
        Err(e) => Err(e),
    }
}

/// Deletes a file, or opens a directory to be emptied. Nothing is left to do for what another process has
/// deleted meanwhile, whichever call finds that out: reading an open directory that is gone is `ENOENT` too.
fn take(dir: impl AsFd, name: &CStr, kind: FileType, freed: &mut u64) -> rustix::io::Result<Option<Frame>> {
    match take_present(dir, name, kind, freed) {
        Err(e) if is_absent(e) => Ok(None),
        other => other,
    }
}

fn take_present(
    dir: impl AsFd,
    name: &CStr,
    kind: FileType,
    freed: &mut u64,
) -> rustix::io::Result<Option<Frame>> {
    let dir = dir.as_fd();
    if kind != FileType::Directory {
        let stat = stat_nofollow(dir, name);
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) => {
                if let Ok(stat) = stat
                    && stat.st_nlink == 1
                {
                    *freed += stat.st_blocks as u64 * 512;
                }
                return Ok(None);
            }
            Err(e) if is_absent(e) => return Ok(None),
            // Linux says EISDIR for a directory, POSIX allows EPERM.
            Err(Errno::ISDIR) => {}
            Err(Errno::PERM) if stat.is_ok_and(|s| file_type(&s) == FileType::Directory) => {}
            Err(e) => return Err(e),
        }
    }
    let mut fd = match open_subdir(dir, name) {
        Ok(fd) => fd,
        Err(e) if is_absent(e) => return Ok(None),
        Err(Errno::ACCESS) => {
            chmod_unopened(dir, name, MODE_MINE)?;
            open_subdir(dir, name)?
        }
        Err(e) => return Err(e),
    };
    // Entries can be deleted only from a directory that one may write.
    let stat = rustix::fs::fstat(&fd)?;
    if stat.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&fd, MODE_MINE)?;
    }
    let left = read_names(&mut fd)?;
    if left.is_empty() {
        *freed += 4096;
    }
    Ok(Some(Frame { fd, name: name.to_owned(), left }))
}
