//! Resolves from downloaded indexes and from cached ones, and measures apt on the same.
//!
//! ```text
//! cargo bench -p ampoule-packages --bench lock -- [RUNS] [NAME…]
//! ```
//!
//! Takes the package lists that apt has downloaded, as text; without them it says so and
//! ends. Prints best of the runs, wall clock: our index made from the text and the names
//! resolved in it, the same from the cached form, and `apt-get -s install` of the same
//! names on an empty system, which makes its cache in memory each time as well.

use ampoule_packages::debian::resolve::resolve;
use ampoule_packages::debian::{Index, Request, Universe};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const LISTS: &str = "/var/lib/apt/lists";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let runs: usize = arguments.first().and_then(|n| n.parse().ok()).unwrap_or(5);
    let names: Vec<&str> = match arguments.get(1..) {
        Some(names) if !names.is_empty() => names.iter().map(String::as_str).collect(),
        _ => vec!["nginx", "redis-server", "postgresql", "gcc", "python3-flask"],
    };
    let texts = machine_lists();
    if texts.is_empty() {
        println!("no package lists of apt are here");
        return;
    }
    let bytes: usize = texts.iter().map(String::len).sum();
    let requests: Vec<Request> = names.iter().map(|name| Request::parse(name)).collect();
    let indexes: Vec<Index> = texts.iter().map(|text| read(text)).collect();
    let packages: usize = indexes.iter().map(Index::len).sum();
    let found = resolve(&Universe::new(&indexes), &requests).map(|resolution| resolution.packages.len());
    println!(
        "{packages} packages in {} MB; {} need {found:?}; best of {runs}",
        bytes / 1_000_000,
        names.join(" ")
    );

    let cold = best(runs, || {
        let indexes: Vec<Index> = texts.iter().map(|text| read(text)).collect();
        resolve(&Universe::new(&indexes), &requests).is_ok()
    });
    println!("{:<40} {:>8.1} ms", "from the text of the indexes", millis(cold));
    let kept: Vec<Vec<u8>> = indexes.iter().map(|index| index.as_cache().concat()).collect();
    let mut copies: Vec<_> = (0..runs).map(|_| kept.clone()).collect();
    let cached = best(runs, || {
        let kept = copies.pop().expect("one for each run");
        let indexes: Vec<Index> =
            kept.into_iter().map(|kept| Index::from_cache(Box::new(kept)).expect("just made")).collect();
        resolve(&Universe::new(&indexes), &requests).is_ok()
    });
    println!("{:<40} {:>8.1} ms", "from the cached indexes", millis(cached));
    let scratch = std::env::temp_dir().join(format!("ampoule-bench-apt-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a scratch directory");
    std::fs::write(scratch.join("status"), "").expect("an empty status file");
    let apt = best(runs, || apt(&scratch, &names));
    std::fs::remove_dir_all(&scratch).expect("the scratch directory is ours");
    println!("{:<40} {:>8.1} ms", "apt-get -s install", millis(apt));
    println!("ratio {:.1} (text), {:.0} (cached)", millis(apt) / millis(cold), millis(apt) / millis(cached));
}

fn read(text: &str) -> Index {
    Index::from_packages(text).expect("apt accepted it")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn best(runs: usize, mut run: impl FnMut() -> bool) -> Duration {
    let timed = |run: &mut dyn FnMut() -> bool| {
        let start = Instant::now();
        assert!(run(), "it resolves");
        start.elapsed()
    };
    (0..runs.max(1)).map(|_| timed(&mut run)).min().expect("at least one run")
}

/// The machine's downloaded indexes, unpacked by apt's own helper.
fn machine_lists() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(LISTS) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.to_string_lossy().contains("_Packages"));
    paths.sort();
    let cat = |path: &PathBuf| {
        let output = Command::new("/usr/lib/apt/apt-helper").arg("cat-file").arg(path).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    paths.iter().filter_map(cat).collect()
}

fn apt(scratch: &Path, names: &[&str]) -> bool {
    let setting = |key: &str, file: &str| format!("{key}={}", scratch.join(file).display());
    Command::new("apt-get")
        .args(["-s", "-o", "APT::Install-Recommends=false", "-o", "Debug::NoLocking=1"])
        .args(["-o", &setting("Dir::State::status", "status")])
        .args(["-o", &setting("Dir::State::extended_states", "states")])
        .args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="])
        .arg("install")
        .args(names)
        .output()
        .is_ok_and(|output| output.status.success())
}
