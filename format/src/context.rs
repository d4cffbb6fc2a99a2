//! The context: the one structure in memory that generated code may touch.
//!
//! Generated code gets one pointer, equal to the base address of linear memory 0. Everything else lies *below* it, at
//! negative offsets known at compile time:
//!
//! ```text
//!   base - size()            slots: 16 bytes each, arguments and results of host calls and of entry from the host
//!        ...                 globals: 16 bytes each
//!        ...                 memories from 1 on: {base: u64, size in bytes: u64} each
//!        ...                 tables: {base: u64, len: u64} each
//!   base - HEADER_SIZE       ContextHeader
//!   base                     linear memory 0
//! ```
//!
//! The layout is a function of the module alone, hence equal on every architecture. Nothing in it is part of the
//! uniform state as bytes: globals and tables are saved as WebAssembly values and written anew on resume.

use crate::module::ModuleInfo;
use std::mem::{offset_of, size_of};

/// The fixed part of the context. Its last byte is the byte before linear memory 0.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct ContextHeader {
    /// The runtime's own pointer (to its instance); generated code doesn't read it.
    pub runtime: u64,
    /// Stack pointer of the host stack while WebAssembly code runs.
    pub host_sp: u64,
    /// Frame pointer of the leave thunk's frame on the WebAssembly stack while the host runs.
    pub wasm_fp: u64,
    /// Address of the leave thunk: `extern "C" fn(ctx, call_id: u32)`. Calling it switches to the host stack and runs
    /// the host call named by `call_id` (see [`crate::hostcalls`]); arguments and results are in the slots.
    pub leave: u64,
    /// Address of a `memmove`: `extern "C" fn(dst, src, len) -> dst`. Runs on the WebAssembly stack; not a migration
    /// point.
    pub memmove: u64,
    /// Address of a `memset`: `extern "C" fn(dst, byte: i32, len) -> dst`. As `memmove`.
    pub memset: u64,
    /// Address of the function table: a [`TableEntry`] per function, and before the first the null entry, so that a
    /// function reference, sign-extended, is an index. 0 if the module needs none
    /// ([`crate::module::Needs::function_table`]).
    pub functions: u64,
    /// Keeps the header's size a multiple of 16.
    pub reserved64: u64,
    /// Current size of linear memory 0 in bytes.
    pub memory_size: u64,
    /// Non-zero: the next poll must call the runtime.
    pub poll: u32,
    /// Keeps the header's size a multiple of 16.
    pub reserved: u32,
}

/// Size of [`ContextHeader`] in bytes.
pub const HEADER_SIZE: u32 = size_of::<ContextHeader>() as u32;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident = $field:ident;)*) => {
        $($(#[$doc])* pub const $name: i32 = offset_of!(ContextHeader, $field) as i32 - HEADER_SIZE as i32;)*
    };
}

offsets! {
    /// Offset of [`ContextHeader::runtime`] from the context pointer, in bytes (negative).
    OFF_RUNTIME = runtime;
    /// Offset of [`ContextHeader::host_sp`].
    OFF_HOST_SP = host_sp;
    /// Offset of [`ContextHeader::wasm_fp`].
    OFF_WASM_FP = wasm_fp;
    /// Offset of [`ContextHeader::leave`].
    OFF_LEAVE = leave;
    /// Offset of [`ContextHeader::memmove`].
    OFF_MEMMOVE = memmove;
    /// Offset of [`ContextHeader::memset`].
    OFF_MEMSET = memset;
    /// Offset of [`ContextHeader::functions`].
    OFF_FUNCTIONS = functions;
    /// Offset of [`ContextHeader::memory_size`].
    OFF_MEMORY_SIZE = memory_size;
    /// Offset of [`ContextHeader::poll`].
    OFF_POLL = poll;
}

/// Size of a slot and of a global, in bytes: room for any value.
pub const SLOT_SIZE: u32 = 16;

/// One element of a table, as generated code reads it for `call_indirect`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Address of the function's code; 0 for null.
    pub code: u64,
    /// The function's canonical type index (see [`ModuleInfo::canonical_type`]); [`crate::types::NULL_REF`] for null.
    pub sig: u32,
    /// The function's index; [`crate::types::NULL_REF`] for null.
    pub func: u32,
}

/// log2 of the size of [`TableEntry`].
pub const TABLE_ENTRY_SHIFT: u32 = 4;

/// Where the variable parts of a module's context lie. All offsets are in bytes from the context pointer, and negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextLayout {
    tables: i32,
    memories: i32,
    globals: i32,
    slots: i32,
    num_slots: u32,
}

impl ContextLayout {
    /// The layout for a module.
    pub fn new(module: &ModuleInfo) -> ContextLayout {
        let tables = -(HEADER_SIZE as i32) - 16 * module.tables.len() as i32;
        let memories = tables - 16 * module.memories.len().saturating_sub(1) as i32;
        let globals = memories - (SLOT_SIZE as usize * module.globals.len()) as i32;
        let num_slots = module.num_slots();
        let slots = globals - (SLOT_SIZE * num_slots) as i32;
        ContextLayout {
            tables,
            memories,
            globals,
            slots,
            num_slots,
        }
    }

    /// Bytes of context below the base of linear memory 0; a multiple of 16.
    pub fn size(&self) -> usize {
        -self.slots as usize
    }

    /// How many slots there are.
    pub fn num_slots(&self) -> u32 {
        self.num_slots
    }

    /// Offset of a table's base address (`u64`).
    pub fn table_base(&self, table: u32) -> i32 {
        self.tables + 16 * table as i32
    }

    /// Offset of a table's length in elements (`u64`).
    pub fn table_len(&self, table: u32) -> i32 {
        self.tables + 16 * table as i32 + 8
    }

    /// Offset of the base address (`u64`) of a memory other than memory 0, whose base is the context pointer.
    pub fn memory_base(&self, memory: u32) -> i32 {
        assert!(memory > 0, "memory 0 begins at the context pointer");
        self.memories + 16 * (memory as i32 - 1)
    }

    /// Offset of a memory's size in bytes (`u64`).
    pub fn memory_size(&self, memory: u32) -> i32 {
        if memory == 0 {
            OFF_MEMORY_SIZE
        } else {
            self.memory_base(memory) + 8
        }
    }

    /// Offset of a global's value.
    pub fn global(&self, global: u32) -> i32 {
        self.globals + (SLOT_SIZE * global) as i32
    }

    /// Offset of a slot.
    pub fn slot(&self, slot: u32) -> i32 {
        self.slots + (SLOT_SIZE * slot) as i32
    }
}
