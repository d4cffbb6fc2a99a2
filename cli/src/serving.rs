//! `dunlin serve`: what it may do, who is connected, and the programs that came.

pub(crate) mod admission;
pub(crate) mod configuration;
pub(crate) mod programs;
pub(crate) mod server;
