//! What the store knows about an object: one small text file per valid object.
//!
//! ```text
//! ampoule-info 1
//! path 1cif0kzjly0k4gxq2d7bm0x9df2924df-hello
//! nar-hash sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s
//! nar-size 1234
//! reference 0c0rrzs1g3r5vbmg7kbn3s4ayz0q3pzl-glibc
//! registered 1700000000
//! epoch 7 3f2c…
//! end
//! ```
//!
//! The last line is there so that a file which a power cut has shortened is known for what it is.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;

use crate::{ContentAddress, Hash, StorePath};

/// How well the build that made an object was sealed. Ordered: more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Not at all: asked for by name, never signed.
    None,
    /// Landlock alone, for containers that forbid namespaces.
    Landlock,
    /// Namespaces: the default.
    Namespaces,
}

impl Tier {
    /// Returns the word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Landlock => "landlock",
            Self::Namespaces => "namespaces",
        }
    }

    /// Returns the tier called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Landlock, Self::Namespaces].into_iter().find(|t| t.name() == name)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the store knows about a valid object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its path.
    pub path: StorePath,
    /// SHA-256 of its NAR.
    pub nar_hash: Hash,
    /// Size of its NAR.
    pub nar_size_bytes: u64,
    /// What it refers to, itself too if it does.
    pub references: BTreeSet<StorePath>,
    /// What made it, if that is known. It need not be valid itself.
    pub deriver: Option<StorePath>,
    /// Set if the path follows from the contents.
    pub address: Option<ContentAddress>,
    /// `NAME:BASE64` each.
    pub signatures: BTreeSet<String>,
    /// How well its build was sealed; nothing for what was not built here.
    pub tier: Option<Tier>,
    /// When it was registered, in seconds since 1970. A record: nothing depends on it.
    pub registered_s: u64,
}

impl ObjectInfo {
    /// Begins with nothing but path, hash and size; registered now.
    #[must_use]
    pub fn new(path: StorePath, nar_hash: Hash, nar_size_bytes: u64) -> Self {
        Self {
            path,
            nar_hash,
            nar_size_bytes,
            references: BTreeSet::new(),
            deriver: None,
            address: None,
            signatures: BTreeSet::new(),
            tier: None,
            registered_s: now_s(),
        }
    }
}

pub(crate) fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs())
}

/// Under which boot and between which two synchronisations an info file was written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Epoch {
    pub number: u64,
    pub boot: String,
}

pub(crate) fn print(info: &ObjectInfo, epoch: &Epoch) -> String {
    let mut out = String::with_capacity(256 + 64 * info.references.len());
    let mut line = |key: &str, value: &dyn fmt::Display| {
        writeln!(out, "{key} {value}").expect("a string takes everything");
    };
    line("ampoule-info", &1);
    line("path", &info.path);
    line("nar-hash", &info.nar_hash);
    line("nar-size", &info.nar_size_bytes);
    for reference in &info.references {
        line("reference", reference);
    }
    if let Some(deriver) = &info.deriver {
        line("deriver", deriver);
    }
    if let Some(address) = &info.address {
        line("address", address);
    }
    for signature in &info.signatures {
        line("signature", signature);
    }
    if let Some(tier) = info.tier {
        line("tier", &tier);
    }
    line("registered", &info.registered_s);
    line("epoch", &format_args!("{} {}", epoch.number, epoch.boot));
    out.push_str("end\n");
    out
}

/// Reads an info file. The error says what is wrong, without the file's name.
pub(crate) fn parse(text: &str) -> Result<(ObjectInfo, Epoch), String> {
    let body = text.strip_suffix("end\n").ok_or("it is cut short")?;
    let mut lines = body.lines();
    match lines.next().and_then(|l| l.split_once(' ')) {
        Some(("ampoule-info", "1")) => {}
        _ => return Err("its first line is not 'ampoule-info 1'".to_owned()),
    }
    let (mut path, mut nar_hash, mut nar_size, mut epoch) = (None, None, None, None);
    let (mut deriver, mut address, mut tier, mut registered_s) = (None, None, None, 0);
    let (mut references, mut signatures) = (BTreeSet::new(), BTreeSet::new());
    for line in lines {
        let (key, value) = line.split_once(' ').ok_or_else(|| format!("line '{line}'"))?;
        let bad = |e: &dyn fmt::Display| format!("line '{line}': {e}");
        match key {
            "path" => path = Some(StorePath::parse(value).map_err(|e| bad(&e))?),
            "nar-hash" => nar_hash = Some(Hash::parse(value).map_err(|e| bad(&e))?),
            "nar-size" => nar_size = Some(value.parse().map_err(|e| bad(&e))?),
            "reference" => drop(references.insert(StorePath::parse(value).map_err(|e| bad(&e))?)),
            "deriver" => deriver = Some(StorePath::parse(value).map_err(|e| bad(&e))?),
            "address" => address = Some(ContentAddress::parse(value).map_err(|e| bad(&e))?),
            "signature" => drop(signatures.insert(value.to_owned())),
            "tier" => tier = Some(Tier::parse(value).ok_or_else(|| bad(&"unknown tier"))?),
            "registered" => registered_s = value.parse().map_err(|e| bad(&e))?,
            "epoch" => {
                let (number, boot) = value.split_once(' ').ok_or_else(|| bad(&"two words expected"))?;
                let number = number.parse().map_err(|e| bad(&e))?;
                epoch = Some(Epoch { number, boot: boot.to_owned() });
            }
            // A later version may say more.
            _ => {}
        }
    }
    let missing = |what: &str| format!("it has no line '{what}'");
    let info = ObjectInfo {
        path: path.ok_or_else(|| missing("path"))?,
        nar_hash: nar_hash.ok_or_else(|| missing("nar-hash"))?,
        nar_size_bytes: nar_size.ok_or_else(|| missing("nar-size"))?,
        references,
        deriver,
        address,
        signatures,
        tier,
        registered_s,
    };
    Ok((info, epoch.ok_or_else(|| missing("epoch"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_inverts_print_and_no_prefix_parses() {
        let path =
            |name: &str| StorePath::parse(&format!("1cif0kzjly0k4gxq2d7bm0x9df2924df-{name}")).unwrap();
        let mut info = ObjectInfo::new(path("a"), Hash::sha256(b"a"), 12);
        info.references = [path("a"), path("b")].into();
        info.deriver = Some(path("a.drv"));
        info.signatures = ["k:AAAA".to_owned()].into();
        info.tier = Some(Tier::Landlock);
        let epoch = Epoch { number: 3, boot: "b".to_owned() };
        let text = print(&info, &epoch);
        assert_eq!(parse(&text).unwrap(), (info, epoch));
        for len in 0..text.len() {
            assert!(parse(&text[..len]).is_err(), "{len}");
        }
    }
}
