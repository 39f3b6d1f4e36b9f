//! `ampoule completions`: what a shell needs to complete our command line.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::{CliError, ExitStatus};

/// Print a completion script for a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  source <(ampoule completions bash)
  ampoule completions fish > ~/.config/fish/completions/ampoule.fish")]
pub struct Args {
    /// The shell to print it for
    shell: Shell,
}

pub fn run(args: &Args) -> Result<ExitStatus, CliError> {
    clap_complete::generate(args.shell, &mut Cli::command(), "ampoule", &mut std::io::stdout());
    Ok(ExitStatus::Success)
}
