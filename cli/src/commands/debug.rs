//! `ampoule debug`: a shell in a build's sandbox.

use ampoule_realise::Realiser;

use crate::args::GlobalArgs;
use crate::commands::log::derivation_of;
use crate::error::{CliError, ExitStatus};
use crate::realising::{BuildArgs, builders};
use crate::signals::Stop;
use crate::ui::Ui;

/// Open a shell in the sandbox that a build gets
///
/// Of a build of `stdenv` the set-up has run and its phases are functions: `genericBuild`, `runPhase buildPhase`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule debug /nix/store/…-hello.drv           inputs, environment and walls as in the build
  ampoule debug …-hello.drv -- env               run one command there
  ampoule debug --sandbox-path /bin/sh=/bin/busybox …-hello.drv
                                                 bring a (static) shell where the build has none")]
pub struct Args {
    /// A derivation, an output, or a link to one
    path: String,

    /// What to run [default: the builder if it is a shell, or /bin/sh]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,

    #[command(flatten)]
    build: BuildArgs,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let options = args.build.options(&config)?;
    let store = crate::store::open_for(global)?;
    let drv = derivation_of(&store, crate::images::object_named(&store, &args.path)?)?;
    let stop = Stop::watch()?;
    let events = crate::progress::sink(ui, &config);
    let substituters = crate::store::substituters(&config, options.offline, &stop.cancel)?;
    let realiser = Realiser {
        store: &store,
        source: &store,
        builders: &builders(&config, &store, options.offline),
        substituters: Some(&substituters),
        options: &options,
        events: &events,
        cancel: stop.cancel.clone(),
    };
    let status =
        realiser.debug(&drv, &args.command).map_err(|error| crate::realising::realise_error(&error))?;
    drop(events);
    if status == 0 {
        return Ok(ExitStatus::Success);
    }
    // The status is that of what ran inside, whatever our own codes mean.
    drop(store);
    std::process::exit(status)
}
