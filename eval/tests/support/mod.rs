//! A world that reads files as they are and has no store: for tests and measuring.
#![allow(missing_docs, dead_code, reason = "shared by tests that use parts of it")]

pub mod programs;
pub mod random;

use std::io;
use std::path::{Path, PathBuf};

use ampoule_eval::{AddError, ContextElem, Fetch, FileType, Filter, World};
use ampoule_store::{ContentAddress, Method, PathRef, StoreDir, StorePath};

#[derive(Default)]
pub struct Plain(StoreDir);

fn file_type(kind: std::fs::FileType) -> FileType {
    if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_dir() {
        FileType::Directory
    } else if kind.is_file() {
        FileType::Regular
    } else {
        FileType::Unknown
    }
}

fn no<T>() -> io::Result<T> {
    Err(io::Error::other("not in this harness"))
}

impl World for Plain {
    fn store_dir(&self) -> &StoreDir {
        &self.0
    }
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        use std::os::unix::ffi::OsStringExt;
        std::fs::read_dir(path)?
            .map(|entry| entry.and_then(|e| Ok((e.file_name().into_vec(), file_type(e.file_type()?)))))
            .collect()
    }
    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        Ok(std::fs::symlink_metadata(path).ok().map(|meta| file_type(meta.file_type())))
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
    }
    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    }
    fn find_file(&self, _: &str) -> io::Result<Option<PathBuf>> {
        Ok(None)
    }
    fn search_path(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    fn search_entry(&self, path: &str) -> io::Result<Option<PathBuf>> {
        Ok(Some(PathBuf::from(path)))
    }
    fn env(&self, _: &str) -> Option<String> {
        None
    }
    fn current_time(&self) -> Option<i64> {
        None
    }
    fn add_text(&self, _: &StorePath, _: &[u8], _: &[PathRef<'_>]) -> io::Result<()> {
        Ok(())
    }
    fn add_path(
        &self,
        _: &str,
        _: &Path,
        _: Method,
        _: Option<Filter<'_>>,
        _: Option<&ContentAddress>,
    ) -> Result<StorePath, AddError> {
        Ok(no()?)
    }
    fn is_valid(&self, _: &StorePath) -> io::Result<bool> {
        Ok(false)
    }
    fn fetch(&self, _: &Fetch) -> io::Result<StorePath> {
        no()
    }
    fn realise(&self, _: &[ContextElem]) -> io::Result<()> {
        no()
    }
    fn message(&self, text: &str) {
        eprintln!("{text}");
    }
}
