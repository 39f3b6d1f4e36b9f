//! `slim`: of a distribution's tree, only what runs.
//!
//! Starting from what the configuration runs and from everything that is not the
//! distribution's (the person's own trees, store objects and files), needs are
//! followed until nothing new turns up:
//!
//! | file | brings |
//! |---|---|
//! | link | where it leads |
//! | ELF program or library | loader, libraries, what it says it opens (`.note.dlopen`) |
//! | script | its interpreter |
//! | program that is run | files and directories whose absolute paths stand in it |
//! | configuration under `etc` | files that it names, `*` included |
//! | Python | imports of its modules, all the way; data of imported packages |
//! | Perl, Ruby, Node, … | the packages of the interpreter, whole |
//!
//! What the files do not say (a plug-in opened by a computed name) is said with
//! `slim.keep`, `slim.dlopen` and `slim.python`; the lint runs over what is left.
//! Package records of what was kept stay, so that scanners see it, and copyrights.

use std::collections::{BTreeMap, BTreeSet};

use crate::dpkg::Dpkg;
use crate::elf::ElfCache;
use crate::entry::EntryKind;
use crate::error::Result;
use crate::interpreters::{self, Interpreter};
use crate::needs::{Need, Needs, shebang};
use crate::oci::RunConfig;
use crate::python::Python;
use crate::spec::FullSlimSpec;
use crate::view::View;

/// What is kept, and why.
#[derive(Debug, Default)]
pub struct Kept {
    why: BTreeMap<Box<[u8]>, String>,
    /// How many regular files that is.
    pub files: usize,
    /// The parts that were looked at; all others are whole.
    pub slimmed: BTreeSet<usize>,
    /// The packages of which something is kept.
    pub packages: BTreeSet<String>,
}

impl Kept {
    /// Whether what lies at `path` is kept.
    pub fn has(&self, path: &[u8]) -> bool {
        self.why.contains_key(path)
    }

    /// Returns why each path is kept, sorted.
    pub fn reasons(&self) -> impl Iterator<Item = (&[u8], &str)> {
        self.why.iter().map(|(path, why)| (&**path, why.as_str()))
    }

    /// Returns what is kept of one part, by its own names; `None` if it is whole.
    ///
    /// # Errors
    /// [`crate::ImageError::Invalid`] for a name that is not UTF-8: a plan cannot say it.
    pub fn of_part(&self, view: &View, part: usize) -> Result<Option<Vec<String>>> {
        if !self.slimmed.contains(&part) {
            return Ok(None);
        }
        let mut keep = Vec::new();
        for path in self.why.keys() {
            let Some(node) = view.get(path).filter(|n| n.part == part && !n.below.is_empty()) else {
                continue;
            };
            let name = std::str::from_utf8(&node.below).map_err(|_| {
                let shown = String::from_utf8_lossy(path);
                crate::ImageError::invalid(format!("`/{shown}` is kept by `slim`, but its name is not UTF-8"))
            })?;
            keep.push(name.to_owned());
        }
        keep.sort_unstable();
        Ok(Some(keep))
    }

    /// Returns how many bytes are kept of one part.
    pub fn size_of_part(&self, view: &View, part: usize) -> u64 {
        let size = |path: &[u8]| match view.get(path) {
            Some(node) if node.part == part => match node.kind {
                EntryKind::File { size, .. } => size,
                _ => 0,
            },
            _ => 0,
        };
        self.why.keys().map(|path| size(path)).sum()
    }
}

/// Finds what to keep. Parts below `trees` are trees; those of a distribution (or
/// all, if none says that it is one) are slimmed, everything else is kept whole.
///
/// # Errors
/// [`crate::ImageError::Io`].
pub fn slim(
    view: &View,
    dpkg: &Dpkg,
    config: &RunConfig,
    words: &FullSlimSpec,
    named: &[String],
    trees: usize,
) -> Result<Kept> {
    let mut slimmed = crate::lint::distribution_parts(view);
    slimmed.retain(|part| *part < trees);
    if slimmed.is_empty() {
        slimmed = (0..trees).collect();
    }
    let elves = ElfCache::default();
    let env = config.env.clone().unwrap_or_default();
    let mut slimmer = Slimmer {
        view,
        needs: Needs::new(view, &elves, &env),
        elves: &elves,
        kept: Kept::default(),
        todo: Vec::new(),
        programs: BTreeSet::new(),
        drop: words.drop.iter().map(|p| p.trim_start_matches('/').into()).collect(),
        dpkg,
        whole_packages: BTreeSet::new(),
        python: Python::new(&env, &config.working_dir),
        env: env.clone(),
        slimmed,
    };
    slimmer.kept.slimmed = slimmer.slimmed.clone();
    slimmer.start(config, words)?;
    named.iter().try_for_each(|package| slimmer.keep_named(package))?;
    slimmer.run()?;
    slimmer.keep_records()?;
    slimmer.run()?;
    let mut kept = slimmer.kept;
    let is_file = |path: &[u8]| view.get(path).is_some_and(|n| matches!(n.kind, EntryKind::File { .. }));
    kept.files = kept.why.keys().filter(|path| is_file(path)).count();
    Ok(kept)
}

struct Slimmer<'a> {
    view: &'a View,
    needs: Needs<'a>,
    elves: &'a ElfCache,
    kept: Kept,
    todo: Vec<Box<[u8]>>,
    /// Programs that are run, whose strings are looked at.
    programs: BTreeSet<Box<[u8]>>,
    drop: Vec<Vec<u8>>,
    dpkg: &'a Dpkg,
    whole_packages: BTreeSet<String>,
    python: Python,
    /// The image's environment.
    env: Vec<String>,
    slimmed: BTreeSet<usize>,
}

/// Files that belong to any system, if the tree has them.
const ALWAYS: &[&str] = &[
    "etc/passwd",
    "etc/group",
    "etc/nsswitch.conf",
    "etc/os-release",
    "usr/lib/os-release",
    "etc/debian_version",
    "etc/protocols",
    "etc/services",
    "tmp",
    "run",
    "var/run",
    "var/tmp",
];

impl Slimmer<'_> {
    fn start(&mut self, config: &RunConfig, words: &FullSlimSpec) -> Result<()> {
        for path in ALWAYS {
            self.keep_path(path.as_bytes(), "part of any system");
        }
        let own: Vec<Box<[u8]>> = self
            .view
            .iter()
            .filter(|(_, node)| !self.slimmed.contains(&node.part) && !node.below.is_empty())
            .map(|(path, _)| path.into())
            .collect();
        for path in own {
            self.keep(&path, "brought by the file, not by the distribution");
        }
        let health: Vec<String> = match config.healthcheck.as_ref().map(|h| h.test.as_slice()) {
            Some([kind, line]) if kind == "CMD-SHELL" => {
                vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]
            }
            Some([kind, rest @ ..]) if kind == "CMD" => rest.to_vec(),
            _ => Vec::new(),
        };
        let mut main = config.entrypoint.clone().unwrap_or_default();
        main.extend(config.cmd.clone().unwrap_or_default());
        for command in [main, health] {
            self.command(&command)?;
        }
        for pattern in &words.keep {
            self.keep_pattern(pattern.trim_start_matches('/').as_bytes());
        }
        for module in &words.python {
            self.python.want(module);
        }
        for name in &words.dlopen {
            self.keep_library(name);
        }
        Ok(())
    }

    /// Keeps a package that the person named, if it has no programs: time zones,
    /// certificates, fonts, plug-ins. Of one with programs only what runs is kept.
    fn keep_named(&mut self, package: &str) -> Result<()> {
        let files = self.dpkg.files(package);
        if files.iter().any(|file| PROGRAM_DIRS.iter().any(|dir| file.starts_with(dir))) {
            return Ok(());
        }
        for file in files {
            // Python's are found by what is imported.
            let python = file.windows(15).any(|part| part == b"/dist-packages/");
            if !python && !is_documentation(&file) && !interpreters::serves_another(&file) {
                self.keep_if_it_runs(&file, &format!("part of `{package}`, which the file names"))?;
            }
        }
        Ok(())
    }

    /// Keeps what a command line runs and names.
    fn command(&mut self, words: &[String]) -> Result<()> {
        let Some(first) = words.first() else { return Ok(()) };
        let Some(program) = self.keep_program(first) else { return Ok(()) };
        self.python.command(&program, words);
        for word in &words[1..] {
            let path = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
            if path.starts_with('/') && path.len() > 1 {
                self.keep_path(path.as_bytes(), "named on the command line");
            }
            // `sh -c "exec prog …"`: words of a script that are programs.
            if word.contains(' ') {
                for inner in word.split(|c: char| c.is_whitespace() || ";&|()\"'`$".contains(c)) {
                    if !inner.is_empty() && inner != "exec" {
                        self.keep_program(inner);
                    }
                }
            }
        }
        Ok(())
    }

    fn keep_program(&mut self, name: &str) -> Option<Box<[u8]>> {
        let Some(Need::Found { links, path, what }) = self.needs.program(name.as_bytes()) else {
            return None;
        };
        links.iter().for_each(|link| self.keep(link, "a link on the way"));
        self.programs.insert(path.clone());
        self.keep(&path, &format!("{what}, which is run"));
        Some(path)
    }

    fn keep_pattern(&mut self, pattern: &[u8]) {
        let whole: Vec<Box<[u8]>> = self
            .view
            .iter()
            .map(|(path, _)| path)
            .filter(|path| glob_match(pattern, path) || below_match(pattern, path))
            .map(Into::into)
            .collect();
        for path in whole {
            self.keep(&path, "named by `slim.keep`");
        }
        self.keep_path(pattern, "named by `slim.keep`");
    }

    fn keep_library(&mut self, name: &str) {
        let hits: Vec<Box<[u8]>> = self
            .view
            .iter()
            .map(|(path, _)| path)
            .filter(|path| path.rsplit(|&b| b == b'/').next() == Some(name.as_bytes()))
            .map(Into::into)
            .collect();
        hits.iter().for_each(|path| self.keep(path, "named by `slim.dlopen`"));
    }

    /// Keeps what a path leads to, and the links on the way.
    fn keep_path(&mut self, path: &[u8], why: &str) {
        let found = self.view.resolve(path);
        let Some(end) = found.end.filter(|end| !end.is_empty()) else { return };
        found.passed.iter().for_each(|link| self.keep(link, "a link on the way"));
        self.keep(&end, why);
    }

    fn keep(&mut self, path: &[u8], why: &str) {
        if self.kept.has(path) || self.view.get(path).is_none() {
            return;
        }
        if self.drop.iter().any(|pattern| glob_match(pattern, path) || below_match(pattern, path)) {
            return;
        }
        self.kept.why.insert(path.into(), why.to_owned());
        self.todo.push(path.into());
    }

    fn run(&mut self) -> Result<()> {
        loop {
            while let Some(path) = self.todo.pop() {
                self.follow(&path)?;
            }
            for (path, why) in self.python.step(self.view)? {
                self.keep(&path, &why);
            }
            if self.todo.is_empty() {
                return Ok(());
            }
        }
    }

    fn follow(&mut self, path: &[u8]) -> Result<()> {
        let Some(node) = self.view.get(path) else { return Ok(()) };
        match &node.kind {
            EntryKind::Symlink(_) => {
                self.keep_path(path, &format!("where `/{}` leads", String::from_utf8_lossy(path)));
            }
            EntryKind::File { .. } => self.follow_file(path)?,
            _ => {}
        }
        Ok(())
    }

    fn follow_file(&mut self, path: &[u8]) -> Result<()> {
        let shown = String::from_utf8_lossy(path).into_owned();
        for need in self.needs.of(path)? {
            if let Need::Found { what, links, path: end } = need {
                links.iter().for_each(|link| self.keep(link, "a link on the way"));
                self.keep(&end, &format!("{what}, needed by `/{shown}`"));
            }
        }
        let name = shown.rsplit('/').next().unwrap_or_default().to_owned();
        self.follow_known(path, &name)?;
        let is_elf = match self.view.source(path) {
            Some(source) => self.elves.get(source)?.is_some(),
            None => false,
        };
        if is_elf {
            // These name places for everybody; what of them is needed is said elsewhere.
            let for_all = name.starts_with("ld-") || name.starts_with("libc.so");
            if !for_all && !self.python.is_interpreter(&name) && !name.starts_with("libpython") {
                self.follow_strings(path, &shown)?;
            }
        } else if path.starts_with(b"etc/") {
            self.follow_configuration(path, &shown)?;
        } else if self.programs.contains(path) {
            self.follow_script(path)?;
        }
        Ok(())
    }

    /// What a few well-known files open without saying so in any header.
    fn follow_known(&mut self, path: &[u8], name: &str) -> Result<()> {
        let dir = &path[..path.iter().rposition(|&b| b == b'/').unwrap_or(0)];
        if name == "libc.so.6" {
            // Ending a thread unwinds it, and glibc opens this for that.
            self.keep_path(&[dir, b"/libgcc_s.so.1"].concat(), "opened by libc when a thread ends");
            self.keep_locales()?;
        }
        if name.starts_with("libcrypto.so") {
            for file in ["usr/lib/ssl/openssl.cnf", "etc/ssl/openssl.cnf"] {
                self.keep_path(file.as_bytes(), "the configuration of libcrypto");
            }
        }
        if name.starts_with("libmagic.so") {
            self.keep_path(b"usr/share/misc/magic.mgc", "what libmagic knows");
        }
        if name.starts_with("libssl.so") || name.starts_with("libgnutls.so") {
            for file in ["etc/ssl/certs/ca-certificates.crt", "usr/lib/ssl/certs", "usr/lib/ssl/cert.pem"] {
                self.keep_path(file.as_bytes(), "the certificates that TLS trusts");
            }
        }
        if self.python.is_interpreter(name) {
            self.python.interpreter(path, name);
        } else if let Some(interpreter) = interpreters::by_name(name)
            && self.view.get(path).is_some_and(|node| node.mode & 0o111 != 0)
        {
            self.keep_package_of(path)?;
            self.keep_modules(interpreter)?;
        }
        self.python.file(path);
        Ok(())
    }

    /// Keeps the locales that the environment names, and C.UTF-8, if the tree has them.
    fn keep_locales(&mut self) -> Result<()> {
        let mut names = vec!["C.utf8".to_owned()];
        for line in &self.env {
            if let Some((name, value)) = line.split_once('=')
                && (name == "LANG" || name == "LANGUAGE" || name.starts_with("LC_"))
            {
                // `de_DE.UTF-8` lies in `de_DE.utf8`.
                let (language, codeset) = value.split_once('.').unwrap_or((value, ""));
                let codeset = codeset.to_lowercase().replace('-', "");
                names.push(value.to_owned());
                names.push(format!("{language}.{codeset}"));
            }
        }
        for name in names.iter().filter(|name| !name.is_empty() && !name.contains('/')) {
            let dir = format!("usr/lib/locale/{name}");
            if self.view.is_directory(dir.as_bytes()) {
                self.keep_below(dir.as_bytes(), "the locale that programs start with")?;
            }
        }
        Ok(())
    }

    /// Keeps what lies where an interpreter loads modules from.
    fn keep_modules(&mut self, interpreter: &Interpreter) -> Result<()> {
        let found: Vec<Box<[u8]>> = self
            .view
            .iter()
            .map(|(path, _)| path)
            .filter(|path| interpreter.modules.iter().any(|dir| below_match(dir.as_bytes(), path)))
            .filter(|path| !self.dpkg.owner(path).is_some_and(interpreters::is_installer))
            .map(Into::into)
            .collect();
        for path in found {
            self.keep_if_it_runs(&path, &format!("a module of {}", interpreter.names[0]))?;
        }
        Ok(())
    }

    /// Keeps a file that something mentions, unless it is a script whose interpreter is
    /// not in the tree: it is no use here.
    fn keep_if_it_runs(&mut self, path: &[u8], why: &str) -> Result<()> {
        let Some(end) = self.view.resolve(path).end else { return Ok(()) };
        let needs = self.needs.of(&end)?;
        if needs.iter().all(|need| matches!(need, Need::Found { .. })) {
            self.keep_path(path, why);
        }
        Ok(())
    }

    /// Keeps the whole package of an interpreter, and the libraries and modules of those
    /// that it depends on.
    fn keep_package_of(&mut self, path: &[u8]) -> Result<()> {
        let Some(own) = self.dpkg.owner(path).map(str::to_owned) else { return Ok(()) };
        let mut todo = vec![own.clone()];
        while let Some(package) = todo.pop() {
            if interpreters::is_installer(&package) || !self.whole_packages.insert(package.clone()) {
                continue;
            }
            for file in self.dpkg.files(&package) {
                let is_program = PROGRAM_DIRS.iter().any(|dir| file.starts_with(dir));
                let is_of_use = !is_documentation(&file) && !interpreters::serves_another(&file);
                if is_of_use && (!is_program || package == own) {
                    self.keep_if_it_runs(&file, &format!("part of `{package}`, an interpreter's package"))?;
                }
            }
            todo.extend(self.dpkg.depends(&package));
        }
        Ok(())
    }

    /// Keeps what the strings of a program or library name: files and directories by
    /// their absolute paths, libraries by their names.
    ///
    /// A program that is run is believed whatever it names. A library is believed only
    /// for what its own source package brought: a plug-in directory, a data file.
    fn follow_strings(&mut self, path: &[u8], shown: &str) -> Result<()> {
        let Some(bytes) = self.view.read(path)? else { return Ok(()) };
        let is_program = self.programs.contains(path);
        let printable = |b: &u8| b.is_ascii_graphic() && *b != b':';
        let texts: BTreeSet<&[u8]> = bytes
            .split(|b| !printable(b))
            .filter(|text| text.len() > 4 && text.len() < 256)
            .filter(|text| text.starts_with(b"/") || text.starts_with(b"lib"))
            .collect();
        let why = format!("its path stands in `/{shown}`");
        for text in texts {
            if text.starts_with(b"lib") {
                self.follow_library_name(path, text, shown)?;
                continue;
            }
            let text = text.strip_suffix(b"/").unwrap_or(text);
            let wanted = [&b"/etc/"[..], b"/usr/share/", b"/var/", b"/usr/lib/", b"/usr/libexec/", b"/run/"];
            if !wanted.iter().any(|dir| text.starts_with(dir)) || is_documentation(&text[1..]) {
                continue;
            }
            let found = self.view.resolve(text).end;
            let found = found.and_then(|end| {
                self.view.get(&end).map(|node| (end, matches!(node.kind, EntryKind::Directory)))
            });
            match found {
                Some((end, true)) => {
                    let own = self.own_below(path, &end, is_program).unwrap_or_default();
                    own.iter().try_for_each(|file| self.keep_if_it_runs(file, &why))?;
                    if is_program {
                        self.keep_state_directory(&end, &why);
                    }
                }
                Some((end, false)) if is_program || self.same_source(path, &end) => {
                    self.keep_path(text, &why);
                }
                // `/var/log/nginx/error.log`: the file is made, its directory must be there.
                None if is_program && text.starts_with(b"/var/") => {
                    let parent = &text[..text.iter().rposition(|&b| b == b'/').unwrap_or(0)];
                    if let Some(end) = self.view.resolve(parent).end {
                        self.keep_state_directory(&end, &why);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `libfoo.so.1` in a file that is not linked with it: it opens that while running.
    fn follow_library_name(&mut self, path: &[u8], name: &[u8], shown: &str) -> Result<()> {
        let is_library = name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.");
        if !is_library || name.contains(&b'/') || name.contains(&b'%') {
            return Ok(());
        }
        let Some(facts) = self.view.source(path).map(|source| self.elves.get(source)).transpose()?.flatten()
        else {
            return Ok(());
        };
        if let Need::Found { links, path: end, .. } = self.needs.library(path, &facts, name)?
            && (self.programs.contains(path) || self.same_source(path, &end))
        {
            links.iter().for_each(|link| self.keep(link, "a link on the way"));
            self.keep(&end, &format!("its name stands in `/{shown}`"));
        }
        Ok(())
    }

    /// Whether two files come from one source package.
    fn same_source(&self, one: &[u8], other: &[u8]) -> bool {
        let source = |path: &[u8]| self.dpkg.owner(path).map(|package| self.dpkg.source(package));
        source(one).is_some_and(|one| source(other) == Some(one))
    }

    /// Returns what of a directory the source package of `path` brought: helper programs and
    /// data of a program, plug-ins of a library. `None` for a place that everybody uses.
    fn own_below(&self, path: &[u8], dir: &[u8], is_program: bool) -> Option<Vec<Box<[u8]>>> {
        let depth = dir.iter().filter(|&&b| b == b'/').count();
        // Drivers of graphics cards are hundreds of megabytes, and an image seldom has a card:
        // `slim.keep` says so.
        let drivers = [&b"/dri"[..], b"/gbm", b"/vdpau"].iter().any(|name| dir.ends_with(name));
        let for_all = depth < 2 || drivers || (depth == 2 && dir.ends_with(b"-linux-gnu"));
        let plugins = dir.starts_with(b"usr/lib/") && (is_program || depth > 2);
        let data = is_program && (dir.starts_with(b"usr/share/") || dir.starts_with(b"usr/libexec/"));
        if for_all || !(plugins || data) {
            return None;
        }
        let own = self.view.below(dir).map(|(file, _)| file).filter(|file| self.same_source(path, file));
        Some(own.map(Into::into).collect())
    }

    fn keep_below(&mut self, dir: &[u8], why: &str) -> Result<()> {
        let below: Vec<Box<[u8]>> = self.view.below(dir).map(|(path, _)| path.into()).collect();
        self.keep_path(dir, why);
        below.iter().try_for_each(|path| self.keep_if_it_runs(path, why))
    }

    /// Keeps a directory itself; what is in it only if it is the program's state or
    /// configuration of its own, not a place that many share.
    fn keep_state_directory(&mut self, dir: &[u8], why: &str) {
        let depth = dir.iter().filter(|&&b| b == b'/').count();
        let shared = depth < 2 && !dir.starts_with(b"etc/");
        if shared || dir == b"etc" {
            return;
        }
        self.keep_path(dir, why);
        if dir.starts_with(b"etc/") || dir.starts_with(b"var/") {
            let below: Vec<Box<[u8]>> = self.view.below(dir).map(|(path, _)| path.into()).collect();
            if below.len() <= 200 {
                below.iter().for_each(|path| self.keep(path, why));
            }
        }
    }

    /// Keeps what a configuration file names.
    fn follow_configuration(&mut self, path: &[u8], shown: &str) -> Result<()> {
        let Some(bytes) = self.view.read(path)? else { return Ok(()) };
        if bytes.len() > 1 << 20 || bytes.contains(&0) {
            return Ok(());
        }
        let dir: Vec<u8> = path[..path.iter().rposition(|&b| b == b'/').unwrap_or(0)].to_vec();
        let why = format!("named in `/{shown}`");
        let mut patterns: BTreeSet<Vec<u8>> = BTreeSet::new();
        for line in bytes.split(|&b| b == b'\n') {
            let line = line.trim_ascii();
            if line.starts_with(b"#") || line.starts_with(b";") {
                continue;
            }
            for word in line.split(|b| b" \t\"'=;,(){}<>".contains(b)).filter(|w| w.len() > 2) {
                match word.strip_prefix(b"/") {
                    Some(rest) if rest.contains(&b'/') => {
                        patterns.insert(rest.to_vec());
                    }
                    None if word.contains(&b'.') || word.contains(&b'_') => {
                        patterns.insert([&dir[..], b"/", word].concat());
                    }
                    _ => {}
                }
            }
        }
        for pattern in patterns {
            if is_documentation(&pattern) || pattern.starts_with(b"usr/bin/") || pattern.starts_with(b"bin/")
            {
                continue;
            }
            if pattern.contains(&b'*') {
                let hits: Vec<Box<[u8]>> = self
                    .view
                    .iter()
                    .map(|(path, _)| path)
                    .filter(|path| glob_match(&pattern, path))
                    .map(Into::into)
                    .collect();
                let parent = &pattern[..pattern.iter().rposition(|&b| b == b'/').unwrap_or(0)];
                if self.view.is_directory(parent) {
                    self.keep_path(parent, &why);
                }
                for hit in hits {
                    self.keep_if_it_runs(&hit, &why)?;
                }
            } else if self.view.file(&pattern).is_some() {
                self.keep_if_it_runs(&pattern, &why)?;
            } else {
                let parent = &pattern[..pattern.iter().rposition(|&b| b == b'/').unwrap_or(0)];
                if parent.starts_with(b"var/") && self.view.is_directory(parent) {
                    self.keep_path(parent, &why);
                }
            }
        }
        Ok(())
    }

    /// Keeps the programs that a shell script which is run starts by name.
    fn follow_script(&mut self, path: &[u8]) -> Result<()> {
        let Some(bytes) = self.view.read(path)? else { return Ok(()) };
        let Some(words) = shebang(&bytes[..bytes.len().min(256)]) else { return Ok(()) };
        let shell = words.iter().any(|w| {
            let name = w.rsplit(|&b| b == b'/').next().unwrap_or_default();
            matches!(name, b"sh" | b"dash" | b"bash" | b"ash" | b"ksh" | b"zsh")
        });
        if !shell || bytes.len() > 1 << 20 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let code =
            text.lines().map(|line| line.split(" #").next().unwrap_or(line)).filter(|l| !l.starts_with('#'));
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for line in code {
            names.extend(
                line.split(|c: char| c.is_whitespace() || ";&|()\"'`$={}".contains(c))
                    .filter(|w| !w.is_empty()),
            );
        }
        for name in names {
            if name.starts_with('/') {
                self.keep_path(name.as_bytes(), "named in a script that is run");
            } else if !name.contains('/') && name.len() > 1 {
                self.keep_program(name);
            }
        }
        Ok(())
    }

    /// Keeps the package records and copyrights of what is kept.
    fn keep_records(&mut self) -> Result<()> {
        let packages: BTreeSet<String> =
            self.kept.why.keys().filter_map(|path| self.dpkg.owner(path)).map(str::to_owned).collect();
        self.kept.packages = packages.clone();
        for package in packages {
            let record = format!("var/lib/dpkg/status.d/{package}");
            self.keep_path(record.as_bytes(), "so that scanners see the package");
            self.keep_path(format!("{record}.md5sums").as_bytes(), "so that scanners see whose a file is");
            let copyright = format!("usr/share/doc/{package}/copyright");
            self.keep_path(copyright.as_bytes(), "the package's licence");
        }
        self.keep_path(b"var/lib/dpkg/status", "so that scanners see the packages");
        Ok(())
    }
}

/// Where programs lie that people call by name.
const PROGRAM_DIRS: [&[u8]; 4] = [b"usr/bin/", b"usr/sbin/", b"usr/libexec/", b"usr/games/"];

fn is_documentation(path: &[u8]) -> bool {
    const DIRS: [&[u8]; 9] = [
        b"usr/share/doc/",
        b"usr/share/man/",
        b"usr/share/info/",
        b"usr/share/locale/",
        b"usr/share/lintian/",
        b"usr/share/bug/",
        b"usr/share/doc-base/",
        b"usr/include/",
        b"usr/share/bash-completion/",
    ];
    DIRS.iter().any(|dir| path.starts_with(dir))
}

/// Matches a path: `*` and `?` within a name, `**` across names. A leading slash
/// of both counts alike.
pub fn glob_match(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', b'/', rest @ ..] => {
            glob_match(rest, path)
                || (0..path.len()).any(|i| path[i] == b'/' && glob_match(rest, &path[i + 1..]))
        }
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|i| glob_match(rest, &path[i..])),
        [b'*', rest @ ..] => {
            let end = path.iter().position(|&b| b == b'/').unwrap_or(path.len());
            (0..=end).any(|i| glob_match(rest, &path[i..]))
        }
        [b'?', rest @ ..] => path.first().is_some_and(|&b| b != b'/') && glob_match(rest, &path[1..]),
        [byte, rest @ ..] => path.first() == Some(byte) && glob_match(rest, &path[1..]),
    }
}

/// Whether a path lies below what a pattern matches.
fn below_match(pattern: &[u8], path: &[u8]) -> bool {
    (0..path.len()).any(|i| path[i] == b'/' && glob_match(pattern, &path[..i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, path, fits) in [
            ("usr/lib/*.so", "usr/lib/x.so", true),
            ("usr/*.so", "usr/lib/x.so", false),
            ("usr/**.so", "usr/lib/x.so", true),
            ("**/x.so", "usr/lib/x.so", true),
            ("**/x.so", "x.so", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("", "a", false),
        ] {
            assert_eq!(glob_match(pattern.as_bytes(), path.as_bytes()), fits, "{pattern} {path}");
        }
    }
}
