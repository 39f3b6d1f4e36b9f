//! The derivations that an evaluation made or met: what those that use them must know.

use std::sync::Arc;

use ampoule_store::{Composer, Derivation, ModuloHash, ModuloHashes, Parts, StorePath};
use rustc_hash::FxHashMap as HashMap;

use crate::context::{ContextElem, Gathering};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::Evaluator;

/// All derivations of an evaluation.
#[derive(Debug, Default)]
pub(crate) struct Derivations {
    known: Vec<KnownDerivation>,
    by_path: HashMap<StorePath, u32>,
    /// For elements of contexts, 1 + the number of their derivation.
    by_elem: Vec<u32>,
    pub(crate) composer: Composer,
    /// Memory of derivations that are done.
    spare: Vec<Workspace>,
    /// Names of outputs, each once.
    names: HashMap<Box<str>, Arc<str>>,
}

/// What a derivation is gathered in. Forcing its attributes may make others meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) parts: Parts,
    /// The attribute that is being read.
    pub(crate) text: Vec<u8>,
    pub(crate) gathering: Gathering,
}

/// What is remembered of a derivation.
#[derive(Debug)]
pub(crate) struct KnownDerivation {
    pub(crate) modulo: ModuloHash,
    pub(crate) outputs: Box<[Arc<str>]>,
    /// What its strings depend on: numbers of elements of contexts. Derivations that are meant with all
    /// that they need stand for that, so that a chain of them is no longer than it is.
    pub(crate) inputs: Box<[u32]>,
}

/// Derivations that are being made at once keep their memory up to this number.
const MAX_SPARE: usize = 8;

impl Derivations {
    /// Returns what is known by this number.
    pub(crate) fn get(&self, number: u32) -> &KnownDerivation {
        &self.known[number as usize]
    }

    /// Returns the number of the derivation that an element of a context names, if it was looked for
    /// with [`Evaluator::derivation_of`].
    pub(crate) fn of_elem(&self, elem: u32) -> Option<u32> {
        self.by_elem.get(elem as usize)?.checked_sub(1)
    }

    /// Remembers a derivation.
    pub(crate) fn insert(&mut self, path: StorePath, derivation: KnownDerivation) -> u32 {
        let number = self.known.len() as u32;
        self.known.push(derivation);
        self.by_path.insert(path, number);
        number
    }

    /// Returns the name of an output, shared with all that are called so.
    pub(crate) fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = name.into();
        self.names.insert(name.into(), Arc::clone(&shared));
        shared
    }

    /// Returns an empty workspace.
    pub(crate) fn workspace(&mut self) -> Workspace {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a workspace back that is not needed any more.
    pub(crate) fn recycle(&mut self, mut workspace: Workspace) {
        if self.spare.len() < MAX_SPARE {
            workspace.parts.clear();
            workspace.gathering.clear();
            self.spare.push(workspace);
        }
    }

    /// Says which derivation an element of a context names.
    pub(crate) fn set_of_elem(&mut self, elem: u32, number: u32) {
        if self.by_elem.len() <= elem as usize {
            self.by_elem.resize(elem as usize + 1, 0);
        }
        self.by_elem[elem as usize] = number + 1;
    }
}

impl Evaluator {
    /// Returns the number of the derivation that an element of a context names.
    ///
    /// # Errors
    /// If this evaluation did not make it, and it cannot be read from the store.
    pub(crate) fn derivation_of(&mut self, elem: u32) -> EvalResult<u32> {
        if let Some(known) = self.derivations.of_elem(elem) {
            return Ok(known);
        }
        let drv = match self.contexts.elem(elem) {
            ContextElem::Built { drv, .. } | ContextElem::DrvDeep(drv) => drv.clone(),
            ContextElem::Opaque(path) => path.clone(),
        };
        let number = self.know_derivation(&drv)?;
        self.derivations.set_of_elem(elem, number);
        Ok(number)
    }

    /// Returns the number of a derivation; one that this evaluation did not make is read from the store.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn know_derivation(&mut self, drv: &StorePath) -> EvalResult<u32> {
        if let Some(&known) = self.derivations.by_path.get(drv) {
            return Ok(known);
        }
        // Inputs before what needs them: a modulo hash is made of those of the inputs.
        let mut stack = vec![(drv.clone(), None::<Derivation>)];
        while let Some((path, read)) = stack.pop() {
            if self.derivations.by_path.contains_key(&path) {
                continue;
            }
            let derivation = match read {
                Some(derivation) => derivation,
                None => {
                    let derivation = self.read_derivation(&path)?;
                    let inputs = derivation.input_derivations.keys();
                    let missing: Vec<_> = inputs
                        .filter(|input| !self.derivations.by_path.contains_key(*input))
                        .map(|input| (input.clone(), None))
                        .collect();
                    if !missing.is_empty() {
                        stack.push((path, Some(derivation)));
                        stack.extend(missing);
                        continue;
                    }
                    derivation
                }
            };
            self.remember_read(path, &derivation)?;
        }
        Ok(self.derivations.by_path[drv])
    }

    fn read_derivation(&self, path: &StorePath) -> EvalResult<Derivation> {
        let world = self.world();
        let dir = world.store_dir();
        let name = path.derivation_name().map_err(|error| invalid(&error))?;
        let text = world
            .read_file(std::path::Path::new(&dir.print(path)))
            .map_err(|error| EvalError::world(&error))?;
        Derivation::parse(dir, name, &text).map_err(|error| invalid(&error))
    }

    /// Remembers a derivation whose inputs are known.
    fn remember_read(&mut self, path: StorePath, derivation: &Derivation) -> EvalResult<()> {
        let hashes = ModuloHashes::default();
        for input in derivation.input_derivations.keys() {
            let number = self.derivations.by_path[input];
            hashes.insert(input.clone(), self.derivations.get(number).modulo);
        }
        let world = self.world();
        let modulo = derivation.modulo_hash(world.store_dir(), &hashes).map_err(|error| invalid(&error))?;
        let outputs = derivation.outputs.keys().map(|name| self.derivations.name(name)).collect();
        let sources = derivation.input_sources.iter().cloned().map(ContextElem::Opaque);
        let mut elems: Vec<ContextElem> = sources.collect();
        for (drv, outputs) in &derivation.input_derivations {
            let output = |name: &String| self.derivations.name(name);
            let names: Vec<Arc<str>> = outputs.iter().map(output).collect();
            elems.extend(names.into_iter().map(|output| ContextElem::Built { drv: drv.clone(), output }));
        }
        let inputs = elems.into_iter().map(|elem| self.contexts.elem_id(elem)).collect();
        self.derivations.insert(path, KnownDerivation { modulo, outputs, inputs });
        Ok(())
    }
}

fn invalid(error: &dyn std::fmt::Display) -> EvalError {
    EvalError::new(ErrorKind::Invalid, error.to_string())
}
