//! How long Cranelift's mid-end will take for a function, and whether that is too long.
//!
//! For an expression that doesn't depend on where it stands, the mid-end goes up the dominator tree to where it could
//! stand first, and looks at every pair of the loops around it to move it out of some. In thousands of nested loops, or
//! in a chain of tens of thousands of branches, that would take minutes. Such functions, which nobody writes, are
//! compiled as with `-O1`.

use crate::limits::MAX_OPTIMIZER_STEPS;
use cranelift_codegen::Context;
use cranelift_codegen::ir::Block;
use cranelift_codegen::loop_analysis::{Loop, LoopAnalysis};
use cranelift_entity::SecondaryMap;

/// Whether the mid-end would need more than [`MAX_OPTIMIZER_STEPS`] for the function, which has so many loops. Computes
/// its dominator tree, if there is reason to look.
pub(crate) fn is_exceeded(ctx: &mut Context, loops: u32) -> bool {
    let (insts, blocks, loops) = (
        ctx.func.dfg.num_insts() as u64,
        ctx.func.dfg.num_blocks() as u64,
        u64::from(loops),
    );
    if insts.saturating_mul(blocks + loops * loops) <= MAX_OPTIMIZER_STEPS {
        return false;
    }
    ctx.compute_cfg();
    ctx.compute_domtree();
    let mut loops = LoopAnalysis::new();
    loops.compute(&ctx.func, &ctx.cfg, &ctx.domtree);
    let mut depths: SecondaryMap<Block, u64> = SecondaryMap::new();
    let mut levels: SecondaryMap<Loop, u64> = SecondaryMap::new();
    // A loop comes after the one around it.
    for lp in loops.loops() {
        levels[lp] = 1 + loops.loop_parent(lp).map_or(0, |outer| levels[outer]);
    }
    let mut steps = 0u64;
    for &b in ctx.domtree.cfg_rpo() {
        let depth = ctx.domtree.idom(b).map_or(0, |up| depths[up] + 1);
        depths[b] = depth;
        let level = loops.innermost_loop(b).map_or(0, |lp| levels[lp]);
        let insts = ctx.func.layout.block_insts(b).count() as u64;
        steps = steps.saturating_add(insts * (depth + level * level));
    }
    steps > MAX_OPTIMIZER_STEPS
}
