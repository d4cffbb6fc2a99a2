//! `dunlin resume`: goes on from a snapshot, with the right executable for this machine.

use crate::failure::{Failure, Outcome, bad_snapshot, could_not, usage};
use crate::find::executables::{given, host};
use crate::find::search::Search;
use crate::find::snapshots;
use crate::make::compile::ToRun;
use crate::make::portable;
use crate::options::HostOptions;
use crate::start::become_program;
use crate::{findings, show};
use clap::Args;
use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use dunlin_migrate::preflight::Needs;
use std::path::{Path, PathBuf};

/// Goes on from a snapshot
///
/// Without --exe, the executable is looked for beside FILE, in the current directory, on the PATH, and among those that
/// `dunlin run` has compiled; only one that was built from the very same module is taken, and only if nobody but you
/// and root can have put it there. Where there is none, portable code (NAME.dunlin, NAME.pulley64) is looked for in the
/// same places, and interpreted.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The snapshot
    #[arg(required_unless_present = "latest")]
    file: Option<PathBuf>,
    /// Take the newest sound snapshot in a directory of --checkpoint-every
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    latest: Option<PathBuf>,
    /// The executable to go on with (NAME stands for this machine's NAME.ARCH), or NAME.dunlin
    #[arg(long, value_name = "PROGRAM")]
    exe: Option<PathBuf>,
    #[command(flatten)]
    options: HostOptions,
}

/// Runs the verb. It returns only if the program could not go on.
pub(crate) fn run(args: &Resume) -> Outcome {
    let place = args.file.as_ref().or(args.latest.as_ref());
    let place = place.ok_or_else(|| usage("resume: give a snapshot, or --latest DIR"))?;
    let doing = format!("resume {}", show::path(place));
    let mut options = args.options.checked(&doing)?;
    let host = host(&doing)?;
    let (file, (snapshot, name)) = match &args.latest {
        Some(directory) => snapshots::newest(directory, &doing)?,
        None => (place.clone(), snapshots::open(place, &doing)?),
    };
    let module = snapshot.header().module;
    let search = Search::for_snapshot(&file);
    let found = match &args.exe {
        Some(exe) if portable::is_portable(exe) => Ok(Found::portable(exe, module, &doing)?),
        Some(exe) => Ok(Found::Executable(given(exe, module, host, &doing)?)),
        None => search.find(module, &name, host).map(Found::Executable),
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => interpreted(&search, module, &name, host, &doing)?.ok_or_else(|| {
            let mut message = format!(
                "{doing}: no executable of it for {host}: {why}; name it with --exe, or build it with `dunlin build`"
            );
            // What else would be refused next.
            for finding in findings::here(&options, None).obstacles(&Needs::of_snapshot(&snapshot)) {
                message += &format!("\n  {}; {}", show::clean(&finding.what), show::clean(&finding.fix));
            }
            could_not(message)
        })?,
    };
    // The executable has the last word: it also sees damage inside of the newest one's pages, and takes the one before.
    options.resume = args.file.clone();
    options.resume_latest = args.latest.clone();
    Err(become_program(found.path(), &options, &[], &doing))
}

/// What goes on from the snapshot.
enum Found {
    Executable(PathBuf),
    /// Made of portable code for this run.
    Made(ToRun),
}

impl Found {
    fn path(&self) -> &Path {
        match self {
            Found::Executable(path) => path,
            Found::Made(made) => made.path(),
        }
    }

    /// A file of portable code that the person names, if it is the snapshot's.
    fn portable(file: &Path, module: ModuleHash, doing: &str) -> Result<Found, Failure> {
        let shown = show::path(file);
        let fail = |why: String| could_not(format!("{doing} with {shown}: {why}"));
        match portable::header(file) {
            Some(header) if header.module != module => Err(bad_snapshot(format!(
                "{doing}: it is not a snapshot of {shown}; name the program it was taken of"
            ))),
            Some(header) if !header.migratable => Err(fail(
                "it was built with --no-migration, and can't go on from a snapshot; name one built without".into(),
            )),
            _ => portable::to_run(file).map(Found::Made).map_err(fail),
        }
    }
}

/// Portable code for a snapshot for which there is no executable of this machine's own code; says so.
fn interpreted(
    search: &Search,
    module: ModuleHash,
    name: &str,
    host: Arch,
    doing: &str,
) -> Result<Option<Found>, Failure> {
    let say = |file: &Path| {
        let shown = show::path(file);
        show::complain(&format!(
            "dunlin {doing}: there is no executable of it for {host}; going on with {shown}, which is interpreted (slower)"
        ));
    };
    let executable = Arch::portable_host().and_then(|arch| search.find(module, name, arch).ok());
    if let Some(path) = executable {
        say(&path);
        return Ok(Some(Found::Executable(path)));
    }
    let Some(file) = search.find_portable(module, name, portable::header) else {
        return Ok(None);
    };
    say(&file);
    Found::portable(&file, module, doing).map(Some)
}
