//! A composed tree is as many layers as its packages want.

mod support;

use std::collections::BTreeSet;

use ampoule_image::inspect;
use ampoule_image::project::{Image, Need, Projector};
use ampoule_image::slices::SliceLists;
use ampoule_image::{open, rootfs, why};
use serde_json::{Value, json};
use support::{TestStore, cache};

/// A tree of `count` packages, each with a program, a record and a link; `newer` has
/// another version.
fn composed(store: &mut TestStore, count: usize, newer: Option<usize>) -> Value {
    let mut files: Vec<(String, String)> = vec![("etc/passwd".into(), "root:x:0:0::/:/bin/sh\n".into())];
    files.push(("bin".into(), "->usr/bin".into()));
    files.push(("var/empty/".into(), String::new()));
    let (mut owners, mut entries) = (json!({}), json!({}));
    for i in 0..count {
        let version = if newer == Some(i) { "2" } else { "1" };
        let name = format!("pkg{i}");
        let own = [
            (format!("!usr/bin/prog{i}"), format!("program {i} {version}\n").repeat(i * 40 + 1)),
            (format!("usr/bin/alias{i}"), format!("->prog{i}")),
            (format!("usr/share/shared/{i}"), "data\n".to_owned()),
            (
                format!("var/lib/dpkg/status.d/{name}"),
                format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n"),
            ),
        ];
        let paths: Vec<&str> = own.iter().map(|(path, _)| path.trim_start_matches('!')).collect();
        owners[&name] = json!({ "id": format!("{name}-{version}"), "paths": paths });
        entries[format!("usr/share/shared/{i}")] = json!({ "mode": "0640", "uid": 0, "gid": 7 });
        files.extend(own);
    }
    entries["usr/share/shared"] = json!({ "mode": "2775", "uid": 0, "gid": 7 });
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let name = format!("root-{count}-{newer:?}");
    let tree = store.add(&name, &files, &[]);
    let meta = json!({ "entries": entries, "owners": owners }).to_string();
    let meta = store.add(&format!("{name}-meta"), &[("meta.json", &meta)], &[]);
    json!({ "tree": tree, "meta": format!("{meta}/meta.json") })
}

fn asked(root: &Value, layers: u32) -> Value {
    json!({ "name": "many", "root": [root], "layers": layers, "config": { "entrypoint": ["/bin/prog0"] },
            "slim": false, "files": { "/usr/share/shared/own": "mine" } })
}

fn made(image: &Image) -> Vec<&str> {
    let layers = image.manifests[0].layers.iter();
    layers.filter(|layer| layer.made).map(|layer| layer.name.as_str()).collect()
}

#[test]
fn a_new_version_of_a_package_makes_one_layer() {
    for layers in [6, 20, 60] {
        let mut store = TestStore::new();
        let (_dir, cache) = cache();
        let before = composed(&mut store, 40, None);
        let first = store.project(&asked(&before, layers), &cache).unwrap();
        let count = first.manifests[0].layers.len();
        assert!(count <= layers as usize && count > 4, "{count} layers of {layers}");
        assert_eq!(made(&first).len(), count);
        let after = composed(&mut store, 40, Some(23));
        let second = store.project(&asked(&after, layers), &cache).unwrap();
        assert_eq!(made(&second).len(), 1, "{layers}: {:?}", made(&second));
        assert_ne!(second.top.digest, first.top.digest);
        // And the digests of all others are the same, whoever made them.
        let digests = |image: &Image| -> BTreeSet<_> {
            image.manifests[0].layers.iter().map(|layer| layer.blob.digest).collect()
        };
        assert_eq!(digests(&first).intersection(&digests(&second)).count(), count - 1);
    }
}

/// Whatever the budget, the files, their owners and modes are the same.
#[test]
fn the_files_do_not_depend_on_the_layers() {
    let mut store = TestStore::new();
    let root = composed(&mut store, 12, None);
    let mut seen = Vec::new();
    for layers in [1, 2, 3, 5, 20] {
        let (_dir, cache) = cache();
        let image = store.project(&asked(&root, layers), &cache).unwrap();
        let opened = open::projected(image, &cache).unwrap();
        let fs = rootfs::read(&opened, &opened.image.manifests[0]).unwrap();
        let mut entries = fs.entries.clone();
        // In which layer a body lies is what differs.
        entries.values_mut().for_each(|e| (e.layer, e.body, e.is_alias) = (0, None, false));
        let shared = &entries[&b"usr/share/shared".to_vec()];
        assert_eq!((shared.mode, shared.gid), (0o2775, 7), "with {layers} layers");
        assert!(entries.contains_key(b"var/empty".as_slice()) && entries.contains_key(b"bin".as_slice()));
        assert_eq!(entries[&b"usr/share/shared/3".to_vec()].mode, 0o640);
        seen.push(entries);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn slim_slices_hold_what_is_kept() {
    let mut store = TestStore::new();
    let (_dir, cache) = cache();
    let mut asked = asked(&composed(&mut store, 12, None), 20);
    asked["slim"] = true.into();
    let image = store.project(&asked, &cache).unwrap();
    let opened = open::projected(image, &cache).unwrap();
    let fs = rootfs::read(&opened, &opened.image.manifests[0]).unwrap();
    assert!(fs.entries.contains_key(b"usr/bin/prog0".as_slice()));
    assert!(!fs.entries.contains_key(b"usr/bin/prog1".as_slice()));
    assert!(fs.entries.contains_key(b"var/lib/dpkg/status.d/pkg0".as_slice()));
}

#[test]
fn people_are_told_which_package_is_where() {
    let mut store = TestStore::new();
    let (_dir, cache) = cache();
    let root = composed(&mut store, 12, None);
    let (out, plan, _) = store.plan(&asked(&root, 20)).unwrap();
    let own = out.path().join("object");
    let projector = Projector {
        cache: &cache,
        objects: &store,
        own: &own,
        threads: None,
        compression: None,
        slices: SliceLists::default(),
    };
    let explained = inspect::explain(&plan.platforms[0]);
    let holder = explained.iter().find(|layer| layer.name == "pkg3").expect("a layer of its own");
    assert_eq!(holder.holds.len(), 1);
    assert!(holder.holds[0].starts_with("pkg3 1 (4 paths, "), "{:?}", holder.holds);
    let found = why::why_planned(&projector, &store, &plan, "/usr/bin/alias3").unwrap();
    assert_eq!((found[0].layer.as_str(), found[0].package.as_deref()), ("pkg3", Some("pkg3")));
    let found = why::why_planned(&projector, &store, &plan, "/var/empty").unwrap();
    assert_eq!((found[0].layer.as_str(), &found[0].package), ("composed", &None));
    projector.project(&plan, Need::Blobs).unwrap();
}
