//! From what is known of a function to machine code: placement of its variables, translation to CLIF, Cranelift, and
//! what must hold of its output. All phases up to the record rule are the same for every architecture.

pub mod codegen;
pub mod compiled_function;
mod host_boundary;
pub mod isa;
pub mod link;
mod machine_code;
mod optimizer_budget;
mod placement;
mod record_rule;
mod signatures;
mod translate;
