//! Images that are there: layouts, archives, what was just projected. One shape for
//! all, so that `inspect`, `diff`, `export` and `load` need not ask where from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base;
use crate::blobs::{BlobCache, open_regular};
use crate::digest::{DiffId, Digest, Sha256};
use crate::error::{ImageError, Result};
use crate::layout::{BlobRef, Layout, MAX_DOCUMENT_BYTES, REF_NAME};
use crate::oci::{self, Config, Descriptor, Manifest, media};
use crate::project::{Companion, Image, ImageLayer, ImageManifest, canonical_name};
use crate::tar_read::{TarError, TarReader};

/// Finds blobs.
pub trait Blobs: Sync {
    /// Opens a blob that is announced with this size; not checked yet.
    ///
    /// # Errors
    /// [`ImageError::Io`], [`ImageError::Invalid`] if it is not there.
    fn open(&self, digest: &Digest, size_bytes: u64) -> Result<Box<dyn Read + Send>>;

    /// Returns where a blob is a file of its own, if it is.
    fn path(&self, digest: &Digest) -> Option<PathBuf>;

    /// Whether the blob can be opened.
    fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_some_and(|path| path.is_file())
    }
}

/// An image with the blobs that it is made of.
pub struct OpenImage {
    /// Its documents and layers.
    pub image: Image,
    /// The configurations, in the order of the manifests.
    pub configs: Vec<Config>,
    /// Its blobs.
    pub blobs: Box<dyn Blobs>,
}

/// Opens what lies at `path`: a layout directory, an OCI archive, a Docker archive.
/// `name` chooses among several images.
///
/// # Errors
/// [`ImageError::Malformed`] for what is none of these, or breaks its format.
pub fn open(path: &Path, name: Option<&str>) -> Result<OpenImage> {
    if path.is_dir() {
        if !path.join("oci-layout").exists() {
            return Err(not_an_image(path));
        }
        let layout = Layout::open(path)?;
        let top = find_top(path, layout.index_bytes()?, name)?;
        return read(top, Box::new(layout));
    }
    let archive = Archive::open(path)?;
    if archive.members.contains_key("index.json") {
        let top = find_top(path, archive.member("index.json", MAX_DOCUMENT_BYTES)?, name)?;
        return read(top, Box::new(archive));
    }
    read_docker(archive, name)
}

fn not_an_image(path: &Path) -> ImageError {
    let shown = path.display();
    ImageError::invalid(if path.is_dir() {
        format!("`{shown}` is no image: a directory without `oci-layout`")
    } else {
        format!("`{shown}` is no image: an archive has `index.json` or `manifest.json`")
    })
}

/// What an image's documents begin with.
pub(crate) struct Top {
    pub(crate) descriptor: Descriptor,
    /// Its bytes, where they are no blob.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Finds the image called `name`, or the only one, in `index.json`. Manifests of one
/// image for several platforms, side by side without an index of their own, are one.
fn find_top(what: &Path, bytes: Vec<u8>, name: Option<&str>) -> Result<Top> {
    let index = base::read_top_index(&bytes)?;
    let found: Vec<&Descriptor> = match name {
        None => index.manifests.iter().collect(),
        Some(name) => called(&index.manifests, name, |d, fits| {
            d.annotations.get(REF_NAME).is_some_and(|reference| fits(reference))
                || d.digest.to_string() == name
        }),
    };
    // `oras` lists what the image is made of beside it, without names.
    let named: Vec<&Descriptor> =
        found.iter().copied().filter(|d| d.annotations.contains_key(REF_NAME)).collect();
    if let ([only], _) | (_, [only]) = (&found[..], &named[..]) {
        return Ok(Top { descriptor: Descriptor::clone(only), bytes: None });
    }
    let platforms: BTreeSet<_> = found.iter().filter_map(|d| d.platform.as_ref()).collect();
    let names: BTreeSet<&String> =
        index.manifests.iter().filter_map(|d| d.annotations.get(REF_NAME)).collect();
    if found.len() > 1
        && found.len() == index.manifests.len()
        && platforms.len() == found.len()
        && names.len() <= 1
        && found.iter().all(|d| media::is_manifest(&d.media_type))
    {
        let mut descriptor = Descriptor::of(media::INDEX, &bytes);
        descriptor.annotations.extend(names.into_iter().map(|name| (REF_NAME.to_owned(), name.clone())));
        return Ok(Top { descriptor, bytes: Some(bytes) });
    }
    Err(not_one(what, name, found.len(), names.into_iter().map(String::as_str)))
}

/// Those of `images` that are meant by `name`, where `has` says whether one of an image's references fits: those that
/// are called just that, or else those whose reference is `name` however much of the registry is left away, or has it
/// for its tag.
fn called<'a, T>(images: &'a [T], name: &str, has: impl Fn(&T, &dyn Fn(&str) -> bool) -> bool) -> Vec<&'a T> {
    let all =
        |fits: &dyn Fn(&str) -> bool| images.iter().filter(|image| has(image, fits)).collect::<Vec<_>>();
    let exact = all(&|reference| reference == name);
    if !exact.is_empty() {
        return exact;
    }
    all(&|reference| {
        let tag = reference.rsplit_once(':').map(|(_, tag)| tag);
        tag == Some(name) || canonical_name(reference) == canonical_name(name)
    })
}

/// The error for a file of which not just one image is meant.
fn not_one<'a>(
    what: &Path,
    name: Option<&str>,
    found: usize,
    names: impl Iterator<Item = &'a str>,
) -> ImageError {
    let (what, names) = (what.display(), names.collect::<Vec<_>>().join("`, `"));
    ImageError::invalid(match (name, found) {
        (Some(name), 0) => format!("`{what}` has no image `{name}`: it has `{names}`"),
        (None, 0) => format!("`{what}` has no image"),
        (_, several) => format!("`{what}` has {several} images: name one, as `PATH:TAG` (`{names}`)"),
    })
}

/// Opens an image that was just projected.
///
/// # Errors
/// [`ImageError::Malformed`] if its own documents cannot be read: never.
pub fn projected(image: Image, cache: &BlobCache) -> Result<OpenImage> {
    image.blobs(cache)?;
    let configs = image
        .manifests
        .iter()
        .map(|m| oci::from_json("image configuration", &m.config_bytes))
        .collect::<Result<_>>()?;
    let mut paths: BTreeMap<Digest, PathBuf> = BTreeMap::new();
    for layer in image.manifests.iter().flat_map(|m| &m.layers) {
        paths.insert(layer.blob.digest, layer.path.clone());
    }
    Ok(OpenImage { image, configs, blobs: Box::new(CacheBlobs { cache: cache.clone(), paths }) })
}

struct CacheBlobs {
    cache: BlobCache,
    paths: BTreeMap<Digest, PathBuf>,
}

impl Blobs for CacheBlobs {
    fn open(&self, digest: &Digest, _size_bytes: u64) -> Result<Box<dyn Read + Send>> {
        let path = self.path(digest).expect("the cache has a place for every digest");
        Ok(Box::new(open_regular(&path)?))
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.paths.get(digest).cloned().unwrap_or_else(|| self.cache.blob_path(digest)))
    }
}

impl Blobs for Layout {
    fn open(&self, digest: &Digest, _size_bytes: u64) -> Result<Box<dyn Read + Send>> {
        let path = self.blob_path(digest);
        Ok(Box::new(open_regular(&path)?))
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.blob_path(digest))
    }
}

/// A tar file as a map of its members.
struct Archive {
    path: PathBuf,
    members: BTreeMap<String, (u64, u64)>,
    /// Digests of layers that a Docker archive names by path.
    named: BTreeMap<Digest, String>,
}

impl Archive {
    fn open(path: &Path) -> Result<Self> {
        let fail = |e| ImageError::io("read", path, e);
        let mut file = open_regular(path)?;
        let mut start = [0; 4];
        let n = file.read(&mut start).map_err(fail)?;
        if start[..n].starts_with(&[0x1f, 0x8b]) || start[..n].starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            return Err(ImageError::invalid(format!("`{}` is compressed: unpack it first", path.display())));
        }
        file.rewind().map_err(fail)?;
        let mut members = BTreeMap::new();
        let mut links = Vec::new();
        let mut reader = TarReader::new(file);
        // What does not even begin as a tar is taken for a slip of the hand.
        let mut next = reader.next_entry().map_err(|e| match e {
            TarError::Broken(_) => not_an_image(path),
            e => e.of(path),
        })?;
        while let Some(entry) = next {
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            let name = name.trim_start_matches("./").to_owned();
            match entry.kind {
                crate::tar_read::Kind::File => {
                    members.insert(name, (reader.offset(), entry.size));
                }
                crate::tar_read::Kind::Symlink | crate::tar_read::Kind::HardLink => {
                    links.push((name, entry.link))
                }
                _ => {}
            }
            reader.skip_body().map_err(|e| e.of(path))?;
            next = reader.next_entry().map_err(|e| e.of(path))?;
        }
        // Docker's older archives write a layer that was there before as a link to it.
        for (name, target) in links {
            let target = String::from_utf8_lossy(&target).into_owned();
            let target = target.trim_start_matches("./").trim_start_matches("../").to_owned();
            if let Some(place) = members.get(&target).copied() {
                members.insert(name, place);
            }
        }
        Ok(Self { path: path.to_owned(), members, named: BTreeMap::new() })
    }

    fn member_of(&self, digest: &Digest) -> String {
        let blob = || format!("blobs/sha256/{}", digest.to_hex());
        self.named.get(digest).cloned().unwrap_or_else(blob)
    }

    fn open_member(&self, name: &str) -> Result<(std::io::Take<File>, u64)> {
        let found = self.members.get(name);
        let (offset, size) = *found
            .ok_or_else(|| ImageError::invalid(format!("`{}` has no `{name}`", self.path.display())))?;
        let fail = |e| ImageError::io("read", &self.path, e);
        let mut file = File::open(&self.path).map_err(fail)?;
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        Ok((file.take(size), size))
    }

    fn member(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let (mut reader, size) = self.open_member(name)?;
        if size > limit {
            return Err(ImageError::malformed(format!("`{name}`"), format!("{size} bytes long")));
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|e| ImageError::io("read", &self.path, e))?;
        Ok(bytes)
    }
}

impl Blobs for Archive {
    fn open(&self, digest: &Digest, _size_bytes: u64) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.open_member(&self.member_of(digest))?.0))
    }

    fn path(&self, _digest: &Digest) -> Option<PathBuf> {
        None
    }

    fn has(&self, digest: &Digest) -> bool {
        self.members.contains_key(&self.member_of(digest))
    }
}

/// Reads a blob whole and checks it.
pub(crate) fn document(blobs: &dyn Blobs, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let what = || format!("blob `{}`", descriptor.digest);
    if descriptor.size > MAX_DOCUMENT_BYTES {
        return Err(ImageError::malformed(what(), format!("a document of {} bytes", descriptor.size)));
    }
    let mut bytes = Vec::new();
    let mut reader = blobs.open(&descriptor.digest, descriptor.size)?.take(descriptor.size + 1);
    reader.read_to_end(&mut bytes).map_err(|e| ImageError::io("read", what(), e))?;
    if bytes.len() as u64 != descriptor.size {
        let found = bytes.len() as u64;
        return Err(ImageError::SizeMismatch { what: what(), expected: descriptor.size, found });
    }
    let found = Digest::of(&bytes);
    if found != descriptor.digest {
        return Err(ImageError::DigestMismatch { what: what(), expected: descriptor.digest, found });
    }
    Ok(bytes)
}

pub(crate) fn read(top: Top, blobs: Box<dyn Blobs>) -> Result<OpenImage> {
    let Top { descriptor: top, bytes } = top;
    let bytes = bytes.map_or_else(|| document(&*blobs, &top), Ok)?;
    let named = top.annotations.get(REF_NAME).map_or("latest", String::as_str);
    let whole = top.annotations.get("io.containerd.image.name").map(String::as_str);
    let name = whole.map(|n| n.rsplit_once(':').map_or(n, |(name, _)| name).to_owned());
    // podman writes the whole reference where others write the tag.
    let (name, tag) = match named.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((before, tag)) => (name.or_else(|| Some(before.to_owned())), tag.to_owned()),
        None if named.contains('/') => (name.or_else(|| Some(named.to_owned())), "latest".to_owned()),
        None => (name, named.to_owned()),
    };
    let mut image = Image {
        name: name.unwrap_or_else(|| "image".to_owned()),
        tag,
        top: top.clone(),
        manifests: Vec::new(),
        index: None,
        companions: Vec::new(),
        notes: Vec::new(),
    };
    let mut configs = Vec::new();
    if media::is_index(&top.media_type) {
        let index = base::read_index(&bytes, Some(&top.media_type))?;
        // Who saves one platform of several keeps the index, which names them all.
        let flat = base::flatten(index, &mut |inner| {
            blobs.has(&inner.digest).then(|| document(&*blobs, inner)).transpose()
        })?;
        let (here, elsewhere): (Vec<&Descriptor>, Vec<&Descriptor>) =
            flat.manifests.iter().partition(|d| blobs.has(&d.digest));
        for descriptor in here {
            let bytes = document(&*blobs, descriptor)?;
            if base::is_image(descriptor) {
                let (manifest, config) = read_one(descriptor.clone(), bytes, &*blobs)?;
                image.manifests.push(manifest);
                configs.push(config);
            } else {
                image.companions.push(companion(descriptor, bytes, &*blobs)?);
            }
        }
        if image.manifests.is_empty() && !elsewhere.is_empty() {
            return Err(ImageError::invalid("none of the manifests that the image's index names is here"));
        }
        let inner = flat.inner.into_iter();
        image.companions.extend(inner.map(|(descriptor, bytes)| Companion {
            descriptor,
            bytes,
            blobs: Vec::new(),
        }));
        image.index = Some(bytes);
    } else if media::is_manifest(&top.media_type) {
        let (manifest, config) = read_one(top, bytes, &*blobs)?;
        image.manifests.push(manifest);
        configs.push(config);
    } else {
        return Err(base::not_an_image(&top.media_type));
    }
    if image.manifests.is_empty() {
        return Err(ImageError::malformed("image index", "no manifest that we can read"));
    }
    Ok(OpenImage { image, configs, blobs })
}

/// Reads what an index names beside images.
fn companion(descriptor: &Descriptor, bytes: Vec<u8>, blobs: &dyn Blobs) -> Result<Companion> {
    let manifest: Manifest = oci::from_json(&format!("manifest `{}`", descriptor.digest), &bytes)?;
    let named = std::iter::once(&manifest.config).chain(&manifest.layers).map(|d| BlobRef {
        digest: d.digest,
        size_bytes: d.size,
        path: blobs.path(&d.digest).unwrap_or_default(),
    });
    Ok(Companion { descriptor: descriptor.clone(), bytes, blobs: named.collect() })
}

fn read_one(
    mut descriptor: Descriptor,
    bytes: Vec<u8>,
    blobs: &dyn Blobs,
) -> Result<(ImageManifest, Config)> {
    let manifest: Manifest = base::read_manifest(&bytes, Some(&descriptor.media_type))?;
    let config_bytes = document(blobs, &manifest.config)?;
    let config: Config = oci::from_json("image configuration", &config_bytes)?;
    let blobs_of_layers = base::layer_blobs(&manifest, &config)?;
    if descriptor.platform.is_none() {
        descriptor.platform = Some(oci::Platform::of(&config));
    }
    let names = layer_names(&config, manifest.layers.len());
    let layers = blobs_of_layers
        .into_iter()
        .zip(names)
        .map(|(blob, name)| {
            let path = blobs.path(&blob.digest).unwrap_or_default();
            ImageLayer { blob, name, made: false, path }
        })
        .collect();
    Ok((ImageManifest { descriptor, bytes, config: manifest.config, config_bytes, layers }, config))
}

/// Names layers by the configuration's history.
fn layer_names(config: &Config, count: usize) -> Vec<String> {
    let lines: Vec<String> = config
        .history
        .iter()
        .filter(|line| line.empty_layer != Some(true))
        .map(|line| line.created_by.clone().unwrap_or_default())
        .map(|line| line.strip_prefix("ampoule: ").map_or(line.clone(), str::to_owned))
        .collect();
    (0..count)
        .map(|i| lines.get(i).filter(|l| !l.is_empty()).cloned().unwrap_or_else(|| format!("layer {i}")))
        .collect()
}

/// Reads an archive that has only Docker's `manifest.json`.
fn read_docker(mut archive: Archive, name: Option<&str>) -> Result<OpenImage> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Line {
        config: String,
        #[serde(default)]
        repo_tags: Option<Vec<String>>,
        layers: Vec<String>,
    }
    if !archive.members.contains_key("manifest.json") {
        return Err(not_an_image(&archive.path));
    }
    let lines: Vec<Line> =
        oci::from_json("manifest.json", &archive.member("manifest.json", MAX_DOCUMENT_BYTES)?)?;
    let found: Vec<&Line> = match name {
        None => lines.iter().collect(),
        Some(name) => called(&lines, name, |line, fits| {
            line.repo_tags.iter().flatten().any(|reference| fits(reference))
        }),
    };
    let [line] = found[..] else {
        let names = lines.iter().flat_map(|line| line.repo_tags.iter().flatten()).map(String::as_str);
        return Err(not_one(&archive.path, name, found.len(), names));
    };
    let config_bytes = archive.member(&line.config, MAX_DOCUMENT_BYTES)?;
    let config: Config = oci::from_json("image configuration", &config_bytes)?;
    if line.layers.len() != config.rootfs.diff_ids.len() || line.layers.len() > base::MAX_LAYERS {
        return Err(ImageError::malformed("manifest.json", format!("{} layers", line.layers.len())));
    }
    let mut descriptors = Vec::new();
    for member in &line.layers {
        let (reader, size_bytes) = archive.open_member(member)?;
        let (digest, start) = digest_of(reader).map_err(|e| ImageError::io("read", &archive.path, e))?;
        let media_type = match Form::of(&start) {
            Form::Gzip => media::LAYER_GZIP,
            Form::Zstd => media::LAYER_ZSTD,
            Form::Plain => media::LAYER,
        };
        archive.named.insert(digest, member.clone());
        descriptors.push(Descriptor::new(media_type, digest, size_bytes));
    }
    let config_descriptor = Descriptor::of(media::CONFIG, &config_bytes);
    archive.named.insert(config_descriptor.digest, line.config.clone());
    let manifest = Manifest::new(config_descriptor, descriptors);
    let bytes = oci::to_json(&manifest);
    let mut top = Descriptor::of(media::MANIFEST, &bytes);
    let reference =
        line.repo_tags.iter().flatten().next().cloned().unwrap_or_else(|| "image:latest".to_owned());
    let (name, tag) = reference.rsplit_once(':').unwrap_or((&reference, "latest"));
    let (one, config) = read_one(top.clone(), bytes, &archive)?;
    top.platform = one.descriptor.platform.clone();
    let image = Image {
        name: name.to_owned(),
        tag: tag.to_owned(),
        top,
        manifests: vec![one],
        index: None,
        companions: Vec::new(),
        notes: Vec::new(),
    };
    Ok(OpenImage { image, configs: vec![config], blobs: Box::new(archive) })
}

fn digest_of(mut reader: impl Read) -> std::io::Result<(Digest, [u8; 4])> {
    let mut hasher = Sha256::new();
    let mut start = [0; 4];
    let mut buffer = vec![0; 1 << 18];
    let mut at = 0;
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            return Ok((hasher.finish(), start));
        }
        for (i, byte) in buffer[..n].iter().enumerate().take(4usize.saturating_sub(at)) {
            start[at + i] = *byte;
        }
        at = at.saturating_add(n);
        hasher.update(&buffer[..n]);
    }
}

impl OpenImage {
    /// Brings every blob into the cache, checked, so that the image can be written or
    /// pushed from there.
    ///
    /// # Errors
    /// [`ImageError::DigestMismatch`], [`ImageError::SizeMismatch`], [`ImageError::Io`].
    pub fn into_cache(mut self, cache: &BlobCache) -> Result<Image> {
        let take = |digest: &Digest, size_bytes: u64| -> Result<PathBuf> {
            if !cache.has(digest, size_bytes) {
                copy_blob(&*self.blobs, digest, size_bytes, cache)?;
            }
            Ok(cache.blob_path(digest))
        };
        for layer in self.image.manifests.iter_mut().flat_map(|manifest| &mut manifest.layers) {
            layer.path = take(&layer.blob.digest, layer.blob.size_bytes)?;
        }
        for blob in self.image.companions.iter_mut().flat_map(|companion| &mut companion.blobs) {
            blob.path = take(&blob.digest, blob.size_bytes)?;
        }
        Ok(self.image)
    }

    /// Opens a layer's tar, uncompressed.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn open_layer(&self, layer: &ImageLayer) -> Result<Box<dyn Read + Send>> {
        let blob = self.blobs.open(&layer.blob.digest, layer.blob.size_bytes)?;
        let tar = decompress(blob, &layer.blob.media_type)?;
        let most = MAX_PLAIN_BYTES.saturating_add(layer.blob.size_bytes.saturating_mul(MAX_RATIO));
        Ok(Box::new(Limited { inner: tar, left: most, size_bytes: layer.blob.size_bytes }))
    }

    /// Returns the layer's diff-id as it is, read through.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn read_diff_id(&self, layer: &ImageLayer) -> Result<DiffId> {
        let reader = self.open_layer(layer)?;
        let (digest, _) = digest_of(reader).map_err(|e| ImageError::io("read", &layer.path, e))?;
        Ok(DiffId(digest))
    }
}

/// A layer may always be so large, and otherwise so many times what it is compressed: more
/// than gzip can do, which is why only a bomb of zstd comes near.
const MAX_PLAIN_BYTES: u64 = 1 << 30;
const MAX_RATIO: u64 = 1100;

/// A layer's tar, cut off where it can only be a bomb.
struct Limited {
    inner: Box<dyn Read + Send>,
    left: u64,
    size_bytes: u64,
}

impl Read for Limited {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            std::io::Error::other(format!(
                "its {} bytes unfold to more than {MAX_RATIO} times as many: this is no layer",
                self.size_bytes
            ))
        })?;
        Ok(n)
    }
}

/// Uncompresses a layer by what it begins with, as container engines do: some programs
/// announce a layer of gzip and bring a plain tar, or the same in zstd (buildah does, where
/// a registry has the layer in another form).
///
/// # Errors
/// [`ImageError::Malformed`] for a media type that is no layer's, [`ImageError::Io`].
pub fn decompress(mut reader: Box<dyn Read + Send>, media_type: &str) -> Result<Box<dyn Read + Send>> {
    if !media::is_layer(media_type) {
        return Err(ImageError::malformed("layer", format!("`{media_type}` is not a type that we read")));
    }
    let mut start = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut start).map_err(|e| ImageError::io("read", "a layer", e))?;
    let form = Form::of(&start);
    let whole = std::io::BufReader::with_capacity(1 << 18, std::io::Cursor::new(start).chain(reader));
    Ok(match form {
        Form::Plain => Box::new(whole),
        Form::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Form::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(whole);
            Box::new(decoder.map_err(|e| ImageError::malformed("layer", e.to_string()))?)
        }
    })
}

/// How a layer is compressed.
enum Form {
    Plain,
    Gzip,
    Zstd,
}

impl Form {
    /// Tells it from the first bytes.
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one that is skipped, in which tables of contents are hidden.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

fn copy_blob(blobs: &dyn Blobs, digest: &Digest, size: u64, cache: &BlobCache) -> Result<()> {
    use std::io::Write as _;
    let what = || format!("blob `{digest}`");
    let mut reader = blobs.open(digest, size)?.take(size.saturating_add(1));
    let blob = cache.start()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut copied = 0;
    loop {
        let n = reader.read(&mut buffer).map_err(|e| ImageError::io("read", what(), e))?;
        if n == 0 {
            break;
        }
        copied += n as u64;
        hasher.update(&buffer[..n]);
        blob.file().write_all(&buffer[..n]).map_err(|e| ImageError::io("write", blob.path(), e))?;
    }
    if copied != size {
        return Err(ImageError::SizeMismatch { what: what(), expected: size, found: copied });
    }
    let found = hasher.finish();
    if found != *digest {
        return Err(ImageError::DigestMismatch { what: what(), expected: *digest, found });
    }
    cache.finish(blob, digest)
}
