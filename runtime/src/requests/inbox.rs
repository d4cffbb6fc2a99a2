//! What the thread that runs the program shares with the control thread and with signal handlers.

use crate::os::event;
use crate::os::wake::Wake;
use dunlin_migrate::control::{Info, Periodic, Reply};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// A task that another process can give the program's thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Tell what keeps the program from being moved now.
    Check,
    /// Write a snapshot.
    Checkpoint {
        /// Where the snapshot goes.
        to: PathBuf,
        /// The program goes on afterwards; else it ends.
        leave_running: bool,
    },
    /// Standing still, until it is known where the program goes on.
    HandOver {
        /// The transfer's directory.
        place: PathBuf,
        /// Whoever asks makes the snapshot durable.
        unsynced: bool,
    },
    /// Write a round of pre-copy.
    Round {
        /// The transfer's directory.
        place: PathBuf,
        /// The round's number.
        number: u32,
    },
}

/// A task, and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    /// The connection that the reply goes to.
    pub stream: UnixStream,
    /// The task.
    pub task: Task,
    /// The time at which it was asked for.
    pub asked: Instant,
}

impl Job {
    /// Sends the reply. A requester that is gone doesn't matter.
    pub(crate) fn reply(self, reply: &Reply) {
        let _ = self.tell(reply);
    }

    /// Sends the reply.
    pub(crate) fn tell(&self, reply: &Reply) -> io::Result<()> {
        send(&mut &self.stream, reply)
    }

    /// Tells whether the requester has hung up.
    pub(crate) fn abandoned(&self) -> bool {
        event::hung_up(&self.stream)
    }
}

/// Sends one reply line.
pub(crate) fn send(stream: &mut impl Write, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Requests on their way to the program's thread, and what it tells about itself.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The pending-request flag.
    pub wake: Wake,
    signalled: AtomicBool,
    due: AtomicBool,
    periodic: Mutex<Option<Periodic>>,
    jobs: Mutex<Vec<Job>>,
    memory_size: AtomicU64,
    info: Mutex<Option<Info>>,
    started: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Shared {
    /// Without requests, and without [`Shared::info`].
    pub(crate) fn new() -> io::Result<Shared> {
        Ok(Shared {
            wake: Wake::new()?,
            signalled: AtomicBool::new(false),
            due: AtomicBool::new(false),
            periodic: Mutex::new(None),
            jobs: Mutex::new(Vec::new()),
            memory_size: AtomicU64::new(0),
            info: Mutex::new(None),
            started: Instant::now(),
        })
    }

    /// A `--checkpoint-on` signal arrived on the thread that runs the program; async-signal-safe.
    pub(crate) fn signal(&self) {
        self.signalled.store(true, SeqCst);
        self.wake.raise_in_handler();
    }

    /// As [`Shared::signal`], from another thread.
    pub(crate) fn signal_again(&self) {
        self.signalled.store(true, SeqCst);
        self.wake.raise();
    }

    /// Tells whether a signal has arrived that was not taken yet.
    pub(crate) fn is_signalled(&self) -> bool {
        self.signalled.load(SeqCst)
    }

    /// Tells whether a signal arrived since the last call.
    pub(crate) fn take_signal(&self) -> bool {
        self.signalled.swap(false, SeqCst)
    }

    /// A periodic snapshot is due; from another thread.
    pub(crate) fn tick(&self) {
        self.due.store(true, SeqCst);
        self.wake.raise();
    }

    /// Tells whether a periodic snapshot has become due since the last call.
    pub(crate) fn take_tick(&self) -> bool {
        self.due.swap(false, SeqCst)
    }

    /// Notes how periodic snapshots go.
    pub(crate) fn set_periodic(&self, periodic: Periodic) {
        *lock(&self.periodic) = Some(periodic);
    }

    /// Asks the program for something, from another thread.
    pub(crate) fn ask(&self, job: Job) {
        lock(&self.jobs).push(job);
        self.wake.raise();
    }

    /// The jobs that came since the last call, oldest first.
    pub(crate) fn take_jobs(&self) -> Vec<Job> {
        std::mem::take(&mut lock(&self.jobs))
    }

    /// Notes the size of the linear memory in bytes.
    pub(crate) fn set_memory_size(&self, bytes: u64) {
        self.memory_size.store(bytes, SeqCst);
    }

    /// Notes who the program is; its changing parts are filled in by [`Shared::info`].
    pub(crate) fn set_info(&self, info: Info) {
        *lock(&self.info) = Some(info);
    }

    /// The program's description, as of now; `None` while it starts.
    pub(crate) fn info(&self) -> Option<Info> {
        let uptime_seconds = self.started.elapsed().as_secs();
        let memory_bytes = self.memory_size.load(SeqCst);
        lock(&self.info).clone().map(|info| Info {
            uptime_seconds,
            memory_bytes,
            periodic: lock(&self.periodic).clone(),
            ..info
        })
    }
}
