//! `clock_res_get`, `clock_time_get`, and the clocks that travel.
//!
//! Realtime is the host's. The monotonic clock and the CPU clocks are the program's own: they start at 0 with it, and
//! after a move they go on from where they stood when the state was captured. So they never go back, and no pause is
//! counted.

use crate::wasi::errno::Errno;
use crate::wasi::mem::Memory;
use crate::wasi::{Done, Wasi};
use dunlin_migrate::state::wasi::Times;
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

/// WASI's clocks, by their numbers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wasi) enum Clock {
    Realtime,
    Monotonic,
    ProcessCpu,
    ThreadCpu,
}

impl Clock {
    pub(in crate::wasi) fn from_number(n: u32) -> Result<Clock, Errno> {
        [Clock::Realtime, Clock::Monotonic, Clock::ProcessCpu, Clock::ThreadCpu]
            .get(n as usize)
            .copied()
            .ok_or(Errno::Inval)
    }

    fn host(self) -> ClockId {
        match self {
            Clock::Realtime => ClockId::Realtime,
            Clock::Monotonic => ClockId::Monotonic,
            Clock::ProcessCpu => ClockId::ProcessCPUTime,
            Clock::ThreadCpu => ClockId::ThreadCPUTime,
        }
    }
}

fn nanoseconds(t: Timespec) -> u64 {
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0))
}

fn host_now(clock: Clock) -> u64 {
    nanoseconds(clock_gettime(clock.host()))
}

/// A clock that goes on from `base` while the host's goes on from `origin`, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Continued {
    clock: Clock,
    base: u64,
    origin: u64,
}

impl Continued {
    fn from(clock: Clock, base: u64) -> Continued {
        Continued {
            clock,
            base,
            origin: host_now(clock),
        }
    }

    fn now(&self) -> u64 {
        self.base
            .saturating_add(host_now(self.clock).saturating_sub(self.origin))
    }
}

/// The program's clocks.
#[derive(Clone, Copy, Debug)]
pub(in crate::wasi) struct Clocks {
    monotonic: Continued,
    process: Continued,
    thread: Continued,
}

impl Clocks {
    /// Clocks that go on from captured readings; all zero for a new program.
    pub(in crate::wasi) fn from(times: &Times) -> Clocks {
        // Every field by name: a new one must not be left out here.
        let &Times {
            monotonic,
            process_cpu,
            thread_cpu,
            // No readings of clocks.
            poll_started: _,
            files: _,
        } = times;
        Clocks {
            monotonic: Continued::from(Clock::Monotonic, monotonic),
            process: Continued::from(Clock::ProcessCpu, process_cpu),
            thread: Continued::from(Clock::ThreadCpu, thread_cpu),
        }
    }

    /// A clock's reading, in nanoseconds.
    pub(in crate::wasi) fn now(&self, clock: Clock) -> u64 {
        match clock {
            Clock::Realtime => host_now(clock),
            Clock::Monotonic => self.monotonic.now(),
            Clock::ProcessCpu => self.process.now(),
            Clock::ThreadCpu => self.thread.now(),
        }
    }
}

impl Wasi {
    pub(in crate::wasi) fn clock_res_get(&mut self, m: &mut Memory<'_>, clock: u32, out: u32) -> Done {
        let resolution = nanoseconds(clock_getres(Clock::from_number(clock)?.host()));
        Ok(m.set_u64(out, resolution.max(1))?)
    }

    pub(in crate::wasi) fn clock_time_get(&mut self, m: &mut Memory<'_>, clock: u32, out: u32) -> Done {
        let now = self.clocks.now(Clock::from_number(clock)?);
        Ok(m.set_u64(out, now)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_on_from_where_they_stood() {
        let hour = 3_600_000_000_000;
        let clocks = Clocks::from(&Times {
            monotonic: hour,
            process_cpu: 2 * hour,
            thread_cpu: 3 * hour,
            ..Times::default()
        });
        for (clock, base) in [
            (Clock::Monotonic, hour),
            (Clock::ProcessCpu, 2 * hour),
            (Clock::ThreadCpu, 3 * hour),
        ] {
            let (a, b) = (clocks.now(clock), clocks.now(clock));
            assert!(base <= a && a <= b && b < base + hour / 60, "{clock:?}: {a} {b}");
        }
        let far = Clocks::from(&Times {
            monotonic: u64::MAX,
            ..Times::default()
        });
        assert_eq!(far.now(Clock::Monotonic), u64::MAX);
    }
}
