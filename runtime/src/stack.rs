//! The WebAssembly stack: where frames of compiled code live, apart from the host's stack, with a guard below it.

use crate::memory::MemoryError;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ops::Range;
use std::ptr::null_mut;

/// Size of the guard below a stack, in bytes. No frame of compiled code is larger, so a function that doesn't fit always touches it.
pub const GUARD: usize = 16 << 20;

/// A stack for compiled code. Grows down from [`WasmStack::top`]; unmapped when dropped.
#[derive(Debug)]
pub struct WasmStack {
    start: *mut u8,
    size: usize,
}

impl WasmStack {
    /// Maps a stack of at least this many usable bytes.
    pub fn new(size: usize) -> Result<WasmStack, MemoryError> {
        // A multiple of 64 KiB is one of every machine's page.
        let size = size.next_multiple_of(64 << 10);
        let len = GUARD + size;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::empty(), flags) };
        let start = start.map_err(|e| MemoryError::Reserve(len as u64, e.into()))?.cast::<u8>();
        let stack = WasmStack { start, size };
        // SAFETY: the range is the upper part of the mapping just made.
        let allowed = unsafe {
            mprotect(
                start.wrapping_add(GUARD).cast(),
                size,
                MprotectFlags::READ | MprotectFlags::WRITE,
            )
        };
        allowed.map_err(|e| MemoryError::Commit(size as u64, e.into()))?;
        Ok(stack)
    }

    /// The address behind its highest byte; a multiple of 16.
    pub fn top(&self) -> u64 {
        (self.start.addr() + GUARD + self.size) as u64
    }

    /// Its usable size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its usable addresses.
    pub fn usable(&self) -> Range<u64> {
        self.top() - self.size as u64..self.top()
    }

    /// The addresses of the guard below it.
    pub fn guard(&self) -> Range<u64> {
        self.start.addr() as u64..(self.start.addr() + GUARD) as u64
    }

    /// Its usable bytes, lowest address first. No compiled code may be running on it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range is mapped readable; the program is stopped while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.wrapping_add(GUARD), self.size) }
    }

    /// Its usable bytes, lowest address first. No compiled code may be running on it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range is mapped read-write; the program is stopped while `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.start.wrapping_add(GUARD), self.size) }
    }
}

impl Drop for WasmStack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's alone, and nothing runs on it any more.
        let unmapped = unsafe { munmap(self.start.cast(), GUARD + self.size) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_size_asked_for_above_its_guard() {
        let mut stack = WasmStack::new(100_000).unwrap();
        assert_eq!(stack.size(), 128 << 10);
        assert_eq!(stack.guard().end, stack.usable().start);
        assert_eq!(stack.usable().end, stack.top());
        assert_eq!(stack.guard().end - stack.guard().start, GUARD as u64);
        assert!(stack.top().is_multiple_of(16));
        stack.bytes_mut()[0] = 1;
        *stack.bytes_mut().last_mut().unwrap() = 2;
        assert_eq!((stack.bytes()[0], stack.bytes().last()), (1, Some(&2)));
    }
}
