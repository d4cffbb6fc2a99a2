//! Making executables, and writing files.

pub(crate) mod compile;
pub(crate) mod files;
pub(crate) mod portable;
pub(crate) mod runtimes;
