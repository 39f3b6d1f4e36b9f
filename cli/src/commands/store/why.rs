//! `ampoule store why`: how one object comes to need another.

use crate::args::GlobalArgs;
use crate::commands::why::along_references;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Show a shortest way along references from one object to another
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule store why ./result /nix/store/…-openssl-3.0
  ampoule store why ./result openssl      by name: the first whose name begins so

`ampoule why` does the same for files, images and derivations.")]
pub struct Args {
    /// Where it begins: a store path or a link to one
    from: String,
    /// Where it ends: a store path, a file of it, or the beginning of a name
    to: String,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    along_references(&store, &crate::images::object_named(&store, &args.from)?, &args.to, ui)
}
