//! `mirror://NAME/path`: from a name to the places that have it.
//!
//! No host of a package registry is written in this program. The bases of a name are
//! taken from the first of these that gives any:
//!
//! 1. the configuration (`[mirrors]` with lists of bases by name);
//! 2. the environment: `AMPOULE_MIRROR_DEBIAN_SECURITY`, bases with spaces between;
//! 3. what this machine is set up to use: apt's sources for `debian`,
//!    `debian-security` and other archives by the last part of their URI; cargo's
//!    configuration or index for `crates`; npm's for `npm`; pip's for `pypi`; `GOPROXY`
//!    for `go`. Where these have only a built-in default, the client is asked for it.
//!
//! Behind them, for archives of Debian and a request that knows its date, comes the
//! distribution's archive of snapshots, for files that have left the pool. Its base is
//! the name `debian-snapshot`, by the same three ways; apt's own data names it (the
//! `Snapshots` field of a Release file, or the dated URL that container images keep in a
//! comment of their sources), else it is the host `snapshot` beside the one that
//! apt's sources name, within the distribution's own domain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Where `mirror://` names lead.
#[derive(Debug, Default)]
pub struct Mirrors {
    settings: MirrorSettings,
    /// What the machine says, found once for each name.
    found: Mutex<BTreeMap<String, Vec<String>>>,
}

/// What [`Mirrors`] works from; tests give their own.
#[derive(Clone, Debug, Default)]
pub struct MirrorSettings {
    /// Bases by name, from the configuration.
    pub configured: BTreeMap<String, Vec<String>>,
    /// The environment's variables.
    pub environment: BTreeMap<String, String>,
    /// The root under which `etc/apt` and `var/lib/apt` lie; none: apt is not looked at.
    pub system_root: Option<PathBuf>,
    /// The user's home, for the clients' configurations.
    pub home: Option<PathBuf>,
    /// Whether the clients (npm, python3, go) may be run to ask for their defaults.
    pub ask_clients: bool,
}

impl MirrorSettings {
    /// Reads the environment of this process.
    pub fn from_env(configured: BTreeMap<String, Vec<String>>) -> Self {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        Self {
            configured,
            home: environment.get("HOME").map(PathBuf::from),
            environment,
            system_root: Some(PathBuf::from("/")),
            ask_clients: true,
        }
    }
}

/// The name of the archive of snapshots among the mirrors.
const SNAPSHOT: &str = "debian-snapshot";

impl Mirrors {
    /// Makes them of their settings.
    pub fn new(settings: MirrorSettings) -> Self {
        Self { settings, found: Mutex::default() }
    }

    /// Returns the URLs of `url`, in the order in which to try them: itself, unless its
    /// scheme is `mirror`.
    ///
    /// # Errors
    /// In words: a mirror URL without a path, or a name that nothing on this machine knows.
    pub fn expand(&self, url: &str, snapshot: Option<&str>) -> Result<Vec<String>, String> {
        let Some(rest) = url.strip_prefix("mirror://") else { return Ok(vec![url.to_owned()]) };
        let Some((name, path)) = rest.split_once('/').filter(|(n, p)| !n.is_empty() && !p.is_empty()) else {
            return Err(format!("`{url}` is not of the form mirror://NAME/path"));
        };
        if path.split('/').any(|part| part == "..") {
            return Err(format!("`{url}` leads upwards"));
        }
        let mut urls: Vec<String> = self.bases(name).iter().map(|base| join(base, path)).collect();
        if let Some(date) = snapshot.filter(|_| name == "debian" || name.starts_with("debian-")) {
            if !is_date(date) {
                return Err(format!("snapshot `{date}` is not of the form YYYYMMDDThhmmssZ"));
            }
            urls.extend(
                self.bases(SNAPSHOT).iter().map(|base| join(base, &format!("archive/{name}/{date}/{path}"))),
            );
        }
        let mut seen = std::collections::BTreeSet::new();
        urls.retain(|url| seen.insert(url.clone()));
        if urls.is_empty() { Err(unknown(name)) } else { Ok(urls) }
    }

    /// Returns the bases of `name`.
    pub fn bases(&self, name: &str) -> Vec<String> {
        if let Some(bases) = self.settings.configured.get(name) {
            return bases.clone();
        }
        // An empty variable switches the name off.
        if let Some(bases) = self.settings.environment.get(&variable(name)) {
            return bases.split_whitespace().map(str::to_owned).collect();
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bases) = found.get(name) {
            return bases.clone();
        }
        let bases = self.settings.of_machine(name);
        found.insert(name.to_owned(), bases.clone());
        bases
    }
}

fn variable(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    format!("AMPOULE_MIRROR_{}", upper.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

fn unknown(name: &str) -> String {
    let client = match name {
        "crates" => "run `cargo fetch` once, whose index says it, or ",
        "npm" => "install npm, which says it, or ",
        "pypi" => "install pip, which says it, or ",
        "go" => "install go, which says it, or ",
        _ => "",
    };
    format!(
        "nothing on this machine says where mirror `{name}` is; {client}set {}=https://… or `mirrors.{name} = [\"https://…\"]` in the configuration",
        variable(name)
    )
}

fn join(base: &str, path: &str) -> String {
    format!("{}/{path}", base.trim_end_matches('/'))
}

/// Returns whether `text` is like `20260711T101637Z`.
fn is_date(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    text.len() == 16
        && digits(&text[..8])
        && &text[8..9] == "T"
        && digits(&text[9..15])
        && text.ends_with('Z')
}

impl MirrorSettings {
    fn of_machine(&self, name: &str) -> Vec<String> {
        match name {
            "crates" => self.crates(),
            "npm" => self.npm(),
            "pypi" => self.pypi(),
            "go" => self.go(),
            SNAPSHOT => self.snapshot(),
            archive => {
                let sources = self.apt_sources();
                let mut bases: Vec<String> = Vec::new();
                for source in sources.iter().filter(|source| source.archive() == Some(archive)) {
                    if !bases.contains(&source.uri) {
                        bases.push(source.uri.clone());
                    }
                }
                bases
            }
        }
    }

    fn variable(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .find_map(|name| self.environment.get(*name))
            .map(|value| value.trim())
            .filter(|v| !v.is_empty())
    }

    fn read_home(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.home.as_ref()?.join(path)).ok()
    }

    /// Returns what a client says when it is asked for its default.
    fn ask(&self, program: &str, arguments: &[&str]) -> Option<String> {
        if !self.ask_clients {
            return None;
        }
        let output =
            Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let line = text.lines().next()?.trim();
        (output.status.success() && !line.is_empty()).then(|| line.to_owned())
    }
}

// ---- apt -------------------------------------------------------------------------------

/// One base of apt's sources.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AptSource {
    uri: String,
    suites: Vec<String>,
}

impl AptSource {
    /// Returns which archive it is: security suites of Debian are one of their own, even
    /// where they have a host to themselves; else the last part of the URI says.
    fn archive(&self) -> Option<&str> {
        let last = self.uri.trim_end_matches('/').rsplit('/').next().filter(|part| !part.contains('.'));
        let secure = |suite: &String| suite.ends_with("-security") || suite.ends_with("/updates");
        match last {
            Some("debian") | None if self.suites.iter().any(secure) => Some("debian-security"),
            last => last,
        }
    }
}

impl MirrorSettings {
    /// Reads `sources.list`, `sources.list.d/*.list` (one line each) and `*.sources`
    /// (deb822), in apt's order.
    fn apt_sources(&self) -> Vec<AptSource> {
        let mut sources = Vec::new();
        for (path, text) in self.apt_files() {
            let found = if path.extension().is_some_and(|e| e == "sources") {
                deb822(&text)
            } else {
                one_line(&text)
            };
            for source in found {
                self.resolve_list(source, &mut sources);
            }
        }
        sources
    }

    fn apt_files(&self) -> Vec<(PathBuf, String)> {
        let Some(root) = &self.system_root else { return Vec::new() };
        let apt = root.join("etc/apt");
        let mut paths = vec![apt.join("sources.list")];
        let parts =
            std::fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten().map(|e| e.path());
        let mut parts: Vec<_> =
            parts.filter(|p| p.extension().is_some_and(|e| e == "list" || e == "sources")).collect();
        parts.sort();
        paths.extend(parts);
        paths
            .into_iter()
            .filter_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)))
            .collect()
    }

    /// Keeps a source whose URI we can fetch; `mirror+file:` is a file of such URIs.
    fn resolve_list(&self, source: AptSource, sources: &mut Vec<AptSource>) {
        let fetchable = |uri: &str| ["http://", "https://", "file:"].iter().any(|s| uri.starts_with(s));
        if let Some(path) = source.uri.strip_prefix("mirror+file:") {
            let root = self.system_root.as_deref().unwrap_or(Path::new("/"));
            let text = std::fs::read_to_string(root.join(path.trim_start_matches('/'))).unwrap_or_default();
            let uris =
                text.lines().filter_map(|line| line.split_whitespace().next()).filter(|uri| fetchable(uri));
            sources.extend(uris.map(|uri| AptSource { uri: uri.to_owned(), suites: source.suites.clone() }));
        } else if let Some(path) =
            source.uri.strip_prefix("copy:").or_else(|| source.uri.strip_prefix("file:"))
        {
            let uri = format!("file:///{}", path.trim_start_matches('/'));
            sources.push(AptSource { uri, ..source });
        } else if fetchable(&source.uri) {
            sources.push(source);
        }
    }

    fn snapshot(&self) -> Vec<String> {
        let mut bases = Vec::new();
        let mut add = |base: String| {
            if !bases.contains(&base) {
                bases.push(base);
            }
        };
        for text in self.release_files() {
            let field = text.lines().take(40).find_map(|line| line.strip_prefix("Snapshots:"));
            if let Some((base, _)) = field.and_then(|url| url.trim().split_once("/archive/")) {
                add(base.to_owned());
            }
        }
        for (_, text) in self.apt_files() {
            for line in text.lines().filter_map(|line| line.trim().strip_prefix('#')) {
                let url = line.split_whitespace().find(|word| word.starts_with("http"));
                let parts = url.and_then(|url| url.split_once("/archive/"));
                let dated = |rest: &str| rest.split('/').nth(1).is_some_and(is_date);
                if let Some((base, _)) = parts.filter(|(_, rest)| dated(rest)) {
                    add(base.to_owned());
                }
            }
        }
        if bases.is_empty() {
            bases.extend(self.apt_sources().iter().find_map(|source| sibling(&source.uri)));
        }
        bases
    }

    fn release_files(&self) -> Vec<String> {
        let Some(root) = &self.system_root else { return Vec::new() };
        let lists = std::fs::read_dir(root.join("var/lib/apt/lists")).into_iter().flatten().flatten();
        let mut paths: Vec<_> =
            lists.map(|e| e.path()).filter(|p| p.to_string_lossy().ends_with("Release")).collect();
        paths.sort();
        paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
    }
}

/// Returns the base of the host `snapshot` in the domain of `uri`'s host, if that domain
/// is Debian's own: its name is the archive's name. A mirror elsewhere has no such host.
fn sibling(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let host = rest.split('/').next()?;
    let (_, domain) = host.split_once('.')?;
    let own = domain.split('.').next() == Some("debian") && domain.split('.').count() == 2;
    own.then(|| format!("https://snapshot.{domain}"))
}

/// Reads `deb [options] URI suite components…` lines.
fn one_line(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb-src").or_else(|| line.strip_prefix("deb")) else { continue };
        if !rest.starts_with(char::is_whitespace) {
            continue;
        }
        let rest = rest.trim_start();
        let rest =
            if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest) } else { rest };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            sources.push(AptSource { uri: uri.to_owned(), suites: vec![suite.to_owned()] });
        }
    }
    sources
}

/// Reads stanzas of fields; `URIs` and `Suites` are lists.
fn deb822(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            let enabled = fields
                .get("enabled")
                .is_none_or(|v| !matches!(v.to_ascii_lowercase().as_str(), "no" | "false" | "0"));
            let words = |name: &str| -> Vec<String> {
                fields
                    .get(name)
                    .map(|v| v.split_whitespace().map(str::to_owned).collect())
                    .unwrap_or_default()
            };
            if enabled {
                let suites = words("suites");
                sources
                    .extend(words("uris").into_iter().map(|uri| AptSource { uri, suites: suites.clone() }));
            }
            fields.clear();
        } else if line.starts_with('#') {
            // A comment may stand within a field.
        } else if line.starts_with(char::is_whitespace) {
            let value = fields.entry(last.clone()).or_default();
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            last = name.trim().to_ascii_lowercase();
            fields.insert(last.clone(), value.trim().to_owned());
        }
    }
    sources
}

// ---- language registries ---------------------------------------------------------------

impl MirrorSettings {
    /// `mirror://crates/NAME/VERSION/download`: what the index that cargo uses says.
    fn crates(&self) -> Vec<String> {
        let cargo = self.environment.get("CARGO_HOME").map(PathBuf::from);
        let Some(cargo) = cargo.or_else(|| Some(self.home.as_ref()?.join(".cargo"))) else {
            return Vec::new();
        };
        let indexes = std::fs::read_dir(cargo.join("registry/index")).into_iter().flatten().flatten();
        let mut paths: Vec<_> =
            indexes.map(|e| e.path().join("config.json")).filter(|p| p.exists()).collect();
        // The default registry's directory first, where there are several.
        paths.sort_by_key(|path| (!path.to_string_lossy().contains("index/index."), path.clone()));
        let downloads = paths.iter().filter_map(|path| {
            let text = std::fs::read(path).ok()?;
            let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
            // Templates with markers have another shape than a base.
            json.get("dl")?.as_str().filter(|dl| !dl.contains('{')).map(str::to_owned)
        });
        downloads.collect()
    }

    /// `mirror://npm/NAME/-/NAME-VERSION.tgz`.
    fn npm(&self) -> Vec<String> {
        let variable = self.variable(&["NPM_CONFIG_REGISTRY", "npm_config_registry"]).map(str::to_owned);
        let file = || {
            let text = self.read_home(".npmrc")?;
            text.lines().find_map(|line| {
                Some(line.trim().strip_prefix("registry")?.trim_start().strip_prefix('=')?.trim().to_owned())
            })
        };
        let asked = || self.ask("npm", &["config", "get", "registry"]);
        variable.or_else(file).or_else(asked).into_iter().collect()
    }

    /// `mirror://pypi/packages/…`: the index's own files; pip's default keeps them elsewhere.
    fn pypi(&self) -> Vec<String> {
        let of_index = |url: &str| url.trim_end_matches('/').trim_end_matches("/simple").to_owned();
        let variable = self.variable(&["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"]).map(of_index);
        let file = || {
            let own = [".config/pip/pip.conf", ".pip/pip.conf"].iter().find_map(|path| self.read_home(path));
            let system = || std::fs::read_to_string(self.system_root.as_ref()?.join("etc/pip.conf")).ok();
            let index = |text: String| {
                text.lines().find_map(|line| {
                    Some(of_index(
                        line.trim().strip_prefix("index-url")?.trim_start().strip_prefix('=')?.trim(),
                    ))
                })
            };
            own.and_then(index).or_else(|| system().and_then(index))
        };
        let asked = || {
            let program = "from pip._internal.models.index import PyPI as p; print(p.url, 'https://' + p.file_storage_domain)";
            self.ask("python3", &["-c", program])
        };
        // Pip's own default: pages are at one host, files at another.
        let both = |asked: String| asked.split(' ').map(str::to_owned).collect();
        variable.or_else(file).map(|index| vec![index]).or_else(|| asked().map(both)).unwrap_or_default()
    }

    /// `mirror://go/MODULE/@v/VERSION.zip`.
    fn go(&self) -> Vec<String> {
        let list =
            self.variable(&["GOPROXY"]).map(str::to_owned).or_else(|| self.ask("go", &["env", "GOPROXY"]));
        let list = list.unwrap_or_default();
        list.split([',', '|']).map(str::trim).filter(|p| p.contains("://")).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, MirrorSettings) {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a file lies somewhere")).expect("room");
            std::fs::write(path, text).expect("room");
        }
        let settings = MirrorSettings {
            system_root: Some(root.path().to_owned()),
            home: Some(root.path().join("home")),
            ..MirrorSettings::default()
        };
        (root, settings)
    }

    fn expand(settings: &MirrorSettings, url: &str, date: Option<&str>) -> Vec<String> {
        Mirrors::new(settings.clone()).expand(url, date).expect("a known mirror")
    }

    #[test]
    fn both_formats_of_apt_sources() {
        let (_root, settings) = machine(&[
            (
                "etc/apt/sources.list",
                "# deb http://no.example/debian x main\ndeb [arch=amd64 signed-by=/k] http://a.example/debian/ bookworm main # c\n\
                 deb-src http://a.example/debian bookworm main\ndeb http://sec.example/ bookworm/updates main\ndebug x y",
            ),
            (
                "etc/apt/sources.list.d/d.sources",
                "Types: deb\nURIs: https://b.example/debian\n https://c.example/debian\n# note\nSuites: trixie\nComponents: main\n\n\
                 Enabled: no\nURIs: http://off.example/debian\nSuites: x\n\n\
                 URIs: http://d.example/debian-security\nSuites: trixie-security\n\nURIs: cdrom:[x]/\nSuites: y\n",
            ),
            ("etc/apt/sources.list.d/m.list", "deb mirror+file:/etc/apt/mirrors.txt bookworm main"),
            ("etc/apt/mirrors.txt", "http://m1.example/debian priority:1\nftp://no.example/debian\n"),
            ("etc/apt/sources.list.d/f.list", "deb file:/srv/mirror/debian stable main"),
            ("etc/apt/sources.list.d/ignored.bak", "deb http://no.example/debian x main"),
        ]);
        assert_eq!(
            expand(&settings, "mirror://debian/pool/x.deb", None),
            [
                "http://a.example/debian/pool/x.deb",
                "https://b.example/debian/pool/x.deb",
                "https://c.example/debian/pool/x.deb",
                "file:///srv/mirror/debian/pool/x.deb",
                "http://m1.example/debian/pool/x.deb",
            ]
        );
        assert_eq!(
            expand(&settings, "mirror://debian-security/p", None),
            ["http://sec.example/p", "http://d.example/debian-security/p"]
        );
    }

    #[test]
    fn configuration_then_environment_then_machine() {
        let (_root, mut settings) =
            machine(&[("etc/apt/sources.list", "deb http://a.example/debian s main")]);
        assert_eq!(expand(&settings, "mirror://debian/x", None), ["http://a.example/debian/x"]);
        settings
            .environment
            .insert("AMPOULE_MIRROR_DEBIAN".to_owned(), "http://e1.example/d/ file:///srv/d".to_owned());
        assert_eq!(
            expand(&settings, "mirror://debian/x", None),
            ["http://e1.example/d/x", "file:///srv/d/x"]
        );
        settings.configured.insert("debian".to_owned(), vec!["http://c.example".to_owned()]);
        assert_eq!(expand(&settings, "mirror://debian/x", None), ["http://c.example/x"]);
        assert_eq!(expand(&settings, "https://plain.example/x", None), ["https://plain.example/x"]);
    }

    #[test]
    fn unknown_names_say_what_to_set() {
        let mirrors = Mirrors::new(MirrorSettings::default());
        let error = mirrors.expand("mirror://debian-security/x", None).expect_err("nothing is known");
        assert!(error.contains("set AMPOULE_MIRROR_DEBIAN_SECURITY=https://"), "{error}");
        for bad in ["mirror://debian", "mirror:///x", "mirror://debian/../x"] {
            assert!(mirrors.expand(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn snapshots_come_last_and_need_a_date() {
        let date = Some("20260711T101637Z");
        let (_root, settings) = machine(&[
            ("etc/apt/sources.list", "deb http://a.example/debian s main"),
            (
                "var/lib/apt/lists/x_InRelease",
                "Origin: D\nSnapshots: https://s.example/archive/debian/@SNAPSHOTID@/\n",
            ),
        ]);
        assert_eq!(
            expand(&settings, "mirror://debian/pool/x", date),
            ["http://a.example/debian/pool/x", "https://s.example/archive/debian/20260711T101637Z/pool/x"]
        );
        assert_eq!(expand(&settings, "mirror://debian/pool/x", None).len(), 1);
        assert!(Mirrors::new(settings.clone()).expand("mirror://debian/x", Some("yesterday")).is_err());
        let (_root, settings) = machine(&[(
            "etc/apt/sources.list.d/d.sources",
            "# http://t.example/archive/debian/20250520T000000Z\nURIs: http://a.example/debian-security\nSuites: s\n",
        )]);
        assert_eq!(
            expand(&settings, "mirror://debian-security/x", date)[1],
            "http://t.example/archive/debian-security/20260711T101637Z/x"
        );
        // Switched off by name.
        let mut off = settings.clone();
        off.environment.insert("AMPOULE_MIRROR_DEBIAN_SNAPSHOT".to_owned(), String::new());
        assert_eq!(expand(&off, "mirror://debian-security/x", date).len(), 1);
    }

    #[test]
    fn only_the_distributions_own_domain_has_a_sibling() {
        assert_eq!(sibling("http://ftp.debian.test/debian").as_deref(), Some("https://snapshot.debian.test"));
        for other in [
            "http://debian.mirror.example/debian",
            "http://ftp.de.debian.test/debian",
            "http://debian/",
            "file:///x",
        ] {
            assert_eq!(sibling(other), None, "{other}");
        }
    }

    #[test]
    fn registries_by_their_clients_configuration() {
        let (_root, mut settings) = machine(&[
            (
                "home/.cargo/registry/index/index.example-1/config.json",
                r#"{"dl":"https://k.example/crates","api":"x"}"#,
            ),
            ("home/.npmrc", "fund=false\nregistry = https://n.example/npm/\n"),
            ("home/.config/pip/pip.conf", "[global]\ncert = x\nindex-url = https://p.example/root/simple/\n"),
        ]);
        settings.environment.insert("GOPROXY".to_owned(), "https://g.example,direct".to_owned());
        assert_eq!(
            expand(&settings, "mirror://crates/fnv/1.0.7/download", None),
            ["https://k.example/crates/fnv/1.0.7/download"]
        );
        assert_eq!(
            expand(&settings, "mirror://npm/x/-/x-1.tgz", None),
            ["https://n.example/npm/x/-/x-1.tgz"]
        );
        assert_eq!(
            expand(&settings, "mirror://pypi/packages/x.whl", None),
            ["https://p.example/root/packages/x.whl"]
        );
        assert_eq!(expand(&settings, "mirror://go/m/@v/v1.zip", None), ["https://g.example/m/@v/v1.zip"]);
    }
}
