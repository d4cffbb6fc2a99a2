//! Fans: merges that the same values go to as to hundreds of others, as behind a large `br_table` or a long chain of
//! `br_if`.
//!
//! A value becomes an argument on each edge to a merge if the merge has another value for the variable on another path;
//! for that it is enough that it was loaded anew after a call there. The register allocator joins the live ranges of an
//! argument and the parameter, and goes through all that the argument has been joined with for every further one. So in
//! the merges of a fan the policy has what has a home in the record only.

use super::liveness::events;
use super::scan::Scan;
use super::{BlockId, Event};
use crate::hash::HashSet;

/// Merges that are not too many.
const MANY_MERGES: usize = 512;

/// The merges in fans.
pub type Fans = HashSet<BlockId>;

/// Finds them. What lies between calls, and merges with other paths, is a tree, which has a number. A merge that only
/// one tree leads to is part of it: values only differ there that are assigned in the tree.
pub fn find(s: &Scan) -> Fans {
    if s.blocks.len() <= MANY_MERGES {
        return Fans::default();
    }
    // Of each block: the tree it starts in; the last tree that had an edge to it, and how many. There is no tree 0.
    let mut starts_in = vec![0; s.blocks.len()];
    let mut last = vec![(0, 0); s.blocks.len()];
    // Of each tree: how many merges with other paths it has edges to.
    let mut merges = vec![0];
    let mut edges: Vec<(usize, BlockId)> = vec![];
    for &b in &s.order {
        let mut tree = starts_in[b as usize];
        if tree == 0 || events(s, b).iter().any(|e| matches!(e, Event::Call(_))) {
            tree = merges.len();
            merges.push(0);
        }
        for &to in &s.blocks[b as usize].succs {
            let (from, count) = &mut last[to as usize];
            if *from != tree {
                (*from, *count) = (tree, 0);
                merges[tree] += 1;
                edges.push((tree, to));
            }
            *count += 1;
            if *count == s.blocks[to as usize].preds {
                starts_in[to as usize] = tree;
                merges[tree] -= 1;
            }
        }
    }
    let in_fan = |&(tree, to): &(usize, BlockId)| merges[tree] > MANY_MERGES && starts_in[to as usize] == 0;
    edges.into_iter().filter(in_fan).map(|(_, to)| to).collect()
}
