//! `builtin:merge`: several objects in one tree, by links or by copies.
//!
//! Directories are merged; where two objects have something else at one path, the
//! first one in the list stays (`symlinkJoin` does that), or it is an error. A link of
//! an object that points to a directory is kept as that link, unless a later object
//! has a directory there, which is an error in any case: it would have to be followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{BuiltinBuilder, BuiltinContext, BuiltinError};
use crate::unpack::{RelPath, Tree, UnpackError};

/// The builder.
pub struct Merge;

/// What stands at a path of the merged tree.
enum Node {
    Directory,
    File { logical: String, physical: PathBuf, executable: bool },
    Link { target: Vec<u8>, logical: String },
}

impl Node {
    fn logical(&self) -> &str {
        match self {
            Self::Directory => "a directory",
            Self::File { logical, .. } | Self::Link { logical, .. } => logical,
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory, Self::Directory) => true,
            (Self::Link { target: a, .. }, Self::Link { target: b, .. }) => a == b,
            (
                Self::File { physical: a, executable: x, .. },
                Self::File { physical: b, executable: y, .. },
            ) => x == y && same_bytes(a, b),
            _ => false,
        }
    }
}

impl BuiltinBuilder for Merge {
    fn name(&self) -> &str {
        "merge"
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        let strict = match cx.attrs.text("onConflict")?.unwrap_or("first") {
            "first" => false,
            "error" => true,
            other => {
                return Err(BuiltinError::build(format!(
                    "attribute `onConflict`: `{other}` is neither `first` nor `error`"
                )));
            }
        };
        let copy = cx.attrs.flag("copy", false)?;
        let mut nodes = BTreeMap::new();
        for logical in cx.attrs.texts("paths")? {
            let physical = cx.input(&logical)?;
            collect(&physical, &logical, &RelPath::default(), strict, &mut nodes)?;
        }
        let mut tree = Tree::create(cx.output("out")?).map_err(UnpackError::from)?;
        for (path, node) in &nodes {
            match node {
                Node::Directory => tree.directory(path)?,
                Node::Link { target, .. } => tree.symlink(path, target)?,
                Node::File { logical, .. } if !copy => tree.symlink(path, logical.as_bytes())?,
                Node::File { physical, executable, logical } => {
                    let mut file =
                        File::open(physical).map_err(|e| BuiltinError::build(format!("`{logical}`: {e}")))?;
                    tree.file(path, *executable, &mut file)?;
                }
            }
        }
        Ok(())
    }
}

/// Adds what lies at `physical` to the merged tree at `at`.
fn collect(
    physical: &Path,
    logical: &str,
    at: &RelPath,
    strict: bool,
    nodes: &mut BTreeMap<RelPath, Node>,
) -> Result<(), BuiltinError> {
    let failed = |error: std::io::Error| BuiltinError::build(format!("`{logical}`: {error}"));
    let meta = std::fs::symlink_metadata(physical).map_err(failed)?;
    let node = if meta.is_dir() {
        Node::Directory
    } else if meta.is_symlink() {
        let target = std::fs::read_link(physical).map_err(failed)?.as_os_str().as_bytes().to_vec();
        Node::Link { target, logical: logical.to_owned() }
    } else {
        let executable = meta.permissions().mode() & 0o100 != 0;
        Node::File { logical: logical.to_owned(), physical: physical.to_owned(), executable }
    };
    if at.is_root() && !meta.is_dir() {
        return Err(BuiltinError::build(format!("`{logical}` is not a directory, and cannot be merged")));
    }
    match nodes.get(at) {
        None => {
            nodes.insert(at.clone(), node);
        }
        Some(before) if before.same(&node) => {}
        Some(before) if strict || matches!((before, &node), (Node::Directory, _) | (_, Node::Directory)) => {
            return Err(BuiltinError::build(format!(
                "`{}` and `{logical}` differ and stand at one path, `{at}`",
                before.logical()
            )));
        }
        // The first one stays.
        Some(_) => return Ok(()),
    }
    if !meta.is_dir() {
        return Ok(());
    }
    let mut names: Vec<_> =
        std::fs::read_dir(physical).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name();
        let below = RelPath::parse(name.as_bytes())
            .and_then(|name| name.under(at))
            .map_err(|problem| UnpackError::name(name.as_bytes(), problem))?;
        // A link's target must be text; names in the store that are not are copied only.
        let logical = format!("{logical}/{}", name.to_string_lossy());
        collect(&entry.path(), &logical, &below, strict, nodes)?;
    }
    Ok(())
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    let (Ok(a), Ok(b)) = (File::open(a), File::open(b)) else { return false };
    let lens = (a.metadata().map(|m| m.len()), b.metadata().map(|m| m.len()));
    if !matches!(lens, (Ok(x), Ok(y)) if x == y) {
        return false;
    }
    let (mut a, mut b) = (std::io::BufReader::new(a).bytes(), std::io::BufReader::new(b).bytes());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(Ok(x)), Some(Ok(y))) if x == y => {}
            _ => return false,
        }
    }
}
