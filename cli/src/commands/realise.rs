//! `ampoule realise`: build what a file describes; an image becomes a layout.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use ampoule_eval::FoundDerivation;
use ampoule_image::plan::PLAN_FILE;
use ampoule_image::project::Need;
use ampoule_realise::{DerivationSource, EventSink, Wanted};
use ampoule_store::{Store, StorePath};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::images::Images;
use crate::progress::DryRun;
use crate::realising::{BuildArgs, Derivations};
use crate::session::{ExpressionArgs, Session};
use crate::signals::Stop;
use crate::ui::Ui;
use crate::world::Keeps;

/// Build what a file describes; an image is poured into an OCI layout
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule realise hello.img                 an image: `result` is its OCI layout
  ampoule realise -A package -o out .       one attribute of ./default.img
  ampoule realise --dry-run hello.img       what would be built and fetched
  ampoule realise --check hello.img         build it again: the same bytes?
  ampoule realise /path/to/x.drv            a derivation")]
pub struct Args {
    #[command(flatten)]
    expression: ExpressionArgs,

    #[command(flatten)]
    build: BuildArgs,

    /// The link to the result
    #[arg(short, long, value_name = "LINK", default_value = "result")]
    out_link: PathBuf,

    /// Make no link
    #[arg(long)]
    no_out_link: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let options = args.build.options(&config)?;
    // Files that are derivations already are realised as they are.
    let (given, files): (Vec<String>, Vec<String>) =
        args.expression.files.iter().cloned().partition(|file| file.ends_with(".drv"));
    let mut expression = ExpressionArgs { files, ..args.expression.clone() };
    let only_given = !given.is_empty() && expression.files.is_empty() && expression.expressions.is_empty();
    if only_given {
        // Stands for no file at all: without it `default.img` would be meant.
        expression.expressions.push("null".to_owned());
    }
    let mut session = Session::new(&expression, &config, Keeps::Sources, options.clone())?;
    let stop = Stop::watch_for(&session.settings.interrupt)?;
    if only_given {
        session.entries.clear();
    }
    let found: Vec<Vec<FoundDerivation>> =
        session.each(ui, |ev, value, arguments| Ok(ev.derivations(value, arguments)?))?;
    let store = session.world.store()?;
    let mut wanted = wanted_of(store, found.into_iter().flatten())?;
    for file in &given {
        wanted.push(Wanted { drv: store.parse_any(file)?, outputs: BTreeSet::new() });
    }
    if wanted.is_empty() {
        ui.note("nothing to build: there is no derivation in it");
    }
    if !options.dry_run && !args.no_out_link {
        refuse_taken_links(&args.out_link, &wanted, &Derivations { world: &session.world, store })?;
    }
    let events = crate::progress::sink(ui, &config);
    let dry_run = DryRun::new(ui, &events);
    let told: &dyn EventSink = if options.dry_run { &dry_run } else { &events };
    let cancel = stop.cancel.clone();
    let realised = crate::realising::realise(&session.world, &config, &options, told, cancel, &wanted)
        .map_err(|error| if events.failed() { CliError::told(error.status) } else { error })?;
    drop(events);
    if options.dry_run {
        return Ok(ExitStatus::Success);
    }
    let mut links = Links { base: (!args.no_out_link).then(|| args.out_link.clone()), made: 0 };
    for one in &wanted {
        let Some(outputs) = realised.outputs.get(&one.drv) else { continue };
        for (name, path) in outputs {
            let real = store.real_path(path);
            if real.join(PLAN_FILE).is_file() {
                pour(store, path, &real, &mut links, ui)?;
            } else {
                let link = links.next(name);
                if let Some(link) = &link {
                    store.add_link_root(link, path)?;
                }
                tell_path(store, path, &real, link.as_deref(), ui)?;
            }
        }
    }
    if realised.changed_something() {
        crate::store::keep_below_quota(store, &config, ui)?;
        store.sync()?;
    }
    Ok(ExitStatus::Success)
}

/// What to realise of the derivations that were found: an output that was named, else all of them.
fn wanted_of(store: &Store, found: impl Iterator<Item = FoundDerivation>) -> Result<Vec<Wanted>, CliError> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut known: HashMap<StorePath, usize> = HashMap::new();
    for one in found {
        let drv = store.dir().parse(&one.drv_path).map_err(|e| CliError::failed(e.to_string()))?;
        let outputs: BTreeSet<String> =
            [one.output_name].into_iter().filter(|name| !name.is_empty()).collect();
        match known.get(&drv) {
            Some(&at) => wanted[at].outputs.extend(outputs),
            None => {
                known.insert(drv.clone(), wanted.len());
                wanted.push(Wanted { drv, outputs });
            }
        }
    }
    Ok(wanted)
}

/// Nothing is built if there is no place for its link.
fn refuse_taken_links(base: &Path, wanted: &[Wanted], source: &Derivations) -> Result<(), CliError> {
    let dir = base.parent().filter(|dir| !dir.as_os_str().is_empty());
    if let Some(dir) = dir.filter(|dir| !dir.is_dir()) {
        return Err(CliError::usage(format!("there is no directory `{}` for the link", dir.display()))
            .hint("make it, or name another link with `-o LINK`"));
    }
    let mut links = Links { base: Some(base.to_owned()), made: 0 };
    for one in wanted {
        let derivation = source.derivation(&one.drv)?;
        for name in derivation.outputs.keys() {
            if (one.outputs.is_empty() || one.outputs.contains(name))
                && let Some(link) = links.next(name)
                && !source.store.may_replace_link(&link)
            {
                return Err(taken(&link));
            }
        }
    }
    Ok(())
}

/// Names of links: `result`, `result-dev`, `result-2`.
struct Links {
    base: Option<PathBuf>,
    made: usize,
}

impl Links {
    fn next(&mut self, output: &str) -> Option<PathBuf> {
        let base = self.base.as_ref()?;
        self.made += 1;
        let mut name = base.as_os_str().to_owned();
        if self.made > 1 {
            name.push(format!("-{}", self.made));
        }
        if output != "out" {
            name.push(format!("-{output}"));
        }
        Some(PathBuf::from(name))
    }
}

fn tell_path(
    store: &Store,
    path: &StorePath,
    real: &Path,
    link: Option<&Path>,
    ui: &Ui,
) -> Result<(), CliError> {
    if ui.json() {
        return ui.print_json(&serde_json::json!({
            "path": store.dir().print(path), "realPath": real, "link": link,
        }));
    }
    ui.print(real.to_string_lossy().as_bytes())
}

/// Projects an image object, and tells its digest and where its layout lies.
fn pour(store: &Store, path: &StorePath, own: &Path, links: &mut Links, ui: &Ui) -> Result<(), CliError> {
    let images = Images::of(store.clone())?;
    let (_, image) = images.project(own, None, Need::Blobs)?;
    let report = image.report();
    for layer in report.manifests.iter().flat_map(|manifest| &manifest.layers).filter(|layer| layer.made) {
        ui.note(&format!("layer {}: {}", layer.name, ampoule_store::human_size(layer.blob.size_bytes)));
    }
    for note in &report.notes {
        ui.note(&format!("note: {note}"));
    }
    // Layouts lie beside the store, named by digest, so that the same image is written once.
    let digits = report.digest.to_string().replace(':', "-");
    let layouts = crate::images::layouts_dir(store.root());
    let layout = layouts.join(format!("{digits}-{}", tag_dir(&report.reference)));
    if !layout.join("index.json").is_file() {
        std::fs::create_dir_all(&layouts).while_doing(|| format!("cannot make `{}`", layouts.display()))?;
        image.write_layout(&images.cache, &layout).map_err(|e| crate::images::cli_error(&e))?;
    }
    // What was realised last under a name is kept, as an image's tag keeps it elsewhere.
    store.add_root(&format!("image-{}", tag_dir(&report.reference)), path)?;
    let link = links.next("out");
    if let Some(link) = &link {
        link_to(link, &layout, store)?;
        crate::images::note_result(store, link, path)?;
    }
    let shown = link.as_deref().unwrap_or(&layout);
    if ui.json() {
        let mut value = serde_json::to_value(&report).expect("a report is JSON");
        value["layout"] = serde_json::json!(layout);
        value["path"] = serde_json::json!(store.dir().print(path));
        return ui.print_json(&value);
    }
    ui.print(format!("{} {}", report.digest, shown.display()))
}

fn tag_dir(reference: &str) -> String {
    reference.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect()
}

/// Replaces a link that is ours, and nothing else.
fn link_to(link: &Path, target: &Path, store: &Store) -> Result<(), CliError> {
    if !store.may_replace_link(link) {
        return Err(taken(link));
    }
    if std::fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).while_doing(|| format!("cannot replace `{}`", link.display()));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(target, link)
        .while_doing(|| format!("cannot make the link `{}`", link.display()))
}

/// Something is where a link is wanted, and it is not a link of ours.
fn taken(link: &Path) -> CliError {
    let what = match std::fs::symlink_metadata(link) {
        Ok(data) if data.is_dir() => "a directory",
        Ok(data) if data.is_symlink() => "a link to something else",
        _ => "a file",
    };
    CliError::usage(format!("`{}` is there already, and is {what}", link.display()))
        .hint("name another link with `-o LINK`, make none with `--no-out-link`, or move away what is there")
}
