//! Which pages of fresh mappings have ever been touched: the others are zero, and needn't be read to know it.
//!
//! The kernel tells in `/proc/self/pagemap`. It is believed only after a probe: where addresses aren't what they seem
//! (emulators), or the file can't be read, every page counts as touched.

use super::super::machine;
use super::super::space::Space;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// Bytes of the page map per page of the machine.
const ENTRY: usize = 8;

/// Bits of an entry that mean that the page holds something: present, or swapped out.
const HELD: u64 = 3 << 62;

/// Pages of the probe, and which of them it touches.
const PROBE: usize = 32;
const TOUCHED: u32 = 0b1011_0010_0111_0001_1000_1101_0100_1010;

/// The process's page map, if it tells the truth.
fn page_map() -> Option<&'static File> {
    static MAP: OnceLock<Option<File>> = OnceLock::new();
    MAP.get_or_init(|| File::open("/proc/self/pagemap").ok().filter(|map| probe(map).is_some()))
        .as_ref()
}

/// Does the map tell which pages of a fresh range were touched?
fn probe(map: &File) -> Option<()> {
    let page = machine::page_size();
    let mut space = Space::reserve(PROBE * page).ok()?;
    space.allow(0..PROBE * page).ok()?;
    let address = space.start().addr() as u64;
    let mut held = [false; PROBE];
    let mut look = |expected: u32| {
        read(map, address, &mut held)?;
        let found = held.iter().rev().fold(0, |bits, &h| bits << 1 | u32::from(h));
        (found == expected).then_some(())
    };
    look(0)?;
    for n in (0..PROBE).filter(|n| TOUCHED >> n & 1 == 1) {
        // SAFETY: the page lies in the space and was made writable.
        unsafe { space.start().wrapping_add(n * page).write_volatile(1) };
    }
    look(TOUCHED)
}

/// For each of the machine's pages from an address on: does it hold something?
fn read(map: &File, address: u64, held: &mut [bool]) -> Option<()> {
    let page = machine::page_size() as u64;
    let mut buffer = [0; 1 << 14];
    let mut at = address / page * ENTRY as u64;
    for chunk in held.chunks_mut(buffer.len() / ENTRY) {
        let bytes = &mut buffer[..chunk.len() * ENTRY];
        map.read_exact_at(bytes, at).ok()?;
        for (held, entry) in chunk.iter_mut().zip(bytes.as_chunks::<ENTRY>().0) {
            *held = u64::from_ne_bytes(*entry) & HELD != 0;
        }
        at += bytes.len() as u64;
    }
    Some(())
}

/// For each of the machine's pages in a range of this process, whose ends are multiples of its page size: was it ever
/// touched? A mapped file's pages hold its bytes before they are. `None` if that can't be told.
pub(crate) fn touched(range: Range<u64>) -> Option<Vec<bool>> {
    let map = page_map()?;
    let pages = (range.end - range.start) / machine::page_size() as u64;
    let mut held = vec![false; usize::try_from(pages).ok()?];
    read(map, range.start, &mut held)?;
    Some(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_map_that_lies_is_not_believed() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(probe(&file).is_none());
        file.write_all(&[0xff; 64]).unwrap();
        assert!(probe(&file).is_none());
        assert!(probe(&File::open("/dev/zero").unwrap()).is_none());
    }
}
