//! What crosses machines, and what compiler and runtime must agree on.
//!
//! Nothing in this crate generates code, runs code or calls WASI. It holds plain types and the formats they travel in:
//!
//! - [`module`]: what the runtime must know of a WebAssembly module; [`image`]: the container it travels in beside the code.
//! - [`imports`]: the host functions a program may import.
//! - [`context`]: the one structure in memory that generated code may touch.
//! - [`framemap`]: migration points, record homes, and per-architecture sites (the stack maps).
//! - [`state`]: the uniform state, defined at the WebAssembly level only.
//! - [`frames`]: native stack bytes to uniform frames and back.
//! - [`snapshot`]: the uniform state as a file; [`inspect`]: shown to a person or a program.
//! - [`store`]: a directory of snapshots, incremental, of which the last few are kept.
//! - [`preflight`]: what stands in the way of a move.
//! - [`control`]: the messages between `dunlin` and a running executable.
//! - [`printable`]: text from outside, safe to print.

pub mod arch;
mod bytes;
pub mod const_expr;
pub mod context;
pub mod control;
pub mod framemap;
pub mod frames;
pub mod hostcalls;
pub mod image;
pub mod imports;
pub mod inspect;
pub mod module;
pub mod preflight;
pub mod printable;
pub mod snapshot;
pub mod state;
pub mod store;
#[cfg(test)]
mod testing;
pub mod types;
