//! The WebAssembly stack: where frames of compiled code live, apart from the host's stack, with a guard below it.

use crate::instance::memory::MemoryError;
use crate::os::machine;
use crate::os::space::Space;
use std::ops::Range;

/// Size of the guard below a stack, in bytes. No frame of compiled code is larger, so a function that doesn't fit
/// always touches it.
const GUARD: usize = 16 << 20;

/// A stack for compiled code. Grows down from [`WasmStack::top`].
#[derive(Debug)]
pub(crate) struct WasmStack {
    space: Space,
    size: usize,
}

impl WasmStack {
    /// Maps a stack of at least this many usable bytes.
    pub(crate) fn new(size: usize) -> Result<WasmStack, MemoryError> {
        let size = size.next_multiple_of(machine::page_size());
        let len = GUARD + size;
        let mut space = Space::reserve(len)
            .map_err(|e| MemoryError::Reserve(len as u64, e))?
            .scratch();
        space
            .allow(GUARD..len)
            .map_err(|e| MemoryError::Commit(size as u64, e))?;
        Ok(WasmStack { space, size })
    }

    /// The address behind its highest byte; a multiple of 16.
    pub(crate) fn top(&self) -> u64 {
        (self.space.start().addr() + GUARD + self.size) as u64
    }

    /// The addresses of its usable bytes.
    pub(crate) fn usable(&self) -> Range<u64> {
        self.top() - self.size as u64..self.top()
    }

    /// The addresses of the guard below it.
    pub(crate) fn guard(&self) -> Range<u64> {
        self.space.start().addr() as u64..(self.space.start().addr() + GUARD) as u64
    }

    /// The usable bytes, lowest address first. No compiled code may be running on it.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range is mapped readable; the program is stopped while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.space.start().wrapping_add(GUARD), self.size) }
    }

    /// The usable bytes, lowest address first. No compiled code may be running on it.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range is mapped read-write; the program is stopped while `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.space.start().wrapping_add(GUARD), self.size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_size_asked_for_above_its_guard() {
        let mut stack = WasmStack::new(100_000).unwrap();
        assert!((100_000..100_000 + (64 << 10)).contains(&stack.bytes().len()));
        assert_eq!(stack.guard().end, stack.usable().start);
        assert_eq!(stack.usable().end, stack.top());
        assert_eq!(stack.guard().end - stack.guard().start, GUARD as u64);
        assert!(stack.top().is_multiple_of(16));
        stack.bytes_mut()[0] = 1;
        *stack.bytes_mut().last_mut().unwrap() = 2;
        assert_eq!((stack.bytes()[0], stack.bytes().last()), (1, Some(&2)));
    }
}
