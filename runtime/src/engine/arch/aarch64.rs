//! AArch64, AAPCS64.

use crate::engine::dispatch::dispatch;
use dunlin_format::context::{OFF_HOST_SP, OFF_WASM_FP};
use std::arch::global_asm;
use std::ops::Range;

// Callee-saved: x19 to x30, and the low halves of v8 to v15.
global_asm!(
    ".pushsection .text.dunlin_thunks, \"ax\", %progbits",
    ".macro DUNLIN_SAVE_HOST",
    "stp x29, x30, [sp, #-160]!",
    ".cfi_def_cfa_offset 160",
    ".cfi_offset x29, -160",
    ".cfi_offset x30, -152",
    "mov x29, sp",
    "stp x19, x20, [sp, #16]",
    "stp x21, x22, [sp, #32]",
    "stp x23, x24, [sp, #48]",
    "stp x25, x26, [sp, #64]",
    "stp x27, x28, [sp, #80]",
    "stp d8, d9, [sp, #96]",
    "stp d10, d11, [sp, #112]",
    "stp d12, d13, [sp, #128]",
    "stp d14, d15, [sp, #144]",
    "mov x9, sp",
    "stur x9, [x0, #{host_sp}]",
    ".endm",
    "",
    ".balign 16",
    ".globl dunlin_enter",
    ".type dunlin_enter, %function",
    "dunlin_enter:",
    ".cfi_startproc",
    "DUNLIN_SAVE_HOST",
    "mov sp, x3",
    "mov x29, xzr",
    ".cfi_endproc",
    // From here on this is the outermost frame, as far as a debugger is concerned.
    ".cfi_startproc",
    ".cfi_undefined x30",
    "blr x2",
    ".globl dunlin_enter_return",
    "dunlin_enter_return:",
    "ldur x9, [x0, #{host_sp}]",
    "mov sp, x9",
    "mov x0, #{returned}",
    "b dunlin_exit",
    ".cfi_endproc",
    ".size dunlin_enter, . - dunlin_enter",
    "",
    ".balign 16",
    ".globl dunlin_resume",
    ".type dunlin_resume, %function",
    "dunlin_resume:",
    ".cfi_startproc",
    "DUNLIN_SAVE_HOST",
    "b dunlin_leave_return",
    ".cfi_endproc",
    ".size dunlin_resume, . - dunlin_resume",
    "",
    ".balign 16",
    // The leave thunk. Its name is for debuggers: they expect stacks to grow in one direction, except through a
    // function of this name (which is that of split stacks), and backtraces from host functions are to reach the
    // program's frames.
    ".globl __morestack",
    ".type __morestack, %function",
    "__morestack:",
    ".cfi_startproc",
    "stp x29, x30, [sp, #-16]!",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset x29, -16",
    ".cfi_offset x30, -8",
    "mov x29, sp",
    ".cfi_def_cfa_register x29",
    "stur x29, [x0, #{wasm_fp}]",
    "ldur x9, [x0, #{host_sp}]",
    "mov sp, x9",
    "bl {dispatch}",
    "dunlin_leave_return:",
    "cbz x0, 2f",
    "ldur x9, [x0, #{wasm_fp}]",
    "mov sp, x9",
    "ldp x29, x30, [sp], #16",
    ".cfi_def_cfa sp, 0",
    ".cfi_restore x29",
    ".cfi_restore x30",
    "ret",
    "2:",
    "mov x0, #{ended}",
    ".cfi_endproc",
    ".size __morestack, . - __morestack",
    // Falls through. On the host stack, with what `enter` returns in x0.
    ".globl dunlin_exit",
    ".type dunlin_exit, %function",
    "dunlin_exit:",
    ".cfi_startproc",
    ".cfi_undefined x30",
    "ldp x19, x20, [sp, #16]",
    "ldp x21, x22, [sp, #32]",
    "ldp x23, x24, [sp, #48]",
    "ldp x25, x26, [sp, #64]",
    "ldp x27, x28, [sp, #80]",
    "ldp d8, d9, [sp, #96]",
    "ldp d10, d11, [sp, #112]",
    "ldp d12, d13, [sp, #128]",
    "ldp d14, d15, [sp, #144]",
    "ldp x29, x30, [sp], #160",
    "ret",
    ".cfi_endproc",
    ".size dunlin_exit, . - dunlin_exit",
    ".popsection",
    host_sp = const OFF_HOST_SP,
    wasm_fp = const OFF_WASM_FP,
    returned = const super::RETURNED,
    ended = const super::ENDED,
    dispatch = sym dispatch,
);

/// The registers of interrupted code, in a signal handler.
pub struct Interrupted<'a>(&'a mut libc::ucontext_t);

impl<'a> Interrupted<'a> {
    /// The registers in a handler's third argument.
    ///
    /// # Safety
    ///
    /// `context` is that argument, and the handler hasn't returned.
    pub unsafe fn new(context: *mut libc::c_void) -> Interrupted<'a> {
        // SAFETY: the kernel passes a valid `ucontext_t` that is the handler's alone.
        Interrupted(unsafe { &mut *context.cast() })
    }

    /// The program counter: the faulting instruction's address.
    pub fn pc(&self) -> u64 {
        self.0.uc_mcontext.pc
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        self.0.uc_mcontext.sp
    }

    /// The frame pointer.
    pub fn fp(&self) -> u64 {
        self.0.uc_mcontext.regs[29]
    }

    /// The return address, if the program counter is at a function's first instruction.
    pub fn return_address(&self, _stack: Range<u64>) -> u64 {
        self.0.uc_mcontext.regs[30]
    }

    /// Goes on, when the handler returns, at the end of `enter`, which returns `status`.
    pub fn exit(&mut self, host_sp: u64, status: u64) {
        self.0.uc_mcontext.sp = host_sp;
        self.0.uc_mcontext.regs[0] = status;
        self.0.uc_mcontext.pc = super::dunlin_exit as *const () as u64;
    }
}
