//! What a server answers: a status, headers, and a body to read.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{StatusCode, Url};

use crate::client::{Client, TICK};
use crate::error::{NetError, NetErrorKind, excerpt, innermost};
use crate::request::Cancel;
use crate::retry::retry_after;
use crate::shown;

/// The answer to a request. Reading waits for the network; dropping it ends the transfer.
pub struct Response {
    pub(crate) inner: reqwest::Response,
    pub(crate) asked: String,
    pub(crate) chain: Vec<String>,
    pub(crate) authenticated: bool,
    pub(crate) attempts: u32,
    pub(crate) pace: Pace,
}

/// What a body is read with: the engine, and how patient to be.
pub(crate) struct Pace {
    /// Kept, since the transfer lives only as long as the client's engine.
    client: Client,
    cancel: Cancel,
    stall_timeout: Duration,
    window: Duration,
    min_bytes: u64,
    chunk: Bytes,
    received_bytes: u64,
    waited: Duration,
    window_bytes: u64,
}

impl Pace {
    pub(crate) fn new(client: Client, cancel: Cancel) -> Self {
        let config = client.config();
        let (stall_timeout, window) = (config.stall_timeout, config.rate_window);
        let min_bytes = config.min_bytes_per_second.saturating_mul(window.as_secs().max(1));
        Self {
            client,
            cancel,
            stall_timeout,
            window,
            min_bytes,
            chunk: Bytes::new(),
            received_bytes: 0,
            waited: Duration::ZERO,
            window_bytes: 0,
        }
    }

    /// Notes a chunk that took `waited` to come, and whether that is too slow. Only
    /// the time we wait counts: a reader that is busy slows nothing down.
    fn note(&mut self, bytes: u64, waited: Duration) -> Result<(), NetErrorKind> {
        self.received_bytes += bytes;
        self.window_bytes += bytes;
        self.waited += waited;
        if self.waited < self.window {
            return Ok(());
        }
        let (bytes, window) = (self.window_bytes, self.waited);
        self.window_bytes = 0;
        self.waited = Duration::ZERO;
        if bytes < self.min_bytes { Err(NetErrorKind::Slow { bytes, window }) } else { Ok(()) }
    }
}

impl Response {
    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// Returns a header as text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// Returns the URL that answered, after redirects. It may hold secrets: see [`shown`].
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// Returns the URLs that we were sent on to, without secrets.
    pub fn redirects(&self) -> &[String] {
        &self.chain
    }

    /// Returns how long the body is, if the server says.
    pub fn content_length(&self) -> Option<u64> {
        self.header(reqwest::header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// Returns how long the server asks to wait, in seconds or as a date.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(self.headers())
    }

    /// Returns this response if it is a success, else an error in words, with the
    /// first bytes of the answer.
    ///
    /// # Errors
    /// [`NetErrorKind::Status`].
    pub fn error_for_status(mut self) -> Result<Self, NetError> {
        let status = self.status();
        if status.is_success() {
            return Ok(self);
        }
        let mut head = [0; 400];
        let mut len = 0;
        while len < head.len() {
            match self.read(&mut head[len..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => len += n,
            }
        }
        let kind = NetErrorKind::Status {
            status,
            content_type: self.header(CONTENT_TYPE).map(str::to_owned),
            excerpt: excerpt(&head[..len]),
            authenticated: self.authenticated,
            retry_after: retry_after(self.headers()),
        };
        Err(self.error(kind))
    }

    /// Reads the whole body, at most `limit_bytes`.
    ///
    /// # Errors
    /// [`NetErrorKind::TooLarge`], or what ended the transfer.
    pub fn bytes(mut self, limit_bytes: u64) -> Result<Vec<u8>, NetError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next_chunk()? {
            if all.len() as u64 + chunk.len() as u64 > limit_bytes {
                return Err(self.error(NetErrorKind::TooLarge { limit_bytes }));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// Returns the next piece of the body, or none at its end.
    ///
    /// # Errors
    /// What ended the transfer: silence, too slow, cut, cancelled. A body that ends
    /// before its announced length is cut, never whole.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, NetError> {
        if !self.pace.chunk.is_empty() {
            return Ok(Some(std::mem::take(&mut self.pace.chunk)));
        }
        let start = Instant::now();
        let engine =
            self.pace.client.handle().expect("a response exists only while its client has an engine");
        loop {
            if self.pace.cancel.is_asked() {
                return Err(self.error(NetErrorKind::Cancelled));
            }
            let left = self.pace.stall_timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(
                    self.error(NetErrorKind::Timeout { what: "byte", after: self.pace.stall_timeout })
                );
            }
            let wait = left.min(TICK);
            let next = engine.block_on(async { tokio::time::timeout(wait, self.inner.chunk()).await });
            let Ok(result) = next else { continue };
            let chunk = match result {
                Ok(chunk) => chunk,
                Err(error) => return Err(self.cut(&error.without_url())),
            };
            let len = chunk.as_ref().map_or(0, Bytes::len) as u64;
            let paced = if chunk.is_some() { self.pace.note(len, start.elapsed()) } else { Ok(()) };
            return paced.map(|()| chunk).map_err(|kind| self.error(kind));
        }
    }

    fn cut(&self, error: &reqwest::Error) -> NetError {
        self.error(NetErrorKind::Cut {
            received_bytes: self.pace.received_bytes,
            announced_bytes: self.content_length(),
            reason: innermost(error),
        })
    }

    pub(crate) fn error(&self, kind: NetErrorKind) -> NetError {
        NetError {
            kind: Box::new(kind),
            url: self.asked.clone(),
            chain: self.chain.clone(),
            attempts: self.attempts,
        }
    }

    /// Returns how the URL that answered may be shown.
    pub fn shown_url(&self) -> String {
        shown(self.inner.url())
    }
}

impl Read for Response {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(mut chunk) = self.next_chunk().map_err(io::Error::other)? else { return Ok(0) };
        let len = chunk.len().min(buf.len());
        buf[..len].copy_from_slice(&chunk[..len]);
        self.pace.chunk = chunk.split_off(len);
        Ok(len)
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Response({} from {})", self.status(), self.shown_url())
    }
}
