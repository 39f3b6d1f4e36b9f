//! Path literals: from what is written to an absolute path.

use crate::source::Source;

/// Returns a path literal as an absolute path without `.`, `..`, and slashes too many.
///
/// `home` replaces `~`; without it such a literal stays as it is. A final slash goes; who needs
/// it for what is interpolated behind it puts it back.
pub fn absolute(literal: &[u8], source: &Source, home: Option<&str>) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let joined = match (literal.first(), home) {
        (Some(b'/'), _) => literal.to_vec(),
        (Some(b'~'), None) => return literal.to_vec(),
        (Some(b'~'), Some(home)) => [home.as_bytes(), &literal[1..]].concat(),
        _ => [source.base_dir().as_os_str().as_bytes(), literal].join(&b'/'),
    };
    canonical(&joined)
}

/// Returns an absolute path without `.`, `..`, and slashes too many. Links are not looked at.
pub fn canonical(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for name in path.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => out.truncate(out.iter().rposition(|&b| b == b'/').unwrap_or(0)),
            _ => {
                out.push(b'/');
                out.extend(name);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn dots_and_slashes_go() {
        let check = |path: &str, expected: &str| {
            let canonical = super::canonical(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&canonical), expected, "{path}");
        };
        check("/", "/");
        check("/a//b/./c/", "/a/b/c");
        check("/a/../../b", "/b");
        check("/..", "/");
    }
}
