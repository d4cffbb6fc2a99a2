//! Conversions between shapes.

use super::{Translator, binary, unary};
use cranelift_codegen::ir::{InstBuilder, types::*};
use wasmparser::Operator;

/// Translates a conversion; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match op {
        I8x16NarrowI16x8S => binary!(t, I16X8, snarrow),
        I16x8NarrowI32x4S => binary!(t, I32X4, snarrow),
        I8x16NarrowI16x8U => binary!(t, I16X8, unarrow),
        I16x8NarrowI32x4U => binary!(t, I32X4, unarrow),
        I16x8ExtendLowI8x16S => unary!(t, I8X16, swiden_low),
        I32x4ExtendLowI16x8S => unary!(t, I16X8, swiden_low),
        I64x2ExtendLowI32x4S => unary!(t, I32X4, swiden_low),
        I16x8ExtendHighI8x16S => unary!(t, I8X16, swiden_high),
        I32x4ExtendHighI16x8S => unary!(t, I16X8, swiden_high),
        I64x2ExtendHighI32x4S => unary!(t, I32X4, swiden_high),
        I16x8ExtendLowI8x16U => unary!(t, I8X16, uwiden_low),
        I32x4ExtendLowI16x8U => unary!(t, I16X8, uwiden_low),
        I64x2ExtendLowI32x4U => unary!(t, I32X4, uwiden_low),
        I16x8ExtendHighI8x16U => unary!(t, I8X16, uwiden_high),
        I32x4ExtendHighI16x8U => unary!(t, I16X8, uwiden_high),
        I64x2ExtendHighI32x4U => unary!(t, I32X4, uwiden_high),
        I32x4TruncSatF32x4S => t.truncate_f32x4(true),
        I32x4TruncSatF32x4U => t.truncate_f32x4(false),
        I32x4TruncSatF64x2SZero => t.truncate_f64x2(true),
        I32x4TruncSatF64x2UZero => t.truncate_f64x2(false),
        F32x4ConvertI32x4S => {
            let x = t.pop_vector(I32X4);
            let v = t.b.ins().fcvt_from_sint(F32X4, x);
            t.push_vector(v);
        }
        F32x4ConvertI32x4U => {
            let x = t.pop_vector(I32X4);
            let v = t.b.ins().fcvt_from_uint(F32X4, x);
            t.push_vector(v);
        }
        F64x2ConvertLowI32x4S => {
            let x = t.pop_vector(I32X4);
            let wide = t.b.ins().swiden_low(x);
            let v = t.b.ins().fcvt_from_sint(F64X2, wide);
            t.push_vector(v);
        }
        F64x2ConvertLowI32x4U => {
            let x = t.pop_vector(I32X4);
            let wide = t.b.ins().uwiden_low(x);
            let v = t.b.ins().fcvt_from_uint(F64X2, wide);
            t.push_vector(v);
        }
        F32x4DemoteF64x2Zero => unary!(t, F64X2, fvdemote),
        F64x2PromoteLowF32x4 => unary!(t, F32X4, fvpromote_low),
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// `i32x4.trunc_sat_f32x4`: NaN gives 0, what is out of range the nearest integer.
    pub(super) fn truncate_f32x4(&mut self, signed: bool) {
        let x = self.pop_vector(F32X4);
        let v = match signed {
            true => self.b.ins().fcvt_to_sint_sat(I32X4, x),
            false => self.b.ins().fcvt_to_uint_sat(I32X4, x),
        };
        self.push_vector(v);
    }

    /// `i32x4.trunc_sat_f64x2_zero`: the high lanes are zero. The code generators lower conversion and narrowing
    /// with a constant of this very shape as one.
    pub(super) fn truncate_f64x2(&mut self, signed: bool) {
        let x = self.pop_vector(F64X2);
        let zero = self.vector(I64X2, &[0; 16]);
        let v = match signed {
            true => {
                let wide = self.b.ins().fcvt_to_sint_sat(I64X2, x);
                self.b.ins().snarrow(wide, zero)
            }
            false => {
                let wide = self.b.ins().fcvt_to_uint_sat(I64X2, x);
                self.b.ins().uunarrow(wide, zero)
            }
        };
        self.push_vector(v);
    }
}
