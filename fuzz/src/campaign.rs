//! Many seeds, on several threads, with a count per mode and per profile.

use crate::case::Case;
use crate::dunlin::{RunError, Runtimes, Workshop};
use crate::judge::{Compared, Judge, JudgeError, Mode};
use crate::keep;
use crate::profile::Profile;
use crate::reference::Engine;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which seeds.
    pub seeds: Range<u64>,
    /// In which modes.
    pub modes: Vec<Mode>,
    /// On how many threads.
    pub jobs: usize,
    /// Begin no more seeds after this.
    pub until: Option<Instant>,
}

/// Counts of one mode.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Modules compared.
    pub modules: u64,
    /// Replies compared.
    pub replies: u64,
    /// Traps among them.
    pub traps: u64,
    /// Host calls compared.
    pub calls: u64,
    /// Modules whose comparison ended at an exhausted call stack.
    pub overflows: u64,
    /// Modules that pass no migration point, where there must be one.
    pub skipped: u64,
    /// Migrations in forced modes; points to choose from in moves.
    pub points: u64,
    /// Modules that the interpreter has judged.
    pub interpreted: u64,
    /// Modules with which the interpreter alone disagrees.
    pub outvoted: u64,
    /// Differences.
    pub differences: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Per mode.
    pub modes: BTreeMap<Mode, Count>,
    /// Modules per profile.
    pub profiles: BTreeMap<Profile, u64>,
    /// Seeds that wasm-smith makes no module of.
    pub no_case: u64,
    /// Modules that Dunlin or a reference refused, or that ended in no comparable way.
    pub errors: Vec<String>,
    /// The next seed that wasn't begun.
    pub next: u64,
    /// Differences, in words.
    pub differences: Vec<String>,
}

impl Campaign {
    /// Runs a plan.
    pub fn run(plan: &Plan) -> Result<Campaign, RunError> {
        let runtimes = Runtimes::load()?;
        let next = AtomicU64::new(plan.seeds.start);
        let all = Mutex::new(Campaign::default());
        let workshops = (0..plan.jobs)
            .map(|n| Workshop::new(&format!("{}-{n}", plan.seeds.start)))
            .collect::<Result<Vec<_>, _>>()?;
        std::thread::scope(|scope| {
            for workshop in &workshops {
                scope.spawn(|| {
                    let time_left = || plan.until.is_none_or(|until| Instant::now() < until);
                    while time_left() {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= plan.seeds.end {
                            break;
                        }
                        keep::at(seed, || one(seed, &plan.modes, &runtimes, workshop, &all));
                    }
                });
            }
        });
        let mut campaign = all.into_inner().unwrap_or_else(|e| e.into_inner());
        campaign.next = next.into_inner().min(plan.seeds.end);
        Ok(campaign)
    }

    /// How many modules went wrong.
    pub fn failed(&self) -> usize {
        self.differences.len() + self.errors.len()
    }

    fn count(&mut self, mode: Mode, compared: &Compared) {
        let count = self.modes.entry(mode).or_default();
        count.modules += 1;
        count.replies += compared.replies as u64;
        count.calls += compared.calls as u64;
        count.traps += compared.traps as u64;
        count.overflows += u64::from(compared.overflow);
        count.skipped += u64::from(compared.skipped);
        count.points += compared.points;
        count.interpreted += u64::from(compared.engine == Some(Engine::Interpreter));
        count.outvoted += u64::from(compared.outvoted.is_some() && compared.difference.is_none());
        count.differences += u64::from(compared.difference.is_some());
    }
}

/// One seed in all modes.
fn one(seed: u64, modes: &[Mode], runtimes: &Runtimes, workshop: &Workshop, all: &Mutex<Campaign>) {
    let lock = || all.lock().unwrap_or_else(|e| e.into_inner());
    let case = match Case::of(seed) {
        Ok(case) => case,
        Err(_) => {
            lock().no_case += 1;
            return;
        }
    };
    *lock().profiles.entry(case.profile).or_default() += 1;
    let failed = |e: JudgeError, mode: &str| {
        let line = format!("seed {seed} ({:?}), {mode}: {e}", case.profile);
        eprintln!("{line}");
        keep::failure(&case, mode, &line);
        lock().errors.push(line);
    };
    let mut judge = match Judge::new(runtimes, workshop, &case, modes) {
        Ok(judge) => judge,
        Err(e) => return failed(e, "build"),
    };
    for &mode in modes {
        match judge.compare(mode) {
            Ok(compared) => {
                lock().count(mode, &compared);
                if let Some(claim) = compared.outvoted.as_ref().filter(|_| compared.difference.is_none()) {
                    eprintln!("seed {seed} ({:?}): wasmi alone says: {claim}", case.profile);
                }
                if let Some(difference) = compared.difference {
                    let line = format!("seed {seed} ({:?}), {}: {difference}", case.profile, mode.name());
                    eprintln!("{line}");
                    keep::failure(&case, mode.name(), &line);
                    lock().differences.push(line);
                }
            }
            Err(e) => failed(e, mode.name()),
        }
    }
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (mode, c) in &self.modes {
            write!(
                f,
                "{}: {} modules, {} replies ({} traps) and {} host calls equal, {} differences",
                mode.name(),
                c.modules,
                c.replies,
                c.traps,
                c.calls,
                c.differences
            )?;
            match mode {
                Mode::Native => write!(
                    f,
                    "; {} judged by the interpreter, the rest by wasmtime, of which {} against the interpreter",
                    c.interpreted, c.outvoted
                )?,
                Mode::Forced => write!(
                    f,
                    "; {} migrations, {} modules pass too few points",
                    c.points, c.skipped
                )?,
                Mode::Away | Mode::Home => write!(f, "; {} modules pass no point", c.skipped)?,
                Mode::Emulated | Mode::EmulatedForced => {}
            }
            writeln!(f, "; {} end early: call stack exhausted", c.overflows)?;
        }
        write!(f, "profiles:")?;
        for (profile, modules) in &self.profiles {
            write!(f, " {profile:?} {modules}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{} seeds without a module, {} errors, {} differences; next seed {}",
            self.no_case,
            self.errors.len(),
            self.differences.len(),
            self.next
        )
    }
}
