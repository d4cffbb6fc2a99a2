//! References: 32-bit indices, all ones for null.

use super::{Translator, trap_code};
use cranelift_codegen::ir::{InstBuilder, Value, condcodes::IntCC, types::I32, types::I64};
use dunlin_format::context::{OFF_FUNCTIONS, TABLE_ENTRY_SHIFT};
use dunlin_format::hostcalls::Trap;
use dunlin_format::types::NULL_REF;
use wasmparser::Operator;

/// Translates a reference instruction; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        RefNull { .. } => {
            let null = t.null();
            t.push(null);
        }
        RefFunc { function_index } => {
            let reference = t.b.ins().iconst(I32, i64::from(function_index));
            t.push(reference);
        }
        RefIsNull => {
            let reference = t.pop();
            let is_null = t.is_null(reference);
            let is_null = t.b.ins().uextend(I32, is_null);
            t.push(is_null);
        }
        RefAsNonNull => {
            let reference = t.pop();
            let is_null = t.is_null(reference);
            t.b.ins().trapnz(is_null, trap_code(Trap::NullReference));
            t.push(reference);
        }
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// The null reference.
    pub(super) fn null(&mut self) -> Value {
        self.b.ins().iconst(I32, i64::from(NULL_REF))
    }

    /// Whether the reference is null: an 8-bit 0 or 1.
    pub(super) fn is_null(&mut self, reference: Value) -> Value {
        let null = self.null();
        self.b.ins().icmp(IntCC::Equal, reference, null)
    }

    /// Address of a function's entry in the function table; null's lies before the first.
    pub(super) fn function_entry(&mut self, reference: Value) -> Value {
        let base = self.load_context(I64, OFF_FUNCTIONS);
        let index = self.b.ins().sextend(I64, reference);
        let shift = self.b.ins().iconst(I32, i64::from(TABLE_ENTRY_SHIFT));
        let offset = self.b.ins().ishl(index, shift);
        self.b.ins().iadd(base, offset)
    }
}
