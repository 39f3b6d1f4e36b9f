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

<<<<<<< HEAD
=======
pub mod accounts;
pub mod archive;
>>>>>>> 6ac044b (image: one tar that is an OCI archive and a Docker archive)
pub mod base;
pub mod blobs;
pub mod compress;
pub mod digest;
pub mod entry;
pub mod error;
pub mod layer;
pub mod layout;
pub mod oci;
pub mod plan;
pub mod project;
pub mod tar;
pub mod walk;

pub use digest::{DiffId, Digest};
pub use error::{ImageError, Result};
