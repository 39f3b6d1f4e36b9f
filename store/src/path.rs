//! Store paths: `/nix/store/HASH-NAME`.
//!
//! [`StoreDir`] is the logical store directory, the one that stands in hashes and in the files
//! themselves; where the objects really lie is [`StoreRoot`](crate::StoreRoot)'s business.
//! Having a [`StorePath`] tells you that
//!
//! * its hash part is 32 digits of Nix's base 32,
//! * its name is 1 to 211 of the characters `0-9a-zA-Z+-._?=`,
//! * and neither it nor its first dash-separated component is `.` or `..`, so that it is one
//!   plain file name whatever is done with it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::base32;
use crate::hash::{Hash, Hasher};
use crate::{ContentAddress, HashAlgo, Method};

/// Digits in the hash part of a store path.
pub const HASH_PART_LEN: usize = 32;
/// Bytes that the hash part stands for.
pub const HASH_LEN_BYTES: usize = 20;
/// Longest name of a store path, in bytes.
pub const MAX_NAME_LEN: usize = 211;

/// Text that is not a store path, in Nix's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Too few characters for a hash, a dash and a name.
    #[error("'{0}' is too short to be a valid store path")]
    TooShort(String),
    /// A hash part with a character that is no digit.
    #[error("store path '{path}' contains illegal base-32 character '{found}'")]
    BadDigit {
        /// The base name.
        path: String,
        /// The character.
        found: char,
    },
    /// No dash after the hash part.
    #[error("store path '{0}' has no '-' after its hash")]
    NoDash(String),
    /// The name breaks a rule.
    #[error("path '{path}' is not a valid store path: {error}")]
    BadName {
        /// The base name.
        path: String,
        /// The rule.
        error: NameError,
    },
    /// The path lies elsewhere.
    #[error("path '{0}' is not in the Nix store")]
    NotInStore(String),
    /// A derivation was asked for, and the name does not end in `.drv`.
    #[error("'{0}' is not a derivation: its name does not end in '.drv'")]
    NotDerivation(String),
    /// A content address of this kind cannot have references.
    #[error("fixed output derivation '{0}' is not allowed to refer to other store paths")]
    ReferencesNotAllowed(String),
    /// Text is always hashed with SHA-256.
    #[error("text '{name}' must be hashed with 'sha256', not '{algo}'")]
    TextNotSha256 {
        /// Name of the object.
        name: String,
        /// What was asked for.
        algo: HashAlgo,
    },
    /// A store directory must be an absolute, normal path.
    #[error("store directory '{0}' is not an absolute path without '.', '..' or double slashes")]
    BadStoreDir(String),
}

/// A name that no store object can have, in Nix's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("name must not be empty")]
    Empty,
    /// More than 211 bytes.
    #[error("name '{0}' must be no longer than 211 characters")]
    TooLong(String),
    /// `.` or `..`.
    #[error("name '{0}' is not valid")]
    Dots(String),
    /// `.-…` or `..-…`.
    #[error("name '{name}' is not valid: first dash-separated component must not be '{first}'")]
    DotsThenDash {
        /// The name.
        name: String,
        /// `.` or `..`.
        first: &'static str,
    },
    /// A character outside of `0-9a-zA-Z+-._?=`.
    #[error("name '{name}' contains illegal character '{found}'")]
    IllegalCharacter {
        /// The name.
        name: String,
        /// The character.
        found: char,
    },
}

/// The characters of names.
const LEGAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(byte as u8, b'+' | b'-' | b'.' | b'_' | b'?' | b'=');
        byte += 1;
    }
    table
};

/// Checks that `name` can be the name of a store object.
///
/// # Errors
/// [`NameError`] says which rule it breaks.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let owned = || name.to_owned();
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME_LEN {
        return Err(NameError::TooLong(owned()));
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots(owned()));
    }
    if name.starts_with(".-") {
        return Err(NameError::DotsThenDash { name: owned(), first: "." });
    }
    if name.starts_with("..-") {
        return Err(NameError::DotsThenDash { name: owned(), first: ".." });
    }
    if name.bytes().all(|byte| LEGAL[usize::from(byte)]) {
        return Ok(());
    }
    let is_legal = |c: &char| c.is_ascii() && LEGAL[*c as usize];
    match name.chars().find(|c| !is_legal(c)) {
        Some(found) => Err(NameError::IllegalCharacter { name: owned(), found }),
        None => Ok(()),
    }
}

/// The base name of a store object: 32 digits, a dash, a name.
///
/// Ordered by its bytes, which is the order in which Nix writes sets of paths. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct StorePath(Arc<str>);

impl Ord for StorePath {
    fn cmp(&self, other: &Self) -> Ordering {
        PathRef::from(self).cmp(&PathRef::from(other))
    }
}

impl PartialOrd for StorePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::hash::Hash for StorePath {
    /// The first digits are as good as all: they are of a hash themselves.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_le_bytes(self.first_digits()));
    }
}

/// A store path that lies elsewhere: in a [`StorePath`], or in a [`PathList`](crate::PathList). Ordered as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRef<'a>(&'a str);

impl<'a> PathRef<'a> {
    /// Takes a text that was a path before.
    pub(crate) fn of_checked(base_name: &'a str) -> Self {
        Self(base_name)
    }

    /// Returns `HASH-NAME`.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Returns it as a path of its own.
    #[must_use]
    pub fn to_path(self) -> StorePath {
        StorePath::of_checked(self.0)
    }

    fn first_digits(self) -> u128 {
        u128::from_be_bytes(*self.0.as_bytes().first_chunk().expect("there are 32"))
    }
}

impl<'a> From<&'a StorePath> for PathRef<'a> {
    fn from(path: &'a StorePath) -> Self {
        Self(&path.0)
    }
}

impl Ord for PathRef<'_> {
    /// Nearly always the first digits decide.
    fn cmp(&self, other: &Self) -> Ordering {
        self.first_digits().cmp(&other.first_digits()).then_with(|| self.0.cmp(other.0))
    }
}

impl PartialOrd for PathRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A [`StorePath`] whose name ends in `.drv`. Which of the two a function takes says whether it
/// wants a derivation or any object.
pub type DrvPath = StorePath;

impl StorePath {
    /// Parses `HASH-NAME`.
    ///
    /// # Errors
    /// [`PathError`], in Nix's words.
    pub fn parse(base_name: &str) -> Result<Self, PathError> {
        check_base_name(base_name)?;
        Ok(Self(base_name.into()))
    }

    /// Takes a text that was one of these before.
    pub(crate) fn of_checked(base_name: &str) -> Self {
        debug_assert!(check_base_name(base_name).is_ok(), "{base_name}");
        Self(base_name.into())
    }

    /// Parses the file name `HASH-NAME` as a directory listing gives it.
    ///
    /// # Errors
    /// [`PathError`]; a name that is not UTF-8 has an illegal character.
    pub fn from_file_name(name: &[u8]) -> Result<Self, PathError> {
        match std::str::from_utf8(name) {
            Ok(text) => Self::parse(text),
            Err(_) => {
                let path = String::from_utf8_lossy(name).into_owned();
                let error =
                    NameError::IllegalCharacter { name: path.clone(), found: char::REPLACEMENT_CHARACTER };
                Err(PathError::BadName { path, error })
            }
        }
    }

    /// Returns the path with this hash part and name.
    ///
    /// # Errors
    /// [`PathError::BadName`].
    pub fn from_parts(hash: &[u8; HASH_LEN_BYTES], name: &str) -> Result<Self, PathError> {
        let mut base = [0; HASH_PART_LEN + 1 + MAX_NAME_LEN];
        base32::digits_of(hash, &mut base[..HASH_PART_LEN]);
        base[HASH_PART_LEN] = b'-';
        if let Err(error) = check_name(name) {
            let digits = std::str::from_utf8(&base[..=HASH_PART_LEN]).expect("digits are ASCII");
            return Err(PathError::BadName { path: [digits, name].concat(), error });
        }
        let len = HASH_PART_LEN + 1 + name.len();
        base[HASH_PART_LEN + 1..len].copy_from_slice(name.as_bytes());
        Ok(Self(std::str::from_utf8(&base[..len]).expect("digits and names are ASCII").into()))
    }

    /// Returns `HASH-NAME`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the 32 digits in front.
    #[must_use]
    pub fn hash_part(&self) -> &str {
        &self.0[..HASH_PART_LEN]
    }

    fn first_digits(&self) -> [u8; 16] {
        *self.0.as_bytes().first_chunk().expect("there are 32")
    }

    /// Returns what follows the dash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[HASH_PART_LEN + 1..]
    }

    /// Returns whether the name ends in `.drv`.
    #[must_use]
    pub fn is_derivation(&self) -> bool {
        self.name().ends_with(".drv")
    }

    /// Returns the name without `.drv`.
    ///
    /// # Errors
    /// [`PathError::NotDerivation`].
    pub fn derivation_name(&self) -> Result<&str, PathError> {
        self.name().strip_suffix(".drv").ok_or_else(|| PathError::NotDerivation(self.0.to_string()))
    }
}

fn check_base_name(base_name: &str) -> Result<(), PathError> {
    let owned = || base_name.to_owned();
    if base_name.len() < HASH_PART_LEN + 1 {
        return Err(PathError::TooShort(owned()));
    }
    if let Some((_, found)) = base_name
        .char_indices()
        .find(|(at, c)| *at < HASH_PART_LEN && !(c.is_ascii() && base32::is_digit(*c as u8)))
    {
        return Err(PathError::BadDigit { path: owned(), found });
    }
    if base_name.as_bytes()[HASH_PART_LEN] != b'-' {
        return Err(PathError::NoDash(owned()));
    }
    check_name(&base_name[HASH_PART_LEN + 1..]).map_err(|error| PathError::BadName { path: owned(), error })
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for StorePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for StorePath {
    type Err = PathError;
    fn from_str(s: &str) -> Result<Self, PathError> {
        Self::parse(s)
    }
}

/// The logical store directory, which is part of every hash. `/nix/store` unless a store says
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreDir(Arc<str>);

impl Default for StoreDir {
    fn default() -> Self {
        Self("/nix/store".into())
    }
}

impl StoreDir {
    /// Checks and takes an absolute directory.
    ///
    /// # Errors
    /// [`PathError::BadStoreDir`].
    pub fn new(dir: &str) -> Result<Self, PathError> {
        let is_normal = |part: &str| !part.is_empty() && part != "." && part != "..";
        match dir.strip_prefix('/') {
            Some(rest) if rest.split('/').all(is_normal) && !dir.contains('\0') => Ok(Self(dir.into())),
            _ => Err(PathError::BadStoreDir(dir.to_owned())),
        }
    }

    /// Returns the directory, without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the whole path of an object.
    #[must_use]
    pub fn print<'p>(&self, path: impl Into<PathRef<'p>>) -> String {
        let path = path.into();
        let mut out = String::with_capacity(self.0.len() + 1 + path.0.len());
        self.print_into(path, &mut out);
        out
    }

    /// Appends the whole path of an object to `out`.
    pub fn print_into<'p>(&self, path: impl Into<PathRef<'p>>, out: &mut String) {
        out.push_str(&self.0);
        out.push('/');
        out.push_str(path.into().0);
    }

    /// Parses a whole path that names an object itself, nothing inside of it.
    ///
    /// # Errors
    /// [`PathError`], in Nix's words.
    pub fn parse(&self, path: &str) -> Result<StorePath, PathError> {
        match self.strip(path) {
            Some(base) if !base.contains('/') => StorePath::parse(base),
            _ => Err(PathError::NotInStore(path.to_owned())),
        }
    }

    /// Parses a path at or below an object: the object, and the rest, empty or beginning with a
    /// slash.
    ///
    /// # Errors
    /// [`PathError`], in Nix's words.
    pub fn split<'a>(&self, path: &'a str) -> Result<(StorePath, &'a str), PathError> {
        let base = self.strip(path).ok_or_else(|| PathError::NotInStore(path.to_owned()))?;
        let (base, rest) = base.split_at(base.find('/').unwrap_or(base.len()));
        Ok((StorePath::parse(base)?, rest))
    }

    /// Returns whether `path` lies below the store directory.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.strip(path).is_some_and(|rest| !rest.is_empty())
    }

    fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.0)?.strip_prefix('/')
    }

    /// Returns the path of an object of the kind (`text:…`, `source:…`, `output:…`) that is written in front
    /// of the rest of what is hashed.
    ///
    /// # Errors
    /// [`PathError::BadName`].
    fn make_path(
        &self,
        kind: impl FnOnce(&mut Vec<u8>),
        inner: &Hash,
        name: &str,
    ) -> Result<StorePath, PathError> {
        self.make_path_in(&mut Vec::with_capacity(512), kind, inner, name)
    }

    /// As [`Self::make_path`], in memory that is there.
    fn make_path_in(
        &self,
        fingerprint: &mut Vec<u8>,
        kind: impl FnOnce(&mut Vec<u8>),
        inner: &Hash,
        name: &str,
    ) -> Result<StorePath, PathError> {
        fingerprint.clear();
        kind(fingerprint);
        fingerprint.extend_from_slice(b":sha256:");
        inner.base16_bytes(fingerprint);
        fingerprint.push(b':');
        fingerprint.extend_from_slice(self.0.as_bytes());
        fingerprint.push(b':');
        fingerprint.extend_from_slice(name.as_bytes());
        StorePath::from_parts(&compress(&Hash::sha256(fingerprint)), name)
    }

    fn write_kind(&self, kind: &str, references: &References<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(kind.as_bytes());
        out.reserve(references.others.iter().map(|path| self.0.len() + 2 + path.0.len()).sum());
        for path in &references.others {
            out.push(b':');
            out.extend_from_slice(self.0.as_bytes());
            out.push(b'/');
            out.extend_from_slice(path.0.as_bytes());
        }
        if references.has_self {
            out.extend_from_slice(b":self");
        }
    }

    /// Returns the path of a text with these references (`builtins.toFile`, `.drv` files).
    ///
    /// # Errors
    /// [`PathError::BadName`].
    pub fn text_path<'a>(
        &self,
        name: &str,
        contents: &[u8],
        references: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<StorePath, PathError> {
        let references = References::new(references, false);
        self.text_path_of(name, &Hash::sha256(contents), &references, &mut Vec::with_capacity(512))
    }

    pub(crate) fn text_path_of(
        &self,
        name: &str,
        hash: &Hash,
        refs: &References<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<StorePath, PathError> {
        self.make_path_in(scratch, |out| self.write_kind("text", refs, out), hash, name)
    }

    /// Returns the path of an object with this content address and no references.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn fixed_path(&self, name: &str, address: &ContentAddress) -> Result<StorePath, PathError> {
        self.fixed_path_with(name, address, &References::default())
    }

    /// Returns the path of an object with this content address and these references.
    ///
    /// Only [`Method::Text`] and [`Method::Nar`] with SHA-256 can have references.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn fixed_path_with(
        &self,
        name: &str,
        address: &ContentAddress,
        references: &References<'_>,
    ) -> Result<StorePath, PathError> {
        let hash = &address.hash;
        match address.method {
            Method::Text if hash.algo() != HashAlgo::Sha256 => {
                Err(PathError::TextNotSha256 { name: name.to_owned(), algo: hash.algo() })
            }
            Method::Text => self.text_path_of(name, hash, references, &mut Vec::with_capacity(512)),
            Method::Nar if hash.algo() == HashAlgo::Sha256 => {
                self.make_path(|out| self.write_kind("source", references, out), hash, name)
            }
            Method::Flat | Method::Nar if !references.is_empty() => {
                Err(PathError::ReferencesNotAllowed(name.to_owned()))
            }
            Method::Flat | Method::Nar => {
                let mut inner = Hasher::new(HashAlgo::Sha256);
                inner.update(format!("fixed:out:{}:{}:", address.method_algo(), hash.to_base16()).as_bytes());
                self.make_path(|out| out.extend_from_slice(b"output:out"), &inner.finish(), name)
            }
        }
    }

    /// Returns the path of output `output` of the input-addressed derivation called `name`.
    ///
    /// `modulo` is the derivation's hash with outputs masked. See [`crate::Derivation`].
    ///
    /// # Errors
    /// [`PathError::BadName`].
    pub fn output_path(&self, name: &str, output: &str, modulo: &Hash) -> Result<StorePath, PathError> {
        self.output_path_in(name, output, modulo, &mut Vec::with_capacity(512))
    }

    pub(crate) fn output_path_in(
        &self,
        name: &str,
        output: &str,
        modulo: &Hash,
        scratch: &mut Vec<u8>,
    ) -> Result<StorePath, PathError> {
        let kind = |out: &mut Vec<u8>| {
            ["output:", output].iter().for_each(|text| out.extend_from_slice(text.as_bytes()))
        };
        self.make_path_in(scratch, kind, modulo, &output_name(name, output))
    }

    /// Returns where output `output` is built whose path only its contents will decide; replaced
    /// afterwards, and never registered.
    ///
    /// # Errors
    /// [`PathError::BadName`].
    pub fn scratch_path(&self, drv: &StorePath, name: &str, output: &str) -> Result<StorePath, PathError> {
        let zero = Hash::from_bytes(crate::HashAlgo::Sha256, &[0; 32]).expect("32 bytes are a SHA-256");
        let kind = format!("rewrite:{drv}:name:{output}");
        self.make_path(|out| out.extend_from_slice(kind.as_bytes()), &zero, &output_name(name, output))
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an object refers to: others, sorted, and perhaps itself.
#[derive(Clone, Debug, Default)]
pub struct References<'a> {
    others: Vec<PathRef<'a>>,
    has_self: bool,
}

impl<'a> References<'a> {
    /// Sorts and keeps each path once.
    pub fn new(others: impl IntoIterator<Item = &'a StorePath>, has_self: bool) -> Self {
        let mut others: Vec<PathRef> = others.into_iter().map(PathRef::from).collect();
        others.sort_unstable();
        others.dedup();
        Self { others, has_self }
    }

    /// Joins two that are sorted.
    pub(crate) fn of_sorted(some: impl ExactSizeIterator<Item = PathRef<'a>>, more: &[PathRef<'a>]) -> Self {
        let mut others = Vec::with_capacity(some.len() + more.len());
        let mut more = more.iter().copied().peekable();
        for path in some {
            while let Some(before) = more.next_if(|before| *before < path) {
                others.push(before);
            }
            others.push(path);
        }
        others.extend(more);
        others.dedup();
        Self { others, has_self: false }
    }

    /// Returns the others, sorted.
    #[must_use]
    pub fn as_slice(&self) -> &[PathRef<'a>] {
        &self.others
    }

    fn is_empty(&self) -> bool {
        self.others.is_empty() && !self.has_self
    }
}

/// Returns the name of the store path of an output: `NAME`, or `NAME-OUTPUT` unless it is `out`.
#[must_use]
pub fn output_name<'n>(derivation_name: &'n str, output: &str) -> Cow<'n, str> {
    if output == "out" { derivation_name.into() } else { format!("{derivation_name}-{output}").into() }
}

/// Folds a hash to the 20 bytes of a store path.
pub(crate) fn compress(hash: &Hash) -> [u8; HASH_LEN_BYTES] {
    let mut out = [0; HASH_LEN_BYTES];
    for (at, byte) in hash.as_bytes().iter().enumerate() {
        out[at % HASH_LEN_BYTES] ^= byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_149_names() {
        let digits = "0".repeat(32);
        let check = |name: &str, expected: &str| {
            let error = StorePath::parse(&format!("{digits}-{name}")).unwrap_err().to_string();
            assert_eq!(error, format!("path '{digits}-{name}' is not a valid store path: {expected}"));
        };
        check("../x", "name '../x' contains illegal character '/'");
        check("a b", "name 'a b' contains illegal character ' '");
        check("..", "name '..' is not valid");
        check(".", "name '.' is not valid");
        check(".-x", "name '.-x' is not valid: first dash-separated component must not be '.'");
        check("..-x", "name '..-x' is not valid: first dash-separated component must not be '..'");
        check("", "name must not be empty");
        check("a\0", "name 'a\0' contains illegal character '\0'");
        let long = "a".repeat(212);
        check(&long, &format!("name '{long}' must be no longer than 211 characters"));
        assert!(StorePath::parse(&format!("{digits}-{}", &long[1..])).is_ok());
        assert!(StorePath::parse(&format!("{digits}-.x")).is_ok());
    }

    #[test]
    fn hash_parts_are_checked() {
        assert_eq!(
            StorePath::parse("euot0000000000000000000000000000-x").unwrap_err().to_string(),
            "store path 'euot0000000000000000000000000000-x' contains illegal base-32 character 'e'"
        );
        assert!(StorePath::parse("foo").is_err());
        assert!(StorePath::parse("000000000000000000000000000000000x").is_err());
        assert!(StorePath::parse("0000000000000000000000000000000\u{e9}-x").is_err());
        assert!(StorePath::from_file_name(&[0xff; 40]).is_err());
    }

    #[test]
    fn store_dir_takes_apart_what_it_prints() {
        let dir = StoreDir::default();
        let path = StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-a").unwrap();
        assert_eq!(dir.parse(&dir.print(&path)).unwrap(), path);
        let inside = format!("{}/bin/x", dir.print(&path));
        assert_eq!(dir.split(&inside).unwrap(), (path, "/bin/x"));
        assert!(dir.parse(&inside).is_err());
        assert!(dir.parse("/nix/storeX/1cif0kzjly0k4gxq2d7bm0x9df2924df-a").is_err());
        for bad in ["", "nix", "/", "/a/../b", "/a//b", "/a/", "/a/./b"] {
            assert!(StoreDir::new(bad).is_err(), "{bad}");
        }
    }
}
