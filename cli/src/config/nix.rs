//! Nix's names for settings: `--option NAME VALUE` understands those that have a meaning here.
//!
//! ```text
//! --option cores 2                 build.cores, in our words
//! --option pure-eval false         as --impure
//! --option allowed-uris https://…  refused: evaluation fetches what a hash pins, and nothing else
//! ```

use crate::error::CliError;

/// What Nix's settings ask of an evaluation; they are flags of the command otherwise.
#[derive(Clone, Debug, Default)]
pub struct EvaluationAsInNix {
    /// `pure-eval`, turned round.
    pub impure: Option<bool>,
    /// `restrict-eval`.
    pub restricted: Option<bool>,
    /// `show-trace`.
    pub show_trace: Option<bool>,
    /// `trace-verbose`.
    pub trace_verbose: Option<bool>,
    /// `abort-on-warn`.
    pub abort_on_warn: Option<bool>,
    /// `nix-path`: entries as `-I` has them.
    pub search_path: Vec<String>,
}

/// What a setting of Nix is here.
pub enum Meaning {
    /// A key of ours with this value.
    Key(&'static str, String),
    /// Something about this evaluation, which was noted.
    Noted,
    /// What Nix does here in any case, or what has no effect on the result.
    Nothing,
}

impl EvaluationAsInNix {
    /// Understands a setting of Nix; nothing if it is none that we know.
    ///
    /// # Errors
    /// If the value makes no sense, or the setting asks for what is not to be had here.
    pub fn understand(&mut self, name: &str, value: &str) -> Result<Option<Meaning>, CliError> {
        let key = |key| Ok(Some(Meaning::Key(key, value.to_owned())));
        let flag = || match value {
            "true" | "yes" | "1" => Ok(Some(true)),
            "false" | "no" | "0" => Ok(Some(false)),
            _ => Err(CliError::usage(format!("option `{name}`: expected true or false, found `{value}`"))),
        };
        match name {
            "pure-eval" => self.impure = flag()?.map(|pure| !pure),
            "restrict-eval" => self.restricted = flag()?,
            "show-trace" => self.show_trace = flag()?,
            "trace-verbose" => self.trace_verbose = flag()?,
            "abort-on-warn" => self.abort_on_warn = flag()?,
            "nix-path" => {
                self.search_path =
                    value.split([' ', ':']).filter(|e| !e.is_empty()).map(str::to_owned).collect()
            }
            "max-call-depth" => return key("eval.max-depth"),
            "allow-import-from-derivation" => return key("eval.import-from-derivation"),
            "system" | "eval-system" => return key("build.system"),
            "system-features" => return key("build.system-features"),
            "cores" => return key("build.cores"),
            "max-jobs" if value == "auto" => return Ok(Some(Meaning::Key("build.jobs", "0".to_owned()))),
            "max-jobs" => return key("build.jobs"),
            "keep-failed" => return key("build.keep-failed"),
            "keep-going" => return key("build.keep-going"),
            "timeout" => return key("build.timeout"),
            "max-silent-time" => return key("build.max-silent"),
            "max-build-log-size" => return key("build.max-log"),
            "substituters" => return key("store.substituters"),
            "trusted-public-keys" => return key("store.trusted-keys"),
            "http-connections" => return key("fetch.jobs"),
            "experimental-features" | "extra-experimental-features" => return features(value),
            "eval-cache" | "use-xdg-base-directories" | "lint-url-literals" | "eval-cores" | "warn-dirty" => {
                return Ok(Some(Meaning::Nothing));
            }
            "allowed-uris" => {
                return Err(refused(
                    name,
                    "evaluation fetches what a hash pins, from anywhere, and nothing else",
                ));
            }
            "allow-unsafe-native-code-during-evaluation" | "eval-profiler" | "debugger-on-trace" => {
                return Err(refused(name, "this evaluator has no such thing"));
            }
            _ => return Ok(None),
        }
        Ok(Some(Meaning::Noted))
    }
}

/// Those of Nix's experiments that are not part of the language but can be asked for.
fn features(value: &str) -> Result<Option<Meaning>, CliError> {
    let mut pipes = false;
    for feature in value.split_whitespace() {
        match feature {
            "pipe-operators" => pipes = true,
            "nix-command" | "ca-derivations" => {}
            _ => {
                let error =
                    CliError::usage(format!("the experimental feature `{feature}` is not to be had here"));
                return Err(error.hint("of Nix's experiments, `pipe-operators` and `ca-derivations` are"));
            }
        }
    }
    Ok(Some(if pipes { Meaning::Key("eval.pipe-operators", "true".to_owned()) } else { Meaning::Nothing }))
}

fn refused(name: &str, why: &str) -> CliError {
    CliError::usage(format!("Nix's setting `{name}` means nothing here: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_meant_exist() {
        let settings = [
            ("max-call-depth", "9"),
            ("allow-import-from-derivation", "true"),
            ("eval-system", "x"),
            ("system-features", "kvm"),
            ("cores", "1"),
            ("max-jobs", "auto"),
            ("keep-failed", "true"),
            ("keep-going", "true"),
            ("timeout", "1"),
            ("max-silent-time", "1"),
            ("max-build-log-size", "1"),
            ("substituters", "file:///x"),
            ("trusted-public-keys", "k"),
            ("http-connections", "2"),
            ("extra-experimental-features", "pipe-operators"),
        ];
        for (name, value) in settings {
            let meaning = EvaluationAsInNix::default().understand(name, value).expect(name).expect(name);
            let Meaning::Key(key, _) = meaning else { panic!("{name} is a key of ours") };
            assert!(super::super::keys::find(key).is_some(), "{name} means {key}");
        }
        let mut evaluation = EvaluationAsInNix::default();
        assert!(matches!(evaluation.understand("pure-eval", "false"), Ok(Some(Meaning::Noted))));
        assert_eq!(evaluation.impure, Some(true));
        assert!(evaluation.understand("pure-eval", "perhaps").is_err());
        assert!(evaluation.understand("allowed-uris", "https://").is_err());
        assert!(evaluation.understand("experimental-features", "flakes").is_err());
        assert!(evaluation.understand("no-such-thing", "1").expect("nothing wrong").is_none());
    }
}
