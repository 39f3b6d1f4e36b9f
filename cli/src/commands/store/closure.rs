//! `ampoule store closure`: everything that objects refer to.

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// List everything that objects refer to, directly or not
#[derive(clap::Args)]
pub struct Args {
    /// Store paths, or links to them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// What refers to them instead, directly
    #[arg(long)]
    referrers: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    let paths = super::parse_paths(&store, &args.paths)?;
    let found = if args.referrers {
        let mut found = std::collections::BTreeSet::new();
        for path in &paths {
            store.expect_info(path)?;
            found.extend(store.referrers(path)?);
        }
        found
    } else {
        store.closure_of(paths)?
    };
    super::print_paths(&store, &found, ui)?;
    Ok(ExitStatus::Success)
}
