//! Images for the command: the builtin builders that make and fetch them, and where
//! their layers are kept.

use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use ampoule_image::blobs::{BlobCache, Collected};
use ampoule_image::build::{ObjectFacts, Objects, build_image_object};
use ampoule_image::compress::Compression;
use ampoule_image::layout::Layout;
use ampoule_image::oci::Platform;
use ampoule_image::open::{self, OpenImage};
use ampoule_image::plan::{ObjectSource, PLAN_FILE, Plan};
use ampoule_image::project::{Image, Need, Projector};
use ampoule_image::registry::{
    CredentialSources, Reference, Registry, RegistrySettings, certificate_directories, open_remote, pull,
    pull_layout,
};
use ampoule_image::slices::SliceLists;
use ampoule_image::store_objects::StoreObjects;
use ampoule_image::{Digest, ImageError};
use ampoule_net::{Client, ClientConfig};
use ampoule_realise::Builders;
use ampoule_realise::builtin::{
    Attributes, BuiltinBuilder, BuiltinContext, BuiltinError, BuiltinErrorKind, InputPaths, Wanted,
};
use ampoule_store::{Store, StorePath, StoreRoot};

use crate::config::Config;
use crate::error::{CliError, ExitStatus, IoContext as _};

/// `builtin:image`: the image's small store object.
pub struct ImageBuilder;

impl BuiltinBuilder for ImageBuilder {
    fn name(&self) -> &str {
        "image"
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        let asked = cx.attrs.get("image").ok_or_else(|| {
            BuiltinError::build("attribute `image` is missing (and `__structuredAttrs` must be true)")
        })?;
        let inputs = Inputs { paths: cx.inputs, store_dir: cx.store_dir.as_str() };
        let place = cx.output("out")?;
        let out = PathBuf::from(format!("/proc/self/fd/{}/{}", place.dir.as_raw_fd(), place.name));
        let report = build_image_object(asked, &inputs, &out).map_err(|e| builtin_error(&e))?;
        report.lines.iter().for_each(|line| cx.events.log(line));
        Ok(())
    }
}

/// The inputs of a derivation as a store.
struct Inputs<'a> {
    paths: &'a dyn InputPaths,
    store_dir: &'a str,
}

impl ObjectSource for Inputs<'_> {
    fn locate(&self, store_path: &str) -> ampoule_image::Result<PathBuf> {
        self.paths.physical(store_path).ok_or_else(|| not_an_input(store_path))
    }
}

impl Objects for Inputs<'_> {
    fn store_dir(&self) -> &str {
        self.store_dir
    }

    fn facts(&self, store_path: &str) -> ampoule_image::Result<ObjectFacts> {
        let info = self.paths.info(store_path).ok_or_else(|| not_an_input(store_path))?;
        let print = |path| format!("{}/{path}", self.store_dir);
        Ok(ObjectFacts {
            nar_size_bytes: info.nar_size_bytes,
            references: info.references.iter().map(print).collect(),
        })
    }
}

fn not_an_input(path: &str) -> ImageError {
    ImageError::invalid(format!("`{path}` is not an input of this image"))
}

fn builtin_error(error: &ImageError) -> BuiltinError {
    let kind = match error {
        ImageError::Lint { .. } => BuiltinErrorKind::Policy,
        ImageError::Registry { .. } => BuiltinErrorKind::Fetch,
        ImageError::DigestMismatch { .. } | ImageError::SizeMismatch { .. } => BuiltinErrorKind::HashMismatch,
        _ => BuiltinErrorKind::Build,
    };
    BuiltinError { kind, ..BuiltinError::build(error.to_string()) }
}

/// `builtin:pull-image`: an OCI layout of an image in a registry, named by digest; a
/// fixed output.
pub struct PullBuilder {
    client: Client,
    settings: RegistrySettings,
    cache: PathBuf,
}

impl PullBuilder {
    /// Pulls with `client`, through the blob cache at `cache`.
    pub fn new(client: Client, cache: PathBuf) -> Self {
        Self { client, settings: registry_settings(&[]), cache }
    }

    fn reference(attrs: &Attributes) -> Result<Reference, BuiltinError> {
        let name = attrs.required("image")?;
        let digest = attrs.required("digest")?;
        let wrong = |e: ImageError| BuiltinError::build(e.to_string());
        let mut reference: Reference = name.parse().map_err(wrong)?;
        reference.digest = Some(digest.parse::<Digest>().map_err(wrong)?);
        Ok(reference)
    }
}

impl BuiltinBuilder for PullBuilder {
    fn name(&self) -> &str {
        "pull-image"
    }

    fn is_fetch(&self) -> bool {
        true
    }

    fn wants(&self, attrs: &Attributes) -> Vec<Wanted> {
        let reference = Self::reference(attrs).ok();
        reference.map(|r| Wanted { url: format!("docker://{r}"), size_bytes: None }).into_iter().collect()
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        let reference = Self::reference(cx.attrs)?;
        let platform = cx.attrs.text("platform")?.map(Platform::parse).transpose();
        let platform = platform.map_err(|e| builtin_error(&e))?;
        let place = cx.output("out")?;
        let out = PathBuf::from(format!("/proc/self/fd/{}/{}", place.dir.as_raw_fd(), place.name));
        let pulled = Registry::new(self.client.clone(), self.settings.clone(), reference)
            .and_then(|registry| {
                let cache = BlobCache::open(&self.cache)?;
                pull_layout(&registry, &cache, platform.as_ref(), &out, false)
            })
            .map_err(|e| builtin_error(&e))?;
        cx.events.log(&format!("pulled {} ({} bytes)", pulled.reference, pulled.received_bytes));
        Ok(())
    }
}

/// Adds `builtin:image` and `builtin:pull-image` to the realiser's builders.
#[allow(dead_code, reason = "called where a realiser is made")]
pub fn register(builders: &mut Builders, client: &Client, root: &StoreRoot) {
    builders.register(ImageBuilder);
    builders.register(PullBuilder::new(client.clone(), cache_dir(root)));
}

/// How registries are spoken to from here: http for `plain_http` beside loopback.
pub fn registry_settings(plain_http: &[String]) -> RegistrySettings {
    RegistrySettings {
        credentials: CredentialSources::from_env(&|name| std::env::var(name).ok()),
        certificates: certificate_directories(&|name| std::env::var(name).ok()),
        plain_http: plain_http.iter().cloned().collect(),
        ..RegistrySettings::default()
    }
}

/// Words for an image's error, and whose fault it is.
pub fn cli_error(error: &ImageError) -> CliError {
    let status = match error {
        ImageError::Lint { .. } => ExitStatus::Policy,
        ImageError::Registry { .. } => ExitStatus::Fetch,
        ImageError::DigestMismatch { .. } | ImageError::SizeMismatch { .. } => ExitStatus::HashMismatch,
        _ => ExitStatus::Evaluation,
    };
    CliError::new(status, error.to_string())
}

/// The store and the blob cache beside it.
pub struct Images {
    /// The store.
    pub store: Store,
    /// Layers that were made or pulled.
    pub cache: BlobCache,
    objects: StoreObjects,
}

/// Where the blob cache of a store lies.
pub fn cache_dir(root: &StoreRoot) -> PathBuf {
    root.path().join("image-cache")
}

/// Where layouts of images lie, by digest, so that the same image is written once.
pub fn layouts_dir(root: &StoreRoot) -> PathBuf {
    root.path().join("layouts")
}

/// In the directory of layouts: a link to each `result` that leads to one of them.
const RESULTS: &str = "results";

/// What the names of roots begin with that keep the objects of results.
const RESULT_ROOT: &str = "result-";

/// Remembers that `link` leads to a layout, which is kept as long as it does, with the object that it was made from.
///
/// # Errors
/// If that cannot be written down.
pub fn note_result(store: &Store, link: &Path, object: &StorePath) -> Result<(), CliError> {
    let link = std::path::absolute(link).while_doing(|| format!("cannot find `{}`", link.display()))?;
    let dir = layouts_dir(store.root()).join(RESULTS);
    std::fs::create_dir_all(&dir).while_doing(|| format!("cannot make `{}`", dir.display()))?;
    let digits = Digest::of(link.as_os_str().as_encoded_bytes()).to_hex();
    let name = dir.join(&digits);
    match std::os::unix::fs::symlink(&link, &name) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(e).while_doing(|| format!("cannot make the link `{}`", name.display()))?;
        }
        _ => {}
    }
    Ok(store.add_root(&format!("{RESULT_ROOT}{digits}"), object)?)
}

/// The link on whose behalf a root keeps an image's object.
pub fn result_of_root(root: &StoreRoot, name: &str) -> Option<PathBuf> {
    std::fs::read_link(layouts_dir(root).join(RESULTS).join(name.strip_prefix(RESULT_ROOT)?)).ok()
}

/// The object that a person names: a store path, a link to one, or a layout that was made of an image's object, as
/// `result` is.
///
/// # Errors
/// If it is none of these.
pub fn object_named(store: &Store, text: &str) -> Result<StorePath, CliError> {
    let wrong = match store.parse_any(text) {
        Ok(path) => return Ok(path),
        Err(wrong) => wrong,
    };
    let own = if Path::new(text).is_dir() { Images::of(store.clone())?.image_object(text) } else { None };
    own.and_then(|own| store.root().object_of(&own)).ok_or_else(|| wrong.into())
}

/// Keeps the objects no longer whose links are gone or lead elsewhere.
///
/// # Errors
/// If a file cannot be read or removed.
pub fn forget_results(store: &Store) -> Result<(), CliError> {
    let layouts = layouts_dir(store.root());
    let notes = layouts.join(RESULTS);
    let failed = || format!("cannot clean `{}`", notes.display());
    for note in list(&notes).while_doing(failed)? {
        if result_layout(&layouts, &note).is_none() {
            let digits = note.file_name().unwrap_or_default().to_string_lossy();
            store.remove_root(&format!("{RESULT_ROOT}{digits}"))?;
            std::fs::remove_file(&note).while_doing(failed)?;
        }
    }
    Ok(())
}

/// The layout that a remembered link still leads to.
fn result_layout(layouts: &Path, note: &Path) -> Option<PathBuf> {
    let layout = std::fs::read_link(note).and_then(std::fs::read_link).ok()?;
    layout.starts_with(layouts).then_some(layout)
}

/// What is in a directory; nothing if it is not there.
fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Deletes the layers and layouts of images whose objects are gone and to which no
/// `result` leads, unless somebody works with them.
///
/// # Errors
/// If a file cannot be read or removed.
pub fn collect(root: &StoreRoot) -> Result<Option<Collected>, CliError> {
    if !cache_dir(root).is_dir() {
        return Ok(None);
    }
    let cache = BlobCache::open(cache_dir(root)).map_err(|e| cli_error(&e))?;
    let layouts = layouts_dir(root);
    let collected = cache.collect(&|live| collect_layouts(&layouts, live)).map_err(|e| cli_error(&e))?;
    Ok(collected)
}

/// Deletes the layouts that are not of an image of `live` and to which no link leads.
fn collect_layouts(layouts: &Path, live: &dyn Fn(&Digest) -> bool) -> std::io::Result<()> {
    let notes = list(&layouts.join(RESULTS))?;
    let led_to: Vec<PathBuf> = notes.iter().filter_map(|note| result_layout(layouts, note)).collect();
    for layout in list(layouts)? {
        let name = layout.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let digest = name.strip_prefix("sha256-").and_then(|rest| Digest::from_hex(rest.get(..64)?));
        let is_dead = digest.is_some_and(|digest| !live(&digest)) && !led_to.contains(&layout);
        if is_dead {
            std::fs::remove_dir_all(&layout)?;
        }
    }
    Ok(())
}

impl Images {
    /// Opens the store that the configuration names.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(config: &Config) -> Result<Self, CliError> {
        Self::of(crate::store::open(config)?)
    }

    /// Uses a store that is open.
    ///
    /// # Errors
    /// If the cache cannot be made.
    pub fn of(store: Store) -> Result<Self, CliError> {
        let cache = BlobCache::open(cache_dir(store.root())).map_err(|e| cli_error(&e))?;
        Ok(Self { objects: StoreObjects::new(store.clone()), store, cache })
    }

    /// Returns the store, as plans see it.
    pub fn objects(&self) -> &StoreObjects {
        &self.objects
    }

    /// Returns where the image object lies that `text` means (a store path, a link to
    /// one, or a layout that was made from one), if it means one.
    pub fn image_object(&self, text: &str) -> Option<PathBuf> {
        let here = Path::new(text).join(PLAN_FILE).is_file().then(|| PathBuf::from(text));
        let stored = || self.store.parse_any(text).ok().map(|path| self.store.real_path(&path));
        let made_from = || {
            let (path, name) = split_name(text);
            let top = Layout::open(path).ok()?.find(name).ok()?;
            self.cache.plan_of(&top.digest)
        };
        let has_plan = |path: &PathBuf| path.join(PLAN_FILE).is_file();
        here.or_else(|| stored().filter(has_plan)).or_else(|| made_from().filter(has_plan))
    }

    /// Prepares the projection of the image object at `own`.
    pub fn projector<'a>(&'a self, own: &'a Path, compression: Option<Compression>) -> Projector<'a> {
        let threads =
            std::thread::available_parallelism().ok().map(NonZeroUsize::get).and_then(NonZeroUsize::new);
        Projector {
            cache: &self.cache,
            objects: &self.objects,
            own,
            threads,
            compression,
            slices: SliceLists::default(),
        }
    }

    /// Projects the image object at `own`.
    ///
    /// # Errors
    /// Those of reading the store and writing the cache.
    pub fn project(
        &self,
        own: &Path,
        compression: Option<Compression>,
        need: Need,
    ) -> Result<(Plan, Image), CliError> {
        let plan = Plan::read(own).map_err(|e| cli_error(&e))?;
        let image = self.projector(own, compression).project(&plan, need).map_err(|e| cli_error(&e))?;
        if compression.is_none() {
            let own = std::path::absolute(own).unwrap_or_else(|_| own.to_owned());
            self.cache.note_plan(&image.top.digest, &own).map_err(|e| cli_error(&e))?;
        }
        Ok((plan, image))
    }

    /// Brings all of an image into the blob cache, whatever `text` means.
    ///
    /// # Errors
    /// As [`Self::open_image`].
    pub fn whole_image(&self, text: &str, plain_http: &[String]) -> Result<Image, CliError> {
        let failed = |e: ImageError| cli_error(&e);
        if let Some(rest) = text.strip_prefix("docker://") {
            let registry = connect(rest, plain_http)?;
            // All its layers at once, where opening it would fetch them one by one.
            pull(&registry, &self.cache, None).map_err(failed)?;
        }
        let (_, opened) = self.open_image(text, plain_http)?;
        opened.into_cache(&self.cache).map_err(failed)
    }

    /// Opens whatever `text` means: an image object, a layout, an archive, or
    /// `docker://…`, of which layers are fetched when they are read.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn open_image(
        &self,
        text: &str,
        plain_http: &[String],
    ) -> Result<(Option<Plan>, OpenImage), CliError> {
        let failed = |e: ImageError| cli_error(&e);
        if let Some(rest) = text.strip_prefix("docker://") {
            let registry = connect(rest, plain_http)?;
            return open_remote(registry, &self.cache).map(|opened| (None, opened)).map_err(failed);
        }
        if let Some(own) = self.image_object(text) {
            let (plan, image) = self.project(&own, None, Need::Blobs)?;
            let opened = open::projected(image, &self.cache).map_err(failed)?;
            return Ok((Some(plan), opened));
        }
        let (path, name) = split_name(text);
        if crate::target::is_source(Path::new(text)) {
            return Err(CliError::usage(format!("`{text}` describes an image, and is none"))
                .hint(format!("run `ampoule realise {text}`, and name its `result`")));
        }
        if !path.exists() {
            return Err(CliError::usage(format!("there is no `{text}`"))
                .hint("give a realised image, a layout directory, an archive, or `docker://…`"));
        }
        open::open(&path, name).map(|opened| (None, opened)).map_err(failed)
    }
}

/// Connects to a registry.
///
/// # Errors
/// For what is no reference, and if nothing answers.
pub fn connect(reference: &str, plain_http: &[String]) -> Result<Registry, CliError> {
    let reference: Reference = reference.parse().map_err(|e: ImageError| CliError::usage(e.to_string()))?;
    let client = Client::new(ClientConfig::from_env());
    Registry::new(client, registry_settings(plain_http), reference).map_err(|e| cli_error(&e))
}

/// Splits `PATH:NAME`, as skopeo writes it, after a path that exists; one that exists whole
/// is not split.
fn split_name(text: &str) -> (PathBuf, Option<&str>) {
    let at = |i: usize| (PathBuf::from(&text[..i]), Some(&text[i + 1..]));
    let exists = |i: &usize| Path::new(&text[..*i]).exists();
    if Path::new(text).exists() {
        return (PathBuf::from(text), None);
    }
    // A name may have colons of its own: `app.tar:registry.example:5000/app:v1`.
    let mut colons = text.match_indices(':').map(|(i, _)| i);
    let found = colons.clone().rev().find(exists).or_else(|| colons.next_back());
    found.map_or_else(|| (PathBuf::from(text), None), at)
}
