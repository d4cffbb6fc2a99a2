//! Host functions: what modules may import, and calls of them at many places. A call of the host is a migration point,
//! and what it is given is compared, in order: so a value that is printed is missed if it is lost.

use crate::rewrite::{Locals, bodies, with_bodies};
use crate::rng::Rng;
use crate::variants::Functions;
use dunlin_format::imports::{PREVIEW1, SPECTEST, signature};
use dunlin_format::types::{self, Value};
use wasm_encoder::{Encode, EntityType, ImportSection, Instruction, Module, TypeSection, ValType};
use wasmparser::{BinaryReader, BinaryReaderError, Operator, Parser, ValidPayload, Validator, WasmFeatures};

/// Module and name. All but the last return nothing; that returns 0.
pub const FUNCTIONS: [(&str, &str); 8] = [
    (SPECTEST, "print"),
    (SPECTEST, "print_i32"),
    (SPECTEST, "print_i64"),
    (SPECTEST, "print_f32"),
    (SPECTEST, "print_f64"),
    (SPECTEST, "print_i32_f32"),
    (SPECTEST, "print_f64_f64"),
    (PREVIEW1, "sched_yield"),
];

/// A host function's type.
pub fn function_type(module: &str, name: &str) -> types::FuncType {
    signature(module, name).expect("the runtime has it")
}

/// A module that imports all of [`FUNCTIONS`].
pub fn importer() -> Vec<u8> {
    let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
    for (at, (module, name)) in (0..).zip(FUNCTIONS) {
        let ty = function_type(module, name);
        let simple = |list: &[types::ValType]| list.iter().map(|&ty| simple(ty)).collect::<Vec<_>>();
        types.ty().function(simple(&ty.params), simple(&ty.results));
        imports.import(module, name, EntityType::Function(at));
    }
    let mut module = Module::new();
    module.section(&types).section(&imports);
    module.finish()
}

/// A number type of ours; host functions take no others.
fn simple(ty: types::ValType) -> ValType {
    match ty {
        types::ValType::I32 => ValType::I32,
        types::ValType::I64 => ValType::I64,
        types::ValType::F32 => ValType::F32,
        types::ValType::F64 => ValType::F64,
        other => unreachable!("{other}"),
    }
}

/// The line that the runtime tells a call in.
pub fn call_line(name: &str, args: impl Iterator<Item = Value>) -> String {
    let call = format!("call {name}");
    args.fold(call, |line, arg| format!("{line} {}:{:x}", arg.ty(), arg.to_bits())) + "\n"
}

/// How many calls of the host are put into a module's functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Density {
    /// Now and then, and instead of each `drop`.
    Sparse,
    /// Before every instruction.
    Dense,
}

/// The module with calls of the functions that it imports: they print locals, what is on the operand stack, or nothing.
pub fn with_host_calls(wasm: &[u8], density: Density, rng: &mut Rng) -> Result<Vec<u8>, BinaryReaderError> {
    let functions = Functions::of(wasm)?;
    let hosts: Vec<(u32, Vec<ValType>)> = (0..)
        .zip(&functions.imported)
        .filter(|(_, name)| name.starts_with("print"))
        .map(|(index, name)| {
            let ty = function_type(SPECTEST, name);
            (index, ty.params.iter().map(|&ty| simple(ty)).collect())
        })
        .collect();
    if hosts.is_empty() {
        return Ok(wasm.to_vec());
    }
    let tops = stack_tops(wasm)?;
    let mut rewritten = Vec::new();
    for ((body, (_, params)), tops) in bodies(wasm)?.into_iter().zip(functions.own()).zip(tops) {
        let mut printer = Printer {
            hosts: &hosts,
            readable: readable(params, body.locals)?,
            locals: Locals::new(params.len() as u32, body.locals)?,
            scratch: Vec::new(),
        };
        let mut out = Vec::new();
        for ((op, bytes), top) in body.ops.into_iter().zip(tops) {
            let printed = top.filter(|&ty| printer.prints(ty));
            if let (Operator::Drop, Some(ty)) = (&op, printed) {
                printer.print_top(ty, &mut out);
                continue;
            }
            let here = density == Density::Dense || rng.one_in(10);
            match printed {
                _ if !here => {}
                Some(ty) if rng.one_in(3) => printer.print_copy(ty, &mut out),
                _ => printer.print_some(rng, &mut out),
            }
            out.extend_from_slice(bytes);
        }
        let mut body = printer.locals.declarations();
        body.extend_from_slice(&out);
        rewritten.push(body);
    }
    with_bodies(wasm, &rewritten)
}

/// Puts calls into one function.
struct Printer<'a> {
    /// Imported functions and their parameters.
    hosts: &'a [(u32, Vec<ValType>)],
    /// Number-typed locals.
    readable: Vec<(u32, ValType)>,
    locals: Locals,
    /// Locals of our own, by type.
    scratch: Vec<(ValType, u32)>,
}

impl Printer<'_> {
    fn host(&self, ty: ValType) -> Option<u32> {
        self.hosts
            .iter()
            .find(|(_, params)| *params == [ty])
            .map(|&(index, _)| index)
    }

    /// Can a value of the type be printed?
    fn prints(&self, ty: ValType) -> bool {
        self.host(number(ty)).is_some()
    }

    fn scratch(&mut self, ty: ValType) -> u32 {
        if let Some(&(_, local)) = self.scratch.iter().find(|(t, _)| *t == ty) {
            return local;
        }
        let local = self.locals.add(ty);
        self.scratch.push((ty, local));
        local
    }

    /// Takes the top of the stack and prints it.
    fn print_top(&mut self, ty: ValType, out: &mut Vec<u8>) {
        let Some(host) = self.host(number(ty)) else { return };
        if ty == ValType::V128 {
            let local = self.scratch(ty);
            Instruction::LocalTee(local).encode(out);
            Instruction::I64x2ExtractLane(0).encode(out);
            Instruction::Call(host).encode(out);
            Instruction::LocalGet(local).encode(out);
            Instruction::I64x2ExtractLane(1).encode(out);
        }
        Instruction::Call(host).encode(out);
    }

    /// Prints the top of the stack, which stays.
    fn print_copy(&mut self, ty: ValType, out: &mut Vec<u8>) {
        let local = self.scratch(ty);
        Instruction::LocalTee(local).encode(out);
        Instruction::LocalGet(local).encode(out);
        self.print_top(ty, out);
    }

    /// Calls one of the functions with locals, or constants if there are none of its types.
    fn print_some(&self, rng: &mut Rng, out: &mut Vec<u8>) {
        let (host, params) = &self.hosts[rng.below(self.hosts.len())];
        for &ty in params {
            let fitting: Vec<u32> = self
                .readable
                .iter()
                .filter(|(_, t)| *t == ty)
                .map(|&(local, _)| local)
                .collect();
            match ty {
                _ if !fitting.is_empty() => Instruction::LocalGet(rng.pick(&fitting)),
                ValType::I32 => Instruction::I32Const(rng.number() as i32),
                ValType::I64 => Instruction::I64Const(rng.number() as i64),
                ValType::F32 => Instruction::F32Const(1.5f32.into()),
                _ => Instruction::F64Const(2.5f64.into()),
            }
            .encode(out);
        }
        Instruction::Call(*host).encode(out);
    }
}

/// The locals that are no references.
fn readable(params: &[wasmparser::ValType], declarations: &[u8]) -> Result<Vec<(u32, ValType)>, BinaryReaderError> {
    let mut types = params.to_vec();
    let mut reader = BinaryReader::new(declarations, 0);
    for _ in 0..reader.read_var_u32()? {
        let count = reader.read_var_u32()?;
        let ty: wasmparser::ValType = reader.read()?;
        types.extend((0..count).map(|_| ty));
    }
    let readable = |(local, ty)| Some((local, number_type(ty)?));
    Ok((0..).zip(types).filter_map(readable).collect())
}

/// What a type is printed as: a vector as two numbers.
fn number(ty: ValType) -> ValType {
    if ty == ValType::V128 { ValType::I64 } else { ty }
}

/// For each function and instruction, the type of what is on top of the operand stack before it, if that is known and
/// no reference.
fn stack_tops(wasm: &[u8]) -> Result<Vec<Vec<Option<ValType>>>, BinaryReaderError> {
    let mut all = Vec::new();
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    for payload in Parser::new(0).parse_all(wasm) {
        let ValidPayload::Func(func, body) = validator.payload(&payload?)? else {
            continue;
        };
        let mut func = func.into_validator(Default::default());
        let mut reader = body.get_binary_reader();
        func.read_locals(&mut reader)?;
        let mut reader = body.get_operators_reader()?;
        let mut tops = Vec::new();
        while !reader.eof() {
            let (op, at) = reader.read_with_offset()?;
            // What lies below the block is not the block's.
            let bottom = func.get_control_frame(0).map_or(0, |frame| frame.height);
            let there = func.operand_stack_height() as usize > bottom;
            let top = func.get_operand_type(0).flatten().filter(|_| there);
            tops.push(top.and_then(number_type));
            func.op(at, &op)?;
        }
        all.push(tops);
    }
    Ok(all)
}

/// A type that is no reference.
fn number_type(ty: wasmparser::ValType) -> Option<ValType> {
    Some(match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::Ref(_) => return None,
    })
}
