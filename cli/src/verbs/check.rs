//! `dunlin check`: what stands in the way of a move, before anything is paused.

use crate::failure::{Failure, Outcome, could_not, usage};
use crate::find::executables::{given, host};
use crate::find::running::{find_patiently, module};
use crate::find::search::Search;
use crate::find::{self, snapshots, trust};
use crate::findings::{here, list, told};
use crate::options::HostOptions;
use crate::show;
use clap::Args;
use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use dunlin_interface::exit::CANNOT_MOVE;
use dunlin_interface::options::{OPTS_VARIABLE, Options};
use dunlin_migrate::control::{Reply, Request};
use dunlin_migrate::preflight::{Finding, Needs, Target};
use dunlin_migrate::snapshot::SnapshotError;
use serde_json::json;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tells all that stands in the way of moving a program, before anything is paused
///
/// WHAT is a running program (its process id, or its name), which is asked and runs on, or a snapshot, which is tried
/// on this machine with the options that `dunlin resume` would get. With --for, the question is whether it could go on
/// on another machine: its description comes from `dunlin check --describe` there (with the --dir and --max-memory that
/// will be given there). Exit code 3 if something stands in the way.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// A process id, a program's name, or a snapshot
    #[arg(value_name = "PID|FILE", required_unless_present = "describe")]
    what: Option<PathBuf>,
    /// The machine to go on on: a file with its description (- for standard input), or e.g.
    /// arch=aarch64,memory=1G,disk=8G,grants=/data
    #[arg(long = "for", value_name = "TARGET", conflicts_with = "describe")]
    target: Option<String>,
    /// Print this machine's own description, to be given to --for elsewhere
    #[arg(long, conflicts_with = "what")]
    describe: bool,
    /// The executable to go on with (NAME stands for this machine's NAME.ARCH)
    #[arg(long, value_name = "PROGRAM")]
    exe: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: HostOptions,
}

/// Runs the verb.
pub(crate) fn run(args: &Check) -> Outcome {
    let options = args.options.checked("check")?;
    if args.describe {
        show::json(&json!(here(&options, Some(Path::new(".")))));
        return Ok(());
    }
    let what = args.what.clone().unwrap_or_default();
    let doing = format!("check {}", show::path(&what));
    let target = args.target.as_deref().map(|t| read_target(t, &doing)).transpose()?;
    let findings = match is_snapshot(&what, &doing)? {
        true => of_file(args, &what, target.as_ref(), &options, &doing)?,
        false => of_running(&what.to_string_lossy(), target.as_ref(), &doing)?,
    };
    report(&findings, args.json, &doing)
}

/// Is a snapshot meant, rather than a running program?
fn is_snapshot(what: &Path, doing: &str) -> Result<bool, Failure> {
    let name = what.as_os_str().as_encoded_bytes();
    let by_name = name.contains(&b'/') || what.extension().is_some_and(|e| e == "snap");
    match trust::check_regular(what) {
        Ok(()) => Ok(true),
        // A program may be called like the directory it was built in.
        Err(e) if !by_name && (e.kind() == ErrorKind::NotFound || what.is_dir()) => Ok(false),
        Err(e) => Err(could_not(format!("{doing}: {e}"))),
    }
}

fn read_target(given: &str, doing: &str) -> Result<Target, Failure> {
    let fail = |why: String| usage(format!("{doing}: --for {}: {why}", show::clean(given)));
    let mut text = String::new();
    match given {
        "-" => {
            let read = std::io::stdin().take(1 << 20).read_to_string(&mut text);
            read.map_err(|e| fail(e.to_string()))?;
        }
        _ if Path::new(given).is_file() => {
            let read = trust::open(Path::new(given)).and_then(|file| file.take(1 << 20).read_to_string(&mut text));
            read.map_err(|e| fail(e.to_string()))?;
        }
        _ if given.contains(['=', '{']) => text = given.to_owned(),
        _ => {
            return Err(fail(
                "there is no such file; `dunlin check --describe` writes one".into(),
            ));
        }
    }
    Target::parse(&text).map_err(fail)
}

/// The architecture of a target, if it is said.
fn arch_of(target: &Target) -> Result<Option<Arch>, Finding> {
    let Some(name) = &target.arch else { return Ok(None) };
    let known = Arch::ALL.into_iter().find(|a| a.name() == name);
    known.map(Some).ok_or_else(|| {
        let what = format!("Dunlin doesn't build for {}", show::clean(name));
        Finding::new("executable", what, "use a machine of x86_64 or aarch64")
    })
}

/// What keeps a program from going on on another machine, as far as its description tells.
fn elsewhere(needs: &Needs, target: &Target, search: &Search, module: Option<ModuleHash>, name: &str) -> Vec<Finding> {
    let mut found = target.obstacles(needs);
    match (arch_of(target), module) {
        (Err(finding), _) => found.push(finding),
        (Ok(Some(arch)), Some(module)) => found.extend(
            search
                .find(module, name, arch)
                .err()
                .map(|why| no_executable(arch, &why)),
        ),
        _ => {}
    }
    found
}

fn no_executable(arch: Arch, why: &str) -> Finding {
    let fix = "build it with `dunlin build`, or name it with --exe";
    Finding::new(
        "executable",
        format!("there is no executable of it for {arch} at hand: {why}"),
        fix,
    )
}

fn of_running(who: &str, target: Option<&Target>, doing: &str) -> Result<Vec<Finding>, Failure> {
    let fail = |why: String| could_not(format!("{doing}: {why}"));
    let (socket, info) = find_patiently(who).map_err(fail)?;
    let checked = match find::ask(&socket.path, &Request::Check, None) {
        Ok(Reply::Checked(checked)) => checked,
        Ok(Reply::Failed { error, .. }) => return Err(fail(show::clean(&error))),
        Ok(_) => {
            return Err(fail(
                "it answered another question; is it of another version of Dunlin?".into(),
            ));
        }
        Err(e) => return Err(fail(format!("{e}; `dunlin ps` shows whether it still runs"))),
    };
    let mut findings = checked.findings;
    if let (Some(needs), Some(target)) = (checked.needs, target) {
        let exe = std::fs::read_link(format!("/proc/{}/exe", info.pid)).unwrap_or_default();
        let module = module(&info);
        findings.extend(elsewhere(
            &needs,
            target,
            &Search::for_snapshot(&exe).for_reading(),
            module,
            &info.name,
        ));
    }
    Ok(findings)
}

fn of_file(
    args: &Check,
    file: &Path,
    target: Option<&Target>,
    options: &Options,
    doing: &str,
) -> Result<Vec<Finding>, Failure> {
    let snapshot = match dunlin_migrate::snapshot::open_file(file) {
        Ok(snapshot) => snapshot,
        Err(SnapshotError::Io { source, .. }) => return Err(could_not(format!("{doing}: {source}"))),
        Err(e) => return Ok(vec![Finding::of_snapshot_error(&e)]),
    };
    let (module, name, needs) = (
        snapshot.header().module,
        snapshots::name(&snapshot),
        Needs::of_snapshot(&snapshot),
    );
    let mut search = Search::for_snapshot(file);
    if let Some(beside) = args.exe.as_ref().and_then(|exe| exe.parent()) {
        search.directories.insert(0, beside.to_owned());
    }
    if let Some(target) = target {
        let mut found = elsewhere(&needs, target, &search.for_reading(), Some(module), &name);
        if let Err(e) = snapshot.verify_pages() {
            found.push(Finding::of_snapshot_error(&e));
        }
        return Ok(found);
    }
    let host = host(doing)?;
    let exe = match &args.exe {
        Some(exe) => given(exe, module, host, doing).map_err(|failure| no_executable(host, &failure.message)),
        None => search
            .find(module, &name, host)
            .map_err(|why| no_executable(host, &why)),
    };
    match exe {
        // It knows best: everything is tried that would be done, short of running.
        Ok(exe) => try_on(&exe, file, options).map_err(|why| could_not(format!("{doing}: {why}"))),
        Err(finding) => {
            let mut found = vec![finding];
            found.extend(here(options, None).obstacles(&needs));
            Ok(found)
        }
    }
}

/// Lets an executable say what keeps it from going on from a snapshot.
fn try_on(exe: &Path, file: &Path, options: &Options) -> Result<Vec<Finding>, String> {
    let options = Options {
        resume: Some(file.to_owned()),
        check: true,
        ..options.clone()
    };
    let exe = exe.canonicalize().map_err(|e| e.to_string())?;
    let mut command = Command::new(exe);
    command
        .env(OPTS_VARIABLE, options.to_opts_string())
        .stdin(Stdio::null());
    let output = command.output().map_err(|e| e.to_string())?;
    told(&output)
}

fn report(findings: &[Finding], as_json: bool, doing: &str) -> Outcome {
    if as_json {
        show::json(&json!({ "can_move": findings.is_empty(), "findings": findings }));
    } else if findings.is_empty() {
        show::print("nothing stands in the way\n");
    } else {
        show::print(&list(findings));
    }
    match findings.len() {
        0 => Ok(()),
        n => Err(Failure {
            code: CANNOT_MOVE,
            message: format!(
                "move it ({doing}): {n} thing{} in the way",
                if n == 1 { " stands" } else { "s stand" }
            ),
        }),
    }
}
