//! The file of `--checkpoint-to`: one program's alone while it runs, and one run's.
//!
//! Beside it lies `FILE.lock`, whose lock the program holds until it ends, so that two programs that are given the same
//! file (by an exported `DUNLIN_OPTS`, say) don't replace each other's snapshots. What is in the file when the program
//! goes on from somewhere else, or what someone else has put there since, is another run's, and is not replaced either.

use crate::os::files::open_lock;
use dunlin_interface::options::Options;
use dunlin_migrate::snapshot::SnapshotError;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long the lock may be another's: a program that was killed may take a moment to go.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a program can't have its file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnFileError {
    /// Another process has it.
    #[error(
        "--checkpoint-to {0}: another process that runs writes its snapshot there; give each program a file of its own"
    )]
    InUse(PathBuf),
    /// It holds a snapshot, and the program goes on from another one.
    #[error(
        "--checkpoint-to {0}: there is a snapshot of another run, which would be replaced; resume from it, remove it, or name another file"
    )]
    OtherRun(PathBuf),
    /// It can't be looked at, or the lock can't be taken.
    #[error("--checkpoint-to {0}: {1}")]
    Failed(PathBuf, io::Error),
}

/// The identity of the file under a name: a snapshot that is written anew is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// The identity of the file at a path; `None` if there is none.
    fn at(path: &Path) -> io::Result<Option<Identity>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Identity::of(&metadata))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The file of `--checkpoint-to`, while this process holds its lock.
#[derive(Debug)]
pub(crate) struct OwnFile {
    path: PathBuf,
    /// This run's snapshot as it was last seen.
    own: Mutex<Option<Identity>>,
    lock: PathBuf,
    held: File,
}

impl OwnFile {
    /// Takes the file that the options name, if they name one and the program is to run.
    pub(crate) fn take(options: &Options) -> Result<Option<OwnFile>, OwnFileError> {
        let Some(path) = options
            .checkpoint_to
            .as_ref()
            .filter(|_| options.checkpoint_every.is_none() && !options.check)
        else {
            return Ok(None);
        };
        let failed = |e| OwnFileError::Failed(path.clone(), e);
        let (lock, held) = lock(path)?;
        let own_file = OwnFile {
            path: path.clone(),
            own: Mutex::new(Identity::at(path).map_err(failed)?),
            lock,
            held,
        };
        let found = *own_file.own();
        let elsewhere = match (&options.resume, &options.resume_latest) {
            (Some(from), _) => Identity::at(from).ok().flatten() != found,
            (None, from) => from.is_some(),
        };
        match found.is_some() && elsewhere {
            true => Err(OwnFileError::OtherRun(path.clone())),
            false => Ok(Some(own_file)),
        }
    }

    fn own(&self) -> std::sync::MutexGuard<'_, Option<Identity>> {
        self.own.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes this run's snapshot, unless someone else has put a file there meanwhile.
    pub(crate) fn write<T, E: From<SnapshotError>>(&self, write: impl FnOnce(&Path) -> Result<T, E>) -> Result<T, E> {
        if !self.is_own() {
            let why = "another program has written it since; move that one away, or it will be lost";
            return Err(SnapshotError::io("replace the snapshot")(io::Error::other(why)).into());
        }
        let written = write(&self.path)?;
        *self.own() = Identity::at(&self.path).ok().flatten();
        Ok(written)
    }

    /// Tells whether there is nothing, or this run's own snapshot.
    fn is_own(&self) -> bool {
        match Identity::at(&self.path) {
            Ok(None) => true,
            Ok(found) => found == *self.own(),
            Err(_) => false,
        }
    }

    /// The program has written a snapshot elsewhere, on request: if that is this file after all, it is its own.
    pub(crate) fn written_to(&self, path: &Path) {
        if let (Ok(Some(there)), Ok(Some(here))) = (Identity::at(path), Identity::at(&self.path))
            && there == here
        {
            *self.own() = Some(here);
        }
    }

    /// The program has ended by itself: its snapshot goes, so that it begins anew when it is started again.
    pub(crate) fn remove(&self) {
        if self.is_own() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // While the lock is held: whoever waits for it finds that the file has gone, and makes another.
        if is_at(&self.held, &self.lock) {
            let _ = fs::remove_file(&self.lock);
        }
    }
}

/// Tells whether it is this very file that lies at the path.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |m: Metadata| (m.dev(), m.ino());
    let (held, there) = (file.metadata().map(place), fs::symlink_metadata(path).map(place));
    matches!((held, there), (Ok(held), Ok(there)) if held == there)
}

/// Takes the lock beside a file, however its directory is spelled.
fn lock(path: &Path) -> Result<(PathBuf, File), OwnFileError> {
    let failed = |e| OwnFileError::Failed(path.to_owned(), e);
    let mut name = path
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?
        .to_owned();
    name.push(".lock");
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // The program may not change its directory, but the name must still be right at its end.
    let lock = directory.canonicalize().map_err(failed)?.join(name);
    let begun = Instant::now();
    loop {
        let file = open_lock(&lock).map_err(failed)?;
        match file.try_lock() {
            // Its last holder may have removed it between the two steps.
            Ok(()) if is_at(&file, &lock) => return Ok((lock, file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10))
            }
            Err(TryLockError::WouldBlock) => return Err(OwnFileError::InUse(path.to_owned())),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(to: &Path) -> Options {
        Options {
            checkpoint_to: Some(to.to_owned()),
            ..Options::default()
        }
    }

    fn write(file: &OwnFile, text: &str) -> Result<(), SnapshotError> {
        file.write(|path| {
            // As snapshots are written: aside, then renamed.
            fs::write(path.with_extension("new"), text).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
            Ok(())
        })
    }

    #[test]
    fn a_file_is_one_programs_at_a_time_and_leaves_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.snap");
        let first = OwnFile::take(&options(&path)).unwrap().unwrap();
        let again = dir
            .path()
            .join("./../")
            .join(dir.path().file_name().unwrap())
            .join("s.snap");
        assert!(matches!(OwnFile::take(&options(&again)), Err(OwnFileError::InUse(_))));
        drop(first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(OwnFile::take(&options(&again)).is_ok());
    }

    #[test]
    fn only_this_runs_snapshot_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.snap");
        let own = OwnFile::take(&options(&path)).unwrap().unwrap();
        write(&own, "1").unwrap();
        write(&own, "2").unwrap();
        fs::remove_file(&path).unwrap();
        write(&own, "3").unwrap();
        fs::write(dir.path().join("x"), "another's").unwrap();
        fs::rename(dir.path().join("x"), &path).unwrap();
        let error = write(&own, "4").unwrap_err().to_string();
        assert!(error.contains("another program has written it"), "{error}");
        own.remove();
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
        own.written_to(&path);
        write(&own, "5").unwrap();
        own.remove();
        assert!(!path.exists());
    }

    #[test]
    fn going_on_from_elsewhere_does_not_replace_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (path, from) = (dir.path().join("s.snap"), dir.path().join("from.snap"));
        fs::write(&from, "from").unwrap();
        let resumed = |from: &Path| Options {
            resume: Some(from.to_owned()),
            ..options(&path)
        };
        assert!(OwnFile::take(&resumed(&from)).is_ok(), "there is nothing to replace");
        fs::write(&path, "another run's").unwrap();
        assert!(matches!(OwnFile::take(&resumed(&from)), Err(OwnFileError::OtherRun(_))));
        assert!(
            OwnFile::take(&resumed(&path)).is_ok(),
            "it is the one that is gone on from"
        );
        assert!(
            OwnFile::take(&options(&path)).is_ok(),
            "as is the one that is there without --resume"
        );
    }
}
