//! The walk over the operators: what each one reads, writes, calls, and branches to.

use super::{Event, Scanner};
use crate::error::Error;
use crate::module::types::val_type;
use crate::uniform::calling_convention::uses_slots;
use crate::uniform::context_use::uses_context;
use crate::uniform::control_walk::ConstructKind;
use dunlin_format::framemap::Callee;
use dunlin_format::types::ValType;
use wasmparser::{FuncValidator, Operator, ValidatorResources};

/// How many operands an operator outside the control group pops and pushes.
pub(super) fn arity(op: &Operator, validator: &FuncValidator<ValidatorResources>) -> (u32, u32) {
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
    /// One operator, validated already, which pops and pushes so many operands.
    pub(super) fn op(
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
            Block { blockty } => return self.open(ConstructKind::Block, *blockty, vec![], offset),
            Loop { blockty } => return self.open(ConstructKind::Loop, *blockty, vec![], offset),
            If { blockty } => return self.open(ConstructKind::If, *blockty, vec![], offset),
            TryTable { try_table } => {
                return self.open(ConstructKind::TryTable, try_table.ty, try_table.catches.clone(), offset);
            }
            Try { blockty } => return self.open(ConstructKind::Try, *blockty, vec![], offset),
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

    /// An operator that falls through to the next one.
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
                if uses_slots(&self.rq.module.info.func_type(*function_index).results) {
                    self.use_ctx();
                }
            }
            CallIndirect { type_index, .. } | CallRef { type_index } => {
                let ty = self.rq.module.info.canonical[*type_index as usize];
                self.call(offset, index, Callee::Type(ty));
                if uses_slots(&self.rq.module.info.types[*type_index as usize].results) {
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
}
