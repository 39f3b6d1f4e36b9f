//! The plan: what an image is made of, decided, before any byte is read.
//!
//! `image.json` in the image's store object is a [`Plan`]. It names store paths,
//! says which layer each is in and why, and holds the configuration; it holds no
//! file contents but the few generated ones. Everything that decides a layer's
//! bytes is in its [`LayerPlan`] and in [`PlatformPlan`]'s tables, so a layer's key
//! can be computed without looking at the store. The format is described in
//! `docs/image-format.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::compress::Compression;
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::oci::{self, Platform, RunConfig};

/// The version of `image.json` that we write, and the newest that we read.
pub const SCHEMA: u32 = 1;

/// Part of every layer's key: raise it when the same plan would give other bytes.
pub const LAYER_FORMAT: u32 = 2;

/// The file of an image object that holds its plan.
pub const PLAN_FILE: &str = "image.json";

/// The file of an image object that says which package brought which path of a tree.
pub const SLICES_FILE: &str = "slices.json";

/// When an image says that it was made, unless its file says otherwise.
pub const DEFAULT_CREATED: &str = "1970-01-01T00:00:01Z";

/// An image, decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The image's name, without registry or tag.
    pub name: String,
    /// Its tag.
    pub tag: String,
    /// When it says that it was made.
    pub created: String,
    /// How its layers are compressed.
    pub compression: Compression,
    /// OCI's or Docker's media types.
    #[serde(default)]
    pub format: Format,
    /// Words about the image, in its manifests and index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What a person should know who uses it (for example: a health check that
    /// only some runtimes read).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// One image for each platform, in the order of the file.
    pub platforms: Vec<PlatformPlan>,
}

/// Whose media types a manifest uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// OCI's.
    #[default]
    Oci,
    /// Docker's (schema 2): podman keeps a health check only in these.
    Docker,
}

/// An image for one platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformPlan {
    /// For which machine.
    pub platform: Platform,
    /// How to run it.
    pub config: RunConfig,
    /// An image that lies below ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BasePlan>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerPlan>,
    /// Attributes of directories that several layers may have to name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub directories: BTreeMap<String, Owner>,
    /// Owners and modes that differ from what trees get by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<Permission>,
    /// Links to directories that lie on the way to other files: `bin` → `usr/bin`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
}

/// A base image: a layout in the store, and which of its manifests.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BasePlan {
    /// The store path of an OCI layout.
    pub layout: String,
    /// The manifest for this platform.
    pub manifest: Digest,
}

/// Mode and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    #[serde(default)]
    pub uid: u32,
    /// The group.
    #[serde(default)]
    pub gid: u32,
}

/// A rule that changes mode or owner of what lies at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permission {
    /// The path, without leading slash.
    pub path: String,
    /// Whether all below it is meant too.
    #[serde(default)]
    pub recursive: bool,
    /// The new mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// The new owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The new group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// One layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerPlan {
    /// What people call it.
    pub name: String,
    /// Why it is a layer of its own.
    pub why: String,
    /// What is in it.
    pub parts: Vec<Part>,
}

/// Something that a layer holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Part {
    /// A store object at its own path.
    Object {
        /// Its store path.
        path: String,
        /// Its size as a NAR.
        size: u64,
        /// The files that are kept, below the object; all if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep: Option<Vec<String>>,
    },
    /// A store object whose contents are laid somewhere else, usually at `/`.
    Tree {
        /// Its store path.
        path: String,
        /// Where its contents go, without leading slash; empty for `/`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        at: String,
        /// Its size as a NAR.
        size: u64,
        /// The files that are kept, below the object; all if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep: Option<Vec<String>>,
    },
    /// What one package brought into a tree; its paths are in [`SLICES_FILE`].
    Slice {
        /// The tree's store path.
        path: String,
        /// Where the tree's contents go, without leading slash; empty for `/`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        at: String,
        /// The package; empty for what belongs to none.
        package: String,
        /// Its version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// Bytes of its files.
        size: u64,
        /// How many paths that are.
        paths: usize,
        /// Stands for all that decides these bytes; the tree's path does not.
        id: Digest,
    },
    /// Files that the plan brings.
    Files {
        /// The files.
        entries: Vec<FilePlan>,
    },
}

/// A file that the plan brings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FilePlan {
    /// Its path, without leading slash.
    pub path: String,
    /// Mode and owner.
    #[serde(flatten)]
    pub owner: Owner,
    /// What it is.
    #[serde(flatten)]
    pub what: FileWhat,
}

/// What a file of the plan is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileWhat {
    /// A file with this text.
    Text(String),
    /// A file, or a whole tree, of the store: a path in or below a store object.
    Source(String),
    /// A file of the image object itself.
    Own(String),
    /// A symbolic link with this text.
    Symlink(String),
    /// A directory.
    Directory(bool),
}

/// Finds store objects on this machine.
pub trait ObjectSource: Sync {
    /// Returns where the object with this logical store path lies.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] if the store does not have it.
    fn locate(&self, store_path: &str) -> Result<PathBuf>;
}

impl<F: Fn(&str) -> Result<PathBuf> + Sync> ObjectSource for F {
    fn locate(&self, store_path: &str) -> Result<PathBuf> {
        self(store_path)
    }
}

impl Plan {
    /// Reads the plan of an image object.
    ///
    /// # Errors
    /// [`ImageError::Io`], [`ImageError::Malformed`], and [`ImageError::Invalid`]
    /// for a plan of a newer ampoule.
    pub fn read(object: &Path) -> Result<Self> {
        let path = object.join(PLAN_FILE);
        let bytes = std::fs::read(&path).map_err(|e| ImageError::io("read", &path, e))?;
        let what = format!("`{}`", path.display());
        let schema: serde_json::Value = oci::from_json(&what, &bytes)?;
        match schema.get("schema").and_then(serde_json::Value::as_u64) {
            Some(n) if n == u64::from(SCHEMA) => {}
            Some(n) => {
                return Err(ImageError::invalid(format!(
                    "{what} has schema {n}; this program reads schema {SCHEMA}: build the image again"
                )));
            }
            None => return Err(ImageError::malformed(what, "no `schema`")),
        }
        oci::from_json(&what, &bytes)
    }
}

impl PlatformPlan {
    /// Returns the key of a layer: everything that decides its bytes.
    pub fn layer_key(&self, layer: &LayerPlan, compression: Compression) -> Digest {
        // Store objects lie at their own paths, owned by root: the platform's tables
        // cannot touch them, and a key that they share is found more often. A slice's id
        // has what can touch it.
        let own = |part: &Part| matches!(part, Part::Object { .. } | Part::Slice { .. });
        let tables =
            (!layer.parts.iter().all(own)).then_some((&self.directories, &self.permissions, &self.links));
        let parts: Vec<KeyPart<'_>> = layer.parts.iter().map(KeyPart::of).collect();
        let key = (LAYER_FORMAT, compression.key(), parts, tables);
        Digest::of(&oci::to_json(&key))
    }
}

/// A part as a layer's key has it.
#[derive(Serialize)]
#[serde(untagged)]
enum KeyPart<'a> {
    Slice(&'a Digest),
    Whole(&'a Part),
}

impl<'a> KeyPart<'a> {
    fn of(part: &'a Part) -> Self {
        match part {
            Part::Slice { id, .. } => Self::Slice(id),
            whole => Self::Whole(whole),
        }
    }
}
