//! Which layer gets what: trees, packages, store objects, our own files.

use std::collections::{BTreeMap, BTreeSet};

use super::{Builder, Listed, TreeContents, TreeMeta, TreeSlices};
use crate::base::MAX_LAYERS;
use crate::dpkg::Dpkg;
use crate::error::{ImageError, Result};
use crate::group::{self, GroupObject};
use crate::plan::{FilePlan, LayerPlan, Part};
use crate::project::split_store_path;
use crate::slices::{SlicedTree, Tables};

/// What layers are planned from.
#[derive(Default)]
pub(super) struct Units {
    /// Trees that are laid whole.
    trees: Vec<Part>,
    /// Packages and store objects.
    grouped: Vec<(GroupObject, Part)>,
    /// What no package brought.
    rests: Vec<Part>,
}

/// Returns the contents of the trees that say who brought what.
pub(super) fn contents_of_sliced(metas: &[TreeMeta], listed: &Listed) -> BTreeMap<usize, TreeContents> {
    let mut contents: BTreeMap<usize, TreeContents> =
        (0..metas.len()).filter(|&i| !metas[i].owners.is_empty()).map(|i| (i, Vec::new())).collect();
    for (part, below, entry) in listed {
        if let Some(tree) = contents.get_mut(part) {
            tree.push((below.clone(), entry.clone()));
        }
    }
    contents
}

impl Builder<'_> {
    /// Returns what layers are planned from: packages of trees that say who brought what,
    /// other trees whole, store objects.
    #[expect(clippy::too_many_arguments, reason = "each is made by a step of its own, once")]
    pub(super) fn units(
        &self,
        metas: &[TreeMeta],
        trees: Vec<Part>,
        packed: Vec<Part>,
        contents: &BTreeMap<usize, TreeContents>,
        sizes: &BTreeMap<usize, u64>,
        dpkg: &Dpkg,
        tables: &Tables<'_>,
    ) -> Result<(Units, TreeSlices)> {
        let mut units = Units::default();
        let mut lists = TreeSlices::new();
        let trees_count = trees.len();
        for (i, part) in trees.into_iter().enumerate() {
            let Part::Tree { path, at, keep, .. } = &part else { continue };
            let cut = contents.get(&i).map(|contents| {
                let owners = &metas[i].owners;
                SlicedTree { path, at, owners, contents, keep: keep.as_deref() }.cut(dpkg, tables)
            });
            let Some(slices) = cut.transpose()?.flatten() else {
                units.trees.push(part);
                continue;
            };
            let paths = lists.entry(path.clone()).or_default();
            for slice in slices {
                let Part::Slice { package, size, .. } = &slice.part else { continue };
                paths.insert(package.clone(), slice.paths);
                if package.is_empty() {
                    units.rests.push(slice.part);
                    continue;
                }
                let object = GroupObject {
                    path: package.clone(),
                    size_bytes: *size,
                    references: dpkg.depends(package),
                };
                units.grouped.push((object, slice.part));
            }
        }
        for (i, part) in packed.into_iter().enumerate() {
            let Part::Object { path, size, keep } = &part else { continue };
            // An object of which nothing is kept needs no layer.
            if keep.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let references = self.objects.facts(path)?.references;
            let size_bytes = sizes.get(&(trees_count + i)).copied().unwrap_or(*size);
            units.grouped.push((GroupObject { path: path.clone(), size_bytes, references }, part));
        }
        Ok((units, lists))
    }

    /// Puts the parts into layers, above a base of `below` of them: trees, packages and store
    /// objects by groups, what no package brought, our own files.
    pub(super) fn layers(&self, units: Units, files: Vec<FilePlan>, below: usize) -> Result<Vec<LayerPlan>> {
        let budget = self.spec.layers.budget() as usize;
        if budget == 0 || budget > 100 {
            return Err(ImageError::invalid(format!(
                "`layers` is {budget}: expected 1 to 100 (runtimes mount about 127, and children need room)"
            )));
        }
        let left = MAX_LAYERS.saturating_sub(below);
        if left == 0 {
            return Err(ImageError::invalid(format!(
                "`base` has {below} layers, and {MAX_LAYERS} are the most that runtimes mount: there is no room above it"
            )));
        }
        let budget = budget.min(left);
        let Units { trees, grouped, rests } = units;
        // Trees, objects and our own files want a layer each, or all share one.
        let kinds = usize::from(!trees.is_empty()) + usize::from(!grouped.is_empty() || !rests.is_empty());
        if budget < kinds + 1 || budget == 1 {
            let mut parts = trees;
            parts.extend(grouped.into_iter().map(|(_, part)| part));
            parts.extend(rests);
            parts.push(Part::Files { entries: files });
            let why = format!("everything: a budget of {budget}");
            return Ok(vec![LayerPlan { name: "image".to_owned(), why, parts }]);
        }
        let mut layers = Vec::new();
        let room = budget - 1;
        let trees_count = trees.len();
        if trees_count > room - usize::from(!grouped.is_empty()) {
            let why = format!("{trees_count} trees at `/` share a layer: the budget is {budget}");
            layers.push(LayerPlan { name: "trees".to_owned(), why, parts: trees });
        } else {
            for part in trees {
                let Part::Tree { path, keep, .. } = &part else { continue };
                let slim = if keep.is_some() { ", slim: only what runs" } else { "" };
                let why = format!("a tree at `/`{slim}");
                layers.push(LayerPlan { name: group::short_name(path).to_owned(), why, parts: vec![part] });
            }
        }
        let room = room - layers.len();
        // What no package brought goes with the packages where there is no layer for it.
        let own_rest = !rests.is_empty() && room > grouped.len().min(3);
        let (objects, parts): (Vec<GroupObject>, Vec<Part>) = grouped.into_iter().unzip();
        let named: BTreeSet<String> = self
            .spec
            .contents
            .as_slice()
            .iter()
            .filter_map(|path| split_store_path(path))
            .map(|(object, _)| object.to_owned())
            .collect();
        for group in group::group(&objects, &named, room - usize::from(own_rest)) {
            let parts = group.members.iter().map(|&i| parts[i].clone()).collect();
            layers.push(LayerPlan { name: group.name, why: group.why, parts });
        }
        if own_rest {
            let why = "links, accounts and records that composing made: no package brought them".to_owned();
            layers.push(LayerPlan { name: "composed".to_owned(), why, parts: rests });
        } else if let Some(last) = layers.last_mut() {
            last.parts.extend(rests);
        }
        let why = "files of the image itself: accounts, directories, what the file wrote".to_owned();
        layers.push(LayerPlan { name: "files".to_owned(), why, parts: vec![Part::Files { entries: files }] });
        Ok(layers)
    }
}
