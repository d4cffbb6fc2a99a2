//! What compiler and runtime must agree on.
//!
//! Nothing in this crate generates code, runs code, reads or writes a file or asks an operating system for anything. It
//! holds plain types and the formats they lie in:
//!
//! - [`module`]: what the runtime must know of a WebAssembly module; [`types`] and [`const_expr`] are its parts.
//! - [`imports`]: the host functions a program may import; [`hostcalls`]: what generated code asks the runtime for.
//! - [`context`]: the one structure in memory that generated code may touch.
//! - [`point`], [`framemap`]: migration points, record homes, and per-architecture sites (the stack maps).
//! - [`image`]: the container in which all of that lies in an executable, beside the code for an architecture
//!   ([`arch`]).
//! - [`bytes`]: reading and writing the numbers of such formats.

pub mod arch;
pub mod bytes;
pub mod const_expr;
pub mod context;
pub mod framemap;
pub mod hostcalls;
pub mod image;
pub mod imports;
pub mod module;
pub mod point;
pub mod types;
