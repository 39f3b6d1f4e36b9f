//! The derivations that an evaluation made or met: what those that use them must know.

use ampoule_store::{Composer, Derivation, Hash, HashAlgo, ModuloHash, ModuloHashes, Parts, StorePath};
use rustc_hash::FxHashMap as HashMap;

use crate::context::{ContextElem, Gathering};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::evaluator::Evaluator;

/// All derivations of an evaluation. A large one makes hundreds of thousands.
#[derive(Debug, Default)]
pub(crate) struct Derivations {
    known: Vec<KnownDerivation>,
    /// For paths (by their numbers among contexts), 1 + the number of their derivation.
    by_path: Vec<u32>,
    pub(crate) composer: Composer,
    /// Memory of derivations that are done.
    #[expect(clippy::vec_box, reason = "they go to those who gather and come back, and are not moved")]
    spare: Vec<Box<Workspace>>,
    /// Lists of numbers of names of outputs, each once.
    output_lists: Vec<Box<[u32]>>,
    output_list_ids: HashMap<Box<[u32]>, u32>,
    /// Inputs of all, one after another.
    inputs: Vec<u32>,
}

/// What a derivation is gathered in. Forcing its attributes may make others meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) parts: Parts,
    pub(crate) gathering: Gathering,
    /// Names of outputs, by their numbers among contexts.
    pub(crate) outputs: Vec<u32>,
    /// What was gathered, at the end: numbers of elements.
    pub(crate) elems: Vec<u32>,
}

/// What is remembered of a derivation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownDerivation {
    /// The modulo hash.
    pub(crate) modulo: [u8; 32],
    /// The list of its outputs' names; in the highest bit whether paths made from the hash are not known before
    /// something is built.
    output_list: u32,
    /// Where its inputs begin. They end where those of the next begin.
    inputs_start: u32,
}

const DEFERRED: u32 = 1 << 31;

impl KnownDerivation {
    /// Returns whether paths made from the modulo hash are not known before something is built.
    pub(crate) fn is_deferred(&self) -> bool {
        self.output_list & DEFERRED != 0
    }
}

/// Derivations that are being made at once keep their memory up to this number.
const MAX_SPARE: usize = 8;

/// Memory of larger derivations is given back: one that needs a hundred thousand others takes tens of mebibytes, and
/// what hashing such a text takes is far more than asking for memory again.
pub(crate) const MAX_KEPT_BYTES: usize = 1 << 20;

impl Derivations {
    /// Returns what is known by this number.
    pub(crate) fn get(&self, number: u32) -> &KnownDerivation {
        &self.known[number as usize]
    }

    /// Returns the numbers of the names of a derivation's outputs, in the order of the names.
    pub(crate) fn outputs(&self, number: u32) -> &[u32] {
        &self.output_lists[(self.get(number).output_list & !DEFERRED) as usize]
    }

    /// Returns what a derivation's strings depend on: numbers of elements of contexts. Derivations that are
    /// meant with all that they need stand for that, so that a chain of them is no longer than it is.
    pub(crate) fn inputs(&self, number: u32) -> &[u32] {
        let start = self.get(number).inputs_start as usize;
        let end =
            self.known.get(number as usize + 1).map_or(self.inputs.len(), |next| next.inputs_start as usize);
        &self.inputs[start..end]
    }

    /// Returns the number of the derivation at this path, if it is known.
    pub(crate) fn at(&self, path: u32) -> Option<u32> {
        self.by_path.get(path as usize)?.checked_sub(1)
    }

    /// Remembers a derivation.
    pub(crate) fn insert(&mut self, path: u32, modulo: &ModuloHash, outputs: &[u32], inputs: &[u32]) -> u32 {
        let number = self.known.len() as u32;
        let start = u32::try_from(self.inputs.len()).expect("fewer than 2^32 inputs of all derivations");
        self.inputs.extend_from_slice(inputs);
        let known = KnownDerivation {
            modulo: modulo.hash.as_bytes().try_into().expect("a SHA-256"),
            output_list: self.output_list(outputs) | if modulo.is_deferred { DEFERRED } else { 0 },
            inputs_start: start,
        };
        self.known.push(known);
        if self.by_path.len() <= path as usize {
            self.by_path.resize(path as usize + 1, 0);
        }
        self.by_path[path as usize] = number + 1;
        number
    }

    fn output_list(&mut self, outputs: &[u32]) -> u32 {
        // Nearly always `out` alone, or what the first that had others had.
        if let Some(known) = self.output_lists.iter().take(2).position(|list| **list == *outputs) {
            return known as u32;
        }
        if let Some(&known) = self.output_list_ids.get(outputs) {
            return known;
        }
        let id = self.output_lists.len() as u32;
        self.output_lists.push(outputs.into());
        self.output_list_ids.insert(outputs.into(), id);
        id
    }

    /// Returns an empty workspace.
    pub(crate) fn workspace(&mut self) -> Box<Workspace> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a workspace back that is not needed any more.
    pub(crate) fn recycle(&mut self, mut workspace: Box<Workspace>) {
        if self.spare.len() < MAX_SPARE && workspace.parts.text().capacity() <= MAX_KEPT_BYTES {
            workspace.parts.clear();
            workspace.gathering.clear();
            workspace.outputs.clear();
            workspace.elems.clear();
            self.spare.push(workspace);
        }
    }
}

impl Evaluator {
    /// Returns the number of the derivation that an element of a context names.
    ///
    /// # Errors
    /// If this evaluation did not make it, and it cannot be read from the store.
    pub(crate) fn derivation_of(&mut self, elem: u32) -> EvalResult<u32> {
        let path = self.contexts.path_of(elem);
        match self.derivations.at(path) {
            Some(known) => Ok(known),
            None => self.read_derivations(path),
        }
    }

    /// Returns the number of a derivation; one that this evaluation did not make is read from the store.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn know_derivation(&mut self, drv: &StorePath) -> EvalResult<u32> {
        let path = self.contexts.path_id(drv);
        match self.derivations.at(path) {
            Some(known) => Ok(known),
            None => self.read_derivations(path),
        }
    }

    #[cold]
    fn read_derivations(&mut self, drv: u32) -> EvalResult<u32> {
        // Inputs before what needs them: a modulo hash is made of those of the inputs.
        let mut stack = vec![(drv, None::<Derivation>)];
        while let Some((path, read)) = stack.pop() {
            if self.derivations.at(path).is_some() {
                continue;
            }
            let derivation = match read {
                Some(derivation) => derivation,
                None => {
                    let derivation = self.read_derivation(&self.contexts.path(path).to_path())?;
                    let inputs = derivation.input_derivations.keys();
                    let inputs: Vec<u32> = inputs.map(|input| self.contexts.path_id(input)).collect();
                    let is_missing = |input: &u32| self.derivations.at(*input).is_none();
                    let missing: Vec<_> =
                        inputs.into_iter().filter(is_missing).map(|input| (input, None)).collect();
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
        Ok(self.derivations.at(drv).expect("just read"))
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
    fn remember_read(&mut self, path: u32, derivation: &Derivation) -> EvalResult<()> {
        let (hashes, mut elems) = (ModuloHashes::default(), Vec::new());
        for source in &derivation.input_sources {
            elems.push(self.contexts.elem_id(&ContextElem::Opaque(source.clone())));
        }
        for (drv, outputs) in &derivation.input_derivations {
            let drv_path = self.contexts.path_id(drv);
            let known = self.derivations.get(self.derivations.at(drv_path).expect("inputs are known"));
            let hash = Hash::from_bytes(HashAlgo::Sha256, &known.modulo).expect("a SHA-256");
            hashes.insert(drv.clone(), ModuloHash { hash, is_deferred: known.is_deferred() });
            for output in outputs.iter() {
                let output = self.contexts.output_id(output);
                elems.push(self.contexts.built_id(drv_path, output));
            }
        }
        let world = self.world();
        let modulo = derivation.modulo_hash(world.store_dir(), &hashes).map_err(|error| invalid(&error))?;
        let outputs: Vec<u32> = derivation.outputs.keys().map(|name| self.contexts.output_id(name)).collect();
        self.derivations.insert(path, &modulo, &outputs, &elems);
        Ok(())
    }
}

fn invalid(error: &dyn std::fmt::Display) -> EvalError {
    EvalError::new(ErrorKind::Invalid, error.to_string())
}
