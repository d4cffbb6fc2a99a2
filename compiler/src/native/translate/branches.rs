//! Branches: where they go, and what each edge must do so that it fits the block it leads to.

use super::Translator;
use super::points::Fixup;
use crate::limits::{
    MAX_BRANCH_FIXUPS, MAX_DIRECT_ENTRIES, MAX_DIRECT_TARGETS, MAX_SHARED_RETURNS, MIN_FIXUP_REPEATS, MIN_SHARED_FIXUPS,
};
use crate::uniform::BlockId;
use crate::uniform::calling_convention::{results_in_registers, uses_slots};
use crate::uniform::control_walk::ConstructKind;
use cranelift_codegen::ir::{Block, BlockArg, BlockCall, InstBuilder, JumpTableData, Value, condcodes::IntCC};

/// Where an edge goes, and what it must do on its way.
struct Edge {
    to: Block,
    args: Vec<Value>,
    fixups: Vec<Fixup>,
    /// Results that travel in slots: (slot, value).
    slots: Vec<(u32, Value)>,
}

/// Values as arguments of a jump.
pub(super) fn args(values: &[Value]) -> Vec<BlockArg> {
    values.iter().map(|&v| v.into()).collect()
}

impl Translator<'_, '_, '_> {
    /// An edge to a label, from here.
    fn edge(&mut self, depth: u32) -> Edge {
        let at = self.ctl.len() - 1 - depth as usize;
        let c = &mut self.ctl[at];
        if let Some(latch) = &mut c.latch {
            latch.reached = true;
        }
        let (kind, to, label) = (c.kind, c.target, c.label);
        let n = if kind == ConstructKind::Loop {
            c.num_params
        } else {
            c.results.len()
        };
        let mut values = self.peek_n(n);
        let mut slots = vec![];
        if kind == ConstructKind::Func {
            if uses_slots(&self.ty.results) {
                self.ctx();
                let in_regs = results_in_registers(&self.ty.results);
                slots = (0..n).filter(|&k| !in_regs[k]).map(|k| (k as u32, values[k])).collect();
                values = (0..n).filter(|&k| in_regs[k]).map(|k| values[k]).collect();
            }
            return Edge {
                to,
                args: values,
                fixups: vec![],
                slots,
            };
        }
        let fixups = self.fixups(label);
        Edge {
            to,
            args: values,
            fixups,
            slots,
        }
    }

    /// Emits what an edge must do, and the jump.
    fn take(&mut self, e: &Edge) {
        self.before_jump(e);
        self.b.ins().jump(e.to, &args(&e.args));
    }

    /// Emits what an edge must do.
    fn before_jump(&mut self, e: &Edge) {
        for &(slot, v) in &e.slots {
            self.store_context(v, self.env.layout.slot(slot));
        }
        self.apply(&e.fixups);
    }

    /// A jump to the label of the construct at a depth.
    pub(super) fn jump(&mut self, depth: u32) {
        let e = self.edge(depth);
        if self.ctl[self.ctl.len() - 1 - depth as usize].kind == ConstructKind::Func {
            self.returns += 1;
            if self.returns > MAX_SHARED_RETURNS {
                self.before_jump(&e);
                self.b.ins().return_(&e.args);
                return;
            }
        }
        self.take(&e);
    }

    /// A block of its own for an edge that has something to do, else nothing.
    fn split(&mut self, e: &Edge) -> Option<Block> {
        (!e.fixups.is_empty() || !e.slots.is_empty()).then(|| self.b.create_block())
    }

    /// Fills a block that [`Translator::split`] made.
    fn fill_split(&mut self, block: Block, e: &Edge) {
        let state = self.state.clone();
        self.b.switch_to_block(block);
        self.b.seal_block(block);
        self.take(e);
        self.state = state;
    }

    /// A conditional branch to `to`, else to `next`. The block named second comes right behind: that should be a loop's
    /// latch (`back`), since the register allocator takes all that lies between a loop's header and its last branch
    /// back for part of the loop.
    fn brif(&mut self, cond: Value, to: Block, args: &[BlockArg], next: Block, back: bool) {
        if back {
            // An i32 of the program's, or the result of a comparison.
            let ty = self.b.func.dfg.value_type(cond);
            let zero = self.b.ins().iconst(ty, 0);
            let not = self.b.ins().icmp(IntCC::Equal, cond, zero);
            self.b.ins().brif(not, next, &[], to, args);
        } else {
            self.b.ins().brif(cond, to, args, next, &[]);
        }
    }

    /// A branch to a label if `cond` is not 0.
    pub(super) fn br_if(&mut self, cond: Value, depth: u32) {
        let target = &self.ctl[self.ctl.len() - 1 - depth as usize];
        let (back, label) = (target.latch.is_some(), target.label);
        let mut e = self.edge(depth);
        if e.fixups.len() > MAX_BRANCH_FIXUPS || self.stores_early(depth, label, &e) {
            self.apply(&e.fixups);
            e = self.edge(depth);
        }
        let next = self.b.create_block();
        match self.split(&e) {
            None => self.brif(cond, e.to, &args(&e.args), next, back),
            Some(block) => {
                self.brif(cond, block, &[], next, back);
                self.fill_split(block, &e);
            }
        }
        self.b.switch_to_block(next);
        self.b.seal_block(next);
    }

    /// Whether an edge to one of very many merges needs a store. Done before the branch, the edges to the others need
    /// none. Not in a loop that the branch leaves or goes round: there it would be done each time.
    fn stores_early(&self, depth: u32, label: BlockId, e: &Edge) -> bool {
        let around = || &self.ctl[self.ctl.len() - 1 - depth as usize..];
        self.placement.merges.crowded.contains(&label)
            && e.fixups.iter().any(|f| matches!(f, Fixup::Store(_)))
            && around().iter().all(|c| c.kind != ConstructKind::Loop)
    }

    /// A branch by the popped index; the last of `depths` is the default.
    pub(super) fn br_table(&mut self, depths: &[u32]) {
        let index = self.pop();
        let mut distinct = depths.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut edges: Vec<Edge> = distinct.iter().map(|&d| self.edge(d)).collect();
        if self.share_fixups(&edges) {
            edges = distinct.iter().map(|&d| self.edge(d)).collect();
        }
        let target = |d: &u32| distinct.binary_search(d).expect("collected above");
        let mut entries = vec![0; distinct.len()];
        depths.iter().for_each(|d| entries[target(d)] += 1);
        // Arguments are per entry of the table, those too that the front end adds for variables, and whatever looks for
        // a block's arguments looks through all of it.
        let arguments: usize = edges.iter().map(|e| e.args.len()).max().unwrap_or(0) * depths.len();
        let split_all = distinct.len() > MAX_DIRECT_TARGETS || arguments > MAX_DIRECT_TARGETS * MAX_DIRECT_TARGETS;
        let split_repeated = depths.len() > MAX_DIRECT_TARGETS;
        let blocks: Vec<Option<Block>> = edges
            .iter()
            .zip(entries)
            .map(
                |(e, entries)| match split_all || split_repeated && entries > MAX_DIRECT_ENTRIES {
                    true => Some(self.b.create_block()),
                    false => self.split(e),
                },
            )
            .collect();
        let calls: Vec<BlockCall> = depths
            .iter()
            .map(|d| {
                let k = target(d);
                let pool = &mut self.b.func.dfg.value_lists;
                match blocks[k] {
                    Some(b) => BlockCall::new(b, [], pool),
                    None => BlockCall::new(edges[k].to, args(&edges[k].args), pool),
                }
            })
            .collect();
        let (default, table) = calls.split_last().expect("a br_table has a default");
        let jt = self.b.create_jump_table(JumpTableData::new(*default, table));
        self.b.ins().br_table(index, jt);
        for (e, block) in edges.iter().zip(blocks) {
            if let Some(b) = block {
                self.fill_split(b, e);
            }
        }
        self.live = false;
    }

    /// If many edges would do the same, does it here, once, before they part. The edges must then be found anew.
    fn share_fixups(&mut self, edges: &[Edge]) -> bool {
        let total: usize = edges.iter().map(|e| e.fixups.len()).sum();
        if total < MIN_SHARED_FIXUPS {
            return false;
        }
        let mut fixups: Vec<Fixup> = edges.iter().flat_map(|e| e.fixups.iter().copied()).collect();
        fixups.sort_unstable();
        fixups.dedup();
        let shared = total > MIN_FIXUP_REPEATS * fixups.len();
        if shared {
            self.apply(&fixups);
        }
        shared
    }
}
