//! What must stay where the image is built: keys and passwords that got into it by mistake.
//!
//! Files are known by the names that programs give them, keys also by how they begin;
//! variables and labels by the forms that issuers of tokens chose so that they can be
//! found. Nothing is guessed from words like `password`: a finding is a secret.

use std::path::Path;

use crate::entry::FileSource;
use crate::oci::RunConfig;

/// Files that hold credentials, by name; with a slash, by the end of their path.
const NAMES: [&str; 12] = [
    ".aws/credentials",
    ".docker/config.json",
    ".git-credentials",
    ".kube/config",
    ".netrc",
    ".pgpass",
    ".pypirc",
    ".vault-token",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
];

/// What tokens begin with, and how many letters and digits follow at least.
const TOKENS: [(&str, usize); 12] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("dckr_pat_", 20),
    ("gho_", 36),
    ("ghp_", 36),
    ("ghs_", 36),
    ("github_pat_", 40),
    ("glpat-", 20),
    ("npm_", 36),
    ("pypi-AgEI", 40),
    ("sk_live_", 20),
    ("xoxb-", 20),
];

/// Directories whose keys everybody has.
const SAMPLES: [&str; 7] = ["doc", "docs", "example", "examples", "test", "testing", "tests"];

/// Larger files are no keys.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Says what secret a file is, by its path in the image (without leading slash).
pub(crate) fn of_file(path: &[u8], source: &FileSource, size: u64) -> Option<&'static str> {
    let path = std::str::from_utf8(path).ok()?;
    let is_named = NAMES
        .iter()
        .any(|name| path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/')));
    if is_named {
        return (size > 0).then_some("a file of credentials");
    }
    let extension = Path::new(path).extension()?.to_str()?;
    // Published with the program, as some libraries publish the keys of their tests, it is none.
    let is_sample = path.split('/').any(|part| SAMPLES.contains(&part));
    if size > MAX_KEY_BYTES || is_sample || !matches!(extension, "key" | "pem") {
        return None;
    }
    // What cannot be read here is told by whoever packs it.
    let text = source.read().ok()?;
    holds_key(&String::from_utf8_lossy(&text)).then_some("a private key")
}

fn holds_key(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with("PRIVATE KEY-----"))
}

/// Returns the variables and labels of a configuration that hold secrets, and what they hold.
pub(crate) fn of_config(config: &RunConfig) -> Vec<(String, &'static str)> {
    let env = config.env.iter().flatten().filter_map(|line| line.split_once('='));
    let labels = config.labels.iter().flatten().map(|(name, value)| (&**name, &**value));
    let named = env.map(|pair| ("config.env", pair)).chain(labels.map(|pair| ("config.labels", pair)));
    named.filter_map(|(place, (name, value))| Some((format!("{place}.{name}"), of_text(value)?))).collect()
}

fn of_text(text: &str) -> Option<&'static str> {
    if holds_key(text) {
        return Some("a private key");
    }
    let of_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let is_token = |(start, least): (&str, usize)| {
        text.match_indices(start).any(|(at, _)| {
            let before = text[..at].bytes().next_back();
            let rest = text[at + start.len()..].bytes().take_while(|&b| of_word(b)).count();
            before.is_none_or(|b| !of_word(b)) && rest >= least
        })
    };
    if TOKENS.into_iter().any(is_token) {
        return Some("a token");
    }
    // scheme://user:password@host
    let authority = text.split("://").nth(1)?.split(['/', '?', '#', ' ']).next()?;
    let (_, password) = authority.rsplit_once('@')?.0.split_once(':')?;
    (!password.is_empty() && !password.starts_with(['$', '<', '{'])).then_some("a password in a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_words_about_them() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        for (text, expected) in [
            (&*token, Some("a token")),
            (&format!("x={token};"), Some("a token")),
            ("AKIAIOSFODNN7EXAMPLE", Some("a token")),
            ("postgres://app:s3cret@db/app", Some("a password in a URL")),
            ("-----BEGIN EC PRIVATE KEY-----\nx", Some("a private key")),
            ("ghp_short", None),
            (&format!("x{token}"), None),
            ("postgres://app@db/app", None),
            ("postgres://app:$PASSWORD@db/app", None),
            ("http://host:80/@x", None),
            ("-----BEGIN CERTIFICATE-----", None),
            ("password", None),
        ] {
            assert_eq!(of_text(text), expected, "{text}");
        }
    }

    #[test]
    fn files_are_known_by_name_and_by_what_they_are() {
        let check = |path: &str, text: &str| {
            of_file(path.as_bytes(), &FileSource::Bytes(text.as_bytes().into()), text.len() as u64)
        };
        for path in ["root/.netrc", "home/app/.ssh/id_rsa", "root/.docker/config.json"] {
            assert_eq!(check(path, "x"), Some("a file of credentials"), "{path}");
        }
        let key = "Bag Attributes\n-----BEGIN PRIVATE KEY-----\n";
        assert_eq!(check("etc/ssl/server.key", key), Some("a private key"));
        for (path, text) in [
            ("etc/ssl/certs/ca.pem", "-----BEGIN CERTIFICATE-----\n"),
            ("usr/share/x.txt", key),
            ("lib/python3/site-packages/tornado/test/test.key", key),
            ("usr/bin/my_id_rsa", "x"),
            ("etc/docker/config.json", "x"),
        ] {
            assert_eq!(check(path, text), None, "{path}");
        }
    }
}
