//! Running a case through real executables: `dunlin build --spectest`, then the runtime's `--commands` mode.

use super::cases::Code;
use super::script::{Action, Expect, Instantiation, Refused, Step};
use crate::process::{Input, Outcome, run};
use crate::program::{Program, scratch};
use crate::tools;
use dunlin_format::arch::Arch;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Stack for forced migration, in bytes: every migration copies the whole stack, and some scripts overflow it on
/// purpose.
const SMALL_STACK: &str = "65536";

/// How long a run may take.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// How cases are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// On which architecture.
    pub arch: Arch,
    /// With a forced migration at every so-manieth point?
    pub forced: Option<u64>,
}

impl Mode {
    /// As users run programs.
    pub fn native(arch: Arch) -> Mode {
        Mode { arch, forced: None }
    }

    /// With a migration at every so-manieth point.
    pub fn forced(arch: Arch, every: u64) -> Mode {
        Mode {
            arch,
            forced: Some(every),
        }
    }
}

/// A case that can be run, or the reason why not.
#[derive(Debug)]
pub enum Built {
    /// Executables.
    Program(Program),
    /// `dunlin build` refused it with this message.
    Refused(String),
}

/// What came of running a case.
#[derive(Debug, Default)]
pub struct Checked {
    /// Assertions that held.
    pub passed: usize,
    /// What did not hold.
    pub wrong: Vec<String>,
    /// Migration points that were passed, in forced mode.
    pub points: u64,
}

/// `dunlin build --spectest` on a binary, for both machines.
#[track_caller]
pub fn build(wasm: &[u8]) -> Built {
    build_for("all", wasm)
}

/// The same for a target.
#[track_caller]
pub fn build_for(target: &str, wasm: &[u8]) -> Built {
    let dir = scratch();
    let module = dir.path().join("spec.wasm");
    std::fs::write(&module, wasm).expect("scratch space is writable");
    let outcome = dunlin_build(target, &module);
    match outcome.code() {
        0 => Built::Program(Program::adopt(dir, "spec")),
        1 | 2 => Built::Refused(reason(&outcome, &module)),
        _ => panic!("dunlin build must succeed or refuse: {outcome}"),
    }
}

fn dunlin_build(target: &str, module: &Path) -> Outcome {
    let mut command = Command::new(tools::dunlin());
    command
        .args(["build", "--spectest", "--names=false", "-j", "1", "-q"])
        .args(["--target", target])
        .arg(module)
        .arg("-o")
        .arg(module.with_extension(""));
    run(command, Input::Empty, Duration::from_secs(60))
}

/// The message without the file's name.
fn reason(outcome: &Outcome, module: &Path) -> String {
    let text = outcome.err().replace(&module.display().to_string(), "the module");
    assert!(!text.contains("panicked"), "{outcome}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs what [`build`] made of `code`, of the case `id`; `start` is what must come of instantiating the module.
pub fn check(id: &str, start: &Instantiation, code: &Code, program: &Program, mode: Mode) -> Checked {
    let mut input = String::new();
    for step in &code.steps {
        input.push_str(&command(&step.action));
        input.push('\n');
    }
    let mut run = program.on(mode.arch).opts(["--commands", "--no-control"]);
    if let Some(every) = mode.forced {
        run = run.forced(every).opts(["--stack-size", SMALL_STACK]);
        input.push_str("points\n");
    }
    let outcome = run.stdin(Input::Bytes(input.into_bytes())).timeout(TIMEOUT).output();
    let stdout = outcome.out();
    let mut replies = stdout.lines();
    let first = replies.next().unwrap_or("");
    let mut out = Checked::default();
    let started = match start {
        Instantiation::Trap(message) => accepts(&Expect::Trap(message.clone()), first),
        Instantiation::Exception => accepts(&Expect::Exception, first),
        _ => first == "ready",
    };
    if !started {
        out.wrong.push(format!("{}: {mode:?}: not {start:?}: {outcome}", id));
        return out;
    }
    if first != "ready" {
        out.passed = 1;
        return out;
    }
    for step in &code.steps {
        let Some(reply) = replies.next() else {
            out.wrong
                .push(format!("{}: {mode:?}: no reply at line {}: {outcome}", id, step.line));
            return out;
        };
        if accepts(&step.expect, reply) {
            out.passed += usize::from(step.asserts);
        } else {
            let Step {
                line, action, expect, ..
            } = step;
            out.wrong.push(format!(
                "{}: {mode:?}: line {line}: {action:?} gave {reply:?}, not {expect:?}",
                id
            ));
        }
    }
    if mode.forced.is_some() {
        let points = replies
            .next()
            .and_then(|r| r.strip_prefix("ok "))
            .and_then(|n| n.parse().ok());
        match points {
            Some(points) => out.points = points,
            None => out
                .wrong
                .push(format!("{}: {mode:?}: no number of points: {outcome}", id)),
        }
    }
    if outcome.code() != 0 {
        out.wrong.push(format!("{}: {mode:?}: {outcome}", id));
    }
    out
}

/// A module that must be refused: true if it was, by the text parser or by `dunlin build`.
pub fn is_refused(refused: &Refused) -> bool {
    let Some(wasm) = &refused.wasm else { return true };
    matches!(build(wasm), Built::Refused(_))
}

fn command(action: &Action) -> String {
    let hex = |name: &str| {
        if name.is_empty() {
            "-".to_owned()
        } else {
            name.bytes().map(|b| format!("{b:02x}")).collect()
        }
    };
    match action {
        Action::Get(name) => format!("get {}", hex(name)),
        Action::Invoke(name, args) => args.iter().fold(format!("invoke {}", hex(name)), |mut line, arg| {
            write!(line, " {}:{:x}", arg.ty, arg.bits).expect("a string takes everything");
            line
        }),
    }
}

fn accepts(expect: &Expect, reply: &str) -> bool {
    let (kind, rest) = reply.split_once(' ').unwrap_or((reply, ""));
    match expect {
        Expect::Anything => kind == "ok",
        Expect::Trap(message) => kind == "trap" && same_trap(rest, message),
        Expect::Exception => kind == "trap" && rest == "uncaught exception",
        Expect::Inexpressible(_) => false,
        Expect::Return(patterns) => {
            let results: Option<Vec<(&str, u128)>> = rest
                .split_whitespace()
                .map(|w| {
                    w.split_once(':')
                        .and_then(|(ty, bits)| Some((ty, u128::from_str_radix(bits, 16).ok()?)))
                })
                .collect();
            kind == "ok"
                && results.is_some_and(|r| {
                    r.len() == patterns.len() && r.iter().zip(patterns).all(|((ty, bits), p)| p.accepts(ty, *bits))
                })
        }
    }
}

/// Are these two names of one trap? The suite's are shorter or longer than ours ("uninitialized element 2").
fn same_trap(ours: &str, theirs: &str) -> bool {
    let theirs = match theirs {
        "null function reference" => "null reference",
        "expected shared memory" => "atomic wait on non-shared memory",
        other => other,
    };
    ours.contains(theirs) || theirs.starts_with(ours)
}

#[cfg(test)]
mod tests {
    use super::super::values::Pattern;
    use super::*;

    #[test]
    fn replies_are_judged() {
        let one = Expect::Return(vec![Pattern::Bits("i32", 1)]);
        assert!(accepts(&one, "ok i32:1"));
        assert!(!accepts(&one, "ok i32:2"));
        assert!(!accepts(&one, "ok i64:1"));
        assert!(!accepts(&one, "ok i32:1 i32:1"));
        assert!(!accepts(&one, "trap integer overflow"));
        assert!(accepts(&Expect::Return(vec![]), "ok"));
        assert!(accepts(
            &Expect::Trap("unreachable".into()),
            "trap wasm `unreachable` instruction executed"
        ));
        assert!(!accepts(&Expect::Trap("unreachable".into()), "ok"));
        assert!(!accepts(
            &Expect::Trap("integer overflow".into()),
            "trap integer divide by zero"
        ));
        assert!(accepts(
            &Expect::Trap("uninitialized element 2".into()),
            "trap uninitialized element"
        ));
        assert!(accepts(&Expect::Exception, "trap uncaught exception") && !accepts(&Expect::Exception, "ok"));
    }
}
