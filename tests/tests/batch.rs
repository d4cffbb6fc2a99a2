//! Batch systems: the example for Slurm under the real Slurm.

use dunlin_tests::process::{Input, run};
use dunlin_tests::{slice, tools};
use std::process::Command;
use std::time::Duration;

/// It waits for schedulers, and runs a part under emulation.
const PATIENCE: Duration = Duration::from_secs(900);

/// What `tests/slurm/run` ends with where Slurm isn't installed, or its daemons can't be started.
const SKIPPED: i32 = 77;

#[test]
fn a_job_goes_on_after_preemption_and_requeues() {
    if !slice::full() {
        println!("skipped: part of ci/test --full");
        return;
    }
    let mut command = Command::new(tools::root().join("tests/slurm/run"));
    command.env("DUNLIN", tools::dunlin());
    let done = run(command, Input::Empty, PATIENCE);
    println!("{}", done.out());
    if done.code() != SKIPPED {
        let done = done.expect_code(0);
        assert!(done.out().ends_with("PASSED\n"), "{done}");
    }
}
