//! What binary caches offer: asked while planning, fetched while realising.
//!
//! An object can be had from a cache only with everything that it refers to. So the question goes
//! level by level along references, many at a time, and in the end an object of which something is
//! missing counts as not offered. What a cache promised and did not bring is asked of nobody again:
//! the plan is made anew without it, and it is built.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ampoule_net::Cancel;
use ampoule_store::cache::{Substituters, Watch};
use ampoule_store::narinfo::NarInfo;
use ampoule_store::{DrvOutput, Store, StoreError, StorePath};

use crate::build::job::{Done, Shared, lock_one};
use crate::error::{Failure, FailureKind};
use crate::events::Event;

/// How many questions are under way at once.
const QUESTIONS: usize = 32;

/// What a cache has.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Which cache.
    pub(crate) at: usize,
    /// What it says.
    pub(crate) narinfo: NarInfo,
}

impl Offer {
    /// How many bytes will come.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.narinfo.file_size_bytes.unwrap_or(self.narinfo.info.nar_size_bytes)
    }

    /// What it needs besides itself.
    pub(crate) fn references(&self) -> impl Iterator<Item = &StorePath> {
        let info = &self.narinfo.info;
        info.references.iter().filter(move |path| **path != info.path)
    }
}

#[derive(Debug)]
enum Answer {
    Valid,
    Offered(Arc<Offer>),
    Absent,
}

/// The answers so far.
pub(crate) struct Offers<'a> {
    store: &'a Store,
    substituters: Option<&'a Substituters>,
    cancel: &'a Cancel,
    answers: BTreeMap<StorePath, Answer>,
}

impl<'a> Offers<'a> {
    /// Asks these caches, but for what did not come when it was offered before.
    pub(crate) fn new(
        store: &'a Store,
        substituters: Option<&'a Substituters>,
        refused: &BTreeSet<StorePath>,
        cancel: &'a Cancel,
    ) -> Self {
        let answers = refused.iter().map(|path| (path.clone(), Answer::Absent)).collect();
        Self { store, substituters: substituters.filter(|caches| !caches.is_empty()), cancel, answers }
    }

    /// Whether there is nobody to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.substituters.is_none()
    }

    /// Asks which object an output is that is known by its contents only.
    pub(crate) fn realisation(&self, id: &DrvOutput) -> Option<StorePath> {
        let substituters = self.substituters.filter(|_| !self.cancel.is_asked())?;
        substituters.realisation(self.store, id)
    }

    /// Asks for objects and for all that they refer to.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn ask(&mut self, paths: impl IntoIterator<Item = StorePath>) -> Result<(), StoreError> {
        let Some(substituters) = self.substituters else { return Ok(()) };
        let is_new = |answers: &BTreeMap<_, _>, path: &StorePath| !answers.contains_key(path);
        let mut level: BTreeSet<StorePath> =
            paths.into_iter().filter(|path| is_new(&self.answers, path)).collect();
        let asked_any = !level.is_empty();
        while !level.is_empty() && !self.cancel.is_asked() {
            self.store.lease(&level)?;
            let paths: Vec<StorePath> = level.into_iter().collect();
            let found = ask_all(self.store, substituters, self.cancel, &paths)?;
            level = BTreeSet::new();
            for answer in &found {
                if let Answer::Offered(offer) = answer {
                    level.extend(offer.references().cloned());
                }
            }
            self.answers.extend(paths.into_iter().zip(found));
            level.retain(|path| is_new(&self.answers, path));
        }
        if asked_any {
            self.withdraw_incomplete();
        }
        Ok(())
    }

    /// Takes back what refers to something that nobody has.
    fn withdraw_incomplete(&mut self) {
        let mut users: BTreeMap<&StorePath, Vec<&StorePath>> = BTreeMap::new();
        let mut to_do: Vec<&StorePath> = Vec::new();
        for (path, answer) in &self.answers {
            match answer {
                Answer::Absent => to_do.push(path),
                Answer::Valid => {}
                Answer::Offered(offer) => {
                    for reference in offer.references() {
                        users.entry(reference).or_default().push(path);
                        if !self.answers.contains_key(reference) {
                            to_do.push(reference);
                        }
                    }
                }
            }
        }
        let mut broken: BTreeSet<StorePath> = BTreeSet::new();
        while let Some(path) = to_do.pop() {
            for user in users.get(path).into_iter().flatten() {
                if broken.insert((*user).clone()) {
                    to_do.push(user);
                }
            }
        }
        for path in broken {
            self.answers.insert(path, Answer::Absent);
        }
    }

    /// Whether an object is there, or can be had with all that it needs.
    pub(crate) fn has(&self, path: &StorePath) -> bool {
        matches!(self.answers.get(path), Some(Answer::Valid | Answer::Offered(_)))
    }

    /// What is offered of an object that is not there.
    pub(crate) fn get(&self, path: &StorePath) -> Option<&Arc<Offer>> {
        match self.answers.get(path) {
            Some(Answer::Offered(offer)) => Some(offer),
            _ => None,
        }
    }
}

/// Asks for many objects at a time.
fn ask_all(
    store: &Store,
    substituters: &Substituters,
    cancel: &Cancel,
    paths: &[StorePath],
) -> Result<Vec<Answer>, StoreError> {
    let ask = |path: &StorePath| -> Result<Answer, StoreError> {
        if store.is_valid(path)? {
            return Ok(Answer::Valid);
        }
        if cancel.is_asked() {
            return Ok(Answer::Absent);
        }
        let found = substituters.query(store, path)?;
        Ok(found.map_or(Answer::Absent, |(at, narinfo)| Answer::Offered(Arc::new(Offer { at, narinfo }))))
    };
    let workers = QUESTIONS.min(paths.len());
    if workers <= 1 {
        return paths.iter().map(ask).collect();
    }
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::with_capacity(paths.len()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((at, path)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, paths.get(at)?)))
                {
                    let answer = ask(path);
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push((at, answer));
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Fetches an offered object, all of whose references are there.
///
/// # Errors
/// [`FailureKind::Fetch`] if the cache did not keep its promise: then it can be built. Others are
/// the disk's, or an interruption.
pub(crate) fn fetch(
    shared: &Shared,
    substituters: &Substituters,
    offer: &Offer,
    on_start: &dyn Fn(),
) -> Result<Done, Failure> {
    let path = &offer.narinfo.info.path;
    let outputs = BTreeMap::from([("out".to_owned(), path.clone())]);
    let lock = lock_one(shared, path, path, &mut false)?;
    if shared.store.is_valid(path)? {
        return Ok(Done::valid(outputs));
    }
    on_start();
    let watch = Progress {
        shared,
        path,
        total_bytes: offer.size_bytes(),
        told: shared.events.wants_details().then(|| Mutex::new(shared.began)),
    };
    match substituters.fetch_watched(shared.store, offer.at, &offer.narinfo, Some(&lock), &watch) {
        Ok(_) => Ok(Done::new(outputs)),
        Err(_) if shared.cancel.is_asked() => Err(Failure::new(FailureKind::Interrupted, "interrupted")),
        Err(error) if is_the_caches_fault(&error) => {
            let from = match &error {
                // It names the file, and so the cache.
                StoreError::Transport { .. } => String::new(),
                _ => format!("{}: ", substituters.url(offer.at)),
            };
            let text = format!("cannot copy `{}` from {from}{error}", path.name());
            Err(Failure::new(FailureKind::Fetch, text))
        }
        Err(error) => Err(error.into()),
    }
}

/// Fetches objects and what they refer to, if caches have all of it. What a cache does not keep of its promise is
/// noted for `drv`, which is built then.
///
/// # Errors
/// As [`fetch`], but for the caches' faults.
pub(crate) fn fetch_closure<'p>(
    shared: &Shared,
    substituters: &Substituters,
    drv: &StorePath,
    paths: impl IntoIterator<Item = &'p StorePath>,
    on_start: &dyn Fn(),
) -> Result<bool, Failure> {
    let paths: Vec<StorePath> = paths.into_iter().cloned().collect();
    let refused = BTreeSet::new();
    let mut offers = Offers::new(shared.store, Some(substituters), &refused, shared.cancel);
    offers.ask(paths.iter().cloned())?;
    if !paths.iter().all(|path| offers.has(path)) {
        return Ok(false);
    }
    on_start();
    // Each is met twice: before what it refers to, and after.
    let mut met = BTreeSet::new();
    let mut to_do: Vec<(StorePath, bool)> = paths.into_iter().map(|path| (path, false)).collect();
    while let Some((path, is_ready)) = to_do.pop() {
        // What is there already has no offer.
        let Some(offer) = offers.get(&path) else { continue };
        if is_ready {
            match fetch(shared, substituters, offer, &|| {}) {
                Ok(_) => {}
                Err(failure) if failure.kind == FailureKind::Fetch => {
                    let message = format!("{}; it is built instead", failure.message);
                    shared.events.event(Event::Note { drv: Some(drv.clone()), message });
                    return Ok(false);
                }
                Err(failure) => return Err(failure),
            }
        } else if met.insert(path.clone()) {
            to_do.push((path.clone(), true));
            to_do.extend(offer.references().map(|path| (path.clone(), false)));
        }
    }
    Ok(true)
}

fn is_the_caches_fault(error: &StoreError) -> bool {
    if error.is_disk_full() {
        return false;
    }
    matches!(
        error,
        StoreError::Transport { .. }
            | StoreError::HashMismatch { .. }
            | StoreError::SizeMismatch { .. }
            | StoreError::Format { .. }
            | StoreError::Signature(_)
            | StoreError::Nar(_)
    )
}

/// Passes on how far a transfer is.
struct Progress<'a> {
    shared: &'a Shared<'a>,
    path: &'a StorePath,
    total_bytes: u64,
    told: Option<Mutex<Instant>>,
}

impl Watch for Progress<'_> {
    fn progress(&self, done_bytes: u64, total_bytes: Option<u64>) {
        const OFTEN: Duration = Duration::from_millis(50);
        let Some(told) = &self.told else { return };
        let total_bytes = total_bytes.unwrap_or(self.total_bytes);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() < OFTEN && total_bytes != done_bytes {
            return;
        }
        *told = Instant::now();
        let total_bytes = Some(total_bytes);
        self.shared.events.event(Event::Progress { drv: self.path.clone(), done_bytes, total_bytes });
    }

    fn is_cancelled(&self) -> bool {
        self.shared.cancel.is_asked()
    }
}
