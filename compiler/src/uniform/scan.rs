//! One pass over a body: validates it, and turns it into events in basic blocks.
//!
//! The scan keeps WebAssembly's two stacks. Every push makes an *operand* with an id; an operand that is still on the
//! stack at a migration point is *marked*: it gets a variable (one per depth and type), and what becomes of it is then
//! a matter of definitions and uses like any local's. Marks are found after the operand's own push was recorded, so the
//! events name operands by id until the end of the scan.
//!
//! Here: what is found, blocks, operands and points. [`operators`] walks the body, [`constructs`] keeps the control
//! stack, [`exceptions`] finds where exceptions arrive.

mod constructs;
mod exceptions;
mod operators;

use super::calling_convention::uses_slots;
use super::control_walk::{ConstructKind, WalkPosition};
use super::{BlockId, CTX, NONE, Var};
use crate::error::Error;
use crate::module::Module;
use crate::module::types::val_type;
use constructs::Control;
use dunlin_format::framemap::{Callee, HomeKind};
use dunlin_format::module::Needs;
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::{FuncType, ValType};
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;
use wasmparser::{FuncValidator, FunctionBody, Operator, OperatorsReader, ValidatorResources};

/// What the scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan<'a> {
    /// The operators, with their byte offsets in the binary.
    pub ops: Vec<(Operator<'a>, u32)>,
    /// Number of the function's parameters.
    pub num_params: u32,
    /// Number of locals, parameters included.
    pub num_locals: u32,
    /// Byte offset of the body in the binary: names the entry point.
    pub body_offset: u32,
    /// All variables, by index.
    pub vars: Vec<VarInfo>,
    /// For every operand ever pushed, in order: the variable that holds it, or [`NONE`].
    pub operand_var: Vec<u32>,
    /// What happens to variables, and points, in program order.
    pub events: Vec<Event>,
    /// Basic blocks, in the order in which their existence was found.
    pub blocks: Vec<Block>,
    /// The blocks in code order; those that nothing reaches are left out.
    pub order: Vec<BlockId>,
    /// The block that starts at an operator: loop headers, `else`, and `end` of blocks that are branched to.
    pub block_of_op: FxHashMap<u32, BlockId>,
    /// For `block`, `loop`, `if` and `try`: the operator of the matching `end`.
    pub end_of: FxHashMap<u32, u32>,
    /// Migration points, in program order.
    pub points: Vec<PointInfo>,
    /// The point at an operator, if it is one.
    pub point_of_op: FxHashMap<u32, u32>,
    /// The entry poll's point, or [`NONE`].
    pub entry_point: u32,
    /// The range of events in a loop's body, by its operator.
    pub loop_events: FxHashMap<u32, Range<u32>>,
    /// What the operators need of the runtime.
    pub needs: Needs,
    /// The block in which exceptions arrive, by the operator of the `try` or `try_table`.
    pub pad_of_op: FxHashMap<u32, BlockId>,
    /// The variable that holds a reference to the exception that a legacy clause caught, by the clause's operator.
    pub caught_var: FxHashMap<u32, Var>,
    /// Operators of the legacy clauses whose exception is thrown again.
    pub rethrown: FxHashSet<u32>,
    /// Where the walk stood at the end of the body.
    pub end: WalkPosition,
}

/// A variable: what it stands for, and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VarInfo {
    /// What it stands for: the context pointer, a local or a stack position.
    pub kind: HomeKind,
    /// Its value type (i64 for the context pointer).
    pub ty: ValType,
}

/// Something that happens to a variable, or a point, in program order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The variable is read.
    Use(Var),
    /// The variable is written.
    Def(Var),
    /// A call: a migration point after which nothing is in a register.
    Call(u32),
    /// A poll: a migration point on a cold path only.
    Poll(u32),
    /// During the scan only: the operand of this id is read.
    UseOperand(u32),
    /// During the scan only: the operand of this id is written.
    DefOperand(u32),
}

/// A basic block of the function, at the WebAssembly level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    /// The range of its events.
    pub events: Range<u32>,
    /// Its successors, one for each edge.
    pub succs: Vec<BlockId>,
    /// Number of edges to it.
    pub preds: u32,
    /// First event of the construct whose label it is: all paths to the block have come through there.
    pub since: u32,
    /// The `loop` operator that starts it, if it is a loop's header.
    pub loop_op: Option<u32>,
}

/// A migration point of the function.
#[derive(Clone, Debug)]
pub(crate) struct PointInfo {
    /// Byte offset in the binary that names it.
    pub offset: u32,
    /// What the program does there.
    pub kind: PointKind,
    /// What is called, for the frame above to be checked against.
    pub callee: Callee,
    /// Where the walk stands: with the operands that stay on the stack while the program is there.
    pub position: WalkPosition,
}

/// What the scan needs to know from outside the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'m> {
    /// The module whose function it is.
    pub module: &'m Module<'m>,
    /// Whether there are migration points at all.
    pub migration: bool,
    /// Whether the function polls at its entry.
    pub entry_poll: bool,
}

/// A value on the operand stack.
struct Operand {
    /// Its number among all operands ever pushed.
    id: u32,
    ty: ValType,
}

/// The state of the walk: WebAssembly's stacks, and what has been found so far.
struct Scanner<'a, 'm> {
    s: Scan<'a>,
    rq: Request<'m>,
    stack: Vec<Operand>,
    /// Operands below this index are marked already.
    marked: usize,
    /// Variables of operands, by stack position and type.
    stack_vars: FxHashMap<(u32, ValType), Var>,
    /// Variables of caught exceptions, by nesting depth.
    caught_vars: FxHashMap<usize, Var>,
    /// Constructs that are open, the function itself first.
    ctl: Vec<Control>,
    /// Whether the code here can be reached.
    live: bool,
    /// The block here, or [`NONE`].
    block: BlockId,
    /// Whether the context has been read since the last point of this block.
    ctx_used: bool,
}

/// Scans and validates the body of a function of type `ty`.
pub(crate) fn scan<'a>(
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
        stack_vars: FxHashMap::default(),
        caught_vars: FxHashMap::default(),
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
            operators::arity(&op, validator)
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

impl<'a> Scanner<'a, '_> {
    /// The function's entry: parameters and locals get their values, and there may be a poll.
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
            kind: ConstructKind::Func,
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

    /// A block that no edge leads to yet.
    fn new_block(&mut self) -> BlockId {
        self.s.blocks.push(Block::default());
        self.s.blocks.len() as u32 - 1
    }

    /// Ends the current block (its successors are known) and starts another.
    fn start(&mut self, block: BlockId) {
        self.close();
        let at = self.s.events.len() as u32;
        self.s.blocks[block as usize].events = at..at;
        self.s.order.push(block);
        self.block = block;
        self.ctx_used = false;
    }

    /// Ends the current block, if there is one.
    fn close(&mut self) {
        if self.block != NONE {
            self.s.blocks[self.block as usize].events.end = self.s.events.len() as u32;
            self.block = NONE;
        }
    }

    /// An edge from the current block; none to [`NONE`], the function's end.
    fn edge(&mut self, to: BlockId) {
        if to != NONE {
            self.s.blocks[self.block as usize].succs.push(to);
            self.s.blocks[to as usize].preds += 1;
        }
    }

    /// Appends an event.
    fn event(&mut self, e: Event) {
        self.s.events.push(e);
    }

    /// Notes that the code here reads the context pointer; once for each stretch without points.
    fn use_ctx(&mut self) {
        if !self.ctx_used {
            self.ctx_used = true;
            self.event(Event::Use(CTX));
        }
    }

    /// Results beyond registers are returned through the context.
    fn use_ctx_to_return(&mut self) {
        if uses_slots(&self.ctl[0].results) {
            self.use_ctx();
        }
    }

    /// Pushes an operand.
    fn push(&mut self, ty: ValType) {
        let id = self.s.operand_var.len() as u32;
        self.s.operand_var.push(NONE);
        self.event(Event::DefOperand(id));
        self.stack.push(Operand { id, ty });
    }

    /// Pops an operand: it is read.
    fn pop(&mut self) {
        if let Some(e) = self.stack.pop() {
            self.event(Event::UseOperand(e.id));
        }
        self.marked = self.marked.min(self.stack.len());
    }

    /// Pops the top `n` operands.
    fn pop_n(&mut self, n: usize) {
        (0..n).for_each(|_| self.pop());
    }

    /// Reads the top `n` operands and leaves them on the stack.
    fn peek_n(&mut self, n: usize) {
        for k in self.stack.len() - n..self.stack.len() {
            self.s.events.push(Event::UseOperand(self.stack[k].id));
        }
    }

    /// Drops operands above a height, unread.
    fn truncate(&mut self, height: usize) {
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
            self.s.operand_var[id as usize] = var;
        }
        self.marked = self.stack.len();
    }

    /// A migration point here. Its live set is found later.
    fn point(&mut self, offset: u32, kind: PointKind, callee: Callee) -> u32 {
        self.mark_all();
        let p = self.s.points.len() as u32;
        let position = self.position();
        self.s.points.push(PointInfo {
            offset,
            kind,
            callee,
            position,
        });
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

    /// The code behind a branch, return or trap: nothing reaches it.
    fn unreachable_from_here(&mut self) {
        let height = self.ctl.last().map_or(0, |c| c.height);
        self.truncate(height);
        self.close();
        self.live = false;
    }

    /// Where the walk stands.
    fn position(&self) -> WalkPosition {
        WalkPosition::new(self.ctl.len(), self.stack.len(), self.s.operand_var.len())
    }

    /// Replaces operands by the variables that hold them; operands without one need no events.
    fn finish(mut self) -> Scan<'a> {
        self.close();
        self.s.end = self.position();
        let s = &mut self.s;
        let mut moved = vec![0u32; s.events.len() + 1];
        let mut kept = vec![];
        for (k, e) in s.events.iter().enumerate() {
            moved[k] = kept.len() as u32;
            let var = |id: u32| Some(s.operand_var[id as usize]).filter(|&v| v != NONE);
            kept.extend(match *e {
                Event::UseOperand(id) => var(id).map(Event::Use),
                Event::DefOperand(id) => var(id).map(Event::Def),
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
