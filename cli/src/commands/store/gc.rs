//! `ampoule store gc`: what no root reaches goes.

use std::time::Duration;

use ampoule_store::{GcOptions, human_size};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Delete what nothing needs
///
/// Kept are: what roots lead to (`ampoule store roots`), what running processes use, and the
/// derivations that made what is kept.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule store gc                        everything that is not needed
  ampoule store gc --dry-run              only say what would go
  ampoule store gc --older-than 14d       what was not used for two weeks
  ampoule store gc --max-size 20G         what was used longest ago, until 20 GiB are left")]
pub struct Args {
    /// Delete nothing; say what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Keep what was used within this time: 30m, 12h, 14d, 2w
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    older_than: Option<Duration>,
    /// Stop when no more than this is left: 500M, 20G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Do not keep the derivations that made what is kept
    #[arg(long)]
    no_keep_derivations: bool,
}

fn split_unit(text: &str) -> Result<(u64, &str), String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    Ok((number.parse().map_err(|_| format!("`{text}` does not begin with a number"))?, unit))
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return Err(format!("expected a unit of s, m, h, d or w, found `{unit}`")),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| format!("`{text}` is too long"))
}

pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("expected a unit of K, M, G or T, found `{unit}`")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too much"))
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let store = crate::store::open_for(global)?;
    crate::images::forget_results(&store)?;
    let report = store.gc(&GcOptions {
        dry_run: args.dry_run,
        older_than: args.older_than,
        max_size_bytes: args.max_size,
        keep_derivations: !args.no_keep_derivations,
        only: None,
    })?;
    // Layers of images whose objects went; made again if somebody wants them.
    let layers = if args.dry_run { None } else { crate::images::collect(store.root())? };
    for (root, why) in &report.stale_roots {
        ui.warn(&format!("root `{}` {why}", root.display()));
    }
    if !report.orphans.is_empty() {
        let some = report.orphans.iter().take(3).map(|o| format!("`{o}`")).collect::<Vec<_>>().join(", ");
        ui.warn(&format!(
            "{} objects have no info file ({some}…): `ampoule store verify --repair` keeps them, the next `gc` deletes them",
            report.orphans.len()
        ));
    }
    if ui.json() {
        let dead: Vec<_> = report.dead.iter().map(|path| store.dir().print(path)).collect();
        ui.print_json(&serde_json::json!({
            "dryRun": args.dry_run, "dead": dead, "deadNarBytes": report.dead_nar_bytes,
            "freedBytes": report.freed_bytes, "kept": report.kept, "keptNarBytes": report.kept_nar_bytes,
            "orphans": report.orphans,
        }))?;
        return Ok(ExitStatus::Success);
    }
    if args.dry_run || ui.verbosity() > 1 {
        report.dead.iter().try_for_each(|path| ui.print(store.dir().print(path)))?;
    }
    let (count, kept) = (report.dead.len(), report.kept);
    ui.note(&if args.dry_run {
        format!("{count} objects would go, {}; {kept} are needed", human_size(report.dead_nar_bytes))
    } else {
        format!("{count} objects deleted, {} freed; {kept} are left", human_size(report.freed_bytes))
    });
    if let Some(layers) = layers.filter(|layers| layers.bytes > 0) {
        ui.note(&format!("{} of image layers deleted", human_size(layers.bytes)));
    }
    Ok(ExitStatus::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parse_time("2w").unwrap(), Duration::from_secs(14 * 24 * 3600));
        assert_eq!(parse_size("20GiB").unwrap(), 20 << 30);
        assert_eq!(parse_size("5M").unwrap(), 5 << 20);
        assert_eq!(parse_size("5").unwrap(), 5);
        assert!(parse_time("14").is_err() && parse_size("x").is_err() && parse_size("99999999999T").is_err());
    }
}
