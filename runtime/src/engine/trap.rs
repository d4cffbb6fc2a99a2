//! Traps: hardware signals in compiled code, turned into WebAssembly traps. Anything else keeps its default action, so
//! that a real bug crashes loudly.
//!
//! The handler decides with nothing but atomics and the image's site table, notes the fault, and leaves for the end of
//! `enter` ([`crate::engine::arch`]); the WebAssembly stack keeps its frames for the backtrace.

use crate::engine::arch::{self, Interrupted};
use crate::instance::Instance;
use crate::instance::memory::RESERVED;
use crate::os::signals;
use crate::program::Program;
use dunlin_format::context::{ContextHeader, HEADER_SIZE};
use dunlin_format::hostcalls::Trap;
use dunlin_migrate::frames::{TraceFrame, backtrace};
use std::fmt::Write;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Signals that compiled code raises.
const SIGNALS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

/// Size of the signal stack in bytes: signal handlers never run on a WebAssembly stack.
const SIGNAL_STACK: usize = 256 << 10;

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

/// A trap, and where the stack stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub trap: Trap,
    /// The faulting instruction's address; 0 if it is none of compiled code.
    pub pc: u64,
    /// The frame pointer.
    pub fp: u64,
    /// A return address that no frame holds yet, because the fault is in a function's first instruction; 0 if there is
    /// none.
    pub pending_return: u64,
}

/// Installs the handlers, for good, and a signal stack for the calling thread, which is the one that runs the program.
pub fn install(program: &'static Program) -> std::io::Result<()> {
    // A second call would be for the same program.
    let _ = PROGRAM.set(program);
    signal_stack()?;
    for signal in SIGNALS {
        signals::handle(
            signal,
            on_fault as *const () as usize,
            libc::SA_SIGINFO | libc::SA_ONSTACK,
        )?;
    }
    Ok(())
}

/// Gives the calling thread a signal stack that outlives it.
fn signal_stack() -> std::io::Result<()> {
    let memory = Box::leak(vec![0u8; SIGNAL_STACK].into_boxed_slice());
    let stack = libc::stack_t {
        ss_sp: memory.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: memory.len(),
    };
    // SAFETY: the memory is never freed and nothing else uses it.
    match unsafe { libc::sigaltstack(&stack, null_mut()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Tells the handler which instance is about to run.
pub fn watch(instance: &Instance) {
    GUARD_START.store(instance.stack.guard().start, SeqCst);
    STACK_START.store(instance.stack.usable().start, SeqCst);
    BASE.store(instance.ctx().addr() as u64, SeqCst);
    STACK_TOP.store(instance.stack.top(), SeqCst);
}

/// Tells the handler that no instance runs: from now on every fault is a bug.
pub fn unwatch() {
    STACK_TOP.store(0, SeqCst);
}

/// The fault because of which `enter` has just returned [`arch::TRAPPED`].
pub fn last_fault() -> Option<Fault> {
    let trap = u8::try_from(FAULT_TRAP.load(SeqCst)).ok().and_then(Trap::from_u8)?;
    Some(Fault {
        trap,
        pc: FAULT_PC.load(SeqCst),
        fp: FAULT_FP.load(SeqCst),
        pending_return: FAULT_RETURN.load(SeqCst),
    })
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: `context` is this handler's third argument.
    let mut interrupted = unsafe { Interrupted::new(context) };
    // SAFETY: the kernel passes a valid `siginfo_t`; for these signals it holds an address (which is 0 if another
    // process sent it).
    let (address, sent) = unsafe { ((*info).si_addr() as u64, (*info).si_code <= 0) };
    let fault = if sent {
        None
    } else {
        classify(signal, address, &interrupted)
    };
    let Some(fault) = fault else {
        // Not ours. With the default action back, the instruction faults again where it stands; a sent signal must be
        // sent again. SAFETY: resetting a signal's action and raising it is async-signal-safe.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            if sent {
                libc::raise(signal);
            }
        }
        return;
    };
    FAULT_TRAP.store(fault.trap as u64, SeqCst);
    FAULT_PC.store(fault.pc, SeqCst);
    FAULT_FP.store(fault.fp, SeqCst);
    FAULT_RETURN.store(fault.pending_return, SeqCst);
    let header = (BASE.load(SeqCst) - u64::from(HEADER_SIZE)) as *const ContextHeader;
    // SAFETY: an instance runs (`classify` found the stack pointer on its stack), so its context is mapped.
    let host_sp = unsafe { (&raw const (*header).host_sp).read() };
    interrupted.exit(host_sp, arch::TRAPPED);
}

/// The trap that a fault means, if it is one of compiled code's.
fn classify(signal: i32, address: u64, at: &Interrupted<'_>) -> Option<Fault> {
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
    let memory_fault = signal == libc::SIGSEGV || signal == libc::SIGBUS;
    if memory_fault && (guard..start).contains(&address) {
        // In compiled code, or in the leave thunk. In a function's first instruction, which pushes the frame, the
        // return address is not in the chain yet.
        let first = found.is_some_and(|(_, offset)| offset == 0) || arch::first_of_leave(at.pc());
        let pending_return = if first { at.return_address(start..top) } else { 0 };
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
    let plausible = match signal {
        // Inside the memory a fault can only be a broken mapping, such as of a snapshot cut off meanwhile. A table's
        // null entry or a null context would fault near address 0.
        libc::SIGSEGV | libc::SIGBUS => trap != Trap::MemoryOutOfBounds || in_a_guard(program, address),
        // An explicit trap: bulk memory instructions check their bounds.
        _ => true,
    };
    plausible.then_some(Fault {
        trap,
        pc: at.pc(),
        fp: at.fp(),
        pending_return: 0,
    })
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

/// The lines of a backtrace from a fault, innermost frame first.
pub fn describe(instance: &Instance, fault: &Fault) -> String {
    let program = instance.program;
    let (base, stack) = (instance.stack.usable().start, instance.stack.bytes());
    let mut lines = Lines::default();
    // A function that hasn't pushed its frame is in nobody's chain.
    let mut pc = fault.pc;
    if fault.pending_return != 0 {
        if let Some((func, _)) = program.maps.find(fault.pc) {
            lines.add(program, &TraceFrame { func, offset: None });
        }
        pc = fault.pending_return;
    }
    let trace = backtrace(&program.maps, base, stack, fault.fp, pc);
    trace.innermost.iter().for_each(|frame| lines.add(program, frame));
    if trace.elided > 0 {
        let _ = writeln!(lines.text, "  ... {} more frames", trace.elided);
        lines.number += trace.elided;
    }
    trace.outermost.iter().for_each(|frame| lines.add(program, frame));
    lines.text
}

#[derive(Default)]
struct Lines {
    text: String,
    number: u64,
}

impl Lines {
    fn add(&mut self, program: &Program, frame: &TraceFrame) {
        // An imported function's frame is glue that the user didn't write.
        if (frame.func as usize) < program.module.imports.len() {
            return;
        }
        let _ = writeln!(self.text, "  {}: {}", self.number, program.describe(frame));
        self.number += 1;
    }
}
