//! The work on one derivation, from its locks to its registered outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use ampoule_net::Cancel;
use ampoule_store::cache::Substituters;
use ampoule_store::{Derivation, DrvOutput, OutputLock, Staging, Store, StorePath, Tier};
use rustix::fs::{Mode, OFlags};

use super::cgroup::{Group, Groups};
use super::checks::{check_shape, without_effect};
use super::dirs::{BuildDirs, make_own_dir};
use super::environment::{EnvironmentSpec, build_inputs};
use super::inputs::InputClosure;
use super::log::{LineSink, LogDir, Logger};
use super::outputs::{Finished, copy_rewritten};
use super::resolve::{InputOutputs, Resolved, resolve};
use super::rewrite::{Pair, replace_all};
use super::spawners::Spawners;
use super::supervise::{Ending, Limits, supervise};
use super::{compare, diagnose, uplink};
use crate::builders::Builders;
use crate::builtin::{Attributes, BuiltinContext, BuiltinErrorKind, BuiltinEvents, Place};
use crate::error::{Failure, FailureKind};
use crate::events::{Activity, Event, EventSink, safe_line};
use crate::graph::DerivationSource;
use crate::options::Options;
use crate::plan::may_substitute;
use crate::sandbox::{Identity, SandboxSpec, Spawner};
use crate::substitute;

/// What all jobs of one command share.
pub(crate) struct Shared<'a> {
    pub(crate) store: &'a Store,
    pub(crate) source: &'a dyn DerivationSource,
    pub(crate) builders: &'a Builders,
    pub(crate) options: &'a Options,
    pub(crate) events: &'a dyn EventSink,
    pub(crate) cancel: &'a Cancel,
    pub(crate) began: Instant,
    spawners: Spawners,
    groups: OnceLock<Result<Option<Groups>, Failure>>,
    idle_dirs: Mutex<Vec<BuildDirs>>,
    identity: Identity,
}

impl<'a> Shared<'a> {
    pub(crate) fn new(
        store: &'a Store,
        source: &'a dyn DerivationSource,
        builders: &'a Builders,
        options: &'a Options,
        events: &'a dyn EventSink,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            store,
            source,
            builders,
            options,
            events,
            cancel,
            began: Instant::now(),
            spawners: Spawners::default(),
            groups: OnceLock::new(),
            idle_dirs: Mutex::default(),
            identity: Identity::of_this_process(),
        }
    }

    /// A process that makes sandboxes; started when the first is needed.
    pub(crate) fn spawner(&self) -> Result<Arc<Spawner>, Failure> {
        self.spawners.take(&self.options.spawner, self.options.jobs)
    }

    /// A control group for one build, if it is to be limited.
    fn group(&self) -> Result<Option<Group>, Failure> {
        let groups = self.groups.get_or_init(|| Groups::find(self.options.group_limits)).as_ref();
        groups.map_err(Failure::clone)?.as_ref().map(Groups::make).transpose()
    }

    /// Empty directories for one build: new ones, or those of a build that left nothing in them.
    fn build_dirs(&self) -> Result<BuildDirs, Failure> {
        let idle = self.idle_dirs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        match idle {
            Some(dirs) => Ok(dirs),
            None => BuildDirs::make(self.store.staging()?, self.identity),
        }
    }

    fn give_back(&self, mut dirs: BuildDirs) {
        dirs.remove_links();
        if dirs.are_as_new() {
            self.idle_dirs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(dirs);
        }
    }

    pub(crate) fn at_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn log_dir(&self) -> LogDir {
        LogDir::new(self.store.root().path().join("log"))
    }
}

/// How a job ended well.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) outputs: BTreeMap<String, StorePath>,
    /// Somebody had built it meanwhile, or what it resolves to.
    pub(crate) was_valid: bool,
    /// They came from a cache, though the plan could not know that there is one that has them.
    pub(crate) was_late: bool,
}

impl Done {
    pub(crate) fn new(outputs: BTreeMap<String, StorePath>) -> Self {
        Self { outputs, was_valid: false, was_late: false }
    }

    pub(crate) fn valid(outputs: BTreeMap<String, StorePath>) -> Self {
        Self { was_valid: true, ..Self::new(outputs) }
    }
}

/// One derivation's work.
pub(crate) struct Job<'a> {
    pub(crate) shared: &'a Shared<'a>,
    pub(crate) drv: &'a StorePath,
    pub(crate) derivation: &'a Arc<Derivation>,
    pub(crate) inputs: InputOutputs,
    pub(crate) activity: Activity,
    /// Caches to ask for what a derivation is only known to be when its inputs are there.
    pub(crate) substituters: Option<&'a Substituters>,
    /// Called once when the work really begins.
    pub(crate) on_start: &'a dyn Fn(),
}

/// What our own builders have in place of a sandbox.
pub(crate) fn without_sandbox() -> Failure {
    build_failed("is built by a builder of our own, without a sandbox")
        .hint("name the derivation of what failed: `ampoule tree --drv` lists what it is built from")
}

fn build_failed(text: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Build, text.to_string())
}

pub(crate) fn disk(what: &str, error: impl Into<std::io::Error>) -> Failure {
    Failure::new(FailureKind::Store, format!("cannot {what}: {}", error.into()))
}

/// Waits for the right to make `path`, for `of`. Says once that we wait.
pub(crate) fn lock_one(
    shared: &Shared,
    of: &StorePath,
    path: &StorePath,
    told: &mut bool,
) -> Result<OutputLock, Failure> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = shared.store.try_lock_output(path)? {
            return Ok(lock);
        }
        if shared.cancel.is_asked() {
            return Err(Failure::new(FailureKind::Interrupted, "interrupted"));
        }
        if !*told && pause > Duration::from_millis(20) {
            *told = true;
            let name = of.derivation_name().unwrap_or(of.name()).to_owned();
            shared.events.event(Event::Waiting { drv: of.clone(), name, at_ms: shared.at_ms() });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

pub(crate) fn attributes_of(derivation: &Derivation) -> Result<Attributes, Failure> {
    let variables = derivation.environment.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    Attributes::from_environment(variables).map_err(build_failed)
}

impl Job<'_> {
    /// Does it.
    pub(crate) fn run(&self) -> Result<Done, Failure> {
        self.try_to().map_err(|failure| match failure.kind {
            // The store stopped because it was asked to.
            FailureKind::Store if self.shared.cancel.is_asked() => {
                Failure::new(FailureKind::Interrupted, "interrupted")
            }
            _ => failure,
        })
    }

    fn try_to(&self) -> Result<Done, Failure> {
        let shared = self.shared;
        let resolved = resolve(shared.store, self.derivation, &self.inputs)?;
        let is_check = self.activity == Activity::Check;
        if !is_check && let Some(outputs) = self.substitute(&resolved)? {
            self.remember(&resolved, &outputs)?;
            return Ok(Done { was_late: true, ..Done::new(outputs) });
        }
        let locks = self.lock(&resolved)?;
        if !is_check && let Some(outputs) = resolved.valid_outputs(shared.store)? {
            self.remember(&resolved, &outputs)?;
            return Ok(Done::valid(outputs));
        }
        (self.on_start)();
        let attrs = attributes_of(&resolved.derivation)?;
        check_shape(&attrs).map_err(build_failed)?;
        for name in without_effect(&attrs) {
            let message = format!(
                "`{name}` has no effect with `__structuredAttrs`; use `outputChecks.OUTPUT.{name}` instead"
            );
            shared.events.event(Event::Note { drv: Some(self.drv.clone()), message });
        }
        let closure = self.closure(&resolved)?;
        let outputs = if resolved.derivation.builder.starts_with(b"builtin:") {
            self.run_builtin(&resolved, &attrs, &closure, &locks)?
        } else {
            self.run_sandboxed(&resolved, &attrs, &closure, &locks)?
        };
        Ok(Done::new(outputs))
    }

    /// Asks caches for the outputs of what this derivation resolves to, which nobody could ask for before its
    /// inputs were there: nothing if it is what it was, is here already, or is not to be had.
    fn substitute(&self, resolved: &Resolved) -> Result<Option<BTreeMap<String, StorePath>>, Failure> {
        let shared = self.shared;
        let Some(substituters) = self.substituters else { return Ok(None) };
        if !resolved.is_another
            || !may_substitute(self.derivation)
            || resolved.valid_outputs(shared.store)?.is_some()
        {
            return Ok(None);
        }
        let mut outputs = BTreeMap::new();
        let mut realisations = Vec::new();
        for (name, target) in &resolved.targets {
            let path = match resolved.realisation {
                None => target.clone(),
                Some(hash) => {
                    let id = DrvOutput { hash, output: name.clone() };
                    let Some(path) = substituters.realisation(shared.store, &id) else { return Ok(None) };
                    realisations.push((id, path.clone()));
                    path
                }
            };
            outputs.insert(name.clone(), path);
        }
        let on_start = || {
            let name = self.drv.derivation_name().unwrap_or(self.drv.name()).to_owned();
            let (drv, activity, at_ms) = (self.drv.clone(), Activity::Substitute, shared.at_ms());
            shared.events.event(Event::Started { drv, name, activity, at_ms });
        };
        if !substitute::fetch_closure(shared, substituters, self.drv, outputs.values(), &on_start)? {
            return Ok(None);
        }
        for (id, path) in realisations {
            shared.store.add_realisation(&id, &path)?;
        }
        Ok(Some(outputs))
    }

    /// Where contents decide paths, the derivation as it was written gets its outputs noted too.
    fn remember(&self, resolved: &Resolved, outputs: &BTreeMap<String, StorePath>) -> Result<(), Failure> {
        if resolved.realisation.is_none() {
            return Ok(());
        }
        let store = self.shared.store;
        if let Some(hash) = self.original_hash(resolved) {
            for (output, path) in outputs {
                let id = DrvOutput { hash, output: output.clone() };
                store.add_realisation(&id, path)?;
            }
        }
        Ok(())
    }

    fn original_hash(&self, resolved: &Resolved) -> Option<ampoule_store::Hash> {
        resolved.realisation?;
        self.shared.store.modulo_hash(self.drv).ok().map(|modulo| modulo.hash)
    }

    /// Takes the right to make the outputs, all of them, in the order of their paths.
    fn lock(&self, resolved: &Resolved) -> Result<BTreeMap<StorePath, OutputLock>, Failure> {
        let mut paths: BTreeSet<&StorePath> = resolved.targets.values().collect();
        // Whoever looks whether it is being built does not know where, if contents decide that.
        if resolved.realisation.is_some() {
            paths.insert(self.drv);
        }
        let mut told = false;
        let lock = |path: &StorePath| Ok((path.clone(), lock_one(self.shared, self.drv, path, &mut told)?));
        paths.into_iter().map(lock).collect()
    }

    /// Everything that the build may see.
    fn closure(&self, resolved: &Resolved) -> Result<InputClosure<'_>, Failure> {
        let store = self.shared.store;
        let mut roots: Vec<StorePath> = resolved.derivation.input_sources.iter().cloned().collect();
        roots.extend(self.inputs.values().flat_map(BTreeMap::values).map(|output| output.path.clone()));
        store.lease(&roots)?;
        Ok(InputClosure { store, infos: store.closure_infos(roots)? })
    }

    // ---- builders of our own -------------------------------------------------------------------

    fn run_builtin(
        &self,
        resolved: &Resolved,
        attrs: &Attributes,
        closure: &InputClosure,
        locks: &BTreeMap<StorePath, OutputLock>,
    ) -> Result<BTreeMap<String, StorePath>, Failure> {
        let shared = self.shared;
        let builder = String::from_utf8_lossy(&resolved.derivation.builder).into_owned();
        let name = builder.strip_prefix("builtin:").unwrap_or(&builder);
        let builder = shared
            .builders
            .get(name)
            .ok_or_else(|| build_failed(format!("unknown builtin builder `builtin:{name}`")))?;
        let staging = shared.store.staging()?;
        let mut places = BTreeMap::new();
        let mut names = BTreeMap::new();
        for output in resolved.targets.keys() {
            let dir = staging.fd().try_clone().map_err(|error| disk("open a directory", error))?;
            places.insert(output.clone(), Place { dir, name: output.clone() });
            names.insert(output.clone(), CString::new(output.as_str()).map_err(build_failed)?);
        }
        let hears = JobEvents::new(self);
        let context = BuiltinContext {
            name: &resolved.derivation.name,
            attrs,
            store_dir: shared.store.dir(),
            inputs: closure,
            outputs: &places,
            expected: resolved.derivation.fixed_output().map(|(address, _)| *address),
            events: &hears,
            cancel: shared.cancel.clone(),
            cores: shared.options.build_cores(),
        };
        let built = builder.build(&context);
        let (tail, has_log) = hears.finish();
        built.map_err(|error| {
            let mut failure = Failure::new(kind_of(&error.kind), error.message);
            // What it says itself need not be said again as its log.
            failure.log_tail =
                tail.iter().filter(|line| !failure.message.contains(line.as_str())).cloned().collect();
            failure.has_log = has_log;
            match error.mismatch {
                Some(hashes) => failure.hint(format!(
                    "if what came is what you want, say that its hash is `{}`",
                    hashes.got.to_sri()
                )),
                None => failure,
            }
        })?;
        let finished = Finished {
            store: shared.store,
            drv: self.drv,
            resolved,
            attrs,
            dir: staging.fd(),
            names: &names,
            staging: &staging,
            candidates: closure.infos.keys().cloned().collect(),
            tier: None,
            copy_first: false,
        };
        self.finish(&finished, locks)
    }

    /// Registers what was built; or compares it, if that is what was asked for.
    fn finish(
        &self,
        finished: &Finished,
        locks: &BTreeMap<StorePath, OutputLock>,
    ) -> Result<BTreeMap<String, StorePath>, Failure> {
        let ready = finished.prepare()?;
        if self.activity == Activity::Check {
            return compare::compare(self.shared, self.drv, finished, ready);
        }
        finished.register(ready, self.original_hash(finished.resolved), locks)
    }

    // ---- builders in a sandbox -----------------------------------------------------------------

    fn run_sandboxed(
        &self,
        resolved: &Resolved,
        attrs: &Attributes,
        closure: &InputClosure,
        locks: &BTreeMap<StorePath, OutputLock>,
    ) -> Result<BTreeMap<String, StorePath>, Failure> {
        let shared = self.shared;
        let options = shared.options;
        let mut dirs = shared.build_dirs()?;
        let mut prepared = self.prepare(resolved, attrs, closure, &dirs)?;
        let group = shared.group()?;
        prepared.spec.group = group.as_ref().map(Group::entrance);
        dirs.fit(&prepared.spec);
        let staging = &dirs.staging;
        let spawner = shared.spawner()?;
        let limits = Limits {
            timeout: options.timeout,
            max_silent: options.max_silent,
            max_log_bytes: options.max_log_bytes,
        };
        let on_line = shared.events.wants_details().then(|| self.line_sink());
        let mut logger = Logger::new(shared.log_dir().path_of(self.drv), options.log_lines, on_line);
        let ending = supervise(&spawner, &prepared.spec, &limits, shared.cancel, &mut logger);
        let has_log = logger.total_bytes() > 0;
        let (tail, written) = logger.finish();
        let limit_met = |status| group.as_ref()?.limit_met(options.group_limits, status);
        let failure = match ending {
            Ending::Exited(0) => None,
            Ending::Exited(status) => Some(match limit_met(status) {
                Some(limit) => build_failed(format!("builder {limit}")),
                None => diagnose::exit(status),
            }),
            Ending::Sandbox(error) => Some(diagnose::sandbox(&error, closure)),
            Ending::Stopped(failure) => Some(failure),
        };
        let is_builders = failure.is_some();
        let outcome = match failure {
            Some(failure) => Err(failure),
            None => written.map_err(|error| disk("write the log", error)).and_then(|()| {
                let rewritten = prepared.take_private(staging)?;
                let (dir, names) = match &rewritten {
                    Some(names) => (staging.fd(), names),
                    None => (prepared.outputs_dir(&dirs), &prepared.names),
                };
                let finished = Finished {
                    store: shared.store,
                    drv: self.drv,
                    resolved,
                    attrs,
                    dir,
                    names,
                    staging,
                    candidates: closure.infos.keys().cloned().collect(),
                    tier: Some(options.tier),
                    copy_first: rewritten.is_none() && resolved.derivation.fixed_output().is_some(),
                };
                self.finish(&finished, locks)
            }),
        };
        if outcome.is_ok() && !prepared.spec.has_uplink && prepared.private.is_none() {
            shared.give_back(dirs);
            return outcome;
        }
        outcome.map_err(|mut failure| {
            if matches!(failure.kind, FailureKind::Build | FailureKind::TimedOut | FailureKind::HashMismatch)
            {
                failure.log_tail = tail;
                failure.has_log = has_log;
                failure.sandboxed = true;
                // Also where the hash is wrong: some builders go on with what a failed download left.
                let may_want = is_builders || failure.kind == FailureKind::HashMismatch;
                let is_fixed = resolved.derivation.fixed_output().is_some();
                if may_want && is_fixed && !options.allow_network_builders {
                    failure = failure.hint(
                        "builders have no network; let those with a promised hash have it with \
                         `--allow-network-builders`, or fetch with `fetchurl`",
                    );
                }
            }
            if options.keep_failed && failure.kind != FailureKind::Interrupted {
                failure.kept = self.keep(&prepared, staging);
            }
            failure
        })
    }

    /// Makes the sandbox that a build would get, and hands it to `run`; it is gone afterwards.
    pub(crate) fn enter<T>(
        &self,
        run: impl FnOnce(&mut SandboxSpec) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let resolved = resolve(self.shared.store, self.derivation, &self.inputs)?;
        if resolved.derivation.builder.starts_with(b"builtin:") {
            return Err(without_sandbox());
        }
        let attrs = attributes_of(&resolved.derivation)?;
        let closure = self.closure(&resolved)?;
        let dirs = self.shared.build_dirs()?;
        let mut prepared = self.prepare(&resolved, &attrs, &closure, &dirs)?;
        run(&mut prepared.spec)
    }

    fn line_sink(&self) -> LineSink<'_> {
        let (events, drv) = (self.shared.events, self.drv);
        Box::new(move |line| events.event(Event::Log { drv: drv.clone(), line }))
    }

    /// Makes the build's own directories and says what it will see.
    pub(crate) fn prepare(
        &self,
        resolved: &Resolved,
        attrs: &Attributes,
        closure: &InputClosure,
        dirs: &BuildDirs,
    ) -> Result<PreparedBuild, Failure> {
        let shared = self.shared;
        let (store, options) = (shared.store, shared.options);
        let identity = shared.identity;
        let private = match options.tier {
            Tier::Namespaces => None,
            _ => Some(PrivateStore::new(store, identity)?),
        };
        let own_build_dir = match &private {
            None => None,
            Some(private) => Some(make_own_dir(&private.open()?, "build", 0o700, identity)?),
        };
        let build_dir = own_build_dir.as_ref().unwrap_or(&dirs.build);
        let store_dir = PathBuf::from(store.dir().as_str());
        let top = dirs.staging.path().to_path_buf();
        let mut spec = SandboxSpec::new(top, store.root().objects(), store_dir, identity);
        spec.tier = options.tier;
        // A builder that writes its directory's name or a process's number into an output is found out.
        if self.activity == Activity::Check {
            spec.build_dir = PathBuf::from("/build-again");
            spec.has_high_pids = true;
        }
        if let Some(private) = &private {
            spec.top_dir = private.path().to_path_buf();
            spec.build_dir = private.path().join("build");
        }
        let inside = spec.build_dir.to_string_lossy().into_owned();
        let is_fixed = resolved.derivation.fixed_output().is_some();
        if is_fixed && options.allow_network_builders && options.tier == Tier::Namespaces {
            spec.has_uplink = true;
            spec.files.push(uplink::resolver());
        }
        let pairs = private.as_ref().map(|private| private.pairs(store, resolved)).unwrap_or_default();
        let inside_of = |text: &[u8]| replace_all(text, &pairs);
        let outputs: BTreeMap<String, String> = resolved
            .targets
            .iter()
            .map(|(name, path)| {
                let seen = inside_of(store.dir().print(path).as_bytes());
                (name.clone(), String::from_utf8_lossy(&seen).into_owned())
            })
            .collect();
        let variables = resolved.derivation.environment.iter();
        let variables = variables.map(|(name, value)| (name.to_vec(), inside_of(value))).collect();
        let inputs = build_inputs(&EnvironmentSpec {
            store_dir: store.dir(),
            build_dir: &inside,
            cores: options.build_cores(),
            is_fixed,
            outputs: &outputs,
            variables: &variables,
            impure: &impure(is_fixed, attrs, &options.impure_env)?,
            graphs: &closure.reference_graphs(attrs)?,
        })
        .map_err(build_failed)?;
        for (name, contents) in &inputs.files {
            write_into(build_dir, name, contents, identity)?;
        }
        spec.env = inputs.env.into_iter().collect();
        spec.builder = resolved.derivation.builder.to_vec();
        spec.args = vec![base_name(&spec.builder)];
        spec.args.extend(resolved.derivation.arguments.iter().map(|arg| inside_of(arg)));
        check_arguments(&spec.args)?;
        spec.linux32 = resolved.derivation.system.starts_with(b"i686-");
        spec.binds = closure.root_binds(attrs)?;
        spec.binds.extend(closure.binds()?);
        let taken: BTreeSet<PathBuf> = spec.binds.iter().map(|bind| bind.target.clone()).collect();
        spec.binds.extend(options.host_paths.iter().filter(|bind| !taken.contains(&bind.target)).cloned());
        let names = resolved.targets.iter().map(|(name, path)| {
            (name.clone(), CString::new(path.as_str()).expect("a store path has no zero byte"))
        });
        let private_dir = private.as_ref().map(PrivateStore::open).transpose()?;
        Ok(PreparedBuild { spec, private_dir, names: names.collect(), private, pairs })
    }

    /// Moves the build directory to where a person finds it.
    fn keep(&self, prepared: &PreparedBuild, staging: &Staging) -> Option<PathBuf> {
        let kept = self.shared.store.root().path().join("kept");
        std::fs::create_dir_all(&kept).ok()?;
        let name = self.drv.derivation_name().unwrap_or("build");
        let target = (0..10_000).map(|n| kept.join(format!("{name}-{n}"))).find(|path| !path.exists())?;
        let from = prepared.private.as_ref().map_or(staging.path(), |private| private.path());
        std::fs::rename(from.join("build"), &target).ok()?;
        Some(target)
    }
}

/// A sandbox that can be started, and where its outputs will be.
pub(crate) struct PreparedBuild {
    pub(crate) spec: SandboxSpec,
    pub(crate) names: BTreeMap<String, CString>,
    private_dir: Option<OwnedFd>,
    /// Where outputs are built when there is no private root.
    private: Option<PrivateStore>,
    /// Paths in it, and those that they stand for.
    pairs: Vec<Pair>,
}

impl PreparedBuild {
    /// Where the outputs will be.
    fn outputs_dir<'a>(&'a self, dirs: &'a BuildDirs) -> &'a OwnedFd {
        self.private_dir.as_ref().unwrap_or(&dirs.store)
    }

    /// Copies outputs that were built under private paths, with their true ones in them. Returns
    /// their names in `staging`; nothing if there is nothing to do.
    fn take_private(&self, staging: &Staging) -> Result<Option<BTreeMap<String, CString>>, Failure> {
        let Some(private_dir) = &self.private_dir else { return Ok(None) };
        let back: Vec<Pair> = self.pairs.iter().map(|(to, from)| (from.clone(), to.clone())).collect();
        let mut names = BTreeMap::new();
        for (output, name) in &self.names {
            let is_there = rustix::fs::statat(private_dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
            let copy = match is_there {
                Ok(_) => copy_rewritten(private_dir, name, staging, back.clone())?,
                // Missing there, missing here: told with all others.
                Err(_) => name.clone(),
            };
            names.insert(output.clone(), copy);
        }
        Ok(Some(names))
    }
}

/// Where a build without a private root makes its outputs: a directory whose name is as long as the
/// store's, so that paths in what it makes can be replaced by the true ones. The store itself stays
/// closed to it.
#[derive(Debug)]
struct PrivateStore(PathBuf);

impl PrivateStore {
    fn new(store: &Store, identity: Identity) -> Result<Self, Failure> {
        let (logical, physical) = (store.dir().as_str(), store.root().objects());
        if std::fs::canonicalize(logical).ok() != Some(physical.clone()) {
            return Err(Failure::new(
                FailureKind::Sandbox,
                format!(
                    "without namespaces the store must lie at `{logical}`, and it lies at `{}`",
                    physical.display()
                ),
            )
            .hint(format!(
                "make a link, as root: `mkdir -p {parent} && ln -s {} {logical}`",
                physical.display(),
                parent =
                    std::path::Path::new(logical).parent().unwrap_or(std::path::Path::new("/")).display()
            )));
        }
        let room = logical.len().checked_sub("/tmp/".len()).filter(|room| *room >= 3).ok_or_else(|| {
            Failure::new(
                FailureKind::Sandbox,
                format!(
                    "without namespaces a store at `{logical}` cannot be built for: its name is too short"
                ),
            )
        })?;
        for _ in 0..100 {
            let path = PathBuf::from(format!("/tmp/{}", random_name(room)));
            match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path)
            {
                Ok(()) => {
                    let private = Self(path);
                    give_away(private.open()?.as_fd(), identity)?;
                    return Ok(private);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(disk("make a build's directory in /tmp", error)),
            }
        }
        Err(Failure::new(FailureKind::Store, "cannot find a free name in /tmp"))
    }

    fn path(&self) -> &std::path::Path {
        &self.0
    }

    fn open(&self) -> Result<OwnedFd, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&self.0, flags, Mode::empty())
            .map_err(|error| disk("open a build's directory", error))
    }

    /// Each output's true path, and where it is made.
    fn pairs(&self, store: &Store, resolved: &Resolved) -> Vec<Pair> {
        let pair = |path: &StorePath| {
            let made = self.0.join(path.as_str()).into_os_string().into_encoded_bytes();
            (store.dir().print(path).into_bytes(), made)
        };
        resolved.targets.values().map(pair).collect()
    }
}

impl Drop for PrivateStore {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A name that cannot be guessed, of letters and digits.
fn random_name(length: usize) -> String {
    use std::hash::{BuildHasher, Hasher};
    let digits = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let digit = |_| {
        let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
        char::from(digits[(number % digits.len() as u64) as usize])
    };
    (0..length).map(digit).collect()
}

fn kind_of(kind: &BuiltinErrorKind) -> FailureKind {
    match kind {
        BuiltinErrorKind::Build => FailureKind::Build,
        BuiltinErrorKind::Fetch => FailureKind::Fetch,
        BuiltinErrorKind::HashMismatch => FailureKind::HashMismatch,
        BuiltinErrorKind::Policy => FailureKind::Policy,
        BuiltinErrorKind::Store => FailureKind::Store,
        BuiltinErrorKind::Cancelled => FailureKind::Interrupted,
    }
}

fn base_name(path: &[u8]) -> Vec<u8> {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path).to_vec()
}

fn check_arguments(args: &[Vec<u8>]) -> Result<(), Failure> {
    const LONGEST: usize = 128 * 1024;
    match args.iter().position(|arg| arg.len() >= LONGEST || arg.contains(&0)) {
        None => Ok(()),
        Some(at) if args[at].contains(&0) => {
            Err(build_failed(format!("argument {at} of the builder contains a zero byte")))
        }
        Some(at) => Err(build_failed(format!(
            "argument {at} of the builder is too long: {} bytes, of {LONGEST} at most; pass it by file (`passAsFile`)",
            args[at].len()
        ))),
    }
}

/// What a fixed-output derivation may see of our environment, if it says so.
fn impure(
    is_fixed: bool,
    attrs: &Attributes,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Failure> {
    if !is_fixed {
        return Ok(BTreeMap::new());
    }
    let names = attrs.texts("impureEnvVars").map_err(build_failed)?;
    Ok(names
        .into_iter()
        .map(|name| {
            let value = given.get(&name).cloned().unwrap_or_default();
            (name, value)
        })
        .collect())
}

pub(crate) fn give_away(fd: std::os::fd::BorrowedFd, identity: Identity) -> Result<(), Failure> {
    if !identity.foreign {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(identity.uid), rustix::fs::Gid::from_raw(identity.gid));
    rustix::fs::fchown(fd, Some(uid), Some(gid))
        .map_err(|error| disk("give a file to the build's user", error))
}

/// Writes a file into a directory that no builder has seen yet, following nothing.
fn write_into(dir: &OwnedFd, name: &str, contents: &[u8], identity: Identity) -> Result<(), Failure> {
    use std::io::Write;
    let failed =
        |error: std::io::Error| disk(&format!("write `{}` for the build", safe_line(name.as_bytes())), error);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd =
        rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)).map_err(|e| failed(e.into()))?;
    give_away(fd.as_fd(), identity)?;
    let mut file = std::fs::File::from(fd);
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(failed)?;
    file.write_all(contents).map_err(failed)
}

/// Passes a builtin builder's words on.
struct JobEvents<'a> {
    shared: &'a Shared<'a>,
    drv: &'a StorePath,
    logger: Mutex<Logger<'a>>,
    told: Mutex<Instant>,
}

impl<'a> JobEvents<'a> {
    fn new(job: &'a Job<'a>) -> Self {
        let shared = job.shared;
        let on_line = shared.events.wants_details().then(|| job.line_sink());
        let path = shared.log_dir().path_of(job.drv);
        Self {
            shared,
            drv: job.drv,
            logger: Mutex::new(Logger::new(path, shared.options.log_lines, on_line)),
            told: Mutex::new(shared.began),
        }
    }

    fn finish(self) -> (Vec<String>, bool) {
        let logger = self.logger.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let has_log = logger.total_bytes() > 0;
        (logger.finish().0, has_log)
    }
}

impl BuiltinEvents for JobEvents<'_> {
    fn log(&self, line: &str) {
        let mut logger = self.logger.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        logger.take(format!("{line}\n").as_bytes());
    }

    fn progress(&self, done_bytes: u64, total_bytes: Option<u64>) {
        const OFTEN: Duration = Duration::from_millis(50);
        if !self.shared.events.wants_details() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.elapsed() < OFTEN && total_bytes != Some(done_bytes) {
            return;
        }
        *told = Instant::now();
        self.shared.events.event(Event::Progress { drv: self.drv.clone(), done_bytes, total_bytes });
    }
}
