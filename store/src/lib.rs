//! The store: paths, formats and the objects themselves.
//!
//! The pure half knows no file system: [`StorePath`] and [`StoreDir`], [`Hash`] and
//! [`ContentAddress`], [`Derivation`] and its text, [`nar`]. It depends on no other crate of ours
//! and is the part that the evaluator uses.

pub mod aterm;
pub mod base32;
pub mod cache;
pub mod nar;
pub mod narinfo;

mod add;
mod compose;
mod content_address;
mod derivation;
mod error;
mod export;
mod gc;
mod hash;
mod human;
mod info;
mod layout;
mod lock;
mod optimise;
mod path;
mod path_list;
mod query;
mod roots;
mod scan;
mod sign;
mod store;
mod tree;
mod verify;

pub use add::{
    AddOptions, HashedTree, Registered, Staged, Staging, dump_at, dump_path, hash_at, hash_path, restore_path,
};
pub use bstr;
pub use compose::{Composed, ComposedInput, ComposedOutputs, Composer, Parts};
pub use content_address::{AddressError, ContentAddress, Method};
pub use derivation::{
    Derivation, DerivationDraft, DerivationError, DerivationOutput, ModuloHash, ModuloHashes, OutputNames,
    Outputs, downstream_placeholder, placeholder,
};
pub use error::{StoreError, StoreResult, system_words};
pub use gc::{GcOptions, GcReport};
pub use hash::{Hash, HashAlgo, HashError, HashFormat, Hasher, base64_decode, base64_encode};
pub use human::human_size;
pub use info::{ObjectInfo, Tier};
pub use layout::{STORE_VERSION, StoreRoot};
pub use lock::OutputLock;
pub use optimise::OptimiseReport;
pub use path::{
    DrvPath, HASH_LEN_BYTES, HASH_PART_LEN, MAX_NAME_LEN, NameError, PathError, PathRef, References,
    StoreDir, StorePath, check_name, output_name,
};
pub use path_list::{PathList, PathSet};
pub use query::Cost;
pub use roots::{Root, RootKind, Roots};
pub use scan::ReferenceScanner;
pub use sign::{PublicKey, SecretKey, TrustedKeys, fingerprint};
pub use store::{DrvOutput, Stopping, Store, StoreSettings, SyncMode};
pub use tree::{FileKind, Filter};
pub use verify::{Damage, Problem, Repair, VerifyReport};
