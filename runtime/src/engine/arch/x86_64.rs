//! x86-64, System V ABI.

use crate::engine::dispatch::dispatch;
use dunlin_format::context::{OFF_HOST_SP, OFF_WASM_FP};
use std::arch::global_asm;
use std::ops::Range;

// Callee-saved: rbx, rbp, r12 to r15. The pad keeps the noted stack pointer a multiple of 16, as calls from it need.
global_asm!(
    ".pushsection .text.dunlin_thunks, \"ax\", %progbits",
    ".macro DUNLIN_SAVE_HOST",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 8",
    "mov [rdi + {host_sp}], rsp",
    ".endm",
    "",
    ".balign 16",
    ".globl dunlin_enter",
    ".type dunlin_enter, @function",
    "dunlin_enter:",
    ".cfi_startproc",
    "DUNLIN_SAVE_HOST",
    "mov rsp, rcx",
    "xor ebp, ebp",
    ".cfi_endproc",
    // From here on this is the outermost frame, as far as a debugger is concerned.
    ".cfi_startproc",
    ".cfi_undefined rip",
    "call rdx",
    ".globl dunlin_enter_return",
    "dunlin_enter_return:",
    "mov rsp, [rax + {host_sp}]",
    "mov eax, {returned}",
    "jmp dunlin_exit",
    ".cfi_endproc",
    ".size dunlin_enter, . - dunlin_enter",
    "",
    ".balign 16",
    ".globl dunlin_resume",
    ".type dunlin_resume, @function",
    "dunlin_resume:",
    ".cfi_startproc",
    "DUNLIN_SAVE_HOST",
    "mov rax, rdi",
    "jmp dunlin_leave_return",
    ".cfi_endproc",
    ".size dunlin_resume, . - dunlin_resume",
    "",
    ".balign 16",
    // The leave thunk. Its name is for debuggers: they expect stacks to grow in one direction, except through a
    // function of this name (which is that of split stacks), and backtraces from host functions are to reach the
    // program's frames.
    ".globl __morestack",
    ".type __morestack, @function",
    "__morestack:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "mov [rdi + {wasm_fp}], rbp",
    "mov rsp, [rdi + {host_sp}]",
    "call {dispatch}",
    "dunlin_leave_return:",
    "test rax, rax",
    "jz 2f",
    "mov rsp, [rax + {wasm_fp}]",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    "2:",
    "mov eax, {ended}",
    ".cfi_endproc",
    ".size __morestack, . - __morestack",
    // Falls through. On the host stack, with what `enter` returns in rax.
    ".globl dunlin_exit",
    ".type dunlin_exit, @function",
    "dunlin_exit:",
    ".cfi_startproc",
    ".cfi_undefined rip",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
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

    fn get(&self, register: i32) -> u64 {
        self.0.uc_mcontext.gregs[register as usize] as u64
    }

    fn set(&mut self, register: i32, value: u64) {
        self.0.uc_mcontext.gregs[register as usize] = value as i64;
    }

    /// The program counter: the faulting instruction's address.
    pub fn pc(&self) -> u64 {
        self.get(libc::REG_RIP)
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        self.get(libc::REG_RSP)
    }

    /// The frame pointer.
    pub fn fp(&self) -> u64 {
        self.get(libc::REG_RBP)
    }

    /// The return address, if the program counter is at a function's first instruction and the stack pointer points
    /// into `stack`, whose bytes are readable; else 0.
    pub fn return_address(&self, stack: Range<u64>) -> u64 {
        let sp = self.sp();
        if !stack.contains(&sp) || !sp.is_multiple_of(8) {
            return 0;
        }
        // SAFETY: the address lies in the stack, is aligned, and its owner is interrupted.
        unsafe { (sp as *const u64).read() }
    }

    /// Goes on, when the handler returns, at the end of `enter`, which returns `status`.
    pub fn exit(&mut self, host_sp: u64, status: u64) {
        self.set(libc::REG_RSP, host_sp);
        self.set(libc::REG_RAX, status);
        self.set(libc::REG_RIP, super::dunlin_exit as *const () as u64);
    }
}
