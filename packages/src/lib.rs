//! Packages: Debian's indexes, dependency resolution and lock files.
//!
//! Nothing here opens a file or a connection. Text and bytes come in, values come
//! out; what has to be downloaded or remembered is asked for through [`Archive`],
//! which `cli` implements with the realiser's fetcher.
//!
//! ```text
//! InRelease ─verify→ Release ─names→ Packages.xz ─scan→ Index ┐
//!                                                ampoule.toml ┴─resolve→ Resolution ─→ ampoule.lock
//! ```

pub mod debian;
pub mod lock;
pub mod locking;
pub mod manifest;

pub use lock::{Change, LockError, LockFile, LockedPackage};
pub use locking::{Archive, ArchiveError, Locked, LockingError, NewerVersion, lock_debian, security_updates};
pub use manifest::{DebianSection, Manifest, ManifestError};
