//! `dunlin migrate`: moves a running program to another machine.

use crate::failure::{Failure, Outcome, could_not, usage};
use crate::find;
use crate::find::executables::Kind;
use crate::find::running::{find_patiently, module};
use crate::find::search::Search;
use crate::findings::list;
use crate::moving::peer::Peer;
use crate::moving::precopy;
use crate::moving::program::Running;
use crate::moving::watch::Watch;
use crate::progress::with_bar;
use crate::show;
use clap::Args;
use dunlin_format::arch::Arch;
use dunlin_handover::{ReceiverRecord, ReceiverStage};
use dunlin_interface::exit::{CANNOT_MOVE, STANDS_STILL};
use dunlin_migrate::control::{Checked, Reply, Request};
use dunlin_migrate::preflight::Finding;
use dunlin_transfer::records::{RUNNING, Shelf, Side};
use dunlin_transfer::sender::{self, Moved, Outcome as Ended, Way};
use dunlin_transfer::wire::About;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Moves a running program to another machine, where it goes on
///
/// The other machine is a device that is paired with this one (`dunlin pair`) and on which `dunlin serve` runs, or any
/// that is reached through ssh and has `dunlin` installed. It gets the program's module, or its executable for its
/// architecture, if it has none. Its memory is sent while it runs, then what has changed meanwhile, until little is
/// left; only for that it stands still. The program never runs in two places, and is never lost: if the
/// connection breaks, it goes on here; if it breaks at the very moment at which the program changes hands, it stands
/// still, its state is kept on both machines, and `dunlin settle` finds out where it goes on.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Process id of the program, or its name if only one of that name runs (see `dunlin ps`)
    #[arg(value_name = "PID")]
    who: String,
    /// The machine: a paired device's name (`dunlin peers`) or HOST[:PORT], or ssh://[USER@]HOST[:PORT]
    #[arg(value_name = "HOST")]
    to: String,
    /// With ssh://, what the program may use there: options of `dunlin receive`, such as --dir /data
    #[arg(last = true, value_name = "OPTIONS")]
    options: Vec<String>,
    /// The program's executable for the other machine (NAME stands for NAME.ARCH)
    #[arg(long, value_name = "PROGRAM")]
    exe: Option<PathBuf>,
    /// The program's module, for a machine that compiles it itself [else looked for beside the executable]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// The remote shell, and its options
    #[arg(long, value_name = "COMMAND", default_value = "ssh")]
    rsh: String,
    /// `dunlin` on the other machine
    #[arg(long, value_name = "PATH", default_value = "dunlin")]
    remote_dunlin: String,
    #[command(flatten)]
    precopy: precopy::Wanted,
    /// Print lines of JSON: what happens, then the result ("event": "moved" or "failed")
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Migrate) -> Outcome {
    let outcome = migrate(args);
    if let (Err(failure), true) = (&outcome, args.json) {
        show::json_line(&json!({"event": "failed", "code": failure.code, "why": failure.message}));
    }
    outcome
}

fn migrate(args: &Migrate) -> Outcome {
    let doing = format!("migrate {}", show::clean(&args.who));
    let fail = |why: String| could_not(format!("{doing}: {why}"));
    let shelf = Shelf::of_user().map_err(|e| fail(e.to_string()))?;
    let (state, to) = (shelf.directory(), show::clean(&args.to));
    let peer = Peer::new(&args.to, &args.rsh, &args.remote_dunlin, &args.options, state);
    let peer = peer.map_err(|why| match args.to.starts_with("ssh://") || !args.options.is_empty() {
        true => usage(format!("{doing} to {to}: {why}")),
        false => could_not(format!("{doing} to {to}: {}", show::clean(&why))),
    })?;
    let watch = Watch::new(args.json, doing.clone()).map_err(|e| fail(e.to_string()))?;
    let (socket, info) = find_patiently(&args.who).map_err(fail)?;
    if is_arriving(&shelf, info.pid).map_err(|e| fail(e.to_string()))? {
        return Err(fail(
            "it has only just come, and that isn't over; `dunlin settle` ends it".into(),
        ));
    }
    let module = module(&info).ok_or_else(|| fail("it doesn't say which module it is".into()))?;
    let Checked { findings, needs } = match find::ask(&socket.path, &Request::Check, None) {
        Ok(Reply::Checked(checked)) => checked,
        Ok(Reply::Failed { error, .. }) => return Err(fail(show::clean(&error))),
        Ok(_) => {
            return Err(fail(
                "it answered another question; is it of another version of Dunlin?".into(),
            ));
        }
        Err(e) => return Err(fail(format!("{e}; `dunlin ps` shows whether it still runs"))),
    };
    let Some(needs) = needs.filter(|_| findings.is_empty()) else {
        return Err(in_the_way(&doing, &findings));
    };
    let precopy = args.precopy.of(&needs);
    let about = About {
        name: info.name.clone(),
        module: module.0,
        needs: json!(needs).to_string(),
    };
    let own = std::fs::read_link(format!("/proc/{}/exe", info.pid)).unwrap_or_default();
    // The one that it runs from, though its file may be gone: a program that came has no other.
    let running = PathBuf::from(format!("/proc/{}/exe", info.pid));
    let is_running = |arch: Arch| match find::executables::kind(&running) {
        Kind::Program(header) => header.module == module && header.arch == arch && header.migratable,
        Kind::Other | Kind::Unusable(_) => false,
    };
    let executable = |arch: Arch| {
        let found = executable(args.exe.as_deref(), &own, module, &info.name, arch);
        found.or_else(|why| match args.exe.is_none() && is_running(arch) {
            true => Ok(running.clone()),
            false => Err(why),
        })
    };
    let described = serde_json::to_string(&peer).map_err(|e| fail(e.to_string()))?;
    let mut program = Running::new(socket.path.clone(), peer.address());
    let mut way = Way {
        connect: &mut || peer.connect(state),
        executable: &executable,
        precopy: precopy.as_ref(),
        module: &|| find::modules::find(args.module.as_deref(), &own, module, &info.name),
        progress: &mut |progress| watch.happens(progress),
    };
    let ended = with_bar(
        || watch.look(),
        || sender::migrate(&shelf, &described, &about, &mut program, &mut way),
    );
    let ended = ended.map_err(|e| fail(e.to_string()))?;
    let (name, pid) = (show::clean(&info.name), info.pid);
    match ended {
        Ended::Moved(moved) => {
            match args.json {
                true => show::json_line(&report_json(&moved)),
                false => show::print(&report(&format!("{name} (process {pid})"), &args.to, &moved)),
            }
            Ok(())
        }
        Ended::Refused(findings) => Err(in_the_way(&doing, &findings)),
        Ended::Home(_) if !program.findings.is_empty() => Err(in_the_way(&doing, &program.findings)),
        Ended::Home(why) => Err(fail(format!("{}; it goes on here", show::clean(&why)))),
        Ended::InDoubt { attempt, why } => Err(Failure::new(
            STANDS_STILL,
            format!(
                "tell whether {name} has moved: {}; it stands still, and both machines have its whole state; `dunlin \
                 settle {attempt}` asks again",
                show::clean(&why)
            ),
        )),
        Ended::Standing { state, why } => Err(Failure::new(
            STANDS_STILL,
            format!("{doing}: {}; its state is in {}", show::clean(&why), show::path(&state)),
        )),
    }
}

/// Is the transfer that brought a program not yet so far that a crash would no longer bring it back?
fn is_arriving(shelf: &Shelf, pid: u32) -> std::io::Result<bool> {
    for (side, attempt) in shelf.list()? {
        // Looked at first: whatever still comes in is locked, for as long as that takes.
        let brought = || {
            shelf
                .read(side, attempt, RUNNING)
                .is_ok_and(|text| text.trim() == pid.to_string())
        };
        if side == Side::Out || !brought() {
            continue;
        }
        let Some(place) = shelf.find(side, attempt)? else {
            continue;
        };
        let brought = brought();
        let stage = place.record::<ReceiverRecord>()?.map(|r| r.stage);
        if brought && !matches!(stage, Some(ReceiverStage::Taken) | None) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn in_the_way(doing: &str, findings: &[Finding]) -> Failure {
    let things = match findings.len() {
        1 => "1 thing stands",
        n => &format!("{n} things stand"),
    };
    Failure::new(
        CANNOT_MOVE,
        format!(
            "{doing}: {things} in the way; it runs on here\n{}",
            list(findings).trim_end()
        ),
    )
}

/// The program's executable for an architecture: the one that was named, or one beside the running one, and so on.
fn executable(
    given: Option<&Path>,
    own: &Path,
    module: dunlin_format::module::ModuleHash,
    name: &str,
    arch: Arch,
) -> Result<PathBuf, String> {
    match given {
        Some(path) => find::executables::named(path, arch)
            .and_then(
                |(path, header)| match header.module == module && header.arch == arch && header.migratable {
                    true => Ok(path),
                    false => Err(format!("it is not the program's for {arch}")),
                },
            )
            .map_err(|why| format!("{}: {why}", show::path(path))),
        None => Search::for_snapshot(own)
            .for_reading()
            .find(module, name, arch)
            .map_err(|why| format!("there is no executable of it for {arch} at hand: {why}")),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The downtime: from the request to stop until the other machine says that it runs.
fn downtime(moved: &Moved) -> u64 {
    micros(moved.stop + moved.send.max(moved.sync) + moved.start)
}

fn report(what: &str, to: &str, moved: &Moved) -> String {
    let time = |t: Duration| show::micros(micros(t));
    let executable = match moved.executable_bytes {
        0 => "its executable was there".to_owned(),
        n => format!("its executable, {}", show::size(n)),
    };
    let there = match &moved.runs {
        Some((pid, log)) => format!("process {pid}, output in {}", show::clean(log)),
        None => "running".into(),
    };
    format!(
        "{what} has moved to {to}\n  \
         there      {there}\n  \
         sent       {}, {executable}\n\
         {}  \
         stood      {}: {} to stop and write its state, {} to send and check it ({} to keep it here), {} to go on\n",
        show::size(moved.state_bytes),
        precopy::report(&moved.rounds),
        show::micros(downtime(moved)),
        time(moved.stop),
        time(moved.send),
        time(moved.sync),
        time(moved.start),
        to = show::clean(to),
    )
}

fn report_json(moved: &Moved) -> serde_json::Value {
    json!({
        "event": "moved",
        "pid": moved.runs.as_ref().map(|(pid, _)| pid),
        "log": moved.runs.as_ref().map(|(_, log)| log),
        "arch": moved.arch,
        "executable_bytes": moved.executable_bytes,
        "state_bytes": moved.state_bytes,
        "rounds": precopy::report_json(&moved.rounds),
        "before_us": micros(moved.before),
        "stop_us": micros(moved.stop),
        "sync_us": micros(moved.sync),
        "send_us": micros(moved.send),
        "start_us": micros(moved.start),
        "downtime_us": downtime(moved),
    })
}
