//! `ampoule diff`: what changed between two results, images or derivations.

use ampoule_image::plan::PLAN_FILE;
use ampoule_realise::DerivationSource;
use ampoule_store::{Store, StorePath};

use crate::args::GlobalArgs;
use crate::compare::{self, Change};
use crate::error::{CliError, ExitStatus};
use crate::target::{Looking, Target, TargetArgs};
use crate::ui::Ui;

/// Show what changed between two results, images or derivations
///
/// Images are compared by package, file and setting; objects by the packages of what they need, and by their own files;
/// derivations by what they run and on what.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule diff old-result result              two results of `ampoule realise`
  ampoule diff result docker://registry.example/app:v1
  ampoule diff --drv old.img new.img          how they are built")]
pub struct Args {
    /// A file, a result, a store path, or an image
    before: String,

    /// What to compare it with
    after: String,

    #[command(flatten)]
    how: TargetArgs,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let mut looking = Looking::new(global, ui)?;
    let (before, after) = (looking.find(&args.before, &args.how)?, looking.find(&args.after, &args.how)?);
    match (&before, &after) {
        (Target::Derivation(before), Target::Derivation(after)) => derivations(&looking, before, after, ui)?,
        (Target::Object(a), Target::Object(b)) if !is_image(&looking, a) && !is_image(&looking, b) => {
            objects(looking.store(), a, b, ui)?;
        }
        (Target::Derivation(_), _) | (_, Target::Derivation(_)) => {
            return Err(CliError::usage(format!(
                "`{}` and `{}` are not of one kind",
                args.before, args.after
            ))
            .hint("compare two derivations, or two results"));
        }
        _ => {
            let name = |target: &Target| match target {
                Target::Image(name) => name.clone(),
                Target::Object(path) | Target::Derivation(path) => {
                    looking.store().real_path(path).to_string_lossy().into_owned()
                }
            };
            super::image::print_diff(&looking.images, &name(&before), &name(&after), ui)?;
        }
    }
    Ok(ExitStatus::Success)
}

fn is_image(looking: &Looking<'_>, path: &StorePath) -> bool {
    looking.store().real_path(path).join(PLAN_FILE).is_file()
}

fn derivations(
    looking: &Looking<'_>,
    before: &StorePath,
    after: &StorePath,
    ui: &Ui,
) -> Result<(), CliError> {
    let store = looking.store();
    let (old, new) = (looking.derivation(before)?, looking.derivation(after)?);
    let diff = compare::derivations(looking, store.dir(), &old, &new)?;
    if ui.json() {
        let inputs: Vec<_> = diff
            .inputs
            .iter()
            .map(
                |(a, b)| serde_json::json!({ "before": store.dir().print(a), "after": store.dir().print(b) }),
            )
            .collect();
        return ui.print_json(&serde_json::json!({ "changes": diff.changes, "inputs": inputs }));
    }
    if diff.changes.is_empty() && diff.inputs.is_empty() {
        return ui.print("both give the same outputs");
    }
    print_changes(&diff.changes, "", ui)?;
    for (before, after) in &diff.inputs {
        ui.print(format!("input    {} -> {}", store.dir().print(before), store.dir().print(after)))?;
    }
    if !diff.inputs.is_empty() {
        ui.note("`ampoule why --rebuilt` goes into the inputs");
    }
    Ok(())
}

/// Prints what differs between derivations, one line for each.
///
/// # Errors
/// As [`Ui::print`].
pub fn print_changes(changes: &[Change], indent: &str, ui: &Ui) -> Result<(), CliError> {
    for change in changes {
        let name = if change.name.is_empty() { String::new() } else { format!(" {}", change.name) };
        let words = match (&change.before, &change.after) {
            (Some(before), Some(after)) => {
                let (before, after) = compare::excerpts(before, after);
                format!("{before} -> {after}")
            }
            (None, Some(after)) => format!("new: {}", compare::excerpts(after, "").0),
            (Some(before), None) => format!("gone: {}", compare::excerpts(before, "").0),
            (None, None) => continue,
        };
        ui.print(format!("{indent}{:<8}{name}  {words}", change.what))?;
    }
    Ok(())
}

fn objects(store: &Store, before: &StorePath, after: &StorePath, ui: &Ui) -> Result<(), CliError> {
    let packages = compare::closures(store, before, after)?;
    let files = compare::trees(&store.real_path(before), &store.real_path(after))?;
    if ui.json() {
        return ui.print_json(&serde_json::json!({ "packages": packages, "files": files }));
    }
    if packages.is_empty() && files.is_empty() {
        return ui.print("the same");
    }
    let versions = |all: &[String]| match all {
        [] => "-".to_owned(),
        all => all.iter().map(|v| if v.is_empty() { "present" } else { v }).collect::<Vec<_>>().join(", "),
    };
    for change in &packages {
        let (old, new) = (versions(&change.before), versions(&change.after));
        let versions = if old == new { "other contents".to_owned() } else { format!("{old} -> {new}") };
        ui.print(format!("package  {} {versions} ({:+} bytes)", change.name, change.grown_bytes))?;
    }
    for file in &files {
        let sizes = match (file.before_bytes, file.after_bytes) {
            (Some(old), Some(new)) if old != new => format!("  {old} -> {new} bytes"),
            _ => String::new(),
        };
        ui.print(format!("file     {} /{}{sizes}", file.change, file.path))?;
    }
    Ok(())
}
