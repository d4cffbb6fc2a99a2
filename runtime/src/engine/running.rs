//! The program while it runs: an instance, its host side, and how compiled code is entered and left.

use super::at_point::AtPoint;
use super::backend::{Backend, Chosen, Left};
use crate::engine::trap::{self, Fault};
use crate::instance::context;
use crate::instance::{Instance, Limits};
use crate::os::wake::Wake;
use crate::wasi::Wasi;
use dunlin_interface::exit::{Ending, FAILED, Failure};
use dunlin_interface::options::WasiConfig;
use dunlin_migrate::state::Invocation;

/// The user's options for this run. Never part of a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The resources of the host that the program may use.
    pub config: WasiConfig,
    /// The memory that it may take.
    pub limits: Limits,
}

/// Tells whether compiled code goes on after the runtime was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Flow {
    /// Go on.
    Go,
    /// The program has ended, as [`Running::end`] was told.
    End,
}

/// A program that runs, or is about to.
#[derive(Debug)]
pub(crate) struct Running {
    /// The WebAssembly side: memories, tables, globals, stack.
    pub instance: Instance,
    /// The host side: descriptors, grants, clocks.
    pub wasi: Wasi,
    /// The function that the host has called, or calls next.
    pub invocation: Invocation,
    /// The user's options.
    pub setup: Setup,
    /// Tells compiled code and host calls that a request is pending.
    pub wake: &'static Wake,
    /// Has its turn at migration points; taken out while it has.
    pub at_point: Option<Box<dyn AtPoint>>,
    /// With `--host-calls`: a line for each call of a host function since the last reply to a command.
    pub host_calls: Option<String>,
    ending: Option<Ending>,
}

/// How compiled code is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enter {
    /// By calling a function whose arguments are in the slots.
    Call(u32),
    /// By going on with a rebuilt stack. `Some` names the imported function whose call was undone: it is issued first.
    Resume(Option<u32>),
}

impl Running {
    /// A program at rest.
    pub(crate) fn new(
        instance: Instance,
        wasi: Wasi,
        setup: Setup,
        wake: &'static Wake,
        at_point: Box<dyn AtPoint>,
    ) -> Running {
        let mut running = Running {
            instance,
            wasi,
            invocation: Invocation::Start,
            setup,
            wake,
            at_point: Some(at_point),
            host_calls: None,
            ending: None,
        };
        running.note_memory_size();
        running
    }

    /// Reports the size of the memories, for `dunlin ps`.
    pub(super) fn note_memory_size(&mut self) {
        let bytes = self.instance.memory_size();
        if let Some(at_point) = &mut self.at_point {
            at_point.memory_size(bytes);
        }
    }

    /// Runs compiled code until its outermost function returns (then its results are in the slots) or the program ends
    /// otherwise.
    pub(crate) fn enter(&mut self, how: Enter) -> Result<(), Ending> {
        let program = self.instance.program;
        self.ending = None;
        let this: *mut Running = self;
        self.attach(this);
        let left = match how {
            Enter::Call(func) => {
                let trampoline = program.trampoline(func).and_then(|code| program.maps.address(code));
                let (Some(code), Some(trampoline)) = (program.maps.address(func), trampoline) else {
                    self.detach();
                    return Err(Ending::Failed(Failure::new(
                        FAILED,
                        format!("the program has no code for function {func}"),
                    )));
                };
                let (ctx, top) = (self.instance.ctx(), self.instance.stack.top());
                // SAFETY: the context is complete, both addresses are those of compiled code of matching types, and
                // nothing lives on the stack: no other call is under way. While the code runs, this `Running` is used
                // through `this`.
                unsafe { Chosen::enter(ctx, code, trampoline, top) }
            }
            Enter::Resume(import) => {
                let flow = import.map_or(Flow::Go, |index| self.call_import(index));
                match flow {
                    Flow::End => Left::Ended,
                    // SAFETY: as above; the stack was rebuilt from validated frames, with the enter thunk's return
                    // address.
                    Flow::Go => unsafe { Chosen::resume(self.instance.ctx()) },
                }
            }
        };
        self.detach();
        match left {
            Left::Returned => Ok(()),
            Left::Trapped(fault) => Err(self.trapped(fault)),
            Left::Ended => Err(self.ending.take().unwrap_or(Ending::Returned)),
        }
    }

    /// Lets signal handlers, other threads and the dispatcher find the instance.
    fn attach(&mut self, this: *mut Running) {
        // SAFETY: the header lies below the base, and the program is stopped.
        unsafe { (&raw mut (*context::header(self.instance.ctx())).runtime).write(this as u64) };
        Chosen::watch(&self.instance);
        // SAFETY: the word lives in the instance's memory; `detach` comes before that goes away. Both on this thread.
        unsafe { self.wake.attach(self.instance.poll_word()) };
    }

    fn detach(&mut self) {
        self.wake.detach();
        Chosen::unwatch();
    }

    /// Replaces the instance while the program is stopped in a host call. `make` gets this `Running` without a usable
    /// instance and must leave a complete one.
    pub(crate) fn replace_instance<E>(&mut self, make: impl FnOnce(&mut Running) -> Result<(), E>) -> Result<(), E> {
        let header = context::header(self.instance.ctx());
        // SAFETY: the header is mapped, and the program is stopped.
        let (this, host_sp) = unsafe {
            (
                (&raw const (*header).runtime).read(),
                (&raw const (*header).host_sp).read(),
            )
        };
        self.detach();
        make(self)?;
        // SAFETY: as above, for the new context.
        unsafe { (&raw mut (*context::header(self.instance.ctx())).host_sp).write(host_sp) };
        self.attach(this as *mut Running);
        Ok(())
    }

    /// Ends the program when compiled code is next gone on with.
    pub(crate) fn end(&mut self, ending: Ending) -> Flow {
        self.ending = Some(ending);
        Flow::End
    }

    fn trapped(&self, fault: Option<Fault>) -> Ending {
        match fault {
            Some(fault) => Ending::Trapped {
                message: fault.trap.message().into(),
                backtrace: trap::describe(&self.instance, &fault),
            },
            None => Ending::Failed(Failure::new(FAILED, "the program trapped for an unknown reason")),
        }
    }
}
