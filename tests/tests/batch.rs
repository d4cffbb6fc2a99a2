//! What starts and ends programs elsewhere: the examples for systemd and Slurm, by hand and under the real Slurm.

use dunlin_tests::house::{House, PATIENCE};
use dunlin_tests::process::{Input, run, start};
use dunlin_tests::program::CHECKPOINTED;
use dunlin_tests::{slice, tools};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Slurm waits for its schedulers, and runs a part under emulation.
const LONG: Duration = Duration::from_secs(900);

/// What `tests/slurm/run` ends with where Slurm isn't installed, or its daemons can't be started.
const SKIPPED: i32 = 77;

/// What the program counts to, and the work for each number.
const COUNT: [&str; 2] = ["120", "1500000"];

/// Starts a command again and again, and ends it twice; the third time it comes to its end.
#[track_caller]
fn keeps_its_place(house: &House, command: impl Fn() -> Command) {
    let expected = house.expected(&COUNT);
    let mut said = String::new();
    for _ in 0..2 {
        let mut running = start(command(), Input::Empty, PATIENCE);
        running.wait_for("\n");
        running.signal(Signal::TERM);
        said += &running.finish().expect_code(CHECKPOINTED).out();
    }
    said += &run(command(), Input::Empty, PATIENCE).expect_code(0).out();
    assert_eq!(said, expected);
}

#[test]
fn the_command_of_the_systemd_unit_keeps_its_place() {
    let house = House::new("counter");
    let unit = fs::read_to_string(tools::root().join("examples/systemd/dunlin@.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let here = house.path("").display().to_string();
    let line = line
        .replace("$$", "$")
        .replace("/var/lib/dunlin/", &here)
        .replace("%i", "counter");
    keeps_its_place(&house, || {
        let mut command = house.on("a", Path::new("/bin/sh"), &["-c", &format!("exec {line}")]);
        command
            .env("STATE_DIRECTORY", house.path("a"))
            .env("OPTIONS", "--keep 1")
            .env("ARGS", COUNT.join(" "));
        command
    });
    let left = fs::read_dir(house.path("a/saves")).into_iter().flatten().flatten();
    let left: Vec<_> = left
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "snap"))
        .collect();
    assert!(left.is_empty(), "it has ended, and begins anew: {left:?}");
}

#[test]
fn the_script_for_slurm_keeps_its_place() {
    let house = House::new("counter");
    keeps_its_place(&house, || {
        let script = tools::root().join("examples/slurm/job.sh");
        let mut command = house.on("a", &script, &["counter", COUNT[0], COUNT[1]]);
        command
            .env("SLURM_SUBMIT_DIR", house.path("a"))
            .env("SLURM_JOB_NAME", "it's a job")
            .env("SLURM_JOB_ID", "7");
        command
    });
}

#[test]
fn a_job_goes_on_after_preemption_and_requeues() {
    if !slice::full() {
        println!("skipped: part of ci/test --full");
        return;
    }
    let mut command = Command::new(tools::root().join("tests/slurm/run"));
    command.env("DUNLIN", tools::dunlin());
    let done = run(command, Input::Empty, LONG);
    println!("{}", done.out());
    if done.code() != SKIPPED {
        let done = done.expect_code(0);
        assert!(done.out().ends_with("PASSED\n"), "{done}");
    }
}
