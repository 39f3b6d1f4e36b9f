//! Names of images in registries.
//!
//! ```text
//! [host[:port]/]path[/path…][:tag][@sha256:…]
//! ```
//!
//! A first part with a dot, a colon or the word `localhost` is a host; without one
//! the name is Docker Hub's, as for every Docker tool.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::ImageError;

/// The host that a name without one means, as it is written.
pub(crate) const DEFAULT_HOST: &str = "docker.io";

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry, with its port if it has one.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest; it wins over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Returns what comes after `manifests/`: the digest, else the tag, else `latest`.
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.strip_prefix('[').map_or_else(
            || self.host.split(':').next().unwrap_or_default(),
            |rest| rest.split(']').next().unwrap_or_default(),
        );
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Returns the host to connect to: Docker Hub's API has another name.
    pub fn api_host(&self) -> &str {
        if self.host == DEFAULT_HOST { "registry-1.docker.io" } else { &self.host }
    }
}

impl FromStr for Reference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let fail = |why: &str| ImageError::invalid(format!("`{text}` is not an image reference: {why}"));
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (host, rest) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => (DEFAULT_HOST, name),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let host_ok = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        if host.is_empty() || !host.bytes().all(host_ok) {
            return Err(fail("its registry is no host name"));
        }
        let part_ok = |part: &str| {
            let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            part.bytes().all(byte) && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        };
        if !path.split('/').all(part_ok) {
            return Err(fail("names are lower-case letters, digits, `.`, `_`, `-`, separated by `/`"));
        }
        let tag_ok = |tag: &str| {
            let byte = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(byte) && !tag.starts_with(['.', '-'])
        };
        if tag.is_some_and(|tag| !tag_ok(tag)) {
            return Err(fail("its tag has other signs than letters, digits, `.`, `_`, `-`"));
        }
        let library = host == DEFAULT_HOST && !path.contains('/');
        Ok(Self {
            host: if host == "index.docker.io" { DEFAULT_HOST.to_owned() } else { host.to_owned() },
            repository: if library { format!("library/{path}") } else { path.to_owned() },
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let hex = "a".repeat(64);
        for (text, whole) in [
            ("busybox", "docker.io/library/busybox".to_owned()),
            ("me/app:1", "docker.io/me/app:1".to_owned()),
            ("localhost/app", "localhost/app".to_owned()),
            ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t".to_owned()),
            ("[::1]:5000/a", "[::1]:5000/a".to_owned()),
            (&format!("r.example/a:t@sha256:{hex}"), format!("r.example/a:t@sha256:{hex}")),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), whole);
        }
        for bad in ["", "A", "a:", "a@sha256:12", "r.example/", "a/../b", "a b", "r.example/a:x/y"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!("[::1]:5000/a".parse::<Reference>().unwrap().is_loopback());
        assert!(!"127.example.org/a".parse::<Reference>().unwrap().is_loopback());
    }
}
