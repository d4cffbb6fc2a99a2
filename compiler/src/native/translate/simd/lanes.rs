//! Constants, splats, single lanes, and permutations of lanes.

use super::Translator;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types::*};
use wasmparser::Operator;

/// Translates an instruction on lanes; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        V128Const { value } => {
            let v = t.vector(I8X16, value.bytes());
            t.push(v);
        }
        I8x16Splat => t.splat(I8X16),
        I16x8Splat => t.splat(I16X8),
        I32x4Splat => t.splat(I32X4),
        I64x2Splat => t.splat(I64X2),
        F32x4Splat => t.splat(F32X4),
        F64x2Splat => t.splat(F64X2),
        I8x16ExtractLaneS { lane } => t.extract_extended(I8X16, lane, true),
        I8x16ExtractLaneU { lane } => t.extract_extended(I8X16, lane, false),
        I16x8ExtractLaneS { lane } => t.extract_extended(I16X8, lane, true),
        I16x8ExtractLaneU { lane } => t.extract_extended(I16X8, lane, false),
        I32x4ExtractLane { lane } => t.extract(I32X4, lane),
        I64x2ExtractLane { lane } => t.extract(I64X2, lane),
        F32x4ExtractLane { lane } => t.extract(F32X4, lane),
        F64x2ExtractLane { lane } => t.extract(F64X2, lane),
        I8x16ReplaceLane { lane } => t.replace(I8X16, lane),
        I16x8ReplaceLane { lane } => t.replace(I16X8, lane),
        I32x4ReplaceLane { lane } => t.replace(I32X4, lane),
        I64x2ReplaceLane { lane } => t.replace(I64X2, lane),
        F32x4ReplaceLane { lane } => t.replace(F32X4, lane),
        F64x2ReplaceLane { lane } => t.replace(F64X2, lane),
        I8x16Shuffle { lanes } => {
            let (x, y) = t.pop_vectors(I8X16);
            let mask = t.b.func.dfg.immediates.push(lanes.as_slice().into());
            let v = t.b.ins().shuffle(x, y, mask);
            t.push(v);
        }
        I8x16Swizzle => t.swizzle(),
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// Pops a scalar for a lane: small lanes take an i32's low bits.
    fn pop_lane(&mut self, shape: Type) -> Value {
        let x = self.pop();
        match shape.lane_type() {
            small @ (I8 | I16) => self.b.ins().ireduce(small, x),
            _ => x,
        }
    }

    fn splat(&mut self, shape: Type) {
        let x = self.pop_lane(shape);
        let v = self.b.ins().splat(shape, x);
        self.push_vector(v);
    }

    fn extract(&mut self, shape: Type, lane: u8) {
        let v = self.pop_vector(shape);
        let x = self.b.ins().extractlane(v, lane);
        self.push(x);
    }

    fn extract_extended(&mut self, shape: Type, lane: u8, signed: bool) {
        let v = self.pop_vector(shape);
        let x = self.b.ins().extractlane(v, lane);
        let wide = match signed {
            true => self.b.ins().sextend(I32, x),
            false => self.b.ins().uextend(I32, x),
        };
        self.push(wide);
    }

    fn replace(&mut self, shape: Type, lane: u8) {
        let x = self.pop_lane(shape);
        let v = self.pop_vector(shape);
        let v = self.b.ins().insertlane(v, x, lane);
        self.push_vector(v);
    }

    /// An index beyond the lanes selects zero.
    pub(super) fn swizzle(&mut self) {
        let (x, indices) = self.pop_vectors(I8X16);
        let v = self.b.ins().swizzle(x, indices);
        self.push(v);
    }
}
