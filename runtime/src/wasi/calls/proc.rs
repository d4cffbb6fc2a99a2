//! `proc_raise` and `sched_yield`; `proc_exit` needs no more than its outcome.

use crate::wasi::errno::Errno;
use crate::wasi::{Done, Wasi};

/// WASI's signals, by number.
const SIGNALS: [&str; 31] = [
    "none", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
    "TERM", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "POLL",
    "PWR", "SYS",
];

impl Wasi {
    /// What a signal does to a program that can't handle any: most end it. The message of a deadly signal is the error.
    pub(in crate::wasi) fn proc_raise(&mut self, signal: u32) -> Result<Done, String> {
        match SIGNALS.get(signal as usize) {
            None => Ok(Err(Errno::Inval.into())),
            Some(&("none" | "CHLD" | "CONT" | "URG" | "WINCH")) => Ok(Ok(())),
            Some(&("STOP" | "TSTP" | "TTIN" | "TTOU")) => Ok(Err(Errno::NotSup.into())),
            Some(name) => Err(format!("the program raised signal {name}")),
        }
    }

    pub(in crate::wasi) fn sched_yield(&mut self) -> Done {
        rustix::thread::sched_yield();
        Ok(())
    }
}
