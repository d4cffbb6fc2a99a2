//! Going back, step by step: what a program did to its files since the newest snapshot is undone when it is started
//! again after a kill, exactly; and what others did to these files meanwhile is never lost.

use dunlin_format::arch::Arch;
use dunlin_tests::process::{Input, Outcome, Running};
use dunlin_tests::program::{CHECKPOINTED, NOT_HERE, Program, Run, dunlin, scratch};
use dunlin_tests::recipes;
use dunlin_tests::unison::Grant;
use dunlin_tests::unison::files::{Entry, compare, litter, look_closely};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

fn steps() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::build(&recipes::unison_steps().module()))
}

/// A program that was killed some steps after its newest snapshot.
struct Scene {
    dir: TempDir,
    grant: Grant,
    /// The files as they were at the snapshot.
    then: BTreeMap<String, Entry>,
}

const KILLED: i32 = 128 + 9;

/// Contents that only somebody else writes.
const FOREIGN: &str = "written by somebody else\n";

impl Scene {
    /// The program takes `before`, is saved, goes on, takes `since`, and is killed.
    #[track_caller]
    fn new(grant: Grant, before: &[&str], since: &[&str]) -> Scene {
        let dir = scratch();
        fs::create_dir(dir.path().join("data")).expect("scratch space is writable");
        let mut scene = Scene {
            dir,
            grant,
            then: BTreeMap::new(),
        };
        let mut running = scene.run(Arch::X86_64, &[]).start();
        take(&mut running, before);
        end(running, Signal::TERM, CHECKPOINTED);
        scene.then = look_closely(&scene.data());
        scene.go_on_until_killed(since);
        scene
    }

    #[track_caller]
    fn go_on_until_killed(&self, since: &[&str]) {
        let mut running = self.run(Arch::X86_64, &[]).start();
        take(&mut running, since);
        end(running, Signal::KILL, KILLED);
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    #[track_caller]
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("scratch space is writable");
    }

    fn append(&self, name: &str) {
        let file = fs::OpenOptions::new().append(true).open(self.path(name));
        let written = file.and_then(|mut f| f.write_all(FOREIGN.as_bytes()));
        written.expect("scratch space is writable");
    }

    /// The command, always the same but for `more`.
    fn run(&self, arch: Arch, more: &[&str]) -> Run {
        let saves = self.dir.path().join("saves").display().to_string();
        let options = [
            "--checkpoint-every",
            "1h",
            "--checkpoint-to",
            &saves,
            "--checkpoint-on",
            "TERM",
        ];
        let run = steps().on(arch).args(["/data"]).opts(options);
        run.opts(self.grant.option(&self.data()))
            .opts(more.iter().copied())
            .stdin(Input::Held)
    }

    /// Starts it again, and lets it end after these steps.
    #[track_caller]
    fn again(&self, arch: Arch, more: &[&str], last: &[&str]) -> Outcome {
        let mut running = self.run(arch, more).start();
        take(&mut running, last);
        send(&mut running, "quit");
        running.finish()
    }

    /// All files are as they were at the snapshot, with a program that has gone on.
    #[track_caller]
    fn is_as_then(&self, what: &str, running: &mut Running) {
        let changed = compare(&self.then, &look_closely(&self.data()));
        assert!(changed.is_empty(), "{what}: {changed:#?}\n{}", running.errors_so_far());
        assert!(
            running.is_running(),
            "{what}: it has ended\n{}",
            running.errors_so_far()
        );
    }

    /// Starting it again must be refused, twice; the message names `what`, and nothing changes.
    #[track_caller]
    fn is_refused(&self, what: &str) {
        let before = look_closely(&self.data());
        for _ in 0..2 {
            let mut running = self.run(Arch::X86_64, &[]).start();
            send(&mut running, "quit");
            let refused = running.finish().expect_code(NOT_HERE);
            assert!(refused.err().contains(what), "it names {what}: {refused}");
            assert!(refused.err().contains("--accept-changed"), "{refused}");
            assert_eq!(look_closely(&self.data()), before, "{refused}");
        }
    }

    /// Starts it again with `--accept-changed`. The other's contents must be told on standard error by the name of a
    /// file that has them.
    #[track_caller]
    fn is_accepted(&self, contents: &str, last: &[&str]) -> Outcome {
        let accepted = self.again(Arch::X86_64, &["--accept-changed"], last).expect_code(0);
        let aside: Vec<PathBuf> = look_closely(&self.data()).keys().map(|name| self.path(name)).collect();
        let has = |path: &PathBuf| path.is_file() && fs::read_to_string(path).is_ok_and(|text| text == contents);
        let told = |path: &&PathBuf| {
            // By its own name, or by that of the directory that was kept with it.
            let names = path.ancestors().take(2).filter_map(|p| p.file_name());
            let mut kept = names.map(|n| n.to_string_lossy()).filter(|n| n.contains(".aside-"));
            kept.any(|name| accepted.err().contains(&*name))
        };
        let found: Vec<&PathBuf> = aside.iter().filter(|p| has(p)).collect();
        assert!(!found.is_empty(), "{contents:?} is lost: {aside:?}\n{accepted}");
        assert!(
            found.iter().any(told),
            "its name, one of {found:?}, is told: {accepted}"
        );
        accepted
    }
}

fn send(running: &mut Running, line: &str) {
    if let Some(pipe) = running.stdin() {
        // It may have ended: then its exit code tells why.
        let _ = pipe.write_all(format!("{line}\n").as_bytes());
    }
}

/// File systems count time in steps of some milliseconds: what others do comes in a later one.
fn later() {
    std::thread::sleep(Duration::from_millis(30));
}

/// Ends a program that should still be running.
#[track_caller]
fn end(mut running: Running, signal: Signal, code: i32) {
    if running.is_running() {
        running.signal(signal);
    }
    running.finish().expect_code(code);
}

/// Has the program take steps; ends early if the program does.
#[track_caller]
fn take(running: &mut Running, lines: &[&str]) {
    let answers = |running: &Running| {
        String::from_utf8_lossy(&running.stdout_so_far())
            .matches("ok\n")
            .count()
    };
    for line in lines {
        let before = answers(running);
        send(running, line);
        while answers(running) == before && running.is_running() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What there is at the snapshot of most tests.
const BEFORE: &[&str] = &[
    "write report first",
    "write other unchanged",
    "mkdir box",
    "write box/a in-the-box",
    "write box/b in-the-box-too",
    "link box/b box/b-again",
    "symlink ../other box/to-other",
    "mkdir empty",
    "write timed long-ago",
    "times timed 1000000000",
    "times box 1000000001",
    "hold log",
    "more one",
];

/// Every kind of change, alone and together.
const CHANGES: &[&[&str]] = &[
    &[],
    &["append report second"],
    &["overwrite report FIR"],
    &["write report other"],
    &["write new something"],
    &["write box/new something"],
    &["truncate report 2"],
    &["truncate report 100000"],
    &["truncate report 0"],
    &["unlink report"],
    &["unlink box/b"],
    &["unlink box/b", "unlink box/b-again"],
    &["rename report moved"],
    &["rename report other"],
    &[
        "rename box elsewhere",
        "write elsewhere/new something",
        "unlink elsewhere/a",
    ],
    &["rename box/a empty/a"],
    &["rename box empty"],
    &["link report again", "append again second"],
    &["unlink box/to-other", "symlink a box/to-other"],
    &["write box/to-other through-the-link"],
    &["mkdir new", "write new/new something", "mkdir new/newer"],
    &["rmdir empty"],
    &["rmdir empty", "write empty now-a-file"],
    &["unlink report", "mkdir report", "write report/inside something"],
    &["times report 1100000000"],
    &["append timed now"],
    &["times box 1200000000", "write box/c more"],
    &["more two", "more three"],
    &["unlink log", "more two", "write log another"],
    &["rename log log.1", "more two"],
    &["rename report x", "rename other report", "rename x other"],
    &["write aside new", "rename aside report", "append report newer"],
];

#[test]
fn each_step_is_undone_exactly() {
    for grant in Grant::ALL {
        for (nth, since) in CHANGES.iter().enumerate() {
            let scene = Scene::new(grant, BEFORE, since);
            let arch = if nth % 8 == 7 { Arch::Aarch64 } else { Arch::X86_64 };
            let mut running = scene.run(arch, &[]).start();
            // It answers: so it has gone back, and changed nothing since.
            take(&mut running, &["show report"]);
            scene.is_as_then(&format!("{grant:?} {since:?}"), &mut running);
            take(&mut running, &["more four"]);
            send(&mut running, "quit");
            let ended = running.finish().expect_code(0);
            assert_eq!(ended.out(), "first\nok\nok\n", "{grant:?} {since:?}: {ended}");
            assert_eq!(scene.read("log"), "one\nfour\n", "{grant:?} {since:?}");
            let left = litter(scene.dir.path(), &scene.dir.path().join("saves"));
            assert!(left.is_empty(), "{grant:?} {since:?}: {left:?}");
        }
    }
}

/// A snapshot that `dunlin checkpoint` wrote elsewhere, and the periodic ones: files go back to each of them, with the
/// same directory.
#[test]
fn files_go_back_to_a_snapshot_elsewhere() {
    for (grant, stops) in Grant::ALL.into_iter().flat_map(|grant| [(grant, true), (grant, false)]) {
        let what = format!("{grant:?}, it stops: {stops}");
        let scene = Scene::new(grant, BEFORE, &[]);
        let elsewhere = scene.dir.path().join("moved.snap");
        let mut running = scene.run(Arch::X86_64, &[]).start();
        take(&mut running, &["write report second", "unlink other", "more two"]);
        let pid = running.pid().to_string();
        let mut words = vec![
            "checkpoint".as_ref(),
            pid.as_ref(),
            "-o".as_ref(),
            elsewhere.as_os_str(),
        ];
        if !stops {
            words.push("--leave-running".as_ref());
        }
        let asked = dunlin(&words, &[]).expect_code(0);
        let then = look_closely(&scene.data());
        if stops {
            running.finish().expect_code(CHECKPOINTED);
        } else {
            take(
                &mut running,
                &["append report third", "write other again", "more three"],
            );
            end(running, Signal::KILL, KILLED);
        }
        let resume = ["--resume", &elsewhere.display().to_string()];
        for _ in 0..2 {
            let mut running = scene.run(Arch::X86_64, &resume).start();
            take(&mut running, &["show report"]);
            let changed = compare(&then, &look_closely(&scene.data()));
            assert!(
                changed.is_empty(),
                "{what}: {changed:#?}\n{}{asked}",
                running.errors_so_far()
            );
            take(&mut running, &["append report fourth", "unlink log", "mkdir sub"]);
            end(running, Signal::KILL, KILLED);
        }
        // The program's own snapshots have gone no further than before.
        let mut running = scene.run(Arch::X86_64, &[]).start();
        take(&mut running, &["show report"]);
        scene.is_as_then(&what, &mut running);
        // A new one takes a number of its own.
        take(&mut running, &["append report fifth"]);
        end(running, Signal::TERM, CHECKPOINTED);
        let ended = scene.again(Arch::X86_64, &[], &["show report"]).expect_code(0);
        assert_eq!(ended.out(), "first\nfifth\nok\n", "{what}: {ended}");
    }
}

/// Killed twice after the same snapshot: what the second life did is undone, too.
#[test]
fn a_second_life_is_undone_like_the_first() {
    for grant in Grant::ALL {
        for (nth, since) in CHANGES.iter().enumerate().step_by(3) {
            let scene = Scene::new(grant, BEFORE, since);
            scene.go_on_until_killed(CHANGES[(nth * 7 + 5) % CHANGES.len()]);
            let mut running = scene.run(Arch::X86_64, &[]).start();
            take(&mut running, &["show report"]);
            scene.is_as_then(&format!("{grant:?} {since:?}"), &mut running);
            send(&mut running, "quit");
            running.finish().expect_code(0);
        }
    }
}

/// What somebody else does: the program's steps since the snapshot, the other's deed, the file that is in question, and
/// what it holds then.
type Deed = (&'static [&'static str], fn(&Scene), &'static str, &'static str);

const DEEDS: &[Deed] = &[
    // Appends to what the program appended to.
    (
        &["append report second"],
        |s| s.append("report"),
        "report",
        "first\nsecond\nwritten by somebody else\n",
    ),
    // Changes it without changing its length.
    (
        &["append report second"],
        |s| s.write("report", "FOREIGN-bytes"),
        "report",
        "FOREIGN-bytes",
    ),
    // Puts another in its place.
    (
        &["overwrite report FIR"],
        |s| {
            s.write("theirs", FOREIGN);
            fs::rename(s.path("theirs"), s.path("report")).expect("a rename");
        },
        "report",
        FOREIGN,
    ),
    // Adds to a file that is new.
    (
        &["write new something"],
        |s| s.append("new"),
        "new",
        "something\nwritten by somebody else\n",
    ),
    // Writes where the program has removed something,
    (&["unlink report"], |s| s.write("report", FOREIGN), "report", FOREIGN),
    // or moved it away from.
    (
        &["rename report moved"],
        |s| s.write("report", FOREIGN),
        "report",
        FOREIGN,
    ),
    // Adds to what was renamed.
    (
        &["rename report moved"],
        |s| s.append("moved"),
        "moved",
        "first\nwritten by somebody else\n",
    ),
    // Puts something into a directory that is new.
    (&["mkdir new"], |s| s.write("new/theirs", FOREIGN), "new", FOREIGN),
    // Adds to the file that the program has open.
    (
        &["more two"],
        |s| s.append("log"),
        "log",
        "one\ntwo\nwritten by somebody else\n",
    ),
];

#[test]
fn what_others_did_is_never_overwritten() {
    for grant in Grant::ALL {
        for (since, deed, name, contents) in DEEDS {
            println!("{grant:?} {since:?} {name}");
            let scene = Scene::new(grant, BEFORE, since);
            later();
            deed(&scene);
            scene.is_refused(name);
            // Of a shared file that others have replaced, the journal has only what the program had changed in it.
            let lost = grant == Grant::Dir && since == &["overwrite report FIR"];
            let last: &[&str] = if *name == "log" || lost { &[] } else { &["show report"] };
            let accepted = scene.is_accepted(contents, last);
            // Of a shared file that the program had only added to, the journal has no more than the length.
            let whole = grant != Grant::Dir || contents != &"FOREIGN-bytes";
            if !last.is_empty() && whole {
                assert_eq!(accepted.out(), "first\nok\n", "{grant:?} {since:?}");
            }
        }
    }
}

/// What the program wrote to since the snapshot is gone: it can't go on as if nothing had happened.
#[test]
fn a_file_that_others_removed_is_missed() {
    for grant in Grant::ALL {
        for since in ["append report second", "overwrite report FIR"] {
            let scene = Scene::new(grant, BEFORE, &[since]);
            fs::remove_file(scene.path("report")).expect("it is there");
            scene.is_refused("report");
            scene.again(Arch::X86_64, &["--accept-changed"], &[]).expect_code(0);
        }
    }
}

/// What the program has neither changed nor open, nor carries, is none of its business.
#[test]
fn what_others_do_elsewhere_is_left_alone() {
    for grant in [Grant::Dir, Grant::Carry] {
        let scene = Scene::new(grant, BEFORE, &["append report second", "write new something"]);
        // With `--carry`, it is the program's since it has written to it, and must not change.
        if grant == Grant::Dir {
            scene.append("other");
        }
        scene.write("theirs", FOREIGN);
        scene.write("box/theirs", FOREIGN);
        let ended = scene.again(Arch::X86_64, &[], &["show report"]).expect_code(0);
        assert_eq!(ended.out(), "first\nok\n", "{grant:?}");
        let other = if grant == Grant::Dir { FOREIGN } else { "" };
        assert_eq!(scene.read("other"), format!("unchanged\n{other}"), "{grant:?}");
        assert_eq!(scene.read("theirs"), FOREIGN, "{grant:?}");
        assert_eq!(scene.read("box/theirs"), FOREIGN, "{grant:?}");
        assert!(!scene.path("new").exists(), "{grant:?}");
    }
}

/// A carried file that others have changed is not replaced before a person says so, though the program hasn't touched
/// it since the snapshot.
#[test]
fn carried_files_of_others_are_not_replaced() {
    for grant in [Grant::Carry, Grant::CarryAll] {
        let scene = Scene::new(grant, BEFORE, &[]);
        later();
        scene.append("other");
        scene.is_refused("other");
        let changed = format!("unchanged\n{FOREIGN}");
        let accepted = scene.is_accepted(&changed, &["show other"]);
        assert_eq!(accepted.out(), "unchanged\nok\n", "{grant:?}");
    }
}

/// `--no-rollback`: files stay as they are, and a log only grows.
#[test]
fn without_rollback_files_stay_as_they_are() {
    let scene = Scene {
        dir: scratch(),
        grant: Grant::Dir,
        then: BTreeMap::new(),
    };
    fs::create_dir(scene.data()).expect("scratch space is writable");
    let no_rollback = ["--no-rollback"];
    let mut running = scene.run(Arch::X86_64, &no_rollback).start();
    take(&mut running, BEFORE);
    end(running, Signal::TERM, CHECKPOINTED);
    for _ in 0..2 {
        let mut running = scene.run(Arch::X86_64, &no_rollback).start();
        take(
            &mut running,
            &["append report second", "more two", "write new something"],
        );
        end(running, Signal::KILL, KILLED);
    }
    let ended = scene.again(Arch::X86_64, &no_rollback, &["show report", "more three"]);
    let ended = ended.expect_code(0);
    assert_eq!(ended.out(), "first\nsecond\nsecond\nok\nok\n");
    assert_eq!(scene.read("log"), "one\ntwo\ntwo\nthree\n");
    assert_eq!(scene.read("new"), "something\n");
}

/// The program can neither see nor touch what Dunlin keeps for it.
#[test]
fn snapshots_and_journals_in_a_granted_directory_are_out_of_reach() {
    for grant in Grant::ALL {
        let dir = scratch();
        let options = |every| {
            let saves = dir.path().join("saves").display().to_string();
            [
                "--checkpoint-every",
                every,
                "--checkpoint-to",
                &saves,
                "--checkpoint-on",
                "TERM",
            ]
            .map(str::to_owned)
        };
        let run = |last: &[&str]| {
            let run = steps().on(Arch::X86_64).args(["/data"]).opts(options("1h"));
            let mut running = run.opts(grant.option(dir.path())).stdin(Input::Held).start();
            take(&mut running, last);
            running
        };
        let running = run(&["write report first"]);
        end(running, Signal::TERM, CHECKPOINTED);
        let size = |path: &Path| fs::metadata(path).expect("it is there").len();
        assert!(size(&dir.path().join("saves/0000000001.snap")) < 1 << 20, "{grant:?}");
        for deed in [
            "unlink saves/0000000001.snap",
            "append saves/0000000001.snap more",
            "rename saves/0000000001.snap mine",
            "rename saves elsewhere",
            "write saves/mine something",
        ] {
            let mut running = run(&["append report second", deed]);
            send(&mut running, "quit");
            let outcome = running.finish();
            assert_eq!(outcome.code(), 1, "{grant:?} {deed}: {outcome}");
            assert!(outcome.out().contains("failed"), "{grant:?} {deed}: {outcome}");
        }
    }
}
