//! How a running program travels between two machines' `dunlin`: what is sent, what is kept on disk, and the two sides
//! that do it. Who has the program at any moment is decided by [`dunlin_handover`]; here is all that has to do with
//! files, connections and time.
//!
//! ```text
//!   dunlin migrate                                                dunlin receive
//!   --------------                                                --------------
//!   Hello                              ------------------------>
//!                                      <------------------------  Hello
//!   About: name, module, needs         ------------------------>  what stands in the way? which executable is there?
//!                                      <------------------------  Terms: architecture, what it lacks, findings
//!   [record: moving]
//!   Handover(Offer)                    ------------------------>
//!   File(executable, or module),
//!   if it is lacking                   ------------------------>  compared with the module's hash; compiled
//!                                      <------------------------  Admitted
//!   while the program runs, again and
//!   again: File(round)                 ------------------------>  made durable
//!                                      <------------------------  RoundKept
//!   stops the program, writes its
//!   snapshot: what no round has
//!   File(snapshot), which meanwhile
//!   becomes durable here               ------------------------>  checked as `dunlin check` does, made durable
//!                                      <------------------------  Handover(Prepared)      [record: prepared]
//!   [record: released]
//!   Handover(Commit)                   ------------------------>  [record: running], the program runs
//!                                      <------------------------  Handover(Taken)         [record: taken]
//!   ends the stopped process
//!   Handover(Gone)                     ------------------------>  [no record]
//! ```
//!
//! A round (`sender/rounds.rs`) is an incremental snapshot that takes pages from the rounds before it; so is the last
//! one. All lie in the transfer's directory, on both sides under the same names, and go with it.
//!
//! Either side sends [`Frame::Working`] while it is busy, so that silence means that the other one is gone.

pub mod files;
pub mod link;
pub mod moving;
pub mod receiver;
pub mod records;
pub mod sender;
pub mod wire;

pub use link::{Link, LinkError};
pub use wire::{About, FileKind, Frame, Terms};
