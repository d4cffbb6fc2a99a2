//! Linux.

pub mod event;
pub mod faults;
pub mod files;
pub mod fork;
pub mod lease;
pub mod machine;
pub mod registers;
pub mod residency;
pub mod signals;
pub mod space;
pub mod started;
