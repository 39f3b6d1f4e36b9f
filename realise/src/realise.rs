//! The whole: plan, tell, do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ampoule_net::Cancel;
use ampoule_store::cache::Substituters;
use ampoule_store::{Store, StorePath};

use crate::build::job::Shared;
use crate::builders::Builders;
use crate::error::{Failure, RealiseError, gravest};
use crate::events::{Event, EventSink, Planned, PlannedList};
use crate::graph::{DerivationSource, Graph, Output, Wanted, Way, bit};
use crate::options::Options;
use crate::plan::Planner;
use crate::schedule::{NodeOutputs, Outcome, Schedule};
use crate::substitute::{Offer, Offers};

/// What realising needs besides the derivations.
pub struct Realiser<'a> {
    /// Where outputs go.
    pub store: &'a Store,
    /// Where derivations come from; often the store itself.
    pub source: &'a dyn DerivationSource,
    /// Builders that are part of the command.
    pub builders: &'a Builders,
    /// Binary caches that are asked before something is built.
    pub substituters: Option<&'a Substituters>,
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
    /// How many objects came from binary caches.
    pub substituted: usize,
}

impl Realised {
    /// Whether anything new is in the store.
    #[must_use]
    pub fn changed_something(&self) -> bool {
        self.built + self.fetched + self.substituted > 0
    }
}

impl Realiser<'_> {
    /// Makes the wanted outputs valid, and says where they are.
    ///
    /// With [`Options::dry_run`] nothing is done but to tell the plan; outputs whose paths are not
    /// known beforehand are left out then.
    ///
    /// With [`Options::check`] what is not there is made first, so that there is something to compare with.
    ///
    /// # Errors
    /// [`RealiseError`], with everything that failed of itself.
    pub fn realise(&self, wanted: &[Wanted]) -> Result<Realised, RealiseError> {
        if !self.options.check || self.options.dry_run {
            return self.make(wanted, true);
        }
        let options = Options { check: false, ..self.options.clone() };
        let first =
            Realiser { options: &options, cancel: self.cancel.clone(), ..*self }.make(wanted, false)?;
        let mut checked = self.make(wanted, true)?;
        checked.built += first.built;
        checked.fetched += first.fetched;
        checked.substituted += first.substituted;
        Ok(checked)
    }

    /// Makes what is wanted. If this `is_all` that is done, its end is told, and that there is nothing to do.
    fn make(&self, wanted: &[Wanted], is_all: bool) -> Result<Realised, RealiseError> {
        let cancel = self.cancel.clone();
        // Dropped after whatever else holds half-made things.
        let _stopping = self.store.stops_when(move || cancel.is_asked());
        let shared =
            Shared::new(self.store, self.source, self.builders, self.options, self.events, &self.cancel);
        // Offline, whoever gave them gave those alone that need no network.
        let substituters = self.substituters.filter(|_| self.options.substitute);
        let mut whole = Outcome::default();
        let mut refused = BTreeSet::new();
        loop {
            let graph = Arc::new(self.plan(wanted, substituters, &refused)?);
            let is_work = graph.nodes.iter().any(|node| node.way != Way::Valid);
            if is_work || is_all {
                self.events.event(plan_event(self.store, substituters, &graph));
                self.tell_weaker(&graph, wanted);
            }
            if self.options.dry_run || !is_work {
                return Ok(realised(&whole, wanted_outputs(&graph, wanted, &BTreeMap::new())));
            }
            write_derivations(self.store, self.source, wanted.iter().map(|wanted| &wanted.drv))?;
            let check = self.checked(&graph, wanted);
            let (outcome, late) = Schedule::new(&shared, &graph, substituters, check).run();
            let new_plan = !outcome.refused.is_empty() && outcome.failures.is_empty();
            refused.extend(outcome.refused.iter().cloned());
            whole.add(outcome);
            if new_plan {
                continue;
            }
            if is_all || !whole.failures.is_empty() {
                self.summarise(&shared, &whole);
            }
            if !whole.failures.is_empty() {
                let Outcome { failures, not_tried, .. } = whole;
                return Err(RealiseError { failures, not_tried });
            }
            return Ok(realised(&whole, wanted_outputs(&graph, wanted, &late)));
        }
    }

    /// Finds out what must be done, without what caches were found not to have.
    fn plan(
        &self,
        wanted: &[Wanted],
        substituters: Option<&Substituters>,
        refused: &BTreeSet<StorePath>,
    ) -> Result<Graph, RealiseError> {
        let planner = Planner {
            store: self.store,
            source: self.source,
            builders: self.builders,
            options: self.options,
        };
        let mut offers = Offers::new(self.store, substituters, refused, &self.cancel);
        let graph = planner.plan(&mut offers, wanted);
        for message in substituters.map(Substituters::take_warnings).unwrap_or_default() {
            self.events.event(Event::Note { drv: None, message });
        }
        graph.map_err(|failures| RealiseError { failures, not_tried: 0 })
    }

    /// Says which of the wanted outputs are there already from behind a weaker wall than builds have now.
    fn tell_weaker(&self, graph: &Graph, wanted: &[Wanted]) {
        let nodes = wanted.iter().filter_map(|one| graph.index_of(&one.drv));
        let nodes = nodes.filter(|node| graph.way(*node) == Way::Valid);
        for (node, path) in nodes.flat_map(|node| graph.known_paths(node).map(move |path| (node, path))) {
            let Ok(Some(info)) = self.store.info(&path) else { continue };
            if let Some(tier) = info.tier.filter(|tier| *tier < self.options.tier) {
                let path = self.store.dir().print(&path);
                let message = format!(
                    "`{path}` is there already, built with `--sandbox={tier}`; `--check` builds it once more with \
                     `--sandbox={}` and compares",
                    self.options.tier
                );
                self.events.event(Event::Note { drv: Some(graph.drv(node)), message });
            }
        }
    }

    /// Which nodes are built again: those that are asked for, and only where there is something to
    /// compare with. Of several outputs a cache may have brought some only.
    fn checked(&self, graph: &Graph, wanted: &[Wanted]) -> Vec<bool> {
        let mut check = vec![false; graph.nodes.len()];
        if self.options.check {
            for index in wanted.iter().filter_map(|wanted| graph.index_of(&wanted.drv)) {
                let is_known = |output: &Output| match graph.path(output) {
                    Some(path) => self.store.is_valid(&path).unwrap_or(false),
                    // Of what contents decide, the builder's end tells what it was.
                    None => true,
                };
                check[index as usize] = graph.outputs(index).iter().any(is_known);
            }
        }
        check
    }

    fn summarise(&self, shared: &Shared, outcome: &Outcome) {
        self.events.event(Event::Summary {
            built: outcome.built,
            fetched: outcome.fetched,
            substituted: outcome.substituted,
            failed: outcome.failures.len(),
            not_tried: outcome.not_tried,
            result: gravest(&outcome.failures),
            took_ms: shared.at_ms(),
        });
    }
}

fn realised(outcome: &Outcome, outputs: BTreeMap<StorePath, BTreeMap<String, StorePath>>) -> Realised {
    let Outcome { built, fetched, substituted, .. } = *outcome;
    Realised { outputs, built, fetched, substituted }
}

fn plan_event(store: &Store, substituters: Option<&Substituters>, graph: &Arc<Graph>) -> Event {
    let copied = |offer: &Arc<Offer>| Planned {
        drv: offer.narinfo.info.path.clone(),
        outputs: Box::new([offer.narinfo.info.path.clone()]),
        size_bytes: Some(offer.size_bytes()),
        url: substituters.map(|caches| caches.url(offer.at).into()),
    };
    Event::Plan {
        store_dir: store.dir().as_str().to_owned(),
        build: PlannedList::of(graph, Way::Build),
        fetch: PlannedList::of(graph, Way::Fetch),
        substitute: graph.offers().map(copied).collect(),
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
        let mut outputs = BTreeMap::new();
        for (at, output) in graph.outputs(index).iter().enumerate() {
            let name: &str = graph.name(output);
            let is_wanted = one.outputs.is_empty() || one.outputs.contains(name);
            let late = late.get(&index).and_then(|late| late.get(name)).cloned();
            if let Some(path) = late.or_else(|| graph.path(output))
                && is_wanted
                && graph.nodes[index as usize].wanted & bit(at) != 0
            {
                outputs.insert(name.to_owned(), path);
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
