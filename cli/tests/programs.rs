//! The verbs with real programs: build, run, checkpoint, resume and inspect on this machine. Moves between
//! architectures are tested in the `tests` crate.

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
            .env("XDG_RUNTIME_DIR", runtime_dir)
            .env("XDG_CACHE_HOME", runtime_dir.join("cache"));
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
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
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
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
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
        ends(
            &desk.with_line(desk.command(&["run", name]), "hello\n"),
            7,
            "ready\nhello\n",
        );
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
    made(
        &["-o", "out/p", "--emit", "obj", "-j", "1"],
        &["p.aarch64.o", "p.x86_64.o"],
    );
    let clif = desk.dunlin(&["build", "echo.wat", "--emit", "clif", "-o", "-"]);
    assert!(
        String::from_utf8_lossy(&clif.stdout).contains("function u0:"),
        "{clif:?}"
    );
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
        ends(
            &desk.with_line(desk.command(&["resume", "a.snap"]), "again\n"),
            7,
            "again\n",
        );
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
    ends(
        &desk.with_line(desk.command(&["resume", "b.snap"]), "too\n"),
        7,
        "too\n",
    );
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
    fails(
        &desk.dunlin(&["resume", "a.snap"]),
        1,
        &["another version of its module"],
    );
    assert!(desk.dunlin(&["build", "echo.wat", "--no-migration"]).status.success());
    fails(&desk.dunlin(&["resume", "a.snap"]), 1, &["--no-migration"]);
    fails(
        &desk.dunlin(&["resume", "a.snap", "--exe", "echo"]),
        1,
        &["--no-migration"],
    );

    // Under any name with the architecture's suffix it is found by what it is.
    fs::rename(desk.path("kept"), desk.path(&format!("renamed.{HOST}"))).unwrap();
    ends(
        &desk.with_line(desk.command(&["resume", "a.snap"]), "found\n"),
        7,
        "found\n",
    );
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
    let json: serde_json::Value =
        serde_json::from_slice(&desk.dunlin(&["inspect", "a.snap", "--json"]).stdout).unwrap();
    assert_eq!(json["frames"][1]["name"], "main", "{json:#}");
    let cut = fs::read(desk.path("a.snap")).unwrap();
    fs::write(desk.path("cut.snap"), &cut[..cut.len() - 1]).unwrap();
    fails(&desk.dunlin(&["inspect", "cut.snap"]), 86, &["cut off"]);
    fails(&desk.dunlin(&["resume", "cut.snap"]), 86, &["cut off"]);
}

/// What `check --json` finds: the kinds, in their order.
fn kinds(output: &Output) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let findings = json["findings"].as_array().expect("findings");
    assert_eq!(json["can_move"], findings.is_empty());
    assert_eq!(
        output.status.code(),
        Some(if findings.is_empty() { 0 } else { 3 }),
        "{output:?}"
    );
    findings
        .iter()
        .map(|f| f["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn check_asks_a_program_that_waits_and_it_waits_on() {
    let desk = Desk::new();
    fs::create_dir(desk.path("data")).unwrap();
    let mut child = desk.start(&["run", "--dir", "data::/d", "echo"]);
    let pid = child.id().to_string();
    ends(&desk.dunlin(&["check", &pid]), 0, "nothing stands in the way\n");
    let poor = "arch=aarch64,memory=1K,max-memory=1K,disk=1K,grants=/e";
    assert_eq!(
        kinds(&desk.dunlin(&["check", &pid, "--json", "--for", poor])),
        ["memory", "limit", "disk", "grant"]
    );
    assert_eq!(
        kinds(&desk.dunlin(&["check", &pid, "--json", "--for", "arch=vax"])),
        ["executable"]
    );
    let described = desk.dunlin(&["check", "--describe", "--dir", "data::/d"]);
    fs::write(desk.path("target.json"), &described.stdout).unwrap();
    assert_eq!(
        kinds(&desk.dunlin(&["check", &pid, "--json", "--for", "target.json"])),
        [""; 0]
    );
    fs::remove_file(desk.path(&format!("echo.{}", other()))).unwrap();
    let there = format!("arch={}", other());
    let found = desk.dunlin(&["check", &pid, "--for", &there]);
    fails(&found, 3, &["1 thing stands in the way"]);
    assert!(
        String::from_utf8_lossy(&found.stdout).contains("no executable of it for"),
        "{found:?}"
    );
    child.stdin.take().unwrap().write_all(b"still here\n").unwrap();
    ends(&child.wait_with_output().unwrap(), 7, "still here\n");
    fails(
        &desk.dunlin(&["check", "4294961"]),
        1,
        &["cannot check 4294961: no such program"],
    );
    fails(
        &desk.dunlin(&["check", "x", "--for", "speed=1"]),
        2,
        &["'speed' is none of"],
    );
    fails(&desk.dunlin(&["check"]), 2, &["PID|FILE"]);
}

#[test]
fn check_tries_a_snapshot_and_lists_everything() {
    let desk = Desk::new();
    fs::create_dir(desk.path("data")).unwrap();
    desk.snapshot(&["--dir", "data::/d", "--dir", ".::/e"], "a.snap");
    let granted = ["--dir", "data::/d", "--dir", ".::/e"];
    let check = |more: &[&str]| desk.dunlin(&[&["check", "a.snap", "--json"], more].concat());
    assert_eq!(kinds(&check(&granted)), [""; 0]);
    let all = ["limit", "grant", "grant"];
    assert_eq!(kinds(&check(&["--max-memory", "1"])), all);
    // Going on for good lists the same.
    fails(
        &desk.dunlin(&["resume", "a.snap", "--max-memory", "1"]),
        87,
        &["--max-memory", "'/d'", "'/e'", "cannot resume from a.snap:\n"],
    );
    assert_eq!(kinds(&check(&["--for", "grants=/d"])), ["grant"]);
    fs::write(desk.path("other.wat"), ECHO.replace("const 7", "const 8")).unwrap();
    assert!(desk.dunlin(&["build", "other.wat"]).status.success());
    assert_eq!(
        kinds(&check(&[&granted[..], &["--exe", "other"]].concat())),
        ["executable"]
    );
    fs::remove_file(desk.path(&format!("echo.{HOST}"))).unwrap();
    assert_eq!(
        kinds(&check(&["--max-memory", "1"])),
        ["executable", "limit", "grant", "grant"]
    );
    fails(&desk.dunlin(&["resume", "a.snap"]), 1, &["--exe", "'/d'", "'/e'"]);

    // A newer format, a section that isn't known, damage.
    let bytes = fs::read(desk.path("a.snap")).unwrap();
    let changed = |at: usize, value: u8, kind: &str| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        fs::write(desk.path("b.snap"), bytes).unwrap();
        assert_eq!(kinds(&desk.dunlin(&["check", "b.snap", "--json"])), [kind], "byte {at}");
    };
    changed(8, 9, "format");
    changed(16, 9, "damage");
    fails(&desk.dunlin(&["check", "none.snap"]), 1, &["No such file"]);
}

#[test]
fn run_passes_on_what_wasmtime_run_does() {
    let desk = Desk::new();
    let reactor = r#"(module
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (global $ready (mut i32) (i32.const 0))
      (func (export "_initialize") (global.set $ready (i32.const 40)))
      (func (export "add") (param i32 i64) (result i64) (i64.add (i64.extend_i32_u (i32.add (global.get $ready) (local.get 0))) (local.get 1)))
      (func (export "half") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.5)))
      (func (export "leave") (param i32) (call $exit (local.get 0)))
      (func (export "trap") unreachable))"#;
    fs::write(desk.path("r.wat"), reactor).unwrap();
    assert!(desk.dunlin(&["build", "r.wat"]).status.success());
    for name in ["r", "r.wat"] {
        ends(&desk.dunlin(&["run", "--invoke", "add", name, "1", "-2"]), 0, "39\n");
        ends(&desk.dunlin(&["run", "--invoke", "half", name, "5"]), 0, "2.5\n");
        ends(&desk.dunlin(&["run", "--invoke", "leave", name, "125"]), 125, "");
        fails(
            &desk.dunlin(&["run", "--invoke", "trap", name]),
            134,
            &["wasm trap", "unreachable", "trap"],
        );
        fails(
            &desk.dunlin(&["run", "--invoke", "add", name, "1"]),
            2,
            &["takes 2 arguments, 1 are given"],
        );
        fails(
            &desk.dunlin(&["run", "--invoke", "none", name]),
            2,
            &["no function of that name"],
        );
    }
    fails(&desk.dunlin(&["run", "r"]), 88, &["_start", "--invoke"]);
}

#[test]
fn check_looks_at_carried_files_and_changes_nothing() {
    let desk = Desk::new();
    for directory in ["data", "there"] {
        fs::create_dir(desk.path(directory)).unwrap();
    }
    // No two pieces of it are alike: those would be stored once.
    let large: Vec<u8> = (0..75_000u32).flat_map(|n| n.to_le_bytes()).collect();
    fs::write(desk.path("data/large"), large).unwrap();
    fs::write(desk.path("data/small"), "small").unwrap();
    let mut child = desk.start(&["run", "--carry-all", "data::/d", "echo"]);
    let pid = child.id().to_string();
    let running = |more: &[&str]| kinds(&desk.dunlin(&[&["check", &pid, "--json"], more].concat()));
    assert_eq!(running(&["--for", "disk=300K"]), ["disk"]);
    assert_eq!(running(&["--for", "disk=600K"]), [""; 0]);
    let pipe = desk.path("data/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(
        running(&["--for", "disk=300K,grants=/e,max-memory=1K"]),
        ["descriptor", "limit", "disk", "grant"]
    );
    fs::remove_file(&pipe).unwrap();
    assert!(desk.dunlin(&["checkpoint", &pid, "-o", "a.snap"]).status.success());
    assert_eq!(child.wait().unwrap().code(), Some(85));

    let there = ["--carry-all", "there::/d"];
    let check = |file: &str, more: &[&str]| desk.dunlin(&[&["check", file, "--json"], more].concat());
    assert_eq!(kinds(&check("a.snap", &there)), [""; 0]);
    assert_eq!(fs::read_dir(desk.path("there")).unwrap().count(), 0);
    fs::write(desk.path("there/small"), "other").unwrap();
    assert_eq!(kinds(&check("a.snap", &there)), [""; 0]);
    assert_eq!(fs::read(desk.path("there/small")).unwrap(), b"other");
    assert_eq!(kinds(&check("a.snap", &["--dir", "there::/d"])), ["grant"]);
    let elsewhere = check("a.snap", &["--for", "grants=/e"]);
    assert_eq!(kinds(&elsewhere), ["grant"]);
    assert!(String::from_utf8_lossy(&elsewhere.stdout).contains("--carry-all HOST::/d"));
    // Damage to what is carried, and something in its place: both at once.
    let mut bytes = fs::read(desk.path("a.snap")).unwrap();
    let last = bytes.len() - 100_000;
    bytes[last] ^= 1;
    fs::write(desk.path("b.snap"), bytes).unwrap();
    assert_eq!(
        kinds(&check("b.snap", &[&there[..], &["--max-memory", "1"]].concat())),
        ["limit", "damage"]
    );
    fails(
        &desk.dunlin(&[&["resume", "b.snap"], &there[..]].concat()),
        86,
        &["another hash"],
    );
    assert_eq!(fs::read(desk.path("there/small")).unwrap(), b"other");
    assert_eq!(fs::read_dir(desk.path("there")).unwrap().count(), 1);
    ends(
        &desk.with_line(desk.command(&[&["resume", "a.snap"], &there[..]].concat()), "moved\n"),
        7,
        "moved\n",
    );
    assert_eq!(fs::read(desk.path("there/small")).unwrap(), b"small");
}
