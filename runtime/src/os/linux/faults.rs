//! Faults of the processor: the handler that may turn one into something else than the process's end, and its stack.

use super::pages::unverified;
use super::registers::Registers;
use super::signals;
use std::ffi::c_void;
use std::io;
use std::ptr::null_mut;
use std::sync::OnceLock;

/// Size of the signal stack in bytes: signal handlers never run on the stack of what they interrupt.
const SIGNAL_STACK: usize = 256 << 10;

/// A fault's cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An access to this address.
    Memory(u64),
    /// The instruction itself: an arithmetic error, an undefined instruction, a breakpoint.
    Instruction,
}

/// Handles a fault by changing the registers, or returns `false`: then the process ends as if there were no handler.
/// Async-signal-safe.
pub(crate) type Handler = fn(Fault, &mut Registers<'_>) -> bool;

static HANDLER: OnceLock<Handler> = OnceLock::new();

/// Signals that faults raise.
const SIGNALS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

/// Makes a function handle faults, for good (the first one that is given), and gives the calling thread a signal stack:
/// it is the one on which faults are to be handled.
pub(crate) fn handle(handler: Handler) -> io::Result<()> {
    let _ = HANDLER.set(handler);
    signal_stack()?;
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // Whoever gives a lease back copies memory that may fault, and a fault while one is handled ends the process.
    let install = |signal| signals::handle(signal, on_fault as *const () as usize, flags, &[libc::SIGIO]);
    SIGNALS.into_iter().try_for_each(install)
}

/// Gives the calling thread a signal stack that outlives it.
fn signal_stack() -> io::Result<()> {
    let memory = Box::leak(vec![0u8; SIGNAL_STACK].into_boxed_slice());
    let stack = libc::stack_t {
        ss_sp: memory.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: memory.len(),
    };
    // SAFETY: the memory is never freed and nothing else uses it.
    match unsafe { libc::sigaltstack(&stack, null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Was it an access to memory that was not checked yet, and is now?
fn is_unverified(address: u64) -> bool {
    // SAFETY: the address of this thread's own `errno`, which the interrupted code may be about to read.
    let errno = unsafe { &mut *libc::__errno_location() };
    let before = *errno;
    let opened = unverified::open(address as usize);
    *errno = before;
    opened
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: `context` is this handler's third argument.
    let mut registers = unsafe { Registers::new(context) };
    // SAFETY: the kernel passes a valid `siginfo_t`; for these signals it holds an address (which is 0 if another
    // process sent it).
    let (address, sent) = unsafe { ((*info).si_addr() as u64, (*info).si_code <= 0) };
    let fault = match signal {
        libc::SIGSEGV | libc::SIGBUS => Fault::Memory(address),
        _ => Fault::Instruction,
    };
    if signal == libc::SIGSEGV && !sent && is_unverified(address) {
        return;
    }
    if !sent && HANDLER.get().is_some_and(|handler| handler(fault, &mut registers)) {
        return;
    }
    // Nobody's. With the default action back, the instruction faults again where it stands; a sent signal must be sent
    // again. SAFETY: resetting a signal's action and raising it is async-signal-safe.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        if sent {
            libc::raise(signal);
        }
    }
}
