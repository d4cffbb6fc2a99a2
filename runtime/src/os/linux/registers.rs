//! The registers of interrupted code, as a signal handler reads and changes them.

use std::ffi::c_void;

/// The registers that a signal handler's third argument holds.
pub(crate) struct Registers<'a>(&'a mut libc::ucontext_t);

impl Registers<'_> {
    /// The registers in a handler's third argument.
    ///
    /// # Safety
    ///
    /// `context` is that argument, and the handler hasn't returned.
    pub(super) unsafe fn new(context: *mut c_void) -> Self {
        // SAFETY: the kernel passes a valid `ucontext_t` that is the handler's alone.
        Registers(unsafe { &mut *context.cast() })
    }

    /// The program counter: the faulting instruction's address.
    pub(crate) fn pc(&self) -> u64 {
        self.0.uc_mcontext.pc()
    }

    /// The stack pointer.
    pub(crate) fn sp(&self) -> u64 {
        self.0.uc_mcontext.sp()
    }

    /// The frame pointer.
    pub(crate) fn fp(&self) -> u64 {
        self.0.uc_mcontext.fp()
    }

    /// The return address at a function's first instruction, if calls put it in a register. `None` where they push it:
    /// then the stack pointer points to it.
    pub(crate) fn link(&self) -> Option<u64> {
        self.0.uc_mcontext.link()
    }

    /// When the handler returns, goes on at `pc`, with this stack pointer, and `result` where functions return one.
    pub(crate) fn go_to(&mut self, pc: u64, sp: u64, result: u64) {
        self.0.uc_mcontext.go_to(pc, sp, result);
    }
}

/// What differs between machines.
trait Machine {
    fn pc(&self) -> u64;
    fn sp(&self) -> u64;
    fn fp(&self) -> u64;
    fn link(&self) -> Option<u64>;
    fn go_to(&mut self, pc: u64, sp: u64, result: u64);
}

#[cfg(target_arch = "x86_64")]
impl Machine for libc::mcontext_t {
    fn pc(&self) -> u64 {
        self.gregs[libc::REG_RIP as usize] as u64
    }

    fn sp(&self) -> u64 {
        self.gregs[libc::REG_RSP as usize] as u64
    }

    fn fp(&self) -> u64 {
        self.gregs[libc::REG_RBP as usize] as u64
    }

    fn link(&self) -> Option<u64> {
        None
    }

    fn go_to(&mut self, pc: u64, sp: u64, result: u64) {
        for (register, value) in [(libc::REG_RIP, pc), (libc::REG_RSP, sp), (libc::REG_RAX, result)] {
            self.gregs[register as usize] = value as i64;
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl Machine for libc::mcontext_t {
    fn pc(&self) -> u64 {
        self.pc
    }

    fn sp(&self) -> u64 {
        self.sp
    }

    fn fp(&self) -> u64 {
        self.regs[29]
    }

    fn link(&self) -> Option<u64> {
        Some(self.regs[30])
    }

    fn go_to(&mut self, pc: u64, sp: u64, result: u64) {
        (self.pc, self.sp, self.regs[0]) = (pc, sp, result);
    }
}
