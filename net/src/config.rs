//! What a client is told: limits, trust, proxies, credentials.

use std::path::PathBuf;
use std::time::Duration;

use crate::netrc::Netrc;
use crate::secret::Secret;

/// Settings of a [`Client`](crate::Client).
///
/// `default()` knows nothing of the environment (tests use it);
/// [`ClientConfig::from_env`] is what a program wants.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Refuses every request with [`NetErrorKind::Offline`](crate::NetErrorKind::Offline).
    pub offline: bool,
    /// Time for name resolution, TCP and TLS.
    pub connect_timeout: Duration,
    /// Time from the last byte of the request to the end of the response's head.
    pub head_timeout: Duration,
    /// Longest silence within a body.
    pub stall_timeout: Duration,
    /// Least bytes per second, averaged over [`ClientConfig::rate_window`] of waiting.
    pub min_bytes_per_second: u64,
    /// Over which time of waiting the least rate must hold.
    pub rate_window: Duration,
    /// How many redirects are followed.
    pub max_redirects: usize,
    /// How many times a request is tried in all.
    pub max_attempts: u32,
    /// First pause between tries; each next one is twice as long.
    pub backoff: Duration,
    /// Longest pause between tries, whatever `Retry-After` asks for: a server that
    /// wants more is given up at once, with what it asked for in the message.
    pub max_wait: Duration,
    /// Files of PEM certificates to trust instead of the system's.
    pub ca_files: Vec<PathBuf>,
    /// Certificates (PEM) to trust besides.
    pub extra_roots_pem: Vec<Vec<u8>>,
    /// Who we are towards servers that ask for a certificate.
    pub identity: Option<Identity>,
    /// Proxies.
    pub proxy: ProxyConfig,
    /// Credentials by host.
    pub netrc: Netrc,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            user_agent: concat!("ampoule/", env!("CARGO_PKG_VERSION")).to_owned(),
            offline: false,
            connect_timeout: Duration::from_secs(20),
            head_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            min_bytes_per_second: 64,
            rate_window: Duration::from_secs(60),
            max_redirects: 10,
            max_attempts: 5,
            backoff: Duration::from_millis(250),
            max_wait: Duration::from_secs(60),
            ca_files: Vec::new(),
            extra_roots_pem: Vec::new(),
            identity: None,
            proxy: ProxyConfig::default(),
            netrc: Netrc::default(),
        }
    }
}

impl ClientConfig {
    /// Reads what the environment says: `NIX_SSL_CERT_FILE`, `SSL_CERT_FILE`, the
    /// proxy variables, `NETRC` or `~/.netrc`.
    pub fn from_env() -> Self {
        let ca = ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE"].iter().find_map(|name| var(name)).map(PathBuf::from);
        Self {
            ca_files: ca.into_iter().collect(),
            proxy: ProxyConfig::from_env(),
            netrc: Netrc::from_env(),
            ..Self::default()
        }
    }
}

/// A certificate of ours with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and what it was signed with (PEM).
    pub certificates_pem: Vec<u8>,
    /// Its key (PEM).
    pub key_pem: Secret,
}

/// Which proxy serves which scheme.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfig {
    /// Proxy for `http:` URLs.
    pub http: Option<String>,
    /// Proxy for `https:` URLs.
    pub https: Option<String>,
    /// Hosts, domains, addresses and networks that are reached directly.
    pub no_proxy: Option<String>,
}

impl ProxyConfig {
    /// Reads `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, small letters
    /// first. `HTTP_PROXY` in capitals is not read where `REQUEST_METHOD` is set: there
    /// it is a header of somebody's request (httpoxy).
    pub fn from_env() -> Self {
        let all = var("all_proxy").or_else(|| var("ALL_PROXY"));
        let cgi = std::env::var_os("REQUEST_METHOD").is_some();
        let http = var("http_proxy").or_else(|| var("HTTP_PROXY").filter(|_| !cgi));
        Self {
            http: http.or_else(|| all.clone()),
            https: var("https_proxy").or_else(|| var("HTTPS_PROXY")).or(all),
            no_proxy: var("no_proxy").or_else(|| var("NO_PROXY")),
        }
    }
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
