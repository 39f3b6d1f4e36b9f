//! Paths as the language has them: absolute, without `.`, `..` or empty parts.

/// Returns `path` without `.`, empty parts and `..` (each takes the part before it, by text alone).
pub fn canonical(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 1);
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let cut = out.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                out.truncate(cut);
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(part);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// Returns what stands after the last slash; of `/` nothing.
pub fn base_name(path: &[u8]) -> &[u8] {
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    match trimmed.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => &trimmed[slash + 1..],
        None => trimmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_paths_have_no_dots() {
        let check = |path: &str, expected: &str| {
            assert_eq!(String::from_utf8(canonical(path.as_bytes())).expect("text"), expected, "{path}");
        };
        check("/a/./b//c/", "/a/b/c");
        check("/a/../..", "/");
        check("/a/b/../c", "/a/c");
        check("/", "/");
        check("/..a/...", "/..a/...");
    }
}
