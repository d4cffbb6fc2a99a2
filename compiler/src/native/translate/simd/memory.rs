//! Vector loads and stores.

use super::Translator;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types::*};
use wasmparser::{MemArg, Operator};

/// Translates a vector memory instruction; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        V128Load { memarg } => {
            let v = t.load_scalar(memarg, I8X16);
            t.push(v);
        }
        V128Load8x8S { memarg } => t.load_extended(memarg, I8, true),
        V128Load8x8U { memarg } => t.load_extended(memarg, I8, false),
        V128Load16x4S { memarg } => t.load_extended(memarg, I16, true),
        V128Load16x4U { memarg } => t.load_extended(memarg, I16, false),
        V128Load32x2S { memarg } => t.load_extended(memarg, I32, true),
        V128Load32x2U { memarg } => t.load_extended(memarg, I32, false),
        V128Load8Splat { memarg } => t.load_splat(memarg, I8X16),
        V128Load16Splat { memarg } => t.load_splat(memarg, I16X8),
        V128Load32Splat { memarg } => t.load_splat(memarg, I32X4),
        V128Load64Splat { memarg } => t.load_splat(memarg, I64X2),
        V128Load32Zero { memarg } => t.load_zero(memarg, I32X4),
        V128Load64Zero { memarg } => t.load_zero(memarg, I64X2),
        V128Load8Lane { memarg, lane } => t.load_lane(memarg, I8X16, lane),
        V128Load16Lane { memarg, lane } => t.load_lane(memarg, I16X8, lane),
        V128Load32Lane { memarg, lane } => t.load_lane(memarg, I32X4, lane),
        V128Load64Lane { memarg, lane } => t.load_lane(memarg, I64X2, lane),
        V128Store { memarg } => {
            let v = t.pop();
            t.store_scalar(memarg, v);
        }
        V128Store8Lane { memarg, lane } => t.store_lane(memarg, I8X16, lane),
        V128Store16Lane { memarg, lane } => t.store_lane(memarg, I16X8, lane),
        V128Store32Lane { memarg, lane } => t.store_lane(memarg, I32X4, lane),
        V128Store64Lane { memarg, lane } => t.store_lane(memarg, I64X2, lane),
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// Pops an index; flags, address and displacement of an access to `bytes` bytes there.
    fn access(&mut self, arg: MemArg, bytes: u32) -> (MemFlagsData, Value, i32) {
        let index = self.pop();
        let (address, displacement) = self.address(arg, index, bytes);
        (self.memory_flags(), address, displacement)
    }

    fn load_scalar(&mut self, arg: MemArg, ty: Type) -> Value {
        let (flags, address, displacement) = self.access(arg, ty.bytes());
        self.b.ins().load(ty, flags, address, displacement)
    }

    fn store_scalar(&mut self, arg: MemArg, value: Value) {
        let bytes = self.b.func.dfg.value_type(value).bytes();
        let (flags, address, displacement) = self.access(arg, bytes);
        self.b.ins().store(flags, value, address, displacement);
    }

    /// Loads 64 bits as lanes of the type `part`, each widened to twice its width.
    fn load_extended(&mut self, arg: MemArg, part: Type, signed: bool) {
        let (flags, a, d) = self.access(arg, 8);
        let ins = self.b.ins();
        let v = match (part, signed) {
            (I8, true) => ins.sload8x8(flags, a, d),
            (I8, false) => ins.uload8x8(flags, a, d),
            (I16, true) => ins.sload16x4(flags, a, d),
            (I16, false) => ins.uload16x4(flags, a, d),
            (_, true) => ins.sload32x2(flags, a, d),
            (_, false) => ins.uload32x2(flags, a, d),
        };
        self.push_vector(v);
    }

    fn load_splat(&mut self, arg: MemArg, shape: Type) {
        let x = self.load_scalar(arg, shape.lane_type());
        let v = self.b.ins().splat(shape, x);
        self.push_vector(v);
    }

    /// Loads lane 0; the others are zero.
    fn load_zero(&mut self, arg: MemArg, shape: Type) {
        let x = self.load_scalar(arg, shape.lane_type());
        let v = self.b.ins().scalar_to_vector(shape, x);
        self.push_vector(v);
    }

    fn load_lane(&mut self, arg: MemArg, shape: Type, lane: u8) {
        let v = self.pop_vector(shape);
        let x = self.load_scalar(arg, shape.lane_type());
        let v = self.b.ins().insertlane(v, x, lane);
        self.push_vector(v);
    }

    fn store_lane(&mut self, arg: MemArg, shape: Type, lane: u8) {
        let v = self.pop_vector(shape);
        let x = self.b.ins().extractlane(v, lane);
        self.store_scalar(arg, x);
    }
}
