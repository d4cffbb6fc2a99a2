//! `--checkpoint-on` and `--checkpoint-to`: a program that checkpoints itself when a signal arrives, and goes on from there when
//! it is started again.

use crate::options::Options;
use crate::resume::{self, ResumeError};
use crate::shared::Shared;
use crate::trap;
use dunlin_migrate::snapshot::Snapshot;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};

/// What the handler tells.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());

/// Makes the given signals ask for a checkpoint. Called on the thread that runs the program; all others block signals.
pub fn install(options: &Options, shared: &'static Shared) -> io::Result<()> {
    SHARED.store(std::ptr::from_ref(shared).cast_mut(), SeqCst);
    for signal in &options.checkpoint_on {
        // Blocking calls wait on the request as well, so restarting them is right.
        trap::handle(
            signal.number(),
            on_signal as *const () as usize,
            libc::SA_ONSTACK | libc::SA_RESTART,
        )?;
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

/// The snapshot a program is to go on from.
#[derive(Debug)]
pub struct Found {
    /// Its path.
    pub path: PathBuf,
    /// Its contents.
    pub snapshot: Snapshot<File>,
    /// It is the program's own `--checkpoint-to`, which goes away when the program has ended by itself.
    pub own: bool,
}

/// Finds the snapshot to go on from: `--resume`, or else `--checkpoint-to` if it exists.
pub fn find(options: &Options) -> Result<Option<Found>, (PathBuf, ResumeError)> {
    let found = |path: &Path, own| match resume::open(path) {
        Ok(snapshot) => Ok(Some(Found {
            path: path.to_owned(),
            snapshot,
            own,
        })),
        Err(ResumeError::Open(e)) if own && e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err((path.to_owned(), e)),
    };
    match (&options.resume, &options.checkpoint_to) {
        (Some(path), _) => found(path, false),
        (None, Some(path)) => found(path, true),
        (None, None) => Ok(None),
    }
}
