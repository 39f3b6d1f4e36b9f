//! Packs directory trees into layers: what `benches/layers` times.
//!
//! `pack OUT gzip|zstd|none[:LEVEL] THREADS|- TREE…` writes one layer a tree into
//! the blob cache at OUT and prints what they are.

use std::num::NonZeroUsize;
use std::path::Path;

use ampoule_image::blobs::BlobCache;
use ampoule_image::compress::Compression;
use ampoule_image::entry::{self, Entry};
use ampoule_image::layer::{LayerJob, write_layers};
use ampoule_image::walk::{self, Modes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [out, compression, threads, trees @ ..] = args.as_slice() else {
        return Err("pack OUT gzip|zstd|none[:LEVEL] THREADS|- TREE…".into());
    };
    let cache = BlobCache::open(out)?;
    let compression = Compression::parse(compression)?;
    let threads = threads.parse::<NonZeroUsize>().ok();
    let t = std::time::Instant::now();
    let layers = trees.iter().map(|tree| entries(Path::new(tree))).collect::<Result<Vec<_>, _>>()?;
    eprintln!("walk {:?}", t.elapsed());
    let blobs = layers.iter().map(|_| cache.start()).collect::<Result<Vec<_>, _>>()?;
    let jobs: Vec<LayerJob<'_>> = layers
        .iter()
        .zip(&blobs)
        .map(|(entries, blob)| LayerJob { entries, file: blob.file(), path: blob.path() })
        .collect();
    let written = write_layers(&jobs, compression, threads)?;
    drop(jobs);
    for (blob, layer) in blobs.into_iter().zip(written) {
        cache.finish(blob, &layer.digest)?;
        println!("{} {} {} {}", layer.diff_id, layer.digest, layer.tar_bytes, layer.size_bytes);
    }
    Ok(())
}

fn entries(tree: &Path) -> Result<Vec<Entry>, Box<dyn std::error::Error>> {
    let entries = walk::read_tree(tree, b"", Modes::Root)?;
    let mut entries = entry::settle(entries, &|path| Entry::directory(path, 0o755))?;
    walk::link_equal_files(&mut entries)?;
    Ok(entries)
}
