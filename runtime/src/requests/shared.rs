//! What the thread that runs the program shares with the control thread and with signal handlers.

use crate::os::event;
use crate::os::request::Wake;
use dunlin_migrate::control::{Info, Periodic, Reply};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// What another process can ask the program's thread for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Could it be moved now?
    Check,
    /// A checkpoint.
    Checkpoint {
        /// Where the snapshot goes.
        to: PathBuf,
        /// Go on afterwards?
        leave_running: bool,
    },
}

/// What another process has asked for.
#[derive(Debug)]
pub struct Job {
    /// Where the reply goes.
    pub stream: UnixStream,
    /// What is to be done.
    pub task: Task,
    /// When it was asked for.
    pub asked: Instant,
}

impl Job {
    /// Sends the reply. A requester that is gone doesn't matter.
    pub fn reply(self, reply: &Reply) {
        let _ = self.tell(reply);
    }

    /// Sends the reply.
    pub fn tell(&self, reply: &Reply) -> io::Result<()> {
        send(&mut &self.stream, reply)
    }

    /// Has the requester hung up?
    pub fn abandoned(&self) -> bool {
        event::hung_up(&self.stream)
    }
}

/// Sends one reply line.
pub fn send(stream: &mut impl Write, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// See the module.
#[derive(Debug)]
pub struct Shared {
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
    /// Nothing asked for, nothing known.
    pub fn new() -> io::Result<Shared> {
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
    pub fn signal(&self) {
        self.signalled.store(true, SeqCst);
        self.wake.raise_in_handler();
    }

    /// Did a signal arrive since this was last asked?
    pub fn take_signal(&self) -> bool {
        self.signalled.swap(false, SeqCst)
    }

    /// A periodic snapshot is due; from another thread.
    pub fn tick(&self) {
        self.due.store(true, SeqCst);
        self.wake.raise();
    }

    /// Has a periodic snapshot become due since this was last asked?
    pub fn take_tick(&self) -> bool {
        self.due.swap(false, SeqCst)
    }

    /// Notes how periodic snapshots go.
    pub fn set_periodic(&self, periodic: Periodic) {
        *lock(&self.periodic) = Some(periodic);
    }

    /// Asks the program for something, from another thread.
    pub fn ask(&self, job: Job) {
        lock(&self.jobs).push(job);
        self.wake.raise();
    }

    /// What was asked for since this was last asked, oldest first.
    pub fn take_jobs(&self) -> Vec<Job> {
        std::mem::take(&mut lock(&self.jobs))
    }

    /// Notes the size of the linear memory in bytes.
    pub fn set_memory_size(&self, bytes: u64) {
        self.memory_size.store(bytes, SeqCst);
    }

    /// Notes who the program is; its changing parts are filled in by [`Shared::info`].
    pub fn set_info(&self, info: Info) {
        *lock(&self.info) = Some(info);
    }

    /// Who the program is, now.
    pub fn info(&self) -> Option<Info> {
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
