//! The order of things: from the process's start to the program's, and from the program's end to the exit code.

use crate::checkpoint_on::{self, Found};
use crate::control::Control;
use crate::exit::{BAD_SNAPSHOT, CHECKPOINTED, Ending, FAILED, Failure, NO_PROGRAM, TRAPPED, USAGE};
use crate::force::{FORCE_VARIABLE, STOP_VARIABLE, Ticks};
use crate::instance::{Instance, InstanceError, Limits};
use crate::instantiate::instantiate;
use crate::options::{OptionError, Options};
use crate::program::{Program, ProgramError};
use crate::resume::{self, ResumeError};
use crate::running::{Running, Setup};
use crate::shared::Shared;
use crate::trap;
use crate::wasi::Wasi;
use dunlin_migrate::control::Info;
use std::io::Write;
use std::path::Path;

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

/// Tells the user something, in one write.
pub(crate) fn complain(message: &str) {
    // If standard error is gone, nobody listens.
    let _ = std::io::stderr().write_all(format!("Error: {message}\n").as_bytes());
}

impl From<ProgramError> for Failure {
    fn from(e: ProgramError) -> Failure {
        Failure::new(NO_PROGRAM, e)
    }
}

impl From<OptionError> for Failure {
    fn from(e: OptionError) -> Failure {
        Failure::new(USAGE, e)
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
    let options = Options::from_env()?;
    let ticks = Ticks::from_env()?;
    check(program, &options, &ticks)?;
    let name = &program.module.name;
    let config = options.wasi_config(name, std::env::args_os().skip(1))?;
    let limits = Limits::new(&options);
    let system = |doing: &'static str| move |e: std::io::Error| Failure::new(FAILED, format!("cannot {doing}: {e}"));
    let shared: &'static Shared = Box::leak(Box::new(Shared::new().map_err(system("create an eventfd"))?));
    trap::install(program).map_err(system("install signal handlers"))?;
    let found = checkpoint_on::find(&options).map_err(|(path, e)| refused(&path, &e))?;
    let setup = Setup {
        config,
        limits,
        checkpoint_to: options.checkpoint_to.clone(),
    };
    let run = Run {
        program,
        options,
        setup,
        shared,
        ticks,
    };
    let (ending, own) = match found {
        Some(found) => {
            let own = found.own.then(|| found.path.clone());
            (run.resumed(found)?, own)
        }
        None => (run.fresh()?, None),
    };
    if let Some(path) = own
        && matches!(ending, Ending::Returned | Ending::Exited(_))
    {
        // Started again, the program must begin anew.
        let _ = std::fs::remove_file(path);
    }
    Ok(report(name, ending))
}

/// Refuses options that this program can't be run with.
fn check(program: &Program, options: &Options, ticks: &Ticks) -> Result<(), Failure> {
    if ticks.every_point() && !program.image().migratable() {
        let message =
            format!("{FORCE_VARIABLE}, {STOP_VARIABLE}: the program was built with --no-migration; build it again without");
        return Err(Failure::new(USAGE, message));
    }
    let Some(to) = &options.checkpoint_to else {
        return match ticks.stops() {
            true => Err(Failure::new(USAGE, format!("{STOP_VARIABLE} needs --checkpoint-to too"))),
            false => Ok(()),
        };
    };
    if options.checkpoint_on.is_empty() && !ticks.stops() {
        return Err(OptionError::Needs("checkpoint-to", "checkpoint-on").into());
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
fn refused(path: &Path, why: &ResumeError) -> Failure {
    let code = match why {
        ResumeError::Instance(_) => FAILED,
        ResumeError::Wasi(e) => e.exit_code(),
        _ => BAD_SNAPSHOT,
    };
    Failure::new(code, format!("cannot resume from {}: {why}", path.display()))
}

/// A run, before there is a program at rest.
struct Run {
    program: &'static Program,
    options: Options,
    setup: Setup,
    shared: &'static Shared,
    ticks: Ticks,
}

impl Run {
    /// Runs the program from its beginning.
    fn fresh(self) -> Result<Ending, Failure> {
        let wasi = Wasi::new(&self.setup.config).map_err(|e| Failure::new(USAGE, e))?;
        let instance = Instance::new(self.program, &self.setup.limits)?;
        let mut running = Running::new(instance, wasi, self.setup, self.shared, self.ticks);
        if self.options.commands {
            return Ok(running.serve_commands(std::io::stdin().lock(), std::io::stdout().lock()));
        }
        if let Err(trap) = instantiate(&mut running.instance) {
            return Ok(Ending::Trapped {
                message: trap.message().into(),
                backtrace: String::new(),
            });
        }
        let _control = serve(&self.options, &running, running.setup.config.args.clone())?;
        Ok(running.run(self.options.invoke.as_deref()))
    }

    /// Runs the program from where a snapshot stands.
    fn resumed(self, found: Found) -> Result<Ending, Failure> {
        let Found { path, snapshot, own } = found;
        let refused = |e: ResumeError| refused(&path, &e);
        // Whose snapshot it is comes first: another program's arguments don't matter.
        resume::check_program(self.program, snapshot.header().module).map_err(refused)?;
        let given = self.setup.config.args.get(1..).unwrap_or_default();
        if own || !given.is_empty() {
            resume::check_args(&snapshot.state().wasi.args, given).map_err(refused)?;
        }
        let shell = resume::shell(self.program, &self.setup.limits)?;
        let restored = resume::restore(shell, &snapshot, &self.setup.config).map_err(refused)?;
        drop(snapshot);
        for warning in restored.wasi.warnings() {
            let _ = std::io::stderr().write_all(format!("Warning: {warning}\n").as_bytes());
        }
        let mut running = Running::new(restored.instance, restored.wasi, self.setup, self.shared, self.ticks);
        running.invocation = restored.invocation;
        let _control = serve(&self.options, &running, restored.args)?;
        Ok(running.go_on(restored.import, self.options.invoke.as_deref()))
    }
}

/// Makes the program reachable: by signals, and by the control socket.
fn serve(options: &Options, running: &Running, args: Vec<String>) -> Result<Option<Control>, Failure> {
    let program = running.instance.program;
    let image = program.image();
    running.shared.set_info(Info {
        pid: std::process::id(),
        name: program.module.name.clone(),
        module: image.module_hash().to_string(),
        arch: image.arch().name().into(),
        args,
        uptime_seconds: 0,
        memory_bytes: 0,
        migratable: image.migratable(),
    });
    checkpoint_on::install(options, running.shared).map_err(|e| Failure::new(FAILED, format!("cannot handle signals: {e}")))?;
    // Without it the program can't be reached from outside; it runs all the same.
    Ok(if options.no_control {
        None
    } else {
        Control::start(running.shared).ok()
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
