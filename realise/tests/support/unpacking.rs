//! Unpacking in a place with a neighbour that nothing may touch.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use ampoule_realise::builtin::Place;
use ampoule_realise::unpack::{Options, UnpackError, Unpacked, unpack};
use tempfile::TempDir;

use super::listing;

/// A place with a neighbour file that nothing may touch.
pub struct Yard {
    pub dir: TempDir,
}

impl Yard {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("place")).expect("a directory");
        std::fs::write(dir.path().join("neighbour"), "untouched").expect("a file");
        Self { dir }
    }

    /// Takes the tree away, so that another can be unpacked there.
    pub fn clear(&self) {
        match std::fs::remove_dir_all(self.tree()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }

    pub fn tree(&self) -> PathBuf {
        self.dir.path().join("place/tree")
    }

    pub fn unpack(&self, bytes: &[u8], options: &Options) -> Result<Unpacked, UnpackError> {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("room for an archive");
        let place = Place {
            dir: File::open(self.dir.path().join("place")).expect("a directory").into(),
            name: "tree".to_owned(),
        };
        let result = unpack(file, options, &place);
        let neighbour = std::fs::read_to_string(self.dir.path().join("neighbour"));
        assert_eq!(neighbour.expect("the neighbour is there"), "untouched");
        let around = std::fs::read_dir(self.dir.path()).expect("a directory").count();
        assert_eq!(around, 2, "nothing appears beside");
        result
    }
}

/// Unpacks what must go well; returns the tree as text.
pub fn accepted(bytes: &[u8], options: &Options) -> Vec<String> {
    let yard = Yard::new();
    yard.unpack(bytes, options).expect("a good archive");
    listing(&yard.tree())
}

pub fn plain(bytes: &[u8]) -> Vec<String> {
    accepted(bytes, &Options::default())
}

/// Unpacks what must be refused with `words`.
pub fn refused(bytes: &[u8], words: &str) {
    refused_with(bytes, &Options::default(), words);
}

pub fn refused_with(bytes: &[u8], options: &Options, words: &str) {
    let error = Yard::new().unpack(bytes, options).expect_err(words).to_string();
    assert!(error.contains(words), "expected `{words}`, found `{error}`");
}

pub fn strip() -> Options {
    Options { strip_root: true, ..Options::default() }
}
