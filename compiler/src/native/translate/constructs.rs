//! Constructs of control, as they open and close.

use super::branches::args;
use super::exceptions::Pad;
use super::latch::Latch;
use super::{Translator, trap_code};
use crate::error::Error;
use crate::limits::MAX_NESTED_LATCHES;
use crate::module::types::block_type;
use crate::native::placement::merge_states::State;
use crate::native::signatures::clif_type;
use crate::uniform::control_walk::ConstructKind;
use crate::uniform::{BlockId, NONE};
use cranelift_codegen::ir::{Block, InstBuilder, Value, condcodes::IntCC, types::I8};
use dunlin_format::hostcalls::Trap;
use dunlin_format::types::{FuncType, ValType};
use wasmparser::{BlockType, Operator};

/// A construct that is open.
pub(crate) struct Control {
    pub(super) kind: ConstructKind,
    pub(super) results: Vec<ValType>,
    pub(super) num_params: usize,
    /// Where branches to it go: a loop's header (or latch, if it polls), else what follows it.
    pub(super) target: Block,
    /// The same, among the scan's blocks.
    pub(super) label: BlockId,
    /// Operand-stack height below its parameters.
    pub(super) height: usize,
    outer_live: bool,
    else_block: Option<Block>,
    /// An `if`'s parameters, for its `else`.
    params: Vec<Value>,
    /// State where an `if` branched.
    else_state: Option<State>,
    /// Where branches to a loop that polls go first.
    pub(super) latch: Option<Latch>,
    /// Where exceptions arrive that this construct handles.
    pub(super) pad: Option<Pad>,
    /// The innermost construct around it that handles exceptions.
    pub(super) outer_handler: Option<usize>,
    /// The operator of the legacy clause that is open.
    pub(super) clause: u32,
}

impl Control {
    /// The function's own label.
    pub(crate) fn function(ty: &FuncType, return_block: Block) -> Control {
        Control {
            kind: ConstructKind::Func,
            results: ty.results.clone(),
            num_params: 0,
            target: return_block,
            label: NONE,
            height: 0,
            outer_live: true,
            else_block: None,
            params: vec![],
            else_state: None,
            latch: None,
            pad: None,
            outer_handler: None,
            clause: NONE,
        }
    }
}

/// Translates a control operator; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>, offset: u32) -> Result<bool, Error> {
    use Operator::*;
    match op {
        Block { blockty } => t.open(ConstructKind::Block, *blockty, offset)?,
        Loop { blockty } => t.open(ConstructKind::Loop, *blockty, offset)?,
        If { blockty } => t.open(ConstructKind::If, *blockty, offset)?,
        TryTable { try_table } => {
            t.open(ConstructKind::TryTable, try_table.ty, offset)?;
            t.set_catches(&try_table.catches);
        }
        Try { blockty } => t.open(ConstructKind::Try, *blockty, offset)?,
        Catch { tag_index } => t.op_catch(Some(*tag_index)),
        CatchAll => t.op_catch(None),
        Delegate { relative_depth } => t.op_end(Some(*relative_depth)),
        Else => t.op_else(),
        End => t.op_end(None),
        _ if !t.live => {}
        Br { relative_depth } => {
            t.jump(*relative_depth);
            t.live = false;
        }
        BrIf { relative_depth } => {
            let cond = t.pop();
            t.br_if(cond, *relative_depth);
        }
        BrOnNull { relative_depth } => {
            let reference = t.pop();
            let is_null = t.is_null(reference);
            t.br_if(is_null, *relative_depth);
            t.push(reference);
        }
        BrOnNonNull { relative_depth } => {
            // The label takes the reference, too.
            let reference = t.peek_n(1)[0];
            let is_null = t.is_null(reference);
            let zero = t.b.ins().iconst(I8, 0);
            let not_null = t.b.ins().icmp(IntCC::Equal, is_null, zero);
            t.br_if(not_null, *relative_depth);
            t.pop();
        }
        BrTable { targets } => {
            let mut depths: Vec<u32> = targets.targets().collect::<Result<_, _>>()?;
            depths.push(targets.default());
            t.br_table(&depths);
        }
        Return => {
            t.jump(t.ctl.len() as u32 - 1);
            t.live = false;
        }
        Unreachable => {
            t.b.ins().trap(trap_code(Trap::Unreachable));
            t.live = false;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

impl Translator<'_, '_, '_> {
    /// Opens a construct: `block`, `loop`, `if` or `try`.
    fn open(&mut self, kind: ConstructKind, ty: BlockType, offset: u32) -> Result<(), Error> {
        let (params, results) = block_type(ty, &self.env.module.info.types)
            .ok_or_else(|| Error::unsupported("this type of block", offset as usize))?;
        let outer_live = self.live;
        let mut c = Control {
            kind,
            num_params: params.len(),
            target: self.return_block,
            label: NONE,
            // In dead code, too: an `end` there leaves the enclosing block's operands alone.
            height: self.stack.len(),
            outer_live,
            else_block: None,
            params: vec![],
            else_state: None,
            latch: None,
            pad: None,
            outer_handler: self.handler_within(self.ctl.len()),
            clause: NONE,
            results,
        };
        if self.live {
            let cond = (kind == ConstructKind::If).then(|| self.pop());
            let values = self.pop_n(params.len());
            c.height = self.stack.len();
            c.target = self.b.create_block();
            // What branches carry: a loop's parameters, or the results of anything else.
            let carried = if kind == ConstructKind::Loop {
                params.clone()
            } else {
                c.results.clone()
            };
            for ty in carried {
                self.b.append_block_param(c.target, clif_type(ty));
            }
            match kind {
                ConstructKind::Loop => {
                    c.label = self.scan.block_of_op[&self.op_index];
                    let fixups = self.fixups(c.label);
                    self.apply(&fixups);
                    let mut header = c.target;
                    let mut values = values;
                    let point = self.scan.point_of_op.get(&self.op_index).copied();
                    if let Some(point) = point.filter(|_| self.latches < MAX_NESTED_LATCHES) {
                        self.latches += 1;
                        let latch = self.open_latch(point, offset, c.target, &params, &values);
                        header = latch.header();
                        values = self.b.block_params(latch.outside()).to_vec();
                        c.latch = Some(latch);
                    }
                    self.b.ins().jump(header, &args(&values));
                    self.b.switch_to_block(header);
                    self.enter_state(c.label);
                    for v in self.b.block_params(header).to_vec() {
                        self.push(v);
                    }
                    match (&mut c.latch, point) {
                        (Some(latch), Some(point)) => {
                            latch.set_params(self.stack[c.height..].to_vec());
                            self.compare_at_point(point);
                        }
                        (None, Some(point)) => self.poll(point, NONE),
                        (_, None) => {}
                    }
                }
                ConstructKind::If => {
                    c.label = self.end_label();
                    let (then, els) = (self.b.create_block(), self.b.create_block());
                    if let Some(cond) = cond {
                        self.b.ins().brif(cond, then, &[], els, &[]);
                    }
                    self.b.seal_block(then);
                    self.b.seal_block(els);
                    self.b.switch_to_block(then);
                    c.else_block = Some(els);
                    c.else_state = Some(self.state.clone());
                    c.params = values.clone();
                    values.into_iter().for_each(|v| self.push(v));
                }
                _ => {
                    if matches!(kind, ConstructKind::TryTable | ConstructKind::Try) {
                        c.pad = Some(self.new_pad());
                    }
                    c.label = self.end_label();
                    values.into_iter().for_each(|v| self.push(v));
                }
            }
        }
        self.ctl.push(c);
        Ok(())
    }

    /// The scan's block at the matching `end` (if anything reaches it).
    fn end_label(&self) -> BlockId {
        let end = self.scan.end_of.get(&self.op_index);
        end.and_then(|e| self.scan.block_of_op.get(e)).copied().unwrap_or(NONE)
    }

    /// Starts an `if`'s false side.
    fn start_else(&mut self, c: &mut Control) {
        self.stack.truncate(c.height);
        if let (Some(els), Some(st)) = (c.else_block.take(), c.else_state.take()) {
            self.b.switch_to_block(els);
            self.state = st;
            for v in std::mem::take(&mut c.params) {
                self.push(v);
            }
        }
    }

    /// The `else` of an `if`.
    fn op_else(&mut self) {
        if self.live {
            self.jump(0);
        }
        let mut c = self.ctl.pop().expect("validated: else is within an if");
        c.kind = ConstructKind::Else;
        self.live = c.outer_live;
        self.start_else(&mut c);
        self.ctl.push(c);
    }

    /// The end of a construct; `delegate` is the depth that a legacy `delegate` passes exceptions to.
    fn op_end(&mut self, delegate: Option<u32>) {
        let kind = self.ctl.last().map(|c| c.kind);
        if kind == Some(ConstructKind::Loop) {
            let c = self.ctl.pop().expect("just seen");
            if let Some(latch) = c.latch {
                self.latches -= 1;
                self.close_latch(latch, c.target, c.label);
            } else if c.outer_live {
                self.b.seal_block(c.target);
            }
            if self.live {
                let values = self.peek_n(c.results.len());
                self.stack.truncate(c.height);
                values.into_iter().for_each(|v| self.push(v));
            }
            return;
        }
        if self.live {
            self.jump(0);
        }
        let Some(mut c) = self.ctl.pop() else { return };
        if c.kind == ConstructKind::Func {
            self.b.seal_block(self.return_block);
            self.b.switch_to_block(self.return_block);
            let values = self.b.block_params(self.return_block).to_vec();
            self.b.ins().return_(&values);
            self.stack.clear();
            self.live = false;
            return;
        }
        if c.kind == ConstructKind::If && c.outer_live {
            // No `else`: the parameters are the results.
            self.start_else(&mut c);
            self.ctl.push(c);
            self.jump(0);
            c = self.ctl.pop().expect("just pushed");
        }
        if let Some(pad) = c.pad.take() {
            self.land(pad, c.height, delegate);
        }
        self.stack.truncate(c.height);
        self.live = c.outer_live && self.scan.block_of_op.contains_key(&self.op_index);
        if c.outer_live {
            self.b.seal_block(c.target);
        }
        if self.live {
            self.b.switch_to_block(c.target);
            self.enter_state(c.label);
            for v in self.b.block_params(c.target).to_vec() {
                self.push(v);
            }
        }
    }
}
