//! Writes layers: files → tar → SHA-256 → compressor → SHA-256 → disk, in one pass.
//!
//! Where every byte of a layer's tar lies is known before any file is opened, so
//! the stream is cut into pieces that any thread can fill on its own:
//!
//! ```text
//!            piece 0        piece 1        piece 2
//! tar     |h a|h bbbbbbbbbbbbbbbbbbbbb|h c|h d|…          entries, laid end to end
//! fill    thread 2       thread 1       thread 3          open, pread, compress: any order
//! hash    0 ──────────→  1 ──────────→  2                 diff-id: in order, one at a time
//! write   0 ──────────→  1 ──────────→  2                 digest and file: in order
//! ```
//!
//! Hashing one layer is a chain and binds one core; everything else spreads, and
//! several layers are several chains. A thread takes what is most urgent: writing,
//! then hashing, then filling, of the first layer that has it. Who does what
//! changes from run to run, the bytes do not.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex};

use serde::{Deserialize, Serialize};

use crate::compress::{Compression, Compressor};
use crate::digest::{DiffId, Digest, Sha256};
use crate::entry::{Entry, EntryKind, FileSource};
use crate::error::{ImageError, Result};
use crate::tar;

/// A layer that has been written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerBlob {
    /// The tar's digest: what the layer is.
    pub diff_id: DiffId,
    /// The blob's digest: how it is found.
    pub digest: Digest,
    /// The blob's size.
    pub size_bytes: u64,
    /// The tar's size.
    pub tar_bytes: u64,
    /// How it is compressed, as a media type.
    pub media_type: String,
}

/// A layer to be written: settled entries, and the open file that gets the blob.
pub struct LayerJob<'a> {
    /// Sorted, with parents before children (see [`crate::entry::settle`]).
    pub entries: &'a [Entry],
    /// Gets the blob. Must be empty.
    pub file: &'a File,
    /// How the file is called in errors.
    pub path: &'a Path,
}

/// Writes all layers at once on `threads` threads (all cores if `None`).
///
/// # Errors
/// The first failure: [`ImageError::Io`] of a file that cannot be read, is shorter
/// than it was when it was listed, or of the blob.
pub fn write_layers(
    jobs: &[LayerJob<'_>],
    compression: Compression,
    threads: Option<NonZeroUsize>,
) -> Result<Vec<LayerBlob>> {
    let streams: Vec<Stream<'_>> = jobs.iter().map(|job| Stream::new(job, compression)).collect();
    let pieces: u64 = streams.iter().map(|s| s.pieces).sum();
    let cores = threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let threads = cores.min(usize::try_from(pieces).unwrap_or(usize::MAX)).max(1);
    let pool = Pool::new(streams, compression, threads);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| pool.work());
        }
        pool.work();
    });
    pool.into_blobs()
}

/// One layer's tar as a stream of known places.
struct Stream<'a> {
    job: &'a LayerJob<'a>,
    /// Where each entry's header begins; one more at the end.
    starts: Vec<u64>,
    /// The tar's size, its two closing blocks included.
    len: u64,
    pieces: u64,
    piece_bytes: usize,
}

impl<'a> Stream<'a> {
    fn new(job: &'a LayerJob<'a>, compression: Compression) -> Self {
        let mut at = 0;
        let mut starts = Vec::with_capacity(job.entries.len() + 1);
        for entry in job.entries {
            starts.push(at);
            at += tar::entry_len(entry);
        }
        starts.push(at);
        let len = at + 2 * tar::BLOCK_BYTES as u64;
        let piece_bytes = compression.piece_bytes(len);
        Self { job, starts, len, pieces: len.div_ceil(piece_bytes as u64), piece_bytes }
    }

    /// Makes piece number `index` of the stream.
    fn fill(&self, index: u64, piece: &mut Vec<u8>) -> Result<()> {
        let from = index * self.piece_bytes as u64;
        let to = (from + self.piece_bytes as u64).min(self.len);
        let whole = usize::try_from(to - from).expect("a piece fits into memory");
        piece.clear();
        let mut header = Vec::new();
        let mut at = self.starts.partition_point(|&start| start <= from).saturating_sub(1);
        while piece.len() < whole && at < self.job.entries.len() {
            let entry = &self.job.entries[at];
            let here = from + piece.len() as u64;
            let skip = here - self.starts[at];
            header.clear();
            tar::write_header(entry, &mut header);
            let header_len = header.len() as u64;
            if skip < header_len {
                let rest = &header[skip as usize..];
                piece.extend_from_slice(&rest[..rest.len().min(whole - piece.len())]);
            }
            let body = tar::body_len(entry);
            let done = (from + piece.len() as u64) - self.starts[at];
            if piece.len() < whole && done < header_len + body {
                let offset = done - header_len;
                let n = (whole - piece.len()).min(usize::try_from(body - offset).unwrap_or(usize::MAX));
                let start = piece.len();
                piece.resize(start + n, 0);
                read_body(entry, offset, &mut piece[start..])?;
            }
            let end = self.starts[at + 1].min(to) - from;
            let end = usize::try_from(end).expect("within a piece");
            if piece.len() < end {
                piece.resize(end, 0);
            }
            at += 1;
        }
        piece.resize(whole, 0);
        Ok(())
    }
}

fn read_body(entry: &Entry, offset: u64, into: &mut [u8]) -> Result<()> {
    let EntryKind::File { source, .. } = &entry.kind else { return Ok(()) };
    match source {
        FileSource::Bytes(bytes) => {
            let from = usize::try_from(offset).expect("bytes in memory have offsets in memory");
            into.copy_from_slice(&bytes[from..from + into.len()]);
            Ok(())
        }
        FileSource::Path(path) => {
            let fail = |e| ImageError::io("read", path, e);
            File::open(path).map_err(fail)?.read_exact_at(into, offset).map_err(fail)
        }
    }
}

/// What is known about one piece in flight.
#[derive(Default)]
struct Piece {
    raw: Option<Vec<u8>>,
    packed: Option<Vec<u8>>,
}

/// One layer's progress.
struct Progress {
    next_fill: u64,
    next_hash: u64,
    next_write: u64,
    hashing: bool,
    writing: bool,
    /// Pieces from the oldest that is not done: a ring over the window.
    window: Vec<Piece>,
    diff: Option<Sha256>,
    blob: Option<Sha256>,
    written: u64,
}

struct State {
    layers: Vec<Progress>,
    /// Buffers to use again: fresh memory costs as much as copying into it.
    spare: Vec<Vec<u8>>,
    in_flight: usize,
    failed: Option<ImageError>,
}

enum Task {
    Fill(usize, u64),
    Hash(usize, Sha256, Vec<u8>),
    Write(usize, Sha256, Vec<u8>, u64),
}

struct Pool<'a> {
    streams: Vec<Stream<'a>>,
    compression: Compression,
    /// Pieces in memory at once, all layers together.
    limit: usize,
    window: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl<'a> Pool<'a> {
    fn new(streams: Vec<Stream<'a>>, compression: Compression, threads: usize) -> Self {
        let window = 4 * threads as u64 + 2;
        let layers = streams
            .iter()
            .map(|stream| Progress {
                next_fill: 0,
                next_hash: 0,
                next_write: 0,
                hashing: false,
                writing: false,
                window: (0..window.min(stream.pieces)).map(|_| Piece::default()).collect(),
                diff: Some(Sha256::new()),
                blob: Some(Sha256::new()),
                written: 0,
            })
            .collect();
        let state = State { layers, spare: Vec::new(), in_flight: 0, failed: None };
        Self {
            streams,
            compression,
            limit: 6 * threads + 2,
            window,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn packs(&self) -> bool {
        self.compression != Compression::None
    }

    /// Does what is most urgent until nothing is left.
    fn work(&self) {
        let mut compressor = Compressor::new(self.compression);
        let mut state = self.state.lock().expect("no task panics while it holds the lock");
        loop {
            if state.failed.is_some() {
                return;
            }
            let Some(task) = self.take(&mut state) else {
                if self.is_done(&state) {
                    return;
                }
                state = self.changed.wait(state).expect("no task panics while it holds the lock");
                continue;
            };
            let buffers = match task {
                Task::Fill(..) => {
                    (state.spare.pop().unwrap_or_default(), state.spare.pop().unwrap_or_default())
                }
                _ => Default::default(),
            };
            drop(state);
            let outcome = self.run(task, buffers, &mut compressor);
            state = self.state.lock().expect("no task panics while it holds the lock");
            match outcome {
                Ok(done) => self.settle(&mut state, done),
                Err(error) => state.failed = state.failed.take().or(Some(error)),
            }
            self.changed.notify_all();
        }
    }

    fn is_done(&self, state: &State) -> bool {
        state.layers.iter().zip(&self.streams).all(|(layer, stream)| {
            layer.next_hash == stream.pieces
                && (!self.packs() || layer.next_write == stream.pieces)
                && layer.next_fill == stream.pieces
                && !layer.hashing
                && !layer.writing
        })
    }

    fn take(&self, state: &mut State) -> Option<Task> {
        for (i, layer) in state.layers.iter_mut().enumerate() {
            let size = layer.window.len() as u64;
            if !layer.writing && layer.next_write < layer.next_fill && self.packs() {
                let slot = &mut layer.window[(layer.next_write % size) as usize];
                if let Some(packed) = slot.packed.take() {
                    layer.writing = true;
                    let at = layer.written;
                    return Some(Task::Write(
                        i,
                        layer.blob.take().expect("one writer at a time"),
                        packed,
                        at,
                    ));
                }
            }
            if !layer.hashing && layer.next_hash < layer.next_fill {
                let slot = &mut layer.window[(layer.next_hash % size) as usize];
                if let Some(raw) = slot.raw.take() {
                    layer.hashing = true;
                    return Some(Task::Hash(i, layer.diff.take().expect("one hasher at a time"), raw));
                }
            }
        }
        if state.in_flight >= self.limit {
            return None;
        }
        for (i, layer) in state.layers.iter_mut().enumerate() {
            let oldest = if self.packs() { layer.next_hash.min(layer.next_write) } else { layer.next_hash };
            if layer.next_fill < self.streams[i].pieces && layer.next_fill - oldest < self.window {
                layer.next_fill += 1;
                state.in_flight += 1;
                return Some(Task::Fill(i, layer.next_fill - 1));
            }
        }
        None
    }

    fn run(&self, task: Task, buffers: (Vec<u8>, Vec<u8>), compressor: &mut Compressor) -> Result<Done> {
        match task {
            Task::Fill(i, index) => {
                let (mut raw, mut packed) = buffers;
                let stream = &self.streams[i];
                stream.fill(index, &mut raw)?;
                if self.packs() {
                    compressor.compress(&raw, &mut packed)?;
                } else {
                    // An uncompressed piece has its place already: no need to wait for a turn.
                    let at = index * stream.piece_bytes as u64;
                    write_at(stream.job, &raw, at)?;
                }
                Ok(Done::Filled(i, index, raw, packed))
            }
            Task::Hash(i, mut hasher, raw) => {
                hasher.update(&raw);
                Ok(Done::Hashed(i, hasher, raw))
            }
            Task::Write(i, mut hasher, packed, at) => {
                hasher.update(&packed);
                write_at(self.streams[i].job, &packed, at)?;
                Ok(Done::Written(i, hasher, packed))
            }
        }
    }

    fn settle(&self, state: &mut State, done: Done) {
        match done {
            Done::Filled(i, index, raw, packed) => {
                let layer = &mut state.layers[i];
                let at = (index % layer.window.len() as u64) as usize;
                let packed = if self.packs() {
                    Some(packed)
                } else {
                    state.spare.push(packed);
                    None
                };
                layer.window[at] = Piece { raw: Some(raw), packed };
            }
            Done::Hashed(i, hasher, raw) => {
                let layer = &mut state.layers[i];
                layer.diff = Some(hasher);
                layer.hashing = false;
                layer.next_hash += 1;
                if !self.packs() || layer.next_write >= layer.next_hash {
                    state.in_flight -= 1;
                }
                state.spare.push(raw);
            }
            Done::Written(i, hasher, packed) => {
                let layer = &mut state.layers[i];
                layer.blob = Some(hasher);
                layer.writing = false;
                layer.written += packed.len() as u64;
                layer.next_write += 1;
                if layer.next_hash >= layer.next_write {
                    state.in_flight -= 1;
                }
                state.spare.push(packed);
            }
        }
    }

    fn into_blobs(self) -> Result<Vec<LayerBlob>> {
        let state = self.state.into_inner().expect("every worker has ended");
        if let Some(error) = state.failed {
            return Err(error);
        }
        let packs = self.compression != Compression::None;
        Ok(state
            .layers
            .into_iter()
            .zip(&self.streams)
            .map(|(layer, stream)| {
                let diff = layer.diff.expect("hashing has ended").finish();
                let blob = layer.blob.expect("writing has ended").finish();
                LayerBlob {
                    diff_id: DiffId(diff),
                    digest: if packs { blob } else { diff },
                    size_bytes: if packs { layer.written } else { stream.len },
                    tar_bytes: stream.len,
                    media_type: self.compression.media_type().to_owned(),
                }
            })
            .collect())
    }
}

enum Done {
    Filled(usize, u64, Vec<u8>, Vec<u8>),
    Hashed(usize, Sha256, Vec<u8>),
    Written(usize, Sha256, Vec<u8>),
}

fn write_at(job: &LayerJob<'_>, bytes: &[u8], at: u64) -> Result<()> {
    job.file.write_all_at(bytes, at).map_err(|e| ImageError::io("write", job.path, e))
}
