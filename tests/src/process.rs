//! Children that cannot hang a test: every wait has an end, output is captured as it comes, and a dropped child is
//! killed.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a child reads from its standard input.
#[derive(Debug, Default)]
pub enum Input {
    /// Nothing: end of file at once.
    #[default]
    Empty,
    /// These bytes through a pipe, then end of file.
    Bytes(Vec<u8>),
    /// An open file or the read end of a pipe.
    Fd(std::os::fd::OwnedFd),
    /// A pipe whose other end is [`Running::stdin`].
    Held,
}

/// How a child ended and what it printed.
#[derive(Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub what: String,
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub elapsed: Duration,
}

impl Outcome {
    /// The exit code; 128 + signal number if a signal ended it, as a shell has it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Panics, showing everything, unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Outcome {
        assert_eq!(self.code(), code, "exit code of {self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tail = |s: String| {
            if s.len() > 4000 {
                format!("...{}", s.chars().skip(s.chars().count() - 4000).collect::<String>())
            } else {
                s
            }
        };
        write!(
            f,
            "{}\n  {} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.status,
            self.elapsed,
            tail(self.out()),
            tail(self.err())
        )
    }
}

/// A running child.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    threads: Vec<JoinHandle<()>>,
    started: Instant,
    deadline: Instant,
}

/// Starts a child that will be killed, and fail its test, if it runs longer than `timeout`.
#[track_caller]
pub fn start(mut command: Command, input: Input, timeout: Duration) -> Running {
    let what = describe(&command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut bytes = None;
    command.stdin(match input {
        Input::Empty => Stdio::null(),
        Input::Fd(fd) => Stdio::from(fd),
        Input::Held => Stdio::piped(),
        Input::Bytes(b) => {
            bytes = Some(b);
            Stdio::piped()
        }
    });
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {what}: {e}"));
    let mut stdin = child.stdin.take();
    let mut threads = Vec::new();
    if let Some(bytes) = bytes {
        let pipe = stdin.take();
        // The child may end without reading it all: a broken pipe is no failure.
        threads.push(std::thread::spawn(move || drop(pipe.map(|mut p| p.write_all(&bytes)))));
    }
    let stdout = Arc::new(Mutex::new(Vec::new()));
    let stderr = Arc::new(Mutex::new(Vec::new()));
    if let Some(pipe) = child.stdout.take() {
        threads.push(collect(pipe, stdout.clone()));
    }
    if let Some(pipe) = child.stderr.take() {
        threads.push(collect(pipe, stderr.clone()));
    }
    let started = Instant::now();
    Running {
        what,
        child,
        stdin,
        stdout,
        stderr,
        threads,
        started,
        deadline: started + timeout,
    }
}

/// Runs a child to its end.
#[track_caller]
pub fn run(command: Command, input: Input, timeout: Duration) -> Outcome {
    start(command, input, timeout).finish()
}

impl Running {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The other end of its standard input, if that is a pipe of ours.
    pub fn stdin(&mut self) -> &mut Option<ChildStdin> {
        &mut self.stdin
    }

    /// What it has printed on standard output so far.
    pub fn stdout_so_far(&self) -> Vec<u8> {
        self.stdout.lock().expect("no reader panics").clone()
    }

    /// What it has printed on standard error so far, as text.
    pub fn errors_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().expect("no reader panics")).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a child has a pid");
        kill_process(pid, signal).unwrap_or_else(|e| panic!("cannot signal {}: {e}", self.what));
    }

    /// Waits until standard output contains `needle`; fails if the child ends or the time is over first.
    #[track_caller]
    pub fn wait_for(&mut self, needle: &str) {
        self.wait_in(needle, Running::stdout_so_far);
    }

    /// The same of standard error.
    #[track_caller]
    pub fn wait_for_error(&mut self, needle: &str) {
        self.wait_in(needle, |running| {
            running.stderr.lock().expect("no reader panics").clone()
        });
    }

    #[track_caller]
    fn wait_in(&mut self, needle: &str, seen_so_far: impl Fn(&Running) -> Vec<u8>) {
        loop {
            let seen = seen_so_far(self);
            if seen.windows(needle.len()).any(|w| w == needle.as_bytes()) {
                return;
            }
            let ended = self.child.try_wait().expect("a child can be waited for").is_some();
            if ended || Instant::now() > self.deadline {
                let why = if ended { "ended" } else { "took too long" };
                panic!(
                    "{} {why} before it printed {needle:?}; stdout: {:?}; stderr: {:?}",
                    self.what,
                    String::from_utf8_lossy(&self.stdout_so_far()),
                    String::from_utf8_lossy(&self.stderr.lock().expect("no reader panics"))
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end. A pipe of ours to its standard input stays open meanwhile: take it out of [`Running::stdin`]
    /// to close it.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let mut pause = Duration::from_micros(200);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() > self.deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!(
                    "{} did not end within {:?}; stdout: {:?}; stderr: {:?}",
                    self.what,
                    self.deadline - self.started,
                    String::from_utf8_lossy(&self.stdout.lock().expect("no reader panics")),
                    String::from_utf8_lossy(&self.stderr.lock().expect("no reader panics"))
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        let elapsed = self.started.elapsed();
        for t in self.threads.drain(..) {
            let _ = t.join();
        }
        let take = |b: &Mutex<Vec<u8>>| std::mem::take(&mut *b.lock().expect("no reader panics"));
        Outcome {
            what: std::mem::take(&mut self.what),
            status,
            stdout: take(&self.stdout),
            stderr: take(&self.stderr),
            elapsed,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut pipe: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(n) = pipe.read(&mut buffer) {
            if n == 0 {
                break;
            }
            into.lock().expect("no reader panics").extend_from_slice(&buffer[..n]);
        }
    })
}

/// The command line as a person would type it, with the variables that matter.
fn describe(command: &Command) -> String {
    let mut words: Vec<OsString> = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={:?}", name.to_string_lossy(), value.to_string_lossy()).into());
        }
    }
    words.push(command.get_program().into());
    words.extend(command.get_args().map(|a| a.into()));
    words
        .iter()
        .map(|w| w.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
