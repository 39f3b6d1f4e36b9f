//! `ampoule store du`: what makes a closure large.

use ampoule_store::human_size;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Show what makes a closure large
///
/// For each object: what would leave the closure with it, its closure, and itself, as sizes of NARs.
#[derive(clap::Args)]
pub struct Args {
    /// Store paths, or links to them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    let costs = store.costs(super::parse_paths(&store, &args.paths)?)?;
    let total: u64 = costs.iter().map(|cost| cost.nar_size_bytes).sum();
    if ui.json() {
        let objects: Vec<_> = costs
            .iter()
            .map(|cost| {
                serde_json::json!({
                    "path": store.dir().print(&cost.path), "narSize": cost.nar_size_bytes,
                    "closureSize": cost.closure_size_bytes, "addedSize": cost.added_size_bytes,
                })
            })
            .collect();
        ui.print_json(&serde_json::json!({ "closureSize": total, "objects": objects }))?;
        return Ok(ExitStatus::Success);
    }
    ui.print(format!("{:>11} {:>11} {:>11}", "alone", "closure", "itself"))?;
    for cost in &costs {
        let sizes = [cost.added_size_bytes, cost.closure_size_bytes, cost.nar_size_bytes].map(human_size);
        ui.print(format!("{:>11} {:>11} {:>11}  {}", sizes[0], sizes[1], sizes[2], cost.path))?;
    }
    ui.print(format!("{:>11} in all, {} objects", human_size(total), costs.len()))?;
    Ok(ExitStatus::Success)
}
