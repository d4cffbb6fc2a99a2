//! Float lanes: arithmetic and comparisons.

use super::{Translator, binary, unary};
use cranelift_codegen::ir::{InstBuilder, Type, condcodes::FloatCC, types::*};
use wasmparser::Operator;

/// Translates an instruction on float lanes; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    arithmetic(t, op) || compare(t, op)
}

fn arithmetic(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match op {
        F32x4Ceil => unary!(t, F32X4, ceil),
        F64x2Ceil => unary!(t, F64X2, ceil),
        F32x4Floor => unary!(t, F32X4, floor),
        F64x2Floor => unary!(t, F64X2, floor),
        F32x4Trunc => unary!(t, F32X4, trunc),
        F64x2Trunc => unary!(t, F64X2, trunc),
        F32x4Nearest => unary!(t, F32X4, nearest),
        F64x2Nearest => unary!(t, F64X2, nearest),
        F32x4Abs => unary!(t, F32X4, fabs),
        F64x2Abs => unary!(t, F64X2, fabs),
        F32x4Neg => unary!(t, F32X4, fneg),
        F64x2Neg => unary!(t, F64X2, fneg),
        F32x4Sqrt => unary!(t, F32X4, sqrt),
        F64x2Sqrt => unary!(t, F64X2, sqrt),
        F32x4Add => binary!(t, F32X4, fadd),
        F64x2Add => binary!(t, F64X2, fadd),
        F32x4Sub => binary!(t, F32X4, fsub),
        F64x2Sub => binary!(t, F64X2, fsub),
        F32x4Mul => binary!(t, F32X4, fmul),
        F64x2Mul => binary!(t, F64X2, fmul),
        F32x4Div => binary!(t, F32X4, fdiv),
        F64x2Div => binary!(t, F64X2, fdiv),
        F32x4Min => binary!(t, F32X4, fmin),
        F64x2Min => binary!(t, F64X2, fmin),
        F32x4Max => binary!(t, F32X4, fmax),
        F64x2Max => binary!(t, F64X2, fmax),
        F32x4PMin => t.pseudo_min(F32X4),
        F64x2PMin => t.pseudo_min(F64X2),
        F32x4PMax => t.pseudo_max(F32X4),
        F64x2PMax => t.pseudo_max(F64X2),
        _ => return false,
    }
    true
}

fn compare(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match op {
        F32x4Eq => t.compare_floats(F32X4, FloatCC::Equal),
        F64x2Eq => t.compare_floats(F64X2, FloatCC::Equal),
        F32x4Ne => t.compare_floats(F32X4, FloatCC::NotEqual),
        F64x2Ne => t.compare_floats(F64X2, FloatCC::NotEqual),
        F32x4Lt => t.compare_floats(F32X4, FloatCC::LessThan),
        F64x2Lt => t.compare_floats(F64X2, FloatCC::LessThan),
        F32x4Gt => t.compare_floats(F32X4, FloatCC::GreaterThan),
        F64x2Gt => t.compare_floats(F64X2, FloatCC::GreaterThan),
        F32x4Le => t.compare_floats(F32X4, FloatCC::LessThanOrEqual),
        F64x2Le => t.compare_floats(F64X2, FloatCC::LessThanOrEqual),
        F32x4Ge => t.compare_floats(F32X4, FloatCC::GreaterThanOrEqual),
        F64x2Ge => t.compare_floats(F64X2, FloatCC::GreaterThanOrEqual),
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// `pmin(x, y)`: `y` where `y < x`, else `x`, NaNs' bits included. The code generators know this pattern, in this
    /// order.
    fn pseudo_min(&mut self, shape: Type) {
        let (x, y) = self.pop_vectors(shape);
        let less = self.b.ins().fcmp(FloatCC::LessThan, y, x);
        let less = self.cast(shape, less);
        let v = self.b.ins().bitselect(less, y, x);
        self.push_vector(v);
    }

    /// `pmax(x, y)`: `y` where `x < y`, else `x`.
    fn pseudo_max(&mut self, shape: Type) {
        let (x, y) = self.pop_vectors(shape);
        let less = self.b.ins().fcmp(FloatCC::LessThan, x, y);
        let less = self.cast(shape, less);
        let v = self.b.ins().bitselect(less, y, x);
        self.push_vector(v);
    }

    fn compare_floats(&mut self, shape: Type, cc: FloatCC) {
        let (x, y) = self.pop_vectors(shape);
        let v = self.b.ins().fcmp(cc, x, y);
        self.push_vector(v);
    }
}
