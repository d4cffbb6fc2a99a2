//! Programs that go from machine to machine: this side and the other one.

pub(crate) mod machine;
pub(crate) mod peer;
pub(crate) mod precopy;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod standby;
