//! Exceptions: `throw`, and where they arrive.
//!
//! Calls within a `try` are Cranelift's `try_call`: a block of their own where the callee's exceptions arrive, the
//! *pad*, shared by all calls of the construct. The runtime finds the pad through the frame maps, puts exception, tag
//! and payload into slots, and goes on there with the frame's own stack and frame pointer. As after any call, nothing
//! is in a register at a pad: the function's state is in its record. A pad compares tags in the order of the clauses,
//! then of those of outer constructs of the function, and at last passes the exception on.

use super::call::Target;
use super::points::Fixup;
use super::{SigKey, Translator, trap_code};
use crate::native::placement::merge_states::State;
use crate::native::signatures::{clif_type, leave_signature};
use crate::uniform::control_walk::{CatchClause, ConstructKind};
use crate::uniform::{BlockId, NONE};
use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, ExceptionTableData, ExceptionTableItem, InstBuilder, Value, condcodes::IntCC,
    types::I32, types::I64,
};
use dunlin_format::context::OFF_LEAVE;
use dunlin_format::hostcalls::{self, EXCEPTION_SLOT, PAYLOAD_SLOT, TAG_SLOT, Trap};
use wasmparser::{Catch, Operator};

/// Where exceptions arrive that a construct handles.
pub(crate) struct Pad {
    block: Block,
    /// The same, among the scan's blocks; [`NONE`] once a legacy clause has begun to take exceptions from it.
    label: BlockId,
    /// Whether any call leads here.
    used: bool,
    catches: Vec<Catch>,
    /// State on arrival, if it isn't that chosen for the scan's block.
    state: Option<State>,
}

/// A block that makes an edge fit its pad: what it must do, and the pad.
pub(crate) struct Detour {
    block: Block,
    fixups: Vec<Fixup>,
    to: Block,
}

/// Translates a throwing instruction; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    match *op {
        Operator::Throw { tag_index } => {
            let info = &t.env.module.info;
            let ty = &info.types[info.tags[tag_index as usize] as usize];
            let values = t.pop_n(ty.params.len());
            for (slot, value) in (0..).zip(values) {
                t.store_context(value, t.env.layout.slot(slot));
            }
            t.throw(hostcalls::THROW_BASE + tag_index);
        }
        Operator::ThrowRef => {
            let exception = t.pop();
            let is_null = t.is_null(exception);
            t.b.ins().trapnz(is_null, trap_code(Trap::NullException));
            t.store_context(exception, t.env.layout.slot(EXCEPTION_SLOT));
            t.throw(hostcalls::THROW_REF);
        }
        Operator::Rethrow { relative_depth } => {
            let clause = t.ctl[t.ctl.len() - 1 - relative_depth as usize].clause;
            let exception = t.get(t.scan.caught_var[&clause]);
            t.store_context(exception, t.env.layout.slot(EXCEPTION_SLOT));
            t.throw(hostcalls::THROW_REF);
        }
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// The pad of the construct that the current operator opens.
    pub(super) fn new_pad(&mut self) -> Pad {
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        Pad {
            block,
            label: self.scan.pad_of_op.get(&self.op_index).copied().unwrap_or(NONE),
            used: false,
            catches: vec![],
            state: None,
        }
    }

    /// Sets the clauses of the `try_table` just opened.
    pub(super) fn set_catches(&mut self, catches: &[Catch]) {
        if let Some(pad) = self.ctl.last_mut().and_then(|c| c.pad.as_mut()) {
            pad.catches = catches.to_vec();
        }
    }

    /// The construct among the outermost `depth` that handles exceptions thrown within them.
    pub(super) fn handler_within(&self, depth: usize) -> Option<usize> {
        let k = depth.checked_sub(1)?;
        let c = &self.ctl[k];
        if c.kind.handles_exceptions() {
            Some(k)
        } else {
            c.outer_handler
        }
    }

    /// Where an edge to a construct's pad goes, with the state as it is now: the pad, or a block that first makes it
    /// fit.
    fn edge_to_pad(&mut self, construct: usize) -> Option<Block> {
        let pad = self.ctl[construct].pad.as_mut()?;
        pad.used = true;
        let (block, label) = (pad.block, pad.label);
        let fixups = self.fixups(label);
        if fixups.is_empty() {
            return Some(block);
        }
        let detour = self.b.create_block();
        self.b.set_cold_block(detour);
        self.pending = Some(Detour {
            block: detour,
            fixups,
            to: block,
        });
        Some(detour)
    }

    /// Fills the block that [`Translator::edge_to_pad`] made, once the current one is complete.
    fn fill_edge_to_pad(&mut self) {
        if let Some(detour) = self.pending.take() {
            let state = self.state.clone();
            self.b.switch_to_block(detour.block);
            self.b.seal_block(detour.block);
            self.apply(&detour.fixups);
            self.b.ins().jump(detour.to, &[]);
            self.state = state;
        }
    }

    /// Emits a call whose arguments and record are ready; its results in registers. Where a handler is open in this
    /// function, the call ends its block.
    pub(super) fn emit_call(&mut self, target: Target, args: &[Value], is_point: bool) -> Vec<Value> {
        let handler = self.handler_within(self.ctl.len());
        let Some(handler) = handler else {
            let inst = match target {
                Target::Function(f) => self.b.ins().call(f, args),
                Target::Address(sig, code) => self.b.ins().call_indirect(sig, code, args),
            };
            let results = self.b.inst_results(inst).to_vec();
            if is_point {
                self.after_call();
            }
            return results;
        };
        if is_point {
            self.after_call();
        }
        let sig = match target {
            Target::Function(f) => self.b.func.dfg.ext_funcs[f].signature,
            Target::Address(sig, _) => sig,
        };
        let Some(pad) = self.edge_to_pad(handler) else {
            return vec![];
        };
        let next = self.b.create_block();
        let returns: Vec<_> = self.b.func.dfg.signatures[sig]
            .returns
            .iter()
            .map(|r| r.value_type)
            .collect();
        let results: Vec<Value> = returns.iter().map(|&ty| self.b.append_block_param(next, ty)).collect();
        let pool = &mut self.b.func.dfg.value_lists;
        let on_return = BlockCall::new(next, (0..returns.len() as u32).map(BlockArg::TryCallRet), pool);
        let on_throw = ExceptionTableItem::Default(BlockCall::new(pad, [], pool));
        let table = ExceptionTableData::new(sig, on_return, [on_throw]);
        let table = self.b.func.dfg.exception_tables.push(table);
        match target {
            Target::Function(f) => self.b.ins().try_call(f, args, table),
            Target::Address(_, code) => self.b.ins().try_call_indirect(code, args, table),
        };
        self.fill_edge_to_pad();
        self.b.switch_to_block(next);
        self.b.seal_block(next);
        results
    }

    /// Throws what is in the slots.
    fn throw(&mut self, call_id: u32) {
        let point = self.scan.point_of_op.get(&self.op_index).copied();
        if let Some(p) = point {
            self.flush(p);
        }
        let sig = self.sig(SigKey::Leave, leave_signature);
        let thunk = self.load_context(I64, OFF_LEAVE);
        let id = self.b.ins().iconst(I32, i64::from(call_id));
        let ctx = self.ctx();
        self.emit_call(Target::Address(sig, thunk), &[ctx, id], point.is_some());
        self.never_returns();
    }

    /// Behind a call of the runtime that goes on elsewhere.
    fn never_returns(&mut self) {
        self.b.ins().trap(trap_code(Trap::Unreachable));
        self.live = false;
    }

    /// The end of a construct with a pad: what becomes of exceptions that arrive there. The construct is closed
    /// already.
    pub(super) fn land(&mut self, pad: Pad, height: usize, delegate: Option<u32>) {
        if !self.arrive(&pad, height) {
            return;
        }
        let mut caught = false;
        for clause in pad.catches.iter().map(CatchClause::from) {
            let next = clause.tag.map(|tag| self.unless_tag(tag));
            let state = self.state.clone();
            self.push_payload(clause.tag);
            if clause.by_reference {
                let exception = self.load_context(I32, self.env.layout.slot(EXCEPTION_SLOT));
                self.push(exception);
            } else {
                self.leave(SigKey::LeaveNeutral, hostcalls::CAUGHT);
            }
            self.jump(clause.label);
            self.stack.truncate(height);
            self.state = state;
            match next {
                Some(next) => {
                    self.b.switch_to_block(next);
                    self.b.seal_block(next);
                }
                None => {
                    caught = true;
                    break;
                }
            }
        }
        if !caught {
            self.pass_on(self.ctl.len() - delegate.unwrap_or(0) as usize);
        }
        self.live = false;
    }

    /// Starts the code of a pad; `false` if nothing leads there.
    fn arrive(&mut self, pad: &Pad, height: usize) -> bool {
        self.b.seal_block(pad.block);
        if !pad.used {
            return false;
        }
        self.stack.truncate(height);
        self.b.switch_to_block(pad.block);
        match &pad.state {
            Some(state) => self.state = state.clone(),
            None => self.enter_state(pad.label),
        }
        self.ctx();
        true
    }

    /// Goes on if the exception has this tag; returns the block for those that haven't.
    fn unless_tag(&mut self, tag: u32) -> Block {
        let found = self.load_context(I32, self.env.layout.slot(TAG_SLOT));
        let wanted = self.b.ins().iconst(I32, i64::from(tag));
        let same = self.b.ins().icmp(IntCC::Equal, found, wanted);
        let (matching, other) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(same, matching, &[], other, &[]);
        self.b.switch_to_block(matching);
        self.b.seal_block(matching);
        other
    }

    /// Pushes the exception's values, if a clause is for a tag.
    fn push_payload(&mut self, tag: Option<u32>) {
        let info = &self.env.module.info;
        let Some(tag) = tag else { return };
        let ty = &info.types[info.tags[tag as usize] as usize];
        for (slot, &ty) in (PAYLOAD_SLOT..).zip(&ty.params) {
            let value = self.load_context(clif_type(ty), self.env.layout.slot(slot));
            self.push(value);
        }
    }

    /// No clause takes the exception: on to the next handler of this function, or out of it.
    fn pass_on(&mut self, within: usize) {
        let target = self.handler_within(within).and_then(|h| self.edge_to_pad(h));
        match target {
            Some(block) => {
                self.b.ins().jump(block, &[]);
                self.fill_edge_to_pad();
            }
            None => {
                self.leave(SigKey::LeaveNeutral, hostcalls::PASS_ON);
                self.never_returns();
            }
        }
    }

    /// A legacy clause: takes exceptions from the pad, and leaves those of other tags to what comes next.
    pub(super) fn op_catch(&mut self, tag: Option<u32>) {
        if self.live {
            self.jump(0);
        }
        let mut c = self.ctl.pop().expect("validated: catch is within a try");
        c.kind = ConstructKind::Catch;
        c.clause = self.op_index;
        let pad = c.pad.take();
        self.live = pad.as_ref().is_some_and(|pad| self.arrive(pad, c.height));
        if self.live {
            let next = tag.map(|tag| self.unless_tag(tag));
            c.pad = next.map(|block| Pad {
                block,
                label: NONE,
                used: true,
                catches: vec![],
                state: Some(self.state.clone()),
            });
            let exception = self.load_context(I32, self.env.layout.slot(EXCEPTION_SLOT));
            self.set(self.scan.caught_var[&self.op_index], exception);
            self.push_payload(tag);
            if !self.scan.rethrown.contains(&self.op_index) {
                self.leave(SigKey::LeaveNeutral, hostcalls::CAUGHT);
            }
        }
        self.ctl.push(c);
    }
}
