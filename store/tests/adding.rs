//! What people's trees hold: files of more than 4 GiB, files that nobody may read, odd names, files with
//! several names.

mod common;

use std::ffi::OsStr;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;

use ampoule_store::{AddOptions, StoreError};
use common::Place;

/// The file has holes, so that it costs no disk; every byte of it is hashed. The expected hash is that of
/// real Nix: `nix-hash --type sha256 --base32`.
#[test]
fn a_file_of_more_than_four_gibibytes() {
    const LENGTH: u64 = (4 << 30) + 5;
    let place = Place::new();
    let source = place.path("large");
    let mut file = std::fs::File::create(&source).unwrap();
    file.write_all(b"begin").unwrap();
    file.seek(SeekFrom::Start(3 << 30)).unwrap();
    file.write_all(b"middle").unwrap();
    file.seek(SeekFrom::Start(LENGTH - 3)).unwrap();
    file.write_all(b"end").unwrap();
    drop(file);
    let info = place.tree("large", &source);
    // Header of 112 bytes as for any plain file, its contents filled up to 8 bytes, and the end.
    assert_eq!(info.nar_size_bytes, 112 + LENGTH.next_multiple_of(8));
    assert_eq!(info.nar_hash.to_nix32(), "148ldwfl0cff7q15m16xi283yjgfn80w61pk72h9w43f5m9zp256");
    let meta = std::fs::metadata(place.store.real_path(&info.path)).unwrap();
    assert_eq!(meta.len(), LENGTH);
    assert!(meta.blocks() * 512 < 8 << 20, "holes stay holes");
}

/// Runs in a process of its own, as an ordinary user: root may read everything.
#[test]
fn what_cannot_be_read_is_named_and_leaves_nothing() {
    if rustix::process::geteuid().is_root() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(home.path(), Some(12_321), Some(12_321)).unwrap();
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "what_cannot_be_read_is_named_and_leaves_nothing"]);
        let output =
            again.env("TMPDIR", home.path()).current_dir("/").uid(12_321).gid(12_321).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let place = Place::new();
    let source = place.path("src");
    std::fs::create_dir_all(source.join("a/closed")).unwrap();
    std::fs::write(source.join("a/closed/inside"), "text").unwrap();
    std::fs::write(source.join("a/secret"), "text").unwrap();
    let mode = |name: &str, mode| {
        std::fs::set_permissions(source.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = |name: &str, mode_of_it, usual| {
        mode(name, mode_of_it);
        let error = place.store.add_path(&source, &AddOptions::source("src"), None).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("src/{name}")) && text.contains("ermission denied"), "{text}");
        assert!(place.store.all_valid().unwrap().is_empty());
        let session = std::fs::read_dir(place.path("s/tmp")).unwrap().next().unwrap().unwrap().path();
        assert_eq!(std::fs::read_dir(session).unwrap().count(), 0, "nothing half-made is left");
        mode(name, usual);
    };
    refused("a/secret", 0o000, 0o644);
    refused("a/closed", 0o000, 0o755);
    // Its names can be read, its files cannot.
    mode("a/closed", 0o444);
    let error = place.store.add_path(&source, &AddOptions::source("src"), None).unwrap_err();
    assert!(error.to_string().contains("a/closed/inside"), "{error}");
    mode("a/closed", 0o755);
    // A filter that leaves it out is enough.
    mode("a/secret", 0o000);
    let mut without = |path: &std::path::Path, _| Ok(!path.ends_with("secret"));
    let info = place.store.add_path(&source, &AddOptions::source("src"), Some(&mut without)).unwrap();
    assert!(!place.store.real_path(&info.path).join("a/secret").exists());
    mode("a/secret", 0o644);
    // What cannot be written to by its owner is no obstacle, nor is what only its owner may read.
    mode("a/secret", 0o400);
    mode("a", 0o555);
    place.tree("src", &source);
    mode("a", 0o755);
}

#[test]
fn odd_names_are_kept_byte_for_byte() {
    let longest = "n".repeat(255);
    let names: [&[u8]; 14] = [
        b"new\nline",
        b"\xff\xfe not UTF-8",
        b"-rf",
        b" blank before and after ",
        b".hidden",
        b"...",
        b"back\\slash",
        b"\"quotes' $(and) `more`",
        b"*?[x]",
        b"a",
        b"A",
        b"caf\xc3\xa9",
        b"cafe\xcc\x81",
        longest.as_bytes(),
    ];
    let (place, other) = (Place::new(), Place::new());
    let source = place.path("src");
    std::fs::create_dir(&source).unwrap();
    for name in names {
        std::fs::write(source.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let info = place.tree("odd", &source);
    let mut nar = Vec::new();
    place.store.dump(&info.path, &mut nar).unwrap();
    other.store.add_nar(&nar[..], info.clone()).unwrap();
    for store in [&place.store, &other.store] {
        let real = store.real_path(&info.path);
        for name in names {
            assert_eq!(std::fs::read(real.join(OsStr::from_bytes(name))).unwrap(), name);
        }
        assert_eq!(std::fs::read_dir(real).unwrap().count(), names.len());
    }
    // In the order of bytes, whatever a locale says.
    let mut sorted = names;
    sorted.sort_unstable();
    let found: Vec<usize> = sorted
        .iter()
        .map(|name| [&(name.len() as u64).to_le_bytes()[..], name].concat())
        .map(|written| nar.windows(written.len()).position(|part| part == written).expect("it is in there"))
        .collect();
    assert!(found.is_sorted(), "{found:?}");
}

#[test]
fn hard_links_become_files_of_their_own() {
    let place = Place::new();
    let (linked, plain) = (place.path("linked"), place.path("plain"));
    for dir in [&linked, &plain] {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("one"), "the same").unwrap();
    }
    std::fs::hard_link(linked.join("one"), linked.join("two")).unwrap();
    std::fs::hard_link(linked.join("one"), place.path("outside")).unwrap();
    std::fs::write(plain.join("two"), "the same").unwrap();
    let info = place.tree("x", &linked);
    assert_eq!(place.tree("x", &plain).path, info.path, "how many names a file has is not part of it");
    let real = place.store.real_path(&info.path);
    let inode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().ino();
    assert_ne!(inode(real.join("one")), inode(linked.join("one")));
    // The names outside are as they were.
    let outside = std::fs::metadata(place.path("outside")).unwrap();
    assert_eq!((outside.nlink(), outside.mode() & 0o222 != 0), (3, true));
    std::fs::write(place.path("outside"), "changed").unwrap();
    assert_eq!(std::fs::read(real.join("two")).unwrap(), b"the same");
}

#[test]
fn odd_kinds_are_refused_by_name_wherever_they_lie() {
    let place = Place::new();
    let source = place.path("src");
    std::fs::create_dir_all(source.join("deep/er")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("deep/er/socket")).unwrap();
    let error = place.store.add_path(&source, &AddOptions::source("x"), None).unwrap_err();
    assert!(
        matches!(&error, StoreError::OddType { path, kind: "socket" } if path == "src/deep/er/socket"),
        "{error}"
    );
    let error = place.store.add_path(&place.path("nowhere"), &AddOptions::source("x"), None).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}
