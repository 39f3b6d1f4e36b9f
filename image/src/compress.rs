//! Compression of layers, piece by piece.
//!
//! The tar stream is cut at fixed places and every piece becomes a whole gzip
//! member or zstd frame. A reader sees one stream (RFC 1952 and RFC 8878 both
//! say so); a writer can work on all pieces at once, and the bytes depend on
//! nothing but the stream: not on the number of threads, not on the machine.

use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::oci::media;

/// Streams up to this size are cut into smaller pieces.
const SMALL_BYTES: u64 = 4 << 20;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all = "lowercase")]
pub enum Compression {
    /// Not at all: for loading on the same machine.
    None,
    /// gzip, which every reader knows. Levels are libdeflate's, 1 to 12.
    Gzip {
        /// libdeflate's level.
        level: u8,
    },
    /// zstd, which is smaller and faster, and which older readers refuse.
    Zstd {
        /// zstd's level.
        level: u8,
    },
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: Self::GZIP_LEVEL }
    }
}

impl Compression {
    const GZIP_LEVEL: u8 = 2;
    const ZSTD_LEVEL: u8 = 3;

    /// Reads `gzip`, `zstd:9`, `none`.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] for another name or a level that does not exist.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let level = |default: u8, max: u8| match level {
            None => Ok(default),
            Some(level) => level.parse().ok().filter(|l| (1..=max).contains(l)).ok_or_else(|| {
                ImageError::invalid(format!("compression level `{level}` of `{name}`: expected 1 to {max}"))
            }),
        };
        match name {
            "none" | "raw" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip { level: level(Self::GZIP_LEVEL, 12)? }),
            "zstd" => Ok(Self::Zstd { level: level(Self::ZSTD_LEVEL, 19)? }),
            _ => Err(ImageError::invalid(format!(
                "compression `{text}`: expected `gzip`, `zstd` or `none`, with a level like `gzip:9` if you like"
            ))),
        }
    }

    /// Returns the media type of a layer made this way.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => media::LAYER,
            Self::Gzip { .. } => media::LAYER_GZIP,
            Self::Zstd { .. } => media::LAYER_ZSTD,
        }
    }

    /// Returns all that decides the compressed bytes, for the layer's key: the
    /// compressor, its version, its level and where the stream is cut.
    pub fn key(self) -> String {
        let (piece, small) = (self.piece_bytes(u64::MAX), self.piece_bytes(SMALL_BYTES));
        let cut = format!("{piece}, {small} up to {SMALL_BYTES}");
        match self {
            Self::None => "none".to_owned(),
            Self::Gzip { level } => format!("gzip libdeflate-1.26 level {level} member {cut}"),
            Self::Zstd { level } => {
                format!("zstd {} level {level} frame {cut}", zstd::zstd_safe::version_string())
            }
        }
    }

    /// Returns how much of a stream of `stream_bytes` becomes one member or frame.
    ///
    /// A small stream is cut smaller, so that it too is work for several cores: who waits
    /// for a small image waits for one layer. It costs 0.3 % of its size.
    pub(crate) fn piece_bytes(self, stream_bytes: u64) -> usize {
        match self {
            Self::None => 1 << 20,
            Self::Gzip { .. } | Self::Zstd { .. } if stream_bytes <= SMALL_BYTES => 1 << 18,
            Self::Gzip { .. } => 1 << 20,
            Self::Zstd { .. } => 2 << 20,
        }
    }
}

/// A compressor's memory, one per thread.
pub(crate) struct Compressor {
    wanted: Compression,
    gzip: Option<libdeflater::Compressor>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    pub(crate) fn new(wanted: Compression) -> Self {
        Self { wanted, gzip: None, zstd: None }
    }

    /// Compresses one piece into `out`, which it empties first.
    pub(crate) fn compress(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self.wanted {
            Compression::None => out.extend_from_slice(piece),
            Compression::Gzip { level } => {
                let gzip = self.gzip.get_or_insert_with(|| {
                    let level =
                        libdeflater::CompressionLvl::new(level.into()).expect("levels are checked when read");
                    libdeflater::Compressor::new(level)
                });
                out.resize(gzip.gzip_compress_bound(piece.len()), 0);
                let n = gzip.gzip_compress(piece, out).expect("the bound that the compressor gave suffices");
                out.truncate(n);
            }
            Compression::Zstd { level } => {
                if self.zstd.is_none() {
                    let made = zstd::bulk::Compressor::new(level.into());
                    self.zstd = Some(made.map_err(|e| ImageError::invalid(format!("zstd: {e}")))?);
                }
                let zstd = self.zstd.as_mut().expect("made above");
                out.reserve(zstd::zstd_safe::compress_bound(piece.len()));
                zstd.compress_to_buffer(piece, out).map_err(|e| ImageError::invalid(format!("zstd: {e}")))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// The lock file decides which libdeflate is built; the key must say the same.
    #[test]
    fn key_names_the_locked_libdeflate() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let at = lock.find("name = \"libdeflate-sys\"").expect("libdeflate is in the lock file");
        let version = lock[at..].split('"').nth(3).unwrap();
        let minor = version.rsplit_once('.').unwrap().0;
        assert!(Compression::default().key().contains(&format!("libdeflate-{minor} ")), "{version}");
    }

    #[test]
    fn pieces_are_one_stream_to_gzip() {
        let pieces: [&[u8]; 3] = [b"one ", &[b'x'; 300_000], b" three"];
        let mut compressor = Compressor::new(Compression::default());
        let (mut stream, mut piece) = (Vec::new(), Vec::new());
        for bytes in pieces {
            compressor.compress(bytes, &mut piece).unwrap();
            stream.extend_from_slice(&piece);
        }
        let mut child = std::process::Command::new("gzip")
            .arg("-dc")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("gzip is everywhere");
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &stream).unwrap());
        let mut out = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        writer.join().unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(out, pieces.concat());
    }

    #[test]
    fn levels_that_do_not_exist_are_refused() {
        for text in ["gzip:0", "gzip:13", "zstd:20", "zstd:x", "brotli", ""] {
            assert!(Compression::parse(text).is_err(), "{text}");
        }
        assert_eq!(Compression::parse("zstd:19").unwrap(), Compression::Zstd { level: 19 });
    }
}
