//! `ampoule store why`: how one object comes to need another.

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Show a shortest way along references from one object to another
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule store why ./result /nix/store/…-openssl-3.0
  ampoule store why ./result openssl      by name: the first whose name begins so")]
pub struct Args {
    /// Where it begins: a store path or a link to one
    from: String,
    /// Where it ends: a store path, or the beginning of a name
    to: String,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    let from = store.parse_any(&args.from)?;
    let closure = store.closure_of([from.clone()])?;
    let to = match store.parse_any(&args.to) {
        Ok(to) => to,
        Err(error) => match closure.iter().find(|path| path.name().starts_with(&args.to)) {
            Some(path) => path.clone(),
            None if args.to.contains('/') => return Err(error.into()),
            None => return nothing(&store, &from, &args.to, ui),
        },
    };
    match store.why(&from, &to)? {
        Some(way) if ui.json() => super::print_paths(&store, &way, ui)?,
        Some(way) => {
            for (depth, path) in way.iter().enumerate() {
                ui.print(format!("{}{}", "  ".repeat(depth), store.dir().print(path)))?;
            }
        }
        None => return nothing(&store, &from, to.as_str(), ui),
    }
    Ok(ExitStatus::Success)
}

fn nothing(
    store: &ampoule_store::Store,
    from: &ampoule_store::StorePath,
    to: &str,
    ui: &Ui,
) -> Result<ExitStatus, CliError> {
    if ui.json() {
        ui.print_json(&serde_json::Value::Null)?;
    }
    ui.note(&format!("`{}` does not need `{to}`", store.dir().print(from)));
    Ok(ExitStatus::Evaluation)
}
