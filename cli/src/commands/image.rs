//! `ampoule image`: what is in an image, and where it goes.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ampoule_image::blobs::BlobCache;
use ampoule_image::compress::Compression;
use ampoule_image::inspect::{self, ImageDiff, TreeNode};
use ampoule_image::load::{self, Engine};
use ampoule_image::oci::Platform;
use ampoule_image::project::{Image, ImageManifest, Need};
use ampoule_image::provenance::{DOCUMENT, PREDICATE};
use ampoule_image::registry::{
    Attached, Attachment, PushReport, PushedHow, Registry, attach, pull_layout, push,
};
use ampoule_image::{rootfs, why};
use ampoule_store::human_size;
use clap::{Subcommand, ValueEnum};

use crate::args::GlobalArgs;
use crate::error::{CliError, ExitStatus};
use crate::images::{Images, cli_error, connect};
use crate::provenance;
use crate::ui::{DataOut, Ui};

/// Look into images, compare them, and hand them on
///
/// IMAGE is a realised image (a store path or the `result` link to it), an OCI layout directory, an archive,
/// or `docker://HOST/NAME:TAG`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,

    /// Speak http with this registry (loopback needs no permission)
    #[arg(long = "plain-http", global = true, value_name = "HOST")]
    plain_http: Vec<String>,
}

#[derive(Subcommand)]
enum Action {
    /// Print what an image is: digests, configuration, layers
    Inspect { image: String },
    /// List the layers and their sizes
    Layers {
        image: String,
        /// Say why each layer is one, and what is in it
        #[arg(long)]
        explain: bool,
    },
    /// Show the files as a tree with sizes
    Tree {
        image: String,
        /// How many levels to show
        #[arg(long, default_value_t = 3)]
        depth: usize,
    },
    /// Compare two images: packages, files, settings
    Diff { before: String, after: String },
    /// Say which path brought a file, and why
    Why { image: String, file: String },
    /// Write an image as a layout directory, an archive, or a tar of its files; or what is known of it
    #[command(after_help = "\
Examples:
  ampoule image export result out/                    an OCI layout
  ampoule image export result app.tar                 loads in docker, podman, containerd, kind
  ampoule image export result --format rootfs - | tar -t
  ampoule image export result --format spdx bill.json
  ampoule image export result --format provenance -   what it was made from, to be signed")]
    Export {
        image: String,
        /// Where to; `-` is standard output
        out: String,
        /// What to write [default: archive for a name ending in .tar, else layout]
        #[arg(long, value_enum)]
        format: Option<ExportFormat>,
        /// Compress the layers in another way than the image says: gzip, zstd, none, gzip:9
        #[arg(long, value_name = "HOW")]
        compression: Option<String>,
        /// Of an image for several platforms, this one
        #[arg(long)]
        platform: Option<String>,
    },
    /// Push an image to a registry: only what it lacks
    #[command(after_help = "\
Examples:
  ampoule image push result registry.example/team/app:v1
  ampoule image push result 127.0.0.1:5000/app        loopback may speak http

Credentials are Docker's: AMPOULE_REGISTRY_USER and AMPOULE_REGISTRY_PASSWORD, DOCKER_AUTH_CONFIG,
REGISTRY_AUTH_FILE, ~/.docker/config.json (with its helpers), podman's auth.json.")]
    Push {
        image: String,
        reference: String,
        /// Attach the bills of materials (SPDX and CycloneDX) as referrers
        #[arg(long)]
        sbom: bool,
        /// Attach what the image was made from (an in-toto statement of SLSA provenance) as a referrer
        #[arg(long)]
        provenance: bool,
    },
    /// Pull an image into a layout directory, every byte checked
    Pull {
        reference: String,
        out: PathBuf,
        /// Only this platform
        #[arg(long)]
        platform: Option<String>,
    },
    /// Load an image into docker, podman, containerd or kind, whichever is there
    Load {
        image: String,
        /// docker, podman, containerd or kind
        #[arg(long, value_name = "ENGINE")]
        to: Option<String>,
        /// Of an image for several platforms, this one
        #[arg(long)]
        platform: Option<String>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// An OCI layout directory
    Layout,
    /// One tar that is an OCI archive and a Docker archive
    Archive,
    /// The files, as a container sees them
    Rootfs,
    /// The bill of materials in SPDX
    Spdx,
    /// The bill of materials in CycloneDX
    Cyclonedx,
    /// What it was made from: an in-toto statement of SLSA provenance
    Provenance,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let images = Images::open(&global.config()?)?;
    let cx = Context { images: &images, plain_http: &args.plain_http, ui };
    match &args.action {
        Action::Inspect { image } => cx.inspect(image),
        Action::Layers { image, explain } => cx.layers(image, *explain),
        Action::Tree { image, depth } => cx.tree(image, *depth),
        Action::Diff { before, after } => cx.diff(before, after),
        Action::Why { image, file } => cx.why(image, file),
        Action::Export { image, out, format, compression, platform } => {
            let compression = compression.as_deref().map(Compression::parse).transpose();
            let compression = compression.map_err(|e| CliError::usage(e.to_string()))?;
            cx.export(image, out, *format, compression, parse_platform(platform.as_deref())?.as_ref())
        }
        Action::Push { image, reference, sbom, provenance } => cx.push(image, reference, *sbom, *provenance),
        Action::Pull { reference, out, platform } => {
            cx.pull(reference, out, parse_platform(platform.as_deref())?.as_ref())
        }
        Action::Load { image, to, platform } => {
            cx.load(image, to.as_deref(), parse_platform(platform.as_deref())?.as_ref())
        }
    }?;
    Ok(ExitStatus::Success)
}

/// Prints what an image is.
///
/// # Errors
/// If it cannot be read.
pub fn print_inspect(images: &Images, image: &str, ui: &Ui) -> Result<(), CliError> {
    Context { images, plain_http: &[], ui }.inspect(image)
}

/// Says which layer, package and object bring `file` into `image`.
///
/// # Errors
/// If the image cannot be read, or has no such file.
pub fn print_why(images: &Images, image: &str, file: &str, ui: &Ui) -> Result<(), CliError> {
    Context { images, plain_http: &[], ui }.why(image, file)
}

/// Compares two images.
///
/// # Errors
/// If one cannot be read.
pub fn print_diff(images: &Images, before: &str, after: &str, ui: &Ui) -> Result<(), CliError> {
    Context { images, plain_http: &[], ui }.diff(before, after)
}

fn parse_platform(text: Option<&str>) -> Result<Option<Platform>, CliError> {
    text.map(Platform::parse).transpose().map_err(|e| CliError::usage(e.to_string()))
}

struct Context<'a> {
    images: &'a Images,
    plain_http: &'a [String],
    ui: &'a Ui,
}

fn failed(e: ampoule_image::ImageError) -> CliError {
    cli_error(&e)
}

impl Context<'_> {
    fn inspect(&self, image: &str) -> Result<(), CliError> {
        let (_, opened) = self.images.open_image(image, self.plain_http)?;
        let found = inspect::inspect(&opened);
        if self.ui.json() {
            return self.ui.print_json(&found);
        }
        let report = &found.report;
        self.ui.print(format!("{}  {}", report.reference, report.digest))?;
        for (manifest, config) in report.manifests.iter().zip(&found.configs) {
            let size: u64 = manifest.layers.iter().map(|layer| layer.blob.size_bytes).sum();
            let layers = manifest.layers.len();
            self.ui.print(format!(
                "\n{}  {}  {layers} layers, {}",
                manifest.platform,
                manifest.digest,
                human_size(size)
            ))?;
            let run = &config.config;
            let mut lines: Vec<(&str, String)> = vec![
                ("created", config.created.clone().unwrap_or_default()),
                ("user", run.user.clone()),
                ("entrypoint", run.entrypoint.clone().unwrap_or_default().join(" ")),
                ("command", run.cmd.clone().unwrap_or_default().join(" ")),
                ("directory", run.working_dir.clone()),
                ("environment", run.env.clone().unwrap_or_default().join(" ")),
                ("ports", joined(run.exposed_ports.as_ref())),
                ("volumes", joined(run.volumes.as_ref())),
                ("stop signal", run.stop_signal.clone().unwrap_or_default()),
            ];
            if let Some(health) = &run.healthcheck {
                lines.push(("health check", health.test.join(" ")));
            }
            for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
                self.ui.print(format!("  {name:<12} {value}"))?;
            }
            for (name, value) in run.labels.iter().flatten() {
                self.ui.print(format!("  {:<12} {name}={value}", "label"))?;
            }
        }
        report.notes.iter().for_each(|note| self.ui.note(note));
        Ok(())
    }

    fn layers(&self, image: &str, explain: bool) -> Result<(), CliError> {
        let (plan, opened) = self.images.open_image(image, self.plain_http)?;
        let report = inspect::layers(&opened, plan.as_ref());
        if self.ui.json() {
            return self.ui.print_json(&report);
        }
        if explain && report.explained.is_empty() {
            self.ui.note("the plan of this image is not here: layers are listed without reasons");
        }
        for (i, manifest) in report.manifests.iter().enumerate() {
            if report.manifests.len() > 1 {
                self.ui.print(format!("{}:", manifest.platform))?;
            }
            // Layers of a base lie below those that the plan explains.
            let base = manifest.layers.len().saturating_sub(report.explained.get(i).map_or(0, Vec::len));
            for (n, layer) in manifest.layers.iter().enumerate() {
                let digest = &layer.blob.digest.to_string()[..19];
                self.ui.print(format!(
                    "{:>3}  {:>9}  {digest}  {}",
                    n + 1,
                    human_size(layer.blob.size_bytes),
                    layer.name
                ))?;
                let why =
                    n.checked_sub(base).and_then(|n| report.explained.get(i)?.get(n)).filter(|_| explain);
                if let Some(why) = why {
                    self.ui.print(format!("     {}", why.why))?;
                    for held in &why.holds {
                        self.ui.print(format!("       {held}"))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn tree(&self, image: &str, depth: usize) -> Result<(), CliError> {
        let (_, opened) = self.images.open_image(image, self.plain_http)?;
        let fs = rootfs::read(&opened, opened.image.manifest_for(None)).map_err(failed)?;
        let tree = inspect::tree(&fs);
        if self.ui.json() {
            return self.ui.print_json(&tree);
        }
        self.ui.print(format!("{:>9}  /", human_size(tree.size_bytes)))?;
        self.branch(&tree, 1, depth)
    }

    fn branch(&self, node: &TreeNode, level: usize, depth: usize) -> Result<(), CliError> {
        if level > depth {
            return Ok(());
        }
        for (name, below) in &node.below {
            let link = below.link.as_ref().map(|to| format!(" -> {to}")).unwrap_or_default();
            let slash = if below.below.is_empty() { "" } else { "/" };
            let indent = "  ".repeat(level);
            self.ui.print(format!("{:>9}  {indent}{name}{slash}{link}", human_size(below.size_bytes)))?;
            self.branch(below, level + 1, depth)?;
        }
        Ok(())
    }

    fn diff(&self, before: &str, after: &str) -> Result<(), CliError> {
        let (_, a) = self.images.open_image(before, self.plain_http)?;
        let (_, b) = self.images.open_image(after, self.plain_http)?;
        let diff = inspect::diff(&a, &b).map_err(failed)?;
        if self.ui.json() {
            return self.ui.print_json(&diff);
        }
        self.print_diff(&diff)
    }

    fn print_diff(&self, diff: &ImageDiff) -> Result<(), CliError> {
        if diff.is_same {
            return self.ui.print("the same image");
        }
        let (x, y) = diff.compressed_bytes;
        self.ui.print(format!(
            "{} -> {} compressed, {} layers shared",
            human_size(x),
            human_size(y),
            diff.shared_layers
        ))?;
        for (name, before, after) in &diff.config {
            let text = |v: &Option<serde_json::Value>| v.as_ref().map_or("-".to_owned(), ToString::to_string);
            self.ui.print(format!("config   {name}: {} -> {}", text(before), text(after)))?;
        }
        for change in &diff.packages {
            let text = |v: &Option<String>| v.clone().unwrap_or_else(|| "-".to_owned());
            let (before, after) = (text(&change.before), text(&change.after));
            self.ui.print(format!(
                "package  {} {before} -> {after} ({:+} bytes)",
                change.name, change.grown_bytes
            ))?;
        }
        for file in &diff.files {
            let package = file.package.as_ref().map(|p| format!("  [{p}]")).unwrap_or_default();
            let size = match (file.before_bytes, file.after_bytes) {
                (Some(x), Some(y)) if x != y => format!("  {x} -> {y} bytes"),
                _ => String::new(),
            };
            self.ui.print(format!("file     {} {}{size}{package}", file.change.join(", "), file.path))?;
        }
        Ok(())
    }

    fn why(&self, image: &str, file: &str) -> Result<(), CliError> {
        let found = match self.images.image_object(image) {
            Some(own) => {
                let plan = ampoule_image::plan::Plan::read(&own).map_err(failed)?;
                let projector = self.images.projector(&own, None);
                let found = why::why_planned(&projector, self.images.objects(), &plan, file);
                let has_base = plan.platforms.iter().any(|platform| platform.base.is_some());
                match found {
                    // The plan does not say what is in a base; its layers do.
                    Err(_) if has_base => {
                        let (_, opened) = self.images.open_image(image, self.plain_http)?;
                        why::why_layers(&opened, file).map_err(failed)?
                    }
                    found => found.map_err(failed)?,
                }
            }
            None => {
                let (_, opened) = self.images.open_image(image, self.plain_http)?;
                why::why_layers(&opened, file).map_err(failed)?
            }
        };
        if self.ui.json() {
            return self.ui.print_json(&found);
        }
        for one in found {
            self.ui.print(format!("{} ({})", one.path, one.platform))?;
            let line = |name: &str, value: Option<&str>| match value {
                Some(value) if !value.is_empty() => self.ui.print(format!("  {name:<8} {value}")),
                _ => Ok(()),
            };
            line("layer", Some(&one.layer))?;
            line("", one.layer_why.as_deref())?;
            line("object", one.object.as_deref())?;
            line("package", one.package.as_deref())?;
            line("kept", one.kept.as_deref())?;
            for pair in one.chain.windows(2) {
                line("from", Some(&format!("{} refers to {}", pair[0], pair[1])))?;
            }
        }
        Ok(())
    }

    fn export(
        &self,
        image: &str,
        out: &str,
        format: Option<ExportFormat>,
        compression: Option<Compression>,
        platform: Option<&Platform>,
    ) -> Result<(), CliError> {
        let by_name =
            if out == "-" || out.ends_with(".tar") { ExportFormat::Archive } else { ExportFormat::Layout };
        let format = format.unwrap_or(by_name);
        if out == "-" && format == ExportFormat::Layout {
            return Err(CliError::usage("a layout is a directory: it cannot go to standard output"));
        }
        let cache = &self.images.cache;
        let spoken_of = matches!(
            format,
            ExportFormat::Rootfs | ExportFormat::Spdx | ExportFormat::Cyclonedx | ExportFormat::Provenance
        );
        if spoken_of && compression.is_some() {
            return Err(CliError::usage("`--compression` is for layouts and archives"));
        }
        if format == ExportFormat::Rootfs {
            let (_, opened) = self.images.open_image(image, self.plain_http)?;
            let manifest = manifest_of(&opened.image, platform)?;
            let left_out = with_output(out, |to| rootfs::export(&opened, manifest, to).map_err(failed))?;
            left_out.iter().for_each(|path| self.ui.warn(&format!("`{path}` is a device, and was left out")));
            return Ok(());
        }
        if spoken_of {
            let document = self.document(image, format, platform)?;
            let write = |to: &mut dyn std::io::Write| {
                to.write_all(&document).map_err(|e| CliError::failed(format!("cannot write `{out}`: {e}")))
            };
            return with_output(out, write);
        }
        let image = self.whole(image, compression)?;
        manifest_of(&image, platform)?;
        match (format, out) {
            (ExportFormat::Layout, out) => image.write_layout(cache, Path::new(out)).map_err(failed)?,
            (_, "-") => {
                image.write_archive_to(cache, platform, &mut DataOut::lock()).map_err(failed)?;
            }
            (_, out) => image.write_archive(cache, platform, Path::new(out)).map_err(failed)?,
        }
        let report = image.report();
        if out != "-" && self.ui.json() {
            return self.ui.print_json(&report);
        }
        self.ui.note(&format!("{} {} written to {out}", report.reference, report.digest));
        report.notes.iter().for_each(|note| self.ui.note(note));
        Ok(())
    }

    /// Returns a document that speaks of a realised image.
    fn document(
        &self,
        image: &str,
        format: ExportFormat,
        platform: Option<&Platform>,
    ) -> Result<Vec<u8>, CliError> {
        let own = self.images.image_object(image).ok_or_else(|| {
            CliError::usage(format!(
                "`{image}` was not made here: its bills and its provenance are not known"
            ))
        })?;
        let (_, image) = self.images.project(&own, None, Need::Records)?;
        let name = match format {
            ExportFormat::Provenance => return provenance::statement(&self.images.store, &own, &image),
            ExportFormat::Cyclonedx => "cyclonedx.json",
            _ => "spdx.json",
        };
        let manifest = manifest_of(&image, platform)?;
        bill(&own, &image, manifest, name).map_err(failed)
    }

    /// Brings all of an image into the blob cache.
    fn whole(&self, image: &str, compression: Option<Compression>) -> Result<Image, CliError> {
        if let Some(own) = self.images.image_object(image) {
            return self.images.project(&own, compression, Need::Blobs).map(|(_, image)| image);
        }
        if compression.is_some() {
            return Err(CliError::usage("only a realised image can be compressed anew"));
        }
        self.images.whole_image(image, self.plain_http)
    }

    fn push(&self, image: &str, reference: &str, sbom: bool, provenance: bool) -> Result<(), CliError> {
        let registry = connect(reference.trim_start_matches("docker://"), self.plain_http)?;
        let cache = &self.images.cache;
        let own = self.images.image_object(image);
        if (sbom || provenance) && own.is_none() {
            return Err(CliError::usage(format!(
                "`{image}` was not made here: there is nothing to attach to it"
            )));
        }
        let mut attached = Vec::new();
        let report = match own {
            Some(own) => {
                let (plan, image) = self.images.project(&own, None, Need::Records)?;
                let make = || self.images.projector(&own, None).project(&plan, Need::Blobs).map(drop);
                // Made before anything is sent: an image without its statement was not asked for.
                let statement = provenance
                    .then(|| provenance::statement(&self.images.store, &own, &image))
                    .transpose()?;
                let report = push(&registry, &image, cache, &make);
                if sbom && report.is_ok() {
                    attached = attach_bills(&registry, cache, &own, &image).map_err(failed)?;
                }
                if let Some(bytes) = statement.filter(|_| report.is_ok()) {
                    let (name, kind) = DOCUMENT;
                    let annotations = &[("in-toto.io/predicate-type", PREDICATE)];
                    let attachment = Attachment { kind, name, bytes: &bytes, annotations };
                    attached.push(attach(&registry, cache, &image.top, &attachment).map_err(failed)?);
                }
                report
            }
            None => push(&registry, &self.whole(image, None)?, cache, &|| Ok(())),
        };
        let report = report.map_err(failed)?;
        if self.ui.json() {
            return self.ui.print_json(&Pushed { report, attached });
        }
        for one in &attached {
            self.ui.note(&format!("attached {} as {}", one.artifact_type, one.digest));
        }
        let count = |how: fn(&PushedHow) -> bool| report.blobs.iter().filter(|b| how(&b.how)).count();
        let what = if report.was_there {
            "was there already".to_owned()
        } else {
            format!(
                "{} blobs sent ({}), {} mounted, {} there already",
                count(|how| *how == PushedHow::Uploaded),
                human_size(report.sent_bytes),
                count(|how| matches!(how, PushedHow::Mounted { .. })),
                count(|how| *how == PushedHow::Present)
            )
        };
        self.ui.note(&what);
        self.ui.print(report.pinned)
    }

    fn pull(&self, reference: &str, out: &Path, platform: Option<&Platform>) -> Result<(), CliError> {
        let registry = connect(reference.trim_start_matches("docker://"), self.plain_http)?;
        let report = pull_layout(&registry, &self.images.cache, platform, out, true).map_err(failed)?;
        if self.ui.json() {
            return self.ui.print_json(&report);
        }
        self.ui.note(&format!("{} received", human_size(report.received_bytes)));
        self.ui.print(report.digest.to_string())
    }

    fn load(&self, image: &str, to: Option<&str>, platform: Option<&Platform>) -> Result<(), CliError> {
        let path: Vec<PathBuf> =
            std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        let engine = match to {
            Some(name) => Engine::parse(name).map_err(|e| CliError::usage(e.to_string()))?,
            None => load::find(&path).map_err(failed)?,
        };
        let image = self.whole(image, None)?;
        manifest_of(&image, platform)?;
        let report = load::load(&image, &self.images.cache, engine, platform).map_err(failed)?;
        if self.ui.json() {
            return self.ui.print_json(&report);
        }
        self.ui.print(if report.said.is_empty() {
            format!("loaded into {}", engine.program())
        } else {
            report.said
        })
    }
}

/// A push with what was attached.
#[derive(serde::Serialize)]
struct Pushed {
    #[serde(flatten)]
    report: PushReport,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attached: Vec<Attached>,
}

/// Attaches the bills of materials that lie in the image object at `own`.
fn attach_bills(
    registry: &Registry,
    cache: &BlobCache,
    own: &Path,
    image: &Image,
) -> ampoule_image::Result<Vec<Attached>> {
    let mut attached = Vec::new();
    for manifest in &image.manifests {
        for (name, kind) in ampoule_image::sbom::DOCUMENTS {
            let bytes = bill(own, image, manifest, name)?;
            let attachment = Attachment { kind, name, bytes: &bytes, annotations: &[] };
            attached.push(attach(registry, cache, &manifest.descriptor, &attachment)?);
        }
    }
    Ok(attached)
}

/// Reads a bill of materials of the image object at `own`.
fn bill(own: &Path, image: &Image, manifest: &ImageManifest, name: &str) -> ampoule_image::Result<Vec<u8>> {
    let platform = manifest.descriptor.platform.as_ref().filter(|_| image.manifests.len() > 1);
    let path = own.join(ampoule_image::sbom::directory(platform)).join(name);
    std::fs::read(&path).map_err(|e| ampoule_image::ImageError::io("read", &path, e))
}

/// Returns the manifest for `platform`, or the first if none is named.
fn manifest_of<'a>(image: &'a Image, platform: Option<&Platform>) -> Result<&'a ImageManifest, CliError> {
    match platform {
        Some(platform) => image.find_manifest(platform).map_err(|e| CliError::usage(e.to_string())),
        None => Ok(image.manifest_for(None)),
    }
}

fn joined<V>(names: Option<&std::collections::BTreeMap<String, V>>) -> String {
    names.map(|names| names.keys().cloned().collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

/// Writes to a file that is there whole or not at all, or to standard output.
fn with_output<T>(
    out: &str,
    write: impl FnOnce(&mut dyn std::io::Write) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let fail = |e: std::io::Error| {
        CliError::failed(format!("cannot write `{out}`: {}", ampoule_image::error::without_place(e)))
    };
    let path = Path::new(out);
    let is_pipe = path.metadata().is_ok_and(|meta| !meta.is_file());
    if out == "-" || is_pipe {
        let mut to: Box<dyn std::io::Write> = if out == "-" {
            Box::new(DataOut::lock())
        } else {
            Box::new(std::fs::File::create(out).map_err(fail)?)
        };
        let done = write(&mut to)?;
        to.flush().map_err(fail)?;
        return Ok(done);
    }
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".ampoule-").tempfile_in(parent).map_err(fail)?;
    let mut to = std::io::BufWriter::new(file);
    let done = write(&mut to)?;
    let file = to.into_inner().map_err(|e| fail(e.into_error()))?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(done)
}
