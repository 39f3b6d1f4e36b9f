//! `ampoule eval`: an expression's value.

use ampoule_eval::{Coercion, ContextId, Evaluator};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::realising::BuildArgs;
use crate::session::{ExpressionArgs, Session};
use crate::ui::Ui;
use crate::world::Keeps;

/// Evaluate an expression and print its value
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule eval -E '1 + 1'                       2
  ampoule eval file.img -A attribute.path       one attribute of a file
  ampoule eval --json --strict file.img         all of it, as JSON
  echo '{ a = 1; }' | ampoule eval -            standard input")]
pub struct Args {
    #[command(flatten)]
    expression: ExpressionArgs,

    /// Compute everything inside lists and sets before printing
    #[arg(long)]
    strict: bool,

    /// Print a string without quotes
    #[arg(long, conflicts_with = "xml")]
    raw: bool,

    /// Print as XML
    #[arg(long, conflicts_with = "raw")]
    xml: bool,

    /// Leave source positions out of the XML
    #[arg(long)]
    no_location: bool,

    /// Say afterwards what the evaluation took
    #[arg(long)]
    show_stats: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let options = BuildArgs::default().options(&config)?;
    let mut session = Session::new(&args.expression, &config, Keeps::Values, options)?;
    session.settings.shows_unforced = !args.strict && !args.raw && !ui.json();
    session.each(ui, |ev, value, _| {
        if args.raw {
            let text = ev.coerce_to_string(value, Coercion::INTERPOLATION)?;
            ui.print_raw(text.as_str().expect("coercing to a string gives one").as_bytes())?;
        } else if args.xml {
            let (text, _) = ev.to_xml(value, args.strict, !args.no_location)?;
            ui.print_raw(&text)?;
        } else if ui.json() {
            // As in Nix, paths are printed as they are, where `toJSON` would copy them to the store.
            let mut text = Vec::new();
            let mut context = ContextId::EMPTY;
            ev.write_json(value, false, &mut text, &mut context)?;
            ui.print(&text)?;
        } else {
            if args.strict {
                ev.force_deep(value)?;
            }
            ui.print(ev.print(value)?)?;
        }
        if args.show_stats {
            ui.note(&stats(ev));
        }
        Ok(())
    })?;
    Ok(ExitStatus::Success)
}

fn stats(ev: &Evaluator) -> String {
    let stats = ev.stats();
    serde_json::json!({
        "calls": stats.calls, "builtinCalls": stats.builtin_calls, "files": stats.files,
    })
    .to_string()
}
