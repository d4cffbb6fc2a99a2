//! Large snapshots that a program goes on from before all of it is checked: it never gets a wrong byte.

use dunlin_format::arch::Arch;
use dunlin_migrate::snapshot::PAGE_SIZE;
use dunlin_tests::guest::clang;
use dunlin_tests::process::{Input, Outcome};
use dunlin_tests::program::{BAD_SNAPSHOT, CHECKPOINTED, Program, Run, scratch};
use dunlin_tests::tools;
use rustix::process::Signal;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;

/// Bytes of the program's heap.
const HEAP: usize = 66 << 20;

static PROGRAM: LazyLock<Program> = LazyLock::new(|| {
    let dir = scratch();
    let module = dir.path().join("large_heap.wasm");
    clang(&[tools::root().join("tests/programs/large_heap.c")], &[], &module);
    Program::build(&module)
});

fn on_this_machine() -> Run {
    PROGRAM.on(Arch::host().unwrap())
}

/// The program's snapshot, while it waits for a line.
fn snapshot(mode: &str) -> (TempDir, PathBuf) {
    let dir = scratch();
    let path = dir.path().join("snapshot");
    let to = path.to_str().unwrap();
    let run = on_this_machine().args([mode]).stdin(Input::Held);
    let mut running = run.opts(["--checkpoint-on", "TERM", "--checkpoint-to", to]).start();
    running.wait_for("ready");
    running.signal(Signal::TERM);
    running.finish().expect_code(CHECKPOINTED);
    (dir, path)
}

fn resumed(path: &Path) -> Run {
    on_this_machine().resume(path).stdin(Input::Bytes(b"go\n".to_vec()))
}

/// What the heap holds, and what the program says of it.
static EXPECTED: LazyLock<(Vec<u8>, String)> = LazyLock::new(|| {
    let (mut bytes, mut x, mut sum) = (vec![0; HEAP], 1u32, 0u32);
    for word in bytes.as_chunks_mut::<4>().0 {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        sum = sum.wrapping_mul(31).wrapping_add(x);
        *word = x.to_le_bytes();
    }
    (bytes, format!("sum {sum:08x}\n"))
});

fn sum() -> &'static str {
    &EXPECTED.1
}

#[test]
fn what_is_not_checked_yet_is_computed_with_and_written_as_it_is() {
    let (_dir, path) = snapshot("write");
    let written = resumed(&path).output().expect_code(0);
    assert!(written.stdout == EXPECTED.0);
    let (_dir, path) = snapshot("sum");
    assert_eq!(resumed(&path).output().expect_code(0).out(), sum());
}

fn is_refused(outcome: Outcome) {
    let outcome = outcome.expect_code(BAD_SNAPSHOT);
    let why = outcome.err();
    assert!(
        why.contains("wrong checksum of page ") && why.lines().count() == 1,
        "{why}"
    );
    let seen = outcome.stdout;
    assert!(
        seen.len() < HEAP && EXPECTED.0.starts_with(&seen),
        "{} bytes",
        seen.len()
    );
}

#[test]
fn a_damaged_page_ends_the_program_before_it_is_seen() {
    for (mode, place) in [("write", 60), ("sum", 40), ("wait", 64)] {
        let (_dir, path) = snapshot(mode);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        // Heap and file have the same pages in the same order, but for a few at both ends.
        file.write_all_at(b"!", ((place << 20) + 77) as u64).unwrap();
        drop(file);
        is_refused(resumed(&path).output());
        let checked = on_this_machine().resume(&path).opts(["--check"]).output();
        assert!(checked.out().contains("wrong checksum of page"), "{checked}");
    }
}

#[test]
fn a_snapshot_that_is_overwritten_meanwhile_is_copied_first() {
    let (dir, path) = snapshot("sum");
    let copy = dir.path().join("copy");
    for _ in 0..2 {
        fs::copy(&path, &copy).unwrap();
        let run = on_this_machine().resume(&copy).stdin(Input::Held);
        let mut running = run.start();
        // As early as it can be: whoever opens it for writing waits as long as there is a lease.
        while !has_lease(running.pid()) && running.is_running() {}
        fs::write(&copy, []).unwrap();
        std::io::Write::write_all(running.stdin().as_mut().unwrap(), b"go\n").unwrap();
        assert_eq!(running.finish().expect_code(0).out(), sum());
    }
}

/// The same while the program computes with what it gets from the disk: the signal comes while a fault is handled.
#[test]
fn a_snapshot_may_be_overwritten_while_the_program_waits_for_a_page_of_it() {
    let (dir, path) = snapshot("sum");
    let copy = dir.path().join("copy");
    for n in 0..6 {
        fs::copy(&path, &copy).unwrap();
        let file = fs::File::open(&copy).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        drop(file);
        let mut running = resumed(&copy).start();
        while !has_lease(running.pid()) && running.is_running() {}
        std::thread::sleep(std::time::Duration::from_millis(2 * n));
        fs::write(&copy, []).unwrap();
        assert_eq!(running.finish().expect_code(0).out(), sum(), "{n}");
    }
}

fn has_lease(pid: u32) -> bool {
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let of = format!(" {pid} ");
    locks.lines().any(|line| line.contains("LEASE") && line.contains(&of))
}

#[test]
fn the_next_snapshot_waits_until_all_is_checked() {
    let (dir, path) = snapshot("sum");
    let again = dir.path().join("again");
    let run = on_this_machine().resume(&path).stdin(Input::Held);
    let running = run.opts(["--checkpoint-on", "TERM", "--checkpoint-to", again.to_str().unwrap()]);
    let running = running.start();
    while !handles_term(running.pid()) {}
    running.signal(Signal::TERM);
    running.finish().expect_code(CHECKPOINTED);
    assert_eq!(resumed(&again).output().expect_code(0).out(), sum());
    // Of a damaged one there is none.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"!", (60 * PAGE_SIZE + 9) as u64).unwrap();
    drop(file);
    fs::remove_file(&again).unwrap();
    let run = on_this_machine().resume(&path).stdin(Input::Held);
    let mut running = run
        .opts(["--checkpoint-on", "TERM", "--checkpoint-to", again.to_str().unwrap()])
        .start();
    // It may have ended by then.
    while !handles_term(running.pid()) && running.is_running() {}
    running.signal(Signal::TERM);
    is_refused(running.finish());
    assert!(!again.exists());
}

fn handles_term(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    caught >> (Signal::TERM.as_raw() - 1) & 1 == 1
}
