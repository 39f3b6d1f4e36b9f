//! Makes an image from a description, without a store of ours: for experiments and
//! for the scripts in `benches/` and `docs/images.md`.
//!
//! `make SPEC.json STORE OUT`: SPEC is the attribute `image` of the derivation, STORE
//! a directory whose entries are store objects, OUT gets `object`, `cache`, `layout`
//! and `image.tar`. Objects have no references but those listed in `STORE/NAME.refs`.

use std::path::{Path, PathBuf};

use ampoule_image::blobs::BlobCache;
use ampoule_image::build::{ObjectFacts, Objects, build_image_object};
use ampoule_image::plan::{ObjectSource, Plan};
use ampoule_image::project::{Need, Projector};
use ampoule_image::slices::SliceLists;
use ampoule_image::{ImageError, Result};

struct Dir(PathBuf);

impl ObjectSource for Dir {
    fn locate(&self, store_path: &str) -> Result<PathBuf> {
        let name = store_path.rsplit('/').next().unwrap_or_default();
        let path = self.0.join(name);
        std::fs::symlink_metadata(&path).map_err(|e| ImageError::io("read", &path, e))?;
        Ok(path)
    }
}

impl Objects for Dir {
    fn store_dir(&self) -> &str {
        "/nix/store"
    }

    fn facts(&self, store_path: &str) -> Result<ObjectFacts> {
        let path = self.locate(store_path)?;
        let refs = std::fs::read_to_string(format!("{}.refs", path.display())).unwrap_or_default();
        Ok(ObjectFacts { nar_size_bytes: size(&path), references: refs.lines().map(str::to_owned).collect() })
    }
}

fn size(path: &Path) -> u64 {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    match std::fs::read_dir(path) {
        Ok(entries) if meta.is_dir() => entries.flatten().map(|e| size(&e.path())).sum(),
        _ => meta.len(),
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let [spec, store, out] = args.as_slice() else { return Err("make SPEC.json STORE OUT".into()) };
    let store = Dir(store.clone());
    std::fs::create_dir_all(out)?;
    let object = out.join("object");
    let _ = std::fs::remove_dir_all(&object);
    let asked: serde_json::Value = serde_json::from_slice(&std::fs::read(spec)?)?;
    let start = std::time::Instant::now();
    let report = build_image_object(&asked, &store, &object).map_err(|e| e.to_string())?;
    eprintln!("planned in {:?}", start.elapsed());
    report.lines.iter().for_each(|line| eprintln!("{line}"));
    let start = std::time::Instant::now();
    let cache = BlobCache::open(out.join("cache"))?;
    let plan = Plan::read(&object)?;
    let projector = Projector {
        cache: &cache,
        objects: &store,
        own: &object,
        threads: None,
        compression: None,
        slices: SliceLists::default(),
    };
    let image = projector.project(&plan, Need::Blobs)?;
    image.write_layout(&cache, &out.join("layout"))?;
    image.write_archive(&cache, None, &out.join("image.tar"))?;
    eprintln!("projected in {:?}", start.elapsed());
    println!("{}", serde_json::to_string_pretty(&image.report())?);
    Ok(())
}
