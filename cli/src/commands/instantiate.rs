//! `ampoule instantiate`: the derivations that a file describes, written to the store.

use ampoule_eval::FoundDerivation;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::realising::BuildArgs;
use crate::session::{ExpressionArgs, Session};
use crate::ui::Ui;
use crate::world::Keeps;

/// Write the derivations that a file describes, and print their paths
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule instantiate hello.img
  ampoule instantiate -A package .")]
pub struct Args {
    #[command(flatten)]
    expression: ExpressionArgs,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let options = BuildArgs::default().options(&config)?;
    let session = Session::new(&args.expression, &config, Keeps::Sources, options)?;
    let found: Vec<Vec<FoundDerivation>> =
        session.each(ui, |ev, value, arguments| Ok(ev.derivations(value, arguments)?))?;
    let store = session.world.store()?;
    for one in found.iter().flatten() {
        let drv = store.dir().parse(&one.drv_path).map_err(|e| CliError::failed(e.to_string()))?;
        session.world.write_texts(&[drv])?;
        let suffix = if matches!(one.output_name.as_str(), "" | "out") {
            String::new()
        } else {
            format!("!{}", one.output_name)
        };
        if ui.json() {
            ui.print_json(&serde_json::json!({
                "attrPath": one.attr_path, "name": one.name, "drvPath": one.drv_path, "outputName": one.output_name,
            }))?;
        } else {
            ui.print(format!("{}{suffix}", one.drv_path))?;
        }
    }
    Ok(ExitStatus::Success)
}
