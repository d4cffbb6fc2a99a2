//! From the running program to a snapshot and back, and what stands in the way.

pub mod capture;
pub mod obstacles;
pub mod pages;
pub mod resume;
pub mod rollback;
