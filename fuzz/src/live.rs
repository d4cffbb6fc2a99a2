//! Locals that are alive throughout a function: wasm-smith keeps few values alive across migration points, and a value
//! that is not needed is not missed. Each function gets some locals of its own, which change now and then, and whose
//! values go into a global: one of them now and then, and all where the function is left. (Random code leaves its
//! functions in many ways and places.)

use crate::rewrite::{Locals, bodies, with_bodies, with_global};
use crate::rng::Rng;
use crate::variants::Functions;
use wasm_encoder::{Encode, Instruction, ValType};
use wasmparser::{BinaryReaderError, Operator};

/// An added local.
#[derive(Clone, Copy)]
struct Kept {
    index: u32,
    ty: ValType,
}

/// The module with such locals: of type v128, too, if `vectors`. It must define a global already.
pub fn with_live_locals(wasm: &[u8], vectors: bool, rng: &mut Rng) -> Result<Vec<u8>, BinaryReaderError> {
    let functions = Functions::of(wasm)?;
    let (wasm, sum) = with_global(wasm)?;
    let mut types = vec![ValType::I32, ValType::I64, ValType::F64];
    types.extend(vectors.then_some(ValType::V128));
    let mut rewritten = Vec::new();
    for (body, (_, params)) in bodies(&wasm)?.into_iter().zip(functions.own()) {
        let mut locals = Locals::new(params.len() as u32, body.locals)?;
        let kept: Vec<Kept> = (0..rng.pick(&[1, 3, 8, 20]))
            .map(|_| {
                let ty = rng.pick(&types);
                Kept {
                    index: locals.add(ty),
                    ty,
                }
            })
            .collect();
        let mut out = locals.declarations();
        for local in &kept {
            begin(*local, sum, rng).iter().for_each(|i| i.encode(&mut out));
        }
        let last = body.ops.len() - 1;
        for (at, (op, bytes)) in body.ops.into_iter().enumerate() {
            let added: Vec<Kept> = match op {
                _ if at == last => kept.clone(),
                Operator::Return
                | Operator::ReturnCall { .. }
                | Operator::ReturnCallIndirect { .. }
                | Operator::Br { .. }
                | Operator::BrTable { .. }
                | Operator::Throw { .. }
                | Operator::Unreachable
                    if rng.one_in(2) =>
                {
                    kept.clone()
                }
                _ if rng.one_in(12) => vec![rng.pick(&kept)],
                _ => vec![],
            };
            for local in added {
                add_up(local, sum).iter().for_each(|i| i.encode(&mut out));
            }
            out.extend_from_slice(bytes);
            let enters = matches!(
                op,
                Operator::Loop { .. } | Operator::Call { .. } | Operator::CallIndirect { .. }
            );
            if at != last && (enters && rng.one_in(2) || rng.one_in(24)) {
                change(rng.pick(&kept)).iter().for_each(|i| i.encode(&mut out));
            }
        }
        rewritten.push(out);
    }
    with_bodies(&wasm, &rewritten)
}

/// Gives a local a value that no optimiser knows.
fn begin(local: Kept, sum: u32, rng: &mut Rng) -> Vec<Instruction<'static>> {
    use Instruction::*;
    let mut code = vec![GlobalGet(sum), I64Const(rng.number() as i64), I64Add];
    match local.ty {
        ValType::I32 => code.push(I32WrapI64),
        ValType::F64 => code.push(F64ConvertI64S),
        ValType::V128 => code.push(I64x2Splat),
        _ => {}
    }
    code.push(LocalSet(local.index));
    code
}

/// Changes a local.
fn change(local: Kept) -> Vec<Instruction<'static>> {
    use Instruction::*;
    let (get, set) = (LocalGet(local.index), LocalSet(local.index));
    match local.ty {
        ValType::I32 => vec![get, I32Const(0x101), I32Add, set],
        ValType::F64 => vec![get, F64Const(1.0e15.into()), F64Add, set],
        ValType::V128 => vec![get.clone(), get, I32x4Add, set],
        _ => vec![get, I64Const(3), I64Mul, set],
    }
}

/// Adds a local to the global.
fn add_up(local: Kept, sum: u32) -> Vec<Instruction<'static>> {
    use Instruction::*;
    let mut code = vec![GlobalGet(sum), I64Const(31), I64Mul, LocalGet(local.index)];
    match local.ty {
        ValType::I32 => code.push(I64ExtendI32U),
        ValType::F64 => code.push(I64ReinterpretF64),
        ValType::V128 => code.extend([I64x2ExtractLane(0), LocalGet(local.index), I64x2ExtractLane(1), I64Xor]),
        _ => {}
    }
    code.extend([I64Add, GlobalSet(sum)]);
    code
}
