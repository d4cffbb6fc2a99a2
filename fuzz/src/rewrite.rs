//! Rewriting modules: function bodies instruction by instruction, and exports. Everything else stays byte for byte.

use std::collections::BTreeSet;
use std::ops::Range;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, ConstExpr, Encode, ExportKind, ExportSection, GlobalSection, GlobalType, MemorySection, MemoryType,
    Module, RawSection, ValType,
};
use wasmparser::{BinaryReader, BinaryReaderError, ExternalKind, Operator, Parser, Payload};

/// One function's body, taken apart.
#[derive(Debug)]
pub struct Body<'a> {
    /// The locals' declarations.
    pub locals: &'a [u8],
    /// The instructions and their bytes, the last `end` included.
    pub ops: Vec<(Operator<'a>, &'a [u8])>,
}

/// The bodies of a module's own functions.
pub fn bodies(wasm: &[u8]) -> Result<Vec<Body<'_>>, BinaryReaderError> {
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Payload::CodeSectionEntry(body) = payload? else {
            continue;
        };
        let mut reader = body.get_operators_reader()?;
        let start = reader.original_position();
        let mut ops = Vec::new();
        while !reader.eof() {
            let at = reader.original_position();
            let op = reader.read()?;
            ops.push((op, &wasm[at..reader.original_position()]));
        }
        bodies.push(Body {
            locals: &wasm[body.range().start..start],
            ops,
        });
    }
    Ok(bodies)
}

/// A function's locals, and some that are added.
#[derive(Debug)]
pub struct Locals {
    declared: u32,
    groups: Vec<u8>,
    first: u32,
    added: Vec<ValType>,
}

impl Locals {
    /// Those of a function with so many parameters and these declarations.
    pub fn new(params: u32, declarations: &[u8]) -> Result<Locals, BinaryReaderError> {
        let mut reader = BinaryReader::new(declarations, 0);
        let declared = reader.read_var_u32()?;
        let at = reader.original_position();
        let mut first = params;
        for _ in 0..declared {
            first += reader.read_var_u32()?;
            reader.read::<wasmparser::ValType>()?;
        }
        Ok(Locals {
            declared,
            groups: declarations[at..].to_vec(),
            first,
            added: Vec::new(),
        })
    }

    /// Adds one; returns its index.
    pub fn add(&mut self, ty: ValType) -> u32 {
        self.added.push(ty);
        self.first + self.added.len() as u32 - 1
    }

    /// The declarations, with what was added.
    pub fn declarations(&self) -> Vec<u8> {
        let mut out = Vec::new();
        (self.declared + self.added.len() as u32).encode(&mut out);
        out.extend_from_slice(&self.groups);
        for ty in &self.added {
            1u32.encode(&mut out);
            ty.encode(&mut out);
        }
        out
    }
}

/// The module with one more global, a mutable i64 that begins as 0; returns its index, too. The module must define a
/// global already.
pub fn with_global(wasm: &[u8]) -> Result<(Vec<u8>, u32), BinaryReaderError> {
    let (mut module, mut index) = (Module::new(), 0);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::GlobalSection(globals) => {
                index = globals.count();
                let mut section = GlobalSection::new();
                RoundtripReencoder
                    .parse_global_section(&mut section, globals)
                    .expect("globals are encodable as they were");
                let ty = GlobalType {
                    val_type: ValType::I64,
                    mutable: true,
                    shared: false,
                };
                section.global(ty, &ConstExpr::i64_const(0));
                module.section(&section);
            }
            other => copy(&mut module, wasm, other.as_section()),
        }
    }
    Ok((module.finish(), index))
}

/// The module with its memories changed.
pub fn with_memories(wasm: &[u8], change: impl Fn(&mut MemoryType)) -> Result<Vec<u8>, BinaryReaderError> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::MemorySection(memories) => {
                let mut section = MemorySection::new();
                for memory in memories {
                    let mut ty = RoundtripReencoder
                        .memory_type(memory?)
                        .expect("a memory is encodable as it was");
                    change(&mut ty);
                    section.memory(ty);
                }
                module.section(&section);
            }
            other => copy(&mut module, wasm, other.as_section()),
        }
    }
    Ok(module.finish())
}

/// The module with other function bodies (locals and instructions).
pub fn with_bodies(wasm: &[u8], bodies: &[Vec<u8>]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::CodeSectionStart { .. } => {
                let mut section = CodeSection::new();
                for body in bodies {
                    section.raw(body);
                }
                module.section(&section);
            }
            other => copy(&mut module, wasm, other.as_section()),
        }
    }
    Ok(module.finish())
}

fn copy(module: &mut Module, wasm: &[u8], section: Option<(u8, Range<usize>)>) {
    if let Some((id, range)) = section {
        module.section(&RawSection { id, data: &wasm[range] });
    }
}

/// The module with every global exported: the one of index `fuel` as `name`, others that aren't yet under names made of
/// theirs.
pub fn with_globals_exported(wasm: &[u8], name: &str, fuel: u32) -> Result<Vec<u8>, BinaryReaderError> {
    let mut module = Module::new();
    let mut globals = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ExportSection(exports) => {
                let mut section = ExportSection::new();
                let mut hidden: BTreeSet<u32> = (0..globals).collect();
                for export in exports {
                    let export = export?;
                    section.export(export.name, export.kind.into(), export.index);
                    if export.kind == ExternalKind::Global {
                        hidden.remove(&export.index);
                    }
                }
                section.export(name, ExportKind::Global, fuel);
                hidden.remove(&fuel);
                for index in hidden {
                    section.export(&format!("{name} {index}"), ExportKind::Global, index);
                }
                module.section(&section);
            }
            other => {
                if let Payload::GlobalSection(section) = &other {
                    globals = section.count();
                }
                copy(&mut module, wasm, other.as_section());
            }
        }
    }
    Ok(module.finish())
}
