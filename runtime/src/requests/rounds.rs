//! Rounds of pre-copy: snapshots in a transfer's directory while the program runs on, so that little is left to be
//! written when it stands still.
//!
//! Each takes the pages that haven't changed from the rounds before. It is written by a forked copy, as periodic
//! snapshots are ([`super::periodic`]); but where the system can tell which pages have changed
//! ([`crate::moving::tracking`]), and they are few, from a copy of those. Whoever moves the program keeps the
//! connection of the newest round open; when that ends and the program was not asked to stand still meanwhile, the
//! transfer is over, and what was written for it goes.

use crate::engine::running::Running;
use crate::moving::rounds::{Base, write_round};
use crate::moving::tracking::{self, Changes, Tracking, Unprotected, Written};
use crate::moving::{capture, obstacles};
use crate::os::fork::{self, Child};
use crate::os::signals::with_signals_blocked;
use crate::os::{event, lease};
use crate::requests::inbox::{Job, Shared};
use dunlin_handover::{SenderRecord, SenderStage};
use dunlin_migrate::control::{Reply, Round};
use dunlin_migrate::preflight::Finding;
use dunlin_migrate::snapshot::{Contents, NoContents, WriteStats};
use dunlin_migrate::state::State;
use dunlin_migrate::transfer::MemoryAtRest;
use dunlin_transfer::records::{MOST_ROUNDS, Place, remove_if_there, round_file};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// Stack of the thread that waits for a copy, in bytes.
const THREAD_STACK: usize = 256 << 10;

/// Bytes of carried files that are kept in memory for the copy to write, at most. If more have changed, the program
/// waits until they are written.
const KEPT: u64 = 64 << 20;

/// The transfer that rounds are written for.
struct Session {
    place: PathBuf,
    /// Number of the newest round that was asked for.
    number: u32,
    /// It is being written.
    busy: bool,
    /// It isn't yet, but for that the memories are being protected.
    is_prepared: bool,
    /// The newest round that is durable.
    base: Option<Arc<Base>>,
    /// Keeps count of what is written to, if the system can.
    tracking: Option<Tracking>,
    /// What had been written to after that round when the program last stood still; `None` if that isn't known.
    written: Option<Written>,
    /// The same after the round that is being written: nothing yet.
    since: Option<Written>,
}

/// A stop of the program, and what it found out.
pub(super) struct Stop {
    /// What the snapshot builds upon.
    pub base: Option<Arc<Base>>,
    /// What was written to since then; `None` if that isn't known.
    written: Option<Written>,
    /// Kept as long as the program stands still: to end it takes time.
    _tracking: Option<Tracking>,
}

impl Stop {
    /// The memories of the program, which stands still.
    pub(super) fn memories<'a>(&self, running: &'a Running) -> Vec<MemoryAtRest<'a>> {
        memories(running, self.written.as_ref())
    }
}

fn memories<'a>(running: &'a Running, written: Option<&Written>) -> Vec<MemoryAtRest<'a>> {
    match written {
        Some(written) => tracking::memories(running, written),
        None => capture::memories(running),
    }
}

impl Session {
    fn new(place: &Path, number: u32) -> Session {
        Session {
            place: place.to_owned(),
            number,
            busy: true,
            is_prepared: false,
            base: None,
            tracking: None,
            written: None,
            since: None,
        }
    }

    /// The program stands still: finds out what it has written to.
    fn look(&mut self, running: &Running) {
        let later = self.tracking.as_ref().and_then(|tracking| tracking.look(running));
        if later.is_none() {
            self.tracking = None;
        }
        let nothing = |memory: &Vec<bool>| vec![false; memory.len()];
        self.since = later.as_ref().map(|later| later.iter().map(nothing).collect());
        self.written = self.written.take().zip(later).map(|(mut written, later)| {
            tracking::add(&mut written, later);
            written
        });
    }
}

/// The rounds of this program.
#[derive(Clone, Default)]
pub(crate) struct Rounds(Arc<Mutex<Option<Session>>>);

impl std::fmt::Debug for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rounds").finish_non_exhaustive()
    }
}

/// A round that is being written.
struct Writing {
    rounds: Rounds,
    job: Job,
    place: PathBuf,
    number: u32,
    begun: Instant,
    pause_us: u64,
    /// What keeps the program from being moved.
    findings: Vec<Finding>,
}

fn failed(error: String) -> Reply {
    let findings = Vec::new();
    Reply::Failed { error, findings }
}

impl Rounds {
    fn lock(&self) -> MutexGuard<'_, Option<Session>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// On the program's thread, which stands at a migration point: writes a round, and answers when it is durable.
    pub(super) fn serve(&self, running: &mut Running, job: Job, place: &Path, number: u32, shared: &'static Shared) {
        let begun = Instant::now();
        let mut writing = Writing {
            rounds: self.clone(),
            job,
            place: place.to_owned(),
            number,
            begun,
            pause_us: 0,
            findings: Vec::new(),
        };
        let begins = match self.begin(place, number, running) {
            Ok(begins) => begins,
            Err(why) => return writing.job.reply(&failed(why)),
        };
        let (base, written) = match begins {
            Begins::Tracking(unprotected) => {
                // Protecting all of it takes a while, in which the program needn't stand still.
                return writing.in_background(move |writing| {
                    unprotected.protect();
                    shared.ask(writing.job);
                });
            }
            Begins::Round(base, written) => (base, written),
        };
        let state = match state(running, base.as_deref(), written.as_ref()) {
            Ok(state) => state,
            Err(why) => {
                writing.findings = obstacles::of_host(running);
                return writing.stood().in_background(move |writing| writing.done(Err(why)));
            }
        };
        // Files have no copy on write: contents that no earlier round has are read while the program stands still.
        let known = base.as_ref().map(|base| base.known()).unwrap_or_default();
        let new = running.wasi.new_contents(&state.wasi, &known, KEPT).ok().flatten();
        let path = place.join(round_file(number));
        let changes = written.as_ref().and_then(|written| Changes::copy(running, written));
        match (new, changes) {
            (Some(new), Some(changes)) => writing.stood().in_background(move |writing| {
                let written = write_round(&state, &changes.memories(), &path, base.as_deref(), &[&new]);
                drop(changes);
                writing.done(written.map_err(|e| e.to_string()));
            }),
            (new, _) => {
                let write = || {
                    let own = running.wasi.contents(&state.wasi);
                    let read: &dyn Contents = new.as_ref().map_or(&NoContents, |new| new);
                    let memories = memories(running, written.as_ref());
                    let written = write_round(&state, &memories, &path, base.as_deref(), &[read, &own]);
                    written.map_err(|e| e.to_string())
                };
                match new.is_some().then(|| fork::fork(lease::is_holding(), || send(write()))) {
                    Some(Ok(child)) => writing.copied(child),
                    // Too much for memory, or no copy can be made: the program waits until it is written.
                    Some(Err(_)) | None => {
                        let written = write();
                        writing.stood().in_background(move |writing| writing.done(written));
                    }
                }
            }
        }
    }

    /// A round of this number begins.
    fn begin(&self, place: &Path, number: u32, running: &Running) -> Result<Begins, String> {
        let mut session = self.lock();
        let own = session.as_mut().filter(|session| session.place == place);
        let session = match own {
            // It has only been got ready.
            Some(own) if own.number == number && own.busy && own.is_prepared => own,
            Some(own) if own.busy => return Err("a round is being written".into()),
            Some(own) if number <= own.number || number > MOST_ROUNDS => {
                return Err(format!("a round {number} can't follow round {}", own.number));
            }
            Some(own) => own,
            None => {
                if session.as_ref().is_some_and(|session| session.busy) {
                    return Err("a round of another transfer is being written".into());
                }
                let session = session.insert(Session::new(place, number));
                session.tracking = Tracking::begin(running);
                if let Some(tracking) = &session.tracking {
                    session.is_prepared = true;
                    return Ok(Begins::Tracking(tracking.unprotected(running)));
                }
                session
            }
        };
        (session.number, session.busy, session.is_prepared) = (number, true, false);
        session.look(running);
        Ok(Begins::Round(session.base.clone(), session.written.clone()))
    }

    /// A round was written, or not; tells whether the system knows what is written to from then on.
    fn written(
        &self,
        writing: &Writing,
        opened: Result<(WriteStats, Base), String>,
    ) -> Result<(WriteStats, bool), String> {
        let mut session = self.lock();
        let own = session
            .as_mut()
            .filter(|s| s.place == writing.place && s.number == writing.number);
        let own = own.ok_or("the rounds of this transfer are over")?;
        own.busy = false;
        let (stats, base) = opened?;
        own.base = Some(Arc::new(base));
        own.written = own.since.take();
        Ok((stats, own.written.is_some()))
    }

    /// The program stands still for a transfer: its rounds are over.
    pub(super) fn end(&self, place: &Path, running: &Running) -> Option<Stop> {
        let session = self.lock().take();
        let mut session = session.filter(|session| session.place == place && !session.busy)?;
        session.look(running);
        Some(Stop {
            base: session.base,
            written: session.written,
            _tracking: session.tracking,
        })
    }
}

/// What is to be done for a round.
enum Begins {
    /// First that is to be protected, while the program runs.
    Tracking(Unprotected),
    /// The round can be written: upon what, and what was written to since then, if that is known.
    Round(Option<Arc<Base>>, Option<Written>),
}

impl Writing {
    /// The program goes on from here.
    fn stood(self) -> Writing {
        let pause_us = micros(self.begun);
        Writing { pause_us, ..self }
    }

    /// What is left to be done needs the program no more.
    fn in_background(self, work: impl FnOnce(Writing) + Send + 'static) {
        let thread = std::thread::Builder::new()
            .name("dunlin-round".into())
            .stack_size(THREAD_STACK);
        // Without a thread nobody is answered, and whoever asked hears that by the connection's end.
        let rounds = self.rounds.clone();
        if with_signals_blocked(|| thread.spawn(move || work(self))).is_err() {
            *rounds.lock() = None;
        }
    }

    /// A copy writes it.
    fn copied(self, mut child: Child) {
        self.stood().in_background(move |writing| {
            let wanted = child.is_done_before_end_of(&writing.job.stream).unwrap_or(true);
            let pid = child.pid();
            if !wanted {
                fork::kill(pid);
            }
            let result = child.result();
            let written = received(child.reap().and(result));
            if !wanted {
                remove_leftovers(&writing.place, pid.as_raw_nonzero().get());
            }
            writing.done(written);
        });
    }

    /// It was written, or not: answers, and waits for what comes next.
    fn done(self, written: Result<WriteStats, String>) {
        let path = self.place.join(round_file(self.number));
        let opened = written.and_then(|stats| Base::open(&path).map(|base| (stats, base)).map_err(|e| e.to_string()));
        let reply = match (self.rounds.written(&self, opened), self.pause_us) {
            (Ok((stats, tracked)), pause_us) => Reply::Round(Round {
                bytes: stats.bytes,
                pause_us,
                write_us: micros(self.begun).saturating_sub(pause_us),
                tracked,
            }),
            (Err(error), _) => Reply::Failed {
                error,
                findings: self.findings.clone(),
            },
        };
        if self.job.tell(&reply).is_ok() {
            event::wait_for_end(&self.job.stream);
        }
        self.over();
    }

    /// Whoever asked is gone. Unless something newer was asked for, the transfer is over.
    fn over(self) {
        let mut session = self.rounds.lock();
        let own = |s: &Session| s.place == self.place && s.number == self.number && !s.busy;
        if !session.as_ref().is_some_and(own) {
            return;
        }
        *session = None;
        drop(session);
        // Only what nobody can need: a program that was never stopped is in no snapshot.
        if let Ok(place) = Place::at(&self.place)
            && let Ok(Some(SenderRecord {
                stage: SenderStage::Moving,
                ..
            })) = place.record()
        {
            let _ = place.remove_state();
        }
    }
}

/// The state of a program that stands still, if it would be accepted elsewhere.
fn state(running: &Running, base: Option<&Base>, written: Option<&Written>) -> Result<State, String> {
    let state = capture::capture(running).map_err(|e| e.to_string())?;
    capture::check(running, state.clone()).map_err(|e| e.to_string())?;
    if let Some((base, written)) = base.zip(written) {
        let checked = base.contradict(&memories(running, Some(written)));
        checked.map_err(|e| e.to_string())?;
    }
    Ok(state)
}

/// Removes what a killed copy was writing.
fn remove_leftovers(place: &Path, pid: i32) {
    let prefix = format!(".dunlin-{pid}-");
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = remove_if_there(&entry.path());
        }
    }
}

/// What the copy tells its parent: a [`Result`], as JSON.
fn send(written: Result<WriteStats, String>) -> Vec<u8> {
    // Strings and numbers always can be written.
    serde_json::to_vec(&written).unwrap_or_default()
}

fn received(bytes: io::Result<Vec<u8>>) -> Result<WriteStats, String> {
    let bytes = bytes.map_err(|e| e.to_string())?;
    serde_json::from_slice(&bytes).map_err(|e| e.to_string())?
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
