//! The configuration: flags → environment → project → user → system → default.
//!
//! The first that names a key wins, and each value remembers where it came from, so that
//! `ampoule config show --origin` can say it. A key that nobody knows is an error with the name
//! that was probably meant: a typing error in a security setting must not pass in silence.

pub mod keys;
mod nix;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ampoule_lang::near::near_name;

use crate::error::{CliError, IoContext};
use ampoule_store::system_words;
use keys::{KEYS, Key, Kind};
use nix::{EvaluationAsInNix, Meaning};

/// The name of a project's configuration file.
pub const PROJECT_FILE: &str = "ampoule.toml";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody named it.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// A value of one of the [`Kind`]s.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Setting {
    /// [`Kind::Bool`].
    Bool(bool),
    /// [`Kind::Number`].
    Number(u64),
    /// [`Kind::Text`], [`Kind::Path`] and [`Kind::Word`].
    Text(String),
    /// [`Kind::List`].
    List(Vec<String>),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::List(values) => write!(f, "{values:?}"),
        }
    }
}

/// All that is configured.
#[derive(Clone, Debug, Default)]
pub struct Config {
    settings: BTreeMap<&'static str, (Setting, Origin)>,
    /// Mirrors by name: bases in the order in which they are tried.
    mirrors: BTreeMap<String, (Vec<String>, Origin)>,
    /// The project's `ampoule.toml`, if there is one.
    project_file: Option<PathBuf>,
    /// What `--option` said in Nix's words about evaluation.
    as_in_nix: EvaluationAsInNix,
}

impl Config {
    /// Reads the system's, the user's and the project's file and the environment.
    ///
    /// The project is the nearest directory from `dir` upwards that holds an `ampoule.toml`.
    ///
    /// # Errors
    /// If a file cannot be read, is not TOML, or has an unknown key or a value of the wrong kind.
    pub fn load(dir: &Path) -> Result<Self, CliError> {
        let mut config = Self::default();
        config.read_optional(&PathBuf::from("/etc/ampoule/config.toml"), false)?;
        if let Some(user) = user_file() {
            config.read_optional(&user, false)?;
        }
        let project = dir.ancestors().map(|up| up.join(PROJECT_FILE)).find(|file| file.is_file());
        if let Some(project) = project {
            config.read_optional(&project, true)?;
            config.project_file = Some(project);
        }
        config.read_environment(
            std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))),
        )?;
        Ok(config)
    }

    /// The project's `ampoule.toml`.
    pub fn project_file(&self) -> Option<&Path> {
        self.project_file.as_deref()
    }

    /// Sets `name` from `--option NAME VALUE`.
    ///
    /// # Errors
    /// If there is no such key, or `value` is not of its kind.
    pub fn set_option(&mut self, name: &str, value: &str) -> Result<(), CliError> {
        let mut value = value.to_owned();
        let key = match keys::find(name) {
            Some(key) => key,
            None => match self.as_in_nix.understand(name, &value)? {
                Some(Meaning::Key(key, meant)) => {
                    value = meant;
                    keys::find(key).expect("what Nix's settings mean are keys")
                }
                Some(Meaning::Noted | Meaning::Nothing) => return Ok(()),
                None => return Err(unknown_key(name, "on the command line")),
            },
        };
        let setting =
            setting_from_text(key, &value).map_err(|e| CliError::usage(format!("option `{name}`: {e}")))?;
        self.settings.insert(key.name, (setting, Origin::Flag));
        Ok(())
    }

    /// What `--option` said in Nix's words about evaluation.
    pub fn as_in_nix(&self) -> &EvaluationAsInNix {
        &self.as_in_nix
    }

    /// A switch.
    pub fn bool(&self, name: &str) -> bool {
        match self.settings.get(name) {
            Some((Setting::Bool(value), _)) => *value,
            _ => keys::find(name).is_some_and(|key| key.default == "true"),
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> u64 {
        match self.settings.get(name) {
            Some((Setting::Number(value), _)) => *value,
            _ => keys::find(name).and_then(|key| key.default.parse().ok()).unwrap_or(0),
        }
    }

    /// A text, a path or a word, if somebody named it.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.settings.get(name) {
            Some((Setting::Text(value), _)) => Some(value),
            _ => None,
        }
    }

    /// A list.
    pub fn list(&self, name: &str) -> &[String] {
        match self.settings.get(name) {
            Some((Setting::List(values), _)) => values,
            _ => keys::default_list(name),
        }
    }

    /// Where the value of `name` came from.
    pub fn origin(&self, name: &str) -> Origin {
        self.settings.get(name).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// The value of `key` as it is shown, the default included.
    pub fn shown(&self, key: &Key) -> String {
        match self.settings.get(key.name) {
            Some((setting, _)) => setting.to_string(),
            None => match key.kind {
                Kind::Bool | Kind::Number => key.default.to_owned(),
                Kind::List => format!("{:?}", keys::default_list(key.name)),
                _ => format!("{:?}", key.default),
            },
        }
    }

    /// The setting of `name`, if somebody named it.
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name).map(|(setting, _)| setting)
    }

    /// The configured mirrors, by name.
    pub fn mirrors(&self) -> impl Iterator<Item = (&str, &[String], &Origin)> {
        self.mirrors.iter().map(|(name, (bases, origin))| (name.as_str(), bases.as_slice(), origin))
    }

    fn read_optional(&mut self, file: &Path, project: bool) -> Result<(), CliError> {
        match std::fs::read_to_string(file) {
            Ok(text) => self.read_text(&text, file, project),
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                Err(CliError::usage(format!("`{}` is not valid TOML: it is not UTF-8", file.display())))
            }
            Err(e) => Err(e).while_doing(|| format!("cannot read the configuration `{}`", file.display())),
        }
    }

    fn read_text(&mut self, text: &str, file: &Path, project: bool) -> Result<(), CliError> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            CliError::usage(format!("`{}` is not valid TOML\n{}", file.display(), e.to_string().trim_end()))
        })?;
        for (section, value) in table {
            // What the lock command reads is checked there.
            if project && section == "debian" {
                continue;
            }
            let toml::Value::Table(entries) = value else {
                return Err(unknown_key(&section, &format!("in `{}`", file.display())));
            };
            for (name, value) in entries {
                if section == "mirrors" {
                    let bases =
                        toml_list(&value).map_err(|e| wrong_kind(file, &format!("mirrors.{name}"), &e))?;
                    self.mirrors.insert(name, (bases, Origin::File(file.to_owned())));
                    continue;
                }
                let full = format!("{section}.{name}");
                let key = keys::find(&full)
                    .ok_or_else(|| unknown_key(&full, &format!("in `{}`", file.display())))?;
                let mut setting = setting_from_toml(key, &value).map_err(|e| wrong_kind(file, &full, &e))?;
                if let (Kind::Path, Setting::Text(path)) = (key.kind, &mut setting) {
                    *path = resolve_path(path, file.parent().unwrap_or(Path::new("/")));
                }
                self.settings.insert(key.name, (setting, Origin::File(file.to_owned())));
            }
        }
        Ok(())
    }

    fn read_environment(&mut self, vars: impl Iterator<Item = (String, String)>) -> Result<(), CliError> {
        let vars: BTreeMap<String, String> = vars.filter(|(name, _)| name.starts_with("AMPOULE_")).collect();
        for key in KEYS {
            let name = key.env_name();
            if let Some(value) = vars.get(&name) {
                let setting = setting_from_text(key, value)
                    .map_err(|e| CliError::usage(format!("environment variable {name}: {e}")))?;
                self.settings.insert(key.name, (setting, Origin::Env(name)));
            }
        }
        // Others may use the prefix for themselves; what is nearly one of ours is a typing error.
        let known: Vec<String> = KEYS.iter().map(Key::env_name).collect();
        for name in vars.keys().filter(|name| !known.contains(name)) {
            if let Some(near) = near_name(name, known.iter().map(String::as_str)) {
                return Err(CliError::usage(format!(
                    "no setting belongs to the environment variable {name}"
                ))
                .hint(format!("did you mean {near}?")));
            }
        }
        Ok(())
    }
}

/// `$XDG_CONFIG_HOME/ampoule/config.toml`, or the same under `~/.config`.
fn user_file() -> Option<PathBuf> {
    xdg_dir("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("ampoule/config.toml"))
}

/// A directory of the XDG base directory specification: `variable` if it is absolute, else
/// `fallback` in the home directory; nothing without either.
pub fn xdg_dir(variable: &str, fallback: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(fallback)))
}

fn resolve_path(path: &str, dir: &Path) -> String {
    let full = match path.strip_prefix("~/") {
        Some(rest) => std::env::var_os("HOME")
            .map_or_else(|| PathBuf::from(path), |home| PathBuf::from(home).join(rest)),
        None => dir.join(path),
    };
    full.to_string_lossy().into_owned()
}

pub fn unknown_key(name: &str, place: &str) -> CliError {
    let error = CliError::usage(format!("there is no setting `{name}` ({place})"));
    match near_name(name, KEYS.iter().map(|key| key.name)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("run `ampoule config show` for all settings"),
    }
}

fn wrong_kind(file: &Path, name: &str, what: &str) -> CliError {
    CliError::usage(format!("`{}`: setting `{name}`: {what}", file.display()))
}

fn toml_list(value: &toml::Value) -> Result<Vec<String>, String> {
    let text = |value: &toml::Value| {
        value.as_str().map(str::to_owned).ok_or_else(|| format!("expected text, found {value}"))
    };
    match value {
        toml::Value::Array(values) => values.iter().map(text).collect(),
        other => Ok(vec![text(other)?]),
    }
}

fn setting_from_toml(key: &Key, value: &toml::Value) -> Result<Setting, String> {
    let wrong = |expected: &str| format!("expected {expected}, found {value}");
    match key.kind {
        Kind::Bool => value.as_bool().map(Setting::Bool).ok_or_else(|| wrong("true or false")),
        Kind::Number => value
            .as_integer()
            .and_then(|n| u64::try_from(n).ok())
            .map(Setting::Number)
            .ok_or_else(|| wrong("a number that is not negative")),
        Kind::Text | Kind::Path => {
            value.as_str().map(|s| Setting::Text(s.to_owned())).ok_or_else(|| wrong("text"))
        }
        Kind::Word(_) => setting_from_text(key, value.as_str().ok_or_else(|| wrong("text"))?),
        Kind::List => toml_list(value).map(Setting::List),
    }
}

fn setting_from_text(key: &Key, text: &str) -> Result<Setting, String> {
    match key.kind {
        Kind::Bool => match text {
            "1" | "true" | "yes" => Ok(Setting::Bool(true)),
            "0" | "false" | "no" | "" => Ok(Setting::Bool(false)),
            _ => Err(format!("expected true or false, found `{text}`")),
        },
        Kind::Number => text
            .parse()
            .map(Setting::Number)
            .map_err(|_| format!("expected a number that is not negative, found `{text}`")),
        Kind::Text => Ok(Setting::Text(text.to_owned())),
        Kind::Path => {
            let dir = std::env::current_dir().map_err(|e| system_words(&e))?;
            Ok(Setting::Text(resolve_path(text, &dir)))
        }
        Kind::Word(words) if words.contains(&text) => Ok(Setting::Text(text.to_owned())),
        Kind::Word(words) => Err(format!("expected one of {}, found `{text}`", words.join(", "))),
        Kind::List => Ok(Setting::List(text.split_whitespace().map(str::to_owned).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, CliError> {
        let mut config = Config::default();
        config.read_text(text, Path::new("/p/ampoule.toml"), true)?;
        Ok(config)
    }

    #[test]
    fn the_environment_wins_over_a_file() {
        let mut config =
            read("[build]\njobs = 3\n[mirrors]\ndebian = 'file:///m'\n[debian]\nsuite = 'x'\n").unwrap();
        assert_eq!(config.number("build.jobs"), 3);
        assert_eq!(config.origin("build.jobs").to_string(), "/p/ampoule.toml");
        config.read_environment([("AMPOULE_BUILD_JOBS".to_owned(), "5".to_owned())].into_iter()).unwrap();
        assert_eq!(config.number("build.jobs"), 5);
        assert_eq!(config.origin("build.jobs").to_string(), "environment variable AMPOULE_BUILD_JOBS");
        let misspelt =
            config.read_environment([("AMPOULE_BUILD_JOBBS".to_owned(), "5".to_owned())].into_iter());
        assert_eq!(misspelt.unwrap_err().hints, ["did you mean AMPOULE_BUILD_JOBS?"]);
        let theirs = [("AMPOULE_VERSION".to_owned(), "5".to_owned())];
        config.read_environment(theirs.into_iter()).unwrap();
        assert_eq!(config.number("fetch.jobs"), 16);
        assert_eq!(config.mirrors().next().unwrap().1, ["file:///m"]);
    }

    #[test]
    fn a_relative_path_starts_at_the_file_that_names_it() {
        assert_eq!(read("[store]\ndir = 'here'\n").unwrap().text("store.dir"), Some("/p/here"));
    }

    #[test]
    fn unknown_keys_and_wrong_kinds_are_refused_by_name() {
        let check = |text: &str, expected: &str| {
            let error = read(text).unwrap_err();
            let all = format!("{} {}", error.message, error.hints.join(" "));
            assert!(all.contains(expected), "{text}: {all}");
            assert_eq!(error.status, crate::error::ExitStatus::Usage);
        };
        check("[build]\njbos = 3\n", "`build.jobs`");
        check("[build]\njobs = -3\n", "not negative, found -3");
        check("[build]\nsandbox = 'off'\n", "one of namespaces, landlock, none, found `off`");
        check("colour = 1\n", "no setting `colour`");
        check("[build\n", "not valid TOML");
    }
}
