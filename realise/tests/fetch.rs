//! Fetching, through `builtin:fetchurl`, from a server that plays every kind of trouble.
//!
//! Names say the number of the case that a test shows; what concerns one request alone
//! (redirects, credentials, time-outs) is tested in `net`.

#[allow(dead_code, reason = "each test file uses its own part of this")]
mod support;

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ampoule_loopback::{Answer, Piece, Server};
use ampoule_net::{ClientConfig, Netrc};
use ampoule_realise::builtin::{Attributes, BuiltinBuilder, BuiltinError, BuiltinErrorKind, FetchUrl};
use ampoule_realise::fetch::Fetcher;
use ampoule_store::{Hash, HashAlgo, Method, hash_at};
use serde_json::{Value, json};
use support::archives::{Tar, gzip, xz};
use support::listing;
use support::yard::{Yard, fetcher, fetcher_with, quick, sha256};

/// Fetches a flat file; returns the yard to look at.
fn flat(fetcher: &Arc<Fetcher>, attrs: &Value, expected: Hash) -> (Result<(), BuiltinError>, Yard) {
    let yard = Yard::new().expect(Method::Flat, expected);
    let result = yard.run(&FetchUrl::new(Arc::clone(fetcher)), attrs);
    (result, yard)
}

fn failed(fetcher: &Arc<Fetcher>, attrs: &Value, expected: Hash) -> BuiltinError {
    let (result, yard) = flat(fetcher, attrs, expected);
    let error = result.expect_err("the fetch fails");
    assert!(!yard.out().exists(), "nothing is left at the output");
    error
}

fn nar_hash(path: &Path) -> Hash {
    let dir = File::open(path.parent().expect("a path below a directory")).expect("our directory");
    let name = CString::new(path.file_name().expect("a name").as_encoded_bytes()).expect("no NUL");
    hash_at(&dir.into(), &name, Method::Nar, HashAlgo::Sha256, None).expect("a tree of ours").0
}

#[test]
fn a_file_is_fetched_verified_and_canonical() {
    let server = Server::start(|_| Answer::ok("hello"));
    for algo in [HashAlgo::Md5, HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha512] {
        let (result, yard) =
            flat(&fetcher(&[]), &json!({ "url": server.url("/f") }), Hash::of(algo, b"hello"));
        result.expect("the hash is right");
        assert_eq!(yard.text(), "hello");
        assert_eq!(std::fs::metadata(yard.out()).expect("a file").mode() & 0o7777, 0o444);
        assert_eq!(
            std::fs::read_dir(yard.dir.path().join("outputs")).expect("ours").count(),
            1,
            "nothing else is left"
        );
    }
}

#[test]
fn plain_attributes_and_lists_of_urls() {
    let server =
        Server::start(|asked| if asked.path == "/b" { Answer::ok("x") } else { Answer::status(404) });
    let attrs = Attributes::from_environment([
        ("url".to_owned(), server.url("/a")),
        ("urls".to_owned(), format!("{} {}", server.url("/a"), server.url("/b"))),
    ])
    .expect("plain attributes");
    let wants = FetchUrl::new(fetcher(&[])).wants(&attrs);
    assert_eq!(wants.len(), 1, "one thing, however many places");
    let (result, _) =
        flat(&fetcher(&[]), &json!({ "urls": [server.url("/a"), server.url("/b")] }), sha256(b"x"));
    result.expect("the second place has it");
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn file_urls_are_fetched_without_a_network() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("with space");
    std::fs::write(&path, "local").expect("room");
    let url = format!("file://{}", path.display()).replace(' ', "%20");
    let offline = fetcher_with(
        ClientConfig { offline: true, ..quick() },
        &[("here", vec![format!("file://{}", dir.path().display())])],
    );
    for url in [url.clone(), "mirror://here/with%20space".to_owned()] {
        let (result, yard) = flat(&offline, &json!({ "url": url }), sha256(b"local"));
        result.expect("a local file");
        assert_eq!(yard.text(), "local");
    }
    assert!(path.exists());
    assert_eq!(
        std::fs::metadata(&path).expect("still there").mode() & 0o222,
        0o200,
        "the source keeps its mode"
    );
    for bad in ["file:///no/such/file", "file://other.example/x", &format!("file://{}", dir.path().display())]
    {
        assert_eq!(
            failed(&offline, &json!({ "url": bad }), sha256(b"")).kind,
            BuiltinErrorKind::Fetch,
            "{bad}"
        );
    }
}

#[test]
fn case_100_the_hash_is_of_the_bytes_unpacked() {
    // The source changes after it was fetched: what is unpacked is the copy that was hashed.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("a.tar.gz");
    std::fs::write(&path, gzip(&Tar::default().file("p/f", "first").end())).expect("room");
    let attrs = json!({ "url": format!("file://{}", path.display()), "unpack": true });
    let yard = Yard::new().expect(Method::Nar, sha256(b"unknown"));
    let error = yard.run(&FetchUrl::new(fetcher(&[])), &attrs).expect_err("not that hash");
    let got = error.mismatch.expect("both hashes").got;
    let keep = fetcher(&[]);
    let yard = Yard::new().expect(Method::Nar, got);
    yard.run(&FetchUrl::new(Arc::clone(&keep)), &attrs).expect("that hash");
    std::fs::write(&path, gzip(&Tar::default().file("p/f", "second").end())).expect("room");
    let other = Yard::new().expect(Method::Nar, got);
    let error = other.run(&FetchUrl::new(keep), &attrs).expect_err("other bytes have another hash");
    assert_ne!(error.mismatch.expect("both hashes").got, got);
    assert_eq!(nar_hash(&yard.out()), got);
    assert!(!other.out().exists());
}

#[test]
fn case_105_secrets_reach_no_log_and_no_error() {
    let server = Server::start(|_| Answer::status(401));
    let secret = "hunter2";
    let net = ClientConfig { netrc: Netrc::parse("default login a password hunter2"), ..quick() };
    let fetcher = fetcher_with(net, &[("m", vec![server.url("").replace("http://", "http://u:hunter2@")])]);
    let with_user = server.url("/x").replace("http://", "http://u:hunter2@");
    let with_token = format!("{}?access_token=hunter2", server.url("/x"));
    let closed = "http://u:hunter2@127.0.0.1:1/x";
    for url in ["mirror://m/f", &with_user, &with_token, closed, "http://u:hunter2@[bad/"] {
        let (result, yard) = flat(&fetcher, &json!({ "url": url }), sha256(b""));
        let told = format!("{:?} {:?}", result.expect_err("refused"), yard.log.lock().expect("ours"));
        assert!(!told.contains(secret), "{url}: {told}");
        let wants = FetchUrl::new(Arc::clone(&fetcher))
            .wants(&Attributes::from_json(json!({ "url": url }).to_string().as_bytes()).expect("an object"));
        assert!(!format!("{wants:?}").contains(secret), "{wants:?}");
    }
}

#[test]
fn case_108_short_and_long_bodies_never_pass() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/short" => Answer::ok("0123").header("Content-Length", "10"),
        "/long" => Answer::ok("0123456789").header("Content-Length", "4"),
        _ => Answer::status(200).header("Content-Length", "10").body("0123").piece(Piece::Reset),
    });
    for path in ["/short", "/reset"] {
        let error = failed(&fetcher(&[]), &json!({ "url": server.url(path) }), sha256(b"0123"));
        assert_eq!(error.kind, BuiltinErrorKind::Fetch);
        assert!(error.message.contains("of 10 bytes"), "{}", error.message);
        assert_eq!(server.count(path), 3);
    }
    let error = failed(&fetcher(&[]), &json!({ "url": server.url("/long") }), sha256(b"0123456789"));
    assert_eq!(error.kind, BuiltinErrorKind::HashMismatch);
    // A size that the derivation knows ends the transfer.
    let error = failed(&fetcher(&[]), &json!({ "url": server.url("/long"), "size": 3 }), sha256(b"012"));
    assert!(error.message.contains("larger than the limit of 3 bytes"), "{}", error.message);
}

#[test]
fn case_109_a_cut_fetch_goes_on_where_it_was() {
    let body: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let whole = body.clone();
    let server = Server::start(move |asked| {
        let from = asked.range_start().unwrap_or_default();
        let part = &whole[from..];
        let answer = if from == 0 { Answer::status(200) } else { Answer::status(206) };
        let answer = answer
            .header("ETag", "\"v\"")
            .header("Content-Range", format!("bytes {from}-{}/{}", whole.len() - 1, whole.len()))
            .header("Content-Length", part.len().to_string());
        // Cuts three times, each time after some progress.
        if asked.nth < 3 { answer.body(&part[..100_000]).piece(Piece::Reset) } else { answer.body(part) }
    });
    let (result, yard) = flat(&fetcher(&[]), &json!({ "url": server.url("/f") }), sha256(&body));
    result.expect("it ends");
    assert_eq!(std::fs::read(yard.out()).expect("a file"), body);
    let starts: Vec<_> = server.asked().iter().map(|a| a.range_start().unwrap_or_default()).collect();
    assert_eq!(starts, [0, 100_000, 200_000, 300_000]);
    assert!(yard.log.lock().expect("ours").iter().any(|line| line.contains("next try in")));
}

#[test]
fn case_111_a_log_in_page_is_shown_as_what_it_is() {
    let server = Server::start(|_| {
        Answer::ok("<!DOCTYPE html>\n<title>Please log in</title>\x1b[2J").header("Content-Type", "text/html")
    });
    let error = failed(&fetcher(&[]), &json!({ "url": server.url("/pkg.tar.gz") }), sha256(b"pkg"));
    assert_eq!(error.kind, BuiltinErrorKind::HashMismatch);
    for words in [
        format!("specified: {}", sha256(b"pkg").to_sri()).as_str(),
        "       got: sha256-",
        "what came: text/html, 48 bytes, starting with \"<!DOCTYPE html>\\n<title>Please log in</title>\\u{1b}[2J\"",
    ] {
        assert!(error.message.contains(words), "{}", error.message);
    }
    let mismatch = error.mismatch.expect("both hashes");
    assert_eq!(mismatch.specified, sha256(b"pkg"));
}

#[test]
fn case_112_encodings_are_undone_within_limits_if_the_hash_says_so() {
    let bomb = gzip(&vec![0; 80 << 20]);
    let text = gzip(b"plain text");
    let served = [("/bomb", bomb), ("/text", text.clone())];
    let server = Server::start(move |asked| {
        let body = &served.iter().find(|(path, _)| *path == asked.path).expect("a known path").1;
        Answer::ok(body).header("Content-Encoding", "gzip")
    });
    // The file itself, labelled so; and a file that was compressed though nobody asked.
    for expected in [sha256(&text), sha256(b"plain text")] {
        flat(&fetcher(&[]), &json!({ "url": server.url("/text") }), expected).0.expect("either is right");
    }
    let error = failed(&fetcher(&[]), &json!({ "url": server.url("/bomb") }), sha256(b"x"));
    assert_eq!(error.kind, BuiltinErrorKind::HashMismatch);
}

#[test]
fn case_113_offline_asks_nobody_and_names_what_is_missing() {
    let server = Server::start(|_| Answer::ok("x"));
    let offline = fetcher_with(ClientConfig { offline: true, ..quick() }, &[("m", vec![server.url("")])]);
    let builder = FetchUrl::new(Arc::clone(&offline));
    let error = failed(&offline, &json!({ "url": "mirror://m/f" }), sha256(b"x"));
    assert!(error.message.contains("--offline"), "{}", error.message);
    assert_eq!((error.kind, server.asked().len()), (BuiltinErrorKind::Fetch, 0));
    // A plan can name them without trying.
    let wants = |attrs: Value| {
        builder.wants(&Attributes::from_json(attrs.to_string().as_bytes()).expect("an object"))
    };
    let wanted = wants(json!({ "url": "mirror://m/f", "size": 7 }));
    assert_eq!((wanted[0].url.as_str(), wanted[0].size_bytes), ("mirror://m/f", Some(7)));
    assert_eq!(wants(json!({ "url": format!("file://{}", env!("CARGO_MANIFEST_DIR")) })), []);
}

#[test]
fn case_114_the_next_mirror_is_asked_and_both_hashes_are_told() {
    let bad = Server::start(|_| Answer::ok("other bytes"));
    let gone = Server::start(|_| Answer::status(404));
    let good = Server::start(|_| Answer::ok("the bytes"));
    let bases = vec![bad.url("/d"), gone.url("/d"), good.url("/d/")];
    let (result, yard) = flat(
        &fetcher(&[("debian", bases.clone())]),
        &json!({ "url": "mirror://debian/pool/x.deb" }),
        sha256(b"the bytes"),
    );
    result.expect("the third has it");
    assert_eq!(yard.text(), "the bytes");
    let log = yard.log.lock().expect("ours").join("\n");
    for words in [sha256(b"the bytes").to_sri(), sha256(b"other bytes").to_sri(), "404".to_owned()] {
        assert!(log.contains(&words), "{log}");
    }
    assert_eq!(good.asked()[0].path, "/d/pool/x.deb");
    // None of them has it: all are told, and it counts as a mismatch.
    let error = failed(
        &fetcher(&[("debian", bases)]),
        &json!({ "url": "mirror://debian/pool/x.deb" }),
        sha256(b"nobody's"),
    );
    assert_eq!(error.kind, BuiltinErrorKind::HashMismatch);
    assert_eq!(error.message.matches("hash mismatch").count(), 2);
    assert!(error.message.contains("404: not found"));
    assert_eq!(
        failed(&fetcher(&[]), &json!({ "url": "mirror://debian/x" }), sha256(b"")).kind,
        BuiltinErrorKind::Fetch
    );
}

#[test]
fn case_114_also_for_what_is_unpacked() {
    let other = Server::start(|_| Answer::ok(gzip(&Tar::default().file("p/f", "other").end())));
    let evil = Server::start(|_| Answer::ok(gzip(&Tar::default().file("../f", "evil").end())));
    let html = Server::start(|_| Answer::ok("<html>").header("Content-Type", "text/html"));
    let good = Server::start(|_| {
        Answer::ok(xz(&Tar::default().dir("q").file("q/f", "good").symlink("q/l", "f").end()))
    });
    let tree = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(tree.path().join("t")).expect("room");
    std::fs::write(tree.path().join("t/f"), "good").expect("room");
    std::os::unix::fs::symlink("f", tree.path().join("t/l")).expect("room");
    let expected = nar_hash(&tree.path().join("t"));
    let urls: Vec<_> = [&other, &evil, &html, &good].iter().map(|s| s.url("/a.tar")).collect();
    let yard = Yard::new().expect(Method::Nar, expected);
    yard.run(&FetchUrl::new(fetcher(&[])), &json!({ "urls": urls, "unpack": true }))
        .expect("the last one is right");
    assert_eq!(listing(&yard.out()), ["f good", "l -> f"]);
    let log = yard.log.lock().expect("ours").join("\n");
    assert!(
        log.contains("hash mismatch") && log.contains("leads upwards") && log.contains("text/html"),
        "{log}"
    );
    // Nothing but a refused archive: the build's fault, not the network's.
    let yard = Yard::new().expect(Method::Nar, expected);
    let error = yard
        .run(&FetchUrl::new(fetcher(&[])), &json!({ "url": evil.url("/"), "unpack": true }))
        .expect_err("refused");
    assert_eq!(error.kind, BuiltinErrorKind::Build);
    assert!(error.message.contains("entry `../f`"), "{}", error.message);
}

#[test]
fn executables_and_nars() {
    let body = "#!/bin/sh\n";
    let tree = tempfile::tempdir().expect("a temporary directory");
    let path = tree.path().join("x");
    std::fs::write(&path, body).expect("room");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let mut nar = Vec::new();
    let mut writer = ampoule_store::nar::Writer::new(&mut nar).expect("memory does not fail");
    writer.begin_directory().expect("a directory may begin");
    for name in ["a", "b"] {
        writer.entry(name.as_bytes()).expect("names grow");
        writer.begin_directory().expect("a directory may begin");
        writer.entry(b"f").expect("a name");
        writer.file(name == "b", name.as_bytes()).expect("a file");
        writer.end_directory().expect("it is open");
    }
    writer.entry(b"l").expect("names grow");
    writer.symlink(b"a/f").expect("a link");
    writer.end_directory().expect("it is open");
    writer.finish().expect("it is whole");
    let nar_sha256 = sha256(&nar);
    let served = [("/x", body.as_bytes().to_vec()), ("/n.nar.xz", xz(&nar)), ("/n.nar", nar)];
    let server = Server::start(move |asked| {
        Answer::ok(&served.iter().find(|(p, _)| *p == asked.path).expect("known").1)
    });
    let yard = Yard::new().expect(Method::Nar, nar_hash(&path));
    yard.run(&FetchUrl::new(fetcher(&[])), &json!({ "url": server.url("/x"), "executable": true }))
        .expect("right");
    assert_eq!(std::fs::metadata(yard.out()).expect("a file").mode() & 0o777, 0o555);
    for path in ["/n.nar", "/n.nar.xz"] {
        let yard = Yard::new().expect(Method::Nar, nar_sha256);
        yard.run(&FetchUrl::new(fetcher(&[])), &json!({ "url": server.url(path), "unpack": true }))
            .expect("right");
        assert_eq!(listing(&yard.out()), ["a/", "a/f a", "b/", "b/f x b", "l -> a/f"]);
    }
    let yard = Yard::new().expect(Method::Flat, sha256(b""));
    let error = yard
        .run(&FetchUrl::new(fetcher(&[])), &json!({ "url": server.url("/x"), "unpack": true }))
        .expect_err("flat");
    assert!(error.message.contains("recursive"), "{}", error.message);
    let error = Yard::new()
        .run(&FetchUrl::new(fetcher(&[])), &json!({ "url": server.url("/x") }))
        .expect_err("no hash");
    assert!(error.message.contains("outputHash"), "{}", error.message);
    let yard = Yard::new().expect(Method::Flat, sha256(b""));
    let attrs = json!({ "url": server.url("/x"), "curlOptsList": ["-k"] });
    assert!(
        yard.run(&FetchUrl::new(fetcher(&[])), &attrs).expect_err("no curl").message.contains("curlOptsList")
    );
}

#[test]
fn downloads_run_at_once_and_none_twice() {
    let server = Server::start(|asked| {
        let body = asked.path.clone();
        Answer::status(200)
            .header("Content-Length", body.len().to_string())
            .piece(Piece::Pause(Duration::from_millis(200)))
            .body(body)
    });
    let fetcher = fetcher(&[]);
    std::thread::scope(|scope| {
        for n in 0..24 {
            // Eight different files, each wanted by three.
            let (fetcher, path) = (&fetcher, format!("/{}", n % 8));
            let url = server.url(&path);
            scope.spawn(move || {
                let (result, yard) = flat(fetcher, &json!({ "url": url }), sha256(path.as_bytes()));
                result.expect("fetched");
                assert_eq!(yard.text(), path);
                assert_eq!(
                    std::fs::metadata(yard.out()).expect("a file").nlink(),
                    1,
                    "outputs do not share a file"
                );
            });
        }
    });
    assert_eq!(server.asked().len(), 8);
    assert!(server.most_open() >= 5, "only {} at once", server.most_open());
}

#[test]
fn a_full_disk_is_not_the_servers_fault() {
    let yard = Yard::new().expect(Method::Flat, sha256(b"x"));
    let outputs = yard.dir.path().join("outputs");
    let mount = |program: &str, args: &[&str]| {
        std::process::Command::new(program)
            .args(args)
            .arg(&outputs)
            .output()
            .is_ok_and(|o| o.status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=64k", "none"]) {
        println!("skipped: a file system cannot be mounted here");
        return;
    }
    let server = Server::start(|_| Answer::ok("x".repeat(1 << 20)));
    let attrs = json!({ "urls": [server.url("/a"), server.url("/b")] });
    let error = yard.run(&FetchUrl::new(fetcher(&[])), &attrs).expect_err("there is no room");
    assert!(mount("umount", &["-l"]));
    assert_eq!(error.kind, BuiltinErrorKind::Store, "{error}");
    assert!(error.message.contains("cannot write what comes: no space left on device"), "{error}");
    assert_eq!(server.asked().len(), 2, "another might say that it is less; none is asked twice");
}

/// Two archives of one place, unpacked in two ways, are one download; what is refused the second time is fetched anew.
#[test]
fn what_is_unpacked_twice_is_fetched_once() {
    let tar = Tar::default().file("top/f", "x").end();
    let server = Server::start(move |_| Answer::ok(&tar));
    let fetcher = fetcher(&[]);
    let attrs = json!({ "url": server.url("/a.tar"), "unpack": true });
    let yard = Yard::new().expect(Method::Nar, sha256(b"unknown"));
    let error =
        yard.run(&FetchUrl::new(Arc::clone(&fetcher)), &attrs).expect_err("another tree was promised");
    let got = error.mismatch.expect("both hashes").got;
    assert_eq!(server.asked().len(), 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let yard = Yard::new().expect(Method::Nar, got);
                yard.run(&FetchUrl::new(Arc::clone(&fetcher)), &attrs).expect("it is right");
                assert_eq!(listing(&yard.out()), ["f x"]);
            });
        }
    });
    assert_eq!(server.asked().len(), 2, "what was refused is not kept, what was accepted is");
}

/// One place promises more than any disk has; the next one says the truth.
#[test]
fn a_liar_about_sizes_does_not_end_the_search() {
    let liar =
        Server::start(|_| Answer::status(200).header("Content-Length", (1_u64 << 60).to_string()).body("x"));
    let good = Server::start(|_| Answer::ok("the bytes"));
    let attrs = json!({ "urls": [liar.url("/a"), good.url("/a")] });
    let (result, yard) = flat(&fetcher(&[]), &attrs, sha256(b"the bytes"));
    result.expect("the second has it");
    assert_eq!(yard.text(), "the bytes");
}

/// The first place takes the connection and says nothing.
#[test]
fn case_107_a_stalled_place_is_left_for_the_next() {
    let silent = Server::start(|asked| match asked.path.as_str() {
        "/head" => Answer::raw().piece(Piece::Hang),
        _ => Answer::status(200).header("Content-Length", "9").body("the").piece(Piece::Hang),
    });
    let good = Server::start(|_| Answer::ok("the bytes"));
    let net = ClientConfig {
        // The good place has to say something in this time too, on whatever machine.
        head_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_secs(2),
        ..quick()
    };
    for path in ["/head", "/body"] {
        let attrs = json!({ "urls": [silent.url(path), good.url("/a")] });
        let (result, yard) = flat(&fetcher_with(net.clone(), &[]), &attrs, sha256(b"the bytes"));
        result.expect("the second has it");
        assert_eq!(yard.text(), "the bytes");
    }
    assert_eq!(silent.count("/head"), 1);
    // Some of it came: that is worth another try, from where it ended.
    assert!(silent.count("/body") <= 2, "{}", silent.count("/body"));
    assert_eq!(good.asked().len(), 2);
}

/// What a server promises to send and the disk has no room for is not begun.
#[test]
fn what_does_not_fit_is_not_begun() {
    let server =
        Server::start(|_| Answer::status(200).header("Content-Length", (1_u64 << 60).to_string()).body("x"));
    let attrs = json!({ "urls": [server.url("/a"), server.url("/b")] });
    let error = failed(&fetcher(&[]), &attrs, sha256(b"x"));
    assert_eq!(error.kind, BuiltinErrorKind::Store, "{error}");
    assert!(error.message.contains("are announced"), "{error}");
}
