//! Many store paths by number, in little more memory than their texts.
//!
//! A [`StorePath`] of its own takes 96 bytes: what points to it, counts of who does, and what the allocator
//! adds. A graph of a hundred thousand derivations has more of them than of anything else. Here one takes
//! its text and five bytes.
//!
//! ```
//! use ampoule_store::{PathList, StorePath};
//!
//! let path = StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-a").unwrap();
//! let mut list = PathList::default();
//! let number = list.push(&path);
//! assert_eq!(list.text(number), path.as_str());
//! assert_eq!(list.get(number), path);
//! ```

use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use crate::StorePath;
use crate::path::{HASH_PART_LEN, MAX_NAME_LEN, PathRef};

/// Bytes that are asked for at once. Nothing is copied when the list grows.
const CHUNK_BYTES: usize = 64 << 10;
/// The longest entry: its length, and a path.
const LONGEST: usize = 1 + HASH_PART_LEN + 1 + MAX_NAME_LEN;

/// Store paths, numbered from 0 in the order in which they came.
#[derive(Debug, Default)]
pub struct PathList {
    /// A length, then as many bytes. No entry lies in two chunks.
    chunks: Vec<Box<[u8]>>,
    /// Of the last chunk.
    used: usize,
    /// Where each begins, all chunks counted.
    starts: Vec<u32>,
}

impl PathList {
    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Adds a path, even if it is there already, and returns its number.
    ///
    /// # Panics
    /// Beyond 4 GiB of paths.
    pub fn push(&mut self, path: &StorePath) -> u32 {
        if self.chunks.is_empty() || self.used + LONGEST > CHUNK_BYTES {
            self.chunks.push(vec![0; CHUNK_BYTES].into_boxed_slice());
            self.used = 0;
        }
        let start = (self.chunks.len() - 1) * CHUNK_BYTES + self.used;
        let chunk = self.chunks.last_mut().expect("just made");
        let text = path.as_str().as_bytes();
        chunk[self.used] = text.len() as u8;
        chunk[self.used + 1..][..text.len()].copy_from_slice(text);
        self.used += 1 + text.len();
        let number = self.starts.len() as u32;
        self.starts.push(u32::try_from(start).expect("less than 4 GiB of paths"));
        number
    }

    /// Returns the path of this number as `HASH-NAME`.
    #[must_use]
    pub fn text(&self, number: u32) -> &str {
        let start = self.starts[number as usize] as usize;
        let chunk = &self.chunks[start / CHUNK_BYTES][start % CHUNK_BYTES..];
        std::str::from_utf8(&chunk[1..][..usize::from(chunk[0])]).expect("paths are ASCII")
    }

    /// Returns the path of this number where it lies.
    #[must_use]
    pub fn at(&self, number: u32) -> PathRef<'_> {
        PathRef::of_checked(self.text(number))
    }

    /// Returns a hash of a path given as `HASH-NAME`, for a table of numbers.
    #[must_use]
    pub fn hash_of(path: &str) -> u64 {
        // The first digits are as good as all: they are of a hash themselves.
        FxBuildHasher.hash_one(&path.as_bytes()[..16])
    }

    /// Returns the path of this number, as one of its own.
    #[must_use]
    pub fn get(&self, number: u32) -> StorePath {
        StorePath::of_checked(self.text(number))
    }
}

/// Store paths, each once.
#[derive(Debug, Default)]
pub struct PathSet {
    list: PathList,
    /// Numbers, found by the paths.
    numbers: HashTable<u32>,
}

impl PathSet {
    /// Adds a path; false if it was there.
    pub fn insert(&mut self, path: &StorePath) -> bool {
        if self.contains(path) {
            return false;
        }
        let number = self.list.push(path);
        let list = &self.list;
        self.numbers.insert_unique(PathList::hash_of(path.as_str()), number, |&number| {
            PathList::hash_of(list.text(number))
        });
        true
    }

    /// Returns whether a path is there.
    #[must_use]
    pub fn contains(&self, path: &StorePath) -> bool {
        let text = path.as_str();
        self.numbers.find(PathList::hash_of(text), |&number| self.list.text(number) == text).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_any_length_come_back() {
        let mut list = PathList::default();
        let path = |number: usize| {
            let name = "n".repeat(1 + number * 7 % MAX_NAME_LEN);
            StorePath::parse(&format!("{number:032}-{name}")).expect("a store path")
        };
        let mut set = PathSet::default();
        for number in 0..3000 {
            assert_eq!(list.push(&path(number)) as usize, number);
            assert!(set.insert(&path(number)) && !set.insert(&path(number / 2)));
        }
        assert!(set.contains(&path(2999)) && !set.contains(&path(3000)));
        assert!(list.chunks.len() > 3);
        assert!((0..3000).all(|number| list.get(number as u32) == path(number)));
    }
}
