//! `--evacuate-to`: a program that is asked to end moves to another machine instead. It starts `dunlin migrate` for
//! itself and runs on until that has it stopped; if the move fails, or takes longer than `--evacuate-within`, the
//! program writes its own snapshot as it does without a machine to go to.
//!
//! Never both: the snapshot is written by the program's thread, at a migration point, and only once the process that
//! moves it has ended. A program that stands still for that process is at no such point; if the process ends without a
//! verdict, the record says whose the program is (`hand_over.rs`).

use crate::os::fork::Command;
use crate::os::messages::complain;
use crate::os::signals::with_signals_blocked;
use crate::requests::inbox::Shared;
use dunlin_interface::options::{OPTS_VARIABLE, Options};
use dunlin_migrate::control::Reply;
use dunlin_migrate::printable;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The variable that names the `dunlin` command, if it isn't to be the one on the `PATH`.
const COMMAND: &str = "DUNLIN";

/// How long a move may take unless `--evacuate-within` says otherwise.
const WITHIN: Duration = Duration::from_secs(20);

/// How long `dunlin migrate` may take to give up once it is asked to, until it is killed. From the release on it
/// doesn't give up: then this is what it has left to tell the other machine.
const GIVING_UP: Duration = Duration::from_secs(3);

/// How often the watching thread looks.
const LOOK: Duration = Duration::from_millis(20);

/// Stack of the watching thread in bytes.
const THREAD_STACK: usize = 256 << 10;

/// Variables that are meant for this process alone.
const OWN_VARIABLES: [&str; 5] = [
    OPTS_VARIABLE,
    "DUNLIN_LOG_LIMIT",
    "DUNLIN_STARTED",
    "DUNLIN_FORCE_MIGRATE",
    "DUNLIN_CHECKPOINT_AT",
];

/// How far an evacuation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has asked.
    Idle,
    /// `dunlin migrate` is at work.
    Moving,
    /// It is not any more, and the program is still here.
    Failed,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    /// There is no time left: the move is to be given up.
    hurry: bool,
    /// The program is another machine's.
    left: bool,
}

/// What a signal makes the program do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It runs on: whoever moves it will ask it to stop.
    RunOn,
    /// It writes its snapshot.
    Save,
}

/// Where the program goes when it is asked to end.
#[derive(Debug)]
pub(crate) struct Evacuation {
    words: Vec<String>,
    within: Duration,
    shared: &'static Shared,
    state: Mutex<State>,
    changed: Condvar,
}

impl Evacuation {
    /// As the options say; `None` if they name no machine to go to.
    pub(crate) fn new(options: &Options, shared: &'static Shared) -> Option<Evacuation> {
        let words = options.evacuate_words()?;
        Some(Evacuation {
            words,
            within: options.evacuate_within.unwrap_or(WITHIN),
            shared,
            state: Mutex::new(State {
                stage: Stage::Idle,
                hurry: false,
                left: false,
            }),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The machine, for a person.
    fn to(&self) -> String {
        self.words
            .first()
            .map(|word| printable::line(word).into_owned())
            .unwrap_or_default()
    }

    /// On the program's thread: a signal has come, or the move that one has begun is over.
    pub(super) fn signalled(&'static self) -> Next {
        let mut state = self.lock();
        match state.stage {
            Stage::Failed => {
                state.stage = Stage::Idle;
                Next::Save
            }
            Stage::Moving => {
                state.hurry = true;
                self.changed.notify_all();
                Next::RunOn
            }
            Stage::Idle => match self.begin() {
                Ok(()) => {
                    state.stage = Stage::Moving;
                    state.hurry = false;
                    Next::RunOn
                }
                Err(e) => {
                    complain(&format!(
                        "cannot move to {}: {e}; a snapshot is written instead",
                        self.to()
                    ));
                    Next::Save
                }
            },
        }
    }

    /// Starts a thread that has `dunlin migrate` move the program. The caller holds the lock, which that thread waits
    /// for.
    fn begin(&'static self) -> io::Result<()> {
        let thread = std::thread::Builder::new()
            .name("dunlin-evacuate".into())
            .stack_size(THREAD_STACK);
        with_signals_blocked(|| thread.spawn(move || self.leave())).map(drop)
    }

    fn leave(&self) {
        let deadline = Instant::now() + self.within;
        let dunlin = std::env::var_os(COMMAND)
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "dunlin".into());
        let words = [dunlin.as_bytes(), b"migrate", std::process::id().to_string().as_bytes()]
            .into_iter()
            .chain(self.words.iter().map(String::as_bytes))
            .map(CString::new)
            .collect::<Result<Vec<CString>, _>>();
        let moved = words
            .map_err(io::Error::other)
            .and_then(|words| Command::start(&words, &OWN_VARIABLES))
            .map_err(|e| format!("{} can't be run: {e}", dunlin.to_string_lossy()))
            .and_then(|command| self.watch(&command, deadline));
        self.is_over(moved);
    }

    /// Waits for the end of `dunlin migrate`, which is asked to give up when the time is over or another signal comes;
    /// an error says why it has not moved the program.
    fn watch(&self, migrate: &Command, deadline: Instant) -> Result<(), String> {
        let mut given_up = None;
        loop {
            match (migrate.ended().map_err(|e| e.to_string())?, given_up) {
                (Some(true), _) => return Ok(()),
                // It has said why itself.
                (Some(false), None) => return Err("it was not moved".into()),
                (Some(false), Some(_)) => return Err("there was no time left".into()),
                (None, _) => {}
            }
            let now = Instant::now();
            let state = self.lock();
            // The program's thread doesn't take a signal while it stands still.
            let hurry = state.hurry || (!state.left && self.shared.is_signalled());
            match given_up {
                None if hurry || now >= deadline => {
                    migrate.end(false);
                    given_up = Some(now);
                }
                Some(since) if now >= since + GIVING_UP => migrate.end(true),
                _ => {}
            }
            drop(self.changed.wait_timeout(state, LOOK));
        }
    }

    fn is_over(&self, moved: Result<(), String>) {
        let mut state = self.lock();
        state.stage = match moved {
            Ok(()) => Stage::Idle,
            Err(_) => Stage::Failed,
        };
        if let (Err(why), false) = (moved, state.left) {
            complain(&format!(
                "cannot move to {}: {why}; a snapshot is written instead, unless the program has ended",
                self.to()
            ));
            self.shared.signal_again();
        }
        self.changed.notify_all();
    }

    /// The program is another machine's.
    pub(super) fn leaves(&self) {
        self.lock().left = true;
    }

    /// At the end of the program: whoever moves it has done so, or gives up. A service manager would end it together
    /// with this process, before it has told the other machine to begin.
    pub(crate) fn over(&self) {
        let mut state = self.lock();
        if !state.left {
            state.hurry = true;
        }
        while state.stage == Stage::Moving {
            // Nobody else answers any more, and it may wait for an answer.
            for job in self.shared.take_jobs() {
                job.reply(&Reply::Failed {
                    error: "the program has ended, or left".into(),
                    findings: Vec::new(),
                });
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
    }
}
