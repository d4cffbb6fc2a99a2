//! Reserved address space: no access at first, parts of it made accessible, given back for reuse.
//!
//! Space that is given back loses its contents and its accessibility at once (a stack, whose owner has filled it with
//! garbage, doesn't), but the range itself is kept for the next reservation of the same size. Only migration in place
//! gives space back often, and it would otherwise wander through the whole address space (in qemu-user, which describes
//! every page it has ever seen, that costs megabytes each time).

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect};
use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::null_mut;
use std::sync::Mutex;

/// Ranges of one size that rest before the first of them is used again: an address that should have been forgotten is a
/// fault for as long.
const RESTING: usize = 3;

/// Ranges given back, oldest first.
static FREE: Mutex<Vec<Free>> = Mutex::new(Vec::new());

/// A range given back.
struct Free {
    start: usize,
    len: usize,
    open: Range<usize>,
}

/// A range of address space that belongs to its owner alone.
#[derive(Debug)]
pub(crate) struct Space {
    start: *mut u8,
    len: usize,
    /// The smallest range that holds everything made accessible, as offsets.
    open: Range<usize>,
    scratch: bool,
}

impl Space {
    /// Reserves a range. `len` is a multiple of the page size.
    pub(crate) fn reserve(len: usize) -> io::Result<Space> {
        if let Some(Free { start, len, open }) = take(len) {
            let start = std::ptr::with_exposed_provenance_mut(start);
            return Ok(Space {
                start,
                len,
                open,
                scratch: false,
            });
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::empty(), flags) }?;
        Ok(Space {
            start: start.cast(),
            len,
            open: 0..0,
            scratch: false,
        })
    }

    /// Declares that nobody relies on the bytes being zero: when the space is given back, it stays as it is.
    #[cfg_attr(
        feature = "pulley",
        expect(dead_code, reason = "the interpreter has stacks of its own")
    )]
    pub(crate) fn scratch(mut self) -> Space {
        self.scratch = true;
        self
    }

    /// The first address.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    fn place(&self, range: &Range<usize>) -> *mut c_void {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "a range outside of its space"
        );
        self.start.wrapping_add(range.start).cast()
    }

    fn opened(&mut self, range: Range<usize>) {
        self.open = if self.open.is_empty() {
            range
        } else {
            self.open.start.min(range.start)..self.open.end.max(range.end)
        };
    }

    /// Makes a range of offsets, page-aligned, readable and writable. Bytes that were not are zero, unless the
    /// space is [`Space::scratch`].
    pub(crate) fn allow(&mut self, range: Range<usize>) -> io::Result<()> {
        if self.open.start <= range.start && range.end <= self.open.end {
            return Ok(());
        }
        let place = self.place(&range);
        // SAFETY: the range lies in this space; making more of it accessible invalidates nothing.
        unsafe { mprotect(place, range.len(), MprotectFlags::READ | MprotectFlags::WRITE) }?;
        self.opened(range);
        Ok(())
    }

    /// Replaces a range of offsets, page-aligned, by a private mapping of a file. The owner holds no reference into it.
    pub(crate) fn map_file(&mut self, range: Range<usize>, file: impl AsFd, offset: u64) -> io::Result<()> {
        let place = self.place(&range);
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: the range lies in this space, which is borrowed exclusively.
        unsafe {
            mmap(
                place,
                range.len(),
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
                file,
                offset,
            )
        }?;
        self.opened(range);
        Ok(())
    }
}

// SAFETY: the range is its owner's alone, whichever thread that is on.
unsafe impl Send for Space {}

fn take(len: usize) -> Option<Free> {
    let mut free = FREE.lock().unwrap_or_else(|e| e.into_inner());
    if free.iter().filter(|f| f.len == len).count() < RESTING {
        return None;
    }
    let oldest = free.iter().position(|f| f.len == len)?;
    Some(free.remove(oldest))
}

impl Drop for Space {
    fn drop(&mut self) {
        if !self.scratch && !self.open.is_empty() {
            let place = self.place(&self.open);
            let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
            // SAFETY: the range is this object's alone, and nothing borrows from it any more.
            let closed = unsafe { mmap_anonymous(place, self.open.len(), ProtFlags::empty(), flags) };
            if closed.is_err() {
                // Not reused, then: its contents may still be there.
                return;
            }
            self.open = 0..0;
        }
        let range = Free {
            start: self.start.expose_provenance(),
            len: self.len,
            open: self.open.clone(),
        };
        FREE.lock().unwrap_or_else(|e| e.into_inner()).push(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_rests_before_it_is_used_again_and_comes_back_empty() {
        // A size of this test's own: others run at the same time.
        let len = 37 << 16;
        let mut seen = Vec::new();
        for n in 0..=RESTING {
            let mut space = Space::reserve(len).unwrap();
            space.allow(0..1 << 16).unwrap();
            let byte = space.start();
            // SAFETY: the first page was made writable.
            unsafe { assert_eq!(byte.read(), 0, "round {n}") };
            // SAFETY: as above.
            unsafe { byte.write(9) };
            assert!(n == RESTING || !seen.contains(&byte.addr()));
            seen.push(byte.addr());
        }
        assert_eq!(seen.first(), seen.last());
    }
}
