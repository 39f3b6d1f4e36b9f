//! A store in a temporary directory, and images made from it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ampoule_image::blobs::BlobCache;
use ampoule_image::build::{BuildReport, ObjectFacts, Objects, build_image_object};
use ampoule_image::plan::{ObjectSource, Plan};
use ampoule_image::project::{Image, Need, Projector};
use ampoule_image::slices::SliceLists;
use ampoule_image::{ImageError, Result};
use serde_json::Value;

/// A store whose objects a test writes.
pub struct TestStore {
    pub dir: tempfile::TempDir,
    facts: BTreeMap<String, Vec<String>>,
}

impl TestStore {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), facts: BTreeMap::new() }
    }

    /// The store path of the object called `name`: always the same.
    pub fn path(name: &str) -> String {
        let digits = "0123456789abcdfghijklmnpqrsvwxyz";
        let hash: String = ampoule_image::Digest::of(name.as_bytes())
            .to_hex()
            .bytes()
            .take(32)
            .map(|b| digits.as_bytes()[usize::from(b) % 32] as char)
            .collect();
        format!("/nix/store/{hash}-{name}")
    }

    pub fn physical(&self, name: &str) -> PathBuf {
        self.dir.path().join(Self::path(name).rsplit('/').next().unwrap())
    }

    /// Makes an object from `(path, contents)`; a path ending in `/` is a directory,
    /// contents beginning with `->` a link, a path beginning with `!` executable.
    pub fn add(&mut self, name: &str, files: &[(&str, &str)], references: &[&str]) -> String {
        let root = self.physical(name);
        fs::create_dir_all(&root).unwrap();
        for (path, contents) in files {
            let (path, executable) = path.strip_prefix('!').map_or((*path, false), |p| (p, true));
            let at = root.join(path.trim_end_matches('/'));
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            if path.ends_with('/') {
                fs::create_dir_all(&at).unwrap();
            } else if let Some(target) = contents.strip_prefix("->") {
                symlink(target, &at).unwrap();
            } else {
                fs::write(&at, contents).unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
                    .unwrap();
            }
        }
        self.facts.insert(Self::path(name), references.iter().map(|r| (*r).to_owned()).collect());
        Self::path(name)
    }

    /// Makes an object that is one copy of a file of this machine.
    pub fn add_copy(&mut self, name: &str, at: &str, from: &Path) -> String {
        let path = self.add(name, &[], &[]);
        let to = self.physical(name).join(at);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, &to).unwrap();
        path
    }

    pub fn plan(&self, asked: &Value) -> Result<(tempfile::TempDir, Plan, BuildReport)> {
        let out = tempfile::tempdir().unwrap();
        let report = build_image_object(asked, self, &out.path().join("object"))?;
        let plan = Plan::read(&out.path().join("object"))?;
        Ok((out, plan, report))
    }

    pub fn project(&self, asked: &Value, cache: &BlobCache) -> Result<Image> {
        let (out, plan, _) = self.plan(asked)?;
        let own = out.path().join("object");
        let projector = Projector {
            cache,
            objects: self,
            own: &own,
            threads: None,
            compression: None,
            slices: SliceLists::default(),
        };
        projector.project(&plan, Need::Blobs)
    }
}

impl ObjectSource for TestStore {
    fn locate(&self, store_path: &str) -> Result<PathBuf> {
        let name = store_path.rsplit('/').next().unwrap();
        let path = self.dir.path().join(name);
        if path.exists() { Ok(path) } else { Err(ImageError::invalid(format!("no `{store_path}`"))) }
    }
}

impl Objects for TestStore {
    fn store_dir(&self) -> &str {
        "/nix/store"
    }

    fn facts(&self, store_path: &str) -> Result<ObjectFacts> {
        let references = self.facts.get(store_path).cloned();
        let references = references.ok_or_else(|| ImageError::invalid(format!("no `{store_path}`")))?;
        Ok(ObjectFacts { nar_size_bytes: 1000, references })
    }
}

pub fn cache() -> (tempfile::TempDir, BlobCache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(dir.path()).unwrap();
    (dir, cache)
}

/// Whether a program is here; says so if it is not.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .any(|dir| dir.join(program).is_file());
    if !found {
        println!("skipped: `{program}` is not installed");
    }
    found
}

/// Runs a program and returns what it printed; panics with its words if it fails.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A small image that needs nothing of this machine.
pub fn small(store: &mut TestStore) -> Value {
    let app = store.add("app", &[("!bin/app", "#!/bin/sh\necho hello\n"), ("share/data", "data")], &[]);
    let root =
        store.add("root", &[("!usr/bin/sh", "not really"), ("bin", "->usr/bin"), ("etc/motd", "hi\n")], &[]);
    serde_json::json!({
        "name": "test/app", "tag": "v1", "contents": [app], "root": [root],
        "config": { "entrypoint": [format!("{app}/bin/app")], "env": { "A": "1" } },
        "directories": { "/var/lib/app": { "uid": 65532, "mode": "0750" } },
        "files": { "/etc/app.conf": { "text": "x = 1\n", "mode": "0600", "uid": 65532 } },
    })
}
