//! `ampoule.lock` beside `ampoule.toml`: read, and compared with what is asked.

use std::path::Path;

use ampoule_packages::{DebianSection, LockError, LockFile, Manifest};

use crate::error::{CliError, ExitStatus, IoContext};

/// The section `[debian]` of a project's file, if it has one.
///
/// # Errors
/// If the file cannot be read, or makes no sense.
pub fn read_section(file: &Path) -> Result<Option<DebianSection>, CliError> {
    let text = std::fs::read_to_string(file).while_doing(|| format!("cannot read `{}`", file.display()))?;
    let wrong = |error: String| CliError::usage(format!("`{}`: {}", file.display(), error.trim_end()));
    Ok(Manifest::parse(&text).map_err(|error| wrong(error.to_string()))?.debian)
}

/// The lock file, if it is there; or what is wrong with its contents.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<Result<Option<LockFile>, LockError>, CliError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(LockFile::parse(&text).map(Some)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ok(None)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(out_of_date("ampoule.lock is not readable: it is not UTF-8"))
        }
        Err(error) => Err(error).while_doing(|| format!("cannot read `{}`", path.display())),
    }
}

fn out_of_date(message: impl Into<String>) -> CliError {
    CliError::new(ExitStatus::LockOutOfDate, message)
}

/// The lock file, if it answers what is asked.
///
/// # Errors
/// If it does not.
pub fn usable(
    found: Result<Option<LockFile>, LockError>,
    section: &DebianSection,
) -> Result<LockFile, CliError> {
    let lock = found
        .map_err(|error| out_of_date(error.to_string()))?
        .ok_or_else(|| out_of_date("there is no ampoule.lock; run `ampoule lock`"))?;
    lock.check(section).map_err(|error| out_of_date(error.to_string()))?;
    Ok(lock)
}

/// Looks at the lock file of a project whose packages are about to be used. What it lacks is a warning: the library
/// has packages of its own, and somebody may be offline.
///
/// # Errors
/// If it is damaged, or the project's file is wrong.
pub fn check_project(dir: &Path) -> Result<Option<String>, CliError> {
    let manifest = dir.join("ampoule.toml");
    let section = if manifest.is_file() { read_section(&manifest)? } else { None };
    let lock = read(&dir.join("ampoule.lock"))?.map_err(|error| {
        let told = out_of_date(error.to_string());
        if matches!(error, LockError::Syntax(_)) {
            told.hint("delete it, and run `ampoule lock`")
        } else {
            told
        }
    })?;
    Ok(match (section, lock) {
        (Some(_), None) => {
            Some("there is no ampoule.lock: packages are the library's own; run `ampoule lock`".to_owned())
        }
        (Some(section), Some(lock)) => lock.check(&section).err().map(|error| error.to_string()),
        (None, _) => None,
    })
}
