//! Traps of machine code: faults of the processor in compiled code, turned into WebAssembly traps. Anything else keeps
//! its default action, so that a real bug crashes loudly.
//!
//! The handler decides with nothing but atomics and the image's site table, notes the fault, and leaves for the end of
//! `enter` ([`super`]); the WebAssembly stack keeps its frames for the backtrace.

use super::{TRAPPED, dunlin_exit, leave};
use crate::engine::trap::Fault;
use crate::instance::Instance;
use crate::instance::memory::RESERVED;
use crate::os::faults;
use crate::os::registers::Registers;
use crate::program::Program;
use dunlin_format::context::{ContextHeader, HEADER_SIZE};
use dunlin_format::hostcalls::Trap;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What the handler knows of the instance that runs. All zero while none does.
static GUARD_START: AtomicU64 = AtomicU64::new(0);
static STACK_START: AtomicU64 = AtomicU64::new(0);
static STACK_TOP: AtomicU64 = AtomicU64::new(0);
static BASE: AtomicU64 = AtomicU64::new(0);
static PROGRAM: OnceLock<&'static Program> = OnceLock::new();

/// The last fault, written by the handler.
static FAULT_TRAP: AtomicU64 = AtomicU64::new(0);
static FAULT_PC: AtomicU64 = AtomicU64::new(0);
static FAULT_FP: AtomicU64 = AtomicU64::new(0);
static FAULT_RETURN: AtomicU64 = AtomicU64::new(0);

/// Installs the handler, for good, and a signal stack for the calling thread, which is the one that runs the program.
pub(super) fn install(program: &'static Program) -> std::io::Result<()> {
    // A second call would be for the same program.
    let _ = PROGRAM.set(program);
    faults::handle(on_fault)
}

/// Tells the handler which instance is about to run.
pub(super) fn watch(instance: &Instance) {
    GUARD_START.store(instance.stack.guard().start, SeqCst);
    STACK_START.store(instance.stack.usable().start, SeqCst);
    BASE.store(instance.ctx().addr() as u64, SeqCst);
    STACK_TOP.store(instance.stack.top(), SeqCst);
}

/// Tells the handler that no instance runs: from now on every fault is a bug.
pub(super) fn unwatch() {
    STACK_TOP.store(0, SeqCst);
}

/// The fault because of which `enter` has just returned [`TRAPPED`].
pub(super) fn last_fault() -> Option<Fault> {
    let trap = u8::try_from(FAULT_TRAP.load(SeqCst)).ok().and_then(Trap::from_u8)?;
    Some(Fault {
        trap,
        pc: FAULT_PC.load(SeqCst),
        fp: FAULT_FP.load(SeqCst),
        pending_return: FAULT_RETURN.load(SeqCst),
    })
}

fn on_fault(found: faults::Fault, registers: &mut Registers<'_>) -> bool {
    let Some(fault) = classify(found, registers) else {
        return false;
    };
    FAULT_TRAP.store(fault.trap as u64, SeqCst);
    FAULT_PC.store(fault.pc, SeqCst);
    FAULT_FP.store(fault.fp, SeqCst);
    FAULT_RETURN.store(fault.pending_return, SeqCst);
    let header = (BASE.load(SeqCst) - u64::from(HEADER_SIZE)) as *const ContextHeader;
    // SAFETY: an instance runs (`classify` found the stack pointer on its stack), so its context is mapped.
    let host_sp = unsafe { (&raw const (*header).host_sp).read() };
    registers.go_to(dunlin_exit as *const () as u64, host_sp, TRAPPED);
    true
}

/// The trap that a fault means, if it is one of compiled code's.
fn classify(fault: faults::Fault, at: &Registers<'_>) -> Option<Fault> {
    let (guard, start, top) = (
        GUARD_START.load(SeqCst),
        STACK_START.load(SeqCst),
        STACK_TOP.load(SeqCst),
    );
    // The stack pointer tells whether WebAssembly runs: all other code has the host's stack.
    if !(guard..=top).contains(&at.sp()) {
        return None;
    }
    let program = PROGRAM.get()?;
    let found = program.maps.find(at.pc());
    if let faults::Fault::Memory(address) = fault
        && (guard..start).contains(&address)
    {
        // In compiled code, or in the leave thunk. In a function's first instruction, which pushes the frame, the
        // return address is not in the chain yet.
        let first = found.is_some_and(|(_, offset)| offset == 0) || at.pc() == leave();
        let pending_return = if first { return_address(at, start..top) } else { 0 };
        let pc = if found.is_some() { at.pc() } else { 0 };
        return Some(Fault {
            trap: Trap::StackOverflow,
            pc,
            fp: at.fp(),
            pending_return,
        });
    }
    let (function, offset) = found?;
    let (trap, _) = program.maps.function(function).ok()?.code.trap_at(offset)?;
    let plausible = match fault {
        // Inside the memory a fault can only be a broken mapping, such as of a snapshot cut off meanwhile. A table's
        // null entry or a null context would fault near address 0.
        faults::Fault::Memory(address) => trap != Trap::MemoryOutOfBounds || in_a_guard(program, address),
        // An explicit trap: bulk memory instructions check their bounds.
        faults::Fault::Instruction => true,
    };
    plausible.then_some(Fault {
        trap,
        pc: at.pc(),
        fp: at.fp(),
        pending_return: 0,
    })
}

/// The return address of a function that stands at its first instruction. 0 if it should be on the stack, and the
/// stack pointer doesn't point into that, whose bytes are readable.
fn return_address(at: &Registers<'_>, stack: Range<u64>) -> u64 {
    let sp = at.sp();
    match at.link() {
        Some(address) => address,
        None if !stack.contains(&sp) || !sp.is_multiple_of(8) => 0,
        // SAFETY: the address lies in the stack, is aligned, and its owner is interrupted.
        None => unsafe { (sp as *const u64).read() },
    }
}

/// Is this an address that only an out-of-bounds access of a linear memory can touch?
fn in_a_guard(program: &Program, address: u64) -> bool {
    let context = BASE.load(SeqCst);
    let word = |offset: i32| {
        let at = context.wrapping_add_signed(offset.into()) as *const u64;
        // SAFETY: an instance runs, so its context is mapped, and the layout's offsets lie in it.
        unsafe { at.read() }
    };
    (0..program.module.memories.len().max(1) as u32).any(|memory| {
        let base = if memory == 0 {
            context
        } else {
            word(program.layout.memory_base(memory))
        };
        let size = word(program.layout.memory_size(memory));
        (base + size..base + RESERVED).contains(&address)
    })
}
