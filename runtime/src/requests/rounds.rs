//! Rounds of pre-copy: snapshots in a transfer's directory while the program runs on, so that little is left to be
//! written when it stands still.
//!
//! Each is written by a forked copy, as periodic snapshots are ([`super::periodic`]), and takes the pages that haven't
//! changed from the rounds before. Whoever moves the program keeps the connection of the newest round open; when that
//! ends and the program was not asked to stand still meanwhile, the transfer is over, and what was written for it goes.

use crate::engine::running::Running;
use crate::moving::capture;
use crate::moving::rounds::{Base, write_round};
use crate::os::fork::{self, Child};
use crate::os::signals::with_signals_blocked;
use crate::os::{event, lease};
use crate::requests::inbox::Job;
use dunlin_handover::{SenderRecord, SenderStage};
use dunlin_migrate::control::{Reply, Round};
use dunlin_migrate::snapshot::WriteStats;
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
#[derive(Debug)]
struct Session {
    place: PathBuf,
    /// Number of the newest round that was asked for.
    number: u32,
    /// It is being written.
    busy: bool,
    /// The newest round that is durable.
    base: Option<Arc<Base>>,
}

/// The rounds of this program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Arc<Mutex<Option<Session>>>);

/// A round that is being written.
struct Writing {
    rounds: Rounds,
    job: Job,
    place: PathBuf,
    number: u32,
    begun: Instant,
    pause_us: u64,
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
    pub(super) fn serve(&self, running: &mut Running, job: Job, place: &Path, number: u32) {
        let begun = Instant::now();
        let base = match self.begin(place, number) {
            Ok(base) => base,
            Err(why) => return job.reply(&failed(why)),
        };
        let writing = Writing {
            rounds: self.clone(),
            job,
            place: place.to_owned(),
            number,
            begun,
            pause_us: 0,
        };
        let state = match capture::capture(running) {
            Ok(state) => state,
            Err(e) => return writing.done(Err(e.to_string())),
        };
        // Files have no copy on write: contents that no earlier round has are read while the program stands still.
        let known = base.as_ref().map(|base| base.known()).unwrap_or_default();
        let new = running.wasi.new_contents(&state.wasi, &known, KEPT).ok().flatten();
        let memories = capture::memories(running);
        let path = place.join(round_file(number));
        let write = || write_round(running, &state, &memories, &path, base.as_deref(), new.as_ref());
        let write = || write().map_err(|e| e.to_string());
        match new.is_some().then(|| fork::fork(lease::is_holding(), || send(write()))) {
            Some(Ok(child)) => writing.copied(child),
            // Too much for memory, or no copy can be made: the program waits until it is written.
            Some(Err(_)) | None => {
                let written = write();
                writing.stood().in_background(move |writing| writing.done(written));
            }
        }
    }

    /// A round of this number begins; returns what it builds upon.
    fn begin(&self, place: &Path, number: u32) -> Result<Option<Arc<Base>>, String> {
        let mut session = self.lock();
        match &mut *session {
            Some(session) if session.busy => Err("a round is being written".into()),
            Some(session) if session.place == place => {
                if number <= session.number || number > MOST_ROUNDS {
                    return Err(format!("a round {number} can't follow round {}", session.number));
                }
                (session.number, session.busy) = (number, true);
                Ok(session.base.clone())
            }
            _ => {
                *session = Some(Session {
                    place: place.to_owned(),
                    number,
                    busy: true,
                    base: None,
                });
                Ok(None)
            }
        }
    }

    /// The program stands still for a transfer: its rounds are over. Returns the newest one.
    pub(super) fn end(&self, place: &Path) -> Option<Arc<Base>> {
        let session = self.lock().take()?;
        session.base.filter(|_| session.place == place && !session.busy)
    }
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
        let reply = {
            let mut session = self.rounds.lock();
            let own = session
                .as_mut()
                .filter(|s| s.place == self.place && s.number == self.number);
            if let Some(session) = own {
                session.busy = false;
                if let Ok((stats, base)) = opened {
                    session.base = Some(Arc::new(base));
                    Ok(stats)
                } else {
                    opened.map(|(stats, _)| stats)
                }
            } else {
                Err("the rounds of this transfer are over".into())
            }
        };
        let reply = match reply {
            Ok(stats) => Reply::Round(Round {
                bytes: stats.bytes,
                pause_us: self.pause_us,
                write_us: micros(self.begun).saturating_sub(self.pause_us),
                tracked: false,
            }),
            Err(why) => failed(why),
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
