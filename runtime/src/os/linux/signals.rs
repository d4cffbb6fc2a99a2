//! Installing signal handlers, and keeping signals away from threads that they are not for.

use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// Installs a signal handler: the address of an `extern "C"` function that fits `flags`. While it runs, these other
/// signals wait.
pub(super) fn handle(signal: i32, handler: usize, flags: i32, waiting: &[i32]) -> std::io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeros is a valid `sigaction`.
    let action_ref = unsafe { action.assume_init_mut() };
    action_ref.sa_sigaction = handler;
    action_ref.sa_flags = flags;
    for &other in waiting {
        // SAFETY: all zeros is a valid set, the empty one.
        unsafe { libc::sigaddset(&mut action_ref.sa_mask, other) };
    }
    // SAFETY: `action` is initialised; the handler is a function of this program that is async-signal-safe where it
    // must be.
    match unsafe { libc::sigaction(signal, action_ref, null_mut()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Makes a function handle a signal, on the signal stack if the thread has one. Calls of the system that it interrupts
/// go on afterwards. The function is async-signal-safe.
pub(crate) fn handle_and_go_on(signal: i32, handler: extern "C" fn(i32)) -> std::io::Result<()> {
    handle(
        signal,
        handler as *const () as usize,
        libc::SA_ONSTACK | libc::SA_RESTART,
        &[],
    )
}

/// Makes a file that grows beyond its limit (`ulimit -f`) an error of whoever writes, not the process's end.
pub(crate) fn ignore_file_size_limit() -> std::io::Result<()> {
    handle(libc::SIGXFSZ, libc::SIG_IGN, 0, &[])
}

/// Runs `f` with every signal blocked; a thread it starts inherits that, so that all signals go to the program's
/// thread.
pub(crate) fn with_signals_blocked<T>(f: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises `all`; `pthread_sigmask` reads it and initialises `before`.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let result = f();
    // SAFETY: `before` was initialised above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), null_mut()) };
    result
}
