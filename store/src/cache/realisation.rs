//! Which path an output got whose contents decide it, as a binary cache says: `realisations/ID.doi`.
//!
//! ```text
//! {"dependentRealisations":{},"id":"sha256:…!out","outPath":"…-name","signatures":["key-1:…"]}
//! ```
//!
//! What is signed is the same text without signatures. Nothing of it can be checked by hashing, so that
//! only a trusted key makes it believed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Transport, read_text};
use crate::error::{StoreError, StoreResult};
use crate::{DrvOutput, Hash, SecretKey, StorePath, TrustedKeys};

/// A claim that an output is an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realisation {
    /// Which output.
    pub id: DrvOutput,
    /// The object.
    pub path: StorePath,
    /// Who says so: `NAME:BASE64`.
    pub signatures: BTreeSet<String>,
}

/// `sha256:HASH!OUTPUT`.
fn id_text(id: &DrvOutput) -> String {
    format!("{}:{}!{}", id.hash.algo(), id.hash.to_base16(), id.output)
}

/// Returns the name of its file in a cache.
pub(crate) fn file_name(id: &DrvOutput) -> String {
    format!("realisations/{}.doi", id_text(id))
}

impl Realisation {
    /// An unsigned one.
    #[must_use]
    pub fn new(id: DrvOutput, path: StorePath) -> Self {
        Self { id, path, signatures: BTreeSet::new() }
    }

    /// Returns what is signed.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let text = json!({
            "dependentRealisations": {}, "id": id_text(&self.id), "outPath": self.path.as_str(),
        });
        text.to_string()
    }

    /// Adds a signature.
    pub fn sign(&mut self, key: &SecretKey) {
        self.signatures.insert(key.sign_text(&self.fingerprint()));
    }

    /// Returns the text of its file.
    #[must_use]
    pub fn print(&self) -> String {
        let text = json!({
            "dependentRealisations": {}, "id": id_text(&self.id), "outPath": self.path.as_str(),
            "signatures": self.signatures,
        });
        text.to_string()
    }

    /// Parses a file that should be about `id`.
    ///
    /// What else it depends on is checked by its objects' references, and signed with it: one that names
    /// such things is not taken, since we would sign and check another text.
    ///
    /// # Errors
    /// [`StoreError::Format`].
    pub fn parse(id: &DrvOutput, text: &str, from: &str) -> StoreResult<Self> {
        let bad = |problem: &str| StoreError::Format { what: from.to_owned(), problem: problem.to_owned() };
        let value: Value = serde_json::from_str(text).map_err(|error| bad(&error.to_string()))?;
        if value["id"] != id_text(id).as_str() {
            return Err(bad("it is about another output"));
        }
        if value
            .get("dependentRealisations")
            .and_then(Value::as_object)
            .is_some_and(|others| !others.is_empty())
        {
            return Err(bad("it depends on other realisations, which is not known here"));
        }
        let path = value["outPath"].as_str().ok_or_else(|| bad("it has no `outPath`"))?;
        let path = StorePath::parse(path).map_err(|error| bad(&error.to_string()))?;
        let signatures = value["signatures"].as_array().into_iter().flatten();
        let signatures = signatures.filter_map(|one| one.as_str().map(str::to_owned)).collect();
        Ok(Self { id: id.clone(), path, signatures })
    }

    /// Asks a cache; what no trusted key signed is an error.
    pub(super) fn ask(
        transport: &dyn Transport,
        keys: &TrustedKeys,
        id: &DrvOutput,
    ) -> StoreResult<Option<StorePath>> {
        let name = file_name(id);
        let Some(text) = read_text(transport, &name)? else { return Ok(None) };
        let from = format!("{}/{name}", transport.url());
        let found = Self::parse(id, &text, &from)?;
        keys.check_text(&found.fingerprint(), &found.signatures, &from)?;
        Ok(Some(found.path))
    }
}

/// Reads an id as [`crate::Store`] writes it: without the algorithm.
pub(crate) fn parse_id(text: &str) -> Option<DrvOutput> {
    let (digits, output) = text.split_once('!')?;
    let hash = Hash::parse_bare(digits, crate::HashAlgo::Sha256).ok()?;
    Some(DrvOutput { hash, output: output.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realisation() -> Realisation {
        let id = DrvOutput { hash: Hash::sha256(b"derivation"), output: "out".to_owned() };
        Realisation::new(id, StorePath::parse("00000000000000000000000000000000-x").expect("a store path"))
    }

    #[test]
    fn what_is_written_is_read() {
        let (mut one, key) = (realisation(), SecretKey::generate("k-1").expect("a name"));
        one.sign(&key);
        assert_eq!(Realisation::parse(&one.id, &one.print(), "here").expect("its own text"), one);
        assert!(one.print().starts_with(r#"{"dependentRealisations":{},"id":"sha256:"#), "{}", one.print());
        assert_eq!(parse_id(&format!("{}!out", one.id.hash.to_base16())), Some(one.id.clone()));
        TrustedKeys::new([key.public()])
            .check_text(&one.fingerprint(), &one.signatures, "here")
            .expect("signed");
    }

    #[test]
    fn what_is_no_realisation_is_refused() {
        let one = realisation();
        let text = one.print();
        let other = DrvOutput { output: "dev".to_owned(), ..one.id.clone() };
        let cases = [
            (&other, text.clone(), "about another output"),
            (&one.id, text.replace("-x", "/../x"), "store path"),
            (&one.id, text.replace("{}", r#"{"a":"b"}"#), "other realisations"),
            (&one.id, text.replace("outPath", "out"), "no `outPath`"),
            (&one.id, "[".to_owned(), "EOF"),
        ];
        for (id, text, expected) in cases {
            let error = Realisation::parse(id, &text, "here").expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
