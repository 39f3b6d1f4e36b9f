//! What a person asks for: the attribute `image` of a `builtin:image` derivation.
//!
//! Every field may be left out but the name; a field that does not exist is an
//! error that names those that do. The page for people is `docs/image-format.md`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{ImageError, Result};

/// An image as asked for, for one platform.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSpec {
    /// Its name, without registry or tag.
    pub name: String,
    /// Its tag.
    #[serde(default)]
    pub tag: Option<String>,
    /// Store paths that are in the image at their own paths, with their closures.
    #[serde(default)]
    pub contents: OneOrMany<String>,
    /// Trees that are laid at `/`.
    #[serde(default)]
    pub root: OneOrMany<RootSpec>,
    /// Single files.
    #[serde(default)]
    pub files: BTreeMap<String, FileSpec>,
    /// Users beside root and the one that runs.
    #[serde(default)]
    pub users: BTreeMap<String, UserSpec>,
    /// Groups beside the users' own.
    #[serde(default)]
    pub groups: BTreeMap<String, GroupSpec>,
    /// Directories with owner and mode.
    #[serde(default)]
    pub directories: BTreeMap<String, OwnerSpec>,
    /// Owners and modes of what other parts bring.
    #[serde(default)]
    pub permissions: BTreeMap<String, PermissionSpec>,
    /// How to run it.
    #[serde(default)]
    pub config: ConfigSpec,
    /// For which machines.
    #[serde(default)]
    pub platforms: OneOrMany<String>,
    /// What differs from platform to platform.
    #[serde(default)]
    pub per_platform: BTreeMap<String, Value>,
    /// How many layers, at most.
    #[serde(default)]
    pub layers: LayersSpec,
    /// `gzip`, `zstd`, `none`, with a level: `gzip:9`.
    #[serde(default)]
    pub compression: Option<String>,
    /// A file of certificates.
    #[serde(default)]
    pub ca_bundle: Option<String>,
    /// A directory of time zones (a tree with `usr/share/zoneinfo`, or that directory).
    #[serde(default)]
    pub time_zones: Option<String>,
    /// The zone that `/etc/localtime` is.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// An image that lies below.
    #[serde(default)]
    pub base: Option<BaseSpec>,
    /// Keep only what runs.
    #[serde(default)]
    pub slim: SlimSpec,
    /// What the lint lets pass.
    #[serde(default)]
    pub lint: LintSpec,
    /// Words in the manifest.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// When it was made: RFC 3339, or seconds since the epoch.
    #[serde(default)]
    pub created: Option<Value>,
    /// `oci` or `docker`.
    #[serde(default)]
    pub format: crate::plan::Format,
    /// Whether a bill of materials lies in the image.
    #[serde(default)]
    pub sbom: Option<bool>,
    /// Packages of the distribution that the person named: `slim` keeps of them what no
    /// program would name.
    #[serde(default)]
    pub named: Vec<String>,
    /// What the packages of the lock file are, for the bill of materials.
    #[serde(default)]
    pub packages: Vec<PackageSpec>,
}

/// A package of the image, as the lock file knows it.
#[derive(Clone, Debug, Deserialize, serde::Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct PackageSpec {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    #[serde(default)]
    pub architecture: Option<String>,
    /// `deb`, `cargo`, `npm`, `pypi`, `golang`, `generic`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// The source package.
    #[serde(default)]
    pub source: Option<String>,
    /// The version of the source package, where it differs.
    #[serde(default)]
    pub source_version: Option<String>,
    /// The hash of the archive that it came in.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Where that archive lies, without a host.
    #[serde(default)]
    pub path: Option<String>,
    /// Its licence, as an SPDX expression.
    #[serde(default)]
    pub license: Option<String>,
}

/// One, or a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// A list.
    Many(Vec<T>),
    /// One.
    One(T),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    /// Returns the list.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::Many(many) => many,
            Self::One(one) => std::slice::from_ref(one),
        }
    }
}

/// A tree at `/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum RootSpec {
    /// A store path.
    Path(String),
    /// A store path and the owners and modes that it could not hold.
    WithMeta(RootMetaSpec),
}

/// A tree and its other half, as `builtin:debian-compose` makes them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootMetaSpec {
    /// The tree.
    pub tree: String,
    /// The JSON file with `entries` and `packages`.
    #[serde(default)]
    pub meta: Option<String>,
    /// Where it is laid; `/` if absent.
    #[serde(default)]
    pub at: Option<String>,
}

impl RootSpec {
    /// Returns the tree's store path.
    pub fn tree(&self) -> &str {
        match self {
            Self::Path(path) => path,
            Self::WithMeta(both) => &both.tree,
        }
    }

    /// Returns the meta file's store path.
    pub fn meta(&self) -> Option<&str> {
        match self {
            Self::Path(_) => None,
            Self::WithMeta(both) => both.meta.as_deref(),
        }
    }

    /// Returns where the tree is laid.
    pub fn at(&self) -> &str {
        match self {
            Self::Path(_) => "",
            Self::WithMeta(both) => both.at.as_deref().unwrap_or(""),
        }
    }
}

/// A file: its text, or a set that says more.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum FileSpec {
    /// Its text.
    Text(String),
    /// More.
    Full(FullFileSpec),
}

/// A file with everything that can be said of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullFileSpec {
    /// Its text.
    #[serde(default)]
    pub text: Option<String>,
    /// A file or tree of the store that it is a copy of.
    #[serde(default)]
    pub source: Option<String>,
    /// Where it points, if it is a symbolic link.
    #[serde(default, alias = "symlink", alias = "link")]
    pub target: Option<String>,
    /// `"0644"` or 420.
    #[serde(default)]
    pub mode: Option<Value>,
    /// The owner's number or name.
    #[serde(default, alias = "user")]
    pub uid: Option<Value>,
    /// The group's number or name.
    #[serde(default, alias = "group")]
    pub gid: Option<Value>,
}

/// A user.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// The number.
    pub uid: u32,
    /// The group's number; the user's own if absent.
    #[serde(default)]
    pub gid: Option<u32>,
    /// The home directory.
    #[serde(default)]
    pub home: Option<String>,
    /// The shell.
    #[serde(default)]
    pub shell: Option<String>,
    /// The real name.
    #[serde(default, alias = "gecos")]
    pub description: Option<String>,
    /// Further groups, by name.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A group.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// The number.
    pub gid: u32,
    /// Its members, by name.
    #[serde(default)]
    pub members: Vec<String>,
}

/// Mode and owner, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerSpec {
    /// `"0755"` or 493.
    #[serde(default)]
    pub mode: Option<Value>,
    /// The owner's number or name.
    #[serde(default, alias = "user")]
    pub uid: Option<Value>,
    /// The group's number or name.
    #[serde(default, alias = "group")]
    pub gid: Option<Value>,
}

/// A change of mode or owner.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionSpec {
    /// `"0755"` or 493.
    #[serde(default)]
    pub mode: Option<Value>,
    /// The owner's number or name.
    #[serde(default, alias = "user")]
    pub uid: Option<Value>,
    /// The group's number or name.
    #[serde(default, alias = "group")]
    pub gid: Option<Value>,
    /// Whether all below is meant.
    #[serde(default)]
    pub recursive: bool,
}

/// How to run it. Names may also be written as Docker writes them (`Entrypoint`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigSpec {
    /// What runs.
    #[serde(default, alias = "Entrypoint")]
    pub entrypoint: Option<OneOrMany<String>>,
    /// Its default arguments.
    #[serde(default, alias = "Cmd", alias = "command")]
    pub cmd: Option<OneOrMany<String>>,
    /// A set, or a list of `NAME=value`.
    #[serde(default, alias = "Env")]
    pub env: Option<Value>,
    /// Where it runs.
    #[serde(default, alias = "WorkingDir", alias = "workdir")]
    pub working_dir: Option<String>,
    /// As whom; 65532 if absent.
    #[serde(default, alias = "User")]
    pub user: Option<Value>,
    /// A list of `80/tcp` or 80, or a set with such names.
    #[serde(default, alias = "ExposedPorts", alias = "ports")]
    pub exposed_ports: Option<Value>,
    /// A list of paths, or a set with such names.
    #[serde(default, alias = "Volumes")]
    pub volumes: Option<Value>,
    /// Words about it.
    #[serde(default, alias = "Labels")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to end.
    #[serde(default, alias = "StopSignal")]
    pub stop_signal: Option<String>,
    /// Docker's health check.
    #[serde(default, alias = "Healthcheck", alias = "healthCheck")]
    pub healthcheck: Option<HealthcheckSpec>,
}

/// A health check, with times like `"30s"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthcheckSpec {
    /// `[ "CMD" "prog" … ]`, `[ "prog" … ]`, or a line for the shell.
    #[serde(alias = "Test")]
    pub test: OneOrMany<String>,
    /// Time between two checks.
    #[serde(default, alias = "Interval")]
    pub interval: Option<Value>,
    /// Time after which one has failed.
    #[serde(default, alias = "Timeout")]
    pub timeout: Option<Value>,
    /// Time in which failures do not count.
    #[serde(default, alias = "StartPeriod")]
    pub start_period: Option<Value>,
    /// Time between two checks while starting.
    #[serde(default, alias = "StartInterval")]
    pub start_interval: Option<Value>,
    /// Failures in a row that make it unhealthy.
    #[serde(default, alias = "Retries")]
    pub retries: Option<i64>,
}

/// The layer budget.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum LayersSpec {
    /// At most so many.
    Budget(u32),
    /// A set.
    Full {
        /// At most so many.
        budget: u32,
    },
}

impl Default for LayersSpec {
    fn default() -> Self {
        Self::Budget(20)
    }
}

impl LayersSpec {
    /// Returns the budget.
    pub fn budget(&self) -> u32 {
        match self {
            Self::Budget(budget) | Self::Full { budget } => *budget,
        }
    }
}

/// A base image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseSpec {
    /// The store path of an OCI layout (what `fetchImage` gives).
    pub layout: String,
    /// The digest of its manifest or index, if it has several.
    #[serde(default)]
    pub digest: Option<crate::Digest>,
}

/// Whether and how to keep only what runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum SlimSpec {
    /// Yes or no.
    Flag(bool),
    /// Yes, and more words about it.
    Full(FullSlimSpec),
}

impl Default for SlimSpec {
    fn default() -> Self {
        Self::Flag(false)
    }
}

/// Words about what runs, where the files do not say it themselves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FullSlimSpec {
    /// Paths that are kept with all below and all that they need (`*` within a name,
    /// `**` across them).
    #[serde(default)]
    pub keep: Vec<String>,
    /// Paths that are not kept whatever says so.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Libraries that are opened by name while running.
    #[serde(default)]
    pub dlopen: Vec<String>,
    /// Python modules that are imported by name while running.
    #[serde(default)]
    pub python: Vec<String>,
}

impl SlimSpec {
    /// Returns the words, if slimming is wanted.
    pub fn wanted(&self) -> Option<FullSlimSpec> {
        match self {
            Self::Flag(false) => None,
            Self::Flag(true) => Some(FullSlimSpec::default()),
            Self::Full(full) => Some(full.clone()),
        }
    }
}

/// What the lint lets pass.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum LintSpec {
    /// Whether it may stop the build.
    Flag(bool),
    /// Kinds of findings, or paths, that pass.
    Full {
        /// Kinds (`root-user`) and paths (`/usr/bin/su`, `*` and `**` as in `slim.keep`).
        #[serde(default)]
        allow: Vec<String>,
    },
}

impl Default for LintSpec {
    fn default() -> Self {
        Self::Flag(true)
    }
}

/// Reads the attribute `image`, once for each platform.
///
/// # Errors
/// [`ImageError::Invalid`] naming the platform and what is wrong.
pub fn read(image: &Value) -> Result<Vec<(crate::oci::Platform, ImageSpec)>> {
    let parse = |value: Value| -> Result<ImageSpec> {
        serde_json::from_value(value).map_err(|e| ImageError::invalid(format!("attribute `image`: {e}")))
    };
    let common = parse(image.clone())?;
    let platforms = match common.platforms.as_slice() {
        [] => vec![default_platform().to_owned()],
        some => some.to_vec(),
    };
    if let Some(other) = common.per_platform.keys().find(|p| !platforms.contains(p)) {
        return Err(ImageError::invalid(format!(
            "attribute `image`: `perPlatform` names `{other}`, which is not among the platforms"
        )));
    }
    let mut out: Vec<(crate::oci::Platform, ImageSpec)> = Vec::new();
    for name in &platforms {
        let platform = crate::oci::Platform::parse(name)?;
        if out.iter().any(|(other, _)| *other == platform) {
            return Err(ImageError::invalid(format!("platform `{name}` is named twice")));
        }
        let mut value = image.clone();
        if let Some(own) = common.per_platform.get(name) {
            overlay(&mut value, own);
        }
        out.push((platform, parse(value)?));
    }
    Ok(out)
}

/// Sets join, at every depth; everything else replaces.
fn overlay(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(value), Value::Object(over)) => {
            for (name, over) in over {
                overlay(value.entry(name.clone()).or_insert(Value::Null), over);
            }
        }
        (value, over) => *value = over.clone(),
    }
}

/// Fixed, not this machine's: the same file must be the same image everywhere.
/// The library passes the platform of the packages that it chose.
fn default_platform() -> &'static str {
    "linux/amd64"
}

/// Reads a mode: a string is octal, a number is itself.
///
/// # Errors
/// [`ImageError::Invalid`] if it is none.
pub fn mode(value: &Value, of: &str) -> Result<u32> {
    let read = match value {
        Value::String(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
        Value::Number(n) => n.as_u64().and_then(|n| u32::try_from(n).ok()),
        _ => None,
    };
    read.filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        ImageError::invalid(format!("the mode of `{of}` is {value}: expected a string like \"0755\""))
    })
}

/// Reads a time: `"1m30s"`, `"500ms"`, or a number of seconds; in nanoseconds.
///
/// # Errors
/// [`ImageError::Invalid`] if it is none.
pub fn duration(value: &Value) -> Result<i64> {
    let fail = || {
        ImageError::invalid(format!("{value} is not a time: expected `\"30s\"`, `\"1m30s\"`, `\"500ms\"`"))
    };
    let text = match value {
        Value::Number(n) => {
            return n.as_i64().and_then(|n| n.checked_mul(1_000_000_000)).ok_or_else(fail);
        }
        Value::String(text) => text,
        _ => return Err(fail()),
    };
    let mut total: i64 = 0;
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
        let number: i64 = rest[..digits].parse().map_err(|_| fail())?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(fail()),
        };
        total = number.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(fail)?;
        rest = &rest[unit_len..];
    }
    Ok(total)
}
