//! Sparse files in tar: what is a hole, and where the data belong.
//!
//! GNU tar wrote them in four ways; all say the same: pieces of data by offset and
//! length, and how long the file is.
//!
//! ```text
//! old   type `S`; four pieces in the header, 21 in each block that follows; the size in the header
//! 0.0   PAX: GNU.sparse.size, .numblocks, and .offset, .numbytes again and again
//! 0.1   PAX: GNU.sparse.name, .size, .numblocks, .map = offset,length,offset,length …
//! 1.0   PAX: GNU.sparse.major, .minor, .name, .realsize; the map is the start of the data, one number a line
//! ```
//!
//! What is read here is believed only if the pieces go upwards, do not overlap, lie within
//! the file, and are together as long as the data that the archive has.

use super::error::UnpackError;
use super::tar::{BLOCK, number, pax_number};

/// A piece of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    offset: u64,
    len: u64,
}

/// More pieces than any file of ours has; a map of them takes 16 MiB of memory.
const MAX_RUNS: usize = 1 << 20;

fn bad(reason: &str) -> UnpackError {
    UnpackError::archive(format!("its map of holes is wrong: {reason}"))
}

fn push(runs: &mut Vec<Run>, offset: u64, len: u64) -> Result<(), UnpackError> {
    if runs.len() == MAX_RUNS {
        return Err(bad(&format!("more than {MAX_RUNS} pieces")));
    }
    runs.push(Run { offset, len });
    Ok(())
}

/// Reads pieces of 24 bytes, as headers of the old form have them; the first without a length ends them.
pub(super) fn read_runs(table: &[u8], runs: &mut Vec<Run>) -> Result<(), UnpackError> {
    for piece in table.chunks_exact(24) {
        if piece[12] == 0 {
            break;
        }
        push(runs, number(&piece[..12], "offset of a piece")?, number(&piece[12..], "length of a piece")?)?;
    }
    Ok(())
}

/// What PAX records say.
#[derive(Debug, Default)]
pub(super) struct Pax {
    /// The file's own name; the entry's is one for readers that know no holes.
    pub(super) name: Option<Vec<u8>>,
    version: (Option<u64>, Option<u64>),
    size_bytes: Option<u64>,
    count: Option<u64>,
    runs: Vec<Run>,
    /// An offset whose length comes next.
    offset: Option<u64>,
}

impl Pax {
    /// Takes a record `GNU.sparse.KEY`.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        let digits = || pax_number(&[b"GNU.sparse.", key].concat(), value);
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.version.0 = Some(digits()?),
            b"minor" => self.version.1 = Some(digits()?),
            b"size" | b"realsize" => self.size_bytes = Some(digits()?),
            b"numblocks" => {
                self.count = Some(digits()?);
                self.runs = Vec::new();
            }
            b"offset" => {
                if self.offset.replace(digits()?).is_some() {
                    return Err(bad("two offsets in a row"));
                }
            }
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(|| bad("a length without an offset"))?;
                push(&mut self.runs, offset, digits()?)?;
            }
            b"map" => {
                self.runs = Vec::new();
                let mut numbers =
                    value.split(|byte| *byte == b',').map(|part| pax_number(b"GNU.sparse.map", part));
                while let Some(offset) = numbers.next() {
                    let len = numbers.next().ok_or_else(|| bad("an offset without a length"))?;
                    push(&mut self.runs, offset?, len?)?;
                }
            }
            other => return Err(bad(&format!("unknown record `GNU.sparse.{}`", other.escape_ascii()))),
        }
        Ok(())
    }

    /// Whether the map is the start of the data.
    pub(super) fn map_is_in_data(&self) -> Result<bool, UnpackError> {
        match self.version {
            (None, None) | (Some(0), Some(0 | 1)) => Ok(false),
            (Some(1), Some(0)) => Ok(true),
            (major, minor) => {
                let version = format!("{}.{}", major.unwrap_or_default(), minor.unwrap_or_default());
                Err(UnpackError::archive(format!("holes in form {version} are not known")))
            }
        }
    }

    /// Returns the pieces and the file's size; `in_data` are those that stood there.
    pub(super) fn finish(self, in_data: Vec<Run>) -> Result<(Vec<Run>, u64), UnpackError> {
        let runs = if self.map_is_in_data()? { in_data } else { self.runs };
        if self.offset.is_some() {
            return Err(bad("an offset without a length"));
        }
        if self.count.is_some_and(|count| count != runs.len() as u64) {
            return Err(bad("it has another number of pieces than it says"));
        }
        let size_bytes = self.size_bytes.ok_or_else(|| bad("the file's size is missing"))?;
        Ok((runs, size_bytes))
    }
}

/// The map at the start of the data, block by block: how many pieces, then offset and length of each.
#[derive(Default)]
pub(super) struct Lines {
    digits: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    runs: Vec<Run>,
}

impl Lines {
    /// Takes a block; returns the pieces when the map is whole. What follows it in its block is padding.
    pub(super) fn take(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<Run>>, UnpackError> {
        for byte in block {
            match byte {
                b'0'..=b'9' if self.digits.len() < 20 => self.digits.push(*byte),
                b'\n' => {
                    let value = pax_number(b"GNU.sparse map", &std::mem::take(&mut self.digits))?;
                    if self.number(value)? {
                        return Ok(Some(std::mem::take(&mut self.runs)));
                    }
                }
                _ => return Err(bad("it is not a list of numbers")),
            }
        }
        Ok(None)
    }

    /// Takes a number; returns whether it was the last.
    fn number(&mut self, value: u64) -> Result<bool, UnpackError> {
        let Some(count) = self.count else {
            self.count = Some(value);
            return Ok(value == 0);
        };
        match self.offset.take() {
            None => self.offset = Some(value),
            Some(offset) => push(&mut self.runs, offset, value)?,
        }
        Ok(self.runs.len() as u64 == count)
    }
}

/// A sparse file that is being read.
#[derive(Debug)]
pub(super) struct Holes {
    /// What is left of the pieces, the next one last.
    runs: Vec<Run>,
    size_bytes: u64,
    at: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many zeros.
    Hole(u64),
    /// So many bytes of the archive.
    Data(u64),
    /// Nothing.
    End,
}

impl Holes {
    /// Checks a map of a file of `size_bytes`, of which the archive has `stored_bytes`.
    pub(super) fn new(mut runs: Vec<Run>, size_bytes: u64, stored_bytes: u64) -> Result<Self, UnpackError> {
        runs.retain(|run| run.len > 0);
        let (mut end, mut stored) = (0_u64, 0_u64);
        for (nth, run) in runs.iter().enumerate() {
            if run.offset < end {
                return Err(bad("pieces overlap, or are not in order"));
            }
            end = run.offset.checked_add(run.len).ok_or_else(|| bad("a piece ends beyond all files"))?;
            // Below `end`, which did not overflow.
            stored += run.len;
            // Some readers look for the next piece in the next block, and some right behind this one.
            if run.len % BLOCK as u64 != 0 && nth + 1 < runs.len() {
                return Err(bad("a piece is not a number of whole blocks"));
            }
        }
        if end > size_bytes {
            return Err(bad("a piece ends beyond the end of the file"));
        }
        if stored != stored_bytes {
            return Err(bad(&format!("pieces of {stored} bytes, where the archive has {stored_bytes}")));
        }
        runs.reverse();
        Ok(Self { runs, size_bytes, at: 0 })
    }

    /// How long the file is.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns what comes next.
    pub(super) fn next_piece(&self) -> Piece {
        match self.runs.last() {
            Some(run) if self.at < run.offset => Piece::Hole(run.offset - self.at),
            Some(run) => Piece::Data(run.offset + run.len - self.at),
            None if self.at < self.size_bytes => Piece::Hole(self.size_bytes - self.at),
            None => Piece::End,
        }
    }

    /// Goes on by `len` bytes of the piece that comes next.
    pub(super) fn advance(&mut self, len: u64) {
        self.at += len;
        self.runs.pop_if(|run| self.at == run.offset + run.len);
    }
}
