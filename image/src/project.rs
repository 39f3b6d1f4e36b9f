//! Projects a plan into an image: layers, configurations, manifests, index.
//!
//! ```text
//! for each layer   key → record in the cache?  yes: done, nothing is walked
//!                                              no:  walk its parts, write it, record it
//! then             config → manifest → (index) → index.json
//! ```
//!
//! All layers that are missing, of all platforms, are written at once.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::blobs::BlobCache;
use crate::compress::Compression;
use crate::digest::Digest;
use crate::entry::{self, Entry};
use crate::error::{ImageError, Result};
use crate::layer::{LayerBlob, LayerJob, write_layers};
use crate::layout::{self, BlobRef, Layout};
use crate::oci::{self, Config, Descriptor, History, Index, Manifest, RootFs, media};
use crate::plan::{FilePlan, FileWhat, Format, LayerPlan, ObjectSource, Part, Plan, PlatformPlan};
use crate::slices::SliceLists;
use crate::walk::{self, Modes};

/// What a projection works with.
pub struct Projector<'a> {
    /// Where layers are found and kept.
    pub cache: &'a BlobCache,
    /// Finds store objects.
    pub objects: &'a dyn ObjectSource,
    /// The image's own object, for files that the plan keeps beside itself.
    pub own: &'a Path,
    /// How many threads to use; all cores if `None`.
    pub threads: Option<NonZeroUsize>,
    /// Compress in another way than the plan says.
    pub compression: Option<Compression>,
    /// The paths of the object's slices.
    pub slices: SliceLists,
}

/// An image whose documents are made and whose layers are known.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name and tag.
    pub name: String,
    /// The tag.
    pub tag: String,
    /// The manifest (one platform) or index (several).
    pub top: Descriptor,
    /// Every manifest with its parts, in the order of the plan.
    pub manifests: Vec<ImageManifest>,
    /// The index of several platforms.
    pub index: Option<Vec<u8>>,
    /// What the index names beside images.
    pub companions: Vec<Companion>,
    /// What the plan wants people to know.
    pub notes: Vec<String>,
}

/// One platform of an image.
#[derive(Clone, Debug)]
pub struct ImageManifest {
    /// The manifest's descriptor, with its platform.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The configuration's descriptor.
    pub config: Descriptor,
    /// Its bytes.
    pub config_bytes: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<ImageLayer>,
}

/// What an index names and is no image: a manifest that speaks of one (an attestation, as
/// `docker buildx` adds them), or an index in its turn. Handed on as it is.
#[derive(Clone, Debug)]
pub struct Companion {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it names.
    pub blobs: Vec<BlobRef>,
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct ImageLayer {
    /// What the layer is.
    pub blob: LayerBlob,
    /// What people call it.
    pub name: String,
    /// Whether this projection wrote it.
    pub made: bool,
    /// Where its bytes are (or would be).
    pub path: PathBuf,
}

/// What came of a projection, for people and for `--json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// `name:tag`.
    pub reference: String,
    /// The digest that pins the image: of its manifest, or of its index.
    pub digest: Digest,
    /// Compressed bytes of all distinct layers.
    pub size_bytes: u64,
    /// One for each platform.
    pub manifests: Vec<ManifestReport>,
    /// What people should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One platform in a report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestReport {
    /// `linux/amd64`.
    pub platform: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The configuration's digest: Docker's image id.
    pub config: Digest,
    /// The layers, lowest first.
    pub layers: Vec<LayerReport>,
}

/// One layer in a report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerReport {
    /// What people call it.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub blob: LayerBlob,
    /// Whether it was written now, or was there.
    pub made: bool,
}

/// Whether a projection must end with all blobs on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every blob: for a layout or an archive.
    Blobs,
    /// What the layers are called: for asking a registry what it lacks.
    Records,
}

impl Projector<'_> {
    /// Projects `plan`.
    ///
    /// # Errors
    /// [`ImageError::Io`] of the store or the cache, [`ImageError::Invalid`] if the
    /// plan's parts cannot lie in one image.
    pub fn project(&self, plan: &Plan, need: Need) -> Result<Image> {
        let compression = self.compression.unwrap_or(plan.compression);
        let layers = self.layers(plan, compression, need)?;
        let mut manifests = Vec::new();
        for platform in &plan.platforms {
            manifests.push(self.manifest(plan, platform, compression, &layers)?);
        }
        let index = (manifests.len() > 1).then(|| {
            let mut index = Index::new(manifests.iter().map(|m| m.descriptor.clone()).collect());
            index.annotations = plan.annotations.clone();
            if plan.format == Format::Docker {
                index.media_type = Some(media::DOCKER_INDEX.to_owned());
            }
            (index.media_type.clone(), oci::to_json(&index))
        });
        let top = match (&index, &manifests[..]) {
            (Some((media_type, bytes)), _) => {
                Descriptor::of(media_type.as_deref().unwrap_or(media::INDEX), bytes)
            }
            (None, [only]) => only.descriptor.clone(),
            (None, _) => return Err(ImageError::invalid("an image needs at least one platform")),
        };
        Ok(Image {
            name: plan.name.clone(),
            tag: plan.tag.clone(),
            top,
            manifests,
            index: index.map(|(_, bytes)| bytes),
            companions: Vec::new(),
            notes: plan.notes.clone(),
        })
    }

    /// Finds or writes every layer of the plan, by key.
    fn layers(
        &self,
        plan: &Plan,
        compression: Compression,
        need: Need,
    ) -> Result<BTreeMap<Digest, (LayerBlob, bool)>> {
        let mut found = BTreeMap::new();
        let mut missing: Vec<(Digest, &PlatformPlan, &LayerPlan)> = Vec::new();
        let mut seen = BTreeSet::new();
        for platform in &plan.platforms {
            for layer in &platform.layers {
                let key = platform.layer_key(layer, compression);
                if !seen.insert(key) {
                    continue;
                }
                match self.cache.layer(&key) {
                    Some(blob) if need == Need::Records || self.cache.has(&blob.digest, blob.size_bytes) => {
                        found.insert(key, (blob, false));
                    }
                    _ => missing.push((key, platform, layer)),
                }
            }
        }
        for (key, blob) in self.write(&missing, compression)? {
            found.insert(key, (blob, true));
        }
        Ok(found)
    }

    fn write(
        &self,
        missing: &[(Digest, &PlatformPlan, &LayerPlan)],
        compression: Compression,
    ) -> Result<Vec<(Digest, LayerBlob)>> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        let mut blobs = Vec::new();
        for (_, platform, layer) in missing {
            entries.push(self.entries(platform, layer)?);
            blobs.push(self.cache.start()?);
        }
        let jobs: Vec<LayerJob<'_>> = entries
            .iter()
            .zip(&blobs)
            .map(|(entries, blob)| LayerJob { entries, file: blob.file(), path: blob.path() })
            .collect();
        let written = write_layers(&jobs, compression, self.threads)?;
        drop(jobs);
        let mut out = Vec::new();
        for (((key, ..), blob), layer) in missing.iter().zip(blobs).zip(written) {
            self.cache.finish(blob, &layer.digest)?;
            self.cache.record_layer(key, &layer)?;
            out.push((*key, layer));
        }
        Ok(out)
    }

    /// Lists what a layer holds, settled.
    ///
    /// # Errors
    /// As [`Self::project`].
    pub fn entries(&self, platform: &PlatformPlan, layer: &LayerPlan) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for part in &layer.parts {
            self.part_entries(platform, part, &mut entries)?;
        }
        // Directories on the way to store objects belong to the store: no table touches them.
        let store: Vec<&str> = layer
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Object { path, .. } => Some(path.trim_start_matches('/')),
                _ => None,
            })
            .collect();
        let of_the_store = |path: &[u8]| {
            store.iter().any(|object| {
                object.as_bytes().strip_prefix(path).is_some_and(|rest| rest.first() == Some(&b'/'))
            })
        };
        let parent = |path: &[u8]| {
            let mut made = [Entry::directory(path, 0o755)];
            if !of_the_store(path) {
                apply_tables(platform, &mut made);
            }
            let [made] = made;
            made
        };
        let mut entries = entry::settle(entries, &parent)?;
        walk::link_equal_files(&mut entries)?;
        Ok(entries)
    }

    fn part_entries(&self, platform: &PlatformPlan, part: &Part, out: &mut Vec<Entry>) -> Result<()> {
        match part {
            Part::Object { path, keep, .. } => {
                let at = path.trim_start_matches('/');
                let found = walk::read_tree(&self.objects.locate(path)?, at.as_bytes(), Modes::Store)?;
                out.extend(kept(found, at, keep.as_deref()));
            }
            Part::Tree { path, at, keep, .. } => {
                let found = walk::read_tree(&self.objects.locate(path)?, at.as_bytes(), Modes::Root)?;
                let from = out.len();
                out.extend(kept(found, at, keep.as_deref()));
                follow_links(platform, out, from);
                apply_tables(platform, &mut out[from..]);
            }
            Part::Slice { path, at, package, .. } => {
                let paths = self.slices.of(self.own, &platform.platform, path, package)?;
                let root = self.objects.locate(path)?;
                let from = out.len();
                out.extend(walk::read_paths(&root, at.as_bytes(), paths, Modes::Root)?);
                follow_links(platform, out, from);
                apply_tables(platform, &mut out[from..]);
            }
            Part::Files { entries } => {
                let from = out.len();
                for file in entries {
                    self.file_entries(file, out)?;
                }
                follow_links(platform, out, from);
                apply_permissions(platform, &mut out[from..]);
                // What the file writes itself wins over what a tree in the same layer
                // brings, as it does when it lies in a layer above.
                let own: BTreeSet<Box<[u8]>> =
                    out[from..].iter().filter(|e| !e.is_directory()).map(|e| e.path.clone()).collect();
                let mut i = 0;
                out.retain(|entry| {
                    i += 1;
                    i > from || entry.is_directory() || !own.contains(&entry.path)
                });
            }
        }
        Ok(())
    }

    fn file_entries(&self, file: &FilePlan, out: &mut Vec<Entry>) -> Result<()> {
        let path = entry::clean_path(&file.path)?;
        let owned = |mut entry: Entry| {
            (entry.mode, entry.uid, entry.gid) = (file.owner.mode, file.owner.uid, file.owner.gid);
            entry
        };
        match &file.what {
            FileWhat::Text(text) => out.push(owned(Entry::bytes(path, 0, text.as_bytes()))),
            FileWhat::Symlink(target) => out.push(Entry::symlink(path, target.as_bytes())),
            FileWhat::Directory(_) => out.push(owned(Entry::directory(path, 0))),
            FileWhat::Own(name) => {
                let source = self.own.join(name);
                let len = std::fs::metadata(&source).map_err(|e| ImageError::io("read", &source, e))?.len();
                out.push(owned(Entry::file(path, 0, source, len)));
            }
            FileWhat::Source(source) => {
                let source = self.locate_below(source)?;
                let mut found = walk::read_tree(&source, &path, Modes::Root)?;
                if let [only] = &mut found[..]
                    && !only.is_directory()
                    && !matches!(only.kind, entry::EntryKind::Symlink(_))
                {
                    *only = owned(only.clone());
                }
                for entry in &mut found {
                    (entry.uid, entry.gid) = (file.owner.uid, file.owner.gid);
                }
                out.append(&mut found);
            }
        }
        Ok(())
    }

    /// Finds a path that may go on below a store object.
    fn locate_below(&self, path: &str) -> Result<PathBuf> {
        let (object, below) = split_store_path(path)
            .ok_or_else(|| ImageError::invalid(format!("`{path}` is not in a store")))?;
        let root = self.objects.locate(object)?;
        Ok(if below.is_empty() { root } else { root.join(below) })
    }

    fn manifest(
        &self,
        plan: &Plan,
        platform: &PlatformPlan,
        compression: Compression,
        made: &BTreeMap<Digest, (LayerBlob, bool)>,
    ) -> Result<ImageManifest> {
        let mut layers = Vec::new();
        let mut history = Vec::new();
        let mut run = platform.config.clone();
        if let Some(base) = &platform.base {
            let below = crate::base::read(&self.objects.locate(&base.layout)?, &base.manifest)?;
            crate::base::inherit(&mut run, &below.config.config);
            history.extend(below.history());
            layers.extend(below.layers);
        }
        for layer in &platform.layers {
            let key = platform.layer_key(layer, compression);
            let (blob, made) = made.get(&key).expect("every layer of the plan was found or written").clone();
            let path = self.cache.blob_path(&blob.digest);
            history.push(History {
                created: Some(plan.created.clone()),
                created_by: Some(format!("ampoule: {}", layer.name)),
                ..History::default()
            });
            layers.push(ImageLayer { blob, name: layer.name.clone(), made, path });
        }
        let config = Config {
            created: Some(plan.created.clone()),
            author: None,
            architecture: platform.platform.architecture.clone(),
            os: platform.platform.os.clone(),
            variant: platform.platform.variant.clone(),
            config: run,
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.iter().map(|layer| layer.blob.diff_id).collect(),
            },
            history,
            other: BTreeMap::new(),
        };
        let config_bytes = oci::to_json(&config);
        let config = Descriptor::of(types(plan.format).config, &config_bytes);
        let descriptors = layers
            .iter()
            .map(|layer| {
                let media_type = layer_type(plan.format, &layer.blob.media_type)?;
                Ok(Descriptor::new(media_type, layer.blob.digest, layer.blob.size_bytes))
            })
            .collect::<Result<_>>()?;
        let mut manifest = Manifest::new(config.clone(), descriptors);
        manifest.media_type = Some(types(plan.format).manifest.to_owned());
        manifest.annotations = plan.annotations.clone();
        let bytes = oci::to_json(&manifest);
        let mut descriptor = Descriptor::of(types(plan.format).manifest, &bytes);
        descriptor.platform = Some(platform.platform.clone());
        Ok(ImageManifest { descriptor, bytes, config, config_bytes, layers })
    }
}

struct Types {
    config: &'static str,
    manifest: &'static str,
}

fn types(format: Format) -> Types {
    match format {
        Format::Oci => Types { config: media::CONFIG, manifest: media::MANIFEST },
        Format::Docker => Types { config: media::DOCKER_CONFIG, manifest: media::DOCKER_MANIFEST },
    }
}

/// Returns a layer's type in the words of `format`.
fn layer_type(format: Format, media_type: &str) -> Result<&str> {
    Ok(match (format, media_type) {
        (Format::Docker, media::LAYER_GZIP) => media::DOCKER_LAYER_GZIP,
        (Format::Docker, media::LAYER) => media::DOCKER_LAYER,
        (Format::Docker, media::LAYER_ZSTD) => {
            return Err(ImageError::invalid(
                "Docker's manifest format has no zstd layers: use `compression = \"gzip\"` or `format = \"oci\"`",
            ));
        }
        (Format::Oci, media::DOCKER_LAYER_GZIP) => media::LAYER_GZIP,
        (Format::Oci, media::DOCKER_LAYER) => media::LAYER,
        (_, other) => other,
    })
}

/// Splits `/nix/store/HASH-name/below` into the object's path and the rest.
pub(crate) fn split_store_path(path: &str) -> Option<(&str, &str)> {
    let name_start = path
        .match_indices('/')
        .map(|(i, _)| i + 1)
        .find(|&i| path.len() > i + 33 && path.as_bytes()[i + 32] == b'-' && is_base32(&path[i..i + 32]))?;
    let end = path[name_start..].find('/').map_or(path.len(), |n| name_start + n);
    Some((&path[..end], path[end..].trim_start_matches('/')))
}

fn is_base32(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b.is_ascii_lowercase() && !b"eout".contains(&b)))
}

/// Keeps the named files (and links, and empty directories) of a tree.
fn kept<'a>(entries: Vec<Entry>, at: &'a str, keep: Option<&'a [String]>) -> Vec<Entry> {
    let Some(keep) = keep else { return entries };
    let wanted: BTreeSet<Vec<u8>> = keep
        .iter()
        .map(
            |path| {
                if at.is_empty() { path.clone().into_bytes() } else { format!("{at}/{path}").into_bytes() }
            },
        )
        .collect();
    let mut entries = entries;
    entries.retain(|entry| wanted.contains(&*entry.path));
    entries
}

/// Moves what lies below a link to a directory to where the link leads.
fn follow_links(platform: &PlatformPlan, out: &mut Vec<Entry>, from: usize) {
    if platform.links.is_empty() {
        return;
    }
    let links: BTreeMap<&[u8], &[u8]> =
        platform.links.iter().map(|(link, to)| (link.as_bytes(), to.as_bytes())).collect();
    for entry in &mut out[from..] {
        if let Some(moved) = through_links(&links, &entry.path) {
            entry.path = moved.into();
        }
    }
    // A directory where another tree has a link to one: the link stays.
    let mut i = 0;
    out.retain(|entry| {
        i += 1;
        i <= from || !(entry.is_directory() && links.contains_key(&*entry.path))
    });
}

/// Returns where a path leads if a directory on its way is a link.
pub(crate) fn through_links(links: &BTreeMap<&[u8], &[u8]>, path: &[u8]) -> Option<Vec<u8>> {
    let mut moved: Option<Vec<u8>> = None;
    // The plan's table is closed (targets go through no link of it), so that one
    // look at every parent suffices; the bound is for a table that somebody wrote.
    for _ in 0..40 {
        let now: &[u8] = moved.as_deref().unwrap_or(path);
        let next = now.iter().enumerate().filter(|&(_, &b)| b == b'/').find_map(|(i, _)| {
            let to = links.get(&now[..i])?;
            Some(if to.is_empty() { now[i + 1..].to_vec() } else { [to, &now[i..]].concat() })
        });
        match next {
            Some(next) => moved = Some(next),
            None => break,
        }
    }
    moved
}

fn apply_tables(platform: &PlatformPlan, entries: &mut [Entry]) {
    if !platform.directories.is_empty() {
        for entry in entries.iter_mut().filter(|e| e.is_directory()) {
            let owner = std::str::from_utf8(&entry.path).ok().and_then(|p| platform.directories.get(p));
            if let Some(owner) = owner {
                (entry.mode, entry.uid, entry.gid) = (owner.mode, owner.uid, owner.gid);
            }
        }
    }
    apply_permissions(platform, entries);
}

fn apply_permissions(platform: &PlatformPlan, entries: &mut [Entry]) {
    for rule in &platform.permissions {
        let path = rule.path.as_bytes();
        for entry in entries.iter_mut() {
            let below = rule.recursive
                && (path.is_empty()
                    || (entry.path.starts_with(path) && entry.path.get(path.len()) == Some(&b'/')));
            if !below && &*entry.path != path {
                continue;
            }
            let link = matches!(entry.kind, entry::EntryKind::Symlink(_));
            entry.mode = rule.mode.filter(|_| !link).unwrap_or(entry.mode);
            entry.uid = rule.uid.unwrap_or(entry.uid);
            entry.gid = rule.gid.unwrap_or(entry.gid);
        }
    }
}

impl Image {
    /// Returns what people are told.
    pub fn report(&self) -> ImageReport {
        let sizes: BTreeMap<Digest, u64> = self
            .manifests
            .iter()
            .flat_map(|m| &m.layers)
            .map(|layer| (layer.blob.digest, layer.blob.size_bytes))
            .collect();
        ImageReport {
            reference: format!("{}:{}", self.name, self.tag),
            digest: self.top.digest,
            size_bytes: sizes.values().sum(),
            manifests: self.manifests.iter().map(ImageManifest::report).collect(),
            notes: self.notes.clone(),
        }
    }

    /// Returns `index.json` of a layout or archive with this image.
    ///
    /// The tag is there twice: as OCI's reference name, and as containerd and
    /// Docker's containerd store want it.
    pub fn index_json(&self) -> Vec<u8> {
        let mut top = self.top.clone();
        top.annotations.insert(layout::REF_NAME.to_owned(), self.tag.clone());
        top.annotations.insert(
            "io.containerd.image.name".to_owned(),
            canonical_name(&format!("{}:{}", self.name, self.tag)),
        );
        oci::to_json(&Index::new(vec![top]))
    }

    /// Keeps the documents in the cache and returns every blob, sorted by digest.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn blobs(&self, cache: &BlobCache) -> Result<Vec<BlobRef>> {
        let mut blobs = BTreeMap::new();
        let mut document = |bytes: &[u8]| -> Result<()> {
            let digest = cache.put(bytes)?;
            let path = cache.blob_path(&digest);
            blobs.insert(digest, BlobRef { digest, size_bytes: bytes.len() as u64, path });
            Ok(())
        };
        for manifest in &self.manifests {
            document(&manifest.bytes)?;
            document(&manifest.config_bytes)?;
        }
        for companion in &self.companions {
            document(&companion.bytes)?;
        }
        if let Some(index) = &self.index {
            document(index)?;
        }
        blobs.extend(self.companions.iter().flat_map(|c| &c.blobs).map(|blob| (blob.digest, blob.clone())));
        for layer in self.manifests.iter().flat_map(|m| &m.layers) {
            let (digest, size_bytes) = (layer.blob.digest, layer.blob.size_bytes);
            blobs.insert(digest, BlobRef { digest, size_bytes, path: layer.path.clone() });
        }
        Ok(blobs.into_values().collect())
    }

    /// Writes the image as an OCI layout directory.
    ///
    /// # Errors
    /// As [`layout::write_layout`].
    pub fn write_layout(&self, cache: &BlobCache, out: &Path) -> Result<()> {
        layout::write_layout(out, &self.index_json(), &self.blobs(cache)?)
    }
}

impl ImageManifest {
    fn report(&self) -> ManifestReport {
        ManifestReport {
            platform: self.descriptor.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
            digest: self.descriptor.digest,
            config: self.config.digest,
            layers: self
                .layers
                .iter()
                .map(|layer| LayerReport {
                    name: layer.name.clone(),
                    blob: layer.blob.clone(),
                    made: layer.made,
                })
                .collect(),
        }
    }
}

/// Returns a reference with registry and namespace, as Docker completes it.
pub fn canonical_name(reference: &str) -> String {
    match reference.split_once('/') {
        None => format!("docker.io/library/{reference}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
    }
}

/// Opens the layout at `path`: a convenience for commands.
///
/// # Errors
/// As [`Layout::open`].
pub fn open_layout(path: &Path) -> Result<Layout> {
    Layout::open(path)
}
