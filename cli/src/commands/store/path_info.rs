//! `ampoule store path-info`: what is known about objects.

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Say what is known about objects
#[derive(clap::Args)]
pub struct Args {
    /// Store paths, or links to them [default: all valid ones]
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Everything that they refer to, too
    #[arg(short, long)]
    recursive: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    let paths = super::parse_paths(&store, &args.paths)?;
    let infos = if paths.is_empty() {
        store.all_infos()?
    } else if args.recursive {
        store.closure_infos(paths)?.into_values().collect()
    } else {
        paths.iter().map(|path| store.expect_info(path)).collect::<Result<_, _>>()?
    };
    if ui.json() {
        ui.print_json(&infos.iter().map(|info| super::info_json(&store, info)).collect::<Vec<_>>())?;
        return Ok(ExitStatus::Success);
    }
    for info in &infos {
        ui.print(store.dir().print(&info.path))?;
        if args.paths.is_empty() && ui.verbosity() < 2 {
            continue;
        }
        ui.print(format!("  nar-hash    {}", info.nar_hash.to_sri()))?;
        ui.print(format!("  nar-size    {}", info.nar_size_bytes))?;
        for reference in &info.references {
            ui.print(format!("  reference   {reference}"))?;
        }
        let lines = [
            ("deriver", info.deriver.as_ref().map(ToString::to_string)),
            ("ca", info.address.as_ref().map(ToString::to_string)),
            ("sandbox", info.tier.map(|tier| tier.to_string())),
        ];
        for (key, value) in lines {
            if let Some(value) = value {
                ui.print(format!("  {key:<11} {value}"))?;
            }
        }
        for signature in &info.signatures {
            ui.print(format!("  signature   {signature}"))?;
        }
    }
    Ok(ExitStatus::Success)
}
