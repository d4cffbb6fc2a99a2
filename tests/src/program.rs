//! A program built by `dunlin build` for both architectures, and its runs.

use crate::process::{Input, Outcome, Running, run, start};
use crate::tools;
use dunlin_format::arch::Arch;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Exit code of a program that checkpointed itself and stopped.
pub const CHECKPOINTED: i32 = 85;
/// Exit code of a refused snapshot.
pub const BAD_SNAPSHOT: i32 = 86;
/// Exit code of a sound snapshot that this machine lacks something for.
pub const NOT_HERE: i32 = 89;
/// Exit code of bad options.
pub const USAGE: i32 = 2;
/// Exit code of a trap.
pub const TRAP: i32 = 134;

/// Environment variable: migrate at every Nth migration point.
pub const FORCE: &str = "DUNLIN_FORCE_MIGRATE";
/// Environment variable: checkpoint at the Nth migration point passed and exit (tests only).
pub const STOP_AT: &str = "DUNLIN_CHECKPOINT_AT";

/// Executables for both architectures of one module.
#[derive(Debug)]
pub struct Program {
    dir: TempDir,
    name: String,
}

impl Program {
    /// Builds a module (`.wasm` or `.wat`) with `dunlin build`.
    #[track_caller]
    pub fn build(module: &Path) -> Program {
        Program::build_with(module, &[])
    }

    /// As [`Program::build`], with more options.
    #[track_caller]
    pub fn build_with(module: &Path, options: &[&str]) -> Program {
        let name = module
            .file_stem()
            .expect("a module has a name")
            .to_string_lossy()
            .into_owned();
        let program = Program { dir: scratch(), name };
        dunlin(
            &[
                "build".as_ref(),
                module.as_os_str(),
                "-o".as_ref(),
                program.base().as_os_str(),
            ],
            options,
        )
        .expect_code(0);
        let targets = match options.iter().position(|o| *o == "--target") {
            Some(n) => Arch::from_name(options[n + 1]).into_iter().collect(),
            None => Arch::ALL.to_vec(),
        };
        for arch in targets {
            assert!(
                program.exe(arch).is_file(),
                "dunlin build left no {}",
                program.exe(arch).display()
            );
        }
        program
    }

    /// Builds a module given as text.
    #[track_caller]
    pub fn from_wat(name: &str, text: &str) -> Program {
        let dir = scratch();
        let path = dir.path().join(format!("{name}.wat"));
        std::fs::write(&path, text).expect("scratch space is writable");
        Program::build(&path)
    }

    /// Executables that were already built as `dir/name.*`.
    pub fn adopt(dir: TempDir, name: &str) -> Program {
        Program {
            dir,
            name: name.to_owned(),
        }
    }

    /// The path without the architecture's suffix.
    pub fn base(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    /// The name the program was built under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The executable for an architecture.
    pub fn exe(&self, arch: Arch) -> PathBuf {
        self.dir.path().join(format!("{}.{arch}", self.name))
    }

    /// A run on an architecture, to be refined.
    pub fn on(&self, arch: Arch) -> Run {
        Run::of(&self.exe(arch), arch)
    }
}

/// Runs the `dunlin` command.
#[track_caller]
pub fn dunlin(args: &[&std::ffi::OsStr], more: &[&str]) -> Outcome {
    let mut command = Command::new(tools::dunlin());
    command.args(args).args(more);
    run(command, Input::Empty, Duration::from_secs(120))
}

/// A directory that goes away with the test.
pub fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("dunlin-test-")
        .tempdir()
        .expect("the temporary directory is writable")
}

/// A run of an executable.
#[derive(Debug)]
pub struct Run {
    exe: PathBuf,
    arch: Arch,
    args: Vec<String>,
    options: Vec<String>,
    env: Vec<(String, String)>,
    input: Input,
    timeout: Duration,
    wrap: Vec<String>,
}

impl Run {
    /// A run of an executable for an architecture.
    pub fn of(exe: &Path, arch: Arch) -> Run {
        Run {
            exe: exe.to_owned(),
            arch,
            args: Vec::new(),
            options: Vec::new(),
            env: Vec::new(),
            input: Input::Empty,
            timeout: Duration::from_secs(120),
            wrap: Vec::new(),
        }
    }

    /// Adds arguments for the program.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Run {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds runtime options (`DUNLIN_OPTS`), one word each.
    pub fn opts<S: Into<String>>(mut self, options: impl IntoIterator<Item = S>) -> Run {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Grants a host directory under a name.
    pub fn dir(self, host: &Path, guest: &str) -> Run {
        self.opts(["--dir".to_owned(), format!("{}::{guest}", host.display())])
    }

    /// Sets a variable of the process (not of the program).
    pub fn env(mut self, name: &str, value: impl ToString) -> Run {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Migrates at every `n`th migration point.
    pub fn forced(self, n: u64) -> Run {
        self.env(FORCE, n)
    }

    /// Writes a snapshot at the `n`th migration point and exits with [`CHECKPOINTED`].
    pub fn stop_at(self, n: u64, snapshot: &Path) -> Run {
        self.env(STOP_AT, n)
            .opts(["--checkpoint-to".to_owned(), snapshot.display().to_string()])
    }

    /// Goes on from a snapshot.
    pub fn resume(self, snapshot: &Path) -> Run {
        self.opts(["--resume".to_owned(), snapshot.display().to_string()])
    }

    /// Sets the standard input.
    pub fn stdin(mut self, input: Input) -> Run {
        self.input = input;
        self
    }

    /// Sets the time after which the test fails.
    pub fn timeout(mut self, timeout: Duration) -> Run {
        self.timeout = timeout;
        self
    }

    /// Runs it through `sh`: `script` is run with the command line as `"$@"`.
    pub fn through_shell(mut self, script: &str) -> Run {
        self.wrap = vec!["sh".into(), "-c".into(), script.into(), "sh".into()];
        self
    }

    /// The command line.
    pub fn command(&self) -> Command {
        let mut words: Vec<PathBuf> = self.wrap.iter().map(PathBuf::from).collect();
        // Interpreted code is in an executable for this machine.
        if Arch::host() != Some(self.arch) && Arch::portable_host() != Some(self.arch) {
            assert_eq!(self.arch, Arch::Aarch64, "no emulator for {}", self.arch);
            words.push(tools::qemu().to_owned());
        }
        words.push(self.exe.clone());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.args);
        for name in [FORCE, STOP_AT, "DUNLIN_OPTS"] {
            command.env_remove(name);
        }
        if !self.options.is_empty() {
            command.env("DUNLIN_OPTS", quote(&self.options));
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        command
    }

    /// Starts it.
    #[track_caller]
    pub fn start(self) -> Running {
        start(self.command(), self.input, self.timeout)
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn output(self) -> Outcome {
        self.start().finish()
    }
}

/// Quotes words so that a shell's rules give them back.
fn quote(words: &[String]) -> String {
    let plain = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
    let one = |w: &String| {
        if plain(w) {
            w.clone()
        } else {
            format!("'{}'", w.replace('\'', "'\\''"))
        }
    };
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}
