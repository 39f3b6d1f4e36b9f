//! A server on loopback that plays every kind of trouble, for tests.
//!
//! A test says what to answer as a list of [`Piece`]s, so that "half the body, then
//! silence" is written as it reads:
//!
//! ```text
//! Server::start(|asked| match asked.nth {
//!     0 => Answer::ok("").header("Content-Length", "10").piece(b"half").piece(Piece::Hang),
//!     _ => Answer::ok("0123456789"),
//! })
//! ```
//!
//! Each connection serves one request. What was asked is kept: see [`Server::asked`].

use rustls::pki_types::pem::PemObject as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A running server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Box<dyn Fn(&Asked) -> Answer + Send + Sync>,
    tls: Option<Arc<rustls::ServerConfig>>,
    asked: Mutex<Vec<Asked>>,
    stopped: AtomicBool,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET` …
    pub method: String,
    /// The target: a path with its query, or, towards a proxy, a whole URL.
    pub path: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body, by its Content-Length or in chunks.
    pub body: Vec<u8>,
    /// How many requests with this path came before.
    pub nth: usize,
}

impl Asked {
    /// Returns the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns from which byte on a range is asked for.
    pub fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok()
    }
}

/// A part of what the server does after the head.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Sends bytes.
    Bytes(Vec<u8>),
    /// Sends nothing for a time.
    Pause(Duration),
    /// Sends the bytes again and again, with a pause after each time.
    Repeat(Vec<u8>, usize, Duration),
    /// Sends nothing more and keeps the connection, until the client goes.
    Hang,
    /// Passes everything on to an address of loopback and back, as a proxy does that was asked to `CONNECT`.
    Tunnel(u16),
    /// Ends the connection with a reset, in the midst of whatever was announced.
    Reset,
}

impl From<&[u8]> for Piece {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Piece {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

/// What the server answers.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    pieces: Vec<Piece>,
    raw: bool,
}

impl Answer {
    /// A status, and no body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), pieces: Vec::new(), raw: false }
    }

    /// 200 with that body.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200).body(body)
    }

    /// A redirect.
    pub fn redirect(status: u16, to: impl Into<String>) -> Self {
        Self::status(status).header("Location", to)
    }

    /// No head at all: only the pieces are sent.
    pub fn raw() -> Self {
        Self { raw: true, ..Self::status(0) }
    }

    /// What a proxy answers to `CONNECT`, which leads to that port of loopback.
    pub fn tunnel(port: u16) -> Self {
        Self::raw().body("HTTP/1.1 200 Connected\r\n\r\n").piece(Piece::Tunnel(port))
    }

    /// Adds a header. Without a `Content-Length` of your own, the bytes are counted.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds bytes.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.pieces.push(Piece::Bytes(body.as_ref().to_vec()));
        self
    }

    /// Adds a piece.
    #[must_use]
    pub fn piece(mut self, piece: impl Into<Piece>) -> Self {
        self.pieces.push(piece.into());
        self
    }

    /// 200 with `body` as a server does that knows ranges and entity tags: the whole, or
    /// from the byte asked for if the file is still the one with `etag`.
    pub fn resumable(asked: &Asked, body: &[u8], etag: &str) -> Self {
        let same = asked.header("if-range").is_none_or(|tag| tag == etag);
        let answer = match asked.range_start().filter(|_| same) {
            Some(from) if from >= body.len() => return Self::status(416),
            Some(from) => Self::status(206)
                .header("Content-Range", format!("bytes {from}-{}/{}", body.len() - 1, body.len()))
                .body(&body[from..]),
            None => Self::ok(body),
        };
        answer.header("ETag", etag).header("Accept-Ranges", "bytes")
    }

    /// Sends only the first bytes of the body; announce what you like.
    #[must_use]
    pub fn first_bytes(mut self, len: usize) -> Self {
        for piece in &mut self.pieces {
            if let Piece::Bytes(bytes) = piece {
                bytes.truncate(len);
            }
        }
        self
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.has("content-length") && !self.has("transfer-encoding") && self.status != 304 {
            let len: usize =
                self.pieces.iter().map(|p| if let Piece::Bytes(b) = p { b.len() } else { 0 }).sum();
            head += &format!("Content-Length: {len}\r\n");
        }
        head += "\r\n";
        head.into_bytes()
    }
}

impl Server {
    /// Starts a server for http.
    pub fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(handler), None)
    }

    /// Starts a server for http on IPv6, if loopback has it.
    pub fn start_v6(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Option<Self> {
        let listener = TcpListener::bind(("::1", 0)).ok()?;
        Some(Self::listen_at(listener, Box::new(handler), None))
    }

    /// Starts a server for https on `localhost` and 127.0.0.1, and returns the
    /// certificate (PEM) to trust.
    pub fn start_tls(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Self, String) {
        Self::listen_tls(Box::new(handler), None)
    }

    /// The same, for clients that show `client` (PEM) only.
    pub fn start_mutual_tls(
        client: &str,
        handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> (Self, String) {
        let mut roots = rustls::RootCertStore::empty();
        let certificate = rustls::pki_types::CertificateDer::from_pem_slice(client.as_bytes());
        roots.add(certificate.expect("a certificate")).expect("it can be trusted");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Self::listen_tls(Box::new(handler), Some(verifier.build().expect("one root is enough")))
    }

    fn listen_tls(
        handler: Box<dyn Fn(&Asked) -> Answer + Send + Sync>,
        verifier: Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>,
    ) -> (Self, String) {
        let (certificate, key) = certificate();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let der = rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3");
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let config = builder
            .with_single_cert(vec![der.expect("a certificate")], key)
            .expect("the key belongs to the certificate");
        (Self::listen(handler, Some(Arc::new(config))), certificate)
    }

    fn listen(
        handler: Box<dyn Fn(&Asked) -> Answer + Send + Sync>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        Self::listen_at(listener, handler, tls)
    }

    fn listen_at(
        listener: TcpListener,
        handler: Box<dyn Fn(&Asked) -> Answer + Send + Sync>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            handler,
            tls,
            asked: Mutex::default(),
            stopped: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let serving = Arc::clone(&serving);
                thread::spawn(move || {
                    let open = serving.open.fetch_add(1, Ordering::SeqCst) + 1;
                    serving.most_open.fetch_max(open, Ordering::SeqCst);
                    // A client that goes away in the midst is part of the play.
                    let _ = serving.serve(stream);
                    serving.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, scheme, shared }
    }

    /// Returns the URL of `path` (with its slash) on this server.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns all requests so far, in order of arrival.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how many requests there were for `path`.
    pub fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|a| a.path == path).count()
    }

    /// Returns how many connections were open at once, at most.
    pub fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }
}

/// Makes a certificate for loopback that signs itself, and its key (both PEM).
pub fn certificate() -> (String, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate for loopback can be made");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener; it sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Shared {
    fn serve(&self, tcp: TcpStream) -> io::Result<()> {
        let raw = tcp.try_clone()?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let session = rustls::ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Box::new(rustls::StreamOwned::new(session, tcp))
            }
        };
        let mut asked = read_request(&mut *stream)?;
        {
            let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.nth = all.iter().filter(|a| a.path == asked.path).count();
            all.push(asked.clone());
        }
        let answer = (self.handler)(&asked);
        if !answer.raw {
            stream.write_all(&answer.head())?;
        }
        if asked.method == "HEAD" {
            return stream.flush();
        }
        for piece in &answer.pieces {
            self.play(piece, &mut *stream, &raw)?;
        }
        stream.flush()
    }

    fn play(&self, piece: &Piece, stream: &mut dyn Stream, raw: &TcpStream) -> io::Result<()> {
        match piece {
            Piece::Bytes(bytes) => stream.write_all(bytes)?,
            Piece::Pause(time) => thread::sleep(*time),
            Piece::Repeat(bytes, times, pause) => {
                for _ in 0..*times {
                    if self.stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    stream.write_all(bytes)?;
                    if !pause.is_zero() {
                        stream.flush()?;
                        thread::sleep(*pause);
                    }
                }
            }
            Piece::Hang => {
                stream.flush()?;
                self.hang(raw)?;
            }
            Piece::Tunnel(port) => {
                let to = TcpStream::connect(("127.0.0.1", *port))?;
                tunnel(raw, &to)?;
            }
            Piece::Reset => {
                stream.flush()?;
                // What was sent arrives first; then no lingering means a reset.
                thread::sleep(Duration::from_millis(30));
                rustix::net::sockopt::set_socket_linger(raw, Some(Duration::ZERO))?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        stream.flush()
    }

    fn hang(&self, raw: &TcpStream) -> io::Result<()> {
        raw.set_read_timeout(Some(Duration::from_millis(50)))?;
        let start = Instant::now();
        let mut byte = [0];
        while !self.stopped.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(60) {
            match raw.peek(&mut byte) {
                Ok(0) => break,
                Ok(_) => thread::sleep(Duration::from_millis(50)),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Copies in both directions, until both ends have said all.
pub fn tunnel(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let _ = io::copy(&mut from, &mut to);
    let _ = server.shutdown(std::net::Shutdown::Write);
    let _ = back.join();
    Ok(())
}

fn read_request(stream: &mut dyn Stream) -> io::Result<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked { method, path, headers, body: Vec::new(), nth: 0 };
    if asked.header("transfer-encoding").is_some() {
        read_chunks(&mut reader, &mut asked.body)?;
    } else if let Some(len) = asked.header("content-length").and_then(|len| len.parse().ok()) {
        asked.body.resize(len, 0);
        reader.read_exact(&mut asked.body)?;
    }
    Ok(asked)
}

fn read_chunks(reader: &mut dyn BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let len = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        reader.take(len).read_to_end(body)?;
        line.clear();
        reader.read_line(&mut line)?;
        if len == 0 {
            return Ok(());
        }
    }
}
