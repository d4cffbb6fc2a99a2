//! This machine as one that programs come to: what it allows, and how it checks and starts them.

use crate::find::cache;
use crate::find::executables::{Kind, kind, verify};
use crate::find::search::Search;
use crate::findings::here;
use crate::show;
use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use dunlin_interface::options::{OPTS_VARIABLE, Options};
use dunlin_migrate::preflight::Finding;
use dunlin_transfer::receiver::{Host, Started};
use dunlin_transfer::records::{Place, RUNNING, STARTED, STATE, Shelf, remove_if_there};
use dunlin_transfer::wire::{About, Terms};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of a program's own messages that are told on if it doesn't start.
const MOST_SAID: u64 = 4096;

/// How long a program may take to be restored, at most: minutes, for one of hundreds of gigabytes.
const MOST_STARTING: Duration = Duration::from_secs(600);

/// How much of a program's newest output is kept unless someone says otherwise.
const DEFAULT_LOG_LIMIT: u64 = 64 << 20;

/// An architecture that is not the machine's own, and the command that runs executables of it.
pub(crate) type Emulator = (Arch, Vec<String>);

/// Reads ARCH=COMMAND.
pub(crate) fn emulator(given: &str) -> Result<Emulator, String> {
    let (arch, command) = given.split_once('=').ok_or("it is ARCH=COMMAND")?;
    let known = Arch::ALL.into_iter().find(|a| a.name() == arch);
    let arch = known.ok_or_else(|| format!("there is no architecture {}", show::clean(arch)))?;
    let words = shlex::split(command)
        .filter(|w| !w.is_empty())
        .ok_or("its command is not a list of words")?;
    Ok((arch, words))
}

/// The receiving machine.
#[derive(Debug)]
pub(crate) struct Machine {
    options: Options,
    arch: Arch,
    /// What runs executables of that architecture, if the machine itself does not.
    emulator: Vec<String>,
    directory: PathBuf,
    /// What a program's log may have, in bytes; 0: no limit.
    log_limit: u64,
}

impl Machine {
    /// This machine, with what its owner grants. `emulator`: an architecture other than its own, and the command that
    /// runs executables of it.
    pub(crate) fn new(options: Options, emulator: Option<Emulator>, shelf: &Shelf) -> Option<Machine> {
        let (arch, emulator) = match emulator {
            Some(it) => it,
            None => (Arch::host()?, Vec::new()),
        };
        let directory = shelf.directory().to_owned();
        Some(Machine {
            options,
            arch,
            emulator,
            directory,
            log_limit: DEFAULT_LOG_LIMIT,
        })
    }

    /// Keeps only so many of the newest bytes of what a program says; its own process sees to that.
    pub(crate) fn limit_logs(&mut self, bytes: u64) {
        self.log_limit = bytes;
    }

    /// A command that runs an executable.
    fn command(&self, executable: &Path, options: &Options) -> Command {
        let mut words = self.emulator.iter();
        let mut command = match words.next() {
            Some(emulator) => {
                let mut command = Command::new(emulator);
                command.args(words).arg(executable);
                command
            }
            None => Command::new(executable),
        };
        command
            .env(OPTS_VARIABLE, options.to_opts_string())
            .stdin(Stdio::null());
        if self.log_limit > 0 {
            command.env("DUNLIN_LOG_LIMIT", self.log_limit.to_string());
        }
        command
    }

    /// Where a program's output goes.
    fn log(&self, name: &str, place: &Place) -> io::Result<(PathBuf, File)> {
        let directory = self.directory.join("logs");
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let plain: String = name
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || "-_.".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .take(64)
            .collect();
        let attempt = place.path().file_name().unwrap_or_default().to_string_lossy();
        let attempt: String = attempt.chars().skip(3).take(12).collect();
        let path = directory.join(format!("{plain}-{attempt}.log"));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }
}

impl Host for Machine {
    fn terms(&mut self, about: &About) -> Terms {
        let mut target = here(&self.options, Some(&self.directory));
        target.arch = Some(self.arch.name().to_owned());
        let findings = match about.needs() {
            Some(needs) => target.obstacles(&needs),
            None => vec![Finding::new(
                "format",
                "what the program needs is not understood here",
                "use the same version of dunlin on both machines",
            )],
        };
        Terms {
            arch: self.arch.name().to_owned(),
            has_executable: self.executable(about).is_some(),
            findings: findings.into_iter().map(|f| (f.kind, f.what, f.fix)).collect(),
        }
    }

    fn executable(&mut self, about: &About) -> Option<PathBuf> {
        let search = Search::for_snapshot(&self.directory.join("snapshot"));
        search.find(ModuleHash(about.module), &about.name, self.arch).ok()
    }

    fn admit(&mut self, about: &About, executable: &Path) -> Result<(), String> {
        match kind(executable) {
            Kind::Program(header) if header.module != ModuleHash(about.module) => Err("it is another program".into()),
            Kind::Program(header) if header.arch != self.arch => Err(format!("it is for {}", header.arch)),
            Kind::Program(header) if !header.migratable => Err("it was built with --no-migration".into()),
            Kind::Program(_) => verify(executable),
            Kind::Other => Err("it is no program built by `dunlin build`".into()),
            Kind::Unusable(why) => Err(why),
        }
    }

    fn check(&mut self, _: &About, executable: &Path, snapshot: &Path) -> Result<(), String> {
        let options = Options {
            resume: Some(snapshot.to_owned()),
            check: true,
            ..self.options.clone()
        };
        let output = self.command(executable, &options).output().map_err(|e| e.to_string())?;
        let findings = crate::findings::told(&output)?;
        match findings.is_empty() {
            true => Ok(()),
            false => {
                let all: Vec<String> = findings.iter().map(|f| f.to_string()).collect();
                Err(all.join("; "))
            }
        }
    }

    fn start(&mut self, about: &About, executable: &Path, place: &Place) -> Result<Started, String> {
        let (log, output) = self
            .log(&about.name, place)
            .map_err(|e| format!("the file for its output can't be made: {e}"))?;
        let (pid, started) = self.spawn(executable, place, output).map_err(|e| e.to_string())?;
        match started {
            true => Ok(Started { pid, log }),
            false => {
                let mut said = String::new();
                let _ = File::open(&log).map(|file| file.take(MOST_SAID).read_to_string(&mut said));
                let _ = fs::remove_file(&log);
                Err(match said.trim() {
                    "" => "it ended before it went on".into(),
                    said => show::clean(said.strip_prefix("Error: ").unwrap_or(said)),
                })
            }
        }
    }

    fn keep(&mut self, about: &About, executable: &Path) {
        // It saves sending it again, no more.
        if let Ok(bytes) = fs::read(executable) {
            let _ = cache::keep(ModuleHash(about.module), self.arch, &bytes);
        }
    }

    fn tell(&mut self, about: &str, report: &str) {
        let about = match about {
            "" => String::new(),
            name => format!("{}: ", show::clean(name)),
        };
        show::complain(&format!("dunlin receive: {about}{}", show::clean(report)));
    }
}

/// Waits until a started program goes on (true) or its process ends (false); `None` if neither happens for
/// [`MOST_STARTING`].
fn wait_for_byte(started: &mut io::PipeReader) -> io::Result<Option<bool>> {
    let deadline = Instant::now() + MOST_STARTING;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let time = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(started, PollFlags::IN)];
        match poll(&mut fds, Some(&time)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        match started.read(&mut [0]) {
            Ok(n) => return Ok(Some(n == 1)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// What tells a program's process whom to tell that it goes on.
fn started_variable(tell: &io::PipeWriter, place: &Place) -> io::Result<String> {
    let path = place.file(STARTED);
    let path = path
        .to_str()
        .ok_or_else(|| io::Error::other("the directory's name is not UTF-8"))?;
    Ok(format!("{}:{path}", tell.as_raw_fd()))
}

impl Machine {
    /// Starts a program, and waits until it goes on or ends; tells which.
    fn spawn(&self, executable: &Path, place: &Place, output: File) -> io::Result<(u32, bool)> {
        let options = Options {
            resume: Some(place.file(STATE)),
            ..self.options.clone()
        };
        let running = File::create(place.file(RUNNING))?;
        flock(&running, FlockOperation::NonBlockingLockExclusive)?;
        remove_if_there(&place.file(STARTED))?;
        let (mut started, tell) = io::pipe()?;
        // Only these two are the program's.
        fcntl_setfd(&running, FdFlags::empty())?;
        fcntl_setfd(&tell, FdFlags::empty())?;
        let mut child = self
            .command(executable, &options)
            .env("DUNLIN_STARTED", started_variable(&tell, place)?)
            .stdout(output.try_clone()?)
            .stderr(output)
            // What interrupts this command is not meant for the program.
            .process_group(0)
            .spawn()?;
        drop((tell, running));
        // So that a move onwards knows the transfer that brought it. It runs all the same if that can't be written.
        if let Err(e) = fs::write(place.file(RUNNING), child.id().to_string()) {
            show::complain(&format!("dunlin receive: process {}: {e}", child.id()));
        }
        // Only what it says itself counts: after an error, it is ended before anyone says that it doesn't run.
        let goes_on = wait_for_byte(&mut started).unwrap_or(None).unwrap_or_else(|| {
            let _ = child.kill();
            let _ = child.wait();
            matches!(wait_for_byte(&mut started), Ok(Some(true)))
        });
        if !goes_on {
            child.wait()?;
        }
        Ok((child.id(), goes_on))
    }
}
