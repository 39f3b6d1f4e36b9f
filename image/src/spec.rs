//! What a person asks for: the attribute `image` of a `builtin:image` derivation.
//!
//! Every field may be left out but the name; a field that does not exist is an
//! error that names those that do. The page for people is `docs/image-format.md`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{ImageError, Result};

/// A set of attributes as a table: what it `needs`, then what may be left out; `also` are
/// other names of an attribute. One that is in no table is an error.
macro_rules! attributes {
    (
        $(#[$about:meta])*
        pub struct $name:ident
        $(needs { $($(#[$its_words:meta])* $its:ident: $its_type:ty $(= also $($its_other:literal)+)?,)+ })?
        may { $($(#[$words:meta])* $field:ident: $type:ty $(= also $($other:literal)+)?,)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($($(#[$its_words])* $(#[serde($(alias = $its_other),+)])? pub $its: $its_type,)+)?
            $($(#[$words])* #[serde(default $($(, alias = $other)+)?)] pub $field: $type,)*
        }

        #[cfg(test)]
        impl $name {
            /// The attributes as this page names them.
            const NAMES: &[&str] = &[$($(stringify!($its),)+)? $(stringify!($field),)*];

            /// Their other names.
            #[allow(dead_code, reason = "asked of the tables that the library checks")]
            const OTHERS: &[&str] = &[$($($($($its_other,)+)?)+)? $($($($other,)+)?)*];
        }
    };
}

attributes! {
    /// An image as asked for, for one platform.
    pub struct ImageSpec
    needs {
        /// Its name, without registry or tag.
        name: String,
    } may {
        /// Its tag.
        tag: Option<String>,
        /// Store paths that are in the image at their own paths, with their closures.
        contents: OneOrMany<String>,
        /// Trees that are laid at `/`.
        root: OneOrMany<RootSpec>,
        /// Single files.
        files: BTreeMap<String, FileSpec>,
        /// Users beside root and the one that runs.
        users: BTreeMap<String, UserSpec>,
        /// Groups beside the users' own.
        groups: BTreeMap<String, GroupSpec>,
        /// Directories with owner and mode.
        directories: BTreeMap<String, OwnerSpec>,
        /// Owners and modes of what other parts bring.
        permissions: BTreeMap<String, PermissionSpec>,
        /// How to run it.
        config: ConfigSpec,
        /// For which machines.
        platforms: OneOrMany<String>,
        /// What differs from platform to platform.
        per_platform: BTreeMap<String, Value>,
        /// How many layers, at most.
        layers: LayersSpec,
        /// `gzip`, `zstd`, `none`, with a level: `gzip:9`.
        compression: Option<String>,
        /// A file of certificates.
        ca_bundle: Option<String>,
        /// A directory of time zones (a tree with `usr/share/zoneinfo`, or that directory).
        time_zones: Option<String>,
        /// The zone that `/etc/localtime` is.
        time_zone: Option<String>,
        /// An image that lies below.
        base: Option<BaseSpec>,
        /// Keep only what runs.
        slim: SlimSpec,
        /// What the lint lets pass.
        lint: LintSpec,
        /// Words in the manifest.
        annotations: BTreeMap<String, String>,
        /// When it was made: RFC 3339, or seconds since the epoch.
        created: Option<Value>,
        /// `oci` or `docker`.
        format: crate::plan::Format,
        /// Whether a bill of materials lies in the image.
        sbom: Option<bool>,
        /// Packages of the distribution that the person named: `slim` keeps of them what no
        /// program would name.
        named: Vec<String>,
        /// What the packages of the lock file are, for the bill of materials.
        packages: Vec<PackageSpec>,
    }
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
    pub architecture: Option<String>,
    /// `deb`, `cargo`, `npm`, `pypi`, `golang`, `generic`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The source package.
    pub source: Option<String>,
    /// The version of the source package, where it differs.
    pub source_version: Option<String>,
    /// The hash of the archive that it came in.
    pub sha256: Option<String>,
    /// Where that archive lies, without a host.
    pub path: Option<String>,
    /// Its licence, as an SPDX expression.
    pub license: Option<String>,
}

/// One, or a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected one, or a list")]
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
#[serde(untagged, expecting = "expected a tree of the store, or `{ tree, meta ? , at ? }`")]
pub enum RootSpec {
    /// A store path.
    Path(String),
    /// A store path and the owners and modes that it could not hold.
    WithMeta(RootMetaSpec),
}

attributes! {
    /// A tree and its other half, as `builtin:debian-compose` makes them.
    pub struct RootMetaSpec
    needs {
        /// The tree.
        tree: String,
    } may {
        /// The JSON file with `entries` and `packages`.
        meta: Option<String>,
        /// Where it is laid; `/` if absent.
        at: Option<String>,
    }
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
#[serde(
    untagged,
    expecting = "expected the text of a file, or a set of `text`, `source` or `target` with `mode`, `uid`, `gid`"
)]
pub enum FileSpec {
    /// Its text.
    Text(String),
    /// More.
    Full(FullFileSpec),
}

attributes! {
    /// A file with everything that can be said of it.
    pub struct FullFileSpec
    may {
        /// Its text.
        text: Option<String>,
        /// A file or tree of the store that it is a copy of.
        source: Option<String>,
        /// Where it points, if it is a symbolic link.
        target: Option<String> = also "symlink" "link",
        /// `"0644"` or 420.
        mode: Option<Value>,
        /// The owner's number or name.
        uid: Option<Value> = also "user",
        /// The group's number or name.
        gid: Option<Value> = also "group",
    }
}

attributes! {
    /// A user.
    pub struct UserSpec
    needs {
        /// The number.
        uid: u32,
    } may {
        /// The group's number; the user's own if absent.
        gid: Option<u32>,
        /// The home directory.
        home: Option<String>,
        /// The shell.
        shell: Option<String>,
        /// The real name.
        description: Option<String> = also "gecos",
        /// Further groups, by name.
        groups: Vec<String>,
    }
}

attributes! {
    /// A group.
    pub struct GroupSpec
    needs {
        /// The number.
        gid: u32,
    } may {
        /// Its members, by name.
        members: Vec<String>,
    }
}

attributes! {
    /// Mode and owner, as written.
    pub struct OwnerSpec
    may {
        /// `"0755"` or 493.
        mode: Option<Value>,
        /// The owner's number or name.
        uid: Option<Value> = also "user",
        /// The group's number or name.
        gid: Option<Value> = also "group",
    }
}

attributes! {
    /// A change of mode or owner.
    pub struct PermissionSpec
    may {
        /// `"0755"` or 493.
        mode: Option<Value>,
        /// The owner's number or name.
        uid: Option<Value> = also "user",
        /// The group's number or name.
        gid: Option<Value> = also "group",
        /// Whether all below is meant.
        recursive: bool,
    }
}

attributes! {
    /// How to run it. Names may also be written as Docker writes them (`Entrypoint`).
    pub struct ConfigSpec
    may {
        /// What runs.
        entrypoint: Option<OneOrMany<String>> = also "Entrypoint",
        /// Its default arguments.
        cmd: Option<OneOrMany<String>> = also "Cmd" "command",
        /// A set, or a list of `NAME=value`.
        env: Option<Value> = also "Env",
        /// Where it runs.
        working_dir: Option<String> = also "WorkingDir" "workdir",
        /// As whom; 65532 if absent.
        user: Option<Value> = also "User",
        /// A list of `80/tcp` or 80, or a set with such names.
        exposed_ports: Option<Value> = also "ExposedPorts" "ports",
        /// A list of paths, or a set with such names.
        volumes: Option<Value> = also "Volumes",
        /// Words about it.
        labels: BTreeMap<String, String> = also "Labels",
        /// The signal that asks it to end.
        stop_signal: Option<String> = also "StopSignal",
        /// Docker's health check.
        healthcheck: Option<HealthcheckSpec> = also "Healthcheck" "healthCheck",
    }
}

attributes! {
    /// A health check, with times like `"30s"`.
    pub struct HealthcheckSpec
    needs {
        /// `[ "CMD" "prog" … ]`, `[ "prog" … ]`, or a line for the shell.
        test: OneOrMany<String> = also "Test",
    } may {
        /// Time between two checks.
        interval: Option<Value> = also "Interval",
        /// Time after which one has failed.
        timeout: Option<Value> = also "Timeout",
        /// Time in which failures do not count.
        start_period: Option<Value> = also "StartPeriod",
        /// Time between two checks while starting.
        start_interval: Option<Value> = also "StartInterval",
        /// Failures in a row that make it unhealthy.
        retries: Option<i64> = also "Retries",
    }
}

/// The layer budget.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected `layers` to be a number")]
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

/// A base image: a layout, or a set that says which of its images.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected `base` to be a layout of the store, or `{ layout, digest ? }`")]
pub enum BaseSpec {
    /// The store path of an OCI layout (what `pullImage` gives).
    Layout(String),
    /// More.
    Full(FullBaseSpec),
}

attributes! {
    /// A base image with all that can be said of it.
    pub struct FullBaseSpec
    needs {
        /// The store path of an OCI layout.
        layout: String,
    } may {
        /// The digest of its manifest or index, if it has several.
        digest: Option<crate::Digest>,
    }
}

impl BaseSpec {
    /// Returns the store path of the layout.
    pub fn layout(&self) -> &str {
        match self {
            Self::Layout(layout) => layout,
            Self::Full(full) => &full.layout,
        }
    }

    /// Returns the digest, if one is named.
    pub fn digest(&self) -> Option<&crate::Digest> {
        match self {
            Self::Layout(_) => None,
            Self::Full(full) => full.digest.as_ref(),
        }
    }
}

/// Whether and how to keep only what runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected `slim` to be a boolean, or a set of `keep`, `drop`, `dlopen`, `python` (lists)"
)]
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

attributes! {
    /// Words about what runs, where the files do not say it themselves.
    pub struct FullSlimSpec
    may {
        /// Paths that are kept with all below and all that they need (`*` within a name,
        /// `**` across them).
        keep: Vec<String>,
        /// Paths that are not kept whatever says so.
        drop: Vec<String>,
        /// Libraries that are opened by name while running.
        dlopen: Vec<String>,
        /// Python modules that are imported by name while running.
        python: Vec<String>,
    }
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
#[serde(untagged, expecting = "expected `lint` to be a boolean, or `{ allow = [ … ]; }`")]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The page and the library know every attribute of the tables.
    #[test]
    fn attributes_are_written_down() {
        let read = |name: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
            std::fs::read_to_string(path).expect("a file of the workspace")
        };
        let (page, library) = (read("docs/image-format.md"), read("stdlib/image.img"));
        let camel = |name: &str| {
            let mut parts = name.split('_');
            let first = parts.next().unwrap_or_default().to_owned();
            parts.fold(first, |all, part| all + &part[..1].to_uppercase() + &part[1..])
        };
        let tables = [
            ImageSpec::NAMES,
            ConfigSpec::NAMES,
            HealthcheckSpec::NAMES,
            FullFileSpec::NAMES,
            PermissionSpec::NAMES,
            OwnerSpec::NAMES,
            UserSpec::NAMES,
            GroupSpec::NAMES,
            FullSlimSpec::NAMES,
            FullBaseSpec::NAMES,
            RootMetaSpec::NAMES,
        ];
        for name in tables.concat().into_iter().map(camel) {
            let is_word = |text: &str| {
                text.match_indices(&name).any(|(at, _)| {
                    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
                    edge(text[..at].chars().next_back()) && edge(text[at + name.len()..].chars().next())
                })
            };
            // The library gives the names of packages itself.
            assert!(is_word(&page) || name == "named", "`{name}` is not on docs/image-format.md");
        }
        let of_config = ConfigSpec::NAMES.iter().map(|name| camel(name));
        let others = ConfigSpec::OTHERS.iter().map(|name| (*name).to_owned());
        let of_image = ImageSpec::NAMES.iter().map(|name| camel(name)).filter(|name| name != "named");
        for name in of_image.chain(of_config).chain(others) {
            assert!(library.contains(&format!("\"{name}\"")), "`{name}` is not in stdlib/image.img");
        }
    }
}
