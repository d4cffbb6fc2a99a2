//! Writes a file so that its old or its new content is there whole, whatever happens.

use super::SnapshotError;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Creates or replaces the file at `path` by what `fill` writes.
///
/// `fill` gets a new file in the same directory (readable by its owner only: a snapshot holds a program's memory). When it
/// succeeds, that file is synced, takes the place of `path`, and the directory is synced; when anything fails, it is removed and
/// `path` is as before. A symbolic link at `path` is followed. Anything but a regular file there is refused.
pub fn atomic_write<T>(path: &Path, fill: impl FnOnce(&mut File) -> Result<T, SnapshotError>) -> Result<T, SnapshotError> {
    let path = target(path)?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let (mut file, temporary) = create_in(&directory)?;
    let failed = |doing: &str, path: &Path| SnapshotError::io(format!("{doing} {}", path.display()));
    let result = fill(&mut file).and_then(|done| {
        file.sync_all().map_err(failed("write to disk:", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("replace", &path))?;
        Ok(done)
    });
    if result.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        return result;
    }
    // Without this the new name may not survive a power cut, though the old file would.
    File::open(&directory)
        .and_then(|d| d.sync_all())
        .map_err(failed("write to disk:", &directory))?;
    result
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

/// A new file with a name that no one else uses.
fn create_in(directory: &Path) -> Result<(File, PathBuf), SnapshotError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = directory.join(format!(".dunlin-{}-{number}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            // Left behind by a crashed process of the same number.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(SnapshotError::io(format!("create {}", temporary.display()))(e)),
        }
    }
}
