//! What must be known of a function before it is translated.
//!
//! One pass over the body ([`scan`]) validates it and turns it into *events* (uses and definitions of variables,
//! migration points) in basic blocks. Then [`liveness`] tells what is live at every block and point, [`record`] gives
//! every variable that is live across a point its home, and [`policy`] decides, per merge and loop header, which
//! variables are in registers and which homes are up to date.
//!
//! **Variables.** Variable 0 is the context pointer, 1.. are the locals, and behind them come operand-stack positions,
//! one per (depth, type), but only those some value occupies *across a migration point*; every other operand stays a
//! plain SSA value. All of this depends on the WebAssembly alone, so it is equal on every architecture and at every
//! optimisation level.

pub mod bits;
pub mod build;
pub mod crowd;
mod exceptions;
mod fans;
pub mod liveness;
pub mod operators;
pub mod policy;
pub mod record;
pub mod scan;
pub mod vector;

use crate::hash::{HashMap, HashSet};
use dunlin_format::framemap::{Callee, HomeKind, LiveSets};
use dunlin_format::module::Needs;
use dunlin_format::point::PointKind;
use dunlin_format::types::ValType;
use std::ops::Range;
use wasmparser::Operator;

/// Index of a variable.
pub type Var = u32;
/// Index of a basic block.
pub type BlockId = u32;

/// The context pointer's variable.
pub const CTX: Var = 0;
/// "No variable", "no block", "no point".
pub const NONE: u32 = u32::MAX;

/// A variable: what it stands for, and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VarInfo {
    /// The context, a local or a stack position.
    pub kind: HomeKind,
    /// Value type (i64 for the context).
    pub ty: ValType,
}

/// Something that happens to a variable, or a point, in program order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The variable is read.
    Use(Var),
    /// The variable is written.
    Def(Var),
    /// A call: a migration point after which nothing is in a register.
    Call(u32),
    /// A poll: a migration point on a cold path only.
    Poll(u32),
    /// During the scan only: the operand of this id is read.
    UseEntry(u32),
    /// During the scan only: the operand of this id is written.
    DefEntry(u32),
}

/// A basic block of the function, at the WebAssembly level.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Its events.
    pub events: Range<u32>,
    /// Its successors.
    pub succs: Vec<BlockId>,
    /// Number of predecessors.
    pub preds: u32,
    /// Where the events begin of the construct whose label it is: all its predecessors have come there.
    pub since: u32,
    /// The operator that starts it, if it is a loop's header.
    pub loop_op: Option<u32>,
}

/// A migration point of the function.
#[derive(Clone, Debug)]
pub struct PointInfo {
    /// Byte offset in the binary that names it.
    pub offset: u32,
    /// Kind.
    pub kind: PointKind,
    /// What is called.
    pub callee: Callee,
}

/// A loop.
#[derive(Clone, Debug)]
pub struct LoopInfo {
    /// Does it contain a call?
    pub has_call: bool,
    /// Operators in its body.
    pub num_ops: u32,
    /// Variables its body reads or writes.
    pub accessed: bits::Bits,
    /// Variables its body writes.
    pub assigned: bits::Bits,
}

/// Everything known of a function.
#[derive(Debug)]
pub struct Analysis<'a> {
    /// The operators, with their byte offsets in the binary.
    pub ops: Vec<(Operator<'a>, u32)>,
    /// Number of parameters.
    pub num_params: u32,
    /// Number of locals, parameters included.
    pub num_locals: u32,
    /// Byte offset of the body in the binary: names the entry point.
    pub body_offset: u32,
    /// All variables.
    pub vars: Vec<VarInfo>,
    /// For every operand ever pushed, in order: the variable that holds it, or [`NONE`].
    pub entry_var: Vec<u32>,
    /// Block that starts at an operator: loop headers, `else`, and `end` of blocks that are branched to.
    pub block_of_op: HashMap<u32, BlockId>,
    /// For `block`, `loop` and `if`: the matching `end`.
    pub end_of: HashMap<u32, u32>,
    /// Migration points, in program order.
    pub points: Vec<PointInfo>,
    /// The point at an operator, if it is one.
    pub point_of_op: HashMap<u32, u32>,
    /// The entry poll's point, or [`NONE`].
    pub entry_point: u32,
    /// What is live across every point.
    pub live: LiveSets,
    /// Live-in set of every block.
    pub live_in: bits::BitTable,
    /// The record.
    pub record: record::Record,
    /// Variables that are in memory all the time.
    pub in_memory: crowd::InMemory,
    /// What the operators need of the runtime.
    pub needs: Needs,
    /// Block in which exceptions arrive, by the operator of the `try` or `try_table`.
    pub pad_of_op: HashMap<u32, BlockId>,
    /// The variable that holds the exception a legacy clause caught, by the clause's operator.
    pub caught_var: HashMap<u32, Var>,
    /// Legacy clauses whose exception is thrown again.
    pub rethrown: HashSet<u32>,
    /// What holds at merges and loop headers.
    pub policy: policy::Policy,
}
