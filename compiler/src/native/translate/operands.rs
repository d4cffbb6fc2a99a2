//! Variables and operands as SSA values.

use super::Translator;
use crate::uniform::{CTX, NONE, Var};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types::F32, types::F64, types::I8X16};

/// An operand: an SSA value, or the current value of a variable.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    /// A value that lives across no point.
    Value(Value),
    /// A variable, with the value it has when the operand is read.
    Var(Var),
}

impl Translator<'_, '_, '_> {
    /// The zero of a type.
    pub(super) fn zero(&mut self, ty: Type) -> Value {
        match ty {
            F32 => self.b.ins().f32const(0.0),
            F64 => self.b.ins().f64const(0.0),
            I8X16 => {
                let z = self.b.func.dfg.constants.insert(vec![0u8; 16].into());
                self.b.ins().vconst(I8X16, z)
            }
            _ => self.b.ins().iconst(ty, 0),
        }
    }

    /// The value of a variable; loads it from its home if no register has it.
    pub(super) fn get(&mut self, v: Var) -> Value {
        if self.placement.residents.has(v) {
            return self.home_value(v);
        }
        if !self.state.reg.has(v) {
            self.load_home(v);
        }
        self.b.use_var(self.vars[v as usize])
    }

    /// Sets a variable. Its home is stale then.
    pub(super) fn set(&mut self, v: Var, value: Value) {
        if self.placement.residents.has(v) {
            return self.store_value(v, value);
        }
        self.b.def_var(self.vars[v as usize], value);
        self.state.reg.add(v);
        self.state.clean.remove(v);
    }

    /// The context pointer.
    pub(super) fn ctx(&mut self) -> Value {
        self.get(CTX)
    }

    /// Pushes an operand; into its variable, if the scan found that it lives across a point.
    pub(super) fn push(&mut self, value: Value) {
        let var = match self.scan.operand_var.get(self.pushed) {
            Some(&var) => var,
            None => {
                self.disagree("an operand that the scan has not seen");
                NONE
            }
        };
        self.pushed += 1;
        if var == NONE {
            self.stack.push(Operand::Value(value));
        } else {
            self.set(var, value);
            self.stack.push(Operand::Var(var));
        }
    }

    /// An operand's value.
    pub(super) fn value_of(&mut self, o: Operand) -> Value {
        match o {
            Operand::Value(v) => v,
            Operand::Var(v) => self.get(v),
        }
    }

    /// Pops an operand. Validation has shown that there is one.
    pub(super) fn pop(&mut self) -> Value {
        let o = self.stack.pop().expect("validated: operand stack is not empty");
        self.value_of(o)
    }

    /// Pops two operands; the upper one is the second.
    pub(super) fn pop2(&mut self) -> (Value, Value) {
        let y = self.pop();
        let x = self.pop();
        (x, y)
    }

    /// The top `n` operands, bottom first, left on the stack.
    pub(super) fn peek_n(&mut self, n: usize) -> Vec<Value> {
        (self.stack.len() - n..self.stack.len())
            .map(|k| self.value_of(self.stack[k]))
            .collect()
    }

    /// Pops the top `n` operands, bottom first.
    pub(super) fn pop_n(&mut self, n: usize) -> Vec<Value> {
        let values = self.peek_n(n);
        self.stack.truncate(self.stack.len() - n);
        values
    }
}
