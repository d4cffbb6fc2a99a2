//! What the runtime must know of a WebAssembly module. Serialised (postcard) into the image by the compiler.

use crate::hostcalls;
use crate::types::{FuncType, ValType};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Identity of a module: SHA-256 of its binary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModuleHash(pub [u8; 32]);

impl ModuleHash {
    /// The hash of a module's binary.
    pub fn of(wasm: &[u8]) -> ModuleHash {
        use sha2::Digest;
        ModuleHash(sha2::Sha256::digest(wasm).into())
    }
}

impl std::fmt::Display for ModuleHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::fmt::Debug for ModuleHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModuleHash({self})")
    }
}

/// A module without its code. Index spaces are WebAssembly's: imports first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// The name the program was built under: its `argv[0]`, equal on every architecture.
    pub name: String,
    /// The type section.
    pub types: Vec<FuncType>,
    /// Imported functions.
    pub imports: Vec<Import>,
    /// Type index of every function, imported ones included.
    pub funcs: Vec<u32>,
    /// All globals (none are imported).
    pub globals: Vec<Global>,
    /// All memories (none are imported): at most one for now.
    pub memories: Vec<Memory>,
    /// All tables (none are imported).
    pub tables: Vec<Table>,
    /// Exports.
    pub exports: Vec<Export>,
    /// The start function.
    pub start: Option<u32>,
    /// Element segments.
    pub elements: Vec<Element>,
    /// Data segments; their bytes are ranges of the image's data section.
    pub data: Vec<Data>,
}

/// An imported function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Module name.
    pub module: String,
    /// Field name.
    pub name: String,
}

/// A global.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    /// Value type.
    pub ty: ValType,
    /// May `global.set` change it?
    pub mutable: bool,
    /// Initial value.
    pub init: ConstExpr,
}

/// A constant expression (Core 3.3.10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConstExpr {
    /// A constant, with its type.
    Value(crate::types::Value),
    /// The value of an earlier global.
    GlobalGet(u32),
    /// A function reference.
    RefFunc(u32),
}

/// A linear memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Initial size in 64 KiB pages.
    pub min: u64,
    /// Greatest size in 64 KiB pages.
    pub max: Option<u64>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Element type.
    pub ty: ValType,
    /// Initial size in elements.
    pub min: u64,
    /// Greatest size in elements.
    pub max: Option<u64>,
}

/// An export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Name.
    pub name: String,
    /// What is exported.
    pub kind: ExportKind,
    /// Its index.
    pub index: u32,
}

/// What an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportKind {
    /// A function.
    Func,
    /// A table.
    Table,
    /// A memory.
    Memory,
    /// A global.
    Global,
}

/// When a segment is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentMode {
    /// On instantiation, into the table or memory of this index at this offset.
    Active(u32, ConstExpr),
    /// By `memory.init` or `table.init`.
    Passive,
    /// Only declares functions for `ref.func`.
    Declared,
}

/// An element segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// When it is applied.
    pub mode: SegmentMode,
    /// Element type.
    pub ty: ValType,
    /// Its elements.
    pub items: Vec<ConstExpr>,
}

/// A data segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// When it is applied.
    pub mode: SegmentMode,
    /// Its bytes: a range of the image's data section.
    pub bytes: Range<u64>,
}

impl ModuleInfo {
    /// The type of a function. Panics on an index that validation would have refused.
    pub fn func_type(&self, func: u32) -> &FuncType {
        &self.types[self.funcs[func as usize] as usize]
    }

    /// The first type index with an equal type: what `call_indirect` compares.
    pub fn canonical_type(&self, ty: u32) -> u32 {
        let t = &self.types[ty as usize];
        self.types.iter().position(|u| u == t).unwrap_or(ty as usize) as u32
    }

    /// Slots of the context: enough for the runtime's own calls and for every function type's parameters and results.
    pub fn num_slots(&self) -> u32 {
        let most = self
            .types
            .iter()
            .map(|t| t.params.len().max(t.results.len()))
            .max()
            .unwrap_or(0);
        (most as u32).max(hostcalls::MAX_SLOTS)
    }

    /// The function exported under a name.
    pub fn exported_func(&self, name: &str) -> Option<u32> {
        self.exports
            .iter()
            .find(|e| e.kind == ExportKind::Func && e.name == name)
            .map(|e| e.index)
    }
}
