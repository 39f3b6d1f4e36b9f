//! The export stream: several objects in one file, in Nix's format (`nix-store --export`).
//!
//! ```text
//! 1 NAR "NIXE" path references deriver 0   1 NAR …   0
//! ```
//!
//! There are no hashes in it and no signatures: whoever imports believes whoever exported. Nothing
//! is registered before the whole stream has been read.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::{Read, Write};

use crate::error::{StoreError, StoreResult};
use crate::nar::{NarError, padding_len};
use crate::{HashAlgo, Hasher, ObjectInfo, Staging, Store, StorePath, tree};

const MAGIC: u64 = 0x4558_494e;
const MAX_PATH_LEN: u64 = 4096;
/// Most references of one object.
const MAX_REFERENCES: u64 = 1 << 20;

fn io(error: std::io::Error) -> StoreError {
    StoreError::io("write", b"export stream", error)
}

fn put_number(to: &mut impl Write, number: u64) -> StoreResult<()> {
    to.write_all(&number.to_le_bytes()).map_err(io)
}

fn put_string(to: &mut impl Write, text: &str) -> StoreResult<()> {
    put_number(to, text.len() as u64)?;
    to.write_all(text.as_bytes()).map_err(io)?;
    to.write_all(&[0; 8][..padding_len(text.len() as u64)]).map_err(io)
}

struct Source<R> {
    from: R,
    at: u64,
}

impl<R: Read> Source<R> {
    fn bad<T>(&self, problem: impl Into<String>) -> StoreResult<T> {
        Err(NarError::Bad { at: self.at, problem: problem.into() }.into())
    }

    fn exact(&mut self, buf: &mut [u8]) -> StoreResult<()> {
        let at = self.at;
        self.read_exact(buf).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => NarError::Truncated { at }.into(),
            _ => NarError::Io(e).into(),
        })
    }

    fn number(&mut self) -> StoreResult<u64> {
        let mut buf = [0; 8];
        self.exact(&mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    fn string(&mut self) -> StoreResult<String> {
        let len = self.number()?;
        if len > MAX_PATH_LEN {
            return self.bad(format!("string of {len} bytes"));
        }
        let mut buf = vec![0; len as usize + padding_len(len)];
        self.exact(&mut buf)?;
        if buf[len as usize..].iter().any(|b| *b != 0) {
            return self.bad("padding is not zero");
        }
        buf.truncate(len as usize);
        String::from_utf8(buf).or_else(|_| self.bad("string is not UTF-8"))
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let got = self.from.read(buf)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// Hashes and counts the NAR that is read through it.
struct NarTap<'a, R> {
    source: &'a mut Source<R>,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Read for NarTap<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let got = self.source.read(buf)?;
        self.hasher.update(&buf[..got]);
        self.size += got as u64;
        Ok(got)
    }
}

impl Store {
    /// Writes these objects, each after what it refers to, as far as that is among them.
    ///
    /// # Errors
    /// [`StoreError::NotValid`]; [`StoreError::HashMismatch`] if one is damaged; those of the file
    /// system and of `to`.
    pub fn export(
        &self,
        paths: impl IntoIterator<Item = StorePath>,
        to: &mut (impl Write + Send),
    ) -> StoreResult<()> {
        let wanted: BTreeSet<_> = paths.into_iter().collect();
        self.lease(&wanted)?;
        for info in self.sorted_infos(wanted)? {
            put_number(to, 1)?;
            let mut hasher = Hasher::new(HashAlgo::Sha256);
            self.dump(&info.path, &mut crate::add::Multi(vec![&mut hasher, to]))?;
            let found = hasher.finish();
            if found != info.nar_hash {
                let (expected, found) = (info.nar_hash.into(), found.into());
                return Err(StoreError::HashMismatch { path: info.path, expected, found });
            }
            put_number(to, MAGIC)?;
            put_string(to, &self.dir().print(&info.path))?;
            put_number(to, info.references.len() as u64)?;
            for reference in &info.references {
                put_string(to, &self.dir().print(reference))?;
            }
            put_string(to, &info.deriver.as_ref().map(|d| self.dir().print(d)).unwrap_or_default())?;
            put_number(to, 0)?;
        }
        put_number(to, 0)
    }

    /// Returns what is known about these, each after what it refers to.
    ///
    /// # Errors
    /// [`StoreError::NotValid`].
    pub fn sorted_infos(&self, paths: BTreeSet<StorePath>) -> StoreResult<Vec<ObjectInfo>> {
        let mut sorted = Vec::new();
        let mut done: BTreeSet<StorePath> = BTreeSet::new();
        let mut open: BTreeSet<StorePath> = BTreeSet::new();
        for top in &paths {
            let mut stack = vec![(self.expect_info(top)?, false)];
            while let Some((info, is_second)) = stack.pop() {
                if is_second {
                    if done.insert(info.path.clone()) {
                        sorted.push(info);
                    }
                    continue;
                }
                if !open.insert(info.path.clone()) {
                    continue;
                }
                let below: Vec<_> = info
                    .references
                    .iter()
                    .filter(|r| paths.contains(*r) && !open.contains(*r))
                    .cloned()
                    .collect();
                stack.push((info, true));
                for path in below {
                    stack.push((self.expect_info(&path)?, false));
                }
            }
        }
        Ok(sorted)
    }

    /// Reads an export stream and registers what is in it. Returns the paths in their order.
    ///
    /// # Errors
    /// [`crate::nar::NarError`], [`StoreError::MissingReference`], and those of the file system; then
    /// nothing of the stream is registered, unless it failed while registering.
    pub fn import(&self, from: impl Read) -> StoreResult<Vec<StorePath>> {
        let mut source = Source { from: std::io::BufReader::with_capacity(256 << 10, from), at: 0 };
        let staging = self.staging()?;
        let mut staged = Vec::new();
        loop {
            match source.number()? {
                0 => break,
                1 => staged.push(self.import_one(&mut source, &staging)?),
                other => return source.bad(format!("expected 0 or 1 between objects, found {other}")),
            }
        }
        let mut paths = Vec::new();
        for (name, info) in staged {
            paths.push(info.path.clone());
            self.place(staging.fd(), &name, info, None)?;
        }
        Ok(paths)
    }

    fn import_one<R: Read>(
        &self,
        source: &mut Source<R>,
        staging: &Staging,
    ) -> StoreResult<(CString, ObjectInfo)> {
        let name = self.session()?.fresh_name();
        let mut tap = NarTap { source, hasher: Hasher::new(HashAlgo::Sha256), size: 0 };
        tree::unpack(&mut tap, staging.fd(), &name)?;
        let (nar_hash, nar_size) = (tap.hasher.finish(), tap.size);
        if source.number()? != MAGIC {
            return source.bad("the object's description does not begin with its magic number");
        }
        let path = self.dir().parse(&source.string()?)?;
        let count = source.number()?;
        if count > MAX_REFERENCES {
            return source.bad(format!("{count} references"));
        }
        let mut info = ObjectInfo::new(path, nar_hash, nar_size);
        for _ in 0..count {
            info.references.insert(self.dir().parse(&source.string()?)?);
        }
        let deriver = source.string()?;
        if !deriver.is_empty() {
            info.deriver = Some(self.dir().parse(&deriver)?);
        }
        // A signature of a kind that nobody writes any more.
        if source.number()? == 1 {
            source.string()?;
        }
        self.lease([&info.path])?;
        self.lease(&info.references)?;
        Ok((name, info))
    }
}
