//! Registries for tests: a real one, and those that say what a test wants.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ampoule_image::blobs::BlobCache;
use ampoule_image::project::Image;
use ampoule_image::registry::{PushReport, Registry, RegistrySettings, push};
use ampoule_image::{Digest, ImageError};
use ampoule_loopback::{Answer, Asked, Server};
use ampoule_net::{Client, ClientConfig};

use crate::support::{TestStore, cache, has, small};

/// Answers always alike.
pub type Answers = fn() -> Answer;

/// A `docker-registry` on loopback with its storage in a temporary directory.
pub struct RealRegistry {
    child: Child,
    pub host: String,
    _dir: tempfile::TempDir,
}

impl RealRegistry {
    /// Starts one on a free port. Another program may take the port in between: whoever
    /// answers has to say the word that this registry was given.
    pub fn start(auth: &str) -> Option<Self> {
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

pub fn client() -> Client {
    Client::new(ClientConfig {
        backoff: Duration::from_millis(10),
        max_wait: Duration::from_secs(5),
        ..ClientConfig::default()
    })
}

/// The repository that a reference names.
pub fn registry(name: &str, settings: RegistrySettings) -> Registry {
    Registry::new(client(), settings, name.parse().unwrap()).unwrap()
}

/// The same without settings.
pub fn plain(name: &str) -> Registry {
    registry(name, RegistrySettings::default())
}

/// A real registry with a small image in it, and the cache that the image's layers are in.
pub struct Pushed {
    pub server: RealRegistry,
    /// What the image is called there.
    pub name: String,
    pub image: Image,
    pub cache: BlobCache,
    pub report: PushReport,
    pub dir: tempfile::TempDir,
}

impl Pushed {
    /// Pushes with what `settings` says; nothing where there is no such registry.
    pub fn with(settings: RegistrySettings) -> Option<Self> {
        let server = RealRegistry::start("")?;
        let (dir, cache) = cache();
        let image = image(&cache);
        let name = format!("{}/team/app:v1", server.host);
        let report = push(&registry(&name, settings), &image, &cache, &never).unwrap();
        Some(Self { server, name, image, cache, report, dir })
    }

    pub fn new() -> Option<Self> {
        Self::with(RegistrySettings::default())
    }
}

/// A small image whose layers are in `cache`.
pub fn image(cache: &BlobCache) -> Image {
    let mut store = TestStore::new();
    let asked = small(&mut store);
    store.project(&asked, cache).unwrap()
}

/// Stands where layers would be made that are there already.
pub fn never() -> Result<(), ImageError> {
    panic!("no layer had to be made")
}

/// Settings with the credentials `auth` (base 64 of `user:password`) for `host`, as Docker keeps them.
pub fn write_config(dir: &Path, host: &str, auth: &str) -> RegistrySettings {
    let path = dir.join("config.json");
    std::fs::write(&path, format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    let mut settings = RegistrySettings::default();
    settings.credentials.files = vec![path];
    settings
}

/// How an image on a server is called.
pub fn reference(server: &Server) -> String {
    format!("{}/a/b:x", host(server))
}

/// The address of a server, as references begin with it.
pub fn host(server: &Server) -> String {
    server.url("").trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// Serves one image from memory: its manifest whatever it is called by, and its blobs.
pub fn serving(
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

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn config() -> Vec<u8> {
    let diff = Digest::of(b"layer");
    format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#)
        .into_bytes()
}

pub fn manifest(config: &[u8], layers: &str) -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{layers}]}}"#,
        Digest::of(config),
        config.len()
    )
    .into_bytes()
}

pub fn layer(digest: Digest, size: u64) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#)
}

/// A client that waits for nobody; for servers that never answer.
pub fn hasty() -> Client {
    Client::new(ClientConfig {
        backoff: Duration::from_millis(5),
        max_wait: Duration::from_millis(20),
        head_timeout: Duration::from_millis(400),
        stall_timeout: Duration::from_millis(400),
        ..ClientConfig::default()
    })
}

/// Takes every push, and asks `first` about each request before.
pub fn taking_mounts(first: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Server {
    Server::start(move |asked| {
        first(asked).unwrap_or_else(|| match asked.method.as_str() {
            "HEAD" => Answer::status(404),
            "POST" => Answer::status(202).header("Location", "/v2/a/b/blobs/uploads/1"),
            "GET" => Answer::ok("{}"),
            _ => Answer::status(201),
        })
    })
}
