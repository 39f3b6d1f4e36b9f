//! OCI layout directories: written whole or not at all, read with every digest checked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::blobs::read_verified;
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::oci::{self, Descriptor, Index, media};

/// The contents of `oci-layout`.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The annotation by which a layout names an image.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Indexes, manifests and configurations are never larger.
pub const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// A blob that a layout or archive holds.
#[derive(Clone, Debug)]
pub struct BlobRef {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// Where it is now.
    pub path: PathBuf,
}

/// Writes a layout directory at `out` in one step: what was there stays until the
/// new one is whole.
///
/// Blobs are hard links of the cache's where that is possible, copies elsewhere.
/// `out` may be absent, empty, or a layout; anything else is left alone.
///
/// # Errors
/// [`ImageError::Io`], and [`ImageError::Invalid`] if `out` holds something else.
pub fn write_layout(out: &Path, index: &[u8], blobs: &[BlobRef]) -> Result<()> {
    write_layout_with(out, index, blobs, true)
}

/// The same; without `share` blobs are copies always (a store object must not share
/// its files with anything).
///
/// # Errors
/// As [`write_layout`].
pub fn write_layout_with(out: &Path, index: &[u8], blobs: &[BlobRef], share: bool) -> Result<()> {
    if is_current(out, index, blobs) {
        return Ok(());
    }
    check_replaceable(out)?;
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|e| ImageError::io("create", parent, e))?;
    let made = tempfile::Builder::new()
        .prefix(".ampoule-layout-")
        .tempdir_in(parent)
        .map_err(|e| ImageError::io("create a directory in", parent, e))?;
    let dir = made.path();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
        .map_err(|e| ImageError::io("chmod", dir, e))?;
    let sha256 = dir.join("blobs/sha256");
    fs::create_dir_all(&sha256).map_err(|e| ImageError::io("create", &sha256, e))?;
    for blob in blobs {
        let to = sha256.join(blob.digest.to_hex());
        link_or_copy(&blob.path, &to, share)?;
        let found = fs::metadata(&to).map_err(|e| ImageError::io("read", &to, e))?.len();
        if found != blob.size_bytes {
            let what = format!("blob `{}`", blob.digest);
            return Err(ImageError::SizeMismatch { what, expected: blob.size_bytes, found });
        }
    }
    for (name, bytes) in [("oci-layout", OCI_LAYOUT), ("index.json", index)] {
        let path = dir.join(name);
        fs::write(&path, bytes).map_err(|e| ImageError::io("write", &path, e))?;
    }
    replace(made, out)
}

/// Whether `out` is this very layout already.
fn is_current(out: &Path, index: &[u8], blobs: &[BlobRef]) -> bool {
    let is = |name: &str, bytes: &[u8]| fs::read(out.join(name)).is_ok_and(|found| found == bytes);
    is("index.json", index)
        && is("oci-layout", OCI_LAYOUT)
        && blobs.iter().all(|blob| {
            let path = out.join("blobs/sha256").join(blob.digest.to_hex());
            fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == blob.size_bytes)
        })
}

fn check_replaceable(out: &Path) -> Result<()> {
    let Ok(meta) = fs::symlink_metadata(out) else { return Ok(()) };
    let empty = meta.is_dir() && fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if empty || (meta.is_dir() && out.join("oci-layout").is_file()) {
        return Ok(());
    }
    Err(ImageError::invalid(format!(
        "`{}` exists and is not an OCI layout: it will not be overwritten",
        out.display()
    )))
}

fn link_or_copy(from: &Path, to: &Path, share: bool) -> Result<()> {
    if to.exists() || (share && fs::hard_link(from, to).is_ok()) {
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(|e| ImageError::io("copy", from, e))
}

/// Puts a finished directory in its place.
fn replace(made: tempfile::TempDir, out: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let fail = |e: std::io::Error| ImageError::io("rename to", out, e);
    if fs::symlink_metadata(out).is_err() {
        fs::rename(made.path(), out).map_err(fail)?;
        let _ = made.keep();
        return Ok(());
    }
    // The old one takes the temporary name and goes with it.
    match renameat_with(CWD, made.path(), CWD, out, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(_) => {
            let old = made.path().with_extension("old");
            fs::rename(out, &old).map_err(fail)?;
            fs::rename(made.path(), out).map_err(fail)?;
            let _ = made.keep();
            fs::remove_dir_all(&old).map_err(|e| ImageError::io("remove", &old, e))
        }
    }
}

/// Reads a document of a layout; what is no file, or larger than any document, is refused.
fn read_document(path: &Path) -> Result<Vec<u8>> {
    let meta = fs::metadata(path).map_err(|e| ImageError::io("read", path, e))?;
    if !meta.is_file() || meta.len() > MAX_DOCUMENT_BYTES {
        let why = if meta.is_file() { format!("{} bytes long", meta.len()) } else { "not a file".to_owned() };
        return Err(ImageError::malformed(format!("`{}`", path.display()), why));
    }
    fs::read(path).map_err(|e| ImageError::io("read", path, e))
}

/// A layout directory that somebody wrote.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Opens the layout at `root`.
    ///
    /// # Errors
    /// [`ImageError::Malformed`] if it has no `oci-layout` of version 1.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let path = root.join("oci-layout");
        let bytes = read_document(&path)?;
        let version: serde_json::Value = oci::from_json("oci-layout", &bytes)?;
        let version = version.get("imageLayoutVersion").and_then(|v| v.as_str()).unwrap_or_default();
        if !version.starts_with("1.") {
            return Err(ImageError::malformed(
                format!("`{}`", path.display()),
                format!("layout version `{version}`, expected 1.x"),
            ));
        }
        Ok(Self { root })
    }

    /// Returns where the layout lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads `index.json`.
    ///
    /// # Errors
    /// [`ImageError::Io`], [`ImageError::Malformed`].
    pub fn index(&self) -> Result<Index> {
        crate::base::read_top_index(&self.index_bytes()?)
    }

    /// Returns the bytes of `index.json`.
    ///
    /// # Errors
    /// [`ImageError::Io`], [`ImageError::Malformed`] if there are too many.
    pub fn index_bytes(&self) -> Result<Vec<u8>> {
        read_document(&self.root.join("index.json"))
    }

    /// Returns where a blob lies.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_hex())
    }

    /// Reads a small blob and checks it against its descriptor.
    ///
    /// # Errors
    /// [`ImageError::SizeMismatch`], [`ImageError::DigestMismatch`], [`ImageError::Io`].
    pub fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = self.blob_path(&descriptor.digest);
        let len = fs::metadata(&path).map_err(|e| ImageError::io("read", &path, e))?.len();
        if len != descriptor.size {
            return Err(ImageError::SizeMismatch {
                what: format!("blob `{}`", descriptor.digest),
                expected: descriptor.size,
                found: len,
            });
        }
        if len > MAX_DOCUMENT_BYTES {
            return Err(ImageError::malformed(format!("`{}`", path.display()), format!("{len} bytes long")));
        }
        read_verified(&path, &descriptor.digest)
    }

    /// Finds the image called `name` (or the only one).
    ///
    /// # Errors
    /// [`ImageError::Invalid`] if there is none, or several and no name was given.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor> {
        let index = self.index()?;
        let names = || {
            let all: Vec<&str> = index
                .manifests
                .iter()
                .filter_map(|m| m.annotations.get(REF_NAME))
                .map(String::as_str)
                .collect();
            all.join("`, `")
        };
        let found = match name {
            None if index.manifests.len() == 1 => index.manifests.first(),
            None => None,
            Some(name) => index.manifests.iter().find(|m| {
                m.annotations.get(REF_NAME).is_some_and(|n| n == name) || m.digest.to_string() == name
            }),
        };
        found.cloned().ok_or_else(|| {
            ImageError::invalid(format!(
                "`{}` has no image{}: it has `{}`",
                self.root.display(),
                name.map_or(" that is the only one".to_owned(), |n| format!(" `{n}`")),
                names()
            ))
        })
    }

    /// Whether a descriptor's type is an index.
    pub fn is_index(descriptor: &Descriptor) -> bool {
        media::is_index(&descriptor.media_type)
    }
}
