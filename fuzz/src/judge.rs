//! Runs a case in modes and says what differs.

use crate::case::Case;
use crate::dunlin::{Run, RunError, Runtimes, Twist, Workshop};
use crate::reference::{self, Engine, ReferenceError};
use crate::script::{is_overflow, normal, reply_proper};
use dunlin_format::arch::Arch;

/// The two architectures.
const HERE: Arch = Arch::X86_64;
const THERE: Arch = Arch::Aarch64;

/// Exit code of a program that has written a snapshot and ended.
const CHECKPOINTED: i32 = 85;

/// What is compared with what. All but the first are compared, reply by reply and to the last bit, with a plain run on
/// x86_64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// A run on x86_64 and the reference.
    Native,
    /// x86_64 with forced migrations.
    Forced,
    /// aarch64.
    Emulated,
    /// aarch64 with forced migrations.
    EmulatedForced,
    /// Stopped on x86_64 at some point, gone on with on aarch64.
    Away,
    /// Stopped on aarch64 at some point, gone on with on x86_64.
    Home,
}

impl Mode {
    /// All of them, with their names.
    pub const ALL: [(Mode, &str); 6] = [
        (Mode::Native, "native"),
        (Mode::Forced, "forced"),
        (Mode::Emulated, "emulated"),
        (Mode::EmulatedForced, "emulated-forced"),
        (Mode::Away, "away"),
        (Mode::Home, "home"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Mode::ALL
            .iter()
            .find(|(mode, _)| *mode == self)
            .map_or("", |(_, name)| name)
    }

    fn is_emulated(self) -> bool {
        !matches!(self, Mode::Native | Mode::Forced)
    }
}

/// Why a case couldn't be judged. Not a difference, but no success either.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// Dunlin.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The reference.
    #[error("the reference: {0}")]
    Reference(#[from] ReferenceError),
}

/// What a comparison amounted to.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Replies compared.
    pub replies: usize,
    /// Calls that trapped, of those.
    pub traps: usize,
    /// Calls of the host before them.
    pub calls: usize,
    /// The comparison ended early because the call stack was exhausted.
    pub overflow: bool,
    /// Migrations, or points in a run that was stopped.
    pub points: u64,
    /// Nothing to do in this mode: the program passes no point.
    pub skipped: bool,
    /// Which reference has judged.
    pub engine: Option<Engine>,
    /// What the interpreter alone finds different.
    pub outvoted: Option<String>,
    /// What differs.
    pub difference: Option<String>,
}

/// A case under judgement, built.
pub struct Judge<'a> {
    case: &'a Case,
    workshop: &'a Workshop,
    lines: String,
    plain: Run,
    points: Option<u64>,
}

impl<'a> Judge<'a> {
    /// Builds a case and makes the plain run.
    pub fn new(
        runtimes: &Runtimes,
        workshop: &'a Workshop,
        case: &'a Case,
        modes: &[Mode],
    ) -> Result<Judge<'a>, JudgeError> {
        let both = [HERE, THERE];
        let targets = if modes.iter().any(|m| m.is_emulated()) {
            &both[..]
        } else {
            &both[..1]
        };
        workshop.build(runtimes, case, targets)?;
        let lines = lines(case, 0);
        let plain = workshop.run(HERE, &lines, &Twist::default())?;
        Ok(Judge {
            case,
            workshop,
            lines,
            plain,
            points: None,
        })
    }

    /// Compares in a mode.
    pub fn compare(&mut self, mode: Mode) -> Result<Compared, JudgeError> {
        match mode {
            Mode::Native => self.with_reference(),
            Mode::Forced => self.forced(HERE),
            Mode::Emulated => {
                let run = self.workshop.run(THERE, &self.lines, &Twist::default())?;
                Ok(self.with_plain(&run))
            }
            Mode::EmulatedForced => self.forced(THERE),
            Mode::Away => self.moved(HERE, THERE),
            Mode::Home => self.moved(THERE, HERE),
        }
    }

    fn with_reference(&self) -> Result<Compared, JudgeError> {
        let found: Vec<String> = self.plain.replies.iter().map(|reply| normal(reply)).collect();
        let with = |expected: Vec<String>| compare(&expected, &found, ended_well(&self.plain));
        let interpreted = reference::interpreted(self.case)?.map(with);
        if let Some(agreed) = interpreted.as_ref().filter(|c| c.difference.is_none()) {
            return Ok(Compared {
                engine: Some(Engine::Interpreter),
                ..agreed.clone()
            });
        }
        let compiled = with(reference::compiled(self.case)?);
        Ok(Compared {
            engine: Some(Engine::Jit),
            // The interpreter has bugs of its own: whom two of three agree with is right.
            outvoted: interpreted.and_then(|c| c.difference),
            ..compiled
        })
    }

    fn with_plain(&self, run: &Run) -> Compared {
        let failed = ended_well(run).or_else(|| ended_well(&self.plain));
        compare(&self.plain.replies, &run.replies, failed)
    }

    /// A run with migrations at every `n`th point; it also counts the points.
    fn count(&mut self, arch: Arch, n: u64) -> Result<Run, JudgeError> {
        let twist = Twist {
            force: Some(n),
            ..Twist::default()
        };
        let mut run = self.workshop.run(arch, &format!("{}points\n", self.lines), &twist)?;
        let number = |reply: &String| reply.strip_prefix("ok ").and_then(|n| n.parse().ok());
        // A module that traps while it is instantiated has no more to say.
        let points = if run.replies.len() > 1 {
            run.replies.last().and_then(number)
        } else {
            Some(0)
        };
        if points.is_some() && run.replies.len() > 1 {
            run.replies.pop();
        }
        if arch == HERE {
            self.points = points;
        }
        Ok(run)
    }

    fn forced(&mut self, arch: Arch) -> Result<Compared, JudgeError> {
        let every = self.case.force * if arch == HERE { 1 } else { 5 };
        let run = self.count(arch, every)?;
        let points = self.points.unwrap_or(0);
        Ok(Compared {
            points: points / every,
            skipped: arch == HERE && points < every,
            ..self.with_plain(&run)
        })
    }

    /// Stops at one of the points on one architecture and goes on on the other.
    fn moved(&mut self, from: Arch, to: Arch) -> Result<Compared, JudgeError> {
        if self.points.is_none() {
            self.count(HERE, u64::MAX)?;
        }
        let points = self.points.unwrap_or(0);
        if points == 0 {
            return Ok(Compared {
                skipped: true,
                ..Compared::default()
            });
        }
        let at = 1 + self.case.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) % points;
        let stop = Twist {
            stop_at: Some(at),
            ..Twist::default()
        };
        let mut run = self.workshop.run(from, &self.lines, &stop)?;
        if run.code == Some(CHECKPOINTED) {
            let go_on = Twist {
                resume: true,
                ..Twist::default()
            };
            let second = self.workshop.run(to, &lines(self.case, run.replies.len()), &go_on)?;
            let mut replies = second.replies.into_iter();
            let calls = std::mem::replace(&mut run.rest, second.rest);
            run.replies.extend(replies.next().map(|first| calls + &first));
            run.replies.extend(replies);
            run.code = second.code;
            run.notes += &second.notes;
        } else if !run.replies.iter().any(|r| is_overflow(&normal(r))) {
            run.notes += &format!("point {at} of {points} was not reached");
            run.code = None;
        }
        Ok(Compared {
            points,
            ..self.with_plain(&run)
        })
    }
}

/// The commands from `done` on, as the runtime reads them.
fn lines(case: &Case, done: usize) -> String {
    case.commands.iter().skip(done).map(|c| c.line() + "\n").collect()
}

/// What is wrong about a run's end, if anything.
fn ended_well(run: &Run) -> Option<String> {
    (run.code != Some(0)).then(|| format!("exit code {:?}: {}", run.code, run.notes.trim_end()))
}

fn compare(expected: &[String], found: &[String], failed: Option<String>) -> Compared {
    let overflow = |reply: &String| is_overflow(&normal(reply)) || is_overflow(reply);
    let mut compared = Compared::default();
    for n in 0..expected.len().max(found.len()) {
        let (e, f) = (expected.get(n), found.get(n));
        if e.is_some_and(overflow) || f.is_some_and(overflow) {
            compared.overflow = true;
            return compared;
        }
        if e != f {
            let (e, f) = first_difference(e.map_or("nothing", String::as_str), f.map_or("nothing", String::as_str));
            let why = failed.map(|f| format!("; {f}")).unwrap_or_default();
            compared.difference = Some(format!("reply {n}: expected {e}, found {f}{why}"));
            return compared;
        }
        compared.replies += 1;
        compared.calls += e.map_or(0, |e| e.matches('\n').count());
        compared.traps += usize::from(e.is_some_and(|e| reply_proper(e).starts_with("trap")));
    }
    compared.difference = failed;
    compared
}

/// The first lines that differ, of two replies with their host calls.
fn first_difference<'a>(e: &'a str, f: &'a str) -> (&'a str, &'a str) {
    let (mut e, mut f) = (e.lines(), f.lines());
    loop {
        match (e.next(), f.next()) {
            (Some(e), Some(f)) if e == f => {}
            (e, f) => return (e.unwrap_or("nothing"), f.unwrap_or("nothing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|&t| t.to_owned()).collect()
    }

    #[test]
    fn the_first_difference_is_told() {
        let a = lines(&["ready", "ok i32:1", "trap integer overflow"]);
        assert!(compare(&a, &a, None).difference.is_none());
        assert_eq!(compare(&a, &a, None).traps, 1);
        let b = lines(&["ready", "ok i32:2", "trap integer overflow"]);
        let difference = compare(&a, &b, None).difference.unwrap();
        assert!(
            difference.contains("reply 1") && difference.contains("i32:2"),
            "{difference}"
        );
        assert!(compare(&a, &a[..2], None).difference.unwrap().contains("nothing"));
        assert!(compare(&a, &a, Some("exit code 87".into())).difference.is_some());
    }

    #[test]
    fn after_an_overflow_nothing_is_compared() {
        let a = lines(&["ready", "trap call stack exhausted", "ok i32:1"]);
        let b = lines(&["ready", "ok", "ok i32:2"]);
        let compared = compare(&a, &b, None);
        assert!(compared.overflow && compared.difference.is_none() && compared.replies == 1);
    }
}
