//! The files of an image as a container sees them: layers laid over each other.
//!
//! Deletions (`.wh.NAME`, `.wh..wh..opq`) act on lower layers only, by name: they never
//! leave the root and follow no link, since nothing here is a file system. A hard link is
//! settled when it is met: what it names may be deleted above, and the file stays.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;

use crate::digest::{Digest, Sha256};
use crate::dpkg::Dpkg;
use crate::entry::{Entry, EntryKind, FileSource};
use crate::error::{ImageError, Result};
use crate::open::OpenImage;
use crate::project::{ImageLayer, ImageManifest};
use crate::tar;
use crate::tar_read::{Kind, TarEntry, TarReader, Xattrs};
use crate::view::View;

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootEntry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// Its size, if it is a file.
    pub size_bytes: u64,
    /// Its contents' digest, if it is a file.
    pub digest: Option<Digest>,
    /// Where a link leads.
    pub link: Vec<u8>,
    /// Which layer brought it, counted from 0.
    pub layer: usize,
    /// Of a file: the layer that has its bytes, and which of its entries that is.
    pub body: Option<(usize, usize)>,
    /// Whether another name before this one has the same body: a hard link.
    pub is_alias: bool,
    /// When it was changed, in seconds since the epoch.
    pub mtime: u64,
    /// Extended attributes, `security.capability` among them.
    pub xattrs: Xattrs,
}

impl RootEntry {
    /// A directory that something lies in and that no layer names.
    fn unnamed_directory(layer: usize) -> Self {
        Self {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size_bytes: 0,
            digest: None,
            link: Vec::new(),
            layer,
            body: None,
            is_alias: false,
            mtime: tar::MTIME,
            xattrs: Xattrs::new(),
        }
    }

    /// Returns what the entry adds to the size of the image's files.
    pub fn own_bytes(&self) -> u64 {
        if self.kind == Kind::File && !self.is_alias { self.size_bytes } else { 0 }
    }
}

/// All files of an image.
#[derive(Default)]
pub struct RootFs {
    /// By path, without leading slash.
    pub entries: BTreeMap<Vec<u8>, RootEntry>,
    /// Which package brought which file, as the image's own records say.
    pub owners: BTreeMap<Vec<u8>, String>,
    /// The packages and their versions.
    pub packages: BTreeMap<String, String>,
    /// How long the names of directories are that no layer names.
    unnamed_bytes: usize,
}

/// Package records are read; anything else only hashed.
const MAX_RECORD_BYTES: u64 = 16 << 20;
const MAX_RECORDS_BYTES: u64 = 128 << 20;

/// No image has more names, and no system call takes a longer one; a small layer may
/// unfold to any number of both.
const MAX_ENTRIES: usize = 4_000_000;
const MAX_PATH_BYTES: usize = 4096;
/// All names and extended attributes together: they are kept in memory.
const MAX_NAMES_BYTES: usize = 1 << 30;
/// One deep name makes a thousand directories that no layer names.
const MAX_UNNAMED_BYTES: usize = 64 << 20;

/// Reads all layers of one of the image's manifests.
///
/// # Errors
/// [`ImageError::Malformed`] for a broken layer or a name that leaves the root,
/// [`ImageError::DigestMismatch`] if a layer is not what the configuration says.
pub fn read(image: &OpenImage, manifest: &ImageManifest) -> Result<RootFs> {
    let mut fs = RootFs::default();
    let mut records = Vec::new();
    let (mut record_bytes, mut name_bytes) = (0, 0);
    for (number, layer) in manifest.layers.iter().enumerate() {
        let mut added = Vec::new();
        each_entry(image, layer, &mut |entry_number, found, reader| {
            let path = clean(&found.path)?;
            if path.len() > MAX_PATH_BYTES || found.link.len() > MAX_PATH_BYTES {
                let why = format!("a name in it is longer than {MAX_PATH_BYTES} bytes");
                return Err(ImageError::malformed(format!("layer `{}`", layer.name), why));
            }
            let attributes = found.xattrs.iter().map(|(name, value)| name.len() + value.len());
            name_bytes += path.len() + found.link.len() + attributes.sum::<usize>();
            if fs.entries.len() + added.len() >= MAX_ENTRIES || name_bytes > MAX_NAMES_BYTES {
                let why = format!("more than {MAX_ENTRIES} names, or a GiB of them");
                return Err(ImageError::malformed(format!("layer `{}`", layer.name), why));
            }
            let is_record = path.starts_with(b"var/lib/dpkg/")
                && found.size <= MAX_RECORD_BYTES
                && record_bytes + found.size <= MAX_RECORDS_BYTES;
            let mut entry = RootEntry {
                kind: found.kind,
                mode: found.mode,
                uid: found.uid,
                gid: found.gid,
                size_bytes: found.size,
                digest: None,
                link: found.link,
                layer: number,
                body: (found.kind == Kind::File).then_some((number, entry_number)),
                is_alias: false,
                mtime: found.mtime,
                xattrs: found.xattrs,
            };
            if found.kind == Kind::File {
                let mut kept = Vec::new();
                let mut hasher = Sha256::new();
                let mut buffer = [0; 1 << 16];
                loop {
                    let n = reader.read(&mut buffer).map_err(|e| ImageError::io("read", &layer.name, e))?;
                    if n == 0 {
                        break;
                    }
                    hasher.update(&buffer[..n]);
                    if is_record {
                        kept.extend_from_slice(&buffer[..n]);
                    }
                }
                entry.digest = Some(hasher.finish());
                if is_record {
                    record_bytes += found.size;
                    records.push((path.clone(), kept));
                }
            }
            added.push((path, entry));
            Ok(())
        })?;
        fs.lay(added)?;
    }
    fs.mark_aliases();
    fs.read_records(records)?;
    Ok(fs)
}

/// What is done with an entry of a layer: its number, its header, its body.
type Visit<'a> = dyn FnMut(usize, TarEntry, &mut dyn Read) -> Result<()> + 'a;

/// Goes through a layer once, and checks at the end that it was the one that the
/// configuration names.
fn each_entry(image: &OpenImage, layer: &ImageLayer, visit: &mut Visit<'_>) -> Result<()> {
    let what = Path::new(&layer.name);
    let mut hashing = Hashing { inner: image.open_layer(layer)?, hasher: Sha256::new() };
    let mut reader = TarReader::new(&mut hashing);
    let mut number = 0;
    while let Some(found) = reader.next_entry().map_err(|e| e.of(what))? {
        visit(number, found, &mut reader)?;
        number += 1;
    }
    std::io::copy(&mut hashing, &mut std::io::sink()).map_err(|e| ImageError::io("read", what, e))?;
    let found = hashing.hasher.finish();
    if found != layer.blob.diff_id.0 {
        let what = format!("layer `{}`", layer.name);
        return Err(ImageError::DigestMismatch { what, expected: layer.blob.diff_id.0, found });
    }
    Ok(())
}

struct Hashing {
    inner: Box<dyn Read + Send>,
    hasher: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        Ok(n)
    }
}

/// Cleans a layer's name: `./a/` is `a`; `..` is refused.
fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let mut parts = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let shown = String::from_utf8_lossy(path);
                return Err(ImageError::malformed("layer", format!("its entry `{shown}` leaves the root")));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

impl RootFs {
    /// Lays one layer over what is there.
    fn lay(&mut self, added: Vec<(Vec<u8>, RootEntry)>) -> Result<()> {
        for (path, _) in &added {
            let (dir, name) = split(path);
            let Some(hidden) = name.strip_prefix(b".wh.") else { continue };
            let dir = self.through_links(dir)?;
            if hidden == b".wh..opq" {
                self.remove_below(&dir);
            } else if hidden.is_empty() || hidden == b"." || hidden == b".." {
                let shown = String::from_utf8_lossy(path);
                return Err(ImageError::malformed(
                    "layer",
                    format!("`{shown}` would delete a directory from within"),
                ));
            } else {
                self.remove(&join(&dir, hidden));
            }
        }
        for (path, mut entry) in added {
            let (dir, name) = split(&path);
            // AUFS kept its own books in folders `.wh..wh.plnk` and `.wh..wh.orph`.
            let is_book = dir.split(|&b| b == b'/').any(|part| part.starts_with(b".wh..wh."));
            if name.starts_with(b".wh.") || path.is_empty() || is_book {
                continue;
            }
            if entry.kind == Kind::HardLink {
                entry = self.settle_link(&path, &entry)?;
            }
            let dir = self.through_links(dir)?;
            self.add_parents(&dir, entry.layer)?;
            let path = join(&dir, name);
            match self.entries.get(&path).map(|e| e.kind) {
                // A directory over a directory only changes its attributes.
                Some(Kind::Directory) if entry.kind == Kind::Directory => {}
                _ if entry.kind == Kind::Directory => drop(self.entries.remove(&path)),
                _ => self.remove(&path),
            }
            self.entries.insert(path, entry);
        }
        Ok(())
    }

    /// Adds the directories on the way to `dir` that no layer names, as whoever unpacks makes
    /// them: they stay when what they were made for is deleted.
    fn add_parents(&mut self, dir: &[u8], layer: usize) -> Result<()> {
        let mut rest = dir;
        while !rest.is_empty() && !self.entries.contains_key(rest) {
            self.unnamed_bytes += rest.len();
            if self.unnamed_bytes > MAX_UNNAMED_BYTES {
                let why = format!("more than {MAX_UNNAMED_BYTES} bytes of directories that it does not name");
                return Err(ImageError::malformed("layer", why));
            }
            self.entries.insert(rest.to_vec(), RootEntry::unnamed_directory(layer));
            rest = split(rest).0;
        }
        Ok(())
    }

    /// Returns what a hard link is: another name of a file that is there.
    fn settle_link(&self, path: &[u8], link: &RootEntry) -> Result<RootEntry> {
        let target = clean(&link.link)?;
        let (dir, name) = split(&target);
        let found = self.entries.get(&join(&self.through_links(dir)?, name));
        let found = found.filter(|entry| entry.kind != Kind::Directory).ok_or_else(|| {
            let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
            let why = format!(
                "`{}` is a hard link to `{}`, which is no file there",
                shown(path),
                shown(&link.link)
            );
            ImageError::malformed("layer", why)
        })?;
        Ok(RootEntry { layer: link.layer, ..found.clone() })
    }

    /// Says of files with several names which of them is the first.
    fn mark_aliases(&mut self) {
        let mut seen = BTreeSet::new();
        for entry in self.entries.values_mut() {
            entry.is_alias = entry.body.is_some_and(|body| !seen.insert(body));
        }
    }

    fn remove(&mut self, path: &[u8]) {
        self.entries.remove(path);
        self.remove_below(path);
    }

    fn remove_below(&mut self, dir: &[u8]) {
        if dir.is_empty() {
            return self.entries.clear();
        }
        let prefix = [dir, b"/"].concat();
        let below = self.entries.range(prefix.clone()..).map(|(path, _)| path);
        let below: Vec<Vec<u8>> = below.take_while(|path| path.starts_with(&prefix)).cloned().collect();
        for path in below {
            self.entries.remove(&path);
        }
    }

    /// Follows links on the way to a directory, inside the root.
    fn through_links(&self, dir: &[u8]) -> Result<Vec<u8>> {
        let fail = |why: &str| {
            let shown = String::from_utf8_lossy(dir);
            Err(ImageError::malformed("layer", format!("it has names in `{shown}`, {why}")))
        };
        let mut todo: Vec<Vec<u8>> = dir.split(|&b| b == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut at: Vec<u8> = Vec::new();
        let mut left = 40;
        while let Some(name) = todo.pop() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    at.truncate(at.iter().rposition(|&b| b == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &name);
            match self.entries.get(&next) {
                Some(entry) if entry.kind == Kind::Symlink => {
                    if left == 0 {
                        return fail("whose links lead in a circle");
                    }
                    left -= 1;
                    if entry.link.first() == Some(&b'/') {
                        at.clear();
                    }
                    todo.extend(entry.link.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
                }
                Some(entry) if entry.kind != Kind::Directory => {
                    return fail("which is a file and no directory");
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    fn read_records(&mut self, records: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()> {
        let mut entries: Vec<(usize, Box<[u8]>, Entry)> = Vec::new();
        for (path, bytes) in records.into_iter().filter(|(path, _)| self.entries.contains_key(path)) {
            entries.push((0, path.clone().into(), Entry::bytes(path, 0o644, bytes)));
        }
        // Links, so that records which say `lib/…` find what lies in `usr/lib/…`.
        for (path, entry) in &self.entries {
            let kind = match entry.kind {
                Kind::Symlink => EntryKind::Symlink(entry.link.clone().into()),
                Kind::File => EntryKind::File { source: FileSource::Bytes([].into()), size: 0 },
                _ => continue,
            };
            if !path.starts_with(b"var/lib/dpkg/") {
                let (mode, uid, gid) = (entry.mode, 0, 0);
                let entry = Entry { path: path.clone().into(), kind, mode, uid, gid };
                entries.push((0, entry.path.clone(), entry));
            }
        }
        let view = View::new(entries);
        let dpkg = Dpkg::read(&view)?;
        for path in self.entries.keys() {
            if let Some(owner) = dpkg.owner(path) {
                self.owners.insert(path.clone(), owner.to_owned());
            }
        }
        self.packages = dpkg.packages().iter().map(|p| (p.name.clone(), p.version.clone())).collect();
        Ok(())
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Writes all files of an image as one tar, as `docker export` does, with their times and
/// extended attributes. Returns the paths of devices and the like, which are left out.
///
/// # Errors
/// As [`read`], and those of writing.
pub fn export(image: &OpenImage, manifest: &ImageManifest, out: &mut dyn Write) -> Result<Vec<String>> {
    let fs = read(image, manifest)?;
    let fail = |e| ImageError::io("write", "the tar", e);
    let plain = |path: &[u8], entry: &RootEntry, kind: EntryKind| Entry {
        path: path.into(),
        kind,
        mode: entry.mode,
        uid: u32::try_from(entry.uid).unwrap_or(u32::MAX),
        gid: u32::try_from(entry.gid).unwrap_or(u32::MAX),
    };
    let mut header = Vec::new();
    let mut put = |path: &[u8],
                   entry: &RootEntry,
                   kind: EntryKind,
                   body: &mut dyn Read,
                   out: &mut dyn Write|
     -> Result<()> {
        header.clear();
        // A second name has the attributes already.
        let none = Xattrs::new();
        let xattrs = if entry.is_alias { &none } else { &entry.xattrs };
        tar::write_header_with(&plain(path, entry, kind), entry.mtime, xattrs, &mut header);
        out.write_all(&header).map_err(fail)?;
        let copied = std::io::copy(body, out).map_err(fail)?;
        let pad = usize::try_from(tar::padded(copied) - copied).expect("less than a block");
        out.write_all(&[0; tar::BLOCK_BYTES][..pad]).map_err(fail)
    };
    // Directories first, then the files of each layer as they stand in it, so that
    // every layer is read once, then the links.
    for (path, entry) in fs.entries.iter().filter(|(_, e)| e.kind == Kind::Directory) {
        put(path, entry, EntryKind::Directory, &mut std::io::empty(), out)?;
    }
    let bodies = fs.entries.iter().filter(|(_, entry)| !entry.is_alias);
    let bodies: BTreeMap<(usize, usize), (&Vec<u8>, &RootEntry)> =
        bodies.filter_map(|(path, entry)| Some((entry.body?, (path, entry)))).collect();
    for (number, layer) in manifest.layers.iter().enumerate() {
        each_entry(image, layer, &mut |entry_number, found, reader| {
            let Some((path, entry)) = bodies.get(&(number, entry_number)) else { return Ok(()) };
            let kind = EntryKind::File { source: FileSource::Bytes([].into()), size: found.size };
            put(path, entry, kind, &mut reader.take(found.size), out)
        })?;
    }
    let mut left_out = Vec::new();
    for (path, entry) in &fs.entries {
        let kind = match entry.kind {
            Kind::Symlink => EntryKind::Symlink(entry.link.clone().into()),
            Kind::File if entry.is_alias => {
                let first = entry.body.and_then(|body| bodies.get(&body)).expect("an alias has a first name");
                EntryKind::HardLink(first.0.clone().into())
            }
            Kind::Special => {
                left_out.push(format!("/{}", String::from_utf8_lossy(path)));
                continue;
            }
            _ => continue,
        };
        put(path, entry, kind, &mut std::io::empty(), out)?;
    }
    out.write_all(&[0; 2 * tar::BLOCK_BYTES]).map_err(fail)?;
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, link: &str) -> RootEntry {
        RootEntry { kind, link: link.as_bytes().to_vec(), ..RootEntry::unnamed_directory(0) }
    }

    fn laid(layers: &[&[(&str, Kind, &str)]]) -> Result<Vec<String>> {
        let mut fs = RootFs::default();
        for layer in layers {
            fs.lay(layer.iter().map(|(p, k, l)| (p.as_bytes().to_vec(), entry(*k, l))).collect())?;
        }
        Ok(fs.entries.keys().map(|p| String::from_utf8_lossy(p).into_owned()).collect())
    }

    #[test]
    fn case_99_deletions_act_below_and_stay_inside() {
        use Kind::{Directory, File, Symlink};
        let below: &[_] = &[("a", Directory, ""), ("a/x", File, ""), ("a/y", File, ""), ("b", File, "")];
        let deleted = laid(&[below, &[("a/.wh.x", File, ""), ("a/z", File, "")]]).unwrap();
        assert_eq!(deleted, ["a", "a/y", "a/z", "b"]);
        let opaque = laid(&[below, &[("a/.wh..wh..opq", File, ""), ("a/z", File, "")]]).unwrap();
        assert_eq!(opaque, ["a", "a/z", "b"]);
        // In the same layer a deletion does not touch what the layer brings.
        let same = laid(&[&[("a", Directory, ""), ("a/x", File, ""), ("a/.wh.x", File, "")]]).unwrap();
        assert_eq!(same, ["a", "a/x"]);
        // Through a link it lands inside the root, and `..` goes no higher.
        let link = laid(&[
            &[("l", Symlink, "../../a"), ("a", Directory, ""), ("a/x", File, "")],
            &[("l/.wh.x", File, "")],
        ]);
        assert_eq!(link.unwrap(), ["a", "l"]);
        let books: &[_] =
            &[(".wh..wh.aufs", File, ""), (".wh..wh.plnk", Directory, ""), (".wh..wh.plnk/1.2", File, "")];
        assert_eq!(laid(&[below, books]).unwrap(), laid(&[below]).unwrap());
        for bad in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
            assert!(laid(&[below, &[(bad, File, "")]]).is_err(), "{bad}");
        }
        assert!(clean(b"a/../../b").is_err());
    }

    #[test]
    fn a_file_over_a_directory_hides_it() {
        use Kind::{Directory, File};
        let all = laid(&[&[("a", Directory, ""), ("a/x", File, "")], &[("a", File, "")]]).unwrap();
        assert_eq!(all, ["a"]);
        // One that nobody named stays when what it was made for is gone.
        assert_eq!(laid(&[&[("a/b/x", File, "")], &[("a/b/.wh.x", File, "")]]).unwrap(), ["a", "a/b"]);
        // Also over one that nobody named.
        let all = laid(&[&[("a/x", File, ""), ("a", File, "")]]).unwrap();
        assert_eq!(all, ["a"]);
    }

    #[test]
    fn a_hard_link_outlives_the_name_that_it_was_made_from() {
        use Kind::{Directory, File, HardLink, Symlink};
        let below: &[_] = &[("a", File, ""), ("d", Directory, ""), ("d/b", HardLink, "a")];
        assert_eq!(laid(&[below, &[(".wh.a", File, "")]]).unwrap(), ["d", "d/b"]);
        for (link, why) in [("../a", "leaves the root"), ("c", "no file there"), ("d", "no file there")] {
            let error =
                laid(&[&[("a", File, ""), ("d", Directory, "")], &[("x", HardLink, link)]]).unwrap_err();
            assert!(error.to_string().contains(why), "{link}: {error}");
        }
        // Through a link it stays inside: there is no `etc/passwd` here.
        let escape = laid(&[&[("l", Symlink, "/etc")], &[("x", HardLink, "l/passwd")]]).unwrap_err();
        assert!(escape.to_string().contains("no file there"), "{escape}");
    }

    #[test]
    fn names_below_what_is_no_directory_are_refused() {
        use Kind::{File, Symlink};
        let error = laid(&[&[("a", File, ""), ("a/x", File, "")]]).unwrap_err();
        assert!(error.to_string().contains("no directory"), "{error}");
        let error = laid(&[&[("a", Symlink, "b"), ("b", Symlink, "a"), ("a/x", File, "")]]).unwrap_err();
        assert!(error.to_string().contains("circle"), "{error}");
    }
}
