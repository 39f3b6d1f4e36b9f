//! Cases 75 to 82: what is not a NAR is refused, nothing is written outside, and nothing is believed
//! about sizes.

mod common;

use std::path::Path;

use ampoule_store::nar::{Event, MAX_DEPTH, NarError, Reader, Writer};
use ampoule_store::{StoreError, restore_path};

/// A NAR from its strings; `N:` is a bare number, everything else a padded string.
fn nar(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in ["nix-archive-1"].iter().chain(parts) {
        string(&mut out, part.as_bytes());
    }
    out
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
    out.extend(std::iter::repeat_n(0, (8 - bytes.len() % 8) % 8));
}

/// Reads all of it, and says what is wrong.
fn read(bytes: &[u8]) -> Result<usize, NarError> {
    let mut reader = Reader::new(bytes)?;
    let mut events = 0;
    while reader.next_event()? != Event::End {
        events += 1;
    }
    Ok(events)
}

/// Refused by the reader, and nothing is left where it was to be unpacked.
#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    let error = read(bytes).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    let dir = tempfile::tempdir().unwrap();
    restore_path(&dir.path().join("x/../out"), bytes).unwrap_err();
    assert!(!dir.path().join("evil").exists() && !dir.path().join("etc").exists());
    common::make_writable(dir.path());
}

fn entry<'a>(name: &'a str, node: &[&'a str]) -> Vec<&'a str> {
    [&["entry", "(", "name", name, "node", "("][..], node, &[")", ")"]].concat()
}

fn directory(entries: &[Vec<&str>]) -> Vec<u8> {
    nar(&[&["(", "type", "directory"][..], &entries.concat(), &[")"]].concat())
}

const FILE: &[&str] = &["type", "regular", "contents", "x"];

#[test]
fn case_75_bad_names() {
    let long = "a".repeat(256);
    for (name, why) in [
        ("..", "name '..'"),
        (".", "name '.'"),
        ("", "empty name"),
        ("a/b", "slash"),
        ("/etc", "slash"),
        ("a\0b", "zero byte"),
        (&long, "256"),
    ] {
        refused(&directory(&[entry(name, FILE)]), why);
    }
    assert!(read(&directory(&[entry(&long[1..], FILE)])).is_ok());
}

#[test]
fn case_76_duplicate_and_unsorted_entries() {
    let link = ["type", "symlink", "target", "/tmp"];
    let below = [
        "type",
        "directory",
        "entry",
        "(",
        "name",
        "evil",
        "node",
        "(",
        "type",
        "regular",
        "contents",
        "x",
        ")",
        ")",
    ];
    refused(&directory(&[entry("a", FILE), entry("a", FILE)]), "not sorted");
    refused(&directory(&[entry("a", &link), entry("a", &below)]), "not sorted");
    refused(&directory(&[entry("b", FILE), entry("a", FILE)]), "not sorted");
    // Names that differ on Linux are two names.
    assert!(
        read(&directory(&[entry("A", FILE), entry("a", FILE), entry("a~nix~case~hack~1", FILE)])).is_ok()
    );
}

#[test]
fn case_77_announced_sizes_are_not_believed() {
    let announce = |before: &[&str], size: u64| {
        let mut bytes = nar(before);
        bytes.extend(size.to_le_bytes());
        bytes
    };
    for size in [u64::MAX - 7, 1 << 40, u64::MAX, 1 << 63] {
        refused(&announce(&["(", "type", "regular", "contents"], size), "");
        refused(&announce(&["(", "type", "directory", "entry", "(", "name"], size), "more than");
        refused(&announce(&["(", "type", "symlink", "target"], size), "more than");
        refused(&announce(&["(", "type"], size), "tag of");
    }
}

#[test]
fn case_78_depth_is_limited_and_costs_no_stack() {
    let mut bytes = nar(&[]);
    for _ in 0..1_000_000 {
        for part in ["(", "type", "directory", "entry", "(", "name", "a", "node"] {
            string(&mut bytes, part.as_bytes());
        }
    }
    let thread = std::thread::Builder::new().stack_size(128 << 10);
    let error = thread.spawn(move || read(&bytes).unwrap_err().to_string()).unwrap().join().unwrap();
    assert!(error.contains(&MAX_DEPTH.to_string()), "{error}");
}

#[test]
fn case_79_every_deviation() {
    let mut padded = nar(&["(", "type", "regular", "contents"]);
    padded.extend(1u64.to_le_bytes());
    padded.extend(b"x\0\0\0\0\0\0\x01");
    refused(&padded, "padding");
    refused(b"not a nar, but long enough to be read", "magic");
    refused(&[&13u64.to_le_bytes()[..], b"nix-archive-2\0\0\0"].concat(), "magic");
    refused(&nar(&["(", "type", "regular", "type", "regular", "contents", "", ")"]), "contents");
    refused(&nar(&["(", "type", "socket", ")"]), "unknown file type");
    refused(&nar(&["(", "type", "regular", "executable", "yes", "contents", "", ")"]), "non-empty");
    refused(&nar(&["(", "type", "symlink", "target", "", ")"]), "empty symlink");
    refused(&nar(&["(", "type", "symlink", "target", "a\0b", ")"]), "zero byte");
    refused(&nar(&["[", "type", "regular"]), "expected tag '('");
    assert!(read(&nar(&["(", "type", "regular", "executable", "", "contents", "", ")"])).is_ok());
}

fn sample() -> Vec<u8> {
    let mut w = Writer::new(Vec::new()).unwrap();
    w.begin_directory().unwrap();
    w.entry(b"a").unwrap();
    w.file(true, b"0123456789").unwrap();
    w.entry(b"b").unwrap();
    w.begin_directory().unwrap();
    w.entry(b"\xff\n").unwrap();
    w.symlink(b"../a").unwrap();
    w.end_directory().unwrap();
    w.end_directory().unwrap();
    w.finish().unwrap()
}

#[test]
fn case_80_cut_at_every_byte() {
    let place = common::Place::new();
    let bytes = sample();
    let mut info = ampoule_store::ObjectInfo::new(
        ampoule_store::StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-x").unwrap(),
        ampoule_store::Hash::sha256(&bytes),
        bytes.len() as u64,
    );
    for len in 0..bytes.len() {
        assert!(matches!(read(&bytes[..len]), Err(NarError::Truncated { .. })), "{len}");
        place.store.add_nar(&bytes[..len], info.clone()).unwrap_err();
        assert!(!place.store.is_valid(&info.path).unwrap());
        assert!(!place.store.real_path(&info.path).exists());
    }
    place.store.add_nar(&bytes[..], info.clone()).unwrap();
    // Every bit that is flipped is found, by the format or by the hash.
    info.path = ampoule_store::StorePath::parse("0cif0kzjly0k4gxq2d7bm0x9df2924df-x").unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        place.store.add_nar(&flipped[..], info.clone()).unwrap_err();
        assert!(!place.store.real_path(&info.path).exists());
    }
    drop(place.again().staging().unwrap());
}

#[test]
fn case_81_the_destination_must_be_free() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("file"), "").unwrap();
    std::fs::create_dir(at("dir")).unwrap();
    std::os::unix::fs::symlink("file", at("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    let bytes = sample();
    for name in ["file", "dir", "link", "dangling", "dir/.", "dir/..", "free/.", ".."] {
        let error = restore_path(&at(name), &bytes[..]).unwrap_err();
        assert!(matches!(error, StoreError::Exists(_)), "{name}: {error}");
    }
    let one = ampoule_store::nar::Writer::new(Vec::new())
        .and_then(|mut w| w.file(false, b"x").and_then(|()| w.finish()));
    restore_path(&at("link"), &one.unwrap()[..]).unwrap_err();
    assert!(std::fs::read(at("file")).unwrap().is_empty());
    assert!(!Path::new(&at("nowhere")).exists());
    restore_path(&at("free"), &bytes[..]).unwrap();
    common::make_writable(dir.path());
}

#[test]
fn case_82_bytes_after_the_end_stay_in_the_stream() {
    let bytes = [sample(), b"more".to_vec()].concat();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    while reader.next_event().unwrap() != Event::End {}
    assert_eq!(reader.into_inner(), b"more");
    // One who wants a whole file sees that there is more.
    let place = common::Place::new();
    let path = ampoule_store::StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-x").unwrap();
    let info = ampoule_store::ObjectInfo::new(path, ampoule_store::Hash::sha256(&bytes), bytes.len() as u64);
    let error = place.store.add_nar(&bytes[..], info).unwrap_err();
    assert!(matches!(error, StoreError::SizeMismatch { .. }), "{error}");
}

/// What the reader takes, the writer writes the same way: no stream has two readings.
#[test]
fn what_is_read_is_written_the_same() {
    let base = sample();
    let mut seed = 7u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut bytes = base.clone();
        for _ in 0..=next() % 3 {
            let at = next() % bytes.len();
            match next() % 3 {
                0 => bytes[at] = next() as u8,
                1 => bytes[at] ^= 1 << (next() % 8),
                _ => drop(bytes.splice(at..at, [0; 8])),
            }
        }
        let Ok(written) = copy(&bytes) else { continue };
        taken += 1;
        assert_eq!(written, bytes[..written.len()]);
    }
    assert!(taken > 100, "{taken}");
}

fn copy(bytes: &[u8]) -> Result<Vec<u8>, NarError> {
    let mut reader = Reader::new(bytes)?;
    let mut writer = Writer::new(Vec::new())?;
    loop {
        match reader.next_event()? {
            Event::BeginDirectory => writer.begin_directory()?,
            Event::Entry(name) => writer.entry(&name)?,
            Event::EndDirectory => writer.end_directory()?,
            Event::Symlink(target) => writer.symlink(&target)?,
            Event::File { executable, size_bytes } => {
                if size_bytes > 1 << 20 {
                    return Err(NarError::Truncated { at: 0 });
                }
                let mut contents = Vec::new();
                std::io::Read::read_to_end(&mut reader, &mut contents)?;
                writer.file(executable, &contents)?;
            }
            Event::End => return Ok(writer.finish()?),
        }
    }
}
