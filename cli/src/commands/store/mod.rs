//! `ampoule store …`: what lies in the store, and what to do with it.

mod add;
mod closure;
mod delete;
mod du;
mod export;
mod gc;
mod import;
mod key;
mod optimise;
mod path_info;
mod root;
mod roots;
mod sign;
mod verify;
mod why;

use ampoule_store::{ObjectInfo, Store, StorePath};
use clap::Subcommand;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Look at the store, add to it, and clean it
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Add(add::Args),
    PathInfo(path_info::Args),
    Closure(closure::Args),
    Why(why::Args),
    Du(du::Args),
    Gc(gc::Args),
    Delete(delete::Args),
    Roots(roots::Args),
    Root(root::Args),
    Verify(verify::Args),
    Optimise(optimise::Args),
    Export(export::Args),
    Import(import::Args),
    Sign(sign::Args),
    Key(key::Args),
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    match &args.action {
        Action::Add(args) => add::run(args, global, ui),
        Action::PathInfo(args) => path_info::run(args, global, ui),
        Action::Closure(args) => closure::run(args, global, ui),
        Action::Why(args) => why::run(args, global, ui),
        Action::Du(args) => du::run(args, global, ui),
        Action::Gc(args) => gc::run(args, global, ui),
        Action::Delete(args) => delete::run(args, global, ui),
        Action::Roots(args) => roots::run(args, global, ui),
        Action::Root(args) => root::run(args, global, ui),
        Action::Verify(args) => verify::run(args, global, ui),
        Action::Optimise(args) => optimise::run(args, global, ui),
        Action::Export(args) => export::run(args, global, ui),
        Action::Import(args) => import::run(args, global, ui),
        Action::Sign(args) => sign::run(args, global, ui),
        Action::Key(args) => key::run(args, global, ui),
    }
}

/// Takes store paths, physical paths, base names, and links such as `result`.
///
/// # Errors
/// If one is none of these.
pub fn parse_paths(store: &Store, texts: &[String]) -> Result<Vec<StorePath>, CliError> {
    texts.iter().map(|text| crate::images::object_named(store, text)).collect()
}

/// What is known about an object, with the field names of `nix path-info --json`.
pub fn info_json(store: &Store, info: &ObjectInfo) -> serde_json::Value {
    let print = |path: &StorePath| store.dir().print(path);
    serde_json::json!({
        "path": print(&info.path),
        "narHash": info.nar_hash.to_sri(),
        "narSize": info.nar_size_bytes,
        "references": info.references.iter().map(print).collect::<Vec<_>>(),
        "deriver": info.deriver.as_ref().map(print),
        "ca": info.address.as_ref().map(ToString::to_string),
        "signatures": info.signatures,
        "sandbox": info.tier.map(|tier| tier.name()),
        "registrationTime": info.registered_s,
        "realPath": store.real_path(&info.path),
    })
}

/// Prints paths, one a line, or as a JSON array.
fn print_paths<'a>(
    store: &Store,
    paths: impl IntoIterator<Item = &'a StorePath>,
    ui: &Ui,
) -> Result<(), CliError> {
    let paths: Vec<_> = paths.into_iter().map(|path| store.dir().print(path)).collect();
    if ui.json() {
        return ui.print_json(&paths);
    }
    paths.iter().try_for_each(|path| ui.print(path))
}
