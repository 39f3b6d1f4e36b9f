//! `ampoule store delete`: these objects go, if nothing needs them.

use ampoule_store::{GcOptions, human_size};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Delete objects that nothing needs
#[derive(clap::Args)]
pub struct Args {
    /// Store paths, or links to them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    let only = super::parse_paths(&store, &args.paths)?;
    let report = store.gc(&GcOptions { only: Some(only), ..GcOptions::default() })?;
    if ui.json() {
        let deleted: Vec<_> = report.dead.iter().map(|path| store.dir().print(path)).collect();
        ui.print_json(&serde_json::json!({ "deleted": deleted, "freedBytes": report.freed_bytes }))?;
        return Ok(ExitStatus::Success);
    }
    super::print_paths(&store, &report.dead, ui)?;
    ui.note(&format!("{} freed", human_size(report.freed_bytes)));
    Ok(ExitStatus::Success)
}
