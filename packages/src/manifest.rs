//! `ampoule.toml`: what a project asks of the package universe.
//!
//! ```toml
//! [debian]
//! suite = "bookworm"
//! components = ["main"]
//! architectures = ["amd64", "arm64"]
//!
//! [debian.packages]
//! run = ["nginx", "redis-server=5:7.0.15-1~deb12u1"]
//! build = ["libssl-dev"]
//! ```
//!
//! Tables that are not about packages belong to others and are passed over.

use crate::debian::Request;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Why `ampoule.toml` is not read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, or a key that nobody knows.
    #[error("{}", .0.to_string().trim_end())]
    Syntax(#[from] toml::de::Error),
    /// A value that cannot be.
    #[error("`{key}` in ampoule.toml: {reason}")]
    BadValue {
        /// Dotted path of the key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The tables of `ampoule.toml` that are read here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// `[debian]`
    pub debian: Option<DebianSection>,
}

/// `[debian]`: a suite and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DebianSection {
    /// Name or code name, such as `bookworm`.
    pub suite: String,
    /// `main` if not given.
    #[serde(default = "main_component")]
    pub components: Vec<String>,
    /// `amd64` if not given.
    #[serde(default = "amd64_architecture")]
    pub architectures: Vec<String>,
    /// Name of the mirror, as in `mirror://debian/`.
    #[serde(default = "debian_archive")]
    pub archive: String,
    /// Whether the suite's updates and security archive count too. On unless said otherwise.
    #[serde(default = "yes")]
    pub updates: bool,
    /// File of the public keys that sign the archive; the machine's Debian keyring if not given.
    pub keyring: Option<String>,
    /// SHA-256 of that file, base 16.
    pub keyring_sha256: Option<String>,
    /// Names per use: `run` and `build`, or others of the project's own.
    #[serde(default)]
    pub packages: Packages,
}

/// Names wanted: a list is for running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packages {
    /// `packages = ["nginx"]`
    Run(Vec<String>),
    /// `packages.run = ["nginx"]`
    PerUse(BTreeMap<String, Vec<String>>),
}

impl Default for Packages {
    fn default() -> Self {
        Self::PerUse(BTreeMap::new())
    }
}

/// What the text has, told apart by hand so that the error points at the value and says what it should be.
impl<'de> Deserialize<'de> for Packages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Packages;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of packages' names, or a list for each use")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Packages, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Packages::Run(names))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Packages, A::Error> {
                let mut uses = BTreeMap::new();
                while let Some((name, Names(names))) = table.next_entry()? {
                    uses.insert(name, names);
                }
                Ok(Packages::PerUse(uses))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// A list of names, and nothing else.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of packages' names, as in `[\"nginx\"]`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

fn main_component() -> Vec<String> {
    vec!["main".to_owned()]
}

fn amd64_architecture() -> Vec<String> {
    vec!["amd64".to_owned()]
}

fn debian_archive() -> String {
    "debian".to_owned()
}

fn yes() -> bool {
    true
}

/// A suite of an archive that packages are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuiteSource {
    /// Mirror's name: `debian`, `debian-security`.
    pub archive: String,
    /// Under `dists/`: `bookworm-security`.
    pub dist: String,
}

impl Manifest {
    /// Parses the text of `ampoule.toml`.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text)?;
        if let Some(debian) = &manifest.debian {
            debian.check()?;
        }
        Ok(manifest)
    }
}

impl DebianSection {
    fn check(&self) -> Result<(), ManifestError> {
        let words = [("debian.suite", std::slice::from_ref(&self.suite))]
            .into_iter()
            .chain([("debian.components", self.components.as_slice())])
            .chain([("debian.architectures", self.architectures.as_slice())])
            .chain([("debian.archive", std::slice::from_ref(&self.archive))]);
        for (key, values) in words {
            if values.is_empty() {
                return Err(bad_value(key, "is empty"));
            }
            for value in values {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
                if value.is_empty() || !value.chars().all(is_plain) || value.starts_with('.') {
                    return Err(bad_value(key, &format!("`{value}` is not a name")));
                }
            }
        }
        for (use_name, names) in self.lists() {
            for name in names {
                let (package, version) =
                    name.split_once('=').map_or((name.as_str(), None), |(n, v)| (n, Some(v)));
                let is_word = |text: &str, more: &str| {
                    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
                };
                let is_name = is_word(package.trim(), "+-._");
                if !is_name || !version.is_none_or(|version| is_word(version.trim(), ".+-~:_")) {
                    let reason = format!("`{name}` is not a package's name, nor `name=version`");
                    return Err(bad_value(&format!("debian.packages.{use_name}"), &reason));
                }
            }
        }
        if let Some(hash) = &self.keyring_sha256
            && (hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(bad_value("debian.keyring-sha256", "is not a SHA-256 in base 16"));
        }
        Ok(())
    }

    /// Names wanted per use, sorted and without repetition.
    pub fn requests(&self) -> BTreeMap<String, Vec<Request>> {
        let sorted = |names: &[String]| {
            let mut requests: Vec<Request> = names.iter().map(|name| Request::parse(name)).collect();
            requests.sort();
            requests.dedup();
            requests
        };
        self.lists().into_iter().map(|(name, names)| (name.to_owned(), sorted(names))).collect()
    }

    /// Names as written, per use.
    fn lists(&self) -> Vec<(&str, &[String])> {
        match &self.packages {
            Packages::Run(names) => vec![("run", names)],
            Packages::PerUse(uses) => {
                uses.iter().map(|(name, names)| (name.as_str(), names.as_slice())).collect()
            }
        }
    }

    /// Where packages come from: the suite, and its updates and security archive.
    pub fn sources(&self) -> Vec<SuiteSource> {
        let source = |archive: &str, dist: String| SuiteSource { archive: archive.to_owned(), dist };
        let mut sources = vec![source(&self.archive, self.suite.clone())];
        if self.updates && self.has_updates() {
            sources.push(source(&self.archive, format!("{}-updates", self.suite)));
            sources.push(self.security_source());
        }
        sources
    }

    /// The suite's security archive.
    pub fn security_source(&self) -> SuiteSource {
        let archive = format!("{}-security", self.archive);
        SuiteSource { archive, dist: format!("{}-security", self.suite) }
    }

    fn has_updates(&self) -> bool {
        !matches!(self.suite.as_str(), "sid" | "unstable" | "experimental")
    }
}

fn bad_value(key: &str, reason: &str) -> ManifestError {
    ManifestError::BadValue { key: key.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_per_use() {
        let text = "[other]\nx = 1\n[debian]\nsuite = \"bookworm\"\n[debian.packages]\nrun = [\"b\", \"a=1:2\", \"b\"]\nbuild = []\n";
        let debian = Manifest::parse(text).expect("well formed").debian.expect("given");
        let requests = debian.requests();
        assert_eq!(requests["run"], [Request::parse("a=1:2"), Request::parse("b")]);
        assert_eq!(requests["build"], []);
        let dists: Vec<_> = debian
            .sources()
            .into_iter()
            .map(|source| format!("{}/{}", source.archive, source.dist))
            .collect();
        assert_eq!(
            dists,
            ["debian/bookworm", "debian/bookworm-updates", "debian-security/bookworm-security"]
        );
    }

    #[test]
    fn a_list_is_for_running() {
        let debian =
            Manifest::parse("debian = { suite = \"sid\", packages = [\"a\"] }").expect("well formed").debian;
        let debian = debian.expect("given");
        assert_eq!(debian.requests().keys().collect::<Vec<_>>(), ["run"]);
        assert_eq!(debian.sources().len(), 1);
    }

    #[test]
    fn a_value_of_another_kind_is_told_with_what_it_should_be() {
        let check = |text: &str, expected: &str| {
            let told = Manifest::parse(text).expect_err(text).to_string();
            assert!(told.contains(expected) && !told.ends_with('\n'), "{text}: {told}");
        };
        check(
            "[debian]\nsuite = \"a\"\n[debian.packages]\nrun = \"nginx\"",
            "string \"nginx\", expected a list of packages' names, as in `[\"nginx\"]`",
        );
        check(
            "debian = { suite = \"a\", packages = 1 }",
            "expected a list of packages' names, or a list for each use",
        );
        check("debian = { suite = \"a\", packages = [1] }", "expected a string");
        check(
            "debian = { suite = \"a\", packages = { run = [\"nginx=\"] } }",
            "`nginx=` is not a package's name",
        );
        check("debian = { suite = \"a\", packages = { run = [\"a b\"] } }", "`a b` is not a package's name");
        check("debian = { suite = \"a\", packages = { run = [\"\"] } }", "`` is not a package's name");
    }

    #[test]
    fn unknown_keys_and_names_that_are_paths_are_errors() {
        for text in [
            "debian = { suit = \"bookworm\" }",
            "debian = { suite = \"../x\" }",
            "debian = { suite = \"a\", components = [] }",
            "debian = { suite = \"a\", keyring-sha256 = \"12\" }",
        ] {
            assert!(Manifest::parse(text).is_err(), "{text}");
        }
    }
}
