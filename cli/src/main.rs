//! The `ampoule` command: evaluates `.img` files, realises what they describe, and pours it into
//! images.
//!
//! One file in `commands/` for each command; each calls one library function and prints. What
//! looks like logic here belongs to a crate below.

mod abreast;
mod args;
mod candidates;
mod ci;
mod commands;
mod compare;
mod config;
mod error;
mod images;
mod lockfile;
mod manual;
mod patience;
mod programs;
mod progress;
mod provenance;
mod realising;
#[cfg(test)]
mod reference;
mod report;
mod session;
mod signals;
mod store;
mod target;
mod texts;
mod ui;
mod world;

use std::process::ExitCode;

use clap::CommandFactory;

fn main() -> ExitCode {
    // The same program, started again by itself, is what makes sandboxes.
    ampoule_realise::sandbox::serve_if_asked();
    // What is made here is for others to read and not to write, whatever the shell's mask: under 000 a
    // store and its objects would be refused as open to everybody.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    signals::tell_of_large_files();
    // A shell that asks what may come next gets its answer, and that is all.
    clap_complete::CompleteEnv::with_factory(args::Cli::command).var(candidates::VARIABLE).complete();
    let args = match args::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let ui = ui::Ui::new(args.global.color_choice(), args.global.verbosity(), args.global.json);
    match commands::run(args, ui) {
        Ok(status) => ExitCode::from(signals::exit_code(status)),
        Err((ui, error)) => {
            ui.error(&error);
            ExitCode::from(signals::exit_code(error.status))
        }
    }
}
