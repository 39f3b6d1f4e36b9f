//! Substituters: binary caches that are asked before something is built.
//!
//! Answers are kept on the disk (`cache/narinfo/`), so that a build in which nothing changed does
//! not touch the network. A cache that cannot be reached is not asked again by this process. Several
//! are asked in the order of the priorities that they give themselves, lower first, as in Nix.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use rustix::fs::Mode;

use super::{
    BinaryCache, CacheInfo, Realisation, Transport, Unwatched, Watch, believe, narinfo_name, read_text,
};
use crate::error::{StoreError, StoreResult};
use crate::layout::{read_small, write_over};
use crate::narinfo::NarInfo;
use crate::tree::{open_subdir, stat_nofollow};
use crate::{DrvOutput, Hash, OutputLock, Registered, Store, StorePath, TrustedKeys};

/// How long a found narinfo is believed to be still there.
const FOUND_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long "not there" is believed.
const MISSING_FOR: Duration = Duration::from_secs(3600);
/// Under which name it is kept what a cache says about itself; no hash part is called so.
const CACHE_INFO: &CStr = c"nix-cache-info";

struct Source {
    transport: Arc<dyn Transport>,
    state: Mutex<SourceState>,
}

enum SourceState {
    Unopened,
    Opened(BinaryCache),
    /// It failed, and is not asked again.
    Dead,
}

/// Binary caches in order, and whom to believe.
pub struct Substituters {
    sources: Vec<Source>,
    keys: TrustedKeys,
    /// In which order they are asked.
    order: OnceLock<Vec<usize>>,
    /// Why some were left out: reported once each.
    told: Mutex<Vec<String>>,
}

impl Substituters {
    /// Takes caches; of those with the same priority, the first is asked first. None is reached for before something is asked.
    #[must_use]
    pub fn new(transports: impl IntoIterator<Item = Arc<dyn Transport>>, keys: TrustedKeys) -> Self {
        let source = |transport| Source { transport, state: Mutex::new(SourceState::Unopened) };
        let sources = transports.into_iter().map(source).collect();
        Self { sources, keys, order: OnceLock::new(), told: Mutex::default() }
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Returns what should be told to people, and forgets it: caches that were left out, narinfos
    /// that were refused.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().expect("nothing panics while it holds this lock"))
    }

    fn tell(&self, what: String) {
        let mut told = self.told.lock().expect("nothing panics while it holds this lock");
        if !told.contains(&what) {
            told.push(what);
        }
    }

    /// Returns the first cache that has an object and may be believed, and what it says. A cache
    /// that fails, or whose signature is refused, is passed over: see [`Self::take_warnings`].
    ///
    /// # Errors
    /// Those of the file system.
    pub fn query(&self, store: &Store, path: &StorePath) -> StoreResult<Option<(usize, NarInfo)>> {
        for at in self.order(store) {
            let source = &self.sources[*at];
            match self.ask(store, source, path) {
                Ok(Some(narinfo)) => return Ok(Some((*at, narinfo))),
                Ok(None) => {}
                Err(error) => self.pass_over(source, &error),
            }
        }
        Ok(None)
    }

    /// Returns which object an output is that is known by its contents only, by the word of the first
    /// cache that has one and may be believed. Others are passed over.
    #[must_use]
    pub fn realisation(&self, store: &Store, id: &DrvOutput) -> Option<StorePath> {
        for at in self.order(store) {
            let source = &self.sources[*at];
            let found = source.opened(store).and_then(|cache| match cache {
                Some(_) => Realisation::ask(&*source.transport, &self.keys, id),
                None => Ok(None),
            });
            match found {
                Ok(Some(path)) => return Some(path),
                Ok(None) => {}
                Err(error) => self.pass_over(source, &error),
            }
        }
        None
    }

    fn pass_over(&self, source: &Source, error: &StoreError) {
        if matches!(error, StoreError::Transport { .. }) {
            source.give_up();
            self.tell(format!("{error}; it is not asked again"));
        } else {
            self.tell(error.to_string());
        }
    }

    /// The caches by priority. One alone is not asked for its own.
    fn order(&self, store: &Store) -> &[usize] {
        self.order.get_or_init(|| {
            let mut order: Vec<usize> = (0..self.sources.len()).collect();
            if order.len() > 1 {
                order.sort_by_cached_key(|at| self.priority(store, &self.sources[*at]));
            }
            order
        })
    }

    /// What a cache says of itself, kept as its answers are; last comes what says nothing.
    fn priority(&self, store: &Store, source: &Source) -> u32 {
        let url = source.transport.url();
        let kept = Kept::open(store, url);
        if let Some(text) = kept.as_ref().and_then(|kept| kept.get(CACHE_INFO))
            && let Ok(info) = CacheInfo::parse(&text, url)
        {
            return info.priority;
        }
        match source.opened(store) {
            Ok(Some(cache)) => {
                if let Some(kept) = &kept {
                    kept.put(CACHE_INFO, &cache.info().print());
                }
                cache.info().priority
            }
            Ok(None) => u32::MAX,
            Err(error) => {
                self.pass_over(source, &error);
                u32::MAX
            }
        }
    }

    /// Returns what people call a cache that [`Self::query`] named.
    #[must_use]
    pub fn url(&self, at: usize) -> &str {
        self.sources[at].transport.url()
    }

    fn ask(&self, store: &Store, source: &Source, path: &StorePath) -> StoreResult<Option<NarInfo>> {
        let transport = &*source.transport;
        let kept = Kept::open(store, transport.url());
        let name = CString::new(path.hash_part()).expect("digits have no zero byte");
        let text = match kept.as_ref().and_then(|kept| kept.get(&name)) {
            Some(text) => text,
            None => {
                let found = match source.opened(store)? {
                    Some(_) => read_text(transport, &narinfo_name(path))?.unwrap_or_default(),
                    None => return Ok(None),
                };
                if let Some(kept) = &kept {
                    kept.put(&name, &found);
                }
                found
            }
        };
        if text.is_empty() {
            return Ok(None);
        }
        let from = format!("{}/{}", transport.url(), narinfo_name(path));
        let narinfo = NarInfo::parse(store.dir(), &text, &from)?;
        if narinfo.info.path != *path {
            // Another name behind the same hash part: not what was asked for.
            return Ok(None);
        }
        believe(store.dir(), &self.keys, &narinfo, transport.url())?;
        Ok(Some(narinfo))
    }

    /// Fetches an object that [`Self::query`] found. Its references must be valid.
    ///
    /// # Errors
    /// As [`BinaryCache::fetch`].
    pub fn fetch(&self, store: &Store, at: usize, narinfo: &NarInfo) -> StoreResult<Registered> {
        self.fetch_watched(store, at, narinfo, None, &Unwatched)
    }

    /// The same, for somebody who watches, and who may hold the object's lock already.
    ///
    /// # Errors
    /// As [`BinaryCache::fetch`].
    pub fn fetch_watched(
        &self,
        store: &Store,
        at: usize,
        narinfo: &NarInfo,
        lock: Option<&OutputLock>,
        watch: &dyn Watch,
    ) -> StoreResult<Registered> {
        let source = &self.sources[at];
        let url = source.transport.url();
        let unreachable =
            || StoreError::Transport { url: url.to_owned(), problem: "it failed before".into() };
        let cache = source.opened(store)?.ok_or_else(unreachable)?;
        let fetched = cache.fetch_watched(store, narinfo, lock, watch);
        if fetched.is_err() {
            // What was kept about it may be old.
            if let Some(kept) = Kept::open(store, url) {
                kept.forget(narinfo.info.path.hash_part());
            }
        }
        fetched
    }
}

impl Source {
    /// Opens the cache, or returns it if it is open; nothing if it failed before. Who comes meanwhile
    /// waits: a cache that cannot be reached costs one try, not one for each question.
    fn opened(&self, store: &Store) -> StoreResult<Option<BinaryCache>> {
        let mut state = self.lock();
        match &*state {
            SourceState::Dead => Ok(None),
            SourceState::Opened(cache) => Ok(Some(cache.clone())),
            SourceState::Unopened => match BinaryCache::open(Arc::clone(&self.transport), store.dir()) {
                Ok(cache) => {
                    *state = SourceState::Opened(cache.clone());
                    Ok(Some(cache))
                }
                Err(error) => {
                    *state = SourceState::Dead;
                    Err(error)
                }
            },
        }
    }

    fn give_up(&self) {
        *self.lock() = SourceState::Dead;
    }

    fn lock(&self) -> MutexGuard<'_, SourceState> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

/// The answers of one cache, on the disk. Everything in it can be thrown away.
struct Kept(OwnedFd);

impl Kept {
    fn open(store: &Store, url: &str) -> Option<Self> {
        let mode = Mode::from_raw_mode(0o755);
        let mut dir = store.layout().cache.try_clone().ok()?;
        for name in ["narinfo".to_owned(), Hash::sha256(url.as_bytes()).to_nix32()] {
            rustix::fs::mkdirat(&dir, &*name, mode).ok();
            dir = open_subdir(&dir, &*name).ok()?;
        }
        Some(Self(dir))
    }

    /// Returns the kept answer, empty for "not there", if it is not too old.
    fn get(&self, name: &CStr) -> Option<String> {
        let text = read_small(&self.0, name).ok()??;
        let written = u64::try_from(stat_nofollow(&self.0, name).ok()?.st_mtime).ok()?;
        let age = crate::info::now_s().checked_sub(written)?;
        let most = if text.is_empty() { MISSING_FOR } else { FOUND_FOR };
        (age <= most.as_secs()).then_some(text)
    }

    fn put(&self, name: &CStr, text: &str) {
        write_over(&self.0, name, text.as_bytes()).ok();
    }

    fn forget(&self, name: &str) {
        rustix::fs::unlinkat(&self.0, name, rustix::fs::AtFlags::empty()).ok();
    }
}
