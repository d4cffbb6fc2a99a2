//! What runs inside an executable.

pub mod embedded;
pub mod options;
pub mod request;
pub mod signals;
pub mod wasi;
