//! Waiting for a host's descriptor and for a migration request at once.
//!
//! The rule of every blocking function: wait with [`ready`] before transferring; `Woken` with nothing transferred
//! undoes the call ([`Stop::Interrupted`]), `Woken` after a partial transfer ends it with a short count. Nothing is
//! lost and nothing happens twice.

use crate::os::wake::Wake;
use crate::wasi::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Why a function didn't succeed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::wasi) enum Stop {
    /// It failed; the program gets the number.
    Errno(Errno),
    /// Nothing has happened: the call is undone and will be issued again.
    Interrupted,
}

impl<E: Into<Errno>> From<E> for Stop {
    fn from(e: E) -> Stop {
        Stop::Errno(e.into())
    }
}

/// How long a call works on before it looks for a request, and how often that is doubled at most (to 40 s).
const PATIENCE: Duration = Duration::from_millis(10);
const MOST_DOUBLED: u32 = 12;

/// A call that doesn't wait, but may have work for seconds. It asks in between whether it is to be undone. It begins
/// anew then, so each time that it has been undone it works on twice as long before it gives way: it comes to its end
/// though snapshots are due all the time.
pub(in crate::wasi) struct Work<'a> {
    wake: &'a Wake,
    until: Instant,
}

impl Work<'_> {
    /// Work that begins now and was undone so many times before.
    pub(in crate::wasi) fn begin(wake: &Wake, undone: u32) -> Work<'_> {
        let until = Instant::now() + PATIENCE * (1 << undone.min(MOST_DOUBLED));
        Work { wake, until }
    }

    /// Gives way to a migration request. Nothing may have happened yet but in memory that will be written again.
    pub(in crate::wasi) fn pause(&self) -> Result<(), Stop> {
        match self.wake.pending() && Instant::now() >= self.until {
            true => Err(Stop::Interrupted),
            false => Ok(()),
        }
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wasi) enum Wait {
    /// The descriptor is ready, or in a state in which a transfer returns at once.
    Ready,
    /// A migration was requested.
    Woken,
}

/// Waits until a descriptor is ready for `events`, or a migration is requested. Readiness wins.
pub(in crate::wasi) fn ready(fd: BorrowedFd<'_>, events: PollFlags, wake: &Wake) -> Result<Wait, Errno> {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(fd, events),
            PollFd::from_borrowed_fd(wake.fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) if !fds[0].revents().is_empty() => return Ok(Wait::Ready),
            Ok(_) if !fds[1].revents().is_empty() => return Ok(Wait::Woken),
            Err(rustix::io::Errno::INTR) if wake.pending() => return Ok(Wait::Woken),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Is a descriptor ready for `events` right now?
pub(in crate::wasi) fn ready_now(fd: BorrowedFd<'_>, events: PollFlags) -> Result<bool, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    Ok(retry(|| poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })))? > 0)
}

/// Repeats a host call that a signal interrupted before it did anything. Only for calls that don't block.
pub(in crate::wasi) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(Errno::from),
        }
    }
}
