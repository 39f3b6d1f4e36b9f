//! The store and its binary caches, as the command line and the configuration name them.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ampoule_net::{Body, Cancel, Client, ClientConfig, Method, NetError, Request, StatusCode};
use ampoule_store::cache::{FileTransport, Substituters, Transport, Watch};
use ampoule_store::{
    GcOptions, PublicKey, Store, StoreDir, StoreError, StoreResult, StoreRoot, StoreSettings, TrustedKeys,
};

use crate::args::GlobalArgs;
use crate::config::Config;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::HashMismatch { .. } | StoreError::SizeMismatch { .. } => ExitStatus::HashMismatch,
            StoreError::Transport { .. } => ExitStatus::Fetch,
            StoreError::Signature(_) => ExitStatus::Policy,
            StoreError::Path(_) | StoreError::Hash(_) | StoreError::Address(_) => ExitStatus::Usage,
            _ => ExitStatus::Evaluation,
        };
        let is_full = error.is_disk_full();
        let told = Self::new(status, error.to_string());
        match &error {
            _ if is_full => told.hint("make room: `ampoule store gc` works on a full disk"),
            StoreError::Damaged { .. } => told.hint("run `ampoule store verify --repair`"),
            StoreError::Path(_) => told.hint("name a store path, or a link to one such as `result`"),
            StoreError::Unsafe { .. } => told.hint(
                "name another place for the store: `--store DIR`, AMPOULE_STORE_DIR, or `store.dir` in the configuration",
            ),
            StoreError::StillAlive { .. } => told.hint("look at `ampoule store roots`"),
            _ => told,
        }
    }
}

/// Opens the store that the flags, the environment or the configuration name.
///
/// # Errors
/// As [`Store::open`].
pub fn open(config: &Config) -> Result<Store, CliError> {
    let root = match config.text("store.dir") {
        Some(dir) => StoreRoot::new(dir),
        None => StoreRoot::default_for_user()?,
    };
    let store_dir = match config.text("store.logical-dir") {
        Some(dir) => Some(StoreDir::new(dir).map_err(StoreError::from)?),
        None => None,
    };
    Ok(Store::open(&root, StoreSettings { store_dir, ..StoreSettings::default() })?)
}

/// Opens the store for a command that needs nothing else of the configuration.
///
/// # Errors
/// If the configuration is wrong, and as [`open`].
pub fn open_for(global: &GlobalArgs) -> Result<Store, CliError> {
    open(&global.config()?)
}

/// The keys that are believed.
///
/// # Errors
/// If one is not a key.
pub fn trusted_keys(config: &Config) -> Result<TrustedKeys, CliError> {
    let keys: StoreResult<Vec<_>> =
        config.list("store.trusted-keys").iter().map(|k| PublicKey::parse(k)).collect();
    Ok(TrustedKeys::new(keys?))
}

/// The binary caches that are asked before something is built; offline those in directories.
///
/// # Errors
/// If an address or a key is wrong.
pub fn substituters(config: &Config, offline: bool, cancel: &Cancel) -> Result<Substituters, CliError> {
    let offline = offline || config.bool("fetch.offline");
    // A cache in a directory is not the network.
    let is_asked = |url: &&String| !offline || !url.starts_with("http");
    let urls = config.list("store.substituters").iter().filter(is_asked);
    // Whoever waits for a cache could build meanwhile.
    let net = ClientConfig {
        connect_timeout: Duration::from_secs(5),
        head_timeout: Duration::from_secs(20),
        max_attempts: 3,
        ..ClientConfig::from_env()
    };
    let transports: Result<Vec<_>, _> = urls.map(|url| open_transport(url, &net, cancel)).collect();
    Ok(Substituters::new(transports?, trusted_keys(config)?))
}

/// Collects garbage if the store is larger than `store.max-size` says. For the end of a command.
///
/// # Errors
/// Those of the collection.
pub fn keep_below_quota(store: &Store, config: &Config, ui: &Ui) -> Result<(), CliError> {
    let limit = config.number("store.max-size");
    if limit == 0 {
        return Ok(());
    }
    crate::images::forget_results(store)?;
    let report = store.gc(&GcOptions { max_size_bytes: Some(limit), ..GcOptions::default() })?;
    if !report.dead.is_empty() {
        ui.detail(&format!("the store was above its quota: {} objects went", report.dead.len()));
    }
    Ok(())
}

/// Opens what lies behind an address: `file://DIR`, a directory, `http://…`, `https://…`.
///
/// # Errors
/// If it is none of these.
pub fn transport(url: &str) -> Result<Arc<dyn Transport>, CliError> {
    open_transport(url, &ClientConfig::from_env(), &Cancel::default())
}

fn open_transport(url: &str, net: &ClientConfig, cancel: &Cancel) -> Result<Arc<dyn Transport>, CliError> {
    if let Some(dir) = url.strip_prefix("file://") {
        return Ok(Arc::new(FileTransport::new(dir)));
    }
    if url.starts_with("http://") || url.starts_with("https://") {
        if url.contains(['?', '#']) {
            let shown = ampoule_net::shown_text(url);
            return Err(CliError::usage(format!("`{shown}`: a binary cache is named without `?` and `#`")));
        }
        return Ok(Arc::new(HttpTransport {
            base: url.trim_end_matches('/').to_owned(),
            url: ampoule_net::shown_text(url).trim_end_matches('/').to_owned(),
            client: Client::new(net.clone()),
            cancel: cancel.clone(),
        }));
    }
    if url.starts_with('/') || url.starts_with('.') {
        let dir = std::path::absolute(url).map_err(|e| CliError::usage(format!("`{url}`: {e}")))?;
        return Ok(Arc::new(FileTransport::new(dir)));
    }
    Err(CliError::usage(format!("`{url}` is not a binary cache"))
        .hint("name one by file:///some/dir, https://host/path or http://host/path"))
}

/// A binary cache behind a web server.
struct HttpTransport {
    /// What file names are put behind. It may have a password.
    base: String,
    /// The same for people.
    url: String,
    client: Client,
    cancel: Cancel,
}

impl HttpTransport {
    fn address(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    fn failed(&self, name: &str, error: &NetError) -> StoreError {
        // The address stands before it already.
        let text = error.to_string();
        let problem = text.strip_prefix(&format!("`{}`: ", error.url)).unwrap_or(&text);
        StoreError::Transport { url: format!("{}/{name}", self.url), problem: problem.to_owned() }
    }
}

/// Whether an answer says that there is no such file. Some object stores say 403 for that.
fn is_missing(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN)
}

impl Transport for HttpTransport {
    fn url(&self) -> &str {
        &self.url
    }

    fn get(&self, name: &str) -> StoreResult<Option<Box<dyn Read + Send>>> {
        let failed = |e: NetError| self.failed(name, &e);
        let request = Request::get(&self.address(name)).map_err(failed)?.cancel(self.cancel.clone());
        let mut response = if name == "nix-cache-info" {
            // The first question: a cache that cannot be reached at all is not waited for.
            match self.client.send(&request.clone().without_retries()) {
                Err(error) => return Err(failed(error)),
                Ok(response) if response.status().is_server_error() => self.client.send(&request),
                response => response,
            }
        } else {
            self.client.send(&request)
        }
        .map_err(failed)?;
        if is_missing(response.status()) {
            return Ok(None);
        }
        response = response.error_for_status().map_err(failed)?;
        Ok(Some(Box::new(response)))
    }

    /// Into a file first, so that it goes on where it was cut.
    fn get_watched<'w>(
        &self,
        name: &str,
        limit_bytes: u64,
        watch: &'w dyn Watch,
    ) -> StoreResult<Option<Box<dyn Read + Send + 'w>>> {
        let failed = |e: NetError| self.failed(name, &e);
        let request = Request::get(&self.address(name)).map_err(failed)?.cancel(self.cancel.clone());
        let file = tempfile::tempfile()
            .map_err(|e| StoreError::Other(format!("cannot make a temporary file: {e}")))?;
        let mut sink = FileSink { file, done_bytes: 0, total_bytes: None, watch };
        let download = ampoule_net::Download {
            request,
            limit_bytes: Some(limit_bytes),
            unannounced_limit_bytes: None,
            max_fruitless: None,
        };
        match self.client.download(&download, &mut sink) {
            Ok(_) => {}
            Err(error) if error.status().is_some_and(is_missing) => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        std::io::Seek::rewind(&mut sink.file).map_err(|e| StoreError::Other(e.to_string()))?;
        Ok(Some(Box::new(sink.file)))
    }

    fn has(&self, name: &str) -> StoreResult<bool> {
        let failed = |e: NetError| self.failed(name, &e);
        let request = Request::head(&self.address(name)).map_err(failed)?;
        let response = self.client.send(&request).map_err(failed)?;
        if is_missing(response.status()) {
            return Ok(false);
        }
        response.error_for_status().map(|_| true).map_err(failed)
    }

    fn put(&self, name: &str, from: &Path, content_type: &str) -> StoreResult<()> {
        let failed = |e: NetError| self.failed(name, &e);
        let body = Body::file(from).map_err(|e| StoreError::Other(format!("{}: {e}", from.display())))?;
        let request = Request::new(Method::PUT, &self.address(name))
            .map_err(failed)?
            .header(ampoule_net::header::CONTENT_TYPE, content_type)
            .body(body);
        self.client.send(&request).and_then(|r| r.error_for_status()).map(drop).map_err(failed)
    }
}

struct FileSink<'w> {
    file: std::fs::File,
    done_bytes: u64,
    total_bytes: Option<u64>,
    watch: &'w dyn Watch,
}

impl ampoule_net::Sink for FileSink<'_> {
    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::Write::write_all(&mut self.file, bytes)?;
        self.done_bytes += bytes.len() as u64;
        self.watch.progress(self.done_bytes, self.total_bytes);
        Ok(())
    }

    fn start_over(&mut self) -> std::io::Result<()> {
        self.done_bytes = 0;
        self.file.set_len(0)?;
        std::io::Seek::rewind(&mut self.file)
    }

    fn announced(&mut self, size_bytes: u64) {
        self.total_bytes = Some(size_bytes);
    }
}
