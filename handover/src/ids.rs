//! Names: of programs, machines' record stores, attempts and preparations.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Sixteen bytes from the system's random numbers, never used for anything else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Id(pub [u8; 16]);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One attempt to move one program. Never used again: a second attempt, the way back and the way onwards are transfers
/// of their own, so whatever is late from another one matches nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// The program; the same wherever it goes.
    pub program: Id,
    /// The sender's store of records, named when it was made. Only that store can say that it holds no record of the
    /// transfer: a machine whose disk was lost or replaced has another one, and its ignorance proves nothing.
    pub store: Id,
    /// New for each attempt.
    pub attempt: Id,
}
