//! Vector instructions that touch neither memory nor the context.

use wasmparser::Operator;

macro_rules! is_vector {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        /// Whether the operator is a vector instruction, a relaxed one included.
        fn is_vector(op: &Operator<'_>) -> bool {
            matches!(op, $(Operator::$op { .. })|*)
        }
    };
}

wasmparser::for_each_visit_simd_operator!(is_vector);

/// Whether the operator is a vector instruction other than a load or store.
pub(crate) fn is_pure(op: &Operator<'_>) -> bool {
    use Operator::*;
    is_vector(op)
        && !matches!(
            op,
            V128Load { .. }
                | V128Load8x8S { .. }
                | V128Load8x8U { .. }
                | V128Load16x4S { .. }
                | V128Load16x4U { .. }
                | V128Load32x2S { .. }
                | V128Load32x2U { .. }
                | V128Load8Splat { .. }
                | V128Load16Splat { .. }
                | V128Load32Splat { .. }
                | V128Load64Splat { .. }
                | V128Load32Zero { .. }
                | V128Load64Zero { .. }
                | V128Load8Lane { .. }
                | V128Load16Lane { .. }
                | V128Load32Lane { .. }
                | V128Load64Lane { .. }
                | V128Store { .. }
                | V128Store8Lane { .. }
                | V128Store16Lane { .. }
                | V128Store32Lane { .. }
                | V128Store64Lane { .. }
        )
}
