//! Where a package's path goes: merged /usr, and what stays out.

use crate::builtin::BuiltinError;
use crate::unpack::tar::{Entry, Kind};
use crate::unpack::{Found, RelPath, Tree, UnpackError};

/// Directories that are links into /usr when it is merged.
const TOP: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin"];

/// Where paths go.
pub(in crate::builtin) struct Layout {
    pub(super) merged_usr: bool,
    pub(super) exclude: Exclude,
}

impl Layout {
    /// Returns where an entry of a package goes; none if it stays out.
    pub(super) fn map(&self, path: &RelPath, entry: &Entry) -> Option<RelPath> {
        // The links themselves, which newer base-files ships: they are made anyway.
        let is_top = path.parts().count() == 1 && self.is_top(path);
        if self.merged_usr && is_top && entry.kind == Kind::Symlink {
            return None;
        }
        let path = self.merged(path);
        (!self.exclude.covers(&path)).then_some(path)
    }

    /// Returns `/lib/x` as `usr/lib/x`, and other paths as they are, for a merged /usr.
    pub(super) fn merged(&self, path: &RelPath) -> RelPath {
        if !self.merged_usr || !self.is_top(path) {
            return path.clone();
        }
        // Longer by four bytes; a path for which that is too much stays, and fails where it is made.
        RelPath::parse(&[b"usr/", path.as_bytes()].concat()).unwrap_or_else(|_| path.clone())
    }

    fn is_top(&self, path: &RelPath) -> bool {
        path.split_first().is_some_and(|(first, _)| TOP.iter().any(|top| top.as_bytes() == first))
    }

    /// Returns the place of an absolute path, written with or without its slash.
    pub(super) fn absolute(&self, path: &str) -> Result<RelPath, BuiltinError> {
        let path = RelPath::parse(path.trim_start_matches('/').as_bytes())
            .map_err(|problem| UnpackError::name(path.as_bytes(), problem))?;
        Ok(self.merged(&path))
    }

    /// Makes the links at the top: those every system has, and those with something behind.
    pub(super) fn link_top(&self, tree: &mut Tree) -> Result<(), BuiltinError> {
        if !self.merged_usr {
            return Ok(());
        }
        for top in TOP {
            let link = RelPath::parse(top.as_bytes()).expect("a good path");
            let behind = RelPath::parse(format!("usr/{top}").as_bytes()).expect("a good path");
            if tree.look(&behind) == Found::Directory {
                tree.symlink(&link, format!("usr/{top}").as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Paths that stay out, with all below them.
pub(super) struct Exclude(Vec<Vec<Vec<u8>>>);

impl Exclude {
    pub(super) fn new(patterns: &[String]) -> Self {
        let parts = |pattern: &String| {
            pattern.split('/').filter(|p| !p.is_empty()).map(|p| p.as_bytes().to_vec()).collect()
        };
        Self(patterns.iter().map(parts).filter(|parts: &Vec<Vec<u8>>| !parts.is_empty()).collect())
    }

    /// Returns whether `path`, or a directory above it, is named.
    pub(super) fn covers(&self, path: &RelPath) -> bool {
        self.0.iter().any(|pattern| {
            let mut parts = path.parts();
            pattern.iter().all(|pattern| parts.next().is_some_and(|part| matches(pattern, part)))
        })
    }
}

/// Returns whether `name` fits `pattern`, in which `*` stands for any bytes.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut pieces = pattern.split(|b| *b == b'*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&[u8]> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        match rest.windows(piece.len().max(1)).position(|w| w.starts_with(piece)) {
            Some(at) => rest = &rest[at + piece.len()..],
            None if piece.is_empty() => {}
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes() {
        let check = |pattern: &str, path: &str| {
            Exclude::new(&[pattern.to_owned()]).covers(&RelPath::parse(path.as_bytes()).expect("a good path"))
        };
        assert!(check("usr/share/doc", "usr/share/doc/x/copyright"));
        assert!(check("/usr/share/doc/", "usr/share/doc"));
        assert!(!check("usr/share/doc", "usr/share/docs"));
        assert!(check("usr/share/locale/*/LC_MESSAGES", "usr/share/locale/de/LC_MESSAGES/x.mo"));
        assert!(check("usr/lib/*.a", "usr/lib/libx.a"));
        assert!(!check("usr/lib/*.a", "usr/lib/libx.so"));
        assert!(check("a*b*c", "axxbyyc") && !check("a*b*c", "axxc"));
        assert!(!check("", "x"));
    }

    #[test]
    fn merged_usr() {
        let layout = Layout { merged_usr: true, exclude: Exclude::new(&[]) };
        let map =
            |path: &str| layout.merged(&RelPath::parse(path.as_bytes()).expect("a good path")).to_string();
        assert_eq!(map("lib/x86_64-linux-gnu/libc.so.6"), "usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(
            (map("bin"), map("library/x"), map("usr/lib/x")),
            ("usr/bin".into(), "library/x".into(), "usr/lib/x".into())
        );
    }
}
