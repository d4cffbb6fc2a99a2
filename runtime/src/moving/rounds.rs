//! Snapshots that build upon each other in the directory of one transfer: rounds, written while the program runs on,
//! and the last one, written while it stands still for good.

use crate::engine::running::Running;
use crate::moving::capture::{self, Asker, CaptureError, Captured, Patient};
use crate::moving::tracking;
use crate::os::messages::complain;
use dunlin_migrate::snapshot::{
    Contents, Earlier, FirstOf, Snapshot, SnapshotError, SnapshotSink, Stored, WriteStats, atomic_write,
    create_unsynced, open_file, replace,
};
use dunlin_migrate::state::State;
use dunlin_migrate::state::files::ByHash;
use dunlin_migrate::transfer::{AtRest, MemoryAtRest, Sink};
use std::fs::File;
use std::path::Path;

/// A round that is durable, and that the next snapshot there takes pages and carried contents from.
pub(crate) struct Base {
    snapshot: Snapshot<File>,
    earlier: Earlier,
}

impl Base {
    /// Opens a round that this program has written.
    pub(crate) fn open(path: &Path) -> Result<Base, SnapshotError> {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let snapshot = open_file(path)?;
        let earlier = Earlier::of(&snapshot, name).map(Earlier::keeping_all);
        let earlier = earlier.ok_or_else(|| SnapshotError::Unusable("it was written without digests".into()))?;
        Ok(Base { snapshot, earlier })
    }

    /// An error if a page is said to be unchanged since this round and isn't: in tests that ask for it.
    pub(crate) fn contradict(&self, memories: &[MemoryAtRest<'_>]) -> Result<(), SnapshotError> {
        let found = tracking::is_checked()
            .then(|| self.earlier.contradicted(memories))
            .flatten();
        found.map_or(Ok(()), |(memory, page)| {
            let why = format!("page {page} of memory {memory} was written to, and the system did not tell");
            complain(&why);
            Err(SnapshotError::Unusable(why))
        })
    }

    /// The chunks of carried contents that need not be read again.
    pub(crate) fn known(&self) -> ByHash<()> {
        let chunks = self.snapshot.state().wasi.files.chunks.iter();
        let stored = chunks.filter(|chunk| self.earlier.has_content(&chunk.hash));
        stored.map(|chunk| (chunk.hash, ())).collect()
    }
}

/// Writes a round. `contents`: carried contents that no earlier round has.
pub(crate) fn write_round(
    state: &State,
    memories: &[MemoryAtRest<'_>],
    path: &Path,
    base: Option<&Base>,
    contents: &[&dyn Contents],
) -> Result<WriteStats, SnapshotError> {
    let none = Earlier::default();
    let earlier = base.map_or(&none, |base| &base.earlier);
    atomic_write(path, |file| {
        let mut sink = SnapshotSink::incremental(&mut *file, earlier);
        let stats = with_contents(base, contents, &mut |contents| {
            sink.take(&AtRest {
                state,
                memories,
                contents,
            })
        })?;
        again(file, path)?;
        Ok(stats)
    })
}

/// The snapshot of a program that stands still.
pub(crate) struct Last<'a> {
    /// The program.
    pub running: &'a Running,
    /// Its memories.
    pub memories: &'a [MemoryAtRest<'a>],
    /// What it builds upon; `None`: it is to be whole.
    pub base: Option<&'a Base>,
}

impl Last<'_> {
    /// Writes it, and reads it again as a resumer would, before anything is replaced. When anything fails, or when
    /// `asker` is gone before it has heard of it, a file that was there before is as it was. With `unsynced` there is
    /// no such file, and whoever is told makes the new one durable.
    pub(crate) fn write(&self, path: &Path, asker: &dyn Asker, unsynced: bool) -> Result<Captured, CaptureError> {
        let state = capture::capture(self.running)?;
        self.base.map_or(Ok(()), |base| base.contradict(self.memories))?;
        let fill = |file: &mut File| self.fill(&state, file, path, asker);
        let told = |done: &Captured| asker.told(done);
        Ok(match unsynced {
            true => create_unsynced(path, fill, told)?,
            false => replace(path, fill, told)?,
        })
    }

    fn fill(&self, state: &State, file: &mut File, path: &Path, asker: &dyn Asker) -> Result<Captured, SnapshotError> {
        let own = self.running.wasi.contents(&state.wasi);
        let out = Patient::new(&mut *file, asker);
        let mut sink = match self.base {
            Some(base) => SnapshotSink::last(out, &base.earlier),
            None => SnapshotSink::whole(out),
        };
        let memories = self.memories;
        let written = with_contents(self.base, &[&own], &mut |contents| {
            sink.take(&AtRest {
                state,
                memories,
                contents,
            })
        });
        if asker.is_gone() {
            return Err(SnapshotError::GivenUp);
        }
        let stats = written?;
        capture::check(self.running, again(file, path)?.into_parts().0)?;
        Ok(Captured {
            frames: state.frames.len() as u64,
            stats,
        })
    }
}

/// Contents from the base's files first: what those have can't have changed since the state was taken.
fn with_contents(
    base: Option<&Base>,
    others: &[&dyn Contents],
    work: &mut dyn FnMut(&dyn Contents) -> Result<WriteStats, SnapshotError>,
) -> Result<WriteStats, SnapshotError> {
    match base {
        Some(base) => {
            let stored = Stored::of(&base.snapshot);
            let first: [&dyn Contents; 1] = [&stored];
            work(&FirstOf(&[&first[..], others].concat()))
        }
        None => work(&FirstOf(others)),
    }
}

/// Reads what a resumer reads first of a snapshot that was just written beside its bases.
fn again(file: &File, path: &Path) -> Result<Snapshot<File>, SnapshotError> {
    let file = file.try_clone().map_err(SnapshotError::io("read the snapshot"))?;
    let read = Snapshot::open(file).and_then(|mut snapshot| {
        snapshot.attach_all(|name| File::open(path.with_file_name(name)))?;
        Ok(snapshot)
    });
    read.map_err(|e| SnapshotError::Unusable(e.to_string()))
}
