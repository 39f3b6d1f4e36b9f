//! One evaluation: from the words of the command line to values, with errors shown.
//!
//! Shared by `eval`, `instantiate`, `realise` and the REPL: which files or texts are meant, what they may
//! see ([`ProjectWorld`]), and how a function of named arguments is called.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ampoule_eval::{
    ErrorKind, EvalError, EvalResult, Evaluator, Interrupt, NamedArguments, Settings, Value, World,
};
use ampoule_lang::SourceMap;
use ampoule_realise::Options;
use ampoule_store::{StoreDir, StoreRoot};

use crate::abreast::{self, Done, Next};
use crate::config::Config;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::realising::EvaluationRealiser;
use crate::ui::Ui;
use crate::world::{Keeps, ProjectWorld, WorldOptions};

/// What to evaluate, and how: the options of `nix-instantiate`, meaning the same.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Evaluation")]
pub struct ExpressionArgs {
    /// Files or directories with a `default.img`; `-` reads standard input [default: .]
    #[arg(value_name = "FILE", add = crate::candidates::sources())]
    pub files: Vec<String>,

    /// An expression instead of a file
    #[arg(short = 'E', long = "expr", value_name = "EXPR", allow_hyphen_values = true)]
    pub expressions: Vec<String>,

    /// The attribute path to take: `a.b.0`
    #[arg(short = 'A', long = "attr", value_name = "PATH", add = crate::candidates::attributes())]
    pub attributes: Vec<String>,

    /// An argument for a file that is a function: an expression
    #[arg(long, num_args = 2, value_names = ["NAME", "EXPR"], action = clap::ArgAction::Append)]
    pub arg: Vec<String>,

    /// An argument for a file that is a function: a string
    #[arg(long, num_args = 2, value_names = ["NAME", "STRING"], action = clap::ArgAction::Append)]
    pub argstr: Vec<String>,

    /// An argument for a file that is a function: what a file contains, as a string
    #[arg(long, num_args = 2, value_names = ["NAME", "FILE"], action = clap::ArgAction::Append)]
    pub arg_from_file: Vec<String>,

    /// An argument for a file that is a function: what standard input says, as a string
    #[arg(long, value_name = "NAME")]
    pub arg_from_stdin: Vec<String>,

    /// Where `<name>` is looked up: `name=path`, or a directory
    #[arg(short = 'I', value_name = "PATH")]
    pub include: Vec<String>,

    /// The directory whose files may be read [default: the file's own]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Allow files anywhere, the environment and the clock, as Nix does without `--pure-eval`
    #[arg(long, alias = "no-pure-eval", overrides_with = "pure_eval")]
    pub impure: bool,

    /// The opposite of `--impure`, and the default
    #[arg(long, overrides_with = "impure")]
    pub pure_eval: bool,

    /// Of the files allow only those that `-I` names and what lies below; of the environment nothing
    #[arg(long)]
    pub restrict_eval: bool,

    /// The system to evaluate for, such as `aarch64-linux`
    #[arg(long, value_name = "SYSTEM")]
    pub system: Option<String>,

    /// Let evaluation build what it reads
    #[arg(long, overrides_with = "no_allow_import_from_derivation")]
    pub allow_import_from_derivation: bool,

    /// The opposite, and the default
    #[arg(long, hide = true, overrides_with = "allow_import_from_derivation")]
    pub no_allow_import_from_derivation: bool,

    /// Evaluation has no store of its own here: `auto`, or `dummy://` for nothing that is written
    #[arg(long, hide = true, value_name = "STORE")]
    pub eval_store: Option<String>,

    /// Show every step of the trace of an error
    #[arg(long)]
    pub show_trace: bool,

    /// Let `builtins.traceVerbose` trace
    #[arg(long)]
    pub trace_verbose: bool,

    /// Fail at the first `builtins.warn`, with its trace
    #[arg(long)]
    pub abort_on_warn: bool,

    /// Threads that evaluate, each with its own memory [default: one for each processor if there are several files or
    /// expressions]; with a number, attributes and the parts of a set that `eval --json` prints are shared out too
    #[arg(long, value_name = "COUNT")]
    pub eval_jobs: Option<std::num::NonZeroUsize>,

    /// Calls that may be nested, about; as many as the stack holds if not given
    #[arg(long, value_name = "COUNT")]
    pub max_call_depth: Option<usize>,
}

/// Bytes of native stack that a nested call of a small function takes.
const BYTES_PER_CALL: usize = 1024;

/// One thing to evaluate.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A file or directory: absolute.
    File(PathBuf),
    /// A text, where it came from, and the directory at which its relative paths start.
    Text { name: String, base_dir: PathBuf, text: Vec<u8> },
}

/// An evaluation that is ready to start.
pub struct Session {
    /// What to evaluate.
    pub entries: Vec<Entry>,
    /// What it may see.
    pub world: Arc<ProjectWorld>,
    /// How.
    pub settings: Settings,
    /// Threads that it may take.
    pub jobs: usize,
    arguments: Vec<Argument>,
    attributes: Vec<String>,
    project: PathBuf,
    policy: String,
    show_trace: bool,
    /// Whether a function that needs no argument is shown as such where `nix-instantiate --eval` does that: what `-E`
    /// or `-A` gives, unless there are arguments for it.
    pub shows_functions: bool,
    /// What the project's lock file lacks, once packages were used.
    lock_warning: OnceLock<String>,
}

/// What is done with a value, or a part of it, on the thread that computed it.
pub type Each<'a, R> =
    &'a (dyn Fn(&mut Evaluator, Value, &NamedArguments, Part) -> Result<R, Problem> + Sync);
/// What is done with what came of it.
pub type Deliver<'a, R> = &'a mut (dyn FnMut(R) -> Result<(), CliError> + Send);

/// Which part of a value.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// From 0.
    pub index: usize,
    /// How many there are; 1 is the value itself.
    pub of: usize,
}

#[derive(Clone, Debug)]
struct Argument {
    name: String,
    value: ArgumentValue,
}

#[derive(Clone, Debug)]
enum ArgumentValue {
    Expression(String),
    Text(Vec<u8>),
}

/// What makes a directory a project: what it asks for, and what that was resolved to.
const PROJECT_FILES: [&str; 2] = ["ampoule.toml", "ampoule.lock"];

/// The directory of the project that files in `dir` belong to: the nearest one, from there upwards, with an `ampoule.toml`.
/// A lock file beside the files needs none.
fn project_of(dir: &Path) -> &Path {
    if PROJECT_FILES.iter().any(|name| dir.join(name).is_file()) {
        return dir;
    }
    dir.ancestors().find(|dir| dir.join(PROJECT_FILES[0]).is_file()).unwrap_or(dir)
}

impl Session {
    /// Reads the words of the command line; opens nothing but files that are named there. `build` is how
    /// evaluation fetches what it reads, and builds it where that is allowed.
    ///
    /// # Errors
    /// If they make no sense, or a file is not there.
    pub fn new(
        args: &ExpressionArgs,
        config: &Config,
        keeps: Keeps,
        build: Options,
    ) -> Result<Self, CliError> {
        let dir = std::env::current_dir().while_doing(|| "cannot tell the working directory".to_owned())?;
        let entries = entries(args, &dir)?;
        let as_in_nix = config.as_in_nix();
        let impure = !args.pure_eval && (args.impure || as_in_nix.impure == Some(true));
        let restricted = args.restrict_eval || as_in_nix.restricted == Some(true);
        check_eval_store(args)?;
        let mut roots = Vec::new();
        for entry in &entries {
            if restricted {
                break;
            }
            roots.push(match entry {
                Entry::File(path) if path.is_dir() => path.clone(),
                Entry::File(path) => path.parent().unwrap_or(path).to_owned(),
                Entry::Text { base_dir, .. } => base_dir.clone(),
            });
        }
        let project = match &args.root {
            Some(root) => dir.join(root),
            None => project_of(roots.first().unwrap_or(&dir)).to_owned(),
        };
        // They hold for files in the project's folders too; nothing else above those may be read.
        roots.extend(PROJECT_FILES.map(|name| project.join(name)));
        if args.root.is_some() {
            roots.push(project.clone());
        }
        let mut search_path = Vec::new();
        for entry in args.include.iter().chain(config.list("eval.path")).chain(&as_in_nix.search_path) {
            let (prefix, path) = entry.split_once('=').unwrap_or(("", entry));
            // As it was given: `builtins.nixPath` shows it.
            search_path.push((prefix.to_owned(), path.to_owned()));
        }
        if impure && as_in_nix.search_path.is_empty() {
            search_path.extend(nix_path());
        }
        roots.extend(
            search_path.iter().filter(|(_, path)| !path.contains("://")).map(|(_, path)| dir.join(path)),
        );
        let mut resolved: Vec<PathBuf> =
            roots.iter().filter_map(|root| std::fs::canonicalize(root).ok()).collect();
        resolved.extend(roots);
        resolved.sort();
        resolved.dedup();
        let logical = config.text("store.logical-dir").unwrap_or("/nix/store");
        let store_dir =
            StoreDir::new(logical).map_err(|e| CliError::usage(format!("store.logical-dir: {e}")))?;
        let options = WorldOptions {
            roots: resolved,
            impure,
            restricted,
            search_path,
            store_root: config.text("store.dir").map(StoreRoot::new),
            store_dir,
            keeps,
        };
        let system = args.system.as_deref().or(config.text("build.system"));
        let mut settings = Settings {
            shows_sameness: false,
            impure,
            allow_import_from_derivation: args.allow_import_from_derivation
                || config.bool("eval.import-from-derivation"),
            trace_verbose: args.trace_verbose || as_in_nix.trace_verbose == Some(true),
            abort_on_warn: args.abort_on_warn || as_in_nix.abort_on_warn == Some(true),
            system: system.map_or_else(this_system, str::to_owned),
            interrupt: Interrupt::default(),
            sources: Arc::new(SourceMap::new()),
            ..Settings::default()
        };
        let max_calls = usize::try_from(config.number("eval.max-depth")).ok().filter(|&calls| calls > 0);
        if let Some(calls) = args.max_call_depth.or(max_calls) {
            settings.stack_bytes = settings.stack_bytes.min(calls.saturating_mul(BYTES_PER_CALL));
        }
        settings.parse.pipe_operators = config.bool("eval.pipe-operators");
        let realiser = Box::new(EvaluationRealiser::new(config, build, &settings.interrupt));
        let mut arguments = Vec::new();
        for pair in args.arg.chunks_exact(2) {
            arguments
                .push(Argument { name: pair[0].clone(), value: ArgumentValue::Expression(pair[1].clone()) });
        }
        for pair in args.argstr.chunks_exact(2) {
            arguments.push(Argument {
                name: pair[0].clone(),
                value: ArgumentValue::Text(pair[1].clone().into_bytes()),
            });
        }
        for pair in args.arg_from_file.chunks_exact(2) {
            let text = crate::programs::read(&pair[1])?;
            arguments.push(Argument { name: pair[0].clone(), value: ArgumentValue::Text(text) });
        }
        for name in &args.arg_from_stdin {
            let text = crate::programs::read("-")?;
            arguments.push(Argument { name: name.clone(), value: ArgumentValue::Text(text) });
        }
        Ok(Self {
            entries,
            world: Arc::new(ProjectWorld::new(options, Some(realiser))),
            settings,
            jobs: match args.eval_jobs {
                Some(jobs) => jobs.get(),
                None => default_jobs(args),
            },
            arguments,
            attributes: args.attributes.clone(),
            project,
            policy: policy(config),
            show_trace: args.show_trace || as_in_nix.show_trace == Some(true),
            shows_functions: false,
            lock_warning: OnceLock::new(),
        })
    }

    /// Evaluates every entry (and each attribute path of it), and gives the values to `each`, which may be called on
    /// several threads. Returns what it gave, in order.
    ///
    /// # Errors
    /// The first error, which was shown; or what `each` fails with.
    pub fn each<R: Send>(
        &self,
        ui: &Ui,
        each: impl Fn(&mut Evaluator, Value, &NamedArguments) -> Result<R, Problem> + Send + Sync,
    ) -> Result<Vec<R>, CliError> {
        let mut results = Vec::new();
        let each =
            |ev: &mut Evaluator, value, arguments: &NamedArguments, _: Part| each(ev, value, arguments);
        self.each_in_order(ui, 1, &each, &mut |result| {
            results.push(result);
            Ok(())
        })?;
        Ok(results)
    }

    /// Evaluates every entry (and each attribute path of it), gives the values to `each`, which may be called on several
    /// threads, and what that gives, one after another, to `deliver`. If there is but one value, `each` may be asked for
    /// parts of it: up to `parts`.
    ///
    /// # Errors
    /// The first error, which was shown; or what `each` or `deliver` fail with.
    pub fn each_in_order<R: Send>(
        &self,
        ui: &Ui,
        parts: usize,
        each: Each<'_, R>,
        deliver: Deliver<'_, R>,
    ) -> Result<(), CliError> {
        if ui.json() {
            self.world.speak_json();
        }
        let done = self.each_abreast(ui, parts, each, deliver);
        self.warn_of_lock(ui);
        done
    }

    fn each_abreast<R: Send>(
        &self,
        ui: &Ui,
        parts: usize,
        each: Each<'_, R>,
        deliver: Deliver<'_, R>,
    ) -> Result<(), CliError> {
        let values = self.entries.len() * self.attributes.len().max(1);
        let mut delivered = 0;
        // Where a value is not printed whole it shows what was computed before.
        if self.jobs > 1 && !self.settings.shows_unforced {
            let parts = if values == 1 { parts } else { 1 };
            self.meet_names();
            let mut whole = Vec::new();
            let work = |ev: &mut Evaluator, next: Next<'_>, done: Done<'_, R>| {
                let done = &mut |task, result| {
                    done(task, result);
                    Ok(())
                };
                self.tasks(ev, parts, next, each, done).map_err(|_| ())
            };
            let mut take = |result| match parts {
                1 => deliver(result),
                _ => {
                    whole.push(result);
                    Ok(())
                }
            };
            let world: Arc<dyn World> = self.world.clone();
            let count = values * parts;
            delivered =
                abreast::begin(&self.settings, &world, self.jobs.min(count), count, &work, &mut take)?;
            if delivered == count {
                return whole.into_iter().try_for_each(deliver);
            }
            if parts > 1 {
                delivered = 0;
            }
        }
        self.each_in_turn(ui, delivered..values, each, deliver)
    }

    /// Meets the names of the entries in their order. Where several attributes of a set fail, it decides which is told:
    /// that must not depend on which thread is the first to read its file.
    fn meet_names(&self) {
        let sources = SourceMap::new();
        for entry in &self.entries {
            let source = match entry {
                Entry::Text { text, .. } => sources.add(String::new(), PathBuf::new(), text.clone()),
                Entry::File(path) => match std::fs::read(path) {
                    Ok(text) => sources.add(String::new(), PathBuf::new(), text),
                    Err(_) => continue,
                },
            };
            // What is wrong with it is told by who evaluates it.
            let _ = ampoule_lang::parse_and_check(&source, self.settings.parse);
        }
    }

    /// Computes the values with these numbers, one after another.
    ///
    /// What is cheap is computed early. That can be seen in two places: in messages that show values, and in lists
    /// that are printed as `«repeated»`. Then it is done again from the first number, everything as late as in Nix:
    /// what was handed on or said is not handed on or said again.
    fn each_in_turn<R: Send>(
        &self,
        ui: &Ui,
        numbers: Range<usize>,
        each: Each<'_, R>,
        deliver: Deliver<'_, R>,
    ) -> Result<(), CliError> {
        let mut delivered = numbers.start;
        self.world.forget_said();
        let mut settings = self.settings.clone();
        settings.stops_at_traces = !settings.shows_unforced;
        loop {
            let is_early = !settings.shows_unforced;
            let done = ampoule_eval::run(settings.clone(), self.world.clone(), |ev| {
                let mut rest = numbers.clone();
                let mut computed = numbers.start;
                let mut hand_on = |_, result| {
                    computed += 1;
                    if computed > delivered {
                        delivered = computed;
                        deliver(result)?;
                    }
                    Ok(())
                };
                let outcome = self.tasks(ev, 1, &mut || rest.next(), each, &mut hand_on);
                outcome.map_err(|problem| match problem {
                    Problem::Cli(error) => Some(error),
                    Problem::TooEarly => None,
                    Problem::Eval(error) if error.is_too_early() => None,
                    Problem::Eval(error) if is_early && error.shows_values() => None,
                    Problem::Eval(error) => Some(self.show(ev, &error, ui)),
                })
            });
            let Err(problem) = done.map_err(|error| CliError::failed(error.to_string()))? else { break };
            if let Some(error) = problem {
                return Err(error);
            }
            self.world.skip_said();
            settings.shows_unforced = true;
            settings.stops_at_traces = false;
        }
        Ok(())
    }

    /// Computes the values that `next` asks for by number, or parts of them, and hands on what `each` gives.
    fn tasks<R>(
        &self,
        ev: &mut Evaluator,
        parts: usize,
        next: Next<'_>,
        each: Each<'_, R>,
        done: &mut dyn FnMut(usize, R) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let arguments = NamedArguments { set: Some(self.argument_set(ev)?) };
        let paths = self.attributes.len().max(1);
        let (mut entry, mut known) = (None, None);
        while let Some(task) = next() {
            let number = task / parts;
            let value = match known {
                Some((known, value)) if known == number => value,
                _ => {
                    let value = match entry {
                        Some((entry, value)) if entry == number / paths => value,
                        _ => self.open(ev, &self.entries[number / paths], &arguments)?,
                    };
                    entry = Some((number / paths, value));
                    let is_file = matches!(self.entries[number / paths], Entry::File(_));
                    let (value, is_file) = match self.attributes.get(number % paths) {
                        Some(path) => {
                            let selected = ev.select_path(value, path, &arguments).map_err(Problem::Eval);
                            let from = &self.entries[number / paths];
                            (selected.map_err(|problem| from_entry(ev, problem, from))?, false)
                        }
                        None => (value, is_file),
                    };
                    let calls = !self.shows_functions || !self.arguments.is_empty() || is_file;
                    if calls { ev.auto_call(value, &arguments)? } else { value }
                }
            };
            known = Some((number, value));
            let result = each(ev, value, &arguments, Part { index: task % parts, of: parts });
            done(task, result.map_err(|problem| from_entry(ev, problem, &self.entries[number / paths]))?)?;
        }
        Ok(())
    }

    /// The value of an entry.
    fn open(&self, ev: &mut Evaluator, entry: &Entry, arguments: &NamedArguments) -> Result<Value, Problem> {
        let value = match entry {
            Entry::File(path) => ev.eval_file(path)?,
            Entry::Text { name, base_dir, text } => ev.eval_text(name, base_dir, text)?,
        };
        self.check_lock(value, arguments)?;
        Ok(self.call_with_packages(ev, value, arguments)?)
    }

    /// The names in the set that an attribute path leads to in the first entry, for who completes; nothing if there is
    /// no set, or it cannot be computed.
    pub fn attribute_names(&self, path: &str) -> Option<Vec<String>> {
        let names = |ev: &mut Evaluator| -> Result<Vec<String>, Problem> {
            let arguments = NamedArguments { set: Some(self.argument_set(ev)?) };
            let Some(entry) = self.entries.first() else { return Ok(Vec::new()) };
            let value = self.open(ev, entry, &arguments)?;
            let value = if path.is_empty() { value } else { ev.select_path(value, path, &arguments)? };
            let value = ev.auto_call(value, &arguments)?;
            let sorted = ev.force_sorted(value)?;
            Ok(sorted.iter().map(|(name, _)| name.to_string()).collect())
        };
        ampoule_eval::run(self.settings.clone(), self.world.clone(), |ev| names(ev).ok()).ok()?
    }

    /// The set of `--arg` and `--argstr`; expressions are evaluated when they are used.
    ///
    /// # Errors
    /// If an expression is no program.
    pub fn argument_set(&self, ev: &mut Evaluator) -> EvalResult<Value> {
        let mut set = ampoule_eval::AttrsBuilder::new();
        let dir = self.project.clone();
        for argument in &self.arguments {
            let value = match &argument.value {
                ArgumentValue::Text(text) => ev.string(text),
                ArgumentValue::Expression(text) => {
                    let name = format!("«--arg {}»", argument.name);
                    // A function, so that the expression waits for its use.
                    let delayed = ev.eval_text(&name, &dir, format!("_: {text}\n").as_bytes())?;
                    let nothing = ev.string("");
                    ev.lazy_call(delayed, &[nothing])
                }
            };
            set.push(ev.heap(), ampoule_lang::Symbol::intern(&argument.name), value);
        }
        Ok(set.finish(ev.heap()))
    }

    /// Looks at the project's lock file, if a value is a function that asks for packages.
    ///
    /// # Errors
    /// If the lock file is damaged, or the project's file is wrong.
    pub fn check_lock(&self, value: Value, arguments: &NamedArguments) -> Result<(), CliError> {
        if asks_for_packages(value, arguments.set.expect("the set is always made"))
            && let Some(warning) = crate::lockfile::check_project(&self.project)?
        {
            // Once: of several threads the first says it.
            let _ = self.lock_warning.set(warning);
        }
        Ok(())
    }

    /// Says what the lock file lacks, if packages were used.
    pub fn warn_of_lock(&self, ui: &Ui) {
        if let Some(warning) = self.lock_warning.get() {
            ui.warn(warning);
        }
    }

    /// Calls a function that asks for names which neither defaults nor arguments give with the package
    /// set: the standard library, the project's lock file and the arguments.
    ///
    /// # Errors
    /// If a name is nowhere, or the call fails.
    pub fn call_with_packages(
        &self,
        ev: &mut Evaluator,
        value: Value,
        arguments: &NamedArguments,
    ) -> EvalResult<Value> {
        let given = arguments.set.expect("the set is always made");
        let dir = Path::new(crate::world::STD_DIR);
        if !asks_for_packages(value, given) {
            return Ok(value);
        }
        let project = ev.path(self.project.to_string_lossy().as_bytes());
        let system = ev.string(self.settings.system.clone());
        let call = format!(
            "root: system: args: f: import ./auto-call.img {{ inherit root system args; config = {}; }} f",
            self.policy
        );
        let call = ev.eval_text("«ampoule»", dir, call.as_bytes())?;
        let found =
            ev.call(call, &[project, system, given, value]).map_err(|error| at_unknown_name(value, error))?;
        // Called from here, so that a trace begins with the user's file.
        ev.call(value, &[found])
    }

    /// Shows an error of the evaluation, and returns what the command ends with.
    pub fn show(&self, ev: &mut Evaluator, error: &EvalError, ui: &Ui) -> CliError {
        crate::report::eval_error(ev, error, &self.settings.sources, self.show_trace, ui);
        let status = match error.kind() {
            ErrorKind::Interrupted => ExitStatus::Interrupted,
            // What it fetched or built was.
            _ if self.settings.interrupt.is_asked() => ExitStatus::Interrupted,
            ErrorKind::Thrown if is_policys(ev, error) => ExitStatus::Policy,
            _ => ExitStatus::Evaluation,
        };
        CliError::told(status)
    }
}

/// Whether an error is the library's refusal of a package for what its `meta` says: nothing else is thrown in that file.
fn is_policys(ev: &Evaluator, error: &EvalError) -> bool {
    let file = Path::new(crate::world::STD_DIR).join("stdenv/check-meta.img");
    ev.file_span(error.place()).is_some_and(|at| Path::new(ev.settings().sources.get(at.file).name()) == file)
}

/// Says which file a value came from that failed after the file was evaluated: what waits in it may be all the
/// library's.
fn from_entry(ev: &mut Evaluator, problem: Problem, entry: &Entry) -> Problem {
    match (problem, entry) {
        (Problem::Eval(error), Entry::File(path)) => match ev.import_path(path) {
            Ok(file) => Problem::Eval(ev.in_file(error, &file)),
            Err(_) => Problem::Eval(error),
        },
        (problem, _) => problem,
    }
}

/// Whether a value is a function with a named argument that neither has a default nor is given.
fn asks_for_packages(value: Value, given: Value) -> bool {
    let Some(formals) = ampoule_eval::formals_of(value) else { return false };
    let given = given.as_attrs().expect("the arguments are a set");
    formals.list.iter().any(|formal| formal.default.is_none() && !given.has(formal.name))
}

/// Says where the function asks for the name that nothing provides, in Nix's words; the library's words are about what
/// is near it.
fn at_unknown_name(function: Value, error: EvalError) -> EvalError {
    let mut formals = ampoule_eval::formals_of(function).into_iter().flat_map(|formals| formals.list);
    let asked =
        formals.find(|formal| error.message().starts_with(&format!("nothing provides `{}`", formal.name)));
    let Some(formal) = asked else { return error };
    let message =
        format!("cannot evaluate a function that has an argument without a value ('{}')", formal.name);
    let named =
        EvalError::new(ErrorKind::Arguments, message).at(formal.place).saying("nothing provides this");
    match error.message().split_once("; ") {
        Some((_, near)) => named.help(near),
        None => named.help(format!("give it with `--arg {} EXPR` or a default", formal.name)),
    }
}

/// Threads to evaluate on if no number is given. Attributes of one file have most of their work in common, and each
/// thread would do it again.
fn default_jobs(args: &ExpressionArgs) -> usize {
    let entries: BTreeSet<&String> = args.files.iter().chain(&args.expressions).collect();
    if entries.len() < 2 || args.attributes.len() > 1 {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, usize::from).min(entries.len())
}

/// What went wrong while values were used.
pub enum Problem {
    /// The evaluation failed.
    Eval(EvalError),
    /// Something else did.
    Cli(CliError),
    /// What is printed shows that something was computed earlier than in Nix.
    TooEarly,
}

impl From<EvalError> for Problem {
    fn from(error: EvalError) -> Self {
        Self::Eval(error)
    }
}

impl From<CliError> for Problem {
    fn from(error: CliError) -> Self {
        Self::Cli(error)
    }
}

/// Refuses a store for evaluation that is another one than that of what is built.
fn check_eval_store(args: &ExpressionArgs) -> Result<(), CliError> {
    match args.eval_store.as_deref() {
        None | Some("" | "auto" | "dummy://") => Ok(()),
        Some(other) => {
            Err(CliError::usage(format!("evaluation has no store of its own: `--eval-store {other}`"))
                .hint("name the store with `--store DIR`, or write nothing with `--eval-store dummy://`"))
        }
    }
}

fn entries(args: &ExpressionArgs, dir: &Path) -> Result<Vec<Entry>, CliError> {
    let mut entries = Vec::new();
    for text in &args.expressions {
        let name = "«string»".to_owned();
        entries.push(Entry::Text { name, base_dir: dir.to_owned(), text: text.clone().into_bytes() });
    }
    for file in &args.files {
        if file == "-" {
            let text = crate::programs::read("-")?;
            entries.push(Entry::Text { name: "«stdin»".to_owned(), base_dir: dir.to_owned(), text });
            continue;
        }
        if file.starts_with('<') && file.ends_with('>') {
            // Looked up in the search path, as `nix-instantiate` does it.
            let (name, text) = ("«command line»".to_owned(), format!("import {file}").into_bytes());
            entries.push(Entry::Text { name, base_dir: dir.to_owned(), text });
            continue;
        }
        entries.push(Entry::File(find_entry(file, dir)?));
    }
    if entries.is_empty() {
        entries.push(Entry::File(find_entry(".", dir)?));
    }
    Ok(entries)
}

/// The file that `name` means: itself, or the `default.img` (else `default.nix`) of a directory.
///
/// # Errors
/// If there is none.
pub fn find_entry(name: &str, dir: &Path) -> Result<PathBuf, CliError> {
    let path = ampoule_eval::path::canonical(dir.join(name).as_os_str().as_encoded_bytes());
    let path = PathBuf::from(String::from_utf8_lossy(&path).into_owned());
    let data = std::fs::metadata(&path).while_doing(|| format!("cannot read `{name}`")).map_err(|error| {
        let near = near_file(&path);
        CliError { status: ExitStatus::Usage, ..error }.hint(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a file, a directory with a `default.img`, or an expression with -E".to_owned(),
        })
    })?;
    if data.is_dir() && !path.join("default.img").exists() && !path.join("default.nix").exists() {
        return Err(CliError::usage(format!("there is no `default.img` in `{name}`"))
            .hint("name a file, or an expression with -E"));
    }
    Ok(path)
}

fn near_file(path: &Path) -> Option<String> {
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let wanted = path.file_name()?.to_str()?;
    ampoule_lang::near::near_name(wanted, names.iter().map(String::as_str)).map(str::to_owned)
}

/// `NIX_PATH`, for people who compare with Nix.
fn nix_path() -> Vec<(String, String)> {
    let text = std::env::var("NIX_PATH").unwrap_or_default();
    let mut entries = Vec::new();
    for entry in text.split(':').filter(|entry| !entry.is_empty()) {
        let (prefix, path) = entry.split_once('=').unwrap_or(("", entry));
        entries.push((prefix.to_owned(), path.to_owned()));
    }
    entries
}

/// This machine, in Nix's words.
pub fn this_system() -> String {
    let arch = match std::env::consts::ARCH {
        "x86" => "i686",
        other => other,
    };
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    format!("{arch}-{os}")
}

/// The policy of the configuration, as the library reads it.
fn policy(config: &Config) -> String {
    let mut allowed = String::new();
    for name in config.list("policy.allow-vulnerable") {
        ampoule_eval::write_string(&mut allowed, name.as_bytes());
        allowed.push(' ');
    }
    format!(
        "{{ allowBroken = {}; allowDeprecated = {}; allowUnfree = {}; allowUnsupportedSystem = {}; permittedInsecurePackages = [ {allowed}]; }}",
        config.bool("policy.allow-broken"),
        config.bool("policy.allow-deprecated"),
        config.bool("policy.allow-unfree"),
        config.bool("policy.allow-unsupported"),
    )
}
