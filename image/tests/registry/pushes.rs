//! Pushes to registries that misbehave, or know less than the specification.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ampoule_image::Digest;
use ampoule_image::registry::{Attachment, PushedHow, RegistrySettings, attach, push};
use ampoule_loopback::{Answer, Asked, Piece, Server};

use crate::servers::{
    INDEX, host, image, layer, never, plain, reference, registry, taking_mounts, write_config,
};
use crate::support::cache;

/// A registry for pushes: remembers uploads, and fails as `trouble` says.
fn taking(trouble: impl Fn(&Asked, usize) -> Option<Answer> + Send + Sync + 'static) -> Server {
    use std::sync::Mutex;
    let taken: Mutex<Vec<u8>> = Mutex::default();
    let count = AtomicUsize::new(0);
    Server::start(move |asked| {
        let digest = |path: &str| path.split("digest=").nth(1).map(|d| d.replace("%3A", ":"));
        let mut taken = taken.lock().unwrap();
        match asked.method.as_str() {
            "GET" if asked.path == "/v2/" => Answer::ok("{}"),
            "HEAD" => Answer::status(404),
            "POST" => {
                taken.clear();
                Answer::status(202).header("Location", "/v2/a/b/blobs/uploads/1?state=x")
            }
            "GET" => {
                let end = taken.len().saturating_sub(1);
                Answer::status(204)
                    .header("Range", format!("0-{end}"))
                    .header("Location", "/v2/a/b/blobs/uploads/1?state=y")
            }
            "PATCH" => {
                if let Some(answer) = trouble(asked, count.fetch_add(1, Ordering::Relaxed)) {
                    // What came before the trouble is kept: half of it.
                    taken.extend_from_slice(&asked.body[..asked.body.len() / 2]);
                    return answer;
                }
                let start: usize =
                    asked.header("content-range").unwrap().split('-').next().unwrap().parse().unwrap();
                if start != taken.len() {
                    return Answer::status(416);
                }
                taken.extend_from_slice(&asked.body);
                Answer::status(202)
                    .header("Range", format!("0-{}", taken.len() - 1))
                    .header("Location", "/v2/a/b/blobs/uploads/1?state=z")
            }
            "PUT" if asked.path.contains("/blobs/") => {
                if taken.is_empty()
                    && let Some(answer) = trouble(asked, count.fetch_add(1, Ordering::Relaxed))
                {
                    return answer;
                }
                taken.extend_from_slice(&asked.body);
                let whole = Digest::of(&taken).to_string();
                taken.clear();
                if Some(whole) == digest(&asked.path) { Answer::status(201) } else { Answer::status(400) }
            }
            "PUT" => Answer::status(201),
            _ => Answer::status(405),
        }
    })
}

fn push_to(server: &Server, chunk: Option<u64>) -> Result<(), String> {
    let (_dir, cache) = cache();
    let image = image(&cache);
    // One blob at a time: the server keeps one upload.
    let settings = RegistrySettings {
        chunk_bytes: chunk,
        parallel: std::num::NonZeroUsize::new(1),
        ..RegistrySettings::default()
    };
    let registry = registry(&reference(server), settings);
    push(&registry, &image, &cache, &never).map(drop).map_err(|e| e.to_string())
}

#[test]
fn an_upload_that_is_cut_goes_on_where_it_was() {
    for chunk in [None, Some(64)] {
        let server = taking(|_, n| (n == 1).then(|| Answer::raw().piece(Piece::Reset)));
        push_to(&server, chunk).unwrap();
    }
}

#[test]
fn waits_as_told_and_gives_up_in_the_end() {
    let busy = |_: &Asked, n: usize| (n == 0).then(|| Answer::status(429).header("Retry-After", "1"));
    let server = taking(busy);
    let start = std::time::Instant::now();
    push_to(&server, Some(64)).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After was not kept");
    let error = push_to(&taking(|_, n| (n < 2).then(|| Answer::status(503))), None);
    error.unwrap();
    let error = push_to(&taking(|_, _| Some(Answer::status(500))), None).unwrap_err();
    assert!(error.contains("500"), "{error}");
    let error = push_to(&taking(|_, _| Some(Answer::status(403))), None).unwrap_err();
    assert!(error.contains("403"), "{error}");
    // An hour is not waited for; a date that has passed is no wait.
    let hour = |_: &Asked, _| Some(Answer::status(503).header("Retry-After", "3600"));
    let error = push_to(&taking(hour), None).unwrap_err();
    assert!(error.contains("it asks to wait"), "{error}");
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    push_to(&taking(move |_, n| (n == 0).then(|| Answer::status(503).header("Retry-After", date))), None)
        .unwrap();
}

/// Registries that take bytes and never have them, or forget them, are given up.
#[test]
fn an_upload_that_gets_nowhere_ends() {
    let nothing = |asked: &Asked| {
        let upload = "/v2/a/b/blobs/uploads/1";
        match asked.method.as_str() {
            "PATCH" => Some(Answer::status(202).header("Location", upload).header("Range", "0-0")),
            "GET" if asked.path == upload => {
                Some(Answer::status(204).header("Location", upload).header("Range", "0-0"))
            }
            _ => None,
        }
    };
    let forgetful = |asked: &Asked| match asked.method.as_str() {
        "PATCH" if asked.header("content-range").is_some_and(|range| range.starts_with("0-")) => {
            Some(Answer::status(202).header("Location", "/v2/a/b/blobs/uploads/1").header("Range", "0-63"))
        }
        "PATCH" => Some(Answer::status(500)),
        "GET" if asked.path != "/v2/" => Some(Answer::status(404)),
        _ => None,
    };
    for first in [nothing as fn(&Asked) -> Option<Answer>, forgetful] {
        let server = taking_mounts(first);
        assert!(push_to(&server, Some(64)).is_err());
        assert!(server.asked().len() < 200, "{}", server.asked().len());
    }
}

/// A registry that takes no small pieces says so when an upload begins.
#[test]
fn pieces_are_as_large_as_the_registry_wants() {
    let server = taking_mounts(|asked| {
        let upload = "/v2/a/b/blobs/uploads/1";
        let begun = || Answer::status(202).header("Location", upload);
        match asked.method.as_str() {
            "POST" => Some(begun().header("OCI-Chunk-Min-Length", "300")),
            "PATCH" => {
                let range = asked.header("content-range").unwrap().to_owned();
                Some(begun().header("Range", range))
            }
            _ => None,
        }
    });
    push_to(&server, Some(64)).unwrap();
    let pieces: Vec<usize> =
        server.asked().iter().filter(|asked| asked.method == "PATCH").map(|asked| asked.body.len()).collect();
    // Only the last one may be smaller: it comes after one that is as large as it has to be.
    assert!(pieces.contains(&300), "{pieces:?}");
    assert!(pieces.windows(2).all(|two| two[0] >= 300 || two[1] >= 300), "{pieces:?}");
}

/// By its own digest an image is pushed without a tag; another one's is an error.
#[test]
fn a_push_to_a_digest_is_of_that_image() {
    let (_dir, cache) = cache();
    let image = image(&cache);
    let server = taking_mounts(|_| None);
    let to = |selector: &str| {
        let registry = plain(&format!("{}/a/b{selector}", host(&server)));
        push(&registry, &image, &cache, &never)
    };
    let own = image.top.digest;
    let pinned = format!("{}/a/b@{own}", host(&server));
    assert_eq!(to(&format!("@{own}")).unwrap().reference, pinned);
    assert_eq!(to(&format!(":v2@{own}")).unwrap().pinned, pinned);
    let manifests: Vec<String> = server
        .asked()
        .iter()
        .filter(|asked| asked.method == "PUT" && asked.path.contains("/manifests/"))
        .map(|asked| asked.path.rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(manifests, [own.to_string(), "v2".to_owned()]);
    let count = server.asked().len();
    let other = to(&format!("@{}", Digest::of(b"other"))).unwrap_err().to_string();
    assert!(other.contains("the image is `sha256:") && other.contains(", not `"), "{other}");
    assert!(!server.asked()[count..].iter().any(|asked| asked.method == "PUT"));
}

/// Uploads go where the registry says, without our credentials if that is somewhere else.
#[test]
fn upload_addresses_are_looked_at() {
    let (_dir, cache) = cache();
    let image = image(&cache);
    let to = |location: Option<String>| {
        let server = Server::start(move |asked| match (asked.method.as_str(), &location) {
            ("HEAD", _) => Answer::status(404),
            ("POST", Some(to)) => Answer::status(202).header("Location", to),
            ("POST", None) => Answer::status(202),
            _ => Answer::ok("{}"),
        });
        let registry = plain(&reference(&server));
        push(&registry, &image, &cache, &never).unwrap_err().to_string()
    };
    assert!(to(None).contains("does not say at which address"), "{}", to(None));
    assert!(to(Some("ftp://127.0.0.1/x".to_owned())).contains("scheme `ftp`"));

    let other = Server::start(|_| Answer::status(201));
    let elsewhere = other.url("/upload");
    let server = Server::start(move |asked| match asked.method.as_str() {
        _ if asked.header("authorization").is_none() => {
            Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")
        }
        "HEAD" => Answer::status(404),
        "POST" => Answer::status(202).header("Location", &elsewhere),
        _ => Answer::status(201),
    });
    let dir = tempfile::tempdir().unwrap();
    let settings = write_config(dir.path(), &host(&server), "am9lOnNlY3JldA==");
    push(&registry(&reference(&server), settings), &image, &cache, &never).unwrap();
    let asked = other.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.header("authorization").is_none()));
}

/// A mount that the registry turns down becomes an upload.
#[test]
fn a_mount_that_is_refused_is_an_upload() {
    let mounts = std::sync::Arc::new(AtomicUsize::new(0));
    let count = mounts.clone();
    let server = taking_mounts(move |asked| {
        let is_mount = asked.method == "POST" && asked.path.contains("mount=");
        if is_mount {
            count.fetch_add(1, Ordering::Relaxed);
        }
        is_mount.then(|| Answer::status(403))
    });
    let (_dir, cache) = cache();
    let image = image(&cache);
    for blob in image.blobs(&cache).unwrap() {
        cache.note_location(&blob.digest, &host(&server), "closed/app");
    }
    let settings =
        RegistrySettings { parallel: std::num::NonZeroUsize::new(1), ..RegistrySettings::default() };
    let report = push(&registry(&reference(&server), settings), &image, &cache, &never).unwrap();
    assert!(mounts.load(Ordering::Relaxed) > 0);
    assert!(report.blobs.iter().all(|blob| blob.how == PushedHow::Uploaded), "{:?}", report.blobs);
}

/// So does one that our token does not cover, and a registry without HEAD gets everything.
#[test]
fn registries_that_know_less_are_pushed_to() {
    let server = taking_mounts(|asked| {
        if asked.method == "HEAD" {
            return Some(Answer::status(405));
        }
        if asked.path.contains("mount=") {
            return Some(Answer::status(401).header("WWW-Authenticate", "Basic realm=\"r\""));
        }
        asked
            .path
            .contains("/manifests/")
            .then(|| Answer::status(if asked.method == "GET" { 404 } else { 201 }))
    });
    let (_dir, cache) = cache();
    let image = image(&cache);
    for blob in image.blobs(&cache).unwrap() {
        cache.note_location(&blob.digest, &host(&server), "closed/app");
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = write_config(dir.path(), &host(&server), "am9lOnNlY3JldA==");
    let name = reference(&server);
    let report = push(&registry(&name, settings), &image, &cache, &never).unwrap();
    assert!(report.blobs.iter().all(|blob| blob.how == PushedHow::Uploaded), "{:?}", report.blobs);
    assert!(server.asked().iter().any(|asked| asked.path.contains("mount=")));

    // One that takes no OCI manifests is told of with what helps.
    let server = taking_mounts(|asked| {
        let refused = asked.method == "PUT" && asked.path.contains("/manifests/");
        refused.then(|| Answer::status(415).body(r#"{"errors":[{"code":"MANIFEST_INVALID"}]}"#))
    });
    let name = reference(&server);
    let error = push(&plain(&name), &image, &cache, &never).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("MANIFEST_INVALID") && error.contains("format = \"docker\""), "{error}");
}

/// A registry that knows of referrers says so, and wants no list by tag.
#[test]
fn a_registry_that_lists_referrers_gets_no_tag() {
    let server = Server::start(|asked| match asked.method.as_str() {
        "HEAD" => Answer::status(200),
        "PUT" => Answer::status(201).header("OCI-Subject", "sha256:whatever"),
        _ => Answer::ok("{}"),
    });
    let (_dir, cache) = cache();
    let image = image(&cache);
    let registry = plain(&reference(&server));
    let words = [("in-toto.io/predicate-type", "https://slsa.dev/provenance/v1")];
    let document = Attachment {
        kind: "application/vnd.in-toto+json",
        name: "p.json",
        bytes: b"{}",
        annotations: &words,
    };
    let attached = attach(&registry, &cache, &image.top, &document).unwrap();
    let asked = server.asked();
    let puts: Vec<&Asked> = asked.iter().filter(|asked| asked.method == "PUT").collect();
    assert_eq!(puts.len(), 1);
    let manifest: serde_json::Value = serde_json::from_slice(&puts[0].body).unwrap();
    assert_eq!(manifest["subject"]["digest"], image.top.digest.to_string());
    assert_eq!(manifest["annotations"][words[0].0], words[0].1);
    assert_eq!(Digest::of(&puts[0].body), attached.digest);
}

/// A registry without list of referrers that leaves digests away: what others attached stays.
#[test]
fn attachments_of_others_are_kept() {
    let (_dir, cache) = cache();
    let image = image(&cache);
    let theirs = layer(Digest::of(b"theirs"), 6).replace("image.layer.v1.tar", "image.manifest.v1+json");
    let listed = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{theirs}]}}"#);
    let tag = format!("manifests/sha256-{}", image.top.digest.to_hex());
    let list = tag.clone();
    let server = taking_mounts(move |asked| {
        let is_list = asked.path.ends_with(&list) && asked.method != "PUT";
        is_list.then(|| Answer::ok(&listed).header("Content-Type", INDEX))
    });
    let to = plain(&reference(&server));
    let attachment = Attachment { kind: "application/x", name: "x", bytes: b"x", annotations: &[] };
    attach(&to, &cache, &image.top, &attachment).unwrap();
    let asked = server.asked();
    let put = asked.iter().find(|asked| asked.method == "PUT" && asked.path.ends_with(&tag)).unwrap();
    let put = String::from_utf8(put.body.clone()).unwrap();
    assert!(put.contains(&Digest::of(b"theirs").to_string()) && put.contains("application/x"), "{put}");
}
