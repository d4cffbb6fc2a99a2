//! What the program last left of each file that it has changed: by this, what others have changed since is told from
//! what it has.
//!
//! The table is a file that is mapped, so that noting something after every write costs nothing to speak of, and so
//! that it is there after the process was killed. An entry is four little-endian `u64`:
//!
//! | what | meaning |
//! |------|---------|
//! | size | the file's size in bytes |
//! | after | when the program's last change of it was over, in nanoseconds since 1970 |
//! | busy | when the change began that is under way, or 0 |
//! | skewed | 1 if the file system's clock is not this machine's: then times say nothing |

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Length of an entry in bytes.
const ENTRY: usize = 32;

/// Bytes that are mapped at once: a multiple of every machine's page.
const STEP: usize = 64 << 10;

/// How long a change that was under way when the program was killed may have gone on, in nanoseconds.
const LONGEST: u64 = 10_000_000_000;

/// How the program last left a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its size in bytes.
    pub size: u64,
    /// When the last change was over, in nanoseconds since 1970.
    pub after: u64,
    /// When the change began that was under way, or 0.
    pub busy: u64,
    /// The host's clock is behind the file system's, so that times don't tell whose a change is: only the size does.
    pub skewed: bool,
}

impl Entry {
    /// Is a file that has this size now, and was last changed at this time, still as the program left it? Until `ours`
    /// it was changed by nobody else.
    pub(super) fn fits(&self, size: u64, changed: u64, ours: u64) -> bool {
        match self.busy {
            0 => size == self.size && (self.skewed || changed <= self.after.max(ours)),
            begun => self.skewed || changed <= begun.saturating_add(LONGEST),
        }
    }
}

/// The time now, in nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000) + now.tv_nsec.unsigned_abs() as u64
}

/// The table of one journal, mapped: how the program last left each file, by the file's number in the journal.
#[derive(Debug)]
pub(super) struct Seen {
    file: File,
    /// Addresses of the parts that are mapped, in order.
    parts: Vec<usize>,
}

impl Seen {
    /// An empty table in a new file.
    pub(super) fn new(file: File) -> Seen {
        Seen {
            file,
            parts: Vec::new(),
        }
    }

    /// Makes room for an entry, so that noting changes can't fail later.
    pub(super) fn reserve(&mut self, index: u32) -> io::Result<()> {
        while index as usize >= self.parts.len() * (STEP / ENTRY) {
            let at = (self.parts.len() * STEP) as u64;
            // Written, not only made longer: a full disk is an error here, and no signal later.
            self.file.write_all_at(&vec![0; STEP], at)?;
            let access = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
            let part = unsafe { mmap(null_mut(), STEP, access, MapFlags::SHARED, &self.file, at) }?;
            self.parts.push(part.expose_provenance());
        }
        Ok(())
    }

    fn word(&self, index: u32, word: usize) -> Option<&AtomicU64> {
        let (part, at) = (
            index as usize / (STEP / ENTRY),
            index as usize % (STEP / ENTRY) * ENTRY + 8 * word,
        );
        let start: *const u8 = std::ptr::with_exposed_provenance(*self.parts.get(part)?);
        // SAFETY: `at` and the seven bytes after it lie in the part, which stays mapped as long as `self` lives; it is
        // aligned, and this process uses it by atomic accesses only.
        Some(unsafe { &*start.wrapping_add(at).cast::<AtomicU64>() })
    }

    fn set(&self, index: u32, word: usize, value: u64) {
        if let Some(place) = self.word(index, word) {
            place.store(value.to_le(), Relaxed);
        }
    }

    /// Notes that a change begins: until it is over, every change counts as the program's.
    pub(super) fn begin(&self, index: u32) {
        self.set(index, 2, now());
    }

    /// Notes that it is over, and left the file with this size in bytes: later changes are others'.
    pub(super) fn done(&self, index: u32, size: u64) {
        self.set(index, 0, size);
        self.set(index, 1, now());
        self.set(index, 2, 0);
    }

    /// Notes that a file's times don't tell whose a change is.
    pub(super) fn skew(&self, index: u32) {
        self.set(index, 3, 1);
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        for &part in &self.parts {
            // SAFETY: the part was mapped by `reserve`, and no reference into it outlives `self`.
            let _ = unsafe { munmap(std::ptr::with_exposed_provenance_mut(part), STEP) };
        }
    }
}

/// All entries of a table.
pub(super) fn read(file: &File) -> io::Result<Vec<Entry>> {
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX) / ENTRY * ENTRY;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    let entry = |e: &[u8; ENTRY]| {
        let word = |n: usize| u64::from_le_bytes(e[8 * n..8 * n + 8].try_into().unwrap_or_default());
        Entry {
            size: word(0),
            after: word(1),
            busy: word(2),
            skewed: word(3) != 0,
        }
    };
    Ok(bytes.as_chunks::<ENTRY>().0.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_in_the_file() {
        let file = tempfile::tempfile().unwrap();
        let mut seen = Seen::new(file.try_clone().unwrap());
        for index in [0, 5000] {
            seen.reserve(index).unwrap();
            seen.begin(index);
            assert!(read(&file).unwrap()[index as usize].busy > 0);
            seen.done(index, 77);
            let entry = read(&file).unwrap()[index as usize];
            assert_eq!((entry.size, entry.busy, entry.skewed), (77, 0, false));
            assert!(
                entry.fits(77, entry.after, 0)
                    && !entry.fits(78, entry.after, 0)
                    && !entry.fits(77, entry.after + 1, 0)
            );
            assert!(entry.fits(77, entry.after + 1, entry.after + 1));
            seen.skew(index);
            assert!(read(&file).unwrap()[index as usize].fits(77, u64::MAX, 0));
        }
    }
}
