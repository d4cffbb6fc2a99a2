//! A directory of snapshots of one program, of which the last few are kept: where periodic checkpoints go.
//!
//! Files are named `0000000001.snap` and so on; the greatest number is the newest. Each is written aside, synced and
//! renamed, so that a name always means a whole file. Beside each lies the undo journal that leads back to it (`.undo`,
//! with `.seen` and `.keep/`; the runtime writes them), which is removed when no snapshot of its number or an earlier
//! one is kept. All but the first are incremental where that pays: they take pages and files from earlier ones
//! ([`crate::snapshot`], bases). `.lock` is held by the program that writes here.

mod ended;

pub use ended::{ENDED, has_ended};

use crate::snapshot::{Contents, Earlier, FirstOf, Snapshot, SnapshotError, SnapshotSink, Stored, WriteStats};
use crate::snapshot::{atomic_write, header_only, open_file};
use crate::transfer::{AtRest, Sink};
use dunlin_format::module::ModuleHash;
use ended::{Ended, MARKER};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many snapshots are kept unless something else is said.
pub const DEFAULT_KEEP: u32 = 3;

/// Name of the file whose lock the writer holds.
const LOCK: &str = ".lock";

/// The endings of the files and directories that belong to an undo journal.
const JOURNAL: [&str; 3] = [".undo", ".seen", ".keep"];

/// What an undo journal begins with.
pub const UNDO_MAGIC: [u8; 8] = *b"DUNLIN\0U";

/// How long the lock may be another's: a program that was killed may have left a process that is about to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Why a directory can't be used for snapshots.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be made or read.
    #[error("cannot use the directory {0}: {1}")]
    Directory(PathBuf, io::Error),
    /// Another program writes there.
    #[error("another process writes its snapshots to {0}: give each program a directory of its own")]
    InUse(PathBuf),
}

/// The directory, while this process alone writes there.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    keep: usize,
    // The lock ends with the last process that has it open: forked ones count.
    _lock: File,
}

/// A snapshot that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its file name.
    pub name: String,
    /// What is in it.
    pub stats: WriteStats,
    /// Number of the oldest of the newest usable snapshots that are kept, or 0 if there are fewer: to those before it,
    /// which are only needed for their pages, nobody goes back, so their undo journals are not needed.
    pub oldest: u64,
}

/// The file name of a snapshot by its number.
pub fn file_name(number: u64) -> String {
    format!("{number:010}.snap")
}

/// The number of a snapshot by its file name.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".snap")?;
    let plain = digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// The snapshots in a directory, newest first. None if there is no such directory.
pub fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Some(number) = path.file_name().and_then(|n| number(n.to_str()?)) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    found.reverse();
    Ok(found)
}

impl Store {
    /// Takes the directory, which is made (private to its owner) if its parent is there. What a killed writer has left
    /// is removed.
    pub fn open(directory: &Path, keep: u32) -> Result<Store, StoreError> {
        let failed = |e| StoreError::Directory(directory.to_owned(), e);
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(directory.join(LOCK)).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10))
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(directory.to_owned())),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
        }
        let store = Store {
            directory: directory.to_owned(),
            keep: keep.max(1) as usize,
            _lock: lock,
        };
        store.remove_leftovers();
        store.finish_clearing().map_err(failed)?;
        Ok(store)
    }

    /// Goes on with what [`Store::clear`] did not end.
    fn finish_clearing(&self) -> io::Result<()> {
        match Ended::read(&self.directory)? {
            None => return Ok(()),
            Some(Ended::Unnamed) => self.remove_journals()?,
            Some(Ended::Of(module)) => self.remove_all(module)?,
            Some(Ended::Nobody) => {}
        }
        self.unmark_ended()
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The number after the greatest that is there.
    pub fn next_number(&self) -> io::Result<u64> {
        Ok(list(&self.directory)?.first().map_or(1, |(n, _)| n.saturating_add(1)))
    }

    /// Writes a snapshot, then removes those that are not to be kept any longer. `base` is the name of an earlier one
    /// here, which was written or read whole by this program; pages that haven't changed since are taken from there. If
    /// it has become unusable, or without it, everything is written.
    pub fn write(&self, number: u64, base: Option<&str>, program: &AtRest<'_>) -> Result<Written, SnapshotError> {
        let name = file_name(number);
        let path = self.directory.join(&name);
        self.remove_leftovers();
        let write = |earlier: &Earlier, contents: &dyn Contents| {
            atomic_write(&path, |file| {
                let program = AtRest { contents, ..*program };
                let stats = SnapshotSink::incremental(&mut *file, earlier).take(&program)?;
                self.read_again(file)?;
                Ok(stats)
            })
        };
        let snapshot = base.and_then(|name| open_file(&self.directory.join(name)).ok().map(|s| (s, name)));
        let known = snapshot.and_then(|(snapshot, name)| Some((Earlier::of(&snapshot, name)?, snapshot)));
        let stats = match &known {
            None => write(&Earlier::default(), program.contents)?,
            Some((earlier, snapshot)) => {
                // What an earlier one has can't have changed since the state was taken.
                let places: [&dyn Contents; 2] = [&Stored::of(snapshot), program.contents];
                match write(earlier, &FirstOf(&places)) {
                    // It is damaged there.
                    Err(SnapshotError::Content { .. }) => write(&Earlier::default(), program.contents)?,
                    result => result?,
                }
            }
        };
        // Too many files are no reason to doubt the one that was written.
        let oldest = self.prune(program.state.module).unwrap_or(0);
        Ok(Written { name, stats, oldest })
    }

    /// Reads what a resumer reads first of a snapshot that was just written.
    fn read_again(&self, file: &File) -> Result<(), SnapshotError> {
        let file = file.try_clone().map_err(SnapshotError::io("read the snapshot"))?;
        let read = Snapshot::open(file).and_then(|mut s| s.attach_all(|name| File::open(self.directory.join(name))));
        read.map_err(|e| SnapshotError::Unusable(e.to_string()))
    }

    /// Removes what is not needed: neither one of the newest usable snapshots, nor a base of one of those.
    fn prune(&self, module: ModuleHash) -> io::Result<u64> {
        let mut needed = HashSet::new();
        let (mut usable, mut oldest) = (0, 0);
        for (number, path) in list(&self.directory)? {
            let name = file_name(number);
            if usable < self.keep
                && let Ok(snapshot) = open_file(&path)
                && snapshot.header().module == module
            {
                usable += 1;
                oldest = number;
                needed.insert(name);
                needed.extend(snapshot.bases().iter().map(|b| b.name.clone()));
            } else if usable == self.keep && !needed.contains(&name) && self.is_ours(&path, module) {
                fs::remove_file(&path)?;
            }
        }
        Ok(if usable == self.keep { oldest } else { 0 })
    }

    /// Removes every snapshot of this program, and what would take its files back: it has ended, and begins anew when
    /// it is started again. If this is interrupted, [`Store::open`] goes on with it.
    pub fn clear(&self, module: ModuleHash) -> io::Result<()> {
        // Of the copy that was writing when the program ended.
        self.remove_leftovers();
        self.mark_ended(module)?;
        self.remove_all(module)?;
        self.unmark_ended()
    }

    /// Removes the marker when what it stands for has been removed, also after a power cut.
    fn unmark_ended(&self) -> io::Result<()> {
        self.sync()?;
        match fs::remove_file(self.directory.join(MARKER)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Writes the directory itself to the disk: which names it has.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Notes, on the disk, that everything is to be removed, unless there is nothing that one could go on from or back
    /// with.
    fn mark_ended(&self, module: ModuleHash) -> io::Result<()> {
        let ended = self.directory.join(MARKER);
        let written = File::create(&ended).and_then(|mut file| {
            file.write_all(&module.0)?;
            file.sync_all()
        });
        let Err(e) = written else {
            return self.sync();
        };
        // A new name for what is there takes no room.
        let _ = fs::remove_file(&ended);
        let snapshots = list(&self.directory)?.into_iter();
        let healthy = |path: &PathBuf| open_file(path).is_ok_and(|snapshot| snapshot.header().module == module);
        let snapshot = snapshots.map(|(_, path)| path).find(healthy);
        let undo = |path: &PathBuf| path.extension().is_some_and(|e| e == "undo");
        let journal = || Ok::<_, io::Error>(self.journals()?.into_iter().map(|(_, path)| path).find(undo));
        match snapshot.map_or_else(journal, |path| Ok(Some(path)))? {
            Some(path) => fs::rename(path, ended).map_err(|_| e).and_then(|()| self.sync()),
            None => Ok(()),
        }
    }

    fn remove_all(&self, module: ModuleHash) -> io::Result<()> {
        for (_, path) in list(&self.directory)? {
            if self.is_ours(&path, module) {
                fs::remove_file(path)?;
            }
        }
        self.remove_journals()
    }

    /// Everything that belongs to undo journals: number and path, ascending.
    fn journals(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let digits = JOURNAL.iter().find_map(|ending| name.strip_suffix(ending));
            let digits = digits.filter(|d| d.len() >= 10 && d.bytes().all(|b| b.is_ascii_digit()));
            if let Some(number) = digits.and_then(|d| d.parse().ok()) {
                found.push((number, path));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes all undo journals.
    fn remove_journals(&self) -> io::Result<()> {
        for (_, path) in self.journals()? {
            match path.is_dir() {
                true => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
        }
        Ok(())
    }

    /// Is this a snapshot of this program, or too damaged to be anyone's?
    fn is_ours(&self, path: &Path, module: ModuleHash) -> bool {
        match File::open(path).map(|mut file| header_only(&mut file)) {
            Ok(Ok(header)) => header.module == module,
            Ok(Err(e)) => e.is_damage(),
            Err(_) => false,
        }
    }

    /// Removes files that were being written by processes that are gone.
    fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for path in entries.filter_map(|e| Some(e.ok()?.path())) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let writer = name.strip_prefix(".dunlin-").and_then(|n| n.strip_suffix(".tmp"));
            let Some((pid, _)) = writer.and_then(|w| w.split_once('-')) else {
                continue;
            };
            let numeric = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
            if numeric && !lives(pid) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Is there such a process? One that has died and that nobody has asked for its exit code yet is none.
fn lives(pid: &str) -> bool {
    let Ok(stat) = fs::read_to_string(Path::new("/proc").join(pid).join("stat")) else {
        return false;
    };
    // The state follows the name, which is in brackets and may hold anything (proc_pid_stat(5)).
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X' | 'x'))
}

/// The next snapshot of a directory, as a [`Sink`].
#[derive(Debug)]
pub struct Numbered<'a> {
    /// The directory.
    pub store: &'a Store,
    /// Its number.
    pub number: u64,
    /// As in [`Store::write`].
    pub base: Option<&'a str>,
}

impl Sink for Numbered<'_> {
    type Taken = Written;
    type Error = SnapshotError;

    fn take(&mut self, program: &AtRest<'_>) -> Result<Written, SnapshotError> {
        self.store.write(self.number, self.base, program)
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
