//! What is asked of the operating system, other than files for the program ([`crate::wasi`], [`crate::journal`]):
//! signals and faults, processes, wake-ups, mappings, what the machine is. Nothing else of the runtime asks it by
//! itself; another operating system is another folder beside `linux/`, with the same modules.

mod linux;
pub(crate) mod log;
pub(crate) mod messages;
pub mod wake;

pub use linux::fork;
pub(crate) use linux::pages::{dirty, residency, unverified};
pub(crate) use linux::{event, files, lease, machine, signals, space, started};
#[cfg(not(feature = "pulley"))]
pub(crate) use linux::{faults, registers};
