//! Running a case through real executables: `dunlin build --spectest`, then the runtime's `--commands` mode.

use super::script::{Action, Case, Expect, Refused};
use crate::process::{Input, Outcome, run};
use crate::program::{Program, scratch};
use crate::tools;
use dunlin_migrate::arch::Arch;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Stack for forced migration, in bytes: every migration copies the whole stack, and some scripts overflow it on purpose.
const SMALL_STACK: &str = "65536";

/// How cases are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// On which architecture.
    pub arch: Arch,
    /// With a forced migration at every so-manieth point?
    pub forced: Option<u64>,
}

impl Mode {
    /// All of them. Under qemu-user a migration costs about a millisecond, so by default only every 101st point migrates there;
    /// `DUNLIN_SPEC_FULL=1` migrates at every point there too.
    pub fn all() -> [Mode; 4] {
        let emulated = if std::env::var_os("DUNLIN_SPEC_FULL").is_some() {
            1
        } else {
            101
        };
        let mode = |arch, forced| Mode { arch, forced };
        [
            mode(Arch::X86_64, None),
            mode(Arch::X86_64, Some(1)),
            mode(Arch::Aarch64, None),
            mode(Arch::Aarch64, Some(emulated)),
        ]
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

/// `dunlin build --spectest` on a binary.
#[track_caller]
pub fn build(wasm: &[u8]) -> Built {
    let dir = scratch();
    let module = dir.path().join("spec.wasm");
    std::fs::write(&module, wasm).expect("scratch space is writable");
    let outcome = dunlin_build(&module);
    match outcome.code() {
        0 => Built::Program(Program::adopt(dir, "spec")),
        1 | 2 => Built::Refused(reason(&outcome, &module)),
        _ => panic!("dunlin build must succeed or refuse: {outcome}"),
    }
}

fn dunlin_build(module: &Path) -> Outcome {
    let mut command = Command::new(tools::dunlin());
    command
        .args(["build", "--spectest", "--names=false", "-j", "1", "-q"])
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

/// Runs a case; returns what went wrong, and the number of assertions that held.
pub fn check(case: &Case, program: &Program, mode: Mode) -> (usize, Vec<String>) {
    let mut input = String::new();
    for step in &case.steps {
        input.push_str(&command(&step.action));
        input.push('\n');
    }
    let mut run = program
        .on(mode.arch)
        .opts(["--commands", "--no-control"])
        .stdin(Input::Bytes(input.into_bytes()));
    if let Some(every) = mode.forced {
        run = run.forced(every).opts(["--stack-size", SMALL_STACK]);
    }
    let outcome = run.timeout(Duration::from_secs(400)).output();
    let stdout = outcome.out();
    let mut replies = stdout.lines();
    let first = replies.next().unwrap_or("");
    if let Some(expected) = &case.must_trap {
        let ok = first.strip_prefix("trap ").is_some_and(|m| same_trap(m, expected));
        return if ok {
            (1, vec![])
        } else {
            (
                0,
                vec![format!("{}: {mode:?}: not the trap {expected:?}: {outcome}", case.id)],
            )
        };
    }
    if first != "ready" {
        return (0, vec![format!("{}: {mode:?}: not instantiated: {outcome}", case.id)]);
    }
    let (mut held, mut wrong) = (0, Vec::new());
    for step in &case.steps {
        let Some(reply) = replies.next() else {
            wrong.push(format!("{}: {mode:?}: no reply at line {}: {outcome}", case.id, step.line));
            break;
        };
        if accepts(&step.expect, reply) {
            held += 1;
        } else {
            wrong.push(format!(
                "{}: {mode:?}: line {}: {:?} gave {reply:?}, not {:?}",
                case.id, step.line, step.action, step.expect
            ));
        }
    }
    if wrong.is_empty() && outcome.code() != 0 {
        wrong.push(format!("{}: {mode:?}: {outcome}", case.id));
    }
    (held, wrong)
}

/// A module that must be refused: true if it was, by the text parser, by `dunlin build`, or (what earlier versions of the suite call
/// unlinkable) by a trap while it is instantiated.
pub fn is_refused(refused: &Refused) -> bool {
    let Some(wasm) = &refused.wasm else { return true };
    match build(wasm) {
        Built::Refused(_) => true,
        Built::Program(program) => {
            let outcome = program.on(Arch::X86_64).opts(["--commands", "--no-control"]).output();
            outcome.out().starts_with("trap ")
        }
    }
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
    ours.contains(theirs) || theirs.starts_with(ours)
}

#[cfg(test)]
mod tests {
    use super::super::script::Pattern;
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
    }
}
