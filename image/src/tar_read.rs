//! Reads tars that others wrote: layers and archives, one entry at a time.
//!
//! Nothing is unpacked here, so names are only told; who uses them decides what they
//! may be. PAX wins over ustar, GNU's long names are known, numbers may be base 256,
//! and announced sizes allocate nothing.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::error::ImageError;
use crate::tar::BLOCK_BYTES;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of an earlier file.
    HardLink,
    /// A device or a fifo.
    Special,
}

/// An entry's header.
#[derive(Clone, Debug)]
pub struct TarEntry {
    /// What it is.
    pub kind: Kind,
    /// Its name as written, without final slashes.
    pub path: Vec<u8>,
    /// Where a link leads, as written.
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// How many bytes follow.
    pub size: u64,
    /// When the body was changed, in seconds since the epoch; 0 for what lies before it.
    pub mtime: u64,
    /// Extended attributes, `security.capability` among them.
    pub xattrs: Xattrs,
}

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a PAX record with an extended attribute begins with.
pub(crate) const XATTR: &str = "SCHILY.xattr.";

/// What is wrong with a tar.
#[derive(Debug)]
pub enum TarError {
    /// It cannot be read.
    Io(std::io::Error),
    /// It is not a tar, or a broken one.
    Broken(&'static str),
}

impl TarError {
    /// Says of which file.
    pub fn of(self, path: &Path) -> ImageError {
        match self {
            Self::Io(e) => ImageError::io("read", path, e),
            Self::Broken(why) => ImageError::malformed(format!("`{}`", path.display()), why),
        }
    }
}

/// Longer names, and more PAX records, than this are refused.
const MAX_META_BYTES: u64 = 1 << 20;

/// Linux's own limits.
const MAX_XATTR_NAME_BYTES: usize = 255;
const MAX_XATTR_BYTES: usize = 1 << 16;

/// Reads a stream of entries.
pub struct TarReader<R> {
    inner: R,
    offset: u64,
    /// Bytes of the current body, and of its padding, that are not read yet.
    left: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, offset: 0, left: 0, padding: 0 }
    }

    /// Returns how many bytes of the stream were read: after an entry's header, where
    /// its body begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the next entry, or none at the end. Skips what is left of the last one.
    ///
    /// # Errors
    /// [`TarError`].
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut pax = Pax::default();
        loop {
            self.skip_body()?;
            let Some(block) = self.block()? else { return Ok(None) };
            let mut entry = read_header(&block)?;
            self.left = entry.size;
            self.padding = crate::tar::padded(entry.size) - entry.size;
            match block[156] {
                b'x' => pax.read(&self.meta()?)?,
                b'g' => drop(self.meta()?),
                b'L' => pax.path = Some(until_zero(&self.meta()?)),
                b'K' => pax.link = Some(until_zero(&self.meta()?)),
                _ => {
                    pax.apply(&mut entry);
                    // Only files have bodies; some writers announce sizes for links.
                    if entry.kind != Kind::File {
                        entry.size = 0;
                    }
                    self.left = entry.size;
                    self.padding = crate::tar::padded(entry.size) - entry.size;
                    while entry.path.len() > 1 && entry.path.last() == Some(&b'/') {
                        entry.path.pop();
                    }
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Skips what is left of the current body.
    ///
    /// # Errors
    /// [`TarError`].
    pub fn skip_body(&mut self) -> Result<(), TarError> {
        let skip = self.left + self.padding;
        let skipped =
            std::io::copy(&mut (&mut self.inner).take(skip), &mut std::io::sink()).map_err(TarError::Io)?;
        self.offset += skipped;
        if skipped != skip {
            return Err(TarError::Broken("it ends within an entry"));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn meta(&mut self) -> Result<Vec<u8>, TarError> {
        if self.left > MAX_META_BYTES {
            return Err(TarError::Broken("an extended header of more than 1 MiB"));
        }
        let mut bytes = vec![0; usize::try_from(self.left).expect("at most 1 MiB")];
        self.read_exact(&mut bytes).map_err(TarError::Io)?;
        Ok(bytes)
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, TarError> {
        let mut block = [0; BLOCK_BYTES];
        let mut at = 0;
        while at < BLOCK_BYTES {
            let n = self.inner.read(&mut block[at..]).map_err(TarError::Io)?;
            if n == 0 {
                break;
            }
            at += n;
        }
        self.offset += at as u64;
        match at {
            0 => Ok(None),
            BLOCK_BYTES if block == [0; BLOCK_BYTES] => {
                // To the stream's end, so that a compressor's checksum is checked.
                std::io::copy(&mut self.inner, &mut std::io::sink()).map_err(TarError::Io)?;
                Ok(None)
            }
            BLOCK_BYTES => Ok(Some(block)),
            _ => Err(TarError::Broken("it ends within a header")),
        }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.inner.read(&mut buf[..want])?;
        if n == 0 && want > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        self.offset += n as u64;
        Ok(n)
    }
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    xattrs: Xattrs,
}

impl Pax {
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        let broken = TarError::Broken("a malformed PAX record");
        let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
        while !bytes.is_empty() {
            let Some(record) = pax_record(bytes) else { return Err(broken) };
            let (len, key, value) = record;
            match key {
                // No name has a NUL; who reads up to it would see another one.
                b"path" | b"linkpath" if value.contains(&0) => return Err(broken),
                // An empty value takes an earlier record back.
                b"path" => self.path = Some(value.to_vec()).filter(|path| !path.is_empty()),
                b"linkpath" => self.link = Some(value.to_vec()).filter(|link| !link.is_empty()),
                b"size" => {
                    self.size = Some(number(value).ok_or(TarError::Broken("a PAX size that is no number"))?)
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(TarError::Broken("a sparse file, which layers do not have"));
                }
                b"uid" => self.uid = number(value),
                b"gid" => self.gid = number(value),
                b"mtime" => self.mtime = value.split(|&b| b == b'.').next().and_then(number),
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR.as_bytes()).filter(|name| !name.is_empty()) {
                        if name.len() > MAX_XATTR_NAME_BYTES || value.len() > MAX_XATTR_BYTES {
                            return Err(TarError::Broken("an extended attribute larger than Linux has them"));
                        }
                        self.xattrs.insert(name.to_vec(), value.to_vec());
                    }
                }
            }
            bytes = &bytes[len..];
        }
        Ok(())
    }

    fn apply(&mut self, entry: &mut TarEntry) {
        entry.path = self.path.take().unwrap_or_else(|| std::mem::take(&mut entry.path));
        entry.link = self.link.take().unwrap_or_else(|| std::mem::take(&mut entry.link));
        entry.size = self.size.take().unwrap_or(entry.size);
        entry.uid = self.uid.take().unwrap_or(entry.uid);
        entry.gid = self.gid.take().unwrap_or(entry.gid);
        entry.mtime = self.mtime.take().unwrap_or(entry.mtime);
        entry.xattrs = std::mem::take(&mut self.xattrs);
    }
}

/// Reads `LEN key=value\n`.
fn pax_record(bytes: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|&b| b == b' ')?;
    let len: usize = std::str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
    let record = bytes.get(blank + 1..len)?;
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    Some((len, &record[..equals], &record[equals + 1..]))
}

fn read_header(block: &[u8; BLOCK_BYTES]) -> Result<TarEntry, TarError> {
    let told = octal(&block[148..156]).ok_or(TarError::Broken("a header without checksum"))?;
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(i, &b)| if (148..156).contains(&i) { u64::from(b' ') } else { u64::from(b) })
        .sum();
    if told != sum {
        return Err(TarError::Broken("a header whose checksum is wrong"));
    }
    let number = |range: std::ops::Range<usize>| number(&block[range]);
    let broken = TarError::Broken("a header with a field that is no number");
    let mut path = until_zero(&block[..100]);
    if block[257..262] == *b"ustar" && block[263..265] == *b"00" && block[345] != 0 {
        path = [&until_zero(&block[345..500])[..], b"/", &path].concat();
    }
    let kind = match block[156] {
        b'0' | 0 | b'7' if path.last() != Some(&b'/') => Kind::File,
        b'5' | b'0' | 0 => Kind::Directory,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' | b'4' | b'6' => Kind::Special,
        b'x' | b'g' | b'L' | b'K' => Kind::File,
        // GNU's sparse files, volumes and the like: what follows them is not told by the size.
        _ => return Err(TarError::Broken("an entry of a kind that layers do not have")),
    };
    Ok(TarEntry {
        kind,
        path,
        link: until_zero(&block[157..257]),
        mode: number(100..108).unwrap_or(0) as u32 & 0o7777,
        uid: number(108..116).unwrap_or(0),
        gid: number(116..124).unwrap_or(0),
        size: number(124..136).ok_or(broken)?,
        mtime: number(136..148).unwrap_or(0),
        xattrs: Xattrs::new(),
    })
}

fn until_zero(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}

/// Reads octal digits between blanks; nothing is 0. What comes after a NUL does not count.
fn octal(field: &[u8]) -> Option<u64> {
    let is_blank = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !is_blank(b)).unwrap_or(field.len());
    let digits = field[start..].split(|&b| b == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(digits).ok()?.trim_end_matches(' ');
    match text {
        "" => Some(0),
        text if text.starts_with('+') => None,
        text => u64::from_str_radix(text, 8).ok(),
    }
}

/// Octal, or base 256 when the first bit is set. Larger than an `i64` is refused.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 == 0 {
        return octal(field);
    }
    let mut value: u64 = u64::from(field[0] & 0x7f);
    for &byte in &field[1..] {
        value = value.checked_mul(256)?.checked_add(u64::from(byte))?;
    }
    (value <= i64::MAX as u64).then_some(value)
}
