//! `ampoule fmt`: lay files out as the standard format asks.

use std::path::{Path, PathBuf};

use ampoule_lang::{ParseOptions, SourceMap};

use crate::error::{CliError, ExitStatus, IoContext};
use crate::ui::Ui;

/// Format files
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule fmt                         every .img file below this directory
  ampoule fmt --check                 is each formatted? (for CI)
  ampoule fmt - < file.img            standard input to standard output")]
pub struct Args {
    /// Files, or directories whose .img files are meant; `-` reads standard input [default: .]
    files: Vec<String>,

    /// Change nothing; name what is not formatted, and end with 1
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args, ui: &Ui) -> Result<ExitStatus, CliError> {
    if args.files.iter().any(|file| file == "-") {
        let text = crate::programs::read("-")?;
        let Some(formatted) = format("«stdin»", &text, ui) else { return Ok(ExitStatus::Evaluation) };
        ui.print_raw(formatted.as_bytes())?;
        return Ok(ExitStatus::Success);
    }
    let mut files = Vec::new();
    let given: Vec<&str> =
        if args.files.is_empty() { vec!["."] } else { args.files.iter().map(String::as_str).collect() };
    for name in given {
        collect(Path::new(name), &mut files)?;
    }
    let mut wrong = false;
    let mut changed = Vec::new();
    for file in files {
        let text = crate::programs::read(&file.to_string_lossy())?;
        let Some(formatted) = format(&file.to_string_lossy(), &text, ui) else {
            wrong = true;
            continue;
        };
        if formatted.as_bytes() == text {
            continue;
        }
        if args.check {
            wrong = true;
            if !ui.json() {
                ui.print(format!("{}", file.display()))?;
            }
        } else {
            replace(&file, formatted.as_bytes())?;
            ui.detail(&format!("formatted {}", file.display()));
        }
        changed.push(file.to_string_lossy().into_owned());
    }
    if ui.json() {
        let key = if args.check { "unformatted" } else { "formatted" };
        ui.print_json(&serde_json::json!({ key: changed }))?;
    }
    Ok(if wrong { ExitStatus::Evaluation } else { ExitStatus::Success })
}

/// The formatted text, or nothing if it is no program, which is told.
fn format(name: &str, text: &[u8], ui: &Ui) -> Option<String> {
    let sources = SourceMap::new();
    let source = sources.add(name, ".", text);
    match ampoule_lang::fmt::format_source(&source, ParseOptions { pipe_operators: true }) {
        Ok(formatted) => Some(formatted),
        Err(diagnostics) => {
            crate::report::show(&diagnostics, &sources, ui);
            None
        }
    }
}

/// All `.img` files below a directory, sorted; a file that is named is taken whatever it is called.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    let told = || format!("cannot read `{}`", path.display());
    if !std::fs::metadata(path).while_doing(told).map_err(CliError::of_usage)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(path).while_doing(told)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let Ok(data) = std::fs::symlink_metadata(&entry) else { continue };
        if data.is_dir() && !hidden && !entry.ends_with("target") {
            collect(&entry, files)?;
        } else if data.is_file() && entry.extension().is_some_and(|ending| ending == "img") {
            files.push(entry);
        }
    }
    Ok(())
}

/// Writes beside the file and renames: a crash leaves the old text or the new one.
fn replace(file: &Path, text: &[u8]) -> Result<(), CliError> {
    let told = || format!("cannot write `{}`", file.display());
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(dir).while_doing(told)?;
    std::fs::write(temporary.path(), text).while_doing(told)?;
    let mode = std::fs::metadata(file).while_doing(told)?.permissions();
    std::fs::set_permissions(temporary.path(), mode).while_doing(told)?;
    temporary.persist(file).map_err(|error| error.error).while_doing(told)?;
    Ok(())
}
