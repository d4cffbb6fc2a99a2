//! The seam between a program and whatever carries it: a stopped program is handed to a [`Sink`]; the pages of one
//! that goes on come from a [`PageSource`], its carried files' contents from [`Contents`].
//!
//! A snapshot file is one carrier ([`crate::snapshot`]), a connection can be another: neither who captures nor who
//! resumes knows which it is. Calls go through these traits once per transfer, never once per page.

use crate::state::State;
use crate::state::files::{Chunk, ContentHash};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::io::{self, Write};

/// Size of a page in bytes: WebAssembly's, and a multiple of every supported host's.
pub const PAGE_SIZE: usize = 0x1_0000;

/// A linear memory of a stopped program.
#[derive(Clone, Debug)]
pub struct MemoryAtRest<'a> {
    /// All of its bytes: whole pages.
    pub bytes: &'a [u8],
    /// For each page, whether it may hold anything but zeros; a page beyond the list may. `None` if that isn't known:
    /// then every page is read to find out.
    pub touched: Option<Vec<bool>>,
    /// For each page, whether it is certain that nothing has written to it since the snapshot that an incremental one
    /// builds upon; a page beyond the list may have been. `None` if that isn't known.
    pub unchanged: Option<Vec<bool>>,
}

impl<'a> MemoryAtRest<'a> {
    /// A memory of which any page may hold something.
    pub fn new(bytes: &'a [u8]) -> MemoryAtRest<'a> {
        MemoryAtRest {
            bytes,
            touched: None,
            unchanged: None,
        }
    }

    /// The pages that hold something else than zeros, with their numbers, ascending. Untouched ones are not read.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &'a [u8])> {
        self.pages_but(&[])
    }

    /// As [`MemoryAtRest::pages`], without those that are `known`; they are not read either.
    pub(crate) fn pages_but(&self, known: &[bool]) -> impl Iterator<Item = (u64, &'a [u8])> {
        let touched = self.touched.as_deref().unwrap_or_default();
        let pages = self.bytes.chunks_exact(PAGE_SIZE).enumerate();
        let wanted = move |n: usize| touched.get(n).is_none_or(|&t| t) && !known.get(n).is_some_and(|&k| k);
        pages
            .filter(move |(n, page)| wanted(*n) && !is_zero(page))
            .map(|(n, page)| (n as u64, page))
    }

    /// How many pages may hold something, as far as that is known without reading them.
    pub fn pages_touched(&self) -> u64 {
        let all = self.bytes.len() / PAGE_SIZE;
        let zero = self.touched.iter().flat_map(|t| t.iter().take(all)).filter(|&&t| !t);
        (all - zero.count()) as u64
    }
}

/// Whether all bytes are zero, at memory speed; stops at the first kilobyte that isn't.
fn is_zero(page: &[u8]) -> bool {
    let (blocks, rest) = page.as_chunks::<1024>();
    let zero_block = |block: &[u8; 1024]| {
        let (words, _) = block.as_chunks::<16>();
        words.iter().fold(0, |all, word| all | u128::from_ne_bytes(*word)) == 0
    };
    blocks.iter().all(zero_block) && rest.iter().all(|&b| b == 0)
}

/// A stopped program: all that a [`Sink`] takes. Nothing of it changes until the sink returns.
#[derive(Clone, Copy)]
pub struct AtRest<'a> {
    /// Everything but bytes: its frames are in here.
    pub state: &'a State,
    /// Its linear memories, in order; their sizes are those of the state.
    pub memories: &'a [MemoryAtRest<'a>],
    /// The contents of its carried files, by the hashes in the state.
    pub contents: &'a dyn Contents,
}

/// Where a stopped program goes: a snapshot file, a directory of snapshots, a connection.
///
/// - **Order**: what a receiver may refuse first. Header, state (with frames and what it needs of the host), then
///   pages, then contents.
/// - **Pages**: every page that isn't zero ([`MemoryAtRest::pages`]). A sink that has sent pages while the program ran
///   (pre-copy) sends those that differ from what it has sent, also those that are zero by now.
/// - **Checksums**: made here, one per page, of the bytes as they are in the stopped program; the receiver's
///   [`PageSource`] compares them.
/// - **Failure**: whatever was taken is worthless then, and the program goes on here. So a sink must return an error
///   unless it knows that the receiver can't begin to run.
pub trait Sink {
    /// The sink's account of a program that it has taken.
    type Taken;
    /// The reason why it hasn't taken it.
    type Error;

    /// Takes the program.
    fn take(&mut self, program: &AtRest<'_>) -> Result<Self::Taken, Self::Error>;
}

/// The linear memories of a program that is about to go on. They have the sizes that its state says, and are zero.
pub trait LinearMemories {
    /// All bytes of a memory; `None` if there is none of this index.
    fn bytes_mut(&mut self, memory: u32) -> Option<&mut [u8]>;
}

/// Where the pages of a program that goes on come from: a snapshot file, a connection.
///
/// Each source chooses its `M`: one that copies bytes works with any [`LinearMemories`]; one that maps files, or
/// answers page faults, with the memories of the runtime only.
///
/// - **When**: [`PageSource::fill`] once, after module, state, frames and grants were accepted, so that a refusal costs
///   no page; [`PageSource::go_on`] once, when everything else is restored, right before the program runs. A source
///   that is dropped without `go_on` was refused: the memories go away with it.
/// - **Order and repetition**: a source puts pages in any order, and the same page as often as it likes; what it puts
///   last counts. A page that it never puts is zero.
/// - **Before the state** (pre-copy): pages that come while the program still runs elsewhere are the source's to keep
///   until `fill`, best in a file that `fill` maps.
/// - **Verification**: the source's own business, and nobody's after it. It compares every page with the checksum that
///   the sender made before `fill` returns; until then memories may hold anything. After an error nothing of them is
///   used.
/// - **On demand** (post-copy): `fill` may leave pages out that fault when they are touched; `go_on` begins to answer
///   those faults. Such a page is verified before the program sees it, and one that can't be had ends the program.
pub trait PageSource<M: ?Sized> {
    /// The reason why pages can't be had.
    type Error;

    /// Puts the pages into the memories.
    fn fill(&mut self, memories: &mut M) -> Result<(), Self::Error>;

    /// The program goes on with these memories, whose addresses stay what they are. What it needs of the source for as
    /// long as it runs is kept from here on.
    fn go_on(self, memories: &M)
    where
        Self: Sized,
    {
        let _ = memories;
    }
}

/// Something that has chunks of contents: a program's files, a snapshot, an earlier snapshot of the same run.
pub trait Contents {
    /// Writes the chunk with this hash and length; false, and nothing written, if it is not here. Whoever reads checks
    /// it ([`crate::snapshot::copy_chunk`]).
    fn copy(&self, chunk: &Chunk, out: &mut dyn Write) -> io::Result<bool>;
}

/// No contents: those of a program that carries no files.
#[derive(Clone, Copy, Debug)]
pub struct NoContents;

impl Contents for NoContents {
    fn copy(&self, _: &Chunk, _: &mut dyn Write) -> io::Result<bool> {
        Ok(false)
    }
}

/// The first of several that has them.
pub struct FirstOf<'a>(pub &'a [&'a dyn Contents]);

impl Contents for FirstOf<'_> {
    fn copy(&self, chunk: &Chunk, out: &mut dyn Write) -> io::Result<bool> {
        for place in self.0 {
            if place.copy(chunk, out)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Chunks in memory.
impl<S: BuildHasher> Contents for HashMap<ContentHash, Vec<u8>, S> {
    fn copy(&self, chunk: &Chunk, out: &mut dyn Write) -> io::Result<bool> {
        let found = self.get(&chunk.hash);
        found.map_or(Ok(false), |bytes| out.write_all(bytes).map(|()| true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_and_zero_pages_are_left_out() {
        let mut bytes = vec![0; 4 * PAGE_SIZE];
        bytes[PAGE_SIZE] = 1;
        bytes[4 * PAGE_SIZE - 1] = 2;
        let memory = MemoryAtRest::new(&bytes);
        let pages = |memory: &MemoryAtRest<'_>| memory.pages().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!((pages(&memory), memory.pages_touched()), (vec![1, 3], 4));
        // Page 0 was touched and is zero; page 3 is beyond what is known.
        let touched = Some(vec![true, true, false]);
        let memory = MemoryAtRest { touched, ..memory };
        assert_eq!((pages(&memory), memory.pages_touched()), (vec![1, 3], 3));
        // What counts as untouched isn't looked at.
        let touched = Some(vec![false, false]);
        let memory = MemoryAtRest { touched, ..memory };
        assert_eq!((pages(&memory), memory.pages_touched()), (vec![3], 2));
    }
}
