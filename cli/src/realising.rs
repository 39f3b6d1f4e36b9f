//! Realising for the command line: the builders that this program has, what the configuration says
//! about builds, and derivations that are only in an evaluation's memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ampoule_eval::{ContextElem, Fetch, Interrupt};
use ampoule_net::{Cancel, ClientConfig};
use ampoule_realise::builtin::{DebianCompose, FetchOneOf, FetchUrl, GoModule, Merge, Unpack, WriteTree};
use ampoule_realise::fetch::{Fetcher, FetcherConfig, MirrorSettings};
use ampoule_realise::{
    Builders, DerivationSource, EventSink, Options, RealiseError, Realised, Realiser as Scheduler, Wanted,
};
use ampoule_store::{
    ContentAddress, Derivation, DerivationDraft, Method, ModuloHashes, Outputs, Store, StoreError, StorePath,
    Tier,
};

use crate::config::Config;
use crate::error::{CliError, ExitStatus};
use crate::world::{ProjectWorld, Realiser};

/// Options of every command that builds.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Realising")]
pub struct BuildArgs {
    /// Builds at a time; `auto` or 0 is one for each processor, the default
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<u64>,

    /// Processors that one build may use; 0 is all
    #[arg(long, value_name = "N")]
    pub cores: Option<u64>,

    /// Go on with what does not depend on what failed
    #[arg(short, long)]
    pub keep_going: bool,

    /// Keep the directory of a failed build
    #[arg(short = 'K', long)]
    pub keep_failed: bool,

    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Build once more what is there, and compare
    #[arg(long)]
    pub check: bool,

    /// Never use the network
    #[arg(long)]
    pub offline: bool,

    /// Build what binary caches have, too
    #[arg(long)]
    pub no_substitute: bool,

    /// Seconds after which a build is stopped
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,

    /// Seconds without a line of log after which a build is stopped
    #[arg(long, value_name = "SECONDS")]
    pub max_silent: Option<u64>,

    /// The wall around builds: namespaces, landlock or none
    #[arg(long, value_name = "TIER")]
    pub sandbox: Option<String>,

    /// Build without a wall
    #[arg(long, conflicts_with = "sandbox")]
    pub no_sandbox: bool,

    /// A path of this machine that builds see read-only, as PATH or INSIDE=PATH
    #[arg(long, value_name = "PATH")]
    pub sandbox_path: Vec<String>,

    /// Let fixed-output derivations with a builder of their own use the network
    #[arg(long)]
    pub allow_network_builders: bool,
}

fn jobs(text: &str) -> Result<u64, std::num::ParseIntError> {
    if text == "auto" { Ok(0) } else { text.parse() }
}

impl BuildArgs {
    /// What the flags and then the configuration say.
    ///
    /// # Errors
    /// For a tier that there is not.
    pub fn options(&self, config: &Config) -> Result<Options, CliError> {
        let number = |flag: Option<u64>, key: &str| flag.unwrap_or_else(|| config.number(key));
        let limit = |key: &str| Some(config.number(key)).filter(|n| *n > 0);
        let seconds = |flag, key| Some(number(flag, key)).filter(|n| *n > 0).map(Duration::from_secs);
        let mut options = Options {
            cores: number(self.cores, "build.cores") as usize,
            fetches: config.number("fetch.jobs").max(1) as usize,
            keep_going: self.keep_going || config.bool("build.keep-going"),
            keep_failed: self.keep_failed || config.bool("build.keep-failed"),
            check: self.check,
            offline: self.offline || config.bool("fetch.offline"),
            substitute: !self.no_substitute,
            dry_run: self.dry_run,
            tier: self.tier(config)?,
            host_paths: self
                .sandbox_path
                .iter()
                .map(|path| ampoule_realise::sandbox::host_bind(path).map_err(CliError::usage))
                .collect::<Result<_, _>>()?,
            allow_network_builders: self.allow_network_builders || config.bool("build.network-builders"),
            timeout: seconds(self.timeout, "build.timeout"),
            max_silent: seconds(self.max_silent, "build.max-silent"),
            max_log_bytes: limit("build.max-log"),
            group_limits: ampoule_realise::GroupLimits {
                memory_bytes: limit("build.max-memory"),
                processes: limit("build.max-processes"),
            },
            features: config.list("build.system-features").iter().cloned().collect(),
            impure_env: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            ..Options::default()
        };
        let jobs = number(self.jobs, "build.jobs") as usize;
        if jobs > 0 {
            options.jobs = jobs;
        }
        Ok(options)
    }

    fn tier(&self, config: &Config) -> Result<Tier, CliError> {
        if self.no_sandbox {
            return Ok(Tier::None);
        }
        let name = self.sandbox.as_deref().or(config.text("build.sandbox")).unwrap_or("namespaces");
        Tier::parse(name).ok_or_else(|| {
            CliError::usage(format!("there is no sandbox `{name}`")).hint("use namespaces, landlock or none")
        })
    }
}

/// The fetcher that the configuration and the machine describe.
pub fn fetcher(config: &Config, offline: bool) -> Arc<Fetcher> {
    let configured: BTreeMap<String, Vec<String>> =
        config.mirrors().map(|(name, bases, _)| (name.to_owned(), bases.to_vec())).collect();
    Arc::new(Fetcher::new(FetcherConfig {
        net: ClientConfig { offline, ..ClientConfig::from_env() },
        mirrors: MirrorSettings::from_env(configured),
        max_transfers: config.number("fetch.jobs").max(1) as usize,
    }))
}

/// Every builder that is part of this program.
pub fn builders(config: &Config, store: &Store, offline: bool) -> Builders {
    let fetcher = fetcher(config, offline);
    let mut builders = Builders::default();
    builders.register(FetchUrl::new(fetcher.clone()));
    builders.register(DebianCompose);
    builders.register(Unpack);
    builders.register(WriteTree);
    builders.register(Merge);
    builders.register(GoModule::new(fetcher.clone()));
    builders.register(FetchOneOf::new(fetcher.clone()));
    crate::images::register(&mut builders, fetcher.client(), store.root());
    builders
}

/// Derivations of an evaluation before those of the store.
pub struct Derivations<'a> {
    /// The evaluation's world.
    pub world: &'a ProjectWorld,
    /// The store.
    pub store: &'a Store,
}

impl DerivationSource for Derivations<'_> {
    fn derivation(&self, path: &StorePath) -> Result<Arc<Derivation>, StoreError> {
        let failed =
            |error: std::io::Error| StoreError::Other(format!("cannot read the text of `{path}`: {error}"));
        match self.world.text(path).map_err(failed)? {
            Some(text) => {
                let name = path.derivation_name()?;
                Ok(Arc::new(Derivation::parse(self.store.dir(), name, &text)?))
            }
            None => self.store.read_derivation(path).map(Arc::new),
        }
    }
}

/// Realises derivations of an evaluation.
///
/// # Errors
/// What failed; each failure was told to `events`.
pub fn realise(
    world: &ProjectWorld,
    config: &Config,
    options: &Options,
    events: &dyn EventSink,
    cancel: Cancel,
    wanted: &[Wanted],
) -> Result<Realised, CliError> {
    let store = world.store()?;
    let source = Derivations { world, store };
    if !options.dry_run && !all_valid(store, &source, wanted)? {
        // Texts that builds read (`builtins.toFile`) must be there before; derivations come along.
        let roots: Vec<StorePath> = wanted.iter().map(|one| one.drv.clone()).collect();
        world.write_texts(&roots)?;
    }
    let builders = builders(config, store, options.offline);
    let substituters = crate::store::substituters(config, options.offline, &cancel)?;
    let scheduler = Scheduler {
        store,
        source: &source,
        builders: &builders,
        substituters: Some(&substituters),
        options,
        events,
        cancel,
    };
    scheduler.realise(wanted).map_err(|error| realise_error(&error))
}

/// Whether every wanted output is known and there: then nothing is written, not even derivations.
fn all_valid(store: &Store, source: &Derivations<'_>, wanted: &[Wanted]) -> Result<bool, CliError> {
    for one in wanted {
        let derivation = source.derivation(&one.drv)?;
        for (name, output) in &derivation.outputs {
            if !one.outputs.is_empty() && !one.outputs.contains(name) {
                continue;
            }
            let Some(path) = output.path() else { return Ok(false) };
            if !store.is_valid(path)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The exit status of a failure; its words were told when it happened, or are told here.
pub fn realise_error(error: &RealiseError) -> CliError {
    let status = match error.exit_status() {
        3 => ExitStatus::Fetch,
        5 => ExitStatus::Policy,
        100 => ExitStatus::BuildFailed,
        101 => ExitStatus::TimedOut,
        102 => ExitStatus::HashMismatch,
        104 => ExitStatus::NotDeterministic,
        130 => ExitStatus::Interrupted,
        _ => ExitStatus::Evaluation,
    };
    let mut told = CliError::new(status, error.to_string());
    told.hints = error.failures.iter().flat_map(|failure| failure.hints.clone()).collect();
    told.hints.dedup();
    told
}

/// What evaluation may ask to be built or fetched.
pub struct EvaluationRealiser {
    config: Config,
    options: Options,
    cancel: Cancel,
}

impl EvaluationRealiser {
    /// Builds and fetches as the command itself does, until the evaluation is interrupted.
    pub fn new(config: &Config, options: Options, evaluation: &Interrupt) -> Self {
        let evaluation = evaluation.clone();
        Self { config: config.clone(), options, cancel: Cancel::when(move || evaluation.is_asked()) }
    }
}

impl Realiser for EvaluationRealiser {
    fn fetch(&self, store: &Store, fetch: &Fetch) -> std::io::Result<StorePath> {
        let hash = fetch.hash.ok_or_else(|| {
            std::io::Error::other(format!("'{}' cannot be fetched without a hash", fetch.url))
        })?;
        let failed = |error: &dyn std::fmt::Display| std::io::Error::other(error.to_string());
        // The same derivation that `<nix/fetchurl.nix>` describes: a fixed output's path follows from name and hash.
        let method = if fetch.unpack { Method::Nar } else { Method::Flat };
        let mut draft = DerivationDraft::new(&fetch.name, Outputs::Fixed(ContentAddress { method, hash }));
        draft.system = "builtin".into();
        draft.builder = "builtin:fetchurl".into();
        let unpack = if fetch.unpack { "1" } else { "" };
        for (name, value) in
            [("name", fetch.name.as_str()), ("url", &fetch.url), ("urls", &fetch.url), ("unpack", unpack)]
        {
            draft.environment.insert(name.into(), value.into());
        }
        let derivation = draft.finish(store.dir(), &ModuloHashes::default()).map_err(|e| failed(&e))?;
        let drv = store.write_derivation(&derivation).map_err(|e| failed(&e))?;
        let builders = builders(&self.config, store, self.options.offline);
        let cancel = self.cancel.clone();
        let substituters = crate::store::substituters(&self.config, self.options.offline, &cancel)
            .map_err(|e| failed(&e.message))?;
        let scheduler = Scheduler {
            store,
            source: store,
            builders: &builders,
            substituters: Some(&substituters),
            options: &self.options,
            events: &ampoule_realise::Silent,
            cancel,
        };
        let wanted = Wanted { drv, outputs: Default::default() };
        scheduler.realise(&[wanted]).map_err(|e| failed(&e))?;
        let path = derivation.output_path("out").expect("a fixed output's path is known");
        Ok(path.clone())
    }

    fn realise(&self, world: &ProjectWorld, needed: &[ContextElem]) -> std::io::Result<()> {
        let mut wanted: BTreeMap<StorePath, Wanted> = BTreeMap::new();
        for elem in needed {
            if let ContextElem::Built { drv, output } = elem {
                let one = wanted
                    .entry(drv.clone())
                    .or_insert_with(|| Wanted { drv: drv.clone(), outputs: Default::default() });
                one.outputs.insert(output.to_string());
            }
        }
        let wanted: Vec<Wanted> = wanted.into_values().collect();
        realise(world, &self.config, &self.options, &ampoule_realise::Silent, self.cancel.clone(), &wanted)
            .map(drop)
            .map_err(|error| std::io::Error::other(error.message))
    }
}
