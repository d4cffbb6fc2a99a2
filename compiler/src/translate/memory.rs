//! Linear memory instructions.
//!
//! Loads and stores of a 32-bit memory need no bounds check: the address is the context pointer (the memory's base) plus a 32-bit
//! index plus a 32-bit offset, and all 8 GiB of that range are reserved; what lies outside the memory's size faults.

use super::{SigKey, Translator, trap_code};
use crate::abi;
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value, condcodes::IntCC, types::*};
use dunlin_migrate::context::{OFF_MEMMOVE, OFF_MEMORY_SIZE, OFF_MEMSET};
use dunlin_migrate::hostcalls::{self, Trap};
use wasmparser::{MemArg, Operator};

/// How a load widens.
#[derive(Clone, Copy)]
enum Widen {
    Signed,
    Unsigned,
}
use Widen::{Signed, Unsigned};

/// Translates a memory instruction; `false` if it is none.
pub fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        I32Load { memarg } => t.load(memarg, I32),
        I64Load { memarg } => t.load(memarg, I64),
        F32Load { memarg } => t.load(memarg, F32),
        F64Load { memarg } => t.load(memarg, F64),
        I32Load8S { memarg } => t.load_part(memarg, I8, I32, Signed),
        I32Load8U { memarg } => t.load_part(memarg, I8, I32, Unsigned),
        I32Load16S { memarg } => t.load_part(memarg, I16, I32, Signed),
        I32Load16U { memarg } => t.load_part(memarg, I16, I32, Unsigned),
        I64Load8S { memarg } => t.load_part(memarg, I8, I64, Signed),
        I64Load8U { memarg } => t.load_part(memarg, I8, I64, Unsigned),
        I64Load16S { memarg } => t.load_part(memarg, I16, I64, Signed),
        I64Load16U { memarg } => t.load_part(memarg, I16, I64, Unsigned),
        I64Load32S { memarg } => t.load_part(memarg, I32, I64, Signed),
        I64Load32U { memarg } => t.load_part(memarg, I32, I64, Unsigned),
        I32Store { memarg } | I64Store { memarg } | F32Store { memarg } | F64Store { memarg } => t.store(memarg),
        I32Store8 { memarg } | I64Store8 { memarg } => t.store_part(memarg, I8),
        I32Store16 { memarg } | I64Store16 { memarg } => t.store_part(memarg, I16),
        I64Store32 { memarg } => t.store_part(memarg, I32),
        MemorySize { .. } => {
            let bytes = t.load_context(I64, OFF_MEMORY_SIZE);
            let shift = t.b.ins().iconst(I32, 16);
            let pages = t.b.ins().ushr(bytes, shift);
            let pages = t.b.ins().ireduce(I32, pages);
            t.push(pages);
        }
        MemoryGrow { mem } => {
            let delta = t.pop();
            t.runtime_call(hostcalls::MEMORY_GROW, &[mem], &[delta]);
            let old = t.load_context(I32, t.env.layout.slot(0));
            t.push(old);
        }
        MemoryInit { data_index, mem } => {
            let args = t.pop_n(3);
            t.runtime_call(hostcalls::MEMORY_INIT, &[mem, data_index], &args);
        }
        DataDrop { data_index } => t.runtime_call(hostcalls::DATA_DROP, &[data_index], &[]),
        MemoryCopy { .. } => {
            let args = t.pop_n(3);
            let (dst, src, len) = (
                t.range(args[0], args[2]),
                t.range(args[1], args[2]),
                t.b.ins().uextend(I64, args[2]),
            );
            let callee = t.load_context(I64, OFF_MEMMOVE);
            let sig = t.sig(SigKey::Memmove, || abi::memory_signature(I64));
            t.b.ins().call_indirect(sig, callee, &[dst, src, len]);
        }
        MemoryFill { .. } => {
            let args = t.pop_n(3);
            let (dst, len) = (t.range(args[0], args[2]), t.b.ins().uextend(I64, args[2]));
            let callee = t.load_context(I64, OFF_MEMSET);
            let sig = t.sig(SigKey::Memset, || abi::memory_signature(I32));
            t.b.ins().call_indirect(sig, callee, &[dst, args[1], len]);
        }
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    pub(super) fn memory_flags(&self) -> MemFlagsData {
        MemFlagsData::new()
            .with_endianness(Endianness::Little)
            .with_trap_code(Some(trap_code(Trap::MemoryOutOfBounds)))
            .with_alias_region(Some(self.regions.memory))
    }

    /// Native address and displacement of an access to `bytes` bytes.
    pub(super) fn address(&mut self, arg: MemArg, index: Value, _bytes: u32) -> (Value, i32) {
        let base = self.ctx();
        let index = self.b.ins().uextend(I64, index);
        let address = self.b.ins().iadd(base, index);
        match i32::try_from(arg.offset) {
            Ok(displacement) => (address, displacement),
            Err(_) => {
                let offset = self.b.ins().iconst(I64, arg.offset as i64);
                (self.b.ins().iadd(address, offset), 0)
            }
        }
    }

    fn load(&mut self, arg: MemArg, ty: Type) {
        let index = self.pop();
        let (address, displacement) = self.address(arg, index, ty.bytes());
        let flags = self.memory_flags();
        let v = self.b.ins().load(ty, flags, address, displacement);
        self.push(v);
    }

    fn load_part(&mut self, arg: MemArg, part: Type, ty: Type, widen: Widen) {
        let index = self.pop();
        let (a, d) = self.address(arg, index, part.bytes());
        let flags = self.memory_flags();
        let ins = self.b.ins();
        let v = match (part, widen) {
            (I8, Signed) => ins.sload8(ty, flags, a, d),
            (I8, Unsigned) => ins.uload8(ty, flags, a, d),
            (I16, Signed) => ins.sload16(ty, flags, a, d),
            (I16, Unsigned) => ins.uload16(ty, flags, a, d),
            (_, Signed) => ins.sload32(flags, a, d),
            (_, Unsigned) => ins.uload32(flags, a, d),
        };
        self.push(v);
    }

    fn store(&mut self, arg: MemArg) {
        let (index, v) = self.pop2();
        let bytes = self.b.func.dfg.value_type(v).bytes();
        let (address, displacement) = self.address(arg, index, bytes);
        let flags = self.memory_flags();
        self.b.ins().store(flags, v, address, displacement);
    }

    fn store_part(&mut self, arg: MemArg, part: Type) {
        let (index, v) = self.pop2();
        let (a, d) = self.address(arg, index, part.bytes());
        let flags = self.memory_flags();
        let ins = self.b.ins();
        match part {
            I8 => ins.istore8(flags, v, a, d),
            I16 => ins.istore16(flags, v, a, d),
            _ => ins.istore32(flags, v, a, d),
        };
    }

    /// Native address of the range [start, start + len), checked against the memory's size.
    fn range(&mut self, start: Value, len: Value) -> Value {
        let start = self.b.ins().uextend(I64, start);
        let len = self.b.ins().uextend(I64, len);
        let end = self.b.ins().iadd(start, len);
        let size = self.load_context(I64, OFF_MEMORY_SIZE);
        let outside = self.b.ins().icmp(IntCC::UnsignedGreaterThan, end, size);
        self.b.ins().trapnz(outside, trap_code(Trap::MemoryOutOfBounds));
        let base = self.ctx();
        self.b.ins().iadd(base, start)
    }
}
