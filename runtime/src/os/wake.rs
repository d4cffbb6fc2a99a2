//! The request to stop at the next migration point, raised from other threads and from signal handlers.
//!
//! A request is seen in three places: compiled code sees the context's poll word, blocking host calls see the eventfd,
//! and the dispatcher sees [`Wake::pending`]. [`Wake::raise`] sets all three with nothing but atomics and one `write`,
//! so that a signal handler may call it.

use super::event::Event;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering::SeqCst};

/// The pending-request flag, in the three forms in which it is looked at.
#[derive(Debug)]
pub struct Wake {
    event: Event,
    pending: AtomicBool,
    /// The poll word of the context in use, or null while there is none.
    poll: AtomicPtr<AtomicU32>,
    /// The poll word stays set (forced migration).
    always: AtomicBool,
    /// Held while the poll word is used by another thread, or is taken away.
    guard: Mutex<()>,
}

impl Wake {
    /// A wake with nothing pending and no poll word.
    pub fn new() -> io::Result<Wake> {
        Ok(Wake {
            event: Event::new()?,
            pending: AtomicBool::new(false),
            poll: AtomicPtr::new(null_mut()),
            always: AtomicBool::new(false),
            guard: Mutex::new(()),
        })
    }

    /// A descriptor that is readable while a request is pending. Wait on it beside one's own; don't read from it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.fd()
    }

    /// Tells whether a request is pending.
    pub fn pending(&self) -> bool {
        self.pending.load(SeqCst)
    }

    /// Raises a request from a thread other than the one that runs the program.
    pub fn raise(&self) {
        let guard = self.guard.lock().unwrap_or_else(|e| e.into_inner());
        self.raise_in_handler();
        drop(guard);
    }

    /// Raises a request on the thread that runs the program; async-signal-safe.
    pub fn raise_in_handler(&self) {
        self.pending.store(true, SeqCst);
        self.event.set();
        let poll = self.poll.load(SeqCst);
        if !poll.is_null() {
            // SAFETY: a non-null poll word is mapped: `detach` runs on this same thread, or is kept out by `guard`.
            unsafe { (*poll).store(1, SeqCst) };
        }
    }

    /// Takes the request back: it is being served. What is raised from now on is a new request.
    pub fn clear(&self) {
        self.pending.store(false, SeqCst);
        self.event.reset();
        self.set_poll();
        // A request raised between the store and the read lost its event, but not its flag.
        if self.pending() {
            self.raise_in_handler();
        }
    }

    /// Keeps the poll word set from now on, so that every migration point is reported.
    pub fn poll_always(&self) {
        self.always.store(true, SeqCst);
        self.set_poll();
    }

    /// Connects the poll word of a context.
    ///
    /// # Safety
    ///
    /// `poll` must stay valid until [`Wake::detach`] or the next `attach`; both must be called on the thread that runs
    /// the program.
    pub unsafe fn attach(&self, poll: *mut u32) {
        let guard = self.guard.lock().unwrap_or_else(|e| e.into_inner());
        self.poll.store(poll.cast(), SeqCst);
        drop(guard);
        self.set_poll();
    }

    /// Disconnects the poll word, so that its memory may go away.
    pub fn detach(&self) {
        let guard = self.guard.lock().unwrap_or_else(|e| e.into_inner());
        self.poll.store(null_mut(), SeqCst);
        drop(guard);
    }

    /// Makes the poll word say what the flags say. Called on the thread that runs the program.
    fn set_poll(&self) {
        let poll = self.poll.load(SeqCst);
        if poll.is_null() {
            return;
        }
        // SAFETY: as in `raise_in_handler`; this is the thread that attaches and detaches.
        let word = unsafe { &*poll };
        word.store(0, SeqCst);
        // Read after the store: a request raised in between must not be erased.
        if self.always.load(SeqCst) || self.pending() {
            word.store(1, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use std::sync::Arc;

    fn readable(wake: &Wake) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(wake.fd(), PollFlags::IN)];
        poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn a_request_is_seen_in_all_three_places_and_goes_away() {
        let mut word = 0u32;
        let wake = Wake::new().unwrap();
        // SAFETY: `word` outlives `wake`'s use of it.
        unsafe { wake.attach(&raw mut word) };
        // SAFETY: only this thread uses the word.
        let read = || unsafe { (&raw const word).read_volatile() };
        assert!(!wake.pending() && !readable(&wake) && read() == 0);
        wake.raise();
        wake.raise();
        assert!(wake.pending() && readable(&wake) && read() == 1);
        wake.clear();
        assert!(!wake.pending() && !readable(&wake) && read() == 0);
        wake.poll_always();
        assert!(!wake.pending() && !readable(&wake) && read() == 1);
        wake.detach();
        wake.raise();
        assert!(wake.pending());
    }

    #[test]
    fn a_pending_request_reaches_a_context_attached_later() {
        let mut word = 0u32;
        let wake = Wake::new().unwrap();
        wake.raise();
        // SAFETY: `word` outlives `wake`'s use of it.
        unsafe { wake.attach(&raw mut word) };
        // SAFETY: only this thread uses the word.
        assert_eq!(unsafe { (&raw const word).read_volatile() }, 1);
    }

    #[test]
    fn another_threads_request_wakes_a_waiter() {
        let wake = Arc::new(Wake::new().unwrap());
        let other = wake.clone();
        let thread = std::thread::spawn(move || other.raise());
        let mut fds = [PollFd::from_borrowed_fd(wake.fd(), PollFlags::IN)];
        assert_eq!(
            poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 })),
            Ok(1)
        );
        thread.join().unwrap();
        assert!(wake.pending());
    }
}
