//! What Debian defines: versions, control files, indexes, relations, signed releases.

pub mod control;
pub mod index;
pub mod openpgp;
pub mod relation;
pub mod release;
pub mod resolve;
pub mod version;

pub use index::{Index, IndexError, Kept, Package};
pub use openpgp::{Keyring, SignatureError};
pub use relation::{Clause, Operator, Relation};
pub use release::{IndexFile, Release, ReleaseError};
pub use resolve::{Choice, Request, Resolution, ResolveError, Resolved, Universe};
pub use version::compare_versions;
