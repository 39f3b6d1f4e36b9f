//! What the tests of fetching, unpacking and builtin builders share.

pub mod archives;
pub mod unpacking;
pub mod yard;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns a tree as text, one line an entry: `path -> target`, `path/`, `path x contents`.
#[allow(dead_code, reason = "each test file uses its own part of this")]
pub fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    list_into(root, "", &mut lines);
    lines
}

fn list_into(dir: &Path, prefix: &str, lines: &mut Vec<String>) {
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory of ours") {
        let entry = entry.expect("an entry of ours");
        names.insert(entry.file_name().to_string_lossy().into_owned(), entry.path());
    }
    for (name, path) in names {
        let shown = format!("{prefix}{name}");
        let meta = std::fs::symlink_metadata(&path).expect("an entry of ours");
        if meta.is_symlink() {
            lines.push(format!("{shown} -> {}", std::fs::read_link(&path).expect("a link").display()));
        } else if meta.is_dir() {
            lines.push(format!("{shown}/"));
            list_into(&path, &format!("{shown}/"), lines);
        } else {
            let x = if meta.mode() & 0o100 != 0 { " x" } else { "" };
            let text = String::from_utf8_lossy(&std::fs::read(&path).expect("a file of ours")).into_owned();
            lines.push(format!("{shown}{x} {text}"));
        }
    }
}
