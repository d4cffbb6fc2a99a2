//! A program that was killed while it removed its snapshots, after its end, is not resumed: it begins anew.

use dunlin_format::arch::Arch;
use dunlin_migrate::snapshot::open_file;
use dunlin_migrate::store;
use dunlin_tests::process::Outcome;
use dunlin_tests::program::{BAD_SNAPSHOT, CHECKPOINTED, Program, Run, dunlin, scratch};
use std::fs;
use std::path::Path;

/// Exit code of `dunlin` for what it could not do.
const COULD_NOT: i32 = 1;

/// Prints "begun", computes for a while, prints "done".
const COUNTER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "begun\ndone\n")
  (func $print (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
  (func (export "_start") (local $n i32)
    (call $print (i32.const 64) (i32.const 6))
    (local.set $n (i32.const 100000))
    (loop $count
      (i32.store (i32.const 32) (local.get $n))
      (br_if $count (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (call $print (i32.const 70) (i32.const 5))))"#;

fn periodic(run: Run, dir: &Path) -> Run {
    let dir = dir.display().to_string();
    run.opts(["--checkpoint-every", "1h", "--checkpoint-to", &dir])
}

/// Leaves two snapshots and an undo journal in a directory.
fn snapshots(program: &Program, dir: &Path) {
    for point in [5000, 200] {
        let run = periodic(program.on(Arch::X86_64), dir).env("DUNLIN_CHECKPOINT_AT", point);
        run.output().expect_code(CHECKPOINTED);
    }
    assert_eq!(store::list(dir).expect("it is there").len(), 2);
}

/// Goes on from the newest snapshot of a directory: by the executable alone, and by `dunlin resume`.
fn resumed(program: &Program, dir: &Path) -> [Outcome; 2] {
    let latest = ["--resume-latest".to_owned(), dir.display().to_string()];
    let base = program.base();
    let words = [
        "resume".as_ref(),
        "--latest".as_ref(),
        dir.as_os_str(),
        "--exe".as_ref(),
        base.as_os_str(),
    ];
    [program.on(Arch::X86_64).opts(latest).output(), dunlin(&words, &[])]
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("it is there");
    let mut names: Vec<String> = entries
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_program_that_has_ended_is_not_resumed_and_begins_anew() {
    let program = Program::from_wat("counter", COUNTER);
    // As `Store::clear` makes it: a note, or where there is no room for one a snapshot by another name.
    let marks: [fn(&Path); 3] = [
        |dir| {
            let newest = &store::list(dir).expect("it is there")[0].1;
            let module = open_file(newest).expect("it is sound").header().module;
            fs::write(dir.join(".ended"), module.0).expect("there is room");
        },
        |dir| fs::rename(dir.join(store::file_name(2)), dir.join(".ended")).expect("it is there"),
        // All that was left: the other snapshot went already.
        |dir| {
            fs::rename(dir.join(store::file_name(2)), dir.join(".ended")).expect("it is there");
            fs::remove_file(dir.join(store::file_name(1))).expect("it is there");
        },
    ];
    for mark in marks {
        let dir = scratch();
        snapshots(&program, dir.path());
        mark(dir.path());
        let before = names(dir.path());
        let [alone, command] = resumed(&program, dir.path());
        for (outcome, code) in [(alone, BAD_SNAPSHOT), (command, COULD_NOT)] {
            let outcome = outcome.expect_code(code);
            let message = outcome.err();
            assert!(outcome.out().is_empty(), "it has not run: {outcome}");
            assert!(
                message.contains("cannot resume") && message.contains("the program in it has ended"),
                "{outcome}"
            );
        }
        assert_eq!(names(dir.path()), before, "nothing was removed");
        let anew = periodic(program.on(Arch::X86_64), dir.path()).output().expect_code(0);
        assert_eq!((anew.out().as_str(), anew.err().as_str()), ("begun\ndone\n", ""));
        assert_eq!(names(dir.path()), [".lock"]);
    }
}

/// What is no note of this program's end doesn't keep it from going on.
#[test]
fn a_note_that_is_cut_off_or_anothers_is_none() {
    let program = Program::from_wat("counter", COUNTER);
    for note in [&[][..], &[7; 31], &[0xee; 32]] {
        let dir = scratch();
        snapshots(&program, dir.path());
        fs::write(dir.path().join(".ended"), note).expect("there is room");
        for outcome in resumed(&program, dir.path()) {
            assert_eq!(outcome.expect_code(0).out(), "done\n");
        }
    }
}
