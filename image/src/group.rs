//! Which store object goes into which layer.
//!
//! Up to the budget every object is a layer of its own. Beyond it, what a person
//! named and what is large stay alone, and the rest is shared out by *name*, not by
//! size or place in a list: `glibc-2.39` and `glibc-2.40` meet in the same layer,
//! and a new object touches one layer, not the borders between all of them.
//! Nothing is ever left out; the order is from what most others use (lowest, pulled
//! once) to what nobody uses (top, changes most). No data from outside is needed.

use std::collections::{BTreeMap, BTreeSet};

use ampoule_store::human_size;

use crate::digest::Digest;

/// A store object to be placed.
#[derive(Clone, Debug)]
pub struct GroupObject {
    /// Its store path.
    pub path: String,
    /// Its size as a NAR.
    pub size_bytes: u64,
    /// What it refers to.
    pub references: Vec<String>,
}

/// Objects that share a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What people call it.
    pub name: String,
    /// Why these objects are together, or why one is alone.
    pub why: String,
    /// Indices of its objects, sorted by path.
    pub members: Vec<usize>,
}

/// Places every object; `named` are the store paths that a person wrote.
///
/// The result has at most `budget` groups (at least one, if there is anything).
pub fn group(objects: &[GroupObject], named: &BTreeSet<String>, budget: usize) -> Vec<Group> {
    let users = count_users(objects);
    let budget = budget.max(1);
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by(|&a, &b| (users[b], &objects[a].path).cmp(&(users[a], &objects[b].path)));
    if objects.len() <= budget {
        let why = |i: usize| match users[i] {
            0 => format!("alone: {} objects fit the budget of {budget}", objects.len()),
            n => format!("alone: {} objects fit the budget of {budget}; {n} others use it", objects.len()),
        };
        return order
            .into_iter()
            .map(|i| Group { name: short_name(&objects[i].path).to_owned(), why: why(i), members: vec![i] })
            .collect();
    }
    let buckets = (budget / 4).max(1);
    let singles = choose_singles(objects, named, budget - buckets);
    let mut small: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for i in (0..objects.len()).filter(|i| !singles.contains_key(i)) {
        small.entry(bucket(&objects[i].path, buckets as u64)).or_default().push(i);
    }
    let mut groups: Vec<Group> = small
        .into_iter()
        .map(|(n, mut members)| {
            members.sort_by(|&a, &b| objects[a].path.cmp(&objects[b].path));
            let size: u64 = members.iter().map(|&i| objects[i].size_bytes).sum();
            Group {
                name: format!("small objects {}/{buckets}", n + 1),
                why: format!(
                    "{} small objects, {}, placed by their names so that one change touches one layer",
                    members.len(),
                    human_size(size)
                ),
                members,
            }
        })
        .collect();
    for i in order {
        if let Some(why) = singles.get(&i) {
            let name = short_name(&objects[i].path).to_owned();
            groups.push(Group { name, why: why.clone(), members: vec![i] });
        }
    }
    groups
}

fn choose_singles(objects: &[GroupObject], named: &BTreeSet<String>, room: usize) -> BTreeMap<usize, String> {
    let total: u64 = objects.iter().map(|o| o.size_bytes).sum::<u64>().max(1);
    let mut singles = BTreeMap::new();
    let mut by_size: Vec<usize> = (0..objects.len()).collect();
    // By powers of two and then by name without version: a new version of something
    // must not change who is alone.
    by_size.sort_by_cached_key(|&i| {
        let object = &objects[i];
        (
            std::cmp::Reverse(object.size_bytes.max(1).ilog2()),
            stem(&object.path).to_owned(),
            object.path.clone(),
        )
    });
    for &i in by_size.iter().filter(|&&i| named.contains(&objects[i].path)).take(room / 2) {
        singles.insert(i, "alone: named in the file, so it changes most often".to_owned());
    }
    for &i in &by_size {
        if singles.len() >= room {
            break;
        }
        let size = objects[i].size_bytes;
        singles.entry(i).or_insert_with(|| {
            format!("alone: large, {} of {} ({} %)", human_size(size), human_size(total), size * 100 / total)
        });
    }
    singles
}

/// Counts, for each object, how many others reach it.
fn count_users(objects: &[GroupObject]) -> Vec<usize> {
    let index: BTreeMap<&str, usize> =
        objects.iter().enumerate().map(|(i, o)| (o.path.as_str(), i)).collect();
    let mut users = vec![0; objects.len()];
    let mut seen = vec![usize::MAX; objects.len()];
    for start in 0..objects.len() {
        let mut todo = vec![start];
        seen[start] = start;
        while let Some(at) = todo.pop() {
            for next in objects[at].references.iter().filter_map(|path| index.get(path.as_str())) {
                if seen[*next] != start {
                    seen[*next] = start;
                    users[*next] += 1;
                    todo.push(*next);
                }
            }
        }
    }
    users
}

/// Returns the bucket of an object: by its name without hash and version.
fn bucket(path: &str, buckets: u64) -> u64 {
    let hex = Digest::of(stem(path).as_bytes()).to_hex();
    u64::from_str_radix(&hex[..12], 16).expect("twelve hex digits") % buckets
}

/// Returns an object's name without hash and version: `glibc` of `…-glibc-2.39-bin`.
fn stem(path: &str) -> &str {
    let name = short_name(path);
    name.char_indices()
        .find(|&(i, c)| c == '-' && name[i + 1..].starts_with(|c: char| c.is_ascii_digit()))
        .map_or(name, |(i, _)| &name[..i])
}

/// Returns a store path's name without directory and hash.
pub fn short_name(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    if base.len() > 33 && base.as_bytes()[32] == b'-' { &base[33..] } else { base }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(n: usize) -> Vec<GroupObject> {
        (0..n)
            .map(|i| GroupObject {
                path: format!("/nix/store/{:0>32}-pkg{i}-1.{i}", "a"),
                size_bytes: 1000 + (i as u64) * 10,
                references: (i > 0)
                    .then(|| format!("/nix/store/{:0>32}-pkg0-1.0", "a"))
                    .into_iter()
                    .collect(),
            })
            .collect()
    }

    #[test]
    fn every_object_is_in_exactly_one_group_within_the_budget() {
        for (n, budget) in [(0, 5), (1, 1), (5, 5), (6, 5), (300, 20), (300, 1), (300, 2)] {
            let groups = group(&objects(n), &BTreeSet::new(), budget);
            assert!(groups.len() <= budget, "{n} {budget}: {}", groups.len());
            let mut all: Vec<usize> = groups.iter().flat_map(|g| g.members.clone()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_new_version_of_a_small_object_changes_one_group() {
        let before = objects(300);
        let mut after = before.clone();
        after[7].path = format!("/nix/store/{:0>32}-pkg7-2.0", "b");
        let paths = |objects: &[GroupObject]| -> BTreeSet<Vec<String>> {
            group(objects, &BTreeSet::new(), 20)
                .into_iter()
                .map(|g| g.members.iter().map(|&i| objects[i].path.clone()).collect())
                .collect()
        };
        assert_eq!(paths(&before).difference(&paths(&after)).count(), 1);
    }

    /// One more object changes the layer that it joins; where it is so large that it gets a
    /// layer of its own, also the one that takes in whom it displaces.
    #[test]
    fn a_new_object_leaves_the_other_groups_as_they_are() {
        let before = objects(300);
        let paths = |objects: &[GroupObject]| -> BTreeSet<Vec<String>> {
            group(objects, &BTreeSet::new(), 20)
                .into_iter()
                .map(|g| g.members.iter().map(|&i| objects[i].path.clone()).collect())
                .collect()
        };
        let old = paths(&before);
        for i in 0..40 {
            let mut after = before.clone();
            let path = format!("/nix/store/{:0>32}-new{i}-1.0", "c");
            let (size_bytes, references) = (1 << (i % 20), Vec::new());
            after.insert(i * 7, GroupObject { path, size_bytes, references });
            let new = paths(&after);
            assert!(new.difference(&old).count() <= 2, "{i}: {}", new.difference(&old).count());
        }
    }

    #[test]
    fn what_all_use_lies_lowest() {
        let groups = group(&objects(4), &BTreeSet::new(), 20);
        assert_eq!(groups[0].name, "pkg0-1.0");
        assert!(groups[0].why.contains("3 others use it"));
    }
}
