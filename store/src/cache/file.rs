//! A binary cache in a directory.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::Transport;
use crate::error::{StoreError, StoreResult};

/// A directory that holds a binary cache (`file://…`).
#[derive(Clone, Debug)]
pub struct FileTransport {
    dir: PathBuf,
    url: String,
}

impl FileTransport {
    /// Takes a directory, which need not exist yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        let url = format!("file://{}", dir.display());
        Self { dir, url }
    }

    fn failed(&self, name: &str, error: &std::io::Error) -> StoreError {
        StoreError::Transport { url: format!("{}/{name}", self.url), problem: error.to_string() }
    }
}

impl Transport for FileTransport {
    fn url(&self) -> &str {
        &self.url
    }

    fn get(&self, name: &str) -> StoreResult<Option<Box<dyn Read + Send>>> {
        match std::fs::File::open(self.dir.join(name)) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(name, &e)),
        }
    }

    fn has(&self, name: &str) -> StoreResult<bool> {
        self.dir.join(name).try_exists().map_err(|e| self.failed(name, &e))
    }

    fn put(&self, name: &str, from: &Path, _content_type: &str) -> StoreResult<()> {
        let to = self.dir.join(name);
        let parent = to.parent().unwrap_or(&self.dir);
        let put = || -> std::io::Result<()> {
            std::fs::create_dir_all(parent)?;
            // On one file system nothing needs to be written twice.
            if std::fs::rename(from, &to).is_ok() {
                return Ok(());
            }
            let temporary = tempfile::Builder::new().prefix(".tmp-").tempfile_in(parent)?;
            std::io::copy(&mut std::fs::File::open(from)?, &mut temporary.as_file())?;
            use std::os::unix::fs::PermissionsExt;
            temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            temporary.persist(&to).map_err(|e| e.error)?;
            Ok(())
        };
        put().map_err(|e| self.failed(name, &e))
    }
}
