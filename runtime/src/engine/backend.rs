//! What runs compiled code: one back end, chosen when the runtime is built. Nothing outside of it knows the machine.

use crate::engine::trap::Fault;
use crate::instance::{Instance, Thunks};
use crate::program::Program;
use std::io;

/// The back end of this runtime: machine code, run by the machine itself.
#[cfg(not(feature = "pulley"))]
pub(super) type Chosen = super::native::Native;

/// The back end of this runtime: portable code, interpreted.
#[cfg(feature = "pulley")]
pub(super) type Chosen = super::pulley::Pulley;

/// Why compiled code came back from [`Backend::enter`] or [`Backend::resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The program's outermost function returned.
    Returned,
    /// A host call ended the program.
    Ended,
    /// The program trapped; `None` if nobody knows where.
    Trapped(Option<Fault>),
}

/// How code is entered and left. The code's stack holds frames as [`dunlin_format::arch::FrameShape`] says of the
/// image's architecture, whichever back end runs it: that is what moves.
///
/// Every call that the code makes of the runtime goes to [`crate::engine::dispatch::dispatch`] with the context and the
/// call's number, while the context's `wasm_fp` holds the frame pointer of the leave thunk's frame. The back end goes
/// on with the context that it returns, which may be another one: after a migration in place, stack and memory are new.
/// A null context means [`Left::Ended`].
pub(super) trait Backend {
    /// The addresses by which code calls the runtime, for the context.
    fn thunks() -> Thunks;

    /// The return address of the entry trampoline's frame, for a rebuilt stack.
    fn enter_return() -> u64;

    /// Makes the calling thread ready to run this program, which it does for the rest of the process's life.
    fn prepare(program: &'static Program) -> io::Result<()>;

    /// The instance whose code is about to run, until [`Backend::unwatch`]: traps are looked for in there.
    fn watch(instance: &Instance);

    /// No instance runs: from now on every fault is a bug.
    fn unwatch();

    /// Calls compiled code on a fresh stack.
    ///
    /// # Safety
    ///
    /// `ctx` is a complete context, `code` the address of a compiled function, `trampoline` that of its type's entry
    /// trampoline, and `stack_top` the top of a WebAssembly stack on which nothing lives. Nothing may hold a reference
    /// into any of them.
    unsafe fn enter(ctx: *mut u8, code: u64, trampoline: u64, stack_top: u64) -> Left;

    /// Goes on with a rebuilt stack, whose leave frame the context names, as if the host call there had returned.
    ///
    /// # Safety
    ///
    /// As for [`Backend::enter`]; the stack was rebuilt with [`Backend::enter_return`] as the trampoline's return
    /// address.
    unsafe fn resume(ctx: *mut u8) -> Left;
}
