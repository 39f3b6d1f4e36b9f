//! Writes the tree of a NAR to the disk.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{CANONICAL_TIMES, MODE_EXEC, MODE_OPEN_DIR, MODE_PLAIN, open_subdir};
use crate::error::{StoreError, StoreResult, shown};
use crate::nar::{Event, NarError, Reader};

struct Level {
    fd: OwnedFd,
}

/// Unpacks the NAR that `from` holds as `name` in `dir`, canonically. Nothing may be there before.
/// Bytes after the NAR are left unread.
pub(crate) fn unpack(from: impl Read, dir: impl AsFd, name: &CString) -> StoreResult<()> {
    let dir = dir.as_fd();
    let mut reader = Reader::new(from)?;
    let mut levels: Vec<Level> = Vec::new();
    let mut name = name.clone();
    let mut buf = vec![0; 64 << 10];
    loop {
        let parent = levels.last().map_or(dir, |l| l.fd.as_fd());
        let failed = |what, e: Errno| match e {
            Errno::EXIST => StoreError::Exists(shown(name.as_bytes())),
            e => StoreError::io(what, name.as_bytes(), e),
        };
        match reader.next_event()? {
            Event::End => return Ok(()),
            Event::Entry(next) => {
                name = CString::new(next).expect("the reader refuses zero bytes in names");
            }
            Event::BeginDirectory => {
                rustix::fs::mkdirat(parent, &name, MODE_OPEN_DIR).map_err(|e| failed("create", e))?;
                let fd = open_subdir(parent, &name).map_err(|e| failed("open", e))?;
                levels.push(Level { fd });
            }
            Event::EndDirectory => {
                let level = levels.pop().expect("the reader closes only what it opened");
                // The top is moved yet, which needs a mode that allows writing.
                let mode = if levels.is_empty() { MODE_OPEN_DIR } else { MODE_EXEC };
                rustix::fs::fchmod(&level.fd, mode)
                    .map_err(|e| StoreError::io("change mode of", b"directory", e))?;
                rustix::fs::futimens(&level.fd, &CANONICAL_TIMES)
                    .map_err(|e| StoreError::io("set times of", b"directory", e))?;
            }
            Event::Symlink(target) => {
                rustix::fs::symlinkat(target, parent, &name).map_err(|e| failed("create", e))?;
                rustix::fs::utimensat(parent, &name, &CANONICAL_TIMES, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| failed("set times of", e))?;
            }
            Event::File { executable, size_bytes } => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, &name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|e| failed("create", e))?;
                let path = name.as_bytes().to_vec();
                copy_contents(&mut reader, &fd, size_bytes, &mut buf, &path)?;
                finish_file(&fd, executable).map_err(|e| StoreError::io("finish", &path, e))?;
            }
        }
    }
}

fn copy_contents(
    reader: &mut Reader<impl Read>,
    fd: &OwnedFd,
    size_bytes: u64,
    buf: &mut [u8],
    path: &[u8],
) -> StoreResult<()> {
    let mut left = size_bytes;
    while left > 0 {
        let got =
            reader.read(buf).map_err(|e| match e.get_ref().is_some_and(|inner| inner.is::<NarError>()) {
                true => StoreError::Nar(NarError::Truncated { at: reader.position() }),
                false => StoreError::Nar(NarError::Io(e)),
            })?;
        write_all(fd, &buf[..got]).map_err(|e| StoreError::io("write", path, e))?;
        left -= got as u64;
    }
    Ok(())
}

pub(super) fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd.as_fd(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

pub(super) fn finish_file(fd: impl AsFd, executable: bool) -> rustix::io::Result<()> {
    rustix::fs::fchmod(fd.as_fd(), if executable { MODE_EXEC } else { MODE_PLAIN })?;
    rustix::fs::futimens(fd.as_fd(), &CANONICAL_TIMES)
}
