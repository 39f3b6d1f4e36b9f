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
    use std::path::{Path, PathBuf};

    use clap::{Command, CommandFactory};

    use crate::args::Cli;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn the_reference_page_is_what_the_help_says() {
        let file = root().join("docs/commands.md");
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

    /// The words of each `ampoule …` in a line of shell.
    fn command_lines(line: &str) -> Vec<Vec<String>> {
        let mut commands = vec![Vec::new()];
        let mut word: Option<String> = None;
        let mut quote = None;
        // A service's own expressions: `${{ github.sha }}`.
        let line = line.replace("${{ ", "").replace(" }}", "");
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (Some(_), c) => word.get_or_insert_default().push(c),
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, ' ') => commands.last_mut().expect("never empty").extend(word.take()),
                // A file to read or write is no word of the command; `<(…)` is another one.
                (None, '<' | '>') if chars.peek() != Some(&'(') => {
                    while chars.next_if(|c| *c == ' ' || *c == '>').is_some() {}
                    while chars.next_if(|c| *c != ' ').is_some() {}
                }
                (None, '|' | '&' | ';' | '(' | ')') => {
                    commands.last_mut().expect("never empty").extend(word.take());
                    commands.push(Vec::new());
                }
                (None, '#') if word.is_none() => break,
                (None, c) => word.get_or_insert_default().push(c),
            }
        }
        commands.last_mut().expect("never empty").extend(word);
        commands.retain(|words| words.first().is_some_and(|word| word == "ampoule"));
        commands
    }

    /// Lines of shell in the blocks of a page: commands of a console, steps of a job.
    fn shell_lines(page: &str) -> Vec<&str> {
        let mut found = Vec::new();
        let mut block = None;
        for line in page.lines() {
            if let Some(info) = line.strip_prefix("```") {
                block = if block.is_none() { Some(info) } else { None };
                continue;
            }
            let line = match block {
                Some("console") => line.strip_prefix("$ "),
                Some("yaml") => {
                    line.trim_start().strip_prefix("- ").map(|line| line.trim_start_matches("run: "))
                }
                _ => None,
            };
            found.extend(line);
        }
        found
    }

    /// Lines of the examples in the help texts, without what they say behind the command.
    fn examples(command: &Command, found: &mut Vec<String>) {
        if let Some(help) = command.get_after_help() {
            for line in help.to_string().lines().filter_map(|line| line.strip_prefix("  ")) {
                let end = line.find("   ").unwrap_or(line.len());
                found.push(line[..end].to_owned());
            }
        }
        command.get_subcommands().for_each(|sub| examples(sub, found));
    }

    #[test]
    fn every_command_line_that_is_shown_is_one() {
        let mut lines = Vec::new();
        examples(&Cli::command(), &mut lines);
        let mut pages: Vec<PathBuf> = vec![root().join("README.md")];
        for folder in ["docs", "tests/cli"] {
            let entries = std::fs::read_dir(root().join(folder)).expect("a folder of pages");
            pages.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        for page in pages.iter().filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
            // Pages of `tests/cli` show wrong command lines, too: those end with a status.
            let text = std::fs::read_to_string(page).expect("a page is text");
            let may_be_wrong = page.parent().is_some_and(|dir| dir.ends_with("tests/cli"));
            lines.extend(shell_lines(&text).into_iter().filter(|_| !may_be_wrong).map(str::to_owned));
        }
        let commands: Vec<_> = lines.iter().flat_map(|line| command_lines(line)).collect();
        assert!(commands.len() > 80, "only {}", commands.len());
        let mut wrong = Vec::new();
        for words in commands {
            if let Err(error) = Cli::command().try_get_matches_from(&words)
                && error.use_stderr()
            {
                wrong.push(format!("{}\n{error}", words.join(" ")));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn commands_are_found_in_lines_of_shell() {
        let check = |line: &str, expected: &[&str]| {
            let found: Vec<String> = command_lines(line).iter().map(|words| words.join("_")).collect();
            assert_eq!(found, expected, "{line}");
        };
        check("ampoule eval -E '1 + 1'", &["ampoule_eval_-E_1 + 1"]);
        check("cd x && ampoule fmt - < a.img | cat", &["ampoule_fmt_-"]);
        check("source <(ampoule completions bash)", &["ampoule_completions_bash"]);
        check("docker run x", &[]);
    }
}
