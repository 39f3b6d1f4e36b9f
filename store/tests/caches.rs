//! Cases 117 to 125: binary caches that lie, and keys.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ampoule_store::cache::{BinaryCache, CopyOptions, FileTransport, Substituters, copy_from, copy_to};
use ampoule_store::narinfo::{Compression, NarInfo};
use ampoule_store::{
    DerivationDraft, ModuloHashes, ObjectInfo, Outputs, PublicKey, Registered, SecretKey, StoreDir,
    StoreError, StorePath, TrustedKeys,
};
use common::Place;

/// A store with something that was built (so that its path proves nothing), and a signed cache of it.
struct Cache {
    place: Place,
    at: PathBuf,
    key: SecretKey,
    info: ObjectInfo,
}

impl Cache {
    fn new() -> Self {
        let place = Place::new();
        let input = place.text("input", "input", &[]);
        let info = built(&place, "hello", &format!("hello {input}"));
        let key = SecretKey::generate("good-1").unwrap();
        let at = place.path("cache");
        let this = Self { place, at, key, info };
        let keys = [SecretKey::parse(&this.key.to_secret_text()).unwrap()];
        let options = CopyOptions { keys: &keys, compression: Compression::None, ..CopyOptions::default() };
        let cache =
            BinaryCache::open_or_create(Arc::new(FileTransport::new(&this.at)), &this.place.store).unwrap();
        copy_to(&this.place.store, &cache, [this.info.path.clone()], &options).unwrap();
        this
    }

    fn narinfo_file(&self) -> PathBuf {
        self.at.join(format!("{}.narinfo", self.info.path.hash_part()))
    }

    fn narinfo(&self) -> String {
        std::fs::read_to_string(self.narinfo_file()).unwrap()
    }

    fn set_narinfo(&self, text: &str) {
        std::fs::write(self.narinfo_file(), text).unwrap();
    }

    fn keys(&self) -> TrustedKeys {
        TrustedKeys::new([self.key.public()])
    }

    /// Copies into an empty store, and returns the error. Nothing is left at the final name.
    #[track_caller]
    fn refused(&self, keys: &TrustedKeys) -> StoreError {
        let to = Place::new();
        let cache = BinaryCache::open(Arc::new(FileTransport::new(&self.at)), to.store.dir()).unwrap();
        let error = copy_from(&to.store, &cache, [self.info.path.clone()], keys, &CopyOptions::default())
            .unwrap_err();
        assert!(!to.store.real_path(&self.info.path).exists());
        assert!(!to.store.is_valid(&self.info.path).unwrap());
        error
    }
}

fn built(place: &Place, name: &str, contents: &str) -> ObjectInfo {
    let draft = DerivationDraft::new(name, Outputs::InputAddressed(vec!["out".to_owned()]));
    let derivation = draft.finish(place.store.dir(), &ModuloHashes::default()).unwrap();
    let path = derivation.output_path("out").unwrap().clone();
    let staging = place.store.staging().unwrap();
    std::fs::write(staging.path().join("out"), contents).unwrap();
    let candidates = place.store.all_valid().unwrap().into_iter().collect();
    let staged = place.store.stage_in_place(staging.fd(), c"out", candidates).unwrap();
    let mut info = ObjectInfo::new(path, staged.nar_hash, staged.nar_size_bytes);
    info.references = staged.references.clone();
    place.store.register(staging.fd(), &staged, info, None).unwrap().info().clone()
}

#[test]
fn case_117_unsigned_unknown_and_pasted_signatures() {
    let cache = Cache::new();
    let good = cache.narinfo();
    let other_key = SecretKey::generate("other-1").unwrap();
    let error = cache.refused(&TrustedKeys::new([other_key.public()])).to_string();
    assert!(
        error.contains(
            "it is signed by 'good-1', which is not trusted (trusted keys: 'other-1'); \
            if you trust it, add its public key to `store.trusted-keys`"
        ),
        "{error}"
    );

    let unsigned: String =
        good.lines().filter(|l| !l.starts_with("Sig:")).map(|l| format!("{l}\n")).collect();
    cache.set_narinfo(&unsigned);
    let error = cache.refused(&cache.keys()).to_string();
    assert!(
        error.contains("nobody signed it (trusted keys: 'good-1'; `store.trusted-keys` names"),
        "{error}"
    );

    let other = built(&cache.place, "other", "other");
    cache.set_narinfo(&format!("{unsigned}Sig: {}\n", cache.key.sign(cache.place.store.dir(), &other)));
    let error = cache.refused(&cache.keys()).to_string();
    assert!(error.contains("the signature of 'good-1' is not of this object"), "{error}");
    assert!(error.contains(&cache.info.path.to_string()), "{error}");

    // A key of the right name that is another key.
    cache.set_narinfo(&good);
    let forged = SecretKey::generate("good-1").unwrap();
    assert!(cache.refused(&TrustedKeys::new([forged.public()])).to_string().contains("not of this object"));
}

#[test]
fn case_118_what_is_signed_cannot_be_changed() {
    let cache = Cache::new();
    let good = cache.narinfo();
    let other = "1cif0kzjly0k4gxq2d7bm0x9df2924df-x";
    let change = |field: &str, value: &str| -> String {
        let line =
            |l: &str| if l.starts_with(field) { format!("{field}: {value}\n") } else { format!("{l}\n") };
        good.lines().map(line).collect()
    };
    let zero = format!("sha256:{}", "0".repeat(52));
    for text in [change("NarHash", &zero), change("NarSize", "1"), change("References", other)] {
        assert_ne!(text, good);
        cache.set_narinfo(&text);
        assert!(matches!(cache.refused(&cache.keys()), StoreError::Signature(_)));
    }
    cache.set_narinfo(&change("StorePath", &format!("/nix/store/{other}")));
    let error = cache.refused(&cache.keys()).to_string();
    assert!(error.contains("it is about") && error.contains(other), "{error}");
}

#[test]
fn case_119_the_nar_lies_below_the_cache() {
    let good = Cache::new().narinfo();
    let url = good.lines().find(|l| l.starts_with("URL:")).unwrap().to_owned();
    for bad in [
        "../x.nar",
        "nar/../../x",
        "/etc/passwd",
        "file:///etc/passwd",
        "https://evil.example/x",
        "//evil/x",
        "",
        "nar//x",
        "%2e%2e/x",
    ] {
        let text = good.replace(&url, &format!("URL: {bad}"));
        let error = NarInfo::parse(&StoreDir::default(), &text, "cache").unwrap_err().to_string();
        assert!(error.contains("URL"), "{bad}: {error}");
    }
}

fn nar_file(at: &Path, text: &str) -> PathBuf {
    at.join(text.lines().find_map(|l| l.strip_prefix("URL: ")).unwrap())
}

#[test]
fn case_120_cut_flipped_and_swapped_nars() {
    let cache = Cache::new();
    let file = nar_file(&cache.at, &cache.narinfo());
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() / 2]).unwrap();
    let error = cache.refused(&cache.keys()).to_string();
    assert!(error.contains("ends") && error.contains("nar/"), "{error}");
    let mut flipped = good.clone();
    let at = good.len() - 30;
    flipped[at] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    cache.refused(&cache.keys());
    let mut w = ampoule_store::nar::Writer::new(Vec::new()).unwrap();
    let size = good.len() - 112;
    w.file(false, &vec![b'x'; size]).unwrap();
    let other = w.finish().unwrap();
    std::fs::write(&file, &other).unwrap();
    let error = cache.refused(&cache.keys());
    assert!(matches!(error, StoreError::HashMismatch { .. } | StoreError::SizeMismatch { .. }), "{error}");
    std::fs::remove_file(&file).unwrap();
    assert!(cache.refused(&cache.keys()).to_string().contains("gone from the cache"));
}

#[test]
fn case_121_reading_stops_at_the_signed_size() {
    let cache = Cache::new();
    let file = nar_file(&cache.at, &cache.narinfo());
    // A NAR of 64 GB that takes no room: a sparse file.
    let mut w = ampoule_store::nar::Writer::new(Vec::new()).unwrap();
    w.begin_file(false, 64 << 30).unwrap();
    let head = std::mem::take(w.get_mut());
    std::fs::write(&file, &head).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(64 << 30).unwrap();
    let start = std::time::Instant::now();
    let error = cache.refused(&cache.keys());
    assert!(matches!(error, StoreError::SizeMismatch { .. }), "{error}");
    assert!(start.elapsed() < std::time::Duration::from_secs(15), "all of it was read");
    // The same, packed small: a bomb.
    let zst = cache.at.join("nar/bomb.nar.zst");
    let mut encoder = zstd::Encoder::new(std::fs::File::create(&zst).unwrap(), 1).unwrap();
    std::io::Write::write_all(&mut encoder, &head).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..200).for_each(|_| std::io::Write::write_all(&mut encoder, &zeros).unwrap());
    encoder.finish().unwrap();
    let narinfo = cache.narinfo();
    let url = narinfo.lines().find(|l| l.starts_with("URL:")).unwrap();
    let text =
        narinfo.replace(url, "URL: nar/bomb.nar.zst").replace("Compression: none", "Compression: zstd");
    cache.set_narinfo(&text);
    assert!(matches!(cache.refused(&cache.keys()), StoreError::SizeMismatch { .. }));
}

#[test]
fn case_122_bad_narinfos() {
    let good = Cache::new().narinfo();
    let dir = StoreDir::default();
    let check = |text: &str, why: &str| {
        let error = NarInfo::parse(&dir, text, "cache/x.narinfo").unwrap_err().to_string();
        assert!(error.contains("cache/x.narinfo") && error.contains(why), "{why}: {error}");
        assert!(error.len() < 600, "{}", error.len());
    };
    check("\u{1}garbage", "line 1");
    check("<html>log in</html>", "line 1");
    check(&format!("StorePath: {}", "x".repeat(10 << 20)), "more than");
    check(&good.replace('\n', "\r\n"), "carriage return");
    let first = good.lines().next().unwrap();
    check(&format!("{good}{first}\n"), "field 'StorePath' comes twice");
    for field in ["StorePath", "URL", "NarHash", "NarSize"] {
        let without: String =
            good.lines().filter(|l| !l.starts_with(&format!("{field}:"))).map(|l| format!("{l}\n")).collect();
        check(&without, &format!("field '{field}' is missing"));
    }
    check(&good.replace("NarSize: ", "NarSize: -"), "not a number");
    check(
        &good.replace("Compression: none", "Compression: rar"),
        "unknown compression 'rar' (known: zstd, xz,",
    );
    // Nix's first caches did not say it.
    for unsaid in ["", "Compression: \n"] {
        let narinfo = NarInfo::parse(&dir, &good.replace("Compression: none\n", unsaid), "x").unwrap();
        assert_eq!(narinfo.compression, Compression::Bzip2);
    }
    check("", "missing");
    // Every cut is refused or loses only whole lines.
    for len in 0..good.len() {
        if let Ok(narinfo) = NarInfo::parse(&dir, &good[..len], "x") {
            assert!(good.starts_with(&good[..len]) && narinfo.info.path.name() == "hello");
        }
    }
}

/// Whatever is in a narinfo: it is refused in words, or says one thing, and its NAR lies below the cache.
#[test]
fn case_122_narinfos_at_random() {
    const PIECES: [&str; 16] = [
        "/../",
        "..",
        "http://",
        "%2e%2e/",
        "\n",
        "\r\n",
        ":",
        ": ",
        "-1",
        "18446744073709551616",
        "sha256:",
        "\0",
        "References: ",
        "Sig: x:y\n",
        "URL: nar/x\n",
        "é",
    ];
    let good = Cache::new().narinfo();
    let dir = StoreDir::default();
    let mut seed = 11u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=next() % 3 {
            let at = next() % bytes.len();
            let end = (at + next() % 20).min(bytes.len());
            match next() % 4 {
                0 => bytes[at] = next() as u8,
                1 => drop(bytes.drain(at..end)),
                2 => drop(bytes.splice(at..at, PIECES[next() % PIECES.len()].bytes())),
                _ => drop(bytes.splice(at..end, PIECES[next() % PIECES.len()].bytes())),
            }
        }
        let Ok(text) = String::from_utf8(bytes) else { continue };
        match NarInfo::parse(&dir, &text, "x") {
            Ok(narinfo) => {
                taken += 1;
                assert!(!narinfo.url.starts_with('/') && !narinfo.url.contains(':'), "{}", narinfo.url);
                assert!(
                    narinfo.url.split('/').all(|part| !matches!(part, "" | "." | "..")),
                    "{}",
                    narinfo.url
                );
                let again = NarInfo::parse(&dir, &narinfo.print(&dir), "x").unwrap();
                assert_eq!(again, narinfo);
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().len() < 600, "{error}");
            }
        }
    }
    assert!(taken > 500 && refused > 5000, "{taken} taken, {refused} refused");
}

/// What a stream asks for as a dictionary is not signed, and is memory before a byte of it is known.
#[test]
fn case_121_a_dictionary_that_asks_for_too_much() {
    let cache = Cache::new();
    let narinfo = cache.narinfo();
    let url = narinfo.lines().find(|line| line.starts_with("URL: ")).unwrap().to_owned();
    let nar = std::fs::read(nar_file(&cache.at, &narinfo)).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    std::io::Write::write_all(&mut encoder, &nar).unwrap();
    let mut bytes = encoder.finish().unwrap();
    // The block's header begins behind the stream's, of 12 bytes; LZMA2's one byte says how large the dictionary is.
    let length = (usize::from(bytes[12]) + 1) * 4;
    bytes[12 + 4] = 40;
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..12 + length - 4]);
    bytes[12 + length - 4..12 + length].copy_from_slice(&crc.sum().to_le_bytes());
    std::fs::write(cache.at.join("nar/large.nar.xz"), bytes).unwrap();
    let text = narinfo.replace(&url, "URL: nar/large.nar.xz").replace("Compression: none", "Compression: xz");
    let without_file_size: String =
        text.lines().filter(|line| !line.starts_with("File")).map(|line| format!("{line}\n")).collect();
    cache.set_narinfo(&without_file_size);
    let error = cache.refused(&cache.keys()).to_string();
    assert!(error.to_lowercase().contains("mem"), "{error}");
}

#[test]
fn case_123_the_first_contents_stay() {
    let cache = Cache::new();
    let mut w = ampoule_store::nar::Writer::new(Vec::new()).unwrap();
    w.file(false, b"others").unwrap();
    let nar = w.finish().unwrap();
    let offered =
        ObjectInfo::new(cache.info.path.clone(), ampoule_store::Hash::sha256(&nar), nar.len() as u64);
    let registered = cache.place.store.add_nar(&nar[..], offered).unwrap();
    assert_eq!(registered, Registered::WasValid(cache.info.clone()));
    assert_eq!(cache.place.store.hash_object(&cache.info.path).unwrap().0, cache.info.nar_hash);
}

#[test]
fn case_124_key_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let text = SecretKey::generate("k").unwrap().to_secret_text();
    let check = |text: &str, mode, why: &str| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = SecretKey::read(&file).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        // The secret itself is never shown.
        assert!(!error.contains(text.rsplit(':').next().filter(|s| s.len() > 4).unwrap_or("\0")), "{error}");
    };
    check(&text, 0o644, "others may read this secret key (mode 0644)");
    check(&text[..text.len() - 8], 0o600, "bytes, expected 64");
    check("k:not*base64", 0o600, "not base 64");
    check("k", 0o600, "NAME:BASE64");
    check(":AAAA", 0o600, "no name");
    let mixed = [0u8; 64];
    check(&format!("k:{}", ampoule_store::base64_encode(&mixed)), 0o600, "do not belong together");
    std::fs::write(&file, &text).unwrap();
    assert_eq!(SecretKey::read(&file).unwrap().to_secret_text(), text);
    assert!(PublicKey::parse(&text).is_err());
    assert!(SecretKey::generate("a b").is_err() && SecretKey::generate("").is_err());
}

#[test]
fn substituters_remember_and_pass_over_what_is_refused() {
    let cache = Cache::new();
    let to = Place::new();
    let transports = || -> Vec<Arc<dyn ampoule_store::cache::Transport>> {
        vec![Arc::new(FileTransport::new("/nonexistent")), Arc::new(FileTransport::new(&cache.at))]
    };
    let substituters = Substituters::new(transports(), cache.keys());
    let (at, narinfo) = substituters.query(&to.store, &cache.info.path).unwrap().unwrap();
    assert_eq!(at, 1);
    assert_eq!(substituters.take_warnings().len(), 1);
    for reference in &cache.info.references {
        let (at, narinfo) = substituters.query(&to.store, reference).unwrap().unwrap();
        substituters.fetch(&to.store, at, &narinfo).unwrap();
    }
    substituters.fetch(&to.store, at, &narinfo).unwrap();
    assert!(to.store.is_valid(&cache.info.path).unwrap());
    // What was found once needs no cache any more; what nobody trusts is not found.
    std::fs::remove_file(cache.narinfo_file()).unwrap();
    let again = Substituters::new(transports(), cache.keys());
    assert!(again.query(&to.store, &cache.info.path).unwrap().is_some());
    let nobody = Substituters::new(transports(), TrustedKeys::default());
    assert!(nobody.query(&to.store, &cache.info.path).unwrap().is_none());
    assert!(nobody.take_warnings().iter().any(|w| w.contains("is refused")));
    let unknown = StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-x").unwrap();
    assert!(again.query(&to.store, &unknown).unwrap().is_none());
}

/// Case 125: an old signature is as good as a new one, since neither has a date. What takes it back is
/// to trust its key no longer; that holds at once, also for what was asked and kept before.
#[test]
fn case_125_a_replayed_narinfo_is_as_good_as_its_key() {
    let cache = Cache::new();
    let to = Place::new();
    let old = cache.narinfo();
    let again = |keys| {
        let transports: Vec<Arc<dyn ampoule_store::cache::Transport>> =
            vec![Arc::new(FileTransport::new(&cache.at))];
        Substituters::new(transports, keys)
    };
    // The cache has signed anew with another key since; somebody plays the old text.
    let new_key = SecretKey::generate("good-2").unwrap();
    cache.set_narinfo(&old);
    assert!(again(cache.keys()).query(&to.store, &cache.info.path).unwrap().is_some(), "still trusted");
    let rotated = || TrustedKeys::new([new_key.public()]);
    let substituters = again(rotated());
    assert!(substituters.query(&to.store, &cache.info.path).unwrap().is_none(), "kept, and yet refused");
    let warnings = substituters.take_warnings();
    assert!(warnings.iter().any(|w| w.contains("good-1") && w.contains("is refused")), "{warnings:?}");
    // Nor does it replace what is there: the first contents stay.
    assert!(!to.store.is_valid(&cache.info.path).unwrap());
}

#[test]
fn the_cache_with_the_lower_priority_is_asked_first() {
    let (first, second) = (Cache::new(), Cache::new());
    assert_eq!(first.info.path, second.info.path, "both have it");
    let set = |cache: &Cache, priority: u32| {
        let text = format!("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: {priority}\n");
        std::fs::write(cache.at.join("nix-cache-info"), text).unwrap();
    };
    let asked = |priorities: [u32; 2]| {
        set(&first, priorities[0]);
        set(&second, priorities[1]);
        let to = Place::new();
        let transports = [&first, &second]
            .map(|cache| Arc::new(FileTransport::new(&cache.at)) as Arc<dyn ampoule_store::cache::Transport>);
        let once = |transports| {
            let mut keys = TrustedKeys::default();
            keys.accepts_unsigned = true;
            let substituters = Substituters::new(transports, keys);
            substituters.query(&to.store, &first.info.path).unwrap().unwrap().0
        };
        let found = once(transports.clone());
        // What a cache said of itself is kept as its answers are.
        std::fs::remove_file(first.at.join("nix-cache-info")).unwrap();
        assert_eq!(once(transports), found);
        found
    };
    assert_eq!(asked([40, 30]), 1);
    assert_eq!(asked([30, 40]), 0);
    assert_eq!(asked([40, 40]), 0);
}
