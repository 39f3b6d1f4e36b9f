//! `ampoule eval`: an expression's value.

use std::path::Path;

use ampoule_eval::{Coercion, EvalResult, Evaluator, Str, Value};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::session::{ExpressionArgs, Session};
use crate::ui::Ui;

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
    #[arg(long, conflicts_with_all = ["xml", "strict"])]
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
    let session = Session::new(&args.expression, &config, false, None)?;
    session.each(ui, |ev, value, _| {
        if args.raw {
            let text = ev.coerce_to_string(value, Coercion::PLAIN)?;
            ui.print_raw(text.as_str().expect("coercing to a string gives one").as_bytes())?;
        } else if args.xml {
            ui.print_raw(through(ev, "toXML", value)?.as_bytes())?;
        } else if ui.json() {
            ui.print(through(ev, "toJSON", value)?.as_bytes())?;
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

/// The text that a builtin makes of a value.
fn through(ev: &mut Evaluator, builtin: &str, value: Value) -> EvalResult<Str> {
    let function = ev.eval_text("«ampoule»", Path::new("/"), format!("builtins.{builtin}").as_bytes())?;
    let text = ev.call(function, &[value])?;
    ev.force_string(text)
}

fn stats(ev: &Evaluator) -> String {
    let stats = ev.stats();
    serde_json::json!({
        "calls": stats.calls, "builtinCalls": stats.builtin_calls, "files": stats.files,
    })
    .to_string()
}
