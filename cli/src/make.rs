//! Making executables, here or in a process of its own, and writing files.

pub(crate) mod apart;
pub(crate) mod compile;
pub(crate) mod files;
pub(crate) mod portable;
pub(crate) mod runtimes;
