//! `dunlin resume`: goes on from a snapshot, with the right executable for this machine.

use crate::failure::{Outcome, could_not, usage};
use crate::find::executables::{given, host};
use crate::find::search::Search;
use crate::find::snapshots;
use crate::options::HostOptions;
use crate::start::become_program;
use crate::{findings, show};
use clap::Args;
use dunlin_migrate::preflight::Needs;
use std::path::PathBuf;

/// Goes on from a snapshot
///
/// Without --exe, the executable is looked for beside FILE, in the current directory, on the PATH, and among those that
/// `dunlin run` has compiled; only one that was built from the very same module is taken, and only if nobody but you
/// and root can have put it there.
#[derive(Debug, Args)]
pub(crate) struct Resume {
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
    let exe = match &args.exe {
        Some(exe) => given(exe, module, host, &doing)?,
        None => Search::for_snapshot(&file).find(module, &name, host).map_err(|why| {
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
    Err(become_program(&exe, &options, &[], &doing))
}
