//! What people ask of an image: what is it, what is in it, how do two differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::digest::Digest;
use crate::error::Result;
use crate::oci::Config;
use crate::open::OpenImage;
use crate::project::{ImageReport, ManifestReport};
use crate::rootfs::{self, RootEntry, RootFs};
use crate::tar_read::Kind;

/// `ampoule image inspect`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// What it is made of.
    #[serde(flatten)]
    pub report: ImageReport,
    /// The configurations, in the order of the manifests.
    pub configs: Vec<Config>,
}

/// Returns what an image is.
pub fn inspect(image: &OpenImage) -> Inspection {
    Inspection { report: image.image.report(), configs: image.configs.clone() }
}

/// `ampoule image layers`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayersReport {
    /// One for each platform.
    pub manifests: Vec<ManifestReport>,
    /// Why each layer is as it is, by platform and layer, where a plan says it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub explained: Vec<Vec<LayerExplanation>>,
}

/// Why a layer is one.
#[derive(Clone, Debug, Serialize)]
pub struct LayerExplanation {
    /// Its name.
    pub name: String,
    /// Why it is a layer.
    pub why: String,
    /// What is in it: store paths, or paths in the image.
    pub holds: Vec<String>,
}

/// Returns an image's layers, and why they are so if its plan is at hand.
pub fn layers(image: &OpenImage, plan: Option<&crate::plan::Plan>) -> LayersReport {
    let explained = plan.map(|plan| plan.platforms.iter().map(explain).collect());
    LayersReport { manifests: image.image.report().manifests, explained: explained.unwrap_or_default() }
}

/// Returns why each layer of a plan is as it is.
pub fn explain(platform: &crate::plan::PlatformPlan) -> Vec<LayerExplanation> {
    use crate::plan::Part;
    let holds = |part: &Part| -> Vec<String> {
        match part {
            Part::Object { path, keep, .. } | Part::Tree { path, keep, .. } => {
                let kept = keep.as_ref().map(|keep| format!(" ({} paths of it)", keep.len()));
                vec![format!("{path}{}", kept.unwrap_or_default())]
            }
            Part::Slice { package, version, size, paths, .. } => {
                let name = if package.is_empty() { "what no package brought" } else { package };
                let version = version.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
                vec![format!("{name}{version} ({paths} paths, {})", ampoule_store::human_size(*size))]
            }
            Part::Files { entries } => entries.iter().map(|file| format!("/{}", file.path)).collect(),
        }
    };
    platform
        .layers
        .iter()
        .map(|layer| LayerExplanation {
            name: layer.name.clone(),
            why: layer.why.clone(),
            holds: layer.parts.iter().flat_map(holds).collect(),
        })
        .collect()
}

/// A directory or file of `ampoule image tree`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeNode {
    /// Bytes here and below.
    pub size_bytes: u64,
    /// Files here and below.
    pub files: u64,
    /// What a link leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// What is below.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub below: BTreeMap<String, TreeNode>,
}

/// Returns the files of an image as a tree with sizes.
pub fn tree(fs: &RootFs) -> TreeNode {
    let mut root = TreeNode::default();
    for (path, entry) in &fs.entries {
        let size = entry.own_bytes();
        let files = u64::from(entry.kind != Kind::Directory);
        let mut at = &mut root;
        (at.size_bytes, at.files) = (at.size_bytes + size, at.files + files);
        for name in path.split(|&b| b == b'/') {
            at = at.below.entry(String::from_utf8_lossy(name).into_owned()).or_default();
            (at.size_bytes, at.files) = (at.size_bytes + size, at.files + files);
        }
        if entry.kind == Kind::Symlink {
            at.link = Some(String::from_utf8_lossy(&entry.link).into_owned());
        }
    }
    root
}

/// `ampoule image diff`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageDiff {
    /// Whether both are the same image.
    pub is_same: bool,
    /// Bytes of files: before and after.
    pub size_bytes: (u64, u64),
    /// Compressed bytes of layers: before and after.
    pub compressed_bytes: (u64, u64),
    /// Packages that came, went or changed their version.
    pub packages: Vec<PackageChange>,
    /// Files that came, went or changed.
    pub files: Vec<FileChange>,
    /// Settings of the configuration that changed: name, before, after.
    pub config: Vec<(String, Option<serde_json::Value>, Option<serde_json::Value>)>,
    /// Layers that both have, by digest.
    pub shared_layers: usize,
}

/// A package that changed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// Its version before.
    pub before: Option<String>,
    /// Its version after.
    pub after: Option<String>,
    /// By how many bytes its files grew.
    pub grown_bytes: i64,
}

/// A file that changed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// Its path.
    pub path: String,
    /// `added`, `removed`, or what changed: `contents`, `mode`, `owner`, `kind`, `link`,
    /// `attributes` (extended ones).
    pub change: Vec<&'static str>,
    /// Its size before.
    pub before_bytes: Option<u64>,
    /// Its size after.
    pub after_bytes: Option<u64>,
    /// The package that brings it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// Compares two images, for the first platform that both have.
///
/// # Errors
/// As [`rootfs::read`].
pub fn diff(before: &OpenImage, after: &OpenImage) -> Result<ImageDiff> {
    let mut out =
        ImageDiff { is_same: before.image.top.digest == after.image.top.digest, ..ImageDiff::default() };
    let platform = before
        .image
        .manifests
        .iter()
        .map(|m| m.descriptor.platform.as_ref())
        .find(|p| after.image.manifests.iter().any(|m| m.descriptor.platform.as_ref() == *p))
        .flatten();
    let (a, b) = (before.image.manifest_for(platform), after.image.manifest_for(platform));
    let size = |m: &crate::project::ImageManifest| m.layers.iter().map(|l| l.blob.size_bytes).sum();
    out.compressed_bytes = (size(a), size(b));
    let digests = |m: &crate::project::ImageManifest| -> BTreeSet<Digest> {
        m.layers.iter().map(|layer| layer.blob.digest).collect()
    };
    out.shared_layers = digests(a).intersection(&digests(b)).count();
    out.config = diff_config(&a.config_bytes, &b.config_bytes);
    if a.descriptor.digest == b.descriptor.digest {
        return Ok(out);
    }
    let (old, new) = (rootfs::read(before, a)?, rootfs::read(after, b)?);
    let total = |fs: &RootFs| fs.entries.values().map(RootEntry::own_bytes).sum();
    out.size_bytes = (total(&old), total(&new));
    out.packages = diff_packages(&old, &new);
    let paths: BTreeSet<&Vec<u8>> = old.entries.keys().chain(new.entries.keys()).collect();
    for path in paths {
        let (x, y) = (old.entries.get(path), new.entries.get(path));
        let change = changes(x, y);
        if change.is_empty() {
            continue;
        }
        let package = new.owners.get(path).or_else(|| old.owners.get(path)).cloned();
        out.files.push(FileChange {
            path: format!("/{}", String::from_utf8_lossy(path)),
            change,
            before_bytes: x.map(|e| e.size_bytes),
            after_bytes: y.map(|e| e.size_bytes),
            package,
        });
    }
    Ok(out)
}

fn changes(before: Option<&RootEntry>, after: Option<&RootEntry>) -> Vec<&'static str> {
    let (x, y) = match (before, after) {
        (None, _) => return vec!["added"],
        (_, None) => return vec!["removed"],
        (Some(x), Some(y)) => (x, y),
    };
    let mut changes = Vec::new();
    if x.kind != y.kind {
        changes.push("kind");
    }
    if x.digest != y.digest {
        changes.push("contents");
    }
    if x.link != y.link {
        changes.push("link");
    }
    if x.mode != y.mode {
        changes.push("mode");
    }
    if (x.uid, x.gid) != (y.uid, y.gid) {
        changes.push("owner");
    }
    if x.xattrs != y.xattrs {
        changes.push("attributes");
    }
    changes
}

fn diff_packages(old: &RootFs, new: &RootFs) -> Vec<PackageChange> {
    let names: BTreeSet<&String> = old.packages.keys().chain(new.packages.keys()).collect();
    let size = |fs: &RootFs, name: &str| -> i64 {
        let own = fs.owners.iter().filter(|(_, owner)| *owner == name);
        own.filter_map(|(path, _)| fs.entries.get(path))
            .map(|e| i64::try_from(e.own_bytes()).unwrap_or(i64::MAX))
            .sum()
    };
    names
        .into_iter()
        .filter(|name| old.packages.get(*name) != new.packages.get(*name))
        .map(|name| PackageChange {
            name: name.clone(),
            before: old.packages.get(name).cloned(),
            after: new.packages.get(name).cloned(),
            grown_bytes: size(new, name) - size(old, name),
        })
        .collect()
}

type ConfigChanges = Vec<(String, Option<serde_json::Value>, Option<serde_json::Value>)>;

fn diff_config(before: &[u8], after: &[u8]) -> ConfigChanges {
    let read = |bytes: &[u8]| -> serde_json::Map<String, serde_json::Value> {
        let whole: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        let mut out = whole.get("config").and_then(|c| c.as_object()).cloned().unwrap_or_default();
        for name in ["architecture", "os", "variant", "created"] {
            if let Some(value) = whole.get(name) {
                out.insert(name.to_owned(), value.clone());
            }
        }
        out
    };
    let (old, new) = (read(before), read(after));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| (name.clone(), old.get(name).cloned(), new.get(name).cloned()))
        .collect()
}
