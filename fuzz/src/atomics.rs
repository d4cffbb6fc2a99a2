//! Atomic instructions that do something: those that wasm-smith makes nearly always trap, because their addresses are
//! random numbers. So most get an address that is aligned and in the first page, and none of the memories is shared.

use crate::rewrite::{Locals, bodies, with_bodies, with_memories};
use crate::rng::Rng;
use crate::variants::Functions;
use wasm_encoder::{Encode, Instruction, ValType};
use wasmparser::{BinaryReader, BinaryReaderError, Parser, Payload};

/// The byte before an atomic instruction's own.
const PREFIX: u8 = 0xfe;

/// Addresses that are left: multiples of 8 in the first page, which leave room for small offsets.
const ADDRESSES: i32 = 0x7ff8;

/// Offsets that are left.
const OFFSETS: u64 = 0x7ff8;

/// An atomic instruction that has an address.
struct Access {
    code: u8,
    align: u32,
    memory: u32,
    offset: u64,
}

impl Access {
    /// That of an instruction's bytes, if it is one.
    fn of(bytes: &[u8]) -> Result<Option<Access>, BinaryReaderError> {
        // 3 is the fence.
        let (code, arguments) = match bytes {
            [PREFIX, 3, ..] => return Ok(None),
            [PREFIX, code, arguments @ ..] => (*code, arguments),
            _ => return Ok(None),
        };
        let mut reader = BinaryReader::new(arguments, 0);
        let flags = reader.read_var_u32()?;
        let memory = if flags & 0x40 == 0 { 0 } else { reader.read_var_u32()? };
        Ok(Some(Access {
            code,
            align: flags & !0x40,
            memory,
            offset: reader.read_var_u64()?,
        }))
    }

    /// Types of the operands behind the address.
    fn operands(&self) -> &'static [ValType] {
        use ValType::{I32, I64};
        // From here on there are seven of each kind, for i32, i64, and narrower ones of either.
        const LOADS: u8 = 0x10;
        const STORES: u8 = 0x17;
        const COMPARE_EXCHANGES: u8 = 0x48;
        let is_64 = |code: u8| matches!((code - LOADS) % 7, 1 | 4..);
        match self.code {
            0 => &[I32],
            1 => &[I32, I64],
            2 => &[I64, I64],
            code if code < STORES => &[],
            code if code < COMPARE_EXCHANGES => [&[I32][..], &[I64]][usize::from(is_64(code))],
            code => [&[I32, I32][..], &[I64, I64]][usize::from(is_64(code))],
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend([PREFIX, self.code]);
        (self.align | if self.memory == 0 { 0 } else { 0x40 }).encode(out);
        if self.memory != 0 {
            self.memory.encode(out);
        }
        self.offset.encode(out);
    }
}

/// The module with such atomics. Waiting, which always traps, becomes rare.
pub fn with_tame_atomics(wasm: &[u8], rng: &mut Rng) -> Result<Vec<u8>, BinaryReaderError> {
    let wasm = with_memories(wasm, |memory| memory.shared = false)?;
    let mut wide = Vec::new();
    for payload in Parser::new(0).parse_all(&wasm) {
        if let Payload::MemorySection(section) = payload? {
            for memory in section {
                wide.push(memory?.memory64);
            }
        }
    }
    let mut rewritten = Vec::new();
    for (body, (_, params)) in bodies(&wasm)?.into_iter().zip(Functions::of(&wasm)?.own()) {
        let mut locals = Locals::new(params.len() as u32, body.locals)?;
        let spare = [ValType::I32, ValType::I32, ValType::I64, ValType::I64].map(|ty| locals.add(ty));
        let mut out = locals.declarations();
        for (_, bytes) in body.ops {
            match Access::of(bytes)? {
                Some(access) if !rng.one_in(24) => tame(access, spare, &wide, rng, &mut out),
                _ => out.extend_from_slice(bytes),
            }
        }
        rewritten.push(out);
    }
    with_bodies(&wasm, &rewritten)
}

/// The instruction behind code that makes its address a good one.
fn tame(mut access: Access, spare: [u32; 4], wide: &[bool], rng: &mut Rng, out: &mut Vec<u8>) {
    if matches!(access.code, 1 | 2) && !rng.one_in(8) {
        // A notify, with the value that was expected as the number of whom to wake.
        Instruction::Drop.encode(out);
        if access.code == 2 {
            Instruction::I32WrapI64.encode(out);
        }
        (access.code, access.align) = (0, 2);
    }
    let mut taken = [0, 0];
    let operands: Vec<u32> = access
        .operands()
        .iter()
        .map(|ty| {
            let kind = usize::from(*ty == ValType::I64);
            taken[kind] += 1;
            spare[2 * kind + taken[kind] - 1]
        })
        .collect();
    let mut put = |instruction: Instruction<'_>| instruction.encode(out);
    operands
        .iter()
        .rev()
        .for_each(|&local| put(Instruction::LocalSet(local)));
    if wide.get(access.memory as usize) == Some(&true) {
        put(Instruction::I64Const(ADDRESSES.into()));
        put(Instruction::I64And);
    } else {
        put(Instruction::I32Const(ADDRESSES));
        put(Instruction::I32And);
    }
    operands.iter().for_each(|&local| put(Instruction::LocalGet(local)));
    access.offset &= OFFSETS;
    access.encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_encoder::{CodeSection, Function, FunctionSection, MemorySection, MemoryType, Module, TypeSection};
    use wasmparser::{Operator, Validator, WasmFeatures};

    /// A module with two memories, of which the first is shared, and this instruction on one of them.
    fn module(code: u8, memory: u32) -> Vec<u8> {
        let width = match code {
            0 | 1 => 4,
            2 => 8,
            _ => [4, 8, 1, 2, 1, 2, 4][usize::from((code - 0x10) % 7)],
        };
        let access = Access {
            code,
            align: u32::ilog2(width),
            memory,
            offset: 0x1_2345,
        };
        let (mut types, mut functions) = (TypeSection::new(), FunctionSection::new());
        types.ty().function([], []);
        functions.function(0);
        let mut memories = MemorySection::new();
        for (memory64, shared) in [(false, true), (true, false)] {
            memories.memory(MemoryType {
                minimum: 1,
                maximum: Some(2),
                memory64,
                shared,
                page_size_log2: None,
            });
        }
        let mut function = Function::new([]);
        let address = if memory == 0 { ValType::I32 } else { ValType::I64 };
        for ty in [&[address], access.operands()].concat() {
            function.instruction(&match ty {
                ValType::I32 => Instruction::I32Const(-1),
                _ => Instruction::I64Const(-1),
            });
        }
        let mut bytes = Vec::new();
        access.encode(&mut bytes);
        function.raw(bytes);
        if !(0x17..0x1e).contains(&code) {
            function.instruction(&Instruction::Drop);
        }
        function.instruction(&Instruction::End);
        let mut bodies = CodeSection::new();
        bodies.function(&function);
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&memories);
        module.section(&bodies);
        module.finish()
    }

    #[test]
    fn every_instruction_stays_valid_and_is_tamed() {
        let mut rng = Rng::new(1);
        let valid = |wasm: &[u8]| {
            Validator::new_with_features(WasmFeatures::default())
                .validate_all(wasm)
                .map(drop)
        };
        let mut masked = 0;
        let codes = (0..3).chain(0x10..0x4f);
        for (code, memory) in codes.flat_map(|code| [(code, 0), (code, 1)]) {
            let wasm = module(code, memory);
            valid(&wasm).unwrap();
            let tamed = with_tame_atomics(&wasm, &mut rng).unwrap();
            valid(&tamed).unwrap();
            for body in bodies(&tamed).unwrap() {
                let and = |(op, _): &(Operator<'_>, &[u8])| matches!(op, Operator::I32And | Operator::I64And);
                masked += usize::from(body.ops.iter().any(and));
            }
            for payload in Parser::new(0).parse_all(&tamed) {
                if let Payload::MemorySection(section) = payload.unwrap() {
                    for memory in section {
                        assert!(!memory.unwrap().shared);
                    }
                }
            }
        }
        assert!((110..132).contains(&masked), "{masked} of 132");
    }
}
