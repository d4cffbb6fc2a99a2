//! Wake-ups of threads that wait on descriptors.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A flag whose descriptor is readable while it is set.
#[derive(Debug)]
pub(crate) struct Event(OwnedFd);

impl Event {
    /// An event that isn't set.
    pub(crate) fn new() -> io::Result<Event> {
        Ok(Event(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// The descriptor, to be waited on, not to be read from.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sets it; async-signal-safe.
    pub(crate) fn set(&self) {
        // The counter can't overflow in practice, and if it did the descriptor would be readable all the same.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes it back.
    pub(crate) fn reset(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

/// Tells whether the other end of a connection has been closed.
pub(crate) fn hung_up(stream: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&stream, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Waits until the other end of a connection is closed.
pub(crate) fn wait_for_end(stream: impl AsFd) {
    let mut fds = [PollFd::new(&stream, PollFlags::empty())];
    while let Err(rustix::io::Errno::INTR) = poll(&mut fds, None) {}
}
