//! A store of ours as what plans and projections need.

use std::path::PathBuf;

use ampoule_store::{Store, StorePath};

use crate::build::{ObjectFacts, Objects};
use crate::error::{ImageError, Result};
use crate::plan::ObjectSource;

/// Looks objects up in a store.
pub struct StoreObjects {
    store: Store,
}

impl StoreObjects {
    /// Looks in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    fn parse(&self, path: &str) -> Result<StorePath> {
        self.store.dir().parse(path).map_err(|e| ImageError::invalid(format!("`{path}`: {e}")))
    }
}

impl ObjectSource for StoreObjects {
    fn locate(&self, store_path: &str) -> Result<PathBuf> {
        let path = self.parse(store_path)?;
        let valid = self.store.is_valid(&path).map_err(|e| ImageError::invalid(e.to_string()))?;
        if !valid {
            return Err(ImageError::invalid(format!(
                "`{store_path}` is not in the store: realise the image again"
            )));
        }
        Ok(self.store.real_path(&path))
    }
}

impl Objects for StoreObjects {
    fn store_dir(&self) -> &str {
        self.store.dir().as_str()
    }

    fn facts(&self, store_path: &str) -> Result<ObjectFacts> {
        let path = self.parse(store_path)?;
        let info = self.store.expect_info(&path).map_err(|e| ImageError::invalid(e.to_string()))?;
        Ok(ObjectFacts {
            nar_size_bytes: info.nar_size_bytes,
            references: info.references.iter().map(|path| self.store.dir().print(path)).collect(),
        })
    }
}
