//! Cases 127 to 147: what is lost, changed, full, half-made or held by others.

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ampoule_store::{
    AddOptions, Damage, GcOptions, Hash, ObjectInfo, Registered, Store, StoreError, StorePath, StoreRoot,
    StoreSettings, nar,
};
use common::{Place, make_writable, open, sample_tree};

fn write(path: &Path, contents: &str) {
    let mode = std::fs::metadata(path).unwrap().permissions();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, contents).unwrap();
    std::fs::set_permissions(path, mode).unwrap();
}

fn info_file(place: &Place, path: &StorePath) -> PathBuf {
    place.store.root().path().join("info").join(path.as_str())
}

fn problems(store: &Store) -> Vec<(String, Damage)> {
    store.verify(true, None).unwrap().problems.into_iter().map(|p| (p.path, p.damage)).collect()
}

#[test]
fn case_127_files_lost_in_a_power_cut_are_not_used() {
    let place = Place::new();
    let (whole, lost) = (place.text("whole", "whole", &[]), place.text("lost", "lost", &[]));
    // As if all this had been written before the machine stopped, and one file had not reached the
    // disk.
    for path in [&whole, &lost] {
        let file = info_file(&place, path);
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|l| match l.strip_prefix("epoch ") {
            Some(rest) => format!("epoch {} another-boot\n", rest.split(' ').next().unwrap()),
            None => format!("{l}\n"),
        });
        std::fs::write(&file, lines.collect::<String>()).unwrap();
    }
    write(&place.store.real_path(&lost), "");
    let store = place.again();
    assert!(store.is_valid(&whole).unwrap());
    assert!(!store.is_valid(&lost).unwrap());
    // It is made again.
    store.add_text("lost", b"lost", BTreeSet::new()).unwrap();
    assert_eq!(std::fs::read(store.real_path(&lost)).unwrap(), b"lost");
    // A shortened info file is none.
    let file = info_file(&place, &whole);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() - 5]).unwrap();
    assert!(!store.is_valid(&whole).unwrap());
    store.sync().unwrap();
}

#[test]
fn case_127_what_was_synchronised_is_not_hashed_again() {
    let place = Place::new();
    let path = place.text("a", "a", &[]);
    place.store.sync().unwrap();
    let file = info_file(&place, &path);
    let text = std::fs::read_to_string(&file).unwrap();
    let boot =
        text.lines().find_map(|l| l.strip_prefix("epoch ")).unwrap().split(' ').nth(1).unwrap().to_owned();
    std::fs::write(&file, text.replace(&boot, "another-boot")).unwrap();
    // Were it hashed, this would be found.
    write(&place.store.real_path(&path), "b");
    assert!(place.again().is_valid(&path).unwrap());
}

#[test]
fn case_128_index_deleted_nothing_lost() {
    let place = Place::new();
    let source = place.path("src");
    sample_tree(&source);
    let tree = place.tree("tree", &source);
    let text = place.text("text", &format!("see {}", tree.path), &[&tree.path]);
    let before = place.store.expect_info(&text).unwrap();
    std::fs::remove_dir_all(place.store.root().path().join("info")).unwrap();
    let store = place.again();
    let after = store.expect_info(&text).unwrap();
    assert_eq!(
        (&after.references, after.nar_hash, after.address),
        (&before.references, before.nar_hash, before.address)
    );
    assert_eq!(store.expect_info(&tree.path).unwrap().address, tree.address);
    assert_eq!(store.closure_of([text.clone()]).unwrap(), [text, tree.path].into());
    assert!(problems(&store).is_empty());
}

#[test]
fn case_128_objects_without_info_survive_the_first_gc() {
    let place = Place::new();
    let store = open(&place.path("s"));
    let path = {
        let store = place.again();
        store.add_text("a", b"a", BTreeSet::new()).unwrap()
    };
    std::fs::remove_file(info_file(&place, &path)).unwrap();
    let report = store.gc(&GcOptions::default()).unwrap();
    assert_eq!(report.orphans, [path.to_string()]);
    assert!(store.real_path(&path).exists());
    let report = store.verify(false, Some(&mut |_: &Store, _: &ObjectInfo| Ok(false))).unwrap();
    assert!(report.problems[0].repaired);
    assert!(store.is_valid(&path).unwrap());
    // And rubbish that nobody wants goes with the second.
    std::fs::write(store.root().objects().join("rubbish"), "x").unwrap();
    assert_eq!(store.gc(&GcOptions::default()).unwrap().orphans, ["rubbish"]);
    assert_eq!(store.gc(&GcOptions::default()).unwrap().orphans, [] as [&str; 0]);
    assert!(!store.root().objects().join("rubbish").exists());
}

#[test]
fn case_129_a_damaged_info_file_is_told_and_mended() {
    let place = Place::new();
    let path = place.text("a", "a", &[]);
    std::fs::write(info_file(&place, &path), [0xff; 4096]).unwrap();
    assert!(!place.store.is_valid(&path).unwrap());
    let found = problems(&place.store);
    assert!(matches!(found[0], (_, Damage::Info(_))), "{found:?}");
    place.store.verify(false, Some(&mut |_: &Store, _: &ObjectInfo| Ok(false))).unwrap();
    assert!(place.store.is_valid(&path).unwrap());
    assert!(problems(&place.store).is_empty());
}

#[test]
fn case_130_a_path_that_was_deleted_behind_our_back() {
    let place = Place::new();
    let path = place.text("a", "a", &[]);
    std::fs::remove_file(place.store.real_path(&path)).unwrap();
    assert!(!place.store.is_valid(&path).unwrap());
    assert_eq!(problems(&place.store), [(path.to_string(), Damage::Missing)]);
    assert_eq!(place.text("a", "a", &[]), path);
    assert!(place.store.is_valid(&path).unwrap() && problems(&place.store).is_empty());
}

#[test]
fn case_131_a_path_that_was_changed_is_named_and_repaired() {
    let place = Place::new();
    let (a, b) = (place.text("a", "a", &[]), place.text("b", "b", &[]));
    write(&place.store.real_path(&a), "c");
    assert!(place.store.verify(false, None).unwrap().problems.is_empty());
    let found = problems(&place.store);
    assert!(matches!(&found[..], [(path, Damage::Contents { .. })] if *path == a.to_string()), "{found:?}");
    let mut repair = |store: &Store, info: &ObjectInfo| {
        assert_eq!(info.path, a);
        store.add_text("a", b"a", BTreeSet::new()).map(|path| path == a)
    };
    assert!(place.store.verify(true, Some(&mut repair)).unwrap().problems[0].repaired);
    assert!(problems(&place.store).is_empty() && place.store.is_valid(&b).unwrap());
}

#[test]
fn case_132_rubbish_at_the_place_of_an_object_is_replaced() {
    let place = Place::new();
    let path = place.store.dir().text_path("a", b"a", []).unwrap();
    let real = place.store.real_path(&path);
    std::fs::create_dir_all(real.join("x/y")).unwrap();
    std::fs::set_permissions(real.join("x"), std::fs::Permissions::from_mode(0o000)).unwrap();
    place.text("a", "a", &[]);
    assert_eq!(std::fs::read(&real).unwrap(), b"a");
}

#[test]
fn case_133_one_makes_the_other_waits() {
    let place = Place::new();
    let path = StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-a").unwrap();
    let other = place.again();
    let lock = place.store.lock_output(&path).unwrap();
    assert!(other.try_lock_output(&path).unwrap().is_none());
    let waiter = {
        let (other, path) = (other.clone(), path.clone());
        std::thread::spawn(move || {
            other.lock_output(&path).unwrap();
        })
    };
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiter.is_finished());
    drop(lock);
    waiter.join().unwrap();
    assert!(other.try_lock_output(&path).unwrap().is_some());
    // Locks are bytes of one file, which stays empty.
    assert_eq!(std::fs::metadata(place.store.root().path().join("outputs.lock")).unwrap().len(), 0);
}

#[test]
fn case_133_twenty_threads_and_one_lock() {
    let place = Place::new();
    let path = StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-a").unwrap();
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let store = place.again();
                for _ in 0..50 {
                    let _lock = store.lock_output(&path).unwrap();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
}

#[test]
fn case_134_many_stores_add_the_same_things() {
    let place = Place::new();
    let source = place.path("src");
    sample_tree(&source);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let store = place.again();
                let mut last: Option<StorePath> = None;
                for i in 0..30 {
                    let refs = last.iter().cloned().collect();
                    last = Some(store.add_text("t", format!("{i}").as_bytes(), refs).unwrap());
                }
                store.add_path(&source, &AddOptions::source("tree"), None).unwrap();
            });
        }
    });
    assert_eq!(place.store.all_valid().unwrap().len(), 31);
    assert!(problems(&place.store).is_empty());
}

/// The place in a directory up to which it was read belongs to the descriptor, which threads share.
#[test]
fn case_134_what_is_listed_is_whole_while_others_list_it_too() {
    let place = Place::new();
    let mut made: Vec<_> = (0..300).map(|i| place.text("a", &i.to_string(), &[])).collect();
    made.sort();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let seen = place.store.all_valid().unwrap();
                    assert!(seen == made, "{} of {} objects are seen", seen.len(), made.len());
                }
            });
        }
    });
}

#[test]
fn case_136_gc_in_a_loop_takes_nothing_that_is_needed() {
    let place = Place::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let store = place.again();
            let mut runs = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                store.gc(&GcOptions::default()).unwrap();
                runs += 1;
            }
            runs
        });
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let place = &place;
                scope.spawn(move || {
                    for round in 0..15 {
                        let store = place.again();
                        let mut all: Vec<StorePath> = Vec::new();
                        for i in 0..20 {
                            // Half of it is the same in all workers.
                            let name = if i % 2 == 0 { 0 } else { worker };
                            let text = format!("{round} {i} {name}");
                            let refs = all.last().cloned().into_iter().collect();
                            all.push(store.add_text("t", text.as_bytes(), refs).unwrap());
                        }
                        for path in &all {
                            assert!(store.is_valid(path).unwrap(), "{path}");
                        }
                        store.closure_of(all).unwrap();
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|w| w.join().unwrap());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(collector.join().unwrap() > 3);
    });
    assert!(problems(&place.store).is_empty());
    place.store.gc(&GcOptions::default()).unwrap();
    assert!(place.store.all_valid().unwrap().is_empty());
}

#[test]
fn case_137_roots_of_all_kinds() {
    let place = Place::new();
    let (a, b, c) = {
        let store = place.again();
        let add = |name: &str| store.add_text(name, name.as_bytes(), BTreeSet::new()).unwrap();
        let (a, b, c) = (add("a"), add("b"), add("c"));
        store.add_root("a", &a).unwrap();
        store.add_link_root(&place.path("result"), &b).unwrap();
        store.add_link_root(&place.path("gone"), &c).unwrap();
        (a, b, c)
    };
    assert_eq!(std::fs::read(place.path("result")).unwrap(), b"b");
    std::fs::remove_file(place.path("gone")).unwrap();
    let roots = place.store.root().path().join("roots");
    symlink("/nowhere", roots.join("outside")).unwrap();
    symlink("../../relative", roots.join("relative")).unwrap();
    let report = place.store.gc(&GcOptions::default()).unwrap();
    assert_eq!(report.dead, [c]);
    assert_eq!(report.stale_roots.len(), 3, "{:?}", report.stale_roots);
    assert!(place.store.is_valid(&a).unwrap() && place.store.is_valid(&b).unwrap());
    // What is no link of ours is not replaced.
    std::fs::write(place.path("file"), "mine").unwrap();
    symlink("/etc/passwd", place.path("link")).unwrap();
    for name in ["file", "link"] {
        let error = place.again().add_link_root(&place.path(name), &a).unwrap_err();
        assert!(matches!(error, StoreError::Exists(_)), "{error}");
    }
    // Only these, and not if they are needed.
    let only = GcOptions { only: Some(vec![a.clone()]), ..GcOptions::default() };
    let error = place.store.gc(&only).unwrap_err();
    assert!(matches!(error, StoreError::StillAlive { .. }), "{error}");
    assert!(place.store.remove_root("a").unwrap() && !place.store.remove_root("a").unwrap());
    assert_eq!(place.store.gc(&only).unwrap().dead, [a]);
}

#[test]
fn gc_by_age_and_by_size() {
    let place = Place::new();
    let paths: Vec<StorePath> = {
        let store = place.again();
        let mut paths: Vec<StorePath> = Vec::new();
        for i in 0..4u8 {
            let refs = if i == 3 { [paths[0].clone()].into() } else { BTreeSet::new() };
            paths.push(store.add_text(&format!("t{i}"), &vec![i; 1000], refs).unwrap());
        }
        paths
    };
    // 0 is the oldest, but 3, the youngest, needs it.
    for (path, days) in paths.iter().zip([40, 30, 20, 0]) {
        let age = Duration::from_secs(days * 24 * 3600);
        let times = std::fs::FileTimes::new().set_modified(std::time::SystemTime::now() - age);
        std::fs::File::open(info_file(&place, path)).unwrap().set_times(times).unwrap();
    }
    let gc = |options: GcOptions| place.store.gc(&GcOptions { dry_run: true, ..options }).unwrap().dead;
    let days = |n: u64| Some(Duration::from_secs(n * 24 * 3600));
    assert_eq!(gc(GcOptions { older_than: days(25), ..GcOptions::default() }), [paths[1].clone()]);
    assert_eq!(gc(GcOptions { older_than: days(365), ..GcOptions::default() }), []);
    let all = place.store.gc(&GcOptions { dry_run: true, ..GcOptions::default() }).unwrap();
    assert_eq!(all.dead.len(), 4);
    let limit = |bytes| GcOptions { max_size_bytes: Some(bytes), ..GcOptions::default() };
    assert_eq!(gc(limit(all.dead_nar_bytes)), []);
    assert_eq!(gc(limit(all.dead_nar_bytes - 1)), [paths[1].clone()]);
    assert_eq!(gc(limit(3000)), [paths[1].clone(), paths[2].clone()]);
    assert_eq!(gc(limit(0)).len(), 4);
}

/// A small file system of its own, where we may mount one.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&at).output();
        if !mounted.is_ok_and(|out| out.status.success()) {
            println!("skipped: a file system cannot be mounted here");
            return None;
        }
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o755)).unwrap();
        Some(Self(at))
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn case_138_and_139_disk_full() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path().join("disk"), "size=4m") else { return };
    let kept = {
        let store = open(&disk.0.join("s"));
        let kept = store.add_text("kept", b"kept", BTreeSet::new()).unwrap();
        store.add_root("kept", &kept).unwrap();
        let mut i = 0;
        let error = loop {
            i += 1;
            match store.add_text("t", &vec![i as u8; 200_000 + i], BTreeSet::new()) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(error.is_disk_full(), "{error}");
        // To the last byte, and a tree and a NAR as well.
        std::fs::write(disk.0.join("filler"), vec![1; 4 << 20]).unwrap_err();
        let source = dir.path().join("src");
        sample_tree(&source);
        assert!(store.add_path(&source, &AddOptions::source("tree"), None).unwrap_err().is_disk_full());
        let mut w = nar::Writer::new(Vec::new()).unwrap();
        w.file(false, &vec![3; 3 << 20]).unwrap();
        let bytes = w.finish().unwrap();
        let path = StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-x").unwrap();
        let info = ObjectInfo::new(path.clone(), Hash::sha256(&bytes), bytes.len() as u64);
        assert!(store.add_nar(&bytes[..], info).unwrap_err().is_disk_full());
        assert!(!store.real_path(&path).exists());
        kept
    };
    let store = open(&disk.0.join("s"));
    assert!(problems(&store).is_empty());
    let report = store.gc(&GcOptions::default()).unwrap();
    assert!(report.freed_bytes > 1 << 20, "{report:?}");
    assert!(store.is_valid(&kept).unwrap());
    store.add_text("t", &vec![9; 1 << 19], BTreeSet::new()).unwrap();
    drop(store);
    make_writable(&disk.0);
}

#[test]
fn case_140_no_inodes_and_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path().join("disk"), "size=8m,nr_inodes=60") else { return };
    let store = open(&disk.0.join("s"));
    let mut added = Vec::new();
    let error = loop {
        match store.add_text("t", format!("{}", added.len()).as_bytes(), BTreeSet::new()) {
            Ok(path) => added.push(path),
            Err(error) => break error,
        }
    };
    assert!(error.is_disk_full(), "{error}");
    assert!(added.len() > 5 && problems(&store).is_empty());
    drop(store);
    disk.remount("ro");
    let store = open(&disk.0.join("s"));
    assert!(added.iter().all(|path| store.is_valid(path).unwrap()));
    assert_eq!(store.closure_of(added.clone()).unwrap().len(), added.len());
    let error = store.add_text("new", b"new", BTreeSet::new()).unwrap_err().to_string();
    assert!(error.contains("read-only"), "{error}");
}

#[test]
fn case_141_a_store_of_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let root = |name: &str| StoreRoot::new(dir.path().join(name));
    let error = |name: &str| Store::open(&root(name), StoreSettings::default()).unwrap_err().to_string();
    std::fs::create_dir(dir.path().join("open")).unwrap();
    std::fs::set_permissions(dir.path().join("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(error("open").contains("can be written by others (mode 0777)"), "{}", error("open"));
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(error("file").contains("file'"), "{}", error("file"));
    // The root may be reached through a link; a part of the store may not be one.
    std::fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    drop(open(&dir.path().join("link")));
    std::fs::remove_dir(dir.path().join("real/tmp")).unwrap();
    symlink("/tmp", dir.path().join("real/tmp")).unwrap();
    assert!(error("real").contains("is not a directory; it must not be a link"), "{}", error("real"));
    if rustix_is_root() {
        std::fs::create_dir(dir.path().join("theirs")).unwrap();
        std::os::unix::fs::chown(dir.path().join("theirs"), Some(4242), None).unwrap();
        assert!(error("theirs").contains("belongs to user 4242"), "{}", error("theirs"));
    }
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn case_143_versions_and_directories() {
    let place = Place::new();
    let header = place.path("s").join("ampoule-store");
    let error = |settings| Store::open(&StoreRoot::new(place.path("s")), settings).unwrap_err().to_string();
    let text = std::fs::read_to_string(&header).unwrap();
    std::fs::write(&header, text.replace("store 1", "store 7")).unwrap();
    assert!(error(StoreSettings::default()).contains("has version 7, this program knows up to 1"));
    std::fs::write(&header, "garbage").unwrap();
    assert!(error(StoreSettings::default()).contains("is damaged"));
    std::fs::write(&header, text).unwrap();
    let dir = Some(ampoule_store::StoreDir::new("/gnu/store").unwrap());
    let other = StoreSettings { store_dir: dir, ..StoreSettings::default() };
    assert!(error(other).contains("is made for '/nix/store', not for '/gnu/store'"));
}

#[test]
fn case_144_optimise() {
    let place = Place::new();
    let source = place.path("src");
    sample_tree(&source);
    let a = place.tree("a", &source);
    std::fs::write(source.join("more"), "more").unwrap();
    let b = place.tree("b", &source);
    // One that somebody changed is linked to nothing, and nothing to it.
    let changed = place.store.real_path(&a.path).join("bin/deep/er/file");
    write(&changed, "changed");
    let report = place.store.optimise().unwrap();
    assert!(report.linked_files > 250 && report.saved_bytes > 5_000_000, "{report:?}");
    assert!(report.skipped_files >= 1);
    assert_eq!(place.store.hash_object(&b.path).unwrap().0, b.nar_hash);
    assert_eq!(std::fs::read(&changed).unwrap(), b"changed");
    let found = problems(&place.store);
    assert_eq!(found.len(), 1, "{found:?}");
    for path in [&a.path, &b.path] {
        let meta = std::fs::metadata(place.store.real_path(path).join("bin")).unwrap();
        assert_eq!((meta.permissions().mode() & 0o7777, meta.mtime()), (0o555, 1));
    }
    assert_eq!(place.store.optimise().unwrap().linked_files, 0);
    // What `links/` holds is not believed either.
    for link in std::fs::read_dir(place.store.root().path().join("links")).unwrap() {
        let link = link.unwrap().path();
        std::fs::remove_file(&link).unwrap();
        std::fs::write(&link, "other bytes").unwrap();
        std::fs::set_permissions(&link, std::fs::Permissions::from_mode(0o444)).unwrap();
    }
    place.store.optimise().unwrap();
    assert_eq!(place.store.hash_object(&b.path).unwrap().0, b.nar_hash);
}

#[test]
fn case_145_export_and_import() {
    let (from, to) = (Place::new(), Place::new());
    let a = from.text("a", "a", &[]);
    let b = from.text("b", &format!("see {a}"), &[&a]);
    let mut stream = Vec::new();
    from.store.export([b.clone(), a.clone()], &mut stream).unwrap();
    for len in (0..stream.len()).step_by(7) {
        to.store.import(&stream[..len]).unwrap_err();
        assert!(to.store.all_valid().unwrap().is_empty(), "{len}");
    }
    let garbage = [&stream[..stream.len() - 8], &[0x55; 64]].concat();
    to.store.import(&garbage[..]).unwrap_err();
    assert!(to.store.all_valid().unwrap().is_empty());
    assert_eq!(to.store.import(&stream[..]).unwrap(), [a.clone(), b.clone()]);
    assert_eq!(to.store.expect_info(&b).unwrap().nar_hash, from.store.expect_info(&b).unwrap().nar_hash);
    // Without what it needs it does not come in; a damaged one does not go out.
    let mut alone = Vec::new();
    from.store.export([b.clone()], &mut alone).unwrap();
    let error = Place::new().store.import(&alone[..]).unwrap_err();
    assert!(matches!(error, StoreError::MissingReference { .. }), "{error}");
    write(&from.store.real_path(&a), "x");
    let error = from.store.export([a], &mut Vec::new()).unwrap_err();
    assert!(matches!(error, StoreError::HashMismatch { .. }), "{error}");
}

#[test]
fn case_146_what_is_there_is_only_read() {
    let place = Place::new();
    let source = place.path("src");
    sample_tree(&source);
    let info = place.tree("a", &source);
    let real = place.store.real_path(&info.path);
    let inode = std::fs::metadata(real.join("large")).unwrap().ino();
    let changed = std::fs::metadata(place.path("s/store")).unwrap().ctime_nsec();
    assert_eq!(place.tree("a", &source), info);
    assert_eq!(std::fs::metadata(real.join("large")).unwrap().ino(), inode);
    assert_eq!(std::fs::metadata(place.path("s/store")).unwrap().ctime_nsec(), changed);
}

#[test]
fn case_147_a_dry_run_is_as_quick_as_the_run() {
    let place = Place::new();
    {
        let store = place.again();
        for i in 0..1000 {
            store.add_text("t", format!("{i}").as_bytes(), BTreeSet::new()).unwrap();
        }
    }
    let start = Instant::now();
    let dry = place.store.gc(&GcOptions { dry_run: true, ..GcOptions::default() }).unwrap();
    // A bound that only something quadratic reaches.
    assert!(dry.dead.len() == 1000 && start.elapsed() < Duration::from_secs(60));
}

#[test]
fn case_48_and_52_odd_files_and_depth() {
    let place = Place::new();
    let source = place.path("src");
    std::fs::create_dir(&source).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        source.join("fifo"),
        fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let error = place.store.add_path(&source, &AddOptions::source("x"), None).unwrap_err();
    assert!(matches!(&error, StoreError::OddType { path, kind: "fifo" } if path == "src/fifo"), "{error}");
    std::fs::remove_file(source.join("fifo")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    let error = place.store.add_path(&source, &AddOptions::source("x"), None).unwrap_err();
    assert!(matches!(&error, StoreError::OddType { kind: "socket", .. }), "{error}");
    std::fs::remove_file(source.join("socket")).unwrap();
    for depth in [70, 3000] {
        // Names alone would be longer than any path may be.
        deepen(&source, depth);
        let info = place.tree(&format!("deep{depth}"), &source);
        assert_eq!(place.store.hash_object(&info.path).unwrap().0, info.nar_hash);
    }
    deepen(&source, 4100);
    let error = place.store.add_path(&source, &AddOptions::source("x"), None).unwrap_err();
    assert!(matches!(&error, StoreError::TooDeep { .. }) && error.to_string().len() < 4096, "{error}");
    // Deleting knows no depth.
    let staging = place.store.staging().unwrap();
    std::fs::rename(&source, staging.path().join("src")).unwrap();
    drop(staging);
    let session = std::fs::read_dir(place.path("s/tmp")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_dir(session).unwrap().count(), 0);
}

/// Makes `depth` directories in one another, and one file.
fn deepen(top: &Path, depth: usize) {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = openat(rustix::fs::CWD, top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        match mkdirat(&dir, "d", Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => panic!("{e}"),
        }
        dir = openat(&dir, "d", flags, Mode::empty()).unwrap();
    }
    openat(&dir, "f", OFlags::WRONLY | OFlags::CREATE, Mode::from_raw_mode(0o644)).unwrap();
}

#[test]
fn case_53_sparse_files_stay_sparse() {
    let place = Place::new();
    let source = place.path("src");
    let file = std::fs::File::create(&source).unwrap();
    file.set_len(300 << 20).unwrap();
    let info = place.tree("sparse", &source);
    assert!(info.nar_size_bytes > 300 << 20);
    let meta = std::fs::metadata(place.store.real_path(&info.path)).unwrap();
    assert!(meta.len() == 300 << 20 && meta.blocks() * 512 < 1 << 20);
    assert_eq!(place.store.hash_object(&info.path).unwrap().0, info.nar_hash);
}

#[test]
fn case_62_the_hash_is_of_what_is_stored() {
    let place = Place::new();
    let source = place.path("src");
    sample_tree(&source);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut i = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                i += 1;
                std::fs::write(source.join("bin/deep/er/file"), format!("{i}").repeat(1000)).unwrap();
                std::fs::write(source.join("empty"), vec![i as u8; (i % 5000) as usize]).unwrap();
            }
        });
        let mut added = 0;
        for _ in 0..20 {
            match place.store.add_path(&source, &AddOptions::source("x"), None) {
                Ok(info) => {
                    added += 1;
                    assert_eq!(place.store.hash_object(&info.path).unwrap().0, info.nar_hash);
                }
                Err(error) => assert!(matches!(error, StoreError::Changed { .. }), "{error}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(added > 0);
    });
    assert!(problems(&place.store).is_empty());
}

#[test]
fn a_second_registration_says_that_it_was_valid() {
    let place = Place::new();
    let path = StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-x").unwrap();
    let stage = |contents: &str| {
        let staging = place.store.staging().unwrap();
        std::fs::write(staging.path().join("o"), contents).unwrap();
        let staged = place.store.stage_in_place(staging.fd(), c"o", BTreeSet::new()).unwrap();
        let info = ObjectInfo::new(path.clone(), staged.nar_hash, staged.nar_size_bytes);
        place.store.register(staging.fd(), &staged, info, None).unwrap()
    };
    assert!(matches!(stage("a"), Registered::New(_)));
    assert!(matches!(stage("b"), Registered::WasValid(_)));
    assert_eq!(std::fs::read(place.store.real_path(&path)).unwrap(), b"a");
}

/// Case 142: a clock that is wrong changes records, and nothing else.
#[test]
fn case_142_the_clock_may_be_anything() {
    let place = Place::new();
    let tree = place.path("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("file"), "contents").unwrap();
    let options = AddOptions::source("tree");
    // Its lease ends with it.
    let writer = place.again();
    let expected = writer.add_path(&tree, &options, None).unwrap().path;
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    let times = [epoch, epoch - Duration::from_secs(86_400), epoch + Duration::from_secs(70 * 365 * 86_400)];
    for time in times {
        let file = std::fs::File::options().write(true).open(tree.join("file")).unwrap();
        file.set_modified(time).unwrap();
        assert_eq!(place.store.hash_tree(&tree, &options, None).unwrap().path, expected);
    }
    // Records of 1970 and of 2040.
    let kept = writer.add_text("kept", b"kept", BTreeSet::new()).unwrap();
    let text = |name: &str| writer.add_text(name, name.as_bytes(), [kept.clone()].into()).unwrap();
    let (old, late) = (text("old"), text("late"));
    writer.add_root("kept", &kept).unwrap();
    drop(writer);
    for (path, time, seconds) in
        [(&old, times[0], 0), (&late, times[2], 70 * 365 * 86_400u64), (&kept, times[2], 0)]
    {
        let file = info_file(&place, path);
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| match line.strip_prefix("registered ") {
            Some(_) => format!("registered {seconds}\n"),
            None => format!("{line}\n"),
        });
        std::fs::write(&file, lines.collect::<String>()).unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    }
    let store = place.again();
    for path in [&old, &late, &kept, &expected] {
        assert!(store.is_valid(path).unwrap(), "{path}");
    }
    assert!(store.verify(true, None).unwrap().problems.is_empty());
    // By last use, the oldest goes first, whatever the clock says; what is needed never goes.
    let most =
        store.expect_info(&late).unwrap().nar_size_bytes + store.expect_info(&kept).unwrap().nar_size_bytes;
    let quota = GcOptions { max_size_bytes: Some(most + 200), ..GcOptions::default() };
    store.gc(&quota).unwrap();
    assert!(!store.is_valid(&old).unwrap() && store.is_valid(&kept).unwrap());
    store.gc(&GcOptions::default()).unwrap();
    assert_eq!(store.all_valid().unwrap(), std::slice::from_ref(&kept));
    // A source that was seen in the future is added all the same.
    assert_eq!(store.add_path(&tree, &options, None).unwrap().path, expected);
}
