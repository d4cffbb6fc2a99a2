//! Vector instructions (Core 2.4.3).
//!
//! A v128 is an I8X16 wherever the translator keeps it: in locals, on the operand stack, as block parameters, in the
//! record, in slots and globals. An instruction casts it to the shape it works on, and back. Casts are little endian on
//! every architecture, cost nothing, and leave lane 0 at the lowest address.
//!
//! Every operation is one of Cranelift's with the same result, bit for bit, on both architectures, with one exception,
//! which scalar floats share: the bits of a NaN that arithmetic produces (see `--deterministic`).
//!
//! Files: [`lanes`] (constants, splats, single lanes, permutations), [`integer`], [`float`], [`convert`] (between
//! shapes), [`memory`], [`relaxed`].

mod convert;
mod float;
mod integer;
mod lanes;
mod memory;
mod relaxed;
#[cfg(test)]
mod tests;

use super::Translator;
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value, types::I8X16};
use wasmparser::Operator;

/// Translates a vector instruction; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    memory::translate(t, op)
        || lanes::translate(t, op)
        || integer::translate(t, op)
        || integer::compare(t, op)
        || float::translate(t, op)
        || convert::translate(t, op)
        || relaxed::translate(t, op)
}

/// A unary instruction on a shape.
macro_rules! unary {
    ($t:ident, $shape:expr, $ins:ident) => {{
        let x = $t.pop_vector($shape);
        let v = $t.b.ins().$ins(x);
        $t.push_vector(v)
    }};
}

/// A binary instruction on a shape.
macro_rules! binary {
    ($t:ident, $shape:expr, $ins:ident) => {{
        let (x, y) = $t.pop_vectors($shape);
        let v = $t.b.ins().$ins(x, y);
        $t.push_vector(v)
    }};
}

use {binary, unary};

impl Translator<'_, '_, '_> {
    /// A vector in another shape: the same 128 bits.
    fn cast(&mut self, shape: Type, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == shape {
            return v;
        }
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(shape, flags, v)
    }

    /// Pops a vector in a shape.
    fn pop_vector(&mut self, shape: Type) -> Value {
        let v = self.pop();
        self.cast(shape, v)
    }

    /// Pops two vectors in a shape.
    fn pop_vectors(&mut self, shape: Type) -> (Value, Value) {
        let y = self.pop_vector(shape);
        let x = self.pop_vector(shape);
        (x, y)
    }

    /// Pops three vectors in a shape.
    fn pop_three_vectors(&mut self, shape: Type) -> (Value, Value, Value) {
        let z = self.pop_vector(shape);
        let (x, y) = self.pop_vectors(shape);
        (x, y, z)
    }

    /// Pushes a vector of any shape.
    fn push_vector(&mut self, v: Value) {
        let v = self.cast(I8X16, v);
        self.push(v);
    }

    /// A constant.
    fn vector(&mut self, shape: Type, bytes: &[u8; 16]) -> Value {
        let data = self.b.func.dfg.constants.insert(bytes.as_slice().into());
        self.b.ins().vconst(shape, data)
    }
}
