//! Binary caches in Nix's format: `nix-cache-info`, one narinfo an object, NARs.
//!
//! This crate reads and writes a cache in a directory ([`FileTransport`]). Everything else comes
//! through a [`Transport`] that somebody with a network gives us; it moves named files and knows
//! nothing of what is in them. What a cache says is believed only if a trusted key signed it, or if
//! the contents prove it.

mod copy;
mod file;
mod realisation;
mod substitute;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

pub use copy::{CopyOptions, CopyReport, copy_from, copy_to};
pub use file::FileTransport;
pub use realisation::Realisation;
pub(crate) use realisation::parse_id;
pub use substitute::Substituters;

use crate::error::{StoreError, StoreResult};
use crate::narinfo::{Compression, MAX_LEN, NarInfo};
use crate::{
    Hash, HashAlgo, Hasher, ObjectInfo, OutputLock, Registered, Staging, Store, StoreDir, StorePath,
    TrustedKeys,
};

/// Moves named files to and from a cache. Names are relative, and never lead up.
pub trait Transport: Send + Sync {
    /// Returns what people call this cache.
    fn url(&self) -> &str;

    /// Opens a file; nothing if there is none by this name.
    ///
    /// # Errors
    /// [`StoreError::Transport`]: it could not be told whether there is one.
    fn get(&self, name: &str) -> StoreResult<Option<Box<dyn Read + Send>>>;

    /// Opens a file that may be large; `watch` hears how far it is. One who keeps it before it is read
    /// refuses more than `limit_bytes`.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn get_watched<'w>(
        &self,
        name: &str,
        _limit_bytes: u64,
        watch: &'w dyn Watch,
    ) -> StoreResult<Option<Box<dyn Read + Send + 'w>>> {
        let from = self.get(name)?;
        Ok(from.map(|from| Box::new(Told { from, done_bytes: 0, watch }) as _))
    }

    /// Returns whether there is a file by this name.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn has(&self, name: &str) -> StoreResult<bool> {
        Ok(self.get(name)?.is_some())
    }

    /// Writes a file, whole or not at all. What lies at `from` may be taken away.
    ///
    /// # Errors
    /// [`StoreError::Transport`].
    fn put(&self, name: &str, from: &Path, content_type: &str) -> StoreResult<()>;
}

/// Hears how far a transfer is, and says whether it goes on.
pub trait Watch: Sync {
    /// So many bytes came, of so many if that is known.
    fn progress(&self, done_bytes: u64, total_bytes: Option<u64>);

    /// Whether to stop.
    fn is_cancelled(&self) -> bool;
}

/// Hears nothing and stops nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _done_bytes: u64, _total_bytes: Option<u64>) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Tells what is read through it.
struct Told<'w, R> {
    from: R,
    done_bytes: u64,
    watch: &'w dyn Watch,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let got = self.from.read(buf)?;
        self.done_bytes += got as u64;
        self.watch.progress(self.done_bytes, None);
        Ok(got)
    }
}

/// Ends when its watch says so.
struct Stoppable<'w, R> {
    from: R,
    watch: &'w dyn Watch,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.watch.is_cancelled() {
            return Err(std::io::Error::other("interrupted"));
        }
        self.from.read(buf)
    }
}

/// What a cache says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheInfo {
    /// Its logical store directory.
    pub store_dir: StoreDir,
    /// Whether it may be asked for many at once.
    pub wants_mass_query: bool,
    /// Lower is asked first.
    pub priority: u32,
}

impl CacheInfo {
    /// Parses `nix-cache-info`.
    ///
    /// # Errors
    /// [`StoreError::Format`].
    pub fn parse(text: &str, from: &str) -> StoreResult<Self> {
        let bad = |problem: String| StoreError::Format { what: format!("{from}/nix-cache-info"), problem };
        let mut info = Self { store_dir: StoreDir::default(), wants_mass_query: false, priority: 50 };
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let (key, value) = line.split_once(':').ok_or_else(|| bad(format!("line '{line}'")))?;
            match (key, value.trim()) {
                ("StoreDir", dir) => info.store_dir = StoreDir::new(dir).map_err(|e| bad(e.to_string()))?,
                ("WantMassQuery", value) => info.wants_mass_query = value == "1",
                ("Priority", value) => {
                    info.priority = value.parse().map_err(|_| bad(format!("priority '{value}'")))?;
                }
                _ => {}
            }
        }
        Ok(info)
    }

    /// Returns the text of `nix-cache-info`.
    #[must_use]
    pub fn print(&self) -> String {
        let Self { store_dir, wants_mass_query, priority } = self;
        format!(
            "StoreDir: {store_dir}\nWantMassQuery: {}\nPriority: {priority}\n",
            u8::from(*wants_mass_query)
        )
    }
}

/// A binary cache, opened.
#[derive(Clone)]
pub struct BinaryCache {
    transport: Arc<dyn Transport>,
    info: CacheInfo,
}

impl std::fmt::Debug for BinaryCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BinaryCache({})", self.url())
    }
}

impl BinaryCache {
    /// Opens a cache for reading.
    ///
    /// # Errors
    /// If it is for another logical store directory, is no cache, or cannot be reached.
    pub fn open(transport: Arc<dyn Transport>, dir: &StoreDir) -> StoreResult<Self> {
        let text = read_text(&*transport, "nix-cache-info")?.ok_or_else(|| StoreError::Transport {
            url: transport.url().to_owned(),
            problem: "is not a binary cache: it has no nix-cache-info".to_owned(),
        })?;
        let info = CacheInfo::parse(&text, transport.url())?;
        if info.store_dir != *dir {
            return Err(StoreError::OtherStoreDir {
                path: transport.url().to_owned(),
                found: info.store_dir.to_string(),
                wanted: dir.to_string(),
            });
        }
        Ok(Self { transport, info })
    }

    /// Opens a cache for writing; makes it if it is not there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_or_create(transport: Arc<dyn Transport>, store: &Store) -> StoreResult<Self> {
        if read_text(&*transport, "nix-cache-info")?.is_none() {
            let info = CacheInfo { store_dir: store.dir().clone(), wants_mass_query: true, priority: 40 };
            put_text(
                &*transport,
                &store.staging()?,
                "nix-cache-info",
                &info.print(),
                "text/x-nix-cache-info",
            )?;
        }
        Self::open(transport, store.dir())
    }

    /// Returns what people call it.
    #[must_use]
    pub fn url(&self) -> &str {
        self.transport.url()
    }

    /// Returns what it says about itself.
    #[must_use]
    pub fn info(&self) -> &CacheInfo {
        &self.info
    }

    /// Asks for an object. What it says is not checked by signatures here.
    ///
    /// # Errors
    /// [`StoreError::Format`] if the narinfo is bad or of another path, and those of the transport.
    pub fn narinfo(&self, path: &StorePath) -> StoreResult<Option<NarInfo>> {
        let name = narinfo_name(path);
        let Some(text) = read_text(&*self.transport, &name)? else { return Ok(None) };
        self.parse_narinfo(path, &text).map(Some)
    }

    pub(crate) fn parse_narinfo(&self, path: &StorePath, text: &str) -> StoreResult<NarInfo> {
        let from = format!("{}/{}", self.url(), narinfo_name(path));
        let narinfo = NarInfo::parse(&self.info.store_dir, text, &from)?;
        if narinfo.info.path != *path {
            let problem = format!("it is about '{}', not about '{path}'", narinfo.info.path);
            return Err(StoreError::Format { what: from, problem });
        }
        Ok(narinfo)
    }

    /// Fetches an object whose references are valid, checks it, and registers it. The narinfo must
    /// be believed already: see [`believe`].
    ///
    /// # Errors
    /// [`StoreError::HashMismatch`], [`StoreError::SizeMismatch`], [`crate::nar::NarError`], and
    /// those of the transport and the file system.
    pub fn fetch(&self, store: &Store, narinfo: &NarInfo) -> StoreResult<Registered> {
        self.fetch_watched(store, narinfo, None, &Unwatched)
    }

    /// The same, for somebody who watches, and who may hold the object's lock already.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn fetch_watched(
        &self,
        store: &Store,
        narinfo: &NarInfo,
        lock: Option<&OutputLock>,
        watch: &dyn Watch,
    ) -> StoreResult<Registered> {
        let url = || format!("{}/{}", self.url(), narinfo.url);
        let problem = |problem: String| StoreError::Transport { url: url(), problem };
        let from = self
            .transport
            .get_watched(&narinfo.url, most_bytes(narinfo), watch)?
            .ok_or_else(|| problem("it is gone from the cache".to_owned()))?;
        let from = std::io::BufReader::with_capacity(256 << 10, Stoppable { from, watch });
        let from: Box<dyn Read + '_> = match narinfo.compression {
            Compression::None => Box::new(from),
            Compression::Zstd => {
                Box::new(zstd::stream::read::Decoder::with_buffer(from).map_err(|e| problem(e.to_string()))?)
            }
            Compression::Xz => {
                let all = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(MOST_MEMORY_BYTES, all)
                    .map_err(|e| problem(e.to_string()))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(from, stream))
            }
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(from)),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        };
        store.add_nar_locked(from, narinfo.info.clone(), lock).map_err(|error| match error {
            StoreError::Nar(error) => problem(error.to_string()),
            error => error,
        })
    }
}

/// What a stream of xz may ask for; `xz -9` writes such that ask for a sixteenth of it. The stream is not signed.
const MOST_MEMORY_BYTES: u64 = 1 << 30;

/// How many bytes an honest cache sends at most: what it says itself, else what the worst compressor
/// makes of a NAR whose size is signed.
fn most_bytes(narinfo: &NarInfo) -> u64 {
    let nar_bytes = narinfo.info.nar_size_bytes;
    narinfo.file_size_bytes.unwrap_or_else(|| nar_bytes.saturating_add(nar_bytes / 8).saturating_add(1 << 20))
}

/// Checks that what a cache says may be believed: a trusted key signed it, or the path follows from
/// the contents, which are hashed when they come.
///
/// # Errors
/// [`StoreError::Signature`], with who signed what.
pub fn believe(dir: &StoreDir, keys: &TrustedKeys, narinfo: &NarInfo, from: &str) -> StoreResult<()> {
    let info = &narinfo.info;
    // With a reference to itself the hash is of other bytes than those that come.
    let proves_itself = info.address.is_some() && !info.references.contains(&info.path);
    if proves_itself { Ok(()) } else { keys.check(dir, info, from).map(drop) }
}

/// Returns the name of an object's narinfo in a cache.
pub(crate) fn narinfo_name(path: &StorePath) -> String {
    format!("{}.narinfo", path.hash_part())
}

/// Reads a small text; nothing if there is none by this name.
pub(crate) fn read_text(transport: &dyn Transport, name: &str) -> StoreResult<Option<String>> {
    let Some(from) = transport.get(name)? else { return Ok(None) };
    let problem =
        |problem: String| StoreError::Format { what: format!("{}/{name}", transport.url()), problem };
    let mut bytes = Vec::new();
    from.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes).map_err(|e| StoreError::Transport {
        url: format!("{}/{name}", transport.url()),
        problem: e.to_string(),
    })?;
    if bytes.len() > MAX_LEN {
        return Err(problem(format!("more than {MAX_LEN} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| problem("not UTF-8".to_owned()))
}

fn put_text(
    transport: &dyn Transport,
    staging: &Staging,
    name: &str,
    text: &str,
    kind: &str,
) -> StoreResult<()> {
    let file = staging.path().join("text");
    std::fs::write(&file, text).map_err(|e| StoreError::io("write", name, e))?;
    transport.put(name, &file, kind)
}

/// Hashes and counts what is written through it.
struct Counted<W> {
    to: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(buf)?;
        self.hasher.update(&buf[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Compresses an object's NAR into a file of `staging`. Returns hash and size of that file.
fn compress(
    store: &Store,
    info: &ObjectInfo,
    file: &Path,
    compression: Compression,
    level: Option<i32>,
) -> StoreResult<(Hash, u64)> {
    let failed = |e| StoreError::io("write", b"NAR", e);
    let to = std::fs::File::create(file).map_err(failed)?;
    let to = Counted { to: std::io::BufWriter::new(to), hasher: Hasher::new(HashAlgo::Sha256), size: 0 };
    // What goes out is hashed on the way: a damaged object must not become a damaged cache.
    let mut nar_hasher = Hasher::new(HashAlgo::Sha256);
    let mut to = match compression {
        Compression::None => {
            let mut to = to;
            store.dump(&info.path, &mut crate::add::Multi(vec![&mut nar_hasher, &mut to]))?;
            to
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(to, level.unwrap_or(3)).map_err(failed)?;
            // Large ones are compressed on all cores; the bytes do not depend on how many.
            if info.nar_size_bytes > 16 << 20 {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                encoder.multithread(threads as u32).map_err(failed)?;
            }
            store.dump(&info.path, &mut crate::add::Multi(vec![&mut nar_hasher, &mut encoder]))?;
            encoder.finish().map_err(failed)?
        }
        Compression::Xz => {
            let level = u32::try_from(level.unwrap_or(6)).unwrap_or(6).min(9);
            let mut encoder = liblzma::write::XzEncoder::new(to, level);
            store.dump(&info.path, &mut crate::add::Multi(vec![&mut nar_hasher, &mut encoder]))?;
            encoder.finish().map_err(failed)?
        }
        Compression::Bzip2 => {
            let level = u32::try_from(level.unwrap_or(9)).unwrap_or(9).clamp(1, 9);
            let mut encoder = bzip2::write::BzEncoder::new(to, bzip2::Compression::new(level));
            store.dump(&info.path, &mut crate::add::Multi(vec![&mut nar_hasher, &mut encoder]))?;
            encoder.finish().map_err(failed)?
        }
        Compression::Gzip => {
            let level = u32::try_from(level.unwrap_or(6)).unwrap_or(6).min(9);
            let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::new(level));
            store.dump(&info.path, &mut crate::add::Multi(vec![&mut nar_hasher, &mut encoder]))?;
            encoder.finish().map_err(failed)?
        }
    };
    to.flush().map_err(failed)?;
    let found = nar_hasher.finish();
    if found != info.nar_hash {
        return Err(StoreError::HashMismatch {
            path: info.path.clone(),
            expected: info.nar_hash.into(),
            found: found.into(),
        });
    }
    Ok((to.hasher.finish(), to.size))
}
