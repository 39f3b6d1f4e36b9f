//! The package records in a Debian tree: who owns a file, who depends on whom.
//!
//! Read from `var/lib/dpkg/status.d` (one record and one `.md5sums` for each package,
//! as distroless trees have it) or, where that is absent, from dpkg's own
//! `status` and `info`.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::slices::Owned;
use crate::spec::PackageSpec;
use crate::view::View;

/// Records of all packages of a tree.
#[derive(Debug, Default)]
pub struct Dpkg {
    owners: BTreeMap<Box<[u8]>, String>,
    files: BTreeMap<String, Vec<Box<[u8]>>>,
    depends: BTreeMap<String, Vec<String>>,
    packages: Vec<PackageSpec>,
}

impl Dpkg {
    /// Reads the records of the image's tree; none is no error.
    ///
    /// # Errors
    /// [`crate::ImageError::Io`].
    pub fn read(view: &View) -> Result<Self> {
        let mut dpkg = Self::default();
        let dir = b"var/lib/dpkg/";
        let records: Vec<Box<[u8]>> = view
            .below(b"var/lib/dpkg")
            .map(|(path, _)| path)
            .filter(|path| path.starts_with(b"var/lib/dpkg/status.d/") || **path == *b"var/lib/dpkg/status")
            .map(Into::into)
            .collect();
        for path in records {
            let Some(bytes) = view.read(&path)? else { continue };
            let text = String::from_utf8_lossy(&bytes);
            match path.strip_suffix(b".md5sums") {
                Some(stem) => {
                    let package =
                        String::from_utf8_lossy(&stem[dir.len() + b"status.d/".len()..]).into_owned();
                    dpkg.add_sums(view, &package, &text);
                }
                None => text.split("\n\n").for_each(|record| dpkg.add_record(record)),
            }
        }
        let infos: Vec<Box<[u8]>> = view
            .below(b"var/lib/dpkg/info")
            .map(|(path, _)| path)
            .filter(|path| path.ends_with(b".md5sums"))
            .map(Into::into)
            .collect();
        for path in infos {
            let Some(bytes) = view.read(&path)? else { continue };
            let name = &path[b"var/lib/dpkg/info/".len()..path.len() - b".md5sums".len()];
            let name = String::from_utf8_lossy(name);
            let package = name.split(':').next().unwrap_or(&name).to_owned();
            dpkg.add_sums(view, &package, &String::from_utf8_lossy(&bytes));
        }
        dpkg.packages.sort();
        dpkg.packages.dedup();
        Ok(dpkg)
    }

    /// Adds what who composed the tree knows: files that `md5sums` leave out
    /// (configuration, links), for the tree laid at `at`.
    pub fn add_owned(&mut self, view: &View, at: &str, owned: &BTreeMap<String, Owned>) {
        for (package, owned) in owned {
            let files = self.files.entry(package.clone()).or_default();
            let known: BTreeSet<Box<[u8]>> = files.iter().cloned().collect();
            for path in &owned.paths {
                let path = if at.is_empty() { path.clone() } else { format!("{at}/{path}") };
                // The directory may lie behind a link; the name itself is what is meant.
                let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
                let dir = view.resolve(dir.as_bytes()).end.unwrap_or_else(|| dir.as_bytes().into());
                let path: Box<[u8]> = match &*dir {
                    [] => name.as_bytes().into(),
                    dir => [dir, b"/", name.as_bytes()].concat().into(),
                };
                self.owners.insert(path.clone(), package.clone());
                if !known.contains(&path) {
                    files.push(path);
                }
            }
        }
    }

    fn add_sums(&mut self, view: &View, package: &str, text: &str) {
        for line in text.lines() {
            let Some((_, path)) = line.split_once("  ") else { continue };
            // Merged `/usr`: the record says `lib/…`, the file lies in `usr/lib/…`.
            let path = view.resolve(path.as_bytes()).end.unwrap_or_else(|| path.as_bytes().into());
            self.owners.insert(path.clone(), package.to_owned());
            self.files.entry(package.to_owned()).or_default().push(path);
        }
    }

    fn add_record(&mut self, record: &str) {
        let field = |name: &str| {
            record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
        };
        let (Some(name), Some(version)) = (field("Package"), field("Version")) else { return };
        let depends: BTreeSet<String> = [field("Depends"), field("Pre-Depends")]
            .into_iter()
            .flatten()
            .flat_map(|list| list.split([',', '|']))
            .filter_map(|one| one.split_whitespace().next())
            .map(|one| one.split(':').next().unwrap_or(one).to_owned())
            .collect();
        self.depends.insert(name.to_owned(), depends.into_iter().collect());
        let source = field("Source").and_then(|s| s.split_whitespace().next());
        let source_version =
            field("Source").and_then(|s| s.split_once('(')).map(|(_, v)| v.trim_end_matches(')'));
        self.packages.push(PackageSpec {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: field("Architecture").map(str::to_owned),
            kind: Some("deb".to_owned()),
            source: source.map(str::to_owned),
            source_version: source_version.map(str::to_owned),
            sha256: None,
            path: None,
            license: None,
        });
    }

    /// Returns the package that brought the file at `path`.
    pub fn owner(&self, path: &[u8]) -> Option<&str> {
        self.owners.get(path).map(String::as_str)
    }

    /// Returns the files of a package.
    pub fn files(&self, package: &str) -> Vec<Box<[u8]>> {
        self.files.get(package).cloned().unwrap_or_default()
    }

    /// Returns the packages that a package names in its dependencies.
    pub fn depends(&self, package: &str) -> Vec<String> {
        self.depends.get(package).cloned().unwrap_or_default()
    }

    /// Returns the source package of a package.
    pub fn source<'a>(&'a self, package: &'a str) -> &'a str {
        let found = self.packages.iter().find(|known| known.name == package);
        found.and_then(|known| known.source.as_deref()).unwrap_or(package)
    }

    /// Returns every package.
    pub fn packages(&self) -> &[PackageSpec] {
        &self.packages
    }
}
