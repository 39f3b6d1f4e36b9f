//! `ampoule store optimise`: files with the same contents share a place.

use ampoule_store::human_size;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Link files with the same contents, so that they take their place once
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let report = crate::store::open_for(global)?.optimise()?;
    if ui.json() {
        ui.print_json(&serde_json::json!({
            "linkedFiles": report.linked_files, "savedBytes": report.saved_bytes,
            "skippedFiles": report.skipped_files,
        }))?;
    } else {
        ui.note(&format!("{} files linked, {} saved", report.linked_files, human_size(report.saved_bytes)));
    }
    Ok(ExitStatus::Success)
}
