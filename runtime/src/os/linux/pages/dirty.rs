//! Which pages of some ranges have been written to since one looked last.
//!
//! The kernel (6.7 and later) keeps count by itself: the ranges are registered with a userfaultfd(2) for asynchronous
//! write protection, and one ioctl on the page map tells which pages have been written to and protects them again. A
//! first write to a protected page costs about a microsecond, whoever writes: compiled code, the runtime, or the kernel
//! in a system call. It is believed only after a probe; without it (older kernels, emulators, sandboxes) whoever asks
//! has to read everything.
//!
//! A page is never reported as unwritten that was written: what is mapped anew in a range isn't registered, and then
//! [`Tracker::written`] fails.

use super::super::machine;
use super::super::space::Space;
use rustix::mm::UserfaultfdFlags;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

/// userfaultfd(2): faults of the kernel, for which one needs a privilege, are not asked for.
const USER_MODE_ONLY: u32 = 1;
/// ioctl_userfaultfd(2): the version of the interface.
const UFFD_API: u64 = 0xaa;
/// Writes are noted, and nobody waits for an answer; pages that aren't there yet count, too.
const WP_ASYNC: u64 = 1 << 15;
const WP_UNPOPULATED: u64 = 1 << 13;
const UFFDIO_API: u64 = request(0xaa, 0x3f, size_of::<Api>());
const UFFDIO_REGISTER: u64 = request(0xaa, 0, size_of::<Register>());
const REGISTER_WP: u64 = 1 << 1;
/// Linux's Documentation/admin-guide/mm/pagemap.rst.
const PAGEMAP_SCAN: u64 = request(b'f', 16, size_of::<Scan>());
/// Protect what matches; fail where that isn't possible.
const WP_MATCHING: u64 = 1;
const CHECK_WPASYNC: u64 = 1 << 1;
const WRITTEN: u64 = 1 << 1;

/// Regions that one ioctl returns, at most.
const REGIONS: usize = 512;

/// Pages of the probe.
const PROBE: usize = 16;

/// The number of an ioctl that reads and writes a structure (`_IOWR`).
const fn request(group: u8, number: u8, size: usize) -> u64 {
    3 << 30 | (size as u64) << 16 | (group as u64) << 8 | number as u64
}

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// What keeps count, as long as it lives.
#[derive(Debug)]
pub(crate) struct Tracker {
    fault: OwnedFd,
    map: File,
}

impl Tracker {
    /// One that keeps count of nothing yet; `None` where the kernel can't, or doesn't tell the truth.
    pub(crate) fn new() -> Option<Tracker> {
        static TRUE: OnceLock<bool> = OnceLock::new();
        TRUE.get_or_init(|| Tracker::open().and_then(|tracker| tracker.probe()).unwrap_or(false))
            .then(|| Tracker::open().ok())
            .flatten()
    }

    fn open() -> io::Result<Tracker> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY);
        // SAFETY: nothing is registered with it yet; what is will never have to be answered (see `UFFDIO_API`).
        let fault = unsafe { rustix::mm::userfaultfd(flags) }?;
        let map = File::open("/proc/self/pagemap")?;
        let mut api = Api {
            api: UFFD_API,
            features: WP_ASYNC | WP_UNPOPULATED,
            ioctls: 0,
        };
        ioctl(&fault, UFFDIO_API, &mut api)?;
        Ok(Tracker { fault, map })
    }

    /// Keeps count of a range of addresses, whose ends are multiples of the page size and in which only memory of this
    /// process is mapped. All of it counts as written to until one looks, also what was never touched.
    pub(crate) fn add(&self, range: &Range<usize>) -> io::Result<()> {
        let mut register = Register {
            start: range.start as u64,
            len: range.len() as u64,
            mode: REGISTER_WP,
            ioctls: 0,
        };
        ioctl(&self.fault, UFFDIO_REGISTER, &mut register).map(drop)
    }

    /// Tells which parts of a range have been written to since this was last asked of them. After an error it isn't
    /// known of any.
    pub(crate) fn written(&self, range: &Range<usize>, mut tell: impl FnMut(Range<usize>)) -> io::Result<()> {
        let mut regions = [Region::default(); REGIONS];
        let end = range.end as u64;
        let mut at = range.start as u64;
        while at < end {
            let mut scan = Scan {
                size: size_of::<Scan>() as u64,
                flags: WP_MATCHING | CHECK_WPASYNC,
                start: at,
                end,
                vec: regions.as_mut_ptr().expose_provenance() as u64,
                vec_len: REGIONS as u64,
                category_mask: WRITTEN,
                return_mask: WRITTEN,
                ..Scan::default()
            };
            let found = ioctl(&self.map, PAGEMAP_SCAN, &mut scan)?;
            for region in regions.get(..found).ok_or(io::ErrorKind::InvalidData)? {
                tell(region.start as usize..region.end as usize);
            }
            if scan.walk_end <= at || scan.walk_end > end {
                return Err(io::ErrorKind::InvalidData.into());
            }
            at = scan.walk_end;
        }
        Ok(())
    }

    /// Is every write seen, and nothing else?
    fn probe(&self) -> io::Result<bool> {
        let page = machine::page_size();
        let mut space = Space::reserve(PROBE * page)?;
        let start = space.start().addr();
        // As a memory that grows: first there, then accessible.
        self.add(&(start..start + PROBE * page))?;
        space.allow(0..PROBE * page)?;
        let look = || -> io::Result<u32> {
            let mut seen = 0;
            self.written(&(start..start + PROBE * page), |range| {
                for n in (range.start - start) / page..(range.end - start) / page {
                    seen |= 1 << n;
                }
            })?;
            Ok(seen)
        };
        let write = |pages: u32| {
            for n in (0..PROBE).filter(|n| pages >> n & 1 == 1) {
                // SAFETY: the page lies in the space and was made writable.
                unsafe { space.start().wrapping_add(n * page).write_volatile(1) };
            }
        };
        // At first everything counts.
        let mut as_expected = look()? == (1 << PROBE) - 1;
        for pages in [0b1001_0110_1111_0001, 0b0001_1000_0000_0011, 0] {
            write(pages);
            as_expected &= look()? == pages;
        }
        // The kernel writes, into a page that is protected, and into one that isn't there yet.
        for n in [0, 1, 3] {
            // SAFETY: as above; no other reference to the page exists.
            let bytes = unsafe { std::slice::from_raw_parts_mut(space.start().wrapping_add(n * page), page) };
            File::open("/dev/zero")?.read_exact(bytes)?;
        }
        Ok(as_expected && look()? == 0b1011 && look()? == 0)
    }
}

fn ioctl<T>(on: &impl AsRawFd, request: u64, argument: &mut T) -> io::Result<usize> {
    // SAFETY: the requests above take a structure of this type, and what it points to lives until the call returns.
    let done = unsafe { libc::ioctl(on.as_raw_fd(), request as _, &raw mut *argument) };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A space of so many pages, and what keeps count of it; `None` where the kernel can't.
    fn tracked(pages: usize) -> Option<(Space, Tracker, Range<usize>)> {
        let tracker = Tracker::new()?;
        let len = pages * machine::page_size();
        let space = Space::reserve(len).unwrap();
        let range = space.start().addr()..space.start().addr() + len;
        tracker.add(&range).unwrap();
        Some((space, tracker, range))
    }

    fn write(space: &Space, page: usize) {
        let place = space.start().wrapping_add(page * machine::page_size());
        // SAFETY: every caller has made the page writable.
        unsafe { place.write_volatile(place.read_volatile().wrapping_add(1)) };
    }

    fn look(tracker: &Tracker, range: &Range<usize>) -> Vec<usize> {
        let (page, mut seen) = (machine::page_size(), Vec::new());
        let tell = |r: Range<usize>| seen.extend((r.start - range.start) / page..(r.end - range.start) / page);
        tracker.written(range, tell).unwrap();
        seen
    }

    #[test]
    fn every_written_page_is_told_once() {
        const PAGES: usize = 5000;
        let Some((mut space, tracker, range)) = tracked(PAGES) else {
            return eprintln!("not here");
        };
        space.allow(0..PAGES * machine::page_size()).unwrap();
        assert_eq!(look(&tracker, &range).len(), PAGES);
        // More regions than one ioctl returns.
        let odd: Vec<usize> = (0..PAGES).filter(|n| n % 2 == 1).collect();
        for _ in 0..3 {
            odd.iter().for_each(|&n| write(&space, n));
            assert_eq!(look(&tracker, &range), odd);
        }
        assert!(look(&tracker, &range).is_empty());
        // A copy of the process changes nothing.
        let _alone = super::super::super::fork::ONE_AT_A_TIME.lock();
        let child = super::super::super::fork::fork(false, || {
            write(&space, 3);
            vec![]
        });
        write(&space, 5);
        let mut child = child.unwrap();
        child.result().unwrap();
        child.reap().unwrap();
        assert_eq!(look(&tracker, &range), [5]);
    }

    #[test]
    fn file_pages_count_when_they_are_written_and_what_is_mapped_anew_is_not_believed() {
        let page = machine::page_size();
        let Some((mut space, tracker, range)) = tracked(8) else {
            return eprintln!("not here");
        };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![5; 4 * page]).unwrap();
        space.allow(0..8 * page).unwrap();
        space.map_file(0..4 * page, &file, 0).unwrap();
        assert!(
            tracker.written(&range, |_| ()).is_err(),
            "it was mapped after it was added"
        );
        tracker.add(&range).unwrap();
        look(&tracker, &range);
        write(&space, 1);
        write(&space, 6);
        assert_eq!(look(&tracker, &range), [1, 6]);
        write(&space, 1);
        assert_eq!(look(&tracker, &range), [1]);
    }
}
