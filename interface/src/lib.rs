//! What a person, or `dunlin`, and an executable say to each other: both are built with this, so that `dunlin` need not
//! have the runtime in it.
//!
//! - [`options`]: what an executable takes from `DUNLIN_OPTS` and `dunlin run` and `dunlin resume` from their command
//!   lines.
//! - [`exit`]: how a process can end, and the exit codes.
//! - [`meeting`]: where the control sockets of running executables lie.
//! - [`machine`]: what this machine has to offer, as `dunlin check` compares it with what a program needs.

pub mod exit;
pub mod machine;
pub mod meeting;
pub mod options;
