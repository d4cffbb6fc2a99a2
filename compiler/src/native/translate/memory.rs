//! Linear memory instructions.
//!
//! Loads and stores of a 32-bit memory need no bounds check: the address is the memory's base (for memory 0 the context
//! pointer) plus a 32-bit index plus a 32-bit offset, and all 8 GiB of that range are reserved; what lies outside the
//! memory's size faults. Accesses of 64-bit memories compare their end with the memory's size.
//!
//! For the interpreter they are all compared ([`Bounds::Checked`]): the address is 0 if the access is out of bounds,
//! which the load or store itself notices. Where the shape allows, all of it becomes one instruction.

use super::{Bounds, SigKey, Translator, trap_code};
use crate::native::signatures::memory_signature;
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, TrapCode, Type, Value, condcodes::IntCC, types::*};
use dunlin_format::context::{OFF_MEMMOVE, OFF_MEMSET};
use dunlin_format::hostcalls::{self, Trap};
use wasmparser::{MemArg, Operator};

/// How a load widens.
#[derive(Clone, Copy)]
pub(super) enum Widen {
    Signed,
    Unsigned,
}
use Widen::{Signed, Unsigned};

/// Translates a memory instruction; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
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
        MemorySize { mem } => {
            let bytes = t.load_context(I64, t.env.layout.memory_size(mem));
            let shift = t.b.ins().iconst(I32, 16);
            let pages = t.b.ins().ushr(bytes, shift);
            let pages = t.address_value(mem, pages);
            t.push(pages);
        }
        MemoryGrow { mem } => {
            let delta = t.pop();
            t.runtime_call(hostcalls::MEMORY_GROW, &[mem], &[delta]);
            let old = t.load_context(I64, t.env.layout.slot(0));
            let old = t.address_value(mem, old);
            t.push(old);
        }
        MemoryInit { data_index, mem } => {
            let args = t.pop_n(3);
            t.runtime_call(hostcalls::MEMORY_INIT, &[mem, data_index], &args);
        }
        DataDrop { data_index } => t.runtime_call(hostcalls::DATA_DROP, &[data_index], &[]),
        MemoryCopy { dst_mem, src_mem } => {
            let args = t.pop_n(3);
            let len = t.widen(args[2]);
            let (dst, src) = (t.range(dst_mem, args[0], len), t.range(src_mem, args[1], len));
            let callee = t.load_context(I64, OFF_MEMMOVE);
            let sig = t.sig(SigKey::Memmove, || memory_signature(I64));
            t.b.ins().call_indirect(sig, callee, &[dst, src, len]);
        }
        MemoryFill { mem } => {
            let args = t.pop_n(3);
            let len = t.widen(args[2]);
            let dst = t.range(mem, args[0], len);
            let callee = t.load_context(I64, OFF_MEMSET);
            let sig = t.sig(SigKey::Memset, || memory_signature(I32));
            t.b.ins().call_indirect(sig, callee, &[dst, args[1], len]);
        }
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// Flags of accesses to linear memory: they trap if they fault.
    pub(super) fn memory_flags(&self) -> MemFlagsData {
        let trap = match self.env.bounds {
            Bounds::Guard => trap_code(Trap::MemoryOutOfBounds),
            // The one that the interpreter's code generator takes for a sign of such an access.
            Bounds::Checked => TrapCode::HEAP_OUT_OF_BOUNDS,
        };
        MemFlagsData::new()
            .with_endianness(Endianness::Little)
            .with_trap_code(Some(trap))
            .with_alias_region(Some(self.regions.memory))
    }

    /// Base address of a memory.
    fn memory_base(&mut self, memory: u32) -> Value {
        match memory {
            0 => self.ctx(),
            n => self.load_context(I64, self.env.layout.memory_base(n)),
        }
    }

    /// Native address and displacement of an access to `bytes` bytes.
    pub(super) fn address(&mut self, arg: MemArg, index: Value, bytes: u32) -> (Value, i32) {
        if self.env.module.info.memories[arg.memory as usize].memory64 {
            self.check_access(arg, index, bytes);
        } else if self.env.bounds == Bounds::Checked {
            return (self.checked_address(arg, index, bytes), 0);
        }
        let base = self.memory_base(arg.memory);
        let index = self.widen(index);
        let address = self.b.ins().iadd(base, index);
        match i32::try_from(arg.offset) {
            Ok(displacement) => (address, displacement),
            Err(_) => {
                let offset = self.b.ins().iconst(I64, arg.offset as i64);
                (self.b.ins().iadd(address, offset), 0)
            }
        }
    }

    /// Native address of an access to a 32-bit memory, or 0 if that doesn't lie within it.
    fn checked_address(&mut self, arg: MemArg, index: Value, bytes: u32) -> Value {
        let base = self.memory_base(arg.memory);
        let ctx = self.ctx();
        let flags = MemFlagsData::trusted()
            .with_endianness(Endianness::Little)
            .with_alias_region(Some(self.regions.sizes));
        let size = self
            .b
            .ins()
            .load(I64, flags, ctx, self.env.layout.memory_size(arg.memory));
        let index = self.widen(index);
        let reach = arg.offset + u64::from(bytes);
        let least = self.env.module.info.memories[arg.memory as usize].min << 16;
        let reach_value = self.b.ins().iconst(I64, reach as i64);
        let outside = if reach <= least {
            // The shape that becomes one instruction: the difference can't be negative.
            let last = self.b.ins().isub(size, reach_value);
            self.b.ins().icmp(IntCC::UnsignedGreaterThan, index, last)
        } else {
            let end = self.b.ins().iadd(index, reach_value);
            self.b.ins().icmp(IntCC::UnsignedGreaterThan, end, size)
        };
        let mut address = self.b.ins().iadd(base, index);
        if arg.offset > 0 {
            let offset = self.b.ins().iconst(I64, arg.offset as i64);
            address = self.b.ins().iadd(address, offset);
        }
        let nowhere = self.b.ins().iconst(I64, 0);
        self.b.ins().select(outside, nowhere, address)
    }

    /// Traps unless an access to `bytes` bytes at a 64-bit index lies within its memory.
    pub(super) fn check_access(&mut self, arg: MemArg, index: Value, bytes: u32) {
        let outside = trap_code(Trap::MemoryOutOfBounds);
        // An offset so large that no index can be in bounds still has to trap at run time.
        let reach = arg.offset.saturating_add(u64::from(bytes));
        let reach = self.b.ins().iconst(I64, reach as i64);
        let end = self.b.ins().uadd_overflow_trap(index, reach, outside);
        let size = self.load_context(I64, self.env.layout.memory_size(arg.memory));
        let beyond = self.b.ins().icmp(IntCC::UnsignedGreaterThan, end, size);
        self.b.ins().trapnz(beyond, outside);
    }

    /// A 64-bit number as the memory's address type.
    fn address_value(&mut self, memory: u32, value: Value) -> Value {
        if self.env.module.info.memories[memory as usize].memory64 {
            value
        } else {
            self.b.ins().ireduce(I32, value)
        }
    }

    /// Loads a value of a type.
    fn load(&mut self, arg: MemArg, ty: Type) {
        let index = self.pop();
        let (address, displacement) = self.address(arg, index, ty.bytes());
        let flags = self.memory_flags();
        let v = self.b.ins().load(ty, flags, address, displacement);
        self.push(v);
    }

    /// Loads an integer narrower than its type.
    fn load_part(&mut self, arg: MemArg, part: Type, ty: Type, widen: Widen) {
        let index = self.pop();
        let at = self.address(arg, index, part.bytes());
        let v = self.load_widened(at, part, ty, widen);
        self.push(v);
    }

    /// Loads an integer narrower than its type from a native address and displacement.
    pub(super) fn load_widened(&mut self, (a, d): (Value, i32), part: Type, ty: Type, widen: Widen) -> Value {
        let flags = self.memory_flags();
        let ins = self.b.ins();
        match (part, widen) {
            (I8, Signed) => ins.sload8(ty, flags, a, d),
            (I8, Unsigned) => ins.uload8(ty, flags, a, d),
            (I16, Signed) => ins.sload16(ty, flags, a, d),
            (I16, Unsigned) => ins.uload16(ty, flags, a, d),
            (_, Signed) => ins.sload32(flags, a, d),
            (_, Unsigned) => ins.uload32(flags, a, d),
        }
    }

    /// Stores a value.
    fn store(&mut self, arg: MemArg) {
        let (index, v) = self.pop2();
        let bytes = self.b.func.dfg.value_type(v).bytes();
        let (address, displacement) = self.address(arg, index, bytes);
        let flags = self.memory_flags();
        self.b.ins().store(flags, v, address, displacement);
    }

    /// Stores the low part of an integer.
    fn store_part(&mut self, arg: MemArg, part: Type) {
        let (index, v) = self.pop2();
        let at = self.address(arg, index, part.bytes());
        self.store_narrowed(at, part, v);
    }

    /// Stores the low part of an integer at a native address and displacement.
    pub(super) fn store_narrowed(&mut self, (a, d): (Value, i32), part: Type, v: Value) {
        let flags = self.memory_flags();
        let ins = self.b.ins();
        match part {
            I8 => ins.istore8(flags, v, a, d),
            I16 => ins.istore16(flags, v, a, d),
            _ => ins.istore32(flags, v, a, d),
        };
    }

    /// Native address of the range [start, start + len), checked against the memory's size. `len` is 64 bits wide.
    fn range(&mut self, memory: u32, start: Value, len: Value) -> Value {
        let start = self.widen(start);
        let end = self
            .b
            .ins()
            .uadd_overflow_trap(start, len, trap_code(Trap::MemoryOutOfBounds));
        let size = self.load_context(I64, self.env.layout.memory_size(memory));
        let outside = self.b.ins().icmp(IntCC::UnsignedGreaterThan, end, size);
        self.b.ins().trapnz(outside, trap_code(Trap::MemoryOutOfBounds));
        let base = self.memory_base(memory);
        self.b.ins().iadd(base, start)
    }
}
