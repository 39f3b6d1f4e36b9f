//! `ampoule.lock`: which bytes the names of `ampoule.toml` stand for.
//!
//! JSON, so that the language reads it with `builtins.fromJSON`. Keys are sorted, one
//! value a line, no host and no clock in it: the same manifest and the same archive
//! give the same file. The checksum is over the canonical form (the value itself
//! written without blanks), so that line ends and indentation may change, and
//! nothing else.

use crate::manifest::DebianSection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Version of the file's form.
pub const LOCK_VERSION: u32 = 1;

/// Why a lock file is not used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not JSON of our form.
    #[error("ampoule.lock is not readable: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Written by another version of the program.
    #[error("ampoule.lock has version {found}; this program reads version {LOCK_VERSION}")]
    Version {
        /// What the file says.
        found: u32,
    },
    /// Changed by hand.
    #[error("ampoule.lock was changed by hand: its checksum is not that of its contents; run `ampoule lock`")]
    Checksum,
    /// It answers another question than the manifest asks.
    #[error("ampoule.lock does not match ampoule.toml ({0}); run `ampoule lock`")]
    Stale(String),
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    /// `sha256-…` of the rest in canonical form, base 16.
    #[serde(default)]
    pub checksum: String,
    /// What was asked, and of which indexes.
    pub debian: LockedDebian,
    /// Sorted by platform, use and name.
    pub packages: Vec<LockedPackage>,
    /// Of the form.
    pub version: u32,
}

/// What was asked, and of which indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedDebian {
    /// Platforms that were resolved.
    pub architectures: Vec<String>,
    /// Mirror's name.
    pub archive: String,
    /// Components that were looked at.
    pub components: Vec<String>,
    /// The newest date of the release files: what a snapshot service is asked for.
    pub date: String,
    /// Index files, by the hash of their plain text.
    pub indexes: Vec<LockedIndex>,
    /// Names asked for per use, as `name` or `name=version`.
    pub names: BTreeMap<String, Vec<String>>,
    /// Name or code name.
    pub suite: String,
    /// Whether updates and security archive were looked at.
    pub updates: bool,
}

/// One index file that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedIndex {
    /// Platform.
    pub arch: String,
    /// Mirror's name.
    pub archive: String,
    /// `main` and the like.
    pub component: String,
    /// Date of its release file.
    pub date: String,
    /// Under `dists/`.
    pub dist: String,
    /// Of the uncompressed file.
    pub sha256: String,
}

/// One package for one platform and use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedPackage {
    /// The package's own architecture; `all` for every one.
    pub arch: String,
    /// Mirror's name.
    pub archive: String,
    /// Names of the packages of the same platform and use that it needs.
    pub depends: Vec<String>,
    /// Binary package.
    pub name: String,
    /// Under the archive's root.
    pub path: String,
    /// Architecture that it was resolved for.
    pub platform: String,
    /// Base 16.
    pub sha256: String,
    /// Bytes of the file.
    pub size: u64,
    /// Source package.
    pub source: String,
    /// Its version.
    pub source_version: String,
    /// `run`, `build` or another of the project's own.
    #[serde(rename = "use")]
    pub use_name: String,
    /// Binary package's.
    pub version: String,
    /// What brought it.
    pub why: LockedWhy,
}

/// What brought a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedWhy {
    /// The package whose dependency it is; nothing if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The dependency as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clause: Option<String>,
    /// What else would have done, where there was a choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
}

/// A package that is new, gone, or of another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Architecture that it was resolved for.
    pub platform: String,
    /// List of names that it was resolved for.
    pub use_name: String,
    /// Binary package.
    pub name: String,
    /// Its version before.
    pub before: Option<String>,
    /// Its version now.
    pub after: Option<String>,
}

impl LockFile {
    /// What differs from an older lock, sorted by platform, use and name.
    pub fn changes_since(&self, old: &Self) -> Vec<Change> {
        let (before, now) = (old.versions(), self.versions());
        let keys: BTreeSet<_> = before.keys().chain(now.keys()).copied().collect();
        let change = |key: [&str; 3]| {
            let [platform, use_name, name] = key.map(str::to_owned);
            let version =
                |lock: &BTreeMap<[&str; 3], &str>| lock.get(&key).map(|&version| version.to_owned());
            Change { platform, use_name, name, before: version(&before), after: version(&now) }
        };
        keys.into_iter().map(change).filter(|change| change.before != change.after).collect()
    }

    /// Versions by platform, use and name.
    fn versions(&self) -> BTreeMap<[&str; 3], &str> {
        let all = self.packages.iter();
        all.map(|package| {
            let LockedPackage { platform, use_name, name, version, .. } = package;
            ([platform.as_str(), use_name, name], version.as_str())
        })
        .collect()
    }

    /// Reads a lock file and checks its checksum.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn parse(text: &str) -> Result<Self, LockError> {
        #[derive(Deserialize)]
        struct VersionOnly {
            version: u32,
        }
        let VersionOnly { version } = serde_json::from_str(text)?;
        if version != LOCK_VERSION {
            return Err(LockError::Version { found: version });
        }
        let lock: Self = serde_json::from_str(text)?;
        if lock.checksum != lock.canonical_checksum() {
            return Err(LockError::Checksum);
        }
        Ok(lock)
    }

    /// Sorts, and sets the checksum.
    pub(crate) fn sealed(mut self) -> Self {
        self.packages.sort_by(|left, right| left.key().cmp(&right.key()));
        self.checksum = self.canonical_checksum();
        self
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a lock file has only strings, numbers and lists") + "\n"
    }

    fn canonical_checksum(&self) -> String {
        let bare = Self { checksum: String::new(), ..self.clone() };
        let text = serde_json::to_string(&bare).expect("a lock file has only strings, numbers and lists");
        format!("sha256-{}", to_hex(&Sha256::digest(text)))
    }

    /// Checks that this lock answers what `section` asks.
    ///
    /// # Errors
    /// [`LockError::Stale`] with what differs first.
    pub fn check(&self, section: &DebianSection) -> Result<(), LockError> {
        let debian = &self.debian;
        let names = names_of(section);
        let stale = |what: String| Err(LockError::Stale(what));
        if debian.suite != section.suite || debian.archive != section.archive {
            return stale(format!("suite `{}` is locked, `{}` is asked for", debian.suite, section.suite));
        }
        if debian.components != sorted(&section.components) {
            return stale("other components are asked for".to_owned());
        }
        if debian.architectures != sorted(&section.architectures) {
            return stale("other architectures are asked for".to_owned());
        }
        if debian.updates != section.updates {
            return stale("`updates` differs".to_owned());
        }
        for use_name in names.keys().chain(debian.names.keys()) {
            let empty = Vec::new();
            let wanted = names.get(use_name).unwrap_or(&empty);
            let locked = debian.names.get(use_name).unwrap_or(&empty);
            if let Some(name) = wanted.iter().find(|name| !locked.contains(name)) {
                return stale(format!("`{name}` for {use_name} is not locked"));
            }
            if let Some(name) = locked.iter().find(|name| !wanted.contains(name)) {
                return stale(format!("`{name}` for {use_name} is no longer asked for"));
            }
        }
        Ok(())
    }
}

impl LockedPackage {
    fn key(&self) -> (&str, &str, &str) {
        (&self.platform, &self.use_name, &self.name)
    }
}

pub(crate) fn names_of(section: &DebianSection) -> BTreeMap<String, Vec<String>> {
    let written = |request: &crate::debian::Request| match &request.version {
        Some(version) => format!("{}={version}", request.name),
        None => request.name.clone(),
    };
    section
        .requests()
        .into_iter()
        .map(|(use_name, requests)| (use_name, requests.iter().map(written).collect()))
        .collect()
}

pub(crate) fn sorted(words: &[String]) -> Vec<String> {
    let mut words = words.to_vec();
    words.sort();
    words.dedup();
    words
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn section(text: &str) -> DebianSection {
        Manifest::parse(text).expect("well formed").debian.expect("given")
    }

    fn sample() -> LockFile {
        LockFile {
            checksum: String::new(),
            debian: LockedDebian {
                architectures: vec!["amd64".into()],
                archive: "debian".into(),
                components: vec!["main".into()],
                date: "20250517T083200Z".into(),
                indexes: Vec::new(),
                names: BTreeMap::from([("run".to_owned(), vec!["a".to_owned()])]),
                suite: "bookworm".into(),
                updates: true,
            },
            packages: Vec::new(),
            version: LOCK_VERSION,
        }
        .sealed()
    }

    #[test]
    fn the_text_comes_back_with_other_line_ends_but_not_with_other_words() {
        let lock = sample();
        let text = lock.to_text();
        assert_eq!(LockFile::parse(&text).expect("just written"), lock);
        assert_eq!(LockFile::parse(&text.replace('\n', "\r\n")).expect("the same values"), lock);
        assert!(matches!(LockFile::parse(&text.replace("20250517", "20250518")), Err(LockError::Checksum)));
        assert!(matches!(
            LockFile::parse(&text.replace("\"version\": 1", "\"version\": 2")),
            Err(LockError::Version { found: 2 })
        ));
    }

    #[test]
    fn a_lock_is_stale_when_the_manifest_asks_something_else() {
        let lock = sample();
        let same = "debian = { suite = \"bookworm\", packages = [\"a\"] }";
        assert!(lock.check(&section(same)).is_ok());
        for (text, what) in [
            ("debian = { suite = \"trixie\", packages = [\"a\"] }", "suite"),
            ("debian = { suite = \"bookworm\", packages = [\"a\", \"b\"] }", "`b` for run is not locked"),
            ("debian = { suite = \"bookworm\", packages = [] }", "`a` for run is no longer asked for"),
            (
                "debian = { suite = \"bookworm\", packages = [\"a\"], architectures = [\"arm64\"] }",
                "architectures",
            ),
        ] {
            let error = lock.check(&section(text)).expect_err("stale").to_string();
            assert!(error.contains(what) && error.contains("run `ampoule lock`"), "{error}");
        }
    }
}
