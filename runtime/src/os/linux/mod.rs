//! Linux.

pub(crate) mod event;
#[cfg(not(feature = "pulley"))]
pub(crate) mod faults;
pub(crate) mod files;
pub mod fork;
pub(crate) mod lease;
pub(crate) mod machine;
pub(crate) mod pages;
#[cfg(not(feature = "pulley"))]
pub(crate) mod registers;
pub(crate) mod signals;
pub(crate) mod space;
pub(crate) mod started;
