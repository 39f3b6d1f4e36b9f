//! The builtin builders that a command has.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::builtin::BuiltinBuilder;

/// Builtin builders by name. The command registers them, so that the realiser need not know them.
#[derive(Clone, Default)]
pub struct Builders(BTreeMap<String, Arc<dyn BuiltinBuilder>>);

impl Builders {
    /// Adds one; another of its name goes.
    pub fn register(&mut self, builder: impl BuiltinBuilder + 'static) {
        self.0.insert(builder.name().to_owned(), Arc::new(builder));
    }

    /// Returns the one called `name` (without `builtin:`).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&dyn BuiltinBuilder> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// Returns all names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Builders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
