//! Pulling: an image into the blob cache, and as a layout; every byte checked.

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ampoule_net::{Download, Method, NetErrorKind, Sink};
use serde::Serialize;

use crate::base::{self, is_image};
use crate::blobs::{BlobCache, NewBlob};
use crate::digest::{Digest, Sha256};
use crate::error::{ImageError, Result};
use crate::layout::{self, BlobRef, REF_NAME};
use crate::oci::{self, Config, Descriptor, Index, Manifest, Platform};
use crate::open::{self, Blobs, OpenImage, Top};
use crate::registry::client::{FetchedManifest, MAX_MANIFEST_BYTES, Registry, error};

/// An image that lies in the blob cache.
pub struct Pulled {
    /// What was asked for: a manifest or an index.
    pub top: Descriptor,
    /// The index, if it is one, reduced to the manifests that were pulled.
    pub manifests: Vec<(Descriptor, Manifest)>,
    /// Every blob.
    pub blobs: Vec<BlobRef>,
    /// How many bytes came over the network.
    pub received_bytes: u64,
}

/// What a pull did, for people.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PullReport {
    /// Where it was pulled from.
    pub reference: String,
    /// The digest that pins it.
    pub digest: Digest,
    /// The platforms.
    pub platforms: Vec<String>,
    /// Bytes that came.
    pub received_bytes: u64,
}

/// Pulls an image, for one platform or all that it has.
///
/// # Errors
/// [`ImageError::DigestMismatch`], [`ImageError::SizeMismatch`],
/// [`ImageError::Malformed`] for what is not what it says that it is;
/// [`ImageError::Registry`].
pub fn pull(registry: &Registry, cache: &BlobCache, platform: Option<&Platform>) -> Result<Pulled> {
    let fetched = registry.get_manifest(&registry.reference.selector())?;
    let top = Descriptor::new(&fetched.media_type, fetched.digest, fetched.bytes.len() as u64);
    let mut pull = Pull { registry, cache, blobs: BTreeMap::new(), received: Mutex::default() };
    let mut manifests = Vec::new();
    if oci::media::is_index(&fetched.media_type) {
        let index = base::read_index(&fetched.bytes, Some(&fetched.media_type))?;
        let flat = base::flatten(index, &mut |inner| Ok(Some(named_manifest(registry, inner)?.bytes)))?;
        let wanted: Vec<Descriptor> = match platform {
            Some(platform) => vec![base::choose(&flat.manifests, platform)?.clone()],
            None => {
                for (_, bytes) in &flat.inner {
                    pull.document(bytes)?;
                }
                flat.manifests.into_iter().filter(|d| oci::media::is_manifest(&d.media_type)).collect()
            }
        };
        for descriptor in wanted {
            let one = named_manifest(registry, &descriptor)?;
            if is_image(&descriptor) {
                let manifest = pull.image(&one.bytes, &one.media_type)?;
                manifests.push((descriptor, manifest));
            } else {
                pull.companion(&one.bytes)?;
            }
        }
        pull.document(&fetched.bytes)?;
    } else {
        let manifest = pull.image(&fetched.bytes, &fetched.media_type)?;
        let config = oci::from_json("image configuration", &cache.read(&manifest.config.digest)?)?;
        let there = oci::Platform::of(&config);
        if let Some(wanted) = platform.filter(|wanted| !there.fits(wanted)) {
            return Err(ImageError::invalid(format!("the image has no `{wanted}`: it has `{there}`")));
        }
        manifests.push((top.clone(), manifest));
    }
    let received_bytes = *pull.received.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Pulled { top, manifests, blobs: pull.blobs.into_values().collect(), received_bytes })
}

/// Pulls an image and writes it as a layout at `out`: for one platform if one is
/// named (the layout then holds that manifest alone), whole otherwise.
///
/// The layout depends on the image's digest and the platform only, so that it can be
/// a fixed output. With `share` its blobs may be hard links of the cache's.
///
/// # Errors
/// As [`pull`], and those of writing.
pub fn pull_layout(
    registry: &Registry,
    cache: &BlobCache,
    platform: Option<&Platform>,
    out: &Path,
    share: bool,
) -> Result<PullReport> {
    let pulled = pull(registry, cache, platform)?;
    let name = registry.reference.tag.clone().filter(|_| registry.reference.digest.is_none());
    let mut top = match (platform, &pulled.manifests[..]) {
        (Some(_), [(only, _)]) => only.clone(),
        _ => pulled.top.clone(),
    };
    let mut blobs = pulled.blobs;
    if top.digest != pulled.top.digest {
        blobs.retain(|blob| blob.digest != pulled.top.digest);
    }
    top.annotations.clear();
    top.annotations.insert(REF_NAME.to_owned(), name.unwrap_or_else(|| "latest".to_owned()));
    layout::write_layout_with(out, &oci::to_json(&Index::new(vec![top])), &blobs, share)?;
    let platforms = pulled.manifests.iter().filter_map(|(d, _)| d.platform.as_ref()).map(ToString::to_string);
    Ok(PullReport {
        reference: registry.reference.to_string(),
        digest: pulled.top.digest,
        platforms: platforms.collect(),
        received_bytes: pulled.received_bytes,
    })
}

/// Fetches a manifest that an index names, which must be as the index says.
fn named_manifest(registry: &Registry, descriptor: &Descriptor) -> Result<FetchedManifest> {
    let one = registry.get_manifest(&descriptor.digest.to_string())?;
    if one.bytes.len() as u64 != descriptor.size {
        return Err(ImageError::SizeMismatch {
            what: format!("manifest `{}`", descriptor.digest),
            expected: descriptor.size,
            found: one.bytes.len() as u64,
        });
    }
    if one.media_type != descriptor.media_type {
        let why = format!("the index says `{}`, it came as `{}`", descriptor.media_type, one.media_type);
        return Err(ImageError::malformed(format!("manifest `{}`", descriptor.digest), why));
    }
    Ok(one)
}

/// Opens an image where it is: manifests and configurations are fetched now, a layer when
/// somebody reads it.
///
/// # Errors
/// As [`pull`].
pub fn open_remote(registry: Registry, cache: &BlobCache) -> Result<OpenImage> {
    let fetched = registry.get_manifest(&registry.reference.selector())?;
    if oci::media::is_index(&fetched.media_type) {
        let index = base::read_index(&fetched.bytes, Some(&fetched.media_type))?;
        let keep = |descriptor: &Descriptor| {
            let bytes = named_manifest(&registry, descriptor)?.bytes;
            cache.put(&bytes)?;
            Ok(bytes)
        };
        let flat = base::flatten(index, &mut |inner| keep(inner).map(Some))?;
        for descriptor in flat.manifests.iter().filter(|d| is_image(d)) {
            keep(descriptor)?;
        }
    }
    let reference = &registry.reference;
    let mut descriptor = Descriptor::of(&fetched.media_type, &fetched.bytes);
    if let Some(tag) = &reference.tag {
        descriptor.annotations.insert(REF_NAME.to_owned(), tag.clone());
    }
    let name = format!("{}/{}:latest", reference.host, reference.repository);
    descriptor.annotations.insert("io.containerd.image.name".to_owned(), name);
    let blobs = Remote { cache: cache.clone(), registry };
    open::read(Top { descriptor, bytes: Some(fetched.bytes) }, Box::new(blobs))
}

/// A registry's blobs, through the cache.
struct Remote {
    cache: BlobCache,
    registry: Registry,
}

impl Blobs for Remote {
    fn open(&self, digest: &Digest, size_bytes: u64) -> Result<Box<dyn Read + Send>> {
        let path = self.cache.blob_path(digest);
        if !self.cache.has(digest, size_bytes) {
            fetch(&self.registry, &self.cache, digest, size_bytes)?;
        }
        Ok(Box::new(crate::blobs::open_regular(&path)?))
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.cache.blob_path(digest))
    }
}

struct Pull<'a> {
    registry: &'a Registry,
    cache: &'a BlobCache,
    blobs: BTreeMap<Digest, BlobRef>,
    received: Mutex<u64>,
}

impl Pull<'_> {
    /// Pulls what a manifest names, and keeps the manifest.
    fn image(&mut self, bytes: &[u8], media_type: &str) -> Result<Manifest> {
        let manifest = base::read_manifest(bytes, Some(media_type))?;
        if manifest.config.size > MAX_MANIFEST_BYTES {
            let why = format!("its configuration is announced with {} bytes", manifest.config.size);
            return Err(ImageError::malformed("image manifest", why));
        }
        self.fetch_all(std::slice::from_ref(&manifest.config))?;
        let config: Config =
            oci::from_json("image configuration", &self.cache.read(&manifest.config.digest)?)?;
        base::layer_blobs(&manifest, &config)?;
        self.fetch_all(&manifest.layers)?;
        self.document(bytes)?;
        Ok(manifest)
    }

    /// Pulls what an index names beside images.
    fn companion(&mut self, bytes: &[u8]) -> Result<()> {
        let manifest: Manifest = oci::from_json("manifest", bytes)?;
        self.fetch_all(&[&[manifest.config], &manifest.layers[..]].concat())?;
        self.document(bytes)
    }

    fn document(&mut self, bytes: &[u8]) -> Result<()> {
        let digest = self.cache.put(bytes)?;
        let path = self.cache.blob_path(&digest);
        self.blobs.insert(digest, BlobRef { digest, size_bytes: bytes.len() as u64, path });
        Ok(())
    }

    fn fetch_all(&mut self, wanted: &[Descriptor]) -> Result<()> {
        let mut missing: Vec<&Descriptor> = Vec::new();
        for descriptor in wanted {
            let (digest, size_bytes) = (descriptor.digest, descriptor.size);
            let path = self.cache.blob_path(&digest);
            let known = self.blobs.insert(digest, BlobRef { digest, size_bytes, path });
            if let Some(other) = known.filter(|other| other.size_bytes != size_bytes) {
                return Err(ImageError::SizeMismatch {
                    what: format!("blob `{digest}`"),
                    expected: other.size_bytes,
                    found: size_bytes,
                });
            }
            if !self.cache.has(&digest, size_bytes) {
                missing.push(descriptor);
            }
        }
        let queue = Mutex::new(missing);
        let failed: Mutex<Option<ImageError>> = Mutex::default();
        let lock_failed = || failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let work = || {
            while lock_failed().is_none() {
                let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
                let Some(descriptor) = next else { return };
                if let Err(e) = self.fetch(descriptor) {
                    let mut failed = lock_failed();
                    *failed = failed.take().or(Some(e));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.registry.settings().parallel.map_or(4, std::num::NonZeroUsize::get) {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn fetch(&self, descriptor: &Descriptor) -> Result<()> {
        fetch(self.registry, self.cache, &descriptor.digest, descriptor.size)?;
        *self.received.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += descriptor.size;
        Ok(())
    }
}

/// Fetches a blob into the cache, checked.
fn fetch(registry: &Registry, cache: &BlobCache, digest: &Digest, size_bytes: u64) -> Result<()> {
    let doing = format!("pull blob `{digest}`");
    let url = registry.url(&format!("blobs/{digest}"));
    let mut sink = BlobSink { blob: cache.start()?, hasher: Sha256::new(), taken: 0 };
    let mut download = || {
        let ready = registry.ready(&url);
        let request = registry.request(Method::GET, url.clone())?.without_netrc().credentials(ready);
        // One byte more than announced is already too much.
        let download = Download {
            request,
            limit_bytes: Some(size_bytes),
            unannounced_limit_bytes: None,
            max_fruitless: None,
        };
        Ok::<_, ImageError>(registry.client().download(&download, &mut sink))
    };
    // A token may have run out since the manifest came, or be asked for only now: asking
    // for the head with the registry's own ways gets a new one.
    let renew = || registry.send(&doing, &registry.request(Method::HEAD, url.clone())?).map(drop);
    if registry.may_be_stale() {
        renew()?;
    }
    let mut done = download()?;
    if done.as_ref().is_err_and(|e| matches!(*e.kind, NetErrorKind::Status { status, .. } if status == 401)) {
        renew()?;
        done = download()?;
    }
    let mismatch = |found| ImageError::SizeMismatch { what: doing.clone(), expected: size_bytes, found };
    if let Err(e) = done {
        return Err(match *e.kind {
            NetErrorKind::TooLarge { .. } => mismatch(size_bytes.saturating_add(1)),
            _ => error(&doing, &e),
        });
    }
    if sink.taken != size_bytes {
        return Err(mismatch(sink.taken));
    }
    let found = sink.hasher.finish();
    if found != *digest {
        return Err(ImageError::DigestMismatch { what: doing, expected: *digest, found });
    }
    cache.finish(sink.blob, digest)?;
    cache.note_location(digest, &registry.reference.host, &registry.reference.repository);
    Ok(())
}

struct BlobSink {
    blob: NewBlob,
    hasher: Sha256,
    taken: u64,
}

impl Sink for BlobSink {
    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.blob.file().write_all(bytes)?;
        self.hasher.update(bytes);
        self.taken += bytes.len() as u64;
        Ok(())
    }

    fn start_over(&mut self) -> std::io::Result<()> {
        use std::io::Seek as _;
        let mut file = self.blob.file();
        file.set_len(0)?;
        file.rewind()?;
        self.hasher = Sha256::new();
        self.taken = 0;
        Ok(())
    }
}
