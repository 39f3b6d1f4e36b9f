//! Sparse files: read in all the forms that GNU tar wrote, their holes kept, and lies about them refused.

#[allow(dead_code, reason = "each test file uses its own part of this")]
mod support;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use ampoule_realise::unpack::{Limits, Options};
use support::archives::{Header, Tar, gzip};
use support::unpacking::{Yard, refused, refused_with};

/// What each archive here gives: 512 bytes at 4096, 3 at 1 MiB, 2 MiB in all.
const SIZE: usize = 2 << 20;

fn expected() -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    bytes[4096..4608].fill(b'a');
    bytes[1 << 20..(1 << 20) + 3].copy_from_slice(b"end");
    bytes
}

fn stored() -> Vec<u8> {
    [vec![b'a'; 512], b"end".to_vec()].concat()
}

fn octal(value: u64) -> Vec<u8> {
    format!("{value:011o}\0").into_bytes()
}

/// The old form: pieces in the header, a size behind them.
fn old(pieces: &[(u64, u64)], size: u64, stored: &[u8]) -> Tar {
    let mut header = Header::new("s", b'S', stored.len() as u64);
    header.set(257, b"ustar  \0");
    let (first, rest) = pieces.split_at(pieces.len().min(4));
    for (nth, (offset, len)) in first.iter().enumerate() {
        header.set(386 + nth * 24, &octal(*offset)).set(398 + nth * 24, &octal(*len));
    }
    header.set(482, &[u8::from(!rest.is_empty())]).set(483, &octal(size));
    let mut tar = Tar::default().header(header);
    let mut blocks = rest.chunks(21).peekable();
    while let Some(pieces) = blocks.next() {
        let mut block = [0; 512];
        for (nth, (offset, len)) in pieces.iter().enumerate() {
            block[nth * 24..nth * 24 + 12].copy_from_slice(&octal(*offset));
            block[nth * 24 + 12..nth * 24 + 24].copy_from_slice(&octal(*len));
        }
        block[504] = u8::from(blocks.peek().is_some());
        tar = tar.raw(&block);
    }
    tar.data(stored)
}

fn pax(records: &[(&str, &str)], stored: &[u8]) -> Tar {
    Tar::default().pax(records).header(Header::new("s", b'0', stored.len() as u64)).data(stored)
}

/// Form 1.0, whose map is the start of the data.
fn newest(map: &str, size: &str, stored: &[u8]) -> Tar {
    let mut data = map.as_bytes().to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data.extend(stored);
    let records = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "s"),
        ("GNU.sparse.realsize", size),
    ];
    let header = Header::new("GNUSparseFile.7/s", b'0', data.len() as u64);
    Tar::default().pax(&records).header(header).data(&data)
}

#[test]
fn all_four_forms_give_the_same_file() {
    let (size, data) = (SIZE.to_string(), stored());
    let forms = [
        old(&[(4096, 512), (1 << 20, 3), (SIZE as u64, 0)], SIZE as u64, &data),
        pax(
            &[
                ("GNU.sparse.size", &size),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.offset", "4096"),
                ("GNU.sparse.numbytes", "512"),
                ("GNU.sparse.offset", "1048576"),
                ("GNU.sparse.numbytes", "3"),
            ],
            &data,
        ),
        pax(
            &[
                ("GNU.sparse.name", "s"),
                ("GNU.sparse.size", &size),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.map", "4096,512,1048576,3"),
            ],
            &data,
        ),
        newest("3\n4096\n512\n1048576\n3\n2097152\n0\n", &size, &data),
    ];
    for (nth, tar) in forms.into_iter().enumerate() {
        let yard = Yard::new();
        yard.unpack(&gzip(&tar.file("after", "x").end()), &Options::default()).expect("a good archive");
        let file = yard.tree().join("s");
        assert!(std::fs::read(&file).expect("a file") == expected(), "form {nth}");
        assert_eq!(std::fs::read(yard.tree().join("after")).expect("the next entry is found"), b"x");
        // What a file system without holes says is no fault of ours.
        if has_holes(yard.dir.path()) {
            let taken = std::fs::metadata(&file).expect("a file").blocks() * 512;
            assert!(taken < SIZE as u64 / 4, "form {nth} takes {taken} bytes");
        }
    }
}

fn has_holes(dir: &Path) -> bool {
    let file = tempfile::tempfile_in(dir).expect("a file");
    file.set_len(SIZE as u64).expect("room");
    file.metadata().expect("a file").blocks() * 512 < SIZE as u64 / 4
}

/// More pieces than a header and one block have: offsets go up by two blocks.
#[test]
fn maps_of_many_pieces() {
    let pieces: Vec<(u64, u64)> = (0..100).map(|n| (n * 1024, 512)).collect();
    let data: Vec<u8> = (0..100_u8).flat_map(|n| [n; 512]).collect();
    let text: String = pieces.iter().map(|(offset, len)| format!("{offset}\n{len}\n")).collect();
    for tar in
        [old(&pieces, 100 * 1024, &data), newest(&format!("100\n{text}"), &(100 * 1024).to_string(), &data)]
    {
        let yard = Yard::new();
        yard.unpack(&tar.end(), &Options::default()).expect("a good archive");
        let bytes = std::fs::read(yard.tree().join("s")).expect("a file");
        assert_eq!(bytes.len(), 100 * 1024);
        for (nth, pair) in bytes.chunks(1024).enumerate() {
            assert!(pair[..512].iter().all(|b| *b == nth as u8) && pair[512..].iter().all(|b| *b == 0));
        }
    }
}

#[test]
fn only_a_hole_and_nothing_at_all() {
    for size in [0, 1, 70_000] {
        let yard = Yard::new();
        yard.unpack(&newest("0\n", &size.to_string(), b"").end(), &Options::default()).expect("good");
        assert_eq!(std::fs::read(yard.tree().join("s")).expect("a file"), vec![0; size]);
    }
}

#[test]
fn lies_about_holes_are_refused() {
    let block = [b'a'; 512];
    let two = [b'a'; 1024];
    for (pieces, size, data) in [
        (&[(512, 512), (0, 512)][..], 4096, &two[..]),
        (&[(0, 512), (256, 512)], 4096, &two),
        (&[(4096, 512)], 4096, &block),
        (&[(0, 512)], 511, &block),
        (&[(0, 1024)], 4096, &block),
        (&[(0, 512)], 4096, &two),
        (&[(0, 3), (512, 509)], 4096, &block),
        (&[(0o77_777_777_777, 0o77_777_777_777)], 4096, &block),
    ] {
        refused(&old(pieces, size, data).end(), "entry `s`: its map of holes is wrong");
    }
    let max = u64::MAX.to_string();
    for map in [
        "",
        "1",
        "1\n",
        "1\n0\n",
        "x\n",
        "-1\n",
        "2\n0\n512\n",
        "1\n0\n512",
        "99999999999999999999\n",
        "1 0 512\n",
        &format!("1\n{max}\n512\n"),
        &format!("1\n0\n{max}\n"),
        &format!("{max}\n0\n512\n"),
    ] {
        refused(&newest(map, "4096", &block).end(), "entry `s`");
    }
    refused(&newest("1\n0\n512\n", "x", &block).end(), "is not a number");
    for records in [
        &[("GNU.sparse.map", "0,512,")][..],
        &[("GNU.sparse.size", "512"), ("GNU.sparse.map", "0")],
        &[("GNU.sparse.size", "512"), ("GNU.sparse.map", "0,512,9")],
        &[("GNU.sparse.map", "0,512")],
        &[("GNU.sparse.size", "512"), ("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,512")],
        &[("GNU.sparse.size", "512"), ("GNU.sparse.offset", "0"), ("GNU.sparse.offset", "0")],
        &[("GNU.sparse.size", "512"), ("GNU.sparse.numbytes", "512")],
        &[("GNU.sparse.size", "512"), ("GNU.sparse.offset", "0")],
        &[("GNU.sparse.size", "512"), ("GNU.sparse.color", "red")],
        &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "512")],
    ] {
        refused(&pax(records, &block).end(), "");
    }
    let link = Tar::default().pax(&[("GNU.sparse.size", "512")]).symlink("l", "x").end();
    refused(&link, "entry `l`: has holes and is not a file");
    // A name may come with the map, and leads nowhere else than other names.
    for name in ["../evil", "/etc/evil"] {
        let records = [("GNU.sparse.name", name), ("GNU.sparse.size", "512"), ("GNU.sparse.map", "0,512")];
        refused(&pax(&records, &block).end(), name);
    }
    // Cut within the map, in each form that has one of its own.
    let pieces: Vec<(u64, u64)> = (0..40).map(|n| (n * 1024, 512)).collect();
    let whole = old(&pieces, 1 << 20, &[b'a'; 40 * 512]).0;
    refused(&whole[..600], "cut short within a map of holes");
    refused(&whole[..1100], "cut short within a map of holes");
    refused(&whole[..2000], "entry `s`: the archive is cut short");
    let map: String = "9".repeat(2000);
    refused(&newest(&map, "4096", b"").end(), "not a list of numbers");
}

/// Holes cost nothing in the archive, so that their size is what is limited: of one, and of all.
#[test]
fn case_91_holes_count_towards_the_limit() {
    refused(
        &newest("0\n", "4398046511104", b"").end(),
        "entry `s`: the archive unpacks to more than 67108864 bytes",
    );
    refused(&old(&[], 0o77_777_777_777, b"").end(), "unpacks to more than 67108864 bytes");
    let limits = Some(Limits { max_bytes: 10_000, max_entries: 10 });
    let one = newest("0\n", "6000", b"").0;
    let options = Options { limits, ..Options::default() };
    Yard::new().unpack(&[&one[..], &[0; 1024]].concat(), &options).expect("within the limit");
    refused_with(&[&one[..], &one, &[0; 1024]].concat(), &options, "more than 10000 bytes");
}

/// What GNU tar writes of a file with holes, in each of its forms, is what it was.
#[test]
fn what_gnu_tar_writes_comes_back() {
    let is_gnu =
        Command::new("tar").arg("--version").output().is_ok_and(|o| o.stdout.starts_with(b"tar (GNU tar)"));
    if !is_gnu {
        println!("skipped: GNU tar is not here");
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut files = Vec::new();
    for (name, pieces, size) in [
        ("many", (0..300).map(|n| n * 65_536).collect::<Vec<u64>>(), 300 * 65_536),
        ("hole", vec![], 1_000_001),
        ("end", vec![999_000], 999_007),
        ("start", vec![0], 500_000),
        ("dense", vec![0], 7),
    ] {
        let long = format!("{}/{name}", "d".repeat(120));
        std::fs::create_dir_all(home.path().join("d".repeat(120))).expect("room");
        for name in [name, &long] {
            let mut file = File::create(home.path().join(name)).expect("room");
            for at in &pieces {
                file.seek(SeekFrom::Start(*at)).expect("it is a file");
                file.write_all(format!("data {at}").as_bytes()).expect("room");
            }
            let size = size.max(file.metadata().expect("a file").len());
            file.set_len(size).expect("room");
            files.push(name.to_owned());
        }
    }
    for form in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        for detection in ["seek", "raw"] {
            let output = Command::new("tar")
                .args(["--create", "--sparse", "--file=-"])
                .arg(format!("--hole-detection={detection}"))
                .args(form)
                .args(&files)
                .current_dir(home.path())
                .output()
                .expect("tar starts");
            assert!(output.status.success(), "{form:?}");
            let yard = Yard::new();
            yard.unpack(&output.stdout, &Options::default()).unwrap_or_else(|e| panic!("{form:?}: {e}"));
            for name in &files {
                let same = std::fs::read(home.path().join(name)).expect("a file of ours")
                    == std::fs::read(yard.tree().join(name)).expect("it came back");
                assert!(same, "{name} in {form:?}, {detection}");
            }
        }
    }
}
