//! Finding what is meant: running programs by their sockets, executables on disk, snapshots.

pub(crate) mod cache;
pub(crate) mod executables;
pub(crate) mod modules;
pub(crate) mod running;
pub(crate) mod search;
pub(crate) mod snapshots;
mod sockets;
pub(crate) mod trust;

pub(crate) use sockets::{Asked, Socket, ask, programs, warning};
