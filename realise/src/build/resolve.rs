//! What is really built: a derivation whose inputs are known by now.
//!
//! Most derivations are built as they are. Where contents decide paths, an input's path is known only
//! when it is there; then the *resolved* derivation is what is built: inputs by path, placeholders
//! replaced. Two derivations that differ in nothing but how their inputs came to be resolve to the
//! same one, and that is the early cut-off: it has been built already.

use std::collections::BTreeMap;
use std::sync::Arc;

use ampoule_store::{
    Derivation, DerivationDraft, DerivationError, DerivationOutput, DrvOutput, Outputs, Store, StorePath,
    downstream_placeholder, placeholder,
};

use super::rewrite::replace_all;
use crate::error::{Failure, FailureKind};

/// An input derivation's output, as it came to be.
#[derive(Clone, Debug)]
pub(crate) struct InputOutput {
    pub(crate) path: StorePath,
    /// Whether the derivation that uses it names it by a placeholder.
    pub(crate) is_late: bool,
}

/// Outputs of input derivations that are used.
pub(crate) type InputOutputs = BTreeMap<StorePath, BTreeMap<String, InputOutput>>;

/// A derivation ready to be built.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) derivation: Arc<Derivation>,
    /// Set where contents decide paths: under which name what is built is remembered.
    pub(crate) realisation: Option<ampoule_store::Hash>,
    /// Where each output is built; the final path, unless contents decide it.
    pub(crate) targets: BTreeMap<String, StorePath>,
    /// Whether it is another derivation than that which was written.
    pub(crate) is_another: bool,
}

fn bad(error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Build, error.to_string())
}

/// Resolves `derivation`.
pub(crate) fn resolve(
    store: &Store,
    derivation: &Arc<Derivation>,
    inputs: &InputOutputs,
) -> Result<Resolved, Failure> {
    let is_late = inputs.values().flat_map(BTreeMap::values).any(|output| output.is_late);
    let by_contents = derivation.outputs.values().any(|output| output.path().is_none());
    if !is_late && !by_contents {
        let targets = known_targets(derivation).expect("contents decide no path");
        let derivation = with_own_paths(store, Arc::clone(derivation), &targets);
        return Ok(Resolved { derivation, realisation: None, targets, is_another: false });
    }
    let resolved = Arc::new(with_known_inputs(store, derivation, inputs).map_err(bad)?);
    if let Some(targets) = known_targets(&resolved) {
        let realisation = by_contents.then(|| modulo(store, &resolved)).transpose()?;
        let derivation = with_own_paths(store, resolved, &targets);
        return Ok(Resolved { derivation, realisation, targets, is_another: true });
    }
    let realisation = modulo(store, &resolved)?;
    let resolved_drv = store.write_derivation(&resolved)?;
    let scratch = |name: &String| {
        let path = store.dir().scratch_path(&resolved_drv, &resolved.name, name).map_err(bad)?;
        Ok((name.clone(), path))
    };
    let targets = resolved.outputs.keys().map(scratch).collect::<Result<_, Failure>>()?;
    let derivation = with_own_paths(store, resolved, &targets);
    Ok(Resolved { derivation, realisation: Some(realisation), targets, is_another: true })
}

/// Puts the paths of its own outputs where a derivation names them by placeholders (`builtins.placeholder "out"`).
fn with_own_paths(
    store: &Store,
    derivation: Arc<Derivation>,
    targets: &BTreeMap<String, StorePath>,
) -> Arc<Derivation> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = targets
        .iter()
        .map(|(name, path)| (placeholder(name).into_bytes(), store.dir().print(path).into_bytes()))
        .collect();
    // Few do; for the others nothing is copied.
    if !texts_of(&derivation).any(|text| pairs.iter().any(|(from, _)| contains(text, from))) {
        return derivation;
    }
    let mut own = (*derivation).clone();
    replace_in(&mut own, &pairs);
    Arc::new(own)
}

/// All texts in which something may be named.
fn texts_of(derivation: &Derivation) -> impl Iterator<Item = &[u8]> {
    let environment =
        derivation.environment.iter().flat_map(|(name, value)| [name.as_slice(), value.as_slice()]);
    let arguments = derivation.arguments.iter().map(|argument| argument.as_slice());
    environment.chain(arguments).chain([derivation.builder.as_slice()])
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

fn modulo(store: &Store, resolved: &Derivation) -> Result<ampoule_store::Hash, Failure> {
    Ok(resolved.modulo_hash(store.dir(), store.modulo_hashes()).map_err(bad)?.hash)
}

fn known_targets(derivation: &Derivation) -> Option<BTreeMap<String, StorePath>> {
    derivation.outputs.iter().map(|(name, output)| Some((name.clone(), output.path()?.clone()))).collect()
}

fn with_known_inputs(
    store: &Store,
    derivation: &Derivation,
    inputs: &InputOutputs,
) -> Result<Derivation, DerivationError> {
    let mut resolved = derivation.clone();
    let mut pairs = Vec::new();
    for (drv, outputs) in inputs {
        for (name, output) in outputs {
            if output.is_late {
                let from = downstream_placeholder(drv, name)?;
                pairs.push((from.into_bytes(), store.dir().print(&output.path).into_bytes()));
            }
            resolved.input_sources.insert(output.path.clone());
        }
    }
    resolved.input_derivations.clear();
    replace_in(&mut resolved, &pairs);
    let is_deferred = resolved.outputs.values().any(|output| matches!(output, DerivationOutput::Deferred));
    if !is_deferred {
        return Ok(resolved);
    }
    // All inputs are paths now, so that the outputs' paths follow from them.
    let names: Vec<String> = resolved.outputs.keys().cloned().collect();
    for name in &names {
        resolved.environment.remove(ampoule_store::bstr::BStr::new(name));
    }
    let draft = DerivationDraft {
        name: resolved.name,
        outputs: Outputs::InputAddressed(names),
        input_derivations: resolved.input_derivations,
        input_sources: resolved.input_sources,
        system: resolved.system,
        builder: resolved.builder,
        arguments: resolved.arguments,
        environment: resolved.environment,
    };
    draft.finish(store.dir(), store.modulo_hashes())
}

fn replace_in(derivation: &mut Derivation, pairs: &[(Vec<u8>, Vec<u8>)]) {
    if pairs.is_empty() {
        return;
    }
    derivation.builder = replace_all(&derivation.builder, pairs).into();
    for argument in &mut derivation.arguments {
        *argument = replace_all(argument, pairs).into();
    }
    let environment = std::mem::take(&mut derivation.environment);
    derivation.environment = environment
        .into_iter()
        .map(|(name, value)| (replace_all(&name, pairs).into(), replace_all(&value, pairs).into()))
        .collect();
}

impl Resolved {
    /// Returns the outputs if all are valid already.
    pub(crate) fn valid_outputs(
        &self,
        store: &Store,
    ) -> Result<Option<BTreeMap<String, StorePath>>, Failure> {
        let mut outputs = BTreeMap::new();
        for (name, target) in &self.targets {
            let known = self.derivation.outputs.get(name).and_then(DerivationOutput::path);
            let path = match (known, self.realisation) {
                (Some(path), _) => Some(path.clone()),
                (None, Some(hash)) => store.realisation(&DrvOutput { hash, output: name.clone() })?,
                (None, None) => Some(target.clone()),
            };
            let Some(path) = path else { return Ok(None) };
            store.lease([&path])?;
            if !store.is_valid(&path)? {
                return Ok(None);
            }
            outputs.insert(name.clone(), path);
        }
        Ok(Some(outputs))
    }
}

/// Outputs of input derivations that were realised, with what is needed to name them.
pub(crate) fn late_inputs(
    source: &dyn crate::graph::DerivationSource,
    realised: &BTreeMap<StorePath, BTreeMap<String, StorePath>>,
) -> Result<InputOutputs, Failure> {
    let mut all = InputOutputs::new();
    for (drv, outputs) in realised {
        let derivation = source.derivation(drv)?;
        let named = outputs.iter().map(|(name, path)| {
            let is_late = derivation.output_path(name).is_none();
            (name.clone(), InputOutput { path: path.clone(), is_late })
        });
        all.insert(drv.clone(), named.collect());
    }
    Ok(all)
}
