//! Content addresses: the hash of an object's contents, and how it was taken.

use std::fmt;

use crate::{Hash, HashAlgo, hash::HashError};

/// How the contents of an object become a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// The bytes of one regular, non-executable file.
    Flat,
    /// The NAR of the whole tree (Nix says "recursive" too).
    Nar,
    /// As flat, always SHA-256, and the references are part of the path (`toFile`, `.drv`).
    Text,
}

impl Method {
    /// Returns what stands before the algorithm in a `.drv` file.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Flat => "",
            Self::Nar => "r:",
            Self::Text => "text:",
        }
    }

    /// Returns the word of `outputHashMode` and of the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Nar => "nar",
            Self::Text => "text",
        }
    }

    /// Returns the method called `flat`, `nar`, `recursive` or `text`.
    ///
    /// # Errors
    /// [`AddressError::UnknownMethod`]; `git` is refused, as Nix does without its experimental
    /// feature.
    pub fn parse(name: &str) -> Result<Self, AddressError> {
        match name {
            "flat" => Ok(Self::Flat),
            "nar" | "recursive" => Ok(Self::Nar),
            "text" => Ok(Self::Text),
            "git" => Err(AddressError::Git),
            _ => Err(AddressError::UnknownMethod(name.to_owned())),
        }
    }

    /// Splits `r:sha256` into method and algorithm.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse_with_algo(text: &str) -> Result<(Self, HashAlgo), AddressError> {
        if text.starts_with("git:") {
            return Err(AddressError::Git);
        }
        let (method, algo) = match (text.strip_prefix("r:"), text.strip_prefix("text:")) {
            (Some(algo), _) => (Self::Nar, algo),
            (_, Some(algo)) => (Self::Text, algo),
            _ => (Self::Flat, text),
        };
        Ok((method, HashAlgo::parse(algo)?))
    }
}

/// Text that is not a content address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nix has it behind an experimental feature, and we not at all.
    #[error("experimental Nix feature 'git-hashing' is disabled; use 'flat' or 'nar'")]
    Git,
    /// Not `flat`, `nar`, `recursive` or `text`.
    #[error("unknown file ingestion method, expect `flat`, `nar`, or `text`, found `{0}`")]
    UnknownMethod(String),
    /// Neither `text:` nor `fixed:` in front.
    #[error("not a content address because it is not in the form '<prefix>:<rest>': {0}")]
    NotAddress(String),
    /// The hash in it.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// The hash of an object's contents, and how it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentAddress {
    /// How.
    pub method: Method,
    /// Of which bytes.
    pub hash: Hash,
}

impl ContentAddress {
    /// Returns `r:sha256` and the like, as in a `.drv` file.
    #[must_use]
    pub fn method_algo(&self) -> String {
        format!("{}{}", self.method.prefix(), self.hash.algo())
    }

    /// Parses `text:sha256:…` or `fixed:[r:]ALGO:…`.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let not = || AddressError::NotAddress(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(not)?;
        let (method, digits) = match kind {
            "text" => (Method::Text, rest),
            "fixed" if rest.starts_with("git:") => return Err(AddressError::Git),
            "fixed" => rest.strip_prefix("r:").map_or((Method::Flat, rest), |digits| (Method::Nar, digits)),
            _ => return Err(not()),
        };
        let (algo, digits) = digits.split_once(':').ok_or_else(not)?;
        Ok(Self { method, hash: Hash::parse_bare(digits, HashAlgo::parse(algo)?)? })
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Method::Text => write!(f, "text:{}", self.hash),
            Method::Flat | Method::Nar => write!(f, "fixed:{}{}", self.method.prefix(), self.hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_forms_parse_back() {
        for method in [Method::Flat, Method::Nar] {
            for algo in HashAlgo::ALL {
                let address = ContentAddress { method, hash: Hash::of(algo, b"x") };
                assert_eq!(ContentAddress::parse(&address.to_string()).unwrap(), address);
                assert_eq!(Method::parse_with_algo(&address.method_algo()).unwrap(), (method, algo));
            }
        }
        let text = ContentAddress { method: Method::Text, hash: Hash::sha256(b"x") };
        assert_eq!(ContentAddress::parse(&text.to_string()).unwrap(), text);
        for bad in ["", "fixed", "fixed:sha256", "fixed:git:sha1:x", "other:sha256:x", "text:sha256:zz"] {
            assert!(ContentAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
