//! What can go wrong between us and a server, in words.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;

/// A request that failed: what, where, by which way, after how many tries.
#[derive(Debug)]
pub struct NetError {
    /// What went wrong.
    pub kind: Box<NetErrorKind>,
    /// The URL asked for, without secrets.
    pub url: String,
    /// The URLs we were sent on to, in order, without secrets.
    pub chain: Vec<String>,
    /// How many times it was tried.
    pub attempts: u32,
}

/// The ways to fail.
#[derive(Debug)]
pub enum NetErrorKind {
    /// Not a URL that we can ask for.
    BadUrl {
        /// Why.
        reason: String,
    },
    /// The network is not to be used.
    Offline,
    /// Someone asked us to stop.
    Cancelled,
    /// More redirects than the limit.
    TooManyRedirects {
        /// The limit.
        limit: usize,
    },
    /// A redirect to where we have been.
    RedirectLoop,
    /// A redirect that must not be followed.
    RedirectRefused {
        /// Why.
        reason: String,
    },
    /// No connection.
    Connect {
        /// Why.
        reason: String,
    },
    /// The certificates to trust, or the proxies, are not what they should be.
    Setup {
        /// Why.
        reason: String,
    },
    /// No answer in time.
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// Slower than the least rate.
    Slow {
        /// Bytes that came within `window`.
        bytes: u64,
        /// The time.
        window: Duration,
    },
    /// The connection ended within the body.
    Cut {
        /// How much had come.
        received_bytes: u64,
        /// How much was announced.
        announced_bytes: Option<u64>,
        /// What the transport says.
        reason: String,
    },
    /// The answer is no.
    Status {
        /// The status.
        status: StatusCode,
        /// `Content-Type` of the answer.
        content_type: Option<String>,
        /// Its first bytes, printable.
        excerpt: String,
        /// Whether credentials were sent.
        authenticated: bool,
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// More than the limit.
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// What came is not HTTP as we can read it.
    Protocol {
        /// Why.
        reason: String,
    },
    /// The receiver of a download failed.
    Sink {
        /// Why.
        reason: String,
    },
}

impl NetError {
    pub(crate) fn new(kind: NetErrorKind, url: String) -> Self {
        Self { kind: Box::new(kind), url, chain: Vec::new(), attempts: 1 }
    }

    pub(crate) fn bad_url(url: &str, reason: String) -> Self {
        Self::new(NetErrorKind::BadUrl { reason }, url.to_owned())
    }

    /// Returns the status of the answer, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        match *self.kind {
            NetErrorKind::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Returns whether the same request may do better later.
    pub fn passes(&self) -> bool {
        match &*self.kind {
            NetErrorKind::Connect { reason } => !reason.contains("certificate"),
            NetErrorKind::Timeout { .. } | NetErrorKind::Slow { .. } | NetErrorKind::Cut { .. } => true,
            NetErrorKind::Status { status, .. } => crate::retry::status_passes(*status),
            _ => false,
        }
    }

    /// Makes an error of what the transport says.
    pub(crate) fn of_transport(error: reqwest::Error, url: String) -> Self {
        let connect = error.is_connect();
        let early = error.is_request();
        let timeout = error.is_timeout();
        let reason = innermost(&error.without_url());
        let kind = if timeout && connect {
            NetErrorKind::Connect { reason: "no answer in time".to_owned() }
        } else if connect {
            NetErrorKind::Connect { reason }
        } else if early
            && !reason.contains("pars")
            && !reason.contains("too large")
            && !reason.contains("invalid")
        {
            // The connection closed or was reset before the head was whole.
            NetErrorKind::Cut { received_bytes: 0, announced_bytes: None, reason }
        } else {
            NetErrorKind::Protocol { reason }
        };
        Self::new(kind, url)
    }
}

/// Returns the last two messages of the chain of causes: the outer ones only say
/// "error sending request".
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    texts.dedup();
    let from = texts.len().saturating_sub(2).max(usize::from(texts.len() > 1));
    texts[from..].join(": ")
}

impl std::error::Error for NetError {}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.url, self.kind)?;
        if self.attempts > 1 {
            write!(f, " (tried {} times)", self.attempts)?;
        }
        let mut steps = self.chain.iter();
        if let Some(first) = steps.next() {
            write!(f, "\n  redirected to {first}")?;
        }
        let mut count = self.chain.len().saturating_sub(1);
        for step in steps {
            // Long chains are cut in the middle; the first and the last four tell enough.
            if count <= 4 || count == self.chain.len() - 1 {
                write!(f, "\n       and to {step}")?;
            } else if count == 5 {
                f.write_str("\n       and to …")?;
            }
            count -= 1;
        }
        Ok(())
    }
}

impl fmt::Display for NetErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl { reason } => write!(f, "cannot be fetched: {reason}"),
            Self::Offline => f.write_str("not fetched: the network is switched off (--offline)"),
            Self::Cancelled => f.write_str("interrupted"),
            Self::TooManyRedirects { limit } => write!(f, "more than {limit} redirects"),
            Self::RedirectLoop => f.write_str("redirects in a circle"),
            Self::RedirectRefused { reason } => write!(f, "redirect refused: {reason}"),
            Self::Connect { reason } => write!(f, "cannot connect: {reason}"),
            Self::Setup { reason } => f.write_str(reason),
            Self::Timeout { what, after } => write!(f, "no {what} within {}", seconds(*after)),
            Self::Slow { bytes, window } => {
                write!(f, "too slow: {bytes} bytes in {} of waiting", seconds(*window))
            }
            Self::Cut { received_bytes, announced_bytes, reason } => {
                cut(f, *received_bytes, *announced_bytes, reason)
            }
            Self::Status { .. } => self.fmt_status(f),
            Self::TooLarge { limit_bytes } => write!(f, "larger than the limit of {limit_bytes} bytes"),
            Self::Protocol { reason } => write!(f, "the answer cannot be read: {reason}"),
            Self::Sink { reason } => f.write_str(reason),
        }
    }
}

impl NetErrorKind {
    fn fmt_status(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Status { status, content_type, excerpt, authenticated, retry_after } = self else {
            return Ok(());
        };
        match (status.as_u16(), authenticated) {
            (401, false) => f.write_str(
                "401: the server asks for credentials, and none are known for it; \
                add them to ~/.netrc or $NETRC",
            )?,
            (401, true) => f.write_str("401: the server does not accept the credentials that were sent")?,
            (403, false) => f.write_str("403: the server refuses; no credentials were sent")?,
            (403, true) => f.write_str("403: the server refuses, with the credentials that were sent")?,
            (404, false) => f.write_str(
                "404: not found; no credentials were sent, and some servers say 404 for what is private",
            )?,
            (404, true) => f.write_str("404: not found, with the credentials that were sent")?,
            (407, _) => f.write_str("407: the proxy asks for credentials; put them into the proxy's URL")?,
            (410, _) => f.write_str("410: gone for good")?,
            (429, _) => f.write_str("429: too many requests")?,
            _ => write!(f, "the server answered {status}")?,
        }
        if let Some(wait) = retry_after {
            write!(f, "; it asks to wait {}", seconds(*wait))?;
        }
        if !excerpt.is_empty() {
            write!(f, "; it says ({}): {excerpt}", content_type.as_deref().unwrap_or("no content type"))?;
        }
        Ok(())
    }
}

fn cut(f: &mut fmt::Formatter<'_>, received: u64, announced: Option<u64>, reason: &str) -> fmt::Result {
    match announced {
        Some(announced) => write!(f, "connection cut after {received} of {announced} bytes: {reason}"),
        None if received == 0 => write!(f, "connection cut before the answer: {reason}"),
        None => write!(f, "connection cut after {received} bytes: {reason}"),
    }
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        ms if ms < 1000 => format!("{ms} ms"),
        ms => format!("{} s", ms.div_ceil(1000)),
    }
}

/// Returns the start of `bytes` as one printable line, at most 160 characters.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(160).collect()
}
