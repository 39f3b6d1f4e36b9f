//! Source texts: their bytes, their names, and their lines.
//!
//! A [`Source`] is bytes and not text, because strings of the language may hold
//! any byte. A [`SourceMap`] hands out [`FileId`]s and finds sources again when a
//! position must be shown; it can be shared between threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, RwLock};

use crate::span::Span;

/// The largest source that is read: offsets, and with them counts of nodes, must fit 32 bits.
pub const MAX_SOURCE_BYTES: usize = 512 << 20;

/// Handle of a source in its [`SourceMap`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FileId(pub u32);

/// A place as people count it: both numbers start at 1, columns count bytes as Nix does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// From 1.
    pub line_number: u32,
    /// From 1, in bytes.
    pub column_number: u32,
}

/// A source text.
#[derive(Debug)]
pub struct Source {
    id: FileId,
    name: String,
    base_dir: PathBuf,
    bytes: Vec<u8>,
    line_starts: OnceLock<Vec<u32>>,
}

impl Source {
    /// Makes a source that stands alone, with `FileId(0)` (tests, tools that read one file).
    ///
    /// `name` is what messages call it; relative path literals start at `base_dir`.
    pub fn new(name: impl Into<String>, base_dir: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            id: FileId(0),
            name: name.into(),
            base_dir: base_dir.into(),
            bytes: bytes.into(),
            line_starts: OnceLock::new(),
        }
    }

    /// Returns its handle.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Returns what messages call it: a path, or something like `«string»`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the directory at which relative path literals start.
    pub fn base_dir(&self) -> &Path {
        &self.base_dir
    }

    /// Returns the text.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes of `span`.
    pub fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.range()]
    }

    /// Returns line and column of a byte offset. `\n`, `\r\n` and a lone `\r` end a line, as in Nix.
    pub fn position(&self, offset: u32) -> Position {
        let starts = self.line_starts();
        let line_index = starts.partition_point(|&start| start <= offset) - 1;
        Position { line_number: line_index as u32 + 1, column_number: offset - starts[line_index] + 1 }
    }

    /// Returns the span of line `line_number` (from 1) without its end, or `None` if there is no such line.
    pub fn line(&self, line_number: u32) -> Option<Span> {
        let starts = self.line_starts();
        let index = (line_number as usize).checked_sub(1)?;
        let start = *starts.get(index)?;
        let end = starts.get(index + 1).copied().unwrap_or(self.bytes.len() as u32);
        let text = &self.bytes[start as usize..end as usize];
        let kept = text.iter().rposition(|&b| b != b'\n' && b != b'\r').map_or(0, |i| i + 1);
        Some(Span::new(start, start + kept as u32))
    }

    fn line_starts(&self) -> &[u32] {
        self.line_starts.get_or_init(|| {
            let ends = self
                .bytes
                .iter()
                .enumerate()
                .filter(|&(i, &b)| b == b'\n' || (b == b'\r' && self.bytes.get(i + 1) != Some(&b'\n')));
            std::iter::once(0).chain(ends.map(|(i, _)| i as u32 + 1)).collect()
        })
    }
}

/// All sources of a run, found by [`FileId`]. Shared between threads; sources are only ever added.
#[derive(Debug, Default)]
pub struct SourceMap {
    files: RwLock<Vec<Arc<Source>>>,
}

impl SourceMap {
    /// Returns an empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source; for the arguments see [`Source::new`].
    pub fn add(
        &self,
        name: impl Into<String>,
        base_dir: impl Into<PathBuf>,
        bytes: impl Into<Vec<u8>>,
    ) -> Arc<Source> {
        let mut source = Source::new(name, base_dir, bytes);
        let mut files = self.files.write().expect("no holder of this lock panics");
        source.id = FileId(u32::try_from(files.len()).expect("fewer than 2^32 files"));
        let source = Arc::new(source);
        files.push(Arc::clone(&source));
        source
    }

    /// Returns the source with this handle.
    ///
    /// # Panics
    /// If the handle is another map's.
    pub fn get(&self, id: FileId) -> Arc<Source> {
        Arc::clone(&self.files.read().expect("no holder of this lock panics")[id.0 as usize])
    }
}
