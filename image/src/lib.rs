//! Images: store closures projected into OCI layouts, archives and registries.
//!
//! ```text
//! attributes ─plan→ image object (image.json) ─project→ layers, config, manifest ─→ layout | archive | registry
//! ```
//!
//! `plan` decides, once per change, what an image is made of and writes a small
//! store object. `project` turns that object into bytes: every layer is found by
//! what it is made of, or written in one pass over the files. Nothing here reads
//! a clock, an environment or a user's name; what it was told is all it knows.

pub mod accounts;
pub mod archive;
pub mod base;
pub mod blobs;
pub mod build;
pub mod compress;
pub mod digest;
pub mod dpkg;
pub mod elf;
pub mod entry;
pub mod error;
pub mod group;
pub mod inspect;
pub mod interpreters;
pub mod layer;
pub mod layout;
pub mod lint;
pub mod load;
pub mod needs;
pub mod oci;
pub mod open;
pub mod plan;
pub mod project;
pub mod provenance;
pub mod python;
pub mod registry;
pub mod rootfs;
pub mod sbom;
mod secrets;
pub mod slices;
pub mod slim;
pub mod spec;
pub mod store_objects;
pub mod tar;
pub mod tar_read;
pub mod view;
pub mod walk;
pub mod why;
pub mod why_package;

pub use digest::{DiffId, Digest};
pub use error::{ImageError, Result};
