//! Planning: which derivations must be realised, and how each gets its outputs.
//!
//! The search goes from the top down, level by level, and no deeper than needed: what is valid is not
//! looked into. A level may be all of the graph, so it is looked at in batches: a derivation is in memory
//! as long as its batch.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use ampoule_store::{Derivation, DrvOutput, OutputNames, Store, StoreError, StorePath};

use crate::builders::Builders;
use crate::builtin::{Attributes, Wanted as WantedFetch};
use crate::error::{Failure, FailureKind};
use crate::graph::{DerivationSource, Graph, Mask, Wanted, Way};
use crate::options::Options;
use crate::substitute::Offers;

/// Nodes to look at, and which of their outputs are wanted.
type Level = Vec<(u32, OutputNames)>;

/// Derivations of which outputs are wanted for the first time, and which these are.
type Fresh = Vec<(u32, Arc<Derivation>, Mask)>;

/// How many derivations are in memory at once while planning: what they need is written into the lease
/// of this process in one go.
const BATCH: usize = 64;
/// The same where binary caches are asked: what they offer is looked through after each batch.
const ASKED_BATCH: usize = 4096;

/// What the search needs.
pub(crate) struct Planner<'a> {
    pub(crate) store: &'a Store,
    pub(crate) source: &'a dyn DerivationSource,
    pub(crate) builders: &'a Builders,
    pub(crate) options: &'a Options,
}

impl Planner<'_> {
    /// Finds what must be done for `wanted`.
    ///
    /// # Errors
    /// All that can be said to be wrong before anything is built.
    pub(crate) fn plan(&self, offers: &mut Offers, wanted: &[Wanted]) -> Result<Graph, Vec<Failure>> {
        let mut graph = Graph::default();
        let mut failures = Vec::new();
        let mut level: Level =
            wanted.iter().map(|w| (graph.intern(&w.drv), w.outputs.clone().into())).collect();
        let mut is_top = true;
        while !level.is_empty() {
            let mut next = Level::new();
            for batch in level.chunks(if offers.is_empty() { BATCH } else { ASKED_BATCH }) {
                self.plan_batch(&mut graph, offers, batch, is_top, &mut next, &mut failures);
                if failures.iter().any(|failure| failure.kind == FailureKind::Store) {
                    return Err(failures);
                }
            }
            level = next;
            is_top = false;
        }
        if failures.is_empty() { Ok(graph) } else { Err(failures) }
    }

    /// Looks at these, and adds what they need to `next`.
    fn plan_batch(
        &self,
        graph: &mut Graph,
        offers: &mut Offers,
        batch: &[(u32, OutputNames)],
        is_top: bool,
        next: &mut Level,
        failures: &mut Vec<Failure>,
    ) {
        let fresh = self.fresh_of(graph, batch, failures);
        let force = is_top && self.options.check;
        let asks = !offers.is_empty() && !force;
        let done = lease(self.store, &fresh)
            .map_err(Failure::from)
            .and_then(|()| if asks { self.ask(graph, offers, &fresh) } else { Ok(()) });
        if let Err(failure) = done {
            failures.push(failure);
            return;
        }
        for (node, derivation, mask) in &fresh {
            match self.decide(graph, offers, *node, derivation, *mask, force) {
                Ok(true) => {
                    let inputs = derivation.input_derivations.iter();
                    let inputs: Vec<u32> = inputs
                        .map(|(drv, names)| {
                            let input = graph.intern(drv);
                            if graph.is_worth_asking(input, names) {
                                next.push((input, names.clone()));
                            }
                            input
                        })
                        .collect();
                    graph.set_inputs(*node, inputs);
                }
                Ok(false) => {}
                Err(failure) => failures.push(failure.of(&graph.drv(*node))),
            }
        }
    }

    /// Which nodes have outputs that are wanted for the first time, each once.
    fn fresh_of(
        &self,
        graph: &mut Graph,
        batch: &[(u32, OutputNames)],
        failures: &mut Vec<Failure>,
    ) -> Fresh {
        let mut fresh = Fresh::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        for (node, names) in batch {
            match self.want(graph, *node, names) {
                Ok(Some((derivation, mask))) => {
                    let place = *places.entry(*node).or_insert_with(|| {
                        fresh.push((*node, derivation, 0));
                        fresh.len() - 1
                    });
                    fresh[place].2 |= mask;
                }
                Ok(None) => {}
                Err(failure) => failures.push(failure),
            }
        }
        fresh
    }

    /// Notes that outputs are wanted; returns the derivation if some were not wanted before and it is
    /// not known yet that the node must be built.
    fn want(
        &self,
        graph: &mut Graph,
        node: u32,
        names: &BTreeSet<String>,
    ) -> Result<Option<(Arc<Derivation>, Mask)>, Failure> {
        let load = |graph: &Graph| {
            let drv = graph.drv(node);
            self.source.derivation(&drv).map_err(|error| Failure::from(error).of(&drv))
        };
        let mut loaded = None;
        if graph.way(node) == Way::Unseen {
            let derivation = loaded.insert(load(graph)?);
            graph.set_way(node, Way::Valid);
            graph.set_outputs(node, derivation);
        }
        let mask = graph.mask_of(node, names)?;
        let fresh = graph.want(node, mask);
        if loaded.is_none() && (fresh == 0 || !matches!(graph.way(node), Way::Valid | Way::Gather)) {
            return Ok(None);
        }
        let derivation = match loaded {
            Some(derivation) => derivation,
            None => load(graph)?,
        };
        Ok(Some((derivation, fresh)))
    }

    /// Asks the caches for wanted outputs that are not there.
    fn ask(&self, graph: &mut Graph, offers: &mut Offers, fresh: &Fresh) -> Result<(), Failure> {
        let mut missing = Vec::new();
        // Outputs of which only a cache says what they are.
        let mut told = Vec::new();
        for (node, derivation, mask) in fresh {
            if !may_substitute(derivation) {
                continue;
            }
            for path in graph.paths_in(*node, *mask) {
                if !self.store.is_valid(&path)? {
                    missing.push(path);
                }
            }
            for at in graph.late_in(*node, *mask) {
                let name = graph.name(&graph.outputs(*node)[at]);
                let Some(id) = late_id(self.store, &graph.drv(*node), name) else { continue };
                if self.store.realisation(&id)?.is_some() {
                    continue;
                }
                if let Some(path) = offers.realisation(&id) {
                    missing.push(path.clone());
                    told.push((*node, at, path));
                }
            }
        }
        offers.ask(missing)?;
        for (node, at, path) in told {
            if offers.has(&path) {
                graph.set_path(node, at, &path);
            }
        }
        Ok(())
    }

    /// Decides how a node gets its outputs; true if its inputs are needed.
    fn decide(
        &self,
        graph: &mut Graph,
        offers: &Offers,
        node: u32,
        derivation: &Derivation,
        mask: Mask,
        force: bool,
    ) -> Result<bool, Failure> {
        if !force && (self.is_valid(graph, node, mask)? || gather(graph, offers, node, derivation, mask)) {
            return Ok(false);
        }
        let (way, fetch) = way_of(self, derivation)?;
        graph.set_way(node, way);
        graph.set_fetch(node, fetch);
        Ok(true)
    }

    /// Whether the outputs in `mask` are there. Fills in those whose paths only contents decide.
    fn is_valid(&self, graph: &mut Graph, node: u32, mask: Mask) -> Result<bool, Failure> {
        for path in graph.paths_in(node, mask) {
            if !self.store.is_valid(&path)? {
                return Ok(false);
            }
        }
        let late: Vec<usize> = graph.late_in(node, mask).collect();
        for at in late {
            let name = graph.name(&graph.outputs(node)[at]);
            let Some(id) = late_id(self.store, &graph.drv(node), name) else { return Ok(false) };
            let Some(path) = self.store.realisation(&id)? else { return Ok(false) };
            self.store.lease([&path])?;
            if !self.store.is_valid(&path)? {
                return Ok(false);
            }
            graph.set_path(node, at, &path);
        }
        Ok(true)
    }
}

/// Makes sure that no collector takes what these make, if it is there.
fn lease(store: &Store, fresh: &Fresh) -> Result<(), StoreError> {
    let outputs = fresh.iter().flat_map(|(_, derivation, _)| derivation.outputs.values());
    let mut paths = outputs.filter_map(|output| output.path()).peekable();
    if paths.peek().is_none() { Ok(()) } else { store.lease(paths) }
}

/// Makes nodes for what the caches have of a node's outputs; false if they have not got all.
fn gather(graph: &mut Graph, offers: &Offers, node: u32, derivation: &Derivation, mask: Mask) -> bool {
    let is_late = graph.late_in(node, mask).next().is_some();
    !offers.is_empty() && !is_late && may_substitute(derivation) && graph.gather(offers, node, mask)
}

/// Under which name it is known what an output became that contents decide.
pub(crate) fn late_id(store: &Store, drv: &StorePath, output: &str) -> Option<DrvOutput> {
    // The modulo hash needs the derivation in the store; one that was never built may not be.
    let hash = store.modulo_hash(drv).ok()?.hash;
    Some(DrvOutput { hash, output: output.to_owned() })
}

/// Whether a derivation lets its outputs come from a cache (`allowSubstitutes`).
pub(crate) fn may_substitute(derivation: &Derivation) -> bool {
    let variables = derivation.environment.iter();
    let variables = variables.map(|(name, value)| (name.as_slice(), value.as_slice()));
    // What is wrong with its attributes is told when it is built.
    Attributes::from_environment(variables)
        .and_then(|attrs| attrs.flag("allowSubstitutes", true))
        .unwrap_or(true)
}

/// How a derivation is built, if it can be built here at all.
fn way_of(planner: &Planner, drv: &Derivation) -> Result<(Way, Option<WantedFetch>), Failure> {
    let variables = drv.environment.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let attrs = Attributes::from_environment(variables)
        .map_err(|error| Failure::new(FailureKind::Build, error.to_string()))?;
    let builder = String::from_utf8_lossy(&drv.builder);
    if let Some(name) = builder.strip_prefix("builtin:") {
        let found = planner.builders.get(name).ok_or_else(|| {
            let known: Vec<String> =
                planner.builders.names().map(|name| format!("`builtin:{name}`")).collect();
            Failure::new(FailureKind::Build, format!("unknown builtin builder `{builder}`"))
                .hint(format!("use one of {}", known.join(", ")))
        })?;
        if !found.is_fetch() {
            return Ok((Way::Build, None));
        }
        // A fetch that wants nothing of the network has a local file.
        let wants = found.wants(&attrs).into_iter().next();
        if let Some(wants) = wants.as_ref().filter(|wants| !wants.url.starts_with("file:"))
            && planner.options.offline
        {
            let text = format!("must be fetched, and `--offline` forbids it: {}", wants.url);
            return Err(Failure::new(FailureKind::Fetch, text));
        }
        return Ok((Way::Fetch, wants));
    }
    check_runs_here(planner.options, drv, &attrs)?;
    Ok((Way::Build, None))
}

fn check_runs_here(options: &Options, drv: &Derivation, attrs: &Attributes) -> Result<(), Failure> {
    let bad = |error: crate::builtin::AttributeError| Failure::new(FailureKind::Build, error.to_string());
    let system = String::from_utf8_lossy(&drv.system);
    if !options.runs(&system) {
        let text = format!("a `{system}` is required to build it, but this is a `{}`", options.system);
        return Err(Failure::new(FailureKind::Build, text)
            .hint("build it on such a machine, or name another with `--system`"));
    }
    if attrs.flag("__noChroot", false).map_err(bad)? {
        return Err(Failure::new(
            FailureKind::Policy,
            "has `__noChroot` set: it asks to be built without a sandbox, which is refused",
        ));
    }
    let paths = attrs.texts("__impureHostDeps").map_err(bad)?;
    let is_shown = |path: &&String| options.host_paths.iter().any(|bind| bind.target == Path::new(path));
    if let Some(path) = paths.iter().find(|path| !is_shown(path)) {
        let text =
            format!("requested impure path '{path}' (`__impureHostDeps`), which no build is shown unasked");
        return Err(Failure::new(FailureKind::Policy, text)
            .hint(format!("show it to every build, read-only, with `--sandbox-path {path}`")));
    }
    let required = attrs.texts("requiredSystemFeatures").map_err(bad)?;
    let missing: Vec<&String> =
        required.iter().filter(|feature| !options.features.contains(feature.as_str())).collect();
    if let Some(first) = missing.first() {
        let names: Vec<String> = missing.iter().map(|feature| format!("`{feature}`")).collect();
        let text =
            format!("needs the system feature {}, which this machine is not said to have", names.join(", "));
        return Err(Failure::new(FailureKind::Build, text)
            .hint(format!("add `{first}` to the setting `build.system-features`, if it has it")));
    }
    if drv.builder.is_empty() {
        return Err(Failure::new(FailureKind::Build, "has no builder"));
    }
    Ok(())
}
