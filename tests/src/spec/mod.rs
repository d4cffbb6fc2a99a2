//! The official test suite's scripts (`.wast`), taken apart into modules with the calls that belong to each ([`script`]), run
//! through real executables ([`run`]), with the list of what is left out and why ([`skips`]).

pub mod run;
pub mod script;
pub mod skips;
pub mod vector;
