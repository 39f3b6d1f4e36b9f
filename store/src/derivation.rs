//! Derivations: what to run, on what, to make which outputs.
//!
//! A [`DerivationDraft`] says what is wanted and has no output paths. [`DerivationDraft::finish`]
//! computes them and gives a [`Derivation`], whose text ([`Derivation::to_aterm`]) is the `.drv`
//! file and whose path is that text's.
//!
//! Output paths of an input-addressed derivation come from its *modulo hash*: the hash of its text
//! in which every input derivation is replaced by its own modulo hash (a fixed-output one by the
//! hash of what it promises), and every output path by nothing. So a fetch may change its mirrors
//! without changing what is built from it. [`ModuloHashes`] remembers these hashes: each is
//! computed once, however wide or deep the graph.
//!
//! ```
//! use ampoule_store::{DerivationDraft, ModuloHashes, Outputs, StoreDir};
//!
//! let (dir, hashes) = (StoreDir::default(), ModuloHashes::default());
//! let mut draft = DerivationDraft::new("x", Outputs::InputAddressed(vec!["out".into()]));
//! draft.system = "x86_64-linux".into();
//! draft.builder = "/bin/sh".into();
//! for (name, value) in [("name", "x"), ("system", "x86_64-linux"), ("builder", "/bin/sh")] {
//!     draft.environment.insert(name.into(), value.into());
//! }
//! let derivation = draft.finish(&dir, &hashes).unwrap();
//! let (path, text) = derivation.to_text_object(&dir).unwrap();
//! assert!(text.starts_with(b"Derive([(\"out\",\"/nix/store/"));
//! assert_eq!(path.name(), "x.drv");
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::{Arc, LazyLock, RwLock};

use bstr::BString;

use crate::aterm::{self, ATermError, Inputs};
use crate::path::{self, PathError};
use crate::{AddressError, ContentAddress, Hash, HashAlgo, Method, StoreDir, StorePath, base32};

/// What a derivation's outputs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// These names; each path follows from the inputs.
    InputAddressed(Vec<String>),
    /// One output `out`, whose contents are known beforehand.
    Fixed(ContentAddress),
    /// These names; each path follows from what the build makes.
    Floating {
        /// The names.
        names: Vec<String>,
        /// How contents will be hashed.
        method: Method,
        /// With what.
        algo: HashAlgo,
    },
}

/// Which outputs of an input derivation are used. Cheap to clone; nearly always it is `out` alone, and
/// that is in memory once: a derivation may have as many inputs as there are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputNames(Arc<BTreeSet<String>>);

static NO_OUTPUT: LazyLock<OutputNames> = LazyLock::new(|| OutputNames(Arc::default()));
static OUT_ALONE: LazyLock<OutputNames> =
    LazyLock::new(|| OutputNames(Arc::new(BTreeSet::from(["out".to_owned()]))));

impl OutputNames {
    /// `out` alone.
    #[must_use]
    pub fn out() -> Self {
        OUT_ALONE.clone()
    }

    /// Returns a set of one's own.
    #[must_use]
    pub fn to_set(&self) -> BTreeSet<String> {
        BTreeSet::clone(&self.0)
    }

    /// Adds one.
    pub fn insert(&mut self, name: String) {
        if self.0.is_empty() && name == "out" {
            *self = Self::out();
        } else if !self.0.contains(&name) {
            Arc::make_mut(&mut self.0).insert(name);
        }
    }
}

impl Default for OutputNames {
    fn default() -> Self {
        NO_OUTPUT.clone()
    }
}

impl From<BTreeSet<String>> for OutputNames {
    fn from(names: BTreeSet<String>) -> Self {
        if names.len() == 1 && names.contains("out") { Self::out() } else { Self(Arc::new(names)) }
    }
}

impl<const N: usize> From<[String; N]> for OutputNames {
    fn from(names: [String; N]) -> Self {
        Self::from(BTreeSet::from(names))
    }
}

impl Deref for OutputNames {
    type Target = BTreeSet<String>;
    fn deref(&self) -> &BTreeSet<String> {
        &self.0
    }
}

/// A derivation whose output paths are not computed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivationDraft {
    /// The name, without `.drv`.
    pub name: String,
    /// What it makes.
    pub outputs: Outputs,
    /// Derivations that must be realised before, and which of their outputs are used.
    pub input_derivations: BTreeMap<StorePath, OutputNames>,
    /// Objects that must be there before.
    pub input_sources: BTreeSet<StorePath>,
    /// On what kind of machine it runs, or `builtin`.
    pub system: BString,
    /// The program, or `builtin:NAME`.
    pub builder: BString,
    /// Its arguments.
    pub arguments: Vec<BString>,
    /// Its variables, without those of the outputs: [`Self::finish`] adds them.
    pub environment: BTreeMap<BString, BString>,
}

/// One output of a [`Derivation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DerivationOutput {
    /// The path follows from the inputs.
    InputAddressed(StorePath),
    /// The contents are known beforehand.
    Fixed {
        /// What they hash to.
        address: ContentAddress,
        /// The path that follows from it.
        path: StorePath,
    },
    /// The path follows from what the build makes.
    Floating {
        /// How contents will be hashed.
        method: Method,
        /// With what.
        algo: HashAlgo,
    },
    /// Input-addressed, but an input's path is not known before it is built.
    Deferred,
}

impl DerivationOutput {
    /// Returns the path, if it is known before the build.
    #[must_use]
    pub fn path(&self) -> Option<&StorePath> {
        match self {
            Self::InputAddressed(path) | Self::Fixed { path, .. } => Some(path),
            Self::Floating { .. } | Self::Deferred => None,
        }
    }
}

/// What to run, on what, to make which outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    /// The name, without `.drv`.
    pub name: String,
    /// What it makes, by output name.
    pub outputs: BTreeMap<String, DerivationOutput>,
    /// Derivations that must be realised before, and which of their outputs are used.
    pub input_derivations: BTreeMap<StorePath, OutputNames>,
    /// Objects that must be there before.
    pub input_sources: BTreeSet<StorePath>,
    /// On what kind of machine it runs, or `builtin`.
    pub system: BString,
    /// The program, or `builtin:NAME`.
    pub builder: BString,
    /// Its arguments.
    pub arguments: Vec<BString>,
    /// Its variables.
    pub environment: BTreeMap<BString, BString>,
}

/// A derivation that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DerivationError {
    /// A name that no store object can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A hash or method.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The text of a `.drv` file.
    #[error("error parsing derivation '{name}': {error}")]
    Text {
        /// Name of the derivation.
        name: String,
        /// What is wrong, and where.
        error: ATermError,
    },
    /// There must be at least one output.
    #[error("derivation '{0}' has no outputs")]
    NoOutputs(String),
    /// Outputs of different kinds.
    #[error("derivation '{0}' mixes outputs of different kinds")]
    MixedOutputs(String),
    /// A fixed output is alone and called `out`.
    #[error("derivation '{0}': a fixed-output derivation has one output, 'out'")]
    FixedNotOut(String),
    /// The modulo hash of an input is not known.
    #[error("derivation '{name}' needs '{input}', which is not known")]
    UnknownInput {
        /// Name of the derivation.
        name: String,
        /// Its input.
        input: StorePath,
    },
    /// A recorded path is not the computed one.
    #[error("derivation '{name}' has incorrect output '{output}', should be '{expected}', is '{found}'")]
    WrongOutputPath {
        /// Name of the derivation.
        name: String,
        /// Its output.
        output: String,
        /// What the derivation's hash gives.
        expected: String,
        /// What is written in it.
        found: String,
    },
    /// The variable called as an output is not its path.
    #[error("derivation '{name}' has incorrect environment variable '{output}', should be '{expected}'")]
    WrongOutputVariable {
        /// Name of the derivation.
        name: String,
        /// Its output.
        output: String,
        /// The output's path.
        expected: String,
    },
}

/// The hash of a derivation with its inputs replaced by theirs. See the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuloHash {
    /// The hash; the same for all outputs.
    pub hash: Hash,
    /// Whether paths made from it are not known before something is built.
    pub is_deferred: bool,
}

/// Remembers the modulo hash of each derivation. Several threads may share one.
#[derive(Debug, Default)]
pub struct ModuloHashes(RwLock<rustc_hash::FxHashMap<StorePath, ModuloHash>>);

impl ModuloHashes {
    /// Returns what is remembered.
    #[must_use]
    pub fn get(&self, drv: &StorePath) -> Option<ModuloHash> {
        self.0.read().expect("nothing panics while it holds this lock").get(drv).copied()
    }

    /// Remembers.
    pub fn insert(&self, drv: StorePath, hash: ModuloHash) {
        self.0.write().expect("nothing panics while it holds this lock").insert(drv, hash);
    }
}

impl DerivationDraft {
    /// Begins with nothing but a name and outputs.
    #[must_use]
    pub fn new(name: impl Into<String>, outputs: Outputs) -> Self {
        Self {
            name: name.into(),
            outputs,
            input_derivations: BTreeMap::new(),
            input_sources: BTreeSet::new(),
            system: BString::default(),
            builder: BString::default(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        }
    }

    /// Computes the output paths, and puts them into the environment.
    ///
    /// All input derivations must be in `hashes`; the result's own hash is *not* put there, since
    /// most derivations are nobody's input: see [`Derivation::remember`].
    ///
    /// # Errors
    /// [`DerivationError`].
    pub fn finish(self, dir: &StoreDir, hashes: &ModuloHashes) -> Result<Derivation, DerivationError> {
        let mut derivation = Derivation {
            name: self.name,
            outputs: BTreeMap::new(),
            input_derivations: self.input_derivations,
            input_sources: self.input_sources,
            system: self.system,
            builder: self.builder,
            arguments: self.arguments,
            environment: self.environment,
        };
        match self.outputs {
            Outputs::Fixed(address) => derivation.set_fixed(dir, address)?,
            Outputs::Floating { names, method, algo } => derivation.set_floating(names, method, algo),
            Outputs::InputAddressed(names) => derivation.set_input_addressed(names, dir, hashes)?,
        }
        if derivation.outputs.is_empty() {
            return Err(DerivationError::NoOutputs(derivation.name));
        }
        Ok(derivation)
    }
}

impl Derivation {
    fn set_fixed(&mut self, dir: &StoreDir, address: ContentAddress) -> Result<(), DerivationError> {
        let path = dir.fixed_path(&self.name, &address)?;
        self.environment.insert("out".into(), dir.print(&path).into());
        self.outputs.insert("out".to_owned(), DerivationOutput::Fixed { address, path });
        Ok(())
    }

    fn set_floating(&mut self, names: Vec<String>, method: Method, algo: HashAlgo) {
        for name in names {
            self.environment.insert(name.as_str().into(), placeholder(&name).into());
            self.outputs.insert(name, DerivationOutput::Floating { method, algo });
        }
    }

    fn set_input_addressed(
        &mut self,
        names: Vec<String>,
        dir: &StoreDir,
        hashes: &ModuloHashes,
    ) -> Result<(), DerivationError> {
        for name in names {
            self.environment.insert(name.as_str().into(), BString::default());
            self.outputs.insert(name, DerivationOutput::Deferred);
        }
        let modulo = self.masked_hash(dir, hashes)?;
        if modulo.is_deferred {
            return Ok(());
        }
        for (output, slot) in &mut self.outputs {
            let path = dir.output_path(&self.name, output, &modulo.hash)?;
            self.environment.insert(output.as_str().into(), dir.print(&path).into());
            *slot = DerivationOutput::InputAddressed(path);
        }
        Ok(())
    }

    /// Returns the text of the `.drv` file.
    #[must_use]
    pub fn to_aterm(&self, dir: &StoreDir) -> Vec<u8> {
        aterm::write(self, dir, false, &Inputs::Paths(&self.input_derivations))
    }

    /// Returns the path and the text of the `.drv` file.
    ///
    /// # Errors
    /// [`DerivationError::Path`] if the name is bad or too long for `.drv` after it.
    pub fn to_text_object(&self, dir: &StoreDir) -> Result<(StorePath, Vec<u8>), DerivationError> {
        let text = self.to_aterm(dir);
        let path = dir.text_path(&format!("{}.drv", self.name), &text, self.references())?;
        Ok((path, text))
    }

    /// Returns what the `.drv` file refers to: input sources and input derivations.
    pub fn references(&self) -> impl Iterator<Item = &StorePath> {
        self.input_sources.iter().chain(self.input_derivations.keys())
    }

    /// Reads the text of a `.drv` file, strictly: what is accepted is written back as it was.
    ///
    /// `name` is the derivation's name, without `.drv`. The paths of fixed outputs are checked;
    /// for the others see [`Self::check_output_paths`].
    ///
    /// # Errors
    /// [`DerivationError`].
    pub fn parse(dir: &StoreDir, name: &str, text: &[u8]) -> Result<Self, DerivationError> {
        let derivation = aterm::read(dir, name, text)?;
        derivation.check_kinds()?;
        Ok(derivation)
    }

    fn check_kinds(&self) -> Result<(), DerivationError> {
        let mut kinds = self.outputs.values().map(std::mem::discriminant);
        let first = kinds.next().ok_or_else(|| DerivationError::NoOutputs(self.name.clone()))?;
        if kinds.any(|kind| kind != first) {
            return Err(DerivationError::MixedOutputs(self.name.clone()));
        }
        let is_fixed = matches!(self.outputs.values().next(), Some(DerivationOutput::Fixed { .. }));
        if is_fixed && !(self.outputs.len() == 1 && self.outputs.contains_key("out")) {
            return Err(DerivationError::FixedNotOut(self.name.clone()));
        }
        Ok(())
    }

    /// Returns the content address of `out`, if this is a fixed-output derivation.
    #[must_use]
    pub fn fixed_output(&self) -> Option<(&ContentAddress, &StorePath)> {
        match self.outputs.get("out") {
            Some(DerivationOutput::Fixed { address, path }) => Some((address, path)),
            _ => None,
        }
    }

    /// Returns the path of `output`, if there is one by this name and it is known.
    #[must_use]
    pub fn output_path(&self, output: &str) -> Option<&StorePath> {
        self.outputs.get(output)?.path()
    }

    /// Checks that the recorded output paths are the computed ones. All input derivations must be
    /// in `hashes`.
    ///
    /// # Errors
    /// [`DerivationError::WrongOutputPath`] and [`DerivationError::WrongOutputVariable`].
    pub fn check_output_paths(&self, dir: &StoreDir, hashes: &ModuloHashes) -> Result<(), DerivationError> {
        let mut masked = None;
        for (output, found) in &self.outputs {
            let expected = match found {
                DerivationOutput::Fixed { address, .. } => dir.fixed_path(&self.name, address)?,
                DerivationOutput::InputAddressed(_) => {
                    let modulo = match masked {
                        Some(hash) => hash,
                        None => *masked.insert(self.masked_hash(dir, hashes)?),
                    };
                    dir.output_path(&self.name, output, &modulo.hash)?
                }
                DerivationOutput::Floating { .. } | DerivationOutput::Deferred => continue,
            };
            self.check_output(dir, output, found, &expected)?;
        }
        Ok(())
    }

    fn check_output(
        &self,
        dir: &StoreDir,
        output: &str,
        found: &DerivationOutput,
        expected: &StorePath,
    ) -> Result<(), DerivationError> {
        let (name, output) = (self.name.clone(), output.to_owned());
        let expected_text = dir.print(expected);
        if found.path() != Some(expected) {
            let found = found.path().map(|p| dir.print(p)).unwrap_or_default();
            return Err(DerivationError::WrongOutputPath { name, output, expected: expected_text, found });
        }
        match self.environment.get(bstr::BStr::new(&output)) {
            Some(value) if *value != expected_text.as_str() => {
                Err(DerivationError::WrongOutputVariable { name, output, expected: expected_text })
            }
            _ => Ok(()),
        }
    }

    /// Computes this derivation's modulo hash, as its users see it. All input derivations must be
    /// in `hashes`, unless this is a fixed-output derivation.
    ///
    /// # Errors
    /// [`DerivationError::UnknownInput`].
    pub fn modulo_hash(&self, dir: &StoreDir, hashes: &ModuloHashes) -> Result<ModuloHash, DerivationError> {
        match self.fixed_output() {
            Some((address, path)) => Ok(fixed_modulo_hash(dir, address, path)),
            None => self.hash_with(dir, hashes, false),
        }
    }

    /// Computes this derivation's modulo hash and remembers it for its users.
    ///
    /// # Errors
    /// As [`Self::modulo_hash`].
    pub fn remember(
        &self,
        path: &StorePath,
        dir: &StoreDir,
        hashes: &ModuloHashes,
    ) -> Result<ModuloHash, DerivationError> {
        let hash = self.modulo_hash(dir, hashes)?;
        hashes.insert(path.clone(), hash);
        Ok(hash)
    }

    /// The hash from which output paths are made.
    fn masked_hash(&self, dir: &StoreDir, hashes: &ModuloHashes) -> Result<ModuloHash, DerivationError> {
        self.hash_with(dir, hashes, true)
    }

    fn hash_with(
        &self,
        dir: &StoreDir,
        hashes: &ModuloHashes,
        mask_outputs: bool,
    ) -> Result<ModuloHash, DerivationError> {
        let mut is_deferred = self.outputs.values().any(|o| matches!(o, DerivationOutput::Floating { .. }));
        // Two input derivations may have one hash (fetches that differ in their mirrors only):
        // their outputs are joined.
        let mut inputs: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (input, outputs) in &self.input_derivations {
            let hash = hashes.get(input).ok_or_else(|| DerivationError::UnknownInput {
                name: self.name.clone(),
                input: input.clone(),
            })?;
            is_deferred |= hash.is_deferred;
            let names = inputs.entry(hash.hash.to_base16()).or_default();
            names.extend(outputs.iter().map(String::as_str));
        }
        let text = aterm::write(self, dir, mask_outputs, &Inputs::Hashes(&inputs));
        Ok(ModuloHash { hash: Hash::sha256(&text), is_deferred })
    }
}

/// Returns the modulo hash of a fixed-output derivation: what it promises, however it is fetched.
pub(crate) fn fixed_modulo_hash(dir: &StoreDir, address: &ContentAddress, path: &StorePath) -> ModuloHash {
    let (method_algo, digits) = (address.method_algo(), address.hash.to_base16());
    let promise = format!("fixed:out:{method_algo}:{digits}:{}", dir.print(path));
    ModuloHash { hash: Hash::sha256(promise.as_bytes()), is_deferred: false }
}

/// Returns what stands for the path of `output` inside the derivation that makes it, until it is
/// known (`builtins.placeholder`).
#[must_use]
pub fn placeholder(output: &str) -> String {
    absolute_digits(format!("nix-output:{output}"))
}

/// Returns what stands for the path of `output` of the floating derivation `drv` in those that
/// use it.
///
/// # Errors
/// [`PathError::NotDerivation`].
pub fn downstream_placeholder(drv: &StorePath, output: &str) -> Result<String, PathError> {
    let name = path::output_name(drv.derivation_name()?, output);
    Ok(absolute_digits(format!("nix-upstream-output:{}:{name}", drv.hash_part())))
}

fn absolute_digits(clear_text: String) -> String {
    format!("/{}", base32::encode(Hash::sha256(clear_text.as_bytes()).as_bytes()))
}
