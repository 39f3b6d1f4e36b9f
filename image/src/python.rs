//! Which modules a Python program imports, all the way, found by reading.
//!
//! Sources are read line by line, strings and comments left out, for `import` and
//! `from … import`, at any depth: also what a function imports when it is called.
//! Left out are blocks that do not run in an image (`if TYPE_CHECKING:`, a
//! library's own `if __name__ == "__main__":`), and the standard library's
//! development tools where only a function of the library itself asks for them.
//!
//! Packages that are not the standard library's are kept whole once one of their
//! modules is imported, without tests: they look up plug-ins, templates and data by
//! computed names.

use std::collections::BTreeSet;

use crate::entry::EntryKind;
use crate::error::Result;
use crate::view::View;

/// Modules that every start of the interpreter imports, or that its C half imports
/// without a line of Python saying so.
const START: &[&str] = &[
    "abc",
    "codecs",
    "encodings",
    "io",
    "os",
    "site",
    "stat",
    "posixpath",
    "genericpath",
    "_collections_abc",
    "_sitebuiltins",
    "sitecustomize",
    "importlib",
    "importlib.util",
    "importlib.machinery",
    "importlib.abc",
    "runpy",
    "pkgutil",
    "zipimport",
    "warnings",
    "traceback",
    "linecache",
    "tokenize",
    "_strptime",
    "copyreg",
    "_compat_pickle",
    "types",
    "enum",
    "functools",
    "collections",
    "collections.abc",
    "keyword",
    "operator",
    "reprlib",
    "re",
    "contextlib",
    "locale",
    "_weakrefset",
    "weakref",
    "threading",
    "signal",
    "__future__",
    "_bootsubprocess",
    "_py_abc",
    "_pyio",
    "_threading_local",
    "_sysconfigdata",
];

/// Tools of the standard library for developing programs, not for running them.
const DEVELOPMENT: &[&str] = &[
    "test",
    "unittest",
    "doctest",
    "pdb",
    "bdb",
    "pydoc",
    "pydoc_data",
    "idlelib",
    "tkinter",
    "turtle",
    "turtledemo",
    "lib2to3",
    "ensurepip",
    "venv",
    "distutils",
    "profile",
    "cProfile",
    "pstats",
    "trace",
    "timeit",
    "antigravity",
    "this",
    "webbrowser",
    "py_compile",
    "compileall",
    "pyclbr",
    "cmd",
    "code",
    "codeop",
    "rlcompleter",
    "readline",
    "curses",
    "nturl2path",
    "ntpath",
    "_osx_support",
    "msilib",
    "pickletools",
];

/// What is known of the Python in an image.
#[derive(Debug, Default)]
pub struct Python {
    python_path: Vec<Box<[u8]>>,
    working_dir: Box<[u8]>,
    /// Where modules are looked for, in order, once an interpreter was found.
    path: Vec<Box<[u8]>>,
    library: Option<Box<[u8]>>,
    /// Modules to find, with who asks.
    wanted: Vec<(String, String)>,
    seen: BTreeSet<String>,
    sources: Vec<Box<[u8]>>,
    read: BTreeSet<Box<[u8]>>,
    whole: BTreeSet<Box<[u8]>>,
}

type Keeps = Vec<(Box<[u8]>, String)>;

impl Python {
    /// Starts with the image's environment and working directory.
    pub fn new(env: &[String], working_dir: &str) -> Self {
        let line = env.iter().find_map(|line| line.strip_prefix("PYTHONPATH="));
        let dirs = line.unwrap_or_default().split(':').filter(|dir| !dir.is_empty());
        Self {
            python_path: dirs.map(|dir| dir.trim_start_matches('/').as_bytes().into()).collect(),
            working_dir: working_dir.trim_matches('/').as_bytes().into(),
            ..Self::default()
        }
    }

    /// Asks for a module by name.
    pub fn want(&mut self, module: &str) {
        self.wanted.push((module.to_owned(), "the file".to_owned()));
    }

    /// Whether a file of this name is the interpreter.
    pub fn is_interpreter(&self, name: &str) -> bool {
        version(name).is_some()
    }

    /// Tells that the interpreter at `path` is in the image.
    pub fn interpreter(&mut self, path: &[u8], name: &str) {
        let Some(version) = version(name).filter(|_| self.library.is_none()) else { return };
        let prefix =
            path.strip_suffix(name.as_bytes()).and_then(|p| p.strip_suffix(b"bin/")).unwrap_or(b"usr/");
        let prefix = String::from_utf8_lossy(prefix).into_owned();
        let major = version.split('.').next().unwrap_or_default();
        let library = format!("{prefix}lib/python{version}");
        self.path.extend(self.python_path.iter().cloned());
        self.path.push(self.working_dir.clone());
        for dir in [
            library.clone(),
            format!("{library}/lib-dynload"),
            format!("{prefix}local/lib/python{version}/dist-packages"),
            format!("{prefix}lib/python{major}/dist-packages"),
            format!("{library}/dist-packages"),
            format!("{library}/site-packages"),
        ] {
            self.path.push(dir.as_bytes().into());
        }
        self.library = Some(library.as_bytes().into());
        self.wanted.extend(START.iter().map(|m| ((*m).to_owned(), "the start of Python".to_owned())));
    }

    /// Tells that a command line runs `program`.
    pub fn command(&mut self, program: &[u8], words: &[String]) {
        let name = program.rsplit(|&b| b == b'/').next().unwrap_or_default();
        let python = self.is_interpreter(&String::from_utf8_lossy(name));
        let mut rest = words[1..].iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "-m" if python => {
                    if let Some(module) = rest.next() {
                        self.want(module);
                        self.want(&format!("{module}.__main__"));
                    }
                }
                "-c" if python => {
                    let code = rest.next().map(String::as_str).unwrap_or_default();
                    for import in imports(code, true) {
                        self.want(&import.module);
                        import.names.iter().for_each(|n| self.want(&format!("{}.{n}", import.module)));
                    }
                }
                // `gunicorn package.module:app`
                word => {
                    let module = word.split(':').next().unwrap_or_default();
                    let ok = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
                    if !module.is_empty() && module.chars().all(ok) && !module.starts_with(['.', '-']) {
                        self.want(module);
                    }
                }
            }
        }
    }

    /// Tells that a file is in the image; sources are read.
    pub fn file(&mut self, path: &[u8]) {
        self.sources.push(path.into());
    }

    /// Reads what is new and returns what it needs.
    ///
    /// # Errors
    /// [`crate::ImageError::Io`].
    pub fn step(&mut self, view: &View) -> Result<Keeps> {
        let mut keeps = Keeps::new();
        if self.library.is_none() {
            return Ok(keeps);
        }
        for path in std::mem::take(&mut self.sources) {
            if self.read.insert(path.clone()) {
                self.read_source(view, &path, &mut keeps)?;
            }
        }
        for (module, asker) in std::mem::take(&mut self.wanted) {
            if self.seen.insert(module.clone()) {
                self.find(view, &module, &asker, &mut keeps);
            }
        }
        Ok(keeps)
    }

    fn is_standard(&self, path: &[u8]) -> bool {
        let Some(library) = &self.library else { return false };
        path.starts_with(library)
            && !contains(path, b"/dist-packages/")
            && !contains(path, b"/site-packages/")
    }

    fn read_source(&mut self, view: &View, path: &[u8], keeps: &mut Keeps) -> Result<()> {
        if !path.ends_with(b".py") && !is_python_script(view, path)? {
            return Ok(());
        }
        let Some(bytes) = view.read(path)? else { return Ok(()) };
        let text = String::from_utf8_lossy(&bytes);
        let standard = self.is_standard(path);
        let dir = parent(path).to_vec();
        let script = !self.path.iter().any(|p| !p.is_empty() && path.starts_with(p));
        if script {
            self.path.insert(0, dir.clone().into());
        }
        let asker = format!("`/{}`", String::from_utf8_lossy(path));
        if !path.ends_with(b".py") {
            for name in distributions(&text) {
                self.distribution(view, &name, &asker, keeps)?;
            }
        }
        for import in imports(&text, !path.ends_with(b".py")) {
            let top = import.module.split('.').next().unwrap_or_default();
            if standard && import.level == 0 && DEVELOPMENT.contains(&top) {
                continue;
            }
            if import.level == 0 {
                self.wanted.push((import.module.clone(), asker.clone()));
                let names =
                    import.names.iter().map(|name| (format!("{}.{name}", import.module), asker.clone()));
                self.wanted.extend(names);
                continue;
            }
            let mut base = dir.clone();
            for _ in 1..import.level {
                base = parent(&base).to_vec();
            }
            let mut at = base.clone();
            for part in import.module.split('.').filter(|part| !part.is_empty()) {
                at = [&at[..], b"/", part.as_bytes()].concat();
                module_files(view, &at, &asker, keeps);
            }
            for name in &import.names {
                module_files(view, &[&at[..], b"/", name.as_bytes()].concat(), &asker, keeps);
            }
        }
        Ok(())
    }

    /// Finds a module along the path, package by package.
    fn find(&mut self, view: &View, module: &str, asker: &str, keeps: &mut Keeps) {
        if module == "_sysconfigdata" {
            return;
        }
        let mut parts = module.split('.');
        let top = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        for dir in self.path.clone() {
            let mut at =
                if dir.is_empty() { top.into() } else { [&dir, b"/".as_slice(), top.as_bytes()].concat() };
            let is_module = module_files(view, &at, asker, keeps);
            if !is_module && (!view.is_directory(&at) || !has_python(view, &at)) {
                continue;
            }
            if top == "encodings" && rest.is_empty() {
                keep_encodings(view, &at, keeps);
            }
            if top == "sysconfig" {
                let names = view.below(&dir).map(|(p, _)| p);
                let data = names.filter(|p| contains(p, b"/_sysconfigdata") && p.ends_with(b".py"));
                keeps.extend(data.map(|p| (p.into(), "read by sysconfig".to_owned())));
            }
            if !self.is_standard(&at) && !is_own(&at) {
                self.keep_whole(view, &dir, top, keeps);
            }
            for part in &rest {
                at = [&at[..], b"/", part.as_bytes()].concat();
                module_files(view, &at, asker, keeps);
            }
            return;
        }
    }

    /// Keeps what an installed distribution's record says that its programs are.
    ///
    /// `/usr/bin/gunicorn` imports nothing: it asks for the entry point `gunicorn` of
    /// the distribution `gunicorn==20.1.0`.
    fn distribution(&mut self, view: &View, name: &str, asker: &str, keeps: &mut Keeps) -> Result<()> {
        for dir in self.path.clone() {
            for info in infos(view, &dir, name) {
                let why = format!("the record of `{name}`, asked for by {asker}");
                for word in INFO_WORDS {
                    let file = [&info[..], b"/", word.as_bytes()].concat();
                    let Some(bytes) = view.read(&file)? else { continue };
                    keeps.push((file.into(), why.clone()));
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let modules = text.lines().filter_map(|line| match word {
                        "top_level.txt" => Some(line.trim()),
                        "entry_points.txt" => line.split_once('=')?.1.trim().split([':', ' ', '[']).next(),
                        _ => None,
                    });
                    self.wanted
                        .extend(modules.filter(|m| !m.is_empty()).map(|m| (m.to_owned(), why.clone())));
                }
                if view.file(&info).is_some() {
                    keeps.push((info.clone().into(), why.clone()));
                }
                self.wanted.push((normal(name), why));
            }
        }
        Ok(())
    }

    /// Keeps a package that is not the standard library's, and its distribution's words.
    fn keep_whole(&mut self, view: &View, dir: &[u8], top: &str, keeps: &mut Keeps) {
        let at = [dir, b"/", top.as_bytes()].concat();
        if dir.is_empty() || !self.whole.insert(at.clone().into()) {
            return;
        }
        let why = format!("part of the Python package `{top}`");
        for (path, node) in view.below(&at) {
            if matches!(node.kind, EntryKind::Directory) || is_spare(&path[at.len()..]) {
                continue;
            }
            keeps.push((path.into(), why.clone()));
        }
        for info in infos(view, dir, top) {
            if view.file(&info).is_some() {
                keeps.push((info.clone().into(), why.clone()));
            }
            for word in INFO_WORDS {
                let file = [&info[..], b"/", word.as_bytes()].concat();
                if view.get(&file).is_some() {
                    keeps.push((file.into(), why.clone()));
                }
            }
        }
    }
}

/// The files of a distribution's record that programs ask for.
const INFO_WORDS: [&str; 4] = ["METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt"];

/// A distribution's name as all its spellings agree.
fn normal(name: &str) -> String {
    name.to_lowercase().replace(['-', '.'], "_")
}

/// Finds the records of a distribution in a directory of packages.
fn infos(view: &View, dir: &[u8], project: &str) -> BTreeSet<Vec<u8>> {
    if dir.is_empty() {
        return BTreeSet::new();
    }
    let prefix = [dir, b"/"].concat();
    view.below(dir)
        .filter_map(|(path, _)| {
            let name = path.strip_prefix(&prefix[..])?.split(|&b| b == b'/').next()?;
            let text = std::str::from_utf8(name).ok()?;
            let stem = text.strip_suffix(".dist-info").or_else(|| text.strip_suffix(".egg-info"))?;
            let own = stem.split('-').next().unwrap_or(stem);
            (normal(own) == normal(project)).then(|| [&prefix[..], name].concat())
        })
        .collect()
}

/// Finds `'name==version'` in a script: distributions whose entry points it asks for.
fn distributions(text: &str) -> BTreeSet<String> {
    let strings = text.split(['"', '\'']).filter_map(|piece| piece.split_once("=="));
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    strings
        .filter(|(name, version)| is_name(name) && version.starts_with(|c: char| c.is_ascii_digit()))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn version(name: &str) -> Option<&str> {
    let version = name.strip_prefix("python")?;
    let (major, minor) = version.split_once('.')?;
    (major.parse::<u8>().is_ok() && minor.parse::<u8>().is_ok()).then_some(version)
}

fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|&b| b == b'/').unwrap_or(0)]
}

fn contains(path: &[u8], text: &[u8]) -> bool {
    path.windows(text.len()).any(|w| w == text)
}

fn has_python(view: &View, dir: &[u8]) -> bool {
    view.below(dir).any(|(path, _)| path.ends_with(b".py") || path.ends_with(b".so"))
}

/// Whether a package is the person's own: not in any packages directory.
fn is_own(path: &[u8]) -> bool {
    !contains(path, b"/dist-packages/") && !contains(path, b"/site-packages/")
}

/// Keeps the files that make the module at `at`: source, compiled, extension, or
/// the package's `__init__`.
fn module_files(view: &View, at: &[u8], asker: &str, keeps: &mut Keeps) -> bool {
    let name = at.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let dir = parent(at);
    let why = || format!("the Python module `{}`, imported by {asker}", String::from_utf8_lossy(name));
    let mut found = false;
    let mut keep = |path: &[u8]| {
        if view.resolve(path).end.is_some_and(|end| view.file(&end).is_some()) {
            keeps.push((path.into(), why()));
            return true;
        }
        false
    };
    for base in [at.to_vec(), [at, b"/__init__"].concat()] {
        found |= keep(&[&base[..], b".py"].concat());
        found |= keep(&[&base[..], b".pyc"].concat());
    }
    // `name.cpython-311-x86_64-linux-gnu.so`, `name.abi3.so`, `name.so`
    let prefix = [at, b"."].concat();
    let cached = [dir, b"/__pycache__/", name, b"."].concat();
    let cached_init = [at, b"/__pycache__/__init__."].concat();
    for (path, _) in view.below(dir) {
        let extension =
            path.starts_with(&prefix) && path.ends_with(b".so") && !path[prefix.len()..].contains(&b'/');
        let compiled =
            (path.starts_with(&cached) || path.starts_with(&cached_init)) && path.ends_with(b".pyc");
        if extension || compiled {
            found |= keep(path);
        }
    }
    found
}

/// Keeps the codecs: whoever sends a text says by which name they are looked up.
fn keep_encodings(view: &View, at: &[u8], keeps: &mut Keeps) {
    for (path, _) in view.below(at).filter(|(path, _)| path.ends_with(b".py")) {
        keeps.push((path.into(), "a codec, looked up by name".to_owned()));
    }
}

/// Whether a file below a package is not needed to run it.
fn is_spare(below: &[u8]) -> bool {
    let names: Vec<&[u8]> = below.split(|&b| b == b'/').collect();
    let test = |name: &&[u8]| matches!(*name, b"tests" | b"test" | b"docs" | b"examples" | b"benchmarks");
    let last = names.last().copied().unwrap_or_default();
    let suffixes: [&[u8]; 9] =
        [b".pyi", b".c", b".h", b".pyx", b".pxd", b".cpp", b".md", b".rst", b"py.typed"];
    names[..names.len().saturating_sub(1)].iter().any(test) || suffixes.iter().any(|s| last.ends_with(s))
}

fn is_python_script(view: &View, path: &[u8]) -> Result<bool> {
    let Some(node) = view.get(path) else { return Ok(false) };
    let EntryKind::File { size, .. } = node.kind else { return Ok(false) };
    if node.mode & 0o111 == 0 || size > 4 << 20 {
        return Ok(false);
    }
    let Some(bytes) = view.read(path)? else { return Ok(false) };
    let words = crate::needs::shebang(&bytes[..bytes.len().min(256)]);
    Ok(words.is_some_and(|words| words.iter().any(|w| contains(w, b"python"))))
}

/// One import.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) level: usize,
    pub(crate) module: String,
    pub(crate) names: Vec<String>,
}

/// Finds the imports of a source text; `main` says that its `__main__` block runs.
pub(crate) fn imports(text: &str, main: bool) -> Vec<Import> {
    let mut out = Vec::new();
    let mut skip: Option<usize> = None;
    for (indent, line) in logical_lines(text) {
        if let Some(at) = skip {
            if indent > at {
                continue;
            }
            skip = None;
        }
        if is_skipped_block(&line, main) {
            skip = Some(indent);
            continue;
        }
        // `try: import x`, `if y: import x`, `a; import x`
        for piece in line.split(';') {
            let piece = piece.trim();
            let piece = match piece.find(": ") {
                Some(i) if piece[i + 2..].starts_with("import ") || piece[i + 2..].starts_with("from ") => {
                    &piece[i + 2..]
                }
                _ => piece,
            };
            read_import(piece, &mut out);
        }
        for call in ["import_module(", "__import__("] {
            for (i, _) in line.match_indices(call) {
                let rest = line[i + call.len()..].trim_start();
                let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
                if let Some(name) = rest[1..].split(quote).next() {
                    let level = name.len() - name.trim_start_matches('.').len();
                    out.push(Import { level, module: name[level..].to_owned(), names: Vec::new() });
                }
            }
        }
    }
    out
}

fn is_skipped_block(line: &str, main: bool) -> bool {
    let Some(condition) = line.strip_prefix("if ") else { return false };
    let condition = condition.trim_end().trim_end_matches(':').trim();
    matches!(condition, "TYPE_CHECKING" | "t.TYPE_CHECKING" | "typing.TYPE_CHECKING" | "False" | "0")
        || (!main && condition.starts_with("__name__ =="))
}

fn read_import(piece: &str, out: &mut Vec<Import>) {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let first_word = |item: &str| item.split_whitespace().next().unwrap_or_default().to_owned();
    if let Some(list) = piece.strip_prefix("import ") {
        for module in list.split(',').map(first_word).filter(|m| is_name(m)) {
            out.push(Import { level: 0, module, names: Vec::new() });
        }
    } else if let Some((module, names)) =
        piece.strip_prefix("from ").and_then(|rest| rest.split_once(" import"))
    {
        let module = module.trim();
        let level = module.len() - module.trim_start_matches('.').len();
        let module = module[level..].trim();
        if !module.is_empty() && !is_name(module) {
            return;
        }
        let names = names.trim().trim_start_matches('(').trim_end_matches(')');
        let names = names.split(',').map(first_word).filter(|n| is_name(n)).collect();
        out.push(Import { level, module: module.to_owned(), names });
    }
}

/// Joins lines as Python does (brackets, backslashes), drops comments and long
/// strings, and tells each line's indentation.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let bytes = text.as_bytes();
    let mut lines = Vec::new();
    let mut line: Vec<u8> = Vec::new();
    let mut depth = 0usize;
    let mut i = 0;
    let mut finish = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line).into_owned();
        let indent =
            text.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { 8 } else { 1 }).sum();
        let text = text.trim();
        if !text.is_empty() {
            lines.push((indent, text.to_owned()));
        }
        line.clear();
    };
    while i < bytes.len() {
        match bytes[i] {
            b'#' => {
                while i < bytes.len() && bytes[i] != b'\n' {
                    i += 1;
                }
                continue;
            }
            quote @ (b'"' | b'\'') => {
                let (end, long) = string_end(bytes, i, quote);
                if long {
                    line.extend_from_slice(b"\"\"");
                } else {
                    line.extend_from_slice(&bytes[i..end]);
                }
                i = end;
                continue;
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                line.push(bytes[i]);
            }
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                line.push(bytes[i]);
            }
            b'\\' if bytes.get(i + 1) == Some(&b'\n') => {
                line.push(b' ');
                i += 1;
            }
            b'\n' if depth == 0 => finish(&mut line),
            b'\n' | b'\r' => line.push(b' '),
            byte => line.push(byte),
        }
        i += 1;
    }
    finish(&mut line);
    lines
}

/// Returns where the string that begins at `start` ends, and whether it is a long one.
fn string_end(bytes: &[u8], start: usize, quote: u8) -> (usize, bool) {
    let long = bytes[start..].starts_with(&[quote; 3]);
    let mut i = start + if long { 3 } else { 1 };
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 1,
            b'\n' if !long => return (i, false),
            b if b == quote && !long => return (i + 1, false),
            b if b == quote && bytes[i..].starts_with(&[quote; 3]) => return (i + 3, true),
            _ => {}
        }
        i += 1;
    }
    (bytes.len(), long)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(text: &str) -> Vec<String> {
        imports(text, false)
            .into_iter()
            .map(|i| format!("{}{} {}", ".".repeat(i.level), i.module, i.names.join(" ")).trim().to_owned())
            .collect()
    }

    #[test]
    fn imports_are_found_wherever_they_stand() {
        let text = "
import os, sys as system
'import no'
\"\"\"
import also_no
\"\"\"
# import nor_this
from . import a, b as c
from ..x.y import (
    one,  # the first
    two as zwei,
)
def f():
    import late; import later
    try: import tried
    except ImportError: pass
if TYPE_CHECKING:
    import typed
    from typed import more
else:
    import untyped
m = importlib.import_module('by.name')
from \\
    cont import z
if __name__ == '__main__':
    import tool
";
        let expected =
            ["os", "sys", ". a b", "..x.y one two", "late", "later", "tried", "untyped", "by.name", "cont z"];
        assert_eq!(modules(text), expected);
    }

    #[test]
    fn a_script_names_its_distribution() {
        let script = "#!/usr/bin/python3\n# EASY-INSTALL: 'no'\nimport sys\nif x == '1': pass\nsys.exit(load_entry_point('gunicorn==20.1.0', 'console_scripts', 'gunicorn')())\n";
        assert_eq!(distributions(script).into_iter().collect::<Vec<_>>(), ["gunicorn"]);
    }

    #[test]
    fn versions_of_the_interpreter() {
        assert_eq!(version("python3.11"), Some("3.11"));
        assert!(version("python3").is_none() && version("python3.11-config").is_none());
    }
}
