//! `ampoule man`: the manual pages, from the same source as `--help`.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::args::Cli;
use crate::error::{CliError, ExitStatus, IoContext};

/// Write the manual pages, one for each command
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule man ~/.local/share/man/man1")]
pub struct Args {
    /// The directory to write them to
    dir: PathBuf,
}

pub fn run(args: &Args) -> Result<ExitStatus, CliError> {
    std::fs::create_dir_all(&args.dir).while_doing(|| format!("cannot make `{}`", args.dir.display()))?;
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .while_doing(|| format!("cannot write to `{}`", args.dir.display()))?;
    Ok(ExitStatus::Success)
}
