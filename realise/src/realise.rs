//! The whole: plan, tell, do.

use std::collections::{BTreeMap, BTreeSet};

use ampoule_net::Cancel;
use ampoule_store::{Store, StorePath};

use crate::build::job::Shared;
use crate::builders::Builders;
use crate::error::{Failure, RealiseError};
use crate::events::{Event, EventSink, Planned};
use crate::graph::{DerivationSource, Graph, Planner, Wanted, Way, bit};
use crate::options::Options;
use crate::schedule::{NodeOutputs, Outcome, Schedule};

/// What realising needs besides the derivations.
pub struct Realiser<'a> {
    /// Where outputs go.
    pub store: &'a Store,
    /// Where derivations come from; often the store itself.
    pub source: &'a dyn DerivationSource,
    /// Builders that are part of the command.
    pub builders: &'a Builders,
    /// How.
    pub options: &'a Options,
    /// Who hears of it.
    pub events: &'a dyn EventSink,
    /// When to stop.
    pub cancel: Cancel,
}

/// What was realised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realised {
    /// The wanted outputs of each wanted derivation.
    pub outputs: BTreeMap<StorePath, BTreeMap<String, StorePath>>,
    /// How many derivations were built.
    pub built: usize,
    /// How many were fetched.
    pub fetched: usize,
}

impl Realiser<'_> {
    /// Makes the wanted outputs valid, and says where they are.
    ///
    /// With [`Options::dry_run`] nothing is done but to tell the plan; outputs whose paths are not
    /// known beforehand are left out then.
    ///
    /// # Errors
    /// [`RealiseError`], with everything that failed of itself.
    pub fn realise(&self, wanted: &[Wanted]) -> Result<Realised, RealiseError> {
        let planner = Planner {
            store: self.store,
            source: self.source,
            builders: self.builders,
            options: self.options,
        };
        let graph =
            Graph::plan(&planner, wanted).map_err(|failures| RealiseError { failures, not_tried: 0 })?;
        let work = graph.nodes.iter().filter(|node| node.way != Way::Valid).count();
        self.events.event(plan_event(self.store, &graph));
        if self.options.dry_run || work == 0 {
            let outputs = wanted_outputs(&graph, wanted, &BTreeMap::new());
            return Ok(Realised { outputs, built: 0, fetched: 0 });
        }
        let roots = wanted.iter().map(|wanted| &wanted.drv);
        write_derivations(self.store, self.source, roots)?;
        let shared =
            Shared::new(self.store, self.source, self.builders, self.options, self.events, &self.cancel);
        let check = self.checked(&graph, wanted);
        let (outcome, late) = Schedule::new(&shared, &graph, check).run();
        self.summarise(&shared, &outcome);
        let Outcome { failures, not_tried, built, fetched } = outcome;
        if !failures.is_empty() {
            return Err(RealiseError { failures, not_tried });
        }
        Ok(Realised { outputs: wanted_outputs(&graph, wanted, &late), built, fetched })
    }

    /// Which nodes are built again: those that are asked for, and only where there is something to
    /// compare with.
    fn checked(&self, graph: &Graph, wanted: &[Wanted]) -> Vec<bool> {
        let mut check = vec![false; graph.nodes.len()];
        if self.options.check {
            for index in wanted.iter().filter_map(|wanted| graph.index_of(&wanted.drv)) {
                let outputs = graph.nodes[index as usize].outputs.iter();
                check[index as usize] = outputs
                    .filter_map(|output| output.path.as_ref())
                    .all(|path| self.store.is_valid(path).unwrap_or(false));
            }
        }
        check
    }

    fn summarise(&self, shared: &Shared, outcome: &Outcome) {
        self.events.event(Event::Summary {
            built: outcome.built,
            fetched: outcome.fetched,
            substituted: 0,
            failed: outcome.failures.len(),
            not_tried: outcome.not_tried,
            result: outcome.failures.first().map(|failure| failure.kind),
            took_ms: shared.at_ms(),
        });
    }
}

fn plan_event(store: &Store, graph: &Graph) -> Event {
    let planned = |way: Way| -> Vec<Planned> {
        let nodes = graph.nodes.iter().filter(|node| node.way == way);
        nodes
            .map(|node| Planned {
                drv: node.drv.clone(),
                name: node.drv.derivation_name().unwrap_or_default().to_owned(),
                outputs: node.outputs.iter().filter_map(|output| output.path.clone()).collect(),
                size_bytes: node.fetches.as_ref().and_then(|wanted| wanted.size_bytes),
                url: node.fetches.as_ref().map(|wanted| wanted.url.clone()),
            })
            .collect()
    };
    Event::Plan {
        store_dir: store.dir().as_str().to_owned(),
        build: planned(Way::Build),
        fetch: planned(Way::Fetch),
        substitute: Vec::new(),
        valid: graph.nodes.iter().filter(|node| node.way == Way::Valid).count(),
    }
}

fn wanted_outputs(
    graph: &Graph,
    wanted: &[Wanted],
    late: &BTreeMap<u32, NodeOutputs>,
) -> BTreeMap<StorePath, BTreeMap<String, StorePath>> {
    let mut all = BTreeMap::new();
    for one in wanted {
        let Some(index) = graph.index_of(&one.drv) else { continue };
        let node = &graph.nodes[index as usize];
        let mut outputs = BTreeMap::new();
        for (at, output) in node.outputs.iter().enumerate() {
            let is_wanted = one.outputs.is_empty() || one.outputs.contains(&*output.name);
            let path = late.get(&index).and_then(|late| late.get(&*output.name)).or(output.path.as_ref());
            if let Some(path) = path
                && is_wanted
                && node.wanted & bit(at) != 0
            {
                outputs.insert(output.name.to_string(), path.clone());
            }
        }
        all.entry(one.drv.clone()).or_insert_with(BTreeMap::new).extend(outputs);
    }
    all
}

/// Writes derivations that lie only in memory, inputs before users, before anything is built: a log
/// and a shell can be had for what fails, and an output's deriver is there to be looked at.
fn write_derivations<'p>(
    store: &Store,
    source: &dyn DerivationSource,
    roots: impl IntoIterator<Item = &'p StorePath>,
) -> Result<(), Failure> {
    let mut seen: BTreeSet<StorePath> = BTreeSet::new();
    let mut to_do: Vec<(StorePath, bool)> = roots.into_iter().map(|path| (path.clone(), false)).collect();
    while let Some((path, inputs_done)) = to_do.pop() {
        if !inputs_done && (!seen.insert(path.clone()) || store.is_valid(&path)?) {
            continue;
        }
        let derivation = source.derivation(&path)?;
        if inputs_done {
            store.write_derivation(&derivation)?;
            continue;
        }
        to_do.push((path, true));
        to_do.extend(derivation.input_derivations.keys().map(|input| (input.clone(), false)));
    }
    Ok(())
}
