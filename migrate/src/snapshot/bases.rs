//! What an incremental snapshot takes from earlier ones in the same directory, its *bases*.
//!
//! ```text
//!   u32                        number of bases
//!   per base: 32 bytes         its identity (see `Snapshot::identity`)
//!             u64              pages that it stores
//!             u32, bytes       length of its file name, and the name
//!   u32                        number of runs
//!             { u32 memory,    runs of pages, ascending by memory and page
//!               u32 base,
//!               u64 first,     page number in the memory
//!               u64 count,
//!               u64 at }       number of the first among the base's stored pages
//!   u32 x pages                CRC-32 of every such page, in the order of the runs
//! ```
//!
//! A page is taken from the file that stores it, never through another incremental one: reading needs one step, however
//! long the history, and a base that nothing is taken from can go. What a base holds is believed only page by page, by
//! the checksums here.

use super::SnapshotError;
use super::pages::PageIndex;
use crate::state::MemoryState;
use dunlin_format::bytes::Reader;

/// The most bases of a snapshot.
const MAX_BASES: usize = 64;
/// The longest name of a base, in bytes: that of Linux's file systems.
const MAX_NAME: u32 = 255;

/// An earlier snapshot that pages are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFile {
    /// Its name, in the directory of the snapshot that refers to it.
    pub name: String,
    /// SHA-256 of its header and section table, and so, through their checksums, of all of it.
    pub identity: [u8; 32],
    /// How many pages it stores.
    pub pages: u64,
}

/// Pages of one memory that lie one after another in a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub memory: u32,
    pub base: u32,
    pub first: u64,
    pub count: u64,
    pub at: u64,
}

/// The pages that are taken from bases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bases {
    pub(super) files: Vec<BaseFile>,
    pub(super) runs: Vec<Run>,
    pub(super) crcs: Vec<u32>,
}

impl Bases {
    /// Appends a page; memories and pages ascend.
    pub(super) fn push(&mut self, memory: u32, page: u64, base: u32, at: u64, crc: u32) {
        self.crcs.push(crc);
        match self.runs.last_mut() {
            Some(run)
                if (run.memory, run.base) == (memory, base)
                    && run.first + run.count == page
                    && run.at + run.count == at =>
            {
                run.count += 1;
            }
            _ => self.runs.push(Run {
                memory,
                base,
                first: page,
                count: 1,
                at,
            }),
        }
    }

    /// The section's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend((self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            out.extend(file.identity);
            out.extend(file.pages.to_le_bytes());
            out.extend((file.name.len() as u32).to_le_bytes());
            out.extend(file.name.as_bytes());
        }
        out.extend((self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            [run.memory, run.base].iter().for_each(|n| out.extend(n.to_le_bytes()));
            [run.first, run.count, run.at]
                .iter()
                .for_each(|n| out.extend(n.to_le_bytes()));
        }
        self.crcs.iter().for_each(|c| out.extend(c.to_le_bytes()));
        out
    }

    /// Reads the section, and checks it against the sizes of the memories and the pages that the snapshot stores
    /// itself.
    pub(super) fn parse(bytes: &[u8], memories: &[MemoryState], own: &PageIndex) -> Result<Bases, SnapshotError> {
        const SHORT: SnapshotError = SnapshotError::Damaged("the list of bases is too short");
        let damaged = |what| Err(SnapshotError::Damaged(what));
        let mut r = Reader::new(bytes);
        let mut bases = Bases::default();
        for _ in 0..r.u32().ok_or(SHORT)? {
            let identity = r.array().ok_or(SHORT)?;
            let pages = r.u64().ok_or(SHORT)?;
            let len = r.u32().filter(|&n| n <= MAX_NAME).ok_or(SHORT)?;
            let name = std::str::from_utf8(r.take(len as usize).ok_or(SHORT)?).unwrap_or_default();
            if !is_plain(name) {
                return damaged("the name of a base isn't that of a file in the same directory");
            }
            if bases.files.len() == MAX_BASES || bases.files.iter().any(|f| f.name == name) {
                return damaged("it has too many bases, or the same one twice");
            }
            bases.files.push(BaseFile {
                name: name.to_owned(),
                identity,
                pages,
            });
        }
        let mut total = 0u64;
        let mut end = (0, 0);
        for _ in 0..r.u32().ok_or(SHORT)? {
            let (memory, base) = (r.u32().ok_or(SHORT)?, r.u32().ok_or(SHORT)?);
            let mut number = || r.u64().ok_or(SHORT);
            let (first, count, at) = (number()?, number()?, number()?);
            if count == 0 || (memory, first) < end {
                return damaged("runs of pages of bases are empty, out of order or overlapping");
            }
            let last = first.checked_add(count);
            let size = memories.get(memory as usize).map_or(0, |m| m.pages);
            let stored = bases.files.get(base as usize).map_or(0, |f| f.pages);
            let in_base = at.checked_add(count).is_some_and(|n| n <= stored);
            let Some(last) = last.filter(|&n| n <= size && in_base) else {
                return damaged("a page of a base lies beyond its memory or its base");
            };
            if own.overlaps(memory, first, count) {
                return damaged("a page is stored, and taken from a base too");
            }
            end = (memory, last);
            total = total.saturating_add(count);
            bases.runs.push(Run {
                memory,
                base,
                first,
                count,
                at,
            });
        }
        if total.checked_mul(4) != Some(r.left() as u64) {
            return damaged("the list of bases doesn't have one checksum per page");
        }
        bases.crcs.reserve_exact(total as usize);
        while let Some(crc) = r.u32() {
            bases.crcs.push(crc);
        }
        Ok(bases)
    }

    /// How many pages are taken from bases.
    pub(super) fn pages(&self) -> u64 {
        self.crcs.len() as u64
    }

    /// How many pages are taken from one of them.
    pub(super) fn pages_of(&self, base: u32) -> u64 {
        self.runs.iter().filter(|r| r.base == base).map(|r| r.count).sum()
    }
}

/// Tells whether this is the name of a file, not a path to one.
fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}
