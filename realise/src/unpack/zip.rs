//! Reading zip, strictly: wheels and source archives.
//!
//! The central directory says what there is; each entry's local header must agree
//! with it in name, method and sizes, since readers that believe one and readers that
//! believe the other would see two archives. Stored and deflated entries, zip64, CRC
//! checked. Entries that overlap are refused (a bomb of nested views of one stream
//! needs them), and so are names with a backslash: on one system they are a path.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::error::UnpackError;
use super::stream::Limits;

/// One entry of the central directory.
#[derive(Clone, Debug)]
pub struct ZipEntry {
    /// The name, as it stands.
    pub name: Vec<u8>,
    /// The Unix mode with the file's type; 0 if the writer was not Unix.
    pub mode: u32,
    /// How long the contents are.
    pub size_bytes: u64,
    compressed_bytes: u64,
    header_offset: u64,
    crc: u32,
    method: u16,
}

/// An open zip file.
pub struct Archive {
    file: File,
    entries: Vec<ZipEntry>,
}

const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// Longest comment, and the record itself.
const END_SEARCH_LEN: u64 = 65_535 + 22;
const ENCRYPTED: u16 = 1;
const HAS_DESCRIPTOR: u16 = 8;

impl Archive {
    /// Reads the central directory.
    ///
    /// # Errors
    /// When the file is not zip as this module's text says.
    pub fn open(mut file: File, limits: Limits) -> Result<Self, UnpackError> {
        let directory = Directory::find(&mut file)?;
        if directory.entries > limits.max_entries {
            return Err(UnpackError::archive(format!("more than {} entries", limits.max_entries)));
        }
        file.seek(SeekFrom::Start(directory.offset))?;
        let mut reader = BufReader::new((&mut file).take(directory.size_bytes));
        // Not `with_capacity`: the number is the archive's word, the bytes are not there yet.
        let mut entries = Vec::new();
        for _ in 0..directory.entries {
            entries.push(read_central(&mut reader)?);
        }
        if io::copy(&mut reader, &mut io::sink())? != 0 {
            return Err(UnpackError::archive("the zip directory holds more than it says"));
        }
        check_overlap(&entries, directory.offset)?;
        Ok(Self { file, entries })
    }

    /// Returns the entries, in the directory's order.
    pub fn entries(&self) -> &[ZipEntry] {
        &self.entries
    }

    /// Reads an entry's contents; the CRC is checked at the end.
    ///
    /// # Errors
    /// When its local header does not agree with the directory.
    pub fn read(&self, entry: &ZipEntry) -> Result<impl Read + Send + use<>, UnpackError> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(entry.header_offset))?;
        let mut header = [0; 30];
        file.read_exact(&mut header)?;
        let differs = |what: &str| {
            Err(UnpackError::entry(
                &entry.name,
                format!("its header and the zip directory say different {what}"),
            ))
        };
        if u32_at(&header, 0) != LOCAL {
            return Err(UnpackError::entry(&entry.name, "has no header where the zip directory says"));
        }
        let mut name = vec![0; usize::from(u16_at(&header, 26))];
        file.read_exact(&mut name)?;
        let mut extra = vec![0; usize::from(u16_at(&header, 28))];
        file.read_exact(&mut extra)?;
        if name != entry.name {
            return differs("names");
        }
        if u16_at(&header, 8) != entry.method {
            return differs("methods");
        }
        let mut sizes =
            Sizes { size: u32_at(&header, 22).into(), compressed: u32_at(&header, 18).into(), offset: 0 };
        sizes.widen(&extra)?;
        // With a descriptor behind the data, the header may leave sizes at zero.
        let streamed = u16_at(&header, 6) & HAS_DESCRIPTOR != 0 && sizes.size == 0 && sizes.compressed == 0;
        if !streamed && (sizes.size, sizes.compressed) != (entry.size_bytes, entry.compressed_bytes) {
            return differs("sizes");
        }
        let raw = BufReader::new(file.take(entry.compressed_bytes));
        let data: Box<dyn Read + Send> = match entry.method {
            0 if entry.size_bytes != entry.compressed_bytes => return differs("sizes"),
            0 => Box::new(raw),
            8 => Box::new(flate2::bufread::DeflateDecoder::new(raw)),
            other => {
                return Err(UnpackError::entry(
                    &entry.name,
                    format!("zip method {other} is not read; only stored and deflate"),
                ));
            }
        };
        Ok(Checked { data, entry: entry.clone(), crc: flate2::Crc::new(), read_bytes: 0 })
    }
}

/// Where the central directory is.
struct Directory {
    entries: u64,
    size_bytes: u64,
    offset: u64,
}

impl Directory {
    fn find(file: &mut File) -> Result<Self, UnpackError> {
        let len = file.seek(SeekFrom::End(0))?;
        let start = len.saturating_sub(END_SEARCH_LEN);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.take(END_SEARCH_LEN).read_to_end(&mut tail)?;
        // The record must end where the file does: one inside a comment is not it.
        let found = (0..tail.len().saturating_sub(21)).rev().find(|&at| {
            u32_at(&tail, at) == END && at + 22 + usize::from(u16_at(&tail, at + 20)) == tail.len()
        });
        let Some(at) = found else {
            return Err(UnpackError::archive(
                "not a zip archive, or one that is cut short: its directory is missing",
            ));
        };
        if u16_at(&tail, at + 4) != 0 || u16_at(&tail, at + 6) != 0 {
            return Err(UnpackError::archive("a zip archive in several parts"));
        }
        let mut directory = Self {
            entries: u16_at(&tail, at + 10).into(),
            size_bytes: u32_at(&tail, at + 12).into(),
            offset: u32_at(&tail, at + 16).into(),
        };
        let mut end = start + at as u64;
        if at >= 20 && u32_at(&tail, at - 20) == END64_LOCATOR {
            end = u64_at(&tail, at - 12);
            directory = Self::read64(file, end, directory)?;
        }
        if directory.offset.checked_add(directory.size_bytes) != Some(end) {
            return Err(UnpackError::archive("the zip directory is not where the archive says"));
        }
        Ok(directory)
    }

    fn read64(file: &mut File, at: u64, plain: Self) -> Result<Self, UnpackError> {
        let lies = || UnpackError::archive("the two ends of the zip archive (zip64) do not agree");
        file.seek(SeekFrom::Start(at))?;
        let mut record = [0; 56];
        file.read_exact(&mut record).map_err(|_| lies())?;
        let wide = Self {
            entries: u64_at(&record, 32),
            size_bytes: u64_at(&record, 40),
            offset: u64_at(&record, 48),
        };
        let agrees = |plain: u64, wide: u64, marker: u64| plain == marker || plain == wide;
        let all = u32_at(&record, 0) == END64
            && agrees(plain.entries, wide.entries, 0xffff)
            && agrees(plain.size_bytes, wide.size_bytes, 0xffff_ffff)
            && agrees(plain.offset, wide.offset, 0xffff_ffff);
        if all { Ok(wide) } else { Err(lies()) }
    }
}

struct Sizes {
    size: u64,
    compressed: u64,
    offset: u64,
}

impl Sizes {
    /// Takes from the zip64 field what is marked as being there.
    fn widen(&mut self, extra: &[u8]) -> Result<(), UnpackError> {
        let bad = || UnpackError::archive("a damaged extra field in the zip archive");
        let mut rest = extra;
        // Padding of fewer than four bytes ends some fields (zipalign).
        while rest.len() >= 4 {
            let (id, len) = (u16_at(rest, 0), usize::from(u16_at(rest, 2)));
            let mut data = rest.get(4..4 + len).ok_or_else(bad)?;
            rest = &rest[4 + len..];
            if id != 1 {
                continue;
            }
            for field in [&mut self.size, &mut self.compressed, &mut self.offset] {
                if *field == 0xffff_ffff {
                    let (value, after) = data.split_at_checked(8).ok_or_else(bad)?;
                    *field = u64_at(value, 0);
                    data = after;
                }
            }
        }
        Ok(())
    }
}

fn read_central(reader: &mut impl Read) -> Result<ZipEntry, UnpackError> {
    let mut header = [0; 46];
    reader.read_exact(&mut header)?;
    if u32_at(&header, 0) != CENTRAL {
        return Err(UnpackError::archive("a damaged zip directory"));
    }
    let mut read = |len: u16| {
        let mut data = vec![0; usize::from(len)];
        reader.read_exact(&mut data).map(|()| data)
    };
    let name = read(u16_at(&header, 28))?;
    let extra = read(u16_at(&header, 30))?;
    read(u16_at(&header, 32))?;
    let mut sizes = Sizes {
        size: u32_at(&header, 24).into(),
        compressed: u32_at(&header, 20).into(),
        offset: u32_at(&header, 42).into(),
    };
    sizes.widen(&extra)?;
    if u16_at(&header, 8) & ENCRYPTED != 0 {
        return Err(UnpackError::entry(&name, "is encrypted"));
    }
    if name.contains(&b'\\') {
        return Err(UnpackError::entry(&name, "has a backslash in its name"));
    }
    let unix = matches!(header[5], 3 | 19);
    Ok(ZipEntry {
        name,
        mode: if unix { u32_at(&header, 38) >> 16 } else { 0 },
        size_bytes: sizes.size,
        compressed_bytes: sizes.compressed,
        header_offset: sizes.offset,
        crc: u32_at(&header, 16),
        method: u16_at(&header, 10),
    })
}

fn check_overlap(entries: &[ZipEntry], directory_offset: u64) -> Result<(), UnpackError> {
    let mut by_place: Vec<&ZipEntry> = entries.iter().collect();
    by_place.sort_by_key(|entry| entry.header_offset);
    let ends = by_place.iter().skip(1).map(|next| next.header_offset).chain([directory_offset]);
    for (entry, next) in by_place.iter().zip(ends) {
        let least = 30 + entry.name.len() as u64;
        let end =
            entry.header_offset.checked_add(least).and_then(|at| at.checked_add(entry.compressed_bytes));
        if end.is_none_or(|end| end > next) {
            return Err(UnpackError::entry(&entry.name, "overlaps what follows it in the zip archive"));
        }
    }
    Ok(())
}

/// Contents whose length and CRC are checked when they end.
struct Checked {
    data: Box<dyn Read + Send>,
    entry: ZipEntry,
    crc: flate2::Crc,
    read_bytes: u64,
}

impl Read for Checked {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let len = self.data.read(buf)?;
        self.crc.update(&buf[..len]);
        self.read_bytes += len as u64;
        let wrong = |what: &str| Err(UnpackError::entry(&self.entry.name, what).into());
        if self.read_bytes > self.entry.size_bytes {
            return wrong("is longer than the zip directory says");
        }
        if len == 0 && self.read_bytes < self.entry.size_bytes {
            return wrong("is shorter than the zip directory says");
        }
        if len == 0 && self.crc.sum() != self.entry.crc {
            return wrong("has a wrong checksum");
        }
        Ok(len)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
