//! Calls: direct, through tables and references, and tail calls.

use super::{SigKey, Translator, trap_code};
use crate::native::signatures::{clif_type, wasm_signature};
use crate::uniform::calling_convention::{params_in_registers, results_in_registers};
use cranelift_codegen::ir::{
    ExtFuncData, ExternalName, FuncRef, InstBuilder, SigRef, UserExternalName, Value, condcodes::IntCC, types::I32,
    types::I64,
};
use dunlin_format::hostcalls::Trap;
use dunlin_format::types::{FuncType, NULL_REF};
use wasmparser::Operator;

/// Translates a call; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        Call { function_index } => {
            let ty = t.env.module.info.func_type(function_index);
            let args = t.pop_args(ty);
            let callee = t.callee(function_index);
            t.call(ty, Target::Function(callee), &args);
        }
        CallIndirect {
            type_index,
            table_index,
        } => {
            let code = t.pop_entry(table_index, type_index);
            t.call_address(type_index, code);
        }
        CallRef { type_index } => {
            let code = t.pop_reference(type_index);
            t.call_address(type_index, code);
        }
        ReturnCall { function_index } => {
            let args = t.pop_args(t.env.module.info.func_type(function_index));
            let callee = t.callee(function_index);
            t.b.ins().return_call(callee, &args);
            t.live = false;
        }
        ReturnCallIndirect {
            type_index,
            table_index,
        } => {
            let code = t.pop_entry(table_index, type_index);
            t.tail_call_address(type_index, code);
        }
        ReturnCallRef { type_index } => {
            let code = t.pop_reference(type_index);
            t.tail_call_address(type_index, code);
        }
        _ => return false,
    }
    true
}

/// The callee of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// A function of this module.
    Function(FuncRef),
    /// Code of this signature at an address.
    Address(SigRef, Value),
}

impl Translator<'_, '_, '_> {
    /// Pops a call's arguments: those in registers are returned, behind the context; the others are stored in their
    /// slots.
    fn pop_args(&mut self, ty: &FuncType) -> Vec<Value> {
        let args = self.pop_n(ty.params.len());
        let mut all = vec![self.ctx()];
        let in_regs = params_in_registers(&ty.params);
        for (k, (value, in_reg)) in args.into_iter().zip(in_regs).enumerate() {
            if in_reg {
                all.push(value);
            } else {
                self.store_context(value, self.env.layout.slot(k as u32));
            }
        }
        all
    }

    /// A reference to a function of this module, for direct calls.
    fn callee(&mut self, func: u32) -> FuncRef {
        if let Some(&f) = self.funcs.get(&func) {
            return f;
        }
        let signature = self.signature(self.env.module.info.funcs[func as usize]);
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

    /// The signature of functions of a type.
    fn signature(&mut self, type_index: u32) -> SigRef {
        let info = &self.env.module.info;
        let ty = &info.types[type_index as usize];
        self.sig(SigKey::Wasm(info.canonical_type(type_index)), || wasm_signature(ty))
    }

    /// A call at the current operator: a migration point.
    fn call(&mut self, ty: &FuncType, target: Target, args: &[Value]) {
        let point = self.scan.point_of_op.get(&self.op_index).copied();
        if let Some(p) = point {
            self.flush(p);
        }
        let returned = self.emit_call(target, args, point.is_some());
        let mut returned = returned.into_iter();
        let in_regs = results_in_registers(&ty.results);
        for (k, (&ty, in_reg)) in ty.results.iter().zip(in_regs).enumerate() {
            let value = if in_reg { returned.next() } else { None };
            let value = match value {
                Some(v) => v,
                None => self.load_context(clif_type(ty), self.env.layout.slot(k as u32)),
            };
            self.push(value);
        }
    }

    /// A call of the code at an address, which is of a type.
    fn call_address(&mut self, type_index: u32, code: Value) {
        let ty = &self.env.module.info.types[type_index as usize];
        let args = self.pop_args(ty);
        let sig = self.signature(type_index);
        self.call(ty, Target::Address(sig, code), &args);
    }

    /// A tail call of the code at an address, which is of a type.
    fn tail_call_address(&mut self, type_index: u32, code: Value) {
        let args = self.pop_args(&self.env.module.info.types[type_index as usize]);
        let sig = self.signature(type_index);
        self.b.ins().return_call_indirect(sig, code, &args);
        self.live = false;
    }

    /// Pops an index into a table; the code address of the function there, which is of this type.
    fn pop_entry(&mut self, table: u32, type_index: u32) -> Value {
        let index = self.pop();
        let entry = self.table_entry(table, index);
        let flags = self.context_flags();
        let sig = self.b.ins().load(I32, flags, entry, 8);
        let differs = self.differs(sig, type_index);
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
        self.b.ins().load(I64, flags, entry, 0)
    }

    /// Pops a function reference; the code address of the function. Its type is checked although validation has shown
    /// it: a snapshot that was tampered with may hold a reference to any function.
    fn pop_reference(&mut self, type_index: u32) -> Value {
        let reference = self.pop();
        let entry = self.function_entry(reference);
        let flags = self.context_flags();
        let code = self.b.ins().load(I64, flags, entry, 0);
        self.b.ins().trapz(code, trap_code(Trap::NullReference));
        let sig = self.b.ins().load(I32, flags, entry, 8);
        let differs = self.differs(sig, type_index);
        self.b.ins().trapnz(differs, trap_code(Trap::BadSignature));
        code
    }

    /// Whether a function's type, as tables hold it, is not this one.
    fn differs(&mut self, sig: Value, type_index: u32) -> Value {
        let canonical = self.env.module.info.canonical_type(type_index);
        let wanted = self.b.ins().iconst(I32, i64::from(canonical));
        self.b.ins().icmp(IntCC::NotEqual, sig, wanted)
    }
}
