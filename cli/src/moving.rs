//! Moving a program to another machine: what `dunlin migrate`, `receive` and `settle` share.

pub mod machine;
pub mod peer;
pub mod program;
