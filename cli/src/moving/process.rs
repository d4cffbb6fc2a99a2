//! The process of a program that has come: it holds the lock on `running` as long as it lives, and tells when the
//! program goes on.

use crate::spawn::{spawn, spawn_with};
use dunlin_transfer::records::{RUNNING, STARTED, remove_if_there};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a program may take to be restored, at most: minutes, for one of hundreds of gigabytes.
pub(super) const MOST_STARTING: Duration = Duration::from_secs(600);

/// How long the lock may be held by a process that is ending: one that waited for its program, and whose receiver was
/// killed.
const ENDING: Duration = Duration::from_secs(10);

/// A process, and the pipe through which it tells.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    told: PipeReader,
}

/// Locks the file that says that the program of this place has a process.
fn lock(place: &Path) -> io::Result<File> {
    let running = File::create(place.join(RUNNING))?;
    let deadline = Instant::now() + ENDING;
    loop {
        match flock(&running, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(running),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(Duration::from_millis(5)),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Runs a command to its end.
pub(super) fn output(mut command: Command) -> io::Result<Output> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    spawn(&mut command)?.wait_with_output()
}

/// What tells a program's process whom to tell that it goes on.
fn started_variable(tell: &PipeWriter, place: &Path) -> io::Result<String> {
    let path = place.join(STARTED);
    let path = path
        .to_str()
        .ok_or_else(|| io::Error::other("the directory's name is not UTF-8"))?;
    Ok(format!("{}:{path}", tell.as_raw_fd()))
}

impl Process {
    /// Starts a command for the transfer at a place. Nothing of the program may have run there, or it is known to have
    /// crashed.
    pub(super) fn start(mut command: Command, input: Stdio, place: &Path, output: File) -> io::Result<Process> {
        let running = lock(place)?;
        remove_if_there(&place.join(STARTED))?;
        let (told, tell) = io::pipe()?;
        command
            .env("DUNLIN_STARTED", started_variable(&tell, place)?)
            .stdin(input)
            .stdout(output.try_clone()?)
            .stderr(output)
            // What interrupts this command is not meant for the program.
            .process_group(0);
        let child = spawn_with(&mut command, vec![running.into(), tell.into()])?;
        // So that a move onwards knows the transfer that brought it. It runs all the same if that can't be written.
        if let Err(e) = fs::write(place.join(RUNNING), child.id().to_string()) {
            crate::show::complain(&format!("dunlin receive: process {}: {e}", child.id()));
        }
        Ok(Process { child, told })
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it tells, to be read after [`Process::wait_for_word`].
    pub(super) fn told(&mut self) -> &mut PipeReader {
        &mut self.told
    }

    /// Waits until it tells something, or ends; false if neither happens for [`MOST_STARTING`].
    pub(super) fn wait_for_word(&self) -> io::Result<bool> {
        let deadline = Instant::now() + MOST_STARTING;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let time = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.told, PollFlags::IN)], Some(&time)) {
                Ok(found) => return Ok(found > 0),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Has it said that the program goes on? False if it has ended.
    fn heard(&mut self) -> io::Result<bool> {
        loop {
            match self.told.read(&mut [0]) {
                Ok(n) => return Ok(n == 1),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits until the program goes on (true) or the process has ended without that (false).
    pub(super) fn goes_on(&mut self) -> io::Result<bool> {
        // Only what it says itself counts: after an error, it is ended before anyone says that it doesn't run.
        let goes_on = match self.wait_for_word() {
            Ok(true) => self.heard().ok(),
            Ok(false) | Err(_) => None,
        };
        let goes_on = goes_on.unwrap_or_else(|| {
            self.end();
            matches!(self.heard(), Ok(true))
        });
        if !goes_on {
            self.child.wait()?;
        }
        Ok(goes_on)
    }

    /// Ends it.
    pub(super) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
