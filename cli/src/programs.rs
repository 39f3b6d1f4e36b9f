//! Reading programs that the command line names.

use std::fs::File;
use std::io::Read;

use ampoule_lang::MAX_SOURCE_BYTES;

use crate::error::{CliError, IoContext};

/// Reads a file, or standard input if it is called `-`. What is larger than a program may be is refused before it is
/// read.
///
/// # Errors
/// If it is not there or too large.
pub fn read(file: &str) -> Result<Vec<u8>, CliError> {
    if file == "-" {
        return read_up_to_limit(std::io::stdin().lock(), "standard input");
    }
    let told = || format!("cannot read `{file}`");
    let opened = File::open(file).while_doing(told).map_err(CliError::of_usage)?;
    let data = opened.metadata().while_doing(told)?;
    if data.is_file() && data.len() > MAX_SOURCE_BYTES as u64 {
        return Err(too_large(&format!("`{file}`"), Some(data.len())));
    }
    read_up_to_limit(opened, &format!("`{file}`")).map_err(CliError::of_usage)
}

fn read_up_to_limit(from: impl Read, name: &str) -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    from.take(MAX_SOURCE_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .while_doing(|| format!("cannot read {name}"))?;
    if text.len() > MAX_SOURCE_BYTES { Err(too_large(name, None)) } else { Ok(text) }
}

fn too_large(name: &str, bytes: Option<u64>) -> CliError {
    let has = bytes.map_or_else(|| "more".to_owned(), |bytes| format!("{} MB", bytes >> 20));
    CliError::usage(format!("{name} has {has}, and a program may have {} MB", MAX_SOURCE_BYTES >> 20))
}
