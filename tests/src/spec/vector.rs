//! Vectors among the results that scripts expect.

use super::values::Pattern;
use wast::core::{NanPattern, V128Pattern};

/// A vector's lanes, each as a pattern of its own.
pub fn lanes(pattern: &V128Pattern) -> Pattern {
    Pattern::Lanes(match pattern {
        V128Pattern::I8x16(lanes) => lanes.iter().map(|&x| Pattern::Bits("i8", x as u8 as u128)).collect(),
        V128Pattern::I16x8(lanes) => lanes.iter().map(|&x| Pattern::Bits("i16", x as u16 as u128)).collect(),
        V128Pattern::I32x4(lanes) => lanes.iter().map(|&x| Pattern::Bits("i32", x as u32 as u128)).collect(),
        V128Pattern::I64x2(lanes) => lanes.iter().map(|&x| Pattern::Bits("i64", x as u64 as u128)).collect(),
        V128Pattern::F32x4(lanes) => lanes.iter().map(|x| float("f32", x, |x| x.bits.into())).collect(),
        V128Pattern::F64x2(lanes) => lanes.iter().map(|x| float("f64", x, |x| x.bits.into())).collect(),
    })
}

fn float<T>(ty: &'static str, lane: &NanPattern<T>, bits: impl Fn(&T) -> u128) -> Pattern {
    match lane {
        NanPattern::CanonicalNan => Pattern::Canonical(ty),
        NanPattern::ArithmeticNan => Pattern::Arithmetic(ty),
        NanPattern::Value(x) => Pattern::Bits(ty, bits(x)),
    }
}

/// Do a vector's lanes match?
pub fn accepts(lanes: &[Pattern], bits: u128) -> bool {
    let width = 128 / lanes.len();
    let lane_type = |p: &Pattern| match p {
        Pattern::Bits(ty, _) | Pattern::Canonical(ty) | Pattern::Arithmetic(ty) => *ty,
        _ => "",
    };
    lanes.iter().enumerate().all(|(k, lane)| {
        let value = bits >> (k * width) & (u128::MAX >> (128 - width));
        lane.accepts(lane_type(lane), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_judged_one_by_one() {
        let pattern = lanes(&V128Pattern::I16x8([1, -2, 3, 4, 5, 6, 7, 8]));
        let bits = 0x0008_0007_0006_0005_0004_0003_fffe_0001;
        assert!(pattern.accepts("v128", bits));
        assert!(!pattern.accepts("v128", bits ^ 1 << 127));
        assert!(!pattern.accepts("i64", bits));
        let nans = lanes(&V128Pattern::F64x2([
            NanPattern::CanonicalNan,
            NanPattern::ArithmeticNan,
        ]));
        assert!(nans.accepts("v128", 0x7ff8_0000_0000_0001_fff8_0000_0000_0000));
        assert!(!nans.accepts("v128", 0x7ff8_0000_0000_0000_fff8_0000_0000_0001));
        let either = Pattern::Either(vec![pattern, nans]);
        assert!(either.accepts("v128", bits) && !either.accepts("v128", 0));
    }
}
