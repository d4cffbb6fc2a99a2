//! Who may ask for a snapshot (another process, a signal, the clock), and how a request is served at a migration point.

pub mod checkpoint_on;
pub mod control;
mod hand_over;
pub mod own_file;
pub mod periodic;
pub mod serve;
pub mod shared;
