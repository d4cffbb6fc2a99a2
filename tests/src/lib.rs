//! The test harness: everything goes through real executables, on x86_64 natively and on aarch64 under qemu-user.
//!
//! - [`tools`]: where `dunlin`, qemu and the compilers are;
//! - [`process`]: children that cannot hang a test;
//! - [`program`]: a program built for both architectures, and its runs;
//! - [`guest`]: the small C and text-format programs in `guests/`, with the directives in their headers;
//! - [`moves`]: ping-pong between architectures;
//! - [`snapshots`]: snapshots as values, to compare and to forge them;
//! - [`sources`]: C sources and scripts that lie inside crates;
//! - [`real`]: SQLite and Lua;
//! - [`spec`]: the official test suite's scripts.

pub mod guest;
pub mod moves;
pub mod process;
pub mod program;
pub mod real;
pub mod snapshots;
pub mod sources;
pub mod spec;
pub mod tools;
pub mod tree;
