//! What `dunlin` and executables say when something is not as it should be: the words must lead to what is wrong. And
//! small things that people stumble over.

use dunlin_tests::desk::{Desk, ECHO, need_root};
use dunlin_tests::process::{Input, Outcome, run};
use dunlin_tests::program::CHECKPOINTED;
use rustix::process::Signal;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

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

#[test]
fn an_error_in_a_text_names_the_text() {
    let desk = Desk::new();
    fs::write(desk.path("in.wat"), "(module (fnc))").unwrap();
    for words in [&["build", "in.wat", "-o", "zzz"][..], &["run", "in.wat"]] {
        let outcome = desk.dunlin(words);
        says(&outcome, 1, &["in.wat:1:10"]);
        assert!(!outcome.err().contains("zzz"), "{outcome}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_told_from_an_empty_one() {
    let desk = Desk::new();
    fs::create_dir(desk.path("empty")).unwrap();
    says(
        &desk.dunlin(&["resume", "--latest", "none"]),
        1,
        &["there is no such directory"],
    );
    says(
        &desk.dunlin(&["resume", "--latest", "echo.wat"]),
        1,
        &["it is not a directory"],
    );
    says(
        &desk.dunlin(&["resume", "--latest", "empty"]),
        1,
        &["there is no snapshot in it"],
    );
    let mut command = desk.outside(desk.exe().to_str().unwrap(), &[]);
    command.env("DUNLIN_OPTS", "--resume-latest none");
    says(
        &run(command, Input::Empty, Duration::from_secs(10)),
        86,
        &["cannot resume from none: there is no such directory"],
    );
}

#[test]
fn a_stopped_program_is_called_stopped() {
    let desk = Desk::new();
    let running = desk.start(desk.command(&["run", "echo"]));
    let pid = running.pid().to_string();
    while !desk.dunlin(&["ps"]).out().contains(&pid) {}
    running.signal(Signal::STOP);
    let way = format!("kill -CONT {pid}");
    for who in [pid.as_str(), "echo"] {
        says(
            &desk.dunlin(&["checkpoint", who, "-o", "x.snap"]),
            1,
            &["is stopped", &way],
        );
        says(&desk.dunlin(&["check", who]), 1, &["is stopped", &way]);
    }
    says(&desk.dunlin(&["ps"]), 0, &["is stopped", &way]);
    running.signal(Signal::CONT);
    says(
        &desk.dunlin(&["checkpoint", "echo", "-o", "x.snap"]),
        0,
        &["is checkpointed"],
    );
    running.finish().expect_code(CHECKPOINTED);
}

/// Opens "f" in the granted directory, says "ready", and waits for a line.
fn opener() -> String {
    let import = "(import \"wasi_snapshot_preview1\" \"path_open\" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))";
    let open = "(i32.store8 (i32.const 48) (i32.const 102))
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 48) (i32.const 1)
              (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 52))
          (then unreachable))";
    ECHO.replacen("(module", &format!("(module {import}"), 1).replacen(
        "(export \"_start\")",
        &format!("(export \"_start\") {open}"),
        1,
    )
}

#[test]
fn a_lack_of_descriptors_is_called_that() {
    let desk = Desk::new();
    fs::write(desk.path("opener.wat"), opener()).unwrap();
    fs::create_dir(desk.path("data")).unwrap();
    fs::write(desk.path("data/f"), "x").unwrap();
    desk.dunlin(&["build", "-q", "opener.wat"]).expect_code(0);
    desk.snapshot(desk.command(&["run", "--dir", "data", "opener"]), "x.snap");
    let tool = dunlin_tests::tools::dunlin().to_str().unwrap();
    let limited = |limit: u32| {
        let script = format!("ulimit -n {limit}; exec \"$0\" resume x.snap --dir data");
        desk.with_line(desk.outside("sh", &["-c", &script, tool]), "on\n")
    };
    let (mut refused, mut enough) = (0, false);
    for limit in 5..16 {
        let outcome = limited(limit);
        if outcome.code() == 7 {
            enough = true;
            break;
        }
        if outcome.code() == 89 {
            refused += 1;
            assert!(!outcome.err().contains("copy or share"), "{outcome}");
            let what = ["limit of descriptors", "Too many open files", "ulimit -n"];
            assert!(what.iter().any(|what| outcome.err().contains(what)), "{outcome}");
        }
    }
    assert!(enough && refused > 0);
}

#[test]
fn a_place_that_holds_no_files_is_called_that() {
    let desk = Desk::new();
    let running = desk.start(desk.command(&["run", "echo"]));
    let outcome = desk.dunlin(&["checkpoint", &running.pid().to_string(), "-o", "/proc/x.snap"]);
    says(&outcome, 1, &["no files can be put where /proc/x.snap would be"]);
    assert!(!outcome.err().contains("room"), "{outcome}");
}

/// A named pipe in place of a file is refused at once, wherever a file is looked for.
#[test]
fn pipes_are_not_waited_for() {
    let desk = Desk::new();
    for name in ["pipe", "pipe.wat", "pipe.snap", "0000000001.snap"] {
        assert!(Command::new("mkfifo").arg(desk.path(name)).status().unwrap().success());
    }
    desk.snapshot(desk.command(&["run", "echo"]), "x.snap");
    let what = "it is a named pipe, not a file";
    for (code, words) in [
        (1, &["check", "pipe"][..]),
        (1, &["check", "pipe.snap"]),
        (1, &["inspect", "pipe"]),
        (1, &["resume", "pipe"]),
        (1, &["build", "pipe.wat"]),
        (1, &["run", "pipe.wat"]),
        (1, &["run", "pipe"]),
        (1, &["resume", "x.snap", "--exe", "pipe"]),
        (1, &["inspect", "x.snap", "--exe", "pipe"]),
    ] {
        says(&desk.dunlin(words), code, &[what]);
    }
    says(&desk.dunlin(&["resume", "--latest", "."]), 1, &["no snapshot in it"]);
    let mut command = desk.outside(desk.exe().to_str().unwrap(), &[]);
    command.env("DUNLIN_OPTS", "--resume pipe");
    says(
        &run(command, Input::Empty, Duration::from_secs(10)),
        86,
        &["no regular file"],
    );
    // On the PATH and beside the snapshot, too.
    fs::rename(desk.exe(), desk.path("away")).unwrap();
    fs::create_dir(desk.path("bin")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(desk.path("bin/echo"))
            .status()
            .unwrap()
            .success()
    );
    assert!(Command::new("mkfifo").arg(desk.exe()).status().unwrap().success());
    let mut command = desk.command(&["resume", "x.snap"]);
    command.env("PATH", desk.path("bin"));
    says(
        &run(command, Input::Empty, Duration::from_secs(10)),
        1,
        &["no executable of it"],
    );
}

#[test]
fn a_small_limit_is_told_as_it_was_given() {
    let desk = Desk::new();
    says(
        &desk.dunlin(&["run", "--max-memory", "1K", "echo"]),
        87,
        &["65536 bytes", "only 1024 are allowed"],
    );
}

/// What `dunlin run` has compiled is found by the command that `dunlin checkpoint` prints.
#[test]
fn a_module_that_was_run_can_be_resumed() {
    let desk = Desk::new();
    for arch in ["x86_64", "aarch64"] {
        fs::remove_file(desk.path(&format!("echo.{arch}"))).unwrap();
    }
    let said = desk.snapshot(desk.command(&["run", "echo.wat"]), "i.snap").out();
    let command = said.lines().last().unwrap().trim();
    assert_eq!(command, "dunlin resume i.snap");
    says(
        &desk.with_line(desk.command(&["resume", "i.snap"]), "hello\n"),
        7,
        &["hello"],
    );
    // Without the cache it can't be, and that is said beforehand.
    let mut without = desk.command(&["run", "echo.wat"]);
    without.env("XDG_CACHE_HOME", "/proc");
    fs::remove_dir_all(desk.path("cache")).unwrap();
    let said = desk.snapshot(without, "j.snap").out();
    assert!(said.contains("its executable is not at hand"), "{said}");
}

/// Linux allows some 2 MiB of arguments.
#[test]
fn a_megabyte_of_arguments_can_be_checkpointed() {
    let desk = Desk::new();
    let long = "x".repeat(100_000);
    let mut command = desk.command(&["run", "echo"]);
    command.args(vec![&long; 15]);
    says(&desk.snapshot(command, "x.snap"), 0, &["is checkpointed"]);
    says(&desk.with_line(desk.command(&["resume", "x.snap"]), "on\n"), 7, &["on"]);
}

#[test]
fn links_are_written_through() {
    let desk = Desk::new();
    std::os::unix::fs::symlink("there", desk.path("link.x86_64")).unwrap();
    std::os::unix::fs::symlink("there.snap", desk.path("link.snap")).unwrap();
    desk.dunlin(&["build", "-q", "echo.wat", "-o", "link", "--target", "x86_64"])
        .expect_code(0);
    desk.snapshot(desk.command(&["run", "echo"]), "link.snap");
    for (link, file) in [("link.x86_64", "there"), ("link.snap", "there.snap")] {
        assert!(fs::symlink_metadata(desk.path(link)).unwrap().is_symlink());
        assert!(fs::metadata(desk.path(file)).unwrap().len() > 0);
    }
}

/// A million types of which one is used: only that one has a trampoline.
#[test]
fn unused_types_cost_little() {
    let desk = Desk::new();
    let mut types = String::new();
    for n in 0..100_000_u32 {
        let digits = (0..9).map(|d| ["i32", "i64", "f32", "f64"][(n >> (2 * d)) as usize % 4]);
        types += &format!("(type (func (param {})))\n", digits.collect::<Vec<_>>().join(" "));
    }
    let build = |name: &str, types: &str| {
        fs::write(
            desk.path(&format!("{name}.wat")),
            ECHO.replacen("(module", &format!("(module {types}"), 1),
        )
        .unwrap();
        let begun = Instant::now();
        desk.dunlin(&["build", "-q", &format!("{name}.wat")]).expect_code(0);
        begun.elapsed()
    };
    build("many", &types);
    let size = |name: &str| fs::metadata(desk.path(&format!("{name}.x86_64"))).unwrap().len();
    let each = (size("many") - size("echo")) / 100_000;
    assert!(
        each < 100,
        "{each} bytes for each type: 200 and more with its code and its symbol"
    );
    says(&desk.with_line(desk.command(&["run", "many"]), "on\n"), 7, &["on"]);
}

/// Where /proc is not mounted, as in some sandboxes.
#[test]
fn without_proc_it_runs_all_the_same() {
    need_root();
    let desk = Desk::new();
    let tool = dunlin_tests::tools::dunlin().to_str().unwrap();
    let script = "mount -t tmpfs none /proc && exec \"$0\" run echo.wat";
    let inside = |script: &str| desk.outside("unshare", &["--mount", "sh", "-c", script, tool]);
    says(&desk.with_line(inside(script), "on\n"), 7, &["on"]);
    // A snapshot from inside: what it was granted can't be known.
    let running = desk.start(desk.command(&["run", "--dir", ".", "echo"]));
    let pid = running.pid();
    while !desk.dunlin(&["ps"]).out().contains(&pid.to_string()) {}
    let script = format!("mount -t tmpfs none /proc && exec \"$0\" checkpoint {pid} -o x.snap");
    says(
        &desk.with_line(inside(&script), ""),
        0,
        &["what it was granted can't be found out"],
    );
    running.finish().expect_code(CHECKPOINTED);
}

#[test]
fn empty_variables_are_none() {
    let desk = Desk::new();
    let mut command = desk.outside(desk.exe().to_str().unwrap(), &[]);
    for variable in [
        "DUNLIN_FORCE_MIGRATE",
        "DUNLIN_CHECKPOINT_AT",
        "DUNLIN_OPTS",
        "XDG_RUNTIME_DIR",
        "XDG_CACHE_HOME",
    ] {
        command.env(variable, "");
    }
    says(&desk.with_line(command, "on\n"), 7, &["on"]);
}
