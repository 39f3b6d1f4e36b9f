//! Attaching: a document that speaks of an image, beside it in the registry.
//!
//! An attachment is a manifest of its own whose `subject` is the image's manifest
//! (a referrer, in the words of the distribution specification). Registries that know
//! of referrers list them; for others the list is kept as an index under the tag
//! `sha256-HEX`, as the specification says, where `oras`, `cosign` and others look too.

use ampoule_net::header::HeaderName;
use serde::Serialize;

use crate::blobs::BlobCache;
use crate::digest::Digest;
use crate::error::Result;
use crate::layout::BlobRef;
use crate::oci::{self, Descriptor, Index, Manifest, media};
use crate::registry::client::Registry;
use crate::registry::push::{push_blobs, put_manifest};

/// The type of a configuration that says nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// By which name a tool saves an attachment.
const TITLE: &str = "org.opencontainers.image.title";

/// A document to attach.
pub struct Attachment<'a> {
    /// What it is, as a media type.
    pub kind: &'a str,
    /// How it is called.
    pub name: &'a str,
    /// The document.
    pub bytes: &'a [u8],
    /// Words about it.
    pub annotations: &'a [(&'a str, &'a str)],
}

/// What was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// The image's manifest.
    pub subject: Digest,
    /// What it is.
    pub artifact_type: String,
    /// The attachment's manifest.
    pub digest: Digest,
}

/// Attaches a document to the manifest `subject`, which the registry must have. The
/// same document is attached once, however often it is said.
///
/// # Errors
/// [`crate::ImageError::Registry`], [`crate::ImageError::Io`] of the cache.
pub fn attach(
    registry: &Registry,
    cache: &BlobCache,
    subject: &Descriptor,
    attachment: &Attachment<'_>,
) -> Result<Attached> {
    let mut document = Descriptor::of(attachment.kind, attachment.bytes);
    document.annotations.insert(TITLE.to_owned(), attachment.name.to_owned());
    let words = attachment.annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    document.annotations.extend(words.clone());
    let config = Descriptor::of(EMPTY, b"{}");
    let mut blobs = Vec::new();
    for bytes in [attachment.bytes, b"{}"] {
        let digest = cache.put(bytes)?;
        blobs.push(BlobRef { digest, size_bytes: bytes.len() as u64, path: cache.blob_path(&digest) });
    }
    push_blobs(registry, cache, &blobs, &|| Ok(()))?;
    let manifest = Manifest {
        artifact_type: Some(attachment.kind.to_owned()),
        subject: Some(Descriptor::new(&subject.media_type, subject.digest, subject.size)),
        annotations: words.collect(),
        ..Manifest::new(config, vec![document])
    };
    let bytes = oci::to_json(&manifest);
    let mut own = Descriptor::of(media::MANIFEST, &bytes);
    let answer = put_manifest(registry, &own.digest.to_string(), media::MANIFEST, &bytes)?;
    let digest = own.digest;
    if answer.header(HeaderName::from_static("oci-subject")).is_none() {
        own.artifact_type = Some(attachment.kind.to_owned());
        list_by_tag(registry, &subject.digest, own)?;
    }
    Ok(Attached { subject: subject.digest, artifact_type: attachment.kind.to_owned(), digest })
}

/// Adds an attachment to the index that stands in for a registry's list of referrers.
fn list_by_tag(registry: &Registry, subject: &Digest, attachment: Descriptor) -> Result<()> {
    let tag = format!("sha256-{}", subject.to_hex());
    let mut listed = match registry.head_manifest(&tag)? {
        Some(_) => crate::base::read_index(&registry.get_manifest(&tag)?.bytes, None)?.manifests,
        None => Vec::new(),
    };
    if listed.iter().any(|other| other.digest == attachment.digest) {
        return Ok(());
    }
    listed.push(attachment);
    put_manifest(registry, &tag, media::INDEX, &oci::to_json(&Index::new(listed))).map(drop)
}
