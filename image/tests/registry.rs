//! Against Debian's `docker-registry`, and against servers that misbehave.

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ampoule_image::blobs::BlobCache;
use ampoule_image::project::Image;
use ampoule_image::registry::{
    Attachment, PushedHow, Registry, RegistrySettings, attach, open_remote, pull, pull_layout, push,
};
use ampoule_image::{Digest, ImageError};
use ampoule_loopback::{Answer, Asked, Piece, Server};
use ampoule_net::{Client, ClientConfig};
use support::{TestStore, cache, has, run, small};

/// A `docker-registry` on loopback with its storage in a temporary directory.
struct RealRegistry {
    child: Child,
    host: String,
    _dir: tempfile::TempDir,
}

impl RealRegistry {
    /// Starts one on a free port. Another program may take the port in between: whoever
    /// answers has to say the word that this registry was given.
    fn start(auth: &str) -> Option<Self> {
        has("docker-registry").then(|| {
            (0..20).find_map(|_| Self::try_start(auth)).expect("docker-registry gets a port and listens")
        })
    }

    fn try_start(auth: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = dir.path().join("config.yml");
        let word = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}', headers: {{X-Test: ['{word}']}}}}\n{auth}",
            dir.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut registry = Self { child, host: format!("127.0.0.1:{port}"), _dir: dir };
        let url = format!("http://{}/v2/", registry.host);
        let name = ampoule_net::header::HeaderName::from_static("x-test");
        for _ in 0..600 {
            let request = ampoule_net::Request::get(&url).unwrap().without_retries();
            match client().send(&request) {
                Ok(answer) if answer.header(name.clone()) == Some(&word) => return Some(registry),
                // Somebody else's port.
                Ok(_) => return None,
                Err(_) if registry.child.try_wait().unwrap().is_some() => return None,
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        panic!("docker-registry does not listen");
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client() -> Client {
    Client::new(ClientConfig {
        backoff: Duration::from_millis(10),
        max_wait: Duration::from_secs(5),
        ..ClientConfig::default()
    })
}

fn registry(name: &str, settings: RegistrySettings) -> Registry {
    Registry::new(client(), settings, name.parse().unwrap()).unwrap()
}

fn image(cache: &BlobCache) -> Image {
    let mut store = TestStore::new();
    let asked = small(&mut store);
    store.project(&asked, cache).unwrap()
}

fn never() -> Result<(), ImageError> {
    panic!("no layer had to be made")
}

#[test]
fn push_then_push_again_then_another_repository_then_pull() {
    let Some(server) = RealRegistry::start("") else { return };
    let (_dir, cache_a) = cache();
    let image = image(&cache_a);
    let name = format!("{}/team/app:v1", server.host);
    let first = push(&registry(&name, RegistrySettings::default()), &image, &cache_a, &never).unwrap();
    assert!(!first.was_there && first.blobs.iter().all(|b| b.how == PushedHow::Uploaded));
    assert_eq!(first.digest, image.top.digest);

    let again = push(&registry(&name, RegistrySettings::default()), &image, &cache_a, &never).unwrap();
    assert!(again.was_there && again.blobs.is_empty());

    let other = format!("{}/other/app:v2", server.host);
    let mounted = push(&registry(&other, RegistrySettings::default()), &image, &cache_a, &never).unwrap();
    let from = PushedHow::Mounted { from: "team/app".to_owned() };
    assert!(mounted.blobs.iter().all(|b| b.how == from), "{:?}", mounted.blobs);

    let (_dir, cache_b) = cache();
    let pinned = format!("{}/team/app@{}", server.host, image.top.digest);
    let out = cache_b.root().join("layout");
    let report =
        pull_layout(&registry(&pinned, RegistrySettings::default()), &cache_b, None, &out, true).unwrap();
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
        let back = pull(&registry(&name, RegistrySettings::default()), &fresh, None).unwrap();
        assert_eq!(back.top.digest, image.top.digest, "{source}");
        if rustix::process::geteuid().is_root() {
            let at = |name: &str| dir.path().join(name).display().to_string();
            let storage =
                format!("containers-storage:[vfs@{}+{}]localhost/x:{number}", at("storage"), at("run"));
            run("skopeo", &["copy", "-q", source, &storage]);
        }
    }
}

/// A registry that knows of referrers says so, and wants no list by tag.
#[test]
fn a_registry_that_lists_referrers_gets_no_tag() {
    let server = fake(|asked| match asked.method.as_str() {
        "HEAD" => Answer::status(200),
        "PUT" => Answer::status(201).header("OCI-Subject", "sha256:whatever"),
        _ => Answer::ok("{}"),
    });
    let (_dir, cache) = cache();
    let image = image(&cache);
    let registry = registry(&format!("{}/a/b:x", host(&server)), RegistrySettings::default());
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

/// `docker-registry` lists no referrers: the tag that stands in for the list is written,
/// once for each document.
#[test]
fn bills_of_materials_are_attached() {
    let Some(server) = RealRegistry::start("") else { return };
    let (_dir, cache) = cache();
    let image = image(&cache);
    let name = format!("{}/team/app:v1", server.host);
    let registry = registry(&name, RegistrySettings::default());
    push(&registry, &image, &cache, &never).unwrap();
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

/// What was pushed, read by others than skopeo.
#[test]
fn others_read_what_was_pushed() {
    let Some(server) = RealRegistry::start("") else { return };
    let (dir, cache) = cache();
    let image = image(&cache);
    let name = format!("{}/team/app:v1", server.host);
    push(&registry(&name, RegistrySettings::default()), &image, &cache, &never).unwrap();
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
    let Some(server) = RealRegistry::start("") else { return };
    let (_dir, cache) = cache();
    let image = image(&cache);
    let settings = RegistrySettings { chunk_bytes: Some(100), ..RegistrySettings::default() };
    let name = format!("{}/chunked/app:v1", server.host);
    push(&registry(&name, settings), &image, &cache, &never).unwrap();
    let (_other, fresh) = support::cache();
    let pulled = pull(&registry(&name, RegistrySettings::default()), &fresh, None).unwrap();
    assert_eq!(pulled.top.digest, image.top.digest);
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
    push(&registry(&name("a"), RegistrySettings::default()), &image, &cache, &make).unwrap();
    assert_eq!(made.load(Ordering::Relaxed), 1);
    std::fs::remove_file(&layer).unwrap();
    push(&registry(&name("b"), RegistrySettings::default()), &image, &cache, &make).unwrap();
    assert_eq!(made.load(Ordering::Relaxed), 1, "the registry has the layer: records suffice");
}

fn write_config(dir: &Path, host: &str, auth: &str) -> RegistrySettings {
    let path = dir.join("config.json");
    std::fs::write(&path, format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    let mut settings = RegistrySettings::default();
    settings.credentials.files = vec![path];
    settings
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
    let refused = push(&registry(&name, RegistrySettings::default()), &image, &cache, &never).unwrap_err();
    assert!(refused.to_string().contains("credentials none found in"), "{refused}");
    // base64 of "joe:secret"
    let settings = write_config(dir.path(), &server.host, "am9lOnNlY3JldA==");
    push(&registry(&name, settings), &image, &cache, &never).unwrap();
}

/// A registry that keeps nothing but says what a test wants.
fn fake(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(handler)
}

fn host(server: &Server) -> String {
    server.url("").trim_start_matches("http://").trim_end_matches('/').to_owned()
}

#[test]
fn tokens_are_fetched_from_the_realm_and_sent_to_the_registry() {
    let token_server = fake(|asked| {
        let good = asked.header("authorization") == Some("Basic am9lOnNlY3JldA==")
            && asked.path.contains("scope=repository%3Aa%2Fb%3Apull%2Cpush")
            && asked.path.contains("service=reg");
        if good { Answer::ok(r#"{"token":"t0ken"}"#) } else { Answer::status(401) }
    });
    let realm = token_server.url("/token");
    let server = fake(move |asked| {
        if asked.header("authorization") != Some("Bearer t0ken") {
            let ask = format!(r#"Bearer realm="{realm}",service="reg",scope="repository:a/b:pull,push""#);
            return Answer::status(401).header("WWW-Authenticate", &ask);
        }
        Answer::status(404)
    });
    let dir = tempfile::tempdir().unwrap();
    let settings = write_config(dir.path(), &host(&server), "am9lOnNlY3JldA==");
    let registry = registry(&format!("{}/a/b:x", host(&server)), settings);
    let (_dir, cache) = cache();
    let error = pull(&registry, &cache, None).err().expect("there is no such image");
    assert!(error.to_string().contains("404"), "{error}");
    assert!(!error.to_string().contains("secret") && !error.to_string().contains("t0ken"));
}

/// Serves one image from memory, with `change` applied to each answer.
fn serving(
    manifest: Vec<u8>,
    media_type: &'static str,
    blobs: Vec<Vec<u8>>,
) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    move |asked| {
        if asked.path.contains("/manifests/") {
            return Answer::ok(manifest.clone()).header("Content-Type", media_type);
        }
        let wanted = asked.path.rsplit('/').next().unwrap_or_default();
        match blobs.iter().find(|blob| Digest::of(blob).to_string() == wanted) {
            Some(blob) => Answer::ok(blob.clone()),
            None if asked.path == "/v2/" => Answer::ok("{}"),
            None => Answer::status(404),
        }
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn config() -> Vec<u8> {
    let diff = Digest::of(b"layer");
    format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#)
        .into_bytes()
}

fn manifest(config: &[u8], layers: &str) -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{layers}]}}"#,
        Digest::of(config),
        config.len()
    )
    .into_bytes()
}

fn layer(digest: Digest, size: u64) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#)
}

fn pull_error(selector: &str, handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> String {
    let server = fake(handler);
    let (_dir, cache) = cache();
    let registry = registry(&format!("{}/a/b{selector}", host(&server)), RegistrySettings::default());
    match pull(&registry, &cache, None) {
        Ok(_) => panic!("the image was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn case_115_what_is_not_what_was_asked_for_is_refused() {
    let config = config();
    let good = manifest(&config, &layer(Digest::of(b"layer"), 5));
    // The good one first: the others must fail for their own reason.
    {
        let server = fake(serving(good.clone(), MANIFEST, vec![config.clone(), b"layer".to_vec()]));
        let (_dir, cache) = cache();
        let registry = registry(&format!("{}/a/b:x", host(&server)), RegistrySettings::default());
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
fn case_104_no_credentials_for_a_redirects_other_host() {
    let other = fake(|_| Answer::ok("layer"));
    let elsewhere = other.url("/blob");
    let config = config();
    let document = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let server = fake(move |asked| {
        if asked.header("authorization").is_none() {
            return Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if asked.path.contains(&Digest::of(b"layer").to_hex()) {
            return Answer::status(307).header("Location", &elsewhere);
        }
        serving(document.clone(), MANIFEST, vec![config.clone()])(asked)
    });
    let dir = tempfile::tempdir().unwrap();
    let settings = write_config(dir.path(), &host(&server), "am9lOnNlY3JldA==");
    let (_dir, cache) = cache();
    pull(&registry(&format!("{}/a/b:x", host(&server)), settings), &cache, None).unwrap();
    let asked = other.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].header("authorization").is_none(), "credentials went to another host");
}

/// A registry for pushes: remembers uploads, and fails as `trouble` says.
fn taking(trouble: impl Fn(&Asked, usize) -> Option<Answer> + Send + Sync + 'static) -> Server {
    use std::sync::Mutex;
    let taken: Mutex<Vec<u8>> = Mutex::default();
    let count = AtomicUsize::new(0);
    fake(move |asked| {
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
    let registry = registry(&format!("{}/a/b:x", host(server)), settings);
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

#[test]
fn http_is_for_loopback_and_for_named_hosts_only() {
    // 192.0.2.1 is for documents: nothing answers there, and nothing is to be asked in http.
    let offline = Client::new(ClientConfig { offline: true, ..ClientConfig::default() });
    let reference = "192.0.2.1:5000/a/b".parse().unwrap();
    let registry = Registry::new(offline, RegistrySettings::default(), reference).unwrap();
    let (_dir, cache) = cache();
    let error = pull(&registry, &cache, None).err().unwrap().to_string();
    assert!(error.contains("https://192.0.2.1"), "{error}");
}

/// Answers always alike.
type Answers = fn() -> Answer;

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

fn hasty() -> Client {
    Client::new(ClientConfig {
        backoff: Duration::from_millis(5),
        max_wait: Duration::from_millis(20),
        head_timeout: Duration::from_millis(400),
        stall_timeout: Duration::from_millis(400),
        ..ClientConfig::default()
    })
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
        let server = fake(move |asked| {
            let is_it = asked.path.contains(at) && (at != "blobs/" || asked.path.contains(&of_layer));
            if is_it { answer() } else { whole(asked) }
        });
        let (dir, cache) = cache();
        let reference = format!("{}/a/b:x", host(&server)).parse().unwrap();
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
    let server = fake(move |asked| {
        let wanted = asked.path.rsplit('/').next().unwrap_or_default();
        match all.iter().find(|document| Digest::of(document).to_string() == wanted) {
            _ if !asked.path.contains("/manifests/") => blobs(asked),
            Some(document) => Answer::ok(document).header("Content-Type", MANIFEST),
            None => Answer::ok(&index).header("Content-Type", INDEX),
        }
    });
    let (dir, cache) = cache();
    let registry =
        |server: &Server| registry(&format!("{}/a/b:x", host(server)), RegistrySettings::default());
    let out = dir.path().join("out");
    pull_layout(&registry(&server), &cache, None, &out, true).unwrap();
    let opened = ampoule_image::open::open(&out, None).unwrap();
    assert_eq!((opened.image.manifests.len(), opened.image.companions.len()), (1, 1));
    let whole = opened.into_cache(&cache).unwrap();
    assert_eq!(whole.top.digest, top);
    if let Some(real) = RealRegistry::start("") {
        let name = format!("{}/a/b:x", real.host);
        push(&self::registry(&name, RegistrySettings::default()), &whole, &cache, &never).unwrap();
        let (_dir, fresh) = support::cache();
        let back = pull(&self::registry(&name, RegistrySettings::default()), &fresh, None).unwrap();
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
    let server = fake(move |asked| {
        let wanted = asked.path.rsplit('/').next().unwrap_or_default();
        let found = documents.iter().find(|(bytes, _)| Digest::of(bytes).to_string() == wanted);
        match found.or(documents.last()) {
            Some((bytes, kind)) if asked.path.contains("/manifests/") => {
                Answer::ok(bytes).header("Content-Type", *kind)
            }
            _ => blobs(asked),
        }
    });
    let name = format!("{}/a/b:x", host(&server));
    let (dir, cache) = cache();
    let amd64 = ampoule_image::oci::Platform::parse("linux/amd64").unwrap();
    let one = pull(&registry(&name, RegistrySettings::default()), &cache, Some(&amd64)).unwrap();
    assert_eq!(one.manifests.len(), 1);
    let opened = open_remote(registry(&name, RegistrySettings::default()), &cache).unwrap();
    assert_eq!(opened.image.manifests.len(), 1);
    let out = dir.path().join("out");
    pull_layout(&registry(&name, RegistrySettings::default()), &cache, None, &out, true).unwrap();
    let whole = ampoule_image::open::open(&out, None).unwrap().into_cache(&cache).unwrap();
    assert_eq!((whole.top.digest, whole.companions.len()), (top, 1));
    if let Some(real) = RealRegistry::start("") {
        let name = format!("{}/a/b:x", real.host);
        push(&registry(&name, RegistrySettings::default()), &whole, &cache, &never).unwrap();
        let (_dir, fresh) = support::cache();
        let back = pull(&registry(&name, RegistrySettings::default()), &fresh, None).unwrap();
        assert_eq!(back.top.digest, top);
        assert!(fresh.has(&Digest::of(&inner), inner.len() as u64));
    }
}

/// Looking at an image in a registry does not fetch its layers; reading one does.
#[test]
fn an_image_is_opened_where_it_is() {
    let Some(server) = RealRegistry::start("") else { return };
    let (_dir, ours) = cache();
    let image = image(&ours);
    let name = format!("{}/team/app:v1", server.host);
    push(&registry(&name, RegistrySettings::default()), &image, &ours, &never).unwrap();
    let (_dir, fresh) = support::cache();
    let opened = open_remote(registry(&name, RegistrySettings::default()), &fresh).unwrap();
    assert_eq!(opened.image.top.digest, image.top.digest);
    let layers = &opened.image.manifests[0].layers;
    let here = || layers.iter().filter(|l| fresh.has(&l.blob.digest, l.blob.size_bytes)).count();
    assert_eq!(here(), 0);
    ampoule_image::rootfs::read(&opened, &opened.image.manifests[0]).unwrap();
    assert_eq!(here(), layers.len());
}

#[test]
fn who_never_lets_us_in_is_not_asked_forever() {
    let tokens = fake(|_| Answer::ok(r#"{"token":"t"}"#));
    let realm = tokens.url("/token");
    let server = fake(move |_| {
        Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s""#))
    });
    let (_dir, cache) = cache();
    let registry = registry(&format!("{}/a/b:x", host(&server)), RegistrySettings::default());
    let error = pull(&registry, &cache, None).err().unwrap().to_string();
    assert!(error.contains("does not take our credentials"), "{error}");
    assert!(server.asked().len() <= 4 && tokens.asked().len() <= 2);

    // A token server that asks for a token, that answers nonsense, and that sends in a circle.
    let answers: [(&str, Answers); 3] = [
        ("token server does not take", || Answer::status(401)),
        ("has no token", || Answer::ok("<html>")),
        ("redirect", || Answer::redirect(302, "/token")),
    ];
    for (words, answer) in answers {
        let tokens = fake(move |_| answer());
        let realm = tokens.url("/token");
        let server = fake(move |_| {
            Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#))
        });
        let registry = self::registry(&format!("{}/a/b:x", host(&server)), RegistrySettings::default());
        let error = pull(&registry, &cache, None).err().unwrap().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn passwords_go_to_no_server_without_tls_and_to_no_other_scheme() {
    let dir = tempfile::tempdir().unwrap();
    for realm in [
        "ftp://127.0.0.1/token",
        "file:///etc/passwd",
        "http://192.0.2.1/token",
        "javascript:x",
        "/token",
        "",
    ] {
        let server = fake(move |_| {
            Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s""#))
        });
        for settings in
            [RegistrySettings::default(), write_config(dir.path(), &host(&server), "am9lOnNlY3JldA==")]
        {
            let (_dir, cache) = cache();
            let registry = registry(&format!("{}/a/b:x", host(&server)), settings);
            let error = pull(&registry, &cache, None).err().unwrap().to_string();
            let told = ["without TLS", "is reached by", "token server", "asks who we are"];
            assert!(told.iter().any(|words| error.contains(words)), "{realm}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
    // A registry with TLS that names a token server without.
    let tokens = fake(|_| Answer::ok(r#"{"token":"t"}"#));
    let realm = tokens.url("/token");
    let (server, pem) = Server::start_tls(move |_| {
        Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#))
    });
    let client =
        Client::new(ClientConfig { extra_roots_pem: vec![pem.into_bytes()], ..ClientConfig::default() });
    let name = server.url("").trim_start_matches("https://").trim_end_matches('/').to_owned();
    let settings = write_config(dir.path(), &name, "am9lOnNlY3JldA==");
    let (_dir, cache) = cache();
    let registry = Registry::new(client, settings, format!("{name}/a/b:x").parse().unwrap()).unwrap();
    let error = pull(&registry, &cache, None).err().unwrap().to_string();
    assert!(error.contains("without TLS"), "{error}");
    assert!(tokens.asked().is_empty());
}

/// A refresh token is the body of a request, which a redirect would take along.
#[test]
fn an_identity_token_follows_no_redirect() {
    let other = fake(|_| Answer::ok(r#"{"token":"t"}"#));
    let elsewhere = other.url("/token");
    let tokens = fake(move |_| Answer::redirect(307, &elsewhere));
    let realm = tokens.url("/token");
    let server = fake(move |_| {
        Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s""#))
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::fs::write(&path, format!(r#"{{"auths":{{"{}":{{"identitytoken":"s3cret"}}}}}}"#, host(&server)))
        .unwrap();
    let mut settings = RegistrySettings::default();
    settings.credentials.files = vec![path];
    let (_dir, cache) = cache();
    let registry = registry(&format!("{}/a/b:x", host(&server)), settings);
    let error = pull(&registry, &cache, None).err().unwrap().to_string();
    assert!(!error.contains("s3cret"), "{error}");
    assert_eq!(tokens.asked()[0].method, "POST");
    assert!(other.asked().is_empty(), "the token went to another host");
}

/// Uploads go where the registry says, without our credentials if that is somewhere else.
#[test]
fn upload_addresses_are_looked_at() {
    let (_dir, cache) = cache();
    let image = image(&cache);
    let to = |location: Option<String>| {
        let server = fake(move |asked| match (asked.method.as_str(), &location) {
            ("HEAD", _) => Answer::status(404),
            ("POST", Some(to)) => Answer::status(202).header("Location", to),
            ("POST", None) => Answer::status(202),
            _ => Answer::ok("{}"),
        });
        let registry = registry(&format!("{}/a/b:x", host(&server)), RegistrySettings::default());
        push(&registry, &image, &cache, &never).unwrap_err().to_string()
    };
    assert!(to(None).contains("does not say at which address"), "{}", to(None));
    assert!(to(Some("ftp://127.0.0.1/x".to_owned())).contains("scheme `ftp`"));

    let other = fake(|_| Answer::status(201));
    let elsewhere = other.url("/upload");
    let server = fake(move |asked| match asked.method.as_str() {
        _ if asked.header("authorization").is_none() => {
            Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")
        }
        "HEAD" => Answer::status(404),
        "POST" => Answer::status(202).header("Location", &elsewhere),
        _ => Answer::status(201),
    });
    let dir = tempfile::tempdir().unwrap();
    let settings = write_config(dir.path(), &host(&server), "am9lOnNlY3JldA==");
    push(&registry(&format!("{}/a/b:x", host(&server)), settings), &image, &cache, &never).unwrap();
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
    let report =
        push(&registry(&format!("{}/a/b:x", host(&server)), settings), &image, &cache, &never).unwrap();
    assert!(mounts.load(Ordering::Relaxed) > 0);
    assert!(report.blobs.iter().all(|blob| blob.how == PushedHow::Uploaded), "{:?}", report.blobs);
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

/// A token that runs out while blobs go up is renewed, and the bytes are sent again.
#[test]
fn a_token_that_runs_out_in_a_push_is_renewed() {
    let given = std::sync::Arc::new(AtomicUsize::new(0));
    let count = given.clone();
    let tokens = fake(move |_| {
        Answer::ok(format!(
            r#"{{"access_token":"t{}","expires_in":60}}"#,
            count.fetch_add(1, Ordering::Relaxed)
        ))
    });
    let realm = tokens.url("/token");
    let server = taking_mounts(move |asked| {
        let token = asked.header("authorization").unwrap_or_default();
        // The first token is good until the first body comes.
        let good = token.starts_with("Bearer t") && (asked.method != "PUT" || token != "Bearer t0");
        let ask = format!(r#"Bearer realm="{realm}",service="s",scope="repository:a/b:pull,push""#);
        (!good).then(|| Answer::status(401).header("WWW-Authenticate", ask))
    });
    let (_dir, cache) = cache();
    let image = image(&cache);
    let settings =
        RegistrySettings { parallel: std::num::NonZeroUsize::new(1), ..RegistrySettings::default() };
    let name = format!("{}/a/b:x", host(&server));
    let report = push(&registry(&name, settings), &image, &cache, &never).unwrap();
    assert_eq!(given.load(Ordering::Relaxed), 2);
    let asked = server.asked();
    let bodies: Vec<usize> = asked
        .iter()
        .filter(|asked| asked.method == "PUT" && asked.header("authorization") == Some("Bearer t1"))
        .map(|asked| asked.body.len())
        .collect();
    assert_eq!(bodies.len(), report.blobs.len() + 1, "every blob and the manifest: {bodies:?}");
    assert!(bodies.iter().all(|&len| len > 0));
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
    let name = format!("{}/a/b:x", host(&server));
    let report = push(&registry(&name, settings), &image, &cache, &never).unwrap();
    assert!(report.blobs.iter().all(|blob| blob.how == PushedHow::Uploaded), "{:?}", report.blobs);
    assert!(server.asked().iter().any(|asked| asked.path.contains("mount=")));

    // One that takes no OCI manifests is told of with what helps.
    let server = taking_mounts(|asked| {
        let refused = asked.method == "PUT" && asked.path.contains("/manifests/");
        refused.then(|| Answer::status(415).body(r#"{"errors":[{"code":"MANIFEST_INVALID"}]}"#))
    });
    let name = format!("{}/a/b:x", host(&server));
    let error = push(&registry(&name, RegistrySettings::default()), &image, &cache, &never).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("MANIFEST_INVALID") && error.contains("format = \"docker\""), "{error}");
}

/// A registry with a certificate of its own making, which asks for ours.
#[test]
fn certificates_are_found_by_host() {
    let (certificate, key) = ampoule_loopback::certificate();
    let config = config();
    let document = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let whole = serving(document, MANIFEST, vec![config, b"layer".to_vec()]);
    let (server, root) = Server::start_mutual_tls(&certificate, whole);
    let host = server.url("").trim_start_matches("https://").to_owned();
    let dir = tempfile::tempdir().unwrap();
    let of_host = dir.path().join(&host);
    let settings = || RegistrySettings {
        certificates: vec![dir.path().join("nothing"), dir.path().to_owned()],
        ..RegistrySettings::default()
    };
    let try_it = || -> Result<(), ImageError> {
        let (_dir, cache) = cache();
        let registry = Registry::new(hasty(), settings(), format!("{host}/a/b:x").parse().unwrap())?;
        pull(&registry, &cache, None).map(drop)
    };
    let refused = |words: &str| {
        let error = try_it().expect_err(words).to_string();
        assert!(error.contains(words), "expected `{words}` in: {error}");
    };
    refused("certificate");
    std::fs::create_dir(&of_host).unwrap();
    std::fs::write(of_host.join("ca.crt"), root).unwrap();
    assert!(try_it().is_err(), "it lets us in without a certificate of ours");
    std::fs::write(of_host.join("client.cert"), &certificate).unwrap();
    refused("has no key");
    std::fs::write(of_host.join("client.key"), "s3cret").unwrap();
    refused("not in PEM form");
    assert!(!try_it().unwrap_err().to_string().contains("s3cret"));
    std::fs::write(of_host.join("client.key"), key).unwrap();
    try_it().unwrap();
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
    let to = registry(&format!("{}/a/b:x", host(&server)), RegistrySettings::default());
    let attachment = Attachment { kind: "application/x", name: "x", bytes: b"x", annotations: &[] };
    attach(&to, &cache, &image.top, &attachment).unwrap();
    let asked = server.asked();
    let put = asked.iter().find(|asked| asked.method == "PUT" && asked.path.ends_with(&tag)).unwrap();
    let put = String::from_utf8(put.body.clone()).unwrap();
    assert!(put.contains(&Digest::of(b"theirs").to_string()) && put.contains("application/x"), "{put}");
}

/// As [`taking`], with requests answered by `first` before.
fn taking_mounts(first: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Server {
    fake(move |asked| {
        first(asked).unwrap_or_else(|| match asked.method.as_str() {
            "HEAD" => Answer::status(404),
            "POST" => Answer::status(202).header("Location", "/v2/a/b/blobs/uploads/1"),
            "GET" => Answer::ok("{}"),
            _ => Answer::status(201),
        })
    })
}

/// What passes is waited for, in pulls as in pushes.
#[test]
fn a_pull_waits_through_what_passes() {
    let config = config();
    let document = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let whole = serving(document, MANIFEST, vec![config, b"layer".to_vec()]);
    let server = fake(move |asked| match asked.nth {
        _ if asked.path == "/v2/" => whole(asked),
        0 => Answer::status(503),
        1 => Answer::status(429).header("Retry-After", "0"),
        2 if asked.path.contains("/blobs/") => {
            Answer::ok("").header("Content-Length", "5").piece(b"la").piece(Piece::Reset)
        }
        _ => whole(asked),
    });
    let (_dir, cache) = cache();
    let registry = Registry::new(
        hasty(),
        RegistrySettings::default(),
        format!("{}/a/b:x", host(&server)).parse().unwrap(),
    );
    pull(&registry.unwrap(), &cache, None).unwrap();
}

/// A token that runs out between the manifest and a layer is renewed.
#[test]
fn a_token_that_runs_out_is_renewed() {
    let given = std::sync::Arc::new(AtomicUsize::new(0));
    let count = given.clone();
    let tokens = fake(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Answer::ok(format!(r#"{{"token":"t{number}"}}"#))
    });
    let realm = tokens.url("/token");
    let config = config();
    let document = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let whole = serving(document, MANIFEST, vec![config, b"layer".to_vec()]);
    let of_layer = Digest::of(b"layer").to_hex();
    let server = fake(move |asked| {
        // The second token is the first that layers take.
        let wanted = if asked.path.contains(&of_layer) { "Bearer t1" } else { "Bearer t" };
        if asked.header("authorization").is_some_and(|token| token.starts_with(wanted)) {
            return whole(asked);
        }
        Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s""#))
    });
    let (_dir, cache) = cache();
    let registry = registry(&format!("{}/a/b:x", host(&server)), RegistrySettings::default());
    pull(&registry, &cache, None).unwrap();
    assert_eq!(given.load(Ordering::Relaxed), 2);
}
