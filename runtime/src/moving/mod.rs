//! From the running program to a sink, and from a state and a source of pages back; what stands in the way.

pub(crate) mod ahead;
pub(crate) mod capture;
pub(crate) mod obstacles;
pub(crate) mod pages;
pub(crate) mod resume;
pub mod rollback;
pub(crate) mod rounds;
pub(crate) mod tracking;
