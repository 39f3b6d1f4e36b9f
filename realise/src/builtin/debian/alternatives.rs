//! Alternatives: one name, several programs, the highest priority wins.
//!
//! ```text
//! update-alternatives --install /usr/bin/awk awk /usr/bin/gawk 10 --slave /usr/bin/nawk nawk /usr/bin/gawk
//!   /usr/bin/awk → /etc/alternatives/awk → /usr/bin/gawk, and the same for nawk
//! ```

use std::collections::BTreeMap;

use super::Composed;
use crate::builtin::BuiltinError;
use crate::unpack::Found;

/// A candidate, with the names that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alternative {
    link: String,
    name: String,
    path: String,
    priority: i64,
    /// Link, name and path of each.
    followers: Vec<(String, String, String)>,
}

impl Alternative {
    /// Reads the arguments of `update-alternatives --install`.
    pub(super) fn parse(fields: &[String]) -> Option<Self> {
        let at = fields.iter().position(|field| field == "--install")?;
        let [link, name, path, priority] = fields.get(at + 1..at + 5)? else { return None };
        let mut followers = Vec::new();
        let mut rest = &fields[at + 5..];
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "--slave" | "--follower" => {
                    let [link, name, path] = after.get(..3)? else { return None };
                    followers.push((link.clone(), name.clone(), path.clone()));
                    rest = &after[3..];
                }
                option if option.starts_with("--") => rest = after,
                // A line that goes on where its author thought it ended.
                _ => break,
            }
        }
        if !link.starts_with('/') || !path.starts_with('/') || name.contains('/') {
            return None;
        }
        let priority = priority.parse().ok()?;
        Some(Self { link: link.clone(), name: name.clone(), path: path.clone(), priority, followers })
    }
}

impl Composed<'_> {
    /// Makes the links.
    pub(super) fn apply_alternatives(&mut self, all: &[Alternative]) -> Result<(), BuiltinError> {
        let mut groups: BTreeMap<&str, Vec<&Alternative>> = BTreeMap::new();
        for alternative in all {
            if self.exists(&alternative.path) {
                groups.entry(&alternative.name).or_default().push(alternative);
            }
        }
        for group in groups.values() {
            let preferred = self.settings.prefer_alternatives.get(&group[0].link);
            let best = match preferred {
                Some(path) => group.iter().find(|a| a.path == *path).ok_or_else(|| {
                    let known: Vec<&str> = group.iter().map(|a| a.path.as_str()).collect();
                    BuiltinError::build(format!(
                        "`preferAlternatives`: `{path}` is no alternative for `{}`; there are {}",
                        group[0].link,
                        known.join(", ")
                    ))
                })?,
                // The first of equals, in the order of the packages' names.
                None => group.iter().rev().max_by_key(|a| a.priority).expect("a group has a member"),
            };
            self.link_alternative(&best.link, &best.name, &best.path)?;
            for (link, name, path) in &best.followers {
                if self.exists(path) {
                    self.link_alternative(link, name, path)?;
                }
            }
        }
        Ok(())
    }

    fn link_alternative(&mut self, link: &str, name: &str, path: &str) -> Result<(), BuiltinError> {
        let layout = &self.settings.layout;
        let (at, middle) = (layout.absolute(link)?, layout.absolute(&format!("/etc/alternatives/{name}"))?);
        // A real file keeps its place, as with update-alternatives itself.
        if layout.exclude.covers(&at) || self.tree.look(&at) != Found::Nothing {
            return Ok(());
        }
        if self.tree.look(&middle) == Found::Nothing {
            self.tree.symlink(&middle, path.as_bytes())?;
        }
        self.tree.symlink(&at, format!("/etc/alternatives/{name}").as_bytes())?;
        Ok(())
    }
}
