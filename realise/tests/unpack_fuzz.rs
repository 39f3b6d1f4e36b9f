//! Thousands of archives that nobody wrote: damaged ones, and sound ones whose entries are drawn at random.
//!
//! The numbers come from a generator with a fixed seed, so that each run meets the same archives.

#[allow(dead_code, reason = "each test file uses its own part of this")]
mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ampoule_realise::unpack::{Limits, Options, RelPath};
use support::archives::{Header, Tar, Zip, ar, bzip2, gzip, xz, zstd};
use support::listing;
use support::unpacking::Yard;

/// xorshift64*: enough to choose bytes with.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_entries: 200 };

fn options(strip_root: bool) -> Options {
    Options { strip_root, limits: Some(LIMITS), ..Options::default() }
}

/// Unpacks whatever it is. What is there afterwards is what a store may hold, and no more than the limit; the
/// [`Yard`] looks that nothing beside it was touched.
fn survives(yard: &Yard, bytes: &[u8], strip_root: bool, words: &dyn Fn() -> String) -> bool {
    yard.clear();
    let result = yard.unpack(bytes, &options(strip_root));
    if let Err(error) = &result {
        assert!(!error.to_string().is_empty(), "{}", words());
    }
    if yard.tree().exists() {
        let mut size = 0;
        check(&yard.tree(), &mut size, result.is_ok(), words);
        assert!(size <= LIMITS.max_bytes, "{size} bytes: {}", words());
    }
    result.is_ok()
}

fn check(dir: &Path, size: &mut u64, is_done: bool, words: &dyn Fn() -> String) {
    for entry in std::fs::read_dir(dir).expect("a directory of ours") {
        let path = entry.expect("an entry of ours").path();
        let meta = std::fs::symlink_metadata(&path).expect("an entry of ours");
        let kind = meta.file_type();
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{}: {}", path.display(), words());
        if kind.is_dir() {
            check(&path, size, is_done, words);
        } else if kind.is_file() {
            let mode = meta.mode() & 0o7777;
            assert!(!is_done || matches!(mode, 0o444 | 0o555), "{}: {mode:o}: {}", path.display(), words());
            *size += meta.len() / meta.nlink();
        }
    }
}

fn sound_tar() -> Vec<u8> {
    let sparse = [("GNU.sparse.name", "top/s"), ("GNU.sparse.size", "9000"), ("GNU.sparse.map", "512,4")];
    let mut old = Header::new("top/old", b'S', 512);
    old.set(257, b"ustar  \0")
        .set(386, b"00000001000\0")
        .set(398, b"00000001000\0")
        .set(483, b"00000010000\0");
    Tar::default()
        .dir("top/")
        .file("top/f", "hello")
        .header(Header::new("top/x", b'0', 700).mode(0o755))
        .data(&[b'x'; 700])
        .symlink("top/l", "f")
        .hard_link("top/h", "top/f")
        .pax(&[("path", "top/long/name"), ("mtime", "1.5"), ("uid", "7")])
        .file("short", "x")
        .header(Header::new("././@LongLink", b'L', 9))
        .data(b"top/gnu1\0")
        .file("cut", "y")
        .pax(&sparse)
        .header(Header::new("top/other", b'0', 4))
        .data(b"data")
        .header(old)
        .data(&[b'o'; 512])
        .end()
}

fn sound_zip() -> Vec<u8> {
    Zip::default()
        .file("top/f", b"hello")
        .symlink("top/l", "f")
        .entry("top/x", "top/x", 0o100_755, b"run", 3)
        .file("top/d/", b"")
        .end()
}

fn sound_deb(dice: &mut Dice) -> Vec<u8> {
    let control = gzip(&Tar::default().file("./control", "Package: x\n").end());
    let tar = sound_tar();
    let (name, data) = match dice.below(3) {
        0 => ("data.tar", tar),
        1 => ("data.tar.gz", gzip(&tar)),
        _ => ("data.tar.zst", zstd(&tar)),
    };
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &control), (name, &data)])
}

const TEXTS: [&[u8]; 14] = [
    b"../evil\0",
    b"/evil\0",
    b"..\0",
    b"top/../../evil\0",
    b"top\0",
    b"top/l/evil\0",
    b"\0",
    b"./\0",
    b"\xff\xfe\0",
    b"a\nb\0",
    b"-0000001\0",
    b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"77777777777\0",
    b"99 path=../evil\n",
];

/// Damages bytes anyhow.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        let len = (1 + dice.below(600)).min(bytes.len() - at);
        match dice.below(6) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..at + len)),
            4 => {
                let piece = bytes[at..at + len].to_vec();
                let to = dice.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => overwrite(bytes, at, TEXTS[dice.below(TEXTS.len())]),
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let len = with.len().min(bytes.len() - at);
    bytes[at..at + len].copy_from_slice(&with[..len]);
}

/// Changes fields of headers and sums them up again, so that what is behind the checksum is met.
fn damage_headers(dice: &mut Dice, tar: &mut Vec<u8>) {
    const FIELDS: [(usize, usize); 12] = [
        (0, 100),
        (100, 8),
        (108, 8),
        (124, 12),
        (148, 8),
        (157, 100),
        (257, 8),
        (345, 155),
        (386, 12),
        (398, 12),
        (482, 1),
        (483, 12),
    ];
    for _ in 0..=dice.below(4) {
        let block = dice.below(tar.len() / 512);
        let header = &mut tar[block * 512..block * 512 + 512];
        if header[257..262] != *b"ustar" {
            // Data: the records of PAX, maps of holes, contents.
            let at = dice.below(40);
            header[at] = *dice.one_of(b"0123456789 =\n,./\0x");
            continue;
        }
        match dice.below(4) {
            0 => header[156] = *dice.one_of(b"01234567LKxgSDMNVXA\0zI"),
            1 => {
                let size = [0, 1, 511, 512, 513, 100_000, u64::MAX >> 1][dice.below(7)];
                header[124] = 0x80;
                header[125..136].fill(0);
                header[128..136].copy_from_slice(&size.to_be_bytes());
            }
            _ => {
                let (at, len) = *dice.one_of(&FIELDS);
                let text = TEXTS[dice.below(TEXTS.len())];
                overwrite(&mut header[at..at + len], 0, text);
            }
        }
        let sum: u32 = header
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) })
            .sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    // Entries in another order, twice, or not at all.
    if dice.below(3) == 0 {
        let from = dice.below(tar.len() / 512) * 512;
        let piece = tar[from..(from + 1536).min(tar.len())].to_vec();
        let to = dice.below(tar.len() / 512) * 512;
        tar.splice(to..to, piece);
    }
}

#[test]
fn damaged_archives_never_escape_and_never_panic() {
    let mut dice = Dice(0x5eed_a4c8_17e5_0001);
    let (yard, mut good, mut bad) = (Yard::new(), 0, 0);
    for round in 0..4000 {
        let mut tar = sound_tar();
        let kind = round % 8;
        let bytes = match kind {
            0 | 1 => {
                damage_headers(&mut dice, &mut tar);
                tar
            }
            2 => {
                damage_headers(&mut dice, &mut tar);
                if dice.below(2) == 0 { gzip(&tar) } else { zstd(&tar) }
            }
            3 => {
                damage(&mut dice, &mut tar);
                tar
            }
            4 => {
                let mut packed = [gzip, zstd, xz, bzip2][dice.below(4)](&tar);
                damage(&mut dice, &mut packed);
                packed
            }
            5 | 6 => {
                let mut zip = sound_zip();
                damage(&mut dice, &mut zip);
                zip
            }
            _ => {
                let mut deb = sound_deb(&mut dice);
                damage(&mut dice, &mut deb);
                deb
            }
        };
        let strip_root = dice.below(2) == 0;
        match survives(&yard, &bytes, strip_root, &|| format!("round {round}, kind {kind}")) {
            true => good += 1,
            false => bad += 1,
        }
    }
    // Else the damage is too small, or so large that nothing behind the first check is met.
    assert!(good > 200 && bad > 2000, "{good} were accepted, {bad} refused");
}

/// Every prefix of an archive is refused or gives some of it: never something else, never a panic.
#[test]
fn archives_cut_at_every_byte() {
    let (yard, tar) = (Yard::new(), sound_tar());
    let deb = ar(&[("debian-binary", b"2.0\n"), ("control.tar", b"-"), ("data.tar.xz", &xz(&tar))]);
    for (name, bytes, step) in [
        ("tar", tar.clone(), 67),
        ("gzip", gzip(&tar), 1),
        ("zstd", zstd(&tar), 1),
        ("xz", xz(&tar), 1),
        ("bzip2", bzip2(&tar), 1),
        ("zip", sound_zip(), 1),
        ("deb", deb, 1),
    ] {
        assert!(survives(&yard, &bytes, true, &|| name.to_owned()), "{name} is sound");
        for cut in (0..bytes.len()).step_by(step) {
            let is_accepted = survives(&yard, &bytes[..cut], true, &|| format!("{name} cut at {cut}"));
            // tar has no length and no sum of its own; its end marker may be missing.
            let between = name == "tar" && (cut.is_multiple_of(512) || cut > bytes.len() - 1024);
            assert!(!is_accepted || between, "{name} cut at {cut} of {} is taken for whole", bytes.len());
        }
    }
}

/// What is in a tree, by the rules of docs/unpack.md.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(String),
    Link(String),
}

#[derive(Clone, Copy, Debug)]
enum What {
    Directory,
    File,
    Symlink,
    HardLink,
}

#[derive(Default)]
struct Model(BTreeMap<String, Node>);

impl Model {
    fn place(&mut self, what: What, name: &str, text: &str) -> Result<(), ()> {
        let path = RelPath::parse(name.as_bytes()).map_err(drop)?.to_string();
        if path.is_empty() {
            return if matches!(what, What::Directory) { Ok(()) } else { Err(()) };
        }
        let node = match what {
            What::Directory => Node::Directory,
            What::File => Node::File(text.to_owned()),
            What::Symlink => Node::Link(text.to_owned()),
            What::HardLink => {
                let target = RelPath::parse(text.as_bytes()).map_err(drop)?.to_string();
                match self.0.get(&target).filter(|_| target != path) {
                    Some(Node::File(text)) => Node::File(text.clone()),
                    Some(Node::Link(link)) if stays(&path, link) => Node::Link(link.clone()),
                    _ => return Err(()),
                }
            }
        };
        for (at, _) in path.match_indices('/') {
            match self.0.entry(path[..at].to_owned()).or_insert(Node::Directory) {
                Node::Directory => {}
                _ => return Err(()),
            }
        }
        match (self.0.get(&path), &node) {
            (None, _) | (Some(Node::File(_)), Node::File(_)) => {}
            (Some(before), node) if before == node => {}
            _ => return Err(()),
        }
        self.0.insert(path, node);
        Ok(())
    }

    fn listing(&self) -> Vec<String> {
        // As a walk meets them: by name within each directory.
        let mut all: Vec<_> =
            self.0.iter().map(|(path, node)| (path.split('/').collect::<Vec<_>>(), node)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let line = |(path, node): (Vec<&str>, &Node)| match node {
            Node::Directory => format!("{}/", path.join("/")),
            Node::File(text) => format!("{} {text}", path.join("/")),
            Node::Link(target) => format!("{} -> {target}", path.join("/")),
        };
        all.into_iter().map(line).collect()
    }
}

fn stays(path: &str, target: &str) -> bool {
    let mut depth = path.matches('/').count() as i64;
    let steps = target.split('/').map(|part| match part {
        "" | "." => 0,
        ".." => -1,
        _ => 1,
    });
    !target.starts_with('/')
        && steps.into_iter().all(|step| {
            depth += step;
            depth >= 0
        })
}

/// Entries drawn from few names, so that they meet: what comes of them is what the rules say.
#[test]
fn entries_at_random_follow_the_rules() {
    const NAMES: [&str; 12] =
        ["a", "b", "c", "a/b", "a/b/c", "./a", "b/", "c//d", "a/../x", "/b", ".", "b/c"];
    const TARGETS: [&str; 9] = ["a", "b", "a/b", "..", "../..", "/", "c/d", ".", "../a"];
    let mut dice = Dice(0x5eed_0002);
    let (yard, mut good, mut bad) = (Yard::new(), 0, 0);
    for _ in 0..3000 {
        let (mut tar, mut model, mut expected, mut told) =
            (Tar::default(), Model::default(), Ok(()), Vec::new());
        for nth in 0..=dice.below(6) {
            let what =
                *dice.one_of(&[What::Directory, What::File, What::File, What::Symlink, What::HardLink]);
            // Names that lead out are refused at once, and end the game too early if they come often.
            let names = if dice.below(8) == 0 { &NAMES[..] } else { &NAMES[..6] };
            let (name, target) = (*dice.one_of(names), *dice.one_of(&TARGETS));
            let text = format!("text{nth}");
            let (entry, text) = match what {
                What::Directory => (tar.clone().dir(name), ""),
                // An old writer's directory.
                What::File if name.ends_with('/') => continue,
                What::File => (tar.clone().file(name, &text), &*text),
                What::Symlink => (tar.clone().symlink(name, target), target),
                What::HardLink => (tar.clone().hard_link(name, target), target),
            };
            tar = entry;
            told.push(format!("{what:?} {name} {text}"));
            expected = expected.and_then(|()| model.place(what, name, text));
        }
        if told.is_empty() {
            continue;
        }
        yard.clear();
        let result = yard.unpack(&tar.end(), &Options::default());
        let empty = model.0.is_empty() && expected.is_ok();
        assert_eq!(result.is_ok(), expected.is_ok() && !empty, "{told:#?}: {result:?}");
        if result.is_ok() {
            good += 1;
            assert_eq!(listing(&yard.tree()), model.listing(), "{told:#?}");
        } else {
            bad += 1;
        }
    }
    assert!(good > 500 && bad > 500, "{good} were accepted, {bad} refused");
}
