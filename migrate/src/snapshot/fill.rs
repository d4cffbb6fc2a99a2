//! A snapshot as a source of pages that reads: for one whose bytes are in memory already. (One in a file is mapped, by
//! the runtime.)

use super::origin::Origin;
use super::read::Snapshot;
use super::{PAGE_SIZE, SnapshotError};
use crate::transfer::{LinearMemories, PageSource};

/// Pages that are read before they are checked: they are in the processor's cache then.
const CHUNK_PAGES: usize = 4;

/// The stored pages of a snapshot and its bases, read one after another; each is compared with its CRC-32.
#[derive(Debug)]
pub struct ReadPages<'a, R>(pub &'a Snapshot<R>);

impl<R: Origin, M: LinearMemories + ?Sized> PageSource<M> for ReadPages<'_, R> {
    type Error = SnapshotError;

    fn fill(&mut self, memories: &mut M) -> Result<(), SnapshotError> {
        for run in self.0.runs() {
            let place = memories.bytes_mut(run.memory).and_then(|memory| run.place(memory));
            let place = place.ok_or(SnapshotError::Damaged("a stored page lies beyond its memory"))?;
            let parts = run.parts(CHUNK_PAGES).zip(place.chunks_mut(CHUNK_PAGES * PAGE_SIZE));
            for (part, place) in parts {
                self.0.read_pages(&part, place)?;
            }
        }
        Ok(())
    }
}
