//! `ampoule explain`: what an error means, at length.

use crate::error::{CliError, ExitStatus};
use crate::ui::Ui;

/// Explain an error by its code
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule explain E0007
  ampoule explain                     all codes")]
pub struct Args {
    /// The code, as the error shows it
    #[arg(add = crate::candidates::codes())]
    code: Option<String>,
}

pub fn run(args: &Args, ui: &Ui) -> Result<ExitStatus, CliError> {
    let Some(code) = &args.code else {
        if ui.json() {
            let rows: Vec<_> = ampoule_lang::codes::pages()
                .map(|page| serde_json::json!({ "code": page.code.to_string(), "title": page.title }))
                .collect();
            ui.print_json(&rows)?;
            return Ok(ExitStatus::Success);
        }
        for page in ampoule_lang::codes::pages() {
            ui.print(format!("{}  {}", page.code, page.title))?;
        }
        return Ok(ExitStatus::Success);
    };
    let page = ampoule_lang::codes::page(code).ok_or_else(|| {
        CliError::usage(format!("there is no error code `{code}`"))
            .hint("run `ampoule explain` for all codes")
    })?;
    if ui.json() {
        ui.print_json(
            &serde_json::json!({ "code": page.code.to_string(), "title": page.title, "text": page.text }),
        )?;
    } else {
        ui.print(page.text)?;
    }
    Ok(ExitStatus::Success)
}
