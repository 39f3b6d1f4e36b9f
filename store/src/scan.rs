//! Finds references: the hash parts of known store paths in a stream of bytes.
//!
//! A hash part is 32 digits in a row. Looking at every 32nd byte first, and skipping behind the
//! last byte that is no digit, costs a few per cent of hashing the same bytes. The last 31 bytes of
//! each piece are kept, so a reference across two pieces is found.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};

use crate::StorePath;
use crate::base32;
use crate::path::HASH_PART_LEN;

/// Looks for the hash parts of some paths in what is written to it.
pub struct ReferenceScanner {
    wanted: HashMap<[u8; HASH_PART_LEN], StorePath>,
    found: BTreeSet<StorePath>,
    tail: Vec<u8>,
}

impl ReferenceScanner {
    /// Begins, looking for these.
    pub fn new(candidates: impl IntoIterator<Item = StorePath>) -> Self {
        let key = |p: &StorePath| p.hash_part().as_bytes().try_into().expect("a hash part has 32 digits");
        let wanted = candidates.into_iter().map(|p| (key(&p), p)).collect();
        Self { wanted, found: BTreeSet::new(), tail: Vec::new() }
    }

    /// Looks through the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        if self.wanted.is_empty() {
            return;
        }
        // The seam: the kept end of what came before, and the beginning of this piece.
        let head = &piece[..piece.len().min(HASH_PART_LEN - 1)];
        let mut seam = std::mem::take(&mut self.tail);
        seam.extend_from_slice(head);
        self.search(&seam);
        if piece.len() >= HASH_PART_LEN {
            self.search(piece);
            seam.clear();
            seam.extend_from_slice(&piece[piece.len() - (HASH_PART_LEN - 1)..]);
        } else {
            seam.drain(..seam.len().saturating_sub(HASH_PART_LEN - 1));
        }
        self.tail = seam;
    }

    fn search(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at + HASH_PART_LEN <= bytes.len() {
            let window: &[u8; HASH_PART_LEN] =
                bytes[at..at + HASH_PART_LEN].try_into().expect("it has that length");
            if let Some(last) = window.iter().rposition(|b| !base32::is_digit(*b)) {
                at += last + 1;
                continue;
            }
            if let Some(path) = self.wanted.get(window) {
                self.found.insert(path.clone());
            }
            at += 1;
        }
    }

    /// Returns what was found.
    #[must_use]
    pub fn finish(self) -> BTreeSet<StorePath> {
        self.found
    }
}

impl Write for ReferenceScanner {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_57_found_across_every_boundary() {
        let path = StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-a").unwrap();
        let other = StorePath::parse("0cif0kzjly0k4gxq2d7bm0x9df2924df-b").unwrap();
        let text = format!("0123abc{}xyz and more text behind it", path.hash_part());
        for cut in 0..text.len() {
            for second in cut..text.len() {
                let mut scanner = ReferenceScanner::new([path.clone(), other.clone()]);
                scanner.update(&text.as_bytes()[..cut]);
                scanner.update(&text.as_bytes()[cut..second]);
                scanner.update(&text.as_bytes()[second..]);
                assert_eq!(scanner.finish(), [path.clone()].into(), "{cut} {second}");
            }
        }
        let mut bytewise = ReferenceScanner::new([path.clone()]);
        text.bytes().for_each(|b| bytewise.update(&[b]));
        assert_eq!(bytewise.finish(), [path].into());
    }
}
