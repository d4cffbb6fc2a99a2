//! Moving a program to another machine: what `dunlin migrate`, `receive`, `serve` and `settle` share.

pub(crate) mod devices;
pub(crate) mod machine;
pub(crate) mod peer;
pub(crate) mod precopy;
mod process;
pub(crate) mod program;
pub(crate) mod ssh;
mod standby;
pub(crate) mod watch;
