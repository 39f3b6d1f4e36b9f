//! Objects go in, are canonical, are found, and go out again.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use ampoule_store::{
    AddOptions, ContentAddress, GcOptions, Hash, HashAlgo, Method, ObjectInfo, Registered, Staged,
    StoreError, hash_path,
};
use common::{Place, sample_tree};

fn walk(at: &std::path::Path, out: &mut Vec<std::path::PathBuf>) {
    out.push(at.to_owned());
    if std::fs::symlink_metadata(at).unwrap().is_dir() {
        for entry in std::fs::read_dir(at).unwrap() {
            walk(&entry.unwrap().path(), out);
        }
    }
}

#[test]
fn a_tree_goes_in_canonically() {
    let place = Place::new();
    let source = place.path("src");
    sample_tree(&source);
    let info = place.tree("sample", &source);
    let real = place.store.real_path(&info.path);
    let mut all = Vec::new();
    walk(&real, &mut all);
    assert!(all.len() > 300);
    for path in all {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(meta.mtime(), 1, "{path:?}");
        if !meta.is_symlink() {
            let is_exec = meta.is_dir() || path.ends_with("bin/run");
            assert_eq!(meta.permissions().mode() & 0o7777, if is_exec { 0o555 } else { 0o444 }, "{path:?}");
        }
    }
    // The same bytes hash alike wherever they lie.
    let (hash, size) = hash_path(&source, Method::Nar, HashAlgo::Sha256).unwrap();
    assert_eq!((hash, size), (info.nar_hash, info.nar_size_bytes));
    assert_eq!(place.store.hash_object(&info.path).unwrap(), (hash, size));
    assert_eq!(place.tree("sample", &source), info);
}

#[test]
fn a_nar_goes_out_and_in_again() {
    let (a, b) = (Place::new(), Place::new());
    let source = a.path("src");
    sample_tree(&source);
    let info = a.tree("sample", &source);
    let mut nar = Vec::new();
    assert_eq!(a.store.dump(&info.path, &mut nar).unwrap(), nar.len() as u64);
    assert_eq!(Hash::sha256(&nar), info.nar_hash);
    let added = b.store.add_nar(&nar[..], info.clone()).unwrap();
    assert!(matches!(added, Registered::New(_)));
    assert_eq!(b.store.hash_object(&info.path).unwrap().0, info.nar_hash);
    assert!(matches!(b.store.add_nar(&nar[..], info).unwrap(), Registered::WasValid(_)));
}

#[test]
fn a_filter_sees_each_file_once_in_order() {
    let place = Place::new();
    let source = place.path("src");
    sample_tree(&source);
    let mut seen = Vec::new();
    let mut filter = |path: &std::path::Path, _| {
        seen.push(path.to_owned());
        Ok(!path.starts_with("many"))
    };
    let info = place.store.add_path(&source, &AddOptions::source("x"), Some(&mut filter)).unwrap();
    assert!(!place.store.real_path(&info.path).join("many").exists());
    assert!(place.store.real_path(&info.path).join("bin/run").exists());
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(seen.len(), sorted.len());
    assert!(!seen.iter().any(|p| p.starts_with("many/d1")));
}

#[test]
fn flat_takes_files_only() {
    let place = Place::new();
    let source = place.path("src");
    std::fs::write(&source, "hello").unwrap();
    let mut options = AddOptions::source("x");
    options.method = Method::Flat;
    let info = place.store.add_path(&source, &options, None).unwrap();
    let address = ContentAddress { method: Method::Flat, hash: Hash::sha256(b"hello") };
    assert_eq!(info.address, Some(address));
    assert_eq!(info.path, place.store.dir().fixed_path("x", &address).unwrap());
    let error = place.store.add_path(place.dir.path(), &options, None).unwrap_err();
    assert!(matches!(error, StoreError::NotFlat { found: "a directory", .. }), "{error}");
}

#[test]
fn an_output_is_made_canonical_and_its_references_found() {
    let place = Place::new();
    let input = place.text("input", "in", &[]);
    let other = place.text("other", "ot", &[]);
    let out = ampoule_store::StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-out").unwrap();
    let staging = place.store.staging().unwrap();
    let at = staging.path().join("o");
    std::fs::create_dir(&at).unwrap();
    std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(at.join("f"), format!("see {} and {}", input, out)).unwrap();
    std::fs::set_permissions(at.join("f"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::write(staging.path().join("outside"), "shared").unwrap();
    std::fs::hard_link(staging.path().join("outside"), at.join("linked")).unwrap();
    std::fs::create_dir(at.join("secret")).unwrap();
    std::fs::write(at.join("secret/f"), "x").unwrap();
    std::fs::set_permissions(at.join("secret/f"), std::fs::Permissions::from_mode(0o0)).unwrap();
    std::fs::set_permissions(at.join("secret"), std::fs::Permissions::from_mode(0o0)).unwrap();

    let candidates = [input.clone(), other, out.clone()].into();
    let staged: Staged = place.store.stage_in_place(staging.fd(), c"o", candidates).unwrap();
    assert_eq!(staged.references, [input, out.clone()].into());
    let mut info = ObjectInfo::new(out.clone(), staged.nar_hash, staged.nar_size_bytes);
    info.references = staged.references.clone();
    place.store.register(staging.fd(), &staged, info, None).unwrap();

    let real = place.store.real_path(&out);
    let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&real), 0o555);
    assert_eq!(mode(&real.join("f")), 0o555);
    assert_eq!(mode(&real.join("secret")), 0o555);
    assert_eq!(mode(&real.join("secret/f")), 0o444);
    assert_eq!(mode(&real.join("linked")), 0o444);
    // The other name of the same inode is as it was.
    let outside = std::fs::metadata(staging.path().join("outside")).unwrap();
    assert_ne!(outside.permissions().mode() & 0o777, 0o444);
    assert_ne!(outside.mtime(), 1);
    assert_eq!(place.store.hash_object(&out).unwrap().0, staged.nar_hash);
}

#[test]
fn the_top_of_an_output_must_not_be_writable_by_others() {
    let place = Place::new();
    let staging = place.store.staging().unwrap();
    std::fs::write(staging.path().join("o"), "x").unwrap();
    std::fs::set_permissions(staging.path().join("o"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = place.store.stage_in_place(staging.fd(), c"o", Default::default()).unwrap_err();
    assert!(matches!(error, StoreError::WritableByOthers { .. }), "{error}");
}

#[test]
fn a_closure_and_its_referrers() {
    let place = Place::new();
    let a = place.text("a", "a", &[]);
    let b = place.text("b", "b", &[&a]);
    let c = place.text("c", "c", &[&a, &b]);
    assert_eq!(place.store.closure_of([c.clone()]).unwrap(), [a.clone(), b.clone(), c.clone()].into());
    assert_eq!(place.store.referrers(&a).unwrap(), [b, c].into());
}

#[test]
fn garbage_is_what_no_root_reaches() {
    let place = Place::new();
    let (kept, dead) = {
        let store = place.again();
        let add = |name: &str, refs: &[&ampoule_store::StorePath]| {
            store.add_text(name, name.as_bytes(), refs.iter().map(|p| (*p).clone()).collect()).unwrap()
        };
        let a = add("a", &[]);
        let b = add("b", &[&a]);
        let c = add("c", &[&a]);
        let source = place.path("src");
        sample_tree(&source);
        let d = store.add_path(&source, &AddOptions::source("d"), None).unwrap().path;
        store.add_root("keep-b", &b).unwrap();
        // As long as this process lives, nothing that it made goes.
        assert_eq!(store.gc(&GcOptions::default()).unwrap().dead, []);
        (vec![a, b], vec![c, d])
    };
    let dry = place.store.gc(&GcOptions { dry_run: true, ..GcOptions::default() }).unwrap();
    let report = place.store.gc(&GcOptions::default()).unwrap();
    assert_eq!(dry.dead, report.dead);
    let mut found = report.dead.clone();
    found.sort();
    let mut expected = dead.clone();
    expected.sort();
    assert_eq!(found, expected);
    assert!(report.freed_bytes > 6_000_000, "{}", report.freed_bytes);
    assert!(kept.iter().all(|p| place.store.is_valid(p).unwrap()));
    assert!(dead.iter().all(|p| !place.store.real_path(p).exists()));
    assert_eq!(std::fs::read_dir(place.store.root().path().join("trash")).unwrap().count(), 0);
}

#[test]
fn what_another_user_built_becomes_ours() {
    use std::os::unix::fs::{chown, lchown};
    let place = Place::new();
    let staging = place.store.staging().unwrap();
    let at = staging.path().join("o");
    std::fs::create_dir_all(at.join("d")).unwrap();
    std::fs::write(at.join("d/f"), "x").unwrap();
    std::os::unix::fs::symlink("f", at.join("d/l")).unwrap();
    let ours = std::fs::metadata(&at).unwrap().uid();
    if ours != 0 {
        println!("skipped: only root can give files away");
        return;
    }
    for name in ["", "d", "d/f"] {
        chown(at.join(name), Some(4242), Some(4242)).unwrap();
    }
    lchown(at.join("d/l"), Some(4242), Some(4242)).unwrap();
    place.store.stage_in_place(staging.fd(), c"o", Default::default()).unwrap();
    for name in ["", "d", "d/f", "d/l"] {
        let meta = std::fs::symlink_metadata(at.join(name)).unwrap();
        assert_eq!(meta.uid(), ours, "{name}");
    }
}
