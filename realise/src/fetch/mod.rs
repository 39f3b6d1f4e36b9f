//! Fetching: from URLs and a promised hash to verified bytes.
//!
//! A [`Fetcher`] tries the URLs of a request in order (a `mirror://` URL stands for
//! several), streams each through the hash into a file that nobody else can write, and
//! hands the file out only when the hash is the promised one. Bytes that differ are
//! told with both hashes and what they look like, and the next place is tried.
//!
//! Several fetches run at once, up to a limit; two that ask for the same hash are one.
//!
//! ```text
//! [mirror://debian/pool/x.deb] → http://a/… (404) → http://b/… (other bytes) → https://snapshot/… ok
//! ```

mod mirrors;
mod pool;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ampoule_net::{Cancel, Client, ClientConfig, Download, NetError, NetErrorKind, Request, Sink, Url};
use ampoule_store::{Hash, HashAlgo, Hasher, human_size, system_words};
use rustix::fs::{AtFlags, Mode, OFlags};

pub use mirrors::{MirrorSettings, Mirrors};

use crate::builtin::{BuiltinError, BuiltinErrorKind, BuiltinEvents, Mismatch};
use crate::unpack::{Limited, Limits};
use pool::{Kept, Pool, Wanted};

/// How to fetch.
#[derive(Debug)]
pub struct FetcherConfig {
    /// HTTP.
    pub net: ClientConfig,
    /// `mirror://` names.
    pub mirrors: MirrorSettings,
    /// How many transfers at a time.
    pub max_transfers: usize,
}

/// Fetches; shared by all threads of a realiser.
pub struct Fetcher {
    client: Client,
    mirrors: Mirrors,
    pool: Pool,
}

/// What to fetch.
#[derive(Clone, Debug, Default)]
pub struct FetchRequest {
    /// Where, in order: `https:`, `http:`, `file:`, `mirror://NAME/path`.
    pub urls: Vec<String>,
    /// What the bytes must hash to.
    pub expected: Option<Hash>,
    /// How many bytes there must be.
    pub size_bytes: Option<u64>,
    /// For mirrors of Debian: the date to ask an archive of snapshots for.
    pub snapshot: Option<String>,
    /// Tells when to stop.
    pub cancel: Cancel,
}

impl FetchRequest {
    /// What makes two requests one: the promised hash, or the places in their order.
    fn wanted(&self) -> Wanted {
        self.expected.map_or_else(|| Wanted::At(self.urls.clone(), self.snapshot.clone()), Wanted::Promised)
    }
}

/// Bytes that were fetched: as promised, if a hash was promised.
#[derive(Debug)]
pub struct Fetched {
    /// The bytes, to be read from any place.
    pub file: File,
    /// Their hash: of the promised algorithm, else SHA-256.
    pub hash: Hash,
    /// How many there are.
    pub size_bytes: u64,
    /// Where they came from, without secrets.
    pub url: String,
    /// What the server calls them, and their first bytes: for a message about what they are not.
    pub looks_like: String,
    /// Whether nobody else was given the same file.
    is_first: bool,
}

/// A fetch that failed everywhere.
#[derive(Debug)]
pub struct FetchError {
    /// Each place and what went wrong there.
    pub attempts: Vec<(String, Failure)>,
}

/// What went wrong at one place.
#[derive(Debug)]
pub enum Failure {
    /// The network, the server, or the file system.
    Net(Box<NetError>),
    /// A local file.
    Local(String),
    /// What comes cannot be kept here, since the disk is full, say: no other place helps.
    Keep(String),
    /// More is announced than there is room for. Another place may say less.
    NoRoom(String),
    /// A name or URL that leads nowhere.
    Name(String),
    /// Other bytes than promised.
    Mismatch {
        /// Both hashes.
        hashes: Box<Mismatch>,
        /// What the bytes look like.
        looks_like: String,
    },
}

/// Decides whether what one place gave is what is wanted. It may be called several
/// times, for one place after another, and leaves nothing behind when it refuses.
pub type Accept<'a> = dyn FnMut(&Fetched) -> Result<(), Failure> + 'a;

impl Fetcher {
    /// Makes a fetcher. Nothing is read or opened before the first fetch.
    pub fn new(config: FetcherConfig) -> Self {
        Self {
            client: Client::new(config.net),
            mirrors: Mirrors::new(config.mirrors),
            pool: Pool::new(config.max_transfers),
        }
    }

    /// Returns the HTTP client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the mirrors.
    pub fn mirrors(&self) -> &Mirrors {
        &self.mirrors
    }

    /// Returns which URLs a request would ask the network for: none if a local file is
    /// among its places.
    pub fn network_urls(&self, urls: &[String], snapshot: Option<&str>) -> Vec<String> {
        let mut places = Vec::new();
        for url in urls {
            match self.mirrors.expand(url, snapshot) {
                Ok(expanded) => places.extend(expanded),
                Err(_) => places.push(url.clone()),
            }
        }
        let local = |url: &String| file_path(url).is_some_and(|path| path.is_ok_and(|p| p.exists()));
        if places.iter().any(local) { Vec::new() } else { places }
    }

    /// Fetches into a file of its own in `dir`, which has no name afterwards.
    ///
    /// # Errors
    /// [`FetchError`], with every place that was tried.
    pub fn fetch(
        &self,
        request: &FetchRequest,
        dir: BorrowedFd<'_>,
        events: &dyn BuiltinEvents,
    ) -> Result<Fetched, FetchError> {
        self.fetch_accepted(request, dir, events, &mut |_| Ok(()))
    }

    /// The same, where the caller looks at what each place gives: bytes that `accept`
    /// refuses are a mismatch, and the next place is tried.
    ///
    /// # Errors
    /// [`FetchError`], with every place that was tried.
    pub fn fetch_accepted(
        &self,
        request: &FetchRequest,
        dir: BorrowedFd<'_>,
        events: &dyn BuiltinEvents,
        accept: &mut Accept<'_>,
    ) -> Result<Fetched, FetchError> {
        // One at a time for each promised hash, or place: who comes second finds the bytes.
        let wanted = request.wanted();
        let _turn = self.pool.turn(&wanted);
        let kept = self.pool.kept(&wanted);
        if let Some(fetched) = kept.and_then(|kept| again(&kept)).filter(|fetched| accept(fetched).is_ok()) {
            return Ok(fetched);
        }
        let (mut attempts, places) = self.places(request);
        let mut to_ask: Vec<usize> = (0..places.len()).collect();
        // First each place once: where one is silent, another may answer. Then those again whose trouble may pass.
        for is_last_round in [places.len() <= 1, true] {
            for nth in std::mem::take(&mut to_ask) {
                let (place, shown) = &places[nth];
                let patience = if is_last_round { None } else { Some(1) };
                let result = self
                    .fetch_from(place, request, patience, dir, events)
                    .and_then(|fetched| accept(&fetched).map(|()| fetched));
                let failure = match result {
                    Ok(fetched) => {
                        self.keep(wanted, &fetched);
                        return Ok(fetched);
                    }
                    Err(failure) => failure,
                };
                events.log(&format!("{shown}: {failure}"));
                let ends_all = failure.ends_all();
                if failure.passes() && !is_last_round {
                    to_ask.push(nth);
                } else {
                    attempts.push((shown.clone(), failure));
                }
                if ends_all {
                    return Err(FetchError { attempts });
                }
            }
        }
        if attempts.is_empty() {
            attempts.push((String::new(), Failure::Name("no URL is given".to_owned())));
        }
        Err(FetchError { attempts })
    }

    /// Returns where to ask, each with its name for people; and the names that lead nowhere.
    #[expect(clippy::type_complexity, reason = "two lists of pairs")]
    fn places(&self, request: &FetchRequest) -> (Vec<(String, Failure)>, Vec<(String, String)>) {
        let (mut nowhere, mut places) = (Vec::new(), Vec::<(String, String)>::new());
        for url in &request.urls {
            match self.mirrors.expand(url, request.snapshot.as_deref()) {
                Ok(expanded) => {
                    for place in expanded {
                        let shown = ampoule_net::shown_text(&place);
                        if places.iter().all(|(_, known)| *known != shown) {
                            places.push((place, shown));
                        }
                    }
                }
                Err(reason) => nowhere.push((ampoule_net::shown_text(url), Failure::Name(reason))),
            }
        }
        (nowhere, places)
    }

    fn keep(&self, wanted: Wanted, fetched: &Fetched) {
        // A local file may be another one the next time, and costs nothing.
        if fetched.url.starts_with("file:") && matches!(wanted, Wanted::At(..)) {
            return;
        }
        if let Ok(file) = fetched.file.try_clone() {
            let (file, hash) = (Arc::new(file), fetched.hash);
            let (size_bytes, url) = (fetched.size_bytes, fetched.url.clone());
            self.pool.keep(Kept { wanted, file, hash, size_bytes, url });
        }
    }

    fn fetch_from(
        &self,
        url: &str,
        request: &FetchRequest,
        patience: Option<u32>,
        dir: BorrowedFd<'_>,
        events: &dyn BuiltinEvents,
    ) -> Result<Fetched, Failure> {
        let file = unnamed_file(dir)
            .map_err(|e| Failure::Keep(format!("cannot make a file to fetch into: {}", system_words(&e))))?;
        let algo = request.expected.map_or(HashAlgo::Sha256, |hash| hash.algo());
        let mut into = Into {
            file,
            hasher: Hasher::new(algo),
            algo,
            size_bytes: 0,
            total_bytes: request.size_bytes,
            has_no_room: false,
            events,
        };
        let (shown, content_type, encoding) = match file_path(url) {
            Some(path) => {
                let path = path.map_err(Failure::Name)?;
                into.copy_file(&path, request)?;
                (url.to_owned(), None, None)
            }
            None => {
                let net = |error: NetError, has_no_room: bool| match *error.kind {
                    NetErrorKind::Sink { reason } if has_no_room => Failure::NoRoom(reason),
                    NetErrorKind::Sink { reason } => Failure::Keep(reason),
                    _ => Failure::Net(Box::new(error)),
                };
                let _permit = self.pool.permit(&request.cancel);
                let ask = Request::get(url).map_err(|e| net(e, false))?.cancel(request.cancel.clone());
                let download = Download {
                    request: ask,
                    limit_bytes: request.size_bytes,
                    unannounced_limit_bytes: Some(MOST_UNANNOUNCED_BYTES),
                    max_fruitless: patience,
                };
                let done = self.client.download(&download, &mut into);
                let done = done.map_err(|e| net(e, into.has_no_room))?;
                (done.url, done.content_type, done.content_encoding)
            }
        };
        let looks_like =
            looks_like(&into.file, into.size_bytes, content_type.as_deref(), encoding.as_deref());
        let mut fetched = Fetched {
            hash: into.hasher.finish(),
            size_bytes: into.size_bytes,
            file: into.file,
            url: shown,
            is_first: true,
            looks_like,
        };
        let Some(specified) = request.expected else { return Ok(fetched) };
        if fetched.hash != specified && encoding.as_deref().is_some_and(|e| e.ends_with("gzip")) {
            // Some servers say so of a .tar.gz itself, some compress what they send though
            // nobody asked: the promised hash tells which.
            if let Ok(decoded) = decoded(&fetched, dir, algo) {
                fetched = decoded;
            }
        }
        if fetched.hash != specified {
            let hashes = Box::new(Mismatch { specified, got: fetched.hash });
            return Err(Failure::Mismatch { hashes, looks_like: fetched.looks_like });
        }
        Ok(fetched)
    }
}

fn again(kept: &Kept) -> Option<Fetched> {
    let file = kept.file.try_clone().ok()?;
    let (hash, size_bytes, url) = (kept.hash, kept.size_bytes, kept.url.clone());
    Some(Fetched { file, hash, size_bytes, url, looks_like: String::new(), is_first: false })
}

/// What is taken of a server that does not say how much will come.
const MOST_UNANNOUNCED_BYTES: u64 = 4 << 30;

/// Where a download goes: a file, through the hash.
struct Into<'e> {
    file: File,
    hasher: Hasher,
    algo: HashAlgo,
    size_bytes: u64,
    total_bytes: Option<u64>,
    /// Whether more was announced than the disk has room for.
    has_no_room: bool,
    events: &'e dyn BuiltinEvents,
}

impl Sink for Into<'_> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size_bytes == 0 {
            self.check_room()?;
        }
        self.file.write_all(bytes).map_err(|e| io::Error::new(e.kind(), cannot_keep(&e)))?;
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        self.events.progress(self.size_bytes, self.total_bytes);
        Ok(())
    }

    fn start_over(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Hasher::new(self.algo);
        self.size_bytes = 0;
        Ok(())
    }

    fn announced(&mut self, size_bytes: u64) {
        self.total_bytes = Some(size_bytes);
    }

    fn waits(&mut self, time: Duration, reason: &NetError) {
        self.events.log(&format!("{reason}; next try in {:.1} s", time.as_secs_f32()));
    }
}

fn cannot_keep(error: &io::Error) -> String {
    format!("cannot write what comes: {}", system_words(error))
}

impl Into<'_> {
    /// What is announced and does not fit need not be begun: a full disk is everybody's trouble.
    fn check_room(&mut self) -> io::Result<()> {
        let (Some(total), Ok(disk)) = (self.total_bytes, rustix::fs::fstatvfs(&self.file)) else {
            return Ok(());
        };
        // Some file systems do not count.
        if disk.f_blocks > 0 && total > disk.f_bfree.saturating_mul(disk.f_frsize) {
            self.has_no_room = true;
            let full = io::Error::from(rustix::io::Errno::NOSPC);
            let text = format!("{}: {} are announced", cannot_keep(&full), human_size(total));
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        Ok(())
    }

    fn copy_file(&mut self, path: &std::path::Path, request: &FetchRequest) -> Result<(), Failure> {
        let local = |error: io::Error| Failure::Local(system_words(&error));
        // A pipe that nobody writes into would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut from = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| local(e.into()))?);
        let meta = from.metadata().map_err(local)?;
        if !meta.is_file() {
            return Err(Failure::Local("is not a regular file".to_owned()));
        }
        self.total_bytes = Some(meta.len());
        let mut buf = vec![0; 256 * 1024];
        loop {
            if request.cancel.is_asked() {
                return Err(Failure::Local("interrupted".to_owned()));
            }
            let len = from.read(&mut buf).map_err(local)?;
            if len == 0 {
                return Ok(());
            }
            self.take(&buf[..len]).map_err(|e| Failure::Keep(e.to_string()))?;
            if let Some(limit) = request.size_bytes.filter(|limit| self.size_bytes > *limit) {
                return Err(Failure::Local(format!("larger than the {limit} bytes that it should have")));
            }
        }
    }
}

/// Returns the path of a `file:` URL; none for other URLs.
fn file_path(url: &str) -> Option<Result<std::path::PathBuf, String>> {
    if !url.starts_with("file:") {
        return None;
    }
    let parsed = Url::parse(url).map_err(|error| error.to_string());
    Some(
        parsed.and_then(|url| {
            url.to_file_path().map_err(|()| "a file: URL that names another machine".to_owned())
        }),
    )
}

/// Makes a file in `dir` that has no name, so that nothing is left of it when we end
/// and nobody else can open it.
fn unnamed_file(dir: BorrowedFd<'_>) -> io::Result<File> {
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::openat(dir, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => return Ok(File::from(fd)),
        Err(error) if error != rustix::io::Errno::NOTSUP && error != rustix::io::Errno::ISDIR => {
            return Err(error.into());
        }
        Err(_) => {}
    }
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!(".fetch-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name.as_str(), flags, mode)?;
    rustix::fs::unlinkat(dir, name.as_str(), AtFlags::empty())?;
    Ok(File::from(file))
}

/// Undoes a content encoding, within the limits of an archive.
fn decoded(fetched: &Fetched, dir: BorrowedFd<'_>, algo: HashAlgo) -> io::Result<Fetched> {
    let mut file = unnamed_file(dir)?;
    let mut from = Limited::new(
        flate2::read::MultiGzDecoder::new(ReadAt { file: &fetched.file, at: 0 }),
        Limits::for_archive(fetched.size_bytes).max_bytes,
    );
    let mut hasher = Hasher::new(algo);
    let mut size_bytes = 0;
    let mut buf = [0; 64 * 1024];
    loop {
        let len = from.read(&mut buf)?;
        if len == 0 {
            break;
        }
        hasher.update(&buf[..len]);
        file.write_all(&buf[..len])?;
        size_bytes += len as u64;
    }
    let hash = hasher.finish();
    Ok(Fetched {
        file,
        hash,
        size_bytes,
        url: fetched.url.clone(),
        looks_like: fetched.looks_like.clone(),
        is_first: true,
    })
}

/// Reads a file from a place of its own, whoever else reads it.
pub(crate) struct ReadAt<'f> {
    pub(crate) file: &'f File,
    pub(crate) at: u64,
}

impl Read for ReadAt<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buf, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Returns what the bytes are like: `text/html, 1234 bytes, starting with "<!DOCTYPE html>…"`.
fn looks_like(file: &File, size_bytes: u64, content_type: Option<&str>, encoding: Option<&str>) -> String {
    let mut start = [0; 60];
    let len = file.read_at(&mut start, 0).unwrap_or_default();
    let said = |what: Option<&str>, before: &str| {
        what.map(|text| format!("{before}{}, ", crate::unpack::shown(text.as_bytes()))).unwrap_or_default()
    };
    let kind = said(content_type, "") + &said(encoding, "encoded as ");
    format!("{kind}{size_bytes} bytes, starting with \"{}\"", crate::unpack::shown(&start[..len]))
}

impl Fetched {
    /// Gives the bytes the name `name` in `dir`, as a file of mode `mode`, without a copy
    /// where the system can.
    ///
    /// # Errors
    /// Those of the system.
    pub fn link(&self, dir: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<()> {
        if self.is_first {
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?;
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            if rustix::fs::linkat(rustix::fs::CWD, own.as_str(), dir, name, AtFlags::SYMLINK_FOLLOW).is_ok() {
                return Ok(());
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to = File::from(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?);
        let mut from = ReadAt { file: &self.file, at: 0 };
        if rustix::fs::ioctl_ficlone(&to, &self.file).is_err() {
            copy_all(&mut from, &mut to)?;
        }
        rustix::fs::fchmod(&to, Mode::from_raw_mode(mode))?;
        Ok(())
    }
}

fn copy_all(from: &mut ReadAt<'_>, to: &mut File) -> io::Result<()> {
    // In the kernel, if both lie on one file system.
    loop {
        match rustix::fs::copy_file_range(from.file, Some(&mut from.at), &*to, None, 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    to.seek(SeekFrom::Start(from.at))?;
    io::copy(from, to).map(|_| ())
}

impl Failure {
    /// Returns whether other places are not to be tried after it.
    fn ends_all(&self) -> bool {
        self.is_cancel() || matches!(self, Self::Keep(_))
    }

    /// Returns whether the same place may do better later.
    fn passes(&self) -> bool {
        matches!(self, Self::Net(error) if error.passes())
    }

    fn is_cancel(&self) -> bool {
        matches!(self, Self::Net(error) if matches!(*error.kind, NetErrorKind::Cancelled))
            || matches!(self, Self::Local(reason) if reason == "interrupted")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(error) => {
                // The place stands before it already.
                let text = error.to_string();
                f.write_str(text.strip_prefix(&format!("`{}`: ", error.url)).unwrap_or(&text))
            }
            Self::Local(reason) | Self::Keep(reason) | Self::NoRoom(reason) | Self::Name(reason) => {
                f.write_str(reason)
            }
            Self::Mismatch { hashes, looks_like } => {
                let (specified, got) = (hashes.specified.to_sri(), hashes.got.to_sri());
                write!(
                    f,
                    "hash mismatch\n  specified: {specified}\n       got: {got}\n  what came: {looks_like}"
                )
            }
        }
    }
}

impl FetchError {
    /// Returns the first mismatch among the attempts.
    pub fn mismatch(&self) -> Option<Mismatch> {
        self.attempts.iter().find_map(|(_, failure)| match failure {
            Failure::Mismatch { hashes, .. } => Some(**hashes),
            _ => None,
        })
    }

    /// Returns whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.attempts.last().is_some_and(|(_, failure)| failure.is_cancel())
    }

    /// Returns whether it was our disk that failed.
    fn is_ours(&self) -> bool {
        self.attempts
            .last()
            .is_some_and(|(_, failure)| matches!(failure, Failure::Keep(_) | Failure::NoRoom(_)))
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut attempts = self.attempts.iter();
        if let Some((url, failure)) = attempts.next() {
            if url.is_empty() { write!(f, "{failure}")? } else { write!(f, "cannot fetch {url}: {failure}")? }
        }
        for (url, failure) in attempts {
            write!(f, "\nnor {url}: {failure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FetchError {}

impl From<FetchError> for BuiltinError {
    fn from(error: FetchError) -> Self {
        let mismatch = error.mismatch();
        let kind = match mismatch {
            _ if error.is_cancelled() => BuiltinErrorKind::Cancelled,
            _ if error.is_ours() => BuiltinErrorKind::Store,
            Some(_) => BuiltinErrorKind::HashMismatch,
            None => BuiltinErrorKind::Fetch,
        };
        Self { kind, message: error.to_string(), mismatch: mismatch.map(Box::new) }
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("mirrors", &self.mirrors).finish_non_exhaustive()
    }
}

/// Returns a fetcher to share.
impl From<FetcherConfig> for Arc<Fetcher> {
    fn from(config: FetcherConfig) -> Self {
        Self::new(Fetcher::new(config))
    }
}
