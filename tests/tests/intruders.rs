//! Others on the same machine: their executables, their directories, their names; and two programs that are told the
//! same file.

use dunlin_format::image::{HEADER_LEN, find_in_elf};
use dunlin_tests::desk::{Desk, ECHO, host, need_root};
use dunlin_tests::process::{Input, Outcome, run, start};
use dunlin_tests::program::{BAD_SNAPSHOT, CHECKPOINTED, TRAP, USAGE};
use rustix::process::Signal;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A user that nobody is, and whose directory in /tmp a test may take.
const STRANGER: u32 = 61_234;
const ANOTHER: u32 = 61_235;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

#[track_caller]
fn says(outcome: &Outcome, code: i32, parts: &[&str]) {
    assert_eq!(outcome.code(), code, "{outcome}");
    for part in parts {
        assert!(
            outcome.err().contains(part) || outcome.out().contains(part),
            "{part:?} is not in {outcome}"
        );
    }
}

/// An executable that anyone but the user and root can have put there is not run, unless it is named.
#[test]
fn foreign_executables_are_not_run() {
    need_root();
    let desk = Desk::new();
    let exe = desk.exe();
    fs::create_dir(desk.path("shared")).unwrap();
    let there = desk.path("shared").join(exe.file_name().unwrap());
    desk.snapshot(desk.command(&["run", "echo"]), "shared/x.snap");
    fs::rename(&exe, &there).unwrap();
    let resume =
        |more: &[&str]| desk.with_line(desk.command(&[&["resume", "shared/x.snap"], more].concat()), "hello\n");
    let check = || desk.dunlin(&["check", "shared/x.snap"]);
    let refused = |why: &str| {
        says(&resume(&[]), 1, &[why, "--exe"]);
        says(&check(), 3, &[why, "--exe"]);
        says(&resume(&["--exe", there.to_str().unwrap()]), 7, &["hello"]);
    };
    says(&check(), 0, &[]);
    says(&resume(&[]), 7, &["hello"]);
    chown(&there, Some(STRANGER), None).unwrap();
    refused("belongs to another user (number 61234)");
    chown(&there, Some(0), None).unwrap();
    mode(&there, 0o757);
    refused("can be written to by others");
    mode(&there, 0o755);
    mode(&desk.path("shared"), 0o777);
    refused("lies where others can put files");
    mode(&desk.path("shared"), 0o755);
    chown(desk.path("shared"), Some(STRANGER), None).unwrap();
    refused("lies where others can put files");
    chown(desk.path("shared"), Some(0), None).unwrap();
    says(&resume(&[]), 7, &["hello"]);
    // A link to it is followed: the file counts, and the file is run.
    fs::rename(&there, desk.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(desk.path("elsewhere"), &there).unwrap();
    says(&resume(&[]), 7, &["hello"]);
    chown(desk.path("elsewhere"), Some(STRANGER), None).unwrap();
    refused("belongs to another user");
    // One of the user's own comes after it in the search: that one is run.
    fs::copy(desk.path("elsewhere"), desk.exe()).unwrap();
    says(&resume(&[]), 7, &["hello"]);
    // To look into it, anyone's will do.
    fs::remove_file(desk.exe()).unwrap();
    says(&desk.dunlin(&["inspect", "shared/x.snap"]), 0, &["main (function 3)"]);
}

/// An executable that claims in its header to be the snapshot's, and is another program, is found out before it is run.
#[test]
fn a_claimed_module_is_compared_with_the_contents() {
    let desk = Desk::new();
    desk.snapshot(desk.command(&["run", "echo"]), "x.snap");
    let header = |path: &Path| find_in_elf(&mut File::open(path).unwrap()).unwrap().unwrap();
    let own = header(&desk.exe());
    fs::write(desk.path("other.wat"), ECHO.replace("const 7", "const 99")).unwrap();
    desk.dunlin(&["build", "-q", "other.wat"]).expect_code(0);
    let other = desk.path(&format!("other.{}", host()));
    let mut bytes = fs::read(&other).unwrap();
    let at = header(&other).offset as usize;
    let head = &mut bytes[at..at + HEADER_LEN];
    head[16..48].copy_from_slice(&own.header.module.0);
    let sum = crc32fast::hash(&head[..HEADER_LEN - 4]);
    head[HEADER_LEN - 4..].copy_from_slice(&sum.to_le_bytes());
    fs::write(&other, &bytes).unwrap();
    fs::remove_file(desk.exe()).unwrap();
    let why = "its contents are not those that it was built with";
    says(&desk.dunlin(&["resume", "x.snap"]), 1, &[why]);
    says(&desk.dunlin(&["check", "x.snap"]), 3, &[why]);
    says(&desk.dunlin(&["resume", "x.snap", "--exe", "other"]), 1, &[why]);
    // One byte of its code is enough.
    desk.dunlin(&["build", "-q", "echo.wat"]).expect_code(0);
    let mut bytes = fs::read(desk.exe()).unwrap();
    let (text, _) = own.text.unwrap();
    bytes[text as usize + 40] ^= 1;
    fs::write(desk.exe(), &bytes).unwrap();
    says(&desk.dunlin(&["resume", "x.snap"]), 1, &[why]);
}

/// Somebody has made /tmp/dunlin-UID before the user's first program ran.
#[test]
fn a_taken_directory_does_not_hide_programs() {
    need_root();
    let desk = Desk::new();
    let taken = Path::new("/tmp").join(format!("dunlin-{STRANGER}"));
    let clean = || {
        let ours =
            |name: &str| name == format!("dunlin-{STRANGER}") || name.starts_with(&format!("dunlin-{STRANGER}-"));
        for entry in fs::read_dir("/tmp").unwrap().filter_map(Result::ok) {
            if entry.file_name().to_str().is_some_and(ours) {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    };
    clean();
    fs::create_dir(&taken).unwrap();
    chown(&taken, Some(ANOTHER), None).unwrap();
    mode(&taken, 0o777);
    mode(&desk.path(""), 0o755);
    let tool = desk.path("dunlin");
    fs::copy(dunlin_tests::tools::dunlin(), &tool).unwrap();
    let as_stranger = |program: &Path, words: &[&str]| {
        let mut command = desk.outside(program.to_str().unwrap(), words);
        command.env_remove("XDG_RUNTIME_DIR").uid(STRANGER).gid(STRANGER);
        command
    };
    let ps = || run(as_stranger(&tool, &["ps"]), Input::Empty, Duration::from_secs(10));
    let when_listed = |pid: u32| {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let listed = ps();
            if listed.out().contains(&pid.to_string()) || Instant::now() > deadline {
                break listed;
            }
        }
    };
    // One after the other: two that start at the same moment may make a substitute each, and are found in both.
    let one = desk.start(as_stranger(&desk.exe(), &["one"]));
    when_listed(one.pid());
    let two = desk.start(as_stranger(&desk.exe(), &["two"]));
    let listed = when_listed(two.pid());
    says(
        &listed,
        0,
        &[
            &one.pid().to_string(),
            &two.pid().to_string(),
            "belongs to another user",
        ],
    );
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 0, "nothing is entrusted to it");
    // Both in the same substitute, which is private.
    let prefix = format!("dunlin-{STRANGER}-");
    let substitutes = fs::read_dir("/tmp").unwrap().filter_map(Result::ok);
    let substitutes: Vec<_> = substitutes
        .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
        .collect();
    assert_eq!(substitutes.len(), 1);
    assert_eq!(substitutes[0].metadata().unwrap().permissions().mode() & 0o777, 0o700);
    // Where it can write.
    fs::create_dir(desk.path("out")).unwrap();
    chown(desk.path("out"), Some(STRANGER), None).unwrap();
    let words = ["checkpoint", &one.pid().to_string(), "-o", "out/x.snap"];
    says(
        &run(as_stranger(&tool, &words), Input::Empty, Duration::from_secs(10)),
        0,
        &["is checkpointed"],
    );
    one.finish().expect_code(CHECKPOINTED);
    let none = run(
        as_stranger(&tool, &["checkpoint", "nobody", "-o", "out/y.snap"]),
        Input::Empty,
        Duration::from_secs(10),
    );
    says(&none, 1, &["no such program", "belongs to another user"]);
    drop(two);
    clean();
}

/// Two containers that share a directory both have a process 1.
#[test]
fn namespaces_leave_each_others_sockets() {
    need_root();
    let desk = Desk::new();
    let contained = |arg: &str| {
        let exe = desk.exe();
        let words = [
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            exe.to_str().unwrap(),
            arg,
        ];
        desk.start(desk.outside("unshare", &words))
    };
    let sockets = |count: usize| {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let found = fs::read_dir(desk.path("dunlin")).into_iter().flatten().count();
            if found == count || Instant::now() > deadline {
                assert_eq!(found, count);
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let _first = contained("first");
    sockets(1);
    let _second = contained("second");
    sockets(2);
    for _ in 0..2 {
        let listed = desk.dunlin(&["ps"]);
        says(
            &listed,
            0,
            &["first (of another PID namespace)", "second (of another PID namespace)"],
        );
    }
    // One of a process that was killed, in a namespace that is gone: it may be another's.
    drop(UnixListener::bind(desk.path("dunlin/1-77.sock")).unwrap());
    desk.dunlin(&["ps"]).expect_code(0);
    assert!(desk.path("dunlin/1-77.sock").exists());
}

/// A program that has no descriptor left at first is reachable when it has some.
#[test]
fn the_socket_comes_when_there_are_descriptors() {
    let desk = Desk::new();
    let exe = desk.exe();
    // 0, 1, 2, and one that wakes it.
    let running = desk.start(desk.outside("sh", &["-c", "ulimit -Sn 4; exec \"$0\"", exe.to_str().unwrap()]));
    let pid = running.pid().to_string();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::read_dir(desk.path("dunlin")).into_iter().flatten().count(), 0);
    let raised = Command::new("prlimit")
        .args(["--pid", &pid, "--nofile=64:"])
        .status()
        .unwrap();
    assert!(raised.success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !desk.dunlin(&["ps"]).out().contains(&pid) {
        assert!(Instant::now() < deadline, "the socket never comes");
    }
    says(
        &desk.dunlin(&["checkpoint", &pid, "-o", "x.snap"]),
        0,
        &["is checkpointed"],
    );
    running.finish().expect_code(CHECKPOINTED);
}

/// A terminal obeys what is printed: names and arguments that hold escape sequences are shown, not sent.
#[test]
fn escape_sequences_stay_in_the_names() {
    let desk = Desk::new();
    const EVIL: &str = "e\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}vil";
    #[track_caller]
    fn harmless(outcome: &Outcome) {
        for c in (outcome.out() + &outcome.err()).chars() {
            assert!(
                c == '\n' || !(c.is_control() || c == '\u{202e}'),
                "{c:?} in {:?}",
                outcome.out() + &outcome.err()
            );
        }
        assert!((outcome.out() + &outcome.err()).contains("vil"), "{outcome}");
    }
    fs::write(
        desk.path("trap.wat"),
        ECHO.replace("(call $exit", "unreachable (call $exit")
            .replace("$main", "$\"m\\1bain\""),
    )
    .unwrap();
    let built = desk.dunlin(&["build", "trap.wat", "-o", EVIL]).expect_code(0);
    harmless(&built);
    let exe = desk.path(&format!("{EVIL}.{}", host()));
    let running = desk.start(desk.outside(exe.to_str().unwrap(), &[EVIL]));
    let pid = running.pid().to_string();
    while !desk.dunlin(&["ps"]).out().contains(&pid) {}
    for words in [&["ps"][..], &["ps", "--json"]] {
        harmless(&desk.dunlin(words));
    }
    harmless(&desk.dunlin(&["checkpoint", EVIL, "-o", &format!("none/{EVIL}")]));
    harmless(
        &desk
            .dunlin(&["checkpoint", &pid, "-o", &format!("{EVIL}.snap")])
            .expect_code(0),
    );
    running.finish().expect_code(CHECKPOINTED);
    let snapshot = format!("{EVIL}.snap");
    for words in [
        &["inspect", &snapshot][..],
        &["inspect", &snapshot, "--json"],
        &["resume", &snapshot, "--exe", EVIL, "--dir", EVIL],
        &["resume", &snapshot, "--exe", "echo"],
        &["check", &format!("x/{EVIL}")],
        &["check", EVIL],
        &["run", EVIL, "--dir"],
        &["build", &format!("{EVIL}.wat")],
    ] {
        harmless(&desk.dunlin(words));
    }
    // From the executable itself: its trap, and what it refuses.
    harmless(
        &desk
            .with_line(desk.command(&["resume", &snapshot, "--exe", EVIL]), "x\n")
            .expect_code(TRAP),
    );
    let mut refused = desk.outside(exe.to_str().unwrap(), &[]);
    refused.env("DUNLIN_OPTS", format!("--dir '{EVIL}'"));
    harmless(&run(refused, Input::Empty, Duration::from_secs(10)).expect_code(USAGE));
    let mut other = desk.outside(desk.exe().to_str().unwrap(), &[]);
    other.env("DUNLIN_OPTS", format!("--resume '{snapshot}'"));
    harmless(&run(other, Input::Empty, Duration::from_secs(10)).expect_code(BAD_SNAPSHOT));
    fs::remove_file(&exe).unwrap();
    harmless(&desk.dunlin(&["resume", &snapshot]));
}

/// `--max-memory` counts tables and exceptions.
#[test]
fn tables_and_exceptions_are_memory() {
    let desk = Desk::new();
    let run_with = |wat: &str, limit: &str| {
        fs::write(desk.path("p.wat"), wat).unwrap();
        desk.dunlin(&["run", "--max-memory", limit, "p.wat"])
    };
    let table = "(module (table 1000000 funcref) (func (export \"_start\")))";
    says(&run_with(table, "8M"), 87, &["16000000 bytes", "8388608 are allowed"]);
    says(&run_with(table, "16M"), 0, &[]);
    // 100,000 elements at a time: the fifth time is too much.
    let grow = "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32))) (table $t 0 funcref)
        (func (export \"_start\") (loop $again
          (br_if $again (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 100000))))
          (call $exit (i32.div_u (table.size $t) (i32.const 100000))))))";
    says(&run_with(grow, "8M"), 5, &[]);
    // Each exception refers to the one before.
    let chain = "(module (tag $e (param exnref))
        (func (export \"_start\") (local $last exnref)
          (loop $again
            (block $caught (result exnref)
              (try_table (catch_all_ref $caught) (throw $e (local.get $last)))
              (unreachable))
            (local.set $last)
            (br $again))))";
    says(&run_with(chain, "4M"), TRAP, &["4194304 are allowed (--max-memory)"]);
}

/// The same `--checkpoint-to` for two programs, as an exported `DUNLIN_OPTS` gives it.
#[test]
fn a_snapshots_file_is_one_programs() {
    let desk = Desk::new();
    fs::write(desk.path("other.wat"), ECHO.replace("const 7", "const 99")).unwrap();
    desk.dunlin(&["build", "-q", "other.wat"]).expect_code(0);
    let program = |name: &str, more: &str| {
        let mut command = desk.outside(desk.path(&format!("{name}.{}", host())).to_str().unwrap(), &[]);
        command.env(
            "DUNLIN_OPTS",
            format!("--checkpoint-on TERM --checkpoint-to s.snap {more}"),
        );
        command
    };
    let first = desk.start(program("echo", ""));
    for second in ["echo", "other"] {
        says(
            &desk.with_line(program(second, ""), "x\n"),
            USAGE,
            &["another process that runs writes its snapshot there"],
        );
    }
    first.signal(Signal::TERM);
    first.finish().expect_code(CHECKPOINTED);
    assert!(!desk.path("s.snap.lock").exists());
    let of_first = fs::read(desk.path("s.snap")).unwrap();
    // Another program refuses it, and leaves it as it is; so does one that goes on from another snapshot.
    says(
        &desk.with_line(program("other", ""), "x\n"),
        BAD_SNAPSHOT,
        &["another program"],
    );
    desk.snapshot(desk.command(&["run", "other"]), "o.snap");
    says(
        &desk.with_line(program("other", "--resume o.snap"), "x\n"),
        USAGE,
        &["there is a snapshot of another run"],
    );
    assert_eq!(fs::read(desk.path("s.snap")).unwrap(), of_first);
    // A snapshot that someone puts there while the program runs is not replaced either.
    fs::rename(desk.path("s.snap"), desk.path("kept")).unwrap();
    let mut third = start(program("echo", ""), Input::Held, Duration::from_secs(30));
    third.wait_for("ready\n");
    fs::rename(desk.path("o.snap"), desk.path("s.snap")).unwrap();
    third.signal(Signal::TERM);
    third.wait_for_error("another program has written it since");
    drop(third.stdin().take());
    third.finish().expect_code(7);
    assert!(desk.path("s.snap").exists(), "it is not its own to remove");
    // What is there goes on; it stays when the program has ended without success.
    fs::rename(desk.path("kept"), desk.path("s.snap")).unwrap();
    says(&desk.with_line(program("echo", ""), "on\n"), 7, &["on"]);
    assert!(desk.path("s.snap").exists());
}
