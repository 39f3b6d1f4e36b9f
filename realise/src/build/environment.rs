//! What a builder finds in its environment and in its build directory: Nix's list, byte for byte.
//!
//! | variable | value | can the derivation set it? |
//! |---|---|---|
//! | `PATH` | `/path-not-set` | yes |
//! | `HOME` | `/homeless-shelter` | yes |
//! | `NIX_STORE` | the logical store directory | yes |
//! | `NIX_BUILD_CORES` | `--cores` | yes |
//! | `SOURCE_DATE_EPOCH` | 315532800: 1980, the oldest date that a zip file can hold | yes |
//! | `NIX_BUILD_TOP`, `TMPDIR`, `TEMPDIR`, `TMP`, `TEMP`, `PWD` | `/build` | no |
//! | `NIX_LOG_FD` | 2 | no |
//! | `TERM` | `xterm-256color` | no |
//! | `NIX_OUTPUT_CHECKED` | 1, for fixed outputs | no |
//!
//! All else comes from the derivation: as variables, or as `.attrs.json` and `.attrs.sh`.
//! `SOURCE_DATE_EPOCH` is the one that Nix leaves to its library.

use std::collections::{BTreeMap, BTreeSet};

use ampoule_store::{Hash, StoreDir};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// The environment, and files that belong into the build directory.
#[derive(Debug, Default)]
pub(crate) struct BuildInputs {
    pub(crate) env: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// What the environment is made from.
pub(crate) struct EnvironmentSpec<'a> {
    pub(crate) store_dir: &'a StoreDir,
    /// The working directory, as the builder sees it.
    pub(crate) build_dir: &'a str,
    pub(crate) cores: usize,
    /// Whether the hash of the output is promised.
    pub(crate) is_fixed: bool,
    /// Where each output goes, as the builder sees it.
    pub(crate) outputs: &'a BTreeMap<String, String>,
    /// The derivation's variables, with all placeholders replaced.
    pub(crate) variables: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    /// Values of `impureEnvVars`, for fixed outputs.
    pub(crate) impure: &'a BTreeMap<String, String>,
    /// `exportReferencesGraph`, resolved.
    pub(crate) graphs: &'a References,
}

/// What `exportReferencesGraph` asks for.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// File name → registration text.
    pub(crate) texts: Vec<(String, Vec<u8>)>,
    /// Attribute → list of objects.
    pub(crate) json: BTreeMap<String, Value>,
}

/// Makes environment and files.
///
/// # Errors
/// A sentence, when structured attributes are not what they should be.
pub(crate) fn build_inputs(spec: &EnvironmentSpec) -> Result<BuildInputs, String> {
    let mut inputs = BuildInputs::default();
    let mut set = |name: &str, value: &str| {
        inputs.env.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
    };
    set("PATH", "/path-not-set");
    set("HOME", "/homeless-shelter");
    set("NIX_STORE", spec.store_dir.as_str());
    set("NIX_BUILD_CORES", &spec.cores.to_string());
    set("SOURCE_DATE_EPOCH", "315532800");
    match spec.variables.get(b"__json".as_slice()) {
        Some(json) => add_structured(spec, json, &mut inputs)?,
        None => add_variables(spec, &mut inputs),
    }
    let mut set = |name: &str, value: &str| {
        inputs.env.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
    };
    for name in ["NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD"] {
        set(name, spec.build_dir);
    }
    if spec.is_fixed {
        set("NIX_OUTPUT_CHECKED", "1");
    }
    for (name, value) in spec.impure {
        set(name, value);
    }
    set("NIX_LOG_FD", "2");
    set("TERM", "xterm-256color");
    check_lengths(&inputs.env)?;
    Ok(inputs)
}

fn add_variables(spec: &EnvironmentSpec, inputs: &mut BuildInputs) {
    let as_file: BTreeSet<&[u8]> = spec
        .variables
        .get(b"passAsFile".as_slice())
        .map(|names| names.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty()).collect())
        .unwrap_or_default();
    for (name, value) in spec.variables {
        if as_file.contains(name.as_slice()) {
            let file = format!(".attr-{}", Hash::sha256(name).to_nix32());
            let path = format!("{}/{file}", spec.build_dir).into_bytes();
            inputs.env.insert([name.as_slice(), b"Path"].concat(), path);
            inputs.files.push((file, value.clone()));
        } else {
            inputs.env.insert(name.clone(), value.clone());
        }
    }
    inputs.files.extend(spec.graphs.texts.iter().cloned());
}

fn add_structured(spec: &EnvironmentSpec, json: &[u8], inputs: &mut BuildInputs) -> Result<(), String> {
    let bad = |error: serde_json::Error| {
        format!("the structured attributes (`__json`) are not a JSON object: {error}")
    };
    // Each value as it is written there: a number has many forms (`1e-07`, `0.0000001`), and which of them a builder
    // reads is part of what it is built from.
    let mut attrs: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(json).map_err(bad)?;
    attrs.insert("outputs".to_owned(), to_raw_value(&spec.outputs).map_err(bad)?);
    for (name, graph) in &spec.graphs.json {
        attrs.insert(name.clone(), to_raw_value(graph).map_err(bad)?);
    }
    for (file, variable, contents) in [
        (".attrs.sh", "NIX_ATTRS_SH_FILE", shell_script(&attrs).map_err(bad)?),
        (".attrs.json", "NIX_ATTRS_JSON_FILE", serde_json::to_string(&attrs).map_err(bad)?),
    ] {
        let path = format!("{}/{file}", spec.build_dir).into_bytes();
        inputs.env.insert(variable.as_bytes().to_vec(), path);
        inputs.files.push((file.to_owned(), contents.into_bytes()));
    }
    Ok(())
}

/// `.attrs.sh`: what Bash can hold of the attributes.
fn shell_script(attrs: &BTreeMap<String, Box<RawValue>>) -> serde_json::Result<String> {
    let mut out = String::new();
    for (name, value) in attrs.iter().filter(|(name, _)| is_shell_name(name)) {
        match serde_json::from_str(value.get())? {
            Value::Array(items) => {
                if let Some(items) = items.iter().map(shell_value).collect::<Option<Vec<_>>>() {
                    let items: String = items.into_iter().map(|item| item + " ").collect();
                    out.push_str(&format!("declare -a {name}=({items})\n"));
                }
            }
            Value::Object(fields) => {
                let fields: BTreeMap<&String, &Value> = fields.iter().collect();
                let field = |(key, value): (&String, &Value)| {
                    Some(format!("[{}]={} ", shell_quote(key), shell_value(value)?))
                };
                if let Some(fields) = fields.into_iter().map(field).collect::<Option<String>>() {
                    out.push_str(&format!("declare -A {name}=({fields})\n"));
                }
            }
            simple => {
                if let Some(value) = shell_value(&simple) {
                    out.push_str(&format!("declare {name}={value}\n"));
                }
            }
        }
    }
    Ok(out)
}

fn is_shell_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Strings, whole numbers, booleans and null; nothing for what Bash has no word for.
fn shell_value(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(shell_quote(text)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Some(whole.to_string()),
            (None, Some(real)) if real.fract() == 0.0 => Some(format!("{real:.0}")),
            _ => None,
        },
        Value::Null => Some("''".to_owned()),
        Value::Bool(yes) => Some(if *yes { "1".to_owned() } else { String::new() }),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The kernel's limits, told by name before `execve` says `E2BIG` (case 152).
fn check_lengths(env: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), String> {
    // MAX_ARG_STRLEN is 32 pages; `execve` takes a quarter of the stack's limit, at most 6 MiB.
    const LONGEST: usize = 128 * 1024;
    const TOGETHER: usize = 2 * 1024 * 1024;
    let way_out = "pass it by file (`passAsFile`), or use structured attributes (`__structuredAttrs = true`)";
    let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    for (name, value) in env {
        if name.contains(&0) || value.contains(&0) {
            return Err(format!(
                "the variable `{}` contains a zero byte, which no environment can hold",
                shown(name)
            ));
        }
        let length = name.len() + value.len() + 2;
        if length > LONGEST {
            return Err(format!(
                "the variable `{}` is too long for the environment: {length} bytes, of {LONGEST} at most; {way_out}",
                shown(name)
            ));
        }
    }
    let total: usize = env.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    if total > TOGETHER {
        let largest = env.iter().max_by_key(|(_, value)| value.len()).map(|(name, _)| shown(name));
        return Err(format!(
            "the environment is too large: {total} bytes, of {TOGETHER} at most; the largest variable is \
             `{}`; {way_out}",
            largest.unwrap_or_default()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs_of(variables: &[(&str, &str)]) -> Result<BuildInputs, String> {
        let variables =
            variables.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        build_inputs(&EnvironmentSpec {
            store_dir: &StoreDir::new("/nix/store").expect("valid"),
            build_dir: "/build",
            cores: 3,
            is_fixed: false,
            outputs: &BTreeMap::from([("out".to_owned(), "/nix/store/x-y".to_owned())]),
            variables: &variables,
            impure: &BTreeMap::new(),
            graphs: &References::default(),
        })
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn the_environment_is_the_documented_list() {
        let inputs = inputs_of(&[("name", "x"), ("TMPDIR", "/evil"), ("HOME", "/mine"), ("TERM", "dumb")])
            .expect("ok");
        let lines: Vec<String> = inputs.env.iter().map(|(n, v)| format!("{}={}", text(n), text(v))).collect();
        let expected = [
            "HOME=/mine",
            "NIX_BUILD_CORES=3",
            "NIX_BUILD_TOP=/build",
            "NIX_LOG_FD=2",
            "NIX_STORE=/nix/store",
            "PATH=/path-not-set",
            "PWD=/build",
            "SOURCE_DATE_EPOCH=315532800",
            "TEMP=/build",
            "TEMPDIR=/build",
            "TERM=xterm-256color",
            "TMP=/build",
            "TMPDIR=/build",
            "name=x",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn large_attributes_go_through_files() {
        let inputs = inputs_of(&[("passAsFile", "text other"), ("text", "contents")]).expect("ok");
        // sha256 of the name, as Nix writes it.
        let file = ".attr-1nbmz1j5wwq5ljl9hl3bny7flhz9q0ypb8dhz4sh4mrdqylmp5y8";
        let (name, contents) = &inputs.files[0];
        assert_eq!((name.len(), contents.as_slice()), (file.len(), b"contents".as_slice()));
        assert_eq!(text(&inputs.env[b"textPath".as_slice()]), format!("/build/{name}"));
        assert!(!inputs.env.contains_key(b"text".as_slice()));
    }

    /// Keys in order; values as they were written.
    const JSON_SORTED: &str = concat!(
        r#""b":true,"bad-name":1,"f":false,"large":1e+15,"list":["a b","it's"],"n":1,"name":"x","nested":[[1]],"#,
        r#""nil":null,"outputs":{"out":"/nix/store/x-y"},"r":1.5,"set":{"k":"v","j":2},"tiny":1e-07"#
    );

    #[test]
    fn structured_attributes_become_two_files() {
        let json = r#"{"b":true,"f":false,"list":["a b","it's"],"n":1,"nil":null,"nested":[[1]],"r":1.5,
            "set":{"k":"v","j":2},"bad-name":1,"name":"x","tiny":1e-07,"large":1e+15}"#;
        let inputs = inputs_of(&[("__json", json)]).expect("ok");
        let (name, script) = &inputs.files[0];
        assert_eq!(name, ".attrs.sh");
        assert_eq!(
            text(script),
            "declare b=1\ndeclare f=\ndeclare large=1000000000000000\ndeclare -a list=('a b' 'it'\\''s' )\ndeclare n=1\n\
             declare name='x'\n\
             declare nil=''\ndeclare -A outputs=(['out']='/nix/store/x-y' )\ndeclare -A set=(['j']=2 ['k']='v' )\n"
        );
        let (name, json) = &inputs.files[1];
        assert_eq!((name.as_str(), text(json)), (".attrs.json", format!("{{{JSON_SORTED}}}")));
        assert!(!inputs.env.contains_key(b"name".as_slice()));
        assert_eq!(text(&inputs.env[b"NIX_ATTRS_JSON_FILE".as_slice()]), "/build/.attrs.json");
        assert!(inputs_of(&[("__json", "[]")]).is_err());
    }

    /// Case 152: what `execve` cannot take is named, with the way out.
    #[test]
    fn what_execve_cannot_take_is_named() {
        let error = inputs_of(&[("big", &"x".repeat(200_000))]).expect_err("too long");
        assert!(error.contains("`big`") && error.contains("passAsFile"), "{error}");
        let error = inputs_of(&[("zero", "a\0b")]).expect_err("zero byte");
        assert!(error.contains("`zero`"), "{error}");
        let many: Vec<(String, String)> = (0..40).map(|i| (format!("v{i}"), "x".repeat(100_000))).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let error = inputs_of(&many).expect_err("too much");
        assert!(error.contains("too large") && error.contains("structured"), "{error}");
    }
}
