//! WebAssembly value types, values and function types (WebAssembly Core 2.0, sections 2.3 and 4.2.1).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A value type. The discriminant is what the binary formats store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum ValType {
    /// 32-bit integer.
    I32 = 0,
    /// 64-bit integer.
    I64 = 1,
    /// 32-bit IEEE 754 float.
    F32 = 2,
    /// 64-bit IEEE 754 float.
    F64 = 3,
    /// 128-bit vector.
    V128 = 4,
    /// Nullable function reference: a function index, never an address.
    FuncRef = 5,
    /// Nullable host reference: an opaque number.
    ExternRef = 6,
    /// Nullable exception reference: an index into the state's exceptions.
    ExnRef = 7,
}

impl ValType {
    /// Size of the value in a record, in bytes; also its alignment there.
    pub fn size(self) -> u32 {
        match self {
            ValType::I32 | ValType::F32 | ValType::FuncRef | ValType::ExternRef | ValType::ExnRef => 4,
            ValType::I64 | ValType::F64 => 8,
            ValType::V128 => 16,
        }
    }

    /// The inverse of `ty as u8`.
    pub fn from_u8(n: u8) -> Option<ValType> {
        use ValType::*;
        [I32, I64, F32, F64, V128, FuncRef, ExternRef, ExnRef]
            .get(n as usize)
            .copied()
    }
}

impl fmt::Display for ValType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValType::I32 => "i32",
            ValType::I64 => "i64",
            ValType::F32 => "f32",
            ValType::F64 => "f64",
            ValType::V128 => "v128",
            ValType::FuncRef => "funcref",
            ValType::ExternRef => "externref",
            ValType::ExnRef => "exnref",
        })
    }
}

/// How a null reference is stored in records, globals and slots.
pub const NULL_REF: u32 = u32::MAX;

/// A value. Floats are kept as bits: a NaN's payload is state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Value {
    /// i32.
    I32(u32),
    /// i64.
    I64(u64),
    /// f32, as IEEE 754 bits.
    F32(u32),
    /// f64, as IEEE 754 bits.
    F64(u64),
    /// v128, little-endian lanes.
    V128(u128),
    /// A function index or null.
    FuncRef(Option<u32>),
    /// A host reference or null.
    ExternRef(Option<u32>),
    /// An exception or null.
    ExnRef(Option<u32>),
}

impl Value {
    /// The value's type.
    pub fn ty(self) -> ValType {
        match self {
            Value::I32(_) => ValType::I32,
            Value::I64(_) => ValType::I64,
            Value::F32(_) => ValType::F32,
            Value::F64(_) => ValType::F64,
            Value::V128(_) => ValType::V128,
            Value::FuncRef(_) => ValType::FuncRef,
            Value::ExternRef(_) => ValType::ExternRef,
            Value::ExnRef(_) => ValType::ExnRef,
        }
    }

    /// The type's default value (Core 4.2.1): zero or null.
    pub fn zero(ty: ValType) -> Value {
        match ty {
            ValType::FuncRef => Value::FuncRef(None),
            ValType::ExternRef => Value::ExternRef(None),
            ValType::ExnRef => Value::ExnRef(None),
            _ => Value::from_bits(ty, 0),
        }
    }

    /// The value as raw bits, as records, globals and slots hold it.
    pub fn to_bits(self) -> u128 {
        match self {
            Value::I32(x) | Value::F32(x) => x as u128,
            Value::I64(x) | Value::F64(x) => x as u128,
            Value::V128(x) => x,
            Value::FuncRef(r) | Value::ExternRef(r) | Value::ExnRef(r) => r.unwrap_or(NULL_REF) as u128,
        }
    }

    /// The inverse of [`Value::to_bits`]; bits above the type's size are ignored.
    pub fn from_bits(ty: ValType, bits: u128) -> Value {
        let r = Some(bits as u32).filter(|&n| n != NULL_REF);
        match ty {
            ValType::I32 => Value::I32(bits as u32),
            ValType::I64 => Value::I64(bits as u64),
            ValType::F32 => Value::F32(bits as u32),
            ValType::F64 => Value::F64(bits as u64),
            ValType::V128 => Value::V128(bits),
            ValType::FuncRef => Value::FuncRef(r),
            ValType::ExternRef => Value::ExternRef(r),
            ValType::ExnRef => Value::ExnRef(r),
        }
    }
}

/// A function type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct FuncType {
    /// Parameter types.
    pub params: Vec<ValType>,
    /// Result types.
    pub results: Vec<ValType>,
}
