//! Slices: a composed tree, package by package.
//!
//! A tree of a hundred packages as one layer would be made anew whenever one of them
//! changes. Who composed the tree knows which package brought which path, and says
//! so beside it (`owners` in the tree's meta file); every package then is a part of
//! its own, and layers are planned from them as from store objects.
//!
//! ```text
//! meta.owners      libc6: id 3f…, [ usr/lib/…/libc.so.6 … ]      nginx: id 81…, [ … ]
//! slices           libc6 │ nginx │ what belongs to none (links, accounts, …)
//! slices.json      the paths of each, read only when its layer must be made
//! ```
//!
//! A slice's id stands for its bytes: the package's file, the paths of it that are
//! there, and what owners, modes and links of the image do to them. The tree's own
//! path is not in it, so that a new version of one package leaves the others' layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use rayon::prelude::*;
use serde::Deserialize;

use crate::digest::Digest;
use crate::dpkg::Dpkg;
use crate::entry::{Entry, EntryKind};
use crate::error::{ImageError, Result};
use crate::oci;
use crate::plan::{Owner, Part, Permission, SLICES_FILE};

/// What one package brought into a tree.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Owned {
    /// Changes whenever the contents of a path may.
    pub id: String,
    /// The paths, below the tree's root.
    pub paths: Vec<String>,
}

/// The paths of every slice: platform → tree → package.
pub type SlicePaths = BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<String>>>>;

/// The paths of an image object's slices, read when they are first asked for.
#[derive(Debug, Default)]
pub struct SliceLists(OnceLock<SlicePaths>);

impl SliceLists {
    /// Returns the paths of a slice, from the image object at `own`.
    ///
    /// # Errors
    /// [`ImageError::Io`], and [`ImageError::Malformed`] if the object does not say.
    pub fn of(&self, own: &Path, platform: &oci::Platform, tree: &str, package: &str) -> Result<&[String]> {
        let lists = match self.0.get() {
            Some(lists) => lists,
            None => {
                let path = own.join(SLICES_FILE);
                let bytes = std::fs::read(&path).map_err(|e| ImageError::io("read", &path, e))?;
                let read = oci::from_json(&format!("`{}`", path.display()), &bytes)?;
                self.0.get_or_init(|| read)
            }
        };
        let found = lists.get(&platform.to_string()).and_then(|trees| trees.get(tree)?.get(package));
        found
            .map(Vec::as_slice)
            .ok_or_else(|| ImageError::malformed(SLICES_FILE, format!("it has no paths of `{package}`")))
    }
}

/// What a platform's plan does to entries, beside their own attributes.
pub struct Tables<'a> {
    /// Attributes of directories.
    pub directories: &'a BTreeMap<String, Owner>,
    /// Owners and modes.
    pub permissions: &'a [Permission],
    /// Links on the way to files.
    pub links: &'a BTreeMap<String, String>,
}

/// A tree that says who brought what.
pub struct SlicedTree<'a> {
    /// Its store path.
    pub path: &'a str,
    /// Where it is laid.
    pub at: &'a str,
    /// Who brought what.
    pub owners: &'a BTreeMap<String, Owned>,
    /// All of it: path below its root, and what is there.
    pub contents: &'a [(Box<[u8]>, Entry)],
    /// What is kept of it; all if `None`.
    pub keep: Option<&'a [String]>,
}

/// A slice and its paths.
pub struct Slice {
    /// The part of the plan.
    pub part: Part,
    /// Its paths below the tree's root, sorted.
    pub paths: Vec<String>,
}

impl SlicedTree<'_> {
    /// Cuts the tree; `None` if a name that is kept cannot be written in a plan.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn cut(&self, dpkg: &Dpkg, tables: &Tables<'_>) -> Result<Option<Vec<Slice>>> {
        let Some(mut left) = self.entries_kept() else { return Ok(None) };
        let mut slices = Vec::new();
        for (package, owned) in self.owners {
            let here: Vec<(&str, &Entry)> = owned
                .paths
                .iter()
                .filter_map(|path| left.remove_entry(path.as_str()))
                .filter(|(_, entry)| !entry.is_directory())
                .collect();
            if !here.is_empty() {
                let version = dpkg.packages().iter().find(|p| p.name == *package).map(|p| p.version.clone());
                slices.push(self.slice(package, version, &owned.id, &here, tables));
            }
        }
        if !left.is_empty() {
            let rest: Vec<(&str, &Entry)> = left.into_iter().collect();
            let id = self.fingerprint(&rest)?;
            slices.push(self.slice("", None, &id, &rest, tables));
        }
        Ok(Some(slices))
    }

    /// Returns what is kept, by path, without directories that something is below: the
    /// layers make those anyway.
    fn entries_kept(&self) -> Option<BTreeMap<&str, &Entry>> {
        let keep: Option<BTreeSet<&str>> = self.keep.map(|keep| keep.iter().map(String::as_str).collect());
        let mut kept: BTreeMap<&str, &Entry> = BTreeMap::new();
        for (below, entry) in self.contents.iter().filter(|(below, _)| !below.is_empty()) {
            let path = std::str::from_utf8(below).ok()?;
            if keep.as_ref().is_none_or(|keep| keep.contains(path)) {
                kept.insert(path, entry);
            }
        }
        let inner: BTreeSet<&str> =
            kept.keys().filter_map(|path| path.rsplit_once('/').map(|(dir, _)| dir)).collect();
        kept.retain(|path, entry| !(entry.is_directory() && inner.contains(path)));
        Some(kept)
    }

    fn slice(
        &self,
        package: &str,
        version: Option<String>,
        id: &str,
        here: &[(&str, &Entry)],
        tables: &Tables<'_>,
    ) -> Slice {
        let paths: BTreeSet<&str> = here.iter().map(|(path, _)| *path).collect();
        let id = Digest::of(&oci::to_json(&(id, self.at, &paths, tables.touching(self.at, &paths))));
        let size = here.iter().map(|(_, entry)| size_of(entry)).sum();
        let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
        let part = Part::Slice {
            path: self.path.to_owned(),
            at: self.at.to_owned(),
            package: package.to_owned(),
            version,
            size,
            paths: paths.len(),
            id,
        };
        Slice { part, paths }
    }

    /// Stands for the bytes of what no package brought: they are few, and read.
    fn fingerprint(&self, entries: &[(&str, &Entry)]) -> Result<String> {
        const MOST_BYTES: u64 = 64 << 20;
        if entries.iter().map(|(_, entry)| size_of(entry)).sum::<u64>() > MOST_BYTES {
            return Ok(self.path.to_owned());
        }
        let one = |(path, entry): &(&str, &Entry)| -> Result<String> {
            let what = match &entry.kind {
                EntryKind::Directory => "directory".to_owned(),
                EntryKind::Symlink(to) | EntryKind::HardLink(to) => format!("link {}", Digest::of(to)),
                EntryKind::File { source, .. } => format!("file {}", Digest::of(&source.read()?)),
            };
            Ok(format!("{path}\0{:o}\0{what}\0", entry.mode))
        };
        let all = entries.par_iter().map(one).collect::<Result<Vec<String>>>()?;
        Ok(Digest::of(all.concat().as_bytes()).to_hex())
    }
}

fn size_of(entry: &Entry) -> u64 {
    if let EntryKind::File { size, .. } = entry.kind { size } else { 0 }
}

impl<'t> Tables<'t> {
    /// Returns what of the tables can touch these paths, or directories on the way to them.
    fn touching(
        &self,
        at: &str,
        paths: &BTreeSet<&str>,
    ) -> (BTreeMap<&'t str, Owner>, Vec<&'t Permission>, BTreeMap<&'t str, &'t str>) {
        let links: BTreeMap<&[u8], &[u8]> =
            self.links.iter().map(|(link, to)| (link.as_bytes(), to.as_bytes())).collect();
        let mut on_the_way: BTreeSet<String> = BTreeSet::new();
        let mut note = |path: &str| {
            let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
            for parent in ends.map(|end| &path[..end]).collect::<Vec<_>>().into_iter().rev() {
                if !on_the_way.insert(parent.to_owned()) {
                    break;
                }
            }
        };
        for path in paths {
            let full = if at.is_empty() { (*path).to_owned() } else { format!("{at}/{path}") };
            if let Some(moved) = crate::project::through_links(&links, full.as_bytes()) {
                note(&String::from_utf8_lossy(&moved));
            }
            note(&full);
        }
        (
            self.directories
                .iter()
                .filter(|(path, _)| on_the_way.contains(*path))
                .map(|(path, owner)| (path.as_str(), *owner))
                .collect(),
            self.permissions
                .iter()
                .filter(|rule| rule.path.is_empty() || on_the_way.contains(&rule.path))
                .collect(),
            self.links
                .iter()
                .filter(|(link, _)| on_the_way.contains(*link))
                .map(|(link, to)| (link.as_str(), to.as_str()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_changes_with_what_can_touch_the_paths_and_with_nothing_else() {
        let links = BTreeMap::new();
        let contents: Vec<(Box<[u8]>, Entry)> = ["usr/a", "usr/b"]
            .map(|path| (path.as_bytes().into(), Entry::bytes(path.as_bytes(), 0o644, *b"x")))
            .to_vec();
        let owned = |id: &str, path: &str| Owned { id: id.to_owned(), paths: vec![path.to_owned()] };
        let owners: BTreeMap<String, Owned> =
            [("a".to_owned(), owned("1", "usr/a")), ("b".to_owned(), owned("2", "usr/b"))].into();
        let ids = |path: &str, owners: &BTreeMap<String, Owned>, permissions: &[Permission]| -> Vec<Digest> {
            let tree = SlicedTree { path, at: "", owners, contents: &contents, keep: None };
            let tables = Tables { directories: &BTreeMap::new(), permissions, links: &links };
            let slices = tree.cut(&Dpkg::default(), &tables).unwrap().unwrap();
            let id = |slice: Slice| match slice.part {
                Part::Slice { id, .. } => id,
                other => panic!("{other:?}"),
            };
            slices.into_iter().map(id).collect()
        };
        let rule = |path: &str| Permission {
            path: path.to_owned(),
            recursive: false,
            mode: Some(0o600),
            uid: None,
            gid: None,
        };
        let first = ids("/nix/store/x", &owners, &[]);
        assert_eq!(first.len(), 2);
        assert_eq!(ids("/nix/store/y", &owners, &[rule("usr/c")]), first);
        let touched = ids("/nix/store/x", &owners, &[rule("usr/b")]);
        assert_eq!((touched[0], touched[1] == first[1]), (first[0], false));
        let above = ids("/nix/store/x", &owners, &[rule("usr")]);
        assert!(above[0] != first[0] && above[1] != first[1]);
        let mut newer = owners.clone();
        newer.insert("b".to_owned(), owned("3", "usr/b"));
        let newer = ids("/nix/store/z", &newer, &[]);
        assert_eq!((newer[0], newer[1] == first[1]), (first[0], false));
    }
}
