//! What a derivation demands of its outputs: references allowed and not, sizes.

use std::collections::{BTreeMap, BTreeSet};

use ampoule_store::{ObjectInfo, Store, StorePath};

use crate::builtin::{AttributeError, Attributes};
use crate::error::{Failure, FailureKind};

const ALLOWED_REFERENCES: &str = "allowedReferences";
const ALLOWED_REQUISITES: &str = "allowedRequisites";
const DISALLOWED_REFERENCES: &str = "disallowedReferences";
const DISALLOWED_REQUISITES: &str = "disallowedRequisites";

/// What one output must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputChecks {
    allowed_references: Option<Vec<String>>,
    allowed_requisites: Option<Vec<String>>,
    disallowed_references: Vec<String>,
    disallowed_requisites: Vec<String>,
    max_size: Option<u64>,
    max_closure_size: Option<u64>,
    ignore_self: bool,
}

impl OutputChecks {
    /// Reads what `attrs` demand of `output`: with structured attributes `outputChecks.OUTPUT`, and that alone; else
    /// the lists of references among the attributes, which then hold for every output. Sizes can be demanded with
    /// structured attributes only: `maxSize` of any other derivation is a variable like all others.
    pub(crate) fn read(attrs: &Attributes, output: &str) -> Result<Self, AttributeError> {
        if !attrs.is_structured() {
            return Ok(Self { ignore_self: true, ..Self::references(attrs)? });
        }
        let Some(checks) = attrs.get("outputChecks").and_then(|checks| checks.get(output)) else {
            return Ok(Self::default());
        };
        let nested = Attributes::from_json(checks.to_string().as_bytes())
            .map_err(|_| Attributes::error(&format!("outputChecks.{output}"), "expected a set"))?;
        Ok(Self {
            max_size: nested.number("maxSize")?,
            max_closure_size: nested.number("maxClosureSize")?,
            ignore_self: nested.flag("ignoreSelfRefs", false)?,
            ..Self::references(&nested)?
        })
    }

    fn references(attrs: &Attributes) -> Result<Self, AttributeError> {
        let optional = |name: &str| -> Result<Option<Vec<String>>, AttributeError> {
            attrs.get(name).map(|_| attrs.texts(name)).transpose()
        };
        Ok(Self {
            allowed_references: optional(ALLOWED_REFERENCES)?,
            allowed_requisites: optional(ALLOWED_REQUISITES)?,
            disallowed_references: attrs.texts(DISALLOWED_REFERENCES)?,
            disallowed_requisites: attrs.texts(DISALLOWED_REQUISITES)?,
            ..Self::default()
        })
    }

    fn needs_closure(&self) -> bool {
        self.allowed_requisites.is_some()
            || !self.disallowed_requisites.is_empty()
            || self.max_closure_size.is_some()
    }
}

/// The outputs of one build, as they are about to be registered.
pub(crate) struct Made<'a> {
    pub(crate) store: &'a Store,
    pub(crate) infos: &'a BTreeMap<String, ObjectInfo>,
}

impl Made<'_> {
    /// Checks the output called `name`.
    pub(crate) fn check(&self, name: &str, checks: &OutputChecks) -> Result<(), Failure> {
        let info = &self.infos[name];
        let shown = self.store.dir().print(&info.path);
        if let Some(limit) = checks.max_size.filter(|limit| info.nar_size_bytes > *limit) {
            let size = info.nar_size_bytes;
            let text = format!("path '{shown}' is too large at {size} bytes; limit is {limit} bytes");
            return Err(broken(text).hint(format!("make it smaller, or raise `outputChecks.{name}.maxSize`")));
        }
        let direct = &info.references;
        self.check_references(
            &shown,
            ALLOWED_REFERENCES,
            direct,
            checks.allowed_references.as_deref(),
            true,
        )?;
        self.check_references(
            &shown,
            DISALLOWED_REFERENCES,
            direct,
            some(&checks.disallowed_references),
            false,
        )?;
        if !checks.needs_closure() {
            return Ok(());
        }
        let closure = self.closure(info)?;
        if let Some(limit) = checks.max_closure_size {
            let size: u64 = closure.values().sum();
            if size > limit {
                let text =
                    format!("closure of path '{shown}' is too large at {size} bytes; limit is {limit} bytes");
                let hint = format!("look at what it needs, or raise `outputChecks.{name}.maxClosureSize`");
                return Err(broken(text).hint(hint));
            }
        }
        let mut closure: BTreeSet<StorePath> = closure.into_keys().collect();
        if checks.ignore_self {
            closure.remove(&info.path);
        }
        self.check_references(
            &shown,
            ALLOWED_REQUISITES,
            &closure,
            checks.allowed_requisites.as_deref(),
            true,
        )?;
        self.check_references(
            &shown,
            DISALLOWED_REQUISITES,
            &closure,
            some(&checks.disallowed_requisites),
            false,
        )
    }

    fn check_references(
        &self,
        shown: &str,
        rule: &str,
        used: &BTreeSet<StorePath>,
        listed: Option<&[String]>,
        allowed: bool,
    ) -> Result<(), Failure> {
        let Some(listed) = listed else { return Ok(()) };
        let named: BTreeSet<StorePath> =
            listed.iter().map(|text| self.specified(rule, text)).collect::<Result<_, _>>()?;
        let bad: Vec<String> = used
            .iter()
            .filter(|path| named.contains(*path) != allowed)
            .map(|path| format!("\n  {}", self.store.dir().print(path)))
            .collect();
        if bad.is_empty() {
            return Ok(());
        }
        Err(broken(format!(
            "output '{shown}' is not allowed to refer to the following paths:{}",
            bad.concat()
        ))
        .hint(format!("look for them in it, or change `{rule}`, which says so")))
    }

    /// An entry of such a list: a store path, or the name of an output of this build.
    fn specified(&self, rule: &str, text: &str) -> Result<StorePath, Failure> {
        if let Some(info) = self.infos.get(text) {
            return Ok(info.path.clone());
        }
        self.store.dir().parse(text).map_err(|_| {
            let outputs: Vec<&str> = self.infos.keys().map(String::as_str).collect();
            broken(format!(
                "`{rule}` holds `{text}`, which is neither a store path nor an output (those are: {})",
                outputs.join(", ")
            ))
        })
    }

    /// Everything that an output needs, with sizes; outputs of this build are not valid yet.
    fn closure(&self, info: &ObjectInfo) -> Result<BTreeMap<StorePath, u64>, Failure> {
        let own: BTreeMap<&StorePath, &ObjectInfo> =
            self.infos.values().map(|info| (&info.path, info)).collect();
        let mut sizes = BTreeMap::new();
        let mut others = BTreeSet::new();
        let mut to_do = vec![info.path.clone()];
        while let Some(path) = to_do.pop() {
            match own.get(&path) {
                Some(info) => {
                    if sizes.insert(path, info.nar_size_bytes).is_none() {
                        to_do.extend(info.references.iter().cloned());
                    }
                }
                None => {
                    others.insert(path);
                }
            }
        }
        let infos = self.store.closure_infos(others)?;
        sizes.extend(infos.into_iter().map(|(path, info)| (path, info.nar_size_bytes)));
        Ok(sizes)
    }
}

fn some(list: &[String]) -> Option<&[String]> {
    if list.is_empty() { None } else { Some(list) }
}

fn broken(text: String) -> Failure {
    Failure::new(FailureKind::Build, text)
}

/// Says whether structured attributes hold anything that is not a set where one is meant, with an attribute for each
/// output.
pub(crate) fn check_shape(attrs: &Attributes) -> Result<(), AttributeError> {
    let is_wrong = |name: &&str| attrs.get(name).is_some_and(|value| !value.is_object());
    let wrong = ["outputChecks", "unsafeDiscardReferences"].into_iter().find(is_wrong);
    match wrong.filter(|_| attrs.is_structured()) {
        None => Ok(()),
        Some(name) => Err(Attributes::error(name, "expected a set with an attribute for each output")),
    }
}

/// Which attributes demand something of outputs elsewhere and nothing here, since all are structured.
pub(crate) fn without_effect(attrs: &Attributes) -> Vec<&'static str> {
    let rules = [ALLOWED_REFERENCES, ALLOWED_REQUISITES, DISALLOWED_REFERENCES, DISALLOWED_REQUISITES];
    rules.into_iter().filter(|name| attrs.is_structured() && attrs.get(name).is_some()).collect()
}
