//! Where parameters and results travel, equally on every architecture: in registers, or in the context's slots.
//!
//! Up to five integer and eight float or vector parameters travel in registers, and up to two results of each class;
//! all others in slots. (Arguments on the stack would let tail calls shift frames; a hidden return area would be
//! invisible state.) Parameter `i` and result `i` use slot `i`. The context pointer comes before all parameters.

use dunlin_format::types::ValType;

/// Integer parameters in registers, the context not counted: what both architectures' conventions have.
const INT_PARAMS: u32 = 5;
/// Float and vector parameters in registers: what both have.
const FLOAT_PARAMS: u32 = 8;
/// Results of each class (integers; floats and vectors) in registers.
const REGISTER_RESULTS: u32 = 2;

/// For each result, whether it travels in a register (else in the slot of its index).
pub(crate) fn results_in_registers(results: &[ValType]) -> Vec<bool> {
    in_registers(results, REGISTER_RESULTS, REGISTER_RESULTS)
}

/// For each parameter, whether it travels in a register (else in the slot of its index).
pub(crate) fn params_in_registers(params: &[ValType]) -> Vec<bool> {
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

/// Whether some results travel in slots: a caller then reads them through the context pointer.
pub(crate) fn uses_slots(results: &[ValType]) -> bool {
    results.len() > REGISTER_RESULTS as usize && results_in_registers(results).contains(&false)
}
