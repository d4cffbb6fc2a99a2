//! What crosses machines.
//!
//! Nothing in this crate generates code, runs code or calls WASI. It holds plain types and the formats they travel in:
//!
//! - [`state`]: the uniform state, defined at the WebAssembly level only.
//! - [`validate`]: everything that a hostile snapshot could lie about, checked against a module.
//! - [`frames`]: native stack bytes to uniform frames and back.
//! - [`snapshot`]: the uniform state as a file; [`inspect`]: shown to a person or a program.
//! - [`transfer`]: the seam between a program and what carries it: where it goes, where its pages come from.
//! - [`store`]: a directory of snapshots, incremental, of which the last few are kept.
//! - [`preflight`]: what stands in the way of a move.
//! - [`control`]: the messages between `dunlin` and a running executable.
//! - [`printable`]: text from outside, safe to print.
//!
//! What a program is (its module, its points, its frame maps) is in `dunlin_format`.

pub mod control;
pub mod frames;
pub mod inspect;
pub mod preflight;
pub mod printable;
pub mod snapshot;
pub mod standby;
pub mod state;
pub mod store;
#[cfg(test)]
mod testing;
pub mod transfer;
pub mod validate;
