//! Memory that is mapped from a file under a lease and not checked yet: nobody gets a byte of it before it is.
//!
//! It can't be accessed at first. Whoever touches it faults; the handler reads the same bytes of the file, compares
//! them with their checksums, makes that part accessible and goes on. Threads do the same with the rest meanwhile, so
//! that all of it is checked soon whether it is needed or not. Since nobody can change the file while there is a lease
//! on it, what was read is what is mapped. A part that is not what it should be ends the program before it has seen it.
//!
//! The kernel doesn't fault for system calls, it returns an error: [`touch`] comes before each that gets such memory.

use super::super::signals::with_signals_blocked;
use dunlin_interface::exit::BAD_SNAPSHOT;
use rustix::mm::{MprotectFlags, mprotect};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Whether faults are handled in this runtime, without which nothing may be left unchecked.
pub(crate) const POSSIBLE: bool = cfg!(not(feature = "pulley"));

/// Bytes that have a checksum of their own.
const PAGE: usize = 64 << 10;

/// Pages that are checked at once, at least: 256 KiB take some 50 microseconds.
const CHUNK: usize = 4;

/// Parts in which memory is made accessible, at most: a process may have some 65,000 mappings.
const MOST_CHUNKS: usize = 8192;

/// A range of memory, mapped from a file.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// Addresses.
    pub range: Range<usize>,
    /// The file, on which there is a lease.
    pub file: Arc<File>,
    /// Where in it the range begins.
    pub offset: u64,
    /// CRC-32 of each 64 KiB.
    pub crcs: Vec<u32>,
    /// Which memory it is in, and its first page there: for a message.
    pub page: (u32, u64),
}

/// What is being checked, or null. Whoever swaps it out frees nothing: the handler may be reading it.
static PENDING: AtomicPtr<Pending> = AtomicPtr::new(null_mut());

/// The threads that check.
static THREADS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Pending {
    /// By address, apart.
    mapped: Vec<Mapped>,
    /// For each range, whether each chunk is accessible: 1 if so.
    open: Vec<Vec<AtomicU8>>,
    /// Pages of a chunk.
    chunk: usize,
    /// Which chunk of all a thread takes next.
    next: AtomicUsize,
    /// Nobody wants it any more.
    given_up: AtomicBool,
}

/// Takes the access to memory away until it is checked. Begins with that. Only one program's memory at a time.
pub(crate) fn begin(mut mapped: Vec<Mapped>) -> io::Result<()> {
    mapped.sort_by_key(|m| m.range.start);
    let pages: usize = mapped.iter().map(|m| m.crcs.len()).sum();
    let chunk = CHUNK.max(pages.div_ceil(MOST_CHUNKS));
    for m in &mapped {
        let place = std::ptr::with_exposed_provenance_mut(m.range.start);
        // SAFETY: the range is mapped; who touches it from here on faults, and is served by `open`.
        unsafe { mprotect(place, m.range.len(), MprotectFlags::empty()) }?;
    }
    let open = mapped
        .iter()
        .map(|m| m.crcs.chunks(chunk).map(|_| AtomicU8::new(0)).collect());
    let pending = Pending {
        open: open.collect(),
        mapped,
        chunk,
        next: AtomicUsize::new(0),
        given_up: AtomicBool::new(false),
    };
    let pending: &'static Pending = Box::leak(Box::new(pending));
    let before = PENDING.swap(std::ptr::from_ref(pending).cast_mut(), SeqCst);
    debug_assert!(before.is_null(), "a process resumes one program");
    // One processor is the program's.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads = THREADS.lock().unwrap_or_else(|e| e.into_inner());
    for _ in 0..processors.saturating_sub(1).clamp(1, 4) {
        // Without them, all is checked as it is touched.
        let thread = std::thread::Builder::new();
        threads.extend(with_signals_blocked(|| thread.spawn(|| pending.check_all())));
    }
    Ok(())
}

fn pending() -> Option<&'static Pending> {
    // SAFETY: what is there was leaked.
    unsafe { PENDING.load(SeqCst).as_ref() }
}

/// Makes the memory at an address accessible, if it is only not checked yet. Async-signal-safe.
#[cfg(not(feature = "pulley"))]
pub(crate) fn open(address: usize) -> bool {
    pending().is_some_and(|pending| pending.open(address))
}

/// To be called before a system call gets these bytes.
pub(crate) fn touch(bytes: &[u8]) {
    if let Some(pending) = pending() {
        let start = bytes.as_ptr().addr();
        pending.open_all(start..start + bytes.len());
    }
}

/// Checks all that is left, and waits until it is done: whoever reads the memory otherwise than by touching it, or
/// wants to know that it is sound, needs that.
pub(crate) fn finish() {
    if let Some(pending) = pending() {
        pending.check_all();
        end();
    }
}

/// Memory at these addresses goes away: what is not checked yet needn't be. (In a program all goes at the same time.)
pub(crate) fn forget(ranges: &[Range<usize>]) {
    let overlap = |a: &Range<usize>| ranges.iter().any(|b| a.start < b.end && b.start < a.end);
    if let Some(pending) = pending()
        && pending.mapped.iter().any(|m| overlap(&m.range))
    {
        pending.given_up.store(true, SeqCst);
        end();
    }
}

fn end() {
    let threads = std::mem::take(&mut *THREADS.lock().unwrap_or_else(|e| e.into_inner()));
    for thread in threads {
        let _ = thread.join();
    }
    PENDING.store(null_mut(), SeqCst);
}

impl Pending {
    #[cfg(not(feature = "pulley"))]
    fn open(&self, address: usize) -> bool {
        let nth = self.mapped.partition_point(|m| m.range.end <= address);
        match self.mapped.get(nth) {
            Some(m) if m.range.start <= address => {
                self.open_chunk(nth, (address - m.range.start) / (self.chunk * PAGE));
                true
            }
            _ => false,
        }
    }

    fn open_all(&self, range: Range<usize>) {
        let first = self.mapped.partition_point(|m| m.range.end <= range.start);
        let these = self.mapped.iter().enumerate().skip(first);
        for (nth, m) in these.take_while(|(_, m)| m.range.start < range.end) {
            let from = range.start.max(m.range.start) - m.range.start;
            let to = range.end.min(m.range.end) - m.range.start;
            for chunk in from / (self.chunk * PAGE)..to.div_ceil(self.chunk * PAGE) {
                self.open_chunk(nth, chunk);
            }
        }
    }

    /// Takes chunk after chunk until all are taken.
    fn check_all(&self) {
        // Where a range's chunks begin among all.
        let mut begins = Vec::with_capacity(self.open.len());
        let mut all = 0;
        for open in &self.open {
            begins.push(all);
            all += open.len();
        }
        while !self.given_up.load(SeqCst) {
            let chunk = self.next.fetch_add(1, SeqCst);
            if chunk >= all {
                return;
            }
            let nth = begins.partition_point(|begin| *begin <= chunk) - 1;
            self.open_chunk(nth, chunk - begins[nth]);
        }
    }

    /// Checks a chunk, unless it was checked, and makes it accessible.
    fn open_chunk(&self, nth: usize, chunk: usize) {
        let (Some(m), Some(open)) = (self.mapped.get(nth), self.open.get(nth).and_then(|o| o.get(chunk))) else {
            return;
        };
        if open.load(SeqCst) == 1 {
            return;
        }
        let first = chunk * self.chunk;
        let crcs = m.crcs.iter().enumerate().skip(first).take(self.chunk);
        let mut end = m.range.start + first * PAGE;
        for (page, &crc) in crcs {
            let sound = crc_of(&m.file, m.offset + (page * PAGE) as u64) == Some(crc);
            // Another thread may have been faster, and the lease given back since.
            if !sound && open.load(SeqCst) == 0 {
                let (mut memory, mut page) = (decimal(m.page.0.into()), decimal(m.page.1 + page as u64));
                refuse(&[
                    b"wrong checksum of page ",
                    trim(&mut page),
                    b" of memory ",
                    trim(&mut memory),
                ]);
            }
            end += PAGE;
        }
        let start = m.range.start + first * PAGE;
        // SAFETY: the range is mapped, readable and writable but for `begin`; it belongs to a memory that isn't dropped
        // before `forget`.
        let done = unsafe {
            let place = std::ptr::with_exposed_provenance_mut(start);
            mprotect(place, end - start, MprotectFlags::READ | MprotectFlags::WRITE)
        };
        match done {
            Ok(()) => open.store(1, SeqCst),
            Err(_) => refuse(&[b"there is no memory for it"]),
        }
    }
}

/// CRC-32 of a page of a file. Async-signal-safe.
fn crc_of(file: &File, offset: u64) -> Option<u32> {
    let mut crc = crc32fast::Hasher::new();
    // On the stack, which is a signal's perhaps.
    let mut buffer = [0u8; 16 << 10];
    for part in 0..PAGE / buffer.len() {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + (part * buffer.len() + done) as u64;
            let rest = &mut buffer[done..];
            // SAFETY: the buffer is as long as is said.
            let n = unsafe {
                libc::pread(
                    file.as_raw_fd(),
                    rest.as_mut_ptr().cast(),
                    rest.len(),
                    at as libc::off_t,
                )
            };
            match usize::try_from(n) {
                Ok(0) => return None,
                Ok(n) => done += n,
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        crc.update(&buffer);
    }
    Some(crc.finalize())
}

/// Ends the process at once.
fn refuse(why: &[&[u8]]) -> ! {
    let before: &[u8] = b"Error: the program is ended, because it needs a page of the snapshot that can't be had: ";
    for part in [before].iter().chain(why).chain(&[&b"\n"[..]]) {
        // SAFETY: async-signal-safe; the bytes are there.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(BAD_SNAPSHOT) }
}

/// A number's digits, at the end.
fn decimal(mut number: u64) -> [u8; 20] {
    let mut digits = [b'0'; 20];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// Without leading zeros.
fn trim(digits: &mut [u8; 20]) -> &[u8] {
    let zeros = digits.iter().take_while(|d| **d == b'0').count();
    &digits[zeros.min(19)..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::memory::{Memory, RESERVED};

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for number in [0, 7, 10, 65_536, u64::MAX] {
            assert_eq!(trim(&mut decimal(number)), number.to_string().as_bytes());
        }
    }

    /// One test: what is pending belongs to the process.
    #[test]
    fn what_is_touched_is_checked_first_and_the_rest_soon() {
        let pages = 3 * CHUNK;
        let bytes: Vec<u8> = (0..pages * PAGE).map(|n| (n / PAGE * 7 + n) as u8).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        for finished in [false, true] {
            let mut memory = Memory::reserve(1, RESERVED).unwrap();
            memory.grow_to(bytes.len() as u64).unwrap();
            assert!(memory.map_file(&*file, 0, 0, bytes.len() as u64).unwrap());
            let mapped = |range: Range<usize>| Mapped {
                range,
                file: file.clone(),
                offset: 0,
                crcs: bytes.chunks(PAGE).map(crc32fast::hash).collect(),
                page: (0, 0),
            };
            begin(memory.mapped_addresses().into_iter().map(mapped).collect()).unwrap();
            // Twice, some of it twice, and to its end.
            for range in [5..6, PAGE..CHUNK * PAGE + 1, bytes.len() - 1..bytes.len()] {
                touch(&memory.bytes()[range.clone()]);
                assert_eq!(memory.bytes()[range.clone()], bytes[range]);
            }
            assert!(!open(memory.base().addr().wrapping_sub(1)));
            assert!(!open(memory.base().addr() + bytes.len()));
            if finished {
                finish();
                assert!(memory.bytes() == bytes && pending().is_none());
                memory.bytes_mut()[7] = 1;
            }
            drop(memory);
            assert!(pending().is_none());
        }
    }
}
