//! Binary caches behind a web server that plays every kind of trouble: what is there is not built, and
//! whatever the server does, the command ends well, soon, and says why something was built after all.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ampoule_loopback::{Answer, Asked, Piece, Server};

/// A program in a cache, and a store that has not got it.
struct Yard {
    dir: tempfile::TempDir,
    cache: PathBuf,
    key: String,
    stores: AtomicUsize,
}

/// What the cache holds: a program that refers to a library, both built by a static shell.
const PROGRAM: &str = r#"
{ note ? "" }:
let
  build = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "${./tools}/busybox";
    args = [ "sh" "-c" script ];
  };
  library = build "library" "echo library > $out";
in build "program" "echo ${library} ${note} > $out"
"#;

impl Yard {
    fn new(compression: &str) -> Option<Self> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().map(Path::new).find(|path| path.exists());
        let Some(busybox) = busybox else {
            eprintln!("skipped: no busybox");
            return None;
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(dir.path().join("project/tools")).expect("made");
        std::fs::copy(busybox, dir.path().join("project/tools/busybox")).expect("copied");
        std::fs::write(dir.path().join("project/default.img"), PROGRAM).expect("written");
        let cache = dir.path().join("cache");
        let mut yard = Self { dir, cache, key: String::new(), stores: AtomicUsize::new(0) };
        let store = yard.fresh_store();
        let secret = yard.dir.path().join("secret").display().to_string();
        let made = yard.run(&store, "", &["store", "key", "generate", "yard-1", "-o", &secret]);
        yard.key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        let built = yard.run(&store, "", &["realise", "--no-out-link", "."]);
        assert!(built.status.success(), "{}", said(&built));
        let to = format!("file://{}", yard.cache.display());
        let path = String::from_utf8_lossy(&built.stdout).trim().to_owned();
        let args = ["copy", "--to", &to, "--key-file", &secret, "--compression", compression, &path];
        let copied = yard.run(&store, "", &args);
        assert!(copied.status.success(), "{}", said(&copied));
        Some(yard)
    }

    fn fresh_store(&self) -> PathBuf {
        self.dir.path().join(format!("store-{}", self.stores.fetch_add(1, Ordering::Relaxed)))
    }

    fn command(&self, store: &Path, substituter: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule"));
        command
            .arg("--store")
            .arg(store)
            .args(args)
            .current_dir(self.dir.path().join("project"))
            .env_clear()
            .env("HOME", self.dir.path())
            .env("NO_COLOR", "1")
            .env("AMPOULE_STORE_SUBSTITUTERS", substituter)
            .env("AMPOULE_STORE_TRUSTED_KEYS", &self.key)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, store: &Path, substituter: &str, args: &[&str]) -> Output {
        self.command(store, substituter, args).output().expect("it runs")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// How many objects were copied and how many derivations built, by the lines that say so.
fn done(output: &Output) -> (usize, usize) {
    let text = said(output);
    let count = |word: &str| text.lines().filter(|line| line.contains(&format!(": {word} took"))).count();
    (count("copy"), count("build"))
}

type Trouble = dyn Fn(&Asked, Option<Vec<u8>>) -> Answer + Send + Sync;

fn honest(_: &Asked, file: Option<Vec<u8>>) -> Answer {
    file.map_or(Answer::status(404), Answer::ok)
}

/// Realises in a fresh store with a cache that does `trouble`.
#[track_caller]
fn with_trouble(
    yard: &Yard,
    trouble: Arc<Trouble>,
    expected: (usize, usize),
    words: &[&str],
) -> (Output, Vec<Asked>) {
    let began = Instant::now();
    let cache = yard.cache.clone();
    let server = Server::start(move |asked| {
        let file = std::fs::read(cache.join(asked.path.trim_start_matches('/'))).ok();
        trouble(asked, file)
    });
    let store = yard.fresh_store();
    let output = yard.run(&store, &server.url(""), &["realise", "--no-out-link", "."]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(done(&output), expected, "copied and built: {text}");
    for word in words {
        assert!(text.contains(word), "expected `{word}` in:\n{text}");
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let verified = yard.run(&store, "", &["store", "verify", "--check-contents"]);
    assert!(verified.status.success(), "{}", said(&verified));
    (output, server.asked())
}

#[test]
fn a_cache_behind_a_server_in_every_compression() {
    for compression in ["none", "zstd", "xz", "bzip2", "gzip"] {
        let Some(yard) = Yard::new(compression) else { return };
        let (_, asked) = with_trouble(&yard, Arc::new(honest), (2, 0), &[]);
        let nars = asked.iter().filter(|asked| asked.path.contains("/nar/")).count();
        assert_eq!(nars, 2, "{compression}: each once");
    }
}

#[test]
fn whatever_the_server_does_it_ends_well() {
    let Some(yard) = Yard::new("zstd") else { return };
    let yard = &yard;
    let is_nar = |asked: &Asked| asked.path.contains("/nar/");
    let is_info = |asked: &Asked| asked.path.ends_with(".narinfo");
    let not_a_cache = ["is not a binary cache", "it is not asked again"];
    with_trouble(yard, Arc::new(|_, _| Answer::status(404)), (0, 2), &not_a_cache);
    with_trouble(yard, Arc::new(|_, _| Answer::status(500)), (0, 2), &["500", "it is not asked again"]);
    with_trouble(
        yard,
        Arc::new(move |a, f| if is_info(a) { Answer::status(404) } else { honest(a, f) }),
        (0, 2),
        &[],
    );
    // Once is not always.
    let once = move |a: &Asked, f| {
        if a.nth == 0 { Answer::status(503).header("Retry-After", "0") } else { honest(a, f) }
    };
    with_trouble(yard, Arc::new(once), (2, 0), &[]);
    // Cut in the middle, with and without a way to go on.
    let cut = move |a: &Asked, f: Option<Vec<u8>>| match (a.nth, f) {
        (0, Some(file)) if is_nar(a) => Answer::ok("")
            .header("Content-Length", file.len().to_string())
            .header("ETag", "\"one\"")
            .piece(&file[..file.len() / 2])
            .piece(Piece::Reset),
        (_, Some(file)) if is_nar(a) => match a.range_start() {
            Some(from) => Answer::status(206)
                .header("Content-Range", format!("bytes {from}-{}/{}", file.len() - 1, file.len()))
                .body(&file[from..]),
            None => Answer::ok(file),
        },
        (_, file) => honest(a, file),
    };
    let (_, asked) = with_trouble(yard, Arc::new(cut), (2, 0), &[]);
    assert!(asked.iter().any(|asked| asked.range_start().is_some_and(|from| from > 0)), "it went on");
    // A NAR that is always wrong, gone, or an error.
    let wrong = move |a: &Asked, f: Option<Vec<u8>>| {
        if is_nar(a) { Answer::ok("no NAR at all") } else { honest(a, f) }
    };
    with_trouble(yard, Arc::new(wrong), (0, 2), &["cannot copy `library`", "it is built instead"]);
    let gone = move |a: &Asked, f| if is_nar(a) { Answer::status(404) } else { honest(a, f) };
    with_trouble(yard, Arc::new(gone), (0, 2), &["it is gone from the cache", "it is built instead"]);
    // More bytes than it says that there are.
    let endless = move |a: &Asked, f| {
        if is_nar(a) {
            Answer::raw().piece(b"HTTP/1.1 200 OK\r\n\r\n").piece(Piece::Repeat(
                vec![0; 1 << 16],
                500,
                Duration::ZERO,
            ))
        } else {
            honest(a, f)
        }
    };
    with_trouble(yard, Arc::new(endless), (0, 2), &["it is built instead"]);
    // A narinfo that is garbage, or is another's.
    let garbage = move |a: &Asked, f: Option<Vec<u8>>| {
        if is_info(a) { Answer::ok("<html>log in</html>") } else { honest(a, f) }
    };
    with_trouble(yard, Arc::new(garbage), (0, 2), &["narinfo"]);
}

#[test]
fn case_117_a_bad_signature_is_told_with_its_name() {
    let Some(mut yard) = Yard::new("zstd") else { return };
    let stranger = yard.dir.path().join("stranger").display().to_string();
    let made =
        yard.run(&yard.fresh_store(), "", &["store", "key", "generate", "stranger-1", "-o", &stranger]);
    yard.key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let words = [
        "is signed by 'yard-1', which is not trusted (trusted keys: 'stranger-1')",
        "add its public key to `store.trusted-keys`",
        "program",
    ];
    with_trouble(&yard, Arc::new(honest), (0, 2), &words);
    let unsigned = |asked: &Asked, file: Option<Vec<u8>>| {
        let text = file.map(|file| match asked.path.ends_with(".narinfo") {
            true => String::from_utf8_lossy(&file)
                .lines()
                .filter(|line| !line.starts_with("Sig: "))
                .fold(String::new(), |text, line| text + line + "\n")
                .into_bytes(),
            false => file,
        });
        text.map_or(Answer::status(404), Answer::ok)
    };
    with_trouble(
        &yard,
        Arc::new(unsigned),
        (0, 2),
        &["nobody signed it", "`store.trusted-keys` names whom to believe"],
    );
}

/// A password in a cache's address reaches the cache, and nobody else's eyes; what is behind a `?` is no part of one.
#[test]
fn case_105_the_password_of_a_cache() {
    let Some(yard) = Yard::new("zstd") else { return };
    let cache = yard.cache.clone();
    let server = Server::start(move |asked| {
        // Base 64 of `joe:hunter2`.
        if asked.header("authorization") != Some("Basic am9lOmh1bnRlcjI=") {
            return Answer::status(401);
        }
        if asked.path.starts_with("/nar/") {
            return Answer::status(500);
        }
        honest(asked, std::fs::read(cache.join(asked.path.trim_start_matches('/'))).ok())
    });
    let with = server.url("").replace("http://", "http://joe:hunter2@");
    let output = yard.run(&yard.fresh_store(), &with, &["realise", "--no-out-link", "."]);
    assert_eq!(done(&output), (0, 2), "{}", said(&output));
    assert!(said(&output).contains("cannot copy `library`"), "{}", said(&output));
    for url in [with.clone(), with.replace("hunter2", "hunter2x"), format!("{with}?token=hunter2")] {
        let output = yard.run(&yard.fresh_store(), &url, &["realise", "--no-out-link", "."]);
        assert!(!said(&output).contains("hunter2"), "{}", said(&output));
    }
    let output = yard.run(
        &yard.fresh_store(),
        "",
        &["copy", "--from", &with, "/nix/store/1cif0kzjly0k4gxq2d7bm0x9df2924df-x"],
    );
    assert!(!output.status.success() && !said(&output).contains("hunter2"), "{}", said(&output));
    let output =
        yard.run(&yard.fresh_store(), &format!("{with}?priority=1"), &["realise", "--no-out-link", "."]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn case_113_no_network_costs_no_time() {
    let Some(yard) = Yard::new("zstd") else { return };
    let store = yard.fresh_store();
    let server = Server::start(|_| Answer::status(404));
    let closed = server.url("");
    drop(server);
    let output = yard.run(&store, &closed, &["realise", "--no-out-link", "."]);
    assert_eq!(done(&output), (0, 2), "{}", said(&output));
    assert_eq!(said(&output).matches("it is not asked again").count(), 1, "{}", said(&output));
    assert_eq!(said(&output).matches(&closed).count(), 1, "its address once: {}", said(&output));
    // All is there: nobody is asked, and nothing is said.
    let output = yard.run(&store, &closed, &["realise", "--no-out-link", "."]);
    assert!(!said(&output).contains("not asked"), "{}", said(&output));
}

#[test]
fn nobody_is_asked_who_need_not_be() {
    let Some(yard) = Yard::new("zstd") else { return };
    let cache = yard.cache.clone();
    let server = Server::start(move |asked| {
        honest(asked, std::fs::read(cache.join(asked.path.trim_start_matches('/'))).ok())
    });
    let url = server.url("");
    for flag in ["--offline", "--no-substitute"] {
        let output = yard.run(&yard.fresh_store(), &url, &["realise", "--no-out-link", flag, "."]);
        assert_eq!(done(&output), (0, 2), "{flag}: {}", said(&output));
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    // A directory is not the network.
    let directory = format!("file://{}", yard.cache.display());
    let output = yard.run(&yard.fresh_store(), &directory, &["realise", "--no-out-link", "--offline", "."]);
    assert_eq!(done(&output), (2, 0), "{}", said(&output));
    // What would come is listed with its size, and does not come.
    let store = yard.fresh_store();
    let output = yard.run(&store, &url, &["realise", "--dry-run", "."]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("2 to copy, ") && text.contains("  program  http://"), "{text}");
    assert!(!server.asked().iter().any(|asked| asked.path.contains("/nar/")));
    // The answers are kept: the real run asks for NARs only.
    let before = server.asked().len();
    let output = yard.run(&store, &url, &["realise", "--no-out-link", "."]);
    assert_eq!(done(&output), (2, 0), "{}", said(&output));
    let infos = server.asked()[before..].iter().filter(|asked| asked.path.ends_with(".narinfo")).count();
    assert_eq!(infos, 0);
    // So is "not there", for a while.
    let changed = ["realise", "--no-out-link", "--argstr", "note", "changed", "."];
    let dry = ["realise", "--dry-run", "--argstr", "note", "changed", "."];
    yard.run(&store, &url, &dry);
    let before = server.asked().len();
    let output = yard.run(&store, &url, &changed);
    assert_eq!(done(&output), (0, 1), "{}", said(&output));
    assert_eq!(server.asked()[before..].iter().filter(|asked| asked.path.ends_with(".narinfo")).count(), 0);
}

/// Case 68: ^C ends a download within a second.
#[test]
fn case_068_an_interrupted_download_ends_at_once() {
    let Some(yard) = Yard::new("none") else { return };
    let cache = yard.cache.clone();
    let reached = Arc::new(Mutex::new(false));
    let tell = Arc::clone(&reached);
    let server = Server::start(move |asked| {
        let file = std::fs::read(cache.join(asked.path.trim_start_matches('/'))).ok();
        if asked.path.contains("/nar/") {
            let whole = file.expect("the cache has what its narinfo names");
            *tell.lock().expect("no panic") = true;
            // As long as was promised: more would be refused, and the program be built instead.
            let length = whole.len().to_string();
            return Answer::ok("").header("Content-Length", length).body(&whole[..4]).piece(Piece::Hang);
        }
        honest(asked, file)
    });
    let store = yard.fresh_store();
    let mut command = yard.command(&store, &server.url(""), &["realise", "--no-out-link", "."]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let began = Instant::now();
    while !*reached.lock().expect("no panic") {
        assert!(began.elapsed() < Duration::from_secs(60), "it asks for the NAR");
        std::thread::sleep(Duration::from_millis(10));
    }
    let asked = Instant::now();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("run");
    assert!(killed.success());
    let output = child.wait_with_output().expect("waited for");
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
}

/// Case 131: what was changed behind our back is built again where no cache has it.
#[test]
fn case_131_repair_builds_what_no_cache_has() {
    let Some(yard) = Yard::new("none") else { return };
    let store = yard.fresh_store();
    let built = yard.run(&store, "", &["realise", "--no-out-link", "."]);
    let path = PathBuf::from(String::from_utf8_lossy(&built.stdout).trim().to_owned());
    let before = std::fs::read(&path).expect("there");
    std::fs::remove_file(&path).expect("ours");
    std::fs::write(&path, "changed").expect("written");
    let found = yard.run(&store, "", &["store", "verify", "--check-contents"]);
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    assert!(said(&found).contains("-program: was changed"), "{}", said(&found));
    let mended = yard.run(&store, "", &["store", "verify", "--check-contents", "--repair"]);
    assert!(mended.status.success() && said(&mended).contains("(mended)"), "{}", said(&mended));
    assert_eq!(std::fs::read(&path).expect("there"), before);
    let clean = yard.run(&store, "", &["store", "verify", "--check-contents"]);
    assert!(clean.status.success(), "{}", said(&clean));
}
