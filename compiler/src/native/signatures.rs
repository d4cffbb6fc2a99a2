//! Cranelift's signatures and types for WebAssembly's, the same on every architecture.
//!
//! - WebAssembly functions: [`CallConv::Tail`]; the context pointer first, then what travels in registers
//!   ([`crate::uniform::calling_convention`]).
//! - Entry trampolines: the platform's convention, `(ctx, code) -> ctx`; parameters and results in the slots.
//! - Leaving: the platform's convention, `(ctx, call id)`; see [`dunlin_format::hostcalls`].

use crate::uniform::calling_convention::{params_in_registers, results_in_registers};
use cranelift_codegen::ir::{AbiParam, Signature, Type, types};
use cranelift_codegen::isa::CallConv;
use dunlin_format::types::{FuncType, ValType};

/// Cranelift's type for a value. References are 32-bit indices.
pub(crate) fn clif_type(ty: ValType) -> Type {
    match ty {
        ValType::I32 | ValType::FuncRef | ValType::ExternRef | ValType::ExnRef => types::I32,
        ValType::I64 => types::I64,
        ValType::F32 => types::F32,
        ValType::F64 => types::F64,
        ValType::V128 => types::I8X16,
    }
}

/// Signature of a WebAssembly function.
pub(crate) fn wasm_signature(ty: &FuncType) -> Signature {
    let mut sig = Signature::new(CallConv::Tail);
    sig.params.push(AbiParam::new(types::I64));
    let in_regs = params_in_registers(&ty.params);
    let params = ty.params.iter().zip(in_regs).filter(|(_, r)| *r);
    sig.params.extend(params.map(|(t, _)| AbiParam::new(clif_type(*t))));
    let in_regs = results_in_registers(&ty.results);
    let results = ty.results.iter().zip(in_regs).filter(|(_, r)| *r);
    sig.returns.extend(results.map(|(t, _)| AbiParam::new(clif_type(*t))));
    sig
}

/// Signature of an entry trampoline.
pub(crate) fn trampoline_signature() -> Signature {
    let mut sig = Signature::new(CallConv::SystemV);
    sig.params
        .extend([AbiParam::new(types::I64), AbiParam::new(types::I64)]);
    sig.returns.push(AbiParam::new(types::I64));
    sig
}

/// Signature of the leave thunk.
pub(crate) fn leave_signature() -> Signature {
    let mut sig = Signature::new(CallConv::SystemV);
    sig.params
        .extend([AbiParam::new(types::I64), AbiParam::new(types::I32)]);
    sig
}

/// Signature of `memmove` (`value` is I64) and `memset` (`value` is I32).
pub(crate) fn memory_signature(value: Type) -> Signature {
    let mut sig = Signature::new(CallConv::SystemV);
    sig.params.extend([
        AbiParam::new(types::I64),
        AbiParam::new(value),
        AbiParam::new(types::I64),
    ]);
    sig.returns.push(AbiParam::new(types::I64));
    sig
}
