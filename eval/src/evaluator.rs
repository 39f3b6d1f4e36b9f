//! The evaluator: forcing, calling, and what builtins need of both.
//!
//! An [`Evaluator`] lives inside a call of [`run`], on a thread of its own with a
//! large stack: evaluation recurses natively, the collector scans that stack, and a
//! limit on its depth turns runaway recursion into an error. Nothing of it gets out but
//! what is `Send`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ampoule_lang::resolve::Place;
use ampoule_lang::{FileId, SourceMap, Symbol};
use ampoule_store::StorePath;
use rustc_hash::FxHashMap as HashMap;

use crate::builtins::{self, Builtin};
use crate::context::{ContextElem, ContextId, Contexts};
use crate::error::{EvalError, EvalResult};
use crate::heap::{
    Attrs, BuiltinId, Captures, Frame, Heap, HeapFull, List, Root, Slot, Sorted, Str, Thunk, ThunkState,
    Value, View, is_free,
};
use crate::world::World;

/// What an evaluation is told beforehand.
#[derive(Clone)]
pub struct Settings {
    /// `builtins.currentSystem`.
    pub system: String,
    /// Whether files anywhere, the environment and the clock may be used. What that means for files is the
    /// [`World`]'s business.
    pub impure: bool,
    /// Whether evaluation may wait for builds.
    pub allow_import_from_derivation: bool,
    /// Bytes of native stack that nested calls may use.
    pub stack_bytes: usize,
    /// Bytes that are allocated between two collections, at least. Tests that look for faults of the
    /// collector set it to 0.
    pub nursery_bytes: usize,
    /// Bytes after which there is a collection, always: 1 is before each value that is made. For tests that look for
    /// faults of the collector; nothing is as slow.
    pub collect_every_bytes: Option<usize>,
    /// Bytes of the text of a function from which on it is resolved only when it is called. Tests that look for
    /// differences set it to 0.
    pub min_deferred_bytes: usize,
    /// Tail calls in a row, without any of them returning, that are taken for endless recursion.
    pub max_tail_calls: u32,
    /// Whether `builtins.traceVerbose` traces.
    pub trace_verbose: bool,
    /// Whether values are printed without being forced all the way: what Nix would not have computed shows as
    /// `<CODE>`, at the price of not computing early what is cheap.
    pub shows_unforced: bool,
    /// Whether `builtins.trace` fails before it shows a list or set, for someone who evaluates again then, with
    /// `shows_unforced`.
    pub stops_at_traces: bool,
    /// Whether values are printed, which shows two that are the same as `«repeated»`: then no two calls give the same
    /// list or set of constants.
    pub shows_sameness: bool,
    /// Whether `builtins.warn` ends the evaluation.
    pub abort_on_warn: bool,
    /// How another thread stops the evaluation.
    pub interrupt: Interrupt,
    /// The texts that are read.
    pub sources: Arc<SourceMap>,
    /// Switches of the language.
    pub parse: ampoule_lang::ParseOptions,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            system: "x86_64-linux".to_owned(),
            impure: false,
            allow_import_from_derivation: false,
            stack_bytes: 1 << 30,
            nursery_bytes: 8 << 20,
            collect_every_bytes: None,
            min_deferred_bytes: 48,
            max_tail_calls: 20_000_000,
            trace_verbose: false,
            shows_unforced: false,
            stops_at_traces: false,
            shows_sameness: true,
            abort_on_warn: false,
            interrupt: Interrupt::default(),
            sources: Arc::new(SourceMap::new()),
            parse: ampoule_lang::ParseOptions::default(),
        }
    }
}

/// Stops an evaluation from outside: another thread, or a signal. For one evaluation at a time.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    /// The lowest stack address that may be used; [`STOP`], to stop.
    limit: Arc<AtomicUsize>,
}

/// No address is as high: every call is too deep.
const STOP: usize = usize::MAX;

impl Interrupt {
    /// Returns what lets an evaluation go on that was stopped: a REPL's next line.
    pub fn pause(&self) -> Resume {
        Resume { limit: Arc::clone(&self.limit), was: self.limit.load(Ordering::Relaxed) }
    }

    /// Makes the evaluation end with an error soon, or as soon as it begins.
    pub fn interrupt(&self) {
        self.limit.store(STOP, Ordering::SeqCst);
    }

    /// Returns whether it was asked to end.
    pub fn is_asked(&self) -> bool {
        self.limit.load(Ordering::SeqCst) == STOP
    }

    /// Returns what [`Self::interrupt`] stores and where, for the handler of a signal.
    pub fn switch(&self) -> (Arc<AtomicUsize>, usize) {
        (Arc::clone(&self.limit), STOP)
    }

    /// Tells the evaluation that begins how deep it may go, unless it was interrupted already.
    fn begin(&self, limit: usize) {
        let begun = |was| (was != STOP).then_some(limit);
        let _ = self.limit.fetch_update(Ordering::SeqCst, Ordering::SeqCst, begun);
    }
}

/// Undoes an [`Interrupt`]. Made while nothing is interrupted, on the evaluation's own thread.
#[derive(Clone, Debug)]
pub struct Resume {
    limit: Arc<AtomicUsize>,
    was: usize,
}

impl Resume {
    /// Lets the evaluation go on.
    pub fn resume(&self) {
        self.limit.store(self.was, Ordering::Relaxed);
    }
}

/// An evaluation in progress.
pub struct Evaluator {
    pub(crate) heap: Heap,
    pub(crate) contexts: Contexts,
    pub(crate) world: Arc<dyn World>,
    pub(crate) settings: Settings,
    pub(crate) limit: Arc<AtomicUsize>,
    pub(crate) builtins: Vec<&'static Builtin>,
    pub(crate) globals: HashMap<Symbol, Value>,
    pub(crate) builtins_set: Value,
    pub(crate) bases: Vec<(u32, FileId)>,
    pub(crate) put_off: crate::source::PutOff,
    pub(crate) imports: HashMap<PathBuf, Root>,
    pub(crate) copied: HashMap<PathBuf, StorePath>,
    pub(crate) stats: Stats,
    /// What builtins keep from call to call.
    pub(crate) tools: builtins::Tools,
    pub(crate) derivations: crate::derivations::Derivations,
    /// Values that are being forced all the way: see `deep`.
    pub(crate) deepenings: u32,
    /// What had been allocated when the stack below was overwritten last.
    pub(crate) forgotten_at_bytes: u64,
    /// Where code lies, as long as the process: thunks and closures point into it.
    pub(crate) arena: &'static bumpalo::Bump,
}

/// What was done, for `--show-stats`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Calls of functions written in the language.
    pub calls: u64,
    /// Calls of builtins.
    pub builtin_calls: u64,
    /// Files read.
    pub files: u64,
}

/// Why [`run`] gave no result.
#[derive(Debug)]
pub enum RunError {
    /// The system gives no thread.
    Thread(std::io::Error),
    /// The values need more memory than the process may address.
    HeapFull {
        /// How much it may; 0 if the system gave none to begin with.
        reserved_bytes: usize,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(error) => write!(f, "cannot start a thread to evaluate on: {error}"),
            Self::HeapFull { reserved_bytes: 0 } => write!(
                f,
                "out of memory: this process may have no more addresses; raise its limit (`ulimit -v`)"
            ),
            Self::HeapFull { reserved_bytes } => {
                let mib = reserved_bytes >> 20;
                write!(
                    f,
                    "out of memory: the values need more than the {mib} MiB that this process may have for them"
                )
            }
        }
    }
}

impl std::error::Error for RunError {}

/// Smallest stack to evaluate on.
const LEAST_STACK_BYTES: usize = 1 << 20;

/// Runs `work` with an evaluator, on a thread with a large stack.
///
/// # Errors
/// If the system gives no thread, or `work` needs more memory than there is.
pub fn run<R: Send>(
    settings: Settings,
    world: Arc<dyn World>,
    work: impl FnOnce(&mut Evaluator) -> R + Send,
) -> Result<R, RunError> {
    let mut stack_bytes = settings.stack_bytes.max(LEAST_STACK_BYTES);
    // The heap comes after the stack, and must find as much.
    while stack_bytes > LEAST_STACK_BYTES && !is_free(2 * stack_bytes) {
        stack_bytes /= 2;
    }
    let mut work = Some((settings, world, work));
    loop {
        let spawned = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("evaluator".to_owned()).stack_size(stack_bytes);
            let job = &mut work;
            let handle = thread.spawn_scoped(scope, move || {
                let (settings, world, work) = job.take().expect("taken by one thread only");
                Evaluator::enter(settings, world, stack_bytes, work)
            })?;
            Ok::<_, std::io::Error>(match handle.join() {
                Ok(result) => Ok(result),
                Err(panic) => match panic.downcast_ref::<HeapFull>() {
                    Some(HeapFull { reserved_bytes }) => {
                        Err(RunError::HeapFull { reserved_bytes: *reserved_bytes })
                    }
                    None => std::panic::resume_unwind(panic),
                },
            })
        });
        match spawned {
            Ok(result) => return result,
            Err(_) if stack_bytes > LEAST_STACK_BYTES && work.is_some() => stack_bytes /= 2,
            Err(error) => return Err(RunError::Thread(error)),
        }
    }
}

/// Returns an address near the top of the native stack.
#[inline(always)]
fn here() -> usize {
    let marker = 0u8;
    std::ptr::from_ref(std::hint::black_box(&marker)) as usize
}

impl Evaluator {
    /// The bottom of the evaluator's stack.
    #[inline(never)]
    fn enter<R>(
        settings: Settings,
        world: Arc<dyn World>,
        stack_bytes: usize,
        work: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let base = here();
        // Room for the deepest builtin and the collector, and for what was used before.
        let limit = base - stack_bytes + (4 << 20).min(stack_bytes / 4);
        settings.interrupt.begin(limit);
        let flag = Arc::clone(&settings.interrupt.limit);
        let mut evaluator = Self::new(settings, world, flag, base);
        let result = Self::work(&mut evaluator, work);
        // These stay as they are: an evaluation is the last thing that most processes do.
        let Self { heap, contexts, imports, copied, derivations, .. } = evaluator;
        std::mem::forget((imports, copied));
        // Of these a large evaluation has tens of megabytes, which whoever builds what it described can use.
        drop((contexts, derivations));
        drop(heap);
        result
    }

    #[inline(never)]
    fn work<R>(evaluator: &mut Self, work: impl FnOnce(&mut Self) -> R) -> R {
        work(evaluator)
    }

    fn new(settings: Settings, world: Arc<dyn World>, limit: Arc<AtomicUsize>, stack_base: usize) -> Self {
        let heap = Heap::new(stack_base, settings.nursery_bytes);
        let nothing = heap.empty_attrs;
        let mut evaluator = Self {
            heap,
            contexts: Contexts::default(),
            world,
            settings,
            limit,
            builtins: Vec::new(),
            globals: HashMap::default(),
            builtins_set: nothing,
            bases: Vec::new(),
            put_off: crate::source::PutOff::default(),
            imports: HashMap::default(),
            copied: HashMap::default(),
            stats: Stats::default(),
            tools: builtins::Tools::default(),
            derivations: crate::derivations::Derivations::default(),
            deepenings: 0,
            forgotten_at_bytes: 0,
            arena: Box::leak(Box::default()),
        };
        evaluator.make_globals();
        if let Some(every_bytes) = evaluator.settings.collect_every_bytes {
            evaluator.heap.stress(every_bytes);
        }
        evaluator
    }

    /// Returns the heap, to make values.
    #[inline(always)]
    pub fn heap(&mut self) -> &mut Heap {
        &mut self.heap
    }

    /// Returns the contexts of strings.
    pub fn contexts(&mut self) -> &mut Contexts {
        &mut self.contexts
    }

    /// Returns the door to the outside.
    pub fn world(&self) -> Arc<dyn World> {
        Arc::clone(&self.world)
    }

    /// Returns what the evaluation was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns what was done so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Returns a line about memory, for people.
    pub fn memory(&self) -> String {
        format!(
            "{} MiB allocated, {} MiB of blocks, {} collections, {} MiB of code",
            self.heap.allocated_bytes() >> 20,
            self.heap.size_bytes() >> 20,
            self.heap.collections,
            self.arena.allocated_bytes() >> 20
        )
    }

    // ---- depth

    /// Checks that calls may nest deeper and that nobody wants us to stop.
    #[inline(always)]
    pub(crate) fn check_depth(&self) -> EvalResult<()> {
        if here() < self.limit.load(Ordering::Relaxed) { Err(self.stopped()) } else { Ok(()) }
    }

    /// Returns the bytes of native stack that are left.
    pub(crate) fn stack_left(&self) -> usize {
        here().saturating_sub(self.limit.load(Ordering::Relaxed))
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn stopped(&self) -> EvalError {
        self.interrupted().unwrap_or_else(EvalError::stack_overflow)
    }

    /// The error of an evaluation that the user stops: no stack is left to it from then on, so that whatever asks
    /// for some asks here before it says that something is nested too deep.
    #[cold]
    pub(crate) fn interrupted(&self) -> Option<EvalError> {
        let message = "interrupted by the user";
        let is_stopped = self.limit.load(Ordering::Relaxed) == STOP;
        is_stopped.then(|| EvalError::new(crate::error::ErrorKind::Interrupted, message))
    }

    /// Runs something that may fail, and puts the stack back as it was if it does: to be used by whoever
    /// goes on after an error (`tryEval`, a REPL).
    ///
    /// # Errors
    /// What `work` fails with.
    pub fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> EvalResult<T>) -> EvalResult<T> {
        let mark = self.heap.stack_mark();
        let result = work(self);
        self.heap.pop_to(mark);
        result
    }

    // ---- forcing

    /// Computes a value to weak head normal form.
    ///
    /// # Errors
    /// What its expression fails with.
    #[inline(always)]
    pub fn force(&mut self, value: Value) -> EvalResult<Value> {
        if value.is_thunk() { self.force_thunk(value) } else { Ok(value) }
    }

    #[inline(never)]
    fn force_thunk(&mut self, value: Value) -> EvalResult<Value> {
        let View::Thunk(thunk) = value.view() else {
            let ThunkState::Forced(value) = thunk_of(value).state() else { unreachable!("seen as forced") };
            return Ok(value);
        };
        let mark = self.heap.stack_mark();
        let result = match thunk.state() {
            ThunkState::Forced(value) => return Ok(value),
            ThunkState::Suspended(code) => {
                self.check_depth()?;
                let Some(frame) = self.heap.push_frame(code.body.slots as usize) else {
                    return Err(EvalError::stack_overflow());
                };
                thunk.blacken();
                self.eval(&code.body.node, frame, Captures::of(value))
            }
            ThunkState::Apply => {
                self.check_depth()?;
                thunk.blacken();
                self.apply_thunk(thunk)
            }
            ThunkState::Blackhole(_) => return Err(EvalError::infinite_recursion().ring_of(value)),
        };
        match result {
            Ok(result) => {
                thunk.finish(result);
                self.heap.pop_to(mark);
                Ok(result)
            }
            Err(error) => Err(self.thunk_failed(thunk, error)),
        }
    }

    #[cold]
    #[inline(never)]
    fn thunk_failed(&mut self, thunk: Thunk, error: EvalError) -> EvalError {
        let place = match thunk.state() {
            ThunkState::Blackhole(Some(code)) => code.place,
            _ => Place::NONE,
        };
        thunk.whiten();
        let error = error.in_ring(thunk.value(), place);
        // `f x` made by a builtin: `map f`.
        match thunk.state() {
            ThunkState::Apply => {
                let (function, count) = thunk.application();
                match function.as_closure().map(|closure| closure.lambda()) {
                    Some(lambda) if lambda.arity as usize == count => {
                        crate::call::lambda_failed(error, lambda, Place::NONE)
                    }
                    _ => error,
                }
            }
            _ => error,
        }
    }

    fn apply_thunk(&mut self, thunk: Thunk) -> EvalResult<Value> {
        let (function, count) = thunk.application();
        let function = self.force(function)?;
        let direct = match function.as_closure().map(|closure| closure.lambda()) {
            Some(lambda) if lambda.arity as usize == count => Some(lambda),
            _ => None,
        };
        let direct = direct.map(|lambda| (lambda, lambda.body.get()));
        let slots = direct.map_or(count, |(_, body)| body.slots as usize);
        let Some(frame) = self.heap.push_frame(slots) else { return Err(EvalError::stack_overflow()) };
        for index in 0..count {
            frame.set(index as u32, thunk.argument(index));
        }
        match direct {
            Some((lambda, body)) => self.enter_closure(function, lambda, body, frame),
            None => self.call_frame(function, frame, count, Place::NONE),
        }
    }

    /// Forces what is in an attribute's slot and keeps the result there.
    #[inline(always)]
    pub(crate) fn force_slot(&mut self, slot: Slot) -> EvalResult<Value> {
        let value = slot.get();
        if !value.is_thunk() {
            return Ok(value);
        }
        let forced = self.force_thunk(value)?;
        if forced.as_list().is_none() {
            slot.settle(forced);
        }
        Ok(forced)
    }

    /// Forces element `index` of a list and keeps the result there.
    ///
    /// # Errors
    /// What the element fails with.
    #[inline(always)]
    pub fn force_element(&mut self, list: List, index: usize) -> EvalResult<Value> {
        let value = list.get(index).expect("the caller knows the length");
        if !value.is_thunk() {
            return Ok(value);
        }
        let forced = self.force_thunk(value)?;
        if forced.as_list().is_none() {
            list.settle(index, forced);
        }
        Ok(forced)
    }

    /// Forces an attribute, if the set has it, and keeps the result there.
    ///
    /// # Errors
    /// What the attribute fails with.
    pub fn force_attr(&mut self, attrs: Attrs, name: Symbol) -> EvalResult<Option<Value>> {
        match attrs.find(name) {
            Some((slot, _)) => self.force_slot(slot).map(Some),
            None => Ok(None),
        }
    }

    // ---- expecting types

    /// Forces to an integer.
    ///
    /// # Errors
    /// If it is none, or fails.
    #[inline]
    pub fn force_int(&mut self, value: Value) -> EvalResult<i64> {
        let value = self.force(value)?;
        match value.as_int() {
            Some(n) => Ok(n),
            None => Err(self.mismatch("an integer", value)),
        }
    }

    /// Forces to a number, as a float.
    ///
    /// # Errors
    /// If it is none, or fails.
    pub fn force_float(&mut self, value: Value) -> EvalResult<f64> {
        let value = self.force(value)?;
        match value.view() {
            View::Int(n) => Ok(n as f64),
            View::Float(x) => Ok(x),
            _ => Err(self.mismatch("a float", value)),
        }
    }

    /// Forces to a Boolean.
    ///
    /// # Errors
    /// If it is none, or fails.
    #[inline]
    pub fn force_bool(&mut self, value: Value) -> EvalResult<bool> {
        let value = self.force(value)?;
        if value == Value::TRUE {
            Ok(true)
        } else if value == Value::FALSE {
            Ok(false)
        } else {
            Err(self.mismatch("a Boolean", value))
        }
    }

    /// Forces to a list.
    ///
    /// # Errors
    /// If it is none, or fails.
    #[inline]
    pub fn force_list(&mut self, value: Value) -> EvalResult<List> {
        let value = self.force(value)?;
        match value.as_list() {
            Some(list) => Ok(list),
            None => Err(self.mismatch("a list", value)),
        }
    }

    /// Forces to an attribute set.
    ///
    /// # Errors
    /// If it is none, or fails.
    #[inline]
    pub fn force_attrs(&mut self, value: Value) -> EvalResult<Attrs> {
        let value = self.force(value)?;
        match value.as_attrs() {
            Some(attrs) => Ok(attrs),
            None => Err(self.mismatch("a set", value)),
        }
    }

    /// Forces to an attribute set that can be read in the order of names.
    ///
    /// # Errors
    /// If it is none, or fails.
    pub fn force_sorted(&mut self, value: Value) -> EvalResult<Sorted> {
        let attrs = self.force_attrs(value)?;
        Ok(self.heap.sorted(attrs))
    }

    /// Forces to a string, without coercion.
    ///
    /// # Errors
    /// If it is none, or fails.
    #[inline]
    pub fn force_string(&mut self, value: Value) -> EvalResult<Str> {
        let value = self.force(value)?;
        match value.as_str() {
            Some(text) => Ok(text),
            None => Err(self.mismatch("a string", value)),
        }
    }

    /// Forces to a string that depends on nothing.
    ///
    /// # Errors
    /// If it is none, depends on something, or fails.
    pub fn force_string_no_context(&mut self, value: Value) -> EvalResult<Str> {
        let text = self.force_string(value)?;
        if text.context().is_empty() {
            return Ok(text);
        }
        let first = self.contexts.elems(text.context()).first().map(|elem| self.show_context_elem(elem));
        Err(EvalError::new(
            crate::error::ErrorKind::Type,
            format!(
                "the string '{}' is not allowed to refer to a store path (such as '{}')",
                text.to_text(),
                first.unwrap_or_default()
            ),
        ))
    }

    fn show_context_elem(&self, elem: &ContextElem) -> String {
        let dir = self.world.store_dir();
        match elem {
            ContextElem::Opaque(path) => dir.print(path),
            ContextElem::Built { drv, output } => format!("{}^{output}", dir.print(drv)),
            ContextElem::DrvDeep(path) => format!("{} (deep)", dir.print(path)),
        }
    }

    /// Forces to something that can be called: a function, or a set with `__functor`.
    ///
    /// # Errors
    /// If it is none, or fails.
    pub fn force_function(&mut self, value: Value) -> EvalResult<Value> {
        let value = self.force(value)?;
        match value.view() {
            View::Closure(_) | View::Builtin(_) | View::Partial(_) => Ok(value),
            View::Attrs(attrs) if attrs.has(ampoule_lang::sym::FUNCTOR) => Ok(value),
            _ => Err(self.mismatch("a function", value)),
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn mismatch(&mut self, expected: &str, value: Value) -> EvalError {
        let shown = self.show_short(value);
        EvalError::type_mismatch(expected, &self.type_with_article(value), &shown)
    }

    // ---- making values

    /// Returns an integer.
    #[inline(always)]
    pub fn int(&mut self, n: i64) -> Value {
        self.heap.int(n)
    }

    /// Returns a floating point number.
    pub fn float(&mut self, x: f64) -> Value {
        self.heap.float(x)
    }

    /// Returns a string that depends on nothing.
    pub fn string(&mut self, bytes: impl AsRef<[u8]>) -> Value {
        self.heap.string(bytes.as_ref(), ContextId::EMPTY)
    }

    /// Returns a string with a context.
    pub fn string_with(&mut self, bytes: impl AsRef<[u8]>, context: ContextId) -> Value {
        self.heap.string(bytes.as_ref(), context)
    }

    /// Returns the text of a symbol as a string.
    pub fn symbol_string(&mut self, symbol: Symbol) -> Value {
        self.heap.string(symbol.as_bytes(), ContextId::EMPTY)
    }

    /// Returns a path value; made absolute and canonical (`.` and `..` resolved by text).
    pub fn path(&mut self, path: impl AsRef<[u8]>) -> Value {
        let canonical = crate::path::canonical(path.as_ref());
        self.heap.path(crate::heap::Life::Collected, &canonical)
    }

    /// Returns `function` applied to `arguments`, delayed; or computed, if that is no dearer and
    /// cannot fail.
    pub fn lazy_call(&mut self, function: Value, arguments: &[Value]) -> Value {
        if let Some(closure) = function.as_closure() {
            let lambda = closure.lambda();
            if lambda.is_cheap
                && !self.settings.shows_unforced
                && lambda.arity as usize == arguments.len()
                && let Some(value) = self.call_cheaply(function, lambda, arguments)
            {
                return value;
            }
        }
        self.heap.apply(function, arguments)
    }

    // ---- calling

    /// Calls a function, and forces the result.
    ///
    /// # Errors
    /// If it is no function, or fails.
    pub fn call(&mut self, function: Value, arguments: &[Value]) -> EvalResult<Value> {
        let function = self.force(function)?;
        let mark = self.heap.stack_mark();
        let lambda = function.as_closure().map(|closure| closure.lambda());
        let direct = lambda.filter(|lambda| lambda.arity as usize == arguments.len());
        let direct = direct.map(|lambda| (lambda, lambda.body.get()));
        let slots = direct.map_or(arguments.len(), |(_, body)| body.slots as usize);
        let Some(frame) = self.heap.push_frame(slots) else {
            return Err(EvalError::stack_overflow());
        };
        for (index, &argument) in arguments.iter().enumerate() {
            frame.set(index as u32, argument);
        }
        let result = match direct {
            Some((lambda, body)) => self
                .enter_closure(function, lambda, body, frame)
                .map_err(|error| crate::call::lambda_failed(error, lambda, Place::NONE))?,
            None => self.call_frame(function, frame, arguments.len(), Place::NONE)?,
        };
        self.heap.pop_to(mark);
        Ok(result)
    }

    /// Returns the record of a value that is a builtin.
    pub fn builtin_record(&self, value: Value) -> Option<&'static Builtin> {
        match value.view() {
            View::Builtin(id) => Some(self.builtin(id)),
            _ => None,
        }
    }

    /// Returns the builtin's record.
    pub(crate) fn builtin(&self, id: BuiltinId) -> &'static Builtin {
        self.builtins[id.0 as usize]
    }

    /// Returns a function of [`builtins::INTERNAL`].
    pub(crate) fn internal(&self, index: usize) -> Value {
        Value::builtin(BuiltinId((self.builtins.len() - builtins::INTERNAL.len() + index) as u32))
    }

    fn make_globals(&mut self) {
        let mut set = crate::heap::AttrsBuilder::new();
        for table in builtins::TABLES {
            for builtin in *table {
                // The clock is not there at all when pure: programs ask with `?`.
                if builtin.name == "currentTime" && !self.settings.impure {
                    continue;
                }
                let id = BuiltinId(self.builtins.len() as u32);
                self.builtins.push(builtin);
                let mut value = Value::builtin(id);
                if builtin.params.is_empty() {
                    value = self.heap.permanent_apply(value);
                    self.heap.root(value);
                }
                let name = Symbol::intern(builtin.name);
                set.push(&mut self.heap, name, value);
                let is_global = builtins::GLOBALS.contains(&builtin.name) || builtin.name.starts_with("__");
                let global = if is_global { name } else { Symbol::intern(format!("__{}", builtin.name)) };
                self.globals.insert(global, value);
            }
        }
        self.builtins.extend(builtins::INTERNAL);
        for (name, value) in [("true", Value::TRUE), ("false", Value::FALSE), ("null", Value::NULL)] {
            let name = Symbol::intern(name);
            set.push(&mut self.heap, name, value);
            self.globals.insert(name, value);
        }
        // `builtins.builtins` is the set itself.
        let builtins = Symbol::intern("builtins");
        set.push(&mut self.heap, builtins, Value::NULL);
        let value = set.finish(&mut self.heap);
        let attrs = value.as_attrs().expect("a set");
        if let Some((slot, _)) = attrs.find(builtins) {
            slot.settle(value);
        }
        self.heap.root(value);
        self.builtins_set = value;
        self.globals.insert(builtins, value);
        if self.settings.shows_unforced {
            // Constants that a look at the set shows as what they are.
            let flat = self.heap.flat(attrs);
            for index in 0..flat.len() {
                let _ = self.force_slot(flat.slot(index));
            }
        }
    }
}

/// A value that is known to be a thunk.
fn thunk_of(value: Value) -> Thunk {
    value.as_thunk().expect("a thunk")
}

/// The arguments of a builtin.
#[derive(Clone, Copy)]
pub struct Args {
    pub(crate) frame: Frame,
    pub(crate) builtin: &'static Builtin,
    pub(crate) place: Place,
}

impl Args {
    /// Returns argument `index`, forced or not. There are as many as the record has parameters.
    #[inline(always)]
    pub fn at(&self, index: usize) -> Value {
        assert!(index < self.builtin.params.len(), "a builtin has the parameters of its record");
        self.frame.get(index as u32)
    }

    /// Returns the name of the builtin.
    pub fn name_of_builtin(&self) -> &'static str {
        self.builtin.name
    }

    /// Returns where the call stands.
    pub fn place(&self) -> Place {
        self.place
    }
}
