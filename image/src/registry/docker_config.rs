//! Credentials as Docker's tools keep them.
//!
//! Looked for in order: what was given by name, Docker's configuration file, the
//! files of podman and skopeo. In each file: the host's own helper (`credHelpers`),
//! the stored entry (`auths`), the helper for all (`credsStore`). A helper is the
//! program `docker-credential-NAME`, asked on its standard input.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ampoule_net::Secret;
use serde::Deserialize;

use crate::error::{ImageError, Result};
use crate::registry::reference::{DEFAULT_HOST, Reference};

/// Who we are towards a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that is exchanged for others.
    IdentityToken(Secret),
    /// A token that the registry itself takes.
    RegistryToken(Secret),
}

/// Where credentials are looked for.
#[derive(Clone, Debug, Default)]
pub struct CredentialSources {
    /// Given by name (a flag, or a variable of ours).
    pub given: Option<(String, Secret)>,
    /// The only registry that gets what was given; every one that asks, if none is named.
    pub given_for: Option<String>,
    /// The text of a configuration file (`DOCKER_AUTH_CONFIG`).
    pub inline: Option<String>,
    /// Configuration files, the first that knows the registry wins.
    pub files: Vec<PathBuf>,
}

impl CredentialSources {
    /// Looks where Docker, podman and skopeo look; `var` reads a variable.
    ///
    /// `AMPOULE_REGISTRY_USER` and `AMPOULE_REGISTRY_PASSWORD` come first (for the registry
    /// `AMPOULE_REGISTRY` alone, if it is named), then `DOCKER_AUTH_CONFIG`, `REGISTRY_AUTH_FILE`, `DOCKER_CONFIG/config.json`,
    /// `~/.docker/config.json`, podman's `auth.json`.
    pub fn from_env(var: &dyn Fn(&str) -> Option<String>) -> Self {
        let path = |name: &str, below: &str| {
            var(name).filter(|dir| !dir.is_empty()).map(|dir| PathBuf::from(dir).join(below))
        };
        let given = var("AMPOULE_REGISTRY_USER").zip(var("AMPOULE_REGISTRY_PASSWORD"));
        let home_config =
            path("DOCKER_CONFIG", "config.json").or_else(|| path("HOME", ".docker/config.json"));
        let files = [
            var("REGISTRY_AUTH_FILE").filter(|file| !file.is_empty()).map(PathBuf::from),
            home_config,
            path("XDG_RUNTIME_DIR", "containers/auth.json"),
            path("XDG_CONFIG_HOME", "containers/auth.json")
                .or_else(|| path("HOME", ".config/containers/auth.json")),
        ];
        Self {
            given: given.map(|(user, password)| (user, Secret::new(password))),
            given_for: var("AMPOULE_REGISTRY").filter(|host| !host.is_empty()),
            inline: var("DOCKER_AUTH_CONFIG").filter(|text| !text.trim().is_empty()),
            files: files.into_iter().flatten().collect(),
        }
    }

    /// Finds the credential for a repository.
    ///
    /// # Errors
    /// [`ImageError::Malformed`] for a file that is no JSON, [`ImageError::Program`]
    /// for a helper that is missing or fails otherwise than by knowing nothing.
    pub fn find(&self, reference: &Reference) -> Result<Option<Credential>> {
        let for_it = self.given_for.as_ref().is_none_or(|host| *host == reference.host);
        if let Some((user, password)) = self.given.as_ref().filter(|_| for_it) {
            return Ok(Some(Credential::Password { user: user.clone(), password: password.clone() }));
        }
        if let Some(text) = &self.inline
            && let Some(found) = find_in("`DOCKER_AUTH_CONFIG`", text, reference)?
        {
            return Ok(Some(found));
        }
        for path in &self.files {
            let text = match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(ImageError::io("read", path, e)),
            };
            if let Some(found) = find_in(&format!("`{}`", path.display()), &text, reference)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Says where credentials were looked for, for errors.
    pub fn shown(&self) -> String {
        let mut places: Vec<String> =
            vec!["AMPOULE_REGISTRY_USER".to_owned(), "DOCKER_AUTH_CONFIG".to_owned()];
        places.extend(self.files.iter().map(|path| path.display().to_string()));
        places.join(", ")
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    auths: BTreeMap<String, AuthEntry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The names under which a registry may stand in a file, the most exact first.
fn keys(reference: &Reference) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = format!("{}/{}", reference.host, reference.repository);
    while let Some(slash) = path.rfind('/') {
        keys.push(path.clone());
        path.truncate(slash);
    }
    keys.push(reference.host.clone());
    if reference.host == DEFAULT_HOST {
        keys.extend(["index.docker.io", "registry-1.docker.io"].map(str::to_owned));
    }
    keys
}

/// A key of a file without scheme, version and final slash.
fn plain_key(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

fn find_in(what: &str, text: &str, reference: &Reference) -> Result<Option<Credential>> {
    // The parser's words would repeat part of the text, which may be a secret.
    let file: ConfigFile = serde_json::from_str(text).map_err(|e| {
        ImageError::malformed(what, format!("no JSON as Docker writes it, line {}", e.line()))
    })?;
    for key in keys(reference) {
        if let Some((name, helper)) = file.cred_helpers.iter().find(|(name, _)| plain_key(name) == key)
            && let Some(found) = ask_helper(helper, name)?
        {
            return Ok(Some(found));
        }
        for (name, entry) in file.auths.iter().filter(|(name, _)| plain_key(name) == key) {
            if let Some(found) = stored(entry) {
                return Ok(Some(found));
            }
            if let Some(helper) = &file.creds_store
                && let Some(found) = ask_helper(helper, name)?
            {
                return Ok(Some(found));
            }
        }
    }
    match &file.creds_store {
        Some(helper) => {
            let server =
                if reference.host == DEFAULT_HOST { "https://index.docker.io/v1/" } else { &reference.host };
            ask_helper(helper, server)
        }
        None => Ok(None),
    }
}

fn stored(entry: &AuthEntry) -> Option<Credential> {
    let token = |field: &Option<String>| field.clone().filter(|token| !token.is_empty()).map(Secret::new);
    if let Some(token) = token(&entry.registrytoken) {
        return Some(Credential::RegistryToken(token));
    }
    if let Some(token) = token(&entry.identitytoken) {
        return Some(Credential::IdentityToken(token));
    }
    if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
        return Some(Credential::Password { user: user.clone(), password: Secret::new(password.clone()) });
    }
    let bytes = ampoule_store::base64_decode(entry.auth.as_ref().filter(|auth| !auth.is_empty())?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    let password = Secret::new(password.trim_end_matches('\0'));
    Some(Credential::Password { user: user.to_owned(), password })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

fn ask_helper(helper: &str, server: &str) -> Result<Option<Credential>> {
    if helper.contains('/') || helper.is_empty() {
        return Err(ImageError::invalid(format!("`{helper}` is not the name of a credential helper")));
    }
    let name = format!("docker-credential-{helper}");
    let fail = |why: String| ImageError::Program { name: name.clone(), why };
    let mut child = Command::new(&name)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| fail(e.to_string()))?;
    let mut stdin = child.stdin.take().expect("it was asked to be piped");
    // A helper that ends without reading its question answers all the same.
    let _ = stdin.write_all(server.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(|e| fail(e.to_string()))?;
    if !output.status.success() {
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if said.contains("credentials not found") || said.contains("no credentials") {
            return Ok(None);
        }
        return Err(fail(format!("it ended with {}", output.status)));
    }
    let answer: HelperAnswer = serde_json::from_slice(&output.stdout)
        .map_err(|_| fail("its answer is not as the protocol has it".to_owned()))?;
    Ok(Some(match answer.username.as_str() {
        "" => return Ok(None),
        "<token>" => Credential::IdentityToken(Secret::new(answer.secret)),
        _ => Credential::Password { user: answer.username, password: Secret::new(answer.secret) },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, reference: &str) -> Option<String> {
        find_in("test", text, &reference.parse().unwrap()).unwrap().map(|c| match c {
            Credential::Password { user, password } => format!("{user}:{}", password.reveal()),
            Credential::IdentityToken(token) => format!("token {}", token.reveal()),
            Credential::RegistryToken(token) => format!("bearer {}", token.reveal()),
        })
    }

    #[test]
    fn entries_are_found_however_they_are_written() {
        // base64 of "joe:p:w"
        let text = r#"{"auths":{
            "https://r.example/v2/": {"auth":"am9lOnA6dw=="},
            "r.example/team": {"username":"team","password":"x"},
            "ready.example": {"registrytoken":"rt","auth":"am9lOnA6dw=="},
            "https://index.docker.io/v1/": {"identitytoken":"it"}
        }}"#;
        assert_eq!(found(text, "r.example/other/app").as_deref(), Some("joe:p:w"));
        assert_eq!(found(text, "r.example/team/app").as_deref(), Some("team:x"));
        assert_eq!(found(text, "busybox").as_deref(), Some("token it"));
        assert_eq!(found(text, "ready.example/a").as_deref(), Some("bearer rt"));
        assert_eq!(found(text, "else.example/a"), None);
    }

    #[test]
    fn what_is_given_for_one_registry_goes_to_no_other() {
        let find = |only: &str, reference: &str| {
            let var = |name: &str| match name {
                "AMPOULE_REGISTRY_USER" => Some("joe".to_owned()),
                "AMPOULE_REGISTRY_PASSWORD" => Some("p".to_owned()),
                "AMPOULE_REGISTRY" => Some(only.to_owned()),
                _ => None,
            };
            CredentialSources::from_env(&var).find(&reference.parse().unwrap()).unwrap().is_some()
        };
        assert!(find("", "r.example/a") && find("r.example:5000", "r.example:5000/a"));
        assert!(!find("r.example", "else.example/a") && !find("r.example", "busybox"));
    }

    #[test]
    fn a_broken_file_is_told_without_its_text() {
        let error = find_in("test", r#"{"auths": "s3cret" "#, &"a.b/c".parse().unwrap()).unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
