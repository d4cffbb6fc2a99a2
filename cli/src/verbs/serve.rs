//! `dunlin serve`: lets programs come from paired devices.

use crate::failure::{Failure, Outcome, could_not, usage};
use crate::moving::devices::Devices;
use crate::moving::machine::emulator;
use crate::options::HostOptions;
use crate::serving::admission::{Admission, Rules};
use crate::serving::configuration::{Configuration, Executables, size};
use crate::serving::programs::Programs;
use crate::serving::server::{Receiving, Server, listen};
use crate::show;
use crate::verbs::settle;
use clap::Args;
use dunlin_interface::options::{OPTS_VARIABLE, Options};
use dunlin_transfer::records::Shelf;
use dunlin_trust::pairing::About;
use rustix::fs::{FlockOperation, flock};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

/// What is held while `dunlin serve` runs, in the directory of the user's state.
const LOCK: &str = "serve.lock";

/// Programs at the same time, unless it is said otherwise.
const MAX_PROGRAMS: u64 = 64;

/// Bytes of a module or executable, unless it is said otherwise.
const MAX_EXECUTABLE: u64 = 256 << 20;

/// Bytes of a program's state, unless it is said otherwise.
const MAX_STATE: u64 = 16 << 30;

/// Connections of paired devices, unless it is said otherwise.
const MAX_CONNECTIONS: u64 = 64;

/// Lets programs come to this device from those that it is paired with (`dunlin pair`)
///
/// `dunlin migrate PID HOST` moves them here. They run on when this command ends. What is given here goes before what
/// $XDG_CONFIG_HOME/dunlin/serve.toml (~/.config/dunlin/serve.toml) says; of what may be given several times, such as
/// --dir, both count. Whoever is not paired hears nothing.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Listen there, on all of them if given several times [default: [::]:7746]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Another configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which executables run: what this device compiles itself, or also those that paired ones send
    /// [default: compiled-here]
    #[arg(long, value_enum)]
    executables: Option<Executables>,
    /// Programs that run at the same time [default: 64]
    #[arg(long, value_name = "N")]
    max_programs: Option<u64>,
    /// Memory of all programs together; each has --max-memory then
    #[arg(long, value_name = "BYTES", value_parser = size)]
    total_memory: Option<u64>,
    /// Bytes of a module or executable that comes [default: 256M]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    max_executable: Option<u64>,
    /// Bytes of a program's state that comes [default: 16G]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    max_state: Option<u64>,
    /// Connections of paired devices at the same time [default: 64]
    #[arg(long, value_name = "N")]
    max_connections: Option<u64>,
    /// Run programs built for another architecture, by this command
    #[arg(long, value_name = "ARCH=COMMAND")]
    emulator: Option<String>,
    #[command(flatten)]
    options: HostOptions,
}

impl Serve {
    /// What is configured, under what is given here.
    fn over(&self, file: Configuration) -> Configuration {
        Configuration {
            listen: match self.listen.is_empty() {
                true => file.listen,
                false => self.listen.clone(),
            },
            name: file.name,
            executables: self.executables.or(file.executables),
            max_programs: self.max_programs.or(file.max_programs),
            total_memory: self.total_memory.or(file.total_memory),
            max_executable: self.max_executable.or(file.max_executable),
            max_state: self.max_state.or(file.max_state),
            max_connections: self.max_connections.or(file.max_connections),
            emulator: self.emulator.clone().or(file.emulator),
            programs: file.programs.into_iter().chain(self.options.words()).collect(),
        }
    }
}

/// What this device says of itself when it is paired.
pub(crate) fn about(configuration: &Configuration) -> About {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let port = configuration.addresses().first().map_or(0, SocketAddr::port);
    About {
        name: configuration.name.clone().unwrap_or_else(host),
        port,
    }
}

/// The port of the `dunlin serve` that runs, if it has told it.
pub(crate) fn port_of_running(state: &Path) -> Option<u16> {
    std::fs::read_to_string(state.join(LOCK)).ok()?.trim().parse().ok()
}

/// Holds the place of the one `dunlin serve` of a user; `None` if there is one already.
pub(crate) fn lock(state: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600);
    let file = file.open(state.join(LOCK))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What can be read from when the process is asked to end.
pub(crate) fn asked_to_end() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

/// Runs the verb.
pub(crate) fn run(args: &Serve) -> Outcome {
    let doing = "serve";
    let fail = |e: io::Error| could_not(format!("{doing}: {e}"));
    let configuration = Configuration::read(args.config.as_deref());
    let configuration = args.over(configuration.map_err(|why| usage(format!("{doing}: {why}")))?);
    let rules = Arc::new(rules(&configuration, doing)?);
    let shelf = Shelf::of_user().map_err(fail)?;
    let state = shelf.directory().to_owned();
    let Some(mut lock) = lock(&state).map_err(fail)? else {
        return Err(could_not(format!("{doing}: it runs already")));
    };
    let devices = Devices::open(&state).map_err(fail)?;
    let programs = Arc::new(Programs::open(&state).map_err(fail)?);
    let stop = asked_to_end().map_err(fail)?;
    let listeners = listen(&configuration.addresses()).map_err(|why| could_not(format!("{doing}: {why}")))?;
    let mut about = about(&configuration);
    if let Some(address) = listeners.first().and_then(|l| l.local_addr().ok()) {
        about.port = address.port();
    }
    lock.set_len(0)
        .and_then(|()| writeln!(lock, "{}", about.port))
        .map_err(fail)?;
    if Admission::new(&rules, &programs, &shelf, None).is_none() {
        return Err(could_not(format!(
            "{doing}: this machine is neither x86_64 nor aarch64"
        )));
    }
    tell(&listeners);
    let (settling, kept) = (rules.clone(), programs.clone());
    // Other devices may have to be reached for that, which takes its time.
    thread::Builder::new()
        .name("dunlin-settle".into())
        .spawn(move || settle_what_is_left(&settling, &kept))
        .map_err(fail)?;
    let most = |given: Option<u64>, default| usize::try_from(given.unwrap_or(default)).unwrap_or(usize::MAX);
    let receiving = Receiving {
        shelf,
        rules,
        programs,
        max_connections: most(configuration.max_connections, MAX_CONNECTIONS),
    };
    let server = Server::new(devices, about, Some(receiving));
    server.accept(&listeners, &stop, &mut || false).map_err(fail)?;
    // Asked to end: nothing more is accepted, transfers that may have changed hands end, programs run on.
    drop(listeners);
    server.end();
    Ok(())
}

fn rules(configuration: &Configuration, doing: &str) -> Result<Rules, Failure> {
    let before = std::env::var_os(OPTS_VARIABLE).unwrap_or_default();
    let options = Options::parse(&before, configuration.programs.clone());
    let options = options.map_err(|e| usage(format!("{doing}: {e}")))?;
    let emulator = configuration.emulator.as_deref().map(emulator).transpose();
    let emulator = emulator.map_err(|why| usage(format!("{doing}: emulator: {why}")))?;
    if configuration.total_memory.is_some() && options.max_memory.is_none() {
        let why = "total-memory needs max-memory: what each program may take of it";
        return Err(usage(format!("{doing}: {why}")));
    }
    let most = configuration.max_programs.unwrap_or(MAX_PROGRAMS);
    Ok(Rules {
        options,
        emulator,
        executables: configuration.executables.unwrap_or_default(),
        max_programs: usize::try_from(most).unwrap_or(usize::MAX),
        total_memory: configuration.total_memory,
        max_executable: configuration.max_executable.unwrap_or(MAX_EXECUTABLE),
        max_state: configuration.max_state.unwrap_or(MAX_STATE),
    })
}

fn tell(listeners: &[TcpListener]) {
    for address in listeners.iter().filter_map(|l| l.local_addr().ok()) {
        show::complain(&format!("dunlin serve: listening on {address}"));
    }
}

/// Does what `dunlin settle` does, but for what a person must answer for.
fn settle_what_is_left(rules: &Arc<Rules>, programs: &Arc<Programs>) {
    let settled = Shelf::of_user().and_then(|shelf| {
        let all = shelf.list()?;
        let mut host = Admission::new(rules, programs, &shelf, None);
        let host = host.as_mut().ok_or_else(|| io::Error::other("unknown machine"))?;
        for (attempt, text, _) in settle::each(&shelf, all, None, host) {
            show::complain(&format!("dunlin serve: {attempt}: {}", show::clean(&text)));
        }
        Ok(())
    });
    if let Err(e) = settled {
        show::complain(&format!("dunlin serve: what is left of moves can't be settled: {e}"));
    }
}
