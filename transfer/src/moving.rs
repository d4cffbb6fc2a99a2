//! What moving a program takes: the program, a way to the receiver, somebody who watches; and how it ends.

use crate::link::{Link, LinkError};
use crate::records::Place;
use crate::wire::FileKind;
use dunlin_format::arch::Arch;
use dunlin_handover::Id;
use dunlin_migrate::preflight::Finding;
use std::path::PathBuf;
use std::time::Duration;

/// The program that is to move, on this machine.
pub trait Program {
    /// Stops it at its next migration point, with its state in `state.snap` of the place, durable, and
    /// `standing` there, locked.
    fn stop(&mut self, place: &Place) -> Result<(), String>;

    /// Lets it go on, if it was stopped. An error means that its process is gone.
    fn go_on(&mut self) -> Result<(), String>;

    /// Ends its process, which was stopped, and is sure of that.
    fn end(&mut self) -> Result<(), String>;
}

/// What is happening, for whoever shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of a file have gone, of so many.
    Sent {
        /// What it is.
        kind: FileKind,
        /// Bytes that have gone.
        done: u64,
        /// Its length in bytes.
        of: u64,
    },
    /// The program is asked to stop.
    Stopping,
    /// The connection was lost, and is made again.
    Reconnecting,
}

/// What the moving side needs besides the program.
pub struct Way<'a> {
    /// Connects to the receiver.
    pub connect: &'a mut dyn FnMut() -> Result<Link, LinkError>,
    /// The program's executable for an architecture; else why there is none.
    pub executable: &'a dyn Fn(Arch) -> Result<PathBuf, String>,
    /// The program's module, for a receiver that compiles it itself; else why there is none.
    pub module: &'a dyn Fn() -> Result<PathBuf, String>,
    /// Hears what is happening; returns false to cancel.
    pub progress: &'a mut dyn FnMut(Progress) -> bool,
}

impl Way<'_> {
    /// What a receiver that has no executable of the program gets: that, or the module; else what is to be done about
    /// it.
    pub(crate) fn lacking(&self, arch: Arch, takes_executables: bool) -> Result<(FileKind, PathBuf), Finding> {
        let executable = || (self.executable)(arch).map(|path| (FileKind::Executable, path));
        let module = || (self.module)().map(|path| (FileKind::Module, path));
        if !takes_executables {
            let fix = "name its module with --module, put it beside the executable, or install the executable there";
            return module().map_err(|why| {
                let what = format!("the other machine only runs what it has compiled itself, and {why}");
                Finding::new("module", what, fix)
            });
        }
        let found = executable().or_else(|why| module().map_err(|_| why));
        found.map_err(|why| Finding::new("executable", why, "build it with `dunlin build`"))
    }
}

/// How a move ended.
#[derive(Debug)]
pub enum Outcome {
    /// The program runs there.
    Moved(Moved),
    /// It stays, nothing was touched: this stands in the way.
    Refused(Vec<Finding>),
    /// It goes on here.
    Home(String),
    /// It stands still; both sides have its whole state.
    InDoubt {
        /// Which transfer.
        attempt: Id,
        /// Why it isn't known.
        why: String,
    },
    /// It stands still here; its state is in this file.
    Standing {
        /// The snapshot.
        state: PathBuf,
        /// Why it doesn't go on.
        why: String,
    },
}

/// A move that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Its process there and its output's file, if that was heard.
    pub runs: Option<(u32, String)>,
    /// The receiver's architecture.
    pub arch: String,
    /// Bytes of the executable that were sent; 0 if it was there.
    pub executable_bytes: u64,
    /// Bytes of its state.
    pub state_bytes: u64,
    /// How long everything before the stop took.
    pub before: Duration,
    /// From the request to the program's stop, with its state durable here.
    pub stop: Duration,
    /// Sending the state until it was durable and checked there.
    pub send: Duration,
    /// From then until the other side said that it runs.
    pub start: Duration,
}
