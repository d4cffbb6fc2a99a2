//! The engine: how compiled code is entered, calls the runtime, and traps; the program while it runs.
//!
//! How code is run, and on which machine, is known behind `backend::Backend` only; a runtime has one of the back ends
//! `native` and `pulley`.

pub(crate) mod at_point;
mod backend;
mod dispatch;
mod host_calls;
pub(crate) mod invoke;
#[cfg(not(feature = "pulley"))]
mod native;
#[cfg(feature = "pulley")]
mod pulley;
pub(crate) mod running;
mod trap;

use crate::instance::{Instance, InstanceError, Limits};
use crate::program::Program;
use backend::{Backend, Chosen};
use dunlin_migrate::frames::Entry;
use std::io;

pub(crate) use host_calls::show;

/// Makes the calling thread ready to run this program, for good: traps are handled on it.
pub(crate) fn prepare(program: &'static Program) -> io::Result<()> {
    Chosen::prepare(program)
}

/// An instance before instantiation, which the engine can run.
pub(crate) fn new_instance(program: &'static Program, limits: &Limits) -> Result<Instance, InstanceError> {
    Instance::new(program, limits, Chosen::thunks())
}

/// What the outermost frame of an instance's stack is entered from, for a stack that is rebuilt. `trampoline`: code
/// index of the trampoline of the function that was called.
pub(crate) fn entry(instance: &Instance, trampoline: u32) -> Entry {
    Entry {
        top: instance.stack.top(),
        enter_return: Chosen::enter_return(),
        trampoline,
        ctx: instance.ctx().addr() as u64,
    }
}
