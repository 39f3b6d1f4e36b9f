//! What a build is given: its inputs, mounted; its files, written.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ampoule_store::{ObjectInfo, Store, StorePath};
use serde_json::{Value, json};

use super::environment::References;
use crate::builtin::{Attributes, InputPaths};
use crate::error::{Failure, FailureKind};
use crate::sandbox::{Bind, BindKind, BindSource};

/// The closure of a build's inputs.
pub(crate) struct InputClosure<'a> {
    pub(crate) store: &'a Store,
    pub(crate) infos: BTreeMap<StorePath, ObjectInfo>,
}

impl InputPaths for InputClosure<'_> {
    fn physical(&self, logical: &str) -> Option<PathBuf> {
        let (path, rest) = self.store.dir().split(logical).ok()?;
        if !self.infos.contains_key(&path) {
            return None;
        }
        let real = self.store.real_path(&path);
        let rest = rest.trim_start_matches('/');
        Some(if rest.is_empty() { real } else { real.join(rest) })
    }

    fn info(&self, logical: &str) -> Option<ObjectInfo> {
        let (path, _) = self.store.dir().split(logical).ok()?;
        self.infos.get(&path).cloned()
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Store, format!("cannot look at `{}`: {error}", path.display()))
}

/// Says what lies at `path`, for mounting it.
fn kind_of(path: &Path) -> Result<BindKind, Failure> {
    let meta = std::fs::symlink_metadata(path).map_err(|error| unreadable(path, &error))?;
    Ok(if meta.is_dir() {
        BindKind::Directory
    } else if meta.is_symlink() {
        let target = std::fs::read_link(path).map_err(|error| unreadable(path, &error))?;
        BindKind::Symlink(target.as_os_str().as_bytes().to_vec())
    } else {
        BindKind::File
    })
}

impl InputClosure<'_> {
    /// One mount for each object, at its logical path.
    pub(crate) fn binds(&self) -> Result<Vec<Bind>, Failure> {
        let store_dir = Path::new(self.store.dir().as_str());
        self.infos
            .keys()
            .map(|path| {
                Ok(Bind {
                    source: BindSource::Store(PathBuf::from(path.as_str())),
                    target: store_dir.join(path.as_str()),
                    kind: kind_of(&self.store.real_path(path))?,
                })
            })
            .collect()
    }

    /// Mounts the object named by the attribute `sandboxRoot` as `/`, but for what the sandbox makes
    /// itself: each entry of its top, and of its `/etc`.
    pub(crate) fn root_binds(&self, attrs: &Attributes) -> Result<Vec<Bind>, Failure> {
        let bad = |text: String| Failure::new(FailureKind::Build, text);
        let named = attrs.text("sandboxRoot").map_err(|error| bad(error.to_string()))?;
        let Some(named) = named else { return Ok(Vec::new()) };
        let top = self
            .physical(named)
            .ok_or_else(|| bad(format!("`sandboxRoot`: `{named}` is not an input of this derivation")))?;
        let (object, _) = self.store.dir().split(named).map_err(|error| bad(error.to_string()))?;
        let source = PathBuf::from(object.as_str())
            .join(top.strip_prefix(self.store.real_path(&object)).unwrap_or(Path::new("")));
        let first =
            self.store.dir().as_str().trim_start_matches('/').split('/').next().unwrap_or("nix").to_owned();
        let ours = ["dev", "proc", "tmp", "build", "sys", "etc", &first];
        let mut binds = Vec::new();
        list_binds(&top, &source, Path::new("/"), &ours, &mut binds)?;
        if top.join("etc").is_dir() {
            let account = ["passwd", "group", "hosts"];
            list_binds(&top.join("etc"), &source.join("etc"), Path::new("/etc"), &account, &mut binds)?;
        }
        Ok(binds)
    }

    /// The files or attributes that `exportReferencesGraph` asks for.
    pub(crate) fn reference_graphs(&self, attrs: &Attributes) -> Result<References, Failure> {
        let bad = |text: &str| Failure::new(FailureKind::Build, format!("`exportReferencesGraph`: {text}"));
        let mut graphs = References::default();
        match attrs.get("exportReferencesGraph") {
            None => {}
            Some(Value::Object(wanted)) => {
                for (name, paths) in wanted {
                    let paths: Vec<String> = match paths {
                        Value::String(path) => vec![path.clone()],
                        Value::Array(items) => {
                            items.iter().filter_map(|p| p.as_str().map(str::to_owned)).collect()
                        }
                        _ => return Err(bad("expected store paths")),
                    };
                    graphs.json.insert(name.clone(), self.as_json(&self.closure_of(&paths)?)?);
                }
            }
            Some(Value::String(text)) if !attrs.is_structured() => {
                let words: Vec<&str> = text.split_whitespace().collect();
                if !words.len().is_multiple_of(2) {
                    let text = format!("odd number of tokens in 'exportReferencesGraph': '{text}'");
                    return Err(Failure::new(FailureKind::Build, text));
                }
                for pair in words.chunks_exact(2) {
                    let (name, path) = (pair[0], pair[1]);
                    if !is_file_name(name) {
                        let text = format!("invalid file name '{name}' in 'exportReferencesGraph'");
                        return Err(Failure::new(FailureKind::Build, text));
                    }
                    let text = self.as_registration(&self.closure_of(&[path.to_owned()])?);
                    graphs.texts.push((name.to_owned(), text.into_bytes()));
                }
            }
            // An attribute like any other where all are structured and it is no set.
            Some(_) if attrs.is_structured() => {}
            Some(_) => return Err(bad("expected a set, or pairs of a file name and a store path")),
        }
        Ok(graphs)
    }

    /// What `exportReferencesGraph` means by some paths: their closure, and with a derivation in it what it makes.
    fn closure_of(&self, paths: &[String]) -> Result<BTreeMap<StorePath, &ObjectInfo>, Failure> {
        let mut closure = BTreeMap::new();
        let parse = |text: &String| {
            self.store.dir().split(text).map(|(path, _)| path).map_err(|error| {
                Failure::new(FailureKind::Build, format!("`exportReferencesGraph`: {error}"))
            })
        };
        self.add_closure(&mut closure, paths.iter().map(parse).collect::<Result<_, _>>()?)?;
        let derivations: Vec<StorePath> =
            closure.keys().filter(|path| path.is_derivation()).cloned().collect();
        for drv in derivations {
            let derivation = self.store.read_derivation(&drv)?;
            let outputs = derivation.outputs.values().filter_map(|output| output.path().cloned());
            self.add_closure(&mut closure, outputs.collect())?;
        }
        Ok(closure)
    }

    fn add_closure<'a>(
        &'a self,
        closure: &mut BTreeMap<StorePath, &'a ObjectInfo>,
        mut to_do: Vec<StorePath>,
    ) -> Result<(), Failure> {
        while let Some(path) = to_do.pop() {
            let info = self.infos.get(&path).ok_or_else(|| {
                let text = format!(
                    "cannot export references of path '{}' because it is not in the input closure of the derivation",
                    self.store.dir().print(&path)
                );
                Failure::new(FailureKind::Build, text)
            })?;
            if closure.insert(path, info).is_none() {
                to_do.extend(info.references.iter().cloned());
            }
        }
        Ok(())
    }

    /// The form that `nix-store --load-db` reads, without hashes.
    fn as_registration(&self, closure: &BTreeMap<StorePath, &ObjectInfo>) -> String {
        let mut out = String::new();
        for (path, info) in closure {
            out.push_str(&format!("{}\n\n{}\n", self.store.dir().print(path), info.references.len()));
            for reference in &info.references {
                out.push_str(&self.store.dir().print(reference));
                out.push('\n');
            }
        }
        out
    }

    fn as_json(&self, closure: &BTreeMap<StorePath, &ObjectInfo>) -> Result<Value, Failure> {
        let print = |path: &StorePath| self.store.dir().print(path);
        let mut list = Vec::new();
        for (path, info) in closure {
            let below = self.closure_of(&[print(path)])?;
            let closure_size: u64 = below.values().map(|info| info.nar_size_bytes).sum();
            let mut object = json!({
                "closureSize": closure_size,
                "narHash": format!("sha256:{}", info.nar_hash.to_nix32()),
                "narSize": info.nar_size_bytes,
                "path": print(path),
                "references": info.references.iter().map(print).collect::<Vec<_>>(),
                "valid": true,
            });
            if let Some(address) = &info.address {
                object["ca"] = Value::from(address.to_string());
            }
            list.push(object);
        }
        Ok(Value::Array(list))
    }
}

/// Whether a file of the build's directory may be called so: as in Nix, so that none of ours is meant.
fn is_file_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// One mount for each entry of `dir`, but for those called as in `except`.
fn list_binds(
    dir: &Path,
    source: &Path,
    target: &Path,
    except: &[&str],
    binds: &mut Vec<Bind>,
) -> Result<(), Failure> {
    let entries = std::fs::read_dir(dir).map_err(|error| unreadable(dir, &error))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(|error| unreadable(dir, &error))?.file_name());
    }
    names.sort();
    for name in names.iter().filter(|name| !except.iter().any(|own| *name == own)) {
        binds.push(Bind {
            source: BindSource::Store(source.join(name)),
            target: target.join(name),
            kind: kind_of(&dir.join(name))?,
        });
    }
    Ok(())
}
