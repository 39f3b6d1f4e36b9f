//! A suite's `Release`: which index files it has, and their hashes.

use super::control::{field, stanzas};
use super::openpgp::{Keyring, SignatureError};

/// Why a release is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The signature does not hold.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// A field is missing or not of its form.
    #[error("the release file has no usable `{0}`")]
    BadField(&'static str),
    /// It is for something else than was asked for.
    #[error("the release file is for `{found}`, not for `{wanted}`")]
    OtherSuite {
        /// Suite or code name asked for.
        wanted: String,
        /// What the file says.
        found: String,
    },
    /// The suite has no such component or architecture.
    #[error("`{suite}` has no packages of component `{component}` for `{arch}`")]
    NoIndex {
        /// The suite.
        suite: String,
        /// `main` and the like.
        component: String,
        /// `amd64` and the like.
        arch: String,
    },
}

/// A verified release file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `Suite`, such as `oldstable`.
    pub suite: String,
    /// `Codename`, such as `bookworm`.
    pub codename: String,
    /// `Date` in the form of snapshot services: `20250517T083200Z`.
    pub date: String,
    /// `Valid-Until` in the same form, if there is one.
    pub valid_until: Option<String>,
    /// Whether index files can be had by their hash.
    pub by_hash: bool,
    /// Keys whose signatures hold.
    pub signers: Vec<String>,
    files: Vec<IndexFile>,
}

/// One file that a release names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// Under `dists/SUITE/`: `main/binary-amd64/Packages.xz`.
    pub path: String,
    /// Base 16.
    pub sha256: String,
    /// Length of the file.
    pub size_bytes: u64,
}

impl Release {
    /// Verifies `in_release` and reads it. `suite` is a suite's name or code name.
    ///
    /// # Errors
    /// See [`ReleaseError`].
    pub fn verify(in_release: &str, keyring: &Keyring, suite: &str) -> Result<Self, ReleaseError> {
        let signed = keyring.verify(in_release)?;
        let release = Self::parse(&signed.text, signed.signers)?;
        if suite != release.suite && suite != release.codename {
            return Err(ReleaseError::OtherSuite { wanted: suite.to_owned(), found: release.codename });
        }
        Ok(release)
    }

    fn parse(text: &str, signers: Vec<String>) -> Result<Self, ReleaseError> {
        let stanza = stanzas(text).next().ok_or(ReleaseError::BadField("SHA256"))?;
        let date = field(stanza, "Date").and_then(snapshot_date).ok_or(ReleaseError::BadField("Date"))?;
        let sums = field(stanza, "SHA256").ok_or(ReleaseError::BadField("SHA256"))?;
        let files = sums.lines().filter_map(parse_sum).collect();
        Ok(Self {
            suite: field(stanza, "Suite").unwrap_or_default().to_owned(),
            codename: field(stanza, "Codename").unwrap_or_default().to_owned(),
            date,
            valid_until: field(stanza, "Valid-Until").and_then(snapshot_date),
            by_hash: field(stanza, "Acquire-By-Hash") == Some("yes"),
            signers,
            files,
        })
    }

    /// The index of `component` for `arch`: the plain file's entry and the compressed file to download.
    ///
    /// # Errors
    /// [`ReleaseError::NoIndex`]
    pub fn packages(&self, component: &str, arch: &str) -> Result<(&IndexFile, &IndexFile), ReleaseError> {
        self.listed(&format!("{component}/binary-{arch}/Packages")).ok_or_else(|| ReleaseError::NoIndex {
            suite: self.codename.clone(),
            component: component.to_owned(),
            arch: arch.to_owned(),
        })
    }

    fn listed(&self, plain: &str) -> Option<(&IndexFile, &IndexFile)> {
        let find = |path: &str| self.files.iter().find(|file| file.path == path);
        let compressed = ["xz", "gz"].iter().find_map(|suffix| find(&format!("{plain}.{suffix}")));
        let plain = find(plain)?;
        Some((plain, compressed.unwrap_or(plain)))
    }

    /// Where `file` lies under the archive's root.
    pub fn path_of(&self, dist: &str, file: &IndexFile) -> String {
        if self.by_hash {
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("dists/{dist}/{folder}/by-hash/SHA256/{}", file.sha256)
        } else {
            format!("dists/{dist}/{}", file.path)
        }
    }
}

fn parse_sum(line: &str) -> Option<IndexFile> {
    let mut words = line.split_whitespace();
    let sha256 = words.next()?;
    let size_bytes = words.next()?.parse().ok()?;
    let path = words.next()?;
    (sha256.len() == 64).then(|| IndexFile {
        path: path.to_owned(),
        sha256: sha256.to_ascii_lowercase(),
        size_bytes,
    })
}

/// `Sat, 17 May 2025 08:32:00 UTC` → `20250517T083200Z`.
fn snapshot_date(date: &str) -> Option<String> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = date.split_whitespace().collect();
    let [_, day, month, year, time, ..] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| name == month)? + 1;
    let digits: String = time.chars().filter(char::is_ascii_digit).collect();
    let day: u8 = day.parse().ok()?;
    (digits.len() == 6 && year.len() == 4).then(|| format!("{year}{month:02}{day:02}T{digits}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Suite: oldstable\nCodename: bookworm\nDate: Sat, 7 May 2025 08:32:00 UTC\nAcquire-By-Hash: yes\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages\n \
        aaaac44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 9 main/binary-amd64/Packages.gz\n";

    #[test]
    fn a_release_names_its_index_files() {
        let release = Release::parse(TEXT, Vec::new()).expect("well formed");
        assert_eq!(release.date, "20250507T083200Z");
        let (plain, compressed) = release.packages("main", "amd64").expect("listed");
        assert_eq!((plain.size_bytes, compressed.size_bytes), (0, 9));
        assert_eq!(
            release.path_of("bookworm", compressed),
            format!("dists/bookworm/main/binary-amd64/by-hash/SHA256/{}", compressed.sha256)
        );
        assert!(release.packages("main", "s390x").is_err());
    }
}
