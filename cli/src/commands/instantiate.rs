//! `ampoule instantiate`: the derivations that a file describes, written to the store.

use std::path::PathBuf;

use ampoule_eval::FoundDerivation;

use super::eval::{self, PrintingArgs};
use super::modes::{self, ModeArgs};
use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::realising::BuildArgs;
use crate::session::{ExpressionArgs, Session};
use crate::signals::Stop;
use crate::ui::Ui;
use crate::world::Keeps;

/// Write the derivations that a file describes, and print their paths
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule instantiate hello.img
  ampoule instantiate -A package .
  ampoule instantiate --add-root hello.drv hello.img    keep it from the garbage collection")]
pub struct Args {
    #[command(flatten)]
    expression: ExpressionArgs,

    #[command(flatten)]
    modes: ModeArgs,

    /// Keep the derivations as long as this link is there; print the link
    #[arg(long, value_name = "LINK")]
    add_root: Option<PathBuf>,

    /// As every root is: a link anywhere, which the store knows of
    #[arg(long, hide = true)]
    indirect: bool,

    /// Print the value, as `ampoule eval` does
    #[arg(long, alias = "eval-only")]
    eval: bool,

    /// With `--eval`, write what is instantiated
    #[arg(long, hide = true)]
    read_write_mode: bool,

    #[command(flatten)]
    printing: PrintingArgs,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let expression = modes::as_in_nix(&args.expression);
    if let Some(done) = args.modes.instead(&expression, global, ui) {
        return done;
    }
    let is_readonly = args.modes.is_readonly(&expression);
    if args.eval {
        let keeps = eval::keeps(args.read_write_mode, &args.modes, &expression, global)?;
        return eval::evaluate(&expression, &args.printing, keeps, global, ui);
    }
    let config = global.config()?;
    let options = BuildArgs::default().options(&config)?;
    let keeps = if is_readonly { Keeps::Values } else { Keeps::Sources };
    let session = Session::new(&expression, &config, keeps, options)?;
    let _stop = Stop::watch_for(&session.settings.interrupt)?;
    let found: Vec<Vec<FoundDerivation>> =
        session.each(ui, |ev, value, arguments| Ok(ev.derivations(value, arguments)?))?;
    for (index, one) in found.iter().flatten().enumerate() {
        let mut shown = one.drv_path.clone();
        if !is_readonly {
            let store = session.world.store()?;
            let drv = store.dir().parse(&one.drv_path).map_err(|e| CliError::failed(e.to_string()))?;
            session.world.write_texts(std::slice::from_ref(&drv))?;
            if let Some(root) = &args.add_root {
                // The second is called `root-2`.
                let number = if index == 0 { String::new() } else { format!("-{}", index + 1) };
                let link = std::path::absolute(format!("{}{number}", root.display()))
                    .while_doing(|| "cannot tell the working directory".to_owned())?;
                store.add_link_root(&link, &drv)?;
                shown = link.display().to_string();
            }
        }
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
            ui.print(format!("{shown}{suffix}"))?;
        }
    }
    Ok(ExitStatus::Success)
}
