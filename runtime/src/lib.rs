//! What runs inside an executable, from what needs nothing of the rest to what needs all of it:
//!
//! - [`os`]: what is asked of the operating system: signals, faults, mappings, forked copies, wake-ups; messages.
//! - [`journal`]: what undoes the program's changes of its files.
//! - [`wasi`]: the host functions.
//! - `program`: the program in this executable: image, module, imports.
//! - `instance`: one instance of it: memories, tables, globals, stack.
//! - `engine`: how compiled code is entered, calls the runtime, and traps; the program while it runs.
//! - [`moving`]: from the running program to a snapshot, and back; `requests`: who may ask for that, and when it is
//!   served; `testing`: what tests ask for. These and the engine still know each other.
//! - [`start`]: the order of things at start and end.
//!
//! `unsafe` is confined to the files that own raw memory or registers, or install signal handlers; they are listed in
//! `tests/tests/tidy.rs`. Outside of `os`, `wasi` and `journal` nothing calls the operating system but through the
//! standard library.

mod engine;
mod instance;
pub mod journal;
pub mod moving;
pub mod os;
mod program;
mod requests;
pub mod start;
mod testing;
pub mod wasi;
