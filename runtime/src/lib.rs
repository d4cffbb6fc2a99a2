//! What runs inside an executable.
//!
//! - [`embedded`], [`program`], [`host`]: the program in this executable: image, module, imports.
//! - [`space`], [`memory`], [`stack`], [`context`], [`instance`], [`instantiate`]: one instance of it.
//! - [`arch`], [`dispatch`], [`trap`]: how compiled code is entered, calls the runtime, and traps.
//! - [`running`], [`invoke`], [`commands`]: the program while it runs, and what is called when.
//! - [`request`], [`shared`], [`control`], [`checkpoint_on`], [`signals`], [`serve`]: requests to checkpoint, and serving them;
//!   [`periodic`], [`fork`]: those that come with time.
//! - [`capture`], [`residency`], [`resume`], [`force`]: from the running program to a snapshot, and back.
//! - [`journal`], [`rollback`]: what undoes the program's changes of its files, and when that is done.
//! - [`obstacles`], [`machine`]: what stands in the way of a move.
//! - [`options`], [`grants`], [`exit`], [`start`]: `DUNLIN_OPTS`, exit codes, and the order of things at start and end.
//! - [`wasi`]: the host functions.
//!
//! `unsafe` is confined to the files that own raw memory or registers: [`embedded`], [`space`], [`memory`], [`stack`], [`instance`],
//! [`arch`], [`residency`], [`dispatch`], [`running`], [`trap`], [`request`], [`control`], [`fork`], `journal::seen` and [`checkpoint_on`] (signal masks and handlers).

pub mod arch;
pub mod capture;
pub mod checkpoint_on;
pub mod commands;
pub mod context;
pub mod control;
pub mod detach;
pub mod dispatch;
pub mod embedded;
pub mod exceptions;
pub mod force;
pub mod fork;
pub mod host;
pub mod instance;
pub mod instantiate;
pub mod invoke;
pub mod journal;
pub mod memory;
pub mod obstacles;
pub mod own_file;
pub mod pages;
pub mod periodic;
pub mod program;
pub mod request;
pub mod residency;
pub mod resume;
pub mod rollback;
pub mod running;
pub mod serve;
pub mod shared;
pub mod space;
pub mod stack;
pub mod start;
pub mod trap;
pub mod wasi;
