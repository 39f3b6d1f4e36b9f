//! How fast a tree becomes a layer, side by side with reading it and with other
//! programs that are installed: `cargo bench -p ampoule-image [-- TREE [OUT]]`.
//!
//! Without TREE one is copied together from this machine's own files, of at least
//! 500 MB and 30,000 files. Rounds are interleaved and medians of ratios against
//! `find | xargs cat` of the same round are printed, beside the most that they may be:
//! seconds depend on the day. OUT should lie in memory (`/dev/shm`), as nothing here is
//! about disks.
//!
//! The last lines are in milliseconds: an image of that tree of which nothing changed,
//! and an image of 2 MB from nothing and unchanged; with the program beside (`cargo build
//! --release`), the same as whole processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ampoule_image::Result;
use ampoule_image::blobs::BlobCache;
use ampoule_image::build::{ObjectFacts, Objects, build_image_object};
use ampoule_image::compress::Compression;
use ampoule_image::entry::{self, Entry};
use ampoule_image::layer::{LayerJob, write_layers};
use ampoule_image::plan::{ObjectSource, Plan};
use ampoule_image::project::{Need, Projector};
use ampoule_image::slices::SliceLists;
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
    let (t, o) = (tree.display(), out.display());
    let shell =
        |name: &str, program: &str, line: String, made: &str| Row::shell(name, program, line, out.join(made));
    let others = [
        shell(GZIP_1, "gzip", format!("mkdir -p {o}; tar -C {t} -cf - . | gzip -1 > {o}/x"), "x"),
        shell(
            "tar | zstd -3 -T0",
            "zstd",
            format!("mkdir -p {o}; tar -C {t} -cf - . | zstd -q -3 -T0 > {o}/x"),
            "x",
        ),
        shell(
            "umoci insert (gzip)",
            "umoci",
            format!(
                "umoci init --layout {o} && umoci new --image {o}:a && umoci insert --image {o}:a {t} / 2>/dev/null"
            ),
            "blobs",
        ),
        shell(
            "buildah from, copy, commit",
            "buildah",
            format!(
                "b='buildah --root {o}/s --runroot {o}/r --storage-driver vfs'; c=$($b from scratch) && $b copy -q $c {t} / && $b commit -q $c oci:{o}/l:a"
            ),
            "l/blobs",
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
    let gzip_1 = rows.iter().find(|row| row.name == GZIP_1).and_then(|row| row.bytes);
    for row in &mut rows {
        let ratio = median(&mut row.ratios);
        let size = row.bytes.map_or(String::new(), |b| format!("{:>8.1} MB", b as f64 / 1e6));
        let most =
            row.most.map_or(String::new(), |most| format!("  (at most {most}: {})", yes(ratio <= most)));
        println!("{:<28} {ratio:>7.2} x {size}{most}", row.name);
        // The default level is the one that has to hold.
        if let (Some(ours), Some(theirs), "ampoule gzip, 1 layer") = (row.bytes, gzip_1, row.name.as_str()) {
            let part = ours as f64 / theirs as f64;
            println!("{:<28} {part:>7.2} x the size of `gzip -1`  (at most 1: {})", "", yes(part <= 1.0));
        }
    }
    let _ = std::fs::remove_dir_all(&out);
    unchanged(&tree, &out);
    small(scratch.path());
}

const GZIP_1: &str = "tar | gzip -1";

fn yes(is_held: bool) -> &'static str {
    if is_held { "held" } else { "MISSED" }
}

/// One tree that a bench calls a store object.
struct OneTree<'a>(&'a Path);

const TREE: &str = "/nix/store/00000000000000000000000000000000-tree";

impl ObjectSource for OneTree<'_> {
    fn locate(&self, _: &str) -> Result<PathBuf> {
        Ok(self.0.to_owned())
    }
}

impl Objects for OneTree<'_> {
    fn store_dir(&self) -> &str {
        "/nix/store"
    }

    fn facts(&self, _: &str) -> Result<ObjectFacts> {
        Ok(ObjectFacts { nar_size_bytes: 1, references: Vec::new() })
    }
}

/// Makes an image of `tree` at `out`, as `realise` does after the image's object is there.
fn pour(tree: &Path, out: &Path) -> Result<Duration> {
    let own = out.join("object");
    if !own.is_dir() {
        std::fs::create_dir_all(out).expect("scratch is writable");
        let asked = serde_json::json!({ "name": "tree", "root": TREE, "lint": false });
        build_image_object(&asked, &OneTree(tree), &own)?;
    }
    let start = Instant::now();
    let cache = BlobCache::open(out.join("cache"))?;
    let objects = OneTree(tree);
    let (threads, compression) = (None, None);
    let slices = SliceLists::default();
    let projector = Projector { cache: &cache, objects: &objects, own: &own, threads, compression, slices };
    let image = projector.project(&Plan::read(&own)?, Need::Blobs)?;
    image.write_layout(&cache, &out.join("layout"))?;
    Ok(start.elapsed())
}

fn say_ms(what: &str, times: &mut [f64], most: f64) {
    let ms = median(times);
    println!("{what:<44} {ms:>7.2} ms  (at most {most}: {})", yes(ms <= most));
}

/// An image of which nothing changed: no tree is walked.
fn unchanged(tree: &Path, out: &Path) {
    pour(tree, out).expect("the tree can be read");
    let again = || pour(tree, out).expect("the tree can be read").as_secs_f64() * 1e3;
    say_ms("that tree as an image, nothing changed", &mut (0..20).map(|_| again()).collect::<Vec<_>>(), 10.0);
    let _ = std::fs::remove_dir_all(out);
}

/// An image of 2 MB: from nothing, unchanged, and as whole processes.
fn small(scratch: &Path) {
    let tree = scratch.join("small");
    for i in 0..40_u64 {
        let dir = tree.join(format!("usr/lib/d{}", i % 7));
        std::fs::create_dir_all(&dir).expect("scratch is writable");
        let words: String =
            (0..10_000).map(|n| format!("{} ", (n * 2_654_435_761 + i * 97) % 99_991)).collect();
        std::fs::write(dir.join(format!("f{i}")), &words.as_bytes()[..words.len().min(50_000)])
            .expect("scratch is writable");
    }
    let (bytes, files) = size(&tree);
    let what = format!("{:.1} MB in {files} files", bytes as f64 / 1e6);
    let out = scratch.join("small-out");
    let fresh = || {
        let _ = std::fs::remove_dir_all(&out);
        pour(&tree, &out).expect("the tree can be read").as_secs_f64() * 1e3
    };
    say_ms(&format!("{what}, from nothing"), &mut (0..20).map(|_| fresh()).collect::<Vec<_>>(), 15.0);
    let again = || pour(&tree, &out).expect("the tree can be read").as_secs_f64() * 1e3;
    say_ms(&format!("{what}, nothing changed"), &mut (0..20).map(|_| again()).collect::<Vec<_>>(), 10.0);

    // The bench lies in `deps`, beside which the program lies.
    let program = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("ampoule")));
    let Some(program) = program.filter(|program| program.is_file()) else {
        println!("as processes: not measured, `cargo build --release` was not run");
        return;
    };
    std::fs::write(
        scratch.join("small.img"),
        "{ image }: image { name = \"small\"; root = [ ./small ]; lint = false; }",
    )
    .expect("scratch is writable");
    let run = |words: &[&str]| {
        let start = Instant::now();
        let mut command = Command::new(&program);
        command.arg("--store").arg(scratch.join("store")).args(words).current_dir(scratch);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "{words:?}");
        start.elapsed().as_secs_f64() * 1e3
    };
    run(&["realise", "small.img"]);
    let (mut whole, mut evaluation, mut export) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..20 {
        whole.push(run(&["realise", "small.img"]));
        evaluation.push(run(&["instantiate", "small.img"]));
        let _ = std::fs::remove_dir_all(scratch.join("exported"));
        export.push(run(&["image", "export", "result", "exported"]));
        assert!(round > 0 || scratch.join("exported/index.json").is_file());
    }
    let (whole_ms, evaluation_ms) = (median(&mut whole), median(&mut evaluation));
    println!(
        "{:<44} {whole_ms:>7.2} ms, of which evaluation {evaluation_ms:.2}",
        "the process `realise`, nothing changed"
    );
    let mut beside: Vec<f64> = whole.iter().map(|ms| (ms - evaluation_ms).max(0.0)).collect();
    say_ms("the process `realise` beside evaluation", &mut beside, 15.0);
    say_ms("the process `image export` to a new layout", &mut export, 15.0);
}

/// Does it once, tells how long it took, and how large the result is if it knows.
type Run = dyn Fn(&mut Option<u64>) -> Duration;

struct Row {
    name: String,
    run: Box<Run>,
    ratios: Vec<f64>,
    bytes: Option<u64>,
    /// The ratio that it must not exceed.
    most: Option<f64>,
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
        let most = match how {
            "none" => Some(1.4),
            "zstd" => Some(2.0),
            "gzip" => Some(2.6),
            _ => None,
        };
        Self { name: format!("ampoule {how}, {layers}"), run, ratios: Vec::new(), bytes: None, most }
    }

    fn shell(name: &str, program: &str, line: String, made: PathBuf) -> Option<Self> {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            println!("{name}: not installed");
            return None;
        }
        let run = Box::new(move |bytes: &mut Option<u64>| {
            let taken = time_shell(&line);
            *bytes =
                if made.is_dir() { Some(size(&made).0) } else { made.metadata().ok().map(|meta| meta.len()) };
            taken
        });
        Some(Self { name: name.to_owned(), run, ratios: Vec::new(), bytes: None, most: None })
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
