//! A static linker: one module in place of several instances that import from each other.
//!
//! Index spaces are laid end to end, imports become what they stand for. Segments become passive; what instantiation
//! does with them, and the start function, become an exported function per instance, so that instances come to be one
//! after the other, and what one did before it trapped stays. So the merged module is valid exactly if the instances
//! are and their imports fit.

use super::interface::Interface;
use dunlin_format::imports::SPECTEST;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Encode, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, ImportSection, Instruction, MemorySection, Module,
    TableSection, TagSection, TypeSection,
};
use wasmparser::{DataKind, ElementItems, ElementKind, ExternalKind, Parser, Payload, TypeRef};

/// An instance to be linked.
#[derive(Debug)]
pub struct Part<'a> {
    /// Names its exports in the merged module.
    pub label: usize,
    /// Its module.
    pub wasm: &'a [u8],
    /// The same, decoded.
    pub interface: &'a Interface,
    /// For each import the earlier part that it comes from; `None`: a function of the host.
    pub providers: Vec<Option<usize>>,
}

/// What an export of a part is called in the merged module.
pub fn export_name(label: usize, name: &str) -> String {
    format!("{label}:{name}")
}

/// What the function that instantiates a part is called.
pub fn init_name(label: usize) -> String {
    format!("{label}!")
}

type Result<T> = std::result::Result<T, Error<Infallible>>;

/// Where a part's indices went.
#[derive(Debug, Default)]
struct Map {
    types: u32,
    funcs: Vec<u32>,
    tables: Vec<u32>,
    memories: Vec<u32>,
    globals: Vec<u32>,
    tags: Vec<u32>,
    data: u32,
    elements: u32,
    /// The constant expressions of all merged globals so far, encoded without their end.
    constants: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Reencode for Map {
    type Error = Infallible;

    /// What is read from an imported global becomes the global's own expression: constant expressions may read imported
    /// globals only, and none is left.
    fn const_expr(&mut self, expr: wasmparser::ConstExpr<'_>) -> Result<ConstExpr> {
        Ok(ConstExpr::raw(self.constant(expr)?))
    }

    fn type_index(&mut self, ty: u32) -> Result<u32> {
        Ok(self.types + ty)
    }
    fn function_index(&mut self, func: u32) -> Result<u32> {
        Ok(self.funcs[func as usize])
    }
    fn table_index(&mut self, table: u32) -> Result<u32> {
        Ok(self.tables[table as usize])
    }
    fn memory_index(&mut self, memory: u32) -> Result<u32> {
        Ok(self.memories[memory as usize])
    }
    fn global_index(&mut self, global: u32) -> Result<u32> {
        Ok(self.globals[global as usize])
    }
    fn tag_index(&mut self, tag: u32) -> Result<u32> {
        Ok(self.tags[tag as usize])
    }
    fn data_index(&mut self, data: u32) -> Result<u32> {
        Ok(self.data + data)
    }
    fn element_index(&mut self, element: u32) -> Result<u32> {
        Ok(self.elements + element)
    }
}

impl Map {
    fn constant(&mut self, expr: wasmparser::ConstExpr<'_>) -> Result<Vec<u8>> {
        let mut reader = expr.get_operators_reader();
        let mut bytes = Vec::new();
        while !reader.is_end_then_eof() {
            match self.parse_instruction(&mut reader)? {
                Instruction::GlobalGet(global) => bytes.extend_from_slice(&self.constants.borrow()[global as usize]),
                other => other.encode(&mut bytes),
            }
        }
        Ok(bytes)
    }

    fn space(&mut self, kind: ExternalKind) -> &mut Vec<u32> {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => &mut self.funcs,
            ExternalKind::Table => &mut self.tables,
            ExternalKind::Memory => &mut self.memories,
            ExternalKind::Global => &mut self.globals,
            ExternalKind::Tag => &mut self.tags,
        }
    }
}

/// The merged module's sections as they grow.
#[derive(Default)]
struct Sections {
    types: TypeSection,
    imports: ImportSection,
    funcs: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    tags: TagSection,
    globals: GlobalSection,
    exports: ExportSection,
    elements: ElementSection,
    code: CodeSection,
    data: DataSection,
    /// The code of each part's functions comes after that of earlier parts, and the functions that instantiate at the
    /// end.
    inits: Vec<Function>,
    /// Is [`PRINT`] called before every operator?
    dense: bool,
}

/// The host function that does nothing.
const PRINT: &str = "print";

/// Merges parts whose imports were found to fit. With `dense`, a host function that does nothing is called before every
/// operator: a migration point, at which all that the operators before it left is live.
pub fn link(parts: &[Part<'_>], dense: bool) -> Vec<u8> {
    merge(parts, dense).expect("parts are valid modules")
}

fn merge(parts: &[Part<'_>], dense: bool) -> Result<Vec<u8>> {
    let mut out = Sections {
        dense,
        ..Sections::default()
    };
    // Type 0 is that of the functions that instantiate.
    out.types.ty().function([], []);
    let mut maps = index(parts, &mut out)?;
    for (part, map) in parts.iter().zip(&mut maps) {
        add(part, map, &mut out)?;
    }
    let defined: u32 = out.funcs.len();
    let first = out.imports.len() + defined;
    for (k, (part, init)) in (0..).zip(parts.iter().zip(&out.inits)) {
        out.funcs.function(0);
        out.code.function(init);
        out.exports.export(&init_name(part.label), ExportKind::Func, first + k);
    }
    let mut module = Module::new();
    module.section(&out.types);
    module.section(&out.imports).section(&out.funcs).section(&out.tables);
    module.section(&out.memories);
    if !out.tags.is_empty() {
        module.section(&out.tags);
    }
    module
        .section(&out.globals)
        .section(&out.exports)
        .section(&out.elements);
    module.section(&DataCountSection { count: out.data.len() });
    module.section(&out.code).section(&out.data);
    Ok(module.finish())
}

/// Lays out the index spaces, and imports what the host offers.
fn index(parts: &[Part<'_>], out: &mut Sections) -> Result<Vec<Map>> {
    let mut next = Map {
        types: 1,
        ..Map::default()
    };
    // Host functions come first; equal ones are one.
    let mut host: BTreeMap<&str, u32> = BTreeMap::new();
    if out.dense {
        host.insert(PRINT, 0);
        out.imports.import(SPECTEST, PRINT, EntityType::Function(0));
    }
    let mut types = next.types;
    for part in parts {
        for (import, provider) in part.interface.imports.iter().zip(&part.providers) {
            if let (None, TypeRef::Func(ty)) = (provider, import.ty)
                && !host.contains_key(import.name.as_str())
            {
                host.insert(&import.name, host.len() as u32);
                out.imports
                    .import(SPECTEST, &import.name, EntityType::Function(types + ty));
            }
        }
        types += part.interface.types.len() as u32;
    }
    let constants = Rc::new(RefCell::new(Vec::new()));
    let mut counts = [host.len() as u32, 0, 0, 0, 0];
    let mut maps: Vec<Map> = Vec::new();
    for part in parts {
        let mut map = Map {
            types: next.types,
            data: next.data,
            elements: next.elements,
            constants: constants.clone(),
            ..Map::default()
        };
        for (import, provider) in part.interface.imports.iter().zip(&part.providers) {
            match provider {
                None => map.funcs.push(host[import.name.as_str()]),
                Some(from) => {
                    let (kind, index) = parts[*from].interface.exports[&import.name];
                    let there = maps[*from].space(kind)[index as usize];
                    map.space(kind).push(there);
                }
            }
        }
        let totals = [
            (ExternalKind::Func, part.interface.funcs.len()),
            (ExternalKind::Table, part.interface.tables.len()),
            (ExternalKind::Memory, part.interface.memories.len()),
            (ExternalKind::Global, part.interface.globals.len()),
            (ExternalKind::Tag, part.interface.tags.len()),
        ];
        for ((kind, total), count) in totals.into_iter().zip(&mut counts) {
            let space = map.space(kind);
            while space.len() < total {
                space.push(*count);
                *count += 1;
            }
        }
        next.types += part.interface.types.len() as u32;
        for payload in Parser::new(0).parse_all(part.wasm) {
            match payload? {
                Payload::ElementSection(section) => next.elements += section.count(),
                Payload::DataSection(section) => next.data += section.count(),
                _ => {}
            }
        }
        maps.push(map);
    }
    Ok(maps)
}

/// Adds a part's sections.
fn add(part: &Part<'_>, map: &mut Map, out: &mut Sections) -> Result<()> {
    let mut init = Function::new([]);
    check_sizes(part, map, &mut init);
    let mut start = None;
    for payload in Parser::new(0).parse_all(part.wasm) {
        match payload? {
            Payload::TypeSection(section) => map.parse_type_section(&mut out.types, section)?,
            Payload::FunctionSection(section) => map.parse_function_section(&mut out.funcs, section)?,
            Payload::TableSection(section) => map.parse_table_section(&mut out.tables, section)?,
            Payload::MemorySection(section) => map.parse_memory_section(&mut out.memories, section)?,
            Payload::TagSection(section) => map.parse_tag_section(&mut out.tags, section)?,
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global?;
                    let init = map.constant(global.init_expr)?;
                    out.globals
                        .global(map.global_type(global.ty)?, &ConstExpr::raw(init.iter().copied()));
                    map.constants.borrow_mut().push(init);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    let kind = map.export_kind(export.kind)?;
                    let index = map.space(export.kind)[export.index as usize];
                    out.exports.export(&export_name(part.label, export.name), kind, index);
                }
            }
            Payload::StartSection { func, .. } => start = Some(map.funcs[func as usize]),
            Payload::ElementSection(section) => elements(section, map, out, &mut init)?,
            Payload::DataSection(section) => data(section, map, out, &mut init)?,
            Payload::CodeSectionEntry(body) if out.dense => dense_body(&body, map, out)?,
            Payload::CodeSectionEntry(body) => map.parse_function_body(&mut out.code, body)?,
            _ => {}
        }
    }
    if let Some(start) = start {
        init.instruction(&Instruction::Call(start));
    }
    init.instruction(&Instruction::End);
    out.inits.push(init);
    Ok(())
}

/// A function's code, with a call of [`PRINT`], function 0, before every operator.
fn dense_body(body: &wasmparser::FunctionBody<'_>, map: &mut Map, out: &mut Sections) -> Result<()> {
    let mut function = map.new_function_with_parsed_locals(body)?;
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        function.instruction(&Instruction::Call(0));
        function.instruction(&map.parse_instruction(&mut reader)?);
    }
    out.code.function(&function);
    Ok(())
}

/// What an imported memory or table must be at least, compared when the instance comes to be: it may have grown.
fn check_sizes(part: &Part<'_>, map: &Map, init: &mut Function) {
    let (mut memories, mut tables) = (map.memories.iter(), map.tables.iter());
    for import in &part.interface.imports {
        let (size, wide, least) = match import.ty {
            TypeRef::Memory(ty) => (
                memories.next().map(|&m| Instruction::MemorySize(m)),
                ty.memory64,
                ty.initial,
            ),
            TypeRef::Table(ty) => (
                tables.next().map(|&t| Instruction::TableSize(t)),
                ty.table64,
                ty.initial,
            ),
            _ => continue,
        };
        init.instruction(&size.expect("every import has an index"));
        if wide {
            init.instruction(&Instruction::I64Const(least as i64))
                .instruction(&Instruction::I64LtU);
        } else {
            init.instruction(&Instruction::I32Const(least as i32))
                .instruction(&Instruction::I32LtU);
        }
        init.instruction(&Instruction::If(wasm_encoder::BlockType::Empty));
        init.instruction(&Instruction::Unreachable)
            .instruction(&Instruction::End);
    }
}

fn elements(
    section: wasmparser::ElementSectionReader<'_>,
    map: &mut Map,
    out: &mut Sections,
    init: &mut Function,
) -> Result<()> {
    for (index, element) in (map.elements..).zip(section) {
        let element = element?;
        let len = match &element.items {
            ElementItems::Functions(items) => items.count(),
            ElementItems::Expressions(_, items) => items.count(),
        };
        let items = map.element_items(element.items)?;
        match element.kind {
            ElementKind::Declared => drop(out.elements.declared(items)),
            ElementKind::Passive => drop(out.elements.passive(items)),
            ElementKind::Active {
                table_index,
                offset_expr,
            } => {
                out.elements.passive(items);
                constant(offset_expr, map, init)?;
                let table = map.tables[table_index.unwrap_or(0) as usize];
                apply(
                    init,
                    len,
                    &Instruction::TableInit {
                        elem_index: index,
                        table,
                    },
                );
                init.instruction(&Instruction::ElemDrop(index));
            }
        }
    }
    Ok(())
}

fn data(
    section: wasmparser::DataSectionReader<'_>,
    map: &mut Map,
    out: &mut Sections,
    init: &mut Function,
) -> Result<()> {
    for (index, segment) in (map.data..).zip(section) {
        let segment = segment?;
        out.data.passive(segment.data.iter().copied());
        if let DataKind::Active {
            memory_index,
            offset_expr,
        } = segment.kind
        {
            constant(offset_expr, map, init)?;
            let mem = map.memories[memory_index as usize];
            apply(
                init,
                segment.data.len() as u32,
                &Instruction::MemoryInit { mem, data_index: index },
            );
            init.instruction(&Instruction::DataDrop(index));
        }
    }
    Ok(())
}

/// A constant expression's operators.
fn constant(expr: wasmparser::ConstExpr<'_>, map: &mut Map, init: &mut Function) -> Result<()> {
    let mut reader = expr.get_operators_reader();
    while !reader.is_end_then_eof() {
        let instruction = map.parse_instruction(&mut reader)?;
        init.instruction(&instruction);
    }
    Ok(())
}

/// All of a segment, to the address on the stack.
fn apply(init: &mut Function, len: u32, with: &Instruction<'_>) {
    init.instruction(&Instruction::I32Const(0))
        .instruction(&Instruction::I32Const(len as i32));
    init.instruction(with);
}
