//! How a program's process can end, and the exit codes for it.

use std::path::PathBuf;

/// Bad options or usage.
pub const USAGE: i32 = 2;
/// A checkpoint was written and the program stopped (HTCondor's code for a self-checkpoint).
pub const CHECKPOINTED: i32 = 85;
/// A snapshot is bad, or was refused.
pub const BAD_SNAPSHOT: i32 = 86;
/// The runtime itself failed: input or output, memory.
pub const FAILED: i32 = 87;
/// The executable has no program that can be started.
pub const NO_PROGRAM: i32 = 88;
/// The snapshot is good, and this machine lacks what the program had: a directory, a file as it was, an address.
pub const NOT_HERE: i32 = 89;
/// The program trapped (that of a process that aborted: 128 + SIGABRT).
pub const TRAPPED: i32 = 134;

/// A failure to tell the user about, and the exit code for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: i32,
    /// What failed, on what, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with this code.
    pub fn new(code: i32, message: impl std::fmt::Display) -> Failure {
        Failure {
            code,
            message: message.to_string(),
        }
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its last function returned.
    Returned,
    /// It called `proc_exit`.
    Exited(u32),
    /// It trapped: the message, and the backtrace's lines.
    Trapped {
        /// The trap's name or the host function's complaint.
        message: String,
        /// WebAssembly frames, innermost first, one a line.
        backtrace: String,
    },
    /// It was checkpointed and is to stop.
    Checkpointed(PathBuf),
    /// It can't go on.
    Failed(Failure),
}
