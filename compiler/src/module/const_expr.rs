//! Constant expressions: initial values of globals and tables, items and offsets of segments.

use super::features;
use crate::error::Error;
use dunlin_format::module::{ConstExpr, ConstOp};
use dunlin_format::types::Value;
use wasmparser::Operator;

/// A validated constant expression; `offset` is where its owner lies.
pub(super) fn read(expr: &wasmparser::ConstExpr<'_>, offset: usize) -> Result<ConstExpr, Error> {
    let mut out = Vec::with_capacity(1);
    for op in expr.get_operators_reader() {
        out.push(match op? {
            Operator::I32Const { value } => ConstOp::Value(Value::I32(value as u32)),
            Operator::I64Const { value } => ConstOp::Value(Value::I64(value as u64)),
            Operator::F32Const { value } => ConstOp::Value(Value::F32(value.bits())),
            Operator::F64Const { value } => ConstOp::Value(Value::F64(value.bits())),
            Operator::V128Const { value } => ConstOp::Value(Value::V128(u128::from_le_bytes(*value.bytes()))),
            Operator::GlobalGet { global_index } => ConstOp::GlobalGet(global_index),
            Operator::RefFunc { function_index } => ConstOp::RefFunc(function_index),
            Operator::RefNull { hty } => {
                let ty = wasmparser::RefType::new(true, hty).map(wasmparser::ValType::Ref);
                let ty = ty.ok_or_else(|| Error::unsupported("this type of null reference", offset))?;
                ConstOp::Value(Value::zero(features::value_type(ty, offset)?))
            }
            Operator::I32Add | Operator::I64Add => ConstOp::Add,
            Operator::I32Sub | Operator::I64Sub => ConstOp::Sub,
            Operator::I32Mul | Operator::I64Mul => ConstOp::Mul,
            Operator::End => break,
            op => return Err(Error::unsupported(format!("{op:?} in a constant expression"), offset)),
        });
    }
    Ok(ConstExpr::new(out))
}
