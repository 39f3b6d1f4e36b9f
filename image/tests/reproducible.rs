//! The same image is the same bytes: whoever makes it, wherever, whenever.

mod support;

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ampoule_image::blobs::BlobCache;
use ampoule_image::compress::Compression;
use ampoule_image::entry::{self, Entry};
use ampoule_image::layer::{LayerBlob, LayerJob, write_layers};
use ampoule_image::walk::{self, Modes};
use support::{TestStore, cache, small};

/// A tree with everything that a tree has: sizes around block and piece borders,
/// long and foreign names, links, equal files, empty directories.
fn make_tree(at: &Path, order: &dyn Fn(usize) -> usize) {
    let noise = |seed: u64, len: usize| -> Vec<u8> {
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..len)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                (x % 61) as u8
            })
            .collect()
    };
    let sizes = [0, 1, 511, 512, 513, 70_000, (1 << 20) - 1024, 1 << 20, (2 << 20) + 7, 100];
    for i in 0..sizes.len() {
        let i = order(i) % sizes.len();
        let dir = at.join(format!("d{}", i % 3));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{i}")), noise(i as u64, sizes[i])).unwrap();
    }
    let deep = at.join("a".repeat(120)).join("b".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("c".repeat(120)), "long").unwrap();
    fs::write(at.join("größe ñ"), "foreign").unwrap();
    fs::create_dir_all(at.join("empty")).unwrap();
    symlink("d0/f0", at.join("link")).unwrap();
    symlink("x".repeat(150), at.join("long-link")).unwrap();
    // Alike: a hard link in the layer, whether or not it is one on this machine.
    fs::write(at.join("copy"), noise(5, 70_000)).unwrap();
    fs::write(at.join("tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn pack(tree: &Path, compression: &str, threads: Option<usize>) -> LayerBlob {
    let (_dir, cache) = cache();
    let entries = walk::read_tree(tree, b"", Modes::Root).unwrap();
    let mut entries = entry::settle(entries, &|path| Entry::directory(path, 0o755)).unwrap();
    walk::link_equal_files(&mut entries).unwrap();
    let blob = cache.start().unwrap();
    let job = [LayerJob { entries: &entries, file: blob.file(), path: blob.path() }];
    let compression = Compression::parse(compression).unwrap();
    let made = write_layers(&job, compression, threads.and_then(NonZeroUsize::new)).unwrap().remove(0);
    let bytes = fs::read(blob.path()).unwrap();
    assert_eq!(ampoule_image::Digest::of(&bytes), made.digest, "the digest is that of the file");
    assert_eq!(bytes.len() as u64, made.size_bytes);
    made
}

fn each_path(at: &Path, change: &dyn Fn(&Path)) {
    for found in fs::read_dir(at).unwrap() {
        let found = found.unwrap();
        if found.file_type().unwrap().is_dir() {
            each_path(&found.path(), change);
        }
        change(&found.path());
    }
}

#[test]
fn seven_variations_and_any_number_of_threads() {
    let first = tempfile::tempdir().unwrap();
    make_tree(first.path(), &|i| i);
    for how in ["none", "gzip", "gzip:6", "zstd"] {
        let expected = pack(first.path(), how, None);
        // 1: again; and on other numbers of threads.
        for threads in [1, 2, 3, 7, 16] {
            assert_eq!(pack(first.path(), how, Some(threads)), expected, "{how}, {threads} threads");
        }
        // 2, 7: another directory, made in another order.
        let other = tempfile::tempdir_in(first.path().parent().unwrap()).unwrap();
        make_tree(&other.path().join("deeper/tree"), &|i| 9 - i);
        let other = other.path().join("deeper/tree");
        assert_eq!(pack(&other, how, None), expected, "{how}, another directory and order");
        // 3: other times.
        each_path(&other, &|path| {
            if let Ok(file) = fs::File::open(path) {
                let _ = file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(12_345_678));
            }
        });
        assert_eq!(pack(&other, how, None), expected, "{how}, other times");
        // 4: another owner, where we may say so.
        each_path(&other, &|path| {
            let _ = std::os::unix::fs::lchown(path, Some(1234), Some(5678));
        });
        assert_eq!(pack(&other, how, None), expected, "{how}, another owner");
        // 5, 6: modes as another umask, and a person, would leave them.
        each_path(&other, &|path| {
            let meta = fs::symlink_metadata(path).unwrap();
            if !meta.is_symlink() {
                let x = meta.permissions().mode() & 0o100;
                fs::set_permissions(path, fs::Permissions::from_mode(0o600 | x)).unwrap();
            }
        });
        assert_eq!(pack(&other, how, None), expected, "{how}, other modes");
        // And an inode that two names share here.
        fs::remove_file(other.join("copy")).unwrap();
        fs::hard_link(other.join("d2/f5"), other.join("copy")).unwrap();
        assert_eq!(pack(&other, how, None), expected, "{how}, a hard link on this machine");
    }
}

#[test]
fn the_tar_reads_back_as_what_was_packed() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path(), &|i| i);
    let (_dir, cache) = cache();
    let entries = walk::read_tree(tree.path(), b"", Modes::Root).unwrap();
    let entries = entry::settle(entries, &|path| Entry::directory(path, 0o755)).unwrap();
    let blob = cache.start().unwrap();
    let job = [LayerJob { entries: &entries, file: blob.file(), path: blob.path() }];
    write_layers(&job, Compression::None, None).unwrap();
    // Another program's eyes.
    let out = tempfile::tempdir().unwrap();
    support::run("tar", &["-xf", blob.path().to_str().unwrap(), "-C", out.path().to_str().unwrap()]);
    support::run(
        "diff",
        &["-r", "--no-dereference", tree.path().to_str().unwrap(), out.path().to_str().unwrap()],
    );
    // And our own.
    let mut reader = ampoule_image::tar_read::TarReader::new(fs::File::open(blob.path()).unwrap());
    let mut seen = Vec::new();
    while let Some(found) = reader.next_entry().unwrap() {
        seen.push(found.path);
    }
    let names: Vec<Vec<u8>> = entries.iter().map(|e| e.path.to_vec()).collect();
    assert_eq!(seen, names);
}

#[test]
fn an_image_is_the_same_from_another_store_and_cache() {
    let digest = || {
        let mut store = TestStore::new();
        let asked = small(&mut store);
        let (_dir, cache) = cache();
        store.project(&asked, &cache).unwrap().top.digest
    };
    assert_eq!(digest(), digest());
}

#[test]
fn a_change_makes_one_layer_and_no_change_makes_none() {
    let mut store = TestStore::new();
    let libs: Vec<String> = (0..30)
        .map(|i| store.add(&format!("lib{i}-1.{i}"), &[("lib/x", &format!("lib {i}"))], &[]))
        .collect();
    let asked = |libs: &[String]| serde_json::json!({ "name": "many", "contents": libs, "layers": 10 });
    let (_dir, cache) = cache();
    let made = |image: &ampoule_image::project::Image| {
        image.manifests[0].layers.iter().filter(|layer| layer.made).count()
    };
    let first = store.project(&asked(&libs), &cache).unwrap();
    assert!(first.manifests[0].layers.len() <= 10);
    assert_eq!(made(&first), first.manifests[0].layers.len());
    let again = store.project(&asked(&libs), &cache).unwrap();
    assert_eq!((made(&again), again.top.digest), (0, first.top.digest));
    let mut changed = libs.clone();
    changed[20] = store.add("lib20-2.0", &[("lib/x", "another lib 20")], &[]);
    assert_eq!(made(&store.project(&asked(&changed), &cache).unwrap()), 1);
}

#[test]
fn a_blob_cut_short_is_made_again() {
    let mut store = TestStore::new();
    let asked = small(&mut store);
    let (_dir, cache): (_, BlobCache) = cache();
    let first = store.project(&asked, &cache).unwrap();
    let layer = &first.manifests[0].layers[0];
    fs::remove_file(&layer.path).unwrap();
    fs::write(&layer.path, "").unwrap();
    let again = store.project(&asked, &cache).unwrap();
    assert!(again.manifests[0].layers[0].made);
    assert_eq!(again.top.digest, first.top.digest);
}

#[test]
fn collecting_keeps_what_images_that_are_there_are_made_of() {
    let mut store = TestStore::new();
    let (_dir, cache) = cache();
    let kept = small(&mut store);
    let mut gone = kept.clone();
    gone["files"]["/etc/other"] = "other".into();
    let project = |asked: &serde_json::Value| {
        let (out, plan, _) = store.plan(asked).unwrap();
        let own = out.path().join("object");
        let image = store.project(asked, &cache).unwrap();
        cache.note_plan(&image.top.digest, &own).unwrap();
        assert_eq!(plan.name, image.name);
        (out, image)
    };
    let (_own, first) = project(&kept);
    let (other, second) = project(&gone);
    drop(other);
    fs::write(cache.root().join("tmp/blob-of-a-killed-process"), "x").unwrap();
    // Somebody else is at work.
    let busy = BlobCache::open(cache.root()).unwrap();
    assert_eq!(cache.collect(&|_| Ok(())).unwrap(), None);
    drop(busy);
    let collected = cache.collect(&|_| Ok(())).unwrap().expect("nobody else is at work");
    // The layer that only the second has, its plan, and the killed process's file.
    assert_eq!(collected.files, 3, "{collected:?}");
    let has = |image: &ampoule_image::project::Image| {
        let layers = image.manifests[0].layers.iter();
        layers.filter(|layer| cache.has(&layer.blob.digest, layer.blob.size_bytes)).count()
    };
    assert_eq!((has(&first), has(&second)), (3, 2));
    assert_eq!(store.project(&gone, &cache).unwrap().top.digest, second.top.digest);
    assert!(cache.collect(&|_| Ok(())).unwrap().is_some(), "and again");
}
