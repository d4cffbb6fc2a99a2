//! The uniform state: all that must move for a program to go on elsewhere, at the WebAssembly level and nowhere else.
//!
//! No native address, register, frame or host descriptor is ever part of it. The bytes of linear memories are kept
//! apart (see [`crate::snapshot`]), because they are large and mapped, not copied.

pub mod chunks;
pub mod files;
pub mod wasi;

use dunlin_format::module::ModuleHash;
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::Value;
use serde::{Deserialize, Serialize};

/// The uniform state of a program stopped at a migration point, without the bytes of its memories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Whose state this is.
    pub module: ModuleHash,
    /// What the host had called.
    pub invocation: Invocation,
    /// The call stack, outermost first. Never empty.
    pub frames: Vec<Frame>,
    /// Every global.
    pub globals: Vec<Value>,
    /// Every memory.
    pub memories: Vec<MemoryState>,
    /// Every table.
    pub tables: Vec<TableState>,
    /// Which element segments were dropped.
    pub dropped_elements: Vec<bool>,
    /// Which data segments were dropped.
    pub dropped_data: Vec<bool>,
    /// The host's side.
    pub wasi: wasi::WasiState,
    /// Exceptions that references may refer to, by index; `None` where one was forgotten. In a section of its own.
    #[serde(skip)]
    pub exceptions: Vec<Option<Exception>>,
}

/// An exception that was thrown and is still referred to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Its tag.
    pub tag: u32,
    /// What it carries: values of the tag's parameter types.
    pub values: Vec<Value>,
    /// Was it thrown by reference, so that other references to it may exist?
    pub referenced: bool,
}

/// What the host had called when the program was stopped; it decides what happens when the outermost frame returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Invocation {
    /// The module's start function; the main export comes next.
    Start,
    /// An exported function, by name.
    Export(String),
}

/// One activation of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Function index.
    pub func: u32,
    /// Byte offset in the module's binary of the instruction the frame stands at. For an `entry` point: of the
    /// function's body. For a `host` point (an imported function's frame): 0.
    pub offset: u32,
    /// The kind of point.
    pub kind: PointKind,
    /// Live locals and operand-stack values, by slot, ascending. A slot that is absent is dead: no path reads it.
    pub values: Vec<(Slot, Value)>,
}

/// A linear memory, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryState {
    /// Current size in 64 KiB pages.
    pub pages: u64,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// Its elements: function indices (or host references), or null.
    pub elements: Vec<Option<u32>>,
}
