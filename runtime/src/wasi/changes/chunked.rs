//! A file's contents by chunk: reads only what may have changed, and never a hole.

use crate::wasi::changes::identity::hash_range;
use dunlin_migrate::state::files::{CHUNK, Chunk, Content, ContentHash};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Ranges of chunks remembered of one file, at most. Beyond that all of it counts as changed.
const MOST_RANGES: usize = 1 << 14;

/// Numbers of chunks: ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::wasi) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds every chunk that a range of bytes lies in.
    pub(in crate::wasi) fn add_bytes(&mut self, at: u64, len: u64) {
        if len > 0 {
            let last = at.saturating_add(len - 1) / CHUNK;
            self.add(at / CHUNK..last.saturating_add(1));
        }
    }

    /// Adds every chunk from a byte to the end of the file, however long it is.
    pub(in crate::wasi) fn add_from(&mut self, at: u64) {
        self.add(at / CHUNK..u64::MAX);
    }

    fn add(&mut self, mut new: Range<u64>) {
        // Those that overlap or touch become one with it. Nearly always there is one, or none.
        while let Some((&start, &end)) = self.0.range(..=new.end).next_back() {
            if end < new.start {
                break;
            }
            if start <= new.start && new.end <= end {
                return;
            }
            self.0.remove(&start);
            new = new.start.min(start)..new.end.max(end);
        }
        if self.0.len() >= MOST_RANGES {
            self.0.clear();
            new = 0..u64::MAX;
        }
        self.0.insert(new.start, new.end);
    }

    pub(in crate::wasi) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(&start, &end)| start..end)
    }
}

/// The chunks of a file that aren't zero, with their numbers, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::wasi) struct List {
    pub(in crate::wasi) len: u64,
    chunks: Vec<(u64, ContentHash)>,
}

impl List {
    /// Reads a file that has `size` bytes. `file` must be open for reading, and its position is moved.
    pub(in crate::wasi) fn read(file: &File, size: u64) -> io::Result<List> {
        let mut all = Ranges::default();
        all.add_from(0);
        List::default().renewed(file, size, all)
    }

    /// The list of a file that has `size` bytes now and was as in this list before chunks in `dirty` changed. Only
    /// those, and what its size tells, are read.
    pub(in crate::wasi) fn renewed(&self, file: &File, size: u64, mut dirty: Ranges) -> io::Result<List> {
        if size != self.len {
            dirty.add_from(size.min(self.len));
        }
        let end = size.div_ceil(CHUNK);
        let mut chunks = Vec::with_capacity(self.chunks.len() + 1);
        let mut old = &self.chunks[..];
        for range in dirty.iter() {
            let (before, from) = old.split_at(old.partition_point(|c| c.0 < range.start));
            chunks.extend(before);
            old = &from[from.partition_point(|c| c.0 < range.end)..];
            read_range(file, size, range.start..range.end.min(end), &mut chunks)?;
        }
        chunks.extend(old);
        Ok(List { len: size, chunks })
    }

    /// Of a file with these contents; `None` if they are cut at other places.
    pub(in crate::wasi) fn of(content: &Content, chunks: &[Chunk]) -> Option<List> {
        let place = |(at, chunk): (u64, &Chunk)| {
            let fits = at.is_multiple_of(CHUNK) && chunk.len == CHUNK.min(content.len.saturating_sub(at));
            fits.then_some((at / CHUNK, chunk.hash))
        };
        let chunks = content.chunks(chunks).map(place).collect::<Option<_>>()?;
        Some(List {
            len: content.len,
            chunks,
        })
    }

    /// Place, hash and length of each chunk.
    pub(in crate::wasi) fn chunks(&self) -> impl Iterator<Item = (u64, ContentHash, u64)> {
        let len = self.len;
        self.chunks.iter().map(move |&(n, hash)| {
            let at = n * CHUNK;
            (at, hash, CHUNK.min(len.saturating_sub(at)))
        })
    }
}

/// Appends the chunks in a range that aren't zero.
fn read_range(file: &File, size: u64, range: Range<u64>, out: &mut Vec<(u64, ContentHash)>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK as usize];
    let mut next = range.start;
    while next < range.end {
        let Some(data) = next_data(file, next * CHUNK, size)? else {
            break;
        };
        next = data.start / CHUNK;
        let end = data.end.div_ceil(CHUNK).min(range.end);
        while next < end {
            let at = next * CHUNK;
            let bytes = &mut buffer[..CHUNK.min(size - at) as usize];
            file.read_exact_at(bytes, at)?;
            if bytes.iter().any(|&b| b != 0) {
                out.push((next, ContentHash(Sha256::digest(bytes).into())));
            }
            next += 1;
        }
    }
    Ok(())
}

/// The next bytes at or behind a place that aren't a hole; all of them where the file system doesn't tell.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    if at >= size {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.max(at),
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(at..size)),
        Err(e) => return Err(e.into()),
    };
    if start >= size {
        return Ok(None);
    }
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(size);
    Ok(Some(start..end.clamp(start + 1, size)))
}

/// Does a file consist of exactly these chunks and holes? It ends at the first difference. The file's position is
/// moved.
pub(in crate::wasi) fn has(file: &File, size: u64, content: &Content, chunks: &[Chunk]) -> io::Result<bool> {
    if size != content.len {
        return Ok(false);
    }
    let mut end = 0;
    for (at, chunk) in content.chunks(chunks) {
        let mut hash = Sha256::new();
        if !is_zero(file, end..at)? {
            return Ok(false);
        }
        hash_range(&mut hash, file, at, chunk.len)?;
        if hash.finalize()[..] != chunk.hash.0 {
            return Ok(false);
        }
        end = at + chunk.len;
    }
    is_zero(file, end..size)
}

fn is_zero(file: &File, range: Range<u64>) -> io::Result<bool> {
    let mut at = range.start;
    let mut buffer = Vec::new();
    while let Some(data) = next_data(file, at, range.end)? {
        buffer.resize(CHUNK.min(data.end - data.start) as usize, 0);
        file.read_exact_at(&mut buffer, data.start)?;
        if buffer.iter().any(|&b| b != 0) {
            return Ok(false);
        }
        at = data.start + buffer.len() as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_migrate::state::files::ChunkList;

    fn ranges(bytes: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        bytes.iter().for_each(|&(at, len)| ranges.add_bytes(at, len));
        ranges
    }

    #[test]
    fn ranges_are_joined() {
        let all = |r: &Ranges| r.iter().map(|r| (r.start, r.end)).collect::<Vec<_>>();
        assert_eq!(
            all(&ranges(&[(0, 0), (5, 1), (CHUNK - 1, 1), (CHUNK - 1, 2)])),
            [(0, 2)]
        );
        assert_eq!(
            all(&ranges(&[(9 * CHUNK, 1), (0, 1), (4 * CHUNK, CHUNK)])),
            [(0, 1), (4, 5), (9, 10)]
        );
        let mut r = ranges(&[
            (9 * CHUNK, 1),
            (0, 1),
            (4 * CHUNK, CHUNK),
            (6 * CHUNK, 1),
            (2 * CHUNK, 3 * CHUNK),
        ]);
        assert_eq!(all(&r), [(0, 1), (2, 5), (6, 7), (9, 10)]);
        r.add_bytes(CHUNK, 5 * CHUNK);
        assert_eq!(all(&r), [(0, 7), (9, 10)]);
        r.add_from(8 * CHUNK);
        assert_eq!(all(&r), [(0, 7), (8, u64::MAX)]);
        r.add_bytes(u64::MAX, u64::MAX);
        assert_eq!(r.0.len(), 2);
        for n in 0..2 * MOST_RANGES as u64 {
            r.add_bytes(2 * n * CHUNK, 1);
        }
        assert!(r.0.len() <= MOST_RANGES);
        let mut many = Ranges::default();
        for n in 0..2 * MOST_RANGES as u64 {
            many.add_bytes(2 * n * CHUNK, 1);
        }
        assert_eq!(all(&many), [(0, u64::MAX)]);
    }

    /// Ranges behave as a set does.
    #[test]
    fn ranges_hold_what_was_added() {
        let mut seed = 1u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for _ in 0..300 {
            let (mut ranges, mut set) = (Ranges::default(), std::collections::BTreeSet::new());
            for _ in 0..20 {
                let (a, n) = (random(50), random(9));
                ranges.add(a..a + n + 1);
                set.extend(a..a + n + 1);
            }
            let found: Vec<u64> = ranges.iter().flatten().collect();
            assert_eq!(found, set.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_what_is_dirty_is_read() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..10 * CHUNK as u32 / 4 + 5).flat_map(u32::to_le_bytes).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let size = bytes.len() as u64;
        let first = List::read(&file, size).unwrap();
        assert_eq!(first.chunks.len(), 11);
        assert_eq!(first.chunks().map(|c| c.2).sum::<u64>(), size);
        // Two changes of which one is told: the other isn't seen, for it isn't read.
        file.write_all_at(b"told", 3 * CHUNK).unwrap();
        file.write_all_at(b"not told", 5 * CHUNK).unwrap();
        let second = first.renewed(&file, size, ranges(&[(3 * CHUNK, 4)])).unwrap();
        let differ: Vec<u64> = (0..11)
            .filter(|&n| first.chunks[n as usize] != second.chunks[n as usize])
            .collect();
        assert_eq!(differ, [3]);
        // Longer: its last chunk has changed. Shorter, and shorter by whole chunks.
        for len in [size + 3 * CHUNK, size + 1, 7 * CHUNK + 1, 7 * CHUNK, 1, 0] {
            file.set_len(len).unwrap();
            let now = List::read(&file, len).unwrap();
            let mut was = second.clone();
            was.chunks.iter_mut().filter(|c| c.0 == 5).for_each(|c| {
                let bytes = &mut vec![0; CHUNK as usize];
                if file.read_exact_at(bytes, 5 * CHUNK).is_ok() {
                    c.1 = ContentHash::of(bytes);
                }
            });
            assert_eq!(was.renewed(&file, len, Ranges::default()).unwrap(), now, "{len}");
        }
    }

    #[test]
    fn holes_are_not_read() {
        let file = tempfile::tempfile().unwrap();
        let size = 1 << 43;
        file.set_len(size).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"far", (1 << 42) + 17).unwrap();
        file.write_all_at(&[0; 3 * CHUNK as usize], 1 << 40).unwrap();
        // Reading 8 TiB would take an hour.
        let list = List::read(&file, size).unwrap();
        let places: Vec<u64> = list.chunks().map(|c| c.0).collect();
        assert_eq!(places, [0, 1 << 42]);
        let mut all = ChunkList::default();
        all.add(size, list.chunks()).unwrap();
        let (chunks, contents) = all.finish();
        assert_eq!(List::of(&contents[0], &chunks), Some(list));
        let other = Chunk {
            len: 3 * CHUNK,
            ..chunks[0]
        };
        assert_eq!(List::of(&contents[0], &[other, chunks[1]]), None);
        assert!(has(&file, size, &contents[0], &chunks).unwrap());
        file.write_all_at(b"x", 1 << 41).unwrap();
        assert!(!has(&file, size, &contents[0], &chunks).unwrap());
        file.write_all_at(b"\0", 1 << 41).unwrap();
        assert!(has(&file, size, &contents[0], &chunks).unwrap());
        file.write_all_at(b"X", 0).unwrap();
        assert!(!has(&file, size, &contents[0], &chunks).unwrap());
        file.write_all_at(b"b", 0).unwrap();
        file.set_len(size + 1).unwrap();
        assert!(!has(&file, size + 1, &contents[0], &chunks).unwrap());
    }
}
