//! The `dunlin` command as a user or a script meets it: messages, exit codes, output; running programs are played by
//! fake sockets. What real programs do is tested in the `tests` crate.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

/// A hash that no module has.
const MODULE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// An answer to "who are you?".
fn info(name: &str) -> String {
    format!(
        r#"{{"reply":"info","pid":4294967,"name":"{name}","module":"{MODULE}","arch":"aarch64","args":["{name}","a b","3"],"#
    ) + r#""uptime_seconds":187,"memory_bytes":1179648,"migratable":true}"#
}

const CHECKPOINTED: &str = r#"{"reply":"checkpointed","bytes":70000,"frames":15,"stop_us":310,"write_us":4100}"#;

struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dunlin")).unwrap();
        Machine { dir }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
        command
            .args(words)
            .current_dir(self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env_remove("DUNLIN_OPTS");
        command
    }

    fn dunlin(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    /// A fake program with this process id: gives these answers, one a connection, and returns the requests it got.
    fn program(&self, pid: u32, answers: Vec<String>) -> JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(self.path(&format!("dunlin/{pid}.sock"))).unwrap();
        let serve = move |answer: String| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(stream.try_clone().unwrap())
                .read_line(&mut request)
                .unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            request
        };
        thread::spawn(move || answers.into_iter().map(|a| serve(a + "\n")).collect())
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
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
fn help_and_version_succeed_and_nonsense_is_2() {
    let m = Machine::new();
    for words in [
        &["--help"][..],
        &["--version"],
        &["version"],
        &["run", "--help"],
        &["build", "--help"],
    ] {
        assert_eq!(m.dunlin(words).status.code(), Some(0), "{words:?}");
    }
    let nonsense = [
        &[][..],
        &["nope"],
        &["build"],
        &["checkpoint", "1"],
        &["build", "-O9", "x.wasm"],
        &["build", "--target", "vax", "x"],
    ];
    for words in nonsense {
        assert_eq!(m.dunlin(words).status.code(), Some(2), "{words:?}");
    }
    let version: serde_json::Value = serde_json::from_slice(&m.dunlin(&["version", "--json"]).stdout).unwrap();
    assert_eq!(version["targets"], serde_json::json!(["x86_64", "aarch64"]));
}

#[test]
fn missing_files_are_named() {
    let m = Machine::new();
    fails(
        &m.dunlin(&["build", "none.wasm"]),
        1,
        &["dunlin: cannot build none.wasm: No such file"],
    );
    fails(
        &m.dunlin(&["run", "none"]),
        1,
        &["dunlin: cannot run none: No such file"],
    );
    fails(
        &m.dunlin(&["run", "none.wasm"]),
        1,
        &["dunlin: cannot run none.wasm: No such file"],
    );
    fails(
        &m.dunlin(&["resume", "none.snap"]),
        1,
        &["dunlin: cannot resume none.snap: No such file"],
    );
    fails(
        &m.dunlin(&["inspect", "none.snap"]),
        1,
        &["dunlin: cannot inspect none.snap: No such file"],
    );
}

#[test]
fn other_files_are_refused() {
    let m = Machine::new();
    fs::write(m.path("x"), "#!/bin/sh\n").unwrap();
    fails(&m.dunlin(&["run", "x"]), 1, &["no program built by `dunlin build`"]);
    fails(&m.dunlin(&["build", "x"]), 1, &["cannot build x"]);
    fails(
        &m.dunlin(&["resume", "x"]),
        86,
        &["cannot resume x", "not a Dunlin snapshot"],
    );
    fails(
        &m.dunlin(&["inspect", "x"]),
        86,
        &["cannot inspect x", "not a Dunlin snapshot"],
    );
    fs::write(m.path("x"), b"DUNLIN\0Sxx").unwrap();
    fails(&m.dunlin(&["resume", "x"]), 86, &["cannot resume x"]);
    fs::write(m.path("x"), b"").unwrap();
    fails(&m.dunlin(&["resume", "x"]), 86, &["cannot resume x"]);
}

#[test]
fn bad_runtime_options_are_2() {
    let m = Machine::new();
    fails(
        &m.dunlin(&["run", "--stack-size", "1", "x"]),
        2,
        &["cannot run x", "stack-size"],
    );
    fails(
        &m.dunlin(&["run", "--checkpoint-on", "TERM", "x"]),
        2,
        &["--checkpoint-to"],
    );
    fails(
        &m.command(&["run", "x"])
            .env("DUNLIN_OPTS", "--dir 'x")
            .output()
            .unwrap(),
        2,
        &["DUNLIN_OPTS"],
    );
    fails(&m.dunlin(&["resume", "--invoke", "f", "x"]), 2, &["--invoke"]);
}

#[test]
fn ps_shows_running_programs_and_clears_what_is_gone() {
    let m = Machine::new();
    let gone = m.path("dunlin/4294960.sock");
    drop(UnixListener::bind(&gone).unwrap());
    let program = m.program(4294967, vec![info("tower"), info("tower")]);
    let table = out(&m.dunlin(&["ps"]));
    assert!(table.starts_with("PID "), "{table}");
    let line = table
        .lines()
        .find(|l| l.contains("tower"))
        .expect("the program is listed");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        words,
        ["4294967", "tower", "aarch64", "1.1", "MiB", "3m07s", "'a", "b'", "3"]
    );
    assert!(!gone.exists(), "the socket of a program that is gone is removed");

    let json: serde_json::Value = serde_json::from_slice(&m.dunlin(&["ps", "--json"]).stdout).unwrap();
    let ours = json
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["pid"] == 4294967)
        .expect("the program is listed");
    assert_eq!(ours["memory_bytes"], 1179648);
    assert_eq!(
        program.join().unwrap(),
        ["{\"request\":\"info\"}\n", "{\"request\":\"info\"}\n"]
    );
}

#[test]
fn a_closed_pipe_is_no_error() {
    let m = Machine::new();
    let mut child = m
        .command(&["version"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), "")
    );
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    fails(
        &m.command(&["version"]).stdout(full).output().unwrap(),
        1,
        &["cannot write to standard output"],
    );
}

#[test]
fn checkpoint_tells_what_was_written_and_how_to_go_on() {
    let m = Machine::new();
    let program = m.program(4294967, vec![info("tower"), CHECKPOINTED.into()]);
    let output = m.dunlin(&["checkpoint", "tower", "-o", "my tower.snap", "--leave-running"]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        text.contains("tower (process 4294967) is checkpointed; it runs on"),
        "{text}"
    );
    assert!(
        text.contains("68.4 KiB, 15 frames") && text.contains("310 us to stop, 4.1 ms to write"),
        "{text}"
    );
    assert!(text.contains("  dunlin resume 'my tower.snap'\n"), "{text}");
    let requests = program.join().unwrap();
    let request: serde_json::Value = serde_json::from_str(&requests[1]).unwrap();
    let to = m.dir.path().canonicalize().unwrap().join("my tower.snap");
    assert_eq!(
        request,
        serde_json::json!({"request": "checkpoint", "to": to.to_str().unwrap(), "leave_running": true})
    );
}

#[test]
fn checkpoint_says_why_it_failed() {
    let m = Machine::new();
    fails(
        &m.dunlin(&["checkpoint", "4294961", "-o", "x"]),
        1,
        &["cannot checkpoint 4294961: no such program"],
    );
    let refusal = r#"{"reply":"failed","error":"cannot write /x: No space left on device"}"#;
    let program = m.program(4294967, vec![info("tower"), refusal.into()]);
    fails(
        &m.dunlin(&["checkpoint", "4294967", "-o", "x"]),
        1,
        &["No space left on device; it runs on"],
    );
    program.join().unwrap();
    let program = m.program(4294966, vec![info("a").replace("true", "false")]);
    fails(&m.dunlin(&["checkpoint", "4294966", "-o", "x"]), 1, &["--no-migration"]);
    program.join().unwrap();
    let program = m.program(4294965, vec![info("b")]);
    let output = m.dunlin(&["checkpoint", "4294965", "-o", "none/x"]);
    fails(&output, 1, &["cannot write none/x", "No such file"]);
    program.join().unwrap();
    assert!(!Path::new("none").exists());
}
