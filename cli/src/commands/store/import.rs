//! `ampoule store import`: objects from a stream.

use std::path::PathBuf;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::ui::Ui;

/// Read objects that `export` wrote (or `nix-store --export`)
///
/// The stream carries no signatures: import only what comes from someone you trust.
#[derive(clap::Args)]
pub struct Args {
    /// What to read [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let store = crate::store::open(&config)?;
    let (from, imported) = match &args.file {
        Some(file) => {
            let from = format!("`{}`", file.display());
            let opened = std::fs::File::open(file).while_doing(|| format!("cannot read {from}"))?;
            (from, store.import(opened))
        }
        None => ("standard input".to_owned(), store.import(std::io::stdin().lock())),
    };
    let paths = imported.map_err(|error| {
        let mut told = CliError::from(error);
        told.message = format!("cannot import {from}: {}", told.message);
        told.hint("give what `ampoule store export` or `nix-store --export` wrote, whole")
    })?;
    super::print_paths(&store, &paths, ui)?;
    crate::store::keep_below_quota(&store, &config, ui)?;
    Ok(ExitStatus::Success)
}
