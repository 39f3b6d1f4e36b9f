//! Decompression: whole streams only, bounded.
//!
//! Every codec reads all members (gzip, lzip), frames (zstd) or streams (xz, bzip2) of its
//! input and sees the checksum of each. What follows the last one may be zero bytes
//! (tapes and block devices pad so); anything else is refused. [`Limited`] ends a
//! stream that gives more than its limit.

use std::io::{self, BufRead, BufReader, Read};

use ampoule_net::Cancel;
use liblzma::stream::Stream;

use super::error::UnpackError;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
    /// bzip2.
    Bzip2,
    /// LZMA of before xz.
    Lzma,
    /// lzip.
    Lzip,
}

impl Codec {
    /// Returns the codec whose magic number `start` has; plain if none.
    ///
    /// # Errors
    /// For formats that are known and not read: their names say more than garbage would.
    pub fn detect(start: &[u8]) -> Result<Self, UnpackError> {
        let unread =
            |name: &str| Err(UnpackError::archive(format!("{name} is not a compression that is read here")));
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Ok(Self::Bzip2),
            [0x1f, 0x9d, ..] => unread("compress (.Z)"),
            [b'L', b'Z', b'I', b'P', ..] => Ok(Self::Lzip),
            [0x04, 0x22, 0x4d, 0x18, ..] => unread("lz4"),
            [b'7', b'z', 0xbc, 0xaf, ..] => unread("7-zip"),
            [0x5d, 0, 0, ..] => Ok(Self::Lzma),
            [b'R', b'a', b'r', b'!', ..] => unread("rar"),
            [b'0', b'7', b'0', b'7', b'0', ..] => Err(UnpackError::archive("cpio is not read here")),
            _ => Ok(Self::Plain),
        }
    }

    /// Returns a reader of what `input` holds.
    ///
    /// # Errors
    /// When the decoder cannot be set up.
    pub fn reader<'r>(self, input: impl Read + Send + 'r) -> Result<Box<dyn Read + Send + 'r>, UnpackError> {
        let input = BufReader::with_capacity(64 * 1024, input);
        Ok(match self {
            Self::Plain => Box::new(input),
            Self::Gzip => Box::new(Gzip { member: None, rest: Some(input), members: 0 }),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
            Self::Xz | Self::Lzma | Self::Lzip => {
                let all = liblzma::stream::CONCATENATED;
                let stream = match self {
                    Self::Lzma => Stream::new_lzma_decoder(MOST_MEMORY_BYTES),
                    Self::Lzip => Stream::new_lzip_decoder(MOST_MEMORY_BYTES, all),
                    _ => Stream::new_stream_decoder(MOST_MEMORY_BYTES, all),
                };
                let stream = stream.map_err(io::Error::other)?;
                Box::new(ToTheEnd(liblzma::bufread::XzDecoder::new_stream(input, stream)))
            }
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        })
    }
}

/// A dictionary of 1 GiB is more than `xz -9` asks for (64 MiB), and less than a trap.
const MOST_MEMORY_BYTES: u64 = 1 << 30;

/// Reads all members of a gzip stream.
///
/// flate2's own multi-member reader takes zero padding for a broken member.
struct Gzip<R> {
    member: Option<flate2::bufread::GzDecoder<R>>,
    rest: Option<R>,
    members: u32,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(member) = &mut self.member {
                let len = member.read(buf)?;
                if len > 0 {
                    return Ok(len);
                }
                self.rest = self.member.take().map(flate2::bufread::GzDecoder::into_inner);
            }
            let Some(mut rest) = self.rest.take() else { return Ok(0) };
            if rest.fill_buf()?.is_empty() {
                if self.members == 0 {
                    return Err(UnpackError::archive("the archive is empty").into());
                }
                self.rest = Some(rest);
                return Ok(0);
            }
            if self.members > 0 && rest.fill_buf()?[0] == 0 {
                only_zeros(&mut rest)?;
                return Ok(0);
            }
            self.members += 1;
            self.member = Some(flate2::bufread::GzDecoder::new(rest));
        }
    }
}

/// Sees what follows a stream of LZMA, which has no sum at its end and of which there is one.
struct ToTheEnd<R>(liblzma::bufread::XzDecoder<R>);

impl<R: BufRead> Read for ToTheEnd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read(buf)?;
        if len == 0 && !buf.is_empty() {
            only_zeros(self.0.get_mut())?;
        }
        Ok(len)
    }
}

fn only_zeros(rest: &mut impl BufRead) -> io::Result<()> {
    loop {
        let chunk = rest.fill_buf()?;
        let len = chunk.len();
        if len == 0 {
            return Ok(());
        }
        if chunk.iter().any(|byte| *byte != 0) {
            return Err(UnpackError::archive("garbage follows the compressed stream").into());
        }
        rest.consume(len);
    }
}

/// How much an archive may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, in all.
    pub max_bytes: u64,
    /// Entries.
    pub max_entries: u64,
}

impl Limits {
    /// An archive may give this many times its own size …
    pub const RATIO: u64 = 200;
    /// … and this much in any case (64 MiB).
    pub const FLOOR_BYTES: u64 = 64 << 20;
    /// Entries: ten times the largest source tree that we know of.
    pub const ENTRIES: u64 = 4_000_000;

    /// Returns the limits for an archive of `size_bytes`.
    pub fn for_archive(size_bytes: u64) -> Self {
        Self {
            max_bytes: size_bytes.saturating_mul(Self::RATIO).max(Self::FLOOR_BYTES),
            max_entries: Self::ENTRIES,
        }
    }
}

/// A reader that fails when it has given more than `left` bytes.
pub struct Limited<R> {
    input: R,
    left: u64,
    limit: u64,
}

impl<R> Limited<R> {
    /// Limits `input`.
    pub fn new(input: R, max_bytes: u64) -> Self {
        Self { input, left: max_bytes, limit: max_bytes }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buf)?;
        if len as u64 > self.left {
            return Err(too_much(self.limit).into());
        }
        self.left -= len as u64;
        Ok(len)
    }
}

/// A reader that fails when somebody asks to stop.
pub(super) struct Stoppable<R> {
    pub(super) input: R,
    pub(super) cancel: Cancel,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_asked() {
            return Err(UnpackError::archive("interrupted").into());
        }
        self.input.read(buf)
    }
}

/// The archive gives more than its limit.
pub(super) fn too_much(limit: u64) -> UnpackError {
    UnpackError::archive(format!(
        "the archive unpacks to more than {limit} bytes ({} times its size, at least {} MiB); set `maxSize` if that is meant",
        Limits::RATIO,
        Limits::FLOOR_BYTES >> 20
    ))
}
