//! The order of work: what is ready runs, what finishes releases those that wait for it.
//!
//! Each node counts the inputs that it still waits for. A worker takes a ready node, does it, and
//! lowers the count of those that need it; at zero they are ready. Every edge is looked at once, so
//! that the time is linear in the graph's size, however wide it is. Builds and fetches have workers
//! of their own: a fetch waits for the network, a build for the processor.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ampoule_store::cache::Substituters;
use ampoule_store::{Derivation, StorePath};

use crate::build::job::{Done, Job, Shared};
use crate::build::resolve::{InputOutput, InputOutputs};
use crate::error::{Failure, FailureKind};
use crate::events::{Activity, Event};
use crate::graph::{Graph, Way};
use crate::plan::late_id;
use crate::substitute;

/// What came of it all.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) failures: Vec<Failure>,
    pub(crate) not_tried: usize,
    pub(crate) built: usize,
    pub(crate) fetched: usize,
    pub(crate) substituted: usize,
    /// Objects that a cache offered and did not bring.
    pub(crate) refused: Vec<StorePath>,
}

impl Outcome {
    /// Adds what came of another plan.
    pub(crate) fn add(&mut self, other: Self) {
        self.failures.extend(other.failures);
        self.refused.extend(other.refused);
        self.not_tried += other.not_tried;
        self.built += other.built;
        self.fetched += other.fetched;
        self.substituted += other.substituted;
    }
}

/// Outputs by name, of one node.
pub(crate) type NodeOutputs = BTreeMap<String, StorePath>;

struct State {
    waits_for: Vec<u32>,
    ready_builds: VecDeque<u32>,
    ready_fetches: VecDeque<u32>,
    /// Nodes that are neither done nor given up.
    left: usize,
    /// Outputs whose paths were not known beforehand.
    late: BTreeMap<u32, NodeOutputs>,
    given_up: Vec<bool>,
    /// Nothing new is begun.
    stopped: bool,
    outcome: Outcome,
}

pub(crate) struct Schedule<'a> {
    shared: &'a Shared<'a>,
    graph: &'a Graph,
    substituters: Option<&'a Substituters>,
    /// Nodes that need a node: `users[starts[n]..starts[n + 1]]`.
    users: Vec<u32>,
    starts: Vec<u32>,
    /// Nodes that are built again, to compare.
    check: Vec<bool>,
    state: Mutex<State>,
    changed: Condvar,
}

/// Workers for one kind of work.
#[derive(Clone, Copy, PartialEq)]
enum Lane {
    Builds,
    Fetches,
}

impl Lane {
    fn of(way: Way) -> Option<Self> {
        match way {
            Way::Unseen | Way::Valid => None,
            Way::Substitute | Way::Gather | Way::Fetch => Some(Self::Fetches),
            Way::Build => Some(Self::Builds),
        }
    }
}

impl<'a> Schedule<'a> {
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        graph: &'a Graph,
        substituters: Option<&'a Substituters>,
        check: Vec<bool>,
    ) -> Self {
        let count = graph.nodes.len();
        let mut starts = vec![0u32; count + 1];
        let mut waits_for = vec![0u32; count];
        let mut left = 0;
        let is_work = |index: u32| graph.way(index) != Way::Valid;
        for (index, node) in graph.nodes.iter().enumerate() {
            if node.way == Way::Valid {
                continue;
            }
            left += 1;
            for input in graph.inputs(index as u32).iter().filter(|input| is_work(**input)) {
                starts[*input as usize + 1] += 1;
                waits_for[index] += 1;
            }
        }
        for index in 0..count {
            starts[index + 1] += starts[index];
        }
        let mut users = vec![0; starts[count] as usize];
        let mut next = starts.clone();
        for (index, _) in graph.nodes.iter().enumerate().filter(|(_, node)| node.way != Way::Valid) {
            for input in graph.inputs(index as u32).iter().filter(|input| is_work(**input)) {
                let slot = &mut next[*input as usize];
                users[*slot as usize] = index as u32;
                *slot += 1;
            }
        }
        let mut state = State {
            waits_for,
            ready_builds: VecDeque::new(),
            ready_fetches: VecDeque::new(),
            left,
            late: BTreeMap::new(),
            given_up: vec![false; count],
            stopped: false,
            outcome: Outcome::default(),
        };
        for (index, node) in graph.nodes.iter().enumerate() {
            if node.way != Way::Valid && state.waits_for[index] == 0 {
                state.push(node.way, index as u32);
            }
        }
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { shared, graph, substituters, users, starts, check, state, changed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does everything. Returns what came of it, and outputs that were not known beforehand.
    pub(crate) fn run(self) -> (Outcome, BTreeMap<u32, NodeOutputs>) {
        let count =
            |lane: Lane| self.graph.nodes.iter().filter(|node| Lane::of(node.way) == Some(lane)).count();
        let descriptors = descriptors();
        let jobs = self.shared.options.jobs.clamp(1, most_builds(descriptors));
        let builders = count(Lane::Builds).min(jobs);
        let fetchers =
            count(Lane::Fetches).min(self.shared.options.fetches.clamp(1, most_fetches(descriptors)));
        std::thread::scope(|scope| {
            for _ in 0..fetchers {
                scope.spawn(|| self.work(Lane::Fetches));
            }
            // This thread is a builder too.
            for _ in 1..builders {
                scope.spawn(|| self.work(Lane::Builds));
            }
            if builders > 0 {
                self.work(Lane::Builds);
            }
        });
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.outcome.not_tried += state.left;
        (state.outcome, state.late)
    }

    fn work(&self, lane: Lane) {
        while let Some(index) = self.take(lane) {
            let began = Instant::now();
            let result = self.run_node(index);
            self.settle(index, result, began);
        }
    }

    /// Waits for something to do; nothing when all is done, or nothing new is begun.
    fn take(&self, lane: Lane) -> Option<u32> {
        let mut state = self.lock();
        loop {
            if self.shared.cancel.is_asked() && !state.stopped {
                state.stopped = true;
                state.outcome.failures.push(Failure::new(FailureKind::Interrupted, "interrupted"));
                self.changed.notify_all();
            }
            if state.stopped || state.left == 0 {
                return None;
            }
            let queue = match lane {
                Lane::Builds => &mut state.ready_builds,
                Lane::Fetches => &mut state.ready_fetches,
            };
            if let Some(index) = queue.pop_front() {
                return Some(index);
            }
            // Woken up now and then, to see whether to stop.
            let waited = self.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn activity(&self, index: u32) -> Activity {
        match self.graph.way(index) {
            _ if self.check[index as usize] => Activity::Check,
            Way::Fetch => Activity::Fetch,
            Way::Substitute | Way::Gather => Activity::Substitute,
            _ => Activity::Build,
        }
    }

    fn name_of(&self, index: u32) -> String {
        let drv = self.graph.drv(index);
        drv.derivation_name().unwrap_or(drv.name()).to_owned()
    }

    fn run_node(&self, index: u32) -> Result<Done, Failure> {
        let (graph, drv) = (self.graph, self.graph.drv(index));
        let activity = self.activity(index);
        let on_start = || {
            let (name, at_ms) = (self.name_of(index), self.shared.at_ms());
            self.shared.events.event(Event::Started { drv: drv.clone(), name, activity, at_ms });
        };
        if graph.way(index) == Way::Gather {
            self.remember_gathered(index)?;
            let outputs = graph.outputs(index).iter();
            let known =
                outputs.filter_map(|output| Some((graph.name(output).to_string(), graph.path(output)?)));
            return Ok(Done::valid(known.collect()));
        }
        if let (Some(offer), Some(substituters)) = (graph.offer(index), self.substituters) {
            return substitute::fetch(self.shared, substituters, offer, &on_start);
        }
        let derivation = self.shared.source.derivation(&drv)?;
        let inputs = self.inputs_of(&derivation);
        let job = Job {
            shared: self.shared,
            drv: &drv,
            derivation: &derivation,
            inputs,
            activity,
            substituters: self.substituters,
            on_start: &on_start,
        };
        job.run()
    }

    /// What a cache said that an output is, is known here from now on.
    fn remember_gathered(&self, index: u32) -> Result<(), Failure> {
        let (graph, store) = (self.graph, self.shared.store);
        for output in graph.outputs(index).iter().filter(|output| output.is_late) {
            if let Some(path) = graph.path(output)
                && let Some(id) = late_id(store, &graph.drv(index), graph.name(output))
            {
                store.add_realisation(&id, &path)?;
            }
        }
        Ok(())
    }

    /// The outputs of a node's inputs, as they are by now.
    fn inputs_of(&self, derivation: &Derivation) -> InputOutputs {
        let state = self.lock();
        let mut all = InputOutputs::new();
        for (drv, names) in &derivation.input_derivations {
            let Some(input) = self.graph.index_of(drv) else { continue };
            let late = state.late.get(&input);
            let mut found = BTreeMap::new();
            for output in self.graph.outputs(input) {
                let name: &str = self.graph.name(output);
                if !names.contains(name) {
                    continue;
                }
                let path = late.and_then(|late| late.get(name)).cloned();
                if let Some(path) = path.or_else(|| self.graph.path(output)) {
                    found.insert(name.to_owned(), InputOutput { path, is_late: output.is_late });
                }
            }
            all.insert(drv.clone(), found);
        }
        all
    }

    fn settle(&self, index: u32, result: Result<Done, Failure>, began: Instant) {
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let at_ms = self.shared.at_ms();
        let drv = self.graph.drv(index);
        let activity = match &result {
            Ok(done) if done.was_late => Activity::Substitute,
            _ => self.activity(index),
        };
        match result {
            Ok(done) => {
                let name = self.name_of(index);
                if done.was_valid && self.graph.way(index) != Way::Gather {
                    self.shared.events.event(Event::AlreadyThere { drv, name, at_ms });
                } else if !done.was_valid {
                    let outputs = done.outputs.clone();
                    self.shared.events.event(Event::Finished {
                        drv,
                        name,
                        activity,
                        outputs,
                        took_ms,
                        at_ms,
                    });
                }
                self.succeed(index, done, activity);
            }
            Err(failure)
                if self.graph.way(index) == Way::Substitute && failure.kind == FailureKind::Fetch =>
            {
                let message = format!("{}; it is built instead", failure.message);
                self.shared.events.event(Event::Note { drv: Some(drv), message });
                self.refuse(index);
            }
            Err(failure) => {
                let failure = failure.of(&drv);
                if failure.kind != FailureKind::Interrupted {
                    let failure = failure.clone();
                    self.shared.events.event(Event::Failed { activity, took_ms, at_ms, failure });
                }
                self.fail(index, failure);
            }
        }
    }

    fn users_of(&self, index: u32) -> &[u32] {
        let (from, to) = (self.starts[index as usize], self.starts[index as usize + 1]);
        &self.users[from as usize..to as usize]
    }

    fn succeed(&self, index: u32, done: Done, activity: Activity) {
        let mut state = self.lock();
        state.left -= 1;
        if !done.was_valid {
            match activity {
                Activity::Fetch => state.outcome.fetched += 1,
                Activity::Substitute => state.outcome.substituted += 1,
                _ => state.outcome.built += 1,
            }
        }
        if self.graph.outputs(index).iter().any(|output| output.is_late) {
            state.late.insert(index, done.outputs);
        }
        let mut released = 0;
        for user in self.users_of(index) {
            state.waits_for[*user as usize] -= 1;
            if state.waits_for[*user as usize] == 0 && !state.given_up[*user as usize] {
                state.push(self.graph.way(*user), *user);
                released += 1;
            }
        }
        // This thread takes one itself, if it is of its lane; waking one too many does no harm.
        if released > 0 || state.left == 0 {
            self.changed.notify_all();
        }
    }

    fn fail(&self, index: u32, failure: Failure) {
        let mut state = self.lock();
        state.left -= 1;
        // What is wrong with the machine is wrong for every build.
        let is_general =
            matches!(failure.kind, FailureKind::Sandbox | FailureKind::Interrupted | FailureKind::Store);
        let known = failure.kind == FailureKind::Interrupted
            && state.outcome.failures.iter().any(|other| other.kind == FailureKind::Interrupted);
        if !known {
            state.outcome.failures.push(failure);
        }
        if is_general || !self.shared.options.keep_going {
            state.stopped = true;
        }
        state.outcome.not_tried += self.give_up_users(&mut state, index);
        self.changed.notify_all();
    }

    /// A cache did not bring what it offered. That is no failure: what needs it waits for a new plan.
    fn refuse(&self, index: u32) {
        let mut state = self.lock();
        state.left -= 1;
        state.outcome.refused.push(self.graph.drv(index));
        self.give_up_users(&mut state, index);
        self.changed.notify_all();
    }

    /// Nothing that needs this node is begun any more; returns how many that are.
    fn give_up_users(&self, state: &mut State, index: u32) -> usize {
        let mut count = 0;
        let mut to_do: Vec<u32> = self.users_of(index).to_vec();
        while let Some(user) = to_do.pop() {
            if !std::mem::replace(&mut state.given_up[user as usize], true) {
                state.left -= 1;
                count += 1;
                to_do.extend(self.users_of(user));
            }
        }
        count
    }
}

/// How many files this process may have open; as many as it may ask for.
fn descriptors() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).ok();
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many builds may run at once with so many descriptors: one needs ten, a few more while its outputs
/// are read; the rest is for the store, and for fetches.
fn most_builds(descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(40) / 16).unwrap_or(usize::MAX).max(1)
}

/// How many fetches: one needs a connection, a lock, and what it writes; unpacking some more.
fn most_fetches(descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(48) / 12).unwrap_or(usize::MAX).max(1)
}

impl State {
    fn push(&mut self, way: Way, index: u32) {
        match Lane::of(way) {
            Some(Lane::Fetches) => self.ready_fetches.push_back(index),
            _ => self.ready_builds.push_back(index),
        }
    }
}
