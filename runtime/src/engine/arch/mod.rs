//! What differs between machines: the thunks that switch between the host's stack and the WebAssembly stack, and how a
//! signal handler reads and changes the interrupted registers. The only assembly of the runtime.
//!
//! `enter` saves the callee-saved registers on the host stack, notes the host's stack pointer in the context, switches
//! to the WebAssembly stack and calls the entry trampoline: `trampoline(ctx, code) -> ctx`. The trampoline's return
//! address is the label `dunlin_enter_return`, which finds the host stack again through the context it is given.
//!
//! `leave(ctx, call)` is called by compiled code. It pushes an ordinary frame, notes its frame pointer in the context,
//! switches back to the host stack and calls [`crate::engine::dispatch::dispatch`]. The context that returns may be
//! another one: after a migration in place, stack and memory are new. A null context means that the program has ended:
//! `enter` returns [`ENDED`].
//!
//! `resume(ctx)` saves the callee-saved registers as `enter` does and jumps into the tail of `leave`, as if its host
//! call had just returned: the stack it finds through the context was rebuilt from a snapshot, and its innermost frame
//! is a leave thunk's.
//!
//! Frames have one shape everywhere: `[FP]` is the caller's FP, `[FP + 8]` the return address.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as imp;
#[cfg(target_arch = "x86_64")]
use x86_64 as imp;

pub use imp::Interrupted;

/// `enter` or `resume` returned because the program's outermost function did.
pub const RETURNED: u64 = 0;
/// ... because the host call ended the program.
pub const ENDED: u64 = 1;
/// ... because the program trapped.
pub const TRAPPED: u64 = 2;

// SAFETY: the assembly of this architecture's file defines these symbols, with these signatures.
unsafe extern "C" {
    fn dunlin_enter(ctx: *mut u8, code: u64, trampoline: u64, stack_top: u64) -> u64;
    fn dunlin_resume(ctx: *mut u8) -> u64;
    #[link_name = "__morestack"]
    fn dunlin_leave();
    fn dunlin_enter_return();
    fn dunlin_exit();
}

/// Calls compiled code on a fresh stack; returns how it ended ([`RETURNED`], [`ENDED`] or [`TRAPPED`]).
///
/// # Safety
///
/// `ctx` is a complete context, `code` the address of a compiled function, `trampoline` that of its type's entry
/// trampoline, and `stack_top` the top of a WebAssembly stack on which nothing lives. Nothing may hold a reference into
/// any of them.
pub unsafe fn enter(ctx: *mut u8, code: u64, trampoline: u64, stack_top: u64) -> u64 {
    // SAFETY: the caller's promise is the thunk's contract.
    unsafe { dunlin_enter(ctx, code, trampoline, stack_top) }
}

/// Goes on with a rebuilt stack whose leave frame the context names; returns how the program ended, as [`enter`] does.
///
/// # Safety
///
/// As for [`enter`]; the stack was rebuilt with [`enter_return`] as the trampoline's return address.
pub unsafe fn resume(ctx: *mut u8) -> u64 {
    // SAFETY: the caller's promise is the thunk's contract.
    unsafe { dunlin_resume(ctx) }
}

/// The address of the leave thunk, for the context.
pub fn leave() -> u64 {
    dunlin_leave as *const () as u64
}

/// The return address of an entry trampoline's frame.
pub fn enter_return() -> u64 {
    dunlin_enter_return as *const () as u64
}

/// Is the instruction at `pc` the first of the leave thunk, which pushes its frame?
pub fn first_of_leave(pc: u64) -> bool {
    pc == leave()
}
