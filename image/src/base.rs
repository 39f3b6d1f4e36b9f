//! An image that lies below ours: somebody else's layers, by digest.

use std::collections::BTreeSet;
use std::path::Path;

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::layer::LayerBlob;
use crate::layout::Layout;
use crate::oci::{self, Config, Descriptor, History, Manifest, RunConfig, media};
use crate::project::ImageLayer;

/// A base image, read and checked.
pub struct Base {
    /// Its configuration.
    pub config: Config,
    /// Its layers, lowest first.
    pub layers: Vec<ImageLayer>,
}

/// More layers than this are refused: no runtime mounts them.
pub const MAX_LAYERS: usize = 127;

/// More manifests than this in one index are refused.
const MAX_MANIFESTS: usize = 1000;

/// Reads the manifest `digest` of the layout at `layout`.
///
/// # Errors
/// [`ImageError::DigestMismatch`], [`ImageError::SizeMismatch`],
/// [`ImageError::Malformed`] for another type, too many layers, or as many
/// diff-ids as there are not layers.
pub fn read(layout: &Path, digest: &Digest) -> Result<Base> {
    let layout = Layout::open(layout)?;
    let path = layout.blob_path(digest);
    let bytes = crate::blobs::read_verified(&path, digest)?;
    let manifest = read_manifest(&bytes, None)?;
    let config: Config = oci::from_json("image configuration", &layout.read(&manifest.config)?)?;
    let layers = layer_blobs(&manifest, &config)?
        .into_iter()
        .enumerate()
        .map(|(i, blob)| ImageLayer {
            path: layout.blob_path(&blob.digest),
            blob,
            name: format!("base layer {i}"),
            made: false,
        })
        .collect();
    Ok(Base { config, layers })
}

/// Pairs the layers of a manifest with what its configuration says that they are.
///
/// # Errors
/// [`ImageError::Malformed`] if there are more of the ones than of the others.
pub(crate) fn layer_blobs(manifest: &Manifest, config: &Config) -> Result<Vec<LayerBlob>> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let why = format!("{} diff-ids for {} layers", diff_ids.len(), manifest.layers.len());
        return Err(ImageError::malformed("image configuration", why));
    }
    let pairs = manifest.layers.iter().zip(diff_ids);
    Ok(pairs
        .map(|(layer, diff_id)| LayerBlob {
            diff_id: *diff_id,
            digest: layer.digest,
            size_bytes: layer.size,
            tar_bytes: 0,
            media_type: layer.media_type.clone(),
        })
        .collect())
}

/// Reads a manifest, and refuses what is something else in disguise.
///
/// A document that could be read both as a manifest and as an index (it has
/// `manifests` beside `config` or `layers`) means different things to different
/// readers (CVE-2021-41190) and is refused; so is one whose own `mediaType` is not
/// the type under which it came.
///
/// # Errors
/// [`ImageError::Malformed`].
pub fn read_manifest(bytes: &[u8], came_as: Option<&str>) -> Result<Manifest> {
    let fields: serde_json::Map<String, serde_json::Value> = oci::from_json("image manifest", bytes)?;
    let fail = |why: String| Err(ImageError::malformed("image manifest", why));
    if fields.contains_key("manifests") || fields.contains_key("fsLayers") {
        return fail("it is a manifest and an index at once".to_owned());
    }
    let manifest: Manifest = oci::from_json("image manifest", bytes)?;
    if manifest.schema_version != 2 {
        return fail(format!("schema version {}, expected 2", manifest.schema_version));
    }
    let own = manifest.media_type.as_deref();
    if let (Some(own), Some(came)) = (own, came_as)
        && own != came
    {
        return fail(format!("it came as `{came}` and calls itself `{own}`"));
    }
    if let Some(kind) = own.or(came_as)
        && !media::is_manifest(kind)
    {
        return fail(format!("`{kind}` is not the type of a manifest"));
    }
    if manifest.layers.len() > MAX_LAYERS {
        return fail(format!("{} layers, at most {MAX_LAYERS} can be mounted", manifest.layers.len()));
    }
    if let Some(odd) = manifest.layers.iter().find(|layer| !media::is_layer(&layer.media_type)) {
        let kind = &odd.media_type;
        let foreign = kind.contains(".foreign.") || kind.contains(".nondistributable.");
        return fail(if foreign {
            format!("`{kind}` is a layer that is kept elsewhere, and is not fetched from there")
        } else {
            format!("`{kind}` is not the type of a layer")
        });
    }
    Ok(manifest)
}

/// Whether an index names an image here, and not an attestation or the like.
pub fn is_image(descriptor: &Descriptor) -> bool {
    let of_an_image = |kind: &str| matches!(kind, media::CONFIG | media::DOCKER_CONFIG);
    media::is_manifest(&descriptor.media_type)
        && descriptor.platform.as_ref().is_none_or(|platform| platform.architecture != "unknown")
        && descriptor.artifact_type.as_deref().is_none_or(of_an_image)
}

/// The error for a document of another type than an image's.
pub fn not_an_image(media_type: &str) -> ImageError {
    let old = media_type.contains(".manifest.v1+");
    ImageError::malformed(
        "image manifest",
        match media_type {
            "" => "it came without a type".to_owned(),
            kind if old => format!(
                "`{kind}` is Docker's first format, which nobody writes any more: push the image anew"
            ),
            kind => format!("`{kind}` is not the type of an image"),
        },
    )
}

/// Reads the `index.json` of a layout or archive, which may name indexes.
///
/// # Errors
/// [`ImageError::Malformed`].
pub fn read_top_index(bytes: &[u8]) -> Result<oci::Index> {
    let index: oci::Index = oci::from_json("index.json", bytes)?;
    if index.schema_version != 2 {
        return Err(ImageError::malformed(
            "index.json",
            format!("schema version {}, expected 2", index.schema_version),
        ));
    }
    Ok(index)
}

/// Reads an index, and refuses what is something else in disguise. It may name
/// indexes: see [`flatten`].
///
/// # Errors
/// [`ImageError::Malformed`].
pub fn read_index(bytes: &[u8], came_as: Option<&str>) -> Result<oci::Index> {
    let fields: serde_json::Map<String, serde_json::Value> = oci::from_json("image index", bytes)?;
    let fail = |why: String| Err(ImageError::malformed("image index", why));
    if ["config", "layers", "fsLayers"].iter().any(|field| fields.contains_key(*field)) {
        return fail("it is an index and a manifest at once".to_owned());
    }
    let index: oci::Index = oci::from_json("image index", bytes)?;
    if index.schema_version != 2 {
        return fail(format!("schema version {}, expected 2", index.schema_version));
    }
    let own = index.media_type.as_deref();
    if let (Some(own), Some(came)) = (own, came_as)
        && own != came
    {
        return fail(format!("it came as `{came}` and calls itself `{own}`"));
    }
    if let Some(kind) = own.or(came_as)
        && !media::is_index(kind)
    {
        return fail(format!("`{kind}` is not the type of an index"));
    }
    Ok(index)
}

/// Indexes within indexes are followed so deep: two are seen in practice (an index of a
/// release that names the index of each program).
const MAX_DEPTH: usize = 8;

/// An index with what its inner indexes name in their place.
pub struct Flat {
    /// What is named and is no index, each once, in the order in which it is met.
    pub manifests: Vec<Descriptor>,
    /// The inner indexes, each after those that it names.
    pub inner: Vec<(Descriptor, Vec<u8>)>,
}

/// Follows the indexes that `index` names. `read` returns an index's bytes, checked, or
/// none where it is not here.
///
/// # Errors
/// Those of `read`; [`ImageError::Malformed`] for what is no index, for indexes that are
/// too deep within each other, and for more manifests than any image has.
pub fn flatten(
    index: oci::Index,
    read: &mut dyn FnMut(&Descriptor) -> Result<Option<Vec<u8>>>,
) -> Result<Flat> {
    let mut flat = Flat { manifests: Vec::new(), inner: Vec::new() };
    follow(index, read, 0, &mut BTreeSet::new(), &mut flat)?;
    Ok(flat)
}

fn follow(
    index: oci::Index,
    read: &mut dyn FnMut(&Descriptor) -> Result<Option<Vec<u8>>>,
    depth: usize,
    seen: &mut BTreeSet<Digest>,
    flat: &mut Flat,
) -> Result<()> {
    let fail = |why: String| Err(ImageError::malformed("image index", why));
    if depth > MAX_DEPTH {
        return fail(format!("more than {MAX_DEPTH} indexes within each other"));
    }
    for descriptor in index.manifests {
        // Named again it brings nothing new, and could bring it without end.
        if !seen.insert(descriptor.digest) {
            continue;
        }
        if seen.len() > MAX_MANIFESTS {
            return fail(format!("more than {MAX_MANIFESTS} manifests"));
        }
        if !media::is_index(&descriptor.media_type) {
            flat.manifests.push(descriptor);
        } else if let Some(bytes) = read(&descriptor)? {
            let inner = read_index(&bytes, Some(&descriptor.media_type))?;
            follow(inner, read, depth + 1, seen, flat)?;
            flat.inner.push((descriptor, bytes));
        }
    }
    Ok(())
}

/// Finds the manifest for a platform among those of an index: the one that names its
/// variant exactly, else the highest variant that such a machine runs.
///
/// # Errors
/// [`ImageError::Invalid`] naming the platforms that there are.
pub fn choose<'a>(manifests: &'a [Descriptor], platform: &oci::Platform) -> Result<&'a Descriptor> {
    let images = || manifests.iter().filter(|d| media::is_manifest(&d.media_type));
    let rank = |d: &Descriptor| d.platform.as_ref().and_then(|there| there.rank_for(platform));
    // Of equals the first.
    images().rev().filter(|d| rank(d).is_some()).max_by_key(|d| rank(d)).ok_or_else(|| {
        let there: Vec<String> =
            images().filter_map(|d| d.platform.as_ref()).map(ToString::to_string).collect();
        ImageError::invalid(format!("the image has no `{platform}`: it has `{}`", there.join("`, `")))
    })
}

impl Base {
    /// Returns the history of its layers, one line each.
    pub fn history(&self) -> Vec<History> {
        let own = self.config.history.iter().filter(|h| h.empty_layer != Some(true)).count();
        if own == self.layers.len() {
            return self.config.history.clone();
        }
        self.layers
            .iter()
            .map(|layer| History { created_by: Some(layer.name.clone()), ..History::default() })
            .collect()
    }
}

/// Gives `run` what the base says and it does not: as a `FROM` line would.
pub fn inherit(run: &mut RunConfig, base: &RunConfig) {
    if let Some(below) = &base.env {
        let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
        let own = run.env.take().unwrap_or_default();
        let named: Vec<String> = own.iter().map(|line| name(line)).collect();
        let mut env: Vec<String> =
            below.iter().filter(|line| !named.contains(&name(line))).cloned().collect();
        env.extend(own);
        run.env = Some(env);
    }
    if run.entrypoint.is_none() {
        run.entrypoint = base.entrypoint.clone();
        run.cmd = run.cmd.take().or_else(|| base.cmd.clone());
    }
    if run.working_dir.is_empty() {
        run.working_dir = base.working_dir.clone();
    }
    run.healthcheck = run.healthcheck.take().or_else(|| base.healthcheck.clone());
    run.stop_signal = run.stop_signal.take().or_else(|| base.stop_signal.clone());
    for (ours, theirs) in [(&mut run.exposed_ports, &base.exposed_ports), (&mut run.volumes, &base.volumes)] {
        if let Some(theirs) = theirs {
            ours.get_or_insert_default().extend(theirs.iter().map(|(k, v)| (k.clone(), *v)));
        }
    }
    if let Some(theirs) = &base.labels {
        let ours = run.labels.get_or_insert_default();
        for (name, value) in theirs {
            ours.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Finds the manifest for `platform` in a layout: the one that is named, or the
/// only one.
///
/// # Errors
/// As [`read_index`] and [`choose`].
pub fn find(layout: &Layout, digest: Option<&Digest>, platform: &oci::Platform) -> Result<Digest> {
    let index = layout.index()?;
    let top = match digest {
        Some(digest) => index.manifests.iter().find(|m| m.digest == *digest).cloned(),
        None if index.manifests.len() == 1 => index.manifests.first().cloned(),
        None => return choose(&index.manifests, platform).map(|d| d.digest),
    };
    let top = match (top, digest) {
        (Some(top), _) => top,
        // A digest that only an inner index names: it is a blob all the same.
        (None, Some(digest)) => {
            let bytes = crate::blobs::read_verified(&layout.blob_path(digest), digest)?;
            return read_manifest(&bytes, None).map(|_| *digest);
        }
        (None, None) => return Err(ImageError::invalid("the base layout is empty")),
    };
    if !media::is_index(&top.media_type) {
        return Ok(top.digest);
    }
    let index = read_index(&layout.read(&top)?, Some(&top.media_type))?;
    let here = |d: &Descriptor| layout.blob_path(&d.digest).is_file().then(|| layout.read(d)).transpose();
    let flat = flatten(index, &mut { here })?;
    choose(&flat.manifests, platform).map(|d| d.digest)
}
