//! What a file of an image needs to run, and whether it is there.
//!
//! A program needs its loader and its libraries; a script its interpreter; both by
//! paths that go through links. Libraries are looked for where the loader of a
//! Debian, musl or store system looks: `RPATH`, `LD_LIBRARY_PATH`, `RUNPATH`, the
//! directories built into the loader.

use std::collections::BTreeMap;

use crate::elf::{ElfCache, ElfFacts};
use crate::entry::FileSource;
use crate::error::Result;
use crate::view::View;

/// Something that a file needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// There it is: the links on the way, and the file.
    Found {
        /// Why it is needed: `library libz.so.1`.
        what: String,
        /// Links that were passed.
        links: Vec<Box<[u8]>>,
        /// The file.
        path: Box<[u8]>,
    },
    /// It is not in the image.
    Missing {
        /// `library`, `interpreter` or `loader`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// Looks up needs in an image.
pub struct Needs<'a> {
    view: &'a View,
    elves: &'a ElfCache,
    library_path: Vec<Vec<u8>>,
    path: Vec<Vec<u8>>,
}

/// Directories that the loaders of Debian's systems look in, by machine.
fn system_dirs(facts: &ElfFacts) -> Vec<Vec<u8>> {
    use object::elf;
    let triplet = match (elf::Machine(facts.machine), facts.is_64) {
        (elf::EM_X86_64, true) => "x86_64-linux-gnu",
        (elf::EM_X86_64, false) => "x86_64-linux-gnux32",
        (elf::EM_386, _) => "i386-linux-gnu",
        (elf::EM_AARCH64, _) => "aarch64-linux-gnu",
        (elf::EM_ARM, _) => "arm-linux-gnueabihf",
        (elf::EM_RISCV, _) => "riscv64-linux-gnu",
        (elf::EM_PPC64, _) => "powerpc64le-linux-gnu",
        (elf::EM_S390, _) => "s390x-linux-gnu",
        (elf::EM_LOONGARCH, _) => "loongarch64-linux-gnu",
        (elf::EM_MIPS, _) => "mips64el-linux-gnuabi64",
        _ => "",
    };
    let mut dirs: Vec<Vec<u8>> = Vec::new();
    if !triplet.is_empty() {
        dirs.push(format!("lib/{triplet}").into());
        dirs.push(format!("usr/lib/{triplet}").into());
    }
    let lib64: &[&str] = if facts.is_64 { &["lib64", "usr/lib64"] } else { &[] };
    dirs.extend(lib64.iter().chain(&["lib", "usr/lib", "usr/local/lib"]).map(|d| d.as_bytes().to_vec()));
    dirs
}

impl<'a> Needs<'a> {
    /// Looks in `view`, with the image's environment (`NAME=value`).
    pub fn new(view: &'a View, elves: &'a ElfCache, env: &[String]) -> Self {
        let list = |name: &str, default: &str| -> Vec<Vec<u8>> {
            let line = env.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let list = line.unwrap_or(default);
            list.split(':')
                .filter(|dir| !dir.is_empty())
                .map(|dir| dir.trim_start_matches('/').into())
                .collect()
        };
        Self {
            view,
            elves,
            library_path: list("LD_LIBRARY_PATH", ""),
            path: list("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        }
    }

    /// Returns what the file at exactly `path` needs.
    ///
    /// # Errors
    /// [`crate::ImageError::Io`].
    pub fn of(&self, path: &[u8]) -> Result<Vec<Need>> {
        if let Some(source) = self.view.source(path)
            && let Some(facts) = self.elves.get(source)?
        {
            return self.of_elf(path, &facts);
        }
        Ok(self.interpreter(path)?.into_iter().collect())
    }

    fn of_elf(&self, path: &[u8], facts: &ElfFacts) -> Result<Vec<Need>> {
        let mut needs = Vec::new();
        if let Some(loader) = &facts.interpreter {
            needs.push(self.file("loader", loader));
        }
        for name in &facts.needed {
            needs.push(self.library(path, facts, name)?);
        }
        for name in &facts.dlopen {
            // Opened if it is there: a program that says so does without, too.
            let found = self.library(path, facts, name.as_bytes())?;
            needs.extend(matches!(found, Need::Found { .. }).then_some(found));
        }
        Ok(needs)
    }

    fn file(&self, kind: &'static str, path: &[u8]) -> Need {
        let shown = String::from_utf8_lossy(path).into_owned();
        let found = self.view.resolve(path);
        match found.end {
            Some(end) => Need::Found { what: format!("{kind} {shown}"), links: found.passed, path: end },
            None => Need::Missing { kind, name: shown },
        }
    }

    /// Finds a library for the file at `path`.
    ///
    /// # Errors
    /// [`crate::ImageError::Io`].
    pub fn library(&self, path: &[u8], facts: &ElfFacts, name: &[u8]) -> Result<Need> {
        let shown = String::from_utf8_lossy(name).into_owned();
        if name.contains(&b'/') {
            return Ok(self.file("library", name));
        }
        for dir in self.library_dirs(path, facts) {
            let at = [&dir[..], b"/", name].concat();
            let found = self.view.resolve(&at);
            let Some(end) = found.end else { continue };
            let Some(source) = self.view.source(&end) else { continue };
            let fits = self.elves.get(source)?.is_some_and(|f| {
                (f.machine, f.is_64, f.is_little) == (facts.machine, facts.is_64, facts.is_little)
            });
            if fits {
                return Ok(Need::Found { what: format!("library {shown}"), links: found.passed, path: end });
            }
        }
        // No loader looks there, but who loads a library of a suite has loaded its
        // neighbours before: `libjvm.so` of a Java.
        if facts.interpreter.is_none()
            && let Some(end) = self.neighbour(path, facts, name)?
        {
            return Ok(Need::Found { what: format!("library {shown}"), links: Vec::new(), path: end });
        }
        Ok(Need::Missing { kind: "library", name: shown })
    }

    /// Finds a library by its name in the directories that belong with the one of `path`.
    fn neighbour(&self, path: &[u8], facts: &ElfFacts, name: &[u8]) -> Result<Option<Box<[u8]>>> {
        // `usr/lib/jvm/java-17` is a place of one suite, `usr/lib/x86_64-linux-gnu` is everybody's.
        let components: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
        let own = if components.get(2).is_some_and(|dir| dir.ends_with(b"-linux-gnu")) { 4 } else { 3 };
        if components.len() <= own + 1 {
            return Ok(None);
        }
        let suite = components[..own].join(&b'/');
        let named = |path: &&[u8]| path.rsplit(|&b| b == b'/').next() == Some(name);
        for found in self.view.below(&suite).map(|(path, _)| path).filter(named) {
            let Some(source) = self.view.source(found) else { continue };
            if self.elves.get(source)?.is_some_and(|f| f.machine == facts.machine && f.is_64 == facts.is_64) {
                return Ok(Some(found.into()));
            }
        }
        Ok(None)
    }

    fn library_dirs(&self, path: &[u8], facts: &ElfFacts) -> Vec<Vec<u8>> {
        let origin = &path[..path.iter().rposition(|&b| b == b'/').unwrap_or(0)];
        let expand = |dir: &Vec<u8>| -> Vec<u8> {
            let text = String::from_utf8_lossy(dir);
            let origin = String::from_utf8_lossy(origin);
            let lib = if facts.is_64 { "lib64" } else { "lib" };
            let text = text.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
            let text = text.replace("${LIB}", lib).replace("$LIB", lib);
            text.trim_start_matches('/').as_bytes().to_vec()
        };
        let mut dirs: Vec<Vec<u8>> = Vec::new();
        if facts.runpath.is_empty() {
            dirs.extend(facts.rpath.iter().map(expand));
        }
        dirs.extend(self.library_path.iter().cloned());
        dirs.extend(facts.runpath.iter().map(expand));
        // A loader in a store looks beside itself.
        if let Some(loader) = &facts.interpreter
            && let Some(end) = self.view.resolve(loader).end
        {
            dirs.push(end[..end.iter().rposition(|&b| b == b'/').unwrap_or(0)].to_vec());
        }
        dirs.extend(system_dirs(facts));
        // What one library's neighbours provide: `RPATH` of whoever loads it is
        // inherited, and store libraries lie beside each other.
        dirs.push(origin.to_vec());
        dirs
    }

    /// Finds the interpreter that a script's first line names.
    fn interpreter(&self, path: &[u8]) -> Result<Option<Need>> {
        let Some(head) = self.head(path)? else { return Ok(None) };
        let Some(words) = shebang(&head) else { return Ok(None) };
        let Some(first) = words.first() else { return Ok(None) };
        let is_env = first.ends_with(b"/env");
        if !is_env {
            return Ok(Some(self.file("interpreter", first)));
        }
        let program = words[1..].iter().find(|w| !w.starts_with(b"-") && !w.contains(&b'='));
        Ok(Some(match program {
            None => self.file("interpreter", first),
            Some(program) => match self.program(program) {
                Some(found) => found,
                None => {
                    Need::Missing { kind: "interpreter", name: String::from_utf8_lossy(program).into_owned() }
                }
            },
        }))
    }

    /// Reads a script's first line.
    fn head(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        use std::os::unix::fs::FileExt as _;
        let Some((_, source, size)) = self.view.file(path) else { return Ok(None) };
        let len = usize::try_from(size.min(256)).expect("at most 256");
        let mut head = vec![0; len];
        match source {
            FileSource::Bytes(bytes) => head.copy_from_slice(&bytes[..len]),
            FileSource::Path(path) => {
                let fail = |e| crate::ImageError::io("read", path, e);
                let file = std::fs::File::open(path).map_err(fail)?;
                file.read_exact_at(&mut head, 0).map_err(fail)?;
            }
        }
        Ok(Some(head))
    }

    /// Finds a program as a shell would: by its path, or along `PATH`.
    pub fn program(&self, name: &[u8]) -> Option<Need> {
        let what = || format!("program {}", String::from_utf8_lossy(name));
        let at = |path: &[u8]| {
            let found = self.view.resolve(path);
            let end = found.end.filter(|end| self.view.file(end).is_some())?;
            Some(Need::Found { what: what(), links: found.passed, path: end })
        };
        if name.contains(&b'/') {
            return at(name);
        }
        self.path.iter().find_map(|dir| at(&[dir, b"/".as_slice(), name].concat()))
    }
}

/// Splits a script's first line into words; `None` if it has none.
pub fn shebang(head: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = head.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let words = line.split(|b| b" \t\r\0".contains(b)).filter(|w| !w.is_empty()).map(<[u8]>::to_vec);
    Some(words.collect())
}

/// Needs of many files, each looked up once.
pub type NeedsOf = BTreeMap<Box<[u8]>, Vec<Need>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;

    fn view(entries: Vec<Entry>) -> View {
        View::new(entries.into_iter().map(|e| (0, e.path.clone(), e)).collect())
    }

    #[test]
    fn a_script_needs_its_interpreter() {
        let view = view(vec![
            Entry::bytes(*b"usr/bin/python3.11", 0o755, *b"x"),
            Entry::symlink(*b"usr/bin/python3", *b"python3.11"),
            Entry::bytes(*b"a", 0o755, *b"#!/usr/bin/python3 -I\n"),
            Entry::bytes(*b"b", 0o755, *b"#!/usr/bin/env -S python3 -I\n"),
            Entry::bytes(*b"c", 0o755, *b"#! /bin/sh\n"),
            Entry::bytes(*b"d", 0o644, *b"plain"),
        ]);
        let elves = ElfCache::default();
        let needs = Needs::new(&view, &elves, &[]);
        for script in [b"a", b"b"] {
            let [Need::Found { path, links, .. }] = &needs.of(script).unwrap()[..] else {
                panic!("{script:?}")
            };
            assert_eq!((&**path, links.len()), (&b"usr/bin/python3.11"[..], 1));
        }
        let missing = needs.of(b"c").unwrap();
        assert_eq!(missing, [Need::Missing { kind: "interpreter", name: "/bin/sh".to_owned() }]);
        assert!(needs.of(b"d").unwrap().is_empty());
    }
}
