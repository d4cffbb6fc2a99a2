//! Functions that are nested too deeply for Cranelift's mid-end.
//!
//! For an expression that doesn't depend on where it stands, the mid-end goes up the dominator tree to where it could
//! stand first, and looks at every pair of the loops around it to move it out of some. In thousands of nested loops, or
//! in a chain of tens of thousands of branches, that would take minutes. Such functions, which nobody writes, are
//! compiled as with `-O1`.

use cranelift_codegen::Context;
use cranelift_codegen::ir::Block;
use cranelift_codegen::loop_analysis::{Loop, LoopAnalysis};
use cranelift_entity::SecondaryMap;

/// Steps that the mid-end may take: half a second.
const MANY_STEPS: u64 = 500_000_000;

/// Is the function, which has so many loops, too deep? Computes its dominator tree, if there is reason to look.
pub fn too_deep(ctx: &mut Context, loops: u32) -> bool {
    let (insts, blocks, loops) = (
        ctx.func.dfg.num_insts() as u64,
        ctx.func.dfg.num_blocks() as u64,
        u64::from(loops),
    );
    if insts.saturating_mul(blocks + loops * loops) <= MANY_STEPS {
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
    steps > MANY_STEPS
}
