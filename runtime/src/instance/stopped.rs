//! Why an operation of the instance stops the program.

use dunlin_format::hostcalls::Trap;
use dunlin_migrate::frames::FrameError;

/// Why a throw doesn't lead to a handler.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    /// The program traps.
    #[error("{}", .0.message())]
    Trap(Trap),
    /// The stack can't be read: a bug, or memory corruption.
    #[error(transparent)]
    Frames(#[from] FrameError),
    /// The exceptions that are referred to take more memory than the user allows.
    #[error("{0}")]
    Limit(String),
}

impl From<Trap> for Stopped {
    fn from(trap: Trap) -> Stopped {
        Stopped::Trap(trap)
    }
}
