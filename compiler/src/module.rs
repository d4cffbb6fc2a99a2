//! A WebAssembly module: decoded and validated, all but its function bodies.
//!
//! Bodies come out with their validators, so that the function compiler validates, scans and compiles them in parallel.
//! Invariant: a [`Module`] holds nothing outside [`features::SUPPORTED`], and no imports but functions.

mod const_expr;
pub(crate) mod features;
pub(crate) mod imports;
mod names;
mod segments;
pub(crate) mod types;

use crate::error::Error;
use crate::limits::MAX_MODULE_BYTES;
use dunlin_format::module::{ConstExpr, Export, ExportKind, Global, Import, Memory, ModuleHash, ModuleInfo, Table};
use dunlin_format::types::{FuncType, ValType, Value};
use std::collections::HashMap;
use wasmparser::{
    CompositeInnerType, ExternalKind, FuncToValidate, FunctionBody, Parser, Payload, TableInit, TypeRef, ValidPayload,
    Validator, ValidatorResources,
};

/// A decoded module. Borrows its binary.
#[derive(Debug)]
pub(crate) struct Module<'a> {
    /// The module's binary.
    pub wasm: &'a [u8],
    /// What the runtime must know.
    pub info: ModuleInfo,
    /// What the ranges of `info.data` refer to.
    pub data: &'a [u8],
    /// Functions' names, ascending by index: from the name section, else the first export's. Functions without are
    /// absent.
    pub names: Vec<(u32, String)>,
    /// The module's identity: a hash of the binary.
    pub hash: ModuleHash,
    /// Per function, whether a segment, global or table refers to it. (Bodies may refer to others, too, by `ref.func`.)
    pub address_taken: Vec<bool>,
    /// The defined functions, in index order.
    pub bodies: Vec<Body<'a>>,
}

/// A function body, still to be validated.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    /// Index of the function.
    pub func: u32,
    /// Locals and operators.
    pub body: FunctionBody<'a>,
    /// What validates it. Being valid is a precondition of everything done with `body`.
    pub validator: FuncToValidate<ValidatorResources>,
}

impl Clone for Body<'_> {
    fn clone(&self) -> Self {
        let v = &self.validator;
        let validator = FuncToValidate {
            resources: v.resources.clone(),
            index: v.index,
            ty: v.ty,
            features: v.features,
        };
        Body {
            func: self.func,
            body: self.body.clone(),
            validator,
        }
    }
}

impl<'a> Module<'a> {
    /// Decodes and validates a binary, except for its function bodies. `name` becomes [`ModuleInfo::name`].
    pub(crate) fn parse(wasm: &'a [u8], name: &str) -> Result<Module<'a>, Error> {
        Reader::new(wasm, name).read().map_err(|e| features::diagnose(wasm, e))
    }

    /// Number of functions, imported ones included.
    pub(crate) fn num_funcs(&self) -> u32 {
        self.info.funcs.len() as u32
    }

    /// Number of code indices: every function, then one entry trampoline per type.
    pub(crate) fn num_codes(&self) -> u32 {
        self.num_funcs() + self.info.types.len() as u32
    }

    /// A defined function's body; none for an imported function or a trampoline.
    pub(crate) fn body(&self, code_index: u32) -> Option<&Body<'a>> {
        self.bodies
            .get((code_index as usize).checked_sub(self.info.imports.len())?)
    }

    /// A function's name, if it has one.
    pub(crate) fn func_name(&self, func: u32) -> Option<&str> {
        let i = self.names.binary_search_by_key(&func, |n| n.0).ok()?;
        Some(&self.names[i].1)
    }

    /// What a code index is called in symbol tables and messages.
    pub(crate) fn symbol_name(&self, code_index: u32) -> String {
        if let Some(import) = self.info.imports.get(code_index as usize) {
            return format!("import {}.{}", import.module, import.name);
        }
        match code_index.checked_sub(self.num_funcs()) {
            Some(ty) => format!("enter type[{ty}]"),
            None => self
                .func_name(code_index)
                .map_or_else(|| format!("wasm[{code_index}]"), str::to_owned),
        }
    }
}

/// A module while its sections are decoded.
struct Reader<'a> {
    module: Module<'a>,
    validator: Validator,
    /// The name section's function names.
    names: Vec<(u32, String)>,
}

impl<'a> Reader<'a> {
    fn new(wasm: &'a [u8], name: &str) -> Reader<'a> {
        let module = Module {
            wasm,
            info: ModuleInfo {
                name: name.to_owned(),
                ..ModuleInfo::default()
            },
            data: &[],
            names: Vec::new(),
            hash: ModuleHash::of(wasm),
            address_taken: Vec::new(),
            bodies: Vec::new(),
        };
        Reader {
            module,
            validator: Validator::new_with_features(features::SUPPORTED),
            names: Vec::new(),
        }
    }

    /// Decodes and validates the whole binary but for the bodies.
    fn read(mut self) -> Result<Module<'a>, Error> {
        let size = self.module.wasm.len() as u64;
        if size > MAX_MODULE_BYTES {
            return Err(Error::TooLarge {
                what: "the module's binary".into(),
                size,
                max: MAX_MODULE_BYTES,
            });
        }
        let mut parser = Parser::new(0);
        parser.set_features(features::SUPPORTED);
        for payload in parser.parse_all(self.module.wasm) {
            let payload = payload?;
            match self.validator.payload(&payload)? {
                ValidPayload::Func(validator, body) => self.module.bodies.push(Body {
                    func: validator.index,
                    body,
                    validator,
                }),
                ValidPayload::Ok => self.payload(payload)?,
                ValidPayload::End(types) => {
                    let types = types.as_ref();
                    let count = self.module.info.types.len() as u32;
                    let mut first = HashMap::with_capacity(count as usize);
                    self.module.info.canonical = (0..count)
                        .map(|ty| *first.entry(types.core_type_at_in_module(ty)).or_insert(ty))
                        .collect();
                }
                ValidPayload::Parser(_) => {}
            }
        }
        self.finish()
    }

    /// One section. The validator has accepted it, except for the features refused here.
    fn payload(&mut self, payload: Payload<'a>) -> Result<(), Error> {
        let info = &mut self.module.info;
        match payload {
            Payload::TypeSection(section) => {
                for group in section.into_iter_with_offsets() {
                    let (offset, group) = group?;
                    for ty in group.into_types() {
                        let CompositeInnerType::Func(ty) = ty.composite_type.inner else {
                            return Err(Error::unsupported("garbage collection", offset));
                        };
                        info.types.push(func_type(&ty, offset)?);
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports_with_offsets() {
                    let (offset, import) = import?;
                    let kind = match import.ty {
                        TypeRef::Func(ty) => {
                            info.imports.push(Import {
                                module: import.module.to_owned(),
                                name: import.name.to_owned(),
                            });
                            info.funcs.push(ty);
                            continue;
                        }
                        TypeRef::FuncExact(_) => "exactly typed function",
                        TypeRef::Table(_) => "table",
                        TypeRef::Memory(memory) => {
                            features::unshared(&memory, offset)?;
                            "memory"
                        }
                        TypeRef::Global(_) => "global",
                        TypeRef::Tag(_) => "tag",
                    };
                    let feature = format!("imported {kind} (\"{}\" \"{}\")", import.module, import.name);
                    return Err(Error::unsupported(feature, offset));
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    info.funcs.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                for table in section.into_iter_with_offsets() {
                    let (offset, table) = table?;
                    let ty = features::element_type(table.ty.element_type, offset)?;
                    let init = match &table.init {
                        TableInit::RefNull => ConstExpr::Value(Value::zero(ty)),
                        TableInit::Expr(expr) => const_expr::read(expr, offset)?,
                    };
                    info.tables.push(Table {
                        ty,
                        min: table.ty.initial,
                        max: table.ty.maximum,
                        table64: table.ty.table64,
                        init,
                    });
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.into_iter_with_offsets() {
                    let (offset, memory) = memory?;
                    features::unshared(&memory, offset)?;
                    if memory.page_size_log2.is_some() {
                        return Err(Error::unsupported("custom page sizes", offset));
                    }
                    info.memories.push(Memory {
                        min: memory.initial,
                        max: memory.maximum,
                        memory64: memory.memory64,
                    });
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    info.tags.push(tag?.func_type_idx);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section.into_iter_with_offsets() {
                    let (offset, global) = global?;
                    let ty = features::value_type(global.ty.content_type, offset)?;
                    let init = const_expr::read(&global.init_expr, offset)?;
                    info.globals.push(Global {
                        ty,
                        mutable: global.ty.mutable,
                        init,
                    });
                }
            }
            Payload::ExportSection(section) => {
                for export in section.into_iter_with_offsets() {
                    let (offset, export) = export?;
                    let kind = match export.kind {
                        ExternalKind::Func => ExportKind::Func,
                        ExternalKind::Table => ExportKind::Table,
                        ExternalKind::Memory => ExportKind::Memory,
                        ExternalKind::Global => ExportKind::Global,
                        ExternalKind::Tag => ExportKind::Tag,
                        ExternalKind::FuncExact => return Err(Error::unsupported("custom descriptors", offset)),
                    };
                    info.exports.push(Export {
                        name: export.name.to_owned(),
                        kind,
                        index: export.index,
                    });
                }
            }
            Payload::StartSection { func, .. } => info.start = Some(func),
            Payload::ElementSection(section) => info.elements = segments::elements(section)?,
            Payload::DataSection(section) => {
                let range = section.range();
                self.module.data = &self.module.wasm[range.clone()];
                info.data = segments::data(section, range.start)?;
            }
            Payload::CustomSection(section) => {
                if let wasmparser::KnownCustom::Name(reader) = section.as_known() {
                    self.names = names::functions(reader);
                }
            }
            // Sections that hold nothing the compiler needs; the validator has checked them, and refuses all others.
            _ => {}
        }
        Ok(())
    }

    /// What can be told only once all sections are known.
    fn finish(self) -> Result<Module<'a>, Error> {
        let mut module = self.module;
        let info = &module.info;
        let mut taken = vec![false; info.funcs.len()];
        let exprs = info.elements.iter().flat_map(|e| &e.items);
        let exprs = exprs.chain(info.globals.iter().map(|g| &g.init));
        let exprs = exprs.chain(info.tables.iter().map(|t| &t.init));
        for func in exprs.flat_map(ConstExpr::functions) {
            taken[func as usize] = true;
        }
        module.address_taken = taken;
        module.names = names::merge(self.names, &module.info);
        Ok(module)
    }
}

/// Dunlin's form of a function type.
fn func_type(ty: &wasmparser::FuncType, offset: usize) -> Result<FuncType, Error> {
    let types = |list: &[wasmparser::ValType]| -> Result<Vec<ValType>, Error> {
        list.iter().map(|ty| features::value_type(*ty, offset)).collect()
    };
    Ok(FuncType {
        params: types(ty.params())?,
        results: types(ty.results())?,
    })
}

#[cfg(test)]
mod tests;
