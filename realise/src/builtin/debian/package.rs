//! What a package says of itself: its control member.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ampoule_store::{HashAlgo, Hasher};
use serde_json::{Value, json};

use super::layout::Layout;
use crate::unpack::tar::Kind;
use crate::unpack::{ArArchive, Limits, RelPath, UnpackError, deb_member, read_tar};

/// A package, before its files are looked at.
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    /// The control file, without an empty line at its end.
    pub(super) control: String,
    pub(super) md5sums: String,
    /// `preinst` and `postinst`, by name.
    pub(super) scripts: BTreeMap<String, String>,
    /// What debconf's questions answer when nobody is asked.
    pub(super) defaults: BTreeMap<String, String>,
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
    /// Its file's SHA-256, in base 16.
    pub(super) sha256: String,
    /// Its place in the list that was asked for.
    pub(super) index: usize,
    /// Whether what its scripts do is accepted.
    pub(super) accepted: bool,
}

/// Control members are small; this is far more than any has.
const CONTROL_LIMIT: Limits = Limits { max_bytes: 64 << 20, max_entries: 1000 };

impl Package {
    pub(super) fn read(path: &Path, index: usize) -> Result<Self, UnpackError> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        let mut hasher = Hasher::new(HashAlgo::Sha256);
        std::io::copy(&mut File::open(path)?, &mut hasher)?;
        let sha256 = hasher.finish().to_base16();
        let archive = ArArchive::open(file)?;
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        read_tar(deb_member(&archive, "control.tar")?, CONTROL_LIMIT, &mut |entry, data| {
            let name =
                RelPath::parse(&entry.name).map_err(|problem| UnpackError::name(&entry.name, problem))?;
            if entry.kind == Kind::File
                && matches!(
                    name.as_bytes(),
                    b"control" | b"md5sums" | b"preinst" | b"postinst" | b"templates"
                )
            {
                let mut bytes = Vec::new();
                data.read_to_end(&mut bytes)?;
                texts.insert(name.to_string(), String::from_utf8_lossy(&bytes).into_owned());
            }
            Ok(())
        })?;
        let control = texts
            .remove("control")
            .ok_or_else(|| UnpackError::archive("not a Debian package: no control file"))?;
        let control = control.trim_end().to_owned();
        let required = |name: &str| {
            field(&control, name)
                .ok_or_else(|| UnpackError::archive(format!("the control file has no `{name}`")))
        };
        let name = required("Package")?;
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) || name.starts_with('.') {
            return Err(UnpackError::archive(format!("`{name}` is not the name of a package")));
        }
        Ok(Self {
            name,
            version: required("Version")?,
            architecture: required("Architecture")?,
            md5sums: texts.remove("md5sums").unwrap_or_default(),
            defaults: defaults(&texts.remove("templates").unwrap_or_default()),
            scripts: texts,
            control,
            path: path.to_owned(),
            size_bytes,
            sha256,
            index,
            accepted: false,
        })
    }

    /// Returns a field of the control file, its first line.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        field(&self.control, name)
    }

    /// Returns whether both say that their files at `path` have the same bytes.
    pub(super) fn has_same_file(&self, other: &Self, path: &RelPath, layout: &Layout) -> bool {
        let sum = |package: &Self| {
            package.md5sums.lines().find_map(|line| {
                let (sum, name) = line.split_once("  ")?;
                let name = RelPath::parse(name.as_bytes()).ok()?;
                (layout.merged(&name) == *path).then(|| sum.to_owned())
            })
        };
        matches!((sum(self), sum(other)), (Some(a), Some(b)) if a == b)
    }

    pub(super) fn to_json(&self) -> Value {
        // `Source: name (version)`, where it has another version than the package.
        let source = self.field("Source").unwrap_or_else(|| self.name.clone());
        let (source, version) = match source.split_once(" (") {
            Some((source, version)) => (source.to_owned(), version.trim_end_matches(')').to_owned()),
            None => (source, self.version.clone()),
        };
        json!({
            "name": self.name,
            "version": self.version,
            "architecture": self.architecture,
            "source": source,
            "sourceVersion": version,
        })
    }
}

/// Reads debconf's templates: question and default.
fn defaults(templates: &str) -> BTreeMap<String, String> {
    let stanza = |text: &str| Some((field(text, "Template")?, field(text, "Default")?));
    templates.split("\n\n").filter_map(stanza).collect()
}

fn field(control: &str, name: &str) -> Option<String> {
    control.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
