//! `--check`: what differs between what is in the store and what a second build made.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ampoule_store::StorePath;

use super::job::Shared;
use super::outputs::{Finished, Ready};
use crate::error::{Failure, FailureKind};
use crate::events::{Event, FileDifference, safe_line};

/// How many differing files are looked for in each output.
const MOST: usize = 100;
/// How many of them a person is told.
const TOLD: usize = 20;

/// Compares each output with the valid one of the same path.
pub(crate) fn compare(
    shared: &Shared,
    drv: &StorePath,
    finished: &Finished,
    ready: BTreeMap<String, Ready>,
) -> Result<BTreeMap<String, StorePath>, Failure> {
    let store = shared.store;
    let mut outputs = BTreeMap::new();
    let mut messages = Vec::new();
    // Where contents decide the path, other contents have another.
    let known = finished.resolved.valid_outputs(store)?.unwrap_or_default();
    for (name, one) in &ready {
        let first = known.get(name).unwrap_or(&one.info.path);
        // One that is not there has nothing to be compared with: another is.
        let Some(info) = store.info(first)? else { continue };
        outputs.insert(name.clone(), first.clone());
        if info.nar_hash == one.staged.nar_hash {
            continue;
        }
        let second = second_path(finished, one);
        let files = differences(&store.real_path(first), &second);
        let kept = if shared.options.keep_failed { keep(shared, first, &second) } else { None };
        messages.push(describe(&store.dir().print(first), &files, kept.as_deref()));
        shared.events.event(Event::Difference { drv: drv.clone(), output: first.clone(), files, kept });
    }
    if messages.is_empty() {
        return Ok(outputs);
    }
    let failure = Failure::new(FailureKind::NotDeterministic, messages.join("\n"));
    Err(if shared.options.keep_failed {
        failure
    } else {
        failure.hint("keep the second output to look at, with `--keep-failed`")
    })
}

fn second_path(finished: &Finished, ready: &Ready) -> PathBuf {
    use std::os::fd::AsRawFd;
    let dir = if ready.dir_is_staging { finished.staging.fd() } else { finished.dir };
    let name = std::ffi::OsStr::from_bytes(ready.staged.name.to_bytes());
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)
}

fn keep(shared: &Shared, path: &StorePath, second: &Path) -> Option<PathBuf> {
    let kept = shared.store.root().path().join("kept");
    std::fs::create_dir_all(&kept).ok()?;
    let target =
        (0..10_000).map(|n| kept.join(format!("{}.check-{n}", path.name()))).find(|path| !path.exists())?;
    std::fs::rename(second, &target).ok()?;
    Some(target)
}

fn describe(shown: &str, files: &[FileDifference], kept: Option<&Path>) -> String {
    let mut text = format!("`{shown}` is not the same when built again");
    if let Some(kept) = kept {
        text.push_str(&format!(" (kept as `{}`)", kept.display()));
    }
    text.push(':');
    for file in files.iter().take(TOLD) {
        let path = if file.path.is_empty() { "the output itself" } else { &file.path };
        text.push_str(&format!("\n  {path}: {}", file.what));
    }
    if files.len() > TOLD {
        let or_more = if files.len() < MOST { "" } else { " or more" };
        text.push_str(&format!("\n  and {}{or_more} others", files.len() - TOLD));
    }
    text
}

/// File by file, what differs between two trees.
fn differences(first: &Path, second: &Path) -> Vec<FileDifference> {
    let mut found = Vec::new();
    let mut to_do = vec![PathBuf::new()];
    while let Some(below) = to_do.pop() {
        if found.len() >= MOST {
            break;
        }
        let (a, b) = (at(first, &below), at(second, &below));
        if let Some(what) = difference(&a, &b) {
            let path = safe_line(below.as_os_str().as_bytes());
            found.push(FileDifference { path, what });
        } else if a.is_dir() && !a.is_symlink() {
            let names: BTreeSet<OsString> = names_in(&a).into_iter().chain(names_in(&b)).collect();
            // From the back, so that they come out in order.
            to_do.extend(names.into_iter().rev().map(|name| below.join(name)));
        }
    }
    found
}

fn at(top: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { top.to_path_buf() } else { top.join(below) }
}

fn names_in(dir: &Path) -> Vec<OsString> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

/// What differs between two files, whatever they are; nothing for two directories.
fn difference(a: &Path, b: &Path) -> Option<String> {
    let (meta_a, meta_b) = match (a.symlink_metadata(), b.symlink_metadata()) {
        (Ok(meta_a), Ok(meta_b)) => (meta_a, meta_b),
        (Ok(_), Err(_)) => return Some("only the first build made it".to_owned()),
        (Err(_), Ok(_)) => return Some("only the second build made it".to_owned()),
        (Err(_), Err(_)) => return None,
    };
    if meta_a.file_type() != meta_b.file_type() {
        return Some("is of two kinds".to_owned());
    }
    if meta_a.is_symlink() {
        let (to_a, to_b) = (std::fs::read_link(a).ok()?, std::fs::read_link(b).ok()?);
        let differs = to_a != to_b;
        return differs.then(|| format!("points to `{}`, then to `{}`", to_a.display(), to_b.display()));
    }
    if meta_a.is_dir() {
        return None;
    }
    let executable = |meta: &std::fs::Metadata| meta.permissions().mode() & 0o111 != 0;
    if executable(&meta_a) != executable(&meta_b) {
        return Some("is executable in one of them only".to_owned());
    }
    if meta_a.len() != meta_b.len() {
        return Some(format!("{} bytes, then {}", meta_a.len(), meta_b.len()));
    }
    first_difference(a, b).map(|at| format!("differs from byte {at} on"))
}

fn first_difference(a: &Path, b: &Path) -> Option<u64> {
    use std::io::Read;
    let (mut a, mut b) = (std::fs::File::open(a).ok()?, std::fs::File::open(b).ok()?);
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut position = 0;
    loop {
        let length = a.read(&mut left).ok()?;
        if length == 0 {
            return None;
        }
        b.read_exact(&mut right[..length]).ok()?;
        if let Some(at) = left[..length].iter().zip(&right[..length]).position(|(a, b)| a != b) {
            return Some(position + at as u64);
        }
        position += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_file_by_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for top in [&a, &b] {
            std::fs::create_dir_all(top.join("d")).expect("made");
            std::fs::write(top.join("same"), "x").expect("written");
        }
        std::fs::write(a.join("d/f"), "12345").expect("written");
        std::fs::write(b.join("d/f"), "12x45").expect("written");
        std::fs::write(a.join("only"), "").expect("written");
        std::os::unix::fs::symlink("x", a.join("link")).expect("made");
        std::os::unix::fs::symlink("y", b.join("link")).expect("made");
        let found: Vec<String> =
            differences(&a, &b).into_iter().map(|file| format!("{}: {}", file.path, file.what)).collect();
        let expected = [
            "d/f: differs from byte 2 on",
            "link: points to `x`, then to `y`",
            "only: only the first build made it",
        ];
        assert_eq!(found, expected);
        assert_eq!(differences(&a, &a), []);
    }
}
