//! Calls, direct and through tables, and table and segment instructions.

use super::{SigKey, Translator, trap_code};
use crate::abi;
use crate::error::Error;
use crate::wasm_types::clif_type;
use cranelift_codegen::ir::{
    ExtFuncData, ExternalName, FuncRef, Inst, InstBuilder, UserExternalName, Value, condcodes::IntCC, types::I32, types::I64,
};
use dunlin_migrate::context::TABLE_ENTRY_SHIFT;
use dunlin_migrate::hostcalls::{self, Trap};
use dunlin_migrate::types::{FuncType, NULL_REF};
use wasmparser::Operator;

/// Translates a call or a table instruction; `false` if it is none.
pub fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> Result<bool, Error> {
    use Operator::*;
    match *op {
        Call { function_index } => {
            let ty = t.env.module.info.func_type(function_index);
            let args = t.pop_args(ty);
            let callee = t.callee(function_index);
            t.call(ty, |t| t.b.ins().call(callee, &args));
        }
        CallIndirect { type_index, table_index } => t.call_indirect(type_index, table_index),
        TableInit { elem_index, table } => t.table_call(hostcalls::TABLE_INIT, &[table, elem_index]),
        TableCopy { dst_table, src_table } => t.table_call(hostcalls::TABLE_COPY, &[dst_table, src_table]),
        ElemDrop { elem_index } => t.runtime_call(hostcalls::ELEM_DROP, &[elem_index], &[]),
        _ => return Ok(false),
    }
    Ok(true)
}

impl Translator<'_, '_, '_> {
    /// Pops a call's arguments and puts the context before them.
    fn pop_args(&mut self, ty: &FuncType) -> Vec<Value> {
        let args = self.pop_n(ty.params.len());
        let mut all = vec![self.ctx()];
        all.extend(args);
        all
    }

    fn callee(&mut self, func: u32) -> FuncRef {
        if let Some(&f) = self.funcs.get(&func) {
            return f;
        }
        let info = &self.env.module.info;
        let canonical = self.env.module.canonical[info.funcs[func as usize] as usize];
        let signature = self.sig(SigKey::Wasm(canonical), || abi::wasm_signature(info.func_type(func)));
        let name = self.b.func.declare_imported_user_function(UserExternalName {
            namespace: 0,
            index: func,
        });
        let data = ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated: true,
            patchable: false,
        };
        let f = self.b.import_function(data);
        self.funcs.insert(func, f);
        f
    }

    /// A call at the current operator: a migration point around the instruction that `emit` makes.
    fn call(&mut self, ty: &FuncType, emit: impl FnOnce(&mut Self) -> Inst) {
        let point = self.an.point_of_op.get(&self.op_index).copied();
        if let Some(p) = point {
            self.flush(p);
        }
        let inst = emit(self);
        let mut returned = self.b.inst_results(inst).to_vec().into_iter();
        if point.is_some() {
            self.after_call();
        }
        let in_regs = abi::results_in_registers(&ty.results);
        for (k, (&ty, in_reg)) in ty.results.iter().zip(in_regs).enumerate() {
            let value = match returned.next().filter(|_| in_reg) {
                Some(v) => v,
                None => self.load_context(clif_type(ty), self.env.layout.slot(k as u32)),
            };
            self.push(value);
        }
    }

    fn call_indirect(&mut self, type_index: u32, table: u32) {
        let module = self.env.module;
        let ty = &module.info.types[type_index as usize];
        let canonical = module.canonical[type_index as usize];
        let index = self.pop();
        let args = self.pop_args(ty);
        let len = self.load_context(I64, self.env.layout.table_len(table));
        let index = self.b.ins().uextend(I64, index);
        let outside = self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, index, len);
        self.b.ins().trapnz(outside, trap_code(Trap::TableOutOfBounds));
        let base = self.load_context(I64, self.env.layout.table_base(table));
        let shift = self.b.ins().iconst(I32, i64::from(TABLE_ENTRY_SHIFT));
        let offset = self.b.ins().ishl(index, shift);
        let entry = self.b.ins().iadd(base, offset);
        let flags = self.context_flags();
        let sig = self.b.ins().load(I32, flags, entry, 8);
        let wanted = self.b.ins().iconst(I32, i64::from(canonical));
        let differs = self.b.ins().icmp(IntCC::NotEqual, sig, wanted);
        let (bad, good) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(bad);
        self.b.ins().brif(differs, bad, &[], good, &[]);
        self.b.switch_to_block(bad);
        self.b.seal_block(bad);
        let null = self.b.ins().iconst(I32, i64::from(NULL_REF));
        let is_null = self.b.ins().icmp(IntCC::Equal, sig, null);
        self.b.ins().trapnz(is_null, trap_code(Trap::IndirectCallToNull));
        self.b.ins().trap(trap_code(Trap::BadSignature));
        self.b.switch_to_block(good);
        self.b.seal_block(good);
        let code = self.b.ins().load(I64, flags, entry, 0);
        let sig = self.sig(SigKey::Wasm(canonical), || abi::wasm_signature(ty));
        self.call(ty, |t| t.b.ins().call_indirect(sig, code, &args));
    }

    /// `table.init` and `table.copy`: two indices, then (dst, src, len) from the stack.
    fn table_call(&mut self, id: u32, indices: &[u32]) {
        let args = self.pop_n(3);
        self.runtime_call(id, indices, &args);
    }

    /// A call of the runtime that is no migration point: indices, then values, in the slots.
    pub(super) fn runtime_call(&mut self, id: u32, indices: &[u32], values: &[Value]) {
        let mut slot = 0;
        for &i in indices {
            let v = self.b.ins().iconst(I64, i64::from(i));
            self.store_context(v, self.env.layout.slot(slot));
            slot += 1;
        }
        for &v in values {
            self.store_slot(slot, v);
            slot += 1;
        }
        self.leave(SigKey::LeaveNeutral, id);
    }

    /// Stores an argument in a slot; 32-bit integers zero-extended.
    fn store_slot(&mut self, slot: u32, v: Value) {
        let wide = if self.b.func.dfg.value_type(v) == I32 {
            self.b.ins().uextend(I64, v)
        } else {
            v
        };
        self.store_context(wide, self.env.layout.slot(slot));
    }
}
