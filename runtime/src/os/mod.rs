//! What is asked of the operating system, other than files for the program: signals, processes, wake-ups, standard
//! error.

pub mod fork;
pub mod messages;
pub mod request;
pub mod signals;
