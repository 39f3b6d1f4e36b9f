//! What `nix-instantiate` does with files besides evaluating them, for `eval` and `instantiate`.

use ampoule_eval::{Coercion, Evaluator};

use crate::args::GlobalArgs;
use crate::config::Config;
use crate::error::{CliError, ExitStatus};
use crate::realising::BuildArgs;
use crate::session::{ExpressionArgs, Problem, Session};
use crate::ui::Ui;
use crate::world::{CORE_DIR, Keeps, STD_DIR};

/// What to do with the files, and what to leave in the store.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ModeArgs {
    /// Print how each file is understood, with all parentheses, and evaluate nothing
    #[arg(long, alias = "parse-only", conflicts_with = "find_file")]
    parse: bool,

    /// Print where files lie that are named as in `<name>`, and evaluate nothing
    #[arg(long)]
    find_file: bool,

    /// Write nothing to the store
    #[arg(long, alias = "dry-run")]
    readonly_mode: bool,
}

impl ModeArgs {
    /// Does what is asked for instead of an evaluation, if anything is.
    pub fn instead(
        &self,
        args: &ExpressionArgs,
        global: &GlobalArgs,
        ui: &Ui,
    ) -> Option<Result<ExitStatus, CliError>> {
        if self.parse {
            return Some(super::parse::print_trees(args, global, ui));
        }
        self.find_file.then(|| find_files(args, &global.config()?, ui))
    }

    /// Whether nothing may be written to the store.
    pub fn is_readonly(&self, args: &ExpressionArgs) -> bool {
        self.readonly_mode || args.eval_store.as_deref() == Some("dummy://")
    }
}

/// With `-E` all of them are expressions, as in Nix; standard input stays what it is.
pub fn as_in_nix(args: &ExpressionArgs) -> ExpressionArgs {
    let mut args = args.clone();
    if !args.expressions.is_empty() {
        let (input, expressions) = args.files.into_iter().partition(|file| file == "-");
        args.files = input;
        args.expressions.extend::<Vec<String>>(expressions);
    }
    args
}

/// Prints where files of the search path lie.
fn find_files(args: &ExpressionArgs, config: &Config, ui: &Ui) -> Result<ExitStatus, CliError> {
    let mut wanted = args.clone();
    wanted.expressions = args
        .files
        .iter()
        .map(|name| {
            let mut text = "builtins.findFile builtins.nixPath ".to_owned();
            ampoule_eval::write_string(&mut text, name.as_bytes());
            text
        })
        .collect();
    if wanted.expressions.is_empty() {
        return Err(CliError::usage("`--find-file` needs a name").hint("name what `<name>` would"));
    }
    wanted.files.clear();
    wanted.attributes.clear();
    let session = Session::new(&wanted, config, Keeps::Values, BuildArgs::default().options(config)?)?;
    let found = session.each(ui, |ev: &mut Evaluator, value, _| {
        let path = ev.coerce_to_string(value, Coercion::TO_STRING).map_err(Problem::Eval)?;
        Ok(path.as_str().expect("coercing to a string gives one").to_text().into_owned())
    })?;
    for (path, name) in found.iter().zip(&args.files) {
        if [CORE_DIR, STD_DIR].iter().any(|dir| path.starts_with(dir)) {
            return Err(CliError::failed(format!("'<{name}>' has no physical path"))
                .hint("it is part of this program"));
        }
        ui.print(path)?;
    }
    Ok(ExitStatus::Success)
}
