//! Pulls from registries that lie, cut, stall, or serve what is no image.

use std::path::Path;
use std::time::Duration;

use ampoule_image::Digest;
use ampoule_image::blobs::BlobCache;
use ampoule_image::registry::{Registry, RegistrySettings, open_remote, pull, pull_layout, push};
use ampoule_loopback::{Answer, Asked, Piece, Server};

use crate::servers::{
    Answers, INDEX, MANIFEST, Pushed, RealRegistry, client, config, hasty, host, layer, manifest, never,
    plain, reference, serving,
};
use crate::support::{self, cache};

/// What is left of a pull that failed: nothing that a later one could take for whole.
fn nothing_is_left(cache: &BlobCache, out: &Path) {
    assert!(!out.exists(), "a layout was left");
    for dir in ["tmp", "locations"] {
        let left: Vec<_> = std::fs::read_dir(cache.root().join(dir)).unwrap().collect();
        assert!(left.is_empty(), "{dir}: {left:?}");
    }
    for blob in std::fs::read_dir(cache.root().join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let named = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(
            Digest::of(&std::fs::read(&path).unwrap()).to_hex(),
            named,
            "a blob is not what it is called"
        );
    }
}

fn pull_error(selector: &str, handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> String {
    let server = Server::start(handler);
    let (_dir, cache) = cache();
    let registry = plain(&format!("{}/a/b{selector}", host(&server)));
    match pull(&registry, &cache, None) {
        Ok(_) => panic!("the image was taken"),
        Err(error) => error.to_string(),
    }
}

/// A tag that is moved gives another image, under another digest that is told; a digest gives what it gave before.
#[test]
fn case_116_a_moved_tag_is_told_and_a_digest_stays() {
    let config = config();
    let first = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let second = [first.as_slice(), b"\n"].concat();
    let digests = [Digest::of(&first), Digest::of(&second)];
    let server = Server::start({
        let (by_tag, config) = ([first, second], config.clone());
        move |asked| {
            let tagged =
                serving(by_tag[asked.nth.min(1)].clone(), MANIFEST, vec![config.clone(), b"layer".to_vec()]);
            let named = by_tag.iter().find(|bytes| asked.path.ends_with(&Digest::of(bytes).to_string()));
            match named {
                Some(bytes) => Answer::ok(bytes.clone()).header("Content-Type", MANIFEST),
                None => tagged(asked),
            }
        }
    });
    let (dir, cache) = cache();
    let pulled = |name: &str, out: &str| {
        let registry = plain(name);
        pull_layout(&registry, &cache, None, &dir.path().join(out), false).unwrap().digest
    };
    let tag = reference(&server);
    assert_eq!(
        [pulled(&tag, "one"), pulled(&tag, "two")],
        digests,
        "the tag has moved, and what it leads to is told"
    );
    for (digest, out) in digests.iter().zip(["three", "four"]) {
        assert_eq!(pulled(&format!("{tag}@{digest}"), out), *digest);
    }
}

#[test]
fn case_115_what_is_not_what_was_asked_for_is_refused() {
    let config = config();
    let good = manifest(&config, &layer(Digest::of(b"layer"), 5));
    // The good one first: the others must fail for their own reason.
    {
        let server = Server::start(serving(good.clone(), MANIFEST, vec![config.clone(), b"layer".to_vec()]));
        let (_dir, cache) = cache();
        let registry = plain(&reference(&server));
        pull(&registry, &cache, None).unwrap();
    }
    let blobs = || vec![config.clone(), b"layer".to_vec()];

    let other = Digest::of(b"another manifest");
    let error = pull_error(&format!("@{other}"), serving(good.clone(), MANIFEST, blobs()));
    assert!(error.contains("digest mismatch"), "{error}");

    // A manifest that is an index at once, and one that comes as the other type.
    let both = String::from_utf8(good.clone()).unwrap().replacen('{', r#"{"manifests":[],"#, 1).into_bytes();
    for kind in [MANIFEST, INDEX] {
        let error = pull_error(":x", serving(both.clone(), kind, blobs()));
        assert!(error.contains("at once"), "{error}");
    }
    let error = pull_error(
        ":x",
        serving(good.clone(), "application/vnd.docker.distribution.manifest.v2+json", blobs()),
    );
    assert!(error.contains("calls itself"), "{error}");

    // An index in an index that is not what it is announced as.
    let nested = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{INDEX}","digest":"{}","size":{}}}]}}"#,
        Digest::of(&good),
        good.len()
    );
    let error = pull_error(":x", serving(nested.into_bytes(), INDEX, blobs()));
    assert!(error.contains("digest mismatch"), "{error}");

    // Ten thousand layers.
    let many = vec![layer(Digest::of(b"layer"), 5); 10_000].join(",");
    let error = pull_error(":x", serving(manifest(&config, &many), MANIFEST, blobs()));
    assert!(error.contains("10000 layers"), "{error}");

    // A layer that is longer, or shorter, than its size.
    for size in [4, 6] {
        let lying = manifest(&config, &layer(Digest::of(b"layer"), size));
        let error = pull_error(":x", serving(lying, MANIFEST, blobs()));
        assert!(error.contains("size mismatch"), "{error}");
    }

    // A blob that is served for another digest.
    let wrong = manifest(&config, &layer(Digest::of(b"LAYER"), 5));
    let by_config = config.clone();
    let error = pull_error(":x", move |asked| {
        if asked.path.contains("/blobs/") && !asked.path.contains(&Digest::of(&by_config).to_hex()) {
            return Answer::ok("layer");
        }
        serving(wrong.clone(), MANIFEST, vec![by_config.clone()])(asked)
    });
    assert!(error.contains("digest mismatch"), "{error}");
}

#[test]
fn servers_that_cut_stall_or_flood_are_told_and_leave_nothing() {
    let config = config();
    let document = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let trouble: [(&str, &str, Answers); 6] = [
        ("cut", "blobs/", || Answer::ok("").header("Content-Length", "5").piece(b"la").piece(Piece::Reset)),
        ("silent", "blobs/", || Answer::ok("").header("Content-Length", "5").piece(b"la").piece(Piece::Hang)),
        ("never answers", "manifests/", || Answer::raw().piece(Piece::Hang)),
        ("no HTTP", "manifests/", || Answer::raw().piece(b"SSH-2.0-OpenSSH_9.2\r\n")),
        ("a giant head", "manifests/", || Answer::ok("{}").header("X-Long", "x".repeat(2 << 20))),
        ("a giant manifest", "manifests/", || {
            Answer::ok(vec![b' '; 5 << 20]).header("Content-Type", MANIFEST)
        }),
    ];
    for (what, at, answer) in trouble {
        let whole = serving(document.clone(), MANIFEST, vec![config.clone(), b"layer".to_vec()]);
        let of_layer = Digest::of(b"layer").to_hex();
        let server = Server::start(move |asked| {
            let is_it = asked.path.contains(at) && (at != "blobs/" || asked.path.contains(&of_layer));
            if is_it { answer() } else { whole(asked) }
        });
        let (dir, cache) = cache();
        let reference = reference(&server).parse().unwrap();
        let registry = Registry::new(hasty(), RegistrySettings::default(), reference).unwrap();
        let out = dir.path().join("out");
        let start = std::time::Instant::now();
        let error = pull_layout(&registry, &cache, None, &out, true).unwrap_err().to_string();
        assert!(error.starts_with("cannot pull"), "{what}: {error}");
        assert!(error.len() < 2000, "{what}: {error}");
        assert!(start.elapsed() < Duration::from_secs(60), "{what} took {:?}", start.elapsed());
        // The configuration came before the layer, and is whole.
        if at == "manifests/" {
            nothing_is_left(&cache, &out);
        } else {
            let _ = std::fs::remove_dir_all(cache.root().join("locations"));
            std::fs::create_dir(cache.root().join("locations")).unwrap();
            nothing_is_left(&cache, &out);
        }
    }
}

/// What passes is waited for, in pulls as in pushes.
#[test]
fn a_pull_waits_through_what_passes() {
    let config = config();
    let document = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let whole = serving(document, MANIFEST, vec![config, b"layer".to_vec()]);
    let server = Server::start(move |asked| match asked.nth {
        _ if asked.path == "/v2/" => whole(asked),
        0 => Answer::status(503),
        1 => Answer::status(429).header("Retry-After", "0"),
        2 if asked.path.contains("/blobs/") => {
            Answer::ok("").header("Content-Length", "5").piece(b"la").piece(Piece::Reset)
        }
        _ => whole(asked),
    });
    let (_dir, cache) = cache();
    let registry = Registry::new(client(), RegistrySettings::default(), reference(&server).parse().unwrap());
    pull(&registry.unwrap(), &cache, None).unwrap();
}

#[test]
fn documents_of_other_kinds_are_named() {
    for (kind, words) in [
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", "first format"),
        ("application/vnd.docker.distribution.manifest.v1+json", "first format"),
        ("text/html", "`text/html` is not the type of an image"),
        ("", "without a type"),
    ] {
        let error = pull_error(":x", serving(b"{}".to_vec(), kind, Vec::new()));
        assert!(error.contains(words), "{kind}: {error}");
    }
    let foreign = r#"{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":5,"urls":["http://127.0.0.1:9/layer"]}"#;
    let error = pull_error(":x", serving(manifest(&config(), foreign), MANIFEST, vec![config()]));
    assert!(error.contains("kept elsewhere"), "{error}");
}

/// An attestation beside the image, as `docker buildx` pushes it, is pulled and pushed on.
#[test]
fn what_an_index_names_beside_images_goes_along() {
    let (config, statement) = (config(), b"{}".to_vec());
    let image = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let beside =
        manifest(&config, &layer(Digest::of(&statement), 2).replace("image.layer.v1.tar", "in-toto"));
    let of = |bytes: &[u8], architecture: &str| {
        let (digest, size) = (Digest::of(bytes), bytes.len());
        format!(
            r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size},"platform":{{"architecture":"{architecture}","os":"linux"}}}}"#
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{},{}]}}"#,
        of(&image, "amd64"),
        of(&beside, "unknown")
    )
    .into_bytes();
    let top = Digest::of(&index);
    let all = [image, beside, index.clone()];
    let blobs = serving(Vec::new(), MANIFEST, vec![config, statement.clone(), b"layer".to_vec()]);
    let server = Server::start(move |asked| {
        let wanted = asked.path.rsplit('/').next().unwrap_or_default();
        match all.iter().find(|document| Digest::of(document).to_string() == wanted) {
            _ if !asked.path.contains("/manifests/") => blobs(asked),
            Some(document) => Answer::ok(document).header("Content-Type", MANIFEST),
            None => Answer::ok(&index).header("Content-Type", INDEX),
        }
    });
    let (dir, cache) = cache();
    let registry = |server: &Server| plain(&reference(server));
    let out = dir.path().join("out");
    pull_layout(&registry(&server), &cache, None, &out, true).unwrap();
    let opened = ampoule_image::open::open(&out, None).unwrap();
    assert_eq!((opened.image.manifests.len(), opened.image.companions.len()), (1, 1));
    let whole = opened.into_cache(&cache).unwrap();
    assert_eq!(whole.top.digest, top);
    if let Some(real) = RealRegistry::start("") {
        let name = format!("{}/a/b:x", real.host);
        push(&plain(&name), &whole, &cache, &never).unwrap();
        let (_dir, fresh) = support::cache();
        let back = pull(&plain(&name), &fresh, None).unwrap();
        assert_eq!(back.top.digest, top);
        assert!(fresh.has(&Digest::of(&statement), 2));
    }
}

/// An index of indexes is pulled whole or for one platform, looked at, and pushed on.
#[test]
fn indexes_within_indexes_are_followed() {
    let config = config();
    let image = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let of = |bytes: &[u8], kind: &str, more: &str| {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}{more}}}"#, Digest::of(bytes), bytes.len())
    };
    let index = |member: String| format!(r#"{{"schemaVersion":2,"manifests":[{member}]}}"#).into_bytes();
    let platform = r#","platform":{"architecture":"amd64","os":"linux"}"#;
    let inner = index(of(&image, MANIFEST, platform));
    let outer = index(of(&inner, INDEX, ""));
    let top = Digest::of(&outer);
    let documents = [(image, MANIFEST), (inner.clone(), INDEX), (outer.clone(), INDEX)];
    let blobs = serving(Vec::new(), MANIFEST, vec![config, b"layer".to_vec()]);
    let server = Server::start(move |asked| {
        let wanted = asked.path.rsplit('/').next().unwrap_or_default();
        let found = documents.iter().find(|(bytes, _)| Digest::of(bytes).to_string() == wanted);
        match found.or(documents.last()) {
            Some((bytes, kind)) if asked.path.contains("/manifests/") => {
                Answer::ok(bytes).header("Content-Type", *kind)
            }
            _ => blobs(asked),
        }
    });
    let name = reference(&server);
    let (dir, cache) = cache();
    let amd64 = ampoule_image::oci::Platform::parse("linux/amd64").unwrap();
    let one = pull(&plain(&name), &cache, Some(&amd64)).unwrap();
    assert_eq!(one.manifests.len(), 1);
    let opened = open_remote(plain(&name), &cache).unwrap();
    assert_eq!(opened.image.manifests.len(), 1);
    let out = dir.path().join("out");
    pull_layout(&plain(&name), &cache, None, &out, true).unwrap();
    let whole = ampoule_image::open::open(&out, None).unwrap().into_cache(&cache).unwrap();
    assert_eq!((whole.top.digest, whole.companions.len()), (top, 1));
    if let Some(real) = RealRegistry::start("") {
        let name = format!("{}/a/b:x", real.host);
        push(&plain(&name), &whole, &cache, &never).unwrap();
        let (_dir, fresh) = support::cache();
        let back = pull(&plain(&name), &fresh, None).unwrap();
        assert_eq!(back.top.digest, top);
        assert!(fresh.has(&Digest::of(&inner), inner.len() as u64));
    }
}

/// Looking at an image in a registry does not fetch its layers; reading one does.
#[test]
fn an_image_is_opened_where_it_is() {
    let Some(Pushed { server: _server, name, image, .. }) = Pushed::new() else { return };
    let (_dir, fresh) = support::cache();
    let opened = open_remote(plain(&name), &fresh).unwrap();
    assert_eq!(opened.image.top.digest, image.top.digest);
    let layers = &opened.image.manifests[0].layers;
    let here = || layers.iter().filter(|l| fresh.has(&l.blob.digest, l.blob.size_bytes)).count();
    assert_eq!(here(), 0);
    ampoule_image::rootfs::read(&opened, &opened.image.manifests[0]).unwrap();
    assert_eq!(here(), layers.len());
}
