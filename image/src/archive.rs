//! One tar that every loader takes: an OCI archive and a Docker archive at once.
//!
//! ```text
//! oci-layout index.json blobs/sha256/…     podman, skopeo, containerd, Docker's containerd store
//! manifest.json (over the same blobs)      Docker's classic store, old tools
//! ```
//!
//! `manifest.json` can name one platform only; of several it names the one that the
//! caller chooses (this machine's, usually). A Docker archive knows no zstd: layers
//! that are zstd are named all the same, since new readers take them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use crate::blobs::BlobCache;
use crate::entry::{Entry, EntryKind, FileSource};
use crate::error::{ImageError, Result};
use crate::layout::OCI_LAYOUT;
use crate::oci::{self, Platform};
use crate::project::{Image, ImageManifest};
use crate::tar;

/// A line of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Image {
    /// Returns the manifest for `platform`, or the first.
    pub fn manifest_for(&self, platform: Option<&Platform>) -> &ImageManifest {
        let found = platform.and_then(|platform| self.find_manifest(platform).ok());
        found.or_else(|| self.manifests.first()).expect("an image has at least one platform")
    }

    /// Returns the manifest for `platform`.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] naming the platforms that there are.
    pub fn find_manifest(&self, platform: &Platform) -> Result<&ImageManifest> {
        let of = |m: &ImageManifest| m.descriptor.platform.clone();
        let found = self.manifests.iter().find(|m| of(m).is_some_and(|there| there.fits(platform)));
        found.ok_or_else(|| {
            let all: Vec<String> = self.manifests.iter().filter_map(of).map(|p| p.to_string()).collect();
            ImageError::invalid(format!("the image has no `{platform}`: it has `{}`", all.join("`, `")))
        })
    }

    /// Lists the archive's files, in order.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    fn archive_entries(&self, cache: &BlobCache, platform: Option<&Platform>) -> Result<Vec<Entry>> {
        let chosen = self.manifest_for(platform);
        let blob = |digest: &crate::Digest| format!("blobs/sha256/{}", digest.to_hex());
        let docker = [DockerManifest {
            config: blob(&chosen.config.digest),
            repo_tags: vec![format!("{}:{}", self.name, self.tag)],
            layers: chosen.layers.iter().map(|layer| blob(&layer.blob.digest)).collect(),
        }];
        let mut entries = vec![
            Entry::bytes(*b"oci-layout", 0o644, OCI_LAYOUT),
            Entry::bytes(*b"index.json", 0o644, self.index_json()),
            Entry::bytes(*b"manifest.json", 0o644, oci::to_json(&docker)),
            Entry::directory(*b"blobs", 0o755),
            Entry::directory(*b"blobs/sha256", 0o755),
        ];
        for found in self.blobs(cache)? {
            let path = blob(&found.digest).into_bytes();
            entries.push(Entry::file(path, 0o644, found.path, found.size_bytes));
        }
        Ok(entries)
    }

    /// Writes the archive to `out`.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn write_archive_to(
        &self,
        cache: &BlobCache,
        platform: Option<&Platform>,
        out: &mut dyn Write,
    ) -> Result<()> {
        let fail = |e: io::Error| ImageError::io("write", "the archive", e);
        let mut out = BufWriter::with_capacity(1 << 20, out);
        let mut header = Vec::new();
        for entry in self.archive_entries(cache, platform)? {
            header.clear();
            tar::write_header(&entry, &mut header);
            out.write_all(&header).map_err(fail)?;
            let EntryKind::File { source, size } = &entry.kind else { continue };
            match source {
                FileSource::Bytes(bytes) => out.write_all(bytes).map_err(fail)?,
                FileSource::Path(path) => {
                    let mut file = File::open(path).map_err(|e| ImageError::io("read", path, e))?;
                    let copied = io::copy(&mut file, &mut out).map_err(fail)?;
                    if copied != *size {
                        let what = format!("blob `{}`", path.display());
                        return Err(ImageError::SizeMismatch { what, expected: *size, found: copied });
                    }
                }
            }
            let pad = usize::try_from(tar::padded(*size) - size).expect("less than a block");
            out.write_all(&[0; tar::BLOCK_BYTES][..pad]).map_err(fail)?;
        }
        out.write_all(&[0; 2 * tar::BLOCK_BYTES]).map_err(fail)?;
        out.flush().map_err(fail)
    }

    /// Writes the archive as the file `out`, in one step.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn write_archive(&self, cache: &BlobCache, platform: Option<&Platform>, out: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fail = |e| ImageError::io("write", out, e);
        std::fs::create_dir_all(parent).map_err(|e| ImageError::io("create", parent, e))?;
        let mut file = tempfile::Builder::new().prefix(".ampoule-").tempfile_in(parent).map_err(fail)?;
        self.write_archive_to(cache, platform, file.as_file_mut())?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(fail)?;
        file.persist(out).map_err(|e| fail(e.error))?;
        Ok(())
    }
}
