//! What stands in the way of a move, found out before anything is paused: what a program needs, what a machine has, and
//! what is missing. Both descriptions are plain JSON, so that they can be sent ahead.

mod needs;
mod target;

pub use needs::Needs;
pub use target::{Target, parse_size};

use crate::snapshot::SnapshotError;
use serde::{Deserialize, Serialize};

/// The largest page of a machine that memories can be mapped with, in bytes: WebAssembly's own.
const MAX_PAGE: u64 = 64 << 10;

/// One thing that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing, for scripts: `grant`, `file`, `memory`, `disk`, `module`, `executable`, `descriptor`,
    /// `listener`, `format`, `damage`, `arguments`, `limit`, `page-size` or `state`.
    pub kind: String,
    /// What it is, for a person.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Finding {
    /// That a snapshot can't be read.
    pub fn of_snapshot_error(e: &SnapshotError) -> Finding {
        let (kind, fix) = match e {
            SnapshotError::Version { .. } | SnapshotError::UnknownSection(_) => ("format", "install it here"),
            _ => ("damage", "copy it again, or use an earlier one"),
        };
        Finding::new(kind, e.to_string(), fix)
    }

    /// A finding of a kind: what it is, and what to do about it.
    pub fn new(kind: &str, what: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding {
            kind: kind.into(),
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.fix)
    }
}
