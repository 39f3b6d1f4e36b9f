//! `ampoule copy`: closures to and from binary caches.

use std::path::PathBuf;

use ampoule_store::cache::{BinaryCache, CopyOptions, copy_from, copy_to};
use ampoule_store::narinfo::Compression;
use ampoule_store::{SecretKey, StoreResult};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Copy objects and what they need to or from a binary cache
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule copy --to file:///srv/cache --key-file secret ./result
  ampoule copy --from https://cache.example.org /nix/store/…-hello
  ampoule copy --to https://cache.example.org/upload ./result      with PUT")]
pub struct Args {
    /// The cache to write: file://DIR, http(s)://…
    #[arg(long, value_name = "CACHE", required_unless_present = "from", conflicts_with = "from")]
    to: Option<String>,
    /// The cache to read: file://DIR, http(s)://…
    #[arg(long, value_name = "CACHE")]
    from: Option<String>,
    /// Store paths, or links to them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Compress by zstd, xz, bzip2, gzip or none
    #[arg(long, value_name = "METHOD", default_value = "zstd")]
    compression: String,
    /// How hard to compress
    #[arg(long, value_name = "NUMBER")]
    level: Option<i32>,
    /// Sign with the secret key in this file; may come several times
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    key_file: Vec<PathBuf>,
    /// Take what is not signed by a trusted key, too
    #[arg(long, requires = "from")]
    no_check_signatures: bool,
    /// Objects that move at the same time
    #[arg(short, long, value_name = "NUMBER", default_value_t = 8)]
    jobs: usize,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let store = crate::store::open(&config)?;
    let paths = super::store::parse_paths(&store, &args.paths)?;
    let compression = Compression::parse(&args.compression).ok_or_else(|| {
        CliError::usage(format!("expected one of {}, found `{}`", Compression::names(), args.compression))
    })?;
    let keys = args.key_file.iter().map(|file| SecretKey::read(file)).collect::<StoreResult<Vec<_>>>()?;
    let options = CopyOptions { compression, level: args.level, keys: &keys, jobs: args.jobs };
    let report = match (&args.to, &args.from) {
        (Some(to), _) => {
            let cache = BinaryCache::open_or_create(crate::store::transport(to)?, &store)?;
            copy_to(&store, &cache, paths, &options)?
        }
        (None, Some(from)) => {
            let cache = BinaryCache::open(crate::store::transport(from)?, store.dir())?;
            let mut trusted = crate::store::trusted_keys(&config)?;
            trusted.accepts_unsigned = args.no_check_signatures;
            copy_from(&store, &cache, paths, &trusted, &options)?
        }
        (None, None) => return Err(CliError::usage("expected `--to` or `--from`")),
    };
    if ui.json() {
        let print = |path| store.dir().print(path);
        ui.print_json(&serde_json::json!({
            "copied": report.copied.iter().map(print).collect::<Vec<_>>(),
            "present": report.present.iter().map(print).collect::<Vec<_>>(),
            "narBytes": report.nar_bytes,
        }))?;
    } else {
        for path in &report.copied {
            ui.print(store.dir().print(path))?;
        }
        let (copied, present) = (report.copied.len(), report.present.len());
        ui.note(&format!(
            "{copied} objects copied, {}; {present} were there",
            ampoule_store::human_size(report.nar_bytes)
        ));
    }
    crate::store::keep_below_quota(&store, &config, ui)?;
    Ok(ExitStatus::Success)
}
