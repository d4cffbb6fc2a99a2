//! The log of host calls, which `--host-calls` asks for: a line for each.

use super::running::Running;
use dunlin_format::types::Value;

/// A value as `TYPE:BITS`.
pub(crate) fn show(value: Value) -> String {
    format!("{}:{:x}", value.ty(), value.to_bits())
}

impl Running {
    /// Tells of the call of an imported function whose arguments are in the slots, if that is wanted.
    pub(super) fn note_call(&mut self, index: u32) {
        let module = &self.instance.program.module;
        let (Some(calls), Some(import)) = (&mut self.host_calls, module.imports.get(index as usize)) else {
            return;
        };
        calls.push_str("call ");
        calls.push_str(&import.name);
        for (slot, &ty) in (0..).zip(&module.func_type(index).params) {
            calls.push(' ');
            calls.push_str(&show(Value::from_bits(ty, self.instance.slot(slot))));
        }
        calls.push('\n');
    }
}
