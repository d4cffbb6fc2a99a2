//! A folder in which a person uses the `dunlin` command, with a program that says "ready", waits for a line, repeats it
//! and exits with code 7.

use crate::process::{Input, Outcome, Running, run, start};
use crate::program::{CHECKPOINTED, scratch};
use crate::tools;
use dunlin_format::arch::Arch;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The program.
pub const ECHO: &str = r#"(module
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

/// How long anything here may take: nothing waits for anyone.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct Desk {
    dir: TempDir,
}

impl Default for Desk {
    fn default() -> Desk {
        Desk::new()
    }
}

impl Desk {
    /// A folder with `echo.wat` and its executables.
    #[track_caller]
    pub fn new() -> Desk {
        let desk = Desk { dir: scratch() };
        fs::write(desk.path("echo.wat"), ECHO).expect("scratch space is writable");
        desk.dunlin(&["build", "-q", "echo.wat"]).expect_code(0);
        desk
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program's executable for this machine.
    pub fn exe(&self) -> PathBuf {
        self.path(&format!("echo.{}", host()))
    }

    /// A command line of `dunlin`.
    pub fn command(&self, words: &[&str]) -> Command {
        self.outside(tools::dunlin().to_str().expect("it has a plain name"), words)
    }

    /// A command line of something else, in the same surroundings.
    pub fn outside(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .env("XDG_CACHE_HOME", self.path("cache"));
        for variable in ["DUNLIN_OPTS", "DUNLIN_FORCE_MIGRATE", "DUNLIN_CHECKPOINT_AT"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs `dunlin`.
    #[track_caller]
    pub fn dunlin(&self, words: &[&str]) -> Outcome {
        run(self.command(words), Input::Empty, PATIENCE)
    }

    /// Runs a command with one line of input.
    #[track_caller]
    pub fn with_line(&self, command: Command, line: &str) -> Outcome {
        run(command, Input::Bytes(line.into()), PATIENCE)
    }

    /// Starts a command and waits until the program is ready.
    #[track_caller]
    pub fn start(&self, command: Command) -> Running {
        let mut running = start(command, Input::Held, PATIENCE);
        running.wait_for("ready\n");
        running
    }

    /// A snapshot of the program as it waits for its line, and what `dunlin checkpoint` said.
    #[track_caller]
    pub fn snapshot(&self, command: Command, file: &str) -> Outcome {
        let running = self.start(command);
        let said = self
            .dunlin(&["checkpoint", &running.pid().to_string(), "-o", file])
            .expect_code(0);
        running.finish().expect_code(CHECKPOINTED);
        said
    }
}

/// This machine's architecture.
pub fn host() -> Arch {
    Arch::host().expect("tests run on an architecture that Dunlin builds for")
}

/// Fails where there is no way to be another user.
#[track_caller]
pub fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test plays another user, for which it must be run as root (as in a container)"
    );
}
