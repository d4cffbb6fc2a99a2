//! Code with edges to hundreds of merges, as before a large `br_table` or along a chain of `br_if`: its fan-out.
//!
//! A value becomes an argument on each edge to a merge if the merge has another value for the variable on another path;
//! for that it is enough that it was loaded anew after a call there. The register allocator joins the live ranges of an
//! argument and the parameter, and goes through all that the argument has been joined with for every further one. So at
//! the merges of a large fan-out, what has a home is in the record only.

use crate::limits::MAX_FANOUT;
use crate::uniform::BlockId;
use crate::uniform::liveness::events;
use crate::uniform::scan::{Event, Scan};
use rustc_hash::FxHashSet;

/// The merges of code that has edges to more than [`MAX_FANOUT`].
///
/// What lies between calls, and merges with other paths, is a tree, which has a number. A merge that only
/// one tree leads to is part of it: values only differ there that are assigned in the tree.
pub(crate) fn crowded_merges(s: &Scan) -> FxHashSet<BlockId> {
    if s.blocks.len() <= MAX_FANOUT {
        return FxHashSet::default();
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
    let is_crowded = |&(tree, to): &(usize, BlockId)| merges[tree] > MAX_FANOUT && starts_in[to as usize] == 0;
    edges.into_iter().filter(is_crowded).map(|(_, to)| to).collect()
}
