//! What the kernel knows of each page of this process: whether it was ever touched, whether it was written to; and
//! pages that nobody may touch yet.

pub(crate) mod dirty;
pub(crate) mod residency;
pub(crate) mod unverified;
