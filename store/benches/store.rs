//! Measures the store beside its peers and prints a table.
//!
//! ```text
//! cargo bench -p ampoule-store              everything
//! cargo bench -p ampoule-store -- add gc    only these
//! ```
//!
//! `AMPOULE_BENCH_DIR` says where (default: the temporary directory; it should be a real disk).
//! Each figure is the least of some runs; ratios count, not seconds. `nix-store` is run where it is
//! on PATH, in a store of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ampoule_store::cache::{BinaryCache, CopyOptions, FileTransport, copy_from, copy_to};
use ampoule_store::narinfo::Compression;
use ampoule_store::{
    AddOptions, DerivationDraft, GcOptions, HashAlgo, Method, ModuloHashes, Outputs, Store, StoreDir,
    StorePath, StoreRoot, StoreSettings, TrustedKeys, hash_path,
};

const RUNS: usize = 3;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let base = std::env::var_os("AMPOULE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(base).expect("a directory to work in");
    println!("{:<44} {:>12} {:>10}", "what", "time", "ratio");
    if is_wanted("add") {
        add(dir.path());
    }
    if is_wanted("index") {
        index(dir.path());
    }
    if is_wanted("drv") {
        derivations();
    }
    remove(dir.path());
}

fn row(what: &str, time: Duration, ratio: Option<f64>) {
    let ratio = ratio.map_or(String::new(), |r| format!("{r:.2}"));
    println!("{what:<44} {:>9.2} ms {ratio:>10}", time.as_secs_f64() * 1e3);
}

fn best(mut run: impl FnMut() -> Duration) -> Duration {
    best_of(|_| run())
}

/// Gives each run its number: what is written goes to a place of its own, since ext4 takes long to
/// give out inodes that were freed minutes ago.
fn best_of(run: impl FnMut(usize) -> Duration) -> Duration {
    (0..RUNS).map(run).min().expect("there is a run")
}

fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(run());
    start.elapsed()
}

fn open(root: &Path) -> Store {
    Store::open(&StoreRoot::new(root), StoreSettings::default()).expect("a store opens")
}

fn remove(path: &Path) {
    Command::new("chmod").args(["-R", "u+w"]).arg(path).status().ok();
    Command::new("rm").arg("-rf").arg(path).status().ok();
}

/// 515 MB in 21,450 files of sizes as in a Linux distribution, not compressible to nothing.
fn make_tree(at: &Path) {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let noise: Vec<u8> = (0..8 << 20).map(|_| next() as u8).collect();
    for i in 0..21_450u64 {
        let dir = at.join(format!("d{}/e{}", i % 40, i % 900));
        std::fs::create_dir_all(&dir).expect("the disk takes it");
        let size = match i % 100 {
            0 => 400_000 + next() % 1_000_000,
            1..10 => 40_000 + next() % 100_000,
            _ => next() % 14_000,
        } as usize;
        let from = (next() % (6 << 20)) as usize;
        std::fs::write(dir.join(format!("f{i}")), &noise[from..from + size]).expect("the disk takes it");
    }
}

fn add(dir: &Path) {
    let tree = dir.join("tree");
    make_tree(&tree);
    let (_, size) = hash_path(&tree, Method::Nar, HashAlgo::Sha256).expect("the tree is read");
    println!("tree: {} MB", size / 1_000_000);
    let root = |run: usize| dir.join(format!("add{run}"));
    // In turns: what else the machine does hits both alike.
    let (mut copies, mut adds) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let to = dir.join(format!("copy{run}"));
        copies.push(timed(|| Command::new("cp").arg("-a").arg(&tree).arg(&to).status()));
        let store = open(&root(run));
        adds.push(timed(|| store.add_path(&tree, &AddOptions::source("tree"), None).expect("it is added")));
    }
    let (copy, new) = (copies.into_iter().min().expect("a run"), adds.into_iter().min().expect("a run"));
    row("cp -a", copy, None);
    let over = |time: Duration| Some(time.as_secs_f64() / copy.as_secs_f64());
    row("add", new, over(new));
    let hash = best(|| timed(|| hash_path(&tree, Method::Nar, HashAlgo::Sha256)));
    row("hash (NAR, SHA-256)", hash, over(hash));
    let store = open(&root(0));
    let again =
        best(|| timed(|| store.add_path(&tree, &AddOptions::source("tree"), None).expect("it is there")));
    row("add again", again, over(again));
    to_caches(&store, dir, &tree, &over);
    drop(store);
    if Command::new("nix-store").arg("--version").output().is_err() {
        println!("nix-store is not on PATH");
        return;
    }
    let nix = best_of(|run| timed(|| nix_add(&dir.join(format!("nix{run}")), &tree)));
    row("nix-store --add", nix, over(nix));
    let nix_again = best(|| timed(|| nix_add(&dir.join("nix0"), &tree)));
    row("nix-store --add, again", nix_again, over(nix_again));
}

fn to_caches(store: &Store, dir: &Path, tree: &Path, over: &dyn Fn(Duration) -> Option<f64>) {
    let path = store.hash_tree(tree, &AddOptions::source("tree"), None).expect("the tree is read").path;
    for compression in [Compression::None, Compression::Zstd] {
        let name = compression.name();
        let time = best_of(|run| {
            let transport = FileTransport::new(dir.join(format!("cache-{name}{run}")));
            let cache = BinaryCache::open_or_create(Arc::new(transport), store).expect("a cache opens");
            let options = CopyOptions { compression, ..CopyOptions::default() };
            timed(|| copy_to(store, &cache, [path.clone()], &options).expect("it is copied"))
        });
        row(&format!("copy to file://, {name}"), time, over(time));
    }
    let time = best_of(|run| {
        let other = open(&dir.join(format!("from{run}")));
        let transport = Arc::new(FileTransport::new(dir.join("cache-zstd0")));
        let cache = BinaryCache::open(transport, store.dir()).expect("a cache opens");
        let (keys, options) = (TrustedKeys::default(), CopyOptions::default());
        timed(|| copy_from(&other, &cache, [path.clone()], &keys, &options).expect("it is copied"))
    });
    row("copy from file://, zstd", time, over(time));
}

fn nix_add(root: &Path, tree: &Path) {
    let out = Command::new("nix-store")
        .arg("--store")
        .arg(root)
        .args(["--option", "build-users-group", "", "--add"])
        .arg(tree)
        .output()
        .expect("nix-store runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn index(dir: &Path) {
    let root = dir.join("index");
    let mut paths: Vec<StorePath> = Vec::new();
    let time = {
        let store = open(&root);
        timed(|| {
            for i in 0..10_000 {
                let refs: BTreeSet<_> =
                    [i / 2, i / 3].iter().filter(|j| **j < i).map(|j: &usize| paths[*j].clone()).collect();
                paths.push(store.add_text("t", format!("text {i}").as_bytes(), refs).expect("it is added"));
            }
        })
    };
    row("register 10,000 texts", time, None);
    let store = open(&root);
    let from: Vec<_> = paths[5_000..].to_vec();
    row("valid? of 10,000", best(|| timed(|| store.valid_of(&paths).expect("it is told"))), None);
    let count = store.closure_of(from.iter().take(2_500).cloned()).expect("it is whole").len();
    let time = best(|| timed(|| store.closure_of(from.iter().take(2_500).cloned()).expect("it is whole")));
    row(&format!("closure of {count}"), time, None);
    row("referrers (10,000 valid)", best(|| timed(|| store.referrers(&paths[0]).expect("it is told"))), None);
    let dry = GcOptions { dry_run: true, ..GcOptions::default() };
    row("gc --dry-run of 10,000", best(|| timed(|| store.gc(&dry).expect("it is told"))), None);
    row(
        "gc of 10,000",
        timed(|| assert_eq!(store.gc(&GcOptions::default()).expect("it runs").dead.len(), 10_000)),
        None,
    );
}

fn derivations() {
    let (dir, hashes) = (StoreDir::default(), ModuloHashes::default());
    let mut previous: Option<StorePath> = None;
    let time = timed(|| {
        for i in 0..10_000 {
            let mut draft =
                DerivationDraft::new(format!("d{i}"), Outputs::InputAddressed(vec!["out".to_owned()]));
            draft.system = "x86_64-linux".into();
            draft.builder = "/bin/sh".into();
            for j in 0..20 {
                draft
                    .environment
                    .insert(format!("variable{j}").into(), format!("value {j} of some length").into());
            }
            if let Some(previous) = previous.take() {
                draft.input_derivations.insert(previous, [String::from("out")].into());
            }
            let derivation = draft.finish(&dir, &hashes).expect("it is right");
            let (path, _) = derivation.to_text_object(&dir).expect("it is right");
            derivation.remember(&path, &dir, &hashes).expect("it is right");
            previous = Some(path);
        }
    });
    println!("{:<44} {:>9.2} us", "derivation, whole, in a chain (each)", time.as_secs_f64() * 1e2);
}
