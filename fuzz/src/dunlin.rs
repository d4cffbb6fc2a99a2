//! Dunlin's side: executables for both architectures, and their runs.

use crate::case::Case;
use dunlin_compiler::{CompileOptions, OptLevel, Settings, compile, write_executable};
use dunlin_format::arch::Arch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// Stack of the programs in bytes: small, because a forced migration replaces it each time.
const STACK: &str = "--stack-size 1048576";

/// Processor time for a run, in seconds; far more than any should need. On a busy machine a run may last any time.
const TIMEOUT: u64 = 60;

/// And time on the clock, for a run that waits for something.
const PATIENCE: u32 = 1800;

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file or process of ours.
    #[error("{0}: {1}")]
    System(String, std::io::Error),
    /// Dunlin refuses the module, or has a bug.
    #[error("dunlin build: {0}")]
    Compile(#[from] dunlin_compiler::Error),
}

fn system(what: &Path) -> impl Fn(std::io::Error) -> RunError + '_ {
    move |e| RunError::System(what.display().to_string(), e)
}

/// The prebuilt runtimes.
#[derive(Debug)]
pub struct Runtimes(Vec<(Arch, Vec<u8>)>);

impl Runtimes {
    /// Those that `ci/build` has made.
    pub fn load() -> Result<Runtimes, RunError> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/runtimes");
        let read = |arch: Arch| {
            let path = dir.join(format!("dunlin-runtime.{arch}"));
            Ok::<_, RunError>((arch, fs::read(&path).map_err(system(&path))?))
        };
        Ok(Runtimes(Arch::ALL.into_iter().map(read).collect::<Result<_, _>>()?))
    }
}

/// A directory, in memory if possible, for one executable per architecture and what passes through its runs. One
/// worker's.
#[derive(Debug)]
pub struct Workshop {
    dir: PathBuf,
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// How a run ended and what it replied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Replies, each after the lines of the host calls that came before it.
    pub replies: Vec<String>,
    /// Host calls that no reply came after.
    pub rest: String,
    /// Exit code; none if it was killed, by a signal or because it took too long.
    pub code: Option<i32>,
    /// Standard error, and what else there is to say.
    pub notes: String,
}

/// What a run does apart from serving commands.
#[derive(Clone, Debug, Default)]
pub struct Twist {
    /// Migrate at every so-manieth point.
    pub force: Option<u64>,
    /// Write a snapshot at this point and end.
    pub stop_at: Option<u64>,
    /// Go on from the snapshot.
    pub resume: bool,
}

impl Workshop {
    /// A new one.
    pub fn new(name: &str) -> Result<Workshop, RunError> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let dir = base.join(format!("dunlin-fuzz-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).map_err(system(&dir))?;
        Ok(Workshop { dir })
    }

    /// Compiles a case for these architectures.
    pub fn build(&self, runtimes: &Runtimes, case: &Case, targets: &[Arch]) -> Result<(), RunError> {
        let options = CompileOptions {
            name: "fuzz".into(),
            settings: Settings {
                targets: targets.to_vec(),
                opt_level: case.opt_level(),
                max_alive: case.max_alive(),
                deterministic: true,
                threads: Some(1),
                ..Settings::default()
            },
            spectest: true,
            names: false,
            ..CompileOptions::default()
        };
        let compiled = compile(&case.wasm, &options)?;
        for image in &compiled.images {
            let runtime = runtimes.0.iter().find(|(arch, _)| *arch == image.arch);
            let runtime = runtime.map_or(&[][..], |(_, bytes)| bytes);
            let path = self.exe(image.arch);
            let bytes = write_executable(runtime, image)?;
            // Over the one before, whose pages the kernel then needn't find and clear again.
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o755)
                .open(&path);
            let write = |mut f: File| f.write_all(&bytes).and_then(|()| f.set_len(bytes.len() as u64));
            file.and_then(write).map_err(system(&path))?;
        }
        Ok(())
    }

    /// What `dunlin build`, in a process of its own, says of a case if it crashes.
    pub fn crash(&self, case: &Case) -> Result<Option<String>, RunError> {
        let (module, errors) = (self.dir.join("crash.wasm"), self.dir.join("err"));
        fs::write(&module, &case.wasm).map_err(system(&module))?;
        let dunlin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/dunlin");
        let mut command = Command::new(&dunlin);
        let level = format!("-O{}", case.opt_level() as u32);
        let max_alive = format!("--max-alive={}", case.max_alive());
        command.args([
            "build",
            "-q",
            "-j1",
            "--deterministic",
            "--spectest",
            &level,
            &max_alive,
            "-o",
        ]);
        command
            .arg(self.dir.join("crash"))
            .arg(&module)
            .env("RUST_BACKTRACE", "0");
        command.stderr(File::create(&errors).map_err(system(&errors))?);
        let status = command.status().map_err(system(&dunlin))?;
        let text = fs::read_to_string(&errors).map_err(system(&errors))?;
        // A module that is only refused is no crash.
        let crashed = status.signal().is_some() || text.contains("internal compiler error");
        Ok(crashed.then_some(text))
    }

    fn exe(&self, arch: Arch) -> PathBuf {
        self.dir.join(format!("fuzz.{arch}"))
    }

    /// Runs the executable for an architecture; `lines` are commands.
    pub fn run(&self, arch: Arch, lines: &str, twist: &Twist) -> Result<Run, RunError> {
        let [input, output, errors, snapshot] = ["in", "out", "err", "snap"].map(|name| self.dir.join(name));
        fs::write(&input, lines).map_err(system(&input))?;
        let mut options = format!("--commands --host-calls --no-control {STACK}");
        if twist.stop_at.is_some() {
            // A program goes on from its own snapshot if there is one.
            let _ = fs::remove_file(&snapshot);
            options += &format!(" --checkpoint-to {}", snapshot.display());
        }
        if twist.resume {
            options += &format!(" --resume {}", snapshot.display());
        }
        let exe = self.exe(arch);
        let mut command = if Arch::host() == Some(arch) {
            Command::new(&exe)
        } else {
            let mut command = Command::new(format!("qemu-{arch}-static"));
            command.arg(&exe);
            command
        };
        command.env("DUNLIN_OPTS", options);
        command
            .env_remove("DUNLIN_FORCE_MIGRATE")
            .env_remove("DUNLIN_CHECKPOINT_AT");
        if let Some(n) = twist.force {
            command.env("DUNLIN_FORCE_MIGRATE", n.to_string());
        }
        if let Some(n) = twist.stop_at {
            command.env("DUNLIN_CHECKPOINT_AT", n.to_string());
        }
        command.stdin(File::open(&input).map_err(system(&input))?);
        command.stdout(File::create(&output).map_err(system(&output))?);
        command.stderr(File::create(&errors).map_err(system(&errors))?);
        let mut child = spawn(&mut command).map_err(system(&exe))?;
        let status = wait(&mut child).map_err(system(&exe))?;
        let (replies, rest) = replies(&String::from_utf8_lossy(&fs::read(&output).map_err(system(&output))?));
        let mut notes = String::from_utf8_lossy(&fs::read(&errors).map_err(system(&errors))?).into_owned();
        match status {
            None => notes += "killed: it took too long",
            Some(status) if status.code().is_none() => notes += &status.to_string(),
            Some(_) => {}
        }
        Ok(Run {
            replies,
            rest,
            code: status.and_then(|s| s.code()),
            notes,
        })
    }
}

/// Puts replies together with the host calls before them; what is left has no reply.
fn replies(output: &str) -> (Vec<String>, String) {
    let (mut replies, mut calls) = (Vec::new(), String::new());
    for line in output.lines() {
        calls += line;
        if line.starts_with("call ") {
            calls.push('\n');
        } else {
            replies.push(std::mem::take(&mut calls));
        }
    }
    (replies, calls)
}

/// Starts a child. A child of another thread's that hasn't reached its program yet may hold our executable open for
/// writing.
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    for _ in 0..200 {
        match command.spawn() {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy => std::thread::sleep(Duration::from_millis(2)),
            other => return other,
        }
    }
    command.spawn()
}

/// Waits for a child; none if it had to be killed.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    let step = Timespec { tv_sec: 10, tv_nsec: 0 };
    for _ in 0..PATIENCE / 10 {
        if poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&step))? > 0 {
            return child.wait().map(Some);
        }
        if processor_seconds(child.id()).is_some_and(|used| used > TIMEOUT) {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Processor time that a process has used.
fn processor_seconds(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // What comes after the name, which is in parentheses; user and system time are the 12th and 13th, in hundredths of
    // a second.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Some(ticks / 100)
}

impl Case {
    /// How hard Dunlin optimises: mostly as it does by default.
    pub fn opt_level(&self) -> OptLevel {
        match self.seed / 8 % 8 {
            6 => OptLevel::O1,
            7 => OptLevel::O0,
            _ => OptLevel::O2,
        }
    }

    /// How many variables may be alive before most are in memory: in one case of four so few that it happens.
    pub fn max_alive(&self) -> usize {
        max_alive(self.seed)
    }
}

pub(crate) fn max_alive(seed: u64) -> usize {
    // Scrambled, so that it has nothing to do with what else the seed chooses.
    match seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60 {
        k @ 0..4 => [0, 2, 4, 8][k as usize],
        _ => Settings::default().max_alive,
    }
}
