//! This machine as one that programs come to: what it allows, and how it checks and starts them.

use crate::find::cache;
use crate::find::executables::{Kind, kind, verify};
use crate::find::search::Search;
use crate::findings::here;
use crate::make::apart;
use crate::moving::process::{self, Process};
use crate::moving::standby::Standby;
use crate::show;
use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use dunlin_interface::options::{OPTS_VARIABLE, Options};
use dunlin_migrate::preflight::Finding;
use dunlin_transfer::receiver::{Host, Started};
use dunlin_transfer::records::{Place, STARTED, STATE, Shelf, round_file};
use dunlin_transfer::wire::{About, Terms};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes of a program's own messages that are told on if it doesn't start.
const MOST_SAID: u64 = 4096;

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
    pub arch: Arch,
    /// What runs executables of that architecture, if the machine itself does not.
    emulator: Vec<String>,
    directory: PathBuf,
    /// What was started ahead of its state.
    standby: Option<Standby>,
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
            standby: None,
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
        command.env(OPTS_VARIABLE, options.to_opts_string());
        if self.log_limit > 0 {
            command.env("DUNLIN_LOG_LIMIT", self.log_limit.to_string());
        }
        command
    }

    /// The process that waits for what comes to a place; started, if there is none. `None` if it can't be.
    fn standby_for(&mut self, executable: &Path, place: &Path) -> Option<&mut Standby> {
        if self.standby.as_ref().is_none_or(|s| !s.is_for(place)) {
            // The other one's transfer is not worked at any more.
            self.standby = None;
            let options = Options {
                standby: true,
                ..self.options.clone()
            };
            self.standby = Standby::start(self.command(executable, &options), place).ok();
        }
        self.standby.as_mut()
    }

    /// Asks a process of its own whether the program would go on.
    fn check_plainly(&self, executable: &Path, snapshot: &Path) -> Result<(), String> {
        let options = Options {
            resume: Some(snapshot.to_owned()),
            check: true,
            ..self.options.clone()
        };
        let output = process::output(self.command(executable, &options)).map_err(|e| e.to_string())?;
        let findings = crate::findings::told(&output)?;
        match findings.is_empty() {
            true => Ok(()),
            false => {
                let all: Vec<String> = findings.iter().map(|f| f.to_string()).collect();
                Err(all.join("; "))
            }
        }
    }

    /// Where a program's output goes.
    fn log(&self, name: &str, place: &Place) -> io::Result<PathBuf> {
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
        Ok(directory.join(format!("{plain}-{attempt}.log")))
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
            takes_executables: true,
            findings: findings.into_iter().map(|f| (f.kind, f.what, f.fix)).collect(),
        }
    }

    fn executable(&mut self, about: &About) -> Option<PathBuf> {
        let search = Search::for_snapshot(&self.directory.join("snapshot"));
        search.find(ModuleHash(about.module), &about.name, self.arch).ok()
    }

    fn compile(&mut self, about: &About, module: &Path, executable: &Path) -> Result<(), String> {
        let hash = ModuleHash(about.module);
        let bytes = apart::compile(module, hash, &about.name, self.arch, executable)?;
        // For a move onwards.
        let _ = cache::keep_module(hash, &bytes);
        Ok(())
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

    fn expect(&mut self, _: &About, executable: &Path, place: &Place) {
        self.standby_for(executable, place.path());
    }

    fn round(&mut self, _: &About, executable: &Path, place: &Place, number: u32) {
        let path = place.file(&round_file(number));
        if let Some(standby) = self.standby_for(executable, place.path())
            && standby.round(path).is_err()
        {
            // What is the matter shows when the state has come.
            self.standby = None;
        }
    }

    fn forget(&mut self) {
        self.standby = None;
    }

    fn check(&mut self, about: &About, executable: &Path, snapshot: &Path) -> Result<(), String> {
        let place = snapshot.parent().unwrap_or(Path::new("/"));
        let refused = match self.standby_for(executable, place) {
            Some(standby) => match standby.state(snapshot.to_owned()) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
            None => String::new(),
        };
        // It has memory that the program needs.
        self.standby = None;
        self.check_plainly(executable, snapshot)?;
        if !refused.is_empty() {
            self.tell(&about.name, &format!("it is not started ahead: {refused}"));
        }
        Ok(())
    }
    fn start(&mut self, about: &About, executable: &Path, place: &Place) -> Result<Started, String> {
        let made = |e: io::Error| format!("the file for its output can't be made: {e}");
        let log = self.log(&about.name, place).map_err(made)?;
        if let Some(standby) = self.standby.take().filter(|s| s.is_ready_for(place.path())) {
            match standby.go(&log) {
                Ok(Some(pid)) => return Ok(Started { pid, log }),
                // Its process has ended. If nothing has run, it may be started anew.
                Ok(None) | Err(_) => match place.has(STARTED) {
                    Ok(false) => {}
                    Ok(true) => return Err("it ended as soon as it went on".into()),
                    Err(e) => return Err(e.to_string()),
                },
            }
        }
        let output = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
        let options = Options {
            resume: Some(place.file(STATE)),
            ..self.options.clone()
        };
        let command = self.command(executable, &options);
        let process = Process::start(command, Stdio::null(), place.path(), output.map_err(made)?);
        let mut process = process.map_err(|e| e.to_string())?;
        match process.goes_on().map_err(|e| e.to_string())? {
            true => Ok(Started { pid: process.id(), log }),
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
