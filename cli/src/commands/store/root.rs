//! `ampoule store root`: keep an object.

use std::path::PathBuf;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Keep an object
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule store root --link result /nix/store/…-x     as long as ./result is there
  ampoule store root --name base /nix/store/…-x       until it is removed
  ampoule store root --remove base")]
pub struct Args {
    /// Make this link to it, and keep it as long as the link is there
    #[arg(long, value_name = "LINK", conflicts_with_all = ["name", "remove"])]
    link: Option<PathBuf>,
    /// Keep it under this name
    #[arg(long, conflicts_with = "remove")]
    name: Option<String>,
    /// Keep what has this name no longer
    #[arg(long, value_name = "NAME")]
    remove: Option<String>,
    /// A store path, or a link to one
    #[arg(value_name = "PATH", required_unless_present = "remove")]
    path: Option<String>,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    if let Some(name) = &args.remove {
        return match store.remove_root(name)? {
            true => tell(ui, &serde_json::json!({ "removed": name })),
            false => Err(CliError::failed(format!("there is no root `{name}`"))),
        };
    }
    let path = crate::images::object_named(&store, args.path.as_deref().unwrap_or_default())?;
    match (&args.link, &args.name) {
        (Some(link), _) => store.add_link_root(link, &path)?,
        (None, Some(name)) => store.add_root(name, &path)?,
        (None, None) => return Err(CliError::usage("expected `--link` or `--name`")),
    }
    let path = store.dir().print(&path);
    ui.detail(&format!("`{path}` is kept"));
    tell(ui, &serde_json::json!({ "path": path, "link": args.link, "name": args.name }))
}

fn tell(ui: &Ui, done: &serde_json::Value) -> Result<ExitStatus, CliError> {
    if ui.json() {
        ui.print_json(done)?;
    }
    Ok(ExitStatus::Success)
}
