//! `ampoule store sign`: vouch for objects.

use std::path::PathBuf;

use ampoule_store::{SecretKey, Tier};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Sign objects
#[derive(clap::Args)]
pub struct Args {
    /// The file of the secret key
    #[arg(short, long, value_name = "FILE")]
    key_file: PathBuf,
    /// Everything that they refer to, too
    #[arg(short, long)]
    recursive: bool,
    /// Store paths, or links to them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    let key = SecretKey::read(&args.key_file)?;
    let mut paths: std::collections::BTreeSet<_> =
        super::parse_paths(&store, &args.paths)?.into_iter().collect();
    if args.recursive {
        paths = store.closure_of(paths)?;
    }
    for path in &paths {
        let info = store.expect_info(path)?;
        if info.tier == Some(Tier::None) {
            let path = store.dir().print(path);
            return Err(CliError::failed(format!(
                "`{path}` was built without a sandbox, and such objects are not signed"
            )));
        }
        store.add_signatures(path, [key.sign(store.dir(), &info)])?;
    }
    if ui.json() {
        super::print_paths(&store, &paths, ui)?;
    }
    ui.note(&format!("{} objects signed by `{}`", paths.len(), key.name()));
    Ok(ExitStatus::Success)
}
