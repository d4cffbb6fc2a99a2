//! Which pages of a linear memory have ever been touched: the others are zero, and needn't be read to know it.
//!
//! The kernel tells in `/proc/self/pagemap`. It is believed only after a probe: where addresses aren't what they seem
//! (emulators), or the file can't be read, every page counts as touched.

use crate::instance::memory::{Memory, WASM_PAGE};
use crate::instance::space::Space;
use std::fs::File;
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
    let page = rustix::param::page_size();
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
    let page = rustix::param::page_size() as u64;
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

/// For each WebAssembly page of a memory: may it hold anything but zeros? `None` if that can't be told.
pub fn touched(memory: &Memory) -> Option<Vec<bool>> {
    let map = page_map()?;
    let page = rustix::param::page_size() as u64;
    let mut held = vec![false; usize::try_from(memory.size() / page).ok()?];
    read(map, memory.base().addr() as u64, &mut held)?;
    let per_page = (WASM_PAGE / page) as usize;
    let mut touched: Vec<bool> = held.chunks(per_page).map(|pages| pages.contains(&true)).collect();
    // A mapped file's pages hold its bytes before they are touched.
    for range in memory.mapped() {
        touched[(range.start / WASM_PAGE) as usize..range.end.div_ceil(WASM_PAGE) as usize].fill(true);
    }
    Some(touched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn touched_and_mapped_pages_are_told_from_others() {
        let mut memory = Memory::reserve(1, crate::instance::memory::RESERVED).unwrap();
        memory.grow_to(6 * WASM_PAGE).unwrap();
        memory.bytes_mut()[WASM_PAGE as usize] = 0;
        memory.bytes_mut()[4 * WASM_PAGE as usize - 1] = 1;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![5; WASM_PAGE as usize]).unwrap();
        assert!(memory.map_file(&file, 0, 4 * WASM_PAGE, WASM_PAGE).unwrap());
        // Where there is no page map (or an emulator), nothing is claimed.
        if let Some(touched) = touched(&memory) {
            assert_eq!(touched, [false, true, false, true, true, false]);
        }
    }

    #[test]
    fn a_map_that_lies_is_not_believed() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(probe(&file).is_none());
        file.write_all(&[0xff; 64]).unwrap();
        assert!(probe(&file).is_none());
        assert!(probe(&File::open("/dev/zero").unwrap()).is_none());
    }
}
