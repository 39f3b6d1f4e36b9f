//! An image that lies below ours: somebody else's layers, by digest.

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
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(ImageError::malformed(
            "the base's configuration",
            format!("{} diff-ids for {} layers", config.rootfs.diff_ids.len(), manifest.layers.len()),
        ));
    }
    let layers = manifest
        .layers
        .iter()
        .zip(&config.rootfs.diff_ids)
        .enumerate()
        .map(|(i, (layer, diff_id))| ImageLayer {
            blob: LayerBlob {
                diff_id: *diff_id,
                digest: layer.digest,
                size_bytes: layer.size,
                tar_bytes: 0,
                media_type: layer.media_type.clone(),
            },
            name: format!("base layer {i}"),
            made: false,
            path: layout.blob_path(&layer.digest),
        })
        .collect();
    Ok(Base { config, layers })
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

/// Reads an index, and refuses what is something else in disguise, or an index
/// of indexes.
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
    if index.manifests.iter().any(|m| media::is_index(&m.media_type)) {
        return fail("an index within an index is not followed".to_owned());
    }
    Ok(index)
}

/// Finds the manifest for a platform in an index.
///
/// # Errors
/// [`ImageError::Invalid`] naming the platforms that there are.
pub fn choose<'a>(index: &'a oci::Index, platform: &oci::Platform) -> Result<&'a Descriptor> {
    let fits = |d: &&Descriptor| {
        media::is_manifest(&d.media_type) && d.platform.as_ref().is_some_and(|there| there.fits(platform))
    };
    index.manifests.iter().find(fits).ok_or_else(|| {
        let there: Vec<String> =
            index.manifests.iter().filter_map(|d| d.platform.as_ref()).map(ToString::to_string).collect();
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
        None => return choose(&index, platform).map(|d| d.digest),
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
    let inner = read_index(&layout.read(&top)?, Some(&top.media_type))?;
    choose(&inner, platform).map(|d| d.digest)
}
