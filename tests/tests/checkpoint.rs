//! Checkpoints asked for from outside, at any time: by command and by signal, of programs that compute, call, wait and
//! sleep.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::clang;
use dunlin_tests::moves::other;
use dunlin_tests::process::{Input, Running};
use dunlin_tests::program::{CHECKPOINTED, Program, dunlin, scratch};
use rustix::process::Signal;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The program of these tests: `programs/waiter.c`.
fn waiter() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = scratch();
        let module = dir.path().join("waiter.wasm");
        clang(
            &[dunlin_tests::tools::root().join("tests/programs/waiter.c")],
            &["-Wl,-z,stack-size=8388608".into()],
            &module,
        );
        Program::build(&module)
    })
}

/// How long a request may take here, qemu and a busy machine included.
const PROMPT: Duration = Duration::from_secs(5);

/// `dunlin checkpoint PID -o FILE`.
#[track_caller]
fn checkpoint(running: &Running, to: &Path, more: &[&str]) {
    let started = Instant::now();
    let pid = running.pid().to_string();
    dunlin(
        &["checkpoint".as_ref(), pid.as_ref(), "-o".as_ref(), to.as_os_str()],
        more,
    )
    .expect_code(0);
    assert!(started.elapsed() < PROMPT, "it took {:?}", started.elapsed());
}

fn start(arch: Arch, what: &str) -> Running {
    let mut running = waiter().on(arch).args([what]).stdin(Input::Held).start();
    running.wait_for("ready\n");
    running
}

/// Checkpoints while the program is in the middle of `what`, resumes elsewhere; `feed` goes to standard input after the
/// move.
#[track_caller]
fn interrupted(what: &str, feed: &str, expected: &str) {
    for arch in Arch::ALL {
        let dir = scratch();
        let snapshot = dir.path().join("x.snap");
        let running = start(arch, what);
        std::thread::sleep(Duration::from_millis(100));
        checkpoint(&running, &snapshot, &[]);
        let first = running.finish().expect_code(CHECKPOINTED);
        let mut second = waiter()
            .on(other(arch))
            .args([what])
            .resume(&snapshot)
            .stdin(Input::Held)
            .start();
        if !feed.is_empty() {
            std::thread::sleep(Duration::from_millis(100));
            assert!(second.is_running(), "it didn't wait for input after the move");
            second
                .stdin()
                .as_mut()
                .expect("a pipe")
                .write_all(feed.as_bytes())
                .expect("it reads");
        }
        let second = second.finish().expect_code(0);
        assert_eq!(first.out() + &second.out(), expected, "{second}");
    }
}

#[test]
fn in_a_tight_loop() {
    interrupted("loop", "", "ready\nlooped f7a716441547033d\n");
}

#[test]
fn deep_in_recursion() {
    interrupted("recurse", "", "ready\nrecursed 50005000\n");
}

#[test]
fn calling_through_pointers() {
    interrupted("pointers", "", "ready\ncalled 8c62536d\n");
}

#[test]
fn blocked_in_a_read() {
    interrupted("read", "hello\n", "ready\nread hello\n");
}

#[test]
fn blocked_in_poll() {
    interrupted("poll", "x", "ready\npolled 1 x\n");
}

#[test]
fn asleep() {
    for arch in Arch::ALL {
        let dir = scratch();
        let snapshot = dir.path().join("x.snap");
        let started = Instant::now();
        let running = start(arch, "sleep");
        std::thread::sleep(Duration::from_millis(700));
        checkpoint(&running, &snapshot, &[]);
        let first = running.finish().expect_code(CHECKPOINTED);
        let before = started.elapsed();
        // The pause is not part of the sleep, and the sleep isn't started anew.
        std::thread::sleep(Duration::from_millis(500));
        let resumed = Instant::now();
        let second = waiter()
            .on(other(arch))
            .args(["sleep"])
            .resume(&snapshot)
            .output()
            .expect_code(0);
        let after = resumed.elapsed();
        assert_eq!(first.out() + &second.out(), "ready\nslept\n", "{second}");
        assert!(
            before + after >= Duration::from_secs(3),
            "slept too short: {before:?} and {after:?}"
        );
        assert!(
            after < Duration::from_millis(2950),
            "slept anew: {before:?} and {after:?}"
        );
    }
}

#[test]
fn leave_running() {
    for arch in Arch::ALL {
        let dir = scratch();
        let snapshot = dir.path().join("x.snap");
        let mut running = start(arch, "read");
        checkpoint(&running, &snapshot, &["--leave-running"]);
        assert!(running.is_running());
        running
            .stdin()
            .as_mut()
            .expect("a pipe")
            .write_all(b"first\n")
            .expect("it reads");
        assert_eq!(running.finish().expect_code(0).out(), "ready\nread first\n");
        // The copy goes its own way.
        let copy = waiter()
            .on(other(arch))
            .args(["read"])
            .resume(&snapshot)
            .stdin(Input::Bytes(b"second\n".into()))
            .output();
        assert_eq!(copy.expect_code(0).out(), "read second\n");
    }
}

#[test]
fn by_signal() {
    for (arch, name, signal) in [
        (Arch::X86_64, "TERM", Signal::TERM),
        (Arch::Aarch64, "USR1", Signal::USR1),
        (Arch::X86_64, "USR2", Signal::USR2),
    ] {
        let dir = scratch();
        let snapshot = dir.path().join("x.snap");
        let options = [
            "--checkpoint-on".to_owned(),
            format!("{name},INT"),
            "--checkpoint-to".to_owned(),
            snapshot.display().to_string(),
        ];
        let mut running = waiter()
            .on(arch)
            .args(["read"])
            .opts(options.clone())
            .stdin(Input::Held)
            .start();
        running.wait_for("ready\n");
        running.signal(signal);
        let started = Instant::now();
        running.finish().expect_code(CHECKPOINTED);
        assert!(started.elapsed() < PROMPT);
        // Started again with the same options it goes on from there, on whichever machine.
        let again = waiter()
            .on(other(arch))
            .args(["read"])
            .opts(options)
            .stdin(Input::Bytes(b"again\n".into()))
            .output();
        assert_eq!(again.expect_code(0).out(), "read again\n");
    }
}

/// Many moves at random times in one run, computing all the while.
#[test]
fn many_moves_at_any_time() {
    let dir = scratch();
    let mut out = String::new();
    let mut arch = Arch::X86_64;
    let mut from: Option<PathBuf> = None;
    let mut moves = 0;
    for n in 0.. {
        let mut run = waiter().on(arch).args(["print"]);
        if let Some(from) = &from {
            run = run.resume(from);
        }
        let mut running = run.start();
        if n == 0 {
            running.wait_for("ready\n");
        }
        std::thread::sleep(Duration::from_millis(40 + (n * 37) % 120));
        let to = dir.path().join(format!("{n}.snap"));
        let pid = running.pid().to_string();
        if running.is_running() && moves < 12 {
            let asked = dunlin(
                &["checkpoint".as_ref(), pid.as_ref(), "-o".as_ref(), to.as_os_str()],
                &[],
            );
            moves += usize::from(asked.code() == 0);
        }
        let outcome = running.finish();
        out += &outcome.out();
        if outcome.code() != CHECKPOINTED {
            outcome.expect_code(0);
            break;
        }
        from = Some(to);
        arch = other(arch);
    }
    let whole = waiter().on(Arch::X86_64).args(["print"]).output().expect_code(0);
    assert_eq!(out, whole.out(), "after {moves} moves");
    assert!(moves >= 5, "only {moves} moves");
}

/// A crash while a snapshot is written leaves the previous one or the new one, whole.
#[test]
fn killed_while_writing() {
    let dir = scratch();
    let snapshot = dir.path().join("x.snap");
    let options = [
        "--checkpoint-on".to_owned(),
        "TERM".to_owned(),
        "--checkpoint-to".to_owned(),
        snapshot.display().to_string(),
    ];
    let start = || {
        let mut running = waiter()
            .on(Arch::X86_64)
            .args(["touch"])
            .opts(options.clone())
            .stdin(Input::Held)
            .start();
        running.wait_for("ready\n");
        running
    };
    let running = start();
    running.signal(Signal::TERM);
    running.finish().expect_code(CHECKPOINTED);
    let mut interrupted = 0;
    for n in 0..14_u64 {
        let before = std::fs::read(&snapshot).unwrap();
        // It goes on from the snapshot, answers, and is asked to write the next one.
        let mut running = waiter()
            .on(Arch::X86_64)
            .args(["touch"])
            .opts(options.clone())
            .stdin(Input::Held)
            .start();
        running
            .stdin()
            .as_mut()
            .expect("a pipe")
            .write_all(b"a")
            .expect("it reads");
        running.wait_for("touched");
        running.signal(Signal::TERM);
        std::thread::sleep(Duration::from_micros(n * n * 500));
        running.signal(Signal::KILL);
        let code = running.finish().code();
        let after = std::fs::read(&snapshot).unwrap();
        interrupted += usize::from(code == 137 && after == before);
        if after != before {
            dunlin_tests::snapshots::load(&snapshot);
        }
    }
    assert!(interrupted >= 1, "no write was interrupted");
    let last = waiter()
        .on(Arch::Aarch64)
        .args(["touch"])
        .resume(&snapshot)
        .stdin(Input::Bytes(b"a".into()))
        .output();
    assert_eq!(last.expect_code(0).out(), "touched 6773ed6a42a00000\n");
}

/// A file that is open but removed goes along: the program reads and writes it elsewhere.
#[test]
fn a_deleted_open_file_travels() {
    let (dir, data, there) = (scratch(), scratch(), scratch());
    let snapshot = dir.path().join("x.snap");
    let run = waiter().on(Arch::X86_64).args(["unlinked"]).dir(data.path(), "/data");
    let mut running = run.stdin(Input::Held).start();
    running.wait_for("ready\n");
    checkpoint(&running, &snapshot, &[]);
    running.finish().expect_code(CHECKPOINTED);
    let run = waiter().on(Arch::Aarch64).dir(there.path(), "/data").resume(&snapshot);
    let outcome = run.stdin(Input::Bytes(b"on\n".into())).output().expect_code(0);
    assert_eq!(outcome.out(), "read on\nit says: x\n");
    assert_eq!(std::fs::read_dir(there.path()).unwrap().count(), 0);
}

/// A program with something that can't move is told so, and goes on.
#[test]
fn what_can_not_move_is_said_and_the_program_goes_on() {
    let (dir, data) = (scratch(), scratch());
    let snapshot = dir.path().join("x.snap");
    let pipe = data.path().join("gone");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let run = waiter().on(Arch::X86_64).args(["unlinked"]).dir(data.path(), "/data");
    let mut running = run.stdin(Input::Held).start();
    running.wait_for("ready\n");
    let pid = running.pid().to_string();
    let asked = dunlin(
        &["checkpoint".as_ref(), pid.as_ref(), "-o".as_ref(), snapshot.as_os_str()],
        &[],
    );
    assert_ne!(asked.code(), 0, "{asked}");
    assert!(
        asked.err().contains("descriptor 4 is an open device or named pipe"),
        "{asked}"
    );
    assert!(!snapshot.exists());
    let stdin = running.stdin().as_mut().expect("a pipe");
    stdin.write_all(b"on\n").expect("it reads");
    assert_eq!(running.finish().expect_code(0).out(), "ready\nread on\nit says: x\n");
}

/// A client that is interrupted while the snapshot is being written has not asked: the program runs on, and nothing is
/// left of it. At whatever time: either all of that, or the program has ended and the whole snapshot is there.
#[test]
fn an_interrupted_client_has_not_asked() {
    for arch in Arch::ALL {
        for old in [None, Some(b"something else".as_slice())] {
            let dir = scratch();
            let snapshot = dir.path().join("x.snap");
            let mut running = start(arch, "touch");
            let (mut ended, mut went_on) = (0, 0);
            for n in 0..12_u32 {
                match old {
                    Some(old) => std::fs::write(&snapshot, old).unwrap(),
                    None => drop(std::fs::remove_file(&snapshot)),
                }
                let mut command = std::process::Command::new(dunlin_tests::tools::dunlin());
                command
                    .args(["checkpoint", &running.pid().to_string(), "-o"])
                    .arg(&snapshot);
                let client = dunlin_tests::process::start(command, Input::Empty, PROMPT);
                // When the first bytes are there, and somewhat later each time.
                let begun = Instant::now();
                let in_progress = || {
                    std::fs::read_dir(dir.path())
                        .unwrap()
                        .any(|e| is_temporary(&e.unwrap().file_name()))
                };
                while !in_progress() && begun.elapsed() < PROMPT && running.is_running() {
                    std::thread::sleep(Duration::from_micros(200));
                }
                std::thread::sleep(Duration::from_millis(2) * n);
                client.signal(if n % 2 == 0 { Signal::KILL } else { Signal::INT });
                client.finish();
                std::thread::sleep(Duration::from_millis(400));
                let left = || {
                    std::fs::read_dir(dir.path())
                        .unwrap()
                        .any(|e| is_temporary(&e.unwrap().file_name()))
                };
                if running.is_running() {
                    while left() && begun.elapsed() < PROMPT {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    assert!(!left(), "half-written files are left");
                    assert_eq!(std::fs::read(&snapshot).ok().as_deref(), old, "the target was touched");
                    went_on += 1;
                } else {
                    running.finish().expect_code(CHECKPOINTED);
                    assert!(!left(), "half-written files are left");
                    dunlin_tests::snapshots::load(&snapshot);
                    ended += 1;
                    running = start(arch, "touch");
                }
            }
            println!("{arch}: {went_on} ran on, {ended} ended");
            assert!(went_on > 0, "no client was interrupted in time");
            let stdin = running.stdin().as_mut().expect("a pipe");
            stdin.write_all(b"a").expect("it reads");
            running.wait_for("touched 6773ed6a42a00000\n");
        }
    }
}

fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(".dunlin-")
}

/// A client that takes its answer no more, although it is there: as if it had not asked.
#[test]
fn an_answer_that_does_not_arrive() {
    use std::os::unix::net::UnixStream;
    let dir = scratch();
    let snapshot = dir.path().join("x.snap");
    std::fs::write(&snapshot, b"something else").unwrap();
    let mut running = start(Arch::X86_64, "touch");
    let run = std::env::var_os("XDG_RUNTIME_DIR").map(|d| PathBuf::from(d).join("dunlin"));
    let fallback = PathBuf::from(format!("/tmp/dunlin-{}", rustix::process::getuid().as_raw()));
    let begun = Instant::now();
    let mut client = loop {
        let places = run.iter().chain([&fallback]);
        let (own, with_namespace) = (format!("{}.sock", running.pid()), format!("{}-", running.pid()));
        let entries = places.filter_map(|d| std::fs::read_dir(d).ok()).flatten().flatten();
        let is_its = |name: &str| name == own || name.starts_with(&with_namespace);
        let mut sockets = entries.filter(|e| e.file_name().to_str().is_some_and(is_its));
        if let Some(client) = sockets.find_map(|s| UnixStream::connect(s.path()).ok()) {
            break client;
        }
        assert!(begun.elapsed() < PROMPT, "it can't be reached");
        std::thread::sleep(Duration::from_millis(5));
    };
    let request = serde_json::json!({ "request": "checkpoint", "to": snapshot, "leave_running": false });
    client.write_all(format!("{request}\n").as_bytes()).unwrap();
    drop(client);
    std::thread::sleep(Duration::from_millis(500));
    assert!(running.is_running());
    let stdin = running.stdin().as_mut().expect("a pipe");
    stdin.write_all(b"a").expect("it reads");
    running.wait_for("touched 6773ed6a42a00000\n");
    assert_eq!(std::fs::read(&snapshot).unwrap(), b"something else");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Where memory is short, the process that writes a periodic snapshot is ended first: the program runs on, says so, and
/// writes the next.
#[test]
fn the_process_that_writes_is_the_first_to_go() {
    for arch in Arch::ALL {
        let dir = scratch();
        let saves = dir.path().join("saves");
        let to = saves.to_str().expect("UTF-8").to_owned();
        let options = [
            "--checkpoint-every".to_owned(),
            "100ms".into(),
            "--checkpoint-to".into(),
            to,
        ];
        let run = waiter().on(arch).args(["touch"]).opts(options);
        let mut running = run.stdin(Input::Held).start();
        running.wait_for("ready\n");
        // Its children; only the program's own thread has some.
        let children = format!("/proc/{0}/task/{0}/children", running.pid());
        let begun = Instant::now();
        let mut killed = false;
        while !killed {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "no process that writes was found"
            );
            let found = std::fs::read_to_string(&children).unwrap_or_default();
            for child in found.split_whitespace() {
                let score = std::fs::read_to_string(format!("/proc/{child}/oom_score_adj"));
                if score.is_ok_and(|s| s.trim() == "1000") {
                    let pid = child.parse().ok().and_then(rustix::process::Pid::from_raw);
                    killed |= rustix::process::kill_process(pid.expect("a process id"), Signal::KILL).is_ok();
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let own = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", running.pid())).unwrap();
        assert_ne!(own.trim(), "1000");
        running.wait_for_error("was killed (signal 9), perhaps because memory was short; the program runs on");
        let newest = || {
            dunlin_migrate::store::list(&saves)
                .unwrap_or_default()
                .first()
                .map_or(0, |(n, _)| *n)
        };
        let before = newest();
        while newest() <= before {
            assert!(begun.elapsed() < Duration::from_secs(90), "no further snapshot");
            std::thread::sleep(Duration::from_millis(20));
        }
        // What the killed one left is gone by now.
        let left = std::fs::read_dir(&saves).unwrap().filter(|e| {
            let name = e.as_ref().unwrap().file_name();
            is_temporary(&name) && !name.to_string_lossy().contains(&format!("-{}-", running.pid()))
        });
        assert!(left.count() <= 1, "files of killed writers are left");
        running
            .stdin()
            .as_mut()
            .expect("a pipe")
            .write_all(b"a")
            .expect("it reads");
        running.wait_for("touched 6773ed6a42a00000\n");
    }
}
