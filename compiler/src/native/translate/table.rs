//! Tables and element segments.
//!
//! A table is an array of [`dunlin_format::context::TableEntry`]; its address and length are in the context. A
//! reference is an entry's `func`; for function references the rest of the entry is what `call_indirect` needs, copied
//! from the function table.

use super::{SigKey, Translator, trap_code};
use cranelift_codegen::ir::{InstBuilder, Value, condcodes::IntCC, types::I32, types::I64};
use dunlin_format::context::TABLE_ENTRY_SHIFT;
use dunlin_format::hostcalls::{self, Trap};
use dunlin_format::types::ValType;
use std::mem::offset_of;
use wasmparser::Operator;

/// Where an entry holds the reference itself.
const REFERENCE: i32 = offset_of!(dunlin_format::context::TableEntry, func) as i32;

/// Translates a table instruction; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        TableGet { table } => {
            let index = t.pop();
            let entry = t.table_entry(table, index);
            let flags = t.context_flags();
            let reference = t.b.ins().load(I32, flags, entry, REFERENCE);
            t.push(reference);
        }
        TableSet { table } => {
            let (index, reference) = t.pop2();
            let entry = t.table_entry(table, index);
            let flags = t.context_flags();
            if t.env.module.info.tables[table as usize].ty == ValType::FuncRef {
                let from = t.function_entry(reference);
                for at in [0, 8] {
                    let half = t.b.ins().load(I64, flags, from, at);
                    t.b.ins().store(flags, half, entry, at);
                }
            } else {
                t.b.ins().store(flags, reference, entry, REFERENCE);
            }
        }
        TableSize { table } => {
            let len = t.load_context(I64, t.env.layout.table_len(table));
            let len = t.index_value(table, len);
            t.push(len);
        }
        TableGrow { table } => {
            let (reference, delta) = t.pop2();
            t.runtime_call(hostcalls::TABLE_GROW, &[table], &[reference, delta]);
            let old = t.load_context(I64, t.env.layout.slot(0));
            let old = t.index_value(table, old);
            t.push(old);
        }
        TableFill { table } => {
            let args = t.pop_n(3);
            t.runtime_call(hostcalls::TABLE_FILL, &[table], &args);
        }
        TableInit { elem_index, table } => {
            let args = t.pop_n(3);
            t.runtime_call(hostcalls::TABLE_INIT, &[table, elem_index], &args);
        }
        TableCopy { dst_table, src_table } => {
            let args = t.pop_n(3);
            t.runtime_call(hostcalls::TABLE_COPY, &[dst_table, src_table], &args);
        }
        ElemDrop { elem_index } => t.runtime_call(hostcalls::ELEM_DROP, &[elem_index], &[]),
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// Address of a table's element; traps if it has none of this index.
    pub(super) fn table_entry(&mut self, table: u32, index: Value) -> Value {
        let len = self.load_context(I64, self.env.layout.table_len(table));
        let index = self.widen(index);
        let outside = self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, index, len);
        self.b.ins().trapnz(outside, trap_code(Trap::TableOutOfBounds));
        let base = self.load_context(I64, self.env.layout.table_base(table));
        let shift = self.b.ins().iconst(I32, i64::from(TABLE_ENTRY_SHIFT));
        let offset = self.b.ins().ishl(index, shift);
        self.b.ins().iadd(base, offset)
    }

    /// A 64-bit number as the table's index type.
    fn index_value(&mut self, table: u32, value: Value) -> Value {
        if self.env.module.info.tables[table as usize].table64 {
            value
        } else {
            self.b.ins().ireduce(I32, value)
        }
    }

    /// An index as 64 bits.
    pub(super) fn widen(&mut self, index: Value) -> Value {
        if self.b.func.dfg.value_type(index) == I32 {
            self.b.ins().uextend(I64, index)
        } else {
            index
        }
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
            let wide = self.widen(v);
            self.store_context(wide, self.env.layout.slot(slot));
            slot += 1;
        }
        self.leave(SigKey::LeaveNeutral, id);
    }
}
