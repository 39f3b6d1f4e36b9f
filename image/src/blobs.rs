//! The blob cache: layers already made, found by what they are made of.
//!
//! ```text
//! blobs/sha256/HEX     a blob, complete if and only if it is there
//! locations/HEX.json   which repositories of which registries have the blob
//! layers/KEY.json      what a layer with this key is: diff-id, digest, sizes
//! plans/HEX            from which image object the image with this digest was made
//! ```
//!
//! A key names everything that decides a layer's bytes (store paths, options, the
//! compressor and its version), so finding one walks nothing. A record without its
//! blob is still worth something: a registry that has the blob is all a push needs.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::layer::LayerBlob;
use crate::oci;
use crate::plan::Plan;
use crate::registry::Locations;

/// A directory of blobs and layer records, shared by any number of processes.
#[derive(Clone, Debug)]
pub struct BlobCache {
    root: PathBuf,
    /// Locked shared as long as somebody works with the cache, so that nothing is
    /// collected meanwhile.
    lock: Arc<File>,
}

/// What [`BlobCache::collect`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many files went.
    pub files: u64,
    /// How many bytes that was. Layouts that share a blob still hold it.
    pub bytes: u64,
}

/// What is cleaned up beside the cache; it is given whether an image is left.
pub type Beside<'a> = dyn Fn(&dyn Fn(&Digest) -> bool) -> std::io::Result<()> + 'a;

impl BlobCache {
    /// Opens the cache at `root`, and makes it if it is not there.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        for dir in ["blobs/sha256", "layers", "locations", "plans", "tmp"] {
            let dir = root.join(dir);
            if !dir.is_dir() {
                fs::create_dir_all(&dir).map_err(|e| ImageError::io("create", &dir, e))?;
            }
        }
        let path = root.join("lock");
        let fail = |e| ImageError::io("lock", &path, e);
        // Who may only read may still hold the lock.
        let writable = File::options().create(true).append(true).open(&path);
        let lock = writable.or_else(|_| File::open(&path)).map_err(fail)?;
        flock(&lock, FlockOperation::LockShared).map_err(|e| fail(e.into()))?;
        Ok(Self { root, lock: Arc::new(lock) })
    }

    /// Deletes blobs that no image whose object is still there is made of, and what
    /// processes that were killed left behind. `None` if another process works with the
    /// cache. Records stay: they are small, and a push of what a registry has
    /// needs no more.
    ///
    /// `beside` is called when the images that are left are known, while nobody else works
    /// with the cache, and deletes what was made of the others elsewhere.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn collect(&self, beside: &Beside<'_>) -> Result<Option<Collected>> {
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            // The attempt may have cost the shared lock.
            let _ = flock(&self.lock, FlockOperation::LockShared);
            return Ok(None);
        }
        let collected = self.collect_locked().and_then(|collected| {
            let done = beside(&|image| self.plan_of(image).is_some());
            done.map(|()| collected).map_err(|e| ImageError::io("clean up beside", &self.root, e))
        });
        let _ = flock(&self.lock, FlockOperation::LockShared);
        collected.map(Some)
    }

    fn collect_locked(&self) -> Result<Collected> {
        let mut live = BTreeSet::new();
        let mut collected = Collected::default();
        for (name, path) in self.list("plans")? {
            let object = Digest::from_hex(&name).and_then(|image| self.plan_of(&image));
            let Some(plan) = object.and_then(|object| Plan::read(&object).ok()) else {
                collected.remove(&path)?;
                continue;
            };
            for platform in &plan.platforms {
                let keys = platform.layers.iter().map(|layer| platform.layer_key(layer, plan.compression));
                live.extend(keys.filter_map(|key| self.layer(&key)).map(|layer| layer.digest.to_hex()));
            }
        }
        for (name, path) in self.list("blobs/sha256")? {
            if !live.contains(&name) {
                collected.remove(&path)?;
            }
        }
        for (_, path) in self.list("tmp")?.into_iter().filter(|(_, path)| path.is_file()) {
            collected.remove(&path)?;
        }
        Ok(collected)
    }

    fn list(&self, dir: &str) -> Result<Vec<(String, PathBuf)>> {
        let dir = self.root.join(dir);
        let fail = |e| ImageError::io("read", &dir, e);
        let entry = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.map_err(fail)?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
        };
        fs::read_dir(&dir).map_err(fail)?.map(entry).collect()
    }

    /// Returns where the cache lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where the blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_hex())
    }

    /// Whether the blob is there with this size. A blob cut short by a power cut
    /// is not.
    pub fn has(&self, digest: &Digest, size_bytes: u64) -> bool {
        fs::metadata(self.blob_path(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size_bytes)
    }

    /// Returns the record of the layer with this key, whether or not its blob is here.
    pub fn layer(&self, key: &Digest) -> Option<LayerBlob> {
        let bytes = fs::read(self.record_path(key)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Records that the layer with this key is `blob`.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn record_layer(&self, key: &Digest, blob: &LayerBlob) -> Result<()> {
        self.put_file(&self.record_path(key), &oci::to_json(blob))
    }

    /// Keeps `bytes` as a blob and returns its digest.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has(&digest, bytes.len() as u64) {
            self.put_file(&self.blob_path(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Reads a small blob (a manifest, a configuration) and checks it.
    ///
    /// # Errors
    /// [`ImageError::Io`], [`ImageError::DigestMismatch`].
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        read_verified(&self.blob_path(digest), digest)
    }

    /// Starts a blob whose digest is not known yet.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn start(&self) -> Result<NewBlob> {
        let dir = self.root.join("tmp");
        let file = tempfile::Builder::new()
            .prefix("blob-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&dir)
            .map_err(|e| ImageError::io("create a file in", &dir, e))?;
        Ok(NewBlob { file })
    }

    /// Gives a finished blob its name.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn finish(&self, blob: NewBlob, digest: &Digest) -> Result<()> {
        persist(blob.file, &self.blob_path(digest))
    }

    /// Remembers that the image with this digest was made from the object at `plan`.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn note_plan(&self, image: &Digest, plan: &Path) -> Result<()> {
        let path = self.plan_path(image);
        if self.plan_of(image).as_deref() == Some(plan) {
            return Ok(());
        }
        use std::os::unix::ffi::OsStrExt as _;
        self.put_file(&path, plan.as_os_str().as_bytes())
    }

    /// Returns where the object lies that the image with this digest was made from,
    /// as far as is known. It may be gone.
    pub fn plan_of(&self, image: &Digest) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        fs::read(self.plan_path(image)).ok().map(|bytes| std::ffi::OsString::from_vec(bytes).into())
    }

    fn plan_path(&self, image: &Digest) -> PathBuf {
        self.root.join("plans").join(image.to_hex())
    }

    /// Returns the repositories of `host` that are known to have the blob.
    pub fn locations(&self, digest: &Digest, host: &str) -> Vec<String> {
        let known = fs::read(self.location_path(digest)).ok();
        let known: Option<Locations> = known.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        known
            .and_then(|mut known| known.remove(host))
            .map(|set| set.into_iter().collect())
            .unwrap_or_default()
    }

    /// Remembers that a repository has the blob, so that another of the same registry
    /// can mount it. Losing this costs an upload, so failures are not told.
    pub fn note_location(&self, digest: &Digest, host: &str, repository: &str) {
        let path = self.location_path(digest);
        let known = fs::read(&path).ok();
        let mut known: Locations =
            known.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let repositories = known.entry(host.to_owned()).or_default();
        // A few suffice, and a blob that all have must not make a long file.
        if repositories.len() < 8 && repositories.insert(repository.to_owned()) {
            let _ = self.put_file(&path, &oci::to_json(&known));
        }
    }

    fn location_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("locations").join(format!("{}.json", digest.to_hex()))
    }

    fn record_path(&self, key: &Digest) -> PathBuf {
        self.root.join("layers").join(format!("{}.json", key.to_hex()))
    }

    fn put_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut blob = self.start()?;
        blob.file.write_all(bytes).map_err(|e| ImageError::io("write", path, e))?;
        persist(blob.file, path)
    }
}

impl Collected {
    fn remove(&mut self, path: &Path) -> Result<()> {
        let fail = |e| ImageError::io("remove", path, e);
        let bytes = fs::symlink_metadata(path).map_err(fail)?.len();
        fs::remove_file(path).map_err(fail)?;
        (self.files, self.bytes) = (self.files + 1, self.bytes + bytes);
        Ok(())
    }
}

/// A blob being written; gone when dropped.
pub struct NewBlob {
    file: tempfile::NamedTempFile,
}

impl NewBlob {
    /// The file to write to.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Where it lies for now.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    let fail = |e| ImageError::io("write", path, e);
    file.as_file().set_permissions(fs::Permissions::from_mode(0o444)).map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

/// Opens a file that somebody else may have put there: a pipe or a device in its place would keep us for ever.
///
/// # Errors
/// [`ImageError::Io`], [`ImageError::Malformed`] if it is no regular file.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let fail = |e| ImageError::io("read", path, e);
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(ImageError::malformed(format!("`{}`", path.display()), "not a regular file"));
    }
    Ok(file)
}

/// Reads a file whose digest is known.
///
/// # Errors
/// [`ImageError::Io`], [`ImageError::DigestMismatch`].
pub fn read_verified(path: &Path, digest: &Digest) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes).map_err(|e| ImageError::io("read", path, e))?;
    let found = Digest::of(&bytes);
    if found != *digest {
        let what = format!("`{}`", path.display());
        return Err(ImageError::DigestMismatch { what, expected: *digest, found });
    }
    Ok(bytes)
}
