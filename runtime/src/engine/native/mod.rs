//! The native back end: machine code on a stack of its own. The only assembly of the runtime but for the image's
//! placeholders.
//!
//! `enter` saves the callee-saved registers on the host stack, notes the host's stack pointer in the context, switches
//! to the WebAssembly stack and calls the entry trampoline: `trampoline(ctx, code) -> ctx`. The trampoline's return
//! address is the label `dunlin_enter_return`, which finds the host stack again through the context it is given.
//!
//! `leave(ctx, call)` is called by compiled code. It pushes an ordinary frame, notes its frame pointer in the context,
//! switches back to the host stack and calls [`crate::engine::dispatch::dispatch`]. When that returns null, `enter`
//! returns [`ENDED`].
//!
//! `resume(ctx)` saves the callee-saved registers as `enter` does and jumps into the tail of `leave`, as if its host
//! call had just returned: the stack it finds through the context was rebuilt from a snapshot, and its innermost frame
//! is a leave thunk's.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod faults;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use super::backend::{Backend, Left};
use crate::instance::{Instance, Thunks};
use crate::os::machine;
use crate::program::Program;
use std::io;

/// `enter` or `resume` returned because the program's outermost function did.
const RETURNED: u64 = 0;
/// ... because the host call ended the program.
const ENDED: u64 = 1;
/// ... because the program trapped.
const TRAPPED: u64 = 2;

// SAFETY: the assembly of this architecture's file defines these symbols, with these signatures.
unsafe extern "C" {
    fn dunlin_enter(ctx: *mut u8, code: u64, trampoline: u64, stack_top: u64) -> u64;
    fn dunlin_resume(ctx: *mut u8) -> u64;
    #[link_name = "__morestack"]
    fn dunlin_leave();
    fn dunlin_enter_return();
    fn dunlin_exit();
}

/// The address of the leave thunk.
fn leave() -> u64 {
    dunlin_leave as *const () as u64
}

/// Why `enter` or `resume` returned.
fn left(status: u64) -> Left {
    match status {
        RETURNED => Left::Returned,
        TRAPPED => Left::Trapped(faults::last_fault()),
        _ => Left::Ended,
    }
}

/// Machine code, run by the machine itself.
pub(super) struct Native;

impl Backend for Native {
    fn thunks() -> Thunks {
        let (memmove, memset) = machine::memory_routines();
        Thunks {
            leave: leave(),
            memmove,
            memset,
        }
    }

    fn enter_return() -> u64 {
        dunlin_enter_return as *const () as u64
    }

    fn prepare(program: &'static Program) -> io::Result<()> {
        faults::install(program)
    }

    fn watch(instance: &Instance) {
        faults::watch(instance);
    }

    fn unwatch() {
        faults::unwatch();
    }

    unsafe fn enter(ctx: *mut u8, code: u64, trampoline: u64, stack_top: u64) -> Left {
        // SAFETY: the caller's promise is the thunk's contract.
        left(unsafe { dunlin_enter(ctx, code, trampoline, stack_top) })
    }

    unsafe fn resume(ctx: *mut u8) -> Left {
        // SAFETY: the caller's promise is the thunk's contract.
        left(unsafe { dunlin_resume(ctx) })
    }
}
