//! `ampoule parse`: is it a program, and which tree is it?

use std::io::Read;

use ampoule_lang::{ParseOptions, SourceMap};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::ui::Ui;

/// Check the syntax of files, and print how they are understood
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule parse *.img                 is each of these a program?
  ampoule parse --print file.img      the tree, as `nix-instantiate --parse` prints it")]
pub struct Args {
    /// The files; `-` reads standard input
    #[arg(required = true)]
    files: Vec<String>,

    /// Print the tree as an expression with all parentheses
    #[arg(long)]
    print: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let options = ParseOptions { pipe_operators: config.bool("eval.pipe-operators") };
    let dir = std::env::current_dir().while_doing(|| "cannot tell the working directory".to_owned())?;
    let sources = SourceMap::new();
    let mut wrong = false;
    for file in &args.files {
        let mut text = Vec::new();
        let (name, base) = if file == "-" {
            std::io::stdin()
                .read_to_end(&mut text)
                .while_doing(|| "cannot read standard input".to_owned())?;
            ("«stdin»".to_owned(), dir.clone())
        } else {
            text = std::fs::read(file).while_doing(|| format!("cannot read `{file}`"))?;
            let full = dir.join(file);
            (file.clone(), full.parent().unwrap_or(&dir).to_owned())
        };
        let source = sources.add(name, base, text);
        match ampoule_lang::parse_and_check(&source, options) {
            Ok(parsed) => {
                crate::report::show(&parsed.warnings, &sources, ui);
                if args.print {
                    ui.print(ampoule_lang::print::to_nix(&parsed.ast, &source))?;
                }
            }
            Err(diagnostics) => {
                wrong = true;
                crate::report::show(&diagnostics, &sources, ui);
            }
        }
    }
    Ok(if wrong { ExitStatus::Evaluation } else { ExitStatus::Success })
}
