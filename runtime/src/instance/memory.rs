//! The address space of one linear memory: below memory 0 the context, above any memory enough guard that no bounds
//! check is needed.
//!
//! ```text
//!   start      context, rounded up to pages            read-write (memory 0 only)
//!   base       linear memory                           read-write up to its size, growing by `mprotect`
//!              up to its reservation                   no access: a fault there is an out-of-bounds trap
//! ```
//!
//! A 32-bit index plus a 32-bit constant offset plus the access itself stays below [`RESERVED`], so one reservation
//! bounds every access. Accesses of 64-bit memories are checked by compiled code; their reservation only bounds their
//! growth. WebAssembly pages are 64 KiB, a multiple of every supported machine's page.

use crate::os::space::Space;
use crate::os::{lease, machine, residency, unverified};
use std::ops::Range;
use std::os::fd::AsFd;

/// Size of a WebAssembly page in bytes.
pub(crate) const WASM_PAGE: u64 = 64 << 10;

/// Address space from the base of a 32-bit memory on, in bytes: index + offset + the widest access, rounded up to 64
/// KiB.
pub(crate) const RESERVED: u64 = (8 << 30) + WASM_PAGE;

/// The most pages a 32-bit memory can have.
pub(crate) const MAX_PAGES: u64 = 1 << 16;

/// Address space for a 64-bit memory that may become `max_pages` pages large, in bytes: as much as this machine could
/// ever back.
pub(crate) fn reservation64(max_pages: Option<u64>) -> u64 {
    let useful = machine::physical_memory().max(RESERVED).next_multiple_of(WASM_PAGE);
    max_pages
        .unwrap_or(u64::MAX)
        .saturating_mul(WASM_PAGE)
        .clamp(WASM_PAGE, useful)
}

/// Why address space or memory can't be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The kernel refused the reservation.
    #[error("cannot reserve {0} bytes of address space: {1} (is the address space limited, as by `ulimit -v`?)")]
    Reserve(u64, std::io::Error),
    /// The kernel refused memory.
    #[error("cannot get {0} bytes of memory: {1}")]
    Commit(u64, std::io::Error),
    /// More than a limit allows.
    #[error("the program needs {needed} bytes of memory, but only {limit} are allowed (--max-memory)")]
    Limit {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A snapshot's file can't be mapped.
    #[error("cannot map the snapshot's memory: {0}")]
    Map(std::io::Error),
}

/// A linear memory, and for memory 0 the context, in one reservation.
#[derive(Debug)]
pub(crate) struct Memory {
    space: Space,
    context: usize,
    reserved: u64,
    size: u64,
    mapped: Vec<Range<u64>>,
}

impl Memory {
    /// Reserves address space for a context of this many bytes and for a memory of size 0 (or without a memory at all),
    /// with `reserved` bytes, a multiple of [`WASM_PAGE`], from its base on.
    pub(crate) fn reserve(context_size: usize, reserved: u64) -> Result<Memory, MemoryError> {
        let page = machine::page_size();
        let context = context_size.next_multiple_of(page);
        let len = context + reserved as usize;
        let mut space = Space::reserve(len).map_err(|e| MemoryError::Reserve(len as u64, e))?;
        if context > 0 {
            space
                .allow(0..context)
                .map_err(|e| MemoryError::Commit(context as u64, e))?;
        }
        Ok(Memory {
            space,
            context,
            reserved,
            size: 0,
            mapped: Vec::new(),
        })
    }

    /// The memory's base; memory 0's is the context pointer.
    pub(crate) fn base(&self) -> *mut u8 {
        self.space.start().wrapping_add(self.context)
    }

    /// The addresses that it may ever have, from its base on.
    pub(crate) fn reserved_addresses(&self) -> Range<usize> {
        let start = self.base().addr();
        start..start + self.reserved as usize
    }

    /// Current size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Makes the memory this many bytes large (a multiple of [`WASM_PAGE`], within its reservation). It never shrinks.
    /// New bytes are 0.
    pub(crate) fn grow_to(&mut self, size: u64) -> Result<(), MemoryError> {
        debug_assert!(size.is_multiple_of(WASM_PAGE) && size <= self.reserved);
        if size > self.size {
            let range = self.context + self.size as usize..self.context + size as usize;
            self.space.allow(range).map_err(|e| MemoryError::Commit(size, e))?;
            self.size = size;
        }
        Ok(())
    }

    /// The memory's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `size` bytes from the base are mapped readable; the program is stopped while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.base(), self.size as usize) }
    }

    /// The memory's bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `size` bytes from the base are mapped read-write; the program is stopped while `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.base(), self.size as usize) }
    }

    /// The byte ranges that files were mapped to, whether the pages are still theirs or copies by now.
    pub(crate) fn mapped(&self) -> &[Range<u64>] {
        &self.mapped
    }

    /// The addresses of [`Memory::mapped`].
    pub(crate) fn mapped_addresses(&self) -> Vec<Range<usize>> {
        let base = self.base().expose_provenance();
        let ranges = self.mapped.iter();
        ranges.map(|r| base + r.start as usize..base + r.end as usize).collect()
    }

    /// For each WebAssembly page: may it hold anything but zeros? `None` if that can't be told.
    pub(crate) fn touched(&self) -> Option<Vec<bool>> {
        let base = self.base().addr() as u64;
        let held = residency::touched(base..base + self.size)?;
        let per_page = WASM_PAGE as usize / machine::page_size();
        let mut touched: Vec<bool> = held.chunks(per_page).map(|pages| pages.contains(&true)).collect();
        // A mapped file's pages hold its bytes before they are touched.
        for range in &self.mapped {
            touched[(range.start / WASM_PAGE) as usize..range.end.div_ceil(WASM_PAGE) as usize].fill(true);
        }
        Some(touched)
    }

    /// Replaces bytes of the memory by a private mapping of a file. `false`, with nothing done, if this machine's pages
    /// don't allow it; then the bytes must be read. The caller sees to it that nobody writes to the file
    /// ([`crate::os::lease`]).
    pub(crate) fn map_file(
        &mut self,
        file: impl AsFd,
        file_offset: u64,
        at: u64,
        len: u64,
    ) -> Result<bool, MemoryError> {
        let page = machine::page_size() as u64;
        let inside = at.checked_add(len).is_some_and(|end| end <= self.size);
        let aligned = [file_offset, at, len].iter().all(|n| n.is_multiple_of(page));
        if !inside || !aligned || len == 0 {
            return Ok(false);
        }
        let start = self.context + at as usize;
        self.space
            .map_file(start..start + len as usize, file, file_offset)
            .map_err(MemoryError::Map)?;
        self.mapped.push(at..at + len);
        Ok(true)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Nothing is mapped under these leases any more, and what comes to these addresses next must not be taken for
        // it.
        if !self.mapped.is_empty() {
            let addresses = self.mapped_addresses();
            unverified::forget(&addresses);
            lease::forget(&addresses);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn grows_zeroed_and_keeps_its_bytes() {
        let mut memory = Memory::reserve(100, RESERVED).unwrap();
        assert!(memory.bytes().is_empty());
        assert!(memory.base().addr().is_multiple_of(machine::page_size()));
        memory.grow_to(WASM_PAGE).unwrap();
        memory.bytes_mut()[WASM_PAGE as usize - 1] = 7;
        memory.grow_to(3 * WASM_PAGE).unwrap();
        memory.grow_to(WASM_PAGE).unwrap();
        assert_eq!(memory.size(), 3 * WASM_PAGE);
        assert_eq!(memory.bytes()[WASM_PAGE as usize - 1], 7);
        assert!(memory.bytes()[WASM_PAGE as usize..].iter().all(|&b| b == 0));
    }

    #[test]
    fn a_reservation_covers_every_access() {
        assert!(RESERVED > u64::from(u32::MAX) + u64::from(u32::MAX) + 16);
    }

    #[test]
    fn the_context_is_writable_right_below_the_base() {
        let memory = Memory::reserve(5000, RESERVED).unwrap();
        for at in [1, 5000] {
            let byte = memory.base().wrapping_sub(at);
            // SAFETY: the reservation has 5000 writable bytes below its base.
            unsafe { byte.write(at as u8) };
            // SAFETY: as above.
            assert_eq!(unsafe { byte.read() }, at as u8);
        }
    }

    #[test]
    fn file_pages_are_mapped_privately_or_refused() {
        let page = machine::page_size() as u64;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![5; 2 * page as usize]).unwrap();
        let mut memory = Memory::reserve(1, RESERVED).unwrap();
        memory.grow_to(WASM_PAGE).unwrap();
        assert!(memory.map_file(&file, page, 0, page).unwrap());
        assert_eq!((memory.bytes()[0], memory.bytes()[page as usize]), (5, 0));
        memory.bytes_mut()[0] = 6;
        assert!(!memory.map_file(&file, 1, 0, page).unwrap());
        assert!(!memory.map_file(&file, 0, WASM_PAGE, page).unwrap());
        let mut again = Memory::reserve(1, RESERVED).unwrap();
        again.grow_to(WASM_PAGE).unwrap();
        assert!(again.map_file(&file, page, 0, page).unwrap());
        assert_eq!(again.bytes()[0], 5);
    }

    #[test]
    fn touched_and_mapped_pages_are_told_from_others() {
        let mut memory = Memory::reserve(1, RESERVED).unwrap();
        memory.grow_to(6 * WASM_PAGE).unwrap();
        memory.bytes_mut()[WASM_PAGE as usize] = 0;
        memory.bytes_mut()[4 * WASM_PAGE as usize - 1] = 1;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![5; WASM_PAGE as usize]).unwrap();
        assert!(memory.map_file(&file, 0, 4 * WASM_PAGE, WASM_PAGE).unwrap());
        // Where there is no page map (or an emulator), nothing is claimed.
        if let Some(touched) = memory.touched() {
            assert_eq!(touched, [false, true, false, true, true, false]);
        }
    }
}
