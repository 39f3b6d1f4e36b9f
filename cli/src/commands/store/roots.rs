//! `ampoule store roots`: what is kept, and why.

use ampoule_store::RootKind;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// List what is kept, and why
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    crate::images::forget_results(&store)?;
    let roots = store.roots()?;
    let mut entries = Vec::new();
    for root in &roots.roots {
        let path = store.dir().print(&root.path);
        let (kind, by) = match &root.kind {
            RootKind::Explicit(name) => match crate::images::result_of_root(store.root(), name) {
                Some(link) => ("link", link.display().to_string()),
                None => ("root", name.clone()),
            },
            RootKind::Link(link) => ("link", link.display().to_string()),
            RootKind::Lease => ("lease", "a running ampoule".to_owned()),
            RootKind::Process(pid) => ("process", pid.to_string()),
        };
        if ui.json() {
            entries.push(serde_json::json!({ "path": path, "kind": kind, "by": by }));
        } else {
            ui.print(format!("{path}  {kind} {by}"))?;
        }
    }
    if ui.json() {
        ui.print_json(&entries)?;
    }
    for (root, why) in &roots.stale {
        ui.warn(&format!("root `{}` {why}", root.display()));
    }
    Ok(ExitStatus::Success)
}
