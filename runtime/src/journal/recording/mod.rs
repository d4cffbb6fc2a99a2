//! Recording what was there before the program changes it: bytes of files (`contents`), names and directories
//! (`names`), and files that lose a name (`keep`).

mod contents;
mod keep;
mod names;
mod saved;
mod writer;

pub use names::{Leaving, Ticket};
pub(super) use writer::changed_at;
pub use writer::{Journal, Lineage};
