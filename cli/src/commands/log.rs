//! `ampoule log`: what a build printed.

use std::io::{self, Write};

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
    let path = crate::images::object_named(&store, &args.path)?;
    let drv = derivation_of(&store, path)?;
    let logs = LogDir::new(store.root().path().join("log"));
    let mut lines = JsonLines { drv: store.dir().print(&drv), ui, begun: Vec::new() };
    let mut plain = io::stdout().lock();
    let out: &mut dyn Write = if ui.json() { &mut lines } else { &mut plain };
    let written =
        if args.follow { logs.follow(&drv, || runs(&store, &drv), out) } else { logs.read(&drv, out) };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitStatus::Success),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CliError::failed(format!("there is no log of `{}` on this machine", drv.name()))
                .hint("only builds that were run here, and said something, leave one"))
        }
        other => other
            .while_doing(|| format!("cannot read the log of `{}`", drv.name()))
            .map(|()| lines.end())
            .map(|()| ExitStatus::Success),
    }
}

/// Says each line as an object of its own.
struct JsonLines<'a> {
    drv: String,
    ui: &'a Ui,
    /// A line whose end has not come.
    begun: Vec<u8>,
}

impl JsonLines<'_> {
    fn line(&self, line: &[u8]) -> io::Result<()> {
        let line = String::from_utf8_lossy(line);
        let value = serde_json::json!({ "derivation": self.drv, "line": line });
        self.ui.print_json(&value).map_err(|error| io::Error::other(error.message))
    }

    fn end(&self) {
        if !self.begun.is_empty() {
            drop(self.line(&self.begun));
        }
    }
}

impl Write for JsonLines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend(piece.strip_suffix(b"\n").unwrap_or(piece));
            if piece.ends_with(b"\n") {
                self.line(&self.begun)?;
                self.begun.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

/// Whether somebody holds the lock of one of its outputs, as a build does; or that of the derivation itself, if only its
/// contents decide where an output lies.
fn runs(store: &Store, drv: &StorePath) -> bool {
    let Ok(derivation) = store.read_derivation(drv) else { return false };
    let mut paths = derivation.outputs.values().map(|output| output.path().unwrap_or(drv));
    paths.any(|path| matches!(store.try_lock_output(path), Ok(None)))
}
