//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ampoule_store::{AddOptions, ObjectInfo, Store, StorePath, StoreRoot, StoreSettings};

/// A directory for one test, and a store in it.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("s"));
        Self { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Another process's view of the same store.
    pub fn again(&self) -> Store {
        open(&self.dir.path().join("s"))
    }

    pub fn text(&self, name: &str, contents: &str, references: &[&StorePath]) -> StorePath {
        let references: BTreeSet<_> = references.iter().map(|p| (*p).clone()).collect();
        self.store.add_text(name, contents.as_bytes(), references).unwrap()
    }

    pub fn tree(&self, name: &str, source: &Path) -> ObjectInfo {
        self.store.add_path(source, &AddOptions::source(name), None).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Objects are not writable, which a temporary directory does not expect.
        make_writable(self.dir.path());
    }
}

pub fn open(root: &Path) -> Store {
    Store::open(&StoreRoot::new(root), StoreSettings::default()).unwrap()
}

pub fn make_writable(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(meta) = std::fs::symlink_metadata(dir) else { return };
    if meta.is_dir() {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).ok();
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            make_writable(&entry.path());
        }
    }
}

/// A tree with everything that may lie in the store.
pub fn sample_tree(at: &Path) {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    std::fs::create_dir_all(at.join("bin/deep/er")).unwrap();
    std::fs::write(at.join("bin/run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(at.join("bin/run"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(at.join("bin/deep/er/file"), vec![7; 100_000]).unwrap();
    std::fs::write(at.join("empty"), "").unwrap();
    std::fs::write(at.join("large"), vec![42; 3_000_001]).unwrap();
    symlink("/etc/passwd", at.join("abs")).unwrap();
    symlink("nowhere", at.join("dangling")).unwrap();
    for odd in [&b"new\nline"[..], b"\xff\xfe", b"-dash", b"a b", b"A", b"a", b"a~nix~case~hack~1"] {
        std::fs::write(at.join(std::ffi::OsStr::from_bytes(odd)), odd).unwrap();
    }
    std::fs::hard_link(at.join("large"), at.join("large-too")).unwrap();
    for i in 0..300 {
        std::fs::create_dir_all(at.join(format!("many/d{}", i % 17))).unwrap();
        std::fs::write(at.join(format!("many/d{}/f{i}", i % 17)), format!("{i}")).unwrap();
    }
}
