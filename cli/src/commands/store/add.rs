//! `ampoule store add`: a file or tree from outside becomes an object.

use std::path::PathBuf;

use ampoule_store::{AddOptions, HashAlgo, Method};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Add files or directories
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule store add ./src                 the tree, as `builtins.path` adds it
  ampoule store add --flat x.tar.gz       one file, hashed as it is
  ampoule store add --dry-run ./src       only say which path it would have")]
pub struct Args {
    /// What to add
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The object's name [default: the last name of the path]
    #[arg(short, long)]
    name: Option<String>,
    /// Hash the bytes of one file, not a tree
    #[arg(long)]
    flat: bool,
    /// The hash algorithm
    #[arg(long, default_value = "sha256", value_name = "ALGO")]
    algo: String,
    /// Add nothing; say which path it would have
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let store = crate::store::open(&config)?;
    let algo = HashAlgo::parse(&args.algo).map_err(|e| CliError::usage(e.to_string()))?;
    for path in &args.paths {
        let options = AddOptions {
            method: if args.flat { Method::Flat } else { Method::Nar },
            algo,
            ..named(args, path)?
        };
        if args.dry_run {
            let hashed = store.hash_tree(path, &options, None)?;
            if ui.json() {
                let ca = hashed.address.to_string();
                ui.print_json(&serde_json::json!({ "path": store.dir().print(&hashed.path), "ca": ca }))?;
            } else {
                ui.print(store.dir().print(&hashed.path))?;
            }
            continue;
        }
        let info = store.add_path(path, &options, None)?;
        if ui.json() {
            ui.print_json(&super::info_json(&store, &info))?;
        } else {
            ui.print(store.dir().print(&info.path))?;
        }
    }
    crate::store::keep_below_quota(&store, &config, ui)?;
    Ok(ExitStatus::Success)
}

fn named(args: &Args, path: &std::path::Path) -> Result<AddOptions, CliError> {
    let own = || std::path::absolute(path).ok().and_then(|p| Some(p.file_name()?.to_str()?.to_owned()));
    match args.name.clone().or_else(own) {
        Some(name) => match ampoule_store::check_name(&name) {
            Ok(()) => Ok(AddOptions::source(name)),
            Err(error) => Err(CliError::usage(format!("`{}` cannot be added: {error}", path.display()))
                .hint("give it another name with `--name`")),
        },
        None => Err(CliError::usage(format!("`{}` has no name that an object can have", path.display()))
            .hint("give one with `--name`")),
    }
}
