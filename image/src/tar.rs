//! Tar headers: ustar, with a PAX record only where ustar cannot say it.
//!
//! Written by hand because the bytes are part of a layer's identity: they must
//! not change with a library's version. A header says name, mode, owner, size,
//! one fixed time and type; no user or group names, no devices.
//!
//! ```text
//! path ≤ 100 bytes                     name
//! path ≤ 255, a slash in a good place  prefix '/' name
//! longer, not ASCII, owner > 2097151,
//! file of 8 GiB or more                PAX record, then the same header with what fits
//! ```

use crate::entry::{Entry, EntryKind};
use crate::tar_read::{XATTR, Xattrs};

/// Headers and bodies are whole numbers of these.
pub const BLOCK_BYTES: usize = 512;

/// The time of every entry: the store's own, one second after the epoch.
pub const MTIME: u64 = 1;

/// The largest number that eleven octal digits hold.
const MAX_SIZE: u64 = 0o77_777_777_777;
/// The largest number that seven octal digits hold.
const MAX_ID: u32 = 0o7_777_777;

/// Returns how many bytes the entry takes in the stream, header and padding included.
pub fn entry_len(entry: &Entry) -> u64 {
    header_len(entry) + padded(body_len(entry))
}

/// Returns the number of bytes that follow the header.
pub fn body_len(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size, .. } => size,
        _ => 0,
    }
}

/// Rounds up to whole blocks.
pub fn padded(len: u64) -> u64 {
    len.next_multiple_of(BLOCK_BYTES as u64)
}

/// Returns how many bytes of header the entry takes.
pub fn header_len(entry: &Entry) -> u64 {
    match pax_record(entry) {
        None => BLOCK_BYTES as u64,
        Some(record) => 2 * BLOCK_BYTES as u64 + padded(record.len() as u64),
    }
}

/// Appends the header (and what goes before it) to `out`.
pub fn write_header(entry: &Entry, out: &mut Vec<u8>) {
    write_header_with(entry, MTIME, &Xattrs::new(), out);
}

/// The same with a time and extended attributes, which entries of our layers do not have.
pub fn write_header_with(entry: &Entry, mtime: u64, xattrs: &Xattrs, out: &mut Vec<u8>) {
    let mut record = pax_record(entry).unwrap_or_default();
    for (name, value) in xattrs {
        pax_line(&mut record, &[XATTR.as_bytes(), name].concat(), value);
    }
    if !record.is_empty() {
        let mut header = Header::new();
        header.name(b"PaxHeaders/", &last_bytes(&entry.path, 80));
        header.numbers(0o644, 0, 0, record.len() as u64);
        out.extend_from_slice(&header.finish(b'x'));
        out.extend_from_slice(&record);
        out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    let path = stream_path(entry);
    let mut header = Header::new();
    if !header.path(&path) {
        header.name(b"", &path[..path.len().min(100)]);
    }
    let size = body_len(entry);
    header.numbers(
        entry.mode,
        entry.uid.min(MAX_ID),
        entry.gid.min(MAX_ID),
        if size > MAX_SIZE { 0 } else { size },
    );
    header.octal(136, 11, mtime.min(MAX_SIZE));
    let kind = match &entry.kind {
        EntryKind::File { .. } => b'0',
        EntryKind::HardLink(target) => {
            header.link(target);
            b'1'
        }
        EntryKind::Symlink(target) => {
            header.link(target);
            b'2'
        }
        EntryKind::Directory => b'5',
    };
    out.extend_from_slice(&header.finish(kind));
}

/// Directories end in a slash, as every writer of tar does.
fn stream_path(entry: &Entry) -> Vec<u8> {
    let mut path = entry.path.to_vec();
    if entry.is_directory() {
        path.push(b'/');
    }
    path
}

fn last_bytes(path: &[u8], n: usize) -> Vec<u8> {
    path[path.len().saturating_sub(n)..]
        .iter()
        .map(|&b| if b.is_ascii_graphic() && b != b'/' { b } else { b'_' })
        .collect()
}

/// Returns the PAX record of what ustar cannot say, if anything.
fn pax_record(entry: &Entry) -> Option<Vec<u8>> {
    let mut record = Vec::new();
    // One byte more for the directory's slash, wherever it would matter.
    let slash = usize::from(entry.is_directory());
    let plain = entry.path.len() + slash <= 100 || split(&stream_path(entry)).is_some();
    if !plain || is_foreign_text(&entry.path) {
        pax_line(&mut record, b"path", &stream_path(entry));
    }
    if let EntryKind::Symlink(target) | EntryKind::HardLink(target) = &entry.kind
        && (target.len() > 100 || is_foreign_text(target))
    {
        pax_line(&mut record, b"linkpath", target);
    }
    if body_len(entry) > MAX_SIZE {
        pax_line(&mut record, b"size", body_len(entry).to_string().as_bytes());
    }
    if entry.uid > MAX_ID {
        pax_line(&mut record, b"uid", entry.uid.to_string().as_bytes());
    }
    if entry.gid > MAX_ID {
        pax_line(&mut record, b"gid", entry.gid.to_string().as_bytes());
    }
    (!record.is_empty()).then_some(record)
}

/// Text beyond ASCII belongs in a PAX record, which is UTF-8; bytes that are not
/// UTF-8 do not, and go into the header as they are.
fn is_foreign_text(bytes: &[u8]) -> bool {
    !bytes.is_ascii() && std::str::from_utf8(bytes).is_ok()
}

/// Appends `LEN key=value\n`, where LEN counts itself.
fn pax_line(record: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    record.extend_from_slice(format!("{len} ").as_bytes());
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
}

/// Splits a path for ustar: at most 155 bytes, a slash, at most 100 bytes.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let last = path.len().checked_sub(1)?;
    let from = path.len().saturating_sub(101);
    let at = (from..last).find(|&i| path[i] == b'/')?;
    (at <= 155 && at > 0).then(|| (&path[..at], &path[at + 1..]))
}

struct Header([u8; BLOCK_BYTES]);

impl Header {
    fn new() -> Self {
        let mut bytes = [0; BLOCK_BYTES];
        bytes[257..265].copy_from_slice(b"ustar\x0000");
        Self(bytes)
    }

    fn name(&mut self, before: &[u8], name: &[u8]) {
        let n = before.len();
        self.0[..n].copy_from_slice(before);
        self.0[n..n + name.len()].copy_from_slice(name);
    }

    /// Writes the path, or says that it does not fit.
    fn path(&mut self, path: &[u8]) -> bool {
        if path.len() <= 100 {
            self.name(b"", path);
            return true;
        }
        let Some((prefix, name)) = split(path) else { return false };
        self.name(b"", name);
        self.0[345..345 + prefix.len()].copy_from_slice(prefix);
        true
    }

    fn link(&mut self, target: &[u8]) {
        let n = target.len().min(100);
        self.0[157..157 + n].copy_from_slice(&target[..n]);
    }

    fn octal(&mut self, at: usize, digits: usize, mut value: u64) {
        for i in (at..at + digits).rev() {
            self.0[i] = b'0' + (value & 7) as u8;
            value >>= 3;
        }
    }

    fn numbers(&mut self, mode: u32, uid: u32, gid: u32, size: u64) {
        self.octal(100, 7, u64::from(mode & 0o7777));
        self.octal(108, 7, uid.into());
        self.octal(116, 7, gid.into());
        self.octal(124, 11, size);
        self.octal(136, 11, MTIME);
        self.octal(329, 7, 0);
        self.octal(337, 7, 0);
    }

    fn finish(mut self, kind: u8) -> [u8; BLOCK_BYTES] {
        self.0[156] = kind;
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|&b| u64::from(b)).sum();
        self.octal(148, 6, sum);
        self.0[154] = 0;
        self.0
    }
}
