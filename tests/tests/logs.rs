//! The output of programs that have come: it has a limit, and `dunlin logs` shows it. And what is told of a move while
//! it is under way, and that it can be cancelled.

use dunlin_tests::house::{House, PATIENCE, SILENT, events};
use dunlin_tests::process::{Input, Running, start};
use dunlin_tests::program::CHECKPOINTED;
use dunlin_tests::tools;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What the program counts to, and the work for each number: more than its move takes on a busy machine.
const COUNT: [&str; 2] = ["300", "2000000"];

/// Starts the program; returns its process id, too.
fn begin(house: &House, count: [&str; 2]) -> (Running, String) {
    let running = house.start(&count);
    let pid = running.pid().to_string();
    (running, pid)
}

#[test]
fn a_move_is_told_line_by_line() {
    let house = House::new("counter");
    let (running, pid) = begin(&house, COUNT);
    let moved = house
        .dunlin_with_ssh("a", &["migrate", &pid, "ssh://b", "--json"])
        .expect_code(0);
    let here = running.finish().expect_code(CHECKPOINTED);
    let events = events(&moved);
    let names: Vec<&str> = events.iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!((names[0], names.last()), ("agreed", Some(&"moved")), "{names:?}");
    let place = |name: &str| names.iter().position(|n| *n == name);
    assert!(
        place("sent") < place("stopping") && place("stopping") < place("moved"),
        "{names:?}"
    );
    for what in ["executable", "state"] {
        let whole = |e: &&Value| e["what"] == what && e["bytes"] == e["of"] && e["of"].as_u64() > Some(0);
        assert_eq!(events.iter().filter(whole).count(), 1, "{what}: {events:?}");
    }
    // `dunlin logs -f` by its name, until it has ended.
    let logs = house.dunlin_with_ssh("b", &["logs", "counter", "-f"]).expect_code(0);
    assert_eq!(here.out() + &logs.out(), house.expected(&COUNT));
    // And when it doesn't run any more.
    let again = house.dunlin_with_ssh("b", &["logs", "counter"]).expect_code(0);
    assert_eq!(again.out(), logs.out());
    let none = house.dunlin_with_ssh("b", &["logs", "other"]).expect_code(1);
    assert!(none.err().contains("no such program"), "{}", none.err());
}

#[test]
fn one_that_fails_says_so_on_its_last_line() {
    let house = House::new("counter");
    let (running, pid) = begin(&house, COUNT);
    let failed = house
        .dunlin_with_ssh("a", &["migrate", &pid, "ssh://nowhere", "--json"])
        .expect_code(1);
    let events = events(&failed);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["event"], &last["code"]),
        (&Value::from("failed"), &Value::from(1))
    );
    assert_eq!(running.finish().expect_code(0).out(), house.expected(&COUNT));
}

/// Ctrl-C at any moment: the program is in one place, and says everything once.
#[test]
fn a_move_can_be_cancelled() {
    let house = House::new("counter");
    let expected = house.expected(&COUNT);
    let rounds = if dunlin_tests::slice::full() { 100 } else { 6_u32 };
    let mut whole = Duration::from_secs(1);
    let mut seen = [0; 2];
    for round in 0..rounds {
        house.clear(&["a", "b"]);
        let (running, pid) = begin(&house, COUNT);
        let command = house.with_ssh(house.on("a", tools::dunlin(), &["migrate", &pid, "ssh://b"]));
        let begun = Instant::now();
        let moving = start(command, Input::Empty, PATIENCE);
        // The first one is undisturbed, and tells how long a move takes.
        if round > 0 {
            sleep(whole.mul_f64(f64::from(round) / f64::from(rounds)));
            moving.signal(Signal::INT);
        }
        let moving = moving.finish();
        if round == 0 {
            whole = begun.elapsed();
        }
        let moved = moving.code() == 0;
        seen[usize::from(moved)] += 1;
        let here = running.finish();
        let said = match moved {
            true => {
                house.wait_for("b", "done\n");
                here.expect_code(CHECKPOINTED).out() + &house.said("b")
            }
            false => {
                assert!(moving.err().contains("it was cancelled; it goes on here"), "{moving}");
                assert_eq!(house.said("b"), "");
                assert_eq!(moving.code(), 1);
                here.expect_code(0).out()
            }
        };
        assert_eq!(said, expected, "round {round}: {}", moving.err());
        assert_eq!(house.open("a"), [""; 0], "round {round}");
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
    // While it connects.
    let (running, pid) = begin(&house, COUNT);
    let host = format!("ssh://{SILENT}");
    let command = house.with_ssh(house.on("a", tools::dunlin(), &["migrate", &pid, &host]));
    let moving = start(command, Input::Empty, PATIENCE);
    sleep(Duration::from_millis(300));
    moving.signal(Signal::INT);
    let cancelled = moving.finish().expect_code(1);
    assert!(cancelled.elapsed < Duration::from_secs(5), "{cancelled}");
    assert_eq!(running.finish().expect_code(0).out(), expected);
}

/// On a terminal one sees what is happening, and Ctrl-C there cancels it.
#[test]
fn a_person_sees_what_happens_and_can_cancel_it() {
    let house = House::new("counter");
    let (running, pid) = begin(&house, COUNT);
    let line = format!("{} migrate {pid} ssh://{SILENT}", tools::dunlin().display());
    // A terminal of its own, on which nothing is typed but that.
    let command = house.with_ssh(house.on("a", Path::new("script"), &["-qec", &line, "/dev/null"]));
    let mut moving = start(command, Input::Held, PATIENCE);
    moving.wait_for("connecting");
    moving.stdin().as_mut().unwrap().write_all(b"\x03").unwrap();
    let cancelled = moving.finish();
    assert!(
        cancelled.out().contains("it was cancelled; it goes on here"),
        "{cancelled}"
    );
    assert_eq!(running.finish().expect_code(0).out(), house.expected(&COUNT));
}

#[test]
fn a_log_keeps_the_newest_output() {
    let house = House::new("counter");
    // Some 85 KiB in some seconds, of which 16 KiB are kept.
    let count = ["6000", "100000"];
    let (running, pid) = begin(&house, count);
    let moved = house.dunlin_with_ssh("a", &["migrate", &pid, "ssh://b", "--json", "--", "--log-limit", "16K"]);
    let moved = events(&moved.expect_code(0)).pop().unwrap();
    let log = PathBuf::from(moved["log"].as_str().unwrap());
    // Whoever follows misses nothing from where the log began when he came.
    let pid = moved["pid"].to_string();
    let followed = house.dunlin_with_ssh("b", &["logs", &pid, "-f"]).expect_code(0);
    assert_eq!(followed.err(), "");
    let followed = followed.out();
    running.finish().expect_code(CHECKPOINTED);
    house.wait_for("b", "done\n");
    let expected = house.expected(&count);
    let from = followed.lines().next().unwrap();
    let tail = expected.lines().skip_while(|line| *line != from);
    assert!(followed.lines().eq(tail), "from {from:?}: {} bytes", followed.len());
    let older = log.with_extension("log.1");
    let size = |path| fs::metadata(path).map_or(0, |m| m.len());
    assert!(
        size(&log) + size(&older) <= 16 << 10 && size(&older) > 7 << 10,
        "{} {}",
        size(&log),
        size(&older)
    );
    let kept = house.dunlin_with_ssh("b", &["logs", "counter"]).expect_code(0).out();
    assert!(kept.len() > 7 << 10 && expected.ends_with(&kept), "{}", kept.len());
}
