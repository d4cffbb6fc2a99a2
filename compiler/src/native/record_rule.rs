//! The record rule: no SSA value lives across a migration point outside the record.
//!
//! A restored frame has its record and nothing else, so a value that the optimised CLIF keeps in a register or a spill
//! slot across a call would be garbage after a move. The translation keeps every WebAssembly value out of that
//! position; what the optimiser may still leave there are constants, and expressions over constants, that it found
//! equal on both sides of a call. Those are computed anew: cloned once per call-free segment that uses them. Anything
//! else found live across a call is an internal error, never silently wrong code.
//!
//! The liveness is sparse: only values with a use outside the call-free segment of their definition are followed, each
//! from its uses back to its definition.

use crate::error::Error;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::flowgraph::ControlFlowGraph;
use cranelift_codegen::ir::{Block, BlockArg, Function, Inst, InstructionData, Opcode, SigRef, Value, ValueDef};
use cranelift_entity::packed_option::PackedOption;
use cranelift_entity::{EntitySet, SecondaryMap};
use rustc_hash::FxHashMap;

/// Makes the function obey the record rule, or tells why it can't. `func_index` is for the message. Returns the number
/// of clones.
pub(crate) fn enforce(
    func: &mut Function,
    cfg: &ControlFlowGraph,
    neutral: &[SigRef],
    func_index: u32,
) -> Result<usize, Error> {
    let segments = Segments::new(func, neutral);
    if segments.calls == 0 {
        return Ok(0);
    }
    if let Some(inst) = segments.points.keys().find(|&i| passes_values_on(func, i)) {
        let inst = func.dfg.display_inst(inst).to_string();
        return Err(Error::internal(
            func_index,
            format!("record rule: {inst} passes values across itself"),
        ));
    }
    let crossing = crossing_values(func, cfg, &segments);
    let mut known = FxHashMap::default();
    if let Some(v) = crossing.values.iter().find(|&v| !is_constant(func, v, &mut known)) {
        let def = match func.dfg.value_def(v) {
            ValueDef::Result(inst, _) => func.dfg.display_inst(inst).to_string(),
            def => format!("{def:?}"),
        };
        return Err(Error::internal(
            func_index,
            format!("record rule: {v} ({def}) lives across a call"),
        ));
    }
    if crossing.values.is_empty() {
        return Ok(0);
    }
    let clones = rematerialize(func, &crossing, &segments);
    debug_assert!(
        crossing_values(func, cfg, &Segments::new(func, neutral))
            .values
            .is_empty()
    );
    Ok(clones)
}

/// Whether the instruction is a call around which the frame may be captured.
fn is_point(func: &Function, inst: Inst, neutral: &[SigRef]) -> bool {
    match &func.dfg.insts[inst] {
        InstructionData::CallIndirect { sig_ref, .. } => !neutral.contains(sig_ref),
        // Calls that end a block because they have a handler; tail calls leave no frame behind.
        InstructionData::TryCall { .. } | InstructionData::TryCallIndirect { .. } => true,
        data => data.opcode().is_call() && !data.opcode().is_terminator(),
    }
}

/// Whether a call with a handler hands values other than its own results to what comes after it.
fn passes_values_on(func: &Function, inst: Inst) -> bool {
    let exception = match &func.dfg.insts[inst] {
        InstructionData::TryCall { exception, .. } | InstructionData::TryCallIndirect { exception, .. } => *exception,
        _ => return false,
    };
    let targets = func.dfg.exception_tables[exception].all_branches();
    targets.iter().any(|call| {
        call.args(&func.dfg.value_lists)
            .any(|arg| matches!(arg, BlockArg::Value(_)))
    })
}

/// Where values are defined, in terms of (block, number of calls before in that block).
struct Segments {
    calls: usize,
    /// The calls around which the frame may be captured.
    points: EntitySet<Inst>,
    /// Calls in each block.
    in_block: SecondaryMap<Block, u32>,
    /// Block and segment of every value's definition.
    defs: SecondaryMap<Value, Option<(Block, u32)>>,
}

/// The values that live across calls, and where they are used.
struct Crossing {
    values: EntitySet<Value>,
    /// The instructions that use a value from another segment, with their own block and segment, in layout order.
    users: Vec<(Block, u32, Inst)>,
}

impl Segments {
    fn new(func: &Function, neutral: &[SigRef]) -> Segments {
        let mut s = Segments {
            calls: 0,
            points: EntitySet::new(),
            in_block: SecondaryMap::new(),
            defs: SecondaryMap::new(),
        };
        for b in func.layout.blocks() {
            let mut seg = 0;
            for &p in func.dfg.block_params(b) {
                s.defs[p] = Some((b, 0));
            }
            for i in func.layout.block_insts(b) {
                if is_point(func, i, neutral) {
                    seg += 1;
                    s.calls += 1;
                    s.points.insert(i);
                }
                for &r in func.dfg.inst_results(i) {
                    s.defs[r] = Some((b, seg));
                }
            }
            s.in_block[b] = seg;
        }
        s
    }
}

/// The values that live across some call.
fn crossing_values(func: &Function, cfg: &ControlFlowGraph, s: &Segments) -> Crossing {
    let mut crossing = EntitySet::new();
    let mut users: Vec<(Block, u32, Inst)> = vec![];
    // (value, block into which it is live), and the last block that each value has there
    let mut into: Vec<(Value, Block)> = vec![];
    let mut last: SecondaryMap<Value, PackedOption<Block>> = SecondaryMap::new();
    for b in func.layout.blocks() {
        let mut seg = 0;
        for i in func.layout.block_insts(b) {
            for v in func.dfg.inst_values(i) {
                let v = func.dfg.resolve_aliases(v);
                let Some((def_block, def_seg)) = s.defs[v] else {
                    continue;
                };
                if (def_block, def_seg) == (b, seg) {
                    continue;
                }
                if users.last().is_none_or(|&(.., last)| last != i) {
                    users.push((b, seg, i));
                }
                if def_block == b {
                    crossing.insert(v);
                } else {
                    // A stack slot's address costs nothing to compute anew (it becomes part of an addressing mode),
                    // whether it must be or not.
                    if seg > 0 || is_stack_addr(func, v) {
                        crossing.insert(v);
                    } else if last[v] != b.into() {
                        last[v] = b.into();
                        into.push((v, b));
                    }
                }
            }
            if s.points.contains(i) {
                seg += 1;
            }
        }
    }
    into.retain(|(v, _)| !crossing.contains(*v));
    into.sort_unstable();
    // Follow each value from its uses back to its definition.
    let mut stamp: SecondaryMap<Block, u32> = SecondaryMap::new();
    let mut generation = 0;
    let mut todo: Vec<Block> = vec![];
    for group in into.chunk_by(|a, b| a.0 == b.0) {
        let v = group[0].0;
        let Some((def_block, def_seg)) = s.defs[v] else {
            continue;
        };
        generation += 1;
        todo.clear();
        for &(_, b) in group {
            stamp[b] = generation;
            todo.push(b);
        }
        while let Some(b) = todo.pop() {
            if crossing.contains(v) {
                break;
            }
            for p in cfg.pred_iter(b).map(|p| p.block) {
                // Live at the end of `p`. A block that also uses the value, before its call, is no exception.
                let live_from = if p == def_block { def_seg } else { 0 };
                if s.in_block[p] > live_from {
                    crossing.insert(v);
                }
                if p != def_block && stamp[p] != generation {
                    stamp[p] = generation;
                    todo.push(p);
                }
            }
        }
    }
    Crossing {
        values: crossing,
        users,
    }
}

/// Whether the value is a stack slot's address.
fn is_stack_addr(func: &Function, v: Value) -> bool {
    matches!(func.dfg.value_def(v), ValueDef::Result(inst, _) if func.dfg.insts[inst].opcode() == Opcode::StackAddr)
}

/// Whether the instruction makes a constant out of nothing: it can be cloned anywhere.
fn is_leaf(op: Opcode) -> bool {
    matches!(
        op,
        Opcode::Iconst
            | Opcode::F32const
            | Opcode::F64const
            | Opcode::Vconst
            | Opcode::StackAddr
            | Opcode::SymbolValue
            | Opcode::FuncAddr
    )
}

/// Whether the value can be computed anew anywhere: a constant, or a pure expression over constants. Of any depth: the
/// optimiser folds no vectors, so it may find whole expressions equal on both sides of a call.
fn is_constant(func: &Function, v: Value, known: &mut FxHashMap<Value, bool>) -> bool {
    let mut todo = vec![func.dfg.resolve_aliases(v)];
    while let Some(&v) = todo.last() {
        let verdict = match (known.get(&v), func.dfg.value_def(v)) {
            (Some(&verdict), _) => Some(verdict),
            (None, ValueDef::Result(inst, _)) if is_leaf(func.dfg.insts[inst].opcode()) => Some(true),
            (None, ValueDef::Result(inst, _)) if is_pure(func, inst) => {
                let args = || func.dfg.inst_args(inst).iter().map(|&a| func.dfg.resolve_aliases(a));
                let unknown = todo.len();
                todo.extend(args().filter(|a| !known.contains_key(a)));
                // Once for its arguments, once more with what was found about them.
                (todo.len() == unknown).then(|| args().all(|a| known[&a]))
            }
            _ => Some(false),
        };
        if let Some(verdict) = verdict {
            known.insert(v, verdict);
            todo.pop();
        }
    }
    known[&func.dfg.resolve_aliases(v)]
}

/// Whether an instruction has one result, which depends on its arguments alone.
fn is_pure(func: &Function, inst: Inst) -> bool {
    let op = func.dfg.insts[inst].opcode();
    !op.is_call()
        && !op.can_load()
        && !op.can_trap()
        && !op.other_side_effects()
        && func.dfg.inst_results(inst).len() == 1
}

/// Clones of the segment that is being looked at: of each value, the clone and the segment's number.
type Clones = SecondaryMap<Value, Option<(Value, u32)>>;

/// Gives every call-free segment its own clone of each crossing value it uses. Returns the number of clones.
fn rematerialize(func: &mut Function, crossing: &Crossing, s: &Segments) -> usize {
    let mut clones = 0;
    let mut here = Clones::new();
    let (mut place, mut number) = (None, 0);
    let mut used: Vec<Value> = vec![];
    for &(b, seg, i) in &crossing.users {
        if place != Some((b, seg)) {
            place = Some((b, seg));
            number += 1;
        }
        used.clear();
        used.extend(func.dfg.inst_values(i).map(|v| func.dfg.resolve_aliases(v)));
        let mut changed = false;
        for v in &mut used {
            if crossing.values.contains(*v) && s.defs[*v] != place {
                *v = clone_before(func, *v, i, &mut here, number, &mut clones);
                changed = true;
            }
        }
        if changed {
            func.dfg.overwrite_inst_values(i, used.iter().copied());
        }
    }
    clones
}

/// Clones a constant expression before an instruction, but for those parts of which the segment has clones; counts the
/// clones.
fn clone_before(
    func: &mut Function,
    v: Value,
    before: Inst,
    here: &mut Clones,
    number: u32,
    clones: &mut usize,
) -> Value {
    let find = |here: &Clones, v: Value| here[v].filter(|&(_, n)| n == number).map(|(clone, _)| clone);
    if let Some(clone) = find(here, v) {
        return clone;
    }
    let mut todo = vec![v];
    loop {
        let v = *todo.last().expect("the value itself is left");
        let inst = func.dfg.value_def(v).unwrap_inst();
        let args = func.dfg.inst_args(inst).iter().map(|&a| func.dfg.resolve_aliases(a));
        let missing = todo.len();
        todo.extend(args.filter(|&a| find(here, a).is_none()));
        if todo.len() > missing {
            continue;
        }
        todo.pop();
        if find(here, v).is_none() {
            let copy = func.dfg.clone_inst(inst);
            let args: Vec<Value> = func
                .dfg
                .inst_args(inst)
                .iter()
                .map(|&a| func.dfg.resolve_aliases(a))
                .collect();
            let mut args = args.iter();
            func.dfg
                .map_inst_values(copy, |a| args.next().and_then(|&arg| find(here, arg)).unwrap_or(a));
            FuncCursor::new(func).at_inst(before).insert_inst(copy);
            here[v] = Some((func.dfg.first_result(copy), number));
            *clones += 1;
        }
        if todo.is_empty() {
            return find(here, v).expect("cloned just now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, UserFuncName, types};
    use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
    use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

    /// A constant that a block uses before its call, and that lives on through that block, crosses the call all the
    /// same.
    #[test]
    fn a_value_used_before_a_call_may_cross_it_too() {
        let mut sig = Signature::new(CallConv::SystemV);
        sig.params.push(AbiParam::new(types::I64));
        sig.returns.push(AbiParam::new(types::I32));
        let mut func = Function::with_name_signature(UserFuncName::user(0, 0), sig);
        let mut context = FunctionBuilderContext::new();
        let mut builder = FunctionBuilder::new(&mut func, &mut context);
        let (start, cold, end) = (builder.create_block(), builder.create_block(), builder.create_block());
        builder.append_block_params_for_function_params(start);
        builder.switch_to_block(start);
        let callee = builder.block_params(start)[0];
        let zero = builder.ins().iconst(types::I32, 0);
        builder.ins().brif(callee, cold, &[], end, &[]);
        builder.switch_to_block(cold);
        let mut poll = Signature::new(CallConv::SystemV);
        poll.params.push(AbiParam::new(types::I32));
        let poll = builder.import_signature(poll);
        builder.ins().call_indirect(poll, callee, &[zero]);
        builder.ins().jump(end, &[]);
        builder.switch_to_block(end);
        builder.ins().return_(&[zero]);
        builder.seal_all_blocks();
        builder.finalize(TargetFrontendConfig {
            default_call_conv: CallConv::SystemV,
            pointer_width: target_lexicon::PointerWidth::U64,
            page_size_align_log2: 12,
        });
        let cfg = ControlFlowGraph::with_function(&func);
        let crossing = crossing_values(&func, &cfg, &Segments::new(&func, &[]));
        assert_eq!(crossing.values.iter().collect::<Vec<_>>(), [zero]);
        assert_eq!(enforce(&mut func, &cfg, &[], 0).unwrap(), 2);
        assert!(
            crossing_values(&func, &cfg, &Segments::new(&func, &[]))
                .values
                .is_empty()
        );
    }
}
