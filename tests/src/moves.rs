//! Ping-pong: a program runs a while on one architecture, is stopped at a migration point, goes on on the other, and so
//! on until it ends. Standard output of all legs together must be that of an undisturbed run.

use crate::process::{Input, Outcome};
use crate::program::{CHECKPOINTED, Run, dunlin, scratch};
use dunlin_format::arch::Arch;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a program may take to begin to listen for requests, on a busy machine and under qemu.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a ping-pong went.
#[derive(Debug, Default)]
pub struct Journey {
    /// How often the program moved.
    pub moves: usize,
    /// Exit code of the last leg.
    pub code: i32,
    /// Standard output of all legs.
    pub stdout: Vec<u8>,
    /// Standard error of the last leg.
    pub stderr: Vec<u8>,
    /// Snapshot sizes in bytes, one per move.
    pub sizes: Vec<u64>,
}

/// The other architecture.
pub fn other(arch: Arch) -> Arch {
    match arch {
        Arch::X86_64 => Arch::Aarch64,
        Arch::Aarch64 => Arch::X86_64,
        Arch::Pulley64 | Arch::Pulley32 => panic!("{arch} has no counterpart"),
    }
}

/// Moves a program after each of `legs` (numbers of migration points to pass), starting on `first`; after the last of
/// them it runs to its end. `run` makes a run on an architecture, with grants and arguments; `input` a leg's standard
/// input.
#[track_caller]
pub fn ping_pong(
    first: Arch,
    legs: impl IntoIterator<Item = u64>,
    run: impl Fn(Arch) -> Run,
    input: impl FnMut() -> Input,
) -> Journey {
    ping_pong_between([first, other(first)], legs, run, input)
}

/// As [`ping_pong`], between any two architectures, starting on the first of them.
#[track_caller]
pub fn ping_pong_between(
    route: [Arch; 2],
    legs: impl IntoIterator<Item = u64>,
    run: impl Fn(Arch) -> Run,
    mut input: impl FnMut() -> Input,
) -> Journey {
    let dir = scratch();
    let mut journey = Journey::default();
    let mut arch = route[0];
    let mut from: Option<PathBuf> = None;
    let mut legs = legs.into_iter();
    loop {
        let leg = legs.next();
        let to = dir.path().join(format!("{}.snap", journey.moves));
        let mut next = run(arch).stdin(input());
        if let Some(from) = &from {
            next = next.resume(from);
        }
        if let Some(points) = leg {
            next = next.stop_at(points, &to);
        }
        let outcome: Outcome = next.output();
        journey.stdout.extend_from_slice(&outcome.stdout);
        if outcome.code() != CHECKPOINTED || leg.is_none() {
            journey.code = outcome.code();
            journey.stderr = outcome.stderr;
            return journey;
        }
        let size = std::fs::metadata(&to)
            .unwrap_or_else(|e| panic!("no snapshot ({e}) after {outcome}"))
            .len();
        journey.sizes.push(size);
        journey.moves += 1;
        from = Some(to);
        arch = route[journey.moves % 2];
    }
}

/// The processor time a process has taken: unlike the clock, it doesn't run on while a busy machine does something
/// else.
fn processor_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything. Times are fields 14 and 15, in hundredths of a second on every Linux
    // of ours.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(14)? + ticks(15)?)))
}

/// Moves a program with `dunlin checkpoint` after its process has taken `leg` of processor time (by architecture),
/// until it ends.
#[track_caller]
pub fn timed(first: Arch, leg: impl Fn(Arch) -> Duration, run: impl Fn(Arch) -> Run) -> Journey {
    let dir = scratch();
    let mut journey = Journey::default();
    let mut arch = first;
    let mut from: Option<PathBuf> = None;
    loop {
        let to = dir.path().join(format!("{}.snap", journey.moves));
        let mut next = run(arch);
        if let Some(from) = &from {
            next = next.resume(from);
        }
        let mut running = next.start();
        while running.is_running() && processor_time(running.pid()).is_some_and(|t| t < leg(arch)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let ends = Instant::now() + PATIENCE;
        let pid = running.pid().to_string();
        let mut asked = None;
        // It may not listen yet, or end this very moment.
        while running.is_running() && Instant::now() < ends {
            let outcome = dunlin(
                &["checkpoint".as_ref(), pid.as_ref(), "-o".as_ref(), to.as_os_str()],
                &[],
            );
            let done = outcome.code() == 0;
            asked = Some(outcome);
            if done {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let outcome = running.finish();
        journey.stdout.extend_from_slice(&outcome.stdout);
        if outcome.code() != CHECKPOINTED {
            journey.code = outcome.code();
            journey.stderr = outcome.stderr;
            return journey;
        }
        let size = std::fs::metadata(&to)
            .unwrap_or_else(|e| panic!("no snapshot ({e}) after {outcome}; asked: {asked:?}"))
            .len();
        journey.sizes.push(size);
        journey.moves += 1;
        from = Some(to);
        arch = other(arch);
    }
}

/// Legs for programs of unknown length: short ones first, then growing, `count` of them.
pub fn growing(count: usize) -> impl Iterator<Item = u64> {
    let mut leg = 1.0_f64;
    (0..count).map(move |i| {
        if i > 1 {
            leg = leg * 1.7 + 1.0;
        }
        leg as u64
    })
}
