//! Atomic instructions, on memories that are not shared. There is one thread, so they are plain loads, operations and
//! stores; what is left of them is that an unaligned access traps, before one out of bounds does.

use super::memory::Widen::Unsigned;
use super::{Translator, trap_code};
use cranelift_codegen::ir::{InstBuilder, Type, Value, condcodes::IntCC, types::*};
use dunlin_format::hostcalls::Trap;
use wasmparser::{MemArg, Operator};

/// What an access stores after it has read the old value.
#[derive(Clone, Copy)]
enum Modify {
    Add,
    Sub,
    And,
    Or,
    Xor,
    Exchange,
}
use Modify::{Add, And, Exchange, Or, Sub, Xor};

/// Translates an atomic instruction; `false` if it is none.
pub(crate) fn translate(t: &mut Translator<'_, '_, '_>, op: &Operator<'_>) -> bool {
    use Operator::*;
    match *op {
        // Nobody else looks at the memory.
        AtomicFence => {}
        MemoryAtomicNotify { memarg } => t.notify(memarg),
        MemoryAtomicWait32 { memarg } => t.wait(memarg, I32),
        MemoryAtomicWait64 { memarg } => t.wait(memarg, I64),

        I32AtomicLoad { memarg } => t.atomic_load(memarg, I32, I32),
        I64AtomicLoad { memarg } => t.atomic_load(memarg, I64, I64),
        I32AtomicLoad8U { memarg } => t.atomic_load(memarg, I8, I32),
        I32AtomicLoad16U { memarg } => t.atomic_load(memarg, I16, I32),
        I64AtomicLoad8U { memarg } => t.atomic_load(memarg, I8, I64),
        I64AtomicLoad16U { memarg } => t.atomic_load(memarg, I16, I64),
        I64AtomicLoad32U { memarg } => t.atomic_load(memarg, I32, I64),

        I32AtomicStore { memarg } => t.atomic_store(memarg, I32, I32),
        I64AtomicStore { memarg } => t.atomic_store(memarg, I64, I64),
        I32AtomicStore8 { memarg } => t.atomic_store(memarg, I8, I32),
        I32AtomicStore16 { memarg } => t.atomic_store(memarg, I16, I32),
        I64AtomicStore8 { memarg } => t.atomic_store(memarg, I8, I64),
        I64AtomicStore16 { memarg } => t.atomic_store(memarg, I16, I64),
        I64AtomicStore32 { memarg } => t.atomic_store(memarg, I32, I64),

        I32AtomicRmwAdd { memarg } => t.modify(memarg, I32, I32, Add),
        I64AtomicRmwAdd { memarg } => t.modify(memarg, I64, I64, Add),
        I32AtomicRmw8AddU { memarg } => t.modify(memarg, I8, I32, Add),
        I32AtomicRmw16AddU { memarg } => t.modify(memarg, I16, I32, Add),
        I64AtomicRmw8AddU { memarg } => t.modify(memarg, I8, I64, Add),
        I64AtomicRmw16AddU { memarg } => t.modify(memarg, I16, I64, Add),
        I64AtomicRmw32AddU { memarg } => t.modify(memarg, I32, I64, Add),

        I32AtomicRmwSub { memarg } => t.modify(memarg, I32, I32, Sub),
        I64AtomicRmwSub { memarg } => t.modify(memarg, I64, I64, Sub),
        I32AtomicRmw8SubU { memarg } => t.modify(memarg, I8, I32, Sub),
        I32AtomicRmw16SubU { memarg } => t.modify(memarg, I16, I32, Sub),
        I64AtomicRmw8SubU { memarg } => t.modify(memarg, I8, I64, Sub),
        I64AtomicRmw16SubU { memarg } => t.modify(memarg, I16, I64, Sub),
        I64AtomicRmw32SubU { memarg } => t.modify(memarg, I32, I64, Sub),

        I32AtomicRmwAnd { memarg } => t.modify(memarg, I32, I32, And),
        I64AtomicRmwAnd { memarg } => t.modify(memarg, I64, I64, And),
        I32AtomicRmw8AndU { memarg } => t.modify(memarg, I8, I32, And),
        I32AtomicRmw16AndU { memarg } => t.modify(memarg, I16, I32, And),
        I64AtomicRmw8AndU { memarg } => t.modify(memarg, I8, I64, And),
        I64AtomicRmw16AndU { memarg } => t.modify(memarg, I16, I64, And),
        I64AtomicRmw32AndU { memarg } => t.modify(memarg, I32, I64, And),

        I32AtomicRmwOr { memarg } => t.modify(memarg, I32, I32, Or),
        I64AtomicRmwOr { memarg } => t.modify(memarg, I64, I64, Or),
        I32AtomicRmw8OrU { memarg } => t.modify(memarg, I8, I32, Or),
        I32AtomicRmw16OrU { memarg } => t.modify(memarg, I16, I32, Or),
        I64AtomicRmw8OrU { memarg } => t.modify(memarg, I8, I64, Or),
        I64AtomicRmw16OrU { memarg } => t.modify(memarg, I16, I64, Or),
        I64AtomicRmw32OrU { memarg } => t.modify(memarg, I32, I64, Or),

        I32AtomicRmwXor { memarg } => t.modify(memarg, I32, I32, Xor),
        I64AtomicRmwXor { memarg } => t.modify(memarg, I64, I64, Xor),
        I32AtomicRmw8XorU { memarg } => t.modify(memarg, I8, I32, Xor),
        I32AtomicRmw16XorU { memarg } => t.modify(memarg, I16, I32, Xor),
        I64AtomicRmw8XorU { memarg } => t.modify(memarg, I8, I64, Xor),
        I64AtomicRmw16XorU { memarg } => t.modify(memarg, I16, I64, Xor),
        I64AtomicRmw32XorU { memarg } => t.modify(memarg, I32, I64, Xor),

        I32AtomicRmwXchg { memarg } => t.modify(memarg, I32, I32, Exchange),
        I64AtomicRmwXchg { memarg } => t.modify(memarg, I64, I64, Exchange),
        I32AtomicRmw8XchgU { memarg } => t.modify(memarg, I8, I32, Exchange),
        I32AtomicRmw16XchgU { memarg } => t.modify(memarg, I16, I32, Exchange),
        I64AtomicRmw8XchgU { memarg } => t.modify(memarg, I8, I64, Exchange),
        I64AtomicRmw16XchgU { memarg } => t.modify(memarg, I16, I64, Exchange),
        I64AtomicRmw32XchgU { memarg } => t.modify(memarg, I32, I64, Exchange),

        I32AtomicRmwCmpxchg { memarg } => t.compare_exchange(memarg, I32, I32),
        I64AtomicRmwCmpxchg { memarg } => t.compare_exchange(memarg, I64, I64),
        I32AtomicRmw8CmpxchgU { memarg } => t.compare_exchange(memarg, I8, I32),
        I32AtomicRmw16CmpxchgU { memarg } => t.compare_exchange(memarg, I16, I32),
        I64AtomicRmw8CmpxchgU { memarg } => t.compare_exchange(memarg, I8, I64),
        I64AtomicRmw16CmpxchgU { memarg } => t.compare_exchange(memarg, I16, I64),
        I64AtomicRmw32CmpxchgU { memarg } => t.compare_exchange(memarg, I32, I64),
        _ => return false,
    }
    true
}

impl Translator<'_, '_, '_> {
    /// Loads an integer, of which `part` is in memory.
    fn atomic_load(&mut self, arg: MemArg, part: Type, ty: Type) {
        let index = self.pop();
        let at = self.atomic_address(arg, index, part);
        let v = self.load_at(at, part, ty);
        self.push(v);
    }

    /// Stores `part` of an integer.
    fn atomic_store(&mut self, arg: MemArg, part: Type, ty: Type) {
        let (index, v) = self.pop2();
        let at = self.atomic_address(arg, index, part);
        self.store_at(at, part, ty, v);
    }

    /// Loads an integer and stores what an operation makes of it and an operand. The operation may be done at the full
    /// width: the low bits of its result depend on the low bits of the operands only.
    fn modify(&mut self, arg: MemArg, part: Type, ty: Type, modify: Modify) {
        let (index, v) = self.pop2();
        let at = self.atomic_address(arg, index, part);
        let old = self.load_at(at, part, ty);
        let ins = self.b.ins();
        let new = match modify {
            Add => ins.iadd(old, v),
            Sub => ins.isub(old, v),
            And => ins.band(old, v),
            Or => ins.bor(old, v),
            Xor => ins.bxor(old, v),
            Exchange => v,
        };
        self.store_at(at, part, ty, new);
        self.push(old);
    }

    /// Loads an integer and stores another one if it was as expected, itself if not: a store of what is there costs
    /// less than a branch.
    fn compare_exchange(&mut self, arg: MemArg, part: Type, ty: Type) {
        let (expected, replacement) = self.pop2();
        let index = self.pop();
        let at = self.atomic_address(arg, index, part);
        let old = self.load_at(at, part, ty);
        let expected = if part == ty {
            expected
        } else {
            let low = self.b.ins().ireduce(part, expected);
            self.b.ins().uextend(ty, low)
        };
        let equal = self.b.ins().icmp(IntCC::Equal, old, expected);
        let new = self.b.ins().select(equal, replacement, old);
        self.store_at(at, part, ty, new);
        self.push(old);
    }

    /// `memory.atomic.notify`: nobody waits, so it wakes nobody.
    fn notify(&mut self, arg: MemArg) {
        let (index, _) = self.pop2();
        self.check_waiting_address(arg, index, I32);
        let none = self.b.ins().iconst(I32, 0);
        self.push(none);
    }

    /// `memory.atomic.wait32` and `wait64`: always a trap. The code behind it is translated as if it could be reached,
    /// because validation and the scan take it for that.
    fn wait(&mut self, arg: MemArg, part: Type) {
        let (_, _) = self.pop2();
        let index = self.pop();
        self.check_waiting_address(arg, index, part);
        let never = self.b.ins().iconst(I32, 0);
        self.b.ins().trapz(never, trap_code(Trap::AtomicWaitUnshared));
        self.push(never);
    }

    /// Native address and displacement of an atomic access.
    fn atomic_address(&mut self, arg: MemArg, index: Value, part: Type) -> (Value, i32) {
        self.check_alignment(arg.offset, index, part);
        self.address(arg, index, part.bytes())
    }

    /// Traps if an address is no multiple of an access's width.
    fn check_alignment(&mut self, offset: u64, index: Value, part: Type) {
        let mask = i64::from(part.bytes()) - 1;
        if mask == 0 {
            return;
        }
        let ty = self.b.func.dfg.value_type(index);
        // Whatever the sum wraps to, its low bits are right.
        let address = match offset as i64 & mask {
            0 => index,
            low => {
                let low = self.b.ins().iconst(ty, low);
                self.b.ins().iadd(index, low)
            }
        };
        let mask = self.b.ins().iconst(ty, mask);
        let rest = self.b.ins().band(address, mask);
        self.b.ins().trapnz(rest, trap_code(Trap::UnalignedAtomic));
    }

    /// Traps if `notify` or `wait` may not be called for an address. In the order of wasmtime, which finds that a sum
    /// beyond the address type is out of bounds before it looks at the alignment.
    fn check_waiting_address(&mut self, arg: MemArg, index: Value, part: Type) {
        let outside = trap_code(Trap::MemoryOutOfBounds);
        let address = if arg.offset == 0 {
            index
        } else {
            let ty = self.b.func.dfg.value_type(index);
            let offset = self.b.ins().iconst(ty, arg.offset as i64);
            self.b.ins().uadd_overflow_trap(index, offset, outside)
        };
        self.check_alignment(0, address, part);
        let address = self.widen(address);
        self.check_access(MemArg { offset: 0, ..arg }, address, part.bytes());
    }

    /// Loads an integer of which `part` is in memory.
    fn load_at(&mut self, at: (Value, i32), part: Type, ty: Type) -> Value {
        if part == ty {
            let flags = self.memory_flags();
            return self.b.ins().load(ty, flags, at.0, at.1);
        }
        self.load_widened(at, part, ty, Unsigned)
    }

    /// Stores `part` of an integer.
    fn store_at(&mut self, at: (Value, i32), part: Type, ty: Type, v: Value) {
        if part == ty {
            let flags = self.memory_flags();
            self.b.ins().store(flags, v, at.0, at.1);
        } else {
            self.store_narrowed(at, part, v);
        }
    }
}
