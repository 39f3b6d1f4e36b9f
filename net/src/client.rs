//! The client: one try, its redirects, and the tries after it.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, COOKIE, HeaderMap, LOCATION, PROXY_AUTHORIZATION};
use reqwest::{Method, StatusCode, Url};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::config::ClientConfig;
use crate::error::{NetError, NetErrorKind};
use crate::request::{Body, Request};
use crate::response::{Pace, Response};
use crate::retry::{pause, retry_after, status_passes};
use crate::secret::Credentials;
use crate::url::same_origin;
use crate::{shown, tls};

/// How often a waiting transfer looks whether it is to stop.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Sends requests. Cheap to clone; clones share connections.
///
/// Nothing is started and no certificate is read before the first request.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    engine: OnceLock<Result<Engine, String>>,
}

struct Engine {
    http: reqwest::Client,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A plain drop would wait for the resolver's threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// Makes a client.
    pub fn new(config: ClientConfig) -> Self {
        Self { shared: Arc::new(Shared { config, engine: OnceLock::new() }) }
    }

    /// Returns its settings.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// Sends `request`, follows redirects, tries again what passes, and returns the
    /// answer whatever its status is (see [`Response::error_for_status`]).
    ///
    /// # Errors
    /// No answer: see [`NetErrorKind`].
    pub fn send(&self, request: &Request) -> Result<Response, NetError> {
        let mut attempt = 1;
        loop {
            let result = self.send_once(request);
            let asked = match &result {
                Ok(response) if status_passes(response.status()) => retry_after(response.headers()),
                Err(error) if error.passes() => None,
                _ => return result.map(|r| r.tried(attempt)).map_err(|e| e.tried(attempt)),
            };
            let wait = if request.retries { pause(self.config(), attempt, asked) } else { None };
            let Some(wait) = wait else {
                return result.map(|r| r.tried(attempt)).map_err(|e| e.tried(attempt));
            };
            // Closes the connection, or gives it back, before the pause.
            drop(result);
            self.wait(wait, request)?;
            attempt += 1;
        }
    }

    /// Sends `request` once, following redirects.
    pub(crate) fn send_once(&self, request: &Request) -> Result<Response, NetError> {
        let mut step = Step::first(request, self.config());
        loop {
            let mut response = self.exchange(&step, request)?;
            if !request.redirects || !is_redirect(response.status()) {
                response.chain = step.chain;
                return Ok(response);
            }
            step = step.next(&response, self.config())?;
        }
    }

    /// Waits, unless told to stop.
    pub(crate) fn wait(&self, time: Duration, request: &Request) -> Result<(), NetError> {
        let start = Instant::now();
        while start.elapsed() < time {
            if request.cancel.is_asked() {
                return Err(NetError::new(NetErrorKind::Cancelled, shown(&request.url)));
            }
            std::thread::sleep((time.saturating_sub(start.elapsed())).min(TICK));
        }
        Ok(())
    }

    fn engine(&self, url: &str) -> Result<&Engine, NetError> {
        let made = self.shared.engine.get_or_init(|| Engine::new(&self.shared.config));
        made.as_ref()
            .map_err(|reason| NetError::new(NetErrorKind::Setup { reason: reason.clone() }, url.to_owned()))
    }

    /// Returns the engine's handle; a response that is read exists only with an engine.
    pub(crate) fn handle(&self) -> Option<tokio::runtime::Handle> {
        let engine = self.shared.engine.get()?.as_ref().ok()?;
        engine.runtime.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// One request, one answer.
    fn exchange(&self, step: &Step, request: &Request) -> Result<Response, NetError> {
        let asked = shown(&request.url);
        let fail = |kind| Err(NetError { chain: step.chain.clone(), ..NetError::new(kind, asked.clone()) });
        if self.config().offline {
            return fail(NetErrorKind::Offline);
        }
        let engine = self.engine(&asked)?;
        let runtime = engine.runtime.as_ref().expect("the runtime leaves an engine only when it is dropped");
        let progress = Arc::new(AtomicU64::new(0));
        let mut builder =
            engine.http.request(step.method.clone(), step.url.clone()).headers(step.headers.clone());
        builder = match &step.credentials {
            None => builder,
            Some(Credentials::Basic { user, password }) => builder.basic_auth(user, Some(password.reveal())),
            Some(Credentials::Bearer(token)) => builder.bearer_auth(token.reveal()),
        };
        builder = match &step.body {
            Body::Empty => builder,
            Body::Bytes(bytes) => builder.body(bytes.clone()),
            body @ Body::Stream { .. } => match Upload::start(body, Arc::clone(&progress)) {
                Ok(upload) => builder.body(reqwest::Body::wrap(upload)),
                Err(error) => {
                    return fail(NetErrorKind::Sink {
                        reason: format!("cannot read the body to send: {error}"),
                    });
                }
            },
        };
        let limit = self.config().head_timeout;
        let mut sending = pin!(builder.send());
        let mut last = (Instant::now(), 0);
        let answer = loop {
            if request.cancel.is_asked() {
                return fail(NetErrorKind::Cancelled);
            }
            let now = progress.load(Ordering::Relaxed);
            if now != last.1 {
                last = (Instant::now(), now);
            }
            let left = limit.saturating_sub(last.0.elapsed());
            if left.is_zero() {
                return fail(NetErrorKind::Timeout { what: "answer", after: limit });
            }
            let wait = left.min(TICK);
            if let Ok(answer) = runtime.block_on(async { tokio::time::timeout(wait, &mut sending).await }) {
                break answer;
            }
        };
        match answer {
            Ok(inner) => Ok(Response {
                inner,
                asked,
                chain: Vec::new(),
                authenticated: step.credentials.is_some(),
                attempts: 1,
                pace: Pace::new(self.clone(), request.cancel.clone()),
            }),
            Err(error) => Err(NetError { chain: step.chain.clone(), ..NetError::of_transport(error, asked) }),
        }
    }
}

impl Engine {
    fn new(config: &ClientConfig) -> Result<Self, String> {
        // Where a limit of processes forbids threads, the runtime panics: this one is asked first.
        let started = std::thread::Builder::new().spawn(|| {});
        started.map_err(|error| format!("cannot start a thread to work on: {error}"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("ampoule-net")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| error.to_string())?;
        let mut builder = reqwest::Client::builder()
            .user_agent(&config.user_agent)
            .connect_timeout(config.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .tls_backend_preconfigured(
                tls::tls_config(config)
                    .map_err(|reason| format!("cannot load the certificates to trust: {reason}"))?,
            );
        let direct = config.proxy.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        let made = |proxy: reqwest::Result<_>| proxy.map_err(|_| "the proxy's URL cannot be read".to_owned());
        let proxies = [
            config
                .proxy
                .http
                .as_deref()
                .map(|url| proxy_url(url).and_then(|url| made(reqwest::Proxy::http(url)))),
            config
                .proxy
                .https
                .as_deref()
                .map(|url| proxy_url(url).and_then(|url| made(reqwest::Proxy::https(url)))),
        ];
        // `*` means no proxy at all; the crate takes it for names only, not for addresses.
        let all_direct =
            config.proxy.no_proxy.iter().flat_map(|list| list.split(',')).any(|entry| entry.trim() == "*");
        for proxy in proxies.into_iter().flatten().filter(|_| !all_direct) {
            builder = builder.proxy(proxy?.no_proxy(direct.clone()));
        }
        let http = builder.build().map_err(|error| crate::error::innermost(&error))?;
        Ok(Self { http, runtime: Some(runtime) })
    }
}

impl Response {
    fn tried(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }
}

impl NetError {
    pub(crate) fn tried(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }
}

/// Returns a proxy's URL; people leave the scheme out. The URL may hold a password, so that no message repeats it.
fn proxy_url(text: &str) -> Result<Url, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).map_err(|error| format!("the proxy's URL cannot be read: {error}"))?;
    match url.scheme() {
        "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h" if url.has_host() => Ok(url),
        "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
            Err("the proxy's URL names no host".to_owned())
        }
        scheme => {
            Err(format!("the proxy's URL has scheme `{scheme}`; http, https, socks4 and socks5 are known"))
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// One station of the way from the URL asked for to the one that answers.
struct Step {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Body,
    credentials: Option<Credentials>,
    seen: Vec<Url>,
    chain: Vec<String>,
}

impl Step {
    fn first(request: &Request, config: &ClientConfig) -> Self {
        let netrc = || {
            let host = request.url.host_str().filter(|_| request.use_netrc)?;
            config.netrc.for_host(host).cloned()
        };
        let mut headers = request.headers.clone();
        // What comes must be the bytes that are hashed.
        headers.entry(ACCEPT_ENCODING).or_insert(reqwest::header::HeaderValue::from_static("identity"));
        let own = headers.contains_key(AUTHORIZATION);
        Self {
            method: request.method.clone(),
            url: request.url.clone(),
            headers,
            body: request.body.clone(),
            credentials: if own { None } else { request.credentials.clone().or_else(netrc) },
            seen: Vec::new(),
            chain: Vec::new(),
        }
    }

    /// Returns the next station, which `response` names.
    fn next(mut self, response: &Response, config: &ClientConfig) -> Result<Self, NetError> {
        let target = response.header(LOCATION).and_then(|to| self.url.join(to).ok());
        let Some(mut target) = target else {
            return Err(self.refused(
                response,
                NetErrorKind::Protocol { reason: "a redirect that names no place".to_owned() },
            ));
        };
        target.set_fragment(None);
        self.chain.push(shown(&target));
        if self.chain.len() > config.max_redirects {
            return Err(
                self.refused(response, NetErrorKind::TooManyRedirects { limit: config.max_redirects })
            );
        }
        if let Some(reason) = why_not(&self.url, &target) {
            return Err(self.refused(response, NetErrorKind::RedirectRefused { reason }));
        }
        self.seen.push(self.url.clone());
        if self.seen.contains(&target) {
            return Err(self.refused(response, NetErrorKind::RedirectLoop));
        }
        if !same_origin(&self.url, &target) {
            self.credentials = None;
            for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                self.headers.remove(name);
            }
        }
        // What the server puts before the host is of its own making, and goes nowhere else.
        let _ = target.set_username("");
        let _ = target.set_password(None);
        let code = response.status().as_u16();
        let becomes_get = code == 303 && self.method != Method::HEAD
            || matches!(code, 301 | 302) && self.method == Method::POST;
        if becomes_get {
            self.method = Method::GET;
            self.body = Body::Empty;
        }
        self.url = target;
        Ok(self)
    }

    fn refused(&self, response: &Response, kind: NetErrorKind) -> NetError {
        NetError { chain: self.chain.clone(), ..NetError::new(kind, response.asked.clone()) }
    }
}

/// Returns why a redirect from `from` to `to` is not followed.
fn why_not(from: &Url, to: &Url) -> Option<String> {
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Some("from https to http".to_owned()),
        (_, "http" | "https") => None,
        (_, scheme) => Some(format!("to scheme `{scheme}`")),
    }
}

/// A body that a thread reads and the engine sends.
///
/// The thread is one for each upload, lives as long as it, and stops when the
/// engine drops its end.
struct Upload {
    chunks: Mutex<mpsc::Receiver<std::io::Result<Bytes>>>,
    left: u64,
    progress: Arc<AtomicU64>,
}

impl Upload {
    fn start(body: &Body, progress: Arc<AtomicU64>) -> std::io::Result<Self> {
        let size = body.size();
        let mut reader = body.open()?;
        let (sender, chunks) = mpsc::channel(4);
        std::thread::Builder::new().name("ampoule-upload".to_owned()).spawn(move || {
            let mut left = size;
            while left > 0 {
                let mut chunk = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(128 * 1024)];
                let message = match reader.read(&mut chunk) {
                    Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    Ok(n) => {
                        chunk.truncate(n);
                        left -= n as u64;
                        Ok(Bytes::from(chunk))
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let last = message.is_err();
                if sender.blocking_send(message).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(Self { chunks: Mutex::new(chunks), left: size, progress })
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = self.get_mut();
        let chunks = this.chunks.get_mut().unwrap_or_else(PoisonError::into_inner);
        let next = std::task::ready!(chunks.poll_recv(cx));
        Poll::Ready(next.map(|chunk| {
            let chunk = chunk?;
            this.left = this.left.saturating_sub(chunk.len() as u64);
            this.progress.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Ok(Frame::data(chunk))
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
