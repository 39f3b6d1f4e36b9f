//! Composes a folder of Debian packages, and measures `dpkg-deb -x` on the same ones.
//!
//! ```text
//! cargo bench -p ampoule-realise --bench compose -- FOLDER-OF-DEBS [RUNS]
//! ```
//!
//! Without a folder it makes packages of its own: 40, of 200 files each. Prints a table:
//! best of the runs, wall clock, and the ratio. dpkg-deb is run four at a time, as a
//! script would (`xargs -P`), since it knows no other way; it writes neither alternatives
//! nor users nor records, so that it does less.

#[allow(dead_code, reason = "the bench needs a part of what the tests share")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ampoule_realise::builtin::DebianCompose;
use serde_json::json;
use support::archives::{Tar, deb};
use support::yard::Yard;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let made = tempfile::tempdir().expect("a temporary directory");
    let folder = arguments.first().map_or_else(|| make_packages(made.path()), PathBuf::from);
    let runs: usize = arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(3);
    let mut debs: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("a folder that can be read")
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "deb"))
        .collect();
    debs.sort();
    let bytes: u64 = debs.iter().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum();
    println!("{} packages, {} MB, {runs} runs each, best of them", debs.len(), bytes / 1_000_000);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let ours = best(runs, || compose(&debs, cores));
    println!("{:<28} {:>8.2} s", format!("compose, {cores} cores"), ours.as_secs_f64());
    println!("{:<28} {:>8.2} s", "compose, 1 core", best(1, || compose(&debs, 1)).as_secs_f64());
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        println!("dpkg-deb is not here; nothing to compare with");
        return;
    }
    let theirs = best(runs, || dpkg_deb(&debs, cores));
    println!("{:<28} {:>8.2} s", format!("dpkg-deb -x, {cores} at a time"), theirs.as_secs_f64());
    println!("ratio {:.2}", theirs.as_secs_f64() / ours.as_secs_f64());
}

fn best(runs: usize, mut run: impl FnMut() -> Duration) -> Duration {
    (0..runs.max(1)).map(|_| run()).min().expect("at least one run")
}

fn compose(debs: &[PathBuf], cores: usize) -> Duration {
    let mut yard = Yard::new();
    yard.cores = cores;
    yard.outputs.push("meta");
    let names: Vec<String> = debs
        .iter()
        .enumerate()
        .map(|(n, path)| yard.input_at(&format!("{n}-package.deb"), path.clone()))
        .collect();
    let start = Instant::now();
    let result = yard.run(&DebianCompose, &json!({ "packages": names }));
    let time = start.elapsed();
    if let Err(error) = result {
        println!("{error}");
        std::process::exit(1);
    }
    if let Ok(k) = std::env::var("KEEP") {
        let _ = std::fs::rename(yard.dir.path().join("outputs"), k);
    }
    time
}

fn dpkg_deb(debs: &[PathBuf], jobs: usize) -> Duration {
    let to = tempfile::tempdir().expect("a temporary directory");
    let next = std::sync::atomic::AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(deb) = debs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let status = Command::new("dpkg-deb").arg("-x").arg(deb).arg(to.path()).status();
                    assert!(status.is_ok_and(|s| s.success()), "{}", deb.display());
                }
            });
        }
    });
    start.elapsed()
}

fn make_packages(to: &Path) -> PathBuf {
    for n in 0..40 {
        let mut data = Tar::default();
        for file in 0..200 {
            let text: String = (0..400).map(|line| format!("{n} {file} {}\n", line * 7919 % 10007)).collect();
            data = data.file(&format!("./usr/lib/package-{n}/file-{file}"), &text);
        }
        let control = format!("Package: made-{n}\nVersion: 1\nArchitecture: all\n");
        std::fs::write(to.join(format!("made-{n}.deb")), deb(&control, &[], data)).expect("room");
    }
    to.to_owned()
}
