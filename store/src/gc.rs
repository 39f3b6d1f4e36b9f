//! Garbage collection: what no root reaches goes.
//!
//! While `gc.lock` is held alone, what is needed is marked, and what is not is renamed to `trash/`
//! (or, if it is a plain file, deleted); then its info file goes. Referrers go before what they refer
//! to, so whenever this stops, what is valid is whole. The trash is deleted afterwards, without the
//! lock: builders wait for milliseconds, not for the disk.
//!
//! Nothing has to be written to find garbage, so it works on a full disk.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::CString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::error::{StoreError, StoreResult, is_absent};
use crate::layout::{TEMPORARY_PREFIX, read_small, write_over};
use crate::lock::{GcLock, OutputLock, read_leases};
use crate::tree::{self, list_names};
use crate::{Root, RootKind, Store, StorePath};

/// What to collect.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Only say what would go.
    pub dry_run: bool,
    /// Keep what was used within this time, and what that needs.
    pub older_than: Option<Duration>,
    /// Stop as soon as the NARs of what is left are no more than this; what was used longest ago
    /// goes first.
    pub max_size_bytes: Option<u64>,
    /// Keep the derivations that made what is kept.
    pub keep_derivations: bool,
    /// Collect only these, and fail if one is needed.
    pub only: Option<Vec<StorePath>>,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { dry_run: false, older_than: None, max_size_bytes: None, keep_derivations: true, only: None }
    }
}

/// What was collected, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// What went, or would go: referrers first.
    pub dead: Vec<StorePath>,
    /// Sum of the NAR sizes of these.
    pub dead_nar_bytes: u64,
    /// What the disk got back; 0 in a dry run.
    pub freed_bytes: u64,
    /// How many valid objects are left.
    pub kept: usize,
    /// Sum of the NAR sizes of these.
    pub kept_nar_bytes: u64,
    /// Objects without an info file. They are left alone by the first collection that meets them,
    /// so that `verify --repair` can adopt them, and deleted by the next.
    pub orphans: Vec<String>,
    /// Roots that lead nowhere, and why.
    pub stale_roots: Vec<(PathBuf, String)>,
}

impl Store {
    /// Deletes what no root reaches, or says what would be deleted.
    ///
    /// # Errors
    /// Those of the file system; [`StoreError::StillAlive`] for [`GcOptions::only`].
    pub fn gc(&self, options: &GcOptions) -> StoreResult<GcReport> {
        // Finds the trash of those that died, too; and on a full disk this is what makes room, so it
        // must not fail when a session cannot be begun.
        let mut report;
        let mut freed = 0;
        {
            let _alone = GcLock::alone(self.layout())?;
            let mut plan = self.plan(self.graph(options.keep_derivations)?, options)?;
            report = std::mem::take(&mut plan.report);
            if !options.dry_run {
                for path in &report.dead {
                    freed += self.discard(path)?;
                }
                self.sweep_leftovers(&plan, &mut report)?;
                freed += self.sweep_records()?;
            }
        }
        if !options.dry_run {
            report.freed_bytes = freed + self.empty_trash()?;
        }
        Ok(report)
    }

    /// Reads what refers to what, on all cores. A damaged info file is none.
    fn graph(&self, keep_derivations: bool) -> StoreResult<Graph> {
        use rayon::prelude::*;
        let paths = self.all_valid()?;
        let number = |path: &StorePath| paths.binary_search(path).ok().map(|at| at as u32);
        let read = |(at, path): (usize, &StorePath)| -> StoreResult<Option<(u64, Box<[u32]>)>> {
            let Some((info, _)) = self.read_info(path)? else { return Ok(None) };
            let deriver = info.deriver.iter().filter(|_| keep_derivations);
            let to = info.references.iter().chain(deriver).filter_map(number);
            Ok(Some((info.nar_size_bytes, to.filter(|to| *to as usize != at).collect())))
        };
        let found: StoreResult<Vec<_>> = paths.par_iter().enumerate().with_min_len(64).map(read).collect();
        let mut graph = Graph { paths: Vec::new(), sizes: Vec::new(), starts: vec![0], edges: Vec::new() };
        let found = found?;
        // Without the damaged ones the numbers are others.
        let mut numbers = Vec::with_capacity(found.len());
        let mut next = 0;
        for one in &found {
            numbers.push(one.as_ref().map(|_| next));
            next += u32::from(one.is_some());
        }
        for (path, one) in paths.into_iter().zip(found) {
            let Some((size, to)) = one else { continue };
            graph.edges.extend(to.iter().filter_map(|to| numbers[*to as usize]));
            graph.starts.push(graph.edges.len());
            graph.sizes.push(size);
            graph.paths.push(path);
        }
        Ok(graph)
    }

    fn plan(&self, graph: Graph, options: &GcOptions) -> StoreResult<Plan> {
        let links = self.link_roots()?;
        let leases = read_leases(self.layout())?;
        let mut roots = links.roots;
        roots.extend(leases.needed.iter().map(|path| Root { path: path.clone(), kind: RootKind::Lease }));
        roots.extend(self.process_roots());
        let mut live = graph.reach(roots.iter().filter_map(|root| graph.number(&root.path)));
        if let Some(age) = options.older_than {
            let limit = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            let young = (0..graph.len()).filter(|at| !live[*at] && self.last_use(&graph.paths[*at]) > limit);
            let young: Vec<_> = young.collect();
            let kept = graph.reach(young);
            live.iter_mut().zip(kept).for_each(|(live, kept)| *live |= kept);
        }
        let mut dead: Vec<usize> = graph.referrers_first().into_iter().filter(|at| !live[*at]).collect();
        if let Some(only) = &options.only {
            dead = self.choose(&graph, &dead, only, &roots)?;
        }
        if let Some(limit) = options.max_size_bytes {
            dead = self.least_recent(&graph, dead, limit);
        }
        let all_bytes: u64 = graph.sizes.iter().sum();
        let dead_nar_bytes = dead.iter().map(|at| graph.sizes[*at]).sum();
        let report = GcReport {
            dead_nar_bytes,
            kept_nar_bytes: all_bytes - dead_nar_bytes,
            kept: graph.len() - dead.len(),
            dead: dead.iter().map(|at| graph.paths[*at].clone()).collect(),
            stale_roots: links.stale,
            ..GcReport::default()
        };
        Ok(Plan { report, valid: graph.paths, living: leases.living })
    }

    /// Returns when an object was last used.
    fn last_use(&self, path: &StorePath) -> SystemTime {
        let stat = rustix::fs::statat(&self.layout().info, path.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        let seconds = stat.map_or(0, |s| u64::try_from(s.st_mtime).unwrap_or(0));
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Of the dead, referrers first, those that must go until the rest fits.
    fn least_recent(&self, graph: &Graph, dead: Vec<usize>, limit: u64) -> Vec<usize> {
        // An object is used whenever one is that refers to it.
        let mut used: HashMap<usize, SystemTime> = HashMap::new();
        for at in &dead {
            let own = self.last_use(&graph.paths[*at]);
            let used_at = *used.entry(*at).and_modify(|t| *t = own.max(*t)).or_insert(own);
            for to in graph.edges_of(*at) {
                used.entry(to).and_modify(|t| *t = used_at.max(*t)).or_insert(used_at);
            }
        }
        let mut order = dead;
        order.sort_by_key(|at| used[at]);
        let mut size: u64 = graph.sizes.iter().sum();
        let fits = order.iter().position(|at| {
            let enough = size <= limit;
            size = size.saturating_sub(graph.sizes[*at]);
            enough
        });
        order.truncate(fits.unwrap_or(order.len()));
        order
    }

    /// Of the dead, those that were asked for. One that is needed is an error that says by what.
    fn choose(
        &self,
        graph: &Graph,
        dead: &[usize],
        only: &[StorePath],
        roots: &[Root],
    ) -> StoreResult<Vec<usize>> {
        let wanted: HashSet<usize> = only.iter().filter_map(|path| graph.number(path)).collect();
        let dead_set: HashSet<usize> = dead.iter().copied().collect();
        for path in only {
            let still = |reason| StoreError::StillAlive { path: path.clone(), reason };
            let Some(at) = graph.number(path) else { return Err(StoreError::NotValid(path.clone())) };
            if let Some(root) = roots.iter().find(|root| root.path == *path) {
                return Err(still(format!("{} keeps it", root.kind)));
            }
            let leads_here =
                |from: &usize| !wanted.contains(from) && graph.edges_of(*from).any(|to| to == at);
            for from in (0..graph.len()).filter(leads_here) {
                // It may lead here as to what made it.
                let from = &graph.paths[from];
                if self.read_info(from)?.is_some_and(|(info, _)| info.references.contains(path)) {
                    return Err(still(format!("'{from}' refers to it")));
                }
            }
            if !dead_set.contains(&at) {
                return Err(still("a root leads to it".to_owned()));
            }
        }
        Ok(dead.iter().copied().filter(|at| wanted.contains(at)).collect())
    }

    /// Takes an object away, and what is known about it. `gc.lock` is held alone.
    fn discard(&self, path: &StorePath) -> StoreResult<u64> {
        let freed = self.discard_object(path.as_str())?;
        for (dir, name) in [(&self.layout().info, path.as_str())] {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Err(e) if !is_absent(e) => return Err(StoreError::io("delete info of", name, e)),
                _ => {}
            }
        }
        if path.is_derivation() {
            let (shard, rest) = path.as_str().split_at(2);
            rustix::fs::unlinkat(&self.layout().log, format!("{shard}/{rest}.zst"), AtFlags::empty()).ok();
        }
        Ok(freed)
    }

    fn discard_object(&self, name: &str) -> StoreResult<u64> {
        let layout = self.layout();
        let stat = tree::stat_nofollow(&layout.store, name);
        match rustix::fs::unlinkat(&layout.store, name, AtFlags::empty()) {
            Ok(()) => Ok(stat.map_or(0, |s| if s.st_nlink == 1 { s.st_blocks as u64 * 512 } else { 0 })),
            Err(e) if is_absent(e) => Ok(0),
            Err(Errno::ISDIR | Errno::PERM) => {
                let trashed =
                    CString::new(format!("{name}-{:x}", crate::lock::noise())).expect("no zero byte");
                let moved = rustix::fs::renameat(&layout.store, name, &layout.trash, &trashed);
                let moved = match moved {
                    // A directory moves only if one may write into it.
                    Err(Errno::ACCESS) => tree::chmod_unopened(&layout.store, name, tree::MODE_OPEN_DIR)
                        .and_then(|()| rustix::fs::renameat(&layout.store, name, &layout.trash, &trashed)),
                    other => other,
                };
                moved.map(|()| 0).map_err(|e| StoreError::io("delete", name, e))
            }
            Err(e) => Err(StoreError::io("delete", name, e)),
        }
    }

    /// Takes away what the dead left: objects without info files (the second time they are met),
    /// half-written info files, directories of processes that are gone.
    fn sweep_leftovers(&self, plan: &Plan, report: &mut GcReport) -> StoreResult<()> {
        let layout = self.layout();
        let noted = read_small(&layout.cache, c"orphans").ok().flatten().unwrap_or_default();
        let noted: HashSet<&str> = noted.lines().collect();
        let mut notes = String::new();
        for (name, _) in list_names(&layout.store).map_err(|e| StoreError::io("list", b"store", e))? {
            let path = StorePath::from_file_name(name.as_bytes()).ok();
            if path.as_ref().is_some_and(|path| plan.valid.binary_search(path).is_ok()) {
                continue;
            }
            // Somebody is just making it.
            let lock = match &path {
                Some(path) => match OutputLock::take(layout, path, false)? {
                    Some(lock) => Some(lock),
                    None => continue,
                },
                None => None,
            };
            let shown = crate::error::shown(name.as_bytes());
            if noted.contains(&*shown) {
                self.discard_object(name.to_str().unwrap_or_default())?;
            } else {
                notes.push_str(&shown);
                notes.push('\n');
                report.orphans.push(shown);
            }
            drop(lock);
        }
        if !(notes.is_empty() && noted.is_empty()) {
            write_over(&layout.cache, c"orphans", notes.as_bytes()).ok();
        }
        self.sweep_sessions(&plan.living)?;
        sweep_temporaries(&layout.info)?;
        sweep_temporaries(&layout.links)?;
        sweep_temporaries(&layout.root)
    }

    /// Renames the directories of sessions that are not living into the trash.
    fn sweep_sessions(&self, living: &BTreeSet<Vec<u8>>) -> StoreResult<()> {
        let layout = self.layout();
        for dir in [&layout.tmp, &layout.build] {
            for (name, _) in list_names(dir).map_err(|e| StoreError::io("list", b"tmp", e))? {
                if living.contains(name.as_bytes()) {
                    continue;
                }
                let shown = name.to_string_lossy();
                let trashed =
                    CString::new(format!("{shown}-{:x}", crate::lock::noise())).expect("no zero byte");
                rustix::fs::renameat(dir, &name, &layout.trash, &trashed).ok();
            }
        }
        Ok(())
    }

    /// Deletes records that lead nowhere: realisations, contents without a name.
    fn sweep_records(&self) -> StoreResult<u64> {
        let layout = self.layout();
        let mut freed = 0;
        for (name, _) in list(&layout.realisations)? {
            let text = read_small(&layout.realisations, &name).ok().flatten().unwrap_or_default();
            let valid = StorePath::parse(text.trim_end()).ok().map(|p| self.has_object(&p)).transpose()?;
            if valid != Some(true) {
                rustix::fs::unlinkat(&layout.realisations, &name, AtFlags::empty()).ok();
            }
        }
        // Guesses about sources: few are of use for long.
        if let Ok(sources) = tree::open_subdir(&layout.cache, c"sources") {
            let marks = list(&sources)?;
            if marks.len() > 10_000 {
                for (name, _) in marks {
                    rustix::fs::unlinkat(&sources, &name, AtFlags::empty()).ok();
                }
            }
        }
        for (name, _) in list(&layout.links)? {
            if let Ok(stat) = tree::stat_nofollow(&layout.links, &name)
                && stat.st_nlink == 1
            {
                rustix::fs::unlinkat(&layout.links, &name, AtFlags::empty()).ok();
                freed += stat.st_blocks as u64 * 512;
            }
        }
        Ok(freed)
    }

    /// Deletes everything in `trash/`, on all cores. Says what the disk got back.
    pub(crate) fn empty_trash(&self) -> StoreResult<u64> {
        use rayon::prelude::*;
        let trash = &self.layout().trash;
        let names = list_names(trash).map_err(|e| StoreError::io("list", b"trash", e))?;
        names.par_iter().map(|(name, _)| tree::remove(trash, name)).try_reduce(|| 0, |a, b| Ok(a + b))
    }

    /// Takes away what processes left that died. Does not wait: if a collector runs, it does this.
    pub(crate) fn clean_up_after_the_dead(&self) -> StoreResult<()> {
        let layout = self.layout();
        if list(&layout.tmp)?.is_empty()
            && list(&layout.leases)?.is_empty()
            && list(&layout.trash)?.is_empty()
        {
            return Ok(());
        }
        {
            let Some(_alone) = GcLock::take(layout, true, false)? else { return Ok(()) };
            let leases = read_leases(layout)?;
            self.sweep_sessions(&leases.living)?;
        }
        self.empty_trash()?;
        Ok(())
    }
}

fn list(dir: &std::os::fd::OwnedFd) -> StoreResult<Vec<(CString, rustix::fs::FileType)>> {
    list_names(dir).map_err(|e| StoreError::io("list", b"store", e))
}

fn sweep_temporaries(dir: &std::os::fd::OwnedFd) -> StoreResult<()> {
    for (name, _) in list_names(dir).map_err(|e| StoreError::io("list", b"info", e))? {
        if name.as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
            rustix::fs::unlinkat(dir, &name, AtFlags::empty()).ok();
        }
    }
    Ok(())
}

struct Plan {
    report: GcReport,
    /// Sorted.
    valid: Vec<StorePath>,
    living: BTreeSet<Vec<u8>>,
}

/// Who refers to whom, by number. There may be hundreds of thousands.
struct Graph {
    /// All valid objects, sorted.
    paths: Vec<StorePath>,
    /// Sizes of their NARs.
    sizes: Vec<u64>,
    /// Where their edges begin, and where the last ones end.
    starts: Vec<usize>,
    edges: Vec<u32>,
}

impl Graph {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn number(&self, path: &StorePath) -> Option<usize> {
        self.paths.binary_search(path).ok()
    }

    fn edges_of(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        self.edges[self.starts[at]..self.starts[at + 1]].iter().map(|to| *to as usize)
    }

    /// Everything that these lead to.
    fn reach(&self, from: impl IntoIterator<Item = usize>) -> Vec<bool> {
        let mut seen = vec![false; self.len()];
        let mut todo: Vec<usize> = from.into_iter().collect();
        while let Some(at) = todo.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                todo.extend(self.edges_of(at));
            }
        }
        seen
    }

    /// All, each before what it leads to. (A cycle, which no right store has, comes last.)
    fn referrers_first(&self) -> Vec<usize> {
        let mut incoming = vec![0usize; self.len()];
        self.edges.iter().for_each(|to| incoming[*to as usize] += 1);
        let mut order: Vec<usize> = (0..self.len()).filter(|at| incoming[*at] == 0).collect();
        let mut next = 0;
        while let Some(at) = order.get(next).copied() {
            next += 1;
            for to in self.edges_of(at) {
                incoming[to] -= 1;
                if incoming[to] == 0 {
                    order.push(to);
                }
            }
        }
        order.extend((0..self.len()).filter(|at| incoming[*at] > 0));
        order
    }
}
