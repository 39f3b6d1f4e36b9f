//! `builtin:debian-compose`: one tree from Debian packages, and no script run.
//!
//! ```text
//! .deb files ─control (all at once)→ Package + its scripts, read as data → refused? ─┐
//!            ─data.tar, largest first, on all cores→ tree, /bin as /usr/bin …        │
//!            alternatives, users, certificates, shells, dpkg's records, links ←──────┘
//! ```
//!
//! What maintainer scripts would do is *read* out of them ([`script`]): the effects
//! that last and that a tree can hold are applied as data, those of services, caches
//! and upgrades are left away and listed, and a package whose scripts do anything else is
//! refused by name, with the commands that nobody here knows, unless it is accepted.
//!
//! The tree depends on the packages alone: neither on their order (but where
//! `allowConflicts` makes the later one win), nor on how threads run.

mod accounts;
mod alternatives;
mod certificates;
mod effects;
mod layout;
mod package;
mod script;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

use super::{Attributes, BuiltinBuilder, BuiltinContext, BuiltinError, BuiltinErrorKind};
use crate::unpack::tar::{Entry, Kind};
use crate::unpack::{ArArchive, Found, Limits, RelPath, Tree, UnpackError, deb_member, read_tar};
use layout::{Exclude, Layout};
use package::Package;

/// The builder.
pub struct DebianCompose;

/// The builder's attributes, read.
pub(super) struct Settings {
    packages: Vec<Wanted>,
    layout: Layout,
    with_alternatives: bool,
    prefer_alternatives: BTreeMap<String, String>,
    with_users: bool,
    extra_users: Vec<Value>,
    extra_groups: Vec<Value>,
    with_ca_bundle: bool,
    with_shells: bool,
    dpkg_status: String,
    extra_links: BTreeMap<String, String>,
    allow_conflicts: bool,
    accept: BTreeSet<String>,
}

struct Wanted {
    logical: String,
    physical: PathBuf,
    accepted: bool,
}

/// Owners and modes that a store object cannot hold, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Special {
    mode: Option<u32>,
    /// Numbers, where they are known.
    uid: Option<u64>,
    gid: Option<u64>,
    user: Option<String>,
    group: Option<String>,
}

impl Special {
    /// Names an owner; an empty name leaves what is there. Numbers are looked up later.
    fn set_owner(&mut self, user: &str, group: &str) {
        for (name, slot, number) in
            [(user, &mut self.user, &mut self.uid), (group, &mut self.group, &mut self.gid)]
        {
            if !name.is_empty() {
                *number = name.parse().ok();
                *slot = Some(name.to_owned());
            }
        }
    }
}

/// The tree being composed, with what is known beside it.
pub(super) struct Composed<'c> {
    cx: &'c BuiltinContext<'c>,
    settings: &'c Settings,
    packages: Vec<Package>,
    tree: Tree,
    special: BTreeMap<RelPath, Special>,
    ignored: BTreeSet<(String, String, String)>,
    /// Which package (by number) brought which file or link.
    owners: BTreeMap<RelPath, usize>,
}

impl BuiltinBuilder for DebianCompose {
    fn name(&self) -> &str {
        "debian-compose"
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        let settings = Settings::read(cx)?;
        let packages = read_packages(cx, &settings)?;
        let tree = Tree::create(cx.output("out")?).map_err(UnpackError::from)?;
        let mut special = BTreeMap::new();
        let owners = unpack_all(cx, &settings, &packages, &tree, &mut special)?;
        let mut composed =
            Composed { cx, settings: &settings, packages, tree, special, ignored: BTreeSet::new(), owners };
        composed.tree.record();
        composed.finish()?;
        cx.events.log(&format!("{} packages composed", composed.packages.len()));
        composed.write_meta()
    }
}

impl Settings {
    fn read(cx: &BuiltinContext<'_>) -> Result<Self, BuiltinError> {
        let attrs = cx.attrs;
        let mut packages = Vec::new();
        for item in attrs.list("packages")? {
            packages.push(wanted(cx, &item)?);
        }
        if packages.is_empty() {
            return Err(Attributes::error("packages", "is missing, or empty").into());
        }
        let dpkg_status = attrs.text("dpkgStatus")?.unwrap_or("status.d").to_owned();
        if !matches!(dpkg_status.as_str(), "status.d" | "status" | "none") {
            return Err(Attributes::error("dpkgStatus", "expected `status.d`, `status` or `none`").into());
        }
        Ok(Self {
            packages,
            layout: Layout {
                merged_usr: attrs.flag("mergedUsr", true)?,
                exclude: Exclude::new(&attrs.texts("exclude")?),
            },
            with_alternatives: attrs.flag("alternatives", true)?,
            prefer_alternatives: text_map(attrs, "preferAlternatives")?,
            with_users: attrs.flag("users", true)?,
            extra_users: attrs.list("extraUsers")?,
            extra_groups: attrs.list("extraGroups")?,
            with_ca_bundle: attrs.flag("caBundle", true)?,
            with_shells: attrs.flag("shells", true)?,
            dpkg_status,
            extra_links: text_map(attrs, "extraLinks")?,
            allow_conflicts: attrs.flag("allowConflicts", false)?,
            accept: attrs.texts("accept")?.into_iter().collect(),
        })
    }
}

fn wanted(cx: &BuiltinContext<'_>, item: &Value) -> Result<Wanted, BuiltinError> {
    let (logical, accepted) = match item {
        Value::String(path) => (path.as_str(), false),
        Value::Object(set) => {
            let deb = set.get("deb").and_then(Value::as_str);
            let accept = set
                .get("accept")
                .is_some_and(|a| a.as_str().is_some_and(|s| !s.is_empty()) || a == &json!(true));
            (deb.ok_or_else(|| Attributes::error("packages", "an element has no `deb`"))?, accept)
        }
        _ => return Err(Attributes::error("packages", "expected paths, or sets with `deb`").into()),
    };
    Ok(Wanted { logical: logical.to_owned(), physical: cx.input(logical)?, accepted })
}

fn text_map(attrs: &Attributes, name: &str) -> Result<BTreeMap<String, String>, BuiltinError> {
    match attrs.get(name) {
        None => Ok(BTreeMap::new()),
        Some(Value::Object(set)) => set
            .iter()
            .map(|(key, value)| match value.as_str() {
                Some(text) => Ok((key.clone(), text.to_owned())),
                None => Err(Attributes::error(name, format!("`{key}` is not a string")).into()),
            })
            .collect(),
        Some(_) => Err(Attributes::error(name, "expected a set (with `__structuredAttrs = true`)").into()),
    }
}

/// Does `work` for each of `0..count` on `cores` threads; the error of the lowest
/// number is the one that is told, whichever came first.
fn on_all_cores<T: Send>(
    cores: usize,
    count: usize,
    work: impl Fn(usize) -> Result<T, BuiltinError> + Sync,
) -> Result<Vec<T>, BuiltinError> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for _ in 0..cores.clamp(1, count.max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let result = work(index);
                    results.lock().expect("no thread panics while it holds this").push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panics while it holds this");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Reads all control members; the packages come back sorted by name and architecture.
fn read_packages(cx: &BuiltinContext<'_>, settings: &Settings) -> Result<Vec<Package>, BuiltinError> {
    let wanted = &settings.packages;
    let mut packages = on_all_cores(cx.cores, wanted.len(), |index| {
        let wanted = &wanted[index];
        Package::read(&wanted.physical, index)
            .map(|package| Package { accepted: wanted.accepted, ..package })
            .map_err(|error| BuiltinError::build(format!("`{}`: {error}", wanted.logical)))
    })?;
    packages.sort_by(|a, b| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
    for pair in packages.windows(2) {
        if (&pair[0].name, &pair[0].architecture) == (&pair[1].name, &pair[1].architecture) {
            let (name, one, two) = (&pair[0].name, &pair[0].version, &pair[1].version);
            return Err(BuiltinError::build(format!("package `{name}` is there twice, as {one} and {two}")));
        }
    }
    Ok(packages)
}

/// Returns where a link in the directory `at` leads, with what follows it; `..` taken
/// away by the text, which is right as long as `at` has no links, and it has none here.
fn joined(at: &str, target: &str, rest: &[String]) -> String {
    let start = if target.starts_with('/') { String::new() } else { at.to_owned() };
    let mut parts: Vec<&str> = start.split('/').filter(|p| !p.is_empty()).collect();
    for part in target.split('/').chain(rest.iter().map(String::as_str)) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Who put something at a path.
struct Owner {
    package: usize,
    /// What a symbolic link points to; none for files.
    link: Option<Vec<u8>>,
}

fn unpack_all(
    cx: &BuiltinContext<'_>,
    settings: &Settings,
    packages: &[Package],
    tree: &Tree,
    special: &mut BTreeMap<RelPath, Special>,
) -> Result<BTreeMap<RelPath, usize>, BuiltinError> {
    // The largest first: whoever starts last then has the least left to do.
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(packages[i].size_bytes), i));
    let owners: Mutex<BTreeMap<RelPath, Owner>> = Mutex::default();
    let conflicts: Mutex<BTreeSet<(RelPath, usize, usize)>> = Mutex::default();
    let found = on_all_cores(cx.cores, order.len(), |n| {
        let package = order[n];
        let mut placing = Placing {
            settings,
            package,
            tree: tree.handle(),
            owners: &owners,
            conflicts: &conflicts,
            special: Vec::new(),
            only: None,
        };
        placing.unpack(cx, &packages[package])?;
        Ok(placing.special)
    })?;
    special.extend(found.into_iter().flatten());
    let conflicts = conflicts.into_inner().expect("no thread panics while it holds this");
    let owners = owners.into_inner().expect("no thread panics while it holds this");
    let mut owners: BTreeMap<RelPath, usize> =
        owners.into_iter().map(|(path, owner)| (path, owner.package)).collect();
    owners.extend(resolve_conflicts(cx, settings, packages, tree, conflicts)?);
    Ok(owners)
}

/// Two packages with something at one path: fine if it is the same, an error else, unless
/// the later one in the list is to win. Returns who won what.
fn resolve_conflicts(
    cx: &BuiltinContext<'_>,
    settings: &Settings,
    packages: &[Package],
    tree: &Tree,
    conflicts: BTreeSet<(RelPath, usize, usize)>,
) -> Result<BTreeMap<RelPath, usize>, BuiltinError> {
    let mut differ: BTreeMap<RelPath, BTreeSet<usize>> = BTreeMap::new();
    for (path, a, b) in conflicts {
        if !packages[a].has_same_file(&packages[b], &path, &settings.layout) {
            differ.entry(path).or_default().extend([a, b]);
        }
    }
    if !differ.is_empty() && !settings.allow_conflicts {
        let lines: Vec<String> = differ
            .iter()
            .take(10)
            .map(|(path, who)| {
                let names: Vec<&str> = who.iter().map(|&i| packages[i].name.as_str()).collect();
                format!("  /{path}: {}", names.join(", "))
            })
            .collect();
        let message = format!(
            "{} paths are in several packages, with different files:\n{}",
            differ.len(),
            lines.join("\n")
        );
        return Err(BuiltinError::build(
            message + "\nset `allowConflicts = true` if the later package is to win",
        ));
    }
    let mut winners: BTreeMap<usize, BTreeSet<RelPath>> = BTreeMap::new();
    for (path, who) in differ {
        let winner = who.into_iter().max_by_key(|&i| packages[i].index).expect("a conflict has two packages");
        winners.entry(winner).or_default().insert(path);
    }
    let mut won = BTreeMap::new();
    for (package, paths) in winners {
        won.extend(paths.iter().map(|path| (path.clone(), package)));
        let mut placing = Placing {
            settings,
            package,
            tree: tree.handle(),
            owners: &Mutex::default(),
            conflicts: &Mutex::default(),
            special: Vec::new(),
            only: Some(paths),
        };
        placing.unpack(cx, &packages[package])?;
    }
    Ok(won)
}

/// Puts one package's files into the tree.
struct Placing<'p> {
    settings: &'p Settings,
    package: usize,
    tree: Tree,
    owners: &'p Mutex<BTreeMap<RelPath, Owner>>,
    conflicts: &'p Mutex<BTreeSet<(RelPath, usize, usize)>>,
    special: Vec<(RelPath, Special)>,
    /// Only these paths: a conflict that this package wins.
    only: Option<BTreeSet<RelPath>>,
}

impl Placing<'_> {
    fn unpack(&mut self, cx: &BuiltinContext<'_>, package: &Package) -> Result<(), BuiltinError> {
        let failed = |error: UnpackError| BuiltinError::build(format!("package `{}`: {error}", package.name));
        let file = File::open(&package.path).map_err(|error| failed(error.into()))?;
        let archive = ArArchive::open(file).map_err(failed)?;
        let limits = Limits::for_archive(package.size_bytes);
        let data = deb_member(&archive, "data.tar").map_err(failed)?;
        let result = read_tar(data, limits, &mut |entry, data| {
            if cx.cancel.is_asked() {
                return Err(UnpackError::archive("interrupted"));
            }
            self.place(entry, data)
        });
        result.map_err(|error| {
            let kind =
                if cx.cancel.is_asked() { BuiltinErrorKind::Cancelled } else { BuiltinErrorKind::Build };
            BuiltinError { kind, ..failed(error) }
        })
    }

    fn place(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), UnpackError> {
        let path = RelPath::parse(&entry.name).map_err(|problem| UnpackError::name(&entry.name, problem))?;
        let Some(path) = self.settings.layout.map(&path, entry) else { return Ok(()) };
        if path.is_root() {
            return Ok(());
        }
        if self.only.as_ref().is_some_and(|only| !only.contains(&path)) {
            return Ok(());
        }
        self.note_special(&path, entry);
        if entry.kind == Kind::Directory {
            return self.tree.directory(&path);
        }
        if self.only.is_none() && !self.claim(&path, entry) {
            return Ok(());
        }
        if self.only.is_some() {
            self.tree.remove_file(&path)?;
        }
        match entry.kind {
            Kind::Symlink => self.tree.symlink(&path, &entry.link),
            Kind::File => self.tree.file(&path, entry.mode & 0o100 != 0, data).map(|_| ()),
            Kind::HardLink => {
                let target =
                    RelPath::parse(&entry.link).map_err(|problem| UnpackError::name(&entry.name, problem))?;
                match self.settings.layout.map(&target, entry) {
                    Some(target) => self.tree.hard_link(&path, &target),
                    None => Err(UnpackError::entry(&entry.name, "a hard link to what is excluded")),
                }
            }
            Kind::Directory => Ok(()),
            Kind::Special(what) => Err(UnpackError::entry(&entry.name, format!("is {what}"))),
        }
    }

    /// Notes that this package has `path`; false if another has it already.
    fn claim(&self, path: &RelPath, entry: &Entry) -> bool {
        let link = (entry.kind == Kind::Symlink).then(|| entry.link.clone());
        let mut owners = self.owners.lock().expect("no thread panics while it holds this");
        match owners.get_mut(path) {
            None => {
                owners.insert(path.clone(), Owner { package: self.package, link });
                true
            }
            // Within one package tar's own rule holds.
            Some(owner) if owner.package == self.package => true,
            Some(owner) => {
                let same_link = link.is_some() && owner.link == link;
                if same_link {
                    // Whoever came first, the record is the same.
                    owner.package = owner.package.min(self.package);
                } else {
                    let (a, b) = (owner.package.min(self.package), owner.package.max(self.package));
                    self.conflicts.lock().expect("no thread panics while it holds this").insert((
                        path.clone(),
                        a,
                        b,
                    ));
                }
                false
            }
        }
    }

    fn note_special(&mut self, path: &RelPath, entry: &Entry) {
        if entry.kind == Kind::Symlink || entry.kind == Kind::HardLink {
            return;
        }
        let usual = match entry.kind {
            Kind::Directory => entry.mode == 0o755,
            _ => entry.mode == 0o644 || entry.mode == 0o755,
        };
        if usual && entry.uid == 0 && entry.gid == 0 {
            return;
        }
        let name = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned()).filter(|n| !n.is_empty());
        let special = Special {
            mode: (!usual).then_some(entry.mode),
            uid: Some(entry.uid),
            gid: Some(entry.gid),
            user: name(&entry.user),
            group: name(&entry.group),
        };
        self.special.push((path.clone(), special));
    }
}

impl Composed<'_> {
    fn finish(&mut self) -> Result<(), BuiltinError> {
        self.settings.layout.link_top(&mut self.tree)?;
        let effects = self.read_scripts()?;
        if self.settings.with_alternatives {
            self.apply_alternatives(&effects.alternatives)?;
        }
        if self.settings.with_users {
            self.write_accounts(&effects.accounts)?;
        }
        if self.settings.with_ca_bundle {
            self.write_ca_bundle()?;
        }
        if self.settings.with_shells {
            self.write_shells(&effects.shells)?;
        }
        self.write_status()?;
        for (link, target) in &self.settings.extra_links {
            let path = self.settings.layout.absolute(link)?;
            self.tree.symlink(&path, target.as_bytes())?;
        }
        Ok(())
    }

    /// Returns what an absolute path leads to, links followed within the tree.
    fn found(&mut self, path: &str) -> Found {
        let place = self.resolved(path).and_then(|path| self.settings.layout.absolute(&path).ok());
        place.map_or(Found::Nothing, |place| self.tree.look(&place))
    }

    /// Returns an absolute path without the links on its way; none if they turn in a circle or lead out.
    fn resolved(&mut self, path: &str) -> Option<String> {
        let mut path = path.to_owned();
        'links: for _ in 0..40 {
            let place = self.settings.layout.absolute(&path).ok()?;
            let mut at = RelPath::default();
            let mut parts = place.parts();
            while let Some(part) = parts.next() {
                let below = RelPath::parse(part).and_then(|part| part.under(&at)).ok()?;
                if self.tree.look(&below) == Found::Symlink {
                    let target = String::from_utf8_lossy(&self.tree.read_link(&below).unwrap_or_default())
                        .into_owned();
                    let rest: Vec<String> = parts.map(|p| String::from_utf8_lossy(p).into_owned()).collect();
                    path = joined(&at.to_string(), &target, &rest);
                    continue 'links;
                }
                at = below;
            }
            return Some(format!("/{at}"));
        }
        None
    }

    /// Returns whether an absolute path leads to something.
    fn exists(&mut self, path: &str) -> bool {
        self.found(path) != Found::Nothing
    }

    /// Returns the text of a file in the tree, if it is there.
    fn text(&mut self, path: &str) -> Option<String> {
        let mut file = self.tree.open(&self.settings.layout.absolute(path).ok()?).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes a file unless a package has it.
    fn write(&mut self, path: &str, text: &str) -> Result<(), BuiltinError> {
        let path = self.settings.layout.absolute(path)?;
        if !self.settings.layout.exclude.covers(&path) {
            self.tree.file(&path, false, &mut text.as_bytes())?;
        }
        Ok(())
    }

    /// `/etc/shells`: debianutils' list, and those that packages name in `shells.d`.
    fn write_shells(&mut self, more: &[String]) -> Result<(), BuiltinError> {
        let Some(mut text) = self.text("usr/share/debianutils/shells") else { return Ok(()) };
        let dir = RelPath::parse(b"usr/share/debianutils/shells.d").expect("a good path");
        for name in self.tree.names(&dir) {
            let name = String::from_utf8_lossy(&name).into_owned();
            let shells = self.text(&format!("usr/share/debianutils/shells.d/{name}")).unwrap_or_default();
            for shell in shells.lines().filter(|line| line.starts_with('/')) {
                let merged = shell.strip_prefix("/bin/").filter(|_| self.settings.layout.merged_usr);
                for shell in [Some(shell.to_owned()), merged.map(|rest| format!("/usr/bin/{rest}"))]
                    .into_iter()
                    .flatten()
                {
                    if !text.lines().any(|line| line == shell) {
                        text.push_str(&shell);
                        text.push('\n');
                    }
                }
            }
        }
        for shell in more.iter().filter(|shell| shell.starts_with('/')) {
            if !text.lines().any(|line| line == shell) {
                text.push_str(shell);
                text.push('\n');
            }
        }
        self.write("etc/shells", &text)
    }

    /// Returns which package brought which path, with what decides the contents: the
    /// package's file. What was changed after unpacking belongs to nobody.
    fn owners_json(&self) -> Value {
        let mut owners = self.owners.clone();
        let records =
            self.packages.iter().enumerate().flat_map(|(i, package)| {
                self.records_of(package).into_iter().map(move |(path, _)| (path, i))
            });
        let records: BTreeMap<RelPath, usize> =
            records.filter_map(|(path, i)| Some((self.settings.layout.absolute(&path).ok()?, i))).collect();
        for path in self.tree.touched() {
            match records.get(path) {
                Some(package) => owners.insert(path.clone(), *package),
                None => owners.remove(path),
            };
        }
        let mut paths: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (path, package) in &owners {
            // A name that is not UTF-8 cannot be said here, and stays nobody's.
            if let Ok(path) = std::str::from_utf8(path.as_bytes()) {
                paths.entry(*package).or_default().push(path);
            }
        }
        let one = |(index, paths): (usize, Vec<&str>)| {
            let package = &self.packages[index];
            (self.record_name(package), json!({ "id": package.sha256, "paths": paths }))
        };
        Value::Object(paths.into_iter().map(one).collect())
    }

    /// Writes what the tree cannot hold, if somebody wants it.
    fn write_meta(&mut self) -> Result<(), BuiltinError> {
        let Some(place) = self.cx.outputs.get("meta") else { return Ok(()) };
        let mut entries = Map::new();
        let special = std::mem::take(&mut self.special);
        for (path, special) in &special {
            let mut entry = Map::new();
            if let Some(mode) = special.mode {
                entry.insert("mode".to_owned(), json!(format!("{mode:04o}")));
            }
            let root = |id: Option<u64>, name: &Option<String>| {
                id == Some(0) || name.as_deref() == Some("root") || (id.is_none() && name.is_none())
            };
            if !root(special.uid, &special.user) || !root(special.gid, &special.group) {
                entry.insert("uid".to_owned(), json!(special.uid));
                entry.insert("gid".to_owned(), json!(special.gid));
                entry.insert("user".to_owned(), json!(special.user));
                entry.insert("group".to_owned(), json!(special.group));
            }
            let directory = self.tree.look(path) == Found::Directory;
            let usual = special.mode.is_none_or(|mode| mode == 0o755 || (mode == 0o644 && !directory));
            if self.tree.look(path) == Found::Nothing || (usual && !entry.contains_key("uid")) {
                continue;
            }
            entries.insert(path.to_string(), Value::Object(entry));
        }
        let packages: Vec<Value> = self.packages.iter().map(Package::to_json).collect();
        let ignored: Vec<Value> = self
            .ignored
            .iter()
            .map(
                |(package, script, effect)| json!({ "package": package, "script": script, "effect": effect }),
            )
            .collect();
        let owners = self.owners_json();
        let text = json!({ "entries": entries, "packages": packages, "ignored": ignored, "owners": owners });
        let text = text.to_string() + "\n";
        let name =
            RelPath::parse(place.name.as_bytes()).map_err(|p| UnpackError::name(place.name.as_bytes(), p))?;
        Tree::around(place)?.file(&name, false, &mut text.as_bytes())?;
        Ok(())
    }
}
