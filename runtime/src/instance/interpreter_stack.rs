//! The WebAssembly stack of a runtime that interprets: it belongs to the interpreter, which compares the stack pointer
//! with its end at every step down. So a stack goes with an interpreter of its own.

use crate::instance::memory::MemoryError;
use pulley_interpreter::interp::Vm;
use pulley_interpreter::regs::XReg;
use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::ops::Range;

/// What every frame's size is a multiple of, in bytes.
const ALIGN: usize = 16;

/// A stack for compiled code, and the interpreter that runs code on it. Grows down from [`WasmStack::top`].
pub(crate) struct WasmStack {
    vm: Box<UnsafeCell<Vm>>,
    top: *mut u8,
    size: usize,
}

impl WasmStack {
    /// A stack of at least this many bytes.
    pub(crate) fn new(size: usize) -> Result<WasmStack, MemoryError> {
        let size = size.next_multiple_of(ALIGN);
        let fail = |_| MemoryError::Commit(size as u64, io::ErrorKind::OutOfMemory.into());
        let vm = Vm::with_stack(size).map_err(fail)?;
        // Where a new interpreter's stack pointer is.
        let top = vm[XReg::sp].get_ptr();
        let vm = Box::new(UnsafeCell::new(vm));
        Ok(WasmStack { vm, top, size })
    }

    /// The interpreter whose stack this is; valid as long as the stack.
    pub(crate) fn vm(&self) -> *mut Vm {
        self.vm.get()
    }

    /// The address behind its highest byte; a multiple of 16.
    pub(crate) fn top(&self) -> u64 {
        self.top.addr() as u64
    }

    /// The addresses of its bytes.
    pub(crate) fn usable(&self) -> Range<u64> {
        self.top() - self.size as u64..self.top()
    }

    /// The bytes, lowest address first. No compiled code may be running on it.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the interpreter has allocated as much below the top and keeps it; the program is stopped while `self`
        // is borrowed. Of what no frame has written, nothing is read.
        unsafe { std::slice::from_raw_parts(self.top.wrapping_sub(self.size), self.size) }
    }

    /// The bytes, lowest address first. No compiled code may be running on it.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; nobody else has a reference into the stack.
        unsafe { std::slice::from_raw_parts_mut(self.top.wrapping_sub(self.size), self.size) }
    }
}

impl fmt::Debug for WasmStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmStack")
            .field("usable", &self.usable())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_size_asked_for() {
        let mut stack = WasmStack::new(100_001).unwrap();
        assert_eq!(stack.bytes().len(), 100_016);
        assert_eq!(stack.usable().end - stack.usable().start, 100_016);
        assert!(stack.top().is_multiple_of(ALIGN as u64));
        stack.bytes_mut()[0] = 1;
        *stack.bytes_mut().last_mut().unwrap() = 2;
        assert_eq!((stack.bytes()[0], stack.bytes().last()), (1, Some(&2)));
    }
}
