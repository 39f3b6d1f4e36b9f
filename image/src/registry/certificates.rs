//! Certificates for one registry, as Docker and podman keep them.
//!
//! ```text
//! DIR/HOST[:PORT]/ca.crt         whom to trust besides the system's roots (any *.crt)
//! DIR/HOST[:PORT]/client.cert    who we are, with
//! DIR/HOST[:PORT]/client.key     its key
//! ```

use std::path::{Path, PathBuf};

use ampoule_net::{Client, ClientConfig, Identity, Secret};

use crate::error::{ImageError, Result};

/// Where certificates are looked for: a person's own folders first, then the machine's.
pub fn directories_from_env(var: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let below = |name: &str, path: &str| {
        var(name).filter(|dir| !dir.is_empty()).map(|dir| PathBuf::from(dir).join(path))
    };
    let config = below("XDG_CONFIG_HOME", "containers/certs.d")
        .or_else(|| below("HOME", ".config/containers/certs.d"));
    let machine = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    config.into_iter().chain(below("HOME", ".docker/certs.d")).chain(machine).collect()
}

/// Returns `client`, or one that trusts what lies there for `host`, and shows who we are.
///
/// # Errors
/// [`ImageError::Io`] for what is there and cannot be read, [`ImageError::Invalid`] for a
/// certificate of ours without its key.
pub(crate) fn client_for(client: Client, directories: &[PathBuf], host: &str) -> Result<Client> {
    // The first that has something for the host; a name is no way out of the folder.
    let found = directories.iter().map(|dir| dir.join(host)).find(|dir| dir.is_dir());
    let Some(dir) = found.filter(|_| !host.contains('/') && !host.starts_with('.')) else {
        return Ok(client);
    };
    let mut config: ClientConfig = client.config().clone();
    let fail = |e| ImageError::io("read", &dir, e);
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(fail)? {
        names.push(entry.map_err(fail)?.path());
    }
    names.sort();
    for path in names {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => config.extra_roots_pem.push(read(&path)?),
            Some("cert") if config.identity.is_none() => config.identity = Some(identity(&path)?),
            _ => {}
        }
    }
    Ok(Client::new(config))
}

fn identity(certificate: &Path) -> Result<Identity> {
    let key = certificate.with_extension("key");
    if !key.exists() {
        return Err(ImageError::invalid(format!(
            "the certificate `{}` has no key `{}` beside it",
            certificate.display(),
            key.display()
        )));
    }
    let text = String::from_utf8(read(&key)?)
        .map_err(|_| ImageError::malformed(format!("`{}`", key.display()), "not in PEM form"))?;
    Ok(Identity { certificates_pem: read(certificate)?, key_pem: Secret::new(text) })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| ImageError::io("read", path, e))
}
