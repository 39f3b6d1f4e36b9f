//! What is asked of a server.

use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use crate::error::{NetError, NetErrorKind};
use crate::secret::Credentials;

/// One request; it can be sent again, as retries and redirects do.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) use_netrc: bool,
    pub(crate) retries: bool,
    pub(crate) redirects: bool,
    pub(crate) cancel: Cancel,
}

impl Request {
    /// Makes a request for `url`, whose `user:password@`, if it has one, becomes
    /// credentials and leaves the URL.
    ///
    /// # Errors
    /// [`NetErrorKind::BadUrl`] if `url` is not one, or neither http nor https.
    pub fn new(method: Method, url: &str) -> Result<Self, NetError> {
        // The text may hold a password, so that it is not repeated where it does not parse.
        let url = Url::parse(url).map_err(|error| NetError::bad_url("the URL", error.to_string()))?;
        Self::for_url(method, url)
    }

    /// The same for a parsed URL.
    ///
    /// # Errors
    /// [`NetErrorKind::BadUrl`] if its scheme is neither http nor https.
    pub fn for_url(method: Method, mut url: Url) -> Result<Self, NetError> {
        let shown = crate::shown(&url);
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(NetError::new(
                NetErrorKind::BadUrl { reason: format!("scheme `{}` is not http or https", url.scheme()) },
                shown,
            ));
        }
        let credentials = credentials_in(&url);
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::Empty,
            credentials,
            use_netrc: true,
            retries: true,
            redirects: true,
            cancel: Cancel::default(),
        })
    }

    /// Asks for `url`.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn get(url: &str) -> Result<Self, NetError> {
        Self::new(Method::GET, url)
    }

    /// Asks for the head of `url` only.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn head(url: &str) -> Result<Self, NetError> {
        Self::new(Method::HEAD, url)
    }

    /// Sets a header, in place of one of that name. A value that HTTP does not allow
    /// (a line break) is left out, and the server misses it.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Adds a header beside others of that name (several `Accept`).
    #[must_use]
    pub fn header_also(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Sends `credentials` at once, to this URL's scheme, host and port only. They
    /// win over those in the URL and in netrc.
    #[must_use]
    pub fn credentials(mut self, credentials: Option<Credentials>) -> Self {
        self.credentials = credentials.or(self.credentials);
        self
    }

    /// Does not look into netrc.
    #[must_use]
    pub fn without_netrc(mut self) -> Self {
        self.use_netrc = false;
        self
    }

    /// Tries once only.
    #[must_use]
    pub fn without_retries(mut self) -> Self {
        self.retries = false;
        self
    }

    /// Gives 3xx back as they are.
    #[must_use]
    pub fn without_redirects(mut self) -> Self {
        self.redirects = false;
        self
    }

    /// Stops within a tenth of a second when `cancel` says so.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Returns the URL, without credentials.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

fn credentials_in(url: &Url) -> Option<Credentials> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user = percent_decoded(url.username());
    Some(Credentials::basic(user, percent_decoded(url.password().unwrap_or_default())))
}

/// Returns `text` with `%41` as `A`; the `url` crate encodes users and passwords.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

type Open = dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync;

/// A request's body. It is opened anew for each try.
#[derive(Clone, Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// Bytes in memory.
    Bytes(bytes::Bytes),
    /// A stream of known length.
    Stream {
        /// Opens it from its start.
        open: Arc<Open>,
        /// How many bytes it gives.
        size: u64,
    },
}

impl Body {
    /// A body of these bytes.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes::Bytes::from(bytes.into()))
    }

    /// A body of `size` bytes that `open` gives, from the start at each call.
    pub fn stream(
        size: u64,
        open: impl Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Self {
        Self::Stream { open: Arc::new(open), size }
    }

    /// The file at `path`, with its size now.
    ///
    /// # Errors
    /// Those of asking for its size.
    pub fn file(path: &std::path::Path) -> io::Result<Self> {
        let path = path.to_owned();
        let size = std::fs::metadata(&path)?.len();
        Ok(Self::stream(size, move || Ok(Box::new(std::fs::File::open(&path)?))))
    }

    /// Returns how many bytes it has.
    pub fn size(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream { size, .. } => *size,
        }
    }

    pub(crate) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Empty => Ok(Box::new(io::empty())),
            Self::Bytes(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            Self::Stream { open, .. } => open(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.size())
    }
}

/// Tells a transfer to stop. Asked about ten times a second, and cheap to clone.
#[derive(Clone, Default)]
pub struct Cancel(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Cancel {
    /// Stops when `asked` gives true.
    pub fn when(asked: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(asked)))
    }

    /// Returns whether to stop.
    pub fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| asked())
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.is_asked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let request = Request::get("https://jo%40e:p%25w@example.org/a#f").expect("valid");
        assert_eq!(request.url().as_str(), "https://example.org/a");
        assert_eq!(request.credentials, Some(Credentials::basic("jo@e", "p%w")));
    }

    #[test]
    fn only_http() {
        for url in ["file:///etc/passwd", "ftp://a/b", "nonsense", "data:x"] {
            assert!(Request::get(url).is_err(), "{url}");
        }
    }
}
