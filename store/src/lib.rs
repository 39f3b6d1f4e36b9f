//! The store: paths, formats and the objects themselves.
//!
//! The pure half knows no file system: [`StorePath`] and [`StoreDir`], [`Hash`] and
//! [`ContentAddress`], [`Derivation`] and its text, [`nar`]. It depends on no other crate of ours
//! and is the part that the evaluator uses.

pub mod aterm;
pub mod base32;
mod content_address;
mod derivation;
mod hash;
pub mod nar;
mod path;

pub use bstr;
pub use content_address::{AddressError, ContentAddress, Method};
pub use derivation::{
    Derivation, DerivationDraft, DerivationError, DerivationOutput, ModuloHash, ModuloHashes, Outputs,
    downstream_placeholder, placeholder,
};
pub use hash::{Hash, HashAlgo, HashError, HashFormat, Hasher, base64_decode, base64_encode};
pub use path::{
    DrvPath, HASH_LEN_BYTES, HASH_PART_LEN, MAX_NAME_LEN, NameError, PathError, References, StoreDir,
    StorePath, check_name, output_name,
};
