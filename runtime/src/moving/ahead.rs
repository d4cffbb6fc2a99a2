//! Memories that are filled before their program comes: from snapshots that were made while it still ran elsewhere, the
//! *rounds*. The snapshot of the stopped program then brings only the pages that have changed since.
//!
//! What a page holds is known by where it was read: in which file (by its identity), as which of its stored pages, with
//! which checksum. A later snapshot that takes the same page from the same file finds it here already. Pages are read
//! into memory of the process's own, never mapped, and checked there: what happens to a file afterwards changes
//! nothing.
//!
//! A round is as hostile as any snapshot, and believed less: of what it says, only its module, the sizes of its
//! memories and its pages are used, within the limits that a resume has. Whatever it has done to the memories, the
//! snapshot of the stopped program replaces what it says otherwise; if its memories are smaller than those of a round,
//! it can't be used here. After an error nothing is.

use crate::instance::memory::WASM_PAGE;
use crate::instance::{Instance, InstanceError, Limits};
use crate::moving::pages::{self, Wanted};
use crate::moving::resume::{self, Filled, ResumeError};
use crate::os::lease::Leases;
use crate::program::Program;
use dunlin_migrate::snapshot::{PAGE_SIZE, PageRun, Snapshot, SnapshotError};
use dunlin_migrate::state::MemoryState;
use std::fs::File;

/// Where a page was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    /// The file, by its place in [`Held::files`].
    file: u32,
    /// The page's number among those that the file stores.
    at: u64,
    /// Its checksum: two snapshots may claim different ones, and only one can be right.
    crc: u32,
}

/// What the pages of an instance's memories hold.
#[derive(Debug, Default)]
struct Held {
    /// For each memory, for each page: where it is from; `None` if it is zero. So are those beyond the list.
    memories: Vec<Vec<Option<Origin>>>,
    /// Identities of files.
    files: Vec<[u8; 32]>,
}

/// An instance whose memories hold what has come so far.
#[derive(Debug)]
pub(crate) struct Ahead {
    instance: Instance,
    held: Held,
}

/// A program that has come, but for its files.
#[derive(Debug)]
pub(crate) struct Come {
    /// The program.
    pub filled: Filled,
    /// On what of its memories is mapped.
    pub leases: Leases,
}

impl Ahead {
    /// Nothing has come yet.
    pub(crate) fn new(program: &'static Program, limits: &Limits) -> Result<Ahead, ResumeError> {
        Ok(Ahead {
            instance: resume::shell(program, limits)?,
            held: Held::default(),
        })
    }

    /// How many bytes of memory hold something by now.
    pub(crate) fn bytes(&self) -> u64 {
        let pages: usize = self.held.memories.iter().map(|m| m.iter().flatten().count()).sum();
        (pages * PAGE_SIZE) as u64
    }

    /// Takes a round in.
    pub(crate) fn round(&mut self, snapshot: &Snapshot<File>) -> Result<(), ResumeError> {
        for (index, &MemoryState { pages }) in (0..).zip(&snapshot.state().memories) {
            let bytes = pages.saturating_mul(WASM_PAGE);
            self.instance
                .grow_memory_to(index, bytes)
                .map_err(InstanceError::Memory)?;
        }
        Ok(self.held.take(&mut self.instance, snapshot)?)
    }

    /// Takes in the stopped program. Its files are looked at by the caller.
    pub(crate) fn state(mut self, snapshot: &Snapshot<File>) -> Result<Come, ResumeError> {
        let mut leases = Leases::default();
        let mut filled = Filled::new(self.instance, snapshot.state().clone())?;
        let sizes = filled.instance.memories().map(|m| m.size() / WASM_PAGE);
        if !sizes.eq(snapshot.state().memories.iter().map(|m| m.pages)) {
            return Err(SnapshotError::Damaged("its memories are smaller than those of a round before it").into());
        }
        match self.held.files.is_empty() {
            // As any other snapshot.
            true => pages::fill(&mut filled.instance, snapshot, &mut leases)?,
            false => self.held.take(&mut filled.instance, snapshot)?,
        }
        Ok(Come { filled, leases })
    }
}

impl Held {
    /// Makes the memories hold what a snapshot says.
    fn take(&mut self, instance: &mut Instance, snapshot: &Snapshot<File>) -> Result<(), SnapshotError> {
        let identities = snapshot.bases().iter().map(|base| base.identity);
        let numbers: Vec<u32> = std::iter::once(snapshot.identity())
            .chain(identities)
            .map(|identity| self.number(identity))
            .collect();
        for index in 0..snapshot.state().memories.len() as u32 {
            let Some(memory) = instance.memory_at_mut(index) else {
                continue;
            };
            if self.memories.len() <= index as usize {
                self.memories.resize(index as usize + 1, Vec::new());
            }
            let Some(held) = self.memories.get_mut(index as usize) else {
                continue;
            };
            let runs = pages::sorted_runs(snapshot, index);
            let (now, wanted) = compare(held, &runs, &numbers);
            for page in gone(held, &now) {
                if let Some(bytes) = memory.bytes_mut().get_mut(page * PAGE_SIZE..(page + 1) * PAGE_SIZE) {
                    bytes.fill(0);
                }
            }
            *held = now;
            pages::read_into(memory, snapshot, wanted.into_iter())?;
        }
        Ok(())
    }

    /// The number of a file.
    fn number(&mut self, identity: [u8; 32]) -> u32 {
        let known = self.files.iter().position(|known| *known == identity);
        known.unwrap_or_else(|| {
            self.files.push(identity);
            self.files.len() - 1
        }) as u32
    }
}

/// What is held once these runs are read, and what is to be read for that. `numbers`: those of the snapshot's files.
fn compare<'a>(
    held: &[Option<Origin>],
    runs: &[PageRun<'a>],
    numbers: &[u32],
) -> (Vec<Option<Origin>>, Vec<Wanted<'a>>) {
    let end = runs.last().map_or(0, |run| run.first + run.count);
    let mut now = vec![None; end as usize];
    let mut wanted = Vec::new();
    for run in runs {
        let file = numbers.get(run.file as usize).copied().unwrap_or(u32::MAX);
        let origins = (run.at..).zip(run.crcs).map(|(at, &crc)| Origin { file, at, crc });
        // Pages that are to be treated alike, one after another: whether they are to be read, whether they hold
        // something.
        let mut alike: Option<(bool, bool, usize, usize)> = None;
        let mut cut = |(read, holds, from, to): (bool, bool, usize, usize)| {
            let run = PageRun {
                first: run.first + from as u64,
                count: (to - from) as u64,
                at: run.at + from as u64,
                offset: run.offset + (from * PAGE_SIZE) as u64,
                crcs: run.crcs.get(from..to).unwrap_or_default(),
                ..*run
            };
            match (read, holds) {
                (false, _) => {}
                (true, false) => wanted.push(Wanted::Read(run)),
                (true, true) => wanted.push(Wanted::Replaced(run)),
            }
        };
        for (n, origin) in origins.enumerate() {
            let page = run.first as usize + n;
            let before = held.get(page).copied().flatten();
            if let Some(place) = now.get_mut(page) {
                *place = Some(origin);
            }
            let (read, holds) = (before != Some(origin), before.is_some());
            alike = Some(match alike {
                Some((r, h, from, _)) if (r, h) == (read, holds) => (r, h, from, n + 1),
                other => {
                    other.into_iter().for_each(&mut cut);
                    (read, holds, n, n + 1)
                }
            });
        }
        alike.into_iter().for_each(cut);
    }
    (now, wanted)
}

/// The pages that held something, and are to be zero now.
fn gone(held: &[Option<Origin>], now: &[Option<Origin>]) -> Vec<usize> {
    let held = held.iter().enumerate().filter(|(_, page)| page.is_some());
    held.map(|(n, _)| n)
        .filter(|&n| now.get(n).copied().flatten().is_none())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, file: u32, at: u64, crcs: &[u32]) -> PageRun<'_> {
        PageRun {
            memory: 0,
            first,
            count: crcs.len() as u64,
            file,
            at,
            offset: (1 + at) * PAGE_SIZE as u64,
            crcs,
        }
    }

    fn told(wanted: &[Wanted<'_>]) -> Vec<(u64, u64, u64, bool)> {
        let told = wanted.iter().map(|wanted| match wanted {
            Wanted::Read(run) => (run.first, run.count, run.offset / PAGE_SIZE as u64, false),
            Wanted::Replaced(run) => (run.first, run.count, run.offset / PAGE_SIZE as u64, true),
            Wanted::Mapped(_) => panic!("nothing is mapped"),
        });
        told.collect()
    }

    #[test]
    fn only_what_differs_is_read() {
        let (held, wanted) = compare(&[], &[run(1, 0, 0, &[11, 12, 13, 14])], &[0]);
        assert_eq!(told(&wanted), [(1, 4, 1, false)]);
        // Page 2 is stored anew, page 3 is zero, page 1 has another checksum, page 4 is as it was, page 5 is new.
        let runs = [
            run(1, 1, 0, &[99]),
            run(2, 0, 0, &[22]),
            run(4, 1, 3, &[14]),
            run(5, 0, 1, &[25]),
        ];
        let (now, wanted) = compare(&held, &runs, &[1, 0]);
        assert_eq!(told(&wanted), [(1, 1, 1, true), (2, 1, 1, true), (5, 1, 2, false)]);
        assert_eq!(gone(&held, &now), [3]);
        // Nothing of it is read again.
        let (again, wanted) = compare(&now, &runs, &[1, 0]);
        assert!(wanted.is_empty() && again == now && gone(&now, &again).is_empty());
        // Equal numbers in another file are other pages.
        let (_, wanted) = compare(&now, &runs, &[2, 0]);
        assert_eq!(told(&wanted), [(2, 1, 1, true), (5, 1, 2, true)]);
        assert_eq!(gone(&now, &[]), [1, 2, 4, 5]);
    }
}
