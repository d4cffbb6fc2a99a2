//! From a snapshot to a program that can go on, in this order, so that a refusal costs as little as it can: whose it
//! is, its state against the module and the frame maps, its frames on this architecture, the directories that it needs,
//! its pages; then the files are taken back to where they were, and opened.

use crate::engine::arch;
use crate::engine::running::Running;
use crate::instance::exceptions::Exceptions;
use crate::instance::memory::{Memory, WASM_PAGE};
use crate::instance::{Instance, InstanceError, Limits};
use crate::journal::BackError;
use crate::moving::pages;
use crate::program::Program;
use crate::wasi::{RestoreError, RestoreProblem, Wasi};
use dunlin_format::module::ModuleHash;
use dunlin_format::point::{PointKind, Slot};
use dunlin_interface::options::WasiConfig;
use dunlin_migrate::frames::{Entry, FrameError, rebuild};
use dunlin_migrate::snapshot::{Contents, Origin, Snapshot, SnapshotError};
use dunlin_migrate::state::files::{Chunk, ContentHash};
use dunlin_migrate::state::{Invocation, MemoryState, State, TableState};
use dunlin_migrate::validate::{StateError, validate};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Write};
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
pub trait Source: Origin + Sync {
    /// Fills a buffer with the bytes at an offset.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// The file itself, if there is one.
    fn file(&self) -> Option<&File>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn file(&self) -> Option<&File> {
        Some(self)
    }
}

impl Source for Cursor<Vec<u8>> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        let bytes = end.and_then(|end| self.get_ref().get(offset as usize..end as usize));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn file(&self) -> Option<&File> {
        None
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

/// An instance to be filled from a snapshot. Frame sizes differ between architectures, so its stack is half as large
/// again: what fitted where the program comes from fits here, however often it moves.
pub fn shell(program: &'static Program, limits: &Limits) -> Result<Instance, InstanceError> {
    Instance::new(
        program,
        &Limits {
            stack: limits.stack.saturating_add(limits.stack / 2),
            ..*limits
        },
        arch::leave(),
    )
}

/// Fills an instance from a snapshot's state, but for its pages. Returns the imported function whose call was undone,
/// if that is where the program stands; its arguments are in the slots again.
fn fill_instance(instance: &mut Instance, state: &State) -> Result<Option<u32>, ResumeError> {
    // Every field by name: a new one must not be left out here.
    let State {
        module: _, // Compared by `check_program`.
        wasi: _,   // Put back by `Wasi::restore_with`.
        invocation,
        frames,
        globals,
        memories,
        tables,
        dropped_elements,
        dropped_data,
        exceptions,
    } = state;
    let program = instance.program;
    let Some(outermost) = frames.first() else {
        return Err(FrameError::Empty.into());
    };
    // That of the function that was called: by a tail call, the outermost frame may be of another one, with other
    // parameters.
    let invoked = match invocation {
        Invocation::Start => program.module.start,
        Invocation::Export(name) => program.module.exported_func(name),
    };
    let invoked = invoked.unwrap_or(outermost.func);
    let trampoline = program.trampoline(invoked).ok_or(FrameError::NoFunction(invoked))?;
    // The frames first: they are what can fail here and not where the snapshot was made.
    let entry = Entry {
        top: instance.stack.top(),
        enter_return: arch::enter_return(),
        trampoline,
        ctx: instance.ctx().addr() as u64,
    };
    let base = instance.stack.usable().start;
    let leave_fp = rebuild(&program.maps, base, instance.stack.bytes_mut(), &entry, frames)?;
    instance.set_leave_fp(leave_fp);
    for (index, &MemoryState { pages }) in (0..).zip(memories) {
        instance
            .grow_memory_to(index, pages.saturating_mul(WASM_PAGE))
            .map_err(InstanceError::Memory)?;
    }
    for (index, &value) in (0..).zip(globals) {
        instance.set_global(index, value);
    }
    for (index, TableState { elements }) in (0..).zip(tables) {
        instance.set_table(index, elements)?;
    }
    instance.dropped_elements.clone_from(dropped_elements);
    instance.dropped_data.clone_from(dropped_data);
    instance.exceptions = Exceptions::new(exceptions.clone());
    let innermost = frames.last().filter(|f| f.kind == PointKind::Host);
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

/// Restores a program into a `shell`, from a snapshot of this program (see [`check_program`]). Before anything of its
/// host side is put back, `before_files` brings the files to where they were, and says whether it has done so for all
/// of them.
pub fn restore<R: Source>(
    shell: Instance,
    snapshot: &Snapshot<R>,
    config: &WasiConfig,
    before_files: impl FnOnce() -> Result<bool, BackError>,
) -> Result<Restored, ResumeError> {
    let mut instance = shell;
    let program = instance.program;
    check_program(program, snapshot.header().module)?;
    let mut state = snapshot.state().clone();
    validate(&mut state, &program.module, &program.maps)?;
    let import = fill_instance(&mut instance, &state)?;
    // A refusal costs no page.
    Wasi::check_grants(&state.wasi, config)?;
    let leases = pages::fill(&mut instance, snapshot)?;
    let back = before_files()?;
    let config = &WasiConfig { back, ..config.clone() };
    let wasi = Wasi::restore_with(&state.wasi, config, &Carried::of(snapshot))?;
    leases.keep(instance.memories().flat_map(Memory::mapped_addresses).collect());
    Ok(Restored {
        instance,
        wasi,
        invocation: state.invocation,
        import,
        args: state.wasi.args,
    })
}

/// Everything for which [`restore`] would refuse a snapshot of this program, not only the first thing. Damaged pages
/// are only found if `all_pages` are to be read, which takes as long as that takes.
pub fn problems<R: Source>(
    program: &'static Program,
    snapshot: &Snapshot<R>,
    limits: &Limits,
    config: &WasiConfig,
    all_pages: bool,
) -> Vec<ResumeError> {
    let mut found = Vec::new();
    let mut state = snapshot.state().clone();
    match validate(&mut state, &program.module, &program.maps) {
        // What can't be is not tried.
        Err(e) => found.push(e.into()),
        Ok(()) => match shell(program, limits) {
            Err(e) => found.push(e.into()),
            Ok(mut instance) => found.extend(fill_instance(&mut instance, &state).err()),
        },
    }
    if !found.iter().any(|e| matches!(e, ResumeError::State(_))) {
        if all_pages {
            found.extend(pages::verify(snapshot).err().map(ResumeError::from));
        }
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
    fill_instance(&mut running.instance, &state)?;
    // Nothing of it is mapped: it is no file.
    pages::fill(&mut running.instance, &snapshot)?;
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
