//! Memory that is mapped from a snapshot's file never shows what others do to that file.
//!
//! A page of a private mapping shows what is written to the file until the page itself is written, and goes away when
//! the file is shortened, even then: whoever overwrites a snapshot in place would change the memory of a program that
//! goes on from it, or kill the program. So a file is mapped only under a *read lease* (fcntl(2), `F_SETLEASE`): nobody
//! has it open for writing, and the kernel lets nobody open it so, or shorten it, before the lease is given back.
//! Someone who wants to waits, and the kernel sends `SIGIO`: then the program stands still, everything mapped is
//! replaced by a copy, and the lease is given back.
//!
//! The kernel waits 45 seconds (`/proc/sys/fs/lease-break-time`). If that wasn't enough, the lease can't be given back
//! any more: then nobody knows what the copy is of, and the program ends with an error. It can't have gone on with a
//! changed memory before that: the signal comes first, also if the program was stopped or frozen meanwhile.

use super::{fork, signals};
use dunlin_interface::exit::FAILED;
use rustix::mm::{MapFlags, MremapFlags, ProtFlags, mmap_anonymous, mremap_fixed, munmap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::SeqCst};

/// File systems on which nobody gets past a lease, by their magic numbers: ext2 to ext4, XFS, Btrfs, tmpfs, F2FS. Files
/// of others can be changed from elsewhere: by another machine, or below an overlay.
const LOCAL: [u64; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010];

/// Set once someone has waited for a lease.
static ASKED: AtomicBool = AtomicBool::new(false);

/// The mapped ranges and their leases, or null. Whoever swaps the pointer out gives the leases back.
static HELD: AtomicPtr<Held> = AtomicPtr::new(null_mut());

#[derive(Debug)]
struct Held {
    leases: Leases,
    /// Addresses.
    ranges: Vec<Range<usize>>,
}

/// Files that nobody can change, because this process has leases on them.
#[derive(Debug, Default)]
pub(crate) struct Leases(Vec<File>);

impl Leases {
    /// Takes a lease on a file; `false` if it can't be had, or doesn't mean what it should.
    pub(crate) fn take(&mut self, file: &File) -> bool {
        self.try_take(file).unwrap_or(false)
    }

    fn try_take(&mut self, file: &File) -> io::Result<bool> {
        if !LOCAL.contains(&(rustix::fs::fstatfs(file)?.f_type as u64)) {
            return Ok(false);
        }
        let file = file.try_clone()?;
        // Before there is a lease that someone could wait for: by default the signal would end the process. For good:
        // it may come late.
        signals::handle_and_go_on(libc::SIGIO, on_break)?;
        if !lease(&file, libc::F_RDLCK) {
            return Ok(false);
        }
        self.0.push(file);
        Ok(true)
    }

    /// Keeps the leases as long as ranges of addresses are mapped from these files: until someone wants one of them, or
    /// until [`forget`].
    pub(crate) fn keep(self, ranges: Vec<Range<usize>>) {
        if self.0.is_empty() {
            return;
        }
        let held = Box::into_raw(Box::new(Held { leases: self, ranges }));
        let before = HELD.swap(held, SeqCst);
        debug_assert!(before.is_null(), "a process resumes one program");
        if ASKED.load(SeqCst) {
            hand_back();
        }
    }
}

/// Sets or gives back a lease; `false` if that isn't possible, or if it was taken away.
fn lease(file: &File, kind: i32) -> bool {
    // SAFETY: passes numbers only.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
}

/// Someone wants to write to a file, and waits. Other threads that live as long as the program block signals: this is
/// the one that runs it. Everything here is async-signal-safe.
extern "C" fn on_break(_: i32) {
    // SAFETY: the address of this thread's own `errno`, which the interrupted code may be about to read.
    let errno = unsafe { &mut *libc::__errno_location() };
    let before = *errno;
    hand_back();
    *errno = before;
}

fn hand_back() {
    ASKED.store(true, SeqCst);
    let held = HELD.swap(null_mut(), SeqCst);
    if held.is_null() {
        return;
    }
    // SAFETY: a pointer in `HELD` is one of a box that was leaked for it, and it is not there any more. The box is not
    // freed: an allocation may have been interrupted.
    let held = unsafe { &*held };
    for range in &held.ranges {
        if replace(range.clone()).is_err() {
            end(
                "the snapshot that the program was resumed from is being overwritten, and there is no memory for a copy of it",
            );
        }
    }
    // It has the same mappings.
    fork::kill_copies();
    if !held.leases.0.iter().all(|file| lease(file, libc::F_UNLCK)) {
        end("the snapshot that the program was resumed from was overwritten before the program had a copy of it");
    }
}

/// Replaces a mapped range by a copy of it. Nobody accesses it meanwhile.
fn replace(range: Range<usize>) -> io::Result<()> {
    let len = range.len();
    let place = std::ptr::with_exposed_provenance_mut::<u8>(range.start);
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
    let copy = unsafe { mmap_anonymous(null_mut(), len, protection, flags) }?;
    // SAFETY: both are mapped, `len` bytes long, and apart; the only thread that uses the memory is this one.
    unsafe { std::ptr::copy_nonoverlapping(place, copy.cast(), len) };
    // SAFETY: the range belongs to a memory (see `keep`), and holds the same bytes afterwards.
    if let Err(e) = unsafe { mremap_fixed(copy, len, len, MremapFlags::MAYMOVE, place.cast()) } {
        // SAFETY: it was mapped above and nothing refers to it.
        let _ = unsafe { munmap(copy, len) };
        return Err(e.into());
    }
    Ok(())
}

/// Ends the process at once.
fn end(why: &str) -> ! {
    for part in ["Error: ", why, "\n"] {
        // SAFETY: async-signal-safe; the bytes are there.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(FAILED) }
}

/// Tells whether anything is mapped under a lease.
pub(crate) fn is_holding() -> bool {
    !HELD.load(SeqCst).is_null()
}

/// Gives the leases back if any of these ranges is mapped under them: they are about to go away.
pub(crate) fn forget(ranges: &[Range<usize>]) {
    let held = HELD.swap(null_mut(), SeqCst);
    if held.is_null() {
        return;
    }
    // SAFETY: as in `hand_back`; whoever has swapped the pointer out owns the box.
    let held = unsafe { Box::from_raw(held) };
    let overlap = |a: &Range<usize>| ranges.iter().any(|b| a.start < b.end && b.start < a.end);
    // Others are still mapped. (In a program all go at the same time.)
    if !held.ranges.iter().any(overlap) {
        held.leases.keep(held.ranges);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::memory::{Memory, RESERVED, WASM_PAGE};
    use dunlin_migrate::snapshot::Origin;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};

    /// A file of pages that say 5, mapped, with a lease on it; `None` where leases can't be had (an emulator, perhaps).
    fn mapped(dir: &tempfile::TempDir) -> Option<(Memory, Leases, PathBuf)> {
        let path = dir.path().join("file");
        std::fs::write(&path, vec![5; 8 * WASM_PAGE as usize]).unwrap();
        let file = File::open(&path).unwrap();
        let mut leases = Leases::default();
        if !leases.take(&file) {
            return None;
        }
        let mut memory = Memory::reserve(1, RESERVED).unwrap();
        memory.grow_to(9 * WASM_PAGE).unwrap();
        assert!(memory.map_file(&file, 0, WASM_PAGE, 8 * WASM_PAGE).unwrap());
        memory.bytes_mut()[2 * WASM_PAGE as usize] = 6;
        Some((memory, leases, path))
    }

    fn try_write(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)
    }

    #[track_caller]
    fn untouched(memory: &Memory) {
        let page = WASM_PAGE as usize;
        let (zeros, rest) = memory.bytes().split_at(page);
        assert!(zeros.iter().all(|&b| b == 0) && rest[page] == 6);
        assert!(rest.iter().enumerate().all(|(n, &b)| b == 5 || n == page));
    }

    /// One test: leases and signals belong to the process.
    #[test]
    fn nobody_writes_before_the_memory_is_a_copy() {
        let _alone = fork::ONE_AT_A_TIME.lock();
        let dir = tempfile::tempdir().unwrap();
        let Some((memory, leases, path)) = mapped(&dir) else {
            return;
        };
        // Asked before the program runs.
        assert_eq!(try_write(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(ASKED.swap(false, SeqCst), "the signal came");
        ASKED.store(true, SeqCst);
        leases.keep(memory.mapped_addresses());
        assert!(HELD.load(SeqCst).is_null());
        std::fs::write(&path, []).unwrap();
        untouched(&memory);

        // Asked while it runs: by one who overwrites, by one who shortens.
        for shorten in [false, true] {
            ASKED.store(false, SeqCst);
            let (memory, leases, path) = mapped(&dir).unwrap();
            leases.keep(memory.mapped_addresses());
            assert!(!HELD.load(SeqCst).is_null());
            match shorten {
                true => {
                    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
                    // SAFETY: a path that ends with a NUL.
                    assert_eq!(unsafe { libc::truncate(path.as_ptr(), 0) }, 0);
                }
                false => {
                    use std::os::unix::fs::FileExt;
                    let file = OpenOptions::new().write(true).open(&path).unwrap();
                    file.write_all_at(&[9; 3 << 16], 1).unwrap();
                }
            }
            assert!(HELD.load(SeqCst).is_null());
            untouched(&memory);
        }

        // A copy of the process would see what is written: it goes first.
        ASKED.store(false, SeqCst);
        let (memory, leases, path) = mapped(&dir).unwrap();
        leases.keep(memory.mapped_addresses());
        let mut copy = fork::fork(is_holding(), || {
            std::thread::sleep(std::time::Duration::from_secs(60));
            vec![memory.bytes()[WASM_PAGE as usize]]
        })
        .unwrap();
        std::fs::write(&path, []).unwrap();
        assert!(copy.result().unwrap().is_empty() && copy.reap().is_err());
        untouched(&memory);

        // A file that someone has open for writing is not to be mapped, nor is one with holes.
        let writer = try_write(&path).unwrap();
        assert!(!Leases::default().take(&File::open(&path).unwrap()));
        writer.set_len(1 << 30).unwrap();
        assert!(Origin::is_sparse(&writer));
        drop(writer);

        // With the memory goes the lease.
        ASKED.store(false, SeqCst);
        let (memory, leases, path) = mapped(&dir).unwrap();
        leases.keep(memory.mapped_addresses());
        drop(memory);
        assert!(HELD.load(SeqCst).is_null());
        drop(try_write(&path).unwrap());
    }
}
