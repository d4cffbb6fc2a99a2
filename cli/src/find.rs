//! Finding what is meant: running programs by their sockets, executables on disk, snapshots.

pub mod cache;
pub mod executables;
pub mod running;
pub mod search;
pub mod snapshots;
mod sockets;
pub mod trust;

pub use sockets::{Asked, Socket, ask, programs, warning};
