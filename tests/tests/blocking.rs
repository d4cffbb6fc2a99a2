//! Programs moved while they wait, in each kind of call that can, with files open in every mode: x86_64 -> aarch64 ->
//! x86_64, both moves within the same wait. Nothing may be lost or doubled.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::clang;
use dunlin_tests::process::{Input, Outcome, Running};
use dunlin_tests::program::{CHECKPOINTED, Program, Run, dunlin, scratch};
use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// The program of these tests: `programs/blocked.c`.
fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = scratch();
        let module = dir.path().join("blocked.wasm");
        let source = dunlin_tests::tools::root().join("tests/programs/blocked.c");
        clang(&[source], &[], &module);
        Program::build(&module)
    })
}

/// Entries of the directory that is half read.
const ENTRIES: usize = 60;
/// Those left after `.`, `..` and the first.
const LEFT: usize = ENTRIES - 1;
/// Where a program goes.
const LEGS: [Arch; 3] = [Arch::X86_64, Arch::Aarch64, Arch::X86_64];
/// Time for a program to come to its wait.
const MOMENT: Duration = Duration::from_millis(200);

/// Asks for a checkpoint until the program can be reached.
#[track_caller]
fn checkpoint(running: &mut Running, to: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let pid = running.pid().to_string();
    loop {
        let asked = dunlin(
            &["checkpoint".as_ref(), pid.as_ref(), "-o".as_ref(), to.as_os_str()],
            &[],
        );
        if asked.code() == 0 {
            return;
        }
        assert!(running.is_running() && Instant::now() < deadline, "{asked}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Moves a program twice while it waits; `last` does what ends the wait. `run` refines each leg's run. Returns all
/// output.
#[track_caller]
fn moved(
    what: &[&str],
    pause: Duration,
    run: impl Fn(usize, Run) -> Run,
    last: impl FnOnce(&mut Running),
) -> (String, Outcome) {
    let dir = scratch();
    let mut out = String::new();
    let mut from: Option<std::path::PathBuf> = None;
    for (leg, arch) in LEGS.into_iter().enumerate() {
        let mut next = run(leg, program().on(arch).args(what.iter().copied()).stdin(Input::Held));
        if let Some(from) = &from {
            next = next.resume(from);
        }
        let mut running = next.start();
        if leg == 0 {
            running.wait_for("ready\n");
        }
        std::thread::sleep(MOMENT);
        if leg == 2 {
            last(&mut running);
            let outcome = running.finish();
            assert_eq!(outcome.code(), 0, "{outcome}");
            return (out + &outcome.out(), outcome);
        }
        let to = dir.path().join(format!("{leg}.snap"));
        checkpoint(&mut running, &to);
        out += &running.finish().expect_code(CHECKPOINTED).out();
        from = Some(to);
        std::thread::sleep(pause);
    }
    unreachable!("the last leg returns")
}

fn feed(text: &'static str) -> impl FnOnce(&mut Running) {
    move |running| {
        assert!(running.is_running(), "it didn't wait");
        let stdin = running.stdin().as_mut().expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("it reads");
    }
}

/// The directory that the files of these tests begin in.
fn data() -> TempDir {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("input"), "0123456789abcdef").unwrap();
    fs::write(at("both"), "a".repeat(20)).unwrap();
    fs::write(at("log"), "first\n").unwrap();
    fs::create_dir(at("d")).unwrap();
    // More than one call of `fd_readdir` brings.
    for n in 0..ENTRIES {
        fs::write(at(&format!("d/{n:0>120}")), "").unwrap();
    }
    dir
}

/// A move in the middle of a wait with files open in every mode. `option` grants the directory; each machine has its
/// own, or all have the same one.
fn with_files(option: &str, own: bool, entries: std::ops::RangeInclusive<usize>) {
    let dirs = [data(), scratch(), scratch()];
    let grant = |leg: usize, run: Run| {
        let dir = dirs[if own { leg } else { 0 }].path();
        run.opts([format!("--{option}"), format!("{}::/data", dir.display())])
    };
    let (out, _) = moved(&["read", "files"], Duration::ZERO, grant, feed("hello\n"));
    let rest = out.strip_prefix("ready\nread hello\nfiles 4567 0123 aaaa synced eted!\n");
    let left = rest.and_then(|r| r.strip_suffix(" entries\n")?.parse().ok());
    assert!(left.is_some_and(|n| entries.contains(&n)), "{out}");
    let last = dirs[if own { 2 } else { 0 }].path();
    let read = |name: &str| fs::read_to_string(last.join(name)).unwrap();
    assert_eq!(read("output"), "01234567");
    assert_eq!(read("both"), "aaaaaaaa0123aaaaenda");
    assert_eq!(read("log"), "first\nbefore\nafter\n");
    assert_eq!(read("synced"), "synced!");
    assert!(!last.join("gone").exists());
    if own {
        // What was left behind is as it was when the program left.
        assert_eq!(
            fs::read_to_string(dirs[0].path().join("log")).unwrap(),
            "first\nbefore\n"
        );
    }
}

#[test]
fn with_shared_files() {
    with_files("dir", false, LEFT..=LEFT);
}

#[test]
fn with_carried_files() {
    // The directory is carried because it is open, and what is in it isn't: entries that weren't read yet are gone.
    with_files("carry", true, 1..=LEFT / 2 + 5);
}

#[test]
fn with_a_carried_tree() {
    with_files("carry-all", true, LEFT..=LEFT);
}

#[test]
fn in_a_read_of_a_pipe() {
    let (out, _) = moved(&["read"], Duration::ZERO, |_, run| run, feed("hello\n"));
    assert_eq!(out, "ready\nread hello\n");
}

#[test]
fn in_a_read_of_a_terminal() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let slave = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
    let terminal = |_, run: Run| run.stdin(Input::Fd(slave.try_clone().unwrap()));
    let (out, _) = moved(&["read"], Duration::ZERO, terminal, |running| {
        assert!(running.is_running(), "it didn't wait");
        // Half a line isn't one yet.
        rustix::io::write(&master, b"hel").unwrap();
        std::thread::sleep(MOMENT);
        assert!(running.is_running(), "it didn't wait for the line");
        rustix::io::write(&master, b"lo\n").unwrap();
    });
    assert_eq!(out, "ready\nread hello\n");
}

#[test]
fn in_poll() {
    let dirs = data();
    let grant = |_, run: Run| run.dir(dirs.path(), "/data");
    let (out, _) = moved(&["poll", "files"], Duration::ZERO, grant, feed("x"));
    assert!(
        out.starts_with("ready\npolled 1 x\nfiles 4567 0123 aaaa synced eted!\n"),
        "{out}"
    );
}

#[test]
fn in_poll_on_many_subscriptions() {
    let (out, _) = moved(&["polls"], Duration::from_millis(1500), |_, run| run, |_| {});
    assert_eq!(out, "ready\n1 of 64: 1062, in time\n");
}

#[test]
fn in_a_sleep() {
    let started = Instant::now();
    let (out, _) = moved(&["sleep"], Duration::from_millis(1500), |_, run| run, |_| {});
    assert_eq!(out, "ready\nslept well\n");
    // 2.5 s of sleep, and two pauses in which the program did not exist.
    assert!(
        started.elapsed() >= Duration::from_millis(5500),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn in_a_sleep_until_a_time_of_day() {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let deadline = now() + Duration::from_secs(5);
    let argument = deadline.as_nanos().to_string();
    let words = ["until", "", &argument];
    let (out, _) = moved(&words, Duration::from_millis(800), |_, run| run, |_| {});
    assert_eq!(out, "ready\nwoke in time\n");
    let late = now().saturating_sub(deadline);
    assert!(
        now() >= deadline && late < Duration::from_secs(2),
        "{late:?} late: the pauses were added"
    );
}

/// An address that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn in_an_accept() {
    let address = free();
    let listen = |_, run: Run| run.opts(["--tcplisten".to_owned(), address.to_string()]);
    let mut peer = None;
    let (out, _) = moved(&["accept"], Duration::ZERO, listen, |running| {
        let mut stream = TcpStream::connect(address).expect("it listens here too");
        running.wait_for("accepted\n");
        stream.write_all(b"ping").unwrap();
        peer = Some(stream);
    });
    assert_eq!(out, "ready\naccepted\nreceived ping\n");
    let mut rest = Vec::new();
    peer.expect("it was connected").read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

/// A connection can't follow: the program is told of, named, and goes on unharmed in the middle of its call.
#[test]
fn in_a_receive_it_stays() {
    for arch in Arch::ALL {
        let (dir, address) = (scratch(), free());
        let snapshot = dir.path().join("x.snap");
        let run = program().on(arch).args(["accept"]);
        let mut running = run.opts(["--tcplisten".to_owned(), address.to_string()]).start();
        running.wait_for("ready\n");
        let mut stream = TcpStream::connect(address).unwrap();
        running.wait_for("accepted\n");
        std::thread::sleep(MOMENT);
        let pid = running.pid().to_string();
        let asked = dunlin(
            &["checkpoint".as_ref(), pid.as_ref(), "-o".as_ref(), snapshot.as_os_str()],
            &[],
        );
        assert_ne!(asked.code(), 0, "{asked}");
        assert!(asked.err().contains("descriptor 4 is a connected socket"), "{asked}");
        assert!(!snapshot.exists() && running.is_running());
        stream.write_all(b"ping").unwrap();
        assert_eq!(
            running.finish().expect_code(0).out(),
            "ready\naccepted\nreceived ping\n"
        );
    }
}

#[test]
fn a_listening_socket_must_be_given_again() {
    let (dir, address) = (scratch(), free());
    let snapshot = dir.path().join("x.snap");
    let run = program().on(Arch::X86_64).args(["accept"]);
    let mut running = run.opts(["--tcplisten".to_owned(), address.to_string()]).start();
    running.wait_for("ready\n");
    checkpoint(&mut running, &snapshot);
    running.finish().expect_code(CHECKPOINTED);
    let refused = program().on(Arch::Aarch64).resume(&snapshot).output().expect_code(89);
    let said = format!("listens on {address}: say where it listens here with --tcplisten");
    assert!(refused.err().contains(&said), "{refused}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = taken.local_addr().unwrap().to_string();
    let refused = program()
        .on(Arch::X86_64)
        .resume(&snapshot)
        .opts(["--tcplisten", &elsewhere]);
    let refused = refused.output().expect_code(89);
    assert!(
        refused
            .err()
            .contains(&format!("--tcplisten {elsewhere}: cannot listen")),
        "{refused}"
    );
}

/// Standard output is a pipe that nobody empties: what was written comes once, what wasn't comes once too.
#[test]
fn in_a_write_to_a_full_pipe() {
    let expected: String = (0..)
        .map(|n| format!("{n}\n"))
        .scan(0, |len, line| {
            (*len + 16 < 400_000).then(|| {
                *len += line.len();
                line
            })
        })
        .collect();
    for legs in [LEGS, [Arch::Aarch64, Arch::X86_64, Arch::Aarch64]] {
        let dir = scratch();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut got = Vec::new();
        let mut from: Option<std::path::PathBuf> = None;
        for (leg, arch) in legs.into_iter().enumerate() {
            let mut run = program().on(arch).args(["write"]);
            if let Some(from) = &from {
                run = run.resume(from);
            }
            let mut command = run.command();
            let out: OwnedFd = writer.try_clone().unwrap().into();
            command.stdin(std::process::Stdio::null()).stdout(out);
            let mut child = command.spawn().unwrap();
            // It fills the pipe, and waits: more than this is left of what was there before.
            let deadline = Instant::now() + Duration::from_secs(60);
            while rustix::io::ioctl_fionread(&reader).unwrap() < 40_000 {
                assert!(
                    child.try_wait().unwrap().is_none() && Instant::now() < deadline,
                    "it doesn't write"
                );
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(MOMENT);
            if leg == 2 {
                // A slow reader.
                drop(command);
                let mut buffer = [0; 3001];
                while got.len() < expected.len() {
                    let n = reader.read(&mut buffer).unwrap();
                    got.extend_from_slice(&buffer[..n]);
                    if n == 0 {
                        break;
                    }
                    std::thread::sleep(Duration::from_micros(500));
                }
                assert!(child.wait().unwrap().success());
                break;
            }
            let to = dir.path().join(format!("{leg}.snap"));
            let pid = child.id().to_string();
            let asked = dunlin(
                &["checkpoint".as_ref(), pid.as_ref(), "-o".as_ref(), to.as_os_str()],
                &[],
            );
            asked.expect_code(0);
            assert_eq!(child.wait().unwrap().code(), Some(CHECKPOINTED));
            from = Some(to);
            // Some of it is taken, not all.
            let mut some = vec![0; 20_000];
            reader.read_exact(&mut some).unwrap();
            got.extend_from_slice(&some);
        }
        assert!(
            got.len() == expected.len() && got == expected.as_bytes(),
            "{} bytes",
            got.len()
        );
    }
}

/// One reading of the clocks, and a random number.
fn reading(running: &mut Running) -> ([i64; 3], String) {
    let before = running.stdout_so_far().len();
    let stdin = running.stdin().as_mut().expect("a pipe");
    stdin.write_all(b"x").expect("it reads");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let out = String::from_utf8(running.stdout_so_far()[before..].to_vec()).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        if let [clocks, drawn] = lines[..]
            && out.ends_with('\n')
        {
            let numbers: Vec<i64> = clocks.split(' ').skip(1).map(|n| n.parse().unwrap()).collect();
            return (numbers.try_into().unwrap(), drawn.to_owned());
        }
        assert!(Instant::now() < deadline, "no reading: {out:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn clocks_go_on_and_random_numbers_are_new() {
    let dir = scratch();
    let pause = Duration::from_secs(2);
    let (mut last, mut drawn) = ([0; 3], HashSet::new());
    let mut from: Option<std::path::PathBuf> = None;
    for (leg, arch) in LEGS.into_iter().enumerate() {
        let run = |arch| program().on(arch).args(["clocks"]).stdin(Input::Held);
        let mut running = match &from {
            Some(from) => run(arch).resume(from).start(),
            None => run(arch).start(),
        };
        if leg == 0 {
            running.wait_for("ready\n");
        }
        for round in 0..2 {
            let ([real, monotonic, cpu], number) = reading(&mut running);
            let here = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_nanos() as i64;
            assert!(
                (here - 5_000_000_000..=here).contains(&real),
                "the wall clock is the host's"
            );
            assert!(
                real > last[0] && monotonic > last[1] && cpu > last[2],
                "{real} {monotonic} {cpu} after {last:?}"
            );
            if leg > 0 && round == 0 {
                let (real_step, step) = (real - last[0], monotonic - last[1]);
                assert!(
                    real_step - step > 1_500_000_000,
                    "the monotonic clock jumped by the pause: {step} of {real_step}"
                );
            }
            last = [real, monotonic, cpu];
            assert!(drawn.insert(number), "drawn twice");
        }
        if leg < 2 {
            let to = dir.path().join(format!("{leg}.snap"));
            checkpoint(&mut running, &to);
            running.finish().expect_code(CHECKPOINTED);
            // Copies of one snapshot don't draw the same numbers either.
            let mut copy = run(arch).resume(&to).start();
            assert!(drawn.insert(reading(&mut copy).1), "a copy drew the same");
            drop(copy);
            from = Some(to);
            std::thread::sleep(pause);
        }
    }
}
