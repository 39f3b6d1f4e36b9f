//! Our resolutions beside those of the machine's own apt.
//!
//! Opt-in by what is there: without `apt-get` and downloaded package lists the test
//! says so and ends. `AMPOULE_APT_SAMPLE` sets how many random packages are tried.

use ampoule_packages::debian::resolve::{Resolution, resolve};
use ampoule_packages::debian::{Index, Keyring, Release, Request, Universe};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const LISTS: &str = "/var/lib/apt/lists";

fn files_ending(suffix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(LISTS) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(suffix))
        })
        .collect();
    // As the sources usually have them: the suite, its updates, its security archive.
    paths.sort_by_key(|path| {
        let name = path.display().to_string();
        (name.contains("-security"), name.contains("-updates"), name)
    });
    paths
}

/// The machine's downloaded indexes, unpacked by apt's own helper.
fn machine_indexes() -> Vec<Index> {
    let mut indexes = Vec::new();
    for path in files_ending("_Packages") {
        let Ok(output) = Command::new("/usr/lib/apt/apt-helper").arg("cat-file").arg(&path).output() else {
            continue;
        };
        let text = String::from_utf8(output.stdout).expect("indexes are UTF-8");
        indexes.push(Index::from_packages(&text).expect("apt accepted it"));
    }
    indexes
}

/// What apt would install, as `name version`.
fn apt_choice(scratch: &Path, name: &str) -> BTreeSet<String> {
    let setting = |key: &str, file: &str| format!("{key}={}", scratch.join(file).display());
    let output = Command::new("apt-get")
        .args(["-s", "-o", "APT::Install-Recommends=false", "-o", "Debug::NoLocking=1"])
        .args(["-o", &setting("Dir::State::status", "status")])
        .args(["-o", &setting("Dir::State::extended_states", "states")])
        .args(["-o", &setting("Dir::Cache::pkgcache", "pkgcache.bin")])
        .args(["-o", &setting("Dir::Cache::srcpkgcache", "srcpkgcache.bin")])
        .args(["install", name])
        .output()
        .expect("apt-get runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("Inst ")) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        found.insert(format!("{name} {}", version.trim_start_matches('(')));
    }
    found
}

fn names(resolution: &Resolution<'_>) -> BTreeSet<String> {
    let all = resolution.packages.values();
    all.map(|found| format!("{} {}", found.package.name, found.package.version)).collect()
}

#[test]
fn random_packages_resolve_as_apt_resolves_them() {
    let indexes = machine_indexes();
    if indexes.is_empty() || Command::new("apt-get").arg("--version").output().is_err() {
        println!("skipped: no apt with downloaded lists on this machine");
        return;
    }
    let scratch = std::env::temp_dir().join(format!("ampoule-apt-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a scratch directory");
    std::fs::write(scratch.join("status"), "").expect("an empty status file");
    let wanted: usize = std::env::var("AMPOULE_APT_SAMPLE").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let universe = Universe::new(&indexes);
    let all: BTreeSet<&str> = indexes.iter().flat_map(Index::names).collect();
    let all: Vec<&str> = all.into_iter().collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut differing = Vec::new();
    for _ in 0..wanted {
        // xorshift: the same sample on every machine with the same index.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let name = all[(state % all.len() as u64) as usize];
        let apt = apt_choice(&scratch, name);
        match resolve(&universe, &[Request::parse(name)]) {
            Ok(resolution) => {
                let ours = names(&resolution);
                let is_larger = ours.len() > apt.len() && resolution.choices.is_empty();
                assert!(
                    !is_larger,
                    "{name}: more than apt takes, and no choice reported: {:?}",
                    ours.difference(&apt)
                );
                if ours != apt {
                    differing
                        .push(format!("{name}: {:?}", ours.symmetric_difference(&apt).collect::<Vec<_>>()));
                }
            }
            Err(_) if apt.is_empty() => {}
            Err(error) => differing.push(format!("{name}: {error}")),
        }
    }
    std::fs::remove_dir_all(&scratch).expect("the scratch directory is ours");
    println!("{} of {wanted} as apt; {differing:#?}", wanted - differing.len());
    assert!(differing.len() <= (wanted * 4).div_ceil(100), "{differing:#?}");
}

#[test]
fn the_archives_own_signatures_hold() {
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let releases = files_ending("debian_dists_bookworm_InRelease");
    let (Ok(keyring), Some(release)) = (std::fs::read(keyring), releases.first()) else {
        println!("skipped: no keyring or no downloaded release on this machine");
        return;
    };
    let keyring = Keyring::read(&keyring).expect("the distribution's keyring");
    let text = std::fs::read_to_string(release).expect("readable");
    let found = Release::verify(&text, &keyring, "bookworm").expect("signed by the archive's keys");
    assert!(found.signers.len() >= 2, "{:?}", found.signers);
    assert!(found.packages("main", "amd64").is_ok());
    let changed = text.replacen("main/binary-amd64/Packages", "main/binary-amd64/packages", 1);
    assert!(Release::verify(&changed, &keyring, "bookworm").is_err());
}
