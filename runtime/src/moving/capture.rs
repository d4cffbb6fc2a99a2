//! From a stopped program to its uniform state, and from there to a sink: a snapshot file, or another.

use crate::engine::running::Running;
use crate::instance::memory::{Memory, WASM_PAGE};
use crate::moving::rounds::Last;
use crate::os::unverified;
use dunlin_format::types::NULL_REF;
use dunlin_migrate::frames::{self, FrameError};
use dunlin_migrate::snapshot::{SnapshotError, WriteStats};
use dunlin_migrate::state::wasi::WasiState;
use dunlin_migrate::state::{MemoryState, State, TableState};
use dunlin_migrate::transfer::{AtRest, Contents, FirstOf, MemoryAtRest, Sink};
use dunlin_migrate::validate::validate;
use std::io::{self, Write};
use std::path::Path;

/// Why no snapshot was made. The program can go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// The stack can't be read: a bug, or memory corruption.
    #[error(transparent)]
    Frames(#[from] FrameError),
    /// The program uses something of its host that can't move.
    #[error(transparent)]
    Wasi(#[from] crate::wasi::CaptureError),
    /// The undo journal that a snapshot begins can't be written.
    #[error("cannot begin an undo journal: {0}")]
    Journal(io::Error),
    /// The snapshot can't be written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// The state of a program that is stopped at a migration point, inside a call of the leave thunk.
pub(crate) fn capture(running: &Running) -> Result<State, CaptureError> {
    state(running, running.wasi.capture()?)
}

/// The state without what can't move, and the obstacles: for answering whether the program could move, not for a
/// snapshot.
pub(crate) fn examine(running: &Running) -> Result<(State, Vec<crate::wasi::Obstacle>), CaptureError> {
    let (wasi, obstacles) = running.wasi.examine();
    Ok((state(running, wasi)?, obstacles))
}

fn state(running: &Running, wasi: WasiState) -> Result<State, CaptureError> {
    // What comes next reads memory in ways that can't wait for it: from a copy of the process, by system calls.
    unverified::finish();
    let instance = &running.instance;
    let program = instance.program;
    let frames = frames::capture(
        &program.maps,
        instance.stack.usable().start,
        instance.stack.bytes(),
        instance.leave_fp(),
    )?;
    let elements = |table: &[dunlin_format::context::TableEntry]| TableState {
        elements: table.iter().map(|e| Some(e.func).filter(|&f| f != NULL_REF)).collect(),
    };
    Ok(State {
        module: program.image().module_hash(),
        invocation: running.invocation.clone(),
        frames,
        globals: (0..program.module.globals.len() as u32)
            .map(|g| instance.global(g))
            .collect(),
        memories: instance
            .memories()
            .map(|m| MemoryState {
                pages: m.size() / WASM_PAGE,
            })
            .collect(),
        tables: instance.tables().iter().map(|t| elements(t)).collect(),
        dropped_elements: instance.dropped_elements.clone(),
        dropped_data: instance.dropped_data.clone(),
        wasi,
        exceptions: instance.exceptions.state(),
    })
}

/// What a snapshot that was written amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    /// Number of frames on the stack.
    pub frames: u64,
    /// Sizes of what was written.
    pub stats: WriteStats,
}

/// The linear memories of a program at rest, and which of their pages may hold something.
pub(crate) fn memories(running: &Running) -> Vec<MemoryAtRest<'_>> {
    let at_rest = |memory| MemoryAtRest {
        bytes: Memory::bytes(memory),
        touched: memory.touched(),
        unchanged: None,
    };
    running.instance.memories().map(at_rest).collect()
}

/// Hands a program that is stopped at a migration point to a sink. `state` is what [`capture`] found there; of its
/// carried contents, those in `read` were read already.
pub(crate) fn hand_over<S: Sink>(
    running: &Running,
    state: &State,
    read: &dyn Contents,
    sink: &mut S,
) -> Result<S::Taken, S::Error> {
    let own = running.wasi.contents(&state.wasi);
    let places: [&dyn Contents; 2] = [read, &own];
    sink.take(&AtRest {
        state,
        memories: &memories(running),
        contents: &FirstOf(&places),
    })
}

/// The party that asked for a snapshot.
pub(crate) trait Asker {
    /// Tells whether nobody waits for the snapshot any more: then writing it stops.
    fn is_gone(&self) -> bool;

    /// Tells the party that the snapshot is there; `false` if that can't be told, and then it is taken back.
    fn told(&self, done: &Captured) -> bool;
}

/// The program itself, which asked to be checkpointed when a signal arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Itself;

impl Asker for Itself {
    fn is_gone(&self) -> bool {
        false
    }

    fn told(&self, _: &Captured) -> bool {
        true
    }
}

/// Writes a snapshot file, and reads it again as a resumer would, before anything is replaced. When anything fails, or
/// when `asker` is gone before it has heard of it, a file that was there before is as it was.
pub(crate) fn write_file(running: &Running, path: &Path, asker: &dyn Asker) -> Result<Captured, CaptureError> {
    let snapshot = Last {
        running,
        memories: &memories(running),
        base: None,
    };
    snapshot.write(path, asker, false)
}

/// Refuses a state that this program would not accept elsewhere. What only the receiver knows (its grants, its files,
/// its memory) isn't considered.
pub(crate) fn check(running: &Running, mut state: State) -> Result<(), SnapshotError> {
    let program = running.instance.program;
    let validated = validate(&mut state, &program.module, &program.maps);
    validated.map_err(|e| SnapshotError::Unusable(e.to_string()))?;
    state.wasi.check().map_err(|e| SnapshotError::Unusable(e.to_string()))
}

/// Bytes that are written before someone looks whether they are still wanted.
const PATIENCE: usize = 1 << 20;

/// Writes as long as somebody waits for it.
pub(super) struct Patient<'a, W> {
    out: W,
    asker: &'a dyn Asker,
    since: usize,
}

impl<'a, W> Patient<'a, W> {
    /// Writes to `out` as long as `asker` is there.
    pub(super) fn new(out: W, asker: &'a dyn Asker) -> Patient<'a, W> {
        Patient { out, asker, since: 0 }
    }
}

impl<W: Write> Write for Patient<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.since >= PATIENCE {
            self.since = 0;
            if self.asker.is_gone() {
                return Err(io::Error::other("it is not wanted any more"));
            }
        }
        let written = self.out.write(&bytes[..bytes.len().min(PATIENCE)])?;
        self.since += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
