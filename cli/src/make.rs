//! Making executables, and writing files.

pub mod compile;
pub mod files;
pub mod runtimes;
