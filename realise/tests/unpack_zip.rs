//! Zip: what honest writers make is read as other readers do, and what only a liar makes is refused.

#[allow(dead_code, reason = "each test file uses its own part of this")]
mod support;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use ampoule_realise::unpack::{Format, Limits, Options};
use support::archives::{Member, Zip, bzip2, lzma, xz, zstd};
use support::listing;
use support::unpacking::{Yard, accepted, plain, refused, refused_with};

fn zip_of(members: &[Member<'_>]) -> Vec<u8> {
    members.iter().fold(Zip::default(), Zip::member).end()
}

fn named_zip() -> Options {
    Options { format: Some(Format::Zip), ..Options::default() }
}

const TEXT: &[u8] = b"the same words again, the same words again, the same words again";

fn deflated(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

/// LZMA as zip has it: a version, the properties, the data; no size.
fn zipped_lzma(bytes: &[u8]) -> Vec<u8> {
    let own = lzma(bytes);
    [&[26, 2, 5, 0][..], &own[..5], &own[13..]].concat()
}

fn in_all_methods() -> Vec<Member<'static>> {
    let packed = [
        (0, 0, TEXT.to_vec()),
        (8, 0, deflated(TEXT)),
        (12, 0, bzip2(TEXT)),
        (14, 2, zipped_lzma(TEXT)),
        (93, 0, zstd(TEXT)),
        (95, 0, xz(TEXT)),
    ];
    let member = |(method, flags, packed)| Member { method, flags, packed, ..Member::stored("f", TEXT) };
    packed.into_iter().map(member).collect()
}

#[test]
fn all_methods_give_the_same_bytes() {
    let expected = format!("f {}", String::from_utf8_lossy(TEXT));
    for member in in_all_methods() {
        assert_eq!(
            plain(&zip_of(std::slice::from_ref(&member))),
            [expected.as_str()],
            "method {}",
            member.method
        );
        // With a wrong sum, cut, or longer than the directory says, it is refused.
        let short = Member { plain: &TEXT[..TEXT.len() - 1], ..member.clone() };
        refused(&zip_of(&[short]), "entry `f`: ");
        let other = Member { plain: b"other", ..member.clone() };
        refused(&zip_of(&[other]), "entry `f`: ");
        for len in 0..member.packed.len() {
            let cut = Member { packed: member.packed[..len].to_vec(), ..member.clone() };
            let error = Yard::new().unpack(&zip_of(&[cut]), &Options::default());
            assert!(error.is_err(), "method {} cut at {len}", member.method);
        }
    }
}

#[test]
fn methods_that_are_not_read_are_named() {
    for (method, name) in [(9, " (deflate64)"), (1, " (shrink)"), (98, " (PPMd)"), (42, "")] {
        let member = Member { method, ..Member::stored("f", TEXT) };
        refused(
            &zip_of(&[member]),
            &format!("entry `f`: zip method {method}{name} is not read; stored, deflate"),
        );
    }
    for flags in [1, 0x41] {
        refused(&zip_of(&[Member { flags, ..Member::stored("f", TEXT) }]), "entry `f`: is encrypted");
    }
}

/// Writers that cannot go back leave some of the header's fields at zero, and some do not.
#[test]
fn data_descriptors() {
    let size = TEXT.len() as u32;
    for local in [(0, 0, 0), (size, 0, 0), (size, size, 0)] {
        let streamed = Member { flags: 8, local: Some(local), ..Member::stored("f", TEXT) };
        assert_eq!(plain(&zip_of(std::slice::from_ref(&streamed))).len(), 1, "{local:?}");
        // Without the flag it is a lie.
        refused(
            &zip_of(&[Member { flags: 0, ..streamed }]),
            "entry `f`: its header and the zip directory say different",
        );
    }
    let lie = Member { flags: 8, local: Some((size + 1, 0, 0)), ..Member::stored("f", TEXT) };
    refused(&zip_of(&[lie]), "different sizes");
    let lie = Member { local: Some((size, size, 7)), ..Member::stored("f", TEXT) };
    refused(&zip_of(&[lie]), "different checksums");
}

/// The extra field of the own header says where the data begin: with it they may reach into the next entry.
#[test]
fn case_98_data_that_reach_into_the_next_entry() {
    let shifted =
        Member { extra: vec![0xca, 0xfe, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0], ..Member::stored("a", TEXT) };
    assert_eq!(plain(&zip_of(&[shifted.clone(), Member::stored("b", TEXT)])).len(), 2);
    let mut zip = Zip::default().member(&shifted).member(&Member::stored("b", TEXT));
    // Twelve bytes longer than they are, up to the middle of the next header.
    let longer = (TEXT.len() as u32 + 12).to_le_bytes();
    for (bytes, at) in [(&mut zip.data, 18), (&mut zip.directory, 20)] {
        bytes[at..at + 4].copy_from_slice(&longer);
        bytes[at + 4..at + 8].copy_from_slice(&longer);
    }
    refused(&zip.end(), "entry `a`: overlaps what follows it");
}

#[test]
fn names_as_their_writers_meant_them() {
    let named = |name: &'static [u8], flags, host| Member { name, flags, host, ..Member::stored("", b"x") };
    // The letters of DOS; UTF-8 with and without the flag; a Unix's bytes.
    assert_eq!(plain(&zip_of(&[named(b"gr\x81n", 0, 0)])), ["grün x"]);
    assert_eq!(plain(&zip_of(&[named("grün".as_bytes(), 1 << 11, 0)])), ["grün x"]);
    assert_eq!(plain(&zip_of(&[named("grün".as_bytes(), 0, 0)])), ["grün x"]);
    let yard = Yard::new();
    yard.unpack(&zip_of(&[named(b"gr\x81n", 0, 3)]), &Options::default()).expect("a name like any other");
    assert!(yard.tree().join(std::ffi::OsStr::from_bytes(b"gr\x81n")).exists());
    refused(
        &zip_of(&[named(b"gr\x81n", 1 << 11, 3)]),
        "entry `gr\\x81n`: its name is said to be UTF-8 and is not",
    );
    refused(&zip_of(&[named(b"..\x5cevil", 0, 0)]), "backslash");
    refused(&zip_of(&[named(b"a\0b", 0, 3)]), "NUL");
    refused(&zip_of(&[named(b"", 0, 3)]), "the top entry is not a directory");
}

/// A program before the archive: its offsets count from the file's start, or from its own.
#[test]
fn archives_behind_a_program() {
    let zip = Zip::default().file("a", b"1").file("b", b"2");
    let program = b"#!/bin/sh\nexit 1\n".to_vec();
    let own =
        [&program[..], &Zip { data: zip.data.clone(), directory: zip.directory.clone(), entries: 2 }.end()]
            .concat();
    refused(&own, "say `format = \"zip\"`");
    assert_eq!(accepted(&own, &named_zip()), ["a 1", "b 2"]);
    let mut whole = Zip { data: program.clone(), ..Zip::default() };
    whole = whole.file("a", b"1").file("b", b"2");
    assert_eq!(accepted(&whole.end(), &named_zip()), ["a 1", "b 2"]);
    // Nothing before it is read, and nothing after it is taken for it.
    refused_with(&[&own[..], b"x"].concat(), &named_zip(), "its directory is missing");
    refused_with(b"#!/bin/sh\n", &named_zip(), "not a zip archive");
}

#[test]
fn case_98_an_archive_with_two_ends() {
    let inner = Zip::default().file("evil", b"x").end();
    let mut outer = Zip::default().file("good", b"x").end();
    let len = outer.len();
    outer[len - 2..].copy_from_slice(&(inner.len() as u16).to_le_bytes());
    refused(&[outer, inner].concat(), "has two ends");
    // A comment that is only a comment is fine.
    let mut zip = Zip::default().file("good", b"x").end();
    let len = zip.len();
    zip[len - 2..].copy_from_slice(&4_u16.to_le_bytes());
    assert_eq!(plain(&[&zip[..], b"PK\x05\x06"].concat()), ["good x"]);
}

/// Fifield's bomb without shared bytes: each entry is small for what it gives. Its directory says how much.
#[test]
fn case_95_a_bomb_is_seen_before_a_byte_is_unpacked() {
    let zeros = vec![0; 1 << 20];
    let packed = deflated(&zeros);
    let names: Vec<String> = (0..3).map(|n| format!("f{n}")).collect();
    let members: Vec<_> = names
        .iter()
        .map(|name| Member { method: 8, packed: packed.clone(), plain: &zeros, ..Member::stored(name, b"") })
        .collect();
    let limits =
        |max_bytes| Options { limits: Some(Limits { max_bytes, max_entries: 9 }), ..Options::default() };
    let yard = Yard::new();
    yard.unpack(&zip_of(&members), &limits(3 << 20)).expect("just within the limit");
    yard.clear();
    let error = yard.unpack(&zip_of(&members), &limits((3 << 20) - 1)).expect_err("a bomb").to_string();
    assert!(error.contains("more than 3145727 bytes"), "{error}");
    assert_eq!(listing(&yard.tree()), [""; 0]);
    // One that lies about it ends at what it said.
    let liar = Member { method: 8, packed, plain: &zeros[..100], ..Member::stored("f", b"") };
    refused(&zip_of(&[liar]), "entry `f`: is longer than the zip directory says");
    let options =
        Options { limits: Some(Limits { max_bytes: 1 << 20, max_entries: 2 }), ..Options::default() };
    refused_with(
        &zip_of(&[Member::stored("a", b""), Member::stored("b", b""), Member::stored("c", b"")]),
        &options,
        "more than 2 entries",
    );
}

fn runs(program: &str, arguments: &[&str], dir: &Path) -> bool {
    Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// What `zip` and Python write comes back as it was.
#[test]
fn what_other_writers_make() {
    const WRITE: &str = "
import io, os, sys, zipfile
class Pipe(io.RawIOBase):
    def __init__(self, to): self.to = to
    def writable(self): return True
    def write(self, data): return self.to.write(data)
for name, method in ('stored', 0), ('deflated', 8), ('bzip2', 12), ('lzma', 14):
    for kind in 'whole', 'streamed':
        with open(f'py-{name}-{kind}.zip', 'wb') as file:
            with zipfile.ZipFile(Pipe(file) if kind == 'streamed' else file, 'w', method) as archive:
                for path in 'tree/text', 'tree/run', 'tree/grün':
                    archive.write(path)
                info = zipfile.ZipInfo('tree/wide')
                info.compress_type, info.external_attr = method, 0o644 << 16
                with archive.open(info, 'w', force_zip64=True) as wide:
                    wide.write(b'wide')
";
    let home = tempfile::tempdir().expect("a temporary directory");
    let tree = home.path().join("tree");
    std::fs::create_dir(&tree).expect("room");
    for (name, text) in
        [("text", "words ".repeat(4000)), ("run", "#!/bin/sh\n".to_owned()), ("grün", "x".to_owned())]
    {
        std::fs::write(tree.join(name), text).expect("room");
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(tree.join("run"), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut expected = listing(&tree).into_iter().map(|line| format!("tree/{line}")).collect::<Vec<_>>();
    let mut compared = 0;
    for (name, command) in [
        ("whole", "zip -qr zip-whole.zip tree"),
        ("pipe", "zip -qr - tree | cat > zip-pipe.zip"),
        ("bzip2", "zip -qr -Z bzip2 zip-bzip2.zip tree"),
        ("wide", "zip -qr -fz zip-wide.zip tree"),
    ] {
        // A file tells more than the status of a pipe.
        if runs("sh", &["-c", command], home.path())
            && home.path().join(format!("zip-{name}.zip")).metadata().is_ok_and(|m| m.len() > 0)
        {
            let bytes = std::fs::read(home.path().join(format!("zip-{name}.zip"))).expect("a file");
            assert_eq!(plain(&bytes)[1..], expected, "{name}");
            compared += 1;
        }
    }
    expected.push("tree/wide wide".to_owned());
    if runs("python3", &["-c", WRITE], home.path()) {
        for file in std::fs::read_dir(home.path()).expect("a directory of ours").flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with("py-") {
                assert_eq!(plain(&std::fs::read(file.path()).expect("a file"))[1..], expected, "{name}");
                compared += 1;
            }
        }
    }
    if compared == 0 {
        println!("skipped: neither zip nor python3 is here");
    }
}
