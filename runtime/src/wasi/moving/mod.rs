//! Taking the state out and putting it back: descriptors, and the files that go along.

pub(in crate::wasi) mod capture;
pub(in crate::wasi) mod gather;
pub(in crate::wasi) mod obstacle;
pub(in crate::wasi) mod restore;
