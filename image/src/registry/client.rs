//! One registry and one repository: requests with the right credentials.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use ampoule_net::header::{ACCEPT, CONTENT_TYPE, HeaderName, LOCATION, WWW_AUTHENTICATE};
use ampoule_net::{
    Body, Client, Credentials, Method, NetError, NetErrorKind, Request, Response, Secret, StatusCode, Url,
};
use serde::Deserialize;

use crate::base;
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::oci::media;
use crate::registry::auth::Challenge;
use crate::registry::certificates;
use crate::registry::docker_config::{Credential, CredentialSources};
use crate::registry::reference::Reference;

/// How registries are spoken to.
#[derive(Clone, Default)]
pub struct RegistrySettings {
    /// Where credentials are looked for.
    pub credentials: CredentialSources,
    /// Folders of certificates by host, the first that has the host wins.
    pub certificates: Vec<PathBuf>,
    /// Hosts (with their ports) for which http is allowed, beside loopback.
    pub plain_http: BTreeSet<String>,
    /// How many blobs are on their way at once.
    pub parallel: Option<std::num::NonZeroUsize>,
    /// Blobs larger than this go in chunks.
    pub chunk_bytes: Option<u64>,
}

/// A manifest is never larger: the specification lets registries refuse more.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// The kinds of manifests that we read, in the order in which we like them.
const ACCEPTED: [&str; 4] = [media::INDEX, media::MANIFEST, media::DOCKER_INDEX, media::DOCKER_MANIFEST];

/// A repository of a registry.
pub struct Registry {
    client: Client,
    settings: RegistrySettings,
    /// The host and the repository.
    pub reference: Reference,
    base: Url,
    state: Mutex<AuthState>,
}

#[derive(Default)]
struct AuthState {
    /// What is sent at once, since it was asked for before.
    ready: Option<Credentials>,
    /// When that was.
    since: Option<std::time::Instant>,
    /// Who we are, once it was looked up.
    credential: Option<Option<Credential>>,
}

/// What a manifest came as.
pub(crate) struct FetchedManifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
}

impl Registry {
    /// Connects to nothing yet, but finds out how it would.
    ///
    /// # Errors
    /// [`ImageError::Registry`] if the host does not answer in any allowed way,
    /// [`ImageError::Io`] for certificates that cannot be read.
    pub fn new(client: Client, settings: RegistrySettings, reference: Reference) -> Result<Self> {
        let client = certificates::client_for(client, &settings.certificates, &reference.host)?;
        let host = reference.api_host();
        let plain = reference.is_loopback() || settings.plain_http.contains(host);
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/v2/"))
                .map_err(|e| fail(&reference, format!("`{host}`: {e}")))
        };
        let base = if plain && speaks_http(&client, &url("http")?) { url("http")? } else { url("https")? };
        Ok(Self { client, settings, reference, base, state: Mutex::default() })
    }

    /// The settings it was made with.
    pub(crate) fn settings(&self) -> &RegistrySettings {
        &self.settings
    }

    /// Returns the URL of something in the repository.
    pub(crate) fn url(&self, below: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = below.split_once('?').map_or((below, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("/v2/{}/{path}", self.reference.repository));
        url.set_query(query);
        url
    }

    /// Whether a URL is the registry itself, which alone gets our credentials.
    fn is_own(&self, url: &Url) -> bool {
        (url.scheme(), url.host_str(), url.port_or_known_default())
            == (self.base.scheme(), self.base.host_str(), self.base.port_or_known_default())
    }

    /// Sends a request; on 401 does what the registry asks for and sends it again.
    ///
    /// # Errors
    /// [`ImageError::Registry`] if nothing answers or nobody lets us in.
    pub(crate) fn send(&self, doing: &str, request: &Request) -> Result<Response> {
        self.try_send(doing, request)?.map_err(|e| error(doing, &e))
    }

    /// The same, with a failed transfer told apart.
    pub(crate) fn try_send(
        &self,
        doing: &str,
        request: &Request,
    ) -> Result<std::result::Result<Response, NetError>> {
        let own = self.is_own(request.url());
        let ready = if own { self.state().ready.clone() } else { None };
        let first = match self.client.send(&request.clone().without_netrc().credentials(ready)) {
            Ok(first) => first,
            Err(e) => return Ok(Err(e)),
        };
        if first.status() != StatusCode::UNAUTHORIZED || !own || !self.is_own(first.url()) {
            return Ok(Ok(first));
        }
        let challenges: Vec<Challenge> = first
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|line| Challenge::parse(line.to_str().ok()?))
            .collect();
        drop(first);
        let credentials = self.answer(doing, &challenges)?;
        {
            let mut state = self.state();
            state.ready = Some(credentials.clone());
            state.since = Some(std::time::Instant::now());
        }
        let again = match self.client.send(&request.clone().without_netrc().credentials(Some(credentials))) {
            Ok(again) => again,
            Err(e) => return Ok(Err(e)),
        };
        if again.status() == StatusCode::UNAUTHORIZED {
            return Err(self.refused(doing, "the registry does not take our credentials"));
        }
        Ok(Ok(again))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, AuthState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn credential(&self) -> Result<Option<Credential>> {
        if let Some(known) = &self.state().credential {
            return Ok(known.clone());
        }
        let found = self.settings.credentials.find(&self.reference)?;
        self.state().credential = Some(found.clone());
        Ok(found)
    }

    fn refused(&self, doing: &str, why: &str) -> ImageError {
        let known = matches!(self.state().credential, Some(Some(_)));
        let looked = self.settings.credentials.shown();
        let hint = if known { "found in one of" } else { "none found in" };
        ImageError::Registry {
            doing: doing.to_owned(),
            why: format!("{why} for `{}`; credentials {hint}: {looked}", self.reference.host),
        }
    }

    /// Makes credentials that meet a challenge.
    fn answer(&self, doing: &str, challenges: &[Challenge]) -> Result<Credentials> {
        let credential = self.credential()?;
        for challenge in challenges {
            match (challenge, &credential) {
                (Challenge::Bearer { .. }, Some(Credential::RegistryToken(token))) => {
                    return Ok(Credentials::Bearer(token.clone()));
                }
                (Challenge::Bearer { realm, service, scope, .. }, _) => {
                    return self.token(
                        doing,
                        realm,
                        service.as_deref(),
                        scope.as_deref(),
                        credential.as_ref(),
                    );
                }
                (Challenge::Basic, Some(Credential::Password { user, password })) => {
                    return Ok(Credentials::basic(user.clone(), password.reveal()));
                }
                (Challenge::Basic, _) => {}
            }
        }
        Err(self.refused(doing, "the registry asks who we are"))
    }

    /// Fetches a token from the server that the registry named.
    fn token(
        &self,
        doing: &str,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<Credentials> {
        let mut url =
            Url::parse(realm).map_err(|e| fail(&self.reference, format!("its token server: {e}")))?;
        // A password over http would be a present to everybody on the way.
        let on_loopback = self.base.scheme() == "http" && url.scheme() == "http" && is_loopback(&url);
        let safe = url.scheme() == "https" || self.is_own(&url) || on_loopback;
        if !safe && credential.is_some() {
            return Err(self.refused(doing, "the registry wants our password sent to a server without TLS"));
        }
        if !safe {
            let why = format!("the registry names a token server that is reached by `{}`", url.scheme());
            return Err(self.refused(doing, &why));
        }
        let own_scope = format!("repository:{}:pull,push", self.reference.repository);
        let scope = scope.unwrap_or(&own_scope);
        let request = match credential {
            Some(Credential::IdentityToken(token)) => {
                let mut form = Url::parse("form:/").expect("a constant URL");
                form.query_pairs_mut()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "ampoule")
                    .append_pair("service", service.unwrap_or_default())
                    .append_pair("scope", scope)
                    .append_pair("refresh_token", token.reveal());
                Request::for_url(Method::POST, url)
                    .map(|r| r.header(CONTENT_TYPE, "application/x-www-form-urlencoded"))
                    .map(|r| r.body(Body::bytes(form.query().unwrap_or_default())))
                    // The body is a secret, and a redirect would take it along.
                    .map(Request::without_redirects)
            }
            other => {
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", service);
                }
                // Several scopes come in one line, separated by blanks.
                for scope in scope.split(' ').filter(|s| !s.is_empty()) {
                    url.query_pairs_mut().append_pair("scope", scope);
                }
                let basic = other.map(|credential| match credential {
                    Credential::Password { user, password } => {
                        Credentials::basic(user.clone(), password.reveal())
                    }
                    Credential::IdentityToken(token) | Credential::RegistryToken(token) => {
                        Credentials::basic("<token>", token.reveal())
                    }
                });
                Request::for_url(Method::GET, url).map(|r| r.credentials(basic))
            }
        };
        let request = request.map_err(|e| error(doing, &e))?.without_netrc();
        let response = self.client.send(&request).map_err(|e| error(doing, &e))?;
        if response.status() == StatusCode::UNAUTHORIZED || response.status() == StatusCode::FORBIDDEN {
            return Err(self.refused(doing, "the registry's token server does not take our credentials"));
        }
        let body =
            response.error_for_status().and_then(|r| r.bytes(1 << 20)).map_err(|e| error(doing, &e))?;
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        let token = token.and_then(|t| t.token.filter(|t| !t.is_empty()).or(t.access_token));
        let token = token
            .ok_or_else(|| fail(&self.reference, "its token server's answer has no token".to_owned()))?;
        Ok(Credentials::Bearer(Secret::new(token)))
    }

    /// Asks for the digest of a manifest; `None` if the registry has none.
    ///
    /// # Errors
    /// [`ImageError::Registry`].
    pub(crate) fn head_manifest(&self, selector: &str) -> Result<Option<Digest>> {
        let doing = format!("ask for `{}`", self.reference);
        let response = self.send(&doing, &self.manifest_request(Method::HEAD, selector)?)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let told = response.header(HeaderName::from_static("docker-content-digest"));
        if let Some(digest) = told.and_then(|d| d.parse().ok()).filter(|_| response.status().is_success()) {
            return Ok(Some(digest));
        }
        if !knows_no_head(&response) {
            response.error_for_status().map_err(|e| error(&doing, &e))?;
        }
        // Some registries answer no HEAD, or leave the digest away.
        let whole = self.send(&doing, &self.manifest_request(Method::GET, selector)?)?;
        if whole.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let whole = whole.error_for_status().and_then(|r| r.bytes(MAX_MANIFEST_BYTES));
        Ok(Some(Digest::of(&whole.map_err(|e| error(&doing, &e))?)))
    }

    /// Fetches a manifest or index and checks it.
    ///
    /// # Errors
    /// [`ImageError::DigestMismatch`] if it is not what was asked for or not what the
    /// registry says that it is; [`ImageError::Registry`].
    pub(crate) fn get_manifest(&self, selector: &str) -> Result<FetchedManifest> {
        let doing = format!("pull `{}`", self.reference);
        let response = self.send(&doing, &self.manifest_request(Method::GET, selector)?)?;
        let response = response.error_for_status().map_err(|e| error(&doing, &e))?;
        let media_type = response.header(CONTENT_TYPE).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let told = response.header(HeaderName::from_static("docker-content-digest")).map(str::to_owned);
        let bytes = response.bytes(MAX_MANIFEST_BYTES).map_err(|e| error(&doing, &e))?;
        let digest = Digest::of(&bytes);
        let what = || format!("the manifest of `{}`", self.reference);
        let promised = [selector.parse::<Digest>().ok(), told.and_then(|d| d.parse().ok())];
        if let Some(expected) = promised.into_iter().flatten().find(|d| *d != digest) {
            return Err(ImageError::DigestMismatch { what: what(), expected, found: digest });
        }
        if !media::is_index(&media_type) && !media::is_manifest(&media_type) {
            return Err(base::not_an_image(&media_type));
        }
        Ok(FetchedManifest { bytes, media_type, digest })
    }

    fn manifest_request(&self, method: Method, selector: &str) -> Result<Request> {
        let mut request = self.request(method, self.url(&format!("manifests/{selector}")))?;
        for kind in ACCEPTED {
            request = request.header_also(ACCEPT, kind);
        }
        Ok(request)
    }

    /// Makes a request for a URL of the registry.
    pub(crate) fn request(&self, method: Method, url: Url) -> Result<Request> {
        Request::for_url(method, url).map_err(|e| fail(&self.reference, e.to_string()))
    }

    /// Returns the URL that an answer's `Location` means.
    pub(crate) fn location(&self, response: &Response) -> Result<Url> {
        let text = response.header(LOCATION).ok_or_else(|| {
            fail(&self.reference, "it takes an upload, and does not say at which address".to_owned())
        })?;
        let url = response
            .url()
            .join(text)
            .map_err(|e| fail(&self.reference, format!("its upload address: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fail(
                &self.reference,
                format!("its upload address has the scheme `{}`", url.scheme()),
            ));
        }
        // An https registry that sends the upload to http means itself, behind a proxy.
        let mut url = url;
        if self.base.scheme() == "https" && url.scheme() == "http" {
            let _ = url.set_scheme("https");
        }
        Ok(url)
    }

    /// Whether a token is so old that it may have run out: registries give 60 seconds
    /// at least, 300 usually.
    pub(crate) fn may_be_stale(&self) -> bool {
        let state = self.state();
        matches!(state.ready, Some(Credentials::Bearer(_)))
            && state.since.is_some_and(|since| since.elapsed() > Duration::from_secs(45))
    }

    /// The client below.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Credentials that were asked for, for a download of our own.
    pub(crate) fn ready(&self, url: &Url) -> Option<Credentials> {
        if self.is_own(url) { self.state().ready.clone() } else { None }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a server answers no HEAD requests at all.
pub(crate) fn knows_no_head(response: &Response) -> bool {
    matches!(response.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

/// Whether a host that may be spoken to in http does so.
fn speaks_http(client: &Client, url: &Url) -> bool {
    let Ok(request) = Request::for_url(Method::GET, url.clone()) else { return true };
    match client.send(&request.without_netrc().without_retries().without_redirects()) {
        Ok(response) if response.status() == StatusCode::BAD_REQUEST => {
            let text = response.bytes(4096).unwrap_or_default();
            !String::from_utf8_lossy(&text).contains("HTTPS")
        }
        Ok(_) => true,
        // A TLS server cuts what it cannot read; one that is not there is told later.
        Err(e) => matches!(*e.kind, NetErrorKind::Connect { .. }),
    }
}

/// Turns a network error into ours.
pub(crate) fn error(doing: &str, error: &NetError) -> ImageError {
    ImageError::Registry { doing: doing.to_owned(), why: error.to_string() }
}

fn fail(reference: &Reference, why: String) -> ImageError {
    ImageError::Registry { doing: format!("reach `{}`", reference.host), why }
}
