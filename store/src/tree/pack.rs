//! Reads a tree as a NAR, on all cores, and copies it or makes it canonical in the same pass.
//!
//! ```text
//! walker (this thread)  → batches of names, in NAR order → workers: open, read, write the copy
//!                                                            ↓ each batch's bytes
//!                                           consumer: takes batches in order → hash, scan, compress
//! ```
//!
//! The walker lists directories and calls the filter; workers do everything to files; the consumer
//! sees one stream. A window bounds how far workers run ahead, so memory stays flat whatever the
//! tree. A tree that fits into one batch is done without threads.
//!
//! What is hashed are the bytes that were read, and these are the bytes that are written to the
//! copy: a source that changes meanwhile cannot make the two differ.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::unpack::{finish_file, write_all};
use super::{
    CANONICAL_TIMES, FileKind, Filter, MODE_EXEC, MODE_OPEN_DIR, MODE_PLAIN, chmod_unopened, file_type,
    odd_kind, open_file, open_subdir, read_names, stat_nofollow,
};
use crate::error::{StoreError, StoreResult};
use crate::nar::{MAGIC, MAX_DEPTH, padding_len};

/// What happens to the tree besides being read.
pub(crate) enum PackMode<'a> {
    /// Nothing.
    Read,
    /// It is copied to this name in this directory, canonically; nothing may be there before. The
    /// top, if a directory, stays writable for its owner, so that it can be moved.
    Copy {
        /// The directory.
        dir: &'a OwnedFd,
        /// The name.
        name: &'a CStr,
    },
    /// It is made canonical where it lies: modes, times, extended attributes; files with several
    /// names are copied first. The top, if a directory, stays writable for its owner.
    Canonicalise,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Packed {
    /// How many bytes went to the consumer.
    pub nar_size_bytes: u64,
}

/// Bytes of file contents that a batch aims at; also the size of a chunk of a large file.
const BATCH_BYTES: u64 = 512 << 10;
/// Most files in a batch.
const BATCH_FILES: usize = 128;
/// Most directories of which a batch holds descriptors.
const BATCH_DIRS: usize = 8;
/// Chunks of one batch that may wait for the consumer.
const CHUNKS_AHEAD: usize = 4;

/// Reads `name` in `dir` and gives its NAR to `sink`, in order.
pub(crate) fn pack<W: Write + Send>(
    dir: &OwnedFd,
    name: &CStr,
    mode: PackMode<'_>,
    filter: Option<&mut Filter<'_>>,
    sink: &mut W,
) -> StoreResult<Packed> {
    let mut walker = Walker::new(dir, name, &mode, filter)?;
    let Some(first) = walker.next_batch()? else { return Ok(Packed { nar_size_bytes: 0 }) };
    let is_small = walker.is_done() && first.bytes_hint <= BATCH_BYTES;
    let nar_size_bytes =
        if is_small { pack_here(first, sink)? } else { pack_on_threads(first, &mut walker, sink)? };
    walker.check_failed()?;
    Ok(Packed { nar_size_bytes })
}

fn sink_failed(error: std::io::Error) -> StoreError {
    StoreError::io("write", b"NAR stream", error)
}

fn pack_here(batch: Batch, sink: &mut impl Write) -> StoreResult<u64> {
    let mut size = 0;
    batch.run(&Pool::of(64 << 10), &mut |chunk, _| {
        size += chunk.len() as u64;
        sink.write_all(&chunk).map_err(sink_failed)
    })?;
    Ok(size)
}

type Chunks = Receiver<StoreResult<Vec<u8>>>;
/// A batch, and where its chunks go.
type Task = (Batch, SyncSender<StoreResult<Vec<u8>>>);

fn pack_on_threads<W: Write + Send>(
    first: Batch,
    walker: &mut Walker<'_, '_>,
    sink: &mut W,
) -> StoreResult<u64> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
    let pool = Pool::of(2 * BATCH_BYTES as usize);
    let (jobs, to_do) = sync_channel::<Task>(threads);
    let to_do = Arc::new(Mutex::new(to_do));
    let (order, in_order) = sync_channel::<Chunks>(threads * 2);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (to_do, pool) = (Arc::clone(&to_do), &pool);
            scope.spawn(move || work(&to_do, pool));
        }
        // Only the workers hold it from here on, so that a walker that waits for them notices when
        // the last one is gone.
        drop(to_do);
        let consumer = scope.spawn(|| consume(in_order, &pool, sink));
        let mut next = Ok(Some(first));
        let walked = loop {
            let batch = match next {
                Ok(Some(batch)) => batch,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let (reply, chunks) = sync_channel(CHUNKS_AHEAD);
            // Either fails only when the consumer has stopped, and it knows why.
            if order.send(chunks).is_err() || jobs.send((batch, reply)).is_err() {
                break Ok(());
            }
            next = walker.next_batch();
        };
        drop((order, jobs));
        let consumed = consumer.join().expect("the consumer does not panic");
        // A file that vanished is told by the worker or the walker, whichever saw it first.
        walked.and(consumed)
    })
}

fn work(to_do: &Mutex<Receiver<Task>>, pool: &Pool) {
    loop {
        let next = to_do.lock().expect("nothing panics while it holds this lock").recv();
        let Ok((batch, reply)) = next else { return };
        let result = batch.run(pool, &mut |chunk, _| {
            reply.send(Ok(chunk)).map_err(|_| StoreError::Other("stopped".to_owned()))
        });
        if let Err(error) = result {
            reply.send(Err(error)).ok();
        }
    }
}

fn consume(in_order: Receiver<Chunks>, pool: &Pool, sink: &mut impl Write) -> StoreResult<u64> {
    let mut size = 0;
    for chunks in in_order {
        for chunk in chunks {
            let chunk = chunk?;
            size += chunk.len() as u64;
            sink.write_all(&chunk).map_err(sink_failed)?;
            pool.give(chunk);
        }
    }
    Ok(size)
}

/// Buffers that are used again: fresh ones cost page faults.
struct Pool {
    kept: Mutex<Vec<Vec<u8>>>,
    capacity: usize,
}

impl Pool {
    fn of(capacity: usize) -> Self {
        Self { kept: Mutex::default(), capacity }
    }

    fn take(&self) -> Vec<u8> {
        let kept = self.kept.lock().expect("nothing panics while it holds this lock").pop();
        kept.unwrap_or_else(|| Vec::with_capacity(self.capacity))
    }

    fn give(&self, mut buf: Vec<u8>) {
        buf.clear();
        self.kept.lock().expect("nothing panics while it holds this lock").push(buf);
    }
}

/// The first names of a place that is too deep to be shown whole.
fn beginning_of(place: &Arc<Place>) -> String {
    const ENOUGH: usize = 160;
    let path = place.path_of(b"");
    crate::error::shown(&path[..path.len().min(ENOUGH)]) + "…"
}

/// Where a directory lies below the top, for messages. Shared by what lies in it.
struct Place {
    parent: Option<Arc<Place>>,
    name: Vec<u8>,
}

impl Place {
    fn path_of(self: &Arc<Self>, name: &[u8]) -> Vec<u8> {
        let mut parts = vec![name];
        let mut place = Some(self);
        while let Some(at) = place {
            parts.push(&at.name);
            place = at.parent.as_ref();
        }
        parts.reverse();
        parts.join(&b'/')
    }
}

/// An open directory. The last of its files or subdirectories that is done makes it canonical.
struct Dir {
    fd: OwnedFd,
    /// Where its copy is made.
    copy: Option<OwnedFd>,
    place: Arc<Place>,
    is_top: bool,
    is_canonicalised: bool,
    failed: Arc<Mutex<Option<StoreError>>>,
}

impl Drop for Dir {
    fn drop(&mut self) {
        let fd = match &self.copy {
            Some(copy) => copy,
            None if self.is_canonicalised => &self.fd,
            None => return,
        };
        let mode = if self.is_top { MODE_OPEN_DIR } else { MODE_EXEC };
        let done = rustix::fs::fchmod(fd, mode).and_then(|()| rustix::fs::futimens(fd, &CANONICAL_TIMES));
        if let Err(e) = done {
            let error = StoreError::io("finish", self.place.path_of(b""), e);
            self.failed.lock().expect("nothing panics while it holds this lock").get_or_insert(error);
        }
    }
}

enum Piece {
    /// Goes into the NAR as it is.
    Bytes(Vec<u8>),
    /// A file in a directory: to be read, and to be closed as an entry.
    File { dir: Arc<Dir>, name: CString },
    /// The whole tree is one file.
    TopFile { dir: TopFile, name: CString },
}

/// Where a file lies that is a tree of its own, and where its copy goes.
struct TopFile {
    fd: OwnedFd,
    copy: Option<(OwnedFd, CString)>,
    is_canonicalised: bool,
}

/// A file to be read.
struct Job<'a> {
    dir: &'a OwnedFd,
    name: &'a CStr,
    copy: Option<(&'a OwnedFd, &'a CStr)>,
    is_canonicalised: bool,
    place: Option<&'a Arc<Place>>,
}

impl Job<'_> {
    fn path(&self) -> Vec<u8> {
        match self.place {
            Some(place) => place.path_of(self.name.to_bytes()),
            None => self.name.to_bytes().to_vec(),
        }
    }
}

struct Batch {
    pieces: Vec<Piece>,
    bytes_hint: u64,
}

type Emit<'a> = dyn FnMut(Vec<u8>, &Pool) -> StoreResult<()> + 'a;

impl Batch {
    /// Reads the files of this batch and emits its bytes in chunks.
    fn run(self, pool: &Pool, emit: &mut Emit<'_>) -> StoreResult<()> {
        let mut out = pool.take();
        for piece in self.pieces {
            match piece {
                Piece::Bytes(bytes) => out.extend_from_slice(&bytes),
                Piece::File { dir, name } => {
                    let job = Job {
                        dir: &dir.fd,
                        name: &name,
                        copy: dir.copy.as_ref().map(|fd| (fd, name.as_c_str())),
                        is_canonicalised: dir.is_canonicalised,
                        place: Some(&dir.place),
                    };
                    read_file(&job, pool, &mut out, emit)?;
                    strings(&mut out, &[b")", b")"]);
                }
                Piece::TopFile { dir, name } => {
                    let job = Job {
                        dir: &dir.fd,
                        name: &name,
                        copy: dir.copy.as_ref().map(|(fd, name)| (fd, name.as_c_str())),
                        is_canonicalised: dir.is_canonicalised,
                        place: None,
                    };
                    read_file(&job, pool, &mut out, emit)?;
                    string(&mut out, b")");
                }
            }
            if out.len() as u64 >= BATCH_BYTES {
                emit(std::mem::replace(&mut out, pool.take()), pool)?;
            }
        }
        emit(out, pool)
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(&[0; 8][..padding_len(bytes.len() as u64)]);
}

fn strings(out: &mut Vec<u8>, all: &[&[u8]]) {
    for bytes in all {
        string(out, bytes);
    }
}

/// Appends the node of a regular file, without its closing bracket.
fn read_file(job: &Job<'_>, pool: &Pool, out: &mut Vec<u8>, emit: &mut Emit<'_>) -> StoreResult<()> {
    let failed = |what, e: Errno| StoreError::io(what, job.path(), e);
    let (mut fd, mut stat) = open_regular(job)?;
    if job.is_canonicalised && stat.st_nlink > 1 {
        fd = break_hard_link(job, &fd).map_err(|e| failed("copy", e))?;
        stat = rustix::fs::fstat(&fd).map_err(|e| failed("look at", e))?;
    }
    let executable = stat.st_mode & 0o100 != 0;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    strings(out, &[b"(", b"type", b"regular"]);
    if executable {
        strings(out, &[b"executable", b""]);
    }
    string(out, b"contents");
    out.extend_from_slice(&size.to_le_bytes());
    let copy = match job.copy {
        Some((to, name)) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Some(
                rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|e| failed("create a copy of", e))?,
            )
        }
        None => None,
    };
    let is_sparse = (stat.st_blocks as u64).saturating_mul(512) < size;
    let mut left = size;
    while left > 0 {
        let from = out.len();
        let got = read_into(&fd, out, left).map_err(|e| failed("read", e))?;
        if got == 0 {
            return Err(StoreError::Changed { path: crate::error::shown(job.path()) });
        }
        left -= got as u64;
        if let Some(copy) = &copy {
            let part = &out[from..];
            let hole = is_sparse && part.iter().all(|b| *b == 0);
            let written = if hole {
                rustix::fs::seek(copy, rustix::fs::SeekFrom::Current(got as i64)).map(drop)
            } else {
                write_all(copy, part)
            };
            written.map_err(|e| failed("write the copy of", e))?;
        }
        if out.len() as u64 >= BATCH_BYTES {
            emit(std::mem::replace(out, pool.take()), pool)?;
        }
    }
    out.extend_from_slice(&[0; 8][..padding_len(size)]);
    if let Some(copy) = &copy {
        if is_sparse {
            rustix::fs::ftruncate(copy, size).map_err(|e| failed("write the copy of", e))?;
        }
        finish_file(copy, executable).map_err(|e| failed("finish the copy of", e))?;
    } else if job.is_canonicalised {
        canonicalise_file(&fd, &stat, executable).map_err(|e| failed("make canonical", e))?;
    }
    Ok(())
}

fn open_regular(job: &Job<'_>) -> StoreResult<(OwnedFd, Stat)> {
    let (dir, name) = (job.dir, job.name);
    let path = || job.path();
    let fd = match open_file(dir, name) {
        Err(Errno::ACCESS) if job.is_canonicalised => {
            let mode = stat_nofollow(dir, name).map_or(0, |s| s.st_mode & 0o777);
            chmod_unopened(dir, name, Mode::from_raw_mode(mode | 0o400))
                .map_err(|e| StoreError::io("make readable", path(), e))?;
            open_file(dir, name)
        }
        other => other,
    };
    let fd = match fd {
        Ok(fd) => fd,
        Err(Errno::LOOP) => return Err(StoreError::Changed { path: crate::error::shown(path()) }),
        Err(e) => return Err(StoreError::io("open", path(), e)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| StoreError::io("look at", path(), e))?;
    match file_type(&stat) {
        FileType::RegularFile => Ok((fd, stat)),
        kind => Err(StoreError::OddType { path: crate::error::shown(path()), kind: odd_kind(kind) }),
    }
}

/// Reads about a batch of the `left` bytes onto the end of `out`; 0 at the end of the file.
fn read_into(fd: &OwnedFd, out: &mut Vec<u8>, left: u64) -> rustix::io::Result<usize> {
    let want = left.min(BATCH_BYTES) as usize;
    out.reserve(want);
    let from = out.len();
    while out.len() - from < want {
        match rustix::io::read(fd, rustix::buffer::spare_capacity(out)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    // What a growing file has beyond its announced size is not part of it.
    let most = usize::try_from(left).unwrap_or(usize::MAX);
    out.truncate(from.saturating_add(most));
    Ok(out.len() - from)
}

/// Makes a file canonical where it lies.
fn canonicalise_file(fd: &OwnedFd, stat: &Stat, executable: bool) -> rustix::io::Result<()> {
    remove_xattrs(fd)?;
    take_over(fd, stat)?;
    let mode = if executable { MODE_EXEC } else { MODE_PLAIN };
    if stat.st_mode & 0o7777 != mode.as_raw_mode() {
        rustix::fs::fchmod(fd, mode)?;
    }
    if (stat.st_mtime, stat.st_mtime_nsec) != (1, 0) {
        rustix::fs::futimens(fd, &CANONICAL_TIMES)?;
    }
    Ok(())
}

/// Makes what root let another user build root's own; for everybody else it is already.
fn take_over(fd: &OwnedFd, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = us();
    if (stat.st_uid, stat.st_gid) != (uid.as_raw(), gid.as_raw()) && uid.is_root() {
        rustix::fs::fchown(fd, Some(uid), Some(gid))?;
    }
    Ok(())
}

fn us() -> (rustix::process::Uid, rustix::process::Gid) {
    (rustix::process::geteuid(), rustix::process::getegid())
}

fn remove_xattrs(fd: &OwnedFd) -> rustix::io::Result<()> {
    let mut names = Vec::with_capacity(1024);
    match rustix::fs::flistxattr(fd, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::RANGE) => {
            names.reserve(64 << 10);
            rustix::fs::flistxattr(fd, rustix::buffer::spare_capacity(&mut names))?;
        }
        // A file system without them.
        Err(Errno::NOTSUP) => return Ok(()),
        Err(e) => return Err(e),
    }
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        // The kernel's own label; it is no part of the object, and nobody may remove it.
        if name == b"security.selinux" {
            continue;
        }
        match rustix::fs::fremovexattr(fd, name) {
            // A file of mode 0400 and less is not writable for its owner, and `user.` asks for that.
            Err(Errno::ACCESS) => {
                rustix::fs::fchmod(fd, Mode::from_raw_mode(0o600))?;
                rustix::fs::fremovexattr(fd, name)?;
            }
            Err(Errno::NODATA) | Ok(()) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Gives a file with several names an inode of its own: the other names may lie in another output,
/// in an input, or outside, and no change of modes and times must reach them.
fn break_hard_link(job: &Job<'_>, fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let (dir, name) = (job.dir, job.name);
    let fresh =
        CString::new([b".ampoule-unlink-", name.to_bytes()].concat()).expect("a name has no zero byte");
    // A name of nearly 255 bytes has no room for a prefix.
    let fresh = if fresh.as_bytes().len() > 255 { c".ampoule-unlink".to_owned() } else { fresh };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(dir, &fresh, flags, Mode::from_raw_mode(0o600))?;
    let mut buf = Vec::with_capacity(256 << 10);
    loop {
        buf.clear();
        match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut buf)) {
            Ok(0) => break,
            Ok(_) => write_all(&copy, &buf)?,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    let stat = rustix::fs::fstat(fd)?;
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o777))?;
    rustix::fs::seek(&copy, rustix::fs::SeekFrom::Start(0))?;
    rustix::fs::renameat(dir, &fresh, dir, name)?;
    Ok(copy)
}

struct Frame {
    dir: Arc<Dir>,
    entries: std::vec::IntoIter<(CString, FileType)>,
}

/// Lists a tree in the order of its NAR.
struct Walker<'a, 'f> {
    top_dir: &'a OwnedFd,
    top_name: CString,
    copy_to: Option<(&'a OwnedFd, CString)>,
    is_canonicalised: bool,
    filter: Option<&'a mut Filter<'f>>,
    stack: Vec<Frame>,
    /// Path below the top, for the filter.
    below: PathBuf,
    failed: Arc<Mutex<Option<StoreError>>>,
    is_begun: bool,
    is_first: bool,
    text: Vec<u8>,
    pieces: Vec<Piece>,
    bytes_hint: u64,
    files: usize,
    dirs: usize,
}

impl<'a, 'f> Walker<'a, 'f> {
    fn new(
        dir: &'a OwnedFd,
        name: &CStr,
        mode: &PackMode<'a>,
        filter: Option<&'a mut Filter<'f>>,
    ) -> StoreResult<Self> {
        let mut text = Vec::with_capacity(256);
        string(&mut text, MAGIC);
        Ok(Self {
            top_dir: dir,
            top_name: name.to_owned(),
            copy_to: match mode {
                PackMode::Copy { dir, name } => Some((*dir, (*name).to_owned())),
                _ => None,
            },
            is_canonicalised: matches!(mode, PackMode::Canonicalise),
            filter,
            stack: Vec::new(),
            below: PathBuf::new(),
            failed: Arc::default(),
            is_begun: false,
            is_first: true,
            text,
            pieces: Vec::new(),
            bytes_hint: 0,
            files: 0,
            dirs: 0,
        })
    }

    fn is_done(&self) -> bool {
        self.is_begun && self.stack.is_empty()
    }

    /// Returns the next files and what stands between them, or nothing at the end.
    fn next_batch(&mut self) -> StoreResult<Option<Batch>> {
        if !self.is_begun {
            self.is_begun = true;
            self.top()?;
        }
        while !self.stack.is_empty() && !self.is_full() {
            self.step()?;
        }
        self.check_failed()?;
        self.end_text();
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let batch = Batch { pieces: std::mem::take(&mut self.pieces), bytes_hint: self.bytes_hint };
        (self.bytes_hint, self.files, self.dirs) = (0, 0, 0);
        self.is_first = false;
        Ok(Some(batch))
    }

    /// Returns what went wrong when a directory was finished.
    fn check_failed(&self) -> StoreResult<()> {
        match self.failed.lock().expect("nothing panics while it holds this lock").take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn is_full(&self) -> bool {
        self.bytes_hint >= BATCH_BYTES || self.files >= BATCH_FILES || self.dirs >= BATCH_DIRS
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            self.bytes_hint += self.text.len() as u64;
            self.pieces.push(Piece::Bytes(std::mem::take(&mut self.text)));
        }
    }

    fn top(&mut self) -> StoreResult<()> {
        let shown = crate::error::shown(self.top_name.as_bytes());
        let stat = stat_nofollow(self.top_dir, &self.top_name)
            .map_err(|e| StoreError::io("look at", self.top_name.as_bytes(), e))?;
        let kind = file_type(&stat);
        if self.is_canonicalised && kind != FileType::Symlink && stat.st_mode & 0o022 != 0 {
            return Err(StoreError::WritableByOthers { path: shown, mode: stat.st_mode & 0o7777 });
        }
        // A plain file or link has no directory of its own: one is made up, whose last use does
        // nothing.
        let around = || -> StoreResult<Arc<Dir>> {
            let clone = |fd: &OwnedFd| fd.try_clone().map_err(|e| StoreError::io("open", b".", e));
            Ok(Arc::new(Dir {
                fd: clone(self.top_dir)?,
                copy: None,
                place: Arc::new(Place { parent: None, name: Vec::new() }),
                is_top: true,
                is_canonicalised: false,
                failed: Arc::clone(&self.failed),
            }))
        };
        match kind {
            FileType::Directory => self.open_dir(None, &self.top_name.clone()),
            FileType::Symlink => {
                let dir = around()?;
                let name = self.top_name.clone();
                let copy = self.copy_to.as_ref().map(|(fd, name)| (*fd, name.clone()));
                self.symlink(&dir, &name, copy.as_ref().map(|(fd, name)| (fd.as_fd(), name.as_c_str())))
            }
            FileType::RegularFile => self.top_file(&stat),
            kind => Err(StoreError::OddType { path: shown, kind: odd_kind(kind) }),
        }
    }

    fn top_file(&mut self, stat: &Stat) -> StoreResult<()> {
        let clone = |fd: &OwnedFd| fd.try_clone().map_err(|e| StoreError::io("open", b".", e));
        let dir = TopFile {
            fd: clone(self.top_dir)?,
            copy: match &self.copy_to {
                Some((fd, name)) => Some((clone(fd)?, name.clone())),
                None => None,
            },
            is_canonicalised: self.is_canonicalised,
        };
        self.end_text();
        self.bytes_hint += u64::try_from(stat.st_size).unwrap_or(0);
        self.pieces.push(Piece::TopFile { dir, name: self.top_name.clone() });
        Ok(())
    }

    fn step(&mut self) -> StoreResult<()> {
        let frame = self.stack.last_mut().expect("called with an open directory");
        let dir = Arc::clone(&frame.dir);
        let Some((name, kind)) = frame.entries.next() else {
            drop(dir);
            self.stack.pop();
            self.below.pop();
            string(&mut self.text, b")");
            if !self.stack.is_empty() {
                string(&mut self.text, b")");
            }
            return Ok(());
        };
        let path = || dir.place.path_of(name.to_bytes());
        // Some file systems do not say the kind. Making canonical trusts no listing either.
        let kind = if kind == FileType::Unknown {
            let stat = stat_nofollow(&dir.fd, &name).map_err(|e| StoreError::io("look at", path(), e))?;
            file_type(&stat)
        } else {
            kind
        };
        if !self.takes(&name, kind)? {
            return Ok(());
        }
        if !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink) {
            return Err(StoreError::OddType { path: crate::error::shown(path()), kind: odd_kind(kind) });
        }
        strings(&mut self.text, &[b"entry", b"(", b"name", name.to_bytes(), b"node"]);
        match kind {
            FileType::Directory => self.open_dir(Some(&dir), &name),
            FileType::Symlink => {
                let to = dir.copy.as_ref().map(|fd| (fd.as_fd(), name.as_c_str()));
                self.symlink(&dir, &name, to)?;
                string(&mut self.text, b")");
                Ok(())
            }
            _ => {
                self.end_text();
                self.files += 1;
                // Looking at each size would cost a fifth of the time. Most files are small, and large
                // ones go out in chunks; only whether threads pay is worth a look.
                self.bytes_hint += if self.is_first { size_of(&dir.fd, &name) } else { 4096 };
                self.pieces.push(Piece::File { dir, name });
                Ok(())
            }
        }
    }

    fn takes(&mut self, name: &CStr, kind: FileType) -> StoreResult<bool> {
        use std::os::unix::ffi::OsStrExt;
        let Some(filter) = self.filter.as_mut() else { return Ok(true) };
        self.below.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let taken = filter(&self.below, FileKind::of(kind));
        self.below.pop();
        taken
    }

    fn symlink(
        &mut self,
        dir: &Dir,
        name: &CStr,
        copy: Option<(std::os::fd::BorrowedFd<'_>, &CStr)>,
    ) -> StoreResult<()> {
        let failed = |what, e: Errno| StoreError::io(what, dir.place.path_of(name.to_bytes()), e);
        let target = rustix::fs::readlinkat(&dir.fd, name, Vec::new()).map_err(|e| failed("read link", e))?;
        strings(&mut self.text, &[b"(", b"type", b"symlink", b"target", target.to_bytes(), b")"]);
        if let Some((to, as_name)) = copy {
            rustix::fs::symlinkat(&target, to, as_name).map_err(|e| failed("copy link", e))?;
            rustix::fs::utimensat(to, as_name, &CANONICAL_TIMES, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| failed("set times of", e))?;
        } else if self.is_canonicalised {
            let (uid, gid) = us();
            if uid.is_root() {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(&dir.fd, name, Some(uid), Some(gid), flags)
                    .map_err(|e| failed("take over", e))?;
            }
            rustix::fs::utimensat(&dir.fd, name, &CANONICAL_TIMES, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| failed("set times of", e))?;
        }
        Ok(())
    }

    fn open_dir(&mut self, parent: Option<&Arc<Dir>>, name: &CStr) -> StoreResult<()> {
        use std::os::unix::ffi::OsStrExt;
        let place =
            Arc::new(Place { parent: parent.map(|p| Arc::clone(&p.place)), name: name.to_bytes().to_vec() });
        let failed = |what, e: Errno| match e {
            Errno::MFILE | Errno::NFILE if self.stack.len() >= DEEP => {
                StoreError::TooDeep { path: beginning_of(&place), limit: self.stack.len() }
            }
            e => StoreError::io(what, place.path_of(b""), e),
        };
        if self.stack.len() >= MAX_DEPTH {
            return Err(StoreError::TooDeep { path: beginning_of(&place), limit: MAX_DEPTH });
        }
        if self.stack.len() == DEEP {
            allow_more_descriptors();
        }
        let from = parent.map_or(self.top_dir.as_fd(), |p| p.fd.as_fd());
        let mut fd = match open_subdir(from, name) {
            Err(Errno::ACCESS) if self.is_canonicalised => {
                chmod_unopened(from, name, MODE_OPEN_DIR).map_err(|e| failed("make readable", e))?;
                open_subdir(from, name)
            }
            other => other,
        }
        .map_err(|e| failed("open", e))?;
        if self.is_canonicalised {
            let stat = rustix::fs::fstat(&fd).map_err(|e| failed("look at", e))?;
            take_over(&fd, &stat).map_err(|e| failed("take over", e))?;
            // Names are replaced in it, where files have other names; and Nix lets no output keep
            // attributes either.
            rustix::fs::fchmod(&fd, MODE_OPEN_DIR).map_err(|e| failed("make writable", e))?;
            remove_xattrs(&fd).map_err(|e| failed("make canonical", e))?;
        }
        let to = match parent {
            Some(parent) => parent.copy.as_ref().map(|fd| (fd.as_fd(), name)),
            None => self.copy_to.as_ref().map(|(fd, name)| (fd.as_fd(), name.as_c_str())),
        };
        let copy = match to {
            Some((to, name)) => {
                rustix::fs::mkdirat(to, name, MODE_OPEN_DIR).map_err(|e| failed("create a copy of", e))?;
                Some(open_subdir(to, name).map_err(|e| failed("open the copy of", e))?)
            }
            None => None,
        };
        let entries = read_names(&mut fd).map_err(|e| failed("list", e))?;
        let dir = Arc::new(Dir {
            fd,
            copy,
            place,
            is_top: parent.is_none(),
            is_canonicalised: self.is_canonicalised,
            failed: Arc::clone(&self.failed),
        });
        strings(&mut self.text, &[b"(", b"type", b"directory"]);
        if parent.is_some() {
            self.below.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
        }
        self.dirs += 1;
        self.stack.push(Frame { dir, entries: entries.into_iter() });
        Ok(())
    }
}

fn size_of(dir: &OwnedFd, name: &CStr) -> u64 {
    stat_nofollow(dir, name).map_or(0, |s| u64::try_from(s.st_size).unwrap_or(0))
}

/// Directories in one another from which on the usual limit of descriptors may not do.
const DEEP: usize = 200;

/// Raises the soft limit of open files to the hard one.
fn allow_more_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok();
}
