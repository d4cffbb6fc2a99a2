//! `dunlin resume`: goes on from a snapshot, with the right executable for this machine.

use crate::failure::{Failure, Outcome};
use crate::program::{self, Search};
use crate::runtime_args::{self, HostArgs};
use crate::{check, show, trust};
use clap::Args;
use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use dunlin_migrate::preflight::Needs;
use dunlin_migrate::snapshot::{Snapshot, SnapshotError, open_file};
use dunlin_migrate::store;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Goes on from a snapshot
///
/// Without --exe, the executable is looked for beside FILE, in the current directory, on the PATH, and among those that
/// `dunlin run` has compiled; only one that was built from the very same module is taken, and only if nobody but you
/// and root can have put it there.
#[derive(Debug, Args)]
pub struct Resume {
    /// The snapshot
    #[arg(required_unless_present = "latest")]
    file: Option<PathBuf>,
    /// Take the newest sound snapshot in a directory of --checkpoint-every
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    latest: Option<PathBuf>,
    /// The executable to go on with (NAME stands for this machine's NAME.ARCH)
    #[arg(long, value_name = "PROGRAM")]
    exe: Option<PathBuf>,
    #[command(flatten)]
    host: HostArgs,
}

/// Runs the verb. It returns only if the program could not go on.
pub fn run(args: &Resume) -> Outcome {
    let place = args.file.as_ref().or(args.latest.as_ref());
    let place = place.ok_or_else(|| Failure::usage("resume: give a snapshot, or --latest DIR"))?;
    let doing = format!("resume {}", show::path(place));
    let mut options = runtime_args::options(None, &args.host, &doing)?;
    let host = program::host(&doing)?;
    let (file, (snapshot, name)) = match &args.latest {
        Some(directory) => newest(directory, &doing)?,
        None => (place.clone(), open(place, &doing)?),
    };
    let module = snapshot.header().module;
    let exe = match &args.exe {
        Some(exe) => given(exe, module, host, &doing)?,
        None => Search::for_snapshot(&file).find(module, &name, host).map_err(|why| {
            let mut message = format!(
                "{doing}: no executable of it for {host}: {why}; name it with --exe, or build it with `dunlin build`"
            );
            // What else would be refused next.
            for finding in check::here(&options, None).obstacles(&Needs::of_snapshot(&snapshot)) {
                message += &format!("\n  {}; {}", show::clean(&finding.what), show::clean(&finding.fix));
            }
            Failure::new(message)
        })?,
    };
    // The executable has the last word: it also sees damage inside of the newest one's pages, and takes the one before.
    options.resume = args.file.clone();
    options.resume_latest = args.latest.clone();
    Err(program::become_program(&exe, &options, &[], &doing))
}

/// Opens a snapshot, and tells the name of the program whose it is.
pub fn open(file: &Path, doing: &str) -> Result<(Snapshot<File>, String), Failure> {
    trust::check_regular(file).map_err(|e| Failure::new(format!("{doing}: {e}")))?;
    let snapshot = open_file(file).map_err(|e| refused(&e, doing))?;
    let name = name(&snapshot);
    Ok((snapshot, name))
}

/// As [`open`], to look into only: bases that are not there are not missed.
pub fn open_loosely(file: &Path, doing: &str) -> Result<(Snapshot<File>, String), Failure> {
    let reader = trust::open(file).map_err(|e| Failure::new(format!("{doing}: {e}")))?;
    let mut snapshot = Snapshot::open(reader).map_err(|e| refused(&e, doing))?;
    for nth in 0..snapshot.bases().len() {
        let base = file.with_file_name(&snapshot.bases()[nth].name);
        if let Ok(reader) = trust::open(&base) {
            // What can't be attached is shown as missing.
            let _ = snapshot.attach(nth, reader);
        }
    }
    let name = name(&snapshot);
    Ok((snapshot, name))
}

fn refused(e: &SnapshotError, doing: &str) -> Failure {
    match e {
        SnapshotError::Io { source, .. } => Failure::new(format!("{doing}: {source}")),
        e => Failure::bad_snapshot(format!("{doing}: {e}")),
    }
}

/// The newest snapshot of a directory that can be opened.
fn newest(directory: &Path, doing: &str) -> Result<(PathBuf, (Snapshot<File>, String)), Failure> {
    if !directory.is_dir() {
        let why = match directory.exists() {
            true => "it is not a directory",
            false => "there is no such directory",
        };
        return Err(Failure::new(format!("{doing}: {why}")));
    }
    let found = store::list(directory).map_err(|e| Failure::new(format!("{doing}: {e}")))?;
    let mut last = Failure::new(format!("{doing}: there is no snapshot in it"));
    for (_, path) in found {
        // What is no file is no snapshot.
        if trust::check_regular(&path).is_err_and(|e| e.kind() == ErrorKind::InvalidInput) {
            continue;
        }
        match open_file(&path) {
            Ok(snapshot) => {
                let name = name(&snapshot);
                return Ok((path, (snapshot, name)));
            }
            Err(e) => {
                last = refused(&e, &format!("{doing}: {}", show::path(&path)));
                if !e.is_damage() {
                    break;
                }
            }
        }
    }
    Err(last)
}

/// The name of the program that a snapshot was taken of.
pub fn name<R>(snapshot: &Snapshot<R>) -> String {
    let argv0 = snapshot
        .state()
        .wasi
        .args
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    Path::new(argv0)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The executable the person names, if it is the snapshot's.
pub fn given(exe: &Path, module: ModuleHash, host: Arch, doing: &str) -> Result<PathBuf, Failure> {
    let (path, header) =
        program::named(exe, host).map_err(|why| Failure::new(format!("{doing} with {}: {why}", show::path(exe))))?;
    if header.module != module {
        return Err(Failure::bad_snapshot(format!(
            "{doing}: it is not a snapshot of {}: that program's module is {}, the snapshot's {}; name the program it was taken of",
            show::path(&path),
            short(header.module),
            short(module)
        )));
    }
    if !header.migratable {
        let why = "it was built with --no-migration, and can't go on from a snapshot; name one built without";
        return Err(Failure::new(format!("{doing} with {}: {why}", show::path(&path))));
    }
    // The person answers for whose it is, not for what it holds.
    program::verify(&path).map_err(|why| Failure::new(format!("{doing} with {}: {why}", show::path(&path))))?;
    Ok(path)
}

/// The first digits of a hash: enough for a person to tell two apart.
fn short(hash: ModuleHash) -> String {
    hash.to_string().chars().take(12).collect()
}
