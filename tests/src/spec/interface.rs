//! What modules import and export, and whether one's exports fit another's imports (Core 3.3, matching).

use dunlin_format::types as dunlin;
use std::collections::HashMap;
use wasmparser::{
    AbstractHeapType, CompositeInnerType, ExternalKind, FuncType, GlobalType, HeapType, MemoryType, Parser, Payload,
    RefType, TableType, TypeRef, UnpackedIndex, ValType,
};

/// A module's imports, exports, and the types of everything in it. Index spaces are WebAssembly's: imports first.
#[derive(Debug, Default)]
pub struct Interface {
    /// Function types; `None` for types of other kinds.
    pub types: Vec<Option<FuncType>>,
    /// Imports.
    pub imports: Vec<Import>,
    /// Type index of every function.
    pub funcs: Vec<u32>,
    /// Every table.
    pub tables: Vec<TableType>,
    /// Every memory.
    pub memories: Vec<MemoryType>,
    /// Every global.
    pub globals: Vec<GlobalType>,
    /// Type index of every tag.
    pub tags: Vec<u32>,
    /// Exports by name.
    pub exports: HashMap<String, (ExternalKind, u32)>,
}

/// An import.
#[derive(Debug)]
pub struct Import {
    /// Module name.
    pub module: String,
    /// Field name.
    pub name: String,
    /// Type.
    pub ty: TypeRef,
}

/// Why an import can't be satisfied, in the suite's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Nothing of this name is exported.
    Unknown,
    /// What is exported has another type.
    Incompatible,
}

impl Misfit {
    /// The suite's message.
    pub fn message(self) -> &'static str {
        match self {
            Misfit::Unknown => "unknown import",
            Misfit::Incompatible => "incompatible import type",
        }
    }
}

impl Interface {
    /// That of a binary; of one that can't be decoded, as far as it can.
    pub fn of(wasm: &[u8]) -> Interface {
        let mut out = Interface::default();
        // An error is the compiler's to tell.
        let _ = out.read(wasm);
        out
    }

    fn read(&mut self, wasm: &[u8]) -> wasmparser::Result<()> {
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        self.types
                            .extend(group?.into_types().map(|ty| match ty.composite_type.inner {
                                CompositeInnerType::Func(ty) => Some(ty),
                                _ => None,
                            }));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        match import.ty {
                            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.funcs.push(ty),
                            TypeRef::Table(ty) => self.tables.push(ty),
                            TypeRef::Memory(ty) => self.memories.push(ty),
                            TypeRef::Global(ty) => self.globals.push(ty),
                            TypeRef::Tag(ty) => self.tags.push(ty.func_type_idx),
                        }
                        self.imports.push(Import {
                            module: import.module.to_owned(),
                            name: import.name.to_owned(),
                            ty: import.ty,
                        });
                    }
                }
                Payload::FunctionSection(section) => {
                    self.funcs.extend(section.into_iter().collect::<Result<Vec<_>, _>>()?)
                }
                Payload::TableSection(section) => {
                    for table in section {
                        self.tables.push(table?.ty);
                    }
                }
                Payload::MemorySection(section) => self
                    .memories
                    .extend(section.into_iter().collect::<Result<Vec<_>, _>>()?),
                Payload::TagSection(section) => {
                    for tag in section {
                        self.tags.push(tag?.func_type_idx);
                    }
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        self.globals.push(global?.ty);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        self.exports.insert(export.name.to_owned(), (export.kind, export.index));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Does it export something under this name that fits an import of `user`'s? With `grown`, sizes are not compared:
    /// whoever links must compare them when the program runs.
    pub fn satisfies(
        &self,
        name: &str,
        user: &Interface,
        wanted: TypeRef,
        grown: bool,
    ) -> Result<(ExternalKind, u32), Misfit> {
        let &(kind, index) = self.exports.get(name).ok_or(Misfit::Unknown)?;
        let at = index as usize;
        let fits = match (kind, wanted) {
            (ExternalKind::Func, TypeRef::Func(ty)) => self.same_func(self.funcs[at], user, ty),
            (ExternalKind::Tag, TypeRef::Tag(ty)) => self.same_func(self.tags[at], user, ty.func_type_idx),
            (ExternalKind::Global, TypeRef::Global(ty)) => {
                let own = self.globals[at];
                let (is, wants) = (own.content_type, ty.content_type);
                own.mutable == ty.mutable
                    && self.subtype(is, user, wants)
                    && (!ty.mutable || user.subtype(wants, self, is))
            }
            (ExternalKind::Table, TypeRef::Table(ty)) => {
                let own = &self.tables[at];
                let (is, wants) = (ValType::Ref(own.element_type), ValType::Ref(ty.element_type));
                self.subtype(is, user, wants)
                    && user.subtype(wants, self, is)
                    && own.table64 == ty.table64
                    && (grown || own.initial >= ty.initial)
                    && within(own.maximum, ty.maximum)
            }
            (ExternalKind::Memory, TypeRef::Memory(ty)) => {
                let own = &self.memories[at];
                own.memory64 == ty.memory64
                    && own.shared == ty.shared
                    && own.page_size_log2 == ty.page_size_log2
                    && (grown || own.initial >= ty.initial)
                    && within(own.maximum, ty.maximum)
            }
            _ => false,
        };
        if fits {
            Ok((kind, index))
        } else {
            Err(Misfit::Incompatible)
        }
    }

    /// Does a function that the host offers fit an import?
    pub fn takes(&self, wanted: TypeRef, offered: &dunlin::FuncType) -> Result<(), Misfit> {
        let TypeRef::Func(ty) = wanted else {
            return Err(Misfit::Incompatible);
        };
        let simple = |types: &[ValType]| types.iter().map(ValType::to_string).collect::<Vec<_>>();
        let shown = |types: &[dunlin::ValType]| types.iter().map(dunlin::ValType::to_string).collect::<Vec<_>>();
        match self.types.get(ty as usize) {
            Some(Some(ty))
                if simple(ty.params()) == shown(&offered.params) && simple(ty.results()) == shown(&offered.results) =>
            {
                Ok(())
            }
            _ => Err(Misfit::Incompatible),
        }
    }

    fn same_func(&self, ty: u32, other: &Interface, other_ty: u32) -> bool {
        self.func(ty, &mut Vec::new()) == other.func(other_ty, &mut Vec::new())
    }

    /// A function type spelled out, equal for equal types of different modules. `open` are the types being spelled.
    fn func(&self, index: u32, open: &mut Vec<u32>) -> String {
        if let Some(depth) = open.iter().rev().position(|&i| i == index) {
            return format!("rec{depth}");
        }
        let Some(Some(ty)) = self.types.get(index as usize) else {
            return "?".into();
        };
        open.push(index);
        let list = |types: &[ValType], open: &mut Vec<u32>| {
            types.iter().map(|&t| self.value(t, open)).collect::<Vec<_>>().join(" ")
        };
        let text = format!("({} -> {})", list(ty.params(), open), list(ty.results(), open));
        open.pop();
        text
    }

    fn value(&self, ty: ValType, open: &mut Vec<u32>) -> String {
        match ty {
            ValType::Ref(r) => format!("(ref {} {})", r.is_nullable(), self.heap(r.heap_type(), open)),
            simple => simple.to_string(),
        }
    }

    fn heap(&self, ty: HeapType, open: &mut Vec<u32>) -> String {
        match ty {
            HeapType::Concrete(UnpackedIndex::Module(index)) => self.func(index, open),
            other => format!("{other:?}"),
        }
    }

    fn subtype(&self, a: ValType, other: &Interface, b: ValType) -> bool {
        let (ValType::Ref(x), ValType::Ref(y)) = (a, b) else {
            return a == b;
        };
        (y.is_nullable() || !x.is_nullable()) && self.heap_subtype(x, other, y)
    }

    fn heap_subtype(&self, a: RefType, other: &Interface, b: RefType) -> bool {
        use AbstractHeapType::{Exn, Extern, Func, NoExn, NoExtern, NoFunc};
        let bottom_of = |ty: HeapType, tops: &[AbstractHeapType]| matches!(ty, HeapType::Abstract { shared: false, ty } if tops.contains(&ty));
        let (x, y) = (a.heap_type(), b.heap_type());
        let concrete = |ty: HeapType| matches!(ty, HeapType::Concrete(_));
        self.heap(x, &mut Vec::new()) == other.heap(y, &mut Vec::new())
            || concrete(x) && bottom_of(y, &[Func])
            || bottom_of(x, &[NoFunc]) && (concrete(y) || bottom_of(y, &[Func]))
            || bottom_of(x, &[NoExtern]) && bottom_of(y, &[Extern])
            || bottom_of(x, &[NoExn]) && bottom_of(y, &[Exn])
    }
}

/// Is a greatest size within one that is wanted?
fn within(own: Option<u64>, wanted: Option<u64>) -> bool {
    wanted.is_none_or(|most| own.is_some_and(|own| own <= most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(exporter: &str, importer: &str) -> Result<(), Misfit> {
        let binary = |text: &str| {
            wast::parser::ParseBuffer::new(text)
                .and_then(|buffer| wast::parser::parse::<wast::Wat<'_>>(&buffer)?.encode())
                .expect("the text is right")
        };
        let (exporter, importer) = (Interface::of(&binary(exporter)), Interface::of(&binary(importer)));
        let import = &importer.imports[0];
        exporter
            .satisfies(&import.name, &importer, import.ty, false)
            .map(|_| ())
    }

    #[test]
    fn types_are_compared_by_their_structure() {
        let exporter = r#"(module (type $a (func)) (type $f (func (param (ref null $a))))
            (func (export "f") (type $f)) (global (export "g") (ref $a) (ref.func 1)) (func (type $a)))"#;
        let import = |what: &str| {
            format!(
                r#"(module (type (func (result i32))) (type $v (func)) (type $w (func (param i32))) (import "m" {what}))"#
            )
        };
        assert_eq!(fits(exporter, &import(r#""f" (func (param (ref null $v)))"#)), Ok(()));
        assert_eq!(
            fits(exporter, &import(r#""f" (func (param (ref null $w)))"#)),
            Err(Misfit::Incompatible)
        );
        assert_eq!(
            fits(exporter, &import(r#""f" (global i32)"#)),
            Err(Misfit::Incompatible)
        );
        assert_eq!(fits(exporter, &import(r#""h" (global i32)"#)), Err(Misfit::Unknown));
        for (ty, fit) in [
            ("(ref $v)", true),
            ("funcref", true),
            ("(ref func)", true),
            ("(ref $w)", false),
            ("(mut (ref $v))", false),
        ] {
            assert_eq!(
                fits(exporter, &import(&format!(r#""g" (global {ty})"#))).is_ok(),
                fit,
                "{ty}"
            );
        }
    }

    #[test]
    fn limits_must_lie_within() {
        let exporter = r#"(module (table (export "t") 2 4 funcref) (memory (export "m") 1))"#;
        for (what, fit) in [
            (r#""t" (table 2 4 funcref)"#, true),
            (r#""t" (table 1 funcref)"#, true),
            (r#""t" (table 3 funcref)"#, false),
            (r#""t" (table 2 3 funcref)"#, false),
            (r#""t" (table 2 externref)"#, false),
            (r#""t" (table i64 2 funcref)"#, false),
            (r#""m" (memory 1)"#, true),
            (r#""m" (memory 1 1)"#, false),
        ] {
            assert_eq!(
                fits(exporter, &format!(r#"(module (import "m" {what}))"#)).is_ok(),
                fit,
                "{what}"
            );
        }
    }
}
