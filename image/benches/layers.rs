//! How fast a tree becomes a layer, side by side with reading it and with other
//! programs that are installed: `cargo bench -p ampoule-image [-- TREE [OUT]]`.
//!
//! Without TREE one is copied together from this machine's own files, of at least
//! 500 MB and 30,000 files. Rounds are interleaved and medians of ratios against
//! `find | xargs cat` of the same round are printed: seconds depend on the day.
//! OUT should lie in memory (`/dev/shm`), as nothing here is about disks.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ampoule_image::Result;
use ampoule_image::blobs::BlobCache;
use ampoule_image::compress::Compression;
use ampoule_image::entry::{self, Entry};
use ampoule_image::layer::{LayerJob, write_layers};
use ampoule_image::walk::{self, Modes};

const ROUNDS: usize = 5;

fn main() {
    let args: Vec<PathBuf> =
        std::env::args_os().skip(1).map(PathBuf::from).filter(|a| !a.starts_with("--bench")).collect();
    let memory =
        if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let scratch = tempfile::tempdir_in(args.get(1).unwrap_or(&memory)).expect("a scratch directory");
    let tree = args.first().cloned().unwrap_or_else(|| gather(scratch.path()));
    let out = scratch.path().join("out");
    let parts = split(&tree);
    let (bytes, files) = size(&tree);
    println!("{}: {:.0} MB, {files} files, {} parts", tree.display(), bytes as f64 / 1e6, parts.len());

    let mut rows: Vec<Row> = Vec::new();
    for how in ["none", "zstd", "zstd:1", "gzip", "gzip:1", "gzip:6"] {
        rows.push(Row::ours(how, vec![tree.clone()], &out));
        if parts.len() > 1 && !how.contains(':') {
            rows.push(Row::ours(how, parts.clone(), &out));
        }
    }
    let shell = |name: &str, program: &str, line: String| Row::shell(name, program, line);
    let (t, o) = (tree.display(), out.display());
    let others = [
        shell("tar | gzip -1", "gzip", format!("mkdir -p {o}; tar -C {t} -cf - . | gzip -1 > {o}/x")),
        shell(
            "tar | zstd -3 -T0",
            "zstd",
            format!("mkdir -p {o}; tar -C {t} -cf - . | zstd -q -3 -T0 > {o}/x"),
        ),
        shell(
            "umoci insert (gzip)",
            "umoci",
            format!(
                "umoci init --layout {o} && umoci new --image {o}:a && umoci insert --image {o}:a {t} / 2>/dev/null"
            ),
        ),
        shell(
            "buildah from, copy, commit",
            "buildah",
            format!(
                "b='buildah --root {o}/s --runroot {o}/r --storage-driver vfs'; c=$($b from scratch) && $b copy -q $c {t} / && $b commit -q $c oci:{o}/l:a"
            ),
        ),
    ];
    rows.extend(others.into_iter().flatten());

    let mut cat_times = Vec::new();
    for round in 0..ROUNDS {
        let cat = time_shell(&format!("find {t} -type f -print0 | xargs -0 cat > /dev/null"));
        cat_times.push(cat.as_secs_f64());
        for row in &mut rows {
            // Slow ones once: a ratio of twenty needs no median.
            if round > 0 && row.ratios.first().is_some_and(|ratio| *ratio > 8.0) {
                continue;
            }
            let _ = std::fs::remove_dir_all(&out);
            let taken = (row.run)(&mut row.bytes);
            row.ratios.push(taken.as_secs_f64() / cat.as_secs_f64());
        }
    }
    println!("{:<28} {:>8.3} s", "find | xargs cat", median(&mut cat_times));
    for row in &mut rows {
        let size = row.bytes.map_or(String::new(), |b| format!("{:>8.1} MB", b as f64 / 1e6));
        println!("{:<28} {:>7.2} x {size}", row.name, median(&mut row.ratios));
    }
}

/// Does it once, tells how long it took, and how large the result is if it knows.
type Run = dyn Fn(&mut Option<u64>) -> Duration;

struct Row {
    name: String,
    run: Box<Run>,
    ratios: Vec<f64>,
    bytes: Option<u64>,
}

impl Row {
    fn ours(how: &'static str, trees: Vec<PathBuf>, out: &Path) -> Self {
        let out = out.to_owned();
        let layers = if trees.len() == 1 { "1 layer".to_owned() } else { format!("{} layers", trees.len()) };
        let run = Box::new(move |bytes: &mut Option<u64>| {
            let start = Instant::now();
            *bytes = Some(pack(&trees, how, &out).expect("the tree can be read"));
            start.elapsed()
        });
        Self { name: format!("ampoule {how}, {layers}"), run, ratios: Vec::new(), bytes: None }
    }

    fn shell(name: &str, program: &str, line: String) -> Option<Self> {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            println!("{name}: not installed");
            return None;
        }
        let run = Box::new(move |_: &mut Option<u64>| time_shell(&line));
        Some(Self { name: name.to_owned(), run, ratios: Vec::new(), bytes: None })
    }
}

fn pack(trees: &[PathBuf], how: &str, out: &Path) -> Result<u64> {
    let cache = BlobCache::open(out)?;
    let mut layers = Vec::new();
    for tree in trees {
        let entries = walk::read_tree(tree, b"", Modes::Root)?;
        let mut entries = entry::settle(entries, &|path| Entry::directory(path, 0o755))?;
        walk::link_equal_files(&mut entries)?;
        layers.push(entries);
    }
    let blobs = layers.iter().map(|_| cache.start()).collect::<Result<Vec<_>>>()?;
    let jobs: Vec<LayerJob<'_>> = layers
        .iter()
        .zip(&blobs)
        .map(|(entries, blob)| LayerJob { entries, file: blob.file(), path: blob.path() })
        .collect();
    let written = write_layers(&jobs, Compression::parse(how)?, None)?;
    for (blob, layer) in blobs.into_iter().zip(&written) {
        cache.finish(blob, &layer.digest)?;
    }
    Ok(written.iter().map(|layer| layer.size_bytes).sum())
}

fn time_shell(line: &str) -> Duration {
    let start = Instant::now();
    let status = Command::new("sh").args(["-c", line]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{line}");
    start.elapsed()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The directories of a tree, as layers of their own.
fn split(tree: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(tree).expect("the tree is a directory").flatten();
    let mut parts: Vec<PathBuf> = found.map(|e| e.path()).filter(|p| p.is_dir() && !p.is_symlink()).collect();
    parts.sort();
    parts
}

fn size(tree: &Path) -> (u64, usize) {
    let entries = walk::read_tree(tree, b"", Modes::Root).expect("the tree can be read");
    (
        entries.iter().map(ampoule_image::tar::body_len).sum(),
        entries.iter().filter(|e| !e.is_directory()).count(),
    )
}

/// Copies files of this machine together until there are enough.
fn gather(at: &Path) -> PathBuf {
    let tree = at.join("tree");
    std::fs::create_dir(&tree).expect("scratch is writable");
    for dir in
        ["/usr/include", "/usr/lib/python3", "/usr/lib/python3.11", "/usr/share", "/usr/lib/gcc", "/usr/lib"]
    {
        if Path::new(dir).is_dir() {
            let line = format!("cp -rP {dir} {}/$(echo {dir} | tr / _)", tree.display());
            let _ = Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).status();
        }
        let (bytes, files) = size(&tree);
        if bytes >= 500_000_000 && files >= 30_000 {
            break;
        }
    }
    tree
}
