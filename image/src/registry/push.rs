//! Pushing: only what the registry lacks, several blobs at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use ampoule_net::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE};
use ampoule_net::{Body, Method, NetError, Response, StatusCode, Url};
use serde::Serialize;

use crate::blobs::BlobCache;
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::layout::BlobRef;
use crate::project::Image;
use crate::registry::client::{Registry, error, knows_no_head};

/// What a push did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushReport {
    /// Where the image is, by tag.
    pub reference: String,
    /// Where it is by its digest: what to deploy.
    pub pinned: String,
    /// The digest that pins it.
    pub digest: Digest,
    /// Whether the registry had it all, found with one request.
    pub was_there: bool,
    /// The blobs, sorted by digest; empty if nothing had to be looked at.
    pub blobs: Vec<PushedBlob>,
    /// Bytes that were sent.
    pub sent_bytes: u64,
}

/// What became of one blob.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushedBlob {
    /// The blob.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// How it came there.
    pub how: PushedHow,
}

/// How a blob came to a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PushedHow {
    /// It was there.
    Present,
    /// Another repository of the registry had it.
    Mounted {
        /// That repository.
        from: String,
    },
    /// It was sent.
    Uploaded,
}

/// Pushes `image` to the registry's repository, under the reference's tag (or the
/// image's own).
///
/// `make` is called at most once, before the first upload, if a layer's bytes are
/// not on this machine: a push of what the registry has needs records only.
///
/// # Errors
/// [`ImageError::Registry`], and what `make` fails with.
pub fn push(
    registry: &Registry,
    image: &Image,
    cache: &BlobCache,
    make: &(dyn Fn() -> Result<()> + Sync),
) -> Result<PushReport> {
    let mut shown = registry.reference.clone();
    if let Some(other) = shown.digest.filter(|digest| *digest != image.top.digest) {
        return Err(ImageError::invalid(format!(
            "the image is `{}`, not `{other}`: push it under a tag, or under its own digest",
            image.top.digest
        )));
    }
    // By its digest alone an image is there without a tag.
    let tag = match (&shown.tag, &shown.digest) {
        (Some(tag), _) => tag.clone(),
        (None, Some(digest)) => digest.to_string(),
        (None, None) => shown.tag.insert(image.tag.clone()).clone(),
    };
    let mut report = PushReport {
        reference: shown.to_string(),
        pinned: format!("{}/{}@{}", shown.host, shown.repository, image.top.digest),
        digest: image.top.digest,
        was_there: true,
        blobs: Vec::new(),
        sent_bytes: 0,
    };
    if registry.head_manifest(&tag)? == Some(image.top.digest) {
        return Ok(report);
    }
    report.was_there = false;
    let there = registry.head_manifest(&image.top.digest.to_string())?.is_some();
    if !there {
        let documents: BTreeSet<Digest> = image
            .manifests
            .iter()
            .map(|m| m.descriptor.digest)
            .chain(image.companions.iter().map(|companion| companion.descriptor.digest))
            .chain(image.index.as_ref().map(|_| image.top.digest))
            .collect();
        let mut blobs = image.blobs(cache)?;
        blobs.retain(|blob| !documents.contains(&blob.digest));
        report.blobs = push_blobs(registry, cache, &blobs, make)?;
        let images = image.manifests.iter().map(|m| (&m.descriptor, &m.bytes));
        let others = image.companions.iter().map(|companion| (&companion.descriptor, &companion.bytes));
        for (descriptor, bytes) in images.chain(others).filter(|_| image.index.is_some()) {
            put_manifest(registry, &descriptor.digest.to_string(), &descriptor.media_type, bytes)?;
        }
    }
    let (media_type, bytes) = match &image.index {
        Some(index) => (&image.top.media_type, index),
        None => (&image.top.media_type, &image.manifests[0].bytes),
    };
    put_manifest(registry, &tag, media_type, bytes)?;
    let sent = report.blobs.iter().filter(|blob| blob.how == PushedHow::Uploaded);
    report.sent_bytes = sent.map(|blob| blob.size_bytes).sum();
    Ok(report)
}

pub(super) fn push_blobs(
    registry: &Registry,
    cache: &BlobCache,
    blobs: &[BlobRef],
    make: &(dyn Fn() -> Result<()> + Sync),
) -> Result<Vec<PushedBlob>> {
    // The largest first: it decides when all are done.
    let mut order: Vec<&BlobRef> = blobs.iter().collect();
    order.sort_by_key(|blob| (blob.size_bytes, blob.digest));
    let queue = Mutex::new(order);
    let done: Mutex<Vec<PushedBlob>> = Mutex::default();
    let failed: Mutex<Option<ImageError>> = Mutex::default();
    let made: Mutex<bool> = Mutex::default();
    let ensure = |blob: &BlobRef| -> Result<()> {
        // Held while making: who needs another blob waits for all of them.
        let mut made = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !blob.path.is_file() && !*made {
            *made = true;
            make()?;
        }
        Ok(())
    };
    let work = || {
        loop {
            if lock(&failed).is_some() {
                return;
            }
            let Some(blob) = lock(&queue).pop() else { return };
            match push_blob(registry, cache, blob, &ensure) {
                Ok(how) => {
                    let pushed = PushedBlob { digest: blob.digest, size_bytes: blob.size_bytes, how };
                    lock(&done).push(pushed);
                }
                Err(e) => {
                    let mut failed = lock(&failed);
                    *failed = failed.take().or(Some(e));
                }
            }
        }
    };
    let threads = registry.settings().parallel.map_or(6, std::num::NonZeroUsize::get).min(blobs.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    if let Some(e) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(e);
    }
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|blob| blob.digest);
    Ok(done)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn push_blob(
    registry: &Registry,
    cache: &BlobCache,
    blob: &BlobRef,
    ensure: &dyn Fn(&BlobRef) -> Result<()>,
) -> Result<PushedHow> {
    let doing = format!("push blob `{}`", blob.digest);
    let head = registry.request(Method::HEAD, registry.url(&format!("blobs/{}", blob.digest)))?;
    let response = registry.send(&doing, &head)?;
    let place = (registry.reference.host.clone(), registry.reference.repository.clone());
    if response.status().is_success() {
        cache.note_location(&blob.digest, &place.0, &place.1);
        return Ok(PushedHow::Present);
    }
    if response.status() != StatusCode::NOT_FOUND && !knows_no_head(&response) {
        response.error_for_status().map_err(|e| error(&doing, &e))?;
    }
    let known = cache.locations(&blob.digest, &place.0);
    let mut begun = None;
    if let Some(from) = known.into_iter().find(|repository| *repository != place.1) {
        let url = registry.url(&format!("blobs/uploads/?mount={}&from={from}", blob.digest));
        // The other repository may be closed to us: then this one gets its own copy.
        let answer = registry.send(&doing, &registry.request(Method::POST, url)?).ok();
        match answer.as_ref().map(Response::status) {
            Some(StatusCode::CREATED) => {
                cache.note_location(&blob.digest, &place.0, &place.1);
                return Ok(PushedHow::Mounted { from });
            }
            Some(StatusCode::ACCEPTED) => {
                begun = answer.as_ref().map(|answer| session(registry, answer)).transpose()?;
            }
            _ => {}
        }
    }
    ensure(blob)?;
    upload(registry, &doing, blob, begun)?;
    cache.note_location(&blob.digest, &place.0, &place.1);
    Ok(PushedHow::Uploaded)
}

/// How often an upload may fail without getting on.
const TRIES: u32 = 5;

/// Sends a blob; goes on where it was cut, as far as the registry remembers.
fn upload(registry: &Registry, doing: &str, blob: &BlobRef, session: Option<Session>) -> Result<()> {
    let (mut url, mut least) = match session {
        Some(session) => session,
        None => begin(registry, doing)?,
    };
    let wanted = registry.settings().chunk_bytes.unwrap_or(64 << 20).max(1);
    let mut offset = 0;
    // Only what was never reached before is progress: an upload that the registry forgets
    // again and again, always at the same place, comes to an end.
    let (mut furthest, mut fruitless) = (0, 0);
    let mut reach = |reached: u64, fruitless: &mut u32| {
        if reached > furthest {
            (furthest, *fruitless) = (reached, 0);
        }
    };
    loop {
        let sent = send_piece(registry, doing, blob, &url, offset, wanted.max(least))?;
        let wait = match sent {
            Sent::Done => return Ok(()),
            Sent::Next { url: next, offset: reached } => {
                reach(reached, &mut fruitless);
                (url, offset) = (next, reached);
                continue;
            }
            Sent::Failed { why, wait } => {
                fruitless += 1;
                // As for other requests, who wants us to wait for long is given up at once.
                let longest = registry.client().config().max_wait;
                if fruitless >= TRIES || wait.is_some_and(|wait| wait > longest) {
                    return Err(ImageError::Registry { doing: doing.to_owned(), why });
                }
                wait.unwrap_or(Duration::from_millis(200 << fruitless))
            }
        };
        std::thread::sleep(wait);
        match progress(registry, doing, &url)? {
            Some((next, reached)) if reached <= blob.size_bytes => {
                reach(reached, &mut fruitless);
                (url, offset) = (next, reached);
            }
            // The registry has forgotten the upload: all of it again.
            _ => ((url, least), offset) = (begin(registry, doing)?, 0),
        }
    }
}

enum Sent {
    Done,
    Next { url: Url, offset: u64 },
    Failed { why: String, wait: Option<Duration> },
}

/// An upload that was begun: where it goes, and how large its pieces have to be at least
/// (but for the last one).
type Session = (Url, u64);

fn begin(registry: &Registry, doing: &str) -> Result<Session> {
    let request = registry.request(Method::POST, registry.url("blobs/uploads/"))?;
    let response = registry.send(doing, &request)?.error_for_status().map_err(|e| error(doing, &e))?;
    session(registry, &response)
}

fn session(registry: &Registry, response: &Response) -> Result<Session> {
    let least = response.header(HeaderName::from_static("oci-chunk-min-length"));
    let least = least.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
    Ok((registry.location(response)?, least))
}

/// Sends the next piece, or the last one together with the end.
fn send_piece(
    registry: &Registry,
    doing: &str,
    blob: &BlobRef,
    url: &Url,
    offset: u64,
    chunk: u64,
) -> Result<Sent> {
    let left = blob.size_bytes - offset;
    let is_last = left <= chunk;
    let len = left.min(chunk);
    let mut target = url.clone();
    // A whole blob goes in one request; the rest of one that was begun goes by PATCH
    // first, since not every registry takes a body with the end of a chunked upload.
    let closing = is_last && (offset == 0 || len == 0);
    if closing {
        target.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
    }
    let mut request = registry.request(if closing { Method::PUT } else { Method::PATCH }, target)?;
    request = request.header(CONTENT_TYPE, "application/octet-stream").without_retries().without_redirects();
    if !closing {
        request = request.header(CONTENT_RANGE, &format!("{offset}-{}", offset + len - 1));
    }
    if len > 0 {
        request = request.body(piece(&blob.path, offset, len));
    }
    let response = match registry.try_send(doing, &request)? {
        Ok(response) => response,
        Err(e) => return Ok(Sent::Failed { why: e.to_string(), wait: None }),
    };
    let status = response.status();
    if closing && status == StatusCode::CREATED {
        return Ok(Sent::Done);
    }
    if !closing && (status == StatusCode::ACCEPTED || status == StatusCode::NO_CONTENT) {
        let next = registry.location(&response)?;
        let reached = range_end(&response).unwrap_or(offset + len);
        if reached <= offset || reached > offset + len {
            return Ok(Sent::Failed {
                why: format!("the registry says that it has {reached} bytes"),
                wait: None,
            });
        }
        return Ok(Sent::Next { url: next, offset: reached });
    }
    let wait = response.retry_after();
    let passes = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::RANGE_NOT_SATISFIABLE
                | StatusCode::NOT_FOUND
        );
    let why = response
        .error_for_status()
        .map_or_else(|e: NetError| e.to_string(), |r| format!("status {}", r.status()));
    if passes {
        return Ok(Sent::Failed { why, wait });
    }
    Err(ImageError::Registry { doing: doing.to_owned(), why })
}

/// Returns where an upload stands; `None` if the registry does not know it.
fn progress(registry: &Registry, doing: &str, url: &Url) -> Result<Option<(Url, u64)>> {
    let request = registry.request(Method::GET, url.clone())?;
    let response = match registry.try_send(doing, &request)? {
        Ok(response) => response,
        Err(_) => return Ok(None),
    };
    if response.status() != StatusCode::NO_CONTENT {
        return Ok(None);
    }
    let reached = range_end(&response).unwrap_or(0);
    // Some registries answer without a new address: the old one holds.
    let next = registry.location(&response).unwrap_or_else(|_| url.clone());
    Ok(Some((next, reached)))
}

/// Reads `Range: 0-99` as 100 bytes. `0-0` is how nothing is said.
fn range_end(response: &Response) -> Option<u64> {
    let range = response.header(RANGE)?;
    let end: u64 = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?.1.trim().parse().ok()?;
    Some(if end == 0 { 0 } else { end + 1 })
}

fn piece(path: &std::path::Path, offset: u64, len: u64) -> Body {
    let path: PathBuf = path.to_owned();
    Body::stream(len, move || {
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file.take(len)))
    })
}

/// Puts a manifest or index, and returns what the registry answered.
pub(super) fn put_manifest(
    registry: &Registry,
    selector: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<Response> {
    let doing = format!("push the manifest of `{}`", registry.reference);
    let url = registry.url(&format!("manifests/{selector}"));
    let request =
        registry.request(Method::PUT, url)?.header(CONTENT_TYPE, media_type).body(Body::bytes(bytes));
    let response = registry.send(&doing, &request)?;
    let refuses = matches!(response.status().as_u16(), 400 | 406 | 415 | 422);
    response.error_for_status().map_err(|e| match error(&doing, &e) {
        ImageError::Registry { doing, why } if refuses && media_type.starts_with("application/vnd.oci.") => {
            let hint = "a registry that knows only Docker's formats takes images with `format = \"docker\"`, \
                        and layers of gzip";
            ImageError::Registry { doing, why: format!("{why}; {hint}") }
        }
        e => e,
    })
}

/// Where blobs are known to be: host → repositories.
pub(crate) type Locations = BTreeMap<String, BTreeSet<String>>;
