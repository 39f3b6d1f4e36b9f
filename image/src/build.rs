//! `builtin:image`: from what a person asks for to the image's store object.
//!
//! The object is small: `image.json`, the plan. It names every store path that the
//! image needs, so the store's own scan for references keeps them. The trees are
//! looked at here, once per change: for the links that lead from one tree into
//! another, for accounts, for the lint, for `slim`. Bytes are copied later, by
//! [`crate::project`].
//!
//! Here is what goes in, and the order of the steps; `build/files.rs` makes what the
//! image has of its own, `build/config.rs` how it runs, `build/layers.rs` who gets a layer.

mod config;
mod files;
mod layers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::compress::Compression;
use crate::dpkg::Dpkg;
use crate::entry::{Entry, EntryKind, clean_path};
use crate::error::{ImageError, Result};
use crate::group::GroupObject;
use crate::oci::{self, Platform};
use crate::plan::{
    self, BasePlan, FilePlan, FileWhat, Format, ObjectSource, Owner, Part, Plan, PlatformPlan,
};
use crate::project::split_store_path;
use crate::slices::{Owned, SlicePaths, Tables};
use crate::slim::Kept;
use crate::spec::{self, FileSpec, FullFileSpec, ImageSpec, PackageSpec};
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

/// Entries of every part, for the view.
type Listed = Vec<(usize, Box<[u8]>, Entry)>;

impl Builder<'_> {
    fn build(&self, report: &mut BuildReport) -> Result<Built> {
        let metas = self.metas()?;
        let closure = self.closure()?;
        let mut trees = self.trees()?;
        let mut packed = self.objects_parts(&closure)?;
        let listed = self.list(&trees, &packed)?;
        let contents = layers::contents_of_sliced(&metas, &listed);
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
        let below = base.as_ref().map_or(Ok(0), |base| self.layers_below(base))?;
        let layers = self.layers(units, files, below)?;
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
        config::config_texts(&self.spec.config).iter().for_each(|text| mentioned(text));
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

    /// Counts the layers of a base.
    fn layers_below(&self, base: &BasePlan) -> Result<usize> {
        Ok(crate::base::read(&self.objects.locate(&base.layout)?, &base.manifest)?.layers.len())
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
