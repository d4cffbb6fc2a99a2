//! What the runtime must know of a WebAssembly module. Serialised (postcard) into the image by the compiler.

pub use crate::const_expr::{ConstExpr, ConstOp};
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
    /// The type section's function types, as values are laid out: every reference to a function is a funcref here.
    pub types: Vec<FuncType>,
    /// Per type index, the first index of an equal type (Core 3.3.2, type equivalence): what `call_indirect` compares.
    pub canonical: Vec<u32>,
    /// Imported functions.
    pub imports: Vec<Import>,
    /// Type index of every function, imported ones included.
    pub funcs: Vec<u32>,
    /// All globals (none are imported).
    pub globals: Vec<Global>,
    /// All memories (none are imported).
    pub memories: Vec<Memory>,
    /// All tables (none are imported).
    pub tables: Vec<Table>,
    /// Type indices of all tags (none are imported): what exceptions carry.
    pub tags: Vec<u32>,
    /// Exports.
    pub exports: Vec<Export>,
    /// The start function.
    pub start: Option<u32>,
    /// Element segments.
    pub elements: Vec<Element>,
    /// Data segments; their bytes are ranges of the image's data section.
    pub data: Vec<Data>,
    /// What its code needs beyond calls and its own segments.
    pub needs: Needs,
}

/// What the code of a module makes the runtime provide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// It turns function references into code addresses: the context's function table must exist.
    pub function_table: bool,
    /// It has tail calls: a frame's callee may be another function than the one that was called.
    pub tail_calls: bool,
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

/// A linear memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Initial size in 64 KiB pages.
    pub min: u64,
    /// Greatest size in 64 KiB pages.
    pub max: Option<u64>,
    /// Is it addressed with 64 bits?
    pub memory64: bool,
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
    /// Is it indexed with 64 bits?
    pub table64: bool,
    /// Initial value of its elements.
    pub init: ConstExpr,
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
    /// A tag.
    Tag,
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
        self.canonical.get(ty as usize).copied().unwrap_or(ty)
    }

    /// Does a function return values of the same types as functions of type `ty`? What a tail call preserves.
    pub fn returns_like(&self, func: u32, ty: u32) -> bool {
        let of = |ty: u32| self.types.get(ty as usize).map(|t| &t.results);
        self.funcs
            .get(func as usize)
            .is_some_and(|&own| of(own).is_some() && of(own) == of(ty))
    }

    /// Slots of the context: enough for the runtime's own calls and for every function type's parameters and results.
    pub fn num_slots(&self) -> u32 {
        let most = self
            .types
            .iter()
            .map(|t| t.params.len().max(t.results.len()))
            .max()
            .unwrap_or(0);
        let payload = self.tags.iter().filter_map(|&ty| self.types.get(ty as usize));
        let payload = payload.map(|ty| ty.params.len() as u32 + hostcalls::PAYLOAD_SLOT).max();
        (most as u32).max(payload.unwrap_or(0)).max(hostcalls::MAX_SLOTS)
    }

    /// The function exported under a name.
    pub fn exported_func(&self, name: &str) -> Option<u32> {
        self.exports
            .iter()
            .find(|e| e.kind == ExportKind::Func && e.name == name)
            .map(|e| e.index)
    }
}
