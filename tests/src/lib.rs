//! The test harness: everything goes through real executables, on x86_64 natively and on aarch64 under qemu-user.
//!
//! - [`tools`]: where `dunlin`, qemu and the compilers are;
//! - [`process`]: children that cannot hang a test;
//! - [`program`]: a program built for both architectures, and its runs;
//! - [`large`]: large modules, made up;
//! - [`guest`]: the small C and text-format programs in `guests/`, with the directives in their headers;
//! - [`case`]: a real program with its reference;
//! - [`moves`]: ping-pong between architectures;
//! - [`slice`]: how much of a suite one run takes;
//! - [`snapshots`]: snapshots as values, to compare and to forge them;
//! - [`forge`]: snapshots forged from a seed;
//! - [`sources`]: sources, scripts and modules that lie inside crates and Python packages;
//! - [`real`]: how real programs are built, and [`recipes`]: which there are;
//! - [`spec`]: the official test suite's scripts;
//! - [`unison`]: programs that are killed at any instant, with their files.

pub mod case;
pub mod desk;
pub mod forge;
pub mod guest;
pub mod house;
pub mod large;
pub mod moves;
pub mod process;
pub mod program;
pub mod real;
pub mod recipes;
pub mod slice;
pub mod snapshots;
pub mod sources;
pub mod spec;
pub mod tools;
pub mod tree;
pub mod unison;
