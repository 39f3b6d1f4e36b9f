//! What a layer holds, one entry per name, before it is bytes.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{ImageError, Result};

/// One name in a layer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The path below `/`: no leading and no trailing slash, no `.` or `..`.
    pub path: Box<[u8]>,
    /// What lies there.
    pub kind: EntryKind,
    /// Permission bits, set-id and sticky included.
    pub mode: u32,
    /// The owner, as a number; names are the image's own matter.
    pub uid: u32,
    /// The group, as a number.
    pub gid: u32,
}

/// What lies at an entry's path.
#[derive(Clone, Debug)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file of `size` bytes.
    File {
        /// Where the bytes are.
        source: FileSource,
        /// How many bytes there are.
        size: u64,
    },
    /// A symbolic link and its text.
    Symlink(Box<[u8]>),
    /// Another name for a file earlier in the same layer (its path).
    HardLink(Box<[u8]>),
}

/// Where a file's bytes are.
#[derive(Clone, Debug)]
pub enum FileSource {
    /// In a file that does not change (a store object).
    Path(PathBuf),
    /// In memory (generated files: passwd, group, texts of the plan).
    Bytes(Arc<[u8]>),
}

impl Entry {
    /// Returns a directory owned by root.
    pub fn directory(path: impl Into<Box<[u8]>>, mode: u32) -> Self {
        Self { path: path.into(), kind: EntryKind::Directory, mode, uid: 0, gid: 0 }
    }

    /// Returns a file owned by root whose bytes are in memory.
    pub fn bytes(path: impl Into<Box<[u8]>>, mode: u32, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let kind = EntryKind::File { size: bytes.len() as u64, source: FileSource::Bytes(bytes) };
        Self { path: path.into(), kind, mode, uid: 0, gid: 0 }
    }

    /// Returns a file owned by root whose `size` bytes are in `source`.
    pub fn file(path: impl Into<Box<[u8]>>, mode: u32, source: PathBuf, size: u64) -> Self {
        let kind = EntryKind::File { size, source: FileSource::Path(source) };
        Self { path: path.into(), kind, mode, uid: 0, gid: 0 }
    }

    /// Returns a symbolic link.
    pub fn symlink(path: impl Into<Box<[u8]>>, target: impl Into<Box<[u8]>>) -> Self {
        Self { path: path.into(), kind: EntryKind::Symlink(target.into()), mode: 0o777, uid: 0, gid: 0 }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory)
    }

    /// Returns the path as text, for people.
    pub fn shown_path(&self) -> String {
        format!("/{}", String::from_utf8_lossy(&self.path))
    }
}

/// Cleans a path of the plan: `/a//b/./c/` is `a/b/c`; `..` and NUL are refused.
///
/// # Errors
/// [`ImageError::Invalid`] if the path would leave the root or name nothing.
pub fn clean_path(path: &str) -> Result<Box<[u8]>> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(ImageError::invalid(format!("path `{path}` in an image contains `..`"))),
            part if part.contains('\0') => {
                return Err(ImageError::invalid(format!("path {path:?} in an image contains a NUL")));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/").into_bytes().into())
}

/// Sorts entries, adds the parents that nobody named, and refuses what a layer
/// cannot say.
///
/// Byte order puts every directory before what it holds. A directory named twice
/// is one (the later attributes hold); any other name may come twice only if both
/// say the same. `parent` gives the attributes of a directory that nobody named.
///
/// # Errors
/// [`ImageError::Invalid`] for a name beginning with `.wh.` (a layer would read it
/// as the deletion of another file), for two different files under one name, and
/// for a name below something that is not a directory.
pub fn settle(mut entries: Vec<Entry>, parent: &dyn Fn(&[u8]) -> Entry) -> Result<Vec<Entry>> {
    use rayon::slice::ParallelSliceMut;
    // Stable, so that of two directories the one added later comes later.
    entries.par_sort_by(|a, b| a.path.cmp(&b.path));
    let mut out: Vec<Entry> = Vec::with_capacity(entries.len() + 16);
    for entry in entries {
        if entry.path.is_empty() {
            continue;
        }
        check_name(&entry)?;
        match out.last_mut() {
            Some(last) if last.path == entry.path => merge(last, entry)?,
            _ => out.push(entry),
        }
    }
    add_parents(&mut out, parent)?;
    Ok(out)
}

fn check_name(entry: &Entry) -> Result<()> {
    let name = entry.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    if name.starts_with(b".wh.") {
        return Err(ImageError::invalid(format!(
            "`{}` cannot be in an image: in a layer a name beginning with `.wh.` deletes another file",
            entry.shown_path()
        )));
    }
    Ok(())
}

fn merge(last: &mut Entry, entry: Entry) -> Result<()> {
    match (&last.kind, &entry.kind) {
        (EntryKind::Directory, EntryKind::Directory) => *last = entry,
        (EntryKind::Symlink(a), EntryKind::Symlink(b)) if a == b => {}
        (EntryKind::File { .. }, EntryKind::File { .. }) if same_file(last, &entry)? => *last = entry,
        _ => {
            return Err(ImageError::invalid(format!(
                "`{}` is wanted twice in one image, with different contents",
                entry.shown_path()
            )));
        }
    }
    Ok(())
}

fn same_file(a: &Entry, b: &Entry) -> Result<bool> {
    let (EntryKind::File { source: sa, size: na }, EntryKind::File { source: sb, size: nb }) =
        (&a.kind, &b.kind)
    else {
        return Ok(false);
    };
    Ok(na == nb && sa.read()? == sb.read()?)
}

impl FileSource {
    /// Reads the whole file.
    pub fn read(&self) -> Result<Arc<[u8]>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Path(path) => {
                std::fs::read(path).map(Into::into).map_err(|e| ImageError::io("read", path, e))
            }
        }
    }
}

fn add_parents(entries: &mut Vec<Entry>, parent: &dyn Fn(&[u8]) -> Entry) -> Result<()> {
    let mut missing: Vec<Entry> = Vec::new();
    let find = |path: &[u8]| entries.binary_search_by(|e| (*e.path).cmp(path));
    let mut known: &[u8] = b"";
    for entry in entries.iter() {
        let Some(slash) = entry.path.iter().rposition(|&b| b == b'/') else { continue };
        let dir = &entry.path[..slash];
        if dir == known {
            continue;
        }
        known = dir;
        for end in (0..=dir.len()).filter(|&i| i == dir.len() || dir[i] == b'/') {
            let up = &dir[..end];
            match find(up) {
                Ok(i) if entries[i].is_directory() => {}
                Ok(i) => {
                    return Err(ImageError::invalid(format!(
                        "`{}` is wanted below `{}`, which is not a directory",
                        entry.shown_path(),
                        entries[i].shown_path()
                    )));
                }
                Err(_) => missing.push(parent(up)),
            }
        }
    }
    if !missing.is_empty() {
        missing.sort_by(|a, b| a.path.cmp(&b.path));
        missing.dedup_by(|a, b| a.path == b.path);
        entries.append(&mut missing);
        entries.sort_by(|a, b| a.path.cmp(&b.path));
    }
    Ok(())
}
