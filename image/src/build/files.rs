//! What an image has beside its trees: accounts, directories, modes, files of its own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Builder, Listed, TreeMeta};
use crate::accounts::Accounts;
use crate::entry::{Entry, EntryKind, clean_path};
use crate::error::{ImageError, Result};
use crate::plan::{FilePlan, FileWhat, Owner, Permission};
use crate::spec::{self, FileSpec, FullFileSpec};
use crate::walk::{self, Modes};

impl Builder<'_> {
    pub(super) fn accounts(&self, listed: &Listed) -> Result<Accounts> {
        let read = |path: &str| -> Result<Option<std::sync::Arc<[u8]>>> {
            if let Some(file) = self.spec.files.get(&format!("/{path}")).or_else(|| self.spec.files.get(path))
            {
                match file {
                    FileSpec::Text(text) => return Ok(Some(text.as_bytes().into())),
                    FileSpec::Full(full) => {
                        if let Some(text) = &full.text {
                            return Ok(Some(text.as_bytes().into()));
                        }
                    }
                }
            }
            let found = listed.iter().rev().find(|(_, _, e)| *e.path == *path.as_bytes());
            match found.map(|(_, _, e)| &e.kind) {
                Some(EntryKind::File { source, .. }) => source.read().map(Some),
                _ => Ok(None),
            }
        };
        let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
        let mut accounts = Accounts::read(passwd.as_deref(), group.as_deref());
        accounts.add(&self.spec.users, &self.spec.groups)?;
        Ok(accounts)
    }

    pub(super) fn owner(
        &self,
        accounts: &Accounts,
        spec: &spec::OwnerSpec,
        default: u32,
        of: &str,
    ) -> Result<Owner> {
        Ok(Owner {
            mode: spec.mode.as_ref().map_or(Ok(default), |mode| spec::mode(mode, of))?,
            uid: spec.uid.as_ref().map_or(Ok(0), |uid| number(uid, |name| accounts.uid(name)))?,
            gid: spec.gid.as_ref().map_or(Ok(0), |gid| number(gid, |name| accounts.gid(name)))?,
        })
    }

    pub(super) fn directories(&self, accounts: &Accounts) -> Result<BTreeMap<String, Owner>> {
        let mut out = BTreeMap::from([("tmp".to_owned(), Owner { mode: 0o1777, uid: 0, gid: 0 })]);
        for (path, owner) in &self.spec.directories {
            let clean = String::from_utf8_lossy(&clean_path(path)?).into_owned();
            out.insert(clean, self.owner(accounts, owner, 0o755, path)?);
        }
        Ok(out)
    }

    pub(super) fn permissions(&self, metas: &[TreeMeta], accounts: &Accounts) -> Result<Vec<Permission>> {
        let mut out = Vec::new();
        for (path, entry) in metas.iter().flat_map(|meta| &meta.entries) {
            out.push(Permission {
                path: String::from_utf8_lossy(&clean_path(path)?).into_owned(),
                recursive: false,
                mode: entry.mode.as_ref().map(|mode| spec::mode(mode, path)).transpose()?,
                uid: entry.uid,
                gid: entry.gid,
            });
        }
        for (path, rule) in &self.spec.permissions {
            let by_name = |value: &Option<Value>, look: &dyn Fn(&str) -> Result<u32>| {
                value.as_ref().map(|value| number(value, look)).transpose()
            };
            out.push(Permission {
                path: String::from_utf8_lossy(&clean_path(path)?).into_owned(),
                recursive: rule.recursive,
                mode: rule.mode.as_ref().map(|mode| spec::mode(mode, path)).transpose()?,
                uid: by_name(&rule.uid, &|name| accounts.uid(name))?,
                gid: by_name(&rule.gid, &|name| accounts.gid(name))?,
            });
        }
        Ok(out)
    }

    pub(super) fn files(
        &self,
        accounts: &Accounts,
        directories: &BTreeMap<String, Owner>,
    ) -> Result<Vec<FilePlan>> {
        let mut files: BTreeMap<String, FilePlan> = BTreeMap::new();
        let mut put = |path: &str, owner: Owner, what: FileWhat| -> Result<()> {
            let path = String::from_utf8_lossy(&clean_path(path)?).into_owned();
            files.insert(path.clone(), FilePlan { path, owner, what });
            Ok(())
        };
        let plain = Owner { mode: 0o644, uid: 0, gid: 0 };
        for (path, owner) in directories {
            put(path, *owner, FileWhat::Directory(true))?;
        }
        if let Some((passwd, group)) = accounts.changed_files() {
            put("etc/passwd", plain, FileWhat::Text(passwd))?;
            put("etc/group", plain, FileWhat::Text(group))?;
        }
        if let Some(bundle) = &self.spec.ca_bundle {
            put("etc/ssl/certs/ca-certificates.crt", plain, FileWhat::Source(self.bundle(bundle)?))?;
        }
        if let Some(zones) = &self.spec.time_zones {
            let below = format!("{zones}/usr/share/zoneinfo");
            let source = if self.locate_below(&below)?.is_dir() { below } else { zones.clone() };
            put("usr/share/zoneinfo", Owner { mode: 0o755, ..plain }, FileWhat::Source(source))?;
        }
        if let Some(zone) = &self.spec.time_zone {
            let zone = String::from_utf8_lossy(&clean_path(zone)?).into_owned();
            put("etc/localtime", plain, FileWhat::Symlink(format!("/usr/share/zoneinfo/{zone}")))?;
            put("etc/timezone", plain, FileWhat::Text(format!("{zone}\n")))?;
        }
        for (path, file) in &self.spec.files {
            let (owner, what) = self.file(accounts, path, file)?;
            put(path, owner, what)?;
        }
        Ok(files.into_values().collect())
    }

    /// Finds the certificates in what was given: the file, or a tree that has it.
    pub(super) fn bundle(&self, given: &str) -> Result<String> {
        let places =
            ["", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
        for place in places {
            let path = format!("{given}{place}");
            if self.locate_below(&path)?.is_file() {
                return Ok(path);
            }
        }
        Err(ImageError::invalid(format!(
            "`caBundle` is `{given}`, which is no file and has none at `{}`",
            places[1]
        )))
    }

    pub(super) fn file(&self, accounts: &Accounts, path: &str, file: &FileSpec) -> Result<(Owner, FileWhat)> {
        let full = match file {
            FileSpec::Text(text) => FullFileSpec { text: Some(text.clone()), ..FullFileSpec::default() },
            FileSpec::Full(full) => full.clone(),
        };
        let what = match (full.text, full.source, full.target) {
            (Some(text), None, None) => FileWhat::Text(text),
            (None, Some(source), None) => {
                self.store_path(&source)?;
                FileWhat::Source(source)
            }
            (None, None, Some(target)) => FileWhat::Symlink(target),
            _ => {
                return Err(ImageError::invalid(format!(
                    "file `{path}` wants one of `text`, `source` and `target`; for a directory use `directories`"
                )));
            }
        };
        let default = match &what {
            FileWhat::Source(source) => {
                let at = self.locate_below(source)?;
                let meta = std::fs::symlink_metadata(&at).map_err(|e| ImageError::io("read", &at, e))?;
                use std::os::unix::fs::PermissionsExt as _;
                if meta.is_dir() || meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 }
            }
            FileWhat::Text(text) if text.starts_with("#!") => 0o755,
            _ => 0o644,
        };
        let owner = spec::OwnerSpec { mode: full.mode, uid: full.uid, gid: full.gid };
        Ok((self.owner(accounts, &owner, default, path)?, what))
    }

    /// Lists what a file of the plan becomes, for the view.
    pub(super) fn file_entries(&self, file: &FilePlan) -> Result<Vec<Entry>> {
        let path = clean_path(&file.path)?;
        let mut entries = match &file.what {
            FileWhat::Text(text) => vec![Entry::bytes(path, file.owner.mode, text.as_bytes())],
            FileWhat::Symlink(target) => vec![Entry::symlink(path, target.as_bytes())],
            FileWhat::Directory(_) => vec![Entry::directory(path, file.owner.mode)],
            FileWhat::Own(_) => Vec::new(),
            FileWhat::Source(source) => walk::read_tree(&self.locate_below(source)?, &path, Modes::Root)?,
        };
        if let [only] = &mut entries[..]
            && matches!(only.kind, EntryKind::File { .. })
        {
            only.mode = file.owner.mode;
        }
        Ok(entries)
    }
}

fn number(value: &Value, look: impl Fn(&str) -> Result<u32>) -> Result<u32> {
    match value {
        Value::Number(n) => n
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| ImageError::invalid(format!("{n} is not a user or group number"))),
        Value::String(name) => look(name),
        other => {
            Err(ImageError::invalid(format!("{other} is not a user or group: expected a name or number")))
        }
    }
}
