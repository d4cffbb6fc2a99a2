//! What a program has written to its memories since a snapshot was taken, as the system tells it
//! ([`crate::os::dirty`]). What it doesn't tell for certain counts as written.

use crate::engine::running::Running;
use crate::instance::Instance;
use crate::instance::memory::{Memory, WASM_PAGE};
use crate::os::dirty::Tracker;
use crate::os::unverified;
use dunlin_migrate::transfer::MemoryAtRest;
use std::ops::Range;
use std::sync::Arc;

/// The environment variable that keeps the system from being asked.
const OFF_VARIABLE: &str = "DUNLIN_NO_TRACKING";

/// The environment variable that has what it tells compared with all of the memories.
const CHECK_VARIABLE: &str = "DUNLIN_CHECK_TRACKING";

/// Bytes that are protected at once while the program runs.
const SLICE: usize = 16 << 20;

/// Pages that are copied in any case, and how many times as many there are at least if more are: to copy a process
/// takes some 30 ms for each gigabyte, and then the first write to any of its pages takes longer.
const FEW_PAGES: usize = 64;
const LARGE_PART: usize = 16;

/// For each memory, the WebAssembly pages that may have been written to; those beyond the list may have been, too.
pub(crate) type Written = Vec<Vec<bool>>;

/// Keeps count of a program's writes.
#[derive(Debug)]
pub(crate) struct Tracking {
    tracker: Arc<Tracker>,
    /// The address space of the program's memories.
    memories: Vec<Range<usize>>,
}

/// What is tracked, to be protected from another thread while the program runs.
#[derive(Debug)]
pub(crate) struct Unprotected {
    tracker: Arc<Tracker>,
    ranges: Vec<Range<usize>>,
}

impl Tracking {
    /// Begins to keep count; `None` where the system can't.
    pub(crate) fn begin(running: &Running) -> Option<Tracking> {
        if std::env::var_os(OFF_VARIABLE).is_some() {
            return None;
        }
        // Of memory that can't be accessed yet, nothing is told.
        unverified::finish();
        let tracker = Tracker::new()?;
        let memories = reservations(&running.instance);
        for range in &memories {
            tracker.add(range).ok()?;
        }
        let tracker = Arc::new(tracker);
        Some(Tracking { tracker, memories })
    }

    /// What a stop would have to protect: all that the program holds now.
    pub(crate) fn unprotected(&self, running: &Running) -> Unprotected {
        let sizes = running.instance.memories().map(|m| m.size() as usize);
        let ranges = self.memories.iter().zip(sizes);
        Unprotected {
            tracker: self.tracker.clone(),
            ranges: ranges.map(|(range, size)| range.start..range.start + size).collect(),
        }
    }

    /// The pages that a program, which stands still, has written to since the last call; `None` if that can't be told
    /// any more.
    pub(crate) fn look(&self, running: &Running) -> Option<Written> {
        // Memories that were made anew are others.
        if reservations(&running.instance) != self.memories {
            return None;
        }
        let page = WASM_PAGE as usize;
        let look = |memory: &Memory| {
            let start = memory.base().addr();
            let mut written = vec![false; memory.size() as usize / page];
            let seen = |range: Range<usize>| {
                let pages = (range.start - start) / page..(range.end - start).div_ceil(page);
                if let Some(written) = written.get_mut(pages) {
                    written.fill(true);
                }
            };
            let told = self.tracker.written(&(start..start + memory.size() as usize), seen);
            told.ok().map(|()| written)
        };
        running.instance.memories().map(look).collect()
    }
}

impl Unprotected {
    /// Protects it, part by part.
    pub(crate) fn protect(self) {
        for range in self.ranges {
            for start in range.clone().step_by(SLICE) {
                let part = start..(start + SLICE).min(range.end);
                // What can't be protected now shows when the program stands still.
                if self.tracker.written(&part, |_| ()).is_err() {
                    return;
                }
            }
        }
    }
}

/// The address space of all memories, as far as they can grow.
fn reservations(instance: &Instance) -> Vec<Range<usize>> {
    instance.memories().map(Memory::reserved_addresses).collect()
}

/// Adds what was written later.
pub(crate) fn add(written: &mut Written, later: Written) {
    for (written, later) in written.iter_mut().zip(later) {
        written.resize(written.len().max(later.len()), true);
        written.iter_mut().zip(later).for_each(|(w, l)| *w |= l);
    }
}

/// The memories of a program at rest, of which only these pages were written to since the snapshot that the next one
/// builds upon.
pub(crate) fn memories<'a>(running: &'a Running, written: &Written) -> Vec<MemoryAtRest<'a>> {
    at_rest(running.instance.memories(), written)
}

/// A copy of what a program has written to, from which a snapshot can be taken while the program runs on.
pub(crate) struct Changes {
    /// As large as the program's; only these pages are there.
    memories: Vec<Memory>,
    written: Written,
}

impl Changes {
    /// Copies those pages of a program that stands still. `None` if they are so many that a copy of the whole process
    /// takes no longer, or if there is no memory for them.
    pub(crate) fn copy(running: &Running, written: &Written) -> Option<Changes> {
        let (mut all, mut some) = (0, 0);
        for memory in written {
            all += memory.len();
            some += memory.iter().filter(|w| **w).count();
        }
        if some > FEW_PAGES && some.saturating_mul(LARGE_PART) > all {
            return None;
        }
        let page = WASM_PAGE as usize;
        let copy = |(memory, written): (&Memory, &Vec<bool>)| {
            let from = memory.bytes();
            let mut to = Memory::reserve(0, memory.size().max(WASM_PAGE)).ok()?;
            to.grow_to(memory.size()).ok()?;
            let pages = to.bytes_mut().chunks_exact_mut(page).zip(from.chunks_exact(page));
            for ((to, from), _) in pages.zip(written).filter(|(_, written)| **written) {
                to.copy_from_slice(from);
            }
            Some(to)
        };
        let memories = running.instance.memories().zip(written).map(copy);
        Some(Changes {
            memories: memories.collect::<Option<_>>()?,
            written: written.clone(),
        })
    }

    /// The memories, of which only what is copied may be read.
    pub(crate) fn memories(&self) -> Vec<MemoryAtRest<'_>> {
        at_rest(self.memories.iter(), &self.written)
    }
}

fn at_rest<'a>(memories: impl Iterator<Item = &'a Memory>, written: &Written) -> Vec<MemoryAtRest<'a>> {
    let memories = memories.map(Memory::bytes).zip(written);
    let at_rest = |(bytes, written): (&'a [u8], &Vec<bool>)| MemoryAtRest {
        bytes,
        touched: None,
        unchanged: Some(written.iter().map(|w| !w).collect()),
    };
    memories.map(at_rest).collect()
}

/// Whether what the system tells is to be compared with all of the memories.
pub(crate) fn is_checked() -> bool {
    std::env::var_os(CHECK_VARIABLE).is_some()
}
