//! Calling conventions: how WebAssembly signatures map to Cranelift's, equally on every architecture.
//!
//! - WebAssembly functions: [`CallConv::Tail`]; the context pointer first, then up to five integer and eight float or
//!   vector parameters, in registers; the rest go through the context's slots (arguments on the stack would let tail
//!   calls shift frames). Up to two integer and two float or vector results come back in registers; the rest in slots
//!   (a hidden return area would be invisible state). Parameter `i` and result `i` use slot `i`.
//! - Entry trampolines: the platform's convention, `(ctx, code) -> ctx`; parameters and results in the slots.
//! - Leaving: the platform's convention, `(ctx, call id)`; see [`dunlin_format::hostcalls`].

use crate::wasm_types::clif_type;
use cranelift_codegen::ir::{AbiParam, Signature, types::I32, types::I64};
use cranelift_codegen::isa::CallConv;
use dunlin_format::types::{FuncType, ValType};

/// Integer parameters in registers, the context not counted: what both architectures' conventions have.
const INT_PARAMS: u32 = 5;
/// Float and vector parameters in registers.
const FLOAT_PARAMS: u32 = 8;
/// Results of each class that travel in registers.
const REGISTER_RESULTS: u32 = 2;

/// For each result, whether it travels in a register (else in the slot of its index).
pub fn results_in_registers(results: &[ValType]) -> Vec<bool> {
    in_registers(results, REGISTER_RESULTS, REGISTER_RESULTS)
}

/// For each parameter, whether it travels in a register (else in the slot of its index).
pub fn params_in_registers(params: &[ValType]) -> Vec<bool> {
    in_registers(params, INT_PARAMS, FLOAT_PARAMS)
}

/// For each type, whether it is among the first of its class.
fn in_registers(types: &[ValType], ints: u32, floats: u32) -> Vec<bool> {
    let (mut ints_left, mut floats_left) = (ints, floats);
    let one = |ty: &ValType| {
        let left = match ty {
            ValType::F32 | ValType::F64 | ValType::V128 => &mut floats_left,
            _ => &mut ints_left,
        };
        let fits = *left > 0;
        *left = left.saturating_sub(1);
        fits
    };
    types.iter().map(one).collect()
}

/// Do some results travel in slots?
pub fn uses_slots(results: &[ValType]) -> bool {
    results.len() > REGISTER_RESULTS as usize && results_in_registers(results).contains(&false)
}

/// Signature of a WebAssembly function.
pub fn wasm_signature(ty: &FuncType) -> Signature {
    let mut sig = Signature::new(CallConv::Tail);
    sig.params.push(AbiParam::new(I64));
    let in_regs = params_in_registers(&ty.params);
    let params = ty.params.iter().zip(in_regs).filter(|(_, r)| *r);
    sig.params.extend(params.map(|(t, _)| AbiParam::new(clif_type(*t))));
    let in_regs = results_in_registers(&ty.results);
    let results = ty.results.iter().zip(in_regs).filter(|(_, r)| *r);
    sig.returns.extend(results.map(|(t, _)| AbiParam::new(clif_type(*t))));
    sig
}

/// Signature of an entry trampoline.
pub fn trampoline_signature() -> Signature {
    let mut sig = Signature::new(CallConv::SystemV);
    sig.params.extend([AbiParam::new(I64), AbiParam::new(I64)]);
    sig.returns.push(AbiParam::new(I64));
    sig
}

/// Signature of the leave thunk.
pub fn leave_signature() -> Signature {
    let mut sig = Signature::new(CallConv::SystemV);
    sig.params.extend([AbiParam::new(I64), AbiParam::new(I32)]);
    sig
}

/// Signature of `memmove` (`value` is I64) and `memset` (`value` is I32).
pub fn memory_signature(value: cranelift_codegen::ir::Type) -> Signature {
    let mut sig = Signature::new(CallConv::SystemV);
    sig.params
        .extend([AbiParam::new(I64), AbiParam::new(value), AbiParam::new(I64)]);
    sig.returns.push(AbiParam::new(I64));
    sig
}
