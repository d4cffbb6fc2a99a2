//! Fans: merges that values go to which go to hundreds of others too, as behind a large `br_table` or a long chain of `br_if`.
//!
//! A value becomes an argument on each edge to a merge if the merge has another value for the variable on another path; for that it is
//! enough that it was loaded anew after a call there. The register allocator joins the live ranges of an argument and the parameter, and
//! goes through all that the argument has been joined with for every further one. So in the merges of a fan the policy has what has a
//! home in the record only.

use super::BlockId;
use super::scan::Scan;
use crate::hash::HashSet;

/// Merges beyond which any more are too many.
const MANY_MERGES: usize = 512;

/// Counts merges. What lies between calls, and merges with other paths, is a tree, which has a number.
pub struct Fans {
    /// The tree that a block starts in, if all its predecessors are in one.
    tree: Vec<u32>,
    /// For merges, the last tree that had an edge there ...
    last: Vec<u32>,
    /// ... and how many it had.
    edges: Vec<u32>,
    /// How many merges with other paths each tree has edges to. There is no tree 0.
    merges: Vec<usize>,
    /// Merges that a tree has edges to which had too many before.
    beyond: HashSet<BlockId>,
}

impl Fans {
    /// Nothing counted yet.
    pub fn new(s: &Scan) -> Fans {
        Fans {
            tree: vec![0; s.blocks.len()],
            last: vec![0; s.blocks.len()],
            edges: vec![0; s.blocks.len()],
            merges: vec![0],
            beyond: HashSet::default(),
        }
    }

    /// A new tree: behind a call.
    pub fn plant(&mut self) -> u32 {
        self.merges.push(0);
        self.merges.len() as u32 - 1
    }

    /// The tree that a block starts in. All edges to it but those back are counted.
    pub fn at(&mut self, b: BlockId) -> u32 {
        match self.tree[b as usize] {
            0 => self.plant(),
            tree => tree,
        }
    }

    /// Is a block one of too many merges? It is not if only one tree leads there: then values only differ that are assigned in it.
    pub fn has(&self, b: BlockId) -> bool {
        self.tree[b as usize] == 0 && self.beyond.contains(&b)
    }

    /// Counts the edges out of a block that ends in a tree.
    pub fn edges(&mut self, s: &Scan, b: BlockId, tree: u32) {
        let succs = || s.blocks[b as usize].succs.iter().copied();
        for to in succs().map(|t| t as usize) {
            if self.last[to] != tree {
                self.last[to] = tree;
                self.edges[to] = 0;
                self.merges[tree as usize] += 1;
            }
            self.edges[to] += 1;
            if self.edges[to] == s.blocks[to].preds {
                self.tree[to] = tree;
                self.merges[tree as usize] -= 1;
            }
        }
        if self.merges[tree as usize] > MANY_MERGES {
            self.beyond.extend(succs());
        }
    }
}
