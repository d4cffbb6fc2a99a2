//! The program as it never changes: module, code and maps, shared by every instance in a process.

pub(crate) mod embedded;
pub(crate) mod host;

use crate::program::embedded::{Embedded, EmbeddedError};
use crate::program::host::{HostFunc, ImportError};
use dunlin_format::context::{ContextLayout, TableEntry};
use dunlin_format::image::{Image, ImageError};
use dunlin_format::module::{Export, ExportKind, ModuleInfo};
use dunlin_format::types::{NULL_REF, Value};
use dunlin_migrate::frames::{FrameError, FrameMaps, TraceFrame};
use dunlin_migrate::printable;

/// The program of this executable.
#[derive(Debug)]
pub(crate) struct Program {
    /// The image's metadata, and where its code lies.
    pub embedded: Embedded,
    /// The module.
    pub module: ModuleInfo,
    /// Where things lie in its context.
    pub layout: ContextLayout,
    /// Frame maps, decoded on demand.
    pub maps: FrameMaps<'static>,
    /// Imported functions, in order.
    pub imports: Vec<HostFunc>,
    /// The memory that WASI reads and writes: the one exported as `memory`.
    pub wasi_memory: u32,
    /// The function table, the null entry first, if the module needs one.
    functions: Vec<TableEntry>,
}

/// Why a program can't be started.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The executable has none, or is damaged.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The image is damaged.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The frame maps are damaged.
    #[error(transparent)]
    Maps(#[from] FrameError),
    /// It imports what isn't there.
    #[error(transparent)]
    Import(#[from] ImportError),
}

impl Program {
    /// Loads the program of this executable.
    pub(crate) fn load() -> Result<Program, ProgramError> {
        let embedded = embedded::load()?;
        let image = &embedded.image;
        let module = image.module()?;
        let (functions, types) = (module.funcs.len() as u32, module.types.len() as u32);
        let (points, code, shape) = (image.points()?, image.code()?, image.arch().frame_shape());
        let maps = FrameMaps::new(points, code, shape, embedded.text_start, functions, types)?;
        let imports = host::resolve(&module)?;
        let layout = ContextLayout::new(&module);
        let is_memory = |e: &&Export| e.kind == ExportKind::Memory && e.name == "memory";
        let wasi_memory = module.exports.iter().find(is_memory).map_or(0, |e| e.index);
        let mut program = Program {
            embedded,
            module,
            layout,
            maps,
            imports,
            wasi_memory,
            functions: Vec::new(),
        };
        if program.module.needs.function_table {
            let all = std::iter::once(None).chain((0..functions).map(Some));
            program.functions = all.map(|func| program.table_entry(func)).collect();
        }
        Ok(program)
    }

    /// The image's metadata.
    pub(crate) fn image(&self) -> &Image<'static> {
        &self.embedded.image
    }

    /// A function as a table holds it; `None` is null. An index out of range, which validation excludes, is null too.
    pub(crate) fn table_entry(&self, func: Option<u32>) -> TableEntry {
        let null = TableEntry {
            code: 0,
            sig: NULL_REF,
            func: NULL_REF,
        };
        let entry = |func: u32| {
            let ty = *self.module.funcs.get(func as usize)?;
            let sig = self.module.canonical_type(ty);
            Some(TableEntry {
                code: self.maps.address(func)?,
                sig,
                func,
            })
        };
        func.and_then(entry).unwrap_or(null)
    }

    /// A reference as a table holds it.
    pub(crate) fn entry(&self, value: Value) -> TableEntry {
        match value {
            Value::FuncRef(func) => self.table_entry(func),
            other => TableEntry {
                func: other.to_bits() as u32,
                ..self.table_entry(None)
            },
        }
    }

    /// Address of the function table's entry for function 0; 0 if there is none.
    pub(crate) fn function_table(&self) -> u64 {
        self.functions
            .get(1..)
            .map_or(0, |entries| entries.as_ptr().addr() as u64)
    }

    /// Code index of the trampoline through which a function is entered from the host.
    pub(crate) fn trampoline(&self, func: u32) -> Option<u32> {
        let ty = *self.module.funcs.get(func as usize)?;
        (self.module.funcs.len() as u32).checked_add(ty)
    }

    /// A line of a backtrace, without its number: the place, and the function's name.
    pub(crate) fn describe(&self, frame: &TraceFrame) -> String {
        let place = frame.offset.map_or("?".into(), |offset| format!("{offset:#x}"));
        let name = self.image().names().ok().and_then(|names| names.get(frame.func));
        match name {
            Some(name) => format!("{place} - {}", printable::line(name)),
            None => format!("{place} - <wasm function {}>", frame.func),
        }
    }
}
