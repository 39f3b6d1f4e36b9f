//! Hostile and odd archives. Names say the number of the case that a test shows.

#[allow(dead_code, reason = "each test file uses its own part of this")]
mod support;

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use ampoule_realise::unpack::{Format, Limits, Options, RelPath};
use ampoule_store::{HashAlgo, Method};
use support::archives::{Header, Tar, Zip, ar, bzip2, deb, gzip, lzma, pax_record, xz, zstd};
use support::unpacking::{Yard, accepted, plain, refused, refused_with, strip};

#[test]
fn every_compression_gives_the_same_tree() {
    let tar = Tar::default()
        .dir("./")
        .dir("./d")
        .file("./d/f", "hello")
        .header(Header::new("./d/x", b'0', 2).mode(0o4755))
        .data(b"hi")
        .symlink("./l", "d/f")
        .hard_link("./h", "./d/f")
        .end();
    let expected = ["d/", "d/f hello", "d/x x hi", "h hello", "l -> d/f"];
    for bytes in [tar.clone(), gzip(&tar), xz(&tar), zstd(&tar), bzip2(&tar)] {
        assert_eq!(plain(&bytes), expected);
    }
}

#[test]
fn case_83_names_that_lead_out_are_refused_by_name() {
    for name in ["../evil", "a/../../evil", "./../evil", "a/.."] {
        refused(&Tar::default().file(name, "x").end(), "leads upwards");
        refused(&Tar::default().file(name, "x").end(), name);
    }
    refused(&Tar::default().file("/etc/evil", "x").end(), "entry `/etc/evil`: the name is absolute");
    refused(&Tar::default().symlink("/evil", "x").end(), "absolute");
}

#[test]
fn case_83_links_of_the_archive_are_never_followed() {
    for target in ["..", "/", ".", "d"] {
        let tar = Tar::default().dir("d").symlink("l", target).file("l/neighbour", "evil").end();
        refused(&tar, "symbolic link");
    }
    let chain =
        Tar::default().dir("a").symlink("a/b", "..").symlink("c", "a/b/..").file("c/neighbour", "evil").end();
    refused(&chain, "symbolic link");
    let over = Tar::default().symlink("l", "../../neighbour").file("l", "evil").end();
    refused(&over, "entry `l`: is a file where a symbolic link came before");
    let deep = Tar::default().dir("a/b").symlink("a/b/l", "../../..").dir("a/b/l/x").end();
    refused(&deep, "symbolic link");
}

#[test]
fn case_84_hard_links_stay_inside() {
    for target in ["../neighbour", "/etc/passwd", "a/../../neighbour"] {
        refused(&Tar::default().hard_link("h", target).end(), "a hard link to");
    }
    refused(&Tar::default().hard_link("h", "absent").end(), "which is nothing here");
    refused(&Tar::default().dir("d").hard_link("h", "d").end(), "which is a directory here");
    refused(
        &Tar::default().symlink("l", "../../neighbour").hard_link("h", "l").end(),
        "which is a symbolic link here that leads out",
    );
    refused(&Tar::default().dir("d").symlink("d/l", "..").hard_link("h", "d/l").end(), "that leads out");
    refused(&Tar::default().symlink("l", "/etc/passwd").hard_link("h", "l").end(), "that leads out");
    // What `tar` writes for two names of one symbolic link. Nothing is written through either.
    let two = Tar::default().file("f", "x").symlink("l", "f").hard_link("h", "l");
    assert_eq!(plain(&two.clone().end()), ["f x", "h -> f", "l -> f"]);
    refused(&two.file("h", "evil").end(), "is a file where a symbolic link came before");
    refused(&Tar::default().symlink("l", "../..").hard_link("h", "l/neighbour").end(), "not in the archive");
    refused(&Tar::default().file("h", "x").hard_link("h", "h").end(), "to itself");
    // Written through afterwards: the other name keeps its bytes.
    let tar = Tar::default().file("a", "first").hard_link("h", "a").file("h", "second").end();
    assert_eq!(plain(&tar), ["a first", "h second"]);
}

#[test]
fn case_85_a_symlink_is_not_turned_into_a_directory() {
    let yard = Yard::new();
    let before = std::fs::metadata(yard.dir.path()).expect("a directory").mode();
    let tar = Tar::default().symlink("l", "../..").header(Header::new("l", b'5', 0).mode(0o777)).end();
    let error = yard.unpack(&tar, &Options::default()).expect_err("refused").to_string();
    assert!(error.contains("entry `l`: is, or lies behind, a symbolic link"), "{error}");
    assert_eq!(std::fs::metadata(yard.dir.path()).expect("a directory").mode(), before);
}

#[test]
fn case_86_the_top_must_be_a_directory() {
    for top in ["./", "."] {
        refused(
            &Tar::default().symlink(top, "..").file("neighbour", "evil").end(),
            "the top entry is not a directory",
        );
    }
    let tar = Tar::default().symlink("top", "..").file("top/neighbour", "evil").end();
    refused_with(&tar, &strip(), "the top entry is not a directory");
    refused_with(&Tar::default().file("only", "x").end(), &strip(), "the top entry is not a directory");
    let tar = Tar::default().file("top/f", "x").symlink("top", "..").end();
    refused_with(&tar, &strip(), "the top entry is not a directory");
}

#[test]
fn case_87_devices_are_refused_and_metadata_goes() {
    for (kind, word) in [(b'3', "character device"), (b'4', "block device"), (b'6', "fifo")] {
        refused(&Tar::default().header(Header::new("dev", kind, 0)).end(), word);
    }
    let yard = Yard::new();
    let tar = Tar::default()
        .pax(&[
            ("SCHILY.xattr.user.x", "y"),
            ("mtime", "1.5"),
            ("LIBARCHIVE.xattr.security.capability", "AQ=="),
        ])
        .header(Header::new("suid", b'0', 1).mode(0o6755))
        .data(b"x")
        .header(Header::new("secret", b'0', 1).mode(0o000))
        .data(b"x")
        .header(Header::new("sticky", b'5', 0).mode(0o1777))
        .end();
    yard.unpack(&tar, &Options::default()).expect("a good archive");
    let mode = |name: &str| std::fs::symlink_metadata(yard.tree().join(name)).expect(name).mode() & 0o7777;
    assert_eq!((mode("suid"), mode("secret")), (0o555, 0o444));
    assert_eq!(mode("sticky") & 0o7022, 0, "no set-id, no sticky, nobody else writes");
}

#[test]
fn case_88_the_one_rule_for_duplicates() {
    // A file again: the later one. A directory again: the same. The same link again: the same.
    let tar =
        Tar::default().file("f", "1").dir("d").symlink("l", "f").file("f", "two").dir("d/").symlink("l", "f");
    assert_eq!(plain(&tar.end()), ["d/", "f two", "l -> f"]);
    refused(
        &Tar::default().symlink("l", "a").symlink("l", "b").end(),
        "is a symbolic link where a symbolic link",
    );
    refused(&Tar::default().file("f", "1").dir("f").end(), "is a directory where a file");
    refused(&Tar::default().dir("d").file("d", "1").end(), "is a file where a directory came before");
    refused(&Tar::default().file("f", "1").file("f/g", "2").end(), "file");
    refused(&Tar::default().file("f", "1").symlink("f", "x").end(), "is a symbolic link where a file");
}

#[test]
fn case_89_pax_wins_and_smuggles_nothing() {
    refused(&Tar::default().pax(&[("path", "../evil")]).file("good", "x").end(), "leads upwards");
    refused(
        &Tar::default().file("t", "").pax(&[("linkpath", "../neighbour")]).hard_link("h", "t").end(),
        "upwards",
    );
    assert_eq!(plain(&Tar::default().pax(&[("path", "named")]).file("x", "1").end()), ["named 1"]);
    // The header says 0 bytes, PAX says 512: the block after is data, not an entry.
    let inner = Header::new("smuggled", b'0', 0).summed();
    let tar = Tar::default()
        .pax(&[("size", "512")])
        .header(Header::new("f", b'0', 0))
        .raw(&inner)
        .file("g", "2")
        .end();
    let tree = plain(&tar);
    assert!(tree[0].starts_with("f smuggled") && tree[1] == "g 2" && tree.len() == 2, "{tree:?}");
    // The other way round: the header says 512 bytes, PAX says 0: the block is an entry.
    let tar = Tar::default().pax(&[("size", "0")]).header(Header::new("f", b'0', 512)).raw(&inner).end();
    assert_eq!(plain(&tar), ["f ", "smuggled "]);
    // One name, or size, for all entries.
    let record = pax_record("path", "evil");
    let global = Tar::default().header(Header::new("g", b'g', record.len() as u64)).data(record.as_bytes());
    refused(&global.file("f", "x").end(), "gives all entries one `path`");
    let record = pax_record("comment", "0123456789abcdef");
    let global = Tar::default().header(Header::new("g", b'g', record.len() as u64)).data(record.as_bytes());
    assert_eq!(plain(&global.file("f", "x").end()), ["f x"]);
}

#[test]
fn case_90_a_malformed_pax_record_is_refused() {
    for record in [
        "no length=x\n",
        "99 path=x\n",
        "12 path=xyz",
        "3 \n",
        "7 path\n",
        "10 path=x\nz",
        "5 =x\n",
        " 9 path=x\n",
    ] {
        let tar = Tar::default().pax_raw(record.as_bytes()).file("f", "x").end();
        refused(&tar, "PAX header is malformed");
    }
    for (key, value) in [("size", "-1"), ("size", "1e3"), ("uid", "99999999999999999999999")] {
        refused(
            &Tar::default().pax(&[(key, value)]).file("f", "x").end(),
            "is not a number, negative, or too large",
        );
    }
}

#[test]
fn case_91_announced_sizes_cost_nothing() {
    let start = Instant::now();
    let with_size = |kind, field: &[u8]| {
        let mut header = Header::new("f", kind, 0);
        header.set(124, field);
        Tar::default().header(header).end()
    };
    let tebibyte = b"\x80\0\0\0\0\0\x01\0\0\0\0\0";
    refused(&with_size(b'0', tebibyte), "unpacks to more than");
    refused(&with_size(b'L', tebibyte), "extended header of 1099511627776 bytes");
    refused(&with_size(b'x', tebibyte), "extended header");
    refused(&with_size(b'0', b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), "negative");
    refused(&with_size(b'0', b"-0000000001\0"), "not a number");
    refused(&with_size(b'0', b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "too large");
    refused(&with_size(b'L', b"100000000000"), "extended header");
    refused(&with_size(b'S', tebibyte), "entry `f`: its map of holes is wrong");
    let holes = [("GNU.sparse.realsize", "4398046511104"), ("GNU.sparse.map", "0,1")];
    refused(&Tar::default().pax(&holes).file("f", "x").end(), "entry `f`: the archive unpacks to more than");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn case_92_damage_is_refused() {
    let good = Tar::default().file("f", &"x".repeat(2000)).file("g", "y").end();
    let mut bad = good.clone();
    bad[0] ^= 1;
    refused(&bad, "checksum is wrong");
    // Cut anywhere but at an entry's edge.
    for cut in [1, 100, 511, 513, 1000, 2511, 2600] {
        refused(&good[..cut], "cut short");
    }
    for packed in [gzip(&good), xz(&good), zstd(&good), bzip2(&good)] {
        for cut in [packed.len() / 2, packed.len() - 1] {
            assert!(Yard::new().unpack(&packed[..cut], &Options::default()).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn case_93_a_wrong_checksum_after_the_end_marker_is_seen() {
    let tar = Tar::default().file("f", "x").end();
    let mut bytes = gzip(&tar);
    let crc = bytes.len() - 8;
    bytes[crc] ^= 1;
    refused(&bytes, "cannot be read");
    let mut bytes = gzip(&tar);
    let len = bytes.len() - 1;
    bytes[len] ^= 1;
    refused(&bytes, "cannot be read");
    let mut bytes = xz(&tar);
    let check = bytes.len() - 40;
    bytes[check] ^= 1;
    assert!(Yard::new().unpack(&bytes, &Options::default()).is_err());
}

#[test]
fn case_94_all_members_are_read() {
    let tar = Tar::default().file("f", "first").file("g", "second").end();
    let (a, b) = tar.split_at(700);
    for pack in [gzip, xz, zstd, bzip2] {
        let bytes = [pack(a), pack(b)].concat();
        assert_eq!(plain(&bytes), ["f first", "g second"]);
    }
    // Zero padding after gzip is a tape's; garbage is not.
    assert_eq!(plain(&[gzip(&tar), vec![0; 3000]].concat()), ["f first", "g second"]);
    assert!(Yard::new().unpack(&[gzip(&tar), b"garbage".to_vec()].concat(), &Options::default()).is_err());
    refused(&[gzip(&tar), vec![0; 10], b"x".to_vec()].concat(), "garbage follows");
}

#[test]
fn case_95_a_bomb_stops_at_the_stated_limit() {
    let bomb = |size: usize| {
        Tar::default().header(Header::new("zero", b'0', size as u64)).data(&vec![0; size]).end()
    };
    let packed = zstd(&bomb(80 << 20));
    assert!(packed.len() < 1 << 20);
    refused(&packed, "more than 67108864 bytes (200 times its size, at least 64 MiB); set `maxSize`");
    // Many small ones, and what follows the end marker, count too.
    let limits = Some(Limits { max_bytes: 100_000, max_entries: 10 });
    let many = (0..9).fold(Tar::default(), |tar, n| tar.file(&format!("{n}"), &"x".repeat(20_000)));
    refused_with(&gzip(&many.end()), &Options { limits, ..Options::default() }, "more than 100000 bytes");
    let tail = [Tar::default().file("f", "x").end(), vec![0; 200_000]].concat();
    refused_with(&gzip(&tail), &Options { limits, ..Options::default() }, "more than 100000 bytes");
    let names = (0..11).fold(Tar::default(), |tar, n| tar.file(&format!("{n}"), ""));
    refused_with(&names.end(), &Options { limits, ..Options::default() }, "more than 10 entries");
}

#[test]
fn case_96_depth_has_a_limit_that_is_quick() {
    let start = Instant::now();
    for deep in ["d/".repeat(3000), "d/".repeat(1025), "d/".repeat(120_000)] {
        let tar = Tar::default().pax(&[("path", &deep)]).dir("x").end();
        refused(&tar, "1024 directories deep");
    }
    // A reader that walks from the top for each part needs far longer, on any machine.
    assert!(start.elapsed() < Duration::from_secs(60));
    // What is allowed works.
    let tar = Tar::default().pax(&[("path", &format!("{}f", "d/".repeat(1000)))]).file("x", "deep").end();
    let yard = Yard::new();
    yard.unpack(&tar, &Options::default()).expect("1,000 levels are fine");
    refused(&Tar::default().pax(&[("path", &"x".repeat(300))]).file("x", "").end(), "too long");
}

#[test]
fn case_97_the_top_directory_is_one() {
    let one = Tar::default().dir("pkg-1.0").file("pkg-1.0/f", "x").hard_link("pkg-1.0/h", "pkg-1.0/f").end();
    assert_eq!(accepted(&one, &strip()), ["f x", "h x"]);
    let two = Tar::default().file("a/f", "x").file("b/f", "y").end();
    refused_with(&two, &strip(), "more than one entry at the top, `a` and `b`");
    assert_eq!(plain(&two), ["a/", "a/f x", "b/", "b/f y"]);
    for empty in [Tar::default().end(), Tar::default().dir("./").end()] {
        refused(&empty, "the archive holds nothing");
        refused(&gzip(&empty), "the archive holds nothing");
    }
    refused(b"", "the archive is empty");
    refused_with(&Tar::default().end(), &strip(), "the archive holds nothing");
    let options = Options { subdir: RelPath::parse(b"src").expect("a name"), ..strip() };
    assert_eq!(accepted(&Tar::default().file("p/src/f", "x").file("p/README", "y").end(), &options), ["f x"]);
    refused_with(&Tar::default().file("p/README", "y").end(), &options, "nothing at `src`");
}

#[test]
fn case_98_zip_as_tar() {
    let good =
        Zip::default().file("d/f", b"hello").symlink("l", "d/f").entry("x", "x", 0o100_755, b"run", 3).end();
    assert_eq!(plain(&good), ["d/", "d/f hello", "l -> d/f", "x x run"]);
    for name in ["../evil", "/evil", "a/../../evil"] {
        refused(&Zip::default().file(name, b"x").end(), name);
    }
    refused(&Zip::default().file("..\\evil", b"x").end(), "backslash");
    refused(&Zip::default().symlink("l", "..").file("l/neighbour", b"evil").end(), "symbolic link");
    refused(&Zip::default().symlink("l", "../../neighbour").file("l", b"evil").end(), "came before");
    refused(&Zip::default().file("f", b"x").file("f/g", b"x").end(), "file");
    // The two places where a zip says what it holds must say the same.
    refused(&Zip::default().entry("good", "evil", 0o100_644, b"x", 1).end(), "different names");
    refused(&Zip::default().entry("f", "f", 0o100_644, b"xyz", 1).end(), "different sizes");
    refused(&Zip::default().entry("f", "f", 0o060_644, b"", 0).end(), "special file");
    let mut wrong = Zip::default().file("f", b"hello").end();
    wrong[31] = b'H';
    refused(&wrong, "wrong checksum");
    // More entries than there are, or fewer; a directory that is elsewhere.
    let mut lies = Zip { entries: 1, ..Zip::default().file("f", b"x").file("g", b"y") };
    lies.entries = 1;
    refused(&lies.end(), "more than it says");
    let lies = Zip { entries: 9, ..Zip::default().file("f", b"x") };
    refused(&lies.end(), "cut short");
    let mut shifted = vec![b'P', b'K', 3, 4, 0];
    shifted.extend(Zip::default().file("f", b"x").end());
    refused(&shifted, "not where the archive says");
    // zip64: a record that says otherwise, and one that claims a million entries.
    for entries in [7_u64, 1 << 40] {
        let zip = Zip::default().file("f", b"x");
        let (at, size) = (zip.data.len() as u64, zip.directory.len() as u64);
        let plain_end = zip.end();
        let (body, end) = plain_end.split_at(plain_end.len() - 22);
        let mut record = b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0".to_vec();
        for value in [entries, entries, size, at] {
            record.extend(value.to_le_bytes());
        }
        let mut locator = b"PK\x06\x07\0\0\0\0".to_vec();
        locator.extend((body.len() as u64).to_le_bytes());
        locator.extend([1, 0, 0, 0]);
        refused(&[body, &record, &locator, end].concat(), "do not agree");
    }
    // Two entries that share their bytes.
    let mut shared = Zip::default().file("a", b"hello").file("b", b"hello");
    let second = shared.directory.len() / 2;
    shared.directory[second + 42..second + 46].copy_from_slice(&0_u32.to_le_bytes());
    refused(&shared.end(), "overlaps");
    refused(&good[..good.len() - 1], "cut short");
}

#[test]
fn case_98_a_zip_bomb_is_seen_in_its_directory() {
    let options = Options { limits: Some(Limits { max_bytes: 10, max_entries: 9 }), ..Options::default() };
    refused_with(
        &Zip::default().file("a", b"123456").file("b", b"123456").end(),
        &options,
        "unpacks to more than 10",
    );
}

/// What comes after an archive, in each form: zeros where tapes leave them, garbage never.
#[test]
fn case_94_what_follows_a_compressed_stream() {
    let tar = Tar::default().file("f", "x").end();
    for (pack, name) in
        [(gzip as fn(&[u8]) -> Vec<u8>, "gzip"), (xz, "xz"), (zstd, "zstd"), (bzip2, "bzip2"), (lzma, "lzma")]
    {
        for junk in [&b"garbage"[..], b"x", &[0, 0, 0, 0, b'x']] {
            let result = Yard::new().unpack(&[&pack(&tar), junk].concat(), &Options::default());
            assert!(result.is_err(), "{junk:?} after {name}");
        }
        let cut = pack(&tar);
        for len in 1..cut.len() {
            let result = Yard::new().unpack(&cut[..len], &Options::default());
            assert!(result.is_err(), "{name} cut at {len} of {}", cut.len());
        }
        assert_eq!(plain(&pack(&tar)), ["f x"], "{name}");
    }
}

/// POSIX: an unknown type is a file. GNU's incremental archives have directories with lists of names.
#[test]
fn types_that_few_know() {
    let of_type = |kind, data: &[u8]| {
        Tar::default().header(Header::new("f", kind, data.len() as u64)).data(data).file("after", "y").end()
    };
    for kind in [b'z', b'Q', b'7', b'A', b'8'] {
        assert_eq!(plain(&of_type(kind, b"x")), ["after y", "f x"]);
    }
    assert_eq!(plain(&of_type(b'D', b"Yname\0Nother\0\0")), ["after y", "f/"]);
    assert_eq!(plain(&of_type(b'V', b"")), ["after y"]);
    for kind in [b'M', b'N'] {
        refused(&of_type(kind, b"x"), "entry `f`: parts of several volumes");
    }
    let record = pax_record("GNU.volume.filename", "f");
    let global = Tar::default().header(Header::new("g", b'g', record.len() as u64)).data(record.as_bytes());
    refused(&global.file("f", "x").end(), "parts of several volumes");
}

/// An error says which entry it is about, or after which one it comes.
#[test]
fn errors_name_the_entry() {
    let tar = Tar::default().file("first", "x").file("second", &"y".repeat(600));
    refused(&tar.0[..1700], "entry `second`: the archive is cut short within a file");
    refused(&tar.0[..1200], "cut short within a header (after entry `first`)");
    let mut damaged = tar.clone().end();
    damaged[1024] ^= 1;
    refused(&damaged, "checksum is wrong: not a tar archive, or a damaged one (after entry `first`)");
    let mut damaged = gzip(&tar.clone().end());
    let last = damaged.len() - 5;
    damaged[last] ^= 1;
    refused(&damaged, "(after entry `second`)");
    refused(
        &tar.pax_raw(b"nonsense").file("f", "").end(),
        "a PAX header is malformed (after entry `second`)",
    );
}

#[test]
fn case_99_whiteout_names_are_plain_files() {
    let tar = Tar::default()
        .file("x", "kept")
        .file(".wh.x", "")
        .file("d/.wh..wh..opq", "")
        .file(".wh...", "")
        .end();
    assert_eq!(plain(&tar), [".wh... ", ".wh.x ", "d/", "d/.wh..wh..opq ", "x kept"]);
}

#[test]
fn odd_names_are_kept_byte_for_byte() {
    let tar = Tar::default()
        .file("-rf", "1")
        .file("a b", "2")
        .file("new\nline", "3")
        .file("A", "4")
        .file("a", "5")
        .end();
    assert_eq!(plain(&tar), ["-rf 1", "A 4", "a 5", "a b 2", "new\nline 3"]);
    let long = format!("{}/{}", "p".repeat(120), "n".repeat(200));
    let gnu = Tar::default()
        .header(Header::new("././@LongLink", b'L', long.len() as u64 + 1))
        .data(format!("{long}\0").as_bytes());
    assert_eq!(plain(&gnu.file("cut", "x").end())[1], format!("{long} x"));
    let mut split = Header::new("name", b'0', 1);
    split.set(345, b"some/prefix");
    assert_eq!(plain(&Tar::default().header(split).data(b"x").end())[2], "some/prefix/name x");
}

#[test]
fn debian_packages_give_their_files() {
    let package = deb(
        "Package: x\n",
        &[("postinst", "#!/bin/sh\n")],
        Tar::default().dir("./").file("./usr/bin/x", "hi"),
    );
    assert_eq!(plain(&package), ["usr/", "usr/bin/", "usr/bin/x hi"]);
    refused(&ar(&[("data.tar.gz", b"")]), "`debian-binary` does not come first");
    refused(&ar(&[("debian-binary", b"2.0\n")]), "`data.tar` is missing");
    refused(&ar(&[("debian-binary", b"2.0\n"), ("debian-binary", b"2.0\n")]), "twice");
    refused(&package[..package.len() - 10], "goes beyond the end");
    let evil = deb("Package: x\n", &[], Tar::default().file("./../evil", "x"));
    refused(&evil, "leads upwards");
}

#[test]
fn formats_by_name_and_by_bytes() {
    assert_eq!(Format::parse("whl").expect("known"), Some(Format::Zip));
    assert_eq!(Format::parse("crate").expect("known"), Some(Format::Tar));
    assert!(Format::parse("cab").is_err());
    refused(b"\x1f\x9d\x90junk", "compress (.Z)");
    refused(b"070701 and so on", "cpio is not read");
    refused(b"PK\x07\x08PK\x03\x04", "in several parts");
    for program in [&b"MZ\x90"[..], b"#!/bin/sh\n", b"\x7fELF"] {
        refused(program, "begins with a program; if a zip archive follows it, say `format = \"zip\"`");
    }
    refused(b"7z\xbc\xaf\x27\x1c", "7-zip");
    refused(b"hello, this is text and no archive at all", "cut short");
    refused(&[b'x'; 600], "checksum is wrong: not a tar archive");
}

#[test]
fn nix_unpacks_to_the_same_tree() {
    let Some(nix) = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join("nix-prefetch-url")).find(|program| program.exists())
    }) else {
        println!("skipped: nix-prefetch-url is not here to compare with");
        return;
    };
    let tar = Tar::default()
        .dir("p-1/")
        .header(Header::new("p-1/bin/x", b'0', 2).mode(0o4755))
        .data(b"hi")
        .header(Header::new("p-1/secret", b'0', 2).mode(0o600))
        .data(b"hi")
        .symlink("p-1/l", "bin/x")
        .hard_link("p-1/h", "p-1/secret")
        .dir("p-1/empty/")
        .end();
    for (name, bytes) in [("a.tar.gz", gzip(&tar)), ("a.tar.xz", xz(&tar)), ("a.tar.bz2", bzip2(&tar))] {
        let yard = Yard::new();
        yard.unpack(&bytes, &strip()).expect("a good archive");
        let (hash, _) =
            ampoule_store::hash_path(&yard.tree(), Method::Nar, HashAlgo::Sha256).expect("a tree of ours");
        let home = tempfile::tempdir().expect("a temporary directory");
        let archive = home.path().join(name);
        std::fs::write(&archive, bytes).expect("room");
        let output = std::process::Command::new(&nix)
            .arg("--unpack")
            .arg(format!("file://{}", archive.display()))
            .env("HOME", home.path())
            .env("NIX_STORE_DIR", home.path().join("store"))
            .env("NIX_STATE_DIR", home.path().join("state"))
            .env("NIX_LOG_DIR", home.path().join("log"))
            .output()
            .expect("nix-prefetch-url starts");
        if !output.status.success() {
            println!(
                "skipped: nix-prefetch-url cannot run here: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            return;
        }
        let theirs = String::from_utf8_lossy(&output.stdout);
        assert_eq!(theirs.lines().next(), Some(hash.to_nix32().as_str()), "{name}");
    }
}

/// What a stream wants as a dictionary is memory before a byte is unpacked.
#[test]
fn case_91_dictionaries_that_ask_for_too_much_memory() {
    // A frame whose window is 2 GiB; and one whose contents are announced as 8 EiB.
    refused(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0, 0], "too much memory");
    let announced = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1u64 << 63).to_le_bytes(), &[1, 0, 0]].concat();
    refused(&announced, "too much memory");
    let mut bytes = xz(&Tar::default().file("f", "x").end());
    // The block's header: its size, flags, the filter and the size of its properties; then the dictionary.
    let (begin, length) = (12, (usize::from(bytes[12]) + 1) * 4);
    assert_eq!(bytes[begin + 2..begin + 4], [0x21, 1], "LZMA2 with one byte of properties");
    bytes[begin + 4] = 40;
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[begin..begin + length - 4]);
    bytes[begin + length - 4..begin + length].copy_from_slice(&crc.sum().to_le_bytes());
    refused(&bytes, "emory");
}

#[test]
fn case_89_names_of_extended_headers_are_checked_like_others() {
    let gnu = |kind, text: &str| {
        Tar::default().header(Header::new("././@LongLink", kind, text.len() as u64)).data(text.as_bytes())
    };
    refused(&gnu(b'L', "../evil\0").file("f", "x").end(), "leads upwards");
    refused(&gnu(b'L', "/etc/evil\0").file("f", "x").end(), "/etc/evil");
    refused(&gnu(b'K', "/etc/hosts\0").hard_link("f", "x").end(), "/etc/hosts");
    // A name ends at its first NUL for GNU, and may not hold one for PAX.
    assert_eq!(plain(&gnu(b'L', "good\0/../../evil").file("f", "x").end()), ["good x"]);
    refused(&Tar::default().pax(&[("path", "good\0/evil")]).file("f", "x").end(), "NUL");
    refused(&Tar::default().file("t", "").pax(&[("linkpath", "t\0/..")]).symlink("l", "t").end(), "NUL");
    // Bytes that are no text are a name like any other.
    let record = b"15 path=\xff\xfe/x\xffy\n";
    let tar = Tar::default().pax_raw(record).file("f", "x").end();
    let yard = Yard::new();
    yard.unpack(&tar, &Options::default()).expect("it is a name");
    use std::os::unix::ffi::OsStrExt;
    let path = yard.tree().join(std::ffi::OsStr::from_bytes(b"\xff\xfe/x\xffy"));
    assert_eq!(std::fs::read(path).expect("it is there"), b"x");
    // An extension that nothing follows.
    for tar in [Tar::default(), Tar::default().file("f", "x")] {
        refused(&tar.clone().pax(&[("path", "x")]).0, "");
        refused(&tar.clone().pax(&[("path", "x")]).end(), "is followed by no entry");
        refused(
            &tar.header(Header::new("././@LongLink", b'K', 2)).data(b"x\0").end(),
            "is followed by no entry",
        );
    }
}

#[test]
fn case_98_an_encrypted_zip_says_so() {
    let mut zip = Zip::default().file("f", b"secret");
    // The first bit of the flags, in both headers.
    zip.data[6] |= 1;
    zip.directory[8] |= 1;
    refused(&zip.end(), "is encrypted");
}

#[test]
fn odd_members_of_debian_packages() {
    let tar = gzip(&Tar::default().file("./f", "x").end());
    let good = |members: &[(&str, &[u8])]| {
        let all = [&[("debian-binary", &b"2.0\n"[..])][..], members].concat();
        ar(&all)
    };
    refused(&good(&[("control.tar.gz", &tar), ("data.tar.gz", &tar), ("data.tar.xz", &tar)]), "twice");
    refused(&ar(&[("debian-binary", b"3.0\n"), ("control.tar.gz", &tar), ("data.tar.gz", &tar)]), "3.0");
    // A size that is no number, and one that is larger than the file.
    let mut odd = good(&[("control.tar.gz", &tar), ("data.tar.gz", &tar)]);
    odd[8 + 48..8 + 58].copy_from_slice(b"-4        ");
    refused(&odd, "");
    odd[8 + 48..8 + 58].copy_from_slice(b"9999999999");
    refused(&odd, "beyond the end");
    let mut odd = good(&[("control.tar.gz", &tar), ("data.tar.gz", &tar)]);
    odd[8 + 58] = b'x';
    refused(&odd, "");
}
