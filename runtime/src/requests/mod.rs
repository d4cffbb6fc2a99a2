//! Who may ask for a snapshot (another process, a signal, the clock), and how a request is served at a migration point.

pub(crate) mod checkpoint_on;
pub(crate) mod control;
pub(crate) mod evacuate;
mod hand_over;
pub(crate) mod inbox;
pub(crate) mod moved;
pub(crate) mod own_file;
pub(crate) mod periodic;
mod rounds;
pub(crate) mod serve;
