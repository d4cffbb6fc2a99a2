//! Linux.

pub(crate) mod event;
pub(crate) mod faults;
pub(crate) mod files;
pub mod fork;
pub(crate) mod lease;
pub(crate) mod machine;
pub(crate) mod pages;
pub(crate) mod registers;
pub(crate) mod signals;
pub(crate) mod space;
pub(crate) mod started;
