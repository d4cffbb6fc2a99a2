//! What runs inside an executable, from what needs nothing of the rest to what needs all of it:
//!
//! - [`os`]: signals, forked copies, wake-ups, what is told on standard error.
//! - [`journal`]: what undoes the program's changes of its files.
//! - [`wasi`]: the host functions.
//! - [`program`]: the program in this executable: image, module, imports.
//! - [`instance`]: one instance of it: memories, tables, globals, stack.
//! - [`engine`]: how compiled code is entered, calls the runtime, and traps; the program while it runs.
//! - [`moving`]: from the running program to a snapshot, and back; [`requests`]: who may ask for that, and when it is
//!   served; [`testing`]: what tests ask for. These and the engine still know each other.
//! - [`start`]: the order of things at start and end.
//!
//! `unsafe` is confined to the files that own raw memory or registers, or install signal handlers: in `program`
//! `embedded`; in `instance` the module itself, `space`, `memory`, `stack`, `residency` and `detach`; in `engine`
//! `arch`, `dispatch`, `running` and `trap`; in `os` `signals`, `request` and `fork`; in `requests` `checkpoint_on`;
//! and `journal::seen`.

pub mod engine;
pub mod instance;
pub mod journal;
pub mod moving;
pub mod os;
pub mod program;
pub mod requests;
pub mod start;
pub mod testing;
pub mod wasi;
