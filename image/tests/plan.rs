//! What is asked for, and what becomes of it.

mod support;

use std::path::Path;

use ampoule_image::ImageError;
use ampoule_image::oci::Config;
use ampoule_image::open;
use ampoule_image::rootfs::{self, RootFs};
use ampoule_image::tar_read::Kind;
use serde_json::{Value, json};
use support::{TestStore, cache, small};

/// Makes an image and returns its configuration and files.
fn made(store: &TestStore, asked: &Value) -> (Config, RootFs) {
    let (_dir, cache) = cache();
    let image = store.project(asked, &cache).unwrap();
    let opened = open::projected(image, &cache).unwrap();
    let fs = rootfs::read(&opened, &opened.image.manifests[0]).unwrap();
    (opened.configs[0].clone(), fs)
}

fn refused(store: &TestStore, asked: &Value) -> String {
    match store.plan(asked) {
        Ok(_) => panic!("this was planned: {asked}"),
        Err(error) => error.to_string(),
    }
}

fn mode(fs: &RootFs, path: &str) -> (u32, u64, u64) {
    let entry =
        fs.entries.get(path.as_bytes()).unwrap_or_else(|| panic!("no {path}: {:?}", fs.entries.keys()));
    (entry.mode, entry.uid, entry.gid)
}

#[test]
fn owners_modes_and_places() {
    let mut store = TestStore::new();
    let asked = small(&mut store);
    let (config, fs) = made(&store, &asked);
    assert_eq!(config.config.user, "65532");
    assert_eq!(config.created.as_deref(), Some("1970-01-01T00:00:01Z"));
    let app = TestStore::path("app");
    assert_eq!(mode(&fs, &format!("{}/bin/app", &app[1..])), (0o555, 0, 0));
    assert_eq!(mode(&fs, &format!("{}/share/data", &app[1..])), (0o444, 0, 0));
    assert_eq!(mode(&fs, "nix/store"), (0o755, 0, 0));
    assert_eq!(mode(&fs, "etc/motd"), (0o644, 0, 0));
    assert_eq!(mode(&fs, "etc/app.conf"), (0o600, 65532, 0));
    assert_eq!(mode(&fs, "tmp"), (0o1777, 0, 0));
    assert_eq!(mode(&fs, "var/lib/app"), (0o750, 65532, 0));
    assert_eq!(fs.entries[&b"bin"[..]].kind, Kind::Symlink);
    assert_eq!(mode(&fs, "etc/passwd"), (0o644, 0, 0));
}

#[test]
fn the_configuration_is_what_was_asked_for() {
    let mut store = TestStore::new();
    let app = store.add("app", &[("!bin/app", "x")], &[]);
    let (config, _) = made(
        &store,
        &json!({ "name": "x", "created": 1_700_000_000, "config": {
            "entrypoint": [format!("{app}/bin/app")], "cmd": ["serve"], "env": { "B": "2", "A": "1" },
            "workingDir": "/srv", "user": "1000:1000", "exposedPorts": [80, "53/udp"], "volumes": ["/data"],
            "labels": { "k": "v" }, "stopSignal": "SIGQUIT",
            "healthcheck": { "test": ["/ok"], "interval": "30s", "retries": 3 } } }),
    );
    let text = serde_json::to_value(&config).unwrap();
    assert_eq!(text["created"], "2023-11-14T22:13:20Z");
    assert_eq!(
        text["config"],
        json!({
            "User": "1000:1000", "ExposedPorts": { "53/udp": {}, "80/tcp": {} }, "Env": ["A=1", "B=2"],
            "Entrypoint": [format!("{app}/bin/app")], "Cmd": ["serve"],
            "Healthcheck": { "Test": ["CMD", "/ok"], "Interval": 30_000_000_000_i64, "Retries": 3 },
            "Volumes": { "/data": {} }, "WorkingDir": "/srv", "Labels": { "k": "v" }, "StopSignal": "SIGQUIT",
        })
    );
}

#[test]
fn what_is_mentioned_comes_with_all_that_it_refers_to() {
    let mut store = TestStore::new();
    let libc = store.add("libc", &[("lib/c", "c")], &[]);
    let lib = store.add("lib", &[("lib/l", "l")], &[&libc.clone()]);
    let app = store.add("app", &[("!bin/app", "x")], &[&lib.clone()]);
    let data = store.add("data", &[("d", "d")], &[]);
    let other = store.add("other", &[("o", "o")], &[]);
    let (_, fs) = made(
        &store,
        &json!({ "name": "x", "config": { "entrypoint": [format!("{app}/bin/app")] },
                 "files": { "/etc/x": format!("data = {data}/d\n") } }),
    );
    let has = |path: &str| fs.entries.contains_key(&path.as_bytes()[1..]);
    assert!(has(&app) && has(&lib) && has(&libc) && has(&data));
    assert!(!has(&other));
}

#[test]
fn nothing_is_dropped_however_small_the_budget() {
    let mut store = TestStore::new();
    let libs: Vec<String> = (0..25).map(|i| store.add(&format!("l{i}"), &[("x", "x")], &[])).collect();
    let root = store.add("root", &[("etc/motd", "hi")], &[]);
    for budget in [1, 2, 3, 5, 26, 100] {
        let asked = json!({ "name": "x", "contents": libs, "root": root, "layers": budget,
                            "files": { "/etc/motd": "mine" } });
        let (_dir, cache) = cache();
        let image = store.project(&asked, &cache).unwrap();
        assert!(image.manifests[0].layers.len() <= budget, "{budget}");
        let opened = open::projected(image, &cache).unwrap();
        let fs = rootfs::read(&opened, &opened.image.manifests[0]).unwrap();
        for lib in &libs {
            assert!(fs.entries.contains_key(format!("{}/x", &lib[1..]).as_bytes()), "{budget}: {lib}");
        }
        assert_eq!(fs.entries[&b"etc/motd"[..]].size_bytes, 4, "{budget}: what the file writes wins");
    }
    assert!(refused(&store, &json!({ "name": "x", "layers": 0 })).contains("expected 1 to 100"));
    assert!(refused(&store, &json!({ "name": "x", "layers": 127 })).contains("expected 1 to 100"));
}

#[test]
fn trees_meet_through_links() {
    let mut store = TestStore::new();
    let base = store.add(
        "base",
        &[("bin", "->usr/bin"), ("!usr/bin/sh", "sh"), ("lib", "->/usr/lib"), ("usr/lib/a", "a")],
        &[],
    );
    let more = store.add("more", &[("!bin/tool", "t"), ("lib/b", "b")], &[]);
    let (_, fs) = made(
        &store,
        &json!({ "name": "x", "root": [base, more], "files": { "/bin/mine": { "text": "m", "mode": "0755" } } }),
    );
    for path in ["usr/bin/sh", "usr/bin/tool", "usr/bin/mine", "usr/lib/a", "usr/lib/b"] {
        assert!(fs.entries.contains_key(path.as_bytes()), "{path}");
    }
    assert_eq!(fs.entries[&b"bin"[..]].kind, Kind::Symlink);
}

#[test]
fn case_99_names_that_delete_are_refused() {
    let mut store = TestStore::new();
    for name in [".wh.x", ".wh..wh..opq", "a/.wh..."] {
        let tree = store.add(&format!("wh{}", name.len()), &[(name, "x")], &[]);
        let (_dir, cache) = cache();
        let error = store.project(&json!({ "name": "x", "root": tree }), &cache).unwrap_err();
        assert!(error.to_string().contains("deletes another file"), "{error}");
    }
}

#[test]
fn wrong_words_are_named() {
    let mut store = TestStore::new();
    let tree = store.add("tree", &[("x", "x")], &[]);
    for (asked, word) in [
        (json!({ "name": "x", "entrypont": [] }), "entrypont"),
        (json!({ "name": "X" }), "lower-case"),
        (json!({ "name": "x", "tag": "a b" }), "is not a tag"),
        (json!({ "name": "x", "compression": "gzip:99" }), "expected 1 to 12"),
        (json!({ "name": "x", "platforms": ["amd64"] }), "is not a platform"),
        (json!({ "name": "x", "files": { "/a/../b": "t" } }), "contains `..`"),
        (json!({ "name": "x", "files": { "/a": { "text": "t", "target": "u" } } }), "wants one of"),
        (json!({ "name": "x", "config": { "exposedPorts": ["http"] } }), "is not a port"),
        (json!({ "name": "x", "config": { "user": "joe" } }), "`joe` is not in the image"),
        (json!({ "name": "x", "root": "/etc" }), "is not a path in"),
        (json!({ "name": "x", "root": format!("{tree}/x") }), "whole store object"),
        (json!({ "name": "x", "created": "yesterday" }), "expected a time"),
    ] {
        let error = refused(&store, &asked);
        assert!(error.contains(word), "{asked}: {error}");
    }
}

#[test]
fn one_index_for_several_platforms() {
    let mut store = TestStore::new();
    let a = store.add("a", &[("etc/arch", "amd64")], &[]);
    let b = store.add("b", &[("etc/arch", "arm64")], &[]);
    let asked = json!({ "name": "x", "platforms": ["linux/amd64", "linux/arm64"], "perPlatform": {
        "linux/amd64": { "root": a }, "linux/arm64": { "root": b, "config": { "env": { "X": "1" } } } } });
    let (dir, cache) = cache();
    let image = store.project(&asked, &cache).unwrap();
    assert_eq!(image.manifests.len(), 2);
    let out = dir.path().join("layout");
    image.write_layout(&cache, &out).unwrap();
    let opened = open::open(&out, None).unwrap();
    let platforms: Vec<String> =
        opened.image.manifests.iter().map(|m| m.descriptor.platform.as_ref().unwrap().to_string()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(opened.configs[1].architecture, "arm64");
    assert_eq!(opened.configs[1].config.env, Some(vec!["X=1".to_owned()]));
}

/// Puts an image into the store as a layout.
fn layout_of(store: &mut TestStore, asked: &Value) -> String {
    let name = format!("{}-layout", asked["name"].as_str().unwrap());
    let (_dir, cache) = cache();
    let image = store.project(asked, &cache).unwrap();
    let path = store.add(&name, &[], &[]);
    image.write_layout(&cache, &store.physical(&name)).unwrap();
    path
}

/// What lies above a base has the layers that it leaves.
#[test]
fn a_base_of_many_layers_leaves_the_rest() {
    let mut store = TestStore::new();
    let objects: Vec<String> =
        (0..120).map(|i| store.add(&format!("object{i}"), &[("x", &i.to_string())], &[])).collect();
    let asked = |name: &str, base: Option<&str>| json!({ "name": name, "layers": 100, "contents": objects, "base": base, "lint": false });
    let low = layout_of(&mut store, &asked("low", None));
    let full = asked("full", Some(&low));
    let (config, _) = made(&store, &full);
    assert_eq!(config.rootfs.diff_ids.len(), 127);
    let full = layout_of(&mut store, &full);
    let error = store.plan(&asked("more", Some(&full))).err().unwrap().to_string();
    assert!(error.contains("`base` has 127 layers") && error.contains("no room"), "{error}");
}

#[test]
fn a_base_lies_below_and_gives_what_is_not_said() {
    let mut store = TestStore::new();
    let tree = store.add("base-tree", &[("!bin/app", "x"), ("etc/a", "a")], &[]);
    let layout = layout_of(
        &mut store,
        &json!({ "name": "base", "root": tree, "config": { "entrypoint": ["/bin/app"], "env": { "A": "1", "B": "1" } } }),
    );
    let (config, fs) = made(
        &store,
        &json!({ "name": "x", "base": { "layout": layout }, "files": { "/etc/b": "b" }, "config": { "env": { "B": "2" } } }),
    );
    assert_eq!(config.config.entrypoint, Some(vec!["/bin/app".to_owned()]));
    assert_eq!(config.config.env, Some(vec!["A=1".to_owned(), "B=2".to_owned()]));
    assert!(fs.entries.contains_key(&b"etc/a"[..]) && fs.entries.contains_key(&b"etc/b"[..]));
    assert_eq!(config.history.len(), config.rootfs.diff_ids.len());
}

fn lint(store: &TestStore, asked: &Value) -> Vec<String> {
    match store.plan(asked) {
        Ok(_) => Vec::new(),
        Err(ImageError::Lint { found, hints }) => {
            assert_eq!(hints.is_empty(), found.iter().all(|line| line.starts_with("secret: ")), "{hints:?}");
            found
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_lint_refuses_what_cannot_run() {
    let mut store = TestStore::new();
    let script = store.add(
        "script",
        &[("!bin/x", "#!/bin/sh\n"), ("gone", "->nowhere"), ("proc", "->/proc/self")],
        &[],
    );
    let all = lint(
        &store,
        &json!({ "name": "x", "root": script.clone(), "config": { "entrypoint": ["/bin/none"], "user": "root" } }),
    );
    for kind in
        ["missing-interpreter: /bin/x", "dangling-link: /gone", "missing-entrypoint: /bin/none", "root-user"]
    {
        assert!(all.iter().any(|line| line.starts_with(kind)), "{kind}: {all:?}");
    }
    assert_eq!(all.len(), 4, "{all:?}");
    let allowed = json!({ "name": "x", "root": script.clone(), "config": { "user": "root" },
                          "lint": { "allow": ["root-user", "dangling-link", "/bin/*"] } });
    assert!(lint(&store, &allowed).is_empty());
    let setuid = json!({ "name": "x", "root": script, "permissions": { "/bin/x": { "mode": "4755" } },
                         "lint": { "allow": ["dangling-link", "missing-interpreter"] } });
    assert!(lint(&store, &setuid)[0].starts_with("setuid: /bin/x"));
}

#[test]
fn the_lint_says_what_to_do() {
    let refused = |store: &TestStore, asked: &Value| match store.plan(asked) {
        Err(error @ ImageError::Lint { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{asked} passes"),
    };
    let files = [("!usr/bin/tool", "#!/usr/bin/perl\n")];
    // `entrypoint = [ "${debianTree}/usr/bin/tool" ]`: the tree lies in the store, its program looks at `/`.
    let mut store = TestStore::new();
    let tree = store.add("debian-tree", &files, &[]);
    let program = format!("{tree}/usr/bin/tool");
    let aside = json!({ "name": "x", "contents": [tree], "config": { "entrypoint": [program] } });
    let told = refused(&store, &aside);
    assert!(told.starts_with("the image does not pass its lint\n  missing-interpreter: /"), "{told}");
    assert!(told.contains("/usr/bin/perl"), "{told}");
    assert!(
        told.contains("\n  help: a tree of Debian packages belongs at `/`: put it into `contents`"),
        "{told}"
    );
    assert!(
        told.ends_with(
            "\n  help: what is meant so is let through by `lint.allow = [ \"missing-interpreter\" ]`, or by its path there"
        ),
        "{told}"
    );
    // The same at `/` lacks the interpreter alone.
    let mut store = TestStore::new();
    let tree = store.add("debian-tree", &files, &[]);
    let told =
        refused(&store, &json!({ "name": "x", "root": tree, "config": { "entrypoint": ["/usr/bin/tool"] } }));
    assert!(told.contains("\n  help: add what has it to `contents`"), "{told}");
    assert!(!told.contains("belongs at `/`"), "{told}");
}

#[test]
fn secrets_are_refused_and_not_repeated() {
    let mut store = TestStore::new();
    let key = "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n";
    let tree =
        store.add("tree", &[("etc/server.pem", key), ("srv/.netrc", "machine x password s3cret")], &[]);
    let mut asked = json!({
        "name": "x", "root": tree, "files": { "/etc/own.key": key },
        "config": { "env": { "DB": "postgres://app:s3cret@db/app", "PASSWORD_FILE": "/run/secrets/x" },
                    "labels": { "note": format!("ghp_{}", "s3cretA1".repeat(5)) } },
    });
    let found = lint(&store, &asked);
    let places = ["/etc/own.key", "/etc/server.pem", "/srv/.netrc", "config.env.DB", "config.labels.note"];
    for place in places {
        assert!(
            found.iter().any(|line| line.starts_with(&format!("secret: {place}: "))),
            "{place}: {found:?}"
        );
    }
    assert_eq!(found.len(), places.len(), "{found:?}");
    assert!(!found.join("").contains("s3cret"), "{found:?}");
    asked["lint"] = json!({ "allow": ["secret"] });
    assert!(lint(&store, &asked).is_empty());
}

#[test]
fn programs_need_their_libraries_and_their_machine() {
    // This very test is a program with a loader and libraries.
    let exe = std::env::current_exe().unwrap();
    let Some(facts) = ampoule_image::elf::read(&exe).unwrap() else { return };
    let mut store = TestStore::new();
    let tree = store.add_copy("prog", "bin/prog", &exe);
    let (ours, other) = if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") };
    let asked = |arch: &str| json!({ "name": "x", "root": tree, "platforms": [format!("linux/{arch}")], "config": { "entrypoint": ["/bin/prog"] } });
    let wrong = lint(&store, &asked(other));
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].starts_with("wrong-architecture: /bin/prog"), "{wrong:?}");
    if !facts.needed.is_empty() {
        let missing = lint(&store, &asked(ours));
        assert!(missing.iter().any(|line| line.starts_with("missing-library: /bin/prog")), "{missing:?}");
        assert!(missing.iter().any(|line| line.starts_with("missing-interpreter: /bin/prog")), "{missing:?}");
    }
}

#[test]
fn slim_keeps_what_runs() {
    let mut store = TestStore::new();
    let record = "Package: app\nVersion: 1\nArchitecture: all\nDepends: unused\n";
    let root = store.add(
        "tree",
        &[
            ("bin", "->usr/bin"),
            ("!usr/bin/app", "#!/bin/sh -e\ntool --config /etc/app/app.conf\n"),
            ("!usr/bin/sh", "sh"),
            ("!usr/bin/tool", "#!/bin/sh\n"),
            ("!usr/bin/unused", "unused"),
            ("etc/app/app.conf", "include parts/*.conf\ninclude /etc/app/parts/*.conf\n"),
            ("etc/app/parts/a.conf", "x"),
            ("etc/other.conf", "x"),
            ("usr/share/doc/app/copyright", "free"),
            ("usr/share/doc/app/README", "long"),
            ("usr/share/extra/data", "x"),
            ("var/lib/dpkg/status.d/app", record),
            ("var/lib/dpkg/status.d/app.md5sums", "0  usr/bin/app\n0  usr/share/doc/app/README\n"),
            ("var/lib/dpkg/status.d/unused", "Package: unused\nVersion: 2\n"),
            ("var/lib/dpkg/status.d/unused.md5sums", "0  usr/bin/unused\n"),
        ],
        &[],
    );
    let asked = json!({ "name": "x", "root": root, "slim": { "keep": ["/usr/share/extra"] },
                        "config": { "entrypoint": ["app"] } });
    let (_, fs) = made(&store, &asked);
    let kept: Vec<String> = fs
        .entries
        .iter()
        .filter(|(_, e)| e.kind != Kind::Directory)
        .map(|(path, _)| String::from_utf8_lossy(path).into_owned())
        .collect();
    assert_eq!(
        kept,
        [
            "bin",
            "etc/app/app.conf",
            "etc/app/parts/a.conf",
            "etc/group",
            "etc/passwd",
            "usr/bin/app",
            "usr/bin/sh",
            "usr/bin/tool",
            "usr/share/doc/app/copyright",
            "usr/share/extra/data",
            "var/lib/dpkg/status.d/app",
            "var/lib/dpkg/status.d/app.md5sums",
        ]
    );
}

#[test]
fn a_bill_of_materials_names_packages_and_objects() {
    let mut store = TestStore::new();
    let root = store.add(
        "tree",
        &[(
            "var/lib/dpkg/status.d/zlib1g",
            "Package: zlib1g\nVersion: 1:1.2+dfsg-1\nArchitecture: amd64\nSource: zlib\n",
        )],
        &[],
    );
    let app = store.add("app-1.0", &[("x", "x")], &[]);
    let (out, _, _) = store
        .plan(&json!({ "name": "x", "root": root, "contents": app, "packages": [
            { "name": "serde", "version": "1.0.1", "type": "cargo", "sha256": "ab" } ] }))
        .unwrap();
    let read = |name: &str| -> Value {
        let path: &Path = out.path();
        serde_json::from_slice(&std::fs::read(path.join("object/sbom").join(name)).unwrap()).unwrap()
    };
    let spdx = read("spdx.json");
    let text = spdx.to_string();
    assert!(text.contains("pkg:deb/debian/zlib1g@1%3A1.2%2Bdfsg-1?arch=amd64&upstream=zlib"), "{text}");
    assert!(text.contains("pkg:cargo/serde@1.0.1") && text.contains("app-1.0"));
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    let cyclonedx = read("cyclonedx.json");
    assert_eq!(cyclonedx["components"].as_array().unwrap().len(), 4);
}
