//! Memories of more than a few pages: wasm-smith rarely grows one, and seldom hits any but its first pages. Functions
//! get code that does.

use crate::rewrite::{Locals, bodies, with_bodies};
use crate::rng::Rng;
use crate::variants::Functions;
use wasm_encoder::{BlockType, Encode, Instruction, MemArg, ValType};
use wasmparser::{BinaryReaderError, Operator, Parser, Payload};

/// How large memories may become, in bytes.
pub const LARGEST: u64 = 4 << 20;

/// The module with functions that now and then grow a memory, or write to some page of it.
pub fn with_busy_memories(wasm: &[u8], rng: &mut Rng) -> Result<Vec<u8>, BinaryReaderError> {
    // Of each memory whether it has 64-bit addresses.
    let mut memories = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::MemorySection(section) = payload? {
            for memory in section {
                memories.push(memory?.memory64);
            }
        }
    }
    if memories.is_empty() {
        return Ok(wasm.to_vec());
    }
    let mut rewritten = Vec::new();
    for (body, (_, params)) in bodies(wasm)?.into_iter().zip(Functions::of(wasm)?.own()) {
        let mut locals = Locals::new(params.len() as u32, body.locals)?;
        let (narrow, wide) = (locals.add(ValType::I32), locals.add(ValType::I64));
        let mut out = locals.declarations();
        for (at, (op, bytes)) in body.ops.into_iter().enumerate() {
            if at == 0 && rng.one_in(2) || rng.one_in(40) {
                let memory = rng.below(memories.len());
                let local = if memories[memory] { wide } else { narrow };
                let code = busy(memory as u32, memories[memory], local, rng);
                code.iter().for_each(|i| i.encode(&mut out));
            }
            out.extend_from_slice(bytes);
            if matches!(op, Operator::Loop { .. }) && rng.one_in(3) {
                let code = busy(0, memories[0], if memories[0] { wide } else { narrow }, rng);
                code.iter().for_each(|i| i.encode(&mut out));
            }
        }
        rewritten.push(out);
    }
    with_bodies(wasm, &rewritten)
}

/// Grows a memory and writes to what is new, or writes to one of its pages.
fn busy(memory: u32, is_64: bool, local: u32, rng: &mut Rng) -> Vec<Instruction<'static>> {
    use Instruction::*;
    let number = |n: i64| if is_64 { I64Const(n) } else { I32Const(n as i32) };
    let pick = |narrow: Instruction<'static>, wide: Instruction<'static>| if is_64 { wide } else { narrow };
    let mut code = Vec::new();
    if rng.one_in(2) {
        let old = [number(rng.pick(&[1, 1, 2, 7])), MemoryGrow(memory), LocalTee(local)];
        code.extend(old);
        code.extend([number(-1), pick(I32Ne, I64Ne), If(BlockType::Empty), LocalGet(local)]);
    } else {
        // A page at some fraction of the size.
        let fraction = number(rng.below(256) as i64);
        code.extend([
            MemorySize(memory),
            LocalTee(local),
            number(0),
            pick(I32Ne, I64Ne),
            If(BlockType::Empty),
        ]);
        code.extend([
            LocalGet(local),
            fraction,
            pick(I32Mul, I64Mul),
            number(8),
            pick(I32ShrU, I64ShrU),
        ]);
    }
    let at = MemArg {
        offset: rng.below(0x1_0000 - 8) as u64,
        align: 0,
        memory_index: memory,
    };
    code.extend([
        number(16),
        pick(I32Shl, I64Shl),
        I64Const(rng.number() as i64),
        I64Store(at),
        End,
    ]);
    code
}
