//! What needs a package that lies in an image's tree.
//!
//! Two answers, from two sources. The packages' own records say who asks for it: `python3.11-minimal` depends on
//! `zlib1g`. The files say who uses it: which programs load a library of the package, which scripts name a program
//! of it. A package that is asked for and used by no file is what `slim` would leave out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use crate::dpkg::Dpkg;
use crate::elf::ElfCache;
use crate::error::Result;
use crate::needs::{Need, Needs};
use crate::plan::{Plan, PlatformPlan};
use crate::project::Projector;
use crate::view::View;

/// Users that are told by name; the rest are counted.
const MOST_USERS: usize = 5;

/// What needs a package.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyPackage {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The platform of the image.
    pub platform: String,
    /// From a package that no other asks for to this one: each depends on the next.
    pub chain: Vec<String>,
    /// Files of other packages, or of none, that use files of it.
    pub users: Vec<Use>,
    /// How many more there are.
    pub more_users: usize,
}

/// A file that needs others.
#[derive(Clone, Debug, Serialize)]
pub struct Use {
    /// The file.
    pub file: String,
    /// What it needs: `library libz.so.1`, `interpreter /usr/bin/python3`.
    pub needs: Vec<String>,
}

/// Finds out what needs `package`, on each platform whose tree has it.
///
/// # Errors
/// Those of reading the image's objects.
pub fn why_package(projector: &Projector<'_>, plan: &Plan, package: &str) -> Result<Vec<WhyPackage>> {
    let mut found = Vec::new();
    for platform in &plan.platforms {
        let view = view_of(projector, platform)?;
        let dpkg = Dpkg::read(&view)?;
        let Some(known) = dpkg.packages().iter().find(|known| known.name == package) else { continue };
        let mut users = users(&view, &dpkg, platform, package)?;
        let more_users = users.len().saturating_sub(MOST_USERS);
        users.truncate(MOST_USERS);
        found.push(WhyPackage {
            package: package.to_owned(),
            version: known.version.clone(),
            platform: platform.platform.to_string(),
            chain: chain(&dpkg, package),
            users,
            more_users,
        });
    }
    Ok(found)
}

/// Names every package of an image's trees.
///
/// # Errors
/// Those of reading the image's objects.
pub fn package_names(projector: &Projector<'_>, plan: &Plan) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for platform in &plan.platforms {
        let dpkg = Dpkg::read(&view_of(projector, platform)?)?;
        names.extend(dpkg.packages().iter().map(|known| known.name.clone()));
    }
    Ok(names)
}

/// Names every path of an image whose last part is `name`.
///
/// # Errors
/// Those of reading the image's objects.
pub fn paths_named(projector: &Projector<'_>, plan: &Plan, name: &str) -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    for platform in &plan.platforms {
        for (path, _) in view_of(projector, platform)?.iter() {
            if path.rsplit(|&b| b == b'/').next() == Some(name.as_bytes()) {
                paths.insert(format!("/{}", String::from_utf8_lossy(path)));
            }
        }
    }
    Ok(paths)
}

fn view_of(projector: &Projector<'_>, platform: &PlatformPlan) -> Result<View> {
    let mut all = Vec::new();
    for (index, layer) in platform.layers.iter().enumerate() {
        let entries = projector.entries(platform, layer)?;
        all.extend(entries.into_iter().map(|entry| (index, entry.path.clone(), entry)));
    }
    Ok(View::new(all))
}

/// The shortest way along `Depends` from a package that no other names.
fn chain(dpkg: &Dpkg, package: &str) -> Vec<String> {
    let mut asked_by: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for known in dpkg.packages() {
        for needed in dpkg.depends(&known.name) {
            asked_by.entry(needed).or_default().push(&known.name);
        }
    }
    let mut leads_to: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen = BTreeSet::from([package]);
    let mut todo = VecDeque::from([package]);
    let mut top = package;
    while let Some(at) = todo.pop_front() {
        let above = asked_by.get(at).map(Vec::as_slice).unwrap_or_default();
        if above.is_empty() {
            top = at;
            break;
        }
        for user in above {
            if seen.insert(user) {
                leads_to.insert(user, at);
                todo.push_back(user);
            }
        }
    }
    let mut chain = vec![top.to_owned()];
    while let Some(next) = leads_to.get(top) {
        top = next;
        chain.push(top.to_owned());
    }
    chain
}

/// Files that are not of `package` and need a file that is, in the order of their paths.
fn users(view: &View, dpkg: &Dpkg, platform: &PlatformPlan, package: &str) -> Result<Vec<Use>> {
    let elves = ElfCache::default();
    let env = platform.config.env.clone().unwrap_or_default();
    let needs = Needs::new(view, &elves, &env);
    let mut users = Vec::new();
    for (path, _) in view.iter() {
        if dpkg.owner(path) == Some(package) {
            continue;
        }
        let needed: Vec<String> = needs
            .of(path)?
            .into_iter()
            .filter_map(|need| match need {
                Need::Found { what, path, .. } if dpkg.owner(&path) == Some(package) => Some(what),
                _ => None,
            })
            .collect();
        if !needed.is_empty() {
            users.push(Use { file: format!("/{}", String::from_utf8_lossy(path)), needs: needed });
        }
    }
    Ok(users)
}
