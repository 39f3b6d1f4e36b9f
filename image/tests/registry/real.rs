//! Against Debian's `docker-registry`, with other programs as readers and writers.

use std::sync::atomic::{AtomicUsize, Ordering};

use ampoule_image::registry::{Attachment, PushedHow, RegistrySettings, attach, pull, pull_layout, push};

use crate::servers::{Pushed, RealRegistry, image, never, plain, registry, write_config};
use crate::support::{self, cache, has, run};

#[test]
fn push_then_push_again_then_another_repository_then_pull() {
    let Some(pushed) = Pushed::new() else { return };
    let Pushed { server, name, image, cache: cache_a, report: first, dir: _dir } = pushed;
    assert!(!first.was_there && first.blobs.iter().all(|b| b.how == PushedHow::Uploaded));
    assert_eq!(first.digest, image.top.digest);

    let again = push(&plain(&name), &image, &cache_a, &never).unwrap();
    assert!(again.was_there && again.blobs.is_empty());

    let other = format!("{}/other/app:v2", server.host);
    let mounted = push(&plain(&other), &image, &cache_a, &never).unwrap();
    let from = PushedHow::Mounted { from: "team/app".to_owned() };
    assert!(mounted.blobs.iter().all(|b| b.how == from), "{:?}", mounted.blobs);

    let (_dir, cache_b) = cache();
    let pinned = format!("{}/team/app@{}", server.host, image.top.digest);
    let out = cache_b.root().join("layout");
    let report = pull_layout(&plain(&pinned), &cache_b, None, &out, true).unwrap();
    assert_eq!(report.digest, image.top.digest);
    if has("skopeo") {
        let theirs = run(
            "skopeo",
            &["inspect", "--tls-verify=false", "--format={{.Digest}}", &format!("docker://{name}")],
        );
        assert_eq!(theirs.trim(), image.top.digest.to_string());
        let dir = cache_b.root().join("by-skopeo");
        run(
            "skopeo",
            &[
                "copy",
                "-q",
                "--src-tls-verify=false",
                &format!("docker://{name}"),
                &format!("dir:{}", dir.display()),
            ],
        );
        run("skopeo", &["inspect", &format!("oci:{}:latest", out.display())]);
    }
}

/// A layout of ours that somebody else pushes is the same image.
#[test]
fn skopeo_pushes_what_we_wrote() {
    let Some(server) = RealRegistry::start("") else { return };
    if !has("skopeo") {
        return;
    }
    let (dir, cache) = cache();
    let image = image(&cache);
    let (layout, archive) = (dir.path().join("layout"), dir.path().join("image.tar"));
    image.write_layout(&cache, &layout).unwrap();
    image.write_archive(&cache, None, &archive).unwrap();
    let sources = [format!("oci:{}:v1", layout.display()), format!("oci-archive:{}:v1", archive.display())];
    for (number, source) in sources.iter().enumerate() {
        let name = format!("{}/by/skopeo:{number}", server.host);
        run("skopeo", &["copy", "-q", "--dest-tls-verify=false", source, &format!("docker://{name}")]);
        let (_dir, fresh) = support::cache();
        let back = pull(&plain(&name), &fresh, None).unwrap();
        assert_eq!(back.top.digest, image.top.digest, "{source}");
        if rustix::process::geteuid().is_root() {
            let at = |name: &str| dir.path().join(name).display().to_string();
            let storage =
                format!("containers-storage:[vfs@{}+{}]localhost/x:{number}", at("storage"), at("run"));
            run("skopeo", &["copy", "-q", source, &storage]);
        }
    }
}

/// What was pushed, read by others than skopeo.
#[test]
fn others_read_what_was_pushed() {
    let Some(Pushed { server: _server, name, image, dir, .. }) = Pushed::new() else { return };
    if has("crane") {
        run("crane", &["validate", "--insecure", "--remote", &name]);
        let digest = run("crane", &["digest", "--insecure", &name]);
        assert_eq!(digest.trim(), image.top.digest.to_string());
        assert!(run("crane", &["config", "--insecure", &name]).contains("\"A=1\""));
    }
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let is_root = rustix::process::geteuid().is_root();
    if has("podman") && is_root {
        let (root, state) = (place("podman"), place("podman-run"));
        let common = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
        run("podman", &[&common[..], &["pull", "-q", "--tls-verify=false", &name]].concat());
        let shown = run("podman", &[&common[..], &["inspect", "--format", "{{.Digest}}", &name]].concat());
        assert_eq!(shown.trim(), image.top.digest.to_string());
    }
    if has("buildah") && is_root {
        let (root, state) = (place("buildah"), place("buildah-run"));
        let common = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
        run("buildah", &[&common[..], &["pull", "-q", "--tls-verify=false", &name]].concat());
    }
}

#[test]
fn chunks_arrive_whole() {
    let settings = RegistrySettings { chunk_bytes: Some(100), ..RegistrySettings::default() };
    let Some(pushed) = Pushed::with(settings) else { return };
    let (_other, fresh) = support::cache();
    let pulled = pull(&plain(&pushed.name), &fresh, None).unwrap();
    assert_eq!(pulled.top.digest, pushed.image.top.digest);
}

#[test]
fn layers_that_are_not_here_are_made_only_if_the_registry_lacks_them() {
    let Some(server) = RealRegistry::start("") else { return };
    let (_dir, cache) = cache();
    let image = image(&cache);
    let layer = image.manifests[0].layers[0].path.clone();
    let kept = std::fs::read(&layer).unwrap();
    let made = AtomicUsize::new(0);
    let make = || {
        made.fetch_add(1, Ordering::Relaxed);
        std::fs::write(&layer, &kept).unwrap();
        Ok(())
    };
    std::fs::remove_file(&layer).unwrap();
    let name = |tag: &str| format!("{}/clean/app:{tag}", server.host);
    push(&plain(&name("a")), &image, &cache, &make).unwrap();
    assert_eq!(made.load(Ordering::Relaxed), 1);
    std::fs::remove_file(&layer).unwrap();
    push(&plain(&name("b")), &image, &cache, &make).unwrap();
    assert_eq!(made.load(Ordering::Relaxed), 1, "the registry has the layer: records suffice");
}

/// `docker-registry` lists no referrers: the tag that stands in for the list is written,
/// once for each document.
#[test]
fn bills_of_materials_are_attached() {
    let Some(Pushed { server, name, image, cache, dir: _dir, .. }) = Pushed::new() else { return };
    let registry = plain(&name);
    let bill =
        |kind, text: &'static [u8]| Attachment { kind, name: "bill.json", bytes: text, annotations: &[] };
    let spdx = bill("application/spdx+json", b"{\"spdxVersion\":\"SPDX-2.3\"}");
    let first = attach(&registry, &cache, &image.top, &spdx).unwrap();
    let other = bill("application/vnd.cyclonedx+json", b"{}");
    let second = attach(&registry, &cache, &image.top, &other).unwrap();
    assert_eq!(attach(&registry, &cache, &image.top, &spdx).unwrap(), first);
    let tag = format!("docker://{}/team/app:sha256-{}", server.host, image.top.digest.to_hex());
    if has("skopeo") {
        let listed = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &tag]);
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let digests: Vec<&str> =
            listed["manifests"].as_array().unwrap().iter().map(|m| m["digest"].as_str().unwrap()).collect();
        assert_eq!(digests, [first.digest.to_string(), second.digest.to_string()]);
        assert_eq!(listed["manifests"][0]["artifactType"], "application/spdx+json");
    }
    if has("oras") {
        let found = run("oras", &["discover", "--plain-http", "--format", "json", &name]);
        assert!(found.contains("application/spdx+json") && found.contains("cyclonedx"), "{found}");
    }
}

#[test]
fn basic_auth_from_dockers_configuration() {
    // htpasswd -nbB joe secret
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("htpasswd");
    if !has("htpasswd") {
        return;
    }
    run("htpasswd", &["-bBc", table.to_str().unwrap(), "joe", "secret"]);
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", table.display());
    let Some(server) = RealRegistry::start(&auth) else { return };
    let (_dir, cache) = cache();
    let image = image(&cache);
    let name = format!("{}/closed/app:v1", server.host);
    let refused = push(&plain(&name), &image, &cache, &never).unwrap_err();
    assert!(refused.to_string().contains("credentials none found in"), "{refused}");
    // base64 of "joe:secret"
    let settings = write_config(dir.path(), &server.host, "am9lOnNlY3JldA==");
    push(&registry(&name, settings), &image, &cache, &never).unwrap();
}
