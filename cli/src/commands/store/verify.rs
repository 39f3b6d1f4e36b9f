//! `ampoule store verify`: is everything there, whole, and complete?

use ampoule_net::Cancel;
use ampoule_realise::{EventSink, Options, Realiser, Wanted};
use ampoule_store::cache::Substituters;
use ampoule_store::{Damage, ObjectInfo, Store, StoreResult};

use crate::args::GlobalArgs;
use crate::config::Config;
use crate::error::{CliError, ExitStatus};
use crate::realising::{BuildArgs, builders};
use crate::signals::Stop;
use crate::ui::Ui;

/// Check that everything is there, whole, and complete
///
/// Exit code 1 if something is wrong and was not mended.
#[derive(clap::Args)]
pub struct Args {
    /// Hash everything, too
    #[arg(long)]
    check_contents: bool,
    /// Mend what can be mended: copy damaged objects from the configured binary caches, else build
    /// or fetch them again, and adopt objects that have no info file
    #[arg(long)]
    repair: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let store = crate::store::open(&config)?;
    let substituters = crate::store::substituters(&config, false, &Cancel::default())?;
    let stop = Stop::watch()?;
    let options = BuildArgs::default().options(&config)?;
    let events = crate::progress::sink(ui, &config);
    let again = Again { config: &config, options: &options, events: &events, stop: &stop };
    let mut mend = |store: &Store, info: &ObjectInfo| {
        Ok(refetch(store, &substituters, info)? || again.build(store, info))
    };
    let report = store.verify(args.check_contents, if args.repair { Some(&mut mend) } else { None })?;
    drop(events);
    substituters.take_warnings().iter().for_each(|warning| ui.warn(warning));
    let left = report.problems.iter().filter(|problem| !problem.repaired).count();
    if ui.json() {
        let problems: Vec<_> = report
            .problems
            .iter()
            .map(|p| serde_json::json!({ "path": p.path, "problem": words(&p.damage), "repaired": p.repaired }))
            .collect();
        ui.print_json(&serde_json::json!({
            "checked": report.checked, "hashedBytes": report.hashed_bytes, "problems": problems,
        }))?;
    } else {
        for problem in &report.problems {
            let mended = if problem.repaired { " (mended)" } else { "" };
            ui.print(format!("{}: {}{mended}", problem.path, words(&problem.damage)))?;
        }
        let counted =
            |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let unread =
            if args.check_contents { "" } else { "; contents were not read: `--check-contents` does" };
        let (checked, left) = (counted(report.checked, "object"), counted(left, "problem"));
        ui.note(&format!("{checked} checked, {left} left{unread}"));
    }
    Ok(if left == 0 { ExitStatus::Success } else { ExitStatus::Evaluation })
}

fn words(damage: &Damage) -> String {
    match damage {
        Damage::Missing => "is gone".to_owned(),
        Damage::Contents { expected, found } => {
            format!("was changed: expected {}, found {}", expected.to_sri(), found.to_sri())
        }
        Damage::Unreadable(error) => error.clone(),
        Damage::MissingReference(path) => format!("needs '{path}', which is not valid"),
        Damage::Orphan => "has no info file".to_owned(),
        Damage::Info(problem) => format!("its info file is damaged: {problem}"),
    }
}

/// Makes objects again from the derivations that made them.
struct Again<'a> {
    config: &'a Config,
    options: &'a Options,
    events: &'a dyn EventSink,
    stop: &'a Stop,
}

impl Again<'_> {
    /// Says whether the object is valid now; why not was told to the events.
    fn build(&self, store: &Store, info: &ObjectInfo) -> bool {
        let Some(drv) = info.deriver.clone().filter(|drv| store.is_valid(drv).unwrap_or(false)) else {
            return false;
        };
        let Ok(derivation) = store.read_derivation(&drv) else { return false };
        let outputs = derivation.outputs.iter().filter(|(_, output)| output.path() == Some(&info.path));
        let wanted = Wanted { drv, outputs: outputs.map(|(name, _)| name.clone()).collect() };
        let realiser = Realiser {
            store,
            source: store,
            builders: &builders(self.config, store, self.options.offline),
            substituters: None,
            options: self.options,
            events: self.events,
            cancel: self.stop.cancel.clone(),
        };
        realiser.realise(&[wanted]).is_ok()
    }
}

/// Fetches an object again, from a cache that has the same contents.
fn refetch(store: &Store, substituters: &Substituters, info: &ObjectInfo) -> StoreResult<bool> {
    match substituters.query(store, &info.path)? {
        Some((at, narinfo)) if narinfo.info.nar_hash == info.nar_hash => {
            substituters.fetch(store, at, &narinfo).map(|_| true)
        }
        _ => Ok(false),
    }
}
