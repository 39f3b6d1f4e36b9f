//! Evaluating on several threads what is independent: files, expressions, attributes, parts of a large set.
//!
//! Each thread has an evaluator of its own and takes the next task when it is done with one. What tasks share
//! is evaluated once on each thread, and nothing is locked. What is seen is what one thread would print:
//! results go out in the order of the tasks, and only those before the first task that failed or had
//! something to say. From that one on a single evaluator begins again, and says it all:
//!
//! ```text
//! thread 1   a ─────── d ───                 a, b and c go out; d warns of something: all from d on is
//! thread 2   b ── c ────────── e ──          evaluated again, one after another
//! ```
//!
//! A task before the first that speaks did not meet what speaks, so nobody sees that it was evaluated apart.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use ampoule_eval::{AddError, ContextElem, Evaluator, Fetch, FileType, Filter, Interrupt, Settings, World};
use ampoule_lang::SourceMap;
use ampoule_store::{ContentAddress, Method, PathRef, StoreDir, StorePath};

use crate::error::{CliError, IoContext};
use crate::signals;

/// Gives the number of the next task, if there is one.
pub type Next<'a> = &'a mut dyn FnMut() -> Option<usize>;
/// Takes what a task gave.
pub type Done<'a, R> = &'a mut dyn FnMut(usize, R);
/// Does tasks until there are none, or one fails.
pub type Work<'a, R> = &'a (dyn Fn(&mut Evaluator, Next<'_>, Done<'_, R>) -> Result<(), ()> + Sync);

/// Does tasks `0..count` on several threads, and hands what they give to `deliver`, in their order, up to the first
/// that cannot be done here. Returns how many that are.
///
/// # Errors
/// What `deliver` fails with.
pub fn begin<R: Send>(
    settings: &Settings,
    world: &Arc<dyn World>,
    threads: usize,
    count: usize,
    work: Work<'_, R>,
    deliver: &mut dyn FnMut(R) -> Result<(), CliError>,
) -> Result<usize, CliError> {
    let started: Result<_, _> = (0..threads).map(|_| Worker::new(&settings.interrupt)).collect();
    let workers = started.while_doing(|| "cannot watch for signals".to_owned())?;
    let crew = Crew { next: AtomicUsize::new(0), end: AtomicUsize::new(count), workers };
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for worker in &crew.workers {
            let (crew, sender) = (&crew, sender.clone());
            scope.spawn(move || crew.work_as(worker, settings, world, work, &sender));
        }
        drop(sender);
        crew.deliver(&receiver, deliver).inspect_err(|_| crew.stop_at(0))
    })
}

/// What the threads share.
struct Crew {
    next: AtomicUsize,
    /// The first task that cannot be done here, as far as is known.
    end: AtomicUsize,
    workers: Vec<Worker>,
}

/// One thread of them.
struct Worker {
    interrupt: Interrupt,
    /// The task that it is doing.
    task: AtomicUsize,
    /// Whether it had something to say.
    spoke: Arc<AtomicBool>,
}

impl Worker {
    /// One that a signal stops as it does the evaluation of them all.
    fn new(all: &Interrupt) -> std::io::Result<Self> {
        let interrupt = Interrupt::default();
        signals::also_stop(&interrupt)?;
        // It may have come before.
        if all.is_asked() {
            interrupt.interrupt();
        }
        Ok(Self { interrupt, task: AtomicUsize::new(0), spoke: Arc::default() })
    }
}

impl Crew {
    /// Does tasks until there are none.
    fn work_as<R>(
        &self,
        worker: &Worker,
        settings: &Settings,
        world: &Arc<dyn World>,
        work: Work<'_, R>,
        results: &Sender<(usize, R)>,
    ) where
        R: Send,
    {
        let settings = Settings {
            interrupt: worker.interrupt.clone(),
            sources: Arc::new(SourceMap::new()),
            ..settings.clone()
        };
        let silent = Silent {
            world: Arc::clone(world),
            interrupt: worker.interrupt.clone(),
            spoke: Arc::clone(&worker.spoke),
        };
        let results = results.clone();
        let done = ampoule_eval::run(settings, Arc::new(silent), move |ev| {
            let mut next = || self.take(worker);
            let mut tell = |task: usize, result| {
                if !worker.spoke.load(Ordering::SeqCst) {
                    // Whoever listened has gone if nothing more is wanted.
                    let _ = results.send((task, result));
                }
            };
            work(ev, &mut next, &mut tell)
        });
        // No thread, a task that failed, or one that had something to say.
        if !matches!(done, Ok(Ok(()))) || worker.spoke.load(Ordering::SeqCst) {
            self.stop_at(worker.task.load(Ordering::SeqCst));
        }
    }

    fn take(&self, worker: &Worker) -> Option<usize> {
        if worker.spoke.load(Ordering::SeqCst) {
            return None;
        }
        let task = self.next.fetch_add(1, Ordering::SeqCst);
        worker.task.store(task, Ordering::SeqCst);
        (task < self.end.load(Ordering::SeqCst)).then_some(task)
    }

    /// Says that a task cannot be done here: those after it are not wanted.
    fn stop_at(&self, task: usize) {
        let end = self.end.fetch_min(task, Ordering::SeqCst).min(task);
        for worker in self.workers.iter().filter(|worker| worker.task.load(Ordering::SeqCst) >= end) {
            worker.interrupt.interrupt();
        }
    }

    /// Hands on what comes, in the order of tasks, as long as none is missing.
    fn deliver<R>(
        &self,
        results: &Receiver<(usize, R)>,
        deliver: &mut dyn FnMut(R) -> Result<(), CliError>,
    ) -> Result<usize, CliError> {
        let (mut waiting, mut delivered) = (BTreeMap::new(), 0);
        for (task, result) in results {
            waiting.insert(task, result);
            while let Some(result) = waiting.remove(&delivered) {
                deliver(result)?;
                delivered += 1;
            }
        }
        Ok(delivered)
    }
}

/// A world in which nothing is said: who would say something stops instead.
struct Silent {
    world: Arc<dyn World>,
    interrupt: Interrupt,
    spoke: Arc<AtomicBool>,
}

impl World for Silent {
    fn message(&self, _: &str) {
        self.spoke.store(true, Ordering::SeqCst);
        self.interrupt.interrupt();
    }

    fn store_dir(&self) -> &StoreDir {
        self.world.store_dir()
    }

    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.world.read_file(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        self.world.read_dir(path)
    }

    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        self.world.file_type(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.world.read_link(path)
    }

    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf> {
        self.world.resolve_links(path)
    }

    fn resolve_to_file(&self, path: &Path) -> io::Result<(PathBuf, Option<FileType>)> {
        self.world.resolve_to_file(path)
    }

    fn find_file(&self, name: &str) -> io::Result<Option<PathBuf>> {
        self.world.find_file(name)
    }

    fn search_path(&self) -> Vec<(String, String)> {
        self.world.search_path()
    }

    fn search_entry(&self, path: &str) -> io::Result<Option<PathBuf>> {
        self.world.search_entry(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        self.world.env(name)
    }

    fn current_time(&self) -> Option<i64> {
        self.world.current_time()
    }

    fn add_text(&self, path: &StorePath, text: &[u8], references: &[PathRef<'_>]) -> io::Result<()> {
        self.world.add_text(path, text, references)
    }

    fn add_path(
        &self,
        name: &str,
        source: &Path,
        method: Method,
        filter: Option<Filter<'_>>,
        expected: Option<&ContentAddress>,
    ) -> Result<StorePath, AddError> {
        self.world.add_path(name, source, method, filter, expected)
    }

    fn is_valid(&self, path: &StorePath) -> io::Result<bool> {
        self.world.is_valid(path)
    }

    fn fetch(&self, fetch: &Fetch) -> io::Result<StorePath> {
        self.world.fetch(fetch)
    }

    fn realise(&self, needed: &[ContextElem]) -> io::Result<()> {
        self.world.realise(needed)
    }
}
