//! Snapshots: opening one, and the newest of a directory.

use super::trust;
use crate::failure::{Failure, bad_snapshot, could_not};
use crate::show;
use dunlin_migrate::snapshot::{Snapshot, SnapshotError, open_file};
use dunlin_migrate::store;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Opens a snapshot and those that it takes pages from; also the name of its program.
pub(crate) fn open(file: &Path, doing: &str) -> Result<(Snapshot<File>, String), Failure> {
    trust::check_regular(file).map_err(|e| could_not(format!("{doing}: {e}")))?;
    let snapshot = open_file(file).map_err(|e| refused(&e, doing))?;
    let name = name(&snapshot);
    Ok((snapshot, name))
}

/// Opens a snapshot to look into it only: earlier ones that it takes pages from may be missing.
pub(crate) fn open_loosely(file: &Path, doing: &str) -> Result<(Snapshot<File>, String), Failure> {
    let reader = trust::open(file).map_err(|e| could_not(format!("{doing}: {e}")))?;
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
        SnapshotError::Io { source, .. } => could_not(format!("{doing}: {source}")),
        e => bad_snapshot(format!("{doing}: {e}")),
    }
}

/// The newest snapshot of a directory that can be opened, as [`open`] returns it. A directory whose program has ended
/// is refused: what is left there is about to be removed.
pub(crate) fn newest(directory: &Path, doing: &str) -> Result<(PathBuf, (Snapshot<File>, String)), Failure> {
    if !directory.is_dir() {
        let why = match directory.exists() {
            true => "it is not a directory",
            false => "there is no such directory",
        };
        return Err(could_not(format!("{doing}: {why}")));
    }
    let failed = |e: io::Error| could_not(format!("{doing}: {e}"));
    let has_ended = |module| store::has_ended(directory, module).map_err(failed);
    let ended = || could_not(format!("{doing}: {}", store::ENDED));
    let found = store::list(directory).map_err(failed)?;
    let mut last = could_not(format!("{doing}: there is no snapshot in it"));
    for (_, path) in found {
        // What is no file is no snapshot.
        if trust::check_regular(&path).is_err_and(|e| e.kind() == ErrorKind::InvalidInput) {
            continue;
        }
        match open_file(&path) {
            Ok(snapshot) => {
                if has_ended(Some(snapshot.header().module))? {
                    return Err(ended());
                }
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
    Err(if has_ended(None)? { ended() } else { last })
}

/// The name of the program that a snapshot was taken of.
pub(crate) fn name<R>(snapshot: &Snapshot<R>) -> String {
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
