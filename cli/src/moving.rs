//! Moving a program to another machine: what `dunlin migrate`, `receive` and `settle` share.

pub(crate) mod machine;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod watch;
