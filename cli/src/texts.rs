//! Texts that an evaluation made and that are not in the store yet: derivations, `builtins.toFile`.
//!
//! A large evaluation makes a hundred megabytes of them, and most are looked at once more at the most,
//! so that beyond a few megabytes they go to a file without a name. Memory keeps where each one is, and
//! what it refers to where that cannot be read from the text itself.

use std::collections::HashMap;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ampoule_store::{Derivation, StoreDir, StoreError, StorePath};
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// So much is kept in memory before it goes to the file.
const BUFFER_BYTES: usize = 1 << 20;

/// The texts, by their paths.
#[derive(Debug, Default)]
pub struct Texts {
    places: Vec<Place>,
    /// Numbers of places, found by the paths.
    by_path: HashTable<u32>,
    /// What texts refer to that are no derivations: of those the text itself says it.
    references: HashMap<StorePath, Box<[StorePath]>>,
    /// What comes after the file's end.
    buffer: Vec<u8>,
    file: Option<File>,
    file_bytes: u64,
    /// Whether a file could not be had or written: then all stays in memory.
    stays: bool,
}

#[derive(Debug)]
struct Place {
    path: StorePath,
    at: u64,
    length: usize,
}

impl Texts {
    /// Whether there is a text at `path`.
    pub fn contains(&self, path: &StorePath) -> bool {
        self.place(path).is_some()
    }

    fn place(&self, path: &StorePath) -> Option<&Place> {
        let number = self
            .by_path
            .find(FxBuildHasher.hash_one(path), |&number| self.places[number as usize].path == *path);
        number.map(|&number| &self.places[number as usize])
    }

    /// Returns where there are texts, in the order of paths.
    pub fn paths(&self) -> Vec<StorePath> {
        let mut paths: Vec<StorePath> = self.places.iter().map(|place| place.path.clone()).collect();
        paths.sort();
        paths
    }

    /// Takes a text. The file, once one is wanted, lies in `dir`.
    pub fn insert<'d>(
        &mut self,
        path: &StorePath,
        text: &[u8],
        references: &[&StorePath],
        dir: impl FnOnce() -> Option<&'d Path>,
    ) {
        if self.contains(path) {
            return;
        }
        if self.buffer.len() + text.len() > BUFFER_BYTES && !self.stays {
            self.stays = !self.spill(dir());
        }
        if !path.is_derivation() {
            let references = references.iter().map(|&path| path.clone()).collect();
            self.references.insert(path.clone(), references);
        }
        let at = self.file_bytes + self.buffer.len() as u64;
        self.buffer.extend_from_slice(text);
        let number = u32::try_from(self.places.len()).expect("fewer than 2^32 texts");
        self.places.push(Place { path: path.clone(), at, length: text.len() });
        let places = &self.places;
        let hash_of = |&number: &u32| FxBuildHasher.hash_one(&places[number as usize].path);
        self.by_path.insert_unique(hash_of(&number), number, hash_of);
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
        let Some(place) = self.place(path) else { return Ok(None) };
        if let Some(from) = place.at.checked_sub(self.file_bytes) {
            let from = from as usize;
            return Ok(Some(self.buffer[from..from + place.length].to_vec()));
        }
        let mut text = vec![0; place.length];
        let file = self.file.as_ref().expect("only what was written to it lies before its end");
        file.read_exact_at(&mut text, place.at)?;
        Ok(Some(text))
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
                texts.insert(&path(number), &text(number), &[&path(number + 1)], || place);
            }
            assert_eq!(texts.file.is_some(), place == Some(dir.path()));
            for number in 0..12 {
                let found = texts.get(&path(number)).expect("read");
                assert!(found == Some(text(number)), "text {number}");
                let references = texts.references(&StoreDir::default(), &path(number), b"").expect("known");
                assert_eq!(references, [path(number + 1)]);
            }
            assert!(texts.get(&path(12)).expect("read").is_none());
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0, "the file has no name");
    }
}
