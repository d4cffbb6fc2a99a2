//! The verbs with real programs: build, run, checkpoint, resume and inspect on this machine. Moves between architectures are tested in
//! the `tests` crate.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Says "ready", waits for a line, repeats it, and exits with code 7.
const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "ready\n")
  (func $main (export "_start")
    (i64.store (i32.const 0) (i64.const 0x600000040)) ;; 6 bytes at 64
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (i64.store (i32.const 0) (i64.const 0x10000000100)) ;; 256 bytes at 256
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
    (i32.store (i32.const 4) (i32.load (i32.const 16)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (call $exit (i32.const 7))))"#;

const HOST: &str = std::env::consts::ARCH;

fn other() -> &'static str {
    if HOST == "x86_64" { "aarch64" } else { "x86_64" }
}

struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    /// A folder with `echo.wat` and its executables.
    fn new() -> Desk {
        let desk = Desk {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::write(desk.path("echo.wat"), ECHO).unwrap();
        let built = desk.dunlin(&["build", "echo.wat"]);
        assert!(built.status.success(), "{built:?}");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
        let runtime_dir = self.dir.path();
        command
            .args(words)
            .current_dir(runtime_dir)
            .env("XDG_RUNTIME_DIR", runtime_dir);
        for variable in ["DUNLIN_OPTS", "DUNLIN_FORCE_MIGRATE"] {
            command.env_remove(variable);
        }
        command
    }

    fn dunlin(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs it with one line of input.
    fn with_line(&self, mut command: Command, line: &str) -> Output {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts the program and waits until it is ready.
    fn start(&self, words: &[&str]) -> Child {
        let mut child = self
            .command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        child
    }

    /// A snapshot of the program as it waits for its line, and the command that resumes it.
    fn snapshot(&self, options: &[&str], file: &str) -> String {
        let mut child = self.start(&[&["run"], options, &["echo"]].concat());
        let output = self.dunlin(&["checkpoint", &child.id().to_string(), "-o", file]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(child.wait().unwrap().code(), Some(85));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().last().unwrap().trim().to_owned()
    }
}

#[track_caller]
fn ends(output: &Output, code: i32, stdout: &str) {
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
        (Some(code), stdout),
        "{output:?}"
    );
}

#[track_caller]
fn fails(output: &Output, code: i32, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn a_program_runs_however_it_is_named() {
    let desk = Desk::new();
    let suffixed = format!("echo.{HOST}");
    for name in ["echo", "echo.wat", &suffixed, "./echo"] {
        ends(&desk.with_line(desk.command(&["run", name]), "hello\n"), 7, "ready\nhello\n");
    }
    ends(
        &desk.with_line(Command::new(desk.path(&suffixed)), "hello\n"),
        7,
        "ready\nhello\n",
    );
    if !Path::new(&format!("/proc/sys/fs/binfmt_misc/qemu-{}", other())).exists() {
        let foreign = format!("echo.{}", other());
        fails(
            &desk.dunlin(&["run", &foreign]),
            1,
            &["cannot run", "this machine is", "use ./echo."],
        );
    }
}

#[test]
fn build_writes_what_is_asked_for() {
    let desk = Desk::new();
    let made = |words: &[&str], names: &[&str]| {
        fs::create_dir(desk.path("out")).unwrap();
        let output = desk.dunlin(&[&["build", "echo.wat", "-q"], words].concat());
        ends(&output, 0, "");
        let mut found: Vec<_> = fs::read_dir(desk.path("out"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        found.sort();
        assert_eq!(found, names, "{words:?}");
        fs::remove_dir_all(desk.path("out")).unwrap();
    };
    made(&["-o", "out/p"], &["p.aarch64", "p.x86_64"]);
    made(&["-o", "out/p", "--target", "aarch64", "-O0"], &["p.aarch64"]);
    made(
        &["-o", "out/p.x86_64", "--target=x86_64", "-O1", "--names=false"],
        &["p.x86_64"],
    );
    made(&["-o", "out/p", "--emit", "clif", "--names"], &["p.clif"]);
    made(&["-o", "out/p", "--emit", "asm", "-O2"], &["p.aarch64.s", "p.x86_64.s"]);
    made(&["-o", "out/p", "--emit", "obj", "-j", "1"], &["p.aarch64.o", "p.x86_64.o"]);
    let clif = desk.dunlin(&["build", "echo.wat", "--emit", "clif", "-o", "-"]);
    assert!(String::from_utf8_lossy(&clif.stdout).contains("function u0:"), "{clif:?}");
    fails(&desk.dunlin(&["build", "echo.wat", "-o", "-"]), 2, &["standard output"]);
    fails(
        &desk.dunlin(&["build", "echo.wat", "-o", "none/p"]),
        1,
        &["cannot write none/p.x86_64: No such file"],
    );
    fs::write(desk.path("bad.wat"), "(module (func (result i32)))").unwrap();
    fails(
        &desk.dunlin(&["build", "bad.wat"]),
        1,
        &["cannot build bad.wat", "type mismatch"],
    );
    assert!(!desk.path("bad.x86_64").exists());
}

#[test]
fn a_program_goes_on_where_it_stopped() {
    let desk = Desk::new();
    assert_eq!(desk.snapshot(&[], "a.snap"), "dunlin resume a.snap");
    for _ in 0..2 {
        ends(&desk.with_line(desk.command(&["resume", "a.snap"]), "again\n"), 7, "again\n");
    }
    let exe = format!("echo.{HOST}");
    ends(
        &desk.with_line(desk.command(&["resume", "a.snap", "--exe", &exe]), "x\n"),
        7,
        "x\n",
    );

    let mut child = desk.start(&["run", "echo"]);
    let output = desk.dunlin(&[
        "checkpoint",
        &child.id().to_string(),
        "-o",
        "b.snap",
        "--leave-running",
        "--json",
    ]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        json["bytes"].as_u64() > Some(0) && json["frames"].as_u64() > Some(0),
        "{json}"
    );
    child.stdin.take().unwrap().write_all(b"went on\n").unwrap();
    ends(&child.wait_with_output().unwrap(), 7, "went on\n");
    ends(&desk.with_line(desk.command(&["resume", "b.snap"]), "too\n"), 7, "too\n");
}

#[test]
fn the_command_that_is_printed_resumes() {
    let desk = Desk::new();
    fs::create_dir(desk.path("my data")).unwrap();
    fs::create_dir(desk.path("snaps")).unwrap();
    let command = desk.snapshot(&["--dir", "my data::/d", "--max-memory", "1M"], "snaps/a.snap");
    assert_eq!(
        command,
        "dunlin resume snaps/a.snap '--dir=my data::/d' '--max-memory=1048576'"
    );
    // The grant is the resumer's to give: without it nothing goes on.
    fails(&desk.dunlin(&["resume", "snaps/a.snap"]), 89, &["/d"]);
    let bin = Path::new(env!("CARGO_BIN_EXE_dunlin")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &command])
        .current_dir(desk.dir.path())
        .env("PATH", &path)
        .env_remove("DUNLIN_OPTS");
    ends(&desk.with_line(shell, "yes\n"), 7, "yes\n");

    // From another folder, with the executable nowhere near.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut child = desk.start(&["run", "--dir", "my data::/d", "echo"]);
    let output = desk
        .command(&["checkpoint", &child.id().to_string(), "-o", "b.snap"])
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(85));
    let text = String::from_utf8(output.stdout).unwrap();
    let command = text.lines().last().unwrap().trim();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .current_dir(elsewhere.path())
        .env("PATH", &path)
        .env_remove("DUNLIN_OPTS");
    ends(&desk.with_line(shell, "far\n"), 7, "far\n");
}

#[test]
fn only_the_right_executable_is_taken() {
    let desk = Desk::new();
    desk.snapshot(&[], "a.snap");
    fs::write(desk.path("other.wat"), ECHO.replace("const 7", "const 8")).unwrap();
    assert!(desk.dunlin(&["build", "other.wat"]).status.success());
    fails(
        &desk.dunlin(&["resume", "a.snap", "--exe", "other"]),
        86,
        &["not a snapshot of other."],
    );
    fails(
        &desk.dunlin(&["resume", "a.snap", "--exe", "a.snap"]),
        1,
        &["no program built by"],
    );
    fails(
        &desk.dunlin(&["inspect", "a.snap", "--exe", "other"]),
        86,
        &["not a snapshot of other."],
    );

    // By its name alone it is not taken either, and the message tells what is near.
    let exe = desk.path(&format!("echo.{HOST}"));
    fs::rename(&exe, desk.path("kept")).unwrap();
    fails(
        &desk.dunlin(&["resume", "a.snap"]),
        1,
        &["the right program, but for", "--exe"],
    );
    fs::remove_file(desk.path(&format!("echo.{}", other()))).unwrap();
    fails(&desk.dunlin(&["resume", "a.snap"]), 1, &["found none named", "--exe"]);
    fs::copy(desk.path(&format!("other.{HOST}")), &exe).unwrap();
    fails(&desk.dunlin(&["resume", "a.snap"]), 1, &["another version of its module"]);
    assert!(desk.dunlin(&["build", "echo.wat", "--no-migration"]).status.success());
    fails(&desk.dunlin(&["resume", "a.snap"]), 1, &["--no-migration"]);
    fails(&desk.dunlin(&["resume", "a.snap", "--exe", "echo"]), 1, &["--no-migration"]);

    // Under any name with the architecture's suffix it is found by what it is.
    fs::rename(desk.path("kept"), desk.path(&format!("renamed.{HOST}"))).unwrap();
    ends(&desk.with_line(desk.command(&["resume", "a.snap"]), "found\n"), 7, "found\n");
}

#[test]
fn a_program_without_migration_points_is_not_checkpointed() {
    let desk = Desk::new();
    assert!(
        desk.dunlin(&["build", "echo.wat", "--no-migration", "-o", "fixed"])
            .status
            .success()
    );
    let mut child = desk.start(&["run", "fixed"]);
    fails(
        &desk.dunlin(&["checkpoint", &child.id().to_string(), "-o", "a.snap"]),
        1,
        &["--no-migration"],
    );
    child.stdin.take().unwrap().write_all(b"still here\n").unwrap();
    ends(&child.wait_with_output().unwrap(), 7, "still here\n");
}

#[test]
fn inspect_names_functions() {
    let desk = Desk::new();
    desk.snapshot(&["--env", "SECRET=xyzzy"], "a.snap");
    let text = String::from_utf8(desk.dunlin(&["inspect", "a.snap"]).stdout).unwrap();
    assert!(text.contains("main (function 3)") && !text.contains("xyzzy"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&desk.dunlin(&["inspect", "a.snap", "--json"]).stdout).unwrap();
    assert_eq!(json["frames"][1]["name"], "main", "{json:#}");
    let cut = fs::read(desk.path("a.snap")).unwrap();
    fs::write(desk.path("cut.snap"), &cut[..cut.len() - 1]).unwrap();
    fails(&desk.dunlin(&["inspect", "cut.snap"]), 86, &["cut off"]);
    fails(&desk.dunlin(&["resume", "cut.snap"]), 86, &["cut off"]);
}
