//! Case 126: processes that add, fetch and collect are killed at random moments, two hundred times
//! and more; after each, what is valid is whole and complete, and the next process cleans up.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ampoule_store::{AddOptions, Damage, GcOptions, Hash, ObjectInfo, StorePath, nar};

const CHILD: &str = "AMPOULE_TEST_KILL_CHILD";

struct Noise(u64);

impl Noise {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// What the processes that are killed do: not a test by itself.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (dir, seed) = (Path::new(&dir), std::env::var("AMPOULE_TEST_KILL_SEED").unwrap());
    let mut noise = Noise(seed.parse::<u64>().unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    loop {
        let store = common::open(&dir.join("s"));
        let mut last: Option<StorePath> = None;
        for _ in 0..10 {
            match noise.next(6) {
                0 => {
                    let options = AddOptions::source(format!("tree{}", noise.next(4)));
                    let path = store.add_path(&dir.join("src"), &options, None).unwrap().path;
                    if noise.next(3) == 0 {
                        store.add_root(&format!("r{}", noise.next(5)), &path).unwrap();
                    }
                }
                1 => {
                    let mut w = nar::Writer::new(Vec::new()).unwrap();
                    w.begin_directory().unwrap();
                    for i in 0..30 {
                        w.entry(format!("f{i:02}").as_bytes()).unwrap();
                        w.file(i % 2 == 0, &vec![i; 5000]).unwrap();
                    }
                    w.end_directory().unwrap();
                    let bytes = w.finish().unwrap();
                    let path = StorePath::parse("0123456789abcdfghijklmnpqrsvwxyz-nar").unwrap();
                    let info = ObjectInfo::new(path, Hash::sha256(&bytes), bytes.len() as u64);
                    store.add_nar(&bytes[..], info).unwrap();
                }
                2 => drop(store.gc(&GcOptions::default()).unwrap()),
                3 => drop(store.optimise().unwrap()),
                4 => store.sync().unwrap(),
                _ => {
                    let text = format!("{} {last:?}", noise.next(50));
                    let references: BTreeSet<_> = last.iter().cloned().collect();
                    last = Some(store.add_text("t", text.as_bytes(), references).unwrap());
                }
            }
        }
    }
}

#[test]
fn case_126_killed_at_any_moment() {
    const RUNS: u64 = 220;
    let place = common::Place::new();
    common::sample_tree(&place.path("src"));
    let mut noise = Noise(0x1234_5678_9abc_def1);
    let (mut seen, mut most) = (BTreeSet::new(), 0);
    for run in 0..RUNS {
        let spawn = |seed: u64| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "child", "--nocapture"])
                .env(CHILD, place.dir.path())
                .env("AMPOULE_TEST_KILL_SEED", seed.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        // Two at a time now and then.
        let mut children: Vec<_> = (0..=run % 2).map(|i| spawn(run * 2 + i + 1)).collect();
        std::thread::sleep(Duration::from_micros(3_000 + noise.next(30_000)));
        for child in &mut children {
            child.kill().unwrap();
        }
        for child in children {
            let out = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&out.stderr);
            assert!(!stderr.contains("panicked"), "run {run}: {stderr}");
        }
        // One who comes next finds everything whole.
        let store = place.again();
        let report = store.verify(run % 10 == 0, None).unwrap();
        let bad: Vec<_> = report
            .problems
            .iter()
            .filter(|p| !matches!(p.damage, Damage::Orphan | Damage::Missing))
            .collect();
        assert!(bad.is_empty(), "run {run}: {bad:?}");
        let valid: Vec<_> =
            store.all_valid().unwrap().into_iter().filter(|p| store.is_valid(p).unwrap()).collect();
        store.closure_of(valid.clone()).unwrap();
        most = most.max(valid.len());
        seen.extend(valid);
        drop(store.staging().unwrap());
        let leases = std::fs::read_dir(place.path("s/leases")).unwrap().count();
        assert_eq!(leases, 1, "run {run}: only our own lease is left");
        drop(store);
    }
    assert!(seen.len() > 10 && most > 3, "{} {most}", seen.len());
    let store = place.again();
    store.gc(&GcOptions::default()).unwrap();
    store.gc(&GcOptions::default()).unwrap();
    let report = store.verify(true, None).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    for dir in ["tmp", "trash", "leases"] {
        let left: Vec<_> =
            std::fs::read_dir(place.path("s").join(dir)).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Case 135: who waits for a lock has it at once when its owner is killed.
#[test]
fn case_135_the_waiter_takes_over() {
    let path = StorePath::parse("1cif0kzjly0k4gxq2d7bm0x9df2924df-a").unwrap();
    if let Some(dir) = std::env::var_os("AMPOULE_TEST_LOCK_CHILD") {
        let store = common::open(Path::new(&dir));
        let _lock = store.lock_output(&path).unwrap();
        std::fs::write(Path::new(&dir).join("locked"), "").unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let place = common::Place::new();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "case_135_the_waiter_takes_over"])
        .env("AMPOULE_TEST_LOCK_CHILD", place.path("s"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !place.path("s/locked").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(place.store.try_lock_output(&path).unwrap().is_none());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(place.store.lock_output(&path).unwrap()));
        std::thread::sleep(Duration::from_millis(30));
        assert!(!waiter.is_finished());
        owner.kill().unwrap();
        owner.wait().unwrap();
    });
}
