//! `ampoule why`: what keeps something in a result, and what made a result be built again.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};

use ampoule_image::plan::{PLAN_FILE, Plan};
use ampoule_image::why_package::{self, WhyPackage};
use ampoule_realise::DerivationSource;
use ampoule_store::{ReferenceScanner, Store, StorePath};

use crate::args::GlobalArgs;
use crate::commands::diff::print_changes;
use crate::compare;
use crate::error::{CliError, ExitStatus};
use crate::images::Images;
use crate::target::{Looking, Target, TargetArgs};
use crate::ui::Ui;

/// Say what keeps a file or an object in a result, or why a result is built again
///
/// Of an object: a shortest chain of references, each with a file that holds it. Of an image: the layer, package and
/// object that bring a file, or the packages and files that need a package. With --drv: a chain of inputs from one
/// derivation to another.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule why result /usr/sbin/nginx           which package brings this file into the image
  ampoule why result zlib1g                    which packages and files need this package
  ampoule why result openssl                   what needs the object of that name
  ampoule why --drv hello.img gcc              how gcc comes into the build
  ampoule why --rebuilt old.img new.img        which inputs make the second another build

It ends with 1 if nothing keeps it, or if nothing differs.")]
pub struct Args {
    /// A file, a result, a store path, or an image
    target: String,

    /// A file of it, a package, a store path, or the beginning of an object's name; with --rebuilt, what to compare with
    what: String,

    /// Compare two derivations: what differs in their inputs, at the ends of the ways to them
    #[arg(long)]
    rebuilt: bool,

    #[command(flatten)]
    how: TargetArgs,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let mut looking = Looking::new(global, ui)?;
    if args.rebuilt {
        return rebuilt(args, &mut looking, ui);
    }
    match looking.find(&args.target, &args.how)? {
        Target::Image(image) => {
            super::image::print_why(&looking.images, &image, &args.what, ui)?;
            Ok(ExitStatus::Success)
        }
        Target::Derivation(drv) => along_inputs(looking.store(), &looking, &drv, &args.what, ui),
        Target::Object(path) => of_object(&looking.images, looking.store(), &path, &args.what, ui),
    }
}

/// Says what keeps `what` in an object: of an image, the layer and the package that bring a file, or what needs a
/// package.
///
/// # Errors
/// Those of [`along_references`], and of reading the image.
pub fn of_object(
    images: &Images,
    store: &Store,
    path: &StorePath,
    what: &str,
    ui: &Ui,
) -> Result<ExitStatus, CliError> {
    let real = store.real_path(path);
    if store.dir().contains(what) || !real.join(PLAN_FILE).is_file() {
        return along_references(store, path, what, ui);
    }
    let image = real.to_string_lossy();
    if what.contains('/') {
        super::image::print_why(images, &image, what, ui)?;
        return Ok(ExitStatus::Success);
    }
    let plan = Plan::read(&real).map_err(|error| crate::images::cli_error(&error))?;
    let projector = images.projector(&real, None);
    let failed = |error| crate::images::cli_error(&error);
    let packages = why_package::why_package(&projector, &plan, what).map_err(failed)?;
    if !packages.is_empty() {
        print_packages(&packages, ui)?;
        return Ok(ExitStatus::Success);
    }
    if named(store, path, what)?.is_some() {
        return along_references(store, path, what, ui);
    }
    let files = why_package::paths_named(&projector, &plan, what).map_err(failed)?;
    if let Some(first) = files.first() {
        super::image::print_why(images, &image, first, ui)?;
        let others = files.iter().skip(1).take(4).map(String::as_str).collect::<Vec<_>>();
        if !others.is_empty() {
            ui.note(&format!("{} files have this name: also {}", files.len(), others.join(", ")));
        }
        return Ok(ExitStatus::Success);
    }
    let known = why_package::package_names(&projector, &plan).map_err(failed)?;
    let near: Vec<&str> =
        known.iter().map(String::as_str).filter(|name| name.contains(what)).take(5).collect();
    let status = along_references(store, path, what, ui)?;
    if !near.is_empty() {
        ui.note(&format!("packages of it with such a name: {}", near.join(", ")));
    }
    Ok(status)
}

fn print_packages(packages: &[WhyPackage], ui: &Ui) -> Result<(), CliError> {
    if ui.json() {
        return ui.print_json(&packages);
    }
    for one in packages {
        ui.print(format!("{} {} ({})", one.package, one.version, one.platform))?;
        match one.chain.as_slice() {
            [_] => ui.print("  no other package depends on it")?,
            chain => ui.print(format!("  depends  {}", chain.join(" -> ")))?,
        }
        for user in &one.users {
            ui.print(format!("  used by  {}: {}", user.file, user.needs.join(", ")))?;
        }
        match (one.users.len(), one.more_users) {
            (0, _) => {
                ui.print("  no file of another package is linked with it or names it as interpreter")?
            }
            (_, 0) => {}
            (_, more) => ui.print(format!("  and {more} more files"))?,
        }
    }
    Ok(())
}

/// The object of a closure whose name is `what`, or else begins with it.
fn named(store: &Store, from: &StorePath, what: &str) -> Result<Option<StorePath>, CliError> {
    let closure = store.closure_of([from.clone()])?;
    let is = |path: &&StorePath| path.name() == what;
    let begins = |path: &&StorePath| path.name().starts_with(what);
    Ok(closure.iter().find(is).or_else(|| closure.iter().find(begins)).cloned())
}

/// Shows a shortest chain of references from an object to what `what` means.
///
/// # Errors
/// Those of reading the store, and if `what` is no path.
pub fn along_references(
    store: &Store,
    from: &StorePath,
    what: &str,
    ui: &Ui,
) -> Result<ExitStatus, CliError> {
    let closure = store.closure_of([from.clone()])?;
    let to = match store.parse_any(what) {
        Ok(to) => Some(to),
        Err(_) if what.contains('/') => {
            let below = what.trim_start_matches('/');
            closure.iter().find(|path| store.real_path(path).join(below).symlink_metadata().is_ok()).cloned()
        }
        Err(_) => named(store, from, what)?,
    };
    let way = match &to {
        Some(to) => store.why(from, to)?,
        None => None,
    };
    let Some(way) = way else {
        if ui.json() {
            ui.print_json(&serde_json::Value::Null)?;
        }
        ui.note(&format!("`{}` does not need `{what}`", store.dir().print(from)));
        return Ok(ExitStatus::Evaluation);
    };
    let mut steps = Vec::new();
    for (index, path) in way.iter().enumerate() {
        let held =
            index.checked_sub(1).map(|before| holder(store, &way[before], path)).transpose()?.flatten();
        steps.push((store.dir().print(path), held));
    }
    if ui.json() {
        let steps: Vec<_> =
            steps.iter().map(|(path, held)| serde_json::json!({ "path": path, "heldBy": held })).collect();
        ui.print_json(&steps)?;
        return Ok(ExitStatus::Success);
    }
    for (depth, (path, held)) in steps.iter().enumerate() {
        let turn = if depth == 0 { String::new() } else { format!("{}└─ ", "   ".repeat(depth - 1)) };
        let held = held.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default();
        ui.print(format!("{turn}{held}{path}"))?;
    }
    Ok(ExitStatus::Success)
}

/// The first file of `from` that names `to`, below its top.
fn holder(store: &Store, from: &StorePath, to: &StorePath) -> Result<Option<PathBuf>, CliError> {
    let top = store.real_path(from);
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let path = if below.as_os_str().is_empty() { top.clone() } else { top.join(&below) };
        let Ok(data) = path.symlink_metadata() else { continue };
        if data.is_dir() {
            let Ok(entries) = std::fs::read_dir(&path) else { continue };
            let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
            names.sort();
            todo.extend(names.into_iter().rev().map(|name| below.join(name)));
        } else if names_object(&path, data.is_symlink(), to) && !below.as_os_str().is_empty() {
            return Ok(Some(below));
        }
    }
    Ok(None)
}

fn names_object(path: &Path, is_link: bool, to: &StorePath) -> bool {
    let mut scanner = ReferenceScanner::new([to.clone()]);
    if is_link {
        let Ok(target) = std::fs::read_link(path) else { return false };
        scanner.update(target.as_os_str().as_encoded_bytes());
        return !scanner.finish().is_empty();
    }
    let Ok(mut file) = std::fs::File::open(path) else { return false };
    let mut piece = vec![0; 1 << 16];
    while let Ok(len) = file.read(&mut piece) {
        if len == 0 {
            break;
        }
        scanner.update(&piece[..len]);
    }
    !scanner.finish().is_empty()
}

/// Shows a shortest chain of inputs from a derivation to the derivation or source that `what` means.
///
/// # Errors
/// If a derivation cannot be read.
pub fn along_inputs(
    store: &Store,
    source: &dyn DerivationSource,
    from: &StorePath,
    what: &str,
    ui: &Ui,
) -> Result<ExitStatus, CliError> {
    let wanted = store.parse_any(what).ok();
    let is_meant = |path: &StorePath| match &wanted {
        Some(wanted) => path == wanted,
        None => path.name().starts_with(what),
    };
    let mut came_from: HashMap<StorePath, Option<StorePath>> = HashMap::from([(from.clone(), None)]);
    let mut todo = VecDeque::from([from.clone()]);
    while let Some(at) = todo.pop_front() {
        if at != *from && is_meant(&at) {
            let mut way = vec![store.dir().print(&at)];
            let mut step = &at;
            while let Some(Some(before)) = came_from.get(step) {
                way.push(store.dir().print(before));
                step = before;
            }
            way.reverse();
            if ui.json() {
                ui.print_json(&way)?;
            } else {
                for (depth, path) in way.iter().enumerate() {
                    let turn = if depth == 0 {
                        String::new()
                    } else {
                        format!("{}└─ ", "   ".repeat(depth - 1))
                    };
                    ui.print(format!("{turn}{path}"))?;
                }
            }
            return Ok(ExitStatus::Success);
        }
        if !at.is_derivation() {
            continue;
        }
        let derivation = source.derivation(&at)?;
        for next in derivation.input_derivations.keys().chain(&derivation.input_sources) {
            if !came_from.contains_key(next) {
                came_from.insert(next.clone(), Some(at.clone()));
                todo.push_back(next.clone());
            }
        }
    }
    if ui.json() {
        ui.print_json(&serde_json::Value::Null)?;
    }
    ui.note(&format!("`{}` is built without `{what}`", store.dir().print(from)));
    Ok(ExitStatus::Evaluation)
}

/// Says what differs between two derivations, at the ends of the ways to it.
fn rebuilt(args: &Args, looking: &mut Looking<'_>, ui: &Ui) -> Result<ExitStatus, CliError> {
    let how = TargetArgs { drv: true, attribute: args.how.attribute.clone() };
    let mut find = |text: &str| match looking.find(text, &how)? {
        Target::Derivation(drv) => Ok(drv),
        _ => Err(CliError::usage(format!("nothing is known of what made `{text}`"))
            .hint("name files, derivations, or results that were built here")),
    };
    let (before, after) = (find(&args.target)?, find(&args.what)?);
    let causes = compare::causes(looking, looking.store().dir(), &before, &after)?;
    if ui.json() {
        ui.print_json(&causes)?;
    } else {
        for cause in &causes {
            ui.print(cause.way.join(" <- "))?;
            print_changes(&cause.changes, "  ", ui)?;
        }
    }
    if causes.is_empty() {
        ui.note("nothing differs: both give the same outputs");
        return Ok(ExitStatus::Evaluation);
    }
    Ok(ExitStatus::Success)
}
