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
    /// Writes what it holds into `round-NUMBER.snap` of the place, durable, while it runs on; pages of earlier rounds
    /// are not written again. `None` if it can't do that.
    fn round(&mut self, place: &Place, number: u32) -> Result<Option<Round>, String>;

    /// Stops it at its next migration point, with its state in `state.snap` of the place, which needn't be durable yet
    /// and may take pages from the rounds, and `standing` there, locked.
    fn stop(&mut self, place: &Place) -> Result<(), String>;

    /// Lets it go on, if it was stopped. An error means that its process is gone.
    fn go_on(&mut self) -> Result<(), String>;

    /// Ends its process, which was stopped, and is sure of that.
    fn end(&mut self) -> Result<(), String>;
}

/// What is happening, for whoever shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The other machine takes the program, and the transfer begins.
    Agreed,
    /// So many bytes of a file have gone, of so many.
    Sent {
        /// What it is.
        kind: FileKind,
        /// Bytes that have gone.
        done: u64,
        /// Its length in bytes.
        of: u64,
    },
    /// A round of pre-copy begins.
    Round {
        /// Its number, from 1.
        number: u32,
    },
    /// The program is asked to stop.
    Stopping,
    /// The program stands still, and the other machine checks its state; told again and again.
    Waiting,
    /// The connection was lost, and is made again.
    Reconnecting,
}

/// A round of pre-copy that a program has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Bytes of its file.
    pub bytes: u64,
    /// How long the program stood still for it.
    pub pause: Duration,
    /// How long it took to be durable here.
    pub write: Duration,
    /// The system tells what the program changes.
    pub tracked: bool,
}

/// A round that is at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentRound {
    /// What was written here.
    pub round: Round,
    /// How long it took to be durable there.
    pub send: Duration,
}

/// What is wanted of pre-copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precopy {
    /// The program is stopped when what is left can be written and sent in this time.
    pub downtime: Duration,
    /// It is stopped after so many rounds in any case.
    pub max_rounds: u32,
    /// Bytes a second that are sent while it runs, at most.
    pub bandwidth: Option<u64>,
}

/// What the moving side needs besides the program.
pub struct Way<'a> {
    /// Connects to the receiver.
    pub connect: &'a mut dyn FnMut() -> Result<Link, LinkError>,
    /// The program's executable for an architecture; else why there is none.
    pub executable: &'a dyn Fn(Arch) -> Result<PathBuf, String>,
    /// The program's module, for a receiver that compiles it itself; else why there is none.
    pub module: &'a dyn Fn() -> Result<PathBuf, String>,
    /// Pages go while the program runs; `None`: all of them when it has stopped.
    pub precopy: Option<&'a Precopy>,
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
    /// The rounds that went before, while it ran.
    pub rounds: Vec<SentRound>,
    /// Bytes of its state, without those.
    pub state_bytes: u64,
    /// How long everything before the stop took.
    pub before: Duration,
    /// From the request until its state was written here.
    pub stop: Duration,
    /// From then until it was durable here, at the same time as it was sent.
    pub sync: Duration,
    /// Sending the state until it was durable and checked there.
    pub send: Duration,
    /// From then until the other side said that it runs.
    pub start: Duration,
}
