//! The portable back end: code for Cranelift's interpreter, Pulley, whatever the machine.
//!
//! Each stack has an interpreter of its own ([`crate::instance::interpreter_stack`]); the one of the instance that runs
//! is noted by [`Backend::watch`], also when an instance takes another's place while the program stands still.
//!
//! - `enter` sets the stack pointer and calls the trampoline, whose return address is one that the interpreter knows:
//!   it means "to the host".
//! - The leave thunk is an instruction that stops the interpreter. Then [`run`] pushes the frame that a leave thunk
//!   has, notes it in the context, and calls the dispatcher. The program goes on where that frame returns to, with what
//!   it links to: what `resume` does on a rebuilt stack.
//! - Traps stop the interpreter, too, so there are no signals here: loads and stores compare their addresses with the
//!   memory's size, and whatever makes the stack grow with the stack's end.

mod thunks;

use super::backend::{Backend, Left};
use super::dispatch::dispatch;
use crate::engine::trap::Fault;
use crate::instance::context::header;
use crate::instance::{Instance, Thunks};
use crate::program::Program;
use dunlin_format::hostcalls::Trap;
use pulley_interpreter::interp::{DoneReason, TrapKind, Val, Vm};
use pulley_interpreter::regs::XReg;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};

/// Size of a frame pointer and of a return address on the stack, in bytes.
const WORD: usize = size_of::<usize>();

/// The return address that makes the interpreter return to the host.
const TO_HOST: u64 = usize::MAX as u64;

/// The interpreter of the instance that runs; null while none does.
static VM: AtomicPtr<Vm> = AtomicPtr::new(ptr::null_mut());
/// The lowest address of its stack.
static STACK_START: AtomicUsize = AtomicUsize::new(0);
static PROGRAM: OnceLock<&'static Program> = OnceLock::new();

/// Portable code, interpreted.
pub(super) struct Pulley;

impl Backend for Pulley {
    fn thunks() -> Thunks {
        thunks::thunks()
    }

    fn enter_return() -> u64 {
        TO_HOST
    }

    fn prepare(program: &'static Program) -> io::Result<()> {
        // A second call would be for the same program.
        let _ = PROGRAM.set(program);
        Ok(())
    }

    fn watch(instance: &Instance) {
        STACK_START.store(instance.stack.usable().start as usize, SeqCst);
        VM.store(instance.stack.vm(), SeqCst);
    }

    fn unwatch() {
        VM.store(ptr::null_mut(), SeqCst);
    }

    unsafe fn enter(ctx: *mut u8, code: u64, trampoline: u64, stack_top: u64) -> Left {
        // SAFETY: an instance runs, so its interpreter is noted, and nobody else uses that.
        let Some(vm) = (unsafe { VM.load(SeqCst).as_mut() }) else {
            return Left::Ended;
        };
        vm[XReg::sp].set_u64(stack_top);
        // SAFETY: a frame chain's end; the trampoline only saves it.
        unsafe { vm.set_fp(ptr::null_mut()) };
        // SAFETY: the arguments are those of a trampoline, which `run` calls.
        unsafe { vm.call_start(&[Val::from(ctx.expose_provenance() as u64), Val::from(code)]) };
        // SAFETY: the caller's promise: this is the address of a trampoline's code.
        unsafe { run(code_at(trampoline)) }
    }

    unsafe fn resume(ctx: *mut u8) -> Left {
        // SAFETY: the caller's promise: the context names a leave frame on a rebuilt stack.
        unsafe { run(go_back(ctx)) }
    }
}

/// The code at an address.
fn code_at(address: u64) -> Option<NonNull<u8>> {
    NonNull::new(ptr::with_exposed_provenance_mut(address as usize))
}

/// Interprets from an instruction on until the program is left. Null: it has ended.
///
/// # Safety
///
/// The noted interpreter's registers and stack are those that the code there expects.
unsafe fn run(start: Option<NonNull<u8>>) -> Left {
    let mut next = start;
    while let Some(pc) = next {
        // A host call may have put another instance in the place of the one that called, with another interpreter.
        let noted = VM.load(SeqCst);
        // SAFETY: an instance runs, so its interpreter is noted, and nobody else uses that.
        let Some(vm) = (unsafe { noted.as_mut() }) else {
            break;
        };
        // SAFETY: the image's code is what the compiler made for this interpreter (its seal was compared when it was
        // found), entered and gone on with as it expects.
        next = match unsafe { vm.call_run(pc) } {
            DoneReason::ReturnToHost(()) => return Left::Returned,
            DoneReason::Trap { pc, kind } => return Left::Trapped(fault(vm, pc, kind)),
            DoneReason::CallIndirectHost { id, resume } => match id {
                thunks::LEAVE => match push_leave_frame(vm) {
                    // SAFETY: this is the leave thunk; `vm`, which may be gone afterwards, isn't used any more.
                    Some((ctx, call)) => unsafe { serve(ctx, call) },
                    None => return Left::Trapped(Some(overflow_on_leaving(vm))),
                },
                thunks::MEMMOVE => {
                    let (to, from, len) = (vm[XReg::x0], vm[XReg::x1], vm[XReg::x2].get_u64());
                    // SAFETY: compiled code has compared both ranges with the sizes of their memories.
                    unsafe { ptr::copy(from.get_ptr::<u8>(), to.get_ptr::<u8>(), len as usize) };
                    Some(resume)
                }
                thunks::MEMSET => {
                    let (to, byte, len) = (vm[XReg::x0], vm[XReg::x1].get_u32() as u8, vm[XReg::x2].get_u64());
                    // SAFETY: compiled code has compared the range with the size of its memory.
                    unsafe { ptr::write_bytes(to.get_ptr::<u8>(), byte, len as usize) };
                    Some(resume)
                }
                _ => None,
            },
        };
    }
    Left::Ended
}

/// A call of the runtime: pushes the leave frame and notes it in the context. Returns the context and the call's
/// number; `None` if the stack has no room for the frame.
fn push_leave_frame(vm: &mut Vm) -> Option<(*mut u8, u32)> {
    let frame = vm[XReg::sp].get_ptr::<usize>().wrapping_sub(2);
    if frame.addr() < STACK_START.load(SeqCst) {
        return None;
    }
    let (ctx, call) = (vm[XReg::x0].get_ptr::<u8>(), vm[XReg::x1].get_u32());
    let (fp, lr) = (vm.fp().expose_provenance(), vm.lr().expose_provenance());
    // SAFETY: both words lie in the stack, below everything that lives there.
    unsafe { frame.cast::<[usize; 2]>().write([fp, lr]) };
    // SAFETY: compiled code hands over its context, whose header is mapped.
    unsafe { (&raw mut (*header(ctx)).wasm_fp).write(frame.expose_provenance() as u64) };
    Some((ctx, call))
}

/// Serves a call of the runtime; where the program goes on, null if it has ended.
///
/// # Safety
///
/// The context is that of the instance that runs, and names a leave frame; nobody has a reference to its interpreter.
unsafe fn serve(ctx: *mut u8, call: u32) -> Option<NonNull<u8>> {
    // SAFETY: the caller's promise.
    let ctx = unsafe { dispatch(ctx, call) };
    match ctx.is_null() {
        true => None,
        // SAFETY: the runtime returns the context to go on with.
        false => unsafe { go_back(ctx) },
    }
}

/// Returns from the leave frame that the context names: sets stack and frame pointer; where the program goes on.
///
/// # Safety
///
/// The context names a leave frame on the stack of the noted interpreter.
unsafe fn go_back(ctx: *mut u8) -> Option<NonNull<u8>> {
    // SAFETY: an instance runs, so its interpreter is noted, and nobody else uses that.
    let vm = unsafe { VM.load(SeqCst).as_mut() }?;
    // SAFETY: the context's header is mapped.
    let frame = unsafe { (&raw const (*header(ctx)).wasm_fp).read() } as usize;
    let link: *const [usize; 2] = ptr::with_exposed_provenance(frame);
    // SAFETY: the caller's promise: a leave frame lies there.
    let [fp, pc] = unsafe { link.read() };
    let (fp, pc) = (
        ptr::with_exposed_provenance_mut(fp),
        ptr::with_exposed_provenance_mut(pc),
    );
    // SAFETY: what the caller's frame was linked to.
    unsafe { vm.set_fp(fp) };
    // SAFETY: as if the thunk's `ret` had just used it.
    unsafe { vm.set_lr(pc) };
    vm[XReg::sp].set_u64((frame + 2 * WORD) as u64);
    NonNull::new(pc)
}

/// What a trap of the interpreter means: its kind, or else what the image says of the instruction.
fn fault(vm: &Vm, pc: NonNull<u8>, kind: Option<TrapKind>) -> Option<Fault> {
    let program = PROGRAM.get()?;
    let pc = pc.as_ptr().addr() as u64;
    let found = program.maps.find(pc);
    let site = || {
        let (function, offset) = found?;
        let (trap, _) = program.maps.function(function).ok()?.code.trap_at(offset)?;
        Some(trap)
    };
    let trap = match kind {
        Some(TrapKind::StackOverflow) => Trap::StackOverflow,
        Some(TrapKind::DivideByZero) => Trap::IntegerDivisionByZero,
        Some(TrapKind::IntegerOverflow) => Trap::IntegerOverflow,
        Some(TrapKind::BadConversionToInteger) => Trap::BadConversionToInteger,
        Some(TrapKind::MemoryOutOfBounds) => Trap::MemoryOutOfBounds,
        Some(TrapKind::DisabledOpcode) => return None,
        None => site()?,
    };
    // A function's first instruction pushes the frame: if it can't, the return address is not in the chain yet.
    let first = trap == Trap::StackOverflow && found.is_some_and(|(_, offset)| offset == 0);
    Some(Fault {
        trap,
        pc: if found.is_some() { pc } else { 0 },
        fp: vm.fp().addr() as u64,
        pending_return: if first { vm.lr().addr() as u64 } else { 0 },
    })
}

/// The stack has no room for the leave frame.
fn overflow_on_leaving(vm: &Vm) -> Fault {
    Fault {
        trap: Trap::StackOverflow,
        pc: 0,
        fp: vm.fp().addr() as u64,
        pending_return: vm.lr().addr() as u64,
    }
}
