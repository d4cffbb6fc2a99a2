//! `--evacuate-to`: a program that is asked to end goes to another machine, or else writes its snapshot; it is in one
//! place, whatever happens when.

use dunlin_tests::house::{House, PATIENCE, SILENT};
use dunlin_tests::process::{Input, Running, run, start};
use dunlin_tests::program::{CHECKPOINTED, USAGE};
use rustix::process::Signal;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What the program counts to, and the work for each number: more than its move takes on a busy machine.
const COUNT: [&str; 2] = ["300", "2000000"];

fn counting(house: &House, options: &str) -> Running {
    let mut running = start(house.command(&COUNT, options), Input::Empty, PATIENCE);
    running.wait_for("3 ");
    running
}

/// The same command once more, to its end; returns what it said.
fn again(house: &House, options: &str) -> String {
    run(house.command(&COUNT, options), Input::Empty, PATIENCE)
        .expect_code(0)
        .out()
}

#[test]
fn a_program_that_is_asked_to_end_goes_on_elsewhere() {
    let house = House::new("counter");
    let options = "--evacuate-to ssh://b --checkpoint-to here.snap";
    let running = counting(&house, options);
    running.signal(Signal::TERM);
    let here = running.finish();
    assert!(here.err().contains("has moved to ssh://b"), "{}", here.err());
    let here = here.expect_code(CHECKPOINTED);
    // Its move is over when its process ends: a service manager ends everything then.
    assert_eq!(house.open("a"), [""; 0]);
    house.wait_for("b", "done\n");
    assert_eq!(here.out() + &house.said("b"), house.expected(&COUNT));
    assert!(!house.path("here.snap").exists());
    let twice = run(house.command(&COUNT, options), Input::Empty, PATIENCE).expect_code(USAGE);
    assert!(twice.err().contains("has moved to another machine"), "{}", twice.err());
    assert_eq!(twice.out(), "");
    std::fs::remove_file(house.path("here.snap.moved")).unwrap();
    assert_eq!(again(&house, options), house.expected(&COUNT));
}

/// Periodic snapshots stay behind: whoever starts the command again must not go on from them.
#[test]
fn one_that_somebody_else_has_moved_is_not_started_again_either() {
    let house = House::new("counter");
    let options = "--checkpoint-every 1s --checkpoint-to saves";
    let running = counting(&house, options);
    run(house.migrate("a", running.pid(), "b", &[]), Input::Empty, PATIENCE).expect_code(0);
    running.finish().expect_code(CHECKPOINTED);
    let twice = run(house.command(&COUNT, options), Input::Empty, PATIENCE).expect_code(USAGE);
    assert!(twice.err().contains("has moved to another machine"), "{}", twice.err());
    // One that goes on here has no such mark.
    let other = counting(&house, "--checkpoint-to other.snap --checkpoint-on TERM");
    run(house.migrate("a", other.pid(), "nowhere", &[]), Input::Empty, PATIENCE).expect_code(1);
    let refused = house.migrate("a", other.pid(), "b", &["--max-memory=1"]);
    run(refused, Input::Empty, PATIENCE).expect_code(3);
    assert!(!house.path("other.snap.moved").exists());
    other.signal(Signal::TERM);
    other.finish().expect_code(CHECKPOINTED);
}

#[test]
fn one_that_can_go_nowhere_writes_its_snapshot() {
    let house = House::new("counter");
    let expected = house.expected(&COUNT);
    // A host that isn't there; one that never answers; a machine without dunlin; a second signal.
    for (host, within, dunlin, twice) in [
        ("nowhere", "20s", None, false),
        (SILENT, "500ms", None, false),
        ("b", "20s", Some("/nonexistent/dunlin"), false),
        (SILENT, "60s", None, true),
    ] {
        let options = format!("--evacuate-to ssh://{host} --evacuate-within {within} --checkpoint-to here.snap");
        let mut command = house.command(&COUNT, &options);
        if let Some(dunlin) = dunlin {
            command.env("DUNLIN", dunlin);
        }
        let mut running = start(command, Input::Empty, PATIENCE);
        running.wait_for("3 ");
        let asked = Instant::now();
        running.signal(Signal::TERM);
        if twice {
            sleep(Duration::from_millis(300));
            running.signal(Signal::TERM);
        }
        let here = running.finish();
        let took = asked.elapsed();
        assert!(
            here.err().contains("a snapshot is written instead"),
            "{host}: {}",
            here.err()
        );
        let here = here.expect_code(CHECKPOINTED);
        assert!(took < Duration::from_secs(15), "{host}: {took:?}");
        assert!(!house.path("here.snap.moved").exists(), "{host}");
        let more = run(house.command(&COUNT, &options), Input::Empty, PATIENCE).expect_code(0);
        assert_eq!(here.out() + &more.out(), expected, "{host}");
        assert!(!house.path("here.snap").exists(), "it has ended: it begins anew");
        assert_eq!(house.open("a"), [""; 0], "{host}");
    }
}

/// A second signal at any instant: the program is there or here, and has said everything once.
#[test]
fn whenever_time_is_over_the_program_is_in_one_place() {
    let house = House::new("counter");
    let expected = house.expected(&COUNT);
    let rounds = if dunlin_tests::slice::full() { 200 } else { 8_u32 };
    let options = "--evacuate-to ssh://b --checkpoint-to here.snap";
    let mut seen = [0; 2];
    // The first one takes the executable along.
    let mut whole = Duration::ZERO;
    for _ in 0..2 {
        let _ = std::fs::remove_file(house.path("here.snap.moved"));
        let undisturbed = counting(&house, options);
        let begun = Instant::now();
        undisturbed.signal(Signal::TERM);
        undisturbed.finish().expect_code(CHECKPOINTED);
        whole = begun.elapsed();
    }
    for round in 0..rounds {
        for machine in ["a", "b"] {
            let _ = std::fs::remove_dir_all(house.path(machine).join("state"));
            house.variables(machine);
        }
        let _ = std::fs::remove_file(house.path("here.snap.moved"));
        let running = counting(&house, options);
        running.signal(Signal::TERM);
        // Evenly spread, by the golden ratio, over what a move takes at the moment.
        sleep(whole.mul_f64(0.2 + f64::from(round) * 0.618 % 1.0));
        running.signal(Signal::TERM);
        let here = running.finish();
        let err = here.err();
        let here = here.expect_code(CHECKPOINTED).out();
        let (snapshot, mark) = (house.path("here.snap").exists(), house.path("here.snap.moved").exists());
        assert_ne!(snapshot, mark, "round {round}: {err}");
        seen[usize::from(mark)] += 1;
        whole = whole.mul_f64(if mark { 0.9 } else { 1.1 });
        let more = match mark {
            true => {
                // It may have been cut off when it had changed hands.
                house.dunlin("a", &["settle"]).expect_code(0);
                house.wait_for("b", "done\n");
                house.said("b")
            }
            false => {
                assert_eq!(house.said("b"), "", "round {round}: {err}");
                again(&house, options)
            }
        };
        assert_eq!(here + &more, expected, "round {round}: {err}");
    }
    println!("{} stayed, {} moved", seen[0], seen[1]);
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

/// The drill: all programs of a machine that is shut down go on elsewhere within 30 s.
#[test]
fn twenty_programs_leave_at_once() {
    let house = House::new("counter");
    let count = ["200", "3000000"];
    let expected = house.expected(&count);
    // The other machine knows the program already, as one does that programs have come to before.
    let options = "--evacuate-to ssh://b --checkpoint-to first.snap";
    let mut first = start(house.command(&count, options), Input::Empty, PATIENCE);
    first.wait_for("1 ");
    first.signal(Signal::TERM);
    first.finish().expect_code(CHECKPOINTED);
    house.wait_for("b", "done\n");
    std::fs::remove_dir_all(house.path("b/state")).unwrap();
    house.variables("b");
    let mut programs: Vec<Running> = (0..20)
        .map(|n| {
            let options = format!("--evacuate-to ssh://b --evacuate-within 25s --checkpoint-to {n}.snap");
            start(house.command(&count, &options), Input::Empty, PATIENCE)
        })
        .collect();
    programs.iter_mut().for_each(|p| p.wait_for("1 "));
    let begun = Instant::now();
    programs.iter().for_each(|p| p.signal(Signal::TERM));
    let here: Vec<_> = programs.into_iter().map(Running::finish).collect();
    let took = begun.elapsed();
    println!("20 programs have left after {took:?}");
    let moved = (0..20)
        .filter(|n| house.path(&format!("{n}.snap.moved")).exists())
        .count();
    let errors: String = here.iter().map(|p| p.err()).collect();
    assert_eq!(moved, 20, "after {took:?}: {errors}");
    let here: Vec<String> = here.into_iter().map(|p| p.expect_code(CHECKPOINTED).out()).collect();
    assert!(took < Duration::from_secs(30), "{took:?}");
    let deadline = Instant::now() + PATIENCE;
    while house.said("b").matches("done\n").count() < 20 {
        assert!(Instant::now() < deadline, "{}", house.said("b"));
        sleep(Duration::from_millis(50));
    }
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // All say the same: each line is there twenty times.
    assert_eq!(lines(&(here.concat() + &house.said("b"))), lines(&expected.repeat(20)));
}
