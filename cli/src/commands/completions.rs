//! `ampoule completions`: what a shell needs to complete our command line.

use clap_complete::env::Shells;

use crate::candidates::VARIABLE;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::ui::Ui;

/// Print a completion script for a shell
///
/// The script asks the program itself, so that attributes of a file, packages of a lock and names of functions are
/// completed like options.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  source <(ampoule completions bash)          also in ~/.bashrc
  source <(ampoule completions zsh)           also in ~/.zshrc, behind compinit
  ampoule completions fish > ~/.config/fish/completions/ampoule.fish")]
pub struct Args {
    /// The shell to print it for
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

pub fn run(args: &Args, ui: &Ui) -> Result<ExitStatus, CliError> {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell).expect("the parser knows the names");
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "ampoule", "ampoule", "ampoule", &mut script)
        .while_doing(|| "cannot write a script".to_owned())?;
    ui.print_raw(&script)?;
    Ok(ExitStatus::Success)
}
