//! What a migration point is, and how the places of a frame that hold values are named.

use serde::{Deserialize, Serialize};

/// Kind of a migration point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum PointKind {
    /// A call whose callee is running. Resumes when the callee returns.
    Call = 0,
    /// At the head of a loop, before an iteration.
    Loop = 1,
    /// At the entry of a function, before its first instruction.
    Entry = 2,
    /// In an imported function's wrapper: the host call is undone and will be issued (again).
    Host = 3,
}

impl PointKind {
    /// The inverse of `kind as u8`.
    pub fn from_u8(n: u8) -> Option<PointKind> {
        [PointKind::Call, PointKind::Loop, PointKind::Entry, PointKind::Host]
            .get(n as usize)
            .copied()
    }
}

/// A place of a frame that holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Slot {
    /// A local (parameters first).
    Local(u32),
    /// An operand-stack position, counted from the bottom of the function's stack.
    Stack(u32),
}

impl std::fmt::Display for PointKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PointKind::Call => "call",
            PointKind::Loop => "loop",
            PointKind::Entry => "entry",
            PointKind::Host => "host",
        })
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Slot::Local(n) => write!(f, "local {n}"),
            Slot::Stack(n) => write!(f, "stack {n}"),
        }
    }
}
