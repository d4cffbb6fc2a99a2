//! The official test suite's scripts (`.wast`), read ([`script`]), taken apart into cases ([`cases`]), linked where
//! instances share something ([`link`]), and run through real executables ([`run`]); with the list of what is left out
//! and why ([`skips`]), and a table of what came of it ([`report`]). [`atomics`] adds scripts of our own.

pub mod atomics;
pub mod cases;
pub mod interface;
pub mod link;
pub mod report;
pub mod run;
pub mod scope;
pub mod script;
pub mod skips;
pub mod values;
pub mod vector;
