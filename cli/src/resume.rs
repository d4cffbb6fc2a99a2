//! `dunlin resume`: goes on from a snapshot, with the right executable for this machine.

use crate::failure::{Failure, Outcome};
use crate::program::{self, Search};
use crate::runtime_args::{self, HostArgs};
use clap::Args;
use dunlin_migrate::arch::Arch;
use dunlin_migrate::module::ModuleHash;
use dunlin_migrate::snapshot::{Snapshot, SnapshotError};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Goes on from a snapshot
///
/// Without --exe, the executable is looked for beside FILE, in the current directory and on the PATH; only one that was built from the
/// very same module is taken.
#[derive(Debug, Args)]
pub struct Resume {
    /// The snapshot
    file: PathBuf,
    /// The executable to go on with (NAME stands for this machine's NAME.ARCH)
    #[arg(long, value_name = "PROGRAM")]
    exe: Option<PathBuf>,
    #[command(flatten)]
    host: HostArgs,
}

/// Runs the verb. It returns only if the program could not go on.
pub fn run(args: &Resume) -> Outcome {
    let doing = format!("resume {}", args.file.display());
    let mut options = runtime_args::options(None, &args.host, &doing)?;
    let host = program::host(&doing)?;
    let (snapshot, name) = open(&args.file, &doing)?;
    let module = snapshot.header().module;
    let exe = match &args.exe {
        Some(exe) => given(exe, module, host, &doing)?,
        None => Search::for_snapshot(&args.file).find(module, &name, host).map_err(|why| {
            Failure::new(format!(
                "{doing}: no executable of it for {host}: {why}; name it with --exe, or build it with `dunlin build`"
            ))
        })?,
    };
    options.resume = Some(args.file.clone());
    Err(program::become_program(&exe, &options, &[], &doing))
}

/// Opens a snapshot, and tells the name of the program whose it is.
pub fn open(file: &Path, doing: &str) -> Result<(Snapshot<File>, String), Failure> {
    let reader = File::open(file).map_err(|e| Failure::new(format!("{doing}: {e}")))?;
    let snapshot = Snapshot::open(reader).map_err(|e| match e {
        SnapshotError::Io { .. } => Failure::new(format!("{doing}: {e}")),
        e => Failure::bad_snapshot(format!("{doing}: {e}")),
    })?;
    let argv0 = snapshot.state().wasi.args.first().map(String::as_str).unwrap_or_default();
    let name = Path::new(argv0)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok((snapshot, name))
}

/// The executable the person names, if it is the snapshot's.
fn given(exe: &Path, module: ModuleHash, host: Arch, doing: &str) -> Result<PathBuf, Failure> {
    let (path, header) = program::named(exe, host).map_err(|why| Failure::new(format!("{doing} with {}: {why}", exe.display())))?;
    if header.module != module {
        return Err(Failure::bad_snapshot(format!(
            "{doing}: it is not a snapshot of {}: that program's module is {}, the snapshot's {}; name the program it was taken of",
            path.display(),
            short(header.module),
            short(module)
        )));
    }
    if !header.migratable {
        let why = "it was built with --no-migration, and can't go on from a snapshot; name one built without";
        return Err(Failure::new(format!("{doing} with {}: {why}", path.display())));
    }
    Ok(path)
}

/// The first digits of a hash: enough for a person to tell two apart.
fn short(hash: ModuleHash) -> String {
    hash.to_string().chars().take(12).collect()
}
