//! `ampoule config`: what is configured, and who said so.

use clap::Subcommand;

use crate::args::GlobalArgs;
use crate::config::keys::KEYS;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Show the configuration
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print every setting and its value
    #[command(after_help = "\
Examples:
  ampoule config show                 all settings
  ampoule config show --origin        and where each value came from
  ampoule config show build.jobs      one value")]
    Show {
        /// Say where each value came from
        #[arg(long)]
        origin: bool,
        /// Only this setting
        #[arg(add = crate::candidates::settings())]
        key: Option<String>,
    },
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let Action::Show { origin, key } = &args.action;
    let config = global.config()?;
    let wanted: Vec<_> = KEYS.iter().filter(|k| key.as_deref().is_none_or(|name| name == k.name)).collect();
    if wanted.is_empty() {
        return Err(crate::config::unknown_key(key.as_deref().unwrap_or_default(), "to show"));
    }
    if ui.json() {
        let entries: serde_json::Map<String, serde_json::Value> = wanted
            .iter()
            .map(|k| {
                let entry = serde_json::json!({
                    "value": config.setting(k.name), "default": k.default,
                    "origin": config.origin(k.name).to_string(), "environment": k.env_name(), "doc": k.doc,
                });
                (k.name.to_owned(), entry)
            })
            .collect();
        ui.print_json(&entries)?;
        return Ok(ExitStatus::Success);
    }
    for k in wanted {
        let line = format!("{} = {}", k.name, config.shown(k));
        ui.print(if *origin { format!("{line}  # {}", config.origin(k.name)) } else { line })?;
    }
    if key.is_none() {
        for (name, bases, from) in config.mirrors() {
            let line = format!("mirrors.{name} = {bases:?}");
            ui.print(if *origin { format!("{line}  # {from}") } else { line })?;
        }
    }
    Ok(ExitStatus::Success)
}
