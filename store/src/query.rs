//! Questions about closures: why is this in it, and what makes it large?

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::error::StoreResult;
use crate::{Store, StorePath};

/// What one object costs a closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The object.
    pub path: StorePath,
    /// Size of its own NAR.
    pub nar_size_bytes: u64,
    /// Sum of the NAR sizes of all that it leads to, itself included.
    pub closure_size_bytes: u64,
    /// Sum of the NAR sizes of all that would leave the closure with it: itself, and what is
    /// reached through it alone.
    pub added_size_bytes: u64,
}

impl Store {
    /// Returns a shortest way from `from` to `to` along references, both ends included; nothing if
    /// there is none.
    ///
    /// # Errors
    /// [`crate::StoreError::NotValid`], and those of the file system.
    pub fn why(&self, from: &StorePath, to: &StorePath) -> StoreResult<Option<Vec<StorePath>>> {
        let infos = self.closure_infos([from.clone()])?;
        let mut came_from: BTreeMap<&StorePath, &StorePath> = BTreeMap::new();
        let mut todo = VecDeque::from([from]);
        while let Some(at) = todo.pop_front() {
            if at == to {
                let mut way = vec![at.clone()];
                let mut at = at;
                while at != from {
                    at = came_from[at];
                    way.push(at.clone());
                }
                way.reverse();
                return Ok(Some(way));
            }
            for next in &infos[at].references {
                if next != from && !came_from.contains_key(next) {
                    came_from.insert(next, at);
                    todo.push_back(next);
                }
            }
        }
        Ok(None)
    }

    /// Returns what each object of the closure of `paths` costs, the largest first by what would
    /// leave with it.
    ///
    /// # Errors
    /// [`crate::StoreError::NotValid`], and those of the file system.
    pub fn costs(&self, paths: impl IntoIterator<Item = StorePath>) -> StoreResult<Vec<Cost>> {
        let roots: Vec<_> = paths.into_iter().collect();
        let infos = self.closure_infos(roots.clone())?;
        let index: HashMap<&StorePath, usize> =
            infos.keys().enumerate().map(|(at, path)| (path, at)).collect();
        let sizes: Vec<u64> = infos.values().map(|info| info.nar_size_bytes).collect();
        let edges: Vec<Vec<usize>> =
            infos.values().map(|info| info.references.iter().map(|r| index[r]).collect()).collect();
        let roots: Vec<usize> = roots.iter().map(|r| index[r]).collect();
        let added = dominated_sizes(&edges, &roots, &sizes);
        let reach = |from: usize| {
            let mut seen = vec![false; edges.len()];
            let (mut todo, mut sum) = (vec![from], 0);
            while let Some(at) = todo.pop() {
                if !std::mem::replace(&mut seen[at], true) {
                    sum += sizes[at];
                    todo.extend(&edges[at]);
                }
            }
            sum
        };
        let cost = |(at, path): (usize, &StorePath)| Cost {
            path: path.clone(),
            nar_size_bytes: sizes[at],
            closure_size_bytes: reach(at),
            added_size_bytes: added[at],
        };
        let mut costs: Vec<Cost> = infos.keys().enumerate().map(cost).collect();
        costs.sort_by(|a, b| b.added_size_bytes.cmp(&a.added_size_bytes).then_with(|| a.path.cmp(&b.path)));
        Ok(costs)
    }
}

/// For each node, the sum of the sizes of all nodes that every way from the roots leads through it.
/// Dominators by the iterative algorithm of Cooper, Harvey and Kennedy.
fn dominated_sizes(edges: &[Vec<usize>], roots: &[usize], sizes: &[u64]) -> Vec<u64> {
    // A node before all roots.
    let top = edges.len();
    let mut order = Vec::with_capacity(top + 1);
    let mut seen = vec![false; top];
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for root in roots {
        if std::mem::replace(&mut seen[*root], true) {
            continue;
        }
        stack.push((*root, 0));
        while let Some((at, next)) = stack.last_mut() {
            match edges[*at].get(*next) {
                Some(to) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[*to], true) {
                        stack.push((*to, 0));
                    }
                }
                None => {
                    order.push(*at);
                    stack.pop();
                }
            }
        }
    }
    order.push(top);
    let mut number = vec![0; top + 1];
    order.iter().enumerate().for_each(|(n, at)| number[*at] = n);
    let mut preds: Vec<Vec<usize>> = vec![Vec::new(); top + 1];
    edges.iter().enumerate().for_each(|(from, to)| to.iter().for_each(|to| preds[*to].push(from)));
    roots.iter().for_each(|root| preds[*root].push(top));
    let mut dominator: Vec<Option<usize>> = vec![None; top + 1];
    dominator[top] = Some(top);
    let mut changed = true;
    while changed {
        changed = false;
        for at in order.iter().rev().skip(1) {
            let mut best: Option<usize> = None;
            for pred in preds[*at].iter().filter(|p| dominator[**p].is_some()) {
                best = Some(best.map_or(*pred, |b| meet(b, *pred, &dominator, &number)));
            }
            if best.is_some() && dominator[*at] != best {
                dominator[*at] = best;
                changed = true;
            }
        }
    }
    let mut sums: Vec<u64> = sizes.to_vec();
    sums.push(0);
    // Children come before their dominators in this order.
    for at in &order[..order.len() - 1] {
        if let Some(up) = dominator[*at] {
            sums[up] += sums[*at];
        }
    }
    sums.truncate(top);
    sums
}

fn meet(mut a: usize, mut b: usize, dominator: &[Option<usize>], number: &[usize]) -> usize {
    while a != b {
        let lower = if number[a] < number[b] { &mut a } else { &mut b };
        *lower = dominator[*lower].expect("only nodes with a dominator are compared");
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_with_a_node() {
        // 0 → 1 → 3, 0 → 2 → 3, 2 → 4
        let edges = vec![vec![1, 2], vec![3], vec![3, 4], vec![3], vec![]];
        assert_eq!(
            dominated_sizes(&edges, &[0], &[1, 10, 100, 1000, 10000]),
            [11111, 10, 10100, 1000, 10000]
        );
        assert_eq!(
            dominated_sizes(&edges, &[0, 4], &[1, 10, 100, 1000, 10000]),
            [1111, 10, 100, 1000, 10000]
        );
    }
}
