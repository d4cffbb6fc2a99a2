//! A process that waits for its program: started while that still runs elsewhere, it takes pages in as they come, then
//! the state, and goes on when it is told. What is said is in [`dunlin_migrate::standby`].
//!
//! Until it is told to go it changes nothing outside of itself: no file, no socket. Files of the program, its listening
//! sockets, the control socket and `started` come after that, as for any other start. So whoever asks what ran
//! (`dunlin_transfer::receiver`) finds a standby to be what a start is that has not begun: it holds the lock on
//! `running`, which it was given, and there is no `started`. It holds that lock before it is told to go, so there is no
//! moment at which it may go on and nobody sees it.
//!
//! | What ends | Then |
//! |---|---|
//! | whoever gives orders, before `Go` is written | standard input ends: the process ends too |
//! | the same, after that | `Go` is in the pipe, and is read: the program runs, which `started` tells |
//! | the standby, before it has made `started` | the lock goes: nothing ran, and nothing will |
//! | the standby, after that | `started` is there without a lock: as any other crash of the program |

use crate::engine::running::Setup;
use crate::moving::ahead::{Ahead, Come};
use crate::moving::resume::{self, ResumeError};
use crate::moving::{obstacles, pages};
use crate::os::started;
use crate::program::Program;
use crate::wasi::RestoreError;
use dunlin_interface::exit::{FAILED, Failure};
use dunlin_interface::machine;
use dunlin_migrate::preflight::{Finding, Needs, Target};
use dunlin_migrate::snapshot::{Snapshot, Stored};
use dunlin_migrate::standby::{Answer, Order, line, next};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A program that has come, and is to go on.
#[derive(Debug)]
pub(super) struct Arrived {
    /// The snapshot that it came in.
    pub path: PathBuf,
    /// The same, open: its contents are taken from here, whatever is at the path by now.
    pub snapshot: Snapshot<File>,
    /// All of it but its files.
    pub come: Come,
}

/// Takes in what comes, until the program is to go on. `None` if it is not: then nothing has happened.
pub(super) fn wait(program: &'static Program, setup: &Setup) -> Result<Option<Arrived>, Failure> {
    let failed = |e: io::Error| Failure::new(FAILED, format!("cannot wait for a program: {e}"));
    let mut orders = started::orders().map_err(failed)?;
    let mut answers = started::answers().map_err(failed)?;
    let mut answer = |answer: &Answer| line(answer).and_then(|line| answers.write_all(&line)).is_ok();
    let refused = |e: ResumeError| obstacles::of_refusal(&e);
    // Of what it hasn't got, it tells when it is asked.
    let mut ahead = Ahead::new(program, &setup.limits).map_err(refused);
    let mut arrived = None;
    loop {
        let order = match next(&mut orders) {
            Ok(Some(order)) => order,
            Ok(None) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let done = match order {
            Order::Go if arrived.is_some() => return Ok(arrived),
            Order::Round(path) => match &mut ahead {
                Ok(ahead) => round(program, ahead, &path).map(|()| Answer::Held),
                Err(why) => Err(std::mem::take(why)),
            },
            // What comes after it is out of turn.
            Order::State(path) => std::mem::replace(&mut ahead, Err(Vec::new()))
                .and_then(|ahead| state(program, setup, ahead, path))
                .map(|it| {
                    arrived = Some(it);
                    Answer::Ready
                }),
            Order::Go => Err(Vec::new()),
        };
        let said = done.unwrap_or_else(|findings| {
            let all: Vec<String> = findings.iter().map(Finding::to_string).collect();
            Answer::No(all.join("; "))
        });
        // If nobody hears it, nobody will say more.
        if !answer(&said) || matches!(said, Answer::No(_)) {
            return Ok(None);
        }
    }
}

/// Opens a snapshot of this program that there is memory for.
fn open(program: &Program, ahead: &Ahead, path: &Path) -> Result<Snapshot<File>, Vec<Finding>> {
    let refused = |e: ResumeError| obstacles::of_refusal(&e);
    let snapshot = pages::open(path).map_err(refused)?;
    resume::check_program(program, snapshot.header().module).map_err(refused)?;
    let here = Target {
        // What it holds already it needn't get.
        memory_bytes: machine::memory().map(|free| free.saturating_add(ahead.bytes())),
        ..Target::default()
    };
    let found = here.obstacles(&Needs::of_snapshot(&snapshot));
    match found.is_empty() {
        true => Ok(snapshot),
        false => Err(found),
    }
}

fn round(program: &Program, ahead: &mut Ahead, path: &Path) -> Result<(), Vec<Finding>> {
    let snapshot = open(program, ahead, path)?;
    ahead.round(&snapshot).map_err(|e| obstacles::of_refusal(&e))
}

/// Takes in a stopped program, and looks at all that going on from it needs.
fn state(program: &Program, setup: &Setup, ahead: Ahead, path: PathBuf) -> Result<Arrived, Vec<Finding>> {
    let refused = |e: ResumeError| obstacles::of_refusal(&e);
    let snapshot = open(program, &ahead, &path)?;
    let come = ahead.state(&snapshot).map_err(refused)?;
    let problems = come.filled.files_problems(&Stored::of(&snapshot), &setup.config);
    match problems.is_empty() {
        true => Ok(Arrived { path, snapshot, come }),
        false => Err(refused(RestoreError(problems).into())),
    }
}
