//! The index of stored pages.
//!
//! ```text
//!   u32                            number of memories
//!   per memory: u32                number of runs
//!               { first u64,       runs of stored pages: page number and length, ascending, not adjacent
//!                 count u64 } x runs
//!   u32 x pages                    CRC-32 of every stored page, in the order of the runs
//! ```

use super::{PAGE_SIZE, SnapshotError};
use crate::state::MemoryState;
use crate::transfer::MemoryAtRest;
use dunlin_format::bytes::Reader;

/// Pages of one memory that are stored one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun<'a> {
    /// Memory index.
    pub memory: u32,
    /// First page.
    pub first: u64,
    /// Number of pages, at least 1.
    pub count: u64,
    /// The file they lie in: 0 is the snapshot itself, n its base number n - 1.
    pub file: u32,
    /// Number of the first among the pages stored in that file.
    pub at: u64,
    /// Where they lie in that file; a multiple of 64 KiB.
    pub offset: u64,
    /// CRC-32 of each page.
    pub crcs: &'a [u32],
}

impl<'a> PageRun<'a> {
    /// Cuts it into runs of at most `pages` pages.
    pub fn parts(self, pages: usize) -> impl Iterator<Item = PageRun<'a>> + use<'a> {
        self.crcs.chunks(pages).enumerate().map(move |(n, crcs)| {
            let before = (n * pages) as u64;
            PageRun {
                first: self.first + before,
                count: crcs.len() as u64,
                at: self.at + before,
                offset: self.offset + before * PAGE_SIZE as u64,
                crcs,
                ..self
            }
        })
    }

    /// The bytes of a memory that it describes; `None` if it lies beyond it.
    pub(super) fn place<'m>(&self, memory: &'m mut [u8]) -> Option<&'m mut [u8]> {
        let start = usize::try_from(self.first).ok()?.checked_mul(PAGE_SIZE)?;
        memory.get_mut(start..start.checked_add(usize::try_from(self.len()).ok()?)?)
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.count * PAGE_SIZE as u64
    }

    /// Always `false`: a run has at least one page.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Checks the run's pages, read or mapped by the caller, against their checksums.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), SnapshotError> {
        if bytes.len() as u64 != self.len() {
            return Err(SnapshotError::BufferSize {
                pages: self.count,
                len: bytes.len(),
            });
        }
        verify_pages(self.memory, self.first, self.crcs, bytes)
    }
}

/// Checks pages against their checksums.
pub(super) fn verify_pages(memory: u32, first: u64, crcs: &[u32], bytes: &[u8]) -> Result<(), SnapshotError> {
    for (page, (bytes, &crc)) in (first..).zip(bytes.chunks_exact(PAGE_SIZE).zip(crcs)) {
        if crc32fast::hash(bytes) != crc {
            return Err(SnapshotError::PageChecksum { memory, page });
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    memory: u32,
    first: u64,
    count: u64,
}

/// The index of stored pages: runs, and a CRC-32 for each page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PageIndex {
    memories: u32,
    runs: Vec<Run>,
    crcs: Vec<u32>,
}

impl PageIndex {
    /// The index of the pages that aren't all zero.
    pub(super) fn scan(memories: &[MemoryAtRest<'_>]) -> PageIndex {
        let mut index = PageIndex::of(memories.len() as u32);
        for (memory, at_rest) in (0..).zip(memories) {
            for (page, bytes) in at_rest.pages() {
                index.push(memory, page, crc32fast::hash(bytes));
            }
        }
        index
    }

    /// An index of no pages of so many memories.
    pub(super) fn of(memories: u32) -> PageIndex {
        PageIndex {
            memories,
            ..PageIndex::default()
        }
    }

    /// Tells whether any of these pages is stored.
    pub(super) fn overlaps(&self, memory: u32, first: u64, count: u64) -> bool {
        let before = self
            .runs
            .partition_point(|r| (r.memory, r.first + r.count) <= (memory, first));
        self.runs
            .get(before)
            .is_some_and(|r| r.memory == memory && r.first < first + count)
    }

    /// Appends a page; memories and pages ascend.
    pub(super) fn push(&mut self, memory: u32, page: u64, crc: u32) {
        self.crcs.push(crc);
        match self.runs.last_mut() {
            Some(run) if run.memory == memory && run.first + run.count == page => run.count += 1,
            _ => self.runs.push(Run {
                memory,
                first: page,
                count: 1,
            }),
        }
    }

    /// How many pages are stored.
    pub(super) fn stored(&self) -> u64 {
        self.crcs.len() as u64
    }

    /// The section's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + 4 * self.memories as usize + 16 * self.runs.len() + 4 * self.crcs.len());
        out.extend(self.memories.to_le_bytes());
        let mut runs = &self.runs[..];
        for memory in 0..self.memories {
            let (these, others) = runs.split_at(runs.partition_point(|r| r.memory == memory));
            runs = others;
            out.extend((these.len() as u32).to_le_bytes());
            for run in these {
                out.extend(run.first.to_le_bytes());
                out.extend(run.count.to_le_bytes());
            }
        }
        self.crcs.iter().for_each(|c| out.extend(c.to_le_bytes()));
        out
    }

    /// Reads the section, and checks it against the sizes of the memories and of the stored pages.
    pub(super) fn parse(bytes: &[u8], memories: &[MemoryState], data_len: u64) -> Result<PageIndex, SnapshotError> {
        const SHORT: SnapshotError = SnapshotError::Damaged("the index of pages is too short");
        let mut r = Reader::new(bytes);
        let mut index = PageIndex {
            memories: r.u32().ok_or(SHORT)?,
            ..Default::default()
        };
        if index.memories as usize != memories.len() {
            return Err(SnapshotError::Damaged(
                "the index of pages has another number of memories than the state",
            ));
        }
        let mut stored = 0u64;
        for (memory, state) in (0..).zip(memories) {
            let mut end = None;
            for _ in 0..r.u32().ok_or(SHORT)? {
                let (first, count) = (r.u64().ok_or(SHORT)?, r.u64().ok_or(SHORT)?);
                if count == 0 || end.is_some_and(|end| first <= end) {
                    return Err(SnapshotError::Damaged(
                        "runs of pages are empty, out of order, overlapping or not joined",
                    ));
                }
                let beyond = SnapshotError::Damaged("a stored page lies beyond its memory");
                end = Some(first.checked_add(count).filter(|&n| n <= state.pages).ok_or(beyond)?);
                stored = stored.saturating_add(count);
                index.runs.push(Run { memory, first, count });
            }
        }
        if stored.checked_mul(4) != Some(r.left() as u64) {
            return Err(SnapshotError::Damaged(
                "the index of pages doesn't have one checksum per page",
            ));
        }
        if stored.checked_mul(PAGE_SIZE as u64) != Some(data_len) {
            return Err(SnapshotError::Damaged(
                "there are more or fewer stored pages than the index says",
            ));
        }
        index.crcs.reserve_exact(stored as usize);
        while let Some(crc) = r.u32() {
            index.crcs.push(crc);
        }
        Ok(index)
    }

    /// The stored runs, in the order of the file, where the stored pages begin at `data_offset`.
    pub(super) fn runs(&self, data_offset: u64) -> impl Iterator<Item = PageRun<'_>> {
        let mut before = 0;
        self.runs.iter().map(move |&Run { memory, first, count }| {
            let start = before as usize;
            before += count;
            let crcs = self.crcs.get(start..start + count as usize).unwrap_or_default();
            PageRun {
                memory,
                first,
                count,
                file: 0,
                at: start as u64,
                offset: data_offset + start as u64 * PAGE_SIZE as u64,
                crcs,
            }
        })
    }
}
