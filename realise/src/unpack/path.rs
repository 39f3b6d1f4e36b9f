//! Names inside an archive: where they may point, which is only downwards.

use std::fmt;

/// A path below some root: no `..`, not absolute, not too long, not too deep.
///
/// Having one of these tells you that
/// * its components are joined by single slashes, and none is empty, `.` or `..`;
/// * it holds no NUL, and fits the system's limits (255 bytes a name, 4,095 in all);
/// * the empty path is the root itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameProblem {
    /// It starts with a slash.
    Absolute,
    /// It has a `..`.
    Parent,
    /// It holds a NUL.
    Nul,
    /// A component of more than 255 bytes, or more than 4,095 in all.
    TooLong,
    /// More than [`MAX_DEPTH`] components.
    TooDeep,
}

/// How many directories deep an archive may go.
pub const MAX_DEPTH: usize = 1024;
const MAX_NAME_LEN: usize = 255;
const MAX_PATH_LEN: usize = 4095;

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absolute => "the name is absolute",
            Self::Parent => "the name leads upwards (`..`)",
            Self::Nul => "the name holds a NUL",
            Self::TooLong => "the name is too long (255 bytes a part, 4095 in all)",
            Self::TooDeep => "more than 1024 directories deep",
        })
    }
}

impl RelPath {
    /// Parses the name of an entry. Leading `./`, doubled slashes and a slash at the end
    /// mean nothing and go.
    ///
    /// # Errors
    /// [`NameProblem`].
    pub fn parse(name: &[u8]) -> Result<Self, NameProblem> {
        if name.first() == Some(&b'/') {
            return Err(NameProblem::Absolute);
        }
        if name.contains(&0) {
            return Err(NameProblem::Nul);
        }
        let mut path = Vec::with_capacity(name.len());
        let mut depth = 0;
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(NameProblem::Parent),
                _ if part.len() > MAX_NAME_LEN => return Err(NameProblem::TooLong),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(NameProblem::TooDeep);
        }
        if path.len() > MAX_PATH_LEN {
            return Err(NameProblem::TooLong);
        }
        Ok(Self(path))
    }

    /// Returns the bytes, without a slash at either end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the directory it lies in, and its name there; none for the root.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Some((Self(self.0[..at].to_vec()), &self.0[at + 1..])),
            None => Some((Self::default(), &self.0)),
        }
    }

    /// Returns the first component, and the path below it; none for the root.
    pub fn split_first(&self) -> Option<(&[u8], Self)> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().position(|byte| *byte == b'/') {
            Some(at) => Some((&self.0[..at], Self(self.0[at + 1..].to_vec()))),
            None => Some((&self.0, Self::default())),
        }
    }

    /// Returns the components.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// Returns what is left below `base`; none if it does not lie there.
    pub fn below(&self, base: &Self) -> Option<Self> {
        if base.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(base.as_bytes())?;
        match rest.first() {
            None => Some(Self::default()),
            Some(b'/') => Some(Self(rest[1..].to_vec())),
            Some(_) => None,
        }
    }

    /// Whether a symbolic link at this path with that target stays below the root, as far as the text tells.
    pub(super) fn reaches_below(&self, target: &[u8]) -> bool {
        let mut depth = self.parts().count().saturating_sub(1);
        target.first() != Some(&b'/')
            && target.split(|byte| *byte == b'/').all(|part| {
                match part {
                    b"" | b"." => {}
                    b".." if depth == 0 => return false,
                    b".." => depth -= 1,
                    _ => depth += 1,
                }
                true
            })
    }

    /// Returns `self` below `base`.
    ///
    /// # Errors
    /// [`NameProblem`] if that is too long or too deep.
    pub fn under(&self, base: &Self) -> Result<Self, NameProblem> {
        Self::parse(&[base.as_bytes(), b"/", self.as_bytes()].concat()[usize::from(base.is_root())..])
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// Returns `name` as messages show it: printable, and no more than 200 characters.
pub fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if text.chars().count() > 200 {
        let (start, end): (String, String) = (
            text.chars().take(150).collect(),
            text.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect(),
        );
        return format!("{start}…{end}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_downwards() {
        let parse = |name: &str| RelPath::parse(name.as_bytes()).map(|p| p.to_string());
        assert_eq!(parse("./a//b/./c/"), Ok("a/b/c".to_owned()));
        assert_eq!(parse("./"), Ok(String::new()));
        assert_eq!(parse("..a/b.."), Ok("..a/b..".to_owned()));
        assert_eq!(parse("/a"), Err(NameProblem::Absolute));
        assert_eq!(parse("a/../b"), Err(NameProblem::Parent));
        assert_eq!(parse("a\0b"), Err(NameProblem::Nul));
        assert_eq!(parse(&"x".repeat(256)), Err(NameProblem::TooLong));
        assert_eq!(parse(&"a/".repeat(1025)), Err(NameProblem::TooDeep));
        assert_eq!(parse(&format!("{}/", "x".repeat(250)).repeat(20)), Err(NameProblem::TooLong));
    }

    #[test]
    fn parts_and_prefixes() {
        let path = |name: &str| RelPath::parse(name.as_bytes()).expect("a valid name");
        assert_eq!(path("a/b/c").split_last(), Some((path("a/b"), &b"c"[..])));
        assert_eq!(path("a").split_first(), Some((&b"a"[..], path(""))));
        assert_eq!(path("usr/lib").below(&path("usr")), Some(path("lib")));
        assert_eq!(path("usrlib").below(&path("usr")), None);
        assert_eq!(path("usr").below(&path("usr")), Some(path("")));
        assert_eq!(path("x").under(&path("usr")), Ok(path("usr/x")));
        assert_eq!(path("x").under(&path("")), Ok(path("x")));
    }

    #[test]
    fn names_are_shown_safely() {
        assert_eq!(shown(b"a\x1b[2J\n\xffz"), "a\\u{1b}[2J\\n\\xffz");
        assert!(shown(&[b'x'; 5000]).len() < 250);
    }
}
