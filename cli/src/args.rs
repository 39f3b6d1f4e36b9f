//! The command line: what every command understands, and the list of commands.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser};

use crate::commands::Command;
use crate::config::Config;
use crate::error::{CliError, IoContext};
use crate::ui::{ColorChoice, Ui};

/// Evaluates build expressions, realises them in a sandbox and pours the result into minimal OCI
/// images. No root, no daemon, no base image.
#[derive(Parser)]
#[command(name = "ampoule", version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Reads the command line. What is wrong with it, or the help that was asked for, is printed: as JSON if `--json` is
/// among the words.
///
/// # Errors
/// The code to end with.
pub fn parse() -> Result<Cli, ExitCode> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let wants_json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let tell = |error: &CliError| {
        Ui::new(ColorChoice::Auto, 1, wants_json).error(error);
        ExitCode::from(crate::signals::exit_code(error.status))
    };
    // Before clap, which does not say which word it is.
    if let Some(word) = words.iter().find(|word| word.to_str().is_none()) {
        return Err(tell(
            &CliError::usage(format!("the argument `{}` is not UTF-8 text", word.as_bytes().escape_ascii()))
                .hint("rename the file, or name the directory that it lies in"),
        ));
    }
    Cli::try_parse_from(words).map_err(|error| {
        if wants_json && error.use_stderr() {
            let text = error.to_string();
            let text = text.split("\n\nUsage:").next().unwrap_or_default();
            return tell(&CliError::usage(text.trim_start_matches("error: ").trim_end()));
        }
        // Who reads it may have gone.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

const EXAMPLES: &str = "\
Examples:
  ampoule realise hello.img           build the image that hello.img describes
  ampoule eval -E '1 + 1'             evaluate an expression
  ampoule config show --origin        what is configured, and where

Exit codes: 0 done, 1 evaluation, 2 usage, 3 fetch, 4 lock out of date, 5 policy,
100 build failed, 101 timed out, 102 hash mismatch, 104 not deterministic, 130 interrupted.";

/// Options that every command understands.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Say only errors and results
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more; twice for still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// When to use colours [default: auto]
    #[arg(long, global = true, value_name = "WHEN", value_enum)]
    pub color: Option<ColorChoice>,

    /// Answer, and report errors, as JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// Set a configuration key for this command; see `ampoule config show`
    #[arg(long = "option", global = true, num_args = 2, value_names = ["KEY", "VALUE"], action = ArgAction::Append, add = crate::candidates::settings())]
    pub options: Vec<String>,

    /// Features of Nix that are no part of the language by default: `pipe-operators`
    #[arg(long, global = true, value_name = "FEATURES", alias = "experimental-features")]
    pub extra_experimental_features: Option<String>,

    /// Where the store lies
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<String>,
}

impl GlobalArgs {
    /// What the flag and then the environment say; the configuration file is not read for this,
    /// since a wrong file must already be reported in the right colours.
    pub fn color_choice(&self) -> ColorChoice {
        self.color.unwrap_or_else(|| match std::env::var("AMPOULE_UI_COLOR").as_deref() {
            Ok("always") => ColorChoice::Always,
            Ok("never") => ColorChoice::Never,
            _ => ColorChoice::Auto,
        })
    }

    /// 0 is quiet, 1 the default.
    pub fn verbosity(&self) -> u8 {
        if self.quiet { 0 } else { self.verbose.saturating_add(1) }
    }

    /// The configuration for the project around the working directory, with the flags over it.
    ///
    /// # Errors
    /// If a configuration file or a flag is wrong.
    pub fn config(&self) -> Result<Config, CliError> {
        let dir = std::env::current_dir().while_doing(|| "cannot tell the working directory".to_owned())?;
        let mut config = Config::load(&dir)?;
        for pair in self.options.chunks_exact(2) {
            config.set_option(&pair[0], &pair[1])?;
        }
        if let Some(features) = &self.extra_experimental_features {
            config.set_option("extra-experimental-features", features)?;
        }
        if let Some(store) = &self.store {
            config.set_option("store.dir", store)?;
        }
        Ok(config)
    }
}
