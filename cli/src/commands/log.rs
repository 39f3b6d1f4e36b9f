//! `ampoule log`: what a build printed.

use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use ampoule_realise::LogDir;
use ampoule_store::{Store, StorePath};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::ui::Ui;

/// Print the log of a build
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule log /nix/store/…-hello.drv    the log of a derivation's last build
  ampoule log result                    of what made this
  ampoule log -f …-hello.drv            follow it while it runs")]
pub struct Args {
    /// A derivation, an output, or a link to one
    path: String,

    /// Go on printing while the build runs
    #[arg(short, long)]
    follow: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    let path = store.parse_any(&args.path)?;
    let drv = derivation_of(&store, path)?;
    let logs = LogDir::new(store.root().path().join("log"));
    let mut text = tempfile::tempfile().while_doing(|| "cannot make a temporary file".to_owned())?;
    let mut printed = 0;
    loop {
        text.set_len(0)
            .and_then(|()| text.rewind())
            .while_doing(|| "cannot use a temporary file".to_owned())?;
        logs.read(&drv, &mut text)
            .while_doing(|| format!("cannot read the log of `{}`", drv.name()))
            .map_err(|error| {
                error.hint("only builds on this machine leave a log; name the derivation or its output")
            })?;
        text.seek(SeekFrom::Start(printed)).while_doing(|| "cannot use a temporary file".to_owned())?;
        let mut rest = Vec::new();
        text.read_to_end(&mut rest).while_doing(|| "cannot use a temporary file".to_owned())?;
        printed += rest.len() as u64;
        let more = args.follow && runs(&store, &drv)?;
        if ui.json() {
            // The end of a line that is being written comes with the next round.
            let whole = if more {
                rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
            } else {
                rest.len()
            };
            printed -= (rest.len() - whole) as u64;
            for line in rest[..whole].split_inclusive(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
                ui.print_json(&serde_json::json!({ "derivation": store.dir().print(&drv), "line": line }))?;
            }
        } else {
            ui.print_raw(&rest)?;
        }
        if !more {
            return Ok(ExitStatus::Success);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// The derivation itself, or the one that made an output.
pub(super) fn derivation_of(store: &Store, path: StorePath) -> Result<StorePath, CliError> {
    if path.is_derivation() {
        return Ok(path);
    }
    let info = store.expect_info(&path)?;
    info.deriver.ok_or_else(|| CliError::failed(format!("nothing is known of what made `{}`", path.name())))
}

/// Whether somebody holds the lock of one of its outputs, as a build does.
fn runs(store: &Store, drv: &StorePath) -> Result<bool, CliError> {
    let derivation = store.read_derivation(drv)?;
    for output in derivation.outputs.values() {
        if let Some(path) = output.path()
            && store.try_lock_output(path)?.is_none()
        {
            return Ok(true);
        }
    }
    Ok(false)
}
