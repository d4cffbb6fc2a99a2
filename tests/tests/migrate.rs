//! `dunlin migrate` between two machines, which here are two sets of directories: a program runs in one place, loses
//! nothing and repeats nothing, whoever is killed.

use dunlin_format::arch::Arch;
use dunlin_tests::house::{House, PATIENCE};
use dunlin_tests::process::{Input, Outcome, run, start};
use dunlin_tests::program::CHECKPOINTED;
use dunlin_tests::tools;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

/// The exit code of a `dunlin` that leaves a program standing still.
const STANDS_STILL: i32 = 4;

/// What the program counts to, and the work for each number: some 2 s in all.
const COUNT: [&str; 2] = ["120", "1500000"];

/// The same for one that has three moves before it.
const LONG: [&str; 2] = ["400", "1500000"];

fn json(outcome: &Outcome) -> serde_json::Value {
    serde_json::from_str(&outcome.out()).unwrap()
}

fn pid_of(moved: &Outcome) -> u32 {
    let report = json(moved);
    assert!(report["downtime_us"].as_u64().unwrap() > 0 && report["state_bytes"].as_u64().unwrap() > 0);
    report["pid"].as_u64().unwrap() as u32
}

#[test]
fn a_program_goes_from_machine_to_machine() {
    let house = House::new("counter");
    let running = house.start(&LONG);
    let qemu = format!("--emulator=aarch64={}", tools::qemu().display());
    let moved = run(house.migrate("a", running.pid(), "b", &[]), Input::Empty, PATIENCE).expect_code(0);
    let first = running.finish();
    assert!(first.err().contains("has moved to ssh://b"), "{}", first.err());
    let mut said = first.expect_code(CHECKPOINTED).out();
    // Onwards to a machine of the other architecture, which gets its executable from machine a's folder.
    let other = house.path(&format!("counter.{}", Arch::Aarch64)).display().to_string();
    let onwards = run(
        {
            let mut command = house.migrate("b", pid_of(&moved), "c", &[&qemu]);
            command.env("PATH", format!("{}:/usr/bin:/bin", house.path("").display()));
            command
        },
        Input::Empty,
        PATIENCE,
    );
    assert!(Path::new(&other).exists());
    let onwards = onwards.expect_code(0);
    house.wait_for("c", "\n");
    // And home.
    let home = run(house.migrate("c", pid_of(&onwards), "a", &[]), Input::Empty, PATIENCE).expect_code(0);
    assert_eq!(json(&home)["executable_bytes"], 0, "{}", home.out());
    house.wait_for("a", "done\n");
    for machine in ["b", "c", "a"] {
        said += &house
            .logs(machine)
            .replace("Warning: the program has moved to ssh://c\n", "");
    }
    let said = said.replace("Warning: the program has moved to ssh://a\n", "");
    assert_eq!(said, house.expected(&LONG));
    for machine in ["a", "b", "c"] {
        assert_eq!(house.open(machine), [""; 0], "{machine}");
    }
}

#[test]
fn what_stands_in_the_way_is_told_and_the_program_runs_on() {
    let house = House::new("counter");
    let running = house.start(&COUNT);
    let refused = run(
        house.migrate("a", running.pid(), "b", &["--max-memory=1"]),
        Input::Empty,
        PATIENCE,
    );
    assert!(
        refused.err().contains("1 thing stands in the way; it runs on here"),
        "{}",
        refused.err()
    );
    refused.expect_code(3);
    let unreachable = run(
        house.migrate("a", running.pid(), "nowhere", &[]),
        Input::Empty,
        PATIENCE,
    );
    assert!(unreachable.err().contains("it goes on here"), "{}", unreachable.err());
    unreachable.expect_code(1);
    let nonsense = run(
        house.migrate("a", running.pid(), "b", &["--dir"]),
        Input::Empty,
        PATIENCE,
    )
    .expect_code(1);
    assert!(nonsense.err().contains("it goes on here"), "{}", nonsense.err());
    assert_eq!(running.finish().expect_code(0).out(), house.expected(&COUNT));
    assert_eq!(house.open("a"), [""; 0]);
}

/// Whoever moves a program is killed at any instant, at either side; then both sides settle.
#[test]
fn whoever_is_killed_the_program_runs_once() {
    let house = House::new("counter");
    let expected = house.expected(&COUNT);
    let rounds = std::env::var("DUNLIN_MIGRATE_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_u64);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut seen = [0; 2];
    // How long an undisturbed move takes here.
    let undisturbed = house.start(&COUNT);
    let begun = Instant::now();
    run(house.migrate("a", undisturbed.pid(), "b", &[]), Input::Empty, PATIENCE).expect_code(0);
    let whole = begun.elapsed();
    undisturbed.finish().expect_code(CHECKPOINTED);
    for round in 0..rounds {
        for machine in ["a", "b"] {
            let _ = fs::remove_dir_all(house.path(machine));
            house.variables(machine);
        }
        let running = house.start(&COUNT);
        let moving = start(house.migrate("a", running.pid(), "b", &[]), Input::Empty, PATIENCE);
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // From before it begins until after it is done.
        let part = (round as f64 + (seed >> 40) as f64 / f64::from(1 << 24)) / rounds as f64;
        sleep(whole.mul_f64(1.3 * part));
        match round % 2 {
            0 => moving.signal(Signal::KILL),
            _ => kill_receiver(moving.pid()),
        }
        let code = moving.finish().code();
        if round % 2 == 1 {
            assert!([0, 1, STANDS_STILL].contains(&code), "{code}");
        }
        // The next contact, from the sender's side first: the receiver may wait for its word.
        house.dunlin("a", &["settle"]).expect_code(0);
        house.dunlin("b", &["settle"]);
        let here = running.finish();
        let gone = here.code() == CHECKPOINTED;
        seen[usize::from(gone)] += 1;
        if gone {
            house.wait_for("b", "done\n");
        }
        let said = here.out() + &house.logs("b");
        let differ = said.lines().zip(expected.lines()).position(|(a, b)| a != b);
        let around = |text: &str| {
            let from = differ.unwrap_or(expected.lines().count()).saturating_sub(2);
            text.lines().skip(from).take(5).collect::<Vec<_>>().join(" | ")
        };
        assert!(
            said == expected,
            "round {round}, gone: {gone}, here {} lines: {} instead of {}; {}",
            here.out().lines().count(),
            around(&said),
            around(&expected),
            here.err()
        );
        assert_eq!(house.open("a"), [""; 0], "round {round}");
    }
    println!("{} stayed, {} moved", seen[0], seen[1]);
    assert!(rounds < 10 || seen.iter().all(|n| *n > 0), "{seen:?}");
}

/// Kills the `dunlin receive` that a `dunlin migrate` has started, if it has.
fn kill_receiver(sender: u32) {
    let children = fs::read_to_string(format!("/proc/{sender}/task/{sender}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        if let Some(pid) = child.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
