//! Serving requests at a migration point, with the program stopped.

use crate::engine::at_point::AtPoint;
use crate::engine::running::{Flow, Running};
use crate::moving::capture::{self, Asker, CaptureError, Captured, Itself};
use crate::moving::obstacles;
use crate::moving::rounds::Last;
use crate::requests::evacuate::{Evacuation, Next};
use crate::requests::hand_over::{Standing, Stay};
use crate::requests::inbox::{Job, Shared, Task};
use crate::requests::moved::Mark;
use crate::requests::own_file::OwnFile;
use crate::requests::periodic::Saver;
use crate::requests::rounds::Rounds;
use crate::testing::force::{self, Due, Ticks};
use crate::testing::writes::Writes;
use dunlin_interface::exit::{Ending, FAILED, Failure};
use dunlin_migrate::control::{Checked, Checkpointed, Reply};
use dunlin_migrate::snapshot::SnapshotError;
use dunlin_transfer::records::STATE;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// `--checkpoint-to`.
#[derive(Clone, Debug)]
pub(crate) enum CheckpointTo {
    /// A file.
    File(Arc<OwnFile>),
    /// With `--checkpoint-every`: a directory.
    Directory(&'static Saver),
}

impl std::fmt::Display for CheckpointTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CheckpointTo::File(own) => own.path().display().fmt(f),
            CheckpointTo::Directory(saver) => saver.directory().display().fmt(f),
        }
    }
}

/// Everyone who may ask this program for a snapshot, and the test modes.
#[derive(Debug)]
pub(crate) struct Requests {
    shared: &'static Shared,
    checkpoint_to: Option<CheckpointTo>,
    mark: Option<Mark>,
    evacuation: Option<&'static Evacuation>,
    ticks: Ticks,
    writes: Option<Writes>,
    rounds: Rounds,
}

impl Requests {
    /// `shared`: where other threads ask; `checkpoint_to`: where the program's own snapshots go; `mark`: what keeps its
    /// command from starting it when it has moved; `evacuation`: where it goes when a signal comes.
    pub(crate) fn new(
        shared: &'static Shared,
        checkpoint_to: Option<CheckpointTo>,
        mark: Option<Mark>,
        evacuation: Option<&'static Evacuation>,
        ticks: Ticks,
    ) -> Requests {
        let writes = Writes::from_env();
        if ticks.every_point() || writes.is_some() {
            shared.wake.poll_always();
        }
        Requests {
            shared,
            checkpoint_to,
            mark,
            evacuation,
            ticks,
            writes,
            rounds: Rounds::default(),
        }
    }
}

impl AtPoint for Requests {
    /// Whatever is pending is served, and the test modes have their turn.
    fn at_point(&mut self, running: &mut Running) -> Flow {
        if self.shared.wake.pending()
            && let Flow::End = self.serve_requests(running)
        {
            return Flow::End;
        }
        if let Some(writes) = &mut self.writes {
            writes.pass(running);
        }
        match self.ticks.pass() {
            Due::Nothing => Flow::Go,
            Due::Migrate => force::migrate_in_place(running, self.ticks.passed()),
            Due::Stop => self.stop_here(running),
        }
    }

    fn in_host_call(&mut self, running: &mut Running) -> Flow {
        self.serve_requests(running)
    }

    fn memory_size(&mut self, bytes: u64) {
        self.shared.set_memory_size(bytes);
    }

    fn points(&self) -> u64 {
        self.ticks.passed()
    }
}

impl Requests {
    /// Serves what is pending: a `--checkpoint-on` signal, and other processes' requests. The program ends if one of
    /// them wants it.
    fn serve_requests(&self, running: &mut Running) -> Flow {
        self.shared.wake.clear();
        if self.shared.take_tick()
            && let Some(&CheckpointTo::Directory(saver)) = self.checkpoint_to.as_ref()
        {
            saver.serve(running);
        }
        let mut gone_to = if self.shared.take_signal() {
            self.serve_signal(running)
        } else {
            None
        };
        for job in self.shared.take_jobs() {
            if gone_to.is_some() {
                job.reply(&Reply::Failed {
                    error: "the program has just been checkpointed and has stopped".into(),
                    findings: Vec::new(),
                });
            } else if !job.abandoned() || matches!(job.task, Task::Round { .. }) {
                // A round that nobody waits for any more ends with its transfer.
                gone_to = self.serve_job(running, job);
            }
        }
        match gone_to {
            Some(path) => running.end(Ending::Checkpointed(path)),
            None => Flow::Go,
        }
    }

    /// Serves a signal; returns the snapshot if the program is to stop.
    fn serve_signal(&self, running: &mut Running) -> Option<PathBuf> {
        if self.evacuation.is_some_and(|e| e.signalled() == Next::RunOn) {
            return None;
        }
        let to = self.checkpoint_to.clone()?;
        match write_own(running, &to) {
            Ok(path) => Some(path),
            Err(e) => {
                crate::os::messages::complain(&format!("cannot checkpoint to {to}: {e}; the program runs on"));
                None
            }
        }
    }

    /// Serves another process's request; returns the snapshot if the program is to stop.
    fn serve_job(&self, running: &mut Running, job: Job) -> Option<PathBuf> {
        let stop_us = micros(job.asked);
        let (to, after) = match &job.task {
            Task::Check => {
                let (findings, needs) = obstacles::of_running(running, None);
                job.reply(&Reply::Checked(Checked { findings, needs }));
                return None;
            }
            Task::Checkpoint { to, leave_running } => {
                (to.clone(), if *leave_running { After::GoOn } else { After::End })
            }
            Task::Round { place, number } => {
                let (place, number) = (place.clone(), *number);
                self.rounds.serve(running, job, &place, number, self.shared);
                return None;
            }
            Task::HandOver { place, .. } => (place.join(STATE), After::Stand(place.clone())),
        };
        let stop = match &after {
            After::Stand(place) => self.rounds.end(place, running),
            After::GoOn | After::End => None,
        };
        let findings = match &stop {
            // Most of it is on the disk already.
            Some(_) => obstacles::of_host(running),
            None => obstacles::of_running(running, Some(&to)).0,
        };
        if !findings.is_empty() {
            let all: Vec<String> = findings.iter().map(|f| f.what.clone()).collect();
            let error = format!("the program can't be moved now: {}", all.join("; "));
            job.reply(&Reply::Failed { error, findings });
            return None;
        }
        let standing = match &after {
            After::Stand(place) => match self.begin_standing(place) {
                Ok(standing) => Some(standing),
                Err(e) => {
                    let error = format!("the program can't stand still in {}: {e}", place.display());
                    let findings = Vec::new();
                    job.reply(&Reply::Failed { error, findings });
                    return None;
                }
            },
            After::GoOn | After::End => None,
        };
        let asker = Waiting {
            job: &job,
            stop_us,
            begun: Instant::now(),
        };
        let memories = match &stop {
            Some(stop) => stop.memories(running),
            None => capture::memories(running),
        };
        let snapshot = Last {
            running,
            memories: &memories,
            base: stop.as_ref().and_then(|stop| stop.base.as_deref()),
        };
        let unsynced = matches!(job.task, Task::HandOver { unsynced: true, .. });
        let written = snapshot.write(&to, &asker, unsynced);
        drop(memories);
        match written {
            Ok(_) => {
                match self.checkpoint_to.clone() {
                    Some(CheckpointTo::File(own)) => own.written_to(&to),
                    Some(CheckpointTo::Directory(saver)) => stands_at(running, saver, &to),
                    None => {}
                }
                let stays = match standing {
                    Some(standing) => {
                        let stay = standing.wait(&job, || self.stays());
                        if let (Stay::Leaves, Some(evacuation)) = (stay, self.evacuation) {
                            evacuation.leaves();
                        }
                        stay == Stay::GoesOn
                    }
                    None => matches!(after, After::GoOn),
                };
                (!stays).then_some(to)
            }
            // Whoever is interrupted has not asked.
            Err(CaptureError::Snapshot(SnapshotError::GivenUp)) => {
                self.abandon(standing);
                None
            }
            Err(e) => {
                self.abandon(standing);
                job.reply(&Reply::Failed {
                    error: e.to_string(),
                    findings: Vec::new(),
                });
                None
            }
        }
    }

    /// Marks that the program stands still, and may be another machine's when it does so no more.
    fn begin_standing(&self, place: &Path) -> std::io::Result<Standing> {
        let standing = Standing::begin(place)?;
        match self.mark.as_ref().map_or(Ok(()), |mark| mark.set(place)) {
            Ok(()) => Ok(standing),
            Err(e) => {
                standing.abandon();
                Err(e)
            }
        }
    }

    /// Whoever wanted the program to stand still doesn't any more.
    fn abandon(&self, standing: Option<Standing>) {
        if let Some(standing) = standing {
            self.stays();
            standing.abandon();
        }
    }

    fn stays(&self) {
        if let Some(mark) = &self.mark {
            mark.remove();
        }
    }

    /// The point that `DUNLIN_CHECKPOINT_AT` names: checkpoints and stops.
    fn stop_here(&self, running: &mut Running) -> Flow {
        let Some(to) = self.checkpoint_to.clone() else {
            return Flow::Go;
        };
        let ending = match write_own(running, &to) {
            Ok(path) => Ending::Checkpointed(path),
            Err(e) => Ending::Failed(Failure::new(FAILED, format!("cannot checkpoint to {to}: {e}"))),
        };
        running.end(ending)
    }
}

/// What the program does once its snapshot is written.
enum After {
    GoOn,
    End,
    /// It stands still in the directory of a transfer.
    Stand(PathBuf),
}

/// Tells the journal beside periodic snapshots of one that was written elsewhere.
fn stands_at(running: &mut Running, saver: &'static Saver, snapshot: &Path) {
    let identity = dunlin_migrate::snapshot::open_file(snapshot).map(|s| s.identity());
    let noted = identity.map_err(|e| e.to_string());
    if let Err(e) = noted.and_then(|identity| saver.stands_at(running, identity).map_err(|e| e.to_string())) {
        crate::os::messages::complain(&format!(
            "the undo journal in {} doesn't lead to {}: {e}; going on from it takes --no-rollback, or other snapshots' directory",
            saver.directory().display(),
            snapshot.display()
        ));
    }
}

/// Writes the program's own snapshot; returns its path.
fn write_own(running: &mut Running, to: &CheckpointTo) -> Result<PathBuf, CaptureError> {
    match to {
        CheckpointTo::File(own) => {
            own.write(|path| capture::write_file(running, path, &Itself).map(|_| path.to_owned()))
        }
        CheckpointTo::Directory(saver) => saver.write_now(running),
    }
}

/// Another process that waits for a snapshot.
struct Waiting<'a> {
    job: &'a Job,
    stop_us: u64,
    begun: Instant,
}

impl Asker for Waiting<'_> {
    fn is_gone(&self) -> bool {
        self.job.abandoned()
    }

    fn told(&self, done: &Captured) -> bool {
        let reply = Reply::Checkpointed(Checkpointed {
            bytes: done.stats.bytes,
            frames: done.frames,
            stop_us: self.stop_us,
            write_us: micros(self.begun),
        });
        !self.job.abandoned() && self.job.tell(&reply).is_ok()
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
