//! From a state and a source of pages to a program that can go on, in this order, so that a refusal costs as little as
//! it can: whose it is, its state against the module and the frame maps, its frames on this architecture, the
//! directories that it needs, its pages; then the files are taken back to where they were, and opened.
//!
//! Whether all of that lies in a snapshot file or comes otherwise is not known here: see [`dunlin_migrate::transfer`].

use crate::engine;
use crate::engine::running::Running;
use crate::instance::exceptions::Exceptions;
use crate::instance::memory::WASM_PAGE;
use crate::instance::{Instance, InstanceError, Limits};
use crate::journal::BackError;
use crate::program::Program;
use crate::wasi::{RestoreError, RestoreProblem, Wasi};
use dunlin_format::module::ModuleHash;
use dunlin_format::point::{PointKind, Slot};
use dunlin_interface::options::WasiConfig;
use dunlin_migrate::frames::{FrameError, rebuild};
use dunlin_migrate::snapshot::SnapshotError;
use dunlin_migrate::state::{Invocation, MemoryState, State, TableState};
use dunlin_migrate::transfer::{Contents, PageSource};
use dunlin_migrate::validate::{StateError, validate};
use std::io;

/// Why a snapshot was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    /// The file can't be opened.
    #[error("cannot open it: {0}")]
    Open(io::Error),
    /// The file is damaged, or no snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It is another program's.
    #[error("it is a snapshot of another program (module {found:.16}..., this one is {own:.16}...)")]
    OtherProgram {
        /// Hash of the snapshot's module, in hexadecimal.
        found: String,
        /// Hash of this executable's module, in hexadecimal.
        own: String,
    },
    /// This executable has no migration points.
    #[error("this executable was built with --no-migration and can't resume anything; build it again without")]
    NotMigratable,
    /// The state contradicts the module.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its frames can't be rebuilt here.
    #[error(transparent)]
    Frames(#[from] FrameError),
    /// Memory that it needs can't be had.
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
        /// The arguments in the snapshot.
        snapshot: String,
        /// The arguments on the command line.
        given: String,
    },
}

impl ResumeError {
    /// Tells whether the file is damaged or gone, so that an earlier snapshot may do.
    pub(crate) fn is_damage(&self) -> bool {
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

/// Refuses a snapshot of another program.
pub(crate) fn check_program(program: &Program, found: ModuleHash) -> Result<(), ResumeError> {
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
pub(crate) fn shell(program: &'static Program, limits: &Limits) -> Result<Instance, InstanceError> {
    let limits = Limits {
        stack: limits.stack.saturating_add(limits.stack / 2),
        ..*limits
    };
    engine::new_instance(program, &limits)
}

/// Accepts a state, and fills an instance from it, but for its pages; see [`fill_instance`].
fn fill_all_but_pages(instance: &mut Instance, state: &mut State) -> Result<Option<u32>, ResumeError> {
    let program = instance.program;
    check_program(program, state.module)?;
    validate(state, &program.module, &program.maps)?;
    fill_instance(instance, state)
}

/// Fills an instance from a validated state, but for its pages. Returns the imported function whose call was undone,
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
    let entry = engine::entry(instance, trampoline);
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
pub(crate) struct Restored {
    /// The WebAssembly side.
    pub instance: Instance,
    /// The host side.
    pub wasi: Wasi,
    /// The function that the host had called.
    pub invocation: Invocation,
    /// The imported function whose call was undone, if that is where it stands.
    pub import: Option<u32>,
    /// The program's arguments.
    pub args: Vec<String>,
}

/// A program that has all but its files. Its pages are in its memories, or go there before [`Filled::finish`].
#[derive(Debug)]
pub(crate) struct Filled {
    /// The WebAssembly side.
    pub instance: Instance,
    state: State,
    import: Option<u32>,
}

impl Filled {
    /// Accepts a state of this program, and fills a `shell` from it, but for its pages.
    pub(crate) fn new(shell: Instance, mut state: State) -> Result<Filled, ResumeError> {
        let mut instance = shell;
        let import = fill_all_but_pages(&mut instance, &mut state)?;
        Ok(Filled {
            instance,
            state,
            import,
        })
    }

    /// What of its host side stands in the way here; nothing is changed.
    pub(crate) fn files_problems(&self, contents: &dyn Contents, config: &WasiConfig) -> Vec<RestoreProblem> {
        Wasi::restore_problems(&self.state.wasi, config, contents)
    }

    /// Puts back its host side. Before anything of it is, `before_files` brings the files to where they were, and says
    /// whether it has done so for all of them; at last, `go_on` hears that the program goes on with its pages.
    pub(crate) fn finish(
        self,
        contents: &dyn Contents,
        config: &WasiConfig,
        before_files: impl FnOnce() -> Result<bool, BackError>,
        go_on: impl FnOnce(&Instance),
    ) -> Result<Restored, ResumeError> {
        let back = before_files()?;
        let config = &WasiConfig { back, ..config.clone() };
        let wasi = Wasi::restore_with(&self.state.wasi, config, contents)?;
        go_on(&self.instance);
        Ok(Restored {
            instance: self.instance,
            wasi,
            invocation: self.state.invocation,
            import: self.import,
            args: self.state.wasi.args,
        })
    }
}

/// Restores a program into a `shell`: from the state of this program (see [`check_program`]), its pages, and the
/// contents of its carried files; `before_files` as in [`Filled::finish`].
pub(crate) fn restore<S>(
    shell: Instance,
    state: State,
    mut pages: S,
    contents: &dyn Contents,
    config: &WasiConfig,
    before_files: impl FnOnce() -> Result<bool, BackError>,
) -> Result<Restored, ResumeError>
where
    S: PageSource<Instance>,
    ResumeError: From<S::Error>,
{
    let mut filled = Filled::new(shell, state)?;
    // A refusal costs no page.
    Wasi::check_grants(&filled.state.wasi, config)?;
    pages.fill(&mut filled.instance)?;
    filled.finish(contents, config, before_files, |instance| pages.go_on(instance))
}

/// As [`restore`], into the shell that `running` has in place of an instance.
pub(crate) fn refill<S>(
    running: &mut Running,
    mut state: State,
    mut pages: S,
    contents: &dyn Contents,
) -> Result<(), ResumeError>
where
    S: PageSource<Instance>,
    ResumeError: From<S::Error>,
{
    // The import that was about to be called is called by the dispatcher that is under way.
    fill_all_but_pages(&mut running.instance, &mut state)?;
    pages.fill(&mut running.instance)?;
    running.wasi = Wasi::restore_with(&state.wasi, &running.setup.config, contents)?;
    pages.go_on(&running.instance);
    running.invocation = state.invocation;
    Ok(())
}

/// Everything for which [`restore`] would refuse a state of this program, not only the first thing. `verify` says what
/// is wrong with its pages, if that is to be found out, too; it isn't asked about a state that can't be.
pub(crate) fn problems(
    program: &'static Program,
    mut state: State,
    contents: &dyn Contents,
    limits: &Limits,
    config: &WasiConfig,
    verify: impl FnOnce() -> Result<(), ResumeError>,
) -> Vec<ResumeError> {
    let mut found = Vec::new();
    match validate(&mut state, &program.module, &program.maps) {
        // What can't be is not tried.
        Err(e) => return vec![e.into()],
        Ok(()) => match shell(program, limits) {
            Err(e) => found.push(e.into()),
            Ok(mut instance) => found.extend(fill_instance(&mut instance, &state).err()),
        },
    }
    found.extend(verify().err());
    let problems = Wasi::restore_problems(&state.wasi, config, contents);
    if !problems.is_empty() {
        found.push(RestoreError(problems).into());
    }
    found
}

/// Refuses arguments on the command line that aren't the snapshot's. `given` are those after `argv[0]`.
pub(crate) fn check_args(snapshot: &[String], given: &[String]) -> Result<(), ResumeError> {
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
