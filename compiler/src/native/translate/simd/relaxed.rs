//! Relaxed vector instructions, in one form for all architectures.
//!
//! WebAssembly 3.0 lets an implementation choose among a few results for each of these, once for all. Machines choose
//! differently, and a program must not see that it has moved; so Dunlin always makes the choice of the specification's
//! deterministic profile (Core 3.0, section 4.3.6 "Relaxed Operations": every parameter is 0), with and without
//! `--deterministic`:
//!
//! | operator | among | here |
//! | --- | --- | --- |
//! | `i8x16.relaxed_swizzle` | an index of 16 to 127 gives 0, or the lane modulo 16 | 0: `i8x16.swizzle` |
//! | `i32x4.relaxed_trunc_f32x4_s`, `_u` | NaN and out of range: saturated, or an extreme | saturated: `i32x4.trunc_sat_f32x4_s`, `_u` |
//! | `i32x4.relaxed_trunc_f64x2_s_zero`, `_u_zero` | the same | saturated: `i32x4.trunc_sat_f64x2_s_zero`, `_u_zero` |
//! | `f32x4`, `f64x2.relaxed_madd` | rounded once or twice | twice: `add (mul x y) z` |
//! | `f32x4`, `f64x2.relaxed_nmadd` | rounded once or twice | twice: `add (mul (neg x) y) z` |
//! | `i8x16`, `i16x8`, `i32x4`, `i64x2.relaxed_laneselect` | by bit, or by each lane's top bit | by bit: `v128.bitselect` |
//! | `f32x4`, `f64x2.relaxed_min`, `_max` | NaN and zeros of both signs: as `min`, or one operand | `min`, `max` |
//! | `i16x8.relaxed_q15mulr_s` | -1 * -1 saturates, or wraps | saturates: `i16x8.q15mulr_sat_s` |
//! | `i16x8.relaxed_dot_i8x16_i7x16_s` | the second operand's lanes are signed, or unsigned | signed; each pair's sum saturates |
//! | `i32x4.relaxed_dot_i8x16_i7x16_add_s` | the same | that, then `i32x4.extadd_pairwise_i16x8_s`, then `i32x4.add` |
//!
//! Rounding twice is also what x86-64-v2 can do: it has no fused instruction. A pair's sum leaves the range of 16 bits
//! only where all four lanes are -128: 2 * -128 * -128 = 32768 becomes 32767 (Core 3.0, `ivdotsat`).

use super::{Translator, binary};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types::*};
use wasmparser::Operator;

/// Translates a relaxed vector instruction; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match op {
        I8x16RelaxedSwizzle => t.swizzle(),
        I32x4RelaxedTruncF32x4S => t.truncate_f32x4(true),
        I32x4RelaxedTruncF32x4U => t.truncate_f32x4(false),
        I32x4RelaxedTruncF64x2SZero => t.truncate_f64x2(true),
        I32x4RelaxedTruncF64x2UZero => t.truncate_f64x2(false),
        F32x4RelaxedMadd => t.multiply_add(F32X4, false),
        F64x2RelaxedMadd => t.multiply_add(F64X2, false),
        F32x4RelaxedNmadd => t.multiply_add(F32X4, true),
        F64x2RelaxedNmadd => t.multiply_add(F64X2, true),
        I8x16RelaxedLaneselect | I16x8RelaxedLaneselect | I32x4RelaxedLaneselect | I64x2RelaxedLaneselect => {
            t.bitselect()
        }
        F32x4RelaxedMin => binary!(t, F32X4, fmin),
        F64x2RelaxedMin => binary!(t, F64X2, fmin),
        F32x4RelaxedMax => binary!(t, F32X4, fmax),
        F64x2RelaxedMax => binary!(t, F64X2, fmax),
        I16x8RelaxedQ15mulrS => binary!(t, I16X8, sqmul_round_sat),
        I16x8RelaxedDotI8x16I7x16S => {
            let v = t.relaxed_dot();
            t.push_vector(v);
        }
        I32x4RelaxedDotI8x16I7x16AddS => {
            let z = t.pop_vector(I32X4);
            let dot = t.relaxed_dot();
            let (low, high) = (t.b.ins().swiden_low(dot), t.b.ins().swiden_high(dot));
            let sums = t.b.ins().iadd_pairwise(low, high);
            let v = t.b.ins().iadd(sums, z);
            t.push_vector(v);
        }
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    fn multiply_add(&mut self, shape: Type, negated: bool) {
        let (x, y, z) = self.pop_three_vectors(shape);
        let x = if negated { self.b.ins().fneg(x) } else { x };
        let product = self.b.ins().fmul(x, y);
        let v = self.b.ins().fadd(product, z);
        self.push_vector(v);
    }

    /// Pops two vectors; products of their signed 8-bit lanes, added in pairs with saturation.
    fn relaxed_dot(&mut self) -> Value {
        let (x, y) = self.pop_vectors(I16X8);
        let eight = self.b.ins().iconst(I32, 8);
        // Each 16-bit lane holds a pair: its odd part on top.
        let [x_odd, y_odd] = [x, y].map(|v| self.b.ins().sshr(v, eight));
        let [x_even, y_even] = [x, y].map(|v| {
            let up = self.b.ins().ishl(v, eight);
            self.b.ins().sshr(up, eight)
        });
        let odd = self.b.ins().imul(x_odd, y_odd);
        let even = self.b.ins().imul(x_even, y_even);
        self.b.ins().sadd_sat(even, odd)
    }
}
