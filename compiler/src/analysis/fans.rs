//! Fans: merges that values go to which go to hundreds of others too, as behind a large `br_table` or a long chain of `br_if`.
//!
//! A value becomes an argument on each edge to a merge if the merge has another value for the variable on another path; for that it is
//! enough that it was loaded anew after a call there. The register allocator joins the live ranges of an argument and the parameter, and
//! goes through all that the argument has been joined with for every further one. So in the merges of a fan the policy has what has a
//! home in the record only.

use super::BlockId;
use super::scan::Scan;

/// Merges beyond which they are too many.
pub const MANY_MERGES: usize = 512;

/// Counts merges. Between merges and calls blocks form a tree, which has a number: within it, values are the same.
pub struct Fans {
    /// The tree that a block with one predecessor starts in.
    tree: Vec<u32>,
    /// The last tree that had an edge to a merge.
    last: Vec<u32>,
    /// How many merges each tree has edges to.
    merges: Vec<usize>,
}

impl Fans {
    /// Nothing counted yet.
    pub fn new(s: &Scan) -> Fans {
        Fans {
            tree: vec![0; s.blocks.len()],
            last: vec![0; s.blocks.len()],
            merges: vec![0],
        }
    }

    /// A new tree: behind a call.
    pub fn plant(&mut self) -> u32 {
        self.merges.push(0);
        self.merges.len() as u32 - 1
    }

    /// The tree that a block starts in.
    pub fn at(&mut self, s: &Scan, b: BlockId) -> u32 {
        match s.blocks[b as usize].preds {
            1 => self.tree[b as usize],
            _ => self.plant(),
        }
    }

    /// Counts the edges out of a block that ends in a tree. Returns whether the tree has too many merges.
    pub fn edges(&mut self, s: &Scan, b: BlockId, tree: u32) -> bool {
        for &t in &s.blocks[b as usize].succs {
            if s.blocks[t as usize].preds == 1 {
                self.tree[t as usize] = tree;
            } else if self.last[t as usize] != tree {
                self.last[t as usize] = tree;
                self.merges[tree as usize] += 1;
            }
        }
        self.merges[tree as usize] > MANY_MERGES
    }
}
