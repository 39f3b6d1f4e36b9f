//! Reading zip, strictly: wheels and source archives.
//!
//! The central directory says what there is; each entry's local header must agree
//! with it in name, method and sizes, since readers that believe one and readers that
//! believe the other would see two archives. Entries that are stored, or compressed by
//! deflate, bzip2, LZMA, zstd or xz; zip64; CRC checked. Entries that overlap are refused (a
//! bomb of nested views of one stream needs them), and so are names with a backslash: on
//! one system they are a path.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::error::UnpackError;
use super::stream::{Codec, Limits};

/// One entry of the central directory.
#[derive(Clone, Debug)]
pub struct ZipEntry {
    /// The name, in UTF-8 where the archive says how it is written.
    pub name: Vec<u8>,
    /// The name, as it stands.
    raw_name: Vec<u8>,
    /// The Unix mode with the file's type; 0 if the writer was not Unix.
    pub mode: u32,
    /// How long the contents are.
    pub size_bytes: u64,
    compressed_bytes: u64,
    header_offset: u64,
    /// Where what follows it begins.
    end_offset: u64,
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
const LZMA_MARKS_END: u16 = 2;
const UTF8_NAME: u16 = 1 << 11;

impl Archive {
    /// Reads the central directory. What `may_begin_later` has other bytes before it, such as a
    /// program that unpacks it; its offsets may count from the file's start or its own.
    ///
    /// # Errors
    /// When the file is not zip as this module's text says.
    pub fn open(mut file: File, limits: Limits, may_begin_later: bool) -> Result<Self, UnpackError> {
        let directory = Directory::find(&mut file, may_begin_later)?;
        if directory.entries > limits.max_entries {
            return Err(UnpackError::archive(format!("more than {} entries", limits.max_entries)));
        }
        file.seek(SeekFrom::Start(directory.offset))?;
        let mut reader = BufReader::new((&mut file).take(directory.size_bytes));
        // Not `with_capacity`: the number is the archive's word, the bytes are not there yet.
        let mut entries = Vec::new();
        for _ in 0..directory.entries {
            entries.push(read_central(&mut reader, directory.shift)?);
        }
        if io::copy(&mut reader, &mut io::sink())? != 0 {
            return Err(UnpackError::archive("the zip directory holds more than it says"));
        }
        check_overlap(&mut entries, directory.offset)?;
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
        if name != entry.raw_name {
            return differs("names");
        }
        if u16_at(&header, 8) != entry.method {
            return differs("methods");
        }
        let flags = u16_at(&header, 6);
        if flags & ENCRYPTED != 0 {
            return Err(UnpackError::entry(&entry.name, "is encrypted"));
        }
        let mut sizes =
            Sizes { size: u32_at(&header, 22).into(), compressed: u32_at(&header, 18).into(), offset: 0 };
        sizes.widen(&extra).map_err(|error| error.within(&entry.name))?;
        // With a descriptor behind the data, the header may leave at zero what was not known yet.
        let agrees = |here: u64, there: u64| here == there || flags & HAS_DESCRIPTOR != 0 && here == 0;
        if !agrees(sizes.size, entry.size_bytes) || !agrees(sizes.compressed, entry.compressed_bytes) {
            return differs("sizes");
        }
        if !agrees(u32_at(&header, 14).into(), entry.crc.into()) {
            return differs("checksums");
        }
        // The extra field is no part of the directory's, so that only here it shows where the data are.
        let start = entry.header_offset + 30 + (name.len() + extra.len()) as u64;
        if start.checked_add(entry.compressed_bytes).is_none_or(|end| end > entry.end_offset) {
            return Err(overlaps(&entry.name));
        }
        let mut raw = BufReader::new(file.take(entry.compressed_bytes));
        let data: Box<dyn Read + Send> = match entry.method {
            0 if entry.size_bytes != entry.compressed_bytes => return differs("sizes"),
            0 => Box::new(raw),
            8 => Box::new(flate2::bufread::DeflateDecoder::new(raw)),
            12 => Codec::Bzip2.reader(raw)?,
            14 => {
                // Version and length of the properties, then those; an own file has the size behind them.
                let mut start = [0; 9];
                raw.read_exact(&mut start)?;
                if u16_at(&start, 2) != 5 {
                    return Err(UnpackError::entry(&entry.name, "has damaged LZMA properties"));
                }
                let size = if flags & LZMA_MARKS_END != 0 { u64::MAX } else { entry.size_bytes };
                let header = [&start[4..], &size.to_le_bytes()].concat();
                Codec::Lzma.reader(io::Cursor::new(header).chain(raw))?
            }
            93 => Codec::Zstd.reader(raw)?,
            95 => Codec::Xz.reader(raw)?,
            other => {
                let name = method_name(other).map(|name| format!(" ({name})")).unwrap_or_default();
                return Err(UnpackError::entry(
                    &entry.name,
                    format!(
                        "zip method {other}{name} is not read; stored, deflate, bzip2, LZMA, zstd and xz are"
                    ),
                ));
            }
        };
        Ok(Checked { data, entry: entry.clone(), crc: flate2::Crc::new(), read_bytes: 0 })
    }
}

/// Returns what a method that is not read is called.
fn method_name(method: u16) -> Option<&'static str> {
    Some(match method {
        1 => "shrink",
        2..=5 => "reduce",
        6 => "implode",
        9 => "deflate64",
        96 => "JPEG",
        97 => "WavPack",
        98 => "PPMd",
        99 => "AES",
        _ => return None,
    })
}

/// Where the central directory is.
struct Directory {
    entries: u64,
    size_bytes: u64,
    /// From the start of the file.
    offset: u64,
    /// How many bytes stand before what the archive's own offsets count from.
    shift: u64,
}

impl Directory {
    fn find(file: &mut File, may_begin_later: bool) -> Result<Self, UnpackError> {
        let len = file.seek(SeekFrom::End(0))?;
        let start = len.saturating_sub(END_SEARCH_LEN);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.take(END_SEARCH_LEN).read_to_end(&mut tail)?;
        // The record must end where the file does: one inside a comment is not it.
        let mut found = (0..tail.len().saturating_sub(21)).rev().filter(|&at| {
            u32_at(&tail, at) == END && at + 22 + usize::from(u16_at(&tail, at + 20)) == tail.len()
        });
        let at = match (found.next(), found.next()) {
            (Some(at), None) => at,
            // Some readers take the first, and some the last.
            (Some(_), Some(_)) => return Err(UnpackError::archive("the zip archive has two ends")),
            (None, _) => {
                return Err(UnpackError::archive(
                    "not a zip archive, or one that is cut short or followed by other bytes: its directory is missing",
                ));
            }
        };
        if u16_at(&tail, at + 4) != 0 || u16_at(&tail, at + 6) != 0 {
            return Err(UnpackError::archive("a zip archive in several parts"));
        }
        let mut directory = Self {
            entries: u16_at(&tail, at + 10).into(),
            size_bytes: u32_at(&tail, at + 12).into(),
            offset: u32_at(&tail, at + 16).into(),
            shift: 0,
        };
        let mut end = start + at as u64;
        if at >= 20 && u32_at(&tail, at - 20) == END64_LOCATOR {
            let claimed = u64_at(&tail, at - 12);
            end = claimed;
            if may_begin_later && !has_end64(file, claimed)? {
                // Right before its locator, where nothing stands between them.
                end = (start + at as u64).saturating_sub(20 + 56);
            }
            directory = Self::read64(file, end, directory)?;
            directory.shift = end.saturating_sub(claimed);
        }
        let lies = |what: &str| {
            UnpackError::archive(format!("the zip directory is not where the archive says{what}"))
        };
        let begins = end.checked_sub(directory.size_bytes).ok_or_else(|| lies(""))?;
        let shift = begins.checked_sub(directory.offset).ok_or_else(|| lies(""))?;
        if shift > 0 && !may_begin_later {
            return Err(lies("; if other bytes stand before it, say `format = \"zip\"`"));
        }
        if directory.shift != 0 && directory.shift != shift {
            return Err(lies(""));
        }
        Ok(Self { offset: begins, shift, ..directory })
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
            shift: 0,
        };
        let agrees = |plain: u64, wide: u64, marker: u64| plain == marker || plain == wide;
        let all = u32_at(&record, 0) == END64
            && agrees(plain.entries, wide.entries, 0xffff)
            && agrees(plain.size_bytes, wide.size_bytes, 0xffff_ffff)
            && agrees(plain.offset, wide.offset, 0xffff_ffff);
        if all { Ok(wide) } else { Err(lies()) }
    }
}

/// Returns whether the record of zip64 stands at an offset.
fn has_end64(file: &mut File, at: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(at))?;
    let mut magic = Vec::new();
    file.take(4).read_to_end(&mut magic)?;
    Ok(magic == END64.to_le_bytes())
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

fn read_central(reader: &mut impl Read, shift: u64) -> Result<ZipEntry, UnpackError> {
    let mut header = [0; 46];
    reader.read_exact(&mut header)?;
    if u32_at(&header, 0) != CENTRAL {
        return Err(UnpackError::archive("a damaged zip directory"));
    }
    let mut read = |len: u16| {
        let mut data = vec![0; usize::from(len)];
        reader.read_exact(&mut data).map(|()| data)
    };
    let raw_name = read(u16_at(&header, 28))?;
    let name = decoded_name(&raw_name, &header)?;
    let extra = read(u16_at(&header, 30))?;
    read(u16_at(&header, 32))?;
    let mut sizes = Sizes {
        size: u32_at(&header, 24).into(),
        compressed: u32_at(&header, 20).into(),
        offset: u32_at(&header, 42).into(),
    };
    sizes.widen(&extra).map_err(|error| error.within(&name))?;
    if u16_at(&header, 8) & ENCRYPTED != 0 {
        return Err(UnpackError::entry(&name, "is encrypted"));
    }
    if name.contains(&b'\\') {
        return Err(UnpackError::entry(&name, "has a backslash in its name"));
    }
    let header_offset = sizes.offset.checked_add(shift).ok_or_else(|| overlaps(&name))?;
    let unix = matches!(header[5], 3 | 19);
    Ok(ZipEntry {
        name,
        raw_name,
        mode: if unix { u32_at(&header, 38) >> 16 } else { 0 },
        size_bytes: sizes.size,
        compressed_bytes: sizes.compressed,
        header_offset,
        end_offset: 0,
        crc: u32_at(&header, 16),
        method: u16_at(&header, 10),
    })
}

/// Returns an entry's name in UTF-8, if the archive says how it is written: so, or in the letters of
/// DOS. What a Unix writes is kept byte for byte, as its file system had it.
fn decoded_name(raw: &[u8], header: &[u8; 46]) -> Result<Vec<u8>, UnpackError> {
    let is_text = std::str::from_utf8(raw).is_ok();
    if u16_at(header, 8) & UTF8_NAME != 0 && !is_text {
        return Err(UnpackError::entry(raw, "its name is said to be UTF-8 and is not"));
    }
    let dos = matches!(header[5], 0 | 6 | 10 | 11 | 14);
    if is_text || !dos {
        return Ok(raw.to_vec());
    }
    let letter = |byte: &u8| match byte {
        0..0x80 => char::from(*byte),
        byte => CODE_PAGE_437[usize::from(byte - 0x80)],
    };
    Ok(raw.iter().map(letter).collect::<String>().into_bytes())
}

/// The upper half of code page 437.
const CODE_PAGE_437: [char; 128] = [
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å', 'É', 'æ', 'Æ', 'ô', 'ö',
    'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ', 'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐',
    '¬', '½', '¼', '¡', '«', '»', '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛',
    '┐', '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧', '╨', '╤', '╥', '╙',
    '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀', 'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ',
    'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩', '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²',
    '■', '\u{a0}',
];

fn overlaps(name: &[u8]) -> UnpackError {
    UnpackError::entry(name, "overlaps what follows it in the zip archive")
}

/// Notes of each entry where the next begins, and compares that with what the directory says.
fn check_overlap(entries: &mut [ZipEntry], directory_offset: u64) -> Result<(), UnpackError> {
    let mut by_place: Vec<&mut ZipEntry> = entries.iter_mut().collect();
    by_place.sort_by_key(|entry| entry.header_offset);
    let mut next = directory_offset;
    for entry in by_place.into_iter().rev() {
        let least = 30 + entry.raw_name.len() as u64;
        let end =
            entry.header_offset.checked_add(least).and_then(|at| at.checked_add(entry.compressed_bytes));
        if end.is_none_or(|end| end > next) {
            return Err(overlaps(&entry.name));
        }
        entry.end_offset = next;
        next = entry.header_offset;
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
