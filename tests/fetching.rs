//! Fetches as a person meets them: in processes of their own, with the environment's proxies, certificates and
//! passwords, against servers on loopback.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ampoule_loopback::{Answer, Piece, Server};
use ampoule_store::{Hash, HashAlgo};

/// A directory with stores, and the environment of nobody.
struct Yard {
    dir: tempfile::TempDir,
}

impl Yard {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("home")).expect("room");
        Self { dir }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn command(&self, args: &[&str], vars: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule"));
        command
            .arg("--store")
            .arg(self.dir.path().join("store"))
            .args(args)
            .current_dir(self.home())
            .env_clear()
            .env("HOME", self.home())
            .env("NO_COLOR", "1")
            .envs(vars.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Realises an expression.
    fn realise(&self, text: &str, vars: &[(&str, &str)]) -> Output {
        let args = ["realise", "--no-out-link", "-E", text];
        self.command(&args, vars).output().expect("the program starts")
    }

    fn begin(&self, text: &str) -> Child {
        self.command(&["realise", "--no-out-link", "-E", text], &[]).spawn().expect("the program starts")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn ends(output: &Output, code: i32, words: &[&str]) -> String {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "expected `{word}` in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// A fetch of these places, whose bytes are promised to be `body`.
fn fetch(name: &str, urls: &[String], hash: &str) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("{url:?}")).collect();
    format!(
        r#"derivation {{ name = "{name}"; system = "builtin"; builder = "builtin:fetchurl"; urls = [ {} ];
           outputHashMode = "flat"; outputHash = "{hash}"; outputHashAlgo = null; }}"#,
        urls.join(" ")
    )
}

fn sri(body: &str) -> String {
    Hash::of(HashAlgo::Sha256, body.as_bytes()).to_sri()
}

/// Two processes and three derivations want the same file: it comes once for each output, whoever is first.
#[test]
fn case_133_two_processes_fetch_nothing_twice() {
    let server = Server::start(|asked| {
        let pause = Piece::Pause(Duration::from_millis(300));
        Answer::status(200)
            .header("Content-Length", asked.path.len().to_string())
            .piece(pause)
            .body(&asked.path)
    });
    let yard = Yard::new();
    let one = |path: &str| fetch(&path[1..], &[server.url(path)], &sri(path));
    let all = format!("[ ({}) ({}) ({}) ]", one("/a"), one("/b"), one("/c"));
    let children: Vec<Child> = (0..3).map(|_| yard.begin(&all)).collect();
    for child in children {
        ends(&child.wait_with_output().expect("it ends"), 0, &[]);
    }
    for path in ["/a", "/b", "/c"] {
        assert_eq!(server.count(path), 1, "{path}");
    }
    // In one process another name for the same bytes costs no second download.
    let twice = format!(
        "[ ({}) ({}) ]",
        fetch("first", &[server.url("/d")], &sri("/d")),
        fetch("second", &[server.url("/d")], &sri("/d"))
    );
    ends(&yard.realise(&twice, &[]), 0, &[]);
    assert_eq!(server.count("/d"), 1);
    // What is there is asked of nobody.
    ends(&yard.realise(&all, &[]), 0, &[]);
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn hashes_of_all_kinds_and_in_all_forms() {
    let server = Server::start(|_| Answer::ok("the bytes"));
    let yard = Yard::new();
    let mut all = String::new();
    for algo in [HashAlgo::Md5, HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha512] {
        let hash = Hash::of(algo, b"the bytes");
        let typed = format!("\"{}\"", algo.name());
        let base64 = hash.to_sri().split_once('-').expect("algorithm-digest").1.to_owned();
        for (nth, (text, kind)) in [
            (hash.to_base16(), &*typed),
            (hash.to_nix32(), &typed),
            (base64, &typed),
            (hash.to_sri(), "null"),
            (hash.to_sri(), &typed),
            (format!("{}:{}", algo.name(), hash.to_base16()), "null"),
        ]
        .into_iter()
        .enumerate()
        {
            all += &format!(
                r#"(derivation {{ name = "f{nth}-{}"; system = "builtin"; builder = "builtin:fetchurl"; url = "{}";
                   outputHashMode = "flat"; outputHash = "{text}"; outputHashAlgo = {kind}; }})"#,
                algo.name(),
                server.url("/f")
            );
        }
    }
    ends(&yard.realise(&format!("[ {all} ]"), &[]), 0, &[]);
}

#[test]
fn case_114_a_wrong_hash_says_both_and_the_way_out() {
    let server = Server::start(|_| Answer::ok("other bytes").header("Content-Type", "text/plain"));
    let yard = Yard::new();
    let text = ends(
        &yard.realise(&fetch("f", &[server.url("/f")], &sri("the bytes")), &[]),
        102,
        &[
            &format!("specified: {}", sri("the bytes")),
            &format!("got: {}", sri("other bytes")),
            "what came: text/plain, 11 bytes, starting with \"other bytes\"",
            &format!("help: if what came is what you want, say that its hash is `{}`", sri("other bytes")),
        ],
    );
    assert!(text.contains(&server.url("/f")), "{text}");
}

/// The first place is silent for longer than anyone waits; the second has it. Nobody waits for the first five times.
#[test]
fn case_114_a_place_that_gives_nothing_is_left_for_the_next() {
    let busy = Server::start(|_| Answer::status(503).header("Retry-After", "30"));
    let good = Server::start(|_| Answer::ok("the bytes"));
    let yard = Yard::new();
    let urls = [busy.url("/f"), good.url("/f")];
    ends(&yard.realise(&fetch("f", &urls, &sri("the bytes")), &[]), 0, &[]);
    assert_eq!((busy.asked().len(), good.asked().len()), (1, 1));
    // Where none has it, the one whose trouble may pass is asked again.
    let recovers = Server::start(|asked| match asked.nth {
        0 => Answer::status(503),
        _ => Answer::ok("more bytes"),
    });
    let gone = Server::start(|_| Answer::status(404));
    let urls = [recovers.url("/f"), gone.url("/f")];
    ends(&yard.realise(&fetch("g", &urls, &sri("more bytes")), &[]), 0, &[]);
    assert_eq!((recovers.asked().len(), gone.asked().len()), (2, 1));
}

#[test]
fn case_105_netrc_reaches_its_host_and_nobody_else() {
    let elsewhere = Server::start(|_| Answer::ok("the bytes"));
    let to = elsewhere.url("/f");
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.header("authorization")) {
        (_, None) => Answer::status(401),
        ("/sent-on", _) => Answer::redirect(302, to.clone()),
        // A redirect that brings a password of its own.
        ("/planted", _) => Answer::redirect(302, to.replace("http://", "http://planted:hunter2@")),
        _ => Answer::ok("the bytes"),
    });
    let yard = Yard::new();
    let netrc = yard.dir.path().join("passwords");
    std::fs::write(
        &netrc,
        "machine other login a password b\nmachine 127.0.0.1 login joe password hunter2\n",
    )
    .expect("room");
    let netrc = netrc.display().to_string();
    for (nth, path) in ["/f", "/sent-on", "/planted"].into_iter().enumerate() {
        let text = fetch(&format!("f{nth}"), &[server.url(path)], &sri("the bytes"));
        let told = ends(&yard.realise(&text, &[("NETRC", &netrc)]), 0, &[]);
        assert!(!told.contains("hunter2"), "{told}");
    }
    assert!(elsewhere.asked().iter().all(|asked| asked.header("authorization").is_none()));
    assert_eq!(elsewhere.asked().len(), 2);
    // Without it, and with a default entry in the place where people keep it.
    let text = fetch("g", &[server.url("/g")], &sri("the bytes"));
    ends(&yard.realise(&text, &[]), 3, &["401: the server asks for credentials", "~/.netrc or $NETRC"]);
    std::fs::write(yard.home().join(".netrc"), "default login joe password hunter2").expect("room");
    ends(&yard.realise(&text, &[]), 0, &[]);
    // In the URL: it is in the derivation, as people put it there, and in nothing that is said.
    let with = server.url("/h").replace("http://", "http://joe:hunter2@");
    let wrong = fetch("h", &[with], &sri("not these"));
    let told = ends(&yard.realise(&wrong, &[]), 102, &[]);
    assert!(!told.contains("hunter2"), "{told}");
    let log = yard.command(&["log", "-E", &wrong], &[]).output().expect("the program starts");
    assert!(!said(&log).contains("hunter2"), "{}", said(&log));
}

#[test]
fn proxies_of_the_environment() {
    let proxy = Server::start(|asked| match asked.path.starts_with("http://") {
        true => Answer::ok("proxied"),
        false => Answer::status(403),
    });
    let server = Server::start(|_| Answer::ok("direct"));
    let yard = Yard::new();
    let at = format!("http://u:hunter2@127.0.0.1:{}", proxy.port());
    let mut nth = 0;
    let mut check = |vars: &[(&str, &str)], url: &str, expected: &str| {
        nth += 1;
        ends(&yard.realise(&fetch(&format!("f{nth}"), &[url.to_owned()], &sri(expected)), vars), 0, &[]);
    };
    let url = server.url("/x");
    check(&[("http_proxy", &at)], &url, "proxied");
    check(&[("HTTP_PROXY", &at)], &url, "proxied");
    check(&[("all_proxy", &at)], &url, "proxied");
    check(&[("ALL_PROXY", &at)], "http://host.invalid/x", "proxied");
    check(&[("https_proxy", &at)], &url, "direct");
    check(&[("http_proxy", &at), ("no_proxy", "127.0.0.1")], &url, "direct");
    check(&[("http_proxy", &at), ("NO_PROXY", "*")], &url, "direct");
    check(&[("http_proxy", ""), ("HTTP_PROXY", "")], &url, "direct");
    // In a web server's script the capitals are a header of somebody's request.
    check(&[("HTTP_PROXY", &at), ("REQUEST_METHOD", "GET")], &url, "direct");
    let refused = fetch("refused", &["https://host.invalid/x".to_owned()], &sri("x"));
    let told = ends(&yard.realise(&refused, &[("https_proxy", &at)]), 3, &["cannot connect"]);
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn case_106_certificates_of_the_environment() {
    let (server, certificate) = Server::start_tls(|_| Answer::ok("the bytes"));
    let yard = Yard::new();
    let file = yard.dir.path().join("own.pem");
    std::fs::write(&file, certificate).expect("room");
    let file = file.display().to_string();
    let text = fetch("f", &[server.url("/f")], &sri("the bytes"));
    ends(&yard.realise(&text, &[]), 3, &["certificate"]);
    ends(&yard.realise(&text, &[("SSL_CERT_FILE", "/nowhere.pem")]), 3, &["certificates in `/nowhere.pem`"]);
    ends(&yard.realise(&text, &[("SSL_CERT_FILE", &file)]), 0, &[]);
    let text = fetch("g", &[server.url("/f")], &sri("the bytes"));
    ends(&yard.realise(&text, &[("NIX_SSL_CERT_FILE", &file), ("SSL_CERT_FILE", "/nowhere.pem")]), 0, &[]);
}

#[test]
fn case_113_offline_names_all_that_is_missing() {
    let yard = Yard::new();
    let names: Vec<String> = (0..5).map(|n| format!("missing-{n}")).collect();
    let fetches: Vec<String> = names
        .iter()
        .map(|name| format!("({})", fetch(name, &[format!("http://127.0.0.1:9/{name}")], &sri(name))))
        .collect();
    let all = format!("[ {} ]", fetches.join(" "));
    let output = yard.command(&["realise", "--no-out-link", "--offline", "-E", &all], &[]).output();
    let text = ends(&output.expect("the program starts"), 3, &["--offline"]);
    for name in &names {
        assert!(text.contains(name.as_str()), "{name}: {text}");
    }
}

/// `file:` in all the ways that people write it, and what is no file.
#[test]
fn files_by_their_urls() {
    let yard = Yard::new();
    let dir = yard.dir.path().display().to_string();
    for name in ["plain", "with space", "100%", "grün"] {
        std::fs::write(yard.dir.path().join(name), "the bytes").expect("room");
    }
    for (nth, url) in [
        format!("file://{dir}/plain"),
        format!("file:{dir}/plain"),
        format!("file://localhost{dir}/plain"),
        format!("file://{dir}/./plain"),
        format!("file://{dir}/with%20space"),
        format!("file://{dir}/100%25"),
        format!("file://{dir}/gr%C3%BCn"),
        format!("file://{dir}/grün"),
    ]
    .into_iter()
    .enumerate()
    {
        // With the network switched off: a file is none.
        let text = fetch(&format!("f{nth}"), std::slice::from_ref(&url), &sri("the bytes"));
        let args = ["realise", "--no-out-link", "--offline", "-E", &text];
        let output = yard.command(&args, &[]).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{url}: {}", said(&output));
    }
    let pipe = yard.dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .expect("a pipe can be made");
    for (url, words) in [
        (format!("file://{dir}"), "is not a regular file"),
        (format!("file://{dir}/pipe"), "is not a regular file"),
        ("file:///dev/zero".to_owned(), "is not a regular file"),
        (format!("file://{dir}/absent"), "no such file"),
        (format!("file://elsewhere{dir}/plain"), "names another machine"),
        ("file:".to_owned(), ""),
        ("ftp://127.0.0.1/x".to_owned(), "scheme `ftp` is not http or https"),
        ("nonsense".to_owned(), "cannot be fetched"),
    ] {
        let output = yard.realise(&fetch("f", std::slice::from_ref(&url), &sri("other")), &[]);
        ends(&output, 3, &[words]);
    }
}
