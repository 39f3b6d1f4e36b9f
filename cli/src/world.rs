//! The evaluator's world: which files it may see, and the store that it adds to.
//!
//! A path is one of four things:
//!
//! | path | what it is |
//! |---|---|
//! | `/ampoule/std/…` | the standard library, embedded in this program |
//! | `/nix/store/…` | an object: of the store, or one that this evaluation has only hashed so far |
//! | below a root | a file of the project, read as it is |
//! | anything else | refused, unless the evaluation is impure |
//!
//! Links are followed before a path is judged: one that leads out of the project is refused like the
//! path it leads to.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock};

use ampoule_eval::{AddError, ContextElem, Fetch, FileType, Filter, FilterStopped, World};
use ampoule_lang::{Diagnostic, SourceMap};
use ampoule_store::{
    AddOptions, ContentAddress, HashAlgo, Method, PathRef, PathSet, Store, StoreDir, StoreError, StorePath,
    StoreRoot, StoreSettings,
};
use include_dir::{Dir, DirEntry, include_dir};

use crate::texts::Texts;

/// Where the standard library seems to lie.
pub const STD_DIR: &str = "/ampoule/std";
/// Where Nix's own few files seem to lie: `<nix/fetchurl.nix>`.
pub const CORE_DIR: &str = "/__corepkgs__";

static STD: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/stdlib");

const CORE_FETCHURL: &str = include_str!("fetchurl.nix");

/// The contents of a file of the library, by the path where it seems to lie.
pub fn library_file(path: &Path) -> Option<&'static [u8]> {
    let below = path.strip_prefix(STD_DIR).ok()?;
    std_file(below)
}

/// Files of the library by their paths in it: to compare the path with one after the other is a fortieth of a small run.
static STD_FILES: LazyLock<HashMap<&OsStr, &[u8]>> = LazyLock::new(|| {
    let (mut files, mut dirs) = (HashMap::new(), vec![&STD]);
    while let Some(dir) = dirs.pop() {
        files.extend(dir.files().map(|file| (file.path().as_os_str(), file.contents())));
        dirs.extend(dir.dirs());
    }
    files
});

fn std_file(below: &Path) -> Option<&'static [u8]> {
    STD_FILES.get(below.as_os_str()).copied()
}

/// What an evaluation may see and do.
#[derive(Debug)]
pub struct WorldOptions {
    /// Directories whose files may be read; resolved, absolute.
    pub roots: Vec<PathBuf>,
    /// Whether every file, the environment and the clock may be read.
    pub impure: bool,
    /// Whether that holds for the clock only.
    pub restricted: bool,
    /// `-I`: (prefix or "", path).
    pub search_path: Vec<(String, String)>,
    /// Where the store lies; the user's own if `None`.
    pub store_root: Option<StoreRoot>,
    /// The logical directory.
    pub store_dir: StoreDir,
    /// What is left when the evaluation is done.
    pub keeps: Keeps,
}

impl WorldOptions {
    /// Whether every file and the environment may be read.
    fn sees_all(&self) -> bool {
        self.impure && !self.restricted
    }
}

/// What an evaluation leaves behind, each with what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// Values: derivations are forgotten as soon as their paths are known, and sources only hashed.
    Values,
    /// The texts of derivations, in memory.
    Derivations,
    /// Copies of sources in the store: something is going to be built.
    Sources,
}

/// Builds and fetches what evaluation asks for; the evaluator itself does neither.
pub trait Realiser: Send + Sync {
    /// Fetches, and returns the store path.
    ///
    /// # Errors
    /// In words for a person.
    fn fetch(&self, store: &Store, fetch: &Fetch) -> io::Result<StorePath>;

    /// Builds or substitutes what a string depends on.
    ///
    /// # Errors
    /// In words for a person.
    fn realise(&self, world: &ProjectWorld, needed: &[ContextElem]) -> io::Result<()>;
}

/// The world of one command.
pub struct ProjectWorld {
    options: WorldOptions,
    store: OnceLock<Store>,
    realiser: Option<Box<dyn Realiser>>,
    /// Derivations and texts that are only in memory so far.
    texts: Mutex<Texts>,
    /// Sources that were hashed and not copied: where they lie.
    hashed: Mutex<BTreeMap<StorePath, PathBuf>>,
    /// Directories and what they really are: thousands of files share few of them.
    directories: Mutex<HashMap<PathBuf, PathBuf>>,
    /// Roots that were named after the world was made.
    named_roots: Mutex<Vec<PathBuf>>,
    /// Whether nothing may be done or said just now.
    is_asleep: AtomicBool,
    /// Whether a program reads what is said.
    speaks_json: AtomicBool,
    /// How much programs said, and how much of what they say next was said before.
    said: AtomicUsize,
    to_skip: AtomicUsize,
}

/// Keeps a world asleep.
pub struct Sleep<'a>(&'a AtomicBool);

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// What a path names.
enum Place {
    /// In the embedded library, without the prefix.
    Std(PathBuf),
    /// `<nix/fetchurl.nix>`, or the directory it is in.
    Core(PathBuf),
    /// A text that is only in memory.
    Text(StorePath),
    /// A file that the system has.
    Real(PathBuf),
}

impl ProjectWorld {
    /// A world for one command.
    pub fn new(options: WorldOptions, realiser: Option<Box<dyn Realiser>>) -> Self {
        Self {
            options,
            store: OnceLock::new(),
            realiser,
            texts: Mutex::default(),
            hashed: Mutex::default(),
            directories: Mutex::default(),
            named_roots: Mutex::default(),
            is_asleep: AtomicBool::new(false),
            speaks_json: AtomicBool::new(false),
            said: AtomicUsize::new(0),
            to_skip: AtomicUsize::new(0),
        }
    }

    /// From now on what the evaluation says is JSON, an object a line.
    pub fn speak_json(&self) {
        self.speaks_json.store(true, Ordering::SeqCst);
    }

    /// The store, opened when it is first needed.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn store(&self) -> Result<&Store, StoreError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let root = match &self.options.store_root {
            Some(root) => root.clone(),
            None => StoreRoot::default_for_user()?,
        };
        let settings =
            StoreSettings { store_dir: Some(self.options.store_dir.clone()), ..StoreSettings::default() };
        let opened = Store::open(&root, settings)?;
        Ok(self.store.get_or_init(|| opened))
    }

    /// Lets the files below a directory be read too: somebody named it.
    pub fn add_root(&self, dir: &Path) {
        let real = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        self.named_roots.lock().expect("no holder of this lock panics").extend([dir.to_owned(), real]);
    }

    /// Whether a test holds for any of the directories whose files may be read.
    fn any_root(&self, test: impl Fn(&Path) -> bool) -> bool {
        self.options.roots.iter().any(|root| test(root))
            || self.named_roots.lock().expect("no holder of this lock panics").iter().any(|root| test(root))
    }

    /// Until the result is dropped, an evaluation may look at files, and that is all: nothing is copied, fetched,
    /// built or said.
    pub fn sleep(&self) -> Sleep<'_> {
        self.is_asleep.store(true, Ordering::SeqCst);
        Sleep(&self.is_asleep)
    }

    /// Programs begin again from where [`ProjectWorld::forget_said`] was called: says nothing of as much as they said since.
    pub fn skip_said(&self) {
        self.to_skip.store(self.said.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// What programs said is not said again from here on.
    pub fn forget_said(&self) {
        self.said.store(0, Ordering::SeqCst);
        self.to_skip.store(0, Ordering::SeqCst);
    }

    /// Whether the next thing that programs say is not to be told. Asked once for each.
    fn is_quiet(&self) -> bool {
        if self.stay_awake().is_err() {
            return true;
        }
        let less = |left: usize| left.checked_sub(1);
        if self.to_skip.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return true;
        }
        self.said.fetch_add(1, Ordering::SeqCst);
        false
    }

    fn stay_awake(&self) -> io::Result<()> {
        if self.is_asleep.load(Ordering::SeqCst) {
            return Err(io::Error::other("this is not done while completing"));
        }
        Ok(())
    }

    /// Writes `roots` and every text that they need, and that is only in memory so far, to the store.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn write_texts(&self, roots: &[StorePath]) -> Result<(), StoreError> {
        let store = self.store()?;
        let failed = |path: &StorePath, error: io::Error| {
            StoreError::Other(format!("cannot read the text of `{path}`: {error}"))
        };
        let texts = self.texts.lock().expect("no holder of this lock panics");
        let mut stack: Vec<(StorePath, bool)> = roots.iter().map(|path| (path.clone(), false)).collect();
        let mut seen = PathSet::default();
        // References first: an object is valid only after what it refers to. What waits for them is met again.
        while let Some((path, ready)) = stack.pop() {
            if !ready && (!texts.may_contain(&path) || !seen.insert(&path) || store.is_valid(&path)?) {
                continue;
            }
            let Some(text) = texts.get(&path).map_err(|error| failed(&path, error))? else { continue };
            let references = texts.references(store.dir(), &path, &text)?;
            let is_new = |reference: &StorePath| texts.may_contain(reference) && !seen.contains(reference);
            if !ready && references.iter().any(is_new) {
                stack.push((path, true));
                stack.extend(references.into_iter().map(|reference| (reference, false)));
            } else {
                store.add_text(path.name(), &text, references.into_iter().collect())?;
            }
        }
        Ok(())
    }

    /// Writes every text that is only in memory so far to the store.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn write_all_texts(&self) -> Result<(), StoreError> {
        let all = self.texts.lock().expect("no holder of this lock panics").paths();
        let failed = |error| StoreError::Other(format!("cannot read the evaluation's texts: {error}"));
        self.write_texts(&all.map_err(failed)?)
    }

    /// Whether this evaluation made a text at `path`.
    pub fn has_text(&self, path: &StorePath) -> bool {
        self.texts.lock().expect("no holder of this lock panics").contains(path)
    }

    /// A text that this evaluation made, if it is not in the store.
    pub fn text(&self, path: &StorePath) -> io::Result<Option<Vec<u8>>> {
        self.texts.lock().expect("no holder of this lock panics").get(path)
    }

    /// Finds what `path` (absolute) names, links on the way followed but not the last name.
    fn place(&self, path: &Path) -> io::Result<Place> {
        let path = clean(path);
        if let Ok(rest) = path.strip_prefix(STD_DIR) {
            return Ok(Place::Std(rest.to_owned()));
        }
        if let Ok(rest) = path.strip_prefix(CORE_DIR) {
            return Ok(Place::Core(rest.to_owned()));
        }
        if let Ok(rest) = path.strip_prefix(self.options.store_dir.as_str()) {
            return self.store_place(&path, rest);
        }
        self.allow(&path)?;
        Ok(Place::Real(path))
    }

    fn store_place(&self, path: &Path, rest: &Path) -> io::Result<Place> {
        let mut names = rest.components();
        let Some(Component::Normal(first)) = names.next() else {
            return Err(self.forbidden(path));
        };
        let below = names.as_path();
        let name = first
            .to_str()
            .ok_or_else(|| io::Error::other(format!("'{}' is not a store path", path.display())))?;
        let object = StorePath::parse(name).map_err(|e| io::Error::other(e.to_string()))?;
        if below.as_os_str().is_empty() && self.has_text(&object) {
            return Ok(Place::Text(object));
        }
        let source = self.hashed.lock().expect("no holder of this lock panics").get(&object).cloned();
        let real = match source {
            Some(source) => source,
            None => self.store().map_err(store_error)?.real_path(&object),
        };
        Ok(Place::Real(if below.as_os_str().is_empty() { real } else { real.join(below) }))
    }

    /// Refuses a path outside the roots when pure.
    fn allow(&self, path: &Path) -> io::Result<()> {
        if self.options.sees_all() {
            return Ok(());
        }
        // The parent's links are followed: what a link inside leads to decides.
        let parent = path.parent().unwrap_or(path);
        let real = self.real_directory(parent).join(path.file_name().unwrap_or_default());
        // A directory on the way to a root may be named, not read.
        if self.any_root(|root| real.starts_with(root) || root.starts_with(&real)) {
            return Ok(());
        }
        Err(self.forbidden(path))
    }

    /// What is said of a path that may not be read.
    fn forbidden(&self, path: &Path) -> io::Error {
        let mode = match self.options.restricted {
            true => "restricted mode",
            false => "pure evaluation mode (use '--impure' to override)",
        };
        let words = format!("access to absolute path '{}' is forbidden in {mode}", path.display());
        io::Error::new(io::ErrorKind::PermissionDenied, words)
    }

    /// A directory with its links followed; one that is not there is what it says.
    fn real_directory(&self, dir: &Path) -> PathBuf {
        let mut known = self.directories.lock().expect("no holder of this lock panics");
        real_directory(&mut known, dir).unwrap_or_else(|| dir.to_owned())
    }

    /// Where a path really lies, and what is there: links to its directory followed, the last name not.
    /// Nothing if that cannot be known without looking further.
    fn known_place(&self, path: &Path) -> Option<(PathBuf, FileType)> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        let found = self.real_directory(parent).join(name);
        let data = std::fs::symlink_metadata(&found).ok()?;
        Some((found, kind_of(data.file_type())))
    }

    /// Opens a file; a last name that is a link is followed where it may be.
    fn open(&self, path: PathBuf) -> io::Result<std::fs::File> {
        match open_itself(&path) {
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => std::fs::File::open(self.follow(path)?),
            opened => opened,
        }
    }

    /// Follows a last name that is a link, and judges where it leads.
    fn follow(&self, path: PathBuf) -> io::Result<PathBuf> {
        if self.options.sees_all() || !std::fs::symlink_metadata(&path)?.is_symlink() {
            return Ok(path);
        }
        let real = std::fs::canonicalize(&path)?;
        let store = self.store.get().map(|store| store.root().objects());
        let sources = self.hashed.lock().expect("no holder of this lock panics");
        let known = self.any_root(|root| real.starts_with(root))
            || store.is_some_and(|store| real.starts_with(store))
            || sources.values().any(|source| real.starts_with(source));
        if known { Ok(real) } else { Err(self.forbidden(&path)) }
    }
}

/// A directory with its links followed, if it is there. Most have no link in them: then it is one look at each,
/// and each is looked at once.
fn real_directory(known: &mut HashMap<PathBuf, PathBuf>, dir: &Path) -> Option<PathBuf> {
    if let Some(real) = known.get(dir) {
        return Some(real.clone());
    }
    let real = match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) if parent.is_absolute() => {
            let real = real_directory(known, parent)?.join(name);
            let kind = std::fs::symlink_metadata(&real).ok()?.file_type();
            if kind.is_symlink() { std::fs::canonicalize(&real).ok()? } else { real }
        }
        _ => std::fs::canonicalize(dir).ok()?,
    };
    known.insert(dir.to_owned(), real.clone());
    Some(real)
}

/// Opens what a path names, unless that is a link: then the error is `ELOOP`.
fn open_itself(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Reads a file, with few calls of the system: packages are thousands of small ones.
fn read_whole(mut file: std::fs::File, limit: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let data = file.metadata()?;
    if data.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    if data.len() > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let expected = usize::try_from(data.len()).map_err(io::Error::other)?;
    let mut text = vec![0; expected + 1];
    let got = file.read(&mut text)?;
    text.truncate(got);
    // A regular file that gives as much as it said is at its end.
    if !data.is_file() || got != expected {
        file.read_to_end(&mut text)?;
    }
    Ok(text)
}

impl World for ProjectWorld {
    fn store_dir(&self) -> &StoreDir {
        &self.options.store_dir
    }

    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.place(path)? {
            Place::Std(rest) => std_file(&rest).map(<[u8]>::to_vec).ok_or_else(not_found),
            Place::Core(rest) if rest == Path::new("fetchurl.nix") => Ok(CORE_FETCHURL.into()),
            Place::Core(_) => Err(not_found()),
            Place::Text(object) => self.text(&object)?.ok_or_else(not_found),
            Place::Real(path) => read_whole(self.open(path)?, u64::MAX),
        }
    }

    fn read_program(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.place(path)? {
            Place::Real(real) => {
                let limit = ampoule_lang::MAX_SOURCE_BYTES as u64;
                read_whole(self.open(real)?, limit).map_err(|error| match error.kind() {
                    io::ErrorKind::FileTooLarge => {
                        let words = format!("'{}' is larger than a program may be", path.display());
                        io::Error::other(format!("{words}: {} MB", limit >> 20))
                    }
                    _ => error,
                })
            }
            _ => self.read_file(path),
        }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        match self.place(path)? {
            Place::Std(rest) => std_entries(&rest),
            Place::Core(rest) if rest.as_os_str().is_empty() => {
                Ok(vec![(b"fetchurl.nix".to_vec(), FileType::Regular)])
            }
            Place::Core(_) | Place::Text(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            Place::Real(path) => {
                use std::os::unix::ffi::OsStringExt;
                let mut entries = Vec::new();
                for entry in std::fs::read_dir(self.follow(path)?)? {
                    let entry = entry?;
                    entries.push((entry.file_name().into_vec(), kind_of(entry.file_type()?)));
                }
                Ok(entries)
            }
        }
    }

    fn file_type(&self, path: &Path) -> io::Result<Option<FileType>> {
        match self.place(path)? {
            Place::Std(rest) if rest.as_os_str().is_empty() => Ok(Some(FileType::Directory)),
            Place::Std(rest) => Ok(STD.get_entry(&rest).map(|entry| match entry {
                DirEntry::Dir(_) => FileType::Directory,
                DirEntry::File(_) => FileType::Regular,
            })),
            Place::Core(rest) if rest.as_os_str().is_empty() => Ok(Some(FileType::Directory)),
            Place::Core(rest) => Ok((rest == Path::new("fetchurl.nix")).then_some(FileType::Regular)),
            Place::Text(_) => Ok(Some(FileType::Regular)),
            Place::Real(path) => match std::fs::symlink_metadata(&path) {
                Ok(data) => Ok(Some(kind_of(data.file_type()))),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    Ok(None)
                }
                Err(e) => Err(e),
            },
        }
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        match self.place(path)? {
            Place::Real(path) => std::fs::read_link(path),
            _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
        }
    }

    fn resolve_links(&self, path: &Path) -> io::Result<PathBuf> {
        let path = clean(path);
        let Place::Real(real) = self.place(&path)? else { return Ok(path) };
        // An object's links lead to logical paths: they are resolved name by name there.
        if path.starts_with(self.options.store_dir.as_str()) {
            return self.resolve_in_store(&path);
        }
        if let Some((found, kind)) = self.known_place(&real)
            && kind != FileType::Symlink
        {
            self.allow(&found)?;
            return Ok(found);
        }
        let mut missing = Vec::new();
        let mut there = real.as_path();
        loop {
            match std::fs::canonicalize(there) {
                Ok(found) => {
                    let mut whole = found;
                    whole.extend(missing.iter().rev());
                    self.allow(&whole)?;
                    return Ok(whole);
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else {
                        return Ok(real);
                    };
                    missing.push(name.to_owned());
                    there = parent;
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn resolve_to_file(&self, path: &Path) -> io::Result<(PathBuf, Option<FileType>)> {
        let path = clean(path);
        if !path.starts_with(self.options.store_dir.as_str())
            && let Place::Real(real) = self.place(&path)?
            && let Some((found, kind)) = self.known_place(&real)
            && kind != FileType::Symlink
        {
            self.allow(&found)?;
            return Ok((found, Some(kind)));
        }
        let resolved = self.resolve_links(&path)?;
        let kind = self.file_type(&resolved)?;
        Ok((resolved, kind))
    }

    fn find_file(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let (first, rest) = name.split_once('/').map_or((name, ""), |(first, rest)| (first, rest));
        for (prefix, path) in &self.options.search_path {
            let below = if prefix.is_empty() {
                name
            } else if prefix == first {
                rest
            } else if let Some(rest) =
                name.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('/'))
            {
                rest
            } else {
                continue;
            };
            let Some(base) = self.search_entry(path)? else { continue };
            let found = if below.is_empty() { base } else { base.join(below) };
            if (self.options.impure || self.file_type(&found).is_ok())
                && std::fs::symlink_metadata(&found).is_ok()
            {
                return Ok(Some(found));
            }
        }
        let within = |dir: &str| if rest.is_empty() { PathBuf::from(dir) } else { Path::new(dir).join(rest) };
        let builtin = match first {
            // The library has the names of nixpkgs, and no expression that asks for them can mean another one.
            "std" | "nixpkgs" => within(STD_DIR),
            "nix" => within(CORE_DIR),
            _ => return Ok(None),
        };
        Ok(self.file_type(&builtin)?.map(|_| builtin))
    }

    fn search_path(&self) -> Vec<(String, String)> {
        self.options.search_path.clone()
    }

    fn search_entry(&self, path: &str) -> io::Result<Option<PathBuf>> {
        if path.contains("://") {
            return Err(io::Error::other(format!(
                "the search path entry '{path}' is not fetched; fetch it with a hash and pass its path"
            )));
        }
        let full = std::path::absolute(path)?;
        Ok(self.file_type(&full)?.map(|_| clean(&full)))
    }

    fn env(&self, name: &str) -> Option<String> {
        if self.options.sees_all() { std::env::var(name).ok() } else { None }
    }

    fn current_time(&self) -> Option<i64> {
        if !self.options.impure {
            return None;
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    }

    fn add_text(&self, path: &StorePath, text: &[u8], references: &[PathRef<'_>]) -> io::Result<()> {
        // A plain evaluation writes no derivations, and thousands of them are most of its memory.
        if self.options.keeps == Keeps::Values && path.is_derivation() {
            return Ok(());
        }
        // Evaluations that build have a store, and a place for what is too much for memory.
        let dir = || match self.options.keeps {
            Keeps::Sources => self.store().ok().map(|store| store.root().path()),
            _ => None,
        };
        self.texts.lock().expect("no holder of this lock panics").insert(path, text, references, dir);
        Ok(())
    }

    fn add_path(
        &self,
        name: &str,
        source: &Path,
        method: Method,
        mut filter: Option<Filter<'_>>,
        expected: Option<&ContentAddress>,
    ) -> Result<StorePath, AddError> {
        self.stay_awake()?;
        let store = self.store().map_err(store_error)?;
        let unpacked;
        let real = match self.place(source)? {
            Place::Real(path) => path,
            Place::Text(object) => return Ok(object),
            Place::Std(rest) => {
                unpacked = unpack_std(&rest)?;
                unpacked.path().join("it")
            }
            Place::Core(_) => return Err(not_found().into()),
        };
        let algo = expected.map_or(HashAlgo::Sha256, |address| address.hash.algo());
        let options = AddOptions { method, algo, ..AddOptions::source(name) };
        let mut adapted = |path: &Path, kind: ampoule_store::FileKind| match &mut filter {
            Some(filter) => filter(&source.join(path), store_kind(kind))
                .map_err(|FilterStopped| StoreError::FilterStopped),
            None => Ok(true),
        };
        let filter: Option<&mut ampoule_store::Filter<'_>> = Some(&mut adapted);
        let (path, address) = if self.options.keeps == Keeps::Sources {
            let info = store.add_path(&real, &options, filter).map_err(add_error)?;
            (info.path, info.address)
        } else {
            let hashed = store.hash_tree(&real, &options, filter).map_err(add_error)?;
            self.hashed
                .lock()
                .expect("no holder of this lock panics")
                .insert(hashed.path.clone(), real.clone());
            (hashed.path, Some(hashed.address))
        };
        if let (Some(wanted), Some(got)) = (expected, address)
            && wanted.hash != got.hash
        {
            return Err(AddError::HashMismatch { wanted: Box::new(wanted.hash), got: Box::new(got.hash) });
        }
        Ok(path)
    }

    fn is_valid(&self, path: &StorePath) -> io::Result<bool> {
        if self.has_text(path) {
            return Ok(true);
        }
        self.store().map_err(store_error)?.is_valid(path).map_err(store_error)
    }

    fn fetch(&self, fetch: &Fetch) -> io::Result<StorePath> {
        self.stay_awake()?;
        match &self.realiser {
            Some(realiser) => realiser.fetch(self.store().map_err(store_error)?, fetch),
            None => Err(io::Error::other(format!("'{}' cannot be fetched by this command", fetch.url))),
        }
    }

    fn realise(&self, needed: &[ContextElem]) -> io::Result<()> {
        self.stay_awake()?;
        match &self.realiser {
            Some(realiser) => realiser.realise(self, needed),
            None => Err(io::Error::other("this command does not build")),
        }
    }

    fn message(&self, text: &str) {
        if self.is_quiet() {
            return;
        }
        let mut err = io::stderr().lock();
        // Who reads it may have gone: that ends no evaluation.
        let _ = if self.speaks_json.load(Ordering::SeqCst) {
            writeln!(err, "{}", crate::ui::message_json(text))
        } else {
            writeln!(err, "{text}")
        };
    }

    fn warnings(&self, warnings: &[Diagnostic], sources: &SourceMap) {
        if !self.speaks_json.load(Ordering::SeqCst) {
            return self.message(ampoule_lang::render::render(warnings, sources, false).trim_end());
        }
        if !self.is_quiet() {
            crate::report::write_json(warnings, sources);
        }
    }
}

impl ProjectWorld {
    fn resolve_in_store(&self, path: &Path) -> io::Result<PathBuf> {
        let mut left = 64;
        let mut done = PathBuf::from("/");
        let mut todo: Vec<std::ffi::OsString> = names(path);
        todo.reverse();
        while let Some(name) = todo.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&name);
            let below = next.starts_with(self.options.store_dir.as_str())
                && next != Path::new(self.options.store_dir.as_str());
            if below && self.file_type(&next)? == Some(FileType::Symlink) {
                left -= 1;
                if left == 0 {
                    return Err(io::Error::other(format!("too many symbolic links in '{}'", path.display())));
                }
                let target = self.read_link(&next)?;
                if target.is_absolute() {
                    done = PathBuf::from("/");
                }
                todo.extend(names(&target).into_iter().rev());
                continue;
            }
            done = next;
        }
        Ok(done)
    }
}

/// The names of a path, `..` kept.
fn names(path: &Path) -> Vec<std::ffi::OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

/// Removes `.` and `..` by the text alone, as the language does for path values.
fn clean(path: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    // Nearly all are: looking is much faster than putting names together.
    if let [b'/', names @ ..] = path.as_os_str().as_bytes()
        && names.split(|&byte| byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
    {
        return path.to_owned();
    }
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

fn kind_of(kind: std::fs::FileType) -> FileType {
    if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_dir() {
        FileType::Directory
    } else if kind.is_file() {
        FileType::Regular
    } else {
        FileType::Unknown
    }
}

fn store_kind(kind: ampoule_store::FileKind) -> FileType {
    match kind {
        ampoule_store::FileKind::Directory => FileType::Directory,
        ampoule_store::FileKind::Symlink => FileType::Symlink,
        ampoule_store::FileKind::Regular => FileType::Regular,
        _ => FileType::Unknown,
    }
}

fn std_entries(dir: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let dir = if dir.as_os_str().is_empty() { Some(&STD) } else { STD.get_dir(dir) };
    let entries = dir.ok_or_else(not_found)?.entries();
    Ok(entries
        .iter()
        .filter_map(|entry| {
            let kind = if entry.as_dir().is_some() { FileType::Directory } else { FileType::Regular };
            Some((entry.path().file_name()?.to_str()?.as_bytes().to_vec(), kind))
        })
        .collect())
}

/// Writes a part of the library into a temporary directory, as `it`.
fn unpack_std(rest: &Path) -> io::Result<tempfile::TempDir> {
    let temp = tempfile::tempdir()?;
    let place = temp.path().join("it");
    match STD.get_entry(rest) {
        Some(DirEntry::File(file)) => std::fs::write(&place, file.contents())?,
        Some(DirEntry::Dir(dir)) => unpack_dir(dir, rest, &place)?,
        None if rest.as_os_str().is_empty() => unpack_dir(&STD, rest, &place)?,
        None => return Err(not_found()),
    }
    Ok(temp)
}

fn unpack_dir(dir: &Dir<'_>, base: &Path, place: &Path) -> io::Result<()> {
    std::fs::create_dir_all(place)?;
    for entry in dir.entries() {
        let below = entry.path().strip_prefix(base).expect("entries lie below their directory");
        match entry {
            DirEntry::Dir(dir) => unpack_dir(dir, base, place)?,
            DirEntry::File(file) => {
                let target = place.join(below);
                if let Some(parent) = target.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                std::fs::write(target, file.contents())?;
            }
        }
    }
    Ok(())
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn store_error(error: StoreError) -> io::Error {
    io::Error::other(error.to_string())
}

fn add_error(error: StoreError) -> AddError {
    match error {
        StoreError::FilterStopped => AddError::Stopped,
        other => AddError::Io(store_error(other)),
    }
}
