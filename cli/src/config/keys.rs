//! Every key of the configuration: one table feeds the reader, the environment, `config show` and
//! the manual.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number that is not negative.
    Number,
    /// Any text.
    Text,
    /// A path; relative ones start at the file that names them.
    Path,
    /// Several texts; one text is a list of one. In the environment they stand apart by white space.
    List,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name, `section.key`.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its value if nobody says otherwise, as it is shown.
    pub default: &'static str,
    /// What it does: one or two sentences.
    pub doc: &'static str,
}

impl Key {
    /// The name of its environment variable: `AMPOULE_BUILD_MAX_SILENT` for `build.max-silent`.
    pub fn env_name(&self) -> String {
        let tail = self.name.replace(['.', '-'], "_").to_uppercase();
        format!("AMPOULE_{tail}")
    }
}

/// Finds a key by its name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// All keys, by name.
pub const KEYS: &[Key] = &[
    Key {
        name: "build.cores",
        kind: Kind::Number,
        default: "0",
        doc: "Processors that one build may use, told to it as NIX_BUILD_CORES. 0 is all of them.",
    },
    Key {
        name: "build.jobs",
        kind: Kind::Number,
        default: "0",
        doc: "Builds that run at the same time. 0 is one for each processor.",
    },
    Key {
        name: "build.keep-failed",
        kind: Kind::Bool,
        default: "false",
        doc: "Keeps the build directory of a failed build and says where it is.",
    },
    Key {
        name: "build.keep-going",
        kind: Kind::Bool,
        default: "false",
        doc: "Goes on with everything that does not depend on what failed.",
    },
    Key {
        name: "build.max-log",
        kind: Kind::Number,
        default: "0",
        doc: "Bytes of log after which a build is stopped. 0 is no limit.",
    },
    Key {
        name: "build.max-memory",
        kind: Kind::Number,
        default: "0",
        doc: "Bytes of memory that a build may have as a whole. Needs a part of the cgroup v2 tree that is delegated to you. 0 is no limit.",
    },
    Key {
        name: "build.max-processes",
        kind: Kind::Number,
        default: "0",
        doc: "Processes and threads that a build may have at a time, as a whole. Needs a part of the cgroup v2 tree that is delegated to you. 0 is no limit.",
    },
    Key {
        name: "build.max-silent",
        kind: Kind::Number,
        default: "0",
        doc: "Seconds without a line of log after which a build is stopped. 0 is no limit.",
    },
    Key {
        name: "build.network-builders",
        kind: Kind::Bool,
        default: "false",
        doc: "Lets fixed-output derivations with a builder of their own reach the network.",
    },
    Key {
        name: "build.sandbox",
        kind: Kind::Word(&["namespaces", "landlock", "none"]),
        default: "namespaces",
        doc: "The wall around a build. `landlock` and `none` are weaker, are recorded with the result, and are never fallen back to.",
    },
    Key {
        name: "build.system",
        kind: Kind::Text,
        default: "this machine's",
        doc: "The system that `builtins.currentSystem` names, such as `x86_64-linux`.",
    },
    Key {
        name: "build.system-features",
        kind: Kind::List,
        default: "benchmark big-parallel nixos-test",
        doc: "What derivations may ask for in `requiredSystemFeatures`.",
    },
    Key {
        name: "build.timeout",
        kind: Kind::Number,
        default: "0",
        doc: "Seconds after which a build is stopped. 0 is no limit.",
    },
    Key {
        name: "eval.import-from-derivation",
        kind: Kind::Bool,
        default: "false",
        doc: "Lets evaluation read what must be built first.",
    },
    Key {
        name: "eval.max-depth",
        kind: Kind::Number,
        default: "0",
        doc: "How deep calls may nest. 0 is as deep as the evaluator's stack allows.",
    },
    Key {
        name: "eval.path",
        kind: Kind::List,
        default: "",
        doc: "Where `<name>` is looked up: `name=path` or a directory, as with `-I`.",
    },
    Key { name: "eval.pipe-operators", kind: Kind::Bool, default: "false", doc: "Reads `|>` and `<|`." },
    Key {
        name: "fetch.jobs",
        kind: Kind::Number,
        default: "16",
        doc: "Downloads that run at the same time.",
    },
    Key {
        name: "fetch.offline",
        kind: Kind::Bool,
        default: "false",
        doc: "Never uses the network; what is missing is named, all of it at once.",
    },
    Key {
        name: "policy.allow-broken",
        kind: Kind::Bool,
        default: "false",
        doc: "Evaluates packages that say `meta.broken`.",
    },
    Key {
        name: "policy.allow-deprecated",
        kind: Kind::Bool,
        default: "false",
        doc: "Evaluates packages that say `meta.deprecated`.",
    },
    Key {
        name: "policy.allow-unfree",
        kind: Kind::Bool,
        default: "false",
        doc: "Evaluates packages whose licence is not free.",
    },
    Key {
        name: "policy.allow-unsupported",
        kind: Kind::Bool,
        default: "false",
        doc: "Evaluates packages for systems that are not among `meta.platforms`.",
    },
    Key {
        name: "policy.allow-vulnerable",
        kind: Kind::List,
        default: "",
        doc: "Names of packages that may be used although `meta.knownVulnerabilities` is not empty.",
    },
    Key {
        name: "store.dir",
        kind: Kind::Path,
        default: "$XDG_DATA_HOME/ampoule",
        doc: "Where the store lies on this machine.",
    },
    Key {
        name: "store.logical-dir",
        kind: Kind::Text,
        default: "/nix/store",
        doc: "The directory that store paths name. It is part of every hash: another one shares nothing with Nix.",
    },
    Key {
        name: "store.max-size",
        kind: Kind::Number,
        default: "0",
        doc: "Bytes above which the store collects garbage by itself after a command, by last use. 0 is never.",
    },
    Key {
        name: "store.substituters",
        kind: Kind::List,
        default: "",
        doc: "Binary caches to ask before building: file:// or http(s):// addresses.",
    },
    Key {
        name: "store.trusted-keys",
        kind: Kind::List,
        default: "",
        doc: "Public keys, `name:base64`, one of which must have signed what a binary cache gives.",
    },
    Key {
        name: "ui.color",
        kind: Kind::Word(&["auto", "always", "never"]),
        default: "auto",
        doc: "When to use colours. NO_COLOR and FORCE_COLOR are honoured too.",
    },
    Key {
        name: "ui.progress",
        kind: Kind::Word(&["auto", "tree", "plain", "quiet", "json"]),
        default: "auto",
        doc: "How builds are shown: a live tree, a line for each event, nothing, or a JSON object for each event.",
    },
];

/// The default of a list: its words.
pub fn default_list(name: &str) -> &'static [String] {
    static LISTS: LazyLock<BTreeMap<&str, Vec<String>>> = LazyLock::new(|| {
        let lists = KEYS.iter().filter(|key| key.kind == Kind::List);
        lists.map(|key| (key.name, key.default.split_whitespace().map(str::to_owned).collect())).collect()
    });
    LISTS.get(name).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::KEYS;

    #[test]
    fn keys_are_sorted_and_documented() {
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        for key in KEYS {
            assert!(key.doc.ends_with('.') && key.name.contains('.'), "{}", key.name);
        }
    }
}
