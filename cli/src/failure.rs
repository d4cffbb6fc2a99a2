//! How a verb fails: a message for a person and an exit code for a script.

use dunlin_interface::exit;
use std::fmt;

/// Something `dunlin` itself could not do.
pub const FAILED: u8 = exit::COULD_NOT as u8;
/// The command line makes no sense. The same as clap's own and an executable's.
pub const USAGE: u8 = exit::USAGE as u8;
/// `dunlin check` has found something that stands in the way of a move.
pub const CANNOT_MOVE: u8 = exit::CANNOT_MOVE as u8;
/// The snapshot is damaged, or belongs to another program. The same as an executable's own.
pub const BAD_SNAPSHOT: u8 = exit::BAD_SNAPSHOT as u8;

/// A verb's failure. The message reads after "dunlin: cannot ".
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// "VERB WHAT: why; what to do".
    pub message: String,
}

impl Failure {
    /// A failure with [`FAILED`].
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            code: FAILED,
            message: message.into(),
        }
    }

    /// A failure with [`USAGE`].
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure {
            code: USAGE,
            message: message.into(),
        }
    }

    /// A failure with [`BAD_SNAPSHOT`].
    pub fn bad_snapshot(message: impl Into<String>) -> Failure {
        Failure {
            code: BAD_SNAPSHOT,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dunlin: cannot {}", self.message)
    }
}

/// What a verb returns.
pub type Outcome = Result<(), Failure>;
