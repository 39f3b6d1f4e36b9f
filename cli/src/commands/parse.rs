//! `ampoule parse`: is it a program, and which tree is it?

use std::path::{Path, PathBuf};

use ampoule_lang::{ParseOptions, SourceMap};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::session::ExpressionArgs;
use crate::ui::Ui;

/// Check the syntax of files, and print how they are understood
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule parse *.img                 is each of these a program?
  ampoule parse --print file.img      the tree, as `nix-instantiate --parse` prints it")]
pub struct Args {
    /// The files; `-` reads standard input
    #[arg(value_name = "FILE", required_unless_present = "expressions")]
    files: Vec<String>,

    /// An expression instead of a file
    #[arg(short = 'E', long = "expr", value_name = "EXPR", allow_hyphen_values = true)]
    expressions: Vec<String>,

    /// Print the tree as an expression with all parentheses
    #[arg(long)]
    print: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let options = ParseOptions { pipe_operators: config.bool("eval.pipe-operators") };
    let dir = std::env::current_dir().while_doing(|| "cannot tell the working directory".to_owned())?;
    // Nix prints what `~/a` means to the user who asks.
    let home = std::env::var("HOME").ok();
    let sources = SourceMap::new();
    let mut wrong = false;
    let mut answers = Vec::new();
    let mut texts = Vec::new();
    for text in &args.expressions {
        texts.push(("«string»".to_owned(), dir.clone(), text.clone().into_bytes()));
    }
    for file in &args.files {
        texts.push(read(file, &dir)?);
    }
    for (name, base, text) in texts {
        let source = sources.add(name, base, text);
        match ampoule_lang::parse_and_check(&source, options) {
            Ok(parsed) => {
                crate::report::show(&parsed.warnings, &sources, ui);
                let tree = args
                    .print
                    .then(|| ampoule_lang::print::to_nix_at_home(&parsed.ast, &source, home.as_deref()));
                match tree {
                    tree if ui.json() => answers.push(serde_json::json!({
                        "file": source.name(),
                        "valid": true,
                        "tree": tree.map(|tree| String::from_utf8_lossy(&tree).into_owned()),
                    })),
                    Some(tree) => ui.print(tree)?,
                    None => {}
                }
            }
            Err(diagnostics) => {
                wrong = true;
                answers.push(serde_json::json!({ "file": source.name(), "valid": false }));
                crate::report::show(&diagnostics, &sources, ui);
            }
        }
    }
    if ui.json() {
        ui.print_json(&answers)?;
    }
    Ok(if wrong { ExitStatus::Evaluation } else { ExitStatus::Success })
}

/// Prints the trees of what an evaluation would read.
pub fn print_trees(what: &ExpressionArgs, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let dir = std::env::current_dir().while_doing(|| "cannot tell the working directory".to_owned())?;
    let mut files = Vec::new();
    for file in &what.files {
        files.push(match file.as_str() {
            "-" => file.clone(),
            _ => entry_file(file, &dir)?,
        });
    }
    if files.is_empty() && what.expressions.is_empty() {
        files.push(entry_file(".", &dir)?);
    }
    run(&Args { files, expressions: what.expressions.clone(), print: true }, global, ui)
}

/// The file that is meant by a file or directory.
fn entry_file(name: &str, dir: &Path) -> Result<String, CliError> {
    let mut path = crate::session::find_entry(name, dir)?;
    if path.is_dir() {
        let own = path.join("default.img");
        path = if own.exists() { own } else { path.join("default.nix") };
    }
    Ok(path.to_string_lossy().into_owned())
}

/// Reads a file or standard input: its name in messages, its directory, its text.
fn read(file: &str, dir: &Path) -> Result<(String, PathBuf, Vec<u8>), CliError> {
    let text = crate::programs::read(file)?;
    if file == "-" {
        return Ok(("«stdin»".to_owned(), dir.to_owned(), text));
    }
    let full = dir.join(file);
    Ok((file.to_owned(), full.parent().unwrap_or(dir).to_owned(), text))
}
