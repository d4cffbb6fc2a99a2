//! What the kernel knows of each page of this process: whether it was ever touched, whether it was written to.

pub(crate) mod dirty;
pub(crate) mod residency;
