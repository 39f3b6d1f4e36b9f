//! `ampoule init`: a project that works, from a template.
//!
//! A template is a directory of `cli/templates/`; its files are part of this program.

use std::io::Write;
use std::path::{Path, PathBuf};

use ampoule_lang::near::near_name;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use include_dir::{Dir, include_dir};

use crate::error::{CliError, ExitStatus, IoContext};
use crate::ui::Ui;

/// Names of templates, for the shell's completion.
fn names() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        TEMPLATES.dirs().map(|dir| CompletionCandidate::new(Template(dir).name())).collect()
    })
}

static TEMPLATES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/cli/templates");

/// What every project's `.gitignore` has.
const IGNORED: &str = "result\nresult-*\n";

/// Make a project that works
///
/// Writes the files of a template into a directory, and says what to do next. A file that is there is never
/// overwritten: then nothing is written.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule init hello                          a directory `hello` with the smallest image
  ampoule init --template flask app           a Python application
  ampoule init --list                         all templates")]
pub struct Args {
    /// Where to; it is made if it is not there
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// Which template: hello, debian, flask, rust or static-c
    #[arg(short, long, default_value = "hello", value_name = "NAME", add = names())]
    template: String,

    /// List the templates
    #[arg(long)]
    list: bool,
}

pub fn run(args: &Args, ui: &Ui) -> Result<ExitStatus, CliError> {
    let templates = || TEMPLATES.dirs().map(Template);
    if args.list {
        if ui.json() {
            let all: serde_json::Map<_, _> =
                templates().map(|one| (one.name().to_owned(), one.about().into())).collect();
            ui.print_json(&all)?;
            return Ok(ExitStatus::Success);
        }
        for template in templates() {
            ui.print(format!("{:<10} {}", template.name(), template.about()))?;
        }
        return Ok(ExitStatus::Success);
    }
    let template = templates().find(|one| one.name() == args.template).ok_or_else(|| {
        let error = CliError::usage(format!("there is no template `{}`", args.template));
        match near_name(&args.template, templates().map(|one| one.name())) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`ampoule init --list` names them all"),
        }
    })?;
    let files = template.files();
    let there: Vec<String> = files
        .iter()
        .filter(|(name, _)| args.dir.join(name).symlink_metadata().is_ok())
        .map(|(name, _)| format!("`{}`", args.dir.join(name).display()))
        .collect();
    if !there.is_empty() {
        return Err(CliError::usage(format!("{} would be overwritten", there.join(", ")))
            .hint("name another directory: `ampoule init DIR`"));
    }
    for (name, contents) in &files {
        write_new(&args.dir.join(name), contents)?;
    }
    let next = template.next(&args.dir);
    if ui.json() {
        let names: Vec<_> = files.iter().map(|(name, _)| args.dir.join(name)).collect();
        ui.print_json(&serde_json::json!({ "template": template.name(), "files": names, "next": next }))?;
        return Ok(ExitStatus::Success);
    }
    for (name, _) in &files {
        ui.print(args.dir.join(name).to_string_lossy().as_bytes())?;
    }
    ui.note(&format!("next: {}", next.join(" && ")));
    Ok(ExitStatus::Success)
}

struct Template(&'static Dir<'static>);

impl Template {
    fn name(&self) -> &'static str {
        self.0.path().to_str().expect("our file names are UTF-8")
    }

    /// The first sentence of the file that describes the image.
    fn about(&self) -> &'static str {
        let entry = self.0.get_file(self.0.path().join("default.img")).and_then(|file| file.contents_utf8());
        let line = entry.and_then(|text| text.lines().next()).unwrap_or_default();
        line.trim_start_matches("# ")
    }

    /// Files by name below the project, sorted.
    fn files(&self) -> Vec<(PathBuf, &'static [u8])> {
        let mut files = vec![(PathBuf::from(".gitignore"), IGNORED.as_bytes())];
        let mut todo = vec![self.0];
        while let Some(dir) = todo.pop() {
            todo.extend(dir.dirs());
            files.extend(dir.files().map(|file| {
                let name = file.path().strip_prefix(self.0.path()).expect("it lies below");
                (name.to_owned(), file.contents())
            }));
        }
        files.sort();
        files
    }

    /// The commands that make the image.
    fn next(&self, dir: &Path) -> Vec<String> {
        let mut next = Vec::new();
        if dir != Path::new(".") {
            next.push(format!("cd {}", dir.display()));
        }
        if self.0.contains(self.0.path().join("ampoule.toml")) {
            next.push("ampoule lock".to_owned());
        }
        next.push("ampoule realise".to_owned());
        next
    }
}

/// Writes a file that must not be there yet, whoever makes it meanwhile.
fn write_new(path: &Path, contents: &[u8]) -> Result<(), CliError> {
    let told = || format!("cannot write `{}`", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).while_doing(told)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).while_doing(told)?;
    file.write_all(contents).while_doing(told)
}
