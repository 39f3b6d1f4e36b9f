//! `ampoule store export`: objects as one stream.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::ui::Ui;

/// Write objects and what they need as one stream that `import` reads (and `nix-store --import`)
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule store export ./result > closure
  ssh other ampoule store import < closure")]
pub struct Args {
    /// Store paths, or links to them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Where to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only these objects, not what they need
    #[arg(long)]
    no_closure: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    let mut paths: std::collections::BTreeSet<_> =
        super::parse_paths(&store, &args.paths)?.into_iter().collect();
    if !args.no_closure {
        paths = store.closure_of(paths)?;
    }
    let written: Vec<String> = paths.iter().map(|path| store.dir().print(path)).collect();
    match &args.output {
        Some(file) => {
            let failed = || format!("cannot write `{}`", file.display());
            let mut to = BufWriter::new(std::fs::File::create(file).while_doing(failed)?);
            store.export(paths, &mut to)?;
            to.flush().while_doing(failed)?;
        }
        None => {
            // The lock cannot go to another thread, a clone of the descriptor can.
            let out = std::os::fd::AsFd::as_fd(&std::io::stdout())
                .try_clone_to_owned()
                .while_doing(|| "cannot write to standard output".to_owned())?;
            let mut to = BufWriter::new(std::fs::File::from(out));
            store.export(paths, &mut to)?;
            to.flush().while_doing(|| "cannot write to standard output".to_owned())?;
        }
    }
    match &args.output {
        // Standard output is the stream itself otherwise.
        Some(file) if ui.json() => {
            ui.print_json(&serde_json::json!({ "file": file, "written": written }))?;
        }
        _ => ui.note(&format!("{} objects written", written.len())),
    }
    Ok(ExitStatus::Success)
}
