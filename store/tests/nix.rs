//! Real Nix reads what we write, and we what it writes. Skipped where `nix` is not on PATH.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use ampoule_store::cache::{BinaryCache, CopyOptions, FileTransport, copy_from, copy_to};
use ampoule_store::narinfo::Compression;
use ampoule_store::{PublicKey, SecretKey, StorePath, TrustedKeys};
use common::{Place, sample_tree};

/// Real Nix with a store of its own.
struct Nix {
    store: PathBuf,
    home: PathBuf,
}

impl Nix {
    fn find(place: &Place) -> Option<Self> {
        let found = Command::new("nix").arg("--version").output();
        if !found.is_ok_and(|out| out.status.success()) {
            println!("skipped: nix is not on PATH");
            return None;
        }
        Some(Self { store: place.path("nix"), home: place.path("home") })
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.env("HOME", &self.home).env("NIX_CONFIG", "build-users-group =\nsubstituters =\n");
        command.env_remove("NIX_REMOTE");
        if program == "nix" {
            command.args(["--extra-experimental-features", "nix-command"]);
        }
        command.args(args).output().unwrap()
    }

    fn ok(&self, program: &str, args: &[&str]) -> String {
        let out = self.run(program, args);
        assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn store(&self) -> &str {
        self.store.to_str().unwrap()
    }
}

fn objects(place: &Place) -> (StorePath, StorePath) {
    let source = place.path("src");
    sample_tree(&source);
    let tree = place.tree("tree", &source).path;
    let text = place.text("text", &format!("see {tree}"), &[&tree]);
    (tree, text)
}

fn cache_at(place: &Place, at: &Path) -> BinaryCache {
    BinaryCache::open_or_create(Arc::new(FileTransport::new(at)), &place.store).unwrap()
}

#[test]
fn nix_reads_our_cache_and_checks_our_signature() {
    let place = Place::new();
    let Some(nix) = Nix::find(&place) else { return };
    let (tree, text) = objects(&place);
    for compression in Compression::ALL {
        let at = place.path(compression.name());
        let key = SecretKey::generate("ours-1").unwrap();
        let keys = [key];
        let options = CopyOptions { compression, keys: &keys, ..CopyOptions::default() };
        let report = copy_to(&place.store, &cache_at(&place, &at), [text.clone()], &options).unwrap();
        assert_eq!(report.copied, [tree.clone(), text.clone()].into());
        let to = format!("{}-{}", nix.store(), compression.name());
        let from = format!("file://{}", at.display());
        let path = place.store.dir().print(&text);
        let trusted = keys[0].public().to_string();
        let args = ["copy", "--from", &from, "--to", &to, "--option", "trusted-public-keys", &trusted, &path];
        nix.ok("nix", &args);
        nix.ok(
            "nix",
            &[
                "store",
                "verify",
                "--store",
                &to,
                "--recursive",
                "--option",
                "trusted-public-keys",
                &trusted,
                &path,
            ],
        );
        let hash =
            nix.ok("nix-store", &["--store", &to, "--query", "--hash", &place.store.dir().print(&tree)]);
        assert_eq!(hash.trim(), place.store.expect_info(&tree).unwrap().nar_hash.to_string());
    }
}

#[test]
fn we_read_its_cache_and_check_its_signature() {
    let place = Place::new();
    let Some(nix) = Nix::find(&place) else { return };
    let source = place.path("src");
    sample_tree(&source);
    let path = nix.ok("nix-store", &["--store", nix.store(), "--add", source.to_str().unwrap()]);
    let path = path.trim();
    let secret = place.path("secret");
    std::fs::write(&secret, nix.ok("nix", &["key", "generate-secret", "--key-name", "theirs-1"])).unwrap();
    let secret_text = std::fs::read_to_string(&secret).unwrap();
    let public = SecretKey::parse(&secret_text).unwrap().public();
    for compression in ["zstd", "xz", "none", "bzip2", "gzip"] {
        let at = place.path(compression);
        let to = format!("file://{}?compression={compression}&secret-key={}", at.display(), secret.display());
        nix.ok("nix", &["copy", "--from", nix.store(), "--to", &to, path]);
        let other = Place::new();
        let path = other.store.dir().parse(path).unwrap();
        let cache = BinaryCache::open(Arc::new(FileTransport::new(&at)), other.store.dir()).unwrap();
        let narinfo = cache.narinfo(&path).unwrap().unwrap();
        assert_eq!(narinfo.info.signatures.len(), 1);
        let keys = TrustedKeys::new([PublicKey::parse(&public.to_string()).unwrap()]);
        assert_eq!(keys.check(other.store.dir(), &narinfo.info, "x").unwrap().as_deref(), Some("theirs-1"));
        copy_from(&other.store, &cache, [path.clone()], &keys, &CopyOptions::default()).unwrap();
        assert_eq!(other.store.hash_object(&path).unwrap().0, narinfo.info.nar_hash);
        // Its path for this tree is ours.
        assert_eq!(place.tree("src", &source).path, path);
    }
}

#[test]
fn the_export_stream_goes_both_ways() {
    let place = Place::new();
    let Some(nix) = Nix::find(&place) else { return };
    let (tree, text) = objects(&place);
    let file = place.path("export");
    let closure = place.store.closure_of([text.clone()]).unwrap();
    place.store.export(closure.clone(), &mut std::fs::File::create(&file).unwrap()).unwrap();
    let import = |from: &Path| {
        let command = format!("nix-store --store {} --import < {}", nix.store(), from.display());
        nix.ok("sh", &["-c", &command])
    };
    import(&file);
    // What it writes of these is, byte for byte, what we wrote.
    let paths = [place.store.dir().print(&tree), place.store.dir().print(&text)];
    let command = format!("nix-store --store {} --export {} {}", nix.store(), paths[0], paths[1]);
    let out = nix.run("sh", &["-c", &command]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stdout == std::fs::read(&file).unwrap());
    let other = Place::new();
    assert_eq!(other.store.import(&out.stdout[..]).unwrap(), [tree, text.clone()]);
    assert_eq!(other.store.closure_of([text]).unwrap(), closure);
    assert!(other.store.verify(true, None).unwrap().problems.is_empty());
}

#[test]
fn hashes_of_a_tree_agree() {
    let place = Place::new();
    let Some(nix) = Nix::find(&place) else { return };
    let source = place.path("src");
    sample_tree(&source);
    for algo in ampoule_store::HashAlgo::ALL {
        let args = ["--type", algo.name(), source.to_str().unwrap()];
        let theirs = nix.ok("nix-hash", &args);
        let (ours, _) = ampoule_store::hash_path(&source, ampoule_store::Method::Nar, algo).unwrap();
        assert_eq!(theirs.trim(), ours.to_base16());
    }
}
