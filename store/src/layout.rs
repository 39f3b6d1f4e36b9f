//! Where the store lies: its directories, and the header that says what it is.
//!
//! ```text
//! ROOT/ampoule-store    header: version, logical directory
//! ROOT/store/           the objects, HASH-NAME
//! ROOT/info/            what is known about each; an object is valid if and only if it has a file here
//! ROOT/log/             build logs
//! ROOT/roots/           what to keep: links to objects, and in auto/ links to links
//! ROOT/realisations/    which path an output got whose path is not known before it is built
//! ROOT/links/           one name for each file's contents, after `optimise`
//! ROOT/outputs.lock     a byte of it is locked for each output that somebody is making
//! ROOT/leases/          one file per running process: what it needs
//! ROOT/tmp/, build/     half-made things, below the name of the lease of their process
//! ROOT/trash/           what is being deleted
//! ROOT/cache/           everything here can be thrown away
//! ```

use std::ffi::CStr;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{StoreError, StoreResult, system_words};
use crate::tree::{open_file, open_subdir};
use crate::{StoreDir, StorePath};

/// The version of the layout that this program writes.
pub const STORE_VERSION: u32 = 1;

const HEADER: &CStr = c"ampoule-store";

/// Where the store lies, as opposed to [`StoreDir`], where its objects believe to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRoot(PathBuf);

impl StoreRoot {
    /// Takes a directory, which need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns `$XDG_DATA_HOME/ampoule`, or `~/.local/share/ampoule`.
    ///
    /// # Errors
    /// If neither variable is an absolute path.
    pub fn default_for_user() -> StoreResult<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|data| Self(data.join("ampoule")))
            .ok_or_else(|| StoreError::Unsafe {
                path: "$XDG_DATA_HOME/ampoule".to_owned(),
                problem: "has no place: neither XDG_DATA_HOME nor HOME is an absolute path".to_owned(),
            })
    }

    /// Returns the directory of everything.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the directory of the objects.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Returns where an object really lies.
    #[must_use]
    pub fn object(&self, path: &StorePath) -> PathBuf {
        self.objects().join(path.as_str())
    }

    /// Returns the object that a physical path lies in, if it does.
    #[must_use]
    pub fn object_of(&self, path: &Path) -> Option<StorePath> {
        let below = path.strip_prefix(self.objects()).ok()?;
        StorePath::from_file_name(below.components().next()?.as_os_str().as_bytes()).ok()
    }
}

/// The directories, opened.
#[derive(Debug)]
pub(crate) struct Layout {
    pub root: OwnedFd,
    pub store: OwnedFd,
    pub info: OwnedFd,
    pub log: OwnedFd,
    pub roots: OwnedFd,
    pub auto_roots: OwnedFd,
    pub realisations: OwnedFd,
    pub links: OwnedFd,
    pub leases: OwnedFd,
    pub tmp: OwnedFd,
    pub build: OwnedFd,
    pub trash: OwnedFd,
    pub cache: OwnedFd,
    /// Objects were there, and no directory of info files: somebody lost it.
    pub lost_info: bool,
}

const PUBLIC: Mode = Mode::from_raw_mode(0o755);
const PRIVATE: Mode = Mode::from_raw_mode(0o700);

impl Layout {
    /// Opens the store at `root`, and makes it if it is not there.
    pub fn open(root: &StoreRoot, wanted: Option<&StoreDir>) -> StoreResult<(Self, StoreRoot, StoreDir)> {
        // Whatever the umask: others may not write to what is made here.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(PUBLIC.as_raw_mode())
            .create(root.path())
            .or_else(|e| if root.path().is_dir() { Ok(()) } else { Err(e) })
            .map_err(|e| match StoreError::io("create", root.path().as_os_str().as_bytes(), e) {
                full if full.is_disk_full() => full,
                StoreError::Io { path, error, .. } => {
                    StoreError::Unsafe { path, problem: format!("cannot be made: {}", system_words(&error)) }
                }
                other => other,
            })?;
        // The root itself may be reached through links; nothing inside of it may be one.
        let real = root
            .path()
            .canonicalize()
            .map_err(|e| StoreError::io("open", root.path().as_os_str().as_bytes(), e))?;
        let fd = open_subdir(rustix::fs::CWD, real.as_path())
            .map_err(|e| StoreError::io("open", real.as_os_str().as_bytes(), e))?;
        check_owner(&fd, &real)?;
        let dir = header(&fd, &real, wanted)?;
        let at = |name: &CStr, mode| make_dir(&fd, name, mode, &real);
        let had_store =
            rustix::fs::accessat(&fd, c"store", rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty());
        let had_info =
            rustix::fs::accessat(&fd, c"info", rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty());
        let roots = at(c"roots", PUBLIC)?;
        let layout = Self {
            store: at(c"store", PUBLIC)?,
            info: at(c"info", PUBLIC)?,
            log: at(c"log", PUBLIC)?,
            auto_roots: make_dir(&roots, c"auto", PUBLIC, &real)?,
            roots,
            realisations: at(c"realisations", PUBLIC)?,
            links: at(c"links", PUBLIC)?,
            leases: at(c"leases", PUBLIC)?,
            tmp: at(c"tmp", PRIVATE)?,
            build: at(c"build", PRIVATE)?,
            trash: at(c"trash", PRIVATE)?,
            cache: at(c"cache", PUBLIC)?,
            lost_info: had_store.is_ok() && had_info == Err(Errno::NOENT),
            root: fd,
        };
        Ok((layout, StoreRoot(real), dir))
    }
}

/// Refuses a store that another user owns or can write to.
fn check_owner(fd: &OwnedFd, path: &Path) -> StoreResult<()> {
    let stat =
        rustix::fs::fstat(fd).map_err(|e| StoreError::io("look at", path.as_os_str().as_bytes(), e))?;
    let us = rustix::process::geteuid().as_raw();
    let problem = if stat.st_uid != us {
        format!("belongs to user {}, not to you (user {us})", stat.st_uid)
    } else if stat.st_mode & 0o022 != 0 {
        format!("can be written by others (mode {:04o}): chmod go-w it", stat.st_mode & 0o7777)
    } else {
        return Ok(());
    };
    Err(StoreError::Unsafe { path: path.display().to_string(), problem })
}

fn make_dir(parent: &OwnedFd, name: &CStr, mode: Mode, root: &Path) -> StoreResult<OwnedFd> {
    let failed = |what, e: Errno| {
        let path = root.join(name.to_str().expect("our own names are ASCII"));
        match e {
            Errno::LOOP | Errno::NOTDIR => StoreError::Unsafe {
                path: path.display().to_string(),
                problem: "is not a directory; it must not be a link either".to_owned(),
            },
            e => StoreError::io(what, path.as_os_str().as_bytes(), e),
        }
    };
    match open_subdir(parent, name) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(|e| failed("open", e)),
    }
    match rustix::fs::mkdirat(parent, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(failed("create", e)),
    }
    open_subdir(parent, name).map_err(|e| failed("open", e))
}

/// Reads the header, or writes it if there is none.
fn header(root: &OwnedFd, path: &Path, wanted: Option<&StoreDir>) -> StoreResult<StoreDir> {
    let shown = || path.join("ampoule-store").display().to_string();
    let damaged = |problem: String| StoreError::Damaged { path: shown(), problem };
    if let Some(text) = read_small(root, HEADER).map_err(|e| StoreError::io("read", shown(), e))? {
        let mut lines = text.lines();
        let version = lines
            .next()
            .and_then(|l| l.strip_prefix("ampoule-store "))
            .and_then(|v| v.parse::<u32>().ok())
            .ok_or_else(|| damaged("its first line is not 'ampoule-store VERSION'".to_owned()))?;
        if version > STORE_VERSION {
            return Err(StoreError::TooNew {
                path: path.display().to_string(),
                found: version,
                known: STORE_VERSION,
            });
        }
        let dir = lines
            .next()
            .and_then(|l| l.strip_prefix("store-dir "))
            .ok_or_else(|| damaged("its second line is not 'store-dir PATH'".to_owned()))?;
        let dir = StoreDir::new(dir).map_err(|e| damaged(e.to_string()))?;
        return match wanted {
            Some(wanted) if *wanted != dir => Err(StoreError::OtherStoreDir {
                path: path.display().to_string(),
                found: dir.to_string(),
                wanted: wanted.to_string(),
            }),
            _ => Ok(dir),
        };
    }
    let dir = wanted.cloned().unwrap_or_default();
    let text = format!("ampoule-store {STORE_VERSION}\nstore-dir {dir}\n");
    match write_new(root, HEADER, text.as_bytes()) {
        // Somebody else was quicker: theirs counts.
        Err(Errno::EXIST) => header(root, path, wanted),
        other => other.map(|()| dir).map_err(|e| StoreError::io("write", shown(), e)),
    }
}

/// Reads a whole small file; nothing if it is not there.
pub(crate) fn read_small(dir: impl AsFd, name: &CStr) -> rustix::io::Result<Option<String>> {
    let fd = match open_file(dir, name) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::with_capacity(1024);
    loop {
        match rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) => {
                if bytes.len() == bytes.capacity() {
                    bytes.reserve(bytes.len());
                }
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Some(String::from_utf8(bytes).unwrap_or_default()))
}

/// Writes a file that becomes visible whole, and only if there is none by this name.
pub(crate) fn write_new(dir: &OwnedFd, name: &CStr, bytes: &[u8]) -> rustix::io::Result<()> {
    let temporary = write_temporary(dir, bytes)?;
    let linked = rustix::fs::linkat(dir, &temporary, dir, name, rustix::fs::AtFlags::empty());
    rustix::fs::unlinkat(dir, &temporary, rustix::fs::AtFlags::empty()).ok();
    linked
}

/// Writes a file that becomes visible whole, in place of what was there.
pub(crate) fn write_over(dir: &OwnedFd, name: &CStr, bytes: &[u8]) -> rustix::io::Result<()> {
    let temporary = write_temporary(dir, bytes)?;
    let renamed = rustix::fs::renameat(dir, &temporary, dir, name);
    if renamed.is_err() {
        rustix::fs::unlinkat(dir, &temporary, rustix::fs::AtFlags::empty()).ok();
    }
    renamed
}

/// A prefix that no object and no info file has.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";

fn write_temporary(dir: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<std::ffi::CString> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let name = format!("{TEMPORARY_PREFIX}{:x}-{serial}", crate::lock::noise());
    let name = std::ffi::CString::new(name).expect("no zero byte");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, &name, flags, Mode::from_raw_mode(0o644))?;
    let mut left = bytes;
    while !left.is_empty() {
        match rustix::io::write(&fd, left) {
            Ok(written) => left = &left[written..],
            Err(Errno::INTR) => {}
            Err(e) => {
                rustix::fs::unlinkat(dir, &name, rustix::fs::AtFlags::empty()).ok();
                return Err(e);
            }
        }
    }
    Ok(name)
}

/// The boot that this process runs in, so that what a power cut may have eaten can be told from
/// what is in the page cache for sure.
pub(crate) fn boot_id() -> &'static str {
    use std::sync::OnceLock;
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let mut text = String::new();
        let read = std::fs::File::open("/proc/sys/kernel/random/boot_id")
            .and_then(|mut f| f.read_to_string(&mut text));
        match read {
            Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
            _ => "unknown".to_owned(),
        }
    })
}
