//! From what a builder left to valid objects: canonical, scanned, checked, registered.
//!
//! When this runs, every process of the build is dead, and nothing is touched by a path that the
//! builder could have changed: a directory descriptor and a name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use ampoule_store::{
    ContentAddress, DerivationOutput, DrvOutput, Hash, HashAlgo, Hasher, Method, ObjectInfo, OutputLock,
    References, Registered, Staged, Staging, Store, StoreError, StorePath, Tier, dump_at, hash_at,
};

use super::checks::{Made, OutputChecks};
use super::resolve::Resolved;
use super::rewrite::{Pair, Rewriter};
use crate::builtin::Attributes;
use crate::error::{Failure, FailureKind};

/// What was built, and under which names.
pub(crate) struct Finished<'a> {
    pub(crate) store: &'a Store,
    pub(crate) drv: &'a StorePath,
    pub(crate) resolved: &'a Resolved,
    pub(crate) attrs: &'a Attributes,
    /// Where outputs lie, and each one's name there.
    pub(crate) dir: &'a OwnedFd,
    pub(crate) names: &'a BTreeMap<String, CString>,
    /// A directory that no builder has seen.
    pub(crate) staging: &'a Staging,
    /// What the outputs may refer to.
    pub(crate) candidates: BTreeSet<StorePath>,
    pub(crate) tier: Option<Tier>,
    /// Whether somebody outside may still hold a file of the output open.
    pub(crate) copy_first: bool,
}

/// One output, ready to be registered.
pub(crate) struct Ready {
    pub(crate) dir_is_staging: bool,
    pub(crate) staged: Staged,
    pub(crate) info: ObjectInfo,
}

fn build_failed(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Build, text)
}

impl Finished<'_> {
    fn shown(&self, path: &StorePath) -> String {
        self.store.dir().print(path)
    }

    /// Makes the outputs canonical and finds out what they are.
    ///
    /// # Errors
    /// Whatever makes an output unfit for the store.
    pub(crate) fn prepare(&self) -> Result<BTreeMap<String, Ready>, Failure> {
        for (output, name) in self.names {
            let found = rustix::fs::statat(self.dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
            if found.is_err() {
                let path = self.shown(&self.resolved.targets[output]);
                let is_structured = self.resolved.derivation.environment.contains_key(&b"__json"[..]);
                let variable = if is_structured { &format!("{{outputs[{output}]}}") } else { output };
                return Err(build_failed(format!(
                    "builder failed to produce output path for output '{output}' at '{path}'"
                ))
                .hint(format!("let the builder write to `${variable}`"))
                .hint(format!("run `ampoule debug {}` for a shell in the same sandbox", self.drv)));
            }
        }
        let mut staged = BTreeMap::new();
        for (output, name) in self.names {
            staged.insert(output.clone(), self.stage(output, name)?);
        }
        let mut ready: BTreeMap<String, Ready> = BTreeMap::new();
        for output in self.in_order(&staged)? {
            let (from_staging, one) = staged.remove(&output).expect("each output is ordered once");
            let made = self.address(&output, from_staging, one, &ready)?;
            ready.insert(output, made);
        }
        let infos: BTreeMap<String, ObjectInfo> =
            ready.iter().map(|(name, ready)| (name.clone(), ready.info.clone())).collect();
        let made = Made { store: self.store, infos: &infos };
        for output in infos.keys() {
            let checks =
                OutputChecks::read(self.attrs, output).map_err(|error| build_failed(error.to_string()))?;
            made.check(output, &checks)?;
        }
        Ok(ready)
    }

    fn stage(&self, output: &str, name: &CStr) -> Result<(bool, Staged), Failure> {
        let candidates = if self.discards_references(output) {
            BTreeSet::new()
        } else {
            self.candidates.iter().chain(self.resolved.targets.values()).cloned().collect()
        };
        self.refuse_executable_flat(output, name)?;
        // What goes wrong here is what the builder left, unless the disk says otherwise.
        let fault = |error: StoreError| match error {
            StoreError::OddType { .. } | StoreError::WritableByOthers { .. } | StoreError::TooDeep { .. } => {
                build_failed(format!("output `{}`: {error}", self.shown(&self.resolved.targets[output])))
            }
            other => other.into(),
        };
        if self.copy_first {
            let staged = self.store.stage(self.dir, name, self.staging, candidates, None).map_err(fault)?;
            return Ok((true, staged));
        }
        Ok((false, self.store.stage_in_place(self.dir, name, candidates).map_err(fault)?))
    }

    fn discards_references(&self, output: &str) -> bool {
        let discards = self.attrs.get("unsafeDiscardReferences").filter(|_| self.attrs.is_structured());
        discards.and_then(|of| of.get(output)).is_some_and(|yes| yes == true)
    }

    fn refuse_executable_flat(&self, output: &str, name: &CStr) -> Result<(), Failure> {
        let method = match &self.resolved.derivation.outputs[output] {
            DerivationOutput::Fixed { address, .. } => address.method,
            DerivationOutput::Floating { method, .. } => *method,
            _ => return Ok(()),
        };
        if method == Method::Nar {
            return Ok(());
        }
        let stat = rustix::fs::statat(self.dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Failure::from(StoreError::Other(error.to_string())))?;
        let is_file = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        if is_file && stat.st_mode & 0o100 == 0 {
            return Ok(());
        }
        Err(build_failed(format!(
            "output path '{}' should be a non-executable regular file since recursive hashing is not enabled \
             (one of outputHashMode={{flat,text}} is true)",
            self.shown(&self.resolved.targets[output])
        )))
    }

    /// Orders outputs so that what one refers to comes before it.
    fn in_order(&self, staged: &BTreeMap<String, (bool, Staged)>) -> Result<Vec<String>, Failure> {
        let refers = |output: &str| -> Vec<&str> {
            let references = &staged[output].1.references;
            let others = self.resolved.targets.iter().filter(|(other, _)| *other != output);
            others
                .filter(|(_, target)| references.contains(target))
                .map(|(other, _)| other.as_str())
                .collect()
        };
        let (mut order, mut seen): (Vec<String>, BTreeSet<&str>) = Default::default();
        for output in staged.keys() {
            // Those that are being looked at, each because of the one before it, and what is left to follow of each.
            let mut open: Vec<(&str, Vec<&str>)> = Vec::new();
            let mut next = Some(output.as_str());
            loop {
                if let Some(name) = next.filter(|name| seen.insert(name)) {
                    let mut left = refers(name);
                    left.reverse();
                    open.push((name, left));
                }
                let Some((name, left)) = open.last_mut() else { break };
                next = left.pop();
                match next {
                    None => {
                        order.push((*name).to_owned());
                        open.pop();
                    }
                    Some(other) if open.iter().any(|(name, _)| *name == other) => {
                        let from = open.last().map_or(other, |(name, _)| name);
                        return Err(self.cycle(other, from));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(order)
    }

    fn cycle(&self, output: &str, from: &str) -> Failure {
        let path = |output: &str| self.shown(&self.resolved.targets[output]);
        build_failed(format!(
            "cycle detected in build of '{}' in the references of output '{output}' from output '{from}'",
            self.shown(self.drv),
        ))
        .hint(format!(
            "keep the path of one of `{}` and `{}` out of the other",
            path(output),
            path(from)
        ))
    }

    /// Finds the final path of a staged output.
    fn address(
        &self,
        output: &str,
        from_staging: bool,
        staged: Staged,
        before: &BTreeMap<String, Ready>,
    ) -> Result<Ready, Failure> {
        match &self.resolved.derivation.outputs[output] {
            DerivationOutput::Floating { method, algo } => {
                self.by_contents(output, from_staging, &staged, before, *method, *algo)
            }
            DerivationOutput::Fixed { address, path } => self.promised(from_staging, staged, address, path),
            DerivationOutput::InputAddressed(path) => {
                let info = self.info_of(path.clone(), &staged);
                Ok(Ready { dir_is_staging: from_staging, staged, info })
            }
            DerivationOutput::Deferred => Err(build_failed("an output's path is not known yet")),
        }
    }

    fn info_of(&self, path: StorePath, staged: &Staged) -> ObjectInfo {
        let mut info = ObjectInfo::new(path, staged.nar_hash, staged.nar_size_bytes);
        info.references.clone_from(&staged.references);
        info.deriver = Some(self.drv.clone());
        info.tier = self.tier;
        info
    }

    fn dir_of(&self, from_staging: bool) -> &OwnedFd {
        if from_staging { self.staging.fd() } else { self.dir }
    }

    /// A fixed output must be what its derivation promises.
    fn promised(
        &self,
        from_staging: bool,
        staged: Staged,
        address: &ContentAddress,
        path: &StorePath,
    ) -> Result<Ready, Failure> {
        if !staged.references.is_empty() {
            let paths: Vec<String> = staged.references.iter().map(|path| self.shown(path)).collect();
            return Err(build_failed(format!(
                "fixed-output derivations must not reference store paths: `{}` references {} distinct paths, e.g. `{}`",
                self.shown(self.drv),
                paths.len(),
                paths[0]
            )));
        }
        let found = self.content_hash(from_staging, &staged, address.method, address.hash.algo())?;
        if found == address.hash {
            let mut info = self.info_of(path.clone(), &staged);
            info.address = Some(*address);
            return Ok(Ready { dir_is_staging: from_staging, staged, info });
        }
        let written = self.attrs.text("outputHash").ok().flatten().unwrap_or_default();
        let form = |hash: &Hash| match written {
            w if w == address.hash.to_base16() => hash.to_base16(),
            w if w == address.hash.to_nix32() => hash.to_nix32(),
            _ => hash.to_sri(),
        };
        let mut failure = Failure::new(
            FailureKind::HashMismatch,
            format!(
                "hash mismatch in fixed-output derivation '{}':\n         specified: {}\n            got:    {}",
                self.shown(self.drv),
                form(&address.hash),
                form(&found)
            ),
        );
        // The bytes are good for something: whoever corrects the hash has them.
        let true_address = ContentAddress { method: address.method, hash: found };
        if let Ok(true_path) = self.store.dir().fixed_path(path.name(), &true_address) {
            let mut info = self.info_of(true_path.clone(), &staged);
            info.address = Some(true_address);
            if self.store.register(self.dir_of(from_staging), &staged, info, None).is_ok() {
                failure =
                    failure.hint(format!("look at what came: it is kept as `{}`", self.shown(&true_path)));
            }
        }
        Err(failure)
    }

    fn content_hash(
        &self,
        from_staging: bool,
        staged: &Staged,
        method: Method,
        algo: HashAlgo,
    ) -> Result<Hash, Failure> {
        if method == Method::Nar && algo == HashAlgo::Sha256 {
            return Ok(staged.nar_hash);
        }
        Ok(hash_at(self.dir_of(from_staging), &staged.name, method, algo, None)?.0)
    }

    /// An output whose contents decide its path. References to itself are by a scratch path until
    /// then; its hash counts them as zeros. (Before 2.18 or so, Nix hashed the places where they stand, too.)
    fn by_contents(
        &self,
        output: &str,
        from_staging: bool,
        staged: &Staged,
        before: &BTreeMap<String, Ready>,
        method: Method,
        algo: HashAlgo,
    ) -> Result<Ready, Failure> {
        let scratch = &self.resolved.targets[output];
        let zeros = vec![0; ampoule_store::HASH_PART_LEN];
        // Other outputs that came before have their final paths by now.
        let mut pairs: Vec<Pair> = Vec::new();
        let mut references = BTreeSet::new();
        for reference in staged.references.iter().filter(|reference| *reference != scratch) {
            let other = self.resolved.targets.iter().find(|(_, target)| *target == reference);
            match other.and_then(|(name, _)| before.get(name)) {
                Some(ready) => {
                    pairs.push((hash_part(reference), hash_part(&ready.info.path)));
                    references.insert(ready.info.path.clone());
                }
                None => {
                    references.insert(reference.clone());
                }
            }
        }
        let has_self = staged.references.contains(scratch);
        if has_self && method == Method::Text {
            let path = self.shown(scratch);
            return Err(build_failed(format!(
                "output `{path}` refers to itself, which a text output cannot"
            )));
        }
        let source = self.dir_of(from_staging);
        let hash = if has_self || !pairs.is_empty() {
            let mut all = vec![(hash_part(scratch), zeros)];
            all.extend(pairs.iter().cloned());
            self.modulo_hash(source, &staged.name, all, method, algo)?
        } else {
            self.content_hash(from_staging, staged, method, algo)?
        };
        let address = ContentAddress { method, hash };
        let path = self
            .store
            .dir()
            .fixed_path_with(scratch.name(), &address, &References::new(&references, has_self))
            .map_err(|error| build_failed(error.to_string()))?;
        let (from_staging, staged) = if has_self || !pairs.is_empty() {
            pairs.push((hash_part(scratch), hash_part(&path)));
            (true, self.rewritten(source, &staged.name, pairs)?)
        } else {
            (from_staging, staged.clone())
        };
        let mut info = self.info_of(path.clone(), &staged);
        info.references = references;
        if has_self {
            info.references.insert(path);
        }
        info.address = Some(address);
        Ok(Ready { dir_is_staging: from_staging, staged, info })
    }

    /// The hash of an output as it is with hash parts replaced.
    fn modulo_hash(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        pairs: Vec<Pair>,
        method: Method,
        algo: HashAlgo,
    ) -> Result<Hash, Failure> {
        let failed = |error: std::io::Error| build_failed(format!("cannot hash an output: {error}"));
        let mut rewriter = Rewriter::new(HashWriter(Hasher::new(algo)), pairs);
        if method == Method::Nar {
            dump_at(dir, name, &mut rewriter)?;
        } else {
            let fd = rustix::fs::openat(dir, name, rustix::fs::OFlags::NOFOLLOW, rustix::fs::Mode::empty());
            let mut file = std::fs::File::from(fd.map_err(|error| failed(error.into()))?);
            std::io::copy(&mut file, &mut rewriter).map_err(failed)?;
        }
        let HashWriter(hasher) = rewriter.finish().map_err(failed)?;
        Ok(hasher.finish())
    }

    /// A copy of an output with hash parts replaced, in the staging directory.
    fn rewritten(&self, dir: &OwnedFd, name: &CStr, pairs: Vec<Pair>) -> Result<Staged, Failure> {
        let name = copy_rewritten(dir, name, self.staging, pairs)?;
        Ok(self.store.stage_in_place(self.staging.fd(), &name, BTreeSet::new())?)
    }

    /// Registers what was prepared; returns the path of each output.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn register(
        &self,
        ready: BTreeMap<String, Ready>,
        original: Option<Hash>,
        locks: &BTreeMap<StorePath, OutputLock>,
    ) -> Result<BTreeMap<String, StorePath>, Failure> {
        let mut outputs = BTreeMap::new();
        let mut waiting: Vec<(String, Ready)> = ready.into_iter().collect();
        // What is referred to must be valid before what refers to it.
        while !waiting.is_empty() {
            let own: BTreeSet<StorePath> = waiting.iter().map(|(_, ready)| ready.info.path.clone()).collect();
            let next = waiting
                .iter()
                .position(|(_, ready)| {
                    ready.info.references.iter().all(|path| *path == ready.info.path || !own.contains(path))
                })
                .unwrap_or(0);
            let (name, one) = waiting.swap_remove(next);
            self.store.lease([&one.info.path])?;
            let lock = locks.get(&one.info.path);
            let path = one.info.path.clone();
            let registered =
                self.store.register(self.dir_of(one.dir_is_staging), &one.staged, one.info, lock)?;
            if let (Registered::WasValid(_), Some(_)) = (&registered, lock) {
                // Valid outputs of a derivation of which another was missing: the first ones stay.
            }
            for hash in [self.resolved.realisation, original].into_iter().flatten() {
                self.store.add_realisation(&DrvOutput { hash, output: name.clone() }, &path)?;
            }
            outputs.insert(name, path);
        }
        Ok(outputs)
    }
}

/// Copies a tree into a staging directory with texts replaced; returns its name there.
pub(crate) fn copy_rewritten(
    dir: &OwnedFd,
    name: &CStr,
    staging: &Staging,
    pairs: Vec<Pair>,
) -> Result<CString, Failure> {
    let failed = |error: std::io::Error| build_failed(format!("cannot rewrite an output: {error}"));
    let copy = format!("rewritten-{}", String::from_utf8_lossy(name.to_bytes()));
    let path = staging.path().join(&copy);
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    std::thread::scope(|scope| {
        let unpack = scope.spawn(|| ampoule_store::restore_path(&path, reader));
        let mut rewriter = Rewriter::new(writer, pairs);
        let dumped = dump_at(dir, name, &mut rewriter).map(drop);
        // Dropping the pipe's end tells the other thread that this is all.
        let finished = rewriter.finish().map_err(failed).map(drop);
        let unpacked = unpack.join().expect("unpacking does not panic");
        dumped?;
        unpacked?;
        finished
    })?;
    Ok(CString::new(copy).expect("a store name has no zero byte"))
}

fn hash_part(path: &StorePath) -> Vec<u8> {
    path.hash_part().as_bytes().to_vec()
}

struct HashWriter(Hasher);

impl std::io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
