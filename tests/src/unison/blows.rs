//! When a program is struck: at a random instant, or when something particular goes on.

use super::Random;
use crate::process::Running;
use dunlin_format::arch::Arch;
use dunlin_migrate::store;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::{Duration, Instant};

/// What is done to a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// Killed soon after its start: while it goes back and resumes.
    Early,
    /// Killed some time after it has written a new snapshot.
    Late,
    /// Killed while a snapshot is being written.
    Writing,
    /// Killed when a new snapshot has just got its name.
    Named,
    /// The copy that writes a snapshot is killed; and the program, some time later.
    Writer,
    /// Asked to save itself and to end.
    Term,
    /// Asked to save itself, and killed while it does.
    TermKilled,
    /// Killed when it has printed its result.
    End,
}

/// All of them; [`Blow::index`] is the place in this list.
pub(super) const ALL: [Blow; 8] = [
    Blow::Early,
    Blow::Late,
    Blow::Writing,
    Blow::Named,
    Blow::Writer,
    Blow::Term,
    Blow::TermKilled,
    Blow::End,
];

/// A program that writes no snapshot for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

impl Blow {
    /// Its place in [`ALL`].
    pub(super) fn index(self) -> usize {
        ALL.iter().position(|&b| b == self).expect("all are in the list")
    }

    /// A random one; `waits` if the program must get on now.
    pub(super) fn choose(random: &mut Random, waits: bool) -> Blow {
        match random.below(100) {
            _ if waits => Blow::Late,
            0..=29 => Blow::Early,
            30..=54 => Blow::Late,
            55..=74 => Blow::Writing,
            75..=86 => Blow::Named,
            87..=91 => Blow::Writer,
            92..=96 => Blow::Term,
            _ => Blow::TermKilled,
        }
    }
}

/// The newest snapshot's number; 0 if there is none.
pub(super) fn newest(saves: &Path) -> u64 {
    store::list(saves)
        .ok()
        .and_then(|all| all.first().map(|(n, _)| *n))
        .unwrap_or(0)
}

/// Is a snapshot being written there, or was one when the program was killed?
pub(super) fn is_writing(saves: &Path) -> bool {
    std::fs::read_dir(saves).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|e| e.file_name().to_string_lossy().starts_with(".dunlin-"))
    })
}

/// The processes that a process has forked.
fn children(pid: u32) -> Vec<i32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|p| p.parse::<i32>().ok()));
    }
    found
}

/// Waits until something is so. False if the program ended before.
fn until(running: &mut Running, what: &str, mut is: impl FnMut(&mut Running) -> bool) -> Result<bool, String> {
    let began = Instant::now();
    loop {
        if is(running) {
            return Ok(true);
        }
        if !running.is_running() {
            return Ok(false);
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{what}: not within {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Waits a time between `least` and `most` in microseconds; small ones are as likely as large ones.
pub(super) fn pause(random: &mut Random, arch: Arch, least: u64, most: u64) {
    let doublings = (most / least).ilog2().max(1);
    let scale = least << random.below(doublings.into());
    let time = scale + random.below(scale + 1);
    let slower = if Arch::host() == Some(arch) { 1 } else { 8 };
    std::thread::sleep(Duration::from_micros(time * slower));
}

/// Strikes. Returns without waiting for the program's end.
pub(super) fn strike(
    blow: Blow,
    running: &mut Running,
    arch: Arch,
    saves: &Path,
    random: &mut Random,
) -> Result<(), String> {
    let before = newest(saves);
    let advanced = |_: &mut Running| newest(saves) > before;
    match blow {
        Blow::Early => pause(random, arch, 250, 64_000),
        Blow::Late => {
            if until(running, "a new snapshot", advanced)? {
                pause(random, arch, 500, 64_000);
            }
        }
        Blow::Writing => {
            if until(running, "a new snapshot", advanced)?
                && until(running, "a snapshot being written", |_| is_writing(saves))?
            {
                pause(random, arch, 50, 3_000);
            }
        }
        Blow::Named => {
            if until(running, "a new snapshot", advanced)? {
                pause(random, arch, 20, 600);
            }
        }
        Blow::Writer => {
            let mut struck = 0;
            until(running, "a writing copy", |running| {
                for child in children(running.pid()) {
                    if let Some(pid) = Pid::from_raw(child) {
                        let _ = kill_process(pid, Signal::KILL);
                        struck += 1;
                    }
                }
                struck > 0 && (struck > 2 || random.percent(50))
            })?;
            pause(random, arch, 250, 32_000);
        }
        Blow::Term | Blow::TermKilled => {
            pause(random, arch, 2_000, 64_000);
            send(running, Signal::TERM);
            if blow == Blow::Term {
                return Ok(());
            }
            pause(random, arch, 50, 12_000);
        }
        Blow::End => {
            let done = |running: &mut Running| running.stdout_so_far().ends_with(b"done\n");
            if until(running, "the end", done)? {
                pause(random, arch, 20, 4_000);
            }
        }
    }
    send(running, Signal::KILL);
    Ok(())
}

/// Sends a signal to a program that may have ended meanwhile.
fn send(running: &mut Running, signal: Signal) {
    if running.is_running() {
        running.signal(signal);
    }
}
