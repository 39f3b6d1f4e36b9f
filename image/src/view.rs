//! The image as a program in it would see it: every path, links followed inside.
//!
//! Made once, when the plan is made; the lint, `slim` and the links table look
//! things up here instead of in trees that lie apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::entry::{Entry, EntryKind, FileSource};
use crate::error::Result;

/// What lies at a path.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: EntryKind,
    /// Its mode.
    pub mode: u32,
    /// Which part of the plan brought it.
    pub part: usize,
    /// Its path below that part's root, as the part names it.
    pub below: Box<[u8]>,
}

/// Everything that an image holds.
#[derive(Default)]
pub struct View {
    nodes: BTreeMap<Box<[u8]>, Node>,
    links: BTreeMap<String, String>,
}

/// A chain of links longer than this is a loop.
const MAX_LINKS: usize = 40;

impl View {
    /// Lays the parts' entries over each other, in order; later ones win, but a
    /// directory never hides a link to one (that is how merged `/usr` works).
    ///
    /// Entries are `(part, below, entry)`.
    pub fn new(all: Vec<(usize, Box<[u8]>, Entry)>) -> Self {
        let symlinks: BTreeMap<&[u8], &[u8]> = all
            .iter()
            .filter_map(|(_, _, entry)| match &entry.kind {
                EntryKind::Symlink(target) => Some((&*entry.path, &**target)),
                _ => None,
            })
            .collect();
        let links = parent_links(&all, &symlinks);
        let mut view = Self::default();
        {
            let table: BTreeMap<&[u8], &[u8]> =
                links.iter().map(|(a, b)| (a.as_bytes(), b.as_bytes())).collect();
            for (part, below, entry) in &all {
                let path = crate::project::through_links(&table, &entry.path)
                    .map_or_else(|| entry.path.clone(), Into::into);
                if entry.is_directory() && table.contains_key(&*path) {
                    continue;
                }
                let node =
                    Node { kind: entry.kind.clone(), mode: entry.mode, part: *part, below: below.clone() };
                view.add_parents(&path, *part);
                view.nodes.insert(path, node);
            }
        }
        view.links = links;
        view
    }

    fn add_parents(&mut self, path: &[u8], part: usize) {
        for (i, _) in path.iter().enumerate().rev().filter(|&(_, &b)| b == b'/') {
            let parent = &path[..i];
            if self.nodes.contains_key(parent) {
                return;
            }
            let node = Node { kind: EntryKind::Directory, mode: 0o755, part, below: Box::default() };
            self.nodes.insert(parent.into(), node);
        }
    }

    /// Returns the links to directories that lie on the way to other files.
    pub fn links(&self) -> &BTreeMap<String, String> {
        &self.links
    }

    /// Returns every path with what lies there, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (&**path, node))
    }

    /// Returns what lies exactly at `path`, links not followed.
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Returns the names below a directory, all depths, without following links.
    pub fn below<'a>(&'a self, dir: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a Node)> {
        let prefix: Box<[u8]> = if dir.is_empty() { Box::default() } else { [dir, b"/"].concat().into() };
        let from = prefix.clone();
        self.nodes
            .range(from..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, node)| (&**path, node))
    }

    /// Follows every link on the way, as a kernel would with the image as its root.
    /// Returns the links that were passed, in order, and the path at the end, if
    /// something is there.
    pub fn resolve(&self, path: &[u8]) -> Resolved {
        let mut passed = Vec::new();
        let mut todo: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut at: Vec<u8> = Vec::new();
        while let Some(name) = todo.pop() {
            if name == b".." {
                let cut = at.iter().rposition(|&b| b == b'/').unwrap_or(0);
                at.truncate(cut);
                continue;
            }
            let mut next = at.clone();
            if !next.is_empty() {
                next.push(b'/');
            }
            next.extend_from_slice(&name);
            match self.nodes.get(&*next).map(|node| &node.kind) {
                None => return Resolved { passed, end: None },
                Some(EntryKind::Symlink(target)) => {
                    passed.push(next.into_boxed_slice());
                    if passed.len() > MAX_LINKS {
                        return Resolved { passed, end: None };
                    }
                    if target.first() == Some(&b'/') {
                        at.clear();
                    }
                    todo.extend(components(target).rev().map(<[u8]>::to_vec));
                }
                Some(_) => at = next,
            }
        }
        Resolved { passed, end: Some(at.into()) }
    }

    /// Reads a file by its path, links followed.
    ///
    /// # Errors
    /// [`crate::ImageError::Io`].
    pub fn read(&self, path: &[u8]) -> Result<Option<std::sync::Arc<[u8]>>> {
        let Some(end) = self.resolve(path).end else { return Ok(None) };
        match self.nodes.get(&end).map(|node| &node.kind) {
            Some(EntryKind::File { source, .. }) => source.read().map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the file that `path` leads to and where its bytes are.
    pub fn file(&self, path: &[u8]) -> Option<(Box<[u8]>, &FileSource, u64)> {
        let end = self.resolve(path).end?;
        match &self.nodes.get(&end)?.kind {
            EntryKind::File { source, size } => Some((end, source, *size)),
            _ => None,
        }
    }

    /// Returns where the file at exactly `path` lies on this machine.
    pub fn source(&self, path: &[u8]) -> Option<&PathBuf> {
        match &self.nodes.get(path)?.kind {
            EntryKind::File { source: FileSource::Path(path), .. } => Some(path),
            _ => None,
        }
    }

    /// Whether a directory is there, links followed.
    pub fn is_directory(&self, path: &[u8]) -> bool {
        let end = self.resolve(path).end;
        end.is_some_and(|end| {
            end.is_empty() || matches!(self.nodes.get(&end).map(|n| &n.kind), Some(EntryKind::Directory))
        })
    }
}

/// Where a path leads.
pub struct Resolved {
    /// The links on the way, each by its own path.
    pub passed: Vec<Box<[u8]>>,
    /// What is at the end; `None` if nothing is, or the links go in a circle.
    pub end: Option<Box<[u8]>>,
}

/// Splits a path into its names; `.` and empty ones are left out.
pub fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// Finds the links that other entries go through, each with where it leads in the
/// end.
fn parent_links(
    all: &[(usize, Box<[u8]>, Entry)],
    symlinks: &BTreeMap<&[u8], &[u8]>,
) -> BTreeMap<String, String> {
    let mut links = BTreeMap::new();
    if symlinks.is_empty() {
        return links;
    }
    let mut wanted: BTreeSet<&[u8]> = BTreeSet::new();
    for (_, _, entry) in all {
        let own = entry.is_directory().then_some(entry.path.len());
        let ends = entry.path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(i, _)| i).chain(own);
        wanted.extend(ends.map(|i| &entry.path[..i]).filter(|path| symlinks.contains_key(path)));
    }
    for path in wanted {
        let led = lead(symlinks, path);
        if let (Ok(path), Some(Ok(to))) = (std::str::from_utf8(path), led.as_deref().map(std::str::from_utf8))
        {
            links.insert(path.to_owned(), to.to_owned());
        }
    }
    links
}

/// Follows links by their texts alone; `..` stops at the root.
fn lead(symlinks: &BTreeMap<&[u8], &[u8]>, path: &[u8]) -> Option<Vec<u8>> {
    let mut left = MAX_LINKS;
    let mut todo: Vec<&[u8]> = components(path).rev().collect();
    let mut at: Vec<u8> = Vec::new();
    while let Some(name) = todo.pop() {
        if name == b".." {
            at.truncate(at.iter().rposition(|&b| b == b'/').unwrap_or(0));
            continue;
        }
        let here = at.len();
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(name);
        if let Some(target) = symlinks.get(&at[..]) {
            left = left.checked_sub(1)?;
            at.truncate(if target.first() == Some(&b'/') { 0 } else { here });
            todo.extend(components(target).rev());
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(entries: Vec<Entry>) -> View {
        View::new(entries.into_iter().enumerate().map(|(i, e)| (i, e.path.clone(), e)).collect())
    }

    fn file(path: &str) -> Entry {
        Entry::bytes(path.as_bytes(), 0o644, path.as_bytes())
    }

    fn link(path: &str, to: &str) -> Entry {
        Entry::symlink(path.as_bytes(), to.as_bytes())
    }

    #[test]
    fn files_below_a_link_go_where_it_leads() {
        let view = view(vec![link("bin", "usr/bin"), file("bin/sh"), file("usr/bin/cat")]);
        assert_eq!(view.links().get("bin").map(String::as_str), Some("usr/bin"));
        assert!(view.get(b"usr/bin/sh").is_some() && view.get(b"bin/sh").is_none());
    }

    #[test]
    fn links_never_leave_the_image() {
        let view =
            view(vec![link("a", "../../../etc"), file("a/passwd"), link("loop", "loop"), file("loop/x")]);
        assert!(view.get(b"etc/passwd").is_some());
        assert!(view.get(b"loop/x").is_some(), "a circle leads nowhere, so nothing moves");
        assert!(view.resolve(b"loop").end.is_none());
    }

    #[test]
    fn resolve_tells_the_links_on_the_way() {
        let view = view(vec![
            link("lib", "usr/lib"),
            link("usr/lib/libx.so.1", "libx.so.1.2"),
            file("usr/lib/libx.so.1.2"),
        ]);
        let found = view.resolve(b"/lib/libx.so.1");
        assert_eq!(found.end.as_deref(), Some(&b"usr/lib/libx.so.1.2"[..]));
        assert_eq!(found.passed.len(), 2);
    }
}
