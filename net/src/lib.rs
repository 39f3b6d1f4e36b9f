//! One HTTP stack for everything of ours that goes to the network.
//!
//! A [`Client`] sends a [`Request`] and gives back a [`Response`], a blocking
//! [`std::io::Read`]. The engine below is asynchronous and shared: a hundred
//! transfers are a hundred cheap futures on two threads, and whoever reads a body
//! waits for its own transfer only. What the client takes care of, so that no
//! caller does it again and differently:
//!
//! * **redirects**: a limit, loops found, never from https to http, never to another
//!   scheme (`file`, `ftp`), and credentials stay with the scheme, host and port they
//!   were given for;
//! * **retries** with back-off for what passes (cut connections, 408, 429, 5xx), as
//!   long as the server asked for in `Retry-After`, up to a stated time;
//! * **time**: a limit for connecting, for the response's head, for silence, and a
//!   minimum rate; all counted while we wait, not while the reader is busy;
//! * **trust**: the system's roots and the files that people name
//!   (`SSL_CERT_FILE`, `NIX_SSL_CERT_FILE`); proxies and `NO_PROXY`; netrc;
//! * **secrets**: [`Secret`] cannot be printed, and a URL is shown by [`shown`] only.
//!
//! [`Client::download`] adds resuming by range and entity tag for large bodies.
//!
//! ```text
//! GET https://a/x (netrc for a) → 302 https://b/y → GET https://b/y, no Authorization
//! GET https://a/x               → 302 http://a/x  → refused: "from https to http"
//! ```

mod client;
mod config;
mod download;
mod error;
mod netrc;
mod request;
mod response;
mod retry;
mod secret;
mod tls;
mod url;

pub use client::Client;
pub use config::{ClientConfig, Identity, ProxyConfig};
pub use download::{Download, Downloaded, Sink};
pub use error::{NetError, NetErrorKind};
pub use netrc::Netrc;
pub use request::{Body, Cancel, Request};
pub use reqwest::{Method, StatusCode, Url, header};
pub use response::Response;
pub use secret::{Credentials, Secret};
pub use url::{shown, shown_text};
