//! Copies closures to and from binary caches, several objects at a time.
//!
//! An object is registered, or gets its narinfo, after everything that it refers to: whenever this
//! stops, what is there is complete.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex};

use super::{BinaryCache, Realisation, believe, compress, narinfo_name, put_text, realisation};
use crate::error::{StoreError, StoreResult};
use crate::narinfo::{Compression, NarInfo};
use crate::{ObjectInfo, SecretKey, Store, StorePath, TrustedKeys};

/// How to copy.
#[derive(Debug)]
pub struct CopyOptions<'a> {
    /// How NARs are compressed.
    pub compression: Compression,
    /// The compressor's level.
    pub level: Option<i32>,
    /// Who signs what is written.
    pub keys: &'a [SecretKey],
    /// How many objects move at once.
    pub jobs: usize,
}

impl Default for CopyOptions<'_> {
    fn default() -> Self {
        Self { compression: Compression::default(), level: None, keys: &[], jobs: 8 }
    }
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// These were copied.
    pub copied: BTreeSet<StorePath>,
    /// These were there already.
    pub present: BTreeSet<StorePath>,
    /// Sum of the NAR sizes of what was copied.
    pub nar_bytes: u64,
}

/// Copies the closure of `paths` to a cache.
///
/// # Errors
/// Those of the store and of the transport.
pub fn copy_to(
    store: &Store,
    cache: &BinaryCache,
    paths: impl IntoIterator<Item = StorePath>,
    options: &CopyOptions<'_>,
) -> StoreResult<CopyReport> {
    let paths: Vec<_> = paths.into_iter().collect();
    store.lease(&paths)?;
    let closure = store.closure_infos(paths)?;
    let edges = edges_of(closure.values());
    let done = in_order(&edges, options.jobs, |path| send(store, cache, &closure[path], options))?;
    send_realisations(store, cache, &closure, options)?;
    Ok(report(done, |path| closure[path].nar_size_bytes))
}

fn report(done: BTreeMap<StorePath, bool>, size: impl Fn(&StorePath) -> u64) -> CopyReport {
    let mut report = CopyReport::default();
    for (path, is_copied) in done {
        if is_copied {
            report.nar_bytes += size(&path);
            report.copied.insert(path);
        } else {
            report.present.insert(path);
        }
    }
    report
}

fn send(
    store: &Store,
    cache: &BinaryCache,
    info: &ObjectInfo,
    options: &CopyOptions<'_>,
) -> StoreResult<bool> {
    if cache.transport.has(&narinfo_name(&info.path))? {
        return Ok(false);
    }
    let staging = store.staging()?;
    let file = staging.path().join("nar");
    let (file_hash, file_size) = compress(store, info, &file, options.compression, options.level)?;
    let url = format!("nar/{}.nar{}", file_hash.to_nix32(), options.compression.suffix());
    if !cache.transport.has(&url)? {
        cache.transport.put(&url, &file, "application/x-nix-nar")?;
    }
    let mut info = info.clone();
    if info.tier != Some(crate::Tier::None) {
        let signatures = options.keys.iter().map(|key| key.sign(store.dir(), &info)).collect::<Vec<_>>();
        info.signatures.extend(signatures);
    } else if !options.keys.is_empty() {
        let problem = format!("'{}' was built without a sandbox, and such objects are not signed", info.path);
        return Err(StoreError::Signature(problem));
    }
    let narinfo = NarInfo {
        url,
        compression: options.compression,
        file_hash: Some(file_hash),
        file_size_bytes: Some(file_size),
        info,
    };
    let text = narinfo.print(store.dir());
    put_text(&*cache.transport, &staging, &narinfo_name(&narinfo.info.path), &text, "text/x-nix-narinfo")?;
    Ok(true)
}

/// Tells the cache which outputs the objects are, where contents decided that.
fn send_realisations(
    store: &Store,
    cache: &BinaryCache,
    closure: &BTreeMap<StorePath, ObjectInfo>,
    options: &CopyOptions<'_>,
) -> StoreResult<()> {
    for (id, path) in store.realisations()? {
        let Some(info) = closure.get(&path).filter(|info| info.tier != Some(crate::Tier::None)) else {
            continue;
        };
        let name = realisation::file_name(&id);
        if cache.transport.has(&name)? {
            continue;
        }
        let mut realisation = Realisation::new(id, info.path.clone());
        options.keys.iter().for_each(|key| realisation.sign(key));
        put_text(&*cache.transport, &store.staging()?, &name, &realisation.print(), "application/json")?;
    }
    Ok(())
}

/// Copies the closure of `paths` from a cache.
///
/// # Errors
/// [`StoreError::Signature`] if something is not signed by a trusted key, [`StoreError::NotValid`]
/// if the cache has not got it, and those of the store and of the transport.
pub fn copy_from(
    store: &Store,
    cache: &BinaryCache,
    paths: impl IntoIterator<Item = StorePath>,
    keys: &TrustedKeys,
    options: &CopyOptions<'_>,
) -> StoreResult<CopyReport> {
    let (infos, present) = ask_closure(store, cache, paths, keys, options.jobs)?;
    let edges = edges_of(infos.values().map(|n| &n.info));
    let done = in_order(&edges, options.jobs, |path| {
        cache.fetch(store, &infos[path])?;
        Ok(true)
    })?;
    let mut report = report(done, |path| infos[path].info.nar_size_bytes);
    report.present = present;
    Ok(report)
}

/// Asks for everything that is not valid yet, level by level, and believes none of it unchecked.
fn ask_closure(
    store: &Store,
    cache: &BinaryCache,
    paths: impl IntoIterator<Item = StorePath>,
    keys: &TrustedKeys,
    jobs: usize,
) -> StoreResult<(BTreeMap<StorePath, NarInfo>, BTreeSet<StorePath>)> {
    let mut infos = BTreeMap::new();
    let mut present = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut level: BTreeSet<StorePath> = paths.into_iter().collect();
    while !level.is_empty() {
        seen.extend(level.iter().cloned());
        let nothing: BTreeMap<_, _> = level.iter().map(|p| (p.clone(), BTreeSet::new())).collect();
        let asked = Mutex::new(Vec::new());
        store.lease(&level)?;
        in_order(&nothing, jobs.max(16), |path| {
            let found = if store.is_valid(path)? { None } else { Some(ask(store, cache, path, keys)?) };
            asked.lock().expect("nothing panics while it holds this lock").push((path.clone(), found));
            Ok(true)
        })?;
        let asked = asked.into_inner().expect("nothing panics while it holds this lock");
        level.clear();
        for (path, found) in asked {
            match found {
                None => drop(present.insert(path)),
                Some(narinfo) => {
                    level.extend(narinfo.info.references.iter().filter(|r| !seen.contains(*r)).cloned());
                    infos.insert(path, narinfo);
                }
            }
        }
    }
    Ok((infos, present))
}

fn ask(store: &Store, cache: &BinaryCache, path: &StorePath, keys: &TrustedKeys) -> StoreResult<NarInfo> {
    let narinfo = cache.narinfo(path)?.ok_or_else(|| StoreError::Transport {
        url: cache.url().to_owned(),
        problem: format!("has no '{path}'"),
    })?;
    believe(store.dir(), keys, &narinfo, cache.url())?;
    Ok(narinfo)
}

type Edges = BTreeMap<StorePath, BTreeSet<StorePath>>;

fn edges_of<'a>(infos: impl IntoIterator<Item = &'a ObjectInfo>) -> Edges {
    let infos: Vec<_> = infos.into_iter().collect();
    let ours: BTreeSet<_> = infos.iter().map(|i| &i.path).collect();
    let needed = |info: &ObjectInfo| {
        info.references.iter().filter(|r| **r != info.path && ours.contains(r)).cloned().collect()
    };
    infos.iter().map(|info| (info.path.clone(), needed(info))).collect()
}

struct Queue {
    ready: VecDeque<StorePath>,
    waits_for: BTreeMap<StorePath, usize>,
    done: BTreeMap<StorePath, bool>,
    running: usize,
    failed: Option<StoreError>,
}

/// Runs `job` for each, on several threads, each after all that it needs. Stops at the first error.
fn in_order(
    edges: &Edges,
    jobs: usize,
    job: impl Fn(&StorePath) -> StoreResult<bool> + Sync,
) -> StoreResult<BTreeMap<StorePath, bool>> {
    let mut users: BTreeMap<&StorePath, Vec<&StorePath>> = BTreeMap::new();
    for (path, needed) in edges {
        needed.iter().for_each(|n| users.entry(n).or_default().push(path));
    }
    let waits_for: BTreeMap<_, _> = edges.iter().map(|(path, needed)| (path.clone(), needed.len())).collect();
    let ready = waits_for.iter().filter(|(_, n)| **n == 0).map(|(p, _)| p.clone()).collect();
    let queue = Mutex::new(Queue { ready, waits_for, done: BTreeMap::new(), running: 0, failed: None });
    let changed = Condvar::new();
    let work = || {
        let lock = || queue.lock().expect("nothing panics while it holds this lock");
        let mut state = lock();
        loop {
            let is_over = state.failed.is_some() || (state.ready.is_empty() && state.running == 0);
            let Some(path) = state.ready.pop_front().filter(|_| !is_over) else {
                if is_over {
                    changed.notify_all();
                    return;
                }
                state = changed.wait(state).expect("nothing panics while it holds this lock");
                continue;
            };
            state.running += 1;
            drop(state);
            let result = job(&path);
            state = lock();
            state.running -= 1;
            match result {
                Ok(is_copied) => {
                    for user in users.get(&path).into_iter().flatten() {
                        let left = state.waits_for.get_mut(*user).expect("each has a number");
                        *left -= 1;
                        if *left == 0 {
                            state.ready.push_back((*user).clone());
                        }
                    }
                    state.done.insert(path, is_copied);
                }
                Err(error) => drop(state.failed.get_or_insert(error)),
            }
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, edges.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let queue = queue.into_inner().expect("nothing panics while it holds this lock");
    match queue.failed {
        Some(error) => Err(error),
        None if queue.done.len() < edges.len() => {
            Err(StoreError::Other("these objects refer to each other in a circle".to_owned()))
        }
        None => Ok(queue.done),
    }
}
