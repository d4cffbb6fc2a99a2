//! WebAssembly to CLIF: one translation for all architectures.
//!
//! The translator walks the operators in order, keeping WebAssembly's operand stack as SSA values. Two rules make
//! frames restorable; everything else is ordinary:
//!
//! - **Before a call**, every variable live across it whose home is not clean is stored to the record
//!   ([`Translator::flush`]).
//! - **After a call**, nothing is in a register: a variable's value is loaded from its home where it is first needed
//!   ([`Translator::get`]).
//!
//! So a frame that waits for its callee is its record and nothing else, and the callee may return into a copy of that
//! frame made on another machine. [`State`] tracks which variables are in registers and which homes are clean; where
//! paths meet, [`Translator::fixups`] makes each edge fit the state that [`crate::native::placement::merge_states`]
//! chose for the merge.
//!
//! Files: [`constructs`], [`branches`], [`call`], [`table`], [`references`], [`exceptions`], [`memory`],
//! [`atomics`], [`numeric`], [`simd`], [`operands`] (variables and the operand stack), [`points`] (polls, flushes, edge
//! fix-ups), [`latch`] (loops that poll), [`walk_check`].

mod atomics;
mod branches;
mod call;
mod constructs;
mod exceptions;
mod latch;
mod memory;
mod numeric;
mod operands;
mod points;
mod references;
mod simd;
mod table;
#[cfg(test)]
mod tests;
mod walk_check;

use super::placement::Placement;
use super::placement::merge_states::State;
use super::signatures::{clif_type, leave_signature};
use crate::error::Error;
use crate::module::Module;
use crate::uniform::calling_convention::{params_in_registers, results_in_registers};
use crate::uniform::scan::Scan;
use crate::uniform::{Analysis, BlockId, NONE, Var};
use cranelift_codegen::ir::{
    AliasRegion, AliasRegionData, Endianness, FuncRef, Function, InstBuilder, MemFlagsData, SigRef, Signature,
    SourceLoc, StackSlot, StackSlotData, StackSlotKey, StackSlotKind, TrapCode, Type, Value, types::I32, types::I64,
};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use dunlin_format::context::{ContextLayout, OFF_LEAVE};
use dunlin_format::framemap::Walk;
use dunlin_format::hostcalls::Trap;
use dunlin_format::types::{FuncType, ValType};
use operands::Operand;
use rustc_hash::FxHashMap;
use wasmparser::Operator;

/// The trap code that stands for a trap in CLIF.
pub(crate) fn trap_code(trap: Trap) -> TrapCode {
    TrapCode::unwrap_user(trap as u8)
}

/// Who notices that an access of a 32-bit memory is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// The machine: the address space around the memory is reserved, and what lies outside faults.
    Guard,
    /// The code: it compares with the memory's size, since an interpreter can't tell which instruction of the program
    /// has faulted.
    Checked,
}

/// What a translation needs besides the body.
#[derive(Clone, Copy)]
pub(crate) struct Env<'m> {
    /// The module whose function it is.
    pub module: &'m Module<'m>,
    /// Where the context's parts are.
    pub layout: &'m ContextLayout,
    /// Whether there are migration points.
    pub migration: bool,
    /// Who notices that an access of a 32-bit memory is out of bounds.
    pub bounds: Bounds,
    /// What the front end must know of the targets (equal for all of them).
    pub frontend: TargetFrontendConfig,
}

/// The disjoint parts of memory, for alias analysis.
pub(super) struct Regions {
    /// Homes, and the variables that are in memory without one.
    pub(super) record: AliasRegion,
    /// Linear memories.
    memory: AliasRegion,
    /// The context, and tables.
    pub(super) context: AliasRegion,
    /// Sizes of memories, where accesses are compared with them: only calls change those.
    sizes: AliasRegion,
}

/// The state of the translation of one body.
pub(crate) struct Translator<'b, 'a, 'm> {
    b: FunctionBuilder<'b>,
    env: Env<'m>,
    an: &'b Analysis<'a>,
    /// What the scan found: `an.scan`.
    scan: &'b Scan<'a>,
    /// What was chosen for its variables.
    placement: &'b Placement,
    ty: &'m FuncType,
    /// The front end's variables, by the scan's.
    vars: Vec<Variable>,
    /// What is in registers, and which homes are clean, here.
    state: State,
    /// What is live across each point.
    across: Walk<'b>,
    /// State at blocks with one predecessor, saved by the branch to them.
    saved: FxHashMap<BlockId, State>,
    /// WebAssembly's operand stack.
    stack: Vec<Operand>,
    /// Operands pushed so far: the next one's id.
    pushed: usize,
    /// Points come to so far.
    points: usize,
    /// The first place where this walk and the scan's differ.
    disagreement: Option<String>,
    /// Constructs that are open, the function itself first.
    ctl: Vec<constructs::Control>,
    /// Loops with a latch that are open.
    latches: usize,
    /// Whether the code here can be reached.
    live: bool,
    /// Index of the current operator.
    op_index: u32,
    /// The stack slot of the record.
    record: Option<StackSlot>,
    /// The stack slot of the variables that are in memory and have no home.
    memory: Option<StackSlot>,
    /// The addresses of both, if there are any. The record rule computes them anew wherever they are used.
    record_addr: Option<Value>,
    memory_addr: Option<Value>,
    regions: Regions,
    return_block: cranelift_codegen::ir::Block,
    /// Number of edges so far from `return`, `br` and the end to the end of the function.
    returns: usize,
    /// A block on the way to a pad that is still to be filled.
    pending: Option<exceptions::Detour>,
    /// Signatures that are declared already.
    sigs: FxHashMap<SigKey, SigRef>,
    /// Functions that are declared already, by index.
    funcs: FxHashMap<u32, FuncRef>,
}

/// Signatures that a function calls with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum SigKey {
    /// That of WebAssembly functions of a type.
    Wasm(u32),
    /// The leave thunk's, for calls of the runtime that are points.
    Leave,
    /// The same, for calls that are no points.
    LeaveNeutral,
    /// `memmove`'s.
    Memmove,
    /// `memset`'s.
    Memset,
}

/// What the record rule must know of a translated function.
#[derive(Debug, Default)]
pub(crate) struct Translated {
    /// Signatures whose calls are no migration points: their callee returns before anything can be captured.
    pub neutral: Vec<SigRef>,
    /// The record's stack slot.
    pub record: Option<StackSlot>,
    /// Number of `loop` operators.
    pub loops: u32,
}

/// Translates a body into `func`, whose signature and name are set.
pub(crate) fn translate(
    env: Env<'_>,
    func: &mut Function,
    fbc: &mut FunctionBuilderContext,
    an: &Analysis<'_>,
    placement: &Placement,
    ty: &FuncType,
) -> Result<Translated, Error> {
    let scan = &an.scan;
    let record = make_slot(func, an.record.size, 0);
    let memory = make_slot(func, placement.residents.size, 1);
    let regions = make_regions(func, env.bounds);
    let mut t = Translator {
        b: FunctionBuilder::new(func, fbc),
        env,
        an,
        scan,
        placement,
        ty,
        vars: vec![],
        state: State::entry(scan.vars.len(), &placement.residents),
        across: an.live.walk(scan.vars.len()),
        saved: FxHashMap::default(),
        stack: vec![],
        pushed: 0,
        points: 0,
        disagreement: None,
        ctl: vec![],
        latches: 0,
        live: true,
        op_index: 0,
        record,
        memory,
        record_addr: None,
        memory_addr: None,
        regions,
        return_block: cranelift_codegen::ir::Block::from_u32(0),
        returns: 0,
        pending: None,
        sigs: FxHashMap::default(),
        funcs: FxHashMap::default(),
    };
    t.begin();
    let mut loops = 0;
    for (k, (op, offset)) in scan.ops.iter().enumerate() {
        loops += u32::from(matches!(op, Operator::Loop { .. }));
        t.op_index = k as u32;
        t.b.set_srcloc(SourceLoc::new(*offset));
        t.op(op, *offset)?;
        t.check_walk()?;
    }
    t.compare_end();
    t.check_walk()?;
    t.b.seal_all_blocks();
    let neutral = [SigKey::LeaveNeutral, SigKey::Memmove, SigKey::Memset]
        .iter()
        .filter_map(|k| t.sigs.get(k).copied())
        .collect();
    t.b.finalize(env.frontend);
    Ok(Translated { neutral, record, loops })
}

/// A stack slot of `size` bytes, if that is any.
pub(super) fn make_slot(func: &mut Function, size: u32, key: u64) -> Option<StackSlot> {
    (size > 0).then(|| {
        let data = StackSlotData::new_with_key(StackSlotKind::ExplicitSlot, size, 4, StackSlotKey::new(key));
        func.create_sized_stack_slot(data)
    })
}

/// Declares the regions of memory to alias analysis.
pub(super) fn make_regions(func: &mut Function, bounds: Bounds) -> Regions {
    let mut region = |user_id, description: &'static str| {
        func.dfg.alias_regions.insert(AliasRegionData {
            user_id,
            description: description.into(),
        })
    };
    let (record, memory, context) = (region(0, "record"), region(1, "memory"), region(2, "context"));
    let sizes = match bounds {
        Bounds::Guard => context,
        Bounds::Checked => region(3, "sizes"),
    };
    Regions {
        record,
        memory,
        context,
        sizes,
    }
}

impl<'b, 'a, 'm> Translator<'b, 'a, 'm> {
    /// The function's entry block: variables for parameters and locals, and a poll, if there is one.
    fn begin(&mut self) {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        self.b.seal_block(entry);
        self.b.set_srcloc(SourceLoc::new(self.scan.body_offset));
        self.record_addr = self.record.map(|slot| self.b.ins().stack_addr(I64, slot, 0));
        self.memory_addr = self.memory.map(|slot| self.b.ins().stack_addr(I64, slot, 0));
        for info in &self.scan.vars {
            self.vars.push(self.b.declare_var(clif_type(info.ty)));
        }
        let params = self.b.block_params(entry).to_vec();
        let mut params = params.into_iter();
        self.b
            .def_var(self.vars[0], params.next().expect("the context is a parameter"));
        let in_regs = params_in_registers(&self.ty.params);
        for (k, (ty, in_reg)) in self.ty.params.iter().zip(in_regs).enumerate() {
            let value = if in_reg { params.next() } else { None };
            let value = match value {
                Some(value) => value,
                None => self.load_context(clif_type(*ty), self.env.layout.slot(k as u32)),
            };
            self.set(k as Var + 1, value);
        }
        for local in self.scan.num_params..self.scan.num_locals {
            let v = local + 1;
            let zero = match self.scan.vars[v as usize].ty {
                ValType::FuncRef | ValType::ExternRef | ValType::ExnRef => self.null(),
                ty => self.zero(clif_type(ty)),
            };
            self.set(v, zero);
        }
        self.return_block = self.b.create_block();
        let in_regs = results_in_registers(&self.ty.results);
        for (t, _) in self.ty.results.iter().zip(in_regs).filter(|(_, r)| *r) {
            self.b.append_block_param(self.return_block, clif_type(*t));
        }
        if self.scan.entry_point != NONE {
            self.poll(self.scan.entry_point, self.scan.num_params + 1);
        }
        self.ctl.push(constructs::Control::function(self.ty, self.return_block));
    }

    /// Flags of accesses to the context.
    fn context_flags(&self) -> MemFlagsData {
        MemFlagsData::trusted()
            .with_endianness(Endianness::Little)
            .with_alias_region(Some(self.regions.context))
    }

    /// Loads from the context.
    fn load_context(&mut self, ty: Type, offset: i32) -> Value {
        let ctx = self.ctx();
        let flags = self.context_flags();
        self.b.ins().load(ty, flags, ctx, offset)
    }

    /// Stores to the context.
    fn store_context(&mut self, value: Value, offset: i32) {
        let ctx = self.ctx();
        let flags = self.context_flags();
        self.b.ins().store(flags, value, ctx, offset);
    }

    fn sig(&mut self, key: SigKey, make: impl FnOnce() -> Signature) -> SigRef {
        match self.sigs.get(&key) {
            Some(&s) => s,
            None => {
                let s = self.b.import_signature(make());
                self.sigs.insert(key, s);
                s
            }
        }
    }

    /// Calls the runtime through the leave thunk.
    fn leave(&mut self, key: SigKey, call_id: u32) {
        let sig = self.sig(key, leave_signature);
        let thunk = self.load_context(I64, OFF_LEAVE);
        let id = self.b.ins().iconst(I32, i64::from(call_id));
        let ctx = self.ctx();
        self.b.ins().call_indirect(sig, thunk, &[ctx, id]);
    }

    fn op(&mut self, op: &Operator<'_>, offset: u32) -> Result<(), Error> {
        use Operator::*;
        if constructs::translate(self, op, offset)? || !self.live {
            return Ok(());
        }
        match op {
            Nop => {}
            Drop => {
                self.stack.pop();
            }
            Select | TypedSelect { .. } => {
                let c = self.pop();
                let (x, y) = self.pop2();
                let v = self.b.ins().select(c, x, y);
                self.push(v);
            }
            LocalGet { local_index } => {
                let v = self.get(local_index + 1);
                self.push(v);
            }
            LocalSet { local_index } => {
                let v = self.pop();
                self.set(local_index + 1, v);
            }
            LocalTee { local_index } => {
                let v = self.pop();
                self.set(local_index + 1, v);
                self.push(v);
            }
            GlobalGet { global_index } => {
                let ty = clif_type(self.env.module.info.globals[*global_index as usize].ty);
                let v = self.load_context(ty, self.env.layout.global(*global_index));
                self.push(v);
            }
            GlobalSet { global_index } => {
                let v = self.pop();
                self.store_context(v, self.env.layout.global(*global_index));
            }
            _ => {
                if !numeric::translate(self, op)
                    && !simd::translate(self, op)
                    && !memory::translate(self, op)
                    && !atomics::translate(self, op)
                    && !call::translate(self, op)
                    && !table::translate(self, op)
                    && !references::translate(self, op)
                    && !exceptions::translate(self, op)
                {
                    let name = format!("{op:?}");
                    let name = name.split([' ', '{', '(']).next().unwrap_or("operator").to_string();
                    return Err(Error::unsupported(name, offset as usize));
                }
            }
        }
        Ok(())
    }
}
