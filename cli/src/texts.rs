//! Texts that an evaluation made and that are not in the store yet: derivations, `builtins.toFile`.
//!
//! A large evaluation makes a hundred megabytes of them, and most are looked at once more at the most,
//! so that beyond a mebibyte they go to a file without a name. Memory keeps where each one is (there may be
//! hundreds of thousands: nine bytes each), and what it refers to where that cannot be read from the
//! text itself.

use std::collections::HashMap;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ampoule_store::{Derivation, PathRef, StoreDir, StoreError, StorePath};
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// So much is kept in memory before it goes to the file.
const BUFFER_BYTES: usize = 256 << 10;
/// So much is read at once: nearly always a whole entry.
const FIRST_BYTES: usize = 1 << 10;

/// The texts, by their paths.
#[derive(Debug, Default)]
pub struct Texts {
    /// Found by their paths' hashes.
    places: HashTable<Place>,
    /// What texts refer to that are no derivations: of those the text itself says it.
    references: HashMap<StorePath, Box<[StorePath]>>,
    /// What comes after the file's end.
    buffer: Vec<u8>,
    file: Option<File>,
    file_bytes: u64,
    /// Whether a file could not be had or written: then all stays in memory.
    stays: bool,
}

/// Where an entry begins, and the hash of its path; the path itself is in the entry.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    /// In steps of [`STEP_BYTES`].
    at: u32,
}

/// Entries begin at multiples of it.
const STEP_BYTES: usize = 16;

impl Place {
    fn hash_of(path: &StorePath) -> u32 {
        (FxBuildHasher.hash_one(path) >> 32) as u32
    }

    /// The hash as the table wants it: different in the high and in the low bits.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn at(self) -> u64 {
        u64::from(self.at) * STEP_BYTES as u64
    }
}

/// What lies in the buffer or in the file: the lengths of a path and of a text, then both.
struct Entry {
    bytes: Vec<u8>,
    path_len: usize,
}

/// Bytes of the two lengths.
const HEAD_BYTES: usize = 1 + 8;

impl Entry {
    fn write(path: &StorePath, text: &[u8], to: &mut Vec<u8>) {
        to.push(u8::try_from(path.as_str().len()).expect("paths have 244 bytes at most"));
        to.extend_from_slice(&(text.len() as u64).to_le_bytes());
        to.extend_from_slice(path.as_str().as_bytes());
        to.extend_from_slice(text);
    }

    /// How long the entry is that begins like this.
    fn len(head: &[u8; HEAD_BYTES]) -> usize {
        let [path_len, text_len @ ..] = *head;
        HEAD_BYTES + usize::from(path_len) + u64::from_le_bytes(text_len) as usize
    }

    fn path(&self) -> &[u8] {
        &self.bytes[HEAD_BYTES..][..self.path_len]
    }

    fn into_text(mut self) -> Vec<u8> {
        self.bytes.drain(..HEAD_BYTES + self.path_len);
        self.bytes
    }
}

impl Texts {
    /// Whether there is a text at `path`.
    pub fn contains(&self, path: &StorePath) -> bool {
        // What cannot be read is told by whoever needs it.
        !self.entry(path).is_ok_and(|entry| entry.is_none())
    }

    fn entry(&self, path: &StorePath) -> io::Result<Option<Entry>> {
        let hash = Place::hash_of(path);
        for place in self.places.iter_hash(Place::spread(hash)).filter(|place| place.hash == hash) {
            let entry = self.entry_at(place.at())?;
            if entry.path() == path.as_str().as_bytes() {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Whether there is a text at `path`, or at one with the same hash: nothing is read.
    pub fn may_contain(&self, path: &StorePath) -> bool {
        let hash = Place::hash_of(path);
        self.places.find(Place::spread(hash), |place| place.hash == hash).is_some()
    }

    fn entry_at(&self, at: u64) -> io::Result<Entry> {
        let head_of = |bytes: &[u8]| *bytes.first_chunk::<HEAD_BYTES>().expect("an entry begins there");
        if let Some(from) = at.checked_sub(self.file_bytes) {
            let rest = &self.buffer[from as usize..];
            let head = head_of(rest);
            return Ok(Entry { bytes: rest[..Entry::len(&head)].to_vec(), path_len: head[0].into() });
        }
        let file = self.file.as_ref().expect("only what was written to it lies before its end");
        let mut bytes = vec![0; FIRST_BYTES.min((self.file_bytes - at) as usize)];
        file.read_exact_at(&mut bytes, at)?;
        let head = head_of(&bytes);
        let (known, len) = (bytes.len(), Entry::len(&head));
        bytes.resize(len, 0);
        if len > known {
            file.read_exact_at(&mut bytes[known..], at + known as u64)?;
        }
        Ok(Entry { bytes, path_len: head[0].into() })
    }

    /// Returns where there are texts, in the order of paths.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn paths(&self) -> io::Result<Vec<StorePath>> {
        let path_at = |place: &Place| {
            let entry = self.entry_at(place.at())?;
            StorePath::from_file_name(entry.path()).map_err(io::Error::other)
        };
        let mut paths = self.places.iter().map(path_at).collect::<io::Result<Vec<_>>>()?;
        paths.sort_unstable();
        Ok(paths)
    }

    /// Takes a text. The file, once one is wanted, lies in `dir`.
    pub fn insert<'d>(
        &mut self,
        path: &StorePath,
        text: &[u8],
        references: &[PathRef<'_>],
        dir: impl FnOnce() -> Option<&'d Path>,
    ) {
        if self.contains(path) {
            return;
        }
        if self.buffer.len() + text.len() > BUFFER_BYTES && !self.stays {
            self.stays = !self.spill(dir());
        }
        if !path.is_derivation() {
            let references = references.iter().map(|path| path.to_path()).collect();
            self.references.insert(path.clone(), references);
        }
        let at = self.file_bytes as usize + self.buffer.len();
        let at = u32::try_from(at / STEP_BYTES).expect("less than 64 GiB of texts");
        let place = Place { hash: Place::hash_of(path), at };
        Entry::write(path, text, &mut self.buffer);
        self.buffer.resize(self.buffer.len().next_multiple_of(STEP_BYTES), 0);
        self.places.insert_unique(Place::spread(place.hash), place, |place| Place::spread(place.hash));
    }

    /// Moves what is in memory to the file; false if that cannot be done.
    fn spill(&mut self, dir: Option<&Path>) -> bool {
        if self.file.is_none() {
            self.file = dir.and_then(|dir| tempfile::tempfile_in(dir).ok());
        }
        let written =
            self.file.as_ref().is_some_and(|file| file.write_all_at(&self.buffer, self.file_bytes).is_ok());
        if written {
            self.file_bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        written
    }

    /// Returns a text, if there is one.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn get(&self, path: &StorePath) -> io::Result<Option<Vec<u8>>> {
        Ok(self.entry(path)?.map(Entry::into_text))
    }

    /// Returns what the text at `path` refers to.
    ///
    /// # Errors
    /// If the text cannot be read.
    pub fn references(
        &self,
        dir: &StoreDir,
        path: &StorePath,
        text: &[u8],
    ) -> Result<Vec<StorePath>, StoreError> {
        match self.references.get(path) {
            Some(references) => Ok(references.to_vec()),
            None => {
                let derivation = Derivation::parse(dir, path.derivation_name()?, text)?;
                Ok(derivation.references().cloned().collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> StorePath {
        StorePath::parse(&format!("{number:032}-text")).expect("a store path")
    }

    /// More than fits into memory, with and without a place for the file.
    #[test]
    fn texts_come_back_as_they_went_in() {
        let dir = tempfile::tempdir().expect("a directory");
        for place in [Some(dir.path()), None, Some(Path::new("/nowhere"))] {
            let mut texts = Texts::default();
            let text = |number: usize| vec![number as u8; 1_000_000 + number];
            for number in 0..12 {
                texts.insert(&path(number), &text(number), &[(&path(number + 1)).into()], || place);
            }
            assert_eq!(texts.file.is_some(), place == Some(dir.path()));
            for number in 0..12 {
                let found = texts.get(&path(number)).expect("read");
                assert!(found == Some(text(number)), "text {number}");
                let references = texts.references(&StoreDir::default(), &path(number), b"").expect("known");
                assert_eq!(references, [path(number + 1)]);
            }
            assert!(texts.get(&path(12)).expect("read").is_none() && !texts.contains(&path(12)));
            let mut paths: Vec<StorePath> = (0..12).map(path).collect();
            paths.sort();
            assert_eq!(texts.paths().expect("read"), paths);
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0, "the file has no name");
    }
}
