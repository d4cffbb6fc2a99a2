//! From what is known of a function to machine code: placement of its variables, translation to CLIF, Cranelift, and
//! what must hold of its output. All phases up to the record rule are the same for every architecture.

pub(crate) mod codegen;
pub(crate) mod compiled_function;
mod host_boundary;
pub(crate) mod isa;
pub(crate) mod link;
mod machine_code;
mod optimizer_budget;
mod placement;
mod record_rule;
mod signatures;
mod translate;
