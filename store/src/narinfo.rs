//! `.narinfo`: what a binary cache says about an object.
//!
//! ```text
//! StorePath: /nix/store/1cif0kzjly0k4gxq2d7bm0x9df2924df-hello
//! URL: nar/0qk….nar.zst
//! Compression: zstd
//! FileHash: sha256:0qk…
//! FileSize: 5120
//! NarHash: sha256:1b8…
//! NarSize: 12345
//! References: 0c0rrzs1g3r5vbmg7kbn3s4ayz0q3pzl-glibc
//! Sig: cache.example-1:…
//! ```
//!
//! The reader is strict about what it knows and takes no notice of other fields.

use std::fmt::Write as _;

use crate::error::{StoreError, StoreResult};
use crate::{ContentAddress, Hash, ObjectInfo, StoreDir, StorePath};

/// Longest narinfo that is read, in bytes. The longest seen in the wild has some thousands.
pub const MAX_LEN: usize = 1 << 20;

/// How a NAR lies in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// What we write unless told otherwise.
    #[default]
    Zstd,
    /// What Nix writes unless told otherwise.
    Xz,
    /// What it wrote at first, and what a narinfo means that does not say.
    Bzip2,
    /// gzip.
    Gzip,
}

impl Compression {
    /// Returns the word in the narinfo.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
        }
    }

    /// Returns what follows `.nar` in the file's name.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
            Self::Bzip2 => ".bz2",
            Self::Gzip => ".gz",
        }
    }

    /// Returns the compression called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    /// All that are known.
    pub const ALL: [Self; 5] = [Self::Zstd, Self::Xz, Self::None, Self::Bzip2, Self::Gzip];

    /// Returns the names of all, for messages.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

/// What a binary cache says about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    /// The object.
    pub info: ObjectInfo,
    /// Where its NAR is, below the cache; never outside.
    pub url: String,
    /// How it is compressed.
    pub compression: Compression,
    /// Hash of the compressed file.
    pub file_hash: Option<Hash>,
    /// Size of the compressed file.
    pub file_size_bytes: Option<u64>,
}

impl NarInfo {
    /// Returns the text.
    #[must_use]
    pub fn print(&self, dir: &StoreDir) -> String {
        let mut out = String::with_capacity(1024);
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            writeln!(out, "{key}: {value}").expect("a string takes everything");
        };
        line("StorePath", &dir.print(&self.info.path));
        line("URL", &self.url);
        line("Compression", &self.compression.name());
        if let Some(hash) = &self.file_hash {
            line("FileHash", hash);
        }
        if let Some(size) = self.file_size_bytes {
            line("FileSize", &size);
        }
        line("NarHash", &self.info.nar_hash);
        line("NarSize", &self.info.nar_size_bytes);
        let references: Vec<_> = self.info.references.iter().map(StorePath::as_str).collect();
        line("References", &references.join(" "));
        if let Some(deriver) = &self.info.deriver {
            line("Deriver", deriver);
        }
        for signature in &self.info.signatures {
            line("Sig", signature);
        }
        if let Some(address) = &self.info.address {
            line("CA", address);
        }
        out
    }

    /// Parses a narinfo. `from` names it in errors.
    ///
    /// # Errors
    /// [`StoreError::Format`] says which line, and what is wrong.
    pub fn parse(dir: &StoreDir, text: &str, from: &str) -> StoreResult<Self> {
        Self::parse_text(dir, text).map_err(|problem| StoreError::Format {
            what: from.to_owned(),
            problem: format!("bad narinfo: {problem}"),
        })
    }

    fn parse_text(dir: &StoreDir, text: &str) -> Result<Self, String> {
        if text.len() > MAX_LEN {
            return Err(format!("{} bytes, more than {MAX_LEN}", text.len()));
        }
        let fields = Fields::split(text)?;
        let path = fields.required("StorePath", |v| dir.parse(v).map_err(|e| e.to_string()))?;
        let nar_hash = fields.required("NarHash", |v| Hash::parse(v).map_err(|e| e.to_string()))?;
        let nar_size = fields.required("NarSize", number)?;
        let mut info = ObjectInfo::new(path, nar_hash, nar_size);
        info.references = fields
            .optional("References", |v| {
                let parse = |word: &str| StorePath::parse(word).map_err(|e| e.to_string());
                v.split(' ').filter(|w| !w.is_empty()).map(parse).collect()
            })?
            .unwrap_or_default();
        let deriver = |v: &str| match v {
            "" | "unknown-deriver" => Ok(None),
            v => StorePath::parse(v).map(Some).map_err(|e| e.to_string()),
        };
        info.deriver = fields.optional("Deriver", deriver)?.flatten();
        let address = |v: &str| match v {
            "" => Ok(None),
            v => ContentAddress::parse(v).map(Some).map_err(|e| e.to_string()),
        };
        info.address = fields.optional("CA", address)?.flatten();
        info.signatures = fields.all("Sig").map(str::to_owned).collect();
        Ok(Self {
            info,
            url: fields.required("URL", check_url)?,
            compression: fields
                .optional("Compression", |v| match v {
                    "" => Ok(Compression::Bzip2),
                    v => Compression::parse(v).ok_or_else(|| {
                        format!(
                            "unknown compression '{}' (known: {})",
                            v.escape_default(),
                            Compression::names()
                        )
                    }),
                })?
                .unwrap_or(Compression::Bzip2),
            file_hash: fields.optional("FileHash", |v| Hash::parse(v).map_err(|e| e.to_string()))?,
            file_size_bytes: fields.optional("FileSize", number)?,
        })
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number"))
}

/// A NAR lies below its cache: no other host, no scheme, no way up.
fn check_url(url: &str) -> Result<String, String> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let has_escapes =
        url.contains(['%', '\\', ':', '?', '#']) || url.chars().any(|c| c.is_control() || c == ' ');
    if url.is_empty() || has_escapes || !url.split('/').all(is_plain) {
        return Err(format!("URL '{}' does not lie below the cache", url.escape_default()));
    }
    Ok(url.to_owned())
}

/// The lines of a narinfo, in order.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    fn split(text: &'a str) -> Result<Self, String> {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let number = at + 1;
            if line.contains(['\r', '\0']) || text.contains("\r\n") {
                return Err(format!("line {number} has a carriage return or zero byte"));
            }
            let shown = || line.chars().take(40).collect::<String>().escape_default().to_string();
            let (key, value) = match line.split_once(':') {
                Some((key, value)) if !key.is_empty() && !key.contains(' ') => {
                    (key, value.trim_start_matches(' '))
                }
                _ => return Err(format!("line {number} is not 'Field: value': '{}'", shown())),
            };
            if key != "Sig" && fields.iter().any(|(k, _)| *k == key) {
                return Err(format!("line {number}: field '{key}' comes twice"));
            }
            fields.push((key, value));
        }
        Ok(Self(fields))
    }

    fn all(&self, key: &'a str) -> impl Iterator<Item = &'a str> + '_ {
        self.0.iter().filter(move |(k, _)| *k == key).map(|(_, v)| *v)
    }

    fn optional<T>(
        &self,
        key: &'a str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.all(key).next().map(parse).transpose().map_err(|e| format!("field '{key}': {e}"))
    }

    fn required<T>(&self, key: &'a str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
        self.optional(key, parse)?.ok_or_else(|| format!("field '{key}' is missing"))
    }
}
