//! `docs/commands.md`: the reference of every command, made of the same words as `--help`, so that
//! it cannot drift.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use crate::args::Cli;
use crate::config::keys::KEYS;

/// The whole page.
fn page() -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut out = String::from(
        "# Commands and settings\n\nWritten by a test from the help texts and the table of settings; change those.\n",
    );
    section(&mut out, &mut command);
    out.push_str("\n## Settings\n\nFrom the command line (`--option KEY VALUE`), the environment, the project's `ampoule.toml`,\n");
    out.push_str(
        "`~/.config/ampoule/config.toml`, `/etc/ampoule/config.toml`: the first that names a key wins.\n\n",
    );
    out.push_str("| key | environment | default | what it does |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = if key.default.is_empty() { "" } else { &format!("`{}`", key.default) };
        let _ = writeln!(
            out,
            "| `{}` | `{}` | {default} | {} |",
            key.name,
            key.env_name(),
            key.doc.replace('|', "\\|")
        );
    }
    out.push_str("| `mirrors.NAME` | `AMPOULE_MIRROR_NAME` | the machine's own set-up | Where `mirror://NAME/…` is found: bases, tried in order. |\n");
    out
}

fn section(out: &mut String, command: &mut Command) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let title = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    // The global options stand once, with the command itself.
    let top = title == "ampoule";
    let mut shown = command.clone();
    if !top {
        shown = shown.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    }
    let help = shown.render_long_help().to_string();
    let _ = write!(out, "\n## `{title}`\n\n```text\n");
    for line in help.lines() {
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out.push_str("```\n");
    for sub in command.get_subcommands_mut() {
        section(out, sub);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_page_is_what_the_help_says() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
        let page = super::page();
        if std::env::var_os("AMPOULE_ACCEPT").is_some() {
            std::fs::write(&file, &page).expect("docs can be written");
        }
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == page,
            "docs/commands.md differs from the help texts: run AMPOULE_ACCEPT=1 cargo test reference"
        );
    }
}
