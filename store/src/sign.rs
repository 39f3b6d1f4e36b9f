//! ed25519 keys and signatures in Nix's form: `NAME:BASE64`.
//!
//! What is signed is the *fingerprint* of an object: its path, the hash and size of its NAR, and
//! what it refers to. Who made it and when is not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::error::{StoreError, StoreResult};
use crate::{ObjectInfo, StoreDir, base64_decode, base64_encode};

/// Returns what is signed: `1;PATH;NARHASH;NARSIZE;REFERENCE,REFERENCE`.
#[must_use]
pub fn fingerprint(dir: &StoreDir, info: &ObjectInfo) -> String {
    let references: Vec<_> = info.references.iter().map(|p| dir.print(p)).collect();
    format!("1;{};{};{};{}", dir.print(&info.path), info.nar_hash, info.nar_size_bytes, references.join(","))
}

fn bad(what: &str, problem: impl Into<String>) -> StoreError {
    StoreError::Format { what: what.to_owned(), problem: problem.into() }
}

/// Splits `NAME:BASE64` and decodes it; never repeats the secret half in an error.
fn split(text: &str, what: &str, lengths: &[usize]) -> StoreResult<(String, Vec<u8>)> {
    let (name, digits) =
        text.trim().split_once(':').ok_or_else(|| bad(what, "a key has the form NAME:BASE64"))?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(bad(what, "the key has no name before its colon"));
    }
    let bytes = base64_decode(digits).map_err(|_| bad(what, format!("key '{name}' is not base 64")))?;
    if !lengths.contains(&bytes.len()) {
        let expected = lengths[0];
        return Err(bad(what, format!("key '{name}' has {} bytes, expected {expected}", bytes.len())));
    }
    Ok((name.to_owned(), bytes))
}

/// A key that signs. Its bytes are wiped when it is dropped.
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.name)
    }
}

impl SecretKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// If the system gives no randomness, or the name is empty or has a colon or white space.
    pub fn generate(name: &str) -> StoreResult<Self> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == ':') {
            return Err(bad("key name", "must not be empty, nor have a colon or white space"));
        }
        let mut seed = [0; 32];
        let mut filled = 0;
        while filled < seed.len() {
            let more = rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|e| StoreError::io("read", b"randomness", e))?;
            filled += more;
        }
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(&seed) })
    }

    /// Parses `NAME:BASE64` of 64 bytes, as `nix key generate-secret` writes it.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(text: &str) -> StoreResult<Self> {
        let (name, bytes) = split(text, "secret key", &[64])?;
        let both: [u8; 64] = bytes.try_into().expect("its length was checked");
        let key = SigningKey::from_keypair_bytes(&both)
            .map_err(|_| bad("secret key", format!("the halves of key '{name}' do not belong together")))?;
        Ok(Self { name, key })
    }

    /// Reads a key file. One that others may read is refused.
    ///
    /// # Errors
    /// If it cannot be read, others may read it, or it is not a key.
    pub fn read(path: &Path) -> StoreResult<Self> {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::PermissionsExt;
        let failed = |e| StoreError::io("read key file", path.as_os_str().as_bytes(), e);
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let problem = format!("others may read this secret key (mode {mode:04o}): chmod 600 it");
            return Err(bad(&path.display().to_string(), problem));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(failed)?)
    }

    /// Returns the key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the file form, secret.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        format!("{}:{}", self.name, base64_encode(&self.key.to_keypair_bytes()))
    }

    /// Returns the key that checks this one's signatures.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs an object: `NAME:BASE64`.
    #[must_use]
    pub fn sign(&self, dir: &StoreDir, info: &ObjectInfo) -> String {
        self.sign_text(&fingerprint(dir, info))
    }

    /// Signs a text: `NAME:BASE64`.
    #[must_use]
    pub fn sign_text(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes());
        format!("{}:{}", self.name, base64_encode(&signature.to_bytes()))
    }
}

/// A key that checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// Parses `NAME:BASE64` of 32 bytes.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(text: &str) -> StoreResult<Self> {
        let (name, bytes) = split(text, "public key", &[32])?;
        let bytes: [u8; 32] = bytes.try_into().expect("its length was checked");
        let key = VerifyingKey::from_bytes(&bytes)
            .map_err(|_| bad("public key", format!("key '{name}' is not a point of the curve")))?;
        Ok(Self { name, key })
    }

    /// Returns the key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, base64_encode(self.key.as_bytes()))
    }
}

/// The keys that are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys {
    keys: BTreeMap<String, PublicKey>,
    /// Take everything, signed or not.
    pub accepts_unsigned: bool,
}

impl TrustedKeys {
    /// Takes these.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().map(|k| (k.name.clone(), k)).collect(), accepts_unsigned: false }
    }

    /// Checks that a trusted key signed an object. Returns its name.
    ///
    /// # Errors
    /// [`StoreError::Signature`], with who signed what.
    pub fn check(&self, dir: &StoreDir, info: &ObjectInfo, from: &str) -> StoreResult<Option<String>> {
        let subject = format!("{}' from '{from}", dir.print(&info.path));
        self.check_text(&fingerprint(dir, info), &info.signatures, &subject)
    }

    /// Checks that a trusted key signed a text. Returns its name.
    ///
    /// # Errors
    /// [`StoreError::Signature`], with who signed what; `subject` says what it is.
    pub fn check_text(
        &self,
        text: &str,
        signatures: &BTreeSet<String>,
        subject: &str,
    ) -> StoreResult<Option<String>> {
        let mut wrong = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        for signature in signatures {
            let (name, digits) = signature.split_once(':').unwrap_or((signature, ""));
            match self.keys.get(name) {
                None => drop(unknown.insert(name)),
                Some(key) if is_signed(key, text, digits) => return Ok(Some(name.to_owned())),
                Some(_) => drop(wrong.insert(name)),
            }
        }
        if self.accepts_unsigned {
            return Ok(None);
        }
        let names =
            |names: &BTreeSet<&str>| names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ");
        let trusted: BTreeSet<&str> = self.keys.keys().map(String::as_str).collect();
        let trusted = if trusted.is_empty() { "none".to_owned() } else { names(&trusted) };
        let why = if !wrong.is_empty() {
            format!("the signature of {} is not of this object", names(&wrong))
        } else if unknown.is_empty() {
            format!("nobody signed it (trusted keys: {trusted}; `store.trusted-keys` names whom to believe)")
        } else {
            format!(
                "it is signed by {}, which is not trusted (trusted keys: {trusted}); \
                if you trust it, add its public key to `store.trusted-keys`",
                names(&unknown)
            )
        };
        Err(StoreError::Signature(format!("'{subject}' is refused: {why}")))
    }
}

fn is_signed(key: &PublicKey, text: &str, digits: &str) -> bool {
    let Ok(bytes) = base64_decode(digits) else { return false };
    let Ok(signature) = Signature::from_slice(&bytes) else { return false };
    key.key.verify_strict(text.as_bytes(), &signature).is_ok()
}
