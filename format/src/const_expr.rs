//! Constant expressions (Core 3.4.15), extended ones included: what initialises globals, tables and segments.

use crate::types::Value;
use serde::{Deserialize, Serialize};

/// A constant expression. Validated, so evaluating it can't fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConstExpr {
    /// A constant, with its type.
    Value(Value),
    /// The value of an earlier global.
    GlobalGet(u32),
    /// A function reference.
    RefFunc(u32),
    /// Arithmetic on constants, in the order of its operators.
    Extended(Vec<ConstOp>),
}

/// An operator of a constant expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConstOp {
    /// Pushes a constant.
    Value(Value),
    /// Pushes the value of an earlier global.
    GlobalGet(u32),
    /// Pushes a function reference.
    RefFunc(u32),
    /// `i32.add` or `i64.add`.
    Add,
    /// `i32.sub` or `i64.sub`.
    Sub,
    /// `i32.mul` or `i64.mul`.
    Mul,
}

impl ConstExpr {
    /// An expression of these operators, in its shortest form.
    pub fn new(ops: Vec<ConstOp>) -> ConstExpr {
        match ops[..] {
            [ConstOp::Value(value)] => ConstExpr::Value(value),
            [ConstOp::GlobalGet(global)] => ConstExpr::GlobalGet(global),
            [ConstOp::RefFunc(func)] => ConstExpr::RefFunc(func),
            _ => ConstExpr::Extended(ops),
        }
    }

    /// Its value, given those of earlier globals. `None` for operators that validation would have refused.
    pub fn value(&self, global: impl Fn(u32) -> Option<Value>) -> Option<Value> {
        let ops = match self {
            ConstExpr::Value(value) => return Some(*value),
            ConstExpr::GlobalGet(of) => return global(*of),
            ConstExpr::RefFunc(func) => return Some(Value::FuncRef(Some(*func))),
            ConstExpr::Extended(ops) => ops,
        };
        let mut stack = Vec::new();
        for op in ops {
            let value = match *op {
                ConstOp::Value(value) => value,
                ConstOp::GlobalGet(of) => global(of)?,
                ConstOp::RefFunc(func) => Value::FuncRef(Some(func)),
                ConstOp::Add | ConstOp::Sub | ConstOp::Mul => {
                    let (y, x) = (stack.pop()?, stack.pop()?);
                    arithmetic(*op, x, y)?
                }
            };
            stack.push(value);
        }
        match stack[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The functions it refers to.
    pub fn functions(&self) -> impl Iterator<Item = u32> + '_ {
        let (own, ops): (_, &[ConstOp]) = match self {
            ConstExpr::RefFunc(func) => (Some(*func), &[]),
            ConstExpr::Extended(ops) => (None, ops),
            _ => (None, &[]),
        };
        own.into_iter().chain(ops.iter().filter_map(|op| match op {
            ConstOp::RefFunc(func) => Some(*func),
            _ => None,
        }))
    }
}

fn arithmetic(op: ConstOp, x: Value, y: Value) -> Option<Value> {
    match (x, y) {
        (Value::I32(x), Value::I32(y)) => Some(Value::I32(match op {
            ConstOp::Add => x.wrapping_add(y),
            ConstOp::Sub => x.wrapping_sub(y),
            _ => x.wrapping_mul(y),
        })),
        (Value::I64(x), Value::I64(y)) => Some(Value::I64(match op {
            ConstOp::Add => x.wrapping_add(y),
            ConstOp::Sub => x.wrapping_sub(y),
            _ => x.wrapping_mul(y),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_evaluated_in_order() {
        let i32 = |n| ConstOp::Value(Value::I32(n));
        let ops = vec![ConstOp::GlobalGet(3), i32(5), ConstOp::Sub, i32(2), ConstOp::Mul];
        let value = ConstExpr::new(ops).value(|of| (of == 3).then_some(Value::I32(1)));
        assert_eq!(value, Some(Value::I32(-8i32 as u32)));
    }

    #[test]
    fn one_operator_is_itself_and_nonsense_has_no_value() {
        assert_eq!(ConstExpr::new(vec![ConstOp::RefFunc(2)]), ConstExpr::RefFunc(2));
        let mixed = vec![
            ConstOp::Value(Value::I32(1)),
            ConstOp::Value(Value::I64(1)),
            ConstOp::Add,
        ];
        assert_eq!(ConstExpr::new(mixed).value(|_| None), None);
        assert_eq!(ConstExpr::new(vec![ConstOp::Add]).value(|_| None), None);
        assert_eq!(ConstExpr::new(vec![]).value(|_| None), None);
    }
}
