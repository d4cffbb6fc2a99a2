//! One pass over a body: validates it, and turns it into events in basic blocks.
//!
//! The scan keeps WebAssembly's two stacks. Every push makes an *operand* with an id; an operand that is still on the
//! stack at a migration point is *marked*: it gets a variable (one per depth and type), and what becomes of it is then
//! a matter of definitions and uses like any local's. Marks are found after the operand's own push was recorded, so the
//! events name operands by id until the end of the scan.

use super::operators::uses_context;
use super::{Block, BlockId, CTX, Event, NONE, PointInfo, Var, VarInfo};
use crate::abi;
use crate::error::Error;
use crate::hash::{HashMap, HashSet};
use crate::module::Module;
use crate::wasm_types::{block_type, val_type};
use dunlin_format::framemap::{Callee, HomeKind};
use dunlin_format::module::Needs;
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::{FuncType, ValType};
use wasmparser::{FuncValidator, FunctionBody, Operator, OperatorsReader, ValidatorResources};

/// What the scan found. The fields are [`super::Analysis`]'s.
#[derive(Debug, Default)]
pub struct Scan<'a> {
    /// Operators with offsets.
    pub ops: Vec<(Operator<'a>, u32)>,
    /// Number of parameters.
    pub num_params: u32,
    /// Number of locals, parameters included.
    pub num_locals: u32,
    /// Offset that names the entry point.
    pub body_offset: u32,
    /// All variables.
    pub vars: Vec<VarInfo>,
    /// Variable of every operand.
    pub entry_var: Vec<u32>,
    /// Events.
    pub events: Vec<Event>,
    /// Blocks.
    pub blocks: Vec<Block>,
    /// Blocks in code order.
    pub order: Vec<BlockId>,
    /// Block that starts at an operator.
    pub block_of_op: HashMap<u32, BlockId>,
    /// Matching `end`s.
    pub end_of: HashMap<u32, u32>,
    /// Points.
    pub points: Vec<PointInfo>,
    /// Point at an operator.
    pub point_of_op: HashMap<u32, u32>,
    /// The entry poll's point, or [`NONE`].
    pub entry_point: u32,
    /// Events within a loop's body, by its operator.
    pub loop_events: HashMap<u32, std::ops::Range<u32>>,
    /// What the operators need of the runtime.
    pub needs: Needs,
    /// Block in which exceptions arrive, by the operator of the `try` or `try_table`.
    pub pad_of_op: HashMap<u32, BlockId>,
    /// The variable that holds a reference to the exception that a legacy clause caught, by the clause's operator.
    pub caught_var: HashMap<u32, Var>,
    /// Legacy clauses whose exception is thrown again.
    pub rethrown: HashSet<u32>,
}

/// What the scan needs to know from outside the body.
#[derive(Clone, Copy, Debug)]
pub struct Request<'m> {
    /// The module.
    pub module: &'m Module<'m>,
    /// Emit migration points at all?
    pub migration: bool,
    /// Poll at the entry?
    pub entry_poll: bool,
    /// As in [`crate::Settings`].
    pub max_alive: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Func,
    Block,
    Loop,
    If,
    Else,
    /// `try_table`.
    TryTable,
    /// The legacy `try`, before its first clause.
    Try,
    /// The legacy `catch` and `catch_all`.
    Catch,
}

pub(super) struct Control {
    pub(super) kind: Kind,
    pub(super) params: Vec<ValType>,
    pub(super) results: Vec<ValType>,
    /// Operand-stack height below the block's parameters.
    pub(super) height: usize,
    /// Branch target: the header of a loop, the block after any other; [`NONE`] for the function.
    pub(super) label: BlockId,
    /// Does anything branch (or fall) to the label of a non-loop?
    pub(super) label_used: bool,
    /// Was the code before the construct reachable?
    pub(super) outer_live: bool,
    pub(super) start_op: u32,
    pub(super) else_block: BlockId,
    pub(super) first_event: u32,
    /// Where exceptions arrive: those of the body (`TryTable`, `Try`), or those that no clause so far takes (`Catch`).
    pub(super) pad: BlockId,
    /// Where exceptions arrive that are thrown around the construct.
    pub(super) outer_pad: BlockId,
    /// A `try_table`'s clauses.
    pub(super) catches: Vec<wasmparser::Catch>,
    /// The clause's operator (`Catch`).
    pub(super) clause: u32,
}

impl Control {
    /// Does it handle exceptions that are thrown in what is open of it?
    pub(super) fn is_handler(&self) -> bool {
        matches!(self.kind, Kind::TryTable | Kind::Try)
    }
}

pub(super) struct Operand {
    pub(super) id: u32,
    pub(super) ty: ValType,
}

pub(super) struct Scanner<'a, 'm> {
    pub(super) s: Scan<'a>,
    pub(super) rq: Request<'m>,
    pub(super) stack: Vec<Operand>,
    /// Operands below this index are marked already.
    pub(super) marked: usize,
    pub(super) stack_vars: HashMap<(u32, ValType), Var>,
    /// Variables of caught exceptions, by nesting depth.
    pub(super) caught_vars: HashMap<usize, Var>,
    pub(super) ctl: Vec<Control>,
    pub(super) live: bool,
    pub(super) block: BlockId,
    /// Has the context been read since the last point of this block?
    pub(super) ctx_used: bool,
}

/// Scans and validates a body.
pub fn scan<'a>(
    rq: Request<'_>,
    ty: &FuncType,
    body: &FunctionBody<'a>,
    validator: &mut FuncValidator<ValidatorResources>,
) -> Result<Scan<'a>, Error> {
    let mut reader = body.get_binary_reader();
    let body_offset = reader.original_position() as u32;
    validator.read_locals(&mut reader)?;
    let mut sc = Scanner {
        s: Scan {
            entry_point: NONE,
            body_offset,
            ..Scan::default()
        },
        rq,
        stack: vec![],
        marked: 0,
        stack_vars: HashMap::default(),
        caught_vars: HashMap::default(),
        ctl: vec![],
        live: true,
        block: NONE,
        ctx_used: false,
    };
    sc.begin(ty, validator, body_offset)?;
    let mut reader = OperatorsReader::new(reader);
    while !reader.eof() {
        let offset = reader.original_position();
        let op = reader.read()?;
        // The arity is a matter of the control stack *before* the operator.
        let arity = if sc.live {
            wasmparser_arity(&op, validator)
        } else {
            (0, 0)
        };
        validator.op(offset, &op)?;
        sc.op(op, offset as u32, arity, validator)?;
    }
    let end = reader.original_position();
    reader.get_binary_reader().finish_expression(&validator.visitor(end))?;
    Ok(sc.finish())
}

/// How many operands an operator outside the control group pops and pushes.
fn wasmparser_arity(op: &Operator, validator: &FuncValidator<ValidatorResources>) -> (u32, u32) {
    use Operator::*;
    match op {
        Block { .. }
        | Loop { .. }
        | If { .. }
        | Else
        | End
        | Br { .. }
        | BrIf { .. }
        | BrTable { .. }
        | Return
        | Unreachable => (0, 0),
        TryTable { .. } | Try { .. } | Catch { .. } | CatchAll | Delegate { .. } => (0, 0),
        Throw { .. } | ThrowRef | Rethrow { .. } => (0, 0),
        BrOnNull { .. } | BrOnNonNull { .. } | ReturnCall { .. } | ReturnCallIndirect { .. } | ReturnCallRef { .. } => {
            (0, 0)
        }
        _ => op.operator_arity(validator).unwrap_or((0, 0)),
    }
}

impl<'a> Scanner<'a, '_> {
    fn begin(
        &mut self,
        ty: &FuncType,
        validator: &FuncValidator<ValidatorResources>,
        body_offset: u32,
    ) -> Result<(), Error> {
        self.s.num_params = ty.params.len() as u32;
        self.s.num_locals = validator.len_locals();
        self.s.vars.push(VarInfo {
            kind: HomeKind::Context,
            ty: ValType::I64,
        });
        for i in 0..self.s.num_locals {
            let ty = validator.get_local_type(i).and_then(val_type);
            let ty = ty.ok_or_else(|| Error::unsupported("this type of local", body_offset as usize))?;
            self.s.vars.push(VarInfo {
                kind: HomeKind::Slot(Slot::Local(i)),
                ty,
            });
        }
        let entry = self.new_block();
        self.start(entry);
        self.event(Event::Def(CTX));
        for i in 0..self.s.num_locals {
            self.event(Event::Def(i + 1));
        }
        if self.rq.entry_poll && self.rq.migration {
            self.s.entry_point = self.point(body_offset, PointKind::Entry, Callee::None);
        }
        self.ctl.push(Control {
            kind: Kind::Func,
            params: vec![],
            results: ty.results.clone(),
            height: 0,
            label: NONE,
            label_used: false,
            outer_live: true,
            start_op: NONE,
            else_block: NONE,
            first_event: 0,
            pad: NONE,
            outer_pad: NONE,
            catches: vec![],
            clause: NONE,
        });
        Ok(())
    }

    pub(super) fn new_block(&mut self) -> BlockId {
        self.s.blocks.push(Block::default());
        self.s.blocks.len() as u32 - 1
    }

    /// Ends the current block (its successors are known) and starts another.
    pub(super) fn start(&mut self, block: BlockId) {
        self.close();
        let at = self.s.events.len() as u32;
        self.s.blocks[block as usize].events = at..at;
        self.s.order.push(block);
        self.block = block;
        self.ctx_used = false;
    }

    pub(super) fn close(&mut self) {
        if self.block != NONE {
            self.s.blocks[self.block as usize].events.end = self.s.events.len() as u32;
            self.block = NONE;
        }
    }

    pub(super) fn edge(&mut self, to: BlockId) {
        if to != NONE {
            self.s.blocks[self.block as usize].succs.push(to);
            self.s.blocks[to as usize].preds += 1;
        }
    }

    pub(super) fn event(&mut self, e: Event) {
        self.s.events.push(e);
    }

    pub(super) fn use_ctx(&mut self) {
        if !self.ctx_used {
            self.ctx_used = true;
            self.event(Event::Use(CTX));
        }
    }

    /// Results beyond registers are returned through the context.
    fn use_ctx_to_return(&mut self) {
        if abi::uses_slots(&self.ctl[0].results) {
            self.use_ctx();
        }
    }

    pub(super) fn push(&mut self, ty: ValType) {
        let id = self.s.entry_var.len() as u32;
        self.s.entry_var.push(NONE);
        self.event(Event::DefEntry(id));
        self.stack.push(Operand { id, ty });
    }

    fn pop(&mut self) {
        if let Some(e) = self.stack.pop() {
            self.event(Event::UseEntry(e.id));
        }
        self.marked = self.marked.min(self.stack.len());
    }

    pub(super) fn pop_n(&mut self, n: usize) {
        (0..n).for_each(|_| self.pop());
    }

    pub(super) fn peek_n(&mut self, n: usize) {
        for k in self.stack.len() - n..self.stack.len() {
            self.s.events.push(Event::UseEntry(self.stack[k].id));
        }
    }

    pub(super) fn truncate(&mut self, height: usize) {
        self.stack.truncate(height);
        self.marked = self.marked.min(height);
    }

    /// Everything on the stack is live across a point here: it needs a variable.
    fn mark_all(&mut self) {
        for k in self.marked..self.stack.len() {
            let Operand { id, ty } = self.stack[k];
            let vars = &mut self.s.vars;
            let var = *self.stack_vars.entry((k as u32, ty)).or_insert_with(|| {
                vars.push(VarInfo {
                    kind: HomeKind::Slot(Slot::Stack(k as u32)),
                    ty,
                });
                vars.len() as u32 - 1
            });
            self.s.entry_var[id as usize] = var;
        }
        self.marked = self.stack.len();
    }

    /// A migration point here. Its live set is found later.
    pub(super) fn point(&mut self, offset: u32, kind: PointKind, callee: Callee) -> u32 {
        self.mark_all();
        let p = self.s.points.len() as u32;
        self.s.points.push(PointInfo { offset, kind, callee });
        match kind {
            PointKind::Call | PointKind::Host => {
                self.event(Event::Call(p));
                self.ctx_used = false;
            }
            PointKind::Loop | PointKind::Entry => {
                self.event(Event::Use(CTX));
                self.event(Event::Poll(p));
            }
        }
        p
    }

    pub(super) fn branch(&mut self, depth: u32) {
        let k = self.ctl.len() - 1 - depth as usize;
        let c = &mut self.ctl[k];
        c.label_used = true;
        let (label, n) = (
            c.label,
            if c.kind == Kind::Loop {
                c.params.len()
            } else {
                c.results.len()
            },
        );
        self.peek_n(n);
        if label == NONE {
            self.use_ctx_to_return();
        }
        self.edge(label);
    }

    pub(super) fn unreachable_from_here(&mut self) {
        let height = self.ctl.last().map_or(0, |c| c.height);
        self.truncate(height);
        self.close();
        self.live = false;
    }

    fn open(
        &mut self,
        kind: Kind,
        ty: wasmparser::BlockType,
        catches: Vec<wasmparser::Catch>,
        offset: u32,
    ) -> Result<(), Error> {
        let (params, results) = block_type(ty, &self.rq.module.info.types)
            .ok_or_else(|| Error::unsupported("this type of block", offset as usize))?;
        let start_op = self.s.ops.len() as u32 - 1;
        let outer_live = self.live;
        let mut label = NONE;
        let mut else_block = NONE;
        let mut pad = NONE;
        if self.live {
            if kind == Kind::If {
                self.pop();
            }
            self.pop_n(params.len());
        }
        let height = self.stack.len();
        let first_event = self.s.events.len() as u32;
        if self.live {
            label = self.new_block();
            self.s.blocks[label as usize].since = first_event;
            match kind {
                Kind::Loop => {
                    self.edge(label);
                    self.start(label);
                    self.s.blocks[label as usize].loop_op = Some(start_op);
                    self.s.block_of_op.insert(start_op, label);
                }
                Kind::If => {
                    let then = self.new_block();
                    else_block = self.new_block();
                    self.edge(then);
                    self.edge(else_block);
                    self.start(then);
                }
                Kind::TryTable | Kind::Try => {
                    pad = self.new_block();
                    self.s.blocks[pad as usize].since = first_event;
                    self.s.pad_of_op.insert(start_op, pad);
                }
                _ => {}
            }
            for &t in &params {
                self.push(t);
            }
            if kind == Kind::Loop && self.rq.migration {
                let p = self.point(offset, PointKind::Loop, Callee::None);
                self.s.point_of_op.insert(start_op, p);
            }
        }
        let outer_pad = self.pad_within(self.ctl.len());
        self.ctl.push(Control {
            kind,
            params,
            results,
            height,
            label,
            label_used: false,
            outer_live,
            start_op,
            else_block,
            first_event,
            pad,
            outer_pad,
            catches,
            clause: NONE,
        });
        Ok(())
    }

    fn op_else(&mut self) {
        let op = self.s.ops.len() as u32 - 1;
        let Some(mut c) = self.ctl.pop() else { return };
        if self.live {
            self.peek_n(c.results.len());
            self.edge(c.label);
            c.label_used = true;
        }
        self.truncate(c.height);
        self.close();
        self.live = c.outer_live;
        if self.live {
            self.start(c.else_block);
            self.s.block_of_op.insert(op, c.else_block);
            for &t in &c.params {
                self.push(t);
            }
        }
        c.kind = Kind::Else;
        self.ctl.push(c);
    }

    fn op_end(&mut self, delegate: Option<u32>) {
        let op = self.s.ops.len() as u32 - 1;
        if self.live && self.ctl.len() == 1 {
            self.use_ctx_to_return();
        }
        let Some(c) = self.ctl.pop() else { return };
        if c.start_op != NONE {
            self.s.end_of.insert(c.start_op, op);
        }
        if self.live {
            self.peek_n(c.results.len());
        }
        match c.kind {
            Kind::Func => {
                self.close();
                self.truncate(0);
                self.live = false;
            }
            Kind::Loop => {
                self.s
                    .loop_events
                    .insert(c.start_op, c.first_event..self.s.events.len() as u32);
                self.truncate(c.height);
                if self.live {
                    c.results.iter().for_each(|&t| self.push(t));
                }
            }
            Kind::Block | Kind::If | Kind::Else | Kind::TryTable | Kind::Try | Kind::Catch => {
                let mut used = c.label_used;
                if self.live {
                    self.edge(c.label);
                    used = true;
                }
                if c.pad != NONE {
                    self.land(&c, delegate);
                }
                if c.kind == Kind::If && c.outer_live {
                    // No `else`: the false edge passes the parameters on as results.
                    self.truncate(c.height);
                    self.start(c.else_block);
                    for &t in &c.params {
                        self.push(t);
                    }
                    self.peek_n(c.params.len());
                    self.edge(c.label);
                    used = true;
                }
                self.truncate(c.height);
                self.close();
                self.live = used;
                if used {
                    self.start(c.label);
                    self.s.block_of_op.insert(op, c.label);
                    c.results.iter().for_each(|&t| self.push(t));
                }
            }
        }
    }

    fn op(
        &mut self,
        op: Operator<'a>,
        offset: u32,
        (pops, pushes): (u32, u32),
        validator: &FuncValidator<ValidatorResources>,
    ) -> Result<(), Error> {
        use Operator::*;
        self.s.ops.push((op.clone(), offset));
        if matches!(op, CallRef { .. } | ReturnCallRef { .. } | TableSet { .. }) {
            self.s.needs.function_table = true;
        }
        let index = self.s.ops.len() as u32 - 1;
        match &op {
            Block { blockty } => return self.open(Kind::Block, *blockty, vec![], offset),
            Loop { blockty } => return self.open(Kind::Loop, *blockty, vec![], offset),
            If { blockty } => return self.open(Kind::If, *blockty, vec![], offset),
            TryTable { try_table } => {
                return self.open(Kind::TryTable, try_table.ty, try_table.catches.clone(), offset);
            }
            Try { blockty } => return self.open(Kind::Try, *blockty, vec![], offset),
            Catch { tag_index } => self.op_catch(Some(*tag_index)),
            CatchAll => self.op_catch(None),
            Delegate { relative_depth } => self.op_end(Some(*relative_depth)),
            Else => self.op_else(),
            End => self.op_end(None),
            _ if !self.live => {}
            Br { relative_depth } => {
                self.branch(*relative_depth);
                self.unreachable_from_here();
            }
            BrIf { relative_depth } => {
                self.pop();
                self.branch(*relative_depth);
                let next = self.new_block();
                self.edge(next);
                self.start(next);
            }
            BrTable { targets } => {
                self.pop();
                let mut seen: Vec<u32> = targets.targets().collect::<Result<_, _>>()?;
                seen.push(targets.default());
                seen.sort_unstable();
                seen.dedup();
                seen.into_iter().for_each(|d| self.branch(d));
                self.unreachable_from_here();
            }
            Return => {
                let n = self.ctl[0].results.len();
                self.peek_n(n);
                self.use_ctx_to_return();
                self.unreachable_from_here();
            }
            Unreachable => self.unreachable_from_here(),
            BrOnNull { relative_depth } => {
                let ty = self.stack.last().map_or(ValType::FuncRef, |o| o.ty);
                self.pop();
                self.branch(*relative_depth);
                let next = self.new_block();
                self.edge(next);
                self.start(next);
                self.push(ty);
            }
            BrOnNonNull { relative_depth } => {
                self.branch(*relative_depth);
                let next = self.new_block();
                self.edge(next);
                self.start(next);
                self.pop();
            }
            Throw { tag_index } => {
                let ty = self.rq.module.info.tags[*tag_index as usize];
                self.pop_n(self.rq.module.info.types[ty as usize].params.len());
                self.throw(offset, index);
            }
            ThrowRef => {
                self.pop();
                self.throw(offset, index);
            }
            Rethrow { relative_depth } => {
                let clause = self.ctl[self.ctl.len() - 1 - *relative_depth as usize].clause;
                self.s.rethrown.insert(clause);
                if let Some(&var) = self.s.caught_var.get(&clause) {
                    self.event(Event::Use(var));
                }
                self.throw(offset, index);
            }
            ReturnCall { function_index } => self.tail_call(self.rq.module.info.funcs[*function_index as usize], 0),
            ReturnCallIndirect { type_index, .. } | ReturnCallRef { type_index } => self.tail_call(*type_index, 1),
            _ => self.plain(&op, offset, index, (pops, pushes), validator)?,
        }
        Ok(())
    }

    /// Leaves for a function of type `ty`, whose arguments and `more` operands are on the stack.
    fn tail_call(&mut self, ty: u32, more: usize) {
        self.s.needs.tail_calls = true;
        self.pop_n(self.rq.module.info.types[ty as usize].params.len() + more);
        self.use_ctx();
        self.unreachable_from_here();
    }

    fn plain(
        &mut self,
        op: &Operator<'a>,
        offset: u32,
        index: u32,
        (pops, pushes): (u32, u32),
        validator: &FuncValidator<ValidatorResources>,
    ) -> Result<(), Error> {
        use Operator::*;
        self.pop_n(pops as usize);
        if uses_context(op) {
            self.use_ctx();
        }
        match op {
            LocalGet { local_index } => self.event(Event::Use(local_index + 1)),
            LocalSet { local_index } | LocalTee { local_index } => self.event(Event::Def(local_index + 1)),
            Call { function_index } => {
                self.call(offset, index, Callee::Func(*function_index));
                if abi::uses_slots(&self.rq.module.info.func_type(*function_index).results) {
                    self.use_ctx();
                }
            }
            CallIndirect { type_index, .. } | CallRef { type_index } => {
                let ty = self.rq.module.info.canonical[*type_index as usize];
                self.call(offset, index, Callee::Type(ty));
                if abi::uses_slots(&self.rq.module.info.types[*type_index as usize].results) {
                    self.use_ctx();
                }
            }
            _ => {}
        }
        for k in (0..pushes).rev() {
            let ty = validator.get_operand_type(k as usize).flatten().and_then(val_type);
            let ty = ty.ok_or_else(|| Error::unsupported("this type of value", offset as usize))?;
            self.push(ty);
        }
        Ok(())
    }

    /// Replaces operands by the variables that hold them; operands without one need no events.
    fn finish(mut self) -> Scan<'a> {
        self.close();
        let s = &mut self.s;
        let mut moved = vec![0u32; s.events.len() + 1];
        let mut kept = vec![];
        for (k, e) in s.events.iter().enumerate() {
            moved[k] = kept.len() as u32;
            let var = |id: u32| Some(s.entry_var[id as usize]).filter(|&v| v != NONE);
            kept.extend(match *e {
                Event::UseEntry(id) => var(id).map(Event::Use),
                Event::DefEntry(id) => var(id).map(Event::Def),
                e => Some(e),
            });
        }
        moved[s.events.len()] = kept.len() as u32;
        for b in &mut s.blocks {
            b.events = moved[b.events.start as usize]..moved[b.events.end as usize];
            b.since = moved[b.since as usize];
        }
        for r in s.loop_events.values_mut() {
            *r = moved[r.start as usize]..moved[r.end as usize];
        }
        s.events = kept;
        self.s
    }
}
