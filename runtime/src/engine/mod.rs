//! How compiled code is entered and left, what it asks for, and how it traps; the program while it runs.

pub mod arch;
pub mod at_point;
pub mod dispatch;
pub mod host_calls;
pub mod invoke;
pub mod running;
pub mod trap;
