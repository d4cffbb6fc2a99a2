//! A snapshot file and its bases as a source of pages: large parts are mapped, the rest is read, all of it is checked.

use crate::instance::Instance;
use crate::instance::memory::{Memory, MemoryError};
use crate::moving::resume::ResumeError;
use crate::os::files::{is_hole, open_regular};
use crate::os::lease::Leases;
use crate::os::unverified::{self, Mapped};
use dunlin_migrate::snapshot::{Origin, PAGE_SIZE, PageRun, Snapshot, SnapshotError};
use dunlin_migrate::transfer::PageSource;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The most parts of a memory that are mapped. A process may have some 65000 mappings; an incremental snapshot can have
/// as many runs.
const MAX_MAPPINGS: usize = 4096;

/// Pages of a snapshot up to which reading takes no longer than mapping: 8 MiB.
const FEW_PAGES: u64 = 128;

/// Pages of a snapshot from which on a program doesn't wait until all are checked: 64 MiB, which take 5 to 10 ms.
const MANY_PAGES: u64 = 1024;

/// Pages that one thread checks, at least.
const PAGES_PER_THREAD: usize = 512;

/// Pages that are read before they are checked: they are in the processor's cache then.
const CHUNK_PAGES: usize = 4;

/// CRC-32 of a page of zeros.
const ZERO_CRC: u32 = 0xd797_8eeb;

/// Opens a snapshot file, and those beside it that it takes pages from, and reads all of it but the memory's pages.
pub(crate) fn open(path: &Path) -> Result<Snapshot<File>, ResumeError> {
    let mut snapshot = Snapshot::open(open_regular(path).map_err(ResumeError::Open)?)?;
    snapshot.attach_all(|name| open_regular(&path.with_file_name(name)))?;
    Ok(snapshot)
}

/// The stored pages of a snapshot file and its bases; each is compared with its CRC-32.
#[derive(Debug)]
pub(crate) struct FilePages<'a> {
    snapshot: &'a Snapshot<File>,
    /// On what is mapped: the pages stay as they were checked as long as these are held.
    leases: Leases,
    /// What is mapped is checked while the program runs, before it sees it.
    late: bool,
}

impl<'a> FilePages<'a> {
    /// The pages of a snapshot whose bases are attached.
    pub(crate) fn of(snapshot: &'a Snapshot<File>) -> FilePages<'a> {
        FilePages {
            snapshot,
            leases: Leases::default(),
            late: false,
        }
    }

    /// The same, but large parts are checked only when the program touches them, or soon after. If one is damaged, the
    /// program ends.
    pub(crate) fn checked_late(self) -> FilePages<'a> {
        FilePages { late: true, ..self }
    }
}

impl PageSource<Instance> for FilePages<'_> {
    type Error = SnapshotError;

    fn fill(&mut self, instance: &mut Instance) -> Result<(), SnapshotError> {
        let pages: u64 = self.snapshot.runs().map(|run| run.count).sum();
        match self.late && pages >= MANY_PAGES {
            true => fill_late(instance, self.snapshot, &mut self.leases),
            false => fill(instance, self.snapshot, &mut self.leases),
        }
    }

    fn go_on(self, instance: &Instance) {
        keep(self.leases, instance);
    }
}

/// The program goes on: leases on what is mapped into its memories are kept as long as that is.
pub(crate) fn keep(leases: Leases, instance: &Instance) {
    let mapped = instance.memories().flat_map(Memory::mapped_addresses);
    leases.keep(mapped.collect());
}

/// Where a run's pages come from, and go to.
struct Piece<'a> {
    run: PageRun<'a>,
    from: &'a File,
    place: Place<'a>,
    /// Parts of the file may take no room on the disk.
    sparse: bool,
}

enum Place<'a> {
    /// They are in the memory already: mapped.
    Mapped(&'a [u8]),
    /// They are to be read.
    Read(&'a mut [u8]),
    /// They are only checked.
    Nowhere,
}

/// Puts all pages into an instance's memories. What is mapped stays as it was checked as long as the leases are held.
pub(super) fn fill(
    instance: &mut Instance,
    snapshot: &Snapshot<File>,
    leases: &mut Leases,
) -> Result<(), SnapshotError> {
    fill_all(instance, snapshot, leases, None)
}

/// The same, but nobody can access what is mapped before it is checked, which happens meanwhile.
fn fill_late(instance: &mut Instance, snapshot: &Snapshot<File>, leases: &mut Leases) -> Result<(), SnapshotError> {
    let mut late = Vec::new();
    fill_all(instance, snapshot, leases, Some(&mut late))?;
    unverified::begin(late).map_err(SnapshotError::io("protect memory that is not checked yet"))
}

/// `late`: is given what is mapped, which is not checked then.
fn fill_all(
    instance: &mut Instance,
    snapshot: &Snapshot<File>,
    leases: &mut Leases,
    mut late: Option<&mut Vec<Mapped>>,
) -> Result<(), SnapshotError> {
    let files = files(snapshot)?;
    let shared: Vec<Option<Arc<File>>> = match late {
        Some(_) => files
            .iter()
            .map(|f| f.and_then(|(f, _)| f.try_clone().ok()).map(Arc::new))
            .collect(),
        None => Vec::new(),
    };
    let total: u64 = snapshot.runs().map(|run| run.count).sum();
    let mut mapped = Vec::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        let leased = match file {
            Some((file, false)) if total > FEW_PAGES && leases.take(file) => Some(*file),
            _ => None,
        };
        if let Some(file) = leased {
            // Nobody can shorten it any more, but somebody may have since its header was read.
            let len = file
                .metadata()
                .map_err(SnapshotError::io("read a page of the snapshot"))?
                .len();
            let ends = snapshot.runs().filter(|run| run.file as usize == number);
            if ends
                .map(|run| run.offset.saturating_add(run.len()))
                .any(|end| end > len)
            {
                return Err(SnapshotError::Damaged("a stored page lies beyond its end"));
            }
        }
        mapped.push(leased.is_some());
    }
    for index in 0..snapshot.state().memories.len() as u32 {
        let Some(memory) = instance.memory_at_mut(index) else {
            continue;
        };
        let runs = sorted_runs(snapshot, index);
        let map = |run: &PageRun<'_>| match files.get(run.file as usize) {
            Some(Some((file, _))) if mapped[run.file as usize] => map(memory, file, run),
            _ => Ok(false),
        };
        let done: Vec<bool> = runs.iter().map(map).collect::<Result<_, _>>()?;
        let base = memory.base().expose_provenance();
        let mut wanted = Vec::with_capacity(runs.len());
        for (run, done) in runs.into_iter().zip(done) {
            let file = shared.get(run.file as usize).cloned().flatten();
            match (done, &mut late, file) {
                (true, Some(late), Some(file)) => {
                    let start = base + run.first as usize * PAGE_SIZE;
                    late.push(Mapped {
                        range: start..start + run.len() as usize,
                        file,
                        offset: run.offset,
                        crcs: run.crcs.to_vec(),
                        page: (index, run.first),
                    });
                }
                (true, ..) => wanted.push(Wanted::Mapped(run)),
                (false, ..) => wanted.push(Wanted::Read(run)),
            }
        }
        check(pieces(memory.bytes_mut(), &files, wanted.into_iter())?)?;
    }
    Ok(())
}

/// The runs of one memory, by page.
pub(super) fn sorted_runs(snapshot: &Snapshot<File>, memory: u32) -> Vec<PageRun<'_>> {
    let mut runs: Vec<PageRun<'_>> = snapshot.runs().filter(|run| run.memory == memory).collect();
    runs.sort_unstable_by_key(|run| run.first);
    runs
}

/// What is to be done with a run's place in its memory.
pub(super) enum Wanted<'a> {
    /// Its pages are mapped there.
    Mapped(PageRun<'a>),
    /// They are to be read into it, and it is zero.
    Read(PageRun<'a>),
    /// They are to be read into it, and it holds something else.
    Replaced(PageRun<'a>),
}

/// Reads pages into a memory, and checks them. `wanted` is in the order of the pages.
pub(super) fn read_into<'a>(
    memory: &'a mut Memory,
    snapshot: &'a Snapshot<File>,
    wanted: impl Iterator<Item = Wanted<'a>>,
) -> Result<(), SnapshotError> {
    let files = files(snapshot)?;
    check(pieces(memory.bytes_mut(), &files, wanted)?)
}

/// Gives each run its place in a memory. They are in the order of the pages.
fn pieces<'a>(
    bytes: &'a mut [u8],
    files: &[Option<(&'a File, bool)>],
    wanted: impl Iterator<Item = Wanted<'a>>,
) -> Result<Vec<Piece<'a>>, SnapshotError> {
    let beyond = || SnapshotError::Damaged("a stored page lies beyond its memory");
    let (mut rest, mut at) = (bytes, 0);
    let mut pieces = Vec::new();
    for wanted in wanted {
        let (Wanted::Mapped(run) | Wanted::Read(run) | Wanted::Replaced(run)) = wanted;
        let before = usize::try_from(run.first)
            .ok()
            .and_then(|n| n.checked_mul(PAGE_SIZE)?.checked_sub(at));
        let (_, behind) = before.and_then(|n| rest.split_at_mut_checked(n)).ok_or_else(beyond)?;
        let (place, behind) = behind.split_at_mut_checked(run.len() as usize).ok_or_else(beyond)?;
        (rest, at) = (behind, (run.first + run.count) as usize * PAGE_SIZE);
        let (place, holds) = match wanted {
            Wanted::Mapped(_) => (Place::Mapped(place), true),
            Wanted::Read(_) => (Place::Read(place), false),
            Wanted::Replaced(_) => (Place::Read(place), true),
        };
        let piece = piece(files, run, place)?;
        // Where the file has a hole, what is there would stay.
        let sparse = piece.sparse && !holds;
        pieces.push(Piece { sparse, ..piece });
    }
    Ok(pieces)
}

/// Checks all pages, and keeps none of them.
pub(crate) fn verify(snapshot: &Snapshot<File>) -> Result<(), SnapshotError> {
    let files = files(snapshot)?;
    let pieces = snapshot.runs().map(|run| piece(&files, run, Place::Nowhere));
    check(pieces.collect::<Result<_, _>>()?)
}

/// The snapshot's own file and its bases, by number, those that pages lie in; and which of them are sparse.
fn files(snapshot: &Snapshot<File>) -> Result<Vec<Option<(&File, bool)>>, SnapshotError> {
    let mut files: Vec<Option<(&File, bool)>> = vec![None; snapshot.bases().len() + 1];
    for run in snapshot.runs() {
        if let Some(file @ None) = files.get_mut(run.file as usize) {
            let reader = snapshot.reader_of(&run)?;
            *file = Some((reader, reader.is_sparse()));
        }
    }
    Ok(files)
}

fn piece<'a>(
    files: &[Option<(&'a File, bool)>],
    run: PageRun<'a>,
    place: Place<'a>,
) -> Result<Piece<'a>, SnapshotError> {
    let found = files.get(run.file as usize).copied().flatten();
    let (from, sparse) = found.ok_or(SnapshotError::Damaged("a page lies in no file"))?;
    Ok(Piece {
        run,
        from,
        place,
        sparse,
    })
}

/// Maps a run; `false` if that isn't possible.
fn map(memory: &mut Memory, file: &File, run: &PageRun<'_>) -> Result<bool, SnapshotError> {
    if memory.mapped().len() >= MAX_MAPPINGS {
        return Ok(false);
    }
    match memory.map_file(file, run.offset, run.first.saturating_mul(PAGE_SIZE as u64), run.len()) {
        Ok(mapped) => Ok(mapped),
        // A file system that can't map.
        Err(MemoryError::Map(_)) => Ok(false),
        Err(e) => Err(SnapshotError::io("read a page of the snapshot")(io::Error::other(e))),
    }
}

/// Reads and checks pages; with several threads if there are many.
fn check(pieces: Vec<Piece<'_>>) -> Result<(), SnapshotError> {
    let total: usize = pieces.iter().map(|piece| piece.run.crcs.len()).sum();
    let useful = total / PAGES_PER_THREAD;
    // Asking for the number of processors costs more than checking a few pages.
    let processors = if useful > 1 {
        std::thread::available_parallelism().map_or(1, usize::from)
    } else {
        1
    };
    let threads = useful.clamp(1, processors);
    if threads == 1 {
        return pieces.into_iter().try_for_each(Piece::check);
    }
    let share = total.div_ceil(threads).max(1);
    let mut pieces: Vec<_> = pieces.into_iter().flat_map(|piece| piece.split(share)).collect();
    std::thread::scope(|scope| {
        // Pieces differ in size, but none is larger than a share: consecutive ones make about a share each.
        let per_thread = pieces.len().div_ceil(threads);
        let mut workers = Vec::new();
        while !pieces.is_empty() {
            let rest = pieces.split_off(per_thread.min(pieces.len()));
            let these = std::mem::replace(&mut pieces, rest);
            workers.push(scope.spawn(move || these.into_iter().try_for_each(Piece::check)));
        }
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or(Err(SnapshotError::Damaged("a page can't be read"))))
    })
}

impl<'a> Piece<'a> {
    /// Cuts it into pieces of at most `pages` pages.
    fn split(self, pages: usize) -> Vec<Piece<'a>> {
        let (run, from, sparse) = (self.run, self.from, self.sparse);
        let mut place = self.place;
        let runs = run.parts(pages);
        runs.map(|run| {
            let len = run.len() as usize;
            let this = match std::mem::replace(&mut place, Place::Nowhere) {
                Place::Mapped(bytes) => {
                    let (this, rest) = bytes.split_at(len);
                    place = Place::Mapped(rest);
                    Place::Mapped(this)
                }
                Place::Read(bytes) => {
                    let (this, rest) = bytes.split_at_mut(len);
                    place = Place::Read(rest);
                    Place::Read(this)
                }
                Place::Nowhere => Place::Nowhere,
            };
            Piece {
                run,
                from,
                place: this,
                sparse,
            }
        })
        .collect()
    }

    /// Reads it, if it is to be read, and checks it.
    fn check(self) -> Result<(), SnapshotError> {
        let (from, sparse) = (self.from, self.sparse);
        let read = |run: &PageRun<'_>, bytes: &mut [u8]| {
            // Where the file has a hole, so has the memory.
            if sparse && is_hole(from, run.offset..run.offset + run.len()) {
                let wrong = run.crcs.iter().position(|&crc| crc != ZERO_CRC);
                return wrong.map_or(Ok(()), |n| {
                    Err(SnapshotError::PageChecksum {
                        memory: run.memory,
                        page: run.first + n as u64,
                    })
                });
            }
            let read = Origin::read_at(from, bytes, run.offset);
            read.map_err(SnapshotError::io("read a page of the snapshot"))?;
            run.verify(bytes)
        };
        let mut runs = self.run.parts(CHUNK_PAGES);
        match self.place {
            Place::Mapped(bytes) => self.run.verify(bytes),
            Place::Read(bytes) => runs
                .zip(bytes.chunks_mut(CHUNK_PAGES * PAGE_SIZE))
                .try_for_each(|(run, bytes)| read(&run, bytes)),
            Place::Nowhere => {
                let mut buffer = vec![0; self.run.crcs.len().min(CHUNK_PAGES) * PAGE_SIZE];
                runs.try_for_each(|run| read(&run, &mut buffer[..run.crcs.len() * PAGE_SIZE]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_has_the_checksum_of_zeros() {
        let zeros = [0; PAGE_SIZE];
        let run = PageRun {
            memory: 0,
            first: 0,
            count: 1,
            file: 0,
            at: 0,
            offset: 0,
            crcs: &[ZERO_CRC],
        };
        run.verify(&zeros).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(file.is_sparse() && is_hole(&file, 0..run.len()));
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", PAGE_SIZE as u64 - 1).unwrap();
        assert!(!is_hole(&file, 0..run.len()));
    }
}
