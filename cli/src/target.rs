//! What `why`, `tree` and `diff` look at: a file, a result, an image, a derivation.
//!
//! | what is given | what is meant |
//! |---|---|
//! | `docker://…`, a layout or archive from elsewhere | that image |
//! | a file or directory of the language | what it describes: its output, or with `--drv` its derivation |
//! | a store path, `result`, a layout that was made here | that object, or with `--drv` the derivation that made it |

use std::path::Path;
use std::sync::Arc;

use ampoule_eval::FoundDerivation;
use ampoule_realise::DerivationSource;
use ampoule_store::{Derivation, Store, StoreError, StorePath};

use crate::args::GlobalArgs;
use crate::error::CliError;
use crate::images::Images;
use crate::realising::{BuildArgs, Derivations};
use crate::session::{ExpressionArgs, Session};
use crate::ui::Ui;
use crate::world::{Keeps, ProjectWorld};

/// How targets are read.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TargetArgs {
    /// The attribute of a file: `a.b.0`
    #[arg(short = 'A', long = "attr", value_name = "PATH", add = crate::candidates::attributes())]
    pub attribute: Option<String>,

    /// Look at how it is built instead of what it holds
    #[arg(long)]
    pub drv: bool,
}

/// What a word of the command line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An image that is no object of this store, as the command line names it.
    Image(String),
    /// An object that is there; maybe an image's.
    Object(StorePath),
    /// A derivation, which a [`Looking`] can read.
    Derivation(StorePath),
}

/// The store, and the evaluations that found derivations.
pub struct Looking<'a> {
    global: &'a GlobalArgs,
    ui: &'a Ui,
    /// The store and its images.
    pub images: Images,
    worlds: Vec<Arc<ProjectWorld>>,
}

impl<'a> Looking<'a> {
    /// Opens the store.
    ///
    /// # Errors
    /// If the configuration is wrong, or the store cannot be opened.
    pub fn new(global: &'a GlobalArgs, ui: &'a Ui) -> Result<Self, CliError> {
        let images = Images::open(&global.config()?)?;
        Ok(Self { global, ui, images, worlds: Vec::new() })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.images.store
    }

    /// Finds out what `text` means.
    ///
    /// # Errors
    /// If it means nothing, if a file cannot be evaluated or describes several things, and if what it
    /// describes is asked for and not there.
    pub fn find(&mut self, text: &str, args: &TargetArgs) -> Result<Target, CliError> {
        if text.starts_with("docker://") {
            return Ok(Target::Image(text.to_owned()));
        }
        if is_source(Path::new(text)) {
            return self.evaluated(text, args);
        }
        if let Ok(path) = self.store().parse_any(text) {
            return self.stored(path, args.drv);
        }
        if let Some(own) = self.images.image_object(text)
            && let Some(path) = self.store().root().object_of(&own)
        {
            return self.stored(path, args.drv);
        }
        if Path::new(text).exists() {
            return Ok(Target::Image(text.to_owned()));
        }
        Err(CliError::usage(format!("there is no `{text}`"))
            .hint("name a file, a result, a store path, a layout, an archive, or `docker://…`"))
    }

    fn stored(&self, path: StorePath, drv: bool) -> Result<Target, CliError> {
        if path.is_derivation() {
            return Ok(Target::Derivation(path));
        }
        let info = self.store().expect_info(&path)?;
        if !drv {
            return Ok(Target::Object(path));
        }
        let deriver = info
            .deriver
            .ok_or_else(|| CliError::failed(format!("nothing is known of what made `{}`", path.name())))?;
        Ok(Target::Derivation(deriver))
    }

    fn evaluated(&mut self, text: &str, args: &TargetArgs) -> Result<Target, CliError> {
        let expression = ExpressionArgs {
            files: vec![text.to_owned()],
            attributes: args.attribute.iter().cloned().collect(),
            ..ExpressionArgs::default()
        };
        let config = self.global.config()?;
        let options = BuildArgs::default().options(&config)?;
        let session = Session::new(&expression, &config, Keeps::Derivations, options)?;
        let found: Vec<Vec<FoundDerivation>> =
            session.each(self.ui, |ev, value, arguments| Ok(ev.derivations(value, arguments)?))?;
        let found: Vec<FoundDerivation> = found.into_iter().flatten().collect();
        let [one] = found.as_slice() else {
            let names: Vec<&str> = found.iter().take(8).map(|one| one.attr_path.as_str()).collect();
            return Err(CliError::usage(format!("`{text}` describes {} derivations", found.len()))
                .hint(format!("choose one with -A: {}", names.join(", "))));
        };
        let drv = self.store().dir().parse(&one.drv_path).map_err(|e| CliError::usage(e.to_string()))?;
        self.worlds.push(session.world);
        if args.drv {
            return Ok(Target::Derivation(drv));
        }
        let derivation = self.derivation(&drv)?;
        let output = if one.output_name.is_empty() { "out" } else { one.output_name.as_str() };
        let path = derivation.outputs.get(output).and_then(|output| output.path());
        match path {
            Some(path) if self.store().is_valid(path)? => Ok(Target::Object(path.clone())),
            _ => Err(CliError::failed(format!("`{text}` has not been realised"))
                .hint(format!("run `ampoule realise {text}`, or look at how it is built with --drv"))),
        }
    }
}

impl DerivationSource for Looking<'_> {
    fn derivation(&self, path: &StorePath) -> Result<Arc<Derivation>, StoreError> {
        for world in &self.worlds {
            if world.has_text(path) {
                return Derivations { world, store: self.store() }.derivation(path);
            }
        }
        self.store().read_derivation(path).map(Arc::new)
    }
}

/// Whether a path is a file of the language, or a directory with one that stands for it.
pub fn is_source(path: &Path) -> bool {
    let ends = path.extension().is_some_and(|ending| ending == "img" || ending == "nix");
    if path.is_dir() {
        return path.join("default.img").is_file() || path.join("default.nix").is_file();
    }
    ends && path.exists()
}
