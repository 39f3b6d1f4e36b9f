//! Reads a tree of the store into entries.
//!
//! What a tree looks like in an image does not depend on how it came to lie on
//! this machine: times, owners, the umask of whoever made it, the order of
//! `readdir` and the write bits are not looked at. One bit of a file's mode
//! counts, as in a NAR: whether its owner may execute it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::entry::{Entry, EntryKind, FileSource};
use crate::error::{ImageError, Result};

/// Modes that a tree gets: read-only for store objects, writable by root for
/// trees that are laid at `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modes {
    /// 0555 and 0444, as in a store.
    Store,
    /// 0755 and 0644, as in a distribution.
    Root,
}

impl Modes {
    /// Returns the mode of a directory.
    pub fn directory(self) -> u32 {
        match self {
            Self::Store => 0o555,
            Self::Root => 0o755,
        }
    }

    /// Returns the mode of a file.
    pub fn file(self, executable: bool) -> u32 {
        match (self, executable) {
            (Self::Store, true) => 0o555,
            (Self::Store, false) => 0o444,
            (Self::Root, true) => 0o755,
            (Self::Root, false) => 0o644,
        }
    }
}

/// Reads the tree at `source` (a directory, a file or a link) as entries at and
/// below `at`. Unsorted.
///
/// # Errors
/// [`ImageError::Io`], and [`ImageError::Invalid`] for a device, socket or fifo.
pub fn read_tree(source: &Path, at: &[u8], modes: Modes) -> Result<Vec<Entry>> {
    let meta = fs::symlink_metadata(source).map_err(|e| ImageError::io("read", source, e))?;
    if !meta.is_dir() {
        return Ok(vec![read_entry(source.to_owned(), at.into(), &meta, modes)?]);
    }
    let mut entries = read_directory(source, at, modes)?;
    if !at.is_empty() {
        entries.push(Entry::directory(at, modes.directory()));
    }
    Ok(entries)
}

/// Reads only these paths of the tree at `source`. Directories are not entered.
///
/// # Errors
/// As [`read_tree`].
pub fn read_paths(source: &Path, at: &[u8], paths: &[String], modes: Modes) -> Result<Vec<Entry>> {
    let one = |path: &String| {
        let file = source.join(path);
        let meta = fs::symlink_metadata(&file).map_err(|e| ImageError::io("read", &file, e))?;
        let name = if at.is_empty() { path.clone().into() } else { [at, b"/", path.as_bytes()].concat() };
        if meta.is_dir() {
            return Ok(Entry::directory(name, modes.directory()));
        }
        read_entry(file, name.into(), &meta, modes)
    };
    paths.par_iter().map(one).collect()
}

fn read_directory(dir: &Path, at: &[u8], modes: Modes) -> Result<Vec<Entry>> {
    let fail = |e| ImageError::io("read", dir, e);
    let mut entries = Vec::new();
    let mut below: Vec<(PathBuf, Box<[u8]>)> = Vec::new();
    for found in fs::read_dir(dir).map_err(fail)? {
        let found = found.map_err(fail)?;
        let name = found.file_name();
        let mut path = Vec::with_capacity(at.len() + name.len() + 1);
        if !at.is_empty() {
            path.extend_from_slice(at);
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        let source = found.path();
        if found.file_type().map_err(fail)?.is_dir() {
            entries.push(Entry::directory(path.clone(), modes.directory()));
            below.push((source, path.into()));
            continue;
        }
        let meta = found.metadata().map_err(|e| ImageError::io("read", &source, e))?;
        entries.push(read_entry(source, path.into(), &meta, modes)?);
    }
    let deeper: Vec<Result<Vec<Entry>>> =
        below.into_par_iter().map(|(dir, at)| read_directory(&dir, &at, modes)).collect();
    for more in deeper {
        entries.append(&mut more?);
    }
    Ok(entries)
}

fn read_entry(source: PathBuf, path: Box<[u8]>, meta: &fs::Metadata, modes: Modes) -> Result<Entry> {
    let kind = meta.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(&source).map_err(|e| ImageError::io("read", &source, e))?;
        return Ok(Entry::symlink(path, OsString::from(target).into_vec()));
    }
    if !kind.is_file() {
        return Err(ImageError::invalid(format!(
            "`{}` is neither a file, a directory nor a symbolic link: it cannot be in an image",
            source.display()
        )));
    }
    let mode = modes.file(meta.permissions().mode() & 0o100 != 0);
    Ok(Entry::file(path, mode, source, meta.len()))
}

/// Files this large or larger that are alike become hard links of one.
const LINK_FROM_BYTES: u64 = 64 << 10;

/// Turns files of equal contents and attributes into hard links of the first.
///
/// By contents, not by inode: whether two names share an inode on this machine
/// depends on how the object came here (built, unpacked, substituted), and the
/// layer must not. Small files are left alone: little to gain, and a person who
/// edits one of two configuration files does not expect the other to follow.
/// Entries must be sorted.
///
/// # Errors
/// [`ImageError::Io`] if a file cannot be read.
pub fn link_equal_files(entries: &mut [Entry]) -> Result<()> {
    let mut candidates: Vec<(u64, u32, u32, u32, usize)> = entries
        .iter()
        .enumerate()
        .filter_map(|(i, e)| match &e.kind {
            EntryKind::File { size, source: FileSource::Path(_) } if *size >= LINK_FROM_BYTES => {
                Some((*size, e.mode, e.uid, e.gid, i))
            }
            _ => None,
        })
        .collect();
    candidates.sort_unstable();
    let groups: Vec<&[_]> = candidates
        .chunk_by(|a, b| (a.0, a.1, a.2, a.3) == (b.0, b.1, b.2, b.3))
        .filter(|group| group.len() > 1)
        .collect();
    let shared: &[Entry] = entries;
    let links: Vec<Result<Vec<(usize, usize)>>> = groups
        .into_par_iter()
        .map(|group| equal_pairs(shared, &group.iter().map(|c| c.4).collect::<Vec<_>>()))
        .collect();
    for pairs in links {
        for (first, other) in pairs? {
            entries[other].kind = EntryKind::HardLink(entries[first].path.clone());
        }
    }
    Ok(())
}

/// Returns `(first, other)` for each entry of `group` that equals an earlier one.
fn equal_pairs(entries: &[Entry], group: &[usize]) -> Result<Vec<(usize, usize)>> {
    // Most files of one size differ early: look at a block in the middle first.
    let mut heads = std::collections::BTreeMap::<Vec<u8>, Vec<usize>>::new();
    for &i in group {
        heads.entry(middle_block(&entries[i])?).or_default().push(i);
    }
    let mut pairs = Vec::new();
    for alike in heads.into_values().filter(|alike| alike.len() > 1) {
        let mut whole = std::collections::BTreeMap::<crate::Digest, usize>::new();
        for i in alike {
            let EntryKind::File { source, .. } = &entries[i].kind else { continue };
            match whole.entry(crate::Digest::of(&source.read()?)) {
                std::collections::btree_map::Entry::Vacant(slot) => {
                    slot.insert(i);
                }
                std::collections::btree_map::Entry::Occupied(slot) => pairs.push((*slot.get(), i)),
            }
        }
    }
    Ok(pairs)
}

fn middle_block(entry: &Entry) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let EntryKind::File { source: FileSource::Path(path), size } = &entry.kind else { return Ok(Vec::new()) };
    let mut block = vec![0; 4096];
    let fail = |e| ImageError::io("read", path, e);
    let file = fs::File::open(path).map_err(fail)?;
    file.read_exact_at(&mut block, (size / 2).saturating_sub(4096)).map_err(fail)?;
    Ok(block)
}
