//! `ampoule lock`: from the names in `ampoule.toml` to exact bytes in `ampoule.lock`.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ampoule_net::{Client, ClientConfig, Request};
use ampoule_packages::debian::{Kept, Keyring};
use ampoule_packages::locking::Refresh;
use ampoule_packages::{
    Archive, ArchiveError, Change, DebianSection, LockError, LockFile, Locked, LockingError, NewerVersion,
    lock_debian, security_updates,
};
use ampoule_realise::fetch::{MirrorSettings, Mirrors};
use sha2::{Digest, Sha256};

use crate::args::GlobalArgs;
use crate::config::Config;
use crate::error::{CliError, ExitStatus, IoContext};
use crate::lockfile;
use crate::ui::Ui;

/// Where a Debian machine keeps the keys of its archive.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// No index is larger.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// Resolve the packages that ampoule.toml names, and write ampoule.lock
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ampoule lock                        write what is missing; what is locked stays
  ampoule lock --check                only say whether the lock fits (exit code 4 if not)
  ampoule lock --update openssl       take a newer openssl, and nothing else
  ampoule lock --update               take the newest of everything
  ampoule lock --security             list the security updates that there are")]
pub struct Args {
    /// Change nothing; say whether the lock fits ampoule.toml
    #[arg(long, conflicts_with_all = ["update", "security"])]
    check: bool,

    /// Take newer versions: of these packages, or of all
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with = "security", add = crate::candidates::locked_packages())]
    update: Option<Vec<String>>,

    /// Change nothing; list the packages of which the security archive has a newer version
    #[arg(long)]
    security: bool,
}

pub fn run(args: &Args, global: &GlobalArgs, ui: &Ui) -> Result<ExitStatus, CliError> {
    let config = global.config()?;
    let file = config.project_file().ok_or_else(|| {
        CliError::usage("there is no ampoule.toml here or above")
            .hint("write one that says `[debian]`, `suite = \"bookworm\"` and `packages.run = [ … ]`")
    })?;
    let section = lockfile::read_section(file)?.ok_or_else(|| {
        CliError::usage(format!("`{}` has no `[debian]`", file.display()))
            .hint("name a suite, and what is wanted of it under `[debian.packages]`")
    })?;
    let lock_path = file.with_file_name("ampoule.lock");
    let old = lockfile::read(&lock_path)?;
    if args.check {
        return check(old, &section, ui);
    }
    let archive = MirrorArchive::new(&config)?;
    let keyring = read_keyring(&section, file)?;
    if args.security {
        let lock = lockfile::usable(old, &section)?;
        let newer = security_updates(&section, &keyring, &archive, &lock)
            .map_err(|error| failure(&error, archive.offline))?;
        return tell_newer(&newer, ui);
    }
    let refresh = match &args.update {
        None => Refresh::Keep,
        Some(names) if names.is_empty() => Refresh::All,
        Some(names) => Refresh::Names(names.clone()),
    };
    let old = old.ok().flatten();
    if refresh == Refresh::Keep && old.as_ref().is_some_and(|lock| lock.check(&section).is_ok()) {
        ui.note("ampoule.lock is up to date");
        if ui.json() {
            ui.print_json(&serde_json::json!({ "changes": [], "choices": [] }))?;
        }
        return Ok(ExitStatus::Success);
    }
    if let (Refresh::Names(names), Some(lock)) = (&refresh, &old) {
        for name in names {
            if !lock.packages.iter().any(|package| package.name == *name || package.source == *name) {
                return Err(CliError::usage(format!(
                    "`{name}` is not in ampoule.lock, neither as package nor as source"
                )));
            }
        }
    }
    let locked = lock_debian(&section, &keyring, &archive, old.as_ref(), &refresh)
        .map_err(|error| failure(&error, archive.offline))?;
    write_replacing(&lock_path, &locked.lock.to_text())?;
    tell_locked(&locked, old.as_ref(), ui)?;
    Ok(ExitStatus::Success)
}

fn tell_newer(newer: &[NewerVersion], ui: &Ui) -> Result<ExitStatus, CliError> {
    if ui.json() {
        let row = |one: &NewerVersion| {
            serde_json::json!({
                "name": one.name, "source": one.source, "locked": one.locked, "available": one.available,
                "usedIn": one.used_in,
            })
        };
        ui.print_json(&newer.iter().map(row).collect::<Vec<_>>())?;
        return Ok(ExitStatus::Success);
    }
    for one in newer {
        let used_in = one.used_in.join(", ");
        ui.print(format!("{} {} -> {} ({used_in})", one.name, one.locked, one.available))?;
    }
    if newer.is_empty() {
        ui.note("no security update is missing");
    }
    Ok(ExitStatus::Success)
}

/// Says what was chosen, and what is different now.
fn tell_locked(locked: &Locked, old: Option<&LockFile>, ui: &Ui) -> Result<(), CliError> {
    let lock = &locked.lock;
    for note in &locked.notes {
        ui.warn(note);
    }
    for (platform, use_name, choice) in &locked.choices {
        ui.note(&format!(
            "{platform}/{use_name}: {} needs `{}`: chose {} (else {}); pin by naming another under `packages.{use_name}`",
            choice.package,
            choice.clause,
            choice.chosen,
            choice.others.join(", "),
        ));
    }
    let changes = old.map(|old| lock.changes_since(old)).unwrap_or_default();
    for change in &changes {
        let Change { platform, use_name, name, .. } = change;
        ui.note(&match (&change.before, &change.after) {
            (Some(before), Some(after)) => format!("{platform}/{use_name}: {name} {before} -> {after}"),
            (None, Some(after)) => format!("{platform}/{use_name}: {name} {after} is new"),
            (before, None) => {
                format!("{platform}/{use_name}: {name} {} is gone", before.as_deref().unwrap_or(""))
            }
        });
    }
    let size_bytes: u64 = lock.packages.iter().map(|package| package.size).sum();
    ui.note(&format!(
        "locked {} packages, {:.1} MB, of {} as of {}",
        lock.packages.len(),
        size_bytes as f64 / 1e6,
        lock.debian.suite,
        lock.debian.date
    ));
    if ui.json() {
        let choices = locked.choices.iter().map(|(platform, use_name, choice)| {
            serde_json::json!({
                "platform": platform, "use": use_name, "package": choice.package, "clause": choice.clause,
                "chosen": choice.chosen, "others": choice.others,
            })
        });
        let changes = changes.iter().map(|change| {
            serde_json::json!({
                "platform": change.platform, "use": change.use_name, "name": change.name, "before": change.before,
                "after": change.after,
            })
        });
        ui.print_json(&serde_json::json!({
            "packages": lock.packages.len(), "sizeBytes": size_bytes, "suite": lock.debian.suite,
            "date": lock.debian.date, "choices": choices.collect::<Vec<_>>(), "changes": changes.collect::<Vec<_>>(),
        }))?;
    }
    Ok(())
}

fn check(
    old: Result<Option<LockFile>, LockError>,
    section: &DebianSection,
    ui: &Ui,
) -> Result<ExitStatus, CliError> {
    lockfile::usable(old, section)?;
    if ui.json() {
        ui.print_json(&serde_json::json!({ "fits": true }))?;
    }
    ui.note("ampoule.lock fits ampoule.toml");
    Ok(ExitStatus::Success)
}

fn read_keyring(section: &DebianSection, manifest: &Path) -> Result<Keyring, CliError> {
    let path = match &section.keyring {
        Some(path) => manifest.parent().unwrap_or(Path::new(".")).join(path),
        None => PathBuf::from(DEBIAN_KEYRING),
    };
    let bytes = std::fs::read(&path).map_err(|error| {
        CliError::failed(format!("cannot read the keyring `{}`: {error}", path.display())).hint(
            "install the package debian-archive-keyring, or name a file as `debian.keyring` in ampoule.toml",
        )
    })?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(wanted) = &section.keyring_sha256
        && !wanted.eq_ignore_ascii_case(&found)
    {
        return Err(CliError::new(
            ExitStatus::HashMismatch,
            format!("the keyring `{}` has SHA-256 {found}, ampoule.toml says {wanted}", path.display()),
        ));
    }
    Keyring::read(&bytes).map_err(|error| CliError::failed(format!("`{}`: {error}", path.display())))
}

fn failure(error: &LockingError, offline: bool) -> CliError {
    let status = match error {
        LockingError::Archive(_) => ExitStatus::Fetch,
        LockingError::BadIndex { .. } => ExitStatus::HashMismatch,
        LockingError::Release { .. } | LockingError::Expired { .. } | LockingError::Older { .. } => {
            ExitStatus::Policy
        }
        LockingError::Resolve { .. } => ExitStatus::Evaluation,
    };
    let told = CliError::new(status, error.to_string());
    match error {
        LockingError::Archive(_) if offline => told,
        LockingError::Archive(_) => {
            told.hint("set `mirrors.debian` in the configuration to a base that can be reached")
        }
        LockingError::Release { .. } => {
            told.hint("name the file of the archive's keys as `debian.keyring` in ampoule.toml")
        }
        _ => told,
    }
}

fn write_replacing(path: &Path, text: &str) -> Result<(), CliError> {
    let doing = || format!("cannot write `{}`", path.display());
    let part = path.with_extension("lock.part");
    std::fs::write(&part, text).while_doing(doing)?;
    std::fs::rename(&part, path).while_doing(doing)
}

/// Archives by the machine's mirrors; indexes are remembered in the user's cache.
struct MirrorArchive {
    /// Made when it is needed: to read the system's certificates takes longer than to resolve.
    client: OnceLock<Client>,
    mirrors: Mirrors,
    cache: Option<PathBuf>,
    offline: bool,
}

impl MirrorArchive {
    fn new(config: &Config) -> Result<Self, CliError> {
        let configured = config.mirrors().map(|(name, bases, _)| (name.to_owned(), bases.to_vec())).collect();
        let mirrors = Mirrors::new(MirrorSettings::from_env(configured));
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .map(|dir| dir.join("ampoule/debian"));
        Ok(Self { client: OnceLock::new(), mirrors, cache, offline: config.bool("fetch.offline") })
    }

    fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        if let Some(path) = url.strip_prefix("file://") {
            return std::fs::read(path).map_err(|error| error.to_string());
        }
        if self.offline {
            return Err("--offline forbids to fetch it".to_owned());
        }
        let request = Request::get(url).map_err(|error| error.to_string())?;
        let client = self.client.get_or_init(|| Client::new(ClientConfig::from_env()));
        let response = client.send(&request).and_then(|response| response.error_for_status());
        response.and_then(|response| response.bytes(MAX_FILE_BYTES)).map_err(|error| error.to_string())
    }
}

impl Archive for MirrorArchive {
    fn fetch(&self, archive: &str, path: &str, sha256: Option<&str>) -> Result<Vec<u8>, ArchiveError> {
        let mut reasons = Vec::new();
        for base in self.mirrors.bases(archive) {
            let url = format!("{}/{path}", base.trim_end_matches('/'));
            match self.get(&url) {
                Ok(bytes) => {
                    let found: String =
                        Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                    match sha256 {
                        Some(wanted) if wanted != found => {
                            reasons.push(format!("{base}: its SHA-256 is {found}, not {wanted}"))
                        }
                        _ => return Ok(bytes),
                    }
                }
                Err(reason) => reasons.push(format!("{base}: {reason}")),
            }
        }
        let reason =
            if reasons.is_empty() { "no mirror is known for it".to_owned() } else { reasons.join("; ") };
        Err(ArchiveError { archive: archive.to_owned(), path: path.to_owned(), reason })
    }

    fn cached(&self, key: &str) -> Option<Box<dyn Kept>> {
        let file = std::fs::File::open(self.cache.as_ref()?.join(key)).ok()?;
        let len_bytes = file.metadata().ok()?.len();
        Some(Box::new(CachedFile { file, len_bytes }))
    }

    fn keep(&self, key: &str, parts: &[&[u8]]) {
        let Some(dir) = &self.cache else { return };
        let part = dir.join(format!("{key}.{}", std::process::id()));
        let write = || {
            std::fs::create_dir_all(dir)?;
            let mut file = std::fs::File::create(&part)?;
            parts.iter().try_for_each(|bytes| file.write_all(bytes))?;
            std::fs::rename(&part, dir.join(key))
        };
        // A cache that cannot be written costs time, nothing else.
        if write().is_err() {
            let _ = std::fs::remove_file(&part);
        }
    }

    fn forget(&self, key: &str) {
        if let Some(dir) = &self.cache {
            let _ = std::fs::remove_file(dir.join(key));
        }
    }

    fn now(&self) -> Option<String> {
        Some(jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string())
    }
}

/// A file of the cache.
struct CachedFile {
    file: std::fs::File,
    len_bytes: u64,
}

impl Kept for CachedFile {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}
