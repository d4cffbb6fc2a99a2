//! Pre-copy: a program's memory goes while the program changes it, and what arrives is what it is. The programs check
//! what the system tells of their writes against all of their memory (`DUNLIN_CHECK_TRACKING`).

use dunlin_format::arch::Arch;
use dunlin_tests::house::{House, PATIENCE};
use dunlin_tests::process::{Input, Outcome, run, start};
use dunlin_tests::program::CHECKPOINTED;
use dunlin_tests::tools;
use rustix::process::Signal;
use serde_json::Value;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Mebibytes, steps, pages changed at each, microseconds of rest after it, mebibytes that they are in: some seconds.
const HEAP: [&str; 5] = ["24", "1500", "6", "4000", "3"];

/// What an undisturbed run says, without the rests.
fn expected(house: &House, words: &[&str]) -> String {
    let mut words = words.to_vec();
    words[3] = "0";
    house.expected(&words)
}

fn json(outcome: &Outcome) -> Value {
    dunlin_tests::house::events(outcome).pop().unwrap()
}

fn sizes(report: &Value) -> Vec<u64> {
    let rounds = report["rounds"].as_array().unwrap().iter();
    rounds.map(|r| r["bytes"].as_u64().unwrap()).collect()
}

/// Moves the program of a house twice while it changes its memory; what each move reports.
fn moved_twice(untracked: bool) -> Vec<Value> {
    let house = House::new("heap");
    let variable = if untracked {
        "DUNLIN_NO_TRACKING"
    } else {
        "DUNLIN_CHECK_TRACKING"
    };
    let mut command = house.on("a", &house.executable(), &HEAP);
    command.env(variable, "1");
    let mut running = start(command, Input::Empty, PATIENCE);
    running.wait_for("3 ");
    let mut reports = Vec::new();
    let (mut from, mut pid) = ("a", running.pid());
    for to in ["b", "c"] {
        let mut moving = house.migrate(from, pid, to, &[]);
        moving.env(variable, "1");
        let report = json(&run(moving, Input::Empty, PATIENCE).expect_code(0));
        (from, pid) = (to, report["pid"].as_u64().unwrap() as u32);
        house.wait_for(to, "\n");
        reports.push(report);
    }
    let mut said = running.finish().expect_code(CHECKPOINTED).out();
    house.wait_for("c", "done ");
    for machine in ["b", "c"] {
        let logs = house.logs(machine);
        said += &logs.replace("Warning: the program has moved to ssh://c\n", "");
        assert_eq!(house.open(machine), [""; 0], "{machine}");
    }
    assert_eq!(house.open("a"), [""; 0]);
    assert_eq!(said, expected(&house, &HEAP));
    for report in &reports {
        let rounds = sizes(report);
        assert!(rounds.len() > 1 && rounds[0] > 16 << 20, "{rounds:?}");
        // What goes when it stands still is what has changed since the last round.
        assert!(report["state_bytes"].as_u64().unwrap() < rounds[0] / 2, "{report}");
    }
    reports
}

#[test]
fn a_program_moves_while_it_changes_its_memory() {
    moved_twice(false);
}

#[test]
fn where_nobody_tells_what_it_changes_all_of_it_is_compared() {
    for report in moved_twice(true) {
        assert_eq!(report["rounds"][0]["tracked"], false);
    }
}

/// An emulator has no such system calls, but copies of its processes.
#[test]
fn a_program_goes_to_another_architecture_and_back() {
    let house = House::new("heap");
    let words = ["12", "2500", "4", "4000", "3"];
    let mut running = start(house.on("a", &house.executable(), &words), Input::Empty, PATIENCE);
    running.wait_for("3 ");
    let other = Arch::ALL.into_iter().find(|arch| Some(*arch) != Arch::host()).unwrap();
    let emulator = format!("--emulator={other}={}", tools::qemu().display());
    let there = run(
        house.migrate("a", running.pid(), "b", &[&emulator]),
        Input::Empty,
        PATIENCE,
    )
    .expect_code(0);
    house.wait_for("b", "\n");
    let pid = json(&there)["pid"].as_u64().unwrap() as u32;
    let back = json(&run(house.migrate("b", pid, "a", &[]), Input::Empty, PATIENCE).expect_code(0));
    assert!(
        sizes(&back).len() > 1 && back["rounds"][0]["tracked"] == false,
        "{back}"
    );
    house.wait_for("a", "done ");
    let said = running.finish().expect_code(CHECKPOINTED).out() + &house.logs("b") + &house.logs("a");
    let said = said.replace("Warning: the program has moved to ssh://a\n", "");
    assert_eq!(said, expected(&house, &words));
    assert_eq!([house.open("a"), house.open("b")], [[""; 0]; 2]);
}

#[test]
fn a_program_is_stopped_at_once_if_that_is_wanted() {
    let house = House::new("heap");
    let running = house.start(&["6", "200", "6", "4000"]);
    let moving = house.migrate_with("a", running.pid(), "b", &["--max-rounds=0"], &[]);
    let report = json(&run(moving, Input::Empty, PATIENCE).expect_code(0));
    assert!(sizes(&report).is_empty());
    assert!(report["state_bytes"].as_u64().unwrap() > 4 << 20, "{report}");
    let said = running.finish().expect_code(CHECKPOINTED).out();
    house.wait_for("b", "done ");
    assert_eq!(said + &house.logs("b"), expected(&house, &["6", "200", "6", "4000"]));
}

/// Carried files are in the rounds, too; and what is read from them goes into memory past the program.
#[test]
fn its_files_go_with_it() {
    let house = House::new("heap");
    let data = |machine: &str| {
        let dir = house.path(&format!("{machine}-data"));
        std::fs::create_dir_all(&dir).unwrap();
        format!("--carry={}::/data", dir.display())
    };
    let words = |pause: &'static str| ["16", "600", "4", pause, "3", "/data/pages"];
    let mut command = house.on("a", &house.executable(), &words("4000"));
    command.env("DUNLIN_CHECK_TRACKING", "1").env("DUNLIN_OPTS", data("a"));
    let mut running = start(command, Input::Empty, PATIENCE);
    running.wait_for("30 ");
    let mut moving = house.migrate("a", running.pid(), "b", &[&data("b")]);
    moving.env("DUNLIN_CHECK_TRACKING", "1");
    let report = json(&run(moving, Input::Empty, PATIENCE).expect_code(0));
    assert!(sizes(&report).len() > 1, "{report}");
    let said = running.finish().expect_code(CHECKPOINTED).out();
    house.wait_for("b", "done ");
    let mut undisturbed = house.on("c", &house.executable(), &words("0"));
    undisturbed.env("DUNLIN_OPTS", data("c"));
    let expected = run(undisturbed, Input::Empty, PATIENCE).expect_code(0).out();
    assert_eq!(said + &house.logs("b"), expected);
    let pages = |machine: &str| std::fs::read(house.path(&format!("{machine}-data/pages"))).unwrap();
    assert!(pages("b") == pages("c") && pages("b").len() > 1 << 20);
}

#[test]
fn where_neither_a_round_nor_the_state_can_be_written_the_program_runs_on() {
    let house = House::new("heap");
    let exe = house.executable();
    let words = ["16", "300", "4", "4000", "3"];
    // Files of 4 MiB at most.
    let shell = ["-c", "ulimit -f 8192; exec \"$0\" \"$@\"", exe.to_str().unwrap()];
    let command = house.on("a", "/bin/sh".as_ref(), &[&shell[..], &words].concat());
    let mut running = start(command, Input::Empty, PATIENCE);
    running.wait_for("30 ");
    let failed = run(house.migrate("a", running.pid(), "b", &[]), Input::Empty, PATIENCE).expect_code(3);
    assert!(failed.err().contains("too little room on the disk"), "{}", failed.err());
    assert!(failed.err().contains("it runs on here"), "{}", failed.err());
    assert_eq!(house.open("a"), [""; 0]);
    assert_eq!(running.finish().expect_code(0).out(), expected(&house, &words));
    assert_eq!(house.open("b"), [""; 0]);
}

/// Whoever moves a program is killed while rounds go: the program runs on, and nothing of them stays.
#[test]
fn a_move_that_ends_in_its_rounds_leaves_nothing() {
    let house = House::new("heap");
    let steps = ["24", "1500", "6", "4000", "3"];
    let mut command = house.on("a", &house.executable(), &steps);
    command.env("DUNLIN_CHECK_TRACKING", "1");
    let mut running = start(command, Input::Empty, PATIENCE);
    running.wait_for("3 ");
    for round in 0..4 {
        // It can't be done before it is killed.
        let slow = ["--bandwidth=8M", "--downtime=0ms"];
        let moving = house.migrate_with("a", running.pid(), "b", &slow, &[]);
        let moving = start(moving, Input::Empty, PATIENCE);
        sleep(Duration::from_millis(150 + 250 * round));
        moving.signal(Signal::KILL);
        moving.finish();
        // Its place is there until somebody settles it, but no memory in it.
        let shelf = house.path("a/state/dunlin");
        let deadline = Instant::now() + PATIENCE;
        let bytes = || -> u64 {
            let places = house.open("a").into_iter().map(|name| shelf.join(name));
            let files = places.flat_map(|place| std::fs::read_dir(place).into_iter().flatten().flatten());
            files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
        };
        while bytes() > 1 << 16 {
            assert!(Instant::now() < deadline, "{} bytes stay", bytes());
            sleep(Duration::from_millis(20));
        }
        // The program itself may be at work there for a moment.
        while !house.open("a").is_empty() {
            assert!(Instant::now() < deadline, "{:?}", house.open("a"));
            house.dunlin("a", &["settle"]);
        }
        while !house.open("b").is_empty() {
            assert!(Instant::now() < deadline, "{:?}", house.open("b"));
            sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(running.finish().expect_code(0).out(), expected(&house, &steps));
    assert_eq!(house.logs("b"), "");
}
