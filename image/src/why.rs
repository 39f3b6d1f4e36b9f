//! Which path brought a file into an image, and why.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use serde::Serialize;

use crate::build::Objects;
use crate::error::{ImageError, Result};
use crate::open::OpenImage;
use crate::plan::{Part, Plan};
use crate::project::Projector;
use crate::rootfs;

/// The file of an image object that says why `slim` kept what it kept.
pub const SLIM_FILE: &str = "slim.json";

/// `ampoule image why FILE`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The file.
    pub path: String,
    /// The platform of the image.
    pub platform: String,
    /// The layer that has it.
    pub layer: String,
    /// Why that is a layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_why: Option<String>,
    /// The store object that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// From what the file names to that object: each refers to the next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// The package that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Why `slim` kept it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// Finds out about a file of an image whose plan is at hand.
///
/// # Errors
/// [`ImageError::Invalid`] if the image has no such file.
pub fn why_planned(
    projector: &Projector<'_>,
    objects: &dyn Objects,
    plan: &Plan,
    file: &str,
) -> Result<Vec<Why>> {
    let wanted = crate::entry::clean_path(file)?;
    let mut out = Vec::new();
    for platform in &plan.platforms {
        // The highest layer that has it is the one that a container sees.
        for layer in platform.layers.iter().rev() {
            let entries = projector.entries(platform, layer)?;
            if !entries.iter().any(|entry| entry.path == wanted) {
                continue;
            }
            let bringer = bringer(projector, platform, layer, &wanted)?;
            let (object, package) = bringer.map_or((None, None), |b| (Some(b.object), b.package));
            let chain = object.as_ref().map(|object| chain(objects, platform, object)).transpose()?;
            let name = platform.platform.to_string();
            out.push(Why {
                path: format!("/{}", String::from_utf8_lossy(&wanted)),
                layer: layer.name.clone(),
                layer_why: Some(layer.why.clone()),
                kept: slim_reason(projector.own, &name, &wanted),
                package: match package {
                    Some(package) => Some(package),
                    None => package_of(projector, platform, &wanted)?,
                },
                platform: name,
                object,
                chain: chain.unwrap_or_default(),
            });
            break;
        }
    }
    if out.is_empty() {
        return Err(ImageError::invalid(format!("the image has no `{file}`")));
    }
    Ok(out)
}

/// Finds out about a file of an image of which only the layers are known.
///
/// # Errors
/// [`ImageError::Invalid`] if the image has no such file.
pub fn why_layers(image: &OpenImage, file: &str) -> Result<Vec<Why>> {
    let wanted = crate::entry::clean_path(file)?;
    let mut out = Vec::new();
    for manifest in &image.image.manifests {
        let fs = rootfs::read(image, manifest)?;
        let Some(entry) = fs.entries.get(&*wanted) else { continue };
        let path = format!("/{}", String::from_utf8_lossy(&wanted));
        out.push(Why {
            object: crate::project::split_store_path(&path).map(|(object, _)| object.to_owned()),
            path,
            platform: manifest.descriptor.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
            layer: manifest.layers[entry.layer].name.clone(),
            layer_why: None,
            chain: Vec::new(),
            package: fs.owners.get(&*wanted).cloned(),
            kept: None,
        });
    }
    if out.is_empty() {
        return Err(ImageError::invalid(format!("the image has no `{file}`")));
    }
    Ok(out)
}

/// Which part of a layer has a path.
struct Bringer {
    /// The part's store path.
    object: String,
    /// The package, where the plan says it.
    package: Option<String>,
}

/// Finds which part of a layer has a path.
fn bringer(
    projector: &Projector<'_>,
    platform: &crate::plan::PlatformPlan,
    layer: &crate::plan::LayerPlan,
    wanted: &[u8],
) -> Result<Option<Bringer>> {
    for part in &layer.parts {
        let (path, at) = match part {
            Part::Object { path, .. } => (path, path.trim_start_matches('/')),
            Part::Tree { path, at, .. } | Part::Slice { path, at, .. } => (path, at.as_str()),
            Part::Files { .. } => continue,
        };
        let below = match wanted.strip_prefix(at.as_bytes()) {
            Some(below) if at.is_empty() || below.is_empty() || below[0] == b'/' => below,
            _ => continue,
        };
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let below = std::str::from_utf8(below).unwrap_or_default();
        if let Part::Slice { package, .. } = part {
            let paths = projector.slices.of(projector.own, &platform.platform, path, package)?;
            if paths.binary_search_by(|path| path.as_str().cmp(below)).is_ok() {
                let package = Some(package.clone()).filter(|name| !name.is_empty());
                return Ok(Some(Bringer { object: path.clone(), package }));
            }
            continue;
        }
        let root = projector.objects.locate(path)?;
        let there = if below.is_empty() { root } else { root.join(below) };
        if std::fs::symlink_metadata(there).is_ok() {
            return Ok(Some(Bringer { object: path.clone(), package: None }));
        }
    }
    Ok(None)
}

/// Finds the shortest way from what nothing else refers to, to `object`.
fn chain(objects: &dyn Objects, platform: &crate::plan::PlatformPlan, object: &str) -> Result<Vec<String>> {
    let mut refers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in platform.layers.iter().flat_map(|layer| &layer.parts) {
        if let Part::Object { path, .. } | Part::Tree { path, .. } | Part::Slice { path, .. } = part {
            refers.insert(path.clone(), objects.facts(path)?.references);
        }
    }
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (user, used) in &refers {
        for used in used.iter().filter(|used| *used != user) {
            users.entry(used).or_default().push(user);
        }
    }
    let mut came: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen = BTreeSet::from([object]);
    let mut todo = VecDeque::from([object]);
    let mut top = object;
    while let Some(at) = todo.pop_front() {
        let above = users.get(at).map(Vec::as_slice).unwrap_or_default();
        if above.is_empty() {
            top = at;
            break;
        }
        for user in above {
            if seen.insert(user) {
                came.insert(user, at);
                todo.push_back(user);
            }
        }
    }
    let mut chain = vec![top.to_owned()];
    while let Some(next) = came.get(top) {
        top = next;
        chain.push(top.to_owned());
    }
    Ok(chain)
}

fn package_of(
    projector: &Projector<'_>,
    platform: &crate::plan::PlatformPlan,
    wanted: &[u8],
) -> Result<Option<String>> {
    for part in platform.layers.iter().flat_map(|layer| &layer.parts) {
        let Part::Tree { path, at, .. } = part else { continue };
        let root = projector.objects.locate(path)?;
        let entries = crate::walk::read_tree(&root, at.as_bytes(), crate::walk::Modes::Root)?;
        let view = crate::view::View::new(entries.into_iter().map(|e| (0, e.path.clone(), e)).collect());
        if let Some(owner) = crate::dpkg::Dpkg::read(&view)?.owner(wanted) {
            return Ok(Some(owner.to_owned()));
        }
    }
    Ok(None)
}

fn slim_reason(own: &Path, platform: &str, wanted: &[u8]) -> Option<String> {
    let bytes = std::fs::read(own.join(SLIM_FILE)).ok()?;
    let all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(&bytes).ok()?;
    all.get(platform)?.get(std::str::from_utf8(wanted).ok()?).cloned()
}
