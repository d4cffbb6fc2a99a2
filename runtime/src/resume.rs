//! From a snapshot to a program that can go on: everything is checked against the module and this machine's grants before
//! anything of it is used.

use crate::arch;
use crate::exceptions::Exceptions;
use crate::instance::{Instance, InstanceError, Limits};
use crate::journal::BackError;
use crate::memory::{Memory, MemoryError, WASM_PAGE};
use crate::options::WasiConfig;
use crate::program::Program;
use crate::running::Running;
use crate::wasi::{RestoreError, RestoreProblem, Wasi};
use dunlin_migrate::frames::{self, Entry, FrameError};
use dunlin_migrate::module::ModuleHash;
use dunlin_migrate::snapshot::{Contents, PAGE_SIZE, PageRun, Snapshot, SnapshotError};
use dunlin_migrate::state::files::{Chunk, ContentHash};
use dunlin_migrate::state::validate::{StateError, validate};
use dunlin_migrate::state::{Invocation, PointKind, Slot, State};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Why a snapshot was refused.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The file can't be opened.
    #[error("cannot open it: {0}")]
    Open(io::Error),
    /// The file is damaged, or no snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It is another program's.
    #[error("it is a snapshot of another program (module {found:.16}..., this one is {own:.16}...)")]
    OtherProgram {
        /// Whose it is.
        found: String,
        /// Whose this executable is.
        own: String,
    },
    /// This executable has no migration points.
    #[error("this executable was built with --no-migration and can't resume anything; build it again without")]
    NotMigratable,
    /// It says what can't be.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its frames can't be rebuilt here.
    #[error(transparent)]
    Frames(#[from] FrameError),
    /// It needs more than there is.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// It refers to host resources that can't be had.
    #[error(transparent)]
    Wasi(#[from] RestoreError),
    /// Its files can't be taken back to where they were.
    #[error(transparent)]
    Back(#[from] BackError),
    /// The program's arguments on the command line aren't the snapshot's.
    #[error("its program was started with other arguments: {snapshot}; now given: {given}")]
    Arguments {
        /// In the snapshot.
        snapshot: String,
        /// On the command line.
        given: String,
    },
}

/// The most parts of a memory that are mapped. A process may have some 65000 mappings; an incremental snapshot can have as many runs.
const MAX_MAPPINGS: usize = 4096;

impl ResumeError {
    /// Is the file damaged or gone, so that an earlier one may do?
    pub fn is_damage(&self) -> bool {
        match self {
            ResumeError::Open(_) => true,
            ResumeError::Snapshot(e) => e.is_damage(),
            ResumeError::Wasi(RestoreError(problems)) => {
                let damage = |p: &RestoreProblem| matches!(p, RestoreProblem::Contents(e) if e.is_damage());
                !problems.is_empty() && problems.iter().all(damage)
            }
            _ => false,
        }
    }
}

/// Where the bytes of a snapshot are.
pub trait Source: Read + Seek {
    /// Fills bytes of a linear memory, by mapping if possible.
    fn load(&self, memory: &mut Memory, offset: u64, at: u64, len: u64) -> Result<(), SnapshotError>;

    /// Fills a buffer with the bytes at an offset.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn load(&self, memory: &mut Memory, offset: u64, at: u64, len: u64) -> Result<(), SnapshotError> {
        let mapped = match memory.mapped().len() < MAX_MAPPINGS {
            true => memory.map_file(self, offset, at, len),
            false => Ok(false),
        };
        match mapped {
            Ok(true) => Ok(()),
            // A file system that can't map, or pages of another size.
            Ok(false) | Err(MemoryError::Map(_)) => {
                let place = place(memory, at, len)?;
                self.read_exact_at(place, offset)
                    .map_err(SnapshotError::io("read a page of the snapshot"))
            }
            Err(e) => Err(SnapshotError::io("read a page of the snapshot")(io::Error::other(e))),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Source for Cursor<Vec<u8>> {
    fn load(&self, memory: &mut Memory, offset: u64, at: u64, len: u64) -> Result<(), SnapshotError> {
        let bytes = offset
            .checked_add(len)
            .and_then(|end| self.get_ref().get(offset as usize..end as usize));
        let bytes = bytes.ok_or(SnapshotError::Damaged("a stored page lies beyond its end"))?;
        place(memory, at, len)?.copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        let bytes = end.and_then(|end| self.get_ref().get(offset as usize..end as usize));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The carried contents of a snapshot.
struct Carried<'a, R> {
    places: HashMap<ContentHash, (&'a R, u64)>,
}

impl<'a, R> Carried<'a, R> {
    fn of(snapshot: &'a Snapshot<R>) -> Carried<'a, R> {
        let wanted = snapshot.state().wasi.files.chunks.iter().map(|c| c.hash);
        let places = snapshot.content_places();
        Carried {
            places: wanted.filter_map(|hash| Some((hash, *places.get(&hash)?))).collect(),
        }
    }
}

impl<R: Source> Contents for Carried<'_, R> {
    fn copy(&self, chunk: &Chunk, out: &mut dyn Write) -> io::Result<bool> {
        let Some(&(reader, offset)) = self.places.get(&chunk.hash) else {
            return Ok(false);
        };
        let mut buffer = vec![0; chunk.len.min(1 << 18) as usize];
        let mut done = 0;
        while done < chunk.len {
            let part = &mut buffer[..(chunk.len - done).min(1 << 18) as usize];
            reader.read_at(part, offset + done)?;
            out.write_all(part)?;
            done += part.len() as u64;
        }
        Ok(true)
    }
}

fn place(memory: &mut Memory, at: u64, len: u64) -> Result<&mut [u8], SnapshotError> {
    let place = at
        .checked_add(len)
        .and_then(|end| memory.bytes_mut().get_mut(at as usize..end as usize));
    place.ok_or(SnapshotError::Damaged("a stored page lies beyond its memory"))
}

/// Opens a snapshot file, and those beside it that it takes pages from, and reads all of it but the memory's pages.
pub fn open(path: &Path) -> Result<Snapshot<File>, ResumeError> {
    let mut snapshot = Snapshot::open(open_file(path).map_err(ResumeError::Open)?)?;
    snapshot.attach_all(|name| open_file(&path.with_file_name(name)))?;
    Ok(snapshot)
}

fn open_file(path: &Path) -> io::Result<File> {
    // Not blocking on a pipe that someone has put there.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// Refuses a snapshot of another program.
pub fn check_program(program: &Program, found: ModuleHash) -> Result<(), ResumeError> {
    let own = program.image().module_hash();
    if found != own {
        return Err(ResumeError::OtherProgram {
            found: found.to_string(),
            own: own.to_string(),
        });
    }
    if !program.image().migratable() {
        return Err(ResumeError::NotMigratable);
    }
    Ok(())
}

/// An instance to be filled from a snapshot. Frame sizes differ between architectures, so its stack is half as large again: what
/// fitted where the program comes from fits here, however often it moves.
pub fn shell(program: &'static Program, limits: &Limits) -> Result<Instance, InstanceError> {
    Instance::new(
        program,
        &Limits {
            stack: limits.stack.saturating_add(limits.stack / 2),
            ..*limits
        },
    )
}

/// Fills an instance from a snapshot's state and pages. Returns the imported function whose call was undone, if that is where the
/// program stands; its arguments are in the slots again.
fn fill_instance<R: Source>(instance: &mut Instance, snapshot: &Snapshot<R>, state: &State) -> Result<Option<u32>, ResumeError> {
    let program = instance.program;
    let Some(outermost) = state.frames.first() else {
        return Err(FrameError::Empty.into());
    };
    let trampoline = program
        .trampoline(outermost.func)
        .ok_or(FrameError::NoFunction(outermost.func))?;
    // The frames first: they are what can fail here and not where the snapshot was made.
    let entry = Entry {
        top: instance.stack.top(),
        enter_return: arch::enter_return(),
        trampoline,
        ctx: instance.ctx().addr() as u64,
    };
    let base = instance.stack.usable().start;
    let leave_fp = frames::rebuild(&program.maps, base, instance.stack.bytes_mut(), &entry, &state.frames)?;
    instance.set_leave_fp(leave_fp);
    for (index, memory) in (0..).zip(&state.memories) {
        instance
            .grow_memory_to(index, memory.pages.saturating_mul(WASM_PAGE))
            .map_err(InstanceError::Memory)?;
        let Some(memory) = instance.memory_at_mut(index) else {
            continue;
        };
        let runs: Vec<PageRun<'_>> = snapshot.runs().filter(|run| run.memory == index).collect();
        for run in &runs {
            let at = run.first * PAGE_SIZE as u64;
            snapshot.reader_of(run)?.load(memory, run.offset, at, run.len())?;
        }
        verify(memory.bytes(), &runs)?;
    }
    for (index, &value) in (0..).zip(&state.globals) {
        instance.set_global(index, value);
    }
    for (index, table) in (0..).zip(&state.tables) {
        instance.set_table(index, &table.elements)?;
    }
    instance.dropped_elements.clone_from(&state.dropped_elements);
    instance.dropped_data.clone_from(&state.dropped_data);
    instance.exceptions = Exceptions::new(state.exceptions.clone());
    let innermost = state.frames.last().filter(|f| f.kind == PointKind::Host);
    if let Some(frame) = innermost {
        // A wrapper's locals are the call's arguments; validation made them exactly its parameters.
        for &(slot, value) in &frame.values {
            if let Slot::Local(n) = slot {
                instance.set_slot(n, value.to_bits());
            }
        }
    }
    Ok(innermost.map(|frame| frame.func))
}

/// Pages that one thread checks, at least.
const PAGES_PER_THREAD: usize = 512;

/// Checks the pages in a memory against their checksums; with several threads if there are many.
fn verify(memory: &[u8], runs: &[PageRun<'_>]) -> Result<(), SnapshotError> {
    let total: usize = runs.iter().map(|run| run.crcs.len()).sum();
    let useful = total / PAGES_PER_THREAD;
    // Asking for the number of processors costs more than checking a few pages.
    let processors = if useful > 1 {
        std::thread::available_parallelism().map_or(1, usize::from)
    } else {
        1
    };
    let threads = useful.clamp(1, processors);
    let share = total.div_ceil(threads).max(1);
    let pieces: Vec<PageRun<'_>> = runs.iter().flat_map(|run| split(run, share)).collect();
    let check = |pieces: &[PageRun<'_>]| {
        pieces.iter().try_for_each(|piece| {
            let start = piece.first as usize * PAGE_SIZE;
            piece.verify(memory.get(start..start + piece.len() as usize).unwrap_or_default())
        })
    };
    if threads == 1 {
        return check(&pieces);
    }
    std::thread::scope(|scope| {
        // Pieces differ in size, but none is larger than a share: consecutive ones make about a share each.
        let per_thread = pieces.len().div_ceil(threads);
        let workers: Vec<_> = pieces
            .chunks(per_thread)
            .map(|chunk| scope.spawn(move || check(chunk)))
            .collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or(Err(SnapshotError::Damaged("a page can't be read"))))
    })
}

/// Cuts a run into pieces of at most `pages` pages.
fn split<'a>(run: &PageRun<'a>, pages: usize) -> impl Iterator<Item = PageRun<'a>> + use<'a> {
    let run = *run;
    run.crcs.chunks(pages).enumerate().map(move |(n, crcs)| {
        let before = (n * pages) as u64;
        PageRun {
            first: run.first + before,
            count: crcs.len() as u64,
            offset: run.offset + before * PAGE_SIZE as u64,
            crcs,
            ..run
        }
    })
}

/// A program restored from a snapshot.
#[derive(Debug)]
pub struct Restored {
    /// Its WebAssembly side.
    pub instance: Instance,
    /// Its host side.
    pub wasi: Wasi,
    /// What the host had called.
    pub invocation: Invocation,
    /// The imported function whose call was undone, if that is where it stands.
    pub import: Option<u32>,
    /// The program's arguments.
    pub args: Vec<String>,
}

/// Restores a program into a `shell`, from a snapshot of this program (see [`check_program`]).
/// Before anything of its host side is put back, `before_files` brings the files to where they were.
pub fn restore<R: Source>(
    shell: Instance,
    snapshot: &Snapshot<R>,
    config: &WasiConfig,
    before_files: impl FnOnce() -> Result<(), BackError>,
) -> Result<Restored, ResumeError> {
    let mut instance = shell;
    let program = instance.program;
    check_program(program, snapshot.header().module)?;
    let mut state = snapshot.state().clone();
    validate(&mut state, &program.module, &program.maps)?;
    let import = fill_instance(&mut instance, snapshot, &state)?;
    before_files()?;
    let wasi = Wasi::restore_with(&state.wasi, config, &Carried::of(snapshot))?;
    Ok(Restored {
        instance,
        wasi,
        invocation: state.invocation,
        import,
        args: state.wasi.args,
    })
}

/// Everything for which [`restore`] would refuse a snapshot of this program, not only the first thing.
pub fn problems<R: Source>(
    program: &'static Program,
    snapshot: &Snapshot<R>,
    limits: &Limits,
    config: &WasiConfig,
) -> Vec<ResumeError> {
    let mut found = Vec::new();
    let mut state = snapshot.state().clone();
    match validate(&mut state, &program.module, &program.maps) {
        // What can't be is not tried.
        Err(e) => found.push(e.into()),
        Ok(()) => match shell(program, limits) {
            Err(e) => found.push(e.into()),
            Ok(mut instance) => found.extend(fill_instance(&mut instance, snapshot, &state).err()),
        },
    }
    if !found.iter().any(|e| matches!(e, ResumeError::State(_))) {
        let problems = Wasi::restore_problems(&state.wasi, config, &Carried::of(snapshot));
        if !problems.is_empty() {
            found.push(RestoreError(problems).into());
        }
    }
    found
}

/// Fills the shell that `running` has in place of an instance, and its host side, from a snapshot's bytes.
pub(crate) fn refill(running: &mut Running, bytes: Vec<u8>) -> Result<(), ResumeError> {
    let snapshot = Snapshot::open(Cursor::new(bytes))?;
    let program = running.instance.program;
    check_program(program, snapshot.header().module)?;
    let mut state = snapshot.state().clone();
    validate(&mut state, &program.module, &program.maps)?;
    // The import that was about to be called is called by the dispatcher that is under way.
    fill_instance(&mut running.instance, &snapshot, &state)?;
    running.wasi = Wasi::restore_with(&state.wasi, &running.setup.config, &Carried::of(&snapshot))?;
    running.invocation = state.invocation;
    Ok(())
}

/// Refuses arguments on the command line that aren't the snapshot's. `given` are those after `argv[0]`.
pub fn check_args(snapshot: &[String], given: &[String]) -> Result<(), ResumeError> {
    let own = snapshot.get(1..).unwrap_or_default();
    if own == given {
        return Ok(());
    }
    let show = |args: &[String]| {
        if args.is_empty() {
            "none".to_owned()
        } else {
            format!("{args:?}")
        }
    };
    Err(ResumeError::Arguments {
        snapshot: show(own),
        given: show(given),
    })
}
