//! The undo journal: the program's files go back with the program.
//!
//! A snapshot names a moment of the program and of every file that it may write. When a program that was killed is
//! started again, it goes on from its newest snapshot, and its files must be as they were then. So before the program
//! changes a file, a name or a directory for the first time since the snapshot, what was there is recorded here; going
//! back undoes it, newest first.
//!
//! **Files**, beside the snapshots (see [`dunlin_migrate::store`]):
//!
//! | file | holds |
//! |------|-------|
//! | `0000000007.undo` | what undoes everything since snapshot 7 ([`record`]); number 0: since the program's beginning |
//! | `0000000007.seen` | what the program last left of each file it has changed since ([`seen`]) |
//! | `0000000007.keep/` | files that it has removed or replaced since: other names of them where that can be, else copies |
//! | `going-back` | there while files are being taken back |
//!
//! **Order of steps**, for everything that the program does to its files (all of it passes `wasi/changes/change.rs`):
//!
//! 1. What was there is recorded: a block's bytes, a file's length, a name's file (which gets another name in
//!    `.keep/`). Each record is one `write`. With `--durable` it is on the disk before anything else happens.
//! 2. The table says that a change is under way.
//! 3. The change is made.
//! 4. The table says how the file was left.
//!
//! If the process is killed between two steps, the kernel has everything that was written: a record without its change
//! undoes nothing. If a record can't be written (a full disk), the program's call fails with that error, and nothing
//! has changed.
//!
//! **A new snapshot**, while the program stands still: journal N begins empty, then snapshot N is written. Going back
//! to the newest snapshot that is whole undoes every journal from the newest down to that snapshot's own. A journal is
//! removed when no snapshot of its number or an earlier one is kept ([`dunlin_migrate::store::Store`]).
//!
//! **Going back** ([`back`]): journals are read, and where everything should be now is worked out (`back/expected.rs`);
//! what is not as the program left it was changed by others, and without `--accept-changed` nothing is done then.
//! Otherwise records are undone from the last to the first, and the journal is cut behind each that has been undone; so
//! whoever is killed meanwhile goes on where it stopped. `back/marker.rs` tells such a one what is its own work, so
//! that what others have changed in between is found, too.
//!
//! **Power cuts.** The kernel may write a change to the disk before the record. Only with `--durable` are records
//! forced there first, and the files of a snapshot before the snapshot.

pub mod back;
mod files;
mod record;
mod recording;
mod seen;

pub use back::{BackError, WentBack, go_back};
pub use record::{Base, FileId, Kind, Name};
pub use recording::{Journal, Leaving, Lineage, Ticket};

use std::fs::File;
use std::sync::Arc;

/// A granted directory as journals name it.
#[derive(Clone, Debug)]
pub struct Root {
    /// The program's name for it.
    pub guest: String,
    /// The directory, if it could be opened.
    pub dir: Option<Arc<File>>,
    /// Do snapshots bring its files?
    pub carried: bool,
}
