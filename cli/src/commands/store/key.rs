//! `ampoule store key`: keys for signing.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use ampoule_store::SecretKey;
use clap::Subcommand;

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::ui::Ui;

/// Make keys for signing
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key: the secret half goes into a file, the public half is printed
    Generate {
        /// Its name, such as `cache.example.org-1`
        name: String,
        /// Where the secret half goes; nothing may be there yet
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Print the public half of a key
    Public {
        /// The file of the secret half
        file: PathBuf,
    },
}

pub fn run(args: &Args, _: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let key = match &args.action {
        Action::Generate { name, output } => {
            let key = SecretKey::generate(name)?;
            let failed = || format!("cannot write `{}`", output.display());
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(output)
                .while_doing(failed)?;
            file.write_all(format!("{}\n", key.to_secret_text()).as_bytes()).while_doing(failed)?;
            key
        }
        Action::Public { file } => SecretKey::read(file)?,
    };
    if ui.json() {
        ui.print_json(&serde_json::json!({ "name": key.name(), "publicKey": key.public().to_string() }))?;
    } else {
        ui.print(key.public().to_string())?;
    }
    Ok(ExitStatus::Success)
}
