//! `--checkpoint-on` and `--checkpoint-to`: a program that checkpoints itself when a signal arrives, and goes on from
//! there when it is started again. (With `--evacuate-to` it tries something else first: `evacuate.rs`.)

use crate::os::signals;
use crate::requests::inbox::Shared;
use dunlin_interface::options::Options;
use dunlin_migrate::store;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};

/// Where the handler notes the signal; null before [`install`].
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());

/// Makes the given signals ask for a checkpoint. Called on the thread that runs the program; all others block signals.
pub(crate) fn install(options: &Options, shared: &'static Shared) -> io::Result<()> {
    SHARED.store(std::ptr::from_ref(shared).cast_mut(), SeqCst);
    for signal in options.signals() {
        // Blocking calls wait on the request as well, so restarting them is right.
        signals::handle_and_go_on(signal.number(), on_signal)?;
    }
    Ok(())
}

extern "C" fn on_signal(_: i32) {
    let shared = SHARED.load(SeqCst);
    if !shared.is_null() {
        // SAFETY: `install` stored a reference that lives as long as the process.
        unsafe { &*shared }.signal();
    }
}

/// The snapshots that a program may go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// Their paths, best first. The next one counts if one is damaged.
    pub paths: Vec<PathBuf>,
    /// They are the program's own (`--checkpoint-to`), and go away when the program has ended by itself.
    pub own: bool,
}

/// Refuses what is there and no file: a named pipe would be waited for, perhaps for ever.
fn regular(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
        _ => Ok(()),
    }
}

/// Finds the snapshots to go on from: `--resume`, or `--resume-latest`, or else `--checkpoint-to` if there is
/// something.
pub(crate) fn find(options: &Options) -> io::Result<Option<Candidates>> {
    let one = |path: &Path, own| {
        let paths = vec![path.to_owned()];
        Ok(Some(Candidates { paths, own }))
    };
    let latest = |directory: &Path, own| {
        let paths: Vec<PathBuf> = store::list(directory)?.into_iter().map(|(_, path)| path).collect();
        match (paths.is_empty(), own) {
            (true, true) => Ok(None),
            (true, false) if !directory.exists() => {
                Err(io::Error::new(io::ErrorKind::NotFound, "there is no such directory"))
            }
            (true, false) => Err(io::Error::new(io::ErrorKind::NotFound, "there is no snapshot in it")),
            (false, own) => Ok(Some(Candidates { paths, own })),
        }
    };
    match (&options.resume, &options.resume_latest, &options.checkpoint_to) {
        (Some(path), _, _) => regular(path).and_then(|()| one(path, false)),
        (None, Some(directory), _) => latest(directory, false),
        (None, None, Some(directory)) if options.checkpoint_every.is_some() => latest(directory, true),
        (None, None, Some(path)) => match path.try_exists()? {
            true => regular(path).and_then(|()| one(path, true)),
            false => Ok(None),
        },
        (None, None, None) => Ok(None),
    }
}
