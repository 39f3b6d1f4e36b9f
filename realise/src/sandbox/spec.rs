//! What a sandbox holds, as data: made by the realiser, sent to the spawner, read there before the
//! child is cloned.
//!
//! Having a [`SandboxSpec`] is having everything that a build can see. Paths outside are physical,
//! paths inside are logical; nothing is looked up in the child that is not written here.

use std::ffi::{CStr, CString};
use std::io;
use std::path::{Component, Path, PathBuf};

use ampoule_store::Tier;

/// Where something mounted in the sandbox comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindSource {
    /// A path below the physical store.
    Store(PathBuf),
    /// An absolute path of the host, declared by the user.
    Host(PathBuf),
}

/// What kind of thing is mounted, and so on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindKind {
    /// Mounted on a directory.
    Directory,
    /// Mounted on an empty file.
    File,
    /// Copied: a symlink cannot be mounted.
    Symlink(Vec<u8>),
}

/// One input, seen read-only at `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where it lies.
    pub source: BindSource,
    /// Where the build sees it; absolute.
    pub target: PathBuf,
    /// What it is.
    pub kind: BindKind,
}

/// Who the build is outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user of this host that the build's user 1000 is.
    pub uid: u32,
    /// The group of this host that the build's group 100 is.
    pub gid: u32,
    /// Whether that is another user than ours, which needs rights that only root has.
    pub foreign: bool,
}

/// User inside, as in Nix.
pub const INNER_UID: u32 = 1000;
/// Group inside, as in Nix.
pub const INNER_GID: u32 = 100;
/// Root maps the build to a user that no machine has, as Nix does with `auto-allocate-uids`.
const FOREIGN_ID: u32 = 872_415_232;

impl Identity {
    /// Says who builds run as when this process starts them.
    ///
    /// An ordinary user's builds are that user. Root's are nobody: root without capabilities still
    /// owns `/proc/sys`.
    #[must_use]
    pub fn of_this_process() -> Self {
        let (uid, gid) = effective_ids();
        if uid != 0 {
            return Self { uid, gid, foreign: false };
        }
        match (mapped_id("/proc/self/uid_map"), mapped_id("/proc/self/gid_map")) {
            (Some(uid), Some(gid)) => Self { uid, gid, foreign: true },
            _ => Self { uid, gid, foreign: false },
        }
    }
}

fn effective_ids() -> (u32, u32) {
    // The owner of a process's directory in /proc is its effective user; without /proc we are lost
    // anyway, and say so when the id maps are written.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").map_or((0, 0), |meta| (meta.uid(), meta.gid()))
}

/// The id to build as, out of those that `map` gives this namespace; never 0.
fn mapped_id(map: &str) -> Option<u32> {
    best_id(&std::fs::read_to_string(map).ok()?)
}

fn best_id(map: &str) -> Option<u32> {
    let ranges: Vec<(u64, u64)> = map
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse);
            let (first, _outer, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
            Some((first, first + count))
        })
        .collect();
    if ranges.iter().any(|(first, end)| (*first..*end).contains(&u64::from(FOREIGN_ID))) {
        return Some(FOREIGN_ID);
    }
    let last = ranges.iter().map(|(_, end)| end - 1).max()?;
    u32::try_from(last).ok().filter(|id| *id != 0)
}

/// Everything that a build sees, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The wall.
    pub tier: Tier,
    /// The program, as seen inside; empty: do the whole set-up and stop there (a probe).
    pub builder: Vec<u8>,
    /// Its arguments, the zeroth included.
    pub args: Vec<Vec<u8>>,
    /// Its environment, whole.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// A directory of mode 0700 on the store's file system that holds `store`, `build` and `tmp`,
    /// owned by [`Identity`].
    pub top_dir: PathBuf,
    /// Where the store lies.
    pub store_root: PathBuf,
    /// What the store is called inside.
    pub store_dir: PathBuf,
    /// The working directory inside.
    pub build_dir: PathBuf,
    /// Read-only inputs. Parents come before what lies in them.
    pub binds: Vec<Bind>,
    /// Small files made in the new root.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Symlinks made in the new root: path, target.
    pub symlinks: Vec<(PathBuf, Vec<u8>)>,
    /// Who the build is outside.
    pub identity: Identity,
    /// The build waits until somebody connects its network to the world; only for a fixed-output
    /// builder, asked for by name.
    pub has_uplink: bool,
    /// Processes inside are counted from far above 1: a builder that writes its number into an output
    /// is found out.
    pub has_high_pids: bool,
    /// Execution domain: 0, or `PER_LINUX32` for 32-bit builders.
    pub linux32: bool,
    /// Keeps the caller's terminal as standard input and output (for `debug`).
    pub interactive: bool,
    /// The list of processes (`cgroup.procs`) of a control group that the build is put into.
    pub group: Option<PathBuf>,
}

impl SandboxSpec {
    /// A sandbox with nothing in it, for builds that are `identity`.
    #[must_use]
    pub fn new(top_dir: PathBuf, store_root: PathBuf, store_dir: PathBuf, identity: Identity) -> Self {
        Self {
            tier: Tier::Namespaces,
            builder: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            top_dir,
            store_root,
            store_dir,
            build_dir: PathBuf::from("/build"),
            binds: Vec::new(),
            files: identity_files("/build"),
            symlinks: Vec::new(),
            identity,
            has_uplink: false,
            has_high_pids: false,
            linux32: false,
            interactive: false,
            group: None,
        }
    }

    /// The directories of the new root, parents first, that mounts and files need.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let mut all = std::collections::BTreeSet::new();
        let mut add = |path: &Path| all.extend(path.ancestors().map(Path::to_path_buf));
        for fixed in ["/dev/pts", "/dev/shm", "/proc", "/tmp", "/etc"] {
            add(Path::new(fixed));
        }
        add(&self.build_dir);
        add(&self.store_dir);
        let parents = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_path_buf();
        for bind in self.binds.iter().filter(|bind| !bind.target.starts_with(&self.store_dir)) {
            add(&parents(&bind.target));
        }
        for (path, _) in self.files.iter().chain(&self.symlinks) {
            add(&parents(path));
        }
        // Ordered by components, so a parent stands before its children.
        all.into_iter().filter(|path| path != Path::new("/")).collect()
    }
}

/// The account files that every build sees, as in Nix.
fn identity_files(build_dir: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let passwd = format!(
        "root:x:0:0:Nix build user:{build_dir}:/noshell\n\
         nixbld:x:{INNER_UID}:{INNER_GID}:Nix build user:{build_dir}:/noshell\n\
         nobody:x:65534:65534:Nobody:/:/noshell\n"
    );
    let group = format!("root:x:0:\nnixbld:!:{INNER_GID}:\nnogroup:x:65534:\n");
    let hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    [("/etc/passwd", passwd), ("/etc/group", group), ("/etc/hosts", hosts)]
        .map(|(path, text)| (PathBuf::from(path), text.into_bytes()))
        .to_vec()
}

/// Checks a path inside the sandbox: absolute, and made of plain names only.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_target(target: &Path) -> Result<(), String> {
    let shown = target.display();
    let mut components = target.components();
    if components.next() != Some(Component::RootDir) {
        return Err(format!("`{shown}` is not an absolute path"));
    }
    let plain = components.clone().all(|component| matches!(component, Component::Normal(_)));
    if !plain || target.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(format!("`{shown}` must be made of plain names, without `..`"));
    }
    match components.next() {
        None => Err("`/` itself cannot be mounted; use `sandboxRoot`".to_owned()),
        Some(Component::Normal(first)) if ["proc", "dev", "build"].iter().any(|own| first == *own) => {
            Err(format!("`{shown}` lies in a directory that the sandbox makes itself"))
        }
        Some(_) => Ok(()),
    }
}

/// Reads `target=source` or `path` as a declared path of the host.
///
/// The source is resolved now, links and all, so that what is mounted is what was there when we
/// looked; the target is taken as written.
///
/// # Errors
/// A sentence that names the path and what is wrong with it.
pub fn host_bind(declared: &str) -> Result<Bind, String> {
    let (target, source) = declared.split_once('=').unwrap_or((declared, declared));
    let target: PathBuf = Path::new(target).components().collect();
    check_target(&target)?;
    let resolved = std::fs::canonicalize(source)
        .map_err(|error| format!("the declared path `{source}` cannot be mounted: {error}"))?;
    let kind = if resolved.is_dir() { BindKind::Directory } else { BindKind::File };
    Ok(Bind { source: BindSource::Host(resolved), target, kind })
}

// ---- as bytes ---------------------------------------------------------------------------------

pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(u32::try_from(bytes.len()).expect("a request is far below 4 GiB"));
        self.0.extend(bytes);
    }

    fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_encoded_bytes());
    }

    fn list<T>(&mut self, items: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u32);
        for item in items {
            one(self, item);
        }
    }
}

pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

/// A request that is not one; only a program that is not ours can send it.
fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed sandbox request")
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let (head, rest) = self.0.split_at_checked(length).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn number(&mut self) -> io::Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| malformed())?))
    }

    fn flag(&mut self) -> io::Result<bool> {
        Ok(self.number()? != 0)
    }

    pub(crate) fn c_string(&mut self) -> io::Result<CString> {
        let length = self.number()? as usize;
        CString::new(self.take(length)?).map_err(|_| malformed())
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()? as usize;
        Ok(self.take(length)?.to_vec())
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> io::Result<T>) -> io::Result<Vec<T>> {
        let count = self.number()? as usize;
        let mut items = Vec::with_capacity(count.min(self.0.len()));
        for _ in 0..count {
            items.push(one(self)?);
        }
        Ok(items)
    }
}

/// A bind as the child needs it: C strings, targets relative to the new root.
#[derive(Debug)]
pub(crate) struct PreparedBind {
    pub(crate) from_store: bool,
    pub(crate) source: CString,
    pub(crate) target: CString,
    pub(crate) kind: PreparedKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PreparedKind {
    Directory,
    File,
    Symlink(CString),
}

/// A spec in the form in which the child uses it: every string made, nothing left to allocate.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) tier: Tier,
    pub(crate) builder: CString,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) top_dir: CString,
    pub(crate) store_root: CString,
    pub(crate) store_dir: CString,
    pub(crate) build_dir: CString,
    pub(crate) build_dir_absolute: CString,
    pub(crate) directories: Vec<CString>,
    pub(crate) binds: Vec<PreparedBind>,
    pub(crate) files: Vec<(CString, Vec<u8>)>,
    pub(crate) symlinks: Vec<(CString, CString)>,
    pub(crate) identity: Identity,
    pub(crate) has_uplink: bool,
    pub(crate) has_high_pids: bool,
    pub(crate) linux32: bool,
    pub(crate) interactive: bool,
    /// Empty for none.
    pub(crate) group: CString,
}

/// `/a/b` → `a/b`: relative to the new root, which is the current directory while it is made.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

impl SandboxSpec {
    /// As bytes, behind `head`.
    pub(crate) fn encode(&self, head: &[u8]) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(4096));
        out.0.extend(head);
        out.number(self.tier as u32);
        out.bytes(&self.builder);
        out.list(&self.args, |out, arg| out.bytes(arg));
        out.list(&self.env, |out, (name, value)| {
            out.bytes(&[name.as_slice(), b"=", value].concat());
        });
        out.path(&self.top_dir);
        out.path(&self.store_root);
        out.path(relative(&self.store_dir));
        out.path(relative(&self.build_dir));
        out.path(&self.build_dir);
        out.list(&self.directories(), |out, path| out.path(relative(path)));
        out.list(&self.binds, |out, bind| {
            let (from_store, source) = match &bind.source {
                BindSource::Store(path) => (1, path),
                BindSource::Host(path) => (0, path),
            };
            out.number(from_store);
            out.path(source);
            out.path(relative(&bind.target));
            match &bind.kind {
                BindKind::Directory => out.number(0),
                BindKind::File => out.number(1),
                BindKind::Symlink(target) => {
                    out.number(2);
                    out.bytes(target);
                }
            }
        });
        out.list(&self.files, |out, (path, contents)| {
            out.path(relative(path));
            out.bytes(contents);
        });
        out.list(&self.symlinks, |out, (path, target)| {
            out.path(relative(path));
            out.bytes(target);
        });
        for number in [self.identity.uid, self.identity.gid] {
            out.number(number);
        }
        let Self { has_uplink, has_high_pids, linux32, interactive, .. } = *self;
        for flag in [self.identity.foreign, has_uplink, has_high_pids, linux32, interactive] {
            out.number(flag.into());
        }
        out.path(self.group.as_deref().unwrap_or(Path::new("")));
        out.0
    }
}

/// Whether `path` lies below `dir`; both relative to the root.
pub(crate) fn lies_below(path: &CStr, dir: &CStr) -> bool {
    path.to_bytes().strip_prefix(dir.to_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}

impl Prepared {
    /// Whether `path` lies in what is mounted for this build alone, and so has to be made there.
    pub(crate) fn is_own(&self, path: &CStr) -> bool {
        [c"tmp", &self.build_dir, &self.store_dir].into_iter().any(|own| lies_below(path, own))
    }

    /// The binds whose places are in the root itself, numbered as they are among all.
    pub(crate) fn points(&self) -> impl Iterator<Item = (usize, &PreparedBind)> {
        self.binds.iter().enumerate().filter(|(_, bind)| !self.is_own(&bind.target))
    }

    pub(crate) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let mut input = Reader(bytes);
        Ok(Self {
            tier: match input.number()? {
                0 => Tier::None,
                1 => Tier::Landlock,
                _ => Tier::Namespaces,
            },
            builder: input.c_string()?,
            args: input.list(Reader::c_string)?,
            env: input.list(Reader::c_string)?,
            top_dir: input.c_string()?,
            store_root: input.c_string()?,
            store_dir: input.c_string()?,
            build_dir: input.c_string()?,
            build_dir_absolute: input.c_string()?,
            directories: input.list(Reader::c_string)?,
            binds: input.list(|input| {
                Ok(PreparedBind {
                    from_store: input.flag()?,
                    source: input.c_string()?,
                    target: input.c_string()?,
                    kind: match input.number()? {
                        0 => PreparedKind::Directory,
                        1 => PreparedKind::File,
                        _ => PreparedKind::Symlink(input.c_string()?),
                    },
                })
            })?,
            files: input.list(|input| Ok((input.c_string()?, input.bytes()?)))?,
            symlinks: input.list(|input| Ok((input.c_string()?, input.c_string()?)))?,
            identity: Identity { uid: input.number()?, gid: input.number()?, foreign: input.flag()? },
            has_uplink: input.flag()?,
            has_high_pids: input.flag()?,
            linux32: input.flag()?,
            interactive: input.flag()?,
            group: input.c_string()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_builds_as_an_id_that_nobody_has() {
        assert_eq!(best_id("         0          0 4294967295\n"), Some(FOREIGN_ID));
        assert_eq!(best_id("0 100000 65536\n"), Some(65535));
        assert_eq!(best_id("0 1000 1\n"), None);
        assert_eq!(best_id(""), None);
    }

    #[test]
    fn parents_come_before_children() {
        let mut spec =
            SandboxSpec::new("/t".into(), "/s".into(), "/nix/store".into(), Identity::of_this_process());
        spec.files.push(("/usr/share/a/b".into(), Vec::new()));
        let dirs = spec.directories();
        for (index, dir) in dirs.iter().enumerate() {
            let parent = dir.parent().expect("absolute");
            assert!(parent == Path::new("/") || dirs[..index].iter().any(|d| d == parent), "{dir:?}");
        }
    }

    #[test]
    fn a_spec_survives_its_bytes() {
        let mut spec =
            SandboxSpec::new("/t".into(), "/s".into(), "/nix/store".into(), Identity::of_this_process());
        spec.builder = b"/nix/store/x/bin/sh".to_vec();
        spec.args = vec![b"sh".to_vec(), b"-c".to_vec(), vec![0xff]];
        spec.env = vec![(b"A".to_vec(), b"b=c".to_vec())];
        let prepared = Prepared::decode(&spec.encode(&[])).expect("our own bytes");
        assert_eq!(prepared.store_dir.as_c_str(), c"nix/store");
        assert_eq!(prepared.env[0].as_c_str(), c"A=b=c");
        assert_eq!(prepared.args.len(), 3);
        assert_eq!(prepared.identity, spec.identity);
        let bytes = spec.encode(&[]);
        for cut in 0..bytes.len() {
            assert!(Prepared::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    /// Case 27: declared paths never leave the new root.
    #[test]
    fn declared_paths_are_checked() {
        let refused = [
            "etc",
            "",
            "/",
            "//",
            "/a/../../etc",
            "/a/..",
            "/..",
            "../x",
            "./x",
            "/proc",
            "/proc/sys",
            "/dev",
            "/dev/null",
            "/build/x",
            "/a\0b",
        ];
        for target in refused {
            assert!(check_target(Path::new(target)).is_err(), "{target:?}");
        }
        for target in ["/a", "/a/b", "/bin/sh", "/nix/x", "/a b", "/développement"] {
            assert_eq!(check_target(Path::new(target)), Ok(()), "{target:?}");
        }
        assert!(host_bind("/x=/no/such/file").is_err());
        assert!(host_bind("/a/../b=/etc").is_err());
        let bind = host_bind("/x/=/etc/").expect("exists");
        assert_eq!((bind.target.as_path(), bind.kind), (Path::new("/x"), BindKind::Directory));
    }
}
