//! From `ampoule.toml` to `ampoule.lock`, with the archive's help.
//!
//! Which indexes are used is a decision of its own ([`Refresh`]): a lock that exists
//! keeps its indexes as long as they are in the cache, so that asking for one more
//! package moves nothing else.

use crate::debian::resolve::{Choice, Why, resolve};
use crate::debian::{
    Index, IndexError, Kept, Keyring, Package, Release, ReleaseError, ResolveError, Universe,
    compare_versions,
};
use crate::lock::{
    LOCK_VERSION, LockFile, LockedDebian, LockedIndex, LockedPackage, LockedWhy, names_of, sorted, to_hex,
};
use crate::manifest::{DebianSection, SuiteSource};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::Read;

/// Whoever fetches and remembers for us.
pub trait Archive: Sync {
    /// The bytes of `path` under the root of mirror `archive`, checked against `sha256` if it is given.
    ///
    /// # Errors
    /// [`ArchiveError`] with what the fetcher says.
    fn fetch(&self, archive: &str, path: &str, sha256: Option<&str>) -> Result<Vec<u8>, ArchiveError>;

    /// What was kept under `key`, if it still is.
    fn cached(&self, key: &str) -> Option<Box<dyn Kept>>;

    /// Keeps the bytes of `parts`, one after the other, under `key`; may fail in silence.
    fn keep(&self, key: &str, parts: &[&[u8]]);

    /// Forgets what was kept under `key`; may fail in silence.
    fn forget(&self, key: &str);

    /// The time as `20250517T083200Z`, to see whether a release has expired. None: it is not asked.
    fn now(&self) -> Option<String>;
}

/// A file that could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mirror://{archive}/{path}: {reason}")]
pub struct ArchiveError {
    /// Mirror's name.
    pub archive: String,
    /// Under its root.
    pub path: String,
    /// What the fetcher says.
    pub reason: String,
}

/// Why no lock was made.
#[derive(Debug, thiserror::Error)]
pub enum LockingError {
    /// A file could not be fetched.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A release file is not believed.
    #[error("mirror://{archive}/dists/{dist}/InRelease: {reason}")]
    Release {
        /// Mirror's name.
        archive: String,
        /// Under `dists/`.
        dist: String,
        /// Why.
        reason: Box<ReleaseError>,
    },
    /// A release file is too old: someone may be holding back updates.
    #[error("mirror://{archive}/dists/{dist}/InRelease expired on {valid_until}")]
    Expired {
        /// Mirror's name.
        archive: String,
        /// Under `dists/`.
        dist: String,
        /// When.
        valid_until: String,
    },
    /// A release file is older than the one that the lock was made from.
    #[error(
        "mirror://{archive}/dists/{dist}/InRelease is of {date}, older than what ampoule.lock was made from ({locked}): \
         the mirror is behind, or someone holds back updates"
    )]
    Older {
        /// Mirror's name.
        archive: String,
        /// Under `dists/`.
        dist: String,
        /// Of the release.
        date: String,
        /// Of the lock.
        locked: String,
    },
    /// An index is not what its release says.
    #[error("mirror://{archive}/{path} is not what the signed release names: {reason}")]
    BadIndex {
        /// Mirror's name.
        archive: String,
        /// Under its root.
        path: String,
        /// What differs.
        reason: String,
    },
    /// The names cannot be resolved.
    #[error("{error} (for {use_name} on {platform})")]
    Resolve {
        /// Why.
        error: Box<ResolveError>,
        /// Which list of names.
        use_name: String,
        /// Which architecture.
        platform: String,
    },
}

/// Which indexes a lock is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Those of the old lock if they are all in the cache, else the archive's newest.
    Keep,
    /// The archive's newest.
    All,
    /// The archive's newest, but only for these packages and those of the same source.
    Names(Vec<String>),
}

/// A new lock, and what should be said of it.
#[derive(Clone, Debug)]
pub struct Locked {
    /// The lock.
    pub lock: LockFile,
    /// Choices made, per platform and use.
    pub choices: Vec<(String, String, Choice)>,
    /// Things that a person should know.
    pub notes: Vec<String>,
}

/// A package of the lock of which the archive has a newer version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewerVersion {
    /// Binary package.
    pub name: String,
    /// Source package.
    pub source: String,
    /// As locked.
    pub locked: String,
    /// What there is.
    pub available: String,
    /// Platforms and uses concerned, as `amd64/run`.
    pub used_in: Vec<String>,
}

/// An index with where it is from.
struct Loaded {
    meta: LockedIndex,
    index: Index,
}

/// Makes the lock for `section`.
///
/// # Errors
/// See [`LockingError`].
pub fn lock_debian(
    section: &DebianSection,
    keyring: &Keyring,
    archive: &dyn Archive,
    old: Option<&LockFile>,
    refresh: &Refresh,
) -> Result<Locked, LockingError> {
    without_damage(archive, |used| make_lock(section, keyring, archive, old, refresh, used))
}

/// Runs `work`, which names the indexes that it used; if one of them was damaged in the cache, once more without it.
fn without_damage<T>(
    archive: &dyn Archive,
    work: impl Fn(&mut Vec<Loaded>) -> Result<T, LockingError>,
) -> Result<T, LockingError> {
    let mut used = Vec::new();
    let result = work(&mut used);
    let damaged: Vec<&Loaded> = used.iter().filter(|one| one.index.is_damaged()).collect();
    if damaged.is_empty() {
        return result;
    }
    damaged.iter().for_each(|one| archive.forget(&cache_key(&one.meta.sha256)));
    work(&mut Vec::new())
}

fn make_lock(
    section: &DebianSection,
    keyring: &Keyring,
    archive: &dyn Archive,
    old: Option<&LockFile>,
    refresh: &Refresh,
    used: &mut Vec<Loaded>,
) -> Result<Locked, LockingError> {
    let mut notes = Vec::new();
    let kept = match refresh {
        Refresh::Keep => old.and_then(|lock| cached_indexes(section, lock, archive)),
        Refresh::All | Refresh::Names(_) => None,
    };
    let loaded = match kept {
        Some(loaded) => loaded,
        None => fetch_indexes(section, keyring, archive, old)?,
    };
    let metas: Vec<LockedIndex> = loaded.iter().map(|one| one.meta.clone()).collect();
    let (loaded, pins) = match (refresh, old) {
        (Refresh::Names(names), Some(lock)) => {
            let mut loaded = loaded;
            match cached_indexes(section, lock, archive) {
                Some(older) => loaded.extend(older),
                None => notes.push("the indexes of the old lock are gone: packages may move whose old version the archive no longer has".to_owned()),
            }
            (loaded, pins_besides(lock, names))
        }
        _ => (loaded, BTreeMap::new()),
    };
    *used = loaded;
    let loaded = &*used;

    let mut packages = Vec::new();
    let mut choices = Vec::new();
    for platform in sorted(&section.architectures) {
        let here: Vec<&Loaded> = loaded.iter().filter(|one| one.meta.arch == platform).collect();
        for (use_name, requests) in section.requests() {
            let no_pins = BTreeMap::new();
            let pins = pins.get(&(platform.clone(), use_name.clone())).unwrap_or(&no_pins);
            let universe = Universe::new(here.iter().map(|one| &one.index)).with_pins(pins.clone());
            let resolution = resolve(&universe, &requests).or_else(|error| {
                if pins.is_empty() {
                    return Err(error);
                }
                notes.push(format!("more than asked for is updated, since otherwise {error}"));
                resolve(&Universe::new(here.iter().map(|one| &one.index)), &requests)
            });
            let resolution = resolution.map_err(|error| LockingError::Resolve {
                error: Box::new(error),
                use_name: use_name.clone(),
                platform: platform.clone(),
            })?;
            choices.extend(
                resolution.choices.iter().map(|choice| (platform.clone(), use_name.clone(), choice.clone())),
            );
            packages.extend(resolution.packages.into_values().map(|found| {
                let archive = &here[found.index_number].meta.archive;
                locked_package(&found.package, archive, &platform, &use_name, found.depends, found.why)
            }));
        }
    }
    let lock = LockFile {
        checksum: String::new(),
        debian: LockedDebian {
            architectures: sorted(&section.architectures),
            archive: section.archive.clone(),
            components: sorted(&section.components),
            date: metas.iter().map(|meta| meta.date.clone()).max().unwrap_or_default(),
            indexes: metas,
            names: names_of(section),
            suite: section.suite.clone(),
            updates: section.updates,
        },
        packages,
        version: LOCK_VERSION,
    };
    Ok(Locked { lock: lock.sealed(), choices, notes })
}

/// Lists the packages of `lock` of which the suite's security archive has a newer version.
///
/// # Errors
/// See [`LockingError`].
pub fn security_updates(
    section: &DebianSection,
    keyring: &Keyring,
    archive: &dyn Archive,
    lock: &LockFile,
) -> Result<Vec<NewerVersion>, LockingError> {
    without_damage(archive, |used| {
        *used = fetch_source(section, &section.security_source(), keyring, archive, Some(lock))?;
        Ok(newer_versions(used, lock))
    })
}

fn newer_versions(loaded: &[Loaded], lock: &LockFile) -> Vec<NewerVersion> {
    let mut found: BTreeMap<(String, String), NewerVersion> = BTreeMap::new();
    for package in &lock.packages {
        let universe = Universe::new(
            loaded.iter().filter(|one| one.meta.arch == package.platform).map(|one| &one.index),
        );
        let Some((_, newest)) = universe.candidate(&package.name) else { continue };
        if compare_versions(newest.version, &package.version) == Ordering::Greater {
            let key = (package.name.clone(), package.version.clone());
            let entry = found.entry(key).or_insert_with(|| NewerVersion {
                name: package.name.clone(),
                source: package.source.clone(),
                locked: package.version.clone(),
                available: newest.version.to_owned(),
                used_in: Vec::new(),
            });
            entry.used_in.push(format!("{}/{}", package.platform, package.use_name));
        }
    }
    found.into_values().collect()
}

fn locked_package(
    package: &Package<'_>,
    archive: &str,
    platform: &str,
    use_name: &str,
    depends: Vec<String>,
    why: Why,
) -> LockedPackage {
    LockedPackage {
        arch: package.arch.to_owned(),
        archive: archive.to_owned(),
        depends,
        name: package.name.to_owned(),
        path: package.path(),
        platform: platform.to_owned(),
        sha256: package.sha256.to_owned(),
        size: package.size_bytes,
        source: package.source_name().to_owned(),
        source_version: package.source_version().to_owned(),
        use_name: use_name.to_owned(),
        version: package.version.to_owned(),
        why: match why {
            Why::Requested => LockedWhy::default(),
            Why::DependencyOf { package, clause } => {
                LockedWhy { by: Some(package), clause: Some(clause), others: Vec::new() }
            }
            Why::ChosenFor(choice) => {
                LockedWhy { by: Some(choice.package), clause: Some(choice.clause), others: choice.others }
            }
        },
    }
}

type Pins = BTreeMap<(String, String), BTreeMap<String, String>>;

/// Versions to hold, per platform and use: all but `names` and what comes from their sources.
fn pins_besides(lock: &LockFile, names: &[String]) -> Pins {
    let sources: Vec<&str> = lock
        .packages
        .iter()
        .filter(|package| names.contains(&package.name) || names.contains(&package.source))
        .map(|package| package.source.as_str())
        .collect();
    let mut pins = Pins::new();
    for package in &lock.packages {
        if !sources.contains(&package.source.as_str()) {
            let key = (package.platform.clone(), package.use_name.clone());
            pins.entry(key).or_default().insert(package.name.clone(), package.version.clone());
        }
    }
    pins
}

/// The indexes that `lock` names, if they are what `section` asks for and all are cached.
fn cached_indexes(section: &DebianSection, lock: &LockFile, archive: &dyn Archive) -> Option<Vec<Loaded>> {
    let debian = &lock.debian;
    let is_same = debian.suite == section.suite
        && debian.archive == section.archive
        && debian.updates == section.updates
        && sorted(&section.components) == debian.components
        && sorted(&section.architectures) == debian.architectures;
    if !is_same || debian.indexes.is_empty() {
        return None;
    }
    let load = |meta: &LockedIndex| {
        let index = Index::from_cache(archive.cached(&cache_key(&meta.sha256))?).ok()?;
        Some(Loaded { meta: meta.clone(), index })
    };
    debian.indexes.par_iter().map(load).collect()
}

fn cache_key(sha256: &str) -> String {
    format!("debian-index-{}-{sha256}", Index::FORMAT)
}

fn fetch_indexes(
    section: &DebianSection,
    keyring: &Keyring,
    archive: &dyn Archive,
    old: Option<&LockFile>,
) -> Result<Vec<Loaded>, LockingError> {
    let fetch = |source: &SuiteSource| fetch_source(section, source, keyring, archive, old);
    let per_source: Result<Vec<Vec<Loaded>>, LockingError> =
        section.sources().par_iter().map(fetch).collect();
    Ok(per_source?.into_iter().flatten().collect())
}

fn fetch_source(
    section: &DebianSection,
    source: &SuiteSource,
    keyring: &Keyring,
    archive: &dyn Archive,
    old: Option<&LockFile>,
) -> Result<Vec<Loaded>, LockingError> {
    let release = fetch_release(source, keyring, archive, old)?;
    let wanted: Vec<(String, String)> = sorted(&section.architectures)
        .into_iter()
        .flat_map(|arch| {
            sorted(&section.components).into_iter().map(move |component| (arch.clone(), component))
        })
        .collect();
    wanted
        .par_iter()
        .map(|(arch, component)| fetch_index(source, &release, component, arch, archive))
        .collect()
}

fn fetch_release(
    source: &SuiteSource,
    keyring: &Keyring,
    archive: &dyn Archive,
    old: Option<&LockFile>,
) -> Result<Release, LockingError> {
    let path = format!("dists/{}/InRelease", source.dist);
    let bytes = archive.fetch(&source.archive, &path, None)?;
    let text = String::from_utf8_lossy(&bytes);
    let release = Release::verify(&text, keyring, &source.dist).map_err(|reason| LockingError::Release {
        archive: source.archive.clone(),
        dist: source.dist.clone(),
        reason: Box::new(reason),
    })?;
    if let (Some(now), Some(valid_until)) = (archive.now(), &release.valid_until)
        && now.as_str() > valid_until.as_str()
    {
        return Err(LockingError::Expired {
            archive: source.archive.clone(),
            dist: source.dist.clone(),
            valid_until: valid_until.clone(),
        });
    }
    let known = old.iter().flat_map(|lock| &lock.debian.indexes);
    let newest = known
        .filter(|index| index.archive == source.archive && index.dist == source.dist)
        .map(|index| index.date.as_str())
        .max();
    if let Some(locked) = newest
        && release.date.as_str() < locked
    {
        return Err(LockingError::Older {
            archive: source.archive.clone(),
            dist: source.dist.clone(),
            date: release.date,
            locked: locked.to_owned(),
        });
    }
    Ok(release)
}

fn fetch_index(
    source: &SuiteSource,
    release: &Release,
    component: &str,
    arch: &str,
    archive: &dyn Archive,
) -> Result<Loaded, LockingError> {
    let (plain, compressed) = release.packages(component, arch).map_err(|reason| LockingError::Release {
        archive: source.archive.clone(),
        dist: source.dist.clone(),
        reason: Box::new(reason),
    })?;
    let meta = LockedIndex {
        arch: arch.to_owned(),
        archive: source.archive.clone(),
        component: component.to_owned(),
        date: release.date.clone(),
        dist: source.dist.clone(),
        sha256: plain.sha256.clone(),
    };
    let key = cache_key(&plain.sha256);
    if let Some(index) = archive.cached(&key).and_then(|kept| Index::from_cache(kept).ok()) {
        return Ok(Loaded { meta, index });
    }
    let path = release.path_of(&source.dist, compressed);
    let bad = |reason: String| LockingError::BadIndex {
        archive: source.archive.clone(),
        path: path.clone(),
        reason,
    };
    let fetch = |path: &str| archive.fetch(&source.archive, path, Some(&compressed.sha256));
    let plain_path = format!("dists/{}/{}", source.dist, compressed.path);
    // A mirror may lack the folder of hashes although the release promises it.
    let bytes = fetch(&path).or_else(|error| {
        if plain_path == path { Err(error) } else { fetch(&plain_path).map_err(|_| error) }
    })?;
    expect_hash(&bytes, &compressed.sha256).map_err(bad)?;
    let text = decompress(&compressed.path, bytes, plain.size_bytes).map_err(bad)?;
    expect_hash(&text, &plain.sha256).map_err(bad)?;
    let text = String::from_utf8(text).map_err(|_| bad("it is not UTF-8".to_owned()))?;
    let index = Index::from_packages(&text).map_err(|error: IndexError| bad(error.to_string()))?;
    archive.keep(&key, &index.as_cache());
    Ok(Loaded { meta, index })
}

fn expect_hash(bytes: &[u8], sha256: &str) -> Result<(), String> {
    let found = to_hex(&Sha256::digest(bytes));
    if found == sha256 { Ok(()) } else { Err(format!("its SHA-256 is {found}, not {sha256}")) }
}

/// Unpacks at most `size_bytes`: the signed release says how long the text is.
fn decompress(path: &str, bytes: Vec<u8>, size_bytes: u64) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let read = |reader: &mut dyn Read, text: &mut Vec<u8>| reader.take(size_bytes + 1).read_to_end(text);
    let result = match path.rsplit_once('.') {
        Some((_, "xz")) => read(&mut liblzma::read::XzDecoder::new(bytes.as_slice()), &mut text),
        Some((_, "gz")) => read(&mut flate2::read::MultiGzDecoder::new(bytes.as_slice()), &mut text),
        _ => return Ok(bytes),
    };
    result.map_err(|error| format!("it cannot be unpacked: {error}"))?;
    if text.len() as u64 > size_bytes {
        return Err(format!("it unpacks to more than {size_bytes} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::openpgp::tests::signed;
    use crate::manifest::Manifest;
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// An archive in memory: one suite, one component, one architecture.
    #[derive(Default)]
    struct Memory {
        files: BTreeMap<String, Vec<u8>>,
        cache: Mutex<BTreeMap<String, Vec<u8>>>,
        fetched: Mutex<Vec<String>>,
        now: Option<String>,
    }

    impl Memory {
        fn with_packages(packages: &[(&str, &str, &str)]) -> (Self, Keyring) {
            let text: String = packages
                .iter()
                .map(|(name, version, depends)| {
                    format!(
                        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nDepends: {depends}\nSource: src-{name}\n\
                         Filename: pool/main/{name}.deb\nSize: 7\nSHA256: {:064}\n\n",
                        version.len()
                    )
                })
                .collect();
            let hash = to_hex(&Sha256::digest(&text));
            let release = format!(
                "Suite: s\nCodename: s\nDate: Sat, 17 May 2025 08:32:00 UTC\nValid-Until: Sat, 24 May 2025 08:32:00 UTC\n\
                 Acquire-By-Hash: yes\nSHA256:\n {hash} {} main/binary-amd64/Packages\n",
                text.len()
            );
            let (keys, message) = signed(1, &release);
            let mut archive = Self::default();
            archive.files.insert("a/dists/s/InRelease".into(), message.into_bytes());
            archive
                .files
                .insert(format!("a/dists/s/main/binary-amd64/by-hash/SHA256/{hash}"), text.into_bytes());
            (archive, Keyring::read(&keys).expect("one key"))
        }
    }

    impl Archive for Memory {
        fn fetch(&self, archive: &str, path: &str, _: Option<&str>) -> Result<Vec<u8>, ArchiveError> {
            let full = format!("{archive}/{path}");
            self.fetched.lock().expect("not poisoned").push(full.clone());
            self.files.get(&full).cloned().ok_or_else(|| ArchiveError {
                archive: archive.to_owned(),
                path: path.to_owned(),
                reason: "not there".to_owned(),
            })
        }
        fn cached(&self, key: &str) -> Option<Box<dyn Kept>> {
            Some(Box::new(self.cache.lock().expect("not poisoned").get(key)?.clone()))
        }
        fn keep(&self, key: &str, parts: &[&[u8]]) {
            self.cache.lock().expect("not poisoned").insert(key.to_owned(), parts.concat());
        }
        fn forget(&self, key: &str) {
            self.cache.lock().expect("not poisoned").remove(key);
        }
        fn now(&self) -> Option<String> {
            self.now.clone()
        }
    }

    fn section(names: &str) -> DebianSection {
        let text =
            format!("debian = {{ suite = \"s\", archive = \"a\", updates = false, packages = [{names}] }}");
        Manifest::parse(&text).expect("well formed").debian.expect("given")
    }

    fn names(lock: &LockFile) -> Vec<String> {
        lock.packages.iter().map(|package| format!("{}={}", package.name, package.version)).collect()
    }

    #[test]
    fn a_lock_says_what_and_why_and_is_the_same_twice() {
        let (archive, keyring) =
            Memory::with_packages(&[("x", "1", "y | z"), ("y", "2", ""), ("z", "3", "")]);
        let make =
            || lock_debian(&section("\"x\""), &keyring, &archive, None, &Refresh::Keep).expect("it resolves");
        let locked = make();
        assert_eq!(names(&locked.lock), ["x=1", "y=2"]);
        assert_eq!(locked.lock.to_text(), make().lock.to_text());
        assert_eq!(LockFile::parse(&locked.lock.to_text()).expect("just written"), locked.lock);
        let why = &locked.lock.packages[1].why;
        assert_eq!(
            (why.by.as_deref(), why.clause.as_deref(), why.others.as_slice()),
            (Some("x"), Some("y | z"), &["z".to_owned()][..])
        );
        assert_eq!((locked.choices.len(), locked.lock.debian.date.as_str()), (1, "20250517T083200Z"));
    }

    #[test]
    fn one_more_name_moves_nothing_else_and_needs_no_network() {
        let (archive, keyring) = Memory::with_packages(&[("x", "1", ""), ("y", "2", "")]);
        let first = lock_debian(&section("\"x\""), &keyring, &archive, None, &Refresh::Keep)
            .expect("it resolves")
            .lock;
        let (mut newer, keyring) = Memory::with_packages(&[("x", "1.1", ""), ("y", "2.1", "")]);
        newer.cache = Mutex::new(archive.cache.into_inner().expect("not poisoned"));
        let more = lock_debian(&section("\"x\", \"y\""), &keyring, &newer, Some(&first), &Refresh::Keep)
            .expect("it resolves")
            .lock;
        assert_eq!(names(&more), ["x=1", "y=2"]);
        assert!(newer.fetched.lock().expect("not poisoned").is_empty());
        let one = Refresh::Names(vec!["y".to_owned()]);
        let updated = lock_debian(&section("\"x\", \"y\""), &keyring, &newer, Some(&more), &one)
            .expect("it resolves")
            .lock;
        assert_eq!(names(&updated), ["x=1", "y=2.1"]);
        let all = lock_debian(&section("\"x\", \"y\""), &keyring, &newer, Some(&more), &Refresh::All)
            .expect("it resolves")
            .lock;
        assert_eq!(names(&all), ["x=1.1", "y=2.1"]);
    }

    /// What is said of an archive that is not as it should be; nothing of it is kept.
    #[track_caller]
    fn refused(archive: &Memory, keyring: &Keyring) -> String {
        let error =
            lock_debian(&section("\"x\""), keyring, archive, None, &Refresh::Keep).expect_err("refused");
        assert!(archive.cache.lock().expect("not poisoned").is_empty(), "something of it is kept");
        error.to_string()
    }

    fn index_path(archive: &Memory) -> String {
        archive.files.keys().find(|path| path.contains("by-hash")).cloned().expect("an index")
    }

    #[test]
    fn an_index_that_was_changed_is_refused() {
        let (mut archive, keyring) = Memory::with_packages(&[("x", "1", "")]);
        let index = index_path(&archive);
        archive.files.get_mut(&index).expect("there")[9] = b'X';
        let told = refused(&archive, &keyring);
        assert!(told.contains("is not what the signed release names: its SHA-256 is"), "{told}");
    }

    #[test]
    fn a_release_that_was_changed_or_is_signed_by_others_is_refused() {
        let (mut archive, keyring) = Memory::with_packages(&[("x", "1", "")]);
        let release = archive.files.get_mut("a/dists/s/InRelease").expect("there");
        let text =
            String::from_utf8(release.clone()).expect("text").replacen("Codename: s", "Codename: t", 1);
        *release = text.into_bytes();
        let told = refused(&archive, &keyring);
        assert!(told.contains("InRelease:") && told.contains("signature"), "{told}");

        let (archive, _) = Memory::with_packages(&[("x", "1", "")]);
        let stranger = Keyring::read(&signed(2, "x").0).expect("one key");
        let told = refused(&archive, &stranger);
        assert!(told.contains("InRelease:"), "{told}");

        let (mut archive, keyring) = Memory::with_packages(&[("x", "1", "")]);
        archive.files.insert("a/dists/s/InRelease".into(), b"Suite: s\nSHA256:\n".to_vec());
        let told = refused(&archive, &keyring);
        assert!(told.contains("InRelease:"), "not signed at all: {told}");
    }

    #[test]
    fn a_release_of_another_suite_is_refused() {
        let (mut archive, keyring) = Memory::with_packages(&[("x", "1", "")]);
        let release = archive.files.remove("a/dists/s/InRelease").expect("there");
        archive.files.insert("a/dists/t/InRelease".into(), release);
        let text = "debian = { suite = \"t\", archive = \"a\", updates = false, packages = [\"x\"] }";
        let other = Manifest::parse(text).expect("well formed").debian.expect("given");
        let error = lock_debian(&other, &keyring, &archive, None, &Refresh::Keep).expect_err("refused");
        assert!(error.to_string().contains("the release file is for `s`, not for `t`"), "{error}");
    }

    #[test]
    fn a_release_that_expired_or_is_older_than_the_lock_is_refused() {
        let (mut archive, keyring) = Memory::with_packages(&[("x", "1", "")]);
        archive.now = Some("20250601T000000Z".to_owned());
        let told = refused(&archive, &keyring);
        assert!(told.contains("InRelease expired on 20250524T083200Z"), "{told}");

        archive.now = None;
        let mut lock = lock_debian(&section("\"x\""), &keyring, &archive, None, &Refresh::Keep)
            .expect("it resolves")
            .lock;
        lock.debian.indexes[0].date = "20250518T000000Z".to_owned();
        let error = lock_debian(&section("\"x\""), &keyring, &archive, Some(&lock), &Refresh::All)
            .expect_err("replayed");
        let told = error.to_string();
        assert!(told.contains("of 20250517T083200Z, older than what ampoule.lock"), "{told}");
    }

    #[test]
    fn a_mirror_without_the_folder_of_hashes_will_do() {
        let (mut archive, keyring) = Memory::with_packages(&[("x", "1", "")]);
        let index = archive.files.remove(&index_path(&archive)).expect("there");
        archive.files.insert("a/dists/s/main/binary-amd64/Packages".into(), index);
        let lock =
            lock_debian(&section("\"x\""), &keyring, &archive, None, &Refresh::Keep).expect("it resolves");
        assert_eq!(names(&lock.lock), ["x=1"]);

        let (mut archive, keyring) = Memory::with_packages(&[("x", "1", "")]);
        let index = index_path(&archive);
        archive.files.remove(&index);
        let told = refused(&archive, &keyring);
        assert!(told.contains("by-hash/SHA256/") && told.contains("not there"), "{told}");
    }

    #[test]
    fn compressed_indexes_that_are_cut_short_or_too_long_are_refused() {
        let text = "Package: x\nVersion: 1\n".repeat(2000);
        let compress = |text: &str| {
            let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 6);
            std::io::Write::write_all(&mut writer, text.as_bytes()).expect("memory");
            writer.finish().expect("memory")
        };
        let whole = compress(&text);
        assert_eq!(
            decompress("Packages.xz", whole.clone(), text.len() as u64).as_deref(),
            Ok(text.as_bytes())
        );
        let error = decompress("Packages.xz", whole[..whole.len() / 2].to_vec(), text.len() as u64);
        assert!(error.as_ref().is_err_and(|e| e.contains("cannot be unpacked")), "{error:?}");
        let error = decompress("Packages.xz", b"no xz".to_vec(), 9);
        assert!(error.as_ref().is_err_and(|e| e.contains("cannot be unpacked")), "{error:?}");
        let error = decompress("Packages.xz", whole, 100);
        assert_eq!(error, Err("it unpacks to more than 100 bytes".to_owned()));
    }

    #[test]
    fn a_damaged_cache_is_fetched_again() {
        let (archive, keyring) = Memory::with_packages(&[("x", "1", "y"), ("y", "2", "")]);
        let make =
            || lock_debian(&section("\"x\""), &keyring, &archive, None, &Refresh::Keep).expect("it resolves");
        let first = make();
        let damage = |change: &dyn Fn(&mut Vec<u8>)| {
            archive.cache.lock().expect("not poisoned").values_mut().for_each(change);
        };
        damage(&|bytes| {
            let end = bytes.len();
            bytes[end - 200..].fill(b'#');
        });
        assert_eq!(make().lock.to_text(), first.lock.to_text());
        damage(&|bytes| bytes.truncate(30));
        assert_eq!(make().lock.to_text(), first.lock.to_text());
        assert_eq!(make().lock.to_text(), first.lock.to_text());
    }

    #[test]
    fn loops_of_dependencies_end() {
        let (archive, keyring) =
            Memory::with_packages(&[("x", "1", "y, z"), ("y", "1", "z"), ("z", "1", "x")]);
        let lock =
            lock_debian(&section("\"x\""), &keyring, &archive, None, &Refresh::Keep).expect("it resolves");
        assert_eq!(names(&lock.lock), ["x=1", "y=1", "z=1"]);
    }

    #[test]
    fn a_chain_of_dependencies_may_be_long() {
        let names: Vec<String> = (0..20_000).map(|n| format!("x{n}")).collect();
        let list: Vec<(&str, &str, &str)> =
            names.windows(2).map(|two| (two[0].as_str(), "1", two[1].as_str())).collect();
        let (archive, keyring) = Memory::with_packages(&[&list[..], &[("x19999", "1", "")]].concat());
        let lock =
            lock_debian(&section("\"x0\""), &keyring, &archive, None, &Refresh::Keep).expect("it resolves");
        assert_eq!(lock.lock.packages.len(), 20_000);
    }
}
