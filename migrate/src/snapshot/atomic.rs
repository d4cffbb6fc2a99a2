//! Writes a file so that its old or its new content is there whole, whatever happens.

use super::SnapshotError;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Creates or replaces the file at `path` by what `fill` writes.
///
/// `fill` gets a new file in the same directory (readable by its owner only: a snapshot holds a program's memory). When
/// it succeeds, that file is synced, takes the place of `path`, and the directory is synced; when anything fails, it is
/// removed and `path` is as before. A symbolic link at `path` is followed. Anything but a regular file there is
/// refused.
pub fn atomic_write<T>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<T, SnapshotError>,
) -> Result<T, SnapshotError> {
    let new = New::fill(path, fill, true)?;
    new.put(true)?;
    Ok(new.done)
}

/// Creates the file at `path`, where there is none, by what `fill` writes: whole, but not yet durable. Whoever hears of
/// it in `wanted` synchronises the file and its directory. If it isn't wanted, it is removed again.
pub fn create_unsynced<T>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<T, SnapshotError>,
    wanted: impl FnOnce(&T) -> bool,
) -> Result<T, SnapshotError> {
    let new = New::fill(path, fill, false)?;
    new.put(false)?;
    if wanted(&new.done) {
        return Ok(new.done);
    }
    fs::remove_file(&new.path).map_err(SnapshotError::io(format!("remove {}", new.path.display())))?;
    Err(SnapshotError::GivenUp)
}

/// As [`atomic_write`], but when the file is in its place, `wanted` has the last word: if nobody wants it, `path` is as
/// it was before and the error is [`SnapshotError::GivenUp`].
pub fn replace<T>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<T, SnapshotError>,
    wanted: impl FnOnce(&T) -> bool,
) -> Result<T, SnapshotError> {
    let new = New::fill(path, fill, true)?;
    let kept = match keep(&new.path, &new.directory) {
        Ok(kept) => kept,
        Err(e) => {
            let _ = fs::remove_file(&new.temporary);
            return Err(SnapshotError::io(format!("replace {}", new.path.display()))(e));
        }
    };
    let put = new.put(true);
    let result = match put {
        Ok(()) if wanted(&new.done) => Ok(()),
        Ok(()) => {
            let back = match &kept {
                Some(kept) => fs::rename(kept, &new.path),
                None => fs::remove_file(&new.path),
            };
            back.map_err(SnapshotError::io(format!("put back {}", new.path.display())))?;
            let _ = File::open(&new.directory).and_then(|d| d.sync_all());
            return Err(SnapshotError::GivenUp);
        }
        Err(e) => Err(e),
    };
    if let Some(kept) = kept {
        // What is left of the old one if this fails is removed with other leftovers.
        let _ = fs::remove_file(kept);
    }
    result.map(|()| new.done)
}

/// A file that was written, and isn't in its place yet.
struct New<T> {
    done: T,
    temporary: PathBuf,
    path: PathBuf,
    directory: PathBuf,
}

impl<T> New<T> {
    fn fill(
        path: &Path,
        fill: impl FnOnce(&mut File) -> Result<T, SnapshotError>,
        sync: bool,
    ) -> Result<New<T>, SnapshotError> {
        let path = target(path)?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let (mut file, temporary) = create_in(&directory)?;
        let failed = SnapshotError::io(format!("write to disk: {}", temporary.display()));
        let written = fill(&mut file).and_then(|done| match sync {
            true => file.sync_all().map_err(failed).map(|()| done),
            false => Ok(done),
        });
        match written {
            Ok(done) => Ok(New {
                done,
                temporary,
                path,
                directory,
            }),
            Err(e) => {
                // The first error is the one to tell.
                let _ = fs::remove_file(&temporary);
                Err(e)
            }
        }
    }

    fn put(&self, sync: bool) -> Result<(), SnapshotError> {
        let failed = |doing: &str, path: &Path| SnapshotError::io(format!("{doing} {}", path.display()));
        if let Err(e) = fs::rename(&self.temporary, &self.path) {
            let _ = fs::remove_file(&self.temporary);
            return Err(failed("replace", &self.path)(e));
        }
        if !sync {
            return Ok(());
        }
        // Without this the new name may not survive a power cut, though the old file would.
        File::open(&self.directory)
            .and_then(|d| d.sync_all())
            .map_err(failed("write to disk:", &self.directory))
    }
}

/// A second name for what is at `path`, if there is something.
fn keep(path: &Path, directory: &Path) -> io::Result<Option<PathBuf>> {
    loop {
        let kept = temporary(directory);
        match fs::hard_link(path, &kept) {
            Ok(()) => return Ok(Some(kept)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            // A file system without second names: a copy, then.
            Err(_) => match fs::copy(path, &kept) {
                Ok(_) => return Ok(Some(kept)),
                Err(e) => {
                    let _ = fs::remove_file(kept);
                    return Err(e);
                }
            },
        }
    }
}

/// A name that nothing else in this process gets.
fn temporary(directory: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    directory.join(format!(".dunlin-{}-{number}.tmp", std::process::id()))
}

/// Where the file really goes.
fn target(path: &Path) -> Result<PathBuf, SnapshotError> {
    let named = || SnapshotError::io(format!("write {}", path.display()));
    if path.file_name().is_none() {
        return Err(SnapshotError::NotAFile(path.to_owned()));
    }
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(SnapshotError::NotAFile(path.to_owned())),
        Ok(_) => fs::canonicalize(path).map_err(named()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(e) => Err(named()(e)),
    }
}

/// A new file with a name that no one else uses, to be written, and to be read again.
fn create_in(directory: &Path) -> Result<(File, PathBuf), SnapshotError> {
    loop {
        let temporary = temporary(directory);
        let mut options = OpenOptions::new();
        match options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
        {
            Ok(file) => return Ok((file, temporary)),
            // Left behind by a crashed process of the same number.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(SnapshotError::io(format!("create {}", temporary.display()))(e)),
        }
    }
}
