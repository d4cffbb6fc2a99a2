//! `poll_oneoff`: waiting for clocks and descriptors.
//!
//! A sleep keeps its deadline through a move: when a migration request undoes the call, the time it was first issued
//! stays in the state, and the relative timeouts of the call that is issued again count from there. The monotonic clock
//! stands still during the move; so does what is left of the sleep.

use crate::os::wake::Wake;
use crate::wasi::calls::clock::Clock;
use crate::wasi::errno::Errno;
use crate::wasi::host::HostKind;
use crate::wasi::mem::Memory;
use crate::wasi::rights::{FD_READ, FD_WRITE, POLL_FD_READWRITE};
use crate::wasi::table::{Descriptor, Resource};
use crate::wasi::wait::{Stop, Work};
use crate::wasi::{Abi, Done, Wasi};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Size of an `event`.
const EVENT_SIZE: u32 = 32;

/// `eventtype`s.
const CLOCK: u8 = 0;
const READ: u8 = 1;
const WRITE: u8 = 2;

/// `subclockflags`: the timeout is a time, not a duration.
const ABSTIME: u16 = 1;

/// `eventrwflags`: the other end is closed.
const HANGUP: u16 = 1;

/// Subscriptions between two looks for a migration request: each of a file takes two calls of the host, so about a
/// millisecond's.
const SLICE: u32 = 1024;

/// The longest a wait for a time of the realtime clock goes on without looking at that clock again, which may be set: 1
/// s.
const REALTIME_STEP: u64 = 1_000_000_000;

/// A subscription, as read from memory.
struct Subscription {
    userdata: u64,
    ty: u8,
    what: Result<What, Errno>,
}

enum What {
    /// When this clock reads at least this.
    At(Clock, u64),
    /// When this descriptor is ready for its type.
    Descriptor(u32),
}

struct Event {
    userdata: u64,
    errno: Errno,
    ty: u8,
    bytes: u64,
    flags: u16,
}

impl Wasi {
    pub(in crate::wasi) fn poll_oneoff(
        &mut self,
        m: &mut Memory<'_>,
        wake: &Wake,
        abi: Abi,
        subscriptions: u32,
        events: u32,
        (count, out): (u32, u32),
    ) -> Done {
        if count == 0 {
            return Err(Errno::Inval.into());
        }
        m.range(out, 4)?;
        m.array(events, count, EVENT_SIZE)?;
        let now = self.clocks.now(Clock::Monotonic);
        let started = self.poll_started.take().unwrap_or(now).min(now);
        let work = Work::begin(wake, self.undone);
        let subscriptions = self.subscriptions(m, abi, (subscriptions, count), started, &work);
        let ready = match subscriptions.and_then(|s| self.wait(&s, wake, &work)) {
            Err(Stop::Interrupted) => {
                self.poll_started = Some(started);
                return Err(Stop::Interrupted);
            }
            result => result?,
        };
        for (event, at) in ready.iter().zip((0u32..).map(|i| events + i * EVENT_SIZE)) {
            let mut bytes = [0; EVENT_SIZE as usize];
            bytes[0..8].copy_from_slice(&event.userdata.to_le_bytes());
            bytes[8..10].copy_from_slice(&(event.errno as u16).to_le_bytes());
            bytes[10] = event.ty;
            bytes[16..24].copy_from_slice(&event.bytes.to_le_bytes());
            bytes[24..26].copy_from_slice(&event.flags.to_le_bytes());
            m.set(at, &bytes)?;
        }
        Ok(m.set_u32(out, ready.len() as u32)?)
    }

    fn subscriptions(
        &self,
        m: &Memory<'_>,
        abi: Abi,
        (at, count): (u32, u32),
        started: u64,
        work: &Work<'_>,
    ) -> Result<Vec<Subscription>, Stop> {
        // The predecessor's clock has an identifier before its number.
        let (size, clock) = match abi {
            Abi::Preview1 => (48, 16),
            Abi::Unstable => (56, 24),
        };
        m.array(at, count, size)?;
        let one = |at: u32| {
            let (userdata, ty) = (m.u64(at)?, m.u8(at + 8)?);
            let what = match ty {
                CLOCK => {
                    let (id, timeout, flags) = (m.u32(at + clock)?, m.u64(at + clock + 8)?, m.u16(at + clock + 24)?);
                    self.deadline(id, timeout, flags, started)
                }
                READ | WRITE => Ok(What::Descriptor(m.u32(at + 16)?)),
                _ => return Err(Errno::Inval),
            };
            Ok(Subscription { userdata, ty, what })
        };
        let mut all = Vec::with_capacity(count.min(SLICE) as usize);
        for i in 0..count {
            if i % SLICE == SLICE - 1 {
                work.pause()?;
            }
            all.push(one(at + i * size)?);
        }
        Ok(all)
    }

    fn deadline(&self, id: u32, timeout: u64, flags: u16, started: u64) -> Result<What, Errno> {
        if flags & !ABSTIME != 0 {
            return Err(Errno::Inval);
        }
        match (Clock::from_number(id)?, flags & ABSTIME != 0) {
            (clock @ (Clock::Realtime | Clock::Monotonic), true) => Ok(What::At(clock, timeout)),
            (Clock::Realtime | Clock::Monotonic, false) => {
                Ok(What::At(Clock::Monotonic, started.saturating_add(timeout)))
            }
            (Clock::ProcessCpu | Clock::ThreadCpu, _) => Err(Errno::NotSup),
        }
    }

    /// Waits until at least one subscription has an event, and returns all that have one by then.
    fn wait(&self, subscriptions: &[Subscription], wake: &Wake, work: &Work<'_>) -> Result<Vec<Event>, Stop> {
        loop {
            // What needs no waiting, the descriptors to wait for, and how long.
            let mut events = Vec::new();
            let mut fds = Vec::new();
            let mut waiting: Vec<(&Subscription, &Descriptor)> = Vec::new();
            let mut timeout: Option<u64> = None;
            for (s, n) in subscriptions.iter().zip(1..) {
                if n % SLICE == 0 {
                    work.pause()?;
                }
                match s.what {
                    Err(errno) => events.push(failed(s, errno)),
                    Ok(What::At(clock, deadline)) => {
                        let left = deadline.saturating_sub(self.clocks.now(clock));
                        if left == 0 {
                            events.push(Event {
                                userdata: s.userdata,
                                errno: Errno::Success,
                                ty: CLOCK,
                                bytes: 0,
                                flags: 0,
                            });
                        }
                        let step = if clock == Clock::Realtime {
                            left.min(REALTIME_STEP)
                        } else {
                            left
                        };
                        timeout = Some(timeout.map_or(step, |t| t.min(step)));
                    }
                    Ok(What::Descriptor(fd)) => match self.pollable(fd, s.ty) {
                        Err(errno) => events.push(failed(s, errno)),
                        Ok(d) if d.kind.blocks() => {
                            let flags = if s.ty == READ { PollFlags::IN } else { PollFlags::OUT };
                            fds.push(PollFd::from_borrowed_fd(d.host(), flags));
                            waiting.push((s, d));
                        }
                        Ok(d) => events.push(file_event(s, d)),
                    },
                }
            }
            if !events.is_empty() {
                timeout = Some(0);
            }
            fds.push(PollFd::from_borrowed_fd(wake.fd(), PollFlags::IN));
            let timeout = timeout.map(|t| Timespec {
                tv_sec: (t / 1_000_000_000) as _,
                tv_nsec: (t % 1_000_000_000) as _,
            });
            let interrupted = match poll(&mut fds, timeout.as_ref()) {
                Ok(_) => false,
                Err(rustix::io::Errno::INTR) => true,
                Err(e) => return Err(e.into()),
            };
            let woken = fds.pop().is_some_and(|f| !f.revents().is_empty()) || wake.pending();
            if !interrupted {
                for ((s, d), fd) in waiting.into_iter().zip(&fds) {
                    if !fd.revents().is_empty() {
                        events.push(stream_event(s, d, fd.revents()));
                    }
                }
            }
            if !events.is_empty() {
                return Ok(events);
            }
            if woken {
                return Err(Stop::Interrupted);
            }
        }
    }

    fn pollable(&self, fd: u32, ty: u8) -> Result<&Descriptor, Errno> {
        let d = self.table.get(fd)?;
        // A listening socket is polled for reading, with no right to read.
        if !matches!(d.resource, Resource::Directory(_) | Resource::Listener { .. }) {
            d.need_io(if ty == READ { FD_READ } else { FD_WRITE })?;
        }
        d.need(POLL_FD_READWRITE).map(|()| d)
    }
}

fn failed(s: &Subscription, errno: Errno) -> Event {
    Event {
        userdata: s.userdata,
        errno,
        ty: s.ty,
        bytes: 0,
        flags: 0,
    }
}

/// Files and directories are always ready.
fn file_event(s: &Subscription, d: &Descriptor) -> Event {
    let bytes = match (s.ty, d.kind, d.stat()) {
        (READ, HostKind::Regular, Ok(stat)) => stat.size.saturating_sub(rustix::fs::tell(d.host()).unwrap_or(0)),
        _ => 0,
    };
    Event {
        userdata: s.userdata,
        errno: Errno::Success,
        ty: s.ty,
        bytes,
        flags: 0,
    }
}

fn stream_event(s: &Subscription, d: &Descriptor, revents: PollFlags) -> Event {
    let bytes = if s.ty == READ {
        rustix::io::ioctl_fionread(d.host()).unwrap_or(0)
    } else {
        0
    };
    let flags = if revents.contains(PollFlags::HUP) { HANGUP } else { 0 };
    let errno = if revents.contains(PollFlags::NVAL) {
        Errno::Badf
    } else {
        Errno::Success
    };
    Event {
        userdata: s.userdata,
        errno,
        ty: s.ty,
        bytes,
        flags,
    }
}
