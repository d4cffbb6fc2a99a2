//! The order of things: from the process's start to the program's, and from the program's end to the exit code.

mod standby;

use crate::engine;
use crate::engine::running::{Running, Setup};
use crate::instance::instantiate::instantiate;
use crate::instance::{InstanceError, Limits};
use crate::journal::{self, BackError, Lineage};
use crate::moving::ahead::Come;
use crate::moving::obstacles;
use crate::moving::pages::{self, FilePages};
use crate::moving::resume::{self, Restored, ResumeError};
use crate::moving::rollback::{self, Rollback};
use crate::os::messages::{complain, warn};
use crate::os::{signals, started, unverified};
use crate::program::{Program, ProgramError};
use crate::requests::checkpoint_on::{self, Candidates};
use crate::requests::control::Control;
use crate::requests::evacuate::Evacuation;
use crate::requests::inbox::Shared;
use crate::requests::moved::Mark;
use crate::requests::own_file::OwnFile;
use crate::requests::periodic::Saver;
use crate::requests::serve::{CheckpointTo, Requests};
use crate::testing::force::{FORCE_VARIABLE, STOP_VARIABLE, Ticks};
use crate::wasi::Wasi;
use dunlin_interface::exit::{BAD_SNAPSHOT, CHECKPOINTED, Ending, FAILED, Failure, NO_PROGRAM, TRAPPED, USAGE};
use dunlin_interface::machine;
use dunlin_interface::options::{OptionError, Options};
use dunlin_migrate::control::Info;
use dunlin_migrate::preflight::{Finding, Needs, Target};
use dunlin_migrate::printable;
use dunlin_migrate::snapshot::{Snapshot, Stored};
use dunlin_migrate::state::State;
use dunlin_migrate::store::{self, DEFAULT_KEEP, ENDED, Store};
use standby::Arrived;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs this executable's program; returns the exit code of the process.
pub fn main() -> i32 {
    match run() {
        Ok(code) => code,
        Err(Failure { code, message }) => {
            complain(&message);
            code
        }
    }
}

impl From<ProgramError> for Failure {
    fn from(e: ProgramError) -> Failure {
        Failure::new(NO_PROGRAM, e)
    }
}

impl From<InstanceError> for Failure {
    fn from(e: InstanceError) -> Failure {
        Failure::new(FAILED, e)
    }
}

fn run() -> Result<i32, Failure> {
    // Everything the program needs lives as long as the process.
    let program: &'static Program = Box::leak(Box::new(Program::load()?));
    let mut options = Options::from_env()?;
    let ticks = Ticks::from_env()?;
    check(program, &options, &ticks)?;
    let name = &program.module.name;
    let config = options.wasi_config(name, std::env::args_os().skip(1))?;
    let limits = Limits::new(&options);
    let system = |doing: &'static str| move |e: std::io::Error| Failure::new(FAILED, format!("cannot {doing}: {e}"));
    let shared: &'static Shared = Box::leak(Box::new(Shared::new().map_err(system("create an eventfd"))?));
    engine::prepare(program).map_err(system("install signal handlers"))?;
    signals::ignore_file_size_limit().map_err(system("ignore a signal"))?;
    let setup = Setup { config, limits };
    let arrived = match options.standby {
        true => match standby::wait(program, &setup)? {
            Some(arrived) => Some(arrived),
            None => return Ok(0),
        },
        false => None,
    };
    if let Some(arrived) = &arrived {
        options.resume = Some(arrived.path.clone());
    }
    refuse_ended(program, &options)?;
    Mark::refuse(&options).map_err(|e| Failure::new(USAGE, e))?;
    let evacuation = Evacuation::new(&options, shared).map(|e| &*Box::leak(Box::new(e)));
    let store = open_store(&options)?;
    let own_file = OwnFile::take(&options)
        .map_err(|e| Failure::new(USAGE, e))?
        .map(Arc::new);
    let found = checkpoint_on::find(&options).map_err(|e| no_snapshot(&options, &e))?;
    let checkpoint_to = own_file.clone().map(CheckpointTo::File);
    let beside = match &store {
        None => found.as_ref().and_then(|found| journals_beside(&options, found)),
        Some(_) => None,
    };
    let run = Run {
        arrived,
        program,
        options,
        setup,
        shared,
        ticks,
        checkpoint_to,
        evacuation,
        store,
        beside,
    };
    if run.options.check {
        return Ok(found.map_or(0, |found| run.check(&found)));
    }
    let own = own_file.filter(|_| found.as_ref().is_some_and(|f| f.own));
    let (ending, saver) = match found {
        Some(found) => run.resumed(found)?,
        None => run.fresh()?,
    };
    if let Some(evacuation) = evacuation {
        evacuation.over();
    }
    // Started again, the program must begin anew; after a failure it goes on from its snapshot.
    let by_itself = matches!(ending, Ending::Returned | Ending::Exited(0));
    if let Some(saver) = saver {
        saver.stop(program.image().module_hash(), by_itself);
    } else if let Some(own) = own
        && by_itself
    {
        own.remove();
    }
    Ok(report(name, ending))
}

/// Takes the directory for periodic snapshots, if there are to be any.
fn open_store(options: &Options) -> Result<Option<Store>, Failure> {
    match (&options.checkpoint_to, options.checkpoint_every) {
        (Some(directory), Some(_)) if !options.check => {
            let keep = options.keep.unwrap_or(DEFAULT_KEEP);
            Store::open(directory, keep)
                .map(Some)
                .map_err(|e| Failure::new(USAGE, format!("--checkpoint-to: {e}")))
        }
        _ => Ok(None),
    }
}

/// Takes the directory of a snapshot that the program goes on from and that has an undo journal, as one of a program
/// with periodic snapshots has: files go back to that one, too. `None` if someone else has it: a program that still
/// runs.
fn journals_beside(options: &Options, found: &Candidates) -> Option<Store> {
    if options.no_rollback || options.check || options.dirs.is_empty() {
        return None;
    }
    let parent = found.paths.first()?.parent()?;
    let directory = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    match journal::back::any(directory) {
        true => Store::open(directory, DEFAULT_KEEP).ok(),
        false => None,
    }
}

/// Refuses `--resume-latest DIR` where the program has ended, and was killed while it removed its snapshots.
fn refuse_ended(program: &Program, options: &Options) -> Result<(), Failure> {
    let Some(directory) = &options.resume_latest else {
        return Ok(());
    };
    match store::has_ended(directory, Some(program.image().module_hash())) {
        Ok(false) => Ok(()),
        Ok(true) => Err(no_snapshot(options, &ENDED)),
        Err(e) => Err(no_snapshot(options, &e)),
    }
}

/// A place where there should be a snapshot, and is none.
fn no_snapshot(options: &Options, why: &dyn std::fmt::Display) -> Failure {
    let place = options.resume.as_ref().or(options.resume_latest.as_ref());
    let place = place.or(options.checkpoint_to.as_ref());
    let place = place.map(|p| p.display().to_string()).unwrap_or_default();
    Failure::new(BAD_SNAPSHOT, format!("cannot resume from {place}: {why}"))
}

/// Refuses options that this program can't be run with.
fn check(program: &Program, options: &Options, ticks: &Ticks) -> Result<(), Failure> {
    if ticks.every_point() && !program.image().migratable() {
        let message = format!(
            "{FORCE_VARIABLE}, {STOP_VARIABLE}: the program was built with --no-migration; build it again without"
        );
        return Err(Failure::new(USAGE, message));
    }
    let Some(to) = &options.checkpoint_to else {
        return match ticks.stops() {
            true => Err(Failure::new(
                USAGE,
                format!("{STOP_VARIABLE} does nothing alone: add --checkpoint-to FILE"),
            )),
            false => Ok(()),
        };
    };
    if options.signals().is_empty() && options.checkpoint_every.is_none() && !ticks.stops() {
        return Err(OptionError::Needs("checkpoint-to", "checkpoint-on SIGNAL or --checkpoint-every TIME").into());
    }
    if !program.image().migratable() {
        return Err(Failure::new(
            USAGE,
            "--checkpoint-to: the program was built with --no-migration; build it again without",
        ));
    }
    let directory = match to.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        return Err(Failure::new(
            USAGE,
            format!(
                "--checkpoint-to {}: there is no directory {}",
                to.display(),
                directory.display()
            ),
        ));
    }
    Ok(())
}

/// A snapshot that the program can't go on from.
fn refused(path: &Path, why: &ResumeError, all: &[Finding]) -> Failure {
    let code = match why {
        ResumeError::Instance(_) => FAILED,
        ResumeError::Wasi(e) => e.exit_code(),
        _ => BAD_SNAPSHOT,
    };
    // What it was refused for comes first, if looking for all that is wrong has not found it again.
    let mut own = obstacles::of_refusal(why);
    own.retain(|f| all.iter().all(|other| other.what != f.what));
    let all = &[&own[..], all].concat()[..];
    let message = match all {
        [_, _, ..] => all
            .iter()
            .fold(format!("cannot resume from {}:", path.display()), |text, f| {
                format!("{text}\n  {}; {}", f.what, f.fix)
            }),
        _ => format!("cannot resume from {}: {why}", path.display()),
    };
    Failure::new(code, message)
}

/// A run, before there is a program at rest.
struct Run {
    /// The program, if this process has waited for it.
    arrived: Option<Arrived>,
    program: &'static Program,
    options: Options,
    setup: Setup,
    shared: &'static Shared,
    ticks: Ticks,
    checkpoint_to: Option<CheckpointTo>,
    evacuation: Option<&'static Evacuation>,
    store: Option<Store>,
    /// Where journals lie, if not there.
    beside: Option<Store>,
}

/// How the program's changes of files are recorded, if they are, and whether all of its files have been taken back.
type Recording = Option<(Rollback, Lineage, bool)>;

/// How a program ended, and the writer of its periodic snapshots, which is to be stopped.
type Ended = (Ending, Option<&'static Saver>);

impl Run {
    /// Runs the program from its beginning.
    fn fresh(mut self) -> Result<Ended, Failure> {
        let lineage = self.go_back(rollback::From::Beginning)?;
        let mut wasi = Wasi::new(&self.setup.config).map_err(|e| Failure::new(USAGE, e))?;
        if let Some((rollback, lineage, _)) = lineage {
            rollback.record(lineage, &mut wasi)?;
        }
        let instance = engine::new_instance(self.program, &self.setup.limits)?;
        let saver = self.saver(None, 0)?;
        let requests = Box::new(Requests::new(
            self.shared,
            self.checkpoint_to,
            self.options.checkpoint_to.as_deref().map(Mark::beside),
            self.evacuation,
            self.ticks,
        ));
        let mut running = Running::new(instance, wasi, self.setup, &self.shared.wake, requests);
        if self.options.commands {
            running.host_calls = self.options.host_calls.then(String::new);
            return Ok((
                running.serve_commands(std::io::stdin().lock(), std::io::stdout().lock()),
                None,
            ));
        }
        if let Err(trap) = instantiate(&mut running.instance) {
            let trapped = Ending::Trapped {
                message: trap.message().into(),
                backtrace: String::new(),
            };
            return Ok((trapped, saver));
        }
        let _control = serve(&self.options, &running, self.shared, running.setup.config.args.clone())?;
        Ok((running.run(self.options.invoke.as_deref()), saver))
    }

    /// Runs the program from where a snapshot stands.
    fn resumed(mut self, found: Candidates) -> Result<Ended, Failure> {
        let (path, mut restored, lineage) = self.restore(&found)?;
        let least = lineage.as_ref().map_or(0, |(_, lineage, _)| lineage.number + 1);
        if let Some((rollback, lineage, _)) = lineage {
            rollback.record(lineage, &mut restored.wasi)?;
        }
        for warning in restored.wasi.warnings() {
            warn(warning);
        }
        let saver = self.saver(Some(&path), least)?;
        let requests = Box::new(Requests::new(
            self.shared,
            self.checkpoint_to,
            self.options.checkpoint_to.as_deref().map(Mark::beside),
            self.evacuation,
            self.ticks,
        ));
        let mut running = Running::new(
            restored.instance,
            restored.wasi,
            self.setup,
            &self.shared.wake,
            requests,
        );
        running.invocation = restored.invocation;
        if self.options.commands {
            running.host_calls = self.options.host_calls.then(String::new);
            let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
            return Ok((running.serve_more_commands(restored.import, input, output), None));
        }
        let _control = serve(&self.options, &running, self.shared, restored.args)?;
        started::tell().map_err(|e| Failure::new(FAILED, format!("cannot tell that the program goes on: {e}")))?;
        Ok((running.go_on(restored.import, self.options.invoke.as_deref()), saver))
    }

    /// Restores the program from the first snapshot that isn't damaged.
    fn restore(&mut self, found: &Candidates) -> Result<(PathBuf, Restored, Recording), Failure> {
        if let Some(Arrived { path, snapshot, come }) = self.arrived.take() {
            return match self.restore_arrived(&path, &snapshot, come) {
                Ok((restored, lineage)) => Ok((path, restored, lineage)),
                Err(e) => Err(refused(&path, &e, &self.obstacles(&path, false, false))),
            };
        }
        let mut damaged = Vec::new();
        let mut nowhere = None;
        for path in &found.paths {
            match self.restore_from(path, found) {
                Ok((restored, lineage)) => return Ok((path.clone(), restored, lineage)),
                Err(ResumeError::Back(e)) => {
                    let failure = Failure::new(e.exit_code(), format!("cannot resume from {}: {e}", path.display()));
                    // Files can't be taken forward: they stand at an earlier snapshot, to which they were taken because
                    // this one was damaged.
                    let earlier = matches!(e, BackError::Missing(_)) && found.paths.len() > 1;
                    if !earlier {
                        return Err(failure);
                    }
                    nowhere.get_or_insert(failure);
                }
                Err(e) if found.paths.len() > 1 && e.is_damage() => {
                    warn(&format!("{} is skipped: {e}", path.display()));
                    damaged.push(path.display().to_string());
                }
                Err(e) => return Err(refused(path, &e, &self.obstacles(path, found.own, false))),
            }
        }
        let message = format!(
            "cannot resume: every snapshot is damaged ({}); remove them to begin anew",
            damaged.join(", ")
        );
        Err(nowhere.unwrap_or_else(|| Failure::new(BAD_SNAPSHOT, message)))
    }

    /// All that stands in the way of going on from a snapshot; with `all_pages` also what only reading
    /// every page tells, which takes as long as that takes.
    fn obstacles(&self, path: &Path, own: bool, all_pages: bool) -> Vec<Finding> {
        let snapshot = match pages::open(path) {
            Ok(snapshot) => snapshot,
            Err(e) => return obstacles::of_refusal(&e),
        };
        if let Err(e) = resume::check_program(self.program, snapshot.header().module) {
            return obstacles::of_refusal(&e);
        }
        let mut problems = Vec::new();
        let given = self.setup.config.args.get(1..).unwrap_or_default();
        if own || !given.is_empty() {
            problems.extend(resume::check_args(&snapshot.state().wasi.args, given).err());
        }
        let here = Target {
            memory_bytes: machine::memory(),
            ..Target::default()
        };
        let mut found = here.obstacles(&Needs::of_snapshot(&snapshot));
        let verify = || match all_pages {
            true => Ok(pages::verify(&snapshot)?),
            false => Ok(()),
        };
        problems.extend(resume::problems(
            self.program,
            snapshot.state().clone(),
            &Stored::of(&snapshot),
            &self.setup.limits,
            &self.setup.config,
            verify,
        ));
        found.extend(problems.iter().flat_map(obstacles::of_refusal));
        found
    }

    /// `--check`: says what stands in the way, and ends.
    fn check(&self, found: &Candidates) -> i32 {
        let findings = found
            .paths
            .first()
            .map(|path| self.obstacles(path, found.own, true))
            .unwrap_or_default();
        let message = serde_json::json!({ "findings": findings });
        // Whoever has closed standard output doesn't want it.
        let _ = writeln!(std::io::stdout(), "{}", printable::json(&message.to_string()));
        if findings.is_empty() { 0 } else { BAD_SNAPSHOT }
    }

    /// May a program go on from a snapshot before all pages are checked? Not if an earlier one would do for a damaged
    /// one, if files are put back first, or if whoever waits for its start would take that for success.
    fn may_check_late(&self, found: &Candidates, state: &State) -> bool {
        let files_stay = state.wasi.files.is_empty() && self.rollback().is_none();
        let is_tested = self.options.commands || self.ticks.every_point();
        unverified::POSSIBLE && found.paths.len() == 1 && files_stay && !started::is_awaited() && !is_tested
    }

    fn restore_from(&self, path: &Path, found: &Candidates) -> Result<(Restored, Recording), ResumeError> {
        let snapshot = pages::open(path)?;
        // Whose snapshot it is comes first: another program's arguments don't matter.
        resume::check_program(self.program, snapshot.header().module)?;
        let given = self.setup.config.args.get(1..).unwrap_or_default();
        if found.own || !given.is_empty() {
            resume::check_args(&snapshot.state().wasi.args, given)?;
        }
        let shell = resume::shell(self.program, &self.setup.limits)?;
        let mut lineage = None;
        let (state, contents) = (snapshot.state().clone(), Stored::of(&snapshot));
        let pages = match self.may_check_late(found, snapshot.state()) {
            true => FilePages::of(&snapshot).checked_late(),
            false => FilePages::of(&snapshot),
        };
        let restored = resume::restore(shell, state, pages, &contents, &self.setup.config, || {
            self.before_files(path, &snapshot, &mut lineage)
        })?;
        Ok((restored, lineage))
    }

    /// As [`Run::restore_from`], of a program that has come already, but for its files.
    fn restore_arrived(
        &self,
        path: &Path,
        snapshot: &Snapshot<File>,
        come: Come,
    ) -> Result<(Restored, Recording), ResumeError> {
        let Come { filled, leases } = come;
        let mut lineage = None;
        let restored = filled.finish(
            &Stored::of(snapshot),
            &self.setup.config,
            || self.before_files(path, snapshot, &mut lineage),
            |instance| pages::keep(leases, instance),
        )?;
        Ok((restored, lineage))
    }

    /// Takes files back to where they were at a snapshot; says whether it has done so for all of them.
    fn before_files(&self, path: &Path, snapshot: &Snapshot<File>, lineage: &mut Recording) -> Result<bool, BackError> {
        let from = self.rollback().map(|r| match r.own_number(path) {
            Some(number) => rollback::From::Own(number),
            None => rollback::From::Other(snapshot.identity()),
        });
        // Without going back, what journals say is not true any more.
        *lineage = self.go_back(from.unwrap_or(rollback::From::Beginning))?;
        Ok(lineage.as_ref().is_some_and(|(_, _, back)| *back))
    }

    /// How this run's files go back, if they do: the journals lie beside its periodic snapshots.
    fn rollback(&self) -> Option<Rollback> {
        let store = self.store.as_ref().or(self.beside.as_ref());
        let store = store.filter(|_| !self.options.no_rollback)?;
        Some(Rollback {
            directory: store.directory().to_owned(),
            module: self.program.image().module_hash(),
            durable: self.options.durable,
        })
    }

    /// Takes files back to where they were at what the program goes on from.
    fn go_back(&self, from: rollback::From) -> Result<Recording, BackError> {
        let Some(rollback) = self.rollback() else {
            if let Some(store) = &self.store {
                rollback::give_up(store.directory())?;
            }
            return Ok(None);
        };
        let (lineage, told, back) = rollback.go_back(from, &self.setup.config)?;
        told.iter().for_each(|text| warn(text));
        Ok(Some((rollback, lineage, back)))
    }

    /// Says where the program's own checkpoints go. `resumed`: what it goes on from.
    fn saver(&mut self, resumed: Option<&Path>, least: u64) -> Result<Option<&'static Saver>, Failure> {
        let (Some(store), Some(every)) = (self.store.take(), self.options.checkpoint_every) else {
            return Ok(None);
        };
        let failed = |e| Failure::new(FAILED, format!("cannot begin periodic checkpoints: {e}"));
        let saver = Saver::new(store, every, self.shared, resumed, least).map_err(failed)?;
        let saver: &'static Saver = Box::leak(Box::new(saver));
        saver.start().map_err(failed)?;
        self.checkpoint_to = Some(CheckpointTo::Directory(saver));
        Ok(Some(saver))
    }
}

/// Makes the program reachable: by signals, and by the control socket.
fn serve(
    options: &Options,
    running: &Running,
    shared: &'static Shared,
    args: Vec<String>,
) -> Result<Option<Control>, Failure> {
    let program = running.instance.program;
    let image = program.image();
    shared.set_info(Info {
        pid: std::process::id(),
        name: program.module.name.clone(),
        module: image.module_hash().to_string(),
        arch: image.arch().name().into(),
        args,
        uptime_seconds: 0,
        memory_bytes: 0,
        migratable: image.migratable(),
        periodic: None,
    });
    checkpoint_on::install(options, shared).map_err(|e| Failure::new(FAILED, format!("cannot handle signals: {e}")))?;
    // Without it the program can't be reached from outside; it runs all the same.
    Ok(if options.no_control {
        None
    } else {
        Control::start(shared).ok()
    })
}

/// Tells the user how the program ended, if that needs words; returns the exit code.
fn report(name: &str, ending: Ending) -> i32 {
    match ending {
        Ending::Returned => 0,
        // The system keeps the low 8 bits, as for any process.
        Ending::Exited(code) => code as i32,
        Ending::Checkpointed(_) => CHECKPOINTED,
        Ending::Trapped { message, backtrace } => {
            let text = match backtrace.as_str() {
                "" => format!("{name}: wasm trap: {message}"),
                lines => format!("{name}: wasm trap: {message}\nwasm backtrace:\n{}", lines.trim_end()),
            };
            complain(&text);
            TRAPPED
        }
        Ending::Failed(Failure { code, message }) => {
            complain(&message);
            code
        }
    }
}
