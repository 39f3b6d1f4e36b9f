//! Reading tar: ustar, GNU and PAX, strictly.
//!
//! A reader of our own, because what counts here is what other readers pass over: a
//! PAX record that does not parse is an error (two readers that skip it differently
//! see two archives), a PAX size wins over the header's in *where the next entry
//! starts* too, and sizes are checked before anything is allocated. Sparse files give
//! their holes as zeros: see [`super::sparse`]. One entry at a time, nothing recursive.
//!
//! ```text
//! header x (PAX: path=…, size=…) · header of the entry · data, padded to 512 · …
//! · two zero blocks · whatever follows is read to the end and not used
//! ```

use std::io::{self, Read};

use super::error::UnpackError;
use super::sparse::{Holes, Pax as PaxSparse, Piece, Run};

pub(super) const BLOCK: usize = 512;
/// Longest PAX header or GNU long name.
const MAX_EXTENSION_LEN: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an earlier file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A device or fifo, in words.
    Special(&'static str),
}

/// An entry's metadata.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name, as the archive has it.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Where a link points.
    pub link: Vec<u8>,
    /// How many bytes reading it gives.
    pub size_bytes: u64,
    /// Whether the archive leaves zeros out of it.
    pub is_sparse: bool,
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// The owner's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// The owner's name, or nothing.
    pub user: Vec<u8>,
    /// The group's name, or nothing.
    pub group: Vec<u8>,
}

/// Reads the entries of a tar stream.
pub struct Reader<R> {
    input: R,
    /// Data of the current entry that was not read.
    left: u64,
    /// Zero bytes after it.
    padding: u64,
    /// Where the data of the current entry belong, if it is sparse.
    holes: Option<Holes>,
    /// The name of the current entry; nothing before the first.
    current: Vec<u8>,
    done: bool,
}

/// What came in headers before an entry's own.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax_name: Option<Vec<u8>>,
    pax_link: Option<Vec<u8>>,
    size_bytes: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    user: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    sparse: Option<PaxSparse>,
}

impl<R: Read> Reader<R> {
    /// Begins.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, holes: None, current: Vec::new(), done: false }
    }

    /// Returns the next entry, or none after the last; what was not read of the one
    /// before is skipped.
    ///
    /// # Errors
    /// [`UnpackError`] for anything that is not tar as this module's text says.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, UnpackError> {
        self.read_entry().map_err(|error| error.after(&self.current))
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut extensions = Extensions::default();
        let mut is_extended = false;
        loop {
            self.skip_data()?;
            let Some(header) = self.next_header()? else {
                return match is_extended {
                    true => Err(UnpackError::archive("an extended header is followed by no entry")),
                    false => Ok(None),
                };
            };
            let size = number(&header[124..136], "size")?;
            is_extended |= matches!(header[156], b'x' | b'X' | b'L' | b'K');
            match header[156] {
                b'x' | b'X' => self.read_pax(size, &mut extensions)?,
                b'g' => self.read_global(size)?,
                b'L' => extensions.name = Some(self.read_long(size)?),
                b'K' => extensions.link = Some(self.read_long(size)?),
                // A volume's label.
                b'V' => self.begin_data(size),
                kind => return self.entry(&header, kind, size, extensions).map(Some),
            }
        }
    }

    /// Reads everything that follows the end marker, so that checksums at the end of a
    /// compressed stream are seen.
    ///
    /// # Errors
    /// Those of reading.
    pub fn drain(mut self) -> Result<(), UnpackError> {
        self.skip_data()?;
        let rest = io::copy(&mut self.input, &mut io::sink());
        rest.map(drop).map_err(|error| UnpackError::from(error).after(&self.current))
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        type_flag: u8,
        size: u64,
        ext: Extensions,
    ) -> Result<Entry, UnpackError> {
        let sparse_name = ext.sparse.as_ref().and_then(|sparse| sparse.name.clone());
        let name = sparse_name.or(ext.pax_name).or(ext.name).unwrap_or_else(|| header_name(header));
        let link = ext.pax_link.or(ext.link).unwrap_or_else(|| text(&header[157..257]));
        if name.is_empty() {
            return Err(UnpackError::archive("an entry without a name"));
        }
        let kind = kind_of(type_flag, &name)?;
        self.current.clone_from(&name);
        let stored = ext.size_bytes.unwrap_or(size);
        // Links and directories have no data, whatever some writers put into the field; a directory
        // of an incremental archive has a list of names.
        self.begin_data(if kind == Kind::File || type_flag == b'D' { stored } else { 0 });
        let holes = self.holes_of(header, ext.sparse, kind).map_err(|error| error.within(&name))?;
        let size_bytes = match &holes {
            Some(holes) => holes.size_bytes(),
            None if kind == Kind::File => stored,
            None => 0,
        };
        let is_sparse = holes.is_some();
        self.holes = holes;
        let mode = number(&header[100..108], "mode").map_err(|e| UnpackError::entry(&name, e.reason))?;
        let names = header[257..262] == *b"ustar";
        Ok(Entry {
            kind,
            link,
            size_bytes,
            is_sparse,
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            uid: ext.uid.or_else(|| number(&header[108..116], "uid").ok()).unwrap_or_default(),
            gid: ext.gid.or_else(|| number(&header[116..124], "gid").ok()).unwrap_or_default(),
            user: ext.user.unwrap_or_else(|| if names { text(&header[265..297]) } else { Vec::new() }),
            group: ext.group.unwrap_or_else(|| if names { text(&header[297..329]) } else { Vec::new() }),
            name,
        })
    }

    /// Reads where the data of the entry belong that begins, if it is sparse.
    fn holes_of(
        &mut self,
        header: &[u8; BLOCK],
        pax: Option<PaxSparse>,
        kind: Kind,
    ) -> Result<Option<Holes>, UnpackError> {
        if header[156] == b'S' {
            let (mut runs, mut more) = (Vec::new(), header[482] != 0);
            super::sparse::read_runs(&header[386..482], &mut runs)?;
            while more {
                let mut block = [0; BLOCK];
                if read_full(&mut self.input, &mut block)? < BLOCK {
                    return Err(UnpackError::archive("the archive is cut short within a map of holes"));
                }
                super::sparse::read_runs(&block[..504], &mut runs)?;
                more = block[504] != 0;
            }
            let size_bytes = number(&header[483..495], "real size")?;
            return Holes::new(runs, size_bytes, self.left).map(Some);
        }
        let Some(pax) = pax else { return Ok(None) };
        if kind != Kind::File {
            return Err(UnpackError::archive("has holes and is not a file"));
        }
        if !pax.map_is_in_data()? {
            let (runs, size_bytes) = pax.finish(Vec::new())?;
            return Holes::new(runs, size_bytes, self.left).map(Some);
        }
        let runs = self.read_map()?;
        let (runs, size_bytes) = pax.finish(runs)?;
        Holes::new(runs, size_bytes, self.left).map(Some)
    }

    /// Reads the map at the start of the data: numbers, one a line, in whole blocks.
    fn read_map(&mut self) -> Result<Vec<Run>, UnpackError> {
        let mut lines = super::sparse::Lines::default();
        loop {
            let mut block = [0; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match self.read_stored(&mut block[filled..])? {
                    0 => return Err(UnpackError::archive("its map of holes has no end")),
                    len => filled += len,
                }
            }
            if let Some(runs) = lines.take(&block)? {
                return Ok(runs);
            }
        }
    }

    /// Reads a header and checks its sum; none at the end.
    fn next_header(&mut self) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        if self.done {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let len = read_full(&mut self.input, &mut block)?;
        // Some writers leave the end marker out; a stream that is cut between entries
        // is caught by its compression, or by its hash.
        if len == 0 && !self.current.is_empty() || len == BLOCK && block == [0; BLOCK] {
            self.done = true;
            return Ok(None);
        }
        if len < BLOCK {
            return Err(if self.current.is_empty() && len == 0 {
                UnpackError::archive("the archive is empty")
            } else {
                UnpackError::archive("the archive is cut short within a header")
            });
        }
        check_sum(&block)?;
        Ok(Some(block))
    }

    fn begin_data(&mut self, size: u64) {
        self.holes = None;
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_data(&mut self) -> Result<(), UnpackError> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink())?;
        if skipped < rest {
            return Err(self.cut());
        }
        self.left = 0;
        self.padding = 0;
        Ok(())
    }

    /// The input ends within the current entry.
    fn cut(&self) -> UnpackError {
        UnpackError::entry(&self.current, "the archive is cut short within a file")
    }

    /// Reads data as they are stored, without holes.
    fn read_stored(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let len = self.input.read(&mut buf[..want])?;
        if len == 0 {
            return Err(self.cut().into());
        }
        self.left -= len as u64;
        Ok(len)
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > MAX_EXTENSION_LEN {
            return Err(UnpackError::archive(format!(
                "an extended header of {size} bytes (at most {MAX_EXTENSION_LEN} are read)"
            )));
        }
        let mut data = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut data)?;
        if (data.len() as u64) < size {
            return Err(UnpackError::archive("the archive is cut short within an extended header"));
        }
        self.begin_data(size);
        self.left = 0;
        Ok(data)
    }

    fn read_long(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        Ok(text(&self.read_extension(size)?))
    }

    fn read_pax(&mut self, size: u64, ext: &mut Extensions) -> Result<(), UnpackError> {
        let data = self.read_extension(size)?;
        for record in pax_records(&data) {
            let (key, value) = record?;
            let digits = || pax_number(key, value);
            match key {
                // An empty value takes an earlier one back.
                b"path" => ext.pax_name = Some(value.to_vec()).filter(|v| !v.is_empty()),
                b"linkpath" => ext.pax_link = Some(value.to_vec()).filter(|v| !v.is_empty()),
                b"size" => ext.size_bytes = Some(digits()?),
                b"uid" => ext.uid = Some(digits()?),
                b"gid" => ext.gid = Some(digits()?),
                b"uname" => ext.user = Some(value.to_vec()),
                b"gname" => ext.group = Some(value.to_vec()),
                key if key.starts_with(b"GNU.sparse.") => {
                    ext.sparse.get_or_insert_default().record(&key[11..], value)?;
                }
                // Times, comments, extended attributes: not part of what is unpacked.
                _ => {}
            }
        }
        Ok(())
    }

    /// A header for all entries: a comment (git's) is fine, names and sizes are not.
    fn read_global(&mut self, size: u64) -> Result<(), UnpackError> {
        let data = self.read_extension(size)?;
        for record in pax_records(&data) {
            let (key, _) = record?;
            if key.starts_with(b"GNU.volume.") && key != b"GNU.volume.label" {
                return Err(UnpackError::archive(SEVERAL_VOLUMES));
            }
            if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                let key = key.escape_ascii();
                return Err(UnpackError::archive(format!("a PAX header gives all entries one `{key}`")));
            }
        }
        Ok(())
    }
}

/// Reads the data of the current entry.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.holes.as_ref().map(Holes::next_piece) else { return self.read_stored(buf) };
        let fit = |len: u64| buf.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        let len = match piece {
            Piece::End => return Ok(0),
            Piece::Hole(len) => {
                let len = fit(len);
                buf[..len].fill(0);
                len
            }
            Piece::Data(len) => {
                let len = fit(len);
                self.read_stored(&mut buf[..len])?
            }
        };
        if let Some(holes) = &mut self.holes {
            holes.advance(len as u64);
        }
        Ok(len)
    }
}

const SEVERAL_VOLUMES: &str = "parts of several volumes are not unpacked";

/// Returns what an entry is. Of types that nobody here knows, POSIX says that they are to be taken
/// for regular files.
fn kind_of(type_flag: u8, name: &[u8]) -> Result<Kind, UnpackError> {
    Ok(match type_flag {
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Special("a character device"),
        b'4' => Kind::Special("a block device"),
        b'5' | b'D' => Kind::Directory,
        b'6' => Kind::Special("a fifo"),
        b'M' | b'N' => return Err(UnpackError::entry(name, SEVERAL_VOLUMES)),
        // Before POSIX, directories were files whose name ends in a slash.
        _ if name.last() == Some(&b'/') => Kind::Directory,
        _ => Kind::File,
    })
}

fn read_full(input: &mut impl Read, buf: &mut [u8]) -> Result<usize, UnpackError> {
    let mut len = 0;
    while len < buf.len() {
        match input.read(&mut buf[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(len)
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), UnpackError> {
    let field = 148..156;
    let bytes = || block.iter().enumerate().map(|(i, b)| if field.contains(&i) { b' ' } else { *b });
    let unsigned: u64 = bytes().map(u64::from).sum();
    // Old writers summed signed characters.
    let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
    let stated = number(&block[148..156], "checksum").ok();
    if stated == Some(unsigned) || stated.and_then(|s| i64::try_from(s).ok()) == Some(signed) {
        return Ok(());
    }
    Err(UnpackError::archive("a header's checksum is wrong: not a tar archive, or a damaged one"))
}

fn header_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&header[..100]);
    let prefix = text(&header[345..500]);
    // Only POSIX has the prefix there; GNU's magic ends in spaces, and has times.
    if header[257..263] == *b"ustar\0" && !prefix.is_empty() {
        return [prefix.as_slice(), b"/", &name].concat();
    }
    name
}

/// Returns a field's text, up to the first NUL.
fn text(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Reads a numeric field: octal digits, or GNU's base 256.
pub(super) fn number(field: &[u8], what: &str) -> Result<u64, UnpackError> {
    let bad = || UnpackError::archive(format!("a header's {what} is not a number, negative, or too large"));
    if field[0] & 0x80 != 0 {
        if field[0] != 0x80 {
            return Err(bad());
        }
        return field[1..]
            .iter()
            .try_fold(0_u64, |n, byte| n.checked_mul(256)?.checked_add(u64::from(*byte)))
            .ok_or_else(bad);
    }
    let trimmed = field.trim_ascii_start();
    let end = trimmed.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(trimmed.len());
    let (digits, rest) = trimmed.split_at(end);
    if !rest.iter().all(|b| matches!(b, 0 | b' ')) {
        return Err(bad());
    }
    digits
        .iter()
        .try_fold(0_u64, |n, byte| match byte {
            b'0'..=b'7' => n.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
            _ => None,
        })
        .ok_or_else(bad)
}

type PaxRecord<'a> = Result<(&'a [u8], &'a [u8]), UnpackError>;

/// Returns the records of a PAX header: `18 path=some/file\n`.
fn pax_records(mut data: &[u8]) -> impl Iterator<Item = PaxRecord<'_>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let record = pax_record(data);
        data = match &record {
            Some((_, _, rest)) => rest,
            None => &[],
        };
        Some(
            record
                .map(|(key, value, _)| (key, value))
                .ok_or_else(|| UnpackError::archive("a PAX header is malformed")),
        )
    })
}

fn pax_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(8).position(|b| *b == b' ')?;
    let digits =
        std::str::from_utf8(&data[..space]).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let len: usize = digits.parse().ok()?;
    let body = data.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    (!key.is_empty()).then_some((key, value, &data[len..]))
}

pub(super) fn pax_number(key: &[u8], value: &[u8]) -> Result<u64, UnpackError> {
    let digits = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|d| d.parse().ok()).ok_or_else(|| {
        UnpackError::archive(format!(
            "a PAX header's `{}` is not a number, negative, or too large",
            key.escape_ascii()
        ))
    })
}
