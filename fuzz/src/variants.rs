//! Variants of a module that must behave as the module itself: what wasm-smith doesn't generate, made of what it does.

use crate::rewrite::{Locals, bodies, with_bodies};
use crate::rng::Rng;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, Encode, HeapType, Instruction, RefType, ValType};
use wasmparser::{BinaryReaderError, Catch, CompositeInnerType, Operator, Parser, Payload, TypeRef};

/// A module's functions.
#[derive(Debug, Default)]
pub struct Functions {
    /// Names of the imported ones, which come first.
    pub imported: Vec<String>,
    /// Of all: type index and parameters.
    all: Vec<(u32, Vec<wasmparser::ValType>)>,
}

impl Functions {
    /// Those of a module that imports nothing else.
    pub fn of(wasm: &[u8]) -> Result<Functions, BinaryReaderError> {
        let (mut params, mut functions) = (Vec::new(), Functions::default());
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        for ty in group?.into_types() {
                            params.push(match ty.composite_type.inner {
                                CompositeInnerType::Func(f) => f.params().to_vec(),
                                _ => Vec::new(),
                            });
                        }
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(ty) = import.ty {
                            functions.imported.push(import.name.to_owned());
                            functions.all.push((ty, params[ty as usize].clone()));
                        }
                    }
                }
                Payload::FunctionSection(types) => {
                    for ty in types {
                        let ty = ty?;
                        functions.all.push((ty, params[ty as usize].clone()));
                    }
                }
                _ => {}
            }
        }
        Ok(functions)
    }

    /// Type index and parameters of those that aren't imported.
    pub fn own(&self) -> impl Iterator<Item = &(u32, Vec<wasmparser::ValType>)> {
        self.all.iter().skip(self.imported.len())
    }

    /// A function's type index.
    fn ty(&self, func: u32) -> u32 {
        self.all[func as usize].0
    }
}

/// Locals of typed references, added to a function as they are asked for.
struct Typed {
    locals: Locals,
    /// Type index and local.
    known: Vec<(u32, u32)>,
}

impl Typed {
    fn local(&mut self, ty: u32) -> u32 {
        if let Some(&(_, local)) = self.known.iter().find(|(t, _)| *t == ty) {
            return local;
        }
        let reference = RefType {
            nullable: true,
            heap_type: HeapType::Concrete(ty),
        };
        let local = self.locals.add(ValType::Ref(reference));
        self.known.push((ty, local));
        local
    }
}

/// Some direct calls become calls through a typed reference, which may pass through a local; and some references to
/// functions are made in roundabout ways. Every function must be exported, which declares it for `ref.func`.
pub fn with_typed_references(wasm: &[u8], rng: &mut Rng) -> Result<Vec<u8>, BinaryReaderError> {
    let functions = Functions::of(wasm)?;
    let mut rewritten = Vec::new();
    for (body, (_, params)) in bodies(wasm)?.into_iter().zip(functions.own()) {
        let mut locals = Typed {
            locals: Locals::new(params.len() as u32, body.locals)?,
            known: Vec::new(),
        };
        let mut out = Vec::new();
        for (op, bytes) in body.ops {
            let ty = |f: u32| functions.ty(f);
            match op {
                _ if rng.one_in(2) => out.extend_from_slice(bytes),
                Operator::Call { function_index: f } => {
                    reference(f, ty(f), &mut locals, rng, &mut out);
                    Instruction::CallRef(ty(f)).encode(&mut out);
                }
                Operator::ReturnCall { function_index: f } => {
                    reference(f, ty(f), &mut locals, rng, &mut out);
                    Instruction::ReturnCallRef(ty(f)).encode(&mut out);
                }
                Operator::RefFunc { .. }
                | Operator::RefNull {
                    hty: wasmparser::HeapType::FUNC,
                } => {
                    roundabout(bytes, rng, &mut out);
                }
                _ => out.extend_from_slice(bytes),
            }
        }
        let mut body = locals.locals.declarations();
        body.extend_from_slice(&out);
        rewritten.push(body);
    }
    with_bodies(wasm, &rewritten)
}

/// A reference to function `f` for a call.
fn reference(f: u32, ty: u32, locals: &mut Typed, rng: &mut Rng, out: &mut Vec<u8>) {
    Instruction::RefFunc(f).encode(out);
    match rng.below(4) {
        0 => Instruction::RefAsNonNull.encode(out),
        1 => {
            let local = locals.local(ty);
            Instruction::LocalSet(local).encode(out);
            Instruction::LocalGet(local).encode(out);
        }
        _ => {}
    }
}

/// What `bytes` pushes, a reference to a function or null, by way of branches on null.
fn roundabout(bytes: &[u8], rng: &mut Rng, out: &mut Vec<u8>) {
    let funcref = BlockType::Result(ValType::FUNCREF);
    if rng.one_in(2) {
        Instruction::Block(funcref).encode(out);
        out.extend_from_slice(bytes);
        Instruction::BrOnNonNull(0).encode(out);
    } else {
        Instruction::Block(funcref).encode(out);
        Instruction::Block(BlockType::Empty).encode(out);
        out.extend_from_slice(bytes);
        Instruction::BrOnNull(0).encode(out);
        Instruction::Br(1).encode(out);
        Instruction::End.encode(out);
    }
    // It was null.
    Instruction::RefNull(HeapType::FUNC).encode(out);
    Instruction::End.encode(out);
}

/// Without the clauses that take references to exceptions, which legacy exceptions can't express; and without what
/// follows a `catch_all`, which never matches.
pub fn without_exception_references(wasm: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut rewritten = Vec::new();
    for body in bodies(wasm)? {
        let mut out = body.locals.to_vec();
        for (op, bytes) in body.ops {
            let Operator::TryTable { try_table } = op else {
                out.extend_from_slice(bytes);
                continue;
            };
            let mut catches = Vec::new();
            for catch in try_table.catches {
                match catch {
                    Catch::One { tag, label } => catches.push(wasm_encoder::Catch::One { tag, label }),
                    Catch::All { label } => {
                        catches.push(wasm_encoder::Catch::All { label });
                        break;
                    }
                    Catch::OneRef { .. } | Catch::AllRef { .. } => {}
                }
            }
            Instruction::TryTable(block_type(try_table.ty), catches.into()).encode(&mut out);
        }
        rewritten.push(out);
    }
    with_bodies(wasm, &rewritten)
}

fn block_type(ty: wasmparser::BlockType) -> BlockType {
    RoundtripReencoder
        .block_type(ty)
        .expect("a block type is encodable as it was")
}

/// `try_table` becomes `try`, and each clause a handler that branches to where the clause does; some handlers throw
/// again and catch that. The module must be one of [`without_exception_references`].
pub fn with_legacy_exceptions(wasm: &[u8], rng: &mut Rng) -> Result<Vec<u8>, BinaryReaderError> {
    let mut rewritten = Vec::new();
    for body in bodies(wasm)? {
        let mut out = body.locals.to_vec();
        // Per open block: the clauses, if it is a `try`.
        let mut open: Vec<Option<Vec<Catch>>> = vec![None];
        for (op, bytes) in body.ops {
            match op {
                Operator::TryTable { try_table } => {
                    open.push(Some(try_table.catches));
                    Instruction::Try(block_type(try_table.ty)).encode(&mut out);
                    continue;
                }
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => open.push(None),
                Operator::End => {
                    for catch in open.pop().flatten().unwrap_or_default() {
                        handler(catch, rng, &mut out);
                    }
                }
                _ => {}
            }
            out.extend_from_slice(bytes);
        }
        rewritten.push(out);
    }
    with_bodies(wasm, &rewritten)
}

fn handler(catch: Catch, rng: &mut Rng, out: &mut Vec<u8>) {
    let (clause, label) = match catch {
        Catch::One { tag, label } | Catch::OneRef { tag, label } => (Instruction::Catch(tag), label),
        Catch::All { label } | Catch::AllRef { label } => (Instruction::CatchAll, label),
    };
    clause.encode(out);
    match rng.below(3) {
        // In the handler the `try` is label 0.
        0 => Instruction::Br(label + 1).encode(out),
        1 => {
            for i in [
                Instruction::Try(BlockType::Empty),
                Instruction::Rethrow(1),
                clause,
                Instruction::Br(label + 2),
                Instruction::End,
                Instruction::Unreachable,
            ] {
                i.encode(out);
            }
        }
        _ => {
            for i in [
                Instruction::Try(BlockType::Empty),
                Instruction::Try(BlockType::Empty),
                Instruction::Rethrow(2),
                Instruction::Delegate(0),
                clause,
                Instruction::Br(label + 2),
                Instruction::End,
                Instruction::Unreachable,
            ] {
                i.encode(out);
            }
        }
    }
}
