//! `ampoule doc`: what a function does, and which function does it.

use ampoule_eval::{Evaluator, Value, View};
use ampoule_lang::Symbol;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::manual::{self, Entry};
use crate::realising::BuildArgs;
use crate::session::{ExpressionArgs, Session};
use crate::ui::Ui;
use crate::world::Keeps;

/// Print what a builtin, a function of the library or a package is, or search for one
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule doc lib.lists.foldl         a function of the library
  ampoule doc map                     a builtin
  ampoule doc nginx                   a package: version, licence, home page
  ampoule doc --search sort list      everything that speaks of both words")]
pub struct Args {
    /// A name, or words to look for [default: list everything]
    #[arg(add = crate::candidates::functions())]
    words: Vec<String>,

    /// Look for words, even if there is something of that name
    #[arg(short, long)]
    search: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    if let ([name], false) = (args.words.as_slice(), args.search) {
        if let Some(entry) = manual::find(name) {
            if ui.json() {
                ui.print_json(entry)?;
            } else {
                ui.print(entry.page())?;
            }
            return Ok(ExitStatus::Success);
        }
        if let Some(package) = package(name, global, ui)? {
            if ui.json() {
                ui.print_json(&package)?;
            } else {
                print_package(name, &package, ui)?;
            }
            return Ok(ExitStatus::Success);
        }
    }
    let found = manual::search(&args.words);
    if found.is_empty() {
        let words = args.words.join(" ");
        let error = CliError::failed(format!("nothing is written about `{words}`"));
        return Err(match manual::near(&words) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`ampoule doc` lists everything"),
        });
    }
    if ui.json() {
        ui.print_json(&found)?;
        return Ok(ExitStatus::Success);
    }
    let width = found.iter().map(|entry| entry.name.len()).max().unwrap_or(0).min(32);
    for entry in found {
        ui.print(format!("{:<width$}  {}", entry.name, entry.summary()))?;
    }
    Ok(ExitStatus::Success)
}

/// What a package of the library or of the project's lock says about itself; nothing if there is none.
fn package(name: &str, global: &GlobalArgs, ui: &Ui) -> Result<Option<serde_json::Value>, CliError> {
    let plain = name.split('.').all(|part| ampoule_eval::is_identifier(part.as_bytes()));
    if !plain {
        return Ok(None);
    }
    // The set that a function of named arguments is called with: the project's lock file comes first.
    let text = format!("{{ std }}: std.{name} or null");
    let expression = ExpressionArgs { expressions: vec![text], ..ExpressionArgs::default() };
    let config = global.config()?;
    let session = Session::new(&expression, &config, Keeps::Values, BuildArgs::default().options(&config)?)?;
    let mut found = session.each(ui, |ev, value, _| Ok(described(ev, value)?))?;
    Ok(found.pop().flatten())
}

/// What a package says about itself; nothing if the value is none.
///
/// # Errors
/// If that cannot be computed.
pub fn described(ev: &mut Evaluator, value: Value) -> ampoule_eval::EvalResult<Option<serde_json::Value>> {
    let View::Attrs(attrs) = value.view() else { return Ok(None) };
    if !ev.is_derivation(attrs)? {
        return Ok(None);
    }
    let mut out = serde_json::Map::new();
    for name in ["name", "pname", "version", "system", "drvPath", "meta"] {
        let Some(value) = ev.force_attr(attrs, Symbol::intern(name))? else { continue };
        let mut text = Vec::new();
        let mut context = ampoule_eval::ContextId::EMPTY;
        ev.write_json(value, false, &mut text, &mut context)?;
        if let Ok(value) = serde_json::from_slice(&text) {
            out.insert(name.to_owned(), value);
        }
    }
    Ok(Some(out.into()))
}

/// Prints it.
///
/// # Errors
/// Those of writing.
pub fn print_package(name: &str, package: &serde_json::Value, ui: &Ui) -> Result<(), CliError> {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(values) => values
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" "),
        // A licence is a set with a name of its own.
        serde_json::Value::Object(set) => ["spdxId", "fullName", "shortName"]
            .iter()
            .find_map(|key| set.get(*key)?.as_str())
            .map_or_else(|| value.to_string(), str::to_owned),
        other => other.to_string(),
    };
    let mut entry = Entry { name: name.to_owned(), ..Entry::default() };
    let meta = package.get("meta").and_then(|meta| meta.as_object());
    entry.text = meta.and_then(|meta| meta.get("description")).map(text).unwrap_or_default();
    ui.print(entry.page().trim_end())?;
    ui.print("")?;
    let line = |key: &str, value: &serde_json::Value| ui.print(format!("  {key:<12} {}", text(value)));
    for key in ["name", "version", "system", "drvPath"] {
        package.get(key).map_or(Ok(()), |value| line(key, value))?;
    }
    for (key, value) in meta.into_iter().flatten().filter(|(key, _)| *key != "description") {
        line(key, value)?;
    }
    Ok(())
}
