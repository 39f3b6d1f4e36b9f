//! The client against a server on loopback that plays every kind of trouble.
//!
//! Names say the number of the case that a test shows. Times are short in the
//! settings, so that the tests wait for milliseconds; what is tested is the order of
//! events, never a speed.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ampoule_loopback::{Answer, Asked, Piece, Server};
use ampoule_net::{
    Body, Cancel, Client, ClientConfig, Credentials, Download, Downloaded, Method, NetError, NetErrorKind,
    Netrc, ProxyConfig, Request, Sink, header,
};

/// Waits little between tries; what a busy machine does late is waited for.
fn quick() -> ClientConfig {
    ClientConfig {
        connect_timeout: Duration::from_secs(20),
        head_timeout: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(20),
        backoff: Duration::from_millis(10),
        max_wait: Duration::from_secs(5),
        ..ClientConfig::default()
    }
}

/// Waits little for a server as well.
fn impatient() -> ClientConfig {
    ClientConfig {
        head_timeout: Duration::from_millis(700),
        stall_timeout: Duration::from_millis(400),
        rate_window: Duration::from_millis(500),
        max_attempts: 1,
        ..quick()
    }
}

fn get(config: ClientConfig, url: &str) -> Result<Vec<u8>, NetError> {
    let client = Client::new(config);
    client.send(&Request::get(url)?)?.error_for_status()?.bytes(1 << 30)
}

/// Collects a download.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    restarts: u32,
}

impl Sink for Collected {
    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn start_over(&mut self) -> std::io::Result<()> {
        self.bytes.clear();
        self.restarts += 1;
        Ok(())
    }
}

fn download(config: ClientConfig, url: &str) -> (Result<Downloaded, NetError>, Collected) {
    let mut sink = Collected::default();
    let request = Request::get(url).expect("a test's URL is valid");
    let result = Client::new(config).download(
        &Download { request, limit_bytes: None, unannounced_limit_bytes: None, max_fruitless: None },
        &mut sink,
    );
    (result, sink)
}

fn letters(len: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(len).collect()
}

#[test]
fn gets_heads_posts_and_puts() {
    let server = Server::start(|asked| {
        Answer::ok(format!("{} {} {}", asked.method, asked.path, asked.body.len())).header("X-Note", "yes")
    });
    let client = Client::new(quick());
    let send = |request: Request| client.send(&request).expect("the server answers");
    let text = |request| String::from_utf8(send(request).bytes(1000).expect("a body")).expect("text");
    let url = server.url("/a?b=c");
    assert_eq!(text(Request::get(&url).expect("valid")), "GET /a?b=c 0");
    let head = send(Request::head(&url).expect("valid"));
    assert_eq!(head.headers().get("x-note").map(|v| v.as_bytes()), Some(&b"yes"[..]));
    assert_eq!(text(Request::head(&url).expect("valid")), "");
    let post = Request::new(Method::POST, &url).expect("valid");
    assert_eq!(text(post.clone().body(Body::bytes("hello"))), "POST /a?b=c 5");
    let streamed = Body::stream(300_000, || Ok(Box::new(std::io::repeat(7))));
    assert_eq!(text(Request::new(Method::PUT, &url).expect("valid").body(streamed)), "PUT /a?b=c 300000");
    let put = server.asked().pop().expect("a PUT came");
    assert_eq!(put.header("content-length"), Some("300000"), "a known length is announced, not chunked");
    assert!(put.body.iter().all(|b| *b == 7));
}

#[test]
fn a_body_is_read_piece_by_piece() {
    let server = Server::start(|_| Answer::ok(letters(500_000)));
    let mut response =
        Client::new(quick()).send(&Request::get(&server.url("/")).expect("valid")).expect("an answer");
    let mut all = Vec::new();
    response.read_to_end(&mut all).expect("a whole body");
    assert_eq!(all, letters(500_000));
}

#[test]
fn redirects_are_followed_by_their_kind() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/301" => Answer::redirect(301, "/end"),
        "/303" => Answer::redirect(303, "end"),
        "/307" => Answer::redirect(307, "/end#frag"),
        _ => Answer::ok(format!("{} {}", asked.method, String::from_utf8_lossy(&asked.body))),
    });
    let client = Client::new(quick());
    let end = |method, path: &str| {
        let request = Request::new(method, &server.url(path)).expect("valid").body(Body::bytes("x"));
        let response = client.send(&request).expect("an answer");
        assert_eq!(response.redirects(), [server.url("/end")]);
        String::from_utf8(response.bytes(100).expect("a body")).expect("text")
    };
    assert_eq!(end(Method::POST, "/301"), "GET ");
    assert_eq!(end(Method::PUT, "/303"), "GET ");
    assert_eq!(end(Method::POST, "/307"), "POST x");
    let request = Request::get(&server.url("/301")).expect("valid").without_redirects();
    assert_eq!(client.send(&request).expect("an answer").status().as_u16(), 301);
}

#[test]
fn case_101_redirects_to_file_and_ftp_are_refused_with_the_chain() {
    for target in ["file:///etc/passwd", "ftp://127.0.0.1/x"] {
        let server = Server::start(move |asked| match asked.path.as_str() {
            "/a" => Answer::redirect(302, "/b"),
            _ => Answer::redirect(302, target),
        });
        let error = get(quick(), &server.url("/a")).expect_err("refused");
        assert!(matches!(*error.kind, NetErrorKind::RedirectRefused { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&server.url("/b")) && text.contains(target), "{text}");
        assert_eq!(server.asked().len(), 2, "a refusal is not tried again");
    }
}

#[test]
fn case_101_redirect_from_https_to_http_is_refused() {
    let plain = Server::start(|_| Answer::ok("stolen"));
    let to = plain.url("/x");
    let (server, pem) = Server::start_tls(move |_| Answer::redirect(301, to.clone()));
    let config = ClientConfig { extra_roots_pem: vec![pem.into_bytes()], ..quick() };
    let error = get(config, &server.url("/")).expect_err("refused");
    assert!(error.to_string().contains("redirect refused: from https to http"), "{error}");
    assert_eq!(plain.asked().len(), 0);
}

#[test]
fn case_101_fifty_redirects_and_a_loop_end() {
    let server = Server::start(|asked| {
        let n: usize = asked.path[1..].parse().unwrap_or(0);
        if n < 50 { Answer::redirect(302, format!("/{}", n + 1)) } else { Answer::ok("end") }
    });
    let error = get(quick(), &server.url("/0")).expect_err("too many");
    assert!(matches!(*error.kind, NetErrorKind::TooManyRedirects { limit: 10 }), "{error}");
    assert_eq!(error.chain.len(), 11);
    let looping = Server::start(|asked| Answer::redirect(302, if asked.path == "/a" { "/b" } else { "/a" }));
    let error = get(quick(), &looping.url("/a")).expect_err("a circle");
    assert!(matches!(*error.kind, NetErrorKind::RedirectLoop), "{error}");
    assert_eq!(error.chain, [looping.url("/b"), looping.url("/a")]);
}

/// Asks a server with `credentials`, which sends us on to `to`; returns what arrived there.
fn sent_on(config: ClientConfig, first: &str, target: &Server) -> Asked {
    get(config, first).expect("the second server answers");
    target.asked().pop().expect("the second server was asked")
}

#[test]
fn case_102_authorization_stays_with_its_host() {
    let target = Server::start(|_| Answer::ok("there"));
    let to = format!("http://localhost:{}/x", target.port());
    let server = Server::start(move |_| Answer::redirect(302, to.clone()));
    let url = server.url("/").replace("http://", "http://joe:pw@");
    let asked = sent_on(quick(), &url, &target);
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(server.asked()[0].header("authorization"), Some("Basic am9lOnB3"));
    // The same with a header of the caller's, and with cookies.
    let request = Request::get(&server.url("/")).expect("valid");
    let request = request.header(header::AUTHORIZATION, "Bearer t").header(header::COOKIE, "a=b");
    Client::new(quick()).send(&request).expect("an answer");
    let asked = target.asked().pop().expect("asked again");
    assert_eq!((asked.header("authorization"), asked.header("cookie")), (None, None));
    assert_eq!(server.asked()[1].header("authorization"), Some("Bearer t"));
}

#[test]
fn case_103_authorization_stays_with_its_port_and_scheme() {
    let target = Server::start(|_| Answer::ok("there"));
    let to = target.url("/x");
    let server = Server::start(move |_| Answer::redirect(302, to.clone()));
    let netrc = Netrc::parse("machine 127.0.0.1 login joe password pw");
    let config = ClientConfig { netrc, ..quick() };
    assert_eq!(sent_on(config.clone(), &server.url("/"), &target).header("authorization"), None);
    assert_eq!(server.asked()[0].header("authorization"), Some("Basic am9lOnB3"));
    // Another scheme: http sends us on to https, on the same host.
    let (secure, pem) = Server::start_tls(|_| Answer::ok("there"));
    let to = secure.url("/x");
    let server = Server::start(move |_| Answer::redirect(302, to.clone()));
    let config = ClientConfig { extra_roots_pem: vec![pem.into_bytes()], ..config };
    assert_eq!(sent_on(config, &server.url("/"), &secure).header("authorization"), None);
    // Within the origin they go along.
    let server = Server::start(|a| if a.path == "/" { Answer::redirect(302, "/y") } else { Answer::ok("") });
    let url = server.url("/").replace("http://", "http://joe:pw@");
    assert_eq!(sent_on(quick(), &url, &server).header("authorization"), Some("Basic am9lOnB3"));
}

#[test]
fn case_105_secrets_are_in_no_message() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/to" => Answer::redirect(302, "/no?X-Amz-Signature=hunter2&part=1"),
        _ => Answer::status(403),
    });
    let base = server.url("").replace("http://", "http://joe:hunter2@");
    let config = ClientConfig { netrc: Netrc::parse("default login a password hunter2"), ..quick() };
    for path in ["/to", "/no?access_token=hunter2", "/no#hunter2"] {
        let error = get(config.clone(), &format!("{base}{path}")).expect_err("refused");
        let all = format!("{error} {error:?} {config:?}");
        assert!(!all.contains("hunter2"), "{all}");
        assert!(all.contains("403"), "{all}");
    }
    let closed = "http://joe:hunter2@127.0.0.1:1/x?token=hunter2";
    let error = get(ClientConfig { max_attempts: 1, ..quick() }, closed).expect_err("nobody listens");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    let config = ClientConfig {
        proxy: ProxyConfig { http: Some("http://u:hunter2@[bad".to_owned()), ..ProxyConfig::default() },
        ..quick()
    };
    let error = get(config, &server.url("/")).expect_err("no such proxy");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn case_106_credentials_go_to_the_right_host_only() {
    let server = Server::start(|_| Answer::ok("x"));
    let netrc = Netrc::parse("machine other.example login joe password pw");
    get(ClientConfig { netrc, ..quick() }, &server.url("/")).expect("an answer");
    assert_eq!(server.asked()[0].header("authorization"), None);
    let request =
        Request::get(&server.url("/")).expect("valid").credentials(Some(Credentials::bearer("tok")));
    Client::new(quick()).send(&request).expect("an answer");
    assert_eq!(server.asked()[1].header("authorization"), Some("Bearer tok"));
}

#[test]
fn case_106_a_bad_certificate_is_refused() {
    let (server, pem) = Server::start_tls(|_| Answer::ok("x"));
    let (_other, wrong) = Server::start_tls(|_| Answer::ok("x"));
    let config = ClientConfig { extra_roots_pem: vec![wrong.into_bytes()], ..quick() };
    let start = Instant::now();
    let error = get(config, &server.url("/")).expect_err("an unknown issuer");
    assert!(matches!(*error.kind, NetErrorKind::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(error.attempts, 1, "a certificate does not get better by asking again");
    assert!(start.elapsed() < Duration::from_secs(30));
    // The right one, in a file, is trusted, and then is the only one.
    let file = std::env::temp_dir().join(format!("ampoule-ca-{}.pem", std::process::id()));
    std::fs::write(&file, pem).expect("a temporary file");
    let config = ClientConfig { ca_files: vec![file.clone()], ..quick() };
    assert_eq!(get(config, &server.url("/")).expect("trusted"), b"x");
    std::fs::write(&file, "nothing").expect("a temporary file");
    let config = ClientConfig { ca_files: vec![file.clone()], ..quick() };
    let error = get(config, &server.url("/")).expect_err("no certificate in the file");
    assert!(error.to_string().contains("holds no certificate"), "{error}");
    std::fs::remove_file(&file).expect("our own file");
}

#[test]
fn case_107_a_stall_and_a_drip_end() {
    let server = Server::start(|asked| {
        let answer = Answer::status(200).header("Content-Length", "100000");
        match asked.path.as_str() {
            "/stall" => answer.body("x").piece(Piece::Hang),
            "/drip" => answer.piece(Piece::Repeat(b"x".to_vec(), 1000, Duration::from_millis(60))),
            _ => Answer::raw().piece(Piece::Hang),
        }
    });
    let once = impatient();
    let error = get(once.clone(), &server.url("/stall")).expect_err("silence");
    assert!(error.to_string().contains("no byte within 400 ms"), "{error}");
    let error = get(once.clone(), &server.url("/drip")).expect_err("a drip");
    assert!(matches!(*error.kind, NetErrorKind::Slow { .. }), "{error}");
    let error = get(once, &server.url("/silent")).expect_err("no head");
    assert!(error.to_string().contains("no answer within 700 ms"), "{error}");
}

#[test]
fn case_107_a_busy_reader_is_not_a_slow_server() {
    let server = Server::start(|_| Answer::ok(letters(3_000_000)));
    let client = Client::new(ClientConfig { stall_timeout: impatient().stall_timeout, ..quick() });
    let mut response = client.send(&Request::get(&server.url("/")).expect("valid")).expect("an answer");
    std::thread::sleep(Duration::from_millis(900));
    let mut buf = [0; 1000];
    response.read_exact(&mut buf).expect("it waited for us");
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(1000 + response.bytes(1 << 24).expect("the rest").len(), 3_000_000);
}

#[test]
fn case_107_headers_have_an_end() {
    let server = Server::start(|asked| {
        let start = Answer::raw().piece(b"HTTP/1.1 200 OK\r\n");
        match asked.path.as_str() {
            "/huge" => start.piece(b"X: ").piece(Piece::Repeat(vec![b'y'; 1 << 20], 50, Duration::ZERO)),
            "/many" => start.piece(Piece::Repeat(b"X: y\r\n".to_vec(), 10_000_000, Duration::ZERO)),
            _ => start.piece(Piece::Repeat(b"X: y\r\n".to_vec(), 1000, Duration::from_millis(20))),
        }
    });
    let once = ClientConfig { max_attempts: 1, ..quick() };
    for path in ["/huge", "/many"] {
        let error = get(once.clone(), &server.url(path)).expect_err("too much of a head");
        assert!(matches!(*error.kind, NetErrorKind::Protocol { .. }), "{path}: {error:?}");
    }
    let error = get(impatient(), &server.url("/endless")).expect_err("an endless head");
    assert!(matches!(*error.kind, NetErrorKind::Timeout { .. } | NetErrorKind::Protocol { .. }), "{error:?}");
}

#[test]
fn case_108_a_short_file_is_never_taken_for_whole() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/long" => Answer::ok("0123456789").header("Content-Length", "20"),
        "/chunk" => Answer::ok("").header("Transfer-Encoding", "chunked").body("a\r\n0123456789\r\n5\r\n012"),
        "/reset" => Answer::status(200).header("Content-Length", "20").body("0123456789").piece(Piece::Reset),
        _ => Answer::status(404),
    });
    for path in ["/long", "/chunk", "/reset"] {
        let (result, _) = download(ClientConfig { max_attempts: 3, ..quick() }, &server.url(path));
        let error = result.expect_err("cut each time");
        assert!(matches!(*error.kind, NetErrorKind::Cut { .. }), "{path}: {error:?}");
        assert!(error.attempts >= 3 && server.count(path) >= 3, "{path}: {} tries", error.attempts);
        assert!(error.to_string().contains("connection cut after 1"), "{error}");
    }
    // More than announced: what is announced counts; the rest never enters.
    let server = Server::start(|_| Answer::ok("0123456789").header("Content-Length", "4"));
    assert_eq!(get(quick(), &server.url("/")).expect("four bytes"), b"0123");
}

#[test]
fn case_109_a_cut_download_resumes() {
    let body = letters(100_000);
    let whole = body.clone();
    let server = Server::start(move |asked| match asked.nth {
        0 => Answer::status(200)
            .header("Content-Length", "100000")
            .header("ETag", "\"v1\"")
            .body(&whole[..50_000])
            .piece(Piece::Reset),
        _ => Answer::resumable(asked, &whole, "\"v1\""),
    });
    let (result, sink) = download(quick(), &server.url("/f"));
    let done = result.expect("the second half came");
    assert_eq!((done.attempts, done.resumed, sink.restarts, done.size_bytes), (2, 1, 0, 100_000));
    assert_eq!(sink.bytes, body);
    let second = &server.asked()[1];
    assert_eq!(second.range_start(), Some(50_000));
    assert_eq!(second.header("if-range"), Some("\"v1\""));
}

#[test]
fn case_109_a_changed_file_starts_over() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::status(200)
            .header("Content-Length", "10")
            .header("ETag", "\"v1\"")
            .body("OLD..")
            .piece(Piece::Reset),
        _ => Answer::resumable(asked, b"new file", "\"v2\""),
    });
    let (result, sink) = download(quick(), &server.url("/f"));
    assert_eq!(result.expect("the new file came").resumed, 0);
    assert_eq!((sink.bytes, sink.restarts), (b"new file".to_vec(), 1));
    // Without a validator there is nothing to resume by: a range would mix two files.
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::status(200).header("Content-Length", "10").body("OLD..").piece(Piece::Reset),
        _ => Answer::ok("new file"),
    });
    let (result, sink) = download(quick(), &server.url("/f"));
    result.expect("the new file came");
    assert_eq!(sink.bytes, b"new file");
    assert_eq!(server.asked()[1].header("range"), None);
}

#[test]
fn case_109_a_lying_range_is_not_mixed_in() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::status(200)
            .header("Content-Length", "10")
            .header("ETag", "\"v\"")
            .body("01234")
            .piece(Piece::Reset),
        1 => Answer::status(206).header("Content-Range", "bytes 2-9/10").body("23456789"),
        _ => Answer::resumable(asked, b"0123456789", "\"v\""),
    });
    let (result, sink) = download(quick(), &server.url("/f"));
    result.expect("the third try is whole");
    assert_eq!(sink.bytes, b"0123456789");
}

/// A server that pays no heed to `If-Range`, and says itself that its part is of another file.
#[test]
fn case_109_a_part_of_another_file_is_not_mixed_in() {
    let server = Server::start(|asked| match asked.nth {
        0 => Answer::status(200)
            .header("Content-Length", "10")
            .header("ETag", "\"v1\"")
            .body("OLD..")
            .piece(Piece::Reset),
        1 => {
            Answer::status(206).header("Content-Range", "bytes 5-9/10").header("ETag", "\"v2\"").body("56789")
        }
        _ => Answer::resumable(asked, b"0123456789", "\"v2\""),
    });
    let (result, sink) = download(quick(), &server.url("/f"));
    result.expect("the third try is whole");
    assert_eq!(sink.bytes, b"0123456789");
}

/// A server may send less than the range that it was asked for, and may send a part that nobody asked for.
#[test]
fn case_109_parts_are_put_together_until_the_whole_is_there() {
    let body = letters(100);
    let whole = body.clone();
    let server = Server::start(move |asked| {
        let from = asked.range_start().unwrap_or_default();
        let to = (from + 30).min(whole.len());
        Answer::status(206)
            .header("Content-Range", format!("bytes {from}-{}/{}", to - 1, whole.len()))
            .header("ETag", "\"v\"")
            .body(&whole[from..to])
    });
    let (result, sink) = download(quick(), &server.url("/f"));
    assert_eq!(result.expect("all of it came").resumed, 3);
    assert!(sink.bytes == body && sink.restarts == 0, "{} bytes", sink.bytes.len());
    // Without a name for what it is, the parts might be of two files.
    let server = Server::start(|_| Answer::status(206).header("Content-Range", "bytes 0-4/10").body("01234"));
    let (result, _) = download(quick(), &server.url("/f"));
    let error = result.expect_err("half is not the whole").to_string();
    assert!(error.contains("connection cut after 5 bytes"), "{error}");
}

/// Where another can be asked, one who gives nothing is left soon; one who gives something is not.
#[test]
fn who_gives_nothing_is_not_asked_again_where_another_could_be() {
    let body = letters(1000);
    let whole = body.clone();
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/cut" if asked.nth < 3 => {
            let from = asked.range_start().unwrap_or_default();
            let mut answer = Answer::resumable(asked, &whole, "\"v\"");
            answer = answer.header("Content-Length", (whole.len() - from).to_string());
            // All but the head, and a part of the body.
            answer.first_bytes(100).piece(Piece::Reset)
        }
        "/cut" => Answer::resumable(asked, &whole, "\"v\""),
        _ => Answer::status(503).header("Retry-After", "1"),
    });
    let fetch = |path: &str| {
        let request = Request::get(&server.url(path)).expect("valid");
        let download =
            Download { request, limit_bytes: None, unannounced_limit_bytes: None, max_fruitless: Some(1) };
        Client::new(quick()).download(&download, &mut Collected::default())
    };
    assert_eq!(fetch("/busy").expect_err("busy").attempts, 1);
    assert_eq!(server.count("/busy"), 1);
    assert_eq!(fetch("/cut").expect("it goes on").size_bytes, 1000);
    assert_eq!(server.count("/cut"), 4);
}

/// Answers that are no HTTP, or only nearly.
#[test]
fn case_108_garbage_is_an_error_in_words() {
    let answers: [(&str, &[u8]); 12] = [
        ("/nothing", b""),
        ("/text", b"hello\r\n\r\n"),
        ("/status", b"HTTP/1.1 abc OK\r\n\r\n"),
        ("/version", b"HTTP/7.3 200 OK\r\n\r\nx"),
        ("/header", b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\nx"),
        ("/nul", b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\nx"),
        ("/length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx"),
        ("/lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy"),
        ("/chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n"),
        ("/chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx"),
        ("/open", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
        ("/unended", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"),
    ];
    let server = Server::start(move |asked| {
        let (_, bytes) = answers.iter().find(|(path, _)| *path == asked.path).expect("a known path");
        Answer::raw().body(bytes)
    });
    let config = || ClientConfig { max_attempts: 2, ..quick() };
    for (path, _) in answers {
        let (result, _) = download(config(), &server.url(path));
        let error = result.expect_err(path).to_string();
        assert!(error.contains("connection cut") || error.contains("cannot be read"), "{path}: {error}");
        assert!(server.count(path) <= 2, "{path}");
    }
}

#[test]
fn servers_of_the_sixth_version() {
    let Some(server) = Server::start_v6(|asked| Answer::ok(format!("v6 {}", asked.path))) else {
        println!("skipped: no IPv6 on loopback");
        return;
    };
    assert_eq!(get(quick(), &server.url("/x")).expect("an answer"), b"v6 /x");
    let sent_on = Server::start({
        let to = server.url("/there");
        move |_| Answer::redirect(302, to.clone())
    });
    assert_eq!(get(quick(), &sent_on.url("/")).expect("an answer"), b"v6 /there");
}

#[test]
fn case_110_retry_after_and_passing_failures() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.nth) {
        ("/429", 0 | 1) => Answer::status(429).header("Retry-After", "1"),
        ("/500", 0 | 1) => Answer::status(500),
        ("/503", 0) => Answer::status(503).header("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("/reset", 0) => Answer::raw().piece(Piece::Reset),
        _ => Answer::ok("well"),
    });
    for (path, tries, least) in [("/429", 3, 2000), ("/500", 3, 25), ("/503", 2, 0), ("/reset", 2, 5)] {
        let start = Instant::now();
        assert_eq!(get(quick(), &server.url(path)).expect("it passes"), b"well", "{path}");
        assert_eq!(server.count(path), tries, "{path}");
        assert!(start.elapsed() >= Duration::from_millis(least), "{path}: waits as told");
    }
}

#[test]
fn case_110_gives_up_after_a_stated_time() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/hour" => Answer::status(429).header("Retry-After", "3600"),
        _ => Answer::status(503),
    });
    let start = Instant::now();
    let error = get(quick(), &server.url("/hour")).expect_err("an hour is too long");
    assert!(error.to_string().contains("429: too many requests; it asks to wait 3600 s"), "{error}");
    assert_eq!(server.count("/hour"), 1);
    let error = get(quick(), &server.url("/always")).expect_err("it never gets better");
    assert_eq!((error.attempts, server.count("/always")), (5, 5));
    assert!(start.elapsed() < Duration::from_secs(60));
    assert!(error.to_string().contains("(tried 5 times)"), "{error}");
}

#[test]
fn refusals_are_in_words_and_not_tried_again() {
    let server = Server::start(|asked| {
        Answer::status(asked.path[1..].parse().expect("a status"))
            .header("Content-Type", "text/html")
            .body("<html>\n <h1>No\x1b[2J</h1>")
    });
    let say = |url: &str| get(quick(), url).expect_err("refused").to_string();
    assert!(say(&server.url("/404")).contains("404: not found"));
    assert!(say(&server.url("/401")).contains("none are known"));
    assert!(say(&server.url("/403")).contains("no credentials were sent"));
    let with = server.url("/403").replace("http://", "http://a:b@");
    assert!(say(&with).contains("with the credentials that were sent"));
    assert!(
        say(&server.url("/410")).ends_with("it says (text/html): <html> <h1>No[2J</h1>"),
        "{}",
        say(&server.url("/410"))
    );
    assert_eq!(server.count("/404"), 1);
}

#[test]
fn case_112_encodings_are_not_undone_here() {
    let server = Server::start(|_| Answer::ok([0x1f, 0x8b, 8, 0]).header("Content-Encoding", "gzip"));
    let (result, sink) = download(quick(), &server.url("/"));
    assert_eq!(result.expect("bytes").content_encoding.as_deref(), Some("gzip"));
    assert_eq!(sink.bytes, [0x1f, 0x8b, 8, 0]);
    assert_eq!(server.asked()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn case_113_offline_asks_nobody() {
    let server = Server::start(|_| Answer::ok("x"));
    let error = get(ClientConfig { offline: true, ..quick() }, &server.url("/")).expect_err("offline");
    assert!(matches!(*error.kind, NetErrorKind::Offline), "{error:?}");
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn a_limit_ends_a_download() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/announced" => Answer::ok(letters(1000)),
        path => Answer::status(if path == "/range" { 206 } else { 200 })
            // Says nothing outside of a 206.
            .header("Content-Range", "bytes 0-0/1")
            .header("Transfer-Encoding", "chunked")
            .piece(Piece::Repeat(
                [b"3e8\r\n".as_slice(), &letters(1000), b"\r\n"].concat(),
                1_000_000,
                Duration::ZERO,
            )),
    });
    for path in ["/announced", "/endless"] {
        let request = Request::get(&server.url(path)).expect("valid");
        let mut sink = Collected::default();
        let download =
            Download { request, limit_bytes: Some(999), unannounced_limit_bytes: None, max_fruitless: None };
        let result = Client::new(quick()).download(&download, &mut sink);
        assert!(matches!(*result.expect_err("too large").kind, NetErrorKind::TooLarge { limit_bytes: 999 }));
        assert!(sink.bytes.len() <= 999);
    }
    // Where the server says how much comes, that much may come.
    for (path, ends_early) in [("/announced", false), ("/endless", true), ("/range", true)] {
        let request = Request::get(&server.url(path)).expect("valid");
        let mut sink = Collected::default();
        let download =
            Download { request, limit_bytes: None, unannounced_limit_bytes: Some(999), max_fruitless: None };
        let result = Client::new(quick()).download(&download, &mut sink);
        assert_eq!(result.is_err(), ends_early, "{path}");
    }
}

#[test]
fn proxies_and_their_exceptions() {
    let proxy = Server::start(|asked| Answer::ok(format!("proxied {}", asked.path)));
    let server = Server::start(|_| Answer::ok("direct"));
    let through = |no_proxy: Option<&str>| {
        let proxy = ProxyConfig {
            http: Some(format!("127.0.0.1:{}", proxy.port())),
            https: None,
            no_proxy: no_proxy.map(str::to_owned),
        };
        let body = get(ClientConfig { proxy, ..quick() }, &server.url("/x")).expect("an answer");
        String::from_utf8(body).expect("text")
    };
    assert_eq!(through(None), format!("proxied {}", server.url("/x")));
    assert_eq!(through(Some("example.org,127.0.0.0/8")), "direct");
    assert_eq!(through(Some("*")), "direct");
}

#[test]
fn a_transfer_stops_when_told() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/body" => Answer::status(200).header("Content-Length", "9").body("x").piece(Piece::Hang),
        "/head" => Answer::raw().piece(Piece::Hang),
        _ => Answer::status(429).header("Retry-After", "4"),
    });
    for path in ["/body", "/head", "/wait"] {
        let flag = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&flag);
        let cancel = Cancel::when(move || asked.load(Ordering::Relaxed));
        let timer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            flag.store(true, Ordering::Relaxed);
        });
        let start = Instant::now();
        let request = Request::get(&server.url(path)).expect("valid").cancel(cancel);
        let result = Client::new(quick()).send(&request).and_then(|response| response.bytes(100));
        assert!(matches!(*result.expect_err("stopped").kind, NetErrorKind::Cancelled), "{path}");
        assert!(start.elapsed() < Duration::from_secs(15), "{path}");
        timer.join().expect("the timer ends");
    }
}

#[test]
fn many_transfers_run_at_once_on_one_client() {
    let server = Server::start(|_| {
        Answer::status(200)
            .header("Content-Length", "2")
            .body("a")
            .piece(Piece::Pause(Duration::from_millis(200)))
            .body("b")
    });
    let client = Client::new(quick());
    std::thread::scope(|scope| {
        for n in 0..16 {
            let (client, url) = (client.clone(), server.url(&format!("/{n}")));
            scope.spawn(move || {
                let response = client.send(&Request::get(&url).expect("valid")).expect("an answer");
                assert_eq!(response.bytes(10).expect("a body"), b"ab");
            });
        }
    });
    assert!(server.most_open() >= 8, "only {} at once", server.most_open());
}
