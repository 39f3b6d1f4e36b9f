//! What differs between two derivations, and between two objects with all that they need.
//!
//! Store paths in values say nothing by themselves: a variable that names another build of `gcc` differs because
//! `gcc` does. Values are compared with the digits and versions of their store paths left out, and what the paths
//! stand for is compared by itself, down to the derivations that differ in something of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ampoule_realise::DerivationSource;
use ampoule_store::{Derivation, HASH_PART_LEN, Store, StoreDir, StoreError, StorePath};
use serde::Serialize;

use crate::error::{CliError, IoContext};

/// One thing that two derivations do not share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `variable`, `argument`, `builder`, `system`, `name`, `output`, `source` or `input`.
    pub what: &'static str,
    /// Which one; empty where there is only one.
    pub name: String,
    /// What it was.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// A pair of derivations that differ in something of their own, and the way to them.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// Names of derivations from the first to the one that differs.
    pub way: Vec<String>,
    /// What differs there.
    pub changes: Vec<Change>,
}

/// What two derivations do not share.
#[derive(Debug, Default)]
pub struct DerivationDiff {
    /// What differs, inputs that are there in both versions not counted.
    pub changes: Vec<Change>,
    /// Inputs of one name that would give other outputs: before and after.
    pub inputs: Vec<(StorePath, StorePath)>,
}

/// Compares two derivations, without going into their inputs.
///
/// # Errors
/// If an input cannot be read.
pub fn derivations(
    source: &dyn DerivationSource,
    dir: &StoreDir,
    before: &Derivation,
    after: &Derivation,
) -> Result<DerivationDiff, StoreError> {
    let mut diff = DerivationDiff::default();
    let mut change = |what, name: &str, before: Option<String>, after: Option<String>| {
        if before.as_ref().map(|text| without_builds(dir, text))
            != after.as_ref().map(|text| without_builds(dir, text))
        {
            diff.changes.push(Change { what, name: name.to_owned(), before, after });
        }
    };
    change("name", "", Some(before.name.clone()), Some(after.name.clone()));
    change("system", "", Some(before.system.to_string()), Some(after.system.to_string()));
    change("builder", "", Some(before.builder.to_string()), Some(after.builder.to_string()));
    for index in 0..before.arguments.len().max(after.arguments.len()) {
        let at = |of: &Derivation| of.arguments.get(index).map(ToString::to_string);
        change("argument", &(index + 1).to_string(), at(before), at(after));
    }
    let (old, new) = (variables(before), variables(after));
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        // An output's variable is its path, which differs because of all the rest.
        if !before.outputs.contains_key(name) && name != "name" {
            change("variable", name, old.get(name).cloned(), new.get(name).cloned());
        }
    }
    let address = |of: &Derivation| of.fixed_output().map(|(address, _)| address.to_string());
    change("output", "hash", address(before), address(after));
    let outputs = |of: &Derivation| Some(of.outputs.keys().cloned().collect::<Vec<_>>().join(" "));
    change("output", "names", outputs(before), outputs(after));

    for (name, old, new) in pairs(&before.input_sources, &after.input_sources) {
        let print = |path: Option<StorePath>| path.map(|path| dir.print(&path));
        diff.changes.push(Change { what: "source", name, before: print(old), after: print(new) });
    }
    let keys = |of: &Derivation| of.input_derivations.keys().cloned().collect();
    for (name, old, new) in pairs(&keys(before), &keys(after)) {
        match (old, new) {
            (Some(old), Some(new)) => {
                if !same_outputs(&*source.derivation(&old)?, &*source.derivation(&new)?) {
                    diff.inputs.push((old, new));
                }
            }
            (old, new) => {
                let print = |path: Option<StorePath>| path.map(|path| dir.print(&path));
                diff.changes.push(Change { what: "input", name, before: print(old), after: print(new) });
            }
        }
    }
    Ok(diff)
}

/// Finds what two derivations differ in, at the ends of the ways along inputs: the reasons why the second is not
/// the first. Nothing if they give the same outputs.
///
/// # Errors
/// If a derivation cannot be read.
pub fn causes(
    source: &dyn DerivationSource,
    dir: &StoreDir,
    before: &StorePath,
    after: &StorePath,
) -> Result<Vec<Cause>, StoreError> {
    let mut causes = Vec::new();
    let mut came_from: HashMap<(StorePath, StorePath), Option<(StorePath, StorePath)>> = HashMap::new();
    let top = (before.clone(), after.clone());
    came_from.insert(top.clone(), None);
    let mut todo = VecDeque::from([top]);
    while let Some(pair) = todo.pop_front() {
        let (old, new) = (source.derivation(&pair.0)?, source.derivation(&pair.1)?);
        let diff = derivations(source, dir, &old, &new)?;
        if !diff.changes.is_empty() {
            let mut way = vec![new.name.clone()];
            let mut at = &pair;
            while let Some(Some(from)) = came_from.get(at) {
                way.push(from.1.derivation_name()?.to_owned());
                at = from;
            }
            way.reverse();
            causes.push(Cause { way, changes: diff.changes });
        }
        for below in diff.inputs {
            if !came_from.contains_key(&below) {
                came_from.insert(below.clone(), Some(pair.clone()));
                todo.push_back(below);
            }
        }
    }
    Ok(causes)
}

/// Whether everything that uses one could use the other: all output paths are known and the same.
fn same_outputs(a: &Derivation, b: &Derivation) -> bool {
    let paths = |of: &Derivation| -> Option<Vec<StorePath>> {
        of.outputs.values().map(|output| output.path().cloned()).collect()
    };
    paths(a).is_some_and(|a| paths(b).is_some_and(|b| a == b))
}

/// The variables of a derivation; attributes of a structured one count by themselves.
fn variables(of: &Derivation) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in &of.environment {
        let value = value.to_string();
        if *name == "__json"
            && let Ok(serde_json::Value::Object(entries)) = serde_json::from_str(&value)
        {
            found.extend(entries.into_iter().map(|(name, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name, text)
            }));
            continue;
        }
        found.insert(name.to_string(), value);
    }
    found
}

/// Pairs the paths that only one of two sets has by their names.
fn pairs(
    before: &BTreeSet<StorePath>,
    after: &BTreeSet<StorePath>,
) -> Vec<(String, Option<StorePath>, Option<StorePath>)> {
    let mut by_name: BTreeMap<&str, (Vec<&StorePath>, Vec<&StorePath>)> = BTreeMap::new();
    for path in before.difference(after) {
        by_name.entry(path.name()).or_default().0.push(path);
    }
    for path in after.difference(before) {
        by_name.entry(path.name()).or_default().1.push(path);
    }
    // A new version has another name: what is left on both sides is paired by the name before the version.
    let mut left: BTreeMap<&str, (Vec<&StorePath>, Vec<&StorePath>)> = BTreeMap::new();
    let mut found = Vec::new();
    for (name, (old, new)) in by_name {
        let both = old.len().min(new.len());
        for index in 0..both {
            found.push((name.to_owned(), Some(old[index].clone()), Some(new[index].clone())));
        }
        let rest = left.entry(split_version(name).0).or_default();
        rest.0.extend(&old[both..]);
        rest.1.extend(&new[both..]);
    }
    for (name, (old, new)) in left {
        for index in 0..old.len().max(new.len()) {
            found.push((name.to_owned(), old.get(index).copied().cloned(), new.get(index).copied().cloned()));
        }
    }
    found.sort();
    found
}

/// Splits `openssl-3.0.15` as `builtins.parseDrvName` does.
fn split_version(name: &str) -> (&str, &str) {
    let name = name.strip_suffix(".drv").unwrap_or(name);
    let (end, start) = ampoule_eval::versions::split_name(name.as_bytes());
    (&name[..end], name.get(start..).unwrap_or_default())
}

/// `text` with the digits and the version of every store path left out: `/nix/store/…-gcc-12.2/bin` is
/// `/nix/store/gcc/bin`.
fn without_builds(dir: &StoreDir, text: &str) -> String {
    let prefix = format!("{}/", dir.as_str());
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(&prefix) {
        let (before, after) = rest.split_at(at + prefix.len());
        out.push_str(before);
        let is_part = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
        let (object, below) = after.split_at(after.find(|c| !is_part(c)).unwrap_or(after.len()));
        out.push_str(
            StorePath::parse(object).map_or(object, |_| split_version(&object[HASH_PART_LEN + 1..]).0),
        );
        rest = below;
    }
    out.push_str(rest);
    out
}

/// What came, went or grew between two closures, by package.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageChange {
    /// The name of its objects before the version.
    pub name: String,
    /// Versions before; empty text for an object whose name has none.
    pub before: Vec<String>,
    /// Versions after.
    pub after: Vec<String>,
    /// By how many bytes its objects grew.
    pub grown_bytes: i64,
}

/// Compares two closures by package.
///
/// # Errors
/// Those of reading the store.
pub fn closures(
    store: &Store,
    before: &StorePath,
    after: &StorePath,
) -> Result<Vec<PackageChange>, StoreError> {
    let (a, b) = (store.closure_infos([before.clone()])?, store.closure_infos([after.clone()])?);
    let mut changes: BTreeMap<&str, PackageChange> = BTreeMap::new();
    for (path, info) in a.iter().filter(|(path, _)| !b.contains_key(path)) {
        let (name, version) = split_version(path.name());
        let change = changes.entry(name).or_insert_with(|| PackageChange::of(name));
        change.before.push(version.to_owned());
        change.grown_bytes -= i64::try_from(info.nar_size_bytes).unwrap_or(i64::MAX);
    }
    for (path, info) in b.iter().filter(|(path, _)| !a.contains_key(path)) {
        let (name, version) = split_version(path.name());
        let change = changes.entry(name).or_insert_with(|| PackageChange::of(name));
        change.after.push(version.to_owned());
        change.grown_bytes += i64::try_from(info.nar_size_bytes).unwrap_or(i64::MAX);
    }
    let mut changes: Vec<PackageChange> = changes.into_values().collect();
    for change in &mut changes {
        change.before.sort();
        change.after.sort();
    }
    Ok(changes)
}

impl PackageChange {
    fn of(name: &str) -> Self {
        Self { name: name.to_owned(), before: Vec::new(), after: Vec::new(), grown_bytes: 0 }
    }
}

/// A file that differs between two trees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// Its path below the trees' tops; empty for a top that is a file.
    pub path: String,
    /// `added`, `removed`, or what changed: `kind`, `mode`, `link`, `contents`.
    pub change: &'static str,
    /// Its size before.
    pub before_bytes: Option<u64>,
    /// Its size after.
    pub after_bytes: Option<u64>,
}

/// Compares two trees file by file.
///
/// # Errors
/// Those of reading files.
pub fn trees(before: &Path, after: &Path) -> Result<Vec<FileChange>, CliError> {
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    list(before, PathBuf::new(), &mut a)?;
    list(after, PathBuf::new(), &mut b)?;
    let mut changes = Vec::new();
    for path in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        let (old, new) = (a.get(path), b.get(path));
        let change = match (old, new) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(old), Some(new)) if old.kind != new.kind => "kind",
            (Some(old), Some(new)) if old.link != new.link => "link",
            (Some(old), Some(new)) if old.is_executable != new.is_executable => "mode",
            (Some(old), Some(new)) => {
                let same = old.kind != 'f'
                    || (old.size == new.size && same_contents(&before.join(path), &after.join(path))?);
                if same {
                    continue;
                }
                "contents"
            }
        };
        // The directories that came or went are seen by what is in them.
        if old.or(new).is_some_and(|one| one.kind == 'd') && change != "kind" {
            continue;
        }
        changes.push(FileChange {
            path: path.to_string_lossy().into_owned(),
            change,
            before_bytes: old.map(|one| one.size),
            after_bytes: new.map(|one| one.size),
        });
    }
    Ok(changes)
}

struct Listed {
    kind: char,
    size: u64,
    is_executable: bool,
    link: Option<PathBuf>,
}

fn list(top: &Path, below: PathBuf, found: &mut BTreeMap<PathBuf, Listed>) -> Result<(), CliError> {
    let path = if below.as_os_str().is_empty() { top.to_owned() } else { top.join(&below) };
    let told = || format!("cannot read `{}`", path.display());
    let data = std::fs::symlink_metadata(&path).while_doing(told)?;
    let kind = match data.file_type() {
        kind if kind.is_dir() => 'd',
        kind if kind.is_symlink() => 'l',
        _ => 'f',
    };
    let link = (kind == 'l').then(|| std::fs::read_link(&path)).transpose().while_doing(told)?;
    if kind == 'd' {
        for entry in std::fs::read_dir(&path).while_doing(told)? {
            let name = entry.while_doing(told)?.file_name();
            list(top, below.join(name), found)?;
        }
    }
    let is_executable = kind == 'f' && data.permissions().mode() & 0o111 != 0;
    let size = if kind == 'f' { data.len() } else { 0 };
    found.insert(below, Listed { kind, size, is_executable, link });
    Ok(())
}

/// Compares piece by piece: a tree may hold files of any size.
fn same_contents(a: &Path, b: &Path) -> Result<bool, CliError> {
    let open =
        |path: &Path| std::fs::File::open(path).while_doing(|| format!("cannot read `{}`", path.display()));
    let (mut a, mut b) = (open(a)?, open(b)?);
    let (mut x, mut y) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let told = || "cannot read a file to compare".to_owned();
        let len = a.read(&mut x).while_doing(told)?;
        if len == 0 {
            return Ok(b.read(&mut y).while_doing(told)? == 0);
        }
        if b.read_exact(&mut y[..len]).is_err() || x[..len] != y[..len] {
            return Ok(false);
        }
    }
}

/// Cuts two texts short around the first place where they differ.
pub fn excerpts(before: &str, after: &str) -> (String, String) {
    const CONTEXT: usize = 16;
    const MOST: usize = 64;
    let same = before.char_indices().zip(after.chars()).take_while(|((_, a), b)| a == b).count();
    let cut = |text: &str| -> String {
        let chars: Vec<char> = text.chars().collect();
        let start = if chars.len() <= MOST { 0 } else { same.saturating_sub(CONTEXT).min(chars.len()) };
        let end = (start + MOST).min(chars.len());
        let mut out = String::new();
        if start > 0 {
            out.push('…');
        }
        for c in &chars[start..end] {
            if c.is_control() { out.extend(c.escape_debug()) } else { out.push(*c) }
        }
        if end < chars.len() {
            out.push('…');
        }
        out
    };
    (cut(before), cut(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_show_where_texts_part() {
        let long = "a".repeat(100);
        let (before, after) = excerpts(&format!("{long}x"), &format!("{long}y{long}"));
        assert_eq!(before, format!("…{}x", "a".repeat(16)));
        assert_eq!(after, format!("…{}y{}…", "a".repeat(16), "a".repeat(47)));
        assert_eq!(excerpts("a\nb", "a"), ("a\\nb".to_owned(), "a".to_owned()));
    }

    #[test]
    fn which_build_a_store_path_names_does_not_count() {
        let dir = StoreDir::new("/nix/store").unwrap();
        let text = |c: &str, v: u8| format!("-I/nix/store/{}-gcc-{v}/include /nix/store/short", c.repeat(32));
        assert_eq!(without_builds(&dir, &text("a", 1)), "-I/nix/store/gcc/include /nix/store/short");
        assert_eq!(without_builds(&dir, &text("a", 1)), without_builds(&dir, &text("b", 2)));
        assert_eq!(without_builds(&dir, "/nix/store/"), "/nix/store/");
    }
}
