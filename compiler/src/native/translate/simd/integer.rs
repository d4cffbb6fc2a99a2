//! Integer lanes: bits, arithmetic, shifts, tests and comparisons.

use super::{Translator, binary, unary};
use cranelift_codegen::ir::{InstBuilder, Type, condcodes::IntCC, types::*};
use wasmparser::Operator;

/// Translates an instruction on bits or integer lanes, comparisons apart; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    bits(t, op) || arithmetic(t, op) || saturating(t, op) || products(t, op)
}

fn bits(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match op {
        V128Not => unary!(t, I8X16, bnot),
        V128And => binary!(t, I8X16, band),
        V128AndNot => binary!(t, I8X16, band_not),
        V128Or => binary!(t, I8X16, bor),
        V128Xor => binary!(t, I8X16, bxor),
        V128Bitselect => t.bitselect(),
        V128AnyTrue => {
            let x = t.pop();
            let any = t.b.ins().vany_true(x);
            let any = t.b.ins().uextend(I32, any);
            t.push(any);
        }
        I8x16AllTrue => t.all_true(I8X16),
        I16x8AllTrue => t.all_true(I16X8),
        I32x4AllTrue => t.all_true(I32X4),
        I64x2AllTrue => t.all_true(I64X2),
        I8x16Bitmask => t.bitmask(I8X16),
        I16x8Bitmask => t.bitmask(I16X8),
        I32x4Bitmask => t.bitmask(I32X4),
        I64x2Bitmask => t.bitmask(I64X2),
        I8x16Popcnt => unary!(t, I8X16, popcnt),
        I8x16Shl => t.shift(I8X16, Shift::Left),
        I16x8Shl => t.shift(I16X8, Shift::Left),
        I32x4Shl => t.shift(I32X4, Shift::Left),
        I64x2Shl => t.shift(I64X2, Shift::Left),
        I8x16ShrS => t.shift(I8X16, Shift::RightSigned),
        I16x8ShrS => t.shift(I16X8, Shift::RightSigned),
        I32x4ShrS => t.shift(I32X4, Shift::RightSigned),
        I64x2ShrS => t.shift(I64X2, Shift::RightSigned),
        I8x16ShrU => t.shift(I8X16, Shift::RightUnsigned),
        I16x8ShrU => t.shift(I16X8, Shift::RightUnsigned),
        I32x4ShrU => t.shift(I32X4, Shift::RightUnsigned),
        I64x2ShrU => t.shift(I64X2, Shift::RightUnsigned),
        _ => return false,
    }
    true
}

fn arithmetic(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match op {
        I8x16Abs => unary!(t, I8X16, iabs),
        I16x8Abs => unary!(t, I16X8, iabs),
        I32x4Abs => unary!(t, I32X4, iabs),
        I64x2Abs => unary!(t, I64X2, iabs),
        I8x16Neg => unary!(t, I8X16, ineg),
        I16x8Neg => unary!(t, I16X8, ineg),
        I32x4Neg => unary!(t, I32X4, ineg),
        I64x2Neg => unary!(t, I64X2, ineg),
        I8x16Add => binary!(t, I8X16, iadd),
        I16x8Add => binary!(t, I16X8, iadd),
        I32x4Add => binary!(t, I32X4, iadd),
        I64x2Add => binary!(t, I64X2, iadd),
        I8x16Sub => binary!(t, I8X16, isub),
        I16x8Sub => binary!(t, I16X8, isub),
        I32x4Sub => binary!(t, I32X4, isub),
        I64x2Sub => binary!(t, I64X2, isub),
        I16x8Mul => binary!(t, I16X8, imul),
        I32x4Mul => binary!(t, I32X4, imul),
        I64x2Mul => binary!(t, I64X2, imul),
        I8x16MinS => binary!(t, I8X16, smin),
        I16x8MinS => binary!(t, I16X8, smin),
        I32x4MinS => binary!(t, I32X4, smin),
        I8x16MinU => binary!(t, I8X16, umin),
        I16x8MinU => binary!(t, I16X8, umin),
        I32x4MinU => binary!(t, I32X4, umin),
        I8x16MaxS => binary!(t, I8X16, smax),
        I16x8MaxS => binary!(t, I16X8, smax),
        I32x4MaxS => binary!(t, I32X4, smax),
        I8x16MaxU => binary!(t, I8X16, umax),
        I16x8MaxU => binary!(t, I16X8, umax),
        I32x4MaxU => binary!(t, I32X4, umax),
        I8x16AvgrU => binary!(t, I8X16, avg_round),
        I16x8AvgrU => binary!(t, I16X8, avg_round),
        _ => return false,
    }
    true
}

fn saturating(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match op {
        I8x16AddSatS => binary!(t, I8X16, sadd_sat),
        I16x8AddSatS => binary!(t, I16X8, sadd_sat),
        I8x16AddSatU => binary!(t, I8X16, uadd_sat),
        I16x8AddSatU => binary!(t, I16X8, uadd_sat),
        I8x16SubSatS => binary!(t, I8X16, ssub_sat),
        I16x8SubSatS => binary!(t, I16X8, ssub_sat),
        I8x16SubSatU => binary!(t, I8X16, usub_sat),
        I16x8SubSatU => binary!(t, I16X8, usub_sat),
        I16x8Q15MulrSatS => binary!(t, I16X8, sqmul_round_sat),
        _ => return false,
    }
    true
}

/// Products and sums whose lanes are twice as wide as the operands'.
fn products(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match op {
        I16x8ExtMulLowI8x16S => t.extended_product(I8X16, Half::LowSigned),
        I16x8ExtMulHighI8x16S => t.extended_product(I8X16, Half::HighSigned),
        I16x8ExtMulLowI8x16U => t.extended_product(I8X16, Half::LowUnsigned),
        I16x8ExtMulHighI8x16U => t.extended_product(I8X16, Half::HighUnsigned),
        I32x4ExtMulLowI16x8S => t.extended_product(I16X8, Half::LowSigned),
        I32x4ExtMulHighI16x8S => t.extended_product(I16X8, Half::HighSigned),
        I32x4ExtMulLowI16x8U => t.extended_product(I16X8, Half::LowUnsigned),
        I32x4ExtMulHighI16x8U => t.extended_product(I16X8, Half::HighUnsigned),
        I64x2ExtMulLowI32x4S => t.extended_product(I32X4, Half::LowSigned),
        I64x2ExtMulHighI32x4S => t.extended_product(I32X4, Half::HighSigned),
        I64x2ExtMulLowI32x4U => t.extended_product(I32X4, Half::LowUnsigned),
        I64x2ExtMulHighI32x4U => t.extended_product(I32X4, Half::HighUnsigned),
        I32x4DotI16x8S => {
            let (x, y) = t.pop_vectors(I16X8);
            let (x_low, y_low) = (t.b.ins().swiden_low(x), t.b.ins().swiden_low(y));
            let low = t.b.ins().imul(x_low, y_low);
            let (x_high, y_high) = (t.b.ins().swiden_high(x), t.b.ins().swiden_high(y));
            let high = t.b.ins().imul(x_high, y_high);
            let v = t.b.ins().iadd_pairwise(low, high);
            t.push_vector(v);
        }
        I16x8ExtAddPairwiseI8x16S => t.extended_pairwise_sum(I8X16, true),
        I16x8ExtAddPairwiseI8x16U => t.extended_pairwise_sum(I8X16, false),
        I32x4ExtAddPairwiseI16x8S => t.extended_pairwise_sum(I16X8, true),
        I32x4ExtAddPairwiseI16x8U => t.extended_pairwise_sum(I16X8, false),
        _ => return false,
    }
    true
}

/// Translates a comparison of integer lanes; `false` if it is none.
pub(crate) fn compare(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use IntCC::*;
    use Operator::*;
    match op {
        I8x16Eq => t.compare_lanes(I8X16, Equal),
        I16x8Eq => t.compare_lanes(I16X8, Equal),
        I32x4Eq => t.compare_lanes(I32X4, Equal),
        I64x2Eq => t.compare_lanes(I64X2, Equal),
        I8x16Ne => t.compare_lanes(I8X16, NotEqual),
        I16x8Ne => t.compare_lanes(I16X8, NotEqual),
        I32x4Ne => t.compare_lanes(I32X4, NotEqual),
        I64x2Ne => t.compare_lanes(I64X2, NotEqual),
        I8x16LtS => t.compare_lanes(I8X16, SignedLessThan),
        I16x8LtS => t.compare_lanes(I16X8, SignedLessThan),
        I32x4LtS => t.compare_lanes(I32X4, SignedLessThan),
        I64x2LtS => t.compare_lanes(I64X2, SignedLessThan),
        I8x16GtS => t.compare_lanes(I8X16, SignedGreaterThan),
        I16x8GtS => t.compare_lanes(I16X8, SignedGreaterThan),
        I32x4GtS => t.compare_lanes(I32X4, SignedGreaterThan),
        I64x2GtS => t.compare_lanes(I64X2, SignedGreaterThan),
        I8x16LeS => t.compare_lanes(I8X16, SignedLessThanOrEqual),
        I16x8LeS => t.compare_lanes(I16X8, SignedLessThanOrEqual),
        I32x4LeS => t.compare_lanes(I32X4, SignedLessThanOrEqual),
        I64x2LeS => t.compare_lanes(I64X2, SignedLessThanOrEqual),
        I8x16GeS => t.compare_lanes(I8X16, SignedGreaterThanOrEqual),
        I16x8GeS => t.compare_lanes(I16X8, SignedGreaterThanOrEqual),
        I32x4GeS => t.compare_lanes(I32X4, SignedGreaterThanOrEqual),
        I64x2GeS => t.compare_lanes(I64X2, SignedGreaterThanOrEqual),
        I8x16LtU => t.compare_lanes(I8X16, UnsignedLessThan),
        I16x8LtU => t.compare_lanes(I16X8, UnsignedLessThan),
        I32x4LtU => t.compare_lanes(I32X4, UnsignedLessThan),
        I8x16GtU => t.compare_lanes(I8X16, UnsignedGreaterThan),
        I16x8GtU => t.compare_lanes(I16X8, UnsignedGreaterThan),
        I32x4GtU => t.compare_lanes(I32X4, UnsignedGreaterThan),
        I8x16LeU => t.compare_lanes(I8X16, UnsignedLessThanOrEqual),
        I16x8LeU => t.compare_lanes(I16X8, UnsignedLessThanOrEqual),
        I32x4LeU => t.compare_lanes(I32X4, UnsignedLessThanOrEqual),
        I8x16GeU => t.compare_lanes(I8X16, UnsignedGreaterThanOrEqual),
        I16x8GeU => t.compare_lanes(I16X8, UnsignedGreaterThanOrEqual),
        I32x4GeU => t.compare_lanes(I32X4, UnsignedGreaterThanOrEqual),
        _ => return false,
    }
    true
}

/// Where lanes are moved.
#[derive(Clone, Copy)]
enum Shift {
    Left,
    RightSigned,
    RightUnsigned,
}

/// Which lanes are widened, and how.
#[derive(Clone, Copy)]
enum Half {
    LowSigned,
    HighSigned,
    LowUnsigned,
    HighUnsigned,
}

impl Translator<'_, '_, '_> {
    /// `v128.bitselect`: bits of the first operand where the third has ones, else of the second.
    pub(super) fn bitselect(&mut self) {
        let (x, y, mask) = self.pop_three_vectors(I8X16);
        let v = self.b.ins().bitselect(mask, x, y);
        self.push(v);
    }

    fn all_true(&mut self, shape: Type) {
        let x = self.pop_vector(shape);
        let all = self.b.ins().vall_true(x);
        let all = self.b.ins().uextend(I32, all);
        self.push(all);
    }

    fn bitmask(&mut self, shape: Type) {
        let x = self.pop_vector(shape);
        let mask = self.b.ins().vhigh_bits(I32, x);
        self.push(mask);
    }

    /// Cranelift takes the amount modulo the lane's width, as WebAssembly does.
    fn shift(&mut self, shape: Type, shift: Shift) {
        let amount = self.pop();
        let x = self.pop_vector(shape);
        let v = match shift {
            Shift::Left => self.b.ins().ishl(x, amount),
            Shift::RightSigned => self.b.ins().sshr(x, amount),
            Shift::RightUnsigned => self.b.ins().ushr(x, amount),
        };
        self.push_vector(v);
    }

    fn extended_product(&mut self, shape: Type, half: Half) {
        let (x, y) = self.pop_vectors(shape);
        let [x, y] = [x, y].map(|v| match half {
            Half::LowSigned => self.b.ins().swiden_low(v),
            Half::HighSigned => self.b.ins().swiden_high(v),
            Half::LowUnsigned => self.b.ins().uwiden_low(v),
            Half::HighUnsigned => self.b.ins().uwiden_high(v),
        });
        let v = self.b.ins().imul(x, y);
        self.push_vector(v);
    }

    pub(super) fn extended_pairwise_sum(&mut self, shape: Type, signed: bool) {
        let x = self.pop_vector(shape);
        let (low, high) = match signed {
            true => (self.b.ins().swiden_low(x), self.b.ins().swiden_high(x)),
            false => (self.b.ins().uwiden_low(x), self.b.ins().uwiden_high(x)),
        };
        let v = self.b.ins().iadd_pairwise(low, high);
        self.push_vector(v);
    }

    /// All ones where the comparison holds, else all zeros.
    fn compare_lanes(&mut self, shape: Type, cc: IntCC) {
        let (x, y) = self.pop_vectors(shape);
        let v = self.b.ins().icmp(cc, x, y);
        self.push_vector(v);
    }
}
