//! `ampoule eval`: an expression's value.

use ampoule_eval::{Coercion, Evaluator, NamedArguments, Value};

use super::modes::{self, ModeArgs};
use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::realising::BuildArgs;
use crate::session::{ExpressionArgs, Part, Problem, Session};
use crate::signals::Stop;
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

    #[command(flatten)]
    modes: ModeArgs,

    /// Write derivations, and copy sources, to the store, as `instantiate` does
    #[arg(long)]
    read_write_mode: bool,

    #[command(flatten)]
    printing: PrintingArgs,
}

/// How values are printed.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct PrintingArgs {
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
    let expression = modes::as_in_nix(&args.expression);
    if let Some(done) = args.modes.instead(&expression, global, ui) {
        return done;
    }
    let keeps = keeps(args.read_write_mode, &args.modes, &expression, global)?;
    evaluate(&expression, &args.printing, keeps, global, ui)
}

/// What an evaluation that prints values leaves behind.
///
/// # Errors
/// If a configuration cannot be read.
pub fn keeps(
    read_write: bool,
    modes: &ModeArgs,
    expression: &ExpressionArgs,
    global: &GlobalArgs,
) -> Result<Keeps, CliError> {
    // What is read may have to be built first.
    let may_build =
        expression.allow_import_from_derivation || global.config()?.bool("eval.import-from-derivation");
    let writes = (read_write || may_build) && !modes.is_readonly(expression);
    Ok(if writes { Keeps::Sources } else { Keeps::Values })
}

/// Evaluates and prints.
pub fn evaluate(
    expression: &ExpressionArgs,
    args: &PrintingArgs,
    keeps: Keeps,
    global: &GlobalArgs,
    ui: &Ui,
) -> Result<ExitStatus, CliError> {
    if ui.json() && (args.xml || args.raw) {
        let other = if args.xml { "--xml" } else { "--raw" };
        return Err(CliError::usage(format!("`--json` and `{other}` exclude each other")));
    }
    let config = global.config()?;
    let options = BuildArgs::default().options(&config)?;
    let mut session = Session::new(expression, &config, keeps, options)?;
    let _stop = Stop::watch_for(&session.settings.interrupt)?;
    session.settings.shows_unforced = !args.strict && !args.raw && !ui.json();
    session.settings.shows_sameness = !args.raw && !args.xml && !ui.json();
    session.shows_functions = true;
    if args.show_stats {
        // What an evaluation took is told of one.
        session.jobs = 1;
    }
    // More parts than threads, so that none waits long for the others.
    let parts = match expression.eval_jobs {
        Some(jobs) if ui.json() => 16 * jobs.get(),
        _ => 1,
    };
    let each = |ev: &mut Evaluator, value, _: &NamedArguments, part: Part| {
        let text = args.render(ev, value, ui.json(), part)?;
        Ok((text, args.show_stats.then(|| stats(ev))))
    };
    session.each_in_order(ui, parts, &each, &mut |(text, stats)| {
        ui.print_raw(&text)?;
        stats.iter().for_each(|stats| ui.figures("stats", stats));
        Ok(())
    })?;
    if keeps == Keeps::Sources {
        session.world.write_all_texts()?;
    }
    Ok(ExitStatus::Success)
}

impl PrintingArgs {
    /// What is printed of a value.
    fn render(&self, ev: &mut Evaluator, value: Value, json: bool, part: Part) -> Result<Vec<u8>, Problem> {
        let mut text = Vec::new();
        if self.raw {
            let raw = ev.coerce_to_string(value, Coercion::INTERPOLATION)?;
            text.extend_from_slice(raw.as_str().expect("coercing to a string gives one").as_bytes());
            return Ok(text);
        }
        if self.xml {
            return Ok(ev.to_xml(value, self.strict, !self.no_location)?.0);
        }
        if json {
            ev.write_json_part(value, part.index, part.of, &mut text)?;
        } else {
            if self.strict {
                ev.force_deep(value)?;
            }
            let printed = ev.print_bytes(value)?;
            if printed.repeats_list && !ev.settings().shows_unforced {
                return Err(Problem::TooEarly);
            }
            text = printed.text;
        }
        if part.index + 1 == part.of {
            text.push(b'\n');
        }
        Ok(text)
    }
}

fn stats(ev: &Evaluator) -> serde_json::Value {
    let stats = ev.stats();
    serde_json::json!({
        "calls": stats.calls, "builtinCalls": stats.builtin_calls, "files": stats.files,
    })
}
