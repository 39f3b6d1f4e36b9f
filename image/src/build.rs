//! `builtin:image`: from what a person asks for to the image's store object.
//!
//! The object is small: `image.json`, the plan. It names every store path that the
//! image needs, so the store's own scan for references keeps them. The trees are
//! looked at here, once per change: for the links that lead from one tree into
//! another, for accounts, for the lint, for `slim`. Bytes are copied later, by
//! [`crate::project`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::accounts::{Accounts, NONROOT};
use crate::compress::Compression;
use crate::dpkg::Dpkg;
use crate::entry::{Entry, EntryKind, clean_path};
use crate::error::{ImageError, Result};
use crate::group::{self, GroupObject};
use crate::oci::{self, Empty, Healthcheck, Platform, RunConfig};
use crate::plan::{
    self, BasePlan, FilePlan, FileWhat, Format, LayerPlan, ObjectSource, Owner, Part, Permission, Plan,
    PlatformPlan,
};
use crate::project::split_store_path;
use crate::slices::{Owned, SlicePaths, SlicedTree, Tables};
use crate::slim::Kept;
use crate::spec::{self, ConfigSpec, FileSpec, FullFileSpec, ImageSpec, OneOrMany, PackageSpec};
use crate::view::View;
use crate::walk::{self, Modes};

/// What the store knows of an object.
#[derive(Clone, Debug, Default)]
pub struct ObjectFacts {
    /// Its size as a NAR.
    pub nar_size_bytes: u64,
    /// The store paths that it refers to.
    pub references: Vec<String>,
}

/// A store, as far as planning an image needs it.
pub trait Objects: ObjectSource {
    /// Returns the logical store directory: `/nix/store`.
    fn store_dir(&self) -> &str;

    /// Returns what is known of an object.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] if the store does not have it.
    fn facts(&self, store_path: &str) -> Result<ObjectFacts>;
}

/// What came of planning, for the build's log.
#[derive(Clone, Debug, Default)]
pub struct BuildReport {
    /// Lines for the log: notes and warnings.
    pub lines: Vec<String>,
}

/// Decides what the image `asked` (the attribute `image`) is, and writes its
/// object into the new directory `out`.
///
/// # Errors
/// [`ImageError::Invalid`] for what cannot be, [`ImageError::Lint`] for what must
/// not be shipped, [`ImageError::Io`].
pub fn build_image_object(asked: &Value, objects: &dyn Objects, out: &Path) -> Result<BuildReport> {
    let mut report = BuildReport::default();
    let specs = spec::read(asked)?;
    let (_, first) = specs.first().expect("there is always one platform");
    std::fs::create_dir(out).map_err(|e| ImageError::io("create", out, e))?;
    let mut plan = Plan {
        schema: plan::SCHEMA,
        name: image_name(&first.name)?,
        tag: image_tag(first)?,
        created: created(first)?,
        compression: first.compression.as_deref().map_or(Ok(Compression::default()), Compression::parse)?,
        format: first.format,
        annotations: first.annotations.clone(),
        notes: Vec::new(),
        platforms: Vec::new(),
    };
    let mut reasons: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut slices = SlicePaths::new();
    for (platform, spec) in &specs {
        let one = Builder { spec, platform, objects, out, many: specs.len() > 1 };
        let built = one.build(&mut report)?;
        plan.platforms.push(built.plan);
        if !built.slices.is_empty() {
            slices.insert(platform.to_string(), built.slices);
        }
        if let Some(kept) = built.kept {
            let text =
                |(path, why): (&[u8], &str)| (String::from_utf8_lossy(path).into_owned(), why.to_owned());
            reasons.insert(platform.to_string(), kept.reasons().map(text).collect());
        }
    }
    let put = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        std::fs::write(&path, bytes).map_err(|e| ImageError::io("write", &path, e))
    };
    if !reasons.is_empty() {
        put(crate::why::SLIM_FILE, &oci::to_json(&reasons))?;
    }
    if !slices.is_empty() {
        put(plan::SLICES_FILE, &oci::to_json(&slices))?;
    }
    plan.notes = notes(&plan);
    report.lines.extend(plan.notes.iter().map(|note| format!("note: {note}")));
    let mut bytes = serde_json::to_vec_pretty(&plan).expect("plans hold strings and numbers only");
    bytes.push(b'\n');
    put(plan::PLAN_FILE, &bytes)?;
    Ok(report)
}

fn notes(plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    let health = plan.platforms.iter().any(|p| p.config.healthcheck.is_some());
    if health && plan.format == Format::Oci {
        notes.push(
            "the health check is in the configuration: Docker runs it, podman and others read it only with `format = \"docker\"`"
                .to_owned(),
        );
    }
    if plan
        .platforms
        .iter()
        .any(|p| p.base.is_none() && p.config.entrypoint.is_none() && p.config.cmd.is_none())
    {
        notes.push("the image has neither entrypoint nor command: whoever runs it must name one".to_owned());
    }
    notes
}

/// Checks a name by the rules of the distribution specification.
fn image_name(name: &str) -> Result<String> {
    let part = |part: &str| {
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        part.bytes().all(ok) && edge(part.as_bytes().first()) && edge(part.as_bytes().last())
    };
    // The first part may be a registry with a port.
    let (host, rest) = match name.split_once('/') {
        Some((host, rest)) if host.contains([':', '.']) || host == "localhost" => (Some(host), rest),
        _ => (None, name),
    };
    let host_ok = host.is_none_or(|h| h.bytes().all(|b| b.is_ascii_alphanumeric() || b":.-[]".contains(&b)));
    if name.len() <= 255 && host_ok && rest.split('/').all(part) {
        return Ok(name.to_owned());
    }
    Err(ImageError::invalid(format!(
        "`{name}` is not an image name: lower-case letters, digits, `.`, `_`, `-`, parts separated by `/`"
    )))
}

fn image_tag(spec: &ImageSpec) -> Result<String> {
    let tag = spec.tag.as_deref().unwrap_or("latest");
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first_ok = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    if first_ok && tag.len() <= 128 && tag.bytes().all(ok) {
        return Ok(tag.to_owned());
    }
    Err(ImageError::invalid(format!("`{tag}` is not a tag: letters, digits, `.`, `_`, `-`, at most 128")))
}

fn created(spec: &ImageSpec) -> Result<String> {
    match &spec.created {
        None | Some(Value::Null) => Ok(plan::DEFAULT_CREATED.to_owned()),
        Some(value) => time(value).ok_or_else(|| {
            ImageError::invalid(format!(
                "`created` is {value}: expected a time like \"2026-01-31T12:00:00Z\" or seconds since the epoch"
            ))
        }),
    }
}

/// A time as RFC 3339 in UTC, from such a text or from seconds since the epoch.
fn time(value: &Value) -> Option<String> {
    let time = match value {
        Value::Number(seconds) => Timestamp::from_second(seconds.as_i64().filter(|n| *n >= 0)?).ok()?,
        Value::String(text) => text.parse::<Timestamp>().ok()?,
        _ => return None,
    };
    Some(time.to_string())
}

/// The other half of a composed tree.
#[derive(Debug, Default, Deserialize)]
struct TreeMeta {
    #[serde(default)]
    entries: BTreeMap<String, MetaEntry>,
    #[serde(default)]
    packages: Vec<PackageSpec>,
    #[serde(default)]
    owners: BTreeMap<String, Owned>,
}

#[derive(Debug, Default, Deserialize)]
struct MetaEntry {
    #[serde(default)]
    mode: Option<Value>,
    #[serde(default)]
    uid: Option<u32>,
    #[serde(default)]
    gid: Option<u32>,
}

struct Builder<'a> {
    spec: &'a ImageSpec,
    platform: &'a Platform,
    objects: &'a dyn Objects,
    out: &'a Path,
    many: bool,
}

/// One platform, built.
struct Built {
    plan: PlatformPlan,
    kept: Option<Kept>,
    slices: TreeSlices,
}

/// The paths of slices: tree → package.
type TreeSlices = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// A tree's paths, below its root, with what is there.
type TreeContents = Vec<(Box<[u8]>, Entry)>;

/// What layers are planned from.
#[derive(Default)]
struct Units {
    /// Trees that are laid whole.
    trees: Vec<Part>,
    /// Packages and store objects.
    grouped: Vec<(GroupObject, Part)>,
    /// What no package brought.
    rests: Vec<Part>,
}

/// Entries of every part, for the view.
type Listed = Vec<(usize, Box<[u8]>, Entry)>;

impl Builder<'_> {
    fn build(&self, report: &mut BuildReport) -> Result<Built> {
        let metas = self.metas()?;
        let closure = self.closure()?;
        let mut trees = self.trees()?;
        let mut packed = self.objects_parts(&closure)?;
        let listed = self.list(&trees, &packed)?;
        let contents = contents_of_sliced(&metas, &listed);
        let base = self.base()?;
        let accounts = self.accounts(&listed)?;
        let directories = self.directories(&accounts)?;
        let permissions = self.permissions(&metas, &accounts)?;
        let mut files = self.files(&accounts, &directories)?;
        let run = self.run_config(&accounts)?;
        // What the whole image shows, the generated files included.
        let mut all = listed;
        let part = trees.len() + packed.len();
        for file in &files {
            for entry in self.file_entries(file)? {
                all.push((part, entry.path.clone(), entry));
            }
        }
        let view = View::new(all);
        let mut dpkg = Dpkg::read(&view)?;
        for (root, meta) in self.spec.root.as_slice().iter().zip(&metas) {
            dpkg.add_owned(&view, root.at().trim_matches('/'), &meta.owners);
        }
        let check = crate::lint::Check {
            view: &view,
            config: &run,
            platform: self.platform,
            spec: self.spec,
            permissions: &permissions,
            has_base: base.is_some(),
        };
        let mut sizes: BTreeMap<usize, u64> = BTreeMap::new();
        let mut slim = None;
        if let Some(words) = self.spec.slim.wanted() {
            let kept = crate::slim::slim(&view, &dpkg, &run, &words, &self.spec.named, trees.len())?;
            let total = view.iter().filter(|(_, n)| matches!(n.kind, EntryKind::File { .. })).count();
            report.lines.push(format!("slim: {} of {total} files are kept", kept.files));
            for (i, part) in trees.iter_mut().chain(packed.iter_mut()).enumerate() {
                let Some(kept_here) = kept.of_part(&view, i)? else { continue };
                sizes.insert(i, kept.size_of_part(&view, i));
                match part {
                    Part::Tree { keep: slot, .. } | Part::Object { keep: slot, .. } => {
                        *slot = Some(kept_here)
                    }
                    Part::Slice { .. } | Part::Files { .. } => {}
                }
            }
            report.lines.extend(check.run(Some(&kept))?);
            slim = Some(kept);
        } else {
            report.lines.extend(check.run(None)?);
        }
        let mut packages = self.spec.packages.clone();
        packages.extend(metas.iter().flat_map(|m| m.packages.clone()));
        packages.sort();
        packages.dedup();
        files.extend(self.sbom(&dpkg, &closure, &packages, slim.as_ref())?);
        let links = view.links().clone();
        let tables = Tables { directories: &directories, permissions: &permissions, links: &links };
        let (units, slices) = self.units(&metas, trees, packed, &contents, &sizes, &dpkg, &tables)?;
        let layers = self.layers(units, files)?;
        let plan = PlatformPlan {
            platform: self.platform.clone(),
            config: run,
            base,
            layers,
            directories,
            permissions,
            links,
        };
        Ok(Built { plan, kept: slim, slices })
    }

    /// Reads what lies beside each tree.
    fn metas(&self) -> Result<Vec<TreeMeta>> {
        let read = |root: &spec::RootSpec| -> Result<TreeMeta> {
            let Some(meta) = root.meta() else { return Ok(TreeMeta::default()) };
            let path = self.locate_below(meta)?;
            let bytes = std::fs::read(&path).map_err(|e| ImageError::io("read", &path, e))?;
            oci::from_json(&format!("`{meta}`"), &bytes)
        };
        self.spec.root.as_slice().iter().map(read).collect()
    }

    fn trees(&self) -> Result<Vec<Part>> {
        let part = |root: &spec::RootSpec| -> Result<Part> {
            let (path, below) = self.store_path(root.tree())?;
            if !below.is_empty() {
                return Err(ImageError::invalid(format!(
                    "`root` wants a whole store object; `{}` lies within one: use `files.\"/\".source`",
                    root.tree()
                )));
            }
            let size = self.objects.facts(path)?.nar_size_bytes;
            let at = String::from_utf8_lossy(&clean_path(root.at())?).into_owned();
            Ok(Part::Tree { path: path.to_owned(), at, size, keep: None })
        };
        self.spec.root.as_slice().iter().map(part).collect()
    }

    fn store_path<'p>(&self, path: &'p str) -> Result<(&'p str, &'p str)> {
        let ours = path.strip_prefix(self.objects.store_dir()).is_some_and(|rest| rest.starts_with('/'));
        split_store_path(path).filter(|_| ours).ok_or_else(|| {
            ImageError::invalid(format!("`{path}` is not a path in `{}`", self.objects.store_dir()))
        })
    }

    fn locate_below(&self, path: &str) -> Result<PathBuf> {
        let (object, below) = self.store_path(path)?;
        let root = self.objects.locate(object)?;
        Ok(if below.is_empty() { root } else { root.join(below) })
    }

    /// Returns every store object that must be at its own path: what is named, what
    /// texts and the configuration mention, what trees refer to, and all that those
    /// refer to.
    fn closure(&self) -> Result<Vec<GroupObject>> {
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for path in self.spec.contents.as_slice() {
            wanted.insert(self.store_path(path)?.0.to_owned());
        }
        let mut mentioned = |text: &str| wanted.extend(self.mentioned_paths(text));
        for file in self.spec.files.values() {
            match file {
                FileSpec::Text(text) => mentioned(text),
                FileSpec::Full(full) => {
                    full.text.iter().chain(&full.target).for_each(|text| mentioned(text));
                }
            }
        }
        config_texts(&self.spec.config).iter().for_each(|text| mentioned(text));
        let copied = |path: &str| -> Result<Vec<String>> {
            let (object, _) = self.store_path(path)?;
            let references = self.objects.facts(object)?.references;
            Ok(references.into_iter().filter(|reference| reference != object).collect())
        };
        for root in self.spec.root.as_slice() {
            wanted.extend(copied(root.tree())?);
        }
        for file in self.spec.files.values() {
            if let FileSpec::Full(FullFileSpec { source: Some(source), .. }) = file {
                wanted.extend(copied(source)?);
            }
        }
        let mut closure: BTreeMap<String, GroupObject> = BTreeMap::new();
        let mut todo: Vec<String> = wanted.into_iter().collect();
        while let Some(path) = todo.pop() {
            if closure.contains_key(&path) {
                continue;
            }
            let facts = self.objects.facts(&path)?;
            todo.extend(facts.references.iter().cloned());
            let object = GroupObject {
                path: path.clone(),
                size_bytes: facts.nar_size_bytes,
                references: facts.references,
            };
            closure.insert(path, object);
        }
        Ok(closure.into_values().collect())
    }

    /// Finds store paths within a text.
    fn mentioned_paths(&self, text: &str) -> Vec<String> {
        let dir = format!("{}/", self.objects.store_dir());
        text.match_indices(&dir)
            .filter_map(|(i, _)| {
                let name = &text[i + dir.len()..];
                let ok = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
                let end = name.find(|c: char| !ok(c)).unwrap_or(name.len());
                // A full stop that ends a sentence is no part of a name.
                let whole = format!("{dir}{}", name[..end].trim_end_matches('.'));
                split_store_path(&whole)?;
                self.objects.facts(&whole).is_ok().then_some(whole)
            })
            .collect()
    }

    fn objects_parts(&self, closure: &[GroupObject]) -> Result<Vec<Part>> {
        Ok(closure
            .iter()
            .map(|o| Part::Object { path: o.path.clone(), size: o.size_bytes, keep: None })
            .collect())
    }

    fn list(&self, trees: &[Part], packed: &[Part]) -> Result<Listed> {
        let mut all: Listed = Vec::new();
        for (i, part) in trees.iter().chain(packed).enumerate() {
            let (path, at, modes) = match part {
                Part::Tree { path, at, .. } => (path, at.clone(), Modes::Root),
                Part::Object { path, .. } => (path, path.trim_start_matches('/').to_owned(), Modes::Store),
                Part::Slice { .. } | Part::Files { .. } => continue,
            };
            for entry in walk::read_tree(&self.objects.locate(path)?, at.as_bytes(), modes)? {
                let below = entry.path.strip_prefix(at.as_bytes()).unwrap_or(&entry.path);
                let below = below.strip_prefix(b"/").unwrap_or(below);
                all.push((i, below.into(), entry));
            }
        }
        Ok(all)
    }

    fn base(&self) -> Result<Option<BasePlan>> {
        let Some(base) = &self.spec.base else { return Ok(None) };
        let (path, _) = self.store_path(base.layout())?;
        let layout = crate::layout::Layout::open(self.objects.locate(path)?)?;
        let manifest = crate::base::find(&layout, base.digest(), self.platform)?;
        Ok(Some(BasePlan { layout: path.to_owned(), manifest }))
    }

    fn accounts(&self, listed: &Listed) -> Result<Accounts> {
        let read = |path: &str| -> Result<Option<std::sync::Arc<[u8]>>> {
            if let Some(file) = self.spec.files.get(&format!("/{path}")).or_else(|| self.spec.files.get(path))
            {
                match file {
                    FileSpec::Text(text) => return Ok(Some(text.as_bytes().into())),
                    FileSpec::Full(full) => {
                        if let Some(text) = &full.text {
                            return Ok(Some(text.as_bytes().into()));
                        }
                    }
                }
            }
            let found = listed.iter().rev().find(|(_, _, e)| *e.path == *path.as_bytes());
            match found.map(|(_, _, e)| &e.kind) {
                Some(EntryKind::File { source, .. }) => source.read().map(Some),
                _ => Ok(None),
            }
        };
        let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
        let mut accounts = Accounts::read(passwd.as_deref(), group.as_deref());
        accounts.add(&self.spec.users, &self.spec.groups)?;
        Ok(accounts)
    }

    fn owner(&self, accounts: &Accounts, spec: &spec::OwnerSpec, default: u32, of: &str) -> Result<Owner> {
        Ok(Owner {
            mode: spec.mode.as_ref().map_or(Ok(default), |mode| spec::mode(mode, of))?,
            uid: spec.uid.as_ref().map_or(Ok(0), |uid| number(uid, |name| accounts.uid(name)))?,
            gid: spec.gid.as_ref().map_or(Ok(0), |gid| number(gid, |name| accounts.gid(name)))?,
        })
    }

    fn directories(&self, accounts: &Accounts) -> Result<BTreeMap<String, Owner>> {
        let mut out = BTreeMap::from([("tmp".to_owned(), Owner { mode: 0o1777, uid: 0, gid: 0 })]);
        for (path, owner) in &self.spec.directories {
            let clean = String::from_utf8_lossy(&clean_path(path)?).into_owned();
            out.insert(clean, self.owner(accounts, owner, 0o755, path)?);
        }
        Ok(out)
    }

    fn permissions(&self, metas: &[TreeMeta], accounts: &Accounts) -> Result<Vec<Permission>> {
        let mut out = Vec::new();
        for (path, entry) in metas.iter().flat_map(|meta| &meta.entries) {
            out.push(Permission {
                path: String::from_utf8_lossy(&clean_path(path)?).into_owned(),
                recursive: false,
                mode: entry.mode.as_ref().map(|mode| spec::mode(mode, path)).transpose()?,
                uid: entry.uid,
                gid: entry.gid,
            });
        }
        for (path, rule) in &self.spec.permissions {
            let by_name = |value: &Option<Value>, look: &dyn Fn(&str) -> Result<u32>| {
                value.as_ref().map(|value| number(value, look)).transpose()
            };
            out.push(Permission {
                path: String::from_utf8_lossy(&clean_path(path)?).into_owned(),
                recursive: rule.recursive,
                mode: rule.mode.as_ref().map(|mode| spec::mode(mode, path)).transpose()?,
                uid: by_name(&rule.uid, &|name| accounts.uid(name))?,
                gid: by_name(&rule.gid, &|name| accounts.gid(name))?,
            });
        }
        Ok(out)
    }

    fn files(&self, accounts: &Accounts, directories: &BTreeMap<String, Owner>) -> Result<Vec<FilePlan>> {
        let mut files: BTreeMap<String, FilePlan> = BTreeMap::new();
        let mut put = |path: &str, owner: Owner, what: FileWhat| -> Result<()> {
            let path = String::from_utf8_lossy(&clean_path(path)?).into_owned();
            files.insert(path.clone(), FilePlan { path, owner, what });
            Ok(())
        };
        let plain = Owner { mode: 0o644, uid: 0, gid: 0 };
        for (path, owner) in directories {
            put(path, *owner, FileWhat::Directory(true))?;
        }
        if let Some((passwd, group)) = accounts.changed_files() {
            put("etc/passwd", plain, FileWhat::Text(passwd))?;
            put("etc/group", plain, FileWhat::Text(group))?;
        }
        if let Some(bundle) = &self.spec.ca_bundle {
            put("etc/ssl/certs/ca-certificates.crt", plain, FileWhat::Source(self.bundle(bundle)?))?;
        }
        if let Some(zones) = &self.spec.time_zones {
            let below = format!("{zones}/usr/share/zoneinfo");
            let source = if self.locate_below(&below)?.is_dir() { below } else { zones.clone() };
            put("usr/share/zoneinfo", Owner { mode: 0o755, ..plain }, FileWhat::Source(source))?;
        }
        if let Some(zone) = &self.spec.time_zone {
            let zone = String::from_utf8_lossy(&clean_path(zone)?).into_owned();
            put("etc/localtime", plain, FileWhat::Symlink(format!("/usr/share/zoneinfo/{zone}")))?;
            put("etc/timezone", plain, FileWhat::Text(format!("{zone}\n")))?;
        }
        for (path, file) in &self.spec.files {
            let (owner, what) = self.file(accounts, path, file)?;
            put(path, owner, what)?;
        }
        Ok(files.into_values().collect())
    }

    /// Finds the certificates in what was given: the file, or a tree that has it.
    fn bundle(&self, given: &str) -> Result<String> {
        let places =
            ["", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
        for place in places {
            let path = format!("{given}{place}");
            if self.locate_below(&path)?.is_file() {
                return Ok(path);
            }
        }
        Err(ImageError::invalid(format!(
            "`caBundle` is `{given}`, which is no file and has none at `{}`",
            places[1]
        )))
    }

    fn file(&self, accounts: &Accounts, path: &str, file: &FileSpec) -> Result<(Owner, FileWhat)> {
        let full = match file {
            FileSpec::Text(text) => FullFileSpec { text: Some(text.clone()), ..FullFileSpec::default() },
            FileSpec::Full(full) => full.clone(),
        };
        let what = match (full.text, full.source, full.target) {
            (Some(text), None, None) => FileWhat::Text(text),
            (None, Some(source), None) => {
                self.store_path(&source)?;
                FileWhat::Source(source)
            }
            (None, None, Some(target)) => FileWhat::Symlink(target),
            _ => {
                return Err(ImageError::invalid(format!(
                    "file `{path}` wants one of `text`, `source` and `target`; for a directory use `directories`"
                )));
            }
        };
        let default = match &what {
            FileWhat::Source(source) => {
                let at = self.locate_below(source)?;
                let meta = std::fs::symlink_metadata(&at).map_err(|e| ImageError::io("read", &at, e))?;
                use std::os::unix::fs::PermissionsExt as _;
                if meta.is_dir() || meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 }
            }
            FileWhat::Text(text) if text.starts_with("#!") => 0o755,
            _ => 0o644,
        };
        let owner = spec::OwnerSpec { mode: full.mode, uid: full.uid, gid: full.gid };
        Ok((self.owner(accounts, &owner, default, path)?, what))
    }

    /// Lists what a file of the plan becomes, for the view.
    fn file_entries(&self, file: &FilePlan) -> Result<Vec<Entry>> {
        let path = clean_path(&file.path)?;
        let mut entries = match &file.what {
            FileWhat::Text(text) => vec![Entry::bytes(path, file.owner.mode, text.as_bytes())],
            FileWhat::Symlink(target) => vec![Entry::symlink(path, target.as_bytes())],
            FileWhat::Directory(_) => vec![Entry::directory(path, file.owner.mode)],
            FileWhat::Own(_) => Vec::new(),
            FileWhat::Source(source) => walk::read_tree(&self.locate_below(source)?, &path, Modes::Root)?,
        };
        if let [only] = &mut entries[..]
            && matches!(only.kind, EntryKind::File { .. })
        {
            only.mode = file.owner.mode;
        }
        Ok(entries)
    }

    fn run_config(&self, accounts: &Accounts) -> Result<RunConfig> {
        let config = &self.spec.config;
        let words = |list: &Option<OneOrMany<String>>| list.as_ref().map(|list| list.as_slice().to_vec());
        let user = match &config.user {
            None | Some(Value::Null) => NONROOT.0.to_string(),
            Some(Value::Number(n)) => n.to_string(),
            Some(Value::String(user)) => user.clone(),
            Some(other) => {
                return Err(ImageError::invalid(format!(
                    "`config.user` is {other}: expected a name or number"
                )));
            }
        };
        let (name, group) = user.split_once(':').map_or((&*user, None), |(u, g)| (u, Some(g)));
        if self.spec.base.is_none() {
            accounts.uid(name)?;
            group.map_or(Ok(0), |group| accounts.gid(group))?;
        }
        let mut env = environment(config.env.as_ref())?;
        if self.spec.ca_bundle.is_some() && !env.iter().any(|line| line.starts_with("SSL_CERT_FILE=")) {
            env.push("SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt".to_owned());
        }
        let labels = (!config.labels.is_empty()).then(|| config.labels.clone());
        Ok(RunConfig {
            user,
            exposed_ports: ports(config.exposed_ports.as_ref())?,
            env: (!env.is_empty()).then_some(env),
            entrypoint: words(&config.entrypoint),
            cmd: words(&config.cmd),
            healthcheck: config.healthcheck.as_ref().map(healthcheck).transpose()?,
            volumes: names("volumes", config.volumes.as_ref())?,
            working_dir: config.working_dir.clone().unwrap_or_default(),
            labels,
            stop_signal: config.stop_signal.clone(),
            other: BTreeMap::new(),
        })
    }

    /// Returns what layers are planned from: packages of trees that say who brought what,
    /// other trees whole, store objects.
    #[expect(clippy::too_many_arguments, reason = "each is made by a step of its own, once")]
    fn units(
        &self,
        metas: &[TreeMeta],
        trees: Vec<Part>,
        packed: Vec<Part>,
        contents: &BTreeMap<usize, TreeContents>,
        sizes: &BTreeMap<usize, u64>,
        dpkg: &Dpkg,
        tables: &Tables<'_>,
    ) -> Result<(Units, TreeSlices)> {
        let mut units = Units::default();
        let mut lists = TreeSlices::new();
        let trees_count = trees.len();
        for (i, part) in trees.into_iter().enumerate() {
            let Part::Tree { path, at, keep, .. } = &part else { continue };
            let cut = contents.get(&i).map(|contents| {
                let owners = &metas[i].owners;
                SlicedTree { path, at, owners, contents, keep: keep.as_deref() }.cut(dpkg, tables)
            });
            let Some(slices) = cut.transpose()?.flatten() else {
                units.trees.push(part);
                continue;
            };
            let paths = lists.entry(path.clone()).or_default();
            for slice in slices {
                let Part::Slice { package, size, .. } = &slice.part else { continue };
                paths.insert(package.clone(), slice.paths);
                if package.is_empty() {
                    units.rests.push(slice.part);
                    continue;
                }
                let object = GroupObject {
                    path: package.clone(),
                    size_bytes: *size,
                    references: dpkg.depends(package),
                };
                units.grouped.push((object, slice.part));
            }
        }
        for (i, part) in packed.into_iter().enumerate() {
            let Part::Object { path, size, keep } = &part else { continue };
            // An object of which nothing is kept needs no layer.
            if keep.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let references = self.objects.facts(path)?.references;
            let size_bytes = sizes.get(&(trees_count + i)).copied().unwrap_or(*size);
            units.grouped.push((GroupObject { path: path.clone(), size_bytes, references }, part));
        }
        Ok((units, lists))
    }

    /// Puts the parts into layers: trees, packages and store objects by groups, what no
    /// package brought, our own files.
    fn layers(&self, units: Units, files: Vec<FilePlan>) -> Result<Vec<LayerPlan>> {
        let budget = self.spec.layers.budget() as usize;
        if budget == 0 || budget > 100 {
            return Err(ImageError::invalid(format!(
                "`layers` is {budget}: expected 1 to 100 (runtimes mount about 127, and children need room)"
            )));
        }
        let Units { trees, grouped, rests } = units;
        // Trees, objects and our own files want a layer each, or all share one.
        let kinds = usize::from(!trees.is_empty()) + usize::from(!grouped.is_empty() || !rests.is_empty());
        if budget < kinds + 1 || budget == 1 {
            let mut parts = trees;
            parts.extend(grouped.into_iter().map(|(_, part)| part));
            parts.extend(rests);
            parts.push(Part::Files { entries: files });
            let why = format!("everything: a budget of {budget}");
            return Ok(vec![LayerPlan { name: "image".to_owned(), why, parts }]);
        }
        let mut layers = Vec::new();
        let room = budget - 1;
        let trees_count = trees.len();
        if trees_count > room - usize::from(!grouped.is_empty()) {
            let why = format!("{trees_count} trees at `/` share a layer: the budget is {budget}");
            layers.push(LayerPlan { name: "trees".to_owned(), why, parts: trees });
        } else {
            for part in trees {
                let Part::Tree { path, keep, .. } = &part else { continue };
                let slim = if keep.is_some() { ", slim: only what runs" } else { "" };
                let why = format!("a tree at `/`{slim}");
                layers.push(LayerPlan { name: group::short_name(path).to_owned(), why, parts: vec![part] });
            }
        }
        let room = room - layers.len();
        // What no package brought goes with the packages where there is no layer for it.
        let own_rest = !rests.is_empty() && room > grouped.len().min(3);
        let (objects, parts): (Vec<GroupObject>, Vec<Part>) = grouped.into_iter().unzip();
        let named: BTreeSet<String> = self
            .spec
            .contents
            .as_slice()
            .iter()
            .filter_map(|path| split_store_path(path))
            .map(|(object, _)| object.to_owned())
            .collect();
        for group in group::group(&objects, &named, room - usize::from(own_rest)) {
            let parts = group.members.iter().map(|&i| parts[i].clone()).collect();
            layers.push(LayerPlan { name: group.name, why: group.why, parts });
        }
        if own_rest {
            let why = "links, accounts and records that composing made: no package brought them".to_owned();
            layers.push(LayerPlan { name: "composed".to_owned(), why, parts: rests });
        } else if let Some(last) = layers.last_mut() {
            last.parts.extend(rests);
        }
        let why = "files of the image itself: accounts, directories, what the file wrote".to_owned();
        layers.push(LayerPlan { name: "files".to_owned(), why, parts: vec![Part::Files { entries: files }] });
        Ok(layers)
    }

    fn sbom(
        &self,
        dpkg: &Dpkg,
        closure: &[GroupObject],
        packages: &[PackageSpec],
        slim: Option<&Kept>,
    ) -> Result<Vec<FilePlan>> {
        let facts = crate::sbom::Facts {
            name: &self.spec.name,
            tag: self.spec.tag.as_deref().unwrap_or("latest"),
            created: &created(self.spec)?,
            platform: self.platform,
            packages,
            objects: closure,
            trees: self.spec.root.as_slice().iter().map(|root| root.tree().to_owned()).collect(),
            dpkg,
            kept: slim.map(|kept| &kept.packages),
        };
        let dir = crate::sbom::directory(self.many.then_some(self.platform));
        let at = self.out.join(&dir);
        std::fs::create_dir(&at).map_err(|e| ImageError::io("create", &at, e))?;
        let mut files = Vec::new();
        let documents = [crate::sbom::spdx(&facts), crate::sbom::cyclonedx(&facts)];
        for ((name, _), document) in crate::sbom::DOCUMENTS.into_iter().zip(documents) {
            let path = at.join(name);
            let mut bytes = serde_json::to_vec_pretty(&document).expect("documents hold strings only");
            bytes.push(b'\n');
            std::fs::write(&path, bytes).map_err(|e| ImageError::io("write", &path, e))?;
            if self.spec.sbom == Some(true) {
                files.push(FilePlan {
                    path: format!("usr/share/sbom/{name}"),
                    owner: Owner { mode: 0o644, uid: 0, gid: 0 },
                    what: FileWhat::Own(format!("{dir}/{name}")),
                });
            }
        }
        Ok(files)
    }
}

/// Returns the contents of the trees that say who brought what.
fn contents_of_sliced(metas: &[TreeMeta], listed: &Listed) -> BTreeMap<usize, TreeContents> {
    let mut contents: BTreeMap<usize, TreeContents> =
        (0..metas.len()).filter(|&i| !metas[i].owners.is_empty()).map(|i| (i, Vec::new())).collect();
    for (part, below, entry) in listed {
        if let Some(tree) = contents.get_mut(part) {
            tree.push((below.clone(), entry.clone()));
        }
    }
    contents
}

fn config_texts(config: &ConfigSpec) -> Vec<String> {
    fn strings(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::String(text) => out.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| strings(item, out)),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                out.push(name.clone());
                strings(value, out);
            }),
            _ => {}
        }
    }
    let mut out = Vec::new();
    for list in [&config.entrypoint, &config.cmd].into_iter().flatten() {
        out.extend(list.as_slice().iter().cloned());
    }
    for value in [&config.env, &config.volumes].into_iter().flatten() {
        strings(value, &mut out);
    }
    out.extend(config.working_dir.clone());
    out.extend(config.labels.values().cloned());
    if let Some(health) = &config.healthcheck {
        out.extend(health.test.as_slice().iter().cloned());
    }
    out
}

fn number(value: &Value, look: impl Fn(&str) -> Result<u32>) -> Result<u32> {
    match value {
        Value::Number(n) => n
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| ImageError::invalid(format!("{n} is not a user or group number"))),
        Value::String(name) => look(name),
        other => {
            Err(ImageError::invalid(format!("{other} is not a user or group: expected a name or number")))
        }
    }
}

fn environment(env: Option<&Value>) -> Result<Vec<String>> {
    let fail = |value: &Value| {
        ImageError::invalid(format!(
            "`config.env` has {value}: expected a set of strings, or a list of `NAME=value`"
        ))
    };
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(n) => Ok(n.to_string()),
        other => Err(fail(other)),
    };
    match env {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(fields)) => {
            fields.iter().map(|(name, value)| Ok(format!("{name}={}", text(value)?))).collect()
        }
        Some(Value::Array(lines)) => lines
            .iter()
            .map(|line| match line {
                Value::String(line) if line.contains('=') && !line.starts_with('=') => Ok(line.clone()),
                other => Err(fail(other)),
            })
            .collect(),
        Some(other) => Err(fail(other)),
    }
}

/// Reads a list of strings and numbers, or a set whose names count.
fn names(what: &str, value: Option<&Value>) -> Result<Option<BTreeMap<String, Empty>>> {
    let fail =
        |value: &Value| ImageError::invalid(format!("`config.{what}` has {value}: expected a list or a set"));
    let list: Vec<String> = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(fields)) => fields.keys().cloned().collect(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Number(n) => Ok(n.to_string()),
                other => Err(fail(other)),
            })
            .collect::<Result<_>>()?,
        Some(other) => return Err(fail(other)),
    };
    Ok((!list.is_empty()).then(|| list.into_iter().map(|name| (name, Empty {})).collect()))
}

fn ports(value: Option<&Value>) -> Result<Option<BTreeMap<String, Empty>>> {
    let Some(ports) = names("exposedPorts", value)? else { return Ok(None) };
    let port = |port: String| -> Result<(String, Empty)> {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let range = number.split('-').all(|n| n.parse::<u16>().is_ok_and(|n| n > 0));
        if !range || !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(ImageError::invalid(format!(
                "`{port}` is not a port: expected `80`, `80/tcp`, `53/udp`"
            )));
        }
        Ok((format!("{number}/{protocol}"), Empty {}))
    };
    ports.into_keys().map(port).collect::<Result<_>>().map(Some)
}

fn healthcheck(spec: &spec::HealthcheckSpec) -> Result<Healthcheck> {
    let time = |value: &Option<Value>| value.as_ref().map(spec::duration).transpose();
    let test = match &spec.test {
        OneOrMany::One(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        OneOrMany::Many(words) => match words.first().map(String::as_str) {
            Some("CMD" | "CMD-SHELL" | "NONE") => words.clone(),
            _ => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
        },
    };
    Ok(Healthcheck {
        test,
        interval: time(&spec.interval)?,
        timeout: time(&spec.timeout)?,
        start_period: time(&spec.start_period)?,
        start_interval: time(&spec.start_interval)?,
        retries: spec.retries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc() {
        for (given, expected) in [
            (Value::from(0), Some("1970-01-01T00:00:00Z")),
            (Value::from(951_782_400), Some("2000-02-29T00:00:00Z")),
            (Value::from("2026-01-31T12:00:00Z"), Some("2026-01-31T12:00:00Z")),
            (Value::from("2026-01-31T12:00:00.5+02:00"), Some("2026-01-31T10:00:00.5Z")),
            (Value::from("2026-02-31T12:00:00Z"), None),
            (Value::from("2026-01-31"), None),
            (Value::from(-1), None),
            (Value::from(1.5), None),
            (Value::from(true), None),
        ] {
            assert_eq!(time(&given).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn names_and_tags_are_checked() {
        for good in ["hello", "a/b", "localhost:5000/a", "registry.example/a/b-c_d.e"] {
            assert!(image_name(good).is_ok(), "{good}");
        }
        for bad in ["", "Hello", "-a", "a/", "a b", "a:b"] {
            assert!(image_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read() {
        let ns = |text: &str| spec::duration(&Value::String(text.to_owned()));
        assert_eq!(ns("1m30s").unwrap(), 90_000_000_000);
        assert_eq!(ns("500ms").unwrap(), 500_000_000);
        assert!(ns("5").is_err() && ns("x").is_err() && ns("99999999999h").is_err());
    }
}
