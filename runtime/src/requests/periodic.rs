//! `--checkpoint-every`: snapshots in a directory while the program runs on.
//!
//! A thread keeps the time. When a snapshot is due it raises a request; at its next migration point the program's
//! thread takes the state (without the memories' bytes) and forks. The copy finds the pages that have changed, and
//! writes; the program goes on meanwhile. So the program stands still for as long as `fork` takes. Where the kernel
//! refuses to fork, the program's thread writes by itself.

use crate::engine::running::Running;
use crate::journal::Base;
use crate::moving::capture::{self, CaptureError};
use crate::os::fork::{self, Child, Pid};
use crate::os::lease;
use crate::os::messages::complain;
use crate::os::signals::with_signals_blocked;
use crate::requests::inbox::Shared;
use dunlin_format::module::ModuleHash;
use dunlin_migrate::control::Periodic;
use dunlin_migrate::snapshot::{Contents, NoContents, SnapshotError};
use dunlin_migrate::state::State;
use dunlin_migrate::state::files::ByHash;
use dunlin_migrate::store::{Numbered, Store, Written};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Stack of the thread that keeps the time, in bytes.
const THREAD_STACK: usize = 128 << 10;

/// Bytes of carried files that are kept in memory for the copy to write, at most. If more have changed, the program
/// waits until they are written.
const KEPT: u64 = 64 << 20;

/// The stage of a periodic snapshot; says whose turn it is.
#[derive(Debug, Default)]
enum Turn {
    /// Nothing is due.
    #[default]
    Idle,
    /// The program is asked to stop for a moment.
    Asked,
    /// The copy has been made.
    Copied(Child),
    /// The copy is at work; the time's thread waits for it.
    Writing(Pid),
}

#[derive(Debug, Default)]
struct Progress {
    turn: Turn,
    /// Number of the next snapshot.
    next: u64,
    /// The newest snapshot that this program has written, or has been resumed from.
    base: Option<String>,
    /// The chunks of carried files that it has, and those of the one that is being written.
    known: ByHash<()>,
    wanted: ByHash<()>,
    /// Number of the oldest snapshot that one may go back to.
    oldest: u64,
    /// No more snapshots.
    over: bool,
    report: Periodic,
}

/// Writes the snapshots of one program into a directory.
#[derive(Debug)]
pub(crate) struct Saver {
    store: Store,
    every: Duration,
    shared: &'static Shared,
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Saver {
    /// A saver at rest. `resumed`: the snapshot that the program goes on from.
    /// `least`: the least number that its first snapshot may have; journals may have taken those below.
    pub(crate) fn new(
        store: Store,
        every: Duration,
        shared: &'static Shared,
        resumed: Option<&Path>,
        least: u64,
    ) -> io::Result<Saver> {
        let next = store.next_number()?.max(least);
        let inside = |path: &&Path| {
            let parent = path
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            parent
                .canonicalize()
                .ok()
                .zip(store.directory().canonicalize().ok())
                .is_some_and(|(a, b)| a == b)
        };
        let base = resumed
            .filter(inside)
            .and_then(|p| Some(p.file_name()?.to_str()?.to_owned()));
        let progress = Progress {
            next,
            base,
            ..Progress::default()
        };
        Ok(Saver {
            store,
            every,
            shared,
            progress: Mutex::new(progress),
            changed: Condvar::new(),
        })
    }

    /// Where they go.
    pub(crate) fn directory(&self) -> &Path {
        self.store.directory()
    }

    /// Begins to keep the time.
    pub(crate) fn start(&'static self) -> io::Result<()> {
        let thread = std::thread::Builder::new()
            .name("dunlin-periodic".into())
            .stack_size(THREAD_STACK);
        with_signals_blocked(|| thread.spawn(move || self.keep_time()))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn wait<'a>(&self, progress: MutexGuard<'a, Progress>) -> MutexGuard<'a, Progress> {
        self.changed.wait(progress).unwrap_or_else(|e| e.into_inner())
    }

    fn keep_time(&self) {
        let mut due = Instant::now() + self.every;
        let mut progress = self.lock();
        while !progress.over {
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                progress = self
                    .changed
                    .wait_timeout(progress, left)
                    .unwrap_or_else(|e| e.into_inner())
                    .0;
                continue;
            }
            due = Instant::now() + self.every;
            progress.turn = Turn::Asked;
            drop(progress);
            self.shared.tick();
            progress = self.lock();
            while matches!(progress.turn, Turn::Asked) {
                progress = self.wait(progress);
            }
            match std::mem::take(&mut progress.turn) {
                Turn::Copied(mut child) => {
                    progress.turn = Turn::Writing(child.pid());
                    drop(progress);
                    let begun = Instant::now();
                    let result = child.result();
                    progress = self.lock();
                    // While the lock is held: its number may then be another process's.
                    let done = child.reap().and(result);
                    self.note(&mut progress, received(done), begun);
                    progress.turn = Turn::Idle;
                    self.changed.notify_all();
                }
                other => progress.turn = other,
            }
        }
    }

    /// On the program's thread, which stands at a migration point: a snapshot is due.
    pub(crate) fn serve(&self, running: &mut Running) {
        let mut progress = self.lock();
        if !matches!(progress.turn, Turn::Asked) {
            return;
        }
        let begun = Instant::now();
        let number = progress.next;
        progress.next += 1;
        let base = progress.base.clone();
        let oldest = progress.oldest;
        let captured =
            capture::capture(running).and_then(|state| self.next_journal(running, number, oldest).map(|()| state));
        let running = &*running;
        if let Ok(state) = &captured {
            progress.wanted = state.wasi.files.chunks.iter().map(|c| (c.hash, ())).collect();
        }
        progress.turn = match captured {
            Ok(state) => {
                // Files have no copy on write: contents that no earlier snapshot has are read while the program stands
                // still.
                let new = running.wasi.new_contents(&state.wasi, &progress.known, KEPT);
                let new = new.ok().flatten();
                let write = || self.write(running, &state, number, base.as_deref(), new.as_ref());
                match new.is_some().then(|| fork::fork(lease::is_holding(), || send(write()))) {
                    Some(Ok(child)) => Turn::Copied(child),
                    // Too much for memory, or no copy can be made: the program waits until it is written.
                    Some(Err(_)) | None => {
                        let written = write();
                        self.note(&mut progress, written.map_err(|e| e.to_string()), begun);
                        Turn::Idle
                    }
                }
            }
            Err(e) => {
                self.note(&mut progress, Err(e.to_string()), begun);
                Turn::Idle
            }
        };
        let pause_us = begun.elapsed().as_micros() as u64;
        progress.report.last_pause_us = pause_us;
        progress.report.longest_pause_us = progress.report.longest_pause_us.max(pause_us);
        self.changed.notify_all();
    }

    /// `new`: carried contents that were read already.
    fn write(
        &self,
        running: &Running,
        state: &State,
        number: u64,
        base: Option<&str>,
        new: Option<&ByHash<Vec<u8>>>,
    ) -> Result<Written, SnapshotError> {
        capture::check(running, state.clone())?;
        if running.wasi.durable() {
            // What the snapshot says of files must not be on the disk before they are.
            running.wasi.sync_files();
        }
        let read: &dyn Contents = match new {
            Some(new) => new,
            None => &NoContents,
        };
        let store = &self.store;
        capture::hand_over(running, state, read, &mut Numbered { store, number, base })
    }

    /// What the program changes from now on is undone in going back to the snapshot of this number, which is about to
    /// be written.
    fn next_journal(&self, running: &mut Running, number: u64, oldest: u64) -> Result<(), CaptureError> {
        let Some(journal) = running.wasi.journal() else {
            return Ok(());
        };
        journal.next(number).map_err(CaptureError::Journal)?;
        // What can't be removed now is removed with the next snapshot.
        let _ = journal.prune(oldest);
        Ok(())
    }

    /// A snapshot lies elsewhere that the files stand at now: going back to it is undoing what comes from now on. So
    /// whoever goes on from it, with its own snapshots here as before, finds its journal.
    pub(crate) fn stands_at(&self, running: &mut Running, snapshot: [u8; 32]) -> io::Result<()> {
        let Some(journal) = running.wasi.journal() else {
            return Ok(());
        };
        let mut progress = self.lock();
        let number = progress.next;
        progress.next += 1;
        journal.next_to(number, Base::Other(snapshot))
    }

    /// On the program's thread: writes a snapshot now, and waits for it. Returns its path.
    pub(crate) fn write_now(&self, running: &mut Running) -> Result<PathBuf, CaptureError> {
        let mut progress = self.settle();
        let state = capture::capture(running)?;
        let number = progress.next;
        progress.next += 1;
        self.next_journal(running, number, progress.oldest)?;
        let base = progress.base.clone();
        let written = self.write(running, &state, number, base.as_deref(), None)?;
        let path = self.store.directory().join(&written.name);
        progress.base = Some(written.name);
        progress.known = state.wasi.files.chunks.iter().map(|c| (c.hash, ())).collect();
        Ok(path)
    }

    /// Waits until no copy is at work.
    fn settle(&self) -> MutexGuard<'_, Progress> {
        let mut progress = self.lock();
        loop {
            match progress.turn {
                Turn::Idle => return progress,
                // The program's thread is here; it won't answer.
                Turn::Asked => {
                    progress.turn = Turn::Idle;
                    self.changed.notify_all();
                }
                Turn::Copied(_) | Turn::Writing(_) => progress = self.wait(progress),
            }
        }
    }

    /// No more snapshots; waits until the last one is written. If the program has `ended` by itself, they all go.
    pub(crate) fn stop(&self, module: ModuleHash, ended: bool) {
        let mut progress = self.lock();
        progress.over = true;
        if let Turn::Writing(copy) = progress.turn
            && ended
        {
            fork::kill(copy);
        }
        drop(progress);
        drop(self.settle());
        self.changed.notify_all();
        if ended && let Err(e) = self.store.clear(module) {
            complain(&format!(
                "cannot remove the snapshots in {}: {e}; remove them, or the program will go on from there when it is started again",
                self.store.directory().display()
            ));
        }
    }

    fn note(&self, progress: &mut Progress, written: Result<Written, String>, begun: Instant) {
        if progress.over && written.is_err() {
            return;
        }
        let report = &mut progress.report;
        match written {
            Ok(written) => {
                report.written += 1;
                report.last_bytes = written.stats.bytes;
                report.last_pages = written.stats.stored_pages;
                report.last_write_us = begun.elapsed().as_micros() as u64;
                report.error = None;
                progress.oldest = written.oldest;
                progress.base = Some(written.name);
                progress.known = std::mem::take(&mut progress.wanted);
            }
            Err(why) => {
                // Once for each reason: a full disk stays full.
                if report.error.as_ref() != Some(&why) {
                    let directory = self.store.directory().display();
                    complain(&format!("cannot checkpoint to {directory}: {why}; the program runs on"));
                }
                // One that is damaged holds nothing for certain: what has to be read shall be read.
                progress.known.clear();
                report.failed += 1;
                report.error = Some(why);
            }
        }
        self.shared.set_periodic(progress.report.clone());
    }
}

/// What the copy tells its parent: a [`Result`], as JSON.
fn send(written: Result<Written, SnapshotError>) -> Vec<u8> {
    let message = written.map_err(|e| e.to_string());
    // Strings and numbers always can be written.
    serde_json::to_vec(&message).unwrap_or_default()
}

fn received(bytes: io::Result<Vec<u8>>) -> Result<Written, String> {
    let bytes = bytes.map_err(|e| e.to_string())?;
    serde_json::from_slice(&bytes).map_err(|e| e.to_string())?
}
