//! The commands, one file each.

mod completions;
mod config;
mod copy;
mod debug;
mod diff;
mod doc;
mod eval;
mod explain;
mod fmt;
mod image;
mod init;
mod instantiate;
mod lock;
mod log;
mod man;
mod modes;
mod parse;
mod realise;
mod repl;
mod store;
mod tree;
mod why;

use clap::Subcommand;

use crate::args::Cli;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Every command. The order is that of `--help`.
#[derive(Subcommand)]
pub enum Command {
    Realise(realise::Args),
    Eval(eval::Args),
    Instantiate(instantiate::Args),
    Repl(repl::Args),
    Doc(doc::Args),
    Init(init::Args),
    Image(image::Args),
    Lock(lock::Args),
    Log(log::Args),
    Debug(debug::Args),
    Why(why::Args),
    Tree(tree::Args),
    Diff(diff::Args),
    Store(Box<store::Args>),
    Copy(copy::Args),
    Parse(parse::Args),
    Fmt(fmt::Args),
    Explain(explain::Args),
    Config(config::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Starts the threads that indexes, layers and objects are worked on with. They would start by themselves, and end in
/// a panic where a limit of processes forbids them: there, this one does the work alone.
fn start_workers() -> Result<(), CliError> {
    let builder = rayon::ThreadPoolBuilder::new;
    // The global ones can be started once only, with success or not: others show whether they will.
    let pool = match builder().build() {
        Ok(_) => builder(),
        Err(_) => builder().num_threads(1).use_current_thread(),
    };
    let started = pool.build_global();
    started.map_err(|error| CliError::failed(format!("cannot start a thread to work on: {error}")))
}

/// Runs the command; an error comes back with the `Ui` to print it.
pub fn run(args: Cli, ui: Ui) -> Result<ExitStatus, (Ui, CliError)> {
    let global = args.global;
    if matches!(args.command, Command::Image(_) | Command::Lock(_) | Command::Store(_))
        && let Err(error) = start_workers()
    {
        return Err((ui, error));
    }
    let result = match args.command {
        Command::Image(args) => image::run(&args, &global, &ui),
        Command::Lock(args) => lock::run(&args, &global, &ui),
        Command::Realise(args) => realise::run(&args, &global, &ui),
        Command::Instantiate(args) => instantiate::run(&args, &global, &ui),
        Command::Eval(args) => eval::run(&args, &global, &ui),
        Command::Parse(args) => parse::run(&args, &global, &ui),
        Command::Fmt(args) => fmt::run(&args, &ui),
        Command::Repl(args) => repl::run(&args, &global, &ui),
        Command::Log(args) => log::run(&args, &global, &ui),
        Command::Debug(args) => debug::run(&args, &global, &ui),
        Command::Explain(args) => explain::run(&args, &ui),
        Command::Doc(args) => doc::run(&args, &global, &ui),
        Command::Init(args) => init::run(&args, &ui),
        Command::Why(args) => why::run(&args, &global, &ui),
        Command::Tree(args) => tree::run(&args, &global, &ui),
        Command::Diff(args) => diff::run(&args, &global, &ui),
        Command::Store(args) => store::run(&args, &global, &ui),
        Command::Copy(args) => copy::run(&args, &global, &ui),
        Command::Config(args) => config::run(&args, &global, &ui),
        Command::Completions(args) => completions::run(&args, &ui),
        Command::Man(args) => man::run(&args),
    };
    result.map_err(|error| (ui, error))
}
